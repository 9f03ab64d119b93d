"""One request object that is sent many times, by several at once: an answer is judged by the token that it is to."""

import contextlib
import copy
import io
import pickle
import threading
from functools import partial

import httpx
import pytest
import requests
import requests.adapters
from requests.structures import CaseInsensitiveDict

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, called, raw_server, token_answer
from .crowd import PATIENCE, Crowd
from .test_flow_by_hand import JSON, REFUSAL, Flow, request_to
from .test_plugin_streams import CHUNKED, chunk, head


@pytest.fixture
def replacing():
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


@pytest.fixture
def auth(replacing, make_auth):
    return make_auth(emulator=replacing, cache={})


@pytest.fixture
def other(replacing, make_auth):
    """Of another account."""
    replacing.add_account("another-appkey", "another-secretkey")
    return make_auth(emulator=replacing, cache={}, appkey="another-appkey", secretkey="another-secretkey")


def refusal_of(request):
    return httpx.Response(200, headers=JSON, content=REFUSAL, request=request)


def acceptance_of(request):
    return httpx.Response(200, headers=JSON, content=b'{"return_code": 0}', request=request)


class Late(requests.adapters.HTTPAdapter):
    """Keeps the next answer back each time that it is told to."""

    def __init__(self):
        super().__init__()
        self.gates = []
        self.has_one = threading.Event()

    def hold(self):
        self.has_one.clear()
        self.gates.append(threading.Event())
        return self.gates[-1]

    def send(self, *request, **options):
        gate = self.gates.pop() if self.gates else None
        answer = super().send(*request, **options)
        if gate:
            self.has_one.set()
            assert gate.wait(PATIENCE)
        return answer


def test_the_refusal_of_an_older_token_costs_none_though_the_prepared_request_carries_a_newer_one(auth, replacing):
    """Each time that the token dies, one thread is late with its answer, and another has replaced it meanwhile."""
    with requests.Session() as session:
        late = Late()
        session.mount("http://", late)
        prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare())
        crowds, gates = [], []
        for issued in (2, 3, 4):
            replacing.revoke_tokens()
            gates.append(late.hold())
            crowds.append(Crowd())
            crowds[-1].threads(1, lambda: session.send(prepared))
            crowds[-1].go()
            assert late.has_one.wait(PATIENCE)
            assert called(session.send(prepared))
            assert replacing.issued == issued
        for gate in gates:
            gate.set()
        assert [called(answer) for crowd in crowds for answer in crowd.outcomes()] == [True] * 3
    assert replacing.issued == 4


def test_ours_is_the_first_hook_of_a_prepared_request_whoever_registered_one_before(auth, replacing):
    """A hook of the user's sees the answer that counts, and may raise at a refusal, however often it was replaced."""
    seen = []
    prepared = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
    prepared.register_hook("response", lambda answer, **_send: seen.append(called(answer)))
    auth(auth(prepared))
    with requests.Session() as session:
        for _ in range(3):
            replacing.revoke_tokens()
            session.send(prepared)
    assert seen == [True] * 3
    assert len(prepared.hooks["response"]) == 2


def test_copies_of_a_prepared_request_have_an_account_each(other, auth, replacing):
    """PreparedRequest.copy shares the hooks: an order must not be repeated on the account of another copy."""
    order = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
    first, second = auth(order.copy()), other(order.copy())
    replacing.revoke_tokens()
    with requests.Session() as session:
        assert called(session.send(first))
        assert called(session.send(second))
    tokens = [one.get_token() for one in (auth, other)]
    assert [call.token for call in replacing.calls("ka10001") if call.return_code == 0] == tokens
    assert replacing.issued == 4


def test_one_prepared_request_that_is_signed_anew_for_each_call_is_judged_by_what_was_sent(auth, replacing):
    with requests.Session() as session:
        late = Late()
        session.mount("http://", late)
        prepared = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
        auth(prepared)
        replacing.revoke_tokens()
        gate, crowd = late.hold(), Crowd()
        crowd.threads(1, lambda: session.send(prepared))
        crowd.go()
        assert late.has_one.wait(PATIENCE)
        for _ in range(2):
            assert called(session.send(auth(prepared)))
        gate.set()
        assert [called(answer) for answer in crowd.outcomes()] == [True]
    assert replacing.issued == 2


