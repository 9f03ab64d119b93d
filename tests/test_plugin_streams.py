"""Streamed answers: nothing is read ahead of the caller, and nothing is taken from it."""

import contextlib
import gzip
import json
import threading
import zlib

import pytest
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import (
    BODY,
    HEADERS,
    PATIENCE,
    SYNC,
    TR,
    called,
    every_client,
    every_httpx_client,
    in_time,
    plain_answer,
    raw_server,
    token_answer,
)

REFUSAL = recorded.INVALID_TOKEN.body
LARGE = json.dumps({"return_code": 0, "return_msg": "[8005:", "rows": ["x" * 99] * 500}).encode()
CHUNKED = "Transfer-Encoding: chunked"
JSON = ("Content-Type", "application/json")
GZIP = ("Content-Encoding", "gzip")
SMALL = json.dumps({"return_code": 0, "return_msg": "정상적으로 처리되었습니다"}).encode()

# httpx and httpcore leave generators of their own to the garbage collector, with or without an auth.
LEFT_TO_THE_COLLECTOR = pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")


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


def streamed_by_requests(gated, read):
    """Call with ``stream=True``; what ``read`` finds after the gate was opened for the caller."""
    with raw_server([token_answer()], gated) as (url, _got):
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


def pieces_of(client, url, how, begun=lambda: None, limit=None):
    options = {"content": BODY, "headers": HEADERS}
    if not client.is_async:
        with client.native.stream("POST", url + TR, **options) as response:
            begun()
            return [piece for piece, _ in zip(getattr(response, how)(), range(limit or 10**9), strict=False)]

    async def read():
        pieces = []
        async with (
            client.native.stream("POST", url + TR, **options) as response,
            contextlib.aclosing(getattr(response, how)()) as coming,
        ):
            begun()
            async for piece in coming:
                pieces.append(piece)
                if len(pieces) == limit:
                    break
        return pieces

    return client.portal.call(read)


UNREAD = {
    "events": Gated(head("text/event-stream") + b"data: 1\n\n", b"data: 2\n\n"),
    "a download": Gated(head("application/octet-stream", "Content-Length: 8") + b"1234", b"5678"),
    "a page": Gated(head("text/html", "Content-Length: 8") + b"<htm", b"l>ab"),
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


def test_requests_with_stream_is_not_kept_waiting_for_chunked_json():
    gated = Gated(head("application/json", CHUNKED) + chunk(b"{"), chunk(b"}") + chunk(b""))
    assert streamed_by_requests(gated, lambda response: list(response.iter_content(1))) == [b"{", b"}"]


@every_httpx_client
@pytest.mark.parametrize("how", ["iter_raw", "iter_bytes"])
def test_httpx_with_stream_is_not_kept_waiting(open_client, gated, how):
    how = how.replace("iter", "aiter") if open_client.face.is_async else how
    assert b"".join(streamed_by_httpx(open_client, gated, how)) == whole(gated)


# Nothing is taken from the caller

ENCODED = {
    "small": Answer(200, SMALL, (JSON,)),
    "large": Answer(200, LARGE, (JSON,)),
    "gzip": Answer(200, gzip.compress(SMALL), (JSON, GZIP)),
    "large gzip": Answer(200, gzip.compress(LARGE), (JSON, GZIP)),
    "deflate": Answer(200, zlib.compress(SMALL), (JSON, ("Content-Encoding", "deflate"))),
    "empty": Answer(200, b"", (JSON,)),
    "401": Answer(401, recorded.ADDRESS_NOT_REGISTERED.body, (JSON,)),
    "401 gzip": Answer(401, gzip.compress(recorded.ADDRESS_NOT_REGISTERED.body), (JSON, GZIP)),
}
DECODED = {
    name: {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(
        dict(answer.headers).get("Content-Encoding"), bytes
    )(answer.body)
    for name, answer in ENCODED.items()
}
every_encoding = pytest.mark.parametrize("name", ENCODED)


@every_client
@every_encoding
def test_an_answer_is_read_whole(open_client, kiwoom_emulator, auth, name):
    kiwoom_emulator.refuse_next(answer=ENCODED[name])
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + TR)
    assert response.content == DECODED[name]
    assert response.elapsed.total_seconds() > 0


@every_httpx_client
@every_encoding
@pytest.mark.parametrize("how", ["iter_raw", "iter_bytes", "iter_text", "iter_lines"])
def test_a_streamed_answer_of_httpx_is_whole(open_client, kiwoom_emulator, auth, name, how):
    kiwoom_emulator.refuse_next(answer=ENCODED[name])
    with open_client(auth) as client:
        pieces = pieces_of(client, kiwoom_emulator.url, how.replace("iter", "aiter") if client.is_async else how)
    if how in {"iter_text", "iter_lines"}:
        assert "".join(pieces) == DECODED[name].decode()
    else:
        assert b"".join(pieces) == (ENCODED[name].body if how == "iter_raw" else DECODED[name])


READS = {
    "content": lambda response: response.content,
    "iter_content": lambda response: b"".join(response.iter_content(7)),
    "iter_lines": lambda response: b"".join(response.iter_lines()),
    "raw.read": lambda response: response.raw.read(),
    "raw.read decoded": lambda response: response.raw.read(decode_content=True),
    "raw.read in parts": lambda response: b"".join(iter(lambda: response.raw.read(7), b"")),
    "raw.stream": lambda response: b"".join(response.raw.stream(7)),
}


@every_encoding
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_streamed_answer_of_requests_is_what_it_is_without_the_auth(kiwoom_emulator, auth, name, read):
    def seen(auth):
        kiwoom_emulator.refuse_next(answer=ENCODED[name])
        with requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response:
            return read(response)

    assert seen(auth) == seen(None) in {ENCODED[name].body, DECODED[name]}


# Refusals

REFUSALS = {
    "short JSON": Answer(200, REFUSAL, (JSON,)),
    "no type": Answer(200, REFUSAL),
    "gzip": Answer(200, gzip.compress(REFUSAL), (JSON, GZIP)),
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
        raw_server([token_answer("1")], refused, [token_answer("2")], [plain_answer(SMALL)]) as (url, got),
        open_client(auth_for(url)) as client,
    ):
        assert called(client.post(url + TR))
    assert b"Bearer 2" in got[-1]


@LEFT_TO_THE_COLLECTOR
@every_client
def test_content_that_cannot_be_decoded_is_the_callers(open_client, kiwoom_emulator, auth):
    broken = Answer(200, b"not gzip", (JSON, GZIP))
    kiwoom_emulator.refuse_next(answer=broken)
    library = open_client.library
    error = requests.exceptions.ContentDecodingError if library is requests else library.DecodingError
    with open_client(auth) as client:
        with pytest.raises(error):
            client.post(kiwoom_emulator.url + TR)
        assert called(client.post(kiwoom_emulator.url + TR))


@every_client
def test_a_connection_that_is_lost_in_the_answer_is_the_librarys_error(open_client, kiwoom_emulator, auth):
    kiwoom_emulator.refuse_next(answer=Answer(200, SMALL, (JSON,), cut="body"))
    library = open_client.library
    with open_client(auth) as client:
        with pytest.raises(library.RequestException if library is requests else library.TransportError) as raised:
            client.post(kiwoom_emulator.url + TR)
        if library is not requests:
            assert str(raised.value.request.url) == kiwoom_emulator.url + TR
        assert called(client.post(kiwoom_emulator.url + TR))


def test_a_connection_that_is_lost_in_a_streamed_answer_is_an_error_of_requests(kiwoom_emulator, auth):
    for encoding in ((JSON,), (JSON, GZIP)):
        kiwoom_emulator.refuse_next(answer=Answer(200, SMALL, encoding, cut="body"))
        with (
            pytest.raises(requests.RequestException),
            requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response,
        ):
            response.content  # noqa: B018 - reads it
    assert called(requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True))


