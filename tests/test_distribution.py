"""What is installed is what was built."""

import os
import shutil
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import kiwoom_auth_plugin

NAME = "kiwoom_auth_plugin"
CHECKOUT = Path(__file__).parents[1]

under_tox = pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="nothing is installed but under tox")


@under_tox
def test_the_installed_package_is_tested_and_not_the_checkout():
    site_packages = Path(sysconfig.get_path("purelib")).resolve()
    assert Path(kiwoom_auth_plugin.__file__).resolve().parent == site_packages / NAME


@under_tox
def test_every_file_of_the_package_is_installed_and_no_other():
    def files_below(package):
        return {path.relative_to(package) for path in package.rglob("*") if path.suffix in {".py", ".typed"}}

    assert files_below(Path(kiwoom_auth_plugin.__file__).parent) == files_below(CHECKOUT / NAME)


@under_tox
def test_nothing_is_installed_beside_the_package():
    tops = {file.parts[0] for file in metadata.files(NAME) or () if file.parts[0] != ".."}
    assert tops == {NAME, f"{NAME}-{kiwoom_auth_plugin.__version__}.dist-info"}


@under_tox
def test_the_console_script_is_installed():
    program = shutil.which("kiwoom-auth", path=sysconfig.get_path("scripts"))
    assert program
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.split() == ["kiwoom-auth", kiwoom_auth_plugin.__version__]


@under_tox
def test_an_installation_brings_three_packages_along_and_the_extras_bring_the_others():
    required = {
        line.partition(";")[0].partition(">")[0].strip(): line.partition("extra == ")[2].strip("'\" ")
        for line in metadata.requires(NAME) or ()
        if not line.startswith(NAME)
    }
    assert {name for name, extra in required.items() if not extra} == {"requests", "httpx", "cachetools"}
    assert set(required.values()) == {"", "file", "redis", "demo", "testing"}


@under_tox
def test_the_metadata_is_the_package_s():
    assert metadata.version(NAME) == kiwoom_auth_plugin.__version__
    assert metadata.metadata(NAME)["Requires-Python"] == ">=3.11"
