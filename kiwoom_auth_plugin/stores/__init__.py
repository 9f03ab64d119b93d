"""Stores that share the access token with other processes and machines; none of their libraries is imported unasked."""

from ._file import FileStore
from ._protocol import TokenStore
from ._redis import RedisStore

__all__ = ["FileStore", "RedisStore", "TokenStore"]
