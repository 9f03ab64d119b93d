"""The commands, driven as a user does, against a local Kiwoom."""

import contextlib
import gzip
import importlib.util
import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import trustme

from kiwoom_auth_plugin import MOCK_HOST, KiwoomBearerAuth, _cache, _sources
from kiwoom_auth_plugin._codes import OFFICIAL_CODES, Kind
from kiwoom_auth_plugin.cli import _account, _doctor, _emulator, _korean, main
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .crowd import PATIENCE

pytest.importorskip("filelock")
TOKEN, CALL = "/oauth2/token", "/api/dostk/stkinfo"
STOCK, STOCK_CODE = {"item": "005930", "type": "0B"}, {"stk_cd": "005930"}


@pytest.fixture
def account(kiwoom_emulator, monkeypatch):
    """The environment names the emulator and its keys."""
    for name, value in [
        ("KIWOOM_APPKEY", kiwoom_emulator.appkey),
        ("KIWOOM_SECRETKEY", kiwoom_emulator.secretkey),
        ("KIWOOM_HOST", kiwoom_emulator.url),
    ]:
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return kiwoom_emulator


@pytest.fixture
def kiwoom_auth(capsys):
    """Runs a command as a new process would: what was cached is gone; gives status, output and errors."""

    def run(*arguments):
        _cache.DEFAULT_CACHE.clear()
        _sources._recent.clear()
        _sources._sources.clear()
        capsys.readouterr()
        return (main(arguments), *capsys.readouterr())

    return run


def findings(output):
    """What the doctor has found: a mark for each check."""
    return dict(re.findall(r"^(\w+) +(ok|FAIL)  ", output, re.MULTILINE))


# token


def test_token_prints_the_token_alone_and_a_loop_issues_once(account, kiwoom_auth):
    for _ in range(3):
        assert kiwoom_auth("token") == (0, f"{account.token}\n", "")
    assert account.issued == 1


def test_programs_share_what_a_command_has_issued(account, kiwoom_auth):
    from kiwoom_auth_plugin.stores import FileStore

    kiwoom_auth("token")
    auth = KiwoomBearerAuth(account.appkey, account.secretkey, host=account.url, store=FileStore(), cache={})
    assert auth.get_token() == account.token
    assert account.issued == 1


def test_the_keys_may_be_in_the_portals_files(account, kiwoom_auth, monkeypatch, tmp_path):
    for name in ("APPKEY", "SECRETKEY"):
        (tmp_path / name).write_text(os.environ[f"KIWOOM_{name}"] + "\r\n")
        monkeypatch.delenv(f"KIWOOM_{name}")
    files = "--appkey-file", str(tmp_path / "APPKEY"), "--secretkey-file", str(tmp_path / "SECRETKEY")
    assert kiwoom_auth("token", *files)[0] == 0
    monkeypatch.delenv("KIWOOM_HOST")
    assert kiwoom_auth("token", *files, "--host", account.url)[0] == 0
    assert account.issued == 1


def test_files_without_a_host_are_for_the_real_one(account, kiwoom_auth, monkeypatch, tmp_path):
    key = tmp_path / "key"
    key.write_text("x" * 20)
    monkeypatch.delenv("KIWOOM_HOST")
    status, output, _ = kiwoom_auth("status", "--appkey-file", str(key), "--secretkey-file", str(key))
    assert (status, "host       https://api.kiwoom.com" in output) == (0, True)


@pytest.mark.parametrize("command", ["token", "status", "revoke", "doctor"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"KIWOOM_APPKEY": None}, "KIWOOM_APPKEY is not set"),
        ({"KIWOOM_SECRETKEY": "white space"}, "KIWOOM_SECRETKEY must be visible ASCII"),
        ({"KIWOOM_HOST": "ftp://nowhere"}, "the environment variable KIWOOM_HOST: host must be"),
    ],
    ids=["missing", "malformed", "host"],
)
def test_keys_that_are_missing_or_malformed_are_wrong_use(account, kiwoom_auth, monkeypatch, command, change, says):
    for name, value in change.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    status, output, errors = kiwoom_auth(command)
    assert status == 2
    assert says in output + errors
    assert len(errors.splitlines()) == (command != "doctor")
    assert "white space" not in (output + errors).replace("no white space", "")
    assert not account.journal


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"KIWOOM_APPKEY": None}, [], "키가 없습니다. 환경 변수 KIWOOM_APPKEY"),
        ({"KIWOOM_SECRETKEY": "white space"}, [], "키의 형식이 잘못되었습니다"),
        ({"KIWOOM_HOST": "http://api.kiwoom.com"}, [], "서버 주소가 잘못되었습니다"),
        ({}, ["--host", "http://api.kiwoom.com"], "서버 주소가 잘못되었습니다"),
        ({}, ["--appkey-file", "a"], "키 파일"),
        ({}, ["--appkey-file", "nowhere", "--secretkey-file", "nowhere"], "키 파일을 읽을 수 없습니다"),
    ],
)
def test_the_doctor_says_in_korean_what_is_wrong_with_keys_and_host(
    account, kiwoom_auth, monkeypatch, change, options, says
):
    for name, value in change.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    status, output, _ = kiwoom_auth("doctor", *options)
    assert (status, says in output) == (2, True)
    assert output.startswith("keys    FAIL  ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--appkey-file", "a"], "kiwoom-auth: error: --appkey-file and --secretkey-file go together\n"),
        (["--host", "ftp://a"], "kiwoom-auth: error: --host: host must be"),
        (["--appkey-file", "nowhere", "--secretkey-file", "nowhere"], "nowhere"),
        (["--app", "a"], "unrecognized arguments"),
        (["--secretkey", "a"], "unrecognized arguments"),
    ],
)
def test_options_that_cannot_be_are_wrong_use(account, kiwoom_auth, options, says):
    status, output, errors = kiwoom_auth("token", *options)
    assert (status, output) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["token", "hidden"], "error: unrecognized arguments, not shown here"),
        (["token", "--secretkey=hidden"], "error: unrecognized arguments, not shown here"),
        (["token", "hidden unrecognized arguments: x"], "error: unrecognized arguments, not shown here"),
        (["token", "--key", "hidden"], "error: unrecognized arguments, not shown here"),
        (["hidden"], "error: argument COMMAND: invalid choice, not shown here"),
        (["--secretkey", "hidden", "token"], "error: argument COMMAND: invalid choice, not shown here"),
        (["emulator", "--shell", "hidden"], "error: argument --shell: invalid choice, not shown here"),
        (["emulator", "--port", "hidden"], "error: argument --port: invalid int value, not shown here"),
        (["doctor", "--json=hidden"], "error: argument --json: ignored explicit argument, not shown here"),
        (["doctor", "hidden"], "error: argument CODE: a code of Kiwoom's has four to six digits, such as 8005"),
    ],
)
def test_what_may_be_a_secret_is_not_repeated(kiwoom_auth, arguments, says):
    status, output, errors = kiwoom_auth(*arguments)
    assert (status, output) == (2, "")
    assert says in errors
    assert "hidden" not in errors


