"""Orders at the paper gateway, sent and followed by the unmodified library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from ib_insync import (
    IB,
    ExecutionFilter,
    LimitOrder,
    MarketOrder,
    Order,
    Stock,
    StopLimitOrder,
    StopOrder,
    Trade,
)

from momentum_lab.clock import wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.server import GatewaySettings, make_hub
from momentum_lab.records.tape import write_tape
from tests.gateway_client import (
    LIMIT_S,
    RawClient,
    connected,
    errors_of,
    play,
    raw_client,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    NOON,
    OPEN,
    second,
    second_tape,
    seconds,
    ticket,
)

pytestmark = pytest.mark.anyio

PRICES = [100.0] * 10 + [101.0] * 10 + [98.0] * 40
TAPE = second_tape(seconds(PRICES, start_ns=NOON - 2 * NS_PER_S))
ACCOUNT = "DU1234567"


async def done(trade: Trade) -> None:
    with anyio.fail_after(LIMIT_S):
        while not trade.isDone():
            await trade.statusEvent


def statuses(trade: Trade) -> list[str]:
    return [entry.status for entry in trade.log if not entry.message]


def place_raw(client: RawClient, order_id: int, side: str, quantity: int, ref: str) -> None:
    """Send a market order as 115 fields, the way the library does at version 176."""
    head = [3, order_id, 0, "SPY", "STK", "", 0.0, "", "", "SMART", "", "USD", "", "", "", ""]
    terms = [side, quantity, "MKT", "", "", "DAY", "", ACCOUNT, "", 0, ref, True]
    fields = [*head, *terms, *[""] * 87]
    client.send(*fields)


async def test_a_market_order_is_filled_with_its_reference(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 100, orderRef="entry-1"))
        await done(trade)
        await settle(ib)

        assert statuses(trade) == ["PendingSubmit", "Submitted", "Filled"]
        (fill,) = trade.fills
        assert (fill.execution.price, fill.execution.shares) == (100.01, 100)
        assert fill.execution.side == "BOT"
        assert fill.execution.orderRef == "entry-1"
        assert fill.execution.time.timestamp() * NS_PER_S == NOON
        assert (fill.commissionReport.commission, fill.commissionReport.realizedPNL) == (1.0, 0.0)
        (position,) = ib.positions()
        assert (position.position, position.avgCost) == (100, 100.02)


async def test_a_round_trip_is_flat_and_its_loss_is_told(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await done(ib.placeOrder(spy(), MarketOrder("BUY", 100)))
        sale = ib.placeOrder(spy(), MarketOrder("SELL", 100))
        await done(sale)
        await settle(ib)

        # Bought at 100.01, sold at 99.98, one dollar of commission each.
        assert sale.fills[0].commissionReport.realizedPNL == pytest.approx(-5.0)
        assert ib.positions() == []
        assert ib.portfolio() == []
        values = {value.tag: value.value for value in ib.accountValues(ACCOUNT)}
        assert (values["NetLiquidation"], values["RealizedPnL"]) == ("999995.00", "-5.00")


async def test_the_reports_of_a_fill_come_in_the_brokers_order(tmp_path: Path) -> None:
    def speak(port: int) -> list[str]:
        with raw_client(port) as client:
            client.start()
            client.send(61, 1)
            client.read_until(62)
            place_raw(client, 1, "BUY", 100, "entry-1")
            return [message[0] for message in client.read_until(61)]

    async with standing_gateway(TAPE, tmp_path) as gateway:
        heard = await anyio.to_thread.run_sync(speak, gateway.port)
    assert heard == ["5", "3", "11", "5", "3", "59", "61"]


async def test_outside_the_session_an_order_waits_and_fills_at_the_opening(tmp_path: Path) -> None:
    tape = second_tape([second(OPEN, 100.0)], start_ns=OPEN - 30 * NS_PER_S)
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 100))
        await settle(ib)
        assert (trade.orderStatus.status, found) == ("PreSubmitted", [(trade.order.orderId, 399)])

        await play(gateway, 31, ib)
        assert trade.orderStatus.status == "Filled"


async def test_limit_orders_rest_are_modified_and_cancelled(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        order = LimitOrder("BUY", 100, 90.0, tif="GTC")
        trade = ib.placeOrder(spy(), order)
        await settle(ib)
        assert trade.orderStatus.status == "Submitted"

        order.lmtPrice = 91.0
        ib.placeOrder(spy(), order)
        await settle(ib)
        assert trade.log[-1].message == "Modified"
        (seen,) = await ib.reqAllOpenOrdersAsync()
        assert seen.order.lmtPrice == 91.0

        ib.cancelOrder(order)
        await done(trade)
        assert trade.orderStatus.status == "Cancelled"


async def test_a_bracket_protects_and_takes_its_profit(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        bracket = ib.bracketOrder(
            "BUY", 100, limitPrice=100.5, takeProfitPrice=100.9, stopLossPrice=99.0
        )
        entry, profit, loss = [ib.placeOrder(spy(), order) for order in bracket]
        await settle(ib)
        assert entry.orderStatus.status == "Filled"
        assert (profit.orderStatus.status, loss.orderStatus.status) == ("Submitted", "PreSubmitted")

        await play(gateway, 15, ib)
        assert (profit.orderStatus.status, loss.orderStatus.status) == ("Filled", "Cancelled")
        assert profit.fills[0].execution.price == 100.9
        assert ib.positions() == []


async def test_a_stop_protects_at_the_broker_while_its_client_is_away(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        async with connected(gateway.port) as ib:
            await done(ib.placeOrder(spy(), MarketOrder("BUY", 100, orderRef="entry")))
            ib.placeOrder(spy(), StopOrder("SELL", 100, 99.0, orderRef="stop"))
            await settle(ib)
        await play(gateway, 30)
        async with connected(gateway.port) as ib:
            fills = {fill.execution.orderRef: fill for fill in ib.fills()}
            assert fills["stop"].execution.price == 97.98
            assert fills["stop"].commissionReport.realizedPNL == pytest.approx(-205.0)
            assert ib.positions() == []
            # Executions are attached to the orders that were completed meanwhile.
            done_refs = {trade.order.orderRef for trade in ib.trades() if trade.fills}
            assert done_refs == {"entry", "stop"}


async def test_a_rejection_ends_the_order(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 1_000_000))
        await settle(ib)
        assert trade.isDone()
        assert found == [(trade.order.orderId, 201)]
        (completed,) = await ib.reqCompletedOrdersAsync(False)
        assert completed.orderStatus.status == "Cancelled"


async def test_an_order_for_an_unknown_contract_or_type_is_an_error(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        unknown = ib.placeOrder(Stock("XYZ", "SMART", "USD"), MarketOrder("BUY", 1))
        strange = ib.placeOrder(spy(), MarketOrder("BUY", 1, tif="OPG"))
        await settle(ib)
        assert [code for _, code in found] == [200, 201]
        assert unknown.isDone()
        assert strange.isDone()


async def test_a_question_about_margin_is_answered(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        with anyio.fail_after(LIMIT_S):
            answer = await ib.whatIfOrderAsync(spy(), MarketOrder("BUY", 100))
        assert (float(answer.initMarginChange), answer.commission) == (2_500.0, 1.0)
        assert ib.positions() == []


async def test_clients_see_their_own_orders_and_everybodys_positions(tmp_path: Path) -> None:
    async with (
        standing_gateway(TAPE, tmp_path) as gateway,
        connected(gateway.port, 1) as one,
        connected(gateway.port, 2) as two,
    ):
        await done(one.placeOrder(spy(), MarketOrder("BUY", 100)))
        one.placeOrder(spy(), LimitOrder("SELL", 100, 200.0))
        await settle(one)
        await settle(two)

        assert two.openTrades() == []
        assert [position.position for position in two.positions()] == [100]
        assert len(await two.reqAllOpenOrdersAsync()) == 1
        found = errors_of(two)
        two.client.cancelOrder(one.openTrades()[0].order.orderId, "")
        await settle(two)
        assert [code for _, code in found] == [10147]

        two.reqGlobalCancel()
        await settle(two)
        await settle(one)
        assert one.openTrades() == []


async def test_a_reconnected_client_gets_its_orders_and_higher_ids(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        async with connected(gateway.port) as ib:
            trade = ib.placeOrder(spy(), LimitOrder("BUY", 100, 90.0, orderRef="resting"))
            await settle(ib)
        async with connected(gateway.port) as ib:
            (seen,) = ib.openTrades()
            assert seen.order.orderRef == "resting"
            assert seen.order.permId == trade.order.permId
            assert ib.client.getReqId() > trade.order.orderId


async def test_executions_are_told_until_midnight_in_the_tapes_zone(tmp_path: Path) -> None:
    """New York's midnight, four hours after that of UTC."""
    midnight_ns = NOON + 12 * 3600 * NS_PER_S
    days = replace(TAPE, end_ns=midnight_ns + 86_400 * NS_PER_S)
    async with standing_gateway(days, tmp_path) as gateway, connected(gateway.port) as ib:
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 3, ib)
        await done(trade)
        for at_ns, n_told in (
            (midnight_ns - NS_PER_S, 1),
            (midnight_ns, 0),
        ):
            gateway.hub.step_to(at_ns)
            assert len(await ib.reqExecutionsAsync()) == n_told
        assert [position.position for position in await ib.reqPositionsAsync()] == [10]


