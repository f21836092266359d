from __future__ import annotations

from collections.abc import Iterable

import pytest

from momentum_lab.core.candle import (
    MINUTE_NS,
    LiveCandles,
    Trade,
    add_trade,
    latest,
    volume_unit_shares,
)
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import DataError
from tests.factories import NOON, bar


def _at(minute: int, second: float = 0.0) -> int:
    return NOON + minute * MINUTE_NS + int(second * NS_PER_S)


def _heard(*trades: tuple[int, float, float, float]) -> LiveCandles:
    """Candles after trades of (minute, second, price, day volume)."""
    candles = LiveCandles()
    for minute, second, price, day_volume in trades:
        candles = add_trade(candles, Trade(_at(minute, second), price, day_volume))
    return candles


def test_the_first_partial_minute_makes_no_candle() -> None:
    candles = _heard((0, 30, 10.0, 500), (0, 40, 11.0, 600), (1, 0, 12.0, 650))

    assert candles.closed == ()
    assert candles.forming == bar(12.0, volume=50, start_ns=_at(1))


def test_a_trade_at_the_very_start_of_a_minute_belongs_to_that_minute() -> None:
    candles = _heard((0, 30, 10.0, 0), (1, 0, 10.0, 1), (2, 0, 20.0, 2))

    assert candles.forming is not None
    assert candles.forming.start_ns == _at(2)
    assert [closed.close for closed in candles.closed] == [10.0]


def test_the_forming_candle_follows_every_trade() -> None:
    candles = _heard(
        (0, 59, 9.0, 100), (1, 1, 10.0, 110), (1, 2, 12.0, 130), (1, 3, 8.0, 135), (1, 4, 11.0, 140)
    )

    assert candles.forming == bar(10.0, 11.0, high=12.0, low=8.0, volume=40, start_ns=_at(1))


def test_volume_between_two_minutes_goes_to_the_later_one() -> None:
    candles = _heard((0, 30, 10.0, 100), (1, 10, 10.0, 110), (2, 50, 10.0, 170))

    assert [closed.volume for closed in candles.closed] == [10]
    assert candles.forming is not None
    assert candles.forming.volume == 60


def test_a_minute_without_a_trade_makes_no_candle() -> None:
    candles = _heard((0, 0, 10.0, 0), (1, 0, 10.0, 1), (4, 0, 10.0, 2))

    assert [closed.start_ns for closed in candles.closed] == [_at(1)]


def test_a_repeated_report_changes_nothing() -> None:
    trades = ((0, 0.0, 10.0, 0.0), (1, 1.0, 10.0, 5.0), (1, 2.0, 11.0, 9.0))

    assert _heard(*trades, trades[-1]) == _heard(*trades)


def test_a_trade_stamped_before_the_forming_minute_changes_nothing() -> None:
    trades = ((0, 0.0, 10.0, 0.0), (2, 1.0, 10.0, 5.0))

    assert _heard(*trades, (1, 59.0, 99.0, 7.0)) == _heard(*trades)


def test_a_trade_that_lowers_the_day_volume_changes_nothing() -> None:
    trades = ((0, 0.0, 10.0, 0.0), (1, 1.0, 10.0, 5.0))

    assert _heard(*trades, (1, 2.0, 99.0, 4.0)) == _heard(*trades)


def test_the_volume_of_a_late_trade_is_not_lost() -> None:
    candles = _heard((0, 0, 10.0, 0), (2, 1, 10.0, 5), (1, 59, 10.0, 8), (2, 3, 10.0, 9))

    assert candles.forming is not None
    assert candles.forming.volume == 9


def test_five_closed_candles_are_kept_oldest_first() -> None:
    candles = _heard(*((minute, 0.0, 10.0, float(minute)) for minute in range(10)))

    assert [closed.start_ns for closed in candles.closed] == [_at(m) for m in range(4, 9)]


def test_an_impossible_price_is_refused() -> None:
    candles = _heard((0, 0, 10.0, 0))

    with pytest.raises(DataError, match="prices"):
        add_trade(candles, Trade(_at(1), -1.0, 1))


def test_latest_is_the_forming_then_the_last_closed_candle() -> None:
    candles = _heard(*((minute, 0.0, 10.0, float(minute)) for minute in range(5)))

    found = latest(candles, ending_after_ns=0)

    assert [candle.start_ns for candle in found] == [_at(4), _at(3)]


def test_latest_leaves_out_a_candle_that_was_over_by_then() -> None:
    candles = _heard(*((minute, 0.0, 10.0, float(minute)) for minute in range(5)))

    assert [c.start_ns for c in latest(candles, ending_after_ns=_at(4))] == [_at(4)]
    assert len(latest(candles, ending_after_ns=_at(4) - 1)) == 2


def test_latest_of_a_silent_line_is_empty() -> None:
    assert latest(LiveCandles(), ending_after_ns=0) == ()


def _unit(live: Iterable[float], historical: Iterable[float]) -> tuple[float | None, float | None]:
    return volume_unit_shares(
        [bar(volume=v, start_ns=_at(i)) for i, v in enumerate(live)],
        [bar(volume=v, start_ns=_at(i)) for i, v in enumerate(historical)],
        tolerance_ratio=0.25,
    )


def test_equal_volumes_mean_shares() -> None:
    assert _unit([5000], [5000]) == (1.0, 1.0)


def test_a_hundredfold_volume_means_round_lots() -> None:
    assert _unit([50], [5000]) == (100.0, 100.0)


@pytest.mark.parametrize("ratio", [0.801, 1.0, 1.249, 80.1, 100.0, 124.9])
def test_a_ratio_inside_the_tolerance_is_known(ratio: float) -> None:
    unit, measured = _unit([1000], [1000 * ratio])

    assert unit in (1.0, 100.0)
    assert measured == pytest.approx(ratio)


@pytest.mark.parametrize("ratio", [0.01, 0.79, 1.26, 10.0, 79.0, 126.0, 10000.0])
def test_a_ratio_that_is_neither_is_no_unit_but_is_told(ratio: float) -> None:
    unit, measured = _unit([1000], [1000 * ratio])

    assert unit is None
    assert measured == pytest.approx(ratio)


def test_without_a_common_minute_nothing_is_known() -> None:
    live = [bar(volume=10, start_ns=_at(0))]
    historical = [bar(volume=10, start_ns=_at(1))]

    assert volume_unit_shares(live, historical, tolerance_ratio=0.25) == (None, None)


def test_without_any_candle_nothing_is_known() -> None:
    assert _unit([], []) == (None, None)


def test_the_newest_common_minute_decides() -> None:
    assert _unit([7, 7, 50], [7, 7, 5000]) == (100.0, 100.0)


def test_a_minute_without_volume_on_one_side_says_nothing() -> None:
    assert _unit([10, 0, 5], [10, 7, 0]) == (1.0, 1.0)


def test_a_new_day_starts_the_line_over() -> None:
    candles = add_trade(LiveCandles(), Trade(NOON, 10.0, 5000.0))
    candles = add_trade(candles, Trade(NOON + MINUTE_NS, 10.1, 5100.0))

    overnight = add_trade(candles, Trade(NOON + 1000 * MINUTE_NS, 10.2, 7.0))

    assert overnight == LiveCandles(minute_ns=NOON + 1000 * MINUTE_NS, day_volume=7.0)
