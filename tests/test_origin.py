"""Origins: which hosts can be given, and which calls they cover."""

import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin import MOCK_HOST, REAL_HOST
from kiwoom_auth_plugin._origin import Origin

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_the_two_hosts_are_kiwooms():
    assert REAL_HOST == "https://api.kiwoom.com"
    assert MOCK_HOST == "https://mockapi.kiwoom.com"


ACCEPTED = {
    "https://api.kiwoom.com": "https://api.kiwoom.com",
    "https://api.kiwoom.com/": "https://api.kiwoom.com",
    "HTTPS://API.Kiwoom.COM": "https://api.kiwoom.com",
    "https://api.kiwoom.com:443": "https://api.kiwoom.com",
    "https://api.kiwoom.com:443/": "https://api.kiwoom.com",
    "api.kiwoom.com": "https://api.kiwoom.com",
    "API.KIWOOM.COM/": "https://api.kiwoom.com",
    "https://api.kiwoom.com:8443": "https://api.kiwoom.com:8443",
    "https://api.kiwoom.com:65535": "https://api.kiwoom.com:65535",
    "https://proxy_1.internal": "https://proxy_1.internal",
    "localhost": "https://localhost",
    "a" * 31: f"https://{'a' * 31}",
    f"{'a' * 32}.internal": f"https://{'a' * 32}.internal",
    "https://192.0.2.1": "https://192.0.2.1",
    "https://[2001:DB8::1]:8443": "https://[2001:db8::1]:8443",
    "[::1]": "https://[::1]",
    "https://[0:0:0:0:0:0:0:1]": "https://[::1]",
    "http://localhost": "http://localhost",
    "http://LOCALHOST:8080": "http://localhost:8080",
    "http://127.0.0.1:8080/": "http://127.0.0.1:8080",
    "http://127.0.0.1:80": "http://127.0.0.1",
    "http://127.255.255.254": "http://127.255.255.254",
    "http://[::1]:8080": "http://[::1]:8080",
    "https://127.0.0.1:80": "https://127.0.0.1:80",
    "http://127.0.0.1:443": "http://127.0.0.1:443",
}

