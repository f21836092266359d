"""When an order begins to work: nothing of before that fills it, triggers it or moves its stop."""

from __future__ import annotations

from typing import Any

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import QuoteChange, Trade
from momentum_lab.gateway.orders import ExchangeEvent, Order, Ticket
from tests.gateway_factories import NOON, exchange, second_tape, seconds, ticket


def on_seconds(*prices: float) -> Exchange:
    """An exchange whose market trades at these prices, a second each; the first has been played."""
    return opened(Market(second_tape(seconds(prices, volume=40_000))), played_s=1)


def opened(a_market: Market, *, played_s: float) -> Exchange:
    found = exchange(a_market)
    play(found, played_s)
    return found


def play(found: Exchange, n_seconds: float) -> list[ExchangeEvent]:
    """Let market and exchange go on, with a stop wherever something is due by time."""
    a_market = found.account.market
    to_ns = a_market.now_ns + round(n_seconds * NS_PER_S)
    events: list[ExchangeEvent] = []
    while a_market.now_ns < to_ns:
        due_ns = found.next_due_ns() or to_ns
        for event in a_market.advance(min(to_ns, max(due_ns, a_market.now_ns + 1))):
            if isinstance(event, Trade):
                events += found.on_trade(event)
            elif isinstance(event, QuoteChange):
                events += found.on_quote(event)
        events += found.on_time()
    return events


def order(found: Exchange, order_id: int = 1) -> Order:
    return found.books.orders[1, order_id]


def fills(found: Exchange, order_id: int = 1) -> list[tuple[float, float]]:
    """(second after noon, price) of each fill of an order."""
    own = [fill for fill in found.books.executions if fill.order_id == order_id]
    return [((fill.at_ns - NOON) / NS_PER_S, fill.price_usd) for fill in own]


def selling(kind: str, **terms: Any) -> Ticket:
    return ticket(Side.SELL, order_type=kind, **{"tif": "GTC", **terms})


# ------------------------------------------------------- a trailing stop and its parent


def entry_with_trail(found: Exchange, **terms: Any) -> None:
    """An entry at 95 with a child that trails by a dollar, while the market is at 100."""
    found.place(ticket(order_type="LMT", limit_usd=95.0, transmit=False))
    found.place(selling("TRAIL", order_id=2, parent_id=1, stop_usd=1.0, **terms))


def test_a_trailing_child_begins_at_the_market_at_which_its_parent_fills() -> None:
    found = on_seconds(100.0, 98.0, 94.0, 94.5, 93.4)
    entry_with_trail(found)
    play(found, 1)
    assert order(found, 2).stop_usd is None
    play(found, 1)
    assert (fills(found), order(found, 2).stop_usd) == ([(3, 95.0)], 93.0)
    play(found, 1)
    assert (fills(found, 2), order(found, 2).stop_usd) == ([], 93.5)
    play(found, 1)
    assert [second for second, _ in fills(found, 2)] == [5]


def test_a_trailing_child_may_name_where_its_stop_begins() -> None:
    found = on_seconds(100.0, 98.0, 94.95, 94.95)
    entry_with_trail(found, trail_stop_usd=94.5)
    play(found, 1)
    assert order(found, 2).stop_usd == 94.5
    play(found, 2)
    assert (fills(found, 2), order(found, 2).stop_usd) == ([], 94.5)


def test_a_trailing_order_begins_at_the_market_of_its_time() -> None:
    found = on_seconds(100.0, 97.0, 94.0, 94.0, 94.0)
    found.place(selling("TRAIL", stop_usd=1.0, good_after_ns=NOON + 3 * NS_PER_S))
    assert order(found).stop_usd is None
    play(found, 3)
    assert (fills(found), order(found).stop_usd) == ([], 93.0)
