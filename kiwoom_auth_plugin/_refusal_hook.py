"""The response hook of a call by requests: reads the answer, and repeats the call once with another token."""

import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from io import BytesIO
from typing import Any, NamedTuple, Self
from urllib.parse import urljoin

import requests
import urllib3

from ._ahead import bound, decompressed, limit
from ._exchange import Exchange
from ._keys import Hidden, without_frames
from ._origin import Origin
from ._refusal import UNAUTHORIZED, refuses_header, refuses_token
from ._source import TokenSource
from ._token import AccessToken, bearer_token, is_bearer

_JUDGED = "_kiwoom_judged"
"""An attribute of the answer to a repetition: it is not repeated again."""


class Means(NamedTuple):
    """What a repetition takes; the same for all calls of one auth object."""

    prefix: str
    """What the URLs begin with that the token belongs to, as they usually are written."""
    origin: Origin
    """Where it belongs."""
    source: TokenSource
    """Where another token comes from."""
    exchange: Exchange
    """How one is issued."""

    def cover(self, url: str) -> bool:
        """Whether a URL is of the origin."""
        return url.startswith(self.prefix) or Origin.of_url(url) == self.origin


class RefusalHook:
    """What ``KiwoomBearerAuth`` registers with a prepared request.

    One serves all that carry the same token, but for those whose bodies have to be rewound, and for one that is sent
    again with another token: they have their own.

    Session.send calls it with each answer to the request and to those that redirects make of it. It is not pickled
    with the request, since it leads to the secretkey.

    Args:
        means: what a repetition takes.
        token: what the requests carry.
        start: where a file-like body starts to be sent; None where there is none, or that cannot be told.
    """

    def __init__(self, means: Means, token: AccessToken, start: int | None = None) -> None:
        self._means = means
        self.token = token
        self._start = start
        self._spent_after: requests.PreparedRequest | None = None
        """The request whose repetition led to others: those are of the same call, and not repeated once more."""

    def sign(self, request: requests.PreparedRequest) -> None:
        """Attach the token, and watch for the answer that refuses it, in place of one from an earlier time."""
        body: Any = request.body
        hook = self if isinstance(body, bytes) else RefusalHook(self._means, self.token, _position(body))
        hook.attach(request)

    def attach(self, request: requests.PreparedRequest) -> None:
        """Give a request the token and this hook in one step, since others may be sending it with another token.

        A hook takes what a request carries for what was sent, but where that token is another hook's of the request.
        """
        hooks = _hooks(request, self)
        request.__dict__.update(headers=self._signed(request), hooks=hooks)

    def _signed(self, request: requests.PreparedRequest) -> Any:
        """Headers of its own with the token: another request may have the same, and go to another account."""
        headers = request.headers.copy()
        headers["Authorization"] = self.token.header  # last: whatever raises, no frame holds the token
        return headers

    def __call__(self, response: requests.Response, **send: Any) -> requests.Response:
        """The answer itself, or the one to the repeated request with the refused one in its history.

        Raises:
            KiwoomAuthError: the token was refused and there is no other to be had.
        """
        request = response.request
        if not hasattr(request, "hooks"):  # it comes from a cache on the disk
            return response
        if not self._means.cover(request.url or "") or self._leads_elsewhere(response):
            return response
        if _JUDGED in response.__dict__:  # by a session that calls the hooks twice
            return response
        is_spent = self._spent_after is not None and request is not self._spent_after
        if self._spent_after is request and response.is_redirect:  # it is sent another time
            request.hooks = _hooks(request, RefusalHook(self._means, self.token, self._start))
        token = self._replacement(response, streamed=bool(send.get("stream")), is_spent=is_spent)
        return response if token is None else self._repeat(response, token, send)

    def _replacement(self, response: requests.Response, *, streamed: bool, is_spent: bool) -> AccessToken | None:
        """The token to repeat the request with; None where it is not to be repeated."""
        request = response.request
        content = _readable(response, streamed=streamed)
        judge = _judge_of(request)
        if judge is None or not judge(response.status_code, content):
            return None
        sent = without_frames(lambda: self._sent_token(request)) if judge is refuses_token else None
        if judge is refuses_token and not (sent and without_frames(lambda: self._makes_way(sent.reveal()))):
            return None
        if is_spent or not hasattr(response, "connection") or not _rewound(request.body, self._start):
            return None
        # A refusal that has been read to its end leaves its connection to AU10001 and to the repetition. Another one is
        # in the way of whoever has no second connection.
        if content is None:
            response.close()
        replacement = self._means.source.get(self._means.exchange)
        return None if sent is not None and sent.reveal() == replacement.value else replacement

    def _sent_token(self, request: requests.PreparedRequest) -> Hidden | None:
        """The token that the request was sent with; None where somebody has taken it away meanwhile.

        Where several threads send one request, another may have put a newer token into it meanwhile, and with it a
        newer hook: requests calls those that it had when it was sent.
        """
        carried = bearer_token(request.headers.get("Authorization"))
        others = [hook for hook in request.hooks["response"] if isinstance(hook, RefusalHook) and hook is not self]
        if any(hook.token.value == carried for hook in others):
            return Hidden(self.token.value)
        return None if carried is None else Hidden(carried)

    def _makes_way(self, refused: str) -> bool:
        """Whether a refused token is dropped for another, and the server not known to have none at the moment.

        One that somebody has put into the request is not: an order on another account must not be repeated on this one.
        """
        source = self._means.source
        tokens = (self.token, source.token)
        is_ours = refused in [token.value for token in tokens if token is not None]
        return is_ours and source.drop_refused(refused, self._means.exchange.log)

    def _repeat(self, response: requests.Response, token: AccessToken, send: dict[str, Any]) -> requests.Response:
        request = response.request
        response.close()
        successor = RefusalHook(self._means, token, self._start)
        # What the session holds on to must carry the new token: it may be redirected, or sent another time.
        response.request = request.copy()
        successor.attach(request)
        started = time.perf_counter()
        send.pop("allow_redirects", None)  # which a session has left that calls the hooks twice
        repeated: requests.Response = response.connection.send(request, **send)
        repeated.elapsed = timedelta(seconds=time.perf_counter() - started)
        repeated.history.append(response)
        if self._leads_elsewhere(repeated):
            return repeated
        if repeated.is_redirect:
            successor._spent_after = request
        else:
            repeated.__dict__[_JUDGED] = True
            content = _readable(repeated, streamed=bool(send.get("stream")))
            accepted = not refuses_token(repeated.status_code, content)
            self._means.source.judge_replacement(token, accepted=accepted)
        return repeated

    def _leads_elsewhere(self, response: requests.Response) -> bool:
        """Whether it is a redirect to another origin. The token does not go along, nor to where that redirects to.

        requests would take it along from http to https of the same host.
        """
        if (
            response.status_code < HTTPStatus.MULTIPLE_CHOICES
            or not response.is_redirect
            or self._means.cover(_redirect_target(response))
        ):
            return False
        request = response.request
        hooks = _hooks(request)
        headers = request.headers.copy()
        headers.pop("Authorization", None)
        request.__dict__.update(headers=headers, hooks=hooks)
        return True

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return SpentHook, ()


