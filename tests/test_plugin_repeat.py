"""One repeat: a call whose token the server refuses is sent again at most once, only with another token, only whole."""

import threading
import time

import pytest
import requests

from kiwoom_auth_plugin import CredentialsRejected, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, called, every_client, every_module, in_time

JSON_401 = Answer.json({"return_code": 3, "return_msg": "인증에 실패했습니다"}, 401)

REFUSALS = {
    "8005": recorded.INVALID_TOKEN,
    "8005 in a text": Answer(200, recorded.INVALID_TOKEN.body, (("Content-Type", "text/plain;charset=UTF-8"),)),
    "8005 in a page": Answer(200, recorded.INVALID_TOKEN.body, (("Content-Type", "text/html"),)),
    "8005 as the return_code": recorded.INVALID_TOKEN_TOP_LEVEL,
    "8005 as a string": Answer.json({"return_code": "8005", "return_msg": ""}),
    "CODE=8005": Answer.json({"return_code": 805004, "return_msg": "실패[CODE=8005, MESSAGE=Token]"}),
    "8010": recorded.TOKEN_OF_OTHER_ADDRESS,
    "8031": recorded.TOKEN_OF_OTHER_ENVIRONMENT,
    "8103": recorded.TOKEN_OR_TERMINAL,
    "401": recorded.UNAUTHORIZED,
    "401 with JSON": JSON_401,
    "401 with a page": Answer.html("<html>no</html>", 401),
    "401 with a long page": Answer.html("<html>" + "x" * 100_000, 401),
    "401 with 8005": recorded.refusal(8005, status=401),
}
OTHERS = {
    "8050": recorded.ADDRESS_NOT_REGISTERED,
    "401 with 8050": recorded.refusal(8050, status=401),
    "8001": recorded.BAD_KEY_PAIR,
    "1700": recorded.TOO_MANY_CALLS,
    "1700 with 200": recorded.TOO_MANY_CALLS_200,
    "business": recorded.BUSINESS_ERROR,
    "1999": recorded.UNEXPECTED_ERROR,
    "maintenance": recorded.MAINTENANCE,
    "a number in the data": Answer.json({"return_code": 0, "return_msg": "[8005:", "cur_prc": "8005"}),
    "403": Answer(403),
    "nothing": Answer(200),
}


