"""What the package asks of a store, and how the stores of the package ask for their libraries."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from types import TracebackType
from typing import Protocol, cast

STORE_METHODS = ("load", "save", "delete", "lock")

_LONGEST_DELAY = 60.0


class TokenStore(Protocol):
    """Keeps one sealed token for each key, for other processes and machines. Any object with these methods will do.

    It is called from threads of the package's own, of several at once, never from an event loop's. What it raises or
    how long it takes does not matter to a call: it goes on without the store. Besides the methods it may have two
    attributes: ``max_delay``, the seconds that it may delay an exchange with the token endpoint (2 if it is missing),
    and ``fallback``, another store that is used while this one fails.
    """

    def load(self, key: str) -> bytes | None:
        """The value that was saved last, whole and unchanged; None where there is none. Needs no lock.

        Args:
            key: 64 hexadecimal digits, a digest of appkey, host and secretkey that tells none of them.

        Raises:
            OSError: what is there cannot be trusted.
        """
        ...

    def save(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value in place of the one before; whoever loads meanwhile gets the one or the other, whole.

        Args:
            key: as above.
            value: at most 32 KiB of ASCII, sealed: encrypted and authenticated.
            ttl: seconds after which it is worthless and may be forgotten.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget the value; nothing happens where there is none."""
        ...

    def lock(self, key: str, timeout: float) -> AbstractContextManager[None]:
        """The key's lock: at most one holder among all processes while the ``with`` block lasts.

        Entered and left by one thread.

        Args:
            key: as above.
            timeout: seconds. No holder keeps it for longer, so that is the lease where a lock outlives its holder.

        Raises:
            TimeoutError: others have held it for twice as long: the time of one that died, and of the next one's work.
        """
        ...


class Lock(AbstractContextManager[None]):
    """A lock of the package's own stores, which tells as well whether it is others that it is waited for.

    Args:
        hold: given what to call when others turn out to hold it, the context manager that waits for it and holds it.
    """

    def __init__(self, hold: Callable[[Callable[[], None]], AbstractContextManager[None]]) -> None:
        self.contended = threading.Event()
        """Happens when the store has said that others hold it: from then on waiting is no fault of the store's."""
        self._held = hold(self.contended.set)

    def __enter__(self) -> None:
        self._held.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._held.__exit__(kind, error, trace)


def has_methods(candidate: object, *names: str) -> bool:
    """Whether it is an object, and no class, with these methods."""
    return not isinstance(candidate, type) and all(callable(getattr(candidate, name, None)) for name in names)


def checked_delay(max_delay: float) -> float:
    """The ``max_delay`` of a store.

    Raises:
        TypeError: it is no number.
        ValueError: it is not more than 0 and at most 60 seconds.
    """
    if isinstance(max_delay, bool) or not isinstance(cast("object", max_delay), (int, float)):
        raise TypeError("max_delay must be a number of seconds")
    if not 0 < max_delay <= _LONGEST_DELAY:
        raise ValueError("max_delay must be more than 0 and at most 60 seconds")
    return float(max_delay)


EXTRAS = {
    "file": ["cryptography>=44.0.1", "filelock>=3.30", "platformdirs>=4"],
    "redis": ["cryptography>=44.0.1", "redis>=5.0.1"],
}
"""What they take, as in pyproject.toml. Hints do not name the package: on PyPI it would be somebody else's."""


def require(extra: str, *modules: str) -> None:
    """See to it that the libraries of an extra are installed.

    Args:
        extra: of ``EXTRAS``.
        *modules: the names that they are imported by.

    Raises:
        ImportError: one is missing; the message names the line that installs it.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            packages = " ".join(f'"{package}"' for package in EXTRAS[extra])
            raise ImportError(
                f"a store needs the package {module}, which cannot be imported ({type(error).__name__}); "
                f"install it: python -m pip install {packages}",
                name=module,
            ) from None
