"""One AU10001, however many ask: threads, event loops, auth objects, libraries."""

import asyncio
import contextlib
import gc
import threading
from contextlib import asynccontextmanager

import httpx
import httpx2
import pytest
import requests

from kiwoom_auth_plugin.testing import KiwoomEmulator

from .clients import BODY, CERTIFICATES, HEADERS, TR
from .crowd import PATIENCE, Crowd, watch_waiting


def ask_by_the_thousand(sync_call, async_call):
    """200 threads, 3 event loops of 500 tasks and 500 trio tasks."""
    crowd = Crowd()
    crowd.threads(200, sync_call)
    for _ in range(3):
        crowd.loop("asyncio", 500, async_call)
    crowd.loop("trio", 500, async_call)
    return crowd.go()


def test_2200_callers_at_once_cause_one_issue(auth, kiwoom_emulator, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)
    with kiwoom_emulator.hold() as gate:
        crowd = ask_by_the_thousand(auth.get_token, auth.aget_token)
        gate.wait_for(1)
        wait_for_waiting(2199)
        assert gate.parked == 1
    outcomes = crowd.outcomes()
    assert len(outcomes) == 2200
    assert set(outcomes) == {kiwoom_emulator.token}
    assert len(kiwoom_emulator.calls("au10001")) == 1


def test_2200_auth_objects_at_once_cause_one_issue(make_auth, kiwoom_emulator, monkeypatch):
    async def ask():
        return await make_auth().aget_token()

    wait_for_waiting = watch_waiting(monkeypatch)
    with kiwoom_emulator.hold() as gate:
        crowd = ask_by_the_thousand(lambda: make_auth().get_token(), ask)
        gate.wait_for(1)
        wait_for_waiting(2199)
        assert gate.parked == 1
    assert set(crowd.outcomes()) == {kiwoom_emulator.token}
    assert len(kiwoom_emulator.calls("au10001")) == 1


@pytest.mark.parametrize("shared", [True, False], ids=["one auth object", "an auth object each"])
def test_calls_of_requests_httpx_and_httpx2_at_once_cause_one_issue(make_auth, kiwoom_emulator, monkeypatch, shared):
    wait_for_waiting = watch_waiting(monkeypatch)
    url = kiwoom_emulator.url + TR
    the_one = make_auth()

    def auth():
        return the_one if shared else make_auth()

    def by_requests():
        return requests.post(url, data=BODY, headers=HEADERS, auth=auth(), timeout=PATIENCE).json()

    def by(client):
        return lambda: client.post(url, content=BODY, headers=HEADERS, auth=auth()).json()

    def opened(module):
        @asynccontextmanager
        async def open_client():
            async with module.AsyncClient(verify=CERTIFICATES, timeout=PATIENCE, limits=unlimited(module)) as client:

                async def post():
                    return (await client.post(url, content=BODY, headers=HEADERS, auth=auth())).json()

                yield post

        return open_client

    crowd = Crowd()
    with (
        httpx.Client(verify=CERTIFICATES, timeout=PATIENCE, limits=unlimited(httpx)) as client,
        httpx2.Client(verify=CERTIFICATES, timeout=PATIENCE, limits=unlimited(httpx2)) as client2,
        kiwoom_emulator.hold() as gate,
    ):
        for call in (by_requests, by(client), by(client2)):
            crowd.threads(20, call)
        for module in (httpx, httpx2):
            for backend in ("asyncio", "trio"):
                crowd.loop_with(backend, 30, opened(module))
        crowd.go()
        gate.wait_for(1)
        wait_for_waiting(179)
        assert gate.parked == 1
        gate.release()
        outcomes = crowd.outcomes()
    assert [outcome["return_code"] for outcome in outcomes] == [0] * 180
    assert len(kiwoom_emulator.calls("au10001")) == 1
    assert {call.token for call in kiwoom_emulator.calls("ka10001")} == {kiwoom_emulator.token}
    assert len(kiwoom_emulator.calls("ka10001")) == 180


def unlimited(module):
    return module.Limits(max_connections=None, max_keepalive_connections=None)


def test_auth_objects_that_live_for_one_call_share_the_token(make_auth, kiwoom_emulator):
    url = kiwoom_emulator.url + TR
    for _ in range(20):
        response = requests.post(url, data=BODY, headers=HEADERS, auth=make_auth(), timeout=PATIENCE)
        assert response.json()["return_code"] == 0
        gc.collect()
    assert kiwoom_emulator.issued == 1


def test_auth_objects_that_live_for_one_call_share_a_failure(make_auth, kiwoom_emulator, clock):
    kiwoom_emulator.add_account(kiwoom_emulator.appkey, "another-secretkey")
    cache = {}
    for _ in range(20):
        with pytest.raises(requests.RequestException, match="8001"):
            make_auth(clock=clock, cache=cache).get_token()
        gc.collect()
    assert len(kiwoom_emulator.calls("au10001")) == 1


