"""What is kept of the latest only, and stays usable wherever a signal's handler raises."""

import signal

import pytest

from kiwoom_auth_plugin._recent import Recent

from .crowd import run_python

INTERRUPTED_EVERYWHERE = """
import sys
from kiwoom_auth_plugin._recent import Recent

class Interrupt(BaseException):
    pass

def interrupted_at(step):
    recent = Recent(2)
    for name in ("a", "b"):
        recent.keep(name, name)
    left = step

    def trace(frame, event, _argument):
        nonlocal left
        frame.f_trace_opcodes = True
        if event in {"opcode", "line"}:  # Python 3.12 has no opcodes of a frame that it is in already
            left -= 1
            if left == 0:
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        recent.keep("c", "c")
    except Interrupt:
        return recent, True
    finally:
        sys.settrace(None)
    return recent, False

step, was_interrupted = 0, True
while was_interrupted:
    step += 1
    recent, was_interrupted = interrupted_at(step)
    for name in ("d", "a", "e"):
        recent.keep(name, name)
    assert dict(recent) == {"a": "a", "e": "e"}, (step, recent)
assert step > 4, step
"""


def test_an_interrupt_anywhere_leaves_it_whole():
    done = run_python(INTERRUPTED_EVERYWHERE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", [1, None])
def test_what_cannot_be_found_any_more_stays_and_nobody_waits_for_it(number):
    class Counter:
        number = 0

        def __hash__(self):
            if self.number is None:
                raise ValueError
            return self.number

    recent, counter = Recent(2), Counter()
    for key in (counter, "a"):
        recent.keep(key, key)
    counter.number = number
    for key in ("b", "c"):
        recent.keep(key, key)
    assert list(recent) == [counter, "b", "c"]


def test_what_a_signal_handler_raises_as_an_old_key_is_looked_up_reaches_the_caller():
    class Key:
        fails = False

        def __hash__(self):
            if self.fails:
                signal.raise_signal(signal.SIGINT)
            return 1

    def time_is_up(_number, _frame):
        raise TimeoutError

    recent, key = Recent(1), Key()
    recent.keep(key, key)
    key.fails = True
    before = signal.signal(signal.SIGINT, time_is_up)
    try:
        with pytest.raises(TimeoutError):
            recent.keep("b", "b")
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_latest_are_kept_and_what_is_kept_again_is_among_them():
    recent = Recent(2)
    for name in ("a", "b", "a", "c"):
        recent.keep(name, name.upper())
    assert dict(recent) == {"a": "A", "c": "C"}
