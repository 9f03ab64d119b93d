"""The one that runs an AU10001 for the others is interrupted: another takes over, wherever it happened."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from functools import partial, wraps

import httpx
import pytest
import requests

from kiwoom_auth_plugin import KiwoomAuthError, _flight, _source
from kiwoom_auth_plugin._backlog import Backlog
from kiwoom_auth_plugin._interrupts import interrupt_in, is_an_interrupt, keep_known

from .clients import in_time
from .crowd import PATIENCE, Crowd, land, run_python, watch_waiting
from .shelf import Shelf, needs_stores
from .traps import session_with


def client_that_raises(error):
    """A requests.Session whose first answer is lost in an exception."""
    left = [error]

    def spring():
        if left:
            raise left.pop()

    return session_with(spring)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_when_the_leader_is_interrupted_another_takes_over(make_auth, kiwoom_emulator, monkeypatch, error):
    wait_for_waiting = watch_waiting(monkeypatch)
    auth = make_auth(client=client_that_raises(error))
    leader, others = Crowd(), Crowd()
    leader.threads(1, auth.get_token)
    others.threads(5, auth.get_token)
    others.loop("asyncio", 5, auth.aget_token)
    others.loop("trio", 5, auth.aget_token)
    with kiwoom_emulator.hold() as gate:
        leader.go()
        gate.wait_for(1)
        others.go()
        wait_for_waiting(15)
    assert [type(outcome) for outcome in leader.outcomes()] == [error]
    assert others.outcomes() == [kiwoom_emulator.token] * 15
    assert len(kiwoom_emulator.calls("au10001")) == 2


@pytest.mark.anyio
async def test_what_interrupts_an_exchange_without_a_caller_becomes_an_error(make_auth, kiwoom_emulator, caplog):
    auth = make_auth(client=client_that_raises(SystemExit))
    with pytest.raises(KiwoomAuthError, match="SystemExit") as caught:
        await auth.aget_token()
    assert caught.value.host == kiwoom_emulator.url


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_revocation_has_forgotten_the_token(make_auth, kiwoom_emulator, error):
    auth = make_auth()
    auth.get_token()
    raising = make_auth(client=client_that_raises(error))
    with pytest.raises(error):
        raising.revoke()
    assert auth.expires_at is None


INTERRUPTED_EVERYWHERE = """
import collections, itertools, sys, threading
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator

OURS = ("_source.py", "_flights.py", "_flight.py", "_cache.py", "_event.py", "contextlib.py")


def interrupted(point, call):
    # Signals are looked at as a function starts and after one has returned; the traceback is kept.
    passed = itertools.count(1)

    def profile(frame, event, argument):
        if frame.f_code.co_filename.endswith(OURS) and event in {"call", "return", "c_return"}:
            if next(passed) == point:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.setprofile(None)
    return None


with KiwoomEmulator(reissue="replace") as kiwoom:
    stuck = []
    for point in itertools.count(1):
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={}, timeout=600)
        error = interrupted(point, auth.get_token)
        if error is None:
            break
        other = threading.Thread(target=auth.get_token, daemon=True)
        other.start()
        other.join(5)
        if other.is_alive():
            where = error.__traceback__
            while where.tb_next and where.tb_next.tb_frame.f_code.co_name != "profile":
                where = where.tb_next
            stuck.append(f"{where.tb_frame.f_code.co_qualname}, line {where.tb_lineno}")
    for place, times in collections.Counter(stuck).items():
        print("stuck after an interrupt in", place, "x", times)
    print(point, "points")
    sys.stdout.flush()
    import os
    os._exit(bool(stuck) or point < 20)
"""


def test_an_interrupt_anywhere_in_the_leaders_call_leaves_nobody_stuck():
    done = run_python(INTERRUPTED_EVERYWHERE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_task_that_is_interrupted_as_it_starts_the_thread_leaves_nobody_stuck(auth, kiwoom_emulator, monkeypatch):
    """Ctrl-C on the event loop's thread."""

    def interrupt(_thread):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            drive(auth.aget_token())
    assert in_time(auth.get_token) == kiwoom_emulator.token


