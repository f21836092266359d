from __future__ import annotations

import math
from typing import Any

import pytest

from momentum_lab.core.market import Side
from momentum_lab.core.position import (
    ExitParameters,
    Levels,
    exit_levels,
    summarise,
)
from momentum_lab.errors import DataError, ParameterError
from tests.factories import fill, instrument

BUY, SELL = Side.BUY, Side.SELL
BY_RATIO = ExitParameters(stop_kind="ratio", stop_loss_ratio=0.015, take_profit_ratio=0.02)


# ------------------------------------------------------------------ levels


def _levels(
    side: Side,
    entry_usd: float = 100.0,
    atr_usd: float = 0.1,
    parameters: ExitParameters | None = None,
    **changes: Any,
) -> Levels:
    return exit_levels(
        side,
        entry_usd=entry_usd,
        atr_usd=atr_usd,
        instrument=instrument(),
        parameters=ExitParameters(**changes) if parameters is None else parameters,
    )


def test_levels_lie_on_both_sides_of_a_long() -> None:
    assert _levels(BUY, parameters=BY_RATIO) == Levels(stop=98.5, target=102.0)


def test_levels_of_a_short_are_mirrored() -> None:
    assert _levels(SELL, parameters=BY_RATIO) == Levels(stop=101.5, target=98.0)


def test_levels_by_atr_measure_the_target_in_stop_distances() -> None:
    found = _levels(BUY, stop_atr_multiple=4.0, target_r_multiple=1.5)

    assert found == Levels(stop=99.6, target=100.6)


def test_levels_are_rounded_away_from_the_entry() -> None:
    assert _levels(BUY, entry_usd=165.72, parameters=BY_RATIO) == Levels(163.23, 169.04)
    assert _levels(SELL, entry_usd=165.72, parameters=BY_RATIO) == Levels(168.21, 162.4)


def test_the_target_of_a_cheap_short_does_not_fall_below_one_tick() -> None:
    found = _levels(SELL, entry_usd=0.05, atr_usd=0.01, stop_atr_multiple=4)

    assert found.target == 0.01


@pytest.mark.parametrize("side", list(Side))
def test_levels_that_do_not_enclose_the_entry_are_refused(side: Side) -> None:
    with pytest.raises(DataError, match="do not enclose the entry"):
        _levels(side, atr_usd=0.0)


def test_a_long_whose_stop_would_be_zero_is_refused() -> None:
    with pytest.raises(DataError, match="do not enclose"):
        _levels(BUY, entry_usd=1.0, atr_usd=1.0)


def test_an_unknown_kind_of_stop_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"exits\.stop_kind: expected one of atr, ratio"):
        ExitParameters(stop_kind="points")  # type: ignore[arg-type]  # that is the point


# ------------------------------------------------------------------- fills


def test_no_fills_are_a_flat_position_without_a_price() -> None:
    found = summarise([], entry_side=BUY)

    assert found.is_flat
    assert (found.entry_price, found.exit_price) == (None, None)
    assert (found.gross_usd, found.costs_usd, found.costs_complete) == (0, 0, True)


def test_a_long_profits_from_a_rise() -> None:
    found = summarise(
        [fill(BUY, 100, 10.0, exec_id="1"), fill(SELL, 100, 10.5, exec_id="2")], entry_side=BUY
    )

    assert found.is_flat
    assert found.gross_usd == pytest.approx(50)
    assert found.net_usd == pytest.approx(48)


def test_a_short_loses_from_a_rise() -> None:
    found = summarise(
        [fill(SELL, 100, 10.0, exec_id="1"), fill(BUY, 100, 10.5, exec_id="2")], entry_side=SELL
    )

    assert found.is_flat
    assert found.gross_usd == pytest.approx(-50)
    assert found.net_usd == pytest.approx(-52)


def test_shares_are_signed() -> None:
    assert summarise([fill(BUY, 30)], entry_side=BUY).shares == 30
    assert summarise([fill(SELL, 30)], entry_side=SELL).shares == -30


def test_partial_fills_are_averaged_by_their_shares() -> None:
    found = summarise(
        [fill(BUY, 100, 10.0, exec_id="1"), fill(BUY, 300, 11.0, exec_id="2")], entry_side=BUY
    )

    assert found.shares == 400
    assert found.entry_price == pytest.approx(10.75)


def test_only_the_closed_part_has_a_profit() -> None:
    found = summarise(
        [fill(BUY, 100, 10.0, exec_id="1"), fill(SELL, 40, 11.0, exec_id="2")], entry_side=BUY
    )

    assert found.shares == 60
    assert found.gross_usd == pytest.approx(40)


def test_an_exit_that_went_too_far_is_seen_as_the_other_side() -> None:
    found = summarise(
        [fill(BUY, 100, 10.0, exec_id="1"), fill(SELL, 150, 11.0, exec_id="2")], entry_side=BUY
    )

    assert found.shares == -50
    assert not found.is_flat
    assert found.gross_usd == pytest.approx(100)


def test_what_is_open_beyond_zero_is_valued_against_the_exits_that_opened_it() -> None:
    found = summarise(
        [
            fill(BUY, 100, 10.0, exec_id="1", commission_usd=0.0),
            fill(SELL, 150, 9.0, exec_id="2", commission_usd=0.0),
        ],
        entry_side=BUY,
    )

    assert found.net_if_closed_usd(9.5) == pytest.approx(-100 - 25)


def test_a_repeated_execution_counts_once() -> None:
    once = fill(exec_id="1")

    assert summarise([once, once, once], entry_side=BUY) == summarise([once], entry_side=BUY)


def test_costs_are_incomplete_until_every_commission_is_known() -> None:
    known, unknown = fill(exec_id="1"), fill(exec_id="2", commission_usd=None)

    assert not summarise([known, unknown], entry_side=BUY).costs_complete
    assert summarise([known], entry_side=BUY).costs_complete


def test_a_late_commission_is_counted_with_its_execution() -> None:
    reported = [fill(exec_id="1", commission_usd=None), fill(exec_id="1", commission_usd=1.5)]

    found = summarise(reported, entry_side=BUY)

    assert (found.shares, found.costs_usd, found.costs_complete) == (100, 1.5, True)


def test_a_repeat_without_commission_does_not_take_back_the_known_one() -> None:
    reported = [fill(exec_id="1", commission_usd=1.5), fill(exec_id="1", commission_usd=None)]

    found = summarise(reported, entry_side=BUY)

    assert (found.shares, found.costs_usd, found.costs_complete) == (100, 1.5, True)


@pytest.mark.parametrize(("shares", "price"), [(0, 1), (-1, 1), (1, 0), (1, -1), (1, math.inf)])
def test_an_impossible_execution_is_refused(shares: float, price: float) -> None:
    with pytest.raises(DataError, match=r"fill 0001\.01\.01"):
        fill(shares=shares, price=price)


def test_a_correction_replaces_what_it_corrects() -> None:
    first = fill(exec_id="0000e0d5.00000001.01.01", shares=100, price=10.0)
    corrected = fill(exec_id="0000e0d5.00000001.01.02", shares=100, price=10.5)

    for order in ([first, corrected], [corrected, first]):
        total = summarise(order, entry_side=Side.BUY)
        assert (total.shares, total.entry_price) == (100, 10.5)
