"""Answers of the token endpoints that say no: which error they are, and what it tells."""

import base64
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from kiwoom_auth_plugin import (
    AddressRejected,
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
)
from kiwoom_auth_plugin._answer import Answer, Context, success
from kiwoom_auth_plugin._codes import OFFICIAL_CODES, numeric
from kiwoom_auth_plugin.testing import recorded

HOST = "https://api.kiwoom.com"
SECRETKEY = "the-Secretkey-0123456789"
CONTEXT = Context("AU10001", HOST, (SECRETKEY,))


def said(return_code, return_msg, status=200, **headers):
    body = json.dumps({"return_code": return_code, "return_msg": return_msg}, ensure_ascii=False)
    return Answer(status, headers, body.encode())


def error_of(answer):
    with pytest.raises(KiwoomAuthError) as raised:
        success(answer, CONTEXT)
    return raised.value


PLAIN = KiwoomAuthError
CLASSES = {
    1513: (PLAIN, False), 1514: (PLAIN, False), 1515: (PLAIN, False), 1516: (PLAIN, False),
    1700: (IssueLimitExceeded, True), 1701: (IssueLimitExceeded, True), 1702: (IssueLimitExceeded, True),
    1999: (PLAIN, True),
    8001: (CredentialsRejected, False), 8002: (CredentialsRejected, False),
    8003: (PLAIN, True), 8005: (PLAIN, False), 8006: (PLAIN, True), 8009: (PLAIN, True),
    8010: (AddressRejected, False), 8011: (PLAIN, False), 8012: (PLAIN, False),
    8015: (PLAIN, False), 8016: (PLAIN, False),
    8020: (CredentialsRejected, False), 8030: (CredentialsRejected, False), 8031: (PLAIN, False),
    8040: (AddressRejected, False), 8050: (AddressRejected, False), 8103: (PLAIN, False),
    4711: (PLAIN, False),
}  # fmt: skip


def test_every_official_code_is_in_the_table():
    assert set(OFFICIAL_CODES) == set(CLASSES) - {4711}


@pytest.mark.parametrize(("code", "kind", "retryable"), [(code, *row) for code, row in CLASSES.items()])
@pytest.mark.parametrize("form", ["인증에 실패했습니다[{}:말]", "로그인[CODE={}, MESSAGE=말]", None])
def test_each_code_is_an_error_of_its_class(code, kind, retryable, form):
    answer = said(code, "말") if form is None else said("3", form.format(code))
    error = error_of(answer)
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.code == code
    assert error.return_code == (code if form is None else 3)
    assert error.return_msg == ("말" if form is None else form.format(code))
    assert (error.status_code, error.host) == (200, HOST)
    assert str(error).startswith(f"{HOST}: AU10001 was refused (HTTP 200, code {code}): {error.return_msg}")
    if code in OFFICIAL_CODES:
        assert OFFICIAL_CODES[code].advice
        assert str(error).endswith(OFFICIAL_CODES[code].advice)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_any_refusal_may_pass_where_the_server_is_at_fault(status):
    error = error_of(said(3, "[4711:말]", status))
    assert (type(error), error.retryable, error.status_code) == (KiwoomAuthError, True, status)


RECORDED = [
    (recorded.BAD_KEY_PAIR, CredentialsRejected, 8001, "openapi"),
    (recorded.WRONG_ENVIRONMENT, CredentialsRejected, 8030, "MOCK_HOST"),
    (recorded.ADDRESS_NOT_REGISTERED, AddressRejected, 8050, "https://openapi.kiwoom.com"),
    (recorded.TERMINAL_REFUSED, AddressRejected, 8040, "https://openapi.kiwoom.com"),
    (recorded.ISSUED_TOO_OFTEN, IssueLimitExceeded, 1700, "share one token"),
    (recorded.ISSUE_FAILED, KiwoomAuthError, 8009, "later"),
    (recorded.MAINTENANCE, InvalidTokenResponse, None, "maintenance"),
    (recorded.WEEKEND_REDIRECT, InvalidTokenResponse, None, "never followed"),
]


