"""A call from within its own AU10001 raises a clear error instead of hanging."""

import asyncio
import logging

import httpx
import httpx2
import pytest
import requests

from kiwoom_auth_plugin import KiwoomAuthError
from kiwoom_auth_plugin.testing import Answer

from .clients import BODY, CERTIFICATES, HEADERS, TR, in_time
from .crowd import PATIENCE, Crowd, land, run_python, watch_waiting
from .shelf import Shelf, needs_stores
from .traps import session_with


def reentering(make_auth, emulator, kind):
    """An auth object whose own AU10001 uses it."""
    auths = []

    def call(*_args, **_options):
        return auths[0].get_token()

    client = None
    secretkey = emulator.secretkey
    if kind == "requests adapter":
        client = session_with(call)
    elif kind == "requests adapter that calls":
        client = session_with(lambda: requests.post(emulator.url + TR, auth=auths[0], timeout=PATIENCE))
    elif kind == "httpx hook":
        client = httpx.Client(event_hooks={"request": [call]}, verify=CERTIFICATES)
    elif kind == "httpx2 hook":
        client = httpx2.Client(event_hooks={"response": [call]}, verify=CERTIFICATES)
    elif kind == "asyncio in a hook":
        client = httpx.Client(event_hooks={"request": [lambda _request: asyncio.run(auths[0].aget_token())]})
    elif kind == "secretkey":
        secretkey = call
    auths.append(make_auth(client=client, secretkey=secretkey, cache={}))
    return auths[0]


KINDS = [
    "requests adapter",
    "requests adapter that calls",
    "httpx hook",
    "httpx2 hook",
    "asyncio in a hook",
    "secretkey",
]


def says_so(error):
    words = (
        "a call with this auth object was made from within its own AU10001 call: the hooks and transports of client=, "
        "a secretkey callable and on_event must not use the same object"
    )
    return str(error) == f"{error.host}: {words}" or (error.__cause__ and says_so(error.__cause__))


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_from_within_its_own_exchange_raises_a_clear_error(make_auth, kiwoom_emulator, kind):
    auth = reentering(make_auth, kiwoom_emulator, kind)
    with pytest.raises(KiwoomAuthError) as caught:
        in_time(auth.get_token)
    assert says_so(caught.value)
    assert not caught.value.retryable
    assert len(kiwoom_emulator.calls("au10001")) <= 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_from_within_its_own_asynchronous_exchange_does(make_auth, kiwoom_emulator, kind):
    auth = reentering(make_auth, kiwoom_emulator, kind)
    with pytest.raises(KiwoomAuthError) as caught:
        await auth.aget_token()
    assert says_so(caught.value)


REENTRANT_CACHE = """
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator

class Nosy(dict):
    def get(self, key, default=None):
        try:
            auth.get_token()
        except Exception as error:
            print(type(error).__name__)
        return super().get(key, default)

with KiwoomEmulator() as kiwoom:
    auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache=Nosy())
    print(auth.get_token() == kiwoom.token)
"""


def test_a_cache_that_uses_the_auth_object_does_not_hang_it():
    done = run_python(REENTRANT_CACHE)
    assert done.stdout.split() == ["KiwoomAuthError", "True"], done.stderr


class Nosy(logging.Handler):
    """A log handler that uses the auth object: it sends mail by way of an authenticated call, say."""

    def __init__(self, auth):
        super().__init__()
        self._auth = auth
        self.met = []

    def emit(self, _record):
        self.met.append(self._auth.get_token())


def test_a_log_handler_may_use_the_auth_object(auth, kiwoom_emulator):
    handler = Nosy(auth)
    logger = logging.getLogger("kiwoom_auth_plugin")
    logger.addHandler(handler)
    try:
        auth.get_token()
        kiwoom_emulator.refuse_next(2)
        in_time(lambda: requests.post(auth._host + TR, data=BODY, headers=HEADERS, auth=auth, timeout=PATIENCE))
        assert in_time(auth.get_token) == kiwoom_emulator.token
    finally:
        logger.removeHandler(handler)
    assert handler.met == [kiwoom_emulator.token]


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_listener_that_uses_another_object_for_the_appkey_harms_nobody_else(make_auth, kiwoom_emulator, ask):
    """Its own secretkey callable makes it another source, which has to wait for its turn: for itself, whichever way."""
    other = make_auth(secretkey=lambda: kiwoom_emulator.secretkey)
    refused = []

    def listener(event):
        if event.name == "attempt.failed":
            with pytest.raises(KiwoomAuthError, match="from within its own AU10001") as caught:
                other.get_token() if ask == "get_token" else asyncio.run(other.aget_token())
            refused.append(caught.value)

    kiwoom_emulator.script("/oauth2/token", Answer.html("<html>oops</html>", 500))
    assert make_auth(on_event=listener).get_token() == kiwoom_emulator.token
    assert len(refused) == 1
    assert other.get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