def test_a_token_that_was_put_in_by_hand_is_what_was_refused_and_another_accounts_is_not_replaced(auth, replacing):
    with requests.Session() as session:
        prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare())
        prepared.register_hook("response", lambda answer, **_send: answer)
        replacing.revoke_tokens()
        assert called(session.send(prepared))
        prepared.headers["Authorization"] = "Bearer of-another-account"
        assert not called(session.send(prepared))
        assert replacing.issued == 2
        auth.invalidate(auth.get_token())
        prepared.headers["Authorization"] = f"Bearer {auth.get_token()}"
        replacing.revoke_tokens()
        assert called(session.send(prepared))
    assert replacing.issued == 4


@pytest.mark.parametrize("refusal", [recorded.refusal(1515), recorded.UNAUTHORIZED], ids=["1515", "401"])
@pytest.mark.parametrize(
    "header", ["bearer another", "BEARER another", "Bearer\tanother", "another", b"Bearer another", b"bearer another"]
)
def test_another_accounts_token_is_not_replaced_however_it_is_spelled(auth, replacing, header, refusal):
    """AU10001 itself calls it a "bearer"."""
    prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare())
    prepared.headers["Authorization"] = header
    replacing.refuse_next(answer=refusal)
    with requests.Session() as session:
        assert session.send(prepared).content == refusal.body
    assert len(replacing.calls("ka10001")) == replacing.issued == 1


def test_what_copy_makes_of_a_prepared_request_shares_no_token_with_it(other, auth, replacing):
    order = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
    signed = [one(copy.copy(order)) for one in (auth, other)]
    tokens = [one.get_token() for one in (auth, other)]
    assert [one.headers["Authorization"] for one in signed] == [f"Bearer {token}" for token in tokens]
    auth.invalidate(auth.get_token())
    again = other(copy.copy(auth(signed[0])))
    assert signed[0].headers["Authorization"] == f"Bearer {auth.get_token()}"
    assert again.headers["Authorization"] == f"Bearer {other.get_token()}"


@pytest.mark.parametrize("kind", ["fresh", "signed", "signed twice", "hooked", "copied"])
@pytest.mark.parametrize("way", ["headers", "copy.copy", "hooks taken away"])
def test_prepared_requests_that_share_headers_share_no_token(other, auth, replacing, kind, way):
    first = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
    second = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
    if kind == "hooked":
        first.register_hook("response", lambda answer, **_send: answer)
    for _ in range(("fresh", "signed", "signed twice").index(kind) if "signed" in kind else kind == "copied"):
        auth(first)
    first = first.copy() if kind == "copied" else first
    if way == "headers":
        second.headers = first.headers
    else:
        second = copy.copy(first)
    if way == "hooks taken away":
        second.hooks = requests.hooks.default_hooks()
    other(second)
    auth(first)
    other(second)
    tokens = [one.get_token() for one in (auth, other)]
    assert [one.headers["Authorization"] for one in (first, second)] == [f"Bearer {token}" for token in tokens]
    with requests.Session() as session:
        assert called(session.send(first))
        assert called(session.send(second))
    assert [call.token for call in replacing.calls("ka10001")] == tokens


def test_headers_of_a_session_that_a_prepared_request_shares_keep_the_token_from_others(auth, replacing):
    with requests.Session() as session:
        prepared = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
        prepared.headers = session.headers
        auth(prepared)
        assert "Authorization" not in session.headers


def test_a_repetition_that_is_redirected_twice_is_not_repeated_once_more(auth, replacing):
    first, second = "/api/dostk/first", "/api/dostk/second"
    replacing.script(first, recorded.INVALID_TOKEN, Answer.redirect(second, 307))
    replacing.script(second, Answer.redirect(TR, 307))
    replacing.script(TR, recorded.INVALID_TOKEN)
    with requests.Session() as session:
        assert not called(session.post(replacing.url + first, BODY, headers=HEADERS, auth=auth))
    assert len(replacing.calls(TR)) == 1


def test_what_a_redirect_of_a_repetition_led_to_is_not_repeated_but_drops_its_dead_token(auth, replacing):
    old = "/api/dostk/old"
    replacing.script(old, recorded.INVALID_TOKEN, Answer.redirect(TR, 307))
    with requests.Session() as session:
        led_to = session.post(replacing.url + old, BODY, headers=HEADERS, auth=auth).request
        dead = auth.get_token()
        assert led_to.headers["Authorization"] == f"Bearer {dead}"
        replacing.revoke_tokens()
        replacing.clear_journal()
        assert not called(session.send(led_to))
    assert len(replacing.calls(TR)) == 1
    assert auth.get_token() != dead


