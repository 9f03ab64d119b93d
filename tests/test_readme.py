"""README.rst holds what it says: every example runs, every command is the one that is tested."""

import contextlib
import importlib.util
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import docutils.core
import docutils.nodes
import pytest
import requests

import kiwoom_auth_plugin
from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.cli import main
from kiwoom_auth_plugin.testing import KiwoomEmulator

from . import redis_server
from .leaks import PACKAGE

TOP = Path(__file__).parents[1]
README = (TOP / "README.rst").read_text(encoding="utf-8")


def parse(text):
    """The document; everything that docutils has to say of it is an error."""
    strict = {"report_level": 1, "halt_level": 1, "syntax_highlight": "none", "_disable_config": True}
    return docutils.core.publish_doctree(text, settings_overrides=strict)


def is_recipe(block):
    """Whether test_recipes.py runs it."""
    before = block.parent[block.parent.index(block) - 1]
    return isinstance(before, docutils.nodes.comment) and before.astext().startswith("recipe: ")


def blocks(language):
    found = parse(README).findall(docutils.nodes.literal_block)
    return [node.astext() for node in found if language in node["classes"] and not is_recipe(node)]


def block_after(comment):
    (marker,) = (node for node in parse(README).findall(docutils.nodes.comment) if node.astext() == comment)
    return marker.next_node(docutils.nodes.literal_block, siblings=True).astext()


EXAMPLES = [code for code in blocks("python") if not re.match(r"# \w+\.py\n", code)]
FILES = {code.split("\n")[0].removeprefix("# "): code for code in blocks("python") if code not in EXAMPLES}


@pytest.fixture
def mock_kiwoom():
    with KiwoomEmulator() as emulator:
        yield emulator


@pytest.fixture
def run(kiwoom_emulator, mock_kiwoom, monkeypatch, tmp_path):
    """Runs an example as if the two local ones were Kiwoom's hosts, and with the keys where it looks for them."""
    monkeypatch.setenv("KIWOOM_APPKEY", kiwoom_emulator.appkey)
    monkeypatch.setenv("KIWOOM_SECRETKEY", kiwoom_emulator.secretkey)
    monkeypatch.setenv("KIWOOM_HOST", kiwoom_emulator.url)
    (tmp_path / "12345678_appkey.txt").write_text(kiwoom_emulator.appkey + "\n")
    (tmp_path / "12345678_secretkey.txt").write_text(kiwoom_emulator.secretkey + "\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    with contextlib.ExitStack() as leftovers:

        def run(code):
            code = code.replace("https://api.kiwoom.com", kiwoom_emulator.url)
            if "REDIS_URL" in code:
                if not redis_server.SERVER:
                    pytest.skip("needs redis-server or valkey-server on PATH")
                monkeypatch.setenv("REDIS_URL", leftovers.enter_context(redis_server.RedisServer()).url)
            code = code.replace("https://mockapi.kiwoom.com", mock_kiwoom.url)
            namespace = {"__name__": "__main__"}
            exec(compile(code, "README.rst", "exec"), namespace)
            for value in namespace.values():
                if isinstance(value, requests.Session) or type(value).__module__.startswith("redis."):
                    leftovers.callback(value.close)
            return namespace

        yield run


def skip_without_library(code):
    needed = [name for name in ("httpx2", "trio", "redis") if f"import {name}\n" in code]
    needed += ["filelock", "cryptography"] if "store=" in code else []
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")


# Examples


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.strip().split("\n")[-1][:50])
def test_every_example_runs(code, run, kiwoom_emulator):
    skip_without_library(code)
    run(code)
    calls = kiwoom_emulator.journal
    assert [call.violations for call in calls] == [()] * len(calls)
    assert {call.return_code for call in calls} <= {0}
    if "/api/dostk/" in code and "auth" in code.replace("authorization", "") and "KiwoomEmulator(" not in code:
        assert kiwoom_emulator.calls("ka10001")


def test_there_is_an_example_for_every_library():
    for library in (
        "requests.Session",
        "httpx.Client",
        "httpx.AsyncClient",
        "httpx2.Client",
        "asyncio.run",
        "trio.run",
    ):
        assert any(library in code for code in EXAMPLES), library


def test_before_and_after_differ_in_the_token_only(run, kiwoom_emulator):
    before, after = (code for code in EXAMPLES if "def fn_ka10001" in code)
    lines = [code[code.index("def ") :].partition("\n\n")[0].split("\n") for code in (before, after)]
    gone = [line.strip() for line in lines[0] if line not in lines[1]]
    come = [line.strip() for line in lines[1] if line not in lines[0]]
    assert gone == [
        'def fn_ka10001(token, data, cont_yn="N", next_key=""):',
        '"authorization": f"Bearer {token}",',
        "return requests.post(host + endpoint, headers=headers, json=data)",
    ]
    assert come == [
        'def fn_ka10001(data, cont_yn="N", next_key=""):',
        "return requests.post(host + endpoint, headers=headers, json=data, auth=auth)",
    ]
    new = run(after)
    old = run(before)
    data = {"stk_cd": "005930"}
    assert new["fn_ka10001"](data).json() == old["fn_ka10001"](new["auth"].get_token(), data).json()


