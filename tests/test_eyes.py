"""Nobody sees a secret: whatever of ours is printed, logged, kept or raised is searched for secretkey and token."""

import asyncio
import base64
import contextlib
import dataclasses
import gc
import http.client
import inspect
import json
import logging
import os
import pickle
import pkgutil
import pprint
import reprlib
import subprocess
import sys
import threading
import traceback
import types
import warnings
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

import anyio
import cachetools
import pytest
import requests

import kiwoom_auth_plugin
from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin.stores import FileStore, RedisStore
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import ASYNC, CERTIFICATES, FAMILY, HEADERS, SYNC, TR, called, every_client, pieces_of
from .crowd import PATIENCE, land
from .leaks import PACKAGE, shown_by
from .redis_server import RedisServer, needs_redis
from .shelf import Shelf
from .traces import traces, without_header
from .traps import session_with

for needed in ("cryptography", "filelock", "platformdirs"):
    pytest.importorskip(needed)

TOKEN, REVOKE = "/oauth2/token", "/oauth2/revoke"
SECRETKEY = """Planted'Secret"key\\with/all+kinds=of%signs&0123456789"""


@pytest.fixture
def kiwoom():
    """A local Kiwoom with a secretkey that looks different in each way to write it."""
    with KiwoomEmulator(secretkey=SECRETKEY, reissue="replace") as emulator:
        yield emulator


def tokens_of(kiwoom):
    """Every token that was ever sent to it, and those that nobody has used yet."""
    sent = {call.token for call in kiwoom.journal} | {call.json().get("token") for call in kiwoom.calls(REVOKE)}
    return (sent | set(kiwoom.tokens)) - {None}


def secrets_of(kiwoom):
    tokens = tokens_of(kiwoom)
    assert tokens
    return {SECRETKEY, *tokens}


