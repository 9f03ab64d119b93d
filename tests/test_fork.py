"""Processes: a fork with an issue under way, pre-fork servers, multiprocessing, pools, pickled auth objects."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings

import pytest
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth, _locks, _source
from kiwoom_auth_plugin.testing import recorded

from .clients import BODY, HEADERS, TR
from .crowd import PATIENCE, Crowd, land

FORKING = threading.Lock()
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork does not exist on this platform")


def in_a_fork(call):
    """What the call returns in a forked child, as a string; the child is killed if it hangs."""
    reading, writing = os.pipe()
    # One at a time: where filelock is imported, it refuses a fork while another thread forks.
    with FORKING, warnings.catch_warnings():
        # Since 3.12: "This process is multi-threaded, use of fork() may lead to deadlocks in the child".
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(int(PATIENCE / 2))
        try:
            answer = str(call())
        except BaseException:  # noqa: BLE001 - the child must not go on as a test run
            answer = traceback.format_exc()
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    assert status == 0, f"the child was killed by signal {status & 0x7F}"
    return answer


class HeldElsewhere:
    """A lock that another thread holds, for as long as the block lasts or until it is told to leave."""

    def __init__(self, lock):
        self._lock = lock
        self._inside = threading.Event()
        self.leave = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._inside.wait(PATIENCE)

    def __exit__(self, *_error):
        self.leave.set()
        self._thread.join(PATIENCE)

    def _hold(self):
        with self._lock:
            self._inside.set()
            self.leave.wait(PATIENCE)


def post(auth):
    answer = requests.post(auth._host + TR, data=BODY, headers=HEADERS, auth=auth, timeout=PATIENCE)
    return answer.json()["return_code"]


@forks
@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_child_forked_while_an_issue_is_under_way_issues_for_itself(auth, kiwoom_emulator, ask):

    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        threading.Thread(target=lambda: (gate.wait_for(2), gate.release()), daemon=True).start()
        token = in_a_fork(auth.get_token if ask == "get_token" else lambda: asyncio.run(auth.aget_token()))
    assert crowd.outcomes() == [kiwoom_emulator.token] == [token]
    assert kiwoom_emulator.issued == 2


@forks
def test_a_child_keeps_a_valid_token(auth, kiwoom_emulator):
    token = auth.get_token()
    assert in_a_fork(auth.get_token) == token
    assert in_a_fork(lambda: post(auth)) == "0"
    assert kiwoom_emulator.issued == 1


@forks
def test_a_child_forked_during_a_refresh_keeps_the_token_and_may_refresh_itself(
    auth, kiwoom_emulator, make_auth, clock
):
    auth = make_auth(clock=clock, refresh_margin=24 * 3600.0)
    token = auth.get_token()
    clock.advance(12 * 3600 + 1)

    def ask_twice():
        first = auth.get_token()
        clock.advance(31)
        auth.get_token()
        land()
        return first == auth.get_token() == token

    with kiwoom_emulator.hold() as gate:
        auth.get_token()
        gate.wait_for(1)
        threading.Thread(target=lambda: (gate.wait_for(2), gate.release()), daemon=True).start()
        assert in_a_fork(ask_twice) == "True"
    land()
    assert kiwoom_emulator.issued == 3


@forks
def test_a_fork_waits_until_no_dictionary_is_half_changed(auth, kiwoom_emulator):
    """The locks are free in the child, whoever held them in the parent."""
    held = HeldElsewhere(_source.mutex)
    with held:
        threading.Thread(target=held.leave.set, daemon=True).start()
        assert in_a_fork(auth.get_token) == kiwoom_emulator.token


@forks
def test_the_lock_of_a_cache_that_hangs_is_free_in_the_child(make_auth, kiwoom_emulator):
    auth = make_auth(cache={})
    with HeldElsewhere(auth._source._slot._mutex.lock):
        assert in_a_fork(auth.get_token) == kiwoom_emulator.token


@forks
def test_a_child_does_not_wait_for_its_turn_after_the_parent(make_auth, kiwoom_emulator):
    """Objects whose secretkey comes from different callables issue one after the other, in one process."""
    auths = [make_auth(secretkey=lambda: kiwoom_emulator.secretkey) for _ in range(2)]
    crowd = Crowd()
    crowd.threads(1, auths[0].get_token)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        threading.Thread(target=lambda: (gate.wait_for(2), gate.release()), daemon=True).start()
        answer = in_a_fork(auths[1].get_token)
    assert crowd.outcomes() == [kiwoom_emulator.token] == [answer]


@forks
def test_a_parent_goes_on_after_a_fork(auth, kiwoom_emulator):
    crowd = Crowd()
    crowd.threads(10, auth.get_token)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        in_a_fork(lambda: None)
    assert crowd.outcomes() == [kiwoom_emulator.token] * 10
    assert kiwoom_emulator.issued == 1


@forks
def test_a_child_of_a_child_works(auth, kiwoom_emulator):
    auth.get_token()
    assert in_a_fork(lambda: in_a_fork(lambda: post(auth))) == "0"


@forks
def test_a_child_does_not_inherit_a_refused_tokens_replacement(kiwoom_emulator, make_auth):
    auth = make_auth()
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    assert in_a_fork(lambda: post(auth)) == "0"
    assert post(auth) == 0
    assert kiwoom_emulator.token == auth.get_token()


@forks
def test_a_child_inherits_the_rest_after_a_failure(auth, kiwoom_emulator):
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    with pytest.raises(requests.RequestException):
        auth.get_token()
    assert "8001" in in_a_fork(auth.get_token)
    assert len(kiwoom_emulator.calls("au10001")) == 1


@forks
@pytest.mark.parametrize("warm", [True, False], ids=["the parent has a token", "the parent has none"])
def test_workers_of_a_pre_fork_server_work(auth, kiwoom_emulator, warm):
    """As gunicorn --preload has it: the auth object is made, and perhaps used, before the workers are forked."""
    if warm:
        auth.get_token()
    crowd = Crowd()
    crowd.threads(4, lambda: in_a_fork(lambda: [post(auth) for _ in range(3)]))
    assert crowd.go().outcomes() == ["[0, 0, 0]"] * 4
    assert kiwoom_emulator.issued == (1 if warm else 4)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_pools_of_every_start_method_work_with_a_pickled_auth_object(auth, kiwoom_emulator, method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        # A function of the package: a spawned child need not be able to import the tests.
        outcomes = list(pool.map(KiwoomBearerAuth.get_token, [auth] * 4, timeout=PATIENCE))
    assert outcomes == [kiwoom_emulator.token] * 4
    assert kiwoom_emulator.issued <= 2


SPAWNED = """
import sys
sys.path[:0] = {path!r}
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator

