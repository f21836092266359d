from __future__ import annotations

from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import Trade
from momentum_lab.gateway.orders import (
    CANCELLED,
    FILLED,
    HELD,
    INACTIVE,
    WORKING,
    AccountChanged,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    OrderError,
    OrderShown,
    PositionChanged,
    StatusShown,
    Ticket,
    WhatIfShown,
)
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    NOON,
    OPEN,
    exchange,
    market,
    second,
    second_tape,
    ticket,
)

RISING = [100.0 + n / 100 for n in range(60)]


def play(found: Exchange, a_market: Market, n_seconds: float) -> list[ExchangeEvent]:
    """Let the market run and the exchange react, as the gateway does."""
    events: list[ExchangeEvent] = []
    for event in a_market.advance(a_market.now_ns + round(n_seconds * NS_PER_S)):
        if isinstance(event, Trade):
            events += found.on_trade(event)
    return events + found.on_time()


def kinds(events: list[ExchangeEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def statuses(events: list[ExchangeEvent]) -> list[tuple[int, str]]:
    shown = [event.order for event in events if isinstance(event, StatusShown)]
    return [(order.ticket.order_id, order.status) for order in shown]


def errors(events: list[ExchangeEvent]) -> list[int]:
    return [event.code for event in events if isinstance(event, OrderError)]


def fills(events: list[ExchangeEvent]) -> list[float]:
    return [event.execution.price_usd for event in events if isinstance(event, Executed)]


def stop(price: float, side: Side = Side.SELL, **values: Any) -> Ticket:
    return ticket(side, order_type="STP", stop_usd=price, **values)


def limit(price: float, side: Side = Side.BUY, **values: Any) -> Ticket:
    return ticket(side, order_type="LMT", limit_usd=price, **values)


def test_a_market_order_is_told_in_the_brokers_order() -> None:
    events = exchange(market()).place(ticket())

    assert kinds(events) == [
        "OrderShown",
        "StatusShown",
        "Executed",
        "OrderShown",
        "StatusShown",
        "CommissionCharged",
        "PositionChanged",
        "AccountChanged",
    ]
    assert statuses(events) == [(1, WORKING), (1, FILLED)]


def test_a_market_order_pays_the_far_side_and_slippage_once() -> None:
    found = exchange(market())
    # The tape trades at 100.00: the quote is 99.99 to 100.00, slippage is one cent.
    assert fills(found.place(ticket(Side.BUY, order_id=1))) == [100.01]
    assert fills(found.place(ticket(Side.SELL, order_id=2))) == [99.98]


def test_the_commission_has_its_minimum() -> None:
    events = exchange(market()).place(ticket(quantity=10))
    charged = [e.execution.commission_usd for e in events if isinstance(e, CommissionCharged)]
    assert charged == [1.0]


def test_permanent_and_execution_ids_never_repeat() -> None:
    found = exchange(market())
    for order_id in range(1, 6):
        found.place(ticket(order_id=order_id))
    assert len({order.perm_id for order in found.books.orders.values()}) == 5
    assert len({fill.exec_id for fill in found.books.executions}) == 5


def test_the_reference_comes_back_on_order_and_fill() -> None:
    found = exchange(market())
    events = found.place(ticket(order_ref="entry-7"))
    shown = [event.order.ticket.order_ref for event in events if isinstance(event, OrderShown)]
    assert shown == ["entry-7", "entry-7"]
    assert found.books.executions[0].order_ref == "entry-7"


def test_outside_the_session_a_market_order_is_held_until_the_first_trade() -> None:
    rows = [second(CLOSE - DAY_NS - NS_PER_S, 90.0), second(OPEN, 100.0)]
    a_market = Market(second_tape(rows, start_ns=OPEN - 60 * NS_PER_S))
    found = exchange(a_market)

    events = found.place(ticket())
    assert (statuses(events), errors(events)) == ([(1, HELD)], [399])
    events = play(found, a_market, 61)
    assert statuses(events) == [(1, WORKING), (1, FILLED)]
    assert fills(events) == [100.01]


def test_in_the_session_but_before_a_quote_a_market_order_waits_without_a_warning() -> None:
    a_market = Market(second_tape([second(OPEN + 5 * NS_PER_S, 100.0)], start_ns=OPEN))
    found = exchange(a_market)

    events = found.place(ticket())
    assert (statuses(events), errors(events)) == ([(1, HELD)], [])
    assert fills(play(found, a_market, 6)) == [100.01]


def test_a_day_order_ends_with_its_session() -> None:
    a_market = Market(second_tape([second(NOON, 100.0)]))
    found = exchange(a_market)
    play(found, a_market, 1)
    found.place(limit(90.0))

    events = play(found, a_market, (CLOSE - NOON) / NS_PER_S)
    assert (statuses(events), errors(events)) == ([(1, CANCELLED)], [202])


def test_an_order_until_cancelled_outlives_the_session() -> None:
    a_market = Market(second_tape([second(NOON, 100.0)]))
    found = exchange(a_market)
    play(found, a_market, 1)
    found.place(limit(90.0, tif="GTC"))

    assert play(found, a_market, DAY_NS / NS_PER_S) == []
    assert len(found.live_orders()) == 1


def test_what_was_finished_yesterday_is_forgotten_but_for_the_parents_of_live_orders() -> None:
    rows = [second(NOON, 100.0), second(NOON + DAY_NS, 100.0)]
    a_market = Market(second_tape(rows, end_ns=CLOSE + DAY_NS))
    found = exchange(a_market)
    play(found, a_market, 1)
    found.place(ticket(order_id=1))
    found.place(ticket(order_id=2))
    found.place(limit(110.0, order_id=3, side=Side.SELL, parent_id=2, tif="GTC"))
    found.place(limit(90.0, order_id=4))
    found.cancel(1, 4)

    play(found, a_market, DAY_NS / NS_PER_S)
    found.on_day()

    assert sorted(found.books.orders) == [(1, 2), (1, 3)]
    assert errors(found.place(limit(111.0, order_id=3, side=Side.SELL, parent_id=2))) == []
    assert errors(found.place(ticket(order_id=1))) == [103]
    assert len(found.books.executions) == 2


def test_a_resting_limit_fills_at_its_price_once_the_quote_reaches_it() -> None:
    a_market = market([100.0, 100.0, 99.5, 99.5])
    found = exchange(a_market)
    assert statuses(found.place(limit(99.6))) == [(1, WORKING)]

    events = play(found, a_market, 2)
    assert fills(events) == [99.6]
    assert found.books.executions[0].liquidity == 1


def test_a_marketable_limit_never_pays_more_than_its_limit() -> None:
    found = exchange(market())
    assert fills(found.place(limit(100.0))) == [100.0]
    assert fills(found.place(limit(101.0, order_id=2))) == [100.01]
    assert fills(found.place(limit(99.99, Side.SELL, order_id=3))) == [99.99]


def test_an_immediate_order_that_cannot_fill_is_cancelled() -> None:
    found = exchange(market())
    assert statuses(found.place(limit(90.0, tif="IOC"))) == [(1, WORKING), (1, CANCELLED)]


def test_a_stop_triggers_on_a_price_inside_the_bar() -> None:
    rows = [second(NOON, 100.0), second(NOON + NS_PER_S, 100.0, low=98.9)]
    a_market = Market(second_tape(rows))
    found = exchange(a_market)
    play(found, a_market, 1)
    assert statuses(found.place(stop(99.0))) == [(1, HELD)]

    events = play(found, a_market, 1)
    assert statuses(events) == [(1, WORKING), (1, FILLED)]
    # The bar closes at 100 again, and that is where the quote is.
    assert fills(events) == [99.98]


def test_a_stop_does_not_trigger_on_a_range_from_before_it_came() -> None:
    a_market = Market(second_tape([second(NOON, 100.0, low=98.0), second(NOON + NS_PER_S, 100.0)]))
    found = exchange(a_market)
    play(found, a_market, 1)
    found.place(stop(99.0))
    assert fills(play(found, a_market, 1)) == []


def test_a_stop_beyond_the_price_triggers_at_once() -> None:
    assert fills(exchange(market()).place(stop(100.5))) == [99.98]


def test_a_cancelled_order_is_told_and_cannot_be_cancelled_again() -> None:
    found = exchange(market())
    found.place(limit(90.0))

    events = found.cancel(1, 1)
    assert (statuses(events), errors(events)) == ([(1, CANCELLED)], [202])
    assert errors(found.cancel(1, 1)) == [10148]
    assert errors(found.cancel(1, 99)) == [10147]
    assert errors(found.cancel(2, 1)) == [10147]


def test_a_global_cancel_ends_the_orders_of_all_clients() -> None:
    found = exchange(market())
    found.place(limit(90.0))
    found.place(limit(90.0, client_id=2))
    assert len(statuses(found.cancel_all())) == 2
    assert not found.is_busy


def test_a_modification_keeps_the_permanent_id_and_is_answered() -> None:
    found = exchange(market())
    found.place(limit(90.0))
    perm_id = found.live_orders()[0].perm_id

    assert kinds(found.place(limit(91.0))) == ["OrderShown", "StatusShown"]
    assert found.live_orders()[0].perm_id == perm_id
    assert found.live_orders()[0].ticket.limit_usd == 91.0


def test_a_modification_can_fill() -> None:
    found = exchange(market())
    found.place(limit(90.0))
    assert fills(found.place(limit(100.0))) == [100.0]


def test_a_filled_order_cannot_be_modified() -> None:
    found = exchange(market())
    found.place(ticket())
    assert errors(found.place(ticket())) == [104]


def test_an_order_id_below_the_next_one_is_refused() -> None:
    found = exchange(market())
    found.place(ticket(order_id=10))
    assert errors(found.place(ticket(order_id=9))) == [103]
    assert found.books.next_order_id(1) == 11
    assert found.books.next_order_id(2) == 1


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (ticket(order_type="PEG MID"), 387),
        (ticket(quantity=0.5), 10243),
        (ticket(quantity=0), 434),
        (ticket(account="U7654321"), 321),
        (limit(99.995), 110),
    ],
)
def test_what_no_market_takes_is_refused_without_using_up_the_id(wrong: Ticket, code: int) -> None:
    found = exchange(market())
    events = found.place(wrong)
    assert (kinds(events), errors(events)) == (["OrderError"], [code])
    assert found.books.next_order_id(1) == 1


