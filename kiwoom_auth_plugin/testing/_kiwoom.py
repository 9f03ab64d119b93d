"""Kiwoom's server as a model: requests and a clock in, judgements and answers out; no sockets."""

import json
import re
import secrets
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any, Literal, cast

from . import recorded
from ._answers import JSON_TYPE, Answer
from ._clock import ServerClock
from ._http import Request

TOKEN_PATH = "/oauth2/token"  # noqa: S105 - a path
REVOKE_PATH = "/oauth2/revoke"

_KST = timezone(timedelta(hours=9), "KST")
_SECOND = timedelta(seconds=1)
_TR_PATH = re.compile(r"/api/dostk/[A-Za-z0-9_-]+")
_JSON_UTF8 = re.compile(r"application/json; ?charset=utf-8", re.IGNORECASE)
_JSON = re.compile(r"application/json(; ?charset=utf-8)?", re.IGNORECASE)
_DONE = "정상적으로 처리되었습니다"

_QUOTE: dict[str, object] = {
    "stk_cd": "005930",
    "stk_nm": "삼성전자",
    "cur_prc": "+71500",
    "pred_pre": "+500",
    "flu_rt": "+0.70",
    "trde_qty": "9263135",
    "return_code": 0,
    "return_msg": _DONE,
}


@dataclass
class Account:
    """One pair of keys; it has at most one valid token."""

    appkey: str
    secretkey: str
    issued: int = 0
    token: str | None = None
    expires: datetime | None = None


@dataclass(frozen=True)
class Violation:
    """Where a request breaks the specification, and the code that Kiwoom has for it."""

    code: int
    text: str


@dataclass(frozen=True)
class Judgement:
    """What a request is.

    Attributes:
        api: ``"au10001"``, ``"au10002"``, the api-id header, or ``""``.
        token: the bearer token it carries.
        violations: in the order the server finds them.
        fields: the JSON object in its body; empty if there is none.
        refusal: the answer if there is no such path or method.
    """

    api: str
    token: str | None
    violations: tuple[Violation, ...]
    fields: dict[str, Any]
    refusal: Answer | None = None


def is_tr(path: str) -> bool:
    """Whether a path is that of a TR call."""
    return _TR_PATH.fullmatch(path) is not None


def judge(request: Request) -> Judgement:
    """Read a request as strictly as the specification; nothing happens yet."""
    headers = request.headers
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token if scheme == "Bearer" and token else None
    api = {TOKEN_PATH: "au10001", REVOKE_PATH: "au10002"}.get(request.path, headers.get("api-id", ""))
    if api not in {"au10001", "au10002"} and not is_tr(request.path):
        nowhere = {"return_code": 404, "return_msg": f"{request.path}: 존재하지 않는 경로입니다"}
        return Judgement(
            api,
            bearer,
            (Violation(404, f"there is no {request.path}"),),
            {},
            Answer.json(nowhere, HTTPStatus.NOT_FOUND),
        )
    if request.method != "POST":
        not_so = {"return_code": 405, "return_msg": f"{request.method}: 지원하지 않는 메서드입니다"}
        return Judgement(
            api,
            bearer,
            (Violation(405, f"{request.path} takes POST, not {request.method}"),),
            {},
            Answer.json(not_so, HTTPStatus.METHOD_NOT_ALLOWED, headers=(("Allow", "POST"),)),
        )
    if request.path == TOKEN_PATH:
        fields, violations = _read_oauth(request, ("grant_type", "appkey", "secretkey"))
    elif request.path == REVOKE_PATH:
        fields, violations = _read_oauth(request, ("appkey", "secretkey", "token"))
    else:
        fields, violations = _read_tr(request)
    return Judgement(api, bearer, tuple(violations), fields)