def ask(auth):
    return auth.get_token()

if __name__ == "__main__":
    with KiwoomEmulator() as kiwoom:
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(set(pool.map(ask, [auth] * 3)) == {{kiwoom.token}}, kiwoom.issued)
"""


def test_a_script_with_spawned_processes_works(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SPAWNED.format(path=sys.path))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "True 1\n", done.stderr


def test_a_pool_of_threads_issues_once(auth, kiwoom_emulator):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _number: auth.get_token(), range(100))) == {kiwoom_emulator.token}
    assert kiwoom_emulator.issued == 1


# The locks by themselves


class Forks(list):
    """In place of ``os.register_at_fork``: keeps what is to be called."""

    def __call__(self, **hooks):
        self.append(hooks)


def is_free(lock):
    """Whether another thread can have it."""
    got = []

    def take():
        if lock.acquire(blocking=False):
            lock.release()
            got.append(lock)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return bool(got)


@pytest.mark.parametrize("side", ["after_in_parent", "after_in_child"])
def test_a_fork_waits_for_a_lock_and_leaves_it_free_on_both_sides(monkeypatch, side):
    forks = Forks()
    monkeypatch.setattr(os, "register_at_fork", forks, raising=False)
    lock = _locks.lock_for_the_process()
    (hooks,) = forks
    assert hooks.keys() == {"before", "after_in_parent", "after_in_child"}
    assert is_free(lock)
    hooks["before"]()
    assert not is_free(lock)
    hooks[side]()
    assert is_free(lock)


def test_where_nothing_forks_a_lock_is_one_all_the_same(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    with _locks.lock_for_the_process() as held:
        assert held


def test_a_lock_that_is_renewed_is_free_and_what_it_guards_is_not_being_changed():
    holder, process_wide = _locks.Renewed(), _locks.lock_for_the_process()
    assert holder.busy is False
    assert _locks.Renewed(process_wide).lock is process_wide
    lock = holder.lock
    with lock:
        holder.busy = True
        _locks._renew_all()
        assert holder.busy is False
        assert is_free(holder.lock)
        assert not is_free(lock)
