"""Public clients of Kiwoom's REST API beside this package, as a table: ``tox run -e peers``.

``python tests/benchmarks/peers.py FOLDER NAME==VERSION ...`` installs each client into a folder of its own, as some
share the name of their import package, and puts each question to it in a process of its own. All of them talk to a
local Kiwoom, without keys. Each is used as its documentation shows, with one object for all callers.
"""

import asyncio
import inspect
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module as module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Gate, KiwoomEmulator, _kiwoom, recorded

# The specification asks for a charset in AU10001's Content-Type, and some clients send none. What the real server says
# to that is not recorded: here it does not mind.
_kiwoom._JSON_UTF8 = _kiwoom._JSON

CALLERS = 8
LIFETIME = timedelta(hours=4)
STOCK = "005930"
PRICE = "71500"
PATH = "/api/dostk/stkinfo"
OURS = "kiwoom_auth_plugin"


class Client(NamedTuple):
    """Made and, where that is a step of its own, logged in; ``deadline`` is when it believes that its token ends."""

    itself: Any
    call: Callable[[], Any]
    deadline: Callable[[], datetime | float | None] = lambda: None


class Peer(NamedTuple):
    """How to come by a client; its callers are threads or tasks."""

    name: str
    style: str
    note: str
    open: Callable[[KiwoomEmulator], Any]
    expires: Literal["compact", "dashed"] = "compact"


# Each is pointed at the local Kiwoom by an argument or a variable where it has one, else by replacing its constant.


def ours(session, kiwoom):
    session.auth = auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
    call = partial(session.post, kiwoom.url + PATH, headers={"api-id": "ka10001"}, json={"stk_cd": STOCK})
    return Client(auth, call, lambda: auth.expires_at)


def kiwoom_client(kind, kiwoom):
    make = getattr(module("kiwoom_client"), kind)
    api = make(kiwoom.appkey, kiwoom.secretkey, base_url=kiwoom.url, rate_limit=None)
    return Client(api, partial(api.stock_info.basic_stock_info, stk_cd=STOCK), lambda: api._auth.expires_at)


def kiwoom_playground(kiwoom):
    client = module("kiwoom_rest").KiwoomClient(kiwoom.appkey, kiwoom.secretkey, base_url=kiwoom.url)
    return Client(client, partial(client.basic_stock_information, stk_cd=STOCK), lambda: client.core._token_expires_at)


def kiwoom_rest_api(kiwoom):
    os.environ |= {"KIWOOM_API_KEY": kiwoom.appkey, "KIWOOM_API_SECRET": kiwoom.secretkey}
    os.environ["KIWOOM_DEFAULT_BASE_URL"] = kiwoom.url
    manager = module("kiwoom_rest_api.auth.token").TokenManager()
    info = module("kiwoom_rest_api.koreanstock.stockinfo").StockInfo(base_url=kiwoom.url, token_manager=manager)
    call = partial(info.basic_stock_information_request_ka10001, STOCK)
    return Client(info, call, lambda: manager._token_expiry)


def kiwoom_rest_trade(kiwoom):
    module("kiwoom.auth").TokenManager.base_url = module("kiwoom.api.base").BaseAPI.base_url = kiwoom.url
    client = module("kiwoom").AsyncKiwoomClient(kiwoom.appkey, kiwoom.secretkey)
    call = partial(client.domestic.ka10001, module("kiwoom.models.domestic").Ka10001Request(stk_cd=STOCK))
    return Client(client, call, lambda: client.token_manager._expires_at)


async def kiwoom_restful(kiwoom):
    socket = module("kiwoom.http.socket").Socket
    socket.REAL = kiwoom.websocket.url.removesuffix(socket.ENDPOINT)
    module("kiwoom.config").REAL = kiwoom.url
    api = module("kiwoom").API(kiwoom.url, kiwoom.appkey, kiwoom.secretkey)
    await api.connect()
    return Client(api, partial(api.request, PATH, "ka10001", data={"stk_cd": STOCK}))


def kiwoompy(kiwoom):
    module("kiwoompy.api")._BASE_URLS["real"] = kiwoom.url
    client = module("kiwoompy").KiwoomClient("real", kiwoom.appkey, kiwoom.secretkey)
    return Client(client, partial(client.query.get_stock_info, STOCK), lambda: client.auth._expires_at)


async def kiwoomrest(kiwoom):
    rest_api = module("kiwoomRest.rest_api")
    rest_api.BASE_URL_REAL, rest_api.WSS_URL_REAL = kiwoom.url, kiwoom.websocket.url
    api = rest_api.KwRestApi()
    if not await api.login(kiwoom.appkey, kiwoom.secretkey):
        raise RuntimeError(api.last_message)
    return Client(api, partial(api.request, "ka10001", {"stk_cd": STOCK}))


def pyheroapi(kiwoom):
    kind = module("pyheroapi").KiwoomClient
    kind.PRODUCTION_URL = kiwoom.url
    client = kind.create_with_credentials(kiwoom.appkey, kiwoom.secretkey)
    return Client(client, partial(client.get_stock_basic_info, STOCK))