def run(*arguments, **environment):
    """Run a program of Python's in a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


# The search itself


WRITINGS = {
    "plain": str,
    "backwards": lambda text: text[::-1],
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps({"key": text})),
    "escaped": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "percent": partial(quote, safe=""),
    "all percent": lambda text: "".join(f"%{ord(character):02X}" for character in text),
    **{f"base64 after {n}": lambda text, n=n: base64.b64encode(b"x" * n + text.encode()).decode() for n in range(3)},
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 backwards": lambda text: base64.b64encode(text.encode()[::-1]).decode(),
    "repr of bytes": lambda text: repr({"body": text.encode()}),
    "UTF-16": lambda text: text.encode("utf-16-le"),
    "UTF-16, big end first": lambda text: text.encode("utf-16-be"),
    "repr of UTF-16": lambda text: repr(text.encode("utf-16-le")),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("write", WRITINGS.values(), ids=WRITINGS)
@pytest.mark.parametrize("secret", [SECRETKEY, "Sixty-four_random.characters~of~the~urlsafe~alphabet_0123456789"])
def test_the_search_finds_a_secret_however_it_is_written(secret, write):
    assert traces(write(secret), secret)
    assert traces(write(secret[7 : 7 + 14]), secret)
    assert not traces(write("nothing of the kind, 0123456789 of another sort"), secret[:-10])


def test_the_search_takes_eleven_characters_for_chance():
    assert traces(SECRETKEY[:12], SECRETKEY)
    assert not traces(SECRETKEY[:11], SECRETKEY)
    assert traces("short", "short")


@pytest.mark.parametrize("write", ["authorization: {}", "{{'Authorization': '{}'}}", "[(b'authorization', b'{}')]"])
def test_only_the_header_itself_is_let_through(write):
    token = "the-token-0123456789"
    header = write.format(f"Bearer {token}")
    assert not traces(without_header(header, token), token)
    for told in (f"{header} {token}", header.replace("uthorization", "nother"), header.replace("Bearer", "Basic")):
        assert traces(without_header(told, token), token)


# All that happens to an auth object


class Life:
    """An auth object's whole life: issue, repetition, refresh, outages and failures of every kind, revocation.

    Args:
        client: of a ``Kind``, opened with ``auth``.
        auth: with a clock that is moved by hand, and a shelf for a store.
        kiwoom: where it calls.
    """

    def __init__(self, client, auth, kiwoom):
        self.auth, self.kiwoom, self._client = auth, kiwoom, client
        self.answers, self.errors = [], []
        self._call = lambda: self.answers.append(client.post(kiwoom.url + TR))
        self._elsewhere = lambda: client.post("https://mockapi.kiwoom.com" + TR)
        self._clock, self._shelf = auth._clock, auth._store

    def live(self):
        for part in (self._calls, self._streams, self._is_refreshed, self._loses_the_store, self._fails, self._ends):
            part()
        land()
        return self

    def _calls(self):
        self._call()
        self.kiwoom.expire_tokens()
        self._call()
        assert self.kiwoom.calls("ka10001")[1].code == 8005
        assert all(map(called, self.answers))

    def _streams(self):
        if self._client.library is not requests:
            how = "aiter_raw" if self._client.is_async else "iter_raw"
            self.kiwoom.script(TR, ENDLESS)
            assert pieces_of(self._client, self.kiwoom.url, how)

    def _is_refreshed(self):
        for answer in (Answer.as_usual(), recorded.MAINTENANCE):
            self.kiwoom.script(TOKEN, answer)
            rest = self.auth.expires_at.timestamp() - self._clock.wall()
            self._clock.advance(rest - 30)
            self._call()
            land()
        self._clock.advance(60)

    def _loses_the_store(self):
        self._shelf.fail(OSError(28, "no space left on device"), "save", "load")
        for _ in range(2):
            self.auth.invalidate(self.auth.get_token())
            land()
            self._call()
            self._shelf.failing = {}
            self._clock.advance(60)

    def _fails(self):
        for answers in FAILURES.values():
            self.auth.invalidate(self.auth.get_token())
            land()
            self.kiwoom.script(TOKEN, *answers)
            self._raises(self._call)
            self._clock.advance(60)
        self._raises(self._elsewhere)

    def _ends(self):
        echo = Answer.json({"return_code": 3, "return_msg": f"[8015:{self.auth.get_token()} {SECRETKEY}]"})
        for answers in ([echo], [recorded.REVOKE_FAILED], [Answer(503)] * 3, []):
            self.auth.get_token()
            self.kiwoom.script(REVOKE, *answers)
            for revoke in (self.auth.revoke, lambda: anyio.run(self.auth.arevoke))[: 1 if answers else 2]:
                self._raises(revoke) if answers else revoke()

    def _raises(self, call):
        with pytest.raises(KiwoomAuthError) as raised:
            call()
        self.errors.append(raised.value)


ENDLESS = Answer(
    200,
    b"%x\r\n%b\r\n0\r\n\r\n" % (60_000, b"answer" * 10_000),
    (("Content-Type", "application/json"), ("Content-Length", ""), ("Transfer-Encoding", "chunked")),
)
"""It does not say how long it is, and is too long to be a refusal."""
NEVER_USED = "a-token-that-nobody-is-to-see-0123456789"
FAILURES = {
    "refused keys": [recorded.BAD_KEY_PAIR],
    "refused address": [recorded.ADDRESS_NOT_REGISTERED],
    "too often": [recorded.ISSUED_TOO_OFTEN] * 3,
    "not JSON": [recorded.MAINTENANCE],
    "redirect": [recorded.WEEKEND_REDIRECT],
    "server's fault": [recorded.UNEXPECTED_ERROR] * 3,
    "no expiry": [Answer.json({"token": NEVER_USED, "return_code": 0})],
    "echo": [Answer.json({"return_code": 3, "return_msg": f"[8002:{SECRETKEY}]"})],
    "lost": [Answer.as_usual(cut="headers"), Answer.as_usual(cut="reset"), Answer.as_usual(cut="before")],
    "cut short": [Answer.as_usual(cut="body")] * 3,
    "unreadable": [Answer(200, b"nothing", (("Content-Encoding", "gzip"),))],
}


@contextlib.contextmanager
def life_of(open_client, kiwoom, make_auth, clock, fallback=None):
    store = Shelf()
    store.fallback = fallback
    auth = make_auth(emulator=kiwoom, clock=clock, store=store)
    with open_client(auth) as client:
        yield Life(client, auth, kiwoom)


# Objects


SECRETS_THEMSELVES = {"Masked", "MaskedBytes"}
"""A str and a bytes, to be sent as such: only their repr, and that of whatever holds them, shows nothing."""


def printed(thing):
    """The thing in every way that there is to print it."""
    yield from (repr(thing), pprint.pformat(thing), reprlib.repr(thing), f"{[thing]!a}")
    if type(thing).__name__ in SECRETS_THEMSELVES:
        return
    yield from (str(thing), f"{thing}")
    if hasattr(thing, "__dict__"):
        yield from (repr(vars(thing)), pprint.pformat(vars(thing)))


def taken_apart(thing):
    """What tools make of it that turn everything into mappings and lists before they print it."""
    if dataclasses.is_dataclass(thing):
        yield repr(dataclasses.asdict(thing))
    if hasattr(thing, "_asdict"):
        yield repr(thing._asdict())


def is_ours(module):
    return f"{module}.".startswith("kiwoom_auth_plugin.") and ".testing" not in module


@cache
def names_of_ours(kind):
    """The class and its bases, as far as they are ours; the tests derive from some."""
    return [base.__name__ for base in kind.__mro__ if is_ours(str(base.__module__))]


class Watch:
    """Prints each object of ours that a function of ours has in a variable, or returns, as it returns.

    Args:
        ways: to print an object.
    """

    def __init__(self, ways=printed):
        self.seen, self.told = set(), set()
        self._ways = ways

    def __enter__(self):
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_error):
        sys.setprofile(None)
        threading.setprofile(None)

    def look(self, *things):
        for thing in things:
            if names := names_of_ours(type(thing)):
                self.seen.update(names)
                with contextlib.suppress(AttributeError):  # it is half made
                    self.told.update(self._ways(thing))

    def _profile(self, frame, event, returned):
        if event == "return" and is_ours(frame.f_globals.get("__name__", "")):
            self.look(*frame.f_locals.values(), returned)


def reachable(*roots):
    """All that these lead to, but for what belongs to everybody: modules, classes, variables of functions at work."""
    found, waiting = {}, list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in found or isinstance(thing, (types.ModuleType, type, types.FrameType, KiwoomEmulator)):
            continue
        found[id(thing)] = thing
        if isinstance(thing, types.FunctionType):
            waiting += [thing.__closure__, thing.__defaults__, thing.__kwdefaults__]
        else:
            waiting += gc.get_referents(thing)
    return list(found.values())


@every_client
def test_nothing_of_ours_prints_a_secret(open_client, kiwoom, make_auth, clock):
    with Watch() as watch, life_of(open_client, kiwoom, make_auth, clock) as life:
        life.live()
        watch.look(*reachable(life.auth, life.answers, life.errors))
    assert traces("\n".join(watch.told), *secrets_of(kiwoom)) == []


def test_nothing_of_ours_gives_a_secret_to_what_takes_objects_apart(kiwoom, make_auth, clock):
    with Watch(taken_apart) as watch, life_of(SYNC[0], kiwoom, make_auth, clock) as life:
        life.live()
    assert traces("\n".join(watch.told), *secrets_of(kiwoom)) == []


NEVER_MADE = {
    "Issue",
    "TokenStore",
    "_Room",
    "Auth",
    "HTTPError",
    "TransportError",
    "SyncByteStream",
    "AsyncByteStream",
    "NoThread",
}
"""Protocols, bases that are the libraries' own (what derives from these is looked at), what holds Python's words."""


def test_each_of_our_classes_has_been_looked_at(kiwoom, make_auth, clock, tmp_path):
    with Watch(lambda _thing: ()) as watch:
        for kind in (SYNC[0], SYNC[1], ASYNC[0], ASYNC[1]):
            with life_of(kind, kiwoom, make_auth, clock, fallback=FileStore(tmp_path / kind.name)) as life:
                life.live()
                watch.look(*reachable(life.auth, life.answers, pickle.loads(pickle.dumps(life.answers))))
    made = {
        kind.__name__
        for module in pkgutil.walk_packages(kiwoom_auth_plugin.__path__, "kiwoom_auth_plugin.")
        if is_ours(module.name) and "__main__" not in module.name and ".cli" not in module.name
        for kind in vars(import_module(module.name)).values()
        if inspect.isclass(kind) and kind.__module__ == module.name
    }
    assert made - watch.seen - NEVER_MADE == {"RedisStore"}  # which has a test of its own


@needs_redis
def test_a_redis_store_prints_no_secret_and_the_server_is_told_none(kiwoom, make_auth, clock):
    log_all = ("--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000")
    with Watch() as watch, RedisServer(*log_all) as server, server.client() as client:
        auth = make_auth(emulator=kiwoom, clock=clock, store=RedisStore(client))
        for _ in range(2):
            auth.invalidate(auth.get_token())
            land()
        auth.get_token()
        kept = {name: client.get(name) for name in client.scan_iter()}
        sent = client.slowlog_get(1000)
        watch.look(*reachable(auth))
    assert {"RedisStore", "Seal", "Visit"} <= watch.seen
    assert len(kept) == 1
    assert {b"SET", b"GET", b"DEL", b"EVAL"} <= {entry["command"].split()[0].upper() for entry in sent}
    assert traces("\n".join([*watch.told, repr(kept), repr(sent)]), *secrets_of(kiwoom)) == []


# Exceptions


@every_client
def test_no_secret_can_be_reached_from_an_error(open_client, kiwoom, make_auth, clock):
    with life_of(open_client, kiwoom, make_auth, clock) as life:
        life.live()
    assert len(life.errors) == len(FAILURES) + 4
    assert {type(error) for error in life.errors} == {*KiwoomAuthError.__subclasses__(), KiwoomAuthError}
    shown = "\n".join([*map(shown_by, life.errors), *map(repr, map(pickle.dumps, life.errors))])
    refused = without_header(shown, *tokens_of(kiwoom))  # a frame of ours may hold the request that was refused
    assert traces(refused, NEVER_USED, *secrets_of(kiwoom)) == []


class Stop(BaseException):
    """As a signal handler raises it."""


def raising(error):
    def hook(request, *_args, **_options):
        error.request = request
        raise error

    return hook


@pytest.mark.parametrize("kind", [requests.ConnectionError, LookupError, OSError, Stop])
@pytest.mark.parametrize("way", ["adapter", *(module.__name__ for module in FAMILY)])
@pytest.mark.parametrize("call", ["get_token", "revoke"])
def test_a_hook_that_raises_with_the_request_in_hand_shows_none(kiwoom, make_auth, clock, kind, way, call):
    error = kind()
    auth = make_auth(emulator=kiwoom, clock=clock)
    if call == "revoke":
        auth.get_token()
    client = requests.Session()
    if way == "adapter":
        client.mount("http://", HookedAdapter(raising(error)))
    else:
        client = next(module for module in FAMILY if module.__name__ == way).Client(
            event_hooks={"request": [raising(error)]}, verify=CERTIFICATES
        )
    with client, pytest.raises((KiwoomAuthError, Stop)) as raised:
        getattr(make_auth(emulator=kiwoom, clock=clock, client=client, cache=auth._cache), call)()
    if kind is Stop:
        error.request = None  # the hook's own doing
    else:
        assert raised.value is not error
    assert traces(shown_by(raised.value), SECRETKEY, *tokens_of(kiwoom)) == []


class HookedAdapter(requests.adapters.HTTPAdapter):
    def __init__(self, hook):
        super().__init__()
        self.send = hook


def test_a_vault_that_raises_and_a_call_from_within_show_none(kiwoom, make_auth, clock):
    def vault():
        if vault.raises:
            raise LookupError("the vault is sealed")
        return SECRETKEY

    vault.raises = True
    auth = make_auth(emulator=kiwoom, clock=clock, secretkey=vault)
    again = make_auth(emulator=kiwoom, clock=clock, client=session_with(lambda: str(again.get_token())))
    errors = []
    for one in (auth, again):
        with pytest.raises(KiwoomAuthError) as raised:
            one.get_token()
        errors.append(raised.value)
    assert isinstance(errors[0].__cause__, LookupError)
    assert traces("".join(map(shown_by, errors)), *secrets_of(kiwoom)) == []


def test_a_call_that_fails_shows_the_token_in_its_header_only(kiwoom, make_auth, clock):
    auth = make_auth(emulator=kiwoom, clock=clock)
    errors = []
    for get in (requests.post, *(module.post for module in FAMILY)):
        kiwoom.script(TR, Answer.as_usual(cut="reset"))
        with pytest.raises((requests.ConnectionError, *(module.TransportError for module in FAMILY))) as raised:
            get(kiwoom.url + TR, headers=HEADERS, auth=auth)
        assert raised.value.request.headers["Authorization"] == f"Bearer {kiwoom.token}"
        errors.append(raised.value)
    shown = "".join(map(shown_by, errors))
    assert traces(shown, kiwoom.token)
    assert traces(without_header(shown, kiwoom.token), *secrets_of(kiwoom)) == []


def locals_of(error):
    """The variables of the package's frames, as crash reporters print them: each by its repr."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    while told is not None:
        for frame in told.stack:
            if Path(frame.filename).is_relative_to(PACKAGE):
                yield from (frame.locals or {}).values()
        told = told.__cause__ or told.__context__


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("cut", ["body", "reset"])
def test_a_repetition_that_breaks_off_leaves_no_token_in_a_variable(kiwoom, make_auth, clock, cut, streamed):
    with requests.Session() as session:
        session.auth = make_auth(emulator=kiwoom, clock=clock)
        session.post(kiwoom.url + TR, headers=HEADERS)
        kiwoom.expire_tokens()
        body = recorded.INVALID_TOKEN.body * 2
        broken = Answer(401, body, (("Content-Type", "application/json"),), cut=cut)
        kiwoom.script(TR, recorded.INVALID_TOKEN, broken)
        with pytest.raises(requests.RequestException) as raised:
            session.post(kiwoom.url + TR, headers=HEADERS, stream=streamed)
    shown = "".join(locals_of(raised.value))
    assert "Response [200]" in shown
    assert traces(shown, *secrets_of(kiwoom)) == []


