"""Mutation testing: breaks the package in a thousand small ways and sees whether the tests notice (tox -e mutants).

    python tests/mutation/run.py [--children N] [MODULE[:FUNCTION,...] ...]      such as _answer stores/_redis:load,save

For each module, or for all of them, mutmut works in a copy of the checkout, with those test files that are there to
judge the module: who breaks a module is to be told by its own tests, and the whole suite for each of thousands of
mutants would take weeks. Where functions are named (``*`` is anything) the others of the module are left whole.
A mutant that survives is a fault of the tests, or is listed in ``survivors.txt`` with the reason why it is none.

Fails where a mutant survives that is not listed, or where less than 95 % of all are killed.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PACKAGE = "kiwoom_auth_plugin"
LEAST = 95.0
"""Per cent of the mutants that have to be killed, listed survivors not counted as such."""

JUDGES = {
    "_ahead": "plugin_streams plugin_answers read_ahead",
    "_answer": "answer au10001 au10002 messages boundaries",
    "_arguments": "plugin_arguments messages store_argument",
    "_au10001": "au10001 messages boundaries",
    "_au10002": "au10002",
    "_backlog": "shared_store interrupts",
    "_cache": "plugin_cache slot interrupts",
    "_clock": "clock failure",
    "_codes": "answer refusal boundaries",
    "_cutoff": "cutoff",
    "_event": "event",
    "_exchange": "exchange failure rest rest_scopes plugin_client plugin keys clock au10002 overdue reentry "
    "refresh shared_store",
    "_flight": "overdue interrupts one_issue rest locks reentry flow_by_hand",
    "_flights": "overdue reentry interrupts log plugin_cache one_issue refresh locks failure fork refusal_storm",
    "_httpx_flow": "flow_by_hand reused_requests plugin plugin_repeat plugin_bodies plugin_answers plugin_hosts "
    "leaving refresh read_ahead",
    "_interrupts": "interrupts",
    "_issuer": "issuer plugin_client failure cutoff",
    "_json": "answer au10001 refusal",
    "_keys": "keys au10001 seal messages boundaries interrupts",
    "_locks": "locks fork",
    "_log": "log events interrupts",
    "_origin": "origin plugin_hosts messages boundaries hostile",
    "_peek": "plugin_streams plugin_answers read_ahead",
    "_place": "place log events shared_store hostile_stores",
    "_plugin": "plugin plugin_token plugin_arguments plugin_copies plugin_hosts plugin_cache plugin_client keys "
    "messages log refresh reentry shared_store refusal_hook reused_requests",
    "_reasons": "reasons plugin_client",
    "_recent": "recent",
    "_refresh": "refresh refresh_schedule",
    "_refusal": "refusal boundaries",
    "_refusal_hook": "refusal_hook reused_requests plugin plugin_repeat plugin_bodies plugin_answers plugin_redirects "
    "plugin_streams read_ahead refusal_storm",
    "_refused": "refusals refusal_storm",
    "_rest": "rest rest_scopes",
    "_route": "rest rest_scopes",
    "_seal": "seal boundaries",
    "_shared": "log events shared_store hostile_stores",
    "_source": "source plugin_token plugin_cache reentry log rest refresh overdue interrupts one_issue refusal_storm "
    "shared_store",
    "_sources": "sources overdue plugin_token plugin_copies plugin_cache keys fork locks one_issue",
    "_threads": "threads interrupts",
    "_token": "au10001 seal boundaries plugin_hosts reused_requests",
    "cli/__init__": "cli cli_demo",
    "cli/_account": "cli",
    "cli/_demo": "cli_demo",
    "cli/_doctor": "cli",
    "cli/_emulator": "cli",
    "cli/_korean": "cli",
    "cli/_revoke": "cli",
    "cli/_status": "cli",
    "cli/_token": "cli",
    "errors": "errors",
    "stores/_file": "file_store",
    "stores/_folder": "file_store hostile_stores",
    "stores/_protocol": "messages store_argument redis_store store_lock",
    "stores/_redis": "redis_store",
}
"""Module: the test files that judge it (test_NAME.py)."""

CONFIGURATION = """
[mutmut]
source_paths={package}
only_mutate={package}/{module}.py
also_copy=
    README.rst
