"""Coverage-guided fuzzing of what reads bytes of others (tox -e fuzz): answers, sealed tokens, URLs, host arguments.

    python tests/fuzz/fuzz.py TARGET [-runs=N] [FOLDER ...]         the options and folders are libFuzzer's

Each target starts from what Kiwoom is known to answer. What it promises is asserted: an input that breaks it ends the
run, and libFuzzer leaves it in a file ``crash-…`` among the temporary ones, which as an argument in place of a folder
is tried again.
"""

import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kiwoom_auth_plugin", "json", "email", "urllib.parse", "ipaddress"]):
    import json
    from email.utils import formatdate

    import requests
    from urllib3.exceptions import HTTPError
    from urllib3.util import parse_url

    from kiwoom_auth_plugin import KiwoomAuthError, _answer, _au10001, _au10002, _refusal, errors
    from kiwoom_auth_plugin._clock import Clock
    from kiwoom_auth_plugin._keys import Masked
    from kiwoom_auth_plugin._origin import Origin
    from kiwoom_auth_plugin._seal import VERSION, Seal
    from kiwoom_auth_plugin._token import LONGEST_LIFE, AccessToken
    from kiwoom_auth_plugin.testing import Answer, recorded

HOST = "https://api.kiwoom.com"
SECRETKEY = Masked("the-Secretkey-0123456789")
TOKEN = Masked("WQJCwyqInphKnR3bSRtB9NE1lv")
WALL = 1_730_850_000.0
"""2024-11-06 08:40 in Korea."""
CLOCK = Clock(lambda: WALL, lambda: 1_000.0, lambda _seconds: None)
SEAL = Seal("appkey", HOST, SECRETKEY, CLOCK)

STATUSES = [200, 201, 204, 301, 302, 400, 401, 403, 429, 500, 503, 599]
NAMES = ["date", "retry-after"]
RECORDED = [answer for answer in vars(recorded).values() if isinstance(answer, Answer)]
YES = [
    {"expires_dt": "20241107083713", "token_type": "bearer", "token": TOKEN},
    {"expires_dt": "2024-11-07 08:37:13", "token": TOKEN, "return_code": "0", "return_msg": "정상"},
    {"return_code": 0, "return_msg": f"the key {SECRETKEY} and the token {TOKEN} in its own words"},
    {"return_code": 3, "return_msg": f"{SECRETKEY}[8001:{TOKEN}]"},
]


COMPLAINTS = {
    (
        "host must be an https origin such as , a loopback http origin such as , or a bare host name "
        "(without a dot: of up to 31 characters); without user name, path, query or fragment"
    ),
    "host has a port outside 1 to 65535",
    "host must be https: plain http would show keys and tokens to everybody on the way",
}
"""All that may be said of a host argument: nothing of the argument itself, which may hold a password."""


# What an answer is made of: a byte for the status, one for the headers there are, a line for each, then the body.


def packed(status: int, headers: dict[str, str], body: bytes) -> bytes:
    there = sum(1 << place for place, name in enumerate(NAMES) if name in headers)
    lines = [headers[name].encode("latin-1") + b"\n" for name in NAMES if name in headers]
    return bytes([STATUSES.index(status), there]) + b"".join(lines) + body


def answer_in(data: bytes) -> _answer.Answer:
    choice, there, rest = (*data[:2], 0, 0)[0], (*data[:2], 0, 0)[1], data[2:]
    headers = {}
    for place, name in enumerate(NAMES):
        if there >> place & 1:
            line, _, rest = rest.partition(b"\n")
            headers[name] = line.decode("latin-1")
    return _answer.Answer(STATUSES[choice % len(STATUSES)], headers, rest)


def answers() -> Iterator[bytes]:
    date = {"date": formatdate(WALL, usegmt=True)}
    for answer in RECORDED:
        yield packed(answer.status, {}, answer.body)
        yield packed(answer.status, {**date, "retry-after": "5"}, answer.body)
    for fields in YES:
        yield packed(200, date, json.dumps(fields, ensure_ascii=False).encode())
        yield packed(200, {"retry-after": formatdate(WALL + 5)}, json.dumps(fields).encode("utf-8-sig"))


