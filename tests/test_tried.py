"""What a hostile reviewer tried without success: ways elsewhere, odd answers to AU10001 and to calls, groups of errors.

``test_elsewhere.py``, ``test_hostile_endpoint.py`` and ``test_hostile_answers.py`` have what was tried before. The
libraries disagree on framing, and change: where they do, only what holds with each of them is asserted.
"""

import asyncio
import contextlib
import copy
import gzip
import json
import math
import pickle
import zlib
from datetime import datetime, timedelta, timezone

import httpx
import pytest
import requests
import trio

from kiwoom_auth_plugin import (
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    KiwoomBearerAuth,
    TokenEndpointUnreachable,
)
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import (
    ASYNC,
    BODY,
    HEADERS,
    PATIENCE,
    SYNC,
    TR,
    called,
    every_client,
    every_module,
    every_sync_client,
    every_sync_httpx_client,
    in_time,
    plain_answer,
    raw_server,
    token_answer,
    whatever_the_library_says,
)
from .leaks import shown_by
from .traces import traces, without_header

TOKEN_PATH = "/oauth2/token"
REFUSAL = b'{"return_code":3,"return_msg":"[8005:x]"}'
TAKEN = b'{"return_code": 0}'
JSON = ("Content-Type", "application/json;charset=UTF-8")

SOME = [*SYNC, ASYNC[0]]  # what differs from these is not what the long tables are about
some_clients = pytest.mark.parametrize("open_client", SOME, ids=lambda kind: kind.name)
some_httpx_clients = pytest.mark.parametrize("open_client", SOME[1:], ids=lambda kind: kind.name)


def in_chunks(body, trailer=b"", extension=b""):
    return b"%x%b\r\n%b\r\n0\r\n%b\r\n" % (len(body), extension, body, trailer)


# Another origin


@pytest.fixture
def home():
    """A Kiwoom whose tokens change with each issue: a needless one shows."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


@pytest.fixture
def away():
    """A stranger, who writes down what it gets."""
    with KiwoomEmulator() as emulator:
        yield emulator


@pytest.fixture
def signed(home, make_auth):
    """An auth object that has a token of home's."""
    auth = make_auth(emulator=home, cache={})
    auth.get_token()
    return auth


def secrets_of(kiwoom):
    tokens = {*kiwoom.tokens, *(call.token for call in kiwoom.journal)} - {None}
    assert tokens
    return kiwoom.secretkey, *tokens


def check(home, away, *, issued=1):
    """The stranger has seen no secret of home's, and no AU10001; home has had as many as it should."""
    for call in away.journal:
        told = f"{call.headers}{call.path}{call.query}".encode() + call.body
        assert traces(told, *secrets_of(home)) == []
    assert not away.calls("au10001")
    assert home.issued == issued


def led(status, place, *headers, body=b""):
    return Answer(status, body, (JSON, ("Location", place), *headers))


def naming(header, value, status=200):
    return Answer(status, TAKEN if status == 200 else b"", (JSON, (header, value)))


LED = {
    "a refusal, then a redirect": (lambda _home, away: [recorded.INVALID_TOKEN, led(302, away)], 2, True),
    "a refusal, then a redirect of the body": (lambda _home, away: [recorded.INVALID_TOKEN, led(307, away)], 2, True),
    "401 with a Location": (lambda _home, away: [led(401, away, body=REFUSAL)] * 2, 2, False),
    "401 with a Location and nothing else": (lambda _home, away: [led(401, away)] * 2, 2, False),
    "a redirect that is a refusal": (lambda _home, away: [led(302, away, body=REFUSAL)] * 3, 1, True),
    "a redirect of the body that is a refusal": (lambda _home, away: [led(307, away, body=REFUSAL)] * 3, 1, True),
    "two Locations": (lambda home, away: [led(307, home, ("Location", away))], 1, False),
    "two Locations, home second": (lambda home, away: [led(307, away, ("Location", home))], 1, False),
    "Refresh": (lambda _home, away: [naming("Refresh", f"0; url={away}")], 1, False),
    "Alt-Svc": (lambda _home, away: [naming("Alt-Svc", f'h2="{away[7:].partition("/")[0]}"')], 1, False),
    "Content-Location": (lambda _home, away: [naming("Content-Location", away)], 1, False),
    "Link": (lambda _home, away: [naming("Link", f"<{away}>; rel=next")], 1, False),
    "WWW-Authenticate": (
        lambda _home, away: [naming("WWW-Authenticate", f'Bearer token_endpoint="{away}/oauth2/token"', 401)], 2, False,
    ),
}  # fmt: skip
"""What home answers, how many tokens it has issued in the end, and whether the stranger is called for sure."""


