"""An AU10001 that hangs where no time-out reaches: those who wait give it up, and it does no harm when it returns."""

import asyncio
import contextlib
import threading
from types import SimpleNamespace

import anyio
import pytest

from kiwoom_auth_plugin import KiwoomAuthError, TokenEndpointUnreachable, _event, _flight, _flights
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._route import Route
from kiwoom_auth_plugin._token import AccessToken

from .crowd import PATIENCE, Crowd, land, watch_waiting

LOG = Log("an-appkey", "https://api.kiwoom.com")


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    """Those who wait do so for the time-out and no longer."""
    monkeypatch.setattr(_flight, "GRACE", 0.0)
    monkeypatch.setattr(_flights, "GRACE", 0.0)


class Vault:
    """A secretkey callable that hangs the first time, until it is told to go on."""

    def __init__(self, secretkey):
        self._secretkey = secretkey
        self._calls = 0
        self.hangs, self.go_on = threading.Event(), threading.Event()

    def __call__(self):
        self._calls += 1
        if self._calls == 1:
            self.thread = threading.current_thread()
            self.hangs.set()
            self.go_on.wait(PATIENCE)
        return self._secretkey


@pytest.fixture
def vault(kiwoom_emulator):
    made = Vault(kiwoom_emulator.secretkey)
    yield made
    made.go_on.set()
    land()


@pytest.fixture
def timeout():
    return 0.2


@pytest.fixture
def hanging(make_auth, vault, clock, timeout):
    """An auth object whose first AU10001 hangs in a thread."""
    auth = make_auth(secretkey=vault, clock=clock, timeout=timeout)
    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    crowd.go()
    assert vault.hangs.wait(PATIENCE)
    return auth, crowd


@pytest.mark.parametrize("timeout", [2.0])  # for all of them to start within
def test_those_who_wait_give_it_up_together(hanging):
    auth, _ = hanging
    crowd = Crowd()
    crowd.threads(5, auth.get_token)
    crowd.loop("asyncio", 5, auth.aget_token)
    crowd.loop("trio", 5, auth.aget_token)
    outcomes = crowd.go().outcomes()
    assert {type(outcome) for outcome in outcomes} == {TokenEndpointUnreachable}
    assert len({id(outcome) for outcome in outcomes}) == 15
    words = f"{auth.host}: no answer to AU10001 within 2 seconds; check the network"
    assert {(str(outcome), outcome.host) for outcome in outcomes} == {(words, auth.host)}


def test_the_next_caller_asks_for_itself(hanging, kiwoom_emulator, clock):
    auth, _ = hanging
    with pytest.raises(TokenEndpointUnreachable):
        auth.get_token()
    clock.advance(1)
    assert auth.get_token() == kiwoom_emulator.token


@pytest.mark.anyio
async def test_a_task_gives_up_the_one_that_it_has_started(make_auth, vault, clock):
    auth = make_auth(secretkey=vault, clock=clock, timeout=0.2)
    with pytest.raises(TokenEndpointUnreachable):
        await auth.aget_token()
    vault.go_on.set()
    await anyio.to_thread.run_sync(land)


def issue_of(patience):
    return SimpleNamespace(patience=patience, route=Late.route, log=LOG)


class Late:
    """An issue that comes back when it is told to, with a token from before."""

    timeout = patience = 0.2
    route = Route(None, 0.2, "requests")
    log = LOG

    def __init__(self, clock):
        self.hangs, self.go_on = threading.Event(), threading.Event()
        self._token = AccessToken("an-older-token", clock.now(), clock.now() + 86_400, b"", clock.now())

    def __call__(self, *_lookup_and_time_spent):
        self.hangs.set()
        self.go_on.wait(PATIENCE)
        return self._token, None


def test_what_comes_back_late_does_not_replace_a_newer_token(make_auth, kiwoom_emulator, clock):
    auth = make_auth(clock=clock, timeout=0.2)
    late, crowd = Late(clock), Crowd()
    crowd.threads(1, lambda: auth._source.get(late))
    crowd.go()
    assert late.hangs.wait(PATIENCE)
    with pytest.raises(TokenEndpointUnreachable):
        auth.get_token()
    clock.advance(1)
    newer = auth.get_token()
    late.go_on.set()
    crowd.outcomes()
    assert auth.get_token() == newer == kiwoom_emulator.token


