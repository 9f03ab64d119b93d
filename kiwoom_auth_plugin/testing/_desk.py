"""Where requests are received: held back, judged, answered and written down."""

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ._answers import Answer
from ._calls import Call, tell
from ._connection import Connection
from ._gate import Gate
from ._http import MalformedRequest, Request
from ._kiwoom import Judgement, Kiwoom, Violation, is_tr, judge


class Desk:
    """The application that the server serves; its state may be touched under ``lock`` only.

    Args:
        kiwoom: the model that answers what is not scripted.
        journal_limit: how many calls are kept.
        on_call: hears of each call, after it was written down.
    """

    def __init__(self, kiwoom: Kiwoom, journal_limit: int, on_call: Callable[[Call], object] | None = None) -> None:
        self.lock = threading.Lock()
        self.kiwoom = kiwoom
        self.journal: deque[Call] = deque(maxlen=journal_limit)
        self.scripts: dict[str, deque[Answer]] = {}
        self.refusals: deque[Answer] = deque()
        self.gates: list[Gate] = []
        self._on_call = on_call
        self._numbers = itertools.count(1)

    def hold(self, path: str) -> Gate:
        """Park what comes to ``path`` from now on; of several gates for a path, the newest parks."""
        gate = Gate(path)
        with self.lock:
            self.gates = [gate, *(other for other in self.gates if not other.is_open)]
        return gate

    def receive(self, request: Request, connection: Connection) -> Answer | None:
        """Judge a request, unless a gate parks it."""
        number = next(self._numbers)
        if self.gates:
            with self.lock:
                gates = [gate for gate in self.gates if covers(gate.path, request.path)]
            for gate in gates:
                if gate.park(lambda: connection.answer_soon(lambda: self._judge(number, request, connection))):
                    return None
        return self._judge(number, request, connection)

    def refuse(self, error: MalformedRequest, connection: Connection) -> Answer:
        """Write down what was no request."""
        answer = Answer.json({"return_code": error.status, "return_msg": error.reason}, error.status)
        nothing = Request("", "", None, {}, b"", keep_alive=False)
        judged = Judgement("", None, (Violation(error.status, error.reason),), {})
        with self.lock:
            call = _call(next(self._numbers), nothing, judged, answer, connection.number)
            self.journal.append(call)
        tell(self._on_call, call)
        return answer

    def _judge(self, number: int, request: Request, connection: Connection) -> Answer:
        judged = judge(request)
        with self.lock:
            answer = self._next_scripted(request.path)
            if answer is None:
                answer = self.kiwoom.act(request, judged)
            elif answer.usual:
                own = self.kiwoom.act(request, judged)
                answer = replace(own, delay=answer.delay, cut=answer.cut, drip=answer.drip)
            call = _call(number, request, judged, answer, connection.number)
            self.journal.append(call)
        tell(self._on_call, call)
        return answer

    def _next_scripted(self, path: str) -> Answer | None:
        for pattern, answers in self.scripts.items():
            if answers and covers(pattern, path):
                return answers.popleft()
        return self.refusals.popleft() if self.refusals and is_tr(path) else None


def covers(pattern: str, path: str) -> bool:
    """Whether a path is the pattern, or lies under it where the pattern ends with ``/``."""
    return path.startswith(pattern) if pattern.endswith("/") else path == pattern


def _call(number: int, request: Request, judged: Judgement, answer: Answer, connection: int) -> Call:
    return Call(
        number=number,
        api=judged.api,
        method=request.method,
        path=request.path,
        query=request.query or "",
        headers=request.headers,
        body=request.body,
        status=answer.status,
        return_code=answer.return_code,
        code=answer.code,
        token=judged.token,
        connection=connection,
        violations=tuple(violation.text for violation in judged.violations),
    )
