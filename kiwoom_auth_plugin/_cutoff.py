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

from ._threads import NoThread, start


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
        self.has_watched = False
        """Whether there was a connection, to the server or to a proxy."""

    def __enter__(self) -> Self:
        with contextlib.suppress(NoThread):  # each read is still bounded
            start(self._timer)
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
            self.has_watched = True
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
        # Of "connection", or of "socks" for one to such a proxy.
        if event.endswith((".connect_tcp.complete", ".connect_unix_socket.complete")):
            self.watch_stream(info["return_value"])

    def adapter(self) -> HTTPAdapter:
        """An adapter for requests whose connections are watched."""
        return WatchedAdapter(self)

    def _cut(self) -> None:
        with self._mutex:
            self.happened = True
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)


class WatchedAdapter(HTTPAdapter):
    """For one call.

    Args:
        cutoff: watches its connections.
    """

    def __init__(self, cutoff: Cutoff) -> None:
        self._cutoff = cutoff
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
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme.items()  # a SOCKS proxy's has its own
        manager.pool_classes_by_scheme = {scheme: _watched(pool, self._cutoff) for scheme, pool in pools}


def _watched(pool: Any, cutoff: Cutoff) -> Any:
    """The class of a pool whose connections are watched."""

    def _new_conn(self: Any) -> socket.socket:
        connection: socket.socket = pool.ConnectionCls._new_conn(self)  # noqa: SLF001 - its class's own
        cutoff.watch(connection)
        return connection

    kind = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"_new_conn": _new_conn})
    return type(pool.__name__, (pool,), {"ConnectionCls": kind})
