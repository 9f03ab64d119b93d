"""Revoke the kept token (AU10002): it dies for every program that uses it."""

import argparse

from ._account import Account, complain

SUMMARY = "revoke the kept token"
EXAMPLES = """\
examples:
  kiwoom-auth revoke
"""


def run(arguments: argparse.Namespace) -> int:
    """Revoke it and forget it; without one, say so."""
    account = Account.of(arguments)
    if account.kept_until() is not None:
        account.revoke()
    if any(event.name == "token.revoked" for event in account.events):
        print("revoked")
        return 0
    if account.trouble is not None:
        complain(f"error: nothing was revoked: {account.trouble}")
        return 1
    print("nothing to revoke: no token is kept")
    return 0
