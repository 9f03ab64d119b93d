"""One token for all processes: an auth object with a cache of its own stands for each process here.

What needs real processes is in test_processes.py.
"""

import asyncio
import copy
import errno
import gc
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import anyio
import httpx
import pytest
import requests

from kiwoom_auth_plugin import CredentialsRejected, KiwoomAuthError, _backlog, _place, _shared
from kiwoom_auth_plugin._backlog import MOST_WORKERS, Backlog
from kiwoom_auth_plugin._clock import SYSTEM
from kiwoom_auth_plugin._keys import Masked
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._place import place_of
from kiwoom_auth_plugin._seal import Seal
from kiwoom_auth_plugin._token import AccessToken
from kiwoom_auth_plugin.stores import FileStore, RedisStore, TokenStore
from kiwoom_auth_plugin.testing import KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, every_client, in_time
from .conftest import ManualClock
from .crowd import PATIENCE, Crowd, land, run_python
from .redis_server import RedisServer, needs_redis
from .shelf import Shelf

DAY = 86_400.0


@pytest.fixture
def replacing():
    """A Kiwoom that kills the old token with each AU10001: a needless one shows."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


@pytest.fixture(params=["own", "file", pytest.param("redis", marks=needs_redis)])
def store(request, tmp_path):
    """A store of each kind, empty; a busy machine is no reason to go on without it."""
    if request.param == "own":
        yield Shelf()
    elif request.param == "file":
        yield FileStore(tmp_path / "tokens", max_delay=30.0)
    else:
        with RedisServer() as server, server.client() as client:
            yield RedisStore(client, max_delay=30.0)
            land()  # those who have given up waiting for the lock leave when they get it


@pytest.fixture
def process(make_auth, replacing, store, clock):
    """Auth objects that have nothing in common but the store, the clock and the server."""

    def start(**options):
        options.setdefault("cache", {})
        options.setdefault("store", store)
        options.setdefault("emulator", replacing)
        options.setdefault("clock", clock)
        return make_auth(**options)

    return start


def attempts(kiwoom):
    return len(kiwoom.calls("au10001"))


def call(auth):
    answer = requests.post(auth._host + TR, data=BODY, headers=HEADERS, auth=auth, timeout=PATIENCE)
    return answer.json()["return_code"]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# One token


def test_the_second_process_starts_with_the_token_of_the_first(process, replacing):
    assert process().get_token() == process().get_token() == replacing.token
    assert attempts(replacing) == 1


@every_client
def test_calls_of_every_client_start_with_the_token_of_another_process(process, replacing, open_client):
    process().get_token()
    with open_client(process()) as client:
        assert client.post(replacing.url + TR).json()["return_code"] == 0
    assert attempts(replacing) == 1


@pytest.mark.anyio
async def test_asynchronous_processes_share_too(process, replacing):
    assert await process().aget_token() == await process().aget_token() == replacing.token
    assert attempts(replacing) == 1


def test_its_deadline_is_the_same_everywhere(process, clock):
    first, second = process(), process()
    first.get_token()
    clock.advance(3600)
    second.get_token()
    assert abs((second.expires_at - first.expires_at).total_seconds()) < 0.001


def test_a_token_past_its_deadline_is_replaced_for_all(process, replacing, clock):
    first = process().get_token()
    for time in (clock, replacing.clock):
        time.advance(DAY + 1)
    second = process().get_token()
    assert process().get_token() == second != first
    assert attempts(replacing) == 2


def test_many_at_once_cause_one_issue(process, replacing):
    crowd = Crowd()
    crowd.threads(20, lambda: process().get_token())
    crowd.loop("asyncio", 20, lambda: process().aget_token())
    assert set(crowd.go().outcomes()) == {replacing.token}
    assert attempts(replacing) == 1


def test_while_one_process_issues_another_waits_for_what_it_brings(process, replacing):
    crowd = Crowd()
    crowd.threads(2, lambda: process().get_token())
    with replacing.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        with pytest.raises(TimeoutError):  # the other does not come
            gate.wait_for(2, timeout=0.5)
    assert set(crowd.outcomes()) == {replacing.token}
    assert attempts(replacing) == 1


def test_a_failure_stays_with_the_process_that_met_it(process, replacing):
    """What fails here may work there: another network, another set of certificates."""
    replacing.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    with pytest.raises(CredentialsRejected):
        process().get_token()
    assert process().get_token() == replacing.token


# Whose


def test_a_rotated_secretkey_starts_afresh(process, replacing):
    process().get_token()
    replacing.add_account(replacing.appkey, "another-secretkey")
    assert process(secretkey="another-secretkey").get_token() == replacing.token
    assert attempts(replacing) == 2


def test_appkeys_and_hosts_have_a_token_each(process, replacing):
    replacing.add_account("another-appkey", replacing.secretkey)
    with KiwoomEmulator(appkey=replacing.appkey, secretkey=replacing.secretkey) as mock:
        tokens = {
            process().get_token(),
            process(appkey="another-appkey").get_token(),
            process(emulator=mock).get_token(),
        }
    assert len(tokens) == 3


def key_of(auth, clock):
    return Seal(auth._appkey, auth._host, Masked(auth._secretkey.source), clock).key


def test_a_token_copied_under_another_hosts_name_does_not_open(process, replacing, store, clock):
    with KiwoomEmulator(appkey=replacing.appkey, secretkey=replacing.secretkey) as mock:
        real, mocked = process(), process(emulator=mock)
        real.get_token()
        store.save(key_of(mocked, clock), store.load(key_of(real, clock)), 60.0)
        assert mocked.get_token() == mock.token
        assert call(mocked) == 0


@pytest.mark.parametrize("value", [b"garbage", b"", b"kiwoom1.", b"kiwoom1.AAAA", b"kiwoom0.old", b"x" * 20_000])
def test_garbage_is_ignored_and_replaced(process, replacing, store, clock, value, caplog):
    auth = process()
    store.save(key_of(auth, clock), value, 60.0)
    assert auth.get_token() == process().get_token() == replacing.token
    assert attempts(replacing) == 1
    assert warnings(caplog) == []


# Refusals


def test_on_a_refusal_the_store_is_asked_first(process, replacing):
    first, second = process(), process()
    first.get_token()
    second.get_token()
    replacing.expire_tokens()
    assert call(first) == 0
    assert attempts(replacing) == 2
    assert call(second) == 0
    assert attempts(replacing) == 2
    assert first.get_token() == second.get_token() == replacing.token


@pytest.mark.anyio
async def test_on_a_refusal_in_a_task_the_store_is_asked_first(process, replacing):
    first, second = process(), process()
    await first.aget_token()
    await second.aget_token()
    replacing.expire_tokens()
    async with httpx.AsyncClient() as client:
        for auth in (first, second):
            answer = await client.post(replacing.url + TR, content=BODY, headers=HEADERS, auth=auth)
            assert answer.json()["return_code"] == 0
    assert attempts(replacing) == 2


def test_if_the_stored_token_is_refused_too_that_call_shows_it_and_the_next_one_issues(process, replacing):
    first, second = process(), process()
    first.get_token()
    second.get_token()
    replacing.expire_tokens()
    assert call(first) == 0
    replacing.expire_tokens()
    assert call(second) == 3
    assert attempts(replacing) == 2
    assert call(second) == 0
    assert attempts(replacing) == 3
    assert call(first) == 0
    assert attempts(replacing) == 3


def test_an_earlier_token_is_no_replacement(process, replacing, store, clock):
    """Somebody has put back the file of yesterday."""
    first = process()
    first.get_token()
    yesterday = store.load(key_of(first, clock))
    replacing.expire_tokens()
    for time in (clock, replacing.clock):
        time.advance(60)
    assert call(first) == 0
    replacing.expire_tokens()
    store.save(key_of(first, clock), yesterday, 60.0)
    assert call(first) == 0
    assert attempts(replacing) == 3


def test_processes_whose_token_the_server_hands_back_do_not_all_ask_for_it(make_auth, store, clock, caplog):
    """What one of them has been told within the last 30 seconds is known to the others."""
    with KiwoomEmulator(reissue="same") as same:
        auths = [make_auth(emulator=same, store=store, clock=clock, cache={}) for _ in range(5)]
        for auth in auths:
            auth.get_token()
        for time in (clock, same.clock):
            time.advance(60)
        same.refuse_next(100)
        assert [call(auth) for auth in auths] == [3] * 5
        assert [call(auth) for auth in auths] == [3] * 5
        assert attempts(same) == 2
    assert len([warning for warning in warnings(caplog) if "handed back" in warning]) == 5


def test_a_same_token_that_was_handed_back_long_ago_is_asked_for_again(make_auth, store, clock):
    with KiwoomEmulator(reissue="same") as same:
        first, second = (make_auth(emulator=same, store=store, clock=clock, cache={}) for _ in range(2))
        for auth in (first, second):
            auth.get_token()
        for time in (clock, same.clock):
            time.advance(60)
        same.refuse_next(1)
        assert call(first) == 3
        for time in (clock, same.clock):
            time.advance(31)
        same.refuse_next(1)
        assert call(second) == 3
        assert attempts(same) == 3


def test_a_same_token_at_its_deadline_is_asked_for_again_though_it_was_handed_back_just_now(make_auth, store, clock):
    """Dates are whole seconds: what a process has for another second may be dead for the server."""
    with KiwoomEmulator(reissue="same") as same:
        options = {"emulator": same, "store": store, "clock": clock, "refresh_margin": 0.0}
        first, second = (make_auth(cache={}, **options) for _ in range(2))
        for auth in (first, second):
            auth.get_token()
        for time in (clock, same.clock):
            time.advance(DAY - 1.9)
        first.invalidate(first.get_token())
        first.get_token()
        land()
        same.clock.advance(2)
        assert call(second) == 0
        assert attempts(same) == 3


# Refresh


@pytest.fixture
def no_jitter(monkeypatch):
    from kiwoom_auth_plugin import _refresh

    monkeypatch.setattr(_refresh.chance, "uniform", lambda _low, high: high)


def test_one_process_refreshes_for_all(process, replacing, clock, no_jitter):
    auths = [process() for _ in range(5)]
    for auth in auths:
        auth.get_token()
    for time in (clock, replacing.clock):
        time.advance(DAY - 299)
    for auth in auths:
        auth.get_token()
        land()
    assert attempts(replacing) == 2
    assert {auth.get_token() for auth in auths} == {replacing.token}


def test_a_refresh_that_brings_the_same_token_is_left_alone_by_all(make_auth, store, clock, no_jitter):
    with KiwoomEmulator(reissue="same") as same:
        auths = [make_auth(emulator=same, store=store, clock=clock, cache={}) for _ in range(5)]
        for auth in auths:
            auth.get_token()
        for time in (clock, same.clock):
            time.advance(DAY - 299)
        for _ in range(3):
            for auth in auths:
                auth.get_token()
                land()
            for time in (clock, same.clock):
                time.advance(60)
        assert attempts(same) == 2


# invalidate and revoke


def test_an_invalidated_token_is_not_what_the_next_process_starts_with(process, replacing):
    first = process()
    token = first.get_token()
    first.invalidate(token)
    land()
    assert process().get_token() == replacing.token != token
    assert attempts(replacing) == 2


def test_an_invalidation_leaves_a_newer_token_in_the_store(process, replacing):
    first, second = process(), process()
    old = first.get_token()
    replacing.expire_tokens()
    second.invalidate(second.get_token())
    land()
    new = second.get_token()
    first.invalidate(old)
    land()
    assert process().get_token() == new == replacing.token
    assert attempts(replacing) == 2


def test_an_invalidation_never_waits_for_the_store(make_auth, replacing, clock):
    shelf = Shelf()
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    token = auth.get_token()
    shelf.hang("load", "lock")
    auth.invalidate(token)
    assert not shelf.go_on.is_set()
    shelf.go_on.set()
    land()


def test_many_invalidations_take_one_thread_and_do_the_same_once(make_auth, replacing, clock):
    shelf = Shelf()
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    token = auth.get_token()
    shelf.hang("load")
    shelf.asked.clear()
    before = threading.active_count()
    auth.invalidate(token)
    assert shelf.hangs.wait(PATIENCE)
    for _ in range(300):
        auth.invalidate(token)
    assert threading.active_count() <= before + 3  # it, the lock's, the one that hangs
    shelf.go_on.set()
    land()
    assert shelf.asked.count("delete") == 1 == shelf.asked.count("lock") - 1


def test_one_that_comes_late_leaves_the_same_token_issued_again(make_auth, clock):
    """A server that hands back the same token has since found it good."""
    shelf = Shelf()
    with KiwoomEmulator(reissue="same") as same:
        auth = make_auth(emulator=same, clock=clock, cache={}, store=shelf)
        token = auth.get_token()
        shelf.hang("lock")
        auth.invalidate(token)
        assert shelf.hangs.wait(PATIENCE)
        shelf.hanging = set()
        same.clock.advance(2)
        clock.advance(2)
        another = make_auth(emulator=same, clock=clock, cache={}, store=Shelf())
        assert another.get_token() == token
        shelf.values.update(another._store.values)
        shelf.go_on.set()
        land()
        assert shelf.values


def test_a_second_invalidation_leaves_the_same_token_issued_again_too(make_auth, clock):
    """Two sockets have been refused the same token; the second is late, and finds it gone."""
    shelf = Shelf()
    with KiwoomEmulator(reissue="same") as same:
        auth = make_auth(emulator=same, clock=clock, cache={}, store=shelf)
        token = auth.get_token()
        shelf.hang("lock")
        auth.invalidate(token)
        assert shelf.hangs.wait(PATIENCE)
        auth.invalidate(token)
        shelf.hanging = set()
        for time in (same.clock, clock):
            time.advance(2)
        another = make_auth(emulator=same, clock=clock, cache={}, store=Shelf())
        assert another.get_token() == token
        shelf.values.update(another._store.values)
        shelf.go_on.set()
        land()
        assert shelf.values


def test_of_two_invalidations_at_once_the_later_counts(make_auth, clock):
    shelf = Shelf()
    with KiwoomEmulator(reissue="same") as same:
        auth = make_auth(emulator=same, clock=clock, cache={}, store=shelf)
        auth.get_token()
        exchange, seal = auth._by_requests, auth._by_requests._seal(auth._secretkey.reveal(auth._host))
        token = exchange.stored()
        for dates in ([token.dated - 1, token.dated], [token.dated, token.dated - 1]):
            shelf.values[seal.key] = seal.close(token)
            exchange._store.visit(seal).forget([(token.value, dated) for dated in dates])
            assert not shelf.values
        shelf.values[seal.key] = seal.close(token)
        exchange._store.visit(seal).forget([(token.value, token.dated - 1)])
        assert shelf.values


def test_who_has_waited_for_its_turn_waits_so_much_less_for_the_lock(make_auth, replacing, clock, shelf):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, timeout=600.0)
    exchange = auth._by_requests
    seal = exchange._seal(auth._secretkey.reveal(auth._host))
    lease = exchange._store.lease(600.0)
    shelf.hang("load")
    with shelf.lock(seal.key, 0.0):
        visit = exchange._store.visit(seal, spent=exchange._store.longest(600.0))
        with visit.lock(lease, lambda: None) as token:  # a lock that others hold would be waited for two leases
            assert token is None


def test_an_invalidation_that_hangs_keeps_no_other_waiting(make_auth, replacing, clock):
    shelf = Shelf()
    hangs, go_on = threading.Event(), threading.Event()

    def vault():
        if threading.current_thread().name == "kiwoom-auth-forget":
            hangs.set()
            go_on.wait(PATIENCE)
        return replacing.secretkey

    replacing.add_account("another-appkey", "another-secretkey")
    first = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, secretkey=vault)
    second = make_auth(
        emulator=replacing, clock=clock, cache={}, store=shelf, appkey="another-appkey", secretkey="another-secretkey"
    )
    tokens = [auth.get_token() for auth in (first, second)]
    first.invalidate(tokens[0])
    assert hangs.wait(PATIENCE)
    done = threading.Event()
    delete = shelf.delete
    shelf.delete = lambda key: (delete(key), done.set())
    second.invalidate(tokens[1])
    assert done.wait(PATIENCE)
    assert len(shelf.values) == 1
    go_on.set()
    land()


def test_what_a_store_raises_in_the_background_stops_nothing_else():
    backlog, done = Backlog("kiwoom-auth-forget"), []

    def leave(_items):
        raise SystemExit

    for number in range(10):
        backlog.add(number, leave, "item")
    backlog.add("last", done.extend, "item")
    land()
    assert done == ["item"]


def test_an_interrupt_as_the_thread_starts_costs_the_next_invalidation_nothing(monkeypatch):
    backlog, done = Backlog("kiwoom-auth-forget"), []

    def interrupt(_thread):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        for number in range(2 * MOST_WORKERS):
            with pytest.raises(KeyboardInterrupt):
                backlog.add(number, done.extend, "item")
    backlog.add("last", done.extend, "another")
    land()
    assert len(done) == 2 * MOST_WORKERS + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_waits_at_a_fork_is_the_parents_to_do():
    """In a program of its own: a fork of this one would have its threads' locks."""
    done = run_python(
        """
import os, threading
from kiwoom_auth_plugin._backlog import Backlog
backlog, hangs, go_on = Backlog("kiwoom-auth-forget"), threading.Semaphore(0), threading.Event()
def do(items):
    hangs.release()
    go_on.wait(60)
for number in range(6):
    backlog.add(number, do, "item")
for _ in range(4):
    hangs.acquire()
child = os.fork()
if child == 0:
    seen = []
    backlog.add("mine", seen.extend, "item")
    for thread in threading.enumerate():
        if thread.name == "kiwoom-auth-forget":
            thread.join(60)
    os._exit(0 if seen == ["item"] and not backlog._todo else 1)
status = os.waitpid(child, 0)[1]
go_on.set()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    )
    assert done.returncode == 0, done.stderr


def test_the_child_of_a_fork_has_workers_of_its_own(monkeypatch):
    """As above, in this process: coverage sees no child that leaves by os._exit."""
    backlog, hangs, go_on, done = Backlog("kiwoom-auth-forget"), threading.Event(), threading.Event(), []
    backlog.add("of the parent", lambda _items: hangs.set() or go_on.wait(PATIENCE), "item")
    assert hangs.wait(PATIENCE)
    backlog.add("of the parent", done.extend, "another")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    backlog.add("of the child", done.extend, "item")
    monkeypatch.undo()
    go_on.set()
    land()
    assert "item" in done


def test_invalidations_for_which_there_was_no_thread_are_made_up_for(make_auth, replacing, clock, monkeypatch):
    shelf = Shelf()
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    token = auth.get_token()

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        auth.invalidate(token)
    assert shelf.values
    auth.invalidate("another")
    land()
    assert not shelf.values


def test_a_store_is_told_for_how_long_a_token_lives(make_auth, replacing, clock):
    class Timed(Shelf):
        def save(self, key, value, ttl):
            self.ttl = ttl
            super().save(key, value, ttl)

    timed = Timed()
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=timed)
    auth.get_token()
    assert timed.ttl == auth._source.token.deadline - clock.now() <= 24 * 3600


def test_what_another_process_has_left_is_taken_out_though_one_was_refused_before(make_auth, replacing, clock):
    shelf = Shelf()
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    auth.invalidate(auth.get_token())
    land()
    for one in (clock, replacing.clock):
        one.advance(60)
    auth.invalidate(make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token())
    land()
    assert shelf.values == {}


def test_an_invalidation_for_which_no_thread_is_to_be_had_works_all_the_same(process, replacing, monkeypatch):
    auth = process()
    token = auth.get_token()

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        auth.invalidate(token)
    assert auth.get_token() == replacing.token != token


def test_an_invalidation_while_the_vault_fails_is_no_error(make_auth, replacing, clock):
    def vault():
        if broken:
            raise OSError("the vault is shut")
        return replacing.secretkey

    broken = []
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=Shelf(), secretkey=vault)
    token = auth.get_token()
    broken.append(True)
    auth.invalidate(token)
    land()


INTERRUPTED_LAST = """
import atexit, signal, sys
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.stores import FileStore

class TimeIsUp(Exception):
    pass

def raising(number, frame):
    raise TimeIsUp

def vault():
    if ends:
        signal.raise_signal(signal.SIGTERM)
    return secretkey

def at_exit():
    ends.append(True)
    try:
        auth.invalidate(token)
    except TimeIsUp:
        print("time is up")

ends = []
url, appkey, secretkey, folder = sys.argv[1:]
signal.signal(signal.SIGTERM, raising)
auth = KiwoomBearerAuth(appkey, vault, host=url, store=FileStore(folder))
token = auth.get_token()
atexit.register(at_exit)
"""


def test_a_time_limit_reaches_what_is_done_as_the_program_ends(replacing, tmp_path):
    done = run_python(INTERRUPTED_LAST, replacing.url, replacing.appkey, replacing.secretkey, str(tmp_path / "tokens"))
    assert (done.stdout, done.stderr) == ("time is up\n", "")


def test_what_a_daemon_thread_has_to_be_done_is_done_before_the_program_ends():
    backlog, kinds, done = _backlog.Backlog("kiwoom-auth-forget"), [], threading.Event()

    def do(_items):
        kinds.append(threading.current_thread().daemon)
        done.set()

    daemon = threading.Thread(target=backlog.add, args=("key", do, 1), daemon=True)
    daemon.start()
    assert done.wait(PATIENCE)
    daemon.join()
    assert kinds == [False]


@pytest.mark.parametrize("ask", ["revoke", "arevoke"])
def test_a_revoked_token_is_not_what_the_next_process_starts_with(process, replacing, ask):
    first = process()
    first.get_token()
    first.revoke() if ask == "revoke" else asyncio.run(first.arevoke())
    assert replacing.token is None
    assert process().get_token() == replacing.token
    assert attempts(replacing) == 2


def test_a_process_without_a_token_revokes_the_one_in_the_store(process, replacing):
    process().get_token()
    process().revoke()
    assert replacing.token is None
    assert len(replacing.calls("au10002")) == 1


@pytest.mark.parametrize("operation", ["lock", "save", "delete"])
def test_what_else_a_store_fails_to_do_keeps_no_token_from_being_revoked(make_auth, replacing, clock, shelf, operation):
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    shelf.fail(OSError("a disk error"), operation)
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).revoke()
    assert replacing.token is None


def test_a_store_that_cannot_be_read_delays_nothing_beyond_its_bound_though_its_lock_never_comes(
    make_auth, replacing, clock, shelf
):
    seconds_share(shelf, 0.4).hang("lock")
    shelf.failing = {"load": OSError("a disk error")}
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, timeout=PATIENCE)
    try:
        assert in_time(auth.get_token) == replacing.token
    finally:
        shelf.go_on.set()


def test_a_store_that_is_back_by_the_time_that_a_token_is_there_gets_it(make_auth, replacing, clock, shelf):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    shelf.fail(ConnectionError("nobody there"))
    auth.get_token()
    shelf.failing = {}
    exchange, asked = auth._by_requests, len(shelf.asked)

    def issue():
        assert len(shelf.asked) == asked
        clock.advance(60)
        return auth._source.token

    visit = exchange._store.visit(exchange._seal(exchange._secretkey.reveal(auth.host)))
    visit.obtain(lambda _token: True, issue, 30.0)
    assert len(shelf.values) == 1


def test_an_older_token_that_comes_meanwhile_makes_way_for_the_new_one(make_auth, replacing, clock, shelf):
    exchange = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)._by_requests
    seal = exchange._seal("the secretkey")
    older, newer = (
        AccessToken(value, clock.now(), clock.now() + DAY, b"", clock.wall() + later)
        for value, later in (("older", 0.0), ("newer", 60.0))
    )

    def issue():
        shelf.values[seal.key] = seal.close(older)
        return newer

    assert exchange._store.visit(seal).obtain(lambda _token: True, issue, 30.0) is newer
    assert seal.open(shelf.values[seal.key]).value == "newer"


def test_a_lease_outlasts_the_exchange_and_what_the_store_may_take_by_a_second(make_auth, shelf):
    assert make_auth(store=shelf)._by_requests._store.lease(10.0) == 13.0


@pytest.mark.parametrize("operation", ["lock", "load"])
def test_a_store_that_fails_to_do_one_thing_takes_a_new_token_all_the_same(
    make_auth, replacing, clock, shelf, operation, caplog
):
    shelf.fail(OSError("a disk error"), operation)
    token = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    shelf.failing.clear()
    clock.advance(60)
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == token
    assert len(warnings(caplog)) == 1


class Flapping(Shelf):
    """Loses every other read."""

    def load(self, key):
        self.failing = {"load": ConnectionError("reset")} if self.asked.count("load") % 2 == 0 else {}
        return super().load(key)


def test_a_read_that_is_lost_once_is_no_reason_to_issue_nor_not_to_revoke(make_auth, replacing, clock, caplog):
    shelf = Flapping()
    auths = [make_auth(emulator=replacing, clock=clock, cache={}, store=shelf) for _ in range(3)]
    assert auths[0].get_token() == auths[1].get_token() == replacing.token
    auths[2].revoke()
    assert (replacing.token, replacing.issued, shelf.values) == (None, 1, {})
    assert warnings(caplog) == []


def test_a_read_that_fails_is_tried_once_more_and_not_for_ever(make_auth, replacing, clock, shelf):
    exchange = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)._by_requests
    shelf.fail(ConnectionError("reset"), "load")
    exchange._store.visit(exchange._seal("the secretkey")).find(lambda _token: True)
    assert shelf.asked == ["load", "load"]


@pytest.mark.parametrize("unread", ["store", "fallback"])
def test_who_cannot_see_whether_there_is_a_token_to_revoke_says_so(make_auth, replacing, clock, chain, unread):
    failing = chain if unread == "store" else chain.fallback
    failing.fail(OSError("a disk error"), "load")
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    why = r"a token store cannot be read \(the log says why\), and may hold a token"
    told = f"^{auth.host}: nothing was revoked: {why}$"
    for _ in range(2):  # and again while the store is left alone
        with pytest.raises(KiwoomAuthError, match=told) as raised:
            auth.revoke()
        assert (raised.value.host, raised.value.retryable) == (auth.host, True)
    assert replacing.journal == []


def test_with_nothing_in_the_store_there_is_nothing_to_revoke(process, replacing):
    process().revoke()
    assert replacing.journal == []


def test_a_revocation_that_fails_forgets_the_token_all_the_same(process, replacing):
    first = process()
    token = first.get_token()
    replacing.script("/oauth2/revoke", recorded.REVOKE_FAILED)
    with pytest.raises(KiwoomAuthError, match="8015"):
        first.revoke()
    assert process().get_token() != token


@pytest.mark.parametrize("ask", ["revoke", "arevoke"])
def test_a_token_that_comes_from_the_store_as_it_is_revoked_is_not_used(make_auth, replacing, ask):
    """The one who revokes has none itself, and another call takes it from the store meanwhile."""
    shelf = Shelf()
    make_auth(emulator=replacing, cache={}, store=shelf).get_token()
    auth = make_auth(emulator=replacing, cache={}, store=shelf)
    revoking = Crowd()
    revoking.threads(1, auth.revoke if ask == "revoke" else lambda: asyncio.run(auth.arevoke()))
    with replacing.hold("/oauth2/revoke") as gate:
        revoking.go()
        gate.wait_for(1)
        auth.get_token()
    assert revoking.outcomes() == [None]
    assert replacing.token is None
    assert auth.expires_at is None
    assert auth.get_token() == replacing.token


def test_a_token_that_was_refused_before_does_not_come_back_from_the_cache_after_a_revocation(make_auth, replacing):
    shelf = Shelf()
    auth, another = (make_auth(emulator=replacing, cache={}, store=shelf) for _ in range(2))
    first = auth.get_token()
    another.get_token()
    another.invalidate(first)
    land()
    second = another.get_token()
    answer = requests.post(replacing.url + TR, data=iter([BODY]), headers=HEADERS, auth=auth, timeout=PATIENCE)
    assert answer.json()["return_code"] != 0  # refused, and the body cannot be sent again
    auth.revoke()  # what is in the store
    assert replacing.token is None
    assert auth.get_token() == replacing.token not in {first, second}


@pytest.mark.parametrize("store", [None, Shelf], ids=["no store", "a store"])
def test_who_hears_of_a_revocation_can_have_a_new_token(make_auth, replacing, store):
    tokens = []

    def listener(event):
        if event.name == "token.revoked":
            tokens.append(auth.get_token())

    auth = make_auth(emulator=replacing, cache={}, store=store and store(), on_event=listener)
    first = auth.get_token()
    in_time(auth.revoke)
    assert tokens == [replacing.token] != [first]


def test_a_flight_that_brings_what_was_revoked_meanwhile_brings_another(make_auth, replacing):
    """It has looked into the store before, and comes back after."""

    class Slow(Shelf):
        late = threading.Event()
        has_looked = threading.Event()

        def load(self, key):
            value = super().load(key)
            if self.is_slow and not self.has_looked.is_set():
                self.has_looked.set()
                self.late.wait(PATIENCE)
            return value

        is_slow = False
        max_delay = 60.0

    shelf = Slow()
    make_auth(emulator=replacing, cache={}, store=shelf).get_token()
    auth = make_auth(emulator=replacing, cache={}, store=shelf)
    asking = Crowd()
    asking.threads(1, auth.get_token)
    shelf.is_slow = True
    asking.go()
    assert shelf.has_looked.wait(PATIENCE)
    auth.revoke()
    assert replacing.token is None
    shelf.late.set()
    assert asking.outcomes() == [replacing.token]
    assert auth.get_token() == replacing.token


# A store can only help


@pytest.fixture
def shelf():
    made = Shelf()
    yield made
    made.go_on.set()
    land()


def seconds_share(shelf, seconds):
    """Let the store delay an exchange by so much only."""
    shelf.max_delay = seconds
    return shelf


FAILURES = [OSError("a disk error"), PermissionError("mode 0777"), ValueError("SECRET"), SystemExit(), TimeoutError()]


@pytest.mark.parametrize("operation", ["load", "save", "lock", "release"])
@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_whatever_a_store_raises_requests_go_on(make_auth, replacing, clock, shelf, operation, error):
    shelf.fail(error, operation)
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    assert call(auth) == 0
    replacing.expire_tokens()
    assert call(auth) == 0
    auth.revoke()
    assert attempts(replacing) == 2


@pytest.mark.parametrize("operation", ["load", "save", "lock", "release"])
def test_wherever_a_store_hangs_requests_go_on(make_auth, replacing, clock, shelf, operation):
    seconds_share(shelf, 0.2).hang(operation)
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, timeout=0.5)
    assert call(auth) == 0
    assert shelf.hangs.is_set()
    assert not shelf.go_on.is_set()
    assert len(place_of(shelf)._stuck) == 1


def test_a_lock_that_does_not_come_is_left_to_itself(make_auth, replacing, clock, caplog):
    """Where it is the store that takes the time, and not a holder."""

    class Blocking(Shelf):
        max_delay = 0.2

        def lock(self, key, timeout):
            assert self.go_on.wait(PATIENCE)
            return super().lock(key, timeout)

    blocking = Blocking()
    make_auth(emulator=replacing, clock=clock, cache={}, store=blocking).get_token()
    (warning,) = warnings(caplog)
    assert "lock: it did not answer within 0.2 seconds" in warning
    assert len(place_of(blocking)._stuck) == 1
    blocking.go_on.set()


def test_a_lock_that_comes_late_is_used_while_there_is_time(make_auth, replacing, clock, caplog):
    class Late(Shelf):
        max_delay = 1.0

        def load(self, key):
            if self.asked.count("load") == 2:
                self.looked_again.set()
            return super().load(key)

        def lock(self, key, timeout):
            assert self.looked_again.wait(PATIENCE)
            return super().lock(key, timeout)

    late = Late()
    late.looked_again = threading.Event()
    make_auth(emulator=replacing, clock=clock, cache={}, store=late).get_token()
    assert "release" in late.asked
    assert warnings(caplog) == []


def test_a_lock_that_never_comes_though_the_store_answers_is_waited_for_two_leases(
    make_auth, replacing, clock, shelf, monkeypatch, caplog
):
    monkeypatch.setattr(_shared, "_LONGEST_WAIT", 0.01)
    shelf.hang("lock")
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == replacing.token
    (warning,) = warnings(caplog)
    assert "lock: others have held it for too long" in warning
    assert len(place_of(shelf)._stuck) == 1


def test_a_lock_that_others_keep_is_done_without(make_auth, replacing, clock, shelf, caplog):
    class Kept(Shelf):
        def lock(self, _key, _timeout):
            raise TimeoutError

    kept = Kept()
    events = []
    first = make_auth(emulator=replacing, clock=clock, cache={}, store=kept, on_event=events.append)
    assert call(first) == 0
    assert [event.store for event in events if event.name == "store.locked"] == ["Kept"]
    (warning,) = warnings(caplog)
    assert "another process holds the lock of the token store Kept for too long" in warning
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=kept).get_token() == first.get_token()


def test_a_lock_that_others_keep_is_left_alone_for_16_seconds_and_the_rest_of_the_store_is_not(
    make_auth, replacing, clock, shelf
):
    """Of one appkey: that of another one is another lock."""
    shelf.fail(TimeoutError(), "lock")
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    for seconds, locks in [(0, 1), (15.9, 1), (0.1, 2), (0, 2)]:
        clock.advance(seconds)
        replacing.expire_tokens()
        assert call(auth) == 0
        assert shelf.asked.count("lock") == locks
        assert shelf.values
        shelf.values.clear()
    replacing.add_account("another-appkey", "another-secretkey")
    options = {"appkey": "another-appkey", "secretkey": "another-secretkey", "emulator": replacing, "clock": clock}
    make_auth(**options, cache={}, store=shelf).get_token()
    assert shelf.asked.count("lock") == 3


def test_a_lock_that_is_kept_too_long_for_an_invalidation_is_waited_for_by_an_exchange(
    make_auth, replacing, clock, shelf
):
    """An invalidation waits for two of its own leases, which are shorter: the holder may just be issuing."""
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    token = auth.get_token()
    shelf.fail(TimeoutError(), "lock")
    auth.invalidate(token)
    land()
    shelf.failing = {}
    shelf.asked.clear()
    auth.get_token()
    assert "lock" in shelf.asked


def test_an_outage_is_one_warning_and_the_store_is_used_again_when_it_is_back(
    make_auth, replacing, clock, shelf, caplog
):
    shelf.fail(ConnectionError("nobody there"))
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    auth.get_token()
    for _ in range(5):
        clock.advance(31)
        auth.invalidate(auth.get_token())
        land()
        auth.get_token()
    (warning,) = warnings(caplog)
    assert "the token store Shelf failed, and this process goes on without it" in warning
    assert "ConnectionError: nobody there" in warning
    caplog.set_level(logging.INFO)
    shelf.failing = {}
    clock.advance(31)
    auth.invalidate(auth.get_token())
    land()
    token = auth.get_token()
    assert any("is used again" in record.getMessage() for record in caplog.records)
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == token
    shelf.fail(ConnectionError("nobody there"))
    auth.invalidate(token)
    land()
    assert len(warnings(caplog)) == 2


def test_a_store_that_can_be_read_but_not_written_to_is_one_warning(make_auth, replacing, clock, shelf, caplog):
    """A full disk, a Redis at its maxmemory: that reading works is no end of the outage."""
    shelf.fail(OSError("no space left"), "save")
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    for _ in range(5):
        clock.advance(61)
        replacing.expire_tokens()
        assert call(auth) == 0
    assert shelf.asked.count("save") == 5
    (warning,) = warnings(caplog)
    assert "save: OSError: no space left" in warning


def test_an_operation_that_seldom_fails_hides_no_later_outage(make_auth, replacing, clock, shelf, caplog):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    shelf.fail(OSError("no permission to DEL"), "delete")
    for _ in range(3):
        auth.invalidate(auth.get_token())
        land()
        clock.advance(31)
    shelf.fail(ConnectionError("nobody there"), "load")
    auth.invalidate(auth.get_token())
    auth.get_token()
    assert [text.rpartition("failed, ")[2].split(": ", 1)[1] for text in warnings(caplog)] == [
        "delete: OSError: no permission to DEL",
        "load: ConnectionError: nobody there",
    ]


def test_what_failed_in_an_outage_and_goes_on_failing_after_it_is_told(shelf, caplog):
    caplog.set_level(logging.INFO)
    place, log = place_of(shelf), Log("an-appkey", "a host")
    for minute, (operation, error) in enumerate([
        ("load", "nobody there"), ("lock", "nobody there"), ("load", "nobody there"),
        ("load", None), ("lock", "no permission to EVAL"),
        ("load", None), ("lock", "no permission to EVAL"),
        ("load", None), ("lock", None),
    ]):  # fmt: skip
        if error:
            place.fails(log, 60.0 * minute, operation, error, None)
        else:
            place.works(log, operation)
    told = [record.getMessage().partition("the token store Shelf ")[2] for record in caplog.records]
    until = "failed, and this process goes on without it until it works again:"
    assert told == [
        f"{until} load: nobody there",
        "is used again: load",
        f"{until} lock: no permission to EVAL",
        "is used again: lock",
    ]


def test_a_failure_that_has_not_been_seen_for_an_hour_is_news_again(make_auth, replacing, clock, shelf, caplog):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    shelf.fail(OSError("no permission to DEL"), "delete")
    for number in (1, 2):
        auth.invalidate(auth.get_token())
        land()
        clock.advance(_place.REMEMBERED)
        assert len(warnings(caplog)) == number


def test_looking_at_a_slow_store_while_another_process_issues_is_no_delay_of_its_own(make_auth, replacing, clock):
    class Slow(Shelf):
        def __init__(self):
            super().__init__()
            self.max_delay = 1.0
            self.looks = threading.Semaphore(0)

        def load(self, key):
            self.go_on.wait(0.2)  # what it takes
            self.looks.release()
            return super().load(key)

    slow = Slow()
    crowd = Crowd()
    crowd.threads(2, lambda: make_auth(emulator=replacing, clock=clock, cache={}, store=slow).get_token())
    with replacing.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        for _ in range(14):
            assert slow.looks.acquire(timeout=PATIENCE)
        assert gate.parked == 1
    assert set(crowd.outcomes()) == {replacing.token}
    assert attempts(replacing) == 1


def test_after_a_failure_a_store_is_left_alone_for_2_4_8_16_16_seconds(make_auth, replacing, clock, shelf):
    shelf.fail(OSError("a disk error"))
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    auth.get_token()
    for pause in (2, 4, 8, 16, 16):
        asked = len(shelf.asked)
        clock.advance(pause - 0.5)
        replacing.expire_tokens()
        assert call(auth) == 0
        assert len(shelf.asked) == asked
        clock.advance(0.5)
        replacing.expire_tokens()
        assert call(auth) == 0
        assert len(shelf.asked) > asked


def test_a_store_that_is_back_and_fails_again_is_left_alone_for_2_seconds_again(make_auth, replacing, clock, shelf):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    shelf.fail(OSError("a disk error"))
    auth.get_token()
    for _ in range(2):
        clock.advance(16)
        replacing.expire_tokens()
        call(auth)
    shelf.failing = {}
    clock.advance(16)
    replacing.expire_tokens()
    call(auth)
    shelf.fail(OSError("a disk error"))
    replacing.expire_tokens()
    call(auth)
    shelf.failing = {}
    clock.advance(2)
    asked = len(shelf.asked)
    replacing.expire_tokens()
    call(auth)
    assert len(shelf.asked) > asked


def test_auth_objects_made_anew_for_each_call_know_of_the_outage(make_auth, replacing, clock, shelf, caplog):
    shelf.fail(OSError("a disk error"))
    for _ in range(5):
        make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    assert len(warnings(caplog)) == 1


def test_stores_that_are_equal_share_what_is_known_of_them(make_auth, replacing, clock, tmp_path, caplog):
    (tmp_path / "no directory").write_text("")
    for _ in range(3):
        store = FileStore(tmp_path / "no directory")
        make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token()
    (warning,) = warnings(caplog)
    assert str(tmp_path / "no directory") in warning


def test_a_store_without_a_hash_will_do(make_auth, replacing, clock, caplog):
    class Unhashable(Shelf):
        __hash__ = None

    store = Unhashable()
    store.fail(OSError("a disk error"))
    for _ in range(2):
        make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token()
    assert len(warnings(caplog)) == 1


def test_a_store_that_hangs_again_and_again_is_left_alone_until_it_comes_back(
    make_auth, replacing, clock, shelf, monkeypatch
):
    monkeypatch.setattr(_place, "MOST_STUCK", 2)
    seconds_share(shelf, 0.05).hang("load")
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    for _ in range(5):
        clock.advance(31)
        replacing.expire_tokens()
        assert call(auth) == 0
    assert shelf.asked.count("load") == 2
    shelf.hanging = set()
    shelf.go_on.set()
    land()
    clock.advance(31)
    replacing.expire_tokens()
    assert call(auth) == 0
    assert shelf.asked.count("load") > 2


@pytest.mark.parametrize("error", [ValueError("SECRET"), KeyError("SECRET")])
def test_the_words_of_strangers_are_not_repeated(make_auth, replacing, clock, shelf, caplog, error):
    """They may quote what they were given, or the address of a database with its password."""
    shelf.fail(error)
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    assert type(error).__name__ in caplog.text
    assert "SECRET" not in caplog.text


@needs_redis
@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("ConnectionError", "Error 111 connecting to localhost:1. Connection refused.", None),
        ("TimeoutError", "Timeout reading from localhost:1", None),
        ("ResponseError", "WRONGTYPE Operation against SECRET", "ResponseError: WRONGTYPE"),
        ("ResponseError", "NOREPLICAS", "ResponseError: NOREPLICAS"),
        ("ResponseError", "BUSYSECRET", "ResponseError"),
        ("ResponseError", "SECRET is no number", "ResponseError"),
        ("ResponseError", "", "ResponseError"),
        ("ResponseError", "unknown command 'EVAL'", "ResponseError: unknown command 'EVAL'"),
        ("ResponseError", "unknown command 'SECRET'", "ResponseError"),
        ("NoPermissionError", "SECRET may not do that", "NoPermissionError"),
        ("AuthenticationError", "SECRET is wrong", "AuthenticationError"),
        ("InvalidResponse", "Protocol Error: b'SECRET'", "InvalidResponse"),
        ("DataError", "SECRET is no number", "DataError"),
    ],
)
def test_what_a_redis_server_answered_is_not_repeated(make_auth, replacing, clock, shelf, caplog, kind, text, told):
    from redis import exceptions

    shelf.fail(getattr(exceptions, kind)(text))
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    (warning,) = warnings(caplog)
    assert warning.endswith(f": load: {told or f'{kind}: {text}'}")


@contextmanager
def stranger():
    """The port of a server that knows no command, and quotes what it gets as Redis 5 does."""

    def answer(connection):
        with connection, connection.makefile("rb") as lines:
            for count in lines:  # *2, then for each word its length, it, and a line break
                words = [lines.read(int(lines.readline()[1:]) + 2)[:-2].decode() for _ in range(int(count[1:]))]
                quoted = "".join(f"`{word}`, " for word in words[1:])
                error = f"-ERR unknown command `{words[0]}`, with args beginning with: {quoted}\r\n"
                connection.sendall(error.encode())

    def serve():
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@needs_redis
@pytest.mark.parametrize(("protocol", "greeting"), [(2, "AUTH"), (3, "HELLO")])
def test_the_password_that_a_redis_server_quotes_is_not_repeated(
    make_auth, replacing, clock, caplog, protocol, greeting
):
    import redis

    with stranger() as port, redis.Redis(port=port, password="SECRET", protocol=protocol) as client:
        store = RedisStore(client, max_delay=30.0)
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token
    (warning,) = warnings(caplog)
    assert warning.endswith(f": load: ResponseError: unknown command `{greeting}`")
    assert "SECRET" not in caplog.text


@needs_redis
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "text"])
def test_a_huge_value_in_redis_is_ignored_and_replaced(make_auth, replacing, clock, caplog, decoded):
    with RedisServer() as server, server.client(decode_responses=decoded) as client, server.client() as admin:
        store = RedisStore(client, max_delay=30.0)
        auth = make_auth(emulator=replacing, clock=clock, cache={}, store=store)
        name = f"kiwoom-auth:{key_of(auth, clock)}"
        admin.set(name, "키" * 100_000)
        auth.get_token()
        assert 0 < admin.strlen(name) < 10_000
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token
    assert (attempts(replacing), warnings(caplog)) == (1, [])


def test_no_thread_to_be_had_is_a_failure_of_the_store(make_auth, replacing, clock, shelf, monkeypatch, caplog):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    original = threading.Thread.start

    def refuse(thread):
        if thread.name == "kiwoom-auth-store":
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert auth.get_token() == replacing.token
    (warning,) = warnings(caplog)
    assert "load: there was no thread for it: can't start new thread" in warning


def test_no_thread_to_be_had_for_the_lock_is_a_failure_of_the_store(
    make_auth, replacing, clock, shelf, monkeypatch, caplog
):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    original = threading.Thread.start
    started = []

    def refuse(thread):
        if thread.name == "kiwoom-auth-store":
            started.append(thread)
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert auth.get_token() == replacing.token
    assert shelf.asked == ["load", "load", "load", "save"]
    (warning,) = warnings(caplog)
    assert "lock: there was no thread for it: can't start new thread" in warning


def test_a_log_filter_that_raises_does_no_harm(make_auth, replacing, clock, shelf, monkeypatch):
    def trip(_record):
        raise RuntimeError

    shelf.fail(OSError("a disk error"))
    monkeypatch.setattr(logging.getLogger("kiwoom_auth_plugin"), "filters", [trip])
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == replacing.token


def test_a_caller_interrupted_under_the_lock_gives_it_back(make_auth, replacing, clock, shelf):
    from .traps import session_with

    class Interrupted(BaseException):
        pass

    def spring():
        raise Interrupted

    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, client=session_with(spring))
    with pytest.raises(Interrupted):
        auth.get_token()
    assert shelf.asked[-1] == "release"
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == replacing.token


@pytest.mark.parametrize("function", ["_give_back", "_take_lock", "_begin", "_await", "_is_settled", "works"])
@pytest.mark.parametrize("event", ["call", "return"])
def test_a_caller_interrupted_as_it_takes_or_gives_back_the_lock_does_not_keep_it(
    make_auth, replacing, clock, shelf, function, event
):
    class Interrupted(BaseException):
        pass

    def interrupt(frame, happening, _argument):
        if frame.f_code.co_name == function and happening == event:
            sys.setprofile(None)
            raise Interrupted

    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, timeout=600)
    sys.setprofile(interrupt)
    try:
        with suppress(Interrupted):
            auth.get_token()
    finally:
        sys.setprofile(None)
    gc.collect()  # an interrupted caller's frames
    land()
    assert shelf.asked.count("lock") == shelf.asked.count("release")


def test_a_caller_interrupted_while_it_waits_for_the_lock_leaves_the_queue(make_auth, replacing, clock, shelf):
    class Interrupted(BaseException):
        pass

    first = Crowd()
    first.threads(1, make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token)
    waiting = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    original = shelf.load
    loads = []

    def load(key):
        loads.append(key)
        return original(key)

    with replacing.hold() as gate:
        first.go()
        gate.wait_for(1)
        shelf.load = load

        def look(*_arguments):
            raise Interrupted

        visit = _shared.Visit
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(visit, "_await", look)
            with pytest.raises(Interrupted):
                waiting.get_token()
        gate.release()
    first.outcomes()
    land()
    with shelf.lock(loads[0], 0.0):
        pass


def test_a_lock_of_a_users_own_may_have_any_attributes(make_auth, replacing, clock):
    class Odd(Shelf):
        def lock(self, key, timeout):
            held = super().lock(key, timeout)
            held.contended = False
            return held

    odd = Odd()
    first, second = (make_auth(emulator=replacing, clock=clock, cache={}, store=odd) for _ in range(2))
    crowd = Crowd()
    for auth in (first, second):
        crowd.threads(1, auth.get_token)
    with replacing.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        assert odd.waits.wait(PATIENCE)
    assert set(crowd.outcomes()) == {replacing.token}


def test_what_a_seal_needs_is_imported_when_the_auth_object_is_made():
    """A child forked in the middle of an import could never import it again."""
    code = (
        "import sys; from kiwoom_auth_plugin import KiwoomBearerAuth; from kiwoom_auth_plugin.stores import FileStore;"
    )
    code += "KiwoomBearerAuth('a', 'b', store=FileStore('x'));"
    code += "print({'cryptography.fernet', 'cryptography.hazmat.primitives.kdf.hkdf', 'filelock'} <= {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "True\n"


# The loop


@pytest.mark.anyio
@pytest.mark.parametrize("operation", ["load", "save", "lock", "release"])
async def test_a_store_that_hangs_does_not_stall_the_event_loop(make_auth, replacing, clock, shelf, operation):
    shelf.hang(operation)
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=seconds_share(shelf, PATIENCE))
    tokens = []

    async def ask():
        tokens.append(await auth.aget_token())

    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(ask)
        await anyio.to_thread.run_sync(shelf.hangs.wait)  # the loop comes round while the store hangs
        assert not shelf.go_on.is_set()
        shelf.go_on.set()
    assert tokens == [replacing.token] * 300
    assert attempts(replacing) == 1


# A store that stands in


@pytest.fixture
def chain(shelf):
    """A store with another one for when it fails."""
    shelf.fallback = Shelf()
    return shelf


def test_the_fallback_keeps_processes_together_while_the_store_is_away(make_auth, replacing, clock, chain):
    chain.fail(ConnectionError("nobody there"))
    auths = [make_auth(emulator=replacing, clock=clock, cache={}, store=chain) for _ in range(3)]
    assert {auth.get_token() for auth in auths} == {replacing.token}
    assert attempts(replacing) == 1


def test_nobody_waits_for_a_holder_to_bring_the_store_up_to_date(make_auth, replacing, clock, chain, caplog):
    first, second = (make_auth(emulator=replacing, clock=clock, cache={}, store=chain, timeout=0.2) for _ in range(2))
    first.get_token()
    chain.values.clear()
    with chain.lock(key_of(second, clock), 60.0):
        assert second.get_token() == replacing.token
    assert chain.values == {}
    assert warnings(caplog) == []


def test_stores_that_hang_take_together_what_the_first_may_take(make_auth, replacing, clock, chain, caplog):
    chain.max_delay = 0.2
    for store in (chain, chain.fallback):
        store.hang("load")
    make_auth(emulator=replacing, clock=clock, cache={}, store=chain, timeout=0.5).get_token()
    assert [warning.partition("load: ")[2].partition(";")[0] for warning in warnings(caplog)] == [
        "it did not answer within 0.1 seconds"
    ] * 2
    for store in (chain, chain.fallback):
        store.go_on.set()


def test_the_warning_of_a_store_that_is_away_names_what_is_used_in_its_place(
    make_auth, replacing, clock, chain, caplog
):
    chain.fail(ConnectionError("nobody there"))
    make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token()
    (warning,) = warnings(caplog)
    assert "the token store Shelf failed, and its fallback Shelf is used until it works again: " in warning


def test_the_fallback_keeps_processes_together_while_the_store_hangs(make_auth, replacing, clock, chain):
    seconds_share(chain, 0.4).hang("load", "lock", "save")
    auths = [make_auth(emulator=replacing, clock=clock, cache={}, store=chain) for _ in range(3)]
    assert {auth.get_token() for auth in auths} == {replacing.token}
    assert attempts(replacing) == 1


def test_the_fallback_already_has_the_token_when_the_store_goes_away(make_auth, replacing, clock, chain):
    """Of the process that issued it, and of one that only found it."""
    make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token()
    chain.fallback.values.clear()
    make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token()
    chain.fail(ConnectionError("nobody there"))
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token() == replacing.token
    assert attempts(replacing) == 1


def test_a_store_that_has_lost_everything_is_no_reason_to_issue(make_auth, replacing, clock, chain):
    """Not on this machine, where the fallback has the token, nor on others, which find it in the store again."""
    make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token()
    chain.values.clear()
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token() == replacing.token
    chain.fallback = None
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token() == replacing.token
    assert attempts(replacing) == 1


def test_a_store_whose_lock_others_hold_is_brought_up_to_date_by_them(make_auth, replacing, clock, chain):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    token = auth.get_token()
    chain.values.clear()
    with chain.lock(key_of(auth, clock), 60.0):
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token() == token
        assert chain.values == {}
    land()


def test_a_token_is_taken_out_of_the_fallback_though_the_store_has_another(make_auth, replacing, clock, chain):
    fallback = chain.fallback
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    old = auth.get_token()
    chain.fallback = None
    for one in (clock, replacing.clock):
        one.advance(60)
    replacing.expire_tokens()
    newer = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    assert call(newer) == 0
    auth.invalidate(old)
    land()
    assert (len(chain.values), len(fallback.values)) == (1, 0)


@pytest.mark.parametrize("unread", ["store", "fallback"])
def test_a_store_that_cannot_be_read_gets_no_older_token_from_another_one(make_auth, replacing, clock, chain, unread):
    def token_of(store):
        return make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token()

    fallback, chain.fallback = chain.fallback, None
    older, newer = (fallback, chain) if unread == "store" else (chain, fallback)
    old = token_of(older)
    for time in (clock, replacing.clock):
        time.advance(60)
    assert token_of(newer) != old
    kept, chain.fallback = dict(newer.values), fallback
    newer.fail(OSError("a disk error"), "load")
    assert token_of(chain) == old
    assert newer.values == kept


def test_a_store_is_not_written_to_under_the_lock_of_another_one(make_auth, replacing, clock, chain):
    token = make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token()
    chain.values.clear()
    chain.fail(OSError("not permitted"), "lock")
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token() == token
    assert chain.fallback.asked.count("lock") == 1
    assert chain.values == {}


def test_a_token_that_comes_while_another_one_is_forgotten_stays(make_auth, replacing, clock, chain):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    old = auth.get_token()
    exchange = auth._by_requests
    seal = exchange._seal(exchange._secretkey.reveal(auth.host))
    newer = seal.close(AccessToken("newer", clock.now(), clock.now() + DAY, b"", clock.wall() + 60.0))

    class Late(Shelf):
        def load(self, key):
            chain.values[key] = newer
            return super().load(key)

    chain.fallback = Late()
    visit = _shared.SharedStore(chain, clock, exchange.log).visit(seal)
    visit.forget([(old, auth._source.token.dated)])
    assert list(chain.values.values()) == [newer]


@pytest.mark.parametrize("how", ["once", "ever"])
def test_processes_meet_at_the_lock_of_a_store_that_they_can_read(make_auth, replacing, how):
    class Kind(Shelf):
        def load(self, key):
            if how == "once" and self.asked:
                self.failing = {}
            return super().load(key)

    def another(shelf):
        store = seconds_share(Kind(), 0.4)
        store.values, store._locks, store.failing = shelf.values, shelf._locks, dict(shelf.failing)
        return store

    chains = [another(Shelf())]
    chains[0].fail(OSError("not permitted"), "load")
    chains[0].fallback = another(Shelf())
    chains.append(another(chains[0]))
    chains[1].fallback = another(chains[0].fallback)
    auths = [make_auth(emulator=replacing, cache={}, store=chain) for chain in chains]
    with replacing.hold() as gate:
        threads = [threading.Thread(target=auth.get_token) for auth in auths]
        threads[0].start()
        gate.wait_for(1)
        threads[1].start()
        assert (chains[1] if how == "once" else chains[1].fallback).waits.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    assert {auth.get_token() for auth in auths} == {replacing.token}
    assert replacing.issued == 1


def test_a_store_that_hangs_is_asked_once_while_the_lock_of_the_other_is_waited_for(
    make_auth, replacing, clock, chain, monkeypatch
):
    class Tiring(Shelf):
        def load(self, key):
            if self.asked:
                self.hang("load")
            return super().load(key)

    monkeypatch.setattr(_shared, "_LONGEST_WAIT", 0.1)
    chain.fallback = Tiring()
    seconds_share(chain, 0.4)
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain, timeout=10.0)
    try:
        with chain.lock(key_of(auth, clock), 60.0):
            assert auth.get_token() == replacing.token
        assert chain.asked.count("load") > 3
        assert chain.fallback.asked.count("load") == 2
    finally:
        chain.fallback.go_on.set()
        land()


def test_after_an_outage_the_later_token_wins(make_auth, replacing, clock, chain):
    first = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    first.get_token()
    chain.fail(ConnectionError("nobody there"))
    for time in (clock, replacing.clock):
        time.advance(60)
    replacing.expire_tokens()
    assert call(first) == 0
    chain.failing = {}
    clock.advance(31)
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=chain).get_token() == replacing.token
    assert attempts(replacing) == 2


@pytest.mark.parametrize("refused", [False, True], ids=["cold", "after a refusal"])
def test_a_holder_that_is_late_leaves_a_later_token_alone_and_uses_it(make_auth, replacing, clock, shelf, refused):
    """Who has waited for its lock, with a shorter time-out, went alone meanwhile: the later token is the living one."""
    answered, go_on = threading.Event(), threading.Event()

    class HoldingBack(requests.adapters.HTTPAdapter):
        def send(self, *request, **options):
            answer = super().send(*request, **options)
            answered.set()
            go_on.wait(PATIENCE)
            return answer

    impatient = Shelf()
    impatient.values = shelf.values
    impatient.fail(TimeoutError(), "lock")
    with requests.Session() as session:
        late = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf, client=session, timeout=PATIENCE)
        if refused:
            late.invalidate(late.get_token())
            land()
        session.mount("http://", HoldingBack())
        crowd = Crowd()
        crowd.threads(1, late.get_token)
        crowd.go()
        assert answered.wait(PATIENCE)
        for moved in (clock, replacing.clock):
            moved.advance(5.0)
        alone = make_auth(emulator=replacing, clock=clock, cache={}, store=impatient).get_token()
        issued = replacing.issued
        go_on.set()
        assert crowd.outcomes() == [alone] == [replacing.token]
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == alone
    assert replacing.issued == issued


def test_a_lock_that_is_kept_is_told_once_an_hour_and_anew_when_it_was_had(make_auth, replacing, clock, shelf, caplog):
    def told():
        found = [record for record in caplog.records if record.kiwoom_event == "store.locked"]
        caplog.clear()
        return len(found)

    def process():
        clock.advance(60.0)
        make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()

    def keep(*, kept):
        shelf.failing = {"lock": TimeoutError()} if kept else {}
        shelf.values.clear()

    keep(kept=True)
    process()
    assert told() == 1
    keep(kept=True)
    process()
    assert told() == 0
    clock.advance(_place.REMEMBERED)
    keep(kept=True)
    process()
    assert told() == 1
    keep(kept=False)
    process()
    keep(kept=True)
    process()
    assert told() == 1


def test_a_time_out_of_the_system_is_no_lock_that_others_keep(make_auth, replacing, clock, shelf, caplog):
    shelf.fail(OSError(errno.ETIMEDOUT, "Connection timed out"), "lock")
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    (warning,) = warnings(caplog)
    assert warning.endswith("lock: TimeoutError: [Errno 110] Connection timed out")


def test_a_store_that_stands_in_for_itself_is_asked_once(make_auth, replacing, clock, shelf):
    shelf.fallback = shelf
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == replacing.token
    assert shelf.asked == ["load", "lock", "load", "load", "save", "release"]


@needs_redis
@pytest.mark.parametrize("how", ["killed", "stopped", "wrong type", "no login", "full"])
def test_a_redis_in_trouble_delays_no_request_beyond_its_bound_and_is_used_again(
    make_auth, replacing, clock, caplog, how
):
    caplog.set_level(logging.INFO)
    with RedisServer() as server, server.client() as client, server.client() as admin:
        store = RedisStore(client, max_delay=0.5)
        auth = make_auth(emulator=replacing, clock=clock, cache={}, store=store)
        name = f"kiwoom-auth:{key_of(auth, clock)}"
        if how == "killed":
            server.kill()
        elif how == "stopped":
            server.pause()
        elif how == "wrong type":
            admin.lpush(name, "x")
        elif how == "no login":
            admin.config_set("requirepass", "secret")
            client.connection_pool.disconnect()
        else:
            admin.config_set("maxmemory", "1")
        assert call(auth) == 0
        replacing.expire_tokens()
        assert call(auth) == 0
        assert len(warnings(caplog)) == 1
        if how == "killed":
            server.restart()
        elif how == "stopped":
            server.resume()
        elif how == "wrong type":
            admin.delete(name)
        elif how == "no login":
            admin.config_set("requirepass", "")
        else:
            admin.config_set("maxmemory", "0")
        land()
        clock.advance(31)
        replacing.expire_tokens()
        assert call(auth) == 0
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token
        assert attempts(replacing) == 3
        assert any("is used again" in record.getMessage() for record in caplog.records)


def test_a_full_disk_is_no_obstacle_and_is_used_again_when_there_is_room(make_auth, replacing, clock, disk, caplog):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=FileStore(disk / "tokens"))
    (disk / "filler").write_bytes(b"x" * 60_000)
    with suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while filler.write(b"x" * 512):
            pass
    assert call(auth) == 0
    replacing.expire_tokens()
    assert call(auth) == 0
    (warning,) = warnings(caplog)
    assert "No space left on device" in warning
    (disk / "filler").unlink()
    clock.advance(16)
    replacing.expire_tokens()
    assert call(auth) == 0
    assert make_auth(clock=clock, emulator=replacing, cache={}, store=FileStore(disk / "tokens")).get_token()
    assert attempts(replacing) == 3


def test_a_disk_that_becomes_read_only_is_no_obstacle(make_auth, replacing, clock, disk, caplog):
    first = make_auth(emulator=replacing, clock=clock, cache={}, store=FileStore(disk / "tokens"))
    token = first.get_token()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=FileStore(disk / "tokens")).get_token() == token
    replacing.expire_tokens()
    assert call(first) == 0
    (warning,) = warnings(caplog)
    assert "Read-only file system" in warning
    assert attempts(replacing) == 2


def test_a_directory_that_is_removed_meanwhile_is_made_again(make_auth, replacing, clock, tmp_path, caplog):
    store = FileStore(tmp_path / "tokens")
    first = make_auth(emulator=replacing, clock=clock, cache={}, store=store)
    first.get_token()
    shutil.rmtree(tmp_path / "tokens")
    replacing.expire_tokens()
    assert call(first) == 0
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token
    assert (attempts(replacing), warnings(caplog)) == (2, [])


@needs_redis
def test_a_file_store_stands_in_for_a_redis_that_is_away(make_auth, replacing, clock, tmp_path):
    with RedisServer() as server, server.client() as client:
        store = RedisStore(client, fallback=FileStore(tmp_path / "tokens"), max_delay=0.5)
        server.kill()
        auths = [make_auth(emulator=replacing, clock=clock, cache={}, store=store) for _ in range(3)]
        assert {auth.get_token() for auth in auths} == {replacing.token}
        assert attempts(replacing) == 1


@needs_redis
def test_the_number_of_commands_to_redis_does_not_grow_with_the_number_of_calls(make_auth, replacing, clock):
    with RedisServer() as server, server.client() as client, server.client() as admin:

        def commands():
            stats = admin.info("commandstats")
            return {
                name: stats[f"cmdstat_{name}"]["calls"]
                for name in ("getrange", "set", "eval")
                if f"cmdstat_{name}" in stats
            }

        issuing = make_auth(emulator=replacing, clock=clock, cache={}, store=RedisStore(client))
        for _ in range(10_000):
            issuing(requests.Request("POST", replacing.url + TR).prepare())
        # Three looks, and one that the script takes as it gives the lock back; the lock and the token.
        assert commands() == {"getrange": 4, "set": 2, "eval": 1}
        starting = make_auth(emulator=replacing, clock=clock, cache={}, store=RedisStore(client))
        for _ in range(10_000):
            starting(requests.Request("POST", replacing.url + TR).prepare())
        assert commands() == {"getrange": 5, "set": 2, "eval": 1}


# The argument


@pytest.mark.parametrize("store", [object(), "file", FileStore, Shelf, {}, 0])
def test_what_is_no_store_is_refused(make_auth, store):
    with pytest.raises(TypeError, match=r"^store must have the methods of a TokenStore"):
        make_auth(store=store)


@pytest.mark.parametrize("fallback", [object(), "file", FileStore, 0])
def test_a_fallback_that_is_no_store_is_refused(make_auth, shelf, fallback):
    shelf.fallback = fallback
    with pytest.raises(TypeError, match="the fallback of store must have the methods"):
        make_auth(store=shelf)


def test_a_chain_of_fallbacks_ends(make_auth, replacing):
    class Endless(Shelf):
        @property
        def fallback(self):
            return Endless()

    assert make_auth(emulator=replacing, store=Endless()).get_token() == replacing.token


class Untold(OSError):
    """An exception that cannot be printed."""

    def __str__(self):
        raise ValueError


Homeless = type("Homeless", (Exception,), {"__module__": None})


@pytest.mark.parametrize("error", [Untold(), Homeless()], ids=lambda error: type(error).__name__)
def test_a_failure_that_cannot_be_told_is_one_all_the_same(make_auth, replacing, clock, shelf, caplog, error):
    shelf.fail(error)
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == replacing.token
    (warning,) = warnings(caplog)
    assert warning.endswith(type(error).__name__)


def test_a_store_whose_comparison_raises_will_do(make_auth, replacing, clock):
    class Touchy(Shelf):
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise ValueError

    for store in (Touchy(), Touchy()):
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_every_kind_are_taken(make_auth, replacing, clock, shelf, kind):
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    shelf.values = {key: kind(value) for key, value in shelf.values.items()}
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    assert attempts(replacing) == 1


@pytest.mark.parametrize("value", ["text", 5, object()], ids=type)
def test_a_store_that_gives_no_bytes_fails(make_auth, replacing, clock, shelf, caplog, value):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    shelf.values[key_of(auth, clock)] = value
    assert auth.get_token() == replacing.token
    (warning,) = warnings(caplog)
    assert f"OSError: [Errno {errno.EINVAL}] load must return bytes or None" in warning


def test_the_delay_is_that_of_the_store_that_was_given(make_auth, replacing, clock, tmp_path):
    """Two objects for one directory are one store, with a delay each."""
    long, short = (FileStore(tmp_path / "tokens", max_delay=delay) for delay in (60, 0.5))
    assert long == short
    auths = [make_auth(emulator=replacing, clock=clock, cache={}, store=store) for store in (long, short)]
    assert auths[0]._by_requests.patience - auths[1]._by_requests.patience > 100


def test_a_store_that_has_hung_for_ten_minutes_is_tried_once_more(make_auth, replacing, clock, shelf, monkeypatch):
    """Its connection was lost without a word, and a new one works."""
    monkeypatch.setattr(_place, "MOST_STUCK", 1)
    seconds_share(shelf, 0.05).hang("load")
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    auth.get_token()
    shelf.hanging = set()
    for seconds, asked in ((500, 1), (101, 4)):
        clock.advance(seconds)
        replacing.expire_tokens()
        assert call(auth) == 0
        assert shelf.asked.count("load") == asked


def test_a_lock_that_cannot_be_given_back_is_told(make_auth, replacing, clock, shelf, caplog):
    shelf.fail(OSError("no permission to EVAL"), "release")
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    (warning,) = warnings(caplog)
    assert "release: OSError: no permission to EVAL" in warning
    caplog.set_level(logging.INFO)
    shelf.failing = {}
    clock.advance(16)
    shelf.values.clear()
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    assert any("is used again" in record.getMessage() for record in caplog.records)


def test_a_lock_that_is_not_given_back_in_time_is_told(make_auth, replacing, clock, shelf, caplog):
    seconds_share(shelf, 0.2)
    shelf.hang("release")
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    (warning,) = warnings(caplog)
    assert "release: it did not answer within 0.2 seconds" in warning
    assert place_of(shelf)._stuck
    shelf.go_on.set()
    land()


def test_a_lock_that_is_not_given_back_once_the_delay_is_used_up_is_not_waited_for(
    make_auth, replacing, clock, shelf, caplog
):
    seconds_share(shelf, 0.2).hang("save", "release")
    make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token()
    (warning,) = warnings(caplog)
    assert "save: it did not answer within 0.2 seconds" in warning
    assert len(place_of(shelf)._stuck) == 1


def test_two_stores_whose_locks_never_come_are_waited_for_no_longer_than_one(
    make_auth, replacing, clock, chain, monkeypatch
):
    monkeypatch.setattr(_shared, "_LONGEST_WAIT", 0.05)
    chain.hang("lock")
    chain.fallback.hang("lock")
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain, timeout=1.0)
    try:
        assert asyncio.run(auth.aget_token()) == replacing.token
    finally:
        chain.fallback.go_on.set()


def test_an_interrupt_as_the_wait_for_the_lock_begins_leaves_the_queue(make_auth, replacing, clock, shelf, monkeypatch):
    class Interrupted(BaseException):
        pass

    original, started = threading.Thread.start, []

    def interrupted(thread):
        original(thread)
        if thread.name == "kiwoom-auth-store":
            started.append(thread)
            if len(started) == 2:
                raise Interrupted

    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupted):
            auth.get_token()
    land()
    assert shelf.asked == ["load", "lock", "release"]


def test_a_holder_that_is_stopped_costs_the_next_process_a_wait_and_the_others_nothing(make_auth, replacing, tmp_path):
    store = FileStore(tmp_path / "tokens", max_delay=0.2)
    auths = [make_auth(emulator=replacing, cache={}, store=store, timeout=0.2) for _ in range(3)]
    with store.lock(key_of(auths[0], SYSTEM), 60.0):
        assert {auth.get_token() for auth in auths} == {replacing.token}
    assert attempts(replacing) == 1


@needs_redis
def test_a_redis_that_reads_but_does_not_write_is_found_out_within_the_bound(make_auth, replacing, clock, caplog):
    """As while it fails over: its answer to SET does not come, those to GET do."""
    with RedisServer() as server, server.client() as client, server.client() as admin:
        admin.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        store = RedisStore(client, max_delay=0.5)
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token
        admin.execute_command("CLIENT", "UNPAUSE")
        land()
    (warning,) = warnings(caplog)
    assert "lock: it did not answer within 0.5 seconds" in warning


def test_a_time_limit_that_comes_as_a_store_is_looked_for_reaches_the_caller(make_auth):
    class TimeIsUp(Exception):
        pass

    class Slow(Shelf):
        def __hash__(self):
            signal.raise_signal(signal.SIGTERM)
            return 0

    def handler(_number, _frame):
        raise TimeIsUp

    former = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(TimeIsUp):
            make_auth(store=Slow())
    finally:
        signal.signal(signal.SIGTERM, former)


@pytest.mark.parametrize(("delay", "error"), [("2", TypeError), (True, TypeError), (0, ValueError), (61, ValueError)])
def test_a_store_with_an_impossible_max_delay_is_refused(make_auth, shelf, delay, error):
    with pytest.raises(error, match="max_delay"):
        make_auth(store=seconds_share(shelf, delay))


def test_a_store_of_a_users_own_needs_cryptography_and_says_so(make_auth, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ImportError, match='pip install "cryptography>='):
        make_auth(store=Shelf())


def test_a_copy_has_the_same_store(make_auth, tmp_path, replacing):
    auth = make_auth(emulator=replacing, store=FileStore(tmp_path / "tokens"))
    assert copy.copy(auth)._store is auth._store
    assert pickle.loads(pickle.dumps(auth))._store == auth._store


def test_a_store_of_a_users_own_is_a_token_store():
    store: TokenStore = Shelf()
    assert store.load("x") is None


def test_importing_the_stores_imports_none_of_their_libraries():
    libraries = {"redis", "cryptography", "filelock", "platformdirs"}
    code = f"import sys, kiwoom_auth_plugin.stores; print({libraries} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "set()\n"


def test_clocks_of_processes_that_differ_by_hours_cause_no_loop_of_issues(make_auth, replacing, store):
    clocks = [ManualClock(replacing.clock.now().timestamp() + hours * 3600) for hours in (0, -9, 9)]
    auths = [make_auth(emulator=replacing, store=store, clock=clock, cache={}) for clock in clocks]
    assert {auth.get_token() for auth in auths} == {replacing.token}
    assert attempts(replacing) == 1


def test_what_many_threads_add_at_once_takes_a_few_threads():
    backlog, barrier, go_on = Backlog("a-backlog"), threading.Barrier(20), threading.Event()
    done = []

    def work(items):
        go_on.wait(PATIENCE)
        done.extend(items)

    def add(number):
        barrier.wait()
        backlog.add(number, work, number)

    adding = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for one in adding:
        one.start()
    for one in adding:
        one.join()
    working = [thread for thread in threading.enumerate() if thread.name == "a-backlog"]
    assert len(working) == MOST_WORKERS
    go_on.set()
    for thread in working:
        thread.join(PATIENCE)
    assert sorted(done) == list(range(20))


def test_what_hangs_keeps_nothing_else_from_being_done(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(_backlog, "time", SimpleNamespace(monotonic=lambda: now[0]))
    backlog, go_on, done = Backlog("a-backlog"), threading.Event(), threading.Event()
    begun = threading.Semaphore(0)

    def hang(_items):
        begun.release()
        go_on.wait(PATIENCE)

    for number in range(MOST_WORKERS):
        backlog.add(number, hang, number)
        assert begun.acquire(timeout=PATIENCE)
    now[0] += _backlog.BUSY_FOR_LONG
    backlog.add("one more", lambda _items: done.set(), "item")
    assert len(backlog._workers) == MOST_WORKERS
    now[0] += 0.1
    backlog.add("one more", lambda _items: done.set(), "item")
    assert done.wait(PATIENCE)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "a-backlog":
            thread.join(PATIENCE)


def test_a_thread_that_has_nothing_left_to_do_makes_room_for_one_and_no_more():
    backlog, go_on, begun = Backlog("a-backlog"), threading.Event(), threading.Semaphore(0)
    first_may_go = threading.Event()

    def hang(items):
        begun.release()
        (first_may_go if 0 in items else go_on).wait(PATIENCE)

    for number in range(MOST_WORKERS):
        backlog.add(number, hang, number)
        assert begun.acquire(timeout=PATIENCE)
    first = backlog._workers[0]
    first_may_go.set()
    first.join(PATIENCE)
    for number in range(10, 20):
        backlog.add(number, hang, number)
    assert sum(thread.name == "a-backlog" for thread in threading.enumerate()) == MOST_WORKERS
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "a-backlog":
            thread.join(PATIENCE)


def test_of_what_hangs_there_are_only_so_many(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(_backlog, "time", SimpleNamespace(monotonic=lambda: now[0]))
    backlog, go_on, begun = Backlog("a-backlog"), threading.Event(), threading.Semaphore(0)

    def hang(_items):
        begun.release()
        go_on.wait(PATIENCE)

    most = MOST_WORKERS + _backlog.MOST_BUSY_FOR_LONG
    for number in range(2 * most):
        backlog.add(number, hang, number)
        assert number >= most or begun.acquire(timeout=PATIENCE)
        now[0] += 2 * _backlog.BUSY_FOR_LONG
    workers = list(backlog._workers)
    assert len(workers) == most
    go_on.set()
    for thread in workers:
        thread.join(PATIENCE)


@pytest.fixture
def ending(monkeypatch):
    """As if the main thread had ended: a store gets no thread any more."""

    def refuse(thread, original=threading.Thread.start):
        if thread.name == "kiwoom-auth-store":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threading, "main_thread", lambda: SimpleNamespace(is_alive=lambda: False))


@pytest.mark.usefixtures("ending")
def test_where_no_thread_can_be_started_since_the_program_ends_the_store_is_asked_in_this_one(
    make_auth, kiwoom_emulator
):
    shelf = Shelf()
    assert make_auth(cache={}, store=shelf).get_token() == kiwoom_emulator.token
    assert shelf.asked.count("save") == 1
    assert len(shelf.values) == 1


@pytest.mark.usefixtures("ending")
def test_ctrl_c_while_the_store_is_asked_in_this_thread_goes_on():
    """Anything else is told of the store."""

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _place.Work(interrupt).start()
    work = _place.Work(lambda: 1 / 0)
    work.start()
    assert work.wait(0.0)
    assert isinstance(work.error, ZeroDivisionError)


@pytest.mark.parametrize("how", ["revoke", "invalidate"])
def test_who_forgets_meets_the_others_at_the_lock_of_a_store_that_can_be_read(make_auth, replacing, clock, chain, how):
    auth = make_auth(emulator=replacing, clock=clock, cache={}, store=chain)
    token = auth.get_token()
    chain.fail(OSError("not permitted"), "load")
    chain.fallback.asked.clear()
    if how == "revoke":
        auth.revoke()
    else:
        auth.invalidate(token)
        land()
    assert chain.fallback.asked[-2:] == ["delete", "release"]


def test_a_worker_that_has_not_begun_yet_is_enough_for_what_it_finds():
    backlog, done = Backlog("a-test"), threading.Event()
    with _backlog._mutex:  # so that it does not begin
        for item in range(2):
            backlog.add("key", lambda _items: done.set(), item)
        assert len(backlog._workers) == 1
    assert done.wait(PATIENCE)
