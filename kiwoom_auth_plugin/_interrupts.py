"""Whose an exception is that comes in the middle of the code of others: a signal handler's is its caller's alone."""

import dis
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from inspect import CO_VARARGS
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, cast

_GREENLETS = frozenset({"eventlet", "gevent", "greenlet"})
_MARK = "_kiwoom_interrupt"


def is_an_interrupt(error: BaseException) -> bool:
    """Whether it is meant to interrupt this thread, whatever that is doing.

    Such are Ctrl-C, what a signal handler raises in the main thread (a time limit, the exit of a SIGTERM's), and what
    kills a greenlet or ends its time.
    """
    kind = type(error)  # not isinstance(), which asks the exception: it may be of any kind
    if issubclass(kind, KeyboardInterrupt):
        return True
    if not issubclass(kind, Exception):
        if any(str(base.__module__).partition(".")[0] in _GREENLETS for base in kind.__mro__):
            return True
        if issubclass(kind, SystemExit) and is_main():
            return True
    # Handlers run in the main thread. What another one gets from there, by a future say, has failed for it.
    return is_main() and (_MARK in _own(error, "__dict__") or _is_of_a_handler(error))


def interrupt_in(
    error: BaseException, before: BaseException | None, is_known: Callable[[object], bool]
) -> BaseException | None:
    """The interrupt that an exception was made of: libraries take a TimeoutError of a signal handler's for their own.

    Args:
        error: the exception.
        before: the one that was being handled already, which had no part in it.
        is_known: whether a module, by its name, makes exceptions of others without meaning to. Who else does so has
            handled the interrupt.
    """
    found: BaseException | None = None
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and link is not before and id(link) not in seen:
        seen.add(id(link))
        if is_an_interrupt(link):
            found = link  # the innermost one: urllib3 gives what it makes of it the same traceback
        elif not all(is_known(frame.f_globals.get("__name__")) for frame in _frames(link)[-1:]):
            break
        cause = _own(link, "__cause__")
        link = _own(link, "__context__") if cause is None else cause
    return found


def keep_known(error: BaseException) -> None:
    """Let an interrupt be known as one even without its traceback."""
    if is_an_interrupt(error):
        _own(error, "__dict__")[_MARK] = True


def is_main() -> bool:
    """Whether this is the main thread, in which signal handlers run."""
    return threading.current_thread() is threading.main_thread()


def _own(error: BaseException, name: str) -> Any:
    """An attribute, whatever its class makes of the access to attributes."""
    return object.__getattribute__(error, name)


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _line in traceback.walk_tb(_own(error, "__traceback__"))]


def _is_of_a_handler(error: BaseException) -> bool:
    """Whether a frame that it comes from was called as Python calls a signal handler: for one that it interrupts."""
    frames = _frames(error)
    # Cython's own frames may stand between the two.
    interrupted = {id(frame) for frame in frames}
    for called in frames[1:]:
        arguments = pairwise(_positional(called))
        if any(isinstance(number, int) and id(frame) in interrupted for number, frame in arguments):
            return True
    installed = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    return any(frame.f_code in installed and _forgets_its_arguments(frame.f_code) for frame in frames)


def _positional(frame: FrameType) -> Iterator[object]:
    """What the function was called with, as far as its variables still hold it."""
    code = frame.f_code
    values = frame.f_locals
    for name in code.co_varnames[: code.co_argcount]:
        yield values.get(name)
    if code.co_flags & CO_VARARGS:
        rest = values.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount])
        yield from rest if isinstance(rest, tuple) else ()


def _code_of(handler: Any) -> CodeType | None:
    """What runs where the handler is called: it may be a function, a method, a partial, or an object of a class.

    None where it can be called without arguments, too: it may be somebody else who has done so.
    """
    while isinstance(handler, partial):
        handler = handler.func
    call = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)  # noqa: B004 - its code
    code: CodeType | None = getattr(call, "__code__", None)
    given = len(getattr(call, "__defaults__", None) or ()) + (getattr(call, "__self__", None) is not None)
    return code if code is not None and code.co_argcount > given else None


def _forgets_its_arguments(code: CodeType) -> bool:
    """Whether it deletes an argument, as one does with what is not used, or puts something else in its place."""
    own = set(code.co_varnames[: code.co_argcount])
    for step in dis.get_instructions(code):
        if step.opname.startswith(("STORE_FAST", "STORE_DEREF", "DELETE_FAST", "DELETE_DEREF")):
            names = cast("tuple[str, ...] | str", step.argval)  # two of them where Python does two steps in one
            if own.intersection((names,) if isinstance(names, str) else names):
                return True
    return False
