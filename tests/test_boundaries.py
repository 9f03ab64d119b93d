"""Limits, looked at from both sides: the last that is good and the first that is not."""

import hashlib
import json
import pickle
import time
from datetime import UTC, datetime

import pytest

from kiwoom_auth_plugin import InvalidTokenResponse, KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin._answer import Answer, Context, success
from kiwoom_auth_plugin._au10001 import read
from kiwoom_auth_plugin._clock import Clock
from kiwoom_auth_plugin._codes import numeric, official_code
from kiwoom_auth_plugin._keys import Masked, digest, read_key_file
from kiwoom_auth_plugin._origin import Origin
from kiwoom_auth_plugin._refusal import READ_LIMIT, may_refuse, refuses_token, worth_reading
from kiwoom_auth_plugin._seal import _YEAR_10000, _is_number
from kiwoom_auth_plugin._token import LAST_MOMENT, LONGEST_LIFE, AccessToken, bearer_token, carried_token

HOST = "https://api.kiwoom.com"
SECRETKEY = "the-Secretkey-0123456789"
NOON = 1_730_862_000.0
"""2024-11-06 12:00 in Korea."""
SENT_AT = 5_000.0


def issued_with(life):
    fields = {"token": "a-Token", "expires_dt": "20241106120000"}
    answer = Answer(200, {}, json.dumps(fields).encode())
    return read(answer, host=HOST, secretkey=SECRETKEY, sent_at=SENT_AT, wall=NOON - life)


@pytest.mark.parametrize("life", [0.5, 1.0, 86_400.0, LONGEST_LIFE])
def test_a_token_lives_up_to_25_hours(life):
    assert issued_with(life).deadline == SENT_AT + life


@pytest.mark.parametrize(
    ("life", "retryable"),
    [
        (0.0, True), (-0.5, True), (0.5 - LAST_MOMENT, True), (-LAST_MOMENT, False), (-3600.0, False),
        (LONGEST_LIFE + 0.5, False),
    ],
)  # fmt: skip
def test_a_token_that_has_just_died_is_asked_for_again_and_no_other_that_cannot_be(life, retryable):
    with pytest.raises(InvalidTokenResponse) as raised:
        issued_with(life)
    assert raised.value.retryable is retryable


@pytest.fixture
def in_korea(monkeypatch):
    """The machine's time zone, which is no matter of the server's."""
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process can be set on POSIX only")
@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000", "UT", ""])
def test_a_date_without_a_zone_is_utc_on_a_machine_in_korea(in_korea, zone):
    answer = Answer(200, {"date": f"Wed, 06 Nov 2024 03:00:00 {zone}"}, b"")
    assert datetime.fromtimestamp(answer.date, UTC) == datetime(2024, 11, 6, 3, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_an_answer_that_is_none_may_say_when_to_come_back(status):
    with pytest.raises(KiwoomAuthError) as raised:
        success(Answer(status, {"retry-after": "7"}, b"<html>"), Context("AU10001", HOST, ()))
    assert raised.value.retry_after == 7.0


@pytest.mark.parametrize(("number", "code"), [(999, None), (1000, 1000), (9999, 9999), (10000, None), (-1000, None)])
@pytest.mark.parametrize("kind", [int, str])
def test_a_return_code_of_four_digits_is_an_official_code(number, code, kind):
    assert official_code(kind(number), None) == code


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_has_up_to_nine_digits(kind, sign):
    assert numeric(kind(sign * 999_999_999)) == sign * 999_999_999
    assert numeric(kind(sign * 1_000_000_000)) is None


@pytest.mark.parametrize("host", ["X.example.X", "x.example.x", "[X.example.X]"])
def test_of_a_host_only_its_brackets_are_taken_away(host):
    assert Origin.of("HTTPS", host, None) == ("https", "x.example.x", 443)


@pytest.mark.parametrize(
    ("length", "worth"),
    [("0", True), (f"{READ_LIMIT}", True), (f"{READ_LIMIT + 1}", False), ("000000005", True), ("0000000005", False)],
)
def test_an_answer_is_read_up_to_16_kib_by_a_length_of_nine_digits(length, worth):
    assert worth_reading("application/json", length) is worth


def test_a_refusal_may_name_every_code_there_is():
    body = {"return_code": 3, "return_msg": "[8005:not 8010, 8031 or 8103]"}
    assert refuses_token(200, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer a-Token", "a-Token"), ("Bearer Bearer Bearer ", "Bearer Bearer "), ("Bearer ", ""),
        ("bearer a-Token", None), ("BEARER a-Token", None), ("Bearer", None), ("Basic Bearer ", None), (None, None),
        (b"Bearer a-Token", None),
    ],
)  # fmt: skip
def test_a_header_of_ours_is_told_by_its_first_word(header, token):
    assert bearer_token(header) == token


