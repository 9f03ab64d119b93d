"""What can go wrong, so that the ``except`` clauses of existing requests, httpx and httpx2 code catch it.

* KiwoomAuthError                  (a requests.RequestException, an httpx.HTTPError, an httpx2.HTTPError)
  - CredentialsRejected            the key pair is wrong, incomplete or of the other environment
  - AddressRejected                this machine's IP address is not registered for the appkey
  - IssueLimitExceeded             AU10001 was called too often
  - TokenEndpointUnreachable       no answer (also a requests.ConnectionError and an httpx.TransportError)
  - InvalidTokenResponse           an answer that is none
  - HostMismatch                   a call to a Kiwoom API host that the auth object was not made for

None of them holds a request or a response: those carry the secretkey and the token.
"""

# ``request`` and ``response`` are attributes in requests, a property in httpx, and None here:
# pyright: reportIncompatibleVariableOverride=false, reportIncompatibleMethodOverride=false

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import requests

from . import _httpx

__all__ = [
    "AddressRejected",
    "CredentialsRejected",
    "HostMismatch",
    "InvalidTokenResponse",
    "IssueLimitExceeded",
    "KiwoomAuthError",
    "TokenEndpointUnreachable",
]


class KiwoomAuthError(requests.RequestException, _httpx.HTTPError):  # type: ignore[misc]  # bases disagree on .request
    """Authentication with the Kiwoom REST API failed. The base of all errors of this package.

    Args:
        message: host, code, Kiwoom's own words, and what to do.
        code: Kiwoom's four-digit code, such as 8001; None where the answer had none.
        return_code: the answer's ``return_code``: an int where it is numeric.
        return_msg: the answer's ``return_msg``, Kiwoom's own words.
        status_code: the HTTP status of the answer; None where there was none.
        host: the origin that was to be authenticated for, such as ``https://api.kiwoom.com``.
        retryable: whether the same call may succeed later without a change; None: as is usual for the class.
        retry_after: seconds that the server asked to wait (``Retry-After``); None where it did not.
    """

    retryable: bool = False
    """Whether the same call may succeed later with nothing changed on this side."""
    local: bool = False
    """Whether it is this side's way of sending that failed (proxy, certificates, a missing library), which requests and
    httpx each find out by themselves."""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        return_code: int | str | None = None,
        return_msg: str | None = None,
        status_code: int | None = None,
        host: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.return_code = return_code
        self.return_msg = return_msg
        self.status_code = status_code
        self.host = host
        self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable

    @property  # type: ignore[override]  # None where httpx has a request or raises
    def request(self) -> None:
        """Always None: a request holds the secretkey or the token."""
        return

    @request.setter
    def request(self, _request: object) -> None:
        """Is ignored: httpx and requests hang the request on the exceptions that pass through them."""

    @property
    def response(self) -> None:
        """Always None, like ``request``."""
        return

    @response.setter
    def response(self, _response: object) -> None:
        """Is ignored, like ``request``."""

    def copy(self) -> Self:
        """The same error as an object of its own, without a traceback, for another caller."""
        other = _restore(type(self), self.args, self.__dict__)
        other.__cause__ = self.__cause__
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, dict(self.__dict__))


_E = TypeVar("_E", bound=KiwoomAuthError)


def _restore(kind: type[_E], args: tuple[Any, ...], fields: Mapping[str, Any]) -> _E:
    error = kind(*args)
    error.__dict__.update(fields)
    return error


class CredentialsRejected(KiwoomAuthError):
    """Kiwoom does not accept the key pair: 8001, 8002, 8020, or 8030 (a key of the other environment)."""


class AddressRejected(KiwoomAuthError):
    """Kiwoom does not issue tokens to this IP address: 8010, 8040, 8050."""


class IssueLimitExceeded(KiwoomAuthError):
    """AU10001 was called too often: HTTP 429, or 1700, 1701, 1702."""

    retryable = True


class TokenEndpointUnreachable(KiwoomAuthError, requests.ConnectionError, _httpx.TransportError):  # type: ignore[misc]  # as above
    """There was no answer: name resolution, connection, TLS, proxy or time-out."""

    retryable = True


class InvalidTokenResponse(KiwoomAuthError):
    """The answer is none that AU10001 or AU10002 gives: not JSON, a redirect, too large, a field that cannot be."""


class HostMismatch(KiwoomAuthError):
    """A call to an origin of Kiwoom's API that this auth object was not made for: nothing was sent."""
