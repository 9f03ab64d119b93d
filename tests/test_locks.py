"""What breaks without each of the locks, and what does without one."""

import asyncio
import threading

import cachetools
import pytest
import requests

from kiwoom_auth_plugin import KiwoomBearerAuth, _cache, _flights, _source
from kiwoom_auth_plugin._event import Event

from .crowd import PATIENCE, Crowd


class Door:
    """In place of a mutex: counts who comes to it, and lets everybody in if it is broken."""

    def __init__(self, *, broken):
        self.broken = broken
        self._lock = None if broken else threading.Lock()
        self.came = threading.Semaphore(0)

    def __enter__(self):
        self.came.release()
        if self._lock:
            self._lock.acquire()

    def __exit__(self, *_error):
        if self._lock:
            self._lock.release()


@pytest.mark.parametrize(("broken", "flights"), [(False, 1), (True, 2)], ids=["with the mutex", "without"])
def test_without_the_mutex_two_callers_at_once_would_fly_twice(auth, kiwoom_emulator, monkeypatch, broken, flights):
    door = Door(broken=broken)
    both_have_looked, both_are_in = threading.Barrier(2), threading.Barrier(2)
    go_on = threading.Event()
    started = []

    class Starting(_source.Flight):
        made = False

        def __setattr__(self, name, value):
            if name == "refused" and self.made:
                started.append(self)  # between "nothing is under way" and "this is under way"
                go_on.wait(PATIENCE)
                if broken:
                    both_are_in.wait(PATIENCE)
            super().__setattr__(name, value)

    def flight(*args, **options):
        both_have_looked.wait(PATIENCE)
        made = Starting(*args, **options)
        made.made = True
        return made

    for module in (_source, _flights):
        monkeypatch.setattr(module, "mutex", door)
    monkeypatch.setattr(_source, "Flight", flight)
    crowd = Crowd()
    crowd.threads(2, auth.get_token)
    crowd.go()
    for _ in range(4):  # each looks, and wants to start
        assert door.came.acquire(timeout=PATIENCE)
    go_on.set()
    assert set(crowd.outcomes()) == {kiwoom_emulator.token}
    assert len(started) == flights


@pytest.mark.parametrize("ask", ["get_token", "aget_token"])
def test_a_caller_that_is_overtaken_as_it_starts_takes_what_the_faster_one_brings(
    auth, kiwoom_emulator, monkeypatch, ask
):
    original = _source.Flight

    def overtaken(*args, **options):  # between "nothing is under way" and "this is under way"
        monkeypatch.setattr(_source, "Flight", original)
        auth.get_token()
        return original(*args, **options)

    monkeypatch.setattr(_source, "Flight", overtaken)
    token = auth.get_token() if ask == "get_token" else asyncio.run(auth.aget_token())
    assert token == kiwoom_emulator.token
    assert kiwoom_emulator.issued == 1


class Looking(Event):
    """Lets somebody else go on between "it has not happened" and "wake me when it does"."""

    happened = False

    def __init__(self, *, broken):
        self.looked, self.go_on = threading.Event(), threading.Event()
        super().__init__()
        self._mutex = Door(broken=broken)

    @property
    def has_happened(self):
        seen = self.happened
        self.looked.set()
        self.go_on.wait(PATIENCE)
        return seen

    @has_happened.setter
    def has_happened(self, happened):
        self.happened = happened

    def set_while(self, wait):
        """Set it while a thread is about to wait; gives that thread."""
        waiter = threading.Thread(target=wait, daemon=True)
        setter = threading.Thread(target=self.set, daemon=True)
        waiter.start()
        assert self.looked.wait(PATIENCE)
        setter.start()
        for _ in range(2):
            assert self._mutex.came.acquire(timeout=PATIENCE)
        if self._mutex.broken:
            setter.join(PATIENCE)  # it went past the waiter
        self.go_on.set()
        return waiter


