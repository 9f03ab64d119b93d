"""AU10001's bytes: the request as specified, the answer as recorded, and every answer that cannot be."""

import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin import InvalidTokenResponse, KiwoomAuthError
from kiwoom_auth_plugin._answer import SIZE_LIMIT, Answer
from kiwoom_auth_plugin._au10001 import NAME, PATH, expiry, read, request_body
from kiwoom_auth_plugin._keys import digest
from kiwoom_auth_plugin._token import AccessToken

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HOST = "https://api.kiwoom.com"
SECRETKEY = "the-Secretkey-0123456789"
KST = timezone(timedelta(hours=9))
ISSUED = datetime(2024, 11, 6, 8, 37, 13, tzinfo=KST)
WALL = ISSUED.timestamp()
SENT_AT = 5_000.0
DATE = {"date": format_datetime(ISSUED.astimezone(UTC), usegmt=True)}
FIELDS = {"expires_dt": "20241107083713", "token_type": "bearer", "token": "WQJCwyqInphKnR3bSRtB9NE1lv"}
JSON = {"content-type": "application/json;charset=UTF-8"}


def answer(status=200, headers=DATE, **changes):
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not ...}
    return Answer(status, JSON | headers, json.dumps(fields, ensure_ascii=False).encode())


def judged(answer, wall=WALL):
    return read(answer, host=HOST, secretkey=SECRETKEY, sent_at=SENT_AT, wall=wall)


def refused(answer, wall=WALL):
    with pytest.raises(InvalidTokenResponse) as raised:
        judged(answer, wall)
    error = raised.value
    assert (error.host, error.status_code) == (HOST, answer.status)
    assert (error.code, error.return_code, error.return_msg) == (None, None, None)
    assert all(part in str(error) for part in (HOST, NAME, f"HTTP {answer.status}"))
    assert SECRETKEY not in repr(error)
    return error


# The request


def test_the_request_is_the_specified_one():
    assert PATH == "/oauth2/token"
    assert json.loads(request_body("appkey", "secretkey")) == {
        "grant_type": "client_credentials",
        "appkey": "appkey",
        "secretkey": "secretkey",
    }


def test_keys_that_need_escaping_arrive_as_they_are():
    keys = "".join(map(chr, range(0x21, 0x7F)))
    assert json.loads(request_body(keys, keys[::-1]))["secretkey"] == keys[::-1]


# The answer


@pytest.mark.parametrize(
    "fields",
    [
        {"return_code": 0, "return_msg": "정상적으로 처리되었습니다"},
        {"return_code": "0"},
        {"return_code": "0000"},
        {"return_code": None},
        {"token_type": "Bearer"},
        {"token_type": "BEARER"},
        {"token_type": ...},
        {"token_type": None},
        {"expires_dt": "2024-11-07 08:37:13"},
        {"return_code": 0, "return_msg": "[8005:quoted by an answer that says yes]"},
        {"scope": "anything", "nested": {"return_code": 3}},
        {},
    ],
    ids=str,
)
def test_an_answer_in_any_of_the_known_forms_gives_the_token(fields):
    assert judged(answer(**fields)) == AccessToken(FIELDS["token"], SENT_AT, SENT_AT + 86_400, digest(SECRETKEY), WALL)


def test_a_token_is_dated_by_the_servers_clock_or_by_this_ones_where_it_does_not_tell():
    assert judged(answer(), wall=WALL - 5).dated == WALL
    assert judged(answer(headers={}), wall=WALL - 5).dated == WALL - 5


def test_the_specification_documents_own_example_gives_the_token():
    printed = {"expires_dt": "2024-12-31 23:59:59", "token_type": "Bearer", "token": "eyJhbGciOiJIUzI1NiJ9.e30.x-_"}
    noon = datetime(2024, 12, 31, 12, tzinfo=KST)
    token = judged(Answer(200, {}, json.dumps(printed).encode()), wall=noon.timestamp())
    assert token.deadline - SENT_AT == 11 * 3600 + 59 * 60 + 59


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "cp949"])
def test_the_text_may_be_in_either_charset(charset):
    body = json.dumps(FIELDS | {"return_msg": "정상적으로 처리되었습니다"}, ensure_ascii=False)
    assert judged(Answer(200, DATE, body.encode(charset))).value == FIELDS["token"]