def pykiwoom_rest(kiwoom):
    module("pykiwoom_rest.kiwoom_base").KiwoomAPIBase.BASE_URL = kiwoom.url
    make = module("pykiwoom_rest").KiwoomRest
    client = make(account_no="00000000", appkey=kiwoom.appkey, appsecret=kiwoom.secretkey)
    return Client(client, partial(client.get_stock_price, STOCK), lambda: client.stock_api.token_expires)


PEERS = [
    Peer(OURS, "threads", "", lambda kiwoom: ours(requests.Session(), kiwoom)),
    Peer(OURS, "tasks", "", lambda kiwoom: ours(httpx.AsyncClient(), kiwoom)),
    Peer("kiwoom-client", "threads", "a", partial(kiwoom_client, "KiwoomAPI")),
    Peer("kiwoom-client", "tasks", "a", partial(kiwoom_client, "AsyncKiwoomAPI")),
    Peer("kiwoom-playground", "threads", "", kiwoom_playground),
    Peer("kiwoom-rest-api", "threads", "", kiwoom_rest_api),
    Peer("kiwoom-rest-trade", "tasks", "", kiwoom_rest_trade),
    Peer("kiwoom-restful", "tasks", "b", kiwoom_restful),
    Peer("kiwoompy", "threads", "c", kiwoompy),
    Peer("kiwoomrest", "tasks", "c", kiwoomrest),
    Peer("pyheroapi", "threads", "c", pyheroapi),
    Peer("pykiwoom-rest", "threads", "d", pykiwoom_rest),
    Peer("pykiwoom-rest", "threads", "e", pykiwoom_rest, "dashed"),
]


