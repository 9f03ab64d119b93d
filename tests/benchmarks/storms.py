"""Storms and crowds of appkeys, as a table: ``python tests/benchmarks/storms.py``.

Times of storms are in multiples of one exchange of 200 ms: the aim is at most 1.5. What a call costs
must not depend on how many appkeys are cached, and an appkey must take less than 1 KiB.
"""

import gc
import random
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import cachetools
import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._cache import DEFAULT_CACHE
from kiwoom_auth_plugin._clock import SYSTEM
from kiwoom_auth_plugin._keys import digest
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._route import Route
from kiwoom_auth_plugin._token import AccessToken
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator
from tests.crowd import Crowd

EXCHANGE = 0.2
HOST = "https://api.kiwoom.com"
SECRETKEY = "benchmark-secretkey-0123456789abcdefghijklmn"
REFUSAL = httpx.Response(401)


def main() -> None:
    """Print the table."""
    with KiwoomEmulator() as kiwoom:
        one = seconds(lambda: ask_once(kiwoom))
        row("one exchange", f"{one * 1000:.0f} ms")
        row(
            "2,200 callers that ask for nothing",
            f"{statistics.median(idle() for _ in range(5)) / one:.2f} exchanges",
        )
        row(
            "cold storm: 2,200 callers",
            f"{statistics.median(cold_storm(kiwoom) for _ in range(5)) / one:.2f} exchanges",
        )
        row(
            "refusal storm: 1,000 calls", f"{statistics.median(refusals(kiwoom) for _ in range(5)) / one:.2f} exchanges"
        )
    few, many = Appkeys(10), Appkeys(100_000)
    for what, measure in (
        ("bare object of three, kept", Appkeys.cost_of_a_walk),
        ("auth object kept", Appkeys.cost_of_a_call),
        ("auth object made for the call", Appkeys.cost_of_an_object),
    ):
        cheap, dear = measure(few), measure(many)
        row(f"a call, {what}, 10 appkeys", f"{cheap * 1e6:.2f} µs")
        row(f"a call, {what}, 100,000 appkeys", f"{dear * 1e6:.2f} µs ({dear / cheap:.2f} times)")
    row("memory of an appkey in the cache", f"{many.bytes_cached:.0f} bytes")
    row("memory of an appkey with its auth object", f"{many.bytes_kept:.0f} bytes")


def row(what: str, figure: str) -> None:
    """Print one."""
    print(f"{what:<52}{figure:>24}")


