"""How a token leaves the process: encrypted and authenticated under a key that only the secretkey gives.

The key of a store's entry is an HMAC of appkey and host under the secretkey, so it tells neither, and a rotated
secretkey starts afresh. The entry is a Fernet token (AES-128-CBC and HMAC-SHA256) under a key derived by HKDF-SHA256
(RFC 5869) from the secretkey and the entry's key, so it opens under no other name.
"""

import base64
import hashlib
import hmac
import json
from typing import TypeGuard, cast

from ._clock import Clock
from ._keys import Masked, digest
from ._token import LONGEST_LIFE, AccessToken, is_token

VERSION = b"kiwoom1."
"""Begins each sealed value; another format gets another number, and is nothing to this one."""

_SIZE_LIMIT = 64 * 1024
_YEAR_10000 = 253_402_300_800.0
"""In seconds since the epoch: no moment is later, and neither NaN nor infinity is below it."""


class Seal:
    """Seals and opens the token of one appkey, host and secretkey.

    Args:
        appkey: the appkey.
        host: the origin.
        secretkey: the secretkey.
        clock: the time.
    """

    __slots__ = ("_clock", "_digest", "_fernet", "key")

    def __init__(self, appkey: str, host: str, secretkey: Masked, clock: Clock) -> None:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - of an extra, and not quick to import
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 - as above

        # Neither appkey nor host has a line feed in it.
        self.key = hmac.new(
            secretkey.encode(), f"kiwoom_auth_plugin\n{host}\n{appkey}".encode(), hashlib.sha256
        ).hexdigest()
        """The key of the store's entry: 64 hexadecimal digits."""
        hkdf = HKDF(SHA256(), 32, salt=None, info=VERSION + self.key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(hkdf.derive(secretkey.encode())))
        self._digest = digest(secretkey)
        self._clock = clock

    def close(self, token: AccessToken) -> bytes:
        """The token as a store keeps it: ASCII, at most 32 KiB."""
        fields = {
            "token": token.value,
            "issued": self._clock.wall() - (self._clock.now() - token.issued_at),
            "life": token.deadline - token.issued_at,
            "dated": token.dated,
        }
        return VERSION + self._fernet.encrypt(json.dumps(fields).encode())

    def open(self, value: bytes) -> AccessToken | None:
        """The valid token in what a store kept; None where it is none, or is not of this seal.

        Its deadline is on this machine's clock, which may differ from that of the one that sealed it: but nothing
        makes a token live longer from now on than when it was issued.
        """
        fields = self._fields(value)
        if fields is None:
            return None
        token, issued, life, dated = (fields.get(name) for name in ("token", "issued", "life", "dated"))
        if not is_token(token) or not (_is_number(issued) and _is_number(life) and _is_number(dated)):
            return None
        if not 0 < life <= LONGEST_LIFE:
            return None
        rest = min(issued + life - self._clock.wall(), life)
        if not 0 < rest <= life:
            return None
        deadline = self._clock.now() + rest
        return AccessToken(Masked(token), deadline - life, deadline, self._digest, dated)

    def _fields(self, value: bytes) -> dict[str, object] | None:
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - as above

        if len(value) > _SIZE_LIMIT or not value.startswith(VERSION):
            return None
        try:
            fields = json.loads(self._fernet.decrypt(value[len(VERSION) :]))
        except (InvalidToken, ValueError):
            return None
        return cast("dict[str, object]", fields) if isinstance(fields, dict) else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _YEAR_10000
