"""Starting threads, and that there may be none."""

import threading

from ._interrupts import is_an_interrupt


class NoThread(Exception):
    """No thread is to be had; the words are Python's.

    Attributes:
        ever: whether there may be one later: the program does not end.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        # Python 3.12 starts none any more once the main thread has ended, and says so before it counts as ended.
        self.ever = not (is_ending() or "interpreter shutdown" in why)


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        NoThread: none is to be had.
    """
    try:
        thread.start()
    except RuntimeError as error:
        if is_an_interrupt(error):
            raise
        why = str(error)
    else:
        return
    raise NoThread(why)


def is_ending() -> bool:
    """Whether the program ends: the main thread has."""
    return not threading.main_thread().is_alive()
