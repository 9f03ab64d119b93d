"""A token store and its health: each call of it runs in a thread of its own, which is left to itself if it hangs."""

import logging
import queue
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from ._backlog import Backlog
from ._event import Event
from ._interrupts import is_an_interrupt
from ._locks import lock_for_the_process
from ._log import Log, Note
from ._recent import Recent
from ._threads import NoThread, start
from .stores import TokenStore
from .stores._protocol import Lock

_T = TypeVar("_T")

MAX_DELAY = 2.0
"""Seconds that a store may delay an exchange if it does not say."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 16.0
"""Seconds without a store after it failed, and how long they become by doubling."""
MOST_STUCK = 4
"""Calls of one store that may hang at once: with more, it is left alone until one returns..."""
STUCK_FOR_GOOD, LONGEST_STUCK = 600.0, 86_400.0
"""...or has hung for so many seconds, doubling: its connection was lost without a word, and another may do."""
REMEMBERED = 3600.0
"""Seconds after which the same failure is news again."""
LONGEST_CHAIN = 8
"""Stores, one the fallback of the other."""

# What a Redis server answers may quote what it was sent, the password that the connection begins with for one. Most of
# its codes have a class of their own in redis-py; these have none. Any other word in capitals may be a password.
_CODE = re.compile(
    r"(?:BUSY|DENIED|MISCONF|NOPERM|NOPROTO|NOREPLICAS|WRONGTYPE)(?= |$)"
    r"|ACL failure in script|The user executing the script can't run this command|DB index is out of range"
    r"|unknown command [`'](?:AUTH|CLIENT|DEL|EVAL|GETRANGE|HELLO|SET)[`']"
)
_OF_THE_CONNECTION = {"ConnectionError", "TimeoutError"}

_mutex = lock_for_the_process()


class Place:
    """A store, and what is known of its health; one for all auth objects that use it."""

    def __init__(self, store: TokenStore) -> None:
        self.store = store
        self.name = type(store).__name__
        fallback = getattr(store, "fallback", None)
        self._fallback = None if fallback is None else type(fallback).__name__
        self._away_until = 0.0
        self._pause = 0.0
        self._is_down = False
        self._told: dict[str, float] = {}
        self._stuck: list[tuple[float, Work[Any]]] = []
        self._stuck_for = STUCK_FOR_GOOD
        self._kept: dict[tuple[str, float], float] = {}
        self._kept_told: float | None = None
        self.backlog = Backlog("kiwoom-auth-forget")

    def is_away(self, now: float) -> bool:
        """Whether it failed a while ago, or hangs so often that it is better left alone."""
        with _mutex:
            was_stuck = len(self._stuck)
            stuck = [(since, work) for since, work in self._stuck if work.is_under_way]
            self._stuck = [(since, work) for since, work in stuck if now - since < self._stuck_for]
            if len(stuck) < was_stuck:
                self._stuck_for = STUCK_FOR_GOOD
            elif len(self._stuck) < len(stuck):
                self._stuck_for = min(2 * self._stuck_for, LONGEST_STUCK)
            return len(self._stuck) >= MOST_STUCK or now < self._away_until

    def works(self, log: Log, operation: str) -> None:
        """It has done something."""
        with _mutex:
            self._is_down = False
            if operation == "lock":
                self._kept_told = None
            is_back = self._told.pop(operation, None) is not None
            if is_back:
                self._away_until = 0.0
        if is_back:
            again = f"the token store {self.name} is used again: {operation}"
            log.tell(Note(logging.INFO, "store.back", again, store=self.name))

    def fails(self, log: Log, now: float, operation: str, why: str, work: "Work[Any] | None") -> None:
        """It has failed to do something; an outage is one warning, whatever is tried meanwhile, and however often.

        So is a single operation that fails while others work.
        """
        with _mutex:
            since, is_away = self._told.get(operation), now < self._away_until
            is_old_news = since is not None and now - since < REMEMBERED
            known = is_away or self._is_down or is_old_news
            if is_old_news or not known:
                self._told[operation] = now
            self._is_down = True
            if not is_away:
                self._pause = min(2 * self._pause, LONGEST_PAUSE) if known else FIRST_PAUSE
                self._away_until = now + self._pause
            if work is not None:
                self._stuck.append((now, work))
        if not known:
            instead = f"its fallback {self._fallback} is used" if self._fallback else "this process goes on without it"
            words = f"the token store {self.name} failed, and {instead} until it works again"
            log.tell(Note(logging.WARNING, "store.failed", f"{words}: {operation}: {why}", store=self.name))

    def keeps_lock(self, now: float, key: str, lease: float) -> bool:
        """Others have kept a lock for too long for one who waited with this lease; whether that is news."""
        with _mutex:
            self._kept = {waited: until for waited, until in self._kept.items() if now < until}
            self._kept[key, lease] = now + LONGEST_PAUSE
            since = self._kept_told
            is_news = since is None or now - since >= REMEMBERED
            if is_news:
                self._kept_told = now
            return is_news

    def is_lock_kept(self, now: float, key: str, lease: float) -> bool:
        """Whether that was a moment ago: not each exchange is to wait for it again."""
        with _mutex:
            return now < self._kept.get((key, lease), 0.0)


_known: Recent[Any, Place] = Recent(64)


def place_of(store: TokenStore) -> Place:
    """Stores that are equal are one: an auth object, and its store, may be made anew for each call."""
    with _mutex:
        key: Any = store
        try:
            place = _known.get(key)
        except Exception as error:  # its __hash__ is missing, or its __eq__ raises
            if is_an_interrupt(error):
                raise
            key = id(store)
            place = _known.get(key)
        place = place or Place(store)
        _known.keep(key, place)
        return place


def chain(store: TokenStore) -> list[TokenStore]:
    """The store, its fallback, that one's, and so on."""
    stores: list[TokenStore] = []
    following: TokenStore | None = store
    while following is not None and len(stores) < LONGEST_CHAIN and all(following is not known for known in stores):
        stores.append(following)
        following = getattr(following, "fallback", None)
    return stores


