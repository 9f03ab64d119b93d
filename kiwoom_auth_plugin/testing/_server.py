"""The server of HTTP/1.1."""

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Callable

from ._clock import ServerClock
from ._connection import Application, Connection
from ._loop import BACKLOG, LoopThread
from ._tls import TlsProtocol


class HttpServer(LoopThread):
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
        super().__init__(host, port, "KiwoomEmulator")

    async def _serve(self, started: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, sock=self._socket, backlog=BACKLOG)
        started()
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
