"""What callers get when AU10001 fails: each an error of its own, soon, and the server is not stormed."""

import asyncio
import ctypes
import logging
import socket
import statistics
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import httpx
import pytest
import requests

from kiwoom_auth_plugin import (
    AddressRejected,
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    TokenEndpointUnreachable,
    _exchange,
)
from kiwoom_auth_plugin._issuer import Issuer
from kiwoom_auth_plugin.testing import Answer, recorded

from .clients import BODY, HEADERS, TR, every_client, in_time, plain_answer, raw_server
from .crowd import PATIENCE, Crowd, land, watch_waiting
from .leaks import shown_by

ERROR_500 = Answer.html("<html>oops</html>", 500)
LOST = Answer.as_usual(cut="before")
RESET = Answer.as_usual(cut="reset")
HALF = Answer.as_usual(cut="body")
TOKEN = "/oauth2/token"

PASSING = {
    "500": (ERROR_500, InvalidTokenResponse),
    "1999 with 500": (recorded.UNEXPECTED_ERROR, KiwoomAuthError),
    "8009": (recorded.ISSUE_FAILED, KiwoomAuthError),
    "429": (recorded.ISSUED_TOO_OFTEN, IssueLimitExceeded),
    "lost": (LOST, TokenEndpointUnreachable),
    "reset": (RESET, TokenEndpointUnreachable),
    "cut in the body": (HALF, TokenEndpointUnreachable),
}
LASTING = {
    "8001": (recorded.BAD_KEY_PAIR, CredentialsRejected),
    "8030": (recorded.WRONG_ENVIRONMENT, CredentialsRejected),
    "8050": (recorded.ADDRESS_NOT_REGISTERED, AddressRejected),
    "8040": (recorded.TERMINAL_REFUSED, AddressRejected),
    "maintenance": (recorded.MAINTENANCE, InvalidTokenResponse),
    "weekend": (recorded.WEEKEND_REDIRECT, InvalidTokenResponse),
    "garbage": (Answer(body=b"\xff\xfe\x00garbage"), InvalidTokenResponse),
    "no token": (Answer.json({"return_code": 0}), InvalidTokenResponse),
}
passing = pytest.mark.parametrize(("answer", "error"), PASSING.values(), ids=PASSING)
lasting = pytest.mark.parametrize(("answer", "error"), LASTING.values(), ids=LASTING)
anything = pytest.mark.parametrize(("answer", "error"), (PASSING | LASTING).values(), ids=PASSING | LASTING)


def attempts(kiwoom):
    return len(kiwoom.calls("au10001"))


def fail(auth, error=KiwoomAuthError):
    with pytest.raises(error) as caught:
        auth.get_token()
    return caught.value


@anything
def test_a_thousand_waiters_get_an_exception_object_each(make_auth, kiwoom_emulator, clock, monkeypatch, answer, error):
    auth = make_auth(clock=clock)
    kiwoom_emulator.script(TOKEN, *[answer] * 50)
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.threads(50, auth.get_token)
    crowd.loop("asyncio", 500, auth.aget_token)
    crowd.loop("trio", 450, auth.aget_token)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        wait_for_waiting(999)
    outcomes = crowd.outcomes()
    assert {type(outcome) for outcome in outcomes} == {error}
    assert len({id(outcome) for outcome in outcomes}) == 1000
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert attempts(kiwoom_emulator) == (3 if outcomes[0].retryable else 1)


@every_client
def test_the_old_error_handling_catches_it(make_auth, kiwoom_emulator, clock, open_client):
    kiwoom_emulator.script(TOKEN, *[RESET] * 3)
    library = open_client.library
    expected = requests.ConnectionError if library is requests else library.TransportError
    with open_client(make_auth(clock=clock)) as client, pytest.raises(expected):
        client.post(kiwoom_emulator.url + TR)


