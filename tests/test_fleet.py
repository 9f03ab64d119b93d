"""The model of a fleet, and that it does what the package does."""

import contextlib
import dataclasses
import math
import random
import threading
from datetime import datetime

import pytest
import requests
from requests.adapters import HTTPAdapter

from kiwoom_auth_plugin._clock import KST
from kiwoom_auth_plugin._source import TokenSource
from kiwoom_auth_plugin.testing import KiwoomEmulator

from .benchmarks.fleet import DAY, HOUR, STORES, Fleet, Model, Outage, Usage, at_one_stroke, renewal, row, seeded
from .clients import BODY, HEADERS, TR
from .crowd import PATIENCE, land

SMALL = Fleet(appkeys=40, machines=10, processes=2, idle=60.0)
QUIET = dataclasses.replace(SMALL, machine_life=math.inf, process_life=math.inf, failovers=0)
SERVERS = pytest.mark.parametrize("server", ["same", "replace"])


def by_day(fleet, server, **options):
    """AU10001 calls of each appkey: a list for each day."""
    counts = Model(fleet, server, **options).run()
    return [list(counts.by_appkey[day :: fleet.days]) for day in range(fleet.days)]


def mean(numbers):
    return sum(numbers) / len(numbers)


# The model


@SERVERS
@pytest.mark.parametrize("store", STORES)
def test_the_seed_decides_it_all(server, store):
    fleet = dataclasses.replace(SMALL, appkeys=2, days=1, busy=30.0)
    assert row(fleet, server, store) == row(fleet, server, store)
    assert row(fleet, server, store) != row(dataclasses.replace(fleet, seed=1), server, store)