@some_clients
@pytest.mark.parametrize(("answers", "issued", "arrives"), LED.values(), ids=LED)
def test_answers_that_name_another_origin_do_not_bring_it_the_token(
    open_client, home, away, signed, answers, issued, arrives
):
    home.script(TR, *answers(home.url + TR, away.url + TR))
    with open_client(signed) as client:
        for _ in range(2):  # the second over the connections of the first
            with whatever_the_library_says():
                client.post(home.url + TR, follow=True)
    assert away.journal or not arrives
    check(home, away, issued=issued)


@every_client
@pytest.mark.parametrize("status", [302, 307])
def test_a_way_home_by_way_of_a_stranger_is_gone_without_the_token(open_client, home, away, signed, status):
    home.script(TR, Answer.redirect(away.url + TR, status))
    away.script(TR, Answer.redirect(home.url + TR, status))
    with open_client(signed) as client:
        client.post(home.url + TR, follow=True)
    first, back = [call for call in home.journal if call.path == TR]
    assert (first.token, back.token) == (home.token, None)
    assert len(away.journal) == 1
    check(home, away)


@every_client
def test_a_call_elsewhere_under_the_name_of_home_carries_no_token(open_client, home, away, signed):
    with open_client(signed) as client:
        client.post(away.url + TR, headers=HEADERS | {"Host": home.url[7:]})
    (call,) = away.journal
    assert call.headers["host"] == home.url[7:]
    check(home, away)


@every_sync_httpx_client
def test_a_call_to_home_under_another_name_goes_to_home(open_client, home, away, signed):
    def rename(request):
        request.headers["Host"] = away.url[7:]

    with open_client(signed) as client:
        client.native.event_hooks = {"request": [rename]}
        assert called(client.post(home.url + TR))
    assert (home.journal[-1].headers["host"], home.journal[-1].token) == (away.url[7:], home.token)
    assert away.journal == []


@every_client
def test_a_header_of_the_users_stays_theirs_elsewhere(open_client, home, away, signed):
    with open_client(signed) as client:
        client.native.headers["Authorization"] = "Bearer mine"
        client.post(away.url + TR)
    assert away.journal[0].headers["authorization"] == "Bearer mine"
    check(home, away)


@every_client
def test_cookies_take_no_token_to_another_port(open_client, home, away, signed):
    home.script(TR, Answer(200, TAKEN, (JSON, ("Set-Cookie", "a=b; Domain=127.0.0.1; Path=/"))))
    with open_client(signed) as client:
        assert called(client.post(home.url + TR))
        client.post(away.url + TR)
    assert "authorization" not in away.journal[0].headers
    check(home, away)


@every_client
def test_a_copy_of_a_pickled_auth_keeps_to_its_origin(open_client, home, away, signed):
    with open_client(copy.deepcopy(pickle.loads(pickle.dumps(signed)))) as client:
        client.post(away.url + TR)
        assert called(client.post(home.url + TR))
    assert home.journal[-1].token == home.token
    assert "authorization" not in away.journal[0].headers
    check(home, away, issued=home.issued)


