"""Tens of thousands of callers that are cancelled, timed out or killed at any moment, in threads, asyncio and trio.

Not in the default run: ``pytest -m stress``. The seed is printed, and can be given as ``KIWOOM_STRESS_SEED``.
"""

import contextlib
import os
import random
import threading
from collections import Counter

import anyio
import pytest
import requests

from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import KiwoomEmulator, recorded

from ..crowd import PATIENCE, land  # noqa: TID252 - tests are not installed

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("error")]

ROUNDS = 150
ENOUGH = {"cancelled": 30_000, "killed": 100}
"""Callers that left. Without a GIL fewer are still waiting when they are to leave: it takes more rounds."""
TASKS = 250
LOOPS = ("asyncio", "asyncio", "trio")
THREADS = 20
CALLS = 500


class Interrupted(BaseException):
    """What a thread is killed with, in the middle of its AU10001."""


class Killing(requests.adapters.HTTPAdapter):
    """Kills the caller in every third exchange or so, before or after the server has seen it."""

    def __init__(self, chance):
        super().__init__()
        self._chance = chance

    def send(self, *args, **options):
        if self._chance.random() < 0.15:
            raise Interrupted
        answer = super().send(*args, **options)
        if self._chance.random() < 0.15:
            raise Interrupted
        return answer


class Overlap:
    """Lets parked exchanges go one by one, and keeps the largest number that were there at once."""

    def __init__(self, kiwoom):
        self._gate = kiwoom.hold()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._over.set()
        self._thread.join()
        self._gate.release()

    def _watch(self):
        while not self._over.is_set():
            try:
                self._gate.wait_for(1, timeout=0.05)
            except TimeoutError:
                continue
            with contextlib.suppress(TimeoutError):
                self._gate.wait_for(2, timeout=0.002)  # one that comes while this one is under way is seen
            self.most = max(self.most, self._gate.parked)
            self._gate.release(1)


class Turmoil:
    """Callers of every kind, a short-lived auth object each, and a server that gives them trouble."""

    def __init__(self, kiwoom, seed):
        self._kiwoom = kiwoom
        self._seed = seed
        self._session = requests.Session()
        self._session.mount("http://", Killing(random.Random(seed)))
        self._counting = threading.Lock()
        self.counts = Counter()

    def auth(self):
        kiwoom = self._kiwoom
        return KiwoomBearerAuth(kiwoom.appkey, kiwoom.secretkey, host=kiwoom.url, client=self._session)

    def calm(self):
        self._session.mount("http://", requests.adapters.HTTPAdapter())
        self._kiwoom._desk.scripts.clear()
        self.auth().invalidate("whatever")

    def loop(self, backend, number):
        chance = random.Random(self._seed * 1000 + number)

        async def main():
            for done in range(10 * ROUNDS):
                if done >= ROUNDS and self._has_enough("cancelled"):
                    break
                self._trouble(chance)
                async with anyio.create_task_group() as tasks:
                    for _ in range(TASKS):
                        tasks.start_soon(self._task, chance)
                    if chance.random() < 0.1:
                        tasks.cancel_scope.cancel()

        anyio.run(main, backend=backend)

    def thread(self, number):
        chance = random.Random(self._seed * 2000 + number)
        for done in range(10 * CALLS):
            if done >= CALLS and self._has_enough("killed"):
                break
            if chance.random() < 0.2:
                self._trouble(chance)
            try:
                self.auth().get_token()
            except Interrupted:
                self._count("killed")
            except KiwoomAuthError:
                self._count("failed")
            else:
                self._count("answered")

    async def _task(self, chance):
        with anyio.move_on_after(chance.choice([0, 0, 0.0005, 0.002, 0.005, PATIENCE])) as scope:
            if chance.random() < 0.3:
                scope.cancel()
            try:
                await self.auth().aget_token()
            except KiwoomAuthError:
                self._count("failed")
            else:
                self._count("answered")
        if scope.cancelled_caught:
            self._count("cancelled")

    def _trouble(self, chance):
        auth = self.auth()
        token = auth._source.token
        auth.invalidate(token.value if token else "none")
        if chance.random() < 0.1:
            self._kiwoom.expire_tokens()
        if chance.random() < 0.02:
            self._kiwoom.script("/oauth2/token", recorded.BAD_KEY_PAIR)

    def _has_enough(self, what):
        return self.counts[what] > ENOUGH[what]

    def _count(self, what):
        with self._counting:
            self.counts[what] += 1


def test_tens_of_thousands_of_cancellations_leave_nobody_stuck():
    seed = int(os.environ.get("KIWOOM_STRESS_SEED", "20241107"))
    print(f"seed {seed}")
    with KiwoomEmulator(reissue="replace") as kiwoom, Overlap(kiwoom) as overlap:
        turmoil = Turmoil(kiwoom, seed)
        runs = [(turmoil.loop, (backend, number)) for number, backend in enumerate(LOOPS)]
        runs += [(turmoil.thread, (number,)) for number in range(THREADS)]
        threads = [threading.Thread(target=run, args=arguments, daemon=True) for run, arguments in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20 * PATIENCE)
            assert not thread.is_alive(), f"somebody is stuck (seed {seed})"
        land()
        turmoil.calm()
        assert turmoil.auth().get_token() == kiwoom.token
        assert turmoil.auth()._source._flight is None
    print(dict(turmoil.counts), f"{len(kiwoom.calls('au10001'))} exchanges, {overlap.most} at once")
    assert overlap.most == 1
    assert all(turmoil.counts[what] > enough for what, enough in ENOUGH.items())
