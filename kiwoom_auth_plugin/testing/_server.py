"""The server: a listening socket and a thread with its own event loop."""

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import threading
from concurrent.futures import Future

from ._clock import ServerClock
from ._connection import Application, Connection
from ._tls import TlsProtocol

BACKLOG = 4096


class HttpServer:
    """Serves one application over HTTP/1.1 until it is stopped; once.

    ``TCP_NODELAY`` is on (asyncio does that for every stream) and an answer is one write, so no answer ever
    waits for an acknowledgement.

    Args:
        application: decides about requests, on the server's thread.
        host: the address to listen on.
        port: 0 picks a free one.
        tls: None: plain http.
        clock: for the ``Date`` headers.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(
        self, application: Application, host: str, port: int, tls: ssl.SSLContext | None, clock: ServerClock
    ) -> None:
        self._application = application
        self._tls = tls
        self._clock = clock
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._pid = os.getpid()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with contextlib.ExitStack() as undo:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
            self._socket = undo.enter_context(listening)
            self._loop = undo.enter_context(contextlib.closing(asyncio.new_event_loop()))
            self._stopping = asyncio.Event()
            self.port: int = self._socket.getsockname()[1]
            started: Future[None] = Future()
            self._thread = threading.Thread(
                target=self._run, args=(started,), name=f"KiwoomEmulator-{self.port}", daemon=True
            )
            self._thread.start()
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
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        return True

    def _run(self, started: Future[None]) -> None:
        try:
            self._loop.run_until_complete(self._serve(started))
        finally:
            self._loop.close()
            started.cancel()  # for whoever still waits for a start that failed

    async def _serve(self, started: Future[None]) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, sock=self._socket, backlog=BACKLOG)
        started.set_result(None)
        await self._stopping.wait()
        with contextlib.suppress(NotImplementedError):  # Windows' loop accepts in one step
            loop.remove_reader(self._socket)
        accepting = asyncio.all_tasks() - {asyncio.current_task()}  # asyncio's own, one for each connection
        await asyncio.gather(*accepting, return_exceptions=True)
        server.close()  # not earlier: it leaves half-accepted connections open
        for connection in list(self._connections):
            connection.abort()
        while self._connections:  # each leaves with its connection_lost, in the loop's next rounds  # noqa: ASYNC110
            await asyncio.sleep(0)
        await server.wait_closed()

    def _connection(self) -> asyncio.Protocol:
        connection = Connection(next(self._numbers), self._application, self._clock, self._connections)
        return connection if self._tls is None else TlsProtocol(self._tls, connection)
