"""The token is seen by its own origin and by nobody else, wherever an answer, a proxy or the user's code leads a call.

``test_plugin_redirects.py`` has the plain redirects. Here are places that only look like the origin, and the ways by
which a call gets there without being redirected.
"""

import contextlib
import select
import socket
import ssl
import threading
from urllib.parse import urlsplit

import pytest
import requests
import trustme

from kiwoom_auth_plugin import InvalidTokenResponse
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator

from .clients import (
    BODY,
    HEADERS,
    PATIENCE,
    TR,
    called,
    every_client,
    every_httpx_client,
    every_module,
    every_sync_client,
    plain_answer,
    raw_server,
    token_answer,
    whatever_the_library_says,
)
from .traces import traces

OLD = "/api/dostk/moved"
STATUSES = [301, 302, 303, 307, 308]

HOME, AWAY = "127.0.0.1:{home}", "127.0.0.1:{away}"
TRICKS = {
    "another port": f"http://{AWAY}{TR}",
    "a user's name": f"http://me:pass@{HOME}{TR}",
    "a user's name that is home": f"http://{HOME}@{AWAY}{TR}",
    "a user's name with a slash": f"http://{HOME}%2F@{AWAY}{TR}",
    "two users' names": f"http://{HOME}@{HOME}@{AWAY}{TR}",
    "a backslash before home": f"http://{AWAY}\\@{HOME}{TR}",
    "a backslash after home": f"http://{HOME}\\@{AWAY}{TR}",
    "backslashes for slashes": f"http:\\\\{AWAY}{TR}",
    "home in the fragment": f"http://{AWAY}#@{HOME}{TR}",
    "home in the query": f"http://{AWAY}?@{HOME}{TR}",
    "home in the path": f"http://{AWAY}/@{HOME}{TR}",
    "upper case": f"HTTP://{HOME}{TR}",
    "upper case, by name": f"HTTP://LOCALHOST:{{home}}{TR}",
    "by name": f"http://localhost:{{home}}{TR}",
    "a trailing dot": f"http://localhost.:{{home}}{TR}",
    "a trailing dot on the address": f"http://127.0.0.1.:{{home}}{TR}",
    "a short address": f"http://127.1:{{home}}{TR}",
    "an address as a number": f"http://2130706433:{{home}}{TR}",
    "an octal address": f"http://0177.0.0.1:{{home}}{TR}",
    "another address of this machine": f"http://127.0.0.2:{{home}}{TR}",
    "any address": f"http://0.0.0.0:{{home}}{TR}",
    "an IPv4 address in IPv6": f"http://[::ffff:127.0.0.1]:{{home}}{TR}",
    "wide digits": f"http://\uff11\uff12\uff17.0.0.1:{{home}}{TR}",
    "wide digits elsewhere": f"http://\uff11\uff12\uff17.0.0.1:{{away}}{TR}",
    "Chinese dots": f"http://127\u30020\u30020\u30021:{{home}}{TR}",
    "a Cyrillic o": f"http://l\u043ecalhost:{{home}}{TR}",
    "its Punycode": f"http://xn--lcalhost-xmg:{{home}}{TR}",
    "letters in circles": f"http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{{home}}{TR}",
    "a name that begins like home": f"http://127.0.0.1.evil.example:{{home}}{TR}",
    "a name that ends like home": f"http://evil-127.0.0.1:{{home}}{TR}",
    "an underscore": f"http://127.0.0.1_:{{home}}{TR}",
    "an encoded address": f"http://127%2e0.0.1:{{home}}{TR}",
    "zeros before the port": f"http://127.0.0.1:000{{home}}{TR}",
    "white space around": f" http://{AWAY}{TR} ",
    "a tab in the scheme": f"ht\ttp://{AWAY}{TR}",
    "a tab in the port": f"http://127.0.0.1:\t{{away}}{TR}",
    "the downgrade's upgrade": f"https://{HOME}{TR}",
}
"""Where a call may be led, with the ports of the origin and of a stranger."""
LEADING_SLASHES = {
    "two slashes": f"//{AWAY}{TR}",
    "three slashes": f"///{AWAY}{TR}",
    "a slash and a backslash": f"/\\{AWAY}{TR}",
    "two backslashes": f"\\\\{AWAY}{TR}",
    "a scheme without slashes": f"http:{AWAY}{TR}",
    "a scheme and three slashes": f"http:///{AWAY}{TR}",
    "dots": f"/../..//{AWAY}{TR}",
}


