"""What can go wrong between AU10001 and its answer: a table of faults, each done by a real socket on this machine.

A fault is a row: what the far side does to each connection, step by step, which error that is, and what it says.
"""

import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import trustme

from kiwoom_auth_plugin import (
    AddressRejected,
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    TokenEndpointUnreachable,
)
from kiwoom_auth_plugin.testing import Answer, recorded

from .clients import PATIENCE, _read_request, plain_answer

APPKEY, SECRETKEY = "an-Appkey-of-the-faults", "a-Secretkey-of-the-faults"
TOKEN, WRONG_TOKEN = "a-Token-of-a-good-answer", "a-Token-of-a-bad-answer"
DATE = "Date: Tue, 05 Nov 2024 23:37:13 GMT"
EXPIRES = "20241107083713"  # KST: 24 hours later
SHORT = 0.2
"""Seconds: the ``timeout`` where a fault is that nothing comes."""

AUTHORITY = trustme.CA()


def identity(*names: str, issuer: trustme.CA = AUTHORITY, **options: Any) -> ssl.SSLContext:
    """What a TLS server shows of itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(*names, **options).configure_cert(context)
    return context


def bare_identity(key: trustme.Blob, certificate: trustme.Blob) -> ssl.SSLContext:
    """One certificate, whoever has signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with key.tempfile() as key_path, certificate.tempfile() as certificate_path:
        context.load_cert_chain(certificate_path, key_path)
    return context


def self_signed() -> ssl.SSLContext:
    authority = trustme.CA()
    return bare_identity(authority.private_key_pem, authority.cert_pem)


def incomplete_chain() -> ssl.SSLContext:
    leaf = AUTHORITY.create_child_ca().issue_cert("127.0.0.1")
    return bare_identity(leaf.private_key_pem, leaf.cert_chain_pems[0])


def for_certified_clients() -> ssl.SSLContext:
    context = identity("127.0.0.1")
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


GOOD = identity("127.0.0.1", "localhost", "kiwoom.test", "kiwoom.invalid")
NOW, YEAR = datetime.now(UTC), timedelta(days=365)


# What the far side does to a connection

Step = Callable[[socket.socket, "FarSide"], None]


def hears(connection: socket.socket, far: "FarSide") -> None:
    """Reads a request."""
    request = _read_request(connection)
    (far.heard if isinstance(connection, ssl.SSLSocket) else far.overheard).append(request)


def takes(connection: socket.socket, _far: "FarSide") -> None:
    """Reads whatever comes: the ClientHello of TLS."""
    connection.recv(65536)


def sends(*pieces: bytes) -> Step:
    def step(connection: socket.socket, _far: "FarSide") -> None:
        for piece in pieces:
            connection.sendall(piece)

    return step


def hangs(connection: socket.socket, _far: "FarSide") -> None:
    """Says nothing more until the client has gone."""
    while connection.recv(65536):
        pass


def half_closes(connection: socket.socket, far: "FarSide") -> None:
    connection.shutdown(socket.SHUT_WR)
    hangs(connection, far)


def resets(connection: socket.socket, _far: "FarSide") -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def floods(connection: socket.socket, _far: "FarSide") -> None:
    while True:
        connection.sendall(b" " * 65536)


def drips(drop: bytes = b"x") -> Step:
    """Sends a little every now and then, until the client has gone."""

    def step(connection: socket.socket, _far: "FarSide") -> None:
        connection.settimeout(0.02)  # the pace
        while True:
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    return
            connection.sendall(drop)

    return step


def secured(context: ssl.SSLContext, *steps: Step) -> Step:
    """TLS; a client that does not like it may say so before the connection is closed."""

    def step(connection: socket.socket, far: "FarSide") -> None:
        with (
            connection.dup() as raw,
            context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls,
        ):
            raw.settimeout(PATIENCE)
            try:
                tls.do_handshake()
            except ssl.SSLError:
                hangs(raw, far)
            else:
                for each in steps:
                    each(tls, far)

    return step


TUNNEL = (hears, sends(b"HTTP/1.1 200 Connection established\r\n\r\n"))


def answers_well(connection: socket.socket, far: "FarSide") -> None:
    request = _read_request(connection)
    if request.startswith(b"POST /oauth2/token "):
        far.good_issues += 1
        connection.sendall(plain_answer(yes(token=TOKEN), "200 OK", DATE))
    elif request:
        far.bearers += re.findall(r"(?im)^authorization: (.+?)\r$", request.decode())
        connection.sendall(plain_answer(b'{"return_code": 0}'))


