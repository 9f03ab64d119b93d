"""``FileStore``: whole values, locks that end with their holder, nothing trusted that others may have put there."""

import copy
import errno
import fcntl
import os
import pickle
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin.stores import _folder
from kiwoom_auth_plugin.stores._file import FileStore

from .crowd import PATIENCE, Crowd, run_python
from .file_store_program import Program

KEY = "ab" * 32
OTHER_KEY = "cd" * 32
OLD, NEW = b"the old token", b"the new token"
NOBODY = 65534


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "tokens"


@pytest.fixture
def store(directory):
    return FileStore(directory)


def token_file(directory):
    return directory / f"{KEY}.token"


def lock_file(directory):
    return directory / f"{KEY}.lock"


def told_by(raised):
    return raised.value.errno, raised.value.strerror, raised.value.filename


def write_file(directory):
    return directory / f"{KEY}.write"


def remnant(directory):
    return directory / f"{KEY}.tmp"


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def names(directory):
    return sorted(path.suffix for path in directory.iterdir())


def assert_free(store):
    with store.lock(KEY, PATIENCE):
        pass


def assert_held(store):
    with pytest.raises(TimeoutError), store.lock(KEY, 0):
        pass


def uses(store):
    """All that can be done with a store, each with one key."""
    return [store.load, store.delete, lambda key: store.save(key, NEW, 60), lambda key: store.lock(key, 1).__enter__()]