STRANGE = 15
"""So many of them reach a server that is not the origin, whichever library reads them."""


@pytest.fixture(autouse=True)
def every_name_is_this_machine(monkeypatch):
    """Whoever a call is led to, it arrives here."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **options):
        try:
            return resolve(host, *arguments, **{**options, "flags": socket.AI_NUMERICHOST})
        except (OSError, TypeError, UnicodeError):
            return resolve("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def elsewhere():
    """A stranger, who writes down what it gets, and asks for another token whatever that is."""
    with KiwoomEmulator() as emulator:
        emulator.refuse_next(1000)
        yield emulator


def places(kiwoom, elsewhere, tricks):
    return [place.format(home=kiwoom.port, away=elsewhere.port) for place in tricks.values()]


def in_a_header(place):
    return place.encode().decode("latin-1")


def secrets_of(kiwoom):
    assert kiwoom.token
    return kiwoom.secretkey, kiwoom.token, *{call.token for call in kiwoom.journal if call.token}


def check_strangers(kiwoom, elsewhere):
    """What got to others than the origin: whoever asks for it by any other name than its own asks for another."""
    own = urlsplit(kiwoom.url).netloc
    strange = [call for call in kiwoom.journal if call.headers.get("host") != own] + elsewhere.journal
    for call in strange:
        told = f"{call.headers}{call.path}{call.query}".encode() + call.body
        assert traces(told, *secrets_of(kiwoom)) == [], f"{call.headers['host']} has seen it"
    assert not elsewhere.calls("au10001")
    assert kiwoom.issued == 1
    return strange


# Redirects, and calls, to what looks like home


@every_client
@pytest.mark.parametrize("status", STATUSES)
def test_redirects_lead_nobody_but_home_to_the_token(open_client, kiwoom_emulator, elsewhere, auth, status):
    with open_client(auth) as client:
        for place in places(kiwoom_emulator, elsewhere, TRICKS | LEADING_SLASHES):
            kiwoom_emulator.script(OLD, Answer.redirect(in_a_header(place), status))
            with whatever_the_library_says():
                client.post(kiwoom_emulator.url + OLD, follow=True)
    assert len(kiwoom_emulator.calls(OLD)) == len(TRICKS | LEADING_SLASHES)
    assert len(check_strangers(kiwoom_emulator, elsewhere)) >= STRANGE


@every_client
def test_redirects_that_are_followed_by_hand_lead_nobody_else_to_it(open_client, kiwoom_emulator, elsewhere, auth):
    with open_client(auth) as client:
        for place in places(kiwoom_emulator, elsewhere, TRICKS | LEADING_SLASHES):
            kiwoom_emulator.script(OLD, Answer.redirect(in_a_header(place), 307))
            with whatever_the_library_says():
                answer = client.post(kiwoom_emulator.url + OLD)
                following = answer.next if open_client.library is requests else answer.next_request
                if following is not None:
                    client.portal.call(client.native.send, following) if client.is_async else client.native.send(
                        following
                    )
    assert len(check_strangers(kiwoom_emulator, elsewhere)) >= STRANGE


@every_client
def test_calls_to_what_looks_like_home_carry_no_token(open_client, kiwoom_emulator, elsewhere, auth):
    auth.get_token()
    with open_client(auth) as client:
        for place in places(kiwoom_emulator, elsewhere, TRICKS):
            with whatever_the_library_says():
                client.post(place)
    assert len(check_strangers(kiwoom_emulator, elsewhere)) >= STRANGE


@pytest.mark.parametrize("status", STATUSES)
def test_a_hook_of_the_users_that_follows_by_itself_has_no_token_to_take_elsewhere(
    kiwoom_emulator, elsewhere, auth, status
):
    def follow(response, **options):
        if response.is_redirect:
            request = response.request.copy()
            request.url = response.headers["location"]
            response.connection.send(request, **options)

    kiwoom_emulator.script(OLD, Answer.redirect(elsewhere.url + TR, status))
    requests.post(
        kiwoom_emulator.url + OLD, BODY, headers=HEADERS, auth=auth, hooks={"response": follow}, allow_redirects=False
    )
    assert len(elsewhere.journal) == 1
    check_strangers(kiwoom_emulator, elsewhere)


# AU10001 and AU10002


@every_sync_client
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("place", [TR, "/oauth2/other", "http://LOCALHOST:{home}/oauth2/token", f"http://{AWAY}/"])
def test_the_secretkey_is_not_redirected_at_all(
    open_client, kiwoom_emulator, elsewhere, make_auth, clock, place, status
):
    """Not even within the origin."""
    answer = Answer.redirect(place.format(home=kiwoom_emulator.port, away=elsewhere.port), status)
    with open_client() as client:
        if open_client.library is not requests:
            client.native.follow_redirects = True
        auth = make_auth(clock=clock, client=client.native)
        auth.get_token()
        for path, call in (("/oauth2/revoke", auth.revoke), ("/oauth2/token", auth.get_token)):
            kiwoom_emulator.script(path, answer)
            with pytest.raises(InvalidTokenResponse, match="redirect"):
                call()
    assert [call.path for call in kiwoom_emulator.journal] == ["/oauth2/token", "/oauth2/revoke", "/oauth2/token"]
    assert not elsewhere.journal


# One port, two schemes


class BothSchemes:
    """A server that speaks http and https at one port and writes down what it got, and how: ``[(is TLS, bytes)]``.

    Args:
        context: for https.
        answer: what it answers to a request.
    """

    def __init__(self, context, answer):
        self.got = []
        self._context, self._answer = context, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with contextlib.suppress(OSError), connection:
                    is_tls = connection.recv(1, socket.MSG_PEEK) == b"\x16"
                    with self._context.wrap_socket(connection, server_side=True) if is_tls else connection as speaking:
                        request = speaking.recv(65536)
                        head, _, body = request.partition(b"\r\n\r\n")
                        if b"content-length" in head.lower() and not body:
                            request += speaking.recv(65536)
                        self.got.append((is_tls, request))
                        speaking.sendall(self._answer(request))


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """What clients check the certificates of ``authority`` against."""
    path = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(path)
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, path)
    return lambda library: True if library is requests else ssl.create_default_context(cafile=path)


@every_client
@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize(("scheme", "other"), [("https", "http"), ("http", "https")])
def test_the_other_scheme_at_the_same_port_is_elsewhere(
    open_client, make_auth, context, trusted, scheme, other, status
):
    token = "the-token-of-one-scheme-0123456789"

    def answer(request):
        if request.startswith(b"POST /oauth2/token"):
            return token_answer(token)
        if request.startswith(f"POST {OLD}".encode()):
            return plain_answer(b"{}", f"{status} Moved", f"Location: {other}://127.0.0.1:{server.port}{TR}")
        return plain_answer(b'{"return_code": 0}')

    with BothSchemes(context, answer) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        with open_client(make_auth(host=url, cache={}), verify=trusted(open_client.library)) as client:
            assert called(client.post(url + OLD, follow=True))
    issue, signed, redirected = server.got
    assert [is_tls for is_tls, _ in server.got] == [scheme == "https"] * 2 + [other == "https"]
    assert traces(signed[1], token)
    assert traces(redirected[1], token) == []
    assert traces(issue[1], token) == []


# Proxies


class Tunnel:
    """An https proxy (CONNECT) that writes down all that goes through it, in both directions."""

    def __init__(self):
        self.got = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, near):
        with contextlib.suppress(OSError), near:
            asked = near.recv(65536)
            self.got += asked
            host, _, port = asked.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port)), PATIENCE) as far:
                near.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                while True:
                    for side in select.select([near, far], [], [], PATIENCE)[0]:
                        piece = side.recv(65536)
                        if not piece:
                            return
                        self.got += piece
                        (far if side is near else near).sendall(piece)


@every_client
def test_a_proxy_on_the_way_to_an_https_origin_sees_where_it_goes_and_nothing_else(
    open_client, make_auth, context, trusted, monkeypatch
):
    with KiwoomEmulator(tls=context) as kiwoom, Tunnel() as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        auth = make_auth(emulator=kiwoom)
        with open_client(auth, verify=trusted(open_client.library)) as client:
            assert called(client.post(kiwoom.url + TR))
            kiwoom.expire_tokens()
            assert called(client.post(kiwoom.url + TR))
        secrets = secrets_of(kiwoom)
        auth.revoke()
        assert {call.api for call in kiwoom.journal} == {"au10001", "ka10001", "au10002"}
        assert tunnel.got.count(f"CONNECT 127.0.0.1:{kiwoom.port} HTTP".encode()) >= 3
        assert len(secrets) == 4
        assert traces(bytes(tunnel.got), *secrets) == []


@every_client
def test_an_origin_that_serves_as_a_proxy_gets_no_token_with_what_is_for_others(open_client, make_auth, monkeypatch):
    """The request comes to the origin's own port; but in its absolute form it is for somebody else."""
    with raw_server([token_answer("a-token-0123456789")], [plain_answer(b"{}")], [plain_answer(b"{}")]) as (url, got):
        auth = make_auth(host=url, cache={})
        auth.get_token()
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with open_client(auth) as client:
            client.post(f"http://stranger.example{TR}")
            client.post(url + TR)
    strange, own = got[1:]
    assert strange.startswith(b"POST http://stranger.example/")
    assert traces(strange, "a-token-0123456789") == []
    assert traces(own, "a-token-0123456789")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@every_client
