"""Redirects and netrc: the token goes to its own origin only, the secretkey to that origin's /oauth2/ only."""

import io

import pytest
import requests

from kiwoom_auth_plugin import InvalidTokenResponse, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import (
    BODY,
    HEADERS,
    TR,
    called,
    every_client,
    every_module,
    every_sync_client,
    plain_answer,
    raw_server,
    token_answer,
)

OLD = "/api/dostk/moved"
every_status = pytest.mark.parametrize("status", [301, 302, 303, 307, 308])


@pytest.fixture
def elsewhere():
    """Another server, which writes down what it gets."""
    with KiwoomEmulator() as emulator:
        yield emulator


def holds_no_secret(call, *emulators):
    told = f"{call.headers}{call.body}{call.path}{call.query}"
    return "authorization" not in call.headers and not any(
        secret in told for emulator in emulators for secret in (emulator.secretkey, emulator.token)
    )


@every_client
@every_status
def test_within_the_origin_the_token_goes_along(open_client, kiwoom_emulator, auth, status):
    kiwoom_emulator.script(OLD, Answer.redirect(TR, status))
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + OLD, follow=True)
    old, new = kiwoom_emulator.journal[1:]
    assert (old.path, new.path) == (OLD, TR)
    assert old.token == new.token == kiwoom_emulator.token
    assert [answer.status_code for answer in response.history] == [status]
    assert new.method == ("POST" if status in {307, 308} else "GET")
    assert kiwoom_emulator.issued == 1


@every_client
@every_status
def test_to_another_port_it_does_not(open_client, kiwoom_emulator, elsewhere, auth, status):
    kiwoom_emulator.script(TR, Answer.redirect(elsewhere.url + TR, status))
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR, follow=True)
    (call,) = elsewhere.journal
    assert holds_no_secret(call, kiwoom_emulator)


@every_client
@every_status
def test_to_another_host_it_does_not(open_client, kiwoom_emulator, auth, status):
    kiwoom_emulator.script(TR, Answer.redirect(f"http://localhost:{kiwoom_emulator.port}{OLD}", status))
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR, follow=True)
    (call,) = [call for call in kiwoom_emulator.journal if call.path == OLD]
    assert call.headers["host"].startswith("localhost")
    assert holds_no_secret(call, kiwoom_emulator)


@every_client
def test_a_scheme_relative_redirect_is_one_to_another_host(open_client, kiwoom_emulator, elsewhere, auth):
    kiwoom_emulator.script(TR, Answer.redirect(f"//127.0.0.1:{elsewhere.port}{TR}"))
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR, follow=True)
    assert holds_no_secret(elsewhere.journal[0], kiwoom_emulator)


@every_client
@pytest.mark.parametrize("refusal", [recorded.INVALID_TOKEN, recorded.UNAUTHORIZED, recorded.NO_AUTHORIZATION])
def test_a_refusal_from_elsewhere_is_the_callers(open_client, kiwoom_emulator, elsewhere, auth, refusal):
    kiwoom_emulator.script(TR, Answer.redirect(elsewhere.url + TR, 307))
    elsewhere.refuse_next(answer=refusal)
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + TR, follow=True)
    assert response.content == refusal.body
    (call,) = elsewhere.journal
    assert holds_no_secret(call, kiwoom_emulator)
    assert kiwoom_emulator.issued == 1
    assert auth.get_token() == kiwoom_emulator.token  # it was not dropped


@every_client
def test_after_a_redirect_only_the_redirected_request_is_repeated(open_client, kiwoom_emulator, auth):
    auth.get_token()
    kiwoom_emulator.script(OLD, Answer.redirect(TR, 307))
    kiwoom_emulator.expire_tokens()
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + OLD, follow=True)
    assert called(response)
    assert [call.path for call in kiwoom_emulator.journal] == ["/oauth2/token", OLD, TR, "/oauth2/token", TR]
    assert [call.body for call in kiwoom_emulator.calls(TR)] == [BODY, BODY]
    assert kiwoom_emulator.journal[-1].token == kiwoom_emulator.token


