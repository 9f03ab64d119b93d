"""Answers of Kiwoom's server, ready to be scripted: as recorded, as claimed in public, as documented.

``refusal`` makes one for any official code. ``dataclasses.replace`` makes variants.
"""

from typing import Final

from ._answers import Answer

OFFICIAL_MESSAGES: Final[dict[int, str]] = {
    1501: "API ID가 Null이거나 값이 없습니다",
    1511: "필수 입력 값에 값이 존재하지 않습니다. 필수입력 파라미터={?}",
    1512: "Http header에 값이 설정되지 않았거나 읽을 수 없습니다",
    1513: "Http Header에 authorization 필드가 설정되어 있어야 합니다",
    1514: "입력으로 들어온 Http Header의 authorization 필드 형식이 맞지 않습니다",
    1515: "Http Header의 authorization 필드 내 Grant Type이 미리 정의된 형식이 아닙니다",
    1516: "Http Header의 authorization 필드 내 Token이 정의되어 있지 않습니다",
    1517: "입력 값 형식이 올바르지 않습니다. 파라미터={?}",
    1700: "허용된 API 요청 개수를 초과하였습니다. 유량={?}, API ID={?}",
    1701: "허용된 전체 요청 개수를 초과하였습니다. 총유량={?}",
    1702: "허용된 그룹 요청 개수를 초과하였습니다. 총유량={?}, API_ID={?}",
    1999: "예기치 못한 에러가 발생했습니다. 실패사유={?}",
    8001: "App Key와 Secret Key 검증에 실패했습니다",
    8002: "App Key와 Secret Key 검증에 실패했습니다. 실패사유={?}",
    8003: "Access Token을 조회하는데 실패했습니다. 실패사유={?}",
    8005: "Token이 유효하지 않습니다",
    8006: "Access Token을 생성하는데 실패했습니다. 실패사유={?}",
    8009: "Access Token을 발급하는데 실패했습니다. 실패사유={?}",
    8010: "Token을 발급받은 IP와 서비스를 요청한 IP가 동일하지 않습니다",
    8011: "Access Token을 발급하는데 실패했습니다. 입력값에 grant_type이 들어오지 않았습니다",
    8012: "Access Token을 발급하는데 실패했습니다. grant_type의 값이 맞지 않습니다",
    8015: "Access Token을 폐기하는데 실패했습니다. 실패사유={?}",
    8016: "Access Token을 폐기하는데 실패했습니다. 입력값에 Token이 들어오지 않았습니다",
    8020: "입력파라미터로 appkey 또는 secretkey가 들어오지 않았습니다.",
    8030: "투자구분(실전/모의)이 달라서 Appkey를 사용할수가 없습니다",
    8031: "투자구분(실전/모의)이 달라서 Token를 사용할수가 없습니다",
    8040: "단말기 인증에 실패했습니다",
    8050: "지정단말기 인증에 실패했습니다",
    8103: "토큰 인증 또는 단말기인증에 실패했습니다. 실패사유={?}",
}
"""Kiwoom's own words for the codes that concern authentication; ``{?}`` is filled in by the server."""

_WRAPPERS: Final[dict[int, str]] = {
    2: "입력 값 오류입니다",
    5: "허용된 요청 개수를 초과하였습니다",
}


def refusal(code: int, *, status: int = 200, return_code: int = 3) -> Answer:
    """Kiwoom's no: an official code, embedded in ``return_msg`` the way the server does it.

    Args:
        code: one of ``OFFICIAL_MESSAGES``.
        status: HTTP status.
        return_code: the outer code: 3 authentication, 2 input, 5 rate; it picks the wrapping words.

    Raises:
        ValueError: ``code`` is not in ``OFFICIAL_MESSAGES``.
    """
    if code not in OFFICIAL_MESSAGES:
        raise ValueError(f"{code} is none of the official codes that concern authentication")
    return _said(OFFICIAL_MESSAGES[code], code, status, return_code)


def _said(message: str, code: int, status: int, return_code: int) -> Answer:
    wrapper = _WRAPPERS.get(return_code, "인증에 실패했습니다")
    body = {"return_code": return_code, "return_msg": f"{wrapper}[{code}:{message}]"}
    return Answer.json(body, status)


# AU10001

BAD_KEY_PAIR = refusal(8001)
"""The appkey and the secretkey do not belong together."""

WRONG_ENVIRONMENT = refusal(8030, return_code=2)
"""A key of the real host was used on the mock host, or the reverse."""

ADDRESS_NOT_REGISTERED = refusal(8050)
"""This IP address is not registered for the key."""

TERMINAL_REFUSED = refusal(8040)
"""The terminal's authentication failed."""

ISSUED_TOO_OFTEN = _said(
    "허용된 API 요청 개수를 초과하였습니다. 유량=au10001, API ID={1}", code=1700, status=429, return_code=5
)
"""More AU10001 calls than about two a second."""

ISSUE_FAILED = refusal(8009)
"""The server failed to issue, for reasons of its own."""

MAINTENANCE = Answer.html("<html><head><title>점검</title></head><body>시스템 점검 중입니다.</body></html>")
"""Status 200 and a page that is not JSON."""

WEEKEND_REDIRECT = Answer.redirect("/error.html")
"""A redirect to an HTML page, as reported from weekends."""

# TR calls

INVALID_TOKEN = refusal(8005)
"""The token is not valid, in the recorded form: status 200, return_code 3."""

INVALID_TOKEN_TOP_LEVEL = Answer.json({"return_code": 8005, "return_msg": OFFICIAL_MESSAGES[8005]})
"""The same with the code at top level."""

TOKEN_OF_OTHER_ENVIRONMENT = refusal(8031)
"""A token of the real host was used on the mock host, or the reverse."""

TOKEN_OF_OTHER_ADDRESS = refusal(8010)
"""The token was issued to another IP address."""

TOKEN_OR_TERMINAL = refusal(8103)
"""Either the token or the terminal."""

UNAUTHORIZED = Answer(status=401)
"""A bare 401, without a body."""

NO_AUTHORIZATION = refusal(1513, return_code=2)
"""The call had no authorization header."""

TOO_MANY_CALLS = _said(
    "허용된 API 요청 개수를 초과하였습니다. 유량=ka10001, API ID={1}", code=1700, status=429, return_code=5
)
"""The rate limit, with status 429."""

TOO_MANY_CALLS_200 = _said(
    "허용된 API 요청 개수를 초과하였습니다. 유량=ka10001, API ID={1}", code=1700, status=200, return_code=5
)
"""The rate limit, with status 200."""

BUSINESS_ERROR = Answer.json({"return_code": 20, "return_msg": "[2000](RC4058:모의투자 장종료 상태입니다)"})
"""An error of the business itself, which says nothing about the token."""

UNEXPECTED_ERROR = refusal(1999, status=500, return_code=99)
"""The server's own fault."""

# AU10002

REVOKE_FAILED = refusal(8015)
"""The token could not be revoked."""
