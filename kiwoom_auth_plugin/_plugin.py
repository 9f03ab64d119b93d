"""``KiwoomBearerAuth``: attaches the token to the calls of requests and httpx, reads the answer, repeats once."""

import logging
import math
import os
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from os import PathLike
from typing import Any, ClassVar, Self, cast

import requests
from requests.auth import AuthBase

from ._arguments import LONGEST_TIMEOUT, listener, mapping, seconds, sync_client, token_store
from ._cache import TokenCache
from ._clock import SYSTEM, Clock
from ._event import in_thread
from ._exchange import Exchange
from ._httpx_flow import HttpxFlow
from ._issuer import Issuer, Library
from ._keys import (
    Hidden,
    Masked,
    Secretkey,
    complain,
    digest,
    flaw,
    masked,
    read_key_file,
    read_key_variable,
    without_frames,
)
from ._log import AuthEvent, Log, Note
from ._origin import REAL_HOST, Origin
from ._refusal_hook import Means, RefusalHook
from ._shared import SharedStore
from ._sources import source_for
from ._threads import NoThread
from ._token import AccessToken, is_one_of_ours
from .errors import HostMismatch, KiwoomAuthError
from .stores import TokenStore


class KiwoomBearerAuth(AuthBase, HttpxFlow):
    """Authenticates calls to the Kiwoom REST API; an auth object for requests, httpx and httpx2.

    The access token is issued by AU10001 on first use (RFC 6749, section 4.4), kept for all auth objects of the same
    keys and host, sent as a bearer token (RFC 6750, section 2.1) to that host only, refreshed before it expires, and
    replaced once per call when the server refuses it.

    Args:
        appkey: as Kiwoom's developers' portal gives it: visible ASCII.
        secretkey: the same, or a callable that returns it (a vault); it is called for each issue and each revoke.
        host: ``REAL_HOST``, ``MOCK_HOST``, another https origin or bare host name, or a loopback http origin.
        cache: a cachetools cache or any mutable mapping to keep the token in; None: one for the whole process.
        store: where other processes find the token: a FileStore, a RedisStore or any TokenStore
            (``kiwoom_auth_plugin.stores``); None: it stays in this process.
        client: the requests.Session, httpx.Client or httpx2.Client that sends AU10001 and AU10002; None: a fresh one
            of requests, or of httpx where the call came from httpx or httpx2.
        timeout: seconds in total that an exchange with the token endpoint may take, attempts and body included.
        refresh_margin: seconds before expiry from which a refresh is tried in the background; 0: never.
        on_event: called with an AuthEvent for what is done for this object, in whichever thread does it: it must not
            block; None: nobody is told.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has an impossible value; the message names the argument, never its value.
    """

    _clock: ClassVar[Clock] = SYSTEM
    _last_hook: RefusalHook | None = None
    _appkey = _host = ""  # for the repr of one that is refused while it is made

    def __init__(
        self,
        appkey: str,
        secretkey: str | Callable[[], str],
        *,
        host: str = REAL_HOST,
        cache: TokenCache | None = None,
        store: TokenStore | None = None,
        client: Any = None,
        timeout: float = 10.0,
        refresh_margin: float = 300.0,
        on_event: Callable[[AuthEvent], object] | None = None,
    ) -> None:
        error = flaw(appkey)
        if error:
            del appkey, secretkey
            complain(error, "appkey")
        error = None if callable(secretkey) else flaw(secretkey)
        if error:
            del secretkey
            complain(error, "secretkey")
        self._secretkey = Secretkey(secretkey)
        del secretkey
        self._appkey = Masked(appkey)
        del appkey
        try:
            self._origin = Origin.from_host_argument(host)
        finally:
            del host
        self._host = self._origin.url
        self._prefix = f"{self._host}/"
        self._cache = mapping(cache)
        self._store = token_store(store)
        self._client = sync_client(client)
        self._timeout = seconds("timeout", timeout)
        if not 0 < self._timeout <= LONGEST_TIMEOUT:
            raise ValueError("timeout must be more than 0 seconds and at most a day")
        self._refresh_margin = seconds("refresh_margin", refresh_margin)
        self._on_event = listener(on_event)
        self._log = Log(self._appkey, self._host, on_event)
        identity = self._secretkey.identity
        self._source = source_for(self._appkey, self._host, identity, cache=cache, clock=self._clock, log=self._log)
        self._shared = None if store is None else SharedStore(store, self._clock, self._log)

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """Make one from the environment: ``KIWOOM_APPKEY``, ``KIWOOM_SECRETKEY`` and, optionally, ``KIWOOM_HOST``.

        Args:
            **options: keyword arguments of the class; ``host`` goes before ``KIWOOM_HOST``.

        Raises:
            ValueError: a variable is missing or malformed; the message names it.
        """
        host = os.environ.get("KIWOOM_HOST")
        if host and "host" not in options:
            try:
                options["host"] = Origin.from_host_argument(host).url
            except ValueError as malformed:
                del host
                raise ValueError(f"the environment variable KIWOOM_HOST: {malformed}") from None
        try:
            return cls(read_key_variable("KIWOOM_APPKEY"), read_key_variable("KIWOOM_SECRETKEY"), **options)
        finally:
            del options  # a host= that is refused may hold a password

    @classmethod
    def from_files(cls, appkey_path: str | PathLike[str], secretkey_path: str | PathLike[str], **options: Any) -> Self:
        """Make one from the two files that the developers' portal hands out.

        Args:
            appkey_path: such as ``12345678_appkey.txt``.
            secretkey_path: such as ``12345678_secretkey.txt``.
            **options: keyword arguments of the class.

        Raises:
            TypeError: one is no path.
            OSError: a file cannot be read.
            ValueError: a file holds no key; the message names the file.
        """
        try:
            return cls(read_key_file(appkey_path, "appkey"), read_key_file(secretkey_path, "secretkey"), **options)
        finally:
            del appkey_path, secretkey_path, options  # as above; the keys themselves may be in the place of the paths

    # requests

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Attach the token to a prepared request, and watch for the answer that refuses it.

        Raises:
            HostMismatch: the call goes to another of Kiwoom's API hosts than this object's.
            KiwoomAuthError: there is no token to be had.
        """
        url = r.url or ""
        if url.startswith(self._prefix) or self._covers(Origin.of_url(url)):
            token = self._present_token(self._by_requests) or self._source.get(self._by_requests)
            self._refusal_hook(token).sign(r)
        else:
            self._strip(r)
        return r

    # The token itself

    def get_token(self) -> str:
        """The access token, for a WebSocket's LOGIN or another client; issued if there is none.

        Raises:
            KiwoomAuthError: there is no token to be had.
        """
        return str((self._present_token(self._by_requests) or self._source.get(self._by_requests)).value)

    async def aget_token(self) -> str:
        """Like ``get_token``, under asyncio and trio, without ever blocking the event loop."""
        return str((self._present_token(self._by_httpx) or await self._source.aget(self._by_httpx)).value)

    @property
    def host(self) -> str:
        """The origin that the token is for, such as ``https://api.kiwoom.com``: what calls begin with."""
        return self._host

    @property
    def expires_at(self) -> datetime | None:
        """Until when the cached token is used, on this machine's clock, in KST; None without one. Never issues."""
        # A vault is not asked for what is only looked at.
        token = (
            self._source.cached(self._digest, self._log)
            if isinstance(self._secretkey.source, str)
            else self._source.token
        )
        if token is None or token.deadline <= self._clock.now():
            return None
        return self._clock.shown(token.deadline)

    def invalidate(self, token: str) -> None:
        """Forget this token if it is still the cached one, because a server (a WebSocket's, say) has refused it.

        From a store it is taken in the background. The server may hand back the same token: who calls this in a loop
        paces the loop.

        Args:
            token: the refused token; a newer one stays.

        Raises:
            TypeError: it is no string.
        """
        if not isinstance(cast("object", token), str):
            del token
            raise TypeError("token must be a string")
        hidden = Hidden(token)
        del token
        without_frames(lambda: self._invalidate(hidden.reveal()))

    def _invalidate(self, refused: Masked) -> None:
        dropped = self._source.invalidate(refused, self._log)
        self._by_requests.forget(refused, math.inf if dropped is None else dropped.dated)

    def revoke(self) -> None:
        """Revoke the cached token (AU10002) and forget it; without one, do nothing.

        It dies for every program that uses it. It is forgotten even if AU10002 fails.

        Raises:
            KiwoomAuthError: AU10002 failed; the token may live on until it expires. Or there is none in the cache, and
                the store cannot be read. Or the call was made from within this object's own AU10001.
        """
        self._refuse_reentry()
        self._revoke_by(self._by_requests)

    async def arevoke(self) -> None:
        """Like ``revoke``, under asyncio and trio, without ever blocking the event loop."""
        self._refuse_reentry()
        try:
            await in_thread(lambda: self._revoke_by(self._by_httpx), "kiwoom-auth-revoke")
        except NoThread as refusal:
            raise KiwoomAuthError(f"{self._host}: no thread for AU10002: {refusal}", host=self._host) from None

    def _refuse_reentry(self) -> None:
        """With a store, a flight of another source of the same appkey holds the lock that AU10002 would wait for."""
        self._source.refuse_reentry(turn=self._shared is not None)

    def _revoke_by(self, exchange: Exchange) -> None:
        token = self._source.cached(self._digest, self._log)

        def finds(stored: AccessToken) -> None:
            nonlocal token
            token = stored

        failure = None
        try:
            exchange.revoke(token, finds)
        except KiwoomAuthError as error:
            failure = error.copy()  # without the traceback, whose frames hold the secretkey
        finally:
            without_frames(lambda: self._source.invalidate(None if token is None else token.value, self._log, token))
        if failure is not None:
            raise failure
        if token is not None:
            self._log.tell(Note(logging.INFO, "token.revoked", "the token was revoked"))

    def _present_token(self, exchange: Exchange) -> AccessToken | None:
        """The fast path: a snapshot, no lock."""
        token = self._source.token
        if token is None:
            return None
        remaining = token.deadline - self._clock.now()
        if remaining > self._refresh_margin:
            return token
        if remaining <= 0:
            return None
        self._source.refresh_if_due(token, self._refresh_margin, exchange)
        return token

    # What it is

    def _covers(self, origin: Origin | None) -> bool:
        """Whether calls to this origin get the token; calls that go elsewhere by mistake are refused."""
        if origin == self._origin:
            return True
        if origin is not None and origin.is_kiwoom:
            raise HostMismatch(
                f"{self._host}: this auth object is not for {origin.url}: tokens serve only the host that issued them. "
                f"Call {self._host}, or, if you mean {origin.url}, make another auth object with that as host= and the "
                "key pair of that environment.",
                host=self._host,
            )
        return False

    def _strip(self, request: Any) -> None:
        """Take a token off a request that goes elsewhere, and was signed when it still went to the origin."""
        if is_one_of_ours(request.headers.get("Authorization"), self._source.token):
            headers = request.headers.copy()  # the one that it was copied from may go there still
            del headers["Authorization"]
            request.headers = headers

    # What only one side needs is made when it does: objects may live for one call.

    @cached_property
    def _by_requests(self) -> Exchange:
        return self._exchange("requests")

    @cached_property
    def _by_httpx(self) -> Exchange:
        return self._exchange("httpx")

    @cached_property
    def _means(self) -> Means:
        return Means(self._prefix, self._origin, self._source, self._by_requests)

    def _refusal_hook(self, token: AccessToken) -> RefusalHook:
        hook = self._last_hook
        if hook is None or hook.token is not token:
            hook = self._last_hook = RefusalHook(self._means, token)
        return hook

    def _digest(self) -> bytes:
        return without_frames(lambda: digest(self._secretkey.reveal(self._host)))

    def _exchange(self, library: Library) -> Exchange:
        issuer = Issuer(self._host, self._client)
        return Exchange(
            self._appkey,
            self._secretkey,
            host=self._host,
            issuer=issuer,
            store=self._shared,
            timeout=self._timeout,
            clock=self._clock,
            log=self._log,
            library=library,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(appkey={masked(self._appkey)!r}, host={self._host!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._appkey, self._secretkey.source, self._options())

    def __copy__(self) -> Self:
        return type(self)(self._appkey, self._secretkey.source, **self._options())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()  # a copy of the cache would be another cache

    def _options(self) -> dict[str, Any]:
        return {
            "host": self._host,
            "cache": self._cache,
            "store": self._store,
            "client": self._client,
            "timeout": self._timeout,
            "refresh_margin": self._refresh_margin,
            "on_event": self._on_event,
        }


def _rebuild(kind: type[KiwoomBearerAuth], appkey: str, secretkey: Any, options: dict[str, Any]) -> KiwoomBearerAuth:
    hidden = Secretkey(secretkey)
    del secretkey
    return kind(appkey, hidden.source, **options)
