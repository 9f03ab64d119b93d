"""Sending a message to the token endpoint, by itself: what is sent, what comes back, and what is said of failures."""

import gzip
import io
import signal
import socket
import ssl
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
import requests
import trustme

from kiwoom_auth_plugin._answer import SIZE_LIMIT
from kiwoom_auth_plugin._issuer import Issuer
from kiwoom_auth_plugin._reasons import TOO_LONG
from kiwoom_auth_plugin.errors import InvalidTokenResponse, KiwoomAuthError, TokenEndpointUnreachable
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator

from .clients import in_time, plain_answer, raw_server

PATH = "/oauth2/token"
both = pytest.mark.parametrize("library", ["requests", "httpx"])


def sent(host, library="requests", *, client=None, timeout=10.0):
    return in_time(lambda: Issuer(host, client).send(PATH, b"{}", timeout, library))


def failure_of(kind, host, library="requests", **options):
    with pytest.raises(kind) as caught:
        sent(host, library, **options)
    assert type(caught.value) is kind
    assert caught.value.host == host
    return caught.value


@both
def test_the_answer_comes_as_it_is(library):
    with raw_server([plain_answer(b'{"a":1}', "418 Teapot", "X-Thing: 1")]) as (host, got):
        answer = sent(host, library)
    assert (answer.status, answer.headers["x-thing"], answer.body) == (418, "1", b'{"a":1}')
    assert got[0].startswith(b"POST /oauth2/token HTTP/1.1\r\n")
    assert got[0].endswith(b"\r\n\r\n{}")


# Where the answer ends

