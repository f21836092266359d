"""The laws of sizes: what holds for every account, price and parameter, not for chosen ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from momentum_lab.core.account_risk import RiskParameters
from momentum_lab.core.market import Side
from momentum_lab.core.risk import GuardParameters
from momentum_lab.core.size import Size, SizeReason
from momentum_lab.core.sizing import SizingInputs, size_position
from momentum_lab.core.sizing_parameters import SizingParameters

law = settings(max_examples=200, deadline=None, derandomize=True, database=None)
RISK, GUARDS = RiskParameters(), GuardParameters()
SLACK = 1 + 1e-9

ratios = st.floats(1e-4, 0.5)


def _maybe(values: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | values


@st.composite
def _inputs(draw: st.DrawFn) -> SizingInputs:
    """Inputs of an entry whose stop lies on its proper side; some of the market is not known."""
    side = draw(st.sampled_from(Side))
    entry_usd = draw(st.integers(501, 100_000)) / 100
    distance_usd = draw(st.floats(0.01, 0.9)) * entry_usd
    start_usd = draw(st.floats(100, 1e7))
    return SizingInputs(
        side=side,
        equity_usd=draw(st.floats(100, 1e7)),
        buying_power_usd=draw(st.floats(-1e4, 1e7)),
        entry_usd=entry_usd,
        stop_usd=entry_usd - side.sign * distance_usd,
        spread_usd=draw(st.floats(0, 0.003)) * entry_usd,
        start_equity_usd=start_usd,
        day_pnl_usd=draw(st.floats(-0.011, 0.01)) * start_usd,
        open_risk_usd=draw(st.floats(0, 0.01)) * start_usd,
        gross_usd=draw(st.floats(0, 1)) * start_usd,
        sector_gross_usd=draw(_maybe(st.floats(0, 1e6))),
        n_open=draw(st.integers(0, 5)),
        adv_shares=draw(_maybe(st.floats(0, 1e8))),
        recent_volume_shares=draw(_maybe(st.floats(0, 1e6))),
        sigma_daily_ratio=draw(_maybe(ratios)),
        sigma_hold_ratio=draw(_maybe(ratios)),
        kelly_ratio=draw(_maybe(st.floats(-0.1, 0.5))),
    )


parameter_sets = st.builds(
    SizingParameters,
    risk_ratio=st.floats(0.0001, 0.05),
    max_position_ratio=st.floats(0.001, 1.0),
    max_notional_usd=st.floats(100, 1e8),
    vol_target_ratio=st.sampled_from([0.0, 0.0005, 0.01]),
    lot=st.sampled_from([1, 10, 100]),
    kelly_fraction=st.floats(0.01, 1.0),
    short_risk_multiple=st.floats(0.05, 1.0),
)

# What gates and minimums seldom refuse, for the laws of the caps.
wide_open = st.builds(
    SizingParameters,
    risk_ratio=st.floats(0.0005, 0.05),
    max_position_ratio=st.floats(0.01, 1.0),
    max_notional_usd=st.floats(1e4, 1e8),
    vol_target_ratio=st.sampled_from([0.0, 0.001]),
    max_cost_ratio=st.just(10.0),
    min_notional_usd=st.just(0.0),
)


@st.composite
def _tradable(draw: st.DrawFn) -> SizingInputs:
    """Inputs for which there is mostly a size."""
    side = draw(st.sampled_from(Side))
    entry_usd = draw(st.integers(1000, 20_000)) / 100
    equity_usd = draw(st.floats(1e5, 1e7))
    return SizingInputs(
        side=side,
        equity_usd=equity_usd,
        buying_power_usd=draw(st.floats(1e4, 1e7)),
        entry_usd=entry_usd,
        stop_usd=entry_usd * (1 - side.sign * draw(st.floats(0.0001, 0.2))),
        spread_usd=draw(st.floats(0, 0.0009)) * entry_usd,
        start_equity_usd=equity_usd,
        day_pnl_usd=draw(st.floats(-0.006, 0.01)) * equity_usd,
        open_risk_usd=draw(st.floats(0, 0.003)) * equity_usd,
        gross_usd=draw(st.floats(0, 0.3)) * equity_usd,
        sector_gross_usd=draw(_maybe(st.floats(0, 0.07).map(lambda part: part * equity_usd))),
        adv_shares=draw(_maybe(st.floats(1e5, 1e8))),
        recent_volume_shares=draw(_maybe(st.floats(1e3, 1e6))),
        sigma_daily_ratio=draw(_maybe(st.floats(0.001, 0.1))),
        sigma_hold_ratio=draw(_maybe(st.floats(0.001, 0.1))),
        kelly_ratio=draw(_maybe(st.floats(0.01, 0.5))),
    )


def _size(inputs: SizingInputs, parameters: SizingParameters) -> Size:
    return size_position(inputs, parameters, risk=RISK, guards=GUARDS)


@law
@given(_inputs(), parameter_sets)
def test_a_size_never_exceeds_any_cap_nor_its_budget(
    inputs: SizingInputs, parameters: SizingParameters
) -> None:
    found = _size(inputs, parameters)

    assert found.shares >= 0
    assert found.shares % parameters.lot == 0
    for cap, shares in found.caps:
        assert shares is None or found.shares <= max(0.0, shares) * SLACK + 1e-6, cap
    if found.budget_usd is not None and found.stop_size_usd is not None:
        assert found.shares * found.stop_size_usd <= max(0.0, found.budget_usd) * SLACK + 1e-6
    assert found.risk_at_stop_usd <= inputs.equity_usd * parameters.risk_ratio * SLACK + 1e-6
    assert found.notional_usd <= max(0.0, inputs.buying_power_usd) * SLACK + 1e-3


@law
@given(_tradable(), wide_open, st.sampled_from([1, 10, 100]))
def test_a_size_is_the_largest_multiple_of_the_lot_that_its_binding_cap_allows(
    inputs: SizingInputs, drawn: SizingParameters, lot: int
) -> None:
    parameters = replace(drawn, lot=lot)
    found = _size(inputs, parameters)
    assume(found.reason is SizeReason.OK)

    known = [(cap, shares) for cap, shares in found.caps if shares is not None]
    least = min(shares for _, shares in known)
    assert found.raw_shares == least
    # ties go to the earlier
    assert found.binding is next(cap for cap, shares in known if shares == least)
    assert least - parameters.lot < found.shares <= least * SLACK + 1e-6


@law
@given(_inputs(), parameter_sets)
def test_a_size_says_why_it_is_none(inputs: SizingInputs, parameters: SizingParameters) -> None:
    found = _size(inputs, parameters)

    assert (found.shares == 0) == (found.reason is not SizeReason.OK)
    assert found.text


@law
@given(_inputs(), parameter_sets)
def test_without_a_stop_there_is_no_size(
    inputs: SizingInputs, parameters: SizingParameters
) -> None:
    found = _size(replace(inputs, stop_usd=inputs.entry_usd), parameters)

    assert found.shares == 0


def _both_sized(one: SizingInputs, two: SizingInputs, parameters: SizingParameters) -> None:
    """Assert that of two inputs that differ in one respect the second is sized no larger."""
    first, second = _size(one, parameters), _size(two, parameters)
    # The law is one of caps: gates and minimums jump.
    assume(SizeReason.OK is first.reason is second.reason)
    assert second.shares <= first.shares


@law
@given(_tradable(), wide_open, st.floats(1.0, 5.0))
def test_a_size_does_not_rise_with_the_distance_of_the_stop(
    inputs: SizingInputs, parameters: SizingParameters, factor: float
) -> None:
    farther = inputs.entry_usd + (inputs.stop_usd - inputs.entry_usd) * factor
    assume(farther > 0)

    _both_sized(inputs, replace(inputs, stop_usd=farther), parameters)


@law
@given(_tradable(), wide_open, st.floats(1.0, 2.0))
def test_a_size_does_not_rise_with_the_price_at_the_same_distance(
    inputs: SizingInputs, parameters: SizingParameters, factor: float
) -> None:
    dearer = inputs.entry_usd * factor
    stop_usd = dearer + inputs.stop_usd - inputs.entry_usd

    _both_sized(inputs, replace(inputs, entry_usd=dearer, stop_usd=stop_usd), parameters)


@law
@given(
    _tradable(),
    wide_open,
    st.sampled_from(
        ["spread_usd", "open_risk_usd", "gross_usd", "sector_gross_usd", "sigma_daily_ratio"]
    ),
    st.floats(1.0, 3.0),
)
def test_a_size_does_not_rise_with_what_makes_it_riskier(
    inputs: SizingInputs, parameters: SizingParameters, name: str, factor: float
) -> None:
    value = getattr(inputs, name)
    assume(value is not None)
    changes: dict[str, Any] = {name: value * factor}

    _both_sized(inputs, replace(inputs, **changes), parameters)


@law
@given(
    _tradable(),
    wide_open,
    st.sampled_from(
        [
            "equity_usd",
            "buying_power_usd",
            "start_equity_usd",
            "adv_shares",
            "recent_volume_shares",
            "kelly_ratio",
        ]
    ),
    st.floats(0.2, 1.0),
)
def test_a_size_does_not_rise_where_there_is_less_room(
    inputs: SizingInputs, parameters: SizingParameters, name: str, factor: float
) -> None:
    value = getattr(inputs, name)
    assume(value is not None and value > 0)
    changes: dict[str, Any] = {name: value * factor}

    _both_sized(inputs, replace(inputs, **changes), parameters)


@law
@given(_tradable(), wide_open, st.floats(0.0, 0.004))
def test_a_size_does_not_rise_with_what_was_lost_today(
    inputs: SizingInputs, parameters: SizingParameters, lost_ratio: float
) -> None:
    day_pnl_usd = inputs.day_pnl_usd - lost_ratio * inputs.equity_usd

    _both_sized(inputs, replace(inputs, day_pnl_usd=day_pnl_usd), parameters)


@law
@given(_tradable(), wide_open, st.floats(0.6, 4.0))
def test_the_value_that_is_bought_does_not_change_with_the_scale_of_prices(
    inputs: SizingInputs, drawn: SizingParameters, scale: float
) -> None:
    # Shares of a tenth of the price are traded ten times as often, and no cap counts shares.
    parameters = replace(drawn, max_shares=10_000_000)
    scaled = replace(
        inputs,
        entry_usd=inputs.entry_usd * scale,
        stop_usd=inputs.stop_usd * scale,
        spread_usd=inputs.spread_usd * scale,
        tick_usd=inputs.tick_usd * scale,
        adv_shares=None if inputs.adv_shares is None else inputs.adv_shares / scale,
        recent_volume_shares=None
        if inputs.recent_volume_shares is None
        else inputs.recent_volume_shares / scale,
    )

    one, two = _size(inputs, parameters), _size(scaled, parameters)
    assert (one.raw_shares is None) == (two.raw_shares is None)
    if one.raw_shares is not None and two.raw_shares is not None:
        value_usd = one.raw_shares * inputs.entry_usd
        assert two.raw_shares * scaled.entry_usd == pytest.approx(value_usd, rel=1e-9, abs=1e-6)
    if one.reason is two.reason is SizeReason.OK:
        # Whole shares are rounded to at most one less.
        least_usd = max(inputs.entry_usd, scaled.entry_usd)
        assert abs(two.notional_usd - one.notional_usd) <= least_usd * SLACK


@law
@given(_tradable(), wide_open, st.floats(0.0001, 0.05), st.floats(0.0001, 0.05))
def test_a_size_does_not_fall_with_the_risk_that_is_allowed(
    inputs: SizingInputs, parameters: SizingParameters, one: float, two: float
) -> None:
    careful, bold = (replace(parameters, risk_ratio=risk) for risk in sorted((one, two)))

    assert _size(inputs, careful).shares <= _size(inputs, bold).shares


@law
@given(_tradable(), wide_open)
def test_what_is_not_known_never_makes_a_size_smaller(
    inputs: SizingInputs, parameters: SizingParameters
) -> None:
    blind = replace(
        inputs, adv_shares=None, recent_volume_shares=None, sector_gross_usd=None, kelly_ratio=None
    )

    _both_sized(blind, inputs, parameters)