def test_processes_of_one_appkey_are_on_different_machines_and_evenly_loaded():
    fleet = Fleet()
    load = [0] * (fleet.machines * fleet.processes)
    for appkey in range(fleet.appkeys):
        processes = [fleet.process_of(appkey, user) for user in range(fleet.users)]
        assert len({process // fleet.processes for process in processes}) == fleet.users
        for process in processes:
            load[process] += 1
    assert set(load) == {50}


@pytest.mark.parametrize("restarts", [{}, {"machine_life": DAY / 2, "process_life": DAY / 2}])
def test_with_a_store_a_server_that_replaces_is_asked_once_a_day(restarts):
    assert by_day(dataclasses.replace(QUIET, **restarts), "replace") == [[1] * 40] * 3


def test_with_a_store_a_server_that_gives_the_same_token_is_asked_once_a_day_and_once_in_vain():
    first, second, third = by_day(QUIET, "same")
    assert first == [1] * 40
    assert 2 <= mean(second) <= 2.3  # and for a token in its last second
    assert 1 <= mean(third) <= 1.3
    assert max(second + third) <= 4


def test_restarts_make_it_once_in_vain_for_each_token_at_most():
    days = by_day(dataclasses.replace(QUIET, machine_life=DAY / 2), "same")
    assert max(mean(day) for day in days) <= 2.3


def test_without_a_store_each_process_asks_for_itself():
    assert by_day(QUIET, "same", shared=False)[0] == [QUIET.users] * 40


def test_without_a_store_processes_cut_each_other_off_where_the_server_replaces():
    fleet = dataclasses.replace(QUIET, appkeys=1, days=1, busy=30.0)
    counts = Model(fleet, "replace", shared=False).run()
    calls = fleet.requests()
    assert counts.by_appkey[0] == counts.refused + 5 - counts.failed
    assert counts.refused / calls == pytest.approx(1 - 1 / fleet.users, rel=0.1)


@SERVERS
def test_a_redis_that_is_always_away_is_like_none(server):
    fleet = dataclasses.replace(SMALL, appkeys=2, days=1, busy=30.0)
    counts = Model(fleet, server, outages=[Outage(0.0, DAY + HOUR, loses=True)]).run()
    without = Model(fleet, server, shared=False).run()
    assert counts.issues == without.issues
    assert (counts.refused, counts.failed) == (without.refused, without.failed)
    assert sum(counts.commands) == 0


@pytest.mark.parametrize("loses", [False, True])
def test_an_outage_amid_the_refreshes_costs_a_server_that_gives_the_same_token_a_few_calls_and_no_caller(loses):
    counts = Model(QUIET, "same", outages=[Outage(DAY + 8 * HOUR - 300, DAY + 9 * HOUR, loses)]).run()
    assert max(counts.by_appkey) <= 2 * QUIET.users + 2
    assert counts.failed == 0


def test_where_the_server_replaces_processes_cut_each_other_off_for_an_outage_and_until_they_know_of_its_end():
    end = DAY + 8 * HOUR + 600
    model = Model(QUIET, "replace", outages=[Outage(end - 120, end, loses=False)], keeps_log=True)
    counts = model.run()
    issued = [moment for moment, _pair, what in counts.log if what == "AU10001" and DAY < moment < 2 * DAY]
    assert len(issued) > 2 * QUIET.appkeys
    assert sum(moment > end + 31 for moment in issued) <= QUIET.appkeys
    assert by_day(QUIET, "replace")[2] == [1] * 40


@SERVERS
def test_after_a_loss_the_first_process_that_has_restarted_asks_once_more(server):
    noon = DAY + 12 * HOUR
    restarts = [[(0.0, 8 * HOUR + process), (noon + process, noon + process)] for process in range(20)]
    counts = [
        sum(Model(QUIET, server, outages=[Outage(noon - 60, noon - 50, loses)], restarts=restarts).run().issues)
        for loses in (False, True)
    ]
    assert counts[1] - counts[0] == pytest.approx(QUIET.appkeys, abs=4)


def test_jitter_spreads_the_refreshes_of_a_fleet_that_was_started_at_one_stroke():
    for users, gain in ((1, 2), (5, 2)):
        fleet = at_one_stroke(Fleet(machines=10, processes=2), 1000, users)
        steady, spread = (renewal(fleet, "replace", store)[0] for store in ("Redis, no jitter", "Redis"))
        assert spread * gain < steady


# The package


class Script(Usage):
    """Uses at given moments: for each process a sorted list of them."""

    def __init__(self, moments):
        self.moments = moments

    def next(self, pair, after):
        return next((moment for moment in self.moments[pair] if moment > after), math.inf)


class View:
    """One process's way to what all of them share."""

    def __init__(self, shared, now, outages):
        self.shared, self.now, self.outages = shared, now, outages
        self.asked = shared.setdefault("asked", [])

    def reach(self, commands):
        if any(outage.start <= self.now() < outage.end for outage in self.outages):
            raise OSError("away")
        self.asked.append(commands)

    def load(self, key):
        self.reach(1)
        value, since = self.shared.get(key, (None, 0.0))
        lost = any(since <= outage.start <= self.now() for outage in self.outages if outage.loses)
        return None if lost else value

    def save(self, key, value, _ttl):
        self.reach(1)
        self.shared[key] = (value, self.now())

    def delete(self, _key):
        raise AssertionError

    @contextlib.contextmanager
    def lock(self, _key, _timeout):
        self.reach(2)
        yield


def what_the_package_does(fleet, server, moments, outages, restarts, make_auth, clock, monkeypatch):
    """AU10001 calls, refused and failed calls, commands to the store."""
    pytest.importorskip("cryptography", reason="needs the package cryptography")
    answered = threading.Event()

    class Watched(HTTPAdapter):
        def send(self, *arguments, **options):
            answer = super().send(*arguments, **options)
            answered.set()
            return answer

    def send_off(source, flight, issue):
        """The call that notices that a refresh is due gets to the server before it."""

        def fly():
            assert answered.wait(PATIENCE)
            source._fly(flight, issue, (BaseException,))

        threading.Thread(target=fly, name="kiwoom-auth-issue").start()

    monkeypatch.setattr(TokenSource, "_send_off", send_off)
    midnight = datetime(2026, 1, 5, tzinfo=KST)
    shared, auths, refused, failed = {}, {}, 0, 0
    with KiwoomEmulator(reissue=server) as kiwoom, requests.Session() as session:
        session.mount("http://", Watched())
        kiwoom.clock.set(midnight)
        kiwoom.clock.freeze()
        clock.set_wall(midnight.timestamp())

        def advance(seconds):
            clock.advance(seconds)
            kiwoom.clock.advance(seconds)

        def now():
            return clock.wall_time - midnight.timestamp()

        clock.sleep = advance
        for moment, process in sorted((moment, number) for number in range(3) for moment in moments[number]):
            downs = [down for down, up in restarts[process] if up < moment]
            if not downs:
                continue
            advance(max(0.0, moment - now()))
            if (process, len(downs)) not in auths:
                store = View(shared, now, outages)
                auths[process, len(downs)] = make_auth(emulator=kiwoom, clock=clock, cache={}, store=store)
            session.auth = auths[process, len(downs)]
            answered.clear()
            kiwoom.clear_journal()
            answer = session.post(kiwoom.url + TR, data=BODY, headers=HEADERS, timeout=PATIENCE)
            land()
            refused += kiwoom.calls("ka10001")[0].code == 8005
            failed += answer.json()["return_code"] != 0
        return kiwoom.issued, refused, failed, sum(shared["asked"])


def agree(server, moments, outages, restarts, make_auth, clock, monkeypatch):
    """Compare the model with the package; the figures of both."""
    fleet = Fleet(appkeys=1, machines=3, processes=1, users=3, exchange=0.0)
    with seeded(fleet.seed):
        real = what_the_package_does(fleet, server, moments, outages, restarts, make_auth, clock, monkeypatch)
    counts = Model(fleet, server, usage=Script(moments), outages=outages, restarts=restarts).run()
    assert (sum(counts.issues), counts.refused, counts.failed, sum(counts.commands)) == real
    return real


@SERVERS
def test_the_package_does_what_the_model_says_with_a_call_every_half_hour(server, make_auth, clock, monkeypatch):
    """The third process calls within the margin, whatever the jitter: 140 s before the first."""
    starts = [8 * HOUR + 0.125, 8 * HOUR + 600.25, 8.5 * HOUR - 140]
    moments = [[start + 1800 * number for number in range(int(2.6 * 48))] for start in starts]
    restarts = [[(0.0, start - 1)] for start in starts]
    issued, _, failed, _ = agree(server, moments, [], restarts, make_auth, clock, monkeypatch)
    assert issued == {"same": 4, "replace": 3}[server]
    assert failed == 0


@SERVERS
@pytest.mark.parametrize("seed", range(3))
def test_the_package_does_what_the_model_says_in_adversity(server, seed, make_auth, clock, monkeypatch):
    chance = random.Random(seed)

    def moment(start, end):
        return chance.randrange(int(start * 8), int(end * 8)) / 8

    mornings = [(DAY * day + 7.8 * HOUR, DAY * day + 8.5 * HOUR) for day in range(3)]
    moments = [
        sorted({moment(8 * HOUR, 3 * DAY) for _ in range(90)} | {moment(*mornings[n % 3]) for n in range(90)})
        for _ in range(3)
    ]
    outages = []
    for day in range(3):
        start = moment(*mornings[day])
        outages.append(Outage(start, start + moment(5, 300), loses=day % 2 == 0))
    restarts = [
        [(0.0, moment(8 * HOUR, 8.1 * HOUR)), *sorted((at, at) for at in [moment(9 * HOUR, 3 * DAY) for _ in range(4)])]
        for _ in range(3)
    ]
    agree(server, moments, outages, restarts, make_auth, clock, monkeypatch)
