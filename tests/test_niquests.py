"""niquests' synchronous session: to the plugin one more caller of a plain callable with ``register_hook``."""

import io

import niquests
import pytest

from kiwoom_auth_plugin import CredentialsRejected, HostMismatch, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

TR = "/api/dostk/stkinfo"
BODY = b'{"stk_cd": "005930"}'
HEADERS = {"api-id": "ka10001", "Content-Type": "application/json;charset=UTF-8"}


@pytest.fixture
def kiwoom():
    """Its tokens change with each issue."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


@pytest.fixture
def auth(kiwoom):
    return KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)


@pytest.fixture
def session(auth):
    with niquests.Session() as session:
        session.auth = auth
        yield session


def post(session, kiwoom, body=BODY, **options):
    return session.post(kiwoom.url + TR, data=body, headers=HEADERS, **options)


def test_calls_of_a_session_authenticate_themselves(session, kiwoom):
    for _ in range(3):
        assert post(session, kiwoom).json()["return_code"] == 0
    assert [call.api for call in kiwoom.journal] == ["au10001", "ka10001", "ka10001", "ka10001"]
    assert not any(call.violations for call in kiwoom.journal)


def test_auth_can_be_given_to_one_call(auth, kiwoom):
    response = niquests.post(kiwoom.url + TR, json={"stk_cd": "005930"}, headers={"api-id": "ka10001"}, auth=auth)
    assert response.json()["return_code"] == 0
    assert kiwoom.issued == 1


@pytest.mark.parametrize(
    "refusal",
    [recorded.INVALID_TOKEN, recorded.INVALID_TOKEN_TOP_LEVEL, recorded.UNAUTHORIZED],
    ids=["3", "8005", "401"],
)
def test_a_refused_call_is_repeated_once_with_a_new_token(session, auth, kiwoom, refusal):
    first = auth.get_token()
    kiwoom.refuse_next(answer=refusal)
    response = post(session, kiwoom)
    assert response.json()["return_code"] == 0
    before, after = kiwoom.calls("ka10001")
    assert (before.token, after.token) == (first, kiwoom.token)
    assert before.body == after.body == BODY
    assert [answer.status_code for answer in response.history] == [refusal.status]
    assert kiwoom.issued == 2


def test_and_never_twice(session, kiwoom):
    kiwoom.refuse_next(9)
    assert post(session, kiwoom).json()["return_code"] == 3
    assert len(kiwoom.calls("ka10001")) == 2


@pytest.mark.parametrize("answer", [recorded.ADDRESS_NOT_REGISTERED, recorded.TOO_MANY_CALLS, recorded.BUSINESS_ERROR])
def test_other_answers_are_the_callers(session, kiwoom, answer):
    kiwoom.refuse_next(answer=answer)
    assert post(session, kiwoom).content == answer.body
    assert len(kiwoom.calls("ka10001")) == 1


def test_a_body_that_can_be_sent_once_is_not_repeated(session, kiwoom):
    kiwoom.refuse_next()
    assert post(session, kiwoom, iter([BODY[:5], BODY[5:]])).json()["return_code"] == 3
    assert [call.body for call in kiwoom.calls("ka10001")] == [BODY]
    assert post(session, kiwoom).json()["return_code"] == 0
    assert kiwoom.issued == 2


def test_a_file_is_repeated_whole(session, kiwoom):
    kiwoom.refuse_next()
    assert post(session, kiwoom, io.BytesIO(BODY)).json()["return_code"] == 0
    assert [call.body for call in kiwoom.calls("ka10001")] == [BODY, BODY]


def test_a_streamed_answer_is_whole(session, kiwoom):
    with post(session, kiwoom, stream=True) as response:
        assert b"".join(response.iter_content(7)).startswith(b'{"stk_cd"')


def test_errors_are_those_of_the_package(kiwoom, session, auth):
    with pytest.raises(HostMismatch):
        session.post("https://api.kiwoom.com" + TR, data=BODY)
    wrong = KiwoomBearerAuth(kiwoom.appkey, "of-another-pair", host=kiwoom.url)
    with pytest.raises(CredentialsRejected):
        post(session, kiwoom, auth=wrong)


def test_to_another_origin_the_token_does_not_go_along(session, kiwoom):
    with KiwoomEmulator() as elsewhere:
        kiwoom.script(TR, Answer.redirect(elsewhere.url + TR, 307))
        post(session, kiwoom)
        (call,) = elsewhere.journal
    assert "authorization" not in call.headers


def test_its_session_is_no_client(kiwoom):
    with niquests.Session() as session, pytest.raises(TypeError, match=r"^client "):
        KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, client=session)
