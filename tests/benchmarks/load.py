"""An outage, a refresh, many processes at once, and the import, as a table.

``python tests/benchmarks/load.py``, run by ``tox run -e bench``. Times are medians of several runs.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin._clock import Clock
from kiwoom_auth_plugin.stores import FileStore
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator
from tests.benchmarks.measure import seconds
from tests.benchmarks.storms import EXCHANGE, row
from tests.crowd import Crowd, land
from tests.process_runner import Shared
from tests.redis_server import SERVER, RedisServer

TR = "/api/dostk/stkinfo"
BOUND = 1.0
"""Seconds: the time-out in the outage."""
OTHERS = "requests, httpx, cachetools, httpx2"


def main() -> None:
    """Print the table."""
    with KiwoomEmulator() as kiwoom:
        row("outage: 1,000 waiters", f"{statistics.median(outage(kiwoom) for _ in range(3)) / BOUND:.2f} bounds")
        with_one, without = zip(*(longest_calls(kiwoom) for _ in range(25)), strict=True)
        times = statistics.median(with_one) / statistics.median(without)
        row("longest of 500 calls during a refresh", f"{times:.2f} of without")
    for name, opened in (("FileStore", files), ("Redis", redis)):
        if name == "Redis" and not SERVER:
            continue
        runs: list[float] = []
        for _ in range(5):
            with KiwoomEmulator(reissue="replace") as kiwoom, opened() as shared:
                runs.append(processes(kiwoom, shared) / EXCHANGE)
        told = f"{statistics.median(runs):.2f} ({min(runs):.2f} to {max(runs):.2f}) exchanges"
        row(f"100 cold processes, {name}: the last token", told)
    row(f"import, over that of {OTHERS}", f"{imported() * 1000:.1f} ms")


def outage(kiwoom: KiwoomEmulator) -> float:
    """1,000 callers, 100 of threads and 900 of event loops, of an endpoint that hangs."""
    auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={}, timeout=BOUND)
    with kiwoom.hold():
        crowd = Crowd()
        crowd.threads(100, auth.get_token)
        for backend in ("asyncio", "asyncio", "trio"):
            crowd.loop(backend, 300, auth.aget_token)
        taken = seconds(crowd.go)
        outcomes: list[Any] = []
        taken += seconds(lambda: outcomes.extend(crowd.outcomes()))
    assert all(isinstance(outcome, KiwoomAuthError) for outcome in outcomes)
    return taken


def longest_calls(kiwoom: KiwoomEmulator) -> tuple[float, float]:
    """The longest of 500 calls while a refresh is under way, and of as many without one."""
    url = kiwoom.url + TR

    def longest(margin: float) -> float:
        late = [0.0]
        clock = Clock(lambda: time.time() + late[0], lambda: time.monotonic() + late[0])
        kind = type("Late", (KiwoomBearerAuth,), {"_clock": clock})
        auth = kind(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={}, refresh_margin=margin, timeout=60.0)
        auth.get_token()
        late[0] = 86_400.0 - 60.0
        with requests.Session() as session, kiwoom.hold() as gate:
            session.auth = auth
            session.trust_env = False

            def call() -> object:
                return session.post(url, headers={"api-id": "ka10001"}, json={})

            call()
            if margin:
                gate.wait_for(1)
            found = max(seconds(call) for _ in range(500))
            assert gate.parked == (margin > 0)
        land()
        return found

    longest(0.0)  # what is warmed up is not measured
    return longest(300.0), longest(0.0)


@contextlib.contextmanager
def files() -> Iterator[Shared]:
    """A FileStore in a directory of its own."""
    directory = tempfile.mkdtemp()
    try:
        yield Shared({"directory": os.path.join(directory, "t")}, lambda: FileStore(directory), dict)  # noqa: PTH118
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def redis() -> Iterator[Shared]:
    """A RedisStore of a server of its own."""
    with RedisServer() as server:
        yield Shared({"port": server.port}, FileStore, dict)


def processes(kiwoom: KiwoomEmulator, shared: Shared) -> float:
    """100 children of a program that has imported all, which ask at once: seconds until the last has its token.

    Less what it takes until 100 children have only made their auth object.
    """
    with shared.program(kiwoom, timeout=30.0) as program:
        program.hear("ready")

        def children(act: str) -> float:
            started = time.perf_counter()
            program.fork(100, act)
            found = program.hear(act, 100)
            taken = time.perf_counter() - started
            program.reap()
            assert len({str(one) for one in found}) == 1
            return taken

        idle = statistics.median(children("make") for _ in range(3))
        kiwoom.script("/oauth2/token", Answer.as_usual(delay=EXCHANGE))
        taken = children("get_token") - idle
    assert kiwoom.issued == 1
    return taken


def imported() -> float:
    """Seconds that the import takes when the other packages have been imported."""
    code = f"import {OTHERS}, time; s = time.perf_counter(); import kiwoom_auth_plugin; print(time.perf_counter() - s)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    runs = [
        float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        for _ in range(16)
    ]
    return statistics.median(runs[1:])  # the first may have compiled


if __name__ == "__main__":
    main()
