"""Looking at the body of an httpx or httpx2 answer without taking it from whom it is for.

Only as much is read as a refusal can have; then the answer's stream is put together again, so that ``iter_raw``,
``iter_bytes`` and the like give what they would have given.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from . import _httpx
from ._refusal import READ_LIMIT, worth_reading


def look(response: Any) -> bytes | None:
    """The body of an answer that is worth reading, decompressed; None where it is not, or is too long."""
    if not _worth_reading(response):
        return None
    if response.is_stream_consumed or response.is_closed:
        return _content(response)
    stream, size = response.stream, 0
    chunks: list[bytes] = []
    iterator = iter(stream)
    try:
        for chunk in iterator:
            chunks.append(chunk)
            size += len(chunk)
            if size > READ_LIMIT:
                response.stream = _RestoredStream(chunks, iterator, stream)
                return None
    except _REQUEST_ERRORS as error:
        error.request = response.request  # as httpx does it: its users look there
        raise
    stream.close()
    return _put_back(response, b"".join(chunks))


async def alook(response: Any) -> bytes | None:
    """Like ``look``, for an answer to an AsyncClient."""
    if not _worth_reading(response):
        return None
    if response.is_stream_consumed or response.is_closed:
        return _content(response)
    stream, size = response.stream, 0
    chunks: list[bytes] = []
    iterator = aiter(stream)
    try:
        async for chunk in iterator:
            chunks.append(chunk)
            size += len(chunk)
            if size > READ_LIMIT:
                response.stream = _AsyncRestoredStream(chunks, iterator, stream)
                return None
    except _REQUEST_ERRORS as error:
        error.request = response.request  # as above
        raise
    await stream.aclose()
    return _put_back(response, b"".join(chunks))


_REQUEST_ERRORS: tuple[Any, ...] = tuple(module.RequestError for module in _httpx.FAMILY)


def _worth_reading(response: Any) -> bool:
    headers = response.headers
    return worth_reading(headers.get("content-type"), headers.get("content-length"))


def _content(response: Any) -> bytes | None:
    """The body of an answer that somebody has read already, if it was kept."""
    try:
        return bytes(response.content)
    except RuntimeError:  # ResponseNotRead: consumed as a stream
        return None


def _put_back(response: Any, body: bytes) -> bytes | None:
    """Make the body, read whole, the answer's stream again; return it decompressed."""
    home: Any = _httpx.home_of(response)
    response.stream = home.ByteStream(body)
    if "content-encoding" not in response.headers:
        return body
    try:
        return bytes(home.Response(response.status_code, headers=response.headers, content=body).content)
    except home.DecodingError:
        return None  # whoever reads the answer will be told


class _RestoredStream(_httpx.SyncByteStream):
    """What was read, and then the rest."""

    def __init__(self, chunks: list[bytes], rest: Generator[bytes], stream: Any) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        yield from self._rest

    def close(self) -> None:
        self._rest.close()
        self._stream.close()


class _AsyncRestoredStream(_httpx.AsyncByteStream):
    """What was read, and then the rest."""

    def __init__(self, chunks: list[bytes], rest: AsyncGenerator[bytes], stream: Any) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        await self._rest.aclose()
        await self._stream.aclose()
