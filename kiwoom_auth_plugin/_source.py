"""Where the token comes from: the cachetools cache, one issue at a time, refresh, and rest after failure.

One ``TokenSource`` is shared by all auth objects of the same keys, host and cache. Its present token is a snapshot,
read without a lock. All else is decided under one mutex, which is never held across input or output.
"""

import logging
import threading
from collections.abc import Callable
from typing import overload

from ._cache import Slot
from ._clock import Clock
from ._exchange import Issue
from ._flight import Flight, Turn
from ._flights import Flights, limit_of, mutex, until
from ._log import Log, Note
from ._refresh import Refresh
from ._refused import FUTILE_PAUSE, Refusals
from ._rest import Rest
from ._token import LAST_MOMENT, LONGEST_LIFE, AccessToken
from .errors import KiwoomAuthError


class TokenSource(Flights):
    """The token of one appkey at one host.

    Args:
        host: the origin.
        slot: the token's place in the cache.
        turn: whose turn it is to issue for that place.
        clock: the time.
    """

    __slots__ = ("__weakref__", "_refresh", "_refusals", "_rest", "_slot", "token")

    def __init__(self, host: str, slot: Slot, turn: Turn, clock: Clock) -> None:
        super().__init__(host, turn, clock)
        self.token: AccessToken | None = None
        """The present token, possibly past its deadline; read without a lock."""
        self._slot = slot
        self._refusals = Refusals()
        self._rest = Rest()
        self._refresh = Refresh()

    # Getting a token

    def get(self, issue: Issue) -> AccessToken:
        """A valid token: the present one, or else what one issue brings to all who ask.

        Raises:
            KiwoomAuthError: there is none to be had.
        """
        limit = limit_of(issue)
        while True:
            found = self._board(issue)
            if not isinstance(found, AccessToken):
                self._check(limit, issue)
            if found is None:
                mine = Flight(issue, refresh=False, thread=threading.get_ident())
                try:
                    found = self._board(issue, mine)
                    if found is mine:
                        self._fly(mine, issue)
                        limit = limit_of(issue)
                except BaseException:
                    self._abandon(mine)
                    raise
            if isinstance(found, AccessToken):
                return found
            while not found.event.wait(until(limit, found)):
                self._give_up(found, limit, issue)
            token = found.result(issue.route)
            if token is not None:
                return token

    async def aget(self, issue: Issue) -> AccessToken:
        """Like ``get``, without ever blocking the event loop."""
        limit = limit_of(issue)
        while True:
            found = self._board(issue)
            if not isinstance(found, AccessToken):
                self._check(limit, issue)
            mine = None
            if found is None:
                mine = Flight(issue, refresh=False)
                try:
                    found = self._board(issue, mine)
                    if found is mine:
                        # From within another, its own thread would wait for this one: look into the cache, or raise.
                        start = self._fly if self._is_within_another(mine) else self._send_off
                        start(mine, issue)
                        limit = limit_of(issue)
                except BaseException:
                    self._abandon(mine)
                    raise
            if isinstance(found, AccessToken):
                return found
            event = found.told if found is mine else found.event
            while not await event.wait_async(until(limit, found)):
                self._give_up(found, limit, issue)
            token = found.result(issue.route)
            if token is not None:
                return token

    def replace(self, refused: str, issue: Issue) -> AccessToken | None:
        """Another token than the refused one; None where there is no other.

        Raises:
            KiwoomAuthError: a new one could not be issued.
        """
        return _other(refused, self.get(issue)) if self.drop_refused(refused, issue.log) else None

    async def areplace(self, refused: str, issue: Issue) -> AccessToken | None:
        """Like ``replace``, without ever blocking the event loop."""
        return _other(refused, await self.aget(issue)) if self.drop_refused(refused, issue.log) else None

    def judge_replacement(self, token: AccessToken, *, accepted: bool) -> None:
        """Note whether the server accepted a token that replaced a refused one."""
        with mutex:
            if accepted or (self.token is not None and self.token.value == token.value):
                self._refusals.judge_replacement(self._clock.now(), accepted=accepted)

    # Forgetting one

    def drop_refused(self, refused: str, log: Log) -> bool:
        """Make way for another token; False where the server is known to have none at the moment."""
        is_news = False
        with mutex:
            token = self.token
            if token is not None and token.value == refused:
                if not self._refusals.refuse(token, self._clock.now()):
                    return False
                # From the cache it goes within the flight: a mapping may be slow, and this may be an event loop.
                self.token = None
                is_news = True
        if is_news:
            log.tell(Note(logging.INFO, "token.refused", "the server refused the token"))
        return True

    def invalidate(self, value: str | None, log: Log, dead: AccessToken | None = None) -> AccessToken | None:
        """Forget the token with this value if it is the present one, and ask the server again after a failure.

        Args:
            value: the token's.
            log: hears of a cache that fails.
            dead: the token itself, if it is known to be of no use any more: a flight may be bringing it.

        Returns:
            The token, if it was the present one, or was refused before.
        """
        with mutex:
            self._rest.end()
            present = dead if self.token is None else self.token
            former = self._refusals.latest
            if present is not None and present.value == value:
                self._refusals.forget(present)
                self.token = None
            latest = self._refusals.latest
        # What was refused before may still be in the cache: the next flight looks for the latest one only.
        for gone in {value, None if former is None else former.value}:
            if gone is not None:
                self._slot.evict(gone, log)
        return latest if latest is not None and latest.value == value else None

    def cached(self, digest: Callable[[], bytes], log: Log) -> AccessToken | None:
        """The valid token that would be used now, without issuing one."""
        token = self.token
        if token is None:
            token = self._look_up(digest(), log)
        return token if token is not None and self._clock.now() < token.deadline else None

    # Refresh

    def refresh_if_due(self, token: AccessToken, margin: float, issue: Issue) -> None:
        """Start one refresh in the background if the token is within ``margin`` seconds of its deadline."""
        now = self._clock.now()
        if not self._refresh.is_due(token, margin, now):
            return
        self._end_overdue()
        flight = Flight(issue, refresh=True)
        try:
            with mutex:
                under_way = self._flight is not None and self._flight.is_ours
                if self.token is not token or under_way or not self._refresh.is_due(token, margin, now):
                    return
                self._refresh.pause(now)  # landing sets it anew
                self._flight = flight
            self._send_off(flight, issue)
        except KiwoomAuthError as failure:  # no thread; the pause is set
            self._abandon(flight)
            issue.log.tell(_of_refresh(failure))
        except BaseException:
            self._abandon(flight)
            raise

    # What the flights are for

    @overload
    def _board(self, issue: Issue) -> AccessToken | Flight | None: ...

    @overload
    def _board(self, issue: Issue, mine: Flight) -> AccessToken | Flight: ...

    def _board(self, issue: Issue, mine: Flight | None = None) -> AccessToken | Flight | None:
        """The present token, or else the flight under way, or else the caller's own, which is under way from now on.

        Raises:
            KiwoomAuthError: there was a failure just now.
        """
        self._end_overdue()
        with mutex:
            now = self._clock.now()
            if self.token is not None and now < self.token.deadline:
                return self.token
            flight = self._flight
            if flight is None or not flight.is_ours:
                self._rest.check(now, issue.route)
                if mine is not None:
                    mine.refused = self._refusals.latest
                    self._flight = mine
                return mine
        self._refuse_reentry(flight)
        self._refuse_reentry(self._turn.flight)  # which that flight may be waiting for
        return flight

    def _find(self, digest: bytes, flight: Flight) -> AccessToken | None:
        refused = self._refusals.latest
        if refused is not None:
            self._slot.evict(refused.value, flight.log)
        token = self._look_up(digest, flight.log)
        flight.found = None if flight.refresh and token == self.token else token
        return flight.found

    def _look_up(self, digest: bytes, log: Log) -> AccessToken | None:
        token, refused = self._slot.look_up(digest, log), self._refusals.latest
        return None if token is not None and refused is not None and token.value == refused.value else token

    def _takes(self, token: AccessToken, flight: Flight) -> bool:
        former = flight.refused or (self.token if flight.refresh else None)
        if former is None:
            return True
        if token.value != former.value:
            # Or else one of the dates is of a clock that was off.
            return token.dated >= former.dated or former.dated - token.dated > LONGEST_LIFE
        # The same one, issued once more since: the server has no other at the moment, unless its time is over.
        now = self._clock.now()
        is_recent = flight.refresh or now - token.issued_at < FUTILE_PAUSE
        return token.dated > former.dated and is_recent and token.deadline - now > LAST_MOMENT

    def _is_outdated(self, token: AccessToken, flight: Flight) -> bool:
        refused = self._refusals.latest  # it may be older than the refusal
        return refused is not None and refused is not flight.refused and token.value == refused.value

    def _keep(self, token: AccessToken, log: Log) -> None:
        self._slot.put(token, lambda: self.token is token, log)

    def _adopt(self, token: AccessToken, flight: Flight) -> Note | None:
        now = self._clock.now()
        previous = self.token
        latest = previous or self._refusals.latest
        if flight.landed and latest is not None and token.issued_at <= latest.issued_at:
            return None  # it was given up, and there is a newer one by now, or was
        self.token = token
        self._rest.end()
        self._refresh.draw()
        if flight.refresh:
            self._refresh.succeed(now, same=previous is not None and previous.value == token.value)
        return self._refusals.adopt(token, flight.refused, now)

    def _rest_after(self, failure: KiwoomAuthError, flight: Flight) -> Note | None:
        now = self._clock.now()
        if flight.refresh and self.token is not None and now < self.token.deadline:
            self._refresh.pause(now)
            return _of_refresh(failure)
        self._rest.begin(failure, now, flight.route)
        return None  # it is raised to whoever asked


def _of_refresh(failure: KiwoomAuthError) -> Note:
    words = f"refresh failed, the present token is used on: {failure}"
    return Note(logging.WARNING, "refresh.failed", words, code=failure.code)


def _other(refused: str, token: AccessToken) -> AccessToken | None:
    return None if token.value == refused else token