@pytest.fixture
def hasty(monkeypatch):
    """Time that passes only while somebody sleeps, and then at once; the seconds that were slept."""
    slept = []
    monkeypatch.setattr(time, "perf_counter", lambda: sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


# What may be found in a file's place. Each leaves, besides, a file that must stay as it is.


def link(place, outside):
    outside.write_bytes(OLD)
    outside.chmod(0o600)
    place.symlink_to(outside)


def dangling_link(place, outside):
    place.symlink_to(outside)


def hard_link(place, outside):
    outside.write_bytes(OLD)
    outside.chmod(0o600)
    place.hardlink_to(outside)


def pipe(place, outside):
    os.mkfifo(place, 0o600)


def unix_socket(place, outside):
    before = Path.cwd()
    os.chdir(place.parent)  # the names of sockets must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place.name)
    os.chdir(before)
    place.chmod(0o600)


def folder(place, outside):
    place.mkdir(0o700)


def foreign(place, outside):
    if os.geteuid() != 0:
        pytest.skip("only root may give files to others")
    place.write_bytes(OLD)
    place.chmod(0o600)
    os.chown(place, NOBODY, NOBODY)


def readable_by_others(place, outside):
    place.write_bytes(OLD)
    place.chmod(0o640)


def writable_by_others(place, outside):
    place.write_bytes(OLD)
    place.chmod(0o602)


WRONG = [link, dangling_link, hard_link, pipe, unix_socket, folder, foreign]
LOOSE = [readable_by_others, writable_by_others]


# Arguments


def test_the_default_directory_is_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "kiwoom_auth_plugin" in FileStore().directory.parts
    if sys.platform == "linux":
        assert FileStore().directory == tmp_path / "kiwoom_auth_plugin"


def test_a_tilde_is_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert FileStore("~/tokens").directory == tmp_path / "tokens"


def test_construction_touches_no_file(directory, monkeypatch):
    for function in ("open", "mkdir", "stat", "lstat"):
        monkeypatch.setattr(os, function, lambda *_arguments, **_named: pytest.fail("a file was touched"))
    FileStore(directory)
    monkeypatch.undo()
    assert not directory.exists()


@pytest.mark.parametrize("make", [link, dangling_link, pipe, unix_socket, foreign])
def test_construction_does_not_fail_because_of_the_directory(directory, make, tmp_path):
    make(directory, tmp_path / "outside")
    FileStore(directory)
    FileStore(directory / "below")


def test_a_relative_directory_is_that_of_the_working_directory_at_construction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FileStore("tokens")
    monkeypatch.chdir("/")
    store.save(KEY, NEW, 60)
    assert token_file(tmp_path / "tokens").read_bytes() == NEW


def test_without_a_working_directory_each_use_fails_and_construction_does_not(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    store = FileStore("tokens")
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
        store.save(KEY, NEW, 60)


@pytest.mark.parametrize("wrong", [b"/tmp", 3, object(), ["/tmp"]])
def test_a_directory_of_the_wrong_type_is_named(wrong):
    with pytest.raises(TypeError, match=r"^directory must be None, a string or a path of pathlib's$"):
        FileStore(wrong)


@pytest.mark.parametrize("wrong", ["", "a\0b"])
def test_an_impossible_directory_is_named(wrong):
    with pytest.raises(ValueError, match=r"^directory must"):
        FileStore(wrong)


@pytest.mark.parametrize("wrong", [True, "2", None, [2]])
def test_a_delay_of_the_wrong_type_is_named(directory, wrong):
    with pytest.raises(TypeError, match=r"^max_delay must"):
        FileStore(directory, max_delay=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 60.1, float("inf"), float("nan")])
def test_an_impossible_delay_is_named(directory, wrong):
    with pytest.raises(ValueError, match=r"^max_delay must"):
        FileStore(directory, max_delay=wrong)


@pytest.mark.parametrize("package", ["cryptography", "filelock", "platformdirs"])
def test_a_missing_library_is_named_at_construction(directory, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"the package {package}, .*pip install .*{package}>="):
        FileStore(directory)


def test_importing_the_module_imports_none_of_the_libraries():
    libraries = {"cryptography", "filelock", "platformdirs"}
    code = f"import sys, kiwoom_auth_plugin.stores._file; print({libraries} & {{*sys.modules}})"
    assert run_python(code).stdout == "set()\n"


def test_without_a_directory_the_cache_directory_of_the_user_is_meant(monkeypatch, tmp_path):
    """On Windows without a directory of an author's above it."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, appauthor: tmp_path / f"{appauthor}" / name)
    assert FileStore().directory == tmp_path / "False" / "kiwoom_auth_plugin"


def test_it_may_delay_an_exchange_for_two_seconds(directory):
    assert FileStore(directory).max_delay == 2.0


def test_its_repr_shows_the_directory(directory):
    assert repr(FileStore(directory)) == f"FileStore({str(directory)!r})"


def test_two_objects_for_one_directory_are_the_same_store(directory, tmp_path):
    assert FileStore(directory) == FileStore(str(directory), max_delay=1)
    assert len({FileStore(directory), FileStore(directory)}) == 1
    assert FileStore(directory) != FileStore(tmp_path)
    assert FileStore(directory) != directory
    kind = type("Kind", (FileStore,), {})
    assert kind(directory) == kind(directory)
    assert kind(directory) != FileStore(directory) != kind(directory)


@pytest.mark.parametrize("duplicate", [lambda store: pickle.loads(pickle.dumps(store)), copy.copy, copy.deepcopy])
def test_copies_and_pickles_are_the_same_store_even_while_it_is_locked(directory, duplicate):
    store = FileStore(directory, max_delay=1.5)
    store.save(KEY, NEW, 60)
    with store.lock(KEY, 1):
        other = duplicate(store)
        assert other == store
        assert other.max_delay == 1.5
        assert other.load(KEY) == NEW
        with pytest.raises(TimeoutError), other.lock(KEY, 0):
            pass


@pytest.mark.parametrize("wrong", ["", "../token", "AB", "a/b", "a.b", "a\n", "/etc/passwd", "g", "a" * 129, "٣"])
def test_a_key_that_is_none_leads_nowhere(store, directory, wrong):
    with pytest.raises(ValueError, match=r"^key must"):
        store.load(wrong)
    with pytest.raises(ValueError, match=r"^key must"):
        store.save(wrong, NEW, 60)
    with pytest.raises(ValueError, match=r"^key must"):
        store.delete(wrong)
    with pytest.raises(ValueError, match=r"^key must"), store.lock(wrong, 1):
        pass
    assert not directory.exists()


# Values


@settings(deadline=None, max_examples=50)
@given(value=st.binary() | st.binary(min_size=1, max_size=200).map(lambda part: part * 80), ttl=st.floats(0.001))
def test_a_value_comes_back_unchanged(tmp_path_factory, value, ttl):
    directory = tmp_path_factory.getbasetemp() / "round-trip"
    FileStore(directory).save(KEY, value, ttl)
    assert FileStore(directory).load(KEY) == value


def test_each_key_has_its_own_value(store):
    store.save(KEY, OLD, 60)
    store.save(OTHER_KEY, NEW, 60)
    store.delete(OTHER_KEY)
    assert (store.load(KEY), store.load(OTHER_KEY)) == (OLD, None)


def test_nothing_is_there_before_the_first_value(store, directory):
    assert store.load(KEY) is None
    store.delete(KEY)
    assert not directory.exists()


def test_deleting_forgets_the_value_and_what_a_killed_writer_left(store, directory):
    store.save(KEY, OLD, 60)
    remnant(directory).write_bytes(NEW)
    store.delete(KEY)
    store.delete(KEY)
    assert store.load(KEY) is None
    assert names(directory) == [".write"]


def test_the_largest_value_is_64_kib(store, directory):
    store.save(KEY, b"x" * 65536, 60)
    assert store.load(KEY) == b"x" * 65536
    with pytest.raises(ValueError, match=r"^value must be at most 64 KiB$"):
        store.save(KEY, b"x" * 65537, 60)
    with token_file(directory).open("ab") as file:
        file.write(b"x")
    with pytest.raises(OSError, match="too large") as raised:
        store.load(KEY)
    assert told_by(raised) == (errno.EFBIG, "is too large for a token: remove it", str(token_file(directory)))


def test_a_load_gets_the_old_value_whole_though_it_is_replaced_meanwhile(store, monkeypatch):
    store.save(KEY, OLD, 60)
    read = os.read

    def replaced_first(descriptor, size):
        monkeypatch.setattr(os, "read", read)
        store.save(KEY, NEW, 60)
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", replaced_first)
    assert store.load(KEY) == OLD
    assert store.load(KEY) == NEW


def test_a_write_that_takes_a_few_bytes_at_a_time_is_completed(store, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    store.save(KEY, NEW * 10, 60)
    assert store.load(KEY) == NEW * 10


# Modes and owners


@pytest.mark.parametrize("umask", ["0", "0o22", "0o777"])
def test_directory_and_files_are_private_whatever_the_umask(tmp_path, umask):
    directory = tmp_path / "above" / "tokens"
    code = f"""
os.umask({umask})
store.save(KEY, b"first", 60)
store.save(KEY, b"second", 60)
tell(store.load(KEY).decode())
replace = os.replace
def show_mode(old, new, **named):
    tell(oct(os.stat(old, dir_fd=named["src_dir_fd"]).st_mode))
    replace(old, new, **named)
os.replace = show_mode
store.save(KEY, b"third", 60)
with store.lock(KEY, 0):
    pass
"""
    with Program(directory, code) as program:
        assert program.rest() == "second\n0o100600"
    assert mode(directory) == 0o700
    assert mode(directory.parent) & 0o700 == 0o700
    assert names(directory) == [".lock", ".token", ".write"]
    assert [mode(path) for path in directory.iterdir()] == [0o600] * 3


OURS = ["token", "lock", "write", "tmp"]


@pytest.mark.parametrize("use", range(4), ids=["load", "delete", "save", "lock"])
@pytest.mark.parametrize("suffixes", [[], *([suffix] for suffix in OURS), OURS], ids="+".join)
@pytest.mark.parametrize("loose", [0o755, 0o710, 0o1777], ids=oct)
def test_a_loose_directory_that_is_empty_or_holds_only_our_files_is_tightened(store, directory, loose, suffixes, use):
    directory.mkdir()
    for suffix in suffixes:
        (directory / f"{OTHER_KEY}.{suffix}").touch(0o600)
    directory.chmod(loose)
    uses(store)[use](KEY)
    assert mode(directory) == 0o700


@pytest.mark.parametrize("use", range(4), ids=["load", "delete", "save", "lock"])
@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "token",
        ".token",
        "AB.token",
        "ab.tokens",
        "ab.txt",
        "a.b.token",
        "ab.token\n",
        "ab-token",
        "x/ab.lock",
    ],
)
@pytest.mark.parametrize("loose", [0o755, 0o1777], ids=oct)
def test_a_loose_directory_that_holds_something_else_is_neither_used_nor_changed(store, directory, loose, name, use):
    directory.mkdir()
    token_file(directory).write_bytes(OLD)
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).touch()
    directory.chmod(loose)
    before = sorted(directory.iterdir())
    with pytest.raises(PermissionError, match=f"Not trusted.*name a directory of its own.*{directory}"):
        uses(store)[use](KEY)
    assert mode(directory) == loose
    assert sorted(directory.iterdir()) == before
    assert token_file(directory).read_bytes() == OLD


def test_other_files_do_not_matter_in_a_directory_that_is_private(store, directory):
    directory.mkdir(0o700)
    (directory / "notes.txt").touch()
    store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW


def test_a_directory_that_cannot_be_tightened_is_not_trusted(store, directory, monkeypatch):
    """As on FAT: the change of the mode succeeds and does nothing."""
    directory.mkdir()
    directory.chmod(0o755)
    monkeypatch.setattr(os, "fchmod", lambda *_arguments: None)
    with pytest.raises(PermissionError, match=f"name another one.*{directory}"):
        store.load(KEY)


def strange(directory):
    """Somebody else's, as ``os.geteuid`` has it."""
    directory.mkdir(0o700)
    return directory, "it belongs to another user: name a directory of your own"


def shared(directory):
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "notes.txt").touch()
    return directory, "others can read it, and it holds other files: name a directory of its own"


