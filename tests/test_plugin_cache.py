"""Who shares a token, and the cache that it is kept in."""

import pickle

import cachetools
import pytest
import requests

from kiwoom_auth_plugin import CredentialsRejected
from kiwoom_auth_plugin._cache import DEFAULT_CACHE
from kiwoom_auth_plugin._clock import SYSTEM
from kiwoom_auth_plugin.testing import KiwoomEmulator

from .clients import BODY, HEADERS, TR, called
from .crowd import land

# Sharing


def test_another_secretkey_does_not_get_the_token(kiwoom_emulator, make_auth):
    cache = {}
    token = make_auth(cache=cache).get_token()
    with pytest.raises(CredentialsRejected):
        make_auth(cache=cache, secretkey="of-somebody-else-0123456789").get_token()
    assert make_auth(cache=cache, secretkey="of-somebody-else-0123456789").expires_at is None
    assert make_auth(cache=cache).get_token() == token
    assert kiwoom_emulator.issued == 1


def test_a_rotated_secretkey_takes_over_the_entry(kiwoom_emulator, make_auth):
    cache = {}
    make_auth(cache=cache).get_token()
    kiwoom_emulator.add_account(kiwoom_emulator.appkey, "rotated-0123456789")
    make_auth(cache=cache, secretkey="rotated-0123456789").get_token()
    assert kiwoom_emulator.issued == 2
    assert len(cache) == 1


def test_another_appkey_and_another_host_have_tokens_of_their_own(kiwoom_emulator, make_auth):
    kiwoom_emulator.add_account("another-appkey-0123456789", "another-secret-0123456789")
    another = make_auth(appkey="another-appkey-0123456789", secretkey="another-secret-0123456789")
    with KiwoomEmulator() as mock:
        tokens = {make_auth().get_token(), another.get_token(), make_auth(emulator=mock).get_token()}
        assert mock.issued == 1
    assert len(tokens) == 3
    assert kiwoom_emulator.issued == 2


def test_a_cache_of_its_own_is_not_shared(kiwoom_emulator, make_auth):
    first, second = make_auth(cache={}), make_auth(cache={})
    assert first.get_token() == second.get_token()  # the server's model
    assert kiwoom_emulator.issued == 2


@pytest.mark.parametrize("spelling", [str.upper, "{}/".format, lambda url: url.replace("http", "HTTP")])
def test_the_same_host_in_another_spelling_is_the_same(kiwoom_emulator, make_auth, spelling):
    make_auth().get_token()
    make_auth(host=spelling(kiwoom_emulator.url)).get_token()
    assert kiwoom_emulator.issued == 1


# The cache

CACHES = {
    "TLRUCache": lambda: cachetools.TLRUCache(8, lambda _key, token, _now: token.deadline, timer=SYSTEM.now),
    "TTLCache": lambda: cachetools.TTLCache(8, 60),
    "LRUCache": lambda: cachetools.LRUCache(8),
    "FIFOCache": lambda: cachetools.FIFOCache(8),
    "dict": dict,
}


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_any_cache_keeps_the_token_under_appkey_and_host(cache, kiwoom_emulator, make_auth):
    cache = cache()
    auth = make_auth(cache=cache)
    token = auth.get_token()
    assert list(cache) == [(kiwoom_emulator.appkey, kiwoom_emulator.url)]
    vault = make_auth(cache=cache, secretkey=lambda: kiwoom_emulator.secretkey)  # knows of the token by the cache only
    assert vault.get_token() == token
    assert kiwoom_emulator.issued == 1
    auth.invalidate(token)
    assert not cache


def test_the_default_cache_is_a_tlru_cache_of_65536_entries_each_with_its_own_end(kiwoom_emulator, make_auth):
    assert isinstance(DEFAULT_CACHE, cachetools.TLRUCache)
    assert DEFAULT_CACHE.maxsize == 65_536
    auth = make_auth()
    auth.get_token()
    key = (kiwoom_emulator.appkey, kiwoom_emulator.url)
    deadline = DEFAULT_CACHE[key].deadline
    DEFAULT_CACHE.expire(deadline - 1)
    assert key in DEFAULT_CACHE
    DEFAULT_CACHE.expire(deadline)
    assert key not in DEFAULT_CACHE


def test_a_dead_entry_of_a_plain_dict_is_not_used(kiwoom_emulator, make_auth, clock):
    cache = {}
    make_auth(cache=cache, clock=clock).get_token()
    clock.advance(86_400)
    vault = make_auth(cache=cache, clock=clock, secretkey=lambda: kiwoom_emulator.secretkey)
    assert vault.expires_at is None
    vault.get_token()
    assert kiwoom_emulator.issued == 2


def test_the_cache_shows_no_secretkey_and_no_token(kiwoom_emulator, make_auth):
    cache = {}
    token = make_auth(cache=cache).get_token()
    assert token not in repr(cache)
    assert kiwoom_emulator.secretkey not in repr(cache)
    assert kiwoom_emulator.secretkey.encode() not in pickle.dumps(cache)


