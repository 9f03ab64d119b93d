"""What to do, in Korean, for those who the doctor is for."""

from kiwoom_auth_plugin import (
    AddressRejected,
    CredentialsRejected,
    InvalidTokenResponse,
    IssueLimitExceeded,
    KiwoomAuthError,
    TokenEndpointUnreachable,
)
from kiwoom_auth_plugin._codes import OFFICIAL_CODES, Kind
from kiwoom_auth_plugin._reasons import Cause

KEYS = "키의 형식이 잘못되었습니다. 포털에서 받은 파일에서 공백 없이 그대로 옮기세요."
NO_KEYS = (
    "키가 없습니다. 환경 변수 KIWOOM_APPKEY와 KIWOOM_SECRETKEY를 설정하거나 "
    "--appkey-file과 --secretkey-file로 포털에서 받은 파일을 지정하세요."
)
HOST = (
    "서버 주소가 잘못되었습니다. KIWOOM_HOST 또는 --host는 https://mockapi.kiwoom.com처럼 https://로 시작해야 합니다."
)
FILES = "키 파일을 읽을 수 없습니다. --appkey-file과 --secretkey-file에 두 파일의 경로를 함께 적으세요."
NAME = "서버 이름을 찾을 수 없습니다. 네트워크와 DNS를 확인하세요."
CERTIFICATE = (
    "서버 인증서를 믿을 수 없습니다. 사내 프록시나 백신이 중간에 있는지, CA 인증서와 컴퓨터의 날짜가 맞는지 확인하세요."
)
BUNDLE = "CA 인증서 파일을 읽을 수 없습니다. 환경 변수 REQUESTS_CA_BUNDLE, SSL_CERT_FILE의 경로를 확인하세요."
TLS = "보안 연결(TLS)에 실패했습니다. 프록시나 방화벽이 중간에 있는지 확인하세요."
PROXY_ADDRESS = (
    "환경 변수 HTTPS_PROXY(또는 ALL_PROXY)의 프록시 주소가 잘못되었습니다. "
    "http://주소:포트 형식으로 적거나 변수를 지우세요."
)
PROXY = "프록시를 지나지 못했습니다. 환경 변수 HTTPS_PROXY와 프록시 계정을 확인하세요."
SERVER = "서버가 답하지 않습니다. 네트워크와 방화벽, 점검 시간을 확인하세요."
_SERVER_BY_PROXY = f"{SERVER} 프록시(HTTPS_PROXY)를 거치고 있으니 프록시도 확인하세요."
CLOCK = "컴퓨터의 시계가 맞지 않습니다. 인터넷 시간 동기화를 켜세요."
STORE = (
    "토큰을 둘 폴더나 파일을 쓸 수 없습니다. 이름이 표시된 파일은 지우세요(토큰은 다음에 다시 저장됩니다). "
    "폴더라면 소유자가 본인인지 확인하고, chmod 700을 한 뒤 다른 파일은 치우세요."
)
UNKNOWN = "키움이 거절했습니다. 표시된 메시지와 오류 번호를 포털(https://openapi.kiwoom.com)의 안내에서 찾아보세요."
ISSUE = "토큰 발급(AU10001)에 대한 응답을 알아볼 수 없습니다. 점검 시간인지, 프록시가 중간에 있는지 확인하세요."
CALL = "시세 조회(ka10001)의 응답이 올바르지 않습니다. 점검 시간인지 확인하세요."

