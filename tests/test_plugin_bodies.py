"""Bodies of repeated calls: sent again whole, or not at all."""

import io
import os

import pytest
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR, called, every_client, every_module, every_sync_httpx_client


@pytest.fixture
def replacing():
    """A Kiwoom whose tokens change with each issue."""
    with KiwoomEmulator(reissue="replace") as emulator:
        yield emulator


def auth_for(emulator, **options):
    return KiwoomBearerAuth(emulator.appkey, emulator.secretkey, host=emulator.url, **options)


@every_client
@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_body_of_bytes_is_repeated_whole(open_client, replacing, size):
    body = b'{"a": "%s"}' % (b"x" * size)
    replacing.refuse_next()
    with open_client(auth_for(replacing)) as client:
        assert called(client.post(replacing.url + TR, body))
    assert [call.body for call in replacing.calls("ka10001")] == [body, body]


@every_client
def test_a_body_of_text_is_repeated_whole(open_client, replacing):
    replacing.refuse_next()
    with open_client(auth_for(replacing)) as client:
        assert called(client.post(replacing.url + TR, '{"stk_nm": "Samsung"}'))
    assert [call.body for call in replacing.calls("ka10001")] == [b'{"stk_nm": "Samsung"}'] * 2


@every_client
def test_a_body_that_can_be_sent_once_is_not_repeated(open_client, replacing):
    auth = auth_for(replacing)
    first = auth.get_token()
    replacing.refuse_next()
    with open_client(auth) as client:
        response = client.post(replacing.url + TR, client.streamed([BODY[:5], BODY[5:]]))
        assert response.content == recorded.INVALID_TOKEN.body
        assert [call.body for call in replacing.calls("ka10001")] == [BODY]
        assert called(client.post(replacing.url + TR, client.streamed([BODY])))
    assert replacing.calls("ka10001")[-1].token != first  # it was dropped
    assert replacing.issued == 2


def post_file(replacing, file, **options):
    replacing.refuse_next()
    return requests.post(
        replacing.url + TR, data=file, headers=HEADERS, auth=auth_for(replacing), allow_redirects=False, **options
    )


def test_a_file_of_requests_is_repeated_from_where_it_was(replacing, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(b"skipped" + BODY)
    for file in (path.open("rb"), io.BytesIO(b"skipped" + BODY)):
        with file:
            file.seek(7)
            assert called(post_file(replacing, file))
        assert [call.body for call in replacing.calls("ka10001")[-2:]] == [BODY, BODY]


def test_a_pipe_of_requests_is_not_repeated(replacing):
    reading, writing = os.pipe()
    os.write(writing, BODY)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert not called(post_file(replacing, file))
    assert [call.body for call in replacing.calls("ka10001")] == [BODY]


@pytest.mark.parametrize("failure", [OSError("one way"), ValueError("closed"), AttributeError("no seek")], ids=repr)
def test_a_file_that_cannot_be_wound_back_is_not_repeated(replacing, failure):
    class OneWay:
        file = io.BytesIO(BODY)
        read = file.read
        tell = file.tell

        def __iter__(self):
            return iter(self.file)

        def __len__(self):
            return len(BODY)

        def seek(self, *_args):
            raise failure

    assert not called(post_file(replacing, OneWay()))
    assert [call.body for call in replacing.calls("ka10001")] == [BODY]


@every_sync_httpx_client
def test_a_file_of_httpx_is_never_sent_half(open_client, replacing):
    replacing.refuse_next()
    with open_client(auth_for(replacing)) as client:
        client.post(replacing.url + TR, io.BytesIO(BODY))
    assert {call.body for call in replacing.calls("ka10001")} == {BODY}


def test_a_form_and_json_of_requests_are_repeated_whole(replacing):
    for options in ({"json": {"a": 1}}, {"data": {"a": 1}}, {"files": {"a": b"content"}}):
        replacing.clear_journal()
        replacing.refuse_next()
        requests.post(replacing.url + TR, headers={"api-id": "ka10001"}, auth=auth_for(replacing), **options)
        first, again = replacing.calls("ka10001")
        assert first.body == again.body != b""
        assert first.headers["content-type"] == again.headers["content-type"]


@every_module
def test_a_form_and_json_of_httpx_are_repeated_whole(replacing, module):
    for options in ({"json": {"a": 1}}, {"data": {"a": 1}}):
        replacing.clear_journal()
        replacing.refuse_next()
        module.post(replacing.url + TR, headers={"api-id": "ka10001"}, auth=auth_for(replacing), **options)
        first, again = replacing.calls("ka10001")
        assert first.body == again.body != b""


@every_module
def test_a_multipart_body_of_httpx_is_never_sent_half(replacing, module):
    replacing.refuse_next()
    files = {"a": io.BytesIO(b"content"), "b": b"more"}
    module.post(replacing.url + TR, headers={"api-id": "ka10001"}, auth=auth_for(replacing), files=files)
    bodies = [call.body for call in replacing.calls("ka10001")]
    assert len(set(bodies)) == 1
    assert b"content" in bodies[0]
    assert b"more" in bodies[0]