def on_fat(directory):
    directory.mkdir()
    directory.chmod(0o755)
    return directory, "its file system keeps no modes, so others can read it: name another one"


def token_in(directory):
    directory.mkdir(0o700)
    token_file(directory).touch(0o600)
    return token_file(directory)


def fifo(directory):
    file = token_in(directory)
    file.unlink()
    os.mkfifo(file)
    return file, "it is not a plain file: remove it"


def strange_file(directory):
    if os.geteuid() != 0:
        pytest.skip("only root may give files to others")
    file = token_in(directory)
    os.chown(file, NOBODY, NOBODY)
    return file, "it belongs to another user: remove it"


def another_name(directory):
    file = token_in(directory)
    os.link(file, directory / "another")
    return file, "it is a hard link, there is another name for it: remove it"


def loose_file(directory):
    file = token_in(directory)
    file.chmod(0o644)
    return file, "other users may read or write it: remove it"


@pytest.mark.parametrize(
    "make",
    [strange, shared, on_fat, fifo, strange_file, another_name, loose_file],
    ids=lambda make: make.__name__,
)
def test_what_is_not_trusted_is_named_with_what_to_do(store, directory, monkeypatch, make):
    place, why = make(directory)
    if make is strange:
        another = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: another)
    if make is on_fat:
        monkeypatch.setattr(os, "fchmod", lambda *_arguments: None)
    with pytest.raises(PermissionError) as raised:
        store.load(KEY)
    assert told_by(raised) == (errno.EPERM, f"Not trusted, {why}", str(place))


