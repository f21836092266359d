"""Children never work for more than their parent has filled, whatever makes it smaller."""

from __future__ import annotations

from typing import Any

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import QuoteChange, Trade
from momentum_lab.gateway.orders import CANCELLED, FILLED, HELD, Order, Ticket
from tests.gateway_factories import exchange, tick_tape, ticket

GROUP: dict[str, Any] = {"oca_group": "g", "oca_type": 3}


def market(*sizes: int) -> Market:
    """A bid of 99.99 and an ask of 100.01, new each second, with these sizes on both sides."""
    return quoted([(n, 99.99, 100.01, size, size) for n, size in enumerate(sizes)])


def falling_market(*sizes: int) -> Market:
    """The same for a second with 40 shares, then a dollar lower, with these sizes."""
    lower = [(n, 98.0, 98.9, size, size) for n, size in enumerate(sizes, start=1)]
    return quoted([(0, 99.99, 100.01, 40, 40), *lower])


def quoted(quotes: list[tuple[float, float, float, int, int]]) -> Market:
    found = Market(tick_tape(trades=[(0, 100.0, 100)], quotes=quotes))
    list(found.advance(found.now_ns + NS_PER_S // 2))
    return found


def play(found: Exchange, n_seconds: int) -> None:
    a_market = found.account.market
    for _ in range(n_seconds):
        for event in a_market.advance(a_market.now_ns + NS_PER_S):
            if isinstance(event, QuoteChange):
                found.on_quote(event)
            elif isinstance(event, Trade):
                found.on_trade(event)
        found.on_time()


def entry(limit_usd: float = 99.0, quantity: int = 100, **terms: Any) -> Ticket:
    return ticket(Side.BUY, quantity, order_type="LMT", limit_usd=limit_usd, **terms)


def stop(quantity: int = 100, stop_usd: float = 90.0, order_id: int = 2, **terms: Any) -> Ticket:
    terms = {"parent_id": 1, "tif": "GTC", **terms}
    return ticket(
        Side.SELL, quantity, order_id=order_id, order_type="STP", stop_usd=stop_usd, **terms
    )


def order(found: Exchange, order_id: int) -> Order:
    return found.books.orders[1, order_id]


def sizes(found: Exchange, *order_ids: int) -> list[int]:
    return [order(found, order_id).quantity for order_id in order_ids]


def reduced_entry(found: Exchange, child: Ticket | None = None) -> None:
    """An entry for 100 shares with a stop, of which a fill of its group has left 60."""
    found.place(entry(transmit=False, **GROUP))
    found.place(child or stop())
    found.place(entry(101.0, order_id=9, tif="IOC", **GROUP))
    assert sizes(found, 1) == [60]


def test_the_stop_of_an_entry_that_its_group_has_reduced_has_the_size_of_what_it_fills() -> None:
    found = exchange(market(40, 20, 20, 20, 20))
    reduced_entry(found)
    found.place(entry(101.0, quantity=60, **GROUP))
    filled = []
    for _ in range(3):
        play(found, 1)
        filled.append((order(found, 1).filled, *sizes(found, 2)))
    assert filled == [(20, 20), (40, 40), (60, 60)]


def test_the_stop_of_an_entry_that_its_group_has_reduced_needs_no_new_terms_for_that() -> None:
    found = exchange(falling_market(30, 30))
    reduced_entry(found)
    play(found, 1)
    assert (order(found, 1).filled, *sizes(found, 2)) == (30, 30)
    play(found, 1)
    assert (order(found, 1).status, order(found, 1).filled, *sizes(found, 2)) == (FILLED, 60, 60)


def test_in_a_cash_account_the_stop_of_a_reduced_entry_binds_no_other_shares() -> None:
    found = exchange(market(40, 40, 40), rules=Rules(is_cash_account=True))
    reduced_entry(found)
    # The 40 shares that the other order of the group has bought are free.
    found.place(stop(40, order_id=10, parent_id=0))
    assert order(found, 10).status == HELD


def test_a_waiting_child_that_its_group_has_reduced_wakes_at_the_reduced_size() -> None:
    found = exchange(market(40, 20, 20))
    found.place(entry(quantity=40, transmit=False))
    found.place(stop(40, **GROUP))
    found.place(
        ticket(Side.SELL, 80, order_id=9, order_type="LMT", limit_usd=99.0, tif="IOC", **GROUP)
    )
    assert sizes(found, 2) == [20]
    found.place(entry(101.0, quantity=40))
    play(found, 2)
    assert (order(found, 1).filled, *sizes(found, 2)) == (40, 20)


def test_a_child_of_which_nothing_is_left_ends_with_its_parent() -> None:
    found = exchange(falling_market(60))
    reduced_entry(found, stop(1))
    play(found, 1)
    assert (order(found, 1).status, order(found, 2).status) == (FILLED, CANCELLED)


def test_new_terms_for_the_child_of_a_part_do_not_enlarge_it() -> None:
    found = exchange(market(40))
    found.place(entry(101.0, transmit=False))
    found.place(stop())
    found.cancel(1, 1)
    assert sizes(found, 2) == [40]
    found.place(stop(100, stop_usd=91.0))
    assert (sizes(found, 2), order(found, 2).ticket.stop_usd) == ([40], 91.0)


def test_what_a_finished_child_has_sold_the_others_do_not_sell_again() -> None:
    found = exchange(market(50, 10, 0))
    found.place(entry(101.0, transmit=False))
    others: dict[str, Any] = {"parent_id": 1, "oca_group": "a", "transmit": False}
    found.place(ticket(Side.SELL, 50, order_id=2, order_type="LMT", limit_usd=99.0, **others))
    found.place(stop(50, order_id=3, oca_group="b"))
    assert [(order(found, 2).status, order(found, 2).filled)] == [(FILLED, 25)]
    found.place(entry(101.0, quantity=60))
    play(found, 1)
    assert (order(found, 1).status, *sizes(found, 3)) == (FILLED, 35)


def test_terms_on_their_way_to_a_child_shrink_with_it() -> None:
    found = exchange(market(*[10] * 20), rules=Rules(latency_s=2.0))
    found.place(entry(101.0, transmit=False))
    found.place(stop())
    play(found, 3)
    found.place(entry(101.0, quantity=50))
    play(found, 1)
    found.place(stop(100, stop_usd=91.0))
    play(found, 12)
    assert order(found, 2).ticket.stop_usd == 91.0
    assert (order(found, 1).filled, *sizes(found, 2)) == (50, 50)
