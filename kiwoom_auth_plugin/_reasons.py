"""Why a call of the token endpoint brought no answer: what happened and what to do, in words of our own.

The libraries' words may quote the request, and with it the secretkey.
"""

import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from typing import TypeAlias

import requests
from requests.utils import get_environ_proxies, select_proxy

from . import _httpx

_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

_PROXY: tuple[type[BaseException], ...] = (
    requests.exceptions.ProxyError,
    *(module.ProxyError for module in _httpx.FAMILY),
)
_TIMEOUT: _Kinds = (requests.Timeout, TimeoutError, *(module.TimeoutException for module in _httpx.FAMILY))


class Cause(Enum):
    """What is in the way, in words that say what to do."""

    NOT_YET_VALID = "its certificate is not yet valid; check this machine's clock"
    EXPIRED = "its certificate has expired; check this machine's clock, or is there a proxy in between?"
    ANOTHER_NAME = "its certificate is for another name; check host=, or is there a proxy in between?"
    NOT_TRUSTED = "its certificate is not trusted; is there a proxy in between, or an old CA bundle?"
    BUNDLE = "the CA bundle cannot be loaded; check REQUESTS_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR"
    PROXY = "the proxy did not let it through; check HTTPS_PROXY and the proxy's login"
    SETTINGS = "the proxy cannot be used; check HTTPS_PROXY and ALL_PROXY, and for a SOCKS proxy install pysocks"
    TLS = "TLS failed; is there a proxy or a firewall in between?"
    NAME = "the name could not be resolved; check the network and DNS"
    REFUSED = "the connection was refused; check the address, and whether the server is up"
    TOO_LONG = "it took too long; check the network, or give a longer timeout="
    LOST = "the connection was lost, or what came was no HTTP ({}); check the network, and host and port"


TOO_LONG: str = Cause.TOO_LONG.value
_CERTIFICATE = {9: Cause.NOT_YET_VALID, 10: Cause.EXPIRED, 62: Cause.ANOTHER_NAME, 64: Cause.ANOTHER_NAME}
"""By X509_V_ERR in OpenSSL; 64 is a wrong address."""
_BEFORE_THE_SERVER = frozenset({Cause.NAME, Cause.REFUSED, Cause.TOO_LONG, Cause.LOST})
"""What may have happened on the way to a proxy as well."""


def reason(failure: BaseException, url: str) -> str:
    """What happened and what to do.

    Args:
        failure: what the library raised.
        url: what was called.
    """
    links = list(_links(failure))
    cause = _cause(links)
    words: str = cause.value.format(type(links[-1]).__name__)
    if cause in _BEFORE_THE_SERVER and _has_proxy(url):
        words += "; check the proxy that HTTPS_PROXY names, too"
    return words


def cause(failure: BaseException) -> Cause:
    """What happened, for those who have words of their own."""
    return _cause(list(_links(failure)))


def _cause(links: list[BaseException]) -> Cause:
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            return _CERTIFICATE.get(link.verify_code, Cause.NOT_TRUSTED)
    if _has_no_bundle(links):
        return Cause.BUNDLE
    kinds: dict[Cause, _Kinds] = {
        Cause.PROXY: _PROXY,
        Cause.SETTINGS: (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL),
        Cause.TLS: ssl.SSLError,
        Cause.NAME: (socket.gaierror, UnicodeError),
        Cause.REFUSED: ConnectionRefusedError,
        Cause.TOO_LONG: _TIMEOUT,
    }
    return next((cause for cause, kind in kinds.items() if _is_any(links, kind)), Cause.LOST)


def is_local(failure: BaseException) -> bool:
    """Whether the settings of one library have brought it about, so that another may do."""
    links = list(_links(failure))
    return _is_any(links, (ssl.SSLCertVerificationError, *_PROXY)) or _has_no_bundle(links)


def _links(failure: BaseException) -> Iterator[BaseException]:
    """The failure, and all that it comes of: what came first comes last."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [failure]
    while waiting:
        link = waiting.pop(0)
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__]


def _is_any(links: list[BaseException], kinds: _Kinds) -> bool:
    return any(isinstance(link, kinds) for link in links)


def _has_no_bundle(links: list[BaseException]) -> bool:
    """A bare OSError is raised by requests, what the system says by httpx, X509 by TLS where the bundle is none."""
    return any(
        isinstance(link, FileNotFoundError)
        or (type(link) is OSError and link is links[0])
        or (isinstance(link, ssl.SSLError) and link.library in {"X509", "PEM"})
        for link in links
    )


def _has_proxy(url: str) -> bool:
    return url.startswith("https:") and bool(select_proxy(url, get_environ_proxies(url)))
