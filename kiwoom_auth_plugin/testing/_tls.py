"""TLS between the socket and a connection.

Not asyncio's own, for two reasons: a server that is stopped knows its connections also while they shake
hands, and an answer can be cut off without the ``close_notify`` that would make it look complete.
"""

import asyncio
import ssl
from typing import Any, cast

_READ = 64 * 1024


class TlsTransport(asyncio.Transport):
    """What a connection writes to."""

    def __init__(self, raw: asyncio.Transport, tls: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> None:
        super().__init__()
        self._raw = raw
        self._tls = tls
        self._outgoing = outgoing

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        """Encrypt and send."""
        if data:
            self._tls.write(data)
            self.flush()

    def flush(self) -> None:
        """Send what TLS itself has to say."""
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        """False: TLS has no half-closed connections."""
        return False

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """As the socket's transport."""
        return self._raw.get_extra_info(name, default)

    def close(self) -> None:
        """Close without ``close_notify``, as many servers do: lengths tell whether an answer is complete."""
        self._raw.close()

    def abort(self) -> None:
        """Drop everything."""
        self._raw.abort()


class TlsProtocol(asyncio.Protocol):
    """Decrypts for a connection."""

    def __init__(self, context: ssl.SSLContext, connection: asyncio.Protocol) -> None:
        self._connection = connection
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self._transport: TlsTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast("asyncio.Transport", transport)
        self._transport = TlsTransport(raw, self._tls, self._outgoing)
        self._connection.connection_made(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while plain := self._tls.read(_READ):
                self._connection.data_received(plain)
        except ssl.SSLWantReadError:
            self._transport.flush()
        except ssl.SSLError:
            self._transport.flush()  # the alert that tells the client why
            self._transport.close()
        else:
            self._transport.close()  # the client said close_notify

    def eof_received(self) -> bool:
        return False
