"""What the local Kiwoom answers: tokens, TR calls, journal, scripts."""

import http.client
import json
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import pytest
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, ServerClock, recorded

JSON_UTF8 = "application/json;charset=UTF-8"
KST = timezone(timedelta(hours=9))
TR = "/api/dostk/stkinfo"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int | None:
        return Answer(body=self.body).code


def send(emulator, method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def post(emulator, path, fields, **headers):
    sent = {"Content-Type": JSON_UTF8} | {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in sent.items() if value is not None}
    return send(emulator, "POST", path, json.dumps(fields).encode(), sent)


def keys(emulator, **changes):
    fields = {"grant_type": "client_credentials", "appkey": emulator.appkey, "secretkey": emulator.secretkey}
    return {name: value for name, value in (fields | changes).items() if value is not None}


def issue(emulator, **changes):
    return post(emulator, "/oauth2/token", keys(emulator, **changes))


def revoke(emulator, token, **changes):
    return post(emulator, "/oauth2/revoke", keys(emulator, grant_type=None, token=token, **changes))


def quote(emulator, token, **headers):
    sent = {"api_id": "ka10001", "authorization": f"Bearer {token}"} | headers
    return post(emulator, TR, {"stk_cd": "005930"}, **sent)


@pytest.fixture
def kiwoom():
    with KiwoomEmulator() as emulator:
        yield emulator


# AU10001


def test_a_token_is_issued_with_the_documented_fields_in_their_order(kiwoom):
    reply = issue(kiwoom)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == JSON_UTF8
    fields = reply.json()
    assert list(fields) == ["expires_dt", "return_msg", "token_type", "return_code", "token"]
    assert fields["return_msg"] == "정상적으로 처리되었습니다"
    assert fields["token_type"] == "Bearer"
    assert fields["return_code"] == 0
    assert len(fields["token"]) == 86
    assert kiwoom.token == fields["token"]
    assert kiwoom.tokens == [fields["token"]]
    assert kiwoom.issued == kiwoom.issued_for(kiwoom.appkey) == 1


def test_expires_dt_is_korean_wall_clock_time_a_lifetime_from_now(kiwoom):
    kiwoom.clock.freeze()
    kiwoom.clock.set(datetime(2024, 11, 6, 8, 37, 13, tzinfo=KST))
    assert issue(kiwoom).json()["expires_dt"] == "20241107083713"


def test_the_specification_documents_own_form_can_be_had():
    with KiwoomEmulator(expires_format="dashed", send_return_code=False) as kiwoom:
        kiwoom.clock.freeze()
        kiwoom.clock.set(datetime(2024, 12, 30, 14, 59, 59, tzinfo=UTC))
        fields = issue(kiwoom).json()
    assert list(fields) == ["expires_dt", "token_type", "token"]
    assert fields["expires_dt"] == "2024-12-31 23:59:59"


def test_issuing_again_gives_the_same_token_and_the_same_expiry(kiwoom):
    first = issue(kiwoom).json()
    kiwoom.clock.advance(timedelta(hours=1))
    assert issue(kiwoom).json() == first
    assert kiwoom.issued == 2


def test_in_the_replacing_model_issuing_again_kills_the_old_token():
    with KiwoomEmulator(reissue="replace") as kiwoom:
        old, new = issue(kiwoom).json()["token"], issue(kiwoom).json()["token"]
        assert old != new
        assert quote(kiwoom, old).code == 8005
        assert quote(kiwoom, new).json()["return_code"] == 0
        assert kiwoom.tokens == [new]


def test_a_token_dies_at_its_expiry_and_not_before():
    with KiwoomEmulator(token_lifetime=timedelta(minutes=10)) as kiwoom:
        kiwoom.clock.freeze()
        token = issue(kiwoom).json()["token"]
        kiwoom.clock.advance(599.9)
        assert quote(kiwoom, token).json()["return_code"] == 0
        kiwoom.clock.advance(0.1)
        assert quote(kiwoom, token).code == 8005
        assert kiwoom.token is None
        assert kiwoom.tokens == []
        assert issue(kiwoom).json()["token"] not in {token, None}


@pytest.mark.parametrize("kill", [KiwoomEmulator.expire_tokens, KiwoomEmulator.revoke_tokens])
def test_tokens_can_be_killed_and_the_next_issue_gives_another(kiwoom, kill):
    token = issue(kiwoom).json()["token"]
    kill(kiwoom)
    assert kiwoom.token is None
    assert quote(kiwoom, token).code == 8005
    assert issue(kiwoom).json()["token"] != token


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"grant_type": None}, 8011),
        ({"grant_type": "password"}, 8012),
        ({"appkey": None}, 8020),
        ({"secretkey": None}, 8020),
        ({"secretkey": ""}, 8020),
        ({"appkey": ["x"]}, 1517),
        ({"grant_type": 1}, 1517),
        ({"appsecret": "one too many"}, 1517),
    ],
)
def test_a_wrong_field_is_refused_and_named(kiwoom, changes, code):
    reply = issue(kiwoom, **changes)
    assert (reply.status, reply.code) == (200, code)
    (call,) = kiwoom.calls("au10001")
    assert call.violations
    assert call.code == code
    assert kiwoom.issued == 0


