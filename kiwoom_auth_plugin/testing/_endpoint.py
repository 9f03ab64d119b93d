"""``KiwoomEmulator.websocket``: the real-time API, served from the moment that somebody asks for its URL."""

import json
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._kiwoom import Kiwoom
from ._realtime import Packet, RealTime, Session, real

if TYPE_CHECKING:
    from ._websocket import WebSocketServer


class WebSocketEndpoint:
    """Kiwoom's real-time API: LOGIN, PING, REG, REMOVE and REAL, with the tokens of its emulator.

    As at Kiwoom, an appkey has one connection: who logs in with it ends the one before, which is told R10001.

    Needs the package websockets (extra ``[testing]``). Safe to use from any thread.
    """

    def __init__(
        self,
        kiwoom: Kiwoom,
        lock: threading.Lock,
        host: str,
        tls: ssl.SSLContext | None,
        journal_limit: int,
        on_packet: Callable[[Packet], object] | None = None,
    ) -> None:
        """Use ``KiwoomEmulator.websocket``."""
        self._realtime = RealTime(kiwoom, lock, journal_limit, on_packet)
        self._host = host
        self._tls = tls
        self._port = 0
        self._server: WebSocketServer | None = None
        self._is_open = False
        self._starting = threading.Lock()

    def __repr__(self) -> str:
        return f"WebSocketEndpoint({f'port {self._port}' if self._port else 'not started'})"

    @property
    def url(self) -> str:
        """Where it is, such as ``ws://127.0.0.1:40124/api/dostk/websocket``; the port is one of its own, and stays.

        Raises:
            RuntimeError: the emulator is not started.
            ImportError: websockets is not installed; the message names the line that installs it.
            OSError: the address cannot be had.
        """
        with self._starting:
            if not self._is_open:
                raise RuntimeError("the emulator is not started: start() it, or use it in a with statement")
            if self._server is None:
                self._serve()
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'ws' if self._tls is None else 'wss'}://{host}:{self._port}/api/dostk/websocket"

    # What clients have sent

    @property
    def packets(self) -> list[Packet]:
        """The packets received so far, in their order; a copy."""
        return self._realtime.journal

    @property
    def registrations(self) -> set[tuple[str, str]]:
        """What those who are connected have registered for: items and types, such as ``("005930", "0B")``."""
        server = self._server
        return set() if server is None else server.registrations()

    def wait_for(self, trnm: str, n: int = 1, timeout: float = 30.0) -> None:
        """Block until ``n`` packets of a kind, such as ``"REG"``, have come since the emulator was made.

        On an event loop, call it in a worker thread: ``await asyncio.to_thread(endpoint.wait_for, "REG")``.

        Args:
            trnm: the kind.
            n: how many.
            timeout: seconds.

        Raises:
            TimeoutError: fewer came in time.
        """
        self._realtime.wait_for(trnm, n, timeout)

    # What happens to them

    def push(self, item: str, kind: str, values: dict[str, str]) -> int:
        """Send a REAL packet to all who have registered; one that does not read for 5 seconds is cut off.

        On an event loop, call it in a worker thread, as ``wait_for``.

        Args:
            item: such as ``"005930"``; ``""`` for orders.
            kind: the ``type``, such as ``"0B"`` for trades.
            values: by field number, such as ``{"10": "-71500"}``.

        Returns:
            To how many connections.
        """
        return self._send(real(item, kind, values), (item, kind))

    def ping(self) -> int:
        """Send a PING, which is to be echoed, to all who are logged in; returns to how many connections."""
        return self._send(json.dumps({"trnm": "PING"}), None)

    def refuse_logins(self, times: int = 1) -> None:
        """Refuse the next logins (805004), though their tokens live on."""
        self._realtime.refuse(times)

    def drop(self) -> int:
        """Cut all connections without a word; returns how many there were."""
        server = self._server
        return 0 if server is None else server.drop()

    # For the emulator

    def open(self) -> None:
        """The emulator starts: be where one was before."""
        with self._starting:
            if self._port:
                self._serve()
            self._is_open = True

    def close(self) -> None:
        """The emulator stops."""
        with self._starting:
            server, self._server = self._server, None
            self._is_open = False
        if server is not None:
            server.stop()

    def _serve(self) -> None:
        try:
            from ._websocket import WebSocketServer  # noqa: PLC0415 - most tests need neither it nor its library
        except ImportError as error:
            raise ImportError(
                f"the WebSocket endpoint needs the package websockets, which cannot be imported "
                f'({type(error).__name__}); install it: python -m pip install "websockets>=15"',
                name="websockets",
            ) from None
        self._server = WebSocketServer(self._realtime, self._host, self._port, self._tls)
        self._port = self._server.port

    def _send(self, text: str, registration: tuple[str, str] | None) -> int:
        def is_wanted(session: Session) -> bool:
            return registration is None or registration in session.registered

        server = self._server
        return 0 if server is None else server.send(text, is_wanted)