REFUSED = [
    "", " ", "/", ":", "https://", "https:///", "https://:443", ".", "-", "[]", "https://[]",
    "https://api.kiwoom.com/api", "https://api.kiwoom.com//", "https://api.kiwoom.com?", "https://api.kiwoom.com/?a=b",
    "https://api.kiwoom.com#", "https://api.kiwoom.com/#a", "https://api.kiwoom.com\\", "https:\\\\api.kiwoom.com",
    "https://me@api.kiwoom.com", "https://me:pass@api.kiwoom.com", "https://@api.kiwoom.com", "me@api.kiwoom.com",
    "ftp://api.kiwoom.com", "ws://api.kiwoom.com", "wss://api.kiwoom.com", "file:///api.kiwoom.com",
    "https:api.kiwoom.com", "https:/api.kiwoom.com", "//api.kiwoom.com", "https://https://api.kiwoom.com",
    "api.kiwoom.com:443", "localhost:8080", "127.0.0.1:8080", "[::1]:8080",
    "https://api.kiwoom.com:", "https://api.kiwoom.com:0", "https://api.kiwoom.com:65536",
    "https://api.kiwoom.com:99999", "https://api.kiwoom.com:123456", "https://api.kiwoom.com:-1",
    "https://api.kiwoom.com:https", "https://api.kiwoom.com:4 4", "https://api.kiwoom.com:٤",
    " https://api.kiwoom.com", "https://api.kiwoom.com ", "https://api.kiwoom.com\n", "https://api.\tkiwoom.com",
    "https://api.kiwoom.com.", "https://-api.kiwoom.com", "https://.kiwoom.com", "https://*.kiwoom.com",
    "https://api%2ekiwoom.com", "https://아피.kiwoom.com", "https://\uff41pi.kiwoom.com", "https://api,kiwoom.com",
    "https://[::g]", "https://[1::2::3]", "https://[::1", "https://::1", "https://[127.0.0.1]", "https://[fe80::1%25a]",
    "http://api.kiwoom.com", "http://mockapi.kiwoom.com", "http://192.0.2.1", "http://[2001:db8::1]", "http://0.0.0.0",
    f"{'passkey-' * 3}_passkey", f"https://{'passkey-' * 3}_passkey", f"https://{'passkey-' * 4}passkey:443",
    "api..kiwoom.com", "https://api.kiwoom..com:443",
    "http://localhost.example", "http://127.0.0.1.example", "http://127.1", "http://2130706433", "http://10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize(("host", "url"), ACCEPTED.items())
def test_a_host_is_taken_in_its_one_spelling(host, url):
    assert Origin.from_host_argument(host).url == url


@pytest.mark.parametrize("host", REFUSED)
def test_what_is_no_origin_is_refused_without_being_shown(host):
    with pytest.raises(ValueError, match=r"^host ") as raised:
        Origin.from_host_argument(host)
    assert "pass" not in f"{raised.value!r}{raised.value.args}"
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("host", [None, b"https://api.kiwoom.com", 443, ["https://api.kiwoom.com"], object()])
def test_a_host_that_is_no_string_is_refused(host):
    with pytest.raises(TypeError, match=r"^host "):
        Origin.from_host_argument(host)


SAME = [
    "https://api.kiwoom.com/api/dostk/stkinfo", "https://api.kiwoom.com", "HTTPS://API.KIWOOM.COM/",
    "https://api.kiwoom.com:443/", "https://api.kiwoom.com/?a=b#c", "https://me:pass@api.kiwoom.com/",
    "https://api.kiwoom.com/@evil.example/", "https://api.kiwoom.com?@evil.example",
]  # fmt: skip
OTHER = [
    "https://api.kiwoom.com:8443/", "http://api.kiwoom.com/", "http://api.kiwoom.com:443/", "https://api.kiwoom.com./",
    "https://mockapi.kiwoom.com/", "https://api.kiwoom.com.evil.example/", "https://evil.example/api.kiwoom.com",
    "https://evilapi.kiwoom.com/", "https://api-kiwoom.com/", "https://api.kiwoom.com@evil.example/",
    "https://api.kiwoom.com:443@evil.example/", "https://api.kiwoom.co", "https://api.kiwoom.com%2eevil.example/",
]  # fmt: skip
NONE = [
    "wss://api.kiwoom.com:10000/", "ws://api.kiwoom.com/", "ftp://api.kiwoom.com/", "/api/dostk", "", "api.kiwoom.com",
    "https://", "https:///path", "https://[::1", "https://api.kiwoom.com:port/", "https://api.kiwoom.com:99999/",
    "mailto:api@api.kiwoom.com",
]  # fmt: skip


@pytest.mark.parametrize("url", SAME)
def test_a_call_to_the_same_scheme_host_and_port_is_covered(url):
    assert Origin.of_url(url) == Origin.from_host_argument(REAL_HOST)


@pytest.mark.parametrize("url", OTHER)
def test_a_call_to_anywhere_else_is_not(url):
    assert Origin.of_url(url) != Origin.from_host_argument(REAL_HOST)


def test_an_ipv6_address_with_a_zone_is_another():
    assert Origin.of_url("https://[fe80::1%25eth0]/") != Origin.of_url("https://[fe80::1]/")
    assert Origin.of_url("https://[fe80::1%25eth0]/") == Origin.of_url("https://[fe80::1%25eth0]:443/")


def test_what_only_looks_like_an_ipv6_address_is_taken_as_it_is():
    assert Origin.of("https", "[NO:address]", None) == ("https", "no:address", 443)
    assert Origin.of("https", "[]", None) is None


@pytest.mark.parametrize("url", NONE)
def test_what_is_no_http_url_has_no_origin(url):
    assert Origin.of_url(url) is None


@pytest.mark.parametrize(
    ("url", "kiwooms"),
    [
        ("https://api.kiwoom.com/", True), ("https://mockapi.kiwoom.com/", True), ("http://api.kiwoom.com/", True),
        ("https://API.KIWOOM.COM:8443/", True), ("https://mockapi.kiwoom.com./", True),
        ("https://openapi.kiwoom.com/", False), ("https://kiwoom.com/", False), ("https://www.kiwoom.com/", False),
        ("https://xapi.kiwoom.com/", False), ("https://api.kiwoom.com.evil.example/", False),
        ("https://127.0.0.1/", False),
    ],
)  # fmt: skip
def test_kiwooms_are_the_two_api_names_whatever_scheme_and_port(url, kiwooms):
    assert Origin.of_url(url).is_kiwoom is kiwooms


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True),
        ("128.0.0.1", False), ("0.0.0.0", False), ("::", False), ("api.kiwoom.com", False), ("localhost.", False),
        ("127.0.0.1.example", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine_and_nothing_else(host, loopback):
    assert Origin("https", host, 443).is_loopback is loopback


def test_an_ipv6_address_covers_calls_to_it_in_every_spelling():
    origin = Origin.from_host_argument("https://[0:0:0:0:0:0:0:1]:8443")
    for url in ("https://[::1]:8443/", "https://[0:0:0:0:0:0:0:1]:8443/", "https://[0000::1]:8443/"):
        assert Origin.of_url(url) == origin
    assert Origin.of("https", "0:0:0:0:0:0:0:1", 8443) == origin


# Whatever comes

names = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,30}[a-zA-Z0-9])?", fullmatch=True)
addresses = st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]")


@unhurried
@given(names | addresses, st.none() | st.integers(1, 65535), st.sampled_from(["", "/"]))
def test_an_origin_read_again_is_the_same(host, port, slash):
    origin = Origin.from_host_argument(f"https://{host}" + (f":{port}" if port else "") + slash)
    assert Origin.from_host_argument(origin.url) == origin
    assert Origin.of_url(origin.url) == Origin.of_url(f"{origin.url}/api/dostk/stkinfo") == origin
    assert Origin.from_host_argument(origin.url).url == origin.url


@unhurried
@given(st.text() | st.text(alphabet=string.ascii_lowercase + string.digits + ":/@.?#[]\\%-_ ").map("https://".__add__))
@example("https://[v1.x]")
def test_any_text_is_an_origin_or_a_value_error(host):
    try:
        origin = Origin.from_host_argument(host)
    except ValueError as error:
        told = str(error)
        assert told.startswith("host ")
    else:
        assert origin.scheme == "https" or origin.is_loopback
        assert Origin.from_host_argument(origin.url) == origin


@unhurried
@given(st.text() | st.text(alphabet=string.ascii_lowercase + string.digits + ":/@.?#[]\\%-_ ").map("https://".__add__))
@example("https://[v1.x]")
def test_any_text_is_a_url_with_an_origin_or_none(url):
    origin = Origin.of_url(url)
    assert origin is None or origin.scheme in {"http", "https"}
