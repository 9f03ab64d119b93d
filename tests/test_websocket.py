"""The local Kiwoom's real-time API on real WebSockets."""

import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import trustme

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator

from .clients import in_time

pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

TRADES = {"trnm": "REG", "grp_no": "1", "refresh": "1", "data": [{"item": ["005930"], "type": ["0B"]}]}


@pytest.fixture
def auth(kiwoom_emulator):
    return KiwoomBearerAuth(kiwoom_emulator.appkey, kiwoom_emulator.secretkey, host=kiwoom_emulator.url, cache={})


@pytest.fixture
def line(kiwoom_emulator):
    with connect(kiwoom_emulator.websocket.url, ping_interval=None) as line:
        yield line


def ask(line, packet):
    line.send(packet if isinstance(packet, str | bytes) else json.dumps(packet))
    return json.loads(line.recv(timeout=30))


def log_in(line, auth):
    return ask(line, {"trnm": "LOGIN", "token": auth.get_token()})


# LOGIN


def test_a_valid_token_logs_in(line, auth):
    assert log_in(line, auth) == {"trnm": "LOGIN", "return_code": 0, "return_msg": "", "sor_yn": "Y"}


def test_a_dead_token_is_refused_as_recorded_and_another_logs_in_on_the_same_connection(line, auth, kiwoom_emulator):
    token = auth.get_token()
    kiwoom_emulator.revoke_tokens()
    answer = ask(line, {"trnm": "LOGIN", "token": token})
    assert answer["return_code"] == 805004
    assert "[CODE=8005, MESSAGE=Token이 유효하지 않습니다]" in answer["return_msg"]
    auth.invalidate(token)
    assert log_in(line, auth)["return_code"] == 0
    assert kiwoom_emulator.issued == 2


def test_logins_are_refused_on_demand_though_the_token_lives(line, auth, kiwoom_emulator):
    kiwoom_emulator.websocket.refuse_logins(2)
    assert [log_in(line, auth)["return_code"] for _ in range(3)] == [805004, 805004, 0]
    assert kiwoom_emulator.issued == 1


def test_a_login_with_a_token_that_is_expired_by_the_servers_clock_is_refused(line, auth, kiwoom_emulator):
    token = auth.get_token()
    kiwoom_emulator.clock.advance(24 * 3600)
    assert ask(line, {"trnm": "LOGIN", "token": token})["return_code"] == 805004


@pytest.mark.parametrize("token", [{}, {"token": ""}, {"token": 5}, {"token": None}])
def test_a_login_without_a_token_has_a_code_of_its_own(line, token):
    assert ask(line, {"trnm": "LOGIN", **token})["return_code"] == 805002


# Other packets


def test_nothing_is_done_before_the_login(line, auth, kiwoom_emulator):
    answer = ask(line, TRADES)
    assert (answer["trnm"], answer["return_code"]) == ("REG", 100013)
    log_in(line, auth)
    assert kiwoom_emulator.websocket.push("005930", "0B", {}) == 0


@pytest.mark.parametrize(
    "packet",
    ["", "[]", "{}", '{"trnm": 5}', "[" * 50_000, b"\xff\xfe"],
    ids=["nothing", "a list", "no name", "a number", "endless lists", "bytes"],
)
def test_what_has_no_name_is_refused(line, packet):
    answer = ask(line, packet)
    assert (answer["trnm"], answer["return_code"]) == ("", 100002)


def test_an_unknown_name_is_refused(line, auth):
    log_in(line, auth)
    assert ask(line, {"trnm": "NONESUCH"})["return_code"] == 105108


def test_data_come_to_those_who_registered_for_them(auth, kiwoom_emulator):
    url = kiwoom_emulator.websocket.url
    for who in ("hynix", "nobody"):
        kiwoom_emulator.add_account(f"appkey-{who}", f"secretkey-{who}")
    with connect(url) as samsung, connect(url) as hynix, connect(url) as nobody:
        log_in(samsung, auth)
        for line, who in ((hynix, "hynix"), (nobody, "nobody")):
            log_in(line, KiwoomBearerAuth(f"appkey-{who}", f"secretkey-{who}", host=kiwoom_emulator.url, cache={}))
        assert ask(samsung, TRADES) == {"trnm": "REG", "return_code": 0, "return_msg": ""}
        ask(hynix, {"trnm": "REG", "data": [{"item": "000660", "type": "0B"}, "nonsense"]})
        assert kiwoom_emulator.websocket.push("005930", "0B", {"10": "-71500"}) == 1
        assert kiwoom_emulator.websocket.push("005930", "0D", {}) == 0
        (row,) = json.loads(samsung.recv(timeout=30))["data"]
        assert (row["item"], row["type"], row["values"]) == ("005930", "0B", {"10": "-71500"})
        assert kiwoom_emulator.websocket.push("000660", "0B", {}) == 1


