"""Looks for secrets in what was printed, logged, kept or sent, however they are written there."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import quote

LEAST = 12
"""Characters of a secret that are too many to be seen."""

_URLSAFE = bytes.maketrans(b"+/", b"-_")


def _base64(piece: bytes) -> Iterator[bytes]:
    """The characters that depend on the piece alone, wherever in a text it begins."""
    for before in range(3):
        digits = base64.b64encode(bytes(before) + piece)[-(-before * 8 // 6) : (before + len(piece)) * 8 // 6]
        yield from (digits, digits.translate(_URLSAFE))


def _json(piece: str) -> str:
    return json.dumps(piece)[1:-1]


FORMS: dict[str, Callable[[str], Iterator[bytes] | tuple[bytes, ...]]] = {
    "plain": lambda piece: (piece.encode(),),
    "JSON": lambda piece: (_json(piece).encode(), _json(_json(piece)).encode()),
    "escapes": lambda piece: ("".join(f"\\u{ord(c):04x}" for c in piece).encode(),),
    "repr": lambda piece: (_json(piece).replace('\\"', '"').encode(), _json(piece).replace("'", "\\'").encode()),
    "hex": lambda piece: (piece.encode().hex().encode(), piece.encode().hex().upper().encode()),
    "percent": lambda piece: (
        quote(piece, safe="").encode(),
        "".join(f"%{ord(c):02X}" for c in piece).encode(),
        "".join(f"%{ord(c):02x}" for c in piece).encode(),
    ),
    "base64": lambda piece: _base64(piece.encode()),
    # Without the last byte it is in the other order of bytes, too.
    "UTF-16": lambda piece: (piece.encode("utf-16-le")[:-1], repr(piece.encode("utf-16-le")[:-1])[2:-1].encode()),
}
"""How a text may be written, and written backwards."""


@cache
def _needles(secret: str, length: int, step: int) -> dict[bytes, str]:
    return {
        needle: f"{form}{direction}: {piece}"
        for direction, text in (("", secret), (" backwards", secret[::-1]))
        for start in range(0, max(1, len(text) - length + 1), step)
        for piece in [text[start : start + length]]
        for form, write in FORMS.items()
        for needle in write(piece)
    }


def traces(told: str | bytes, *secrets: str) -> list[str]:
    """Each piece of a secret that can be read in it, and how it is written; empty where there is none."""
    where = told.encode("utf-8", "surrogatepass") if isinstance(told, str) else told
    half = LEAST // 2  # whatever is long enough has one of these in it: they are fewer, and few texts have any
    suspected = [secret for secret in secrets if any(part in where for part in _needles(secret, half, half))]
    return [found for secret in suspected for needle, found in _needles(secret, LEAST, 1).items() if needle in where]


def without_header(told: str, *tokens: str) -> str:
    """The same without the Authorization headers that carry one of these, which may be seen; nothing else goes."""
    for token in tokens:
        told = re.sub(
            rf"""(authorization['"]?[:,] ?b?['"]?)Bearer {re.escape(token)}(?![\w-])""",
            r"\1…",
            told,
            flags=re.IGNORECASE,
        )
    return told
