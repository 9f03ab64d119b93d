"""How the cost of a call grows with appkeys and threads, as a table: ``python tests/benchmarks/growth.py [SVG]``.

``tox run -e bench`` runs it, and ``tox run -e freethreaded`` does on an interpreter without a GIL. All contestants take
turns in an order that is drawn each time; the figures are medians, with half of the distance of the quarters.
"""

import gc
import random
import sys
import sysconfig
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cachetools
import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import KiwoomBearerAuth
from kiwoom_auth_plugin._cache import DEFAULT_CACHE
from kiwoom_auth_plugin._clock import SYSTEM
from kiwoom_auth_plugin._keys import digest
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._route import Route
from kiwoom_auth_plugin._token import AccessToken
from tests.benchmarks.measure import Figure, figure, seconds
from tests.pictures.bars import draw

HOST = "https://api.kiwoom.com"
SECRETKEY = "benchmark-secretkey-0123456789abcdefghijklmn"
APPKEYS = (1, 10, 1_000, 100_000)
THREADS = (1, 2, 8, 64)
CALLS, THREADED = 20_000, 200_000
"""In each turn of a contestant; many more where there are threads, so that their waking up does not count."""
ROUNDS = 15

KEPT = "auth(prepared), the auth objects kept, by appkeys"
WALK = "only to come by a bare object of three, by objects"
MADE = "an auth object made for each call, by appkeys"
SHARED = "auth(prepared) of one object, by threads"
OWN = "auth(prepared) of an object for each thread, by threads"

Turn = Callable[[], float]
"""Seconds of the wall clock that a call takes."""


class Given:
    """An issue that costs nothing."""

    timeout = patience = 10.0
    route = Route(None, 10.0, "requests")
    log = Log("", HOST)

    def __call__(
        self, lookup: Callable[[bytes], AccessToken | None], *_takes_and_spent: object
    ) -> tuple[AccessToken, None]:
        """A token of the usual length."""
        of = digest(SECRETKEY)
        now = SYSTEM.now()
        return lookup(of) or AccessToken(f"{random.getrandbits(344):086x}", now, now + 86_400.0, of, now), None


class Bare:
    """An object that leads to another; reading it does nothing else."""

    def __init__(self, leads_to: object) -> None:
        self.leads_to = leads_to


def prepared() -> requests.PreparedRequest:
    """A request as requests hands it to its auth object."""
    return requests.Request("POST", f"{HOST}/api/dostk/stkinfo", headers={"api-id": "ka10001"}, json={}).prepare()


def signing(auths: Iterable[KiwoomBearerAuth]) -> None:
    """A call of each, one after another."""
    request = prepared()
    for auth in auths:
        auth(request)
        request.hooks = {"response": []}


class Appkeys:
    """So many appkeys with a token each in one cache."""

    def __init__(self, number: int) -> None:
        self._cache = cachetools.TLRUCache(200_000, DEFAULT_CACHE.ttu, timer=SYSTEM.now)
        self._appkeys = [f"{index:043d}" for index in range(number)]
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for appkey in self._appkeys:
            self._auth(appkey)._source.get(Given())
        gc.collect()
        self.bytes_cached = (tracemalloc.get_traced_memory()[0] - before) / number
        auths = [self._auth(appkey) for appkey in self._appkeys]
        for auth in auths:
            auth._source.get(Given())
        gc.collect()
        self.bytes_kept = (tracemalloc.get_traced_memory()[0] - before) / number
        tracemalloc.stop()
        self.auths = random.choices(auths, k=CALLS)
        self._auths = auths  # all of them, so that memory is as full as it is
        self._bare = random.choices([Bare(Bare(Bare(str(one)))) for one in range(number)], k=CALLS)

    def _auth(self, appkey: str) -> KiwoomBearerAuth:
        return KiwoomBearerAuth(appkey, SECRETKEY, host=HOST, cache=self._cache)

    def kept(self) -> float:
        """Calls of objects that are at hand."""
        return seconds(lambda: signing(self.auths)) / CALLS

    def walk(self) -> float:
        """No calls: what the processor's caches miss, in any program with so many objects."""
        bare: list[Any] = self._bare
        return seconds(lambda: [one.leads_to.leads_to.leads_to for one in bare]) / CALLS

    def made(self) -> float:
        """Calls whose object is made for them, like in ``requests.post(url, auth=KiwoomBearerAuth(...))``."""
        appkeys = random.choices(self._appkeys, k=CALLS)
        return seconds(lambda: signing(map(self._auth, appkeys))) / CALLS


class Threads:
    """So many threads that sign requests at once."""

    def __init__(self, auths: list[KiwoomBearerAuth]) -> None:
        self._auths = auths

    def turn(self) -> float:
        """From the moment that all are ready until the last has done its share."""
        barrier = threading.Barrier(len(self._auths) + 1)
        share = THREADED // len(self._auths)

        def sign(auth: KiwoomBearerAuth) -> None:
            mine = [auth] * share
            barrier.wait()
            signing(mine)
            barrier.wait()

        threads = [threading.Thread(target=sign, args=(auth,)) for auth in self._auths]
        for one in threads:
            one.start()
        barrier.wait()
        taken = seconds(barrier.wait)
        for one in threads:
            one.join()
        return taken / THREADED


def contestants(crowds: dict[int, Appkeys]) -> dict[tuple[str, int], Turn]:
    """All of them, by row and number."""
    found: dict[tuple[str, int], Turn] = {}
    for number, crowd in crowds.items():
        found[KEPT, number] = crowd.kept
        found[WALK, number] = crowd.walk
        found[MADE, number] = crowd.made
    distinct = list(dict.fromkeys(crowds[1_000].auths))
    for number in THREADS:
        found[SHARED, number] = Threads(distinct[:1] * number).turn
        found[OWN, number] = Threads(distinct[:number]).turn
    return found


def main(svg: str | None = None) -> None:
    """Print the table; with a path, draw it."""
    crowds = {number: Appkeys(number) for number in APPKEYS}
    turns = contestants(crowds)
    gc.collect()
    gc.freeze()  # the collector would look at 100,000 objects in whosever turn it is
    taken: dict[tuple[str, int], list[float]] = {name: [] for name in turns}
    order = list(turns)
    for _ in range(ROUNDS):
        random.shuffle(order)
        for name in order:
            taken[name].append(turns[name]())
    figures = {name: figure(values) for name, values in taken.items()}
    for (row, number), told in figures.items():
        times = told.median / figures[row, 1].median
        print(f"{row:56}{number:>8,}{told.median * 1e6:>9.2f} us{told.spread:>6.0%}{times:>7.2f}")
    most = crowds[max(APPKEYS)]
    print(f"memory of an appkey in the cache{most.bytes_cached:>41.0f} bytes")
    print(f"memory of an appkey with its auth object{most.bytes_kept:>33.0f} bytes")
    if svg:
        Path(svg).write_text(chart(figures), encoding="utf-8")


def chart(figures: dict[tuple[str, int], Figure]) -> str:
    """The same for the README, in microseconds."""
    groups: dict[str, dict[str, tuple[float, float]]] = {}
    for row in (KEPT, WALK, SHARED, OWN):
        groups[row] = {
            f"{number:,}": (told.median * 1e6, told.spread) for (of, number), told in figures.items() if of == row
        }
    gil = ", free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    version = ".".join(map(str, sys.version_info[:2]))
    return draw(f"What a call costs as appkeys and threads grow (CPython {version}{gil})", groups, "µs")


if __name__ == "__main__":
    main(*sys.argv[1:])