@pytest.mark.parametrize("answer", [Answer.as_usual(drip=0.2), Answer.as_usual(delay=30.0)], ids=["drips", "hangs"])
def test_the_doctor_does_not_wait_for_ever_for_a_call(account, kiwoom_auth, monkeypatch, answer):
    monkeypatch.setattr(_doctor, "_TIMEOUT", 0.5)
    account.script(CALL, answer)
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["call"]) == (1, "FAIL")
    assert "ka10001 was not answered" in output


def test_nor_for_the_head_of_an_answer_to_nothing(account, kiwoom_auth, monkeypatch):
    monkeypatch.setattr(_doctor, "_TIMEOUT", 0.5)
    account.script("/", Answer(200, b"x", drip=0.2))
    assert findings(kiwoom_auth("doctor", "--no-issue")[1])["server"] == "FAIL"


def test_the_doctor_reads_an_answer_to_its_call_up_to_a_limit(account, kiwoom_auth):
    """64 MiB in 64 KiB."""
    body = gzip.compress(bytes(64 << 20), 9)
    account.script(CALL, Answer(200, body, (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))))
    tracemalloc.start()
    output = kiwoom_auth("doctor")[1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert findings(output)["call"] == "FAIL"
    assert peak < 32 << 20


HOSTILE_HEADERS = [
    ("Date", "Mon, 01 Jan 9999999999999999 00:00:00 GMT"),
    ("Date", "Mon, 01 Jan 2024 00:00:00 +999999999999999999"),
    ("Location", "http://["),
    ("Location", "http://127.0.0.1:1/"),
]


@pytest.mark.parametrize("header", HOSTILE_HEADERS, ids=lambda header: header[1][:20])
@pytest.mark.parametrize("path", ["/", CALL])
def test_the_doctor_survives_hostile_headers(account, kiwoom_auth, path, header):
    body = gzip.compress(bytes(64 << 20), 9)
    account.script(path, *[Answer(302, body, (header, ("Content-Encoding", "gzip")))] * (2 if path == CALL else 1))
    tracemalloc.start()
    status, output, _ = kiwoom_auth("doctor")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert status == (1 if path == CALL else 0)
    assert findings(output)["store"] == "ok"
    assert peak < 32 << 20


@pytest.mark.parametrize(
    "proxy",
    [
        "socks://me:HIDDEN@127.0.0.1:9",
        "http://me:HIDDEN@a..b:80",
        f"http://me:HIDDEN@{'a' * 70}:80",
        "http://me%3AHIDDEN%40127.0.0.1:9",
        "http://me,HIDDEN,127.0.0.1:9",
    ],
)
def test_the_doctor_tells_no_password_of_a_proxy_that_cannot_be(kiwoom_auth, monkeypatch, proxy):
    for name, value in {"KIWOOM_APPKEY": "an-appkey", "KIWOOM_SECRETKEY": "a-key", "HTTPS_PROXY": proxy}.items():
        monkeypatch.setenv(name, value)
    status, output, errors = kiwoom_auth("doctor", "--no-issue")
    assert status == 1
    assert "hidden" not in (output + errors).lower()
    assert "FAIL" in output


SAID_BY_THE_SERVER = "no such thing for\x1b[2J Authorization: Bearer PLANTED-TOKEN-0123456789abcdef" + " 말" * 5000


@pytest.mark.parametrize("machine", [[], ["--json"]], ids=["people", "machines"])
@pytest.mark.parametrize(
    "answer",
    [
        Answer.json({"return_code": 20, "return_msg": SAID_BY_THE_SERVER}),
        Answer.json({"return_code": 3, "return_msg": f"{SAID_BY_THE_SERVER}[8010:]"}),
        Answer(200, b"<html>", (("Content-Type", "text/PLANTED-TOKEN-0123456789abcdef"),)),
        Answer(200, b"<html>", (("Content-Type", "text\x1b[2J"),)),
    ],
    ids=["no", "a code", "type", "terminal"],
)
def test_the_doctor_repeats_nothing_that_is_a_secret_or_moves_the_terminal(account, kiwoom_auth, answer, machine):
    account.script(CALL, *[answer] * 2)
    _, output, _ = kiwoom_auth("doctor", *machine)
    assert "HTTP 200" in output
    assert "PLANTED" not in output
    assert "\x1b" not in output
    assert "u001b" not in output
    assert len(output) < 4000


def test_the_doctor_wants_no_more_than_the_head_of_an_answer_to_nothing(account, kiwoom_auth):
    account.script("/", Answer(200, b"x" * 5_000_000, drip=0.01))
    assert findings(kiwoom_auth("doctor", "--no-issue")[1])["server"] == "ok"


def test_what_the_server_says_is_one_line_of_error(account, kiwoom_auth):
    account.script(TOKEN, recorded.BAD_KEY_PAIR)
    status, output, errors = kiwoom_auth("token")
    assert (status, output) == (1, "")
    assert "8001" in errors
    assert len(errors.splitlines()) == 1
    assert account.secretkey not in errors


def test_without_the_libraries_of_the_store_each_command_works_alone_and_says_so(account, kiwoom_auth, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    for _ in range(2):
        status, output, errors = kiwoom_auth("token")
        assert (status, output) == (0, f"{account.token}\n")
        assert "pip install" in errors
        assert len(errors.splitlines()) == 1
    assert len(account.calls("au10001")) == 2
    assert "token      none is kept\ndirectory  none" in kiwoom_auth("status")[1]
    status, output, _ = kiwoom_auth("doctor")
    assert "store   ok    none: each process issues a token of its own" in output
    assert kiwoom_auth("revoke")[1] == "nothing to revoke: no token is kept\n"


# status


def test_status_never_issues(account, kiwoom_auth):
    from kiwoom_auth_plugin.stores import FileStore

    status, output, errors = kiwoom_auth("status")
    assert (status, errors) == (0, "")
    assert output.splitlines()[:3] == [
        f"host       {account.url}", f"appkey     {account.appkey[:4]}…", "token      none is kept",
    ]  # fmt: skip
    status, output, errors = kiwoom_auth("status", "--json")
    assert (status, errors) == (0, "")
    assert json.loads(output) == {
        "host": account.url,
        "appkey": f"{account.appkey[:4]}…",
        "expires_at": None,
        "directory": str(FileStore().directory),
        "error": None,
    }
    assert f'"{account.appkey[:4]}…"' in output  # as people read it
    assert not account.journal


def test_status_shows_until_when_the_token_is_kept(account, kiwoom_auth):
    kiwoom_auth("token")
    _, output, _ = kiwoom_auth("status")
    shown = re.search(r"kept until ([-0-9]+ [:0-9]+) KST \(([-0-9]+ [:0-9]+) \S+ here\)", output)
    known = json.loads(kiwoom_auth("status", "--json")[1])
    expires = datetime.fromisoformat(known["expires_at"])
    assert f"{expires:%Y-%m-%d %H:%M:%S}" == shown[1]
    assert f"{expires.astimezone():%Y-%m-%d %H:%M:%S}" == shown[2]
    assert expires.utcoffset() == timedelta(hours=9)
    assert timedelta(hours=23) < expires - datetime.now(expires.tzinfo) <= timedelta(hours=24)
    assert known["host"] == account.url
    assert Path(known["directory"]).is_dir()
    assert account.token not in output
    assert account.issued == 1


# revoke


def test_revoke_leaves_nothing_behind_where_nothing_was(account, kiwoom_auth):
    directory = json.loads(kiwoom_auth("status", "--json")[1])["directory"]
    assert kiwoom_auth("revoke") == (0, "nothing to revoke: no token is kept\n", "")
    assert not Path(directory).exists()
    assert account.journal == []


def test_revoke_revokes_what_is_kept(account, kiwoom_auth):
    kiwoom_auth("token")
    assert kiwoom_auth("revoke") == (0, "revoked\n", "")
    assert account.tokens == []
    assert kiwoom_auth("revoke") == (0, "nothing to revoke: no token is kept\n", "")
    assert len(account.calls("au10002")) == 1


def spoil(directory, suffix, how):
    """Make something of a file that is not trusted."""
    (file,) = directory.glob(f"*.{suffix}")
    if how == "open to others":
        file.chmod(0o644)
    else:
        file.unlink()
        file.mkdir()


def kept_in(kiwoom_auth):
    return Path(json.loads(kiwoom_auth("status", "--json")[1])["directory"])


def test_revoke_revokes_what_is_kept_though_the_lock_cannot_be_had(account, kiwoom_auth):
    kiwoom_auth("token")
    spoil(kept_in(kiwoom_auth), "lock", "a directory")
    status, output, _ = kiwoom_auth("revoke")
    assert (status, output) == (0, "revoked\n")
    assert account.tokens == []


def test_revoke_says_that_it_could_not_look(account, kiwoom_auth):
    kiwoom_auth("token")
    spoil(kept_in(kiwoom_auth), "token", "open to others")
    status, output, errors = kiwoom_auth("revoke")
    assert (status, output) == (1, "")
    assert errors.endswith(
        "nothing was revoked: a token store cannot be read (the log says why), and may hold a token\n"
    )
    assert account.tokens


# doctor


def test_the_doctor_names_what_is_wrong_with_what_is_kept(account, kiwoom_auth):
    kiwoom_auth("token")
    spoil(kept_in(kiwoom_auth), "token", "open to others")
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert (status, findings(output)["store"]) == (1, "FAIL")
    assert "other users may read or write it: remove it" in output
    assert "이름이 표시된 파일은 지우세요" in output
    assert "nobody knows whether one is kept; until the store works" in output


def test_the_doctor_issues_nothing_that_cannot_be_kept(account, kiwoom_auth):
    kiwoom_auth("token")
    spoil(kept_in(kiwoom_auth), "token", "open to others")
    output = kiwoom_auth("doctor")[1]
    assert "until the store works, Kiwoom is asked neither" in output
    assert account.issued == 1


def test_the_doctor_prints_nothing_that_a_terminal_would_act_upon(account, kiwoom_auth, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a\u009b2Jb"))
    for options in ([], ["--json"]):
        output = kiwoom_auth("doctor", *options)[1]
        assert "a 2Jb" in output
        assert "\u009b" not in output


def test_the_doctor_finds_nothing_wrong(account, kiwoom_auth):
    status, output, errors = kiwoom_auth("doctor")
    assert (status, errors) == (0, "")
    directory = re.escape(str(kept_in(kiwoom_auth)))
    lines = [
        rf"keys    ok    appkey {account.appkey[:4]}…, both are well-formed",
        r"proxy   ok    none",
        r"name    ok    127\.0\.0\.1 is 127\.0\.0\.1",
        rf"server  ok    {account.url} answers",
        r"clock   ok    within 60 seconds of the server's",
        rf"store   ok    {directory} works and is private",
        r"token   ok    one was issued; it expires at [-0-9]{10} [:0-9]{8} KST",
        r"call    ok    ka10001 was answered",
    ]
    assert re.fullmatch("\n".join([*lines, ""]), output)
    assert account.secretkey not in output
    assert account.token not in output
    (call,) = account.calls("ka10001")
    assert (call.violations, call.json()) == ((), STOCK_CODE)
    assert (call.headers["api-id"], call.headers["accept-encoding"]) == ("ka10001", "identity")
    lines[6] = r"token   ok    one is kept until [-0-9]{10} [:0-9]{8} KST; none was issued"
    assert re.fullmatch("\n".join([*lines, ""]), kiwoom_auth("doctor")[1])
    assert account.issued == 1


def test_the_doctor_trusts_what_the_environment_trusts(kiwoom_auth, monkeypatch, tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with KiwoomEmulator(tls=context) as secure:
        monkeypatch.setenv("KIWOOM_APPKEY", secure.appkey)
        monkeypatch.setenv("KIWOOM_SECRETKEY", secure.secretkey)
        status, output, _ = kiwoom_auth("doctor", "--host", secure.url)
    assert (status, set(findings(output).values())) == (0, {"ok"})


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_the_doctor_reaches_this_machine_directly(account, kiwoom_auth, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://proxy.invalid:1")
    status, output, _ = kiwoom_auth("doctor")
    assert (status, "proxy   ok    none\n" in output) == (0, True)


def test_the_doctor_says_so_where_there_is_no_proxy():
    auth = KiwoomBearerAuth("an-appkey", "a-secretkey", host=MOCK_HOST)
    assert _doctor._proxy(auth) == ("proxy", True, "none", "")


def test_a_certificate_that_the_call_alone_does_not_trust_is_told(tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with KiwoomEmulator(tls=context) as secure, requests.Session() as trusting:
        trusting.verify = str(tmp_path / "ca.pem")
        auth = KiwoomBearerAuth(secure.appkey, secure.secretkey, host=secure.url, cache={}, client=trusting)
        auth.get_token()
        finding = _doctor._called(auth)
    assert (finding.check, finding.ok, finding.korean) == ("call", False, _korean.CERTIFICATE)


def test_the_doctor_shows_each_address_of_a_name(monkeypatch):
    asked = []

    def found(*name, **kind):
        asked.append((name, kind))
        return [
            (0, 0, 0, "", address) for address in (("192.0.2.1", 443), ("2001:db8::1", 443, 0, 0), ("192.0.2.1", 1))
        ]

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", found)
        finding = _doctor._name(KiwoomBearerAuth("an-appkey", "a-secretkey", host=MOCK_HOST))
    assert finding == ("name", True, "mockapi.kiwoom.com is 192.0.2.1, 2001:db8::1", "")
    assert asked == [(("mockapi.kiwoom.com", None), {"type": socket.SOCK_STREAM})]


def test_the_doctor_may_be_told_to_issue_nothing(account, kiwoom_auth):
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert (status, "token" in findings(output)) == (0, False)
    assert re.search("^token         none is kept; with --no-issue, Kiwoom is asked", output, re.MULTILINE)
    assert account.issued == 0


def test_the_doctor_tells_that_the_kept_token_was_refused_and_replaced(account, kiwoom_auth):
    kiwoom_auth("token")
    account.revoke_tokens()
    status, output, _ = kiwoom_auth("doctor")
    assert status == 0
    assert (
        "call    ok    ka10001 was answered; the kept token was refused on the way, and another one issued\n" in output
    )
    assert account.issued == 2
    assert "refused" not in kiwoom_auth("doctor")[1]


def test_the_doctor_tells_what_it_did_not_look_at(account, kiwoom_auth):
    assert "none is kept; with --no-issue" in kiwoom_auth("doctor", "--no-issue")[1]
    kiwoom_auth("token")
    assert re.search("one is kept until .* KST; with --no-issue", kiwoom_auth("doctor", "--no-issue")[1])
    assert not account.calls("ka10001")


def test_the_doctor_knows_the_code_of_the_websocket(kiwoom_auth):
    status, output, _ = kiwoom_auth("doctor", "805004")
    assert (status, "Token이 유효하지 않습니다" in output) == (0, True)


def test_the_doctor_speaks_to_machines(account, kiwoom_auth):
    account.script(TOKEN, recorded.BAD_KEY_PAIR)
    status, output, _ = kiwoom_auth("doctor", "--json")
    last = [json.loads(line) for line in output.splitlines()][-1]
    assert (status, last["check"], last["ok"]) == (1, "token", False)
    assert "8001" in last["words"]
    assert "포털의 값과 비교" in last["korean"]
    assert "포털의 값과 비교" in output  # as people read it


@pytest.mark.parametrize(
    ("answer", "says", "korean"),
    [
        (recorded.WRONG_ENVIRONMENT, "Real and mock keys are separate", "실전과 모의투자의 키는 서로 다릅니다"),
        (recorded.BAD_KEY_PAIR, "Check appkey and secretkey", "포털의 값과 비교하세요"),
        (recorded.ADDRESS_NOT_REGISTERED, "Register this machine's public IP", "공인 IP 주소를 포털"),
        (Answer.html("oops", 400), "not usable", "응답을 알아볼 수 없습니다"),
        (recorded.refusal(1700), "1700", "호출이 너무 잦습니다"),
        (Answer.json({"return_code": 3, "return_msg": "모름[9999:?]"}), "9999", "표시된 메시지와 오류 번호를 포털"),
        (Answer.as_usual(cut="before"), "the connection was lost", "서버가 답하지 않습니다"),
    ],
    ids=["8030", "8001", "8050", "no JSON", "1700", "unknown", "lost"],
)
def test_the_doctor_knows_what_a_refused_issue_means(account, kiwoom_auth, answer, says, korean):
    account.script(TOKEN, *[answer] * 3)
    status, output, _ = kiwoom_auth("doctor")
    assert status == 1
    assert findings(output)["token"] == "FAIL"
    assert says in output
    assert korean in output


def test_the_doctor_knows_what_a_refused_call_means(account, kiwoom_auth):
    account.script(CALL, *[Answer.json({"return_code": 3, "return_msg": "인증에 실패했습니다[8010:IP]"})] * 2)
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["call"]) == (1, "FAIL")
    assert "A token serves only the public IP address" in output
    assert "발급받은 공인 IP 주소에서만" in output


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer.html("maintenance"), "HTTP 200, text/html"),
        (Answer.json([]), "HTTP 200, application/json"),
        (Answer(500, b"oops", (("Content-Type", "text/plain"),)), "HTTP 500, text/plain"),
        (Answer(200, b"oops", (("Content-Type", "image/png"),)), "HTTP 200, image/png"),
        (Answer.json({"return_code": 0}, 300), "HTTP 300, application/json"),
        (Answer(302, b"", (("Location", "http://127.0.0.1:99999/"),)), "HTTP 302, no Content-Type"),
    ],
)
def test_a_call_that_is_not_answered_as_it_should_be_is_told(account, kiwoom_auth, answer, says):
    account.script(CALL, answer)
    status, output, _ = kiwoom_auth("doctor")
    assert status == 1
    assert f"call    FAIL  ka10001 was not answered as it should be: {says}\n" in output


@pytest.mark.parametrize(
    ("answer", "says", "korean"),
    [
        (
            Answer.json({"return_code": 3, "return_msg": "인증에 실패했습니다"}),
            "says no to ka10001 (HTTP 200): 인증에",
            "거절",
        ),
        (
            Answer.json({"return_code": "1", "return_msg": ""}),
            "Kiwoom says no to ka10001 (HTTP 200): without a word",
            "거절",
        ),
        (Answer.json({"return_code": "OK", "return_msg": "정상"}), "says no to ka10001 (HTTP 200): 정상", "거절"),
        (recorded.refusal(1700), "was refused (HTTP 200)", "호출이 너무 잦습니다"),
        (Answer.redirect("https://www.kiwoom.com/"), "not answered as it should be: HTTP 302, text/html", "점검"),
        (Answer.html("<html>", 200), "not answered as it should be: HTTP 200, text/html", "점검"),
        (Answer(200), "not answered as it should be: HTTP 200, no Content-Type", "점검"),
        (Answer.as_usual(cut="before"), "ka10001 was not answered: the connection was lost", "방화벽"),
    ],
    ids=["3 alone", "a string", "a word", "1700", "a redirect", "a page", "nothing", "lost"],
)
def test_a_call_that_is_not_answered_well_says_what_came(account, kiwoom_auth, answer, says, korean):
    account.script(CALL, answer)
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["call"]) == (1, "FAIL")
    assert says in output
    assert korean in output
    assert "프록시" not in output
    assert len(account.calls("ka10001")) == 1


@pytest.mark.parametrize(
    "answer",
    [Answer(401), recorded.INVALID_TOKEN, recorded.INVALID_TOKEN_TOP_LEVEL],
    ids=["401", "8005", "8005 as the return_code"],
)
def test_a_refusal_that_a_new_token_does_not_cure_is_told_with_what_else_there_is(account, kiwoom_auth, answer):
    account.reissue = "replace"
    account.script(CALL, answer, answer)
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["call"]) == (1, "FAIL")
    assert f"ka10001 was refused (HTTP {answer.status})" in output
    assert "another program or machine issues or revokes tokens" in output
    assert "다른 프로그램" in output