@pytest.mark.parametrize("status", [200, 201, 299])
def test_any_successful_status_will_do(status):
    assert judged(answer(status)).value == FIELDS["token"]


# Expiry


@pytest.mark.parametrize("text", ["20241107083713", "2024-11-07 08:37:13"])
def test_both_forms_of_expires_dt_are_korean_time(text):
    assert expiry(text) == datetime(2024, 11, 6, 23, 37, 13, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        None, 20241107083713, 1.5, True, [], "", " ", "2024110708371", "202411070837133", " 20241107083713",
        "20241107083713\n", "2024-11-07T08:37:13", "2024-11-07 08:37:13Z", "2024-11-07 08:37:13+09:00",
        "2024-11-7 08:37:13", "20241307083713", "20241131083713", "20240230000000", "20241107240000",
        "20241107086013", "20241107083760", "00000101000000", "\uff12024110708371\uff13",
        "86400", "never",
    ],
)  # fmt: skip
def test_what_is_no_date_and_time_is_not_taken_for_one(text):
    assert expiry(text) is None
    assert "expires_dt" in str(refused(answer(expires_dt=text)))


@pytest.mark.parametrize("text", ["00010101000000", "99991231235959", "20240229235959"])
def test_the_ends_of_the_calendar_are_dates(text):
    assert isinstance(expiry(text), float)


@pytest.mark.parametrize("skew", [-7 * 86_400.0, -32_400.0, 0.0, 32_400.0, 7 * 86_400.0])
def test_a_wrong_clock_does_no_harm_where_the_server_tells_the_time(skew):
    assert judged(answer(), wall=WALL + skew).deadline == SENT_AT + 86_400


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 06 Nov 2024", "Wed, 06 Nov 99999 23:37:13 GMT", "0"])
def test_without_a_usable_date_this_machines_clock_is_asked(date):
    headers = {} if date is None else {"date": date}
    assert judged(answer(headers=headers), wall=WALL + 3600).deadline == SENT_AT + 82_800
    refused(answer(headers=headers), wall=WALL + 86_400)


@pytest.mark.parametrize(
    "date",
    ["Tue, 05 Nov 2024 23:37:13 GMT", "Tue, 05 Nov 2024 23:37:13 -0000", "Wed, 06 Nov 2024 08:37:13 +0900",
     "Tuesday, 05-Nov-24 23:37:13 GMT"],
)  # fmt: skip
def test_the_date_may_be_in_any_form_that_says_when(date):
    assert judged(answer(headers={"date": date}), wall=0.0).deadline == SENT_AT + 86_400


@pytest.mark.parametrize("life", [1, 60, 86_400, 90_000])
def test_lives_up_to_25_hours_are_possible(life):
    moment = ISSUED + timedelta(seconds=life)
    assert judged(answer(expires_dt=f"{moment:%Y%m%d%H%M%S}")).deadline == SENT_AT + life


@pytest.mark.parametrize("life", [-86_400, -1, 0, 90_001, 10 * 365 * 86_400])
def test_other_lives_are_impossible(life):
    moment = ISSUED + timedelta(seconds=life)
    assert f"{life / 3600:.1f} hours" in str(refused(answer(expires_dt=f"{moment:%Y-%m-%d %H:%M:%S}")))


# Token


@pytest.mark.parametrize("token", ["x", "x" * 8192, "".join(map(chr, range(0x21, 0x7F)))])
def test_a_token_is_1_to_8192_visible_characters(token):
    assert judged(answer(token=token)).value == token


@pytest.mark.parametrize(
    "token",
    [..., None, "", "x" * 8193, "a b", " a", "a ", "a\n", "a\r\nX-Header: b", "a\tb", "a\x00", "a\x7f", "토큰", "a\xa0",
     "é", 5, 1.5, True, ["a"], {"token": "a"}],
    ids=lambda token: f"{token!r:.20}",
)  # fmt: skip
def test_anything_else_is_no_token(token):
    assert "its token" in str(refused(answer(token=token)))


