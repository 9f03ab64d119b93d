"""Serve a local Kiwoom until interrupted: for programs in any language, without keys or network."""

import argparse
import os
import sys
import time
from importlib.util import find_spec

from kiwoom_auth_plugin.testing import Call, KiwoomEmulator

from ._account import Misuse

SUMMARY = "serve a local Kiwoom until interrupted"
EXAMPLES = """\
examples:
  kiwoom-auth emulator --port 8080 --reissue replace
  kiwoom-auth emulator > kiwoom.env         then, in another shell: . ./kiwoom.env
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let it be told where to listen and how to behave."""
    parser.add_argument("--port", type=int, default=0, help="0, the default, picks a free one")
    parser.add_argument(
        "--reissue",
        choices=["same", "replace"],
        default="same",
        help="what AU10001 gives while a token is valid: the same one (default), or another that kills it",
    )
    parser.add_argument("--issue-limit", type=int, metavar="N", help="AU10001 calls that are admitted a second")


def _tell(call: Call) -> None:
    said = "" if call.code is None else f" [{call.code}]"
    wrong = f": {', '.join(call.violations)}" if call.violations else ""
    print(f"{call.number} {call.api or call.path} HTTP {call.status}{said}{wrong}", file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Print how to reach it, as lines that a shell understands, and serve; each call is a line on standard error."""
    if not 0 <= arguments.port < 1 << 16:
        raise Misuse("--port must be 0 to 65535")
    with KiwoomEmulator(
        port=arguments.port, reissue=arguments.reissue, issue_limit=arguments.issue_limit, on_call=_tell
    ) as kiwoom:
        word = "set" if os.name == "nt" else "export"
        account = {
            "KIWOOM_HOST": kiwoom.url,
            "KIWOOM_APPKEY": kiwoom.appkey,
            "KIWOOM_SECRETKEY": kiwoom.secretkey,
        }
        if find_spec("websockets"):
            account["KIWOOM_WEBSOCKET"] = kiwoom.websocket.url
        for name, value in account.items():
            print(f"{word} {name}={value}", flush=True)
        while True:
            time.sleep(3600.0)