FRAMED = {
    "a length": ("200 OK", b"Content-Length: 0\r\n\r\n"),
    "chunks": ("200 OK", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks in another spelling": ("200 OK", b"TRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n"),
    "another status": ("503 Busy", b"X: y\r\n\r\n"),
}


@both
@pytest.mark.parametrize(("status", "end"), FRAMED.values(), ids=FRAMED)
def test_an_answer_without_a_body_is_one_where_its_end_is_told(library, status, end):
    with raw_server([f"HTTP/1.1 {status}\r\n".encode(), end]) as (host, _got):
        answer = sent(host, library)
    assert (answer.status, answer.body) == (int(status[:3]), b"")


@both
@pytest.mark.parametrize("rest", [b"", b"Content-Length: 12", b"Content-Length: none\r\nX: y"])
def test_headers_that_break_off_are_no_answer(library, rest):
    with raw_server([b"HTTP/1.1 200 OK\r\n" + rest]) as (host, _got):
        error = failure_of(TokenEndpointUnreachable, host, library)
    assert str(error).startswith(
        f"{host}: no answer to POST {PATH}: the connection was lost, or what came was no HTTP "
    )


# What cannot be read


@both
def test_an_encoding_that_was_not_asked_for_is_told(library):
    with raw_server([plain_answer(b"x", "200 OK", "Content-Encoding: br")]) as (host, _got):
        error = failure_of(InvalidTokenResponse, host, library)
    assert str(error) == f"{host}: the answer has an unexpected Content-Encoding; look for a proxy in between"


@both
def test_what_cannot_be_decompressed_is_told(library):
    with raw_server([plain_answer(b"no gzip at all", "200 OK", "Content-Encoding: gzip")]) as (host, _got):
        error = failure_of(InvalidTokenResponse, host, library)
    assert str(error) == f"{host}: the answer to POST {PATH} cannot be decompressed; look for a proxy in between"


# Time


@both
@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_without_time_left_nothing_is_sent(library, timeout):
    with raw_server() as (host, got):
        error = failure_of(TokenEndpointUnreachable, host, library, timeout=timeout)
    assert str(error) == f"{host}: no answer to POST {PATH}: {TOO_LONG}"
    assert got == []


@both
def test_an_answer_that_does_not_come_is_not_waited_for(library):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"http://127.0.0.1:{listener.getsockname()[1]}"
        error = failure_of(TokenEndpointUnreachable, host, library, timeout=0.05)
    assert str(error) == f"{host}: no answer to POST {PATH}: {TOO_LONG}"


@contextmanager
def full():
    """An address that does not even take connections, as behind a firewall that drops them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(4):
                one = socket.socket()
                waiting.append(one)
                one.settimeout(0.2)
                try:
                    one.connect(listener.getsockname())
                except TimeoutError:
                    break
            else:
                pytest.skip("this system takes connections that nobody accepts")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for one in waiting:
                one.close()


@both
def test_a_connection_that_is_not_made_is_not_waited_for(library):
    with full() as host:
        error = failure_of(TokenEndpointUnreachable, host, library, timeout=0.05)
    assert str(error) == f"{host}: no answer to POST {PATH}: {TOO_LONG}"


# The environment, and clients of the user's


@both
def test_a_proxy_of_the_environment_is_not_for_this_machine(library, monkeypatch):
    with raw_server([plain_answer(b"{}")]) as (host, got), raw_server() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        assert sent(host, library).status == 200
    assert len(got) == 1
    assert asked == []


def test_nor_with_a_session_of_the_users(monkeypatch):
    with (
        requests.Session() as session,
        raw_server([plain_answer(b"{}")]) as (host, _got),
        raw_server() as (proxy, asked),
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        assert sent(host, client=session).status == 200
    assert asked == []


def test_the_proxy_of_a_session_is_asked():
    with (
        requests.Session() as session,
        raw_server() as (host, got),
        raw_server([plain_answer(b"{}")]) as (proxy, asked),
    ):
        session.proxies = {"http": proxy}
        assert sent(host, client=session).status == 200
    assert got == []
    assert asked[0].startswith(f"POST {host}{PATH} ".encode())


@pytest.mark.parametrize("kind", [requests.Session, httpx.Client])
def test_a_client_of_the_users_stays_open_and_follows_no_redirect(kind):
    with raw_server([plain_answer(b"", "307 There", "Location: /elsewhere")], [plain_answer(b"{}")]) as (host, got):
        client = kind() if kind is requests.Session else kind(follow_redirects=True)
        assert sent(host, client=client).status == 307
        assert len(got) == 1
        assert client.post(host).status_code == 200
        client.close()


@both
@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_without_time_nothing_is_sent(library, timeout):
    with raw_server([plain_answer(b"{}")]) as (host, got):
        with pytest.raises(TokenEndpointUnreachable, match="too long"):
            sent(host, library, timeout=timeout)
        assert got == []


@both
def test_a_certificate_that_nobody_vouches_for_is_not_taken(library):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with KiwoomEmulator(tls=context) as kiwoom:
        error = failure_of(TokenEndpointUnreachable, kiwoom.url, library)
        assert kiwoom.journal == []
    assert "its certificate is not trusted" in str(error)
    assert error.local


def test_a_proxy_without_a_name_is_told_by_requests_too(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hidden@")
    error = failure_of(TokenEndpointUnreachable, "https://127.0.0.1:1")
    assert "check HTTPS_PROXY, ALL_PROXY and NO_PROXY" in str(error)
    assert "hidden" not in str(error)


def test_settings_that_cannot_be_used_are_told(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "what://127.0.0.1:1")
    host = "https://127.0.0.1:1"
    error = failure_of(TokenEndpointUnreachable, host, "httpx")
    words = "its settings cannot be used (ValueError); check HTTPS_PROXY, ALL_PROXY and NO_PROXY"
    assert str(error) == f"{host}: no answer to POST {PATH}: {words}"
    assert (error.local, error.retryable) == (True, False)


@both
@pytest.mark.parametrize("answer", [b"", b"\5", b"SSH-2.0-OpenSSH_9.6\r\n"])
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore's
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_socks_proxy_that_speaks_something_else_is_told(library, answer, monkeypatch):
    """What socksio raises, httpcore lets through."""

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{listener.getsockname()[1]}")
        serving = threading.Thread(target=serve)
        serving.start()
        error = failure_of(TokenEndpointUnreachable, "https://127.0.0.1:1", library)
        serving.join()
    assert "no answer to POST" in str(error)
    assert error.retryable


@both
@pytest.mark.parametrize("error", [RuntimeError("enough"), ValueError("enough"), TypeError("enough")], ids=repr)
def test_what_a_signal_handler_raises_is_not_taken_for_the_librarys(library, error, monkeypatch):
    """Whatever it is, only the caller whose thread it came to is concerned."""

    def handle(*_):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, handle)
    try:
        with pytest.raises(type(error), match="enough"):
            Issuer("http://127.0.0.1:1", None).send(PATH, b"{}", 10.0, library)
    finally:
        signal.signal(signal.SIGTERM, before)


@both
def test_what_a_signal_handler_raised_before_has_no_part_in_a_failure(library):
    def handle(*_arguments):
        raise TimeoutError("of the handler")

    former = signal.signal(signal.SIGTERM, handle)
    try:
        signal.raise_signal(signal.SIGTERM)
    except TimeoutError:
        with pytest.raises(TokenEndpointUnreachable):  # in this thread, whose context it is
            Issuer("http://127.0.0.1:1", None).send(PATH, b"{}", 10.0, library)
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_library_that_a_proxy_takes_and_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    host = "https://127.0.0.1:1"
    error = failure_of(KiwoomAuthError, host, "httpx")
    assert str(error).startswith(f"{host}: POST {PATH} cannot be sent: ")
    assert "socksio" in str(error)
    assert (error.local, error.retryable) == (True, False)


WITHOUT_SOCKS = """
from requests.exceptions import InvalidSchema

def SOCKSProxyManager(*arguments, **options):
    raise InvalidSchema("Missing dependencies for SOCKS support.")
"""  # what requests has in its place where PySocks is missing


def test_requests_says_what_a_socks_proxy_takes(monkeypatch):
    monkeypatch.setitem(sys.modules, "urllib3.contrib.socks", None)
    exec(WITHOUT_SOCKS, without := {"__name__": "requests.adapters"})
    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", without["SOCKSProxyManager"])
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    host = "https://127.0.0.1:1"
    error = failure_of(KiwoomAuthError, host)
    assert str(error) == f"{host}: POST {PATH} cannot be sent: Missing dependencies for SOCKS support."
    assert (error.local, error.retryable) == (True, False)


@pytest.mark.parametrize("error", [ImportError, requests.exceptions.InvalidSchema])
def test_the_words_of_a_client_are_not_told(error):
    """They may quote what is sent."""

    def refuse(request):
        raise error(request.content)

    with raw_server() as (host, _got), httpx.Client(event_hooks={"request": [refuse]}) as client:
        told = failure_of(KiwoomAuthError, host, client=client)
    assert str(told) == f"{host}: POST {PATH} cannot be sent: {error.__name__}"


@pytest.mark.parametrize("read", [lambda answer: list(answer.iter_raw()), lambda answer: answer.close()])
def test_an_answer_that_a_hook_has_taken_is_asked_for_once(read):
    with raw_server([plain_answer(b"{}")]) as (host, got), httpx.Client(event_hooks={"response": [read]}) as client:
        error = failure_of(KiwoomAuthError, host, client=client)
        assert len(got) == 1
    assert "client= raised Stream" in str(error)
    assert not error.retryable


def test_an_answer_that_an_adapter_has_taken_is_asked_for_once():
    class Taking(requests.adapters.HTTPAdapter):
        def send(self, *request, **options):
            answer = super().send(*request, **options)
            assert list(answer.iter_content(1)) == [b"{", b"}"]
            return answer

    with raw_server([plain_answer(b"{}")]) as (host, got), requests.Session() as client:
        client.mount("http://", Taking())
        error = failure_of(KiwoomAuthError, host, client=client)
        assert len(got) == 1
    assert "client= raised StreamConsumedError" in str(error)
    assert not error.retryable


def test_what_the_hook_of_a_client_raises_is_told():
    def refuse(_request):
        raise KeyError("nothing of this is told")

    with raw_server() as (host, _got), httpx.Client(event_hooks={"request": [refuse]}) as client:
        error = failure_of(KiwoomAuthError, host, client=client)
    words = "client= raised KeyError; check its hooks, transports and proxies"
    assert str(error) == f"{host}: POST {PATH} failed: {words}"
    assert not error.local


def test_an_answer_of_the_emulator_is_read_to_its_end(kiwoom_emulator):
    kiwoom_emulator.script(PATH, Answer.html("x" * 300_000, 500))
    assert len(sent(kiwoom_emulator.url).body) == 300_000


class ByHand(requests.adapters.BaseAdapter):
    """What tests of a user's own put in place of the network."""

    def send(self, request, **_options):
        response = requests.Response()
        response.status_code, response.raw, response.request = 200, io.BytesIO(b"{}"), request
        return response

    def close(self):
        pass


def test_an_adapter_made_by_hand_may_give_any_file():
    with requests.Session() as session:
        session.mount("https://", ByHand())
        assert sent("https://api.kiwoom.com", client=session).body == b"{}"


# What the libraries are asked for


def test_an_answer_that_is_cut_off_is_none():
    over = threading.Event()

    def unframed():
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}"
        over.wait(60.0)

    with raw_server(unframed()) as (host, _got):
        error = failure_of(TokenEndpointUnreachable, host, timeout=0.3)
        over.set()
    assert str(error) == f"{host}: no answer to POST {PATH}: {TOO_LONG}"