@pytest.mark.parametrize("wrong", [ticket(quantity=-1), ticket(tif="OPG"), limit(0.0), stop(-1.0)])
def test_a_rejection_tells_the_status_before_the_error(wrong: Ticket) -> None:
    events = exchange(market()).place(wrong)
    assert kinds(events) == ["StatusShown", "OrderError"]
    assert (statuses(events), errors(events)) == ([(1, INACTIVE)], [201])


def test_an_order_beyond_the_buying_power_is_rejected() -> None:
    found = exchange(market(), cash_usd=10_000)
    assert errors(found.place(ticket(quantity=401))) == [201]
    assert errors(found.place(ticket(quantity=390, order_id=2))) == []


def test_working_orders_bind_buying_power() -> None:
    found = exchange(market(), cash_usd=10_000)
    found.place(limit(99.0, quantity=300))
    assert errors(found.place(ticket(quantity=300, order_id=2))) == [201]


def test_a_closing_order_needs_no_margin() -> None:
    found = exchange(market(), cash_usd=10_000)
    found.place(ticket(quantity=390))
    assert fills(found.place(ticket(Side.SELL, 390, order_id=2))) == [99.98]


def test_an_untransmitted_order_is_silent_until_its_family_is_sent() -> None:
    a_market = market(RISING)
    found = exchange(a_market)
    assert found.place(limit(99.0, transmit=False)) == []
    assert found.place(limit(101.0, Side.SELL, order_id=2, parent_id=1, transmit=False)) == []

    events = found.place(stop(98.0, order_id=3, parent_id=1))
    assert statuses(events) == [(1, WORKING), (2, HELD), (3, HELD)]
    assert [order.why_held for order in found.live_orders()] == ["", "child", "child"]


