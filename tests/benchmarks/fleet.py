"""A fleet that shares its tokens through Redis, as a table: ``python tests/benchmarks/fleet.py``.

This is a model: seeded random numbers and virtual time, no sockets, threads or sleeping. It answers how often AU10001
is called, how many calls are refused, and what Redis has to do, for 100,000 appkeys on 10,000 processes over three
days; for both things that are said of the server: an issue while a token is valid brings the same one, or another one
that kills it.

Of the package's own, not written once more: what a token source decides about tokens (``TokenSource._takes``,
``_adopt``, ``drop_refused``, ``judge_replacement``), ``Refresh``, ``Refusals``, the health of a store (``Place``), and
all pauses. Modelled, in the order in which the package does it: the way of an exchange through the store (``Visit`` and
``RedisStore``: GET; SET NX; GET; AU10001; GET; SET; EVAL; looks and polls while another process has the lock), restarts
that lose a process's memory, a Redis that is away and comes back with or without its values, ``expires_dt`` and
``Date`` in whole seconds. ``tests/test_fleet.py`` compares the model with the package itself.

Not modelled: AU10001 that fails (the calls beyond two a second for one appkey are counted, not turned away), calls that
are on their way while a token is replaced, Redis commands that hang or fail half-way (away, it fails at once), locks
that outlive their holder, clocks that differ, weekends, what a Redis client does of its own accord, and the time that a
Redis command takes. AU10001 has its effect on the server when it is sent. Without a store appkeys have nothing to do
with one another: there a few of them stand for all, and the peak is the average of the busiest minute.
"""

import argparse
import gc
import heapq
import logging
import math
import random
import sys
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

if not __package__:  # run as a program
    sys.path.insert(0, str(Path(__file__).parents[2]))

from kiwoom_auth_plugin import _chance, _exchange, _refused, _shared
from kiwoom_auth_plugin._log import Log
from kiwoom_auth_plugin._place import FIRST_PAUSE, LONGEST_PAUSE, Place
from kiwoom_auth_plugin._refresh import REFRESH_PAUSE, SAME_TOKEN_PAUSE, Refresh
from kiwoom_auth_plugin._refused import Refusals
from kiwoom_auth_plugin._rest import Rest
from kiwoom_auth_plugin._source import TokenSource
from kiwoom_auth_plugin._token import AccessToken
from kiwoom_auth_plugin.errors import InvalidTokenResponse
from kiwoom_auth_plugin.stores import _redis

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
OPENING, CLOSING = 8 * HOUR, 20 * HOUR
"""Of the markets, in seconds of the day in KST; on day one everything is started from the opening on."""
MARGIN = 300.0
"""Seconds: the default of ``refresh_margin``."""
LIMIT = 2
"""AU10001 calls a second that the server is said to admit for one appkey."""
SAMPLE = {"same": 5_000, "replace": 10}
"""Appkeys that stand for all where there is no store: in the second model each call of each of them matters."""
LOG = Log("", "")
EXPIRED_MEANWHILE = InvalidTokenResponse("its token has no second left", retryable=True)


