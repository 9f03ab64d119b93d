"""The WebSocket client that README.rst shows, against the local Kiwoom, as it stands there."""

import asyncio
import contextlib
import json
import logging

import pytest

from kiwoom_auth_plugin import CredentialsRejected, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, recorded

from .test_readme import FILES

websockets = pytest.importorskip("websockets")


@pytest.fixture
def kiwoom(kiwoom_emulator):
    return kiwoom_emulator


@pytest.fixture
def auth(kiwoom):
    return KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})


@pytest.fixture
def client(kiwoom, monkeypatch):
    module = {"__name__": "realtime"}
    exec(compile(FILES["realtime.py"], "realtime.py", "exec"), module)
    monkeypatch.setenv("KIWOOM_WEBSOCKET", kiwoom.websocket.url)
    module["PAUSE"] = 0.0
    return module


@contextlib.asynccontextmanager
async def watching(client, auth):
    trades = asyncio.Queue()
    task = asyncio.create_task(client["watch"](auth, trades))
    try:
        yield trades
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def prices(trades, n):
    return [(await trades.get())["values"]["10"] for _ in range(n)]


async def registered(kiwoom, n=1):
    await asyncio.to_thread(kiwoom.websocket.wait_for, "REG", n)


def push(kiwoom, price):
    assert kiwoom.websocket.push("005930", "0B", {"10": price}) == 1


def logins(kiwoom):
    return [packet.return_code for packet in kiwoom.websocket.packets if packet.trnm == "LOGIN"]


def test_it_logs_in_registers_and_hands_over_what_comes(client, auth, kiwoom):
    async def main():
        async with watching(client, auth) as trades:
            await registered(kiwoom)
            push(kiwoom, "+71500")
            push(kiwoom, "-71400")
            assert await prices(trades, 2) == ["+71500", "-71400"]

    asyncio.run(main())
    assert (logins(kiwoom), kiwoom.issued) == ([0], 1)


def test_it_logs_no_token(client, auth, kiwoom, caplog):
    caplog.set_level(logging.DEBUG)

    async def main():
        async with watching(client, auth):
            await registered(kiwoom)

    asyncio.run(main())
    assert caplog.records
    assert auth.get_token() not in caplog.text


def test_it_echoes_each_ping(client, auth, kiwoom):
    async def main():
        async with watching(client, auth):
            await registered(kiwoom)
            for _ in range(2):
                kiwoom.websocket.ping()
            await asyncio.to_thread(kiwoom.websocket.wait_for, "PING", 2)

    asyncio.run(main())
    assert [packet.fields for packet in kiwoom.websocket.packets if packet.trnm == "PING"] == [{"trnm": "PING"}] * 2


def test_a_dead_token_is_replaced_and_the_login_repeated(client, auth, kiwoom):
    dead = auth.get_token()
    kiwoom.revoke_tokens()

    async def main():
        async with watching(client, auth) as trades:
            await registered(kiwoom)
            push(kiwoom, "+1")
            assert await prices(trades, 1) == ["+1"]

    asyncio.run(main())
    assert (logins(kiwoom), kiwoom.issued) == ([805004, 0], 2)
    assert auth.get_token() != dead


def test_a_lost_line_is_connected_again(client, auth, kiwoom):
    async def main():
        async with watching(client, auth) as trades:
            await registered(kiwoom)
            push(kiwoom, "+1")
            assert await prices(trades, 1) == ["+1"]
            kiwoom.websocket.drop()
            await registered(kiwoom, 2)
            push(kiwoom, "+2")
            assert await prices(trades, 1) == ["+2"]

    asyncio.run(main())
    assert (logins(kiwoom), kiwoom.issued) == ([0, 0], 1)


def test_a_server_that_is_away_is_tried_again(client, auth, kiwoom):
    url = kiwoom.websocket.url
    auth.get_token()
    kiwoom.stop()
    client["PAUSE"] = 0.05

    async def main():
        async with watching(client, auth) as trades:
            with pytest.raises(OSError):  # noqa: PT011 - refused, as the platform says it
                await websockets.connect(url)
            kiwoom.start()
            await registered(kiwoom)
            push(kiwoom, "+1")
            assert await prices(trades, 1) == ["+1"]

    asyncio.run(main())


def test_a_silent_line_is_connected_again(client, auth, kiwoom):
    client["SILENCE"] = 0.2

    async def main():
        async with watching(client, auth):
            await registered(kiwoom, 2)

    asyncio.run(main())
    assert kiwoom.issued == 1


def test_a_server_that_refuses_its_own_token_is_not_asked_for_ever(client, auth, kiwoom):
    kiwoom.websocket.refuse_logins(100)
    with pytest.raises(RuntimeError, match="CODE=8005"):
        asyncio.run(client["watch"](auth, asyncio.Queue()))
    assert len(logins(kiwoom)) == 3
    assert kiwoom.issued <= 3


