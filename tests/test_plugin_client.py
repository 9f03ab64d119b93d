"""What sends AU10001 and AU10002: ``client=``, or a fresh one of the library; TLS, and connections that fail."""

import gzip
import ssl
import zlib

import anyio
import httpx
import pytest
import requests
import requests.adapters
import trustme

from kiwoom_auth_plugin import InvalidTokenResponse, KiwoomAuthError, KiwoomBearerAuth, TokenEndpointUnreachable
from kiwoom_auth_plugin._issuer import Issuer
from kiwoom_auth_plugin._reasons import TOO_LONG, reason
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator

from .clients import (
    BODY,
    FAMILY,
    HEADERS,
    TR,
    called,
    every_client,
    every_module,
    every_sync_client,
    plain_answer,
    raw_server,
    token_answer,
)
from .leaks import shown_by


@every_sync_client
def test_the_given_client_sends(open_client, kiwoom_emulator, make_auth):
    with open_client() as client:
        auth = make_auth(client=client.native)
        assert called(client.post(kiwoom_emulator.url + TR, auth=auth))
        auth.revoke()
        client.native.send = refuses_to_send
        with pytest.raises(KiwoomAuthError, match="client= raised ValueError"):
            auth.get_token()
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001", "ka10001", "au10002"]


@every_sync_client
def test_a_client_that_is_given_keeps_no_connection_to_share_with_what_it_forks_into(
    open_client, kiwoom_emulator, make_auth
):
    """One of two children could get the answer to the other's AU10001, and with it the token of another account."""
    with open_client() as client:
        auth = make_auth(client=client.native)
        auth.get_token()
        auth.revoke()
        auth.get_token()
    assert len({call.connection for call in kiwoom_emulator.journal}) == 3


def test_caches_and_recorders_are_told_to_store_nothing(kiwoom_emulator, auth):
    """RFC 9111, section 5.2.1.5."""
    auth.get_token()
    auth.revoke()
    assert [call.headers["cache-control"] for call in kiwoom_emulator.journal] == ["no-store"] * 2


@pytest.mark.parametrize("kind", [requests.Session, *(module.Client for module in FAMILY)])
def test_a_client_that_is_false_sends_all_the_same(kiwoom_emulator, make_auth, clock, kind):
    class Empty(kind):
        """As one that counts what it has sent."""

        closed = False

        def __len__(self):
            return 0

        def close(self):
            self.closed = True
            super().close()

    with Empty() as client:
        auth = make_auth(client=client)
        auth.get_token()
        auth.revoke()
        assert not client.closed
        client.send = refuses_to_send
        with pytest.raises(KiwoomAuthError, match="client= raised ValueError"):
            auth.get_token()
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001", "au10002"]


def refuses_to_send(*_arguments, **_options):
    raise ValueError


@pytest.mark.anyio
@every_sync_client
async def test_the_given_client_sends_for_asynchronous_callers_too(open_client, kiwoom_emulator, make_auth):
    with open_client() as client:
        auth = make_auth(client=client.native)
        await auth.aget_token()
        client.native.send = refuses_to_send
        with pytest.raises(KiwoomAuthError, match="client= raised ValueError"):
            await auth.arevoke()
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001"]


@every_sync_client
def test_a_client_that_has_the_auth_itself_can_be_given(open_client, kiwoom_emulator, make_auth):
    with open_client() as client:
        client.native.auth = make_auth(client=client.native)
        assert called(client.post(kiwoom_emulator.url + TR))
        kiwoom_emulator.expire_tokens()
        assert called(client.post(kiwoom_emulator.url + TR))
    assert not any(call.violations for call in kiwoom_emulator.journal)


def test_nothing_of_the_session_goes_along(kiwoom_emulator, make_auth):
    with requests.Session() as session:
        session.headers["x-mine"] = "1"
        session.auth = ("me", "pass")
        session.params = {"a": "b"}
        session.cookies.set("session", "cookie")
        session.hooks["response"].append(lambda *_args, **_kwargs: pytest.fail("a hook was called"))
        check_bare(make_auth(client=session), kiwoom_emulator)


