"""What leaves the process is sealed: it opens for the same appkey, host and secretkey only, and while it is good."""

import base64
import json
import math
import re
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiwoom_auth_plugin._keys import Masked, digest
from kiwoom_auth_plugin._seal import VERSION, Seal
from kiwoom_auth_plugin._token import AccessToken

from .conftest import ManualClock
from .leaks import shown_by
from .shelf import Shelf

APPKEY = "the-appkey-0123456789-0123456789-0123456789"
SECRETKEY = Masked("the-Secretkey-0123456789-0123456789-0123456")
HOST = "https://api.kiwoom.com"
VALUE = "a-token-that-somebody-may-look-for-0123456789"
DAY = 86_400.0


def seal_of(appkey=APPKEY, host=HOST, secretkey=SECRETKEY, clock=None):
    return Seal(appkey, host, Masked(secretkey), clock or ManualClock())


def token_at(clock, value=VALUE, life=DAY):
    now = clock.now()
    return AccessToken(value, now, now + life, digest(SECRETKEY), 1_700_000_000.0)


def test_what_was_sealed_opens_in_another_process(clock):
    token = token_at(clock)
    sealed = seal_of(clock=clock).close(token)
    opened = seal_of(clock=clock).open(sealed)
    assert opened == token
    assert opened.header == f"Bearer {VALUE}"


@given(st.text(alphabet=[chr(number) for number in range(0x21, 0x7F)], min_size=1, max_size=8192))
def test_any_token_survives_and_what_a_store_gets_is_short_ascii(value):
    clock = ManualClock()
    sealed = seal_of(clock=clock).close(token_at(clock, value))
    assert sealed.isascii()
    assert len(sealed) <= 32 * 1024
    assert seal_of(clock=clock).open(sealed).value == value


def test_the_key_is_a_digest_that_differs_with_each_of_the_three():
    keys = {
        seal_of().key,
        seal_of(appkey="another").key,
        seal_of(host="https://mockapi.kiwoom.com").key,
        seal_of(secretkey="another").key,
        seal_of(appkey=f"{APPKEY}x", host=HOST).key,
    }
    assert len(keys) == 5
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)


@pytest.mark.parametrize("secret", [VALUE, APPKEY, str.__str__(SECRETKEY)])
def test_no_secret_is_to_be_found_in_key_or_value(clock, secret):
    seal = seal_of(clock=clock)
    sealed = seal.close(token_at(clock))
    inner = base64.urlsafe_b64decode(sealed[len(VERSION) :])
    plain = secret.encode()
    for shown in (seal.key.encode(), sealed, inner):
        utf16 = plain.decode().encode("utf-16-le")
        for form in (plain, plain[::-1], plain.hex().encode(), base64.b64encode(plain)[:-4], utf16):
            assert form not in shown
        assert plain[:12] not in shown


@pytest.mark.parametrize(
    "other",
    [{"appkey": "another"}, {"host": "https://mockapi.kiwoom.com"}, {"secretkey": "another-secretkey"}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_sealed_for_another_does_not_open(clock, other):
    sealed = seal_of(clock=clock, **other).close(token_at(clock))
    assert seal_of(clock=clock).open(sealed) is None


@given(st.data())
def test_what_was_tampered_with_does_not_open(data):
    clock = ManualClock()
    sealed = seal_of(clock=clock).close(token_at(clock))
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != sealed[place]))
    tampered = sealed[:place] + bytes([other]) + sealed[place + 1 :]
    opened = seal_of(clock=clock).open(tampered)
    assert opened is None or opened.value == VALUE  # base64 has more than one way to write its last character


@given(st.integers(0, 400))
def test_what_is_truncated_does_not_open(length):
    clock = ManualClock()
    sealed = seal_of(clock=clock).close(token_at(clock))
    assert seal_of(clock=clock).open(sealed[: min(length, len(sealed) - 3)]) is None


@given(st.binary() | st.binary(max_size=100).map(lambda value: VERSION + value))
def test_what_is_foreign_does_not_open(value):
    assert seal_of().open(value) is None


def resealed(seal, fields):
    return VERSION + seal._fernet.encrypt(json.dumps(fields).encode())


GOOD = {"token": VALUE, "issued": 1_700_000_000.0, "life": DAY, "dated": 1_700_000_000.0}


def test_the_fields_of_the_cases_below_are_good(clock):
    seal = seal_of(clock=clock)
    assert seal.open(resealed(seal, GOOD)).value == VALUE