def test_what_comes_back_late_is_used_where_there_is_nothing_newer(make_auth, clock):
    auth = make_auth(clock=clock, timeout=0.2)
    late, crowd = Late(clock), Crowd()
    crowd.threads(1, lambda: auth._source.get(late))
    crowd.go()
    assert late.hangs.wait(PATIENCE)
    with pytest.raises(TokenEndpointUnreachable):
        auth.get_token()
    late.go_on.set()
    crowd.outcomes()
    assert auth.get_token() == "an-older-token"


def watch(event, landed):
    """Have ``landed`` happen with the event."""
    threading.Thread(target=lambda: event.wait(PATIENCE) and landed.set(), daemon=True).start()


def test_a_token_that_is_refused_before_it_is_in_the_cache_does_not_get_there(make_auth, kiwoom_emulator):
    cache = {}
    auth = make_auth(cache=cache)
    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    landed = threading.Event()
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        watch(auth._source._flight.event, landed)
        with auth._source._slot._mutex.lock:
            gate.release()
            landed.wait(PATIENCE)
            assert auth._source.drop_refused(auth._source.token.value, LOG)
    crowd.outcomes()
    assert cache == {}


def test_a_loop_goes_on_while_an_exchange_hangs(hanging):
    auth, _ = hanging

    async def main():
        waiting = asyncio.ensure_future(auth.aget_token())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(main())


def test_an_exchange_that_hangs_holds_up_other_callables_objects_for_a_while_only(make_auth, kiwoom_emulator):
    """It hangs where no time-out reaches, as name resolution may; when its time is over, others go on."""
    hangs, go_on = threading.Event(), threading.Event()

    def vault():
        hangs.set()
        go_on.wait(PATIENCE)
        return kiwoom_emulator.secretkey

    crowd = Crowd()
    crowd.threads(1, make_auth(secretkey=vault, timeout=0.3).get_token)
    crowd.go()
    assert hangs.wait(PATIENCE)
    with contextlib.suppress(TokenEndpointUnreachable):
        make_auth(secretkey=lambda: kiwoom_emulator.secretkey, timeout=0.3).get_token()
    for _ in range(3):
        auth = make_auth(secretkey=lambda: kiwoom_emulator.secretkey, timeout=0.3)
        assert auth.get_token() == kiwoom_emulator.token
    go_on.set()
    assert crowd.outcomes() == [kiwoom_emulator.token]


def test_a_healthy_exchange_is_not_joined_by_another_because_somebody_was_impatient(
    make_auth, kiwoom_emulator, monkeypatch
):
    wait_for_waiting = watch_waiting(monkeypatch)
    crowd, later = Crowd(), Crowd()

    def auth(timeout):  # each has a callable of its own, and thus its own flight
        return make_auth(secretkey=lambda: kiwoom_emulator.secretkey, timeout=timeout)

    crowd.threads(1, auth(PATIENCE).get_token)
    later.threads(1, auth(PATIENCE).get_token)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        with pytest.raises(TokenEndpointUnreachable):
            auth(0.2).get_token()
        wait_for_waiting(1)
        later.go()
        wait_for_waiting(1)
        assert gate.parked == 1
    assert crowd.outcomes() == later.outcomes() == [kiwoom_emulator.token]
    assert kiwoom_emulator.issued == 1


@pytest.mark.parametrize("timeout", [0.2])
def test_who_ran_one_that_was_given_up_gets_its_failure_and_does_not_begin_again(
    make_auth, vault, clock, kiwoom_emulator, monkeypatch, timeout
):
    """Two who do so in turn would never come back as long as the name server is silent."""
    auth = make_auth(secretkey=vault, clock=clock, timeout=timeout)
    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    crowd.go()
    assert vault.hangs.wait(PATIENCE)
    hanging = auth._source._flight
    while hanging.patience:
        hanging.event.wait(hanging.patience)
    auth._source._end_overdue()  # as the next caller does
    monkeypatch.setattr(vault, "_secretkey", "not a key")
    vault.go_on.set()
    (outcome,) = crowd.outcomes()
    assert "secretkey callable must return" in str(outcome)
    assert vault._calls == 1