def test_nothing_is_open_to_others_even_for_a_moment(tmp_path, monkeypatch):
    """Whatever the umask: the modes are right before they are made sure of."""
    seen = []
    change, change_path = os.fchmod, Path.chmod
    monkeypatch.setattr(os, "fchmod", lambda at, mode: (seen.append(os.fstat(at).st_mode), change(at, mode)))
    monkeypatch.setattr(Path, "chmod", lambda path, mode: (seen.append(path.stat().st_mode), change_path(path, mode)))
    before = os.umask(0)
    try:
        FileStore(tmp_path / "above" / "tokens").save(KEY, NEW, 60)
    finally:
        os.umask(before)
    assert {oct(stat.S_IMODE(mode)) for mode in seen} == {"0o700", "0o600"}


def test_files_are_taken_from_the_directory_that_was_checked_wherever_its_name_leads_later(directory, tmp_path):
    def token(content):
        token_in(directory).write_bytes(content)

    token(OLD)
    with _folder.Folder.entered(directory) as folder:
        directory.rename(tmp_path / "moved")
        token(NEW)
        with folder.open(token_file(directory).name, os.O_RDONLY) as descriptor:
            assert os.read(descriptor, 99) == OLD


def test_a_save_that_fails_says_why_though_its_remains_cannot_be_removed_either(store, monkeypatch):
    def full(*_arguments, **_options):
        monkeypatch.setattr(os, "unlink", stuck)
        raise OSError(errno.ENOSPC, "full")

    def stuck(*_arguments, **_options):
        raise OSError(errno.EIO, "stuck")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        store.save(KEY, NEW, 60)


@pytest.mark.parametrize("loose", [0o666, 0o640, 0o601], ids=oct)
def test_loose_lock_files_of_our_own_are_tightened(store, directory, loose):
    store.save(KEY, OLD, 60)
    assert_free(store)
    for file, use in (
        (lock_file(directory), lambda: assert_free(store)),
        (write_file(directory), lambda: store.save(KEY, NEW, 60)),
        (write_file(directory), lambda: store.delete(KEY)),
    ):
        file.chmod(loose)
        use()
        assert mode(file) == 0o600


def test_parents_may_be_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "parent").symlink_to(tmp_path / "real")
    FileStore(tmp_path / "parent" / "tokens").save(KEY, NEW, 60)
    assert FileStore(tmp_path / "real" / "tokens").load(KEY) == NEW


def a_file(place, outside):
    place.write_bytes(b"")


def link_to_directory(place, outside):
    outside.mkdir(0o700)
    place.symlink_to(outside)


def foreign_directory(place, outside):
    if os.geteuid() != 0:
        pytest.skip("only root may give directories to others")
    place.mkdir(0o755)
    os.chown(place, NOBODY, NOBODY)


@pytest.mark.parametrize(
    "make",
    [link_to_directory, dangling_link, a_file, pipe, unix_socket, foreign_directory],
    ids=lambda make: make.__name__,
)
def test_a_directory_that_is_not_to_be_trusted_is_not_used(store, directory, tmp_path, make):
    outside = tmp_path / "outside"
    make(directory, outside)
    before = directory.lstat()
    for use in uses(store):
        with pytest.raises(PermissionError, match=f"Not trusted.*(remove it|name a).*{directory}"):
            use(KEY)
    assert directory.lstat()[:8] == before[:8]
    assert not outside.exists() or not list(outside.iterdir())


