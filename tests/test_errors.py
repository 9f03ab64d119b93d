"""The errors: caught by the clauses that users already have, and carrying nothing that they should not."""

import copy
import pickle
import traceback

import httpx
import pytest
import requests

import kiwoom_auth_plugin
from kiwoom_auth_plugin import errors
from kiwoom_auth_plugin.errors import (
    AddressRejected,
    CredentialsRejected,
    HostMismatch,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    TokenEndpointUnreachable,
)

from .clients import every_module

CLASSES = [
    KiwoomAuthError, CredentialsRejected, AddressRejected, IssueLimitExceeded, TokenEndpointUnreachable,
    InvalidTokenResponse, HostMismatch,
]  # fmt: skip
every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)

FIELDS = {
    "code": 8001,
    "return_code": 3,
    "return_msg": "인증에 실패했습니다[8001:…]",
    "status_code": 200,
    "host": "https://api.kiwoom.com",
    "retryable": True,
}


def test_the_classes_are_those_of_the_package():
    assert {kind.__name__ for kind in CLASSES} == set(errors.__all__)
    for kind in CLASSES:
        assert getattr(kiwoom_auth_plugin, kind.__name__) is kind
        assert kind.__name__ in kiwoom_auth_plugin.__all__


@every_class
def test_an_error_is_one_of_the_packages_and_of_requests(kind):
    for caught in (KiwoomAuthError, requests.RequestException, requests.exceptions.RequestException, OSError):
        with pytest.raises(caught):
            raise kind("no")


@every_class
@every_module
def test_an_error_is_one_of_httpx_and_of_httpx2(kind, module):
    with pytest.raises(module.HTTPError):
        raise kind("no")


@every_module
def test_no_answer_is_a_lost_connection_to_each_library(module):
    for caught in (requests.ConnectionError, module.TransportError, module.RequestError):
        with pytest.raises(caught):
            raise TokenEndpointUnreachable("no")


@every_class
@every_module
def test_only_no_answer_is_a_lost_connection(kind, module):
    lost = issubclass(kind, TokenEndpointUnreachable)
    assert issubclass(kind, requests.ConnectionError) is lost
    assert issubclass(kind, module.TransportError) is lost
    assert not issubclass(kind, (requests.HTTPError, requests.Timeout, module.HTTPStatusError, ValueError))


@pytest.mark.parametrize("kind", CLASSES)
def test_only_the_limit_and_the_network_may_pass_by_themselves(kind):
    assert kind("no").retryable is (kind in {IssueLimitExceeded, TokenEndpointUnreachable})
    assert kind("no", retryable=True).retryable is True
    assert kind("no", retryable=False).retryable is False


@every_class
def test_an_error_tells_what_it_was_given_and_else_none(kind):
    error = kind("a message")
    assert str(error) == "a message"
    assert (error.code, error.return_code, error.return_msg, error.status_code, error.host) == (None,) * 5
    error = kind("a message", **FIELDS)
    assert {name: getattr(error, name) for name in FIELDS} == FIELDS
    assert error.args == ("a message",)
    assert "a message" in repr(error)


def test_the_limit_tells_how_long_to_wait():
    assert IssueLimitExceeded("no").retry_after is None
    assert IssueLimitExceeded("no", retry_after=2.5).retry_after == 2.5


@every_class
@every_module
def test_neither_request_nor_response_can_be_hung_on_an_error(kind, module):
    error = kind("no")
    assert (error.request, error.response) == (None, None)
    error.request = module.Request("POST", "https://api.kiwoom.com")
    error.response = requests.Response()
    assert (error.request, error.response) == (None, None)
    assert "https" not in f"{vars(error)}"


@every_class
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_can_be_pickled_and_copied(kind, again):
    error = kind("a message", **FIELDS)
    if kind is IssueLimitExceeded:
        error.retry_after = 3.0
    error.add_note("a note")
    other = again(error)
    assert other is not error
    assert type(other) is kind
    assert (str(other), vars(other)) == (str(error), vars(error))
    assert (other.request, other.response) == (None, None)


@every_class
def test_a_copy_for_another_caller_has_no_traceback_and_the_same_cause(kind):
    try:
        raise kind("a message", **FIELDS) from ValueError("why")
    except KiwoomAuthError as raised:
        error = raised
    other = error.copy()
    assert error.__traceback__ is not None
    assert other.__traceback__ is None
    assert other.__cause__ is error.__cause__
    assert vars(other) == vars(error)
    assert vars(other) is not vars(error)


def test_an_error_is_printed_as_any_other():
    with pytest.raises(KiwoomAuthError) as raised:
        raise CredentialsRejected("https://api.kiwoom.com: no")
    last = traceback.format_exception_only(raised.value)[-1]
    assert last == "kiwoom_auth_plugin.errors.CredentialsRejected: https://api.kiwoom.com: no\n"


def test_httpx_hangs_no_request_on_an_error_that_passes_through_it():
    def handler(request):
        raise TokenEndpointUnreachable("no")

    with httpx.Client(transport=httpx.MockTransport(handler)) as client, pytest.raises(httpx.TransportError) as raised:
        client.post("https://api.kiwoom.com/", headers={"Authorization": "Bearer secret"})
    assert raised.value.request is None