def test_a_call_that_would_join_who_waits_for_its_own_thread_is_refused(make_auth, kiwoom_emulator, monkeypatch):
    """An innocent of the other object is already under way, and waits for its turn: for the listener's thread."""
    wait_for_waiting = watch_waiting(monkeypatch)
    other = make_auth(secretkey=lambda: kiwoom_emulator.secretkey)
    crowd, refused = Crowd(), []
    crowd.threads(1, other.get_token)

    def listener(event):
        if event.name == "attempt.failed":
            crowd.go()
            wait_for_waiting(1)
            with pytest.raises(KiwoomAuthError, match="from within its own AU10001") as caught:
                other.get_token()
            refused.append(caught.value)

    kiwoom_emulator.script("/oauth2/token", Answer.html("<html>oops</html>", 500))
    assert make_auth(on_event=listener).get_token() == kiwoom_emulator.token
    assert crowd.outcomes() == [kiwoom_emulator.token]
    assert len(refused) == kiwoom_emulator.issued == 1


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_call_from_within_another_objects_refresh_gets_the_token_that_is_there(
    make_auth, kiwoom_emulator, clock, ask
):
    cache, got = {}, []
    other = make_auth(cache=cache, clock=clock, secretkey=lambda: kiwoom_emulator.secretkey)

    def listener(event):
        if event.name == "attempt.failed":
            got.append(other.get_token() if ask == "get_token" else asyncio.run(other.aget_token()))

    auth = make_auth(cache=cache, clock=clock, on_event=listener, refresh_margin=24 * 3600.0)
    token = auth.get_token()
    clock.advance(12 * 3600 + 1)
    kiwoom_emulator.script("/oauth2/token", Answer.html("<html>oops</html>", 500))
    assert auth.get_token() == token  # begins the refresh
    land()
    assert got == [token]
    assert kiwoom_emulator.issued == 2


@pytest.mark.parametrize("ask", ["revoke", "arevoke"])
@pytest.mark.parametrize(
    ("which", "store"),
    [
        ("the same object", None),
        pytest.param("the same object", Shelf, marks=needs_stores),
        pytest.param("another object", Shelf, marks=needs_stores),
    ],
)
def test_a_revocation_from_within_its_own_exchange_raises_a_clear_error(make_auth, kiwoom_emulator, store, ask, which):
    shelf = store and store()
    refused = []

    def spring():
        if refused:
            return  # by now the exchange is AU10002's
        auth = auths[which == "another object"]
        with pytest.raises(KiwoomAuthError) as caught:
            auth.revoke() if ask == "revoke" else asyncio.run(auth.arevoke())
        refused.append(caught.value)

    keys = (kiwoom_emulator.secretkey, lambda: kiwoom_emulator.secretkey)
    auths = [make_auth(secretkey=key, client=session_with(spring), store=shelf) for key in keys]
    assert in_time(auths[0].get_token) == kiwoom_emulator.token
    assert len(refused) == 1
    assert says_so(refused[0])
    auths[0].revoke()
    assert kiwoom_emulator.token is None


@pytest.mark.parametrize("ask", ["revoke", "arevoke"])
def test_a_vault_may_revoke_what_another_object_has_issued(make_auth, kiwoom_emulator, ask):
    cache = {}
    old = make_auth(cache=cache)
    old.get_token()

    def vault():
        if not kiwoom_emulator.calls("au10002"):
            old.revoke() if ask == "revoke" else asyncio.run(old.arevoke())
        return kiwoom_emulator.secretkey

    assert make_auth(cache=cache, secretkey=vault).get_token() == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 2
