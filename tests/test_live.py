"""The check against the live server, against the local one: what it tells, and that it tells no secret."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kiwoom_auth_plugin
from kiwoom_auth_plugin.testing import Answer, recorded

SCRIPT = Path(__file__).with_name("live.py")
WEBSOCKETS = importlib.util.find_spec("websockets") is not None


@pytest.fixture
def run(kiwoom_emulator):
    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(kiwoom_auth_plugin.__file__).parents[1]),
                "PYTHONIOENCODING": "utf-8",
                "KIWOOM_LIVE_PAUSE": "0.01",
                "KIWOOM_APPKEY": kiwoom_emulator.appkey,
                "KIWOOM_SECRETKEY": kiwoom_emulator.secretkey,
                "KIWOOM_HOST": kiwoom_emulator.url,
                "KIWOOM_WEBSOCKET": kiwoom_emulator.websocket.url if WEBSOCKETS else "",
                **environment,
            },
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=100,
        )
        shown = done.stdout + done.stderr
        tokens = {call.token for call in kiwoom_emulator.journal if call.token and "x" * 40 not in call.token}
        secrets = {kiwoom_emulator.appkey, kiwoom_emulator.secretkey, *tokens}
        assert not [secret for secret in secrets if secret in shown]
        return done

    return run


@pytest.mark.parametrize(
    ("model", "told"),
    [("same", ["re-issue: the same token"]), ("replace", ["re-issue: ANOTHER token", "the first token: is DEAD"])],
)
def test_it_tells_what_the_server_does(run, kiwoom_emulator, model, told):
    kiwoom_emulator.reissue = model
    if WEBSOCKETS:
        told = [*told, "LOGIN with a token that never was: .*805004", "then the connection stays open"]
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    for line in [
        *told,
        r"expires_dt: form 99999999999999\n +lifetime: 1 day, 0:00:00 by",
        r"a query with it: HTTP 200, .*'api-id'.*, return_code 0 \(int\)",
        r"a query without authorization: .*\[1513:",
        r"a query with the revoked token: HTTP 200.*\[8005:",
        r"the same by KiwoomBearerAuth: HTTP 200",
    ]:
        assert re.search(line, done.stdout), line
    assert {call.violations for call in kiwoom_emulator.journal} == {(), ("authorization is missing",)}


def test_it_tells_why_there_is_no_token(run, kiwoom_emulator):
    kiwoom_emulator.script("/oauth2/token", recorded.ADDRESS_NOT_REGISTERED)
    done = run()
    assert "[8050:" in done.stdout
    assert (done.returncode, done.stderr) == (1, "no token: nothing more can be seen\n")


@pytest.mark.parametrize("oddity", [{"Date": ""}, {"Date": "yesterday"}])
def test_what_it_does_not_understand_is_told_and_no_end(run, kiwoom_emulator, oddity):
    odd = Answer.json({"token": "a-token-that-never-was", "expires_dt": "soon"}, headers=tuple(oddity.items()))
    kiwoom_emulator.script("/oauth2/token", odd, odd)
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "expires_dt: form soon" in done.stdout
    assert "lifetime: cannot be told" in done.stdout
    assert "a-token-that-never-was" not in done.stdout


@pytest.mark.parametrize(
    "host", ["https://api.kiwoom.com", "https://api.kiwoom.com/", "https://API.kiwoom.com:443", "api.kiwoom.com"]
)
def test_it_wants_to_be_told_before_it_touches_the_real_host(run, host):
    done = run(KIWOOM_HOST=host)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--real" in done.stderr


def test_keys_that_are_missing_are_told_in_a_line(run):
    done = run(KIWOOM_APPKEY="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("the environment variable KIWOOM_APPKEY must be")