_HEADER = "authorization 헤더가 없거나 형식이 잘못되었습니다. 헤더를 직접 넣지 말고 auth= 만 지정하세요."
_PACKAGE = "이 패키지가 채우는 항목입니다. 개발자에게 알려 주세요."
_OF_KIND = {
    Kind.REQUEST: _HEADER,
    Kind.RATE: "호출이 너무 잦습니다. 잠시 기다리고, 같은 앱키를 쓰는 프로그램은 토큰 하나를 함께 쓰게 하세요(store=).",
    Kind.SERVER: "키움 서버 오류입니다. 잠시 뒤에 다시 시도하세요.",
    Kind.CREDENTIALS: (
        "앱키와 시크릿키를 포털의 값과 비교하세요. 한 쌍인지, 잘리지 않았는지, 만료되거나 삭제되지 않았는지."
    ),
    Kind.ADDRESS: "이 컴퓨터의 공인 IP 주소를 포털(https://openapi.kiwoom.com)에서 이 앱키에 등록하세요.",
    Kind.TOKEN: (
        "토큰이 더는 통하지 않습니다. KiwoomBearerAuth가 새 토큰으로 한 번 다시 보냅니다. 그래도 계속 나오면 "
        "같은 앱키로 토큰을 발급하거나 폐기하는 다른 프로그램(다른 PC, 예약 작업)이 있는지 보고, "
        "store=로 토큰을 함께 쓰세요. 손으로 꺼낸 토큰이라면 kiwoom-auth revoke 후 kiwoom-auth token으로 다시 받으세요."
    ),
    Kind.REVOKE: (
        "토큰 폐기에 실패했습니다. 토큰은 만료될 때까지 살아 있을 수 있지만 여기서는 더 쓰지 않습니다. "
        "확실히 막으려면 포털(https://openapi.kiwoom.com)에서 앱키를 삭제하세요."
    ),
}
_OF_CODE = {
    1513: (
        "토큰 없이 호출했습니다. 키움이 아닌 주소(에뮬레이터 등)라면 KiwoomBearerAuth에 host=를 지정하고, "
        "auth=를 빠뜨리지 않았는지 확인하세요."
    ),
    8010: "토큰은 발급받은 공인 IP 주소에서만 통합니다. 주소마다 토큰을 따로 받으세요.",
    8011: _PACKAGE,
    8012: _PACKAGE,
    8016: _PACKAGE,
    8030: (
        "실전과 모의투자의 키는 서로 다릅니다. 이 서버에 맞는 키를 쓰거나 키에 맞는 서버를 지정하세요. "
        "host= 또는 KIWOOM_HOST: 실전은 https://api.kiwoom.com, 모의투자는 https://mockapi.kiwoom.com."
    ),
    8031: (
        "다른 환경(실전/모의투자)에서 발급받은 토큰입니다. 토큰은 발급받은 서버에서만 쓸 수 있으니 호출하는 주소와 "
        "KIWOOM_HOST(host=)를 맞추세요."
    ),
    8103: (
        "토큰이나 단말기 인증에 실패했습니다. 이 패키지는 새 토큰으로 한 번 다시 보냅니다. 그래도 안 되면 "
        "이 컴퓨터의 공인 IP 주소를 포털(https://openapi.kiwoom.com)에서 이 앱키에 등록하세요."
    ),
}


_OF_CAUSE = {
    Cause.NOT_YET_VALID: CERTIFICATE,
    Cause.EXPIRED: CERTIFICATE,
    Cause.ANOTHER_NAME: CERTIFICATE,
    Cause.NOT_TRUSTED: CERTIFICATE,
    Cause.BUNDLE: BUNDLE,
    Cause.PROXY: PROXY,
    Cause.SETTINGS: f"{PROXY_ADDRESS} SOCKS 프록시라면 pysocks를 설치하세요(python -m pip install pysocks).",
    Cause.TLS: TLS,
    Cause.NAME: NAME,
}


def of_cause(what: Cause, *, by_proxy: bool) -> str:
    """What to do where a server did not answer."""
    return _OF_CAUSE.get(what) or (_SERVER_BY_PROXY if by_proxy else SERVER)


def of_code(code: int) -> str:
    """What to do about one of the official codes."""
    return _OF_CODE.get(code) or _OF_KIND[OFFICIAL_CODES[code].kind]


def of_error(error: KiwoomAuthError) -> str:
    """What to do about an error."""
    if error.code in OFFICIAL_CODES:
        return of_code(error.code)
    kinds: dict[type[KiwoomAuthError], str] = {
        AddressRejected: _OF_KIND[Kind.ADDRESS],
        CredentialsRejected: _OF_KIND[Kind.CREDENTIALS],
        IssueLimitExceeded: _OF_KIND[Kind.RATE],
        InvalidTokenResponse: ISSUE,
        TokenEndpointUnreachable: SERVER,
    }
    return kinds.get(type(error), UNKNOWN)
