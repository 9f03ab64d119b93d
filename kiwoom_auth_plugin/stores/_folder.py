"""A directory, and the files in it, that can be trusted: nobody else's, no links, closed to other users."""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

_POSIX = hasattr(os, "geteuid")
# Windows lets no file be replaced, removed or opened for a moment while somebody else has it open.
_RETRIES, _PAUSE = (0 if _POSIX else 20), 0.01
# No link is followed, and no pipe waits for its other end.
_CAUTION = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_OURS = re.compile(r"[0-9a-f]+\.(token|lock|write|tmp)")
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
# How systems refuse to open a link, a socket, a directory or what belongs to others.
_REFUSALS = {errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO, errno.EOPNOTSUPP}


class Folder:
    """The directory as it was opened and checked: the files are taken from there, wherever its name leads later."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def entered(cls, path: Path, *, create: bool = False) -> Generator[Self]:
        """Open and check it, for as long as the block lasts; FileNotFoundError where it is missing.

        Args:
            path: where it is.
            create: whether to make it, with its parents, if it is missing.
        """
        if create:
            _make(path)
        descriptor = _open(path, os.O_RDONLY | _DIRECTORY, "directory") if _POSIX else None
        try:
            if descriptor is not None:
                _check_directory(path, descriptor)
            yield cls(path, descriptor)
        except OSError as error:
            if isinstance(error.filename, str):
                error.filename = str(path / error.filename)
            raise
        finally:
            if descriptor is not None:
                os.close(descriptor)

    @contextmanager
    def open(self, name: str, flags: int) -> Generator[int]:
        """A descriptor of a plain file that nobody else owns, may read or write, or has under another name."""
        descriptor = _patiently(lambda: _open(self._at(name), flags, "file", self._descriptor))
        try:
            if _POSIX:
                _check_file(name, descriptor, flags)
            yield descriptor
        finally:
            os.close(descriptor)

    def replace(self, old: str, new: str) -> None:
        """Give a file another's name and place."""
        at = self._descriptor
        _patiently(lambda: os.replace(self._at(old), self._at(new), src_dir_fd=at, dst_dir_fd=at))

    def remove(self, name: str) -> None:
        """Remove a file, or a link and not what it leads to; nothing happens where there is none."""
        with suppress(FileNotFoundError):
            _patiently(lambda: os.unlink(self._at(name), dir_fd=self._descriptor))

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self._path / name)


def _check_directory(path: Path, descriptor: int) -> None:
    if os.fstat(descriptor).st_uid != os.geteuid():
        raise _untrusted(path, "it belongs to another user: name a directory of your own")
    if _is_loose(descriptor):
        if not all(_OURS.fullmatch(name) for name in os.listdir(descriptor)):
            raise _untrusted(path, "others can read it, and it holds other files: name a directory of its own")
        os.fchmod(descriptor, 0o700)
        if _is_loose(descriptor):
            raise _untrusted(path, "its file system keeps no modes, so others can read it: name another one")


def _check_file(name: str, descriptor: int, flags: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _untrusted(name, "it is not a plain file: remove it")
    if status.st_uid != os.geteuid():
        raise _untrusted(name, "it belongs to another user: remove it")
    if status.st_nlink > 1:
        raise _untrusted(name, "it is a hard link, there is another name for it: remove it")
    if flags & os.O_CREAT:
        os.fchmod(descriptor, 0o600)  # whatever the umask took away
    elif _is_loose(descriptor):
        raise _untrusted(name, "other users may read or write it: remove it")


def _untrusted(path: str | Path, why: str) -> OSError:
    return OSError(errno.EPERM, f"Not trusted, {why}", str(path))


def _is_loose(descriptor: int) -> bool:
    return bool(os.fstat(descriptor).st_mode & 0o077)


def _open(path: str | Path, flags: int, kind: str, directory: int | None = None) -> int:
    try:
        return os.open(path, flags | _CAUTION, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise _untrusted(path, f"no plain {kind} of your own ({error.strerror}): remove it") from None


def _make(directory: Path) -> None:
    missing = takewhile(lambda part: not os.path.lexists(part), (directory, *directory.parents))
    for part in reversed(list(missing)):
        with suppress(FileExistsError):
            part.mkdir(0o700)
            part.chmod(0o700)  # whatever the umask took away


def _patiently(call: Callable[[], T]) -> T:
    for _ in range(_RETRIES):
        with suppress(PermissionError):
            return call()
        time.sleep(_PAUSE)
    return call()
