"""For whom a failure counts, and for how long: what the server said, what is on the way, what is of one library."""

import gc
import weakref

import pytest

from kiwoom_auth_plugin import CredentialsRejected, KiwoomAuthError, TokenEndpointUnreachable
from kiwoom_auth_plugin._rest import Rest
from kiwoom_auth_plugin._route import Route

BY_REQUESTS = Route(None, 10.0, "requests")
BY_HTTPX = Route(None, 10.0, "httpx")
HASTY = Route(None, 0.1, "requests")

SAID = CredentialsRejected("the server said no", status_code=200)
ON_THE_WAY = TokenEndpointUnreachable("nobody answers")
OF_THE_LIBRARY = TokenEndpointUnreachable("no such proxy")
OF_THE_LIBRARY.local = True


def rests(rest, route, now=0.0):
    try:
        rest.check(now, route)
    except KiwoomAuthError:
        return True
    return False


@pytest.mark.parametrize(
    ("failure", "counts_for"),
    [(SAID, {BY_REQUESTS, BY_HTTPX, HASTY}), (ON_THE_WAY, {BY_REQUESTS, BY_HTTPX}), (OF_THE_LIBRARY, {BY_REQUESTS})],
)
def test_a_failure_counts_for_those_who_go_the_same_way(failure, counts_for):
    rest = Rest()
    rest.begin(failure, 0.0, BY_REQUESTS)
    assert {route for route in (BY_REQUESTS, BY_HTTPX, HASTY) if rests(rest, route)} == counts_for


@pytest.mark.parametrize(
    ("failure", "lengths"),
    [(SAID, [1, 2, 4, 8, 16, 32, 60, 60]), (ON_THE_WAY, [1, 2, 4, 5, 5]), (OF_THE_LIBRARY, [1, 2, 4, 5, 5])],
)
def test_each_failure_in_a_row_lets_callers_rest_for_longer(failure, lengths):
    rest, now = Rest(), 1000.0
    for length in lengths:
        rest.begin(failure, now, BY_REQUESTS)
        assert rests(rest, BY_REQUESTS, now + length - 0.001)
        now += length
        assert not rests(rest, BY_REQUESTS, now)


def test_a_client_lives_as_long_as_its_failure_so_that_no_other_is_taken_for_it():
    class Client:
        pass

    rest, client = Rest(), Client()
    seen = weakref.ref(client)
    rest.begin(ON_THE_WAY, 0.0, Route(client, 10.0, ""))
    del client
    gc.collect()
    assert seen() is not None
    rest.end()
    gc.collect()
    assert seen() is None
