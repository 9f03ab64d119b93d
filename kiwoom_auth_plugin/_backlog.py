"""What is done in the background, one thing after the other: however much there is, it takes one thread."""

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress

from ._locks import lock_for_the_process

_mutex = lock_for_the_process()


class Backlog:
    """Things to do, each of them once.

    Args:
        name: of the thread that does them. It is no daemon: what is to be done is done before the program ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._todo: dict[Hashable, Callable[[], object]] = {}
        self._worker: threading.Thread | None = None

    def add(self, key: Hashable, do: Callable[[], object]) -> None:
        """Have it done, unless the same waits to be done already. Where no thread is to be had, it waits for the next.

        Args:
            key: equal for the same.
            do: raises nothing.
        """
        with _mutex:
            self._todo.setdefault(key, do)
            if self._worker is not None and self._worker.is_alive():  # in the child of a fork it is not
                return
            self._worker = worker = threading.Thread(target=self._work, name=self._name)
        with suppress(RuntimeError):
            worker.start()

    def _work(self) -> None:
        while True:
            with _mutex:
                if not self._todo:
                    self._worker = None
                    return
                key = next(iter(self._todo))
                do = self._todo.pop(key)
            do()
