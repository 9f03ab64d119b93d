"""The log: a line for people, fields for machines, and no secret in either."""

import logging
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from ._keys import masked

logger = logging.getLogger("kiwoom_auth_plugin")
_FIELDS = "event", "host", "appkey", "expires_at", "code", "attempt", "store"


class Note(NamedTuple):
    """Something to tell, once no lock is held any more."""

    level: int
    event: str
    """A name that stays, such as ``token.issued``."""
    words: str
    expires_at: datetime | None = None
    code: int | None = None
    attempt: int | None = None
    store: str | None = None


class Log:
    """What is told of the token of one appkey at one host.

    Each record has the attributes ``kiwoom_event``, ``kiwoom_host`` and ``kiwoom_appkey`` (masked), and, None where
    they do not apply, ``kiwoom_expires_at``, ``kiwoom_code``, ``kiwoom_attempt`` and ``kiwoom_store``.

    Args:
        appkey: the appkey.
        host: the origin.
    """

    __slots__ = ("_appkey", "_host")

    def __init__(self, appkey: str, host: str) -> None:
        self._appkey = masked(appkey)
        self._host = host

    def tell(self, note: Note) -> None:
        """Log it; whatever a handler or a filter raises does no harm."""
        if not logger.isEnabledFor(note.level):
            return
        fields = {**note._asdict(), "host": self._host, "appkey": self._appkey}
        extra = {f"kiwoom_{name}": fields[name] for name in _FIELDS}
        with suppress(Exception):
            logger.log(note.level, "%s: appkey %s: %s", self._host, self._appkey, note.words, extra=extra)
