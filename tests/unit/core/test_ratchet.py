from __future__ import annotations

import math
from typing import Any

import pytest

from momentum_lab.core.candle import MINUTE_NS
from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import Bar, Side
from momentum_lab.core.position import ExitParameters, ExitReason
from momentum_lab.core.ratchet import (
    Followed,
    Ratchet,
    VolumeDecay,
    complete_bars,
    follow_bars,
    make_ratchet,
    round_trip_usd,
)
from momentum_lab.errors import DataError
from tests.factories import NOON, bar, instrument, quiet_bars


def _ratchet(side: Side = Side.BUY, **exits: Any) -> Ratchet:
    return make_ratchet(
        side,
        entry_usd=100.0,
        stop_usd=100.0 - side.sign,
        offset_usd=0.04,
        instrument=instrument(),
        parameters=ExitParameters(**exits),
    )


def _at(ratchet: Ratchet) -> tuple[ExitReason, float]:
    return ratchet.stop_kind, ratchet.stop_usd


# ----------------------------------------------------------------- the stop


def test_without_a_rule_the_stop_stays() -> None:
    assert _at(_ratchet().advance(bar(100, 105), 0.1)) == (ExitReason.STOP_LOSS, 99.0)


@pytest.mark.parametrize(("best", "stop"), [(100.99, 99.0), (101.0, 100.04)])
def test_enough_profit_draws_the_stop_to_entry_and_costs(best: float, stop: float) -> None:
    found = _ratchet(break_even_r=1).advance(bar(100, high=best), 0.1)

    assert found.stop_usd == stop


def test_a_short_breaks_even_below_its_entry() -> None:
    found = _ratchet(Side.SELL, break_even_r=1).advance(bar(100, low=98.9), 0.1)

    assert _at(found) == (ExitReason.BREAK_EVEN, 99.96)


def test_the_stop_follows_the_best_price_and_never_goes_back() -> None:
    up = _ratchet(trail_atr_multiple=3).advance(bar(100, high=102), 0.1)
    assert _at(up) == (ExitReason.TRAIL, 101.7)

    wild = up.advance(bar(102, high=102.2), 0.5)

    assert (wild.extreme_usd, wild.stop_usd) == (102.2, 101.7)


def test_a_stop_is_rounded_away_from_the_price() -> None:
    long, short = (_ratchet(side, trail_atr_multiple=3) for side in (Side.BUY, Side.SELL))

    assert long.advance(bar(100, high=102), 0.1013).stop_usd == 101.69
    assert short.advance(bar(100, low=98), 0.1013).stop_usd == 98.31


def test_an_unknown_range_moves_nothing() -> None:
    assert _ratchet(trail_atr_multiple=3).advance(bar(100, high=102), math.nan).stop_usd == 99.0


def test_the_tighter_of_two_rules_names_the_stop() -> None:
    both = _ratchet(break_even_r=1, trail_atr_multiple=3)

    assert _at(both.advance(bar(100, high=101), 0.1)) == (ExitReason.TRAIL, 100.7)
    assert _at(both.advance(bar(100, high=101), 0.5)) == (ExitReason.BREAK_EVEN, 100.04)


def test_a_stop_in_front_of_the_entry_is_refused() -> None:
    with pytest.raises(DataError, match="not behind"):
        make_ratchet(
            Side.SELL,
            entry_usd=100.0,
            stop_usd=99.0,
            offset_usd=0,
            instrument=instrument(),
            parameters=ExitParameters(),
        )


def test_a_round_trip_costs_the_spread_twice_the_slippage_and_twice_the_commission() -> None:
    model, spy = FillModel(), instrument()

    # 200 shares pay the least commission of 1 USD each way.
    assert round_trip_usd(200, bid=99.95, ask=100.05, instrument=spy, model=model) == (
        pytest.approx(0.10 + 2 * 0.025 + 2 * 0.005)
    )
    assert round_trip_usd(100, bid=None, ask=None, instrument=spy, model=model) == (
        pytest.approx(0.01 + 2 * 0.01 + 2 * 0.01)
    )


