from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest

from momentum_lab.core.account_risk import RiskParameters
from momentum_lab.core.market import Side
from momentum_lab.core.risk import GuardParameters
from momentum_lab.core.signal import Reason
from momentum_lab.core.size import BudgetSource, Cap, Size, SizeReason, size_as_dict
from momentum_lab.core.sizing import SizingInputs, size_position, stop_size
from momentum_lab.core.sizing_parameters import SizingParameters
from momentum_lab.errors import ParameterError

BASE = SizingInputs(
    side=Side.BUY,
    equity_usd=100_000.0,
    buying_power_usd=100_000.0,
    entry_usd=20.0,
    stop_usd=19.4,
    spread_usd=0.02,
    sector_gross_usd=0.0,
    adv_shares=2_000_000.0,
    recent_volume_shares=40_000.0,
    sigma_daily_ratio=0.02,
)
SHORT = {"side": Side.SELL, "entry_usd": 30.0, "stop_usd": 30.9}


def _size(*, parameters: dict[str, Any] | None = None, **changes: Any) -> Size:
    return size_position(
        replace(BASE, **changes),
        SizingParameters(**(parameters or {})),
        risk=RiskParameters(),
        guards=GuardParameters(),
    )


# name: what differs from BASE, from the defaults; shares, reason, binding, budget, its source,
# stop size, raw shares
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[Any, ...]]] = {
    "risk binds": ({}, {}, (403, "OK", "RISK", 250, "RISK_PCT", 0.62, 403.226)),
    "position cap": (
        {"entry_usd": 50.0, "stop_usd": 49.4},
        {},
        (200, "OK", "MAX_POSITION_PCT", 250, "RISK_PCT", 0.62, 200),
    ),
    "stop floor": (
        {"stop_usd": 19.99},
        {"max_cost_ratio": 1.0},
        (500, "OK", "MAX_POSITION_PCT", 250, "RISK_PCT", 0.05, 500),
    ),
    "recent volume cap": (
        {"recent_volume_shares": 3000.0},
        {},
        (150, "OK", "MAX_RECENT_VOLUME", 250, "RISK_PCT", 0.62, 150),
    ),
    "impact cap": (
        {"adv_shares": 150_000.0, "sigma_daily_ratio": 0.04},
        {"max_adv_ratio": 0.05},
        (93, "OK", "MAX_IMPACT", 250, "RISK_PCT", 0.62, 93.75),
    ),
    "remainder of the day's loss": (
        {"day_pnl_usd": -900.0},
        {},
        (161, "OK", "RISK", 100, "DAY_LOSS_ROOM", 0.62, 161.29),
    ),
    "day's loss reached": ({"day_pnl_usd": -1000.0}, {}, (0, "DAILY_LOSS_LIMIT")),
    "short": (SHORT, {}, (271, "OK", "RISK", 250, "RISK_PCT", 0.92, 271.739)),
    "short not available": ({**SHORT, "is_shortable": False}, {}, (0, "NOT_SHORTABLE")),
    "stop on the wrong side": ({"stop_usd": 20.5}, {}, (0, "STOP_WRONG_SIDE")),
    "spread too wide": ({"spread_usd": 0.08}, {}, (0, "SPREAD_TOO_WIDE")),
    "below the least value": (
        {"equity_usd": 2000.0, "buying_power_usd": 2000.0},
        {},
        (0, "BELOW_MIN_NOTIONAL", "RISK", 5, "RISK_PCT", 0.62, 8.06452),
    ),
    "buying power": (
        {"buying_power_usd": 3000.0},
        {},
        (142, "OK", "BUYING_POWER", 250, "RISK_PCT", 0.62, 142.5),
    ),
    "kelly shrinks": (
        {"kelly_ratio": 0.006},
        {},
        (241, "OK", "RISK", 150, "KELLY", 0.62, 241.935),
    ),
    "kelly without an edge": ({"kelly_ratio": -0.02}, {}, (0, "NO_EDGE")),
    "cost too high": (
        {"stop_usd": 19.99},
        {},
        (0, "COST_TOO_HIGH", "MAX_POSITION_PCT", 250, "RISK_PCT", 0.05, 500),
    ),
    "lot of 100": ({}, {"lot": 100}, (400, "OK", "RISK", 250, "RISK_PCT", 0.62, 403.226)),
    "zero by lot": (
        {"recent_volume_shares": 1500.0},
        {"lot": 100},
        (0, "BELOW_MIN_SHARES", "MAX_RECENT_VOLUME", 250, "RISK_PCT", 0.62, 75),
    ),
    "sector cap": (
        {"sector_gross_usd": 22_000.0},
        {},
        (150, "OK", "MAX_SECTOR", 250, "RISK_PCT", 0.62, 150),
    ),
    "target of volatility": (
        {"sigma_hold_ratio": 0.012},
        {"vol_target_ratio": 0.0005},
        (208, "OK", "VOL_TARGET", 250, "RISK_PCT", 0.62, 208.333),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_size_is_what_the_specification_says(name: str) -> None:
    changes, parameters, (shares, reason, *decided) = CASES[name]

    found = _size(parameters=parameters, **changes)

    assert (found.shares, found.reason.value) == (shares, reason)
    if not decided:
        assert found.binding is None
        assert found.caps == ()
        return
    binding, budget_usd, source, stop_usd, raw = decided
    assert found.binding is Cap(binding)
    assert found.budget_source is BudgetSource(source)
    assert found.budget_usd == pytest.approx(budget_usd)
    assert found.stop_size_usd == pytest.approx(stop_usd)
    assert found.raw_shares == pytest.approx(raw, rel=1e-5)


def test_the_worked_example_risks_what_it_says() -> None:
    found = _size()

    assert found.risk_at_stop_usd == pytest.approx(249.86)
    assert found.cost_ratio == pytest.approx(0.04838, abs=1e-4)
    assert found.notional_usd == pytest.approx(8060)
    assert found.gap_stress_usd == pytest.approx(806)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_killed": True, "is_halted": True}, SizeReason.KILL_SWITCH),
        ({"is_halted": True, "is_session_open": False}, SizeReason.HALTED),
        ({"is_session_open": False, "stop_usd": 21.0}, SizeReason.SESSION_CLOSED),
        ({"entry_usd": 4.0, "stop_usd": 3.9, "spread_usd": 1.0}, SizeReason.PRICE_BELOW_MIN),
        ({"n_open": 5, "day_pnl_usd": -9e9}, SizeReason.MAX_CONCURRENT),
        ({"open_risk_usd": 1000.0}, SizeReason.RISK_BUDGET_EXHAUSTED),
    ],
)
def test_the_first_gate_that_is_closed_is_the_reason(
    changes: dict[str, Any], reason: SizeReason
) -> None:
    found = _size(**changes)

    assert (found.shares, found.reason) == (0, reason)


