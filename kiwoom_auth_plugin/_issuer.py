"""Sends the messages of AU10001 and AU10002 with requests or httpx, and knows nothing of what they mean.

They carry no netrc, no session's auth, headers or cookies, follow no redirect, and are read up to a limit. What the
library takes from the environment (proxies, CA bundles) applies, except that nothing for a plain-http origin,
which is this machine, goes through the environment's proxies (an httpx.Client of the user's has its own mind).
"""

import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import httpx
import requests
import urllib3

from . import _httpx
from ._ahead import bound, unpacked
from ._answer import SIZE_LIMIT, Answer
from ._cutoff import Cutoff
from ._interrupts import interrupt_in, is_an_interrupt
from ._keys import MaskedBytes
from ._reasons import TOO_LONG, Cause, is_local, reason
from ._version import __version__
from .errors import InvalidTokenResponse, KiwoomAuthError, TokenEndpointUnreachable

Library: TypeAlias = Literal["requests", "httpx"]

_HEADERS = {
    "Content-Type": "application/json;charset=UTF-8",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    # What caches and recorders leave alone (RFC 9111, section 5.2.1.5): the body has the keys, the answer a token.
    "Cache-Control": "no-store",
    # A client= that forks after this would share the connection, and the answers on it, with its children.
    "Connection": "close",
    "User-Agent": f"kiwoom_auth_plugin/{__version__}",
}
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})


