"""What is said of a failure, by what the libraries raise: made by hand, since no network fails in all these ways."""

import itertools
import socket
import ssl

import pytest
import requests

from kiwoom_auth_plugin._reasons import Cause, cause, is_local, reason

URL = "https://api.kiwoom.com"
HINT = "; check the proxy that HTTPS_PROXY names, too"


def verification(code):
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return error


def of_library(name):
    error = ssl.SSLError("no start line")
    error.library = name
    return error


def chained(*links, context=False):
    """The first of these exceptions, each the cause (or the context) of the one before it."""
    for outer, inner in itertools.pairwise(links):
        if context:
            outer.__context__ = inner
        else:
            outer.__cause__ = inner
    return links[0]


CAUSES = {
    "not yet valid": (verification(9), Cause.NOT_YET_VALID),
    "expired": (verification(10), Cause.EXPIRED),
    "another name": (verification(62), Cause.ANOTHER_NAME),
    "another address": (verification(64), Cause.ANOTHER_NAME),
    "self-signed": (verification(18), Cause.NOT_TRUSTED),
    "no file": (FileNotFoundError(2, "No such file"), Cause.BUNDLE),
    "no file beneath": (chained(requests.ConnectionError(), FileNotFoundError(2, "No such file")), Cause.BUNDLE),
    "as requests says it": (OSError("Could not find a suitable TLS CA certificate bundle"), Cause.BUNDLE),
    "an OSError beneath": (chained(requests.ConnectionError(), OSError("broken")), Cause.LOST),
    "X509": (of_library("X509"), Cause.BUNDLE),
    "PEM": (of_library("PEM"), Cause.BUNDLE),
    "TLS": (of_library("SSL"), Cause.TLS),
    "proxy": (requests.exceptions.ProxyError(), Cause.PROXY),
    "settings": (requests.exceptions.InvalidURL(), Cause.SETTINGS),
    "name": (chained(requests.ConnectionError(), socket.gaierror(-2, "unknown")), Cause.NAME),
    "refused": (chained(requests.ConnectionError(), ConnectionRefusedError()), Cause.REFUSED),
    "refused, in a context": (
        chained(requests.ConnectionError(), ConnectionRefusedError(), context=True),
        Cause.REFUSED,
    ),
    "refused, deep": (chained(requests.ConnectionError(), KeyError(), ConnectionRefusedError()), Cause.REFUSED),
    "time-out": (requests.ReadTimeout(), Cause.TOO_LONG),
    "reset": (ConnectionResetError(), Cause.LOST),
}


@pytest.mark.parametrize(("failure", "expected"), CAUSES.values(), ids=CAUSES)
def test_the_cause(failure, expected):
    assert cause(failure) is expected
    assert reason(failure, URL).startswith(expected.value.partition("{")[0])


def test_both_what_it_comes_of_and_what_it_came_in_are_looked_at():
    failure = requests.ConnectionError()
    failure.__cause__, failure.__context__ = KeyError(), chained(KeyError(), ConnectionRefusedError())
    assert cause(failure) is Cause.REFUSED
    failure.__cause__, failure.__context__ = chained(KeyError(), ConnectionRefusedError()), KeyError()
    assert cause(failure) is Cause.REFUSED


def test_exceptions_in_a_circle_are_looked_at_once():
    first, second = requests.ConnectionError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert cause(first) is Cause.LOST


def test_what_was_lost_is_named_by_what_came_first():
    failure = chained(requests.ConnectionError(), KeyError(), ConnectionResetError())
    assert "what came was no HTTP (ConnectionResetError); check" in reason(failure, URL)


@pytest.mark.parametrize("number", range(len(CAUSES)), ids=CAUSES)
def test_a_proxy_is_named_where_the_way_to_it_may_be_what_failed(monkeypatch, number):
    failure, expected = list(CAUSES.values())[number]
    without = reason(failure, URL)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:8080")
    may_be = expected in {Cause.NAME, Cause.REFUSED, Cause.TOO_LONG, Cause.LOST}
    assert reason(failure, URL) == without + HINT * may_be
    assert not reason(failure, "http://127.0.0.1").endswith(HINT)


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        (URL, {"HTTP_PROXY": "http://proxy.example:8080"}),
        (URL, {"HTTPS_PROXY": "http://proxy.example:8080", "NO_PROXY": "api.kiwoom.com"}),
        ("http://127.0.0.1", {"ALL_PROXY": "http://proxy.example:8080"}),
    ],
)
def test_no_proxy_is_named_where_none_is_used(monkeypatch, url, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not reason(ConnectionRefusedError(), url).endswith(HINT)


def test_another_library_may_do_where_certificates_bundles_or_proxies_are_at_fault():
    local = {name for name, (failure, _cause) in CAUSES.items() if is_local(failure)}
    assert local == {
        *("not yet valid", "expired", "another name", "another address", "self-signed"),
        *("no file", "no file beneath", "as requests says it", "X509", "PEM", "proxy"),
    }
