"""Storms, as a table: ``python tests/benchmarks/storms.py``.

Times are in multiples of one exchange of 200 ms.
"""

import statistics
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator
from tests.benchmarks.measure import seconds
from tests.crowd import Crowd

EXCHANGE = 0.2
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


def row(what: str, figure: str) -> None:
    """Print one."""
    print(f"{what:<52}{figure:>24}")


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


if __name__ == "__main__":
    main()