@pytest.mark.parametrize("is_signed", [False, True])
def test_hooks_that_somebody_has_taken_away_leave_no_token_in_a_variable(kiwoom, make_auth, clock, is_signed):
    auth = make_auth(emulator=kiwoom, clock=clock)
    prepared = requests.Request("POST", kiwoom.url + TR, headers=HEADERS).prepare()
    if is_signed:
        auth(prepared)
        auth.invalidate(auth.get_token())
    prepared.hooks = {}
    with pytest.raises(KeyError) as raised:
        auth(prepared)
    assert traces("".join(locals_of(raised.value)), *secrets_of(kiwoom)) == []


class Drawer:
    """A store of the user's that can be pickled."""

    load = save = delete = lock = print


def test_a_pickle_that_cannot_be_opened_here_shows_none(kiwoom, monkeypatch):
    pickled = pickle.dumps(KiwoomBearerAuth(kiwoom.appkey, SECRETKEY, host=kiwoom.url, store=Drawer()))
    monkeypatch.setitem(sys.modules, "cryptography", None)  # a machine without the extra
    with pytest.raises(ImportError, match="cryptography") as raised:
        pickle.loads(pickled)
    assert traces(shown_by(raised.value), SECRETKEY) == []


INTERRUPTED_EVERYWHERE = """
import itertools, json, sys
from functools import partial
sys.path.append(sys.argv[2])
import httpx, requests
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator
from tests.leaks import PACKAGE, shown_by
from tests.traces import traces, without_header

URL = "/api/dostk/stkinfo"
OURS = f"{PACKAGE}/"


class Interrupted(BaseException):
    pass


def interrupted(point, call):
    # Signals are looked at as a function starts and after one has returned.
    passed = itertools.count(1)

    def profile(frame, event, argument):
        path = frame.f_code.co_filename
        if path.startswith(OURS) and "/testing/" not in path and event in {"call", "return", "c_return"}:
            if next(passed) == point:
                sys.setprofile(None)
                raise Interrupted

    sys.setprofile(profile)
    try:
        call()
    except Interrupted as error:
        return error
    finally:
        sys.setprofile(None)
    return None


def repeat(auth):
    auth.get_token()
    kiwoom.expire_tokens()
    return lambda: requests.post(kiwoom.url + URL, headers={"api-id": "ka10001"}, json={}, auth=auth)


def revoke(auth):
    auth.get_token()
    return auth.revoke


WAYS = {
    "requests": lambda auth: auth.get_token,
    "httpx": lambda auth: partial(next, auth.sync_auth_flow(httpx.Request("POST", kiwoom.url + URL))),
    "repeat": repeat,
    "revoke": revoke,
}
with KiwoomEmulator(reissue="replace") as kiwoom:
    SECRETKEY = kiwoom.secretkey
    places = set()
    for point in itertools.count(1):
        auth = KiwoomBearerAuth(kiwoom.appkey, SECRETKEY, host=kiwoom.url, cache={})
        call = WAYS[sys.argv[1]](auth)
        tokens = {*kiwoom.tokens}
        error = interrupted(point, call)
        if error is None:
            break
        tokens |= {*kiwoom.tokens}
        shown = without_header(shown_by(error), *tokens)
        if traces(shown, *tokens, SECRETKEY):
            lines = [line for line in shown.splitlines() if any(secret in line for secret in {*tokens, SECRETKEY})]
            places.update(line.partition(" = ")[0] for line in lines or ["somewhere"])
print(json.dumps([point, sorted(places)]))
"""


