"""The lock of the package's own stores: it passes on what happens inside, and tells whether others hold it."""

import pytest

from kiwoom_auth_plugin.stores._protocol import Lock


class Held:
    def __init__(self, swallows):
        self.swallows = swallows
        self.seen = []

    def __enter__(self):
        self.seen.append("entered")

    def __exit__(self, *failure):
        self.seen.append(failure)
        return self.swallows


@pytest.mark.parametrize("swallows", [False, True])
def test_what_happens_inside_reaches_what_holds_the_lock(swallows):
    held, error = Held(swallows), KeyError("inside")

    def fail_inside():
        with Lock(lambda _contended: held) as given:
            assert given is None
            raise error

    if swallows:
        fail_inside()
    else:
        with pytest.raises(KeyError):
            fail_inside()
    entered, (kind, seen, trace) = held.seen
    assert (entered, kind, seen, trace.tb_frame.f_code.co_name) == ("entered", KeyError, error, "fail_inside")


def test_a_lock_that_others_hold_says_so():
    told = []

    def hold(contended):
        told.append(contended)
        return Held(False)

    lock = Lock(hold)
    assert not lock.contended.is_set()
    told[0]()
    assert lock.contended.is_set()
