"""The arguments of ``KiwoomBearerAuth``, checked: an error names the argument, never its value."""

import math
from inspect import iscoroutinefunction
from typing import Any

import requests

from . import _httpx
from ._cache import TokenCache
from ._place import LONGEST_CHAIN, MAX_DELAY, chain
from .stores import TokenStore
from .stores._protocol import STORE_METHODS, checked_delay, has_methods, require

LONGEST_TIMEOUT = 86_400.0
"""Seconds: threads can wait so long on every platform."""

_CLIENTS: tuple[type, ...] = (requests.Session, *(module.Client for module in _httpx.FAMILY))


def mapping(cache: TokenCache | None) -> TokenCache | None:
    """The ``cache`` argument."""
    if cache is not None and not has_methods(cache, "get", "__setitem__", "__delitem__"):
        raise TypeError("cache must be a mutable mapping, such as a cachetools cache")
    return cache


def token_store(store: TokenStore | None) -> TokenStore | None:
    """The ``store`` argument.

    Raises:
        ImportError: what is kept in a store is sealed, and the package for that is missing.
    """
    if store is not None:
        for link, name in zip(chain(store), ("store", *["the fallback of store"] * LONGEST_CHAIN), strict=False):
            if not has_methods(link, *STORE_METHODS):
                raise TypeError(f"{name} must have the methods of a TokenStore: load, save, delete and lock")
            checked_delay(getattr(link, "max_delay", MAX_DELAY))
        # All that a seal needs, now: a child forked in the middle of an import could never import it again.
        require("file", "cryptography", "cryptography.fernet", "cryptography.hazmat.primitives.kdf.hkdf")
    return store


def sync_client(client: Any) -> Any:
    """The ``client`` argument."""
    if client is not None and not isinstance(client, _CLIENTS):
        raise TypeError("client must be a requests.Session, an httpx.Client or an httpx2.Client")
    return client


def listener(on_event: Any) -> Any:
    """The ``on_event`` argument."""
    if on_event is not None:
        if not callable(on_event):
            raise TypeError("on_event must be callable")
        if iscoroutinefunction(on_event) or iscoroutinefunction(type(on_event).__call__):
            raise TypeError("on_event must be an ordinary function: nobody would await a coroutine")
    return on_event


def seconds(name: str, value: object) -> float:
    """The argument with this name, a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name} must be a finite number of seconds, not negative")
    return number