async def test_executions_can_be_filtered(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await done(ib.placeOrder(spy(), MarketOrder("BUY", 100)))
        await play(gateway, 5, ib)
        await done(ib.placeOrder(spy(), MarketOrder("SELL", 100)))

        async def sides(**wanted: Any) -> list[str]:
            fills = await ib.reqExecutionsAsync(ExecutionFilter(**wanted))
            return sorted(fill.execution.side for fill in fills)

        assert await sides() == ["BOT", "SLD"]
        assert await sides(side="SELL") == ["SLD"]
        assert await sides(symbol="IBM") == []
        assert await sides(clientId=7) == []
        assert await sides(time="20131009-16:00:03") == ["SLD"]
        assert await sides(time="20131009 12:00:03") == ["SLD"]
        assert await sides(exchange="ARCA", side="BUY") == ["BOT"]
        assert await sides(exchange="NYSE") == []


async def position_of(ib: IB) -> float:
    return sum(position.position for position in await ib.reqPositionsAsync())


async def test_the_state_outlives_the_gateway(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    async with (
        standing_gateway(TAPE, tmp_path, state=path) as gateway,
        connected(gateway.port) as ib,
    ):
        await done(ib.placeOrder(spy(), MarketOrder("BUY", 100, orderRef="entry")))
        ib.placeOrder(spy(), StopOrder("SELL", 100, 99.0, orderRef="stop"))
        await play(gateway, 3, ib)
        before = ib.openTrades()[0].order
    async with (
        standing_gateway(TAPE, tmp_path, state=path) as gateway,
        connected(gateway.port) as ib,
    ):
        assert gateway.now_ns // NS_PER_S == NOON // NS_PER_S + 3
        (open_trade,) = ib.openTrades()
        assert (open_trade.order.permId, open_trade.order.orderRef) == (before.permId, "stop")
        assert [fill.execution.orderRef for fill in ib.fills()] == ["entry"]
        assert await position_of(ib) == 100
        assert ib.client.getReqId() > before.orderId
        await play(gateway, 30, ib)
        assert await position_of(ib) == 0
        assert len({fill.execution.execId for fill in ib.fills()}) == 2


async def test_what_a_halt_kept_from_happening_does_not_come_back_with_a_restart(
    tmp_path: Path,
) -> None:
    tape = second_tape(seconds([100.0] * 60, volume=300))
    state, volumes = tmp_path / "state.json", list[int]()
    for _ in range(2):
        async with standing_gateway(tape, tmp_path, state=state) as gateway:
            if not volumes:
                gateway.hub.step_to(NOON + 10 * NS_PER_S)
                gateway.inject("halt", {"symbol": "SPY"}, for_s=20)
                gateway.hub.step_to(NOON + 40 * NS_PER_S)
            today = gateway.hub.market.today("SPY")
            assert today is not None
            volumes.append(today.day_volume)
    assert volumes == [20 * 300] * 2


async def test_ids_of_an_account_without_state_differ_from_start_to_start(tmp_path: Path) -> None:
    write_tape(TAPE, tmp_path / "tape")
    books = make_hub(GatewaySettings(tape=tmp_path / "tape")).exchange.books
    # Both are taken from the time of the start.
    assert abs(int(books.exec_prefix, 16) - wall_ns() // NS_PER_S) < 60
    assert 0 < books.last_perm_id < 2**31


async def test_a_large_order_fills_in_parts_with_all_their_reports(tmp_path: Path) -> None:
    day = second_tape(seconds([100.0] * 30, volume=400))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 1)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 650))
        await play(gateway, 3, ib)
    assert [fill.execution.shares for fill in trade.fills] == [500, 100, 50]
    assert [fill.execution.cumQty for fill in trade.fills] == [500, 600, 650]
    assert sum(fill.commissionReport.commission for fill in trade.fills) == pytest.approx(3.25)
    assert (trade.orderStatus.status, trade.orderStatus.filled) == ("Filled", 650)


