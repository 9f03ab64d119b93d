"""The right place only: which calls get the token, which are refused, which are left alone."""

import pickle
from contextlib import aclosing

import httpx
import pytest
import requests

from kiwoom_auth_plugin import MOCK_HOST, REAL_HOST, HostMismatch, KiwoomBearerAuth, _sources, _token
from kiwoom_auth_plugin._recent import Recent
from kiwoom_auth_plugin._token import AccessToken
from kiwoom_auth_plugin.testing import KiwoomEmulator

from .clients import BODY, HEADERS, TR, called, every_client, every_module

WRONG = [
    (REAL_HOST, "https://mockapi.kiwoom.com"),
    (MOCK_HOST, "https://api.kiwoom.com"),
    (REAL_HOST, "http://api.kiwoom.com"),
    (REAL_HOST, "http://api.kiwoom.com:443"),
    (REAL_HOST, "https://api.kiwoom.com:8443"),
    (REAL_HOST, "https://api.kiwoom.com:10000"),
    (REAL_HOST, "https://api.kiwoom.com."),
    (MOCK_HOST, "https://MOCKAPI.KIWOOM.COM."),
    (REAL_HOST, "HTTPS://MockAPI.Kiwoom.Com"),
    (REAL_HOST, "https://me:pass@mockapi.kiwoom.com"),
    ("https://api.kiwoom.com:8443", "https://api.kiwoom.com"),
    ("http://127.0.0.1:8080", "https://api.kiwoom.com"),
    ("http://127.0.0.1:8080", "http://mockapi.kiwoom.com"),
]


@every_client
@pytest.mark.parametrize(("host", "called"), WRONG)
def test_a_call_to_another_origin_of_kiwooms_names_is_refused(open_client, host, called):
    auth = KiwoomBearerAuth("appkey-0123456789", "secretkey-0123456789", host=host)
    with open_client(auth) as client, pytest.raises(HostMismatch) as raised:
        client.post(called + TR)
    error = raised.value
    assert error.host == host
    assert (error.code, error.status_code, error.retryable) == (None, None, False)
    assert host in str(error)
    assert str(error).endswith("make another auth object with that as host= and the key pair of that environment.")
    assert "pass" not in str(error)
    assert "secretkey-0123456789" not in f"{error!r}"


@every_client
def test_a_call_to_any_other_host_is_left_alone(open_client, kiwoom_emulator, auth):
    with KiwoomEmulator() as elsewhere, open_client(auth) as client:
        response = client.post(elsewhere.url + TR, headers=HEADERS | {"authorization": "Bearer of-its-own"})
        assert response.json()["return_code"] == 3
        client.post(elsewhere.url + TR)
        own, none = elsewhere.journal
    assert own.headers["authorization"] == "Bearer of-its-own"
    assert "authorization" not in none.headers
    assert not kiwoom_emulator.journal