@pytest.mark.parametrize("code_of_zero", ["0", "0000", 0, None])
def test_each_spelling_of_yes_is_one(account, kiwoom_auth, code_of_zero):
    account.add_response(
        "ka10001", {"cur_prc": "+1", **({} if code_of_zero is None else {"return_code": code_of_zero})}
    )
    assert findings(kiwoom_auth("doctor")[1])["call"] == "ok"


def test_what_cannot_be_read_is_not_taken_for_nothing(account, kiwoom_auth):
    kiwoom_auth("token")
    directory = Path(json.loads(kiwoom_auth("status", "--json")[1])["directory"])
    directory.rename(directory.with_name("elsewhere"))
    directory.symlink_to(directory.with_name("elsewhere"))

    def command(*arguments):  # a process of its own: in this one, a store that has failed is told once
        done = subprocess.run(
            [sys.executable, "-m", "kiwoom_auth_plugin", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        return done.stdout, done.stderr

    output, errors = command("revoke")
    assert (output, ": nothing was revoked: a token store cannot be read" in errors) == ("", True)
    assert account.tokens
    assert re.search(r"^token      unknown: .*FileStore", command("status")[0], re.MULTILINE)
    shown = json.loads(command("status", "--json")[0])
    assert shown["expires_at"] is None
    assert "FileStore" in shown["error"]


@pytest.mark.skipif(sys.platform == "win32", reason="streams are closed by the shell")
@pytest.mark.parametrize("closed", [1, 2])
@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "8005"], ["token"], ["status"]])
def test_a_stream_that_is_closed_is_no_error_and_no_other_gets_its_words(account, arguments, closed):
    account.script(TOKEN, *[recorded.BAD_KEY_PAIR] * 2)
    command = [sys.executable, "-m", "kiwoom_auth_plugin", *arguments]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stderr
    assert done.stdout == "" or closed == 2
    assert "kiwoom-auth: " not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe without a reader is another error there")
