"""Where the token comes from: the cachetools cache, one issue at a time, refresh, and rest after failure.

One ``TokenSource`` is shared by all auth objects of the same keys, host and cache. Its present token is a snapshot,
read without a lock. All else is decided under one mutex, which is never held across input or output.

An issue is a *flight*: it belongs to nobody who waits for it. The thread that runs it may be a caller's (a
synchronous call) or its own (an asynchronous one, a refresh); when it is interrupted, one of the others takes over.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import overload

from ._cache import Slot, log
from ._clock import Clock
from ._exchange import Issue
from ._flight import GRACE, Flight, Turn
from ._locks import lock_for_the_process
from ._refresh import Refresh
from ._refused import FUTILE_PAUSE, Refusals
from ._rest import Rest
from ._token import LAST_MOMENT, AccessToken
from .errors import KiwoomAuthError, TokenEndpointUnreachable

mutex = lock_for_the_process()
"""Guards every source, and the registry of them."""


class TokenSource:
    """The token of one appkey at one host.

    Args:
        host: the origin.
        slot: the token's place in the cache.
        turn: whose turn it is to issue for that place.
        clock: the time.
    """

    __slots__ = (
        "__weakref__", "_clock", "_flight", "_host", "_refresh", "_refusals", "_rest", "_slot", "_turn", "token",
    )  # fmt: skip

    def __init__(self, host: str, slot: Slot, turn: Turn, clock: Clock) -> None:
        self.token: AccessToken | None = None
        """The present token, possibly past its deadline; read without a lock."""
        self._host = host
        self._slot = slot
        self._turn = turn
        self._clock = clock
        self._flight: Flight | None = None
        self._refusals = Refusals()
        self._rest = Rest()
        self._refresh = Refresh()

    # Getting a token

    def get(self, issue: Issue) -> AccessToken:
        """A valid token: the present one, or else what one issue brings to all who ask.

        Raises:
            KiwoomAuthError: there is none to be had.
        """
        limit = _limit(issue)
        while True:
            found = self._board(issue)
            if found is None:
                mine = Flight(issue.patience, issue.route, refresh=False)
                try:
                    found = self._board(issue, mine)
                    if found is mine:
                        self._fly(mine, issue)
                        limit = _limit(issue)
                except BaseException:
                    self._abandon(mine)
                    raise
            if isinstance(found, AccessToken):
                return found
            while not found.event.wait(_until(limit, found)):
                self._give_up(found, limit, issue)
            token = found.result(issue.route)
            if token is not None:
                return token

    async def aget(self, issue: Issue) -> AccessToken:
        """Like ``get``, without ever blocking the event loop."""
        limit = _limit(issue)
        while True:
            found = self._board(issue)
            mine = None
            if found is None:
                mine = Flight(issue.patience, issue.route, refresh=False)
                try:
                    found = self._board(issue, mine)
                    if found is mine:
                        self._send_off(mine, issue)
                        limit = _limit(issue)
                except BaseException:
                    self._abandon(mine)
                    raise
            if isinstance(found, AccessToken):
                return found
            event = found.ended if found is mine else found.event
            while not await event.wait_async(_until(limit, found)):
                self._give_up(found, limit, issue)
            token = found.result(issue.route)
            if token is not None:
                return token

    def replace(self, refused: str, issue: Issue) -> AccessToken | None:
        """Another token than the refused one; None where there is no other.

        Raises:
            KiwoomAuthError: a new one could not be issued.
        """
        return _other(refused, self.get(issue)) if self.drop_refused(refused) else None

    async def areplace(self, refused: str, issue: Issue) -> AccessToken | None:
        """Like ``replace``, without ever blocking the event loop."""
        return _other(refused, await self.aget(issue)) if self.drop_refused(refused) else None

    def judge_replacement(self, token: str, *, accepted: bool) -> None:
        """Note whether the server accepted a token that replaced a refused one."""
        with mutex:
            if accepted or (self.token is not None and self.token.value == token):
                self._refusals.judge_replacement(self._clock.now(), accepted=accepted)

    # Forgetting one

    def drop_refused(self, refused: str) -> bool:
        """Make way for another token; False where the server is known to have none at the moment."""
        with mutex:
            token = self.token
            if token is not None and token.value == refused:
                if not self._refusals.refuse(token, self._clock.now()):
                    return False
                # From the cache it goes within the flight: a mapping may be slow, and this may be an event loop.
                self.token = None
            return True

    def invalidate(self, value: str | None) -> None:
        """Forget the token with this value if it is the present one, and ask the server again after a failure."""
        with mutex:
            self._rest.end()
            token = self.token
            if token is not None and token.value == value:
                self._refusals.forget(token)
                self.token = None
        if value is not None:
            self._slot.evict(value)

    def cached(self, digest: Callable[[], bytes]) -> AccessToken | None:
        """The valid token that would be used now, without issuing one."""
        token = self.token
        if token is None:
            token = self._look_up(digest())
        return token if token is not None and self._clock.now() < token.deadline else None

    # Refresh

    def refresh_if_due(self, token: AccessToken, margin: float, issue: Issue) -> None:
        """Start one refresh in the background if the token is within ``margin`` seconds of its deadline."""
        now = self._clock.now()
        if not self._refresh.is_due(token, margin, now):
            return
        self._end_overdue()
        flight = Flight(issue.patience, issue.route, refresh=True)
        try:
            with mutex:
                under_way = self._flight is not None and self._flight.is_ours
                if self.token is not token or under_way or not self._refresh.is_due(token, margin, now):
                    return
                self._refresh.pause(now)  # landing sets it anew
                flight.refused = self._refusals.latest
                self._flight = flight
            self._send_off(flight, issue)
        except BaseException:
            self._abandon(flight)
            raise

    # Flights

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
        return flight

    def _end_overdue(self) -> None:
        """Let a flight that nobody has waited for, and that should have landed long ago, be no flight any more."""
        flight = self._flight
        if flight is not None and flight.is_ours and not flight.patience:
            self._land(flight, None)

    def _abandon(self, flight: Flight) -> None:
        """Whoever started the flight is interrupted: one of those who wait takes over, unless it has its own thread."""
        with mutex:
            if flight.thread not in {None, threading.get_ident()}:
                return
            flight.landed = True
        self._land(flight, None)

    def _refuse_reentry(self, flight: Flight) -> None:
        if flight.thread == threading.get_ident():
            raise KiwoomAuthError(
                f"{self._host}: a call with this auth object was made from within its own AU10001 call: "
                "the hooks and transports of client=, and a secretkey callable, must not use the same auth object",
                host=self._host,
            )

    def _send_off(self, flight: Flight, issue: Issue) -> None:
        """Run the flight in a thread of its own. It is no daemon: a token that was issued is not lost on exit."""
        try:
            threading.Thread(
                target=self._fly, args=(flight, issue, (BaseException,)), name="kiwoom-auth-issue", daemon=False
            ).start()
        except RuntimeError as error:
            self._land(flight, KiwoomAuthError(f"{self._host}: no thread for AU10001: {error}", host=self._host))

    def _fly(self, flight: Flight, issue: Issue, unexpected: tuple[type[BaseException], ...] = ()) -> None:
        """Run the flight in this thread, and let it land unless it is interrupted.

        In a caller's own thread a signal handler may raise anything: that goes on to the caller.
        """
        with mutex:
            if flight.landed:
                return  # abandoned before its thread could start
            flight.thread = threading.get_ident()
        try:
            spent = self._await_turn(flight, issue.timeout)
            outcome: AccessToken | KiwoomAuthError = issue(
                lambda digest: self._find_cached(digest, flight), lambda token: self._takes(token, flight), spent
            )
        except KiwoomAuthError as error:
            outcome = error.copy()  # without the traceback, whose frames hold the secretkey
        except unexpected as error:
            why = f"{self._host}: AU10001 failed unexpectedly: {type(error).__name__}; please report it"
            outcome = KiwoomAuthError(why, host=self._host)
        self._land(flight, outcome)

    def _await_turn(self, flight: Flight, timeout: float) -> float:
        """Wait until nobody issues for the same appkey with another secretkey or callable; seconds that it took."""
        started = self._clock.monotonic()
        while True:
            spent = self._clock.monotonic() - started
            with mutex:
                other = self._turn.flight
                if other is None or self._turn.is_free():
                    self._turn.flight = flight
                    return spent
            self._refuse_reentry(other)
            if not other.ended.wait(timeout - spent):
                with mutex:
                    if self._turn.flight is other:
                        self._turn.flight = flight  # so that only this one waits for what hangs
                raise self._overdue(timeout)

    def _give_up(self, flight: Flight, limit: float, issue: Issue) -> None:
        """Stop waiting for a flight that is overdue: its thread hangs where no time-out reaches (name resolution).

        Raises:
            TokenEndpointUnreachable: it is not, but the caller's own time-out, up to the limit, is over.
        """
        if not flight.patience:
            self._land(flight, self._overdue(flight.longest - GRACE))
        elif time.monotonic() >= limit:
            raise self._overdue(issue.timeout)

    def _overdue(self, seconds: float) -> TokenEndpointUnreachable:
        why = f"{self._host}: no answer to AU10001 within {seconds:g} seconds; check the network"
        return TokenEndpointUnreachable(why, host=self._host)

    def _find_cached(self, digest: bytes, flight: Flight) -> AccessToken | None:
        refused = self._refusals.latest
        if refused is not None:
            self._slot.evict(refused.value)
        token = self._look_up(digest)
        return None if flight.refresh and token == self.token else token

    def _look_up(self, digest: bytes) -> AccessToken | None:
        token, refused = self._slot.look_up(digest), self._refusals.latest
        return None if token is not None and refused is not None and token.value == refused.value else token

    def _takes(self, token: AccessToken, flight: Flight) -> bool:
        """Whether a token that another process has issued is what the flight is for."""
        former = flight.refused or (self.token if flight.refresh else None)
        if former is None:
            return True
        if token.value != former.value:
            return token.dated >= former.dated
        # The same one, issued once more since: the server has no other at the moment, unless its time is over.
        now = self._clock.now()
        is_recent = flight.refresh or now - token.issued_at < FUTILE_PAUSE
        return token.dated > former.dated and is_recent and token.deadline - now > LAST_MOMENT

    def _land(self, flight: Flight, outcome: AccessToken | KiwoomAuthError | None) -> None:
        """Make the outcome known to all who wait, and keep what it teaches."""
        warning = None
        with mutex:
            flight.thread = None
            if self._flight is flight:
                self._flight = None
            if isinstance(outcome, AccessToken):
                refused = self._refusals.latest
                if refused is not None and refused is not flight.refused and outcome.value == refused.value:
                    outcome = None  # refused while it was on its way: it may be older than the refusal
                else:
                    warning = self._adopt(outcome, flight)
            elif outcome is not None and not flight.landed:
                warning = self._rest_after(outcome, flight)
            if not flight.landed or isinstance(outcome, AccessToken):
                flight.outcome = outcome  # a token that comes late is still good for whoever ran the flight
            flight.landed = True
        if warning:
            with suppress(Exception):  # a log filter may raise anything
                log.warning("%s", warning)
        try:
            flight.event.set()
            if isinstance(outcome, AccessToken):
                self._slot.put(outcome, lambda: self.token is outcome)
        finally:
            flight.ended.set()
            with mutex:
                if self._turn.flight is flight:
                    self._turn.flight = None

    def _adopt(self, token: AccessToken, flight: Flight) -> str | None:
        """Make a token the present one; the mutex is held. Returns what the log should warn of."""
        now = self._clock.now()
        previous = self.token
        if flight.landed and previous is not None and token.issued_at <= previous.issued_at:
            return None  # it was given up, and there is a newer one by now
        self.token = token
        self._rest.end()
        self._refresh.draw()
        if flight.refresh:
            self._refresh.succeed(now, same=previous is not None and previous.value == token.value)
        warning = self._refusals.adopt(token, flight.refused, now)
        return warning and f"{self._host}: {warning}"

    def _rest_after(self, failure: KiwoomAuthError, flight: Flight) -> str | None:
        """Let callers, or refreshes, rest for a while; the mutex is held. Returns what the log should warn of."""
        now = self._clock.now()
        if flight.refresh and self.token is not None and now < self.token.deadline:
            self._refresh.pause(now)
            return f"refresh failed, the present token is used on: {failure}"
        self._rest.begin(failure, now, flight.route)
        return None  # it is raised to whoever asked


def _limit(issue: Issue) -> float:
    """Until when a caller waits for others, however many flights there are, or else for its own."""
    return time.monotonic() + issue.patience + GRACE


def _until(limit: float, flight: Flight) -> float:
    """Seconds that a caller waits for a flight from now on."""
    return max(0.0, min(flight.patience, limit - time.monotonic()))


def _other(refused: str, token: AccessToken) -> AccessToken | None:
    return None if token.value == refused else token
