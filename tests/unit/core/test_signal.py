from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from momentum_lab.core.signal import Decision, Outcome, Reason, passed


def test_a_pass_keeps_both_sides_of_the_comparison() -> None:
    found = passed(Reason.NO_SHOCK_PRICE, "too small", observed=2.6, limit=3.0, unit="x ATR")

    assert found == Decision(Outcome.PASS, Reason.NO_SHOCK_PRICE, "too small", 2.6, 3.0, "x ATR")


def test_a_pass_without_a_comparison_has_no_sides() -> None:
    found = passed(Reason.NO_TICKER, "no symbol")

    assert (found.observed, found.limit, found.unit) == (None, None, "")


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_is_stored_under_its_own_name(reason: Reason) -> None:
    assert reason.value == reason.name
    assert Reason(reason.value) is reason


def test_the_outcomes_are_three() -> None:
    assert {outcome.value for outcome in Outcome} == {"enter", "pass", "shadow"}


def test_a_decision_is_not_changed_afterwards() -> None:
    found = passed(Reason.NO_TICKER, "no symbol")

    with pytest.raises(FrozenInstanceError):
        found.reason = Reason.SHOCK  # type: ignore[misc]  # that is the point
