"""What the plugin reads ahead of the caller is bounded, whatever the server sends, and nothing of it is lost."""

import contextlib
import functools
import gzip
import itertools
import json
import random
import socket
import threading
import tracemalloc
import zlib

import pytest
import requests
import urllib3

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._ahead import decompressed, unpacked
from kiwoom_auth_plugin._peek import look
from kiwoom_auth_plugin._refusal import READ_LIMIT
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import (
    BODY,
    HEADERS,
    SYNC,
    TR,
    _read_request,
    called,
    every_client,
    every_httpx_client,
    every_module,
    in_time,
    plain_answer,
    raw_server,
    token_answer,
)

MIB = 1024 * 1024
MOST = 6 * MIB
"""Of memory that an answer may take that nobody reads. What libraries and sockets buffer is in it."""
NEVER = 64
"""MiB after which an answer that never ends does end, for want of a reader that stops."""
DONE = b'{"return_code": 0}'
CHUNKED = "Transfer-Encoding: chunked"


def head(status, *headers):
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode()


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


@functools.cache
def compressed(size, bits=31, layers=1):
    """Zeros."""
    pieces = itertools.repeat(bytes(MIB), size // MIB)
    for _ in range(layers):
        packer = zlib.compressobj(9, zlib.DEFLATED, bits)
        pieces = [*map(packer.compress, pieces), packer.flush()]
    return b"".join(pieces)


def framed(status, body, *headers):
    return [head(status, f"Content-Length: {len(body)}", *headers) + body]


def bomb(name):
    """What to send. It takes seconds to pack, and is packed where it is sent."""
    status, layout, *headers = BOMBS[name]
    return framed(status, compressed(*layout), *headers)


def endless(beginning, piece):
    """The count of what was sent, and the pieces to send."""
    sent = [0]

    def pieces():
        yield beginning
        for _ in range(NEVER * MIB // len(piece)):
            yield piece
            sent[0] += len(piece)

    return sent, pieces()


JSON = "Content-Type: application/json"
PAGE = "Content-Type: text/html"
GZIP = "Content-Encoding: gzip"
BOMBS = {
    "two layers": ("200 OK", (512 * MIB, 31, 2), JSON, "Content-Encoding: gzip, gzip"),
    "two headers": ("200 OK", (512 * MIB, 31, 2), JSON, GZIP, "content-encoding: x-gzip"),
    "one layer": ("200 OK", (15 * MIB,), JSON, GZIP),
    "deflate": ("200 OK", (15 * MIB, 15), JSON, "Content-Encoding: deflate"),
    "bare deflate": ("200 OK", (15 * MIB, -15), JSON, "Content-Encoding: Deflate"),
    "401 of one layer": ("401 No", (128 * MIB,), PAGE, GZIP),
    "401 of two layers": ("401 No", (512 * MIB, 31, 2), PAGE, "Content-Encoding: gzip, gzip"),
}
piece = b"x" * 65_536
ENDLESS = {
    "401": (head("401 No", PAGE), piece),
    "401 in chunks": (head("401 No", JSON, CHUNKED), chunk(piece)),
    "JSON of both framings": (head("200 OK", JSON, "Content-Length: 10", CHUNKED), chunk(piece)),
    "JSON of both framings in small chunks": (head("200 OK", JSON, "Content-Length: 10", CHUNKED), chunk(b"{" * 999)),
}


def auth_for(url, **options):
    return KiwoomBearerAuth("appkey", "secretkey", host=url, cache={}, **options)


def opened(client, url, read=lambda _response: None, *, body=None):
    """The status of a streamed answer, and what ``read`` finds in it. The body is one that is not sent twice."""
    options = {"headers": HEADERS}
    body = client.streamed([BODY]) if body is None else body
    if client.library is requests:
        with client.native.post(url + TR, data=body, stream=True, timeout=20, **options) as response:
            return response.status_code, read(response)
    if not client.is_async:
        with client.native.stream("POST", url + TR, content=body, **options) as response:
            return response.status_code, read(response)

    async def stream():
        async with client.native.stream("POST", url + TR, content=body, **options) as response:
            found = read(response)
            return response.status_code, (await found if hasattr(found, "__await__") else found)

    return client.portal.call(stream)


@contextlib.contextmanager
def little_memory():
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < MOST


# httpx and httpcore leave generators of their own to the garbage collector, with or without an auth.
LEFT_TO_THE_COLLECTOR = pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")

# Nothing that a server sends fills the memory of a caller who does not read it


@every_client
@pytest.mark.parametrize("name", BOMBS)
def test_what_nobody_reads_is_not_decompressed(open_client, name):
    with (
        raw_server([token_answer()], bomb(name)) as (url, _got),
        open_client(auth_for(url)) as client,
        little_memory(),
    ):
        status, _ = in_time(lambda: opened(client, url))
    assert status == (401 if "401" in name else 200)


@LEFT_TO_THE_COLLECTOR
@every_client
@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_not_waited_for(open_client, name):
    sent, pieces = endless(*ENDLESS[name])
    with raw_server([token_answer()], pieces) as (url, _got), open_client(auth_for(url)) as client, little_memory():
        status, _ = in_time(lambda: opened(client, url))
    assert status == (401 if "401" in name else 200)
    assert sent[0] < NEVER * MIB / 2  # the sockets of a machine may hold some MiB


@LEFT_TO_THE_COLLECTOR
@every_client
def test_a_chunk_of_less_than_nothing_is_no_chunk(open_client):
    """http.client takes it for all that is ever sent."""
    sent, pieces = endless(head("401 No", PAGE, CHUNKED) + b"-1\r\n", piece)
    failure = requests.RequestException if open_client.library is requests else open_client.library.HTTPError
    with (
        raw_server([token_answer()], pieces) as (url, _got),
        open_client(auth_for(url)) as client,
        little_memory(),
        pytest.raises(failure),
    ):
        in_time(lambda: opened(client, url))
    assert sent[0] < NEVER * MIB / 2


@contextlib.contextmanager
def busy_server(*answers):
    """A ``raw_server`` that goes on with the next connection while an answer is under way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send(connection, answer):
            with connection, contextlib.suppress(OSError):
                _read_request(connection)  # whole: else what is left resets the connection
                for part in answer:
                    connection.sendall(part)

        def serve():
            for answer in answers:
                connection, _ = listener.accept()
                threading.Thread(target=send, args=(connection, answer), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@LEFT_TO_THE_COLLECTOR
@every_client
@pytest.mark.parametrize("name", [*ENDLESS][:2])
def test_a_page_that_never_ends_is_left_for_the_repetition(open_client, name):
    sent, pieces = endless(*ENDLESS[name])
    answers = [token_answer()], pieces, [token_answer("2")], [plain_answer(DONE)]
    with busy_server(*answers) as url, open_client(auth_for(url)) as client, little_memory():
        assert in_time(lambda: opened(client, url, body=BODY)) == (200, None)
    assert sent[0] < NEVER * MIB / 2


@every_client
@pytest.mark.parametrize("name", ["401 of one layer", "401 of two layers"])
def test_a_refusal_that_cannot_be_decompressed_is_repeated_without(open_client, name):
    answers = [token_answer()], bomb(name), [token_answer("2")], [plain_answer(DONE)]
    with busy_server(*answers) as url, open_client(auth_for(url)) as client, little_memory():
        assert in_time(lambda: opened(client, url, lambda response: response.history[0].status_code, body=BODY)) == (
            200,
            401,
        )


# Everything of a long answer is there

WORDS = random.Random(0)
TEXT = b"\n".join(b"%x" % WORDS.getrandbits(400) for _ in range(25_000))
TEXT_GZIP = gzip.compress(TEXT)
LONG_JSON = json.dumps(TEXT.decode().split(), indent=0).encode()
assert len(TEXT_GZIP) > MIB
LONG = {
    "401 of a length": (TEXT, framed("401 No", TEXT, PAGE)),
    "401 in chunks": (TEXT, [head("401 No", PAGE, CHUNKED), chunk(TEXT[:9]), chunk(TEXT[9:]), chunk(b"")]),
    "401 up to the end": (TEXT, [head("401 No", PAGE), TEXT]),
    "401 with gzip": (TEXT, framed("401 No", TEXT_GZIP, PAGE, GZIP)),
    "401 with gzip in chunks": (
        TEXT,
        [head("401 No", PAGE, CHUNKED, GZIP), chunk(TEXT_GZIP), chunk(b"")],
    ),
    "short JSON": (DONE, framed("200 OK", DONE, JSON)),
    "short 401 up to the end": (TEXT[:99], [head("401 No", PAGE), TEXT[:99]]),
    "JSON of both framings": (
        LONG_JSON,
        [
            head("200 OK", JSON, "Content-Length: 10", CHUNKED),
            chunk(LONG_JSON),
            chunk(b""),
        ],
    ),
}
UNDECODED = {name: TEXT_GZIP if "gzip" in name else text for name, (text, _answer) in LONG.items()}
every_long = pytest.mark.parametrize("name", LONG)


def read_1(response):
    return b"".join(iter(lambda: response.raw.read1(10_007, decode_content=True), b""))


DECODED_BY = {
    "content": lambda response: response.content,
    "text": lambda response: response.text.encode(),
    "iter_content": lambda response: b"".join(response.iter_content(10_007)),
    "iter_content as it comes": lambda response: b"".join(response.iter_content(None)),
    "iter_lines": lambda response: b"\n".join(response.iter_lines()),
    "raw.read": lambda response: response.raw.read(decode_content=True),
    "raw.read1": read_1,
    "raw.data": lambda response: (setattr(response.raw, "decode_content", True), response.raw.data)[1],
    "raw's lines": lambda response: b"".join(response.raw),
}
UNDECODED_BY = {
    "raw.read": lambda response: response.raw.read(decode_content=False),
    "raw.read of -1": lambda response: response.raw.read(-1, decode_content=False),
    "raw.read in parts": lambda response: b"".join(iter(lambda: response.raw.read(10_007, decode_content=False), b"")),
    "raw.read of a part": lambda response: response.raw.read(9) + response.raw.read(),
    "raw.stream": lambda response: b"".join(response.raw.stream(10_007, decode_content=False)),
}


def read_by_requests(name, read):
    with raw_server([token_answer()], LONG[name][1]) as (url, _got), SYNC[0](auth_for(url)) as client:
        return in_time(lambda: opened(client, url, read))


@every_long
@pytest.mark.parametrize("how", DECODED_BY)
def test_a_long_answer_of_requests_is_whole(name, how):
    if how == "raw.read1" and not hasattr(urllib3.HTTPResponse, "read1"):
        pytest.skip("urllib3 is too old")
    assert read_by_requests(name, DECODED_BY[how])[1] == LONG[name][0]


@every_long
@pytest.mark.parametrize("how", UNDECODED_BY)
def test_a_long_answer_of_requests_is_whole_undecoded(name, how):
    assert read_by_requests(name, UNDECODED_BY[how])[1] == UNDECODED[name]


@every_long
def test_a_long_answer_of_requests_is_closed_when_it_is_read(name):
    def closed(response):
        before = response.raw.closed
        return before, response.content and response.raw.closed

    assert read_by_requests(name, closed)[1] == (False, True)


@every_long
def test_a_part_of_a_long_answer_of_requests_has_the_length_that_was_asked_for(name):
    def lengths(response):
        return [len(response.raw.read(size, decode_content=False)) for size in (0, 10, 70_000, 1_200_000)]

    (*first, last), there = read_by_requests(name, lengths)[1], len(UNDECODED[name])
    if there > 100:
        assert first == [0, 10, 70_000]
    assert sum(first) + last == min(there, 1_270_010)


@pytest.mark.skipif(not hasattr(urllib3.HTTPResponse, "read1"), reason="urllib3 is too old")
@every_long
def test_a_piece_of_a_long_answer_of_requests_is_no_longer_than_was_asked_for(name):
    def lengths(response):
        raw = response.raw
        return [len(raw.read1(9, decode_content=False)), raw.read(70_000), len(raw.read1(9, decode_content=False))]

    first, _skipped, last = read_by_requests(name, lengths)[1]
    assert (first, last) == (9, 0 if len(UNDECODED[name]) < 70_000 else 9)


def test_long_json_of_requests_is_read():
    assert read_by_requests("JSON of both framings", lambda response: response.json())[1] == TEXT.decode().split()


@every_httpx_client
@every_long
@pytest.mark.parametrize("how", ["read", "iter_bytes", "iter_raw"])
def test_a_long_answer_of_httpx_is_whole(open_client, name, how):
    def read(response):
        found = getattr(response, f"a{how}" if open_client.face.is_async else how)()
        return joined(found) if hasattr(found, "__aiter__") else found if how == "read" else b"".join(found)

    async def joined(pieces):
        return b"".join([piece async for piece in pieces])

    with raw_server([token_answer()], LONG[name][1]) as (url, _got), open_client(auth_for(url)) as client:
        _status, content = in_time(lambda: opened(client, url, read))
    assert content == (UNDECODED if how == "iter_raw" else {name: LONG[name][0]})[name]


@pytest.mark.parametrize("name", ["401 of a length", "401 in chunks", "401 with gzip"])
def test_a_long_answer_of_requests_that_breaks_off_is_an_error(name):
    answer = b"".join(LONG[name][1])[:-50_000]
    with (
        raw_server([token_answer()], [answer]) as (url, _got),
        SYNC[0](auth_for(url)) as client,
        pytest.raises(requests.exceptions.ChunkedEncodingError),
    ):
        in_time(lambda: opened(client, url, lambda response: response.content))


# Its connection is given back

READS = {
    "unread": lambda _response: None,
    "begun": lambda response: next(response.iter_content(10)),
    "begun undecoded": lambda response: response.raw.read(10),
    "past what was read ahead": lambda response: response.raw.read(MIB + 10),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@every_long
def test_a_long_answer_of_requests_that_is_left_gives_its_connection_back(name, read):
    again = [[token_answer()]] if "401" in name else []  # a refusal of what cannot be sent again drops the token
    answers = [token_answer()], LONG[name][1], *again, [plain_answer(DONE)]
    with raw_server(*answers) as (url, _got), SYNC[0](auth_for(url), connections=1) as client:
        in_time(lambda: opened(client, url, read))
        assert called(in_time(lambda: client.post(url + TR)))


@pytest.mark.parametrize("how", ["content", "iter_content", "raw.read"])
def test_a_long_answer_of_requests_that_is_read_keeps_its_connection(how):
    with KiwoomEmulator() as kiwoom:
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        with SYNC[0](auth, connections=1) as client:
            for _ in range(3):
                kiwoom.refuse_next(answer=Answer(401, TEXT, (("Content-Type", "text/html"),)))
                assert in_time(lambda: opened(client, kiwoom.url, DECODED_BY[how])) == (401, TEXT)
        assert len({call.connection for call in kiwoom.calls("ka10001")}) == 1


# What is read ahead is judged

REFUSAL = recorded.INVALID_TOKEN.body
PACKED = {
    "gzip": gzip.compress(REFUSAL),
    "X-GZIP": gzip.compress(REFUSAL),
    "deflate": zlib.compress(REFUSAL),
    "Deflate": zlib.compress(REFUSAL, wbits=-15),
    "identity": REFUSAL,
}


@every_client
@pytest.mark.parametrize("encoding", PACKED)
def test_a_refused_stream_of_an_encoding_that_can_be_bounded_is_repeated(open_client, encoding):
    refusal = framed("200 OK", PACKED[encoding], JSON, f"Content-Encoding: {encoding}")
    answers = [token_answer()], refusal, [token_answer("2")], [plain_answer(DONE)]
    with raw_server(*answers) as (url, got), open_client(auth_for(url)) as client:
        assert in_time(lambda: opened(client, url, body=BODY)) == (200, None)
    assert b"Bearer 2" in got[-1]


@every_client
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, identity", "compress"])
def test_a_stream_of_another_encoding_is_judged_by_its_status(open_client, encoding):
    body = gzip.compress(gzip.compress(REFUSAL)) if encoding == "gzip, gzip" else gzip.compress(REFUSAL)
    answer = framed("200 OK", body, JSON, f"Content-Encoding: {encoding}")
    with raw_server([token_answer()], answer) as (url, got), open_client(auth_for(url)) as client:
        assert in_time(lambda: opened(client, url, body=BODY)) == (200, None)
        assert len(got) == 2


def padded(size):
    return REFUSAL[:-1] + b" " * (size - len(REFUSAL)) + REFUSAL[-1:]


@LEFT_TO_THE_COLLECTOR
@pytest.mark.parametrize(("size", "repeated"), [(READ_LIMIT, True), (READ_LIMIT + 1, False)])
@pytest.mark.parametrize("packed", [False, True])
@every_client
def test_a_refused_stream_is_repeated_up_to_16_kib_however_they_come(open_client, size, repeated, packed):
    if packed:
        refusal = framed("200 OK", gzip.compress(padded(size)), JSON, GZIP)
    else:
        refusal = [head("200 OK", JSON, "Content-Length: 10", CHUNKED), chunk(padded(size)), chunk(b"")]
    answers = [token_answer()], refusal, [token_answer("2")], [plain_answer(DONE)]
    with raw_server(*answers) as (url, got), open_client(auth_for(url)) as client:
        assert in_time(lambda: opened(client, url, body=BODY)) == (200, None)
        assert len(got) == (4 if repeated else 2)


@pytest.mark.parametrize("bits", [31, 15, -15])
def test_what_is_decompressed_has_up_to_16_kib(bits):
    encoding = "gzip" if bits == 31 else "deflate"
    assert decompressed(zlib.compress(bytes(READ_LIMIT), wbits=bits), encoding) == bytes(READ_LIMIT)
    assert decompressed(zlib.compress(bytes(READ_LIMIT + 1), wbits=bits), encoding) is None
    assert decompressed(compressed(MIB, bits), encoding) is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_empty_body_is_empty_whatever_its_encoding(encoding):
    assert decompressed(b"", encoding) == b""


def test_the_members_of_gzip_are_read_one_after_another_up_to_what_is_none():
    two = gzip.compress(b"one ") + gzip.compress(b"two")
    assert decompressed(two, "gzip") == b"one two"
    assert decompressed(two + b"and what is none", "gzip") == b"one two"
    assert decompressed(gzip.compress(b"") * 1000, "x-gzip") == b""
    assert decompressed(gzip.compress(bytes(READ_LIMIT)) + gzip.compress(b"x"), "gzip") is None
    assert decompressed(gzip.compress(bytes(READ_LIMIT)) + gzip.compress(b""), "gzip") == bytes(READ_LIMIT)
    assert decompressed(zlib.compress(b"one ") + zlib.compress(b"two"), "deflate") == b"one "


@pytest.mark.parametrize(
    ("most", "content"), [(9, "a" * 9), (10, "a" * 10), (15, "a" * 10 + "b" * 5), (30, "a" * 10 + "b" * 10)]
)
def test_no_more_is_made_of_the_members_of_gzip_than_is_asked_for(most, content):
    members = gzip.compress(b"a" * 10) + gzip.compress(b"b" * 10)
    assert unpacked(members, "gzip", most) == content.encode()


@every_module
def test_what_cannot_be_a_refusal_is_not_begun_to_be_read(module):
    """Its first byte may come in an hour."""

    class Untouched(module.SyncByteStream):
        def __iter__(self):
            raise AssertionError

    headers = {"content-type": "text/event-stream"}
    assert look(module.Response(200, headers=headers, stream=Untouched())) is None
