"""After a failure the next callers get the same answer without asking the server: for a while that grows, and ends."""

import asyncio
import threading

import pytest
import requests

from kiwoom_auth_plugin import CredentialsRejected, IssueLimitExceeded, KiwoomAuthError
from kiwoom_auth_plugin._rest import MOST_FAILURES
from kiwoom_auth_plugin.testing import Answer, recorded

from .crowd import PATIENCE, Crowd, watch_waiting

ERROR_500 = Answer.html("<html>oops</html>", 500)
TOKEN = "/oauth2/token"


def attempts(kiwoom):
    return len(kiwoom.calls("au10001"))


def fail(auth, error=KiwoomAuthError):
    with pytest.raises(error) as caught:
        auth.get_token()
    return caught.value


def rest_lengths(make_auth, kiwoom, clock, answer, number):
    kiwoom.script(TOKEN, *[answer] * 10_000)
    auth = make_auth(clock=clock)
    lengths = []
    fail(auth)
    asked, since = attempts(kiwoom), clock.now()
    while len(lengths) < number:
        clock.advance(0.5)
        before = clock.now()
        fail(auth)
        if attempts(kiwoom) > asked:
            lengths.append(before - since)
            asked, since = attempts(kiwoom), clock.now()
    return lengths


def test_after_what_may_pass_callers_rest_for_1_2_4_5_5_seconds(make_auth, kiwoom_emulator, clock):
    assert rest_lengths(make_auth, kiwoom_emulator, clock, ERROR_500, 5) == [1, 2, 4, 5, 5]


