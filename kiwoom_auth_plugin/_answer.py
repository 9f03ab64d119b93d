"""An answer of Kiwoom's token endpoints, taken apart, and the error that it is if it says no."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, NoReturn

from ._codes import OFFICIAL_CODES, Kind, numeric, official_code
from ._json import json_object
from .errors import (
    AddressRejected,
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
)

SIZE_LIMIT = 1024 * 1024
"""Bytes that an answer may have, decompressed."""

_TOO_MANY_REQUESTS = 429
_QUOTED_LIMIT = 300
_LOOKED_AT = 8192
_LONG_WORD = re.compile(r"[\x21-\x7e]{16,}")
_UNKNOWN = "This package does not know that answer: look it up at https://openapi.kiwoom.com."
_CLASSES = {
    Kind.CREDENTIALS: CredentialsRejected,
    Kind.ADDRESS: AddressRejected,
    Kind.RATE: IssueLimitExceeded,
}


class Answer(NamedTuple):
    """An HTTP answer without its library: status, headers with lower-case names, the whole body decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.body)} bytes)"

    @property
    def date(self) -> float | None:
        """The server's clock (``Date``) in seconds since the epoch; None where it is missing or unreadable."""
        return _http_date(self.headers.get("date"))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait (``Retry-After``, in either form); None where it does not."""
        value = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,9}", value):
            return float(value)
        moment = _http_date(value)
        if moment is None:
            return None
        return max(0.0, moment - (self.date or datetime.now(UTC).timestamp()))


def _http_date(value: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(value or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


class Context(NamedTuple):
    """What an error has to name, and what it must not: which call, to which origin, with which secrets."""

    call: str
    host: str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Context(call={self.call!r}, host={self.host!r})"


def success(answer: Answer, context: Context) -> dict[str, Any]:
    """The JSON object of an answer that says yes.

    Raises:
        KiwoomAuthError: it says no (HTTP 200 with a ``return_code`` is Kiwoom's normal way to), or is none.
    """
    fields = json_object(answer.body) if len(answer.body) <= SIZE_LIMIT else None
    if fields is None:
        _raise_unreadable(answer, context)
    return_code, return_msg = fields.get("return_code"), fields.get("return_msg")
    code = official_code(return_code, return_msg)
    if code is not None or answer.status == _TOO_MANY_REQUESTS or numeric(return_code) not in {None, 0}:
        raise _refusal(answer, context, code, return_code, return_msg)
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - the successful statuses
        _raise_unreadable(answer, context, "its status is none of success")
    if return_code is not None and numeric(return_code) is None:
        raise invalid(answer, context, "its return_code is not a number")
    return fields


def invalid(answer: Answer, context: Context, why: str, *, retryable: bool = False) -> InvalidTokenResponse:
    """The error for an answer that cannot be what the call gives; for the server's own errors it is retryable."""
    server_fault = answer.status >= 500  # noqa: PLR2004 - the server's errors
    advice = "Try again later." if server_fault else "If it lasts, look for a proxy in between or for maintenance."
    return InvalidTokenResponse(
        f"{context.host}: the answer to {context.call} (HTTP {answer.status}) is not usable: {why}. {advice}",
        status_code=answer.status,
        host=context.host,
        retryable=server_fault or retryable,
        retry_after=answer.retry_after,
    )


def _raise_unreadable(answer: Answer, context: Context, why: str = "it is not the JSON object expected") -> NoReturn:
    if answer.status == _TOO_MANY_REQUESTS:
        raise _refusal(answer, context, None, None, None)
    if 300 <= answer.status < 400:  # noqa: PLR2004 - the redirects
        raise invalid(
            answer, context, "it is a redirect, which is never followed (Kiwoom is seen to do so at weekends)"
        )
    if len(answer.body) > SIZE_LIMIT:
        raise invalid(answer, context, f"it has more than {SIZE_LIMIT} bytes")
    raise invalid(answer, context, why)


def _refusal(
    answer: Answer, context: Context, code: int | None, return_code: object, return_msg: object
) -> KiwoomAuthError:
    official = OFFICIAL_CODES.get(code or 0)
    kind = Kind.RATE if answer.status == _TOO_MANY_REQUESTS else official and official.kind
    words = quoted(return_msg, context.secrets)
    number = numeric(return_code)
    shown_code = f"code {code}" if code is not None else f"return_code {number}" if number is not None else "no code"
    advice = official.advice if official else OFFICIAL_CODES[1700].advice if kind is Kind.RATE else _UNKNOWN
    message = f"{context.host}: {context.call} was refused (HTTP {answer.status}, {shown_code})"
    message += f": {words}" if words else ""
    fields: dict[str, Any] = {
        "code": code,
        "return_code": number if number is not None else quoted(return_code, context.secrets),
        "return_msg": words,
        "status_code": answer.status,
        "host": context.host,
        "retry_after": answer.retry_after,
    }
    message = f"{message}. {advice}"
    if code == 8010:  # noqa: PLR2004 - said of a token by a call, of this address by AU10001
        return AddressRejected(message, **fields)
    if kind is Kind.RATE:
        return IssueLimitExceeded(message, **fields)
    if kind in _CLASSES:
        return _CLASSES[kind](message, **fields)
    return KiwoomAuthError(message, retryable=answer.status >= 500 or kind is Kind.SERVER, **fields)  # noqa: PLR2004 - as above


def quoted(text: object, secrets: Iterable[str] = ()) -> str | None:
    """A text of the server's, fit for a message or a log: no secret, no control character, not endless.

    What may be a key or a token, this one's or another's, in whatever spelling, is a long word without a space.

    Args:
        text: what the server said.
        secrets: what it must not repeat, however short.
    """
    if not isinstance(text, str):
        return None
    for secret in secrets:
        text = text.replace(secret, "…")
    text = "".join(c if c.isprintable() else " " for c in text[:_LOOKED_AT])
    return _LONG_WORD.sub("…", text)[:_QUOTED_LIMIT]