async def test_trailing_and_stop_limit_orders_show_their_prices(tmp_path: Path) -> None:
    day = second_tape(seconds([100.0, 101.0, 102.0, 102.0]))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 1)
        trail = Order(action="SELL", totalQuantity=100, orderType="TRAIL", auxPrice=1.5)
        ib.placeOrder(spy(), trail)
        ib.placeOrder(spy(), StopLimitOrder("SELL", 100, 95.0, 96.0))
        await play(gateway, 2, ib)
        # The library keeps its own order's first stop: another client asks the gateway.
        async with connected(gateway.port, 2) as other:
            shown = {t.order.orderType: t.order for t in await other.reqAllOpenOrdersAsync()}
    assert (shown["TRAIL"].trailStopPrice, shown["TRAIL"].auxPrice) == (100.5, 1.5)
    assert (shown["STP LMT"].lmtPrice, shown["STP LMT"].auxPrice) == (95.0, 96.0)


async def test_client_0_hears_of_the_orders_of_all_and_only_their_owner_cancels_them(
    tmp_path: Path,
) -> None:
    async with (
        standing_gateway(TAPE, tmp_path) as gateway,
        connected(gateway.port, 0) as master,
        connected(gateway.port, 5) as owner,
        connected(gateway.port, 6) as stranger,
    ):
        await play(gateway, 1)
        heard: list[tuple[int, str]] = []
        master.openOrderEvent += lambda t: heard.append((t.order.clientId, t.orderStatus.status))
        trade = owner.placeOrder(spy(), LimitOrder("BUY", 10, 50.0))
        await settle(owner)
        codes = errors_of(stranger)
        stranger.client.cancelOrder(trade.order.orderId, "")
        await settle(stranger)
        await settle(master)
    assert (5, "Submitted") in heard
    assert (trade.order.orderId, 10147) in codes
    assert trade.orderStatus.status == "Submitted"


