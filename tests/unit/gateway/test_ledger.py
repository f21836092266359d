from __future__ import annotations

import pytest

from momentum_lab.core.market import Side
from momentum_lab.gateway.ledger import Ledger, added_gross_usd
from tests.gateway_factories import execution


def test_opening_realizes_nothing_and_costs_its_commission() -> None:
    ledger = Ledger(10_000)
    fill = ledger.book(execution(Side.BUY, 10, 100.0, commission_usd=1.0))
    assert fill.realized_usd is None
    assert ledger.cash_usd == 8_999.0
    assert ledger.position("SPY").average_usd == 100.1


def test_closing_a_long_realizes_net_of_both_commissions() -> None:
    ledger = Ledger(10_000)
    ledger.book(execution(Side.BUY, 10, 100.0))
    fill = ledger.book(execution(Side.SELL, 10, 103.0))
    assert fill.realized_usd == pytest.approx(28.0)
    assert ledger.position("SPY").quantity == 0
    assert ledger.position("SPY").average_usd == 0.0


def test_closing_a_short_realizes_net_of_both_commissions() -> None:
    ledger = Ledger(10_000)
    ledger.book(execution(Side.SELL, 10, 100.0))
    fill = ledger.book(execution(Side.BUY, 10, 97.0))
    assert fill.realized_usd == pytest.approx(28.0)
    assert ledger.cash_usd == pytest.approx(10_028.0)


def test_a_fill_through_zero_closes_and_opens_with_its_own_part_of_the_commission() -> None:
    ledger = Ledger(100_000)
    ledger.book(execution(Side.BUY, 100, 100.0, commission_usd=0.0))
    fill = ledger.book(execution(Side.SELL, 150, 101.0, commission_usd=1.5))
    assert fill.realized_usd == pytest.approx(99.0)
    assert ledger.position("SPY").quantity == -50
    assert ledger.position("SPY").average_usd == pytest.approx(100.99)


def test_a_part_close_keeps_the_average_cost() -> None:
    ledger = Ledger(100_000)
    ledger.book(execution(Side.BUY, 100, 100.0))
    ledger.book(execution(Side.SELL, 40, 105.0))
    assert ledger.position("SPY").quantity == 60
    assert ledger.position("SPY").average_usd == pytest.approx(100.01)


def test_buying_power_is_four_times_what_is_not_bound() -> None:
    ledger = Ledger(10_000)
    ledger.book(execution(Side.BUY, 100, 100.0, commission_usd=0.0))
    value = ledger.value(lambda _symbol: 100.0)
    assert (value.equity, value.margin, value.available) == (10_000, 2_500, 7_500)
    assert value.buying_power == 30_000


def test_a_symbol_without_a_price_counts_at_its_cost() -> None:
    ledger = Ledger(10_000)
    ledger.book(execution(Side.BUY, 10, 100.0, commission_usd=0.0))
    assert ledger.value(lambda _symbol: None).equity == 10_000


@pytest.mark.parametrize(
    ("held", "side", "shares", "added"),
    [
        (0, Side.BUY, 10, 1000),
        (10, Side.SELL, 10, -1000),
        (10, Side.SELL, 30, 1000),
        (-10, Side.SELL, 5, 500),
    ],
)
def test_added_exposure_counts_what_remains(
    held: int, side: Side, shares: int, added: float
) -> None:
    assert added_gross_usd(held, side=side, shares=shares, price_usd=100.0) == added