@pytest.mark.parametrize(
    ("headers", "violation"),
    [
        ({"Content-Type": None}, f"Content-Type is not {JSON_UTF8}"),
        ({"Content-Type": "application/json"}, f"Content-Type is not {JSON_UTF8}"),
        ({"Content-Type": "text/plain;charset=UTF-8"}, f"Content-Type is not {JSON_UTF8}"),
        ({"authorization": "Bearer x"}, "a header authorization"),
        ({"cookie": "a=b"}, "a header cookie"),
    ],
)
def test_a_wrong_header_at_issue_is_refused_and_named(kiwoom, headers, violation):
    reply = post(kiwoom, "/oauth2/token", keys(kiwoom), **headers)
    assert reply.code == 1512
    assert kiwoom.journal[0].violations == (violation,)
    assert kiwoom.issued == 0


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON;charset=utf-8"])
def test_case_and_a_space_in_the_content_type_do_not_matter(kiwoom, content_type):
    assert post(kiwoom, "/oauth2/token", keys(kiwoom), **{"Content-Type": content_type}).json()["token"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"grant_type=client_credentials", b"\xff", pytest.param(b"[" * 200_000, id="deep")]
)
def test_a_body_that_is_no_json_object_is_refused_at_issue(kiwoom, body):
    reply = send(kiwoom, "POST", "/oauth2/token", body, {"Content-Type": JSON_UTF8})
    assert reply.code == 1517
    assert kiwoom.journal[0].violations == ("the body is not a JSON object",)


def test_a_query_string_at_issue_is_refused(kiwoom):
    assert post(kiwoom, "/oauth2/token?x=1", keys(kiwoom)).code == 1517
    (call,) = kiwoom.calls("/oauth2/token")
    assert (call.query, call.violations) == ("x=1", ("a query string",))


@pytest.mark.parametrize("changes", [{"secretkey": "wrong"}, {"appkey": "unknown"}])
def test_a_wrong_key_pair_is_refused_without_being_a_violation(kiwoom, changes):
    reply = issue(kiwoom, **changes)
    assert reply.json() == {
        "return_code": 3,
        "return_msg": "인증에 실패했습니다[8001:App Key와 Secret Key 검증에 실패했습니다]",
    }
    assert kiwoom.journal[0].violations == ()


def test_more_issues_in_a_second_than_the_limit_are_refused():
    with KiwoomEmulator(issue_limit=2) as kiwoom:
        kiwoom.clock.freeze()
        assert [issue(kiwoom).status for _ in range(4)] == [200, 200, 429, 429]
        reply = issue(kiwoom)
        assert reply.json()["return_code"] == 5
        assert "1700:허용된 API 요청 개수를 초과하였습니다. 유량=au10001, API ID={1}" in reply.json()["return_msg"]
        assert kiwoom.issued == 2
        kiwoom.clock.advance(0.9)
        assert issue(kiwoom).status == 429
        kiwoom.clock.advance(0.1)
        assert issue(kiwoom).status == 200


