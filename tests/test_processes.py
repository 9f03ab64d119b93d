"""Processes that share a store: one issue in all, nothing lost or locked when they are killed, nothing told."""

import base64
import concurrent.futures
import contextlib
import math
import multiprocessing
import os
import signal
import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._clock import SYSTEM
from kiwoom_auth_plugin._keys import Masked
from kiwoom_auth_plugin._seal import Seal
from kiwoom_auth_plugin.stores import FileStore, RedisStore
from kiwoom_auth_plugin.testing import KiwoomEmulator

from .crowd import PATIENCE, Crowd, land
from .process_runner import Shared
from .redis_server import RedisServer, needs_redis

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork does not exist on this platform")


@pytest.fixture(scope="module")
def redis_server():
    with RedisServer("--rdbcompression", "no") as server:
        yield server


@pytest.fixture(params=["file", pytest.param("redis", marks=needs_redis)])
def shared(request, tmp_path):
    """A store for several processes."""
    if request.param == "file":
        directory = tmp_path / "tokens"

        def files():
            return {os.fsencode(path.name): path.read_bytes() for path in directory.iterdir()}

        yield Shared({"directory": str(directory)}, lambda: FileStore(directory), files)
        return
    server = request.getfixturevalue("redis_server")
    with server.client() as client:
        client.flushall()

        def entries():
            found = {name: (client.get(name) or b"") + (client.dump(name) or b"") for name in client.scan_iter()}
            client.save()
            return {**found, b"dump.rdb": (server.path / "dump.rdb").read_bytes()}

        yield Shared({"port": server.port}, lambda: RedisStore(client), entries)


