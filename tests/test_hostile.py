"""What a security reviewer tried without success: URLs and hosts that are not what they seem.

What was tried by way of answers and stores is in test_hostile_answers.py and test_hostile_stores.py.
"""

import ipaddress
from contextlib import closing, suppress
from urllib.parse import urlsplit

import httpx
import pytest
import requests
import requests.adapters
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiwoom_auth_plugin import HostMismatch, KiwoomBearerAuth

from .clients import CERTIFICATES, FAMILY, TR, every_module, token_answer

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)


def issuing():
    """A client for ``client=`` that always gets the token ``a-token``."""
    answer = httpx.Response(200, content=token_answer().partition(b"\r\n\r\n")[2])
    return httpx.Client(transport=httpx.MockTransport(lambda _: answer))


# The right place only: what counts is where the library connects to, however the URL is written


class Nowhere(Exception):
    """Instead of a connection."""


class RequestsDial(requests.adapters.HTTPAdapter):
    """Notes where requests is about to connect to."""

    def get_connection_with_tls_context(self, request, *args, **options):
        pool = super().get_connection_with_tls_context(request, *args, **options)
        raise Nowhere(pool.scheme, pool.host, pool.port, request.headers.get("Authorization"))


class HttpxDial:
    """Notes, in place of a transport's pool, where httpx is about to connect to."""

    def handle_request(self, request):
        headers = {name.lower(): value.decode() for name, value in request.headers}
        origin = request.url.origin
        raise Nowhere(origin.scheme.decode(), origin.host.decode(), origin.port, headers.get(b"authorization"))

    def close(self):
        pass


def requests_client():
    session = requests.Session()
    session.trust_env = False
    for scheme in ("https://", "http://"):
        session.mount(scheme, RequestsDial())
    return session


def httpx_client(module):
    transport = module.HTTPTransport(verify=CERTIFICATES)
    transport.close()
    transport._pool = HttpxDial()
    return module.Client(transport=transport)


def canonical(scheme, host, port):
    host = host.strip("[]").lower()
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return scheme.lower(), host, port or {"https": 443, "http": 80}.get(scheme.lower())


def dial(client, url, auth):
    """Where a call goes to and what it carries, or the exception that it ends with instead."""
    try:
        client.get(url, auth=auth)
    except Nowhere as connection:
        *place, header = connection.args
        return canonical(*place), header
    except Exception as error:  # noqa: BLE001 - the libraries have many for a URL that is none
        return type(error), None
    raise AssertionError("nobody answers")


KIWOOMS = {"api.kiwoom.com", "mockapi.kiwoom.com"}
OWN = ["https://api.kiwoom.com", "https://proxy.example:8443", "http://127.0.0.1:8080", "https://[2001:db8::1]:8443"]
anything = st.characters(codec="utf-8") | st.sampled_from(
    "\\/@:?#[]%.\t\r\n\x00\x7f\u202e\u200d\u00ad\u3002\uff0e\uff61"
)


