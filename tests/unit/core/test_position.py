from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, DataType, Quote, Side
from momentum_lab.core.position import (
    ExitParameters,
    ExitReason,
    ExitSignal,
    Levels,
    OpenPosition,
    decide_exit,
    exit_levels,
    summarise,
)
from momentum_lab.errors import DataError, ParameterError
from tests.factories import NOON, fill, instrument, quote

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


@pytest.mark.parametrize(("shares", "price"), [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_an_impossible_execution_is_refused(shares: float, price: float) -> None:
    with pytest.raises(DataError, match=r"fill 0001\.01\.01"):
        fill(shares=shares, price=price)


# ------------------------------------------------------------------- exits

LONG = OpenPosition("SPY", BUY, NOON, Levels(stop=98.5, target=102.0))
SHORT = OpenPosition("SPY", SELL, NOON, Levels(stop=101.5, target=98.0))
PARAMETERS = ExitParameters(time_stop_s=600)


def _exit(position: OpenPosition, seen: Quote | None, *, after_s: float = 1.0) -> ExitSignal | None:
    return decide_exit(
        position,
        seen,
        now_ns=NOON + int(after_s * NS_PER_S),
        max_quote_age_s=5.0,
        parameters=PARAMETERS,
    )


def _reason(
    position: OpenPosition, seen: Quote | None, *, after_s: float = 1.0
) -> ExitReason | None:
    found = _exit(position, seen, after_s=after_s)
    return None if found is None else found.reason


def _two_sided(bid: float, ask: float) -> Quote:
    return replace(quote(), bid=bid, ask=ask)


@pytest.mark.parametrize("position", [LONG, SHORT])
def test_between_its_levels_a_position_is_kept(position: OpenPosition) -> None:
    assert _exit(position, quote(100.0)) is None


def test_a_long_is_measured_at_the_bid() -> None:
    assert _reason(LONG, _two_sided(98.51, 98.6)) is None
    assert _reason(LONG, _two_sided(98.5, 98.6)) is ExitReason.STOP_LOSS
    assert _reason(LONG, _two_sided(101.99, 102.5)) is None
    assert _reason(LONG, _two_sided(102.0, 102.5)) is ExitReason.TAKE_PROFIT


def test_a_short_is_measured_at_the_ask() -> None:
    assert _reason(SHORT, _two_sided(101.4, 101.49)) is None
    assert _reason(SHORT, _two_sided(101.4, 101.5)) is ExitReason.STOP_LOSS
    assert _reason(SHORT, _two_sided(97.5, 98.01)) is None
    assert _reason(SHORT, _two_sided(97.5, 98.0)) is ExitReason.TAKE_PROFIT


def test_a_price_a_rounding_away_from_the_stop_is_at_the_stop() -> None:
    position = replace(LONG, levels=Levels(stop=0.3, target=1.0))

    assert _reason(position, _two_sided(0.1 + 0.2, 0.4)) is ExitReason.STOP_LOSS


def test_a_price_exit_tells_price_and_level() -> None:
    assert _exit(LONG, _two_sided(98.0, 98.1)) == ExitSignal(
        ExitReason.STOP_LOSS, 98.0, 98.5, "USD"
    )


def test_the_stop_goes_before_the_target() -> None:
    # levels of a position whose stop was drawn beyond its target: both are reached
    both = replace(LONG, levels=Levels(stop=100.0, target=99.0))

    assert _reason(both, _two_sided(99.5, 99.6)) is ExitReason.STOP_LOSS


def test_the_target_goes_before_the_close_and_the_close_before_the_time_stop() -> None:
    late = replace(LONG, flat_by_ns=NOON + 300 * NS_PER_S)
    winning = replace(_two_sided(103.0, 103.1), at_ns=NOON + 700 * NS_PER_S)

    assert _reason(late, winning, after_s=700) is ExitReason.TAKE_PROFIT
    assert _reason(late, None, after_s=700) is ExitReason.FLAT_BY_CLOSE
    assert _reason(LONG, None, after_s=700) is ExitReason.TIME_STOP


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [(599.9, None), (600.0, ExitReason.TIME_STOP), (9000.0, ExitReason.TIME_STOP)],
)
def test_the_time_stop_fires_without_any_quote(after_s: float, expected: ExitReason | None) -> None:
    assert _reason(LONG, None, after_s=after_s) is expected


@pytest.mark.parametrize(
    ("after_s", "expected"), [(299.9, None), (300.0, ExitReason.FLAT_BY_CLOSE)]
)
def test_the_close_comes_without_any_quote(after_s: float, expected: ExitReason | None) -> None:
    late = replace(SHORT, flat_by_ns=NOON + 300 * NS_PER_S)

    assert _reason(late, None, after_s=after_s) is expected


def test_a_time_exit_tells_the_time_held_and_the_limit() -> None:
    assert _exit(LONG, None, after_s=601) == ExitSignal(ExitReason.TIME_STOP, 601.0, 600, "s")


@pytest.mark.parametrize(
    "seen",
    [
        _two_sided(90.0, 89.0),
        _two_sided(90.0, 90.0),
        replace(_two_sided(90.0, 90.1), halted=True),
        replace(_two_sided(90.0, 90.1), data_type=DataType.DELAYED),
        replace(_two_sided(90.0, 90.1), at_ns=NOON - 5 * NS_PER_S),
        replace(_two_sided(90.0, 90.1), ask=None),
        replace(_two_sided(90.0, 90.1), bid=None),
    ],
    ids=["crossed", "locked", "halted", "delayed", "stale", "no ask", "no bid"],
)
def test_a_bad_quote_triggers_no_price_exit(seen: Quote) -> None:
    assert _exit(LONG, seen) is None


def test_a_time_exit_fires_although_the_quote_is_stale() -> None:
    assert _reason(LONG, quote(at_ns=NOON), after_s=600) is ExitReason.TIME_STOP


def test_the_instant_of_the_time_stop_is_known_in_advance() -> None:
    assert LONG.time_stop_ns(PARAMETERS) == NOON + 600 * NS_PER_S


def test_a_correction_replaces_what_it_corrects() -> None:
    first = fill(exec_id="0000e0d5.00000001.01.01", shares=100, price=10.0)
    corrected = fill(exec_id="0000e0d5.00000001.01.02", shares=100, price=10.5)

    for order in ([first, corrected], [corrected, first]):
        total = summarise(order, entry_side=Side.BUY)
        assert (total.shares, total.entry_price) == (100, 10.5)