# ---------------------------------------------------------------- the volume


def _decay(*volumes: float) -> VolumeDecay:
    found = VolumeDecay()
    for volume in volumes:
        found = found.advance(volume)
    return found


ON = ExitParameters(decay_volume_ratio=0.25)


def test_volume_decays_when_the_mean_of_three_falls_below_a_part_of_its_peak() -> None:
    signal = _decay(900, 900, 900, 0, 0, 600).signal(0.0, ON)

    assert signal is not None
    assert signal.reason is ExitReason.VOL_DECAY
    assert signal.observed == pytest.approx(2 / 9)
    assert _decay(900, 900, 900, 0, 0, 675).signal(0.0, ON) is None


def test_a_trade_in_profit_may_lose_its_volume() -> None:
    assert _decay(900, 900, 900, 0, 0, 0).signal(0.49, ON) is not None
    assert _decay(900, 900, 900, 0, 0, 0).signal(0.5, ON) is None


def test_two_bars_are_no_mean_and_without_the_rule_nothing_decays() -> None:
    assert _decay(900, 0).signal(0.0, ON) is None
    assert _decay(900, 900, 900, 0, 0, 0).signal(0.0, ExitParameters()) is None


# ------------------------------------------------------------------ the bars


def _follow(bars: tuple[Bar, ...], *, with_volume: bool = True, **exits: Any) -> Followed:
    return follow_bars(
        _ratchet(**exits),
        bars,
        entry_ns=NOON,
        usual_range_usd=0.2,
        atr_bars=10,
        atr_kind="sma",
        with_volume=with_volume,
    )


def test_bars_from_before_the_entry_feed_the_range_and_nothing_else() -> None:
    before = quiet_bars(20)
    after = bar(100.0, 100.05, high=102.0, low=100.0, start_ns=NOON)

    found = _follow((*before, after), trail_atr_multiple=1)

    # Nine ranges of 0.10 and one of 2.00.
    assert _at(found.ratchet) == (ExitReason.TRAIL, 101.71)
    assert _at(_follow(before, trail_atr_multiple=1).ratchet) == (ExitReason.STOP_LOSS, 99.0)


def test_with_too_few_bars_the_range_of_the_baseline_stands_in() -> None:
    found = _follow((bar(100, high=102, start_ns=NOON),), trail_atr_multiple=1)

    assert found.ratchet.stop_usd == 101.8


def test_the_minute_of_the_entry_does_not_count() -> None:
    spike = bar(100, high=110, start_ns=NOON - 1)

    assert _follow((spike,), break_even_r=1).ratchet.stop_kind is ExitReason.STOP_LOSS


def test_a_dead_volume_asks_for_the_exit_once_and_for_all() -> None:
    volumes = (900, 900, 900, 0, 0, 0, 900)
    bars = tuple(
        bar(100, volume=volume, start_ns=NOON + number * MINUTE_NS)
        for number, volume in enumerate(volumes)
    )

    found = _follow(bars, decay_volume_ratio=0.25)

    assert found.due is not None
    assert found.due.reason is ExitReason.VOL_DECAY
    assert _follow(bars, with_volume=False, decay_volume_ratio=0.25).due is None


def test_history_fills_gaps_since_the_entry_and_goes_first_before_it() -> None:
    old = [bar(1.0, start_ns=NOON + number * MINUTE_NS) for number in (-1, 0, 1)]
    heard = [bar(2.0, volume=10, start_ns=NOON + number * MINUTE_NS) for number in (-2, -1, 1)]

    found = complete_bars(old, heard, entry_ns=NOON, unit_shares=100)

    assert [one.open for one in found] == [2.0, 1.0, 1.0, 2.0]
    assert [one.volume for one in found] == [1000.0] * 4