def test_what_it_does_can_be_changed_while_it_runs(kiwoom):
    kiwoom.clock.freeze()
    kiwoom.token_lifetime = timedelta(minutes=10)
    first = issue(kiwoom).json()
    assert datetime.strptime(first["expires_dt"], "%Y%m%d%H%M%S").replace(tzinfo=KST) == (
        kiwoom.clock.now() + timedelta(minutes=10)
    ).replace(microsecond=0)
    kiwoom.reissue = "replace"
    assert issue(kiwoom).json()["token"] != first["token"]
    kiwoom.issue_limit = 1
    assert [issue(kiwoom).status for _ in range(2)] == [200, 429]
    assert (kiwoom.reissue, kiwoom.issue_limit, kiwoom.token_lifetime) == ("replace", 1, timedelta(minutes=10))


def test_a_listener_that_raises_costs_no_answer(caplog):
    heard = []

    def listener(call):
        heard.append(call.api)
        raise OSError("nobody listens")

    with KiwoomEmulator(on_call=listener) as kiwoom:
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})
        with kiwoom.hold(TR) as gate, ThreadPoolExecutor(1) as threads:
            call = threads.submit(requests.post, kiwoom.url + TR, headers={"api-id": "ka10001"}, json={}, auth=auth)
            gate.wait_for(1)
            gate.release()
            assert call.result().json()["return_code"] == 0
    assert heard == ["au10001", "ka10001"]
    assert [record.getMessage()[:45] for record in caplog.records] == [
        "a listener raised OSError at Call(number=1, a",
        "a listener raised OSError at Call(number=2, a",
    ]
    assert auth.get_token() not in caplog.text


def test_a_model_that_is_none_is_refused(kiwoom):
    with pytest.raises(ValueError, match="reissue is 'other'"):
        kiwoom.reissue = "other"
    with pytest.raises(ValueError, match="reissue is 'other'"):
        KiwoomEmulator(reissue="other")
    assert kiwoom.reissue == "same"


def test_each_account_has_its_own_issue_limit():
    with KiwoomEmulator(issue_limit=1) as kiwoom:
        kiwoom.clock.freeze()
        kiwoom.add_account("another", "pair")
        assert issue(kiwoom).status == 200
        assert issue(kiwoom, appkey="another", secretkey="pair").status == 200
        assert issue(kiwoom, appkey=None).code == 8020
        assert issue(kiwoom).status == 429


def test_the_issue_limit_forgets_the_future_when_the_clock_is_set_back():
    with KiwoomEmulator(issue_limit=1) as kiwoom:
        kiwoom.clock.freeze()
        assert issue(kiwoom).status == 200
        kiwoom.clock.advance(-3600)
        assert issue(kiwoom).status == 200


def test_accounts_have_their_own_tokens_and_counts(kiwoom):
    kiwoom.add_account("another", "pair")
    mine, other = issue(kiwoom).json()["token"], issue(kiwoom, appkey="another", secretkey="pair").json()["token"]
    assert mine != other
    assert kiwoom.tokens == [mine, other]
    assert (kiwoom.issued, kiwoom.issued_for("another")) == (2, 1)
    assert quote(kiwoom, other).json()["return_code"] == 0
    with pytest.raises(KeyError):
        kiwoom.issued_for("nobody")


def test_a_secretkey_can_be_rotated(kiwoom):
    token = issue(kiwoom).json()["token"]
    kiwoom.add_account(kiwoom.appkey, "rotated")
    assert issue(kiwoom).code == 8001
    assert issue(kiwoom, secretkey="rotated").json()["token"] == token


def test_own_keys_can_be_given():
    with KiwoomEmulator(appkey="A", secretkey="S") as kiwoom:
        assert (kiwoom.appkey, kiwoom.secretkey) == ("A", "S")
        assert issue(kiwoom).status == 200


