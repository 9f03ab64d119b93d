"""Where the token comes from: the cachetools cache, one issue at a time, refresh, and rest after failure.

One ``TokenSource`` is shared by all auth objects of the same keys, host and cache. Its present token is a snapshot,
read without a lock. All else is decided under one mutex, which is never held across input or output.

An issue is a *flight*: it belongs to nobody who waits for it. The thread that runs it may be a caller's (a
synchronous call) or its own (an asynchronous one, a refresh); when it is interrupted, one of the others takes over.
"""

import random
import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import overload

import cachetools

from ._cache import DEFAULT_CACHE, Slot, TokenCache, log
from ._clock import Clock
from ._exchange import Issue
from ._flight import GRACE, Flight, Turn
from ._locks import Renewed, lock_for_the_process
from ._token import AccessToken
from .errors import KiwoomAuthError, TokenEndpointUnreachable

FUTILE_PAUSE = 30.0
"""Seconds without an issue after the server handed back the token that it had refused."""
REFRESH_PAUSE = 30.0
"""Seconds between refreshes after one that failed."""
SAME_TOKEN_PAUSE = 7 * 86_400.0
"""Seconds without a refresh after one that brought the present token: this server has no other until it expires."""
LONGEST_REST = 5.0
"""Seconds that a failure answers callers at most, when it may pass..."""
LONGEST_REST_FOR_GOOD = 60.0
"""...and when it is one that stays until something is mended."""

_mutex = lock_for_the_process()
_default_mutex = Renewed(lock_for_the_process())
_mutexes: weakref.WeakValueDictionary[int, Renewed] = weakref.WeakValueDictionary({id(DEFAULT_CACHE): _default_mutex})
_turns: weakref.WeakValueDictionary[Hashable, Turn] = weakref.WeakValueDictionary()
_sources: weakref.WeakValueDictionary[Hashable, "TokenSource"] = weakref.WeakValueDictionary()
# Auth objects may live for one call only: what a source has learnt of failures must outlive them.
_recent: cachetools.LRUCache[Hashable, "TokenSource"] = cachetools.LRUCache(1024)


def source_for(
    appkey: str, host: str, secret_identity: object, *, cache: TokenCache | None, clock: Clock
) -> "TokenSource":
    """The one source of these keys, host and cache.

    Args:
        appkey: with ``host`` the cache's key.
        host: the origin.
        secret_identity: equal for the same secretkey.
        cache: None for the one of the process.
        clock: the time.
    """
    where = DEFAULT_CACHE if cache is None else cache
    key = (appkey, host, secret_identity, id(where), id(clock))
    with _mutex:
        source = _sources.get(key)
        if source is None:
            slot = Slot(where, (appkey, host), clock, _mutexes.setdefault(id(where), Renewed()))
            turn = _turns.setdefault((id(where), appkey, host), Turn())
            source = _sources[key] = TokenSource(host, slot, turn, clock)
        _recent[key] = source
    return source


