"""Why a call of the token endpoint brought no answer: what happened and what to do, in words of our own.

The libraries' words may quote the request, and with it the secretkey.
"""

import socket
import ssl
from collections.abc import Iterator
from typing import TypeAlias

import requests
from requests.utils import get_environ_proxies, select_proxy

from . import _httpx

TOO_LONG = "it took too long; check the network, or give a longer timeout="

_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

_PROXY: tuple[type[BaseException], ...] = (
    requests.exceptions.ProxyError,
    *(module.ProxyError for module in _httpx.FAMILY),
)
_TIMEOUT: _Kinds = (requests.Timeout, TimeoutError, *(module.TimeoutException for module in _httpx.FAMILY))
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64
"""Of X509_V_ERR in OpenSSL."""
_ANOTHER_NAME = "its certificate is for another name; check host=, or is there a proxy in between?"
_CERTIFICATE = {
    _NOT_YET_VALID: "its certificate is not yet valid; check this machine's clock",
    _EXPIRED: "its certificate has expired; check this machine's clock, or is there a proxy in between?",
    _WRONG_NAME: _ANOTHER_NAME,
    _WRONG_ADDRESS: _ANOTHER_NAME,
}
_NOT_TRUSTED = "its certificate is not trusted; is there a proxy in between, or an old CA bundle?"
_BUNDLE = "the CA bundle cannot be loaded; check REQUESTS_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR"


def reason(failure: BaseException, url: str) -> str:
    """What happened and what to do.

    Args:
        failure: what the library raised.
        url: what was called.
    """
    links = list(_links(failure))
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            return _CERTIFICATE.get(link.verify_code, _NOT_TRUSTED)
    if _has_no_bundle(links):
        return _BUNDLE
    if _is_any(links, _PROXY):
        return "the proxy did not let it through; check HTTPS_PROXY and the proxy's login"
    if _is_any(links, ssl.SSLError):
        return "TLS failed; is there a proxy or a firewall in between?"
    if _is_any(links, socket.gaierror):
        words = "the name could not be resolved; check the network and DNS"
    elif _is_any(links, ConnectionRefusedError):
        words = "the connection was refused; check the address, and whether the server is up"
    elif _is_any(links, _TIMEOUT):
        words = TOO_LONG
    else:
        kind = type(links[-1]).__name__
        words = f"the connection was lost, or what came was no HTTP ({kind}); check the network, and host and port"
    if _has_proxy(url):
        words += "; check the proxy that HTTPS_PROXY names, too"
    return words


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
