"""The arguments that are objects of the user's: what a cache and a store have to have, and what they need."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._place import LONGEST_CHAIN
from kiwoom_auth_plugin.stores._protocol import EXTRAS

for library in ("cryptography", "filelock"):
    pytest.importorskip(library)
ROOT = Path(__file__).parents[1]
METHODS = {"load", "save", "delete", "lock"}


def made(methods, **attributes):
    """An object with these methods and attributes, and no others."""

    def method(self, *arguments): ...

    return type("Made", (), dict.fromkeys(methods, method) | attributes)()


def auth_with(**arguments):
    return KiwoomBearerAuth("appkey", "secretkey", **arguments)


def test_a_store_needs_nothing_but_its_four_methods():
    auth_with(store=made(METHODS))
    auth_with(store=made(METHODS, max_delay=5, fallback=made(METHODS)))


@pytest.mark.parametrize("missing", sorted(METHODS))
def test_each_of_a_stores_methods_is_needed(missing):
    with pytest.raises(TypeError, match=r"^store must have the methods of a TokenStore: load, save, delete and lock$"):
        auth_with(store=made(METHODS - {missing}))


@pytest.mark.parametrize("missing", ["get", "__setitem__", "__delitem__"])
def test_each_of_a_mappings_methods_is_needed(missing):
    methods = {"get", "__setitem__", "__delitem__"}
    auth_with(cache=made(methods))
    with pytest.raises(TypeError, match=r"^cache must be a mutable mapping"):
        auth_with(cache=made(methods - {missing}))


def test_the_last_of_a_chain_is_looked_at_too():
    store = made(METHODS, max_delay=0)
    for _ in range(LONGEST_CHAIN - 1):
        store = made(METHODS, fallback=store)
    with pytest.raises(ValueError, match="max_delay must be more than 0"):
        auth_with(store=store)


def test_what_is_to_be_installed_is_what_the_extras_take():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {extra: project["optional-dependencies"][extra] for extra in EXTRAS} == EXTRAS
    assert "websockets>=15" in project["optional-dependencies"]["testing"]
    readme = (ROOT / "README.rst").read_text("utf-8")
    assert set(re.findall(r"websockets>=[0-9]+", readme)) == {"websockets>=15"}


@pytest.mark.parametrize("missing", ["cryptography", "cryptography.fernet", "cryptography.hazmat.primitives.kdf.hkdf"])
def test_what_a_seal_needs_is_imported_at_construction(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError) as raised:
        auth_with(store=made(METHODS))
    assert raised.value.name == missing
    assert str(raised.value) == (
        f"a store needs the package {missing}, which cannot be imported (ModuleNotFoundError); "
        'install it: python -m pip install "cryptography>=44.0.1" "filelock>=3.30" "platformdirs>=4"'
    )