def test_the_secretkey_for_this_machine_goes_through_no_proxy(
    open_client, kiwoom_emulator, auth, monkeypatch, variable
):
    with raw_server([plain_answer(b'{"return_code": 0}')]) as (proxy, got):
        monkeypatch.setenv(variable, proxy)
        monkeypatch.setenv(variable.lower(), proxy)
        with open_client(auth) as client:
            client.post(kiwoom_emulator.url + TR)  # as the client's own settings have it
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001"]
    (call,) = got
    assert call.startswith(f"POST {kiwoom_emulator.url}{TR} ".encode())
    assert traces(call, kiwoom_emulator.secretkey) == []


# Base URLs


@every_httpx_client
def test_a_base_url_decides_who_gets_the_token(open_client, kiwoom_emulator, elsewhere, auth):
    for base in (kiwoom_emulator.url, f"{kiwoom_emulator.url}/api/dostk", elsewhere.url):
        with open_client(auth) as client:
            client.native.base_url = base
            client.post("stkinfo" if base.endswith("dostk") else TR)
            client.post(elsewhere.url + TR)  # a whole URL goes before it
    assert [call.token for call in kiwoom_emulator.calls(TR)] == [kiwoom_emulator.token] * 2
    assert len(elsewhere.journal) == 4
    check_strangers(kiwoom_emulator, elsewhere)