def test_what_is_no_character_is_none_in_the_answer(line, auth):
    log_in(line, auth)
    assert ask(line, '{"trnm": "\\ud800"}')["return_code"] == 105108


def test_an_appkey_has_one_connection(auth, kiwoom_emulator):
    url = kiwoom_emulator.websocket.url
    with connect(url) as first, connect(url) as second:
        log_in(first, auth)
        ask(first, TRADES)
        assert log_in(second, auth)["return_code"] == 0
        told = json.loads(first.recv(timeout=30))
        assert (told["trnm"], told["code"]) == ("SYSTEM", "R10001")
        assert "동일한 App key" in told["message"]
        with pytest.raises(ConnectionClosed):
            first.recv(timeout=30)
        assert log_in(second, auth)["return_code"] == 0  # once more by the same is no other
        assert kiwoom_emulator.websocket.ping() == 1


def test_one_that_never_reads_holds_nobody_up(auth, kiwoom_emulator, monkeypatch):
    monkeypatch.setattr("kiwoom_auth_plugin.testing._websocket.SEND_TIMEOUT", 0.1)
    kiwoom_emulator.add_account("appkey-b", "secretkey-b")
    other = KiwoomBearerAuth("appkey-b", "secretkey-b", host=kiwoom_emulator.url, cache={})
    url = kiwoom_emulator.websocket.url
    with connect(url, max_queue=1, close_timeout=0.1) as deaf, connect(url) as line:
        for one, whose in ((deaf, auth), (line, other)):
            log_in(one, whose)
            ask(one, TRADES)
        values = {"10": os.urandom(500_000).hex()}  # compressed, it is still long
        reached = []
        while not reached or reached[-1] == 2:
            reached.append(in_time(lambda: kiwoom_emulator.websocket.push("005930", "0B", values)))
            assert json.loads(line.recv(timeout=30))["data"][0]["values"] == values
        assert reached[-1] == 1


def test_a_registration_may_add_replace_and_be_removed(line, auth, kiwoom_emulator):
    def pushed():
        return [kiwoom_emulator.websocket.push(item, "0B", {}) for item in ("005930", "000660")]

    other = {**TRADES, "data": [{"item": ["000660"], "type": ["0B"]}]}
    log_in(line, auth)
    ask(line, TRADES)
    ask(line, other)
    assert pushed() == [1, 1]
    for _ in range(2):
        line.recv(timeout=30)
    ask(line, {**other, "refresh": "0"})
    assert pushed() == [0, 1]
    line.recv(timeout=30)
    assert ask(line, {**other, "trnm": "REMOVE"})["return_code"] == 0
    assert pushed() == [0, 0]
    ask(line, {**TRADES, "data": "nonsense"})
    assert pushed() == [0, 0]


def test_a_ping_goes_to_who_is_logged_in_and_its_echo_is_written_down(line, auth, kiwoom_emulator):
    assert kiwoom_emulator.websocket.ping() == 0
    log_in(line, auth)
    assert kiwoom_emulator.websocket.ping() == 1
    line.send(line.recv(timeout=30))
    kiwoom_emulator.websocket.wait_for("PING")
    assert [(packet.trnm, packet.return_code) for packet in kiwoom_emulator.websocket.packets] == [
        ("LOGIN", 0),
        ("PING", None),
    ]


def test_the_journal_shows_no_token_but_has_it(line, auth, kiwoom_emulator):
    log_in(line, auth)
    (packet,) = kiwoom_emulator.websocket.packets
    assert auth.get_token() not in repr(packet)
    assert packet.fields == {"trnm": "LOGIN", "token": auth.get_token()}
    assert packet.connection == 1


def test_the_endpoint_logs_no_token(auth, kiwoom_emulator, caplog):
    caplog.set_level(logging.DEBUG)
    client = logging.Logger("client")  # noqa: LOG001 - not among those that caplog listens to: it shows what it sends
    with connect(kiwoom_emulator.websocket.url, logger=client, additional_headers={"x": auth.get_token()}) as line:
        log_in(line, auth)
    assert auth.get_token() not in caplog.text


