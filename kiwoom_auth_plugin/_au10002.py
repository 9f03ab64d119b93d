"""AU10002, revocation of an access token (compare RFC 7009): its bytes, and nothing else."""

import json

from ._answer import Answer, Context, success
from ._keys import Masked, MaskedBytes

PATH = "/oauth2/revoke"
NAME = "AU10002"


def request_body(appkey: str, secretkey: Masked, token: Masked) -> MaskedBytes:
    """The body of the request: three fields, all of them required."""
    return MaskedBytes(json.dumps({"appkey": appkey, "secretkey": secretkey, "token": token}).encode())


def check(answer: Answer, *, host: str, secretkey: Masked, token: Masked) -> None:
    """Return if the answer says that the token is revoked.

    Raises:
        KiwoomAuthError: it says no, or is not one that AU10002 gives.
    """
    success(answer, Context(NAME, host, (secretkey, token)))
