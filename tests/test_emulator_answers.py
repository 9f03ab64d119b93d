"""Ready-made answers and the clock of the local Kiwoom."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import requests

from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, ServerClock, recorded


@pytest.mark.parametrize(
    ("answer", "status", "return_code", "code"),
    [
        (recorded.BAD_KEY_PAIR, 200, 3, 8001),
        (recorded.WRONG_ENVIRONMENT, 200, 2, 8030),
        (recorded.ADDRESS_NOT_REGISTERED, 200, 3, 8050),
        (recorded.TERMINAL_REFUSED, 200, 3, 8040),
        (recorded.ISSUED_TOO_OFTEN, 429, 5, 1700),
        (recorded.ISSUE_FAILED, 200, 3, 8009),
        (recorded.MAINTENANCE, 200, None, None),
        (recorded.WEEKEND_REDIRECT, 302, None, None),
        (recorded.INVALID_TOKEN, 200, 3, 8005),
        (recorded.INVALID_TOKEN_TOP_LEVEL, 200, 8005, 8005),
        (recorded.TOKEN_OF_OTHER_ENVIRONMENT, 200, 3, 8031),
        (recorded.TOKEN_OF_OTHER_ADDRESS, 200, 3, 8010),
        (recorded.TOKEN_OR_TERMINAL, 200, 3, 8103),
        (recorded.UNAUTHORIZED, 401, None, None),
        (recorded.NO_AUTHORIZATION, 200, 2, 1513),
        (recorded.TOO_MANY_CALLS, 429, 5, 1700),
        (recorded.TOO_MANY_CALLS_200, 200, 5, 1700),
        (recorded.BUSINESS_ERROR, 200, 20, None),
        (recorded.UNEXPECTED_ERROR, 500, 99, 1999),
        (recorded.REVOKE_FAILED, 200, 3, 8015),
    ],
)
def test_recorded_answers_are_what_their_names_say(answer, status, return_code, code):
    assert (answer.status, answer.return_code, answer.code) == (status, return_code, code)
    with KiwoomEmulator() as kiwoom:
        kiwoom.script("/", answer)
        response = requests.post(kiwoom.url, allow_redirects=False, timeout=30)
    assert (response.status_code, response.content) == (status, answer.body)


@pytest.mark.parametrize("code", sorted(recorded.OFFICIAL_MESSAGES))
def test_any_official_code_can_be_wrapped_in_kiwooms_words(code):
    answer = recorded.refusal(code)
    fields = json.loads(answer.body)
    assert fields["return_msg"] == f"인증에 실패했습니다[{code}:{recorded.OFFICIAL_MESSAGES[code]}]"
    assert (answer.code, answer.return_code, answer.status) == (code, 3, 200)
    assert recorded.refusal(code, status=401, return_code=2).status == 401


def test_an_unknown_code_cannot_be_wrapped():
    with pytest.raises(ValueError, match="1234 is none of the official codes"):
        recorded.refusal(1234)


@pytest.mark.parametrize(
    ("body", "return_code", "code"),
    [
        (b'{"return_code":"0000"}', 0, None),
        (b'{"return_code":true}', None, None),
        (b'{"return_code":"x"}', None, None),
        (b'{"return_code":805004,"return_msg":"[CODE=8005, MESSAGE=x]"}', 805004, 8005),
        (b'{"return_msg":[8005]}', None, None),
        (b"[]", None, None),
        (b"\xff", None, None),
        pytest.param(b"[" * 200_000, None, None, id="deep"),
        pytest.param(b'{"return_code":"%s"}' % (b"9" * 5000), None, None, id="huge"),
    ],
)
def test_codes_are_read_from_every_form_of_body(body, return_code, code):
    answer = Answer(body=body)
    assert (answer.return_code, answer.code) == (return_code, code)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"status": 100}, "it must be 200 to 599"),
        ({"status": 204, "body": b"x"}, "a 204 answer has no body"),
        ({"delay": -1}, "not negative"),
        ({"drip": -1}, "not negative"),
        ({"cut": "middle"}, "cut is 'middle'"),
        ({"cut": "body"}, "an empty body cannot be cut"),
        ({"headers": (("x", "전"),)}, "latin-1"),
    ],
)
def test_an_impossible_answer_is_refused_where_it_is_made(wrong, message):
    with pytest.raises(ValueError, match=message):
        Answer(**wrong)


def test_a_clock_runs_with_real_time_until_it_is_frozen():
    clock = ServerClock()
    before = datetime.now(UTC)
    assert before <= clock.now() <= datetime.now(UTC)
    clock.advance(timedelta(days=1))
    assert clock.now() >= before + timedelta(days=1)
    clock.freeze()
    assert clock.now() == clock.now()
    frozen = clock.now()
    clock.advance(60)
    assert clock.now() == frozen + timedelta(minutes=1)
    clock.unfreeze()
    assert clock.now() >= frozen + timedelta(minutes=1)
    clock.set(before)
    assert before <= clock.now() < before + timedelta(hours=1)
    assert repr(clock).startswith(f"ServerClock({before.date()}")


def test_a_clock_takes_no_time_without_a_zone():
    with pytest.raises(ValueError, match="time zone"):
        ServerClock().set(datetime(2024, 1, 1))  # noqa: DTZ001 - the mistake itself
