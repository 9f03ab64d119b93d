"""The WebSocket endpoint, on a port and in a thread of its own, as Kiwoom's is."""

import asyncio
import contextlib
import http
import logging
import ssl
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ._loop import LoopThread
from ._realtime import REPLACED, RealTime, Session

PATH = "/api/dostk/websocket"

SEND_TIMEOUT = 5.0
"""Seconds that a connection may take to accept a packet."""
_SILENT = logging.Logger("websockets", logging.CRITICAL)  # noqa: LOG001 - nobody is to find it, and give it a voice
"""In the tests of a user, the library's own would tell packets at DEBUG, tokens included."""


class _Connection(ServerConnection):
    """One that is known before it has shaken hands, so that it does not keep a server from stopping."""

    def __init__(self, known: "weakref.WeakSet[_Connection]", *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._known = known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._known.add(self)


class WebSocketServer(LoopThread):
    """Serves the real-time API until it is stopped; once.

    Args:
        realtime: acts on packets.
        host: the address to listen on.
        port: 0 picks a free one.
        tls: None: ``ws``.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(self, realtime: RealTime, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._realtime = realtime
        self._tls = tls
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._sessions: dict[ServerConnection, Session] = {}
        self._ending: weakref.WeakKeyDictionary[ServerConnection, asyncio.Task[None]] = weakref.WeakKeyDictionary()
        super().__init__(host, port, "KiwoomEmulator-WebSocket")

    def send(self, text: str, wanted: Callable[[Session], bool]) -> int:
        """Send a packet to all connections that are logged in and wanted; returns how many those are."""
        return self._do(self._send(text, wanted))

    def registrations(self) -> set[tuple[str, str]]:
        """The items and types that any connection has registered for."""
        return self._do(self._registrations())

    def drop(self) -> int:
        """Cut all connections without a word; returns how many there were."""
        return self._do(self._drop())

    async def _serve(self, started: Callable[[], None]) -> None:
        # The library's own pings would hide a client that does not answer Kiwoom's.
        async with serve(
            self._converse,
            sock=self._socket,
            ssl=self._tls,
            process_request=_only_there,
            ping_interval=None,
            logger=_SILENT,
            create_connection=cast("type[ServerConnection]", partial(_Connection, self._connections)),  # it is called
        ):
            started()
            await self._stopping.wait()
            for connection in self._connections:
                connection.transport.abort()
            await asyncio.gather(*self._ending.values())

    async def _converse(self, connection: ServerConnection) -> None:
        session = self._sessions[connection] = self._realtime.open()
        try:
            with contextlib.suppress(ConnectionClosed):
                async for text in connection:
                    answer = self._realtime.receive(session, text)
                    if answer is not None:
                        await connection.send(answer)
                    self._end_replaced()
        finally:
            del self._sessions[connection]

    def _end_replaced(self) -> None:
        for connection, session in self._sessions.items():
            if session.is_replaced and connection not in self._ending:
                self._ending[connection] = asyncio.create_task(_end(connection))

    async def _send(self, text: str, wanted: Callable[[Session], bool]) -> int:
        there = [each for each, session in self._sessions.items() if session.is_logged_in and wanted(session)]
        await asyncio.gather(*(_deliver(connection, text) for connection in there))
        return len(there)

    async def _registrations(self) -> set[tuple[str, str]]:
        return {pair for session in self._sessions.values() for pair in session.registered}

    async def _drop(self) -> int:
        there = list(self._sessions)
        for connection in there:
            connection.transport.abort()
        return len(there)


async def _end(connection: ServerConnection) -> None:
    await _deliver(connection, REPLACED)
    await connection.close()


async def _deliver(connection: ServerConnection, text: str) -> None:
    """Send a packet; who does not read for so long that it cannot be sent is cut off."""
    # No time-out: what the library does when it is cancelled takes longer still.
    patience = asyncio.get_running_loop().call_later(SEND_TIMEOUT, connection.transport.abort)
    try:
        with contextlib.suppress(ConnectionClosed):
            await connection.send(text)
    finally:
        patience.cancel()


def _only_there(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == PATH:
        return None
    return connection.respond(http.HTTPStatus.NOT_FOUND, f"there is no {request.path}\n")
