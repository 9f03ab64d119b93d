"""The flow of httpx, driven by hand: what is sent again, and what the source is told of it."""

import httpx
import pytest

from kiwoom_auth_plugin.testing import KiwoomEmulator

TIMEOUT = {"connect": 1.0, "read": 2.0, "write": 3.0, "pool": 4.0}


@pytest.fixture
def replacing():
    with KiwoomEmulator(reissue="replace") as kiwoom:
        yield kiwoom


@pytest.fixture
def auth(replacing, make_auth):
    return make_auth(emulator=replacing, cache={})


@pytest.fixture
def judged(auth, monkeypatch):
    """What the source is told of replacements."""
    told = []
    judge = auth._source.judge_replacement

    def judge_replacement(token, *, accepted):
        told.append((token.value, accepted))
        return judge(token, accepted=accepted)

    monkeypatch.setattr(
        type(auth._source), "judge_replacement", lambda _self, *args, **kw: judge_replacement(*args, **kw)
    )
    return told


class Flow:
    """The flow of one request: synchronous, or asynchronous and driven in the same way."""

    def __init__(self, auth, request, kind):
        self._flow = auth.sync_auth_flow(request) if kind == "sync" else auth.async_auth_flow(request)
        self._kind = kind

    async def send(self, response):
        try:
            if self._kind == "sync":
                return self._flow.send(response)
            return await self._flow.asend(response)
        except (StopIteration, StopAsyncIteration):
            return None

    async def close(self):
        await self._flow.aclose() if self._kind == "async" else self._flow.close()


def request_to(kiwoom):
    url = f"{kiwoom.url}/api/dostk/stkinfo"
    return httpx.Request("POST", url, json={"stk_cd": "005930"}, extensions={"timeout": TIMEOUT, "of-the-user": "kept"})


REFUSAL = b'{"return_code": 3, "return_msg": "[8005:Token]"}'
JSON = {"content-type": "application/json"}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("answer", [(401, {}, b""), (200, JSON, REFUSAL)], ids=["401", "8005"])
async def test_a_repetition_is_the_same_request_with_another_token_and_the_users_extensions(
    auth, replacing, kind, answer
):
    """Without the time-out among them it could wait for ever."""
    flow = Flow(auth, request_to(replacing), kind)
    first = await flow.send(None)
    signed = first.headers["Authorization"]
    repeated = await flow.send(httpx.Response(answer[0], headers=answer[1], content=answer[2]))
    assert repeated is not first
    assert (repeated.method, repeated.url, repeated.content) == (first.method, first.url, first.content)
    assert repeated.extensions == {"timeout": TIMEOUT, "of-the-user": "kept"}
    assert first.headers["Authorization"] == signed != repeated.headers["Authorization"]
    assert repeated.headers["Authorization"] == f"Bearer {auth.get_token()}"
    assert await flow.send(httpx.Response(200)) is None


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("answer", "accepted"), [((200, {}, b""), True), ((401, {}, b""), False), ((200, JSON, REFUSAL), False)]
)
async def test_the_source_is_told_whether_the_replacement_helped(auth, replacing, judged, kind, answer, accepted):
    flow = Flow(auth, request_to(replacing), kind)
    await flow.send(None)
    repeated = await flow.send(httpx.Response(401))
    token = repeated.headers["Authorization"].removeprefix("Bearer ")
    assert judged == []
    assert await flow.send(httpx.Response(answer[0], headers=answer[1], content=answer[2])) is None
    assert judged == [(token, accepted)]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_refusal_from_where_a_redirect_led_is_shown_as_it_is(auth, replacing, kind):
    """Whatever token the request carried there: another one of ours must not follow it."""
    flow = Flow(auth, request_to(replacing), kind)
    first = await flow.send(None)
    elsewhere = httpx.Request(
        "GET", "https://elsewhere.example", headers={"Authorization": first.headers["Authorization"]}
    )
    assert await flow.send(httpx.Response(401, request=elsewhere)) is None
    assert replacing.issued == 1
