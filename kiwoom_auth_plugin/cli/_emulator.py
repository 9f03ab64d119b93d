"""Serve a local Kiwoom until interrupted: for programs in any language, without keys or network."""

import argparse
import os
import random
import time

from kiwoom_auth_plugin.testing import Call, KiwoomEmulator, Packet

from ._account import Misuse, tell

SUMMARY = "serve a local Kiwoom until interrupted"
EXAMPLES = """\
examples:
  kiwoom-auth emulator --port 8080 --reissue replace
  kiwoom-auth emulator > kiwoom.env         then, in another shell: . ./kiwoom.env
  kiwoom-auth emulator > kiwoom.ps1         then, in another PowerShell: . .\\kiwoom.ps1
"""

_SHELLS = {"sh": "export {}={}", "powershell": '$env:{} = "{}"', "cmd": "set {}={}"}
_OWN_SHELL = "powershell" if os.name == "nt" else "sh"
_PING_EVERY = 10
"""Trades, of which there is one a second, from one PING to the next."""


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
    parser.add_argument(
        "--shell", choices=list(_SHELLS), default=_OWN_SHELL, help=f"for which shell to print ({_OWN_SHELL})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print how to reach it, as lines that a shell understands, and serve.

    What comes is a line each on standard error. Those who have registered by WebSocket get a trade each second.
    """
    if not 0 <= arguments.port < 1 << 16:
        raise Misuse("--port must be 0 to 65535")
    if arguments.issue_limit is not None and arguments.issue_limit < 1:
        raise Misuse("--issue-limit must be 1 or more")
    with KiwoomEmulator(
        port=arguments.port,
        reissue=arguments.reissue,
        issue_limit=arguments.issue_limit,
        on_call=_tell_call,
        on_packet=_tell_packet,
    ) as kiwoom:
        account = {
            "KIWOOM_HOST": kiwoom.url,
            "KIWOOM_APPKEY": kiwoom.appkey,
            "KIWOOM_SECRETKEY": kiwoom.secretkey,
        }
        try:
            account["KIWOOM_WEBSOCKET"] = kiwoom.websocket.url
        except ImportError as missing:
            tell(f"no real-time API: {missing}")
        tell(f"a local Kiwoom serves {kiwoom.url} until interrupted (Ctrl-C)")
        for name, value in account.items():
            print(_SHELLS[arguments.shell].format(name, value), flush=True)
        trades = 0
        while True:
            time.sleep(1.0)
            for item, kind in kiwoom.websocket.registrations:
                price = random.randrange(70_000, 73_000, 100)  # noqa: S311 - a price
                kiwoom.websocket.push(item, kind, {"10": f"+{price}", "15": "+1"})
            trades += 1
            if trades % _PING_EVERY == 1:
                kiwoom.websocket.ping()


def _tell_call(call: Call) -> None:
    said = "" if call.code is None else f" [{call.code}]"
    wrong = f": {', '.join(call.violations)}" if call.violations else ""
    tell(f"{call.number} {call.api or call.path} HTTP {call.status}{said}{wrong}")


def _tell_packet(packet: Packet) -> None:
    said = "" if packet.return_code is None else f" {packet.return_code}"
    tell(f"WebSocket {packet.connection} {packet.trnm or 'what has no trnm'}{said}")
