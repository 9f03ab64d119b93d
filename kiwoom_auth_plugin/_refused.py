"""What refusals teach: which token is not to be used again, and when the server has no other to give."""

import logging

from ._log import Note
from ._token import AccessToken

FUTILE_PAUSE = 30.0
"""Seconds without an issue after the server handed back the token that it had refused."""
YOUNG = 60.0
"""Seconds: who lets a token die within such a while of its issue does so on purpose, or by issuing another."""
YOUNG_DEATHS = 5
"""How many such tokens in a row are a reason to warn."""


class Refusals:
    """What one token source knows of refused tokens. Its owner's mutex guards it."""

    __slots__ = (
        "_died_young",
        "_futile",
        "_has_served",
        "_is_counted",
        "_is_replacement",
        "_is_young",
        "_quiet_until",
        "_told",
        "latest",
    )

    def __init__(self) -> None:
        self.latest: AccessToken | None = None
        """The one refused last, until another takes its place."""
        self._quiet_until = 0.0
        self._futile = 0
        # Of the present token:
        self._is_replacement = self._has_served = self._is_counted = False
        self._died_young = 0
        self._is_young = False
        self._told = False

    def refuse(self, token: AccessToken, now: float) -> bool:
        """Note that the present token is refused; False where the server is known to have no other at the moment."""
        if now - token.issued_at < FUTILE_PAUSE and not self._has_served:
            self._count_futile(now)
        if now < self._quiet_until:
            return False
        self._is_young = now - token.issued_at < YOUNG
        self.latest = token
        return True

    def forget(self, token: AccessToken) -> None:
        """Note that the present token is not to be used again, for whatever reason."""
        self._is_young = False
        self.latest = token

    def judge_replacement(self, now: float, *, accepted: bool) -> None:
        """Note whether the server accepted the present token, which replaced a refused one.

        Where new tokens do not help, each call would issue one: from the second in a row on, refusals go to the
        callers for 1 s, doubling to 30 s. One that serves some calls while others are refused all the same does not
        help those.
        """
        if accepted:
            self._has_served = True
        else:
            self._count_futile(now)

    def adopt(self, token: AccessToken, refused: AccessToken | None, now: float) -> Note | None:
        """Note that there is a new present token; return what to tell.

        Args:
            token: the new one.
            refused: the one it was to replace, if any.
            now: the time.
        """
        self.latest = None
        if refused is not None and token.value == refused.value:
            self._quiet_until = now + FUTILE_PAUSE
            return Note(logging.WARNING, "token.same", "AU10001 handed back the token that had been refused")
        self._quiet_until = 0.0
        if refused is None or (self._has_served and not self._is_counted):
            self._futile = 0
        self._is_replacement, self._has_served, self._is_counted = refused is not None, False, False
        if refused is None or not self._is_young:
            self._died_young, self._told = 0, False
            return None
        self._died_young += 1
        if self._died_young < YOUNG_DEATHS or self._told:
            return None
        self._told = True
        why = (
            f"{YOUNG_DEATHS} tokens in a row were refused within {YOUNG:g} seconds of their issue: another program "
            "issues or revokes tokens of this appkey. Let all of them share one by a store"
        )
        return Note(logging.WARNING, "token.contested", why)

    def _count_futile(self, now: float) -> None:
        if not self._is_replacement or self._is_counted:
            return
        self._is_counted = True
        self._futile += 1
        if self._futile > 1:
            self._quiet_until = now + min(2.0 ** min(self._futile - 2, 5), FUTILE_PAUSE)
