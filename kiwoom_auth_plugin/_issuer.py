"""Sends the messages of AU10001 and AU10002 with requests or httpx, and knows nothing of what they mean.

They carry no netrc, no session's auth, headers or cookies, follow no redirect, and are read up to a limit. What the
library takes from the environment (proxies, CA bundles) applies, except that nothing for a plain-http origin,
which is this machine, goes through a proxy.
"""

import socket
import ssl
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import httpx
import requests

from . import _httpx
from ._answer import SIZE_LIMIT, Answer
from ._cutoff import Cutoff
from ._version import __version__
from .errors import InvalidTokenResponse, KiwoomAuthError, TokenEndpointUnreachable

Library: TypeAlias = Literal["requests", "httpx"]

_HEADERS = {
    "Content-Type": "application/json;charset=UTF-8",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
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
            raise self._unreachable(path, _TOO_LONG)
        post = self._post_by_requests if self._uses_requests(library) else self._post_by_httpx
        cutoff = Cutoff(timeout)
        try:
            with cutoff:
                answer = post(self._host + path, body, timeout, cutoff)
            if not cutoff.happened:
                return answer
            # What was cut off may look like an answer that ends early.
            failure: KiwoomAuthError = self._unreachable(path, _TOO_LONG)
        except KiwoomAuthError as error:
            failure = error.copy()
        except _UNREADABLE:
            failure = InvalidTokenResponse(
                f"{self._host}: the answer to POST {path} cannot be decompressed", host=self._host
            )
        except _UNREACHABLE as exception:
            failure = self._unreachable(path, _TOO_LONG if cutoff.happened else _reason(exception))
            failure.local = not cutoff.happened and _is_any(exception, _LOCAL)
        except ImportError as exception:
            failure = KiwoomAuthError(f"{self._host}: POST {path} cannot be sent: {exception}", host=self._host)
            failure.local = True
        except Exception as exception:
            if self.client is None and not isinstance(exception, _MISUSE):
                raise  # not of the library's making: a signal handler's, say
            # A hook or a transport of client= may raise anything; who waits for a token still needs an answer.
            failure = KiwoomAuthError(
                f"{self._host}: POST {path} failed: {'client=' if self.client else 'the library'} raised "
                f"{type(exception).__name__}; check the proxy settings, or the hooks and transports of client=",
                host=self._host,
            )
            failure.local = True
        # Raised out here: the libraries' exceptions hold the request, and with it the secretkey.
        raise failure

    def _unreachable(self, path: str, why: str) -> TokenEndpointUnreachable:
        return TokenEndpointUnreachable(f"{self._host}: no answer to POST {path}: {why}", host=self._host)

    def _uses_requests(self, library: Library) -> bool:
        if self.client is None:
            return library == "requests"
        return isinstance(self.client, requests.Session)

    def _post_by_requests(self, url: str, body: bytes, timeout: float, cutoff: Cutoff) -> Answer:
        request = requests.Request("POST", url, headers=_HEADERS, data=body).prepare()
        session = self.client or requests.Session()
        try:
            if self.client is None:
                session.trust_env = url.startswith("https:")
                session.mount(self._host, cutoff.adapter())
            settings = session.merge_environment_settings(url, {}, True, None, None)
            with session.send(request, timeout=timeout, allow_redirects=False, **settings) as response:
                cutoff.watch_body(response.raw)
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._check_encoding(headers)
                content = _read(response.iter_content(8192))
                if not content and response.status_code == HTTPStatus.OK and not _FRAMING & headers.keys():
                    raise ConnectionResetError  # http.client takes headers that break off for headers that end
                return Answer(response.status_code, headers, content)
        finally:
            if self.client is None:
                session.close()

    def _post_by_httpx(self, url: str, body: bytes, timeout: float, cutoff: Cutoff) -> Answer:
        home = _httpx.home_of(self.client) or httpx
        extensions = {"timeout": home.Timeout(timeout).as_dict(), "trace": cutoff.trace}
        request = home.Request("POST", url, headers=_HEADERS, content=body, extensions=extensions)
        https = url.startswith("https:")  # without TLS, no CA bundle has to be loaded
        client = self.client or httpx.Client(verify=https, trust_env=https)
        try:
            response = client.send(request, auth=None, follow_redirects=False, stream=True)
            try:
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._check_encoding(headers)
                content = _read(response.iter_bytes(8192))
                return Answer(response.status_code, headers, content)
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
            raise InvalidTokenResponse(f"{self._host}: the answer has an unexpected Content-Encoding", host=self._host)


def _read(chunks: Iterable[bytes]) -> bytes:
    """The body, cut off soon after ``SIZE_LIMIT``: longer ones are judged by their length."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > SIZE_LIMIT:
            break
    return bytes(content)


_MISUSE: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    *(module.InvalidURL for module in _httpx.FAMILY),
)
"""What building a client raises where the environment's proxies or CA bundles are malformed."""
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_UNREADABLE: tuple[type[Exception], ...] = (
    requests.exceptions.ContentDecodingError,
    *(module.DecodingError for module in _httpx.FAMILY),
)
_UNREACHABLE: tuple[type[Exception], ...] = (
    requests.RequestException,
    *(module.TransportError for module in _httpx.FAMILY),
    OSError,
)
_LOCAL: tuple[type[Exception], ...] = (
    ssl.SSLCertVerificationError,
    requests.exceptions.ProxyError,
    *(module.ProxyError for module in _httpx.FAMILY),
)
"""What the settings of one library bring about, and those of another may not."""
_TOO_LONG = "it took too long; check the network, or give a longer timeout="
_ADVICE: list[tuple[type[BaseException], str]] = [
    (
        ssl.SSLCertVerificationError,
        "its certificate is not trusted; is there a proxy in between, or an old CA bundle?",
    ),
    (ssl.SSLError, "TLS failed; is there a proxy or a firewall in between?"),
    (socket.gaierror, "the name could not be resolved; check the network and DNS"),
    (ConnectionRefusedError, "the connection was refused; check the address, and whether the server is up"),
    (
        requests.exceptions.ProxyError,
        "the proxy did not let it through; check HTTPS_PROXY and the proxy's login",
    ),
    *((module.ProxyError, "the proxy did not let it through; check HTTPS_PROXY") for module in _httpx.FAMILY),
    (requests.Timeout, _TOO_LONG),
    *((module.TimeoutException, _TOO_LONG) for module in _httpx.FAMILY),
    (TimeoutError, _TOO_LONG),
]


def _reason(exception: BaseException) -> str:
    """What happened and what to do, in words of our own: the libraries' may quote the request."""
    for kind, advice in _ADVICE:
        if _is_any(exception, kind):
            return advice
    return f"the connection was lost ({type(list(_chain(exception))[-1]).__name__}); check the network"


def _is_any(exception: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether it is of these kinds, or comes of one that is."""
    return any(isinstance(link, kinds) for link in _chain(exception))


def _chain(exception: BaseException | None) -> Iterable[BaseException]:
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        yield exception
        exception = exception.__cause__ or exception.__context__