@every_module
def test_nothing_of_the_client_goes_along(kiwoom_emulator, make_auth, module):
    options = {"headers": {"x-mine": "1"}, "auth": ("me", "pass"), "params": {"a": "b"}}
    with module.Client(**options, cookies={"session": "cookie"}, base_url="https://elsewhere.example/v1") as client:
        check_bare(make_auth(client=client), kiwoom_emulator)


def check_bare(auth, kiwoom):
    auth.get_token()
    auth.revoke()
    assert [call.api for call in kiwoom.journal] == ["au10001", "au10002"]
    for call in kiwoom.journal:
        assert not call.violations
        assert not {"x-mine", "authorization", "cookie"} & set(call.headers)
        assert call.query == ""


@every_client
def test_without_one_the_callers_library_sends(open_client, kiwoom_emulator, auth, monkeypatch):
    sent_by = []
    for kind in (requests.Session, httpx.Client):

        def send(self, request, _kind=kind, _send=kind.send, **options):
            if "/oauth2/" in str(request.url):
                sent_by.append(_kind)
            return _send(self, request, **options)

        monkeypatch.setattr(kind, "send", send)
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR)
    assert sent_by == [requests.Session if open_client.library is requests else httpx.Client]


# Connections that fail


class Failing(requests.adapters.HTTPAdapter):
    def __init__(self, failure):
        super().__init__()
        self.failure = failure

    def send(self, request, **_options):
        self.failure.request = request
        raise self.failure


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), requests.URLRequired("no"), KeyError("x")], ids=repr)
def test_whatever_the_client_raises_is_an_error_without_its_request(kiwoom_emulator, make_auth, failure, clock):
    with requests.Session() as session:
        session.mount("http://", Failing(failure))
        with pytest.raises(KiwoomAuthError) as raised:
            make_auth(client=session, clock=clock).get_token()
    assert kiwoom_emulator.url in str(raised.value)
    assert raised.value.host == kiwoom_emulator.url
    assert raised.value.__cause__ is None
    assert kiwoom_emulator.secretkey not in shown_by(raised.value)


@every_module
def test_whatever_a_hook_of_httpx_raises_is_an_error_without_its_request(kiwoom_emulator, make_auth, module, clock):
    def hook(request):
        raise LookupError(request.content.decode())

    with (
        module.Client(event_hooks={"request": [hook]}) as client,
        pytest.raises(KiwoomAuthError, match="LookupError") as raised,
    ):
        make_auth(client=client, clock=clock).get_token()
    assert kiwoom_emulator.secretkey not in shown_by(raised.value)


@every_client
def test_a_server_that_is_not_there_is_an_error_that_says_so(open_client, make_auth, clock):
    with KiwoomEmulator() as gone:
        pass
    with open_client(make_auth(emulator=gone, clock=clock)) as client:
        with pytest.raises(TokenEndpointUnreachable, match="connection was refused") as raised:
            client.post(gone.url + TR)
        with pytest.raises(requests.ConnectionError):  # as code for requests has it
            client.post(gone.url + TR)
    assert raised.value.host == gone.url
    assert raised.value.retryable
    assert len(clock.slept) == 2  # three attempts


@every_client
def test_a_name_that_does_not_resolve_is_told(open_client, clock, make_auth):
    auth = make_auth(host="https://api.kiwoom.invalid", clock=clock)
    with open_client(auth) as client, pytest.raises(TokenEndpointUnreachable, match=r"api\.kiwoom\.invalid"):
        client.post("https://api.kiwoom.invalid" + TR)