def drive(coroutine):
    """Run a coroutine that has nothing to wait for."""
    coroutine.send(None)


class Interrupted(BaseException):
    """A signal handler's."""


def interrupt_start(monkeypatch, *, after):
    """Interrupt the next start of a thread of ours, before or after it runs."""
    start = threading.Thread.start

    def interrupted(thread):
        if not thread.name.startswith("kiwoom-auth"):
            start(thread)
            return
        monkeypatch.setattr(threading.Thread, "start", start)
        if after:
            start(thread)
        raise Interrupted

    monkeypatch.setattr(threading.Thread, "start", interrupted)


def test_a_refresh_interrupted_before_it_starts_is_tried_again(make_auth, kiwoom_emulator, clock, monkeypatch):
    auth = make_auth(clock=clock, refresh_margin=24 * 3600.0)
    auth.get_token()
    clock.advance(12 * 3600 + 1)
    interrupt_start(monkeypatch, after=False)
    with pytest.raises(Interrupted):
        auth.get_token()
    clock.advance(31)
    auth.get_token()
    land()
    assert len(kiwoom_emulator.calls("au10001")) == 2


def test_an_interrupt_as_the_thread_of_an_issue_has_started_leaves_it_running(auth, kiwoom_emulator, monkeypatch):
    interrupt_start(monkeypatch, after=True)
    crowd = Crowd()
    with kiwoom_emulator.hold() as gate:
        with pytest.raises(Interrupted):
            asyncio.run(auth.aget_token())
        gate.wait_for(1)
        crowd.threads(1, auth.get_token)
        crowd.go()
        with contextlib.suppress(TimeoutError):  # the second does not come
            gate.wait_for(2, timeout=0.5)
    assert crowd.outcomes() == [kiwoom_emulator.token]
    assert len(kiwoom_emulator.calls("au10001")) == 1


def test_an_issue_abandoned_before_its_thread_runs_is_not_sent(auth, kiwoom_emulator, monkeypatch):
    """The interrupt comes as the thread is there, and has not taken the flight yet."""
    start = threading.Thread.start
    late = []

    def interrupted(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        late.append(thread)
        raise Interrupted

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupted):
        auth.aget_token().send(None)
    start(late[0])
    late[0].join(PATIENCE)
    assert kiwoom_emulator.journal == []
    assert auth.get_token() == kiwoom_emulator.token


def test_a_second_interrupt_on_the_way_out_does_not_lock_callers_out(make_auth, kiwoom_emulator, monkeypatch):
    monkeypatch.setattr(_flight, "GRACE", 0.0)

    def spring():
        auth._client.mount("http://", requests.adapters.HTTPAdapter())
        monkeypatch.setattr(_source.TokenSource, "_abandon", interrupted)
        raise Interrupted

    def interrupted(*_arguments):
        monkeypatch.undo()
        raise Interrupted

    auth = make_auth(client=session_with(spring), timeout=0.3)
    with pytest.raises(Interrupted):
        auth.get_token()
    lost = auth._source._flight
    lost.event.wait(lost.patience)
    assert auth.get_token() == kiwoom_emulator.token


# What a signal handler raises is its caller's


class TimeIsUp(Exception):
    """What a handler raises: the time limit of a job, say."""


class OutOfTime(RuntimeError):
    """Another."""


def handler(_number, _frame):
    raise TimeIsUp


class Handlers:
    def method(self, _number, _frame):
        raise TimeIsUp

    def __call__(self, _number, _frame):
        raise TimeIsUp


def logged(function):
    """A decorator: what it makes of a handler and of a vault runs the same code."""

    @wraps(function)
    def wrapper(*args, **options):
        return function(*args, **options)

    return wrapper


