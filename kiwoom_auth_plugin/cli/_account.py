"""The account that a command works for: its key pair, its host, and the store where its token is kept."""

import argparse
import os
import sys
from datetime import datetime
from typing import Any, Self

from kiwoom_auth_plugin import REAL_HOST, AuthEvent, KiwoomBearerAuth
from kiwoom_auth_plugin._keys import masked
from kiwoom_auth_plugin.stores import FileStore

KEYS = """\
The key pair comes from the environment variables KIWOOM_APPKEY and KIWOOM_SECRETKEY, or from the two files that the
developers' portal hands out; never from an argument, which everybody on the machine could see. The token is kept for
the next command, and for programs with a FileStore, in the user's cache directory (extra [file]).
"""


class Misuse(Exception):
    """The command cannot work as it was called."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be told whose account it works for."""
    account = parser.add_argument_group("account")
    account.add_argument("--appkey-file", metavar="FILE", help="the portal's file with the appkey")
    account.add_argument("--secretkey-file", metavar="FILE", help="the portal's file with the secretkey")
    account.add_argument(
        "--host",
        help="such as https://mockapi.kiwoom.com; otherwise KIWOOM_HOST, or else https://api.kiwoom.com",
    )


class Account(KiwoomBearerAuth):
    """An auth object whose token is kept for the next command, where the libraries for that are installed."""

    events: list[str]
    """What has happened to the token, by name."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """The one that arguments and environment name.

        Raises:
            Misuse: a key or the host is missing or malformed.
        """
        events: list[str] = []

        def note(event: AuthEvent) -> None:
            events.append(event.name)

        options: dict[str, Any] = {"store": _store(), "on_event": note}
        if arguments.host is not None:
            options["host"] = arguments.host
        appkey_file, secretkey_file = arguments.appkey_file, arguments.secretkey_file
        if (appkey_file is None) != (secretkey_file is None):
            raise Misuse("--appkey-file and --secretkey-file go together")
        try:
            if appkey_file is None:
                account = cls.from_env(**options)
            else:
                options.setdefault("host", os.environ.get("KIWOOM_HOST") or REAL_HOST)
                account = cls.from_files(appkey_file, secretkey_file, **options)
        except (ValueError, OSError) as error:
            raise Misuse(str(error)) from None
        account.events = events
        return account

    @property
    def name(self) -> str:
        """The appkey, masked."""
        return masked(self._appkey)

    @property
    def where(self) -> str | None:
        """The directory where the token is kept; None where it is not."""
        return str(self._store.directory) if isinstance(self._store, FileStore) else None

    def kept_until(self) -> datetime | None:
        """Until when the kept token is used; None without one. Never issues."""
        token = self._by_requests.stored()
        return None if token is None else self._clock.shown(token.deadline)


def _store() -> FileStore | None:
    try:
        return FileStore()
    except ImportError as missing:
        print(f"kiwoom-auth: the token is not kept for the next command: {missing}", file=sys.stderr)
        return None