@every_client
@pytest.mark.parametrize("cut", ["before", "headers", "body", "reset"])
def test_a_connection_that_is_lost_is_tried_again(open_client, kiwoom_emulator, make_auth, clock, cut):
    kiwoom_emulator.script("/oauth2/token", Answer.as_usual(cut=cut))
    with open_client(make_auth(clock=clock)) as client:
        assert called(client.post(kiwoom_emulator.url + TR))
    assert len(kiwoom_emulator.calls("au10001")) == 2


TOKEN = token_answer().partition(b"\r\n\r\n")[2]
UNREADABLE = {
    "br": TOKEN,
    "zstd": TOKEN,
    "x-compress": TOKEN,
    "gzip, gzip": gzip.compress(gzip.compress(TOKEN)),
    "gzip, deflate": zlib.compress(gzip.compress(TOKEN)),
    "gzip": TOKEN,
}
READABLE = {
    "gzip": gzip.compress(TOKEN),
    "deflate": zlib.compress(TOKEN),
    "identity": TOKEN,
    "GZip": gzip.compress(TOKEN),
}


@every_client
@pytest.mark.parametrize("encoding", UNREADABLE)
def test_an_encoding_that_cannot_be_read_within_bounds_is_refused(open_client, kiwoom_emulator, make_auth, encoding):
    kiwoom_emulator.script("/oauth2/token", Answer(200, UNREADABLE[encoding], (("Content-Encoding", encoding),)))
    with open_client(make_auth()) as client, pytest.raises(InvalidTokenResponse) as raised:
        client.post(kiwoom_emulator.url + TR)
    assert raised.value.host == kiwoom_emulator.url
    assert kiwoom_emulator.secretkey not in shown_by(raised.value)


@pytest.mark.parametrize("encoding", READABLE)
def test_one_layer_of_a_usual_encoding_is_read(kiwoom_emulator, make_auth, encoding):
    kiwoom_emulator.script("/oauth2/token", Answer(200, READABLE[encoding], (("Content-Encoding", encoding),)))
    assert make_auth().get_token() == "a-token"


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", READABLE)
async def test_one_layer_of_a_usual_encoding_is_read_by_httpx_too(kiwoom_emulator, make_auth, encoding):
    kiwoom_emulator.script("/oauth2/token", Answer(200, READABLE[encoding], (("Content-Encoding", encoding),)))
    assert await make_auth().aget_token() == "a-token"


@every_client
def test_an_endless_answer_is_not_read_to_its_end(open_client, clock):
    def endless():
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        while True:
            yield b" " * 65536

    with raw_server(endless()) as (url, _got):
        auth = KiwoomBearerAuth("appkey", "secretkey", host=url, cache={})
        with open_client(auth) as client, pytest.raises(InvalidTokenResponse, match="1048576 bytes"):
            client.post(url + TR)


def test_cookies_of_the_token_endpoint_are_not_sent_back_to_it():
    answer = plain_answer(b"{}", "200 OK", "Set-Cookie: session=abc; Path=/")
    with raw_server([answer], [answer]) as (url, got), requests.Session() as session:
        auth = KiwoomBearerAuth("appkey", "secretkey", host=url, client=session, cache={})
        for _ in range(2):
            with pytest.raises(KiwoomAuthError):
                auth.get_token()
            auth.invalidate("any")
    assert len(got) == 2
    assert not any(b"cookie" in request.lower() for request in got)


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with KiwoomEmulator(tls=context) as emulator:
        yield emulator


@pytest.fixture
def bundle(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@every_client
def test_calls_over_tls_work_with_the_bundle_of_the_environment(open_client, secure, make_auth, bundle, monkeypatch):
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, bundle)
    verify = True if open_client.library is requests else ssl.create_default_context(cafile=bundle)
    with open_client(make_auth(emulator=secure), verify=verify) as client:
        assert called(client.post(secure.url + TR))
    assert secure.url.startswith("https://")


