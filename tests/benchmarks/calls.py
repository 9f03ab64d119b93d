"""What a call costs with a valid token in the cache, beside the floor and beside other libraries: ``tox run -e bench``.

The floor is an auth class that sets a fixed header and looks at nothing. Everything is timed in turns in one process,
less what the measuring itself takes; the figures are medians, with half of the distance of the quarters.
"""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import httpx2
import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator
from tests.benchmarks.measure import Figure, figure, race, save
from tests.pictures.bars import draw

TR = "/api/dostk/stkinfo"
HEADERS = {"api-id": "ka10001"}
BODY = {"stk_cd": "005930"}
JSON = {"content-type": "application/json;charset=UTF-8"}
HOUR = 3600.0
ROWS = [
    {"stk_cd": "005930", "stk_nm": "삼성전자", "cur_prc": f"+7{number:04}0", "flu_rt": "+0.70", "trde_qty": "9263135"}
    for number in range(2000)
]


def answer(size: int) -> bytes:
    """A good answer of about so many bytes."""
    rows: list[dict[str, str]] = []
    while len(body := json.dumps({"rows": rows, "return_code": 0, "return_msg": "정상"}, ensure_ascii=False)) < size:
        rows = ROWS[: len(rows) + 1 + size // 200]
    return body.encode()


SHORT, LONG = answer(1800), answer(190_000)


class Floor(requests.auth.AuthBase):
    """For requests."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers["Authorization"] = self._header
        return r


def floor_of(home: Any) -> type:
    """For httpx or httpx2."""

    class HttpxFloor(home.Auth):
        def __init__(self, token: str) -> None:
            self._header = f"Bearer {token}"

        def auth_flow(self, request: Any) -> Iterator[Any]:
            request.headers["Authorization"] = self._header
            yield request

    return HttpxFloor


# Driving one call


def signing(auth: Any, prepared: requests.PreparedRequest) -> Callable[[], object]:
    """The requests side: what happens to a prepared request, which is as new afterwards."""

    def call() -> None:
        auth(prepared)
        prepared.hooks = {"response": []}

    return call


def flowing(auth: Any, request: Any, response: Any) -> Callable[[], object]:
    """The httpx side: a flow to its end."""

    def call() -> None:
        flow = auth.sync_auth_flow(request)
        next(flow)
        for _ in _sent(flow, response):
            raise AssertionError("it was repeated")

    return call


def _sent(flow: Any, response: Any) -> Iterator[object]:
    try:
        yield flow.send(response)
    except StopIteration:
        return


def aflowing(auth: Any, request: Any, response: Any) -> Callable[[], object]:
    """The same, asynchronous, without the time of an event loop."""

    def call() -> None:
        flow = auth.async_auth_flow(request)
        _awaited(flow.__anext__())
        try:
            _awaited(flow.asend(response))
        except StopAsyncIteration:
            return
        raise AssertionError("it was repeated")

    return call


def _awaited(awaitable: Any) -> object:
    try:
        awaitable.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


# Other libraries, each with a token in its cache


def by_requests_auth(token: str) -> Any:
    """requests_auth."""
    from requests_auth import OAuth2, OAuth2ClientCredentials

    auth = OAuth2ClientCredentials("https://127.0.0.1/token", client_id="id", client_secret="secret")
    OAuth2.token_cache._add_token(auth.state, token, time.time() + HOUR)
    return auth


def by_authlib(token: str) -> Any:
    """Authlib's session."""
    from authlib.integrations.requests_client import OAuth2Session

    kept = {"access_token": token, "token_type": "bearer", "expires_at": time.time() + HOUR}
    return OAuth2Session("id", "secret", token=kept).token_auth


def by_google(token: str) -> Any:
    """google-auth's credentials."""
    from google.oauth2.credentials import Credentials

    kept = Credentials(token, expiry=datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1))

    def auth(prepared: requests.PreparedRequest) -> None:
        kept.before_request(None, prepared.method, prepared.url, prepared.headers)

    return auth


