"""The command line, and its demonstration of the promises against a local Kiwoom."""

import contextlib
import io
import os
import re
import subprocess
import sys

import anyio.lowlevel
import httpx
import pytest
import requests
import sniffio

import kiwoom_auth_plugin
from kiwoom_auth_plugin.cli import main

SUMMARY = "6 AU10001 calls, 61 repeated calls, 148 of 148 calls answered."
KOREAN = "토큰 발급(AU10001) 6회, 재시도 61회, 호출 148건 중 148건 성공."
RAN = [
    "requests: session.auth 3 1 0 ok",
    "requests: auth= of each call 3 1 0 ok",
    "httpx: Client 3 1 0 ok",
    "httpx2: Client 3 1 0 ok",
    "asyncio: 10 tasks, httpx.AsyncClient 10 1 0 ok",
    "trio: 10 tasks, httpx.AsyncClient 10 1 0 ok",
    "requests: a token is refused (8005) 3 2 1 ok",
    "asyncio: revoked under 10 calls 10 3 10 ok",
    "threads: revoked under 50 calls 50 4 50 ok",
    "threads: 50 at once, no token yet 50 5 0 ok",
    "3 processes in turn: FileStore 3 6 0 ok",
]


@pytest.fixture
def without_extras(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.setitem(sys.modules, "filelock", None)


def rows(output):
    table = output.split("\n\n")[1].splitlines()[2:]
    return [re.sub(" +", " ", row) for row in table]


def run(*arguments, encoding="utf-8", program="", **environment):
    command = ["-c", program] if program else ["-m", "kiwoom_auth_plugin"]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding, **environment},
        encoding=encoding,
        capture_output=True,
        check=False,
        timeout=100,
    )


# demo


def test_the_demo_shows_one_issue_for_each_token_and_one_repeat_for_each_refusal(capsys):
    pytest.importorskip("httpx2")
    assert main(["demo"]) == 0
    shown, complaints = capsys.readouterr()
    assert rows(shown) == RAN
    assert SUMMARY in shown
    assert KOREAN in shown
    assert complaints == ""
    assert max(map(len, shown.splitlines()[2:])) <= 80


def test_the_demo_shows_the_same_each_time(capsys):
    assert main(["demo"]) == 0
    first = capsys.readouterr().out
    assert main(["demo"]) == 0
    assert capsys.readouterr().out == first


def test_the_demo_shows_neither_key_nor_token(capsys, monkeypatch):
    issued = []
    send = requests.Session.send

    def listen(session, request, **options):
        response = send(session, request, **options)
        if request.path_url == "/oauth2/token":
            issued.append(response.json()["token"])
        return response

    monkeypatch.setattr(requests.Session, "send", listen)
    assert main(["demo"]) == 0
    shown = capsys.readouterr().out
    assert issued
    assert not any(token in shown for token in issued)
    assert "EMULATOR" not in shown


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "ascii"])
def test_the_demo_runs_on_every_console(encoding):
    done = run("demo", encoding=encoding)
    assert done.returncode == 0
    assert done.stderr == ""
    assert (KOREAN[:14] in done.stdout) == (encoding != "ascii")
    assert "?" not in done.stdout


def test_the_demo_can_be_printed_to_something_that_is_no_console(without_extras):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["demo"]) == 0
    assert KOREAN.replace("148", "142").replace("6회", "5회") in output.getvalue()


def test_the_demo_leaves_out_what_is_not_installed():
    program = (
        "import sys; sys.modules['httpx2'] = sys.modules['trio'] = sys.modules['cryptography'] = None;"
        "from kiwoom_auth_plugin.cli import main; sys.exit(main())"
    )
    done = run("demo", program=program)
    assert done.returncode == 0
    assert done.stderr == ""
    assert rows(done.stdout)[3] == "httpx2: Client 0 1 0 skipped: httpx2 is not installed"
    assert rows(done.stdout)[5] == "trio: 10 tasks, httpx.AsyncClient 0 1 0 skipped: trio is not installed"
    assert rows(done.stdout)[10] == "3 processes in turn: FileStore 0 5 0 skipped: cryptography is not installed"
    assert "5 AU10001 calls, 61 repeated calls, 132 of 132 calls answered." in done.stdout


