"""What the tests share: a local Kiwoom, auth objects for it, a clock that is moved by hand, a clean environment."""

import os
import signal
import ssl
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from kiwoom_auth_plugin import KiwoomBearerAuth, _cache, _sources
from kiwoom_auth_plugin._clock import Clock
from kiwoom_auth_plugin.testing import KiwoomEmulator

pytest_plugins = ["kiwoom_auth_plugin.testing"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has it so for what it starts in the background, and the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

STORES = ["test_file_store.py", "test_processes.py", "test_seal.py", "test_shared_store.py"]
NEEDED = {
    "cryptography": STORES,
    "filelock": STORES,
    "platformdirs": STORES,
    "httpx2": ["test_leaving.py", "test_one_issue.py", "test_reentry.py", "test_refusal_storm.py"],
    "niquests": ["test_niquests.py"],  # it puts another urllib3 in place of requests' own: an environment of its own
}
collect_ignore = [file for library, files in NEEDED.items() if find_spec(library) is None for file in files]

OUTSIDE = [
    "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "https_proxy", "http_proxy", "no_proxy",
    "KIWOOM_APPKEY", "KIWOOM_HOST", "KIWOOM_SECRETKEY", "NETRC",
]  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No proxy, CA bundle, key or netrc of the machine reaches a test; the home directory is empty."""
    for variable in OUTSIDE:
        monkeypatch.delenv(variable, raising=False)
    home = str(tmp_path_factory.mktemp("home"))
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, home)


@pytest.fixture(autouse=True)
def no_tokens_of_other_tests() -> None:
    """A local Kiwoom may get the port, and keys that a test chooses, that another one had before."""
    _cache.DEFAULT_CACHE.clear()
    _sources._recent.clear()
    _sources._sources.clear()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class ManualClock(Clock):
    """A clock for ``KiwoomBearerAuth``: the wall and the monotonic clock move only as told, sleeping moves both."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self.wall_time = wall
        self.monotonic_time = 100_000.0
        self.slept: list[float] = []
        super().__init__(lambda: self.wall_time, lambda: self.monotonic_time, self._sleep)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.wall_time += seconds
        self.monotonic_time += seconds

    def suspend(self, seconds: float) -> None:
        """The laptop sleeps: the monotonic clock stands still."""
        self.wall_time += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall_time = seconds

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own: the options that change it go to ``remount``."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not Path("/proc/filesystems").exists():
        pytest.skip("only root of Linux may mount a file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


MakeAuth = Callable[..., KiwoomBearerAuth]


@pytest.fixture
def vouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """For a server at 127.0.0.1: the environment vouches for its certificate."""
    authority = pytest.importorskip("trustme").CA()  # there is none without a GIL
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(bundle)
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, bundle)
    return context


@pytest.fixture
def make_auth(kiwoom_emulator: KiwoomEmulator) -> MakeAuth:
    """Auth objects for ``kiwoom_emulator``: ``make_auth(clock=..., emulator=..., **options)``."""

    def make(*, emulator: KiwoomEmulator = kiwoom_emulator, clock: Clock | None = None, **options):
        kind = KiwoomBearerAuth
        if clock is not None:
            kind = type("KiwoomBearerAuth", (KiwoomBearerAuth,), {"_clock": clock})
            options.setdefault("cache", {})
        options.setdefault("host", emulator.url)
        keys = (options.pop("appkey", emulator.appkey), options.pop("secretkey", emulator.secretkey))
        return kind(*keys, **options)

    return make


@pytest.fixture
def auth(make_auth: MakeAuth) -> KiwoomBearerAuth:
    return make_auth()