def by_azure(token: str) -> Any:
    """azure-core's policy."""
    from azure.core.credentials import AccessToken
    from azure.core.pipeline import PipelineContext, PipelineRequest
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy
    from azure.core.rest import HttpRequest

    class Credential:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            return AccessToken(token, int(time.time() + HOUR))

    policy = BearerTokenCredentialPolicy(Credential(), "scope")
    request = PipelineRequest(HttpRequest("POST", "https://127.0.0.1" + TR), PipelineContext(None))

    def auth(_prepared: requests.PreparedRequest) -> None:
        policy.on_request(request)

    return auth


def by_httpx_auth(token: str) -> Any:
    """httpx_auth."""
    from httpx_auth import OAuth2, OAuth2ClientCredentials

    auth = OAuth2ClientCredentials("https://127.0.0.1/token", client_id="id", client_secret="secret")
    OAuth2.token_cache._add_token(auth.state, token, time.time() + HOUR)
    return auth


def by_authlib_httpx(token: str) -> Any:
    """Authlib's client of httpx: its auth alone, which does not look at the expiry."""
    from authlib.integrations.httpx_client import OAuth2Auth

    return OAuth2Auth({"access_token": token, "token_type": "bearer", "expires_at": time.time() + HOUR})


PEERS = {
    "requests_auth": by_requests_auth,
    "authlib": by_authlib,
    "google-auth": by_google,
    "azure-core": by_azure,
}
HTTPX_PEERS = {"httpx_auth": by_httpx_auth, "authlib (no expiry)": by_authlib_httpx}


class Table:
    """The contestants of all rows, and the printing of what they have taken."""

    def __init__(self, kiwoom: KiwoomEmulator) -> None:
        self.kiwoom = kiwoom
        self.auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        self.token = self.auth.get_token()
        self.contestants: dict[str, Callable[[], object]] = {}
        self.figures: dict[str, Figure] = {}

    def enter(self) -> None:
        """All contestants: ``row: name``."""
        url = self.kiwoom.url + TR
        prepared = requests.Request("POST", url, headers=HEADERS, json=BODY).prepare()
        row = "requests, auth(prepared)"
        auths = {name: make(self.token) for name, make in PEERS.items()}
        auths |= {"(nothing)": lambda _prepared: None, "floor": Floor(self.token), "kiwoom": self.auth}
        for name, auth in auths.items():
            self.contestants[f"{row}: {name}"] = signing(auth, prepared)
        row = "requests, a new object each call"
        kiwoom = self.kiwoom

        def fresh(prepared: requests.PreparedRequest) -> None:
            KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)(prepared)

        def fresh_floor(prepared: requests.PreparedRequest) -> None:
            Floor(self.token)(prepared)

        self.contestants[f"{row}: (nothing)"] = signing(lambda _prepared: None, prepared)
        self.contestants[f"{row}: floor"] = signing(fresh_floor, prepared)
        self.contestants[f"{row}: kiwoom"] = signing(fresh, prepared)
        for home in (httpx, httpx2):
            request = home.Request("POST", url, headers=HEADERS, json=BODY)
            response = home.Response(200, headers=JSON, content=SHORT, request=request)
            auths = {"floor": floor_of(home)(self.token), "kiwoom": self.auth}
            if home is httpx:
                auths |= {name: make(self.token) for name, make in HTTPX_PEERS.items()}
            for way, drive in (("sync", flowing), ("async", aflowing)):
                for name, auth in auths.items():
                    self.contestants[f"{home.__name__}, {way} flow, 2 KiB: {name}"] = drive(auth, request, response)
        self._enter_judging(prepared)

    def _enter_judging(self, prepared: requests.PreparedRequest) -> None:
        """The hook of requests with answers of different sizes; the shortest tells what is not judging."""
        signed = self.auth(prepared.copy())
        (hook,) = signed.hooks["response"]
        for size, body in (("2 KiB", SHORT), ("200 KiB", LONG)):
            response = requests.Response()
            response.status_code, response._content, response.request = 200, body, signed
            response.headers.update(JSON)
            self.contestants[f"judging an answer, requests, {size}: kiwoom"] = functools.partial(hook, response)
            request = httpx.Request("POST", self.kiwoom.url + TR, headers=HEADERS, json=BODY)
            for name, content in (("kiwoom", body), ("(no JSON)", b"")):
                judged = httpx.Response(200, headers=JSON, content=content, request=request)
                drive = flowing(self.auth, request, judged)
                self.contestants[f"judging an answer, httpx, {size}: {name}"] = drive

    def print(self, taken: dict[str, list[float]]) -> None:
        """A line for each, with multiples of the floor."""
        print(f"{'':44}{'median':>10}{'+-':>7}{'of the floor':>14}")
        for name, values in taken.items():
            row, _, who = name.rpartition(": ")
            less = self._less(row, who, taken)
            if who in {"(nothing)", "(no JSON)"}:
                continue
            self.figures[name] = told = figure(values, less)
            floor = self.figures.get(f"{row}: floor")
            times = "" if floor is None or who == "floor" else f"{told.median / floor.median:.2f}"
            print(f"{name:44}{told.median * 1e6:>7.2f} us{told.spread:>7.0%}{times:>14}")

    def _less(self, row: str, who: str, taken: dict[str, list[float]]) -> float:
        for nothing in ("(nothing)", "(no JSON)"):
            if f"{row}: {nothing}" in taken and who != nothing:
                return figure(taken[f"{row}: {nothing}"]).median
        return 0.0