# what differs from BASE, from the defaults; both sides of what decided, and their unit
SIDES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[Any, ...]]] = {
    "STOP_WRONG_SIDE": ({"stop_usd": 20.5}, {}, (20.5, 20.0, "USD")),
    "PRICE_BELOW_MIN": ({"entry_usd": 4.0, "stop_usd": 3.9}, {}, (4.0, 5.0, "USD")),
    "SPREAD_TOO_WIDE": ({"spread_usd": 0.08}, {}, (0.08 / 19.96 * 1e4, 30.0, "bps")),
    "MAX_CONCURRENT": ({"n_open": 6}, {}, (6, 5, "positions")),
    "DAILY_LOSS_LIMIT": ({"day_pnl_usd": -1200.0}, {}, (1200.0, 1000.0, "USD")),
    "NO_EDGE": ({"kelly_ratio": -0.02}, {}, (-0.02, 0.0, "ratio of equity")),
    "RISK_BUDGET_EXHAUSTED": ({"open_risk_usd": 1100.0}, {}, (-100.0, 0.0, "USD")),
    "BELOW_MIN_SHARES": (
        {"recent_volume_shares": 1500.0},
        {"lot": 100, "min_shares": 150},
        (75.0, 200, "shares"),
    ),
    "BELOW_MIN_NOTIONAL": ({"equity_usd": 2000.0}, {}, (160.0, 500.0, "USD")),
    "COST_TOO_HIGH": ({"stop_usd": 19.99}, {}, (0.6, 0.25, "ratio of risk")),
}