@every_client
def test_what_stands_before_the_host_is_no_other_origin(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        answer = client.post(kiwoom_emulator.url.replace("://", "://me:pass@") + TR, headers=HEADERS)
    assert answer.status_code == 200
    assert kiwoom_emulator.journal[-1].headers["authorization"] == f"Bearer {kiwoom_emulator.token}"


@every_client
def test_the_same_host_by_another_name_is_another_host(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        client.post(f"http://localhost:{kiwoom_emulator.port}{TR}")
    (call,) = kiwoom_emulator.journal
    assert "authorization" not in call.headers


@every_client
def test_scheme_and_host_are_compared_without_case(open_client, kiwoom_emulator, make_auth):
    auth = make_auth(host=f"http://LocalHost:{kiwoom_emulator.port}/")
    with open_client(auth) as client:
        assert called(client.post(f"HTTP://LOCALHOST:{kiwoom_emulator.port}{TR}"))


@every_client
def test_an_ipv6_host_will_do(open_client):
    with KiwoomEmulator(host="::1") as kiwoom:
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url)
        with open_client(auth) as client:
            assert called(client.post(kiwoom.url + TR))


@pytest.mark.parametrize("url", ["wss://api.kiwoom.com:10000/api/dostk/websocket", "ws://mockapi.kiwoom.com/"])
def test_a_websocket_of_requests_is_left_alone(url):
    prepared = requests.Request("GET", url).prepare()
    assert KiwoomBearerAuth("appkey", "secretkey")(prepared) is prepared
    assert "Authorization" not in prepared.headers
    assert not prepared.hooks["response"]


@every_module
@pytest.mark.parametrize("url", ["wss://api.kiwoom.com:10000/api/dostk/websocket", "ws://mockapi.kiwoom.com/"])
def test_a_websocket_of_httpx_is_left_alone(module, url):
    flow = KiwoomBearerAuth("appkey", "secretkey").sync_auth_flow(module.Request("GET", url))
    assert "Authorization" not in next(flow).headers
    with pytest.raises(StopIteration):
        flow.send(module.Response(401))


@pytest.mark.anyio
@every_module
async def test_a_websocket_of_an_asynchronous_client_is_left_alone(module):
    request = module.Request("GET", "wss://api.kiwoom.com:10000/api/dostk/websocket")
    flow = KiwoomBearerAuth("appkey", "secretkey").async_auth_flow(request)
    assert "Authorization" not in (await anext(flow)).headers
    with pytest.raises(StopAsyncIteration):
        await flow.asend(module.Response(401))


def test_a_request_without_a_url_is_left_alone():
    prepared = requests.PreparedRequest()
    prepared.prepare_headers({})
    assert KiwoomBearerAuth("appkey", "secretkey")(prepared) is prepared
    assert not prepared.headers


def test_other_paths_of_the_host_are_covered(kiwoom_emulator, auth):
    requests.get(kiwoom_emulator.url, auth=auth)
    requests.get(f"{kiwoom_emulator.url}?a=b", auth=auth)
    requests.post(f"{kiwoom_emulator.url}/api/other", BODY, auth=auth)
    assert {call.token for call in kiwoom_emulator.journal[1:]} == {kiwoom_emulator.token}


@every_module
def test_a_request_that_was_signed_and_then_sent_elsewhere_loses_the_token(auth, module):
    request = module.Request("POST", auth.host + TR)
    next(auth.sync_auth_flow(request))
    assert request.headers["Authorization"] == f"Bearer {auth.get_token()}"
    request.url = module.URL("https://example.com/")
    (sent,) = auth.sync_auth_flow(request)
    assert "Authorization" not in sent.headers
    sent.headers["Authorization"] = "Basic abc"
    (again,) = auth.sync_auth_flow(sent)
    assert again.headers["Authorization"] == "Basic abc"


def another_token(auth):
    auth.invalidate(auth.get_token())
    return auth


def another_account(_auth):
    return KiwoomBearerAuth("another-appkey", "another-secretkey", host="https://mockapi.kiwoom.com", cache={})


@pytest.mark.parametrize("later", [another_token, another_account])
@pytest.mark.parametrize("module", [requests, httpx])
def test_it_loses_one_that_is_not_the_present_one_too(auth, module, later):
    if module is requests:
        signed = auth(requests.Request("POST", auth.host + TR).prepare())
        signed.url = "https://example.com/"
        sent = later(auth)(signed)
    else:
        signed = module.Request("POST", auth.host + TR)
        next(auth.sync_auth_flow(signed))
        signed.url = module.URL("https://example.com/")
        (sent,) = later(auth).sync_auth_flow(signed)
    assert "Authorization" not in sent.headers


class Pickling(dict):
    """As a cache on a disk."""

    def get(self, key, default=None):
        return pickle.loads(super().get(key)) if key in self else default

    def __setitem__(self, key, token):
        super().__setitem__(key, pickle.dumps(token))


@pytest.mark.parametrize("later", [lambda auth: auth, another_token])
def test_it_loses_one_that_another_process_has_left_in_the_cache(make_auth, monkeypatch, later):
    cache = Pickling()
    make_auth(cache=cache).get_token()
    monkeypatch.setattr(_token, "_ours", Recent(256))
    monkeypatch.setattr(_sources, "_sources", {})
    auth = make_auth(cache=cache)
    signed = auth(requests.Request("POST", auth.host + TR).prepare())
    signed.url = "https://example.com/"
    assert "Authorization" not in later(auth)(signed).headers


@every_client
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer {} ", "Bearer\t{}", "{}"])
@pytest.mark.parametrize("kind", [str, str.encode])
def test_it_loses_one_that_is_written_in_another_way(open_client, auth, form, kind):
    with KiwoomEmulator() as elsewhere, open_client(auth) as client:
        client.post(elsewhere.url + TR, headers={"Authorization": kind(form.format(auth.get_token()))})
        (call,) = elsewhere.journal
    assert "authorization" not in call.headers


def test_a_token_that_is_seen_again_is_remembered_for_longer(auth, monkeypatch):
    monkeypatch.setattr(_token, "_ours", Recent(2))
    prepared = requests.Request(
        "POST", "https://example.com/", headers={"Authorization": "Bearer seen-twice"}
    ).prepare()
    for value in ("seen-twice", "seen-once", "seen-twice", "another"):
        AccessToken(value, 0.0, 0.0, b"", 0.0)
    assert "Authorization" not in auth(prepared).headers


def test_it_loses_the_present_one_however_many_there_were(auth, monkeypatch):
    monkeypatch.setattr(_token, "_ours", Recent(2))
    signed = auth(requests.Request("POST", auth.host + TR).prepare())
    signed.url = "https://example.com/"
    for number in range(3):
        AccessToken(f"another-{number}", 0.0, 0.0, b"", 0.0)
    assert len(_token._ours) == 2
    assert "Authorization" not in auth(signed).headers


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer of-somebody-else", "Bearer \ud800", "Basic abc"])
def test_it_keeps_what_is_no_token_of_ours(auth, header):
    auth.get_token()
    prepared = requests.Request("POST", "https://example.com/").prepare()
    prepared.headers["Authorization"] = header
    assert auth(prepared).headers["Authorization"] == header


@pytest.mark.anyio
async def test_nor_does_it_take_it_along_under_asyncio_or_trio(auth):
    request = httpx.Request("POST", auth.host + TR)
    async with aclosing(auth.async_auth_flow(request)) as flow:
        await anext(flow)
    request.url = httpx.URL("https://example.com/")
    async with aclosing(auth.async_auth_flow(request)) as flow:
        assert "Authorization" not in (await anext(flow)).headers


def test_a_prepared_request_that_was_signed_and_then_sent_elsewhere_loses_the_token(auth):
    prepared = auth(requests.Request("POST", auth.host + TR).prepare())
    assert prepared.headers["Authorization"] == f"Bearer {auth.get_token()}"
    prepared.url = "https://example.com/"
    assert "Authorization" not in auth(prepared).headers
