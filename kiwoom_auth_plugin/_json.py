"""JSON of servers that may be anybody's."""

import json
from typing import Any, NoReturn, cast


def json_object(body: bytes) -> dict[str, Any] | None:
    """The body as a JSON object (RFC 8259: no duplicate names, no NaN), or None where it is none."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode("cp949", "replace")
    try:
        value: object = json.loads(text, object_pairs_hook=_unique_names, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError
    return fields


def _no_constant(_name: str) -> NoReturn:
    raise ValueError
