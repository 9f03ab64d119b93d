"""The token sources of the process: one for the same keys, host and cache, however many auth objects there are."""

import weakref
from collections.abc import Hashable

import cachetools

from ._cache import DEFAULT_CACHE, Slot, TokenCache
from ._clock import Clock
from ._flight import Turn
from ._flights import mutex
from ._keys import Told
from ._locks import Renewed, lock_for_the_process
from ._log import Log
from ._recent import Recent
from ._source import TokenSource

_default_mutex = Renewed(lock_for_the_process())
_mutexes: weakref.WeakValueDictionary[int, Renewed] = weakref.WeakValueDictionary({id(DEFAULT_CACHE): _default_mutex})
_turns: weakref.WeakValueDictionary[Hashable, Turn] = weakref.WeakValueDictionary()
_sources: weakref.WeakValueDictionary[Hashable, TokenSource] = weakref.WeakValueDictionary()
# Auth objects may live for one call only: what a source has learnt of failures must outlive them.
_recent: Recent[Hashable, TokenSource] = Recent(1024)
# What these hold is looked up at once. Any other mapping may be slow, and this may be an event loop's thread.
_PROMPT = frozenset({dict, cachetools.LRUCache, cachetools.TTLCache, cachetools.TLRUCache})


def source_for(
    appkey: str, host: str, secret_identity: object, *, cache: TokenCache | None, clock: Clock, log: Log
) -> TokenSource:
    """The one source of these keys, host and cache.

    Args:
        appkey: with ``host`` the cache's key.
        host: the origin.
        secret_identity: equal for the same secretkey.
        cache: None for the one of the process.
        clock: the time.
        log: hears of a cache that fails.
    """
    where = DEFAULT_CACHE if cache is None else cache
    key = (appkey, host, secret_identity, id(where), id(clock))
    with mutex:
        source = _sources.get(key)
        if source is not None:
            _recent.keep(key, source)
            return source
        slot = Slot(where, (Told(appkey), host), clock, _mutexes.setdefault(id(where), Renewed()))
        turn = _turns.setdefault((id(where), appkey, host), Turn())
    made = TokenSource(host, slot, turn, clock)
    if type(where) in _PROMPT and isinstance(secret_identity, bytes):
        # Not under the mutex: a fork takes the locks in an order of its own.
        made.token = slot.look_up(secret_identity, log)
    with mutex:
        source = _sources.setdefault(key, made)
        _recent.keep(key, source)
    return source
