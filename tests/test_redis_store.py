"""``RedisStore`` against real servers: values, the lock and its lease, what clients and servers do to it."""

import contextlib
import itertools
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin.stores._redis import RedisStore

from .crowd import PATIENCE, Crowd, run_python
from .redis_server import ClusterServer, RedisServer, SentinelServer, TLSServer, free_port, needs_redis
from .test_fork import forks, in_a_fork

pytestmark = needs_redis
redis = pytest.importorskip("redis", reason="needs the package redis")

KEY = "0123456789abcdef" * 4
NAME = f"kiwoom-auth:{KEY}"
LOCK = f"{NAME}:lock"
LEASE = 60.0
KIB = 1024
METHODS = dict.fromkeys(["load", "save", "delete", "lock"], print)
PATIENT = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}


def once(**options):
    """Options of a client that gives up at once."""
    return {**options, "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)}


def use(store):
    """Call each method; true where all of them did what they are for."""
    with store.lock(KEY, LEASE):
        missing = store.load(KEY)
        store.save(KEY, b"sealed", LEASE)
        found = store.load(KEY)
        store.delete(KEY)
        return (missing, found, store.load(KEY)) == (None, b"sealed", None)


def is_held(store):
    """Whether somebody holds the lock; one look, no waiting."""
    impatient = RedisStore(store._client)
    impatient._monotonic = itertools.count(0.0, 2 * LEASE).__next__
    try:
        with impatient.lock(KEY, LEASE):
            return False
    except TimeoutError:
        return True


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
def admin(server):
    """A client beside the store's, which starts from an empty server."""
    with server.client(**PATIENT) as admin:
        admin.flushall()
        yield admin


@pytest.fixture
def client(server, admin):
    with server.client(**once(**PATIENT)) as client:
        yield client


@pytest.fixture
def store(client):
    return RedisStore(client)


def waiting(store):
    """An event that is set as soon as somebody waits for a lock of the store."""
    began = threading.Event()
    sleep = store._sleep

    def note(seconds):
        began.set()
        sleep(seconds)

    store._sleep = note
    return began


def sent_by(store, admin, call):
    """The commands that a call sends to the server, those of its scripts aside."""
    store._client.echo("connected")
    with admin.monitor() as monitor:
        call()
        store._client.echo("over")
        commands = iter(monitor.next_command, None)
        commands = list(itertools.takewhile(lambda command: command["command"] != "ECHO over", commands))
    return [command["command"] for command in commands if command["client_type"] != "lua"]


# Arguments


def test_the_libraries_are_not_imported_before_they_are_needed():
    done = run_python(
        "import sys, kiwoom_auth_plugin.stores._redis\nprint({'redis', 'cryptography'} & sys.modules.keys())"
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("library", ["redis", "cryptography"])
def test_a_missing_library_is_an_import_error_that_says_what_to_install(library, client, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf'package {library}.*pip install .*"redis>=5.0.1"$'):
        RedisStore(client)


def test_a_store_is_made_without_a_connection():
    with redis.Redis(host="127.0.0.1", port=free_port()) as away:
        RedisStore(away)


@pytest.mark.parametrize("lacking", ["getrange", "set", "delete", "eval"])
def test_a_client_lacks_no_method(lacking):
    methods = dict.fromkeys({"getrange", "set", "delete", "eval"} - {lacking}, print)
    with pytest.raises(TypeError, match=r"^client must be a Redis client"):
        RedisStore(SimpleNamespace(**methods))


def test_a_class_is_no_client():
    with pytest.raises(TypeError, match=r"^client must be a Redis client"):
        RedisStore(redis.Redis)


NO_PIPELINE = r"^client must be a Redis client, such as redis\.Redis\(\), not one of its pipelines$"


@pytest.mark.parametrize("options", [{}, {"transaction": False}], ids=["transaction", "no transaction"])
def test_a_pipeline_is_refused(client, options):
    with client.pipeline(**options) as pipeline, pytest.raises(TypeError, match=NO_PIPELINE):
        RedisStore(pipeline)


def test_a_pipeline_of_a_cluster_is_refused():
    with (
        ClusterServer() as server,
        redis.RedisCluster("127.0.0.1", server.port) as cluster,
        pytest.raises(TypeError, match=NO_PIPELINE),
    ):
        RedisStore(cluster.pipeline())


def test_a_pipeline_of_valkey_is_refused():
    valkey = pytest.importorskip("valkey", reason="needs the package valkey")
    with valkey.Valkey().pipeline() as pipeline, pytest.raises(TypeError, match=NO_PIPELINE):
        RedisStore(pipeline)


@pytest.mark.parametrize("kind", ["Redis", "RedisCluster"])
def test_an_asyncio_client_is_refused(kind):
    with pytest.raises(TypeError, match=r"^client must be a synchronous Redis client"):
        RedisStore(getattr(redis.asyncio, kind)(host="127.0.0.1", port=free_port()))


@pytest.mark.parametrize("namespace", ["a", "kiwoom-auth", "!~", "x" * 200])
def test_a_namespace_is_visible_ascii(client, namespace):
    assert RedisStore(client, namespace).namespace == namespace


@pytest.mark.parametrize("namespace", ["", "a b", "a\n", "\ta", "\x7f", "키움", "x" * 201])
def test_other_namespaces_are_refused(client, namespace):
    with pytest.raises(ValueError, match=r"^namespace must be 1 to 200 visible ASCII characters, without white space$"):
        RedisStore(client, namespace)


@pytest.mark.parametrize("namespace", [None, b"kiwoom-auth", 1])
def test_a_namespace_is_a_string(client, namespace):
    with pytest.raises(TypeError, match=r"^namespace must be a string$"):
        RedisStore(client, namespace)


@pytest.mark.parametrize("lacking", METHODS)
def test_a_fallback_is_a_store(client, lacking):
    with pytest.raises(TypeError, match=r"^fallback must be None or a store"):
        RedisStore(client, fallback=SimpleNamespace(**{name: print for name in METHODS if name != lacking}))


@pytest.mark.parametrize("max_delay", [0.001, 2, 60.0])
def test_the_greatest_delay_is_kept(client, max_delay):
    assert RedisStore(client, max_delay=max_delay).max_delay == max_delay


@pytest.mark.parametrize("max_delay", [0, -1, 60.1, float("inf"), float("nan"), 10**400])
def test_other_delays_are_refused(client, max_delay):
    with pytest.raises(ValueError, match=r"^max_delay must be more than 0"):
        RedisStore(client, max_delay=max_delay)


@pytest.mark.parametrize("max_delay", [True, "2", None])
def test_a_delay_is_a_number(client, max_delay):
    with pytest.raises(TypeError, match=r"^max_delay must be a number"):
        RedisStore(client, max_delay=max_delay)


def test_the_defaults_are_the_documented_ones(client):
    store = RedisStore(client)
    assert (store.namespace, store.fallback, store.max_delay) == ("kiwoom-auth", None, 2.0)


def test_a_fallback_is_kept_and_never_called(client):
    def fail(*_arguments):
        raise AssertionError

    fallback = SimpleNamespace(**dict.fromkeys(METHODS, fail))
    store = RedisStore(client, fallback=fallback)
    assert store.fallback is fallback
    assert use(store)
    client.rpush(NAME, "a list")
    with pytest.raises(redis.RedisError):
        store.load(KEY)


def test_the_repr_shows_the_namespace_and_no_password():
    with redis.Redis.from_url("redis://me:shown-0123@127.0.0.1/0") as client:
        assert repr(RedisStore(client, "farm")) == "RedisStore(namespace='farm')"


def test_stores_are_equal_that_have_the_same_client_and_settings(client, server):
    fallback = SimpleNamespace(**METHODS)  # it has no hash
    store = RedisStore(client, "farm", fallback, max_delay=1.0)
    assert store == RedisStore(client, "farm", fallback, max_delay=1)
    assert hash(store) == hash(RedisStore(client, "farm", fallback, max_delay=1))
    with server.client() as other:
        assert store != RedisStore(other, "farm", fallback, max_delay=1.0)
    assert store != RedisStore(client, "barn", fallback, max_delay=1.0)
    assert store != RedisStore(client, "farm", max_delay=1.0)
    assert store != RedisStore(client, "farm", fallback)
    assert store != "farm"
    kind = type("Kind", (RedisStore,), {})
    assert kind(client) == kind(client)
    assert kind(client) != RedisStore(client) != kind(client)


# Values


@pytest.mark.parametrize(
    "options",
    [{}, {"decode_responses": True}, {"decode_responses": True, "encoding": "cp949"}],
    ids=["bytes", "utf-8", "cp949"],
)
def test_what_is_saved_is_loaded(server, options):
    with server.client(**PATIENT, **options) as client:
        store = RedisStore(client)

        @settings(deadline=None, max_examples=40)
        @given(st.text(st.characters(max_codepoint=127), min_size=1, max_size=16 * 1024))
        def saved_and_loaded(value):
            store.save(KEY, value.encode(), LEASE)
            assert store.load(KEY) == value.encode()

        saved_and_loaded()


def test_the_names_of_the_keys_are_the_documented_ones(store, admin):
    with store.lock(KEY, LEASE):
        store.save(KEY, b"sealed", LEASE)
        assert set(admin.keys()) == {NAME.encode(), LOCK.encode()}


def test_namespaces_do_not_meet(client):
    farm, barn = RedisStore(client, "farm"), RedisStore(client, "barn")
    farm.save(KEY, b"sealed", LEASE)
    assert barn.load(KEY) is None
    with farm.lock(KEY, LEASE), barn.lock(KEY, LEASE):
        barn.delete(KEY)
    assert farm.load(KEY) == b"sealed"


def test_deleting_what_is_not_there_does_nothing(store):
    store.delete(KEY)


@pytest.mark.parametrize(("ttl", "milliseconds"), [(100.0009, 100_000), (100, 100_000), (0.0599, 59)])
def test_a_value_is_not_kept_longer_than_its_time(store, admin, ttl, milliseconds):
    assert sent_by(store, admin, lambda: store.save(KEY, b"sealed", ttl)) == [f"SET {NAME} sealed PX {milliseconds}"]
    assert admin.pttl(NAME) <= milliseconds
    assert admin.pttl(NAME) != -1  # without expiry


@pytest.mark.parametrize("ttl", [0.0001, 0, -1])
def test_a_value_that_is_as_good_as_expired_is_no_error(store, admin, ttl):
    assert sent_by(store, admin, lambda: store.save(KEY, b"sealed", ttl)) == [f"SET {NAME} sealed PX 1"]


def test_garbage_is_loaded_as_it_is(store, admin):
    admin.set(NAME, b"\xff\x00garbage")
    assert store.load(KEY) == b"\xff\x00garbage"


@pytest.mark.parametrize("lone", [False, True], ids=["pool", "one connection"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_garbage_that_the_client_would_decode_is_loaded_as_it_is(server, admin, errors, protocol, lone):
    with server.client(
        decode_responses=True, encoding_errors=errors, protocol=protocol, single_connection_client=lone, **PATIENT
    ) as client:
        store = RedisStore(client)
        admin.set(NAME, b"\xff\x00garbage")
        assert store.load(KEY) == b"\xff\x00garbage"
        store.save(KEY, b"sealed", LEASE)
        assert store.load(KEY) == b"sealed"


def test_an_empty_value_is_none(store, admin):
    admin.set(NAME, b"")
    assert store.load(KEY) is None


def test_a_value_of_64_kib_is_loaded_whole(store):
    value = b"1" * (64 * KIB - 1) + b"2"
    store.save(KEY, value, LEASE)
    assert store.load(KEY) == value


@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "text"])
def test_of_a_larger_value_no_more_is_read_than_tells_that_it_is_larger(server, admin, decoded):
    """Somebody else who may write there needs one command, SETRANGE, to make it 512 MiB."""
    with server.client(decode_responses=decoded, **PATIENT) as client:
        store = RedisStore(client)
        store.save(KEY, b"sealed", LEASE)
        admin.setrange(NAME, 5000 * KIB, b"x")
        assert store.load(KEY) == b"sealed".ljust(64 * KIB + 1, b"\0")
        admin.set(NAME, "키" * 64 * KIB)  # cut within a character
        assert store.load(KEY) == ("키" * 64 * KIB).encode()[: 64 * KIB + 1]
        assert use(RedisStore(client, "another"))
        store.save(KEY, b"sealed", LEASE)
        assert store.load(KEY) == b"sealed"


@pytest.mark.parametrize(
    "answer", [None, 5, True, bytearray(b"sealed"), ["sealed"]], ids=lambda answer: type(answer).__name__
)
def test_an_answer_that_is_no_value_is_a_type_error(answer):
    client = SimpleNamespace(getrange=lambda *_arguments: answer, set=print, delete=print, eval=print)
    with pytest.raises(TypeError, match=f"answered GETRANGE with a value of type {type(answer).__name__}$"):
        RedisStore(client).load(KEY)


# Clients and servers


def test_a_client_made_from_a_url_will_do(server, admin):
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert use(RedisStore(client))


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "text"])
def test_both_protocols_will_do(server, admin, protocol, decoded):
    with server.client(protocol=protocol, decode_responses=decoded, **PATIENT) as client:
        assert use(RedisStore(client))
        with RedisStore(client).lock(KEY, LEASE):
            assert is_held(RedisStore(client))


