"""Which auth objects share a source, and what a new one knows from the start."""

import gc
import weakref

import cachetools
import pytest

from kiwoom_auth_plugin import _sources
from kiwoom_auth_plugin._clock import SYSTEM, Clock
from kiwoom_auth_plugin._keys import digest
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._recent import Recent
from kiwoom_auth_plugin._sources import source_for

HOST = "https://api.kiwoom.com"


def source(cache, secretkey="s" * 43, clock=SYSTEM, appkey="a" * 43, host=HOST):
    return source_for(appkey, host, digest(secretkey), cache=cache, clock=clock, log=Log(appkey, host))


def test_there_is_one_for_the_same_keys_host_cache_and_clock():
    cache = {}
    one = source(cache)
    assert source(cache) is one
    assert source(cache, secretkey="t" * 43) is not one
    assert source(cache, appkey="b" * 43) is not one
    assert source(cache, host="https://mockapi.kiwoom.com") is not one
    assert source({}) is not one
    assert source(cache, clock=Clock()) is not one


def test_whose_turn_it_is_is_told_for_each_cache_by_itself():
    cache, other = {}, {}
    one = source(cache)
    assert source(cache, secretkey="t" * 43)._turn is one._turn
    assert source(other)._turn is not one._turn


def test_those_that_were_used_last_outlive_their_auth_objects(monkeypatch):
    monkeypatch.setattr(_sources, "_recent", Recent(3))
    cache = {}
    made = {appkey: weakref.ref(source(cache, appkey=appkey)) for appkey in "abcabd"}
    gc.collect()
    assert {appkey for appkey, one in made.items() if one() is not None} == set("abd")


class Slow(dict):
    """A mapping of a user's own: it may be slow, and this may be an event loop's thread."""


@pytest.mark.parametrize(
    ("cache", "at_once"),
    [({}, True), (cachetools.TTLCache(8, 60), True), (cachetools.LRUCache(8), True), (Slow(), False)],
    ids=["dict", "TTLCache", "LRUCache", "a mapping of a user's own"],
)
def test_a_token_in_a_cache_that_is_quick_is_there_at_once(make_auth, cache, at_once):
    first = make_auth(cache=cache)
    token = first.get_token()
    _sources._recent.clear()
    del first
    second = make_auth(cache=cache)
    assert (second._source.token is not None) is at_once
    assert second.get_token() == token
    other = make_auth(cache=cache, secretkey="another-secretkey-0123456789abcdefghijklmnop")
    assert other._source.token is None
