"""What is done in the background: however much there is, it takes a few threads."""

import os
import threading
import time
from collections.abc import Callable, Collection, Hashable
from typing import Any

from ._interrupts import is_an_interrupt, is_main
from ._locks import lock_for_the_process
from ._threads import NoThread, is_ending, start

MOST_WORKERS = 4
BUSY_FOR_LONG = 5.0
"""Seconds after which a worker counts no longer: it hangs, in a vault say, and the others are not to wait for it..."""
MOST_BUSY_FOR_LONG = 28
"""...but for so many."""

_mutex = lock_for_the_process()


class Backlog:
    """Things to do, in batches: what waits to be done for the same is done at once.

    Args:
        name: of the threads that do them. They are no daemons: all is done before the program ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._todo: dict[Hashable, tuple[Callable[[Collection[Any]], object], set[Any]]] = {}
        self._doing: dict[Hashable, float] = {}
        """Since when each is done."""
        self._workers: list[threading.Thread] = []
        self._pid = os.getpid()

    def add(self, key: Hashable, do: Callable[[Collection[Any]], object], item: Hashable) -> None:
        """Have it done: by now where nothing waits for threads any more, as in an atexit handler.

        Where no thread is to be had, it waits for the next that is added.

        Args:
            key: equal for what may be done at once.
            do: is called with the items.
            item: one of them.
        """
        worker = threading.Thread(target=self._work, name=self._name, daemon=False)
        with _mutex:
            if self._pid != os.getpid():  # after a fork: what waited is the parent's to do
                self._todo, self._doing, self._pid = {}, {}, os.getpid()
            self._todo.setdefault(key, (do, set()))[1].add(item)
            is_last = (is_ending() and is_main()) or not self._hire(worker)
        if is_last:
            self._work()

    def _hire(self, worker: threading.Thread) -> bool:
        """Start another worker if there are too few; the mutex is held.

        Returns:
            False where none will ever start any more.
        """
        # One that an interrupt has kept from starting is none.
        self._workers = [one for one in self._workers if one.is_alive()]
        free, wanted = len(self._workers) - len(self._doing), len(self._todo.keys() - self._doing.keys())
        long_ago = time.monotonic() - BUSY_FOR_LONG
        hanging = sum(since < long_ago for since in self._doing.values())
        if free >= wanted or len(self._workers) - min(hanging, MOST_BUSY_FOR_LONG) >= MOST_WORKERS:
            return True
        self._workers.append(worker)
        try:
            start(worker)  # under the mutex: to others, one that has not started is none
        except NoThread as refusal:
            return refusal.ever
        return True

    def _work(self) -> None:
        while True:
            with _mutex:
                key = next((key for key in list(self._todo) if key not in self._doing), None)
                if key is None:
                    self._workers = [one for one in self._workers if one is not threading.current_thread()]
                    return
                do, items = self._todo.pop(key)
                self._doing[key] = time.monotonic()
            try:
                do(items)
            except BaseException as error:  # a user's store or vault may raise anything
                if is_main() and is_an_interrupt(error):
                    raise
            finally:
                with _mutex:
                    self._doing.pop(key, None)
