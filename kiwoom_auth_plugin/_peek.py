"""Looking at the body of an httpx or httpx2 answer without taking it from whom it is for.

Only as much is read as a refusal can have; then the answer's stream is put together again, so that ``iter_raw``,
``iter_bytes`` and the like give what they would have given.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from . import _httpx
from ._ahead import decompressed, limit
from ._refusal import may_refuse


def look(response: Any) -> bytes | None:
    """The body of an answer that is worth reading, decompressed; None where it is not, or is too long."""
    if response.is_stream_consumed or response.is_closed:
        return _content(response)
    most = limit(response.status_code, response.headers)
    if not most or _is_asynchronous(response):
        return None
    stream, size = response.stream, 0
    chunks: list[bytes] = []
    iterator = iter(stream)
    try:
        for chunk in iterator:
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                response.stream = _RestoredStream(chunks, iterator, stream)
                return None
    except _REQUEST_ERRORS as error:
        error.request = response.request  # as httpx does it: its users look there
        raise
    stream.close()
    return _put_back(response, b"".join(chunks))


async def alook(response: Any) -> bytes | None:
    """Like ``look``, for an answer to an AsyncClient."""
    if response.is_stream_consumed or response.is_closed:
        return _content(response)
    most = limit(response.status_code, response.headers)
    if not most:
        return None
    stream, size = response.stream, 0
    chunks: list[bytes] = []
    iterator = aiter(stream)
    try:
        async for chunk in iterator:
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                response.stream = _AsyncRestoredStream(chunks, iterator, stream)
                return None
    except _REQUEST_ERRORS as error:
        error.request = response.request  # as above
        raise
    await stream.aclose()
    return _put_back(response, b"".join(chunks))


def drop(response: Any) -> None:
    """Leave out of the history what could not be told within bounds: httpx reads it whole before it repeats."""
    if not _is_asynchronous(response):
        response.stream.close()
        _put_back(response, b"")


async def adrop(response: Any) -> None:
    """Like ``drop``, for an answer to an AsyncClient."""
    await response.stream.aclose()
    _put_back(response, b"")


_REQUEST_ERRORS: tuple[Any, ...] = tuple(module.RequestError for module in _httpx.FAMILY)


def _is_asynchronous(response: Any) -> bool:
    """Whether it is an AsyncClient's, whose auth has called the synchronous flow: nothing of it can be read there."""
    return not hasattr(response.stream, "__iter__")


def _content(response: Any) -> bytes | None:
    """The body of an answer that somebody has read already, if it was kept, and may be a refusal."""
    try:
        content = bytes(response.content)
    except RuntimeError:  # ResponseNotRead: consumed as a stream
        return None
    if not may_refuse(response.status_code, content) or not limit(response.status_code, response.headers):
        return None
    return content


def _put_back(response: Any, body: bytes) -> bytes | None:
    """Make the body, read whole, the answer's stream again; return it decompressed, as far as that is bounded."""
    home: Any = _httpx.home_of(response)
    elapsed = getattr(response.stream, "elapsed", None)
    if elapsed is not None:
        response.elapsed = elapsed  # httpx2 reads it from the stream
    response.stream = home.ByteStream(body)
    return decompressed(body, response.headers.get("content-encoding"))


class _Restored:
    """What was read, and then the rest."""

    def __init__(self, chunks: list[bytes], rest: Any, stream: Any) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream

    @property
    def elapsed(self) -> Any:
        """Where httpx2 looks for the time that the answer took."""
        return getattr(self._stream, "elapsed", None)


class _RestoredStream(_Restored, _httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        yield from self._rest

    def close(self) -> None:
        self._rest.close()
        self._stream.close()


class _AsyncRestoredStream(_Restored, _httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        await self._rest.aclose()
        await self._stream.aclose()