def test_the_default_keys_are_as_long_as_real_ones_and_cannot_be_taken_for_such(kiwoom):
    assert len(kiwoom.appkey) == len(kiwoom.secretkey) == 43
    assert kiwoom.appkey.startswith("EMULATOR-APPKEY-")
    assert kiwoom.secretkey.startswith("EMULATOR-SECRET-")


def test_each_emulator_has_keys_of_its_own(kiwoom):
    other = KiwoomEmulator()
    assert {kiwoom.appkey, kiwoom.secretkey}.isdisjoint({other.appkey, other.secretkey})


# AU10002


def test_a_revoked_token_is_dead(kiwoom):
    token = issue(kiwoom).json()["token"]
    assert revoke(kiwoom, token).json() == {"return_code": 0, "return_msg": "정상적으로 처리되었습니다"}
    assert kiwoom.token is None
    assert quote(kiwoom, token).code == 8005
    assert revoke(kiwoom, token).code == 8015
    assert not any(call.violations for call in kiwoom.calls("au10002"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"token": None}, 8016),
        ({"token": "unknown"}, 8015),
        ({"secretkey": "wrong"}, 8001),
        ({"appkey": None}, 8020),
        ({"grant_type": "client_credentials"}, 1517),
    ],
)
def test_a_wrong_revocation_is_refused_and_the_token_lives_on(kiwoom, changes, code):
    token = issue(kiwoom).json()["token"]
    fields = {"grant_type": None, "token": token} | changes
    assert post(kiwoom, "/oauth2/revoke", keys(kiwoom, **fields)).code == code
    assert kiwoom.token == token


def test_another_accounts_token_cannot_be_revoked(kiwoom):
    kiwoom.add_account("another", "pair")
    token = issue(kiwoom).json()["token"]
    assert revoke(kiwoom, token, appkey="another", secretkey="pair").code == 8015
    assert kiwoom.token == token


# TR calls


def test_a_call_with_a_valid_token_is_answered(kiwoom):
    token = issue(kiwoom).json()["token"]
    reply = quote(kiwoom, token)
    assert reply.status == 200
    assert reply.json()["return_code"] == 0
    assert reply.json()["stk_cd"] == "005930"
    assert reply.headers["Content-Type"] == JSON_UTF8
    assert {name: reply.headers[name] for name in ("api-id", "cont-yn", "next-key")} == {
        "api-id": "ka10001",
        "cont-yn": "N",
        "next-key": "0",
    }
    (call,) = kiwoom.calls("ka10001")
    assert call.token == token
    assert call.violations == ()


def test_the_answer_to_an_api_can_be_chosen(kiwoom):
    token = issue(kiwoom).json()["token"]
    kiwoom.add_response("kt00001", {"entr": "000000000017534", "return_code": 0})
    reply = quote(kiwoom, token, api_id="kt00001")
    assert reply.json() == {"entr": "000000000017534", "return_code": 0}
    assert reply.headers["api-id"] == "kt00001"
    assert quote(kiwoom, token).json()["stk_nm"] == "삼성전자"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"api_id": None}, 1501),
        ({"api_id": ""}, 1501),
        ({"authorization": None}, 1513),
        ({"authorization": ""}, 1513),
        ({"authorization": "nonsense"}, 1514),
        ({"authorization": "Bearer two words"}, 1514),
        ({"authorization": "Basic {token}"}, 1515),
        ({"authorization": "bearer {token}"}, 1515),
        ({"authorization": "Bearer "}, 1516),
        ({"Content-Type": None}, 1512),
        ({"Content-Type": "text/plain"}, 1512),
        ({"cont_yn": "yes"}, 1517),
    ],
)
def test_a_wrong_header_of_a_call_is_refused_and_named(kiwoom, headers, code):
    token = issue(kiwoom).json()["token"]
    headers = {name: value and value.format(token=token) for name, value in headers.items()}
    reply = quote(kiwoom, token, **headers)
    assert reply.status == 200
    assert reply.code == code
    assert reply.json()["return_code"] == 2
    assert len(kiwoom.journal[-1].violations) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"cont_yn": "Y", "next_key": "A00123"},
        {"cont_yn": "N", "next_key": ""},
    ],
)
def test_what_a_call_may_vary_is_accepted(kiwoom, headers):
    token = issue(kiwoom).json()["token"]
    assert quote(kiwoom, token, **headers).json()["return_code"] == 0