@pytest.mark.parametrize("make", WRONG + LOOSE, ids=lambda make: make.__name__)
class TestInAFilesPlace:
    def test_nothing_is_loaded(self, store, directory, tmp_path, make):
        directory.mkdir(0o700)
        make(token_file(directory), tmp_path / "outside")
        with pytest.raises(PermissionError, match=f"Not trusted.*remove it.*{token_file(directory)}") as caught:
            store.load(KEY)
        assert OLD.decode() not in str(caught.value)

    def test_a_new_value_takes_the_place(self, store, directory, tmp_path, make):
        outside = tmp_path / "outside"
        directory.mkdir(0o700)
        make(token_file(directory), outside)
        if make is folder:
            with pytest.raises(IsADirectoryError, match=token_file(directory).name):
                store.save(KEY, NEW, 60)
            assert names(directory) == [".token", ".write"]
            return
        store.save(KEY, NEW, 60)
        assert store.load(KEY) == NEW
        assert not outside.exists() or outside.read_bytes() == OLD

    def test_a_remnant_is_removed_and_not_followed(self, store, directory, tmp_path, make):
        outside = tmp_path / "outside"
        directory.mkdir(0o700)
        make(remnant(directory), outside)
        if make is folder:
            with pytest.raises(OSError, match=str(remnant(directory))):
                store.save(KEY, NEW, 60)
            return
        store.save(KEY, NEW, 60)
        assert store.load(KEY) == NEW
        assert names(directory) == [".token", ".write"]
        assert not outside.exists() or outside.read_bytes() == OLD

    def test_it_is_deleted_and_not_followed(self, store, directory, tmp_path, make):
        outside = tmp_path / "outside"
        directory.mkdir(0o700)
        make(token_file(directory), outside)
        if make is folder:
            with pytest.raises(OSError, match=str(token_file(directory))):
                store.delete(KEY)
            return
        store.delete(KEY)
        assert names(directory) == [".write"]
        assert not outside.exists() or outside.read_bytes() == OLD


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_lock_file_that_is_not_to_be_trusted_is_not_used(store, directory, tmp_path, make):
    outside = tmp_path / "outside"
    directory.mkdir(0o700)
    make(lock_file(directory), outside)
    before = lock_file(directory).lstat()
    with (
        pytest.raises(PermissionError, match=f"Not trusted.*remove it.*{lock_file(directory)}"),
        store.lock(KEY, PATIENCE),
    ):
        pass
    assert names(directory) == [".lock"]
    store.save(KEY, NEW, 60)  # has no need of it
    assert store.load(KEY) == NEW
    assert lock_file(directory).lstat()[:8] == before[:8]
    assert (outside.read_bytes() == OLD) if make in {link, hard_link} else not outside.exists()


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_lock_file_of_writers_that_is_not_to_be_trusted_is_not_used(store, directory, tmp_path, make):
    store.save(KEY, OLD, 60)
    write_file(directory).unlink()
    outside = tmp_path / "outside"
    make(write_file(directory), outside)
    before = write_file(directory).lstat()
    for write in (lambda: store.save(KEY, NEW, 60), lambda: store.delete(KEY)):
        with pytest.raises(PermissionError, match=f"Not trusted.*remove it.*{write_file(directory)}"):
            write()
    assert names(directory) == [".token", ".write"]
    assert store.load(KEY) == OLD
    assert_free(store)  # has no need of it
    assert write_file(directory).lstat()[:8] == before[:8]
    assert (outside.read_bytes() == OLD) if make in {link, hard_link} else not outside.exists()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("use", range(4), ids=["load", "delete", "save", "lock"])
@pytest.mark.parametrize("what", ["directory", "file"])
def test_an_error_of_another_kind_is_passed_on(store, directory, monkeypatch, what, use, code):
    """EACCES among them: what belongs to others may deny it, and so may what is ours, or a directory above."""
    original = os.open

    def fail(path, *arguments, **named):
        if (os.fspath(path) == str(directory)) == (what == "directory"):
            raise OSError(code, os.strerror(code), path)
        return original(path, *arguments, **named)

    store.save(KEY, OLD, 60)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(OSError, match=f"{os.strerror(code)}.*{directory}") as caught:
            uses(store)[use](KEY)
    assert caught.value.errno == code
    assert "remove" not in str(caught.value)
    assert store.load(KEY) == OLD


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not list open descriptors")
def test_no_descriptor_is_left_open_or_handed_to_programs(store, directory, monkeypatch):
    def ours():
        descriptors = {}
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # that of the listing, which is over
                descriptors[int(entry.name)] = str(entry.readlink())
        return [descriptor for descriptor, name in descriptors.items() if str(directory) in name]

    store.save(KEY, OLD, 60)
    token_file(directory).chmod(0o640)
    with pytest.raises(PermissionError):
        store.load(KEY)
    token_file(directory).unlink()
    token_file(directory).mkdir()
    with pytest.raises(IsADirectoryError):
        store.save(KEY, NEW, 60)
    with store.lock(KEY, 1):
        assert [os.get_inheritable(descriptor) for descriptor in ours()] == [False]
        assert_held(FileStore(directory))
    assert ours() == []

    replace, inherited = os.replace, []

    def looked_at(*names, **named):
        inherited.extend(os.get_inheritable(descriptor) for descriptor in ours())
        with pytest.raises(TimeoutError):
            FileStore(directory).delete(KEY)
        replace(*names, **named)

    monkeypatch.setattr(os, "replace", looked_at)
    token_file(directory).rmdir()
    store.save(KEY, NEW, 60)
    assert inherited == [False, False]  # those of the directory and of the lock
    assert ours() == []


# Locks


def test_two_objects_of_one_process_exclude_each_other(directory):
    one, other = FileStore(directory), FileStore(directory)
    with one.lock(KEY, 1):
        with pytest.raises(TimeoutError), other.lock(KEY, 0):
            pass
        with other.lock(OTHER_KEY, 0):
            pass
    with other.lock(KEY, 0), pytest.raises(TimeoutError), one.lock(KEY, -1):
        pass


def test_a_lock_is_free_after_its_block_though_its_object_lives_on(store, monkeypatch):
    monkeypatch.setattr(FileLock, "__del__", lambda _lock: None)
    lock = store.lock(KEY, 1)
    with lock:
        store.save(KEY, NEW, 60)
        store.delete(KEY)
    with store.lock(KEY, 0):
        pass


def test_a_lock_is_free_after_an_error_in_its_block(store):
    with pytest.raises(ZeroDivisionError), store.lock(KEY, 1):
        raise ZeroDivisionError
    with store.lock(KEY, 0):
        pass


