"""What a process that runs for months must not collect, and what an import must not bring along."""

import gc
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from io import BytesIO

import httpx
import pytest
import requests
import urllib3

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._clock import SYSTEM

APPKEY, SECRETKEY = "an-appkey-0123456789", "a-secretkey-0123456789"
URL = "https://api.kiwoom.com/api/dostk/stkinfo"
KST = timezone(timedelta(hours=9))
REFUSED = {"return_code": 3, "return_msg": "인증에 실패했습니다[8005:Token이 유효하지 않습니다]"}


class Endpoint(requests.adapters.BaseAdapter):
    """Issues another token each time, without a socket."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        self.issued = 0

    def send(self, request, **_options):
        self.issued += 1
        expires = datetime.fromtimestamp(self._clock.now(), KST) + timedelta(hours=24)
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, request.url
        body = f'{{"token":"token-{self.issued}","token_type":"bearer","expires_dt":"{expires:%Y%m%d%H%M%S}"}}'
        answer.raw = urllib3.HTTPResponse(body=BytesIO(body.encode()), preload_content=False)
        return answer

    def close(self):
        pass


@pytest.fixture
def endpoint(clock):
    return Endpoint(clock)


@pytest.fixture
def auth(clock, endpoint):
    with requests.Session() as session:
        session.mount("https://", endpoint)
        kind = type("KiwoomBearerAuth", (KiwoomBearerAuth,), {"_clock": clock})
        yield kind(APPKEY, SECRETKEY, cache={}, client=session)


def growth(work, times):
    """How many objects there are more after so much work than after a tenth of it, by their types."""

    def count():
        gc.collect()
        return Counter(type(thing).__name__ for thing in gc.get_objects()), sys.getallocatedblocks()

    work(times // 10)  # caches, lazily made objects, what the libraries keep
    objects, blocks = count()
    work(times - times // 10)
    now, blocks_now = count()
    return {kind: more for kind, more in (now - objects).items() if more > times // 1000}, blocks_now - blocks


def test_a_million_calls_leave_nothing(auth):
    prepared = requests.Request("POST", URL, json={}).prepare()
    request, answer = httpx.Request("POST", URL, json={}), httpx.Response(200, json={"return_code": 0})

    def calls(times):
        for _ in range(times * 9 // 10):
            auth(prepared)  # the same request again: its hooks do not pile up
        for _ in range(times // 10):
            flow = auth.sync_auth_flow(request)
            next(flow)
            with Ends():
                flow.send(answer)

    objects, blocks = growth(calls, 1_000_000)
    assert objects == {}
    assert blocks < 2_000


class Ends:
    """Swallows the end of a flow; ``contextlib.suppress`` takes longer than the call."""

    def __enter__(self):
        pass

    def __exit__(self, kind, *_error):
        return kind is StopIteration


def test_ten_thousand_refusals_leave_nothing(auth, clock, endpoint):
    request, refusal = httpx.Request("POST", URL, json={}), httpx.Response(200, json=REFUSED)
    good = httpx.Response(200, json={"return_code": 0})
    repeated = 0

    def refusals(times):
        nonlocal repeated
        for _ in range(times):
            clock.advance(600.0)
            flow = auth.sync_auth_flow(request)
            next(flow)
            again = flow.send(refusal)
            repeated += again.headers["Authorization"] == auth._source.token.header
            with Ends():
                flow.send(good)

    objects, blocks = growth(refusals, 10_000)
    assert objects == {}
    assert blocks < 2_000
    assert repeated == 10_000
    assert endpoint.issued > 10_000


def test_ten_thousand_instances_leave_nothing():
    """Of ten keys each of which is used again and again; and of a callable each, as a lambda in a loop has it."""
    prepared = requests.Request("POST", URL, json={}).prepare()
    cache = {}

    def instances(times):
        with requests.Session() as session:
            session.mount("https://", Endpoint(SYSTEM))
            for number in range(times):
                key = f"{APPKEY}-{number % 10}"
                KiwoomBearerAuth(key, SECRETKEY, cache=cache, client=session)(prepared)
                KiwoomBearerAuth(key, lambda: SECRETKEY, cache=cache, client=session)(prepared)

    instances(2_000)  # the sources of the last thousand keys are kept: what they have learnt outlives the objects
    objects, blocks = growth(instances, 10_000)
    assert objects == {}
    assert blocks < 2_000


def test_the_import_brings_nothing_along_that_is_not_used():
    code = (
        "import requests, httpx, cachetools, sys\n"
        "try:\n    import httpx2\nexcept ImportError:\n    pass\n"
        "before = set(sys.modules)\n"
        "import kiwoom_auth_plugin\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    unwanted = {"asyncio", "redis", "cryptography", "filelock", "platformdirs", "trio", "pytest", "websockets"}
    assert unwanted.isdisjoint(done.stdout.split())