def test_one_that_was_given_up_does_not_issue_when_its_vault_comes_back(make_auth, vault, clock, kiwoom_emulator):
    auth = make_auth(secretkey=vault, clock=clock, timeout=0.2)
    crowd = Crowd()
    crowd.threads(1, auth.get_token)
    crowd.go()
    assert vault.hangs.wait(PATIENCE)
    with pytest.raises(TokenEndpointUnreachable):
        auth.get_token()
    clock.advance(0.2)
    vault.go_on.set()
    (outcome,) = crowd.outcomes()
    assert isinstance(outcome, TokenEndpointUnreachable)
    assert not kiwoom_emulator.journal


def test_an_overdue_turn_that_somebody_else_has_taken_meanwhile_is_left_to_them(
    make_auth, kiwoom_emulator, monkeypatch
):
    auth = make_auth(timeout=0.2)
    turn = auth._source._turn
    first, second = (_flight.Flight(issue_of(60.0), refresh=False) for _ in range(2))
    turn.flight = first

    wait = _event.Event.wait

    def somebody_is_faster(event, timeout):
        if event is not first.ended:
            return wait(event, timeout)
        turn.flight = second
        return False

    monkeypatch.setattr(_event.Event, "wait", somebody_is_faster)
    with pytest.raises(TokenEndpointUnreachable):
        auth.get_token()
    assert turn.flight is second


def test_a_refresh_that_hangs_is_given_up_by_whoever_comes_after_its_time(make_auth, kiwoom_emulator, vault, clock):
    auth = make_auth(secretkey=vault, clock=clock, timeout=0.2, refresh_margin=24 * 3600.0)
    vault._calls = 1
    auth.get_token()
    vault._calls = 0
    clock.advance(12 * 3600 + 1)
    auth.get_token()
    assert vault.hangs.wait(PATIENCE)
    hanging = auth._source._flight
    while hanging.patience:
        hanging.event.wait(hanging.patience)
    for seconds in (31, 12 * 3600):  # within the margin still, and past the deadline
        kiwoom_emulator.expire_tokens()
        clock.advance(seconds)
        auth.get_token()
        land_but(vault)
        assert auth.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 3


def land_but(vault):
    """Wait for what runs in the background, but for the call that hangs."""
    assert not vault.go_on.is_set()
    for thread in threading.enumerate():
        if thread.name == "kiwoom-auth-issue" and thread is not vault.thread:
            thread.join(PATIENCE)


def test_each_caller_waits_for_its_own_time_out_only(make_auth, kiwoom_emulator):
    cache, crowd = {}, Crowd()
    crowd.threads(1, make_auth(cache=cache, timeout=60.0).get_token)
    quick = make_auth(cache=cache, timeout=0.2)
    with kiwoom_emulator.hold() as gate:
        crowd.go()
        gate.wait_for(1)
        with pytest.raises(TokenEndpointUnreachable, match=r"within 0\.2 seconds"):
            quick.get_token()
        with pytest.raises(TokenEndpointUnreachable, match=r"within 0\.2 seconds"):
            asyncio.run(quick.aget_token())
        assert gate.parked == 1
    assert crowd.outcomes() == [kiwoom_emulator.token] == [quick.get_token()]
    assert kiwoom_emulator.issued == 1


def test_a_patient_caller_does_not_fail_with_an_impatient_one(make_auth, kiwoom_emulator):
    cache, crowd, quick = {}, Crowd(), Crowd()
    quick.threads(1, make_auth(cache=cache, timeout=0.5).get_token)
    crowd.threads(1, make_auth(cache=cache, timeout=PATIENCE).get_token)
    with kiwoom_emulator.hold() as gate:
        quick.go()
        gate.wait_for(1)
        crowd.go()
        (outcome,) = quick.outcomes()
        assert isinstance(outcome, TokenEndpointUnreachable)
        gate.wait_for(2)
    assert crowd.outcomes() == [kiwoom_emulator.token]


