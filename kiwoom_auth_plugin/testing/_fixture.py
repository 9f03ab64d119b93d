"""The pytest fixture."""

from collections.abc import Iterator

import pytest

from ._emulator import KiwoomEmulator


@pytest.fixture
def kiwoom_emulator() -> Iterator[KiwoomEmulator]:
    """A local Kiwoom REST server, started; the test ends it."""
    with KiwoomEmulator() as emulator:
        yield emulator