# The table


@dataclass(frozen=True)
class Fault:
    """A row.

    Args:
        name: what happens.
        steps: what the far side does to each connection.
        says: what the error tells of it.
        error: its class.
        retryable: whether the same may work later.
        origin: the ``host`` of the auth object.
        timeout: seconds for the exchange.
        cured: what the far side does when the fault is over.
        address: where the far side listens.
        queue: how many connections may wait to be accepted; 0: one does, for ever; None: it does not listen.
        settings: environment variables.
        mistakes: environment variables that are amended when the fault is over.
        any_client: whether it is one for a ``client=`` of the user's too.
    """

    name: str
    steps: tuple[Step, ...]
    says: str
    error: type[KiwoomAuthError] = TokenEndpointUnreachable
    retryable: bool = True
    origin: str = "http://127.0.0.1:{port}"
    timeout: float = 10.0
    cured: tuple[Step, ...] = (answers_well,)
    address: str = "127.0.0.1"
    queue: int | None = 128
    settings: Mapping[str, str] = field(default_factory=dict)
    mistakes: Mapping[str, str] = field(default_factory=dict)
    any_client: bool = True


class FarSide:
    """One address, at which a fault happens until it is cured. A context manager."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._steps = fault.steps
        self._listener = socket.socket(socket.AF_INET6 if ":" in fault.address else socket.AF_INET)
        self._listener.bind((fault.address, 0))
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._waiting: list[socket.socket] = []
        self.heard: list[bytes] = []
        """What came encrypted."""
        self.overheard: list[bytes] = []
        """What came in the clear."""
        self.good_issues = 0
        self.bearers: list[str] = []
        """The ``Authorization`` of the calls that came after the cure."""
        self.port: int = self._listener.getsockname()[1]
        self.origin = fault.origin.format(port=self.port)

    def cure(self) -> None:
        """From now on it answers well."""
        self._steps = self._fault.cured
        for connection in self._waiting:
            connection.close()
        self._listener.listen()
        if not self._serving.is_alive():
            self._serving.start()

    def __enter__(self) -> Self:
        if self._fault.queue is not None:
            self._listener.listen(self._fault.queue)
        if self._fault.queue:
            self._serving.start()
        elif self._fault.queue == 0:
            self._waiting.append(socket.create_connection(self._listener.getsockname()))
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):  # it did not listen
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._waiting:
            connection.close()
        if self._serving.ident is not None:
            self._serving.join(PATIENCE / 2)
            assert not self._serving.is_alive(), "a connection was left open"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):  # the client has gone
                connection.settimeout(PATIENCE)
                for step in self._steps:
                    step(connection, self)


def by_tls(name: str, steps: tuple[Step, ...], says: str, **options: Any) -> Fault:
    options.setdefault("origin", "https://127.0.0.1:{port}")
    return Fault(name, steps, says, cured=(secured(GOOD, answers_well),), **options)


def by_proxy(name: str, steps: tuple[Step, ...], says: str, **options: Any) -> Fault:
    """A fault of the proxy, which is the far side; the origin's name is known to nobody else."""
    return Fault(
        name,
        steps,
        says,
        origin="https://kiwoom.test",
        settings={"HTTPS_PROXY": "http://127.0.0.1:{port}"},
        cured=(*TUNNEL, secured(GOOD, answers_well)),
        **options,
    )


def with_bundle(name: str, path: str, says: str) -> Fault:
    mistakes = {"REQUESTS_CA_BUNDLE": path, "SSL_CERT_FILE": path}
    return by_tls(name, (secured(GOOD, hears),), says, mistakes=mistakes, any_client=False)


