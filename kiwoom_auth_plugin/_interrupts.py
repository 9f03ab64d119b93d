"""Whose an exception is that comes in the middle of the code of others: a signal handler's is its caller's alone."""

import signal
import threading
import traceback
from functools import partial
from types import CodeType
from typing import Any

_GREENLETS = frozenset({"eventlet", "gevent", "greenlet"})


def is_an_interrupt(error: BaseException) -> bool:
    """Whether it is meant to interrupt this thread, whatever that is doing.

    Such are Ctrl-C, what a signal handler of the program's raises in the main thread (a time limit, the exit of a
    SIGTERM's), and what kills a greenlet or ends its time.
    """
    if isinstance(error, KeyboardInterrupt):
        return True
    if not isinstance(error, Exception) and type(error).__module__.partition(".")[0] in _GREENLETS:
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(error, SystemExit) or _is_of_a_handler(error)


def _is_of_a_handler(error: BaseException) -> bool:
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _line in traceback.walk_tb(error.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    """What runs where the handler is called: it may be a function, a method, a partial, or an object of a class."""
    while isinstance(handler, partial):
        handler = handler.func
    call = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)  # noqa: B004 - its code
    return getattr(call, "__code__", None)
