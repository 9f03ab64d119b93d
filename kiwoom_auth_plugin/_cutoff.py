"""One bound for a whole call: requests and httpx bound each read only, and a server that drips could hold one for ever.

At the deadline the connections of the call are shut down, which wakes whoever reads from or writes to them, in the TLS
handshake, the headers or the body.
"""

import contextlib
import socket
import threading
from collections.abc import Mapping
from email.message import Message
from types import TracebackType
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Cutoff:
    """Shuts connections down when the time is over. A context manager; leaving it ends the watch.

    Args:
        timeout: seconds from entering.
    """

    def __init__(self, timeout: float) -> None:
        self._timer = threading.Timer(timeout, self._cut)
        self._timer.daemon = True
        self._mutex = threading.Lock()
        self._handles: list[socket.socket] = []
        self.happened = False
        """Whether the time was over before the call was."""

    def __enter__(self) -> Self:
        with contextlib.suppress(RuntimeError):  # no thread is to be had: each read is still bounded
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._mutex:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def watch(self, connection: socket.socket) -> None:
        """Have a connection shut down at the deadline, at once if it is over."""
        # A handle of our own: TLS takes the socket away from the object that was connected, and cannot dup() its own.
        with contextlib.suppress(OSError):
            self._add(socket.fromfd(connection.fileno(), connection.family, connection.type))

    def _add(self, handle: socket.socket) -> None:
        with self._mutex:
            self._handles.append(handle)
        if self.happened:
            self._cut()

    def watch_body(self, raw: Any) -> None:
        """Watch the connection that an answer of requests is read from, whichever session it came by."""
        with contextlib.suppress(AttributeError, OSError, ValueError):  # what stands in for it in tests has none
            self._add(socket.fromfd(raw.fileno(), socket.AF_INET, socket.SOCK_STREAM))  # whatever its family is

    def watch_stream(self, stream: Any) -> None:
        """Watch the connection that an answer of httpx is read from; it may have been there before."""
        connection = None if stream is None else stream.get_extra_info("socket")
        if connection is not None:
            self.watch(connection)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Watch the connections of httpx: the ``trace`` extension of a request."""
        if event == "connection.connect_tcp.complete":
            self.watch_stream(info["return_value"])

    def adapter(self) -> HTTPAdapter:
        """An adapter for requests whose connections are watched."""
        return _WatchedAdapter(self)

    def _cut(self) -> None:
        with self._mutex:
            self.happened = True
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)


class _WatchedAdapter(HTTPAdapter):
    def __init__(self, cutoff: Cutoff) -> None:
        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                connection = super()._new_conn()
                cutoff.watch(connection)
                return connection

        class SecureConnection(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                connection = super()._new_conn()
                cutoff.watch(connection)
                return connection

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection  # pyright: ignore[reportAssignmentType] - a protocol that urllib3's own misses too

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = SecureConnection  # pyright: ignore[reportAssignmentType] - as above

        self._pools: dict[str, Any] = {"http": Pool, "https": SecurePool}
        super().__init__()

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Without cookies, which nobody keeps: to read hostile ones takes http.cookiejar minutes."""
        headers = getattr(getattr(resp, "_original_response", None), "msg", None)  # where requests finds them
        if isinstance(headers, Message):  # a stand-in's in tests may be another mapping
            for name in ("Set-Cookie", "Set-Cookie2"):
                del headers[name]
        return super().build_response(req, resp)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager
