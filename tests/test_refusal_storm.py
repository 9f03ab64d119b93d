"""A thousand refusals of one token cause one issue; a server that has no other token is left in peace."""

import contextlib
import itertools
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import httpx2
import pytest
import requests

from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import BODY, CERTIFICATES, HEADERS, TR, every_client
from .crowd import PATIENCE, Crowd, watch_waiting


@pytest.fixture(params=["same", "replace"])
def kiwoom(request):
    with KiwoomEmulator(reissue=request.param) as emulator:
        yield emulator


@pytest.fixture
def replacing():
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


def call_by_the_thousand(auth, url):
    """250 threads of requests, and 750 tasks of httpx and httpx2 on asyncio and trio, on their way at once."""

    def post():
        return requests.post(url, data=BODY, headers=HEADERS, auth=auth, timeout=PATIENCE).json()["return_code"]

    def post_by(module):
        async def post():
            # A client each: the pool of a shared one takes a time that grows with the square of its connections.
            async with module.AsyncClient(verify=CERTIFICATES, timeout=PATIENCE) as client:
                answer = await client.post(url, content=BODY, headers=HEADERS, auth=auth)
                return answer.json()["return_code"]

        return post

    crowd = Crowd()
    crowd.threads(250, post)
    crowd.loop("asyncio", 250, post_by(httpx))
    crowd.loop("asyncio", 250, post_by(httpx2))
    crowd.loop("trio", 250, post_by(httpx))
    return crowd.go()


def test_a_thousand_refusals_cause_one_issue_and_one_repetition_each(kiwoom, make_auth, monkeypatch):
    auth = make_auth(emulator=kiwoom, timeout=PATIENCE)  # the issue is held until all wait for it
    old = auth.get_token()
    wait_for_waiting = watch_waiting(monkeypatch)
    with kiwoom.hold("/api/dostk/") as calls, kiwoom.hold("/oauth2/token") as issues:
        crowd = call_by_the_thousand(auth, kiwoom.url + TR)
        calls.wait_for(1000)
        kiwoom.revoke_tokens()
        calls.release()
        wait_for_waiting(999)
        assert issues.parked == 1
    assert crowd.outcomes() == [0] * 1000
    assert len(kiwoom.calls("au10001")) == 2
    assert Counter(call.token for call in kiwoom.calls("ka10001")) == {old: 1000, kiwoom.token: 1000}


def test_a_thousand_refusals_twice_over_are_a_thousand_answers(replacing, make_auth):
    """Another token does not help either: nobody fails otherwise, nobody repeats twice."""
    auth = make_auth(emulator=replacing)
    auth.get_token()
    replacing.refuse_next(10_000)
    with replacing.hold("/api/dostk/") as gate:
        crowd = call_by_the_thousand(auth, replacing.url + TR)
        gate.wait_for(1000)
    assert crowd.outcomes() == [3] * 1000
    assert len(replacing.calls("au10001")) == 2
    assert len(replacing.calls("ka10001")) == 2000


def flow(auth, module=httpx):
    """A call under way, driven by hand: its generator, after the request was taken from it."""
    generator = auth.sync_auth_flow(module.Request("POST", auth._host + TR, headers=HEADERS, content=BODY))
    return generator, next(generator)


REFUSAL = httpx.Response(200, json={"return_code": 3, "return_msg": "[8005:Token]"})
APPROVAL = httpx.Response(200, json={"return_code": 0})


def test_a_late_refusal_of_a_replaced_token_causes_nothing(replacing, make_auth):
    auth = make_auth(emulator=replacing)
    late = [flow(auth)[0] for _ in range(10)]
    replacing.revoke_tokens()
    first, _ = flow(auth)
    repetition = first.send(REFUSAL)
    new = replacing.token
    assert repetition.headers["Authorization"] == f"Bearer {new}"
    for generator in late:
        assert generator.send(REFUSAL).headers["Authorization"] == f"Bearer {new}"
    assert replacing.issued == 2
    assert auth.get_token() == new


def test_a_late_refusal_does_not_drop_the_new_token_from_the_cache(replacing, make_auth):
    cache = {}
    auth = make_auth(emulator=replacing, cache=cache)
    late, _ = flow(auth)
    replacing.revoke_tokens()
    auth.invalidate(auth.get_token())
    new = auth.get_token()
    late.send(REFUSAL)
    assert [token.value for token in cache.values()] == [new]
    assert replacing.issued == 2