def test_the_children_wake_with_the_parents_fill_and_one_ends_the_other() -> None:
    a_market = market(RISING)
    found = exchange(a_market)
    found.place(ticket(transmit=False))
    found.place(limit(100.2, Side.SELL, order_id=2, parent_id=1, transmit=False))

    events = found.place(stop(99.0, order_id=3, parent_id=1))
    assert statuses(events) == [(1, WORKING), (1, FILLED), (2, WORKING), (3, HELD)]
    events = play(found, a_market, 30)
    assert statuses(events) == [(2, FILLED), (3, CANCELLED)]
    assert found.account.ledger.position("SPY").quantity == 0


def test_a_cancelled_parent_takes_its_children_with_it() -> None:
    found = exchange(market())
    found.place(limit(90.0, transmit=False))
    found.place(stop(89.0, order_id=2, parent_id=1))
    assert statuses(found.cancel(1, 1)) == [(1, CANCELLED), (2, CANCELLED)]


def test_one_fill_of_a_group_cancels_the_others() -> None:
    a_market = market(RISING)
    found = exchange(a_market)
    found.place(ticket())
    found.place(limit(100.2, Side.SELL, order_id=2, oca_group="exit"))
    found.place(stop(99.0, order_id=3, oca_group="exit"))
    assert statuses(play(found, a_market, 30)) == [(2, FILLED), (3, CANCELLED)]


def test_a_question_about_margin_changes_nothing() -> None:
    found = exchange(market())
    (answer,) = found.place(ticket(quantity=200, what_if=True))
    assert isinstance(answer, WhatIfShown)
    assert answer.margin_after_usd == 5_000
    assert (found.books.next_order_id(1), found.is_busy) == (1, False)


def test_a_closed_position_is_told_with_quantity_zero() -> None:
    found = exchange(market())
    found.place(ticket())
    events = found.place(ticket(Side.SELL, order_id=2))
    told = [event.position for event in events if isinstance(event, PositionChanged)]
    assert [position.quantity for position in told] == [0]
    assert [position.quantity for position in found.account.positions_today()] == [0]
    assert any(isinstance(event, AccountChanged) for event in events)


