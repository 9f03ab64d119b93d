"""One exchange with Kiwoom's token endpoints: up to three attempts within one time-out, and what it all needs."""

import logging
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol, TypeVar

from . import _au10001, _au10002
from ._chance import chance
from ._clock import Clock
from ._interrupts import is_an_interrupt
from ._issuer import Issuer, Library
from ._keys import Masked, Secretkey, digest, without_frames
from ._log import Log, Note
from ._route import Route
from ._seal import Seal
from ._shared import SharedStore
from ._token import AccessToken
from .errors import KiwoomAuthError

_T = TypeVar("_T")

ATTEMPTS = 3
_FIRST_PAUSE = 0.5
"""Seconds: AU10001 is limited to about two calls a second."""


class Issue(Protocol):
    """What the token source asks of an exchange, without knowing how it is done."""

    timeout: float
    """Seconds that the exchange with the token endpoint may take."""
    patience: float
    """Seconds that all of it may take: the same, and what a store adds."""
    route: Route
    """The way it goes."""
    log: Log
    """Hears of what is done."""

    def cached(self, lookup: Callable[[bytes], AccessToken | None]) -> AccessToken | None:
        """What ``lookup`` finds for the secretkey's digest."""
        ...

    def __call__(
        self,
        lookup: Callable[[bytes], AccessToken | None],
        takes: Callable[[AccessToken], bool],
        spent: float,
        issued: Callable[[AccessToken, Note], object],
    ) -> tuple[AccessToken, Note | None]:
        """A token that ``lookup`` finds for the secretkey's digest, or one of another process, or else a new one.

        Args:
            lookup: finds a token that somebody else in this process has issued meanwhile.
            takes: whether a token that another process has issued will do.
            spent: seconds of the patience that are over.
            issued: is given a new one, and what there is to tell, at once: the rest may still be interrupted.

        Returns:
            The token, and what there is to tell of it once it is in use: a listener may be slow.

        Raises:
            KiwoomAuthError: there is none to be had.
        """
        ...