# Whole calls


def whole_calls(kiwoom: KiwoomEmulator, auth: KiwoomBearerAuth, token: str) -> dict[str, Callable[[], object]]:
    """Calls over loopback, by libraries with clients that stay open, with the static class and with this one."""
    url = kiwoom.url + TR
    found: dict[str, Callable[[], object]] = {}
    for name, of_requests, of_httpx in (("static", Floor, floor_of), ("kiwoom", None, None)):
        session = requests.Session()
        session.trust_env = False
        session.auth = auth if of_requests is None else of_requests(token)
        found[f"whole call, requests: {name}"] = functools.partial(session.post, url, headers=HEADERS, json=BODY)
        for home in (httpx, httpx2):
            mine = auth if of_httpx is None else of_httpx(home)(token)
            client = home.Client(auth=mine, trust_env=False)
            found[f"whole call, {home.__name__}: {name}"] = functools.partial(
                client.post, url, headers=HEADERS, json=BODY
            )
    return found


def chart(figures: dict[str, Figure]) -> str:
    """The same for the README, in microseconds."""
    groups: dict[str, dict[str, tuple[float, float]]] = {}
    for row in ("requests, auth(prepared)", "httpx, sync flow, 2 KiB", "httpx, async flow, 2 KiB"):
        found = {name.rpartition(": ")[2]: told for name, told in figures.items() if name.startswith(f"{row}: ")}
        quickest_first = sorted(found.items(), key=lambda item: item[1].median)
        groups[row] = {name: (told.median * 1e6, told.spread) for name, told in quickest_first}
    return draw("What authentication adds to a call with a valid token in the cache", groups, "µs")


def main(json_path: str | None = None, svg_path: str | None = None) -> None:
    """Print the table; with paths, write all values as pyperf's JSON, and a chart as SVG."""
    with KiwoomEmulator() as kiwoom:
        table = Table(kiwoom)
        table.enter()
        taken = race(table.contestants)
        table.print(taken)
        print()
        whole = race(whole_calls(kiwoom, table.auth, table.token), rounds=200)
        for name, values in whole.items():
            told = figure(values)
            print(f"{name:44}{1 / told.median:>7.0f} /s{told.spread:>7.0%}")
    if json_path:
        save(Path(json_path), taken | whole)
    if svg_path:
        Path(svg_path).write_text(chart(table.figures), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
