"""``timeout`` bounds an exchange as a whole: a server or a proxy that drips does not hold it."""

import contextlib
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
import requests
import urllib3

from kiwoom_auth_plugin import KiwoomBearerAuth, TokenEndpointUnreachable
from kiwoom_auth_plugin._cutoff import Cutoff
from kiwoom_auth_plugin._issuer import Issuer

from .clients import in_time, plain_answer, raw_server

HEADERS = b"HTTP/1.1 200 OK\r\nX-Padding: "
UNFRAMED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"  # it would end with the connection
BODY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"
HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # a TLS record of 16 KiB, which begins a ServerHello
SOCKS = b"\5\0", b"\5\0\0\1\x7f\0\0\1\0\1"  # no login is needed; it is connected
PROXY = b"HTTP/1.1 200 Connection established\r\nX-Padding: "


@contextlib.contextmanager
def dripping(*beginnings: bytes | ssl.SSLContext, path: str | None = None) -> Iterator[int]:
    """A server that begins to answer and then sends a byte every now and then, until the client has gone; its port.

    Args:
        beginnings: what it sends when it has received something, or TLS that it begins.
        path: of a UNIX domain socket; None: a port.
    """
    served: list[threading.Thread] = []

    def drip(connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(connection)
            for beginning in beginnings:
                if isinstance(beginning, ssl.SSLContext):
                    connection = stack.enter_context(beginning.wrap_socket(connection, server_side=True))
                else:
                    connection.recv(65536)
                    connection.sendall(beginning)
            connection.settimeout(0.02)  # the pace
            while True:
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        return
                connection.sendall(b"x")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                served.append(threading.Thread(target=drip, args=(connection,)))
                served[-1].start()

    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listener:
        listener.bind(path or ("127.0.0.1", 0))
        listener.listen()
        accepting = threading.Thread(target=serve)
        accepting.start()
        yield 0 if path else listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    for thread in served:
        thread.join()


def auth_for(host: str, client=None) -> KiwoomBearerAuth:
    # A cache of its own: a failure of another test must not answer in its place.
    return KiwoomBearerAuth("an-appkey-of-no-one", "a-secretkey", host=host, timeout=0.3, client=client, cache={})


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no UNIX domain sockets")
def test_a_server_that_drips_does_not_hold_a_client_by_a_unix_domain_socket(tmp_path):
    path = str(tmp_path / "s")
    with dripping(HEADERS, path=path), httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
        auth = auth_for("http://localhost", client)
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(auth.get_token)


@pytest.mark.parametrize("beginning", [HEADERS, BODY, UNFRAMED], ids=["headers", "body", "unframed"])
def test_a_server_that_drips_does_not_hold_requests(beginning):
    with dripping(beginning) as port, pytest.raises(TokenEndpointUnreachable, match="too long"):
        in_time(auth_for(f"http://127.0.0.1:{port}").get_token)


@pytest.mark.anyio
@pytest.mark.parametrize("beginning", [HEADERS, BODY, UNFRAMED], ids=["headers", "body", "unframed"])
async def test_a_server_that_drips_does_not_hold_httpx(beginning):
    with dripping(beginning) as port, pytest.raises(TokenEndpointUnreachable, match="too long"):
        await auth_for(f"http://127.0.0.1:{port}").aget_token()


@pytest.mark.parametrize("beginning", [HEADERS, BODY, UNFRAMED], ids=["headers", "body", "unframed"])
def test_a_server_that_drips_does_not_hold_a_client_of_the_users(beginning):
    with dripping(beginning) as port, httpx.Client() as client:
        auth = auth_for(f"http://127.0.0.1:{port}", client)
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(auth.get_token)


def test_a_connection_that_was_there_before_is_cut_off_too():
    with dripping(plain_answer(b"{}").replace(b"Connection: close\r\n", b""), BODY) as port, httpx.Client() as client:
        host = f"http://127.0.0.1:{port}"
        assert client.get(host).text == "{}"
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(lambda: Issuer(host, client).send("/oauth2/token", b"{}", 0.3, "httpx"))


def test_a_server_that_drips_a_body_does_not_hold_a_session_of_the_users():
    with dripping(BODY) as port, requests.Session() as session:
        auth = auth_for(f"http://127.0.0.1:{port}", session)
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(auth.get_token)


def test_a_tls_handshake_that_drips_does_not_hold_requests():
    with dripping(HANDSHAKE) as port, pytest.raises(TokenEndpointUnreachable, match="too long"):
        in_time(auth_for(f"https://127.0.0.1:{port}").get_token)


@pytest.mark.anyio
async def test_a_tls_handshake_that_drips_does_not_hold_httpx():
    with dripping(HANDSHAKE) as port, pytest.raises(TokenEndpointUnreachable, match="too long"):
        await auth_for(f"https://127.0.0.1:{port}").aget_token()


def test_a_proxy_that_drips_does_not_hold_requests(monkeypatch):
    with dripping(PROXY) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(auth_for("https://api.kiwoom.com").get_token)


@pytest.mark.anyio
async def test_a_proxy_that_drips_does_not_hold_httpx(monkeypatch):
    with dripping(PROXY) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            await auth_for("https://api.kiwoom.com").aget_token()


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_server_that_drips_behind_a_socks_proxy_does_not_hold_anybody(monkeypatch, vouched, library):
    with dripping(*SOCKS, vouched, HEADERS) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{port}")
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            in_time(lambda: Issuer("https://127.0.0.1:1", None).send("/oauth2/token", b"{}", 0.3, library))


def test_a_socks_proxy_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("socks", reason="PySocks is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"socks5h://127.0.0.1:{port}")
    with pytest.raises(TokenEndpointUnreachable):
        in_time(auth_for("https://api.kiwoom.com").get_token)


def test_where_no_watching_thread_is_to_be_had_a_token_is_issued_all_the_same(make_auth, kiwoom_emulator, monkeypatch):
    def refuse(_timer):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    assert make_auth().get_token() == kiwoom_emulator.token


def test_a_connection_that_comes_after_the_deadline_is_shut_at_once():
    ours, theirs = socket.socketpair()
    with ours, theirs, Cutoff(60.0) as cutoff:
        cutoff._cut()
        cutoff.watch(ours)
        assert theirs.recv(1) == b""


def test_tls_over_a_watched_connection_is_not_disturbed_by_the_end_of_the_watch():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with Cutoff(60.0) as cutoff:
            cutoff.watch(ours)
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_ssl_is_what_the_handshake_test_speaks():
    """The record that drips is one that a TLS client waits on, not one that it refuses."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(HANDSHAKE)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()


def test_an_answer_that_a_stand_in_gives_is_taken_as_it_is():
    raw = urllib3.HTTPResponse(io.BytesIO(b"{}"), {"Set-Cookie": "a=b"}, 200, preload_content=False)
    request = requests.Request("POST", "https://api.kiwoom.com/").prepare()
    assert Cutoff(1.0).adapter().build_response(request, raw).json() == {}


# The watch by itself


def test_the_thread_that_watches_keeps_no_program_from_ending():
    with Cutoff(60.0) as cutoff:
        assert cutoff.happened is False
        (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        assert timer.daemon


def test_what_is_no_connection_any_more_is_not_watched():
    with socket.socket() as unconnected, socket.socket() as closed, Cutoff(60.0) as cutoff:
        closed.close()
        cutoff.watch(closed)
        cutoff.watch_stream(None)
        assert not cutoff.has_watched
        cutoff.watch(unconnected)
        cutoff._cut()
        assert cutoff.has_watched
        assert cutoff.happened is True


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_what_stands_in_for_an_answer_is_not_watched(error):
    class StandIn:
        def fileno(self):
            raise error

    with Cutoff(60.0) as cutoff:
        cutoff.watch_body(StandIn())
        assert not cutoff.has_watched


@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "Set-Cookie2"])
def test_cookies_are_not_read(name):
    with (
        raw_server([plain_answer(b"{}", "200 OK", f"{name}: a=b; Version=1", "X: y")]) as (host, _got),
        Cutoff(60.0) as cutoff,
        requests.Session() as session,
    ):
        session.mount(host, cutoff.adapter())
        response = session.get(host)
        assert name not in response.raw._original_response.msg
        assert response.headers["X"] == "y"
        assert not response.cookies


def test_an_answer_that_http_client_has_not_read_may_be_built():
    answer = SimpleNamespace(status=200, headers={"X": "y"}, reason="OK")
    request = requests.Request("GET", "http://127.0.0.1/").prepare()
    assert Cutoff(60.0).adapter().build_response(request, answer).headers["X"] == "y"


def test_the_adapter_passes_on_what_requests_asks_of_a_pool():
    adapter = Cutoff(60.0).adapter()
    adapter.init_poolmanager(1, 1, block=True)
    assert adapter.poolmanager.connection_pool_kw["block"] is True
    assert adapter.proxy_manager_for("http://127.0.0.1:9", timeout=3.0).connection_pool_kw["timeout"] == 3.0
