"""Streamed answers: nothing is read ahead of the caller, and refusals are seen all the same."""

import gzip
import json
import threading
from dataclasses import replace

import pytest
import requests
import requests.adapters

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import (
    BODY,
    HEADERS,
    PATIENCE,
    TR,
    called,
    every_client,
    every_httpx_client,
    in_time,
    pieces_of,
    plain_answer,
    raw_server,
    token_answer,
)

REFUSAL = recorded.INVALID_TOKEN.body
LARGE = json.dumps({"return_code": 0, "return_msg": "[8005:", "rows": ["x" * 99] * 500}).encode()
CHUNKED = "Transfer-Encoding: chunked"


def head(content_type, *headers):
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


class Gated:
    """An answer whose rest comes only when the caller has got its beginning."""

    def __init__(self, beginning, rest):
        self.beginning = beginning
        self.rest = rest
        self.opened = threading.Event()

    def __iter__(self):
        yield self.beginning
        self.opened.wait(PATIENCE)
        yield self.rest


def auth_for(url):
    return KiwoomBearerAuth("appkey", "secretkey", host=url, cache={})


def streamed_by_requests(gated, read, *before):
    """Call with ``stream=True``; what ``read`` finds after the gate was opened for the caller."""
    with raw_server([token_answer()], *before, gated) as (url, _got):
        try:
            response = in_time(lambda: requests.post(url + TR, data=BODY, auth=auth_for(url), stream=True))
            gated.opened.set()
            with response:
                return read(response)
        finally:
            gated.opened.set()


def streamed_by_httpx(kind, gated, how):
    """The same with the client's ``stream``; the pieces that the method ``how`` of the response gives."""
    with raw_server([token_answer()], gated) as (url, _got), kind(auth_for(url)) as client:
        try:
            return in_time(lambda: pieces_of(client, url, how, gated.opened.set))
        finally:
            gated.opened.set()


UNREAD = {
    "events": Gated(head("text/event-stream") + b"data: 1\n\n", b"data: 2\n\n"),
    "a download": Gated(head("application/octet-stream", "Content-Length: 8") + b"1234", b"5678"),
    "a page": Gated(head("text/html") + b"<htm", b"l>ab"),
    "a long page": Gated(head("text/html", f"Content-Length: {len(LARGE)}") + LARGE[:10], LARGE[10:]),
    "no type": Gated(head("x").replace(b"Content-Type: x\r\n", b"") + b"1", b"2"),
    "JSON lines": Gated(head("application/x-ndjson", CHUNKED) + chunk(b"{}\n"), chunk(b"{}\n") + chunk(b"")),
    "long JSON": Gated(head("application/json", f"Content-Length: {len(LARGE)}") + LARGE[:10], LARGE[10:]),
    "long chunked JSON": Gated(
        head("application/json", CHUNKED) + chunk(LARGE[:20_000]),
        chunk(LARGE[20_000:]) + chunk(b""),
    ),
}


def whole(gated):
    raw = (gated.beginning + gated.rest).partition(b"\r\n\r\n")[2]
    if b"chunked" not in gated.beginning:
        return raw
    content = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        content, raw = content + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
    return content


@pytest.fixture(params=UNREAD.values(), ids=UNREAD)
def gated(request):
    return Gated(request.param.beginning, request.param.rest)


def test_requests_with_stream_is_not_kept_waiting(gated):
    assert streamed_by_requests(gated, lambda response: response.content) == whole(gated)


def test_requests_with_stream_is_not_kept_waiting_for_what_a_repeated_call_brings(gated):
    before = [plain_answer(REFUSAL)], [token_answer("2")]
    assert streamed_by_requests(gated, lambda response: response.content, *before) == whole(gated)


def test_requests_with_stream_is_not_kept_waiting_for_chunked_json():
    gated = Gated(head("application/json", CHUNKED) + chunk(b"{"), chunk(b"}") + chunk(b""))
    assert streamed_by_requests(gated, lambda response: list(response.iter_content(1))) == [b"{", b"}"]


