"""A token endpoint that sends without end, or what takes long to read: bounded in time, and in what is taken."""

import asyncio
import gzip
import itertools
import socket
import threading
import tracemalloc
import zlib
from contextlib import contextmanager, suppress

import httpx
import pytest
import requests

from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth, TokenEndpointUnreachable
from kiwoom_auth_plugin._answer import SIZE_LIMIT
from kiwoom_auth_plugin._au10002 import PATH as REVOKE
from kiwoom_auth_plugin._issuer import Issuer
from kiwoom_auth_plugin.testing import Answer, recorded

from .clients import in_time, plain_answer, raw_server, token_answer
from .crowd import PATIENCE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b"a" * (1 << 20)
MOST = 96 << 20
"""Bytes of memory that a server that sends without end may cost."""

FLOODS = {
    "a chunk extension": (CHUNKED + b"1;", MEGABYTE),
    "a trailer": (CHUNKED + b"0\r\nX: ", MEGABYTE),
    "trailers": (CHUNKED + b"0\r\n", b"X: aaaaaaaaaaaaaaaaaaaa\r\n" * 20_000),
    "chunks of a byte": (CHUNKED, b"1\r\na\r\n" * 100_000),
    "a chunk": (CHUNKED + b"7fffffff\r\n", MEGABYTE),
    "a chunk of less than nothing": (CHUNKED + b"-1\r\n", MEGABYTE),
    "a body": (HEAD + b"\r\n", MEGABYTE),
    "the status line": (b"HTTP/1.1 200 ", MEGABYTE),
    "a header": (HEAD + b"X: ", MEGABYTE),
    "headers": (HEAD, b"".join(b"X%d: a\r\n" % number for number in range(50_000))),
    "a folded header": (HEAD + b"X: a\r\n", b" a\r\n" * 100_000),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nX: a\r\n\r\n" * 20_000),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", MEGABYTE),
    "deflate that gives nothing": (
        HEAD + b"Content-Encoding: deflate\r\n\r\n\x78\x9c",
        b"\x00\x00\x00\xff\xff" * 200_000,
    ),
    "gzip that gives nothing": (HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"") * 20_000),
    "the name in gzip": (
        HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\x03",
        MEGABYTE,
    ),
}


@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.parametrize(("path", "what"), [*(("/oauth2/token", what) for what in FLOODS), (REVOKE, "a body")])
def test_what_is_sent_without_end_fills_no_memory(what, path, library):
    beginning, without_end = FLOODS[what]
    with raw_server(itertools.chain([beginning], itertools.repeat(without_end)), patience=1.0) as (host, _got):
        tracemalloc.start()
        with suppress(KiwoomAuthError):
            answer = in_time(lambda: Issuer(host, None).send(path, b"{}", 0.5, library))
            # Judged by length or status, or since it is no JSON, it is no token.
            assert len(answer.body) > 1 << 20 or answer.status != 200 or not answer.body
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST


@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.parametrize(("encoding", "bits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
def test_a_bomb_is_counted_before_it_is_decompressed(library, encoding, bits):
    """64 MiB in 64 KiB, which arrive at once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    packed = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(64)), packer.flush()])
    head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding.encode(), len(packed))
    with raw_server([head + packed]) as (host, _got):
        tracemalloc.start()
        answer = in_time(lambda: Issuer(host, None).send("/oauth2/token", b"{}", 10.0, library))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(answer.body) == SIZE_LIMIT + 1
    assert peak < 16 << 20


COOKIES = {
    "old cookies": b"Set-Cookie: a=b\r\n" + b"Set-Cookie2: " + b"a;" * 32_000 + b"\r\n",
    "lists": b"Set-Cookie: a=b\r\n" + b"Set-Cookie2: " + b"a," * 32_000 + b"\r\n",
    "dates": b"Set-Cookie: a=b; expires=" + b"1-" * 32_000 + b"\r\n",
}


@pytest.mark.parametrize("cookies", COOKIES.values(), ids=COOKIES)
@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_cookies_cost_no_time(cookies, ask):
    head, _, body = token_answer().partition(b"\r\n\r\n")
    with raw_server([head + b"\r\n" + cookies * 40 + b"\r\n" + body]) as (host, _got):
        auth = KiwoomBearerAuth("an-appkey", "a-secretkey", host=host, cache={}, timeout=2.0)
        if ask == "get_token":
            assert in_time(auth.get_token) == "a-token"
        else:
            with pytest.raises(KiwoomAuthError):  # its head is too long for httpx
                in_time(lambda: asyncio.run(auth.aget_token()))


# Connections that were there before


@contextmanager
def dripping():
    """A server that answers the first request of a connection well, and the second with a body that drips."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
                connection.recv(65536)
                connection.sendall(HEAD + b"Content-Length: 9000\r\n\r\n")
                while True:
                    connection.sendall(b" ")
                    ended.wait(0.05)

        ended = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(PATIENCE)


@pytest.mark.parametrize("kind", [requests.Session, httpx.Client])
def test_a_body_that_drips_over_an_open_connection_is_cut_off_too(kind):
    with dripping() as host, kind() as client:
        assert client.post(host).status_code == 200
        with pytest.raises(TokenEndpointUnreachable, match="it took too long"):
            in_time(lambda: Issuer(host, client).send("/oauth2/token", b"{}", 0.5, "requests"))


# One call, many hops


def test_a_call_is_repeated_once_whatever_its_redirects_are_answered(make_auth, kiwoom_emulator):
    kiwoom_emulator.reissue = "replace"
    auth = make_auth(cache={})
    auth.get_token()
    for hop in range(20):
        there = Answer.redirect(f"/api/dostk/hop{hop + 1}", 307)
        kiwoom_emulator.script(f"/api/dostk/hop{hop}", recorded.INVALID_TOKEN, there)
    kiwoom_emulator.clear_journal()
    answer = requests.post(
        f"{kiwoom_emulator.url}/api/dostk/hop0", headers={"api-id": "x"}, json={}, auth=auth, timeout=30
    )
    assert answer.json()["return_code"] == 3
    assert [call.path.rpartition("/")[2] for call in kiwoom_emulator.journal] == ["hop0", "token", "hop0", "hop1"]


def test_after_a_repetition_the_token_still_stays_at_its_origin(make_auth, kiwoom_emulator):
    kiwoom_emulator.reissue = "replace"
    auth = make_auth(cache={})
    https = kiwoom_emulator.url.replace("http:", "https:")
    seen = []

    class Watching(requests.Session):
        def rebuild_auth(self, prepared_request, response):
            super().rebuild_auth(prepared_request, response)
            seen.append((prepared_request.url.partition(":")[0], "Authorization" in prepared_request.headers))

    kiwoom_emulator.script("/api/dostk/one", recorded.INVALID_TOKEN, Answer.redirect("/api/dostk/two", 307))
    kiwoom_emulator.script("/api/dostk/two", Answer.redirect(f"{https}/api/dostk/three", 307))
    url = f"{kiwoom_emulator.url}/api/dostk/one"
    with Watching() as session, pytest.raises(requests.ConnectionError):
        session.post(url, headers={"api-id": "x"}, json={}, auth=auth, timeout=30)
    assert seen[0] == ("http", True)
    assert set(seen[1:]) == {("https", False)}


def test_redirects_do_not_make_a_server_that_refuses_look_as_if_it_did_not(make_auth, kiwoom_emulator, clock):
    """Each replacement is answered with a redirect to what refuses it: that is no sign that it serves."""
    kiwoom_emulator.reissue = "replace"
    auth = make_auth(clock=clock)
    auth.get_token()
    there = Answer.redirect("/api/dostk/refusing", 307)
    kiwoom_emulator.script("/api/dostk/one", *[recorded.INVALID_TOKEN, there] * 30)
    kiwoom_emulator.script("/api/dostk/refusing", *[recorded.INVALID_TOKEN] * 30)
    for _ in range(20):
        url = f"{kiwoom_emulator.url}/api/dostk/one"
        requests.post(url, headers={"api-id": "x"}, json={}, auth=auth, timeout=30)
    assert kiwoom_emulator.issued <= 5


def test_a_prepared_request_that_is_sent_again_is_repeated_again(make_auth, kiwoom_emulator):
    kiwoom_emulator.reissue = "replace"
    auth = make_auth(cache={})
    url = f"{kiwoom_emulator.url}/api/dostk/one"
    kiwoom_emulator.script("/api/dostk/one", recorded.INVALID_TOKEN, Answer.redirect("/api/dostk/two", 307))
    with requests.Session() as session:
        prepared = session.prepare_request(requests.Request("POST", url, headers={"api-id": "x"}, json={}, auth=auth))
        copy = prepared.copy()
        assert session.send(prepared, timeout=30).json()["return_code"] == 0
        for again in (prepared, copy):
            kiwoom_emulator.refuse_next()
            answer = session.send(again, timeout=30)
            assert answer.json()["return_code"] == 0
            assert len(answer.history) == 1


@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_redirect_without_end_fills_no_memory(status, library):
    head = f"HTTP/1.1 {status} There\r\nLocation: http://[\r\n\r\n".encode()
    with raw_server(itertools.chain([head], itertools.repeat(MEGABYTE)), patience=1.0) as (host, _got):
        tracemalloc.start()
        answer = in_time(lambda: Issuer(host, None).send("/oauth2/token", b"{}", 1.0, library))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert answer.status == status
    assert peak < MOST


def test_a_signed_request_that_is_sent_elsewhere_by_hand_is_the_callers_whatever_comes(make_auth, kiwoom_emulator):
    auth = make_auth(cache={})
    prepared = auth(requests.Request("POST", f"{kiwoom_emulator.url}/api/dostk/one", json={}).prepare())
    with (
        raw_server([plain_answer(b'{"return_code":3,"return_msg":"[8005:x]"}')]) as (host, _got),
        requests.Session() as session,
    ):
        prepared.url = f"{host}/api/dostk/one"
        del prepared.headers["Authorization"]
        assert session.send(prepared, timeout=30).json()["return_code"] == 3
    assert kiwoom_emulator.issued == 1


def test_a_redirect_back_from_elsewhere_is_not_judged(make_auth, kiwoom_emulator):
    auth = make_auth(cache={})
    home = f"{kiwoom_emulator.url}/api/dostk/two"
    with raw_server([plain_answer(b"", "307 Back", f"Location: {home}")]) as (host, _got):
        kiwoom_emulator.script("/api/dostk/one", Answer.redirect(f"{host}/there", 307))
        answer = requests.post(
            f"{kiwoom_emulator.url}/api/dostk/one", headers={"api-id": "x"}, json={}, auth=auth, timeout=30
        )
    assert "1513" in answer.text
    assert kiwoom_emulator.issued == 1


def test_a_request_whose_header_was_taken_away_is_not_repeated(make_auth, kiwoom_emulator):
    auth = make_auth(cache={})
    url = f"{kiwoom_emulator.url}/api/dostk/one"
    prepared = auth(requests.Request("POST", url, headers={"api-id": "x"}, json={}).prepare())
    del prepared.headers["Authorization"]
    with requests.Session() as session:
        assert "1513" in session.send(prepared, timeout=30).text
    assert len(kiwoom_emulator.calls("x")) == 1
