"""AU10002's bytes: what revokes a token, and what its answers mean."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin import CredentialsRejected, InvalidTokenResponse, KiwoomAuthError
from kiwoom_auth_plugin._answer import Answer
from kiwoom_auth_plugin._au10002 import NAME, PATH, check, request_body
from kiwoom_auth_plugin.testing import recorded

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HOST = "https://mockapi.kiwoom.com"
SECRETKEY = "the-Secretkey-0123456789"
TOKEN = "the-Token-0123456789"


def judged(answer):
    check(answer, host=HOST, secretkey=SECRETKEY, token=TOKEN)


def test_the_request_is_the_specified_one():
    assert PATH == "/oauth2/revoke"
    assert json.loads(request_body("appkey", "secretkey", "token")) == {
        "appkey": "appkey",
        "secretkey": "secretkey",
        "token": "token",
    }


@pytest.mark.parametrize(
    "fields", [{"return_code": 0, "return_msg": "정상적으로 처리되었습니다"}, {"return_code": "0"}, {}]
)
def test_an_answer_without_an_error_says_yes(fields):
    judged(Answer(200, {}, json.dumps(fields).encode()))


def test_a_failed_revocation_is_told_in_kiwooms_words():
    with pytest.raises(KiwoomAuthError) as raised:
        judged(Answer(200, {}, recorded.REVOKE_FAILED.body))
    error = raised.value
    assert (error.code, error.return_code, error.status_code, error.host) == (8015, 3, 200, HOST)
    assert not error.retryable
    assert type(error) is KiwoomAuthError
    assert all(part in str(error) for part in (HOST, NAME, "8015", error.return_msg))
    assert "Access Token을 폐기하는데 실패했습니다" in error.return_msg


def test_a_wrong_key_pair_is_told():
    with pytest.raises(CredentialsRejected, match=NAME):
        judged(Answer(200, {}, recorded.BAD_KEY_PAIR.body))


@pytest.mark.parametrize("answer", [Answer(200, {}, b""), Answer(204, {}, b""), Answer(200, {}, b"<html>")])
def test_an_answer_that_says_nothing_is_not_taken_for_a_yes(answer):
    with pytest.raises(InvalidTokenResponse):
        judged(answer)


def test_neither_token_nor_secretkey_is_quoted():
    body = {"return_code": 3, "return_msg": f"[8016:{TOKEN}]{SECRETKEY} token={TOKEN}"}
    with pytest.raises(KiwoomAuthError) as raised:
        judged(Answer(200, {}, json.dumps(body).encode()))
    error = raised.value
    assert error.code == 8016
    assert "token=…" in error.return_msg
    for secret in (TOKEN, SECRETKEY):
        assert secret not in f"{error}{error!r}{error.args}{vars(error)}"


@unhurried
@given(st.integers(100, 599), st.binary())
def test_any_answer_says_yes_or_is_an_error(status, body):
    with contextlib.suppress(KiwoomAuthError):
        judged(Answer(status, {}, body))
        assert 200 <= status < 300