@pytest.mark.anyio
async def test_tasks_of_one_loop_wait_for_their_own_time_out_each(make_auth, kiwoom_emulator):
    """The loop has one timer for them: who is woken by the others' goes on waiting."""
    cache, crowd = {}, Crowd()
    crowd.threads(1, make_auth(cache=cache, timeout=60.0).get_token)
    slow, quick = (make_auth(cache=cache, timeout=seconds) for seconds in (50.0, 0.2))
    tokens = []

    async def wait():
        tokens.append(await slow.aget_token())

    with kiwoom_emulator.hold() as gate:
        crowd.go()
        await anyio.to_thread.run_sync(gate.wait_for, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(TokenEndpointUnreachable):
                await quick.aget_token()
            gate.release()
    assert crowd.outcomes() == tokens == [kiwoom_emulator.token]
    assert kiwoom_emulator.issued == 1


def test_a_token_that_comes_late_while_a_result_is_read_does_no_harm():
    class Changing(_flight.Flight):
        __slots__ = ("reads",)

        @property
        def outcome(self):
            self.reads = getattr(self, "reads", 0) + 1
            return TokenEndpointUnreachable("first") if self.reads == 1 else "a token"

        @outcome.setter
        def outcome(self, _outcome):
            pass

    with pytest.raises(TokenEndpointUnreachable, match="first"):
        Changing(issue_of(1.0), refresh=False).result(Late.route)


def test_a_turn_that_is_overdue_is_not_waited_for(make_auth, kiwoom_emulator):
    """Nobody has waited for it, so it was not given up: a refresh whose name server is silent, say."""
    auth = make_auth(timeout=0.5)
    overdue = auth._source._turn.flight = _flight.Flight(issue_of(-_flight.GRACE), refresh=True)
    assert not overdue.patience
    assert auth.get_token() == kiwoom_emulator.token


def test_one_that_was_given_up_does_not_take_its_turn(make_auth, monkeypatch):
    monkeypatch.setattr(_flight, "GRACE", 2.0)
    monkeypatch.setattr(_flights, "GRACE", 2.0)
    flight = _flight.Flight(issue_of(60.0), refresh=False)
    flight.landed = True
    source = make_auth(timeout=0.2)._source
    with pytest.raises(TokenEndpointUnreachable, match="within 60 seconds"):
        source._take_turn(flight)
    assert source._turn.flight is None


def test_one_whose_time_was_over_before_it_began_does_not_begin(make_auth):
    """A process that was stopped, say: somebody else may have begun meanwhile."""
    source = make_auth()._source
    with pytest.raises(TokenEndpointUnreachable):
        source._take_turn(_flight.Flight(issue_of(0.0), refresh=False))
    assert source._turn.flight is None


def test_a_signal_handler_that_asks_before_the_flight_has_begun_is_told_at_once(
    make_auth, kiwoom_emulator, monkeypatch
):
    auth = make_auth(cache={})
    fly = type(auth._source)._fly
    told = []

    def interrupted(source, *flight_and_issue):
        with pytest.raises(KiwoomAuthError, match="from within its own AU10001 call"):
            auth.get_token()
        told.append(True)
        fly(source, *flight_and_issue)

    monkeypatch.setattr(type(auth._source), "_fly", interrupted)
    assert auth.get_token() == kiwoom_emulator.token
    assert told == [True]


def test_one_that_has_most_of_its_time_left_is_waited_for(make_auth):
    source = make_auth()._source
    flight, other = (_flight.Flight(issue_of(0.9), refresh=False) for _ in range(2))
    source._turn.flight = other
    assert source._take_turn(flight) is other
    assert source._turn.flight is other


def test_a_flight_is_waited_for_a_grace_longer_than_it_may_take(monkeypatch):
    monkeypatch.setattr(_flight, "GRACE", 2.0)
    flight = _flight.Flight(issue_of(10.0), refresh=False)
    assert flight.longest == 12.0
    assert 11.0 < flight.patience <= 12.0
    assert flight.refused is None
    assert flight.landed is False


def test_a_flight_that_stayed_in_the_parent_process_holds_nobody_up(monkeypatch):
    flight = _flight.Flight(issue_of(60.0), refresh=False)
    turn = _flight.Turn()
    turn.flight = flight
    assert not turn.is_free()
    monkeypatch.setattr(flight, "_pid", 0)
    assert turn.is_free()


def test_nobody_waits_beyond_the_limit(monkeypatch):
    flight = _flight.Flight(issue_of(60.0), refresh=False)
    monkeypatch.setattr(_flights.time, "monotonic", lambda: 1000.0)
    assert _flights.until(900.0, flight) == 0.0
    assert _flights.until(1000.5, flight) == 0.5


@pytest.mark.parametrize(("patience", "waits"), [(10.0, 10.0), (14.0, 4.0)])  # of a store, 4 seconds are for its lock
def test_how_long_it_waits_for_its_turn(make_auth, clock, patience, waits):
    source = make_auth(clock=clock)._source
    waited = []
    other = SimpleNamespace(patience=60.0, runs_here=False)
    other.ended = SimpleNamespace(has_happened=False, wait=waited.append)
    source._turn = SimpleNamespace(flight=other, is_free=lambda: False)
    issue = SimpleNamespace(timeout=10.0, patience=patience, cached=lambda _lookup: clock.advance(3.0))
    flight = _flight.Flight(issue_of(60.0), refresh=False)
    with pytest.raises(TokenEndpointUnreachable, match=f"within {waits:g} seconds"):
        source._bring(flight, issue)
    assert waited == [pytest.approx(waits - 3.0, abs=0.5)]
    issue.cached = lambda _lookup: clock.advance(30.0)
    with pytest.raises(TokenEndpointUnreachable):
        source._bring(flight, issue)
    assert waited[1:] == [0.0]


def test_one_that_is_given_up_says_for_how_long_it_was_waited_for(make_auth, monkeypatch):
    monkeypatch.setattr(_flight, "GRACE", 2.0)
    monkeypatch.setattr(_flights, "GRACE", 2.0)
    source = make_auth()._source
    flight = _flight.Flight(issue_of(7.0), refresh=False)
    monkeypatch.setattr(flight, "_started", 0.0)
    monkeypatch.setattr(_flights.time, "monotonic", lambda: 100.0)
    source._give_up(flight, 200.0, issue_of(7.0))
    assert "within 7 seconds" in str(flight.outcome)


def test_the_thread_of_an_exchange_is_no_daemon_even_where_its_starter_is(make_auth, kiwoom_emulator):
    auth = make_auth(cache={})
    starter = threading.Thread(target=lambda: asyncio.run(auth.aget_token()), daemon=True)
    with kiwoom_emulator.hold() as gate:
        starter.start()
        gate.wait_for(1)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "kiwoom-auth-issue"]
        assert not thread.daemon
    starter.join()
    land()