@pytest.fixture
def seal():
    pytest.importorskip("cryptography")
    from kiwoom_auth_plugin._seal import Seal

    return Seal("appkey", HOST, Masked(SECRETKEY), Clock(lambda: NOON, lambda: 1000.0))


def sealed(seal, text):
    from kiwoom_auth_plugin._seal import VERSION

    return VERSION + seal._fernet.encrypt(text.encode())


def fields_with(life):
    return json.dumps({"token": "a-Token", "issued": NOON, "life": life, "dated": NOON})


@pytest.mark.parametrize(("life", "opens"), [(0.5, True), (1, True), (LONGEST_LIFE, True), (LONGEST_LIFE + 0.5, False)])
def test_a_sealed_token_lives_up_to_25_hours(seal, life, opens):
    assert (seal.open(sealed(seal, fields_with(life))) is not None) is opens


@pytest.mark.parametrize(("padding", "length", "opens"), [(49_080, 65_536, True), (49_090, 65_556, False)])
def test_a_sealed_token_has_up_to_64_kib(seal, padding, length, opens):
    value = sealed(seal, fields_with(60.0).ljust(padding))
    assert len(value) == length
    assert (seal.open(value) is not None) is opens


def test_of_a_file_no_more_is_read_than_a_key_can_be(tmp_path):
    """One of a terabyte, all of it hole, would not even fit into memory."""
    key, huge = tmp_path / "key", tmp_path / "huge"
    key.write_text("key")
    huge.touch()
    try:
        with huge.open("r+b") as file:
            file.truncate(1 << 40)
    except OSError:
        pytest.skip("this file system has no room for holes")
    with pytest.raises(ValueError, match="appkey"):
        KiwoomBearerAuth.from_files(huge, key)


@pytest.mark.parametrize(("length", "good"), [(65_536, True), (65_537, False)])
def test_a_key_file_has_up_to_64_kib(tmp_path, length, good):
    (tmp_path / "key").write_text("k" * length)
    if good:
        assert read_key_file(tmp_path / "key", "appkey") == "k" * length
    else:
        with pytest.raises(ValueError, match="appkey"):
            read_key_file(tmp_path / "key", "appkey")


def test_a_digest_is_of_no_use_to_those_who_have_digests_of_secretkeys_for_another_purpose():
    """It stays as it is from version to version: a mapping of the user's may outlive the process."""
    expected = hashlib.blake2b(SECRETKEY.encode(), digest_size=16, person=b"kiwoom_secretkey").digest()
    assert digest(SECRETKEY) == expected
    assert len(expected) == 16


LABEL = "a" * 63


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("a" * 31, True), ("a" * 32, False), (f"{LABEL}.example", True), (f"{LABEL}a.example", False),
        (f"example.{LABEL}", True), (f"example.{LABEL}a", False),
        (f"{LABEL}.{LABEL}.{LABEL}.{'a' * 61}", True), (f"{LABEL}.{LABEL}.{LABEL}.{'a' * 62}", False),
    ],
)  # fmt: skip
def test_a_host_name_has_up_to_253_characters_and_63_between_its_dots_and_without_any_31(host, good):
    if good:
        assert Origin.from_host_argument(host).host == host
    else:
        with pytest.raises(ValueError, match="host must be"):
            Origin.from_host_argument(host)


def test_a_token_is_the_same_after_pickling():
    token = AccessToken("a-Token", 1.0, 2.0, b"digest", 3.0)
    assert pickle.loads(pickle.dumps(token)) == token


def test_the_token_of_a_request_of_ours_is_that_of_its_header():
    assert carried_token({"Authorization": "Bearer a-Token"}) == "a-Token"


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (b'{"price":8005,"return_code":0}', False),
        (b'{"of":{"price":8005},"return_code":0}', False),
        (b'{"price":8005,"of":{"return_code":0}}', True),
        (b'{"price":8005,"return_code":0,"return_code":8005}', True),  # the last one counts
        (b'"return_code":0,"price":8005}', True),  # no object
        (b'{"price":8005,"\\"return_code":0}', True),  # another name, which ends like it
    ],
)
def test_an_answer_that_ends_with_the_code_0_is_not_looked_into(body, may):
    assert may_refuse(200, body) is may


@pytest.mark.parametrize("sign", [1, -1])
def test_no_moment_is_as_late_as_the_year_10000(sign):
    assert _is_number(sign * (_YEAR_10000 - 1.0))
    assert not _is_number(sign * _YEAR_10000)
