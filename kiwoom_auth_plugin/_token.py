"""An access token as this process holds it."""

from dataclasses import dataclass, field
from datetime import timedelta, timezone

from ._keys import Masked

KST = timezone(timedelta(hours=9), "KST")
"""Korea Standard Time: no daylight saving."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token, and until when it is used.

    Args:
        value: the token, visible ASCII.
        issued_at: seconds on the clock of ``Clock.now()`` when it was asked for.
        deadline: seconds on the same clock from which it is not used any more.
        secret_digest: of the secretkey that it was issued for.
    """

    value: str = field(repr=False)
    issued_at: float
    deadline: float
    secret_digest: bytes = field(repr=False)

    @property
    def header(self) -> str:
        """The value of the Authorization header (RFC 6750, section 2.1)."""
        return f"Bearer {self.value}"


def bearer_token(header: object) -> Masked | None:
    """The token in an Authorization header of ours; None where it is somebody else's, or there is none."""
    if not isinstance(header, str) or not header.startswith("Bearer "):
        return None
    return Masked(header.removeprefix("Bearer "))
