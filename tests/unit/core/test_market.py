from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Bar, DataType, Instrument, Side
from momentum_lab.errors import DataError
from tests.factories import NOON, bar, instrument, quote


@pytest.mark.parametrize(
    ("price", "below", "above"),
    [
        (100.0, 100.0, 100.0),
        (100.001, 100.0, 100.01),
        (100.009, 100.0, 100.01),
        (165.72, 165.72, 165.72),
        (0.29, 0.29, 0.29),
        (1.1 + 2.2, 3.3, 3.3),
        (0.004, 0.0, 0.01),
    ],
)
def test_prices_are_put_on_the_tick_grid(price: float, below: float, above: float) -> None:
    assert instrument().floor(price) == below
    assert instrument().ceil(price) == above


def test_the_grid_of_a_low_priced_stock_is_finer() -> None:
    penny = instrument(tick_usd=0.0001)

    assert penny.floor(0.12345) == 0.1234
    assert penny.ceil(0.12341) == 0.1235


@pytest.mark.parametrize("price", [223893.86, 226387.11, 660013.47])
def test_a_dear_price_on_the_grid_stays_where_it_is(price: float) -> None:
    assert instrument().floor(price) == price
    assert instrument().ceil(price) == price


def test_ticks_compare_prices_exactly() -> None:
    assert instrument().ticks(0.1 + 0.2) == instrument().ticks(0.3) == 30


@pytest.mark.parametrize(
    ("symbol", "con_id", "tick_usd"),
    [
        ("", 1, 0.01),
        ("SPY", 0, 0.01),
        ("SPY", -1, 0.01),
        ("SPY", 1, 0.0),
        ("SPY", 1, -0.01),
        ("SPY", 1, math.nan),
        ("SPY", 1, math.inf),
    ],
)
def test_an_impossible_instrument_is_refused(symbol: str, con_id: int, tick_usd: float) -> None:
    with pytest.raises(DataError, match=r"expected|needs"):
        Instrument(symbol, con_id, tick_usd)


def test_a_bar_is_known_from_its_end_on() -> None:
    assert bar(start_ns=NOON, seconds=60).end_ns == NOON + 60 * NS_PER_S


@pytest.mark.parametrize(
    ("open_", "high", "low", "close"),
    [
        (0.0, 1.0, 0.0, 1.0),
        (-1.0, 1.0, -1.0, 1.0),
        (math.nan, 1.0, 1.0, 1.0),
        (1.0, math.inf, 1.0, 1.0),
        (1.0, 2.0, 1.5, 1.7),
        (1.0, 1.0, 0.5, 1.1),
        (1.0, 0.9, 1.1, 1.0),
    ],
)
def test_a_bar_with_impossible_prices_is_refused(
    open_: float, high: float, low: float, close: float
) -> None:
    with pytest.raises(DataError, match="bar at"):
        Bar(NOON, 60, open_, high, low, close, 1.0)


@pytest.mark.parametrize("volume", [-1.0, math.nan, math.inf])
def test_a_bar_with_an_impossible_volume_is_refused(volume: float) -> None:
    with pytest.raises(DataError, match="volume"):
        bar(volume=volume)


@pytest.mark.parametrize("seconds", [0, -60])
def test_a_bar_without_a_length_is_refused(seconds: int) -> None:
    with pytest.raises(DataError, match="seconds"):
        bar(seconds=seconds)


def test_a_bar_without_a_trade_is_possible() -> None:
    assert bar(volume=0).volume == 0


def test_a_side_has_a_sign_and_an_opposite() -> None:
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert Side.BUY.opposite is Side.SELL
    assert Side.SELL.opposite is Side.BUY


def test_middle_and_spread_come_from_both_sides() -> None:
    both = quote(100.0, spread=0.04)

    assert both.mid == pytest.approx(100.0)
    assert both.spread == pytest.approx(0.04)


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_without_one_side_there_is_no_middle_and_no_spread(side: str) -> None:
    half = replace(quote(), bid=None) if side == "bid" else replace(quote(), ask=None)

    assert half.mid is None
    assert half.spread is None


def _why(*, after_s: float = 0.0, **changes: Any) -> str | None:
    now_ns = NOON + int(after_s * NS_PER_S)
    return replace(quote(), **changes).why_not_tradable(now_ns=now_ns, max_age_s=5.0)


def test_a_fresh_two_sided_quote_is_tradable() -> None:
    assert _why() is None


@pytest.mark.parametrize("after_s", [0.0, 4.9, 5.0])
def test_a_quote_is_tradable_up_to_its_oldest_age(after_s: float) -> None:
    assert _why(after_s=after_s) is None


def test_a_stale_quote_is_not_tradable_and_says_how_old_it_is() -> None:
    assert _why(after_s=7.5) == "the quote is 7.5 s old, 5 s are allowed"


@pytest.mark.parametrize(("bid", "ask"), [(None, 100.0), (100.0, None), (None, None)])
def test_a_one_sided_quote_is_not_tradable(bid: float | None, ask: float | None) -> None:
    assert _why(bid=bid, ask=ask) == "no bid or no ask has been heard"


@pytest.mark.parametrize(
    ("bid", "ask"), [(100.0, 100.0), (100.01, 100.0), (0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)]
)
def test_a_crossed_locked_or_empty_quote_is_not_tradable(bid: float, ask: float) -> None:
    assert "crossed, locked or not positive" in str(_why(bid=bid, ask=ask))


def test_a_halted_line_is_not_tradable() -> None:
    assert _why(halted=True) == "trading is halted"


@pytest.mark.parametrize("kind", [kind for kind in DataType if kind is not DataType.LIVE])
def test_what_is_not_live_is_not_tradable(kind: DataType) -> None:
    assert _why(data_type=kind) == f"the data are {kind.value}"


def test_what_the_broker_said_about_the_line_comes_first() -> None:
    assert _why(fault="354 not subscribed", bid=None, after_s=99) == "354 not subscribed"


def test_the_side_that_was_silent_for_longer_has_a_limit_of_its_own() -> None:
    seen = replace(quote(at_ns=NOON + 60 * NS_PER_S), bid_at_ns=NOON, ask_at_ns=None)
    now_ns = NOON + 61 * NS_PER_S

    assert seen.why_not_tradable(now_ns=now_ns, max_age_s=2) is None
    assert seen.why_not_tradable(now_ns=now_ns, max_age_s=2, side_max_age_s=61) is None
    assert (
        seen.why_not_tradable(now_ns=now_ns, max_age_s=2, side_max_age_s=60)
        == "one side of the quote is 61.0 s old, 60 s are allowed"
    )


def test_an_unknown_size_does_not_forbid_a_trade() -> None:
    assert _why(bid_size=None, ask_size=None) is None


@pytest.mark.parametrize(("bid_size", "ask_size"), [(0.0, 100.0), (100.0, 0.0)])
def test_a_side_with_nothing_on_it_is_not_tradable(bid_size: float, ask_size: float) -> None:
    # reference/algorithms.md 0: a quote is valid if 0 < bid < ask, both sizes > 0, age <= limit
    assert _why(bid_size=bid_size, ask_size=ask_size) is not None