@pytest.mark.parametrize("way", ["requests", "httpx", "repeat", "revoke"])
def test_an_interrupt_anywhere_shows_none(way):
    root = str(Path(__file__).parents[1])
    done = run("-c", INTERRUPTED_EVERYWHERE, way, root)
    assert done.returncode == 0, done.stderr
    points, places = json.loads(done.stdout)
    assert points > 20
    assert places == []


# Logs, warnings, and what the interpreter says by itself


def told_by(record, formatter):
    """All that a handler can make of a record."""
    parts = [formatter.format(record), repr(vars(record)), record.getMessage()]
    arguments = record.args if isinstance(record.args, tuple) else (record.args,)
    parts += [
        part
        for argument in arguments
        for part in (str(argument), repr(argument), repr(getattr(argument, "__dict__", "")))
    ]
    if record.exc_info and record.exc_info[1]:
        parts.append(shown_by(record.exc_info[1]))
    return parts


@every_client
def test_no_logger_is_told_a_secret_nor_is_a_warning_or_a_screen(
    open_client, kiwoom, make_auth, clock, caplog, capfd, monkeypatch
):
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned, life_of(open_client, kiwoom, make_auth, clock) as life:
        warnings.simplefilter("always")
        life.live()
        gc.collect()
    loggers = {record.name.partition(".")[0] for record in caplog.records}
    sender = open_client.library.__name__
    assert {"kiwoom_auth_plugin", *LOGGERS[sender]} <= loggers
    ours = [record.getMessage() for record in caplog.records if record.name == "kiwoom_auth_plugin"]
    assert all(kiwoom.url in line and "appkey EMUL…" in line and kiwoom.appkey not in line for line in ours)
    told = [part for record in caplog.records for part in told_by(record, caplog.handler.formatter)]
    told += [f"{warning.message!r} {warning.source!r} {warning.line}" for warning in warned]
    # Not even the header: no library logs it. (What does is hpack, httpx's for HTTP/2, at DEBUG.)
    assert traces("\n".join([*told, *capfd.readouterr()]), NEVER_USED, *secrets_of(kiwoom)) == []