class TokenSource:
    """The token of one appkey at one host.

    Args:
        host: the origin.
        slot: the token's place in the cache.
        turn: whose turn it is to issue for that place.
        clock: the time.
    """

    __slots__ = (
        "__weakref__", "_clock", "_failure", "_flight", "_futile", "_host", "_jitter",
        "_quiet_until", "_refresh_from", "_refused", "_rest", "_rest_until", "_slot", "_turn", "_unproven", "token",
    )  # fmt: skip

    def __init__(self, host: str, slot: Slot, turn: Turn, clock: Clock) -> None:
        self.token: AccessToken | None = None
        """The present token, possibly past its deadline; read without a lock."""
        self._host = host
        self._slot = slot
        self._turn = turn
        self._clock = clock
        self._flight: Flight | None = None
        self._failure: KiwoomAuthError | None = None
        self._rest = 0.0
        self._rest_until = 0.0
        self._refused: str | None = None
        self._quiet_until = 0.0
        self._futile = 0
        self._unproven = False
        self._refresh_from = 0.0
        self._jitter = 1.0

    # Getting a token

    def get(self, issue: Issue) -> AccessToken:
        """A valid token: the present one, or else what one issue brings to all who ask.

        Raises:
            KiwoomAuthError: there is none to be had.
        """
        while True:
            found = self._board()
            if found is None:
                mine = Flight(issue.timeout, refresh=False)
                try:
                    found = self._board(mine)
                    if found is mine:
                        self._fly(mine, issue)
                except BaseException:
                    self._land(mine, None)  # interrupted: one of those who wait takes over
                    raise
            if isinstance(found, AccessToken):
                return found
            if not found.event.wait(found.patience):
                self._give_up(found)
            token = found.result()
            if token is not None:
                return token

    async def aget(self, issue: Issue) -> AccessToken:
        """Like ``get``, without ever blocking the event loop."""
        while True:
            found = self._board()
            mine = None
            if found is None:
                mine = Flight(issue.timeout, refresh=False)
                try:
                    found = self._board(mine)
                    if found is mine:
                        self._send_off(mine, issue)
                except BaseException:
                    self._land(mine, None)  # as above
                    raise
            if isinstance(found, AccessToken):
                return found
            if not await (found.ended if found is mine else found.event).wait_async(found.patience):
                self._give_up(found)
            token = found.result()
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
        """Note whether the server accepted a token that replaced a refused one.

        Where new tokens do not help, each call would issue one: from the second in a row on, refusals go to the
        callers for 1 s, doubling to 30 s.
        """
        with _mutex:
            if accepted:
                self._futile = 0
                self._unproven = False
            elif self.token is not None and self.token.value == token:
                self._count_futile()

    def _count_futile(self) -> None:
        """The present token, which replaced a refused one, is refused too; the mutex is held."""
        if not self._unproven:
            return  # it did not replace one, has served, or is counted
        self._unproven = False
        self._futile += 1
        if self._futile > 1:
            self._quiet_until = self._clock.now() + min(2.0 ** min(self._futile - 2, 5), FUTILE_PAUSE)

    # Forgetting one

    def drop_refused(self, refused: str) -> bool:
        """Make way for another token; False where the server is known to have none at the moment."""
        with _mutex:
            if self.token is not None and self.token.value == refused:
                if self._clock.now() - self.token.issued_at < FUTILE_PAUSE:
                    self._count_futile()
                if self._clock.now() < self._quiet_until:
                    return False
                self.token = None
                # From the cache it goes within the flight: a mapping may be slow, and this may be an event loop.
                self._refused = refused
            return True

    def end_rest(self) -> None:
        """Ask the server again even if it has just said no."""
        with _mutex:
            self._failure = None
            self._rest = 0.0

    def invalidate(self, token: str) -> None:
        """Forget the token if it is the present one, and end the rest after a failure."""
        self.end_rest()
        with _mutex:
            if self.token is not None and self.token.value == token:
                self.token = None
                self._refused = token
        self._slot.evict(token)

    def cached(self, digest: Callable[[], bytes]) -> AccessToken | None:
        """The valid token that would be used now, without issuing one."""
        token = self.token
        if token is None:
            token = self._look_up(digest())
        return token if token is not None and self._clock.now() < token.deadline else None

    # Refresh

    def refresh_if_due(self, token: AccessToken, margin: float, issue: Issue) -> None:
        """Start one refresh in the background if the token is within ``margin`` seconds of its deadline.

        The margin is shortened by chance, so that programs which share a token do not all ask at once, and is never
        more than half of the token's life.
        """
        now = self._clock.now()
        margin = min(margin * self._jitter, (token.deadline - token.issued_at) / 2)
        if now < token.deadline - margin or now < self._refresh_from:
            return
        with _mutex:
            if (
                self.token is not token
                or now < self._refresh_from
                or (self._flight is not None and self._flight.is_ours)
            ):
                return
            # Landing sets it anew; should the thread be lost, the next try comes after a pause all the same.
            self._refresh_from = now + REFRESH_PAUSE
            flight = self._flight = Flight(issue.timeout, refresh=True)
            flight.refused = self._refused
        self._send_off(flight, issue)

    # Flights

    @overload
    def _board(self) -> AccessToken | Flight | None: ...

    @overload
    def _board(self, mine: Flight) -> AccessToken | Flight: ...

    def _board(self, mine: Flight | None = None) -> AccessToken | Flight | None:
        """The present token, or else the flight under way, or else the caller's own, which is under way from now on.

        Raises:
            KiwoomAuthError: there was a failure just now.
        """
        with _mutex:
            now = self._clock.now()
            if self.token is not None and now < self.token.deadline:
                return self.token
            flight = self._flight
            if flight is None or not flight.is_ours:
                if self._failure is not None and now < self._rest_until:
                    raise self._failure.copy()
                if mine is not None:
                    mine.refused = self._refused
                    self._flight = mine
                return mine
        self._refuse_reentry(flight)
        return flight

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
        try:
            flight.thread = threading.get_ident()
            spent = self._await_turn(flight, issue.timeout)
            outcome: AccessToken | KiwoomAuthError = issue(lambda digest: self._find_cached(digest, flight), spent)
        except KiwoomAuthError as error:
            outcome = error.copy()  # without the traceback, whose frames hold the secretkey
        except unexpected as error:
            why = f"{self._host}: AU10001 failed unexpectedly: {type(error).__name__}; please report it"
            outcome = KiwoomAuthError(why, host=self._host)
        flight.thread = None
        self._land(flight, outcome)

    def _await_turn(self, flight: Flight, timeout: float) -> float:
        """Wait until nobody issues for the same appkey with another secretkey or callable; seconds that it took."""
        started = self._clock.monotonic()
        while True:
            spent = self._clock.monotonic() - started
            with _mutex:
                other = self._turn.flight
                if other is None or self._turn.is_free():
                    self._turn.flight = flight
                    return spent
            self._refuse_reentry(other)
            if not other.ended.wait(timeout - spent):
                with _mutex:
                    if self._turn.flight is other:
                        self._turn.flight = flight  # so that only this one waits for what hangs
                raise self._overdue(timeout)

    def _give_up(self, flight: Flight) -> None:
        """Stop waiting for a flight that is overdue: its thread hangs where no time-out reaches (name resolution)."""
        self._land(flight, self._overdue(flight.patience - GRACE))

    def _overdue(self, seconds: float) -> TokenEndpointUnreachable:
        why = f"{self._host}: no answer to AU10001 within {seconds:g} seconds; check the network"
        return TokenEndpointUnreachable(why, host=self._host)

    def _find_cached(self, digest: bytes, flight: Flight) -> AccessToken | None:
        if self._refused is not None:
            self._slot.evict(self._refused)
        token = self._look_up(digest)
        return None if flight.refresh and token == self.token else token

    def _look_up(self, digest: bytes) -> AccessToken | None:
        token = self._slot.look_up(digest)
        return None if token is not None and token.value == self._refused else token

    def _land(self, flight: Flight, outcome: AccessToken | KiwoomAuthError | None) -> None:
        """Make the outcome known to all who wait, and keep what it teaches."""
        warning = None
        with _mutex:
            if self._flight is flight:
                self._flight = None
            if isinstance(outcome, AccessToken):
                if outcome.value == self._refused != flight.refused:
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
        flight.event.set()
        try:
            if isinstance(outcome, AccessToken):
                self._slot.put(outcome, lambda: self.token is outcome)
        finally:
            flight.ended.set()
            with _mutex:
                if self._turn.flight is flight:
                    self._turn.flight = None

    def _adopt(self, token: AccessToken, flight: Flight) -> str | None:
        """Make a token the present one; the mutex is held. Returns what the log should warn of."""
        now = self._clock.now()
        previous = self.token
        if flight.landed and previous is not None and token.issued_at <= previous.issued_at:
            return None  # it was given up, and there is a newer one by now
        self.token = token
        self._failure = None
        self._rest = 0.0
        self._refused = None
        self._jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, hides nothing
        if flight.refresh:
            same = previous is not None and previous.value == token.value
            self._refresh_from = now + SAME_TOKEN_PAUSE if same else now
        if token.value == flight.refused:
            self._quiet_until = now + FUTILE_PAUSE
            return f"{self._host}: AU10001 handed back the token that had been refused"
        self._quiet_until = 0.0
        self._unproven = flight.refused is not None
        return None

    def _rest_after(self, failure: KiwoomAuthError, flight: Flight) -> str | None:
        """Let callers, or refreshes, rest for a while; the mutex is held. Returns what the log should warn of."""
        now = self._clock.now()
        if flight.refresh and self.token is not None and now < self.token.deadline:
            self._refresh_from = now + REFRESH_PAUSE
            return f"refresh failed, the present token is used on: {failure}"
        longest = LONGEST_REST if failure.retryable else LONGEST_REST_FOR_GOOD
        self._rest = min(max(1.0, self._rest * 2), longest)
        self._failure = failure
        self._rest_until = now + max(self._rest, min(failure.retry_after or 0.0, LONGEST_REST_FOR_GOOD))
        return None  # it is raised to whoever asked


def _other(refused: str, token: AccessToken) -> AccessToken | None:
    return None if token.value == refused else token