def seconds(call: Callable[[], object]) -> float:
    """How long the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def fresh(kiwoom: KiwoomEmulator) -> KiwoomBearerAuth:
    """An auth object without a token, whose AU10001 takes its time."""
    kiwoom.expire_tokens()
    kiwoom.script("/oauth2/token", Answer.as_usual(delay=EXCHANGE))
    return KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})


def ask_once(kiwoom: KiwoomEmulator) -> None:
    """One caller alone."""
    fresh(kiwoom).get_token()


def ask_by_the_thousand(call: Callable[[], object], acall: Callable[[], Awaitable[object]]) -> float:
    """200 threads, 3 event loops of 500 tasks and 500 trio tasks: seconds until all are back."""
    crowd = Crowd()
    crowd.threads(200, call)
    for backend in ("asyncio", "asyncio", "asyncio", "trio"):
        crowd.loop(backend, 500, acall)
    return seconds(lambda: crowd.go().outcomes())


def idle() -> float:
    """What the crowd itself costs."""

    async def nothing() -> None:
        pass

    return ask_by_the_thousand(lambda: None, nothing)


def cold_storm(kiwoom: KiwoomEmulator) -> float:
    """They all ask for the token that is not there."""
    auth = fresh(kiwoom)
    issued = kiwoom.issued
    taken = ask_by_the_thousand(auth.get_token, auth.aget_token)
    assert kiwoom.issued == issued + 1
    return taken


def refusals(kiwoom: KiwoomEmulator) -> float:
    """1,000 calls in flight, 100 of threads and 900 of an event loop, whose answers refuse the token at once."""
    auth = fresh(kiwoom)
    auth.get_token()
    kiwoom.expire_tokens()
    kiwoom.script("/oauth2/token", Answer.as_usual(delay=EXCHANGE))
    issued = kiwoom.issued
    flows = [auth.sync_auth_flow(httpx.Request("POST", kiwoom.url)) for _ in range(100)]
    for flow in flows:
        next(flow)
    barrier = threading.Barrier(101)

    async def loop() -> None:
        aflows = [auth.async_auth_flow(httpx.Request("POST", kiwoom.url)) for _ in range(900)]
        for aflow in aflows:
            await anext(aflow)
        barrier.wait()
        async with anyio.create_task_group() as tasks:
            for aflow in aflows:
                tasks.start_soon(aflow.asend, REFUSAL)
        for aflow in aflows:
            await aflow.aclose()

    def thread(flow: object) -> None:
        barrier.wait()
        flow.send(REFUSAL)

    threads = [threading.Thread(target=thread, args=(flow,)) for flow in flows]
    for one in threads:
        one.start()
    taken = seconds(lambda: anyio.run(loop))
    for one in threads:
        one.join()
    assert kiwoom.issued == issued + 1
    return taken


class Given:
    """An issue that costs nothing."""

    timeout = patience = 10.0
    route = Route(None, 10.0, "requests")
    log = Log("", HOST)

    def __call__(self, lookup: Callable[[bytes], AccessToken | None], *_takes_and_spent: object) -> AccessToken:
        """A token of the usual length."""
        of = digest(SECRETKEY)
        now = SYSTEM.now()
        return lookup(of) or AccessToken(f"{random.getrandbits(344):086x}", now, now + 86_400.0, of, now)


class Bare:
    """An object that leads to another; reading it does nothing else."""

    def __init__(self, leads_to: object) -> None:
        self.leads_to = leads_to

    def get(self) -> str:
        """The text at the end of three."""
        return f"{self.leads_to.leads_to.leads_to}"


class Appkeys:
    """So many appkeys with a token each."""

    def __init__(self, number: int) -> None:
        self._cache = cachetools.TLRUCache(200_000, DEFAULT_CACHE.ttu, timer=SYSTEM.now)
        self._appkeys = [f"{index:043d}" for index in range(number)]
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for appkey in self._appkeys:
            self._auth(appkey)._source.get(Given())
        gc.collect()
        self.bytes_cached = (tracemalloc.get_traced_memory()[0] - before) / number
        self._auths = [self._auth(appkey) for appkey in self._appkeys]
        for auth in self._auths:
            auth._source.get(Given())
        gc.collect()
        self.bytes_kept = (tracemalloc.get_traced_memory()[0] - before) / number
        tracemalloc.stop()
        random.shuffle(self._auths)

    def _auth(self, appkey: str) -> KiwoomBearerAuth:
        return KiwoomBearerAuth(appkey, SECRETKEY, host=HOST, cache=self._cache)

    def cost_of_a_call(self) -> float:
        """Seconds that a call takes whose auth object is at hand."""
        auths = (self._auths * (10_000 // len(self._auths) + 1))[:10_000]
        return min(seconds(lambda: [auth.get_token() for auth in auths]) for _ in range(5)) / len(auths)

    def cost_of_a_walk(self) -> float:
        """Seconds that it takes to come by an object, its source and its token in memory: the floor of a call."""
        bare = [Bare(Bare(Bare(str(number)))) for number in range(len(self._auths))]
        random.shuffle(bare)
        bare = (bare * (10_000 // len(bare) + 1))[:10_000]
        return min(seconds(lambda: [one.get() for one in bare]) for _ in range(5)) / len(bare)

    def cost_of_an_object(self) -> float:
        """Seconds that a call takes whose auth object is made for it, with the token only in the cache."""
        keys = random.choices(self._appkeys, k=10_000)
        self._auths.clear()
        issue = Given()
        return min(seconds(lambda: [self._auth(key)._source.get(issue) for key in keys]) for _ in range(3)) / len(keys)


if __name__ == "__main__":
    main()
