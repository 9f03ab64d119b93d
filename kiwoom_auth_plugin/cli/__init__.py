"""The command line: ``kiwoom-auth COMMAND``, a module for each command.

Exit status: 0 done, 1 the server or the network said no, 2 wrong use, 130 interrupted. Errors go to standard
error, in one line.
"""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from kiwoom_auth_plugin import __version__

from . import _demo, _doctor, _emulator, _revoke, _status, _token
from ._account import KEYS, Misuse, add_options, complain, silence

__all__ = ["main"]

PROGRAM = "kiwoom-auth"
_EXAMPLES = """\
examples:
  kiwoom-auth demo              see it at work, without keys or network
  kiwoom-auth doctor            find out what is wrong
  kiwoom-auth COMMAND --help    more about a command
"""


_MISTAKES = ("unrecognized arguments: ", "invalid choice: ", "invalid int value: ", "ignored explicit argument ")


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviations and says in one line what is wrong; so do the parsers of its commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        for mistake in _MISTAKES:
            known, found, _ = message.partition(mistake)
            if found:
                message = f"{known}{mistake.rstrip(': ')}, not shown here: it may be a secret, which is never given so"
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console in cp949 or ASCII lacks characters
    try:
        arguments = _parser().parse_args(argv)
        status: int = arguments.run(arguments)
        with suppress(AttributeError):  # there is none: whoever called has closed it
            sys.stdout.flush()
    except SystemExit as leaving:  # argparse, after its help or its error
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Misuse as misuse:
        complain(f"error: {misuse}")
        return 2
    except BrokenPipeError:  # head and less leave early
        silence(sys.stdout)
        return 1
    except OSError as error:  # every KiwoomAuthError is one, too
        complain(f"error: {error}")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Authentication for the Kiwoom Securities REST API (키움증권).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, module: Any, *options: Callable[[argparse.ArgumentParser], None]) -> None:
        about = f"{module.__doc__}\n\n{KEYS}" if add_options in options else module.__doc__
        made = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=about,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for add in options:
            add(made)
        made.set_defaults(run=module.run)

    command("demo", _demo)
    command("token", _token, add_options)
    command("status", _status, add_options, _status.add_options)
    command("doctor", _doctor, add_options, _doctor.add_options)
    command("revoke", _revoke, add_options)
    command("emulator", _emulator, _emulator.add_options)
    return parser