def test_an_endpoint_that_is_down_is_tried_three_times(make_auth, clock):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    auth = make_auth(clock=clock, host=f"http://127.0.0.1:{port}")
    assert "refused" in str(fail(auth, TokenEndpointUnreachable))
    assert len(clock.slept) == 2


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_an_endpoint_that_hangs_is_left_in_time(make_auth, kiwoom_emulator, ask):
    auth = make_auth(timeout=0.3)

    def call():
        return auth.get_token() if ask == "get_token" else asyncio.run(auth.aget_token())

    with kiwoom_emulator.hold() as gate:
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(call)
        assert gate.parked == 1
        land()


# Trying again


@passing
def test_what_may_pass_is_tried_again(make_auth, kiwoom_emulator, clock, answer, error):
    kiwoom_emulator.script(TOKEN, answer, answer)
    auth = make_auth(clock=clock)
    assert auth.get_token() == kiwoom_emulator.token
    assert attempts(kiwoom_emulator) == 3


@lasting
def test_what_stays_is_not_tried_again(make_auth, kiwoom_emulator, clock, answer, error):
    kiwoom_emulator.script(TOKEN, answer)
    assert not fail(make_auth(clock=clock), error).retryable
    assert attempts(kiwoom_emulator) == 1
    assert clock.slept == []


@pytest.mark.parametrize(("chance", "pauses"), [(0.0, [0.5, 1.0]), (0.5, [0.75, 1.5]), (0.999, [0.9995, 1.999])])
def test_pauses_double_and_are_stretched_by_chance(make_auth, kiwoom_emulator, clock, monkeypatch, chance, pauses):
    monkeypatch.setattr(_exchange.chance, "random", lambda: chance)
    kiwoom_emulator.script(TOKEN, ERROR_500, ERROR_500)
    make_auth(clock=clock).get_token()
    assert clock.slept == pytest.approx(pauses)


def test_the_pauses_of_two_callers_differ(make_auth, kiwoom_emulator, clock):
    kiwoom_emulator.script(TOKEN, *[ERROR_500] * 20)
    for _ in range(5):
        auth = make_auth(clock=clock)
        fail(auth)
        clock.advance(100)
    assert len(set(clock.slept)) == len(clock.slept) == 10


@pytest.mark.parametrize("timeout", [0.4, 1.4])
def test_trying_again_ends_with_the_timeout(make_auth, kiwoom_emulator, clock, timeout):
    """The next attempt would come after it."""
    kiwoom_emulator.script(TOKEN, *[ERROR_500] * 3)
    auth = make_auth(clock=clock, timeout=timeout)
    fail(auth)
    assert sum(clock.slept) < timeout
    assert attempts(kiwoom_emulator) == len(clock.slept) + 1 < 3


def limited(seconds, status=429):
    return Answer.json({"return_code": 5, "return_msg": "[1700:...]"}, status, headers=(("Retry-After", seconds),))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(make_auth, kiwoom_emulator, clock, status, form):
    kiwoom_emulator.clock.freeze()
    kiwoom_emulator.clock.set(datetime.now(UTC).replace(microsecond=0))
    until = format_datetime(kiwoom_emulator.clock.now() + timedelta(seconds=4), usegmt=True)
    body = Answer.html("busy", status, headers=(("Retry-After", "4" if form == "seconds" else until),))
    kiwoom_emulator.script(TOKEN, body)
    assert make_auth(clock=clock).get_token() == kiwoom_emulator.token
    assert clock.slept == [4.0]


@pytest.mark.parametrize("value", ["soon", "-1", "1e9", "0x10", ""])
def test_a_retry_after_that_is_none_counts_for_nothing(make_auth, kiwoom_emulator, clock, value):
    kiwoom_emulator.script(TOKEN, limited(value))
    make_auth(clock=clock).get_token()
    assert 0.5 <= clock.slept[0] <= 1.0


