"""Find out what stands between this machine and the first call: keys, network, certificates, clock, codes, store."""

import argparse
import hashlib
import io
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import requests.utils

from kiwoom_auth_plugin import KiwoomAuthError
from kiwoom_auth_plugin._answer import quoted
from kiwoom_auth_plugin._codes import OFFICIAL_CODES, numeric, official_code
from kiwoom_auth_plugin._cutoff import Cutoff, WatchedAdapter
from kiwoom_auth_plugin._issuer import content_by_requests, without_location
from kiwoom_auth_plugin._json import json_object
from kiwoom_auth_plugin._place import Work, words
from kiwoom_auth_plugin._reasons import cause, reason
from kiwoom_auth_plugin._threads import NoThread
from kiwoom_auth_plugin.stores import FileStore

from . import _korean
from ._account import Account, Misuse, one_line

SUMMARY = "find out what is wrong, and what to do"
EXAMPLES = """\
examples:
  kiwoom-auth doctor                look at everything; a token is issued if none is kept
  kiwoom-auth doctor --no-issue     ... but issue none
  kiwoom-auth doctor 8005 8030      what codes of Kiwoom's mean
"""

_TIMEOUT = 10.0
_KINDS = {"application/json", "text/html", "text/plain"}
"""What answers usually are; another Content-Type may be anything."""
_SKEW = 60.0
"""Seconds that the machine's clock may be off."""
_KEY = hashlib.sha256(b"kiwoom-auth doctor").hexdigest()
"""Where it tries the store: always the same place, since each leaves the file of its lock behind."""
_CODE = re.compile(
    r"""^\s*([0-9]{4,6})\s*$|[(\[]([0-9]{4,6})[\]),:]|code['"]?(?:\s*[:=]\s*['"]?|\s)([0-9]{4,6})\b""",
    re.ASCII | re.IGNORECASE,
)
"""A code by itself, or in what Kiwoom says; other digits may be a key's."""
_PROXY_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_NO_PROXY = "none"
_OF_THE_WEBSOCKET = {805004: 8005}
"""What it calls codes that have another number elsewhere."""


class Finding(NamedTuple):
    """What one check has found."""

    check: str
    ok: bool | None
    """None: nothing was looked at, only explained."""
    words: str
    korean: str = ""
    """What to do, in Korean, where something is wrong."""


def _fine(check: str, words: str) -> Finding:
    return Finding(check, ok=True, words=words)


