"""One event for threads, asyncio loops and trio runs: who waits is woken, who leaves leaves nothing."""

import asyncio
import gc
import itertools
import signal
import sys
import threading
from importlib.util import find_spec
from types import ModuleType

import anyio
import pytest
import trio
import trio.testing

from kiwoom_auth_plugin import _event
from kiwoom_auth_plugin._event import Event, in_thread

from .crowd import PATIENCE, Crowd, run_python, tasks_waiting, watch_waiting


def test_it_wakes_threads_loops_and_runs_at_once(monkeypatch):
    event = Event()
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.threads(50, lambda: event.wait(PATIENCE))
    for backend in ("asyncio", "asyncio", "trio", "trio"):
        crowd.loop(backend, 100, lambda: event.wait_async(PATIENCE))
    crowd.go()
    wait_for_waiting(450)
    event.set()
    assert crowd.outcomes() == [True] * 450


@pytest.mark.anyio
async def test_one_that_has_happened_is_not_waited_for():
    event = Event()
    event.set()
    event.set()
    assert event.wait(0)
    assert await event.wait_async(PATIENCE)
    assert not tasks_waiting(event)


@pytest.mark.anyio
async def test_waiting_is_bounded_and_leaves_nothing_behind():
    event = Event()
    assert not event.wait(0.001)
    assert not event._doors
    assert not await event.wait_async(0.001)
    assert not tasks_waiting(event)


def test_a_thread_does_not_wait_where_no_time_is_left(monkeypatch):
    waited = []

    class Door:
        def acquire(self, timeout=None):
            waited.append(timeout)

    event = Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Lock", Door)
        for timeout in (-1.0, 0.0, 0.5):
            event.wait(timeout)
    assert [timeout for timeout in waited if timeout is not None] == [0.0, 0.0, 0.5]


@pytest.mark.anyio
async def test_one_that_leaves_takes_the_time_of_nobody_else_with_it():
    event = Event()
    async with anyio.create_task_group() as tasks:
        leaving = anyio.CancelScope()

        async def leave():
            with leaving:
                await event.wait_async(PATIENCE)

        tasks.start_soon(leave)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(leave_soon, leaving)
        with anyio.fail_after(PATIENCE):
            assert not await event.wait_async(0.05)


async def leave_soon(scope):
    scope.cancel()


def test_a_trio_that_is_only_half_imported_is_not_asked(monkeypatch):
    async def main():
        event = Event()
        asyncio.get_running_loop().call_soon(event.set)
        return await event.wait_async(PATIENCE)

    monkeypatch.setitem(sys.modules, "trio.lowlevel", ModuleType("trio.lowlevel"))
    assert asyncio.run(main())


def test_a_trio_task_is_woken_by_a_thread_though_its_clock_jumps():
    event = Event()
    timers = []

    def set_it():
        timers.extend((one.name, one.daemon) for one in threading.enumerate() if isinstance(one, threading.Timer))
        event.set()

    async def main():
        async with trio.open_nursery() as tasks:

            async def wait():
                assert await event.wait_async(PATIENCE)

            tasks.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(set_it)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert timers == [("kiwoom-auth-wait", True)]


