"""One exchange with Kiwoom's token endpoints: up to three attempts within one time-out, and what it all needs."""

import random
from collections.abc import Callable
from typing import Protocol, TypeVar

from . import _au10001, _au10002
from ._clock import Clock
from ._issuer import Issuer, Library
from ._keys import Masked, Secretkey, digest
from ._token import AccessToken
from .errors import KiwoomAuthError

_T = TypeVar("_T")

ATTEMPTS = 3
_FIRST_PAUSE = 0.5
"""Seconds: AU10001 is limited to about two calls a second."""


class Issue(Protocol):
    """What the token source asks of an exchange, without knowing how it is done."""

    timeout: float

    def __call__(self, lookup: Callable[[bytes], AccessToken | None], spent: float) -> AccessToken:
        """A token that ``lookup`` finds for the secretkey's digest, or else a newly issued one.

        Args:
            lookup: finds a token that somebody else has issued meanwhile.
            spent: seconds of the time-out that are over.

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
        timeout: seconds in total: attempts, pauses, headers and body.
        clock: the time.
        library: what the call came from, requests or httpx.
    """

    __slots__ = ("_appkey", "_clock", "_host", "_issuer", "_library", "_secretkey", "timeout")

    def __init__(
        self,
        appkey: str,
        secretkey: Secretkey,
        *,
        host: str,
        issuer: Issuer,
        timeout: float,
        clock: Clock,
        library: Library,
    ) -> None:
        self._appkey = appkey
        self._secretkey = secretkey
        self._host = host
        self._issuer = issuer
        self.timeout = timeout
        self._clock = clock
        self._library: Library = library

    def __call__(self, lookup: Callable[[bytes], AccessToken | None], spent: float) -> AccessToken:
        """AU10001, unless ``lookup`` finds a token for the digest of the secretkey."""
        deadline = self._clock.monotonic() + self.timeout - spent
        secretkey = self._secretkey.reveal(self._host)
        found = lookup(digest(secretkey))
        if found is not None:
            return found

        def attempt(remaining: float) -> AccessToken:
            sent_at, wall = self._clock.now(), self._clock.wall()
            body = _au10001.request_body(self._appkey, secretkey)
            answer = self._issuer.send(_au10001.PATH, body, remaining, self._library)
            return _au10001.read(answer, host=self._host, secretkey=secretkey, sent_at=sent_at, wall=wall)

        return self._persist(attempt, deadline)

    def revoke(self, token: Masked) -> None:
        """AU10002 for the token.

        Raises:
            KiwoomAuthError: the token may still live.
        """
        deadline = self._clock.monotonic() + self.timeout
        secretkey = self._secretkey.reveal(self._host)

        def attempt(remaining: float) -> None:
            body = _au10002.request_body(self._appkey, secretkey, token)
            answer = self._issuer.send(_au10002.PATH, body, remaining, self._library)
            _au10002.check(answer, host=self._host, secretkey=secretkey, token=token)

        self._persist(attempt, deadline)

    def _persist(self, attempt: Callable[[float], _T], deadline: float) -> _T:
        """Try up to three times what may succeed later, all before the deadline on the monotonic clock."""
        number = 0
        while True:
            number += 1
            try:
                return attempt(deadline - self._clock.monotonic())
            except KiwoomAuthError as error:
                failure = error.copy()
            pause = _pause(number, failure)
            if number == ATTEMPTS or not failure.retryable or self._clock.monotonic() + pause >= deadline:
                raise failure
            self._clock.sleep(pause)


def _pause(number: int, failure: KiwoomAuthError) -> float:
    """Seconds before the next attempt: 0.5 doubling, up to twice that by chance, and what the server asked for."""
    backoff = _FIRST_PAUSE * 2.0 ** (number - 1) * (1 + random.random())  # noqa: S311 - spreads callers, hides nothing
    return max(backoff, failure.retry_after or 0.0)
