from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from momentum_lab.core.account_risk import (
    EntryRequest,
    RiskParameters,
    RiskSnapshot,
    refuse_entry,
)
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.risk_state import RiskState
from momentum_lab.core.signal import Outcome, Reason
from momentum_lab.errors import ParameterError
from tests.factories import NOON

CALM = RiskSnapshot(
    state=RiskState.ACTIVE,
    state_cause="",
    equity_usd=100_000.0,
    start_equity_usd=100_000.0,
    day_pnl_usd=0.0,
    open_risk_usd=0.0,
    gross_usd=0.0,
    n_open=0,
)
LONG = EntryRequest("SPY", Side.BUY, NOON, 100.0, 100.0, 0.2, 102.0, 100.0)
SHORT = replace(LONG, side=Side.SELL, target_usd=98.0)


def _refused(
    *, request: EntryRequest = LONG, parameters: RiskParameters | None = None, **changes: Any
) -> tuple[Reason, float | None, float | None] | None:
    found = refuse_entry(replace(CALM, **changes), request, parameters or RiskParameters())
    if found is None:
        return None
    assert found.outcome is Outcome.PASS
    assert found.text
    return found.reason, found.observed, found.limit


def test_a_calm_account_may_enter_either_way() -> None:
    assert _refused() is None
    assert _refused(request=SHORT) is None


@pytest.mark.parametrize("state", [RiskState.REDUCING, RiskState.HALTED])
def test_a_brake_that_is_on_comes_first(state: RiskState) -> None:
    found = refuse_entry(
        replace(CALM, state=state, state_cause="by hand", n_open=9), LONG, RiskParameters()
    )

    assert found is not None
    assert found.reason is Reason.RISK_BRAKE
    assert found.text == f"the brake is {state.value}: by hand"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"day_pnl_usd": -1000.0}, (Reason.DAILY_LOSS_LIMIT, 1000.0, 1000.0)),
        ({"day_pnl_usd": -999.99}, None),
        ({"n_rejects": 3}, (Reason.TOO_MANY_REJECTS, 3, 3)),
        ({"n_rejects": 2}, None),
        ({"n_open": 5}, (Reason.TOO_MANY_POSITIONS, 5, 5)),
        ({"n_open": 4}, None),
        ({"open_risk_usd": 1000.0}, (Reason.OPEN_RISK_LIMIT, 1000.0, 1000.0)),
        ({"open_risk_usd": 999.0}, None),
        ({"gross_usd": 100_000.0}, (Reason.GROSS_LIMIT, 100_000.0, 100_000.0)),
        ({"gross_usd": 99_999.0}, None),
        ({"n_entries_minute": 3}, (Reason.TOO_MANY_ENTRIES, 3, 3)),
        ({"n_entries_day": 20}, (Reason.TOO_MANY_ENTRIES, 20, 20)),
        ({"n_symbol_entries_day": 3}, (Reason.TOO_MANY_ENTRIES, 3, 3)),
        ({"symbol_exit_ns": NOON - 1799 * NS_PER_S}, (Reason.COOLING_DOWN, 1799.0, 1800.0)),
        ({"symbol_exit_ns": NOON - 1800 * NS_PER_S}, None),
    ],
)
def test_each_limit_refuses_where_it_is_reached(
    changes: dict[str, Any], expected: tuple[Any, ...] | None
) -> None:
    assert _refused(**changes) == expected


def test_a_loss_is_measured_against_the_days_start() -> None:
    assert _refused(start_equity_usd=50_000.0, day_pnl_usd=-500.0) is not None
    assert _refused(start_equity_usd=200_000.0, day_pnl_usd=-1500.0) is None


def test_a_cheap_share_is_not_entered() -> None:
    cheap = replace(LONG, price_usd=4.99, signal_usd=4.99, target_usd=5.0, reference_usd=None)

    assert _refused(request=cheap) == (Reason.PRICE_BELOW_MIN, 4.99, 5.0)


@pytest.mark.parametrize(
    ("request_", "price_usd", "is_refused"),
    [
        (LONG, 100.20, False),
        (LONG, 100.21, True),
        (LONG, 99.0, False),  # it came back: cheaper than what was seen
        (SHORT, 99.80, False),
        (SHORT, 99.79, True),
    ],
)
def test_a_price_that_ran_on_is_not_chased(
    request_: EntryRequest, price_usd: float, is_refused: bool
) -> None:
    found = _refused(request=replace(request_, price_usd=price_usd))

    assert (found is not None and found[0] is Reason.CHASING) == is_refused


@pytest.mark.parametrize(
    ("side", "reference_usd", "is_refused"),
    [
        # 5 % of 98 above it lies 102.90, and 3.00 are wanted up to there
        (Side.BUY, 98.0, True),
        (Side.BUY, 98.5, False),
        (Side.SELL, 102.5, True),
        (Side.SELL, 101.5, False),
        (Side.BUY, None, False),
    ],
)
def test_an_entry_near_the_price_band_is_refused(
    side: Side, reference_usd: float | None, is_refused: bool
) -> None:
    near = replace(LONG, side=side, reference_usd=reference_usd, target_usd=100.0 + 2.0 * side.sign)

    found = _refused(request=near)

    assert (found is not None and found[0] is Reason.NEAR_PRICE_BAND) == is_refused
    assert _refused(request=near, parameters=RiskParameters(band_room_multiple=0)) is None


def test_a_limit_outside_its_range_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"risk\.daily_loss_ratio: expected .* ratio"):
        RiskParameters(daily_loss_ratio=0.5)