def test_what_is_called_in_a_thread_outlives_the_daemon_that_calls_it():
    kinds = []

    def daemon():
        asyncio.run(in_thread(lambda: kinds.append(threading.current_thread().daemon), "a-name"))

    thread = threading.Thread(target=daemon, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert kinds == [False]


def test_an_interrupt_anywhere_in_a_wait_keeps_nobody_from_setting_it():
    """Signals are looked at as a function starts and ends: the lock of a threading.Event would stay locked."""
    for point in itertools.count(1):
        event, passed = Event(), itertools.count(1)

        def interrupt(_frame, happening, _argument, passed=passed, point=point):
            if happening != "c_call" and next(passed) == point:
                sys.setprofile(None)
                raise KeyboardInterrupt

        sys.setprofile(interrupt)
        try:
            event.wait(0.0)
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.setprofile(None)
        setter = threading.Thread(target=event.set, daemon=True)
        setter.start()
        setter.join(PATIENCE)
        assert not setter.is_alive()
        assert event.wait(PATIENCE)
        if not interrupted:
            break
    assert point > 5


def test_one_that_is_set_twice_at_once_wakes_all_the_same(monkeypatch):
    event, wait_for_waiting = Event(), watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.threads(1, lambda: event.wait(PATIENCE))
    crowd.go()
    wait_for_waiting(1)
    while not event._doors:
        pass
    (door,) = event._doors
    door.release()  # as the other one has done
    event.set()
    assert crowd.outcomes() in ([True], [False])
    assert event.has_happened


@pytest.mark.anyio
async def test_one_that_happens_as_the_time_is_over_has_happened(monkeypatch):
    event = Event()

    class Room:
        async def wait(self, _timeout):
            event.set()

    monkeypatch.setattr(Event, "_room_of", lambda *_loop_and_kind: Room())
    assert await event.wait_async(0.001)


@pytest.mark.anyio
async def test_waiting_is_bounded_again_after_everybody_has_left():
    event = Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(event.wait_async, PATIENCE)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert not await event.wait_async(0.001)


@pytest.mark.anyio
async def test_waiters_that_are_cancelled_leave_nothing_and_take_nobody_with_them(monkeypatch):
    event = Event()
    outcomes = []

    async def stay():
        outcomes.append(await event.wait_async(PATIENCE))

    async with anyio.create_task_group() as staying:
        async with anyio.create_task_group() as leaving:
            for _ in range(10):
                staying.start_soon(stay)
                leaving.start_soon(event.wait_async, PATIENCE)
            await anyio.wait_all_tasks_blocked()
            assert tasks_waiting(event) == 20
            leaving.cancel_scope.cancel()
        assert tasks_waiting(event) == 10
        event.set()
    assert outcomes == [True] * 10


@pytest.mark.anyio
async def test_a_waiter_cancelled_in_the_same_moment_is_no_matter():
    """Woken and cancelled before its loop has come round."""
    event = Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(event.wait_async, PATIENCE)
        await anyio.wait_all_tasks_blocked()
        event.set()
        tasks.cancel_scope.cancel()
    assert not tasks_waiting(event)


def test_a_waker_of_which_the_time_is_over_in_the_same_moment_is_no_matter():
    """The timer and the event both finish the waiting: an asyncio future takes only one result."""

    async def main():
        event = Event()
        failures = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        waiting = asyncio.ensure_future(event.wait_async(0))
        await asyncio.sleep(0)
        event.set()
        assert await waiting
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return failures

    assert asyncio.run(main()) == []


def test_a_closed_loop_is_skipped_and_the_others_are_woken(monkeypatch):
    event = Event()
    wait_for_waiting = watch_waiting(monkeypatch)
    loop = asyncio.new_event_loop()
    task = loop.create_task(event.wait_async(PATIENCE))
    loop.call_soon(loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False  # asyncio's own complaint about such a loop
    loop.close()
    crowd = Crowd()
    crowd.threads(1, lambda: event.wait(PATIENCE))
    crowd.loop("trio", 1, lambda: event.wait_async(PATIENCE))
    crowd.go()
    wait_for_waiting(3)
    event.set()
    assert crowd.outcomes() == [True] * 2
    del task
    gc.collect()


def test_a_finished_trio_run_is_skipped(monkeypatch):
    event = Event()

    async def main():
        with trio.move_on_after(0):
            await event.wait_async(PATIENCE)

    trio.run(main)
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.loop("asyncio", 1, lambda: event.wait_async(PATIENCE))
    crowd.go()
    wait_for_waiting(1)
    while len(event._rooms) < 2:  # the task has begun to wait, and comes to its room at once
        pass
    event.set()
    assert crowd.outcomes() == [True]


def test_waking_a_loop_may_come_back_to_the_event():
    """No lock is held meanwhile: whoever is woken may use it at once, in another thread."""
    event = Event()
    woken = []

    class Room:
        def wake(self):
            woken.append(threading.current_thread())
            if len(woken) == 1:
                there_and_back = threading.Thread(target=event.set, daemon=True)
                there_and_back.start()
                there_and_back.join(PATIENCE)
                assert not there_and_back.is_alive()

    event._rooms["a loop"] = Room()
    setter = threading.Thread(target=event.set, daemon=True)
    setter.start()
    setter.join(PATIENCE)
    assert not setter.is_alive()
    assert len(set(woken)) == 2
    assert not event._rooms


def test_many_tasks_of_a_loop_are_woken_by_one_call_to_it(monkeypatch):
    """Each would cost a system call: a thousand of them delay whoever lands the token."""

    async def main():
        event = Event()
        calls = []
        loop = asyncio.get_running_loop()
        original = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: (calls.append(args), original(*args)))
        tasks = [asyncio.ensure_future(event.wait_async(PATIENCE)) for _ in range(100)]
        await asyncio.sleep(0)
        event.set()
        assert await asyncio.gather(*tasks) == [True] * 100
        return len(calls)

    assert asyncio.run(main()) == 1


def test_whoever_interrupts_the_waking_leaves_the_rest_to_be_woken_when_it_is_set_again(monkeypatch):
    event = Event()
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.loop("asyncio", 1, lambda: event.wait_async(PATIENCE))
    crowd.loop("trio", 1, lambda: event.wait_async(PATIENCE))
    crowd.go()
    wait_for_waiting(2)
    while len(event._rooms) < 2:
        pass

    class Room:
        def wake(self):
            if interrupts:
                raise interrupts.pop()
            woken.append(1)

    interrupts, woken = [KeyboardInterrupt()], []
    event._rooms = {"a loop": Room(), **event._rooms}
    with pytest.raises(KeyboardInterrupt):
        event.set()
    event.set()
    assert woken == [1]
    assert crowd.outcomes() == [True] * 2


def waiting_loop(event, monkeypatch):
    """A loop of which a task waits for the event."""
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.loop("asyncio", 1, lambda: event.wait_async(PATIENCE))
    crowd.go()
    wait_for_waiting(1)
    while not event._rooms:  # the task has begun to wait, and comes to its room at once
        pass
    return crowd


def test_a_signal_handler_that_interrupts_the_waking_leaves_the_loop_to_be_woken_again(monkeypatch):
    class TimeIsUp(Exception):
        pass

    def handler(_number, _frame):
        raise TimeIsUp

    event = Event()
    crowd = waiting_loop(event, monkeypatch)
    former = signal.signal(signal.SIGTERM, handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(_event._AsyncioRoom, "wake", lambda _room: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(TimeIsUp):
                event.set()
    finally:
        signal.signal(signal.SIGTERM, former)
    event.set()
    assert crowd.outcomes() == [True]


def test_whoever_interrupts_the_end_of_the_waking_finds_all_awake():
    class Timer:
        def cancel(self):
            raise ZeroDivisionError

    async def main():
        event = Event()
        tasks = [asyncio.create_task(event.wait_async(PATIENCE)) for _ in range(3)]
        await asyncio.sleep(0)
        (room,) = event._rooms.values()
        room._timer.cancel()
        room._timer = Timer()
        with pytest.raises(ZeroDivisionError):
            room._release()
        room._timer = None
        assert await asyncio.gather(*tasks) == [False] * 3

    asyncio.run(main())


def test_a_loop_that_cannot_be_woken_keeps_the_others_from_nothing(monkeypatch):
    """A loop of a graphical toolkit, torn down: it raises what it likes."""
    event = Event()
    crowd = waiting_loop(event, monkeypatch)

    class Room:
        def wake(self):
            raise ReferenceError

    event._rooms = {"a loop": Room(), **event._rooms}
    event.set()
    assert crowd.outcomes() == [True]


def test_one_that_comes_as_the_time_of_the_others_is_over_has_a_time_of_its_own():
    async def main():
        event = Event()
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(event.wait_async(PATIENCE))
        await asyncio.sleep(0)
        room = event._rooms[loop]
        room._release()  # what the timer does
        second = asyncio.ensure_future(event.wait_async(0.001))
        first.cancel()
        assert not await second
        return room._timer

    assert asyncio.run(main()) is None


@pytest.mark.anyio
async def test_the_shortest_time_of_those_who_wait_is_kept():
    event = Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(event.wait_async, PATIENCE)
        await anyio.wait_all_tasks_blocked()
        assert not await event.wait_async(0.001)
        tasks.cancel_scope.cancel()


def test_a_clock_of_trios_that_jumps_lets_nobody_give_up(make_auth, kiwoom_emulator):
    auth = make_auth()
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(auth.aget_token, clock=clock) == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


def test_a_trio_run_that_ends_before_its_timer_leaves_no_thread_that_complains(monkeypatch):
    event = Event()
    rings = []
    monkeypatch.setattr(threading, "Timer", lambda _seconds, ring: rings.append(ring) or threading.Thread())

    async def main():
        with trio.move_on_after(0):
            await event.wait_async(PATIENCE)

    monkeypatch.setattr(threading.Thread, "cancel", lambda _timer: None, raising=False)
    trio.run(main)
    rings[0]()


@pytest.fixture
def no_timer(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)


@pytest.mark.usefixtures("no_timer")
def test_without_a_thread_for_a_timer_a_trio_task_waits_all_the_same():
    outcomes = []

    async def main():
        event = Event()

        async def wait():
            outcomes.append(await event.wait_async(PATIENCE))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            event.set()

    trio.run(main)
    assert outcomes == [True]


@pytest.mark.usefixtures("no_timer")
@pytest.mark.parametrize("timeout", [PATIENCE, 0.0, -1.0])
def test_without_a_thread_for_a_timer_a_trio_task_waits_no_longer_than_it_may(timeout):
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main():
        event = Event()
        assert not await event.wait_async(timeout)
        assert not tasks_waiting(event)
        return clock.current_time()

    began = clock.current_time()
    assert trio.run(main, clock=clock) - began == pytest.approx(max(0.0, timeout))


def test_a_timer_that_runs_is_kept_where_no_thread_is_to_be_had_for_an_earlier_one(monkeypatch):
    event = Event()
    started = threading.Timer.start
    timers = []

    def start(timer):
        if timers:
            raise RuntimeError("can't start new thread")
        timers.append(timer)
        started(timer)

    monkeypatch.setattr(threading.Timer, "start", start)

    async def main():
        async with trio.open_nursery() as tasks:
            tasks.start_soon(event.wait_async, PATIENCE)
            await trio.testing.wait_all_tasks_blocked()
            assert not await event.wait_async(0.0)
            assert not timers[0].finished.is_set()
            event.set()

    trio.run(main)
    assert timers[0].finished.is_set()


class Plain(asyncio.SelectorEventLoop):
    """A loop such as Qt's, whose timers do not tell when they are over."""

    def call_later(self, delay, callback, *args, context=None):
        plain = asyncio.Handle(callback, args, self, context)
        super().call_later(delay, lambda: plain.cancelled() or plain._run())
        return plain


def test_a_loop_whose_timers_do_not_tell_when_they_are_over_will_do():
    async def main():
        event = Event()
        waiting = [asyncio.create_task(event.wait_async(PATIENCE)) for _ in range(2)]
        assert not await event.wait_async(0.001)
        asyncio.get_running_loop().call_soon(event.set)
        return await asyncio.gather(event.wait_async(PATIENCE), *waiting)

    with asyncio.Runner(loop_factory=Plain) as runner:
        assert runner.run(main()) == [True, False, False]


def test_without_sniffio_trio_is_told_all_the_same(monkeypatch):
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)

    async def main():
        event = Event()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(event.wait_async, PATIENCE)
            await trio.testing.wait_all_tasks_blocked()
            assert [type(room).__name__ for room in event._rooms.values()] == ["_TrioRoom"]
            event.set()

    trio.run(main)


WITHIN_TRIO = """
import asyncio, threading
import trio, trio_asyncio
from kiwoom_auth_plugin._event import Event

event = Event()
outcomes = []


async def wait():
    outcomes.append(await event.wait_async(30))


async def main():
    async with trio_asyncio.open_loop(), trio.open_nursery() as tasks:
        tasks.start_soon(trio_asyncio.aio_as_trio(wait))
        tasks.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        kinds = sorted(type(room).__name__ for room in event._rooms.values())
        assert kinds == ["_AsyncioRoom", "_TrioRoom"], kinds
        threading.Thread(target=event.set).start()


import trio.testing
trio.run(main)
assert outcomes == [True, True]
"""


@pytest.mark.skipif(find_spec("trio_asyncio") is None, reason="trio-asyncio is not installed; tox installs it")
def test_asyncio_within_trio_waits_as_asyncio_does():
    """In a process of its own: importing trio-asyncio changes what asyncio's loops are."""
    done = run_python(WITHIN_TRIO, warnings="default")
    assert done.returncode == 0, done.stderr


GUEST = """
import asyncio, threading
import trio
from kiwoom_auth_plugin._event import Event

event = Event()
outcomes = {}


async def guest():
    outcomes["trio"] = await event.wait_async(60)


async def main():
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    trio.lowlevel.start_guest_run(
        guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=lambda _outcome: over.set_result(None)
    )

    async def host():
        outcomes["asyncio"] = await event.wait_async(60)

    task = asyncio.create_task(host())
    while len(event._rooms) < 2:
        await asyncio.sleep(0)
    threading.Thread(target=event.set).start()
    await asyncio.gather(task, over)


asyncio.run(main())
print(outcomes == {"trio": True, "asyncio": True})
"""


def test_in_trios_guest_mode_each_task_waits_in_its_own_world():
    done = run_python(GUEST)
    assert done.stdout == "True\n", done.stderr


def test_without_trio_nothing_of_it_is_imported():
    # What the oldest httpx imports by itself is no fault of ours.
    code = "import sys, asyncio, httpx, requests; before = 'trio' in sys.modules;"
    code += "from kiwoom_auth_plugin._event import Event; e = Event(); e.set();"
    code += "print(asyncio.run(e.wait_async(1)), before == ('trio' in sys.modules))"
    done = run_python(code)
    assert done.stdout == "True True\n", done.stderr


# in_thread


@pytest.mark.anyio
async def test_a_call_in_a_thread_of_its_own_is_waited_for():
    names = []
    await in_thread(lambda: names.append(threading.current_thread().name), "kiwoom-auth-test")
    assert names == ["kiwoom-auth-test"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_what_the_call_raises_is_raised(error):
    def call():
        raise error

    with pytest.raises(error):
        await in_thread(call, "kiwoom-auth-test")


@pytest.mark.anyio
async def test_a_waiter_that_is_cancelled_leaves_the_call_running():
    go_on = threading.Event()
    done = threading.Event()

    def call():
        go_on.wait(PATIENCE)
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, call, "kiwoom-auth-test")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    go_on.set()
    assert done.wait(PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "kiwoom-auth-test":
            thread.join(PATIENCE)


@pytest.mark.anyio
async def test_a_call_that_takes_long_is_waited_for_all_the_same(monkeypatch):
    """Each wait is bounded; the call is not."""
    original = Event.wait_async
    waits = []

    async def impatient(event, _timeout):
        waits.append(1)
        if len(waits) == 3:
            go_on.set()
        return await original(event, PATIENCE if len(waits) > 2 else 0)

    monkeypatch.setattr(_event.Event, "wait_async", impatient)
    go_on = threading.Event()
    await in_thread(lambda: go_on.wait(PATIENCE), "kiwoom-auth-test")
    assert len(waits) >= 3
