"""``on_event``: what the log tells, for machines, told to whom it is done for."""

import asyncio
import copy
import logging
import pickle
import threading

import pytest

from kiwoom_auth_plugin import AuthEvent, CredentialsRejected, KiwoomAuthError
from kiwoom_auth_plugin._log import logger
from kiwoom_auth_plugin.testing import Answer, recorded

from .clients import TR, called, every_client
from .crowd import PATIENCE, Crowd, land
from .shelf import Shelf

TOKEN = "/oauth2/token"


class Listener(list):
    """Keeps the events, and gives their names so far."""

    def names(self):
        names = [event.name for event in self]
        self.clear()
        return names


@pytest.fixture
def heard():
    return Listener()


def test_an_event_has_what_a_log_record_has(make_auth, kiwoom_emulator, heard):
    auth = make_auth(cache={}, on_event=heard.append)
    auth.get_token()
    (event,) = heard
    assert isinstance(event, AuthEvent)
    masked = f"{kiwoom_emulator.appkey[:4]}…"
    assert (event.name, event.host, event.appkey) == ("token.issued", auth._host, masked)
    assert abs((event.expires_at - auth.expires_at).total_seconds()) < 1
    assert (event.code, event.attempt, event.store) == (None, None, None)
    assert event.message.startswith("a token was issued; it expires at ")
    with pytest.raises(AttributeError):
        event.name = "another"


def test_it_is_told_whatever_the_log_leaves_out(make_auth, kiwoom_emulator, heard, caplog):
    caplog.set_level(logging.CRITICAL, logger.name)
    make_auth(cache={}, on_event=heard.append).get_token()
    assert heard.names() == ["token.issued"]
    assert not caplog.records


@every_client
def test_a_refusal_is_told_once_and_then_the_issue(open_client, make_auth, kiwoom_emulator, heard):
    with open_client(make_auth(cache={}, on_event=heard.append)) as client:
        called(client.post(kiwoom_emulator.url + TR))
        kiwoom_emulator.expire_tokens()
        called(client.post(kiwoom_emulator.url + TR))
    assert heard.names() == ["token.issued", "token.refused", "token.issued"]


def test_a_failed_attempt_has_its_number_and_code(make_auth, kiwoom_emulator, heard):
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    with pytest.raises(CredentialsRejected):
        make_auth(cache={}, on_event=heard.append).get_token()
    (event,) = heard
    assert (event.name, event.code, event.attempt) == ("attempt.failed", 8001, 1)


def test_what_is_done_for_one_is_not_told_to_another_and_nothing_twice(make_auth, kiwoom_emulator, heard):
    kiwoom_emulator.reissue = "replace"
    cache, other = {}, Listener()
    first = make_auth(cache=cache, on_event=heard.append)
    second = make_auth(cache=cache, on_event=other.append)
    first.get_token()
    second.get_token()
    assert (heard.names(), other.names()) == (["token.issued"], [])
    second.invalidate(second.get_token())
    second.get_token()
    second.revoke()
    assert (heard.names(), other.names()) == ([], ["token.issued", "token.revoked"])


def test_a_refresh_in_the_background_is_told_to_whoever_set_it_off(make_auth, kiwoom_emulator, clock, heard):
    auth = make_auth(cache={}, clock=clock, on_event=heard.append)
    auth.get_token()
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    clock.advance(24 * 3600 - 60.0)
    make_auth(cache=auth._cache, clock=clock).expires_at  # noqa: B018 - looking sets nothing off
    auth.get_token()
    land()
    assert heard.names() == ["token.issued", "attempt.failed", "refresh.failed"]


def test_a_store_and_a_cache_that_fail_are_told(make_auth, kiwoom_emulator, heard):
    class Full(dict):
        def __setitem__(self, _key, _token):
            raise OSError("no space left")

    shelf = Shelf()
    shelf.fail(OSError("no space left"), "save")
    make_auth(cache=Full(), store=shelf, on_event=heard.append).get_token()
    assert [(event.name, event.store) for event in heard] == [
        ("store.failed", "Shelf"),
        ("cache.failed", None),
        ("token.issued", None),
    ]


@pytest.mark.parametrize("error", [OSError("no space left"), KiwoomAuthError("again")])
def test_a_listener_that_raises_is_warned_of_and_costs_nobody_a_token(make_auth, kiwoom_emulator, caplog, error):
    def listener(_event):
        raise error

    assert make_auth(cache={}, on_event=listener).get_token() == kiwoom_emulator.token
    (record,) = caplog.records
    assert (record.kiwoom_event, record.levelname) == ("listener.failed", "WARNING")
    assert f"on_event raised {type(error).__name__} at token.issued" in record.getMessage()