pytest_add_cli_args=
    -p
    judging
    -p
    no:cacheprovider
    --assert=plain
pytest_add_cli_args_test_selection=
    {tests}
process_isolation=forkserver
timeout_constant=2.0
timeout_multiplier=5.0
use_git_change_detection=false
"""

STATUSES = {0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests", -11: "killed", -24: "time-out"}
STATUSES[255] = "killed"
"""What pytest's exit codes, and mutmut's own, mean. -11 has overrun the interpreter's stack; at 255 pytest has raised
something, since after the last test a thing was found that was left open. Others are no verdict: pytest did not get as
far as the tests, which ``mutmut results`` takes for a time-out, and its badge for a kill."""
KILLED = {"killed", "time-out"}
COPIED = ["LICENSE", "README.rst", "CHANGELOG.rst", "pyproject.toml", "setup.cfg", "tests", PACKAGE]


class Change(NamedTuple):
    """A mutant, told so that it is known again when others come and go around it."""

    module: str
    function: str
    lines: tuple[str, ...]

    @property
    def is_of_types_only(self) -> bool:
        """Whether all that differs is what a ``cast`` tells the type checkers: such a mutant is none."""
        return len({re.sub(r'\bcast\((None|"[^"]*"), ', "cast(", line[1:]) for line in self.lines}) == 1

    def __str__(self) -> str:
        return "\n".join([f"{self.module} {self.function}", *self.lines])


@dataclass
class Score:
    """What became of a module's mutants."""

    statuses: Counter[str]
    survivors: list[tuple[str, Change]]

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    @property
    def killed(self) -> int:
        return sum(self.statuses[status] for status in KILLED)


def accepted() -> dict[Change, str]:
    """The listed survivors, each with its reason."""
    listed: dict[Change, str] = {}
    text = (HERE / "survivors.txt").read_text("utf-8")
    for block in filter(None, re.split(r"\n{2,}", re.sub(r"(?m)^#.*\n", "", text).strip())):
        head, *rest = block.splitlines()
        lines = [line for line in rest if line.startswith(("-", "+"))]
        reason = " ".join(line.strip() for line in rest if line.startswith(" ")).strip()
        if len(head.split()) != 2 or not lines or not reason:
            sys.exit(f"survivors.txt: module, function, changed lines and a reason are needed, not\n{block}")
        change = Change(*head.split(), tuple(lines))
        code = lines_of(change.module).get(change.function, set())
        if gone := {line[2:] for line in lines if line.startswith("-")} - code:
            sys.exit(f"survivors.txt: {change.module} {change.function} has no line {gone.pop()}")
        listed[change] = reason
    return listed


@cache
def lines_of(module: str) -> dict[str, set[str]]:
    """The lines of each of its functions, and of each method as CLASS.METHOD."""
    text = (CHECKOUT / PACKAGE / f"{module}.py").read_text("utf-8")
    lines = [line.strip() for line in text.splitlines()]
    found: dict[str, set[str]] = {}
    for node in ast.parse(text).body:
        of_class = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for function in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found[of_class + function.name] = set(lines[function.lineno - 1 : function.end_lineno])
    return found


def judge(module: str, functions: list[str], children: int, work: Path) -> Score:
    """Let mutmut break some functions of a module."""
    tree = work / module.replace("/", ".")
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "mutants").mkdir(parents=True)  # on the path from the start: Python remembers which folders do not exist
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(source, tree / name)
    tests = "\n    ".join(f"tests/test_{name}.py" for name in JUDGES[module].split())
    with (tree / "setup.cfg").open("a") as file:
        file.write(CONFIGURATION.format(package=PACKAGE, module=module, tests=tests))
    wanted = [f"{dotted(module)}.x*{function}__mutmut_*" for function in functions]
    done = mutmut(tree, "run", "--max-children", str(children), *wanted)
    (tree / "mutmut.log").write_text(done)
    results = tree / "mutants" / PACKAGE / f"{module}.py.meta"
    exits = json.loads(results.read_text())["exit_code_by_key"] if results.exists() else {}
    exits = {name: code for name, code in exits.items() if any(fnmatchcase(name, one) for one in wanted)}
    if not exits or not set(exits.values()) <= set(STATUSES):
        said = re.sub(r"[⠀-⣿] [\w ]+\n", "", done)
        sys.exit(f"{module}: mutmut did not get through, exit codes are {set(exits.values())}:\n{said[-3000:]}")
    statuses, survivors = Counter(), []
    for name, code in exits.items():
        if STATUSES[code] not in KILLED:
            change = change_of(module, name, mutmut(tree, "show", name))
            if change.is_of_types_only:
                continue
            survivors.append((name, change))
        statuses[STATUSES[code]] += 1
    return Score(statuses, survivors)