@st.composite
def urls_around(draw, own):
    """The own origin, written in ways that parsers are known to disagree about, with something else around it."""
    parts = urlsplit(own)
    host = parts.netloc.rpartition(":")[0] if parts.port else parts.netloc
    port = f":{parts.port}" if parts.port else ""

    def one(*usual, of):
        return draw(st.sampled_from([*usual] * 3 + of))

    spelt = [host.upper(), f"{host}.", f"{host}..", host.replace(".", "%2e"), host.replace(".", "。"), f".{host}"]
    spelt += [f"{host}.evil.example", f"evil{host}", f"{host}\\.evil.example", f"{host}%00", f"{host}\x00", f"\t{host}"]
    spelt += [f"{host[:2]}\u00ad{host[2:]}", f"{host[:2]}\n{host[2:]}", "".join(chr(ord(c) + 0xFEE0) for c in host)]
    spelt += ["evil.example", "mockapi.kiwoom.com", "xn--80ak6aa92e.example", "bücher.example", "2130706433", "0x7f.1"]
    spelt += ["[::1]", "[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1%25lo]", "[::ffff:127.0.0.1]", "127.1", "0177.0.0.1", ""]
    scheme = one(parts.scheme, of=["http", "https", "HTTPS", "hTTp", "wss", "", " https", "ht\ttps", "\x00https"])
    slashes = one("://", of=[":/", ":", ":///", ":\\\\", "://\t", ":/\\/"])
    ahead = ["me@", "me:pass@", "evil.example@", "evil.example:443@", "@", "%40@", "a\\@", "a/@", "#@", "?@", "a@b@"]
    behind = [":443", ":80", ":8443", ":0", ":", ":08443", ":٤٤٣", ":443 ", ":65979", ":73616", ":-443", ":443@evil.io"]
    path = ["", "?a=b", "\\@evil.example/", "/@evil.example", "?@evil.example", "#@evil.example", "@evil.example", "//"]
    url = scheme + slashes + one("", of=ahead) + one(host, of=spelt) + one(port, of=behind) + one(TR, of=path)
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(url)))
        url = url[:place] + draw(anything) + url[place:]
    return url


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("library", [requests, *FAMILY], ids=lambda library: library.__name__)
def test_the_token_goes_where_the_library_connects_to_the_own_origin_and_nowhere_else(library, own):
    own_place = canonical(urlsplit(own).scheme, urlsplit(own).hostname, urlsplit(own).port)
    met = set()

    @unhurried
    @given(urls_around(own))
    @example(own + TR)
    @example("https://evil.example/")
    def check(url):
        place, _ = dial(client, url, lambda request: request)
        place_with_auth, header = dial(client, url, auth)
        assert header == ("Bearer a-token" if place_with_auth == own_place else None)
        if place_with_auth is HostMismatch:  # or the library would not have taken the URL either
            assert isinstance(place, type) or (place != own_place and place[1].removesuffix(".") in KIWOOMS)
        else:
            assert place_with_auth == place  # the call is otherwise left alone
        met.add(header)

    opened = requests_client() if library is requests else httpx_client(library)
    with closing(opened) as client, issuing() as endpoint:
        auth = KiwoomBearerAuth("appkey-0123456789", "secretkey-0123456789", host=own, cache={}, client=endpoint)
        check()
    assert met == {"Bearer a-token", None}


@every_module
def test_an_own_host_with_an_international_name_gets_the_token(module):
    own = "https://xn--bcher-kva.example"
    with closing(httpx_client(module)) as client, issuing() as endpoint:
        auth = KiwoomBearerAuth("appkey-0123456789", "secretkey-0123456789", host=own, cache={}, client=endpoint)
        assert dial(client, own + TR, auth)[1] == "Bearer a-token"


NO_HOSTS = {
    "one letter": "a" * 200_000,
    "an https origin": "https://" + "a" * 200_000,
    "labels": "https://" + "a." * 100_000 + "a",
    "dots": "https://a" + "." * 200_000 + "a/b",
    "hyphens": "https://a" + "-" * 200_000,
    "a port": "https://api.kiwoom.com:" + "9" * 200_000,
    "a port in Arabic digits": "https://api.kiwoom.com:" + "\u0664" * 200_000,
    "an address in Arabic digits": "http://" + "\u0661\u0662\u0667.0.0.1" * 20_000,
    "full-width letters": "https://" + "\uff41" * 200_000,
    "ideographic full stops": "https://api" + "\u3002" * 200_000 + "com",
    "superscript digits": "https://127.0.0.\u00b9" * 12_500,
    "colons": f"https://[{':' * 200_000}]",
    "an endless IPv6 address": f"https://[{'0:' * 100_000}1]",
    "brackets": "https://" + "[" * 200_000,
    "slashes": "https://api.kiwoom.com" + "/" * 200_000,
    "a Kelvin sign for a k": "https://api.\u212aiwoom.com",
    "a long s": "\u017fub.example",
    "surrogates": "\ud800" * 200_000,
}


@pytest.mark.parametrize("host", NO_HOSTS.values(), ids=NO_HOSTS)
def test_a_host_that_is_none_is_a_value_error_that_does_not_show_it(host):
    with pytest.raises(ValueError, match=r"^host ") as raised:
        KiwoomBearerAuth("appkey-0123456789", "secretkey-0123456789", host=host)
    assert len(repr(raised.value)) < 300
    assert host[-30:] not in str(raised.value)