def test_one_that_is_overdue_is_nobodys_mistake_any_more(make_auth):
    source = make_auth()._source
    source._flight = _flight.Flight(issue_of(-60.0), refresh=False, thread=threading.get_ident())
    source.refuse_reentry(turn=False)
    assert source._flight is None


def test_what_comes_after_the_failure_of_one_that_was_given_up(make_auth, clock):
    """Another failure is no news to those who have the first; a token is."""
    source = make_auth(clock=clock)._source
    flight = source._flight = _flight.Flight(issue_of(60.0), refresh=False)
    first, token = KiwoomAuthError("first"), AccessToken("late", clock.now(), clock.now() + 60.0, b"", 0.0)
    outcomes = []
    for outcome in (first, KiwoomAuthError("second"), token):
        source._land(flight, outcome)
        outcomes.append(flight.outcome)
    assert outcomes == [first, first, token]


def test_what_an_abandoned_flight_leaves_behind(make_auth):
    source = make_auth()._source
    flight = source._flight = _flight.Flight(issue_of(60.0), refresh=False)
    source._abandon(flight)
    assert (flight.landed, flight.thread, flight.outcome, source._flight) == (True, None, None, None)
    assert flight.event.has_happened


def test_the_time_counts_that_a_vault_takes_while_somebody_else_issues(make_auth, clock):
    source = make_auth(clock=clock)._source
    flight, other = (_flight.Flight(issue_of(60.0), refresh=False) for _ in range(2))
    source._turn.flight = other
    counted = []

    class Slow:
        timeout, patience = 10.0, 10.0

        def cached(self, _lookup):
            clock.advance(8.0)
            other.ended.set()

        def __call__(self, _lookup, _takes, spent, _issued):
            counted.append(spent)

    source._bring(flight, Slow())
    assert counted == [pytest.approx(8.0, abs=0.5)]