class SpentHook:
    """What is left of a hook after pickling: the answer stays as it is."""

    def __call__(self, response: requests.Response, **_send: Any) -> requests.Response:
        """The answer itself."""
        return response


def _hooks(request: requests.PreparedRequest, *hooks: RefusalHook) -> dict[str, Any]:
    """The hooks of a request, and of those that redirects make of it, with these of ours before the user's."""
    others = [hook for hook in request.hooks["response"] if not isinstance(hook, (RefusalHook, SpentHook))]
    # A new list, since requests may be walking through this one; a new dict, which copies made before do not share.
    return {**request.hooks, "response": [*hooks, *others]}


def _judge_of(request: requests.PreparedRequest) -> Callable[[int, bytes | None], bool] | None:
    """What tells whether an answer refuses what the request carries; None where that is nothing.

    A foreign host may have sent it here: requests has taken the token off on the way. After a redirect it may carry
    what requests took from a netrc file. In another spelling it may be the token of another account, which somebody has
    put there.
    """
    header = request.headers.get("Authorization")
    if is_bearer(header):
        return refuses_token
    return refuses_header if isinstance(header, str) and header.startswith("Basic ") else None


def _redirect_target(response: requests.Response) -> str:
    return urljoin(response.url, response.headers["location"])


def _readable(response: requests.Response, *, streamed: bool) -> bytes | None:
    """The body of an answer as far as it may be read now; None where it is left to the caller."""
    if not streamed or isinstance(getattr(response, "_content", None), bytes):  # an adapter may have read it already
        return response.content
    if response.status_code != UNAUTHORIZED and "content-length" not in response.headers:
        return None  # it may come drop by drop, and its caller be waiting for each
    most = limit(response.status_code, response.headers)
    raw = response.raw
    if not most or not isinstance(raw, urllib3.HTTPResponse):
        return None  # not isinstance: a stand-in from a test, that could not be put together again
    bound(raw)
    body = b""
    try:
        # Counted, not believed: beside Transfer-Encoding, the stated length means nothing.
        while len(body) <= most and (piece := raw.read(most + 1 - len(body), decode_content=False)):
            body += piece
    except urllib3.exceptions.ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error, request=response.request) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error, request=response.request) from error
    response.raw = _raw_again(response, body)
    return None if len(body) > most else decompressed(body, response.headers.get("content-encoding"))


