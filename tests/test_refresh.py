"""A refresh runs in the background: one at a time, and nobody waits for it or notices it."""

import logging
import statistics
import threading

import anyio
import httpx
import pytest
import requests

from kiwoom_auth_plugin import _refresh
from kiwoom_auth_plugin._event import Event
from kiwoom_auth_plugin.testing import KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, every_client
from .crowd import PATIENCE, Crowd, land, watch_waiting

MARGIN = 300.0
DAY = 24 * 3600.0


class Both:
    """The local clock and the server's, moved together."""

    def __init__(self, kiwoom, clock):
        self._kiwoom, self._clock = kiwoom, clock
        kiwoom.clock.freeze()
        clock.set_wall(kiwoom.clock.now().timestamp())
        clock.sleep = self.advance

    def advance(self, seconds):
        self._clock.advance(seconds)
        self._kiwoom.clock.advance(seconds)


@pytest.fixture(params=["same", "replace"])
def kiwoom(request):
    with KiwoomEmulator(reissue=request.param) as emulator:
        yield emulator


@pytest.fixture
def replacing():
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch):
    """Refreshes are tried from the whole margin on, unless a test says otherwise."""
    monkeypatch.setattr(_refresh.chance, "uniform", lambda _low, high: high)


@pytest.fixture
def due(replacing, make_auth, clock):
    """An auth object whose token has come to its margin."""
    both = Both(replacing, clock)
    auth = make_auth(emulator=replacing, clock=clock)
    auth.get_token()
    both.advance(DAY - MARGIN + 1)
    return auth


def warnings(caplog):
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_outside_of_the_margin_nothing_is_refreshed(replacing, make_auth, clock):
    both = Both(replacing, clock)
    auth = make_auth(emulator=replacing, clock=clock)
    token = auth.get_token()
    both.advance(DAY - MARGIN - 2)
    assert auth.get_token() == token
    land()
    assert replacing.issued == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_within_the_margin_one_refresh_brings_another_token(due, replacing, asynchronous):
    old = anyio.run(due.aget_token) if asynchronous else due.get_token()
    land()
    assert due.get_token() == replacing.token != old
    assert replacing.issued == 2


def test_everybody_goes_on_with_the_present_token_while_one_refresh_is_under_way(due, replacing, monkeypatch):
    def nobody_waits(*_args):
        raise AssertionError("it waits")

    present = due._source.token.value
    crowd = Crowd()
    crowd.threads(50, due.get_token)
    crowd.loop("asyncio", 100, due.aget_token)
    crowd.loop("trio", 100, due.aget_token)
    monkeypatch.setattr(Event, "wait", nobody_waits)
    monkeypatch.setattr(Event, "wait_async", nobody_waits)
    with replacing.hold() as gate:
        assert crowd.go().outcomes() == [present] * 250
        gate.wait_for(1)
        assert gate.parked == 1
    land()
    assert len(replacing.calls("au10001")) == 2


@every_client
def test_calls_are_answered_while_a_refresh_is_under_way(due, replacing, open_client):
    with replacing.hold() as gate, open_client(due) as client:
        for _ in range(3):
            assert client.post(replacing.url + TR).json()["return_code"] == 0
            gate.wait_for(1)
        assert gate.parked == 1
    land()
    assert replacing.issued == 2


def test_calls_that_the_refresh_overtakes_are_repeated(due, replacing):
    """In the "replace" model the refresh kills the token that calls on their way carry."""
    crowd = Crowd()
    crowd.threads(
        20, lambda: requests.post(due._host + TR, data=BODY, headers=HEADERS, auth=due, timeout=PATIENCE).json()
    )
    with replacing.hold("/api/dostk/") as gate:
        crowd.go()
        gate.wait_for(20)
        land()
    assert [outcome["return_code"] for outcome in crowd.outcomes()] == [0] * 20
    assert len(replacing.calls("au10001")) == 2


@pytest.mark.parametrize(
    "answer", [recorded.UNEXPECTED_ERROR, recorded.BAD_KEY_PAIR, recorded.ISSUED_TOO_OFTEN, recorded.MAINTENANCE]
)
def test_a_refresh_that_fails_is_noticed_by_nobody_but_the_log(due, replacing, clock, caplog, answer):
    replacing.script("/oauth2/token", *[answer] * 3)
    present = due._source.token.value
    assert due.get_token() == present
    land()
    assert due.get_token() == present
    assert anyio.run(due.aget_token) == present
    assert len(warnings(caplog)) == 1
    assert replacing.secretkey not in caplog.text