@pytest.mark.parametrize("arguments", [["doctor", "8005"], ["token"], ["status", "--json"], ["emulator"]])
def test_a_reader_that_leaves_early_is_no_error(account, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "kiwoom_auth_plugin", *arguments]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe without a reader is another error there")
@pytest.mark.parametrize(
    ("name", "arguments", "status"), [("stdout", ["doctor", "8005"], 1), ("stderr", ["emulator", "--port", "70000"], 2)]
)
def test_what_is_left_for_a_reader_that_has_left_goes_nowhere(monkeypatch, name, arguments, status):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, name, stream)
        assert main(arguments) == status
        stream.write("more, which a flush on the way out would write\n")


def test_a_console_that_lacks_characters_shows_a_question_mark(monkeypatch):
    written = io.BytesIO()
    with io.TextIOWrapper(written, "ascii") as console:
        monkeypatch.setattr(sys, "stdout", console)
        assert main(["doctor", "8005"]) == 0
        assert b"8005" in written.getvalue()
        assert b"???" in written.getvalue()


def test_where_there_is_no_stdout_nothing_is_shown(account, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["status"]) == 0


@pytest.mark.parametrize("failure", [OSError, ValueError])
def test_a_stream_that_has_no_number_any_more_needs_not_be_silenced(failure):
    class Gone:
        def fileno(self):
            raise failure

    _account.silence(Gone())