@pytest.mark.parametrize("kind", ["copy", "redirect", "history"])
def test_copies_of_a_prepared_request_that_was_signed_share_no_token_either(other, auth, replacing, kind):
    prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare())
    with requests.Session() as session:
        if kind == "redirect":
            replacing.script(TR, Answer.redirect(TR, 307))
            signed = session.send(prepared).request
        elif kind == "history":
            replacing.refuse_next()
            signed = session.send(prepared).history[0].request
        else:
            signed = prepared.copy()
        carried = signed.headers["Authorization"]
        mirror = other(copy.copy(signed))
        assert signed.headers["Authorization"] == carried
        assert mirror.headers["Authorization"] == f"Bearer {other.get_token()}"
        twin = copy.copy(signed)
        replacing.revoke_tokens()
        auth.invalidate(auth.get_token())
        assert called(session.send(signed))
        assert twin.headers["Authorization"] == carried


def test_a_prepared_request_never_carries_another_token_than_its_hook_stands_for(auth, replacing):
    """Or else whoever is sending it at that moment would take the living token for the refused one."""
    seen = []

    class Headers(CaseInsensitiveDict):
        def __setitem__(self, name, value):
            super().__setitem__(name, value)
            note()

    class Prepared(requests.PreparedRequest):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            note()

    def note():
        if "prepared" in names:
            prepared = names["prepared"]
            seen.append(prepared.headers["Authorization"] == prepared.hooks["response"][0].token.header)

    names = {}
    prepared = Prepared()
    prepared.prepare("POST", replacing.url + TR, headers=HEADERS, data=BODY)
    prepared.headers = Headers(prepared.headers)
    names["prepared"] = auth(prepared)
    with requests.Session() as session:
        for _ in range(2):
            auth.invalidate(auth.get_token())
            auth(prepared)
            replacing.revoke_tokens()
            assert called(session.send(prepared))
    prepared.url = prepared.url  # what is looked at would show
    assert seen == [True]


def test_a_session_that_calls_the_hooks_twice_gets_one_repetition(auth, replacing):
    """As that of requests-cache does, with what it was called with."""

    class Twice(requests.Session):
        def send(self, request, **options):
            answer = super().send(request, **options)
            return requests.hooks.dispatch_hook("response", request.hooks, answer, **options)

    with Twice() as session:
        session.auth = auth
        for refusals in (0, 1, 2):
            replacing.refuse_next(refusals)
            answer = session.post(replacing.url + TR, BODY, headers=HEADERS)
            assert called(answer) == (refusals < 2)
        assert replacing.issued == 3
        for refusals in (1, 2):
            replacing.clear_journal()
            replacing.script("/api/dostk/old", Answer.redirect(TR, 307))
            replacing.refuse_next(refusals)
            answer = session.post(f"{replacing.url}/api/dostk/old", BODY, headers=HEADERS)
            assert called(answer) == (refusals < 2)
            assert len(replacing.calls(TR)) == 2


def test_a_session_that_reads_a_streamed_answer_and_calls_the_hooks_again_gets_its_repetition():
    class Reads(requests.Session):
        def send(self, request, **options):
            answer = super().send(request, **options)
            assert answer.content
            return requests.hooks.dispatch_hook("response", request.hooks, answer, **options)

    refusal = head("application/json", CHUNKED) + chunk(recorded.INVALID_TOKEN.body) + chunk(b"")
    yes = head("application/json", CHUNKED) + chunk(b'{"return_code": 0}') + chunk(b"")
    answers = [token_answer("first"), refusal, token_answer("second"), yes]
    with raw_server(*[[answer] for answer in answers]) as (url, _got), Reads() as session:
        session.auth = KiwoomBearerAuth("an-appkey", "a-secretkey", host=url, cache={})
        assert called(session.post(url + TR, BODY, headers=HEADERS, stream=True))


def test_a_prepared_request_that_is_led_elsewhere_leaves_its_copy_the_token(auth, replacing):
    prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare())
    copied = copy.copy(prepared)
    replacing.script(TR, Answer.redirect("https://elsewhere.example/", 307))
    with requests.Session() as session:
        assert session.send(prepared, allow_redirects=False).status_code == 307
        assert called(session.send(copied))
    assert "Authorization" not in prepared.headers