def test_an_invalidation_that_comes_late_causes_nothing(replacing, make_auth):
    auth = make_auth(emulator=replacing)
    old = auth.get_token()
    auth.invalidate(old)
    new = auth.get_token()
    for _ in range(10):
        auth.invalidate(old)
    assert auth.get_token() == new != old
    assert replacing.issued == 2


def test_an_invalidation_that_comes_late_does_not_bring_back_a_refused_token(replacing, make_auth):
    """It comes between the refusal and the issue that the refusal causes."""
    auth = make_auth(emulator=replacing)
    ancient = auth.get_token()
    auth.invalidate(ancient)
    refused = auth.get_token()
    assert auth._source.drop_refused(refused, auth._log)
    auth.invalidate(ancient)
    assert auth.get_token() not in {refused, ancient}


@pytest.mark.parametrize("who", ["a call", "a WebSocket"])
def test_a_token_refused_while_it_was_on_its_way_is_not_used(make_auth, kiwoom_emulator, clock, monkeypatch, who):
    """A refresh brings the token that is refused meanwhile: its answer may be older than the refusal."""
    auth = make_auth(refresh_margin=24 * 3600.0, clock=clock)
    old = auth.get_token()
    clock.advance(12 * 3600 + 1)
    wait_for_waiting = watch_waiting(monkeypatch)

    def refuse():
        if who == "a call":
            return call.send(REFUSAL).headers["Authorization"]
        auth.invalidate(old)
        return f"Bearer {auth.get_token()}"

    crowd = Crowd()
    crowd.threads(1, refuse)
    with kiwoom_emulator.hold() as gate:
        call, request = flow(auth)
        assert request.headers["Authorization"] == f"Bearer {old}"
        gate.wait_for(1)  # the refresh
        crowd.go()
        wait_for_waiting(1)
        gate.release(1)  # the old one, once more
        gate.wait_for(1)  # the issue after it
        kiwoom_emulator.expire_tokens()
    assert crowd.outcomes() == [f"Bearer {kiwoom_emulator.token}"]
    assert kiwoom_emulator.token != old
    assert len(kiwoom_emulator.calls("au10001")) == 3


# The server hands back the token that it has refused


@every_client
def test_the_same_token_again_gives_the_answer_to_the_caller(open_client, kiwoom_emulator, auth, caplog):
    kiwoom_emulator.refuse_next(100)
    with open_client(auth) as client:
        for _ in range(10):
            answer = client.post(kiwoom_emulator.url + TR)
            assert answer.json() == recorded_fields(recorded.INVALID_TOKEN)
    assert len(kiwoom_emulator.calls("au10001")) == 2
    assert len(kiwoom_emulator.calls("ka10001")) == 10
    assert [record.levelno for record in caplog.records if record.name == "kiwoom_auth_plugin"] == [logging.WARNING]
    assert "handed back the token that had been refused" in caplog.text


def recorded_fields(answer):
    return httpx.Response(200, content=answer.body).json()


def test_the_same_token_again_causes_no_storm(kiwoom_emulator, auth, caplog):
    auth.get_token()
    kiwoom_emulator.refuse_next(10_000)
    with kiwoom_emulator.hold("/api/dostk/") as gate:
        crowd = call_by_the_thousand(auth, kiwoom_emulator.url + TR)
        gate.wait_for(1000)
    assert crowd.outcomes() == [3] * 1000
    assert len(kiwoom_emulator.calls("au10001")) == 2
    assert len(kiwoom_emulator.calls("ka10001")) == 1000
    assert len([record for record in caplog.records if record.name == "kiwoom_auth_plugin"]) == 1


def test_the_same_token_again_is_asked_for_once_in_30_seconds(kiwoom_emulator, make_auth, clock):
    auth = make_auth(clock=clock)
    token = auth.get_token()
    issues = []
    for _ in range(91):
        call, _request = flow(auth)
        with pytest.raises(StopIteration):
            call.send(REFUSAL)
        issues.append(kiwoom_emulator.issued)
        clock.advance(1)
    assert [issues.index(number) for number in (2, 3, 4)] == [0, 30, 60]
    assert issues[-1] == 5
    assert auth.get_token() == token