def test_the_example_of_an_error_prints_what_it_says(run, capsys, monkeypatch, kiwoom_emulator):
    monkeypatch.setenv("KIWOOM_SECRETKEY", "another")
    (code,) = (code for code in EXAMPLES if "except KiwoomAuthError" in code)
    run(code)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "8001 False"
    assert first in code
    assert kiwoom_emulator.url in second


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one after the other", "with pytest-xdist"])
def test_the_example_of_a_test_suite_passes(tmp_path, options):
    if options:
        pytest.importorskip("xdist")
    assert set(FILES) == {"conftest.py", "test_quotes.py", "realtime.py"}
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    package = str(Path(kiwoom_auth_plugin.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": package, "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_the_demo_prints_what_is_shown(capsys):
    pytest.importorskip("httpx2")
    assert main(["demo"]) == 0
    assert capsys.readouterr().out.strip() == block_after("demo output")


def test_the_table_of_log_events_has_each_and_its_level():
    told = {
        (event, level.lower())
        for path in PACKAGE.rglob("*.py")
        for level, event in re.findall(r'Note\(\s*logging\.(\w+), "([a-z.]+)"', path.read_text("utf-8"))
    }
    told |= {(event, "info") for event in ("token.issued", "token.found")}  # by way of one function
    told.add(("listener.failed", "warning"))  # it is no note
    table = README.partition("* - ``kiwoom_event``")[2].partition("\n\n\n")[0]
    assert set(re.findall(r"\* - ``([a-z.]+)``\n +- (\w+)\n", table)) == told


def test_the_picture_is_what_its_script_draws():
    pictures = TOP / "tests" / "pictures"
    images = [node["uri"] for node in parse(README).findall(docutils.nodes.image)]
    all_measured = ("calls", "growth", "growth_freethreaded")
    assert images == [f"tests/pictures/{name}.svg" for name in ("request_path", *all_measured)]
    for measured in all_measured:
        ET.parse(pictures / f"{measured}.svg")
    drawn = runpy.run_path(str(pictures / "request_path.py"))["draw"]()
    assert (pictures / "request_path.svg").read_text(encoding="utf-8") == drawn
    ET.fromstring(drawn)


# Commands


def test_the_commands_are_one_line_each():
    assert "\n" not in block_after("ci: demo")
    assert "\n" not in block_after("ci: tests")


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_the_commands_are_those_that_ci_runs():
    done = subprocess.run([TOP / ".ci/run", "--list"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [block_after("ci: tests"), block_after("ci: demo")]


def test_powershell_runs_the_same_commands():
    (first, *_) = blocks("powershell")
    for name, line in zip(("demo", "tests"), first.splitlines(), strict=True):
        command = block_after(f"ci: {name}").replace("python3 -m venv", "py -3 -m venv").replace(" &&", ";")
        assert line == command.replace(".venv/bin/python", r".venv\Scripts\python")


# Completeness


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_docutils_finds_nothing_to_say(name):
    assert parse((TOP / name).read_text(encoding="utf-8"))


def test_every_public_name_is_mentioned():
    missing = [name for name in kiwoom_auth_plugin.__all__ if name not in README and not name.startswith("__")]
    assert missing == []


def test_the_tests_of_the_promises_are_there():
    table = README.partition("these are two of each.")[2].partition("What is taken for")[0]
    named = re.findall(r"``(test_\w+\.py)``: (.+?),?\n", table)
    assert len(named) == 2 * 9
    for module, words in named:
        source = (TOP / "tests" / module).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def test_{words.replace(' ', '_')}\(", source, re.MULTILINE), words


def test_the_arguments_are_all_there_in_their_order():
    parameters = list(inspect.signature(KiwoomBearerAuth).parameters)
    table = next(
        node for node in parse(README).findall(docutils.nodes.table) if node.astext().strip().startswith("argument")
    )
    rows = [[cell.astext() for cell in row] for row in table.findall(docutils.nodes.row)][1:]
    assert [row[0] for row in rows] == parameters
    signature = f"KiwoomBearerAuth({', '.join(parameters[:2])}, *, {', '.join(parameters[2:])})"
    assert signature in README
    for name, shown, _ in rows[2:]:
        default = inspect.signature(KiwoomBearerAuth).parameters[name].default
        assert getattr(kiwoom_auth_plugin, shown, shown) in {default, str(default)}


def test_the_changelog_ends_with_this_version():
    changelog = (TOP / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert re.search(r"^(\d+\.\d+\.\d+)", changelog, re.MULTILINE)[1] == kiwoom_auth_plugin.__version__