def test_what_copy_makes_of_a_prepared_request_for_elsewhere_leaves_it_the_token(auth, replacing):
    prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare())
    copied = copy.copy(prepared)
    copied.url = "https://elsewhere.example/"
    assert "Authorization" not in auth(copied).headers
    with requests.Session() as session:
        assert called(session.send(prepared))


def test_a_prepared_request_that_comes_from_a_pickle_has_one_hook_of_ours(auth, replacing):
    prepared = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()
    for _ in range(3):
        prepared = auth(pickle.loads(pickle.dumps(auth(prepared))))
    assert len(prepared.hooks["response"]) == 1
    assert b"Claim" not in pickle.dumps(prepared.headers)


@pytest.mark.parametrize("kind", [bytes, io.BytesIO], ids=["bytes", "file"])
def test_a_prepared_request_whose_repetition_was_redirected_is_repeated_the_next_time(auth, replacing, kind):
    old = "/api/dostk/old"
    with requests.Session() as session:
        prepared = auth(requests.Request("POST", replacing.url + old, headers=HEADERS, data=kind(BODY)).prepare())
        for _ in range(3):
            replacing.script(old, recorded.INVALID_TOKEN, Answer.redirect(TR, 307))
            assert called(session.send(prepared))
            if kind is io.BytesIO:
                prepared.body.seek(0)
            replacing.script(old, Answer.redirect(TR, 307))
            replacing.revoke_tokens()
            assert called(session.send(prepared))
            if kind is io.BytesIO:
                prepared.body.seek(0)
    assert {call.body for call in replacing.calls("ka10001")} == {BODY}


def test_the_headers_of_a_prepared_request_may_be_any_mapping(auth, replacing):
    prepared = requests.Request("POST", replacing.url + TR, headers=HEADERS, data=BODY).prepare()

    class Open(dict):
        def __init__(self, *items):
            super().__init__(*items)
            self.__dict__ = self

    with requests.Session() as session:
        for kind in (dict, Open):
            prepared.headers = kind(prepared.headers)
            for _ in range(2):
                auth(prepared)
                replacing.revoke_tokens()
                assert called(session.send(prepared))


@pytest.mark.parametrize("kind", [bytes, bytes.decode, io.BytesIO], ids=["bytes", "text", "file"])
def test_a_call_whose_token_is_dead_by_now_is_repeated_though_there_is_none_at_the_moment(auth, replacing, kind):
    for _ in range(2):
        prepared = auth(requests.Request("POST", replacing.url + TR, headers=HEADERS, data=kind(BODY)).prepare())
        replacing.revoke_tokens()
        auth.invalidate(auth.get_token())
        with requests.Session() as session:
            assert called(session.send(prepared))
    assert [call.body for call in replacing.calls("ka10001")] == [BODY] * 4


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_request_that_others_may_be_sending_keeps_the_token_that_it_has(auth, replacing, kind):
    request = request_to(replacing)
    early, late = Flow(auth, request, kind), Flow(auth, request, kind)
    assert await early.send(None) is await late.send(None) is request
    first = request.headers["Authorization"]
    replacing.revoke_tokens()
    await early.send(acceptance_of(await early.send(refusal_of(request))))
    third = Flow(auth, request, kind)
    again = await third.send(None)
    assert request.headers["Authorization"] == first
    assert again.headers["Authorization"] == f"Bearer {replacing.token}"
    assert (again.method, again.url, again.content) == (request.method, request.url, request.content)
    assert again.extensions == request.extensions
    repeated = await late.send(refusal_of(request))
    assert repeated.headers["Authorization"] == f"Bearer {replacing.token}"
    assert replacing.issued == 2
    for flow in (late, third):
        await flow.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_one_request_for_two_accounts_goes_to_each_with_its_own_token(other, replacing, auth, kind):
    """While a limiter keeps both of them waiting, too: an order on the other's account would be the worst of all."""
    request = request_to(replacing)
    flows = [Flow(one, request, kind) for one in (auth, other, auth)]
    signed = [await flow.send(None) for flow in flows]
    tokens = [one.get_token() for one in (auth, other, auth)]
    assert [one.headers["Authorization"] for one in signed] == [f"Bearer {token}" for token in tokens]
    for flow in flows:
        await flow.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_copy_is_of_the_users_kind_and_has_what_the_user_put_on_it(auth, replacing, kind):
    class Numbered(httpx.Request):
        pass

    request = Numbered("POST", replacing.url + TR, json={"stk_cd": "005930"})
    request.number = 7
    flows = [Flow(auth, request, kind) for _ in range(2)]
    await flows[0].send(None)
    auth.invalidate(auth.get_token())
    again = await flows[1].send(None)
    assert (type(again), again.number, again.content) == (Numbered, 7, request.content)
    assert again is not request
    flows.append(Flow(auth, again, kind))
    assert (await flows[-1].send(None)).headers["Authorization"] == f"Bearer {auth.get_token()}"
    for flow in flows:
        await flow.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_token_that_a_hook_puts_in_is_not_replaced_if_it_is_another_accounts(auth, replacing, kind):
    flow = Flow(auth, request_to(replacing), kind)
    request = await flow.send(None)
    request.headers["Authorization"] = "Bearer of-another-account"
    assert await flow.send(refusal_of(request)) is None
    auth.invalidate(auth.get_token())
    flow = Flow(auth, request_to(replacing), kind)
    request = await flow.send(None)
    auth.invalidate(auth.get_token())
    request.headers["Authorization"] = f"Bearer {auth.get_token()}"
    repeated = await flow.send(refusal_of(request))
    assert repeated.headers["Authorization"] == f"Bearer {replacing.token}"
    await flow.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.anyio