class Kiwoom:
    """Accounts, tokens, the issue limit. Not thread-safe.

    Args are those of ``KiwoomEmulator``.
    """

    def __init__(
        self,
        clock: ServerClock,
        *,
        expires_format: Literal["compact", "dashed"],
        send_return_code: bool,
    ) -> None:
        self._clock = clock
        self.reissue: Literal["same", "replace"] = "same"
        self.token_lifetime = timedelta(hours=24)
        self.issue_limit: int | None = None
        self._expires_format = "%Y%m%d%H%M%S" if expires_format == "compact" else "%Y-%m-%d %H:%M:%S"
        self._send_return_code = send_return_code
        self._recent_issues: dict[str, deque[datetime]] = {}
        self._tokens: dict[str, Account] = {}
        self._responses: dict[str, Answer] = {}
        self.accounts: dict[str, Account] = {}

    def respond(self, api_id: str, body: dict[str, object]) -> None:
        """Answer TR calls of ``api_id`` with ``body``."""
        self._responses[api_id.lower()] = _tr_answer(api_id, body)

    def valid_token(self, account: Account) -> str | None:
        """The account's token if it is alive now."""
        if account.token is None or account.expires is None or account.expires <= self._clock.now():
            return None
        return account.token

    def holder(self, token: str) -> Account | None:
        """The account whose token this is, if it is alive now."""
        account = self._tokens.get(token)
        return account if account is not None and self.valid_token(account) is not None else None

    def kill(self, account: Account) -> None:
        """Make the account's token invalid."""
        if account.token is not None:
            del self._tokens[account.token]
        account.token = account.expires = None

    def act(self, request: Request, judged: Judgement) -> Answer:
        """Do what a request asks for, and answer it."""
        if judged.refusal is not None:
            return judged.refusal
        if request.path == TOKEN_PATH:
            return self._issue(judged)
        if judged.violations:
            return _refusal(judged.violations[0])
        if request.path == REVOKE_PATH:
            return self._revoke(judged.fields)
        if not self.holder(judged.token or ""):
            return recorded.INVALID_TOKEN
        name = judged.api.lower()
        if name not in self._responses:
            self._responses[name] = _tr_answer(judged.api, _QUOTE)
        return self._responses[name]

    def _issue(self, judged: Judgement) -> Answer:
        if self._is_too_often(judged.fields.get("appkey")):
            return recorded.ISSUED_TOO_OFTEN
        if judged.violations:
            return _refusal(judged.violations[0])
        account = self._account(judged.fields)
        if account is None:
            return recorded.BAD_KEY_PAIR
        token = self.valid_token(account)
        if token is None or self.reissue == "replace":
            expires = self._clock.now() + self.token_lifetime
            self.kill(account)
            account.token = token = secrets.token_urlsafe(64)
            account.expires = expires
            self._tokens[token] = account
        account.issued += 1
        shown = cast("datetime", account.expires).astimezone(_KST)
        issued: dict[str, object] = {"expires_dt": shown.strftime(self._expires_format)}
        if self._send_return_code:
            issued |= {"return_msg": _DONE, "token_type": "Bearer", "return_code": 0, "token": token}
        else:
            issued |= {"token_type": "Bearer", "token": token}
        return Answer.json(issued)

    def _revoke(self, fields: dict[str, Any]) -> Answer:
        account = self._account(fields)
        if account is None:
            return recorded.BAD_KEY_PAIR
        if fields["token"] != self.valid_token(account):
            return recorded.REVOKE_FAILED
        self.kill(account)
        return Answer.json({"return_code": 0, "return_msg": _DONE})

    def _account(self, fields: dict[str, Any]) -> Account | None:
        account = self.accounts.get(fields["appkey"])
        return account if account is not None and account.secretkey == fields["secretkey"] else None

    def _is_too_often(self, appkey: object) -> bool:
        if self.issue_limit is None:
            return False
        now = self._clock.now()
        recent = self._recent_issues.setdefault(appkey if isinstance(appkey, str) else "", deque())
        while recent and not now - _SECOND < recent[0] <= now:
            recent.popleft()
        if len(recent) >= self.issue_limit:
            return True
        recent.append(now)
        return False


def _refusal(violation: Violation) -> Answer:
    return recorded.refusal(violation.code, return_code=2 if violation.code < 8000 else 3)  # noqa: PLR2004


def _tr_answer(api_id: str, body: dict[str, object]) -> Answer:
    headers = (("api-id", api_id), ("cont-yn", "N"), ("next-key", "0"))
    return Answer.json(body, headers=headers)


def _read_oauth(request: Request, names: tuple[str, ...]) -> tuple[dict[str, Any], list[Violation]]:
    """AU10001 and AU10002: the same headers, their own fields."""
    found: list[Violation] = []
    headers = request.headers
    if request.query is not None:
        found.append(Violation(1517, "a query string"))
    if not _JSON_UTF8.fullmatch(headers.get("content-type", "")):
        found.append(Violation(1512, f"Content-Type is not {JSON_TYPE}"))
    found += [Violation(1512, f"a header {name}") for name in ("authorization", "cookie") if name in headers]
    fields = _read_object(request.body)
    if fields is None:
        return {}, [*found, Violation(1517, "the body is not a JSON object")]
    found += [Violation(_MISSING[name], f"{name} is missing") for name in names if not fields.get(name)]
    found += [
        Violation(1517, f"{name} is not a string")
        for name in names
        if fields.get(name) and not isinstance(fields[name], str)
    ]
    if fields.get("grant_type", "client_credentials") != "client_credentials":
        found.append(Violation(8012, "grant_type is not client_credentials"))
    if extra := len(fields.keys() - set(names)):
        found.append(Violation(1517, f"{extra} fields beside {', '.join(names)}"))
    return fields, found


_MISSING = {"grant_type": 8011, "appkey": 8020, "secretkey": 8020, "token": 8016}


def _read_tr(request: Request) -> tuple[dict[str, Any], list[Violation]]:
    found: list[Violation] = []
    headers = request.headers
    if not headers.get("api-id"):
        found.append(Violation(1501, "api-id is missing"))
    if (wrong := _authorization_fault(headers.get("authorization", ""))) is not None:
        found.append(wrong)
    if request.query is not None:
        found.append(Violation(1517, "a query string"))
    if not _JSON.fullmatch(headers.get("content-type", "")):
        found.append(Violation(1512, f"Content-Type is not {JSON_TYPE}"))
    if headers.get("cont-yn", "N") not in {"", "Y", "N"}:
        found.append(Violation(1517, "cont-yn is neither Y nor N"))
    fields = _read_object(request.body)
    if fields is None:
        found.append(Violation(1517, "the body is not a JSON object"))
    return fields or {}, found


def _authorization_fault(authorization: str) -> Violation | None:
    if not authorization:
        return Violation(1513, "authorization is missing")
    scheme, space, token = authorization.partition(" ")
    if scheme == "Bearer" and not token:
        return Violation(1516, "authorization has no token")
    if not space or " " in token:
        return Violation(1514, "authorization is not Bearer TOKEN")
    if scheme != "Bearer":
        return Violation(1515, "authorization is not Bearer")
    return None


def _read_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