LOGGERS = {"requests": {"urllib3"}, "httpx": {"httpx", "httpcore"}, "httpx2": {"httpx2"}}


def test_what_http_client_prints_for_debugging_shows_the_header_only(kiwoom, make_auth, clock, monkeypatch, capsys):
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    with life_of(SYNC[0], kiwoom, make_auth, clock) as life:
        life.live()
    shown = capsys.readouterr().out
    assert "POST /oauth2/token" in shown
    assert "POST /oauth2/revoke" in shown
    assert traces(shown, *tokens_of(kiwoom))
    assert traces(without_header(shown, *tokens_of(kiwoom)), *secrets_of(kiwoom)) == []


def test_the_hooks_of_threads_coroutines_and_loops_are_told_none(kiwoom, make_auth, clock, monkeypatch):
    kept = []
    monkeypatch.setattr(threading, "excepthook", kept.append)
    monkeypatch.setattr(sys, "unraisablehook", kept.append)
    leaving = []

    def vault():
        if leaving:
            raise Stop
        return SECRETKEY

    auth = make_auth(emulator=kiwoom, clock=clock, store=Shelf(), secretkey=vault)
    token = auth.get_token()
    leaving.append(True)
    auth.invalidate(token)  # what the vault raises in the background is told to nobody
    land()
    auth.aget_token()  # nobody awaits it

    async def forgotten():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: kept.append(context))
        kiwoom.script(TOKEN, recorded.BAD_KEY_PAIR)
        task = asyncio.create_task(make_auth(emulator=kiwoom, clock=clock).aget_token())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(forgotten())
    coroutine, loop = kept
    assert coroutine.exc_type is RuntimeWarning
    told = [*map(repr, kept), *map(shown_by, (coroutine.exc_value, loop["exception"])), repr(loop)]
    assert traces("\n".join(told), token, *secrets_of(kiwoom)) == []


