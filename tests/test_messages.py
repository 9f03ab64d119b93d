"""What the errors say, word for word: what happened, to whom, and what to do about it."""

import json

import pytest

from kiwoom_auth_plugin import IssueLimitExceeded, KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin._answer import SIZE_LIMIT, Answer, Context, success
from kiwoom_auth_plugin._au10001 import read
from kiwoom_auth_plugin._keys import Masked, MaskedBytes, Secretkey, masked
from kiwoom_auth_plugin.stores._protocol import checked_delay, require

HOST = "https://api.kiwoom.com"
SECRETKEY = "the-Secretkey-0123456789"
NOON = 1_730_862_000.0
"""2024-11-06 12:00 in Korea."""
LATER = "Try again later."
LOOK = "If it lasts, look for a proxy in between or for maintenance."
UNKNOWN = "This package does not know that answer: look it up at https://openapi.kiwoom.com."
FAILED = "Kiwoom's server failed: try again later."
LESS = "Call less often: wait, and let all programs that use this appkey share one token."


def answer(status=200, **fields):
    return Answer(status, {}, json.dumps(fields, ensure_ascii=False).encode())


def error_of(answer):
    with pytest.raises(KiwoomAuthError) as raised:
        success(answer, Context("AU10001", HOST, (SECRETKEY,)))
    return raised.value


NOT_JSON = b"<html>"
REDIRECT = "it is a redirect, which is never followed (Kiwoom is seen to do so at weekends)"
UNUSABLE = [
    (Answer(200, {}, NOT_JSON), "it is not the JSON object expected", LOOK),
    (Answer(404, {}, NOT_JSON), "it is not the JSON object expected", LOOK),
    (Answer(499, {}, NOT_JSON), "it is not the JSON object expected", LOOK),
    (Answer(500, {}, NOT_JSON), "it is not the JSON object expected", LATER),
    (Answer(502, {}, NOT_JSON), "it is not the JSON object expected", LATER),
    (answer(404, return_code=0), "its status is none of success", LOOK),
    (answer(199, return_code=0), "its status is none of success", LOOK),
    (Answer(200, {}, b"x" * SIZE_LIMIT), "it is not the JSON object expected", LOOK),
    (Answer(200, {}, b"x" * (SIZE_LIMIT + 1)), "it has more than 1048576 bytes", LOOK),
    (Answer(299, {}, NOT_JSON), "it is not the JSON object expected", LOOK),
    (Answer(300, {}, NOT_JSON), REDIRECT, LOOK),
    (Answer(399, {}, NOT_JSON), REDIRECT, LOOK),
    (answer(302, return_code=0), REDIRECT, LOOK),
    (Answer(400, {}, NOT_JSON), "it is not the JSON object expected", LOOK),
    (answer(return_code="ok"), "its return_code is not a number", LOOK),
]


@pytest.mark.parametrize(("answer", "why", "advice"), UNUSABLE)
def test_an_answer_that_is_none_says_why_and_what_to_do(answer, why, advice):
    told = f"{HOST}: the answer to AU10001 (HTTP {answer.status}) is not usable: {why}. {advice}"
    assert str(error_of(answer)) == told


REFUSED = [
    (answer(return_code=3, return_msg="안녕"), f"(HTTP 200, return_code 3): 안녕. {UNKNOWN}"),
    (answer(return_code=3), f"(HTTP 200, return_code 3). {UNKNOWN}"),
    (answer(return_code=3, return_msg=""), f"(HTTP 200, return_code 3). {UNKNOWN}"),
    (answer(503, return_code=3), f"(HTTP 503, return_code 3). {UNKNOWN}"),
    (answer(return_code=4711, return_msg="[4711:안녕]"), f"(HTTP 200, code 4711): [4711:안녕]. {UNKNOWN}"),
    (answer(return_code=3, return_msg="[1234:안녕]"), f"(HTTP 200, code 1234): [1234:안녕]. {UNKNOWN}"),
    (answer(return_code=8003, return_msg="  안녕  "), f"(HTTP 200, code 8003):   안녕  . {FAILED}"),
    (answer(429), f"(HTTP 429, no code). {LESS}"),
    (answer(429, return_code=0, return_msg="안녕"), f"(HTTP 429, return_code 0): 안녕. {LESS}"),
    (Answer(429, {}, NOT_JSON), f"(HTTP 429, no code). {LESS}"),
    (answer(return_code=5, return_msg="[1702:안녕]"), f"(HTTP 200, code 1702): [1702:안녕]. {LESS}"),
]


