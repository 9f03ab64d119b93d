"""The httpx family: httpx and, where it is installed, its successor httpx2.

An ``httpx.Auth`` is no ``httpx2.Auth`` and their exceptions are strangers to each other, so what has to be known
to both derives from both. ``httpx2.alias_httpx()`` makes the two one; then there is one base.
"""

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from types import ModuleType

    import httpx2

    class Auth(httpx.Auth, httpx2.Auth):  # type: ignore[misc]  # their flows differ in the module of Request only
        """The authentication class of each."""

    class HTTPError(httpx.HTTPError, httpx2.HTTPError):  # type: ignore[misc]  # as above
        """The root of each one's exceptions."""

    class TransportError(HTTPError, httpx.TransportError, httpx2.TransportError):  # type: ignore[misc]  # as above
        """Each one's class for a request that found no answer."""

    class SyncByteStream(httpx.SyncByteStream, httpx2.SyncByteStream):
        """The body of an answer to a Client."""

    class AsyncByteStream(httpx.AsyncByteStream, httpx2.AsyncByteStream):
        """The body of an answer to an AsyncClient."""

    FAMILY: tuple[ModuleType, ...]
else:
    try:
        import httpx2
    except ImportError:
        httpx2 = httpx

    FAMILY = tuple(dict.fromkeys((httpx, httpx2)))

    def _common(name: str) -> type:
        bases = tuple(dict.fromkeys(getattr(module, name) for module in FAMILY))
        return type(name, bases, {"__module__": __name__})

    Auth = _common("Auth")
    HTTPError = _common("HTTPError")
    TransportError = _common("TransportError")
    SyncByteStream = _common("SyncByteStream")
    AsyncByteStream = _common("AsyncByteStream")


def home_of(thing: object) -> Any:
    """The module, httpx or httpx2, that a client, a request or a response is an object of; None for strangers."""
    for module in FAMILY:
        if isinstance(thing, (module.Client, module.AsyncClient, module.Request, module.Response)):
            return module
    return None