@every_client
@pytest.mark.parametrize("status", [302, 307])
def test_a_repeated_call_is_redirected_elsewhere_without_the_token(
    open_client, kiwoom_emulator, elsewhere, auth, status
):
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    kiwoom_emulator.script(TR, recorded.INVALID_TOKEN, Answer.redirect(elsewhere.url + TR, status))
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR, follow=True)
    assert len(kiwoom_emulator.calls(TR)) == 2
    (call,) = elsewhere.journal
    assert holds_no_secret(call, kiwoom_emulator)


@every_client
def test_a_repeated_call_is_redirected_within_the_origin_with_the_new_token(open_client, kiwoom_emulator, auth):
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    kiwoom_emulator.script(OLD, recorded.INVALID_TOKEN, Answer.redirect(TR, 307))
    with open_client(auth) as client:
        assert called(client.post(kiwoom_emulator.url + OLD, follow=True))
    assert kiwoom_emulator.journal[-1].token == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 2


@every_client
def test_what_a_repeated_call_is_redirected_to_is_not_repeated_once_more(open_client, kiwoom_emulator, auth):
    auth.get_token()
    kiwoom_emulator.expire_tokens()
    kiwoom_emulator.script(OLD, recorded.INVALID_TOKEN, Answer.redirect(TR, 307))
    kiwoom_emulator.script(TR, recorded.INVALID_TOKEN)
    with open_client(auth) as client:
        assert client.post(kiwoom_emulator.url + OLD, follow=True).content == recorded.INVALID_TOKEN.body
    assert [call.path for call in kiwoom_emulator.journal] == ["/oauth2/token", OLD, "/oauth2/token", OLD, TR]


def test_a_file_is_repeated_though_its_last_repetition_was_redirected(kiwoom_emulator, auth):
    file = io.BytesIO(BODY)
    prepared = requests.Request("POST", kiwoom_emulator.url + OLD, HEADERS, data=file, auth=auth).prepare()
    kiwoom_emulator.script(OLD, recorded.INVALID_TOKEN, Answer.redirect(TR, 302), recorded.INVALID_TOKEN)
    with requests.Session() as session:
        for _ in range(2):
            kiwoom_emulator.expire_tokens()
            file.seek(0)
            session.send(prepared)
    assert [call.body for call in kiwoom_emulator.calls(OLD)] == [BODY] * 4


def test_hooks_of_the_user_go_along_with_a_redirect_elsewhere(kiwoom_emulator, elsewhere, auth):
    seen = []
    kiwoom_emulator.script(TR, Answer.redirect(elsewhere.url + TR))
    with requests.Session() as session:
        session.auth = auth
        session.hooks["response"].append(lambda response, **_: seen.append(response.url))
        session.post(kiwoom_emulator.url + TR, data=BODY, headers=HEADERS)
    assert seen == [kiwoom_emulator.url + TR, elsewhere.url + TR]


@every_client
@pytest.mark.parametrize(
    "location", ["http://[", "https://[::1/", "http://a:b/", "//", "", "?", "ws://a/", "\\\\a", "a b"]
)
def test_a_redirect_that_is_not_followed_is_the_callers_whatever_it_says(open_client, kiwoom_emulator, auth, location):
    def outcome(auth):
        with open_client(auth) as client:
            try:
                return client.post(kiwoom_emulator.url + TR).status_code
            except Exception as error:  # noqa: BLE001 - the library's own
                return type(error)

    auth.get_token()
    answer = Answer.html("moved", 302, headers=(("location", location),))
    kiwoom_emulator.script(TR, answer, answer)
    assert outcome(auth) == outcome(None)
    assert kiwoom_emulator.issued == 1


