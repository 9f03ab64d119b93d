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
from ._locks import Renewed
from ._token import AccessToken

TokenCache: TypeAlias = MutableMapping[Any, Any]

CACHE_SIZE = 65_536
"""Tokens that the cache of the process holds: (appkey, host) pairs."""

log = logging.getLogger("kiwoom_auth_plugin")


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

    def look_up(self, digest: bytes) -> AccessToken | None:
        """The valid token that was issued for the secretkey with this digest."""
        try:
            with self._mutex.lock:
                token: object = self._cache.get(self._key)
        except Exception as error:  # noqa: BLE001 - a user's mapping may raise anything
            self._warn("could not be read", error)
            return None
        if not isinstance(token, AccessToken) or token.secret_digest != digest:
            return None
        return token if self._clock.now() < token.deadline else None

    def put(self, token: AccessToken, still_wanted: Callable[[], bool]) -> None:
        """Keep the token, unless it has been refused meanwhile."""
        try:
            with self._mutex.lock:
                if still_wanted():
                    self._cache[self._key] = token
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("did not take the token", error)

    def evict(self, value: str) -> None:
        """Forget the token with this value, and no other."""
        try:
            with self._mutex.lock:
                token: object = self._cache.get(self._key)
                if isinstance(token, AccessToken) and token.value == value:
                    del self._cache[self._key]
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("did not drop the token", error)

    def _warn(self, what: str, error: Exception) -> None:
        log.warning("%s: the cache %s: %s", self._key[1], what, type(error).__name__)
