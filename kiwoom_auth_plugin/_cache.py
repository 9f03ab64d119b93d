"""The cachetools cache, and the mutex without which it breaks.

cachetools is not thread-safe, not even for reads, so every access to a cache is under one mutex. It is held for
operations on the mapping only. A mapping of the user's may be slow, so no event loop's thread ever waits for it but in
calls that are synchronous anyway.
"""

import logging
import os
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

import cachetools

from ._clock import SYSTEM, Clock
from ._token import AccessToken

TokenCache: TypeAlias = MutableMapping[Any, Any]

CACHE_SIZE = 65_536
"""Tokens that the cache of the process holds: (appkey, host) pairs."""

log = logging.getLogger("kiwoom_auth_plugin")


def fork_safe_lock() -> threading.Lock:
    """A lock that a fork waits for, so that a child finds what it guards whole, and the lock free."""
    lock = threading.Lock()
    with suppress(AttributeError):  # Windows does not fork
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


_mutex = fork_safe_lock()


def _time_to_use(_key: object, token: AccessToken, _now: float) -> float:
    return token.deadline


DEFAULT_CACHE: TokenCache = cachetools.TLRUCache(CACHE_SIZE, _time_to_use, timer=SYSTEM.now)


class Slot:
    """A token's place in a cache. A cache that fails is an empty one: it must not cost the token.

    Args:
        cache: any mutable mapping.
        key: (appkey, host).
        clock: the time.
    """

    __slots__ = ("_cache", "_clock", "_key")

    def __init__(self, cache: TokenCache, key: tuple[str, str], clock: Clock) -> None:
        self._cache = cache
        self._key = key
        self._clock = clock

    def look_up(self, digest: bytes) -> AccessToken | None:
        """The valid token that was issued for the secretkey with this digest."""
        try:
            with _mutex:
                token: object = self._cache.get(self._key)
        except Exception as error:  # noqa: BLE001 - a user's mapping may raise anything
            self._warn("could not be read", error)
            return None
        if not isinstance(token, AccessToken) or token.secret_digest != digest:
            return None
        return token if self._clock.now() < token.deadline else None

    def put(self, token: AccessToken, still_wanted: Callable[[], bool]) -> None:
        """Keep the token, unless another has come meanwhile."""
        try:
            with _mutex:
                if still_wanted():
                    self._cache[self._key] = token
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("did not take the token", error)

    def evict(self, value: str) -> None:
        """Forget the token with this value, and no other."""
        try:
            with _mutex:
                token: object = self._cache.get(self._key)
                if isinstance(token, AccessToken) and token.value == value:
                    del self._cache[self._key]
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("did not drop the token", error)

    def _warn(self, what: str, error: Exception) -> None:
        log.warning("%s: the cache %s: %s", self._key[1], what, type(error).__name__)