@every_sync_client
def test_the_bundle_of_the_given_client_applies(open_client, secure, make_auth, bundle):
    verify = bundle if open_client.library is requests else ssl.create_default_context(cafile=bundle)
    with open_client(verify=verify) as client:
        auth = make_auth(emulator=secure, client=client.native)
        assert auth.get_token() == secure.token
        auth.revoke()


@every_client
def test_an_untrusted_certificate_is_told_and_nothing_is_sent(open_client, secure, make_auth, clock):
    with (
        open_client(make_auth(emulator=secure, clock=clock)) as client,
        pytest.raises(TokenEndpointUnreachable, match="certificate is not trusted") as raised,
    ):
        client.post(secure.url + TR)
    assert not secure.journal
    assert secure.secretkey not in shown_by(raised.value)


def test_a_certificate_that_one_library_does_not_trust_is_no_matter_to_the_other(
    secure, make_auth, bundle, clock, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    auth = make_auth(emulator=secure, clock=clock)
    for _ in range(2):
        with pytest.raises(TokenEndpointUnreachable, match="certificate is not trusted") as raised:
            anyio.run(auth.aget_token)
    assert raised.value.local
    assert clock.slept == []  # nor is it tried again: it would be the same
    assert auth.get_token() == secure.token


def test_an_untrusted_certificate_is_no_matter_of_the_environment_of_the_given_client(secure, make_auth, bundle, clock):
    with requests.Session() as session:
        session.verify = bundle
        session.trust_env = False
        assert make_auth(emulator=secure, client=session, clock=clock).get_token() == secure.token


def test_plain_http_at_the_tls_port_is_told(secure, make_auth, clock):
    auth = make_auth(host=secure.url.replace("https", "http"), clock=clock)
    with pytest.raises(TokenEndpointUnreachable):
        auth.get_token()


def test_tls_at_the_plain_port_is_told(kiwoom_emulator, make_auth, clock):
    auth = make_auth(host=kiwoom_emulator.url.replace("http", "https"), clock=clock)
    with pytest.raises(TokenEndpointUnreachable, match="TLS"):
        auth.get_token()
    requests.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS)  # it is still there


# What is neither an answer nor a lost connection


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_proxy_that_the_library_cannot_speak_to_is_an_error_of_ours(monkeypatch, ask):
    """httpx raises ImportError for a SOCKS proxy without socksio, and ValueError for a scheme that it does not know."""
    for proxy in ("socks5://127.0.0.1:9", "what://127.0.0.1:9"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        auth = KiwoomBearerAuth("an-appkey", "a-secretkey", cache={}, timeout=5)
        with pytest.raises(KiwoomAuthError):
            auth.get_token() if ask == "get_token" else anyio.run(auth.aget_token)


def test_an_exchange_without_time_left_is_not_begun(kiwoom_emulator):
    issuer = Issuer(kiwoom_emulator.url, None)
    with pytest.raises(TokenEndpointUnreachable, match="too long"):
        issuer.send("/oauth2/token", b"{}", 0.0, "requests")
    assert not kiwoom_emulator.journal


def test_what_a_signal_handler_raises_in_the_exchange_reaches_the_caller_and_no_other(
    make_auth, kiwoom_emulator, monkeypatch
):
    class TimeLimitExceeded(Exception):
        """As task queues raise it, in whatever code is running."""

    def interrupt(*_args, **_options):
        monkeypatch.undo()
        raise TimeLimitExceeded

    auth = make_auth(cache={})
    monkeypatch.setattr(requests.Session, "send", interrupt)
    with pytest.raises(TimeLimitExceeded):
        auth.get_token()
    assert auth.get_token() == kiwoom_emulator.token


@pytest.mark.parametrize("failure", [requests.ReadTimeout(), httpx.ReadTimeout(""), TimeoutError()], ids=repr)
def test_a_library_whose_own_time_out_is_first_says_the_same_as_ours(failure):
    """Both are set to the same moment: which of them it is, is chance."""
    assert reason(failure, "http://127.0.0.1/") == TOO_LONG