def test_another_token_after_the_pause_ends_it(kiwoom_emulator, make_auth, clock):
    auth = make_auth(clock=clock)
    for _ in range(2):
        with pytest.raises(StopIteration):
            flow(auth)[0].send(REFUSAL)
    kiwoom_emulator.expire_tokens()
    clock.advance(30)
    assert flow(auth)[0].send(REFUSAL).headers["Authorization"] == f"Bearer {kiwoom_emulator.token}"
    kiwoom_emulator.expire_tokens()
    assert flow(auth)[0].send(REFUSAL).headers["Authorization"] == f"Bearer {kiwoom_emulator.token}"


def test_a_new_token_ends_the_pause_whatever_brought_it(kiwoom_emulator, make_auth, clock):
    auth = make_auth(clock=clock)
    with pytest.raises(StopIteration):
        flow(auth)[0].send(REFUSAL)
    auth.invalidate(kiwoom_emulator.token)
    kiwoom_emulator.expire_tokens()
    call, _ = flow(auth)
    kiwoom_emulator.expire_tokens()
    assert call.send(REFUSAL).headers["Authorization"] == f"Bearer {kiwoom_emulator.token}"


# The server refuses whatever it issues


def refused_with_its_replacement(auth):
    """A call whose repetition is refused too; whether it was repeated."""
    call, _ = flow(auth)
    try:
        call.send(REFUSAL)
    except StopIteration:
        return False
    with pytest.raises(StopIteration):
        call.send(REFUSAL)
    return True


def test_replacements_that_are_refused_too_are_issued_ever_less_often(replacing, make_auth, clock):
    auth = make_auth(emulator=replacing, clock=clock)
    repeated_at = []
    for second in range(200):
        if refused_with_its_replacement(auth):
            repeated_at.append(second)
        if second == 0:
            assert refused_with_its_replacement(auth)
        clock.advance(1)
    assert repeated_at == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]


@every_client
@pytest.mark.parametrize("answer", [recorded.INVALID_TOKEN, Answer(401, b"")], ids=["8005", "401"])
def test_replacements_that_are_refused_are_counted_whichever_client_calls(open_client, make_auth, clock, answer):
    with KiwoomEmulator(reissue="replace") as kiwoom, open_client(make_auth(emulator=kiwoom, clock=clock)) as client:
        kiwoom.refuse_next(100, answer=answer)
        statuses = {client.post(kiwoom.url + TR).status_code for _ in range(5)}
    assert (statuses, kiwoom.issued) == ({answer.status}, 3)


@pytest.mark.parametrize("first", ["the good one", "the bad one"])
def test_a_path_that_refuses_every_token_does_not_issue_for_ever_though_others_are_served(
    replacing, make_auth, clock, first
):
    """Each issue kills the token of a good call that is on its way; that one is repeated, and accepted."""
    auth = make_auth(emulator=replacing, clock=clock)
    auth.get_token()
    clock.advance(3600)
    repeated_at = []
    for second in range(100):
        (bad, _), (good, _) = flow(auth), flow(auth)
        with contextlib.suppress(StopIteration):
            bad.send(REFUSAL)
            repeated_at.append(second)
            good.send(REFUSAL)
            judged = [(good, APPROVAL), (bad, REFUSAL)]
            for one, answer in judged if first == "the good one" else reversed(judged):
                with pytest.raises(StopIteration):
                    one.send(answer)
        clock.advance(1)
    assert repeated_at == [0, 1, 2, 4, 8, 16, 32, 62, 92]


def test_a_token_that_served_and_was_refused_to_nobody_ends_the_pauses(replacing, make_auth, clock):
    auth = make_auth(emulator=replacing, clock=clock)
    for _ in range(3):
        refused_with_its_replacement(auth)
    clock.advance(1)
    for _ in range(2):
        call, _ = flow(auth)
        call.send(REFUSAL)
        with pytest.raises(StopIteration):
            call.send(APPROVAL)
    assert refused_with_its_replacement(auth)
    assert refused_with_its_replacement(auth)
    assert not refused_with_its_replacement(auth)


@pytest.fixture
def endless():
    """A client for AU10001 that gets another token each time, from no server."""
    numbers = itertools.count()

    def issue(_request):
        expires = datetime.now(UTC) + timedelta(hours=33)  # KST is nine hours ahead
        return httpx.Response(200, json={"token": f"token-{next(numbers)}", "expires_dt": f"{expires:%Y%m%d%H%M%S}"})

    return httpx.Client(transport=httpx.MockTransport(issue))