class Issuer:
    """Sends a message to an origin and brings its answer.

    Args:
        host: the origin, such as ``https://api.kiwoom.com``.
        client: the requests.Session, httpx.Client or httpx2.Client to send with; None: a fresh one each time.
    """

    __slots__ = ("_host", "client")

    def __init__(self, host: str, client: Any) -> None:
        self._host = host
        self.client = client

    def send(self, path: str, body: bytes, timeout: float, library: Library) -> Answer:
        """POST the body to the path.

        Args:
            path: below the origin, such as ``/oauth2/token``.
            body: JSON.
            timeout: seconds that the call may take.
            library: what to send with where no client was given.

        Raises:
            TokenEndpointUnreachable: no answer came.
            InvalidTokenResponse: the answer's encoding is not one that can be read within bounds.
        """
        if timeout <= 0:
            raise self._unreachable(path, TOO_LONG)
        post = self._post_by_requests if self._uses_requests(library) else self._post_by_httpx
        cutoff, before = Cutoff(timeout), sys.exception()
        failure: KiwoomAuthError
        try:
            with cutoff:
                answer = post(self._host + path, body, timeout, cutoff)
        except KiwoomAuthError as error:
            if is_an_interrupt(error):
                raise
            failure = error.copy()
        except Exception as exception:
            interrupt = interrupt_in(exception, before, _is_known)
            if interrupt is not None:
                raise interrupt  # noqa: B904 - it is what the exception was made of
            why = self._failure(exception, path, cutoff)
            if why is None:
                raise
            failure = why
        else:
            # What was cut off may look like an answer that ends early. One that is whole has had its effect.
            if not cutoff.happened or (answer.body and _is_framed(answer.headers)):
                return answer
            failure = self._unreachable(path, TOO_LONG)
        # Raised out here: the libraries' exceptions hold the request, and with it the secretkey.
        raise failure

    def _failure(self, exception: Exception, path: str, cutoff: Cutoff) -> KiwoomAuthError | None:
        """The error that an exception means for all who wait; None where it concerns only the caller it came to."""
        if self.client is None and _is_of_a_stranger(exception):
            return None
        if cutoff.happened:
            return self._unreachable(path, TOO_LONG)  # whatever the library makes of that
        if isinstance(exception, _UNREADABLE):
            words = f"the answer to POST {path} cannot be decompressed; look for a proxy in between"
            return InvalidTokenResponse(f"{self._host}: {words}", host=self._host)
        if isinstance(exception, _MISSING):
            words = type(exception).__name__ if _is_of_others(exception) else str(exception)
            failure = KiwoomAuthError(f"{self._host}: POST {path} cannot be sent: {words}", host=self._host)
            failure.local = True
        elif (
            isinstance(exception, _MISUSE)
            and self.client is None
            and not (cutoff.has_watched or _is_of_others(exception))
        ):
            why = f"its settings cannot be used ({type(exception).__name__}); check HTTPS_PROXY, ALL_PROXY and NO_PROXY"
            failure = self._unreachable(path, why)
            failure.retryable = False
            failure.local = True
        elif not isinstance(exception, _TAKEN) and (
            isinstance(exception, _UNREACHABLE) or _package(type(exception).__module__) in _LIBRARIES
        ):
            failure = self._unreachable(path, reason(exception, self._host))
            failure.local = is_local(exception)
        else:
            # A hook, a transport or a logging filter may raise anything; who waits for a token still needs an answer.
            words = "client= raised {}; check its hooks, transports and proxies"
            if self.client is None:
                words = _PATCHED if _is_of_others(exception) else Cause.LOST.value
            words = words.format(type(exception).__name__)
            failure = KiwoomAuthError(f"{self._host}: POST {path} failed: {words}", host=self._host)
            failure.local = self.client is None
        return failure

    def _unreachable(self, path: str, why: str) -> TokenEndpointUnreachable:
        return TokenEndpointUnreachable(f"{self._host}: no answer to POST {path}: {why}", host=self._host)

    def _uses_requests(self, library: Library) -> bool:
        if self.client is None:
            return library == "requests"
        return isinstance(self.client, requests.Session)

    def _post_by_requests(self, url: str, body: bytes, timeout: float, cutoff: Cutoff) -> Answer:
        hooks = {"response": without_location}
        request = requests.Request("POST", url, headers=_HEADERS, data=body, hooks=hooks).prepare()
        session = requests.Session() if self.client is None else self.client
        try:
            if self.client is None:
                session.trust_env = url.startswith("https:")
                session.mount(self._host, cutoff.adapter())
            settings = session.merge_environment_settings(url, {}, True, None, None)
            if url.startswith("http:"):
                settings["proxies"] = session.proxies
            with session.send(request, timeout=timeout, allow_redirects=False, **settings) as response:
                cutoff.watch_body(response.raw)
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._check_encoding(headers)
                content = content_by_requests(response)
                if not content and response.status_code == HTTPStatus.OK and not _is_framed(headers):
                    raise ConnectionResetError  # http.client takes headers that break off for headers that end
                return Answer(response.status_code, headers, MaskedBytes(content))
        finally:
            if self.client is None:
                session.close()

    def _post_by_httpx(self, url: str, body: bytes, timeout: float, cutoff: Cutoff) -> Answer:
        home = _httpx.home_of(self.client) or httpx
        extensions = {"timeout": home.Timeout(timeout).as_dict(), "trace": cutoff.trace}
        request = home.Request("POST", url, headers=_HEADERS, content=body, extensions=extensions)
        https = url.startswith("https:")  # without TLS, no CA bundle has to be loaded
        client = httpx.Client(verify=https, trust_env=https) if self.client is None else self.client
        try:
            response = client.send(request, auth=None, follow_redirects=False, stream=True)
            try:
                cutoff.watch_stream(response.extensions.get("network_stream"))
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._check_encoding(headers)
                content = _content_by_httpx(response)
                return Answer(response.status_code, headers, MaskedBytes(content))
            finally:
                response.close()
        finally:
            if self.client is None:
                client.close()

    def _check_encoding(self, headers: dict[str, str]) -> None:
        # None was asked for. One layer that grows at most a thousandfold is read all the same, a piece at a time;
        # several layers, or one that grows without bound, could fill the memory before they are counted.
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            why = "the answer has an unexpected Content-Encoding; look for a proxy in between"
            raise InvalidTokenResponse(f"{self._host}: {why}", host=self._host)


