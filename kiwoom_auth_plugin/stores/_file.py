"""``FileStore``: tokens shared through a directory of the user's, by processes on one machine."""

import errno
import os
import re
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ._folder import Folder
from ._protocol import Lock, checked_delay, require

_KEY = re.compile(r"[0-9a-f]{1,128}")
_SIZE_LIMIT = 64 * 1024
_POLL = 0.03
_WAIT_TO_WRITE = 0.5


class FileStore:
    """Shares tokens through files that only their owner can read: ``<key>.token`` and two locks for each key.

    The directory is made when it is needed, with mode 0700. It may not be a link and must belong to the user; the same
    holds for the files in it. Directories above it may be links. File modes and owners are not looked at on Windows,
    where the user's profile protects them.

    Args:
        directory: where the files are, ``~`` being the home directory; None: the user's cache directory,
            ``~/.cache/kiwoom_auth_plugin`` on Linux.
        max_delay: seconds that the store may delay an exchange with the token endpoint: more than 0, at most 60.

    Raises:
        ImportError: the extra ``[file]`` is not installed.
        RuntimeError: there is no home directory, in a container for instance: name a directory.
        TypeError: an argument has the wrong type.
        ValueError: an argument has an impossible value.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, max_delay: float = 2.0) -> None:
        require("file", "cryptography", "filelock", "platformdirs")
        if directory is None:
            from platformdirs import user_cache_path  # noqa: PLC0415 - of an extra

            directory = user_cache_path("kiwoom_auth_plugin", appauthor=False)
        path: Any = os.fspath(directory) if hasattr(directory, "__fspath__") else directory
        if not isinstance(path, str):
            raise TypeError("directory must be None, a string or a path of pathlib's")
        if not path or "\0" in path:
            raise ValueError("directory must be a path: not empty, no null characters")
        self.directory = Path(path).expanduser()
        """Where the files are."""
        with suppress(OSError):  # the working directory is gone
            self.directory = self.directory.absolute()
        self.max_delay = checked_delay(max_delay)
        """Seconds that the store may delay an exchange with the token endpoint."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileStore) or type(other) is not type(self):  # a subclass may keep it in another way
            return NotImplemented
        return self.directory == other.directory

    def __hash__(self) -> int:
        return hash(self.directory)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.directory, max_delay=self.max_delay), ()

    def load(self, key: str) -> bytes | None:
        """The value that was saved last; None where there is none.

        Args:
            key: the token's key, as ``TokenStore`` has it.

        Raises:
            OSError: what is there cannot be read or trusted; the message says what to mend.
            ValueError: the key is none.
        """
        name = _file_name(key, "token")
        try:
            with Folder.entered(self.directory) as folder, folder.open(name, os.O_RDONLY) as descriptor:
                value = b""
                while part := os.read(descriptor, _SIZE_LIMIT):
                    value += part
                    if len(value) > _SIZE_LIMIT:
                        raise OSError(errno.EFBIG, "is too large for a token: remove it", name)
        except FileNotFoundError:
            return None
        return value

    def save(self, key: str, value: bytes, ttl: float) -> None:  # noqa: ARG002 - the value itself says until when
        """Keep a value in place of the one before.

        Args:
            key: as above.
            value: at most 64 KiB.
            ttl: not used: an outdated file stays until the next one takes its place.

        Raises:
            OSError: it could not be written; the value before is still there.
            TimeoutError: others have been writing for half a second.
            ValueError: the key is none, or the value is too large.
        """
        name, temporary = _file_name(key, "token"), _file_name(key, "tmp")
        if len(value) > _SIZE_LIMIT:
            raise ValueError("value must be at most 64 KiB")
        with self._writing(key), Folder.entered(self.directory) as folder:
            folder.remove(temporary)  # a writer may have been killed here
            try:
                with folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                    rest = memoryview(value)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                folder.replace(temporary, name)
            except BaseException:
                with suppress(OSError):
                    folder.remove(temporary)
                raise

    def delete(self, key: str) -> None:
        """Forget the value; nothing happens where there is none.

        Args:
            key: as above.

        Raises:
            OSError: it could not be removed.
            TimeoutError: others have been writing for half a second.
            ValueError: the key is none.
        """
        names = [_file_name(key, "token"), _file_name(key, "tmp")]
        if os.path.lexists(self.directory):
            with self._writing(key), Folder.entered(self.directory) as folder:
                for name in names:
                    folder.remove(name)

    def lock(self, key: str, timeout: float) -> Lock:
        """The key's lock, which ends with its holder: at most one among all processes, threads and objects.

        Args:
            key: as above.
            timeout: seconds; it is waited for twice as long.

        Raises:
            OSError: the lock file cannot be used or trusted, or the file system has no locks.
            TimeoutError: others have held it for so long.
            ValueError: the key is none.
        """
        return Lock(partial(self._hold, _file_name(key, "lock"), 2 * timeout))

    def _writing(self, key: str) -> AbstractContextManager[None]:
        """The lock of those who write: another one, since a holder of the key's lock may have been stopped."""
        return self._hold(_file_name(key, "write"), _WAIT_TO_WRITE, lambda: None)

    @contextmanager
    def _hold(self, name: str, patience: float, contended: Callable[[], None]) -> Generator[None]:
        from filelock import FileLock, Timeout  # noqa: PLC0415 - of an extra

        with Folder.entered(self.directory, create=True) as folder, folder.open(name, os.O_RDWR | os.O_CREAT):
            pass  # it is there now, and to be trusted
        lock = FileLock(
            self.directory / name,
            mode=0o600,
            thread_local=False,
            fallback_to_soft=False,  # a soft lock would outlive a holder that is killed
            preserve_lock_file=True,
        )
        try:
            lock.acquire(timeout=0)
        except Timeout:
            contended()
            lock.acquire(timeout=max(patience, 0.0), poll_interval=_POLL)
        try:
            yield
        finally:
            lock.release()


def _file_name(key: str, suffix: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("key must be 1 to 128 hexadecimal digits in lower case")
    return f"{key}.{suffix}"