def test_a_client_of_valkey_will_do(server, admin):
    valkey = pytest.importorskip("valkey", reason="needs the package valkey")
    with valkey.Valkey(host="127.0.0.1", port=server.port, decode_responses=True) as client:
        assert use(RedisStore(client))
        with RedisStore(client).lock(KEY, LEASE):
            assert is_held(RedisStore(client))


def test_tls_will_do():
    with TLSServer() as server, server.client(ssl=True, ssl_ca_certs=server.ca, **PATIENT) as client:
        assert use(RedisStore(client))


def test_a_master_found_by_sentinel_will_do(server, admin):
    with SentinelServer(server) as sentinel:
        finder = redis.Sentinel([("127.0.0.1", sentinel.port)], **PATIENT)
        with finder.master_for("main", **PATIENT) as client:
            assert use(RedisStore(client))
        for known in finder.sentinels:
            known.close()


def test_a_cluster_will_do():
    with ClusterServer() as server:
        client = redis.RedisCluster(host="127.0.0.1", port=server.port, **PATIENT)
        with contextlib.closing(client):
            store = RedisStore(client)
            assert use(store)
            with store.lock(KEY, LEASE):
                assert is_held(store)


def test_a_user_who_may_do_no_more_than_five_commands_will_do(server, admin):
    admin.acl_setuser(
        "narrow", enabled=True, reset=True, passwords=["+secret"], keys=["kiwoom-auth:*"],
        commands=["+getrange", "+set", "+del", "+eval", "+pttl"],
    )  # fmt: skip
    with server.client(username="narrow", password="secret", **PATIENT) as client:
        store = RedisStore(client)
        assert use(store)
        with store.lock(KEY, LEASE):
            assert is_held(store)
        admin.set(LOCK, "without an end")
        assert use(store)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.exists(NAME)


