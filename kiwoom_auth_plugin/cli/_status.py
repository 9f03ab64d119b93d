"""Show whether a token is kept and until when it is used; none is issued."""

import argparse
import json

from ._account import Account

SUMMARY = "show whether a token is kept, and until when"
EXAMPLES = """\
examples:
  kiwoom-auth status
  kiwoom-auth status --json | jq -r .expires_at
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the output be for machines."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")


def run(arguments: argparse.Namespace) -> int:
    """Print host, masked appkey, expiry and where the token is kept."""
    account = Account.of(arguments)
    until = account.kept_until()
    if arguments.json:
        shown = {
            "host": account.host,
            "appkey": account.name,
            "expires_at": until and until.isoformat(timespec="seconds"),
            "directory": account.where,
            "error": account.trouble,
        }
        print(json.dumps(shown, ensure_ascii=False))
        return 0 if account.trouble is None else 1
    print(f"host       {account.host}")
    print(f"appkey     {account.name}")
    if account.trouble is not None:
        print(f"token      unknown: {account.trouble}")
    elif until is None:
        print("token      none is kept")
    else:
        here = until.astimezone()
        print(f"token      kept until {until:%Y-%m-%d %H:%M:%S} KST ({here:%Y-%m-%d %H:%M:%S %Z} here)")
    print(f"directory  {account.where or 'none'}")
    return 0 if account.trouble is None else 1
