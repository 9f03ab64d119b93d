"""The local Kiwoom as an HTTP server: framing, broken answers, TLS."""

import contextlib
import itertools
import json
import os
import socket
import ssl
import struct

import httpx
import pytest
import requests
import trustme
from hypothesis import given
from hypothesis import strategies as st

from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded
from kiwoom_auth_plugin.testing._http import MAX_BODY, MAX_HEAD, MalformedRequest, RequestParser

TR = "/api/dostk/stkinfo"
GET = b"GET /x HTTP/1.1\r\nHost: kiwoom\r\n"


def parse(pieces):
    """What a parser makes of a stream that comes in these pieces."""
    parser, found = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        try:
            while (request := parser.next_request()) is not None:
                found.append(request)
        except MalformedRequest as error:
            return [*found, error.status]
    return found


def connect(emulator):
    return socket.create_connection(("127.0.0.1", emulator.port), timeout=30)


def read_all(peer):
    received = b""
    while piece := peer.recv(65536):
        received += piece
    return received


def exchange(emulator, sent):
    """Everything the server says to these bytes, until it closes."""
    with connect(emulator) as peer:
        peer.sendall(sent)
        return read_all(peer)


def request(body=b"{}", *, path=TR, more=b""):
    head = f"POST {path} HTTP/1.1\r\nHost: kiwoom\r\nContent-Length: {len(body)}\r\n".encode()
    return head + more + b"\r\n" + body


@pytest.fixture
def kiwoom():
    with KiwoomEmulator() as emulator:
        yield emulator


# The parser

names = st.text("abcXYZ-019!", min_size=1, max_size=8).map("x-{}".format)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\xa0\x85"), max_size=12)
values = values.filter(lambda value: not any(0x7F <= ord(letter) <= 0x9F for letter in value))
bodies = st.binary(max_size=60)


@st.composite
def wires(draw):
    """A well-formed request: its bytes, and what should be read from them."""
    headers = draw(st.dictionaries(names, values, max_size=3).filter(lambda d: len({n.lower() for n in d}) == len(d)))
    body = draw(bodies)
    head = "POST /a?b HTTP/1.1\r\nHost: h\r\n"
    head += "".join(f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value} \r\n" for name, value in headers.items())
    expected = {"host": "h"} | {name.lower(): value for name, value in headers.items()}
    if draw(st.booleans()):
        head += f"Content-Length: {len(body)}\r\n\r\n"
        expected["content-length"] = str(len(body))
        return head.encode("latin-1") + body, (expected, body)
    head += "Transfer-Encoding: chunked\r\n\r\n"
    expected["transfer-encoding"] = "chunked"
    wire, rest = head.encode("latin-1"), body
    while rest:
        size = draw(st.integers(1, len(rest)))
        extension = draw(st.sampled_from([b"", b";a=b", b' ; q="x"']))
        wire += b"%x%s\r\n%s\r\n" % (size, extension, rest[:size])
        rest = rest[size:]
    return wire + b"0\r\n" + draw(st.sampled_from([b"", b"t: 1\r\n"])) + b"\r\n", (expected, body)


def cut_up(draw, wire):
    points = sorted(draw(st.sets(st.integers(0, len(wire)), max_size=12)))
    return [wire[a:b] for a, b in itertools.pairwise([0, *points, len(wire)])]


@given(st.data(), st.lists(wires(), min_size=1, max_size=3))
def test_a_stream_gives_the_same_requests_however_its_bytes_arrive(data, sent):
    wire = b"".join(bytes_ for bytes_, _ in sent)
    found = parse(cut_up(data.draw, wire))
    assert [(request.headers, request.body) for request in found] == [expected for _, expected in sent]
    assert parse([wire]) == parse(wire[i : i + 1] for i in range(len(wire))) == found
    assert all((each.method, each.path, each.query, each.keep_alive) == ("POST", "/a", "b", True) for each in found)