def test_an_error_of_its_block_comes_out_unchanged(store):
    ours = FileNotFoundError(errno.ENOENT, "no such file", "relative")
    with pytest.raises(FileNotFoundError) as caught, store.lock(KEY, 1):
        raise ours
    assert caught.value is ours
    assert ours.filename == "relative"


def test_a_lock_is_waited_for_twice_its_timeout(directory, hasty):
    with FileStore(directory).lock(KEY, 1):
        lock = FileStore(directory).lock(KEY, 4.0)
        with pytest.raises(TimeoutError), lock:
            pytest.fail("the lock is another's")
    assert sum(hasty) == pytest.approx(8.0, abs=0.1)
    assert max(hasty) <= 0.05
    assert lock.contended.is_set()


def test_a_lock_that_is_given_back_late_is_had(directory, hasty, monkeypatch):
    held = FileStore(directory).lock(KEY, 1)

    def sleep(seconds):
        if sum(hasty) < 7.5 <= sum(hasty) + seconds:
            held.__exit__(None, None, None)
        hasty.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    held.__enter__()
    with FileStore(directory).lock(KEY, 4.0):
        assert sum(hasty) == pytest.approx(7.5, abs=0.1)


def test_a_lock_tells_at_once_that_others_hold_it_and_does_not_tell_it_of_itself(directory):
    one, other = FileStore(directory).lock(KEY, 1), FileStore(directory).lock(KEY, PATIENCE)

    def wait():
        with other:
            return other.contended.is_set()

    crowd = Crowd()
    crowd.threads(1, wait)
    with one:
        assert not other.contended.is_set()
        crowd.go()
        assert other.contended.wait(PATIENCE)
    assert crowd.outcomes() == [True]
    assert not one.contended.is_set()


@pytest.mark.parametrize("timeout", [0, 1.0])
def test_a_lock_that_is_free_is_not_contended(store, timeout):
    for _ in range(2):
        lock = store.lock(KEY, timeout)
        assert not lock.contended.is_set()
        with lock:
            assert not lock.contended.is_set()
        assert not lock.contended.is_set()


def test_a_lock_that_cannot_be_had_for_another_reason_is_not_contended(store, directory):
    directory.write_bytes(b"")
    lock = store.lock(KEY, 1)
    with pytest.raises(PermissionError), lock:
        pass
    assert not lock.contended.is_set()


def test_writing_has_no_need_of_the_lock(directory):
    holder, other = FileStore(directory), FileStore(directory)
    with holder.lock(KEY, 1):
        for writer in (holder, other):
            writer.save(KEY, OLD, 60)
            assert other.load(KEY) == OLD
            writer.delete(KEY)
            assert other.load(KEY) is None
        crowd = Crowd()
        crowd.threads(1, lambda: holder.save(KEY, NEW, 60))
        assert crowd.go().outcomes() == [None]
        assert other.load(KEY) == NEW
        assert_held(other)
    assert names(directory) == [".lock", ".token", ".write"]


def test_writing_gives_up_while_another_writes(store, directory, hasty):
    store.save(KEY, OLD, 60)
    with FileLock(write_file(directory), thread_local=False):
        for write in (lambda: store.save(KEY, NEW, 60), lambda: store.delete(KEY)):
            hasty.clear()
            with pytest.raises(TimeoutError):
                write()
            assert sum(hasty) == pytest.approx(0.5, abs=0.1)
        hasty.clear()
        assert store.load(KEY) == OLD
        with store.lock(KEY, 0):
            store.save(OTHER_KEY, NEW, 60)
        assert not hasty
    store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW
    assert not hasty


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "an object each"])
def test_threads_that_write_exclude_each_other(directory, monkeypatch, shared):
    one, inside, alone = FileStore(directory), threading.Lock(), []
    replace = os.replace

    def watched(*names, **named):
        alone.append(inside.acquire(blocking=False))
        time.sleep(0.01)
        replace(*names, **named)
        inside.release()

    def write(value):
        (one if shared else FileStore(directory)).save(KEY, value, 60)

    monkeypatch.setattr(os, "replace", watched)
    crowd = Crowd()
    for number in range(4):
        crowd.threads(1, lambda value=NEW * 500 * (number + 1): write(value))
    with one.lock(KEY, 1):
        assert crowd.go().outcomes() == [None] * 4
    assert alone == [True] * 4
    assert one.load(KEY) in {NEW * 500 * (number + 1) for number in range(4)}
    assert names(directory) == [".lock", ".token", ".write"]


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "an object each"])
def test_threads_exclude_each_other(directory, shared):
    counter = directory.parent / "counter"
    counter.write_text("0")
    one = FileStore(directory)

    def count():
        store = one if shared else FileStore(directory)
        for _ in range(5):
            with store.lock(KEY, PATIENCE):
                counter.write_text(str(int(counter.read_text()) + 1))

    crowd = Crowd()
    crowd.threads(6, count)
    assert crowd.go().outcomes() == [None] * 6
    assert counter.read_text() == "30"


