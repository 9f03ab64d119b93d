"""The sample program of the type checkers runs, so that it cannot promise types that are none."""

import asyncio
import runpy
from pathlib import Path

import pytest

from kiwoom_auth_plugin import HostMismatch

for library in ("httpx2", "filelock", "redis"):
    pytest.importorskip(library)
PROGRAM = runpy.run_path(str(Path(__file__).parent / "typing" / "usage.py"))


@pytest.fixture
def keys(kiwoom_emulator, monkeypatch, tmp_path):
    for name, key in (("appkey", kiwoom_emulator.appkey), ("secretkey", kiwoom_emulator.secretkey)):
        monkeypatch.setenv(f"KIWOOM_{name.upper()}", key)
        (tmp_path / f"{name}.txt").write_text(key)
    return tmp_path


def test_every_way_to_make_an_auth_object_gives_one_that_works(kiwoom_emulator, keys):
    for auth in PROGRAM["construct"](kiwoom_emulator, keys):
        PROGRAM["use_members"](auth)
        asyncio.run(PROGRAM["ause_members"](auth))
    assert [repr(auth).split("host=")[1] for auth in PROGRAM["for_both_environments"](kiwoom_emulator)] == [
        "'https://api.kiwoom.com')",
        "'https://mockapi.kiwoom.com')",
    ]
    assert type(PROGRAM["subclass"](kiwoom_emulator)) is PROGRAM["SimulatedAuth"]


def test_every_store_is_one_for_an_auth_object(kiwoom_emulator, tmp_path):
    made = list(PROGRAM["share"](kiwoom_emulator, tmp_path / "tokens"))
    assert [type(auth._store).__name__ for auth in made] == [
        "FileStore",
        "FileStore",
        "OwnStore",
        "RedisStore",
        "RedisStore",
    ]
    assert made[1].get_token() == made[2].get_token() == kiwoom_emulator.token


def test_every_library_takes_it(kiwoom_emulator, auth):
    url = kiwoom_emulator.url + PROGRAM["TR"]
    assert PROGRAM["call"](auth, url) == [200] * 5
    assert asyncio.run(PROGRAM["acall"](auth, url)) == [200] * 2
    assert [call.return_code for call in kiwoom_emulator.calls("ka10001")] == [0] * 7


def test_errors_have_the_members_that_the_types_say(kiwoom_emulator, auth):
    assert PROGRAM["script"](kiwoom_emulator, auth) == [
        "code 8001",
        "code 8050",
        "status 200",
        "retryable: False",
        "status 200",
        "issued",
    ]


def test_errors_are_those_of_every_library():
    error = HostMismatch("no")
    assert PROGRAM["as_libraries_errors"](error) == (error, error, error)