def test_a_call_with_a_code_that_nobody_knows_is_told(account, kiwoom_auth):
    account.script(CALL, Answer.json({"return_code": 20, "return_msg": "모름[9999:?]"}))
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["call"]) == (1, "FAIL")
    assert "모름" in output


def test_a_call_whose_token_cannot_be_replaced_is_told(account, kiwoom_auth):
    kiwoom_auth("token")
    account.expire_tokens()
    account.script(TOKEN, recorded.ADDRESS_NOT_REGISTERED)
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["call"]) == (1, "FAIL")
    assert "8050" in output
    assert "공인 IP 주소를 포털" in output


def test_a_clock_that_is_off_is_told(account, kiwoom_auth):
    account.clock.advance(3600)
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert (status, findings(output)["clock"]) == (1, "FAIL")
    assert re.search(r"clock   FAIL  (3599|3600) seconds behind the server's; set it, by NTP if possible\n", output)
    assert "컴퓨터의 시계가 맞지 않습니다" in output
    account.clock.advance(-7200)
    assert re.search(r"(3600|3601) seconds ahead of the server's", kiwoom_auth("doctor", "--no-issue")[1])


def test_a_server_that_does_not_tell_the_time_is_no_fault():
    answer = requests.Response()
    assert _doctor._clock(answer) == ("clock", True, "the server does not tell the time", "")


@pytest.mark.parametrize(("ahead", "well"), [(-61, False), (-60, True), (60, True), (61, False)])
def test_a_clock_may_be_off_by_a_minute(monkeypatch, ahead, well):
    answer = requests.Response()
    answer.headers["Date"] = "Thu, 01 Jan 2026 00:00:00 GMT"
    monkeypatch.setattr(
        _doctor, "time", SimpleNamespace(time=lambda: datetime(2026, 1, 1, tzinfo=UTC).timestamp() + ahead)
    )
    assert _doctor._clock(answer).ok is well


def test_a_store_that_others_can_read_is_told(account, kiwoom_auth):
    kiwoom_auth("token")
    directory = Path(json.loads(kiwoom_auth("status", "--json")[1])["directory"])
    directory.rename(directory.with_name("elsewhere"))
    directory.symlink_to(directory.with_name("elsewhere"))
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert (status, findings(output)["store"]) == (1, "FAIL")
    assert "이름이 표시된 파일은 지우세요" in output


def test_a_store_that_forgets_is_told(account, kiwoom_auth, monkeypatch):
    from kiwoom_auth_plugin.stores import FileStore

    monkeypatch.setattr(FileStore, "load", lambda _store, _key: None)
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert (status, findings(output)["store"]) == (1, "FAIL")
    assert ": what was saved is not there\n" in output


def test_a_store_that_has_no_room_is_told(account, kiwoom_auth, monkeypatch):
    from kiwoom_auth_plugin.stores import FileStore

    def full(*_arguments):
        raise OSError("no room")

    monkeypatch.setattr(FileStore, "save", full)
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert (status, f"store   FAIL  {FileStore().directory}: OSError: no room\n" in output) == (1, True)


def test_a_name_that_nobody_knows_is_told(account, kiwoom_auth):
    status, output, _ = kiwoom_auth("doctor", "--host", "https://kiwoom.invalid")
    assert status == 1
    assert "name    FAIL  kiwoom.invalid could not be resolved (" in output
    assert "서버 이름을 찾을 수 없습니다" in output


def test_a_server_that_is_not_there_is_told(account, kiwoom_auth):
    account.stop()
    status, output, _ = kiwoom_auth("doctor")
    assert (status, findings(output)["server"]) == (1, "FAIL")
    assert "the connection was refused; check the address, and whether the server is up" in output
    assert "방화벽" in output
    assert "프록시" not in output


def test_a_certificate_that_is_not_trusted_is_told(account, kiwoom_auth):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with KiwoomEmulator(tls=context) as secure:
        status, output, _ = kiwoom_auth("doctor", "--host", secure.url)
    assert (status, findings(output)["server"]) == (1, "FAIL")
    assert "its certificate is not trusted" in output
    assert "인증서를 믿을 수 없습니다" in output