def once(number, _frame):
    signal.signal(number, signal.SIG_DFL)
    raise TimeIsUp


def deleting(number, frame):
    del number, frame
    raise TimeIsUp


def renaming(number, frame):
    number, frame = signal.Signals(number).name, frame.f_lineno
    raise TimeIsUp


def sharing(number, frame):
    def name():
        return number, frame

    number = frame = signal.Signals(number).name
    if name():
        raise TimeIsUp


def sharing_for_a_while(number, frame):
    def name():
        return number, frame  # noqa: F821 - it is called while there are such

    name()
    del number, frame
    raise TimeIsUp


class Deleting:
    def __call__(self, number, frame):
        del number, frame
        raise TimeIsUp


def with_the_rest(_number, *_rest, option=None):
    assert option is None
    raise TimeIsUp


HANDLERS = {
    "a function": handler,
    "a method": Handlers().method,
    "an object": Handlers(),
    "a partial": partial(partial(handler)),
    "one of a decorator": logged(handler),
    "one that resets itself": once,
    "one that deletes its arguments": deleting,
    "one that changes them": renaming,
    "a partial of one that does": partial(renaming),
    "an object that deletes them": Deleting(),
    "one that takes the rest": with_the_rest,
    "one that shares them": sharing,
    "one that shares them for a while": sharing_for_a_while,
    "one with another argument": lambda number, frame, _more=None: handler(number, frame),
    "of the system": signal.SIG_DFL,
    "of C": signal.default_int_handler,
}


@pytest.fixture
def handle():
    """Installs a handler of a signal that is raised by ``strike``."""
    former = signal.getsignal(signal.SIGTERM)
    yield lambda one: signal.signal(signal.SIGTERM, one)
    signal.signal(signal.SIGTERM, former)


def strike():
    signal.raise_signal(signal.SIGTERM)


def raised_by(call):
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - that is what is looked at
        return error
    return None


@pytest.mark.parametrize("name", HANDLERS)
def test_what_a_handler_raises_is_told_from_what_others_raise(handle, name):
    def fail(*_args):
        raise TimeIsUp

    def rebinding(*args):
        args = 5  # noqa: F841 - where a tuple is looked for
        raise TimeIsUp

    handle(HANDLERS[name])
    for one in (
        rebinding,
        fail,
        logged(fail),
        partial(fail, 15, None),
        partial(fail, None, None),
        partial(logged(fail), 1, 2),
    ):
        assert not is_an_interrupt(raised_by(one))
    if name.startswith("of "):
        return
    error = raised_by(strike)
    assert type(error) is TimeIsUp
    assert is_an_interrupt(error)
    keep_known(error)
    error.__traceback__ = None
    assert is_an_interrupt(error)
    crowd = Crowd()  # to whom a future may bring it
    crowd.threads(1, lambda: is_an_interrupt(error))
    assert crowd.go().outcomes() == [False]


def test_what_is_no_interrupt_is_none_without_its_traceback():
    error = raised_by(lambda: 1 / 0)
    keep_known(error)
    assert not is_an_interrupt(error)


class Anything:
    """What is a handler, and is called by others as well."""

    def __call__(self, number=None, frame=None):
        del number, frame
        raise TimeIsUp


def test_what_may_be_called_without_arguments_is_taken_for_a_handler_only_by_them(handle):
    anything = Anything()
    handle(anything)
    assert not is_an_interrupt(raised_by(anything))
    handle(handler)
    assert not is_an_interrupt(raised_by(partial(handler, None, None)))


def test_an_exception_of_whatever_kind_can_be_asked_for():
    class Closed(BaseException):
        __module__ = None

        def __getattribute__(self, name):
            raise RuntimeError(name)

    assert not is_an_interrupt(Closed())
    assert interrupt_in(Closed(), None, lambda _module: True) is None


class Peculiar(Exception):
    """One that shows what a server has sent as its attributes, and takes no others."""

    def __getattr__(self, name):
        return name

    def __setattr__(self, name, value):
        raise AttributeError(name)


