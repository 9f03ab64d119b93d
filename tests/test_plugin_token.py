"""The token itself: asked for, told until when, invalidated, revoked."""

import threading
from datetime import datetime, timedelta, timezone

import anyio
import pytest
import requests

from kiwoom_auth_plugin import KiwoomAuthError
from kiwoom_auth_plugin.testing import recorded

from .clients import BODY, HEADERS, TR, called
from .crowd import land
from .leaks import shown_by

KST = timezone(timedelta(hours=9))


def test_get_token_gives_the_token_and_its_expiry(kiwoom_emulator, auth):
    kiwoom_emulator.clock.freeze()
    before = datetime.now(KST)
    assert auth.get_token() == kiwoom_emulator.token == auth.get_token()
    assert auth.expires_at.utcoffset() == timedelta(hours=9)
    assert timedelta(hours=23, minutes=59) < auth.expires_at - before <= timedelta(hours=24, minutes=1)
    assert kiwoom_emulator.issued == 1


@pytest.mark.anyio
async def test_aget_token_gives_the_token_and_its_expiry(kiwoom_emulator, auth):
    assert await auth.aget_token() == kiwoom_emulator.token == await auth.aget_token()
    assert auth.expires_at is not None
    assert kiwoom_emulator.issued == 1


def test_the_expiry_is_told_on_this_machines_clock(kiwoom_emulator, make_auth, clock):
    auth = make_auth(clock=clock)
    kiwoom_emulator.clock.freeze()
    kiwoom_emulator.clock.set(datetime(2024, 11, 6, 8, 37, 13, tzinfo=KST))
    auth.get_token()
    assert auth.expires_at == datetime.fromtimestamp(clock.wall_time + 86_400, KST)
    clock.advance(86_399)
    assert auth.expires_at is not None
    clock.advance(1)
    assert auth.expires_at is None
    assert kiwoom_emulator.issued == 1


def test_a_token_past_its_deadline_is_not_used(kiwoom_emulator, make_auth, clock):
    auth = make_auth(clock=clock, refresh_margin=0)
    first = auth.get_token()
    kiwoom_emulator.clock.advance(86_400)
    clock.advance(86_400)
    assert called(requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth))
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001", "au10001", "ka10001"]
    assert auth.get_token() != first


def test_invalidate_drops_this_token_and_no_other(kiwoom_emulator, auth):
    first = auth.get_token()
    auth.invalidate("another-token")
    assert auth.get_token() == first
    assert kiwoom_emulator.issued == 1
    kiwoom_emulator.expire_tokens()
    auth.invalidate(first)
    assert auth.expires_at is None
    second = auth.get_token()
    assert second == kiwoom_emulator.token != first
    auth.invalidate(first)
    assert auth.get_token() == second
    assert kiwoom_emulator.issued == 2


def test_invalidate_counts_for_all_that_share(kiwoom_emulator, make_auth):
    first = make_auth().get_token()
    kiwoom_emulator.expire_tokens()
    make_auth().invalidate(first)
    assert make_auth().get_token() != first


def test_a_refused_token_stays_dropped_when_an_older_one_is_invalidated(kiwoom_emulator, make_auth):
    auth = make_auth(cache={})
    first = auth.get_token()
    kiwoom_emulator.expire_tokens()
    chunks = iter([BODY])
    response = requests.post(kiwoom_emulator.url + TR, chunks, headers=HEADERS, auth=auth)  # cannot be repeated
    assert response.json()["return_code"] == 3
    auth.invalidate("an-older-token")
    assert auth.get_token() != first


# Revocation


def test_revoke_ends_the_token_and_forgets_it(kiwoom_emulator, make_auth):
    auth = make_auth(cache=(cache := {}))
    token = auth.get_token()
    auth.revoke()
    (call,) = kiwoom_emulator.calls("au10002")
    assert not call.violations
    assert call.json() == {
        "appkey": kiwoom_emulator.appkey,
        "secretkey": kiwoom_emulator.secretkey,
        "token": token,
    }
    assert not {"authorization", "cookie"} & set(call.headers)
    assert kiwoom_emulator.tokens == []
    assert auth.expires_at is None
    assert not cache
    assert auth.get_token() != token


@pytest.mark.anyio
async def test_arevoke_ends_the_token_and_forgets_it(kiwoom_emulator, auth):
    token = await auth.aget_token()
    await auth.arevoke()
    assert kiwoom_emulator.tokens == []
    assert auth.expires_at is None
    assert await auth.aget_token() != token


