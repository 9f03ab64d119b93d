"""What time it is, so that neither a clock set back nor a suspended laptop makes a dead token look alive."""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

KST = timezone(timedelta(hours=9), "KST")
"""Korea Standard Time: no daylight saving."""


class Clock:
    """The time that deadlines are kept in.

    ``now()`` is the wall clock, except that it never runs behind the monotonic clock: set back, the wall
    clock is out-run by the monotonic one; suspended, the monotonic clock stands still and the wall clock
    counts. What the wall clock was once seen to be ahead stays, so a clock set forward and then back does not
    lengthen a token's life either, nor costs an issue each time that it is done again. (The price: a later suspension
    counts only as far as it exceeds that lead. A token that dies unnoticed is replaced when it is refused.)

    Args:
        wall: seconds since the epoch (POSIX time).
        monotonic: seconds that never run backwards.
        sleep: lets the given number of seconds pass.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self.sleep = sleep
        self._ahead = wall() - monotonic()

    def now(self) -> float:
        """Seconds since the epoch, never running backwards."""
        monotonic = self.monotonic()
        ahead = self._wall() - monotonic
        if ahead > self._ahead:  # noqa: PLR1730 - max() takes longer than all the rest, and this is in each call
            self._ahead = ahead
        return monotonic + self._ahead

    def wall(self) -> float:
        """Seconds since the epoch as the machine has them at the moment: for showing, and for want of better."""
        return self._wall()

    def shown(self, moment: float) -> datetime:
        """A moment on ``now()`` as the machine's wall clock shows it, in KST, to the second."""
        return datetime.fromtimestamp(math.floor(self._wall() + moment - self.now()), KST)


SYSTEM = Clock()
