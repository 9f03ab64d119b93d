"""Copies and pickles of auth objects, and of the requests and answers that have met one."""

import copy
import os
import pickle

import cachetools
import pytest
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth

from .clients import BODY, HEADERS, TR, called, every_client


@pytest.mark.parametrize("again", [lambda auth: pickle.loads(pickle.dumps(auth)), copy.copy, copy.deepcopy])
def test_copies_share_the_token(kiwoom_emulator, make_auth, again):
    auth = make_auth(timeout=7, refresh_margin=0)
    token = auth.get_token()
    other = again(auth)
    assert other is not auth
    assert type(other) is KiwoomBearerAuth
    assert other.get_token() == token
    assert repr(other) == repr(auth)
    assert kiwoom_emulator.issued == 1
    assert (other._timeout, other._refresh_margin) == (7, 0)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_copies_share_cache_and_client(make_auth, again):
    cache = cachetools.LRUCache(4)
    with requests.Session() as client:
        auth = make_auth(cache=cache, client=client)
        token = auth.get_token()
        cache.clear()
        assert again(auth).get_token() == token
        assert again(auth)._client is client


def secret_of_the_environment():
    return os.environ["SECRET_OF_THE_TEST"]


def test_a_vault_is_pickled_as_a_vault(kiwoom_emulator, make_auth, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TEST", kiwoom_emulator.secretkey)
    pickled = pickle.dumps(make_auth(secretkey=os.getcwd))
    assert kiwoom_emulator.secretkey.encode() not in pickled
    assert repr(pickle.loads(pickled)) == repr(make_auth())
    assert copy.deepcopy(make_auth(secretkey=secret_of_the_environment)).get_token() == kiwoom_emulator.token


def test_a_subclass_stays_one(make_auth, kiwoom_emulator):
    class Mine(KiwoomBearerAuth):
        pass

    auth = Mine(kiwoom_emulator.appkey, kiwoom_emulator.secretkey, host=kiwoom_emulator.url)
    assert type(copy.copy(auth)) is Mine
    assert repr(auth).startswith("Mine(")


@every_client
def test_answers_can_be_pickled_and_hold_no_secretkey(open_client, kiwoom_emulator, auth):
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR)
        kiwoom_emulator.expire_tokens()
        response = client.post(kiwoom_emulator.url + TR)
    assert len(response.history) == 1
    for thing in (response, response.request, *response.history):
        pickled = pickle.dumps(thing)
        assert kiwoom_emulator.secretkey.encode() not in pickled
        assert pickle.loads(pickled).headers == thing.headers


def test_a_pickled_prepared_request_can_still_be_sent(kiwoom_emulator, auth):
    prepared = requests.Request("POST", kiwoom_emulator.url + TR, HEADERS, data=BODY, auth=auth).prepare()
    pickled = pickle.dumps(prepared)
    assert kiwoom_emulator.secretkey.encode() not in pickled
    with requests.Session() as session:
        assert called(session.send(pickle.loads(pickled)))


@pytest.mark.parametrize("again", [requests.PreparedRequest.copy, copy.copy, copy.deepcopy])
def test_a_copied_prepared_request_is_repeated_as_the_first(again, kiwoom_emulator, auth):
    prepared = requests.Request("POST", kiwoom_emulator.url + TR, HEADERS, data=BODY, auth=auth).prepare()
    other = again(prepared)
    kiwoom_emulator.expire_tokens()
    with requests.Session() as session:
        assert called(session.send(other))
    assert [call.code for call in kiwoom_emulator.calls("ka10001")] == [8005, None]


def test_a_hook_can_be_copied_by_itself(kiwoom_emulator, auth):
    prepared = requests.Request("POST", kiwoom_emulator.url + TR, HEADERS, data=BODY, auth=auth).prepare()
    prepared.hooks = {event: [copy.copy(hook) for hook in hooks] for event, hooks in prepared.hooks.items()}
    kiwoom_emulator.expire_tokens()
    with requests.Session() as session:
        assert called(session.send(prepared))
