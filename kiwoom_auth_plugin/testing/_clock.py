"""The emulator's clock."""

import threading
from datetime import UTC, datetime, timedelta

from . import _arguments


class ServerClock:
    """What the server takes for the present time: real time, until a test moves or freezes it.

    It decides when tokens expire, what the issue limit counts as one second, and the ``Date`` header of
    every answer. It does not drive delays: those pass in real time. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = timedelta()
        self._frozen: datetime | None = None

    def __repr__(self) -> str:
        return f"ServerClock({self.now().isoformat()})"

    def now(self) -> datetime:
        """The server's present time, in UTC."""
        with self._lock:
            return self._now()

    def advance(self, by: float | timedelta) -> None:
        """Move the clock.

        Args:
            by: seconds or a timedelta; negative sets the clock back.
        """
        _arguments.instance("by", by, int, float, timedelta)
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        with self._lock:
            if self._frozen is None:
                self._offset += step
            else:
                self._frozen += step

    def set(self, moment: datetime) -> None:
        """Set the clock to ``moment``; it goes on from there, or stays there if it is frozen.

        Raises:
            ValueError: ``moment`` has no time zone.
        """
        _arguments.instance("moment", moment, datetime)
        if moment.tzinfo is None:
            raise ValueError("the server's clock needs a datetime with a time zone, such as datetime.now(UTC)")
        moment = moment.astimezone(UTC)
        with self._lock:
            if self._frozen is None:
                self._offset = moment - datetime.now(UTC)
            else:
                self._frozen = moment

    def freeze(self) -> None:
        """Stop the clock where it is; from now on only ``advance`` and ``set`` move it."""
        with self._lock:
            self._frozen = self._now()

    def unfreeze(self) -> None:
        """Let the clock go on from where it stands."""
        with self._lock:
            self._offset = self._now() - datetime.now(UTC)
            self._frozen = None

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._offset if self._frozen is None else self._frozen