def test_a_file_system_without_locks_is_an_error_and_leaves_nothing_that_locks(store, directory, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        lock = store.lock(KEY, PATIENCE)
        with pytest.raises(OSError, match="not implemented"), lock:
            pass
        assert not lock.contended.is_set()
        for write in (lambda: store.save(KEY, NEW, 60), lambda: store.delete(KEY)):
            with pytest.raises(OSError, match="not implemented"):
                write()
    with store.lock(KEY, 0):
        store.save(KEY, NEW, 60)


# Processes


def test_processes_exclude_each_other(store, directory):
    with Program(directory, 'with store.lock(KEY, 60):\n    tell("held")\n    input()') as holder:
        assert holder.line() == "held"
        assert_held(store)
        holder.go_on()
        assert_free(store)
        assert holder.rest() == ""


def test_the_lock_of_a_killed_process_is_free_at_once(store, directory):
    with Program(directory, "with store.lock(KEY, 60):\n    stop_here()") as holder:
        assert holder.line() == "here"
        holder.kill()
        with store.lock(KEY, 0):
            pass


def test_a_process_that_is_stopped_under_the_lock_does_not_keep_others_from_writing(store, directory):
    with Program(directory, "with store.lock(KEY, 60):\n    stop_here()") as holder:
        assert holder.line() == "here"
        os.kill(holder.pid, signal.SIGSTOP)
        store.save(KEY, OLD, 60)
        store.delete(KEY)
        assert store.load(KEY) is None
        store.save(KEY, NEW, 60)
        assert store.load(KEY) == NEW
        assert_held(store)


WRITING = "os.replace = stop_here\nstore.save(KEY, b'of the other', 60)"


def test_processes_that_write_exclude_each_other(store, directory):
    store.save(KEY, OLD, 60)
    with Program(directory, WRITING) as writer:
        assert writer.line() == "here"
        with pytest.raises(TimeoutError):
            store.save(KEY, NEW, 60)
        with pytest.raises(TimeoutError):
            store.delete(KEY)
        assert names(directory) == [".tmp", ".token", ".write"]
        assert remnant(directory).read_bytes() == b"of the other"
        assert store.load(KEY) == OLD
        assert_free(store)
        store.save(OTHER_KEY, NEW, 60)
        writer.kill()
        store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW


FORKING = """
def fork_here(*_names, **_named):
    child = os.fork()
    if child == 0:
        stop_here()
    tell(child)
    signal.pause()
"""
FORKED = {
    "lock": FORKING + "with store.lock(KEY, 60):\n    fork_here()",
    "save": FORKING + "os.replace = fork_here\nstore.save(KEY, b'of the parent', 60)",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork does not exist on this platform")
@pytest.mark.parametrize("kind", FORKED)
def test_a_child_that_was_forked_under_a_lock_does_not_keep_it_when_its_parent_is_killed(store, directory, kind):
    def use():
        with store.lock(KEY, 0.25) if kind == "lock" else nullcontext(store.save(KEY, NEW, 60)):
            pass

    with Program(directory, FORKED[kind]) as parent:
        told = {parent.line(), parent.line()}
        child = int((told - {"here"}).pop())
        with pytest.raises(TimeoutError):
            use()
        parent.kill()
        try:
            use()
            os.kill(child, 0)  # it lives on
        finally:
            os.kill(child, signal.SIGKILL)


LEAVING_CHILD = """
with store.lock(KEY, 60):
    if os.fork() == 0:
        try:
            with store.lock(KEY, 0):
                tell("locked")
        except TimeoutError:
            tell("refused")
        store.save(KEY, b"of the child", 60)
    else:
        os.wait()
        tell("child left")
        input()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork does not exist on this platform")
def test_a_forked_child_holds_none_of_its_parents_locks_and_unlocks_none(store, directory):
    with Program(directory, LEAVING_CHILD) as parent:
        assert [parent.line(), parent.line()] == ["refused", "child left"]
        assert_held(store)
        assert store.load(KEY) == b"of the child"
        parent.go_on()
        assert parent.rest() == ""
    assert_free(store)


HAMMER = """
tell("ready")
input()
for number in range(1500):
    if number % 5 == 0:
        with suppress(TimeoutError):
            store.save(KEY, bytes([97 + number % 26]) * (1 + number * 37 % 16000), 60)
    value = store.load(KEY)
    if value is not None and len(set(value)) != 1:
        tell("torn")
tell("done")
"""


def test_no_process_sees_a_torn_value_though_several_write(directory):
    with Program(directory, HAMMER) as one, Program(directory, HAMMER) as other:
        assert (one.line(), other.line()) == ("ready", "ready")
        one.go_on()
        other.go_on()
        assert (one.rest(), other.rest()) == ("done", "done")
    assert names(directory) == [".token", ".write"]


HALF_A_WRITE = (
    "write = os.write\ndef half(descriptor, data):\n    write(descriptor, data[:5])\n    stop_here()\nos.write = half\n"
)


@pytest.mark.parametrize(
    "pause", ["os.replace = stop_here\n", HALF_A_WRITE], ids=["before the replacement", "in the middle of a write"]
)
def test_a_killed_writer_leaves_one_remnant_which_the_next_one_removes(store, directory, pause):
    store.save(KEY, OLD, 60)
    with Program(directory, pause + f"store.save(KEY, {NEW!r}, 60)") as writer:
        assert writer.line() == "here"
        assert store.load(KEY) == OLD
        writer.kill()
    assert names(directory) == [".tmp", ".token", ".write"]
    assert store.load(KEY) == OLD
    store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW
    assert names(directory) == [".token", ".write"]


KILLED = """
import random
chance = random.Random(7)

def work(progress):
    number = 0
    while True:
        number += 1
        with store.lock(KEY, 60):
            old = store.load(KEY)
            if old is not None and len(set(old)) != 1:
                os._exit(1)
            os.write(progress, b".")
            store.save(KEY, bytes([97 + number % 26]) * (1 + number * 997 % 16000), 60)
        os.write(progress, b".")

def start():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(writing)
        finally:
            os._exit(2)
    os.close(writing)
    return child, reading

workers = [start() for _ in range(3)]
for _ in range(100):
    child, reading = workers.pop(0)
    for _ in range(chance.randrange(1, 8)):
        os.read(reading, 1)
    os.kill(child, signal.SIGKILL)
    tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.close(reading)
    workers.append(start())
for child, reading in workers:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork does not exist on this platform")
def test_a_hundred_killed_processes_leave_no_torn_value_and_no_lock(store, directory):
    with Program(directory, KILLED) as program:
        assert program.rest().split() == [str(-signal.SIGKILL)] * 100
    assert len(set(store.load(KEY))) == 1
    with store.lock(KEY, 0):
        store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW
    assert names(directory) == [".lock", ".token", ".write"]


# Disks


def test_a_full_disk_leaves_the_old_value_and_no_remnant(disk):
    store = FileStore(disk / "tokens")
    store.save(KEY, OLD, 60)
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"x" * 4096):
            pass
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 4096)
    with pytest.raises(OSError, match="No space"):
        store.save(KEY, NEW * 500, 60)
    assert store.load(KEY) == OLD
    assert names(disk / "tokens") == [".token", ".write"]
    (disk / "filler").unlink()
    store.save(KEY, NEW * 500, 60)
    assert store.load(KEY) == NEW * 500