@pytest.mark.parametrize(
    "fields",
    [
        [],
        "text",
        {},
        *({name: value for name, value in GOOD.items() if name != missing} for missing in GOOD),
        GOOD | {"token": "white space"},
        GOOD | {"token": ""},
        GOOD | {"token": "x" * 8193},
        GOOD | {"token": 5},
        GOOD | {"issued": "yesterday"},
        GOOD | {"issued": True},
        GOOD | {"issued": math.nan},
        GOOD | {"issued": -math.inf},
        GOOD | {"life": 0},
        GOOD | {"life": 25 * 3600 + 1},
        GOOD | {"life": math.nan},
        GOOD | {"dated": None},
        GOOD | {"dated": math.nan},
        GOOD | {"dated": math.inf},
        GOOD | {"issued": 10**400},
        GOOD | {"issued": -(10**400)},
    ],
    ids=repr,
)
def test_fields_that_cannot_be_are_ignored(clock, fields):
    """Of another version of this package, say: it has the key."""
    seal = seal_of(clock=clock)
    assert seal.open(resealed(seal, fields)) is None


def test_another_format_is_ignored(clock):
    seal = seal_of(clock=clock)
    sealed = seal.close(token_at(clock))
    assert seal.open(b"kiwoom0." + sealed[len(VERSION) :]) is None
    assert seal.open(sealed[len(VERSION) :]) is None


def test_a_token_opens_until_its_deadline_and_not_from_then_on(clock):
    seal = seal_of(clock=clock)
    sealed = seal.close(token_at(clock))
    clock.advance(DAY - 1)
    assert seal.open(sealed).deadline == pytest.approx(clock.now() + 1)
    clock.advance(1)
    assert seal.open(sealed) is None


def test_what_was_sealed_late_in_its_life_has_the_rest_of_it(clock):
    token = token_at(clock)
    clock.advance(3600)
    opened = seal_of(clock=clock).open(seal_of(clock=clock).close(token))
    assert opened.deadline == pytest.approx(token.deadline)
    assert opened.issued_at == pytest.approx(token.issued_at)


def test_a_clock_that_is_behind_lengthens_no_life(clock):
    """Another machine's, or this one's after it was set back."""
    sealed = seal_of(clock=clock).close(token_at(clock))
    behind = ManualClock(clock.wall() - 5 * 3600)
    opened = seal_of(clock=behind).open(sealed)
    assert opened.deadline - behind.now() == DAY


def test_a_clock_that_is_ahead_shortens_a_life(clock):
    sealed = seal_of(clock=clock).close(token_at(clock))
    ahead = ManualClock(clock.wall() + 5 * 3600)
    assert seal_of(clock=ahead).open(sealed).deadline - ahead.now() == DAY - 5 * 3600
    assert seal_of(clock=ManualClock(clock.wall() + DAY)).open(sealed) is None


def test_a_suspended_laptop_does_not_lengthen_a_life(clock):
    token = token_at(clock)
    clock.suspend(3600)
    sealed = seal_of(clock=clock).close(token)
    another_process = ManualClock(clock.wall())
    assert seal_of(clock=another_process).open(sealed).deadline - another_process.now() == DAY - 3600


def test_a_seal_shows_nothing():
    assert SECRETKEY not in repr(seal_of())
    assert not hasattr(seal_of(), "__dict__")


def test_what_is_too_large_is_not_even_looked_at(clock):
    seal = seal_of(clock=clock)
    assert seal.open(VERSION + b"A" * 64 * 1024) is None
    sealed = seal.close(token_at(clock, "\\" * 8192))
    assert len(sealed) <= 32 * 1024
    assert seal.open(sealed) is not None


@pytest.mark.parametrize("ask", ["get_token", "revoke"])
def test_an_interrupt_in_the_making_of_a_seal_shows_no_key(make_auth, kiwoom_emulator, ask):
    """Those who make it, hmac and the like, hold the secretkey in plain variables."""

    class Interrupted(BaseException):
        pass

    def interrupt(frame, happening, _argument):
        if happening == "call" and frame.f_code.co_filename.endswith("hmac.py"):
            sys.setprofile(None)
            raise Interrupted

    auth = make_auth(cache={}, store=Shelf())
    if ask == "revoke":
        auth.get_token()
    sys.setprofile(interrupt)
    try:
        with pytest.raises(Interrupted) as raised:
            auth.revoke() if ask == "revoke" else auth.get_token()
    finally:
        sys.setprofile(None)
    names = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    assert not any(name.endswith(("hmac.py", "/_seal.py")) for name in names)
    assert kiwoom_emulator.secretkey not in shown_by(raised.value)
