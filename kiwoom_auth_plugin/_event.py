"""An event that threads and the tasks of any event loop, asyncio's or trio's, can wait for at once."""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ._interrupts import is_an_interrupt
from ._threads import NoThread, start

if TYPE_CHECKING:
    import asyncio


class _Room(Protocol):
    """Where the tasks of one event loop wait. All but ``wake`` happens in the loop's own thread."""

    def wake(self) -> None:
        """Have all who wait here go on soon; from any thread, and as often as one likes."""
        ...

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - one bound for threads and tasks
        """Wait to be woken, at most so many seconds."""
        ...


class Event:
    """Happens once. Waiting is bounded, and a waiter that leaves leaves nothing behind.

    No lock is held while anybody waits. The tasks of a loop are woken by one call to it, however many they are; a loop
    that has ended in the meantime is skipped.
    """

    __slots__ = ("_doors", "_mutex", "_rooms", "has_happened")

    def __init__(self) -> None:
        self.has_happened = False
        """Whether it has."""
        # A lock for each thread that waits. The one lock of a threading.Event stays locked for ever where a signal
        # handler raises at the wrong moment of a wait.
        self._doors: set[Any] = set()
        self._mutex = threading.RLock()  # a signal handler may come back to it
        self._rooms: dict[object, _Room] = {}

    def set(self) -> None:
        """Let it happen, and wake all who wait, from whichever thread."""
        self.has_happened = True
        for door in self._closed_doors():
            with contextlib.suppress(RuntimeError):  # it was opened before
                door.release()
        while room := self._first_room():
            # A loop that cannot be woken any more, whatever it raises, keeps the others from nothing.
            try:
                room.wake()
            except Exception as error:
                if is_an_interrupt(error):
                    raise
            self._remove(room)  # only now: whoever interrupts this leaves the room to be woken when it is set again

    def wait(self, timeout: float) -> bool:
        """Block this thread until it happens, at most ``timeout`` seconds; tell whether it has."""
        door = threading.Lock()
        door.acquire()
        try:
            with self._mutex:
                if self.has_happened:
                    return True
                self._doors.add(door)
            door.acquire(timeout=max(0.0, timeout))
            return self.has_happened
        finally:
            self._doors.discard(door)

    async def wait_async(self, timeout: float) -> bool:  # noqa: ASYNC109 - as above
        """Suspend this task until it happens, at most ``timeout`` seconds; tell whether it has.

        Tasks of a loop that wait at once share a timer, the earliest one: it may be over sooner than ``timeout`` says.
        """
        room = self._room_of(*_here())
        if room is not None:
            await room.wait(timeout)
        return self.has_happened

    def _closed_doors(self) -> list[Any]:
        with self._mutex:
            return list(self._doors)

    def _room_of(self, loop: Any, kind: Callable[[Any], _Room]) -> _Room | None:
        """The room of a loop; None if it has happened."""
        with self._mutex:
            if self.has_happened:
                return None
            room = self._rooms.get(loop)
            if room is None:
                room = self._rooms[loop] = kind(loop)
            return room

    def _first_room(self) -> _Room | None:
        with self._mutex:
            return next(iter(self._rooms.values()), None)

    def _remove(self, room: _Room) -> None:
        with self._mutex:
            for loop in [loop for loop, other in self._rooms.items() if other is room]:
                del self._rooms[loop]


def _here() -> tuple[object, Callable[[Any], _Room]]:
    """The event loop of this task. Trio is asked first: in its guest mode both loops run in one thread."""
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    if lowlevel is not None:
        with contextlib.suppress(AttributeError, RuntimeError):  # half imported, or not in trio
            lowlevel.current_task()  # the token alone is there for the host's tasks, too
            sniffio = sys.modules.get("sniffio")
            if sniffio is None or sniffio.current_async_library() == "trio":  # trio-asyncio runs asyncio's within them
                return lowlevel.current_trio_token(), _TrioRoom
    import asyncio  # noqa: PLC0415 - who waits here has imported it; for the others it is half of this package's time

    return asyncio.get_running_loop(), _AsyncioRoom


class _AsyncioRoom:
    __slots__ = ("_loop", "_timer", "_until", "_waiting")

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop
        self._timer: asyncio.Handle | None = None  # Qt's loops give no other
        self._until = 0.0
        self._waiting: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._release)

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        until = self._loop.time() + timeout
        if self._timer is None or until < self._until:
            self._stop_timer()
            self._until = until
            self._timer = self._loop.call_later(timeout, self._release)
        mine = self._loop.create_future()
        self._waiting.add(mine)
        try:
            await mine
        finally:
            self._waiting.discard(mine)
            if not self._waiting:
                self._stop_timer()

    def _release(self) -> None:
        for one in self._waiting:
            if not one.done():
                one.set_result(None)
        self._stop_timer()  # last: whoever interrupts this leaves it to wake them

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _TrioRoom:
    """Its timer is a thread's: trio's clock may be a test's, which jumps where all that is waited for is a thread."""

    __slots__ = ("_timer", "_token", "_trio", "_until", "_waiting")

    def __init__(self, token: Any) -> None:
        import trio  # noqa: PLC0415 - it is installed where this is called, and only there

        self._trio = trio
        self._token = token
        self._timer: threading.Timer | None = None
        self._until = 0.0
        self._waiting = trio.lowlevel.ParkingLot()

    def wake(self) -> None:
        self._token.run_sync_soon(self._release)

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        try:
            # Where no thread is to be had, trio's own clock has to do.
            with self._trio.move_on_after(math.inf if self._start_timer(timeout) else max(0.0, timeout)):
                await self._waiting.park()
        finally:
            if not self._waiting:
                self._stop_timer()

    def _start_timer(self, timeout: float) -> bool:
        """Have a thread wake this room within that time, unless one does so already; False where none is to be had."""
        until = time.monotonic() + timeout
        if self._timer is None or until < self._until:
            timer = threading.Timer(timeout, self._ring)
            timer.name, timer.daemon = "kiwoom-auth-wait", True
            try:
                start(timer)
            except NoThread:
                return False
            self._stop_timer()
            self._timer, self._until = timer, until
        return True

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the run is finished
            self.wake()

    def _release(self) -> None:
        self._waiting.unpark_all()
        self._stop_timer()  # last, as above

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def in_thread(call: Callable[[], None], name: str) -> None:
    """Run a call in a thread of its own and wait for it; a waiter that is cancelled leaves it running.

    Raises:
        NoThread: none is to be had.
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

    start(threading.Thread(target=run, name=name, daemon=False))
    while not await finished.wait_async(3600.0):
        pass
    if raised:
        raise raised[0]
