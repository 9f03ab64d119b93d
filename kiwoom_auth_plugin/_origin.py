"""Origins (scheme, host, port; RFC 6454): the place that a token belongs to, and the places it must not go to."""

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

from ._keys import KEY_LENGTH

REAL_HOST = "https://api.kiwoom.com"
MOCK_HOST = "https://mockapi.kiwoom.com"

_DEFAULT_PORTS = {"https": 443, "http": 80}
_KIWOOM_NAMES = frozenset({"api.kiwoom.com", "mockapi.kiwoom.com"})
_HOST_ARGUMENT = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)


class Origin(NamedTuple):
    """An http or https origin in its one spelling: lower case, an IPv6 address without brackets, the port given."""

    scheme: str
    host: str
    port: int

    @staticmethod
    def from_host_argument(host: str) -> "Origin":
        """Read the ``host`` argument: an https origin, a loopback http origin, or a bare host name.

        Raises:
            TypeError: it is not a string.
            ValueError: it is something else; neither message nor traceback shows the value, which may hold a password.
        """
        if not isinstance(cast("object", host), str):
            kind = type(host).__name__
            del host
            raise TypeError(f"host must be a string, not {kind}")
        try:
            return _read(host)
        finally:
            del host

    @classmethod
    def of(cls, scheme: str, host: str | None, port: int | None) -> Self | None:
        """The origin of a URL taken apart, or None where it is no http(s) URL (ws, wss, a relative one)."""
        scheme = scheme.lower()
        if scheme not in _DEFAULT_PORTS or not host:
            return None
        host = host.strip("[]").lower()
        if ":" in host:
            host = _compressed(host)
        return cls(scheme, host, port or _DEFAULT_PORTS[scheme]) if host else None

    @classmethod
    def of_url(cls, url: str) -> Self | None:
        """The origin of a URL, or None where it is no http(s) URL that can be read."""
        try:
            parts = urlsplit(url)
            return cls.of(parts.scheme, parts.hostname, parts.port)
        except ValueError:
            return None

    def is_that_of(self, scheme: str, host: str | None, port: int | None) -> bool:
        """Whether the parts of a URL, in lower case, are this origin's; False does not say that they are not."""
        return host == self.host and scheme == self.scheme and (port or _DEFAULT_PORTS[scheme]) == self.port

    @property
    def url(self) -> str:
        """As RFC 6454 writes it: ``https://api.kiwoom.com``, ``http://127.0.0.1:8080``, ``http://[::1]:8080``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_kiwoom(self) -> bool:
        """Whether it has the name of one of Kiwoom's two API hosts, whatever its scheme and port."""
        return self.host.removesuffix(".") in _KIWOOM_NAMES


@lru_cache(maxsize=256)  # an auth object may be made for each call; what is refused is not kept
def _read(host: str) -> Origin:
    origin = _parsed(host)
    del host
    if origin is None:
        raise ValueError(
            "host must be an https origin such as 'https://api.kiwoom.com', a loopback http origin such as "
            f"'http://127.0.0.1:8080', or a bare host name (without a dot: of up to {KEY_LENGTH - 1} characters); "
            "without user name, path, query or fragment"
        )
    if not 0 < origin.port < 1 << 16:
        del origin
        raise ValueError("host has a port outside 1 to 65535")
    if origin.scheme == "http" and not origin.is_loopback:
        del origin
        raise ValueError("host must be https: plain http would show keys and tokens to everybody on the way")
    return origin


def _parsed(host: str) -> Origin | None:
    match = _HOST_ARGUMENT.fullmatch(host)
    if not match or (match["port"] and not match["scheme"]):
        return None
    scheme = (match["scheme"] or "https").lower()
    port = int(match["port"]) if match["port"] else _DEFAULT_PORTS[scheme]
    if match["name"]:
        return Origin(scheme, match["name"].lower(), port) if _is_a_host(match["name"]) else None
    try:
        return Origin(scheme, ipaddress.IPv6Address(match["ipv6"]).compressed, port)
    except ValueError:
        return None


def _is_a_host(name: str) -> bool:
    """Whether the name is of a length that DNS has (RFC 1035, section 2.3.4), and no key in the wrong place."""
    labels = name.split(".")
    if len(labels) == 1 and len(name) >= KEY_LENGTH:
        return False
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in labels)  # noqa: PLR2004 - of the RFC


def _compressed(address: str) -> str:
    """An IPv6 address in its one spelling (RFC 5952), or as it is where it is none."""
    try:
        return ipaddress.IPv6Address(address).compressed
    except ValueError:
        return address
