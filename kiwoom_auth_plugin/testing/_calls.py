"""The journal's entries."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, cast

_T = TypeVar("_T")

_REFUSALS = {8005, 8010, 8031, 8103}


@dataclass(frozen=True)
class Call:
    """One request that reached the server, and what became of it.

    Its ``repr`` shows neither header values nor body, so no secretkey or token gets into test reports.

    Attributes:
        number: counts the requests in order of arrival, from 1.
        api: ``"au10001"``, ``"au10002"``, or the request's ``api-id`` header (``""`` without one).
        method: such as ``"POST"``; empty where the request was not HTTP.
        path: without the query string; empty where the request was not HTTP.
        query: what follows the ``?``.
        headers: names in lower case; repeated ones joined by a comma.
        body: the bytes that arrived.
        status: the answer's HTTP status, whether or not the answer got across.
        return_code: the answer's ``return_code``, or None.
        code: the answer's embedded code such as 8005, or None.
        token: the bearer token that the request carried, or None.
        connection: identifies the TCP connection.
        violations: where the request breaks Kiwoom's specification. A wrong key pair or a dead token is
            refused, but is no violation.
    """

    number: int
    api: str
    method: str
    path: str
    query: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int
    return_code: int | None
    code: int | None
    token: str | None = field(repr=False)
    connection: int
    violations: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """The request's JSON body.

        Raises:
            ValueError: it is not a JSON object.
        """
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError(f"the body of call {self.number} is not a JSON object")  # noqa: TRY004 - as json's own
        return cast("dict[str, Any]", value)


def count_repeats(calls: Iterable[Call]) -> int:
    """How many calls repeat another one: the same request once more, with another token, after a refusal."""
    refused: defaultdict[tuple[str, str, str, bytes], list[str]] = defaultdict(list)
    count = 0
    for call in calls:
        if call.token is None:
            continue
        tokens = refused[call.api, call.path, call.query, call.body]
        former = next((token for token in tokens if token != call.token), None)
        if former is not None:
            tokens.remove(former)
            count += 1
        if call.code in _REFUSALS or (call.code is None and call.status == HTTPStatus.UNAUTHORIZED):
            tokens.append(call.token)
    return count


def tell(listener: Callable[[_T], object] | None, what: _T) -> None:
    """Let a user's callable hear of something; whatever it raises is logged, and the server serves on."""
    if listener is None:
        return
    try:
        listener(what)
    except Exception as error:
        logger = logging.getLogger("kiwoom_auth_plugin.testing")
        logger.warning("a listener raised %s at %r", type(error).__name__, what, exc_info=error)