def test_a_call_whose_body_is_no_json_object_is_refused(kiwoom):
    token = issue(kiwoom).json()["token"]
    headers = {"Content-Type": JSON_UTF8, "api-id": "ka10001", "authorization": f"Bearer {token}"}
    assert send(kiwoom, "POST", TR, b"stk_cd=005930", headers).code == 1517
    assert post(kiwoom, TR + "?stk_cd=005930", {}, api_id="ka1", authorization=f"Bearer {token}").code == 1517


def test_an_unknown_token_is_answered_as_recorded(kiwoom):
    reply = quote(kiwoom, "unknown")
    assert reply.status == 200
    assert reply.json() == {"return_code": 3, "return_msg": "인증에 실패했습니다[8005:Token이 유효하지 않습니다]"}
    assert kiwoom.journal[0].violations == ()


@pytest.mark.parametrize("path", ["/", "/oauth2/token/", "/oauth2/TOKEN", "/api/dostk", "/api/dostk/", "/x/y"])
def test_there_is_nothing_else_on_this_server(kiwoom, path):
    reply = post(kiwoom, path, {})
    assert reply.status == 404
    assert reply.json()["return_code"] == 404
    assert kiwoom.calls(path)[0].violations == (f"there is no {path}",)


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke", TR])
def test_only_post_is_allowed(kiwoom, path):
    reply = send(kiwoom, "GET", path)
    assert reply.status == 405
    assert reply.headers["Allow"] == "POST"
    assert kiwoom.journal[0].violations == (f"{path} takes POST, not GET",)


def test_head_is_answered_without_a_body(kiwoom):
    reply = send(kiwoom, "HEAD", "/oauth2/token")
    assert (reply.status, reply.body) == (405, b"")
    assert int(reply.headers["Content-Length"]) > 0


# Refusals and scripts


def test_the_next_calls_can_be_refused_while_the_token_lives(kiwoom):
    token = issue(kiwoom).json()["token"]
    kiwoom.refuse_next(2)
    kiwoom.refuse_next(answer=recorded.UNAUTHORIZED)
    assert issue(kiwoom).json()["token"] == token
    assert [quote(kiwoom, token).code for _ in range(2)] == [8005, 8005]
    assert quote(kiwoom, token).status == 401
    assert quote(kiwoom, token).json()["return_code"] == 0
    assert kiwoom.token == token


def test_scripted_answers_come_in_order_and_then_normal_ones(kiwoom):
    kiwoom.script("/oauth2/token", recorded.ISSUED_TOO_OFTEN, recorded.MAINTENANCE)
    kiwoom.script("/oauth2/token", recorded.WEEKEND_REDIRECT)
    replies = [issue(kiwoom) for _ in range(4)]
    assert [reply.status for reply in replies] == [429, 200, 302, 200]
    assert replies[1].body.startswith(b"<html>")
    assert replies[2].headers["Location"] == "/error.html"
    assert kiwoom.issued == 1
    assert [call.status for call in kiwoom.calls("au10001")] == [429, 200, 302, 200]


def test_a_script_for_a_prefix_covers_what_is_under_it(kiwoom):
    kiwoom.script("/api/dostk/", recorded.BUSINESS_ERROR)
    kiwoom.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    assert issue(kiwoom).code == 8001
    assert "RC4058" in quote(kiwoom, "x").json()["return_msg"]


def test_a_scripted_request_is_judged_all_the_same(kiwoom):
    kiwoom.script("/oauth2/token", recorded.MAINTENANCE)
    issue(kiwoom, appsecret="x")
    assert kiwoom.journal[0].violations == ("1 fields beside grant_type, appkey, secretkey",)


def test_a_scripted_answer_of_the_usual_kind_issues(kiwoom):
    kiwoom.script("/oauth2/token", Answer.as_usual(drip=0.0))
    assert issue(kiwoom).json()["token"] == kiwoom.token
    assert kiwoom.issued == 1