PATHS = {
    "two slashes": "//{away}/x",
    "a slash and a backslash": "/\\{away}/x",
    "an at sign": "@{away}/x",
    "two backslashes": "\\\\{away}",
    "the end of a name": ".evil/x",
    "dots": "/../..//{away}",
    "a scheme without slashes": "http:{away}",
    "a scheme and three slashes": "http:///{away}",
}


@some_httpx_clients
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_no_path_leads_out_of_a_base_url_with_the_token(open_client, home, away, signed, path):
    with open_client(signed) as client, whatever_the_library_says():
        client.native.base_url = home.url
        client.post(path.format(away=away.url[7:]))
    check(home, away)


# Answers to AU10001

FIELDS = {"token": "the-token", "token_type": "bearer", "return_code": 0}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
OTHER_DATE = b"Date: Wed, 06 Nov 2024 23:37:13 GMT\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def expiring(clock):
    """``expires_dt`` of a token of 20 hours."""
    return f"{datetime.fromtimestamp(clock.wall_time, timezone(timedelta(hours=9))) + timedelta(hours=20):%Y%m%d%H%M%S}"


def with_length(body):
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def having(**fields):
    """An answer with these fields; what can be called makes one of the right ``expires_dt``."""

    def write(_body, expires):
        made = {name: value(expires) if callable(value) else value for name, value in fields.items()}
        return HEAD + with_length(json.dumps({"expires_dt": expires} | FIELDS | made).encode())

    return write


def said(edit):
    """An answer whose body is what ``edit`` makes of it."""
    return lambda body, _expires: HEAD + with_length(edit(body))


def sent(edit):
    """An answer that is sent as ``edit`` has it."""
    return lambda body, _expires: edit(body)


def status_only(status, *headers):
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close", "Content-Length: 0", "", ""]
    return lambda _body, _expires: "\r\n".join(lines).encode()


OK = {"the-token"}
BAD = {InvalidTokenResponse}
NONE = {TokenEndpointUnreachable}
ANY = OK | BAD | NONE
"""Where the libraries disagree."""

