"""What the gateway does with an attribute of an order: play it, tell it again, or refuse it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ib_insync import (
    Contract,
    ExecutionFilter,
    LimitOrder,
    MarketOrder,
    Order,
    SoftDollarTier,
    Stock,
    util,
)

from tests.gateway_client import connected, errors_of, play, settle, spy, standing_gateway
from tests.gateway_factories import second_tape, seconds

pytestmark = pytest.mark.anyio
TAPE = second_tape(seconds([100.0] * 60, volume=4_000))
ECHOED: dict[str, Any] = {
    "hidden": True,
    "displaySize": 10,
    "sweepToFill": True,
    "blockOrder": True,
    "openClose": "C",
    "modelCode": "M",
    "rule80A": "I",
    "notHeld": True,
    "solicited": True,
    "optOutSmartRouting": True,
    "triggerMethod": 4,
    "softDollarTier": SoftDollarTier("name", "value"),
    "usePriceMgmtAlgo": True,
    "postToAts": 5,
    "autoCancelParent": True,
}


def limit(**attributes: Any) -> LimitOrder:
    return LimitOrder("BUY", 100, 50.0, tif="GTC", **attributes)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"eTradeOnly": True}, 10268),
        ({"firmQuoteOnly": True}, 10269),
        ({"nbboPriceCap": 101.0}, 10270),
        ({"orderType": "STP", "auxPrice": 105.0, "triggerMethod": 4}, 321),
        ({"orderType": "MIT", "auxPrice": 95.0, "triggerMethod": 1}, 321),
        ({"activeStartTime": "20131009 12:00:00"}, 321),
        ({"duration": 30}, 321),
        ({"totalQuantity": 0}, 434),
    ],
)
async def test_an_attribute_that_would_be_played_otherwise_is_refused(
    tmp_path: Path, attributes: dict[str, Any], code: int
) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        errors = errors_of(ib)
        ib.placeOrder(spy(), Order(**{**util.dataclassAsDict(limit()), **attributes}))
        await settle(ib)
        assert [found for _, found in errors] == [code]
        assert gateway.hub.exchange.live_orders() == []


async def test_an_attribute_without_consequence_is_told_again(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = standing_gateway(TAPE, tmp_path, state=state)
    async with first as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        ib.placeOrder(spy(), limit(**ECHOED))
        await settle(ib)
    # To another client, and after a restart.
    second = standing_gateway(TAPE, tmp_path, state=state)
    async with second as gateway, connected(gateway.port, 2) as ib:
        (trade,) = await ib.reqAllOpenOrdersAsync()
        assert {name: getattr(trade.order, name) for name in ECHOED} == ECHOED
        ib.reqGlobalCancel()
        await settle(ib)
        (done,) = await ib.reqCompletedOrdersAsync(False)
        assert (done.order.hidden, done.order.displaySize) == (True, 10)


async def test_the_last_price_may_be_asked_for_as_the_trigger(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        wanted = Order(action="SELL", totalQuantity=10, orderType="STP", auxPrice=90.0, tif="GTC")
        wanted.triggerMethod = 2
        trade = ib.placeOrder(spy(), wanted)
        await settle(ib)
        assert (trade.orderStatus.status, trade.order.triggerMethod) == ("PreSubmitted", 2)


@pytest.mark.parametrize(
    ("contract", "cause"),
    [
        (Contract(conId=756733), "Missing order exchange."),
        (Stock("SPY", "", "USD"), "Missing order exchange."),
        (Contract(symbol="SPY", exchange="SMART"), "Please enter security type"),
    ],
)
async def test_an_order_names_an_exchange_and_a_kind_of_contract(
    contract: Contract, cause: str, tmp_path: Path
) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        errors: list[tuple[int, str]] = []
        ib.errorEvent += lambda _id, code, text, _contract: errors.append((code, text))
        await play(gateway, 2, ib)
        ib.placeOrder(contract, MarketOrder("BUY", 1, tif="DAY"))
        await settle(ib)
        ((code, text),) = errors
        assert code == 321
        assert text.endswith(f" : cause - {cause}")


async def test_an_id_and_an_exchange_are_contract_enough(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        errors = errors_of(ib)
        await play(gateway, 2, ib)
        contract = Contract(conId=756733, exchange="SMART")
        trade = ib.placeOrder(contract, MarketOrder("BUY", 1, tif="DAY"))
        await settle(ib)
        assert (trade.orderStatus.status, errors) == ("Filled", [])


async def test_an_order_tells_the_exchange_it_was_sent_to(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    async with (
        standing_gateway(TAPE, tmp_path, state=path) as gateway,
        connected(gateway.port) as ib,
    ):
        await play(gateway, 2, ib)
        for exchange in ("ARCA", "SMART"):
            ib.placeOrder(Stock("SPY", exchange, "USD"), MarketOrder("BUY", 1, tif="DAY"))
            ib.placeOrder(Stock("SPY", exchange, "USD"), limit())
        await settle(ib)
    async with (
        standing_gateway(TAPE, tmp_path, state=path) as gateway,
        connected(gateway.port) as ib,
    ):
        done = await ib.reqCompletedOrdersAsync(apiOnly=False)
        for trades in (ib.openTrades(), done):
            assert {trade.contract.exchange for trade in trades} == {"ARCA", "SMART"}


async def test_the_limit_of_a_trailing_order_may_be_a_price(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        wanted = Order(action="SELL", totalQuantity=10, orderType="TRAIL LIMIT", tif="GTC")
        wanted.auxPrice, wanted.trailStopPrice, wanted.lmtPrice = 2.0, 98.0, 97.5
        ib.placeOrder(spy(), wanted)
        await settle(ib)
        (order,) = gateway.hub.exchange.live_orders()
        assert (order.stop_usd, order.limit_usd) == (98.0, 97.5)


async def test_children_of_a_parent_that_fills_in_parts_earn_no_warning(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        errors = errors_of(ib)
        for order in ib.bracketOrder("BUY", 1_000, 101.0, 110.0, 90.0):
            ib.placeOrder(spy(), order)
        await settle(ib)
        parent, *children = gateway.hub.exchange.live_orders()
        assert (parent.filled, [child.remaining for child in children]) == (500, [500, 500])
        assert errors == []


async def test_a_corrected_price_moves_the_averages_of_its_order(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 1_000, tif="DAY"))
        await settle(ib)
        (first,) = gateway.hub.account.books.executions
        gateway.hub.publish(gateway.hub.exchange.correct(first.exec_id, price_usd=99.01))
        await play(gateway, 1, ib)
        assert trade.orderStatus.avgFillPrice == pytest.approx(99.51)
        fills = await ib.reqExecutionsAsync(ExecutionFilter())
        assert [fill.execution.avgPrice for fill in fills[-2:]] == pytest.approx([99.01, 99.51])