def test_no_command_is_sent_that_is_not_needed(store, admin):
    sent = sent_by(store, admin, lambda: use(store))
    assert [command.split()[0] for command in sent] == [
        "SET", "GETRANGE", "SET", "GETRANGE", "DEL", "GETRANGE", "EVAL",
    ]  # fmt: skip


# The lock


def test_the_server_keeps_the_lock_for_the_lease(store, admin):
    with store.lock(KEY, LEASE):
        assert 0 < admin.pttl(LOCK) <= LEASE * 1000
    assert not admin.exists(LOCK)


@pytest.mark.parametrize("found", [False, True], ids=["free", "without an end"])
def test_threads_and_store_objects_exclude_each_other(server, admin, found):
    if found:
        admin.set(LOCK, "nobody's")
    with contextlib.ExitStack() as clients:
        stores = [RedisStore(clients.enter_context(server.client(**PATIENT))) for _ in range(3)]
        inside = threading.Lock()

        def enter(turn):
            with turn.lock(KEY, LEASE):
                alone = inside.acquire(blocking=False)
                turn.load(KEY)
                inside.release()
                return alone

        crowd = Crowd()
        for turn in stores * 2:
            crowd.threads(1, lambda turn=turn: enter(turn))
        assert crowd.go().outcomes() == [True] * 6


