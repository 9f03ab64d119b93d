"""When a refresh is due: to the second, and again for each token that a refresh has brought."""

import random

import pytest

from kiwoom_auth_plugin import KiwoomAuthError, _exchange
from kiwoom_auth_plugin._refresh import REFRESH_PAUSE, SAME_TOKEN_PAUSE, Refresh
from kiwoom_auth_plugin._token import AccessToken

DAY = 86_400.0
MARGIN = 300.0


def token_at(now):
    return AccessToken("a-Token", now, now + DAY, b"", now)


def first_due(schedule, token, moments, margin=MARGIN):
    return next((moment for moment in moments if schedule.is_due(token, margin, moment)), None)


def test_a_refresh_is_due_from_the_margin_on_and_not_a_moment_before():
    schedule, token = Refresh(), token_at(0.0)
    assert not schedule.is_due(token, MARGIN, DAY - MARGIN - 0.001)
    assert schedule.is_due(token, MARGIN, DAY - MARGIN)
    assert schedule.is_due(token, 2 * DAY, DAY / 2)
    assert not schedule.is_due(token, 2 * DAY, DAY / 2 - 0.001)


def test_a_schedule_that_is_new_does_not_wait():
    assert Refresh().is_due(AccessToken("a-Token", -1.0, 0.5, b"", 0.0), MARGIN, 0.0)


@pytest.mark.parametrize("chance", [0.5, 0.75, 1.0])
def test_every_token_that_a_refresh_brings_is_refreshed_within_its_own_margin(monkeypatch, chance):
    """Not the first one only: else the callers of the second day would wait for an issue."""
    monkeypatch.setattr("kiwoom_auth_plugin._refresh.chance.uniform", lambda _low, _high: chance)
    schedule, now = Refresh(), 1_700_000_000.0
    for _day in range(5):
        token = token_at(now)
        schedule.draw()
        due = token.deadline - MARGIN * chance
        assert first_due(schedule, token, (due - 60.0, due - 0.001, due)) == due
        schedule.pause(due)
        now = due + 1.0
        schedule.succeed(now, same=False)


def test_a_refresh_that_fails_is_tried_again_after_its_pause():
    schedule, token = Refresh(), token_at(0.0)
    begun = DAY - MARGIN
    schedule.pause(begun)
    assert (
        first_due(schedule, token, (begun, begun + REFRESH_PAUSE - 0.001, begun + REFRESH_PAUSE))
        == begun + REFRESH_PAUSE
    )


def test_the_same_token_is_not_asked_for_again():
    schedule, token = Refresh(), token_at(0.0)
    begun = DAY - MARGIN
    schedule.succeed(begun, same=True)
    assert first_due(schedule, token, (begun, DAY, begun + SAME_TOKEN_PAUSE - 0.001)) is None


@pytest.mark.parametrize("draw", [Refresh().draw, lambda: _exchange._pause(1, KiwoomAuthError("busy"))])
def test_what_spreads_callers_is_not_what_a_program_seeds(draw):
    before = random.getstate()
    draw()
    assert random.getstate() == before