@pytest.fixture
def replacing():
    """A Kiwoom whose tokens change with each issue."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


def auth_for(emulator, **options):
    return KiwoomBearerAuth(emulator.appkey, emulator.secretkey, host=emulator.url, **options)


@every_client
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_call_is_repeated_with_a_new_token(open_client, replacing, refusal):
    auth = auth_for(replacing)
    first = auth.get_token()
    replacing.refuse_next(answer=refusal)
    with open_client(auth) as client:
        response = client.post(replacing.url + TR)
    assert called(response)
    before, after = replacing.calls("ka10001")
    assert before.token == first
    assert after.token == replacing.token != first
    assert before.body == after.body == BODY
    assert replacing.issued == 2


@every_client
@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS)
def test_any_other_answer_is_the_callers(open_client, replacing, answer):
    auth = auth_for(replacing)
    replacing.refuse_next(answer=answer)
    with open_client(auth) as client:
        response = client.post(replacing.url + TR)
    assert (response.status_code, response.content) == (answer.status, answer.body)
    assert not response.history
    assert len(replacing.calls("ka10001")) == 1
    assert replacing.issued == 1


@every_client
@pytest.mark.parametrize("refusal", [recorded.INVALID_TOKEN, recorded.UNAUTHORIZED], ids=["8005", "401"])
def test_a_call_is_never_repeated_twice(open_client, replacing, refusal):
    auth = auth_for(replacing)
    replacing.refuse_next(2, refusal)
    with open_client(auth) as client:
        response = client.post(replacing.url + TR)
    assert (response.status_code, response.content) == (refusal.status, refusal.body)
    assert len(response.history) == 1
    assert len(replacing.calls("ka10001")) == 2
    assert replacing.issued == 2


@every_client
def test_a_call_is_not_repeated_with_the_token_that_was_refused(open_client, kiwoom_emulator, auth):
    kiwoom_emulator.refuse_next()  # the server gives the same token again
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + TR)
        assert response.content == recorded.INVALID_TOKEN.body
        assert not response.history
        assert called(client.post(kiwoom_emulator.url + TR))
    assert len(kiwoom_emulator.calls("ka10001")) == 2
    assert kiwoom_emulator.issued == 2


@every_client
def test_the_history_shows_what_happened(open_client, replacing):
    auth = auth_for(replacing)
    first = auth.get_token()
    replacing.refuse_next()
    started = time.perf_counter()
    with open_client(auth) as client:
        response = client.post(replacing.url + TR)
    longest = time.perf_counter() - started
    (refused,) = response.history
    assert refused.content == recorded.INVALID_TOKEN.body
    assert refused.request.headers["Authorization"] == f"Bearer {first}"
    assert response.request.headers["Authorization"] == f"Bearer {replacing.token}"
    assert 0 < refused.elapsed.total_seconds() < longest
    assert 0 < response.elapsed.total_seconds() < longest
    for answer in (response, refused):
        assert replacing.secretkey not in f"{vars(answer)}{vars(answer.request)}"
        assert "/oauth2/" not in str(answer.request.url)


@every_client
def test_when_no_new_token_can_be_had_that_error_is_raised(open_client, kiwoom_emulator, auth):
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    with open_client(auth) as client, pytest.raises(CredentialsRejected):
        client.post(kiwoom_emulator.url + TR)


@every_client
def test_every_call_has_its_own_repeat(open_client, replacing):
    with open_client(auth_for(replacing)) as client:
        for _ in range(3):
            replacing.expire_tokens()
            assert called(client.post(replacing.url + TR))
    assert replacing.issued == 3


@every_client
def test_a_token_that_another_caller_has_replaced_already_is_not_issued_again(open_client, replacing):
    auth = auth_for(replacing)
    auth.get_token()
    with replacing.hold(TR) as gate, open_client(auth) as one, open_client(auth) as other:
        answers = []
        callers = [
            threading.Thread(target=lambda client=client: answers.append(client.post(replacing.url + TR)))
            for client in (one, other)
        ]
        for caller in callers:
            caller.start()
        gate.wait_for(2)
        replacing.expire_tokens()
        gate.release()
        for caller in callers:
            caller.join()
    assert all(map(called, answers))
    assert replacing.issued == 2


# Prepared requests


def test_a_prepared_request_is_repeated_each_time_it_is_sent(replacing):
    prepared = requests.Request("POST", replacing.url + TR, HEADERS, data=BODY, auth=auth_for(replacing)).prepare()
    with requests.Session() as session:
        for _ in range(3):
            replacing.expire_tokens()
            assert called(session.send(prepared))
            assert prepared.headers["Authorization"] == f"Bearer {replacing.token}"
    assert [call.code for call in replacing.calls("ka10001")] == [8005, None] * 3
    assert replacing.issued == 4


def test_a_prepared_request_that_is_authenticated_again_is_repeated_once(replacing):
    auth = auth_for(replacing)
    prepared = requests.Request("POST", replacing.url + TR, HEADERS, data=BODY, auth=auth).prepare()
    for _ in range(3):
        auth(prepared)
    replacing.refuse_next(9)
    with requests.Session() as session:
        response = session.send(prepared)
    assert response.content == recorded.INVALID_TOKEN.body
    assert len(replacing.calls("ka10001")) == 2


def test_a_header_that_was_replaced_by_hand_costs_no_token(replacing):
    auth = auth_for(replacing)
    token = auth.get_token()
    prepared = requests.Request("POST", replacing.url + TR, HEADERS, data=iter([BODY]), auth=auth).prepare()
    prepared.headers["Authorization"] = "Basic bWU6cGFzcw=="
    with requests.Session() as session:
        assert session.send(prepared).json()["return_code"] == 2
    assert auth.get_token() == token
    assert len(replacing.calls("ka10001")) == 1


@every_module
def test_a_hook_of_httpx_that_lets_refusals_pass_may_raise_at_all_else(replacing, module):
    """It is called before the auth: if it raises at a refusal, nobody replaces the token."""
    seen = []

    def check(answer):
        answer.read()
        if answer.status_code == 401 or "[8005:" in answer.text:
            return
        seen.append(answer.json()["return_code"])
        if seen[-1] != 0:
            raise ValueError(seen[-1])

    with module.Client(auth=auth_for(replacing), event_hooks={"response": [check]}, verify=False) as client:
        for refuse in (replacing.refuse_next, lambda: replacing.script(TR, recorded.UNAUTHORIZED)):
            refuse()
            assert called(client.post(replacing.url + TR, content=BODY, headers=HEADERS))
        replacing.script(TR, recorded.BUSINESS_ERROR)
        with pytest.raises(ValueError):  # noqa: PT011 - the hook's
            client.post(replacing.url + TR, content=BODY, headers=HEADERS)
    assert seen[:2] == [0, 0]
    assert len(seen) == 3


@pytest.mark.anyio
@every_module
async def test_an_auth_that_hands_over_to_the_synchronous_flow_under_an_async_client_gets_its_answers(
    replacing, module, anyio_backend_name
):
    """Though no 8005 can be read there, and nothing but a 401 be repeated: a TypeError would come after the order."""
    auth = auth_for(replacing)

    class Tagged(module.Auth):
        def auth_flow(self, request):
            yield from auth.auth_flow(request)

    async with module.AsyncClient(auth=Tagged(), verify=False) as client:
        assert called(await client.post(replacing.url + TR, content=BODY, headers=HEADERS))
        replacing.script(TR, recorded.INVALID_TOKEN, recorded.UNAUTHORIZED)
        assert not called(await client.post(replacing.url + TR, content=BODY, headers=HEADERS))
        assert called(await client.post(replacing.url + TR, content=BODY, headers=HEADERS))
    assert replacing.issued == 2


def test_hooks_of_the_user_see_the_answer_that_counts(replacing):
    seen = []
    with requests.Session() as session:
        session.auth = auth_for(replacing)
        session.hooks["response"].append(lambda response, **_: seen.append(response.json()["return_code"]))
        replacing.refuse_next()
        session.post(replacing.url + TR, data=BODY, headers=HEADERS)
    assert seen == [0]


# One connection

every_body = pytest.mark.parametrize(
    "name", ["8005", "401", "401 with JSON", "401 with a page", "401 with a long page"]
)


@every_client
@every_body
def test_a_pool_of_one_connection_is_enough(open_client, replacing, name):
    replacing.refuse_next(answer=REFUSALS[name])
    with open_client(auth_for(replacing), connections=1) as client:
        assert called(in_time(lambda: client.post(replacing.url + TR)))


@pytest.mark.parametrize("streamed", [False, True])
@every_body
def test_a_session_with_one_connection_can_issue_for_itself(replacing, name, streamed):
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True))
        session.auth = auth_for(replacing, client=session, timeout=5)
        replacing.refuse_next(answer=REFUSALS[name])
        response = in_time(lambda: session.post(replacing.url + TR, data=BODY, headers=HEADERS, stream=streamed))
        assert called(response)


@every_body
@every_module
def test_a_client_with_one_connection_can_issue_for_itself(replacing, module, name):
    with module.Client(limits=module.Limits(max_connections=1)) as client:
        client.auth = auth_for(replacing, client=client, timeout=5)
        replacing.refuse_next(answer=REFUSALS[name])
        response = in_time(lambda: client.post(replacing.url + TR, content=BODY, headers=HEADERS))
        assert called(response)
