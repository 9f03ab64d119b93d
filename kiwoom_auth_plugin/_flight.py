"""A flight: one issue under way, which belongs to nobody who waits for it."""

import os
import threading
import time
from typing import TYPE_CHECKING

from ._event import Event
from ._exchange import Issue
from ._route import Route
from ._token import AccessToken
from .errors import KiwoomAuthError

if TYPE_CHECKING:
    from ._log import Note

GRACE = 2.0
"""Seconds beyond the time-out of an exchange after which the others stop waiting for it."""


class Flight:
    """One issue under way.

    Args:
        issue: what is done.
        refresh: whether it runs while the present token is still used.
        thread: the one that will run it; None where that is to be started.
    """

    __slots__ = (
        "_pid",
        "_started",
        "ended",
        "event",
        "found",
        "issued",
        "landed",
        "log",
        "longest",
        "news",
        "outcome",
        "refresh",
        "refused",
        "route",
        "thread",
        "told",
    )

    def __init__(self, issue: Issue, *, refresh: bool, thread: int | None = None) -> None:
        self._started = time.monotonic()
        self.longest = issue.patience + GRACE
        """Seconds from the start after which nobody waits for it any more."""
        self.event = Event()
        """Happens when it has landed: its outcome is known."""
        self.ended = Event()
        """Happens when it is somebody else's turn: the cache is written."""
        self.told = Event()
        """Happens when all is done: what it has to tell was told."""
        self.issued: AccessToken | None = None
        """The token that was issued, as soon as it is: who is interrupted later has brought it all the same..."""
        self.news: Note | None = None
        """...and what there is to tell of it."""
        self.found: AccessToken | None = None
        """The token that was in the cache: it is not put there again, over what took its place or over its end."""
        self.landed = False
        self.outcome: AccessToken | KiwoomAuthError | None = None
        """None after landing: it was interrupted, and somebody else has to take over."""
        self.route = issue.route
        self.log = issue.log
        self.refused: AccessToken | None = None
        """The token that was refused before it started."""
        self.refresh = refresh
        self.thread = thread
        """The thread that runs it, while it does; None before it has one of its own."""
        self._pid = os.getpid()

    @property
    def patience(self) -> float:
        """Seconds that anybody waits for it from now on."""
        return max(0.0, self._started + self.longest - time.monotonic())

    @property
    def is_ours(self) -> bool:
        """Whether it is this process's: what was under way at a fork stays with the parent."""
        return self._pid == os.getpid()

    @property
    def runs_here(self) -> bool:
        """Whether this thread runs it, further up its stack; a child's may have the number of one of the parent's."""
        return self.is_ours and self.thread == threading.get_ident()

    def result(self, route: Route) -> AccessToken | None:
        """The token it brought; None where it was interrupted, or failed in a way that is not the caller's.

        Raises:
            KiwoomAuthError: it brought none; each caller gets an exception object of its own.
        """
        outcome = self.outcome  # once: a token that comes late may take its place
        if not isinstance(outcome, KiwoomAuthError):
            return outcome
        if self.route.scope(outcome) == route.scope(outcome):
            raise outcome.copy()
        return None


class Turn:
    """Whose turn it is to issue for one place in a cache, whichever secretkey it is for."""

    __slots__ = ("__weakref__", "flight")

    def __init__(self) -> None:
        self.flight: Flight | None = None
        """The latest one; it is over when that has ended, or has stayed in the parent process of a fork."""

    def is_free(self) -> bool:
        """Whether another flight may start."""
        flight = self.flight  # once: it may end, and be gone, while it is looked at
        return flight is None or not flight.is_ours or flight.ended.has_happened
