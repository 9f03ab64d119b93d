"""What the live server does where reports disagree, seen with your own keys: ``tox run -e live``.

Needs ``KIWOOM_APPKEY`` and ``KIWOOM_SECRETKEY`` of the mock environment (``KIWOOM_HOST`` names another). It issues
three times, makes a few harmless queries (ka10001), logs in to the WebSocket twice, and revokes a token: other
programs with these keys have to issue anew. Nothing it prints holds a key or a token, so it can be shown to others.
"""

import json
import os
import re
import sys
import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import requests

from kiwoom_auth_plugin import MOCK_HOST, REAL_HOST, KiwoomAuthError, KiwoomBearerAuth

KST = timezone(timedelta(hours=9))
JSON_UTF8 = "application/json;charset=UTF-8"
TIMEOUT = 10.0
PAUSE = float(os.environ.get("KIWOOM_LIVE_PAUSE", "1.0"))
"""Seconds between calls: Kiwoom admits about two AU10001 a second."""
WEBSOCKET = "/api/dostk/websocket"


class Live:
    """One account at one host; knows what must not be shown."""

    def __init__(self, host, appkey, secretkey):
        self.host = host
        self._keys = {"appkey": appkey, "secretkey": secretkey}
        self._secrets = [appkey, secretkey]

    def tell(self, what, *seen):
        line = f"{what}: {', '.join(str(each) for each in seen)}"
        for secret in self._secrets:
            line = line.replace(secret, f"<{len(secret)} characters>")
        print(re.sub(r"[A-Za-z0-9_-]{40,}", "<long>", line), flush=True)

    def post(self, path, fields, **headers):
        time.sleep(PAUSE)
        sent = {"Content-Type": JSON_UTF8, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return requests.post(self.host + path, json=fields, headers=sent, timeout=TIMEOUT, allow_redirects=False)

    def oauth(self, path, **fields):
        answer = self.post(path, {**fields, **self._keys})
        self.tell(path, *_shape(answer))
        return answer

    def issue(self):
        answer = self.oauth("/oauth2/token", grant_type="client_credentials")
        fields = _fields(answer)
        token = fields.get("token")
        if not isinstance(token, str):
            raise SystemExit("no token: nothing more can be seen")
        self._secrets.insert(0, token)
        self.tell("  token", f"{len(token)} characters", f"type {fields.get('token_type')}")
        expires, date = str(fields.get("expires_dt")), answer.headers.get("Date")
        self.tell("  expires_dt", f"form {re.sub('[0-9]', '9', expires)}")
        try:
            end = datetime.strptime(re.sub(r"\D", "", expires), "%Y%m%d%H%M%S").replace(tzinfo=KST)
            clock = parsedate_to_datetime(date)
        except (ValueError, TypeError) as error:
            self.tell("  lifetime", f"cannot be told: {error}", f"Date {date}")
        else:
            self.tell("  lifetime", f"{end - clock} by the server's Date")
            self.tell("  this machine's clock", f"{datetime.now(KST) - clock} ahead of Date")
        return token, expires

    def query(self, what, token):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        answer = self.post("/api/dostk/stkinfo", {"stk_cd": "005930"}, api_id="ka10001", **headers)
        self.tell(what, *_shape(answer))
        return _fields(answer).get("return_code") in {0, "0"}

    def log_in(self, what, token):
        try:
            from websockets.exceptions import ConnectionClosed
            from websockets.sync.client import connect
        except ImportError:
            return
        if self.host.startswith("https://"):
            url = self.host.replace("https://", "wss://") + ":10000" + WEBSOCKET
        else:
            url = os.environ["KIWOOM_WEBSOCKET"]
        try:
            with connect(url, ping_interval=None, open_timeout=TIMEOUT) as line:
                line.send(json.dumps({"trnm": "LOGIN", "token": token}))
                self.tell(what, line.recv(timeout=TIMEOUT))
                try:
                    line.recv(timeout=PAUSE)
                except ConnectionClosed as closed:
                    self.tell("  then the server closes", closed.rcvd)
                except TimeoutError:
                    self.tell("  then the connection stays open", f"for {PAUSE:g} s at least")
        except (OSError, ConnectionClosed) as error:
            self.tell(what, type(error).__name__, error)


def _fields(answer):
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _shape(answer):
    """Status, names of headers, types of fields, and what the server says."""
    fields = _fields(answer)
    yield f"HTTP {answer.status_code}"
    yield answer.headers.get("Content-Type", "no Content-Type")
    yield f"headers {sorted(name.lower() for name in answer.headers)}"
    if not fields:
        yield f"body of {len(answer.content)} bytes that is no JSON object"
    elif "return_msg" in fields:
        code = fields.get("return_code")
        yield f"return_code {code!r} ({type(code).__name__}), return_msg {fields['return_msg']!r}"
    else:
        yield f"fields {list(fields)}"


def main():
    try:
        auth = KiwoomBearerAuth.from_env(host=os.environ.get("KIWOOM_HOST", MOCK_HOST), cache={})
    except ValueError as error:
        raise SystemExit(str(error)) from None
    host = auth.host  # in its one spelling
    if host == REAL_HOST and "--real" not in sys.argv:
        raise SystemExit("this revokes a token that your programs may be using: for the real host, say --real")
    live = Live(host, os.environ["KIWOOM_APPKEY"], os.environ["KIWOOM_SECRETKEY"])
    first, expires = live.issue()
    live.query("a query with it", first)
    second, again = live.issue()
    live.tell(
        "re-issue", "the same token" if first == second else "ANOTHER token", f"expires_dt equal: {expires == again}"
    )
    if first != second:
        works = live.query("a query with the first one", first)
        live.tell("the first token", "still works" if works else "is DEAD")
    live.query("a query with a token that never was", "x" * 40)
    live.query("a query without authorization", None)
    live.log_in("LOGIN", second)
    live.log_in("LOGIN with a token that never was", "x" * 40)
    live.oauth("/oauth2/revoke", token=second)
    live.query("a query with the revoked token", second)
    live.oauth("/oauth2/revoke", token=second)
    try:
        answer = requests.post(
            f"{host}/api/dostk/stkinfo",
            headers={"api-id": "ka10001"},
            json={"stk_cd": "005930"},
            auth=auth,
            timeout=TIMEOUT,
        )
        live.tell("the same by KiwoomBearerAuth", *_shape(answer), f"expires_at {auth.expires_at}")
    except KiwoomAuthError as error:
        live.tell("the same by KiwoomBearerAuth", type(error).__name__, error)


if __name__ == "__main__":
    main()