def test_the_attributes_of_an_exception_are_of_no_account(handle):
    def raising(_number, _frame):
        raise Peculiar

    def fail():
        raise Peculiar

    handle(raising)
    assert not is_an_interrupt(raised_by(fail))
    error = raised_by(strike)
    keep_known(error)
    assert is_an_interrupt(error.with_traceback(None))


def test_an_interrupt_is_known_by_any_frame_that_it_interrupts():
    """Cython puts frames of its own between the two."""

    def interrupted():
        between(sys._getframe())

    def between(frame):
        handler(15, frame)

    assert is_an_interrupt(raised_by(interrupted))


def test_an_interrupt_is_found_in_what_was_made_of_it_and_not_in_what_was_there_before(handle):
    def is_known(module):
        return module == __name__

    def made_of(first, *, cause):
        try:
            raise first  # noqa: TRY301 - to have it as the context
        except Exception:  # noqa: BLE001 - of whatever kind it is
            if cause:
                raise ValueError from first
            raise ValueError  # noqa: B904 - that is what is tested

    handle(handler)
    interrupt, other = raised_by(strike), OSError()
    for cause in (True, False):
        made, none = (raised_by(partial(made_of, one, cause=cause)) for one in (interrupt, other))
        assert interrupt_in(made, None, is_known) is interrupt
        assert interrupt_in(none, None, is_known) is None
        assert interrupt_in(made, interrupt, is_known) is None
        assert interrupt_in(made, None, lambda _module: False) is None  # who made it knows why
    other.__context__ = ring = OSError()
    ring.__context__ = other
    assert interrupt_in(other, None, is_known) is None


@pytest.mark.parametrize("module", ["greenlet", "gevent.timeout", "eventlet.timeout"])
def test_what_ends_a_greenlet_is_an_interrupt_in_any_thread(module):
    kinds = [type("Stop", (base,), {"__module__": module}) for base in (BaseException, Exception)]
    kinds.append(type("Mine", (kinds[0],), {"__module__": "mine"}))
    crowd = Crowd()
    crowd.threads(1, lambda: [is_an_interrupt(kind()) for kind in kinds])
    assert crowd.go().outcomes() == [[True, False, True]]


def test_ctrl_c_is_an_interrupt_in_any_thread_and_an_exit_in_the_main_one():
    kinds = (KeyboardInterrupt, SystemExit, BaseException)
    assert [is_an_interrupt(kind()) for kind in kinds] == [True, True, False]
    crowd = Crowd()
    crowd.threads(1, lambda: [is_an_interrupt(kind()) for kind in kinds])
    assert crowd.go().outcomes() == [[True, False, False]]


@pytest.mark.parametrize("where", ["the vault", "the cache", "a listener", "a log handler", "a hook of client="])
def test_a_time_limit_reaches_the_caller_wherever_it_is_at_the_moment(make_auth, kiwoom_emulator, handle, where):
    left = [strike]

    def once(*_args):
        if left:
            left.pop()()

    class Mapping(dict):
        def get(self, key, default=None):
            once()
            return super().get(key, default)

    handle(handler)
    options = {"cache": Mapping() if where == "the cache" else {}}
    if where == "the vault":
        options["secretkey"] = lambda: once() or kiwoom_emulator.secretkey
    if where == "a listener":
        options["on_event"] = once
    if where == "a hook of client=":
        options["client"] = session_with(once)
    logger, listening = logging.getLogger("kiwoom_auth_plugin"), logging.Handler()
    listening.emit = once
    if where == "a log handler":
        logger.addHandler(listening)
        logger.setLevel(logging.INFO)
    try:
        auth = make_auth(**options)
        waiting = Crowd()
        with pytest.raises(TimeIsUp):
            auth.get_token()
        waiting.threads(5, auth.get_token)
        assert waiting.go().outcomes() == [kiwoom_emulator.token] * 5
    finally:
        logger.removeHandler(listening)
        logger.setLevel(logging.NOTSET)
    assert kiwoom_emulator.issued == (2 if where == "a hook of client=" else 1)