@pytest.mark.parametrize("use", [KiwoomEmulator.script, KiwoomEmulator.hold])
def test_a_path_without_a_slash_is_a_mistake(use):
    with pytest.raises(ValueError, match="'oauth2/token' is not a path"):
        use(KiwoomEmulator(), "oauth2/token")


# Journal


def test_the_journal_tells_what_came_and_what_was_answered(kiwoom):
    issue(kiwoom)
    quote(kiwoom, "unknown")
    first, second = kiwoom.journal
    assert (first.number, first.api, first.method, first.path) == (1, "au10001", "POST", "/oauth2/token")
    assert (first.status, first.return_code, first.code) == (200, 0, None)
    assert first.headers["content-type"] == JSON_UTF8
    assert first.json() == keys(kiwoom)
    assert first.token is None
    assert (second.number, second.api, second.path) == (2, "ka10001", TR)
    assert (second.status, second.return_code, second.code) == (200, 3, 8005)
    assert second.token == "unknown"
    assert first.connection != second.connection
    assert kiwoom.calls(TR) == kiwoom.calls("ka10001") == [second]


def test_a_call_without_a_json_object_says_so(kiwoom):
    send(kiwoom, "POST", "/oauth2/token", b"[1]")
    with pytest.raises(ValueError, match="call 1 is not a JSON object"):
        kiwoom.journal[0].json()


def test_no_secret_is_in_any_repr(kiwoom):
    token = issue(kiwoom).json()["token"]
    quote(kiwoom, token)
    post(kiwoom, f"{TR}?{token}", keys(kiwoom))
    shown = repr((kiwoom, kiwoom.journal, Answer.json({"token": token})))
    assert token not in shown
    assert kiwoom.secretkey not in shown


def test_the_journal_is_a_copy_and_can_be_cleared(kiwoom):
    issue(kiwoom)
    kiwoom.journal.clear()
    assert len(kiwoom.journal) == 1
    kiwoom.clear_journal()
    assert kiwoom.journal == []
    issue(kiwoom)
    assert kiwoom.journal[0].number == 2


def test_the_journal_keeps_the_latest_calls():
    with KiwoomEmulator(journal_limit=2) as kiwoom:
        for _ in range(3):
            issue(kiwoom)
        assert [call.number for call in kiwoom.journal] == [2, 3]


def test_repetitions_are_counted(kiwoom):
    kiwoom.reissue = "replace"
    old = issue(kiwoom).json()["token"]
    quote(kiwoom, old)
    new = issue(kiwoom).json()["token"]
    for token in (old, old, old, new, new, new, new):  # three are refused, three of four are their repetitions
        quote(kiwoom, token)
    assert kiwoom.repeated == 3
    kiwoom.refuse_next(answer=recorded.UNAUTHORIZED)
    quote(kiwoom, new)
    quote(kiwoom, issue(kiwoom).json()["token"])
    assert kiwoom.repeated == 4


def test_what_is_no_repetition_is_not_counted(kiwoom):
    token = issue(kiwoom).json()["token"]
    kiwoom.refuse_next(answer=recorded.refusal(8050))
    kiwoom.refuse_next(answer=recorded.refusal(8050, status=401))
    quote(kiwoom, token)  # its token was not refused
    quote(kiwoom, token)
    quote(kiwoom, "another")  # refused, and made once more: by another API, by another body, by nobody
    quote(kiwoom, "another")
    quote(kiwoom, token, api_id="ka10002")
    post(kiwoom, TR, {"stk_cd": "000660"}, api_id="ka10001", authorization=f"Bearer {token}")
    post(kiwoom, TR, {"stk_cd": "005930"}, api_id="ka10001")
    assert kiwoom.repeated == 0


def test_all_that_breaks_the_specification_is_listed(kiwoom):
    token = issue(kiwoom).json()["token"]
    assert kiwoom.violations == []
    quote(kiwoom, token, api_id=None)
    assert kiwoom.violations == ["2: api-id is missing"]


