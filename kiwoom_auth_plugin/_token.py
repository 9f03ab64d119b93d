"""An access token as this process holds it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard, cast

from ._keys import Masked, digest
from ._locks import lock_for_the_process
from ._recent import Recent

LAST_MOMENT = 2.0
"""Seconds: dates are whole ones, so by such a while a server may take a token for dead before, or after, we do."""
LONGEST_LIFE = 25 * 3600.0
"""Seconds: a token lives up to 24 hours."""

_VALUE = re.compile(r"[\x21-\x7e]{1,8192}")

_mutex = lock_for_the_process()
_ours: Recent[bytes, None] = Recent(256)
"""Digests of the tokens that this process has had lately."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token, and until when it is used.

    Args:
        value: the token, visible ASCII.
        issued_at: seconds on the clock of ``Clock.now()`` when it was asked for.
        deadline: seconds on the same clock from which it is not used any more.
        secret_digest: of the secretkey that it was issued for.
        dated: seconds since the epoch on the server's clock when it was asked for: the same for every machine.
    """

    value: str = field(repr=False)
    issued_at: float
    deadline: float
    secret_digest: bytes = field(repr=False)
    dated: float

    def __post_init__(self) -> None:
        with _mutex:
            _ours.keep(digest(self.value), None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.value, self.issued_at, self.deadline, self.secret_digest, self.dated)

    @property
    def header(self) -> str:
        """The value of the Authorization header (RFC 6750, section 2.1)."""
        return "Bearer " + self.value


def is_token(value: object) -> TypeGuard[str]:
    """Whether it can be an access token: 1 to 8,192 characters of visible ASCII."""
    return isinstance(value, str) and _VALUE.fullmatch(value) is not None


def is_bearer(header: object) -> TypeGuard[str]:
    """Whether an Authorization header holds a token, and is not somebody else's."""
    return isinstance(header, str) and header.startswith("Bearer ")


def is_one_of_ours(header: object, present: AccessToken | None) -> bool:
    """Whether an Authorization header holds this token, or another one of this process, however it is written.

    Known are those that it has had lately, for whichever account. Their scheme has no case (RFC 9110, section 11.1).
    """
    if isinstance(header, bytes):
        header = header.decode("latin-1")
    *_, token = (None, *header.split()) if isinstance(header, str) else (None,)
    if not is_token(token):
        return False
    with _mutex:
        return digest(token) in _ours or (present is not None and token == present.value)


def bearer_token(header: object) -> Masked | None:
    """The token in an Authorization header of ours; None where it is somebody else's, or there is none."""
    return Masked(header.removeprefix("Bearer ")) if is_bearer(header) else None


def carried_token(headers: Mapping[str, Any]) -> Masked:
    """The token that the headers of a request of ours carry."""
    return cast("Masked", bearer_token(headers["Authorization"]))
