"""Locks that a fork cannot leave locked for ever in the child."""

import os
import threading
import weakref
from contextlib import suppress


def lock_for_the_process() -> threading.Lock:
    """A lock that a fork waits for, so that the child finds what it guards whole, and the lock free.

    It is never given back: for modules, not for objects.
    """
    lock = threading.Lock()
    with suppress(AttributeError):  # Windows does not fork
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class Renewed:
    """Holds a lock that may be held for long; after a fork the child has another, which is free.

    Args:
        lock: the one to begin with.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self, lock: "threading.Lock | None" = None) -> None:
        self.lock = threading.Lock() if lock is None else lock
        _renewed.add(self)


_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def _renew_all() -> None:
    for holder in _renewed:
        holder.lock = threading.Lock()


with suppress(AttributeError):  # as above
    os.register_at_fork(after_in_child=_renew_all)
