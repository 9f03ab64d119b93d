"""The cachetools cache, under the mutex without which it breaks.

cachetools is not thread-safe, not even for reads, so every access to a cache is under that cache's mutex. It is held
for operations on the mapping only. A mapping of the user's may be slow, so no event loop's thread ever waits for it but
in calls that are synchronous anyway, and nobody waits for the cache of another.
"""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, TypeAlias

import cachetools

from ._clock import SYSTEM, Clock
from ._interrupts import is_an_interrupt
from ._locks import Renewed
from ._log import Log, Note
from ._token import AccessToken

TokenCache: TypeAlias = MutableMapping[Any, Any]

CACHE_SIZE = 65_536
"""Tokens that the cache of the process holds: (appkey, host) pairs."""


def _time_to_use(_key: object, token: AccessToken, _now: float) -> float:
    return token.deadline


DEFAULT_CACHE: TokenCache = cachetools.TLRUCache(CACHE_SIZE, _time_to_use, timer=SYSTEM.now)


class Slot:
    """A token's place in a cache. A cache that fails is an empty one: it must not cost the token.

    Args:
        cache: any mutable mapping.
        key: (appkey, host).
        clock: the time.
        mutex: the cache's.
    """

    __slots__ = ("_cache", "_clock", "_key", "_mutex")

    def __init__(self, cache: TokenCache, key: tuple[str, str], clock: Clock, mutex: Renewed) -> None:
        self._cache = cache
        self._key = key
        self._clock = clock
        self._mutex = mutex

    def look_up(self, digest: bytes, log: Log) -> AccessToken | None:
        """The valid token that was issued for the secretkey with this digest."""
        token = self._guarded("could not be read", lambda: self._cache.get(self._key), log)
        if not isinstance(token, AccessToken) or token.secret_digest != digest:
            return None
        return token if self._clock.now() < token.deadline else None

    def put(self, token: AccessToken, still_wanted: Callable[[], bool], log: Log) -> None:
        """Keep the token, unless it has been refused meanwhile."""

        def put() -> None:
            if still_wanted():
                self._cache[self._key] = token

        self._guarded("did not take the token", put, log)

    def evict(self, value: str, log: Log) -> None:
        """Forget the token with this value, and no other."""

        def evict() -> None:
            token: object = self._cache.get(self._key)
            if isinstance(token, AccessToken) and token.value == value:
                del self._cache[self._key]

        self._guarded("did not drop the token", evict, log)

    def _guarded(self, complaint: str, operation: Callable[[], object], log: Log) -> object:
        """Run an operation on the cache under its mutex; a failure is told, and gives None."""
        mutex = self._mutex
        try:
            with mutex.lock:
                if mutex.busy:
                    return None  # a signal handler has come in the middle of another operation
                try:
                    mutex.busy = True
                    return operation()
                finally:
                    mutex.busy = False
        except Exception as error:  # a user's mapping may raise anything
            if is_an_interrupt(error):
                raise
            log.tell(Note(logging.WARNING, "cache.failed", f"the cache {complaint}: {type(error).__name__}"))
            return None
