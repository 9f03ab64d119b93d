"""Real Redis or Valkey servers on loopback for the tests of the store: plain, TLS, Sentinel, one-node cluster."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest

from .crowd import PATIENCE

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
_MISSING = [f"the package {name}" for name in ("redis", "cryptography") if find_spec(name) is None]
if SERVER is None:
    _MISSING.append("redis-server or valkey-server on PATH")

needs_redis = pytest.mark.skipif(bool(_MISSING), reason=f"needs {' and '.join(_MISSING)}")


def free_port() -> int:
    """A port that nobody listens at, low enough that a cluster's bus finds its own 10000 above."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


class RedisServer:
    """A server in a temporary directory, which nothing outlives. A context manager.

    Args:
        *options: of the server's command line, such as ``"--requirepass", "secret"``.
        ready: what it logs when it has started.
    """

    def __init__(self, *options: str, ready: str = "Ready to accept connections") -> None:
        self._options = options
        self._ready = ready
        self.port = free_port()
        """Where it listens, on 127.0.0.1; the same after a restart."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name)
        """Its working directory."""
        try:
            self._prepare()
            self._start()
            self._arrange()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if hasattr(self, "_process"):
            self.kill()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        """What ``redis.from_url`` takes."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """A client of redis-py, which the caller closes."""
        import redis

        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def stop(self) -> None:
        """Have it shut down."""
        self.resume()
        self._end(self._process.terminate)

    def kill(self) -> None:
        """Kill it, paused or not."""
        self._end(self._process.kill)

    def pause(self) -> None:
        """Have it hang: connections are accepted by the kernel, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Have it go on after a pause."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again at the same port, empty."""
        self.stop()
        self._start()

    def wait_for_log(self, text: str) -> None:
        """Wait until it has logged something since it was started."""
        with self._logged:
            found = self._logged.wait_for(lambda: self._over or text in self._log, PATIENCE)
        assert found, f"the server has not logged {text!r}:\n{self._log}"
        assert text in self._log, f"the server has ended:\n{self._log}"

    def _prepare(self) -> None:
        """What a kind of server needs before it starts."""

    def _arrange(self) -> None:
        """What a kind of server needs after it has started for the first time."""

    def _command(self) -> list[str]:
        return [
            str(SERVER), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.path),
            "--save", "", "--appendonly", "no", *self._options,
        ]  # fmt: skip

    def _start(self) -> None:
        self._log = ""
        self._over = False
        self._logged = threading.Condition()
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        # Where the tests are killed their end of its pipe closes, and the server is not left behind.
        self._guard = subprocess.Popen(["sh", "-c", f"read _; kill -9 {self._process.pid}"], stdin=subprocess.PIPE)
        self.wait_for_log(self._ready)

    def _read(self, pipe: Any) -> None:
        with pipe:
            for line in pipe:
                with self._logged:
                    self._log += line
                    self._logged.notify_all()
        with self._logged:
            self._over = True
            self._logged.notify_all()

    def _end(self, end: Callable[[], None]) -> None:
        self._guard.kill()  # first: the number of a process that is gone may be another's
        self._guard.communicate()
        end()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)


class TLSServer(RedisServer):
    """A server that speaks TLS only; its certificate is for 127.0.0.1, issued by the authority in ``ca``."""

    @property
    def ca(self) -> str:
        """The file with the authority's certificate."""
        return str(self.path / "ca.pem")

    def _prepare(self) -> None:
        import trustme

        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.ca)
        certificate.cert_chain_pems[0].write_to_path(self.path / "cert.pem")
        certificate.private_key_pem.write_to_path(self.path / "key.pem")

    def _command(self) -> list[str]:
        return [
            *super()._command(), "--port", "0", "--tls-port", str(self.port), "--tls-ca-cert-file", self.ca,
            "--tls-cert-file", str(self.path / "cert.pem"), "--tls-key-file", str(self.path / "key.pem"),
            "--tls-auth-clients", "no",
        ]  # fmt: skip


class SentinelServer(RedisServer):
    """A Sentinel that watches one master, called ``main``."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__(ready="+monitor master main")
        self._master = master

    def _prepare(self) -> None:
        (self.path / "sentinel.conf").write_text(f"sentinel monitor main 127.0.0.1 {self._master.port} 1\n")

    def _command(self) -> list[str]:
        return [
            str(SERVER), str(self.path / "sentinel.conf"), "--sentinel",
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.path),
        ]  # fmt: skip


class ClusterServer(RedisServer):
    """A cluster of one node that serves all slots."""

    def __init__(self) -> None:
        super().__init__("--cluster-enabled", "yes")

    def _arrange(self) -> None:
        with self.client() as admin:
            admin.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        self.wait_for_log("Cluster state changed: ok")
