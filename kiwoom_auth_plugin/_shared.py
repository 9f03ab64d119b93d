"""The token stores as an exchange uses them: sealed, bounded in time, and never the cause of a failure."""

import errno
import logging
import math
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from ._backlog import Backlog
from ._clock import Clock
from ._log import Log, Note
from ._place import MAX_DELAY, Holding, Place, Work, chain, place_of, words
from ._seal import Seal
from ._threads import NoThread
from ._token import AccessToken
from .stores import TokenStore

_T = TypeVar("_T")
Takes: TypeAlias = Callable[[AccessToken], bool]

_LONGEST_WAIT = 2.2
"""Leases that a lock is waited for, whatever the store says: more than the two after which it should give up."""
_FIRST_LOOK, _LAST_LOOK = 0.05, 0.5
"""Seconds between looks at a store whose lock another process holds."""


class SharedStore:
    """The store of an auth object, and those that stand in for it.

    Args:
        store: the first of them; its ``fallback`` is the next.
        clock: the time.
        log: hears of stores that fail.
    """

    __slots__ = ("_clock", "_log", "_max_delay", "_places")

    def __init__(self, store: TokenStore, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._places = [place_of(link) for link in chain(store)]
        self._max_delay = float(getattr(store, "max_delay", MAX_DELAY))

    @property
    def backlog(self) -> Backlog:
        """What is to be done with the stores in the background."""
        return self._places[0].backlog

    def lease(self, timeout: float) -> float:
        """Seconds that the lock is held at most for an exchange with this time-out."""
        return timeout + self._max_delay + 1.0

    def longest(self, timeout: float) -> float:
        """Seconds that the stores may delay such an exchange, those included that others hold the lock."""
        return self._max_delay + _LONGEST_WAIT * self.lease(timeout)

    def visit(self, seal: Seal, spent: float = 0.0) -> "Visit":
        """Deal with the stores for one exchange.

        Args:
            seal: of the token.
            spent: seconds that others have been waited for already.
        """
        return Visit(self._places, seal, self._clock, self._log, self._max_delay, spent)


class Visit:
    """One exchange's dealings with the stores.

    Args:
        places: the stores, in the order in which they are asked.
        seal: of the token.
        clock: the time.
        log: hears of stores that fail.
        max_delay: seconds that the stores may take in all; each has an equal part of it.
        spent: seconds that others have been waited for already.
    """

    def __init__(self, places: list[Place], seal: Seal, clock: Clock, log: Log, max_delay: float, spent: float) -> None:
        self._spent = spent
        self._places = places
        self._seal = seal
        self._clock = clock
        self._log = log
        self._share = max_delay / len(places)
        self._left = dict.fromkeys(places, self._share)
        self._used: set[Place] = set()
        """Stores that have been asked: they were not away then."""
        self._seen: dict[Place, AccessToken | None] = {}
        """What was in the stores when they were last looked at, without those that could not be read."""
        self._holding: Holding | None = None
        self._is_behind = False
        """Whether the store that is asked first lacks what another one had."""

    def obtain(self, takes: Takes, issue: Callable[[], AccessToken], lease: float) -> AccessToken:
        """The token that another process has left, or else what ``issue`` brings, left for the others.

        Args:
            takes: whether a token will do.
            issue: called under the lock, if there is one to be had.
            lease: seconds that the lock is held at most.
        """
        token = self.find(takes)
        if token is not None:
            if self._is_behind:
                with self.lock(lease, lambda: token):  # whoever holds it brings the store up to date
                    self.find(takes)
            return token
        with self.lock(lease, lambda: self.find(takes)) as left:
            token = left or self.find(takes)
            if token is not None:
                return token
            issued = issue()
            # While that took its time, somebody may have gone alone: the later token is the living one.
            later = self.find(lambda found: takes(found) and found.dated > issued.dated)
            if later is None:
                self._save(issued, self._places)
            return later or issued

    def find(self, takes: Takes) -> AccessToken | None:
        """The latest token in the stores that ``takes`` wants; stores that lack it get it."""
        self._look()
        wanted = [token for token in self._seen.values() if token is not None and takes(token)]
        if not wanted:
            return None
        latest = max(wanted, key=lambda token: token.dated)
        # Without the lock a store that is asked first is not written to: somebody may be about to do it.
        first, held = self._places[0], self._holding and self._holding.place
        behind = [place for place, token in self._seen.items() if token is None or token.dated < latest.dated]
        self._is_behind = first in behind
        self._save(latest, [place for place in behind if place is not first or place is held])
        return latest

    @property
    def has_seen_all(self) -> bool:
        """Whether all the stores could be read when they were last looked at."""
        return len(self._seen) == len(self._places)

    def forget(self, tokens: Iterable[tuple[str, float]]) -> None:
        """Take tokens out of the stores, and no others.

        Args:
            tokens: the value of each, and when it was issued at the latest.
        """
        latest: dict[str, float] = {}
        for value, dated in tokens:
            latest[value] = max(dated, latest.get(value, -math.inf))
        for place in self._places:
            work = self._load(place)
            token = work.answer if work else None
            if token is not None and token.dated <= latest.get(token.value, -math.inf):
                self._ask(place, "delete", partial(place.store.delete, self._seal.key))

    @contextmanager
    def lock(
        self, lease: float, look: Callable[[], AccessToken | None] = lambda: None
    ) -> Generator[AccessToken | None]:
        """Hold the lock of the first store that gives it; where none does, go on without.

        Args:
            lease: seconds that it is held at most.
            look: looks, while another process holds it, for what that has left.

        Yields:
            What ``look`` has found; the lock is not held then.
        """
        if not self._seen:
            self._look()
        token, give_up = None, time.monotonic() + max(0.0, _LONGEST_WAIT * lease - self._spent)
        try:
            # First of those that can be read: there everybody meets, and sees what a holder has left.
            for place in sorted(self._places, key=lambda place: place not in self._seen):
                if token is None and self._holding is None and self._is_lock_open(place, lease):
                    token = self._take_lock(place, lease, look, give_up)
            yield token
        finally:
            if self._holding is not None:
                self._give_back(self._holding)

    def _take_lock(
        self, place: Place, lease: float, look: Callable[[], AccessToken | None], give_up: float
    ) -> AccessToken | None:
        holding = Holding(place, self._seal.key, lease)
        weakref.finalize(self, holding.let_go)  # whatever interrupts what follows
        try:
            token = self._await(holding, look, give_up) if self._begin(holding, place, "lock") else None
            if holding.is_held and token is None:
                self._holding = holding
            return token
        finally:
            if self._holding is not holding:
                holding.let_go()

    def _give_back(self, holding: Holding) -> None:
        """Waited for: a program that ends now would keep the lock."""
        holding.let_go()
        self._holding = None
        left = self._left[holding.place]
        if not holding.wait(left):
            if left > 0:
                self._fails(holding.place, "release", self._too_slow, holding)
        elif holding.error is not None:
            self._fails(holding.place, "release", words(holding.error))
        else:
            holding.place.works(self._log, "release")

    def _await(self, holding: Holding, look: Callable[[], AccessToken | None], give_up: float) -> AccessToken | None:
        """Wait for the lock, and look meanwhile for what its holder leaves. Waiting for a holder is no delay."""
        place, pause = holding.place, _FIRST_LOOK
        while not self._is_settled(holding, pause):
            left = self._left.copy()
            token = look()
            if token is not None or not self._is_open(place):
                return token
            if self._is_for_others(holding):
                self._left.update({place: left[place] for place, rest in self._left.items() if rest > 0})
            if time.monotonic() >= give_up:
                self._fails(place, "lock", "others have held it for too long", holding)
                return None
            pause = min(pause * 1.5, _LAST_LOOK)
        if holding.is_held:
            place.works(self._log, "lock")
        elif isinstance(holding.error, TimeoutError) and holding.error.errno is None:  # not the system's own
            if place.keeps_lock(self._clock.monotonic(), self._seal.key, holding.lease):
                holder = f"another process holds the lock of the token store {place.name} for too long"
                note = Note(logging.WARNING, "store.locked", f"{holder}; this one goes on without it", store=place.name)
                self._log.tell(note)
        else:
            self._fails(place, "lock", words(holding.error))
        return None

    def _is_settled(self, holding: Holding, pause: float) -> bool:
        """Wait for a while."""
        if self._is_for_others(holding):
            return holding.settled.wait(pause)
        place, started = holding.place, time.monotonic()
        settled = holding.settled.wait(min(pause, max(0.0, self._left[place])))
        self._left[place] -= time.monotonic() - started
        if not settled and self._left[place] <= 0:
            self._fails(place, "lock", self._too_slow, holding)
        return settled

    def _is_for_others(self, holding: Holding) -> bool:
        """Whether it is others that take the time, and not the store: what they leave under the lock can be read."""
        return holding.is_contended and holding.place in self._seen

    def _is_open(self, place: Place) -> bool:
        # What fails in one way is still tried in the others: a store that cannot be read may take a new token.
        is_away = place.is_away(self._clock.monotonic())
        return (place in self._used or not is_away) and self._left[place] > 0

    def _is_lock_open(self, place: Place, lease: float) -> bool:
        return self._is_open(place) and not place.is_lock_kept(self._clock.monotonic(), self._seal.key, lease)

    def _look(self) -> None:
        looked = {place: self._load(place) for place in self._places}
        self._seen = {place: work.answer for place, work in looked.items() if work}

    def _load(self, place: Place) -> Work[AccessToken | None] | None:
        def load(store: TokenStore) -> AccessToken | None:
            value = cast("object", store.load(self._seal.key))
            if value is None:
                return None
            if not isinstance(value, (bytes, bytearray, memoryview)):
                raise OSError(errno.EINVAL, "load must return bytes or None")
            return self._seal.open(bytes(cast("bytes", value)))

        return self._ask(place, "load", partial(load, place.store), again=True)  # what is lost once may come then

    def _save(self, token: AccessToken, places: Sequence[Place]) -> None:
        def save(store: TokenStore) -> None:
            store.save(self._seal.key, self._seal.close(token), token.deadline - self._clock.now())

        for place in places:
            self._ask(place, "save", partial(save, place.store))

    def _ask(self, place: Place, operation: str, do: Callable[[], _T], *, again: bool = False) -> Work[_T] | None:
        """Have a store do something, ``again`` if it fails; None where it is away, fails, or takes too long.

        Sealing and opening are part of it: they happen in a thread that no signal handler interrupts.
        """
        if not self._is_open(place):
            return None
        work, started = Work(do), time.monotonic()
        try:
            if not self._begin(work, place, operation):
                return None
            came_back = work.wait(self._left[place])
        finally:
            self._left[place] -= time.monotonic() - started
        if not came_back:
            self._fails(place, operation, self._too_slow, work)
            return None
        if work.error is not None:
            if again and self._left[place] > 0:
                return self._ask(place, operation, do)
            self._fails(place, operation, words(work.error))
            return None
        place.works(self._log, operation)
        return work

    def _begin(self, work: Work[Any], place: Place, operation: str) -> bool:
        self._used.add(place)
        try:
            work.start()
        except NoThread as refusal:
            if refusal.ever:  # or else the rest can be done without
                self._fails(place, operation, f"there was no thread for it: {refusal}")
            return False
        return True

    @property
    def _too_slow(self) -> str:
        return f"it did not answer within {self._share:g} seconds; see whether its server or file system hangs"

    def _fails(self, place: Place, operation: str, why: str, work: Work[Any] | None = None) -> None:
        place.fails(self._log, self._clock.monotonic(), operation, why, work)