def test_a_refused_call_whose_issue_fails_raises_that_failure(make_auth, kiwoom_emulator, clock):
    auth = make_auth(clock=clock)
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    kiwoom_emulator.script(TOKEN, recorded.ADDRESS_NOT_REGISTERED)
    with pytest.raises(AddressRejected, match="8050"):
        requests.post(auth._host + TR, data=BODY, headers=HEADERS, auth=auth, timeout=30)
    clock.advance(1)
    assert auth.get_token() == kiwoom_emulator.token


# Nothing else goes wrong with it


def test_where_no_thread_is_to_be_had_the_caller_is_told(make_auth, kiwoom_emulator, clock, monkeypatch):
    auth = make_auth(clock=clock)

    async def main():
        def refuse(thread, original=threading.Thread.start):
            if thread.name.startswith("kiwoom-auth"):
                raise RuntimeError("can't start new thread")
            original(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(KiwoomAuthError, match=f"^{auth.host}: no thread for AU10001: can't start new") as caught:
            await auth.aget_token()
        monkeypatch.undo()
        assert caught.value.host == auth.host

    asyncio.run(main())  # and who needs no thread is not kept from asking
    assert auth.get_token() == kiwoom_emulator.token


def test_who_needs_no_thread_issues_where_a_flight_has_got_none(make_auth, kiwoom_emulator, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)
    auth, crowd = make_auth(), Crowd()
    crowd.threads(3, lambda: next(auth.sync_auth_flow(httpx.Request("GET", auth.host))).headers["Authorization"])

    def refuse(thread, original=threading.Thread.start):
        if thread.name == "kiwoom-auth-issue":
            crowd.go()
            wait_for_waiting(3)
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(KiwoomAuthError, match="no thread for AU10001"):
        asyncio.run(auth.aget_token())
    assert crowd.outcomes() == [f"Bearer {kiwoom_emulator.token}"] * 3
    assert kiwoom_emulator.issued == 1


def test_a_bug_in_the_exchange_is_an_error_for_whoever_asks(make_auth, kiwoom_emulator, clock, monkeypatch):
    """In the caller's own thread it may as well be an exception of a signal handler's: that is the caller's."""
    auth = make_auth(clock=clock)
    monkeypatch.setattr(_exchange._au10001, "read", lambda *_args, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        auth.get_token()
    with pytest.raises(KiwoomAuthError, match="ZeroDivisionError"):
        anyio.run(auth.aget_token)


@pytest.mark.parametrize("way", ["get_token", "aget_token", "requests", "httpx"])
@anything
def test_no_secret_is_reachable_from_the_error(make_auth, kiwoom_emulator, clock, caplog, answer, error, way):
    caplog.set_level(logging.DEBUG)
    auth = make_auth(clock=clock)
    kiwoom_emulator.script(TOKEN, *[answer] * 3)
    ways = {
        "get_token": auth.get_token,
        "aget_token": lambda: anyio.run(auth.aget_token),
        "requests": lambda: requests.post(auth._host + TR, data=BODY, headers=HEADERS, auth=auth, timeout=30),
        "httpx": lambda: httpx.post(auth._host + TR, content=BODY, headers=HEADERS, auth=auth),
    }
    with pytest.raises(error) as caught:
        ways[way]()
    assert kiwoom_emulator.secretkey not in shown_by(caught.value) + caplog.text


@pytest.mark.parametrize("answer", [ERROR_500, LOST, recorded.REVOKE_FAILED, recorded.BAD_KEY_PAIR])
@pytest.mark.parametrize("way", ["revoke", "arevoke"])
def test_no_secret_is_reachable_from_the_error_of_a_revocation(make_auth, kiwoom_emulator, clock, caplog, answer, way):
    caplog.set_level(logging.DEBUG)
    auth = make_auth(clock=clock)
    token = auth.get_token()
    kiwoom_emulator.script("/oauth2/revoke", *[answer] * 3)
    with pytest.raises(KiwoomAuthError) as caught:
        auth.revoke() if way == "revoke" else anyio.run(auth.arevoke)
    for secret in (token, kiwoom_emulator.secretkey):
        assert secret not in shown_by(caught.value) + caplog.text


def test_whoever_joins_a_refresh_that_gets_no_thread_issues(make_auth, kiwoom_emulator, clock, caplog, monkeypatch):
    """They do since the present token was refused meanwhile."""
    wait_for_waiting = watch_waiting(monkeypatch)
    auth, crowd = make_auth(clock=clock, refresh_margin=3600.0), Crowd()
    token = auth.get_token()
    clock.advance(23.5 * 3600)
    crowd.threads(3, auth.get_token)

    def refuse(thread, original=threading.Thread.start):
        if thread.name == "kiwoom-auth-issue":
            auth.invalidate(token)
            crowd.go()
            wait_for_waiting(3)
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert auth.get_token() == token
    assert crowd.outcomes() == [kiwoom_emulator.token] * 3
    assert kiwoom_emulator.issued == 2
    assert "refresh failed, the present token is used on" in caplog.text


# What user code beneath the libraries raises


class JobTimeout(Exception):
    """As task queues raise it, in whatever code is running."""


def test_what_a_logging_filter_raises_answers_all_who_wait(make_auth, kiwoom_emulator, caplog, monkeypatch):
    def broken(record):
        return record.missing + 1

    caplog.set_level(logging.INFO, "httpx")
    logger = logging.getLogger("httpx")
    monkeypatch.setattr(logger, "filters", [broken])
    auth, crowd = make_auth(cache={}), Crowd()
    crowd.threads(8, lambda: next(auth.sync_auth_flow(httpx.Request("GET", auth.host))))
    outcomes = crowd.go().outcomes()
    assert {type(outcome) for outcome in outcomes} == {KiwoomAuthError}
    assert "AttributeError was raised; check the filters of your logging" in str(outcomes[0])
    assert kiwoom_emulator.issued == 1


@pytest.mark.parametrize("client", [None, httpx.Client], ids=["ours", "client="])
def test_code_without_a_module_may_raise(make_auth, kiwoom_emulator, monkeypatch, client):
    broken = eval("lambda *_, **__: 1 / 0", {})
    if client is None:
        monkeypatch.setattr(requests.Session, "merge_environment_settings", broken)
    else:
        client = httpx.Client(event_hooks={"request": [broken]})
    auth = make_auth(client=client)
    with pytest.raises(KiwoomAuthError, match="ZeroDivisionError"):
        auth.get_token()


def test_a_time_limit_that_is_raised_into_the_thread_reaches_the_caller(make_auth, kiwoom_emulator, monkeypatch):
    """Wherever the thread is at the moment: in a module of Python's, say."""
    prototype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)
    inject = prototype(("PyThreadState_SetAsyncExc", ctypes.pythonapi))
    names = {"__name__": "socket", "inject": inject, "here": threading.get_ident, "JobTimeout": JobTimeout}
    auth, crowd = make_auth(cache={}), Crowd()
    crowd.threads(1, auth.get_token)
    with monkeypatch.context() as patches:
        patches.setattr(socket, "getaddrinfo", eval("lambda *_args, **_options: inject(here(), JobTimeout)", names))
        (outcome,) = crowd.go().outcomes()
    assert isinstance(outcome, JobTimeout)
    assert not kiwoom_emulator.journal
    assert auth.get_token() == kiwoom_emulator.token


@pytest.mark.parametrize("kind", [RuntimeError, TimeoutError])
@pytest.mark.parametrize("thread", ["main", "another"])
def test_what_is_of_pythons_own_kind_answers_all_who_wait(make_auth, monkeypatch, kind, thread):
    def broken(*_args, **_options):
        raise kind

    auth, crowd = make_auth(cache={}), Crowd()
    crowd.threads(1, auth.get_token)
    monkeypatch.setattr(socket, "getaddrinfo", broken)
    if thread == "another":
        (outcome,) = crowd.go().outcomes()
        assert isinstance(outcome, KiwoomAuthError)
    else:
        with pytest.raises(KiwoomAuthError):
            auth.get_token()


def test_a_time_limit_that_comes_after_the_cut_off_reaches_the_caller(make_auth, monkeypatch):
    def late(*_args, **_options):
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(PATIENCE)
        raise JobTimeout

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with pytest.raises(JobTimeout):
        make_auth(cache={}, timeout=0.1).get_token()


@pytest.mark.parametrize("kind", [requests.Session, httpx.Client])
def test_an_answer_that_is_whole_though_it_comes_late_has_its_token_used(make_auth, kiwoom_emulator, monkeypatch, kind):
    """Of a client= that is a requests.Session no connection is cut off before the answer comes."""
    resolve = socket.getaddrinfo

    def late(*arguments, **options):
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(PATIENCE)
        return resolve(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with kind() as client:
        auth = make_auth(cache={}, client=client, timeout=0.1)
        if kind is httpx.Client:  # it is cut off as soon as it is connected
            with pytest.raises(TokenEndpointUnreachable):
                auth.get_token()
        else:
            assert auth.get_token() == kiwoom_emulator.token
            assert kiwoom_emulator.issued == 1


def test_a_stack_that_is_full_is_the_callers_own(make_auth, kiwoom_emulator, monkeypatch):
    def full(*_args, **_options):
        monkeypatch.undo()
        raise RecursionError

    auth, crowd = make_auth(cache={}), Crowd()
    crowd.threads(1, auth.get_token)
    monkeypatch.setattr(socket, "getaddrinfo", full)
    (outcome,) = crowd.go().outcomes()
    assert isinstance(outcome, RecursionError)
    assert auth.get_token() == kiwoom_emulator.token


def test_what_patches_the_library_is_told_from_settings_that_it_cannot_use(make_auth, monkeypatch):
    """A StatisticsError is a ValueError, as is what comes of a malformed proxy."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: statistics.mean([]))
    with pytest.raises(KiwoomAuthError, match="StatisticsError was raised; check the filters"):
        make_auth(cache={}).get_token()


def test_a_filter_that_breaks_one_library_leaves_the_other_alone(make_auth, kiwoom_emulator, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "httpx")
    monkeypatch.setattr(logging.getLogger("httpx"), "filters", [lambda record: record.missing])
    auth, crowd = make_auth(cache={}), Crowd()
    crowd.threads(1, lambda: next(auth.sync_auth_flow(httpx.Request("GET", auth.host))))
    (outcome,) = crowd.go().outcomes()
    assert "AttributeError was raised" in str(outcome)
    assert auth.get_token() == kiwoom_emulator.token


def test_a_header_that_a_library_cannot_read_is_an_answer_of_no_http(make_auth):
    header = b"Content-Type: multipart/x; boundary*" + b"9" * 5000 + b"=a\r\n"
    answer = plain_answer(b"{}").replace(b"Content-Type: application/json;charset=UTF-8\r\n", header)
    with raw_server([answer], [answer]) as (host, got):
        auth, crowd = make_auth(host=host), Crowd()
        crowd.threads(3, auth.get_token)
        outcomes = crowd.go().outcomes()
        assert len(got) == 1
    assert {type(outcome) for outcome in outcomes} == {KiwoomAuthError}
    assert "what came was no HTTP (ValueError)" in str(outcomes[0])


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_name_that_is_no_punycode_is_an_error_of_ours(library):
    with pytest.raises(KiwoomAuthError) as caught:
        Issuer("https://xn--0.example", None).send("/oauth2/token", b"{}", 10.0, library)
    assert "no answer to POST" in str(caught.value)