def test_a_flight_that_starts_late_has_less_time(make_auth, clock, monkeypatch):
    """Its thread was starved, say: whoever waits counts from when the flight was made."""
    source = make_auth(clock=clock)._source
    flight = _flight.Flight(issue_of(60.0), refresh=False)
    monkeypatch.setattr(flight, "_started", flight._started - 40.0)
    counted = []
    issue = Spent(counted)
    source._bring(flight, issue)
    assert counted == [pytest.approx(40.0, abs=0.5)]


class Spent:
    """An issue that notes how much of its time was over."""

    timeout, patience = 60.0, 60.0

    def __init__(self, counted):
        self._counted = counted

    def __call__(self, _lookup, _takes, spent, _issued):
        self._counted.append(spent)


def test_a_turn_that_ends_while_it_is_looked_at_is_free():
    """Another thread ends it between two looks; without a GIL, at any moment."""

    class Fading(_flight.Turn):
        __slots__ = ("_looks",)

        def __init__(self, *looks):
            self._looks = list(looks)

        @property
        def flight(self):
            return self._looks.pop(0) if self._looks else None

    flight = _flight.Flight(issue_of(60.0), refresh=False)
    assert not Fading(flight).is_free()
    flight.ended.set()
    assert Fading(flight).is_free()


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_caller_waits_for_its_time_out_however_many_flights_there_are(make_auth, monkeypatch, ask):
    """The first fails on its own way when the caller's time is nearly over; the next is somebody else's by then."""
    now = [100.0]
    monkeypatch.setattr(_flights, "time", SimpleNamespace(monotonic=lambda: now[0]))
    auth = make_auth(timeout=60.0)
    following = _flight.Flight(issue_of(5.0), refresh=False)

    class First(_flight.Flight):
        __slots__ = ()

        def result(self, _route):
            now[0] += 61.0
            auth._source._flight = following

    first = auth._source._flight = First(issue_of(60.0), refresh=False)
    first.event.set()
    with pytest.raises(TokenEndpointUnreachable, match="within 60 seconds"):
        auth.get_token() if ask == "get_token" else asyncio.run(auth.aget_token())
    assert following.patience
    auth._source._flight = None


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_caller_whose_time_is_over_does_not_begin_one_of_its_own(make_auth, kiwoom_emulator, monkeypatch, ask):
    """Somebody else has ended the overdue one it waited for."""
    now = [100.0]
    monkeypatch.setattr(_flights, "time", SimpleNamespace(monotonic=lambda: now[0]))
    auth = make_auth(timeout=60.0)

    class Ended(_flight.Flight):
        __slots__ = ()

        def result(self, _route):
            now[0] += 100.0
            auth._source._flight = None

    auth._source._flight = Ended(issue_of(60.0), refresh=False)
    auth._source._flight.event.set()
    with pytest.raises(TokenEndpointUnreachable, match="within 60 seconds"):
        auth.get_token() if ask == "get_token" else asyncio.run(auth.aget_token())
    assert not kiwoom_emulator.journal


def test_a_date_of_a_clock_that_is_years_ahead_keeps_no_later_token_out(make_auth, clock):
    """One answer dated 2100 has got into a store: what others issue after it is not older because of that."""
    source = make_auth(clock=clock)._source
    now = clock.now()

    def token(value, dated):
        return AccessToken(value, now, now + 3600.0, b"", dated)

    flight = _flight.Flight(issue_of(60.0), refresh=False)
    for ahead, takes in [
        (0.0, True),
        (60.0, False),
        (24 * 3600.0, False),
        (26 * 3600.0, True),
        (75 * 365 * 86400.0, True),
    ]:
        flight.refused = token("refused", now + ahead)
        assert source._takes(token("another", now), flight) is takes