# Answers and pickles


def without_authorization(answer):
    for one in (answer, *answer.history):
        del one.request.headers["Authorization"]
    return answer


@every_client
def test_an_answer_its_history_and_their_pickles_hold_the_token_in_the_header_only(open_client, kiwoom, make_auth):
    with open_client(make_auth(emulator=kiwoom)) as client:
        client.post(kiwoom.url + TR)
        kiwoom.expire_tokens()
        answer = client.post(kiwoom.url + TR)
    tokens = tokens_of(kiwoom)
    assert len(tokens) == 2
    assert [len(answer.history), *(call.api for call in kiwoom.calls("au10001"))] == [1, "au10001", "au10001"]
    assert all("/oauth2/" not in str(one.request.url) for one in (answer, *answer.history))
    for form in (pickle.dumps, lambda answer: repr([answer, answer.history, vars(answer)])):
        assert traces(form(without_authorization(pickle.loads(pickle.dumps(answer)))), *secrets_of(kiwoom)) == []
    pickled = pickle.dumps(answer)
    assert not traces(pickled, SECRETKEY)
    assert all(traces(pickled, token) for token in tokens)


def test_the_pickle_of_an_auth_object_holds_the_secretkey_as_is_documented_and_no_token(kiwoom, make_auth):
    auth = make_auth(emulator=kiwoom)
    pickled = pickle.dumps([auth, auth.get_token() and auth])
    assert traces(pickled, SECRETKEY)
    assert traces(pickled, kiwoom.token) == []
    assert "the pickle holds the secretkey" in Path(__file__).parents[1].joinpath("README.rst").read_text("utf-8")


