"""What one source learns from refusals, step by step: when the server is asked again, and what the log is told."""

import logging

import pytest

from kiwoom_auth_plugin._refused import FUTILE_PAUSE, YOUNG, YOUNG_DEATHS, Refusals
from kiwoom_auth_plugin._token import AccessToken

LONG = 3600.0
JUST = 0.001


def token(number, now):
    return AccessToken(f"token-{number}", now, now + 86_400.0, b"", now)


class Calls:
    """A source's tokens: the present one is refused and replaced by another, again and again."""

    def __init__(self):
        self.refusals = Refusals()
        self.number = 0
        self.now = 1_700_000_000.0
        self.present = token(0, self.now)
        self.now += LONG

    def refuse(self):
        return self.refusals.refuse(self.present, self.now)

    def replace(self, *, to_replace=True, same=False):
        refused = self.refusals.latest if to_replace else None
        self.number += not same
        self.present = token(self.number, self.now)
        return self.refusals.adopt(self.present, refused, self.now)

    def quiet_for(self):
        """Seconds from now for which refusals go to the callers."""
        begin = self.now
        for seconds in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0):
            self.now = begin + seconds
            if self.refuse():
                assert seconds == 0.0 or not self._refuses_at(begin + seconds - JUST)
                return seconds
        raise AssertionError("for ever")

    def _refuses_at(self, moment):
        return moment >= self.refusals._quiet_until


@pytest.fixture
def calls():
    return Calls()


def test_the_token_refused_last_is_known_until_another_takes_its_place(calls):
    assert calls.refusals.latest is None
    assert calls.refuse()
    assert calls.refusals.latest is calls.present
    assert calls.replace() is None
    assert calls.refusals.latest is None
    calls.refusals.forget(calls.present)
    assert calls.refusals.latest is calls.present


def test_a_server_that_hands_back_the_refused_token_is_left_alone_for_30_seconds(calls):
    calls.refuse()
    note = calls.replace(same=True)
    told = (logging.WARNING, "token.same", "AU10001 handed back the token that had been refused")
    assert (note.level, note.event, note.words) == told
    for seconds, asks in ((0.0, False), (FUTILE_PAUSE - JUST, False), (FUTILE_PAUSE, True)):
        assert calls.refusals.refuse(calls.present, calls.now + seconds) is asks


def test_another_token_ends_the_30_seconds(calls):
    calls.refuse()
    calls.replace(same=True)
    calls.replace()
    assert calls.refuse()


@pytest.mark.parametrize("told_by", ["the repeated call", "another call"])
def test_tokens_that_do_not_help_are_asked_for_less_and_less(calls, told_by):
    lengths = []
    calls.refuse()
    for _ in range(10):
        calls.replace()
        if told_by == "the repeated call":
            calls.refusals.judge_replacement(calls.now, accepted=False)
            calls.refusals.judge_replacement(calls.now, accepted=False)
        lengths.append(calls.quiet_for())
    assert lengths == [0, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_token_that_helps_makes_the_next_refusal_the_first_again(calls):
    calls.refuse()
    for _ in range(4):
        calls.replace()
        calls.refusals.judge_replacement(calls.now, accepted=False)
        calls.quiet_for()
    calls.replace()
    calls.refusals.judge_replacement(calls.now, accepted=True)
    lengths = [calls.quiet_for()]
    for _ in range(3):
        calls.replace()
        lengths.append(calls.quiet_for())
    assert lengths == [0, 0, 1, 2]


@pytest.mark.parametrize(("age", "counts"), [(FUTILE_PAUSE - JUST, True), (FUTILE_PAUSE, False), (LONG, False)])
def test_only_a_token_that_is_refused_within_30_seconds_did_not_help(calls, age, counts):
    calls.refuse()
    for _ in range(2):
        calls.replace()
        calls.now += age
        asks = calls.refuse()
    assert asks is not counts


def test_a_token_that_replaced_none_is_no_replacement_that_did_not_help(calls):
    for _ in range(5):
        calls.replace(to_replace=False)
        assert calls.refuse()


def young_deaths(calls, number, age=1.0):
    """What the log is told as one token after the other is refused at this age."""
    told = []
    for _ in range(number):
        calls.refusals.judge_replacement(calls.now, accepted=True)
        calls.now += age
        assert calls.refuse()
        told.append(calls.replace())
    return told


def test_five_tokens_in_a_row_that_die_young_are_told_once(calls):
    calls.replace(to_replace=False)
    told = young_deaths(calls, 3 * YOUNG_DEATHS, YOUNG - JUST)
    assert [note is not None for note in told] == [False] * 4 + [True] + [False] * 10
    assert (told[4].level, told[4].event) == (logging.WARNING, "token.contested")
    assert told[4].words == (
        "5 tokens in a row were refused within 60 seconds of their issue: another program issues or revokes tokens "
        "of this appkey. Let all of them share one by a store"
    )


@pytest.mark.parametrize("interlude", ["an old death", "an issue of its own", "one that was forgotten"])
def test_one_that_dies_otherwise_begins_the_count_anew(calls, interlude):
    calls.replace(to_replace=False)
    for deaths in (4, 6, 6):
        told = young_deaths(calls, deaths)
        assert [number for number, note in enumerate(told, 1) if note] == [5][: deaths > 4]
        if interlude == "an old death":
            assert young_deaths(calls, 1, YOUNG) == [None]
        elif interlude == "an issue of its own":
            calls.replace(to_replace=False)
        else:
            calls.refuse()
            calls.refusals.forget(calls.present)
            assert calls.replace() is None


def test_the_first_to_die_young_may_be_one_that_was_found_in_the_cache(calls):
    calls.now -= LONG
    told = young_deaths(calls, 6)
    assert [note is not None for note in told] == [False] * 4 + [True, False]


def test_a_source_that_is_new_has_seen_nobody_die(calls):
    calls.now -= LONG
    calls.refusals.adopt(calls.present, token("before", calls.now), calls.now)
    assert young_deaths(calls, 4) == [None] * 4


def test_a_source_that_is_new_has_replaced_nothing_that_did_not_help(calls):
    calls.now = calls.present.issued_at + 1.0
    calls.refuse()
    calls.replace()
    assert calls.quiet_for() == 0


def test_a_source_that_is_new_or_has_another_token_asks_at_once():
    """By whatever clock."""
    refusals = Refusals()
    assert refusals.refuse(token(0, -LONG), 0.5)
    refusals.adopt(token(1, 0.5), refusals.latest, 0.5)
    assert refusals.refuse(token(1, 0.5), 0.75)