@pytest.mark.parametrize("reason", SIDES)
def test_a_refused_size_says_both_sides_of_what_decided(reason: str) -> None:
    changes, parameters, sides = SIDES[reason]
    found = _size(parameters=parameters, **changes)
    decision = found.refusal

    assert decision is not None
    assert (found.reason.value, decision.reason) == (reason, Reason.SIZE_ZERO)
    assert [decision.observed, decision.limit] == pytest.approx(sides[:2])
    assert decision.unit == sides[2]
    assert reason in decision.text
    # All that it came from stays with it.
    assert size_as_dict(str(decision.size_json)) == json.loads(found.as_json())


def test_a_spread_as_wide_as_two_prices_is_too_wide() -> None:
    assert _size(spread_usd=40.0).observed == math.inf


def test_a_size_with_shares_refuses_nothing() -> None:
    found = _size()

    assert found.refusal is None
    assert (found.observed, found.limit, found.unit) == (None, None, "")


def test_open_risk_leaves_less_room() -> None:
    found = _size(open_risk_usd=900.0)

    assert found.budget_source is BudgetSource.DAY_LOSS_ROOM  # a tie goes to the earlier
    assert found.shares == 161


def test_what_is_not_known_leaves_its_cap_out_and_is_named() -> None:
    found = _size(adv_shares=None, sector_gross_usd=None)

    assert found.shares == 403
    assert found.not_known == (Cap.MAX_SECTOR, Cap.MAX_ADV, Cap.MAX_IMPACT)
    assert "not known: MAX_SECTOR, MAX_ADV, MAX_IMPACT" in found.text


def test_a_cap_that_is_off_is_not_told() -> None:
    caps = [cap for cap, _ in _size().caps]

    assert caps == [cap for cap in Cap if cap is not Cap.VOL_TARGET]


def test_a_kelly_fraction_never_raises_the_risk() -> None:
    assert _size(kelly_ratio=0.9).budget_source is BudgetSource.RISK_PCT


def test_every_budget_is_told_and_a_fraction_that_is_not_measured_is_named() -> None:
    told = {"RISK_PCT": 250.0, "DAY_LOSS_ROOM": 1000.0, "OPEN_RISK_ROOM": 1000.0}

    assert dict(_size().budgets) == told
    assert dict(_size(kelly_ratio=0.006).budgets) == pytest.approx({**told, "KELLY": 150.0})
    unmeasured = _size(parameters={"kelly": "wins"})
    assert dict(unmeasured.budgets) == {**told, "KELLY": None}
    assert (unmeasured.shares, unmeasured.budget_source) == (403, BudgetSource.RISK_PCT)
    assert "not known: KELLY" in unmeasured.text
    assert dict(_size(open_risk_usd=1100.0).budgets)[BudgetSource.OPEN_RISK_ROOM] == pytest.approx(
        -100.0
    )


def test_a_short_may_have_a_smaller_budget() -> None:
    assert _size(parameters={"short_risk_multiple": 0.5}, **SHORT).shares == 135