class Work(Generic[_T]):
    """What a store does for us, in a thread that is left to itself if it takes too long.

    Args:
        do: is called in that thread.
    """

    def __init__(self, do: Callable[[], _T]) -> None:
        self._do = do
        self.answer: _T | None = None
        self.error: BaseException | None = None
        # A daemon: a store that hangs does not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="kiwoom-auth-store", daemon=True)

    def start(self) -> None:
        """Begin; where Python starts no threads any more since the program ends, do it in this one.

        Raises:
            NoThread: none is to be had.
        """
        try:
            start(self._thread)
        except NoThread as refusal:
            if refusal.ever:
                raise
            self._run()
            if not isinstance(self.error, Exception | None):
                raise self.error from None

    def wait(self, timeout: float) -> bool:
        """Wait for its end so many seconds at most; tell whether that has come."""
        if self.is_under_way:
            self._thread.join(max(0.0, timeout))
        return not self.is_under_way

    @property
    def is_under_way(self) -> bool:
        """Whether it has not come back yet."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.answer = self._do()
        except BaseException as error:  # noqa: BLE001 - told by whoever waits
            self.error = error


class Holding(Work[None]):
    """A store's lock, waited for and held.

    Args:
        place: the store.
        key: of the lock.
        lease: seconds that it is held at most.
    """

    def __init__(self, place: Place, key: str, lease: float) -> None:
        super().__init__(partial(self._hold, key, lease))
        self.place = place
        self.lease = lease
        self._lock: object = None
        self._leave: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.is_held = False
        self.settled = Event()
        """Happens when the lock is held, or is known not to be had."""

    def start(self) -> None:
        """Begin, in a thread in any case.

        Raises:
            NoThread: none is to be had.
        """
        start(self._thread)

    @property
    def is_contended(self) -> bool:
        """Whether it is others that it is waited for; where a store of the user's does not tell, they are assumed."""
        lock = self._lock
        return lock is not None and (not isinstance(lock, Lock) or lock.contended.is_set())

    def let_go(self) -> None:
        """Let the lock go, now or as soon as it has come. May be called by finalisers."""
        self._leave.put(None)

    def _hold(self, key: str, lease: float) -> None:
        try:
            self._lock = lock = self.place.store.lock(key, lease)
            with lock:
                self.is_held = True
                self.settled.set()
                with suppress(queue.Empty):
                    self._leave.get(timeout=lease)
        finally:
            self.settled.set()


def words(error: BaseException | None) -> str:
    """What a store raised, for the log; the words of strangers may quote what they were given.

    Of what a Redis server answered it is the code, and the name of a command that the server does not know.
    """
    name = type(error).__name__
    is_of_redis = str(type(error).__module__).partition(".")[0] in {"redis", "valkey"}
    if not isinstance(error, OSError) and not is_of_redis:
        return name
    try:
        text = str(error)[:300]
    except Exception:  # noqa: BLE001 - of a user's own kind
        return name
    if is_of_redis and name not in _OF_THE_CONNECTION:
        code = _CODE.match(text)
        if code is None:
            return name
        text = code[0]
    return f"{name}: {''.join(c if c.isprintable() else ' ' for c in text)}"
