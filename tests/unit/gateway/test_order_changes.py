"""New terms and cancellations on their way, and what is held back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway import state
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import Trade
from momentum_lab.gateway.orders import (
    CANCELLED,
    FILLED,
    HELD,
    WORKING,
    ExchangeEvent,
    Executed,
    OrderError,
    StatusShown,
)
from tests.gateway_factories import CLOSE, NOON, exchange, market, second_tape, seconds, ticket

LATENCY = Rules(latency_s=2.0)


def play(found: Exchange, a_market: Market, n_seconds: float) -> list[ExchangeEvent]:
    """Let the market run and the exchange react, second by second."""
    events: list[ExchangeEvent] = []
    end_ns = a_market.now_ns + round(n_seconds * NS_PER_S)
    while a_market.now_ns < end_ns:
        for event in a_market.advance(min(end_ns, a_market.now_ns + NS_PER_S)):
            if isinstance(event, Trade):
                events += found.on_trade(event)
        events += found.on_time()
    return events


def limit(price: float, side: Side = Side.BUY, **values: Any) -> Any:
    return ticket(side, order_type="LMT", limit_usd=price, **values)


def stop(price: float, **values: Any) -> Any:
    return ticket(Side.SELL, order_type="STP", stop_usd=price, **values)


def statuses(events: list[ExchangeEvent]) -> list[tuple[int, str]]:
    shown = [event.order for event in events if isinstance(event, StatusShown)]
    return [(order.ticket.order_id, order.status) for order in shown]


def errors(events: list[ExchangeEvent]) -> list[int]:
    return [event.code for event in events if isinstance(event, OrderError)]


def fills(events: list[ExchangeEvent]) -> list[tuple[float, float]]:
    """Return (seconds after noon, price) of each fill."""
    found = [event.execution for event in events if isinstance(event, Executed)]
    return [((fill.at_ns - NOON) / NS_PER_S, fill.price_usd) for fill in found]


def working(price: float, *prices: float) -> tuple[Exchange, Market]:
    """An exchange with latency where a limit order has rested at a price since 12:00:03."""
    a_market = market([100.0, 100.0, 100.0, *prices, *[100.0] * 20])
    found = exchange(a_market, rules=LATENCY)
    found.place(limit(price))
    play(found, a_market, 2)
    return found, a_market


# ------------------------------------------------------------------ on their way


def test_new_terms_work_once_they_have_arrived() -> None:
    found, a_market = working(90.0)
    assert found.place(limit(101.0)) == []
    assert [order.limit_usd for order in found.live_orders()] == [90.0]
    assert play(found, a_market, 1) == []
    events = play(found, a_market, 1)
    assert statuses(events) == [(1, WORKING), (1, FILLED)]
    assert fills(events) == [(5.0, 100.01)]


def test_the_old_terms_fill_until_the_new_ones_arrive() -> None:
    found, a_market = working(99.5, 99.0)
    found.place(limit(90.0))
    events = play(found, a_market, 5)
    assert fills(events) == [(4.0, 99.5)]
    assert statuses(events) == [(1, FILLED)]


def test_several_changes_arrive_each_in_its_turn() -> None:
    found, a_market = working(90.0)
    found.place(limit(91.0))
    play(found, a_market, 1)
    found.place(limit(92.0))
    limits = []
    for _ in range(3):
        limits.append([order.limit_usd for order in found.live_orders()])
        play(found, a_market, 1)
    assert limits == [[90.0], [91.0], [92.0]]


def test_new_terms_below_what_has_filled_meanwhile_are_refused() -> None:
    a_market = Market(second_tape(seconds([100.0] * 20, volume=400)))
    play(exchange(a_market), a_market, 1)
    found = exchange(a_market, rules=LATENCY)
    found.place(ticket(quantity=800))
    play(found, a_market, 2)
    assert found.books.orders[1, 1].filled == 500
    found.place(ticket(quantity=550))
    events = play(found, a_market, 2)
    assert errors(events) == [201]
    assert found.books.orders[1, 1].quantity == 800


def test_new_terms_for_an_order_that_is_being_cancelled_are_refused() -> None:
    found, a_market = working(90.0)
    found.cancel(1, 1)
    assert errors(found.place(limit(101.0))) == [2102]
    assert statuses(play(found, a_market, 3)) == [(1, CANCELLED)]


def test_a_global_cancellation_takes_as_long_as_any() -> None:
    found, a_market = working(90.0)
    assert statuses(found.cancel_all()) == [(1, "PendingCancel")]
    assert found.cancel_all() == []
    assert statuses(play(found, a_market, 1)) == []
    assert statuses(play(found, a_market, 1)) == [(1, CANCELLED)]


def test_what_is_on_its_way_outlives_a_restart(tmp_path: Path) -> None:
    found, a_market = working(90.0)
    found.place(limit(101.0))
    path = tmp_path / "state.json"
    state.save(path, tape_id="t", now_ns=a_market.now_ns, has_streamed=True, exchange=found)
    saved = state.load(path, tape_id="t", account="DU1234567")
    assert saved is not None
    after = exchange(a_market, rules=LATENCY)
    state.restore(saved, after)
    assert after.books.orders == found.books.orders
    assert fills(play(after, a_market, 3)) == [(5.0, 100.01)]


def test_cash_is_bound_for_the_terms_on_their_way() -> None:
    a_market = market([100.0] * 20)
    found = exchange(a_market, cash_usd=10_000.0, rules=Rules(latency_s=2.0, is_cash_account=True))
    found.place(limit(90.0, quantity=10))
    play(found, a_market, 2)
    found.place(limit(90.0, quantity=100))
    assert errors(found.place(limit(90.0, quantity=50, order_id=2))) == [201]


# ------------------------------------------------------------------ families


def test_children_are_no_larger_than_a_parent_that_was_made_smaller() -> None:
    a_market = Market(second_tape(seconds([100.0] * 20, volume=400)))
    found = exchange(a_market)
    play(found, a_market, 1)
    found.place(ticket(quantity=1_000, transmit=False))
    found.place(limit(110.0, Side.SELL, quantity=1_000, order_id=2, parent_id=1, transmit=False))
    found.place(stop(90.0, quantity=1_000, order_id=3, parent_id=1))
    sizes = [[found.books.orders[1, n].quantity for n in (1, 2, 3)]]

    found.place(ticket(quantity=600))

    for _ in range(2):
        sizes.append([found.books.orders[1, n].quantity for n in (1, 2, 3)])
        play(found, a_market, 1)
    assert sizes == [[1_000, 500, 500], [600, 500, 500], [600, 600, 600]]
    assert found.account.ledger.position("SPY").quantity == 600


def test_children_of_several_groups_shrink_in_proportion_and_small_ones_stay() -> None:
    found = exchange(market())
    found.place(limit(90.0, quantity=1_000))
    for order_id, shares in enumerate((600, 400), start=2):
        group: dict[str, Any] = {"oca_group": f"g{order_id}", "parent_id": 1}
        found.place(stop(80.0, order_id=order_id, quantity=shares, **group))

    events = found.place(limit(90.0, quantity=500))

    assert statuses(events) == [(2, HELD), (3, HELD), (1, WORKING)]
    assert [found.books.orders[1, n].quantity for n in (2, 3)] == [300, 200]
    # They fit already: who resizes them first is not corrected.
    found.place(stop(80.0, order_id=2, quantity=100, oca_group="g2", parent_id=1))
    found.place(limit(90.0, quantity=300))
    assert [found.books.orders[1, n].quantity for n in (2, 3)] == [100, 200]


def test_a_child_that_a_part_of_its_parent_is_too_small_for_waits_and_ends_with_it() -> None:
    found = exchange(Market(second_tape(seconds([100.0] * 5, volume=400))))
    list(found.account.market.advance(NOON + NS_PER_S))
    found.place(ticket(quantity=1_000))
    events = found.place(stop(90.0, quantity=1, order_id=2, parent_id=1))
    assert statuses(events) == [(2, HELD)]
    assert found.books.orders[1, 2].why_held == "child"
    assert statuses(found.cancel(1, 1)) == [(1, CANCELLED), (2, CANCELLED)]


# ------------------------------------------------------------------ held back


@pytest.mark.parametrize("rules", [Rules(), LATENCY])
def test_new_terms_that_are_not_transmitted_change_nothing(rules: Rules) -> None:
    a_market = market([100.0] * 20)
    found = exchange(a_market, rules=rules)
    found.place(limit(90.0))
    play(found, a_market, 2)
    assert found.place(limit(101.0, transmit=False)) == []
    assert play(found, a_market, 4) == []
    assert [order.limit_usd for order in found.live_orders()] == [90.0]
    events = [*found.place(limit(91.0)), *play(found, a_market, 3)]
    assert statuses(events) == [(1, WORKING)]
    assert [order.limit_usd for order in found.live_orders()] == [91.0]


def test_what_is_held_back_leaves_with_its_family() -> None:
    found = exchange(market())
    found.place(limit(90.0, transmit=False))
    found.place(stop(80.0, order_id=2, parent_id=1))
    found.place(limit(91.0, transmit=False))
    assert found.books.orders[1, 1].limit_usd == 90.0
    events = found.place(stop(81.0, order_id=2, parent_id=1))
    assert statuses(events) == [(1, WORKING), (2, HELD)]
    assert found.books.orders[1, 1].limit_usd == 91.0


def test_the_end_of_an_order_that_was_never_sent_is_told_to_who_asks_for_it_alone() -> None:
    a_market = market([100.0] * 5)
    found = exchange(a_market)
    found.place(limit(90.0, transmit=False))
    found.place(limit(91.0, order_id=2, transmit=False))
    found.place(stop(80.0, order_id=3, parent_id=2, transmit=False))
    assert statuses(found.cancel(1, 1)) == [(1, CANCELLED)]

    assert play(found, a_market, (CLOSE - a_market.now_ns) / NS_PER_S) == []

    assert (found.live_orders(), found.is_busy) == ([], False)
    assert [order.ticket.order_id for order in found.done_today()] == [1]