def test_the_demo_stays_on_this_machine_whatever_proxy_the_environment_names():
    dead = "http://127.0.0.1:9"
    done = run("demo", HTTP_PROXY=dead, http_proxy=dead, ALL_PROXY=dead, all_proxy=dead)
    assert done.returncode == 0


def test_the_demo_fails_where_a_call_is_made_twice(capsys, monkeypatch):
    send = httpx.Client.send

    def send_twice(client, request, **options):
        send(client, request, **options)
        return send(client, request, **options)

    monkeypatch.setattr(httpx.Client, "send", send_twice)
    assert main(["demo"]) == 1
    shown, complaints = capsys.readouterr()
    assert (
        "httpx: Client 3 1 3 FAILED: expected 3 calls, 0 AU10001 and 0 repeated, found 3, 0 and 3; 3 answered"
        in rows(shown)
    )
    assert re.fullmatch(r"kiwoom-auth: error: \d of 11 steps did not go as promised\n", complaints)


def test_the_demo_fails_where_calls_get_no_answer(capsys, monkeypatch):
    post = requests.Session.post

    def lose_the_first(*_arguments, **_options):
        monkeypatch.setattr(requests.Session, "post", post)
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "post", lose_the_first)
    assert main(["demo"]) == 1
    shown, complaints = capsys.readouterr()
    assert rows(shown)[0] == "requests: session.auth 0 0 0 FAILED: ConnectionError"
    assert complaints.count("\n") == 1


def fail_under_trio(monkeypatch, error):
    send = httpx.AsyncClient.send

    async def send_or_fail(client, request, **options):
        if sniffio.current_async_library() == "trio":
            await anyio.lowlevel.checkpoint()
            raise error
        return await send(client, request, **options)

    monkeypatch.setattr(httpx.AsyncClient, "send", send_or_fail)


def test_the_demo_fails_where_tasks_of_trio_get_no_answer(capsys, monkeypatch):
    fail_under_trio(monkeypatch, httpx.ConnectError("no"))
    assert main(["demo"]) == 1
    assert "trio: 10 tasks, httpx.AsyncClient 0 1 0 FAILED: ExceptionGroup" in rows(capsys.readouterr().out)


def test_a_machine_without_a_loopback_is_an_error_in_one_line(capsys, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr("socket.socket.bind", refuse)
    assert main(["demo"]) == 1
    complaints = capsys.readouterr().err
    assert complaints.startswith("kiwoom-auth: error: ")
    assert complaints.count("\n") == 1


# Interrupted


def test_ctrl_c_ends_the_demo_with_status_130(capsys, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(requests.Session, "post", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "kiwoom-auth: interrupted\n"


def test_ctrl_c_within_a_task_of_trio_does_the_same(capsys, monkeypatch):
    fail_under_trio(monkeypatch, KeyboardInterrupt())
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "kiwoom-auth: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe without a reader is no BrokenPipeError there")
def test_output_that_nobody_reads_ends_it_without_a_word():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "kiwoom_auth_plugin", "demo"],
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
            timeout=100,
        )
    assert done.returncode == 1
    assert done.stderr == b""


# Wrong use


@pytest.mark.parametrize(
    "arguments", [[], ["dem"], ["demo", "more"], ["--vers"], ["--hel"], ["demo", "--hel"], ["demo", "--no-such"]]
)
def test_wrong_use_is_status_2_and_one_line(arguments, capsys):
    assert main(arguments) == 2
    shown, complaints = capsys.readouterr()
    assert shown == ""
    assert complaints.startswith("kiwoom-auth")
    assert complaints.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help_is_status_0(arguments, capsys):
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: kiwoom-auth")


def test_the_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kiwoom-auth {kiwoom_auth_plugin.__version__}\n"


def test_the_module_takes_its_arguments_from_the_command_line():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"kiwoom-auth {kiwoom_auth_plugin.__version__}\n")
    assert run("--no-such").returncode == 2
