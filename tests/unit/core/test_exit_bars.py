"""The bar engine against twelve worked cases, and what it does at its edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from momentum_lab.core.candle import MINUTE_NS
from momentum_lab.core.exit_bars import BarCosts, BarEntry, BarExit, leave_by_bars
from momentum_lab.core.market import Bar, Side
from momentum_lab.core.position import ExitParameters, Levels
from momentum_lab.errors import DataError
from tests.factories import NOON, bar, instrument

Prices = tuple[float, float, float, float, float]
COSTS = BarCosts(half_spread_usd=0.01, slippage_usd=0.01, stop_slippage_usd=0.02)
# Open, high, low, close, ATR.
B: tuple[Prices, ...] = (
    (10.00, 10.05, 9.96, 10.02, 0.05),
    (10.02, 10.12, 10.00, 10.10, 0.05),
    (10.10, 10.24, 10.08, 10.22, 0.05),
    (10.22, 10.26, 10.10, 10.14, 0.05),
    (10.14, 10.16, 10.02, 10.05, 0.05),
    (10.05, 10.07, 9.70, 9.75, 0.06),
)
FIRST: Prices = (10, 10.02, 9.98, 10, 0.05)
B4: tuple[Prices, ...] = (FIRST, (10, 10.40, 9.70, 10.1, 0.05))
B5: tuple[Prices, ...] = (FIRST, (9.60, 9.75, 9.55, 9.7, 0.05))
B6: tuple[Prices, ...] = (FIRST, (10.50, 10.60, 10.4, 10.5, 0.05))


@dataclass(frozen=True)
class Case:
    bars: tuple[Prices, ...]
    stop: float
    target: float
    reason: str
    index: int
    fill: float
    profit: float
    r: float
    mfe_r: float
    mae_r: float
    side: Side = Side.BUY
    time_bars: int = 60
    flat_index: int | None = None
    trail: float = 0.0
    break_even: float = 0.0
    is_ambiguous: bool = False


CASES = {
    "target": Case(B, 9.82, 10.20, "TAKE_PROFIT", 2, 10.20, 0.18, 0.9, 0.9, 0.3),
    "stop": Case(B, 9.82, 10.60, "STOP_LOSS", 5, 9.79, -0.23, -1.15, 1.2, 1.0),
    "a touch is no fill": Case(B, 9.82, 10.26, "STOP_LOSS", 5, 9.79, -0.23, -1.15, 1.2, 1.0),
    "both in one bar": Case(
        B4, 9.80, 10.30, "STOP_LOSS", 1, 9.77, -0.25, -1.136364, 0.0, 1.0, is_ambiguous=True
    ),
    "gap through the stop": Case(
        B5, 9.80, 10.30, "STOP_LOSS_GAP", 1, 9.57, -0.45, -2.045455, 0.0, 1.909091
    ),
    "gap through the target": Case(
        B6, 9.80, 10.30, "TAKE_PROFIT_GAP", 1, 10.30, 0.28, 1.272727, 1.272727, 0.181818
    ),
    "time stop": Case(
        B, 9.50, 10.60, "TIME_STOP", 3, 10.20, 0.18, 0.346154, 0.423077, 0.115385, time_bars=3
    ),
    "chandelier": Case(B, 9.82, 11.00, "TRAIL", 3, 10.11, 0.09, 0.45, 1.1, 0.3, trail=2),
    "break-even": Case(B, 9.92, 11.00, "BREAK_EVEN", 4, 10.01, -0.01, -0.1, 2.4, 0.6, break_even=1),
    "stop of a short": Case(
        B, 10.12, 9.60, "STOP_LOSS", 1, 10.15, -0.17, -1.214286, 0.142857, 1.0, Side.SELL
    ),
    "the close before the time stop": Case(
        B,
        9.50,
        10.60,
        "FLAT_BY_CLOSE",
        3,
        10.20,
        0.18,
        0.346154,
        0.423077,
        0.115385,
        time_bars=3,
        flat_index=3,
    ),
    "a gap before the time stop": Case(
        B5, 9.80, 10.30, "STOP_LOSS_GAP", 1, 9.57, -0.45, -2.045455, 0.0, 1.909091, time_bars=1
    ),
}


def _made(prices: tuple[Prices, ...]) -> list[Bar]:
    return [
        bar(one[0], one[3], high=one[1], low=one[2], start_ns=NOON + number * MINUTE_NS)
        for number, one in enumerate(prices)
    ]


def _leave(
    bars: list[Bar], entry: BarEntry, *, ranges: list[float] | None = None, **exits: Any
) -> BarExit:
    return leave_by_bars(
        bars,
        [0.05] * len(bars) if ranges is None else ranges,
        entry,
        costs=COSTS,
        instrument=instrument(),
        parameters=ExitParameters(**exits),
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_worked_case_comes_out_to_the_last_digit(case: Case) -> None:
    flat_by_ns = None if case.flat_index is None else NOON + case.flat_index * MINUTE_NS
    entry = BarEntry(case.side, Levels(case.stop, case.target), 0.02, flat_by_ns)

    found = _leave(
        _made(case.bars),
        entry,
        ranges=[one[4] for one in case.bars],
        time_stop_s=case.time_bars * 60,
        trail_atr_multiple=case.trail,
        break_even_r=case.break_even,
    )

    assert (found.name, found.index) == (case.reason, case.index)
    assert found.exit_usd == pytest.approx(case.fill, abs=1e-4)
    assert found.profit_usd == pytest.approx(case.profit, abs=1e-4)
    excursions = (found.profit_r, found.mfe_r, found.mae_r)
    assert excursions == pytest.approx((case.r, case.mfe_r, case.mae_r), abs=1e-6)
    assert found.is_ambiguous is case.is_ambiguous


WIDE = BarEntry(Side.BUY, Levels(9.5, 12.0))


def test_bars_that_end_first_leave_the_position_open_at_the_last_close() -> None:
    found = _leave(_made(B[:3]), WIDE)

    assert (found.name, found.reason, found.index, found.exit_usd) == ("OPEN", None, 2, 10.22)


def test_a_gap_through_the_target_may_be_told_to_fill_at_the_open() -> None:
    entry = BarEntry(Side.BUY, Levels(9.80, 10.30), improve_gaps=True)

    assert _leave(_made(B6), entry).exit_usd == 10.50


def test_a_stop_that_was_moved_gaps_under_its_own_name() -> None:
    steep = (*B[:3], (10.05, 10.06, 10.0, 10.0, 0.05))

    assert _leave(_made(steep), WIDE, trail_atr_multiple=2).name == "TRAIL_GAP"


def test_an_opposite_signal_closes_at_the_next_open() -> None:
    entry = replace(WIDE, opposite_ns=NOON + MINUTE_NS + 1)

    found = _leave(_made(B), entry)

    assert (found.name, found.index) == ("OPPOSITE", 2)
    assert found.exit_usd == pytest.approx(10.08)
    assert _leave(_made(B), entry, on_opposite_signal="hold").reason is None


def test_the_time_stop_goes_before_an_opposite_signal() -> None:
    entry = replace(WIDE, opposite_ns=NOON + MINUTE_NS + 1)

    assert _leave(_made(B), entry, time_stop_s=120).name == "TIME_STOP"


def test_volume_that_dies_without_profit_closes_at_the_next_open() -> None:
    flat: tuple[Prices, ...] = ((10.0, 10.01, 9.99, 10.0, 0.05),) * 9
    volumes = (900, 900, 900, 90, 90, 90, 90, 90, 90)
    bars = [replace(one, volume=float(v)) for one, v in zip(_made(flat), volumes, strict=True)]

    found = _leave(bars, WIDE, decay_volume_ratio=0.25)

    # The mean of three falls below a quarter of its peak at the close of bar 5.
    assert (found.name, found.index) == ("VOL_DECAY", 6)
    assert _leave(bars, WIDE).reason is None


def test_a_bar_without_volume_fills_nothing() -> None:
    bars = _made(B5)
    bars[1] = replace(bars[1], volume=0.0)

    assert _leave(bars, BarEntry(Side.BUY, Levels(9.80, 10.30)), time_stop_s=60).reason is None


def test_an_impossible_question_is_refused() -> None:
    with pytest.raises(DataError, match="one ATR per bar"):
        _leave(_made(B), WIDE, ranges=[])
    with pytest.raises(DataError, match="a bar with volume, found 0 bars"):
        _leave([], WIDE)
    with pytest.raises(DataError, match="not behind"):
        _leave(_made(B), BarEntry(Side.SELL, Levels(9.5, 9.0)))
    with pytest.raises(DataError, match="bar costs"):
        BarCosts(-0.01, 0, 0)