def test_the_exchange_is_busy_while_something_is_open() -> None:
    found = exchange(market())
    seen = [found.is_busy]
    found.place(ticket())
    seen.append(found.is_busy)
    found.place(ticket(Side.SELL, order_id=2))
    seen.append(found.is_busy)
    found.place(limit(90.0, order_id=3))
    assert [*seen, found.is_busy] == [False, True, False, True]


@pytest.mark.parametrize("oca_type", [1, 2, 3])
def test_a_fill_of_a_group_ends_its_orders_that_are_still_on_their_way(oca_type: int) -> None:
    a_market = market([100.0] * 30)
    found = exchange(a_market, rules=Rules(latency_s=2.5))
    group: dict[str, Any] = {"oca_group": "g", "oca_type": oca_type}
    found.place(ticket(order_id=1, **group))
    play(found, a_market, 1)
    found.place(ticket(order_id=2, **group))

    events = [event for _ in range(5) for event in play(found, a_market, 1)]

    assert [event.execution.order_id for event in events if isinstance(event, Executed)] == [1]
    assert statuses(events)[-1] == (2, CANCELLED)
    assert found.account.ledger.position("SPY").quantity == 100


@pytest.mark.parametrize("oca_type", [1, 2, 3])
@pytest.mark.parametrize("latency_s", [0.0, 2.0])
def test_who_joins_a_group_that_has_filled_is_cancelled_at_once(
    oca_type: int, latency_s: float
) -> None:
    a_market = market([100.0] * 30)
    found = exchange(a_market, rules=Rules(latency_s=latency_s))
    group: dict[str, Any] = {"oca_group": "g", "oca_type": oca_type}
    found.place(ticket(order_id=1, **group))
    play(found, a_market, 4)

    events = found.place(ticket(Side.SELL, order_id=2, **group))

    assert (statuses(events), errors(events)) == ([(2, CANCELLED)], [202])
    assert play(found, a_market, 4) == []
    assert found.account.ledger.position("SPY").quantity == 100


def test_who_was_held_back_while_its_group_filled_is_cancelled_when_it_leaves() -> None:
    a_market = market([100.0] * 30)
    found = exchange(a_market)
    found.place(ticket(Side.SELL, order_id=1, oca_group="g", transmit=False))
    found.place(ticket(order_id=2, oca_group="g"))

    events = found.place(ticket(Side.SELL, order_id=1, oca_group="g"))

    assert statuses(events) == [(1, CANCELLED)]
    assert found.account.ledger.position("SPY").quantity == 100


@pytest.mark.parametrize(("oca_type", "is_over"), [(1, True), (2, False), (3, False)])
def test_a_part_ends_a_group_only_where_it_cancels(*, oca_type: int, is_over: bool) -> None:
    found = exchange(market([100.0] * 30))
    found.floor.fills_only_half = True
    group: dict[str, Any] = {"oca_group": "g", "oca_type": oca_type}
    found.place(ticket(order_id=1, **group))

    found.place(limit(90.0, order_id=2, **group))

    assert found.books.orders[1, 2].is_done is is_over


def test_an_order_whose_time_has_passed_is_rejected() -> None:
    a_market = market()
    found = exchange(a_market)

    events = found.place(ticket(tif="GTD", good_till_ns=a_market.now_ns))

    assert (statuses(events), errors(events)) == ([(1, INACTIVE)], [201])
    assert fills(events) == []


@pytest.mark.parametrize("oca_type", [1, 2, 3])
def test_of_a_group_that_arrives_at_one_moment_one_order_fills(oca_type: int) -> None:
    a_market = market([100.0] * 30)
    found = exchange(a_market, rules=Rules(latency_s=2.0))
    for order_id in (1, 2, 3):
        found.place(ticket(order_id=order_id, oca_group="g", oca_type=oca_type))

    play(found, a_market, 5)

    assert [fill.order_id for fill in found.books.executions] == [1]
    assert found.live_orders() == []


@pytest.mark.parametrize("oca_type", [1, 2, 3])
def test_of_a_group_for_the_close_one_order_fills(oca_type: int) -> None:
    a_market = Market(second_tape([second(NOON, 100.0)]))
    found = exchange(a_market)
    play(found, a_market, 1)
    for order_id in (1, 2):
        terms: dict[str, Any] = {"oca_group": "g", "oca_type": oca_type}
        found.place(ticket(order_id=order_id, order_type="MOC", **terms))

    play(found, a_market, (CLOSE - NOON) / NS_PER_S)

    assert [fill.order_id for fill in found.books.executions] == [1]
    assert found.live_orders() == []
