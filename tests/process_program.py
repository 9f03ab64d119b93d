"""The program that the tests of processes run: it does as told on standard input, itself or in children that it forks.

It reads lines of JSON, ``[how, ...]``, and tells lines of JSON, ``[word, process, value]``. While it forks it has one
thread, and its children find themselves as if just started, all imports done.

``["here", act, ...]``: do it, and tell what comes of it. ``["last", act, ...]``: the same, and end at once after it.
``["fork", number, act, ...]``: do it in so many children, which start together. ``["reap"]``: wait for the children,
and for theirs, and tell how each has ended. ``["storm", ...]``: kill children. The end of the input ends it all.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import requests

from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin._clock import SYSTEM
from kiwoom_auth_plugin._keys import Masked
from kiwoom_auth_plugin._seal import Seal
from kiwoom_auth_plugin.stores import FileStore, RedisStore

TR = "/api/dostk/stkinfo"
TR_HEADERS = {"api-id": "ka10001", "Content-Type": "application/json;charset=UTF-8"}
REVOKE = "/oauth2/revoke"
REVOKE_HEADERS = {"api-id": "au10002", "Content-Type": "application/json;charset=UTF-8"}

_write = os.write


def main() -> None:
    """Do as told until the end of the input."""
    _adopt_orphans()
    for kind in (FileStore, RedisStore):
        _watch(kind)
    tell("ready")
    try:
        for line in iter(sys.stdin.buffer.readline, b""):
            how, *what = json.loads(line)
            signal.alarm(LIFETIME)
            HOWS[how](*what)
            signal.alarm(0)
    finally:
        _end_children()


def tell(word: str, value: Any = None) -> None:
    """Tell something in one piece, whoever else writes."""
    _write(1, json.dumps([word, os.getpid(), value]).encode() + b"\n")


def _watch(kind: Any) -> None:
    """Have a kind of store tell when somebody asks for a lock, and when one that was held has been let go."""
    lock = kind.lock

    @contextlib.contextmanager
    def telling(held: Any) -> Any:
        with held:
            yield
        tell("left")

    def told(self: Any, key: str, timeout: float) -> Any:
        tell("asks")
        asked = lock(self, key, timeout)
        asked._held = telling(asked._held)  # in it, so that it tells as well whether it is others that it waits for
        return asked

    kind.lock = told


# What it works with


def make_store() -> Any:
    """A store as the test has described it."""
    options = dict(PLAN["store"])
    if "directory" in options:
        return FileStore(**options)
    import redis

    # Its pool closes when the program ends, whatever became of it meanwhile.
    return RedisStore(redis.Redis(port=options.pop("port")), **options)


def make_auth(appkey: str | None = None, secretkey: str | None = None, **options: Any) -> KiwoomBearerAuth:
    """An auth object as the test has described it, with these keys if it has several pairs."""
    keys = (appkey or PLAN["appkey"], secretkey or PLAN["secretkey"])
    return KiwoomBearerAuth(*keys, host=PLAN["host"], store=make_store(), **PLAN["options"], **options)


@cache
def own_auth() -> KiwoomBearerAuth:
    """The process's own auth object; a child has its parent's if that has made one."""
    return make_auth()


def post(auth: KiwoomBearerAuth) -> int:
    """The return code of a call."""
    answer = requests.post(PLAN["host"] + TR, json={"stk_cd": "005930"}, headers=TR_HEADERS, auth=auth, timeout=30)
    code: int = answer.json()["return_code"]
    return code


def stored(appkey: str, secretkey: str) -> str:
    """What the store has for these keys: ``"nothing"``, ``"a token"``, or ``"rubbish"``."""
    seal = Seal(appkey, PLAN["host"], Masked(secretkey), SYSTEM)
    value = make_store().load(seal.key)
    return "nothing" if value is None else "rubbish" if seal.open(value) is None else "a token"


def land() -> None:
    """Wait for the threads of the package that outlive a call."""
    for thread in threading.enumerate():
        if thread.name.startswith("kiwoom-auth"):
            thread.join()


# What it can be told to do


def _make() -> None:
    own_auth()


def _get_token() -> str:
    return own_auth().get_token()


def _aget_token() -> str:
    return asyncio.run(own_auth().aget_token())


def _call() -> int:
    return post(own_auth())


def _invalidate(token: str) -> None:
    own_auth().invalidate(token)
    land()


def _revoke() -> None:
    own_auth().revoke()


def _fork_under_way() -> str:
    """Fork when told by SIGUSR1, while a thread gets the token; the child gets one too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    auth = own_auth()
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(auth.get_token()))
    thread.start()
    signal.sigwait({signal.SIGUSR1})
    _fork(lambda: tell("child", auth.get_token()))
    thread.join()
    return got[0]


def _use_after_storm(appkey: str, secretkey: str) -> list[Any]:
    """What a process that comes afterwards finds, and whether all works for it."""
    found = stored(appkey, secretkey)
    auth = make_auth(appkey, secretkey)
    code = post(auth)
    then = stored(appkey, secretkey)
    auth.revoke()
    after_revoke = stored(appkey, secretkey)
    auth.get_token()
    return [found, code, then, after_revoke, stored(appkey, secretkey), post(auth)]


ACTS: dict[str, Callable[..., Any]] = {
    "make": _make,
    "get_token": _get_token,
    "aget_token": _aget_token,
    "call": _call,
    "invalidate": _invalidate,
    "revoke": _revoke,
    "fork_under_way": _fork_under_way,
    "use_after_storm": _use_after_storm,
}


