"""A store's health and words by themselves: what is news, and what of its failures is told."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._place import (
    LONGEST_CHAIN,
    LONGEST_PAUSE,
    LONGEST_STUCK,
    MOST_STUCK,
    REMEMBERED,
    STUCK_FOR_GOOD,
    Holding,
    Place,
    Work,
    chain,
    place_of,
    words,
)

from .crowd import PATIENCE
from .shelf import Shelf


@pytest.fixture
def heard():
    return []


@pytest.fixture
def log(heard):
    return Log("an-appkey", "https://api.kiwoom.com", heard.append)


def test_a_failure_is_news_after_an_hour_without_it_and_its_end_is_told(log, heard):
    place = Place(Shelf())
    begin = 100_000.0
    for seconds in (0.0, 1.0, REMEMBERED - 1.0):
        place.works(log, "save")  # else it would be down, and no failure news
        place.fails(log, begin + seconds, "load", "a disk error", None)
        assert [(event.name, event.store) for event in heard] == [("store.failed", "Shelf")]
    place.works(log, "save")
    place.fails(log, begin + 2 * REMEMBERED - 1.0, "load", "a disk error", None)  # an hour after the latest
    place.works(log, "load")
    assert [(event.name, event.store) for event in heard[1:]] == [("store.failed", "Shelf"), ("store.back", "Shelf")]
    assert heard[-1].message == "the token store Shelf is used again: load"


def hang(place, log, now):
    """Let as many calls hang as a store is given up for."""
    works = [SimpleNamespace(is_under_way=True) for _ in range(MOST_STUCK)]
    for work in works:
        place.fails(log, now, "load", "too slow", work)
    return works


def left_alone_for(place, now):
    """Seconds for which it is left alone, of those that it may be."""
    seconds = STUCK_FOR_GOOD
    while place.is_away(now + seconds - 1.0) and place.is_away(now + seconds):
        seconds = min(2 * seconds, LONGEST_STUCK)
    return seconds


def test_a_store_that_hangs_is_tried_again_after_ten_minutes_doubling_up_to_a_day(log):
    place, now, pauses = Place(Shelf()), 0.0, []
    for _ in range(10):
        hang(place, log, now)
        pauses.append(left_alone_for(place, now))
        now += pauses[-1]
    assert pauses == [600.0 * 2**number for number in range(8)] + [86_400.0] * 2


def test_one_that_comes_back_has_hung_for_ten_minutes_at_most_from_then_on(log):
    place = Place(Shelf())
    hang(place, log, 0.0)
    assert left_alone_for(place, 0.0) == STUCK_FOR_GOOD
    works = hang(place, log, 10_000.0)
    assert place.is_away(10_000.0 + LONGEST_PAUSE)
    works[0].is_under_way = False
    assert not place.is_away(10_000.0 + LONGEST_PAUSE)
    for work in works:
        work.is_under_way = False
    assert not place.is_away(20_000.0)
    hang(place, log, 20_000.0)
    assert left_alone_for(place, 20_000.0) == STUCK_FOR_GOOD


def test_a_store_that_has_not_failed_is_asked_however_short_a_while_the_machine_runs():
    assert not Place(Shelf()).is_away(0.0)


def test_work_is_left_to_itself_when_the_program_ends_and_waited_for_as_long_as_is_said():
    work = Work(lambda: None)
    assert work._thread.daemon
    joined = []
    work._thread = SimpleNamespace(is_alive=lambda: True, join=joined.append)
    assert not work.wait(-1.0)
    assert not work.wait(0.5)
    assert joined == [0.0, 0.5]


def test_a_lock_is_held_for_its_lease_at_most():
    shelf = Shelf()
    holding = Holding(Place(shelf), "key", 0.01)
    assert not holding.is_contended  # nobody has asked for it yet
    holding.start()
    assert holding.wait(PATIENCE)
    assert (holding.error, holding.is_held) == (None, True)
    assert shelf.asked == ["lock", "release"]


def test_that_others_keep_a_lock_is_news_once_an_hour():
    place = Place(Shelf())
    for moment, is_news in ((0.0, True), (1.0, False), (REMEMBERED - 1.0, False), (REMEMBERED, True)):
        assert place.keeps_lock(moment, "key", 5.0) is is_news


def test_a_lock_that_others_keep_is_left_alone_for_a_while():
    place = Place(Shelf())
    place.keeps_lock(0.0, "key", 5.0)
    for moment, is_kept in ((0.0, True), (LONGEST_PAUSE - 1.0, True), (LONGEST_PAUSE, False)):
        assert place.is_lock_kept(moment, "key", 5.0) is is_kept
    assert not place.is_lock_kept(0.5, "another", 5.0)
    assert not place.is_lock_kept(0.0, "key", 6.0)


@pytest.mark.parametrize("module", ["redis.exceptions", "redis.commands.core", "valkey.exceptions", "valkey"])
def test_what_a_server_says_is_told_by_its_code_alone(module):
    kind = type("Refused", (Exception,), {"__module__": module})
    assert words(kind("WRONGTYPE Operation against a-password")) == "Refused: WRONGTYPE"
    assert words(kind("a-password is wrong")) == "Refused"


def test_the_words_of_strangers_are_not_told():
    assert words(ValueError("WRONGTYPE a-password")) == "ValueError"
    assert words(type("Refused", (Exception,), {"__module__": "redisent"})("WRONGTYPE")) == "Refused"
    assert words(None) == "NoneType"


def test_the_words_of_the_system_are_told_on_one_line_of_bounded_length():
    assert words(OSError("a\nb\x1b[31mc")) == "OSError: a b [31mc"
    assert words(OSError("x" * 400)) == f"OSError: {'x' * 300}"


# Which stores are one


class Unhashable(Shelf):
    __hash__ = None

    def __eq__(self, other):
        return self is other


def test_stores_that_cannot_be_hashed_are_told_apart():
    one, another = Unhashable(), Unhashable()
    assert place_of(one) is place_of(one) is not place_of(another)
    assert place_of(another).store is another


@pytest.mark.parametrize("length", [1, LONGEST_CHAIN, LONGEST_CHAIN + 1])
def test_a_chain_of_fallbacks_has_an_end(length):
    stores = [SimpleNamespace() for _ in range(length)]
    for store, fallback in pairwise(stores):
        store.fallback = fallback
    assert chain(stores[0]) == stores[:LONGEST_CHAIN]


def test_a_store_that_does_again_what_it_had_failed_to_do_is_no_longer_left_alone(log):
    place = Place(Shelf())
    place.fails(log, 0.0, "load", "reset", None)
    assert place.is_away(0.5)
    place.works(log, "save")  # that says nothing of the other
    assert place.is_away(0.5)
    place.works(log, "load")
    assert not place.is_away(0.5)
