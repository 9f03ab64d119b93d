"""The local Kiwoom starts and stops cleanly, and holds requests back on demand."""

import contextlib
import gc
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator

TR = "/api/dostk/stkinfo"


def connect(emulator):
    return socket.create_connection(("127.0.0.1", emulator.port), timeout=30)


def request(path=TR):
    return f"POST {path} HTTP/1.1\r\nHost: kiwoom\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def ask(emulator, path=TR):
    with connect(emulator) as peer:
        peer.sendall(request(path))
        return peer.recv(65536)


def is_gone(emulator):
    gc.collect()  # what was left open would warn here, and warnings are errors
    names = [thread.name for thread in threading.enumerate()]
    with pytest.raises(OSError), connect(emulator):  # noqa: PT011 - refused or reset, as the platform likes
        pass
    return f"KiwoomEmulator-{emulator.port}" not in names


@pytest.fixture
def kiwoom():
    with KiwoomEmulator() as emulator:
        yield emulator


# Start and stop


def test_starting_and_stopping_twice_is_starting_and_stopping():
    kiwoom = KiwoomEmulator()
    kiwoom.stop()
    kiwoom.start()
    url = kiwoom.url
    kiwoom.start()
    assert kiwoom.url == url
    assert ask(kiwoom).startswith(b"HTTP/1.1 200 OK\r\n")
    kiwoom.stop()
    kiwoom.stop()
    assert is_gone(kiwoom)


def test_a_stopped_emulator_comes_back_at_the_same_place_with_its_memory():
    with KiwoomEmulator() as kiwoom:
        url = kiwoom.url
        ask(kiwoom)
    assert kiwoom.url == url
    with kiwoom:
        assert kiwoom.url == url
        ask(kiwoom)
    assert [call.number for call in kiwoom.journal] == [1, 2]


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(kiwoom):
    other = KiwoomEmulator(port=kiwoom.port)
    with pytest.raises(OSError):  # noqa: PT011 - the number differs between platforms
        other.start()
    assert other.url == kiwoom.url
    other.stop()
    gc.collect()


def test_ipv6_is_served():
    try:
        kiwoom = KiwoomEmulator(host="::1")
        kiwoom.start()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with kiwoom:
        assert kiwoom.url == f"http://[::1]:{kiwoom.port}"
        with socket.create_connection(("::1", kiwoom.port), timeout=30) as peer:
            peer.sendall(request())
            assert peer.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_stopping_drops_idle_connections(kiwoom):
    with connect(kiwoom) as peer:
        peer.sendall(request())
        assert peer.recv(65536)
        kiwoom.stop()
        with contextlib.suppress(ConnectionError):
            assert peer.recv(1) == b""
    assert is_gone(kiwoom)


@pytest.mark.parametrize(
    "answer", [Answer.json({}, delay=3600), Answer.json({}, drip=3600), Answer.json({}), Answer.json({}, cut="reset")]
)
def test_stopping_ends_answers_under_way(kiwoom, answer):
    kiwoom.script(TR, answer)
    gate = kiwoom.hold(TR)
    with connect(kiwoom) as peer:
        peer.sendall(request())
        gate.wait_for(1)
        gate.release()  # judged on the server's thread before it gets to stopping
        kiwoom.stop()
    assert len(kiwoom.journal) == 1
    assert is_gone(kiwoom)


def test_stopping_drops_parked_requests(kiwoom):
    gate = kiwoom.hold(TR)
    with connect(kiwoom) as peer:
        peer.sendall(request())
        gate.wait_for(1)
        kiwoom.stop()
        assert gate.parked == 0
    with pytest.raises(RuntimeError, match="stopped"):
        gate.wait_for(1)
    gate.release()
    assert kiwoom.journal == []
    assert is_gone(kiwoom)


def test_stopping_wakes_those_who_wait_at_a_gate(kiwoom):
    gate = kiwoom.hold()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(gate.wait_for, 1)
        kiwoom.stop()
        with pytest.raises(RuntimeError, match="stopped while 1 requests to /oauth2/token were awaited"):
            waiting.result()


def test_a_release_that_comes_while_the_server_stops_is_too_late(kiwoom):
    gate = kiwoom.hold(TR)
    with connect(kiwoom) as peer:
        peer.sendall(request())
        gate.wait_for(1)
        kiwoom._desk.gates.clear()  # as if the release had begun just before
        kiwoom.stop()
        gate.release()
    assert kiwoom.journal == []


def test_stopping_does_not_mind_half_a_request_or_half_a_handshake():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    for kiwoom, beginning in [(KiwoomEmulator(), b"POST /"), (KiwoomEmulator(tls=context), b"\x16\x03\x01")]:
        with kiwoom:
            for number in range(5):
                stack = contextlib.ExitStack()
                with stack:
                    peers = [stack.enter_context(connect(kiwoom)) for _ in range(number)]
                    for peer in peers:
                        peer.sendall(beginning)
                    kiwoom.stop()
                assert is_gone(kiwoom)
                kiwoom.start()


def test_an_emulator_can_be_stopped_from_any_thread(kiwoom):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: kiwoom.stop(), range(8)))
    assert is_gone(kiwoom)