def test_after_a_refresh_that_failed_the_next_is_tried_in_30_seconds(due, replacing, clock):
    replacing.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    due.get_token()
    land()
    for _ in range(29):
        clock.advance(1)
        due.get_token()
        land()
    assert len(replacing.calls("au10001")) == 2
    clock.advance(1)
    due.get_token()
    land()
    assert len(replacing.calls("au10001")) == 3
    assert due.get_token() == replacing.token


def test_the_30_seconds_count_from_the_end_of_the_refresh_that_failed(due, replacing, clock):
    replacing.script("/oauth2/token", *[recorded.UNEXPECTED_ERROR] * 3)
    due.get_token()
    land()
    assert len(replacing.calls("au10001")) == 4  # three attempts, and pauses in between
    clock.advance(29.9)
    due.get_token()
    land()
    assert len(replacing.calls("au10001")) == 4


def test_a_refresh_that_failed_does_not_make_the_next_callers_rest(due, replacing, clock):
    """At the deadline the server is asked again, whatever a refresh was told."""
    replacing.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    due.get_token()
    land()
    clock.advance(MARGIN)
    assert due.get_token() == replacing.token


def test_a_refresh_for_which_no_thread_is_to_be_had_is_noticed_by_nobody(due, replacing, monkeypatch, caplog):
    present = due._source.token.value

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert due.get_token() == due.get_token() == present
    assert len(warnings(caplog)) == 1


def test_a_caller_that_is_late_to_see_the_margin_starts_no_second_refresh(due, replacing):
    """It has read the snapshot before the refresh has changed it, and looks at it afterwards."""
    source, read = due._source, due._source.token
    due.get_token()
    land()
    source._refresh._from = 0.0
    source.refresh_if_due(read, MARGIN, due._by_requests)
    land()
    assert replacing.issued == 2


def test_the_same_token_is_left_alone_until_it_expires(kiwoom_emulator, make_auth, clock):
    both = Both(kiwoom_emulator, clock)
    auth = make_auth(clock=clock)
    token = auth.get_token()
    both.advance(DAY - MARGIN)
    for _ in range(int(MARGIN) - 2):
        both.advance(1)
        assert auth.get_token() == token
        land()
    assert kiwoom_emulator.issued == 2
    both.advance(2)
    assert auth.get_token() == kiwoom_emulator.token != token
    assert kiwoom_emulator.issued == 3


def test_margin_zero_never_refreshes(replacing, make_auth, clock):
    both = Both(replacing, clock)
    auth = make_auth(emulator=replacing, clock=clock, refresh_margin=0)
    token = auth.get_token()
    both.advance(DAY - 2)
    for _ in range(10):
        assert auth.get_token() == token
        both.advance(0.1)
        land()
    assert replacing.issued == 1


def first_refresh(auth, kiwoom, both, *, step, until):
    """Seconds before the deadline at which the refresh comes."""
    issued = kiwoom.issued
    while kiwoom.issued == issued:
        left = auth._source.token.deadline - auth._clock.now()
        assert left > until, "no refresh came"
        auth.get_token()
        land()
        both.advance(step)
    return left


@pytest.mark.parametrize("chance", [0.5, 0.75, 1.0])
def test_the_margin_is_shortened_by_chance_to_half_of_it_at_most(replacing, make_auth, clock, monkeypatch, chance):
    asked = []

    def uniform(low, high):
        asked.append((low, high))
        return chance

    monkeypatch.setattr(_refresh.chance, "uniform", uniform)
    both = Both(replacing, clock)
    auth = make_auth(emulator=replacing, clock=clock)
    auth.get_token()
    both.advance(DAY - MARGIN - 3)
    assert first_refresh(auth, replacing, both, step=1, until=0) == pytest.approx(MARGIN * chance, abs=2)
    assert set(asked) == {(0.5, 1.0)}


def test_chance_spreads_the_refreshes_of_many_programs(replacing, make_auth, clock, monkeypatch):
    monkeypatch.undo()
    spread = []
    for _ in range(20):
        auth = make_auth(emulator=replacing, clock=clock)
        auth.get_token()
        spread.append(auth._source._refresh._share)
    assert min(spread) >= 0.5
    assert max(spread) <= 1.0
    assert statistics.stdev(spread) > 0.05


