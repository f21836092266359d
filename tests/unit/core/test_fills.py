from __future__ import annotations

import math

import pytest

from momentum_lab.core.fills import FillModel, SpreadModel
from momentum_lab.core.market import Side
from momentum_lab.errors import DataError
from tests.factories import instrument


@pytest.mark.parametrize(
    ("spread_usd", "price", "bid", "ask"),
    [
        (0.01, 100.0, 99.99, 100.0),
        (0.02, 100.0, 99.99, 100.01),
        (0.06, 180.0, 179.97, 180.03),
        (0.001, 100.0, 99.99, 100.0),
        (0.014, 13.85, 13.84, 13.85),
    ],
)
def test_the_measured_spread_is_quoted_round_the_last_trade(
    spread_usd: float, price: float, bid: float, ask: float
) -> None:
    found = SpreadModel(spread_usd=spread_usd).quote(price, instrument())

    assert found == pytest.approx((bid, ask), abs=1e-9)


def test_an_unmeasured_spread_grows_with_the_price() -> None:
    model = SpreadModel(spread_bps=10)

    assert model.quote(100.0, instrument()) == pytest.approx((99.95, 100.05))
    assert model.quote(400.0, instrument()) == pytest.approx((399.8, 400.2))


def test_a_quote_is_never_tighter_than_a_tick() -> None:
    bid, ask = SpreadModel(spread_bps=0.1).quote(10.0, instrument())

    assert ask - bid == pytest.approx(0.01)


def test_the_lowest_price_still_has_a_bid() -> None:
    bid, ask = SpreadModel(spread_usd=0.05).quote(0.01, instrument())

    assert bid == pytest.approx(0.01)
    assert ask == pytest.approx(0.06)


@pytest.mark.parametrize("price", [100.003, 13.8449, 100.0049])
@pytest.mark.parametrize("spread_usd", [0.01, 0.02, 0.03])
def test_a_trade_between_two_ticks_lies_inside_its_quote(price: float, spread_usd: float) -> None:
    bid, ask = SpreadModel(spread_usd=spread_usd).quote(price, instrument())

    assert bid <= price <= ask


@pytest.mark.parametrize("bad", [0.0, -0.01, math.nan, math.inf])
def test_a_spread_that_is_not_positive_is_refused(bad: float) -> None:
    with pytest.raises(DataError, match="spread_usd"):
        SpreadModel(spread_usd=bad)
    with pytest.raises(DataError, match="spread_bps"):
        SpreadModel(spread_bps=bad)


def test_a_quote_without_size_is_refused() -> None:
    with pytest.raises(DataError, match="size_shares"):
        SpreadModel(size_shares=0)


def _price(side: Side, bid: float, ask: float) -> float:
    return FillModel().market_price(side, bid=bid, ask=ask, instrument=instrument())


def test_a_buyer_pays_the_ask_and_a_tick() -> None:
    assert _price(Side.BUY, 100.0, 100.01) == pytest.approx(100.02)


def test_a_seller_gets_the_bid_less_a_tick() -> None:
    assert _price(Side.SELL, 100.0, 100.01) == pytest.approx(99.99)


def test_slippage_grows_with_a_wide_spread() -> None:
    assert _price(Side.BUY, 100.0, 100.20) == pytest.approx(100.25)
    assert _price(Side.SELL, 100.0, 100.20) == pytest.approx(99.95)


def test_slippage_between_two_ticks_is_rounded_against_the_trader() -> None:
    assert _price(Side.BUY, 100.0, 100.06) == pytest.approx(100.08)
    assert _price(Side.SELL, 100.0, 100.06) == pytest.approx(99.98)


def test_the_spread_is_paid_once() -> None:
    # bought and sold at once: the spread, and the slippage of two orders
    paid = _price(Side.BUY, 100.0, 100.04) - _price(Side.SELL, 100.0, 100.04)

    assert paid == pytest.approx(0.04 + 2 * 0.01)


def test_nothing_is_sold_below_one_tick() -> None:
    assert _price(Side.SELL, 0.01, 0.02) == pytest.approx(0.01)


@pytest.mark.parametrize("bad", [(100.01, 100.0), (-1.0, 1.0), (1.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("side", list(Side))
def test_no_order_is_filled_on_a_bad_quote(side: Side, bad: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="expected a far side and bid <= ask"):
        _price(side, *bad)


def test_a_locked_quote_costs_a_tick_of_slippage() -> None:
    assert _price(Side.BUY, 100.0, 100.0) == pytest.approx(100.01)
    assert _price(Side.SELL, 100.0, 100.0) == pytest.approx(99.99)


def test_only_the_far_side_is_needed() -> None:
    assert _price(Side.BUY, 0.0, 100.0) == pytest.approx(100.01)
    assert _price(Side.SELL, 100.0, 0.0) == pytest.approx(99.99)
    with pytest.raises(DataError):
        _price(Side.SELL, 0.0, 100.0)


@pytest.mark.parametrize(
    ("shares", "expected"), [(0, 0.0), (1, 1.0), (200, 1.0), (201, 1.005), (1000, 5.0)]
)
def test_commission_is_per_share_with_a_least_amount(shares: float, expected: float) -> None:
    assert FillModel().commission_usd(shares) == pytest.approx(expected)
