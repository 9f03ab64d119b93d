"""The account that a command works for: its key pair, its host, and the store where its token is kept."""

import argparse
import os
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

from kiwoom_auth_plugin import REAL_HOST, AuthEvent, KiwoomBearerAuth
from kiwoom_auth_plugin._keys import masked
from kiwoom_auth_plugin._origin import Origin
from kiwoom_auth_plugin.stores import FileStore

from . import _korean

KEYS = """\
The key pair comes from the environment variables KIWOOM_APPKEY and KIWOOM_SECRETKEY, or from the two files that the
developers' portal hands out; never from an argument, which everybody on the machine could see. The token is kept for
the next command, and for programs with a FileStore, in the user's cache directory (extra [file]).
"""


class Misuse(Exception):
    """The command cannot work as it was called.

    Args:
        words: what is wrong.
        korean: what to do.
    """

    def __init__(self, words: str, korean: str = "") -> None:
        super().__init__(words)
        self.korean = korean


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

    events: list[AuthEvent]
    """What has happened to the token so far."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """The one that arguments and environment name.

        Raises:
            Misuse: a key or the host is missing or malformed.
        """
        events: list[AuthEvent] = []
        appkey_file, secretkey_file = arguments.appkey_file, arguments.secretkey_file
        if (appkey_file is None) != (secretkey_file is None):
            raise Misuse("--appkey-file and --secretkey-file go together", _korean.FILES)
        options: dict[str, Any] = {"host": _host(arguments.host), "store": _store(), "on_event": events.append}
        try:
            if appkey_file is None:
                account = cls.from_env(**options)
            else:
                account = cls.from_files(appkey_file, secretkey_file, **options)
        except OSError as error:
            raise Misuse(str(error), _korean.FILES) from None
        except ValueError as error:
            is_there = appkey_file is not None or {"KIWOOM_APPKEY", "KIWOOM_SECRETKEY"} <= os.environ.keys()
            raise Misuse(str(error), _korean.KEYS if is_there else _korean.NO_KEYS) from None
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

    @property
    def trouble(self) -> str | None:
        """What is wrong with the store, if anything came up: then there may be a token where none was found."""
        return next((event.message for event in self.events if event.name == "store.failed"), None)


def _host(argument: str | None) -> str:
    name = "the environment variable KIWOOM_HOST" if argument is None else "--host"
    value = os.environ.get("KIWOOM_HOST") if argument is None else argument
    try:
        return Origin.from_host_argument(value or REAL_HOST).url
    except ValueError as error:
        raise Misuse(f"{name}: {error}", _korean.HOST) from None


def _store() -> FileStore | None:
    try:
        return FileStore()
    except (ImportError, RuntimeError) as missing:  # a library, or a home directory
        complain(f"the token is not kept for the next command: {missing}")
        return None


def complain(words: str) -> None:
    """Tell it on standard error under the name of the program."""
    tell(f"kiwoom-auth: {words}")


def tell(line: str) -> None:
    """Write a line to standard error, wherever that has gone."""
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is where it was closed before
        try:
            print(one_line(line), file=sys.stderr)
        except (OSError, ValueError):
            silence(sys.stderr)


def one_line(text: str) -> str:
    """Without what a terminal would act upon."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def silence(stream: Any) -> None:
    """Nobody reads it: what is still to be flushed on the way out must go somewhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