def test_calls_on_one_connection_are_recognised(kiwoom):
    with requests.Session() as session:
        for _ in range(2):
            session.post(kiwoom.url + "/oauth2/token", json=keys(kiwoom), headers={"Content-Type": JSON_UTF8})
    first, second = kiwoom.journal
    assert first.connection == second.connection


# Clock


def test_the_date_header_is_the_emulators_clock(kiwoom):
    kiwoom.clock.set(datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC))
    kiwoom.clock.freeze()
    kiwoom.clock.set(datetime(2031, 1, 2, 12, 4, 5, 999_999, tzinfo=KST))
    date = issue(kiwoom).headers["Date"]
    assert date == "Thu, 02 Jan 2031 03:04:05 GMT"
    assert parsedate_to_datetime(date) == kiwoom.clock.now().replace(microsecond=0)


def test_emulators_can_share_a_clock():
    clock = ServerClock()
    clock.freeze()
    with KiwoomEmulator(clock=clock) as one, KiwoomEmulator(clock=clock) as other:
        assert issue(one).headers["Date"] == issue(other).headers["Date"]
        assert one.clock is other.clock is clock


# Headers of answers


def test_default_headers_can_be_replaced_or_left_out(kiwoom):
    headers = (("Date", "yesterday"), ("Set-Cookie", "a=b"))
    kiwoom.script(TR, Answer.json({}, headers=headers), replace(recorded.INVALID_TOKEN, headers=(("Date", ""),)))
    reply = quote(kiwoom, "x")
    assert reply.headers["Date"] == "yesterday"
    assert reply.headers["Set-Cookie"] == "a=b"
    assert set(quote(kiwoom, "x").headers) == {"Content-Length"}


def test_a_chunked_answer_can_be_written_by_hand(kiwoom):
    kiwoom.script(TR, Answer(headers=(("Transfer-Encoding", "chunked"),), body=b"2\r\n{}\r\n0\r\n\r\n"))
    assert quote(kiwoom, "x").json() == {}


def test_an_answer_without_content_has_no_length(kiwoom):
    kiwoom.script(TR, Answer(204))
    assert set(quote(kiwoom, "x").headers) == {"Date"}


# The package


