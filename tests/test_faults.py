"""Every fault, by every kind of client: an error that says what happened and what to do, and nothing else is harmed."""

import re
import socket
import ssl
import sys
from collections import defaultdict
from functools import partial

import anyio
import pytest

from kiwoom_auth_plugin import (
    AddressRejected,
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    KiwoomBearerAuth,
    TokenEndpointUnreachable,
)

from .clients import ASYNC, SYNC, TR, called, in_time
from .faults import (
    APPKEY,
    AUTHORITY,
    CHUNKED,
    DATE,
    FAULTS,
    HEAD,
    SECRETKEY,
    TOKEN,
    WRONG_TOKEN,
    FarSide,
    Fault,
    hears,
    resets,
    sends,
    yes,
)
from .leaks import shown_by

COLUMNS = {kind.name: (kind, False) for kind in SYNC + ASYNC} | {f"client={kind.name}": (kind, True) for kind in SYNC}
QUICK = {"requests", "httpx-asyncio", "httpx2-trio", "client=httpx"}
"""One of each kind; the other columns take minutes, and are for ``tox run -e faults``."""
ADVICE = re.compile(r"\b(check|look|try|call|use|register|let each|report|is there)\b", re.IGNORECASE)
LONGEST_MESSAGE = 600
SHORT_NAMES = {
    TokenEndpointUnreachable: "unreachable",
    InvalidTokenResponse: "invalid",
    CredentialsRejected: "credentials",
    AddressRejected: "address",
    IssueLimitExceeded: "limit",
    KiwoomAuthError: "error",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def trusting(bundle):
    return ssl.create_default_context(cafile=bundle)


@pytest.fixture(scope="module")
def table():
    """The errors that came: by fault, by column. ``pytest -s`` prints them."""
    rows = defaultdict(dict)
    yield rows
    widths = [max(map(len, FAULTS)), *(max(len(column), 11) for column in COLUMNS)]
    print("\n", _line(["", *COLUMNS], widths), sep="\n")
    for fault, errors in rows.items():
        print(_line([fault, *(SHORT_NAMES.get(type(errors.get(column)), "-") for column in COLUMNS)], widths))
        for message in dict.fromkeys(str(error).removeprefix(f"{error.host}: ") for error in errors.values()):
            print("   ", message[:LONGEST_MESSAGE])
    print(f"{len(rows)} faults;", ", ".join(f"{short}: {kind.__name__}" for kind, short in SHORT_NAMES.items()))


def _line(cells, widths):
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


@pytest.mark.parametrize(
    "column", [column if column in QUICK else pytest.param(column, marks=pytest.mark.stress) for column in COLUMNS]
)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_an_error_that_says_what_to_do_and_is_over_when_it_is_cured(
    fault, column, clock, monkeypatch, bundle, trusting, table
):
    kind, given = COLUMNS[column]
    if hindrance := hindrance_to(fault, given):
        pytest.skip(hindrance)
    with FarSide(fault) as far:
        environ(monkeypatch, far, {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, **fault.settings})
        with kind(verify=True if kind is SYNC[0] else trusting) as client:
            options = {"clock": clock, "cache": {}, "host": far.origin, "client": client.native if given else None}

            def call(auth):
                return in_time(lambda: client.post(far.origin + TR, auth=auth))

            auth = auth_for(**options, timeout=fault.timeout)
            with monkeypatch.context() as mistaken:
                environ(mistaken, far, fault.mistakes)
                with pytest.raises(KiwoomAuthError) as raised:
                    call(auth)
            table[fault.name][column] = raised.value
            check(raised.value, fault, far)
            assert auth.expires_at is None
            assert options["cache"] == {}

            cure(far, monkeypatch)
            patient = auth_for(**options)  # a good answer of a busy machine may take longer than a fault
            patient.invalidate("")
            assert called(call(patient))
            assert far.bearers == [f"Bearer {TOKEN}"]
            assert far.good_issues == 1


def hindrance_to(fault, given):
    if given and not fault.any_client:
        return "a client= of the user's has settings of its own, and no bound for a whole exchange"
    if fault.queue == 0 and sys.platform != "linux":
        return "elsewhere a queue that is full refuses"
    if ":" in fault.address:
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind((fault.address, 0))
            except OSError:
                return "this machine has no IPv6"
    return None


def auth_for(*, clock, **options):
    """Like ``make_auth``, without a local Kiwoom: what answers here is more often something else."""
    return type("KiwoomBearerAuth", (KiwoomBearerAuth,), {"_clock": clock})(APPKEY, SECRETKEY, **options)


def environ(monkeypatch, far, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(port=far.port))


def check(error, fault, far):
    assert (type(error), error.retryable, error.host) == (fault.error, fault.retryable, far.origin)
    message = str(error)
    assert message.startswith(f"{far.origin}: ")
    assert fault.says in message
    assert ADVICE.search(message), message
    assert message.isprintable()
    assert len(message) < LONGEST_MESSAGE
    for secret in (SECRETKEY, TOKEN, WRONG_TOKEN):
        assert secret not in shown_by(error)
    assert all(
        request.startswith(b"POST /oauth2/token ") for request in far.heard if request
    )  # no redirect was followed
    if far.origin.startswith("https:"):
        assert SECRETKEY.encode() not in b"".join(far.overheard)


def cure(far, monkeypatch):
    """What was wrong is put right; a name that nobody knew is from now on known, to this process."""
    far.cure()
    if ".invalid:" in far.origin:
        look_up = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda _name, *args, **options: look_up("127.0.0.1", *args, **options)
        )


# Cut at every byte

BODY = yes(token=TOKEN)
DATED = HEAD + DATE.encode() + b"\r\n"
HALVES = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, BODY[:9], len(BODY) - 9, BODY[9:])
FRAMINGS = {
    "by its length": DATED + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "by chunks": DATED + CHUNKED.removeprefix(HEAD) + HALVES,
    "by the connection": DATED + b"\r\n" + BODY,
}
ASK = {"requests": lambda auth: auth.get_token(), "httpx": lambda auth: anyio.run(auth.aget_token)}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
@pytest.mark.parametrize("end", [(), (resets,)], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_that_ends_after_any_byte_is_a_lost_connection_or_the_token(framing, end, ask, clock):
    answer = FRAMINGS[framing]
    whole = answer.rindex(BODY[-1:]) + 1
    wrong = {}
    for size in range(len(answer) + 1):
        with FarSide(Fault("", (hears, sends(answer[:size]), *end), "")) as far:
            came = in_time(partial(outcome, ask, auth_for(clock=clock, host=far.origin, cache={})))
        if came not in may_come(size, whole, framing, end):
            wrong[answer[:size][-30:]] = came
    assert not wrong


def outcome(ask, auth):
    try:
        return ask(auth)
    except KiwoomAuthError as error:
        return type(error)


def may_come(size, whole, framing, end):
    """What may come of an answer that ends after ``size`` bytes, while its body ends after ``whole``."""
    lost = {TokenEndpointUnreachable}
    if size < whole:
        # Where the end of the connection is the end of the body, a body may end early, and be no JSON.
        return lost | ({InvalidTokenResponse} if framing == "by the connection" else set())
    return {TOKEN} if framing == "by its length" and not end else {TOKEN} | lost


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_nothing_for_this_machine_goes_through_a_proxy(ask, auth, kiwoom_emulator, monkeypatch):
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert ask(auth) == kiwoom_emulator.token