@pytest.fixture
def kiwoom():
    """Each AU10001 kills the token before: one too many would show."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


def issues(kiwoom):
    calls = len(kiwoom.calls("au10001"))
    assert calls == kiwoom.issued
    return calls


def key(kiwoom, appkey=None, secretkey=None):
    return Seal(appkey or kiwoom.appkey, kiwoom.url, Masked(secretkey or kiwoom.secretkey), SYSTEM).key


def is_free(store, name):
    try:
        with store.lock(name, 0):
            return True
    except TimeoutError:
        return False


def opened(shared, kiwoom):
    """The token that is in the store, or None."""
    value = shared.store().load(key(kiwoom))
    if value is None:
        return None
    token = Seal(kiwoom.appkey, kiwoom.url, Masked(kiwoom.secretkey), SYSTEM).open(value)
    assert token is not None, "rubbish is in the store"
    return token.value


# One issue


@forks
def test_a_hundred_processes_issue_once_and_a_hundred_more_not_at_all(shared, kiwoom):
    with shared.program(kiwoom, timeout=30.0, max_delay=30.0) as program:
        with kiwoom.hold() as gate:
            program.fork(100, "get_token")
            program.hear("asks", 100)
            gate.wait_for(1)
        assert set(program.hear("get_token", 100)) == {kiwoom.token}
        assert issues(kiwoom) == 1
        program.fork(100, "get_token")
        assert set(program.hear("get_token", 100)) == {kiwoom.token}
        assert issues(kiwoom) == 1
        assert list(program.reap().values()) == [0] * 200


@forks
def test_programs_that_start_at_the_same_time_issue_once_and_later_ones_not_at_all(shared, kiwoom):
    """As cron starts them."""
    with contextlib.ExitStack() as stack:
        programs = [stack.enter_context(shared.program(kiwoom, timeout=30.0)) for _ in range(8)]
        for program in programs:
            program.hear("ready")
        with kiwoom.hold() as gate:
            for program in programs:
                program.tell("here", "get_token")
            for program in programs:
                program.hear("asks")
            gate.wait_for(1)
        assert {program.hear("get_token")[0] for program in programs} == {kiwoom.token}
        assert issues(kiwoom) == 1
        later = [stack.enter_context(shared.program(kiwoom)) for _ in range(2)]
        assert {program.do("get_token") for program in later} == {kiwoom.token}
        assert issues(kiwoom) == 1


@forks
@pytest.mark.parametrize("warm", [True, False], ids=["the parent has a token", "the parent has none"])
def test_workers_of_a_pre_fork_server_issue_once_if_the_parent_has_not(shared, kiwoom, warm):
    """As gunicorn --preload has it: the auth object and its store are made, and perhaps used, before the fork."""
    with shared.program(kiwoom, timeout=30.0) as program:
        program.do("get_token" if warm else "make")
        with kiwoom.hold() as gate:
            program.fork(4, "call")
            if not warm:
                program.hear("asks", 4)
                gate.wait_for(1)
        assert program.hear("call", 4) == [0] * 4
        assert issues(kiwoom) == 1
        assert list(program.reap().values()) == [0] * 4


@forks
def test_a_child_forked_under_the_stores_lock_waits_for_its_parents_token(shared, kiwoom):
    with shared.program(kiwoom, timeout=30.0) as program:
        with kiwoom.hold() as gate:
            [parent] = program.fork(1, "fork_under_way")
            gate.wait_for(1)
            os.kill(parent, signal.SIGUSR1)
            (first, _), (second, _) = program.hear_from("asks", 2)
            assert first == parent != second
        assert program.hear("child") == program.hear("fork_under_way") == [kiwoom.token]
        assert issues(kiwoom) == 1
        assert list(program.reap().values()) == [0, 0]


@pytest.mark.parametrize("shared", ["file"], indirect=True)
def test_spawned_processes_with_a_pickled_auth_object_issue_once(shared, kiwoom, make_auth):
    auth = make_auth(emulator=kiwoom, store=shared.store(), timeout=30.0)
    context = multiprocessing.get_context("spawn")
    with kiwoom.hold() as gate, concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
        # A function of the package: a spawned child need not be able to import the tests.
        asked = [pool.submit(KiwoomBearerAuth.get_token, auth) for _ in range(4)]
        gate.wait_for(1)
        gate.release()
        assert {answer.result(PATIENCE) for answer in asked} == {kiwoom.token}
    assert auth.get_token() == kiwoom.token
    assert issues(kiwoom) == 1


# Processes that end


@forks
def test_when_the_holder_is_killed_in_its_exchange_another_issues_for_all(shared, kiwoom):
    with shared.program(kiwoom, timeout=2.0, max_delay=0.5) as program:
        with kiwoom.hold() as gate:
            [holder] = program.fork(1, "get_token")
            gate.wait_for(1)
            others = program.fork(5, "get_token")
            program.hear("asks", 6)
            os.kill(holder, signal.SIGKILL)
        assert set(program.hear("get_token", 5)) == {kiwoom.token}
        assert issues(kiwoom) == 2
        assert program.reap() == {holder: -signal.SIGKILL, **dict.fromkeys(others, 0)}


@forks
def test_a_child_forked_under_the_lock_and_a_stranger_outlive_the_killed_parent(shared, kiwoom):
    with shared.program(kiwoom, timeout=2.0, max_delay=0.5) as program:
        with kiwoom.hold() as gate:
            [parent] = program.fork(1, "fork_under_way")
            gate.wait_for(1)
            os.kill(parent, signal.SIGUSR1)
            program.hear("asks", 2)
            program.fork(1, "get_token")
            program.hear("asks")
            os.kill(parent, signal.SIGKILL)
        assert program.hear("child") == program.hear("get_token") == [kiwoom.token]
        assert issues(kiwoom) == 2
        program.reap()


@forks
def test_a_holder_that_is_stopped_costs_the_next_one_a_wait_and_later_ones_nothing(shared, kiwoom):
    """As by a debugger, or by ^Z: it keeps the lock of the files, and others can save a token all the same."""
    with shared.program(kiwoom, timeout=0.5, max_delay=1.0) as program:
        with kiwoom.hold() as gate:
            [holder] = program.fork(1, "get_token")
            gate.wait_for(1)
            os.kill(holder, signal.SIGSTOP)
        if isinstance(shared.store(), FileStore):  # Redis ends the lock after one lease
            program.expect("another process holds the lock of the token store FileStore for too long")
        [waiting] = program.fork(1, "get_token")
        token = program.hear("get_token")[0]
        assert opened(shared, kiwoom) == token == kiwoom.token
        program.fork(5, "get_token")
        assert program.hear("get_token", 5) == [token] * 5
        assert issues(kiwoom) == 2
        os.kill(holder, signal.SIGKILL)
        ended = program.reap()
        assert ended.pop(holder) == -signal.SIGKILL
        assert ended.pop(waiting) == 0
        assert list(ended.values()) == [0] * 5


@forks
@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_program_that_ends_with_its_first_token_has_saved_it_and_left_the_lock(shared, kiwoom, ask):
    with shared.program(kiwoom) as program:
        program.tell("last", ask)
        assert program.rest() == ["ready", "asks", "left", ask]
    assert is_free(shared.store(), key(kiwoom))
    assert opened(shared, kiwoom) == kiwoom.token
    assert not any(name.endswith(b":lock") for name in shared.contents())


@forks
@pytest.mark.parametrize("kills", [40, pytest.param(1000, marks=pytest.mark.stress)])
def test_random_kills_leave_no_torn_value_no_lock_and_nothing_that_fails(shared, kiwoom, kills):
    """There are several pairs of keys, since the locks of Redis outlive their holders for a while."""
    accounts = [[f"appkey-{number}", f"secretkey-{number}"] for number in range(12)]
    for account in accounts:
        kiwoom.add_account(*account)
    with shared.program(kiwoom, timeout=0.5, max_delay=0.2) as program:
        program.tell("storm", kills, 7, accounts)
        assert program.hear("killed", kills) == [-signal.SIGKILL] * kills
        program.hear("storm")
    keys = {key(kiwoom, *account) for account in accounts}
    assert suffixes(shared, keys) <= {"", ".token", ".lock", ".write", ".tmp", ":lock"}
    with shared.program(kiwoom) as program:
        for account in accounts:
            program.fork(1, "use_after_storm", *account)
        for found, *then in program.hear("use_after_storm", len(accounts)):
            assert found in {"nothing", "a token"}
            assert then == [0, "a token", "nothing", "a token", 0]
        assert list(program.reap().values()) == [0] * len(accounts)
    assert all(is_free(shared.store(), name) for name in keys)
    assert suffixes(shared, keys) <= {"", ".token", ".lock", ".write"}


def suffixes(shared, keys):
    """What follows the keys in the names of what is kept; nothing else is kept there."""
    found = set()
    for name in map(os.fsdecode, shared.contents()):
        [suffix] = [name.rpartition(key)[2] for key in keys if key in name] or [""]
        found.add(suffix)
    return found


# Refused, invalidated, revoked


@forks
def test_a_refused_call_takes_the_token_that_another_process_has_got_since(shared, kiwoom):
    with shared.program(kiwoom) as one, shared.program(kiwoom) as other:
        assert one.do("call") == other.do("call") == 0
        kiwoom.revoke_tokens()
        assert other.do("call") == 0
        assert issues(kiwoom) == 2
        assert one.do("call") == 0
        assert one.do("get_token") == other.do("get_token") == kiwoom.token
        assert issues(kiwoom) == 2


@forks
def test_an_invalidated_token_is_not_used_by_a_process_that_starts_later(shared, kiwoom):
    with shared.program(kiwoom) as one, shared.program(kiwoom) as later:
        token = one.do("get_token")
        one.do("invalidate", token)
        assert later.do("get_token") == kiwoom.token != token
        assert issues(kiwoom) == 2


@forks
def test_a_process_without_a_token_revokes_that_of_another_one(shared, kiwoom):
    with shared.program(kiwoom) as one, shared.program(kiwoom) as other:
        one.do("get_token")
        other.do("revoke")
        assert len(kiwoom.calls("au10002")) == 1
        assert kiwoom.token is None
        assert opened(shared, kiwoom) is None
        other.do("revoke")
        assert len(kiwoom.calls("au10002")) == 1


# Event loops


class HeldStore:
    """A store each of whose operations waits until it is let go."""

    max_delay = PATIENCE

    def __init__(self):
        self.asked = []
        self.stuck = []
        self._values = {}
        self._may_go = threading.Semaphore(0)

    def let_one_go(self):
        self._may_go.release()

    def load(self, key):
        self._wait("load")
        return self._values.get(key)

    def save(self, key, value, _ttl):
        self._wait("save")
        self._values[key] = value

    def delete(self, key):
        self._wait("delete")
        self._values.pop(key, None)

    @contextlib.contextmanager
    def lock(self, _key, _timeout):
        self._wait("lock")
        yield
        self._wait("leave")

    def _wait(self, operation):
        self.asked.append(operation)
        if not self._may_go.acquire(timeout=PATIENCE / 4):
            self.stuck.append(operation)


async def let_go_in_steps(store, is_over):
    """Let one operation after the other go, each when the loop has gone on for some steps while it waits."""
    gone = 0
    with anyio.fail_after(PATIENCE):
        while not is_over():
            await checkpoint()
            if len(store.asked) > gone:
                for _ in range(50):
                    await checkpoint()
                gone += 1
                store.let_one_go()


@pytest.mark.anyio
async def test_the_loop_goes_on_while_the_store_blocks(kiwoom, make_auth):
    store = HeldStore()
    auth = make_auth(emulator=kiwoom, store=store)
    tokens = []

    async def ask():
        tokens.append(await auth.aget_token())

    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(ask)
        await let_go_in_steps(store, lambda: len(tokens) == 300)
    assert set(tokens) == {kiwoom.token}
    assert issues(kiwoom) == 1
    assert {"load", "lock", "save", "leave"} <= {*store.asked}
    assert not store.stuck


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["invalidate", "arevoke"])
async def test_the_loop_goes_on_while_a_store_blocks_that_is_to_forget(kiwoom, make_auth, how):
    store = HeldStore()
    auth = make_auth(emulator=kiwoom, store=store)
    ended = []

    async def forget():
        token = await auth.aget_token()
        if how == "arevoke":
            await auth.arevoke()
        else:
            auth.invalidate(token)
        ended.append(how)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(forget)
        await let_go_in_steps(store, lambda: ended and "delete" in store.asked and store.asked[-1] == "leave")
    store.let_one_go()
    await anyio.to_thread.run_sync(land)
    assert not store._values
    assert not store.stuck


# Nothing is told


def forms(secret):
    """What of a secret would be found, however it was written: the middle of it, which any longer part has in it."""
    middle = len(secret) // 2
    piece = secret.encode()[middle - 8 : middle + 8]
    yield piece
    yield piece[::-1]
    for encoding in ("utf-16-le", "utf-16-be"):
        yield piece.decode().encode(encoding)
    for digits in (piece.hex(), piece.hex().upper()):
        yield digits.encode()
        yield "".join(f"%{digits[at : at + 2]}" for at in range(0, len(digits), 2)).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):  # its bits may begin at three places within a digit
            whole = slice(math.ceil(before * 8 / 6), (before + len(piece)) * 8 // 6)
            yield encode(bytes(before) + piece)[whole]


def is_told(secret, text):
    return any(form in text for form in forms(secret))


@pytest.mark.parametrize("before", [b"", b"a", b"ab"])
@pytest.mark.parametrize(
    "write",
    [
        bytes,
        lambda text: text[::-1],
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda text: text.hex().encode(),
        lambda text: text.decode().encode("utf-16"),
        lambda text: "".join(f"%{digit:02X}" for digit in text).encode(),
    ],
)
def test_a_secret_that_is_written_down_would_be_found(write, before):
    secret = "~?>-secret-key-of-43-characters-~?>~?>~?>-x"
    assert is_told(secret, write(before + secret.encode() + b" and more"))
    assert not is_told(secret, write(before + b"something else, of some length, without any secret"))


def test_neither_token_nor_keys_are_found_in_what_is_shared(shared, kiwoom, make_auth):
    auth = make_auth(emulator=kiwoom, store=shared.store())
    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    with kiwoom.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        under_way = shared.contents()
    [token] = crowd.outcomes()
    assert opened(shared, kiwoom) == token == kiwoom.token
    for name, value in [*under_way.items(), *shared.contents().items()]:
        for secret in (token, kiwoom.appkey, kiwoom.secretkey):
            assert not is_told(secret, name + b" " + value)
