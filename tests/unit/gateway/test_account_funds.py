"""What an account carries: margin, cash and shares, beside what works already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from momentum_lab.core.market import Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import ExchangeEvent, Executed, OrderError, WhatIfShown
from tests.gateway_factories import (
    IBM,
    exchange,
    market,
    play,
    second_tape,
    seconds,
    ticket,
)


def margin(cash_usd: float = 100_000.0) -> Exchange:
    return exchange(market(), cash_usd=cash_usd)


def cash(cash_usd: float = 10_000.0) -> Exchange:
    return exchange(market(), cash_usd=cash_usd, rules=Rules(is_cash_account=True))


def limit(price: float, side: Side = Side.BUY, **values: Any) -> Any:
    return ticket(side, order_type="LMT", limit_usd=price, **values)


def stop(price: float, side: Side = Side.SELL, **values: Any) -> Any:
    return ticket(side, order_type="STP", stop_usd=price, **values)


def errors(events: list[ExchangeEvent]) -> list[int]:
    return [event.code for event in events if isinstance(event, OrderError)]


def n_filled(events: list[ExchangeEvent]) -> int:
    return sum(event.execution.shares for event in events if isinstance(event, Executed))


# ------------------------------------------------------------ children


def test_a_child_that_closes_its_parent_needs_no_margin() -> None:
    found = margin(cash_usd=2_600.0)
    found.place(limit(99.0, order_id=1, transmit=False))
    found.place(limit(110.0, Side.SELL, order_id=2, parent_id=1, transmit=False))
    assert errors(found.place(stop(90.0, order_id=3, parent_id=1))) == []


@pytest.mark.parametrize("found", [margin(), cash()])
def test_a_child_that_buys_more_is_checked_like_any_order(found: Exchange) -> None:
    found.place(ticket(quantity=10))
    assert errors(found.place(ticket(quantity=50_000, order_id=2, parent_id=1))) == [201]


def test_a_child_is_free_up_to_the_size_of_its_parent() -> None:
    found = margin(cash_usd=10_000.0)
    found.place(limit(99.0, quantity=10, tif="GTC"))
    assert errors(found.place(limit(101.0, Side.SELL, quantity=500, order_id=2, parent_id=1))) == [
        201
    ]
    # What it sells beyond that has its margin, and is told to cross the side.
    events = found.place(limit(101.0, Side.SELL, quantity=300, order_id=3, parent_id=1))
    assert errors(events) == [2137]


def test_a_child_of_a_cash_account_sells_no_more_than_its_parent_brings() -> None:
    found = cash()
    found.place(limit(99.0, quantity=10))
    assert errors(found.place(stop(90.0, quantity=11, order_id=2, parent_id=1))) == [426]
    assert errors(found.place(stop(90.0, quantity=10, order_id=3, parent_id=1))) == []
    # In a group of its own it would sell the same shares once more.
    other = limit(101.0, Side.SELL, quantity=10, order_id=4, parent_id=1, oca_group="other")
    assert errors(found.place(other)) == [426]


def test_a_child_of_another_contract_than_its_parent_is_rejected() -> None:
    rows = seconds([100.0] * 5) + seconds([200.0] * 5, symbol="IBM")
    a_market = Market(second_tape(rows))
    play(a_market, 1)
    found = exchange(a_market)
    found.place(limit(90.0))
    assert errors(found.place(ticket(Side.SELL, order_id=2, parent_id=1, instrument=IBM))) == [201]


def test_children_of_a_part_are_free_for_the_rest_of_their_parent_too() -> None:
    found = cash(cash_usd=80_030.0)
    found.place(ticket(quantity=800, transmit=False))
    found.place(stop(90.0, quantity=800, order_id=2, parent_id=1))
    assert (found.books.orders[1, 2].quantity, found.books.orders[1, 1].filled) == (500, 500)
    assert errors(found.place(stop(91.0, quantity=800, order_id=2, parent_id=1))) == []
    assert errors(found.place(limit(110.0, Side.SELL, quantity=1, order_id=3))) == [426]


# ---------------------------------------------------- what works already


def test_a_cash_account_spends_its_cash_once() -> None:
    found = cash()
    assert errors(found.place(limit(99.5, quantity=90))) == []
    assert errors(found.place(limit(99.5, quantity=90, order_id=2))) == [201]
    assert errors(found.place(limit(99.5, quantity=10, order_id=3))) == []
    found.cancel(1, 1)
    assert errors(found.place(limit(99.5, quantity=90, order_id=4))) == []


@pytest.mark.parametrize("order_type", ["MKT", "LMT", "STP"])
@pytest.mark.parametrize("quantity", [1, 50, 99, 100, 400])
def test_a_purchase_that_is_accepted_never_overdraws_a_cash_account(
    order_type: str, quantity: int
) -> None:
    """With any cash near its cost: it is refused, or paid whole, commission and all."""
    terms = {"LMT": {"limit_usd": 100.05}, "STP": {"stop_usd": 100.0}}
    prices: dict[str, Any] = terms.get(order_type, {})
    taken = 0
    for cents in range(-100, 3000, 140):
        found = exchange(
            market(),
            cash_usd=quantity * 100.0 + cents / 100,
            rules=Rules(is_cash_account=True),
        )
        events = found.place(ticket(quantity=quantity, order_type=order_type, **prices))
        taken += n_filled(events) == quantity
        assert found.account.ledger.cash_usd >= 0
    assert taken


def test_a_cash_account_sells_its_shares_once() -> None:
    found = cash()
    found.place(ticket(quantity=50))
    assert errors(found.place(limit(100.5, Side.SELL, quantity=50, order_id=2))) == []
    assert errors(found.place(ticket(Side.SELL, 50, order_id=3))) == [426]
    assert found.account.ledger.position("SPY").quantity == 50


def test_orders_that_exclude_each_other_count_once() -> None:
    found = cash()
    found.place(ticket(quantity=50))
    for order_id, wanted in enumerate((limit(100.5, Side.SELL), stop(90.0)), start=2):
        one = replace(wanted, order_id=order_id, quantity=50, oca_group="exit")
        assert errors(found.place(one)) == []
    for order_id, price in enumerate((90.0, 95.0), start=4):
        one = limit(price, order_id=order_id, quantity=50, oca_group="entry")
        assert errors(found.place(one)) == []


def test_a_modified_order_is_counted_without_what_it_was() -> None:
    found = cash()
    found.place(limit(99.0, quantity=90))
    assert errors(found.place(limit(99.5, quantity=100))) == []
    assert errors(found.place(limit(99.5, quantity=101))) == [201]
    assert found.books.orders[1, 1].quantity == 100


def test_new_terms_that_need_no_more_are_taken_also_when_margin_is_short() -> None:
    found = margin(cash_usd=2_600.0)
    found.place(limit(99.0))
    found.account.ledger.cash_usd = 1_000.0
    assert errors(found.place(limit(98.0))) == []
    assert errors(found.place(limit(98.0, quantity=101))) == [201]


def test_orders_of_both_sides_bind_the_margin_of_the_worse_one() -> None:
    found = margin(cash_usd=10_000.0)
    assert errors(found.place(limit(90.0, quantity=390))) == []
    assert errors(found.place(limit(110.0, Side.SELL, quantity=390, order_id=2))) == []
    assert errors(found.place(limit(110.0, Side.SELL, quantity=20, order_id=3))) == [201]


def test_a_question_about_a_closing_order_shows_what_it_frees() -> None:
    found = margin()
    found.place(ticket(quantity=200))
    (answer,) = found.place(ticket(Side.SELL, 150, order_id=2, what_if=True))
    assert isinstance(answer, WhatIfShown)
    assert (answer.margin_before_usd, answer.margin_after_usd) == (5_000, 1_250)
