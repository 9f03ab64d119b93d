"""The official Kiwoom codes that concern authentication: how an answer carries one, and what each asks for."""

import re
from enum import Enum
from typing import NamedTuple

_EMBEDDED = re.compile(r"\[([0-9]{4})[:\]]|CODE=([0-9]{4})(?![0-9])")
_LARGEST = 999_999_999
_NUMERIC = re.compile(r"-?[0-9]{1,9}")


class Kind(Enum):
    """What a code is about."""

    REQUEST = "request"
    RATE = "rate"
    SERVER = "server"
    CREDENTIALS = "credentials"
    ADDRESS = "address"
    TOKEN = "token"  # noqa: S105 - a kind of code, no secret
    REVOKE = "revoke"


class OfficialCode(NamedTuple):
    """A row of Kiwoom's table of codes: Kiwoom's own words, what they are about, and what to do."""

    message: str
    kind: Kind
    advice: str


_HEADER = "The request reached Kiwoom without a well-formed Authorization header: pass auth= and set no header by hand."
_RATE = "Call less often: wait, and let all programs that use this appkey share one token."
_SERVER = "Kiwoom's server failed: try again later."
_PAIR = "Check appkey and secretkey: copied whole, from the same pair, not expired or deleted at the portal."
_ADDRESS = "Register this machine's public IP address for the appkey at https://openapi.kiwoom.com."
_OTHER_HOST = (
    "Real and mock keys are separate: use the key pair of this environment, or the host of this key pair: "
    "host=REAL_HOST or MOCK_HOST, or KIWOOM_HOST=https://api.kiwoom.com or https://mockapi.kiwoom.com."
)
_FOREIGN = (
    "A token serves only the environment that issued it, real or mock: call the host that it comes from (host= or "
    "KIWOOM_HOST)."
)
_BUG = "This package sends that field: please report it."
_AGAIN = (
    "KiwoomBearerAuth replaces the token and repeats the call by itself. If that does not help, see whether another "
    "program or machine issues or revokes tokens of this appkey (store= lets them share one); a token that was copied "
    "by hand has to be taken anew (kiwoom-auth revoke, then kiwoom-auth token)."
)
_DEVICE = f"If a new token does not help: {_ADDRESS}"

OFFICIAL_CODES: dict[int, OfficialCode] = {
    1513: OfficialCode("Http Header에 authorization 필드가 설정되어 있어야 합니다", Kind.REQUEST, _HEADER),
    1514: OfficialCode("입력으로 들어온 Http Header의 authorization 필드 형식이 맞지 않습니다", Kind.REQUEST, _HEADER),
    1515: OfficialCode(
        "Http Header의 authorization 필드 내 Grant Type이 미리 정의된 형식이 아닙니다", Kind.REQUEST, _HEADER
    ),
    1516: OfficialCode("Http Header의 authorization 필드 내 Token이 정의되어 있지 않습니다", Kind.REQUEST, _HEADER),
    1700: OfficialCode("허용된 API 요청 개수를 초과하였습니다", Kind.RATE, _RATE),
    1701: OfficialCode("허용된 전체 요청 개수를 초과하였습니다", Kind.RATE, _RATE),
    1702: OfficialCode("허용된 그룹 요청 개수를 초과하였습니다", Kind.RATE, _RATE),
    1999: OfficialCode("예기치 못한 에러가 발생했습니다", Kind.SERVER, _SERVER),
    8001: OfficialCode("App Key와 Secret Key 검증에 실패했습니다", Kind.CREDENTIALS, _PAIR),
    8002: OfficialCode("App Key와 Secret Key 검증에 실패했습니다", Kind.CREDENTIALS, _PAIR),
    8003: OfficialCode("Access Token을 조회하는데 실패했습니다", Kind.SERVER, _SERVER),
    8005: OfficialCode("Token이 유효하지 않습니다", Kind.TOKEN, _AGAIN),
    8006: OfficialCode("Access Token을 생성하는데 실패했습니다", Kind.SERVER, _SERVER),
    8009: OfficialCode("Access Token을 발급하는데 실패했습니다", Kind.SERVER, _SERVER),
    8010: OfficialCode(
        "Token을 발급받은 IP와 서비스를 요청한 IP가 동일하지 않습니다",
        Kind.TOKEN,
        "A token serves only the public IP address that it was issued to: let each address have a token of its own.",
    ),
    8011: OfficialCode("입력값에 grant_type이 들어오지 않았습니다", Kind.REQUEST, _BUG),
    8012: OfficialCode("grant_type의 값이 맞지 않습니다", Kind.REQUEST, _BUG),
    8015: OfficialCode(
        "Access Token을 폐기하는데 실패했습니다",
        Kind.REVOKE,
        "The token may live on until it expires; it is not used here. To be sure that it is dead, delete the appkey at "
        "https://openapi.kiwoom.com.",
    ),
    8016: OfficialCode("입력값에 Token이 들어오지 않았습니다", Kind.REVOKE, _BUG),
    8020: OfficialCode("입력파라미터로 appkey 또는 secretkey가 들어오지 않았습니다", Kind.CREDENTIALS, _PAIR),
    8030: OfficialCode("투자구분(실전/모의)이 달라서 Appkey를 사용할수가 없습니다", Kind.CREDENTIALS, _OTHER_HOST),
    8031: OfficialCode("투자구분(실전/모의)이 달라서 Token를 사용할수가 없습니다", Kind.TOKEN, _FOREIGN),
    8040: OfficialCode("단말기 인증에 실패했습니다", Kind.ADDRESS, _ADDRESS),
    8050: OfficialCode("지정단말기 인증에 실패했습니다", Kind.ADDRESS, _ADDRESS),
    8103: OfficialCode("토큰 인증 또는 단말기인증에 실패했습니다", Kind.TOKEN, _DEVICE),
}


def numeric(value: object) -> int | None:
    """The number that a ``return_code`` is: an int, or a string such as ``"0"`` or ``"0000"``; else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= _LARGEST else None
    if isinstance(value, str) and _NUMERIC.fullmatch(value):
        return int(value)
    return None


def official_code(return_code: object, return_msg: object) -> int | None:
    """The four-digit code that an answer carries.

    It stands in ``return_msg`` as ``[8005:`` or ``CODE=8005``, or is the ``return_code`` itself. The first one counts:
    what comes after it, as after the ``[2000]`` of an order that was turned down, may be anybody's words. An answer
    whose ``return_code`` is 0 says yes, whatever its text quotes.

    Returns:
        The code, or None where there is none (``return_code`` 3 alone says nothing).
    """
    number = numeric(return_code)
    if number == 0:
        return None
    if isinstance(return_msg, str) and (embedded := _EMBEDDED.search(return_msg)) and embedded[0][-1] != "]":
        return int(embedded[1] or embedded[2])
    return number if number is not None and 1000 <= number <= 9999 else None  # noqa: PLR2004 - four digits
