"""Show at work what the package promises, against a local Kiwoom: no keys and no network are needed."""

import argparse
import asyncio
import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth, __version__
from kiwoom_auth_plugin.testing import Call, KiwoomEmulator

SUMMARY = "make calls to a local Kiwoom and show how few tokens they take"
EXAMPLES = """\
examples:
  kiwoom-auth demo
"""

_PATH = "/api/dostk/stkinfo"
_TIMEOUT = 30.0
_TASKS = 10
_THREADS = 50
_PROCESSES = 3


class _Bench:
    """The local Kiwoom, an auth object for it, and calls that can be told from each other.

    Args:
        kiwoom: started.
    """

    def __init__(self, kiwoom: KiwoomEmulator) -> None:
        self.kiwoom = kiwoom
        self.url = kiwoom.url + _PATH
        self._cache: dict[Any, Any] = {}
        self._stocks = itertools.count(1)
        self.auth = self.another_auth()

    def another_auth(self) -> KiwoomBearerAuth:
        """An auth object of the same keys, host and cache: it shares the token."""
        return KiwoomBearerAuth(self.kiwoom.appkey, self.kiwoom.secretkey, host=self.kiwoom.url, cache=self._cache)

    def call(self) -> dict[str, Any]:
        """The arguments of one TR call (ka10001), the same for requests and httpx; each asks for another stock."""
        return {
            "headers": {"api-id": "ka10001", "cont-yn": "N", "next-key": ""},
            "json": {"stk_cd": f"{next(self._stocks):06d}"},
            "timeout": _TIMEOUT,
        }


# The environment's proxies must not come between this program and its loopback: hence trust_env=False.


def _requests_session(bench: _Bench) -> list[Any]:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = bench.auth
        return [session.post(bench.url, **bench.call()) for _ in range(3)]


def _requests_one_call(bench: _Bench) -> list[Any]:
    with requests.Session() as session:
        session.trust_env = False
        return [session.post(bench.url, auth=bench.another_auth(), **bench.call()) for _ in range(3)]


def _httpx_client(bench: _Bench) -> list[Any]:
    with httpx.Client(auth=bench.auth, trust_env=False) as client:
        return [client.post(bench.url, **bench.call()) for _ in range(3)]


def _httpx2_client(bench: _Bench) -> list[Any]:
    import httpx2  # noqa: PLC0415 - may be missing

    with httpx2.Client(auth=bench.auth, trust_env=False) as client:
        return [client.post(bench.url, **bench.call()) for _ in range(3)]


def _asyncio_tasks(bench: _Bench) -> list[Any]:
    async def program() -> list[Any]:
        async with httpx.AsyncClient(auth=bench.auth, trust_env=False) as client:
            return await asyncio.gather(*(client.post(bench.url, **bench.call()) for _ in range(_TASKS)))

    return asyncio.run(program())


def _trio_tasks(bench: _Bench) -> list[Any]:
    import trio  # noqa: PLC0415 - may be missing

    answers: list[Any] = []

    async def program() -> None:
        async def task() -> None:
            answers.append(await client.post(bench.url, **bench.call()))

        async with httpx.AsyncClient(auth=bench.auth, trust_env=False) as client, trio.open_nursery() as nursery:
            for _ in range(_TASKS):
                nursery.start_soon(task)

    try:
        trio.run(program)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    return answers


def _refused(bench: _Bench) -> list[Any]:
    bench.kiwoom.refuse_next()
    return _requests_session(bench)


def _revoked_under_tasks(bench: _Bench) -> list[Any]:
    async def program() -> list[Any]:
        async with httpx.AsyncClient(auth=bench.auth, trust_env=False) as client:
            with bench.kiwoom.hold(_PATH) as gate:
                calls = [asyncio.create_task(client.post(bench.url, **bench.call())) for _ in range(_TASKS)]
                await asyncio.to_thread(gate.wait_for, _TASKS)  # each is on its way, with the token of before
                bench.kiwoom.revoke_tokens()
            return await asyncio.gather(*calls)

    return asyncio.run(program())


def _revoked_under_threads(bench: _Bench) -> list[Any]:
    with ThreadPoolExecutor(_THREADS) as threads, bench.kiwoom.hold(_PATH) as gate:
        calls = _submit_all(threads, bench)
        gate.wait_for(_THREADS)
        bench.kiwoom.revoke_tokens()
        gate.release()
        return [call.result() for call in calls]


def _cold_threads(bench: _Bench) -> list[Any]:
    bench.auth.revoke()
    with ThreadPoolExecutor(_THREADS) as threads:
        return [call.result() for call in _submit_all(threads, bench)]