def test_without_a_token_revoke_does_nothing(kiwoom_emulator, auth):
    auth.revoke()
    assert not kiwoom_emulator.journal


@pytest.mark.anyio
async def test_without_a_token_arevoke_does_nothing(kiwoom_emulator, auth):
    await auth.arevoke()
    assert not kiwoom_emulator.journal


FAILURES = {
    "refused": (recorded.REVOKE_FAILED, 8015),
    "maintenance": (recorded.MAINTENANCE, None),
    "redirected": (recorded.WEEKEND_REDIRECT, None),
    "wrong pair": (recorded.BAD_KEY_PAIR, 8001),
}


@pytest.mark.parametrize(("answer", "code"), FAILURES.values(), ids=FAILURES)
def test_a_token_whose_revocation_fails_is_forgotten_all_the_same(kiwoom_emulator, auth, answer, code):
    token = auth.get_token()
    kiwoom_emulator.script("/oauth2/revoke", answer)
    with pytest.raises(KiwoomAuthError, match="AU10002") as raised:
        auth.revoke()
    assert raised.value.code == code
    assert auth.expires_at is None
    shown = shown_by(raised.value)
    assert token not in shown
    assert kiwoom_emulator.secretkey not in shown


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "code"), FAILURES.values(), ids=FAILURES)
async def test_the_same_with_arevoke(kiwoom_emulator, auth, answer, code):
    token = await auth.aget_token()
    kiwoom_emulator.script("/oauth2/revoke", answer)
    with pytest.raises(KiwoomAuthError, match="AU10002") as raised:
        await auth.arevoke()
    assert raised.value.code == code
    assert auth.expires_at is None
    shown = shown_by(raised.value)
    assert token not in shown
    assert kiwoom_emulator.secretkey not in shown


def test_a_vault_that_fails_at_revocation_does_not_keep_the_token(kiwoom_emulator, make_auth):
    keys = [kiwoom_emulator.secretkey]
    auth = make_auth(secretkey=keys.pop)
    auth.get_token()
    with pytest.raises(KiwoomAuthError, match="IndexError"):
        auth.revoke()
    keys.append(kiwoom_emulator.secretkey)
    assert auth.expires_at is None


@pytest.mark.anyio
async def test_where_no_thread_is_to_be_had_a_revocation_says_so(make_auth, kiwoom_emulator, monkeypatch):
    auth = make_auth(cache={})
    await auth.aget_token()

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(KiwoomAuthError, match="no thread for AU10002") as caught:
            await auth.arevoke()
    assert caught.value.host == kiwoom_emulator.url


@pytest.mark.anyio
async def test_the_thread_of_a_revocation_has_a_name(kiwoom_emulator, auth):
    await auth.aget_token()
    with kiwoom_emulator.hold("/oauth2/revoke") as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(auth.arevoke)
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            assert [thread.name for thread in threading.enumerate()].count("kiwoom-auth-revoke") == 1
            gate.release()


def test_a_token_is_used_up_to_its_deadline_and_refreshed_in_its_last_five_minutes(kiwoom_emulator, make_auth, clock):
    auth = make_auth(clock=clock)
    assert (auth._timeout, auth._refresh_margin) == (10.0, 300.0)
    token = auth.get_token()
    remaining = auth._source.token.deadline - clock.now()
    kiwoom_emulator.script("/oauth2/token", *[recorded.BAD_KEY_PAIR] * 9)
    clock.advance(remaining - 0.5)
    assert auth.get_token() == token
    land()
    assert len(kiwoom_emulator.calls("au10001")) == 2  # one of them the refresh, which fails
    clock.advance(0.5)
    with pytest.raises(KiwoomAuthError):
        auth.get_token()


def test_a_vault_that_fails_as_a_token_is_looked_for_names_the_host(kiwoom_emulator, make_auth):
    auth = make_auth(secretkey=[].pop)
    with pytest.raises(KiwoomAuthError, match="IndexError") as caught:
        auth.revoke()
    assert str(caught.value).startswith(kiwoom_emulator.url)
    assert caught.value.host == kiwoom_emulator.url


@pytest.mark.parametrize("token", [None, b"a-token-in-bytes", 5])
def test_what_is_no_token_cannot_be_invalidated(auth, token):
    with pytest.raises(TypeError, match=r"^token must be a string$") as raised:
        auth.invalidate(token)
    assert "a-token-in-bytes" not in shown_by(raised.value)