def test_refusals_of_one_replacement_count_once_however_many_calls_had_it(make_auth, clock, endless):
    clock.set_wall(datetime.now(UTC).timestamp())
    auth = make_auth(clock=clock, client=endless)
    calls = [flow(auth)[0] for _ in range(1100)]
    assert {call.send(REFUSAL).headers["Authorization"] for call in calls} == {"Bearer token-1"}
    for call in calls:
        with pytest.raises(StopIteration):
            call.send(REFUSAL)
    assert refused_with_its_replacement(auth), "one replacement that was refused is no reason to stop"
    assert not refused_with_its_replacement(auth)
    clock.advance(1)
    assert refused_with_its_replacement(auth)


def test_a_server_that_refuses_for_days_is_answered_as_on_the_first(make_auth, clock, endless):
    clock.set_wall(datetime.now(UTC).timestamp())
    auth = make_auth(clock=clock, client=endless)
    for _ in range(1100):
        assert refused_with_its_replacement(auth)
        clock.monotonic_time += 30


def test_a_replacement_that_is_accepted_ends_the_pauses(replacing, make_auth, clock):
    auth = make_auth(emulator=replacing, clock=clock)
    for _ in range(3):
        refused_with_its_replacement(auth)
    clock.advance(1)
    call, _ = flow(auth)
    call.send(REFUSAL)
    with pytest.raises(StopIteration):
        call.send(APPROVAL)
    assert refused_with_its_replacement(auth)
    assert refused_with_its_replacement(auth)
    assert not refused_with_its_replacement(auth)


def test_a_replacement_that_is_refused_after_it_was_replaced_itself_counts_for_nothing(make_auth, clock, replacing):
    auth = make_auth(emulator=replacing, clock=clock)
    late, _ = flow(auth)
    late.send(REFUSAL)
    auth.invalidate(auth.get_token())
    newer = auth.get_token()
    with pytest.raises(StopIteration):
        late.send(REFUSAL)
    assert refused_with_its_replacement(auth)
    assert auth.get_token() != newer


def test_no_lock_is_held_while_a_refused_call_waits_for_its_answer(replacing, make_auth):
    """One slow answer stalls nobody (modelcontextprotocol/python-sdk #3209)."""
    auth = make_auth(emulator=replacing)
    slow, _ = flow(auth)
    slow.send(REFUSAL)
    crowd = Crowd()
    crowd.threads(1, lambda: flow(auth)[0].send(REFUSAL).headers["Authorization"])
    assert crowd.go().outcomes() == [f"Bearer {replacing.token}"]
    slow.close()


def test_a_token_that_is_handed_back_has_not_died(make_auth, clock, caplog):
    with KiwoomEmulator(reissue="same") as same:
        auth = make_auth(emulator=same, clock=clock)
        for _ in range(10):
            same.refuse_next()
            assert call(auth) == 3
            clock.advance(31)
            same.clock.advance(31)
        same.expire_tokens()
        assert call(auth) == 0
    assert young_deaths(caplog) == []


def young_deaths(caplog):
    return [record for record in caplog.records if "another program issues or revokes tokens" in record.getMessage()]


def test_a_program_whose_tokens_another_one_kills_again_and_again_is_warned_once(replacing, make_auth, clock, caplog):
    """Two of them with one appkey and no store, where each AU10001 kills the token before."""
    auth = make_auth(emulator=replacing, clock=clock)
    for _ in range(10):
        auth.get_token()
        clock.advance(10)
        replacing.expire_tokens()
        assert call(auth) == 0
    (warning,) = young_deaths(caplog)
    assert "Let all of them share one by a store" in warning.getMessage()


def test_a_token_that_dies_old_is_no_reason_to_warn_and_begins_the_count_anew(replacing, make_auth, clock, caplog):
    auth = make_auth(emulator=replacing, clock=clock)
    for age in (10, 10, 10, 10, 61, 10, 10, 10, 10, 61):
        auth.get_token()
        clock.advance(age)
        replacing.expire_tokens()
        assert call(auth) == 0
    assert young_deaths(caplog) == []


def call(auth):
    url = auth._host + TR
    return requests.post(url, data=BODY, headers=HEADERS, auth=auth, timeout=PATIENCE).json()["return_code"]