def yes(**changes: Any) -> bytes:
    """The JSON of a token, with some fields changed; None leaves a field out."""
    fields = {"return_code": 0, "token": WRONG_TOKEN, "token_type": "bearer", "expires_dt": EXPIRES, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def no(return_code: Any, return_msg: str) -> bytes:
    return json.dumps({"return_code": return_code, "return_msg": return_msg}).encode()


def answered(
    name: str, body: bytes | Answer, says: str, *headers: str, status: str = "200 OK", **options: Any
) -> Fault:
    """A whole answer that is no token."""
    if isinstance(body, Answer):
        headers += tuple(f"{key}: {value}" for key, value in body.headers if key != "Content-Type")
        body, status = body.body, f"{body.status} As Recorded"
    options = {"error": InvalidTokenResponse, "retryable": False} | options
    return Fault(name, (hears, sends(plain_answer(body, status, DATE, *headers))), says, **options)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = plain_answer(yes(), "200 OK", DATE)
HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # a TLS record of 16 KiB, which begins a ServerHello
LOST, LONG = "the connection was lost", "it took too long"
SERVERS = {"error": InvalidTokenResponse, "retryable": True}
"""A fault of the server's."""

NETWORK = [
    Fault("nobody listens", (), "the connection was refused", queue=None),
    Fault(
        "nobody listens at IPv6", (), "the connection was refused",
        queue=None, address="::1", origin="http://[::1]:{port}",
    ),
    Fault("closed at once", (), LOST),
    Fault("closed at once at IPv6", (), LOST, address="::1", origin="http://[::1]:{port}"),
    Fault("reset at once", (resets,), LOST),
    Fault("closed without a word", (hears,), LOST),
    Fault("reset without a word", (hears, resets), LOST),
    Fault("half-closed without a word", (hears, half_closes), LOST),
    Fault("closed in the status line", (hears, sends(b"HTTP/1.1 2")), LOST),
    Fault("closed after the status line", (hears, sends(b"HTTP/1.1 200 OK\r\n")), LOST),
    Fault("closed in a header", (hears, sends(HEAD[:-9])), LOST),
    Fault("closed in the length", (hears, sends(HEAD + b"Content-Length: ")), LOST),
    Fault("closed before the body", (hears, sends(WHOLE.partition(b"{")[0])), LOST),
    Fault("closed in the body", (hears, sends(WHOLE[:-10])), LOST),
    Fault("half-closed in the headers", (hears, sends(HEAD[:-9]), half_closes), LOST),
    Fault("half-closed in the body", (hears, sends(WHOLE[:-10]), half_closes), LOST),
    Fault("reset in the headers", (hears, sends(HEAD), resets), LOST),
    Fault("reset in the body", (hears, sends(WHOLE[:-10]), resets), LOST),
    Fault("closed in a chunk", (hears, sends(CHUNKED, b"40\r\n{")), LOST),
    Fault("closed between chunks", (hears, sends(CHUNKED, b"1\r\n{\r\n")), LOST),
    Fault("a chunk without a size", (hears, sends(CHUNKED, b"xyz\r\n{\r\n")), "check"),
    Fault("two lengths", (hears, sends(HEAD + b"Content-Length: 2, 3\r\n\r\n{}")), "check"),
    Fault("not HTTP", (hears, sends(b"SSH-2.0-OpenSSH_9.6\r\n")), "check"),
    Fault("a header of 1 MiB", (hears, sends(HEAD + b"X: " + b"x" * 2**20 + b"\r\n\r\n")), "check"),
    Fault("ten thousand headers", (hears, sends(HEAD + b"X-Padding: xxxxxx\r\n" * 10_000 + b"\r\n")), "check"),
    Fault("TLS at the http origin", (takes, sends(b"\x15\x03\x03\x00\x02\x02\x0a")), "check"),
    Fault("nobody accepts", (), LONG, queue=0, timeout=SHORT),
    Fault("a black hole", (hears, hangs), LONG, timeout=SHORT),
    Fault(
        "a black hole after the headers", (hears, sends(HEAD + b"Content-Length: 9\r\n\r\n"), hangs), LONG,
        timeout=SHORT,
    ),
    Fault("drips headers", (hears, sends(HEAD + b"X: "), drips()), LONG, timeout=SHORT, any_client=False),
    Fault("drips a body", (hears, sends(HEAD + b"Content-Length: 999999\r\n\r\n{"), drips()), LONG, timeout=SHORT),
    Fault("drips chunks", (hears, sends(CHUNKED), drips(b"1\r\n \r\n")), LONG, timeout=SHORT),
    Fault(
        "drips interim answers", (hears, drips(b"HTTP/1.1 100 Continue\r\n\r\n")), LONG,
        timeout=SHORT, any_client=False,
    ),
    Fault(
        "drips a body without length", (hears, sends(HEAD + b"\r\n"), drips(b" ")), LONG,
        timeout=SHORT, any_client=False,
    ),
    by_tls("a name that nobody knows", (), "the name could not be resolved", origin="https://kiwoom.invalid:{port}"),
]  # fmt: skip

TLS = [
    by_tls("a self-signed certificate", (secured(self_signed(), hears),), "certificate is not trusted"),
    by_tls(
        "an unknown authority", (secured(identity("127.0.0.1", issuer=trustme.CA()), hears),),
        "certificate is not trusted",
    ),
    by_tls("a chain without its middle", (secured(incomplete_chain(), hears),), "certificate is not trusted"),
    by_tls(
        "an expired certificate",
        (secured(identity("127.0.0.1", not_before=NOW - YEAR, not_after=NOW - timedelta(days=1)), hears),), "expired",
    ),
    by_tls(
        "a certificate of next year",
        (secured(identity("127.0.0.1", not_before=NOW + YEAR, not_after=NOW + 2 * YEAR), hears),), "not yet valid",
    ),
    by_tls(
        "a certificate of another name", (secured(identity("elsewhere.example"), hears),), "name",
        origin="https://localhost:{port}",
    ),
    by_tls("a certificate of another address", (secured(identity("127.0.0.2"), hears),), "name"),
    by_tls("a server that wants a certificate", (secured(for_certified_clients(), hears),), "TLS failed"),
    by_tls("plain http at the https origin", (takes, sends(WHOLE)), "TLS failed"),
    by_tls("no cipher in common", (takes, sends(b"\x15\x03\x03\x00\x02\x02\x28"), half_closes), "TLS failed"),
    by_tls("no version in common", (takes, sends(b"\x15\x03\x03\x00\x02\x02\x46"), half_closes), "TLS failed"),
    by_tls("a name that TLS does not know", (takes, sends(b"\x15\x03\x03\x00\x02\x02\x70"), half_closes), "TLS failed"),
    by_tls("not TLS", (takes, sends(b"\x00" * 64), half_closes), "TLS failed"),
    by_tls("closed in the handshake", (takes, half_closes), "TLS failed"),
    by_tls("reset in the handshake", (takes, resets), LOST),
    by_tls("a handshake that hangs", (takes, hangs), LONG, timeout=SHORT),
    by_tls("a handshake that drips", (takes, sends(HANDSHAKE), drips()), LONG, timeout=SHORT, any_client=False),
    by_tls("closed after the handshake", (secured(GOOD, hears),), "check"),
    by_tls("reset after the handshake", (secured(GOOD, hears, resets),), LOST),
    by_tls("encrypted and cut in the body", (secured(GOOD, hears, sends(WHOLE[:-10])),), "check"),
    by_tls("encrypted and silent", (secured(GOOD, hears, hangs),), LONG, timeout=SHORT),
    with_bundle("a bundle that is not there", "/nowhere/ca.pem", "SSL_CERT_FILE"),
    with_bundle("a bundle that is none", __file__, "SSL_CERT_FILE"),
]  # fmt: skip


def refuses(status: str, *headers: str) -> tuple[Step, ...]:
    return (hears, sends(plain_answer(b"<html>no</html>", status, *headers)))


NOT_LET = "the proxy did not let it through"
PROXY = [
    by_proxy("a proxy that wants a login", refuses("407 Who Are You", "Proxy-Authenticate: Basic"), "login"),
    by_proxy(
        "a proxy that knows another login", refuses("407 Who Are You", "Proxy-Authenticate: Basic"), "login",
        mistakes={"HTTPS_PROXY": "http://me:wrong@127.0.0.1:{port}"}, any_client=False,
    ),
    by_proxy("a proxy that forbids", refuses("403 Forbidden"), NOT_LET),
    by_proxy("a proxy that knows no CONNECT", refuses("405 Method Not Allowed"), NOT_LET),
    by_proxy("a proxy that gets nowhere", refuses("502 Bad Gateway"), NOT_LET),
    by_proxy("a proxy that waits in vain", refuses("504 Gateway Timeout"), NOT_LET),
    by_proxy("a portal in place of a proxy", refuses("302 Found", "Location: http://127.0.0.1/login"), NOT_LET),
    by_proxy("a proxy that is not there", (), "proxy", queue=None),
    by_proxy(
        "a proxy whose name nobody knows", (), "proxy",
        mistakes={"HTTPS_PROXY": "http://proxy.invalid:{port}"}, any_client=False,
    ),
    by_proxy(
        "a proxy of an unknown kind", (), "settings cannot be used", retryable=False,
        mistakes={"HTTPS_PROXY": "what://127.0.0.1:{port}"}, any_client=False,
    ),
    by_proxy("a proxy that closes", (hears,), "check"),
    by_proxy("a proxy that resets", (hears, resets), "check"),
    by_proxy("a proxy that speaks no HTTP", (hears, sends(b"SSH-2.0-OpenSSH_9.6\r\n")), "check"),
    by_proxy("a proxy that is a black hole", (hears, hangs), LONG, timeout=SHORT),
    by_proxy(
        "a proxy that drips", (hears, sends(b"HTTP/1.1 200 OK\r\nX: "), drips()), LONG,
        timeout=SHORT, any_client=False,
    ),
    by_proxy("a tunnel that closes", (*TUNNEL, takes, half_closes), "TLS failed"),
    by_proxy("a tunnel that is a black hole", (*TUNNEL, takes, hangs), LONG, timeout=SHORT),
    by_proxy("a tunnel into a web page", (*TUNNEL, takes, sends(WHOLE)), "TLS failed"),
    by_proxy(
        "a proxy that opens TLS", (*TUNNEL, secured(identity("kiwoom.test", issuer=trustme.CA()), hears)),
        "certificate is not trusted",
    ),
]  # fmt: skip

SPACE = b" " * (16 << 20)
USABLE = "the answer to AU10001 (HTTP 200) is not usable"
JSON_OBJECT, TOO_LARGE = "it is not the JSON object expected", "it has more than 1048576 bytes"
ENCODING = "Content-Encoding"
A_TOKEN, AN_EXPIRY = "its token is missing or not", "its expires_dt is missing or not"
ANSWERS = [
    # Which is no JSON object
    answered("empty", b"", JSON_OBJECT),
    answered("truncated JSON", yes()[:-10], JSON_OBJECT),
    answered("JSON and more", yes() + b"{}", JSON_OBJECT),
    answered("HTML", recorded.MAINTENANCE, JSON_OBJECT),
    answered("an array", b"[" + yes() + b"]", JSON_OBJECT),
    answered("a string", json.dumps(WRONG_TOKEN).encode(), JSON_OBJECT),
    answered("null", b"null", JSON_OBJECT),
    answered("duplicate keys", yes()[:-1] + b', "token": "' + WRONG_TOKEN.encode() + b'"}', JSON_OBJECT),
    answered("duplicate keys further down", b'{"a": {"b": 1, "b": 2}, ' + yes()[1:], JSON_OBJECT),
    answered("NaN", b'{"a": NaN, ' + yes()[1:], JSON_OBJECT),
    answered("infinity", b'{"a": -Infinity, ' + yes()[1:], JSON_OBJECT),
    answered("deep nesting", b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", JSON_OBJECT),
    answered("a number of five thousand digits", b'{"a": ' + b"9" * 5000 + b", " + yes()[1:], JSON_OBJECT),
    answered("UTF-16", yes().decode().encode("utf-16"), JSON_OBJECT),
    answered("bytes of no charset", b"\xff\xfe\x00" + yes(), JSON_OBJECT),
    # Which is too large, or encoded
    answered("a byte over 1 MiB", yes() + b" " * (2**20 + 1 - len(yes())), TOO_LARGE),
    Fault("no end", (hears, sends(HEAD + b"\r\n"), floods), TOO_LARGE, InvalidTokenResponse, retryable=False),
    answered("a gzip bomb", gzip.compress(SPACE), TOO_LARGE, "Content-Encoding: gzip"),
    answered("a deflate bomb", zlib.compress(SPACE), TOO_LARGE, "Content-Encoding: deflate"),
    answered("a bomb in a bomb", gzip.compress(gzip.compress(SPACE)), ENCODING, "Content-Encoding: gzip, gzip"),
    answered("gzip that is none", yes(), "cannot be decompressed", "Content-Encoding: gzip"),
    answered("brotli", yes(), ENCODING, "Content-Encoding: br"),
    answered("truncated gzip", gzip.compress(yes())[:-20], USABLE, "Content-Encoding: gzip"),
    # Which has no token
    answered("an empty object", b"{}", A_TOKEN),
    answered("a yes without a token", yes(token=None), A_TOKEN),
    answered("a token that is a number", yes(token=12345), A_TOKEN),
    answered("a token that is a list", yes(token=[WRONG_TOKEN]), A_TOKEN),
    answered("an empty token", yes(token=""), A_TOKEN),
    answered("a token of two lines", yes(token=WRONG_TOKEN + "\r\nX: y"), A_TOKEN),
    answered("a token in Korean", yes(token="토큰"), A_TOKEN),
    answered("a token of 8193 characters", yes(token="x" * 8193), A_TOKEN),
    answered("a token of another type", yes(token_type="mac"), "its token_type is not bearer"),
    answered("a token_type that is a number", yes(token_type=1), "its token_type is not bearer"),
    answered("no expiry", yes(expires_dt=None), AN_EXPIRY),
    answered("an expiry that is a number", yes(expires_dt=20241107083713), AN_EXPIRY),
    answered("an expiry in month 13", yes(expires_dt="20241307083713"), AN_EXPIRY),
    answered("an expiry in the year 0", yes(expires_dt="00001107083713"), AN_EXPIRY),
    answered("a token that died an hour ago", yes(expires_dt="20241106073713"), "would expire in -1.0 hours"),
    answered("a token for a year", yes(expires_dt="20251106083713"), "would expire in 8760.0 hours"),
    answered("a return_code that is true", yes(return_code=True), "its return_code is not a number"),
    answered("a return_code in words", yes(return_code="OK"), "its return_code is not a number"),
    # Whose status says no
    answered("204", b"", JSON_OBJECT, status="204 No Content"),
    *[
        answered(str(status), yes(), "a redirect, which is never", "Location: /elsewhere", status=f"{status} Elsewhere")
        for status in (301, 302, 303, 307, 308)
    ],
    answered("304", b"", "a redirect", status="304 Not Modified"),
    answered("302 at a weekend", recorded.WEEKEND_REDIRECT, "a redirect"),
    answered("400 without a body", b"", "HTTP 400", status="400 Bad Request"),
    answered("401 without a body", b"", "HTTP 401", "WWW-Authenticate: Basic", status="401 Unauthorized"),
    answered("403 with a page", b"<html>a firewall</html>", "HTTP 403", status="403 Forbidden"),
    answered("404 with a token", yes(), "HTTP 404", status="404 Not Found"),
    answered("500 with a page", b"<html>oops</html>", "HTTP 500", status="500 Internal Server Error", **SERVERS),
    answered("500 with a token", yes(), "HTTP 500", status="500 Internal Server Error", **SERVERS),
    answered("500 with 1999", recorded.UNEXPECTED_ERROR, "1999", error=KiwoomAuthError, retryable=True),
    answered("502 without a body", b"", "HTTP 502", status="502 Bad Gateway", **SERVERS),
    answered("503 with Retry-After", b"", "HTTP 503", "Retry-After: 3600", status="503 Service Unavailable", **SERVERS),
    answered("504 with a page", b"<html>late</html>", "HTTP 504", status="504 Gateway Timeout", **SERVERS),
    answered("999", b"{}", "HTTP 999", status="999 What", **SERVERS),
    answered("429 with a page", b"<html>", "HTTP 429", status="429 Too Many", error=IssueLimitExceeded, retryable=True),
    answered("429 with 1700", recorded.ISSUED_TOO_OFTEN, "1700", error=IssueLimitExceeded, retryable=True),
    # Which says no
    answered("8001", recorded.BAD_KEY_PAIR, "8001", error=CredentialsRejected),
    answered("8030", recorded.WRONG_ENVIRONMENT, "8030", error=CredentialsRejected),
    answered("8010", recorded.TOKEN_OF_OTHER_ADDRESS, "8010", error=AddressRejected),
    answered("8040", recorded.TERMINAL_REFUSED, "8040", error=AddressRejected),
    answered("8050", recorded.ADDRESS_NOT_REGISTERED, "8050", error=AddressRejected),
    answered("8009", recorded.ISSUE_FAILED, "8009", error=KiwoomAuthError, retryable=True),
    answered("8011", recorded.refusal(8011, return_code=2), "8011", error=KiwoomAuthError),
    answered("a code that nobody knows", no(3, "안 됩니다[4711:모름]"), "4711", error=KiwoomAuthError),
    answered("a return_code alone", no(3, "안 됩니다"), "return_code 3", error=KiwoomAuthError),
    answered("a no with a token", yes(return_code=3), "return_code 3", error=KiwoomAuthError),
    answered("a return_code of 4000 digits", no(10**4000, "no"), "return_code is not a number"),
    answered(
        "a no that quotes the keys", no(3, f"[8002:{APPKEY}, {SECRETKEY}\r\n{SECRETKEY}]"), "8002",
        error=CredentialsRejected,
    ),
    answered("a no without end", no(3, "[8001:" + "말" * 100_000), "8001", error=CredentialsRejected),
]  # fmt: skip

FAULTS = {fault.name: fault for fault in NETWORK + TLS + PROXY + ANSWERS}