def test_the_emulator_imports_without_pytest():
    code = "import sys, kiwoom_auth_plugin.testing as t; t.KiwoomEmulator; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_users_get_a_pytest_fixture(tmp_path):
    (tmp_path / "conftest.py").write_text(
        'from kiwoom_auth_plugin.testing import Answer\npytest_plugins = ["kiwoom_auth_plugin.testing"]\n'
    )
    (tmp_path / "test_it.py").write_text(
        "import http.client\n"
        "def test_it(kiwoom_emulator):\n"
        "    connection = http.client.HTTPConnection('127.0.0.1', kiwoom_emulator.port)\n"
        "    connection.request('GET', '/')\n"
        "    assert connection.getresponse().status == 404\n"
        "    connection.close()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_url_needs_a_start():
    kiwoom = KiwoomEmulator(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert repr(kiwoom) == "KiwoomEmulator(not started, issued=0)"
    assert kiwoom.port == 0
    with pytest.raises(RuntimeError, match="start"):
        _ = kiwoom.url


WRONG = [
    ({"port": "80"}, TypeError, "port must be int, not str"),
    ({"port": True}, TypeError, "port must be int, not bool"),
    ({"port": 65_536}, ValueError, "port is 65536: it must be 0 to 65535"),
    ({"host": None}, TypeError, "host must be str, not NoneType"),
    *(
        ({"host": host}, ValueError, f"host is {host!r}: it must be 'localhost', '::1' or of 127.0.0.0/8")
        for host in ("", "0.0.0.0", "::", "192.0.2.1", "example.com")
    ),
    ({"expires_format": "iso"}, ValueError, "expires_format is 'iso': it must be 'compact' or 'dashed'"),
    ({"send_return_code": "no"}, TypeError, "send_return_code must be bool, not str"),
    ({"tls": True}, TypeError, "tls must be SSLContext or None, not bool"),
    ({"clock": datetime}, TypeError, "clock must be ServerClock or None, not type"),
    ({"journal_limit": 0}, ValueError, "journal_limit is 0: it must be 1 or more"),
    ({"on_call": 1}, TypeError, "on_call must be callable, not int"),
    ({"on_packet": 1}, TypeError, "on_packet must be callable, not int"),
    ({"token_lifetime": 3600}, TypeError, "token_lifetime must be timedelta, not int"),
    ({"issue_limit": "2"}, TypeError, "issue_limit must be int, not str"),
    ({"issue_limit": -1}, ValueError, "issue_limit is -1: it must be 0 or more"),
    ({"appkey": 5}, TypeError, "appkey must be str, not int"),
    ({"secretkey": b"secret"}, TypeError, "secretkey must be str, not bytes"),
]


@pytest.mark.parametrize(("options", "kind", "says"), WRONG, ids=[row[2].split(":")[0] for row in WRONG])
def test_an_argument_that_is_wrong_is_refused_where_it_is_given(options, kind, says):
    with pytest.raises(kind) as caught:
        KiwoomEmulator(**options)
    assert str(caught.value) == says


ASKED = {
    "a list of answers": (lambda kiwoom: kiwoom.script(TR, [recorded.BAD_KEY_PAIR]), "each of answers must be Answer"),
    "a code": (lambda kiwoom: kiwoom.script(TR, 8001), "each of answers must be Answer, not int"),
    "no path": (lambda kiwoom: kiwoom.script(None), "path must be str, not NoneType"),
    "a query": (lambda kiwoom: kiwoom.script(TR + "?x=1"), "it must start with /, and have no query"),
    "a code as the answer": (lambda kiwoom: kiwoom.refuse_next(1, 8005), "answer must be Answer, not int"),
    "times that is none": (lambda kiwoom: kiwoom.refuse_next("2"), "times must be int, not str"),
    "times below zero": (lambda kiwoom: kiwoom.refuse_next(-1), "times is -1: it must be 0 or more"),
    "logins below zero": (lambda kiwoom: kiwoom.websocket.refuse_logins(-1), "times is -1: it must be 0 or more"),
    "the path of an API": (lambda kiwoom: kiwoom.add_response(TR, {}), "a path: script"),
    "a body that is none": (lambda kiwoom: kiwoom.add_response("ka10001", []), "body must be Mapping, not list"),
    "a text as a moment": (lambda kiwoom: kiwoom.clock.set("20241107"), "moment must be datetime, not str"),
    "a text as a step": (lambda kiwoom: kiwoom.clock.advance("1"), "by must be int or float or timedelta, not str"),
    "no status": (lambda _kiwoom: Answer("x"), "status must be int, not str"),
    "text as a body": (lambda _kiwoom: Answer(200, "x"), "body must be bytes, not str"),
    "a dict of headers": (lambda _kiwoom: Answer(headers={"a": "b"}), "headers must be tuple, not dict"),
    "no delay": (lambda _kiwoom: Answer(delay=float("nan")), "delay is nan: it must be a finite number of seconds"),
}


@pytest.mark.parametrize(("ask", "says"), ASKED.values(), ids=ASKED)
def test_what_is_asked_wrongly_is_refused_where_it_is_asked(kiwoom, ask, says):
    with pytest.raises((TypeError, ValueError)) as caught:
        ask(kiwoom)
    assert says in str(caught.value)
    assert send(kiwoom, "GET", "/").status == 404


def test_an_api_is_known_in_either_case(kiwoom_emulator):
    kiwoom_emulator.add_response("KA10001", MappingProxyType({"cur_prc": "+1", "return_code": 0}))
    auth = KiwoomBearerAuth(kiwoom_emulator.appkey, kiwoom_emulator.secretkey, host=kiwoom_emulator.url, cache={})
    answer = requests.post(kiwoom_emulator.url + TR, headers={"api-id": "ka10001"}, json={}, auth=auth, timeout=30)
    assert answer.json()["cur_prc"] == "+1"