@pytest.mark.parametrize("proxy", ["http://me:secret@127.0.0.1:{port}", "127.0.0.1:{port}"])
def test_a_proxy_is_named_without_its_login_and_told_if_it_is_in_the_way(account, kiwoom_auth, monkeypatch, proxy):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=port))
        status, output, _ = kiwoom_auth("doctor", "--host", MOCK_HOST)
    assert (status, findings(output)) == (1, {"keys": "ok", "proxy": "ok", "server": "FAIL"})
    assert f"http://127.0.0.1:{port}" in output
    assert "secret" not in output
    assert "프록시" in output


@pytest.mark.parametrize(
    "proxy",
    [
        "http://proxy:abc", "http://127.0.0.1:99999", "http://[::1", "http://", "what://127.0.0.1", "http://me:it@:8080",
        "http://프록시:1", "http://me:12345/hidden@127.0.0.1:1", "http://me:12345#hidden@127.0.0.1:1", "http://me:12345?hidden@127.0.0.1:1",
    ],
)  # fmt: skip
def test_a_proxy_whose_address_is_malformed_is_told(account, kiwoom_auth, monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    status, output, _ = kiwoom_auth("doctor", "--host", MOCK_HOST)
    assert (status, findings(output)) == (1, {"keys": "ok", "proxy": "FAIL"})
    assert "proxy   FAIL  HTTPS_PROXY or ALL_PROXY is not the address of a proxy, such as http://proxy." in output
    assert "hidden" not in output
    assert "12345" not in output
    assert "프록시 주소가 잘못되었습니다" in output


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
        ("https://[::1]", "https://[::1]:443"),
        ("proxy.invalid", "http://proxy.invalid:80"),
    ],
)
def test_a_proxy_is_shown_with_its_port_and_told_where_it_may_be_at_fault(
    account, kiwoom_auth, monkeypatch, proxy, shown
):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    _, output, _ = kiwoom_auth("doctor", "--host", MOCK_HOST)
    assert f"proxy   ok    {shown}\n" in output
    assert findings(output)["server"] == "FAIL"
    assert "프록시" in output


@pytest.mark.parametrize("host", ["https://xn--.invalid", "https://xn--a-.invalid"])
def test_a_name_that_cannot_be_one_is_told(account, kiwoom_auth, host):
    status, output, _ = kiwoom_auth("doctor", "--host", host)
    assert (status, findings(output)["name"]) == (1, "FAIL")


