"""Every public name as a user's program meets it: checked by mypy and pyright, both strict, and run by a test."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

import cachetools
import httpx
import httpx2
import redis
import requests

import kiwoom_auth_plugin
from kiwoom_auth_plugin import (
    MOCK_HOST,
    REAL_HOST,
    AddressRejected,
    AuthEvent,
    CredentialsRejected,
    HostMismatch,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    KiwoomBearerAuth,
    TokenEndpointUnreachable,
)
from kiwoom_auth_plugin.errors import KiwoomAuthError as SameError
from kiwoom_auth_plugin.stores import FileStore, RedisStore, TokenStore
from kiwoom_auth_plugin.testing import (
    Answer,
    Call,
    Gate,
    KiwoomEmulator,
    Packet,
    ServerClock,
    WebSocketEndpoint,
    recorded,
)

TR = "/api/dostk/stkinfo"
HEADERS = {"api-id": "ka10001"}


def construct(kiwoom: KiwoomEmulator, keys: Path) -> Iterator[KiwoomBearerAuth]:
    """Every way to make one."""
    assert_type(kiwoom_auth_plugin.__version__, str)
    yield KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
    yield KiwoomBearerAuth(
        kiwoom.appkey, lambda: kiwoom.secretkey, host=kiwoom.url, cache={}, timeout=5, refresh_margin=0
    )
    cache: cachetools.TTLCache[tuple[str, str], object] = cachetools.TTLCache(maxsize=8, ttl=3600)
    with requests.Session() as session:
        yield KiwoomBearerAuth(
            kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache=cache, client=session, store=None
        )
    with httpx.Client() as client:
        yield KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, client=client)
    yield assert_type(KiwoomBearerAuth.from_env(host=kiwoom.url), KiwoomBearerAuth)
    yield KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, on_event=hear)
    yield assert_type(
        KiwoomBearerAuth.from_files(keys / "appkey.txt", str(keys / "secretkey.txt"), host=kiwoom.url), KiwoomBearerAuth
    )


def hear(event: AuthEvent) -> int:
    """What a listener gives back does not matter."""
    assert_type((event.name, event.host, event.appkey, event.message), tuple[str, str, str, str])
    assert_type((event.code, event.attempt), tuple[int | None, int | None])
    assert_type(event.expires_at, datetime | None)
    return len(assert_type(event.store, str | None) or "")


class OwnStore:
    """A user's own store, which knows nothing of this package."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def load(self, key: str) -> bytes | None:
        """What was saved."""
        return self._values.get(key)

    def save(self, key: str, value: bytes, ttl: float) -> None:  # noqa: ARG002 - kept until the next one comes
        """Keep it."""
        self._values[key] = value

    def delete(self, key: str) -> None:
        """Forget it."""
        self._values.pop(key, None)

    @contextmanager
    def lock(self, key: str, timeout: float) -> Generator[None]:  # noqa: ARG002 - one lock for all keys
        """Let one in."""
        if not self._lock.acquire(timeout=timeout):
            raise TimeoutError
        try:
            yield
        finally:
            self._lock.release()


def share(kiwoom: KiwoomEmulator, directory: Path) -> Iterator[KiwoomBearerAuth]:
    """Every store."""
    client = redis.Redis()  # not asked for a connection here
    stores: list[TokenStore] = [FileStore(), FileStore(directory, max_delay=1), OwnStore()]
    stores += [RedisStore(client, "a-namespace", FileStore(str(directory))), RedisStore(client, fallback=None)]
    for store in stores:
        yield KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, store=store)
    assert_type(FileStore(directory).directory, Path)
    assert_type(RedisStore(client, max_delay=1).max_delay, float)
    client.close()


class SimulatedAuth(KiwoomBearerAuth):
    """A user's own class keeps its type."""


def for_both_environments(kiwoom: KiwoomEmulator) -> list[KiwoomBearerAuth]:
    """One for each of Kiwoom's hosts."""
    return [KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=host) for host in (REAL_HOST, MOCK_HOST)]


def subclass(kiwoom: KiwoomEmulator) -> SimulatedAuth:
    """The alternative constructors make the class that they are called on."""
    return assert_type(SimulatedAuth.from_env(host=kiwoom.url), SimulatedAuth)