def test_an_answer_to_head_may_tell_a_length_and_have_no_body(kiwoom_emulator, auth):
    for streamed in (False, True):
        kiwoom_emulator.refuse_next(answer=ENCODED["small"])
        with requests.head(kiwoom_emulator.url + TR, headers=HEADERS, auth=auth, stream=streamed) as response:
            assert response.headers["content-length"] == str(len(SMALL))
            assert response.content == b""


# The connection goes back


@LEFT_TO_THE_COLLECTOR
@every_httpx_client
@pytest.mark.parametrize("name", ["small", "large", "gzip"])
def test_a_stream_that_is_left_early_gives_its_connection_back(open_client, kiwoom_emulator, auth, name):
    with open_client(auth, connections=1) as client:
        for _ in range(3):
            kiwoom_emulator.refuse_next(answer=ENCODED[name])
            how = "aiter_bytes" if client.is_async else "iter_bytes"
            assert len(in_time(lambda how=how: pieces_of(client, kiwoom_emulator.url, how, limit=1))) == 1
        assert called(in_time(lambda: client.post(kiwoom_emulator.url + TR)))


def test_a_stream_of_requests_that_is_left_early_gives_its_connection_back(kiwoom_emulator, auth):
    with SYNC[0](auth, connections=1) as client:
        for name in ("small", "large", "gzip"):
            kiwoom_emulator.refuse_next(answer=ENCODED[name])
            with in_time(lambda: client.post(kiwoom_emulator.url + TR, stream=True)) as response:
                assert next(response.iter_content(1)) == b"{"
        assert called(in_time(lambda: client.post(kiwoom_emulator.url + TR)))


@every_client
def test_connections_are_kept_alive_through_refusals(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        for _ in range(3):
            kiwoom_emulator.expire_tokens()
            assert called(client.post(kiwoom_emulator.url + TR))
    assert len({call.connection for call in kiwoom_emulator.calls("ka10001")}) == 1
