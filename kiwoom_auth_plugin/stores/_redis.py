"""``RedisStore``: tokens shared through Redis or Valkey, by processes on one machine or on many."""

import math
import os
import re
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from kiwoom_auth_plugin._chance import chance
from kiwoom_auth_plugin._locks import Renewed

from ._protocol import STORE_METHODS, Lock, TokenStore, checked_delay, has_methods, require

_NAMESPACE = re.compile(r"[!-~]{1,200}")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.2
_SIZE_LIMIT = 64 * 1024
"""Bytes; of a larger value one more is read, by which it shows: whoever writes to Redis can make one of 512 MiB."""
_LONGEST_LEASE = 25 * 3600.0
"""Seconds: more than the longest time-out, with a store's longest delay, comes to."""

# SET may have been carried out and its answer lost, or the client may have sent it twice. Asked of a script since a
# read may be answered by a replica that does not know yet; SET renews the lease, which began with the answer that was
# lost. A lock that never ends, or later than any lease, is none of ours, and nobody would give it back. A nonce has 32
# characters: of a value that is longer, 33 are enough to tell it from one. What is no string is none of ours either:
# there pcall gives an error, and no nonce.
_CLAIM = """
if redis.pcall('getrange', KEYS[1], 0, 32) ~= ARGV[1] then
  local left = redis.call('pttl', KEYS[1])
  if left ~= -1 and left <= tonumber(ARGV[3]) then return 0 end
end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.pcall('getrange', KEYS[1], 0, 32) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""


class RedisStore:
    """Shares tokens through a Redis or Valkey server, under ``<namespace>:<key>`` and ``<namespace>:<key>:lock``.

    It sends GETRANGE, SET, DEL and EVAL, each with one key, and PTTL in a script: a cluster will do, and so will a user
    who may do no more. The client's timeouts and retries are its own. Machines behind different public IP addresses
    need different namespaces: Kiwoom binds a token to the address it was issued to (8010).

    Args:
        client: a synchronous client of redis-py or valkey-py, whatever its options: redis.Redis, ``from_url()``, a
            Sentinel's ``master_for()``, redis.RedisCluster. It is not asked for a connection before it is needed.
        namespace: what the names of the Redis keys begin with: 1 to 200 visible ASCII characters.
        fallback: another store, for the package to use while this one fails; None: it goes on without.
        max_delay: seconds that the store may delay an exchange with the token endpoint: more than 0, at most 60.

    Raises:
        ImportError: the extra ``[redis]`` is not installed.
        TypeError: an argument has the wrong type.
        ValueError: an argument has an impossible value.
    """

    _monotonic = staticmethod(time.monotonic)
    _sleep = staticmethod(time.sleep)

    def __init__(
        self,
        client: Any,
        namespace: str = "kiwoom-auth",
        fallback: TokenStore | None = None,
        *,
        max_delay: float = 2.0,
    ) -> None:
        require("redis", "redis", "cryptography")
        if not has_methods(client, "getrange", "set", "delete", "eval"):
            raise TypeError("client must be a Redis client, such as redis.Redis(), with getrange, set, delete and eval")
        if hasattr(client, "execute"):
            raise TypeError("client must be a Redis client, such as redis.Redis(), not one of its pipelines")
        if hasattr(client, "__aenter__"):
            raise TypeError("client must be a synchronous Redis client, such as redis.Redis(), not an asyncio one")
        if not isinstance(namespace, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not check types
            raise TypeError("namespace must be a string")
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError("namespace must be 1 to 200 visible ASCII characters, without white space")
        if fallback is not None and not has_methods(fallback, *STORE_METHODS):
            raise TypeError("fallback must be None or a store: it has load, save, delete and lock")
        self.namespace = namespace
        """What the names of the Redis keys begin with."""
        self.fallback = fallback
        """The store that is used while this one fails, or None."""
        self.max_delay = checked_delay(max_delay)
        """Seconds that the store may delay an exchange with the token endpoint."""
        self._client = client
        # With single_connection_client=True there is one connection, and older clients do not guard it.
        self._lone = getattr(client, "connection", None) is not None
        self._mutex = Renewed()
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self.namespace!r})"  # a client's repr may show a password

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RedisStore) or type(other) is not type(self):  # a subclass may keep it in another way
            return NotImplemented
        return (
            self._client is other._client
            and self.namespace == other.namespace
            and self.fallback == other.fallback
            and self.max_delay == other.max_delay
        )

    def __hash__(self) -> int:
        return hash((id(self._client), self.namespace, self.max_delay))  # a fallback need not have a hash

    def load(self, key: str) -> bytes | None:
        """The value that was saved last; None where there is none, it is empty, or it is over its time.

        Args:
            key: the token's key, as ``TokenStore`` has it.

        Returns:
            Of a value of more than 64 KiB, which is no token, the first 64 KiB and a byte.

        Raises:
            Exception: the client's, mostly redis.RedisError.
        """
        try:
            value = self._send("getrange", self._name(key), 0, _SIZE_LIMIT)
        except UnicodeDecodeError as error:  # decode_responses=True, and not what was saved, or cut within a character
            return error.object
        if isinstance(value, str):  # decode_responses=True
            value = value.encode(errors="surrogateescape")
        if isinstance(value, bytes):
            return value or None
        raise TypeError(f"the client answered GETRANGE with a value of type {type(value).__name__}")

    def save(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for ``ttl`` seconds, in place of the one before.

        Args:
            key: the token's key, as ``TokenStore`` has it.
            value: ASCII, at least a character and at most 64 KiB.
            ttl: seconds; rounded down to milliseconds.

        Raises:
            Exception: the client's, mostly redis.RedisError.
        """
        self._send("set", self._name(key), value, px=_milliseconds(ttl))

    def delete(self, key: str) -> None:
        """Forget the value; nothing happens where there is none.

        Args:
            key: the token's key, as ``TokenStore`` has it.

        Raises:
            Exception: the client's, mostly redis.RedisError.
        """
        self._send("delete", self._name(key))

    def lock(self, key: str, timeout: float) -> Lock:
        """The key's lock: at most one holder while the ``with`` block lasts, for ``timeout`` seconds at most.

        Args:
            key: the token's key, as ``TokenStore`` has it.
            timeout: seconds that the server keeps the lock of a holder that does not give it back; 25 hours at most.

        Raises:
            TimeoutError: others have held it for twice as long.
            Exception: the client's, mostly redis.RedisError.
        """
        return Lock(partial(self._hold, self._name(key) + b":lock", timeout))

    @contextmanager
    def _hold(self, name: bytes, timeout: float, contended: Callable[[], None]) -> Generator[None]:
        nonce = secrets.token_hex(16).encode()
        try:
            self._acquire(name, nonce, timeout, contended)
            yield
        except BaseException:
            # Also where it seems not to have been acquired: the answer may have been lost.
            with suppress(Exception):
                self._send("eval", _RELEASE, 1, name, nonce)
            raise
        self._send("eval", _RELEASE, 1, name, nonce)  # if this fails the lease ends the lock

    def _acquire(self, name: bytes, nonce: bytes, timeout: float, contended: Callable[[], None]) -> None:
        longest = _milliseconds(_LONGEST_LEASE)
        lease = min(_milliseconds(timeout), longest)
        pause = _FIRST_PAUSE
        # The lease of a holder that died, and time for the next one to bring what all of them wait for.
        deadline = self._monotonic() + 2 * timeout
        while not self._send("set", name, nonce, nx=True, px=lease):
            if self._send("eval", _CLAIM, 1, name, nonce, lease, longest):
                return
            contended()
            left = deadline - self._monotonic()
            if left <= 0:
                raise TimeoutError(f"others have held the lock for {2 * timeout:g} seconds")
            self._sleep(min(left, pause * chance.uniform(0.5, 1)))
            pause = min(1.5 * pause, _LONGEST_PAUSE)

    def _name(self, key: str) -> bytes:
        return f"{self.namespace}:{key}".encode()

    def _send(self, command: str, *arguments: Any, **options: Any) -> Any:
        if not self._lone:
            return getattr(self._client, command)(*arguments, **options)
        with self._mutex.lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._client.connection.disconnect()  # a fork's copy: the parent's stays open
            return getattr(self._client, command)(*arguments, **options)


def _milliseconds(seconds: float) -> int:
    return max(1, math.floor(seconds * 1000))
