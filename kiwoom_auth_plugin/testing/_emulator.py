"""The local Kiwoom that tests talk to."""

import secrets
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self

from . import _arguments, recorded
from ._answers import Answer
from ._calls import Call, count_repeats
from ._clock import ServerClock
from ._desk import Desk
from ._endpoint import WebSocketEndpoint
from ._gate import Gate
from ._kiwoom import Account, Kiwoom
from ._realtime import Packet
from ._server import HttpServer


def _made_up(word: str) -> str:
    """A key of the usual 43 characters that nobody takes for a real one, and that no other emulator has."""
    return f"EMULATOR-{word}-{secrets.token_hex(16)}"[:43]


class KiwoomEmulator:
    """A local Kiwoom REST server on a real socket, as strict as the specification.

    It issues and revokes tokens, answers TR calls, keeps a journal of them, and fails in every recorded way
    when told to. State survives ``stop`` and ``start``, the port included. Safe to use from any thread.

    Args:
        appkey: of the default account. None: one of its own, so that no client's cache mixes up two emulators.
        secretkey: of the default account. None: one of its own.
        host: the loopback address to listen on; ``"::1"`` for IPv6.
        port: 0 picks a free one.
        reissue: what AU10001 gives while a token is valid: the ``"same"`` one, or another one that
            kills (``"replace"``) it.
        token_lifetime: of a new token, on the emulator's clock.
        issue_limit: AU10001 calls of one appkey admitted within a second of the emulator's clock. None: any.
        expires_format: ``"compact"`` is ``20241107083713``, ``"dashed"`` is ``2024-12-31 23:59:59``; KST.
        send_return_code: False: AU10001's answer has no ``return_code`` and ``return_msg``.
        tls: serve https with this context. None: http.
        clock: None: one of its own.
        journal_limit: how many calls the journal keeps, the latest ones.
        on_call: called with each Call as it is answered, on the emulator's thread; it must not use the emulator.
        on_packet: the same for each Packet of a WebSocket.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has an impossible value.
    """

    def __init__(
        self,
        *,
        appkey: str | None = None,
        secretkey: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        reissue: Literal["same", "replace"] = "same",
        token_lifetime: timedelta = timedelta(hours=24),
        issue_limit: int | None = None,
        expires_format: Literal["compact", "dashed"] = "compact",
        send_return_code: bool = True,
        tls: ssl.SSLContext | None = None,
        clock: ServerClock | None = None,
        journal_limit: int = 100_000,
        on_call: Callable[[Call], object] | None = None,
        on_packet: Callable[[Packet], object] | None = None,
    ) -> None:
        _arguments.loopback("host", host)
        _arguments.number("port", port, 0, 65_535)
        _arguments.choice("expires_format", expires_format, "compact", "dashed")
        _arguments.instance("send_return_code", send_return_code, bool)
        _arguments.instance("tls", tls, ssl.SSLContext, type(None))
        _arguments.instance("clock", clock, ServerClock, type(None))
        _arguments.number("journal_limit", journal_limit, 1)
        _arguments.listener("on_call", on_call)
        _arguments.listener("on_packet", on_packet)
        self.appkey = _made_up("APPKEY") if appkey is None else appkey
        self.secretkey = _made_up("SECRET") if secretkey is None else secretkey
        self.clock = ServerClock() if clock is None else clock
        self._host = host
        self._port = port
        self._tls = tls
        self._server: HttpServer | None = None
        self._kiwoom = Kiwoom(self.clock, expires_format=expires_format, send_return_code=send_return_code)
        self.reissue = reissue
        self.issue_limit = issue_limit
        self.token_lifetime = token_lifetime
        self._desk = Desk(self._kiwoom, journal_limit, on_call)
        self._lock = self._desk.lock
        self.websocket = WebSocketEndpoint(self._kiwoom, self._lock, host, tls, journal_limit, on_packet)
        """The real-time API."""
        self._starting = threading.Lock()
        self.add_account(self.appkey, self.secretkey)

    def __repr__(self) -> str:
        where = self.url if self._port else "not started"
        return f"KiwoomEmulator({where}, issued={self.issued})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Running

    def start(self) -> None:
        """Listen and serve; no effect on a started emulator.

        Raises:
            OSError: the address or port cannot be had.
        """
        with self._starting:
            if self._server is None:
                self._server = HttpServer(self._desk, self._host, self._port, self._tls, self.clock)
                self._port = self._server.port
                self.websocket.open()

    def stop(self) -> None:
        """Close all connections and the port, whatever is going on; no effect on a stopped emulator."""
        with self._starting:
            server, self._server = self._server, None
            self.websocket.close()
            if server is not None and server.stop():  # a forked child's locks may be held by nobody there
                with self._lock:
                    gates, self._desk.gates = self._desk.gates, []
                for gate in gates:
                    gate.stop()

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start if none was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """Scheme, host and port, such as ``http://127.0.0.1:40123``.

        Raises:
            RuntimeError: the port is not known yet, as the emulator was never started.
        """
        if not self._port:
            raise RuntimeError("the emulator has no URL yet: start() it, or use it in a with statement")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    # How it behaves; each may be set at any time

    @property
    def reissue(self) -> Literal["same", "replace"]:
        """What AU10001 gives while a token is valid: the ``"same"`` one, or another that kills (``"replace"``) it."""
        return self._kiwoom.reissue

    @reissue.setter
    def reissue(self, model: Literal["same", "replace"]) -> None:
        _arguments.choice("reissue", model, "same", "replace")
        self._kiwoom.reissue = model

    @property
    def issue_limit(self) -> int | None:
        """AU10001 calls of one appkey admitted within a second of the emulator's clock; None: any."""
        return self._kiwoom.issue_limit

    @issue_limit.setter
    def issue_limit(self, limit: int | None) -> None:
        if limit is not None:
            _arguments.number("issue_limit", limit, 0)
        self._kiwoom.issue_limit = limit

    @property
    def token_lifetime(self) -> timedelta:
        """Of the next new token, on the emulator's clock."""
        return self._kiwoom.token_lifetime

    @token_lifetime.setter
    def token_lifetime(self, lifetime: timedelta) -> None:
        _arguments.instance("token_lifetime", lifetime, timedelta)
        self._kiwoom.token_lifetime = lifetime

    # Accounts and tokens

    def add_account(self, appkey: str, secretkey: str) -> None:
        """Know another pair of keys; for a known appkey, its secretkey changes and its token stays."""
        _arguments.instance("appkey", appkey, str)
        _arguments.instance("secretkey", secretkey, str)
        with self._lock:
            self._kiwoom.accounts.setdefault(appkey, Account(appkey, secretkey)).secretkey = secretkey

    @property
    def issued(self) -> int:
        """How many AU10001 calls succeeded, over all accounts."""
        with self._lock:
            return sum(account.issued for account in self._kiwoom.accounts.values())

    def issued_for(self, appkey: str) -> int:
        """How many AU10001 calls succeeded for one appkey.

        Raises:
            KeyError: there is no such account.
        """
        with self._lock:
            return self._kiwoom.accounts[appkey].issued

    @property
    def token(self) -> str | None:
        """The valid token of the default account."""
        with self._lock:
            return self._kiwoom.valid_token(self._kiwoom.accounts[self.appkey])

    @property
    def tokens(self) -> list[str]:
        """All valid tokens."""
        with self._lock:
            found = [self._kiwoom.valid_token(account) for account in self._kiwoom.accounts.values()]
            return [token for token in found if token is not None]

    def expire_tokens(self) -> None:
        """All present tokens answer 8005 from now on, as if their time had come; AU10001 gives new ones."""
        with self._lock:
            for account in self._kiwoom.accounts.values():
                self._kiwoom.kill(account)

    def revoke_tokens(self) -> None:
        """The same, as if somebody else had revoked them: before ``expires_dt``, without a word."""
        self.expire_tokens()

    # Journal

    @property
    def journal(self) -> list[Call]:
        """The calls answered so far, in order of arrival; a copy."""
        with self._lock:
            return sorted(self._desk.journal, key=lambda call: call.number)

    @property
    def repeated(self) -> int:
        """How many TR calls were sent once more, with another token, after a refusal of their token."""
        return count_repeats(self.journal)

    @property
    def violations(self) -> list[str]:
        """Where the calls so far break the specification, as ``"3: api-id is missing"``; see ``Call.violations``."""
        return [f"{call.number}: {text}" for call in self.journal for text in call.violations]

    def calls(self, path_or_api: str) -> list[Call]:
        """The journal's calls to one path, or of one API such as ``"au10001"`` or ``"ka10001"``, in either case."""
        wanted = {path_or_api, path_or_api.lower()}
        return [call for call in self.journal if not wanted.isdisjoint({call.path, call.api, call.api.lower()})]

    def clear_journal(self) -> None:
        """Forget the calls so far; counting goes on."""
        with self._lock:
            self._desk.journal.clear()

    # Answers

    def add_response(self, api_id: str, body: Mapping[str, object]) -> None:
        """Answer TR calls of ``api_id``, such as ``"ka10001"``, with ``body``, in place of a small quote.

        For a path, or headers of your own, ``script`` an answer.
        """
        _arguments.instance("api_id", api_id, str)
        if api_id.startswith("/"):
            raise ValueError(f"api_id is {api_id!r}, a path: script() an answer to that")
        _arguments.instance("body", body, Mapping)
        with self._lock:
            self._kiwoom.respond(api_id, dict(body))

    def refuse_next(self, times: int = 1, answer: Answer = recorded.INVALID_TOKEN) -> None:
        """Answer the next ``times`` TR calls with ``answer``; the tokens stay as they are."""
        _arguments.number("times", times, 0)
        _arguments.instance("answer", answer, Answer)
        with self._lock:
            self._desk.refusals.extend([answer] * times)

    def script(self, path: str, *answers: Answer) -> None:
        """Answer the next requests to ``path`` with these, in order, after those scripted before.

        A scripted answer has no effect on tokens, except one made by ``Answer.as_usual``.

        Args:
            path: an exact path, or a prefix that ends with ``/``, such as ``/api/dostk/``.
            answers: one for each request.

        Raises:
            TypeError: one of them is no ``Answer``.
            ValueError: ``path`` does not start with ``/``.
        """
        for answer in answers:
            _arguments.instance("each of answers", answer, Answer)
        with self._lock:
            self._desk.scripts.setdefault(_arguments.path(path), deque()).extend(answers)

    def hold(self, path: str = "/oauth2/token") -> Gate:
        """Park the requests to ``path`` from now on, until the gate lets them go.

        Args:
            path: an exact path, or a prefix that ends with ``/``.

        Raises:
            ValueError: ``path`` does not start with ``/``.
        """
        return self._desk.hold(_arguments.path(path))