def test_a_listener_that_asks_for_a_token_within_the_issue_is_told_so_and_does_not_hang(
    make_auth, kiwoom_emulator, caplog, clock
):
    kiwoom_emulator.script("/oauth2/token", Answer.html("<html>oops</html>", 500))
    auth = make_auth(cache={}, on_event=lambda _event: auth.get_token(), clock=clock)
    assert auth.get_token() == kiwoom_emulator.token
    assert [record.getMessage().partition(": ")[2].partition(": ")[2] for record in caplog.records] == [
        "on_event raised KiwoomAuthError at attempt.failed"
    ]
    assert kiwoom_emulator.issued == 1


def test_a_listener_hears_of_a_token_that_is_in_use(make_auth, kiwoom_emulator):
    """To hang in it, or to be interrupted there, costs nobody the token."""
    hangs, go_on = threading.Event(), threading.Event()

    def listener(event):
        assert event.name == "token.issued"
        hangs.set()
        assert go_on.wait(PATIENCE)

    auth = make_auth(cache={}, on_event=listener)
    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    crowd.go()
    assert hangs.wait(PATIENCE)
    assert auth.get_token() == kiwoom_emulator.token
    go_on.set()
    assert crowd.outcomes() == [kiwoom_emulator.token]
    assert kiwoom_emulator.issued == 1


def test_ctrl_c_in_a_listener_costs_nobody_the_token(make_auth, kiwoom_emulator):
    def listener(_event):
        raise KeyboardInterrupt

    auth = make_auth(cache={}, on_event=listener)
    with pytest.raises(KeyboardInterrupt):
        auth.get_token()
    assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


def test_a_listener_that_ends_the_thread_keeps_nobody_waiting(make_auth, kiwoom_emulator):
    """It is told of the token that was handed back once those who wait have theirs."""

    def listener(event):
        if event.name == "token.same":
            raise SystemExit

    auth = make_auth(cache={}, on_event=listener)
    auth.invalidate(auth.get_token())
    crowd = Crowd()
    crowd.threads(5, auth.get_token)
    outcomes = [one for one in crowd.go().outcomes() if not isinstance(one, SystemExit)]
    assert set(outcomes) == {kiwoom_emulator.token}
    assert len(outcomes) >= 4
    assert auth._source._flight is None


def test_no_secret_is_in_an_event(make_auth, kiwoom_emulator, heard):
    auth = make_auth(cache={}, store=Shelf(), on_event=heard.append)
    secrets = {auth.get_token(), kiwoom_emulator.secretkey, kiwoom_emulator.appkey}
    kiwoom_emulator.expire_tokens()
    auth.invalidate(auth.get_token())
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    with pytest.raises(CredentialsRejected):
        auth.get_token()
    assert heard
    assert not [secret for secret in secrets if secret in repr(heard)]


@pytest.mark.parametrize("again", [lambda auth: pickle.loads(pickle.dumps(auth)), copy.copy, copy.deepcopy])
def test_copies_tell_the_same_listener(make_auth, again):
    assert again(make_auth(on_event=print))._options()["on_event"] is print


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_a_token_is_not_lost_to_a_listener_that_would_end_everything(make_auth, kiwoom_emulator, caplog, error):
    def listener(_event):
        raise error

    auth = make_auth(cache={}, on_event=listener)
    crowd = Crowd()
    crowd.threads(2, auth.get_token)
    assert crowd.go().outcomes() == [kiwoom_emulator.token] * 2
    assert kiwoom_emulator.issued == 1
    assert f"on_event raised {error.__name__} at token.issued" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_a_signal_handler_raises_in_the_main_thread_while_a_listener_hears_ends_the_program(make_auth, error):
    def listener(_event):
        raise error

    with pytest.raises(error):
        make_auth(cache={}, on_event=listener).get_token()


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_nobody_waits_for_whoever_hears_of_a_refresh_that_failed(make_auth, kiwoom_emulator, clock, ask):
    """A log handler that sends mail, say."""
    hears, go_on = threading.Event(), threading.Event()

    def listener(event):
        if event.name == "refresh.failed":
            hears.set()
            go_on.wait(PATIENCE)

    auth = make_auth(clock=clock, on_event=listener, timeout=2.0)
    auth.get_token()
    clock.advance(24 * 3600 - 60)
    kiwoom_emulator.clock.advance(24 * 3600 - 60)
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    try:
        auth.get_token()
        assert hears.wait(PATIENCE)
        auth.invalidate(auth.get_token())
        token = auth.get_token() if ask == "get_token" else asyncio.run(auth.aget_token())
        assert token == kiwoom_emulator.token
    finally:
        go_on.set()
        land()


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_listener_that_uses_the_object_once_all_is_done_gets_its_token(make_auth, kiwoom_emulator, ask):
    """It is told of the same token after that has landed; who uses the object then waits for nobody."""
    heard = []

    def listener(event):
        if event.name == "token.same":
            heard.append(auth.get_token())

    auth = make_auth(cache={}, on_event=listener)
    token = auth.get_token()
    auth._source.drop_refused(token, auth._log)
    again = auth.get_token() if ask == "get_token" else asyncio.run(auth.aget_token())
    assert heard == [again] == [token]
