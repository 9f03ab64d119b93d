"""Callers leave, at any point and in any way: nobody else is blocked, and nothing is left behind."""

import asyncio
import gc
import subprocess
import sys
import threading

import anyio
import httpx
import httpx2
import pytest
import requests
import trio
import trio.testing

from kiwoom_auth_plugin.stores import FileStore

from .clients import BODY, CERTIFICATES, HEADERS, TR, in_time
from .crowd import PATIENCE, Crowd, land, run_python, tasks_waiting, watch_waiting
from .shelf import needs_stores

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def nothing_is_left(caplog):
    """No thread, and no complaint of an event loop about a task or future that nobody cared for."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("Trio thread"):
            continue  # trio keeps its own for a while
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} is left"
    assert not [record for record in caplog.get_records("call") if record.name == "asyncio"]


def the_source_is_idle(auth):
    land()
    return auth._source._flight is None


def request_to(auth, module=httpx):
    return module.Request("POST", auth._host + TR, headers=HEADERS, content=BODY)


# A task is cancelled


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_task_that_leaves_while_it_waits_harms_nobody(auth, kiwoom_emulator, monkeypatch, how):
    wait_for_waiting = watch_waiting(monkeypatch)
    tokens = []

    async def stay():
        tokens.append(await auth.aget_token())

    async with anyio.create_task_group() as tasks:
        with kiwoom_emulator.hold() as gate:
            with anyio.CancelScope() as scope:
                # The one that leaves is the one whose call started the exchange.
                async with anyio.create_task_group() as leaving:
                    leaving.start_soon(auth.aget_token)
                    await anyio.to_thread.run_sync(wait_for_waiting, 1)
                    for _ in range(10):
                        tasks.start_soon(stay)
                        leaving.start_soon(auth.aget_token)
                    await anyio.to_thread.run_sync(wait_for_waiting, 20)
                    if how == "cancelled":
                        scope.cancel()
                    else:
                        scope.deadline = anyio.current_time()
            assert scope.cancelled_caught
            assert tasks_waiting(auth._source._flight.event) == 10
            gate.wait_for(1)
            assert gate.parked == 1
    assert tokens == [kiwoom_emulator.token] * 10
    assert len(kiwoom_emulator.calls("au10001")) == 1


@pytest.mark.anyio
async def test_a_flow_that_is_closed_while_its_call_is_on_its_way_holds_nothing(auth, kiwoom_emulator):
    flow = auth.async_auth_flow(request_to(auth))
    await anext(flow)
    await flow.aclose()
    refused = auth.async_auth_flow(request_to(auth))
    await anext(refused)
    kiwoom_emulator.expire_tokens()
    await refused.asend(httpx.Response(401))
    await refused.aclose()
    assert await auth.aget_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 2


def test_a_flow_thrown_away_at_its_first_await_leaves_nothing(auth, kiwoom_emulator, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)

    async def main():
        flow = auth.async_auth_flow(request_to(auth))
        step = asyncio.ensure_future(anext(flow))
        await asyncio.to_thread(wait_for_waiting, 1)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        flight = auth._source._flight
        assert not tasks_waiting(flight.event)
        with pytest.raises(StopAsyncIteration):
            await anext(flow)

    with kiwoom_emulator.hold():
        asyncio.run(main())
    assert the_source_is_idle(auth)
    assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


@pytest.mark.parametrize("error", [RuntimeError, GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_a_sync_flow_that_is_killed_at_any_yield_holds_nothing(auth, kiwoom_emulator, error):
    for yields in (1, 2):
        flow = auth.sync_auth_flow(request_to(auth))
        next(flow)
        kiwoom_emulator.expire_tokens()
        if yields == 2:
            flow.send(httpx.Response(401))
        with pytest.raises(error):
            flow.throw(error)
        assert in_time(auth.get_token)
        assert the_source_is_idle(auth)


# At every await point


class Leaving:
    """Awaits something, and has its task cancelled when it suspends for the n-th time."""

    def __init__(self, point, awaitable):
        self._point = point
        self._awaitable = awaitable

    def __await__(self):
        steps = self._awaitable.__await__()
        error = None
        while True:
            try:
                awaited = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            self._point -= 1
            if self._point == 0:
                asyncio.current_task().cancel()
            error = None
            try:
                yield awaited
            except BaseException as thrown:  # noqa: BLE001 - goes on to what is awaited
                error = thrown


def is_cancelled_at(point, call):
    """Whether the call suspends n times at least."""

    async def main():
        await Leaving(point, call())

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("start", ["without a token", "with a dead token"])
def test_a_call_that_is_cancelled_at_any_of_its_awaits_harms_nobody(make_auth, kiwoom_emulator, start, module):
    """Cancelled where it suspends first, then a new one where it suspends for the second time, and so on."""
    points = 0
    cancelled = True
    while cancelled:
        points += 1
        auth = make_auth(cache={})
        if start == "with a dead token":
            auth.get_token()
        kiwoom_emulator.expire_tokens()

        async def call(auth=auth):
            async with module.AsyncClient(verify=CERTIFICATES, timeout=PATIENCE) as client:
                answer = await client.post(auth._host + TR, headers=HEADERS, content=BODY, auth=auth)
                assert answer.json()["return_code"] == 0

        cancelled = is_cancelled_at(points, call)
        assert the_source_is_idle(auth)
        answer = requests.post(auth._host + TR, headers=HEADERS, data=BODY, auth=auth, timeout=PATIENCE)
        assert answer.json()["return_code"] == 0
        gc.collect()
    assert points > 4


# A loop ends


def test_a_loop_that_is_closed_while_its_tasks_wait_is_skipped(auth, kiwoom_emulator, monkeypatch, caplog):
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.threads(5, auth.get_token)
    crowd.loop("asyncio", 5, auth.aget_token)
    crowd.loop("trio", 5, auth.aget_token)
    with kiwoom_emulator.hold() as gate:
        loop = asyncio.new_event_loop()
        task = loop.create_task(auth.aget_token())
        loop.call_soon(loop.stop)
        loop.run_forever()
        wait_for_waiting(1)
        crowd.go()
        wait_for_waiting(15)
        task._log_destroy_pending = False  # asyncio's own complaint about such a loop
        loop.close()
        gate.wait_for(1)
    assert crowd.outcomes() == [kiwoom_emulator.token] * 15
    assert kiwoom_emulator.issued == 1
    del task
    gc.collect()


def test_a_trio_run_that_ends_while_its_task_waits_is_skipped(auth, kiwoom_emulator, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)

    async def crash():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(auth.aget_token)
            await trio.testing.wait_all_tasks_blocked()
            raise ZeroDivisionError

    crowd = Crowd()
    crowd.threads(5, auth.get_token)
    with kiwoom_emulator.hold():
        with pytest.raises(ExceptionGroup):
            trio.run(crash)
        crowd.go()
        wait_for_waiting(6)
    assert crowd.outcomes() == [kiwoom_emulator.token] * 5
    assert kiwoom_emulator.issued == 1


# A sync call on an event loop's own thread


@pytest.mark.anyio
async def test_a_sync_call_on_the_loops_own_thread_gets_through(auth, kiwoom_emulator, monkeypatch):
    """While an async issue of the same loop is under way, and nothing else can run on it."""
    wait_for_waiting = watch_waiting(monkeypatch)

    def release():
        wait_for_waiting(2)
        gate.release()

    async with anyio.create_task_group() as tasks:
        with kiwoom_emulator.hold() as gate:
            tasks.start_soon(auth.aget_token)
            await anyio.wait_all_tasks_blocked()
            gate.wait_for(1)
            threading.Thread(target=release).start()
            assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


# The program ends

ENDS = """
import asyncio, sys, threading
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.stores import FileStore

