"""A store's health and words by themselves: what is news, and what of its failures is told."""

import pytest

from kiwoom_auth_plugin._place import LONGEST_PAUSE, REMEMBERED, Place, words

from .shelf import Shelf


def test_that_others_keep_a_lock_is_news_once_an_hour():
    place = Place(Shelf())
    for moment, is_news in ((0.0, True), (1.0, False), (REMEMBERED - 1.0, False), (REMEMBERED, True)):
        assert place.keeps_lock(moment, "key", 5.0) is is_news


def test_a_lock_that_others_keep_is_left_alone_for_a_while():
    place = Place(Shelf())
    place.keeps_lock(0.0, "key", 5.0)
    for moment, is_kept in ((0.0, True), (LONGEST_PAUSE - 1.0, True), (LONGEST_PAUSE, False)):
        assert place.is_lock_kept(moment, "key", 5.0) is is_kept
    assert not place.is_lock_kept(0.0, "another", 5.0)
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
