"""What a quote and a bar fill, and at which price."""

from __future__ import annotations

from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import ExchangeEvent, Executed
from tests.gateway_factories import NOON, exchange, tick_tape, ticket


def order(kind: str, side: Side = Side.BUY, quantity: int = 100, **terms: Any) -> Any:
    return ticket(side, quantity, order_type=kind, **terms)


def fills(events: list[ExchangeEvent]) -> list[tuple[int, float]]:
    executions = [event.execution for event in events if isinstance(event, Executed)]
    return [(fill.shares, fill.price_usd) for fill in executions]


@pytest.mark.parametrize(
    ("bid", "ask", "buys", "sells"),
    [
        (100.0, 100.0, [(100, 100.01)], [(100, 99.99)]),
        (0.0, 100.0, [(100, 100.01)], []),
        (100.0, 0.0, [], [(100, 99.99)]),
        (100.02, 100.0, [], []),
    ],
    ids=["locked", "no bid", "no ask", "crossed"],
)
def test_an_order_needs_its_far_side_and_a_quote_that_is_not_crossed(
    bid: float, ask: float, buys: list[tuple[int, float]], sells: list[tuple[int, float]]
) -> None:
    tape = tick_tape(trades=[(0, 100.0, 100)], quotes=[(0.5, bid, ask, 500, 500)])
    for side, expected in ((Side.BUY, buys), (Side.SELL, sells)):
        a_market = Market(tape)
        list(a_market.advance(NOON + NS_PER_S))
        found = exchange(a_market)
        assert fills(found.place(ticket(side))) == expected
        far_usd = 101.0 if side is Side.BUY else 99.0
        # A limit that finds nothing to pay waits, and takes once it does.
        found.place(order("LMT", side, limit_usd=far_usd, order_id=2))
        assert found.books.orders[1, 2].is_resting is False