CACHES = {
    "dict": dict,
    "LRUCache": lambda: cachetools.LRUCache(8),
    "TTLCache": lambda: cachetools.TTLCache(8, 60),
    "TLRUCache": lambda: cachetools.TLRUCache(8, lambda _key, _token, now: now + 60),
}


@pytest.mark.parametrize("make_cache", CACHES.values(), ids=CACHES)
def test_a_cache_shows_none(kiwoom, make_auth, make_cache):
    cache = make_cache()
    make_auth(emulator=kiwoom, cache=cache).get_token()
    assert len(cache) == 1
    shown = [repr(cache), str(cache), pprint.pformat(cache), pprint.pformat(dict(cache)), repr([*cache.items()])]
    assert traces("".join(shown), *secrets_of(kiwoom)) == []
    assert traces(pickle.dumps(dict(cache)), SECRETKEY) == []


# Files and processes


def test_no_file_holds_one_in_its_name_or_in_clear(kiwoom, make_auth, clock, tmp_path):
    with life_of(SYNC[0], kiwoom, make_auth, clock, fallback=FileStore(tmp_path / "tokens")) as life:
        life.live()
        life.auth.get_token()
    files = [file for root in (tmp_path, Path.home()) for file in root.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".token", ".lock", ".write"}
    kept = b"".join(str(file).encode() + file.read_bytes() for file in files)
    assert traces(kept, *secrets_of(kiwoom)) == []
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


