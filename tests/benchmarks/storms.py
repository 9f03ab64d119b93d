"""Storms, as a table: ``python tests/benchmarks/storms.py``.

Times are in multiples of one exchange of 200 ms. The local Kiwoom is a process of its own: in this one it would have to
wait for its turn among the callers.
"""

import statistics
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

import anyio
import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator
from tests.benchmarks.measure import seconds
from tests.crowd import Crowd

EXCHANGE = 0.2
GOOD = httpx.Response(200, json={"cur_prc": "+71500", "return_code": 0})


class Elsewhere:
    """A local Kiwoom in another process."""

    def __enter__(self) -> Self:
        command = [sys.executable, __file__, "serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url, self.appkey, self.secretkey = self._hear().split()
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def forget(self) -> None:
        """Let the next AU10001 find no valid token and take its time."""
        self._tell("forget")

    @property
    def issued(self) -> int:
        """How many AU10001 have succeeded so far."""
        return self._tell("count")

    def _tell(self, what: str) -> int:
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return int(self._hear())

    def _hear(self) -> str:
        return self._process.stdout.readline()


def serve() -> None:
    """Be that process."""
    with KiwoomEmulator() as kiwoom:
        print(kiwoom.url, kiwoom.appkey, kiwoom.secretkey, flush=True)
        for line in sys.stdin:
            if line == "forget\n":
                kiwoom.expire_tokens()
                kiwoom.script("/oauth2/token", Answer.as_usual(delay=EXCHANGE))
            print(kiwoom.issued, flush=True)


def main() -> None:
    """Print the table."""
    with Elsewhere() as kiwoom:
        one = seconds(lambda: ask_once(kiwoom))
        row("one exchange", f"{one * 1000:.0f} ms")
        for what, storm, calm in (
            ("cold storm: 2,200 callers", lambda: cold_storm(kiwoom), idle),
            ("refusal storm: 1,000 calls", lambda: refusals(kiwoom), lambda: refusals(kiwoom, refused=False)),
        ):
            taken, own = (statistics.median(run() for _ in range(7)) / one for run in (storm, calm))
            row(what, f"{taken:.2f} exchanges")
            row("    the same crowd without need of a token", f"{own:.2f} exchanges")


def row(what: str, figure: str) -> None:
    """Print one."""
    print(f"{what:<52}{figure:>24}")


def fresh(kiwoom: Elsewhere) -> KiwoomBearerAuth:
    """An auth object without a token, whose AU10001 takes its time."""
    kiwoom.forget()
    return KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})


def ask_once(kiwoom: Elsewhere) -> None:
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


def cold_storm(kiwoom: Elsewhere) -> float:
    """They all ask for the token that is not there."""
    auth = fresh(kiwoom)
    issued = kiwoom.issued
    taken = ask_by_the_thousand(auth.get_token, auth.aget_token)
    assert kiwoom.issued == issued + 1
    return taken


def refusals(kiwoom: Elsewhere, *, refused: bool = True) -> float:
    """1,000 calls, 100 of threads and 900 of a loop, whose answers come at once, and refuse the token or are good."""
    auth = fresh(kiwoom)
    auth.get_token()
    if refused:
        kiwoom.forget()
    issued = kiwoom.issued
    answer = httpx.Response(401) if refused else GOOD
    flows = [auth.sync_auth_flow(httpx.Request("POST", kiwoom.url)) for _ in range(100)]
    for flow in flows:
        next(flow)
    barrier = threading.Barrier(101)

    def finish(flow: Generator[httpx.Request, httpx.Response]) -> None:
        barrier.wait()
        with suppress(StopIteration):
            flow.send(answer)

    async def afinish(aflow: AsyncGenerator[httpx.Request, httpx.Response]) -> None:
        with suppress(StopAsyncIteration):
            await aflow.asend(answer)

    async def loop() -> None:
        aflows = [auth.async_auth_flow(httpx.Request("POST", kiwoom.url)) for _ in range(900)]
        for aflow in aflows:
            await anext(aflow)
        barrier.wait()
        async with anyio.create_task_group() as tasks:
            for aflow in aflows:
                tasks.start_soon(afinish, aflow)
        for aflow in aflows:
            await aflow.aclose()

    with ThreadPoolExecutor(100) as threads:
        ends = [threads.submit(finish, flow) for flow in flows]
        taken = seconds(lambda: anyio.run(loop))
        for end in ends:
            end.result()
    assert kiwoom.issued == issued + refused
    return taken


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
