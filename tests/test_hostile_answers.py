"""What a security reviewer tried without success: answers made to harm who reads, logs, judges or obeys them."""

import json
import logging
from contextlib import suppress

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator

from .clients import BODY, TR, called, every_client
from .conftest import ManualClock

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)

TOKEN, REVOKE = "/oauth2/token", "/oauth2/revoke"
FIELDS = {"token": "a-token", "token_type": "bearer", "expires_dt": "20231115220000"}
INVALID = "인증에 실패했습니다[8005:Token이 유효하지 않습니다]"


@pytest.fixture
def replacing():
    """A Kiwoom whose tokens change with each issue."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


# Words of the server's, in messages and in the log

ESCAPES = (
    "\r\n2026-01-01 CRITICAL forged\x1b[2J\x1b]0;title\x07\x00\x08\x7f\x85\x9b1m"
    "\u2028\u2029\u202e\u2066\u200b\ufeff\ud800"
)
WORDS = {
    "escapes": ESCAPES,
    "escapes in quantity": ESCAPES * 5_000,
    "a megabyte": "가 " * 250_000,
    "a megabyte of one word": "x" * 1_000_000,
    "a megabyte of line feeds": "\n" * 500_000,
    "format": "%s %(kiwoom_host)s %n {0} {self}",
}
REFUSING = {
    "as return_msg": lambda words: {"return_code": 3, "return_msg": f"[8001:{words}]"},
    "before the code": lambda words: {"return_code": 3, "return_msg": f"{words}[8001:x]"},
    "as return_code": lambda words: {"return_code": words, "return_msg": "[8001:x]"},
}
MALFORMED = {
    "in the fields of a token": lambda words: FIELDS | {"token": words, "expires_dt": words},
    "as the type of a token": lambda words: FIELDS | {"token_type": words},
}


def assert_harmless(told):
    assert told.isprintable()  # one line, no control character, nothing that turns the direction
    assert 0 < len(told) < 1000


every_word = pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)


@pytest.fixture
def heard(make_auth, clock, caplog):
    """An auth object, and what it has told so far: the error that was raised, each log record, each event."""
    caplog.set_level(logging.DEBUG, "kiwoom_auth_plugin")
    events = []
    auth = make_auth(clock=clock, on_event=lambda event: events.append(event.message))

    def told_with(error):
        assert caplog.records
        assert len(events) == len(caplog.records)
        told = [str(error), *error.args, error.return_msg or "-", str(error.return_code), *events]
        for record in caplog.records:
            told.append(record.getMessage())
            assert all(len(str(value)) < 1000 for value in vars(record).values())
        return told

    return auth, told_with


@every_word
@pytest.mark.parametrize("say", (REFUSING | MALFORMED).values(), ids=REFUSING | MALFORMED)
def test_what_a_server_says_at_an_issue_stays_one_short_line(heard, kiwoom_emulator, words, say):
    auth, told_with = heard
    kiwoom_emulator.script(TOKEN, Answer(body=json.dumps(say(words)).encode()))
    with pytest.raises(KiwoomAuthError) as raised:
        auth.get_token()
    for told in told_with(raised.value):
        assert_harmless(told)


@every_word
@pytest.mark.parametrize("say", REFUSING.values(), ids=REFUSING)
def test_what_a_server_says_at_a_revocation_stays_one_short_line(heard, kiwoom_emulator, words, say):
    auth, told_with = heard
    auth.get_token()
    kiwoom_emulator.script(REVOKE, Answer(body=json.dumps(say(words)).encode()))
    with pytest.raises(KiwoomAuthError) as raised:
        auth.revoke()
    for told in told_with(raised.value):
        assert_harmless(told)


# Headers of the server's

seldom = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30)
number = st.integers(-(10**12), 10**12).map(str) | st.sampled_from(
    ["0", "00", "-0", "1e9", "9" * 400, "9" * 5000, "\u0663"]
)
WRITTEN = [
    "Wed,", "Wed", ",", "06", "Nov", "nov", "2024", "24", "99999", "23:37:13", "23:37", "24:00:60", "::", "-", "+", ".",
    "GMT", "UTC", "EST", "+0900", "-0000", "+9999", "-999999", "+99999999999", "(a)", "((", '"', "NaN", "inf", "T", "",
]  # fmt: skip
piece = number | seldom | st.sampled_from(WRITTEN)
days = number | st.sampled_from(["06", "15"])
zones = st.sampled_from(["GMT", "+0900", "+2400", "-9999", "+99999999999", "-99999999999999999999", "KST", ""])
dates = st.builds("Wed, {} Nov {} {}:37:{} {}".format, days, number | st.just("2023"), days, days, zones)
header = number | seldom | dates | st.lists(piece, max_size=8).map(" ".join) | st.lists(piece, max_size=8).map("".join)
headers = st.fixed_dictionaries({}, optional={"date": header, "retry-after": header})


@unhurried
@given(st.lists(st.tuples(st.sampled_from([200, 302, 429, 500, 503]), headers), max_size=3), headers)
@example([(429, {"retry-after": "9" * 9})], {})
@example([], {"date": "Wed, 06 Nov 2024 23:37:13 +99999999999"})
@example([(503, {"retry-after": "Wed, 06 Nov 99999999999 23:37:13 GMT"})], {})
@example([], {"date": "Wed, 15 Nov 2023 07:13:20 GMT"})
@example([], {"date": "Mon, 13 Nov 2023 07:13:20 GMT"})
def test_whatever_the_headers_say_it_is_a_token_of_a_day_or_an_error_in_time(failures, last):
    class Auth(KiwoomBearerAuth):
        _clock = clock = ManualClock()  # 2023-11-15 07:13:20 in Korea: the token has 15 hours by this clock

    def answer(status, headers, fields):
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        return httpx.Response(status, headers=sent, json=fields)

    answers = [*(answer(status, headers, {}) for status, headers in failures), answer(200, last, FIELDS)]
    with httpx.Client(transport=httpx.MockTransport(lambda _: answers.pop(0))) as client:
        auth = Auth("appkey-0123456789", "secretkey-0123456789", host="https://a.example", cache={}, client=client)
        with suppress(KiwoomAuthError):
            assert auth.get_token() == "a-token"
            assert 0 < auth.expires_at.timestamp() - Auth.clock.wall() <= 25 * 3600
    assert sum(Auth.clock.slept) <= 10.0
    assert all(seconds > 0 for seconds in Auth.clock.slept)


# Bodies of the server's


def saying(more, return_msg=f'"{INVALID}"'):
    return b'{"return_code": 3, "return_msg": ' + return_msg.encode() + b', "a": ' + more + b"}"


BODIES = {
    "nesting": saying(b"[" * 15_000),
    "nesting that is closed": saying(b"[" * 8_000 + b"]" * 8_000),
    "nesting of objects": saying(b'{"a":' * 3_000),
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets after a refusal": saying(b"[" * 100_000),
    "10**5000": saying(b"1" + b"0" * 5000),
    "10**5000 as the return_code": b'{"return_code": 1' + b"0" * 5000 + b', "return_msg": "[8005:"}',
    "4,000 digits as the return_code": b'{"return_code": ' + b"8" * 4000 + b', "return_msg": "[8005:"}',
    "4,000 digits in a string as the return_code": b'{"return_code": "' + b"8" * 4000 + b'", "return_msg": "[8005:"}',
    "1e999999 as the return_code": b'{"return_code": 1e999999, "return_msg": "[8005:"}',
    "duplicate keys, the last says yes": saying(b'1, "return_code": 0'),
    "duplicate keys, the last says no": b'{"return_code": 0, "return_code": 8005}',
    "duplicate keys further down": saying(b'{"b": 1, "b": 2}'),
    "NaN": saying(b"NaN"),
    "-Infinity": saying(b"-Infinity"),
    "UTF-16": saying(b"1").decode().encode("utf-16"),
    "UTF-32": saying(b"1").decode().encode("utf-32"),
    "NULs": saying(b"1") + b"\x00" * 100,
    "no text in any charset": b"[8005:" + bytes(range(256)),
}  # fmt: skip
LEGIBLE = {
    "a lone surrogate": saying(b'"\\ud800"'),
    "a lone surrogate in the text": saying(b"1", '"\\udfff[8005:\\ud800"'),
    "a lone surrogate in UTF-8": saying(b'"\xed\xa0\x80"'),
    "UTF-7": saying(b"1").decode().encode("utf-7"),
    "cp949": saying(b"1").decode().encode("cp949"),
}
"""Odd, but a refusal of the token."""


@every_client
@pytest.mark.parametrize(("status", "charset"), [(200, "UTF-8"), (200, "utf-16"), (401, "no-such-charset")])
def test_an_answer_that_is_hard_to_judge_comes_as_it_is(open_client, replacing, make_auth, status, charset):
    sent = (("Content-Type", f"application/json;charset={charset}"),)
    with open_client() as client:
        for name, body in (BODIES | LEGIBLE).items():
            replacing.clear_journal()
            replacing.script(TR, *[Answer(status, body, sent)] * 2)
            response = client.post(replacing.url + TR, auth=make_auth(emulator=replacing, cache={}))
            assert (name, response.status_code, response.content) == (name, status, body)
            if name != "nesting that is closed":  # how much of it is too much depends on the interpreter
                is_refusal = status == 401 or name in LEGIBLE
                assert (name, len(replacing.calls(TR))) == (name, 2 if is_refusal else 1)
            if len(replacing.calls(TR)) == 1:
                client.post(replacing.url + TR)  # for the second one


# Statuses


@every_client
@pytest.mark.parametrize("status", [202, 203, 404, 500, 502])
def test_the_code_goes_before_a_status_that_says_something_else(open_client, replacing, make_auth, status):
    """8005 is a refusal of the token, and 8050 is none, whatever the status."""
    auth = make_auth(emulator=replacing, cache={})
    first = auth.get_token()
    refusal, other = (Answer.json({"return_code": 3, "return_msg": f"[{code}:x]"}, status) for code in (8005, 8050))
    with open_client(auth) as client:
        replacing.script(TR, refusal)
        assert called(client.post(replacing.url + TR))
        before, after = replacing.calls(TR)
        assert (before.token, after.token) == (first, replacing.token)
        assert before.body == after.body == BODY
        assert replacing.issued == 2
        replacing.script(TR, refusal, refusal)
        response = client.post(replacing.url + TR)
        assert (response.status_code, response.content) == (status, refusal.body)
        assert len(replacing.calls(TR)) == 4
        replacing.script(TR, other)
        response = client.post(replacing.url + TR)
        assert (response.status_code, response.content) == (status, other.body)
        assert len(replacing.calls(TR)) == 5
