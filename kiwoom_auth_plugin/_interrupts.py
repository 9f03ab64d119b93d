"""Whose an exception is that comes in the middle of the code of others: a signal handler's is its caller's alone."""

import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from inspect import CO_VARARGS
from itertools import pairwise
from types import FrameType

_GREENLETS = frozenset({"eventlet", "gevent", "greenlet"})
_MARK = "_kiwoom_interrupt"


def is_an_interrupt(error: BaseException) -> bool:
    """Whether it is meant to interrupt this thread, whatever that is doing.

    Such are Ctrl-C, what a signal handler raises (a time limit, the exit of a SIGTERM's), and what kills a greenlet or
    ends its time.
    """
    if isinstance(error, KeyboardInterrupt) or hasattr(error, _MARK):
        return True
    if not isinstance(error, Exception):
        if any(kind.__module__.partition(".")[0] in _GREENLETS for kind in type(error).__mro__):
            return True
        if isinstance(error, SystemExit) and threading.current_thread() is threading.main_thread():
            return True
    return _is_of_a_handler(error)


def interrupt_in(error: BaseException, before: BaseException | None) -> BaseException | None:
    """The interrupt that an exception was made of: libraries take a TimeoutError of a signal handler's for their own.

    Args:
        error: the exception.
        before: the one that was being handled already, which had no part in it.
    """
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link is not before and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    # The innermost one: urllib3 gives what it makes of it the same traceback.
    return next(filter(is_an_interrupt, reversed(links)), None)


def keep_known(error: BaseException) -> None:
    """Let an interrupt be known as one even without its traceback."""
    if is_an_interrupt(error):
        with suppress(Exception):  # a class of the user's may allow no attributes
            setattr(error, _MARK, True)


def _is_of_a_handler(error: BaseException) -> bool:
    """Whether a frame that it comes from was called as Python calls a signal handler: for the one that called it."""
    frames = (frame for frame, _line in traceback.walk_tb(error.__traceback__))
    return any(
        isinstance(number, int) and frame is interrupted
        for interrupted, called in pairwise(frames)
        for number, frame in pairwise(_positional(called))
    )


def _positional(frame: FrameType) -> Iterator[object]:
    """What the function was called with, as far as its variables still hold it."""
    code = frame.f_code
    values = frame.f_locals
    for name in code.co_varnames[: code.co_argcount]:
        yield values.get(name)
    if code.co_flags & CO_VARARGS:
        name = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        rest = values.get(name)
        if isinstance(rest, tuple):
            yield from rest