async def test_a_dash_before_the_time_of_an_order_means_utc(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        for text in ("20131009-16:01:00", "20131009 12:01:00", "12:01:00"):
            terms = {"tif": "GTD", "goodTillDate": text, "goodAfterTime": text}
            ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0, **terms))
        await settle(ib)
        tickets = [order.ticket for order in gateway.hub.exchange.live_orders()]
    until_ns = NOON + 60 * NS_PER_S
    assert [(t.good_after_ns, t.good_till_ns) for t in tickets] == [(until_ns, until_ns)] * 3


async def test_an_order_that_is_good_till_a_date_is_good_for_all_of_it(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        codes = errors_of(ib)
        for text in ("20131010", " 20131009 ", "20131399", "20131008"):
            ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0, tif="GTD", goodTillDate=text))
        await settle(ib)
        # To the client that placed it the library goes on showing its own words.
        async with connected(gateway.port, 2) as other:
            trades = await other.reqAllOpenOrdersAsync()
        told = [trade.order.goodTillDate for trade in trades]
        untils = [order.ticket.good_till_ns for order in gateway.hub.exchange.live_orders()]
    # Until a second before midnight, which is twelve hours after noon.
    last_ns = NOON + DAY_NS // 2 - NS_PER_S
    assert untils == [last_ns + DAY_NS, last_ns]
    assert sorted(told) == [
        "20131009 23:59:59 America/New_York",
        "20131010 23:59:59 America/New_York",
    ]
    assert [code for _, code in codes] == [321, 201]


async def test_an_order_ends_at_its_time_however_far_the_market_moves_at_once(
    tmp_path: Path,
) -> None:
    # It could fill in the second after its end, and the close has another price than that second.
    rows = seconds([100.0, 100.0, 100.0, 90.0, 90.0], start_ns=CLOSE - 3 * NS_PER_S)
    tape = second_tape(rows, start_ns=CLOSE - 2 * NS_PER_S, end_ns=CLOSE + 60 * NS_PER_S)
    rules = Rules(close_cutoff_s=0.5)
    async with standing_gateway(tape, tmp_path, rules=rules) as gateway:
        exchange = gateway.hub.exchange
        until: dict[str, Any] = {"tif": "GTD", "good_till_ns": CLOSE, "outside_rth": True}
        exchange.place(ticket(order_id=1, order_type="LMT", limit_usd=95.0, **until))
        exchange.place(ticket(order_id=2, order_type="MOC"))

        gateway.hub.step_to(CLOSE + 30 * NS_PER_S)

        assert [(fill.order_id, fill.price_usd) for fill in exchange.books.executions] == [
            (2, 100.0)
        ]
        assert exchange.live_orders() == []