@pytest.mark.parametrize(("answer", "kind", "code", "advice"), RECORDED, ids=[str(row[2]) for row in RECORDED])
def test_each_recorded_answer_is_its_error_and_says_what_to_do(answer, kind, code, advice):
    error = error_of(Answer(answer.status, {}, answer.body))
    assert (type(error), error.code, error.status_code) == (kind, code, answer.status)
    if kind is not CredentialsRejected or code == 8030:
        assert advice in str(error)
    else:
        assert "Check appkey and secretkey" in str(error)
    if code is not None:
        assert json.loads(answer.body)["return_msg"] in str(error)


@pytest.mark.parametrize("return_code", [3, -1, "3", "0003", 99, 805004])
def test_a_refusal_without_a_code_is_told_by_its_return_code(return_code):
    error = error_of(said(return_code, "인증에 실패했습니다"))
    assert (type(error), error.code, error.return_code) == (KiwoomAuthError, None, int(return_code))
    assert f"return_code {int(return_code)}" in str(error)


def test_a_refusal_in_cp949_is_read():
    error = error_of(Answer(200, {}, recorded.BAD_KEY_PAIR.body.decode().encode("cp949")))
    assert "App Key와 Secret Key 검증에 실패했습니다" in error.return_msg


def test_a_return_msg_that_is_no_text_is_left_out():
    error = error_of(said(3, ["[8001:"]))
    assert (error.code, error.return_msg) == (None, None)


def test_a_return_code_that_is_no_number_is_quoted_as_it_is():
    error = error_of(said(f"E{SECRETKEY}", "[8001:말]"))
    assert (type(error), error.code, error.return_code) == (CredentialsRejected, 8001, "E…")


# Too often


