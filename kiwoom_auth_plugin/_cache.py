"""The cachetools cache, and the mutex without which it breaks.

cachetools is not thread-safe, not even for reads. All caches, and all that the token sources know, are read and changed
under this one mutex. It is held for dictionary operations only: never across input or output, a ``yield`` or an
``await``.
"""

import logging
import os
import threading
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import cachetools

from ._clock import SYSTEM, Clock
from ._token import AccessToken

TokenCache: TypeAlias = MutableMapping[Any, Any]

CACHE_SIZE = 65_536
"""Tokens that the cache of the process holds: (appkey, host) pairs."""

log = logging.getLogger("kiwoom_auth_plugin")

mutex = threading.Lock()
# A fork waits until no dictionary is half changed; the child starts with the mutex free.
with suppress(AttributeError):  # Windows does not fork
    os.register_at_fork(before=mutex.acquire, after_in_parent=mutex.release, after_in_child=mutex.release)


@contextmanager
def changing() -> Generator[list[str]]:
    """Hold the mutex, and log what was noted only after it is free: a log handler may call anything."""
    notes: list[str] = []
    try:
        with mutex:
            yield notes
    finally:
        for note in notes:
            log.warning("%s", note)


def _time_to_use(_key: object, token: AccessToken, _now: float) -> float:
    return token.deadline


DEFAULT_CACHE: TokenCache = cachetools.TLRUCache(CACHE_SIZE, _time_to_use, timer=SYSTEM.now)


class Slot:
    """A token's place in a cache. The mutex is held by whoever calls; what goes wrong is noted for the log.

    A cache that fails is an empty one: it must not cost the token.

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

    def look_up(self, digest: bytes, notes: list[str]) -> AccessToken | None:
        """The valid token that was issued for the secretkey with this digest."""
        token = self._entry(notes)
        if token is None or token.secret_digest != digest or self._clock.now() >= token.deadline:
            return None
        return token

    def put(self, token: AccessToken, notes: list[str]) -> None:
        """Keep the token."""
        try:
            self._cache[self._key] = token
        except Exception as error:  # noqa: BLE001 - a user's mapping may raise anything
            notes.append(f"{self._key[1]}: the cache did not take the token: {type(error).__name__}")

    def evict(self, value: str | None, notes: list[str]) -> None:
        """Forget the token with this value, and no other."""
        token = self._entry(notes) if value is not None else None
        if token is None or token.value != value:
            return
        try:
            del self._cache[self._key]
        except Exception as error:  # noqa: BLE001 - as above
            notes.append(f"{self._key[1]}: the cache did not drop the token: {type(error).__name__}")

    def _entry(self, notes: list[str]) -> AccessToken | None:
        try:
            entry: object = self._cache.get(self._key)
        except Exception as error:  # noqa: BLE001 - as above
            notes.append(f"{self._key[1]}: the cache could not be read: {type(error).__name__}")
            return None
        return entry if isinstance(entry, AccessToken) else None