def test_the_plain_formula_is_one_configuration() -> None:
    parameters = {
        "risk_ratio": 0.01,
        "max_notional_usd": 1e8,
        "buying_power_reserve_ratio": 0.0,
        "max_shares": 10_000_000,
    }
    unknown = {"adv_shares": None, "recent_volume_shares": None, "sector_gross_usd": None}

    far = _size(parameters=parameters, stop_usd=10.0, **unknown)
    near = _size(parameters=parameters, stop_usd=19.0, **unknown)
    poor = _size(parameters=parameters, buying_power_usd=3000.0, **unknown)

    # 100 000 x 1 % / (10 + half the spread + a tick)
    assert (far.shares, far.binding) == (math.floor(1000 / 10.02), Cap.RISK)
    assert (near.shares, near.binding) == (500, Cap.MAX_POSITION_PCT)
    assert (poor.shares, poor.binding) == (150, Cap.BUYING_POWER)


def test_binary_rounding_does_not_cost_a_share() -> None:
    # as floats 0.1 + 0.2 is a little more than 0.3
    found = _size(stop_usd=19.0, spread_usd=0.02, equity_usd=40_800.0)

    assert found.raw_shares == pytest.approx(100)
    assert found.shares == 100


@pytest.mark.parametrize(
    ("distance_usd", "spread_usd", "entry_usd", "expected_usd"),
    [
        (0.60, 0.02, 20.0, 0.62),
        (0.01, 0.02, 20.0, 0.05),  # five ticks
        (0.05, 0.20, 20.0, 0.40),  # two spreads
        (0.05, 0.02, 200.0, 0.20),  # a thousandth of the price
    ],
)
def test_a_near_stop_is_reckoned_as_a_wider_one(
    distance_usd: float, spread_usd: float, entry_usd: float, expected_usd: float
) -> None:
    found = stop_size(entry_usd, entry_usd - distance_usd, spread_usd=spread_usd, tick_usd=0.01)

    assert found == pytest.approx(expected_usd)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["equity_usd", "entry_usd", "stop_usd", "sigma_daily_ratio"])
def test_an_impossible_number_gives_no_size(name: str, bad: float) -> None:
    changes: dict[str, Any] = {name: bad}

    found = _size(**changes)

    assert (found.shares, found.reason, found.caps) == (0, SizeReason.INVALID_INPUT, ())


@pytest.mark.parametrize("name", ["spread_usd", "open_risk_usd", "gross_usd", "adv_shares"])
def test_a_negative_amount_gives_no_size(name: str) -> None:
    changes: dict[str, Any] = {name: -0.01}

    assert _size(**changes).reason is SizeReason.INVALID_INPUT


def test_without_buying_power_there_is_no_size() -> None:
    found = _size(buying_power_usd=-5.0)

    assert (found.shares, found.reason) == (0, SizeReason.BELOW_MIN_SHARES)
    assert found.binding is Cap.BUYING_POWER


def test_a_size_is_written_with_every_field_and_every_cap() -> None:
    found = _size(adv_shares=None)

    written = size_as_dict(found.as_json())

    assert set(written) == {field.name for field in fields(Size)}
    assert dict(written["caps"])["MAX_ADV"] is None
    assert dict(written["caps"])["RISK"] == pytest.approx(403.226, rel=1e-5)
    assert (written["binding"], written["reason"]) == ("RISK", "OK")
    assert json.loads(found.as_json())["shares"] == 403


@pytest.mark.parametrize(
    ("key", "value", "unit"),
    [
        ("risk_ratio", 0.06, "ratio of equity"),
        ("risk_ratio", 0, "ratio of equity"),
        ("max_position_ratio", 1.1, "ratio of equity"),
        ("max_cost_ratio", 0, "ratio of risk"),
    ],
)
def test_a_number_outside_its_range_is_refused_by_name(key: str, value: float, unit: str) -> None:
    changes: dict[str, Any] = {key: value}

    with pytest.raises(ParameterError, match=rf"sizing\.{key}: expected .* {unit}"):
        SizingParameters(**changes)