def _processes(bench: _Bench) -> list[Any]:
    """Processes in turn, as cron starts them; the keys go by the environment, which ``ps`` does not show."""
    answers: list[Any] = []
    with tempfile.TemporaryDirectory() as directory:
        keys = {
            "KIWOOM_APPKEY": bench.kiwoom.appkey,
            "KIWOOM_SECRETKEY": bench.kiwoom.secretkey,
            "KIWOOM_HOST": bench.kiwoom.url,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        for _ in range(_PROCESSES):
            program = [sys.executable, "-c", _PROGRAM, str(Path(directory, "tokens")), json.dumps(bench.call())]
            done = subprocess.run(  # noqa: S603 - this interpreter and a text of ours
                program, env=os.environ | keys, capture_output=True, timeout=_TIMEOUT, check=True
            )
            answers.append(httpx.Response(200, content=done.stdout))
    return answers


_PROGRAM = """
import json, os, sys, requests
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.stores import FileStore

directory, call = sys.argv[1:]
with requests.Session() as session:
    session.trust_env = False
    session.auth = KiwoomBearerAuth.from_env(store=FileStore(directory))
    answer = session.post(os.environ["KIWOOM_HOST"] + "/api/dostk/stkinfo", **json.loads(call))
    sys.stdout.buffer.write(answer.content)
"""


def _submit_all(threads: ThreadPoolExecutor, bench: _Bench) -> list[Future[requests.Response]]:
    def thread(call: dict[str, Any]) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.post(bench.url, auth=bench.auth, **call)

    return [threads.submit(thread, bench.call()) for _ in range(_THREADS)]


class _Step(NamedTuple):
    """A part of the demonstration, and what is promised of it.

    Attributes:
        title: as shown.
        run: makes the calls and returns their answers.
        calls: how many calls it makes.
        issues: how many AU10001 calls that takes.
        repeats: how many of the calls are made once more, since their token was refused.
        needs: packages that may be missing.
    """

    title: str
    run: Callable[[_Bench], list[Any]]
    calls: int
    issues: int = 0
    repeats: int = 0
    needs: tuple[str, ...] = ()


_STORE_NEEDS = ("cryptography", "filelock", "platformdirs")
_STEPS = (
    _Step("requests: session.auth", _requests_session, 3, issues=1),
    _Step("requests: auth= of each call", _requests_one_call, 3),
    _Step("httpx: Client", _httpx_client, 3),
    _Step("httpx2: Client", _httpx2_client, 3, needs=("httpx2",)),
    _Step(f"asyncio: {_TASKS} tasks, httpx.AsyncClient", _asyncio_tasks, _TASKS),
    _Step(f"trio: {_TASKS} tasks, httpx.AsyncClient", _trio_tasks, _TASKS, needs=("trio",)),
    _Step("requests: a token is refused (8005)", _refused, 3, issues=1, repeats=1),
    _Step(f"asyncio: revoked under {_TASKS} calls", _revoked_under_tasks, _TASKS, issues=1, repeats=_TASKS),
    _Step(f"threads: revoked under {_THREADS} calls", _revoked_under_threads, _THREADS, issues=1, repeats=_THREADS),
    _Step(f"threads: {_THREADS} at once, no token yet", _cold_threads, _THREADS, issues=1),
    _Step(f"{_PROCESSES} processes in turn: FileStore", _processes, _PROCESSES, issues=1, needs=_STORE_NEEDS),
)


class _Count(NamedTuple):
    """What a journal tells: calls, AU10001 calls, calls made once more, calls answered."""

    calls: int
    issues: int
    repeats: int
    answered: int

    @classmethod
    def of(cls, journal: Iterable[Call]) -> "_Count":
        entries = list(journal)
        sent = Counter(entry.body for entry in entries if entry.path == _PATH)
        answered = {entry.body for entry in entries if entry.path == _PATH and entry.return_code == 0}
        issues = sum(entry.api == "au10001" for entry in entries)
        return cls(len(sent), issues, sum(sent.values()) - len(sent), len(answered))


def run(_arguments: argparse.Namespace) -> int:
    """Make the calls, print what became of them, and return the exit status."""
    print(f"kiwoom_auth_plugin {__version__}: calls to a local Kiwoom, which kills the old token with each AU10001.\n")
    width = max(len(step.title) for step in _STEPS)
    print(f"{'step':{width}}  calls  AU10001 so far  repeated  result")
    print(f"{'-' * width}  -----  --------------  --------  ------")
    failed = 0
    with KiwoomEmulator(reissue="replace") as kiwoom:
        bench = _Bench(kiwoom)
        for step in _STEPS:
            before = len(kiwoom.journal)
            result = _result_of(step, bench, before)
            failed += result.startswith("FAILED")
            count = _Count.of(kiwoom.journal[before:])
            so_far = _Count.of(kiwoom.journal).issues
            print(f"{step.title:{width}}  {count.calls:5}  {so_far:14}  {count.repeats:8}  {result}", flush=True)
        total = _Count.of(kiwoom.journal)
    calls, issues, repeats, answered = total
    print(f"\n{issues} AU10001 calls, {repeats} repeated calls, {answered} of {calls} calls answered.")
    _print_korean(f"토큰 발급(AU10001) {issues}회, 재시도 {repeats}회, 호출 {calls}건 중 {answered}건 성공.")
    if failed:
        print(f"kiwoom-auth: error: {failed} of {len(_STEPS)} steps did not go as promised", file=sys.stderr)
        return 1
    return 0


def _result_of(step: _Step, bench: _Bench, before: int) -> str:
    """Take the step and hold the journal from ``before`` on against its promise."""
    for package in step.needs:
        try:
            importlib.import_module(package)
        except ImportError:
            return f"skipped: {package} is not installed"
    try:
        seen = sum(answer.json()["return_code"] == 0 for answer in step.run(bench))
    except Exception as error:  # noqa: BLE001 - whatever went wrong is a row of the table
        return f"FAILED: {type(error).__name__}"
    count = _Count.of(bench.kiwoom.journal[before:])
    promised = _Count(step.calls, step.issues, step.repeats, step.calls)
    if count != promised or seen != step.calls:
        return (
            f"FAILED: expected {promised.calls} calls, {promised.issues} AU10001 and {promised.repeats} repeated, "
            f"found {count.calls}, {count.issues} and {count.repeats}; {seen} answered"
        )
    return "ok"


def _print_korean(text: str) -> None:
    with suppress(UnicodeEncodeError):  # better nothing than a line of question marks
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        print(text)
