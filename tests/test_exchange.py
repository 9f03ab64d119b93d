"""What an exchange is made of, seen from outside: who is named, what is said, and which library asks."""

import logging

import anyio
import pytest
import requests

from kiwoom_auth_plugin import KiwoomAuthError, TokenEndpointUnreachable
from kiwoom_auth_plugin.testing import recorded

from .shelf import Shelf

REVOKE = "/oauth2/revoke"


@pytest.fixture
def words(caplog):
    """What has been told so far, without host and appkey."""
    caplog.set_level(logging.DEBUG, "kiwoom_auth_plugin")

    def take():
        found = [
            record.getMessage().split(": ", 2)[2] for record in caplog.records if record.name == "kiwoom_auth_plugin"
        ]
        caplog.clear()
        return found

    return take


def test_what_is_told_of_a_token_in_words(make_auth, words):
    shelf = Shelf()
    first, second = (make_auth(cache={}, store=shelf) for _ in range(2))
    first.get_token()
    expires = f"it expires at {first.expires_at:%Y-%m-%d %H:%M:%S} KST"
    assert words() == [f"a token was issued; {expires}"]
    second.get_token()
    assert words() == [f"the store has a token of another process; {expires}"]
    second.revoke()
    assert words() == ["the token was revoked"]


def test_what_is_told_of_a_token_has_its_expiry(make_auth):
    events, shelf = [], Shelf()
    auths = [make_auth(cache={}, store=shelf, on_event=events.append) for _ in range(2)]
    for auth in auths:
        auth.get_token()
    told = [(event.name, event.expires_at) for event in events]
    assert told == [("token.issued", auths[0].expires_at), ("token.found", auths[1].expires_at)]


def test_an_attempt_that_fails_is_told_with_its_code_and_number(make_auth, kiwoom_emulator):
    events = []
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    with pytest.raises(KiwoomAuthError) as caught:
        make_auth(cache={}, on_event=events.append).get_token()
    told = [(event.name, event.code, event.attempt) for event in events if event.name.startswith("attempt")]
    assert told == [("attempt.failed", caught.value.code, 1)]
    assert caught.value.code


def test_an_attempt_to_revoke_that_fails_is_told_with_its_name(make_auth, kiwoom_emulator, words):
    auth = make_auth(cache={})
    auth.get_token()
    words()
    kiwoom_emulator.script(REVOKE, recorded.REVOKE_FAILED)
    with pytest.raises(KiwoomAuthError) as caught:
        auth.revoke()
    assert words() == [f"AU10002, attempt 1: {caught.value}"]
    assert caught.value.host == auth.host


def test_a_vault_that_fails_while_another_object_issues_is_told_with_the_host(make_auth, kiwoom_emulator):
    vault = Vault(kiwoom_emulator.secretkey)
    auth = make_auth(secretkey=vault, cache={})
    vault.fails = True
    with pytest.raises(KiwoomAuthError, match=f"^{auth.host}: "):
        auth._by_requests.cached(lambda _digest: None)


class Vault:
    """It has the secretkey until it fails."""

    def __init__(self, secretkey):
        self.secretkey = secretkey
        self.fails = False

    def __call__(self):
        if self.fails:
            raise OSError("sealed")
        return self.secretkey


@pytest.mark.parametrize("with_store", [False, True])
def test_a_vault_that_fails_when_a_token_is_revoked_is_told_with_the_host(make_auth, kiwoom_emulator, with_store):
    vault = Vault(kiwoom_emulator.secretkey)
    auth = make_auth(secretkey=vault, cache={}, store=Shelf() if with_store else None)
    auth.get_token()
    vault.fails = True
    with pytest.raises(KiwoomAuthError, match=f"^{auth.host}: ") as caught:
        auth.revoke()
    assert caught.value.host == auth.host
    assert kiwoom_emulator.calls("au10002") == []


