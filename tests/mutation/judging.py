"""How pytest judges a mutant: the same each time, the quick tests first, without a word more than is needed."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from kiwoom_auth_plugin import _issuer

# A mutant is dead or alive: by which smallest example does not matter, and chance must not decide.
settings.register_profile("mutants", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutants")
_issuer._KNOWN |= {"mutmut"}  # its trampolines stand between the package's own frames


_wanted: set[str] = set()


def pytest_configure(config):
    """mutmut names each test on the command line: hundreds, which pytest looks up one by one, file by file."""
    _wanted.update(argument for argument in config.args if "::" in argument)
    if _wanted:
        config.args[:] = sorted({name.partition("::")[0] for name in _wanted})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """mutmut names the tests in any order; most mutants are killed by many of them, and one is enough."""
    if _wanted:
        items[:] = [item for item in items if item.nodeid in _wanted]
        if len(items) != len(_wanted):
            pytest.exit("mutmut knows tests by other names", returncode=6)  # no verdict
    statistics = Path("mutmut-stats.json")
    if statistics.exists():
        durations = json.loads(statistics.read_text())["duration_by_test"]
        items.sort(key=lambda item: durations.get(item.nodeid, 0.0))


def pytest_unconfigure():
    """Where one process runs pytest twice, as mutmut's do, tests with escapes in their names have others then."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
