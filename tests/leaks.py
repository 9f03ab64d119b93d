"""What an exception shows to those who print it, pickle it, or look into the frames of its traceback."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kiwoom_auth_plugin

PACKAGE = Path(kiwoom_auth_plugin.__file__).parent


def shown_by(error: BaseException) -> str:
    """All that error trackers collect of an exception: its texts, its fields, the locals of the package's frames."""
    return "\n".join(part for link in _reachable(error) for part in _parts(link))


def _reachable(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]


def _parts(error: BaseException) -> Iterator[str]:
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield from traceback.format_exception(error)
    for name in ("request", "response"):
        with contextlib.suppress(RuntimeError):  # httpx: there is none
            yield f"{name} = {_printed(getattr(error, name, None))}"
    for frame, _line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE) and "testing" not in path.parts:
            for name, value in frame.f_locals.items():
                # Some trackers cut strings before they print them, or keep them as they are, whatever their repr.
                plain = (
                    str.__str__(value) if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else ""
                )
                yield f"{path.name}:{frame.f_code.co_name}: {name} = {_printed(value)} {plain!r}"


def _printed(value: Any) -> str:
    """As error trackers print it: the value, and one level of what it holds."""
    held = getattr(value, "__dict__", None)
    values = [value, *(held.values() if isinstance(held, dict) and not isinstance(value, type) else ())]
    return " ".join(map(_safely, values))


def _safely(value: Any) -> str:
    try:
        return repr(value)
    except AttributeError:  # of an object that is half made
        return "?"