@given(st.data(), wires())
def test_a_damaged_stream_is_judged_alike_however_its_bytes_arrive(data, sent):
    wire = sent[0]
    at = data.draw(st.integers(0, len(wire)))
    wrong = data.draw(st.sampled_from([b"\x00", b"\n", b"\r", b" ", b":", b"\r\n", b"f", b"\xff"]))
    wire = wire[:at] + wrong + wire[at + data.draw(st.integers(0, 2)) :]
    assert parse(cut_up(data.draw, wire)) == parse([wire])


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /x HTTP/1.1\n", 400),
        (b"GET /x\r\n\r\n", 400),
        (b"GET  /x HTTP/1.1\r\n\r\n", 400),
        (b"GET http://kiwoom/x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x#y HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/2.0\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n\r\n", 400),
        (GET + b"Host: twice\r\n\r\n", 400),
        (GET + b"no colon\r\n\r\n", 400),
        (GET + b"space : x\r\n\r\n", 400),
        (GET + b"a: b\r\n folded\r\n\r\n", 400),
        (GET + b"a: b\x00\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (GET + b"Content-Length: -1\r\n\r\n", 400),
        (GET + b"Content-Length: +1\r\n\r\n", 400),
        (GET + b"Content-Length: \xb2\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (GET + b"Expect: miracles\r\n\r\n", 417),
        (GET + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (GET + b"Content-Length: 9999999999999999999999\r\n\r\n", 413),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (MAX_BODY + 1), 413),
        (GET + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n1;\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        pytest.param(GET + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 1024, 400, id="endless chunk size"),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n", 400),
        pytest.param(GET + b"x: " + b"y" * MAX_HEAD, 431, id="endless head"),
        pytest.param(GET + b"x: " + b"y" * MAX_HEAD + b"\r\n\r\n", 431, id="large head"),
    ],
)
def test_what_is_not_http_is_refused_and_written_down(kiwoom, wire, status):
    answer = exchange(kiwoom, wire)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in answer
    (call,) = kiwoom.journal
    assert (call.status, call.method, call.path, call.api) == (status, "", "", "")
    assert len(call.violations) == 1


def test_the_largest_body_is_accepted(kiwoom):
    answer = exchange(kiwoom, request(b"x" * MAX_BODY, more=b"Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(kiwoom.journal[0].body) == MAX_BODY


def test_a_body_that_is_too_large_is_refused_while_the_client_is_still_sending(kiwoom):
    response = requests.post(kiwoom.url + TR, data=b"x" * (4 * MAX_BODY), timeout=30)
    assert response.status_code == 413
    assert response.headers["Connection"] == "close"


def test_repeated_headers_are_joined(kiwoom):
    exchange(kiwoom, request(more=b"x-a: 1\r\nX-A: 2\r\nConnection: close\r\n"))
    assert kiwoom.journal[0].headers["x-a"] == "1, 2"


# Connections


def test_a_connection_serves_many_requests(kiwoom):
    with requests.Session() as session:
        for _ in range(3):
            assert session.post(kiwoom.url + TR, json={}, timeout=30).status_code == 200
    assert len({call.connection for call in kiwoom.journal}) == 1


def test_pipelined_requests_are_answered_in_order(kiwoom):
    kiwoom.script(TR, *(Answer.json({"n": n}) for n in range(50)))
    answers = exchange(kiwoom, request() * 49 + request(more=b"Connection: close\r\n"))
    bodies = [part.split(b"\r\n\r\n")[1] for part in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [json.loads(body)["n"] for body in bodies] == list(range(50))
    assert [call.number for call in kiwoom.journal] == list(range(1, 51))


def test_a_slow_answer_holds_back_those_behind_it(kiwoom):
    kiwoom.script(TR, Answer.json({"n": 1}, delay=0.001, drip=0.0), Answer.json({"n": 2}))
    answers = exchange(kiwoom, request() + request(more=b"Connection: close\r\n"))
    assert answers.index(b'{"n": 1}') < answers.index(b'{"n": 2}')


@pytest.mark.parametrize("wire", [request(more=b"Connection: Close\r\n"), request().replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_the_connection_is_closed_when_the_client_wants_that(kiwoom, wire):
    answer = exchange(kiwoom, wire)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer


def test_what_follows_a_last_request_is_not_looked_at(kiwoom):
    exchange(kiwoom, request(more=b"Connection: close\r\n") + request())
    assert len(kiwoom.journal) == 1


def test_a_client_that_leaves_within_a_request_is_no_call(kiwoom):
    with connect(kiwoom) as peer:
        peer.sendall(request()[:-1])
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == b""
    assert kiwoom.journal == []


def test_a_client_that_has_said_all_still_gets_its_answer(kiwoom):
    with kiwoom.hold(TR) as gate, connect(kiwoom) as peer:
        peer.sendall(request())
        gate.wait_for(1)
        peer.shutdown(socket.SHUT_WR)
        gate.release()
        assert read_all(peer).startswith(b"HTTP/1.1 200 OK\r\n")


def test_what_is_sent_after_a_refusal_is_swallowed(kiwoom):
    with connect(kiwoom) as peer:
        peer.sendall(b"nonsense\r\n\r\n")
        assert read_all(peer).startswith(b"HTTP/1.1 400 ")
        with contextlib.suppress(OSError):
            peer.sendall(request())
    assert len(kiwoom.journal) == 1


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_client_that_expects_100_continue_gets_it(kiwoom, coding):
    framing = b"Content-Length: 2\r\n" if coding == "length" else b"Transfer-Encoding: chunked\r\n"
    with connect(kiwoom) as peer:
        peer.sendall(b"POST %s HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n%s\r\n" % (TR.encode(), framing))
        assert peer.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in [b"{", b"}"] if coding == "length" else [b"2\r\n", b"{}\r\n0\r\n\r\n"]:
            peer.sendall(piece)
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert kiwoom.journal[0].body == b"{}"


def test_nobody_is_told_to_continue_who_has_already_sent_all(kiwoom):
    answer = exchange(kiwoom, request(more=b"Expect: 100-continue\r\nConnection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


# Broken answers


def broken(kiwoom, answer):
    kiwoom.script(TR, answer)
    return exchange(kiwoom, request())


def test_an_answer_can_be_cut_before_its_first_byte(kiwoom):
    assert broken(kiwoom, Answer.json({}, cut="before")) == b""
    assert kiwoom.journal[0].status == 200


def test_an_answer_can_be_cut_within_its_headers(kiwoom):
    received = broken(kiwoom, Answer.json({}, cut="headers"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in received


def test_an_answer_can_be_cut_in_the_middle_of_its_body(kiwoom):
    head, body = broken(kiwoom, Answer.html("0123456789", cut="body")).split(b"\r\n\r\n")
    assert b"Content-Length: 10" in head
    assert body == b"01234"


def test_a_connection_can_be_reset(kiwoom):
    with pytest.raises(ConnectionResetError):
        broken(kiwoom, Answer.json({}, cut="reset"))


@pytest.mark.parametrize("cut", ["before", "headers", "body", "reset"])
def test_clients_see_a_broken_answer_as_a_connection_error(kiwoom, cut):
    kiwoom.script(TR, Answer.json({"a": "b"}, cut=cut))
    # Not requests: its http.client takes headers that break off for headers that end.
    with pytest.raises(httpx.TransportError):
        httpx.post(kiwoom.url + TR, json={}, timeout=30)


def test_an_issued_token_can_be_lost_on_its_way(kiwoom):
    kiwoom.script("/oauth2/token", Answer.as_usual(cut="body", delay=0.001))
    fields = {"grant_type": "client_credentials", "appkey": kiwoom.appkey, "secretkey": kiwoom.secretkey}
    headers = {"Content-Type": "application/json;charset=UTF-8"}
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.post(kiwoom.url + "/oauth2/token", json=fields, headers=headers, timeout=30)
    assert kiwoom.issued == 1
    again = requests.post(kiwoom.url + "/oauth2/token", json=fields, headers=headers, timeout=30)
    assert again.json()["token"] == kiwoom.token


def test_a_dripping_answer_arrives_whole_in_the_end(kiwoom):
    kiwoom.script(TR, Answer.json({"a": "b"}, drip=0.0))
    assert requests.post(kiwoom.url + TR, json={}, timeout=30).json() == {"a": "b"}


def test_a_client_may_leave_while_its_answer_drips(kiwoom):
    kiwoom.script(TR, Answer.json({"a": "b"}, drip=60.0))
    with connect(kiwoom) as peer:
        peer.sendall(request())
        assert peer.recv(1) == b"H"
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
    assert requests.post(kiwoom.url + TR, json={}, timeout=30).status_code == 200


# TLS


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with KiwoomEmulator(tls=context) as emulator:
        yield emulator


def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_https_is_served_with_the_given_certificate(secure, authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert secure.url == f"https://127.0.0.1:{secure.port}"
    with requests.Session() as session:
        session.verify = str(tmp_path / "ca.pem")
        for _ in range(2):
            response = session.post(secure.url + TR, json={"a": "x" * 200_000}, timeout=30)
            assert response.json()["return_code"] == 2
    assert len({call.connection for call in secure.journal}) == 1


def test_a_client_that_does_not_trust_the_certificate_sends_nothing(secure):
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(secure.url + TR, json={}, timeout=30)
    assert secure.journal == []


def test_plain_http_is_not_served_on_a_tls_port(secure):
    answer = exchange(secure, request())
    assert b"HTTP/1.1" not in answer
    assert secure.journal == []


def test_a_client_may_say_goodbye_in_tls(secure, authority):
    with connect(secure) as raw, trusting(authority).wrap_socket(raw, server_hostname="127.0.0.1") as peer:
        peer.sendall(request())
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):  # the server closes without a goodbye of its own
            peer.unwrap()


def test_a_client_may_leave_without_a_goodbye_in_tls(secure, authority):
    with connect(secure) as raw, trusting(authority).wrap_socket(raw, server_hostname="127.0.0.1") as peer:
        peer.sendall(request()[:-1])
    with connect(secure) as raw, trusting(authority).wrap_socket(raw, server_hostname="127.0.0.1") as peer:
        peer.sendall(request())
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("cut", ["before", "body", "reset"])
def test_answers_break_under_tls_too(secure, authority, tmp_path, cut):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    secure.script(TR, Answer.json({"a": "b"}, cut=cut))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.post(secure.url + TR, json={}, timeout=30, verify=str(tmp_path / "ca.pem"))


def test_what_is_not_http_is_refused_under_tls_too(secure, authority):
    with connect(secure) as raw, trusting(authority).wrap_socket(raw, server_hostname="127.0.0.1") as peer:
        peer.sendall(b"nonsense\r\n\r\n")
        assert peer.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_redirect_leads_where_it_says(kiwoom):
    kiwoom.script(TR, recorded.WEEKEND_REDIRECT)
    response = requests.post(kiwoom.url + TR, json={}, timeout=30)
    assert response.history[0].status_code == 302
    assert response.status_code == 404
    assert kiwoom.journal[1].path == "/error.html"
