"""How far an answer is read ahead of its caller, and what that much says: bounded, whatever a server sends."""

import http.client
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ._refusal import READ_LIMIT, UNAUTHORIZED, worth_reading

_PAGE_LIMIT = 1024 * 1024
_WINDOW_BITS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
"""What zlib calls the formats: gzip, zlib, and the bare deflate that some servers send for it."""
_MEMBERS = 16
"""Of gzip, beyond the first one: each costs a copy of what comes after it."""


def limit(status: int, headers: Mapping[str, str]) -> int:
    """How many bytes of the body may be read ahead, as sent; 0 where it is not worth reading."""
    if status == UNAUTHORIZED:
        return _PAGE_LIMIT  # read whole, it leaves the connection to AU10001 and to the repetition
    return READ_LIMIT if worth_reading(headers.get("content-type"), headers.get("content-length")) else 0


def bound(raw: Any) -> None:
    """Make the body of an answer of requests one that is read in pieces as small as they are asked for.

    Args:
        raw: urllib3's; where its body breaks off, that is an error from now on, with urllib3 1.26 too.
    """
    raw.enforce_content_length = True
    answer = getattr(raw, "_original_response", None)
    if isinstance(answer, http.client.HTTPResponse):  # in niquests' urllib3, to look at fp makes one
        file: Any = answer.fp
        pieces: Any = file and _Pieces(file)  # there is none where nothing is left to read
        answer.fp = pieces


def decompressed(body: bytes, encoding: str | None) -> bytes | None:
    """The body without its compression; None where that cannot be undone, or makes more than ``READ_LIMIT`` of it.

    Args:
        body: the whole body, as sent.
        encoding: the header Content-Encoding, or None.
    """
    content = unpacked(body, encoding, READ_LIMIT + 1)
    return content if content is body or (content is not None and len(content) <= READ_LIMIT) else None


def unpacked(body: bytes, encoding: str | None, most: int) -> bytes | None:
    """The beginning of the body without its compression; None where that cannot be undone.

    Args:
        body: the body, as sent.
        encoding: the header Content-Encoding, or None.
        most: bytes that are made of it.
    """
    encoding = (encoding or "identity").strip().lower()
    if encoding == "identity":
        return body
    # Several layers grow a millionfold and more, each of them before the next can be counted.
    for bits in _WINDOW_BITS.get(encoding, ()):
        with suppress(zlib.error):
            return _inflated(body, bits, most)
    return None


def _inflated(body: bytes, bits: int, most: int) -> bytes:
    """What it makes; of gzip, what its members make (RFC 1952, section 2.2), up to what is none."""
    member = zlib.decompressobj(bits)
    content = member.decompress(body, most)
    with suppress(zlib.error):
        for _ in range(_MEMBERS):
            if bits not in _WINDOW_BITS["gzip"] or not member.unused_data or len(content) >= most:
                break
            body, member = member.unused_data, zlib.decompressobj(bits)
            content += member.decompress(body, most - len(content))
    return content


class _Pieces:
    """What http.client reads an answer from; it takes a chunk of less than nothing for all that is ever sent."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, *size: int) -> bytes:
        if size and size[0] < 0:
            raise http.client.IncompleteRead(b"")
        content: bytes = self._file.read(*size)
        return content
