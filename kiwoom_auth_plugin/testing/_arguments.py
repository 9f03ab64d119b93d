"""What tests give to the local Kiwoom, checked at once: what is wrong would only come up on the server's thread."""

import math
from typing import Any

from kiwoom_auth_plugin._origin import Origin


def instance(name: str, value: Any, *kinds: type) -> None:
    """A value of one of these types; a bool is no int.

    Raises:
        TypeError: it is another; the message names the argument, and not its value, which may be a secret.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def number(name: str, value: Any, least: int, most: int | None = None) -> None:
    """A whole number within bounds.

    Raises:
        TypeError: it is none.
        ValueError: it is out of bounds.
    """
    instance(name, value, int)
    if value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {value}: it must be {bounds}")


def loopback(name: str, value: Any) -> None:
    """An address of this machine that no other reaches.

    Raises:
        TypeError: it is no string.
        ValueError: it is another.
    """
    instance(name, value, str)
    if not Origin("http", value, 80).is_loopback:
        raise ValueError(f"{name} is {value!r}: it must be 'localhost', '::1' or of 127.0.0.0/8")


def seconds(name: str, value: Any) -> None:
    """A finite number of seconds, not negative.

    Raises:
        TypeError: it is none.
        ValueError: it is out of bounds.
    """
    instance(name, value, int, float)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}: it must be a finite number of seconds, not negative")


def choice(name: str, value: Any, *choices: object) -> None:
    """One of several.

    Raises:
        ValueError: it is another.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: it must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")


def listener(name: str, value: Any) -> None:
    """A callable, or None.

    Raises:
        TypeError: it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")


def path(value: Any) -> str:
    """The path of a request, without a query.

    Raises:
        TypeError: it is no string.
        ValueError: it is no path.
    """
    instance("path", value, str)
    if not value.startswith("/") or "?" in value:
        raise ValueError(f"{value!r} is not a path: it must start with /, and have no query")
    return str(value)
