"""An access token as this process holds it."""

from dataclasses import dataclass, field
from datetime import timedelta, timezone

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
