"""What a security reviewer tried on stores without success: places that others may write to, values made to harm."""

import base64
import logging
import os
import stat

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("filelock")

from cryptography.fernet import Fernet

from kiwoom_auth_plugin._keys import Masked
from kiwoom_auth_plugin._seal import VERSION, Seal
from kiwoom_auth_plugin.stores import FileStore, RedisStore
from kiwoom_auth_plugin.testing import KiwoomEmulator

from .redis_server import RedisServer, needs_redis
from .shelf import Shelf

KEY = "ab" * 32
NOBODY = 65534


@pytest.fixture
def replacing():
    """A Kiwoom whose tokens change with each issue: a needless one shows."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def key_of(auth, clock):
    return Seal(auth._appkey, auth._host, Masked(auth._secretkey.source), clock).key


# A directory whose parent everybody may write to

posix_only = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no modes and no owners")
every_loose_parent = pytest.mark.parametrize("loose", [0o777, 0o1777], ids=["0777", "sticky"])


@pytest.fixture
def parent(tmp_path, loose):
    parent = tmp_path / "public"
    parent.mkdir()
    parent.chmod(loose)
    return parent


@posix_only
@every_loose_parent
def test_a_parent_that_all_may_write_to_will_do_and_what_is_made_in_it_is_private(parent, loose):
    store = FileStore(parent / "between" / "tokens")
    store.save(KEY, b"sealed", 60)
    with store.lock(KEY, 1):
        assert store.load(KEY) == b"sealed"
    assert mode(parent) == loose
    assert mode(parent / "between") == mode(parent / "between" / "tokens") == 0o700
    assert {mode(file) for file in (parent / "between" / "tokens").iterdir()} == {0o600}


def link(place, outside):
    place.symlink_to(outside)


def foreign(place, outside):
    if os.geteuid() != 0:
        pytest.skip("only root may give directories to others")
    outside.rename(place)
    os.chown(place, NOBODY, NOBODY)


def nothing(place, outside):
    pass


def file(place, outside):
    place.write_bytes(b"")


@posix_only
@every_loose_parent
@pytest.mark.parametrize("planted", [link, foreign, file, nothing], ids=lambda planted: planted.__name__)
def test_what_others_put_in_the_place_of_the_directory_is_not_used_and_calls_go_on(
    make_auth, replacing, clock, caplog, tmp_path, parent, planted
):
    """Without the sticky bit they may move it away; before it is made they may put theirs there in any case."""
    place, outside = parent / "tokens", tmp_path / "outside"
    outside.mkdir(0o700)
    store = FileStore(place, max_delay=30.0)
    first = make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token()
    place.rename(tmp_path / "moved")
    planted(place, outside)
    theirs = place if planted is foreign else outside
    for _ in range(3):
        assert make_auth(emulator=replacing, clock=clock, cache={}, store=store).get_token() == replacing.token
        clock.advance(60)
    assert replacing.token != first
    assert len(warnings(caplog)) == (0 if planted is nothing else 1)
    assert replacing.issued == (2 if planted is nothing else 4)
    assert list(theirs.iterdir()) == []


# What a store says


@pytest.mark.parametrize("kind", [OSError, ConnectionError, PermissionError, ValueError])
def test_what_a_store_says_stays_one_short_line(make_auth, replacing, clock, caplog, kind):
    shelf = Shelf()
    shelf.fail(kind("\r\nCRITICAL forged\x1b[2J\x00\u2028\u202e\ud800" * 50_000))
    assert make_auth(emulator=replacing, clock=clock, cache={}, store=shelf).get_token() == replacing.token
    (warning,) = warnings(caplog)
    assert warning.isprintable()
    assert len(warning) < 1000


# Redis keys of another type

OTHERS = {
    "list": lambda admin, name: admin.lpush(name, "a"),
    "hash": lambda admin, name: admin.hset(name, "a", "b"),
    "set": lambda admin, name: admin.sadd(name, "a"),
    "sorted set": lambda admin, name: admin.zadd(name, {"a": 1}),
    "stream": lambda admin, name: admin.xadd(name, {"a": "b"}),
}


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@needs_redis
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize("put", OTHERS.values(), ids=OTHERS)
def test_a_redis_value_of_another_type_costs_one_warning_and_is_replaced(
    server, make_auth, replacing, clock, caplog, put, decoded
):
    with server.client(decode_responses=decoded) as client, server.client() as admin:
        store = RedisStore(client, max_delay=30.0)

        def process():
            return make_auth(emulator=replacing, clock=clock, cache={}, store=store)

        name = f"kiwoom-auth:{key_of(process(), clock)}"
        put(admin, name)
        for _ in range(3):
            assert process().get_token() == replacing.token
            clock.advance(60)
        (warning,) = warnings(caplog)
        assert warning.endswith(": load: ResponseError: WRONGTYPE")
        assert replacing.issued == 1


def loose(file):
    file.chmod(0o644)


def too_large(file):
    file.write_bytes(b"x" * 70_000)


def a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def a_link(file):
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


@posix_only
@pytest.mark.parametrize("spoil", [loose, too_large, a_pipe, a_link])
def test_a_token_file_that_is_not_trusted_costs_one_warning_and_is_replaced(
    make_auth, replacing, clock, caplog, tmp_path, spoil
):
    store = FileStore(tmp_path / "tokens")

    def process():
        return make_auth(emulator=replacing, clock=clock, cache={}, store=store)

    process().get_token()
    (file,) = store.directory.glob("*.token")
    spoil(file)
    for _ in range(3):
        assert process().get_token() == replacing.token
        clock.advance(60)
    assert replacing.issued == 2
    assert len(warnings(caplog)) == 1
    assert mode(file) == 0o600


@needs_redis
@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "text"])
@pytest.mark.parametrize("put", OTHERS.values(), ids=OTHERS)
def test_a_redis_lock_of_another_type_is_taken_over(server, make_auth, replacing, clock, caplog, put, decoded):
    with server.client(decode_responses=decoded) as client, server.client() as admin:
        store = RedisStore(client, max_delay=30.0)

        def process():
            return make_auth(emulator=replacing, clock=clock, cache={}, store=store)

        lock = f"kiwoom-auth:{key_of(process(), clock)}:lock"
        put(admin, lock)
        assert {process().get_token() for _ in range(3)} == {replacing.token}
        assert (replacing.issued, warnings(caplog), admin.exists(lock)) == (1, [], 0)


# Values that are not what was sealed


def others_of(sealed):
    """What a store may give back instead, and is no token."""
    plain = base64.urlsafe_b64decode(sealed[len(VERSION) :])
    foreign = Fernet(Fernet.generate_key())
    yield from (sealed[:length] for length in range(len(sealed)))
    yield from (sealed[cut:] for cut in (1, len(VERSION), len(sealed) - 1))
    yield from (bytes([byte]) for byte in (0, 10, 32, 255))
    yield VERSION + foreign.encrypt(b'{"token": "theirs", "issued": 1.0, "life": 1.0, "dated": 1.0}')
    yield from (
        version + sealed[len(VERSION) :] for version in (b"kiwoom0.", b"kiwoom2.", b"KIWOOM1.", b"", b"kiwoom1")
    )
    yield from (before + sealed for before in (b" ", b"\n", b"\xef\xbb\xbf", VERSION))
    yield VERSION + base64.urlsafe_b64encode(plain + b"\x00")
    yield VERSION + base64.urlsafe_b64encode(b"\x81" + plain[1:])
    yield VERSION + base64.b32encode(plain)
    yield VERSION + plain
    yield VERSION + plain.hex().encode()
    yield VERSION + base64.urlsafe_b64encode(sealed)
    yield sealed.decode().encode("utf-16")


def spellings_of(sealed):
    """The same bytes, which nobody without the key can have made, spelt otherwise."""
    rest = sealed[len(VERSION) :]
    yield from (sealed + more for more in (b"\n", b" ", b"=", b"====", b"\x00", b"\xff"))
    yield VERSION + b" " + rest
    yield VERSION + rest[:50] + b"\r\n" + rest[50:]
    yield VERSION + rest.replace(b"-", b"+").replace(b"_", b"/")
    yield sealed.rstrip(b"=")


def processes_after(make_auth, replacing, clock, change):
    """Puts something else in the place of each sealed value; gives what the next process got, and the issues."""
    shelf = Shelf()

    def process():
        return make_auth(emulator=replacing, clock=clock, cache={}, store=shelf)

    for number in range(10**6):
        process().get_token()
        (key, sealed), issued = *shelf.values.items(), replacing.issued
        values = list(change(sealed))
        if number == len(values):
            return
        shelf.values[key] = values[number]
        token = process().get_token()
        yield values[number], token, replacing.issued - issued
        assert process().get_token() == token == replacing.token
        assert Seal(replacing.appkey, replacing.url, Masked(replacing.secretkey), clock).open(shelf.values[key])


def test_a_value_that_is_not_what_was_sealed_is_ignored_and_replaced(make_auth, replacing, clock, caplog):
    for value, _, issues in processes_after(make_auth, replacing, clock, others_of):
        assert (value, issues) == (value, 1)
    assert replacing.issued > 300
    assert warnings(caplog) == []


def test_a_sealed_value_spelt_otherwise_is_the_same_or_nothing(make_auth, replacing, clock, caplog):
    for value, _, issues in processes_after(make_auth, replacing, clock, spellings_of):
        assert (value, issues in {0, 1}) == (value, True)
    assert warnings(caplog) == []
