"""What the plugin is for: calls authenticate themselves, with one token, issued once."""

import inspect
import logging

import httpx
import pytest
import requests
from requests.auth import AuthBase

from kiwoom_auth_plugin import CredentialsRejected, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, called, every_client, every_module
from .leaks import shown_by


@every_module
def test_it_is_an_auth_object_of_each_library(auth, module):
    assert isinstance(auth, AuthBase)
    assert isinstance(auth, module.Auth)


def test_making_one_calls_nobody(auth, kiwoom_emulator):
    assert auth.expires_at is None
    assert repr(auth)
    assert not kiwoom_emulator.journal


@every_client
def test_the_first_call_issues_and_the_others_use_the_token(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        for _ in range(3):
            assert called(client.post(kiwoom_emulator.url + TR))
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001", "ka10001", "ka10001", "ka10001"]
    assert not any(call.violations for call in kiwoom_emulator.journal)


@every_client
def test_au10001_is_sent_as_specified_and_with_nothing_else(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR)
    call = kiwoom_emulator.calls("au10001")[0]
    assert (call.method, call.path, call.query) == ("POST", "/oauth2/token", "")
    assert call.headers["content-type"] == "application/json;charset=UTF-8"
    assert not {"authorization", "cookie", "api-id"} & set(call.headers)
    assert call.json() == {
        "grant_type": "client_credentials",
        "appkey": kiwoom_emulator.appkey,
        "secretkey": kiwoom_emulator.secretkey,
    }


@every_client
def test_auth_can_be_given_to_one_call(open_client, kiwoom_emulator, auth):
    with open_client() as client:
        assert called(client.post(kiwoom_emulator.url + TR, auth=auth))
        assert client.post(kiwoom_emulator.url + TR).json()["return_code"] != 0
    assert kiwoom_emulator.issued == 1


@every_client
def test_an_authorization_header_set_by_hand_is_replaced(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + TR, headers=HEADERS | {"authorization": "Bearer of-yesterday"})
    assert called(response)
    assert len(kiwoom_emulator.calls("ka10001")) == 1


def test_the_specifications_sample_call_needs_one_argument_more(kiwoom_emulator, auth):
    host = kiwoom_emulator.url
    endpoint = "/api/dostk/stkinfo"
    url = host + endpoint
    params = {"stk_cd": "005930"}
    headers = {
        "Content-Type": "application/json;charset=UTF-8",
        "cont-yn": "N",
        "next-key": "",
        "api-id": "ka10001",
    }
    response = requests.post(url, headers=headers, json=params, auth=auth)
    assert response.status_code == 200
    assert response.headers["api-id"] == "ka10001"
    assert response.json()["stk_cd"] == "005930"


def test_one_made_for_each_call_issues_once(kiwoom_emulator, make_auth):
    for _ in range(5):
        assert called(requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=make_auth()))
    assert kiwoom_emulator.issued == 1


@every_client
def test_an_issue_that_fails_is_raised_to_the_caller(open_client, kiwoom_emulator, make_auth):
    auth = make_auth(secretkey="of-another-pair-0123456789")
    with open_client(auth) as client, pytest.raises(CredentialsRejected) as raised:
        client.post(kiwoom_emulator.url + TR)
    assert raised.value.code == 8001
    assert raised.value.host == kiwoom_emulator.url
    assert not kiwoom_emulator.calls("ka10001")


@every_client
def test_nothing_secret_is_logged(open_client, kiwoom_emulator, make_auth, clock, caplog):
    caplog.set_level(logging.DEBUG)
    auth = make_auth(clock=clock)
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR)
        token = auth.get_token()
        kiwoom_emulator.refuse_next()
        client.post(kiwoom_emulator.url + TR)
        assert "handed back the token" in caplog.text
        auth.revoke()
        kiwoom_emulator.script("/oauth2/token", recorded.ISSUE_FAILED, recorded.BAD_KEY_PAIR)
        with pytest.raises(CredentialsRejected) as raised:
            client.post(kiwoom_emulator.url + TR)
    told = f"{caplog.text}{shown_by(raised.value)}"
    assert kiwoom_emulator.secretkey not in told
    assert token not in told


# What it looks like


def test_repr_tells_class_host_and_the_beginning_of_the_appkey(kiwoom_emulator, auth):
    auth.get_token()
    assert repr(auth) == f"KiwoomBearerAuth(appkey='EMUL…', host='{kiwoom_emulator.url}')"
    assert str(auth) == repr(auth)


@pytest.mark.parametrize(("appkey", "shown"), [("abcdefghijk", "…"), ("abcdefghijkl", "abcd…"), ("x", "…")])
def test_a_short_appkey_is_not_shown_at_all(appkey, shown):
    assert f"appkey='{shown}'" in repr(KiwoomBearerAuth(appkey, "secretkey"))


@every_module
def test_a_flow_can_be_driven_by_hand(kiwoom_emulator, auth, module):
    request = module.Request("POST", kiwoom_emulator.url + TR)
    for flow in (auth.auth_flow(request), auth.sync_auth_flow(request)):
        assert inspect.isgenerator(flow)
        assert next(flow).headers["Authorization"] == f"Bearer {kiwoom_emulator.token}"
        with pytest.raises(StopIteration):
            flow.send(module.Response(200, json={"return_code": 0}))


@pytest.mark.anyio
@every_module
async def test_an_asynchronous_flow_can_be_driven_by_hand(kiwoom_emulator, auth, module):
    flow = auth.async_auth_flow(module.Request("POST", kiwoom_emulator.url + TR))
    request = await anext(flow)
    assert request.headers["Authorization"] == f"Bearer {kiwoom_emulator.token}"
    kiwoom_emulator.expire_tokens()
    again = await flow.asend(module.Response(401))
    assert again.headers["Authorization"] == f"Bearer {kiwoom_emulator.token}"
    with pytest.raises(StopAsyncIteration):
        await flow.asend(module.Response(200, json={"return_code": 0}))
    assert kiwoom_emulator.issued == 2


def test_an_answer_of_the_server_in_the_specifications_own_form_will_do():
    with KiwoomEmulator(expires_format="dashed", send_return_code=False) as kiwoom:
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        assert called(httpx.post(kiwoom.url + TR, content=BODY, headers=HEADERS, auth=auth))


def test_a_body_that_the_server_cuts_off_is_no_token_and_is_asked_for_again(kiwoom_emulator, make_auth, clock):
    kiwoom_emulator.script("/oauth2/token", Answer.as_usual(cut="body"), Answer(503))
    assert make_auth(clock=clock).get_token() == kiwoom_emulator.token
    assert len(kiwoom_emulator.calls("au10001")) == 3
