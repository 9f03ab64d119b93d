"""An event that threads and the tasks of any event loop, asyncio's or trio's, can wait for at once."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any


class Event:
    """Happens once. Waiting is bounded, and a waiter that leaves leaves nothing behind.

    No lock is held while anybody waits. A loop that has ended in the meantime is skipped.
    """

    __slots__ = ("_happened", "_mutex", "_wakers")

    def __init__(self) -> None:
        self._happened = threading.Event()
        self._mutex = threading.RLock()  # a signal handler may come back to it
        self._wakers: set[Callable[[], object]] = set()

    def set(self) -> None:
        """Let it happen, and wake all who wait, from whichever thread."""
        self._happened.set()
        # One by one: whoever interrupts this leaves the rest to be woken when it is set again.
        while wake := self._next_waker():
            # Its loop is closed (asyncio) or its run is finished (trio): nobody is left to be woken.
            with contextlib.suppress(RuntimeError):
                wake()

    @property
    def has_happened(self) -> bool:
        """Whether it has."""
        return self._happened.is_set()

    def wait(self, timeout: float) -> bool:
        """Block this thread until it happens, at most ``timeout`` seconds; tell whether it has."""
        return self._happened.wait(timeout)

    async def wait_async(self, timeout: float) -> bool:  # noqa: ASYNC109 - one bound for threads and tasks
        """Suspend this task until it happens, at most ``timeout`` seconds; tell whether it has."""
        await (_wait_trio if _in_trio() else _wait_asyncio)(self, timeout)
        return self._happened.is_set()

    def add(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called, from any thread, when it happens; at once if it has."""
        with self._mutex:
            if not self._happened.is_set():
                self._wakers.add(wake)
                return
        wake()

    def _next_waker(self) -> Callable[[], object] | None:
        with self._mutex:
            return self._wakers.pop() if self._wakers else None

    def discard(self, wake: Callable[[], object]) -> None:
        """Forget about ``wake``."""
        with self._mutex:
            self._wakers.discard(wake)


def _in_trio() -> bool:
    """Whether this is a trio task. Asked first: in trio's guest mode both loops run in one thread."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    if lowlevel is None:
        return False
    try:
        lowlevel.current_task()
    except (AttributeError, RuntimeError):  # half imported, or not in trio
        return False
    return True


async def _wait_asyncio(event: Event, timeout: float) -> None:  # noqa: ASYNC109 - as above
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def wake() -> None:
        loop.call_soon_threadsafe(finish)

    timer = loop.call_later(timeout, finish)
    event.add(wake)
    try:
        await done
    finally:
        event.discard(wake)
        timer.cancel()


async def _wait_trio(event: Event, timeout: float) -> None:  # noqa: ASYNC109 - as above
    import trio  # noqa: PLC0415 - it is installed where this is called, and only there

    token = trio.lowlevel.current_trio_token()
    done = trio.Event()

    def wake() -> None:
        token.run_sync_soon(done.set)

    event.add(wake)
    try:
        with trio.move_on_after(timeout):
            await done.wait()
    finally:
        event.discard(wake)


async def in_thread(call: Callable[[], None], name: str) -> None:
    """Run a call in a thread of its own and wait for it; a waiter that is cancelled leaves it running.

    Raises:
        BaseException: what the call raised.
    """
    finished = Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            raised.append(error)
        finally:
            finished.set()

    threading.Thread(target=run, name=name, daemon=False).start()
    while not await finished.wait_async(3600.0):
        pass
    if raised:
        raise raised[0]