def test_waiting_for_what_does_not_come_ends(kiwoom_emulator):
    with pytest.raises(TimeoutError, match="0 of 1 REG packets"):
        kiwoom_emulator.websocket.wait_for("REG", timeout=0.01)


# Connections


def test_another_path_is_not_found(kiwoom_emulator):
    with pytest.raises(InvalidStatus) as caught, connect(kiwoom_emulator.websocket.url + "s"):
        pass
    assert caught.value.response.status_code == 404


def test_connections_are_cut_on_demand(line, kiwoom_emulator):
    assert kiwoom_emulator.websocket.drop() == 1
    with pytest.raises(ConnectionClosed):
        line.recv(timeout=30)
    with connect(kiwoom_emulator.websocket.url):
        pass


def test_who_is_gone_is_no_reason_to_fail(line, auth, kiwoom_emulator):
    log_in(line, auth)
    line.socket.shutdown(socket.SHUT_RD)
    kiwoom_emulator.websocket.ping()  # whether it is sent or not
    line.socket.close()
    with connect(kiwoom_emulator.websocket.url) as other:
        assert log_in(other, auth)["return_code"] == 0


def test_it_is_not_there_before_somebody_asks_for_it(kiwoom_emulator):
    def threads():
        return [thread.name for thread in threading.enumerate() if "WebSocket" in thread.name]

    assert threads() == []
    assert (kiwoom_emulator.websocket.ping(), kiwoom_emulator.websocket.drop()) == (0, 0)
    assert repr(kiwoom_emulator.websocket) == "WebSocketEndpoint(not started)"
    assert kiwoom_emulator.websocket.url == kiwoom_emulator.websocket.url
    assert len(threads()) == 1
    port = kiwoom_emulator.websocket.url.split(":")[2].split("/")[0]
    assert repr(kiwoom_emulator.websocket) == f"WebSocketEndpoint(port {port})"


def test_it_stops_and_comes_back_with_its_emulator(kiwoom_emulator):
    url = kiwoom_emulator.websocket.url
    with connect(url) as line:
        kiwoom_emulator.stop()
        with pytest.raises(ConnectionClosed):
            line.recv(timeout=30)
    with pytest.raises(RuntimeError, match="start"):
        _ = kiwoom_emulator.websocket.url
    with pytest.raises(OSError), connect(url):  # noqa: PT011 - refused, as the platform says it
        pass
    kiwoom_emulator.start()
    with connect(url):
        assert kiwoom_emulator.websocket.url == url


def test_it_stops_while_somebody_has_not_yet_shaken_hands(kiwoom_emulator):
    port = int(kiwoom_emulator.websocket.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
        with connect(kiwoom_emulator.websocket.url):
            pass  # now the silent one has been accepted too
        kiwoom_emulator.stop()
        assert silent.recv(1024) == b""


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(kiwoom_emulator):
    kiwoom_emulator.websocket.url  # noqa: B018 - asking opens it
    port = kiwoom_emulator.websocket._port
    with KiwoomEmulator() as other:
        other.websocket._port = port
        with pytest.raises(OSError):  # noqa: PT011 - the number differs between platforms
            _ = other.websocket.url
    assert [thread.name for thread in threading.enumerate()].count(f"KiwoomEmulator-WebSocket-{port}") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_forked_child_leaves_the_server_alone():
    code = (
        "import os, sys\n"
        "from websockets.sync.client import connect\n"
        "from kiwoom_auth_plugin.testing import KiwoomEmulator\n"
        "with KiwoomEmulator() as kiwoom:\n"
        "    url = kiwoom.websocket.url\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            kiwoom.websocket.ping()\n"
        "        except RuntimeError as error:\n"
        "            sys.exit(7 if 'was forked' in str(error) else 8)\n"  # and leaves the with statement
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "    with connect(url, open_timeout=30) as line:\n"
        "        line.send('{}')\n"
        "        assert '100002' in line.recv(timeout=30)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_over_tls_and_ipv6():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("::1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with KiwoomEmulator(host="::1", tls=server) as kiwoom:
        assert kiwoom.websocket.url.startswith("wss://[::1]:")
        with connect(kiwoom.websocket.url, ssl=client) as line:
            assert ask(line, {"trnm": "LOGIN", "token": "none"})["return_code"] == 805004


def test_without_the_library_it_says_what_to_install(kiwoom_emulator, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("websockets")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "kiwoom_auth_plugin.testing._websocket", raising=False)
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(ImportError, match=r'pip install "websockets>=15"$'):
        _ = kiwoom_emulator.websocket.url
