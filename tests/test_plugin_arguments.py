"""The arguments: checked where the object is made, and named, never shown."""

import functools
import inspect
import math
from decimal import Decimal
from types import MappingProxyType

import cachetools
import httpx
import pytest
import requests

from kiwoom_auth_plugin import MOCK_HOST, REAL_HOST, KiwoomBearerAuth

from .clients import every_module
from .leaks import shown_by

APPKEY = "App-key_0123456789~!"
SECRETKEY = "Secret-key_0123456789~!"
MARK = "shown-0123456789"


def make(**options):
    return KiwoomBearerAuth(APPKEY, SECRETKEY, **options)


def refused(kind, argument, **options):
    with pytest.raises(kind, match=rf"^{argument} ") as raised:
        make(**options)
    assert MARK not in f"{raised.value}{raised.value!r}{raised.value.args}"
    shown = shown_by(raised.value)
    assert SECRETKEY not in shown
    assert argument != "host" or MARK not in shown  # it may hold a password


def test_the_signature_is_the_documented_one():
    parameters = inspect.signature(KiwoomBearerAuth).parameters
    assert list(parameters) == [
        "appkey", "secretkey", "host", "cache", "store", "client", "timeout", "refresh_margin", "on_event",
    ]  # fmt: skip
    assert {name: item.default for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY} == {
        "host": REAL_HOST, "cache": None, "store": None, "client": None, "timeout": 10.0, "refresh_margin": 300.0,
        "on_event": None,
    }  # fmt: skip


def test_a_listener_must_be_callable():
    refused(TypeError, "on_event", on_event=MARK)


async def coroutine(_event): ...


def test_a_listener_is_any_ordinary_callable():
    for listener in (print, [].append, lambda _event: None, functools.partial(print, "event")):
        make(on_event=listener)


class Awaited:
    async def __call__(self, _event): ...


@pytest.mark.parametrize("listener", [coroutine, functools.partial(coroutine), Awaited(), Awaited().__call__])
def test_a_listener_that_would_have_to_be_awaited_is_none(listener):
    refused(TypeError, "on_event", on_event=listener)


@pytest.mark.parametrize("host", [REAL_HOST, MOCK_HOST, "mockapi.kiwoom.com", "http://127.0.0.1:8080/", "http://[::1]"])
def test_hosts_are_accepted(host):
    assert "host='http" in repr(make(host=host))


@pytest.mark.parametrize(
    "host",
    [
        "", f"https://me:{MARK}@api.kiwoom.com", f"https://api.kiwoom.com/{MARK}", f"https://api.kiwoom.com?{MARK}",
        f"https://api.kiwoom.com#{MARK}", f"http://{MARK}.kiwoom.com", f"ftp://{MARK}", f"{MARK}:443",
        f"https://{MARK}:99999", f"https://{MARK}:0",
    ],
)  # fmt: skip
def test_a_host_that_is_no_safe_origin_is_refused(host):
    refused(ValueError, "host", host=host)


@pytest.mark.parametrize("host", [None, 443, MARK.encode(), [MARK]])
def test_a_host_of_another_type_is_refused(host):
    refused(TypeError, "host", host=host)


@pytest.mark.parametrize("name", ["timeout", "refresh_margin"])
@pytest.mark.parametrize(
    "seconds", [-1, -0.001, math.inf, -math.inf, math.nan, 10**400], ids=lambda seconds: f"{seconds!r:.6}"
)
def test_seconds_that_are_negative_or_not_finite_are_refused(name, seconds):
    refused(ValueError, name, **{name: seconds})


@pytest.mark.parametrize("name", ["timeout", "refresh_margin"])
@pytest.mark.parametrize("seconds", [None, "10", MARK, True, Decimal(10), (1, 2), httpx.Timeout(1)])
def test_seconds_of_another_type_are_refused(name, seconds):
    refused(TypeError, name, **{name: seconds})


@pytest.mark.parametrize("seconds", [0, 0.0, -0.0])
def test_a_timeout_of_nothing_is_refused_and_a_margin_of_nothing_is_not(seconds):
    refused(ValueError, "timeout", timeout=seconds)
    make(refresh_margin=seconds)


@pytest.mark.parametrize(
    "options", [{"timeout": 1}, {"timeout": 0.001}, {"timeout": 3600.0}, {"refresh_margin": 1e6}, {"timeout": 86_400}]
)
def test_other_numbers_of_seconds_are_accepted(options):
    make(**options)


@pytest.mark.parametrize("timeout", [1e7, 1e10, 1e300])
def test_a_timeout_longer_than_the_machine_can_wait_works_or_is_refused(timeout, make_auth):
    try:
        auth = make_auth(timeout=timeout)
    except ValueError as error:
        told = str(error)
        assert told.startswith("timeout ")
    else:
        assert auth.get_token()


@pytest.mark.parametrize(
    "cache", [{}, cachetools.LRUCache(1), cachetools.TTLCache(1, 1), cachetools.Cache(0), cachetools.FIFOCache(9)]
)
def test_any_mutable_mapping_is_a_cache(cache):
    make(cache=cache)


@pytest.mark.parametrize(
    "cache", [MARK, 5, (MARK,), [MARK], bytearray(5), dict, frozenset({MARK}), MappingProxyType({})], ids=str
)
def test_what_is_no_mutable_mapping_is_no_cache(cache):
    refused(TypeError, "cache", cache=cache)


@pytest.mark.parametrize("store", [MARK, {}, object()])
def test_there_are_no_stores_yet(store):
    refused(TypeError, "store", store=store)


@every_module
def test_sessions_and_synchronous_clients_are_clients(module):
    make(client=requests.Session())
    with module.Client() as client:
        make(client=client)


@pytest.mark.anyio
@every_module
async def test_an_asynchronous_client_is_refused(module):
    async with module.AsyncClient() as client:
        refused(TypeError, "client", client=client)


@pytest.mark.parametrize("client", [MARK, requests, httpx, requests.Session, httpx.HTTPTransport(), object()])
def test_other_clients_are_refused(client):
    refused(TypeError, "client", client=client)


@pytest.mark.parametrize("client", [requests, httpx])
def test_unknown_arguments_and_positional_options_are_refused(client):
    with pytest.raises(TypeError):
        make(tiemout=1)
    with pytest.raises(TypeError):
        KiwoomBearerAuth(APPKEY, SECRETKEY, REAL_HOST)