def with_another_field(data: bytes, limit: int, seed: int) -> bytes:
    """libFuzzer's mutator, which knows of bytes only, and every other time one that knows of JSON objects."""
    chance = random.Random(seed)
    head, brace, body = data.partition(b"{")
    try:
        fields = json.loads(brace + body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or chance.random() < 0.5:
        return atheris.Mutate(data, limit)
    name = chance.choice([*fields, *FIELDS])
    if name in fields and chance.random() < 0.2:
        del fields[name]
    else:
        fields[name] = chance.choice([*VALUES, *fields.values()])
    return (head + json.dumps(fields, ensure_ascii=chance.random() < 0.5).encode("utf-8", "replace"))[:limit]


FIELDS = ["token", "token_type", "expires_dt", "return_code", "return_msg", "issued", "life", "dated"]
VALUES = [
    None, True, False, 0, 1, -1, 3, 1e308, -1e308, 10**400, 0.1, float("nan"), float("inf"), [], {}, [[[]]], "", " ",
    "0", "00", "-0", "3", "8005", 8005, 8010, 1700, 1513, "[8005:", "[8050:x]", "CODE=8103", "CODE=80051",
    "[8001:" * 60, "Bearer", "bearer", "BEARER", "bearer ", "mac", "20241107083713", "20241106083713",
    "20241108083713", "20240230000000", "2024-11-07 08:37:13", "00010101000000", "99991231235959", "٢٠٢٤١١٠٧٠٨٣٧١٣",
    str(SECRETKEY), f"x{SECRETKEY}" * 20, str(TOKEN), "x" * 8192, "x" * 8193, "a\r\nX: y", "\x00", "\u2028", "\ud800",
    "\u202e", "토큰", WALL, WALL - 86_400.0, 86_400.0, 90_000.0, 90_000.1, -86_400.0,
]  # fmt: skip


# What comes out


def told(error: KiwoomAuthError, status: int, *secrets: str) -> None:
    """An error is one of ours, names the origin, and shows no secret."""
    assert type(error).__name__ in errors.__all__
    shown = [str(error), repr(error), repr(vars(error))]
    assert HOST in shown[0]
    assert all(character.isprintable() for character in shown[0]), shown[0]
    assert not any(str(secret) in text for text in shown for secret in secrets)
    assert error.status_code == status
    assert error.return_msg is None or len(error.return_msg) <= 300
    assert error.retry_after is None or 0 <= error.retry_after < float("inf")
    assert error.__cause__ is None


def issued(token: AccessToken) -> None:
    """A token can be sent in a header, and dies within the time that Kiwoom gives it."""
    assert 1 <= len(token.value) <= 8192
    assert all("\x21" <= character <= "\x7e" for character in token.value)
    assert 0 < token.deadline - token.issued_at <= LONGEST_LIFE + 1e-3
    assert len(token.value) < 12 or token.value not in repr(token)


def complained(error: ValueError) -> None:
    """What is wrong with a host argument is told without the argument."""
    assert re.sub("'.*?'", "", str(error)) in COMPLAINTS, error
    assert error.__cause__ is None


# The targets


def au10001(data: bytes) -> None:
    answer = answer_in(data)
    try:
        token = _au10001.read(answer, host=HOST, secretkey=SECRETKEY, sent_at=WALL, wall=WALL)
    except KiwoomAuthError as error:
        told(error, answer.status, SECRETKEY)
    else:
        issued(token)


def au10002(data: bytes) -> None:
    answer = answer_in(data)
    try:
        _au10002.check(answer, host=HOST, secretkey=SECRETKEY, token=TOKEN)
    except KiwoomAuthError as error:
        told(error, answer.status, SECRETKEY, TOKEN)


def success(data: bytes) -> None:
    answer = answer_in(data)
    try:
        fields = _answer.success(answer, _answer.Context("AU10001", HOST, (SECRETKEY,)))
    except KiwoomAuthError as error:
        told(error, answer.status, SECRETKEY)
    else:
        assert isinstance(fields, dict)
        assert 200 <= answer.status < 300
        json.dumps(fields)


def refusal(data: bytes) -> None:
    answer = answer_in(data)
    code = _refusal.code_in(answer.status, answer.body)
    assert code is None or abs(code) < 10**9
    refused = _refusal.refuses_token(answer.status, answer.body)
    if refused:
        assert code in _refusal.TOKEN_REFUSED or (code is None and answer.status == 401)
    else:
        assert code not in _refusal.TOKEN_REFUSED
    _refusal.refuses_header(answer.status, answer.body)
    text = answer.headers.get("date")
    _refusal.worth_reading(text, answer.headers.get("retry-after"))


def seal(data: bytes) -> None:
    """Bytes as a store may give them, and the same as what only the secretkey's holder could have sealed."""
    for value in (data, VERSION + SEAL._fernet.encrypt(data)):
        token = SEAL.open(value)
        if token is not None:
            issued(token)
            assert WALL < token.deadline <= WALL + LONGEST_LIFE


def url(data: bytes) -> None:
    """Where the token goes is where the origin says: requests sends by urllib3, which reads URLs in its own way."""
    text = data.decode("utf-8", "surrogateescape")
    origin = Origin.of_url(text)
    if origin is not None:
        assert origin.scheme in {"http", "https"}
        assert origin.host
        assert 0 < origin.port < 65536
        if re.fullmatch(r"[a-z0-9.:-]+", origin.host):
            assert Origin.of_url(origin.url) == origin, origin
    try:
        prepared = requests.Request("GET", text).prepare().url
        there = parse_url(prepared)
    except (ValueError, requests.RequestException, HTTPError):
        return  # nothing is sent
    if Origin.of_url(prepared) == Origin.of_url(HOST):
        assert (there.scheme, there.host, there.port or 443) == ("https", "api.kiwoom.com", 443), prepared


def host(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        origin = Origin.from_host_argument(text)
    except ValueError as error:
        complained(error)
    else:
        assert origin.scheme == "https" or origin.is_loopback
        assert Origin.from_host_argument(origin.url) == Origin.of_url(origin.url) == origin


def sealed() -> Iterator[bytes]:
    now = CLOCK.now()
    yield SEAL.close(AccessToken(TOKEN, now, now + 86_400.0, SEAL._digest, WALL))
    yield json.dumps({"token": TOKEN, "issued": WALL - 5.0, "life": 86_400.0, "dated": WALL}).encode()
    yield VERSION


def places() -> Iterator[bytes]:
    yield from (b"https://api.kiwoom.com", b"mockapi.kiwoom.com/", b"http://127.0.0.1:8080", b"https://:1")
    yield from (b"https://user:word@API.kiwoom.com.:443", b"wss://api.kiwoom.com:10000")
    yield from (b"//[fe80::1%25eth0]", b"http://[::1]:8080/a?b#c")


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]]]] = {
    "au10001": (au10001, answers),
    "au10002": (au10002, answers),
    "success": (success, answers),
    "refusal": (refusal, answers),
    "seal": (seal, sealed),
    "url": (url, places),
    "host": (host, places),
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"python {sys.argv[0]} TARGET [-runs=N] [FOLDER ...], where TARGET is one of {', '.join(TARGETS)}")
    program, name, *arguments = sys.argv
    target, seeds = TARGETS[name]
    if all(argument.startswith("-") for argument in arguments):
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        for number, seed in enumerate(seeds()):
            (folder / str(number)).write_bytes(seed)
        arguments.append(str(folder))
    arguments.insert(0, f"-artifact_prefix={tempfile.gettempdir()}/")
    atheris.Setup([program, *arguments], target, custom_mutator=with_another_field)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
