"""A local Kiwoom REST server for tests.

``KiwoomEmulator`` works without pytest. For the fixture ``kiwoom_emulator``, a started one for each test, put
``pytest_plugins = ["kiwoom_auth_plugin.testing"]`` into ``conftest.py``.

PYTEST_DONT_REWRITE, so that pytest does not warn where ``conftest.py`` imports this package as well.
"""

import sys

from . import recorded
from ._answers import Answer
from ._calls import Call
from ._clock import ServerClock
from ._emulator import KiwoomEmulator
from ._endpoint import WebSocketEndpoint
from ._gate import Gate
from ._realtime import Packet

if "pytest" in sys.modules:
    from ._fixture import kiwoom_emulator as kiwoom_emulator

__all__ = ["Answer", "Call", "Gate", "KiwoomEmulator", "Packet", "ServerClock", "WebSocketEndpoint", "recorded"]
