"""Holding requests back, so that races happen in the order a test wants."""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Gate:
    """Requests to one path wait here, completely read and not yet judged.

    Leaving the ``with`` block opens the gate for good. A parked request whose client has gone away stays
    parked: the server has it, and will judge it. Safe to use from any thread.
    """

    def __init__(self, path: str) -> None:
        """Use ``KiwoomEmulator.hold``."""
        self.path = path
        self._condition = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._passes = 0
        self._open = False
        self._stopped = False

    def __repr__(self) -> str:
        return f"Gate({self.path!r}, parked={self.parked}, open={self.is_open})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def parked(self) -> int:
        """How many requests wait here now."""
        with self._condition:
            return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """Whether it has been released for good."""
        with self._condition:
            return self._open

    def wait_for(self, n: int, timeout: float = 30.0) -> None:
        """Block until at least ``n`` requests are parked.

        On an event loop, call it in a worker thread: ``await asyncio.to_thread(gate.wait_for, n)``.

        Args:
            n: how many.
            timeout: seconds.

        Raises:
            TimeoutError: fewer came in time.
            RuntimeError: the emulator was stopped meanwhile.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._stopped or len(self._waiting) >= n, timeout)
            if self._stopped:
                raise RuntimeError(f"the emulator was stopped while {n} requests to {self.path} were awaited")
            if (parked := len(self._waiting)) < n:
                raise TimeoutError(f"{parked} of {n} requests to {self.path} were parked within {timeout:g} seconds")

    def release(self, n: int | None = None) -> None:
        """Let requests go, first come, first served.

        Args:
            n: so many, those to come included where fewer are parked. None: all, for good.
        """
        with self._condition:
            if n is None:
                self._open = True
                going = list(self._waiting)
                self._waiting.clear()
            else:
                now = min(n, len(self._waiting))
                self._passes += n - now
                going = [self._waiting.popleft() for _ in range(now)]
        for go in going:
            go()

    def park(self, go: Callable[[], None]) -> bool:
        """Keep a request until it is released: then ``go`` is called, in the releasing thread.

        Returns:
            False if the request may pass at once: ``go`` is forgotten.
        """
        with self._condition:
            if self._open:
                return False
            if self._passes:
                self._passes -= 1
                return False
            self._waiting.append(go)
            self._condition.notify_all()
            return True

    def stop(self) -> None:
        """Forget the parked requests, as the server is gone."""
        with self._condition:
            self._open = self._stopped = True
            self._waiting.clear()
            self._condition.notify_all()