def test_an_emulator_started_within_a_running_loop_serves_it():
    import asyncio

    async def main():
        with KiwoomEmulator() as kiwoom:
            reader, writer = await asyncio.open_connection("127.0.0.1", kiwoom.port)
            writer.write(request())
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert asyncio.run(main()) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_can_just_exit():
    code = (
        "import os, socket, sys\n"
        "from kiwoom_auth_plugin.testing import KiwoomEmulator\n"
        "with KiwoomEmulator() as kiwoom:\n"
        "    gate = kiwoom.hold('/x')\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        sys.exit(7)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "    with socket.create_connection(('127.0.0.1', kiwoom.port), timeout=30) as peer:\n"
        "        peer.sendall(b'GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n')\n"
        "        assert peer.recv(65536).startswith(b'HTTP/1.1 404 ')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_thousand_connections_at_once_are_served(kiwoom):
    resource = pytest.importorskip("resource", reason="a POSIX limit")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2200:
        pytest.skip("too few file descriptors allowed")
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(kiwoom.hold(TR))
        peers = [stack.enter_context(connect(kiwoom)) for _ in range(1000)]
        for peer in peers:
            peer.sendall(request())
        gate.wait_for(1000)
        gate.release()
        assert all(peer.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n") for peer in peers)
    assert len({call.connection for call in kiwoom.journal}) == 1000


# Gates


def test_a_gate_parks_requests_unjudged_until_it_is_released(kiwoom):
    with ThreadPoolExecutor() as pool, kiwoom.hold(TR) as gate:
        answers = [pool.submit(ask, kiwoom) for _ in range(3)]
        gate.wait_for(3)
        assert gate.parked == 3
        assert kiwoom.journal == []
        assert repr(gate) == f"Gate('{TR}', parked=3, open=False)"
        gate.release()
        assert all(answer.result().startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
        assert ask(kiwoom)
        assert gate.parked == 0


def test_leaving_the_block_releases(kiwoom):
    with ThreadPoolExecutor() as pool:
        with kiwoom.hold(TR) as gate:
            answer = pool.submit(ask, kiwoom)
            gate.wait_for(1)
        assert answer.result()


def test_requests_are_released_one_by_one_in_order_of_arrival(kiwoom):
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(kiwoom.hold("/api/dostk/"))
        peers = []
        for n in range(3):
            peers.append(stack.enter_context(connect(kiwoom)))
            peers[n].sendall(request(f"/api/dostk/g{n}"))
            gate.wait_for(n + 1)
        gate.release(1)
        assert peers[0].recv(65536)
        assert gate.parked == 2
        gate.release(2)
        assert peers[1].recv(65536)
        assert peers[2].recv(65536)
    assert [call.path for call in kiwoom.journal] == [f"/api/dostk/g{n}" for n in range(3)]


def test_a_pass_is_kept_for_a_request_to_come(kiwoom):
    with kiwoom.hold(TR) as gate:
        gate.release(1)
        assert ask(kiwoom)
        with connect(kiwoom) as peer:
            peer.sendall(request())
            gate.wait_for(1)


def test_the_journal_is_in_order_of_arrival_also_when_judged_in_another(kiwoom):
    with connect(kiwoom) as first, kiwoom.hold("/api/dostk/one") as gate:
        first.sendall(request("/api/dostk/one"))
        gate.wait_for(1)
        ask(kiwoom, "/api/dostk/two")
        gate.release()
        assert first.recv(65536)
    assert [call.path for call in kiwoom.journal] == ["/api/dostk/one", "/api/dostk/two"]


def test_a_path_can_be_held_again(kiwoom):
    for _ in range(2):
        with kiwoom.hold(TR) as gate, connect(kiwoom) as peer:
            peer.sendall(request())
            gate.wait_for(1)
            gate.release()
            assert peer.recv(65536)
    assert len(kiwoom.journal) == 2


def test_other_paths_are_not_held(kiwoom):
    with kiwoom.hold():
        assert ask(kiwoom)


def test_a_request_whose_client_left_is_still_judged(kiwoom):
    with kiwoom.hold(TR) as gate:
        with connect(kiwoom) as peer:
            peer.sendall(request())
            gate.wait_for(1)
        ask(kiwoom, "/other")
        assert gate.parked == 1
    ask(kiwoom, "/other")
    assert len(kiwoom.calls(TR)) == 1


def test_a_request_whose_connection_was_reset_is_still_judged(kiwoom):
    with kiwoom.hold(TR) as gate:
        with connect(kiwoom) as peer:
            peer.sendall(request())
            gate.wait_for(1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0))
        for _ in range(2):  # the second is read after the reset was taken note of
            ask(kiwoom, "/other")
    ask(kiwoom, "/other")
    assert len(kiwoom.calls(TR)) == 1


def test_requests_that_do_not_come_are_reported(kiwoom):
    with kiwoom.hold() as gate, pytest.raises(TimeoutError, match="0 of 2 requests to /oauth2/token were parked"):
        gate.wait_for(2, timeout=0.0)