@pytest.mark.parametrize("margin", [DAY, 7 * DAY, 1e9])
def test_the_margin_is_never_more_than_half_of_the_life(replacing, make_auth, clock, margin):
    both = Both(replacing, clock)
    auth = make_auth(emulator=replacing, clock=clock, refresh_margin=margin)
    auth.get_token()
    both.advance(DAY / 2 - 3)
    auth.get_token()
    land()
    assert replacing.issued == 1
    assert first_refresh(auth, replacing, both, step=1, until=DAY / 2 - 10) == pytest.approx(DAY / 2, abs=2)


def test_half_of_the_life_is_counted_from_when_the_token_was_received(kiwoom_emulator, make_auth, clock):
    """A token received late in its life has less left: with 4 hours, the half is 2."""
    both = Both(kiwoom_emulator, clock)
    make_auth(clock=clock, cache={}).get_token()
    both.advance(DAY - 4 * 3600)
    auth = make_auth(clock=clock, cache={}, refresh_margin=DAY)
    auth.get_token()
    both.advance(2 * 3600 - 3)
    auth.get_token()
    land()
    assert kiwoom_emulator.issued == 2
    both.advance(6)
    auth.get_token()
    land()
    assert kiwoom_emulator.issued == 3


def test_a_token_that_dies_while_its_refresh_is_under_way_is_waited_for(due, replacing, clock, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd = Crowd()
    crowd.threads(10, due.get_token)
    crowd.loop("asyncio", 10, due.aget_token)
    with replacing.hold() as gate:
        due.get_token()
        gate.wait_for(1)
        clock.advance(MARGIN)
        crowd.go()
        wait_for_waiting(20)
        assert gate.parked == 1
    assert crowd.outcomes() == [replacing.token] * 20
    assert len(replacing.calls("au10001")) == 2


def test_a_refusal_during_a_refresh_is_answered_by_that_refresh(due, replacing, monkeypatch):
    wait_for_waiting = watch_waiting(monkeypatch)
    flow = due.sync_auth_flow(httpx.Request("POST", due._host + TR, content=BODY))
    crowd = Crowd()
    crowd.threads(1, lambda: flow.send(httpx.Response(401)).headers["Authorization"])
    with replacing.hold() as gate:
        next(flow)
        gate.wait_for(1)
        crowd.go()
        wait_for_waiting(1)
    assert crowd.outcomes() == [f"Bearer {replacing.token}"]
    assert len(replacing.calls("au10001")) == 2


def test_a_simulated_week_of_steady_traffic_issues_7_or_8_times(kiwoom, make_auth, clock, monkeypatch):
    monkeypatch.undo()
    both = Both(kiwoom, clock)
    auth = make_auth(emulator=kiwoom, clock=clock)
    for _minute in range(7 * 24 * 60):
        assert auth.get_token()
        land()
        assert auth.get_token() == kiwoom.token
        both.advance(60)
    assert len(kiwoom.calls("au10001")) in {7, 8}


def test_a_simulated_week_with_calls_has_no_call_refused(kiwoom, make_auth, clock):
    both = Both(kiwoom, clock)
    auth = make_auth(emulator=kiwoom, clock=clock)
    with requests.Session() as session:
        session.auth = auth
        for _hour in range(7 * 24 * 2):
            answer = session.post(kiwoom.url + TR, data=BODY, headers=HEADERS, timeout=PATIENCE)
            assert answer.json()["return_code"] == 0
            land()
            both.advance(1800 - 7)
    assert {call.code for call in kiwoom.calls("ka10001")} == {None}
    assert len(kiwoom.calls("au10001")) in {7, 8}


def test_objects_of_another_callable_do_not_wait_for_a_refresh(make_auth, kiwoom_emulator, clock):
    """Each has a flight of its own, and takes turns with the others; but the token is good meanwhile."""
    cache = {}

    def auth():
        return make_auth(
            secretkey=lambda: kiwoom_emulator.secretkey, clock=clock, cache=cache, refresh_margin=24 * 3600.0
        )

    first = auth()
    token = first.get_token()
    clock.advance(12 * 3600 + 1)
    with kiwoom_emulator.hold() as gate:
        first.get_token()
        gate.wait_for(1)
        assert auth().get_token() == token
        assert gate.parked == 1
    land()
