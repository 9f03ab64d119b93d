"""The recipes of README.rst do what they are for, each with its library, against local Kiwooms."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import docutils.nodes
import httpx
import pytest
import requests

import kiwoom_auth_plugin
from kiwoom_auth_plugin import CredentialsRejected, HostMismatch, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import HEADERS, TR
from .test_readme import README, parse
from .traces import traces

MARKED = [node for node in parse(README).findall(docutils.nodes.comment) if node.astext().startswith("recipe: ")]
RECIPES = {
    node.astext().removeprefix("recipe: "): node.next_node(docutils.nodes.literal_block, siblings=True).astext()
    for node in MARKED
}
PACKAGES = str(Path(kiwoom_auth_plugin.__file__).parents[1])
TESTED = set()


def recipe(*names):
    """Says of which recipes a test is."""
    TESTED.update(names)
    return lambda test: test


@pytest.fixture
def mock_kiwoom():
    with KiwoomEmulator() as emulator:
        yield emulator


@pytest.fixture
def code(kiwoom_emulator, mock_kiwoom, monkeypatch, tmp_path):
    """The code of a recipe, as if the two local ones were Kiwoom's hosts, and the keys are where it looks for them."""
    for prefix, kiwoom in (("", kiwoom_emulator), ("REAL_", kiwoom_emulator), ("MOCK_", mock_kiwoom)):
        monkeypatch.setenv(f"KIWOOM_{prefix}APPKEY", kiwoom.appkey)
        monkeypatch.setenv(f"KIWOOM_{prefix}SECRETKEY", kiwoom.secretkey)
    monkeypatch.setenv("KIWOOM_HOST", kiwoom_emulator.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", PACKAGES)
    monkeypatch.chdir(tmp_path)

    def code(name):
        text = RECIPES[name]
        if "from_env()" in text or "from_env(store" in text:
            return text  # it calls KIWOOM_HOST
        text = text.replace("https://api.kiwoom.com", kiwoom_emulator.url)
        return text.replace("https://mockapi.kiwoom.com", mock_kiwoom.url)

    return code


@pytest.fixture
def run(code, monkeypatch):
    """Runs a recipe and gives its names; the sessions that it opens are closed in the end."""
    opened = []
    begin = requests.Session.__init__

    def begin_and_note(session, *args, **options):
        begin(session, *args, **options)
        opened.append(session)

    monkeypatch.setattr(requests.Session, "__init__", begin_and_note)

    def run(name, module="__main__"):
        namespace = {"__name__": module}
        exec(compile(code(name), f"recipe {name}", "exec"), namespace)
        return namespace

    yield run
    for session in opened:
        session.close()


def needs(*libraries):
    """The libraries, without which the test is left out, but where all are to be there."""
    take = importlib.import_module if "ALL_RECIPES" in os.environ else pytest.importorskip
    return [take(library) for library in libraries]


needs_file_store = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("cryptography", "filelock", "platformdirs"))),
    reason="needs what FileStore needs",
)


def statuses(kiwoom, api="ka10001"):
    return [call.code for call in kiwoom.calls(api)]


# Accounts and hosts


@recipe("accounts")
def test_each_of_two_accounts_has_a_token_of_its_own(run, kiwoom_emulator, tmp_path, capsys):
    kiwoom_emulator.add_account("appkey-of-another", "secretkey-of-another")
    kiwoom_emulator.add_response("kt00001", {"entr": "000000001000", "return_code": 0, "return_msg": ""})
    keys = tmp_path / "keys"
    keys.mkdir()
    pairs = {
        "11111111": (kiwoom_emulator.appkey, kiwoom_emulator.secretkey),
        "22222222": ("appkey-of-another", "secretkey-of-another"),
    }
    for number, (appkey, secretkey) in pairs.items():
        (keys / f"{number}_appkey.txt").write_text(appkey + "\n")
        (keys / f"{number}_secretkey.txt").write_text(secretkey + "\n")
    for _ in range(2):
        run("accounts")
    assert capsys.readouterr().out.splitlines() == ["11111111 000000001000", "22222222 000000001000"] * 2
    assert [kiwoom_emulator.issued_for(appkey) for appkey, _ in pairs.values()] == [1, 1]
    first, second = dict.fromkeys(call.token for call in kiwoom_emulator.calls("kt00001"))
    assert {first, second} == set(kiwoom_emulator.tokens)


