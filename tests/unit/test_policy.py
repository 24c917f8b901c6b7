"""The retry policy and the plan for a failure: pure, so tried with everything."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyqueue import ConfigError, Feature, Queue, Rejected, Retry, RetryLater, Undecodable
from anyqueue.driver import Reject, Release
from anyqueue.policy import DEATH_REASON, Rerun, Resend, Settle, Situation, Tell, describe, give_up, plan_failure

DEATH = {"aq-death-origin": "q"}
BROKER = Feature.ATTEMPTS | Feature.RELEASE | Feature.RELEASE_DELAY


def _union(features: list[Feature]) -> Feature:
    union = Feature.NONE
    for feature in features:
        union |= feature
    return union


FEATURES = st.lists(st.sampled_from([*BROKER, Feature.DELAY, Feature.DEAD_LETTER])).map(_union)
ERRORS = st.sampled_from(
    [ValueError("x"), KeyError(), Rejected("no"), Undecodable("not JSON"), RetryLater(None), RetryLater(2.0)]
)
RETRIES = st.none() | st.builds(
    Retry,
    attempts=st.integers(1, 5),
    initial=st.floats(0, 100),
    maximum=st.floats(0, 1000),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
    on=st.sampled_from([Exception, ValueError, (KeyError, ValueError), lambda error: isinstance(error, KeyError)]),
)
SITUATIONS = st.builds(
    Situation,
    features=FEATURES,
    attempt=st.integers(1, 8),
    retry=RETRIES,
    home=st.none() | st.just(Queue("home")),
    dead_letter=st.none() | st.just(Queue("q.dead")),
    bound=st.booleans(),
    max_delay=st.none() | st.floats(0, 50),
    now=st.just(1e9),
    chance=st.floats(0, 1, exclude_max=True),
)


def situation(**changes: Any) -> Situation:
    plain: dict[str, Any] = {
        "features": Feature.NONE,
        "attempt": 1,
        "retry": Retry(initial=8.0, jitter=0.5),
        "home": Queue("home"),
        "dead_letter": Queue("q.dead"),
        "bound": True,
        "max_delay": None,
        "now": 1e9,
        "chance": 0.0,
    }
    return Situation(**{**plain, **changes})


def test_the_delays_of_the_default_policy() -> None:
    assert [Retry().delay(attempt) for attempt in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert Retry().delay(100) == 300.0
    assert Retry().delay(2, chance=0.5) == 1.5


@given(RETRIES.filter(bool), st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_bounded_and_grows(retry: Retry, attempt: int, chance: float) -> None:
    delay = retry.delay(attempt, chance)
    assert 0 <= delay <= retry.maximum
    assert retry.delay(attempt) <= retry.delay(attempt + 1)
    assert (1 - retry.jitter) * retry.delay(attempt) <= delay * (1 + 1e-9) + 1e-300
    assert math.isfinite(delay)


@pytest.mark.parametrize("initial", [0.0, 1.0])
def test_attempt_a_million_does_not_overflow(initial: float) -> None:
    assert Retry(initial=initial, factor=1e300).delay(10**6) == (300.0 if initial else 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("attempts", value) for value in (0, -1, True, 1.0, "3", None, math.nan)],
        *[(name, value) for name in ("initial", "maximum", "factor", "jitter") for value in (-1, math.nan, math.inf)],
        *[(name, value) for name in ("initial", "maximum", "factor", "jitter") for value in (True, "1", None)],
        ("factor", 0.5),
        ("jitter", 1.1),
        ("on", 3),
        ("on", "ValueError"),
    ],
)
def test_what_cannot_be_meant_is_refused(field: str, value: object) -> None:
    with pytest.raises((TypeError, ConfigError), match=f"Retry.{field}"):
        Retry(**{field: value})  # type: ignore[arg-type]


def test_on_chooses() -> None:
    assert Retry(on=OSError).wants(FileNotFoundError())
    assert not Retry(on=OSError).wants(ValueError())
    assert Retry(on=(OSError, ValueError)).wants(ValueError())
    assert Retry(on=lambda error: "again" in str(error)).wants(ValueError("again"))
    assert not Retry(on=lambda error: "again" in str(error)).wants(ValueError("never"))


@given(ERRORS, SITUATIONS)
def test_no_plan_asks_for_what_the_broker_has_not(error: Exception, here: Situation) -> None:
    plan = plan_failure(error, here, DEATH)
    match plan:
        case Settle(settlement=Release() as release):
            assert Feature.ATTEMPTS in here.features
            assert (Feature.RELEASE_DELAY if release.delay else Feature.RELEASE | Feature.RELEASE_DELAY) & here.features
            assert release.failed_at == here.now
        case Settle(settlement=Reject() as reject):
            assert here.dead_letter is None or (here.bound and Feature.DEAD_LETTER in here.features)
            assert (DEATH_REASON in reject.headers) == (here.dead_letter is not None)
        case Resend(dead=True):
            assert plan.address == here.dead_letter
            assert (plan.delay, plan.park) == (0.0, 0.0)
        case Resend():
            assert plan.address == here.home
            assert not plan.delay or Feature.DELAY in here.features
            assert not (plan.delay and plan.park)
        case Rerun():
            assert here.home is None
    assert plan.reason


@given(ERRORS, SITUATIONS)
def test_attempts_end(error: Exception, here: Situation) -> None:
    plan = plan_failure(error, here, DEATH)
    over = here.retry is not None and here.attempt >= here.retry.attempts
    if over or isinstance(error, Rejected | Undecodable):
        assert isinstance(plan, Settle | Resend)
        assert not isinstance(plan, Settle) or isinstance(plan.settlement, Reject)
        assert not isinstance(plan, Resend) or plan.dead
    elif isinstance(error, RetryLater):
        assert not (isinstance(plan, Settle) and isinstance(plan.settlement, Reject))
        assert not (isinstance(plan, Resend) and plan.dead)


@given(SITUATIONS)
def test_no_delay_is_over_the_limit(here: Situation) -> None:
    plan = plan_failure(RetryLater(60.0), here, DEATH)
    delays = {Release: lambda: plan.settlement.delay, Resend: lambda: plan.delay + plan.park, Rerun: lambda: plan.delay}
    kind = type(plan.settlement) if isinstance(plan, Settle) else type(plan)
    if kind in delays:
        wanted = 0.0 if isinstance(plan, Resend) and plan.dead else min(60.0, here.max_delay or 60.0)
        wanted = 0.0 if here.max_delay == 0 else wanted
        assert delays[kind]() == wanted


def test_the_order_of_preference() -> None:
    error = ValueError("x")
    plan = plan_failure(error, situation(features=BROKER | Feature.DELAY), DEATH)
    assert plan == Settle(settlement=Release(8.0, failed_at=1e9), reason="ValueError: x")
    plan = plan_failure(error, situation(features=Feature.DELAY), DEATH)
    assert plan == Resend(address=Queue("home"), delay=8.0, reason="ValueError: x")
    plan = plan_failure(error, situation(), DEATH)
    assert plan == Resend(address=Queue("home"), park=8.0, reason="ValueError: x")
    plan = plan_failure(error, situation(home=None, features=Feature.DELAY), DEATH)
    assert plan == Rerun(delay=8.0, reason="ValueError: x")
    at_once = situation(features=Feature.ATTEMPTS | Feature.RELEASE)
    assert plan_failure(RetryLater(0), at_once, DEATH) == Settle(
        settlement=Release(0, failed_at=1e9), reason="the handler asked for it later"
    )
    assert isinstance(plan_failure(RetryLater(1), at_once, DEATH), Resend)


def test_the_jitter_shortens() -> None:
    plan = plan_failure(ValueError(), situation(features=BROKER, chance=0.999999), DEATH)
    assert isinstance(plan, Settle)
    assert isinstance(plan.settlement, Release)
    assert plan.settlement.delay == pytest.approx(4.0, rel=1e-3)


def test_giving_up() -> None:
    bound = situation(features=Feature.DEAD_LETTER)
    assert give_up("why", bound, DEATH) == Settle(
        settlement=Reject("why", {**DEATH, DEATH_REASON: "why"}), reason="why"
    )
    unbound = situation(features=Feature.DEAD_LETTER, bound=False)
    assert give_up("why", unbound, DEATH) == Resend(address=Queue("q.dead"), reason="why", dead=True)
    assert give_up("why", situation(dead_letter=None), DEATH) == Settle(settlement=Reject("why"), reason="why")


@pytest.mark.parametrize(
    ("error", "retry", "attempt", "reason"),
    [
        (Rejected("no"), Retry(), 1, "no"),
        (Undecodable("not JSON"), Retry(), 1, "undecodable: not JSON"),
        (ValueError("x"), None, 1, "failed: ValueError: x"),
        (ValueError("x"), Retry(on=OSError), 1, "failed: ValueError: x"),
        (ValueError("x"), Retry(attempts=2), 2, "failed 2 times: ValueError: x"),
        (RetryLater(1), Retry(attempts=2), 3, "failed 3 times: the handler asked for it later"),
    ],
)
def test_the_reason_says_why(error: Exception, retry: Retry | None, attempt: int, reason: str) -> None:
    assert plan_failure(error, situation(retry=retry, attempt=attempt), DEATH).reason == reason


class Unprintable(Exception):
    """An exception whose message cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError


def test_any_exception_can_be_described() -> None:
    assert describe(ValueError("x")) == "ValueError: x"
    assert describe(KeyError()) == "KeyError"
    assert describe(Unprintable()) == "Unprintable: (its message cannot be printed)"
    assert describe(RetryLater(3)) == "the handler asked for it later"


@given(ERRORS, SITUATIONS.map(lambda here: dataclasses.replace(here, asks=True)))
def test_a_request_is_told_and_neither_retried_nor_a_dead_letter(error: Exception, here: Situation) -> None:
    plan = plan_failure(error, here, DEATH)
    if isinstance(error, RetryLater) and not (here.retry and here.attempt >= here.retry.attempts):
        assert not isinstance(plan, Tell)
    else:
        assert isinstance(plan, Tell)
        assert plan.reason
    assert isinstance(give_up("expired", here, DEATH), Tell)