def test_a_vault_that_fails_is_told_with_the_host_when_the_store_is_looked_at(make_auth, kiwoom_emulator):
    vault = Vault(kiwoom_emulator.secretkey)
    vault.fails = True
    exchange = make_auth(secretkey=vault, store=Shelf())._by_requests
    with pytest.raises(KiwoomAuthError, match=f"^{make_auth().host}: "):
        exchange.stored()


def test_the_token_that_is_held_is_revoked_rather_than_the_one_in_the_store(make_auth, kiwoom_emulator):
    shelf = Shelf()
    auth = make_auth(cache={}, store=shelf)
    held = auth.get_token()
    shelf.values.clear()
    kiwoom_emulator.reissue = "replace"
    later = make_auth(cache={}, store=shelf).get_token()
    assert later != held
    with pytest.raises(KiwoomAuthError, match="8015"):
        auth.revoke()
    (call,) = kiwoom_emulator.calls("au10002")
    assert call.json()["token"] == held


@pytest.mark.parametrize(("ask", "library"), [("revoke", "urllib3.connectionpool"), ("arevoke", "httpx")])
def test_a_token_is_revoked_by_the_library_of_the_caller(make_auth, caplog, ask, library):
    auth = make_auth(cache={})
    auth.get_token()
    caplog.set_level(logging.DEBUG)
    if ask == "revoke":
        auth.revoke()
    else:
        anyio.run(auth.arevoke)
    (told,) = [
        record.name
        for record in caplog.records
        if record.name in {"urllib3.connectionpool", "httpx"} and REVOKE in record.getMessage()
    ]
    assert told == library


def test_without_a_store_nobody_waits_longer_than_the_time_out(make_auth):
    exchange = make_auth(timeout=7.0)._by_requests
    assert (exchange.timeout, exchange.patience) == (7.0, 7.0)
    assert make_auth(timeout=7.0, store=Shelf())._by_requests.patience > 7.0


def test_who_issues_is_told_the_token_and_what_there_is_to_tell_before_it_is_left_to_others(make_auth, kiwoom_emulator):
    shelf, told = Shelf(), []
    exchange = make_auth(store=shelf)._by_requests
    token, note = exchange(no_token, takes_any, 0.0, lambda *issued: told.append((*issued, dict(shelf.values))))
    assert token.value == kiwoom_emulator.token
    assert note.event == "token.issued"
    assert told == [(token, note, {})]


@pytest.mark.parametrize("spent", [10.0, 11.0])
def test_nothing_is_sent_once_the_time_was_spent_on_waiting_for_others(make_auth, kiwoom_emulator, spent):
    exchange = make_auth(timeout=10.0)._by_requests
    with pytest.raises(TokenEndpointUnreachable, match="took too long"):
        exchange(no_token, takes_any, spent, lambda *_issued: None)
    assert not kiwoom_emulator.journal


def test_who_has_waited_for_others_does_not_wait_for_the_stores_lock_as_well(make_auth):
    shelf = Shelf()
    exchange = make_auth(store=shelf, timeout=0.2)._by_requests
    seal = exchange._seal(exchange._secretkey.reveal(exchange._host))
    with shelf.lock(seal.key, 0.0), pytest.raises(TokenEndpointUnreachable):
        exchange(no_token, takes_any, exchange.patience + 1, lambda *_issued: None)
    assert shelf.asked.count("load") == 3


def test_an_attempt_to_issue_that_fails_is_told_with_its_name(make_auth, kiwoom_emulator, words):
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    with pytest.raises(KiwoomAuthError) as caught:
        make_auth(cache={}).get_token()
    assert words()[0] == f"AU10001, attempt 1: {caught.value}"


def test_the_way_of_a_client_of_the_users_is_one_whoever_calls(make_auth):
    with requests.Session() as session:
        auth = make_auth(client=session)
        assert auth._by_requests.route == auth._by_httpx.route
    auth = make_auth()
    assert auth._by_requests.route != auth._by_httpx.route


def no_token(_digest):
    return None


def takes_any(_token):
    return True