@recipe("real-and-mock")
def test_real_and_mock_each_have_their_token_and_a_mix_up_is_not_sent(run, kiwoom_emulator, mock_kiwoom):
    names = run("real-and-mock")
    for kiwoom in (kiwoom_emulator, mock_kiwoom):
        assert statuses(kiwoom) == [None]
        assert kiwoom.calls("ka10001")[0].token == kiwoom.token
    assert (kiwoom_emulator.issued, mock_kiwoom.issued) == (1, 1)
    names["HOSTS"].update(REAL="https://api.kiwoom.com", MOCK="https://mockapi.kiwoom.com")
    with names["client"]("REAL") as real, pytest.raises(HostMismatch):
        real.post("https://mockapi.kiwoom.com/api/dostk/stkinfo")


# Frameworks


@needs_file_store
@recipe("fastapi")
def test_a_fastapi_application_issues_once_for_all_requests_and_workers(run, kiwoom_emulator, caplog):
    needs("fastapi")
    from kiwoom_auth_plugin.stores import FileStore

    app = run("fastapi")["app"]

    async def visit():
        async def ask():
            return await browser.get("/quotes/005930")

        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as browser,
        ):
            answers = await asyncio.gather(*(ask() for _ in range(20)))
            assert kiwoom_emulator.issued == 1
            kiwoom_emulator.revoke_tokens()
            answers += await asyncio.gather(*(ask() for _ in range(20)))
            assert kiwoom_emulator.issued == 2
            assert [answer.json()["cur_prc"] for answer in answers] == ["+71500"] * 40
            another = KiwoomBearerAuth.from_env(store=FileStore(), cache={})  # as in another worker
            assert await another.aget_token() == kiwoom_emulator.token
            assert kiwoom_emulator.issued == 2
            kiwoom_emulator.revoke_tokens()
            kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
            failed = await ask()
            assert (failed.status_code, failed.json()) == (503, {"detail": "no access to Kiwoom"})

    asyncio.run(visit())
    assert "[8001:" in caplog.text


WORKERS = """
import os
import sys
from wsgiref.util import setup_testing_defaults
from quotes import application

def call():
    environ = {"PATH_INFO": "/quotes/005930", "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    statuses = []
    body = b"".join(application(environ, lambda status, headers: statuses.append(status)))
    return statuses == ["200 OK"] and b"cur_prc" in body

def work():
    children = []
    for _ in range(4):
        children.append(os.fork())
        if not children[-1]:
            os._exit(0 if call() else 1)
    return [os.waitpid(child, 0)[1] for child in children] == [0] * 4

assert work(), "forked after the import"
print("once", flush=True)
sys.stdin.readline()
assert call(), "the parent"
assert work(), "forked with a token"
"""


@needs_file_store
@pytest.mark.skipif(not hasattr(os, "fork"), reason="pre-fork needs fork")
@recipe("django")
def test_a_django_view_works_in_forked_workers_which_share_one_token(code, kiwoom_emulator, tmp_path, monkeypatch):
    needs("django")
    monkeypatch.setenv("DJANGO_SECRET_KEY", "of-a-test")
    (tmp_path / "quotes.py").write_text(code("django"), encoding="utf-8")
    (tmp_path / "workers.py").write_text(WORKERS, encoding="utf-8")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    # Python warns of each fork of a process with threads, those of a server that is asked for a token included.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "workers.py"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True) as workers:
        line = workers.stdout.readline()
        issued = kiwoom_emulator.issued
        kiwoom_emulator.revoke_tokens()
        _, errors = workers.communicate("\n", timeout=60)
    assert (line, workers.returncode, errors) == ("once\n", 0, "")
    assert (issued, kiwoom_emulator.issued) == (1, 2)


