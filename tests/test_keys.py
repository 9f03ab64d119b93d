"""Where appkey and secretkey come from: arguments, environment, files, vaults; and that they stay out of sight."""

import codecs
import errno
import threading
import traceback
from pathlib import Path

import pytest

from kiwoom_auth_plugin import REAL_HOST, KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin._keys import Hidden, Masked, MaskedBytes, awithout_frames, without_frames
from kiwoom_auth_plugin.testing import KiwoomEmulator, recorded

from .clients import BODY, TR, every_client
from .leaks import shown_by

APPKEY = "App-key_0123456789~!"
SECRETKEY = "Secret-key_0123456789~!"
MALFORMED = [
    "", " ", f"{SECRETKEY} ", f" {SECRETKEY}", f"{SECRETKEY}\n", f"{SECRETKEY}\x00", f"{SECRETKEY}\x7f",
    f"Sec ret{SECRETKEY}", f"{SECRETKEY}é", f"{SECRETKEY}키", f"\ufeff{SECRETKEY}", f"{SECRETKEY}\ud800",
]  # fmt: skip
NO_STRINGS = [None, SECRETKEY.encode(), 5, [SECRETKEY], {"key": SECRETKEY}]
AROUND_A_KEY = [
    "{}", "{}\n", " {} ", '"{}"', "{}" * 8, "\ufeff{}", "癤{}", "appkey: {}", "{},", "{}\xa0", "{}\0", "{}.", "./{}",
    "{}\\", "{}  # openapi.kiwoom.com", '{{"appkey":"{}","host":"https://api.kiwoom.com"}}',
]  # fmt: skip

every_malformed = pytest.mark.parametrize("key", MALFORMED, ids=ascii)
every_other_type = pytest.mark.parametrize("key", NO_STRINGS, ids=lambda key: type(key).__name__)


def hides(error, *secrets):
    shown = shown_by(error)
    return not any(secret in shown for secret in secrets)


@every_malformed
@pytest.mark.parametrize("name", ["appkey", "secretkey"])
def test_a_malformed_key_is_refused_by_name(key, name):
    keys = {"appkey": APPKEY, "secretkey": SECRETKEY} | {name: key}
    with pytest.raises(ValueError, match=rf"^{name} must be") as raised:
        KiwoomBearerAuth(**keys)
    assert hides(raised.value, SECRETKEY, SECRETKEY[:-1])


@every_other_type
@pytest.mark.parametrize("name", ["appkey", "secretkey"])
def test_a_key_that_is_no_string_is_refused_by_name(key, name):
    keys = {"appkey": APPKEY, "secretkey": SECRETKEY} | {name: key}
    with pytest.raises(TypeError, match=f"^{name} must be a string") as raised:
        KiwoomBearerAuth(**keys)
    assert hides(raised.value, SECRETKEY)


def test_any_visible_characters_are_a_key(kiwoom_emulator):
    key = "".join(map(chr, range(0x21, 0x7F)))
    kiwoom_emulator.add_account(key, key[::-1])
    assert KiwoomBearerAuth(key, key[::-1], host=kiwoom_emulator.url).get_token() in kiwoom_emulator.tokens


# The environment


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("KIWOOM_APPKEY", APPKEY)
    monkeypatch.setenv("KIWOOM_SECRETKEY", SECRETKEY)
    return monkeypatch


def test_the_environment_gives_keys_and_host(environment, kiwoom_emulator):
    kiwoom_emulator.add_account(APPKEY, SECRETKEY)
    environment.setenv("KIWOOM_HOST", kiwoom_emulator.url)
    assert KiwoomBearerAuth.from_env().get_token() in kiwoom_emulator.tokens
    assert kiwoom_emulator.issued_for(APPKEY) == 1


@pytest.mark.parametrize("host", [None, ""])
def test_without_a_host_the_real_one_is_meant(environment, host):
    if host is not None:
        environment.setenv("KIWOOM_HOST", host)
    assert repr(REAL_HOST) in repr(KiwoomBearerAuth.from_env())


def test_a_host_in_the_call_goes_before_the_one_of_the_environment(environment):
    environment.setenv("KIWOOM_HOST", "not an origin")
    assert "'https://mockapi.kiwoom.com'" in repr(KiwoomBearerAuth.from_env(host="mockapi.kiwoom.com"))


def test_options_are_those_of_the_class(environment):
    with pytest.raises(ValueError, match=r"^timeout "):
        KiwoomBearerAuth.from_env(timeout=0)


@pytest.mark.parametrize("variable", ["KIWOOM_APPKEY", "KIWOOM_SECRETKEY"])
def test_a_missing_variable_is_named(environment, variable):
    environment.delenv(variable)
    with pytest.raises(ValueError, match=rf"{variable} is not set") as raised:
        KiwoomBearerAuth.from_env()
    assert hides(raised.value, SECRETKEY)


@pytest.mark.parametrize("variable", ["KIWOOM_APPKEY", "KIWOOM_SECRETKEY"])
@pytest.mark.parametrize("key", ["", f"{SECRETKEY}\n", f" {SECRETKEY}", f"{SECRETKEY}키"], ids=ascii)
def test_a_malformed_variable_is_named(environment, variable, key):
    environment.setenv(variable, key)
    with pytest.raises(ValueError, match=rf"variable {variable} must be") as raised:
        KiwoomBearerAuth.from_env()
    assert hides(raised.value, SECRETKEY)


def test_a_malformed_host_is_named_and_not_shown(environment):
    environment.setenv("KIWOOM_HOST", "https://me:pass-0123@api.kiwoom.com")
    with pytest.raises(ValueError, match="KIWOOM_HOST") as raised:
        KiwoomBearerAuth.from_env()
    assert hides(raised.value, SECRETKEY, "pass-0123")


# Files


@pytest.fixture
def files(tmp_path):
    appkey, secretkey = tmp_path / "12345678_appkey.txt", tmp_path / "12345678_secretkey.txt"
    appkey.write_bytes(APPKEY.encode())
    secretkey.write_bytes(SECRETKEY.encode())
    return appkey, secretkey


