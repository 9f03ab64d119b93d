"""Authentication for the Kiwoom Securities REST API (키움증권) as an auth object for requests, httpx and httpx2."""

from ._log import AuthEvent
from ._origin import MOCK_HOST, REAL_HOST
from ._plugin import KiwoomBearerAuth
from ._version import __version__
from .errors import (
    AddressRejected,
    CredentialsRejected,
    HostMismatch,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    TokenEndpointUnreachable,
)

__all__ = [
    "MOCK_HOST",
    "REAL_HOST",
    "AddressRejected",
    "AuthEvent",
    "CredentialsRejected",
    "HostMismatch",
    "InvalidTokenResponse",
    "IssueLimitExceeded",
    "KiwoomAuthError",
    "KiwoomBearerAuth",
    "TokenEndpointUnreachable",
    "__version__",
]
