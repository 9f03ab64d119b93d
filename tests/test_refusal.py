"""What an answer says about the token: the recorded answers of Kiwoom, and what could be mistaken for them."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin._codes import OFFICIAL_CODES, Kind
from kiwoom_auth_plugin._refusal import (
    HEADER_REFUSED,
    READ_LIMIT,
    SUCCESS,
    TOKEN_REFUSED,
    UNREADABLE,
    code_in,
    may_refuse,
    refuses_header,
    refuses_token,
    worth_reading,
)
from kiwoom_auth_plugin.testing import recorded

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def said(return_code, return_msg, **more):
    return json.dumps({"return_code": return_code, "return_msg": return_msg} | more, ensure_ascii=False).encode()


INVALID = "인증에 실패했습니다[8005:Token이 유효하지 않습니다]"

REFUSALS = {
    "8005 as recorded, real and mock": (200, said(3, INVALID)),
    "8005 as the return_code": (200, said(8005, "Token이 유효하지 않습니다")),
    "8005 as a string": (200, said("8005", "")),
    "8005 with leading zeros": (200, said("00008005", "")),
    "8005 without any text": (200, b'{"return_code":8005}'),
    "8005 with an outer code that is a string": (200, said("3", INVALID)),
    "8005 without an outer code": (200, json.dumps({"return_msg": INVALID}).encode()),
    "8005 in the form of the WebSocket": (
        200,
        said(805004, "로그인 실패[CODE=8005, MESSAGE=Token이 유효하지 않습니다]"),
    ),
    "8005 with the text escaped": (200, json.dumps({"return_code": 3, "return_msg": INVALID}).encode()),
    "8005 in cp949": (200, said(3, INVALID).decode().encode("cp949")),
    "8005 after a BOM": (200, b"\xef\xbb\xbf" + said(3, INVALID)),
    "8005 among other fields": (200, said(3, INVALID, stk_cd="005930", pred_pre=None)),
    "8005 in the largest answer that is read": (200, said(3, INVALID + "." * (READ_LIMIT - len(said(3, INVALID))))),
    "8010, a token of another address": (200, recorded.TOKEN_OF_OTHER_ADDRESS.body),
    "8031, a token of the other environment": (200, recorded.TOKEN_OF_OTHER_ENVIRONMENT.body),
    "8103, the token or the terminal": (200, recorded.TOKEN_OR_TERMINAL.body),
    "8005 with a status of its own": (403, said(3, INVALID)),
    "8005 with 500": (500, said(3, INVALID)),
    "401 without a body": (401, b""),
    "401 with a body that is not known": (401, None),
    "401 with 8005": (401, said(3, INVALID)),
    "401 with a page": (401, b"<html>Unauthorized</html>"),
    "401 with JSON without a code": (401, b'{"error":"unauthorized"}'),
    "401 with return_code 3 alone": (401, said(3, "인증에 실패했습니다")),
    "401 with a list": (401, b"[8050]"),
    "401 with an endless answer": (401, b"[" * 15_000),
}

OTHERS = {
    "a quote": (200, said(0, "정상적으로 처리되었습니다", cur_prc="+71500")),
    "8050, this address is not registered": (200, said(3, "인증에 실패했습니다[8050:지정단말기 인증에 실패했습니다]")),
    "401 with 8050": (401, said(3, "인증에 실패했습니다[8050:지정단말기 인증에 실패했습니다]")),
    "401 with 8050 as the return_code": (401, said("8050", "")),
    "401 with 8001": (401, recorded.BAD_KEY_PAIR.body),
    "401 with 1700": (401, recorded.TOO_MANY_CALLS.body),
    "8040, the terminal": (200, recorded.TERMINAL_REFUSED.body),
    "8001, the key pair": (200, recorded.BAD_KEY_PAIR.body),
    "8030, the key's environment": (200, recorded.WRONG_ENVIRONMENT.body),
    "1513, no header": (200, recorded.NO_AUTHORIZATION.body),
    "1700 with 429": (429, recorded.TOO_MANY_CALLS.body),
    "1700 with 200": (200, recorded.TOO_MANY_CALLS_200.body),
    "429 without a body": (429, b""),
    "an error of the business": (200, recorded.BUSINESS_ERROR.body),
    "1999, the server": (500, recorded.UNEXPECTED_ERROR.body),
    "403 without a body": (403, b""),
    "return_code 3 alone": (200, said(3, "인증에 실패했습니다")),
    "maintenance": (200, recorded.MAINTENANCE.body),
    "8005 as a price": (200, said(0, "정상적으로 처리되었습니다", cur_prc="8005", trde_qty=8005)),
    "8005 in the data of an error": (200, said(20, "[2000](RC4058:모의투자 장종료 상태입니다)", ord_no="[8005:")),
    "8005 quoted by an answer that says yes": (200, said(0, INVALID)),
    "the same with a return_code that is a string": (200, said("0000", INVALID)),
    "8005 as an amount in the text": (200, said(20, "주문가능금액 8005원을 초과하였습니다")),
    "8005 in round brackets": (200, said(20, "(8005:x)")),
    "8005 in brackets without a colon": (200, said(20, "[8005](RC8005:x)")),
    "18005 in brackets": (200, said(20, "[18005:x]")),
    "80050 in brackets": (200, said(20, "[80050:x]")),
    "CODE=80055": (200, said(20, "[CODE=80055, MESSAGE=x]")),
    "80050 as the return_code": (200, said(80050, "")),
    "a negative return_code": (200, said(-8005, "")),
    "8005.0, which is no integer": (200, b'{"return_code":8005.0}'),
    "true": (200, b'{"return_code":true,"return_msg":8005}'),
    "a text that is a list": (200, said(3, ["[8005:"])),
    "a text that is an object": (200, said(3, {"8005": "[8005:"})),
    "8005 one level down": (200, json.dumps({"data": {"return_code": 8005, "return_msg": INVALID}}).encode()),
    "8005 in a list": (200, b"[" + said(8005, INVALID) + b"]"),
    "8005 as a string of JSON": (200, json.dumps("[8005:").encode()),
    "8005 in a page": (200, b"<html>[8005:Token]</html>"),
    "8005 in digits of another script": (200, said(3, "[８００５:Token]")),  # noqa: RUF001 - the point of it
    "8005 cut off": (200, said(3, INVALID)[:-1]),
    "an answer one byte too long": (200, said(3, INVALID + "." * (READ_LIMIT + 1 - len(said(3, INVALID))))),
    "nesting without end": (200, b'{"return_msg":"[8005:","a":' + b"[" * 15_000),
    "a number of 10,000 digits": (200, b'{"return_code":8005,"a":' + b"9" * 10_000 + b"}"),
    "nothing": (200, b""),
    "a body that is not known": (200, None),
    "UTF-16": (200, said(3, INVALID).decode().encode("utf-16")),
}


@pytest.mark.parametrize(("status", "body"), REFUSALS.values(), ids=REFUSALS)
def test_the_token_is_refused_by(status, body):
    assert refuses_token(status, body) is True


@pytest.mark.parametrize(("status", "body"), OTHERS.values(), ids=OTHERS)
def test_the_token_is_not_refused_by(status, body):
    assert refuses_token(status, body) is False


@pytest.mark.parametrize("code", sorted(TOKEN_REFUSED))
@pytest.mark.parametrize("form", ["[{}:x]", "로그인[CODE={}, MESSAGE=x]", "CODE={}", "a[b]{{[{}:"])
@pytest.mark.parametrize("outer", [3, "3", 805004, None])
def test_each_code_refuses_in_each_form(code, form, outer):
    assert refuses_token(200, said(outer, form.format(code)))


@pytest.mark.parametrize("code", sorted(TOKEN_REFUSED))
@pytest.mark.parametrize("return_code", [int, str, "0{}".format])
def test_each_code_refuses_as_the_return_code(code, return_code):
    assert refuses_token(200, said(return_code(code), "no code here"))


@pytest.mark.parametrize("code", sorted(set(OFFICIAL_CODES) - TOKEN_REFUSED))
@pytest.mark.parametrize("status", [200, 401])
def test_no_other_official_code_refuses_the_token(code, status):
    assert not refuses_token(status, said(3, f"[{code}:x]"))
    assert not refuses_token(status, said(code, ""))


def test_the_codes_that_refuse_are_those_that_are_about_the_token():
    assert {code for code, official in OFFICIAL_CODES.items() if official.kind is Kind.TOKEN} == TOKEN_REFUSED


def test_the_embedded_code_goes_before_the_outer_one():
    assert code_in(200, said(8005, "[8050:x]")) == 8050
    assert code_in(200, said(8050, "[8005:x]")) == 8005


def test_the_first_embedded_code_counts():
    assert code_in(200, said(3, "[8050:x][8005:y]")) == 8050


# A header that is missing, or was replaced by somebody else's


@pytest.mark.parametrize("code", sorted(HEADER_REFUSED))
def test_the_header_is_refused_by_its_codes_whatever_the_status(code):
    assert refuses_header(200, said(2, f"입력 값 오류입니다[{code}:x]"))
    assert refuses_header(401, said(code, ""))


def test_the_header_is_refused_by_a_bare_401():
    assert refuses_header(401, None)
    assert refuses_header(401, b"<html>")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, said(3, "[8050:x]")), (401, said("FAIL", "[8050:x]")), (200, said(3, INVALID)), (200, b""), (403, b""),
        (200, said(0, "[1513:x]")),
    ],
)  # fmt: skip
def test_the_header_is_not_refused_by(status, body):
    assert not refuses_header(status, body)


# What has to be read to tell


@pytest.mark.parametrize(
    ("content_type", "content_length"),
    [
        ("application/json;charset=UTF-8", "120"),
        ("application/json", None),
        ("APPLICATION/JSON", str(READ_LIMIT)),
        ("text/json", "0"),
        ("text/json", None),
        ("application/problem+json", "5"),
        (None, "120"),
        ("text/plain; charset=UTF-8", "120"),
        ("Text/HTML", str(READ_LIMIT)),
    ],
)
def test_short_answers_that_may_be_json_are_worth_reading(content_type, content_length):
    assert worth_reading(content_type, content_length)


@pytest.mark.parametrize(
    ("content_type", "content_length"),
    [
        ("text/event-stream", None),
        ("text/html", None),
        ("text/html", str(READ_LIMIT + 1)),
        ("image/text/html", "120"),
        ("application/octet-stream", "120"),
        (None, None),
        ("application/json", str(READ_LIMIT + 1)),
        ("application/json", "9" * 5000),
        ("application/json", "-1"),
        ("application/json", "many"),
        ("application/json", "12, 12"),
        ("application/json", ""),
    ],
)
def test_long_answers_and_other_types_are_not(content_type, content_length):
    assert not worth_reading(content_type, content_length)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl", "application/json-seq"])
def test_endless_streams_of_json_lines_are_not(content_type):
    assert not worth_reading(content_type, None)


# Whatever comes

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
any_code = any_json | st.sampled_from([0, "0", 3, 8005, "8005", -1])
any_text = any_json | st.sampled_from(["[8005:", "[8050:", "CODE=8103", "[2000]"])


YES = [0, "0", "0000"]
NO_CODES = [0.0, False, "0 ", "+0", "0.0", "0000000000", "", [0], {}, True]


@pytest.mark.parametrize("return_code", YES + NO_CODES)
def test_an_order_that_may_have_been_taken_is_not_sent_again(return_code):
    """Text that quotes a code says nothing where the code itself says yes, or cannot be read."""
    body = json.dumps({"return_code": return_code, "return_msg": "[8005:Token이 유효하지 않습니다]"}).encode()
    assert not refuses_token(200, body)


MAY_BE_YES = [0.0, -0.0, False, "0 ", "+0", "-0", "0.0", "0e0", "\uff10", "0000000000"]


@pytest.mark.parametrize("return_code", YES + MAY_BE_YES)
def test_a_401_that_says_yes_or_may_say_so_is_no_refusal(return_code):
    body = json.dumps({"return_code": return_code}).encode()
    assert not refuses_token(401, body)
    assert not refuses_header(401, body)


@pytest.mark.parametrize(
    "return_code", ["", "8005 ", "+8005", "E8005", "CODE=8005", 8005.0, 3.0, "UNAUTHORIZED", "0x", [0], {}, True]
)
@pytest.mark.parametrize("return_msg", ["", "[8005:Token이 유효하지 않습니다]", "[8050:IP]", None])
def test_a_401_whose_code_is_none_is_a_refusal_unless_its_words_are_another_code(return_code, return_msg):
    body = json.dumps({"return_code": return_code, "return_msg": return_msg}).encode()
    assert refuses_token(401, body) is (return_msg != "[8050:IP]")


def test_a_code_that_stands_twice_is_none():
    body = b'{"return_code": 0, "return_code": 3, "return_msg": "[8005:x]"}'
    assert not refuses_token(200, body)


def test_what_comes_after_a_business_code_may_be_anybodys_words():
    message = "[2000](RC4058:종목명 [8005:x] 없음)"
    assert not refuses_token(200, json.dumps({"return_code": 20, "return_msg": message}).encode())


@unhurried
@given(st.integers(200, 599), st.none() | st.binary())
def test_any_bytes_are_judged(status, body):
    assert refuses_token(status, body) is (status == 401)


@unhurried
@given(st.integers(200, 599), any_code, any_text, st.sampled_from(["utf-8", "cp949", "utf-8-sig"]))
def test_any_json_is_judged_by_its_code_and_nothing_else(status, return_code, return_msg, charset):
    body = json.dumps({"return_code": return_code, "return_msg": return_msg}).encode(charset)
    code = code_in(status, body)
    assert code in {None, SUCCESS, UNREADABLE} or 1000 <= code <= 9999
    assert refuses_token(status, body) is (code in TOKEN_REFUSED or (status == 401 and code is None))


@unhurried
@given(st.dictionaries(st.text(), any_json))
def test_an_answer_that_says_yes_never_refuses(fields):
    fields |= {"return_code": 0}
    assert not refuses_token(200, json.dumps(fields).encode())


@unhurried
@given(st.none() | st.text(), st.none() | st.text())
def test_any_headers_are_judged(content_type, content_length):
    assert worth_reading(content_type, content_length) in {True, False}


@pytest.mark.parametrize(
    ("status", "body", "may"),
    [
        (200, b'{"return_code":0}', False),
        (200, b'{"return_msg":"[8005:x]"}', True),
        (502, b"8103", True),
        (200, b"8005" + b" " * READ_LIMIT, False),
        (401, b"", True),
        (401, b" " * (READ_LIMIT + 1), True),
        (200, b'{"stk_cd":"008005","return_code":0}', False),
        (200, b'{"stk_cd": "008005", "return_code": 0}', False),
        (200, b'{"return_code":0,"stk_cd":"008005"' + b" " * 512 + b"}", True),
        (200, '{"qty":"8010","return_code":0,"return_msg":"정상"}\r\n'.encode(), False),
        (200, b'{"return_code":0,"stk_cd":"008005"}', False),
        (401, b'{"stk_cd":"008005","return_code":0}', True),
    ],
)
def test_what_may_be_a_refusal_is_seen_at_a_glance(status, body, may):
    assert may_refuse(status, body) is may


@pytest.mark.parametrize("code", sorted(TOKEN_REFUSED))
def test_each_refusal_is_seen_at_a_glance(code):
    assert may_refuse(200, str(code).encode())


PIECES = [
    '"return_code"',
    '"return_code": 0',
    '"return_code":0',
    '"return_code":3',
    '"return_msg":"[8005:x]"',
    '"x":',
    '"\\"',
    "0",
    "8005",
]
pieces = st.lists(st.sampled_from([*PIECES, *'{}[],:"\\ ']), max_size=12)
"""What JSON is made of, and what is none."""


@unhurried
@given(pieces)
@example(['{"return_msg":"[8005:x]","return_code":3,"x":{', '"return_code":0', "}", "}"])
@example(['{"return_msg":"[8005:x]","return_code":3,"x":[{', '"return_code":0', "}", "]", "}"])
@example(['{"return_msg":"[8005:x]","x":{', '"return_code":0', "}", "}"])
@example(['{"return_msg":"[8005:x]","return_code":3,"\\', '"return_code":0', "}"])
@example(["{", '"return_code":0', '8005,"return_msg":"[8005:x]"', "}"])
@example(["{", '"return_code":0', '.0,"return_msg":"[8005:x]"', "}"])
@example(["{", '"return_code":0', ',"return_msg":"[8005:x]}"', "}"])
@example(["{", '"return_code":0', ',"return_msg":"[8005:x]"'])
@example(['"return_code":0', ',"return_msg":"[8005:x]"}'])
def test_what_shows_at_a_glance_is_what_parsing_tells(parts):
    body = "".join(parts).encode()
    assert refuses_token(200, body) is (code_in(200, body) in TOKEN_REFUSED)