def test_a_read_only_disk_still_gives_the_value_and_refuses_the_rest(disk):
    store = FileStore(disk / "tokens")
    store.save(KEY, OLD, 60)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert store.load(KEY) == OLD
    assert store.load(OTHER_KEY) is None
    with pytest.raises(OSError, match="Read-only"):
        store.save(KEY, NEW, 60)
    with pytest.raises(OSError, match="Read-only"):
        store.delete(KEY)
    with pytest.raises(OSError, match="Read-only"), store.lock(KEY, PATIENCE):
        pass
    assert store.load(KEY) == OLD


LIMITED = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.save(KEY, b"x" * 5000, 60)
except OSError as error:
    tell(error.errno)
tell(store.load(KEY).decode())
store.save(KEY, b"y" * 1000, 60)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system does not limit the size of files")
def test_a_value_that_is_cut_off_leaves_the_old_one_and_no_remnant(store, directory):
    store.save(KEY, OLD, 60)
    with Program(directory, LIMITED) as program:
        assert program.line() == str(errno.EFBIG)
        assert program.line() == OLD.decode()
        assert program.rest() == ""
    assert store.load(KEY) == b"y" * 1000
    assert names(directory) == [".token", ".write"]


# Windows


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(_folder, "_POSIX", False)
    monkeypatch.setattr(_folder, "_RETRIES", 3)
    monkeypatch.setattr(_folder, "_PAUSE", 0)


def refused(monkeypatch, name, times):
    """Have a function of os refuse so often what concerns the token."""
    original, left = getattr(os, name), [None] * times

    def refuse(path, *rest, **named):
        if left and ".token" in f"{path}{rest}":
            left.pop()
            raise PermissionError(errno.EACCES, "The process cannot access the file", path)
        return original(path, *rest, **named)

    monkeypatch.setattr(os, name, refuse)
    return left


def test_the_way_of_windows_works_too(windows, store, directory):
    assert store.load(KEY) is None
    store.delete(KEY)
    with store.lock(KEY, 1):
        store.save(KEY, OLD, 60)
    store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW
    store.delete(KEY)
    assert store.load(KEY) is None
    assert names(directory) == [".lock", ".write"]


@pytest.mark.parametrize("function", ["replace", "open", "unlink"])
def test_what_windows_refuses_for_a_moment_is_tried_again(windows, store, monkeypatch, function):
    store.save(KEY, OLD, 60)
    left = refused(monkeypatch, function, 2)
    store.save(KEY, NEW, 60)
    assert store.load(KEY) == NEW
    store.delete(KEY)
    assert store.load(KEY) is None
    assert not left


def test_what_windows_refuses_for_long_is_an_error_and_the_old_value_stays(windows, store, directory, monkeypatch):
    store.save(KEY, OLD, 60)
    with monkeypatch.context() as patch:
        refused(patch, "replace", 4)
        with pytest.raises(PermissionError):
            store.save(KEY, NEW, 60)
    assert store.load(KEY) == OLD
    assert names(directory) == [".token", ".write"]