class Hostile(dict):
    """A mapping that fails wherever it is told to."""

    def __init__(self, *failing):
        self.failing = failing

    def _fail(self, name):
        if name in self.failing:
            raise OSError("the disk of the cache is full")

    def get(self, *args):
        self._fail("get")
        return super().get(*args)

    def __getitem__(self, key):
        self._fail("get")
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self._fail("set")
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self._fail("del")
        super().__delitem__(key)

    def pop(self, *args):
        self._fail("del")
        return super().pop(*args)


@pytest.mark.parametrize("failing", [("get",), ("set",), ("del",), ("get", "set", "del")], ids=str)
def test_a_cache_that_fails_costs_no_call(failing, kiwoom_emulator, make_auth, caplog):
    auth = make_auth(cache=Hostile(*failing))
    for _ in range(3):
        assert called(requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth))
    assert kiwoom_emulator.issued == 1
    kiwoom_emulator.expire_tokens()
    assert called(requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth))
    auth.invalidate(auth.get_token())
    assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 3
    assert "OSError" in caplog.text


@pytest.mark.parametrize("cache", [cachetools.LRUCache(0), cachetools.TTLCache(8, 0)], ids=["no room", "no time"])
def test_a_cache_that_keeps_nothing_costs_no_issue(cache, kiwoom_emulator, make_auth):
    auth = make_auth(cache=cache)
    assert auth.get_token() == auth.get_token() == make_auth(cache=cache).get_token()
    assert kiwoom_emulator.issued == 1


@pytest.mark.parametrize("entry", [None, "a token", 5, {"value": "a token"}, object()])
def test_what_somebody_else_has_put_into_the_cache_is_not_used(entry, kiwoom_emulator, make_auth):
    cache = {(kiwoom_emulator.appkey, kiwoom_emulator.url): entry}
    auth = make_auth(cache=cache)
    assert auth.expires_at is None
    assert auth.get_token() == kiwoom_emulator.token


class Forgetful(dict):
    """A cache that keeps nothing."""

    def __setitem__(self, key, token):
        pass


def test_a_token_that_the_cache_has_lost_is_the_present_one_all_the_same(make_auth, kiwoom_emulator):
    auth = make_auth(cache=Forgetful())
    auth.get_token()
    assert auth.expires_at is not None
    auth.revoke()
    assert kiwoom_emulator.token is None


class Broken(dict):
    """A cache that cannot be used."""

    def get(self, _key):
        raise OSError


def test_a_cache_that_fails_keeps_no_token_from_its_revocation(make_auth, kiwoom_emulator):
    heard = []
    auth = make_auth(
        cache=Broken(), secretkey=vault_of(kiwoom_emulator), on_event=lambda event: heard.append(event.name)
    )
    auth.revoke()
    assert heard == ["cache.failed"]
    auth.get_token()
    heard.clear()
    auth.revoke()
    assert kiwoom_emulator.token is None
    assert heard == ["cache.failed", "token.revoked"]


class Recording(dict):
    """A cache that keeps what was put there."""

    def __init__(self):
        super().__init__()
        self.put = []

    def __setitem__(self, key, token):
        self.put.append(token.value)
        super().__setitem__(key, token)


def vault_of(emulator):
    """Each is another, and makes another source of tokens."""
    return lambda: emulator.secretkey


def test_what_was_in_the_cache_is_not_put_there_again(make_auth, kiwoom_emulator):
    """By then another object's refresh may have brought a newer one, or its revocation have ended it."""
    cache = Recording()
    auths = [make_auth(cache=cache, secretkey=vault_of(kiwoom_emulator)) for _ in range(2)]
    assert {auth.get_token() for auth in auths} == {kiwoom_emulator.token}
    assert cache.put == [kiwoom_emulator.token]


def test_what_is_in_the_cache_while_another_refreshes_is_not_put_there_again(make_auth, kiwoom_emulator, clock):
    cache = Recording()
    first, second = (
        make_auth(cache=cache, clock=clock, secretkey=vault_of(kiwoom_emulator), refresh_margin=24 * 3600.0)
        for _ in range(2)
    )
    token = first.get_token()
    clock.advance(12 * 3600 + 1)
    with kiwoom_emulator.hold() as gate:
        first.get_token()  # begins the refresh
        gate.wait_for(1)
        assert second.get_token() == token
    land()
    assert kiwoom_emulator.issued == 2
    assert cache.put == [token, kiwoom_emulator.token]


def test_accounts_are_told_apart_by_a_cache_that_makes_its_keys_of_what_is_printed(make_auth, kiwoom_emulator):
    class Printed(dict):
        def get(self, key, default=None):
            return super().get(repr(key), default)

        def __setitem__(self, key, token):
            super().__setitem__(repr(key), token)

    kiwoom_emulator.add_account("another-appkey", "another-secretkey")
    cache = Printed()
    make_auth(cache=cache).get_token()
    make_auth(appkey="another-appkey", secretkey="another-secretkey", cache=cache).get_token()
    assert len(cache) == 2
