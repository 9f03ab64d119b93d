"""A store of a user's own: values in memory, and ways to make it fail, hang, or wait."""

import threading
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

from .crowd import PATIENCE

needs_stores = pytest.mark.skipif(
    any(find_spec(library) is None for library in ("cryptography", "filelock")), reason="needs the libraries of stores"
)


class Shelf:
    """What ``TokenStore`` asks for and no more; ``max_delay`` and ``fallback`` only where a test sets them."""

    def __init__(self):
        self.values = {}
        self.asked = []
        self.failing = {}
        self.hanging = set()
        self.hangs, self.go_on = threading.Event(), threading.Event()
        self.waits = threading.Event()
        self._locks = {}
        self._mutex = threading.Lock()

    def load(self, key):
        self._do("load")
        return self.values.get(key)

    def save(self, key, value, ttl):
        self._do("save")
        assert ttl > 0
        self.values[key] = value

    def delete(self, key):
        self._do("delete")
        self.values.pop(key, None)

    @contextmanager
    def lock(self, key, timeout):
        self._do("lock")
        with self._mutex:
            lock = self._locks.setdefault(key, threading.Lock())
        if not lock.acquire(blocking=False):
            self.waits.set()
            if not lock.acquire(timeout=timeout):
                raise TimeoutError
        try:
            yield
        finally:
            lock.release()
            self._do("release")

    def fail(self, error, *operations):
        """Have operations raise from now on."""
        self.failing = dict.fromkeys(operations or ("load", "save", "delete", "lock"), error)

    def hang(self, *operations):
        """Have operations not come back from now on, until ``go_on`` happens."""
        self.hanging = set(operations)

    def _do(self, operation):
        self.asked.append(operation)
        if operation in self.hanging:
            self.hangs.set()
            self.go_on.wait(PATIENCE)
        if operation in self.failing:
            raise self.failing[operation]