def _raw_again(response: requests.Response, beginning: bytes) -> urllib3.HTTPResponse:
    """What ``response.raw`` was before its beginning was read."""
    raw: urllib3.HTTPResponse = response.raw
    restored: Any = _Restored(beginning, raw)
    return urllib3.HTTPResponse(
        body=restored,
        headers=raw.headers,
        status=raw.status,
        version=raw.version,
        reason=raw.reason,
        preload_content=False,
        decode_content=raw.decode_content,
        original_response=getattr(raw, "_original_response", None),  # where requests finds the cookies
        request_method=response.request.method,
    )


class _Restored:
    """What was read of an answer, and then the rest, undecoded: all that urllib3 has to know of a file."""

    def __init__(self, beginning: bytes, rest: urllib3.HTTPResponse) -> None:
        self._beginning = BytesIO(beginning)
        self._length = len(beginning)
        self._rest = rest

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self._beginning.read() + self._rest.read(decode_content=False)
        content = self._beginning.read(size)
        if len(content) < size:
            content += self._rest.read(size - len(content), decode_content=False)
        return content

    def read1(self, size: int = -1) -> bytes:
        return self._beginning.read1(size) or self._rest.read1(size, decode_content=False)

    @property
    def closed(self) -> bool:
        """Whether there is nothing left to read: urllib3 goes on until then."""
        return self._beginning.tell() == self._length and self._rest.closed

    def close(self) -> None:
        """Leave what is left, and give the connection back."""
        self._beginning.seek(self._length)
        self._rest.close()
        self._rest.release_conn()


def _position(body: Any) -> int | None:
    """Where a file-like body starts to be sent; None where that cannot be told."""
    try:
        return int(body.tell())
    except (AttributeError, OSError):
        return None


def _rewound(body: Any, start: int | None) -> bool:
    """Make a body ready to be sent again; False where that cannot be done."""
    if body is None or isinstance(body, (bytes, str, bytearray)):
        return True
    if start is None:
        return False
    try:
        body.seek(start)
    except (AttributeError, OSError, ValueError):
        return False
    return True
