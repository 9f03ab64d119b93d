"""What is told of a token: a line for people, fields for machines, an event for ``on_event``, and no secret in any."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from ._interrupts import is_an_interrupt
from ._keys import masked

logger = logging.getLogger("kiwoom_auth_plugin")


class AuthEvent(NamedTuple):
    """Something that happened to a token; what does not apply is None.

    Log records have the same as attributes: the name as ``kiwoom_event``, the others as ``kiwoom_host`` and so on.
    """

    name: str
    """One that stays, such as ``token.issued``."""
    host: str
    """The origin, such as ``https://api.kiwoom.com``."""
    appkey: str
    """Masked: its first characters."""
    message: str
    """For people; its words may change."""
    expires_at: datetime | None
    """When the token ends, on this machine's clock, in KST."""
    code: int | None
    """Kiwoom's own, such as 8001."""
    attempt: int | None
    """Which one, from 1, within an exchange."""
    store: str | None
    """The class of the store."""


class Note(NamedTuple):
    """Something to tell, once no lock is held any more."""

    level: int
    event: str
    words: str
    expires_at: datetime | None = None
    code: int | None = None
    attempt: int | None = None
    store: str | None = None


class Log:
    """What is told of the token of one appkey at one host, on behalf of one auth object.

    Args:
        appkey: the appkey.
        host: the origin.
        on_event: hears of it too.
    """

    __slots__ = ("_appkey", "_host", "_on_event")

    def __init__(self, appkey: str, host: str, on_event: Callable[[AuthEvent], object] | None = None) -> None:
        self._appkey = masked(appkey)
        self._host = host
        self._on_event = on_event

    def tell(self, note: Note) -> None:
        """Log it and pass it on; whatever a handler, a filter or a listener raises does no harm.

        Raises:
            BaseException: what interrupts this thread meanwhile, unless logging itself keeps it.
        """
        told = AuthEvent(
            note.event,
            self._host,
            self._appkey,
            note.words,
            expires_at=note.expires_at,
            code=note.code,
            attempt=note.attempt,
            store=note.store,
        )
        self._log(note.level, told)
        if self._on_event is not None:
            try:
                self._on_event(told)
            except BaseException as error:  # pytest.fail(), too
                if is_an_interrupt(error):
                    raise
                words = f"on_event raised {type(error).__name__} at {note.event}"
                self._log(logging.WARNING, told._replace(name="listener.failed", message=words))

    def _log(self, level: int, told: AuthEvent) -> None:
        if not logger.isEnabledFor(level):
            return
        fields = {**told._asdict(), "event": told.name}
        extra = {f"kiwoom_{name}": value for name, value in fields.items() if name not in {"name", "message"}}
        try:
            logger.log(level, "%s: appkey %s: %s", self._host, self._appkey, told.message, extra=extra)
        except Exception as error:
            if is_an_interrupt(error):
                raise