def _act(act: str, *what: Any) -> None:
    try:
        tell(act, ACTS[act](*what))
    except BaseException:  # noqa: BLE001 - the test shows it
        tell("failed", traceback.format_exc())


def _act_and_end(act: str, *what: Any) -> None:
    _act(act, *what)
    sys.exit()


def _act_in_children(number: int, act: str, *what: Any) -> None:
    assert threading.active_count() == 1, "it has other threads"
    reading, writing = os.pipe()

    def start_together() -> None:
        os.close(writing)
        os.read(reading, 1)  # ends when all of them are there
        _act(act, *what)

    children = [_fork(start_together) for _ in range(number)]
    os.close(writing)
    os.close(reading)
    tell("forked", children)


def _reap() -> None:
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            child, status = os.wait()
            ended[child] = os.waitstatus_to_exitcode(status)
    tell("reaped", ended)


# Processes


def _fork(run: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        # Since 3.12, where there are threads; the system may still count one that has just been joined.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            signal.alarm(LIFETIME)
            run()
        except BaseException:  # noqa: BLE001 - as above
            tell("failed", traceback.format_exc())
            os._exit(1)
        os._exit(0)
    return child


def _adopt_orphans() -> None:
    """Have children of children that were killed handed to this process, which reaps them (Linux)."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _end_children() -> None:
    if os.getpid() == os.getpgrp():  # it leads a group, in which are its children and theirs
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()


# Killing


def _storm(kills: int, seed: int, accounts: list[list[str]]) -> None:
    """Kill children in the middle of what they do with the store, one after the other, while others are at work.

    Every other one is killed from outside after some steps, the rest at some system call: exactly before or after it.
    """
    chance = random.Random(seed)
    workers: list[tuple[int, int, int]] = []

    def start(number: int) -> None:
        reading, writing = os.pipe()
        own = random.Random(chance.random())
        at = (own.choice(DEADLY[type(make_store())]), own.randrange(1, 24)) if number % 2 else None
        child = _fork(lambda: _work(own, accounts, writing, at))
        workers.append((child, reading, LIFETIME * 1_000_000 if at else chance.randrange(1, 1200)))
        os.close(writing)

    for number in range(4):
        start(number)
    for number in range(kills):
        child, reading, steps = workers.pop(0)
        while steps > 0 and (read := os.read(reading, min(steps, 65536))):
            steps -= len(read)
        os.kill(child, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(reading)
        signal.alarm(LIFETIME)
        tell("killed", ended)
        start(number)
    for child, reading, _steps in workers:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    tell("storm")


def _work(chance: random.Random, accounts: list[list[str]], progress: int, deadly: tuple[str, int] | None) -> None:
    logging.disable()  # it warns of what dies around it
    _note_steps(progress, deadly)
    while True:
        keys = chance.choice(accounts)
        assert stored(*keys) != "rubbish", "a value is torn"
        auth = make_auth(*keys, cache={})
        with contextlib.suppress(KiwoomAuthError):  # others revoke, and time is short
            token = auth.get_token()
            what = chance.choice(["leave it", "invalidate", "revoke", "be refused"])
            if what == "invalidate":
                auth.invalidate(token)
                land()
            elif what == "revoke":
                auth.revoke()
            elif what == "be refused":
                body = {"appkey": keys[0], "secretkey": keys[1], "token": token}
                requests.post(PLAN["host"] + REVOKE, json=body, headers=REVOKE_HEADERS, timeout=30)
                post(auth)


DEADLY = {FileStore: ("open", "write", "replace", "unlink", "flock", "close"), RedisStore: ("connect", "send", "recv")}
"""What the names of the system calls begin with at which a process is killed."""


def _note_steps(progress: int, deadly: tuple[str, int] | None) -> None:
    """Write a byte for each step in the stores' code, system calls and what is sent and received included.

    Args:
        progress: where to.
        deadly: the beginning of the name of a system call, and how often it may begin or end before it is the end.
    """
    import filelock

    import kiwoom_auth_plugin

    package = Path(kiwoom_auth_plugin.__file__).parent
    files = [package / "stores", package / "_shared.py", package / "_place.py", Path(filelock.__file__).parent]
    places = tuple(map(str, files))
    system = {os.open.__module__, fcntl.flock.__module__}
    name, left = deadly or ("", sys.maxsize)

    def note(frame: Any, event: str, what: Any) -> None:
        nonlocal left
        if event.startswith("c_"):
            of_interest = what.__module__ in system or isinstance(getattr(what, "__self__", None), socket.socket)
            if of_interest and what.__name__.startswith(name):
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        else:
            of_interest = frame.f_code.co_filename.startswith(places)
        if of_interest:
            _write(progress, b".")

    threading.setprofile(note)
    sys.setprofile(note)


HOWS: dict[str, Callable[..., None]] = {
    "here": _act,
    "last": _act_and_end,
    "fork": _act_in_children,
    "reap": _reap,
    "storm": _storm,
}

if __name__ == "__main__":
    PLAN: dict[str, Any] = json.loads(sys.argv[1])
    LIFETIME = int(PLAN["lifetime"])
    for library in ("cryptography.fernet", "filelock", "platformdirs", "redis"):  # as the stores would, each time
        with contextlib.suppress(ImportError):
            import_module(library)
    main()