def test_a_bundle_that_is_not_there_is_told(account, kiwoom_auth, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    status, output, _ = kiwoom_auth("doctor", "--host", "https://127.0.0.1:1")
    assert (status, findings(output)["server"]) == (1, "FAIL")
    assert "the CA bundle cannot be loaded; check REQUESTS_CA_BUNDLE" in output
    assert "CA 인증서 파일을 읽을 수 없습니다" in output


def test_without_a_home_directory_each_command_works_alone_and_says_so(account, kiwoom_auth, monkeypatch):
    def nowhere(*_names, **_options):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("platformdirs.user_cache_path", nowhere)
    status, output, errors = kiwoom_auth("token")
    assert (status, output) == (0, f"{account.token}\n")
    assert errors == "kiwoom-auth: the token is not kept for the next command: Could not determine home directory.\n"


def test_the_doctor_leaves_nothing_new_behind(account, kiwoom_auth):
    kiwoom_auth("doctor")
    directory = Path(json.loads(kiwoom_auth("status", "--json")[1])["directory"])
    left = sorted(path.name for path in directory.iterdir())
    kiwoom_auth("doctor")
    assert sorted(path.name for path in directory.iterdir()) == left


SAID = {
    Kind.REQUEST: ("Authorization", "authorization 헤더"),
    Kind.RATE: ("Call less often", "호출이 너무 잦습니다"),
    Kind.SERVER: ("try again later", "잠시 뒤에 다시 시도"),
    Kind.CREDENTIALS: ("Check appkey and secretkey", "앱키와 시크릿키를 포털의 값과 비교"),
    Kind.ADDRESS: ("Register this machine's public IP address", "공인 IP 주소를 포털"),
    Kind.TOKEN: ("another program or machine", "다른 프로그램(다른 PC, 예약 작업)"),
    Kind.REVOKE: ("delete the appkey", "앱키를 삭제"),
}
"""What each kind of code has in both languages."""
SAID_OF = {
    1513: ("pass auth=", "auth=를 빠뜨리지 않았는지"),
    8010: ("each address", "주소마다 토큰을 따로"),
    8011: ("report it", "개발자에게 알려"),
    8012: ("report it", "개발자에게 알려"),
    8016: ("report it", "개발자에게 알려"),
    8030: ("KIWOOM_HOST=https://api.kiwoom.com or https://mockapi", "모의투자는 https://mockapi.kiwoom.com"),
    8031: ("environment that issued it", "다른 환경(실전/모의투자)에서 발급받은 토큰"),
    8103: ("Register this machine's public IP address", "공인 IP 주소를 포털"),
}
"""Codes of which more is known."""


@pytest.mark.parametrize("code", OFFICIAL_CODES)
def test_each_official_code_is_explained_in_english_and_korean(kiwoom_auth, code):
    official = OFFICIAL_CODES[code]
    status, output, _ = kiwoom_auth("doctor", str(code))
    english, korean = output.splitlines()
    assert status == 0
    assert f"{code}    " in english
    assert f"{official.message}. {official.advice}" in english
    in_english, in_korean = SAID_OF.get(code, SAID[official.kind])
    assert in_english in english
    assert in_korean in korean


def test_a_store_that_hangs_is_told_as_well(account, kiwoom_auth, monkeypatch):
    """Its directory on a server that is gone."""
    monkeypatch.setattr(_doctor, "_TIMEOUT", 0.5)
    go_on = threading.Event()

    def hang(*arguments, original=os.open, **options):
        assert go_on.wait(PATIENCE)
        return original(*arguments, **options)

    monkeypatch.setattr(os, "open", hang)
    try:
        status, output, _ = kiwoom_auth("doctor", "--no-issue")
    finally:
        go_on.set()
    assert status == 1
    assert "it did not answer within 0.5 seconds; see whether its file system hangs" in output


def test_a_store_that_cannot_be_tried_for_want_of_a_thread_is_told(account, kiwoom_auth, monkeypatch):
    def refuse(thread, original=threading.Thread.start):
        if thread.name == "kiwoom-auth-store":
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    status, output, _ = kiwoom_auth("doctor", "--no-issue")
    assert status == 1
    assert "there was no thread for it: can't start new thread" in output


def test_codes_are_taken_from_what_was_copied(kiwoom_auth):
    explained = kiwoom_auth("doctor", "8005")[1]
    for said in (
        "인증에 실패했습니다[8005:Token이 유효하지 않습니다]", "[8005]", " 8005\n", "return_code=8005",
        "{'return_code': 8005}", "(8005)", "http://127.0.0.1:1: 8005 (HTTP 200, code 8005)",
        '{"return_code": 8005}', '{"return_code":"8005","return_msg":""}',
        '{"return_code":3,"return_msg":"로그인[CODE=8005, MESSAGE=..]"}', "CODE=8005", "Code: 8005",
    ):  # fmt: skip
        assert kiwoom_auth("doctor", said)[1] == explained
    for word in ("Token", "a-key8005", "8005a-key", "8005:a-key", "1234567"):
        status, output, errors = kiwoom_auth("doctor", word)
        assert (status, output) == (2, "")
        assert "a code of Kiwoom's has four to six digits, such as 8005" in errors


def test_a_code_that_is_none_is_told(kiwoom_auth):
    status, output, _ = kiwoom_auth("doctor", "8005", "1234")
    assert status == 2
    assert [line.split(maxsplit=2)[:2] for line in output.splitlines()] == [
        ["8005", "Token이"],
        ["토큰이", "더는"],
        ["1234", "FAIL"],
    ]
    assert output.endswith("FAIL  none of Kiwoom's codes for authentication\n")


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals(account, kiwoom_auth, monkeypatch, variables, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _stream: True)
    account.script(CALL, recorded.MAINTENANCE)
    output = kiwoom_auth("doctor")[1]
    assert ("server  \x1b[32mok  \x1b[0m  " in output) is coloured
    assert ("call    \x1b[31mFAIL\x1b[0m  " in output) is coloured
    assert ("\x1b" in output) is coloured
    assert "\x1b" not in kiwoom_auth("doctor", "8005")[1]  # nothing was looked at
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        shows_colours = _doctor._takes_colours()
    assert not shows_colours


# emulator


NO_WEBSOCKETS = "the WebSocket endpoint needs the package websockets, which cannot be imported"


def test_the_emulator_does_without_a_websockets_of_another_time(tmp_path):
    (tmp_path / "websockets").mkdir()
    (tmp_path / "websockets" / "__init__.py").touch()
    command = [sys.executable, "-m", "kiwoom_auth_plugin", "emulator"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stderr.readline().startswith(f"no real-time API: {NO_WEBSOCKETS}")
        assert serving.stderr.readline().startswith("a local Kiwoom serves")
        serving.send_signal(signal.SIGINT)
        assert serving.communicate(timeout=60)[1] == "kiwoom-auth: interrupted\n"


@pytest.mark.parametrize("signal_number", [signal.SIGINT])
def test_the_emulator_serves_until_it_is_interrupted(signal_number):
    command = [sys.executable, "-m", "kiwoom_auth_plugin", "emulator", "--reissue", "replace", "--issue-limit", "100"]
    with_websocket = importlib.util.find_spec("websockets") is not None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        lines = [serving.stdout.readline() for _ in range(4 if with_websocket else 3)]
        keys = dict(
            re.fullmatch(r"(?:export (\w+)=|[$]env:(\w+) = )\"?(\S+?)\"?\n", line).group(1, 3) for line in lines
        )
        auth = KiwoomBearerAuth(keys["KIWOOM_APPKEY"], keys["KIWOOM_SECRETKEY"], host=keys["KIWOOM_HOST"], cache={})
        token = auth.get_token()
        auth.invalidate(token)
        assert auth.get_token() != token
        requests.get(keys["KIWOOM_HOST"] + "/nowhere", timeout=30)
        told = [
            "WebSocket 1 LOGIN 0",
            "WebSocket 1 REG 0",
            "WebSocket 1 what has no trnm 100002",
            "WebSocket 1 [2J 2Jx 105108",
        ]
        if with_websocket:
            with importlib.import_module("websockets.sync.client").connect(keys["KIWOOM_WEBSOCKET"]) as line:
                line.send(json.dumps({"trnm": "LOGIN", "token": auth.get_token()}))
                line.send(json.dumps({"trnm": "REG", "data": [{"item": "005930", "type": "0B"}]}))
                line.send("{}")
                line.send(json.dumps({"trnm": "\x1b[2J\n\u009b2Jx"}))
                wanted = ["PING", "REAL", "REAL", "REAL"]  # a trade each second, and now and then a PING
                while wanted:
                    packet = json.loads(line.recv(timeout=30))
                    if packet["trnm"] in wanted:
                        wanted.remove(packet["trnm"])
                    assert packet["trnm"] != "REAL" or packet["data"][0]["item"] == "005930"
        serving.send_signal(signal_number)
        output, errors = serving.communicate(timeout=60)
    assert (serving.returncode, output) == (130, "")
    without = f"no real-time API: {NO_WEBSOCKETS} (ModuleNotFoundError); install it: python -m pip install "
    assert errors.splitlines() == [
        *([] if with_websocket else [f'{without}"websockets>=15"']),
        f"a local Kiwoom serves {keys['KIWOOM_HOST']} until interrupted (Ctrl-C)",
        "1 au10001 HTTP 200",
        "2 au10001 HTTP 200",
        "3 /nowhere HTTP 404: there is no /nowhere",
        *(told if with_websocket else []),
        "kiwoom-auth: interrupted",
    ]


class Seconds:
    """Stands in for the module time: a step is taken where the emulator sleeps, and no time goes by."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.errors = []

    def sleep(self, seconds):
        assert seconds == 1.0
        if not self.steps:
            raise KeyboardInterrupt
        try:
            self.steps.pop(0)()
        except Exception as error:
            self.errors.append(error)
            raise KeyboardInterrupt from error


def reached(output):
    """What the emulator has printed, whichever shell it is for."""
    lines = [re.fullmatch(r"(?:export |set |[$]env:)(\w+)(?: = |=)\"?(\S+?)\"?", line) for line in output.splitlines()]
    return dict(line.groups() for line in lines)


def test_the_emulator_behaves_as_it_is_told_to(kiwoom_auth, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    seen, headers = [], {"Content-Type": "application/json;charset=UTF-8"}

    def issue():
        keys = reached(capsys.readouterr().out)
        seen.append(keys["KIWOOM_HOST"])
        body = {"grant_type": "client_credentials", "appkey": keys["KIWOOM_APPKEY"]}
        body["secretkey"] = keys["KIWOOM_SECRETKEY"]
        for _ in range(2):
            answer = requests.post(keys["KIWOOM_HOST"] + TOKEN, json=body, headers=headers, timeout=30)
            seen.append(answer.json().get("token"))

    def told():
        lines.append(capsys.readouterr().err)

    lines = []
    seconds = Seconds(issue, told)
    monkeypatch.setattr(_emulator, "time", seconds)
    options = ["--port", str(port), "--reissue", "replace", "--shell", "cmd"]
    assert kiwoom_auth("emulator", *options)[0] == 130
    host, first, second = seen
    assert host == f"http://127.0.0.1:{port}"
    assert first != second
    assert lines == ["1 au10001 HTTP 200\n2 au10001 HTTP 200\n"]

    seen.clear()
    seconds.steps = [issue]
    assert kiwoom_auth("emulator", "--issue-limit", "1")[0] == 130
    host, first, second = seen
    assert int(host.rpartition(":")[2]) > 1024
    assert first is not None
    assert second is None

    seen.clear()
    seconds.steps = [issue]
    assert kiwoom_auth("emulator")[0] == 130
    assert seen[1] == seen[2]
    assert seconds.errors == []


def test_the_emulator_trades_each_second_and_pings_each_tenth(kiwoom_auth, monkeypatch, capsys):
    connect = pytest.importorskip("websockets.sync.client").connect
    drawn, told, line, keys, leaving = [], [], None, {}, contextlib.ExitStack()

    def begin():
        nonlocal line
        printed, told = capsys.readouterr()
        keys.update(reached(printed))
        assert printed.startswith(_emulator._SHELLS[_emulator._OWN_SHELL].format("KIWOOM_HOST", keys["KIWOOM_HOST"]))
        assert told == f"a local Kiwoom serves {keys['KIWOOM_HOST']} until interrupted (Ctrl-C)\n"
        auth = KiwoomBearerAuth(keys["KIWOOM_APPKEY"], keys["KIWOOM_SECRETKEY"], host=keys["KIWOOM_HOST"], cache={})
        line = leaving.enter_context(connect(keys["KIWOOM_WEBSOCKET"]))
        for packet in ({"trnm": "LOGIN", "token": auth.get_token()}, {}, {"trnm": "REG", "data": [STOCK]}):
            line.send(json.dumps({"trnm": "PING"}))  # which is not answered
            line.send(json.dumps(packet))
            line.recv(timeout=PATIENCE)
        requests.post(keys["KIWOOM_HOST"] + CALL, headers={"Authorization": "Bearer none"}, timeout=30)

    def price(*of):
        drawn.append(of)
        return 70_100

    def end():
        packets = [json.loads(line.recv(timeout=PATIENCE)) for _ in range(14)]
        leaving.close()
        assert [packet["trnm"] for packet in packets] == ["REAL", "PING", *["REAL"] * 10, "PING", "REAL"]
        (data,) = packets[0]["data"]
        assert (data["item"], data["type"], data["values"]) == ("005930", "0B", {"10": "+70100", "15": "+1"})
        told.extend(capsys.readouterr().err.splitlines())

    seconds = Seconds(begin, *[lambda: None] * 11, end)
    monkeypatch.setattr(_emulator, "time", seconds)
    monkeypatch.setattr(_emulator.random, "randrange", price)
    assert kiwoom_auth("emulator")[0] == 130
    assert seconds.errors == []
    assert set(drawn) == {(70_000, 73_000, 100)}
    assert told == [
        "1 au10001 HTTP 200",
        "WebSocket 1 PING",
        "WebSocket 1 LOGIN 0",
        "WebSocket 1 PING",
        "WebSocket 1 what has no trnm 100002",
        "WebSocket 1 PING",
        "WebSocket 1 REG 0",
        (
            f"2 {CALL} HTTP 200 [1501]: api-id is missing, Content-Type is not application/json;charset=UTF-8, "
            "the body is not a JSON object"
        ),
    ]


def test_the_emulator_says_what_it_lacks_for_the_websocket(kiwoom_auth, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kiwoom_auth_plugin.testing._websocket", None)  # as if its library were not there
    told = []
    monkeypatch.setattr(_emulator, "time", Seconds(lambda: told.extend(capsys.readouterr())))
    kiwoom_auth("emulator")
    output, errors = told
    assert "KIWOOM_WEBSOCKET" not in output
    assert errors.startswith(f"no real-time API: {NO_WEBSOCKETS}")


@pytest.mark.parametrize(
    ("shell", "line"),
    [("sh", "export KIWOOM_HOST=http"), ("powershell", '$env:KIWOOM_HOST = "http'), ("cmd", "set KIWOOM_HOST=http")],
)
def test_the_emulator_speaks_to_each_shell(shell, line):
    command = [sys.executable, "-m", "kiwoom_auth_plugin", "emulator", "--shell", shell]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        assert serving.stdout.readline().startswith(line)
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=60)


@pytest.mark.parametrize("port", ["-1", "65536", "70000"])
def test_a_port_that_cannot_be_is_wrong_use(kiwoom_auth, port):
    status, _, errors = kiwoom_auth("emulator", "--port", port)
    assert (status, errors) == (2, "kiwoom-auth: error: --port must be 0 to 65535\n")


# all of them


@pytest.mark.parametrize("command", ["demo", "token", "status", "doctor", "revoke", "emulator"])
def test_help_has_examples_and_names_no_option_for_a_secret(kiwoom_auth, command):
    status, output, _ = kiwoom_auth(command, "--help")
    assert status == 0
    assert f"examples:\n  kiwoom-auth {command}" in output or "| curl -H @- " in output
    assert not re.search(r"--(app|secret)key\b(?!-file)", output)


def test_each_help_is_as_it_was_read_by_people(kiwoom_auth, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    known = (
        (Path(__file__).parent / "help.txt").read_text("utf-8").replace("print (sh)", f"print ({_emulator._OWN_SHELL})")
    )
    told = []
    for line in re.findall(r"(?m)^\$ .*", known):
        status, output, _ = kiwoom_auth(*line.split()[2:])
        assert status == 0
        told.append(f"{line}\n{output}")
    assert "\n".join(told) == known


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe without a reader is another error there")
def test_the_emulator_serves_on_where_nobody_listens_to_what_it_tells():
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "kiwoom_auth_plugin", "emulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing, text=True) as serving:
        os.close(writing)
        os.close(reading)
        lines = [serving.stdout.readline().split("=")[1].strip() for _ in range(3)]
        auth = KiwoomBearerAuth(lines[1], lines[2], host=lines[0], cache={})
        for _ in range(2):
            assert auth.get_token()
            auth.revoke()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 130


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_an_issue_limit_that_lets_nobody_pass_is_wrong_use(kiwoom_auth, limit):
    status, output, errors = kiwoom_auth("emulator", "--issue-limit", limit)
    assert (status, output, errors) == (2, "", "kiwoom-auth: error: --issue-limit must be 1 or more\n")


def test_a_console_of_cp949_shows_korean(account):
    for encoding in ("cp949", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "kiwoom_auth_plugin", "doctor", "8005"],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
            timeout=100,
        )
        assert ("토큰" in done.stdout.decode("cp949")) is (encoding == "cp949")


def test_an_interrupted_command_shows_no_traceback(account):
    with (
        account.hold() as gate,
        subprocess.Popen(
            [sys.executable, "-m", "kiwoom_auth_plugin", "token"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command,
    ):
        gate.wait_for(1)
        command.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, errors = command.communicate(timeout=60)
    assert (command.returncode, output, errors) == (130, "", "kiwoom-auth: interrupted\n")