class Exchange:
    """Issues and revokes for one appkey and host.

    Args:
        appkey: the appkey.
        secretkey: asked for anew each time, since a vault may have rotated it.
        host: the origin, such as ``https://api.kiwoom.com``.
        issuer: sends.
        store: shares the token with other processes; None: it is not shared.
        timeout: seconds in total: attempts, pauses, headers and body.
        clock: the time.
        log: hears of what is done.
        library: what the call came from, requests or httpx.
    """

    __slots__ = (
        "_appkey",
        "_clock",
        "_host",
        "_issuer",
        "_library",
        "_secretkey",
        "_store",
        "log",
        "patience",
        "route",
        "timeout",
    )

    def __init__(
        self,
        appkey: str,
        secretkey: Secretkey,
        *,
        host: str,
        issuer: Issuer,
        store: SharedStore | None,
        timeout: float,
        clock: Clock,
        log: Log,
        library: Library,
    ) -> None:
        self._appkey = appkey
        self._secretkey = secretkey
        self._host = host
        self._issuer = issuer
        self._store = store
        self.timeout = timeout
        self.patience = timeout + (store.longest(timeout) if store else 0.0)
        self.route = Route(issuer.client, timeout, library if issuer.client is None else "client=")
        self._clock = clock
        self.log = log
        self._library: Library = library

    def cached(self, lookup: Callable[[bytes], AccessToken | None]) -> AccessToken | None:
        """What ``lookup`` finds for the secretkey's digest."""
        return without_frames(lambda: lookup(digest(self._secretkey.reveal(self._host))))

    def __call__(
        self,
        lookup: Callable[[bytes], AccessToken | None],
        takes: Callable[[AccessToken], bool],
        spent: float,
        issued: Callable[[AccessToken, Note], object],
    ) -> tuple[AccessToken, Note | None]:
        """AU10001, unless ``lookup`` or the store finds a token."""
        return without_frames(lambda: self._obtain(lookup, takes, spent, issued))

    def _obtain(
        self,
        lookup: Callable[[bytes], AccessToken | None],
        takes: Callable[[AccessToken], bool],
        spent: float,
        issued: Callable[[AccessToken, Note], object],
    ) -> tuple[AccessToken, Note | None]:
        # The vault's time and the store's count, so that a flight that was given up does not issue after all.
        limit = self._clock.monotonic() + self.patience - spent
        secretkey = self._secretkey.reveal(self._host)
        found = lookup(digest(secretkey))
        if found is not None:
            return found, None
        news: list[Note] = []

        def issue() -> AccessToken:
            token = self._issue(secretkey, min(self._clock.monotonic() + self.timeout, limit))
            news.append(self._news_of(token, "token.issued", "a token was issued"))
            issued(token, news[0])
            return token

        if self._store is None:
            token = issue()
        else:
            token = self._store.visit(self._seal(secretkey), spent).obtain(
                takes, issue, self._store.lease(self.timeout)
            )
        if news:
            return token, news[0]
        return token, self._news_of(token, "token.found", "the store has a token of another process")

    def _issue(self, secretkey: Masked, deadline: float) -> AccessToken:
        def attempt(remaining: float) -> AccessToken:
            sent_at, wall = self._clock.now(), self._clock.wall()
            body = _au10001.request_body(self._appkey, secretkey)
            answer = self._issuer.send(_au10001.PATH, body, remaining, self._library)
            return _au10001.read(answer, host=self._host, secretkey=secretkey, sent_at=sent_at, wall=wall)

        return self._persist(_au10001.NAME, attempt, deadline)

    def _news_of(self, token: AccessToken, event: str, words: str) -> Note:
        expires_at = self._clock.shown(token.deadline)
        return Note(logging.INFO, event, f"{words}; it expires at {expires_at:%Y-%m-%d %H:%M:%S} KST", expires_at)

    def stored(self) -> AccessToken | None:
        """The token that the store holds; None where there is none, or no store.

        Raises:
            KiwoomAuthError: the secretkey callable failed.
        """
        if self._store is None:
            return None
        store = self._store
        return without_frames(lambda: store.visit(self._seal(self._secretkey.reveal(self._host))).find(_any))

    def revoke(self, cached: AccessToken | None, finds: Callable[[AccessToken], object]) -> None:
        """AU10002 for the cached token, or else for the one that another process has left; it is left no longer.

        Args:
            cached: the token, if there is one.
            finds: is told of the one that another process has left, before it is revoked.

        Raises:
            KiwoomAuthError: the token may still live, or there may be one in a store that cannot be read.
        """
        without_frames(lambda: self._revoke(cached, finds))

    def _revoke(self, cached: AccessToken | None, finds: Callable[[AccessToken], object]) -> None:
        if self._store is None:
            if cached is not None:
                self._send_revocation(Masked(cached.value), self._secretkey.reveal(self._host))
            return
        secretkey = self._secretkey.reveal(self._host)
        visit = self._store.visit(self._seal(secretkey))
        with visit.lock(self._store.lease(self.timeout)):
            found = visit.find(_any) if cached is None else cached
            if found is None and not visit.has_seen_all:
                why = "nothing was revoked: a token store cannot be read (the log says why), and may hold a token"
                raise KiwoomAuthError(f"{self._host}: {why}", host=self._host, retryable=True)
            if found is not None:
                token = Masked(found.value)
                finds(found)
                try:
                    self._send_revocation(token, secretkey)
                finally:
                    visit.forget([(token, math.inf)])

    def _send_revocation(self, token: Masked, secretkey: Masked) -> None:
        def attempt(remaining: float) -> None:
            body = _au10002.request_body(self._appkey, secretkey, token)
            answer = self._issuer.send(_au10002.PATH, body, remaining, self._library)
            _au10002.check(answer, host=self._host, secretkey=secretkey, token=token)

        self._persist(_au10002.NAME, attempt, self._clock.monotonic() + self.timeout)

    def forget(self, token: Masked, dated: float) -> None:
        """Take a token out of the store, so that no other process starts with it; one in its place stays.

        In the background, since this may be an event loop's thread.

        Args:
            token: the token.
            dated: when it was issued at the latest: one issued later stays, even if the server gave the same value.
        """
        if self._store is not None:
            account = self._appkey, self._host, self._secretkey.identity
            self._store.backlog.add(account, partial(self._forget, self._store), (token, dated))

    def _forget(self, store: SharedStore, tokens: Iterable[tuple[Masked, float]]) -> None:
        def forget() -> None:
            visit = store.visit(self._seal(self._secretkey.reveal(self._host)))
            with visit.lock(store.lease(0.0)):
                visit.forget(tokens)

        without_frames(forget)  # what a vault raises stays in the backlog: another process will find out by itself

    def _seal(self, secretkey: Masked) -> Seal:
        return without_frames(lambda: Seal(self._appkey, self._host, secretkey, self._clock))

    def _persist(self, call: str, attempt: Callable[[float], _T], deadline: float) -> _T:
        """Try up to three times what may succeed later, all before the deadline on the monotonic clock."""
        number = 0
        while True:
            number += 1
            try:
                return without_frames(lambda: attempt(deadline - self._clock.monotonic()))
            except KiwoomAuthError as error:
                if is_an_interrupt(error):
                    raise
                failure = error.copy()
            self.log.tell(
                Note(logging.INFO, "attempt.failed", f"{call}, attempt {number}: {failure}", None, failure.code, number)
            )
            pause = _pause(number, failure)
            if (
                number == ATTEMPTS
                or not failure.retryable
                or failure.local
                or self._clock.monotonic() + pause >= deadline
            ):
                raise failure
            self._clock.sleep(pause)


def _any(_token: AccessToken) -> bool:
    return True


def _pause(number: int, failure: KiwoomAuthError) -> float:
    """Seconds before the next attempt: 0.5 doubling, up to twice that by chance, and what the server asked for."""
    backoff = _FIRST_PAUSE * 2.0 ** (number - 1) * (1 + chance.random())
    return max(backoff, failure.retry_after or 0.0)