CONTENTS = {
    "bare": SECRETKEY.encode(),
    "a line": f"{SECRETKEY}\n".encode(),
    "a line of Windows": f"{SECRETKEY}\r\n".encode(),
    "white space all around": f"\n\t {SECRETKEY} \x0b\n\n".encode(),
    "UTF-8 with a BOM": codecs.BOM_UTF8 + f"{SECRETKEY}\r\n".encode(),
    "UTF-16 as Notepad writes it": f"{SECRETKEY}\r\n".encode("utf-16"),
    "UTF-16, little end first": codecs.BOM_UTF16_LE + SECRETKEY.encode("utf-16-le"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + SECRETKEY.encode("utf-16-be"),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("as_text", [str, lambda path: path], ids=["str", "Path"])
def test_the_portals_files_give_the_keys(files, content, as_text, kiwoom_emulator):
    files[1].write_bytes(content)
    kiwoom_emulator.add_account(APPKEY, SECRETKEY)
    auth = KiwoomBearerAuth.from_files(*map(as_text, files), host=kiwoom_emulator.url)
    assert auth.get_token() in kiwoom_emulator.tokens


BROKEN = {
    "empty": b"",
    "white space only": b" \r\n\t",
    "a BOM only": codecs.BOM_UTF8,
    "two lines": f"{SECRETKEY}\n{SECRETKEY}".encode(),
    "two words": f"secretkey {SECRETKEY}".encode(),
    "binary": SECRETKEY.encode() + bytes(range(256)),
    "zeros": b"\x00" * 64,
    "Korean": f"시크릿 {SECRETKEY}".encode("cp949"),
    "UTF-16 without a BOM": SECRETKEY.encode("utf-16-le"),
    "half a UTF-16 character": f"{SECRETKEY}".encode("utf-16") + b"\x00",
    "UTF-32": SECRETKEY.encode("utf-32"),
    "endless": b" " * 100_000 + SECRETKEY.encode(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("broken", [0, 1])
def test_a_file_that_holds_no_key_is_named(files, content, broken):
    files[broken].write_bytes(content)
    with pytest.raises(ValueError, match=files[broken].name) as raised:
        KiwoomBearerAuth.from_files(*files)
    assert hides(raised.value, SECRETKEY, SECRETKEY[:8], "\\x00S\\x00e\\x00c")
    assert ("appkey" if broken == 0 else "secretkey") in str(raised.value)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_file_is_an_os_error_that_names_it(files, missing):
    files[missing].unlink()
    with pytest.raises(FileNotFoundError, match=files[missing].name) as raised:
        KiwoomBearerAuth.from_files(*files)
    assert hides(raised.value, SECRETKEY)


@pytest.mark.parametrize("form", AROUND_A_KEY)
@pytest.mark.parametrize("kind", [str, str.encode, Path, lambda text: Hush(text)])  # noqa: PLW0108 - it comes further down
@pytest.mark.parametrize("place", [0, 1])
def test_a_key_in_the_place_of_its_file_is_not_told(files, place, kind, form):
    key = kind(form.format(*["Ab1-_" * 8] * 8))
    with pytest.raises(OSError, match=r"not named here since it looks like a key: [A-Z]") as raised:
        KiwoomBearerAuth.from_files(*(key if number == place else file for number, file in enumerate(files)))
    assert ("the appkey file" if place == 0 else "the secretkey file") in str(raised.value)
    assert hides(raised.value, "Ab1-_" * 8)


@pytest.mark.parametrize(("path", "kind"), [(None, "NoneType"), (5, "int"), (["Ab1-_" * 8], "list")])
def test_what_is_no_path_is_a_type_error(files, path, kind):
    with pytest.raises(TypeError, match=f"^secretkey_path must be a path, not {kind}$") as raised:
        KiwoomBearerAuth.from_files(files[0], path)
    assert hides(raised.value, "Ab1-_" * 8)


def test_what_looks_like_a_key_and_is_there_is_read(files, tmp_path):
    path = files[0].rename(tmp_path / ("Ab1-_" * 8))
    assert KiwoomBearerAuth.from_files(path, files[1], cache={})


def test_what_looks_like_a_key_and_cannot_be_read_says_why(files, tmp_path):
    (tmp_path / ("Ab1-_" * 8)).mkdir()
    with pytest.raises(OSError, match=r"the appkey file, not named here since it looks like a key: (?!No such file)"):
        KiwoomBearerAuth.from_files(tmp_path / ("Ab1-_" * 8), files[1])
    with pytest.raises(FileNotFoundError) as raised:
        KiwoomBearerAuth.from_files("Ab1-_" * 8, files[1])
    assert raised.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="not named here") as raised:
        KiwoomBearerAuth.from_files("Ab1-_" * 8 + "\0", files[1])
    assert raised.value.errno == errno.EINVAL


@pytest.mark.parametrize("path", ["Ab1-_" * 6, "Ab1-_" * 6 + "/Ab1.txt", "키" * 40])
def test_what_looks_like_a_path_is_named(path):
    with pytest.raises(FileNotFoundError) as raised:
        KiwoomBearerAuth.from_files(path, path)
    assert raised.value.filename == path


def test_a_directory_is_an_os_error(files, tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        KiwoomBearerAuth.from_files(tmp_path, files[1])


def test_a_key_that_is_longer_than_a_key_can_be_is_not_cut(files):
    files[0].write_bytes(b"k" * 100_000)
    with pytest.raises(ValueError, match=files[0].name):
        KiwoomBearerAuth.from_files(*files)


# Secret types


class Hush(str):
    """As secret types are: hidden from ``str()``."""

    __slots__ = ()

    def __str__(self):
        return "*****"

    __repr__ = __str__


def test_a_key_that_hides_itself_is_sent_as_it_is(kiwoom_emulator):
    kiwoom_emulator.add_account(APPKEY, SECRETKEY)
    for secretkey in (Hush(SECRETKEY), lambda: Hush(SECRETKEY)):
        auth = KiwoomBearerAuth(Hush(APPKEY), secretkey, host=kiwoom_emulator.url, cache={})
        assert auth.get_token() in kiwoom_emulator.tokens


def test_the_appkey_is_masked_where_somebody_looks_into_objects_or_frames():
    auth = KiwoomBearerAuth(APPKEY, SECRETKEY, cache={})
    assert APPKEY not in f"{vars(auth)}{auth!r}"
    with KiwoomEmulator(appkey=APPKEY, secretkey=SECRETKEY) as kiwoom:
        cache = {}
        KiwoomBearerAuth(APPKEY, SECRETKEY, host=kiwoom.url, cache=cache).get_token()
        assert cache[APPKEY, kiwoom.url]
        assert APPKEY not in repr(cache)
    with pytest.raises(ValueError, match="host") as raised:
        KiwoomBearerAuth(APPKEY, SECRETKEY, host="no host")
    assert hides(raised.value, APPKEY, SECRETKEY)


# Vaults


class Vault:
    def __init__(self, key):
        self.key = key
        self.threads = []

    def __call__(self):
        self.threads.append(threading.current_thread())
        if isinstance(self.key, Exception):
            raise self.key
        return self.key


@every_client
def test_a_vault_is_asked_for_each_issue_and_not_for_each_call(open_client, kiwoom_emulator, make_auth):
    vault = Vault(kiwoom_emulator.secretkey)
    auth = make_auth(secretkey=vault)
    assert not vault.threads
    with open_client(auth) as client:
        for _ in range(3):
            assert client.post(kiwoom_emulator.url + TR).json()["return_code"] == 0
        assert len(vault.threads) == 1
        kiwoom_emulator.expire_tokens()
        assert client.post(kiwoom_emulator.url + TR).json()["return_code"] == 0
    assert len(vault.threads) == 2
    assert kiwoom_emulator.issued == 2


@pytest.mark.anyio
async def test_a_vault_never_blocks_an_event_loop(kiwoom_emulator, make_auth):
    vault = Vault(kiwoom_emulator.secretkey)
    auth = make_auth(secretkey=vault)
    await auth.aget_token()
    await auth.arevoke()
    assert len(vault.threads) == 2
    assert threading.current_thread() not in vault.threads


def test_a_vault_may_rotate_the_key(kiwoom_emulator, make_auth):
    vault = Vault(kiwoom_emulator.secretkey)
    auth = make_auth(secretkey=vault)
    auth.get_token()
    vault.key = "rotated-0123456789"
    kiwoom_emulator.add_account(kiwoom_emulator.appkey, vault.key)
    auth.invalidate(auth.get_token())
    auth.get_token()
    assert kiwoom_emulator.issued == 2
    assert kiwoom_emulator.calls("au10001")[-1].json()["secretkey"] == vault.key


def test_a_vault_that_fails_is_told_by_its_kind_and_kept_as_the_cause(make_auth, kiwoom_emulator):
    failure = ConnectionError("sealed")
    auth = make_auth(secretkey=Vault(failure))
    with pytest.raises(KiwoomAuthError, match="secretkey callable raised ConnectionError") as raised:
        auth.get_token()
    assert raised.value.__cause__ is failure
    assert raised.value.host == kiwoom_emulator.url
    assert kiwoom_emulator.url in str(raised.value)
    assert not kiwoom_emulator.journal


@every_malformed
def test_a_vault_that_gives_a_malformed_key_is_told_without_it(make_auth, key, kiwoom_emulator):
    with pytest.raises(KiwoomAuthError, match="secretkey callable must return") as raised:
        make_auth(secretkey=lambda: key).get_token()
    assert hides(raised.value, SECRETKEY)
    assert not kiwoom_emulator.journal


@every_other_type
def test_a_vault_that_gives_no_string_is_told_without_it(make_auth, key, kiwoom_emulator):
    with pytest.raises(KiwoomAuthError, match="secretkey callable must return") as raised:
        make_auth(secretkey=lambda: key).get_token()
    assert hides(raised.value, SECRETKEY)
    assert not kiwoom_emulator.journal


@every_malformed
def test_a_malformed_key_of_a_vault_is_not_shown_by_what_never_issues_either(make_auth, key):
    with pytest.raises(KiwoomAuthError, match="secretkey callable must return") as raised:
        make_auth(secretkey=lambda: key).revoke()
    assert hides(raised.value, SECRETKEY)


def test_a_vault_is_not_asked_for_what_is_only_looked_at(make_auth):
    vault = Vault(ValueError(""))
    assert make_auth(secretkey=vault).expires_at is None


@pytest.mark.anyio
async def test_a_failing_vault_reaches_an_asynchronous_caller(make_auth):
    with pytest.raises(KiwoomAuthError, match="secretkey callable raised ValueError"):
        await make_auth(secretkey=Vault(ValueError(""))).aget_token()


def test_a_vault_that_cannot_be_hashed_is_a_vault_too(kiwoom_emulator, make_auth):
    class Unhashable(Vault):
        __hash__ = None

    assert make_auth(secretkey=Unhashable(kiwoom_emulator.secretkey)).get_token() == kiwoom_emulator.token


def test_vaults_share_the_token_where_they_give_the_same_key(kiwoom_emulator, make_auth):
    tokens = {make_auth(secretkey=Vault(kiwoom_emulator.secretkey)).get_token() for _ in range(3)}
    assert tokens == {make_auth().get_token()}
    assert kiwoom_emulator.issued == 1


def test_vaults_share_nothing_where_they_give_different_keys(kiwoom_emulator, make_auth):
    make_auth(secretkey=Vault(kiwoom_emulator.secretkey)).get_token()
    with pytest.raises(KiwoomAuthError):
        make_auth(secretkey=Vault("another-key-0123456789")).get_token()


# Errors on the way


def failing(emulator, kind, **options):
    if kind == "nobody listens":
        with KiwoomEmulator() as gone:
            url = gone.url
        return KiwoomBearerAuth(APPKEY, SECRETKEY, host=url, timeout=0.5, **options)
    emulator.add_account(APPKEY, SECRETKEY if kind == "unusable answer" else "another")
    if kind == "unusable answer":
        emulator.script("/oauth2/token", recorded.MAINTENANCE)
    return KiwoomBearerAuth(APPKEY, SECRETKEY, host=emulator.url, **options)


@every_client
@pytest.mark.parametrize("kind", ["nobody listens", "wrong pair", "unusable answer"])
def test_the_secretkey_is_in_no_frame_of_an_error(open_client, kiwoom_emulator, kind):
    auth = failing(kiwoom_emulator, kind, cache={})
    with open_client(auth) as client, pytest.raises(KiwoomAuthError) as raised:
        client.post(auth._host + TR, BODY)
    assert hides(raised.value, SECRETKEY)


# Secrets in the variables of our frames


def test_a_masked_secret_is_a_string_that_prints_as_none():
    key = Masked(SECRETKEY)
    assert key == SECRETKEY
    assert SECRETKEY not in repr(key)
    assert SECRETKEY not in repr({"key": key})


def test_a_masked_body_is_bytes_that_print_as_none():
    body = MaskedBytes(SECRETKEY.encode())
    assert body == SECRETKEY.encode()
    assert SECRETKEY not in repr([body])


def test_what_interrupts_work_with_secrets_loses_its_frames_and_what_came_of_them():
    def work():
        try:
            b"\xff".decode()
        except ValueError:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt) as alone:
        without_frames(work)
    try:
        int("of the caller's")
    except ValueError as error:
        before = error
        with pytest.raises(KeyboardInterrupt) as within:
            without_frames(work)
    for raised, context in ((alone, None), (within, before)):
        assert raised.value.__context__ is context
        assert "work" not in [frame.f_code.co_name for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    assert without_frames(lambda: 5) == 5


@pytest.mark.anyio
async def test_what_interrupts_awaited_work_keeps_the_context_of_the_caller_and_no_other():
    async def work():
        try:
            b"\xff".decode()
        except ValueError:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt) as alone:
        await awithout_frames(work)
    try:
        int("of the caller's")
    except ValueError as error:
        before = error
        with pytest.raises(KeyboardInterrupt) as within:
            await awithout_frames(work)
    assert alone.value.__context__ is None
    assert within.value.__context__ is before


def test_what_is_hidden_is_shown_by_nothing_but_its_own_word():
    hidden = Hidden("a-secret")
    assert hidden.reveal() == "a-secret"
    assert f"{hidden}{hidden!r}" == "Hidden(…)" * 2
    assert not hasattr(hidden, "__dict__")
