"""The issues of one token source, one at a time.

An issue is a *flight*: it belongs to nobody who waits for it. The thread that runs it may be a caller's (a
synchronous call) or its own (an asynchronous one, a refresh); when it is interrupted, one of the others takes over.
"""

import threading
import time
from abc import ABC, abstractmethod

from ._clock import Clock
from ._exchange import Issue
from ._flight import GRACE, Flight, Turn
from ._interrupts import is_an_interrupt
from ._locks import lock_for_the_process
from ._log import Log, Note
from ._threads import NoThread, start
from ._token import AccessToken
from .errors import KiwoomAuthError, TokenEndpointUnreachable

mutex = lock_for_the_process()
"""Guards every source, and the registry of them."""


class Flights(ABC):
    """Runs, waits for and ends flights; what they bring is the business of the token source, which derives from this.

    Args:
        host: the origin.
        turn: whose turn it is to issue for the place of the token in the cache.
        clock: the time.
    """

    __slots__ = ("_clock", "_flight", "_host", "_turn")

    def __init__(self, host: str, turn: Turn, clock: Clock) -> None:
        self._host = host
        self._turn = turn
        self._clock = clock
        self._flight: Flight | None = None
        """The one under way."""

    # What the token source does with them

    @abstractmethod
    def _find(self, digest: bytes, flight: Flight) -> AccessToken | None:
        """The token that somebody else in this process has issued meanwhile."""

    @abstractmethod
    def _takes(self, token: AccessToken, flight: Flight) -> bool:
        """Whether a token that another process has issued is what the flight is for."""

    @abstractmethod
    def _is_outdated(self, token: AccessToken, flight: Flight) -> bool:
        """Whether a token was refused while it was on its way; the mutex is held."""

    @abstractmethod
    def _adopt(self, token: AccessToken, flight: Flight) -> Note | None:
        """Make a token the present one; the mutex is held. Returns what to tell."""

    @abstractmethod
    def _rest_after(self, failure: KiwoomAuthError, flight: Flight) -> Note | None:
        """Let callers, or refreshes, rest for a while; the mutex is held. Returns what to tell."""

    @abstractmethod
    def _keep(self, token: AccessToken, log: Log) -> None:
        """Put a token in the cache, if it still is the present one."""

    # Starting and running one

    def _send_off(self, flight: Flight, issue: Issue) -> None:
        """Run the flight in a thread of its own. It is no daemon: a token that was issued is not lost on exit.

        Raises:
            KiwoomAuthError: no thread is to be had.
        """
        arguments = (flight, issue, (BaseException,))
        try:
            start(threading.Thread(target=self._fly, args=arguments, name="kiwoom-auth-issue", daemon=False))
        except NoThread as refusal:
            raise KiwoomAuthError(f"{self._host}: no thread for AU10001: {refusal}", host=self._host) from None

    def _fly(self, flight: Flight, issue: Issue, unexpected: tuple[type[BaseException], ...] = ()) -> None:
        """Run the flight in this thread, and let it land unless it is interrupted.

        In a caller's own thread a signal handler may raise anything: that goes on to the caller.
        """
        with mutex:
            if flight.landed:
                return  # abandoned before its thread could start
            flight.thread = threading.get_ident()
        news: Note | None = None
        try:
            outcome: AccessToken | KiwoomAuthError
            outcome, news = self._bring(flight, issue)
        except KiwoomAuthError as error:
            if self._is_within_another(flight) or is_an_interrupt(error):
                raise  # this caller's alone: a mistake, or what interrupts it
            outcome = error.copy()  # without the traceback, whose frames hold the secretkey
        except unexpected as error:
            why = f"{self._host}: AU10001 failed unexpectedly: {type(error).__name__}; please report it"
            outcome = KiwoomAuthError(why, host=self._host)
        self._land(flight, outcome, news)

    def _bring(self, flight: Flight, issue: Issue) -> tuple[AccessToken, Note | None]:
        def lookup(digest: bytes) -> AccessToken | None:
            return self._find(digest, flight)

        # From when it was made: its thread may have been late. A vault's time counts, too.
        started = self._clock.monotonic() - (flight.longest - flight.patience)
        limit = started + (issue.patience - issue.timeout or issue.timeout)
        while (other := self._take_turn(flight)) is not None:
            token = issue.cached(lookup)  # the other may be a refresh: the token is good meanwhile
            if token is not None:
                return token, None
            self._refuse_reentry(other)
            left, longest = max(0.0, limit - self._clock.monotonic()), other.patience
            if not other.ended.wait(min(left, longest)) and left <= longest:
                raise self._overdue(limit - started)

        def takes(token: AccessToken) -> bool:
            return self._takes(token, flight)

        def issued(token: AccessToken, news: Note) -> None:
            flight.issued, flight.news = token, news

        return issue(lookup, takes, self._clock.monotonic() - started, issued)

    def _take_turn(self, flight: Flight) -> Flight | None:
        """Let it be this flight's turn to issue for the appkey; or else tell who does, with another secretkey.

        Who is overdue is waited for no longer: its exchange has sent all that it will.

        Raises:
            TokenEndpointUnreachable: this flight was given up meanwhile, or its time was over before its thread ran.
        """
        with mutex:
            if flight.landed or not flight.patience:
                raise self._overdue(flight.longest - GRACE)
            other = self._turn.flight
            waits = other is not None and (other.patience > 0 or other.runs_here)
            if waits and not self._turn.is_free():
                return other
            self._turn.flight = flight
            return None

    def _is_within_another(self, flight: Flight) -> bool:
        other = self._turn.flight
        return other is not None and other is not flight and other.runs_here

    def refuse_reentry(self, *, turn: bool) -> None:
        """Raise if this thread is in the middle of a flight of this source's: it would wait for itself.

        Args:
            turn: whether a flight of another source of the same appkey counts, too.

        Raises:
            KiwoomAuthError: it is.
        """
        self._end_overdue()
        self._refuse_reentry(self._flight)
        if turn:
            self._refuse_reentry(self._turn.flight)

    def _refuse_reentry(self, flight: Flight | None) -> None:
        if flight is not None and flight.runs_here:
            raise KiwoomAuthError(
                f"{self._host}: a call with this auth object was made from within its own AU10001 call: "
                "the hooks and transports of client=, a secretkey callable and on_event must not use the same object",
                host=self._host,
            )

    # Waiting for one

    def _give_up(self, flight: Flight, limit: float, issue: Issue) -> None:
        """Stop waiting for a flight that is overdue: its thread hangs where no time-out reaches (name resolution).

        Raises:
            TokenEndpointUnreachable: it is not, but the caller's own time-out, up to the limit, is over.
        """
        if not flight.patience:
            self._land(flight, self._overdue(flight.longest - GRACE))
        else:
            self._check(limit, issue)

    def _check(self, limit: float, issue: Issue) -> None:
        """Let the caller wait no longer than up to the limit.

        Raises:
            TokenEndpointUnreachable: the time is over.
        """
        if time.monotonic() >= limit:
            raise self._overdue(issue.timeout)

    def _overdue(self, seconds: float) -> TokenEndpointUnreachable:
        why = f"{self._host}: no answer to AU10001 within {seconds:g} seconds; check the network"
        return TokenEndpointUnreachable(why, host=self._host)

    # Ending one

    def _abandon(self, flight: Flight) -> None:
        """Whoever started the flight is interrupted: one of those who wait takes over, unless it has its own thread.

        A token that it has brought already is used.
        """
        with mutex:
            if flight.thread not in {None, threading.get_ident()}:
                return
            token = None if isinstance(flight.outcome, AccessToken) else flight.issued
            flight.landed = True
            self._leave(flight)
        self._land(flight, token, flight.news if token else None)

    def _end_overdue(self) -> None:
        """Let a flight that nobody has waited for, and that should have landed long ago, be no flight any more."""
        flight = self._flight
        if flight is not None and flight.is_ours and not flight.patience:
            self._land(flight, None)

    def _land(self, flight: Flight, outcome: AccessToken | KiwoomAuthError | None, news: Note | None = None) -> None:
        """Make the outcome known to all who wait, keep what it teaches, and tell the news."""
        note = None
        with mutex:
            self._leave(flight)
            if isinstance(outcome, AccessToken):
                if self._is_outdated(outcome, flight):
                    outcome = None
                else:
                    note = self._adopt(outcome, flight)
            elif outcome is not None and not flight.landed:
                note = self._rest_after(outcome, flight)
            if not flight.landed or flight.outcome is None or isinstance(outcome, AccessToken):
                flight.outcome = outcome  # what comes late still is the answer for whoever ran the flight
            flight.landed = True
        try:
            self._end(flight, outcome)
            for told in (news, note):
                if told:
                    flight.log.tell(told)  # nobody else waits for that: a handler may be slow, or use this very object
        finally:
            flight.told.set()

    def _leave(self, flight: Flight) -> None:
        """Let it be the one under way no more; the mutex is held."""
        flight.thread = None
        if self._flight is flight:
            self._flight = None

    def _end(self, flight: Flight, outcome: AccessToken | KiwoomAuthError | None) -> None:
        try:
            flight.event.set()
            if isinstance(outcome, AccessToken) and outcome is not flight.found:
                self._keep(outcome, flight.log)
        finally:
            flight.ended.set()
            with mutex:
                if self._turn.flight is flight:
                    self._turn.flight = None


def limit_of(issue: Issue) -> float:
    """Until when a caller waits for others, however many flights there are, or else for its own."""
    return time.monotonic() + issue.patience + GRACE


def until(limit: float, flight: Flight) -> float:
    """Seconds that a caller waits for a flight from now on."""
    return max(0.0, min(flight.patience, limit - time.monotonic()))