# Headers that are there already


BY_HAND = {
    "bearer": "Bearer of-my-own",
    "basic": "Basic bWU6cGFzcw==",
    "lower case": "bearer of-my-own",
}


@every_client
@pytest.mark.parametrize("by_hand", BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_header_set_by_hand_gives_way_at_home_and_is_not_ours_elsewhere(
    open_client, kiwoom_emulator, elsewhere, auth, by_hand, name
):
    kiwoom_emulator.script(OLD, Answer.redirect(elsewhere.url + TR, 307))
    with open_client(auth) as client:
        client.native.headers[name] = by_hand
        assert called(client.post(kiwoom_emulator.url + TR))
        client.post(kiwoom_emulator.url + OLD, follow=True)
        client.post(elsewhere.url + TR, headers=HEADERS | {name: by_hand})
    assert [call.token for call in kiwoom_emulator.journal[1:]] == [kiwoom_emulator.token] * 2
    assert elsewhere.journal[-1].headers["authorization"] == by_hand
    check_strangers(kiwoom_emulator, elsewhere)


@every_module
def test_a_call_of_a_client_whose_auth_is_anothers_is_its_business(kiwoom_emulator, elsewhere, auth, module):
    with module.Client(auth=("me", "pass")) as client:
        client.post(elsewhere.url + TR, content=BODY, headers=HEADERS, auth=auth)
        assert called(client.post(kiwoom_emulator.url + TR, content=BODY, headers=HEADERS, auth=auth))
    assert "authorization" not in elsewhere.journal[0].headers
    check_strangers(kiwoom_emulator, elsewhere)
