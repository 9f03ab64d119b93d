"""HTTP/1.1 (RFC 9112) as bytes in, requests out; no sockets. Stricter than most servers, on purpose."""

import re
from dataclasses import dataclass

MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
_MAX_CHUNK_LINE = 1024

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_NAME}) (/[\x21-\x22\x24-\x7e]*) HTTP/1\.([01])")  # no fragment in a target
_HEADER_LINE = re.compile(rf"({_NAME}):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_NEVER_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
_ONCE = frozenset({"host", "content-length", "transfer-encoding", "content-type", "authorization", "expect"})


class MalformedRequest(Exception):
    """What came in is not a request that can be answered; the connection ends with ``status``."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request.

    Attributes:
        method: as sent.
        path: the target up to the ``?``, as sent.
        query: what follows the ``?``, or None without one.
        headers: names in lower case; repeated ones joined by a comma.
        body: complete, chunks put together.
        keep_alive: whether the client wants to go on using the connection.
    """

    method: str
    path: str
    query: str | None
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    keep_alive: bool
    length: int | None  # None: chunked


class RequestParser:
    """Cuts one connection's byte stream into requests, however the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._head: _Head | None = None
        self._chunks = bytearray()
        self._in_trailer = False
        self._continue = False

    def feed(self, data: bytes) -> None:
        """Take in what the connection brought."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """The next complete request, or None as long as it is not all there.

        Raises:
            MalformedRequest: it never will be; the parser is of no further use.
        """
        if self._head is None:
            self._head = self._take_head()
            if self._head is None:
                return None
        head = self._head
        body = self._take_chunked() if head.length is None else self._take(head.length)
        if body is None:
            return None
        self._head = None
        self._continue = False
        path, mark, query = head.target.partition("?")
        return Request(head.method, path, query if mark else None, head.headers, body, head.keep_alive)

    def take_continue(self) -> bool:
        """Whether the client now waits for ``100 Continue`` before it sends the body; says so once."""
        wanted, self._continue = self._continue, False
        return wanted

    def _take(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _take_head(self) -> _Head | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        stop = len(buffer) if end < 0 else end + 2
        if stop > (MAX_HEAD if end >= 0 else MAX_HEAD + 1):  # the last line end may have come by half
            raise MalformedRequest(431, f"the head is larger than {MAX_HEAD} bytes")
        if end < 0:
            if _NEVER_IN_HEAD.search(buffer, max(0, self._scanned - 1)):  # it may never come to an end
                raise MalformedRequest(400, "a control character or a bare line end in the head")
            self._scanned = stop
            return None
        lines = buffer[:end].decode("latin-1").split("\r\n")
        del buffer[: end + 4]
        self._scanned = 0
        return self._read_head(lines)

    def _read_head(self, lines: list[str]) -> _Head:
        request_line = _REQUEST_LINE.fullmatch(lines[0])
        if request_line is None:
            raise MalformedRequest(400, "the request line is not METHOD /path HTTP/1.1")
        method, target, minor = request_line.groups()
        headers: dict[str, str] = {}
        for line in lines[1:]:
            header = _HEADER_LINE.fullmatch(line)
            if header is None:
                raise MalformedRequest(400, "a header line is not NAME: VALUE")
            name, value = header[1].lower(), header[2].rstrip(" \t")
            if name not in headers:
                headers[name] = value
            elif name in _ONCE:
                raise MalformedRequest(400, f"the header {name} is there twice")
            else:
                headers[name] += ", " + value
        if "host" not in headers:
            raise MalformedRequest(400, "the header host is missing")
        length = _body_length(headers)
        expectation = headers.get("expect")
        if expectation is not None and expectation.lower() != "100-continue":
            raise MalformedRequest(417, "the only expectation there is is 100-continue")
        self._continue = expectation is not None and length != 0
        keep_alive = minor == "1" and "close" not in headers.get("connection", "").lower()
        return _Head(method, target, headers, keep_alive, length)

    def _take_chunked(self) -> bytes | None:
        while not self._in_trailer:
            line_end = self._find_line_end()
            if line_end is None:
                return None
            line = _CHUNK_LINE.fullmatch(self._buffer, 0, line_end)
            if line is None:
                raise MalformedRequest(400, "a chunk does not begin with its size")
            size = int(line[1], 16)
            if len(self._chunks) + size > MAX_BODY:
                raise MalformedRequest(413, f"the body is larger than {MAX_BODY} bytes")
            after = line_end + 2
            if size == 0:
                del self._buffer[:after]
                self._in_trailer = True
            elif len(self._buffer) < after + size + 2:
                return None
            elif not self._buffer.startswith(b"\r\n", after + size):
                raise MalformedRequest(400, "a chunk is longer than its size")
            else:
                self._chunks += self._buffer[after : after + size]
                del self._buffer[: after + size + 2]
        return self._take_trailer()

    def _take_trailer(self) -> bytes | None:
        while (line_end := self._find_line_end()) is not None:
            line = self._buffer[:line_end].decode("latin-1")
            del self._buffer[: line_end + 2]
            if not line:
                body = bytes(self._chunks)
                self._chunks.clear()
                self._in_trailer = False
                return body
            if not _HEADER_LINE.fullmatch(line):
                raise MalformedRequest(400, "a trailer line is not NAME: VALUE")
        return None

    def _find_line_end(self) -> int | None:
        line_end = self._buffer.find(b"\r\n", 0, _MAX_CHUNK_LINE)
        if line_end >= 0:
            return line_end
        if len(self._buffer) >= _MAX_CHUNK_LINE:
            raise MalformedRequest(400, f"a line among the chunks is longer than {_MAX_CHUNK_LINE} bytes")
        return None


def _body_length(headers: dict[str, str]) -> int | None:
    """The body's length in bytes; None: it comes in chunks."""
    coding = headers.get("transfer-encoding")
    declared = headers.get("content-length")
    if coding is not None:
        if declared is not None:
            raise MalformedRequest(400, "Content-Length and Transfer-Encoding exclude each other")
        if coding.lower() != "chunked":
            raise MalformedRequest(501, "the only transfer coding there is is chunked")
        return None
    if declared is None:
        return 0
    if not (declared.isascii() and declared.isdecimal()):
        raise MalformedRequest(400, "Content-Length is not a number")
    if len(declared) > len(str(MAX_BODY)) or int(declared) > MAX_BODY:
        raise MalformedRequest(413, f"the body is larger than {MAX_BODY} bytes")
    return int(declared)
