"""The httpx and httpx2 side of ``KiwoomBearerAuth``: attaches the token, reads the answer, repeats once."""

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from . import _httpx
from ._keys import awithout_frames, without_frames
from ._origin import Origin
from ._peek import adrop, alook, drop, look
from ._refusal import refuses_token
from ._source import TokenSource
from ._token import AccessToken, carried_token

if TYPE_CHECKING:
    from functools import cached_property

    from ._exchange import Exchange

_BYTE_STREAMS: tuple[type, ...] = tuple(module.ByteStream for module in _httpx.FAMILY)
_CLAIM = "_kiwoom_claim"
"""The attribute of a request with its ``_Claim``."""


class _Claim:
    """Which token a request is sent with, and with no other. Pickled, with the request, it is None."""

    __slots__ = ("token",)

    def __init__(self, token: AccessToken) -> None:
        self.token = token

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class HttpxFlow(_httpx.Auth):
    """The authentication flow of one auth object; the sync and the async one differ in how they wait."""

    _origin: Origin
    _source: TokenSource

    if TYPE_CHECKING:

        @cached_property
        def _by_httpx(self) -> Exchange: ...

        def _covers(self, origin: Origin | None) -> bool: ...

        def _present_token(self, exchange: Exchange) -> AccessToken | None: ...

        def _strip(self, request: Any) -> None: ...

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The same as ``sync_auth_flow``."""
        return self.sync_auth_flow(request)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Attach the token to a request of httpx or httpx2; repeat it once with another if the answer refuses it.

        Raises:
            HostMismatch: the call goes to another of Kiwoom's API hosts than this object's.
            KiwoomAuthError: there is no token to be had.
        """
        if not self._takes(request.url):
            self._strip(request)
            yield request
            return
        token = self._present_token(self._by_httpx) or self._source.get(self._by_httpx)
        request = _signed(request, token)
        response = yield request
        content = look(response)
        if not refuses_token(response.status_code, content):
            return
        request = _last_request(response, request)
        if not self._may_be_repeated(request, token):
            return
        replacement = without_frames(lambda: self._source.replace(carried_token(request.headers), self._by_httpx))
        if replacement is None:
            return
        if content is None:
            drop(response)
        response = yield _signed_anew(request, replacement)
        accepted = not refuses_token(response.status_code, look(response))
        self._source.judge_replacement(replacement, accepted=accepted)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Like ``sync_auth_flow``, under asyncio and trio, without ever blocking the event loop."""
        if not self._takes(request.url):
            self._strip(request)
            yield request
            return
        token = self._present_token(self._by_httpx) or await self._source.aget(self._by_httpx)
        request = _signed(request, token)
        response = yield request
        content = await alook(response)
        if not refuses_token(response.status_code, content):
            return
        request = _last_request(response, request)
        if not self._may_be_repeated(request, token):
            return
        replacement = await awithout_frames(
            lambda: self._source.areplace(carried_token(request.headers), self._by_httpx)
        )
        if replacement is None:
            return
        if content is None:
            await adrop(response)
        response = yield _signed_anew(request, replacement)
        accepted = not refuses_token(response.status_code, await alook(response))
        self._source.judge_replacement(replacement, accepted=accepted)

    def _takes(self, url: Any) -> bool:
        host = url.raw_host.decode("ascii")
        return self._origin.is_that_of(url.scheme, host, url.port) or self._covers(_origin_of(url))

    def _may_be_repeated(self, request: Any, token: AccessToken) -> bool:
        """Whether this request, whose token was refused, may be sent again with another."""
        ours = [one for one in (token, self._source.token) if one is not None]
        if not any(request.headers.get("Authorization") == one.header for one in ours):
            return False  # signed by somebody else: it may be an order on another account
        if _origin_of(request.url) != self._origin:
            return False  # redirected
        if isinstance(request.stream, _BYTE_STREAMS):
            return True
        without_frames(lambda: self._source.drop_refused(carried_token(request.headers), self._by_httpx.log))
        return False  # its body cannot be sent again


def _origin_of(url: Any) -> Origin | None:
    # Not url.host: that is the name of an international domain as people read it, not as it is connected to.
    return Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)


def _signed(request: Any, token: AccessToken) -> Any:
    """The request with the token; a copy of it where somebody may be sending it with another one."""
    # One step, since two threads may send it at the same moment, with the tokens of two accounts.
    attributes: dict[str, Any] = request.__dict__
    claim: _Claim | None = attributes.setdefault(_CLAIM, _Claim(token))
    if claim is None or claim.token.value != token.value:
        return _signed_anew(request, token)
    headers = request.headers.copy()  # others may be reading it, and what copy.copy has made of the request has it, too
    headers["Authorization"] = token.header
    request.headers = headers
    return request


def _signed_anew(request: Any, token: AccessToken) -> Any:
    """The same request with another token, as an object of its own: the history keeps the first as it was sent."""
    kind: type[Any] = request.__class__  # of the user's own, perhaps
    repeated: Any = object.__new__(kind)
    repeated.__dict__ = {**request.__dict__, _CLAIM: _Claim(token)}
    repeated.headers, repeated.extensions = request.headers.copy(), {**request.extensions}
    repeated.headers["Authorization"] = token.header
    if isinstance(request.stream, _BYTE_STREAMS):
        repeated.read()
    return repeated


def _last_request(response: Any, request: Any) -> Any:
    """The request that the answer is to: after a redirect not the one that was yielded."""
    try:
        return response.request
    except RuntimeError:  # a flow that is driven by hand
        return request
