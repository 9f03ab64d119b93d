"""Whether there are threads to be had."""

import threading
from types import SimpleNamespace

import pytest

from kiwoom_auth_plugin._threads import NoThread, start


@pytest.mark.parametrize(
    ("words", "main_is_alive", "ever"),
    [
        ("can't start new thread", True, True),
        ("can't start new thread", False, False),
        ("can't create new thread at interpreter shutdown", True, False),  # Python 3.12 says so first
        ("can't create new thread at interpreter shutdown", False, False),
    ],
)
def test_a_lack_of_threads_passes_unless_the_program_ends(monkeypatch, words, main_is_alive, ever):
    def refuse(_thread):
        raise RuntimeError(words)

    thread = threading.Thread()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threading, "main_thread", lambda: SimpleNamespace(is_alive=lambda: main_is_alive))
    with pytest.raises(NoThread) as caught:
        start(thread)
    assert (str(caught.value), caught.value.ever) == (words, ever)


def test_a_thread_that_is_to_be_had_is_started():
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    start(thread)
    thread.join()
    assert done.is_set()
