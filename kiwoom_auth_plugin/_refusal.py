"""What an answer says about the token that its request carried: pure functions, no HTTP library."""

import re
from contextlib import suppress

from ._codes import numeric, official_code
from ._json import json_object

READ_LIMIT = 16 * 1024
"""Bytes up to which an answer can be a refusal: real ones have about a hundred."""

TOKEN_REFUSED = frozenset({8005, 8010, 8031, 8103})
SUCCESS = 0
UNREADABLE = -1
"""What stands for a code that may be meant for a yes (0.0, false): who knows whether an order was taken."""
HEADER_REFUSED = frozenset({1513, 1514, 1515, 1516})
UNAUTHORIZED = 401
"""An answer with this status is a refusal unless its body says otherwise: it is read to be told and to be replaced."""
_TRACE = re.compile(rb"8(?:0(?:05|10|31)|103)")
_CODE, _YES = b'"return_code"', (b":0", b": 0")
_END = 512
"""Bytes, the last of a body, where Kiwoom has the code and its message."""


def worth_reading(content_type: str | None, content_length: str | None) -> bool:
    """Whether the body has to be looked at to tell: it is JSON, or short and may be, whatever text it is said to be.

    Args:
        content_type: the header as sent, or None.
        content_length: the header as sent, or None (a chunked answer).
    """
    if content_length is None:
        return content_type is not None and _is_json(content_type)
    if content_type is not None and not (_is_json(content_type) or content_type.lower().startswith("text/")):
        return False
    return content_length.isdecimal() and len(content_length) < 10 and int(content_length) <= READ_LIMIT  # noqa: PLR2004 - digits


def _is_json(content_type: str) -> bool:
    """Whether it is one JSON text (RFC 8259), and not an endless sequence of them (ndjson, json-seq)."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in {"application/json", "text/json"} or media_type.endswith("+json")


def may_refuse(status: int, body: bytes) -> bool:
    """Whether a body is worth parsing: nearly all show at a glance that they are no refusal."""
    if status == UNAUTHORIZED:
        return True
    return len(body) <= READ_LIMIT and not _ends_well(body) and _TRACE.search(body) is not None


def _ends_well(body: bytes) -> bool:
    """Whether a JSON object has the code 0 towards its end, as Kiwoom's have it, so that nothing else has to be sought.

    After it there is but one closing brace, which is the object's own: the member is not of an object inside. Its name
    begins there, and has not an escaped quotation mark in it. Other numbers that begin with a 0 (0.0) are no code.
    """
    at = body.rfind(_CODE, -_END)
    return (
        at > 0 and body.startswith(_YES, at + len(_CODE)) and body.count(b"}", at) == 1 and body[at - 1 : at] != b"\\"
    )


def refuses_token(status: int, body: bytes | None) -> bool:
    """Whether the answer says that another token is needed (8005, 8010, 8031, 8103, or a bare 401).

    A code wins over the status: 401 with 8050 (this IP address is not registered) is no refusal of the token.

    Args:
        status: the HTTP status.
        body: the whole body, decompressed; None where it is not known.
    """
    if body is not None and not may_refuse(status, body):
        return False
    code = code_in(status, body)
    return code in TOKEN_REFUSED or (code is None and status == UNAUTHORIZED)


def refuses_header(status: int, body: bytes | None) -> bool:
    """Whether the answer says that the Authorization header was missing or not a bearer's (1513 to 1516, or 401)."""
    code = code_in(status, body)
    return code in HEADER_REFUSED or (code is None and status == UNAUTHORIZED)


def code_in(status: int, body: bytes | None) -> int | None:
    """The official code in the body of an answer; 0 where it says yes, None without one, and over ``READ_LIMIT``.

    ``UNREADABLE`` where there is a ``return_code`` that is none, but may be meant for 0. One that is none and no yes
    leaves it to the words of a 401 what it is about; at another status, it is no code of Kiwoom's.
    """
    if body is None or len(body) > READ_LIMIT:
        return None
    fields = json_object(body)
    if fields is None:
        return None
    return_code = fields.get("return_code")
    number = numeric(return_code)
    if number is None and return_code is not None:
        if _may_be_yes(return_code):
            return UNREADABLE
        return official_code(None, fields.get("return_msg")) if status == UNAUTHORIZED else None
    return SUCCESS if number == SUCCESS else official_code(return_code, fields.get("return_msg"))


def _may_be_yes(return_code: object) -> bool:
    with suppress(ValueError):
        return isinstance(return_code, (str, float, bool)) and float(return_code) == SUCCESS
    return False
