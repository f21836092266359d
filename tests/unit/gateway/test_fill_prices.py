"""What a quote and a bar fill, and at which price."""

from __future__ import annotations

from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import Trade
from momentum_lab.gateway.orders import ExchangeEvent, Executed
from tests.gateway_factories import NOON, exchange, second, second_tape, tick_tape, ticket


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


# --------------------------------------------------- bars of more than a second


MINUTE_NS = 60 * NS_PER_S


def minutes(
    *bars: tuple[float, float, float], volume: int = 40_000, open_usd: float | None = None
) -> tuple[Exchange, Market]:
    """An exchange on one-minute bars (low, high, close) from noon on, the first one played.

    Each opens at its close, or the last one at `open_usd`.
    """
    rows = [
        ("SPY", NOON + n * MINUTE_NS, 60, close, high, low, close, volume)
        for n, (low, high, close) in enumerate(bars)
    ]
    if open_usd is not None:
        rows[-1] = (*rows[-1][:3], open_usd, *rows[-1][4:])
    a_market = Market(second_tape(rows))
    found = exchange(a_market)
    play(found, a_market, 60)
    return found, a_market


def play(found: Exchange, a_market: Market, n_seconds: int) -> list[ExchangeEvent]:
    events: list[ExchangeEvent] = []
    for event in a_market.advance(a_market.now_ns + n_seconds * NS_PER_S):
        if isinstance(event, Trade):
            events += found.on_trade(event)
    return events


FLAT = (100.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("side", "limit_usd", "bar", "expected"),
    [
        (Side.BUY, 99.0, (98.99, 100.0, 100.0), [(100, 99.0)]),
        (Side.BUY, 99.0, (99.0, 100.0, 100.0), []),
        (Side.SELL, 101.0, (100.0, 101.01, 100.0), [(100, 101.0)]),
        (Side.SELL, 101.0, (100.0, 101.0, 100.0), []),
    ],
    ids=["through", "touched", "through, selling", "touched, selling"],
)
def test_a_resting_limit_is_filled_by_a_bar_that_trades_through_it(
    side: Side,
    limit_usd: float,
    bar: tuple[float, float, float],
    expected: list[tuple[int, float]],
) -> None:
    found, a_market = minutes(FLAT, bar)
    found.place(order("LMT", side, limit_usd=limit_usd))
    assert fills(play(found, a_market, 60)) == expected
    assert [fill.liquidity for fill in found.books.executions] == [1] * len(expected)


def test_a_bar_that_began_before_the_order_rested_does_not_fill_it() -> None:
    found, a_market = minutes(FLAT, (98.0, 100.0, 100.0), (98.0, 100.0, 100.0))
    play(found, a_market, 1)
    found.place(order("LMT", limit_usd=99.0))
    assert fills(play(found, a_market, 59)) == []
    assert fills(play(found, a_market, 60)) == [(100, 99.0)]


def test_a_range_fills_no_more_than_a_part_of_the_volume() -> None:
    found, a_market = minutes(FLAT, (98.0, 100.0, 100.0), volume=400)
    found.place(order("LMT", quantity=300, limit_usd=99.0))
    assert fills(play(found, a_market, 60)) == [(100, 99.0)]


def test_a_bar_of_a_second_fills_by_its_end_alone() -> None:
    a_market = Market(second_tape([second(NOON, 100.0), second(NOON + NS_PER_S, 100.0, low=98.0)]))
    found = exchange(a_market)
    play(found, a_market, 1)
    found.place(order("LMT", limit_usd=99.0))
    assert fills(play(found, a_market, 1)) == []


@pytest.mark.parametrize("n_shown", [40_000, 200], ids=["whole", "in part"])
def test_of_a_stop_and_a_target_in_one_bar_the_stop_comes_first(n_shown: int) -> None:
    found, a_market = minutes(FLAT, (98.0, 102.0, 100.0), volume=n_shown)
    found.place(ticket(quantity=600))
    group: dict[str, Any] = {"oca_group": "exit", "quantity": 600}
    found.place(order("LMT", Side.SELL, limit_usd=101.0, order_id=2, **group))
    found.place(order("STP", Side.SELL, stop_usd=99.0, order_id=3, **group))

    play(found, a_market, 60)

    assert {fill.order_id for fill in found.books.executions} == {1, 3}


@pytest.mark.parametrize(
    ("kind", "side", "terms", "bar", "open_usd", "expected"),
    [
        # Met on the way: at the worse of stop and end. At the end the bid is a cent below the
        # price, and slippage is another.
        ("STP", Side.SELL, {"stop_usd": 96.0}, (95.0, 100.0, 100.0), None, [(100, 95.99)]),
        ("STP", Side.SELL, {"stop_usd": 96.0}, (90.0, 97.0, 97.0), 96.5, [(100, 95.99)]),
        ("STP", Side.BUY, {"stop_usd": 104.0}, (100.0, 105.0, 100.0), None, [(100, 104.01)]),
        ("STP", Side.BUY, {"stop_usd": 104.0}, (100.0, 105.0, 105.0), 100.0, [(100, 105.01)]),
        (
            "STP LMT",
            Side.SELL,
            {"stop_usd": 96.0, "limit_usd": 95.0},
            (94.0, 100.0, 100.0),
            None,
            [(100, 95.99)],
        ),
        ("TRAIL", Side.SELL, {"stop_usd": 4.0}, (95.0, 100.0, 100.0), None, [(100, 95.99)]),
        # A bar that opens beyond the stop: at its open.
        ("STP", Side.SELL, {"stop_usd": 96.0}, (90.0, 100.0, 91.0), None, [(100, 90.98)]),
        ("STP", Side.SELL, {"stop_usd": 96.0}, (90.0, 97.0, 97.0), 92.0, [(100, 91.98)]),
        ("STP", Side.SELL, {"stop_usd": 96.0}, (85.0, 92.0, 86.0), 92.0, [(100, 91.98)]),
        ("STP", Side.BUY, {"stop_usd": 104.0}, (100.0, 105.0, 105.0), None, [(100, 105.01)]),
        ("STP", Side.BUY, {"stop_usd": 104.0}, (103.0, 112.0, 103.0), 110.0, [(100, 110.01)]),
        ("TRAIL", Side.SELL, {"stop_usd": 4.0}, (90.0, 97.0, 97.0), 92.0, [(100, 91.98)]),
        # An order if touched waits on the other side.
        ("MIT", Side.BUY, {"stop_usd": 96.0}, (95.0, 100.0, 97.0), 100.0, [(100, 97.01)]),
        ("MIT", Side.BUY, {"stop_usd": 96.0}, (95.0, 100.0, 95.0), 100.0, [(100, 96.01)]),
        ("MIT", Side.BUY, {"stop_usd": 96.0}, (90.0, 95.0, 95.0), 91.0, [(100, 91.01)]),
        ("MIT", Side.SELL, {"stop_usd": 104.0}, (100.0, 105.0, 103.0), 100.0, [(100, 102.98)]),
        # Below its limit it is not sold, and waits there.
        ("STP LMT", Side.SELL, {"stop_usd": 96.0, "limit_usd": 95.0}, (90.0, 94.0, 93.0), 92.0, []),
    ],
)
def test_a_stop_met_within_a_bar_fills_where_it_was_met(
    kind: str,
    side: Side,
    terms: dict[str, Any],
    bar: tuple[float, float, float],
    open_usd: float | None,
    expected: list[tuple[int, float]],
) -> None:
    found, a_market = minutes(FLAT, bar, open_usd=open_usd)
    found.place(order(kind, side, **terms))
    assert fills(play(found, a_market, 60)) == expected