@recipe("pandas")
@needs_file_store
def test_a_chart_of_three_pages_is_whole_though_the_token_dies_between_them(run, kiwoom_emulator):
    needs("pandas")

    def page(day, *, more=True):
        row = {"dt": day, "cur_prc": "-71500", "trde_qty": "9263135"}
        row |= {"open_pric": "+72000", "high_pric": "+72100", "low_pric": "-71400"}
        body = {"stk_cd": "005930", "stk_dt_pole_chart_qry": [row], "return_code": 0, "return_msg": ""}
        headers = (("cont-yn", "Y"), ("next-key", f"after-{day}")) if more else ()
        return Answer.json(body, headers=headers)

    kiwoom_emulator.reissue = "replace"
    days = ("20241108", "20241107", "20241106")
    pages = page(days[0]), recorded.INVALID_TOKEN, page(days[1]), page(days[2], more=False)
    kiwoom_emulator.script("/api/dostk/chart", *pages)
    names = run("pandas")
    calls = kiwoom_emulator.calls("ka10081")
    assert [call.headers.get("next-key") for call in calls] == [None, *["after-20241108"] * 2, "after-20241107"]
    assert (statuses(kiwoom_emulator, "ka10081"), kiwoom_emulator.issued) == ([None, 8005, None, None], 2)

    kiwoom_emulator.script("/api/dostk/chart", page(days[0]), page(days[1], more=False))
    chart = names["daily_chart"]("005930", "20241108")
    assert [f"{day:%Y%m%d}" for day in chart.index] == ["20241107", "20241108"]
    assert chart["cur_prc"].tolist() == [71500, 71500]

    kiwoom_emulator.add_response("ka10081", {"stk_dt_pole_chart_qry": [], "return_code": 0, "return_msg": ""})
    assert names["daily_chart"]("005930", "20241108").empty

    kiwoom_emulator.script("/api/dostk/chart", *[page(days[0])] * 3)
    with pytest.raises(RuntimeError, match="more than 3 pages"):
        names["daily_chart"]("005930", "20241108", pages=3)

    kiwoom_emulator.script("/api/dostk/chart", page(days[0]), recorded.TOO_MANY_CALLS)
    with pytest.raises(RuntimeError, match="1700"):
        names["daily_chart"]("005930", "20241108")
    assert len(kiwoom_emulator.calls("au10001")) == 2


# By the clock


