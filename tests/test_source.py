"""A token source by itself: what it decides, step by step, with a stand-in for the exchange."""

import asyncio
import threading

import pytest

from kiwoom_auth_plugin import KiwoomAuthError
from kiwoom_auth_plugin._cache import Slot
from kiwoom_auth_plugin._flight import Flight, Turn
from kiwoom_auth_plugin._locks import Renewed
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._refused import FUTILE_PAUSE
from kiwoom_auth_plugin._route import Route
from kiwoom_auth_plugin._source import TokenSource
from kiwoom_auth_plugin._token import LAST_MOMENT, LONGEST_LIFE, AccessToken

from .crowd import PATIENCE, land

HOST = "https://api.kiwoom.com"
KEY = ("an-appkey", HOST)
DIGEST = b"of the secretkey"
DAY = 86_400.0

both = pytest.mark.parametrize("ask", ["get", "aget"])


class Desk:
    """A source, its cache, and an exchange that brings what it is told to.

    Args:
        clock: the time.
        cache: of the tokens.
    """

    def __init__(self, clock, cache):
        self.clock, self.cache = clock, cache
        self.heard = []
        self.log = Log("an-appkey", HOST, self.heard.append)
        self.source = TokenSource(HOST, Slot(cache, KEY, clock, Renewed()), Turn(), clock)
        # What the source asks of an exchange
        self.timeout = self.patience = 10.0
        self.route = Route(None, 10.0, "requests")
        self.outcomes = []

    def __call__(self, lookup, _takes, _spent, _issued):
        found = lookup(DIGEST)
        if found is not None:
            return found, None
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, KiwoomAuthError):
            raise outcome
        return outcome, None

    def cached(self, lookup):
        return lookup(DIGEST)

    def token(self, value="a-token", *, life=DAY, dated=0.0):
        now = self.clock.now()
        return AccessToken(value, now, now + life, DIGEST, now + dated)

    def brings(self, *outcomes):
        self.outcomes += outcomes

    def ask(self, ask="get"):
        return self.source.get(self) if ask == "get" else asyncio.run(self.source.aget(self))

    def replace(self, refused, ask="get"):
        return self.source.replace(refused, self) if ask == "get" else asyncio.run(self.source.areplace(refused, self))

    def flight(self, *, refresh=False):
        return Flight(self, refresh=refresh)

    def names(self):
        return [event.name for event in self.heard]


@pytest.fixture
def desk(clock):
    return Desk(clock, {})


class Broken(dict):
    """A cache that cannot be used."""

    def get(self, _key):
        raise OSError("no space left")


def test_an_error_names_the_host(desk):
    assert str(desk.source._overdue(2.0)).startswith(HOST)


@both
def test_the_same_token_after_the_deadline_is_no_reason_to_refresh_no_more(desk, ask):
    """It was no refresh that brought it: this server may have another within its margin."""
    first = desk.token()
    desk.brings(first)
    assert desk.ask(ask) is first
    desk.clock.advance(DAY)
    again, later = desk.token(), desk.token("another", dated=1.0)
    desk.brings(again, later)
    assert desk.ask(ask) is again
    desk.clock.advance(DAY - 1.0)
    desk.source.refresh_if_due(again, 3600.0, desk)
    land()
    assert desk.source.token is later