def dotted(module: str) -> str:
    """Its name in an import."""
    return f"{PACKAGE}.{module.replace('/', '.')}".removesuffix(".__init__")


def mutmut(tree: Path, *arguments: str) -> str:
    """The output of a command of mutmut's. Whatever it starts finds the broken package, and no other."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree / "mutants"), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PATIENCE": "20",  # seconds that tests wait for what does not come: many a mutant hangs
    }
    environment.pop("PYTHONSAFEPATH", None)
    command = [Path(sys.executable).with_name("mutmut"), *arguments]
    done = subprocess.run(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def change_of(module: str, name: str, shown: str) -> Change:
    """The mutant with this name, from what ``mutmut show`` says of it."""
    function = name.removeprefix(f"{dotted(module)}.").rpartition("__mutmut_")[0]
    function = function.removeprefix("x_") if function.startswith("x_") else function[2:].replace("ǁ", ".")
    lines = [line for line in shown.splitlines() if re.match(r"[-+](?![-+]{2} )", line)]
    return Change(module, function, tuple(f"{line[0]} {line[1:].strip()}" for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("modules", nargs="*", metavar="MODULE[:FUNCTION,...]", help=f"of {', '.join(JUDGES)}")
    parser.add_argument("--children", type=int, default=os.cpu_count(), help="mutants that are judged at a time")
    parser.add_argument("--work", type=Path, default=None, help="where mutmut's copies stay; default: nowhere")
    options = parser.parse_args()
    named = [name.partition(":") for name in options.modules or JUDGES]
    modules = {module: (functions or "*").split(",") for module, _, functions in named}
    if unknown := set(modules) - set(JUDGES):
        parser.error(f"no test file is there to judge {', '.join(unknown)}")
    listed = accepted()
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        work = options.work or Path(temporary)
        scores = {}
        print(f"{'module':20}{'mutants':>8}{'killed':>8}{'time-out':>9}{'listed':>8}{'unlisted':>9}{'score':>8}")
        for module, functions in modules.items():
            score = scores[module] = judge(module, functions, options.children, work)
            show(module, score, listed)
    total = Score(
        sum((score.statuses for score in scores.values()), Counter()),
        [survivor for score in scores.values() for survivor in score.survivors],
    )
    show("all", total, listed)
    left = Counter(change for _name, change in total.survivors)
    for change in listed:
        judged = any(fnmatchcase(change.function, f"*{function}") for function in modules.get(change.module, ()))
        if judged and change not in left:
            print(f"\nlisted, but did not survive:\n{change}")
    unlisted = [(name, change) for name, change in total.survivors if change not in listed]
    for name, change in unlisted:
        print(f"\nsurvived: {name}\n{change}")
    if unlisted:
        sys.exit(f"\n{len(unlisted)} mutants survived that are not listed")
    if total.killed < total.total * LEAST / 100:
        sys.exit(f"\nless than {LEAST:g} % of the mutants were killed")


def show(name: str, score: Score, listed: dict[Change, str]) -> None:
    known = sum(change in listed for _name, change in score.survivors)
    share = 100 * score.killed / score.total
    print(
        f"{name:20}{score.total:8}{score.statuses['killed']:8}{score.statuses['time-out']:9}{known:8}"
        f"{len(score.survivors) - known:9}{share:7.1f}%",
        flush=True,
    )


if __name__ == "__main__":
    main()
