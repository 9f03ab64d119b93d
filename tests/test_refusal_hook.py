"""The response hook by itself: which URLs are its own, how much it reads, and what it leaves as it was."""

import io

import pytest
import requests
import requests.adapters
import urllib3
from requests.structures import CaseInsensitiveDict

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._ahead import limit
from kiwoom_auth_plugin._origin import Origin
from kiwoom_auth_plugin._refusal import READ_LIMIT
from kiwoom_auth_plugin._refusal_hook import Means, RefusalHook, _readable
from kiwoom_auth_plugin._token import AccessToken
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, called, in_time

HOST = "https://api.kiwoom.com"


class Slow(io.RawIOBase):
    """A body that comes in pieces, and writes down how much it was asked for."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.asked = []

    def readable(self):
        return True

    def read(self, size=-1):
        self.asked.append(size)
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        assert size < 0 or len(piece) <= size
        return piece


def answer(body, status=200, *, authorization="Bearer a-token", **headers):
    """As requests has it, before anybody has read of it."""
    response = requests.Response()
    response.status_code = status
    response.url = HOST + TR
    response.headers = CaseInsensitiveDict({"content-type": "application/json", **headers})
    response.raw = urllib3.HTTPResponse(body, status=status, preload_content=False, decode_content=False)
    response.request = requests.Request("POST", response.url, data=b"{}").prepare()
    if authorization:
        response.request.headers["Authorization"] = authorization
    return response


@pytest.fixture
def hook():
    token = AccessToken("a-token", 0.0, 0.0, b"", 0.0)
    return RefusalHook(Means(f"{HOST}/", Origin.from_host_argument(HOST), None, None), token)


@pytest.mark.parametrize("url", [f"{HOST}/a", "https://API.kiwoom.com:443/a", "HTTPS://api.kiwoom.com?a"])
def test_an_origin_has_many_spellings(hook, url):
    assert hook._means.cover(url)


@pytest.mark.parametrize("url", ["", "https://api.kiwoom.com.example/a", "http://api.kiwoom.com/a", "not a URL"])
def test_and_others_only_look_like_it(hook, url):
    assert not hook._means.cover(url)


def test_one_hook_serves_all_calls_whose_body_needs_no_rewinding(auth):
    first, second, file = (
        auth(requests.Request("POST", auth.host + TR, data=data).prepare()).hooks["response"][0]
        for data in (b"1", b"2", io.BytesIO(b"3"))
    )
    assert first is second
    assert file is not first


@pytest.mark.parametrize("authorization", ["Bearer a-token", None])
def test_a_redirect_to_elsewhere_is_left_as_it_is_but_for_the_token_and_the_hook(hook, authorization):
    body = Slow(b"{}")
    response = answer(
        body, 302, authorization=authorization, location="https://example.com/", **{"content-length": "2"}
    )
    response.request.hooks["response"] = [hook]
    raw = response.raw
    assert hook(response, stream=True) is response
    assert response.raw is raw
    assert not body.asked
    assert "Authorization" not in response.request.headers
    assert response.request.hooks["response"] == []


def test_a_repetition_that_leads_elsewhere_is_left_to_nobody():
    with KiwoomEmulator(reissue="replace") as kiwoom, KiwoomEmulator() as elsewhere, requests.Session() as session:
        session.auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})
        kiwoom.refuse_next()
        kiwoom.script(TR, Answer.redirect(elsewhere.url + TR))
        response = session.post(kiwoom.url + TR, BODY, headers=HEADERS, allow_redirects=False)
        assert response.status_code == 302
        assert "Authorization" not in response.request.headers
        assert not any(isinstance(hook, RefusalHook) for hook in response.request.hooks["response"])


class Bare(requests.adapters.BaseAdapter):
    """A stand-in that fills in no more than an answer needs to be read."""

    def __init__(self, text, *, request=True):
        super().__init__()
        self.text = text
        self.has_request = request

    def send(self, request, **_options):
        response = requests.Response()
        response.status_code = 200
        response.url = request.url
        response.raw = io.BytesIO(self.text.body)
        if self.has_request:
            response.request = request
        return response

    def close(self):
        pass


def test_the_refusal_of_a_stand_in_that_cannot_send_again_drops_the_token_and_is_the_callers():
    with KiwoomEmulator(reissue="replace") as kiwoom, requests.Session() as session:
        session.auth = auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})
        first = auth.get_token()
        session.mount(kiwoom.url + TR, Bare(recorded.INVALID_TOKEN))
        assert not called(session.post(kiwoom.url + TR, BODY, headers=HEADERS))
        assert auth.get_token() != first


def test_the_answer_of_a_stand_in_without_a_request_is_left_as_it_is(auth):
    with requests.Session() as session:
        session.mount(auth.host, Bare(recorded.INVALID_TOKEN, request=False))
        assert not called(session.post(auth.host + TR, BODY, headers=HEADERS, auth=auth))


def test_a_long_refusal_that_is_not_repeated_is_the_callers_whole(kiwoom_emulator, auth):
    """While the server is known to have no other token."""
    long = Answer(401, b"<" * 2_000_000, (("Content-Type", "text/html"),))
    kiwoom_emulator.refuse_next(2, answer=long)
    with requests.Session() as session:
        for whole in (False, True):
            with session.post(kiwoom_emulator.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response:
                assert response.status_code == 401
                assert (len(response.content) == len(long.body)) == whole
    assert kiwoom_emulator.issued == 2


def test_a_token_that_somebody_has_taken_away_meanwhile_was_not_refused(hook):
    response = answer(recorded.INVALID_TOKEN.body, authorization=None)
    assert hook._sent_token(response.request) is None


# How much is read


@pytest.mark.parametrize("status", [200, 401])
def test_what_comes_in_pieces_is_counted_and_no_more_is_asked_for_than_tells(status):
    most = limit(status, {"content-type": "application/json", "content-length": "9"})
    body = Slow(b"x" * 5, b"x" * (most - 5), b"x", b"the rest")
    response = answer(body, status, **{"content-length": "9"})
    assert _readable(response, streamed=True) is None
    assert body.asked == [most + 1, most - 4, 1]
    assert response.raw.read(decode_content=False) == b"x" * (most + 1) + b"the rest"


def test_what_is_just_short_enough_is_read_whole():
    body = Slow(b"x" * 5, b"y" * (READ_LIMIT - 5))
    response = answer(body, **{"content-length": "9"})
    assert _readable(response, streamed=True) == b"x" * 5 + b"y" * (READ_LIMIT - 5)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (urllib3.exceptions.ProtocolError("broken off"), requests.exceptions.ChunkedEncodingError),
        (urllib3.exceptions.ReadTimeoutError(None, "/", "too slow"), requests.ConnectionError),
    ],
    ids=["broken off", "too slow"],
)
def test_a_body_that_does_not_come_is_an_error_of_requests_with_its_request_and_reason(failure, kind):
    response = answer(Slow(b"{", failure), **{"content-length": "9"})
    with pytest.raises(kind) as raised:
        _readable(response, streamed=True)
    assert raised.value.request is response.request
    assert raised.value.args == (failure,)
    assert raised.value.__cause__ is failure


@pytest.mark.parametrize("length", [1024 * 1024 + 1, 4 * 1024 * 1024])
def test_a_refusal_too_long_to_be_read_leaves_its_connection_to_au10001(length):
    """With a client= that has one connection."""
    with KiwoomEmulator(reissue="replace") as kiwoom, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, pool_block=True))
        auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={}, client=session)
        kiwoom.refuse_next(answer=Answer(401, b"<" * length, (("Content-Type", "text/html"),)))

        def call():
            with session.post(kiwoom.url + TR, BODY, headers=HEADERS, auth=auth, stream=True) as response:
                return called(response)

        assert in_time(call)
        assert kiwoom.issued == 2
