"""The log: an event a record, with the fields that machines read, and the words that people do."""

import logging

import anyio
import pytest

from kiwoom_auth_plugin import CredentialsRejected, KiwoomAuthError
from kiwoom_auth_plugin._log import logger
from kiwoom_auth_plugin.testing import Answer, recorded

from .clients import TR, called, every_client
from .crowd import land
from .shelf import Shelf

TOKEN, REVOKE = "/oauth2/token", "/oauth2/revoke"


@pytest.fixture
def told(caplog):
    """The records so far, as (event, level); taken out as they are looked at."""
    caplog.set_level(logging.DEBUG, "kiwoom_auth_plugin")

    def take():
        records = [record for record in caplog.records if record.name == "kiwoom_auth_plugin"]
        caplog.clear()
        return [(record.kiwoom_event, record.levelname) for record in records]

    return take


@pytest.fixture
def fields(caplog):
    """The fields of the one record so far."""
    caplog.set_level(logging.DEBUG, "kiwoom_auth_plugin")

    def take():
        (record,) = [record for record in caplog.records if record.name == "kiwoom_auth_plugin"]
        names = [name for name in vars(record) if name.startswith("kiwoom_")]
        return {name.removeprefix("kiwoom_"): getattr(record, name) for name in names} | {"words": record.getMessage()}

    return take


def test_an_issue_is_told_with_host_masked_appkey_and_expiry(make_auth, kiwoom_emulator, fields):
    auth = make_auth(cache={})
    auth.get_token()
    expires = auth.expires_at
    record = fields()
    shown = record.pop("expires_at")
    masked = f"{kiwoom_emulator.appkey[:4]}…"
    assert abs((shown - expires).total_seconds()) < 1
    assert shown.tzname() == "KST"
    assert record == {
        "event": "token.issued",
        "host": auth._host,
        "appkey": masked,
        "code": None,
        "attempt": None,
        "store": None,
        "words": f"{auth._host}: appkey {masked}: a token was issued; it expires at {shown:%Y-%m-%d %H:%M:%S} KST",
    }


def test_a_failed_attempt_is_told_with_its_number_and_code(make_auth, kiwoom_emulator, clock, fields):
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    with pytest.raises(CredentialsRejected) as caught:
        make_auth(clock=clock).get_token()
    record = fields()
    assert (record["event"], record["code"], record["attempt"]) == ("attempt.failed", 8001, 1)
    assert f"AU10001, attempt 1: {caught.value}" in record["words"]


def test_what_is_tried_again_is_told_each_time(make_auth, kiwoom_emulator, clock, told):
    kiwoom_emulator.script(TOKEN, *[Answer.html("oops", 500)] * 2)
    make_auth(clock=clock).get_token()
    assert told() == [("attempt.failed", "INFO")] * 2 + [("token.issued", "INFO")]


@every_client
def test_a_refusal_is_told_once_and_then_the_issue(open_client, make_auth, kiwoom_emulator, told):
    with open_client(make_auth(cache={})) as client:
        called(client.post(kiwoom_emulator.url + TR))
        kiwoom_emulator.expire_tokens()
        told()
        called(client.post(kiwoom_emulator.url + TR))
    assert told() == [("token.refused", "INFO"), ("token.issued", "INFO")]


def test_calls_that_go_well_are_not_told(make_auth, kiwoom_emulator, told):
    auth = make_auth()
    auth.get_token()
    told()
    for _ in range(3):
        auth.get_token()
        auth.invalidate("another")
    assert told() == []


def test_a_refresh_that_fails_is_a_warning_with_the_code(make_auth, kiwoom_emulator, clock, told):
    auth = make_auth(clock=clock, refresh_margin=24 * 3600.0)
    auth.get_token()
    clock.advance(12 * 3600 + 1)
    kiwoom_emulator.script(TOKEN, recorded.BAD_KEY_PAIR)
    auth.get_token()
    land()
    assert told() == [("token.issued", "INFO"), ("attempt.failed", "INFO"), ("refresh.failed", "WARNING")]


@pytest.mark.parametrize("ask", ["revoke", "arevoke"])
def test_a_revocation_is_told_and_one_that_fails_too(make_auth, kiwoom_emulator, clock, told, ask, caplog):
    auth = make_auth(clock=clock)
    revoke = auth.revoke if ask == "revoke" else lambda: anyio.run(auth.arevoke)
    auth.get_token()
    told()
    revoke()
    assert caplog.messages[-1].endswith("the token was revoked")
    assert told() == [("token.revoked", "INFO")]
    auth.get_token()
    told()
    kiwoom_emulator.script(REVOKE, recorded.REVOKE_FAILED)
    with pytest.raises(KiwoomAuthError):
        revoke()
    assert told() == [("attempt.failed", "INFO")]


def test_a_token_of_another_process_is_told(make_auth, kiwoom_emulator, told):
    shelf = Shelf()
    first, second = (make_auth(cache={}, store=shelf) for _ in range(2))
    assert first.get_token() == second.get_token()
    assert told() == [("token.issued", "INFO"), ("token.found", "INFO")]


def test_a_store_that_fails_is_told_by_its_name(make_auth, kiwoom_emulator, fields):
    shelf = Shelf()
    shelf.fail(OSError("no space left"), "save")
    logger.setLevel(logging.WARNING)
    make_auth(cache={}, store=shelf).get_token()
    record = fields()
    assert (record["event"], record["store"]) == ("store.failed", "Shelf")


def test_a_cache_that_fails_is_told(make_auth, kiwoom_emulator, told):
    class Full(dict):
        def __setitem__(self, _key, _token):
            raise OSError("no space left")

    make_auth(cache=Full()).get_token()
    assert told() == [("cache.failed", "WARNING"), ("token.issued", "INFO")]


def test_a_handler_that_raises_costs_nobody_a_token(make_auth, kiwoom_emulator, caplog):
    class Broken(logging.Handler):
        def emit(self, record):
            seen.append(record.kiwoom_event)
            raise OSError("the disk is full")

    seen, broken = [], Broken()
    caplog.set_level(logging.DEBUG, "kiwoom_auth_plugin")
    logger.addHandler(broken)
    try:
        assert make_auth(cache={}).get_token() == kiwoom_emulator.token
    finally:
        logger.removeHandler(broken)
    assert seen == ["token.issued"]