LOOKED_AT = """
import os, pathlib
for what in ("cmdline", "environ"):
    kept = pathlib.Path(__file__).with_name(f"{os.getpid()}.{what}")
    kept.write_bytes(pathlib.Path("/proc/self", what).read_bytes())
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_ps_and_the_screen_show_none_of_the_demonstration(tmp_path):
    tmp_path.joinpath("sitecustomize.py").write_text(LOOKED_AT)
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    done = run("-X", "dev", "-W", "always", "-m", "kiwoom_auth_plugin", "demo", PYTHONPATH=path)
    assert done.returncode == 0
    assert "EMULATOR-SECRET" not in done.stdout + done.stderr
    commands = [file.read_bytes() for file in tmp_path.glob("*.cmdline")]
    assert len(commands) == 4
    assert not any(b"EMULATOR-" in command for command in commands)
    # The environment of a process is for its owner's eyes. It has the keys, as it is documented, and no token.
    given = [
        dict(one.split(b"=", 1) for one in file.read_bytes().split(b"\0") if one) for file in tmp_path.glob("*.environ")
    ]
    own = min(given, key=len)
    keys = {b"KIWOOM_APPKEY", b"KIWOOM_SECRETKEY", b"KIWOOM_HOST"}
    assert [one.keys() - own.keys() for one in given if one is not own] == [keys] * 3


DEVELOPED = """
import faulthandler, gc, logging, sys
import anyio, httpx, requests
from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator, recorded

logging.basicConfig(level=logging.DEBUG)
token = ""


def vault():
    faulthandler.dump_traceback()
    return sys.argv[1]


with KiwoomEmulator(secretkey=sys.argv[1], reissue="replace") as kiwoom:
    auth = KiwoomBearerAuth(kiwoom.appkey, vault, host=kiwoom.url)
    for post in (requests.post, httpx.post):
        for _ in range(2):
            post(kiwoom.url + "/api/dostk/stkinfo", headers={"api-id": "ka10001"}, json={}, auth=auth)
            kiwoom.expire_tokens()
    auth.aget_token()  # nobody awaits it
    auth.invalidate(auth.get_token())
    kiwoom.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    auth.sync_auth_flow(httpx.Request("POST", kiwoom.url)).send(None)
    gc.collect()
"""


def test_a_program_in_development_mode_that_ends_badly_prints_none(kiwoom):
    done = run("-X", "dev", "-W", "always", "-c", DEVELOPED, SECRETKEY)
    assert done.returncode == 1
    for sign in (
        "CredentialsRejected",
        "was never awaited",
        "most recent call first",
        "DEBUG:urllib3",
        "DEBUG:httpcore",
    ):
        assert sign in done.stderr
    assert traces(done.stdout + done.stderr, SECRETKEY) == []
    assert "Bearer " not in done.stdout + done.stderr
