"""Many callers at once, in threads, on asyncio loops and under trio; and a way to know that they wait."""

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from kiwoom_auth_plugin._event import Event

PATIENCE = float(os.environ.get("PATIENCE", "60"))
"""Seconds after which a call that should have come back counts as stuck."""


class Crowd:
    """Callers that are let go at the same moment; each leaves an outcome: what it got, or the exception it met."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._ready = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._outcomes: list[Any] = []

    def threads(self, number: int, call: Callable[[], Any]) -> None:
        """Have so many threads make a call each."""
        for _ in range(number):
            self._start(lambda: self._ask(call))

    def loop(self, backend: str, number: int, call: Callable[[], Awaitable[Any]]) -> None:
        """Have so many tasks of one event loop, asyncio's or trio's, make a call each."""

        @asynccontextmanager
        async def nothing_to_open() -> AsyncIterator[Callable[[], Awaitable[Any]]]:
            yield call

        self.loop_with(backend, number, nothing_to_open)

    def loop_with(
        self, backend: str, number: int, opened: Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[Any]]]]
    ) -> None:
        """Like ``loop``, for a call that needs something open, such as a client."""

        async def main() -> None:
            async with opened() as call:
                self._wait_for_go()  # blocks the loop: all of its tasks start together
                async with anyio.create_task_group() as tasks:
                    for _ in range(number):
                        tasks.start_soon(self._aask, call)

        self._start(lambda: anyio.run(main, backend=backend))

    def go(self) -> "Crowd":
        """Let them go, all at once."""
        for _ in self._threads:
            assert self._ready.acquire(timeout=PATIENCE), "not all of the crowd could start"
        self._go.set()
        return self

    def outcomes(self) -> list[Any]:
        """What each of them came back with; fails if one does not come back."""
        for thread in self._threads:
            thread.join(PATIENCE)
        stuck = sum(thread.is_alive() for thread in self._threads)
        assert not stuck, f"{stuck} of {len(self._threads)} threads are stuck"
        return self._outcomes

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait_for_go(self) -> None:
        self._ready.release()
        self._go.wait(PATIENCE)

    def _ask(self, call: Callable[[], Any]) -> None:
        self._wait_for_go()
        try:
            self._outcomes.append(call())
        except BaseException as error:  # noqa: BLE001 - an outcome like another
            self._outcomes.append(error)

    async def _aask(self, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            self._outcomes.append(await call())
        except Exception as error:  # noqa: BLE001 - as above
            self._outcomes.append(error)


def watch_waiting(monkeypatch: Any) -> Callable[[int], None]:
    """Count the callers that wait for an AU10001 under way.

    Returns:
        Blocks until so many more have begun to wait.
    """
    began = threading.Semaphore(0)

    def counted(original: Callable[[Event, Any], Any]) -> Callable[[Event, Any], Any]:
        def note(event: Event, argument: Any) -> Any:
            began.release()
            return original(event, argument)

        return note

    monkeypatch.setattr(Event, "wait", counted(Event.wait))
    monkeypatch.setattr(Event, "wait_async", counted(Event.wait_async))

    def wait_for(number: int) -> None:
        for arrived in range(number):
            assert began.acquire(timeout=PATIENCE), f"{arrived} of {number} callers wait"

    return wait_for


def tasks_waiting(event: Event) -> int:
    """How many tasks, of all event loops, wait for it."""
    return sum(len(room._waiting) for room in event._rooms.values())


def land() -> None:
    """Wait until every AU10001 that runs in a thread of its own is over."""
    for thread in threading.enumerate():
        if thread.name.startswith("kiwoom-auth"):
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} is stuck"


def run_python(code: str, *arguments: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, with warnings as errors, unless it is to be otherwise."""
    command = [sys.executable, "-W", warnings, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
