"""AU10001, issue of an access token (RFC 6749, section 4.4: client credentials): its bytes, and nothing else."""

import json
import re
from datetime import datetime

from ._answer import Answer, Context, invalid, success
from ._clock import KST
from ._keys import Masked, MaskedBytes, digest
from ._token import LAST_MOMENT, LONGEST_LIFE, AccessToken, is_token

PATH = "/oauth2/token"
NAME = "AU10001"

_EXPIRY = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})")
_DASHED_EXPIRY = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})")


def request_body(appkey: str, secretkey: Masked) -> MaskedBytes:
    """The body of the request: three fields, all of them required."""
    fields = {"grant_type": "client_credentials", "appkey": appkey, "secretkey": secretkey}
    return MaskedBytes(json.dumps(fields).encode())


def read(answer: Answer, *, host: str, secretkey: Masked, sent_at: float, wall: float) -> AccessToken:
    """The token in the answer.

    Its deadline is as far from now as ``expires_dt`` (KST) is from the server's own clock, the ``Date`` header, so
    that a wrong clock on this machine does no harm.

    Args:
        answer: the answer.
        host: the origin it came from.
        secretkey: the one it was asked with.
        sent_at: seconds on the clock of ``Clock.now()`` when the request was sent.
        wall: the machine's clock in seconds since the epoch, for answers without a ``Date``.

    Raises:
        KiwoomAuthError: the answer says no, or is not one that AU10001 gives.
    """
    context = Context(NAME, host, (secretkey,))
    fields = success(answer, context)
    token = fields.get("token")
    if not is_token(token):
        raise invalid(answer, context, "its token is missing or not 1 to 8192 characters of visible ASCII")
    token_type = fields.get("token_type")
    if token_type is not None and (not isinstance(token_type, str) or token_type.lower() != "bearer"):
        raise invalid(answer, context, "its token_type is not bearer")
    expires = expiry(fields.get("expires_dt"))
    if expires is None:
        raise invalid(answer, context, "its expires_dt is missing or not a date and time")
    dated = wall if answer.date is None else answer.date
    life = expires - dated
    if not 0 < life <= LONGEST_LIFE:
        why = f"its token would expire in {life / 3600:.1f} hours; possible are 0 to 24"
        # A server that hands back the token it has may do so while that expires; a little later it has another.
        raise invalid(answer, context, why, retryable=-LAST_MOMENT < life <= 0)
    return AccessToken(Masked(token), sent_at, sent_at + life, digest(secretkey), dated)


def expiry(expires_dt: object) -> float | None:
    """``expires_dt`` in seconds since the epoch: ``20241107083713`` or ``2024-12-31 23:59:59``, both in KST."""
    if not isinstance(expires_dt, str):
        return None
    match = _EXPIRY.fullmatch(expires_dt) or _DASHED_EXPIRY.fullmatch(expires_dt)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=KST).timestamp()
    except (ValueError, OverflowError):
        return None