@pytest.mark.parametrize("refused_first", [False, True])
@pytest.mark.parametrize("moved_first", [False, True])
def test_requests_takes_the_token_to_no_https_of_the_same_host(refused_first, moved_first):
    # It lets headers pass from port 80 to port 443 of one host. Through a proxy, since nobody can listen on port 80.
    redirect = plain_answer(b"", "307 Moved", "Location: https://localhost/")
    answers = [token_answer("first"), redirect]
    if refused_first:
        answers[1:1] = [plain_answer(recorded.INVALID_TOKEN.body), token_answer("second")]
    if moved_first:
        answers[-1:-1] = [plain_answer(b"", "307 Moved", "Location: /moved")]
    with raw_server(*([answer] for answer in answers)) as (proxy, got), requests.Session() as session:
        session.proxies = {"http": proxy, "https": proxy}
        auth = KiwoomBearerAuth("appkey", "secretkey", host="http://localhost", client=session, cache={})
        response = session.post("http://localhost" + TR, data=BODY, headers=HEADERS, auth=auth, allow_redirects=False)
        if moved_first:
            response = session.send(response.next, allow_redirects=False, proxies=session.proxies)
    assert response.status_code == 307
    assert len(got) == len(answers)
    assert response.next.url == "https://localhost/"
    assert "Authorization" not in response.next.headers


@every_module
def test_a_refusal_of_httpx_from_elsewhere_is_the_callers_even_if_the_token_went_along(kiwoom_emulator, auth, module):
    # As httpx has it from port 80 to port 443 of one host.
    flow = auth.sync_auth_flow(module.Request("POST", kiwoom_emulator.url + TR))
    header = {"Authorization": next(flow).headers["Authorization"]}
    with pytest.raises(StopIteration):
        flow.send(module.Response(401, request=module.Request("POST", "https://127.0.0.1" + TR, headers=header)))
    assert kiwoom_emulator.issued == 1


# AU10001 and AU10002


@every_client
@every_status
def test_au10001_follows_no_redirect(open_client, kiwoom_emulator, elsewhere, auth, status):
    kiwoom_emulator.script("/oauth2/token", Answer.redirect(elsewhere.url + "/oauth2/token", status))
    with open_client(auth) as client, pytest.raises(InvalidTokenResponse, match="redirect") as raised:
        client.post(kiwoom_emulator.url + TR, follow=True)
    assert raised.value.status_code == status
    assert not raised.value.retryable
    assert not elsewhere.journal
    assert len(kiwoom_emulator.journal) == 1


@every_status
def test_au10001_and_au10002_follow_no_redirect_of_a_session(kiwoom_emulator, elsewhere, make_auth, status):
    with requests.Session() as session:
        check_no_redirect(make_auth(client=session, cache={}), kiwoom_emulator, elsewhere, status)


@every_status
@every_module
def test_au10001_and_au10002_follow_no_redirect_of_a_client(kiwoom_emulator, elsewhere, make_auth, module, status):
    with module.Client(follow_redirects=True) as client:
        check_no_redirect(make_auth(client=client, cache={}), kiwoom_emulator, elsewhere, status)


def check_no_redirect(auth, kiwoom, elsewhere, status):
    auth.get_token()
    kiwoom.script("/oauth2/revoke", Answer.redirect(elsewhere.url + "/oauth2/revoke", status))
    with pytest.raises(InvalidTokenResponse, match="AU10002"):
        auth.revoke()
    kiwoom.script("/oauth2/token", Answer.redirect(elsewhere.url + "/oauth2/token", status))
    with pytest.raises(InvalidTokenResponse, match="AU10001"):
        auth.get_token()
    assert not elsewhere.journal


@pytest.mark.anyio
@every_status
async def test_arevoke_follows_no_redirect(kiwoom_emulator, elsewhere, auth, status):
    await auth.aget_token()
    kiwoom_emulator.script("/oauth2/revoke", Answer.redirect(elsewhere.url + "/oauth2/revoke", status))
    with pytest.raises(InvalidTokenResponse, match="AU10002"):
        await auth.arevoke()
    assert not elsewhere.journal


