"""The response hook of a call by requests: reads the answer, and repeats the call once with another token."""

import time
from datetime import timedelta
from typing import Any, Self
from urllib.parse import urljoin

import requests

from ._exchange import Exchange
from ._origin import Origin
from ._refusal import refuses_header, refuses_token, worth_reading
from ._source import TokenSource


class RefusalHook:
    """What ``KiwoomBearerAuth`` registers with a prepared request.

    Session.send calls it with each answer to the request and to those that redirects make of it. It is not pickled
    with the request, since it leads to the secretkey.

    Args:
        origin: where the token belongs.
        source: where another token comes from.
        exchange: how one is issued.
        body: the request's, before it is sent.
    """

    __slots__ = ("_exchange", "_origin", "_source", "_start")

    def __init__(self, origin: Origin, source: TokenSource, exchange: Exchange, body: Any) -> None:
        self._origin = origin
        self._source = source
        self._exchange = exchange
        self._start = _position(body)

    def __call__(self, response: requests.Response, **send: Any) -> requests.Response:
        """The answer itself, or the one to the repeated request with the refused one in its history.

        Raises:
            KiwoomAuthError: the token was refused and there is no other to be had.
        """
        request = response.request
        if Origin.of_url(request.url or "") != self._origin:
            return response  # redirected elsewhere
        if response.is_redirect and Origin.of_url(_redirect_target(response)) != self._origin:
            # requests lets the header go along from http to https of one host.
            request.headers.pop("Authorization", None)
            return response
        streamed = bool(send.get("stream"))
        content = _readable(response, streamed=streamed)
        scheme, _, token = str(request.headers.get("Authorization", "")).partition(" ")
        # After a redirect the header may be one that requests took from a netrc file.
        ours = scheme == "Bearer"
        if not (refuses_token if ours else refuses_header)(response.status_code, content):
            return response
        if not _rewound(request.body, self._start):
            if ours:
                self._source.drop_refused(token)
            return response
        if content is not None:
            response.close()  # the connection is free for AU10001 and for the repetition
        other = self._source.replace(token, self._exchange) if ours else self._source.get(self._exchange)
        if other is None:
            return response
        response.close()
        # What the session holds on to must carry the new token: it may be redirected, or sent another time.
        response.request = request.copy()
        request.headers["Authorization"] = other.header
        started = time.perf_counter()
        repeated: requests.Response = response.connection.send(request, **send)
        repeated.elapsed = timedelta(seconds=time.perf_counter() - started)
        repeated.history.append(response)
        refused_again = refuses_token(repeated.status_code, _readable(repeated, streamed=streamed))
        self._source.judge_replacement(other.value, accepted=not refused_again)
        return repeated

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


def _redirect_target(response: requests.Response) -> str:
    return urljoin(response.url, response.headers["location"])


def _readable(response: requests.Response, *, streamed: bool) -> bytes | None:
    """The body of an answer as far as it may be read now; None where it is left to the caller."""
    if not streamed:
        return response.content
    length = response.headers.get("content-length")
    if length is None or not worth_reading(response.headers.get("content-type"), length):
        return None
    return response.content


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
