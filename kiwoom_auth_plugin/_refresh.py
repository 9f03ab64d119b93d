"""When the present token is refreshed: in the background, before its deadline, one refresh at a time."""

from ._chance import chance
from ._token import AccessToken

REFRESH_PAUSE = 30.0
"""Seconds between refreshes after one that failed."""
SAME_TOKEN_PAUSE = 7 * 86_400.0
"""Seconds without a refresh after one that brought the present token: this server has no other until it expires."""


class Refresh:
    """The schedule of one token source's refreshes. Its owner's mutex guards what changes it."""

    __slots__ = ("_from", "_share")

    def __init__(self) -> None:
        self._from = 0.0
        self._share = 1.0
        """Of the margin: drawn for each token, so that programs which share one do not all ask at once."""

    def is_due(self, token: AccessToken, margin: float, now: float) -> bool:
        """Whether the token is within its margin of the deadline: never more than half of its life."""
        margin = min(margin * self._share, (token.deadline - token.issued_at) / 2)
        return now >= token.deadline - margin and now >= self._from

    def pause(self, now: float) -> None:
        """A refresh starts, or has failed: the next may come after a while."""
        self._from = now + REFRESH_PAUSE

    def draw(self) -> None:
        """There is another present token."""
        self._share = chance.uniform(0.5, 1.0)

    def succeed(self, now: float, *, same: bool) -> None:
        """A refresh has brought a token, the same one or another."""
        self._from = now + SAME_TOKEN_PAUSE if same else now