FRAMED = {
    "ten 103s": (sent(lambda body: b"HTTP/1.1 103 Early\r\n\r\n" * 10 + HEAD + with_length(body)), ANY),
    "100 first": (sent(lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + with_length(body)), OK),
    "90 headers": (
        sent(lambda body: HEAD + b"".join(b"X%d: y\r\n" % number for number in range(90)) + with_length(body)), OK
    ),
    "90 Dates": (sent(lambda body: HEAD + OTHER_DATE * 90 + with_length(body)), OK | BAD),
    "two Dates": (sent(lambda body: HEAD + OTHER_DATE + b"Date: x\r\n" + with_length(body)), OK | BAD),
    "a Date in the year 9999": (
        sent(lambda body: HEAD + b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n" + with_length(body)), BAD
    ),
    "a Date in a trailer": (sent(lambda body: HEAD + CHUNKED + b"\r\n" + in_chunks(body, OTHER_DATE)), OK),
    "two lengths": (sent(lambda body: HEAD + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n" + in_chunks(body)), ANY),
    "identity": (sent(lambda body: HEAD + b"Transfer-Encoding: identity\r\n" + with_length(body)), ANY),
    "gzip, chunked": (
        sent(lambda body: HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + in_chunks(gzip.compress(body))), ANY
    ),
    "no last chunk": (sent(lambda body: HEAD + CHUNKED + b"\r\n" + in_chunks(body)[:-5]), NONE),
    "longer than it says": (sent(lambda body: HEAD + with_length(body) + b"{}"), OK),
    "shorter than it says": (sent(lambda body: HEAD + with_length(body + b"     ")[:-5]), NONE),
    "a surplus answer": (
        sent(
            lambda body: b"".join(
                HEAD.replace(b"Connection: close\r\n", b"") + with_length(each)
                for each in (body, body.replace(b"the-token", b"another"))
            )
        ),
        OK,
    ),
    "HTTP/1.0": (sent(lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body), OK),
    "HTTP/2": (sent(lambda body: b"HTTP/2 200 OK\r\n" + with_length(body)), NONE),
    "ICY": (sent(lambda body: b"ICY 200 OK\r\n" + with_length(body)), NONE),
    "no headers": (sent(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body), OK),
    "LF only": (sent(lambda body: (HEAD + with_length(body)).replace(b"\r\n", b"\n")), ANY),
    "Arabic digits": (sent(lambda body: HEAD + "Content-Length: \u0661\u0660\r\n\r\n".encode() + body), ANY),
    "raw deflate": (
        sent(lambda body: HEAD + b"Content-Encoding: deflate\r\n" + with_length(zlib.compress(body)[2:-4])), OK
    ),
    "GZIP": (sent(lambda body: HEAD + b"Content-Encoding: GZIP\r\n" + with_length(gzip.compress(body))), OK),
    "zstd": (sent(lambda body: HEAD + b"Content-Encoding: zstd\r\n" + with_length(b"\x28\xb5\x2f\xfd" + body)), BAD),
    "gzip twice, in two headers": (
        sent(lambda body: HEAD + b"Content-Encoding: gzip\r\n" * 2 + with_length(gzip.compress(gzip.compress(body)))),
        BAD,
    ),
    "Refresh, Link and Alt-Svc": (
        sent(
            lambda body: HEAD + b"Refresh: 0; url=http://127.0.0.1:1/\r\nLink: <http://127.0.0.1:1/>; rel=preload\r\n"
            b'Alt-Svc: h2="127.0.0.1:1"\r\n' + with_length(body)
        ),
        OK,
    ),
}  # fmt: skip
WRITTEN = {
    "expires_dt with a line feed": (having(expires_dt=lambda due: due + "\n"), BAD),
    "expires_dt with a wide digit": (having(expires_dt=lambda due: due[:-1] + "\uff10"), BAD),
    "expires_dt in the year 1": (having(expires_dt="00010101000000"), BAD),
    "expires_dt in the year 9999": (having(expires_dt="99991231235959"), BAD),
    "expires_dt on February 30": (having(expires_dt="20240230000000"), BAD),
    "expires_dt in a second 60": (having(expires_dt=lambda due: due[:-2] + "60"), BAD),
    "a token with DEL": (having(token="a\x7fb"), BAD),
    "a token with a space of another kind": (having(token="a\u00a0b"), BAD),
    "a token with a line feed": (having(token="abc\n"), BAD),
    "a token with its type": (having(token="Bearer abc"), BAD),
    "a token of half a character": (having(token="a\ud800"), BAD),
    "a type and a space": (having(token_type="BEARER "), BAD),
    "a type and a space of no width": (having(token_type="bearer\u200b"), BAD),
    "return_code -0": (said(lambda body: body.replace(b'"return_code": 0', b'"return_code": -0')), OK),
    "return_code 0.0": (said(lambda body: body.replace(b'"return_code": 0', b'"return_code": 0.0')), BAD),
    "return_code 1e400": (said(lambda body: body.replace(b'"return_code": 0', b'"return_code": 1e400')), BAD),
    "return_code in wide digits": (having(return_code="\uff10\uff10"), BAD),
    "two tokens": (said(lambda body: body[:-1] + rb', "\u0074oken": "evil"}'), BAD),
    "a byte order mark": (said(lambda body: b"\xef\xbb\xbf" + body), OK),
    "UTF-8 that is too long": (said(lambda body: body[:-1] + b', "a": "\xc0\xae"}'), OK | BAD),
    # As deep as the stack allows, and of that the tests have had some.
    "nested 990 deep": (said(lambda body: body[:-1] + b', "a": ' + b"[" * 990 + b"]" * 990 + b"}"), OK | BAD),
}  # fmt: skip
STATUSES = {
    **{
        f"429, Retry-After {wait}": (status_only("429 No", f"Retry-After: {wait}"), {IssueLimitExceeded})
        for wait in ("-1", "1e3", "0", "999999999", "Fri, 31 Dec 9999 23:59:59 GMT")
    },
    "401": (status_only("401 No"), BAD),
    "407": (status_only("407 No", "Proxy-Authenticate: Basic"), BAD),
    "204": (sent(lambda body: plain_answer(body, "204 No")), BAD),
    "206": (sent(lambda body: plain_answer(body, "206 Part")), OK),
    "201 with a Location": (sent(lambda body: plain_answer(body, "201 Made", "Location: http://127.0.0.1:1/")), OK),
    "300": (sent(lambda body: plain_answer(body, "300 Many", "Location: http://127.0.0.1:1/")), BAD),
    "the refusal of a token": (said(lambda _body: REFUSAL), {KiwoomAuthError}),
}
MANY = 8
"""Connections: more than the attempts at an issue, twice."""


def by_requests(auth, _url):
    return auth.get_token()


def by_httpx(auth, url):
    return next(auth.sync_auth_flow(httpx.Request("POST", url + TR))).headers["Authorization"].removeprefix("Bearer ")


both = pytest.mark.parametrize("ask", [by_requests, by_httpx])


def outcome_of(ask, auth, url):
    """A token, or the class of an error of the package's."""
    try:
        return in_time(lambda: ask(auth, url))
    except KiwoomAuthError as error:
        return type(error)


@both
@pytest.mark.parametrize(("write", "expected"), (FRAMED | WRITTEN | STATUSES).values(), ids=FRAMED | WRITTEN | STATUSES)
def test_an_odd_answer_to_an_issue_is_a_token_or_an_error_and_the_next_one_is_taken(
    make_auth, clock, ask, write, expected
):
    def answer():
        if answers:
            yield write(json.dumps({"expires_dt": expiring(clock)} | FIELDS).encode(), expiring(clock))
        else:
            yield plain_answer(json.dumps({"token": "the-next", "expires_dt": expiring(clock)}).encode())

    answers = [write]
    with raw_server(*[answer() for _ in range(MANY)]) as (url, got):
        auth = make_auth(clock=clock, host=url)
        outcome = outcome_of(ask, auth, url)
        assert outcome in expected
        assert 1 <= len(got) <= 3
        assert all(request.startswith(b"POST /oauth2/token ") for request in got)
        answers.clear()
        if outcome == "the-token":
            auth.invalidate(outcome)
        clock.advance(3600.0)  # after an error no rest is longer, whatever was asked for
        asked = len(got)
        assert outcome_of(ask, auth, url) == "the-next"
        assert len(got) == asked + 1


COSTLY = {
    "a float of a million digits": b'{"token": 1.' + b"1" * 1_000_000 + b"}",
    "a small float of a million digits": b'{"token": 0.' + b"0" * 1_000_000 + b"1}",
    "an exponent of a million digits": b'{"token": 1e' + b"9" * 1_000_000 + b"}",
    "240 long integers": b'{"a": [' + b",".join([b"9" * 4300] * 240) + b"]}",
    "1,400 floats": b'{"a": [' + b",".join([b"1." + b"3" * 700 + b"e-290"] * 1400) + b"]}",
    "160,000 codes": b'{"return_code": 3, "return_msg": "' + b"[2000]" * 160_000 + b'"}',
    "200,000 beginnings of a code": b'{"return_code": 3, "return_msg": "' + b"[8005" * 200_000 + b'"}',
    "170,000 escapes": b'{"return_code": 3, "return_msg": "' + b"\\u0041" * 170_000 + b'"}',
    "80,000 keys": json.dumps({str(number): 0 for number in range(80_000)}).encode(),
}


@both
@pytest.mark.parametrize("body", COSTLY.values(), ids=COSTLY)
def test_what_is_costly_to_parse_ends_in_an_error(make_auth, clock, ask, body):
    with raw_server(*[[plain_answer(body)]] * MANY) as (url, _got):
        assert issubclass(outcome_of(ask, make_auth(clock=clock, host=url), url), KiwoomAuthError)


# Answers to calls

CLOSED = HEAD + b"\r\n"
ODD = {
    "a trailer": HEAD + CHUNKED + b"\r\n" + in_chunks(REFUSAL, b"Authorization: Bearer evil\r\nX: 1\r\n"),
    "ten 103s": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 10 + plain_answer(REFUSAL),
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + plain_answer(REFUSAL),
    "two lengths": HEAD + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + in_chunks(REFUSAL),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + REFUSAL,
    "no length": CLOSED + REFUSAL,
    "a chunk extension": HEAD + CHUNKED + b"\r\n" + in_chunks(REFUSAL, extension=b";ext=1"),
    "LF only": plain_answer(REFUSAL).replace(b"\r\n", b"\n"),
    "gzip that breaks off": HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(REFUSAL)[:-9],
    "gzip in two parts": (
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(REFUSAL[:9]) + gzip.compress(REFUSAL[9:])
    ),
    "zstd that is none": HEAD + b"Content-Encoding: zstd\r\n\r\n" + REFUSAL,
    "gzip that is none": HEAD + b"Content-Encoding: gzip\r\n\r\n" + REFUSAL,
    "short of its length": HEAD + b"Content-Length: 100\r\n\r\n" + REFUSAL,
    "a surplus answer": HEAD + with_length(REFUSAL) + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a surplus answer that is kept": (
        HEAD.replace(b"Connection: close\r\n", b"")
        + with_length(REFUSAL)
        + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    ),
    "twice": plain_answer(REFUSAL) * 2,
    "a chunk of less than nothing": HEAD + CHUNKED + b"\r\n-1\r\n" + REFUSAL,
    "a length of 20 digits": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n" + REFUSAL,
    "a length of less than nothing": HEAD + b"Content-Length: -1\r\n\r\n" + REFUSAL,
    "Arabic digits": HEAD + "Content-Length: \u0664\u0661\r\n\r\n".encode() + REFUSAL,
    "204": plain_answer(REFUSAL, "204 No"),
    "205": plain_answer(REFUSAL, "205 Reset"),
    "304": plain_answer(REFUSAL, "304 Not"),
    "401 and nothing else": status_only("401 No")(b"", ""),
    "401 with 90 headers": status_only("401 No", *(f"X{number}: 1" for number in range(90)))(b"", ""),
}


def made_of(client, url, stream):
    """What a library makes of the answer to a call: its status and body, or what it raises."""
    try:
        if client.library is requests:
            answer = client.post(url + TR, stream=stream)
            return answer.status_code, answer.content
        if not stream:
            answer = client.post(url + TR)
            return answer.status_code, answer.content
        with client.native.stream("POST", url + TR, content=BODY, headers=HEADERS) as answer:
            return answer.status_code, answer.read()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error)


@every_sync_client
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
def test_a_refusal_in_odd_framing_is_repeated_once_or_left_to_the_library(open_client, make_auth, answer, stream):
    answers = [[token_answer("one")], [answer], [token_answer("two")], [plain_answer(TAKEN)], [plain_answer(TAKEN)]]
    with raw_server(*answers) as (url, got):
        with open_client(make_auth(host=url, cache={})) as client:
            made = in_time(lambda: made_of(client, url, stream))
        asked = [request.split(b" ")[1].decode() for request in got]
    assert asked[:2] == [TOKEN_PATH, TR]
    if len(asked) > 2:
        assert asked[2:] == [TOKEN_PATH, TR]
        assert made == (200, TAKEN)
        assert b"Bearer one" in got[1]
        assert b"Bearer two" in got[3]
    else:
        with raw_server([answer]) as (url, _got), open_client() as client:
            assert made == in_time(lambda: made_of(client, url, stream))


TYPES = {
    "text/html": 2, "text/plain": 2, "application/octet-stream": 1, "image/png": 1, "application/x-ndjson": 1,
    "": 2, "application/json": 2,
}  # fmt: skip
"""How often httpx sends a call whose refusal has this Content-Type (none: it has no such header)."""


@some_clients
@pytest.mark.parametrize(("media_type", "sent_by_httpx"), TYPES.items())
def test_a_refusal_of_another_type_is_one_to_requests_and_to_httpx_where_it_may_be_text(
    open_client, home, signed, media_type, sent_by_httpx
):
    home.script(TR, Answer(200, REFUSAL, (("Content-Type", media_type),)))
    with open_client(signed) as client:
        client.post(home.url + TR)
    times = 2 if open_client.library is requests else sent_by_httpx  # requests reads all that is not streamed
    assert len(home.calls(TR)) == home.issued == times


ORDERS = {
    "500 with return_code 0": Answer(500, b'{"return_code":0,"return_msg":"[8005:x]"}', (JSON,)),
    "return_code 0 that quotes a refusal": Answer(200, b'{"return_code":0,"return_msg":"[8005:x]"}', (JSON,)),
    "return_code 0 as text": Answer(200, b'{"return_code":"0","return_msg":"CODE=8005"}', (JSON,)),
    "401 with return_code 0": Answer(401, b'{"return_code":0,"return_msg":"taken"}', (JSON,)),
    "401 with return_code 0.0": Answer(401, b'{"return_code":0.0,"return_msg":"taken"}', (JSON,)),
    "401 with return_code 0 as text": Answer(401, b'{"return_code":"0","ord_no":"1"}', (JSON,)),
    "a nested refusal": Answer(200, b'{"data":{"return_code":8005},"return_code":0}', (JSON,)),
    "a refusal in another field": Answer(200, b'{"return_code":20,"return_msg":"no","memo":"[8005:x]"}', (JSON,)),
    "a refusal after another code": Answer(200, b'{"return_code":20,"return_msg":"[2000](8005:x)[8005:y]"}', (JSON,)),
}


@some_clients
@pytest.mark.parametrize("answer", ORDERS.values(), ids=ORDERS)
def test_an_order_that_may_have_been_taken_is_sent_once(open_client, home, signed, answer):
    home.script("/api/dostk/ordr", answer)
    with open_client(signed) as client:
        assert client.post(f"{home.url}/api/dostk/ordr").content == answer.body
    assert len(home.calls("/api/dostk/ordr")) == 1
    assert home.issued == 1


# Secrets in groups of errors


def look_into(error, kiwoom):
    """The token may be seen in the header of the call that it was sent with, which is the user's, and nowhere else."""
    secretkey, *tokens = secrets_of(kiwoom)
    assert traces(without_header(shown_by(error), *tokens), secretkey, *tokens) == []


async def in_a_task_group(calls):
    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(call())


async def in_a_nursery(calls):
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(call)


GROUPS = {
    "asyncio.TaskGroup": (lambda main: asyncio.run(main(in_a_task_group), debug=True), 3),
    # httpx leaves a generator to trio's warnings where a neighbour's failure cancels a call that is being sent.
    "trio.Nursery": (lambda main: trio.run(main, in_a_nursery), 1),
}
"""How a group is run, and how many calls are in it."""


def of_credentials(group):
    """Its members that are of the package, however deep."""
    return group.subgroup(CredentialsRejected).exceptions


@every_module
@pytest.mark.parametrize(("run", "number"), GROUPS.values(), ids=GROUPS)
def test_a_group_of_failed_calls_shows_no_secret(home, signed, module, run, number, caplog):
    caplog.set_level(1)
    told = []

    async def main(together):
        async with module.AsyncClient(auth=signed, timeout=PATIENCE) as client:

            async def call():
                await client.post(home.url + TR, content=BODY, headers=HEADERS)

            await together([call] * number)
            home.expire_tokens()
            home.script(TOKEN_PATH, *[recorded.BAD_KEY_PAIR] * 3)
            with pytest.raises(ExceptionGroup) as caught:
                await together([call] * number)
            assert of_credentials(caught.value)
            look_into(caught.value, home)
            told.append(caught.value)

    run(main)
    assert len(told) == 1
    ours = [record for record in caplog.records if record.name.startswith("kiwoom_auth_plugin")]
    assert ours
    assert traces("".join(f"{record.getMessage()}{vars(record)!r}" for record in ours), *secrets_of(home)) == []


def error_group():
    return ExceptionGroup("a group", [OSError(1), ValueError(2)])


def interrupt_group():
    return BaseExceptionGroup("a group", [KeyboardInterrupt()])


class Broken:
    """A store one of whose methods fails."""

    def __init__(self, method, make):
        self._method, self._make = method, make

    def _may_fail(self, method):
        if method == self._method:
            raise self._make()

    def load(self, _key):
        self._may_fail("load")

    def save(self, _key, _value, _ttl):
        self._may_fail("save")

    def delete(self, _key):
        self._may_fail("delete")

    def lock(self, _key, _timeout):
        self._may_fail("lock")
        return contextlib.nullcontext()


def errors_of(*calls):
    """What each of them raises, if it does."""
    errors = []
    for call in calls:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - an interrupt is among them
            errors.append(error)
    return errors


def uses_of(auth, kiwoom):
    """All that a program does with an auth object, a token that is replaced and one that cannot be included."""

    def call():
        requests.post(kiwoom.url + TR, BODY, headers=HEADERS, auth=auth, timeout=PATIENCE)

    def fail():
        kiwoom.expire_tokens()
        kiwoom.script(TOKEN_PATH, recorded.BAD_KEY_PAIR)

    def again():
        auth.invalidate("x")  # or the failure would answer for a while

    return [auth.get_token, call, kiwoom.expire_tokens, call, fail, call, again, auth.revoke, auth.get_token]


@pytest.mark.parametrize("make", [error_group, interrupt_group, RuntimeError, SystemExit])
@pytest.mark.parametrize("method", ["load", "save", "delete", "lock"])
def test_a_store_that_raises_a_group_shows_no_secret(home, make_auth, clock, caplog, method, make):
    pytest.importorskip("cryptography")
    auth = make_auth(emulator=home, clock=clock, store=Broken(method, make))
    errors = errors_of(*uses_of(auth, home))
    assert any(isinstance(error, CredentialsRejected) for error in errors)
    for error in errors:
        look_into(error, home)
    assert auth.get_token() == home.token
    assert traces(caplog.text, *secrets_of(home)) == []


class BrokenCache(dict):
    def get(self, *key):
        raise ExceptionGroup("a group", [KeyError(key)])


def test_a_cache_that_raises_a_group_shows_no_secret(home, make_auth, clock, caplog):
    auth = make_auth(emulator=home, clock=clock, cache=BrokenCache())
    errors = errors_of(*uses_of(auth, home))
    assert any(isinstance(error, CredentialsRejected) for error in errors)
    for error in errors:
        look_into(error, home)
    assert traces(caplog.text, *secrets_of(home)) == []


def test_a_vault_that_raises_a_group_shows_no_secret(home, make_auth, clock, caplog):
    def vault():
        if is_broken:
            raise ExceptionGroup("a group", [LookupError("vault")])
        return home.secretkey

    is_broken = False
    auth = make_auth(emulator=home, clock=clock, secretkey=vault)
    auth.get_token()
    is_broken = True
    errors = errors_of(*uses_of(auth, home)[1:])
    assert errors
    for error in errors:
        look_into(error, home)
    assert traces(caplog.text, *secrets_of(home)) == []


# Arguments


@pytest.mark.parametrize("name", ["timeout", "refresh_margin"])
@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 10**400, True, "1"], ids=lambda it: f"{it!r:.6}")
def test_what_is_no_number_of_seconds_is_refused_by_name(name, seconds):
    with pytest.raises((TypeError, ValueError), match=rf"^{name} "):
        KiwoomBearerAuth("an-appkey", "a-secretkey", **{name: seconds})
