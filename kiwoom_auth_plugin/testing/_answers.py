"""What the server answers, and how well the answer gets across."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, cast

from . import _arguments

Cut = Literal["before", "headers", "body", "reset"]
Headers = tuple[tuple[str, str], ...]

JSON_TYPE = "application/json;charset=UTF-8"

_EMBEDDED_CODE = re.compile(r"\[(\d{4}):|CODE=(\d{4})")
_NUMERIC = re.compile(r"[0-9]{1,9}")
_BODILESS = frozenset({204, 304})


@dataclass(frozen=True)
class Answer:
    """One answer of the server.

    ``dataclasses.replace(answer, delay=2.0)`` makes a variant of a ready-made one.

    Args:
        status: HTTP status, 200 to 599.
        body: the bytes of the body.
        headers: name and value pairs. ``Content-Length``, ``Date`` and ``Connection`` are added unless they
            are given here; one given with an empty value is left out.
        delay: seconds between the judgement and the answer's first byte.
        cut: where the connection breaks: ``"before"`` the first byte, within the ``"headers"``, in the
            middle of the ``"body"``, or by a TCP ``"reset"`` instead of an answer. None: nowhere.
        drip: seconds between single bytes. None: everything at once.
        usual: the emulator's own answer goes out in place of status, body and headers, and has its usual
            effects: with ``cut`` a token is issued, and its answer lost.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a value is out of its range, or there is no body to cut,
            or a header is not Latin-1.
    """

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    headers: Headers = ()
    delay: float = 0.0
    cut: Cut | None = None
    drip: float | None = None
    usual: bool = False

    def __post_init__(self) -> None:
        _arguments.number("status", self.status, 200, 599)  # a final answer (RFC 9110 §15)
        _arguments.instance("body", self.body, bytes)
        _arguments.instance("headers", self.headers, tuple)
        for name, value in self.headers:
            (name + value).encode("latin-1")  # fails here rather than on the server's thread
        if self.body and self.status in _BODILESS:
            raise ValueError(f"a {self.status} answer has no body")
        _arguments.seconds("delay", self.delay)
        if self.drip is not None:
            _arguments.seconds("drip", self.drip)
        _arguments.choice("cut", self.cut, None, "before", "headers", "body", "reset")
        if self.cut == "body" and not self.body and not self.usual:
            raise ValueError('an empty body cannot be cut: use cut="headers"')

    @classmethod
    def json(
        cls,
        obj: object,
        status: int = 200,
        *,
        headers: Headers = (),
        delay: float = 0.0,
        cut: Cut | None = None,
        drip: float | None = None,
    ) -> Self:
        """``obj`` as JSON, with Kiwoom's ``Content-Type`` (more ``headers`` follow it)."""
        body = json.dumps(obj, ensure_ascii=False).encode()
        return cls(status, body, (("Content-Type", JSON_TYPE), *headers), delay, cut, drip)

    @classmethod
    def html(
        cls,
        text: str,
        status: int = 200,
        *,
        headers: Headers = (),
        delay: float = 0.0,
        cut: Cut | None = None,
        drip: float | None = None,
    ) -> Self:
        """``text`` as an HTML page."""
        return cls(status, text.encode(), (("Content-Type", "text/html;charset=UTF-8"), *headers), delay, cut, drip)

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Self:
        """A redirect to ``location``, with a small page for those who do not follow it."""
        return cls.html("<html><body>moved</body></html>", status, headers=(("Location", location),))

    @classmethod
    def as_usual(cls, *, delay: float = 0.0, cut: Cut | None = None, drip: float | None = None) -> Self:
        """What the emulator answers by itself, only late, broken or slow."""
        return cls(delay=delay, cut=cut, drip=drip, usual=True)

    @cached_property
    def return_code(self) -> int | None:
        """``return_code`` of the JSON body, also from a numeric string; None where there is none."""
        value = self._fields.get("return_code")
        if isinstance(value, str) and _NUMERIC.fullmatch(value):
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @cached_property
    def code(self) -> int | None:
        """Kiwoom's own code: embedded in ``return_msg`` as ``[8005:`` or ``CODE=8005``, or at top level."""
        message = self._fields.get("return_msg")
        if isinstance(message, str) and (found := _EMBEDDED_CODE.search(message)):
            return int(found[1] or found[2])
        top = self.return_code
        return top if top is not None and 1000 <= top <= 9999 else None  # noqa: PLR2004 - four digits

    @cached_property
    def _fields(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
