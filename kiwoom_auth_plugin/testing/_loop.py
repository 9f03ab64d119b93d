"""A listening socket, and a thread with an event loop of its own that serves it."""

import asyncio
import contextlib
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")

BACKLOG = 4096


class LoopThread(ABC):
    """Serves from its creation until it is stopped; once.

    Args:
        host: the address to listen on.
        port: 0 picks a free one.
        name: of the thread; the port is added to it.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(self, host: str, port: int, name: str) -> None:
        self._pid = os.getpid()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with contextlib.ExitStack() as undo:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
            self._socket = undo.enter_context(listening)
            self._loop = undo.enter_context(contextlib.closing(asyncio.new_event_loop()))
            self._stopping = asyncio.Event()
            self.port: int = self._socket.getsockname()[1]
            started: Future[None] = Future()
            self._thread = threading.Thread(target=self._run, args=(started,), name=f"{name}-{self.port}", daemon=True)
            self._thread.start()
            undo.callback(self._end)
            started.result()
            undo.pop_all()

    def stop(self) -> bool:
        """Close every connection, the socket, the loop; wait for the thread's end.

        Returns:
            False in a forked child: it has no such thread, and only its copy of the socket was closed.
        """
        if os.getpid() != self._pid:
            self._socket.close()
            return False
        self._end()
        return True

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _do(self, what: Coroutine[Any, Any, _T]) -> _T:
        """Have something done on the thread, and wait for it.

        Raises:
            RuntimeError: this is a forked child, which has no such thread.
        """
        if os.getpid() != self._pid:
            what.close()
            raise RuntimeError("this process was forked from the one that the emulator is in")
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def _run(self, started: Future[None]) -> None:
        try:
            self._loop.run_until_complete(self._serve(lambda: started.set_result(None)))
        finally:
            self._loop.close()
            started.cancel()  # for whoever still waits for a start that failed

    @abstractmethod
    async def _serve(self, started: Callable[[], None]) -> None:
        """Call ``started`` once the socket is served, and return when ``_stopping`` is set and all is closed."""