@pytest.mark.parametrize("broken", [False, True], ids=["with the mutex", "without"])
def test_without_its_mutex_an_event_would_forget_to_wake_a_loop(broken):
    event, woken = Looking(broken=broken), threading.Event()

    class Room:
        def __init__(self, _loop):
            pass

        def wake(self):
            woken.set()

    def wait():
        if event._room_of("a loop", Room) is None:
            woken.set()

    event.set_while(wait).join(PATIENCE)
    assert woken.wait(0 if broken else PATIENCE) is not broken


@pytest.mark.parametrize("broken", [False, True], ids=["with the mutex", "without"])
def test_without_its_mutex_an_event_would_forget_to_wake_a_thread(broken):
    event = Looking(broken=broken)
    waiter = event.set_while(lambda: event.wait(10 * PATIENCE))
    if broken:
        while not event._doors:
            assert waiter.is_alive()
        (door,) = event._doors
        assert door.locked()
        door.release()
    waiter.join(PATIENCE)
    assert not waiter.is_alive()


def test_the_cache_is_only_touched_under_the_mutex(make_auth, kiwoom_emulator, clock):
    """cachetools caches are not thread-safe, not even for reads (tkem/cachetools #245, #288)."""
    touched, slots = [], []

    class Watched(cachetools.LRUCache):
        def __contains__(self, key):
            touched.append(slots[0]._mutex.lock._is_owned())
            return super().__contains__(key)

        def __getitem__(self, key, *args):
            touched.append(slots[0]._mutex.lock._is_owned())
            return super().__getitem__(key, *args)

        def __setitem__(self, key, value, *args):
            touched.append(slots[0]._mutex.lock._is_owned())
            super().__setitem__(key, value, *args)

        def __delitem__(self, key, *args):
            touched.append(slots[0]._mutex.lock._is_owned())
            super().__delitem__(key, *args)

    cache = Watched(10)
    auth = make_auth(cache=cache, clock=clock)
    slots.append(auth._source._slot)
    auth.invalidate(auth.get_token())
    assert auth.expires_at is None
    assert asyncio.run(auth.aget_token()) == kiwoom_emulator.token
    auth.revoke()
    assert make_auth(cache=cache, clock=clock).expires_at is None
    assert len(touched) >= 8
    assert all(touched)


def test_a_snapshot_is_read_without_the_mutex(auth, monkeypatch):
    token = auth.get_token()
    door = Door(broken=False)
    for module in (_source, _flights):
        monkeypatch.setattr(module, "mutex", door)
    assert auth.get_token() == token
    assert asyncio.run(auth.aget_token()) == token
    request = requests.Request("POST", auth._host, auth=KiwoomBearerAuth.__call__.__get__(auth)).prepare()
    assert request.headers["Authorization"] == f"Bearer {token}"
    assert not door.came.acquire(blocking=False)


def test_a_child_has_other_locks_for_the_caches_and_none_is_busy():
    from kiwoom_auth_plugin import _locks

    held = _locks.Renewed()
    before, held.busy = held.lock, True
    _locks._renew_all()  # what the fork of test_fork runs in the child, where coverage is not seen
    assert held.lock is not before
    assert not held.busy


def test_a_signal_handler_in_the_middle_of_a_cache_operation_leaves_the_cache_alone(make_auth, kiwoom_emulator):
    """The operation on the cache stands for any moment of it that a signal may come at."""

    class Interrupted(dict):
        def get(self, key):
            auth.invalidate("some-other-token")  # what a signal handler may do
            return super().get(key)

    auth = make_auth(cache=Interrupted())
    assert auth.get_token() == kiwoom_emulator.token


def test_no_cache_is_touched_under_the_mutex_of_the_sources(make_auth, kiwoom_emulator, clock, monkeypatch):
    """A fork takes the locks in an order of its own: it and whoever held both would wait for each other for ever."""
    nested = []
    original = _cache.Slot._guarded

    def guarded(slot, *arguments):
        nested.append(_source.mutex._is_owned())
        return original(slot, *arguments)

    monkeypatch.setattr(_cache.Slot, "_guarded", guarded)
    for cache in (None, {}, cachetools.LRUCache(10)):
        auth = make_auth(clock=clock, cache=cache)
        auth.invalidate(auth.get_token())
        auth.get_token()
        auth.revoke()
    assert len(nested) > 9
    assert not any(nested)
