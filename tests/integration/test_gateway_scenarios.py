"""Every fault of the paper gateway, shown on the wire as it is named, and put right again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from ib_insync import IB, ExecutionFilter, LimitOrder, MarketOrder, Trade

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.faults.catalog import CATALOG
from momentum_lab.gateway.server import Gateway
from tests.fault_desk import HEADLINES, TAPE, desk
from tests.gateway_client import (
    LIMIT_S,
    connected,
    errors_of,
    news_tape,
    play,
    raw_client,
    settle,
    spy,
    standing_gateway,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SHOWN: set[str] = set()


def begin(gateway: Gateway, name: str, **parameters: Any) -> None:
    SHOWN.add(name)
    gateway.inject(name, parameters)


def end(gateway: Gateway, name: str) -> None:
    assert gateway.hub.faults.end(name) == 1


def line(ib: IB) -> Any:
    (ticker,) = ib.tickers()
    return ticker


def log_of(trade: Trade) -> list[str]:
    return [entry.status for entry in trade.log]


def hear(ib: IB, *names: str) -> list[str]:
    """Collect callbacks as they come: their names, of a status its text, of an error its code."""
    found: list[str] = []

    def listen(name: str) -> None:
        original = getattr(ib.wrapper, name)

        def both(*values: Any) -> None:
            found.append(str(values[1]) if name in ("orderStatus", "error") else name)
            original(*values)

        setattr(ib.wrapper, name, both)

    for name in names:
        listen(name)
    return found


@asynccontextmanager
async def connected_anyhow(port: int, client_id: int) -> AsyncIterator[IB]:
    """A client that has opened the API and asked for nothing yet."""
    ib = IB()
    with anyio.fail_after(LIMIT_S):
        await ib.client.connectAsync("127.0.0.1", port, client_id, LIMIT_S)
    try:
        yield ib
    finally:
        ib.disconnect()


async def gone(ib: IB) -> None:
    with anyio.fail_after(LIMIT_S):
        while ib.isConnected():  # noqa: ASYNC110 - the library sets no event
            await anyio.sleep(0.01)


# -------------------------------------------------------------- transport


async def test_tcp_reset(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:

        def talk() -> str:
            with raw_client(gateway.port) as client:
                client.start()
                anyio.from_thread.run_sync(begin, gateway, "tcp_reset")
                try:
                    while client.socket.recv(4096):
                        pass
                except ConnectionResetError:
                    return "reset"
                return "end of stream"

        assert await anyio.to_thread.run_sync(talk) == "reset"
        assert gateway.hub.sessions == {}
        async with connected(gateway.port):
            pass


async def test_half_open(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "half_open")
        with anyio.move_on_after(0.3) as waiting:
            await ib.reqCurrentTimeAsync()
        assert waiting.cancelled_caught
        assert ib.isConnected()
        other = IB()
        with pytest.raises((asyncio.TimeoutError, ConnectionError)):
            await other.connectAsync("127.0.0.1", gateway.port, clientId=2, timeout=0.3)
        end(gateway, "half_open")
        await settle(ib)
        async with connected(gateway.port, 3):
            pass


async def test_stalled_reader(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "stalled_reader")
        # The first of them meets a gateway that has been waiting for it since before the stall.
        for _ in range(2):
            ib.placeOrder(spy(), LimitOrder("BUY", 1, 50.0))
            await anyio.sleep(0.1)
            assert gateway.hub.exchange.live_orders() == []
        end(gateway, "stalled_reader")
        await settle(ib)
        assert len(gateway.hub.exchange.live_orders()) == 2


async def test_stalled_writer(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "stalled_writer")
        heard = line(ib).last
        with anyio.move_on_after(0.3) as waiting:
            await play(gateway, 1, ib)
        assert waiting.cancelled_caught
        assert line(ib).last == heard
        end(gateway, "stalled_writer")
        await settle(ib)


async def test_malformed_frame(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:

        def talk() -> bytes:
            with raw_client(gateway.port) as client:
                client.start()
                anyio.from_thread.run_sync(begin, gateway, "malformed_frame")
                return client.socket.recv(4096)

        assert b"not a number" in await anyio.to_thread.run_sync(talk)


async def test_truncated_frame(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:

        def talk() -> bytes:
            with raw_client(gateway.port) as client:
                client.start()
                anyio.from_thread.run_sync(begin, gateway, "truncated_frame")
                found = b""
                while data := client.socket.recv(4096):
                    found += data
                return found

        found = await anyio.to_thread.run_sync(talk)
        assert int.from_bytes(found[:4], "big") > len(found) - 4


async def test_slow_answers(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "slow_answers", delay_s=3.0)
        answers = []
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append(await ib.reqCurrentTimeAsync())

            group.start_soon(ask)
            await anyio.sleep(0.1)
            gateway.hub.step_to(gateway.now_ns + 2 * NS_PER_S)
            await anyio.sleep(0.1)
            assert answers == []
            gateway.hub.step_to(gateway.now_ns + 2 * NS_PER_S)
        assert len(answers) == 1


async def test_lost_answer(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "lost_answer", request="reqPositions")
        with anyio.move_on_after(0.3) as waiting:
            await ib.reqPositionsAsync()
        assert waiting.cancelled_caught
        await settle(ib)


# --------------------------------------------------------------- upstream


async def test_1100_stops_data_keeps_order_reports_back_and_ends_with_1102(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        trade = ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0))
        await settle(ib)
        codes, heard = errors_of(ib), line(ib).time
        begin(gateway, "1100", repeat_s=2.0)
        await play(gateway, 5, ib)
        assert codes == [(-1, 1100)] * 3
        assert line(ib).time == heard
        ib.cancelOrder(trade.order)
        await settle(ib)
        assert trade.orderStatus.status == "PendingCancel"
        end(gateway, "1100")
        await play(gateway, 2, ib)
        assert (-1, 1102) in codes
        assert trade.orderStatus.status == "Cancelled"
        assert line(ib).time != heard


async def test_positions_under_a_request_id_are_told_after_a_1100_as_the_others_are(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as (gateway, ib):
        ib.client.reqPositionsMulti(900, ib.managedAccounts()[0], "")
        await settle(ib)
        told = hear(ib, "position", "positionMulti")
        begin(gateway, "1100")
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        assert told == []
        end(gateway, "1100")
        await settle(ib)
        assert set(told) == {"position", "positionMulti"}


@pytest.mark.parametrize("name", ["1100", "nightly_reset"])
async def test_while_the_broker_is_away_no_list_says_that_there_is_nothing(
    name: str, tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib):
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        ib.placeOrder(spy(), LimitOrder("BUY", 5, 50.0))
        await settle(ib)
        ends = hear(
            ib,
            *("positionEnd", "openOrderEnd", "execDetailsEnd", "completedOrdersEnd"),
            *("accountDownloadEnd", "accountSummaryEnd", "historicalData", "contractDetailsEnd"),
        )
        begin(gateway, name)
        async with connected_anyhow(gateway.port, 2) as other:
            for client in (ib.client, other.client):
                client.reqPositions()
                client.reqAllOpenOrders()
                client.reqExecutions(900, ExecutionFilter())
                client.reqCompletedOrders(False)
                client.reqAccountUpdates(True, "")
                client.reqAccountSummary(901, "All", "NetLiquidation")
                client.reqHistoricalData(902, spy(), "", "60 S", "1 min", "TRADES", 1, 1, False, [])
                client.reqContractDetails(903, spy())
            ib.placeOrder(spy(), MarketOrder("BUY", 7))
            await play(gateway, 3, ib, other)
            assert (ends, other.positions(), other.fills()) == ([], [], [])
            end(gateway, name)
            await settle(ib)
            assert sum(fill.execution.shares for fill in ib.fills()) == 17
            for asking in (ib, other):
                assert [held.position for held in await asking.reqPositionsAsync()] == [17]
            assert len(await other.reqAllOpenOrdersAsync()) == 1


async def test_1101_loses_the_subscriptions(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, "1101")
        await settle(ib)
        heard = line(ib).time
        await play(gateway, 3, ib)
        assert (codes, line(ib).time) == ([(-1, 1101)], heard)


async def test_1102_alone_changes_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes, heard = errors_of(ib), line(ib).time
        begin(gateway, "1102")
        await play(gateway, 2, ib)
        assert codes == [(-1, 1102)]
        assert line(ib).time != heard


async def test_2103_stops_quotes_and_no_news_until_2104(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, "2103")
        await settle(ib)
        heard = line(ib).last
        await play(gateway, 3, ib)
        assert (line(ib).last, len(ib.newsTicks())) == (heard, 1)
        end(gateway, "2103")
        await play(gateway, 1, ib)
        assert codes == [(-1, 2103), (-1, 2104)]
        assert line(ib).last != heard


async def test_2105_leaves_history_unanswered_until_2106(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, "2105")
        request = (spy(), "", "60 S", "1 min", "TRADES", True)
        with anyio.move_on_after(0.3) as waiting:
            await ib.reqHistoricalDataAsync(*request)
        assert waiting.cancelled_caught
        end(gateway, "2105")
        assert len(await ib.reqHistoricalDataAsync(*request)) > 0
        assert [code for _, code in codes if code in (2105, 2106)] == [2105, 2106]


@pytest.mark.parametrize("code", [2104, 2106, 2107, 2108])
async def test_notes_of_farms(tmp_path: Path, code: int) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, str(code))
        await settle(ib)
        assert codes == [(-1, code)]


async def test_nightly_reset(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, "nightly_reset", cuts_sockets=1)
        await play(gateway, 6, ib)
        end(gateway, "nightly_reset")
        await gone(ib)
        assert codes == [(-1, 1100), (-1, 1100), (-1, 1101)]


async def test_restart_vanishes_orders_rolls_ids_back_and_closes_the_port(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        kept = ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0))
        await settle(ib)
        next_id = gateway.hub.exchange.books.next_order_id(1)
        begin(gateway, "restart", vanish_s=1.0, ids_back=2)
        lost = ib.placeOrder(spy(), LimitOrder("BUY", 20, 50.0))
        await settle(ib)
        assert log_of(lost) == ["PendingSubmit"]
        gateway.hub.step_to(gateway.now_ns + NS_PER_S)
        await gone(ib)
        assert gateway.hub.exchange.books.next_order_id(1) == max(1, next_id - 2)
        with pytest.raises((ConnectionError, asyncio.TimeoutError)):
            await IB().connectAsync("127.0.0.1", gateway.port, clientId=1, timeout=0.5)
        end(gateway, "restart")
        async with connected(gateway.port) as again:
            refs = [t.order.permId for t in await again.reqAllOpenOrdersAsync()]
        assert refs == [kept.order.permId]


async def test_client_id_busy(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        begin(gateway, "client_id_busy", client_id=7)

        def talk() -> list[list[str]]:
            with raw_client(gateway.port) as client:
                return client.start(7)

        assert (await anyio.to_thread.run_sync(talk))[-1][3] == "326"
        async with connected(gateway.port, 8):
            pass
        end(gateway, "client_id_busy")
        async with connected(gateway.port, 7):
            pass


async def test_error_flood(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, "error_flood", count=5000, code=2100)
        await settle(ib)
        assert codes == [(-1, 2100)] * 5000


# ----------------------------------------------------------------- orders


async def test_late_status(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "late_status", delay_s=3.0)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 2, ib)
        assert trade.fills == []
        await play(gateway, 2, ib)
        assert (len(trade.fills), trade.orderStatus.status) == (1, "Filled")


@pytest.mark.parametrize("name", ["1100", "nightly_reset", "late_status", "reordered_status"])
async def test_an_order_error_comes_after_the_status_that_it_explains(
    name: str, tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib):
        cancelled = ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0))
        await settle(ib)
        told = hear(ib, "orderStatus", "error")
        gateway.inject(name)
        refused = ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0, ocaType=7))
        ib.cancelOrder(cancelled.order)
        await settle(ib)
        end(gateway, name)
        await settle(ib)
        for status, code in (("Inactive", "201"), ("Cancelled", "202")):
            assert [word for word in told if word in (status, code)] == [status, code]
        assert (refused.isDone(), cancelled.orderStatus.status) == (True, "Cancelled")


async def test_duplicate_status(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "duplicate_status", times=3)
        heard = hear(ib, "orderStatus")
        trade = ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0))
        await settle(ib)
        assert heard == ["Submitted"] * 3
        assert trade.orderStatus.status == "Submitted"


async def test_reordered_status(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "reordered_status")
        heard = hear(ib, "orderStatus", "execDetails")
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        # As they happened: Submitted, execution, Filled.
        assert heard == ["execDetails", "Submitted"]
        end(gateway, "reordered_status")
        await settle(ib)
        assert heard == ["execDetails", "Submitted", "Filled"]


async def test_commission_first(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "commission_first")
        heard = hear(ib, "commissionReport", "execDetails")
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        assert heard == ["commissionReport", "execDetails"]


async def test_lost_acknowledgement(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "lost_acknowledgement")
        trade = ib.placeOrder(spy(), LimitOrder("BUY", 10, 50.0))
        await settle(ib)
        assert log_of(trade) == ["PendingSubmit"]
        assert len(gateway.hub.exchange.live_orders()) == 1
        end(gateway, "lost_acknowledgement")
        await ib.reqAllOpenOrdersAsync()
        assert trade.orderStatus.status == "Submitted"


async def test_partial_then_silence(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "partial_then_silence")
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 5, ib)
        assert [fill.execution.shares for fill in trade.fills] == [5]
        assert trade.orderStatus.status == "Submitted"
        (order,) = gateway.hub.exchange.live_orders()
        assert (order.filled, order.remaining) == (5, 5)


async def test_of_an_order_in_silence_no_commission_and_no_end_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        gateway.inject("partial_then_silence")
        heard = hear(ib, "execDetails", "commissionReport", "error")
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 4_000))
        await play(gateway, 5, ib)
        assert len(gateway.journal.of("fill")) > 1
        ib.cancelOrder(trade.order)
        await settle(ib)
        assert gateway.hub.exchange.live_orders() == []
        assert heard == ["execDetails", "commissionReport"]


async def test_forgotten_parent(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        entry, target, stop = ib.bracketOrder("BUY", 10, 200.0, 300.0, 50.0)
        trades = [ib.placeOrder(spy(), order) for order in (entry, target, stop)]
        await settle(ib)
        assert trades[0].orderStatus.status == "Filled"
        begin(gateway, "forgotten_parent")
        heard = hear(ib, "error")
        texts: list[str] = []
        ib.errorEvent += lambda _id, _code, text, _contract: texts.append(text)
        stop.auxPrice = 60.0
        ib.placeOrder(spy(), stop)
        await settle(ib)
        assert heard == ["135"]
        assert texts == [f"Can't find order with id = {entry.orderId}"]
        # The library takes it for cancelled, and it works on under its old terms.
        assert trades[2].orderStatus.status == "Cancelled"
        working = gateway.hub.exchange.books.orders[1, stop.orderId]
        assert (working.ticket.stop_usd, working.is_done) == (50.0, False)
        # New terms that name no parent are taken.
        target.parentId, target.lmtPrice, target.transmit = 0, 290.0, True
        ib.placeOrder(spy(), target)
        await settle(ib)
        changed = gateway.hub.exchange.books.orders[1, target.orderId]
        assert (changed.ticket.limit_usd, changed.is_done) == (290.0, False)
        end(gateway, "forgotten_parent")
        stop.auxPrice = 61.0
        ib.client.placeOrder(stop.orderId, spy(), stop)
        await settle(ib)
        assert gateway.hub.exchange.books.orders[1, stop.orderId].ticket.stop_usd == 61.0


async def test_renamed_groups(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "renamed_groups")
        entry, target, stop = ib.bracketOrder("BUY", 10, 50.0, 300.0, 40.0)
        for child in (target, stop):
            child.ocaGroup, child.ocaType = "mine", 2
        trades = [ib.placeOrder(spy(), order) for order in (entry, target, stop)]
        await settle(ib)
        books = gateway.hub.exchange.books
        name = str(trades[0].order.permId)
        for child in (target, stop):
            kept = books.orders[1, child.orderId]
            assert (kept.oca_group, kept.oca_type) == (name, 3)
        heard = hear(ib, "error")
        for group, kind in (("mine", 3), (name, 2), (name, 3), ("", 0)):
            stop.auxPrice, stop.ocaGroup, stop.ocaType = stop.auxPrice - 1, group, kind
            ib.client.placeOrder(stop.orderId, spy(), stop)
            await settle(ib)
        assert heard == ["10326", "10327"]
        changed = books.orders[1, stop.orderId]
        assert (changed.ticket.stop_usd, changed.oca_group, changed.oca_type) == (36.0, name, 3)
        end(gateway, "renamed_groups")
        free = ib.bracketOrder("BUY", 10, 50.0, 300.0, 40.0)
        for order in free:
            order.ocaGroup = "other"
            ib.placeOrder(spy(), order)
        await settle(ib)
        assert books.orders[1, free.stopLoss.orderId].oca_group == "other"


async def test_utc_execution_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path) as (gateway, ib):
        heard: list[str] = []
        interpret: Callable[[list[str]], None] = ib.client.decoder.interpret

        def both(fields: list[str]) -> None:
            if fields[0] == "11":
                heard.append(fields[15])
            interpret(fields)

        monkeypatch.setattr(ib.client.decoder, "interpret", both)
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        begin(gateway, "utc_execution_times")
        await ib.reqExecutionsAsync(ExecutionFilter())
        zoned, in_utc = heard
        date, clock, zone = zoned.split()
        local = datetime.strptime(f"{date} {clock}", "%Y%m%d %H:%M:%S").replace(
            tzinfo=ZoneInfo(zone)
        )
        assert in_utc == f"{local.astimezone(timezone.utc):%Y%m%d-%H:%M:%S}"


async def test_execution_correction(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        begin(gateway, "execution_correction", change_usd=-0.5)
        await settle(ib)
        first, second = (fill.execution for fill in trade.fills)
        assert second.execId == f"{first.execId[:-2]}02"
        assert second.price == pytest.approx(first.price - 0.5)
        assert [fill["exec_id"] for fill in gateway.journal.of("fill")] == [
            first.execId,
            second.execId,
        ]


# ------------------------------------------------------------------- data


async def test_competing_session(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        begin(gateway, "competing_session")
        await settle(ib)
        heard = line(ib).time
        await play(gateway, 3, ib)
        assert [code for _, code in codes] == [10197]
        assert line(ib).time == heard
        end(gateway, "competing_session")
        await play(gateway, 1, ib)
        assert line(ib).time != heard


async def test_delayed_data(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes, kinds = errors_of(ib), set[int]()
        ib.pendingTickersEvent += lambda tickers: kinds.update(
            tick.tickType for ticker in tickers for tick in ticker.ticks
        )
        begin(gateway, "delayed_data")
        await settle(ib)
        kinds.clear()
        await play(gateway, 3, ib)
        assert ([code for _, code in codes], line(ib).marketDataType) == ([10167], 3)
        assert {68, 74} <= kinds <= {66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76}
        end(gateway, "delayed_data")
        await play(gateway, 1, ib)
        assert line(ib).marketDataType == 1


async def test_frozen_quotes_with_a_live_heartbeat(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "frozen_quotes")
        before, heard = await ib.reqCurrentTimeAsync(), line(ib).time
        await play(gateway, 3, ib)
        assert (await ib.reqCurrentTimeAsync() - before).total_seconds() == 3
        assert line(ib).time == heard


async def test_halt(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        with pytest.raises(ParameterError, match="XYZ"):
            gateway.inject("halt", {"symbol": "XYZ"})
        begin(gateway, "halt", symbol="SPY", limit_s=15)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 3, ib)
        # At the band trading goes on.
        assert (line(ib).halted, trade.orderStatus.status) == (0, "Filled")
        await play(gateway, 13, ib)
        last = line(ib).last
        held = ib.placeOrder(spy(), MarketOrder("SELL", 10))
        await play(gateway, 5, ib)
        assert (line(ib).halted, line(ib).bid, line(ib).last) == (2, -1, last)
        assert held.orderStatus.status == "PreSubmitted"
        end(gateway, "halt")
        await play(gateway, 1, ib)
        assert (line(ib).halted, held.orderStatus.status) == (0, "Filled")
    assert [(row["symbol"], row["kind"]) for row in gateway.journal.of("halt")] == [
        *(("SPY", 3), ("SPY", 2), ("SPY", 0)),
    ]


async def test_headline_storm(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        ib.reqMktData(news_tape(), "mdoff,292")
        ib.reqMktData(news_tape("DJNL"), "mdoff,292")
        await settle(ib)
        ib.wrapper.newsTicks.clear()
        begin(gateway, "headline_storm", count=10_000)
        await settle(ib)
        ids = {tick.articleId for tick in ib.wrapper.newsTicks}
        assert len(ids) == 10_000
        assert len({tick.timeStamp for tick in ib.wrapper.newsTicks}) == 1


async def test_duplicate_backdated_and_late_headlines(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        begin(gateway, "duplicate_headlines", times=2)
        begin(gateway, "backdated_headlines", age_s=3600)
        await play(gateway, 4, ib)
        stamps = [tick.timeStamp for tick in ib.newsTicks()]
        assert stamps == [HEADLINES[0].at_ns // 1_000_000 - 3_600_000] * 2
        end(gateway, "duplicate_headlines")
        end(gateway, "backdated_headlines")
        begin(gateway, "late_headlines", delay_s=10.0)
        await play(gateway, 8, ib)
        assert len(ib.newsTicks()) == 2
        await play(gateway, 5, ib)
        assert ib.newsTicks()[-1].timeStamp == HEADLINES[1].at_ns // 1_000_000


async def test_clock_skew(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        before = await ib.reqCurrentTimeAsync()
        begin(gateway, "clock_skew", skew_s=-45)
        assert (await ib.reqCurrentTimeAsync() - before).total_seconds() == -45


async def test_bulletin(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib), connected(gateway.port, 2) as other:
        for client in (ib, other):
            client.reqNewsBulletins(allMessages=False)
            await settle(client)
        begin(gateway, "bulletin")
        begin(gateway, "bulletin", bulletin_type=2, text="NYSE is down", exchange="NYSE")
        begin(gateway, "bulletin", text="For one", client_id=2)
        await settle(ib)
        await settle(other)
        notice, down = (
            (1, 1, "This is a test of the bulletins.", ""),
            (2, 2, "NYSE is down", "NYSE"),
        )
        assert ib.newsBulletins() == [notice, down]
        assert other.newsBulletins() == [notice, down, (3, 1, "For one", "")]
        with pytest.raises(ParameterError, match="expected 1 to 3 type, found 4"):
            gateway.inject("bulletin", {"bulletin_type": 4})
        with pytest.raises(ParameterError, match=r"bulletin.text: expected text, found 7"):
            gateway.inject("bulletin", {"text": 7})


def test_every_fault_of_the_catalog_has_been_shown_here() -> None:
    if len(SHOWN) < 5:
        pytest.skip("only meaningful after the tests above")
    assert set(CATALOG) == SHOWN