def _wrong(check: str, words: str, korean: str = "") -> Finding:
    return Finding(check, ok=False, words=words, korean=korean)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let it explain codes, leave out the issue, and speak to machines."""
    parser.add_argument("codes", metavar="CODE", type=_code, nargs="*", help="only explain these codes of Kiwoom's")
    parser.add_argument("--no-issue", action="store_true", help="issue no token, and make no call")
    parser.add_argument("--json", action="store_true", help="a JSON object a line instead of lines for people")


def _code(text: str) -> int:
    """The code in what was copied: ``8005``, or a message with ``[8005:`` in it."""
    if found := _CODE.search(text):
        return int(found[1] or found[2] or found[3])
    raise argparse.ArgumentTypeError("a code of Kiwoom's has four to six digits, such as 8005")


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each check; 0 if all is well."""
    show = _show_json if arguments.json else _show
    if arguments.codes:
        told = [explained(code) for code in arguments.codes]
        for finding in told:
            show(finding)
        return 0 if all(finding.ok is None for finding in told) else 2
    try:
        account = Account.of(arguments)
    except Misuse as misuse:
        show(_wrong("keys", str(misuse), misuse.korean))
        return 2
    well = True
    for finding in findings(account, issue=not arguments.no_issue):
        show(finding)
        well = well and finding.ok is not False
    return 0 if well else 1


def explained(code: int) -> Finding:
    """What a code means, and what to do about it."""
    official = OFFICIAL_CODES.get(_OF_THE_WEBSOCKET.get(code, code))
    if official is None:
        return _wrong(str(code), "none of Kiwoom's codes for authentication")
    return Finding(
        str(code),
        ok=None,
        words=f"{official.message}. {official.advice}",
        korean=_korean.of_code(_OF_THE_WEBSOCKET.get(code, code)),
    )


def findings(account: Account, *, issue: bool) -> Iterator[Finding]:
    """Check after check; where one fails, those that need what it looked at are left out."""
    yield _fine("keys", f"appkey {account.name}, both are well-formed")
    proxy = _proxy(account)
    yield proxy
    if not proxy.ok:
        return
    by_proxy = proxy.words != _NO_PROXY
    if not by_proxy:
        name = _name(account)
        yield name
        if not name.ok:
            return
    answer = _reached(account, by_proxy=by_proxy)
    if isinstance(answer, Finding):
        yield answer
        return
    yield _fine("server", f"{account.host} answers")
    yield _clock(answer)
    kept = _kept(account)
    yield kept
    if not issue or not kept.ok:
        yield _unissued(account, "with --no-issue" if kept.ok else "until the store works")
        return
    token = _issued(account)
    yield token
    if token.ok:
        yield _called(account)


def _proxy(account: Account) -> Finding:
    """The proxy that the environment puts in between, without its login."""
    if account.host.startswith("http:"):
        return _fine("proxy", _NO_PROXY)  # this machine itself is reached directly
    found = requests.utils.select_proxy(account.host, requests.utils.get_environ_proxies(account.host))
    if not found:
        return _fine("proxy", _NO_PROXY)
    with suppress(ValueError, KeyError):
        address = urlsplit(found if "://" in found else f"http://{found}")
        usual = _PROXY_PORTS[address.scheme]
        host, port = address.hostname or "", address.port or usual
        # Where an @ comes after what was taken for the address, that was a piece of the password.
        if re.fullmatch(r"[\w.:-]+", host, re.ASCII) and "@" not in address.path + address.query + address.fragment:
            host = f"[{host}]" if ":" in host else host
            return _fine("proxy", f"{address.scheme}://{host}:{port}")
    words = "HTTPS_PROXY or ALL_PROXY is not the address of a proxy, such as http://proxy.example:8080"
    return _wrong("proxy", words, _korean.PROXY_ADDRESS)


def _name(account: Account) -> Finding:
    name = urlsplit(account.host).hostname
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return _wrong("name", f"{name} could not be resolved ({error}); check the network and DNS", _korean.NAME)
    numbers = dict.fromkeys(str(entry[4][0]) for entry in found)
    return _fine("name", f"{name} is {', '.join(numbers)}")


def _reached(account: Account, *, by_proxy: bool) -> requests.Response | Finding:
    """The answer to a GET that asks for nothing: only that there is one matters, and its Date."""
    try:
        with requests.Session() as session, Cutoff(_TIMEOUT) as cutoff:
            session.trust_env = account.host.startswith("https:")
            session.mount(account.host, cutoff.adapter())
            hooks = {"response": without_location}
            answer = session.get(f"{account.host}/", timeout=_TIMEOUT, allow_redirects=False, stream=True, hooks=hooks)
            answer.close()  # its head is enough
            return answer
    except (OSError, ValueError) as error:
        korean = _korean.of_cause(cause(error), by_proxy=by_proxy)
        return _wrong("server", f"{account.host}: {reason(error, account.host)}", korean)


def _clock(answer: requests.Response) -> Finding:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return _fine("clock", "the server does not tell the time")
    ahead = time.time() - theirs
    if abs(ahead) <= _SKEW:
        return _fine("clock", f"within {_SKEW:.0f} seconds of the server's")
    words = f"{abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} the server's; set it, by NTP if possible"
    return _wrong("clock", words, _korean.CLOCK)


def _kept(account: Account) -> Finding:
    """Whether the store works: a value is saved, read, and deleted again."""
    if account.where is None:
        return _fine("store", "none: each process issues a token of its own, since the extra [file] is not installed")
    why = _trouble_of(FileStore(account.where))
    if why is not None:
        return _wrong("store", f"{account.where}: {why}", _korean.STORE)
    account.kept_until()
    if account.trouble is not None:
        return _wrong("store", account.trouble, _korean.STORE)
    return _fine("store", f"{account.where} works and is private")


def _trouble_of(store: FileStore) -> str | None:
    work = Work(partial(_keeps, store))
    try:
        work.start()
    except NoThread as refusal:
        return f"there was no thread for it: {refusal}"
    if not work.wait(_TIMEOUT):
        return f"it did not answer within {_TIMEOUT:g} seconds; see whether its file system hangs"
    if work.error is not None:
        return words(work.error)
    return None if work.answer else "what was saved is not there"


def _keeps(store: FileStore) -> bool:
    value = secrets.token_bytes(16)
    with store.lock(_KEY, 2.0):
        store.save(_KEY, value, 60.0)
        intact = store.load(_KEY) == value
        store.delete(_KEY)
    return intact


def _issued(account: Account) -> Finding:
    until = account.kept_until()
    if until is not None:
        return _fine("token", f"one is kept until {until:%Y-%m-%d %H:%M:%S} KST; none was issued")
    try:
        account.get_token()
    except KiwoomAuthError as error:
        return _wrong("token", str(error), _korean.of_error(error))
    return _fine("token", f"one was issued; it expires at {account.expires_at:%Y-%m-%d %H:%M:%S} KST")


def _unissued(account: Account, when: str) -> Finding:
    until = account.kept_until()
    none = "none is kept" if account.trouble is None else "nobody knows whether one is kept"
    kept = none if until is None else f"one is kept until {until:%Y-%m-%d %H:%M:%S} KST"
    return Finding("token", ok=None, words=f"{kept}; {when}, Kiwoom is asked neither for one nor with it")


class _Bounded(WatchedAdapter):
    """Reads answers up to a limit before anybody else does."""

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        answer = super().send(*arguments, **options)
        answer.raw = io.BytesIO(content_by_requests(answer))
        return answer


def _called(account: Account) -> Finding:
    """One harmless call, the price of a stock: whether the token serves."""
    try:
        with requests.Session() as session, Cutoff(_TIMEOUT) as cutoff:
            session.trust_env = account.host.startswith("https:")
            session.mount(account.host, _Bounded(cutoff))
            answer = session.post(
                f"{account.host}/api/dostk/stkinfo",
                headers={"api-id": "ka10001", "Accept-Encoding": "identity"},
                json={"stk_cd": "005930"},
                auth=account,
                timeout=_TIMEOUT,
                allow_redirects=False,
                hooks={"response": without_location},
            )
    except KiwoomAuthError as error:
        return _wrong("call", str(error), _korean.of_error(error))
    except (OSError, ValueError) as error:
        words = f"ka10001 was not answered: {reason(error, account.host)}"
        return _wrong("call", words, _korean.of_cause(cause(error), by_proxy=False))
    return _judged(answer, replaced=any(event.name == "token.refused" for event in account.events))


def _judged(answer: requests.Response, *, replaced: bool) -> Finding:
    """What an answer to the call says of the token."""
    fields = json_object(answer.content) or {}
    code = official_code(fields.get("return_code"), fields.get("return_msg"))
    if code is None and answer.status_code == HTTPStatus.UNAUTHORIZED:
        code = 8005  # it is what a bare 401 says
    said = f"(HTTP {answer.status_code}): {quoted(fields.get('return_msg')) or 'without a word'}"
    if code in OFFICIAL_CODES:
        explanation = explained(code)
        return _wrong("call", f"ka10001 was refused {said}. {explanation.words}", explanation.korean)
    if not HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES or not fields:
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        kind = kind if kind in _KINDS else quoted(kind) or "no Content-Type"
        words = f"ka10001 was not answered as it should be: HTTP {answer.status_code}, {kind}"
        return _wrong("call", words, _korean.CALL)
    if numeric(fields.get("return_code", 0)) != 0 or code is not None:
        return _wrong("call", f"Kiwoom says no to ka10001 {said}", _korean.UNKNOWN)
    again = "; the kept token was refused on the way, and another one issued" if replaced else ""
    return _fine("call", f"ka10001 was answered{again}")


def _show(finding: Finding) -> None:
    mark = {True: "ok  ", False: "FAIL", None: "    "}[finding.ok]
    if finding.ok is not None and _takes_colours():
        mark = f"\x1b[{32 if finding.ok else 31}m{mark}\x1b[0m"
    print(f"{finding.check:7} {mark}  {one_line(finding.words)}")
    if finding.korean:
        print(f"{'':7} {'':4}  {finding.korean}")


def _takes_colours() -> bool:
    """Whether the output is a terminal that knows them, and nobody has said no (https://no-color.org)."""
    plain = os.name == "nt" or os.environ.get("TERM") == "dumb" or bool(os.environ.get("NO_COLOR"))
    return sys.stdout is not None and sys.stdout.isatty() and not plain  # pyright: ignore[reportUnnecessaryComparison] - it is None where it was closed


def _show_json(finding: Finding) -> None:
    print(json.dumps({**finding._asdict(), "words": one_line(finding.words)}, ensure_ascii=False))