def test_an_issue_that_may_succeed_later_is_tried_again_and_another_is_not(client, kiwoom):
    auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={}, timeout=0.4)
    client["PAUSE"] = 0.05
    kiwoom.script("/oauth2/token", Answer(status=503), recorded.MAINTENANCE, recorded.BAD_KEY_PAIR)
    with pytest.raises(CredentialsRejected):
        asyncio.run(client["watch"](auth, asyncio.Queue()))
    assert [call.code for call in kiwoom.calls("au10001")] == [None, None, 8001]


@pytest.mark.parametrize("host", ["https://api.kiwoom.com", "https://mockapi.kiwoom.com"])
def test_the_token_goes_to_the_websocket_of_its_own_host(client, host):
    auth = KiwoomBearerAuth("an-appkey", "a-secretkey", host=host)
    assert client["websocket_of"](auth) == f"wss://{host.removeprefix('https://')}:10000/api/dostk/websocket"


def test_a_local_kiwoom_without_its_websocket_is_told(client, monkeypatch):
    monkeypatch.delenv("KIWOOM_WEBSOCKET")
    with pytest.raises(RuntimeError, match="KIWOOM_WEBSOCKET is not set"):
        client["websocket_of"](KiwoomBearerAuth("an-appkey", "a-secretkey", host="http://127.0.0.1:1"))


def test_two_programs_with_one_appkey_do_not_put_each_other_out_for_ever(client, auth, kiwoom):
    async def main():
        first = asyncio.create_task(client["watch"](auth, asyncio.Queue()))
        await registered(kiwoom)
        async with watching(client, auth) as trades:
            with pytest.raises(RuntimeError, match="동일한 App key"):
                await first
            await registered(kiwoom, 2)
            push(kiwoom, "+1")
            assert await prices(trades, 1) == ["+1"]

    asyncio.run(main())
    assert (logins(kiwoom), kiwoom.issued) == ([0, 0], 1)


def test_a_redirect_leads_the_token_nowhere(client, auth, kiwoom, monkeypatch):
    asked, seen = asyncio.Event(), []

    def redirect(line, _request):
        answer = line.respond(307, "")
        answer.headers["Location"] = kiwoom.websocket.url  # another one, which would take the token
        if seen:
            asked.set()
        seen.append(answer)
        return answer

    async def main():
        async with websockets.serve(lambda _line: None, "127.0.0.1", 0, process_request=redirect) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("KIWOOM_WEBSOCKET", f"ws://127.0.0.1:{port}")
            async with watching(client, auth):
                await asyncio.wait_for(asked.wait(), 30)

    asyncio.run(main())
    assert kiwoom.websocket.packets == []
    assert kiwoom.issued == 0


def test_each_spelling_of_yes_is_one_and_what_is_no_packet_ends_nothing(client, auth, kiwoom, monkeypatch, caplog):
    answers = [
        ["no JSON"],
        [{"trnm": "LOGIN", "return_code": "0"}, {"trnm": "REG", "return_code": "0000", "return_msg": ""}],
        [
            {"trnm": "LOGIN"},
            {"trnm": "SYSTEM", "code": "R99999", "message": "점검 예정"},
            {"trnm": "REAL", "data": ["row"]},
        ],
    ]

    async def serve(line):
        await line.recv()
        for answer in answers.pop(0):
            await line.send(answer if isinstance(answer, str) else json.dumps(answer))
        await line.recv()

    async def main():
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("KIWOOM_WEBSOCKET", f"ws://127.0.0.1:{port}")
            async with watching(client, auth) as trades:
                assert await trades.get() == "row"

    asyncio.run(main())
    assert "no JSON" not in caplog.text
    assert kiwoom.issued == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [({"return_code": 805002}, "805002"), ({"return_code": "1", "return_msg": "안 됩니다"}, "안 됩니다")],
)
def test_a_login_that_is_refused_for_another_reason_is_an_error(client, auth, monkeypatch, answer, words):
    async def serve(line):
        await line.recv()
        await line.send(json.dumps({"trnm": "LOGIN", **answer}))
        await line.wait_closed()

    async def main():
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("KIWOOM_WEBSOCKET", f"ws://127.0.0.1:{port}")
            await client["watch"](auth, asyncio.Queue())

    with pytest.raises(RuntimeError, match=words):
        asyncio.run(main())


def test_a_registration_that_is_refused_is_an_error(client, auth, kiwoom):
    client["REGISTER"] = {"trnm": "NONESUCH"}
    with pytest.raises(RuntimeError, match="TRNM=NONESUCH"):
        asyncio.run(client["watch"](auth, asyncio.Queue()))
