"""Every order type, group and refusal of the paper exchange, one behaviour each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, QuoteChange, Trade
from momentum_lab.gateway.orders import (
    CANCELLED,
    FILLED,
    HELD,
    WORKING,
    ExchangeEvent,
    Executed,
    OrderError,
    OrderShown,
    StatusShown,
    WhatIfShown,
)
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, TRADING
from tests.gateway_factories import (
    CLOSE,
    NOON,
    OPEN,
    exchange,
    second,
    second_tape,
    seconds,
    ticket,
)


def play(found: Exchange, a_market: Market, n_seconds: float) -> list[ExchangeEvent]:
    events: list[ExchangeEvent] = []
    for event in a_market.advance(a_market.now_ns + round(n_seconds * NS_PER_S)):
        if isinstance(event, Trade):
            events += found.on_trade(event)
    return events + found.on_time()


def fills(events: list[ExchangeEvent]) -> list[tuple[int, float]]:
    executions = [event.execution for event in events if isinstance(event, Executed)]
    return [(fill.shares, fill.price_usd) for fill in executions]


def statuses(events: list[ExchangeEvent]) -> list[tuple[int, str]]:
    shown = [event.order for event in events if isinstance(event, StatusShown)]
    return [(order.ticket.order_id, order.status) for order in shown]


def errors(events: list[ExchangeEvent]) -> list[int]:
    return [event.code for event in events if isinstance(event, OrderError)]


def path(*prices: float, volume: int = 4_000) -> Market:
    """A market of these prices, a second each, of which the first has been played."""
    found = Market(second_tape(seconds(prices, volume=volume)))
    list(found.advance(NOON + NS_PER_S))
    return found


def order(kind: str, side: Side = Side.BUY, quantity: int = 100, **terms: Any) -> Any:
    return ticket(side, quantity, order_type=kind, **terms)


# ------------------------------------------------------------- in parts


def test_a_market_order_takes_what_the_quote_shows_and_then_a_part_of_the_volume() -> None:
    a_market = path(*[100.0] * 5, volume=400)
    found = exchange(a_market)

    # The quote shows 500; of each later 400 shares a quarter is ours.
    assert fills(found.place(ticket(quantity=750))) == [(500, 100.01)]
    assert found.live_orders()[0].status == WORKING
    assert fills(play(found, a_market, 2)) == [(100, 100.01), (100, 100.01)]
    events = play(found, a_market, 1)
    assert (fills(events), statuses(events)) == ([(50, 100.01)], [(1, FILLED)])


def test_the_least_commission_is_charged_once_per_order() -> None:
    a_market = path(*[100.0] * 5, volume=400)
    found = exchange(a_market)
    found.place(ticket(quantity=150))
    found.place(order("LMT", quantity=180, limit_usd=100.0, order_id=2))
    charged = [fill.commission_usd for fill in found.books.executions if fill.order_id == 1]
    assert charged == [1.0]
    play(found, a_market, 3)
    assert found.books.orders[1, 2].commission_usd == 1.0


def test_orders_of_one_moment_share_what_the_quote_shows() -> None:
    found = exchange(path(100.0, 100.0))
    assert fills(found.place(ticket(quantity=400))) == [(400, 100.01)]
    assert fills(found.place(ticket(quantity=400, order_id=2))) == [(100, 100.01)]
    # The other side of the quote is untouched.
    assert fills(found.place(ticket(Side.SELL, 400, order_id=3))) == [(400, 99.98)]


def test_a_new_quote_shows_its_size_again() -> None:
    a_market = path(100.0, 100.0)
    found = exchange(a_market)
    found.place(ticket(quantity=700))
    quote = QuoteChange("SPY", a_market.now_ns, 99.99, 100.0, 300, 300)
    assert fills(found.on_quote(quote)) == [(200, 100.01)]


def test_an_immediate_order_keeps_its_part_and_loses_the_rest() -> None:
    found = exchange(path(100.0))
    events = found.place(order("MKT", quantity=800, tif="IOC"))
    assert (fills(events), statuses(events)[-1]) == ([(500, 100.01)], (1, CANCELLED))


@pytest.mark.parametrize("terms", [{"tif": "FOK"}, {"all_or_none": True}])
def test_what_must_be_whole_takes_no_part(terms: dict[str, Any]) -> None:
    assert fills(exchange(path(100.0)).place(order("MKT", quantity=800, **terms))) == []
    assert fills(exchange(path(100.0)).place(order("MKT", quantity=400, **terms))) == [
        (400, 100.01)
    ]


# ---------------------------------------------------------------- stops


def test_a_stop_limit_rests_at_its_limit_once_triggered() -> None:
    a_market = path(100.0, 99.0, 98.0, 98.6)
    found = exchange(a_market)
    found.place(order("STP LMT", Side.SELL, stop_usd=98.5, limit_usd=98.4))
    assert statuses(play(found, a_market, 1)) == []
    # Through both at once: nothing below the limit.
    assert (statuses(play(found, a_market, 1))) == [(1, WORKING)]
    assert fills(play(found, a_market, 1)) == [(100, 98.4)]


def test_a_trailing_stop_follows_the_price_and_never_goes_back() -> None:
    a_market = path(100.0, 101.0, 102.0, 101.5, 101.0, 100.9)
    found = exchange(a_market)
    found.place(order("TRAIL", Side.SELL, stop_usd=1.0))
    stops = []
    for _ in range(4):
        play(found, a_market, 1)
        stops.append(found.books.orders[1, 1].stop_usd)
    assert stops == [100.0, 101.0, 101.0, 101.0]
    assert found.books.orders[1, 1].status == FILLED


def test_a_trailing_percent_is_of_the_price_and_buys_above_it() -> None:
    a_market = path(100.0, 90.0, 92.0)
    found = exchange(a_market)
    found.place(order("TRAIL", stop_usd=None, trail_percent=2.0))
    assert found.books.orders[1, 1].stop_usd == 102.0
    play(found, a_market, 1)
    assert found.books.orders[1, 1].stop_usd == 91.8
    assert fills(play(found, a_market, 1)) == [(100, 92.01)]


def test_a_trailing_limit_lies_beyond_its_stop() -> None:
    a_market = path(100.0, 99.0, 98.0)
    found = exchange(a_market)
    terms: dict[str, Any] = {"stop_usd": 0.5, "trail_stop_usd": 99.2, "limit_offset_usd": 0.1}
    found.place(order("TRAIL LIMIT", Side.SELL, **terms))
    events = play(found, a_market, 1)
    assert (statuses(events), fills(events)) == ([(1, WORKING)], [])
    # The stop followed the price to 99.50 when the order came.
    assert found.books.orders[1, 1].limit_usd == 99.4


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({}, 159),
        ({"stop_usd": 1.0, "trail_percent": 1.0}, 158),
    ],
)
def test_a_trailing_order_needs_exactly_one_distance(terms: dict[str, Any], code: int) -> None:
    assert errors(exchange(path(100.0)).place(order("TRAIL", **terms))) == [code]


def test_an_order_if_touched_waits_on_the_other_side_of_a_stop() -> None:
    a_market = path(100.0, 99.0)
    found = exchange(a_market)
    assert fills(found.place(order("MIT", stop_usd=99.0))) == []
    assert fills(play(found, a_market, 1)) == [(100, 99.01)]


def test_a_quote_alone_triggers_no_stop() -> None:
    a_market = path(100.0)
    found = exchange(a_market)
    found.place(order("STP", Side.SELL, stop_usd=99.5))
    assert found.on_quote(QuoteChange("SPY", a_market.now_ns, 98.0, 98.1, 500, 500)) == []


# ------------------------------------------------------ close, time, halts


def test_orders_for_the_close_fill_at_its_price() -> None:
    a_market = Market(
        second_tape([second(NOON, 100.0), second(CLOSE - NS_PER_S, 101.0)], end_ns=CLOSE + 1)
    )
    found = exchange(a_market)
    play(found, a_market, 1)
    assert statuses(found.place(order("MOC", quantity=5_000))) == [(1, HELD)]
    found.place(order("LOC", order_id=2, limit_usd=100.5))
    events = play(found, a_market, (CLOSE - NOON) / NS_PER_S)
    assert fills(events) == [(5_000, 101.0)]
    assert found.books.orders[1, 2].status == CANCELLED


def test_an_order_for_the_close_may_come_too_late() -> None:
    rows = [second(CLOSE - 300 * NS_PER_S, 100.0)]
    a_market = Market(second_tape(rows, start_ns=CLOSE - 300 * NS_PER_S))
    found = exchange(a_market)
    play(found, a_market, 2)
    assert errors(found.place(order("MOC"))) == [201]


def test_an_order_waits_for_its_time_and_ends_at_its_date() -> None:
    a_market = path(*[100.0] * 10)
    found = exchange(a_market)
    after_ns = NOON + 4 * NS_PER_S
    assert statuses(found.place(order("MKT", good_after_ns=after_ns))) == [(1, HELD)]
    found.place(
        order("LMT", limit_usd=90.0, tif="GTD", good_till_ns=NOON + 6 * NS_PER_S, order_id=2)
    )
    assert fills(play(found, a_market, 2)) == []
    assert fills(play(found, a_market, 2)) == [(100, 100.01)]
    assert statuses(play(found, a_market, 2)) == [(2, CANCELLED)]


def halt(found: Exchange, a_market: Market, kind: int) -> list[ExchangeEvent]:
    """Change the halt of SPY, and let the exchange hear what the market tells of it."""
    events: list[ExchangeEvent] = []
    for event in a_market.change_halt("SPY", kind):
        if isinstance(event, HaltChange):
            events += found.on_halt(event)
        elif isinstance(event, QuoteChange):
            events += found.on_quote(event)
    return events


def test_what_is_left_of_a_marketable_limit_pays_the_market_too() -> None:
    a_market = path(*[100.0] * 8, volume=400)
    found = exchange(a_market)
    events = found.place(order("LMT", quantity=600, limit_usd=105.0))
    events += play(found, a_market, 3)
    assert {price for _, price in fills(events)} == {100.01}
    # One that the quote did not reach rests, and fills at its own price.
    found.place(order("LMT", Side.SELL, 50, limit_usd=100.5, order_id=2))
    play(found, a_market, 1)
    found.place(order("LMT", Side.SELL, 50, limit_usd=95.0, order_id=2))
    assert found.books.executions[-1].price_usd == pytest.approx(99.98)


def test_a_bar_of_before_the_open_triggers_nothing_after_it() -> None:
    early = second(OPEN - NS_PER_S, 100.0, low=97.0)
    a_market = Market(second_tape([early, second(OPEN, 100.0)], start_ns=OPEN - 2 * NS_PER_S))
    found = exchange(a_market)
    play(found, a_market, 0.5)
    found.place(order("STP", Side.SELL, stop_usd=98.0, tif="GTC"))
    found.place(order("STP", Side.SELL, stop_usd=98.0, tif="GTC", outside_rth=True, order_id=2))
    play(found, a_market, 1.5)
    # Nor does one that comes after the bell look at a price of before it.
    found.place(order("STP", Side.SELL, stop_usd=101.0, tif="GTC", order_id=3))
    assert [o.ticket.order_id for o in found.live_orders()] == [1, 3]
    play(found, a_market, 1)
    assert [o.ticket.order_id for o in found.live_orders()] == [1]


def test_nothing_trades_in_a_halt() -> None:
    a_market = path(100.0, 100.0, 80.0, 80.0)
    found = exchange(a_market)
    halt(found, a_market, HALTED_BY_VOLATILITY)
    events = found.place(ticket())
    assert (statuses(events), fills(events)) == ([(1, HELD)], [])
    assert fills(play(found, a_market, 1)) == []
    # What was quoted before the halt is no price after it.
    assert fills(halt(found, a_market, TRADING)) == []
    assert fills(play(found, a_market, 1)) == [(100, 80.01)]


def test_with_latency_the_market_goes_on_before_the_order_arrives() -> None:
    a_market = path(100.0, 101.0, 102.0)
    found = exchange(a_market, rules=Rules(latency_s=1.0))
    events = found.place(ticket())
    assert (statuses(events), fills(events)) == ([(1, "PendingSubmit")], [])
    # Who asks meanwhile hears of it.
    assert [order.status for order in found.live_orders()] == ["PendingSubmit"]
    assert fills(play(found, a_market, 1)) == [(100, 101.01)]


def test_with_latency_an_order_can_fill_before_its_cancellation() -> None:
    a_market = path(100.0, 99.0, 99.0)
    found = exchange(a_market, rules=Rules(latency_s=1.5))
    found.place(order("LMT", limit_usd=99.0))
    play(found, a_market, 1.5)
    assert found.live_orders() == []
    found.place(order("LMT", limit_usd=90.0, order_id=2))
    play(found, a_market, 1.5)
    events = found.cancel(1, 2)
    assert statuses(events) == [(2, "PendingCancel")]
    assert errors(found.cancel(1, 2)) == [161]
    assert statuses(play(found, a_market, 1.5)) == [(2, CANCELLED)]


# --------------------------------------------------------------- families


def test_children_wake_for_what_their_parent_has_filled() -> None:
    a_market = path(*[100.0] * 6, volume=800)
    found = exchange(a_market)
    found.place(ticket(quantity=800, transmit=False))
    found.place(
        order("LMT", Side.SELL, 800, order_id=2, parent_id=1, limit_usd=110.0, transmit=False)
    )
    found.place(order("STP", Side.SELL, 800, order_id=3, parent_id=1, stop_usd=90.0))

    sizes = [[o.quantity for o in found.live_orders()]]
    for _ in range(2):
        play(found, a_market, 1)
        sizes.append([o.quantity for o in found.live_orders()])
    assert sizes == [[800, 500, 500], [800, 700, 700], [800, 800]]


@pytest.mark.parametrize("resent", ["as told", "whole"])
def test_a_child_that_is_moved_while_its_parent_fills_keeps_its_size(resent: str) -> None:
    a_market = path(*[100.0] * 6, volume=800)
    found = exchange(a_market)
    found.place(ticket(quantity=800, transmit=False))
    found.place(order("STP", Side.SELL, 800, order_id=2, parent_id=1, stop_usd=90.0))
    told = found.books.orders[1, 2].quantity if resent == "as told" else 800
    events = found.place(order("STP", Side.SELL, told, order_id=2, parent_id=1, stop_usd=91.0))
    assert errors(events) == []
    sizes = [found.books.orders[1, 2].quantity]
    for _ in range(2):
        play(found, a_market, 1)
        sizes.append(found.books.orders[1, 2].quantity)
    assert sizes == [500, 700, 800]
    assert found.books.orders[1, 2].ticket.stop_usd == 91.0


def test_children_are_shown_as_a_group_of_their_parent() -> None:
    found = exchange(path(100.0))
    found.place(order("LMT", limit_usd=90.0, transmit=False))
    found.place(order("STP", Side.SELL, order_id=2, parent_id=1, stop_usd=80.0))
    parent, child = found.live_orders()
    assert (child.oca_group, child.oca_type) == (str(parent.perm_id), 3)


def test_a_part_of_the_parent_keeps_its_children_when_the_rest_is_cancelled() -> None:
    found = exchange(path(100.0))
    found.place(ticket(quantity=800, transmit=False))
    found.place(order("STP", Side.SELL, 800, order_id=2, parent_id=1, stop_usd=90.0))
    assert statuses(found.cancel(1, 1)) == [(1, CANCELLED)]
    assert [(o.ticket.order_id, o.remaining) for o in found.live_orders()] == [(2, 500)]


@pytest.mark.parametrize(("oca_type", "left"), [(1, None), (2, 60), (3, 60), (0, 60)])
def test_a_part_cancels_or_reduces_the_rest_of_a_group(oca_type: int, left: int | None) -> None:
    a_market = path(100.0, 101.0, volume=160)
    found = exchange(a_market)
    terms: dict[str, Any] = {"oca_group": "exit", "oca_type": oca_type}
    found.place(order("LMT", Side.SELL, 100, limit_usd=100.9, **terms))
    found.place(order("STP", Side.SELL, 100, stop_usd=90.0, order_id=2, **terms))
    assert fills(play(found, a_market, 1)) == [(40, 100.9)]
    rival = found.books.orders[1, 2]
    assert rival.is_done if left is None else rival.remaining == left


def test_an_order_joins_a_group_by_a_modification() -> None:
    a_market = path(100.0, 101.0)
    found = exchange(a_market)
    for order_id in (1, 2):
        found.place(order("LMT", Side.SELL, limit_usd=110.0, order_id=order_id))
        terms: dict[str, Any] = {"oca_group": "exit", "oca_type": 1, "order_id": order_id}
        found.place(order("LMT", Side.SELL, limit_usd=100.5, **terms))
    play(found, a_market, 1)
    assert [o.status for o in found.books.orders.values()] == [FILLED, CANCELLED]


def test_a_child_needs_its_parent() -> None:
    found = exchange(path(100.0))
    assert errors(found.place(order("STP", Side.SELL, parent_id=7, order_id=8, stop_usd=9.0))) == [
        10006
    ]


def test_new_terms_that_name_an_unknown_parent_are_refused_and_the_old_ones_work() -> None:
    found = exchange(path(100.0))
    found.place(order("STP", Side.SELL, order_id=8, stop_usd=9.0))
    changed = found.place(order("STP", Side.SELL, parent_id=7, order_id=8, stop_usd=8.0))
    assert errors(changed) == [135]
    assert found.books.orders[1, 8].ticket.stop_usd == 9.0


@pytest.mark.parametrize("client_id", [1, 2])
def test_a_forgotten_parent_is_one_that_has_ended(client_id: int) -> None:
    found = exchange(path(100.0))
    found.books.forgetful_ids = frozenset({1})
    for order_id, limit_usd in ((7, 50.0), (17, 200.0)):
        terms: dict[str, Any] = {"client_id": client_id, "parent_id": order_id}
        entry = order("LMT", limit_usd=limit_usd, order_id=order_id, client_id=client_id)
        found.place(entry)
        for stop_usd, is_known in ((9.0, True), (8.0, order_id == 7 or client_id == 2)):
            stop = order("STP", Side.SELL, order_id=order_id + 1, stop_usd=stop_usd, **terms)
            assert errors(found.place(stop)) == ([] if is_known else [135])


# -------------------------------------------------------------- the rules


def test_a_cash_account_sells_only_what_it_has_and_buys_for_its_cash() -> None:
    found = exchange(path(100.0), cash_usd=20_000, rules=Rules(is_cash_account=True))
    assert errors(found.place(ticket(Side.SELL))) == [426]
    assert errors(found.place(ticket(quantity=201, order_id=2))) == [201]
    assert fills(found.place(ticket(quantity=150, order_id=3))) == [(150, 100.01)]
    assert fills(found.place(ticket(Side.SELL, 150, order_id=4))) == [(150, 99.98)]


def test_what_cannot_be_borrowed_is_held() -> None:
    a_market = path(100.0, 100.0)
    found = exchange(a_market, rules=Rules(hard_to_borrow=frozenset({"SPY"})))
    events = found.place(ticket(Side.SELL))
    assert (statuses(events), errors(events)) == ([(1, HELD)], [404])
    assert found.live_orders()[0].why_held == "locate"
    assert play(found, a_market, 1) == []


@pytest.mark.parametrize(
    ("rules", "code"),
    [(Rules(is_read_only=True), 321), (Rules(max_shares=50), 383)],
)
def test_a_setting_of_the_gateway_refuses(rules: Rules, code: int) -> None:
    assert errors(exchange(path(100.0), rules=rules).place(ticket())) == [code]


def test_an_order_through_zero_and_other_oddities_earn_a_note() -> None:
    found = exchange(path(100.0), rules=Rules(tells_preset_tif=True))
    assert errors(found.place(ticket(tif=""))) == [10349]
    assert errors(found.place(ticket(Side.SELL, 150, order_id=2))) == [2137]
    assert errors(found.place(ticket(quantity=50, order_id=3, outside_rth=True))) == [2109]


def test_an_order_is_asked_about_and_stays_as_it_is() -> None:
    found = exchange(path(100.0))
    found.place(order("LMT", limit_usd=90.0))
    before = found.live_orders()
    events = found.place(order("LMT", limit_usd=101.0, what_if=True))
    assert [type(event) for event in events] == [WhatIfShown]
    assert found.live_orders() == before


def test_what_has_filled_of_an_order_needs_no_margin_again() -> None:
    found = exchange(path(100.0), cash_usd=20_000.0)
    found.place(order("LMT", quantity=600, limit_usd=100.02))
    assert found.books.orders[1, 1].filled == 500
    assert errors(found.place(order("LMT", quantity=600, limit_usd=100.0))) == []
    assert errors(found.place(ticket(quantity=10, order_id=2))) == []
    assert errors(found.place(ticket(quantity=500, order_id=3))) == [201]


def test_a_modification_cannot_go_below_what_has_filled() -> None:
    found = exchange(path(100.0))
    found.place(ticket(quantity=800))
    assert errors(found.place(ticket(quantity=400))) == [201]
    assert found.live_orders()[0].remaining == 300


def test_a_correction_replaces_the_execution_and_its_money() -> None:
    a_market = path(100.0)
    found = exchange(a_market)
    found.place(ticket())
    cash_usd = found.account.ledger.cash_usd
    (wrong,) = found.books.executions

    events = found.correct(wrong.exec_id, price_usd=99.0)
    (right,) = found.books.executions
    new_id = f"{wrong.exec_id[:-2]}02"
    assert right == replace(wrong, exec_id=new_id, price_usd=99.0, average_usd=99.0)
    assert found.books.orders[1, 1].average_usd == 99.0
    assert fills(events) == [(100, 99.0)]
    assert found.account.ledger.cash_usd == pytest.approx(cash_usd + 100 * 1.01)
    assert found.account.ledger.position("SPY").average_usd == pytest.approx(99.01)


def test_a_correction_spares_an_order_that_has_the_id_of_a_forgotten_one() -> None:
    found = exchange(path(100.0))
    found.place(ticket())
    (wrong,) = found.books.executions
    # Another day, and a restart that lets ids go back.
    found.books.forget_finished(before_ns=CLOSE)
    found.books.next_ids[1] = 1
    found.place(order("LMT", quantity=5, limit_usd=50.0))

    events = found.correct(wrong.exec_id, price_usd=99.0)
    assert fills(events) == [(100, 99.0)]
    (unfilled,) = found.live_orders()
    assert (unfilled.filled, unfilled.average_usd, unfilled.last_usd) == (0, 0.0, 0.0)


def test_every_shown_order_is_whole() -> None:
    a_market = path(*[100.0] * 4, volume=400)
    found = exchange(a_market)
    events = [*found.place(ticket(quantity=750)), *play(found, a_market, 3)]
    for event in events:
        if isinstance(event, (OrderShown, StatusShown)):
            assert event.order.filled + event.order.remaining == 750