def test_what_stands_in_place_of_the_token_is_not_shown():
    error = refused(answer(token="half-a-token-0123456789\x7f"))
    assert "half-a-token" not in f"{error!r}{error.args}{vars(error)}"


@pytest.mark.parametrize("token_type", ["", "mac", "Basic", "bearer ", 1, True, ["bearer"], {}])
def test_another_token_type_is_refused(token_type):
    assert "token_type" in str(refused(answer(token_type=token_type)))


@pytest.mark.parametrize("return_code", [True, False, 0.0, 1.5, [], {}, "", "zero", " 0", "0x0", "1e3", "\u0660"])
def test_a_return_code_that_is_no_number_is_refused(return_code):
    with pytest.raises(KiwoomAuthError):
        judged(answer(return_code=return_code))


# Bodies


def text(**changes):
    return json.dumps(FIELDS | changes)


NO_OBJECTS = {
    "nothing": b"",
    "a page": b"<html><body>\xec\xa0\x90\xea\xb2\x80</body></html>",
    "a list": b"[" + text().encode() + b"]",
    "a string": json.dumps(text()).encode(),
    "null": b"null",
    "two objects": text().encode() * 2,
    "one cut off": text().encode()[:-1],
    "duplicate names": text()[:-1].encode() + b', "token": "another"}',
    "duplicate names further down": text()[:-1].encode() + b', "more": {"a": 1, "a": 2}}',
    "NaN": text()[:-1].encode() + b', "more": NaN}',
    "Infinity": text()[:-1].encode() + b', "more": -Infinity}',
    "nesting without end": text()[:-1].encode() + b', "more": ' + b"[" * 200_000,
    "nesting that is closed": text()[:-1].encode() + b', "more": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a number of 5,000 digits": text()[:-1].encode() + b', "more": ' + b"9" * 5_000 + b"}",
    "UTF-16": text().encode("utf-16"),
    "UTF-32": text().encode("utf-32"),
    "too long": text().encode() + b" " * SIZE_LIMIT,
    "comments": b"/* */" + text().encode(),
}


@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_a_body_that_is_no_json_object_is_refused(body):
    refused(Answer(200, JSON | DATE, body))


def test_an_answer_may_have_a_mebibyte():
    body = text().encode()
    assert judged(Answer(200, DATE, body + b" " * (SIZE_LIMIT - len(body)))).value == FIELDS["token"]


# Whatever comes

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
any_field = any_json | st.sampled_from([*FIELDS.values(), 0, "0", 3, "[8005:", SECRETKEY])
any_fields = st.fixed_dictionaries({}, optional=dict.fromkeys([*FIELDS, "return_code", "return_msg"], any_field))
any_headers = st.dictionaries(st.sampled_from(["date", "retry-after"]), st.text() | st.sampled_from([DATE["date"]]))


def token_or_error(answer):
    try:
        token = judged(answer)
    except KiwoomAuthError as error:
        told = f"{error}{error!r}{vars(error)}"
        assert SECRETKEY not in told
    else:
        assert isinstance(token, AccessToken)
        assert 0 < token.deadline - SENT_AT <= 25 * 3600
        assert all("!" <= character <= "~" for character in token.value)


@unhurried
@given(st.integers(100, 599), any_headers, st.binary())
def test_any_bytes_give_a_token_or_an_error(status, headers, body):
    token_or_error(Answer(status, headers, body))


@unhurried
@given(st.integers(200, 299) | st.integers(100, 599), any_headers, any_json | any_fields)
def test_any_json_gives_a_token_or_an_error(status, headers, value):
    token_or_error(Answer(status, headers, json.dumps(value).encode()))


@unhurried
@given(st.datetimes(timezones=st.just(KST)))
def test_every_moment_is_read_as_it_is_written(moment):
    moment = moment.replace(microsecond=0)
    compact, dashed = f"{moment:%m%d%H%M%S}", f"{moment:%m-%d %H:%M:%S}"
    assert expiry(f"{moment.year:04}{compact}") == expiry(f"{moment.year:04}-{dashed}") == moment.timestamp()
