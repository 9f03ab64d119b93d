"""Answers reach the caller as they came: whole, undecoded where that is asked for, their connection given back."""

import asyncio
import gzip
import io
import json
import zlib

import pytest
import requests
import requests.adapters

from kiwoom_auth_plugin._peek import alook, look
from kiwoom_auth_plugin.testing import Answer, recorded

from .clients import (
    BODY,
    HEADERS,
    SYNC,
    TR,
    called,
    every_client,
    every_httpx_client,
    every_module,
    in_time,
    pieces_of,
)

LARGE = json.dumps({"return_code": 0, "return_msg": "[8005:", "rows": ["x" * 99] * 500}).encode()
SMALL = json.dumps({"return_code": 0, "return_msg": "정상적으로 처리되었습니다"}).encode()
JSON = ("Content-Type", "application/json")
GZIP = ("Content-Encoding", "gzip")

# httpx and httpcore leave generators of their own to the garbage collector, with or without an auth.
LEFT_TO_THE_COLLECTOR = pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")

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


# What somebody else has touched


@every_module
def test_an_answer_that_a_hook_of_the_user_has_consumed_is_judged_by_its_status(kiwoom_emulator, auth, module):
    def consume(response):
        if response.status_code == 401:
            list(response.iter_raw())

    auth.get_token()
    kiwoom_emulator.expire_tokens()
    kiwoom_emulator.refuse_next(answer=Answer.json({"return_code": 3}, 401))
    with module.Client(auth=auth, event_hooks={"response": [consume]}) as client:
        with pytest.raises(module.StreamConsumed):  # httpx reads it once more before it repeats
            client.post(kiwoom_emulator.url + TR, content=BODY, headers=HEADERS)
        assert called(client.post(kiwoom_emulator.url + TR, content=BODY, headers=HEADERS))
    assert kiwoom_emulator.issued == 2


@every_module
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_a_401_that_a_hook_of_the_user_has_read_is_judged_by_its_code(kiwoom_emulator, auth, module, kind):
    """This address is not registered: another token does not help."""
    token = auth.get_token()
    body = json.dumps({"return_code": 3, "return_msg": "[8050:지정단말기 인증에 실패했습니다]"}).encode()
    kiwoom_emulator.refuse_next(answer=Answer(401, body, (("Content-Type", kind),)))
    with module.Client(auth=auth, event_hooks={"response": [lambda response: response.read()]}) as client:
        assert client.post(kiwoom_emulator.url + TR, content=BODY, headers=HEADERS).status_code == 401
    assert auth.get_token() == token
    assert kiwoom_emulator.issued == 1


@every_module
def test_an_answer_that_a_hook_of_the_user_has_closed_is_not_looked_at(module):
    class Sync(module.SyncByteStream):
        def __iter__(self):
            raise AssertionError

    class Async(module.AsyncByteStream):
        def __aiter__(self):
            raise AssertionError

    response = module.Response(401, stream=Sync())
    response.close()
    assert look(response) is None
    response = module.Response(401, stream=Async())
    asyncio.run(response.aclose())
    assert asyncio.run(alook(response)) is None


@every_module
def test_an_answer_that_a_hook_of_the_user_has_read_is_judged_by_what_it_says(kiwoom_emulator, auth, module):
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    with module.Client(auth=auth, event_hooks={"response": [lambda response: response.read()]}) as client:
        assert called(client.post(kiwoom_emulator.url + TR, content=BODY, headers=HEADERS))
    assert kiwoom_emulator.issued == 2


class StandIn(requests.adapters.BaseAdapter):
    """As libraries for tests have it: an answer that came through no socket."""

    def send(self, request, **_options):
        response = requests.Response()
        response.status_code = 200
        response.headers.update({"Content-Type": "application/json", "Content-Length": str(len(SMALL))})
        response.raw = io.BytesIO(SMALL)
        response.request, response.url, response.connection = request, request.url, self
        return response

    def close(self):
        pass


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_came_through_no_socket_is_left_whole(auth, kiwoom_emulator, streamed):
    with requests.Session() as session:
        session.mount(kiwoom_emulator.url + TR, StandIn())
        assert session.post(kiwoom_emulator.url + TR, auth=auth, stream=streamed).content == SMALL


# Broken answers


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
            pytest.raises(requests.exceptions.ChunkedEncodingError),
            requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response,
        ):
            response.content  # noqa: B018 - reads it
    assert called(requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True))


def test_a_streamed_answer_that_cannot_be_decoded_is_the_callers(kiwoom_emulator, auth):
    kiwoom_emulator.refuse_next(answer=Answer(200, b"not gzip", (JSON, GZIP)))
    with requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response:
        assert response.raw.read() == b"not gzip"


def test_an_answer_to_head_may_tell_a_length_and_have_no_body(kiwoom_emulator, auth):
    for streamed in (False, True):
        kiwoom_emulator.refuse_next(answer=ENCODED["small"])
        with requests.head(kiwoom_emulator.url + TR, headers=HEADERS, auth=auth, stream=streamed) as response:
            assert response.headers["content-length"] == str(len(SMALL))
            assert response.raw.read(9) == b""
            assert response.content == b""


def test_a_streamed_answer_of_requests_is_told_as_it_is_without_the_auth(kiwoom_emulator, auth):
    def told(auth):
        kiwoom_emulator.refuse_next(answer=Answer(401, SMALL, (JSON, ("Set-Cookie", "a=b"), ("Date", "today"))))
        with requests.Session() as session:
            response = session.post(kiwoom_emulator.url + TR, data=b"once", headers=HEADERS, auth=auth, stream=True)
            raw = response.raw
            return raw.status, raw.version, raw.reason, dict(raw.headers), session.cookies.get_dict(), response.content

    assert told(auth) == told(None)
    assert told(auth)[4] == {"a": "b"}


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