COUNTS = """
import sys
sys.path[:0] = {path!r}
import redis
from kiwoom_auth_plugin.stores._redis import RedisStore
with redis.Redis(host="127.0.0.1", port={port}) as client:
    store = RedisStore(client)
    for _ in range(5):
        with store.lock({key!r}, 60):
            store.save({key!r}, str(int(store.load({key!r}) or b"0") + 1).encode(), 60)
"""

HOLDS = """
import sys
sys.path[:0] = {path!r}
import redis
from kiwoom_auth_plugin.stores._redis import RedisStore
with RedisStore(redis.Redis(host="127.0.0.1", port={port})).lock({key!r}, 60):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_process(code, server):
    command = [sys.executable, "-c", code.format(path=sys.path, port=server.port, key=KEY)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_exclude_each_other(server, store):
    """Each counts in two steps, which only the lock makes one."""
    with contextlib.ExitStack() as stack:
        for process in [stack.enter_context(start_process(COUNTS, server)) for _ in range(3)]:
            assert process.wait(PATIENCE) == 0
    assert store.load(KEY) == b"15"


def test_the_lock_of_a_holder_that_died_ends_with_its_lease(server, store, admin):
    with start_process(HOLDS, server) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    began = waiting(store)
    crowd = Crowd()
    crowd.threads(1, lambda: use(store))
    crowd.go()
    assert began.wait(PATIENCE)
    assert admin.pexpire(LOCK, 1)
    assert crowd.outcomes() == [True]


def test_a_release_that_comes_too_late_leaves_the_next_holder_alone(store, admin):
    with contextlib.ExitStack() as next_holder:
        with store.lock(KEY, LEASE):
            assert admin.delete(LOCK)  # the lease is over
            next_holder.enter_context(store.lock(KEY, LEASE))
            nonce = admin.get(LOCK)
        assert admin.get(LOCK) == nonce
    assert not admin.exists(LOCK)


def test_a_release_after_the_lease_is_silent(store, admin):
    with store.lock(KEY, LEASE):
        admin.delete(LOCK)


def test_a_lock_whose_value_only_begins_with_our_nonce_is_not_ours(store, admin):
    with store.lock(KEY, LEASE):
        admin.append(LOCK, "x")
    assert len(admin.get(LOCK)) == 33


@pytest.mark.parametrize("left", [None, 25 * 3600 * 1000 + 60_000], ids=["no end", "an end in more than 25 hours"])
def test_a_lock_that_nobody_will_give_back_is_taken_over(store, admin, clock, left):
    """Whoever may write there could otherwise make each exchange wait, with a single command."""
    store._monotonic, store._sleep = lambda: clock.monotonic_time, clock._sleep
    admin.set(LOCK, "nobody's", px=left)
    lock = store.lock(KEY, LEASE)
    with lock:
        assert not lock.contended.is_set()
        assert len(admin.get(LOCK)) == 32
        assert 0 < admin.pttl(LOCK) <= LEASE * 1000
        assert is_held(store)
    assert not admin.exists(LOCK)


@pytest.mark.parametrize("timeout", [86_461.0, 1e6], ids=["the longest of ours", "longer"])
def test_a_lock_of_a_long_lease_is_not_taken_over(store, admin, timeout):
    with store.lock(KEY, timeout):
        assert admin.pttl(LOCK) > 86_400_000
        assert is_held(store)


def test_another_thread_may_release(store, admin):
    held = contextlib.ExitStack()
    held.enter_context(store.lock(KEY, LEASE))
    crowd = Crowd()
    crowd.threads(1, held.close)
    assert crowd.go().outcomes() == [None]
    assert not admin.exists(LOCK)


def test_nonces_are_not_repeated(store, admin):
    nonces = set()
    for _ in range(3):
        with store.lock(KEY, LEASE):
            nonces.add(admin.get(LOCK))
    assert len(nonces) == 3
    assert all(len(bytes.fromhex(nonce.decode())) == 16 for nonce in nonces)


def test_who_waits_gives_up_after_two_leases(store, admin, clock):
    store._monotonic, store._sleep = lambda: clock.monotonic_time, clock._sleep
    admin.set(LOCK, "another's", ex=60)
    lock = store.lock(KEY, 4.0)
    with pytest.raises(TimeoutError, match=r"^others have held the lock for 8 seconds$"), lock:
        pytest.fail("the lock is another's")
    assert lock.contended.is_set()
    assert sum(clock.slept) == pytest.approx(8.0)
    assert all(pause <= 0.2 for pause in clock.slept)
    assert clock.slept[0] <= 0.02
    assert all(pause >= 0.1 for pause in clock.slept[7:-1])
    assert len(set(clock.slept)) == len(clock.slept)
    assert admin.get(LOCK) == b"another's"


def test_who_waits_gets_the_lock_that_is_given_back(store, admin):
    began = waiting(store)
    crowd = Crowd()
    crowd.threads(1, lambda: use(store))
    with store.lock(KEY, LEASE):
        crowd.go()
        assert began.wait(PATIENCE)
    assert crowd.outcomes() == [True]


def test_a_lock_tells_that_others_hold_it_before_it_waits_and_does_not_tell_it_of_itself(store, admin):
    one, other = store.lock(KEY, LEASE), store.lock(KEY, LEASE)
    told, sleep = [], store._sleep

    def note(seconds):
        told.append(other.contended.is_set())
        sleep(seconds)

    def wait():
        with other:
            return other.contended.is_set()

    store._sleep = note
    crowd = Crowd()
    crowd.threads(1, wait)
    with one:
        assert not other.contended.is_set()
        crowd.go()
        assert other.contended.wait(PATIENCE)
    assert crowd.outcomes() == [True]
    assert set(told) == {True}
    assert not one.contended.is_set()


def test_a_lock_that_is_free_is_not_contended(store, admin):
    for _ in range(2):
        lock = store.lock(KEY, LEASE)
        assert not lock.contended.is_set()
        with lock:
            assert not lock.contended.is_set()
        assert not lock.contended.is_set()


def test_a_lock_that_cannot_be_had_for_another_reason_is_not_contended(store, admin):
    admin.config_set("maxmemory", 1)
    try:
        lock = store.lock(KEY, LEASE)
        with pytest.raises(redis.RedisError), lock:
            pytest.fail("the lock is no lock")
    finally:
        admin.config_set("maxmemory", 0)
    assert not lock.contended.is_set()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, redis.ConnectionError, TimeoutError])
def test_an_error_in_the_block_releases_the_lock_and_is_not_masked(store, admin, error):
    ours = error()
    with pytest.raises(error) as caught, store.lock(KEY, LEASE):
        raise ours
    assert caught.value is ours
    assert not admin.exists(LOCK)


def test_an_interrupt_of_who_waits_leaves_the_lock_alone(store, admin):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    store._sleep = interrupt
    admin.set(LOCK, "another's", ex=60)
    with pytest.raises(KeyboardInterrupt), store.lock(KEY, LEASE):
        pytest.fail("the lock is another's")
    assert admin.get(LOCK) == b"another's"


def lossy(when):
    """A connection that breaks after a command was carried out and before its answer arrives, as told."""

    class Connection(redis.Connection):
        def send_command(self, *command, **options):
            self.command = command
            super().send_command(*command, **options)

        def read_response(self, *arguments, **options):
            answer = super().read_response(*arguments, **options)
            if when(self.command):
                self.disconnect()
                raise redis.ConnectionError("lost")
            return answer

    return Connection


@contextlib.contextmanager
def lossy_store(server, when, retries):
    retrying = {"retry": redis.retry.Retry(redis.backoff.NoBackoff(), retries)}
    if retries:
        retrying["retry_on_error"] = [redis.ConnectionError]
    pool = redis.ConnectionPool(lossy(when), host="127.0.0.1", port=server.port, **retrying, **PATIENT)
    with redis.Redis(connection_pool=pool) as client:
        yield RedisStore(client)
    pool.disconnect()


def test_a_lock_is_ours_although_the_client_had_to_ask_twice(server, admin):
    """And its lease is a whole one, not what is left of the first one."""
    lost = []

    def when(command):
        if command[0] != "SET" or lost:
            return False
        lost.append(command)
        return admin.pexpire(LOCK, 5000)

    with lossy_store(server, when, retries=1) as store:
        lock = store.lock(KEY, LEASE)
        with lock:
            assert lost
            assert admin.pttl(LOCK) > 5000
            assert is_held(store)
            assert not lock.contended.is_set()  # it was ours all the time
        assert not admin.exists(LOCK)


def test_a_lock_whose_answer_is_lost_is_not_left_behind(server, admin):
    with (
        lossy_store(server, lambda command: command[0] == "SET", retries=0) as store,
        pytest.raises(redis.ConnectionError, match="lost"),
        store.lock(KEY, LEASE),
    ):
        pytest.fail("nobody knows whether the lock is ours")
    assert not admin.exists(LOCK)


def test_a_release_whose_answer_is_lost_is_an_error_after_a_block_that_succeeded(server, admin):
    done = []
    with lossy_store(server, lambda command: command[0] == "EVAL", retries=0) as store:
        with pytest.raises(redis.ConnectionError, match="lost"), store.lock(KEY, LEASE):
            done.append("all of the block")
        assert not admin.exists(LOCK)
        with pytest.raises(ZeroDivisionError), store.lock(KEY, LEASE):
            raise ZeroDivisionError
    assert done == ["all of the block"]
    assert not admin.exists(LOCK)


def test_a_release_that_the_server_refuses_is_an_error_and_the_lease_ends_the_lock(server, admin):
    """As for a user who may not do EVAL: without an error nobody would know why all others wait."""
    admin.acl_setuser(
        "narrower", enabled=True, reset=True, passwords=["+secret"], keys=["kiwoom-auth:*"],
        commands=["+getrange", "+set", "+del"],
    )  # fmt: skip
    with server.client(username="narrower", password="secret", **once(**PATIENT)) as client:
        store = RedisStore(client)
        with pytest.raises(redis.exceptions.NoPermissionError), store.lock(KEY, LEASE):
            store.save(KEY, b"sealed", LEASE)
        assert store.load(KEY) == b"sealed"
        assert 0 < admin.pttl(LOCK) <= LEASE * 1000
        admin.delete(LOCK)
        with pytest.raises(ZeroDivisionError), store.lock(KEY, LEASE):
            raise ZeroDivisionError


# What goes wrong


def test_another_kind_of_value_is_an_error_until_it_is_gone(store, admin):
    admin.lpush(NAME, "a list")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        store.load(KEY)
    admin.delete(NAME)
    assert use(store)


def test_a_lock_that_is_no_string_is_taken_over_unless_it_ends_soon(store, admin, clock):
    admin.lpush(LOCK, "a list")
    with store.lock(KEY, LEASE):
        assert admin.type(LOCK) in {b"string", "string"}
    assert not admin.exists(LOCK)
    admin.sadd(LOCK, "a set")
    admin.pexpire(LOCK, 3_600_000)
    with pytest.raises(TimeoutError), store.lock(KEY, 0.0):
        pytest.fail("the lock is held")
    assert admin.exists(LOCK)


def refused_by(store):
    """The kind of error that saving and locking both end with."""
    with pytest.raises(redis.RedisError) as saving:
        store.save(KEY, b"sealed", LEASE)
    with pytest.raises(redis.RedisError) as locking, store.lock(KEY, LEASE):
        pytest.fail("nothing can be locked")
    assert saving.type is locking.type
    return saving.type


def test_a_server_without_memory_is_an_error_until_it_has_some(store, admin):
    store.save(KEY, b"before", LEASE)
    admin.config_set("maxmemory", 1)
    try:
        assert issubclass(refused_by(store), redis.ResponseError)
        assert store.load(KEY) == b"before"
        store.delete(KEY)
    finally:
        admin.config_set("maxmemory", 0)
    assert use(store)


def test_a_lock_is_released_where_there_is_no_memory(store, admin):
    with store.lock(KEY, LEASE):
        admin.config_set("maxmemory", 1)
    admin.config_set("maxmemory", 0)
    assert not admin.exists(LOCK)


def test_a_replica_is_an_error_until_it_is_a_master(store, admin):
    admin.replicaof("127.0.0.1", str(free_port()))
    try:
        assert refused_by(store) is redis.exceptions.ReadOnlyError
    finally:
        admin.replicaof("NO", "ONE")
    assert use(store)


def test_a_missing_password_is_an_error():
    with RedisServer("--requirepass", "secret") as server:
        with server.client(**once(**PATIENT)) as client:
            assert issubclass(refused_by(RedisStore(client)), redis.AuthenticationError)
        with server.client(password="secret", **PATIENT) as client:
            assert use(RedisStore(client))


def test_a_server_that_is_away_is_an_error_until_it_is_back():
    with RedisServer() as server, server.client(**once(**PATIENT)) as client:
        store = RedisStore(client)
        assert use(store)
        server.kill()
        assert refused_by(store) is redis.ConnectionError
        with pytest.raises(redis.ConnectionError):
            store.load(KEY)
        server.restart()
        assert use(store)


def test_a_server_that_ends_under_the_lock_is_an_error_unless_there_is_another():
    with RedisServer() as server, server.client(**once(**PATIENT)) as client:
        store = RedisStore(client)
        with pytest.raises(redis.ConnectionError), store.lock(KEY, LEASE):
            server.kill()
        server.restart()
        with pytest.raises(ZeroDivisionError), store.lock(KEY, LEASE):
            raise ZeroDivisionError(server.kill())
        server.restart()
        assert use(store)


def test_a_server_that_ends_is_an_error_to_who_waits():
    with RedisServer() as server, server.client(**once(**PATIENT)) as client:
        store = RedisStore(client)
        began = waiting(store)
        crowd = Crowd()
        crowd.threads(1, lambda: use(store))

        def end_under_the_lock():
            with store.lock(KEY, LEASE):
                crowd.go()
                assert began.wait(PATIENCE)
                server.kill()

        with pytest.raises(redis.ConnectionError):
            end_under_the_lock()
        assert [type(outcome) for outcome in crowd.outcomes()] == [redis.ConnectionError]


def test_a_server_that_hangs_is_an_error_by_the_clients_timeout(server, admin):
    with server.client(**once(socket_timeout=0.05)) as client:
        store = RedisStore(client)
        server.pause()
        try:
            assert refused_by(store) is redis.TimeoutError
        finally:
            server.resume()
        admin.flushall()
    with server.client(**PATIENT) as client:
        assert use(RedisStore(client))


def test_one_command_that_hangs_does_not_hold_up_the_others(server, admin):
    """A connection may hang that nobody answers any more; the pool has others."""
    reading, go_on = threading.Event(), threading.Event()

    def when(command):
        if command[:2] == ("GETRANGE", f"kiwoom-auth:{'f' * 64}".encode()):
            reading.set()
            assert go_on.wait(PATIENCE)
        return False

    with lossy_store(server, when, retries=0) as store:
        hanging, others = Crowd(), Crowd()
        hanging.threads(1, lambda: store.load("f" * 64))
        others.threads(1, lambda: use(store))
        hanging.go()
        assert reading.wait(PATIENCE)
        try:
            assert others.go().outcomes() == [True]
        finally:
            go_on.set()
        assert hanging.outcomes() == [None]


# One connection, and forks


@pytest.fixture(params=[False, True], ids=["pool", "one connection"])
def any_store(server, admin, request):
    with server.client(single_connection_client=request.param, **PATIENT) as client:
        yield RedisStore(client)


def test_threads_may_share_a_client(any_store):
    keys = [f"{number:064x}" for number in range(4)]

    def echo(key):
        for _ in range(50):
            any_store.save(key, key.encode(), LEASE)
            assert any_store.load(key) == key.encode()

    crowd = Crowd()
    for key in keys:
        crowd.threads(1, lambda key=key: echo(key))
    assert crowd.go().outcomes() == [None] * 4


def test_one_connection_is_not_held_while_a_lock_is_waited_for(any_store):
    began = waiting(any_store)
    crowd = Crowd()
    with any_store.lock(KEY, LEASE):
        crowd.threads(1, lambda: use(any_store))
        crowd.go()
        assert began.wait(PATIENCE)
        assert any_store.load(KEY) is None
    assert crowd.outcomes() == [True]


def test_the_one_connection_of_another_process_is_not_used(server, admin):
    with server.client(single_connection_client=True, **PATIENT) as client:
        store = RedisStore(client)
        parents = client.client_id()
        store._pid = 0  # as if this were a forked child of that process
        assert use(store)
        own = client.client_id()
        assert use(store)
        assert client.client_id() == own != parents


@forks
def test_a_child_and_its_parent_use_connections_of_their_own(any_store):
    def connection():
        return use(any_store) and any_store._client.client_id()

    mine = connection()
    assert in_a_fork(connection) not in {"False", str(mine)}
    assert connection() == mine


@forks
def test_a_child_forked_while_commands_are_under_way_does_not_disturb_them(store):
    """Of a client with a pool: those with one connection have a lock of their own, which the child finds locked."""

    def ask(key):
        for _ in range(50):
            store.save(key, key.encode(), LEASE)
            assert store.load(key) == key.encode()
        return use(store)

    crowd = Crowd()
    crowd.threads(1, lambda: in_a_fork(lambda: ask("c" * 64)))
    crowd.threads(1, lambda: ask("d" * 64))
    assert set(crowd.go().outcomes()) == {"True", True}


@forks
def test_the_mutex_of_a_store_is_free_in_the_child(any_store):
    with any_store._mutex.lock:
        crowd = Crowd()
        crowd.threads(1, lambda: in_a_fork(lambda: use(any_store)))
        assert crowd.go().outcomes() == ["True"]


@forks
def test_a_lock_that_the_parent_holds_is_held_for_the_child(any_store):
    with any_store.lock(KEY, LEASE):
        assert in_a_fork(lambda: is_held(any_store)) == "True"
    assert in_a_fork(lambda: is_held(any_store)) == "False"