@pytest.mark.parametrize(("answer", "told"), REFUSED)
def test_a_refusal_is_told_in_kiwooms_own_words_with_what_to_do(answer, told):
    assert str(error_of(answer)) == f"{HOST}: AU10001 was refused {told}"


def test_too_many_requests_are_an_issue_limit_whatever_the_body_says():
    assert type(error_of(Answer(429, {}, NOT_JSON))) is IssueLimitExceeded
    assert error_of(answer(429, return_code=3)).return_code == 3


def no_token(**fields):
    given = {"token": "a-Token", "token_type": "bearer", "expires_dt": "20241107120000"} | fields
    with pytest.raises(KiwoomAuthError) as raised:
        read(answer(**given), host=HOST, secretkey=SECRETKEY, sent_at=0.0, wall=NOON)
    return str(raised.value)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"token": ""}, "its token is missing or not 1 to 8192 characters of visible ASCII"),
        ({"token_type": "mac"}, "its token_type is not bearer"),
        ({"expires_dt": None}, "its expires_dt is missing or not a date and time"),
        ({"expires_dt": "20241106103000"}, "its token would expire in -1.5 hours; possible are 0 to 24"),
        ({"expires_dt": "20241107133600"}, "its token would expire in 25.6 hours; possible are 0 to 24"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_what_it_has_to_be(fields, why):
    told = f"{HOST}: the answer to AU10001 (HTTP 200) is not usable: {why}. {LOOK}"
    assert no_token(**fields) == told


# The arguments

VISIBLE = "must be visible ASCII characters, at least one: no white space, no control characters, nothing else"
PLACE = (
    "host must be an https origin such as 'https://api.kiwoom.com', a loopback http origin such as "
    "'http://127.0.0.1:8080', or a bare host name (without a dot: of up to 31 characters); without user name, "
    "path, query or fragment"
)
SECONDS = "must be a finite number of seconds, not negative"


class Store:
    max_delay = 2.0

    def load(self, key): ...

    def save(self, key, value, ttl): ...

    def delete(self, key): ...

    def lock(self, key, timeout): ...


class Halfway(Store):
    lock = None


def with_fallback(store):
    first = Store()
    first.fallback = store
    return first


def slow(seconds):
    store = Store()
    store.max_delay = seconds
    return store


METHODS = "must have the methods of a TokenStore: load, save, delete and lock"


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"appkey": 5}, TypeError, "appkey must be a string"),
        ({"appkey": "a b"}, ValueError, f"appkey {VISIBLE}"),
        ({"secretkey": ""}, ValueError, f"secretkey {VISIBLE}"),
        ({"host": 5}, TypeError, "host must be a string, not int"),
        ({"host": "ftp://x"}, ValueError, PLACE),
        ({"host": "https://x:0"}, ValueError, "host has a port outside 1 to 65535"),
        ({"host": "https://x:65536"}, ValueError, "host has a port outside 1 to 65535"),
        (
            {"host": "http://x"}, ValueError,
            "host must be https: plain http would show keys and tokens to everybody on the way",
        ),
        ({"cache": 5}, TypeError, "cache must be a mutable mapping, such as a cachetools cache"),
        ({"client": 5}, TypeError, "client must be a requests.Session, an httpx.Client or an httpx2.Client"),
        ({"store": 5}, TypeError, f"store {METHODS}"),
        ({"store": Store}, TypeError, f"store {METHODS}"),
        ({"store": Halfway()}, TypeError, f"store {METHODS}"),
        ({"store": with_fallback(Halfway())}, TypeError, f"the fallback of store {METHODS}"),
        ({"store": slow(True)}, TypeError, "max_delay must be a number of seconds"),
        ({"store": slow("2")}, TypeError, "max_delay must be a number of seconds"),
        ({"store": slow(0)}, ValueError, "max_delay must be more than 0 and at most 60 seconds"),
        ({"store": with_fallback(slow(61))}, ValueError, "max_delay must be more than 0 and at most 60 seconds"),
        ({"timeout": True}, TypeError, "timeout must be a number of seconds"),
        ({"timeout": -1}, ValueError, f"timeout {SECONDS}"),
        ({"refresh_margin": "5"}, TypeError, "refresh_margin must be a number of seconds"),
        ({"refresh_margin": float("nan")}, ValueError, f"refresh_margin {SECONDS}"),
        ({"refresh_margin": 10**400}, ValueError, f"refresh_margin {SECONDS}"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_be_is_named_with_what_it_has_to_be(arguments, error, told):
    with pytest.raises(error) as raised:
        KiwoomBearerAuth(**{"appkey": "appkey", "secretkey": "secretkey"} | arguments)
    assert str(raised.value) == told


@pytest.mark.parametrize("seconds", [0.001, 1, 59.5, 60, 60.0])
def test_a_store_may_delay_an_exchange_by_up_to_a_minute(seconds):
    delay = checked_delay(seconds)
    assert (delay, type(delay)) == (seconds, float)


def test_a_library_that_is_missing_is_named_with_the_line_that_installs_it():
    require("file", "json", "os.path")
    with pytest.raises(ImportError) as raised:
        require("redis", "json", "a_library_that_nobody_has")
    assert raised.value.name == "a_library_that_nobody_has"
    assert raised.value.__cause__ is None
    assert str(raised.value) == (
        "a store needs the package a_library_that_nobody_has, which cannot be imported (ModuleNotFoundError); "
        'install it: python -m pip install "cryptography>=44.0.1" "redis>=5.0.1"'
    )


# The keys' other places


def test_a_variable_that_holds_no_key_is_named(monkeypatch):
    for variable, key, told in (
        ("KIWOOM_APPKEY", None, "is not set"), ("KIWOOM_APPKEY", "a b", VISIBLE), ("KIWOOM_SECRETKEY", "", VISIBLE)
    ):  # fmt: skip
        monkeypatch.setenv("KIWOOM_APPKEY", "appkey")
        monkeypatch.setenv("KIWOOM_SECRETKEY", "secretkey")
        if key is None:
            monkeypatch.delenv(variable)
        else:
            monkeypatch.setenv(variable, key)
        with pytest.raises(ValueError, match="variable") as raised:
            KiwoomBearerAuth.from_env()
        assert str(raised.value) == f"the environment variable {variable} {told}"


def test_a_file_that_holds_no_key_is_named(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("good")
    bad.write_text("b ad")
    for paths, what in (((bad, good), "appkey"), ((good, bad), "secretkey")):
        with pytest.raises(ValueError, match=what) as raised:
            KiwoomBearerAuth.from_files(*paths)
        assert str(raised.value) == f"the {what} in {bad} {VISIBLE}"


def vault_that_fails():
    raise OSError


@pytest.mark.parametrize(
    ("vault", "told"),
    [
        (vault_that_fails, "the secretkey callable raised OSError"),
        (lambda: "a b", "the secretkey callable must return visible ASCII characters, at least one"),
        (lambda: None, "the secretkey callable must return visible ASCII characters, at least one"),
    ],
)
def test_a_vault_that_gives_no_key_is_told(vault, told):
    with pytest.raises(KiwoomAuthError) as raised:
        KiwoomBearerAuth("appkey", vault, cache={}).get_token()
    assert (str(raised.value), raised.value.host) == (f"{HOST}: {told}", HOST)


def test_a_secret_prints_as_a_literal_that_holds_none():
    secretkey = Secretkey(SECRETKEY)
    shown = [repr(Masked(SECRETKEY)), repr(MaskedBytes(SECRETKEY.encode())), repr(secretkey), repr(secretkey.source)]
    assert shown == ["'…'", "b'…'", "Secretkey(…)", "'…'"]


@pytest.mark.parametrize(
    ("appkey", "shown"), [("k", "…"), ("abcdefghijk", "…"), ("abcdefghijkl", "abcd…"), ("abcdefghijklmnop", "abcd…")]
)
def test_of_an_appkey_no_more_than_a_third_is_shown(appkey, shown):
    assert masked(appkey) == shown
