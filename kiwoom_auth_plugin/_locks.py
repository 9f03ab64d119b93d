"""Locks that neither a fork nor a signal handler or finaliser that comes back to them can leave locked for ever."""

import os
import threading
import weakref
from contextlib import suppress
from typing import Any


def lock_for_the_process() -> Any:
    """A re-entrant lock that a fork waits for, so that the child finds what it guards whole, and the lock free.

    It is never given back: for modules, not for objects.
    """
    lock = threading.RLock()
    with suppress(AttributeError):  # Windows does not fork
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class Renewed:
    """Holds a re-entrant lock that may be held for long; after a fork the child has another, which is free.

    Args:
        lock: one for the process, which needs no renewal. None: one of its own.
    """

    __slots__ = ("__weakref__", "busy", "lock")

    def __init__(self, lock: Any = None) -> None:
        self.busy = False
        """Whether what it guards is being changed; whoever holds the lock and finds it so has come back to it."""
        self.lock: Any = lock
        if lock is None:
            self.lock = threading.RLock()
            _renewed.add(self)


_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def _renew_all() -> None:
    for holder in _renewed:
        holder.lock = threading.RLock()
        holder.busy = False


with suppress(AttributeError):  # as above
    os.register_at_fork(after_in_child=_renew_all)