# netrc


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    path = tmp_path / "netrc"
    path.write_text("default login me password of-netrc\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return path


def test_the_netrc_file_of_these_tests_would_be_used(netrc, kiwoom_emulator):
    requests.post(kiwoom_emulator.url + TR, data=BODY, headers=HEADERS)
    assert kiwoom_emulator.journal[0].headers["authorization"].startswith("Basic ")


@every_client
def test_netrc_neither_replaces_the_header_nor_reaches_au10001(open_client, netrc, kiwoom_emulator, auth):
    with open_client(auth) as client:
        assert called(client.post(kiwoom_emulator.url + TR))
        kiwoom_emulator.expire_tokens()
        assert called(client.post(kiwoom_emulator.url + TR))
    auth.revoke()
    assert not any(call.violations for call in kiwoom_emulator.journal)
    assert {call.headers.get("authorization", "Bearer")[:6] for call in kiwoom_emulator.journal} == {"Bearer"}


@every_sync_client
def test_netrc_does_not_reach_au10001_through_client(open_client, netrc, kiwoom_emulator, make_auth):
    with open_client() as client:
        auth = make_auth(client=client.native)
        auth.get_token()
        auth.revoke()
    assert not any(call.violations for call in kiwoom_emulator.journal)


@every_client
@pytest.mark.parametrize("status", [307, 308])
def test_netrc_does_no_harm_after_a_redirect_within_the_origin(open_client, netrc, kiwoom_emulator, auth, status):
    kiwoom_emulator.script(OLD, Answer.redirect(TR, status))
    with open_client(auth) as client:
        response = client.post(kiwoom_emulator.url + OLD, follow=True)
    assert called(response)
    assert kiwoom_emulator.journal[-1].token == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


def test_a_bare_401_for_what_netrc_has_put_in_is_cured_with_the_token(netrc, kiwoom_emulator, auth):
    kiwoom_emulator.script(OLD, Answer.redirect(TR, 307))
    kiwoom_emulator.script(TR, recorded.UNAUTHORIZED)
    assert called(requests.post(kiwoom_emulator.url + OLD, data=BODY, headers=HEADERS, auth=auth))
    assert [call.headers["authorization"][:6] for call in kiwoom_emulator.journal if call.path == TR] == [
        "Basic ", "Bearer",
    ]  # fmt: skip


@pytest.mark.parametrize("first", ["home", "elsewhere"])
def test_with_a_netrc_a_path_that_another_host_has_chosen_is_not_called_with_the_token(
    netrc, kiwoom_emulator, elsewhere, auth, first
):
    kiwoom_emulator.script(TR, Answer.redirect(elsewhere.url + "/x", 307))
    elsewhere.script("/x", Answer.redirect(kiwoom_emulator.url + "/api/dostk/chosen", 307))
    url = kiwoom_emulator.url + TR if first == "home" else elsewhere.url + "/x"
    requests.post(url, data=BODY, headers=HEADERS, auth=auth, timeout=30)
    calls = kiwoom_emulator.calls("/api/dostk/chosen")
    assert calls
    assert not any("bearer" in call.headers.get("authorization", "").lower() for call in calls)


@every_client
def test_netrc_and_a_redirect_elsewhere_do_not_carry_the_token(open_client, netrc, kiwoom_emulator, elsewhere, auth):
    kiwoom_emulator.script(TR, Answer.redirect(elsewhere.url + TR, 307))
    with open_client(auth) as client:
        client.post(kiwoom_emulator.url + TR, follow=True)
    (call,) = elsewhere.journal
    assert kiwoom_emulator.token not in f"{call.headers}"
    assert kiwoom_emulator.issued == 1


@every_module
def test_the_netrc_auth_of_a_client_gives_way_to_the_auth_of_a_call(netrc, kiwoom_emulator, auth, module):
    with module.Client(auth=module.NetRCAuth(str(netrc))) as client:
        assert called(client.post(kiwoom_emulator.url + TR, content=BODY, headers=HEADERS, auth=auth))