def tell():
    threading.main_thread().join()
    print("ended", flush=True)

async def main():
    task = asyncio.ensure_future(auth.aget_token())
    await asyncio.sleep(0)
    task.cancel()

url, appkey, secretkey, directory = sys.argv[1:]
auth = KiwoomBearerAuth(appkey, secretkey, host=url, store=FileStore(directory))
threading.Thread(target=tell).start()
asyncio.run(main())
"""


def test_a_token_that_comes_after_the_program_has_ended_is_in_the_store(make_auth, kiwoom_emulator, tmp_path):
    """Python 3.12 starts no thread any more then."""
    pytest.importorskip("filelock", reason="the libraries of the store are not installed")
    arguments = kiwoom_emulator.url, kiwoom_emulator.appkey, kiwoom_emulator.secretkey, str(tmp_path / "tokens")
    with (
        kiwoom_emulator.hold() as gate,
        subprocess.Popen([sys.executable, "-c", ENDS, *arguments], stdout=subprocess.PIPE, text=True) as program,
    ):
        assert program.stdout.readline() == "ended\n"
        gate.wait_for(1)
        gate.release()
        assert program.wait(PATIENCE) == 0
    assert make_auth(cache={}, store=FileStore(tmp_path / "tokens")).get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


LAST_JOB = """
import sys, time
from concurrent.futures import ThreadPoolExecutor, thread
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.stores import FileStore

def job():
    while not thread._shutdown:  # until the program waits for this job only
        time.sleep(0.001)
    token = auth.get_token()
    print(token)
    auth.invalidate(token)

url, appkey, secretkey, folder = sys.argv[1:]
auth = KiwoomBearerAuth(appkey, secretkey, host=url, store=FileStore(folder))
ThreadPoolExecutor(1).submit(job)
"""


@needs_stores
def test_the_last_job_of_a_pool_finds_the_token_in_the_store_and_drops_it(make_auth, kiwoom_emulator, tmp_path):
    """Python 3.12 starts no thread any more, though the main one has not ended."""
    folder = tmp_path / "tokens"
    token = make_auth(store=FileStore(folder)).get_token()
    done = run_python(LAST_JOB, kiwoom_emulator.url, kiwoom_emulator.appkey, kiwoom_emulator.secretkey, str(folder))
    assert (done.stdout, done.stderr) == (token + "\n", "")
    assert kiwoom_emulator.issued == 1
    make_auth(store=FileStore(folder), cache={}).get_token()
    assert kiwoom_emulator.issued == 2  # what was invalidated is gone


INVALIDATES_LAST = """
import atexit, sys
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.stores import FileStore

url, appkey, secretkey, folder = sys.argv[1:]
auth = KiwoomBearerAuth(appkey, secretkey, host=url, store=FileStore(folder))
token = auth.get_token()
atexit.register(lambda: auth.invalidate(token))
"""


@needs_stores
def test_a_token_that_is_invalidated_as_the_program_ends_is_not_in_the_store(make_auth, kiwoom_emulator, tmp_path):
    folder = tmp_path / "tokens"
    arguments = kiwoom_emulator.url, kiwoom_emulator.appkey, kiwoom_emulator.secretkey, str(folder)
    done = run_python(INVALIDATES_LAST, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert kiwoom_emulator.issued == 1
    auth = make_auth(cache={}, store=FileStore(folder))
    assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 2
