"""Clocks go wrong: a dead token is not used for long, and a live one is not issued anew in a loop."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from kiwoom_auth_plugin._clock import Clock
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture(params=["same", "replace"])
def kiwoom(request, clock):
    """A server whose clock stands still, in step with ``clock``."""
    with KiwoomEmulator(reissue=request.param) as emulator:
        emulator.clock.freeze()
        clock.set_wall(emulator.clock.now().timestamp())
        yield emulator


@pytest.fixture
def auth(kiwoom, make_auth, clock):
    return make_auth(emulator=kiwoom, clock=clock, refresh_margin=0)


def is_alive(auth, kiwoom):
    """Whether the token that the plugin uses is one that the server accepts."""
    return auth.get_token() == kiwoom.token


class Hands:
    """A clock's two sources, moved by hand."""

    wall = 1000.0
    monotonic = 50.0


@pytest.fixture
def hands():
    return Hands()


@pytest.fixture
def bare(hands):
    return Clock(lambda: hands.wall, lambda: hands.monotonic)


def test_now_is_the_wall_clock_as_long_as_both_agree(bare, hands):
    assert bare.now() == 1000.0
    hands.wall += 7
    hands.monotonic += 7
    assert bare.now() == bare.wall() == 1007.0


def test_a_suspended_machine_is_counted_by_the_wall_clock(bare, hands):
    hands.wall += 8 * HOUR
    assert bare.now() == 1000.0 + 8 * HOUR


def test_a_clock_set_back_is_out_run_by_the_monotonic_one(bare, hands):
    hands.wall -= 8 * HOUR
    hands.monotonic += 60
    assert bare.now() == 1060.0
    assert bare.wall() == 1000.0 - 8 * HOUR


def test_a_clock_set_forward_and_back_never_runs_backwards(bare, hands):
    hands.wall += HOUR
    assert bare.now() == 1000.0 + HOUR
    hands.wall -= HOUR
    hands.monotonic += 1
    assert bare.now() == 1001.0 + HOUR


def test_a_clock_that_is_read_between_suspending_and_setting_back_keeps_what_it_saw(bare, hands):
    seen = []
    for step in (5, -3, 8, -8, 0, 2):
        hands.wall += step
        hands.monotonic += 1
        seen.append(bare.now())
    assert seen == sorted(seen)


# With the plugin


def test_a_laptop_that_slept_through_the_expiry_issues_anew_at_once(auth, kiwoom, clock):
    auth.get_token()
    clock.suspend(25 * HOUR)
    kiwoom.clock.advance(25 * HOUR)
    assert is_alive(auth, kiwoom)
    assert kiwoom.issued == 2


def test_a_laptop_that_slept_for_an_hour_uses_its_token_on(auth, kiwoom, clock):
    auth.get_token()
    clock.suspend(HOUR)
    kiwoom.clock.advance(HOUR)
    assert is_alive(auth, kiwoom)
    assert kiwoom.issued == 1


def test_a_clock_set_back_does_not_keep_a_dead_token_alive(auth, kiwoom, clock):
    auth.get_token()
    clock.set_wall(clock.wall() - 12 * HOUR)
    clock.advance(24 * HOUR)
    kiwoom.clock.advance(24 * HOUR)
    assert is_alive(auth, kiwoom)
    assert kiwoom.issued == 2


def test_a_clock_set_forward_costs_one_issue_and_no_loop(auth, kiwoom, clock):
    auth.get_token()
    clock.set_wall(clock.wall() + 30 * HOUR)
    for _ in range(100):
        assert is_alive(auth, kiwoom)
        clock.advance(60)
        kiwoom.clock.advance(60)
    assert kiwoom.issued == 2


def test_a_clock_set_forward_and_back_costs_one_issue_and_no_loop(auth, kiwoom, clock):
    auth.get_token()
    clock.set_wall(clock.wall() + 30 * HOUR)
    assert is_alive(auth, kiwoom)
    clock.set_wall(clock.wall() - 30 * HOUR)
    for _ in range(100):
        assert is_alive(auth, kiwoom)
        clock.advance(60)
        kiwoom.clock.advance(60)
    assert kiwoom.issued == 2