def test_whoever_had_it_issued_by_a_thread_has_heard_of_it(desk):
    hangs, go_on = threading.Event(), threading.Event()

    def listen(_event):
        hangs.set()
        assert go_on.wait(PATIENCE)

    async def main():
        task = asyncio.ensure_future(desk.source.aget(desk))
        assert await asyncio.to_thread(hangs.wait, PATIENCE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        return await task

    desk.log = Log("an-appkey", HOST, listen)
    same = desk.token("refused")
    desk.source.token = same
    assert desk.source.drop_refused("refused", Log("an-appkey", HOST))
    desk.brings(same)  # which is told
    assert asyncio.run(main()) is same


@both
def test_a_token_that_is_there_is_given_to_whom_no_time_is_left(desk, ask):
    desk.patience = -60.0
    desk.source.token = desk.token()
    assert desk.ask(ask) is desk.source.token


@both
def test_while_the_server_has_no_other_the_refused_one_is_not_replaced_even_if_it_ends(desk, ask):
    token = desk.token(life=FUTILE_PAUSE / 2)
    desk.brings(token, token)
    desk.ask(ask)
    assert desk.replace(token.value, ask) is None
    desk.clock.advance(FUTILE_PAUSE / 2)
    assert desk.replace(token.value, ask) is None  # the next call gets another


@both
def test_where_the_server_has_no_other_token_it_is_not_asked_for_one(desk, ask):
    token = desk.token()
    desk.brings(token, token)
    desk.ask(ask)
    assert desk.replace(token.value, ask) is None  # it handed back the same
    assert desk.names() == ["token.refused", "token.same"]
    assert not desk.source.drop_refused(token.value, desk.log)
    assert desk.replace(token.value, ask) is None
    assert desk.outcomes == []
    assert desk.source.token is token
    assert desk.names() == ["token.refused", "token.same"]


@both
def test_a_refused_token_is_replaced_and_a_former_one_is_not_news(desk, ask):
    first, second = desk.token(), desk.token("another")
    desk.brings(first, second)
    desk.ask(ask)
    assert desk.replace(first.value, ask) is second
    assert [(event.name, event.message) for event in desk.heard] == [("token.refused", "the server refused the token")]
    assert desk.replace(first.value, ask) is second
    assert len(desk.heard) == 1


def test_a_replacement_may_be_judged_when_it_is_gone(desk):
    token = desk.token()
    desk.source.judge_replacement(token, accepted=False)
    desk.source.judge_replacement(token, accepted=True)
    assert desk.source.token is None


def test_a_token_is_valid_up_to_its_deadline(desk):
    desk.brings(desk.token(), desk.token("another"))
    token = desk.ask()
    desk.clock.advance(DAY - 0.5)
    assert desk.source.cached(lambda: DIGEST, desk.log) is token
    desk.clock.advance(0.5)
    assert desk.source.cached(lambda: DIGEST, desk.log) is None
    assert desk.ask().value == "another"


def test_a_cache_that_fails_is_told_to_whoever_asks(clock):
    desk = Desk(clock, Broken())
    assert desk.source.cached(lambda: DIGEST, desk.log) is None
    assert desk.names() == ["cache.failed"]
    token = desk.token()
    desk.brings(token, desk.token("another"))
    assert desk.ask() is token
    assert desk.names() == ["cache.failed"] * 2
    desk.source.drop_refused(token.value, desk.log)
    assert desk.ask().value == "another"
    assert desk.names() == ["cache.failed"] * 2 + ["token.refused"] + ["cache.failed"] * 2  # to drop it, and to look


def test_what_was_refused_leaves_the_cache_even_if_there_is_no_other(desk):
    token = desk.token()
    desk.brings(token, KiwoomAuthError("no"))
    desk.ask()
    assert desk.cache == {KEY: token}
    desk.source.drop_refused(token.value, desk.log)
    assert desk.cache == {KEY: token}  # an event loop does not wait for a mapping
    assert desk.source.cached(lambda: DIGEST, desk.log) is None
    with pytest.raises(KiwoomAuthError, match=r"^no$"):
        desk.ask()
    assert desk.cache == {}
    desk.cache[KEY] = another = desk.token("another")
    assert desk.source.cached(lambda: DIGEST, desk.log) is another


def test_a_refresh_takes_from_the_cache_what_is_not_the_present_token(desk):
    present, another = desk.token(), desk.token("another")
    desk.source.token = desk.cache[KEY] = present
    assert desk.source._find(DIGEST, desk.flight(refresh=True)) is None
    assert desk.source._find(DIGEST, desk.flight()) is present
    desk.cache[KEY] = another
    assert desk.source._find(DIGEST, desk.flight(refresh=True)) is another


# Refresh


def test_no_refresh_starts_beside_another_flight(desk):
    desk.brings(desk.token())
    token = desk.ask()
    desk.clock.advance(DAY - 1.0)
    desk.source._flight = under_way = desk.flight()
    desk.source.refresh_if_due(token, 3600.0, desk)
    assert desk.source._flight is under_way
    land()


def test_a_refresh_that_fails_is_told_with_its_code(desk):
    desk.brings(desk.token(), KiwoomAuthError("the reason", code=8001))
    token = desk.ask()
    desk.clock.advance(DAY - 1.0)
    desk.source.refresh_if_due(token, 3600.0, desk)
    land()
    (event,) = desk.heard
    assert (event.name, event.code) == ("refresh.failed", 8001)
    assert event.message == "refresh failed, the present token is used on: the reason"
    assert desk.ask() is token


@pytest.mark.parametrize(
    ("refresh", "left", "rests"), [(True, 1.0, False), (True, 0.0, True), (True, None, True), (False, 1.0, True)]
)
def test_callers_rest_after_a_failure_unless_a_refresh_has_a_token_left(desk, refresh, left, rests):
    desk.source.token = None if left is None else desk.token(life=left)
    note = desk.source._rest_after(KiwoomAuthError("no"), desk.flight(refresh=refresh))
    desk.source.token = None
    assert (note is None) is rests
    if rests:
        with pytest.raises(KiwoomAuthError, match=r"^no$"):
            desk.source._board(desk)
    else:
        assert desk.source._board(desk) is None


# What another process, or a late flight, brings


@pytest.mark.parametrize(("seconds", "takes"), [(0.0, False), (1.0, True)])
def test_a_token_that_is_older_than_the_former_one_by_more_than_a_life_has_another_clock(desk, seconds, takes):
    flight = desk.flight()
    flight.refused = desk.token("former")
    assert desk.source._takes(desk.token(dated=-LONGEST_LIFE - seconds), flight) is takes


@pytest.mark.parametrize(("left", "takes"), [(LAST_MOMENT, False), (LAST_MOMENT + 0.5, True)])
def test_the_same_token_in_its_last_moment_is_not_taken(desk, left, takes):
    flight = desk.flight()
    flight.refused = desk.token(dated=-60.0)
    assert desk.source._takes(desk.token(life=left), flight) is takes


def test_an_expired_token_keeps_no_token_of_another_process_out(desk):
    desk.source.token = desk.token(life=0.0)
    older = desk.token("another", dated=-60.0)
    assert desk.source._takes(older, desk.flight())
    assert not desk.source._takes(older, desk.flight(refresh=True))


@pytest.mark.parametrize(("seconds", "takes"), [(FUTILE_PAUSE - 0.5, True), (FUTILE_PAUSE, False)])
def test_the_same_token_of_another_process_is_taken_for_a_while(desk, seconds, takes):
    flight = desk.flight()
    flight.refused = desk.token(dated=-60.0)
    same = desk.token()
    desk.clock.advance(seconds)
    assert desk.source._takes(same, flight) is takes


@pytest.mark.parametrize(("later", "is_used"), [(-1.0, False), (0.0, False), (1.0, True)])
def test_what_a_flight_that_was_given_up_brings_is_used_if_it_is_newer(desk, later, is_used):
    present = desk.source.token = desk.token()
    desk.clock.advance(10.0 + later)
    token = desk.token("another")
    desk.source.token = AccessToken(present.value, present.issued_at + 10.0, present.deadline, DIGEST, present.dated)
    flight = desk.flight()
    flight.landed = True
    desk.source._adopt(token, flight)
    assert (desk.source.token is token) is is_used


def test_what_a_flight_that_was_given_up_brings_does_not_undo_a_refusal(desk):
    late = desk.token("late")
    desk.clock.advance(10.0)
    desk.brings(desk.token())
    refused = desk.ask()
    desk.source.drop_refused(refused.value, desk.log)
    flight = desk.flight()
    flight.landed = True
    desk.source._adopt(late, flight)
    assert desk.source.token is None
    assert desk.source.cached(lambda: DIGEST, desk.log) is None  # the cache still has the refused one


def test_a_flight_that_has_stayed_in_the_parent_is_nobodys_mistake(desk):
    """A child's thread may have the number of the one that runs it."""
    parents = desk.source._turn.flight = desk.flight()
    parents.thread = threading.get_ident()
    with pytest.raises(KiwoomAuthError, match="from within its own AU10001"):
        desk.source._refuse_reentry(parents)
    assert desk.source._is_within_another(desk.flight())
    parents._pid = 0
    desk.source._refuse_reentry(parents)
    assert not desk.source._is_within_another(desk.flight())