def test_after_what_stays_callers_rest_for_up_to_a_minute(make_auth, kiwoom_emulator, clock):
    answer = recorded.BAD_KEY_PAIR
    assert rest_lengths(make_auth, kiwoom_emulator, clock, answer, 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def resting(make_auth, kiwoom, clock):
    """An auth object whose server said no twice, so that the rest is 2 s."""
    auth = make_auth(clock=clock)
    kiwoom.script(TOKEN, recorded.BAD_KEY_PAIR, recorded.BAD_KEY_PAIR)
    fail(auth)
    clock.advance(1)
    fail(auth)
    fail(auth)
    assert attempts(kiwoom) == 2
    return auth


def test_the_rest_ends_with_an_invalidation(make_auth, kiwoom_emulator, clock):
    auth = resting(make_auth, kiwoom_emulator, clock)
    auth.invalidate("whatever")
    assert auth.get_token() == kiwoom_emulator.token


@pytest.mark.parametrize("ask", ["revoke", "arevoke"])
def test_the_rest_ends_with_a_revocation(make_auth, kiwoom_emulator, clock, ask):
    """Also where there is nothing to revoke: whoever revokes wants to start afresh."""
    auth = resting(make_auth, kiwoom_emulator, clock)
    if ask == "revoke":
        auth.revoke()
    else:
        asyncio.run(auth.arevoke())
    assert auth.get_token() == kiwoom_emulator.token


def test_a_success_ends_the_doubling(make_auth, kiwoom_emulator, clock):
    auth = resting(make_auth, kiwoom_emulator, clock)
    clock.advance(2)
    token = auth.get_token()
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    kiwoom_emulator.expire_tokens()
    auth.invalidate(token)
    fail(auth)
    clock.advance(1)
    assert auth.get_token() == kiwoom_emulator.token


@pytest.mark.anyio
async def test_the_rest_answers_asynchronous_callers_too(make_auth, kiwoom_emulator, clock):
    auth = make_auth(clock=clock)
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    errors = []
    for _ in range(10):
        with pytest.raises(CredentialsRejected) as caught:
            await auth.aget_token()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 10
    assert attempts(kiwoom_emulator) == 1


def limited(seconds, status=429):
    return Answer.json({"return_code": 5, "return_msg": "[1700:...]"}, status, headers=(("Retry-After", seconds),))


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_beyond_the_timeout_is_honoured_by_resting(make_auth, kiwoom_emulator, clock, status):
    auth = make_auth(clock=clock)
    kiwoom_emulator.script(TOKEN, limited("30", status))
    assert fail(auth).retryable
    assert clock.slept == []
    clock.advance(29)
    fail(auth)
    assert attempts(kiwoom_emulator) == 1
    clock.advance(1)
    assert auth.get_token() == kiwoom_emulator.token


def test_a_retry_after_of_hours_lets_callers_rest_for_a_minute(make_auth, kiwoom_emulator, clock):
    auth = make_auth(clock=clock)
    kiwoom_emulator.script(TOKEN, limited("86400"))
    assert fail(auth, IssueLimitExceeded).retry_after == 86400
    clock.advance(60)
    assert auth.get_token() == kiwoom_emulator.token


class Broken(requests.adapters.HTTPAdapter):
    """A transport of client= that never reaches the server."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def send(self, *_request, **_options):
        raise self._error


def broken_session(error):
    session = requests.Session()
    session.mount("http://", Broken(error))
    return session


@pytest.mark.parametrize("error", [requests.ConnectionError(), TypeError("a bug")], ids=repr)
def test_a_client_that_never_gets_through_costs_other_auth_objects_nothing(make_auth, kiwoom_emulator, clock, error):
    cache = {}
    broken = make_auth(clock=clock, cache=cache, client=broken_session(error))
    healthy = make_auth(clock=clock, cache=cache)
    fail(broken)
    assert healthy.get_token() == kiwoom_emulator.token == broken.get_token()


def test_clients_that_never_get_through_rest_each_for_themselves(make_auth, kiwoom_emulator, clock):
    tried = []

    class Counted(Broken):
        def send(self, *request, **options):
            tried.append(self)
            return super().send(*request, **options)

    cache, sessions = {}, [requests.Session() for _ in range(MOST_FAILURES + 1)]
    for session in sessions:
        session.mount("http://", Counted(TypeError("a bug")))
    auths = [make_auth(clock=clock, cache=cache, client=session) for session in sessions]
    for _ in range(3):
        for auth in auths[:2]:
            fail(auth)
    assert len(tried) == 2
    clock.advance(1)
    for _ in range(3):
        for auth in auths:
            fail(auth)
    known = len(auths[0]._source._rest._failed)
    assert known == MOST_FAILURES
    assert make_auth(clock=clock, cache=cache).get_token() == kiwoom_emulator.token


def test_who_waits_for_a_client_that_does_not_get_through_asks_for_itself(make_auth, kiwoom_emulator, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)
    asked, go_on = threading.Event(), threading.Event()

    class Waiting(Broken):
        def send(self, *request, **options):
            asked.set()
            go_on.wait(PATIENCE)
            super().send(*request, **options)

    session, cache = requests.Session(), {}
    session.mount("http://", Waiting(requests.ConnectionError()))
    broken, healthy = Crowd(), Crowd()
    broken.threads(1, make_auth(cache=cache, client=session, timeout=0.4).get_token)
    healthy.threads(3, make_auth(cache=cache).get_token)
    broken.go()
    assert asked.wait(PATIENCE)
    healthy.go()
    wait_for_waiting(3)
    go_on.set()
    assert isinstance(broken.outcomes()[0], KiwoomAuthError)
    assert healthy.outcomes() == [kiwoom_emulator.token] * 3
    assert kiwoom_emulator.issued == 1


def test_what_the_server_has_said_is_said_to_everybody(make_auth, kiwoom_emulator, clock):
    cache = {}
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    with requests.Session() as session:
        fail(make_auth(clock=clock, cache=cache, client=session))
        fail(make_auth(clock=clock, cache=cache), CredentialsRejected)
    assert attempts(kiwoom_emulator) == 1


def test_failures_of_this_side_let_callers_rest_for_5_seconds_at_most(make_auth, kiwoom_emulator, clock):
    """A vault that is shut is no key pair that was refused."""

    def vault():
        if shut:
            raise OSError("shut")
        return kiwoom_emulator.secretkey

    shut = [True]
    auth = make_auth(clock=clock, secretkey=vault)
    for _ in range(60):
        fail(auth)
        clock.advance(2)
    shut.clear()
    clock.advance(5)
    assert auth.get_token() == kiwoom_emulator.token