async def test_a_request_that_was_pickled_with_its_token_is_sent_with_another(auth, replacing, kind):
    flows = [Flow(auth, request_to(replacing), kind)]
    request = await flows[0].send(None)
    auth.invalidate(auth.get_token())
    flows.append(Flow(auth, pickle.loads(pickle.dumps(request)), kind))
    again = await flows[1].send(None)
    assert again.headers["Authorization"] == f"Bearer {auth.get_token()}"
    assert pickle.dumps(again).count(replacing.token.encode()) == 1
    assert b"kiwoom_auth_plugin" not in pickle.dumps(again)  # it may be read where this package is not
    for flow in flows:
        await flow.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_copy_makes_of_a_request_shares_no_token_with_it(other, auth, replacing, kind):
    """Nor are headers changed that another thread may be reading: httpx would write the same name twice."""
    request = request_to(replacing)
    flows = [Flow(one, copy.copy(request), kind) for one in (auth, other)]
    signed = [await flow.send(None) for flow in flows]
    tokens = [one.get_token() for one in (auth, other)]
    assert [one.headers["Authorization"] for one in signed] == [f"Bearer {token}" for token in tokens]
    assert "Authorization" not in request.headers
    copied = copy.copy(signed[0])
    copied.url = httpx.URL("https://elsewhere.example/")
    flows.append(Flow(auth, copied, kind))
    assert "Authorization" not in (await flows[-1].send(None)).headers
    assert signed[0].headers["Authorization"] == f"Bearer {tokens[0]}"
    for flow in flows:
        await flow.close()


class Meeting(httpx.Headers):
    """Lets two threads sign at the same time."""

    meet = threading.Barrier(2)

    def copy(self):
        with contextlib.suppress(threading.BrokenBarrierError):
            self.meet.wait(0.5)
        return super().copy()


def test_two_threads_with_two_accounts_do_not_take_one_request_for_theirs(other, auth, replacing):
    request = request_to(replacing)
    request.headers = Meeting(request.headers)
    flows = [one.sync_auth_flow(request) for one in (auth, other)]
    crowd = Crowd()
    for flow in flows:
        crowd.threads(1, partial(next, flow))
    signed = {one.headers["Authorization"] for one in crowd.go().outcomes()}
    assert signed == {f"Bearer {one.get_token()}" for one in (auth, other)}


@pytest.mark.anyio
async def test_a_body_that_is_not_in_memory_is_left_where_it_is(auth, replacing):
    async def body():
        yield BODY

    request = httpx.Request("POST", replacing.url + TR, content=body())
    flows = [Flow(auth, request, "async") for _ in range(2)]
    await flows[0].send(None)
    auth.invalidate(auth.get_token())
    again = await flows[1].send(None)
    assert again is not request
    assert again.stream is request.stream
    for flow in flows:
        await flow.close()