def without_location(response: requests.Response, **_send: Any) -> None:
    """Keep requests from reading a redirect to its end, which it does though it is not to follow it."""
    response.headers.pop("Location", None)


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it is sent, its chunks read by http.client: urllib3's own reader has had no bound for a line."""
    bound(response.raw)
    try:
        while piece := response.raw.read(8192, decode_content=False):
            yield piece
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError from error


def content_by_requests(response: requests.Response) -> bytes:
    """The body, decompressed, cut off soon after ``SIZE_LIMIT``.

    Raises:
        requests.RequestException: it does not come, or cannot be decompressed.
    """
    is_stand_in = not isinstance(response.raw, urllib3.HTTPResponse)
    if is_stand_in or getattr(response, "_content_consumed", False):  # or a hook of the client's has read it
        return _read(response.iter_content(8192))
    return _unpacked(_pieces(response), response.headers)


def _content_by_httpx(response: Any) -> bytes:
    if response.is_stream_consumed:  # by a hook of the client's, or nothing was sent at all
        return _read(response.iter_bytes(8192))
    return _unpacked(response.iter_raw(8192), response.headers)


def _unpacked(pieces: Iterable[bytes], headers: Mapping[str, str]) -> bytes:
    """The body, decompressed no further than it is looked at; the libraries count only what a piece has become."""
    content = unpacked(_read(pieces), headers.get("Content-Encoding"), SIZE_LIMIT + 1)
    if content is None:
        raise requests.exceptions.ContentDecodingError
    return content


def _is_framed(headers: Mapping[str, str]) -> bool:
    """Whether it is told where the body ends."""
    return headers.get("content-length", "").isdigit() or headers.get("transfer-encoding", "").lower() == "chunked"


def _read(chunks: Iterable[bytes]) -> bytes:
    """The body, cut off soon after ``SIZE_LIMIT``: longer ones are judged by their length."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > SIZE_LIMIT:
            break
    return bytes(content)


_MISSING = (ImportError, requests.exceptions.InvalidSchema)
"""What a SOCKS proxy costs without the library that it takes; the words are the library's, and name it."""
_MISUSE: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    RuntimeError,
    *(module.InvalidURL for module in _httpx.FAMILY),
)
"""What comes of malformed proxies and CA bundles in the environment."""
_UNREADABLE: tuple[type[Exception], ...] = (
    requests.exceptions.ContentDecodingError,
    *(module.DecodingError for module in _httpx.FAMILY),
)
_TAKEN: tuple[type[Exception], ...] = (
    requests.exceptions.StreamConsumedError,
    *(module.StreamError for module in _httpx.FAMILY),
)
"""What comes of a hook that has taken the answer."""
_UNREACHABLE: tuple[type[Exception], ...] = (OSError, *(module.TransportError for module in _httpx.FAMILY))
_LIBRARIES = frozenset(
    {"requests", "urllib3", "socks", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "socksio", "idna"}
)
_KNOWN = _LIBRARIES | sys.stdlib_module_names | {__name__.partition(".")[0]}
_PATCHED = "{} was raised; check the filters of your logging, and what patches the HTTP library"


def _is_of_a_stranger(exception: Exception) -> bool:
    """Whether somebody else raised it into this thread: a signal handler, or a time limit of a task queue's.

    Its kind tells: it is neither the libraries' nor Python's own. A stack or memory that is full is the caller's, too.
    """
    if isinstance(exception, _UNREACHABLE):
        return False
    return isinstance(exception, (RecursionError, MemoryError)) or not _is_known(type(exception).__module__)


def _is_of_others(exception: Exception) -> bool:
    """Whether a callback had a part in it."""
    frames = traceback.walk_tb(exception.__traceback__)
    return not all(_is_known(frame.f_globals.get("__name__")) for frame, _line in frames)


def _is_known(module: object) -> bool:
    return _package(module) in _KNOWN


def _package(module: object) -> str:
    return str(module).partition(".")[0]
