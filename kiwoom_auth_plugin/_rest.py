"""The rest after a failed issue: for a while callers get the same failure without the server being asked."""

from typing import NamedTuple

from ._route import Route
from .errors import KiwoomAuthError

LONGEST_REST = 5.0
"""Seconds that a failure answers callers at most, when it may pass or is this side's own..."""
LONGEST_REST_FOR_GOOD = 60.0
"""...and when the server has said no for good: until something is mended."""
MOST_FAILURES = 16
"""How many are known at most: one of the server's, the others of as many ways to it."""


class _Failed(NamedTuple):
    failure: KiwoomAuthError
    route: Route
    length: float
    until: float


class Rest:
    """The latest failures, and until when they answer. Its owner's mutex guards it."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: dict[object, _Failed] = {}

    def check(self, now: float, route: Route) -> None:
        """Return if the server may be asked.

        Args:
            now: the time.
            route: by which it would be asked: a failure on another one may say nothing of this one.

        Raises:
            KiwoomAuthError: the failure of just now.
        """
        for scope, failed in self._failed.items():
            if now < failed.until and scope == route.scope(failed.failure):
                raise failed.failure.copy()

    def begin(self, failure: KiwoomAuthError, now: float, route: Route) -> None:
        """Let the failure answer callers for 1 s, doubling, or for as long as the server asked."""
        longest = LONGEST_REST if failure.retryable or failure.status_code is None else LONGEST_REST_FOR_GOOD
        scope = route.scope(failure)
        previous = self._failed.pop(scope, None)
        length = 1.0 if previous is None else min(previous.length * 2, longest)
        until = now + max(length, min(failure.retry_after or 0.0, LONGEST_REST_FOR_GOOD))
        self._failed[scope] = _Failed(failure, route, length, until)
        if len(self._failed) > MOST_FAILURES:
            del self._failed[next(iter(self._failed))]

    def end(self) -> None:
        """Ask the server again even if it has just said no."""
        self._failed.clear()
