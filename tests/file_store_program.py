"""Processes of their own that use a ``FileStore``, tell how far they have come, and can be killed there."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

PRELUDE = """
import os, signal, sys
from contextlib import suppress
from kiwoom_auth_plugin.stores import _file
from kiwoom_auth_plugin.stores._file import FileStore

KEY = "ab" * 32
store = FileStore(sys.argv[1])

def tell(*words, write=os.write):
    write(1, (" ".join(map(str, words)) + "\\n").encode())  # in one piece, whoever else writes

def stop_here(*_arguments, **_named):
    tell("here")
    signal.pause()
"""


class Program:
    """A few lines of Python that find ``store``, ``KEY``, ``tell`` and ``stop_here``; a context manager.

    Args:
        directory: the store's.
        code: the lines.
    """

    def __init__(self, directory: Path, code: str) -> None:
        command = [sys.executable, "-W", "error", "-c", PRELUDE + code, str(directory)]
        # Not measured: what is killed leaves broken records.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()  # not read to its end: a child of its own may live on

    def line(self) -> str:
        """The next line that it tells; empty if it has ended."""
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        """Give it a line to read."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def rest(self) -> str:
        """What else it tells until it ends, which must be well."""
        told, _ = self._process.communicate()
        assert self._process.returncode == 0
        return told.strip()

    def kill(self) -> None:
        """End it where it is, as the kernel does when there is no memory."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()