@needs_stores
@pytest.mark.parametrize("thread", ["Timer", "kiwoom-auth-store", "kiwoom-auth-issue", "kiwoom-auth-forget"])
def test_a_time_limit_is_not_taken_for_a_lack_of_threads(
    make_auth, kiwoom_emulator, clock, handle, monkeypatch, thread
):
    """Its class may be the one that says so."""

    def late(*_):
        raise OutOfTime

    def struck(one, original=threading.Thread.start):
        if one.name.startswith(thread) or type(one).__name__ == thread:
            strike()
        original(one)

    auth = make_auth(clock=clock, cache={}, store=Shelf(), refresh_margin=24 * 3600.0)
    handle(late)
    calls = {
        "kiwoom-auth-issue": lambda: clock.advance(12 * 3600 + 1) or auth.get_token(),
        "kiwoom-auth-forget": lambda: auth.invalidate(kiwoom_emulator.token),
    }
    if thread in calls:
        auth.get_token()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", struck)
        error = raised_by(calls.get(thread, auth.get_token))
    assert isinstance(error, OutOfTime)
    assert in_time(auth.get_token) == kiwoom_emulator.token


def test_a_time_limit_reaches_the_caller_through_another_auth_object(make_auth, kiwoom_emulator, handle):
    """What it came from is cut off on the way, since there are secrets in it."""
    inner = make_auth(cache={}, secretkey=lambda: strike() or kiwoom_emulator.secretkey)
    heard = []

    def listener(event):
        heard.append(event.name)
        inner.get_token()

    handle(handler)
    with pytest.raises(TimeIsUp):
        make_auth(cache={}, on_event=listener).get_token()
    with pytest.raises(TimeIsUp):
        make_auth(cache={}, secretkey=inner.get_token).get_token()
    assert heard == ["token.issued"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Windows interrupts no system call")
@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_time_limit_that_the_library_takes_for_its_own_reaches_the_caller(
    make_auth, kiwoom_emulator, handle, library
):
    def time_out(_number, _frame):
        raise TimeoutError("the job took too long")

    auth = make_auth(cache={})
    ask = auth.get_token
    if library == "httpx":
        ask = partial(next, auth.sync_auth_flow(httpx.Request("GET", auth.host)))
    handle(time_out)
    with kiwoom_emulator.hold() as gate:

        def strike_from_outside():
            gate.wait_for(1)
            os.kill(os.getpid(), signal.SIGTERM)

        striking = threading.Thread(target=strike_from_outside)
        striking.start()
        with pytest.raises(TimeoutError, match=r"^the job took too long$"):
            ask()
        striking.join()
    assert auth.get_token() == kiwoom_emulator.token


def test_a_call_after_a_time_limit_fails_for_its_own_reason(make_auth, handle):
    handle(handler)
    try:
        strike()
    except TimeIsUp:
        with pytest.raises(KiwoomAuthError, match="the connection was refused"):
            make_auth(cache={}, host="http://127.0.0.1:1", timeout=0.2).get_token()


@needs_stores
def test_a_token_that_was_issued_is_not_lost_with_who_is_interrupted_as_it_is_stored(
    make_auth, kiwoom_emulator, handle
):
    def listener(event):
        heard.append(event.name)
        if event.name == "store.failed":
            strike()

    heard, shelf = [], Shelf()
    shelf.fail(OSError("full"), "save")
    auth = make_auth(cache={}, store=shelf, on_event=listener)
    handle(handler)
    with pytest.raises(TimeIsUp):
        auth.get_token()
    assert heard == ["store.failed", "token.issued"]
    assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


@needs_stores
@pytest.mark.parametrize("where", ["in the exchange", "after the answer"])
def test_a_handler_that_calls_the_same_object_fails_by_itself(make_auth, kiwoom_emulator, handle, where):
    """It may end the program by way of revoke(), say: that cannot be done in the middle of an AU10001."""

    def spring():
        if where == "in the exchange" and not struck:
            struck.append(True)
            strike()

    def listener(event):
        if event.name == "store.failed" and where == "after the answer":
            strike()

    struck, shelf = [], Shelf()
    shelf.fail(OSError("full"), "save")
    auth = make_auth(cache={}, client=session_with(spring), store=shelf, on_event=listener)
    handle(lambda _number, _frame: auth.get_token())
    with pytest.raises(KiwoomAuthError, match="from within its own AU10001"):
        auth.get_token()
    assert auth.get_token() == kiwoom_emulator.token  # no rest for the next one
    assert kiwoom_emulator.issued == (2 if where == "in the exchange" else 1)


def test_a_handler_whose_own_call_fails_makes_nothing_be_tried_again(make_auth, kiwoom_emulator, handle):
    other = make_auth(cache={}, host="http://127.0.0.1:1", timeout=0.2)

    def listener(event):
        if event.name == "attempt.failed":
            heard.append(event.name)

    heard, left = [], [strike]
    auth = make_auth(cache={}, client=session_with(lambda: left and left.pop()()), on_event=listener)
    handle(lambda _number, _frame: other.get_token())
    with pytest.raises(KiwoomAuthError, match=r"127\.0\.0\.1:1: no answer"):
        auth.get_token()
    assert heard == []
    assert auth.get_token() == kiwoom_emulator.token


def test_an_interrupt_that_comes_by_a_future_is_a_failure_of_the_vault(make_auth, kiwoom_emulator, handle):
    """Whoever has fetched the key for all was interrupted; the others were not."""
    handle(handler)
    error = raised_by(strike)

    def vault():
        raise error

    auth, crowd = make_auth(cache={}, secretkey=vault), Crowd()
    crowd.threads(1, auth.get_token)
    (outcome,) = crowd.go().outcomes()
    assert isinstance(outcome, KiwoomAuthError)


def test_of_what_is_done_as_the_program_ends_only_an_interrupt_comes_out(handle, monkeypatch):
    def fail(_items):
        raise OSError("a disk error")

    monkeypatch.setattr(threading.main_thread(), "is_alive", lambda: False)
    handle(handler)
    backlog = Backlog("a-backlog")
    backlog.add("key", fail, "item")
    with pytest.raises(TimeIsUp):
        backlog.add("key", lambda _items: strike(), "item")


def test_an_interrupt_is_known_in_the_frame_that_it_interrupts(handle):
    handle(handler)
    told = []
    try:
        signal.raise_signal(signal.SIGTERM)
    except TimeIsUp as error:
        told.append(is_an_interrupt(error))
    assert told == [True]


def test_an_interrupt_is_found_as_the_cause_though_something_else_was_handled(handle):
    handle(handler)
    error = RuntimeError()
    error.__cause__, error.__context__ = raised_by(strike), KeyError()
    assert interrupt_in(error, None, lambda _module: True) is error.__cause__


def test_an_interrupt_is_one_whatever_was_handled_before(handle):
    handle(handler)
    interrupt = raised_by(strike)
    interrupt.__context__ = raised_by(lambda: 1 / 0)
    assert interrupt_in(interrupt, None, lambda _module: False) is interrupt


LIBRARY = """
def call(interrupted):
    try:
        interrupted()
    except BaseException as error:
        cause = error
    raise OSError from cause
"""


def test_what_made_something_of_an_interrupt_is_told_by_the_innermost_frame(handle):
    def outer():
        library["call"](strike)

    exec(LIBRARY, library := {"__name__": "library"})
    handle(handler)
    error = raised_by(outer)
    assert type(error) is OSError
    assert interrupt_in(error, None, lambda module: module == "library") is error.__cause__
    assert interrupt_in(error, None, lambda module: module != "library") is None