def test_auth_objects_with_a_secretkey_callable_each_cause_one_issue(make_auth, kiwoom_emulator, monkeypatch):
    """A lambda made anew for each object is another callable, and the same appkey."""
    crowd = Crowd()
    with kiwoom_emulator.hold() as gate:
        for _ in range(2):
            crowd.threads(1, make_auth(secretkey=lambda: kiwoom_emulator.secretkey).get_token)
        crowd.go()
        gate.wait_for(1)
        with contextlib.suppress(TimeoutError):  # the second does not come
            gate.wait_for(2, timeout=1.0)
    assert set(crowd.outcomes()) == {kiwoom_emulator.token}
    assert len(kiwoom_emulator.calls("au10001")) == 1


def test_one_appkey_does_not_wait_for_another(make_auth, kiwoom_emulator):
    kiwoom_emulator.add_account("another-appkey", "another-secretkey")
    other = make_auth(appkey="another-appkey", secretkey="another-secretkey")
    crowd = Crowd()
    crowd.threads(1, make_auth().get_token)
    crowd.threads(1, other.get_token)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(2)
    assert sorted(crowd.outcomes()) == sorted(kiwoom_emulator.tokens)


def test_one_host_does_not_wait_for_another(make_auth, kiwoom_emulator):
    with KiwoomEmulator() as mock, kiwoom_emulator.hold() as gate:
        crowd = Crowd()
        crowd.threads(1, make_auth().get_token)
        crowd.go()
        gate.wait_for(1)
        assert make_auth(emulator=mock).get_token() == mock.token
        gate.release()
        assert crowd.outcomes() == [kiwoom_emulator.token]


class SlowCache(dict):
    """A mapping, remote perhaps, that does not answer ``operation`` until it is told to."""

    def __init__(self, operation):
        super().__init__()
        self._operation = operation
        self.asked, self.answer, self.gave_up = threading.Event(), threading.Event(), threading.Event()

    def get(self, key, default=None):
        self._delay("reading")
        return super().get(key, default)

    def __setitem__(self, key, value):
        self._delay("writing")
        super().__setitem__(key, value)

    def _delay(self, operation):
        if operation == self._operation:
            self.asked.set()
            if not self.answer.wait(5.0):
                self.gave_up.set()


@pytest.mark.parametrize("operation", ["reading", "writing"])
@pytest.mark.parametrize("others", ["the same appkey", "another appkey"])
def test_a_cache_that_hangs_does_not_stall_the_event_loop(make_auth, kiwoom_emulator, operation, others):
    kiwoom_emulator.add_account("another-appkey", "another-secretkey")
    cache = SlowCache(operation)
    auth = make_auth(cache=cache)
    keys = {"appkey": "another-appkey", "secretkey": "another-secretkey"}
    other = auth if others == "the same appkey" else make_auth(**keys)

    async def main():
        first = asyncio.create_task(auth.aget_token())
        await asyncio.to_thread(cache.asked.wait, PATIENCE)
        second = asyncio.create_task(other.aget_token())
        await asyncio.sleep(0)  # the second asks: a stalled loop does not come back before the cache does
        stalled = cache.gave_up.is_set()
        cache.answer.set()
        assert {await first, await second} == set(kiwoom_emulator.tokens)
        return stalled

    assert not asyncio.run(main()), "the event loop stood still for as long as the cache did"


@pytest.mark.parametrize("operation", ["reading", "writing"])
def test_a_cache_that_hangs_keeps_no_other_waiting(make_auth, kiwoom_emulator, operation):
    kiwoom_emulator.add_account("another-appkey", "another-secretkey")
    cache = SlowCache(operation)
    other = make_auth(appkey="another-appkey", secretkey="another-secretkey")
    crowd, others = Crowd(), Crowd()
    crowd.threads(1, make_auth(cache=cache).get_token)
    others.threads(1, other.get_token)
    crowd.go()
    assert cache.asked.wait(PATIENCE)
    others.go()
    (outcome,) = others.outcomes()
    assert not cache.gave_up.is_set(), "it had to wait for a cache that is not its own"
    cache.answer.set()
    assert crowd.outcomes() == [kiwoom_emulator.token]
    assert outcome in kiwoom_emulator.tokens


def test_a_cache_that_takes_its_time_to_write_keeps_nobody_waiting(make_auth, kiwoom_emulator, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)
    cache = SlowCache("writing")
    auth = make_auth(cache=cache)
    first, others = Crowd(), Crowd()
    first.threads(1, auth.get_token)
    others.threads(3, auth.get_token)
    with kiwoom_emulator.hold() as gate:
        first.go()
        gate.wait_for(1)
        others.go()
        wait_for_waiting(3)
    assert cache.asked.wait(PATIENCE)
    assert others.outcomes() == [kiwoom_emulator.token] * 3
    assert not cache.gave_up.is_set(), "they had to wait for the cache"
    cache.answer.set()
    assert first.outcomes() == [kiwoom_emulator.token]