@recipe("cron")
@needs_file_store
def test_runs_of_a_cron_job_that_overlap_or_follow_share_one_token(code, kiwoom_emulator, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for variable in ("KIWOOM_APPKEY", "KIWOOM_SECRETKEY", "KIWOOM_HOST"):
        monkeypatch.delenv(variable)
    keys = tmp_path / ".kiwoom"
    keys.mkdir()
    (keys / "12345678_appkey.txt").write_text(kiwoom_emulator.appkey)
    (keys / "12345678_secretkey.txt").write_text(kiwoom_emulator.secretkey)
    (tmp_path / "quote.py").write_text(code("cron"), encoding="utf-8")

    def start():
        command = [sys.executable, "-W", "error", "quote.py"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with kiwoom_emulator.hold() as gate, start() as first, start() as second:
        gate.wait_for(1)
        gate.release()
        printed = [job.communicate(timeout=60) for job in (first, second)]
    with start() as third:
        printed.append(third.communicate(timeout=60))
    assert printed == [("+71500\n", "")] * 3
    assert kiwoom_emulator.issued == 1


@recipe("apscheduler")
def test_jobs_of_apscheduler_share_one_token(run, kiwoom_emulator, capsys):
    needs("apscheduler")
    from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED

    scheduler = run("apscheduler", module="jobs")["scheduler"]
    done, outcomes = threading.Event(), []

    def note(event):
        outcomes.append(event.exception)
        if len(outcomes) == 2:
            done.set()

    scheduler.add_listener(note, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    scheduler.start(paused=True)
    try:
        for job in scheduler.get_jobs():
            assert job.next_run_time.weekday() < 5
            job.modify(next_run_time=datetime.now(UTC))
        scheduler.resume()
        assert done.wait(60)
    finally:
        scheduler.shutdown()
    assert outcomes == [None, None]
    assert sorted(capsys.readouterr().out.splitlines()) == ["000660 +71500", "005930 +71500"]
    assert kiwoom_emulator.issued == 1


# Retries


@recipe("tenacity")
def test_tenacity_repeats_what_may_pass_of_queries_and_nothing_of_orders(run, kiwoom_emulator, monkeypatch, clock):
    needs("tenacity")
    clock.set_wall(time.time())
    monkeypatch.setattr(KiwoomBearerAuth, "_clock", clock)
    names = run("tenacity")
    quote, buy, auth = names["quote"], names["buy"], names["session"].auth
    quote.retry.sleep = clock.advance
    lost = Answer.as_usual(cut="before")

    kiwoom_emulator.script("/api/dostk/stkinfo", lost, lost)
    kiwoom_emulator.clear_journal()
    assert quote("005930")["return_code"] == 0
    assert len(kiwoom_emulator.calls("ka10001")) == 3

    auth.invalidate(auth.get_token())
    kiwoom_emulator.script("/oauth2/token", *[Answer(status=503)] * 3)  # as often as one exchange asks
    assert quote("005930")["return_code"] == 0
    assert len(kiwoom_emulator.calls("au10001")) == 4

    auth.invalidate(auth.get_token())
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    kiwoom_emulator.clear_journal()
    with pytest.raises(CredentialsRejected):
        quote("005930")
    assert [call.api for call in kiwoom_emulator.journal] == ["au10001"]

    auth.invalidate("")  # ends the pause
    kiwoom_emulator.script("/api/dostk/ordr", lost)
    with pytest.raises(requests.ConnectionError):
        buy("005930", 1)
    assert len(kiwoom_emulator.calls("kt10000")) == 1


@contextlib.contextmanager
def one_connection_refused(monkeypatch, module, name):
    """The next connection that is made by way of a function comes to nothing."""
    connect, refused = getattr(module, name), []

    def refuse_once(*args, **options):
        if not refused:
            refused.append(args[0])
            raise ConnectionRefusedError
        return connect(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, refuse_once)
        yield
    assert refused


@recipe("urllib3")
def test_urllib3_repeats_what_was_not_sent_and_nothing_else(run, kiwoom_emulator, monkeypatch):
    import urllib3.util.connection

    session = run("urllib3")["session"]
    url = f"{kiwoom_emulator.url}/api/dostk/ordr"

    def order():
        return session.post(url, headers={"api-id": "kt10000"}, json={"stk_cd": "005930"}, timeout=10).json()

    session.close()  # leaves no connection to be used again
    with one_connection_refused(monkeypatch, urllib3.util.connection, "create_connection"):
        assert order()["return_code"] == 0
    for lost in (Answer.as_usual(cut="before"), Answer.as_usual(cut="reset"), Answer(status=503)):
        kiwoom_emulator.clear_journal()
        kiwoom_emulator.script("/api/dostk/ordr", lost)
        with contextlib.suppress(requests.ConnectionError, requests.JSONDecodeError):
            order()
        assert len(kiwoom_emulator.calls("kt10000")) == 1
    assert kiwoom_emulator.issued == 1


@recipe("httpx-retries")
def test_the_retries_of_httpx_are_for_what_was_not_sent(run, kiwoom_emulator, monkeypatch):
    import socket

    auth = KiwoomBearerAuth.from_env()
    auth.get_token()
    with one_connection_refused(monkeypatch, socket, "create_connection"):
        run("httpx-retries")
    assert statuses(kiwoom_emulator) == [None]
    kiwoom_emulator.script("/api/dostk/stkinfo", Answer.as_usual(cut="before"))
    with pytest.raises(httpx.RemoteProtocolError):
        run("httpx-retries")
    assert len(kiwoom_emulator.calls("ka10001")) == 2
    assert kiwoom_emulator.issued == 1


# Rate limits


@recipe("requests-ratelimiter")
def test_requests_ratelimiter_counts_a_repetition_and_not_au10001(run, kiwoom_emulator, monkeypatch):
    _, pyrate_limiter = needs("requests_ratelimiter", "pyrate_limiter")
    asked = []

    def note(_limiter, name, **_options):
        asked.append(name)
        return True

    monkeypatch.setattr(pyrate_limiter.Limiter, "try_acquire", note)
    kiwoom_emulator.reissue = "replace"
    kiwoom_emulator.refuse_next()
    session = run("requests-ratelimiter")["session"]
    (rate,) = session.get_adapter(kiwoom_emulator.url).limiter.bucket_factory.rates
    assert (rate.limit, rate.interval) == (4, 1000)
    assert statuses(kiwoom_emulator) == [8005, None, None, None]
    assert asked == [kiwoom_emulator.url.removeprefix("http://")] * 4
    assert kiwoom_emulator.issued == 2


@recipe("aiolimiter")
def test_aiolimiter_counts_a_repetition_and_not_au10001(run, kiwoom_emulator, monkeypatch, capsys):
    (aiolimiter,) = needs("aiolimiter")
    asked = []

    async def note(limiter, amount=1):
        asked.append(amount)
        assert (limiter.max_rate, limiter.time_period) == (1, 0.25)  # it leaks: (4, 1) would be up to 7 in a second

    monkeypatch.setattr(aiolimiter.AsyncLimiter, "acquire", note)
    kiwoom_emulator.reissue = "replace"
    kiwoom_emulator.refuse_next()
    run("aiolimiter")
    assert capsys.readouterr().out.strip() == str(["+71500"] * 3)
    assert len(asked) == len(kiwoom_emulator.calls("ka10001")) >= 4
    assert kiwoom_emulator.issued == 2


# Mocks


def unreplaced(name):
    namespace = {"__name__": "test_quotes"}
    exec(compile(RECIPES[name], f"recipe {name}", "exec"), namespace)
    return namespace


@recipe("responses")
def test_responses_catches_au10001_and_a_token_that_lasts_too_long_is_not_believed():
    (responses,) = needs("responses")
    names = unreplaced("responses")
    names["test_quote"]()
    with responses.RequestsMock() as mock:
        mock.post("https://api.kiwoom.com/oauth2/token", json={**names["issued"](), "expires_dt": "20991231235959"})
        with pytest.raises(kiwoom_auth_plugin.InvalidTokenResponse):
            KiwoomBearerAuth("appkey", "secretkey", cache={}).get_token()


@recipe("respx")
def test_respx_catches_au10001():
    needs("respx")
    unreplaced("respx")["test_quote"]()


@recipe("respx")
def test_respx_does_not_catch_a_call_of_httpx2(kiwoom_emulator):
    respx, httpx2 = needs("respx", "httpx2")
    with respx.mock:
        httpx2.post(f"{kiwoom_emulator.url}/api/dostk/stkinfo")
    assert len(kiwoom_emulator.journal) == 1


@recipe("pytest-httpx")
def test_pytest_httpx_catches_au10001(request):
    needs("pytest_httpx")
    httpx_mock = request.getfixturevalue("httpx_mock")
    unreplaced("pytest-httpx")["test_quote"](httpx_mock)
    assert [call.url.path for call in httpx_mock.get_requests()] == ["/oauth2/token", "/api/dostk/stkinfo"]


@recipe("pytest-httpx")
def test_the_transport_of_a_client_catches_au10001_by_way_of_the_client_argument(kiwoom_emulator):
    issued, keys = unreplaced("pytest-httpx")["issued"], ("appkey", "secretkey")
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(200, json=issued())

    url = f"{kiwoom_emulator.url}/api/dostk/stkinfo"
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.post(url, auth=KiwoomBearerAuth(*keys, host=kiwoom_emulator.url, cache={}, client=client))
        assert asked == ["/oauth2/token", "/api/dostk/stkinfo"]
        assert kiwoom_emulator.journal == []
        with pytest.raises(CredentialsRejected):  # by the local Kiwoom, which has no such keys
            client.post(url, auth=KiwoomBearerAuth(*keys, host=kiwoom_emulator.url, cache={}))
        assert len(asked) == 2


@recipe("vcr")
@pytest.mark.parametrize("library", [requests, httpx], ids=lambda library: library.__name__)
def test_cassettes_hold_no_key_and_no_token_and_can_be_played_back(tmp_path, library):
    needs("vcr")
    recorder, cassette = unreplaced("vcr")["recorder"], tmp_path / "quotes.yaml"

    def call():
        with recorder.use_cassette(str(cassette)):
            auth = KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, cache={})
            answer = library.post(kiwoom.url + TR, headers=HEADERS, json={"stk_cd": "005930"}, auth=auth)
            return answer.json(), auth.get_token()

    with KiwoomEmulator(reissue="replace") as kiwoom:
        kiwoom.refuse_next()
        recorded = call()
        assert recorded[1] == kiwoom.token
        assert traces(cassette.read_text("utf-8"), kiwoom.appkey, kiwoom.secretkey, kiwoom.token) == []
    played = call()
    assert (played[0], played[1].partition("-")[0]) == (recorded[0], "token")


# From elsewhere


@recipe("token-file-before", "token-file")
@needs_file_store
def test_in_place_of_a_token_file_a_dead_token_is_replaced(run, kiwoom_emulator, tmp_path):
    before = run("token-file-before")
    assert json.loads((tmp_path / "token.json").read_text())["token"] == kiwoom_emulator.token
    kiwoom_emulator.revoke_tokens()
    assert "[8005:" in before["quote"]("005930")["return_msg"]
    (tmp_path / "token.json").unlink()

    after = run("token-file")
    kiwoom_emulator.revoke_tokens()
    assert after["quote"]("005930")["return_code"] == 0
    assert not (tmp_path / "token.json").exists()
    token = kiwoom_emulator.token.encode()
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(token in content for content in kept)


@recipe("token-provider")
def test_kiwoom_client_takes_its_token_from_the_auth_object(run, kiwoom_emulator, capsys):
    (kiwoom_client,) = needs("kiwoom_client")
    names = run("token-provider")
    assert capsys.readouterr().out == "+71500\n"
    kiwoom_emulator.revoke_tokens()
    provider = names["Provider"](names["auth"])
    keys = {"base_url": kiwoom_emulator.url, "token_provider": provider, "rate_limit": None}
    with names["BaseClient"]("", "", **keys) as client:
        assert client.request("/api/dostk/stkinfo", "ka10001", {})["cur_prc"] == "+71500"
    assert statuses(kiwoom_emulator) == [None, 8005, None]
    assert kiwoom_emulator.issued == 2

    token = kiwoom_emulator.token
    late = threading.Thread(target=provider.refresh_token)  # of a thread whose token is not this one
    late.start()
    late.join()
    assert provider.get_valid_token() == token
    assert kiwoom_emulator.issued == 2

    kiwoom_emulator.script("/api/dostk/stkinfo", *[recorded.ADDRESS_NOT_REGISTERED] * 2)
    with names["BaseClient"]("", "", **keys) as client, pytest.raises(kiwoom_client.base.KiwoomAPIError):
        client.request("/api/dostk/stkinfo", "ka10001", {})
    assert kiwoom_emulator.issued == 3


@recipe("oauth2")
@pytest.mark.parametrize("library", ["requests_auth", "httpx_auth"])
def test_the_client_credentials_of_other_libraries_get_no_token_and_this_does(library, run, kiwoom_emulator, capsys):
    (module,) = needs(library)
    sender = {"requests_auth": requests, "httpx_auth": httpx}[library]
    url = f"{kiwoom_emulator.url}/api/dostk/stkinfo"
    former = module.OAuth2ClientCredentials(
        f"{kiwoom_emulator.url}/oauth2/token",
        client_id=kiwoom_emulator.appkey,
        client_secret=kiwoom_emulator.secretkey,
        token_field_name="token",
    )
    with pytest.raises(module.GrantNotProvided):
        sender.post(url, headers={"api-id": "ka10001"}, json={}, auth=former)
    (call,) = kiwoom_emulator.journal
    assert "Content-Type is not application/json;charset=UTF-8" in call.violations
    assert call.headers["authorization"].startswith("Basic ")
    run("oauth2")
    assert capsys.readouterr().out.split() == ["+71500"] * 2
    assert kiwoom_emulator.issued == 1


# aiohttp


@pytest.fixture
def by_aiohttp(run, kiwoom_emulator):
    """Has a coroutine use a session with the middleware of the recipe."""
    (aiohttp,) = needs("aiohttp")
    middleware = run("aiohttp")["kiwoom"]
    kiwoom_emulator.clear_journal()

    def by_aiohttp(use):
        async def main():
            middlewares = (middleware(KiwoomBearerAuth.from_env()),)
            async with aiohttp.ClientSession(middlewares=middlewares) as session:
                return await use(session)

        return asyncio.run(main())

    return by_aiohttp


async def ask(session, url):
    headers, body = {"api-id": "ka10001"}, {"stk_cd": "005930"}
    async with session.post(f"{url}/api/dostk/stkinfo", headers=headers, json=body) as answer:
        return await answer.json()


@recipe("aiohttp")
def test_aiohttp_sends_refused_calls_once_more_with_one_new_token(by_aiohttp, kiwoom_emulator):
    url = kiwoom_emulator.url
    kiwoom_emulator.revoke_tokens()

    async def use(session):
        return await asyncio.gather(*(ask(session, url) for _ in range(20)))

    assert [answer["return_code"] for answer in by_aiohttp(use)] == [0] * 20
    calls = kiwoom_emulator.calls("ka10001")
    assert len(calls) == 20 + kiwoom_emulator.repeated
    assert kiwoom_emulator.repeated > 0
    assert {call.body for call in calls} == {b'{"stk_cd": "005930"}'}
    assert kiwoom_emulator.issued == 2


@recipe("aiohttp")
def test_aiohttp_gives_what_no_token_cures_to_the_caller(by_aiohttp, kiwoom_emulator):
    kiwoom_emulator.reissue = "replace"
    kiwoom_emulator.refuse_next(2)
    answer = by_aiohttp(lambda session: ask(session, kiwoom_emulator.url))
    assert "[8005:" in answer["return_msg"]
    assert statuses(kiwoom_emulator) == [8005, 8005]
    kiwoom_emulator.script("/api/dostk/stkinfo", recorded.UNAUTHORIZED)
    answer = by_aiohttp(lambda session: ask(session, kiwoom_emulator.url))
    assert answer["return_code"] == 0
    kiwoom_emulator.clear_journal()
    kiwoom_emulator.script("/api/dostk/stkinfo", recorded.ADDRESS_NOT_REGISTERED)
    answer = by_aiohttp(lambda session: ask(session, kiwoom_emulator.url))
    assert "[8050:" in answer["return_msg"]
    assert statuses(kiwoom_emulator) == [8050]


@recipe("aiohttp")
def test_aiohttp_does_not_repeat_a_body_that_can_be_sent_once(by_aiohttp, kiwoom_emulator):
    kiwoom_emulator.revoke_tokens()

    async def use(session):
        async def pieces():
            yield b'{"stk_cd": "005930"}'

        url = f"{kiwoom_emulator.url}/api/dostk/stkinfo"
        headers = {"Content-Type": "application/json;charset=UTF-8", "api-id": "ka10001"}
        async with session.post(url, headers=headers, data=pieces()) as answer:
            first = await answer.json()
        return first, await ask(session, kiwoom_emulator.url)

    first, second = by_aiohttp(use)
    assert ("[8005:" in first["return_msg"], second["return_code"]) == (True, 0)
    assert statuses(kiwoom_emulator) == [8005, None]


@recipe("aiohttp")
def test_aiohttp_takes_the_token_to_no_other_host(by_aiohttp, kiwoom_emulator, mock_kiwoom):
    elsewhere = Answer.redirect(f"{mock_kiwoom.url}/api/dostk/stkinfo", status=307)
    kiwoom_emulator.script("/api/dostk/stkinfo", elsewhere)

    async def use(session):
        await ask(session, kiwoom_emulator.url)
        await ask(session, mock_kiwoom.url)

    by_aiohttp(use)
    assert [call.token is None for call in kiwoom_emulator.calls("ka10001")] == [False]
    assert ["authorization" in call.headers for call in mock_kiwoom.journal] == [False, False]

    (aiohttp,) = needs("aiohttp")
    with pytest.raises(aiohttp.ClientOSError) as raised:
        by_aiohttp(lambda session: ask(session, "https://mockapi.kiwoom.com"))
    assert isinstance(raised.value.__cause__, HostMismatch)


# Metrics


@recipe("prometheus")
def test_prometheus_counts_issues_refusals_and_failures_and_knows_the_expiry(run, kiwoom_emulator):
    (prometheus,) = needs("prometheus_client")
    auth = run("prometheus")["auth"]
    auth.get_token()
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    auth.invalidate(auth.get_token())
    with pytest.raises(CredentialsRejected):
        auth.get_token()

    def value(name, **labels):
        return prometheus.REGISTRY.get_sample_value(name, {"host": kiwoom_emulator.url, **labels})

    assert value("kiwoom_auth_events_total", event="token.issued", code="") == 1
    assert value("kiwoom_auth_events_total", event="attempt.failed", code="8001") == 1
    (expiry,) = [
        sample.value
        for metric in prometheus.REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "kiwoom_token_expiry_timestamp_seconds"
    ]
    assert 23 * 3600 < expiry - time.time() <= 24 * 3600
    assert kiwoom_emulator.appkey not in prometheus.generate_latest().decode()


@recipe("opentelemetry")
def test_opentelemetry_counts_events_and_has_those_of_a_call_in_its_span(run, kiwoom_emulator):
    metrics, trace, _ = needs("opentelemetry.metrics", "opentelemetry.trace", "opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    auth = run("opentelemetry")["auth"]
    kiwoom_emulator.script("/oauth2/token", recorded.BAD_KEY_PAIR)
    with TracerProvider().get_tracer("test").start_as_current_span("call") as span:
        with pytest.raises(CredentialsRejected):
            auth.get_token()
        assert [(event.name, event.attributes["kiwoom.code"]) for event in span.events] == [("attempt.failed", 8001)]
    (point,) = (
        point
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    )
    assert (point.value, point.attributes["server.address"]) == (1, kiwoom_emulator.url)
    assert trace.get_current_span() is trace.INVALID_SPAN


# All of them


def test_every_recipe_has_a_test():
    assert len(RECIPES) == len(MARKED)
    assert set(RECIPES) == TESTED


def test_every_recipe_is_code_of_its_own_that_prints_no_token():
    for name, text in RECIPES.items():
        compile(text, name, "exec")
        assert not re.search(r"print\(.*token", text), name