async def run(peer: Peer, function: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread, or on the loop."""
    if peer.style == "threads":
        return await asyncio.to_thread(function, *arguments)
    result = function(*arguments)
    return await result if inspect.isawaitable(result) else result


async def fate(peer: Peer, call: Callable[[], Any]) -> str:
    """What becomes of a call; an answer is a quote or a refusal, whatever it is wrapped in."""
    try:
        answer = await asyncio.wait_for(run(peer, call), 20.0)
    except TimeoutError:
        return "hangs"
    except Exception:  # noqa: BLE001 - each client has errors of its own
        return "raises"
    return "ok" if PRICE in f"{answer} {getattr(answer, 'text', '')} {getattr(answer, 'body', '')}" else "returned"


async def crowd(peer: Peer, client: Client) -> str:
    """Eight calls at once: how many bring a quote, and what becomes of the others."""
    barrier = threading.Barrier(CALLERS)

    def call() -> Any:
        if peer.style == "threads":
            barrier.wait()
        return client.call()

    fates = await asyncio.gather(*(fate(peer, call) for _ in range(CALLERS)))
    others = ", ".join(sorted(set(fates) - {"ok"}))
    return f"{fates.count('ok')}{others and f' ({others})'}"


async def parked(gate: Gate, seconds: float) -> None:
    """Until all callers wait at the gate; fewer come where they wait for one another, or give up."""
    with suppress(TimeoutError):
        await asyncio.to_thread(gate.wait_for, CALLERS, seconds)


async def cold(peer: Peer, kiwoom: KiwoomEmulator) -> list[Any]:
    """AU10001 calls where eight callers find no token."""

    async def start() -> None:
        await crowd(peer, await run(peer, peer.open, kiwoom))

    with kiwoom.hold() as issues:
        starting = asyncio.create_task(start())
        await parked(issues, 4.0)
    await starting
    return [len(kiwoom.calls("au10001"))]


async def refused(peer: Peer, kiwoom: KiwoomEmulator) -> list[Any]:
    """Of eight calls whose token is refused at once, with HTTP 200, how many succeed; and the AU10001 calls of that."""
    client = await run(peer, peer.open, kiwoom)
    assert await fate(peer, client.call) == "ok"
    kiwoom.revoke_tokens()
    kiwoom.clear_journal()
    with kiwoom.hold("/api/dostk/") as calls, kiwoom.hold() as issues:
        crowding = asyncio.create_task(crowd(peer, client))
        await parked(calls, 6.0)
        calls.release()
        await parked(issues, 4.0)
    return [await crowding, len(kiwoom.calls("au10001"))]


async def hours(peer: Peer, kiwoom: KiwoomEmulator) -> list[Any]:
    """How long the client believes its token to be good for; a naive datetime is local time, as the client has it."""
    client = await run(peer, peer.open, kiwoom)
    await run(peer, client.call)
    end = client.deadline()
    seconds = end.timestamp() if isinstance(end, datetime) else end
    return [f"{(seconds - time.time()) / 3600:.1f}" if seconds else "-"]


async def shown(peer: Peer, kiwoom: KiwoomEmulator) -> list[Any]:
    """Where the secretkey or a token can be read."""
    logs, printed, failures = io.StringIO(), io.StringIO(), io.StringIO()
    logging.basicConfig(level=logging.DEBUG, stream=logs)
    with redirect_stdout(printed):
        client = await run(peer, peer.open, kiwoom)
        await run(peer, client.call)
        secrets = [kiwoom.secretkey, *kiwoom.tokens]
        parts = [part for part in vars(client.itself).values() if type(part).__module__ != "builtins"]
        texts = "".join(f"{one!r} {one}" for one in (client.itself, *parts))
        kiwoom.revoke_tokens()
        kiwoom.script("/oauth2/token", *[recorded.BAD_KEY_PAIR] * CALLERS)
        for attempt in (run(peer, client.call), run(peer, peer.open, kiwoom)):
            try:
                await asyncio.wait_for(attempt, 5.0)
            except Exception:  # noqa: BLE001 - whatever it is, its text is what counts
                traceback.print_exc(file=failures)
    places = {"repr": texts, "log": logs.getvalue(), "print": printed.getvalue(), "error": failures.getvalue()}
    return [", ".join(place for place, text in places.items() if any(one in text for one in secrets)) or "no"]


QUESTIONS = [
    (cold, "UTC", ["cold"]),
    (refused, "UTC", ["refused", "issues"]),
    (hours, "UTC", ["UTC"]),
    (hours, "Asia/Seoul", ["KST"]),
    (shown, "UTC", ["shown"]),
]
LEGEND = """
cold     AU10001 calls when 8 callers find no token at the same time
refused  how many of 8 calls succeed when the token of all is refused at the same time (8005 in HTTP 200);
         returned: the refusal is what the call returns; hangs: not back after 20 seconds
issues   AU10001 calls of that
UTC      hours for which the client believes its token to be good, on a machine in UTC; 4.0 is true; -: it keeps none
KST      the same on a machine in Korea
shown    where the secretkey or a token can be read: repr or str of the client and its parts, logs at DEBUG, standard
         output, tracebacks of a call and of a start whose AU10001 is refused

a  With rate_limit=None; its limit of one call of a TR in a second would keep the calls apart.
b  Issues when it connects. Refused, it connects again, which does nothing as long as it is connected, and repeats the
   call with the token it has.
c  Issues when it is made or logged in, and leaves renewing to the caller.
d  It cannot read expires_dt in the form that Kiwoom documents (20241107083713): each call raises.
e  The same with expires_dt as 2024-11-07 08:37:13.

Not measured: kwcli, the official client, whose licence allows its use with Kiwoom's own service only; kiwoom-cli and
kiwoom-mcp, which runs it: each of its commands is a process of its own and takes the token that "kiwoom auth login" has
put into the keychain.

The local Kiwoom gives the same token again while that is valid, and takes AU10001 without a charset. kiwoom-rest-trade,
kiwoom-restful, kiwoompy, kiwoomrest, pyheroapi and pykiwoom-rest have their host in a constant, which is replaced.
"""


async def answer(peer: Peer, question: int) -> list[Any]:
    """What a client says to a question."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * CALLERS))
    put, _, columns = QUESTIONS[question]
    with KiwoomEmulator(token_lifetime=LIFETIME, expires_format=peer.expires) as kiwoom:
        try:
            return await put(peer, kiwoom)
        except Exception:  # noqa: BLE001 - each client has errors of its own
            traceback.print_exc()
            return ["raises"] * len(columns)


def ask(folder: Path, number: int, question: int) -> list[Any]:
    """The same, in a process of its own."""
    _, zone, columns = QUESTIONS[question]
    command = [sys.executable, str(Path(__file__).resolve()), "--answer", str(number), str(question)]
    with tempfile.TemporaryDirectory() as home:
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), home)
        environment = os.environ | places | {"PYTHONPATH": str(folder), "TZ": zone, "NO_PROXY": "*"}
        try:
            done = subprocess.run(command, env=environment, cwd=home, capture_output=True, timeout=90.0, check=True)
        except subprocess.SubprocessError as error:
            return ["time-out" if isinstance(error, subprocess.TimeoutExpired) else "crashes"] * len(columns)
    return json.loads(done.stdout.splitlines()[-1])


def row(*cells: Any) -> None:
    print(*(f"{cell:<{width}}" for cell, width in zip(cells, (20, 9, 9, 6, 14, 8, 6, 6, 6), strict=True)))


def main(folder: Path, *requirements: str) -> None:
    """Install the clients and print the table."""
    row("client", "version", "callers", *(column for _, _, columns in QUESTIONS for column in columns))
    for requirement in (f"{OURS}=={version(OURS)}", *requirements):
        name, release = requirement.split("==")
        place = folder / requirement
        if name != OURS and not place.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place), requirement]
            subprocess.run(pip, check=True)
        for number, peer in enumerate(PEERS):
            if peer.name == name:
                cells = [cell for question in range(len(QUESTIONS)) for cell in ask(place, number, question)]
                row(f"{name} {peer.note}", release, peer.style, *cells)
    print(LEGEND)


if __name__ == "__main__":
    if sys.argv[1] == "--answer":
        print("\n" + json.dumps(asyncio.run(answer(PEERS[int(sys.argv[2])], int(sys.argv[3])))), flush=True)
        os._exit(0)  # calls that hang go with it
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
