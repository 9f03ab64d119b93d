"""One face for every kind of client that the plugin serves, so that a test is written once and runs with each.

The asynchronous ones run on an event loop of their own, asyncio's or trio's, in another thread: behind ``Client`` all
of them are called alike, and give the responses of their library.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import httpx
import pytest
import requests
import requests.adapters
from anyio.from_thread import BlockingPortal, start_blocking_portal

from kiwoom_auth_plugin import KiwoomAuthError

from .crowd import PATIENCE

try:
    import httpx2
except ImportError:
    FAMILY: list[ModuleType] = [httpx]
else:
    FAMILY = [httpx, httpx2]

TR = "/api/dostk/stkinfo"
BODY = b'{"stk_cd": "005930"}'
HEADERS = {"api-id": "ka10001", "Content-Type": "application/json;charset=UTF-8", "cont-yn": "N", "next-key": ""}
CERTIFICATES = ssl.create_default_context()
"""For the httpx clients: made once, since making it takes longer than most tests."""


LIBRARIES = (ValueError, OSError, *(kind for module in FAMILY for kind in (module.HTTPError, module.InvalidURL)))
"""What the libraries raise of their own."""


@contextlib.contextmanager
def whatever_the_library_says() -> Iterator[None]:
    """What a library raises of its own is its own business."""
    try:
        yield
    except KiwoomAuthError:
        raise
    except LIBRARIES:
        pass


@dataclass
class Client:
    """A requests.Session.

    Args:
        auth: the auth of the whole client.
        connections: how many it may have; None: as usual.
        verify: what TLS certificates are checked against.
    """

    auth: Any = None
    connections: int | None = None
    verify: Any = True
    library: Any = requests
    native: Any = field(init=False)

    is_async = False

    def __enter__(self):
        self.native = requests.Session()
        self.native.auth = self.auth
        self.native.verify = self.verify
        if self.connections:
            adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True)
            self.native.mount("http://", adapter)
        return self

    def __exit__(self, *_error):
        self.native.close()

    def post(self, url: str, body: Any = BODY, *, follow: bool = False, headers: Any = HEADERS, **options: Any) -> Any:
        """POST; ``body`` is bytes or an iterable of them."""
        return self.native.post(url, data=body, headers=headers, allow_redirects=follow, timeout=PATIENCE, **options)

    def streamed(self, chunks: Iterable[bytes]) -> Any:
        """A body that can be sent only once, in the form that this client takes."""
        return iter(list(chunks))


class HttpxClient(Client):
    """An httpx.Client or httpx2.Client."""

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "auth": self.auth,
            "verify": CERTIFICATES if self.verify is True else self.verify,
            "timeout": PATIENCE,
        }
        if self.connections:
            options["limits"] = self.library.Limits(max_connections=self.connections)
        return options

    def __enter__(self):
        self.native = self.library.Client(**self._options())
        return self

    def post(self, url: str, body: Any = BODY, *, follow: bool = False, headers: Any = HEADERS, **options: Any) -> Any:
        return self.native.post(url, content=body, headers=headers, follow_redirects=follow, **options)


class AsyncHttpxClient(HttpxClient):
    """An httpx.AsyncClient or httpx2.AsyncClient on an event loop in another thread."""

    backend = "asyncio"
    is_async = True

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self.portal: BlockingPortal = self._stack.enter_context(start_blocking_portal(self.backend))
        self.native = self.library.AsyncClient(**self._options())
        return self

    def __exit__(self, *_error):
        with self._stack:
            self.portal.call(self.native.aclose)

    def post(self, url: str, body: Any = BODY, *, follow: bool = False, headers: Any = HEADERS, **options: Any) -> Any:
        async def post() -> Any:
            return await self.native.post(url, content=body, headers=headers, follow_redirects=follow, **options)

        return self.portal.call(post)

    def streamed(self, chunks: Iterable[bytes]) -> Any:
        async def generate() -> AsyncIterator[bytes]:
            for chunk in list(chunks):
                yield chunk

        return generate()


class TrioHttpxClient(AsyncHttpxClient):
    """The same under trio."""

    backend = "trio"


@dataclass(frozen=True)
class Kind:
    """A kind of client: ``with kind(auth) as client:``."""

    name: str
    face: type[Client]
    library: ModuleType

    def __call__(self, auth: Any = None, **options: Any) -> Client:
        return self.face(auth, library=self.library, **options)


SYNC = [Kind("requests", Client, requests), *(Kind(module.__name__, HttpxClient, module) for module in FAMILY)]
ASYNC = [
    Kind(f"{module.__name__}-{face.backend}", face, module)
    for module in FAMILY
    for face in (AsyncHttpxClient, TrioHttpxClient)
]


def _parametrized(kinds: list[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("open_client", kinds, ids=lambda kind: kind.name)


every_client = _parametrized(SYNC + ASYNC)
every_sync_client = _parametrized(SYNC)
every_sync_httpx_client = _parametrized(SYNC[1:])
every_httpx_client = _parametrized(SYNC[1:] + ASYNC)
every_module = pytest.mark.parametrize("module", FAMILY, ids=lambda module: module.__name__)


def called(response: Any) -> bool:
    """Whether Kiwoom has done what the call asked for."""
    return response.json()["return_code"] == 0


def pieces_of(client: Any, url: str, how: str, begun: Any = lambda: None, limit: int | None = None) -> list[Any]:
    """What a client of httpx gets from ``stream``.

    Args:
        client: from a ``Kind``.
        url: the origin.
        how: the method of the response: ``iter_raw`` and the like.
        begun: called when the response is there, before anything is read of it.
        limit: after how many pieces the response is left.
    """
    options = {"content": BODY, "headers": HEADERS}
    if not client.is_async:
        with client.native.stream("POST", url + TR, **options) as response:
            begun()
            return [piece for piece, _ in zip(getattr(response, how)(), range(limit or 10**9), strict=False)]

    async def read():
        pieces = []
        async with (
            client.native.stream("POST", url + TR, **options) as response,
            contextlib.aclosing(getattr(response, how)()) as coming,
        ):
            begun()
            async for piece in coming:
                pieces.append(piece)
                if len(pieces) == limit:
                    break
        return pieces

    return client.portal.call(read)


@contextlib.contextmanager
def raw_server(*answers: Iterable[bytes], patience: float | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers its connections in turn with bytes, whatever they ask; gives its URL and what it got.

    Each connection gets one answer, piece by piece, as ``answers`` yields them, and is closed after it. With
    ``patience`` it is so after as many seconds in which a piece is not taken: a client that is shut down and closed
    leaves it waiting for a minute.
    """
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    got.append(_read_request(connection))
                    connection.settimeout(patience)
                    for piece in answer:
                        connection.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", got
        for _ in answers:  # an accept() that still waits
            socket.create_connection(listener.getsockname()).close()
        thread.join(PATIENCE)


def plain_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer of HTTP/1.1 with a JSON body."""
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json;charset=UTF-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def token_answer(token: str = "a-token") -> bytes:
    """An answer to AU10001."""
    tomorrow = datetime.now(timezone(timedelta(hours=9))) + timedelta(hours=23)
    return plain_answer(json.dumps({"token": token, "expires_dt": f"{tomorrow:%Y%m%d%H%M%S}"}).encode())


def _read_request(connection: socket.socket) -> bytes:
    """Head and body, by Content-Length or up to the last chunk."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            chunked = b"transfer-encoding: chunked" in head.lower()
            if body.endswith(b"0\r\n\r\n") if chunked else len(body) >= length:
                return received
        piece = connection.recv(65536)
        if not piece:
            return received
        received += piece


def in_time(call: Any) -> Any:
    """What the call returns or raises; a call that hangs fails the test instead of hanging it."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - raised below
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE / 2)
    assert not thread.is_alive(), "the call hangs"
    if failure:
        raise failure[0]
    return outcome[0]