def test_a_clock_that_is_set_forward_and_back_again_and_again_costs_one_issue(auth, kiwoom, clock):
    auth.get_token()
    for _ in range(20):
        clock.set_wall(clock.wall() + 30 * HOUR)
        auth.get_token()
        clock.set_wall(clock.wall() - 30 * HOUR)
        assert is_alive(auth, kiwoom)
    assert kiwoom.issued == 2


@pytest.mark.parametrize("steps", [[9, -9, 9, -9], [-9, 18, -9], [30, -60, 30]])
def test_whatever_is_done_to_the_clock_a_dead_token_is_replaced_when_its_day_is_over(
    auth, kiwoom, clock, make_auth, steps
):
    auth.get_token()
    for hours in steps:
        clock.set_wall(clock.wall() + hours * HOUR)
        assert is_alive(auth, kiwoom)
    clock.advance(DAY)
    kiwoom.clock.advance(DAY)
    assert is_alive(auth, kiwoom)
    assert kiwoom.issued <= 3


@pytest.mark.parametrize("hours", [-30, -9, 9, 30])
def test_a_server_whose_clock_is_off_does_no_harm(kiwoom, make_auth, clock, hours):
    kiwoom.clock.advance(hours * HOUR)
    auth = make_auth(emulator=kiwoom, clock=clock, refresh_margin=0)
    for _ in range(3 * 24):
        assert is_alive(auth, kiwoom)
        clock.advance(HOUR)
        kiwoom.clock.advance(HOUR)
    assert kiwoom.issued == 3


@pytest.mark.parametrize("hours", [-30, -9, 0, 9, 30])
def test_expires_at_is_told_on_the_local_clock(kiwoom, make_auth, clock, hours):
    kiwoom.clock.advance(hours * HOUR)
    auth = make_auth(emulator=kiwoom, clock=clock)
    auth.get_token()
    expected = datetime.fromtimestamp(clock.wall(), UTC) + timedelta(hours=24)
    assert abs(auth.expires_at - expected) <= timedelta(seconds=1)
    clock.set_wall(clock.wall() - 5 * HOUR)
    assert abs(auth.expires_at - (expected - timedelta(hours=5))) <= timedelta(seconds=1)


# Without a Date


def without_date(kiwoom):
    """What AU10001 answers, with a header less: a scripted answer for the token that the server has issued."""
    fields = httpx.post(
        kiwoom.url + "/oauth2/token",
        json={"grant_type": "client_credentials", "appkey": kiwoom.appkey, "secretkey": kiwoom.secretkey},
        headers={"Content-Type": "application/json;charset=UTF-8"},
    ).json()
    return Answer.json(fields, headers=(("Date", ""),))


def test_without_a_date_header_the_local_clock_counts(kiwoom, auth, clock):
    kiwoom.script("/oauth2/token", without_date(kiwoom))
    assert is_alive(auth, kiwoom)
    clock.advance(DAY - 2)
    kiwoom.clock.advance(DAY - 2)
    assert is_alive(auth, kiwoom)
    clock.advance(2)
    kiwoom.clock.advance(2)
    assert is_alive(auth, kiwoom)
    assert len(kiwoom.calls("au10001")) == 3


def test_without_a_date_header_and_with_a_clock_that_is_fast_the_token_is_used_for_less_long(kiwoom, auth, clock):
    kiwoom.script("/oauth2/token", without_date(kiwoom))
    clock.set_wall(clock.wall() + 20 * HOUR)
    assert is_alive(auth, kiwoom)
    clock.advance(4 * HOUR)
    kiwoom.clock.advance(4 * HOUR)
    assert is_alive(auth, kiwoom)
    assert len(kiwoom.calls("au10001")) == 3


# The last second


@pytest.mark.parametrize("left", [0.95, 0.5, 0.05, 0.0])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
def test_a_token_that_is_handed_back_in_its_last_second_fails_no_call(kiwoom, auth, clock, left, fraction):
    """The local deadline comes first, by as long as the request was on its way; the server's token lives still."""
    kiwoom.clock.set(kiwoom.clock.now().replace(microsecond=int(fraction * 1_000_000)))
    auth.get_token()
    clock.sleep = lambda seconds: (clock.advance(seconds), kiwoom.clock.advance(seconds))
    clock.advance(DAY)
    kiwoom.clock.advance(DAY - left)
    auth.get_token()
    clock.advance(2)
    kiwoom.clock.advance(2)
    assert is_alive(auth, kiwoom)
