"""Print the access token, issued if there is none yet: for curl, or another program."""

import argparse

from ._account import Account

SUMMARY = "print the access token"
EXAMPLES = """\
examples:
  printf 'authorization: Bearer %s' "$(kiwoom-auth token)" | curl -H @- -H 'api-id: ka10001' ...
  kiwoom-auth token --host https://mockapi.kiwoom.com
"""


def run(arguments: argparse.Namespace) -> int:
    """Print it, and nothing else, to standard output."""
    print(Account.of(arguments).get_token())
    return 0
