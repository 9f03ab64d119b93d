"""A token's place in a cache: which token comes out, which is dropped, and what of a cache that fails or comes back."""

import pytest

from kiwoom_auth_plugin._cache import Slot
from kiwoom_auth_plugin._clock import Clock
from kiwoom_auth_plugin._locks import Renewed
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._token import AccessToken

KEY = ("an-appkey-of-some-length", "https://api.kiwoom.com")
LOG = Log(*KEY)
NOON = 1_730_862_000.0
DIGEST = b"a digest"


def token(value="a-Token", deadline=NOON + 60.0):
    return AccessToken(value, NOON, deadline, DIGEST, NOON)


def slot_of(cache):
    return Slot(cache, KEY, Clock(lambda: NOON, lambda: 1000.0), Renewed())


def wanted():
    return True


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        (token(), True), (token(deadline=NOON + 0.001), True), (token(deadline=NOON), False), (None, False),
        (AccessToken("a-Token", NOON, NOON + 60.0, b"another", NOON), False), ("a-Token", False),
    ],
)  # fmt: skip
def test_what_comes_out_is_a_valid_token_of_the_same_secretkey(kept, found):
    assert slot_of({KEY: kept}).look_up(DIGEST, LOG) == (kept if found else None)


def test_a_token_that_is_wanted_no_more_is_not_put_in_place_of_another():
    cache = {KEY: token("the-other")}
    slot_of(cache).put(token(), lambda: False, LOG)
    assert cache == {KEY: token("the-other")}
    slot_of(cache).put(token(), wanted, LOG)
    assert cache == {KEY: token()}


class Alike:
    """What somebody else has put there: it is not ours to drop."""

    value = "a-Token"


@pytest.mark.parametrize(
    ("kept", "stays"), [(token(), False), (token("the-other"), True), (Alike(), True), (None, True)]
)
def test_a_refused_token_is_dropped_and_no_other(kept, stays):
    cache = {KEY: kept}
    slot_of(cache).evict("a-Token", LOG)
    assert cache == ({KEY: kept} if stays else {})


class Failing(dict):
    def get(self, _key):
        raise OSError

    def __setitem__(self, key, value):
        raise RuntimeError("full")


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda slot: slot.look_up(DIGEST, LOG), "the cache could not be read: OSError"),
        (lambda slot: slot.put(token(), wanted, LOG), "the cache did not take the token: RuntimeError"),
        (lambda slot: slot.evict("a-Token", LOG), "the cache did not drop the token: OSError"),
    ],
)
def test_a_cache_that_fails_is_told_and_is_an_empty_one(caplog, use, told):
    assert use(slot_of(Failing())) is None
    (record,) = caplog.records
    assert record.getMessage() == f"{KEY[1]}: appkey an-a…: {told}"
    assert (record.levelname, record.kiwoom_event) == ("WARNING", "cache.failed")


def test_who_comes_back_in_the_middle_of_an_operation_finds_nothing_and_the_next_one_works():
    """A signal handler, or a mapping of the user's that makes a call: the cache is being changed."""

    class Returning(dict):
        def get(self, key):
            found.append(slot.look_up(DIGEST, LOG) if len(found) < 3 else "no end")
            return super().get(key)

    found = []
    slot = slot_of(Returning({KEY: token()}))
    assert slot.look_up(DIGEST, LOG) == token()
    assert found == [None]
    assert slot.look_up(DIGEST, LOG) == token()
    assert slot._mutex.busy is False
