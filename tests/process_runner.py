"""``Program``: the program of ``process_program.py`` as a test runs it; and what the programs share."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from kiwoom_auth_plugin.stores import FileStore, RedisStore

from .crowd import PATIENCE

PROGRAM = Path(__file__).with_name("process_program.py")


class Program:
    """A program of its own that uses a store. A context manager, which neither it nor a child of its own outlives.

    Args:
        keys: ``appkey``, ``secretkey`` and ``host``.
        store: what the store is made of.
        options: of its auth objects.
    """

    def __init__(self, keys: dict[str, str], store: dict[str, Any], options: dict[str, Any]) -> None:
        self._plan = {**keys, "store": store, "options": options, "lifetime": PATIENCE}
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._heard: defaultdict[str, deque[tuple[int, Any]]] = defaultdict(deque)
        self._expected: list[str] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", "-W", "error", str(PROGRAM), json.dumps(self._plan)]
        # Not measured: what is killed leaves broken records.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        self._complaints = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE / 2)  # it ends its children and reaps them
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._complaints.seek(0)
        complaints = self._complaints.read().decode()
        self._complaints.close()
        if kind is None:
            lines = complaints.splitlines()
            assert len(lines) == len(self._expected), complaints
            assert all(expected in line for expected, line in zip(self._expected, lines, strict=True)), complaints
            assert not self._reader.is_alive(), "a child of the program lives on"

    def expect(self, complaint: str) -> None:
        """Have it complain of this once, in a line on standard error, after what was expected before."""
        self._expected.append(complaint)

    def tell(self, *what: Any) -> None:
        """Tell it to do something."""
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, word: str, number: int = 1) -> list[Any]:
        """Wait until it, or its children, have told so often what is called this; the values, in their order."""
        return [value for _pid, value in self.hear_from(word, number)]

    def hear_from(self, word: str, number: int = 1) -> list[tuple[int, Any]]:
        """The same, each with the process that told it."""
        while len(self._heard[word]) < number:
            told, pid, value = self._next(f"{len(self._heard[word])} of {number} have told {word!r}")
            if told == "failed":
                raise AssertionError(f"process {pid} failed:\n{value}")
            self._heard[told].append((pid, value))
        return [self._heard[word].popleft() for _ in range(number)]

    def do(self, act: str, *what: Any) -> Any:
        """Have it do something itself; what comes of it."""
        self.tell("here", act, *what)
        return self.hear(act)[0]

    def fork(self, number: int, act: str, *what: Any) -> list[int]:
        """Have so many children do something, all at once; their numbers."""
        self.tell("fork", number, act, *what)
        return self.hear("forked")[0]

    def reap(self) -> dict[int, int]:
        """Wait for the end of all children; the exit status of each."""
        self.tell("reap")
        return {int(pid): status for pid, status in self.hear("reaped")[0].items()}

    def rest(self) -> list[str]:
        """What else it tells until it ends, which must be well: the words, in their order."""
        words = []
        while (line := self._lines.get(timeout=PATIENCE)) != b"":
            words.append(json.loads(line)[0])
        assert self._process.wait(PATIENCE) == 0
        self._lines.put(b"")
        return words

    def _next(self, state: str) -> Any:
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"nothing more comes: {state}") from None
        assert line, f"it has ended: {state}"
        return json.loads(line)

    def _read(self) -> None:
        with self._process.stdout as pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put(b"")


class Shared:
    """What the processes of a test share.

    Args:
        what: the arguments of the store, in a form that can be told to a program.
        make: makes a store of them here.
        contents: all that is kept there, by name.
    """

    def __init__(
        self,
        what: dict[str, Any],
        make: Callable[..., FileStore | RedisStore],
        contents: Callable[[], dict[bytes, bytes]],
    ) -> None:
        self.what = what
        self.store = make
        self.contents = contents

    def program(self, kiwoom: Any, *, max_delay: float = 2.0, **options: Any) -> Program:
        """A program that uses the store with an emulator's keys."""
        keys = {"appkey": kiwoom.appkey, "secretkey": kiwoom.secretkey, "host": kiwoom.url}
        return Program(keys, {**self.what, "max_delay": max_delay}, options)