def call(auth: KiwoomBearerAuth, url: str) -> list[int]:
    """The synchronous libraries take it as it is."""
    with requests.Session() as session, httpx.Client(auth=auth) as client, httpx2.Client(auth=auth) as client2:
        session.auth = auth
        return [
            session.post(url, headers=HEADERS, json={}).status_code,
            requests.post(url, headers=HEADERS, json={}, auth=auth, timeout=30).status_code,
            client.post(url, headers=HEADERS, json={}).status_code,
            httpx.post(url, headers=HEADERS, json={}, auth=auth).status_code,
            client2.post(url, headers=HEADERS, json={}).status_code,
        ]


async def acall(auth: KiwoomBearerAuth, url: str) -> list[int]:
    """So do the asynchronous ones."""
    async with httpx.AsyncClient(auth=auth) as client, httpx2.AsyncClient(auth=auth) as client2:
        return [
            (await client.post(url, headers=HEADERS, json={})).status_code,
            (await client2.post(url, headers=HEADERS, json={})).status_code,
        ]


def use_members(auth: KiwoomBearerAuth) -> None:
    """What a WebSocket client uses."""
    token = assert_type(auth.get_token(), str)
    assert_type(auth.expires_at, datetime | None)
    auth.invalidate(token)
    auth.revoke()


async def ause_members(auth: KiwoomBearerAuth) -> None:
    """The same, asynchronously."""
    token = assert_type(await auth.aget_token(), str)
    auth.invalidate(token)
    await auth.arevoke()


def tell(auth: KiwoomBearerAuth) -> str:
    """Errors are caught as one's own kind and as each library's."""
    try:
        auth.get_token()
    except IssueLimitExceeded as error:
        return f"wait {assert_type(error.retry_after, float | None)} seconds"
    except (CredentialsRejected, AddressRejected, HostMismatch) as error:
        assert_type(error.host, str | None)
        return f"code {assert_type(error.code, int | None)}"
    except (TokenEndpointUnreachable, InvalidTokenResponse) as error:
        return f"status {assert_type(error.status_code, int | None)}"
    except KiwoomAuthError as error:
        assert_type(error.return_code, int | str | None)
        assert_type(error.return_msg, str | None)
        assert_type(error.request, None)
        assert_type(error.response, None)
        return f"retryable: {assert_type(error.retryable, bool)}"
    return "issued"


def as_libraries_errors(error: SameError) -> tuple[requests.RequestException, httpx.HTTPError, httpx2.HTTPError]:
    """Each error is one of every library's."""
    return error, error, error


def script(kiwoom: KiwoomEmulator, auth: KiwoomBearerAuth) -> list[str]:
    """The local Kiwoom and its errors, one after another."""
    told: list[str] = []
    unreachable = Answer(cut="reset")
    for answer in (
        recorded.BAD_KEY_PAIR,
        recorded.ADDRESS_NOT_REGISTERED,
        recorded.MAINTENANCE,
        recorded.refusal(8012),
        Answer.json({"return_code": 0}),
    ):
        kiwoom.script("/oauth2/token", assert_type(answer, Answer))
        told.append(tell(auth))
        auth.invalidate("")
    kiwoom.script(TR, unreachable)
    with kiwoom.hold(TR) as gate:
        assert_type(gate, Gate)
        assert_type(gate.parked, int)
    told.append(tell(auth))
    assert_type(kiwoom.clock, ServerClock)
    kiwoom.clock.advance(timedelta(hours=1))
    assert_type(kiwoom.journal, list[Call])
    assert_type((kiwoom.issued, kiwoom.repeated), tuple[int, int])
    assert_type(kiwoom.violations, list[str])
    kiwoom.issue_limit, kiwoom.token_lifetime, kiwoom.reissue = None, timedelta(hours=1), "replace"
    assert_type(kiwoom.websocket, WebSocketEndpoint)
    assert_type(kiwoom.websocket.packets, list[Packet])
    assert_type(kiwoom.websocket.push("005930", "0B", {"10": "-71500"}), int)
    return told
