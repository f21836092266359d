"""When orders begin to work, over a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ib_insync import IB, LimitOrder, MarketOrder, Order, StopOrder, Trade

from momentum_lab.core.market import NS_PER_S
from tests.gateway_client import connected, play, spy, standing_gateway
from tests.gateway_factories import NOON, Row, second_tape, seconds, tick_tape

pytestmark = pytest.mark.anyio


def trailing(ib: IB, **terms: Any) -> Trade:
    """Place an order to sell 100 that trails by a dollar."""
    values = {"totalQuantity": 100, "auxPrice": 1.0, "tif": "GTC", **terms}
    return ib.placeOrder(spy(), Order(action="SELL", orderType="TRAIL", **values))


async def test_a_trailing_stop_protects_what_its_parent_has_bought(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0, 100.0, 98.0, 94.95, 94.95, 94.0, 93.9], volume=40_000))
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        entry = ib.placeOrder(spy(), LimitOrder("BUY", 100, 95.0, tif="DAY", transmit=False))
        stop = trailing(ib, parentId=entry.order.orderId)
        await play(gateway, 3, ib)
        assert (entry.orderStatus.status, stop.orderStatus.status) == ("Filled", "PreSubmitted")
        # ib_insync keeps the terms of its own orders as they were sent: somebody else asks.
        async with connected(gateway.port, 2) as other:
            (told,) = await other.reqAllOpenOrdersAsync()
            assert told.order.trailStopPrice == 93.95
        await play(gateway, 2, ib)
        assert stop.orderStatus.status == "Filled"


async def test_an_order_arrives_at_its_time_where_nothing_else_happens(tmp_path: Path) -> None:
    quotes = [(0.5, 99.99, 100.01, 5_000, 5_000), (300, 100.05, 100.07, 5_000, 5_000)]
    tape = tick_tape(trades=[(0.5, 100.0, 500)], quotes=quotes)
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        terms = {"tif": "DAY", "goodAfterTime": "20131009 12:00:10 US/Eastern"}
        bought = ib.placeOrder(spy(), MarketOrder("BUY", 100, **terms))
        resting = ib.placeOrder(spy(), LimitOrder("BUY", 100, 99.0, **terms))
        await play(gateway, 7, ib)
        statuses = (bought.orderStatus.status, resting.orderStatus.status)
        assert statuses == ("PreSubmitted", "PreSubmitted")
        await play(gateway, 2, ib)
        assert (bought.orderStatus.status, resting.orderStatus.status) == ("Filled", "Submitted")
        (fill,) = bought.fills
        assert (fill.execution.price, fill.execution.time.second) == (100.02, 10)


async def test_what_a_minute_was_before_a_stop_was_placed_does_not_trigger_it(
    tmp_path: Path,
) -> None:
    prices = [(100.0, 100.0, 100.0), (98.0, 98.0, 100.0), (100.0, 98.0, 100.0)]
    rows: list[Row] = [
        ("SPY", NOON + n * 60 * NS_PER_S, 60, first, 100.0, low, last, 40_000)
        for n, (first, low, last) in enumerate(prices)
    ]
    state = tmp_path / "state.json"
    before = standing_gateway(second_tape(rows), tmp_path, state=state)
    async with before as gateway, connected(gateway.port) as ib:
        await play(gateway, 110, ib)
        ib.placeOrder(spy(), StopOrder("SELL", 100, 99.0, tif="GTC"))
        await play(gateway, 1, ib)
    # The gateway that goes on in the middle of the minute knows it as well.
    after = standing_gateway(second_tape(rows), tmp_path, state=state)
    async with after as gateway, connected(gateway.port) as ib:
        (stop,) = ib.openTrades()
        ib.reqMktData(spy())
        await play(gateway, 10, ib)
        assert stop.orderStatus.status == "PreSubmitted"
        await play(gateway, 60, ib)
        assert stop.orderStatus.status == "Filled"
        assert stop.fills[0].execution.price == 98.99


async def test_a_stop_that_is_immediate_or_cancel_waits_for_its_price(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0, 100.0, 100.0, 98.0, 98.0], volume=400))
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        stop = ib.placeOrder(spy(), StopOrder("SELL", 700, 99.0, tif="IOC"))
        await play(gateway, 1, ib)
        assert (stop.orderStatus.status, stop.orderStatus.whyHeld) == ("PreSubmitted", "trigger")
        await play(gateway, 1, ib)
        assert (stop.orderStatus.status, stop.filled()) == ("Cancelled", 500)
        assert stop.fills[0].execution.price == 97.98
