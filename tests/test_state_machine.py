"""Issue, refusal, expiry, invalidation, failure, rest, refresh and time in any order: the promises always hold.

The server's clock and the local one stand still but for the steps that move them, both alike.
"""

import asyncio
from datetime import timedelta

import pytest
import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kiwoom_auth_plugin import KiwoomAuthError, KiwoomBearerAuth
from kiwoom_auth_plugin.testing import Answer, KiwoomEmulator, recorded

from .clients import BODY, HEADERS, TR
from .conftest import ManualClock
from .crowd import PATIENCE, land

DAY = 24 * 3600.0
MARGIN = 300.0
FAILURES = {
    "500": Answer.html("oops", 500),
    "429": recorded.ISSUED_TOO_OFTEN,
    "lost": Answer.as_usual(cut="before"),
    "8001": recorded.BAD_KEY_PAIR,
    "maintenance": recorded.MAINTENANCE,
}


class Promises(RuleBasedStateMachine):
    """What the plugin may do in each step, told from the outside: from the server's journal."""

    @initialize(model=st.sampled_from(["same", "replace"]))
    def start(self, model):
        self.kiwoom = KiwoomEmulator(reissue=model)
        self.kiwoom.start()
        self.kiwoom.clock.freeze()
        self.clock = ManualClock(self.kiwoom.clock.now().timestamp())
        self.clock.sleep = self.wait
        kind = type("KiwoomBearerAuth", (KiwoomBearerAuth,), {"_clock": self.clock})
        self.cache = {}
        self.auth = kind(self.kiwoom.appkey, self.kiwoom.secretkey, host=self.kiwoom.url, cache=self.cache)
        self.session = requests.Session()
        self.rest = 0.0
        self.rest_until = 0.0
        self.refusals = 0
        self.quiet_until = 0.0

    def teardown(self):
        land()
        self.session.close()
        self.kiwoom.stop()

    # What is looked at

    def wait(self, seconds):
        self.clock.advance(seconds)
        self.kiwoom.clock.advance(seconds)

    def attempts(self):
        return len(self.kiwoom.calls("au10001"))

    @property
    def present(self):
        """The token that the plugin would use, from its snapshot."""
        token = self.auth._source.token
        return token if token is not None and self.clock.now() < token.deadline else None

    @property
    def is_due(self):
        token = self.present
        return token is not None and token.deadline - self.clock.now() <= MARGIN

    def note(self, error, attempts, issues_allowed=1):
        """Judge what a step that wanted a token did at the server, and keep the model of the rest."""
        assert self.kiwoom.secretkey not in f"{error}{error!r}"
        if self.clock.now() - attempts[1] < 0:
            raise AssertionError("the clock ran backwards")
        made = self.attempts() - attempts[0]
        if error is None:
            assert made <= 3 * issues_allowed
            return
        assert isinstance(error, KiwoomAuthError)
        if attempts[1] < self.rest_until:
            assert made == 0, "the server was asked within the rest"
            return
        assert made >= 1, "an error that is no answer of the server's, and no rest"
        self.rest = min(max(1.0, self.rest * 2), 5.0 if error.retryable else 60.0)
        self.rest_until = self.clock.now() + self.rest

    def forget_the_rest(self):
        self.rest = self.rest_until = 0.0

    # What may happen

    @rule(asynchronous=st.booleans())
    def get_a_token(self, asynchronous):
        before = (self.attempts(), self.clock.now())
        present, is_due = self.present, self.is_due
        error = token = None
        try:
            token = asyncio.run(self.auth.aget_token()) if asynchronous else self.auth.get_token()
        except KiwoomAuthError as caught:
            error = caught
        if present is not None:
            assert token == present.value, "the present token is used as long as it is valid"
            if not is_due:
                assert self.attempts() == before[0], "a valid token needs no issue"
        else:
            self.note(error, before)
            if error is None:
                assert token == self.kiwoom.token, "an issue brings the token that the server takes"
                self.forget_the_rest()
        land()

    @rule()
    def make_a_call(self):
        before = (self.attempts(), self.clock.now())
        calls = len(self.kiwoom.calls("ka10001"))
        present, is_due, alive = self.present, self.is_due, self.kiwoom.token
        error = code = None
        try:
            answer = self.session.post(
                self.kiwoom.url + TR, data=BODY, headers=HEADERS, auth=self.auth, timeout=PATIENCE
            )
            code = answer.json()["return_code"]
        except KiwoomAuthError as caught:
            error = caught
        sent = self.kiwoom.calls("ka10001")[calls:]
        land()
        assert len(sent) <= 2, "repeated more than once"
        assert len({call.token for call in sent}) == len(sent), "repeated with the same token"
        refused_by_order = min(self.refusals, len(sent))
        self.refusals -= refused_by_order
        if present is not None and present.value == alive and not refused_by_order and not is_due:
            assert (len(sent), code, self.attempts()) == (1, 0, before[0]), "a valid token needs nothing but the call"
        if error is None and not refused_by_order and self.clock.now() >= self.quiet_until:
            assert code == 0, "a refusal was shown though another token could be had"
        if before[1] < self.quiet_until and present is not None and not is_due:
            assert self.attempts() == before[0], "a refusal caused an issue within the quiet time"
        if error is not None and not (present is not None and not sent):
            self.note(error, before, 2)
        if error is None and self.attempts() > before[0] and not is_due:
            self.forget_the_rest()
        if code == 3:
            self.quiet_until = max(self.quiet_until, self.auth._source._refusals._quiet_until)

    @rule()
    def look(self):
        before = self.attempts()
        expires_at = self.auth.expires_at
        assert (expires_at is None) == (self.present is None and not self.in_cache())
        assert self.attempts() == before

    def in_cache(self):
        return any(
            token.deadline > self.clock.now() and token != self.auth._source._refusals.latest
            for token in self.cache.values()
        )

    @rule()
    def the_server_forgets_the_token(self):
        self.kiwoom.expire_tokens()

    @rule(times=st.integers(1, 3))
    def the_server_refuses_calls(self, times):
        self.kiwoom.refuse_next(times)
        self.refusals += times

    @rule(failure=st.sampled_from(sorted(FAILURES)), times=st.integers(1, 4))
    def the_server_fails(self, failure, times):
        self.kiwoom.script("/oauth2/token", *[FAILURES[failure]] * times)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0, 29.0, 31.0, 60.0, 290.0, 3600.0, DAY / 2, DAY - 200, DAY]))
    def time_passes(self, seconds):
        self.wait(seconds)

    @rule(hours=st.integers(1, 30))
    def the_machine_sleeps(self, hours):
        self.clock.suspend(hours * 3600.0)
        self.kiwoom.clock.advance(timedelta(hours=hours))

    @rule(which=st.sampled_from(["present", "another"]))
    def a_websocket_refuses(self, which):
        token = self.present
        self.auth.invalidate(token.value if token and which == "present" else "another-token")
        if token and which == "present":
            assert self.present is None
            self.quiet_until = 0.0
        else:
            assert self.present is token, "a newer token stays"
        self.forget_the_rest()

    @rule()
    def revoke(self):
        token = self.present
        known = token is not None or self.in_cache()
        revocations = len(self.kiwoom.calls("au10002"))
        code = None
        try:
            self.auth.revoke()
        except KiwoomAuthError as error:
            code = error.code
        assert code in {None, 8015}, "it fails only where the token was dead before"
        assert self.present is None
        assert self.auth.expires_at is None
        assert len(self.kiwoom.calls("au10002")) - revocations == int(known)
        if known:
            self.quiet_until = 0.0
        self.forget_the_rest()

    # What holds always

    @invariant()
    def no_request_breaks_the_specification(self):
        if hasattr(self, "kiwoom"):
            assert not [call.violations for call in self.kiwoom.journal if call.violations]
            self.kiwoom.clear_journal()

    @invariant()
    def no_deadline_is_later_than_the_servers(self):
        token = getattr(self, "auth", None) and self.present
        if token and token.value == self.kiwoom.token:
            expires = self.kiwoom._kiwoom.accounts[self.kiwoom.appkey].expires
            left = (expires - self.kiwoom.clock.now()).total_seconds()
            assert token.deadline - self.clock.now() <= left + 1

    @invariant()
    def nothing_is_under_way(self):
        if hasattr(self, "auth"):
            assert self.auth._source._flight is None


TestPromises = pytest.mark.filterwarnings("error")(Promises.TestCase)
TestPromises.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
