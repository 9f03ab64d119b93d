"""gevent: the whole package in a process that is monkey-patched."""

import importlib.util
import subprocess
import sys

import pytest

from .clients import TR
from .crowd import PATIENCE

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="gevent is not installed; tox installs it"
)

PATCHED = """
from gevent import monkey
monkey.patch_all()

import sys
import gevent, gevent.event
import requests
from kiwoom_auth_plugin import KiwoomBearerAuth

url, appkey, secretkey, path = sys.argv[1:]
headers = {"api-id": "ka10001", "Content-Type": "application/json;charset=UTF-8"}


def post():
    auth = KiwoomBearerAuth(appkey, secretkey, host=url)
    answer = requests.post(url + path, data=b'{"stk_cd": "005930"}', headers=headers, auth=auth, timeout=30)
    return answer.json()["return_code"]


greenlets = [gevent.spawn(post) for _ in range(100)]
gevent.joinall(greenlets, timeout=30, raise_error=True)
assert [greenlet.value for greenlet in greenlets] == [0] * 100
print("cold")
sys.stdin.readline()

greenlets = [gevent.spawn(post) for _ in range(100)]
gevent.joinall(greenlets, timeout=30, raise_error=True)
assert [greenlet.value for greenlet in greenlets] == [0] * 100
print("refused")
sys.stdin.readline()

# The one that runs the exchange is killed in it: another takes over.
cache = {}
waiting = [gevent.spawn(KiwoomBearerAuth(appkey, secretkey, host=url, cache=cache).get_token) for _ in range(10)]
gevent.sleep(0)
waiting[0].kill()
gevent.joinall(waiting[1:], timeout=30, raise_error=True)
assert len({greenlet.value for greenlet in waiting[1:]}) == 1
assert isinstance(waiting[0].value, gevent.GreenletExit)

# So is one while its listener does something slow, or its time is over.
at_work = gevent.event.Event()


def listener(_event):
    at_work.set()
    gevent.sleep(60)


def ask():
    return KiwoomBearerAuth(appkey, secretkey, host=url, cache={}, on_event=listener).get_token()


slow = gevent.spawn(ask)
at_work.wait()
slow.kill()
assert isinstance(slow.value, gevent.GreenletExit), slow.value
try:
    with gevent.Timeout(0.5):
        ask()
except gevent.Timeout:
    print("killed")
"""


def test_greenlets_share_one_issue_and_survive_each_other(kiwoom_emulator):
    arguments = [kiwoom_emulator.url, kiwoom_emulator.appkey, kiwoom_emulator.secretkey, TR]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", PATCHED, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout.readline() == "cold\n", process.communicate(timeout=PATIENCE)
            assert len(kiwoom_emulator.calls("au10001")) == 1
            kiwoom_emulator.expire_tokens()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "refused\n", process.communicate(timeout=PATIENCE)
            assert len(kiwoom_emulator.calls("au10001")) == 2
            out, err = process.communicate("\n", timeout=PATIENCE)
            assert out == "killed\n", err
        finally:
            process.kill()
