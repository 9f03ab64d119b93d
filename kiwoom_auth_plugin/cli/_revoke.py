"""Revoke the kept token (AU10002): it dies for every program that uses it."""

import argparse

from ._account import Account

SUMMARY = "revoke the kept token"
EXAMPLES = """\
examples:
  kiwoom-auth revoke
"""


def run(arguments: argparse.Namespace) -> int:
    """Revoke it and forget it; without one, say so."""
    account = Account.of(arguments)
    if account.kept_until() is not None or account.trouble is not None:  # or else a lock would be left on the disk
        account.revoke()
    is_revoked = any(event.name == "token.revoked" for event in account.events)
    print("revoked" if is_revoked else "nothing to revoke: no token is kept")
    return 0