@both
def test_what_comes_with_a_redirect_is_read_up_to_the_limit(library):
    sent_pieces = []

    def endless():
        yield b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 99000000\r\n\r\n"
        for number in range(99):
            sent_pieces.append(number)
            yield b" " * 1_000_000

    with raw_server(endless(), patience=10.0) as (host, _got):
        answer = sent(host, library)
    assert answer.status == 302
    assert SIZE_LIMIT < len(answer.body) < 2 * SIZE_LIMIT
    assert len(sent_pieces) < 30  # what sockets hold is in it


def test_an_httpx_client_of_the_users_is_given_the_time_out():
    asked = []

    def answer(request):
        asked.append(request.extensions["timeout"])
        return httpx.Response(200, content=b"{}")

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert sent("http://127.0.0.1", client=client, timeout=7.0).body == b"{}"
    assert asked == [dict.fromkeys(("connect", "read", "write", "pool"), 7.0)]


@both
def test_a_certificate_that_the_environment_vouches_for_is_taken(library, vouched):
    with KiwoomEmulator(tls=vouched) as kiwoom:
        assert sent(kiwoom.url, library).status == 200


@both
def test_for_plain_http_no_certificates_are_read(library, monkeypatch):
    """It takes longer than all the rest."""

    def refuse(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr(ssl, "create_default_context", refuse)
    with raw_server([plain_answer(b"{}")]) as (host, _got):
        assert sent(host, library).body == b"{}"


class Reading(requests.adapters.HTTPAdapter):
    """Reads the answer, as those do that log it."""

    def send(self, *arguments, **options):
        response = super().send(*arguments, **options)
        assert response.content
        return response


def test_an_answer_that_an_adapter_of_the_users_has_read_is_there_all_the_same():
    with raw_server([plain_answer(b'{"a":1}')]) as (host, _got), requests.Session() as session:
        session.mount(host, Reading())
        assert sent(host, client=session).body == b'{"a":1}'


@both
@pytest.mark.parametrize("size", [SIZE_LIMIT, SIZE_LIMIT + 1])
def test_what_is_decompressed_is_read_up_to_the_limit_and_no_less(library, size):
    body = gzip.compress(b" " * size)
    with raw_server([plain_answer(body, "200 OK", "Content-Encoding: gzip")]) as (host, _got):
        assert len(sent(host, library).body) == size
