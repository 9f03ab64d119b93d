"""What was used lately, as it is where interrupts and signal handlers come in between."""

from typing import TypeVar

from ._interrupts import is_an_interrupt

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(dict[_K, _V]):
    """Keeps what was kept last. cachetools' would fail for ever after an interrupt in the midst of an eviction.

    Args:
        size: how many at most.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def keep(self, key: _K, value: _V) -> None:
        """Keep it as the latest; its owner's mutex is held."""
        self.pop(key, None)
        self[key] = value
        if len(self) > self._size:
            # No loop until it fits: what cannot be found any more stays.
            for oldest in list(self)[: -self._size]:
                try:
                    del self[oldest]
                except Exception as error:  # a user's object may have another hash than when it came, or none any more
                    if is_an_interrupt(error):
                        raise