def main() -> None:
    """Print the assumptions and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=Fleet.seed)
    parser.add_argument("--appkeys", type=int, default=Fleet.appkeys)
    parser.add_argument("--machines", type=int, default=Fleet.machines)
    parser.add_argument("--days", type=int, default=Fleet.days)
    parser.add_argument("--spread", type=float, default=Fleet.spread, help="seconds within which everything is started")
    fleet = Fleet(**vars(parser.parse_args()))
    gc.disable()  # there are no cycles, and very many objects
    print(assumptions(fleet))
    print()
    print(heading())
    for server in ("same", "replace"):
        for store in STORES:
            print(row(fleet, server, store), flush=True)
    print()
    print(jitter(fleet))


@dataclass(frozen=True)
class Outage:
    """A time without Redis.

    Args:
        start: seconds since the first midnight.
        end: likewise.
        loses: whether what was in it before is lost.
    """

    start: float
    end: float
    loses: bool


@dataclass(frozen=True)
class Fleet:
    """What the model assumes.

    Args:
        seed: of all chance.
        appkeys: so many.
        machines: so many; appkeys are dealt out evenly to their processes.
        days: from the first midnight to the last.
        spread: seconds from the opening of day one within which the processes are started, evenly.
        processes: of one machine.
        users: processes, on different machines, that use one appkey.
        exchange: seconds that AU10001 takes.
        busy: seconds between two calls of one process with one appkey while the markets are open, on average.
        idle: likewise while they are closed.
        machine_life: seconds between two restarts of one machine, on average; infinite: none.
        process_life: likewise of one process alone.
        machine_down: seconds that a restart takes.
        process_down: likewise.
        failovers: times that Redis is away; every other time it loses its values.
    """

    seed: int = 20_260_105
    appkeys: int = 100_000
    machines: int = 200
    days: int = 3
    spread: float = 30 * MINUTE
    processes: int = 50
    users: int = 5
    exchange: float = 0.2
    busy: float = 10.0
    idle: float = 300.0
    machine_life: float = 2 * DAY
    process_life: float = 7 * DAY
    machine_down: float = 60.0
    process_down: float = 5.0
    failovers: int = 6

    def outages(self) -> list[Outage]:
        """When Redis is away: one time in the middle of a morning's refreshes, else at any time of the days."""
        chance = random.Random(f"{self.seed} outages")
        starts = [chance.uniform(OPENING, self.days * DAY) for _ in range(self.failovers)]
        if self.days > 1:
            starts[:1] = [DAY + OPENING + self.spread / 2][: len(starts)]
        lengths = [5.0 * 60.0 ** chance.random() for _ in starts]
        losses = [number % 2 == 1 for number in range(len(starts))]
        return [
            Outage(start, start + length, loses) for start, length, loses in zip(starts, lengths, losses, strict=True)
        ]

    def restarts(self, process: int) -> list[tuple[float, float]]:
        """When a process goes down, and is up again: its start, its machine's restarts, and its own."""
        chance = random.Random(f"{self.seed} process {process}")
        own = _moments(chance, self.process_life, self.days * DAY)
        machine = random.Random(f"{self.seed} machine {process // self.processes}")
        shared = _moments(machine, self.machine_life, self.days * DAY)
        begin = OPENING + chance.uniform(0.0, self.spread)
        downs = [(down, down + self.process_down) for down in own] + [
            (down, down + self.machine_down) for down in shared
        ]
        return [(0.0, begin), *sorted(moment for moment in downs if moment[0] > begin)]

    def process_of(self, appkey: int, user: int) -> int:
        """The process that is the appkey's ``user``-th; no two of them are on one machine."""
        machine = (appkey + user * (self.machines // self.users)) % self.machines
        return machine * self.processes + appkey // self.machines % self.processes

    def requests(self) -> float:
        """Calls to the API, of all processes with all appkeys."""
        open_for, first = CLOSING - OPENING, DAY - OPENING
        all_day = open_for / self.busy + (DAY - open_for) / self.idle
        first_day = open_for / self.busy + (first - open_for) / self.idle
        return self.appkeys * self.users * (first_day + (self.days - 1) * all_day)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The package's own chance, decided by a seed."""
    drawn = random.Random(seed)
    _chance.chance.random, _chance.chance.uniform = drawn.random, drawn.uniform
    try:
        yield
    finally:
        del _chance.chance.random, _chance.chance.uniform


def _moments(chance: random.Random, life: float, end: float) -> list[float]:
    moments: list[float] = []
    moment = chance.expovariate(1.0) * life
    while moment < end:
        moments.append(moment)
        moment += chance.expovariate(1.0) * life
    return moments


class Usage:
    """When a process uses an appkey: at any moment as likely as at the next, more often while the markets are open.

    Args:
        fleet: how often.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._draw = random.Random(f"{fleet.seed} usage").random
        self._busy = fleet.busy
        self._idle = fleet.idle

    def next(self, _pair: int, after: float) -> float:
        """The first use after a moment."""
        left = -math.log(1.0 - self._draw())
        while True:
            midnight = after // DAY * DAY
            mean, until = self._idle, midnight + DAY + OPENING
            if after < midnight + OPENING:
                until = midnight + OPENING
            elif after < midnight + CLOSING:
                mean, until = self._busy, midnight + CLOSING
            if after + left * mean <= until:
                return after + left * mean
            left -= (until - after) / mean
            after = until


class Now:
    """The one clock of all."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Seconds since the first midnight."""
        return self.time


class Issued:
    """One appkey at the server and in Redis."""

    __slots__ = ("before", "expires", "kept", "kept_at", "latest", "locked_until", "value")

    def __init__(self) -> None:
        self.value = ""
        """The token that is valid until..."""
        self.expires = 0.0
        self.kept: AccessToken | None = None
        """What Redis keeps since..."""
        self.kept_at = 0.0
        self.before: tuple[AccessToken | None, float] = (None, 0.0)
        """...and what it kept before that."""
        self.locked_until = 0.0
        self.latest = (-DAY,) * LIMIT
        """When AU10001 was called last."""


class Trip:
    """What a ``Flight`` is to the decisions of a token source."""

    __slots__ = ("refresh", "refused")
    landed = False

    def __init__(self, *, refresh: bool, refused: AccessToken | None) -> None:
        self.refresh = refresh
        self.refused = refused


class Holder(TokenSource):
    """One process's token source for one appkey; the model takes it through virtual time.

    Args:
        clock: of all.
        rest: of all, since no AU10001 fails.
        appkey: its number.
        process: its number.
    """

    __slots__ = ("appkey", "at", "down", "life", "process", "since", "then")

    def __init__(self, clock: Now, rest: Rest, appkey: int, process: int) -> None:
        self._clock = clock  # type: ignore[assignment]
        self._rest = rest
        self._host = ""
        self.token = None
        self.appkey = appkey
        self.process = process
        self.at = 0.0
        """When it does next what matters: its first use..."""
        self.since = 0.0
        """...from this moment on."""
        self.life = self.then = -1
        """How often its process has been restarted, and will have been by then."""
        self.down = 0.0
        """When it is restarted next."""

    def begin(self, refresh: Refresh) -> None:
        """Know nothing."""
        self.token = None
        self._refusals = Refusals()
        self._refresh = refresh


class Health(Place):
    """What one process knows of Redis.

    Args:
        since: when it found out first that it may be away.
    """

    def __init__(self, since: float) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.since = since


class SteadyRefresh(Refresh):
    """A refresh without jitter: due from the whole margin on."""

    __slots__ = ()

    def draw(self) -> None:
        """Leave it to chance no more."""


STORES: dict[str, tuple[bool, type[Refresh]]] = {
    "none": (False, Refresh),
    "Redis, no jitter": (True, SteadyRefresh),
    "Redis": (True, Refresh),
}
"""Whether there is a store, and how refreshes are scheduled."""


@dataclass
class Counts:
    """What happened."""

    issues: "array[int]"
    """AU10001 calls of each second."""
    commands: "array[int]"
    """Of Redis in each second."""
    by_appkey: "array[int]"
    """AU10001 calls of each appkey on each day."""
    refused: int = 0
    """Calls whose first attempt was refused: 8005."""
    failed: int = 0
    """Calls whose caller saw that."""
    beyond: int = 0
    """AU10001 calls beyond the limit of their appkey."""
    log: list[tuple[float, int, str]] = field(default_factory=list)
    """Of a model that keeps one: when, which pair of process and appkey, what."""


class Model:
    """The fleet in virtual time.

    Args:
        fleet: what is assumed.
        server: ``"same"`` or ``"replace"``.
        shared: whether there is a Redis store.
        refresh: how refreshes are scheduled.
        appkeys: how many are looked at; None: all.
        usage: when processes use appkeys; None: as the fleet has it.
        outages: when Redis is away; None: likewise.
        restarts: of each process; None: likewise.
        keeps_log: whether to note what happens.
    """

    def __init__(
        self,
        fleet: Fleet,
        server: str,
        *,
        shared: bool = True,
        refresh: type[Refresh] = Refresh,
        appkeys: int | None = None,
        usage: Usage | None = None,
        outages: Sequence[Outage] | None = None,
        restarts: Sequence[Sequence[tuple[float, float]]] | None = None,
        keeps_log: bool = False,
    ) -> None:
        self._fleet = fleet
        self._replaces = server == "replace"
        self._shared = shared
        self._refresh = refresh
        self._usage = usage or Usage(fleet)
        self._clock = Now()
        self._end = fleet.days * DAY
        self._keeps_log = keeps_log
        number = fleet.appkeys if appkeys is None else appkeys
        outages = sorted(fleet.outages() if outages is None else outages, key=lambda outage: outage.start)
        self._changes = sorted(moment for outage in _merged(outages) for moment in outage)
        seconds = int(self._end) + 60  # what an exchange does after the end has a place, too
        self._is_troubled = bytearray(seconds)
        for outage in outages:
            for second in range(int(outage.start), min(int(outage.end) + 1, seconds)):
                self._is_troubled[second] = 1
        self._losses = [outage.start for outage in outages if outage.loses]
        processes = range(fleet.machines * fleet.processes)
        self._restarts = [fleet.restarts(process) for process in processes] if restarts is None else restarts
        self._places: dict[int, Health] = {}
        self._appkeys = [Issued() for _ in range(number)]
        rest = Rest()
        self._holders = [
            Holder(self._clock, rest, appkey, fleet.process_of(appkey, user))
            for appkey in range(number)
            for user in range(fleet.users)
        ]
        self._chance = random.Random(f"{fleet.seed} polls").uniform
        self._buckets: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
        self._heap: list[tuple[float, int]] = []
        self._second = -1
        self.counts = Counts(
            array("I", bytes(4 * seconds)), array("I", bytes(4 * seconds)), array("I", bytes(4 * number * fleet.days))
        )

    def run(self) -> Counts:
        """Let the days pass."""
        warnings = logging.getLogger("kiwoom_auth_plugin")
        warnings.disabled = True
        try:
            with seeded(self._fleet.seed):
                for pair, holder in enumerate(self._holders):
                    self._plan(pair, holder, 0.0)
                for second in range(int(self._end)):
                    bucket = self._buckets.pop(second, None)
                    if bucket is not None:
                        self._pass(second, bucket)
        finally:
            warnings.disabled = False
        return self.counts

    def _pass(self, second: int, bucket: list[tuple[float, int]]) -> None:
        heapq.heapify(bucket)
        self._second, self._heap = second, bucket
        while bucket:
            moment, pair = heapq.heappop(bucket)
            holder = self._holders[pair]
            if moment == holder.at:
                self._use(pair, holder, moment)

    # A process

    def _plan(self, pair: int, holder: Holder, after: float) -> None:
        """Find out when it does next what matters, after a moment from which on it goes by what it knows now."""
        token, life = holder.token, holder.life
        holder.since = after if token is None else max(after, self._first_change(holder, token, after))
        moment, down = self._usage.next(pair, holder.since), holder.down
        if moment >= down:
            lives = self._restarts[holder.process]
            while moment >= down and life + 1 < len(lives):
                life += 1
                down = lives[life + 1][0] if life + 1 < len(lives) else math.inf
                moment = self._usage.next(pair, lives[life][1])
        holder.then = life
        self._schedule(pair, holder, moment)

    def _restart(self, holder: Holder) -> None:
        """The process has lost its memory since it was here last."""
        lives = self._restarts[holder.process]
        place = self._places.get(holder.process)
        if place is not None and place.since < lives[holder.then][0]:
            del self._places[holder.process]
        holder.life = holder.then
        holder.down = lives[holder.life + 1][0] if holder.life + 1 < len(lives) else math.inf
        holder.begin(self._refresh())

    def _first_change(self, holder: Holder, token: AccessToken, after: float) -> float:
        appkey = self._appkeys[holder.appkey]
        if appkey.value != token.value:
            return after
        change = min(token.deadline, appkey.expires)
        refresh = holder._refresh
        margin = min(MARGIN * refresh._share, (token.deadline - token.issued_at) / 2)
        return min(change, max(token.deadline - margin, refresh._from))

    def _schedule(self, pair: int, holder: Holder, moment: float) -> None:
        holder.at = moment
        if moment < self._end:
            second = int(moment)
            if second == self._second:
                heapq.heappush(self._heap, (moment, pair))
            else:
                self._buckets[second].append((moment, pair))

    def _use(self, pair: int, holder: Holder, now: float) -> None:
        """A call with the appkey, as ``KiwoomBearerAuth`` makes it."""
        self._clock.time = now
        if holder.then > holder.life:
            self._restart(holder)
        token, over = holder.token, now
        if token is None or now >= token.deadline:
            token, over = self._get(pair, holder, now)
            accepted = self._accepts(holder, token, over)
        else:
            accepted = self._accepts(holder, token, now)
            if token.deadline - now <= MARGIN and holder._refresh.is_due(token, MARGIN, now):
                holder._refresh.pause(now)
                _, over = self._fly(pair, holder, Trip(refresh=True, refused=holder._refusals.latest), now)
        if not accepted:
            over = self._replace(pair, holder, token, over)
        self._plan(pair, holder, over)

    def _get(self, pair: int, holder: Holder, now: float) -> tuple[AccessToken, float]:
        return self._fly(pair, holder, Trip(refresh=False, refused=holder._refusals.latest), now)

    def _replace(self, pair: int, holder: Holder, token: AccessToken, now: float) -> float:
        """The call was refused: it is sent again with another token, if there is one; when that is over."""
        self._clock.time = now
        self.counts.refused += 1
        self._note(now, pair, "refused")
        if not holder.drop_refused(token.value, LOG):
            self.counts.failed += 1
            self._note(now, pair, "failed")
            return now
        other = holder.token
        if other is None or now >= other.deadline:
            other, now = self._get(pair, holder, now)
        accepted = other.value != token.value and self._accepts(holder, other, now)
        if other.value != token.value:
            holder.judge_replacement(other, accepted=accepted)
        if not accepted:
            self.counts.failed += 1
            self._note(now, pair, "failed")
        return now

    def _fly(self, pair: int, holder: Holder, trip: Trip, now: float) -> tuple[AccessToken, float]:
        """An exchange, and what the token source learns of it; the token, and when it is there."""
        token, over = self._obtain(pair, holder, trip, now) if self._shared else self._issue(pair, holder, now)
        self._clock.time = over
        holder._adopt(token, trip)  # type: ignore[arg-type]
        return token, over

    # The server

    def _accepts(self, holder: Holder, token: AccessToken, now: float) -> bool:
        appkey = self._appkeys[holder.appkey]
        return token.value == appkey.value and now < appkey.expires

    def _issue(self, pair: int, holder: Holder, now: float) -> tuple[AccessToken, float]:
        """AU10001: the token, and when the answer is there; a token in its last second is asked for once more."""
        appkey = self._appkeys[holder.appkey]
        attempt = 0
        while True:
            attempt += 1
            self._count_issue(pair, holder, appkey, now)
            if self._replaces or now >= appkey.expires:
                appkey.value = f"{pair} {now}"
                appkey.expires = now + DAY
                if self._replaces:
                    self._upset(holder, now)
            life = int(appkey.expires) - int(now)
            if life > 0:
                return AccessToken(appkey.value, now, now + life, b"", float(int(now))), now + self._fleet.exchange
            now += self._fleet.exchange + _exchange._pause(attempt, EXPIRED_MEANWHILE)

    def _count_issue(self, pair: int, holder: Holder, appkey: Issued, now: float) -> None:
        self._note(now, pair, "AU10001")
        self.counts.issues[int(now)] += 1
        self.counts.by_appkey[holder.appkey * self._fleet.days + min(int(now // DAY), self._fleet.days - 1)] += 1
        first, *others = appkey.latest
        appkey.latest = (*others, now)
        if now - first < 1.0:
            self.counts.beyond += 1

    def _upset(self, issuer: Holder, now: float) -> None:
        """The token that others hold is dead: their next use matters."""
        users = self._fleet.users
        for pair in range(issuer.appkey * users, issuer.appkey * users + users):
            holder = self._holders[pair]
            if holder is not issuer and holder.token is not None and now < min(holder.since, holder.down):
                moment = self._usage.next(pair, now)
                if moment < min(holder.since, holder.down):
                    holder.then = holder.life
                    self._schedule(pair, holder, moment)
                holder.since = now

    # The store

    def _obtain(self, pair: int, holder: Holder, trip: Trip, now: float) -> tuple[AccessToken, float]:
        """What ``Visit.obtain`` does: look, lock and look again, issue, save."""
        token = self._find(holder, trip, now)
        if token is not None:
            return token, now
        if not self._is_open(holder, now):
            return self._issue(pair, holder, now)  # Redis is away
        appkey = self._appkeys[holder.appkey]
        token, now = self._lock(holder, trip, appkey, now)
        if token is not None:
            return token, now
        token = self._find(holder, trip, now)
        if token is None:
            token, over = self._issue(pair, holder, now)
            appkey.locked_until = now = over
            self._find(holder, trip, now)  # somebody may have gone alone meanwhile; in the model nobody does
            self._save(holder, appkey, token, now)
        self._send(now)  # EVAL
        return token, now

    def _lock(self, holder: Holder, trip: Trip, appkey: Issued, now: float) -> tuple[AccessToken | None, float]:
        """The lock, polled for as ``RedisStore`` does it; or the token that was left for those who look meanwhile."""
        poll, pause = now, _redis._FIRST_PAUSE
        while poll < appkey.locked_until:
            self._send(poll, 2)  # SET NX, EVAL
            poll += pause * self._chance(0.5, 1.0)
            pause = min(1.5 * pause, _redis._LONGEST_PAUSE)
        self._send(poll)  # SET NX
        pause = _shared._FIRST_LOOK
        look = now + pause
        while look < poll:
            token = self._find(holder, trip, look)
            if token is not None:
                self._send(poll)  # EVAL
                return token, look
            pause = min(1.5 * pause, _shared._LAST_LOOK)
            look += pause
        return None, poll

    def _find(self, holder: Holder, trip: Trip, now: float) -> AccessToken | None:
        if not self._reaches(holder, now):
            return None
        appkey = self._appkeys[holder.appkey]
        token, since = (appkey.kept, appkey.kept_at) if now >= appkey.kept_at else appkey.before
        if token is None or now >= token.deadline or self._has_lost(since, now):
            return None
        self._clock.time = now
        return token if holder._takes(token, trip) else None  # type: ignore[arg-type]

    def _save(self, holder: Holder, appkey: Issued, token: AccessToken, now: float) -> None:
        if self._reaches(holder, now):
            appkey.before = (appkey.kept, appkey.kept_at)
            appkey.kept, appkey.kept_at = token, now

    def _is_open(self, holder: Holder, now: float) -> bool:
        place = self._places.get(holder.process)
        return place is None or not place.is_away(now)

    def _reaches(self, holder: Holder, now: float) -> bool:
        """Whether a command gets to Redis; what its place learns of it."""
        if not self._is_open(holder, now):
            return False
        if self._is_away(now):
            self._places.setdefault(holder.process, Health(now)).fails(LOG, now, "load", "away", None)
            return False
        place = self._places.get(holder.process)
        if place is not None:
            place.works(LOG, "load")
        self.counts.commands[int(now)] += 1
        return True

    def _is_away(self, now: float) -> bool:
        return self._is_troubled[int(now)] == 1 and bisect_right(self._changes, now) % 2 == 1

    def _has_lost(self, since: float, now: float) -> bool:
        return bisect_right(self._losses, since) != bisect_right(self._losses, now)

    def _send(self, now: float, commands: int = 1) -> None:
        if not self._is_away(now):
            self.counts.commands[int(now)] += commands

    def _note(self, now: float, pair: int, what: str) -> None:
        if self._keeps_log:
            self.counts.log.append((now, pair, what))


def _merged(outages: Iterable[Outage]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for outage in outages:
        if merged and outage.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], outage.end))
        else:
            merged.append((outage.start, outage.end))
    return merged


# The table


@dataclass(frozen=True)
class Figures:
    """One row of the table.

    Args:
        mean: AU10001 calls for an appkey on a day.
        most: of any appkey on any day.
        peak: AU10001 calls in the busiest second.
        beyond: AU10001 calls beyond two a second, for an appkey on a day.
        refused: calls refused at the first attempt, for an appkey on a day.
        failed: calls refused for good, of all.
        commands: of Redis in a second.
        busiest: of Redis in the busiest second.
        per_million: of Redis for a million requests.
    """

    mean: float
    most: int
    peak: float
    beyond: float
    refused: float
    failed: float
    commands: float
    busiest: int
    per_million: float


def figures(fleet: Fleet, server: str, store: str) -> Figures:
    """Run the model for one row.

    Args:
        fleet: what is assumed.
        server: ``"same"`` or ``"replace"``.
        store: a key of ``STORES``.
    """
    shared, refresh = STORES[store]
    number = fleet.appkeys if shared else min(fleet.appkeys, SAMPLE[server])
    counts = Model(fleet, server, shared=shared, refresh=refresh, appkeys=number).run()
    scale, appkey_days = fleet.appkeys / number, number * fleet.days
    peak = float(max(counts.issues))
    if number < fleet.appkeys:
        peak = scale * max(sum(counts.issues[start : start + 60]) for start in range(0, len(counts.issues), 60)) / 60
    sent = sum(counts.commands)
    return Figures(
        sum(counts.issues) / appkey_days,
        max(counts.by_appkey),
        peak,
        counts.beyond / appkey_days,
        counts.refused / appkey_days,
        counts.failed * scale,
        sent / (fleet.days * DAY - OPENING),
        max(counts.commands),
        sent / fleet.requests() * 1e6,
    )


def heading() -> str:
    """Of the table."""
    return (
        f"{'server':<9}{'store':<18}{'AU10001 per appkey and day':>28}{'AU10001/s':>11}"
        f"{'8005 per appkey':>17}{'calls that':>12}{'Redis commands':>26}\n"
        f"{'':<27}{'mean':>10}{'most':>7}{'>2/s':>11}{'peak':>11}"
        f"{'and day':>17}{'fail':>12}{'/s':>8}{'peak/s':>8}{'/1M calls':>10}"
    )


def row(fleet: Fleet, server: str, store: str) -> str:
    """One of the table; ``~``: some appkeys stand for all."""
    found = figures(fleet, server, store)
    about = "~" if not STORES[store][0] and fleet.appkeys > SAMPLE[server] else ""
    return (
        f"{server:<9}{store:<18}{found.mean:>10,.3f}{found.most:>7,}{found.beyond:>11,.4f}{f'{about}{found.peak:,.0f}':>11}"
        f"{found.refused:>17,.3f}{f'{about}{found.failed:,.0f}':>12}"
        f"{found.commands:>8,.1f}{found.busiest:>8,}{found.per_million:>10,.1f}"
    )


def jitter(fleet: Fleet) -> str:
    """What the jitter is for: fleets that are started at one stroke, as a table."""
    appkeys = max(1, fleet.appkeys // 10)
    lines = [
        f"{appkeys:,} appkeys started within 1 s, called every {fleet.busy:g} s day and night: day 2's busiest second",
        f"{'server':<9}{'store':<18}{'processes an appkey':>20}{'AU10001/s':>11}{'Redis commands/s':>18}",
    ]
    for server in ("same", "replace"):
        for users in (1, fleet.users):
            for store in ("Redis, no jitter", "Redis"):
                issues, commands = renewal(at_one_stroke(fleet, appkeys, users), server, store)
                lines.append(f"{server:<9}{store:<18}{users:>20}{issues:>11,}{commands:>18,}")
    return "\n".join(lines)


def at_one_stroke(fleet: Fleet, appkeys: int, users: int) -> Fleet:
    """A fleet that is started at once, is as busy at night, and in which nothing fails."""
    never = math.inf
    return replace(
        fleet, appkeys=appkeys, users=users, days=2, spread=1.0, idle=fleet.busy, failovers=0,
        machine_life=never, process_life=never,
    )  # fmt: skip


def renewal(fleet: Fleet, server: str, store: str) -> tuple[int, int]:
    """AU10001 calls and Redis commands in the busiest second of day 2."""
    counts = Model(fleet, server, refresh=STORES[store][1]).run()
    return max(counts.issues[int(DAY) :]), max(counts.commands[int(DAY) :])


def assumptions(fleet: Fleet) -> str:
    """Of the model, in words."""
    outages = sorted(fleet.outages(), key=lambda outage: outage.start)
    away = ", ".join(
        f"day {outage.start // DAY + 1:.0f} {_time_of_day(outage.start)} {outage.end - outage.start:.0f} s"
        f"{' (all lost)' if outage.loses else ''}"
        for outage in outages
    )
    pairs = fleet.appkeys * fleet.users
    return f"""\
seed        {fleet.seed}
fleet       {fleet.machines:,} machines, {fleet.processes} processes each, one namespace; {fleet.appkeys:,} appkeys, \
each used by {fleet.users} processes on different machines
            ({pairs / fleet.machines / fleet.processes:g} appkeys a process); {fleet.days} days, midnight to midnight \
KST, started on day one from {_time_of_day(OPENING)} within {fleet.spread:g} s
calls       of a process with an appkey: every {fleet.busy:g} s on average from {_time_of_day(OPENING)} to \
{_time_of_day(CLOSING)}, every {fleet.idle:g} s else; {fleet.requests():,.0f} in all
restarts    a machine every {fleet.machine_life / DAY:g} days ({fleet.machine_down:g} s), a process alone every \
{fleet.process_life / DAY:g} days ({fleet.process_down:g} s), on average
Redis away  {away or "never"}
server      a token lives 24 h, AU10001 takes {fleet.exchange:g} s and never fails; "same": an issue brings the valid \
token, "replace": it kills it
package     refresh margin {MARGIN:g} s (with jitter 0.5 to 1.0 of it), pauses: refresh {REFRESH_PAUSE:g} s, same \
token {SAME_TOKEN_PAUSE / DAY:g} days, store {FIRST_PAUSE:g} to {LONGEST_PAUSE:g} s, futile refusals \
{_refused.FUTILE_PAUSE:g} s
no store    {SAMPLE["same"]:,} ("same") and {SAMPLE["replace"]} ("replace") appkeys at most, scaled: ~; their peak is \
the average of the busiest minute"""


def _time_of_day(moment: float) -> str:
    minutes, seconds = divmod(int(moment % DAY), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")


if __name__ == "__main__":
    main()
