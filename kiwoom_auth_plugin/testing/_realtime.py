"""Kiwoom's real-time API as a model: packets in, packets out; no sockets.

What it knows was recorded in public: LOGIN with the token, everything else before it ignored (100013), PING that is to
be echoed, REG and REMOVE of items and types, REAL for those who registered, SYSTEM with R10001 for whoever was there
before another login with the same appkey.
"""

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from . import _arguments, recorded
from ._calls import tell
from ._kiwoom import Kiwoom

_NO_NAME = 100002
_NO_LOGIN = 100013
_NO_SUCH_NAME = 105108
_NO_TOKEN = 805002
_BAD_TOKEN = 805004


@dataclass(frozen=True)
class Packet:
    """One packet that a WebSocket client has sent, and what became of it.

    Its ``repr`` shows no fields, so no token gets into test reports.

    Attributes:
        connection: counts the WebSocket connections, from 1.
        trnm: its kind, such as ``"LOGIN"``, ``"REG"`` or ``"PING"``; ``""`` where it has none.
        fields: the JSON object; empty where it was none.
        return_code: the answer's; None where there was no answer, as to the echo of a PING.
    """

    connection: int
    trnm: str
    fields: dict[str, Any] = field(repr=False)
    return_code: int | None


@dataclass(eq=False)
class Session:
    """What a connection has achieved so far."""

    connection: int
    appkey: str | None = None
    """Whose token it has logged in with."""
    is_replaced: bool = False
    """Whether another has logged in with the same appkey since: Kiwoom has one connection for each."""
    registered: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Items and types."""

    @property
    def is_logged_in(self) -> bool:
        """Whether it gets anything."""
        return self.appkey is not None and not self.is_replaced


class RealTime:
    """The application behind the WebSocket; safe to use from any thread.

    Args:
        kiwoom: knows which tokens are valid.
        lock: guards ``kiwoom``.
        journal_limit: how many packets are kept.
        on_packet: hears of each packet, after it was written down.
    """

    def __init__(
        self,
        kiwoom: Kiwoom,
        lock: threading.Lock,
        journal_limit: int,
        on_packet: Callable[[Packet], object] | None = None,
    ) -> None:
        self._kiwoom = kiwoom
        self._on_packet = on_packet
        self._changed = threading.Condition(lock)
        self._journal: deque[Packet] = deque(maxlen=journal_limit)
        self._refusals = 0
        self._connections = 0
        self._logged_in: dict[str, Session] = {}
        """The latest of each appkey."""

    def open(self) -> Session:
        """Of a new connection."""
        with self._changed:
            self._connections += 1
            return Session(self._connections)

    @property
    def journal(self) -> list[Packet]:
        """The packets so far; a copy."""
        with self._changed:
            return list(self._journal)

    def refuse(self, times: int) -> None:
        """Let the next logins fail, whatever their token."""
        _arguments.number("times", times, 0)
        with self._changed:
            self._refusals += times

    def wait_for(self, trnm: str, n: int, timeout: float) -> None:
        """Block until ``n`` packets of a kind are in the journal.

        Raises:
            TimeoutError: fewer came in time.
        """

        def count() -> int:
            return sum(packet.trnm == trnm for packet in self._journal)

        with self._changed:
            if not self._changed.wait_for(lambda: count() >= n, timeout):
                raise TimeoutError(f"{count()} of {n} {trnm} packets came within {timeout:g} seconds")

    def receive(self, session: Session, text: str | bytes) -> str | None:
        """Act on a packet.

        Returns:
            The answer, if there is one.
        """
        fields = _read_object(text)
        name = fields.get("trnm")
        trnm = name if isinstance(name, str) else ""
        with self._changed:
            answer = self._act(session, trnm, fields)
            code = None if answer is None else cast("int", answer["return_code"])
            packet = Packet(session.connection, trnm, fields, code)
            self._journal.append(packet)
            self._changed.notify_all()
        tell(self._on_packet, packet)
        # What was no character in a name is none in the answer.
        return None if answer is None else json.dumps(answer, ensure_ascii=False).encode(errors="replace").decode()

    def _act(self, session: Session, trnm: str, fields: dict[str, Any]) -> dict[str, object] | None:
        if not trnm:
            return _answer(trnm, _NO_NAME, "필수 파라미터가 누락되어 있습니다 (trnm)")
        if trnm == "LOGIN":
            return self._log_in(session, fields)
        if trnm == "PING":
            return None
        if not session.is_logged_in:
            words = "로그인 인증이 들어오기 전에 다른 전문이 들어왔습니다. 해당 전문은 무시됩니다"
            return _answer(trnm, _NO_LOGIN, f"{words} (TRNM={trnm})")
        if trnm not in {"REG", "REMOVE"}:
            return _answer(trnm, _NO_SUCH_NAME, f"정의되어 있지 않는 TRNM입니다 (TRNM={trnm})")
        named = _pairs(fields.get("data"))
        if trnm == "REMOVE":
            session.registered -= named
        elif fields.get("refresh") == "0":
            session.registered = named
        else:
            session.registered |= named
        return _answer(trnm, 0, "")

    def _log_in(self, session: Session, fields: dict[str, Any]) -> dict[str, object]:
        token = fields.get("token")
        if not isinstance(token, str) or not token:
            return _answer("LOGIN", _NO_TOKEN, "인증을 체크하기 위한 Token 값이 없습니다")
        account = self._kiwoom.holder(token)
        if self._refusals or account is None:
            self._refusals = max(0, self._refusals - 1)
            words = recorded.OFFICIAL_MESSAGES[8005]
            return _answer("LOGIN", _BAD_TOKEN, f"인증에 실패했습니다[CODE=8005, MESSAGE={words}]")
        before = self._logged_in.get(account.appkey, session)
        before.is_replaced = before is not session
        self._logged_in[account.appkey] = session
        session.appkey = account.appkey
        return {**_answer("LOGIN", 0, ""), "sor_yn": "Y"}


REPLACED = json.dumps(
    {
        "trnm": "SYSTEM",
        "code": "R10001",
        "message": "동일한 App key로 접속이 되었습니다. 기존 세션은 종료가 됩니다",
    },
    ensure_ascii=False,
)
"""The last packet of a session that is replaced."""


def real(item: str, kind: str, values: dict[str, str]) -> str:
    """The packet that tells of a trade, an order or the like."""
    row = {"values": values, "type": kind, "name": "", "item": item}
    return json.dumps({"data": [row], "trnm": "REAL"}, ensure_ascii=False)


def _answer(trnm: str, code: int, words: str) -> dict[str, object]:
    return {"trnm": trnm, "return_code": code, "return_msg": words}


def _pairs(rows: object) -> set[tuple[str, str]]:
    """The items and types of a registration, each with each."""
    found: set[tuple[str, str]] = set()
    for row in cast("list[object]", rows) if isinstance(rows, list) else []:
        if isinstance(row, dict):
            names = cast("dict[str, object]", row)
            found |= {(item, kind) for item in _strings(names.get("item")) for kind in _strings(names.get("type"))}
    return found


def _strings(value: object) -> list[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def _read_object(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
