"""The rest after a failed issue: for a while callers get the same failure without the server being asked."""

from .errors import KiwoomAuthError

LONGEST_REST = 5.0
"""Seconds that a failure answers callers at most, when it may pass or is this side's own..."""
LONGEST_REST_FOR_GOOD = 60.0
"""...and when the server has said no for good: until something is mended."""


class Rest:
    """The latest failure, and until when it answers. Its owner's mutex guards it."""

    __slots__ = ("_failure", "_length", "_route", "_until")

    def __init__(self) -> None:
        self._failure: KiwoomAuthError | None = None
        self._length = 0.0
        self._until = 0.0
        self._route: object = None

    def check(self, now: float, route: object) -> None:
        """Return if the server may be asked.

        Args:
            now: the time.
            route: by which it would be asked: a failure on another one says nothing of this one.

        Raises:
            KiwoomAuthError: the failure of just now.
        """
        if self._failure is not None and now < self._until and concerns(self._failure, self._route, route):
            raise self._failure.copy()

    def begin(self, failure: KiwoomAuthError, now: float, route: object) -> None:
        """Let the failure answer callers for 1 s, doubling, or for as long as the server asked."""
        longest = LONGEST_REST if failure.retryable or failure.status_code is None else LONGEST_REST_FOR_GOOD
        self._route = route
        self._length = min(max(1.0, self._length * 2), longest)
        self._failure = failure
        self._until = now + max(self._length, min(failure.retry_after or 0.0, LONGEST_REST_FOR_GOOD))

    def end(self) -> None:
        """Ask the server again even if it has just said no."""
        self._failure = None
        self._length = 0.0


def concerns(failure: KiwoomAuthError, failed: object, route: object) -> bool:
    """Whether a failure on one route is an answer for another: what the server said is, what is on the way is not."""
    return failure.status_code is not None or failed == route
