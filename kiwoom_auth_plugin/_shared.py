"""The token stores as an exchange uses them: sealed, bounded in time, and never the cause of a failure."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from ._cache import log
from ._clock import Clock
from ._place import Call, Holding, Place, place_of, tell, words
from ._seal import Seal
from ._token import AccessToken
from .stores import TokenStore

Takes: TypeAlias = Callable[[AccessToken], bool]

_LONGEST_WAIT = 2.0
"""Leases that a lock is waited for, whatever the store says."""
_FIRST_LOOK, _LAST_LOOK = 0.05, 0.5
"""Seconds between looks at a store whose lock another process holds."""


class SharedStore:
    """The store of an auth object, and those that stand in for it.

    Args:
        store: the first of them; its ``fallback`` is the next.
        host: the origin, to be named in the log.
        clock: the time.
    """

    __slots__ = ("_clock", "_host", "_max_delay", "_places")

    def __init__(self, store: TokenStore, host: str, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._places: list[Place] = []
        following: TokenStore | None = store
        while following is not None and all(place.store is not following for place in self._places):
            self._places.append(place_of(following))
            following = self._places[-1].fallback
        self._max_delay = self._places[0].max_delay

    def lease(self, timeout: float) -> float:
        """Seconds that the lock is held at most for an exchange with this time-out."""
        return timeout + self._max_delay + 1.0

    def longest(self, timeout: float) -> float:
        """Seconds that the stores may delay such an exchange, those included that others hold the lock."""
        return self._max_delay + _LONGEST_WAIT * self.lease(timeout)

    def visit(self, seal: Seal) -> "Visit":
        """Deal with the stores for one exchange."""
        return Visit(self._places, seal, self._host, self._clock, self._max_delay)


class Visit:
    """One exchange's dealings with the stores.

    Args:
        places: the stores, in the order in which they are asked.
        seal: of the token.
        host: the origin, to be named in the log.
        clock: the time.
        max_delay: seconds that the stores may take in all; each has an equal part of it.
    """

    def __init__(self, places: list[Place], seal: Seal, host: str, clock: Clock, max_delay: float) -> None:
        self._places = places
        self._seal = seal
        self._host = host
        self._clock = clock
        self._share = max_delay / len(places)
        self._left = dict.fromkeys(places, self._share)
        self._holding: Holding | None = None

    def obtain(self, takes: Takes, issue: Callable[[], AccessToken], lease: float) -> AccessToken:
        """The token that another process has left, or else what ``issue`` brings, left for the others.

        Args:
            takes: whether a token will do.
            issue: called under the lock, if there is one to be had.
            lease: seconds that the lock is held at most.
        """
        token = self.find(takes)
        if token is not None:
            return token
        with self.lock(lease, lambda: self.find(takes)) as left:
            token = left or self.find(takes)
            if token is None:
                token = issue()
                self._save(token, self._places)
            return token

    def find(self, takes: Takes) -> AccessToken | None:
        """The latest token in the stores that ``takes`` wants; stores that lack it get it."""
        tokens = {place: self._load(place) for place in self._places}
        wanted = [token for token in tokens.values() if token is not None and takes(token)]
        if not wanted:
            return None
        latest = max(wanted, key=lambda token: token.dated)
        # Without the lock a store that is asked first is not written to: somebody may be about to do it.
        behind = [place for place in self._places[self._holding is None :] if _is_older(tokens[place], latest)]
        self._save(latest, behind)
        return latest

    def forget(self, value: str) -> None:
        """Take the token with this value out of the stores, and no other."""
        for place in self._places:
            token = self._load(place)
            if token is not None and token.value == value:
                self._ask(place, "delete", self._seal.key)

    @contextmanager
    def lock(
        self, lease: float, look: Callable[[], AccessToken | None] = lambda: None
    ) -> Generator[AccessToken | None]:
        """Hold the lock of the first store that gives it; where none does, go on without.

        Args:
            lease: seconds that it is held at most.
            look: looks, while another process holds it, for what that has left.

        Yields:
            What ``look`` has found; the lock is not held then.
        """
        token = None
        for place in self._places:
            if token is None and self._holding is None and self._is_open(place):
                token = self._take_lock(place, lease, look)
        try:
            yield token
        finally:
            if self._holding is not None:
                holding, self._holding = self._holding, None
                holding.leave(self._left[holding.place])  # waited for: a program that ends now would keep the lock

    def _take_lock(self, place: Place, lease: float, look: Callable[[], AccessToken | None]) -> AccessToken | None:
        try:
            holding = Holding(place, self._seal.key, lease)
        except RuntimeError as error:  # no thread is to be had
            self._fails(place, "lock", words(error))
            return None
        try:
            token = self._await(holding, place, lease, look)
            if holding.is_held and token is None:
                self._holding = holding
        finally:
            if self._holding is not holding:
                holding.leave(0.0)
        return token

    def _await(
        self, holding: Holding, place: Place, lease: float, look: Callable[[], AccessToken | None]
    ) -> AccessToken | None:
        """Wait for the lock, and look meanwhile for what its holder leaves. Waiting for a holder is no delay."""
        pause, give_up = _FIRST_LOOK, time.monotonic() + _LONGEST_WAIT * lease
        left = self._left.copy()
        while not holding.settled.wait(pause):
            token = look()  # which finds out a store that hangs, too
            if token is not None or not self._is_open(place):
                return token
            if time.monotonic() >= give_up:
                self._fails(place, "lock", f"its lock did not come within {_LONGEST_WAIT * lease:g} seconds")
                return None
            self._left.update(left)
            pause = min(pause * 1.5, _LAST_LOOK)
        if holding.is_held:
            place.works(self._host, "lock")
        elif isinstance(holding.error, TimeoutError):
            tell(
                log.warning,
                "%s: another process holds the lock of the token store %s for too long; this one goes on without it",
                self._host, place.name,
            )  # fmt: skip
        else:
            self._fails(place, "lock", words(holding.error))
        return None

    def _is_open(self, place: Place) -> bool:
        return self._left[place] > 0 and not place.is_away(self._clock.monotonic())

    def _load(self, place: Place) -> AccessToken | None:
        return self._seal.open(self._ask(place, "load", self._seal.key))

    def _save(self, token: AccessToken, places: Sequence[Place]) -> None:
        value, ttl = self._seal.close(token), token.deadline - self._clock.now()
        for place in places:
            self._ask(place, "save", self._seal.key, value, ttl)

    def _ask(self, place: Place, operation: str, *arguments: object) -> object:
        """Have a store do something; None where it is away, fails, or takes too long."""
        if not self._is_open(place):
            return None
        started = time.monotonic()
        try:
            call = Call(partial(getattr(place.store, operation), *arguments))
            came_back = call.wait(self._left[place])
        except RuntimeError as error:  # no thread is to be had
            self._fails(place, operation, words(error))
            return None
        finally:
            self._left[place] -= time.monotonic() - started
        if not came_back:
            why = f"it did not answer within {self._share:g} seconds; see whether its server or file system hangs"
            self._fails(place, operation, why, call)
            return None
        if call.error is not None:
            self._fails(place, operation, words(call.error))
            return None
        place.works(self._host, operation)
        return call.answer

    def _fails(self, place: Place, operation: str, why: str, call: Call | None = None) -> None:
        place.fails(self._host, self._clock.monotonic(), operation, why, call)


def _is_older(token: AccessToken | None, latest: AccessToken) -> bool:
    return token is None or token.dated < latest.dated