@every_httpx_client
@pytest.mark.parametrize("how", ["iter_raw", "iter_bytes"])
def test_httpx_with_stream_is_not_kept_waiting(open_client, gated, how):
    how = how.replace("iter", "aiter") if open_client.face.is_async else how
    assert b"".join(streamed_by_httpx(open_client, gated, how)) == whole(gated)


@every_httpx_client
def test_long_chunked_json_is_read_whole(open_client):
    answer = UNREAD["long chunked JSON"]
    with (
        raw_server([token_answer()], [answer.beginning, answer.rest]) as (url, _got),
        open_client(auth_for(url)) as client,
    ):
        response = client.post(url + TR)
    assert response.content == LARGE
    assert response.elapsed.total_seconds() > 0


def test_a_streamed_answer_that_stalls_is_an_error_of_requests():
    gated = Gated(head("application/json", "Content-Length: 100") + b"{", b"")
    with raw_server([token_answer()], gated) as (url, _got):
        with (
            pytest.raises(requests.RequestException),
            requests.post(url + TR, data=BODY, auth=auth_for(url), stream=True, timeout=0.5) as response,
        ):
            response.content  # noqa: B018 - reads it
        gated.opened.set()


# Refusals

REFUSALS = {
    "short JSON": Answer(200, REFUSAL, (("Content-Type", "application/json"),)),
    "no type": Answer(200, REFUSAL),
    "gzip": Answer(200, gzip.compress(REFUSAL), (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))),
    "401": recorded.UNAUTHORIZED,
}


@every_httpx_client
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_stream_of_httpx_is_repeated(open_client, refusal):
    with KiwoomEmulator(reissue="replace") as kiwoom:
        kiwoom.refuse_next(answer=refusal)
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        with open_client(auth) as client:
            pieces = pieces_of(client, kiwoom.url, "aiter_bytes" if client.is_async else "iter_bytes")
        assert json.loads(b"".join(pieces))["return_code"] == 0
        assert len(kiwoom.calls("ka10001")) == 2


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_stream_of_requests_is_repeated(refusal):
    with KiwoomEmulator(reissue="replace") as kiwoom:
        kiwoom.refuse_next(answer=refusal)
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        with requests.post(kiwoom.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response:
            assert called(response)
        assert len(kiwoom.calls("ka10001")) == 2


class Reading(requests.adapters.HTTPAdapter):
    """As one that writes down what has come."""

    def send(self, request, **options):
        response = super().send(request, **{**options, "stream": False})
        assert response.content
        return response


@pytest.mark.parametrize(("answer", "sent"), [(recorded.INVALID_TOKEN, 2), (recorded.ADDRESS_NOT_REGISTERED, 1)])
@pytest.mark.parametrize("status", [200, 401])
def test_a_streamed_answer_that_an_adapter_has_read_is_judged_by_what_it_read(status, answer, sent):
    with KiwoomEmulator(reissue="replace") as kiwoom, requests.Session() as session:
        session.mount("http://", Reading())
        kiwoom.refuse_next(answer=replace(answer, status=status))
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})
        with session.post(kiwoom.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response:
            assert called(response) is (sent == 2)
        assert len(kiwoom.calls("ka10001")) == sent
        assert kiwoom.issued == sent


@every_client
@pytest.mark.parametrize("cuts", [[0, 1, 40, 80], list(range(0, 120, 7))], ids=["few", "many"])
def test_a_refusal_in_chunks_is_repeated(open_client, cuts):
    chunks = [REFUSAL[start:end] for start, end in zip(cuts, [*cuts[1:], None], strict=True)]
    refused = [
        head("application/json", CHUNKED),
        *(chunk(part) for part in chunks if part),
        chunk(b""),
    ]
    with (
        raw_server([token_answer("1")], refused, [token_answer("2")], [plain_answer(b'{"return_code": 0}')]) as (
            url,
            got,
        ),
        open_client(auth_for(url)) as client,
    ):
        assert called(client.post(url + TR))
    assert b"Bearer 2" in got[-1]