def test_429_is_the_issue_limit_whatever_it_says():
    for body in (b"", b"<html>", b"{}", b'{"return_code":0}', b"[]"):
        error = error_of(Answer(429, {}, body))
        assert (type(error), error.retryable, error.status_code) == (IssueLimitExceeded, True, 429)
        assert error.retry_after is None
        assert "Call less often" in str(error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("999999999", 999_999_999.0),
        ("Tue, 05 Nov 2024 23:38:13 GMT", 60.0), ("Tue, 05 Nov 2024 23:36:13 GMT", 0.0),
        ("", None), ("soon", None), ("-1", None), ("1.5", None), ("9" * 10, None), ("٣", None), ("nan", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_its_forms(value, seconds):
    headers = {"retry-after": value, "date": "Tue, 05 Nov 2024 23:37:13 GMT"}
    error = error_of(Answer(429, headers, recorded.ISSUED_TOO_OFTEN.body))
    assert error.retry_after == seconds


def test_a_retry_after_that_is_a_date_counts_from_now_without_the_servers_clock():
    assert Answer(429, {"retry-after": "Tue, 05 Nov 2024 23:38:13 GMT"}, b"").retry_after == 0.0
    year = datetime.now(UTC).year + 2
    assert Answer(429, {"retry-after": f"Tue, 05 Nov {year} 23:38:13 GMT"}, b"").retry_after > 300 * 86_400


# No JSON


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"return_code":0,"token":"x"}'])
def test_a_redirect_is_no_answer(status, body):
    error = error_of(Answer(status, {"location": "https://elsewhere.example/"}, body))
    assert (type(error), error.retryable, error.status_code) == (InvalidTokenResponse, False, status)
    assert "redirect" in str(error)


@pytest.mark.parametrize(
    ("status", "retryable"), [(200, False), (204, False), (400, False), (404, False), (500, True), (503, True)]
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"a":1,"a":2}'])
def test_what_is_no_json_may_pass_only_where_the_server_is_at_fault(status, retryable, body):
    error = error_of(Answer(status, {}, body))
    assert (type(error), error.retryable, error.status_code) == (InvalidTokenResponse, retryable, status)
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize(("status", "retryable"), [(100, False), (400, False), (403, False), (500, True)])
def test_a_yes_with_an_unsuccessful_status_is_none(status, retryable):
    error = error_of(said(0, "정상적으로 처리되었습니다", status))
    assert (type(error), error.retryable) == (InvalidTokenResponse, retryable)


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_kiwooms_own_words_go_before_the_status(status):
    error = error_of(said(3, "[8001:말]", status))
    assert (type(error), error.code, error.status_code) == (CredentialsRejected, 8001, status)


def test_a_long_answer_is_told_as_such():
    assert "1048576 bytes" in str(error_of(Answer(200, {}, b"{" + b" " * 1024 * 1024)))


# Quoting


def test_what_may_be_a_secret_is_one_character():
    error = error_of(said(3, f"[8002:이것은 {'k' * 16} 이것도 {'k' * 15} ]"))
    assert error.return_msg == f"[8002:이것은 … 이것도 {'k' * 15} ]"


def test_the_secretkey_is_not_quoted():
    error = error_of(said(3, f"[8002:App Key {SECRETKEY}, {SECRETKEY}]"))
    assert error.return_msg == "[8002:App Key …, …]"
    assert SECRETKEY not in f"{error}{error!r}{error.args}{vars(error)}"


def test_a_secretkey_at_the_end_of_a_long_text_is_not_quoted_in_part():
    error = error_of(said(3, "x" * 295 + SECRETKEY))
    assert SECRETKEY[:5] not in str(error)


def test_words_are_quoted_on_one_line_and_not_endlessly():
    error = error_of(said(3, "a\r\nb\x1b[31m\u202e\x00\u2028" + "가나다 " * 1000))
    assert error.return_msg.startswith("a  b [31m   가나다 ")
    assert len(error.return_msg) == 300
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "spelt",
    [
        SECRETKEY[:20], SECRETKEY[::-1], quote(SECRETKEY, safe=""), base64.b64encode(SECRETKEY.encode()).decode(),
        json.dumps(SECRETKEY), "an-appkey-of-somebody-else", "already-issued-Token-0123456789",
    ],
)  # fmt: skip
@pytest.mark.parametrize("field", ["return_msg", "return_code"])
def test_what_may_be_a_key_or_a_token_is_not_quoted_in_whatever_spelling(spelt, field):
    fields = {"return_code": 3, "return_msg": "안 됩니다"} | {field: f"[8001:{spelt} 안\x00{spelt}"}
    error = error_of(Answer(200, {}, json.dumps(fields).encode()))
    for told in (str(error), repr(error.return_msg), repr(error.return_code)):
        assert spelt[:16] not in told
    assert error.code == (8001 if field == "return_msg" else None)


@pytest.mark.parametrize("return_code", [0, "0", "0000"])
def test_an_answer_that_says_yes_says_so_whatever_its_text_quotes(return_code):
    answer = said(return_code, "정상적으로 처리되었습니다 [8005:Token이 유효하지 않습니다]")
    assert success(answer, CONTEXT)["return_code"] == return_code


def test_neither_answer_nor_context_shows_what_it_holds():
    assert SECRETKEY not in repr(CONTEXT) + str(CONTEXT)
    assert SECRETKEY not in repr(Answer(200, {"x": SECRETKEY}, SECRETKEY.encode()))


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), ("0", 0), ("0000", 0), (3, 3), ("3", 3), ("-1", -1), (805004, 805004), ("9" * 9, 999_999_999)]
    + [(value, None) for value in (None, True, 0.0, "", " 0", "0 ", "\u0660", "+1", "1.0", "0x1", "9" * 10, [], b"0")],
)
def test_a_return_code_is_a_number_in_either_form(value, number):
    assert numeric(value) == number
