"""Streams beside the quotes, data types, halts and ticks of the past, over a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ib_insync import IB, MarketOrder, Ticker

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.limits import Limits
from momentum_lab.gateway.server import Gateway
from momentum_lab.records.tape import Tape
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, LIMIT_STATE, TRADING
from tests.gateway_client import connected, errors_of, heard, play, settle, spy, standing_gateway
from tests.gateway_factories import (
    CLOSE,
    NOON,
    OPEN,
    second,
    second_tape,
    seconds,
    tick_tape,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

NOON_S = NOON // NS_PER_S
QUOTES = (
    (0.0, 99.98, 100.02, 300, 500),
    (1.1, 99.99, 100.02, 300, 500),
    (1.2, 99.99, 100.01, 300, 500),
    (1.3, 99.99, 100.00, 300, 400),
    (2.6, 99.97, 100.00, 900, 400),
)
TRADES = ((1.05, 100.02, 100), (1.1, 100.00, 50), (1.15, 100.01, 30), (3.25, 99.99, 200))
TICKS = tick_tape(trades=TRADES, quotes=QUOTES)
BARS = second_tape(seconds([100.0 + n / 100 for n in range(60)], volume=4_000))


@asynccontextmanager
async def desk(tape: Tape, folder: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, IB]]:
    async with standing_gateway(tape, folder, **settings) as gateway, connected(gateway.port) as ib:
        await ib.qualifyContractsAsync(spy())
        yield gateway, ib


def line(ib: IB) -> Ticker:
    (ticker,) = ib.tickers()
    return ticker


# ----------------------------------------------------------------- sampling


async def test_quotes_are_a_sample_and_no_volume_is_lost(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path, volume_ticks="shares") as (gateway, ib):
        sizes = heard(ib, "tickSize")
        asks = heard(ib, "priceSizeTick")
        ib.reqMktData(spy(), "")
        await play(gateway, 1.24, ib)
        # The first thing within a quarter of a second is told at once, the rest waits.
        assert [price for kind, price, _ in asks if kind == 4] == [100.02]
        await play(gateway, 0.02, ib)
        assert [price for kind, price, _ in asks if kind == 4] == [100.02, 100.01]
        assert [size for kind, size in sizes if kind == 8] == [100.0, 180.0]
        assert (line(ib).bid, line(ib).ask, line(ib).last) == (99.99, 100.01, 100.01)
        await play(gateway, 4, ib)
        assert (line(ib).ask, line(ib).bidSize, line(ib).volume) == (100.0, 900.0, 380.0)


async def test_every_quote_is_told_if_that_is_wanted(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path, sample_ms=0) as (gateway, ib):
        prices = heard(ib, "priceSizeTick")
        ib.reqMktData(spy(), "")
        await play(gateway, 1.3, ib)
        assert [price for kind, price, _ in prices if kind == 4] == [100.02, 100.0, 100.01]
        assert [price for kind, price, _ in prices if kind == 2] == [100.02, 100.01, 100.0]


# -------------------------------------------------------------- tick by tick


async def test_tick_by_tick_tells_every_trade_with_its_venue(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        last = heard(ib, "tickByTickAllLast")
        ib.reqTickByTickData(spy(), "AllLast")
        await play(gateway, 5, ib)
    assert [(kind, t - NOON_S, price, size) for kind, t, price, size, *_ in last] == [
        (2, 1, 100.02, 100.0),
        (2, 1, 100.0, 50.0),
        (2, 1, 100.01, 30.0),
        (2, 3, 99.99, 200.0),
    ]
    assert last[0][-2:] == ("P", "@")


async def test_tick_by_tick_tells_quotes_and_middles_when_they_change(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        quotes, middles = heard(ib, "tickByTickBidAsk"), heard(ib, "tickByTickMidPoint")
        await play(gateway, 1, ib)
        ib.reqTickByTickData(spy(), "BidAsk")
        ib.reqTickByTickData(spy(), "MidPoint")
        await play(gateway, 5, ib)
    assert [values[1:5] for values in quotes] == [
        (99.98, 100.02, 300.0, 500.0),
        (99.99, 100.02, 300.0, 500.0),
        (99.99, 100.01, 300.0, 500.0),
        (99.99, 100.0, 300.0, 400.0),
        (99.97, 100.0, 900.0, 400.0),
    ]
    assert [middle for _, middle in middles] == [100.0, 100.005, 100.0, 99.995, 99.985]


async def test_a_bar_is_told_as_one_trade_tick_by_tick(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path) as (gateway, ib):
        last = heard(ib, "tickByTickAllLast")
        ib.reqTickByTickData(spy(), "Last")
        await play(gateway, 2, ib)
    assert [(kind, t - NOON_S, price, size) for kind, t, price, size, *_ in last] == [
        (1, 0, 100.0, 4_000.0),
        (1, 1, 100.01, 4_000.0),
    ]


async def test_past_ticks_come_first_if_they_are_wanted(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        past = heard(ib, "historicalTicksLast")
        await play(gateway, 2, ib)
        ib.reqTickByTickData(spy(), "Last", 2)
        await settle(ib)
    ((ticks, is_done),) = past
    assert ([tick.price for tick in ticks], is_done) == ([100.02, 100.0, 100.01], True)


async def test_tick_by_tick_lines_and_books_are_few(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        found = errors_of(ib)
        for _ in range(6):
            ib.reqTickByTickData(spy(), "Last")
        for _ in range(4):
            ib.reqMktDepth(spy())
        await settle(ib)
        assert [code for _, code in found] == [10190, 309]
        subscriptions = gateway.hub.sessions[1].subscriptions
        assert (len(subscriptions.ticks), len(subscriptions.depths)) == (5, 3)


async def test_a_cancelled_stream_is_silent(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        last = heard(ib, "tickByTickAllLast")
        contract = spy()
        ticker = ib.reqTickByTickData(contract, "Last")
        book = ib.reqMktDepth(contract)
        bars = ib.reqRealTimeBars(contract, 5, "TRADES", False)
        await settle(ib)
        ib.cancelTickByTickData(contract, "Last")
        ib.cancelMktDepth(contract)
        ib.cancelRealTimeBars(bars)
        await play(gateway, 10, ib)
        assert (last, list(bars), book.domBids, ticker.tickByTicks) == ([], [], [], [])
        found = errors_of(ib)
        ib.client.cancelTickByTickData(99)
        ib.client.cancelMktDepth(98, False)
        ib.client.cancelRealTimeBars(97)
        await settle(ib)
    assert found == [(99, 300), (98, 310), (97, 300)]


# --------------------------------------------------------------------- depth


async def test_the_book_has_the_best_row_of_each_side(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        await play(gateway, 1, ib)
        changes = heard(ib, "updateMktDepthL2")
        ticker = ib.reqMktDepth(spy(), 5)
        await settle(ib)
        assert [(row.price, row.size) for row in ticker.domBids] == [(99.98, 300.0)]
        await play(gateway, 2, ib)
        assert [(row.price, row.size) for row in ticker.domBids] == [(99.97, 900.0)]
        assert [(row.price, row.size) for row in ticker.domAsks] == [(100.0, 400.0)]
        gateway.hub.halt("SPY", HALTED_BY_VOLATILITY)
        await settle(ib)
        assert (ticker.domBids, ticker.domAsks) == ([], [])
    # Insert, then updates, then deletion; by side.
    assert [row[2] for row in changes if row[3] == 1] == [0, 1, 1, 2]


async def test_a_book_of_many_exchanges_names_the_one_that_quotes(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        await play(gateway, 1, ib)
        ticker = ib.reqMktDepth(spy(), 5, isSmartDepth=True)
        await settle(ib)
    assert [row.marketMaker for row in ticker.domBids] == ["ARCA"]


# -------------------------------------------------------------- real-time bars


async def test_real_time_bars_come_every_five_seconds_traded_or_not(tmp_path: Path) -> None:
    tape = second_tape(
        [*seconds([100.0, 101.0, 99.0, 100.5, 100.2], volume=10), second(NOON + 11 * NS_PER_S, 98)]
    )
    async with desk(tape, tmp_path) as (gateway, ib):
        bars = ib.reqRealTimeBars(spy(), 5, "TRADES", True)
        middles = ib.reqRealTimeBars(spy(), 5, "MIDPOINT", True)
        await play(gateway, 15, ib)
    shown = [(b.open_, b.high, b.low, b.close, b.volume, b.count) for b in bars]
    assert shown == [
        (100.0, 101.0, 99.0, 100.2, 50.0, 5),
        (100.2, 100.2, 100.2, 100.2, 0.0, 0),
        (98.0, 98.0, 98.0, 98.0, 200.0, 1),
    ]
    assert [round(b.time.timestamp()) - NOON_S for b in bars] == [0, 5, 10]
    assert bars[0].wap == pytest.approx(100.14)
    assert [(b.close, b.volume) for b in middles] == [(100.195, -1.0)] * 2 + [(97.995, -1.0)]
    # What is not traded has no average, whether it moved or not; of a trade it is its price.
    assert [b.wap for b in middles] == [-1.0] * 3
    assert bars[1].wap == 100.2


async def test_real_time_bars_count_as_lines_and_know_four_kinds(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path, limits=Limits(paces_history=False)) as (_, ib):
        found = errors_of(ib)
        ib.reqRealTimeBars(spy(), 5, "BID_ASK", True)
        for _ in range(101):
            ib.reqRealTimeBars(spy(), 5, "TRADES", True)
        await settle(ib)
    assert [code for _, code in found] == [420, 101]


# ------------------------------------------------------------------ data types


async def test_unbought_data_is_refused_or_delayed_by_a_quarter_of_an_hour(tmp_path: Path) -> None:
    prices = [100.0 + n / 100 for n in range(1_000)]
    tape = second_tape(seconds(prices))
    async with desk(tape, tmp_path, unsubscribed=frozenset({"SPY"})) as (gateway, ib):
        found = errors_of(ib)
        ib.reqMktData(spy(), "")
        await settle(ib)
        assert [code for _, code in found] == [354]
        ib.reqMarketDataType(3)
        await play(gateway, 905, ib)
        contract = spy()
        ticker = ib.reqMktData(contract, "")
        prices_told = heard(ib, "priceSizeTick")
        await settle(ib)
        assert (found[-1][1], ticker.marketDataType) == (10167, 3)
        # Five seconds into the tape, as seen a quarter of an hour later.
        assert (ticker.last, ticker.bid, ticker.ask) == (100.04, 100.03, 100.04)
        await play(gateway, 1, ib)
        assert ticker.last == 100.05
        assert {kind for kind, *_ in prices_told} <= {66, 67, 68, 72, 73, 75, 76}


async def test_frozen_data_is_the_last_quote_until_the_market_opens(tmp_path: Path) -> None:
    rows = [second(CLOSE - 86_400 * NS_PER_S - NS_PER_S, 90.0), second(OPEN, 91.0)]
    tape = second_tape(rows, start_ns=OPEN - 60 * NS_PER_S)
    async with desk(tape, tmp_path) as (gateway, ib):
        ib.reqMarketDataType(2)
        ticker = ib.reqMktData(spy(), "")
        await settle(ib)
        assert (ticker.marketDataType, ticker.bid, ticker.ask) == (2, 89.99, 90.0)
        assert (ticker.last, ticker.volume, ticker.close) == (90.0, 2, 90.0)
        await play(gateway, 62, ib)
        assert (ticker.marketDataType, ticker.last) == (1, 91.0)


async def test_streams_that_exist_live_only_are_refused_where_that_was_not_bought(
    tmp_path: Path,
) -> None:
    async with desk(BARS, tmp_path, unsubscribed=frozenset({"*"})) as (_, ib):
        found = errors_of(ib)
        ib.reqMarketDataType(3)
        ib.reqTickByTickData(spy(), "Last")
        ib.reqMktDepth(spy())
        ib.reqRealTimeBars(spy(), 5, "TRADES", True)
        await settle(ib)
    assert [code for _, code in found] == [10189, 10189, 420]


async def test_shortability_is_told_if_asked_for(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path) as (_, ib):
        ticker = ib.reqMktData(spy(), "236")
        await settle(ib)
    assert (ticker.shortableShares, [t.price for t in ticker.ticks if t.tickType == 46]) == (
        10_000_000.0,
        [3.0],
    )


# ----------------------------------------------------------------------- halts


async def test_a_halt_is_told_stops_trading_and_ends(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path) as (gateway, ib):
        ticker = ib.reqMktData(spy(), "")
        await play(gateway, 2, ib)
        assert ticker.halted == 0
        gateway.hub.halt("SPY", HALTED_BY_VOLATILITY)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 3, ib)
        assert (ticker.halted, ticker.bid, ticker.ask, ticker.last) == (2, -1, -1, 100.01)
        assert trade.orderStatus.status == "PreSubmitted"
        gateway.hub.halt("SPY", TRADING)
        await play(gateway, 1, ib)
        assert (ticker.halted, trade.orderStatus.status, ticker.last) == (0, "Filled", 100.05)
        bars = await ib.reqHistoricalDataAsync(spy(), "", "60 S", "1 secs", "TRADES", True)
    # What would have traded in the halt has never happened.
    assert [bar.close for bar in bars] == [100.0, 100.01, 100.05]
    assert [row["kind"] for row in gateway.journal.of("halt")] == [2, 0]


async def test_a_limit_state_marks_prices_and_goes_on_trading(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    async with desk(TICKS, tmp_path, wire_log=log) as (gateway, ib):
        last = heard(ib, "tickByTickAllLast")
        ticker = ib.reqMktData(spy(), "")
        ib.reqTickByTickData(spy(), "Last")
        await settle(ib)
        gateway.hub.halt("SPY", LIMIT_STATE)
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 2, ib)
        assert (ticker.halted, trade.orderStatus.status) == (0, "Filled")
    assert all(attributes.pastLimit for *_, attributes, _, _ in last)
    lines = map(json.loads, log.read_text().splitlines())
    told = [row for direction, _, at_ns, row in lines if direction == ">" and at_ns > NOON]
    # The last field of a price: can be executed automatically, and lies past a limit.
    assert {row[6] for row in told if row[:1] == ["1"] and row[3] in ("1", "2")} == {"3"}


# ------------------------------------------------------------- past ticks, sessions


async def test_past_trades_are_told_from_a_start_or_to_an_end(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        await play(gateway, 4, ib)
        first = await ib.reqHistoricalTicksAsync(spy(), "20131009 12:00:01", "", 1, "TRADES", True)
        last = await ib.reqHistoricalTicksAsync(spy(), "", "20131009 12:00:10", 1, "TRADES", True)
        # All of the second is told, more than was asked for.
        assert [(t.price, t.size, t.exchange) for t in first] == [
            (100.02, 100.0, "P"),
            (100.0, 50.0, "P"),
            (100.01, 30.0, "P"),
        ]
        assert [(t.price, round(t.time.timestamp()) - NOON_S) for t in last] == [(99.99, 3)]


async def test_past_quotes_and_middles(tmp_path: Path) -> None:
    async with desk(TICKS, tmp_path) as (gateway, ib):
        await play(gateway, 4, ib)
        start = "20131009 12:00:02"
        quotes = await ib.reqHistoricalTicksAsync(spy(), start, "", 9, "BID_ASK", True)
        middles = await ib.reqHistoricalTicksAsync(spy(), start, "", 9, "MIDPOINT", True)
        assert [(t.priceBid, t.priceAsk, t.sizeBid, t.sizeAsk) for t in quotes] == [
            (99.97, 100.0, 900.0, 400.0)
        ]
        assert [t.price for t in middles] == [99.985]


async def test_past_ticks_of_a_bar_tape_are_its_bars(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path) as (gateway, ib):
        await play(gateway, 5, ib)
        ticks = await ib.reqHistoricalTicksAsync(spy(), "20131009 12:00:02", "", 2, "TRADES", True)
        quotes = await ib.reqHistoricalTicksAsync(
            spy(), "20131009 12:00:02", "", 2, "BID_ASK", True
        )
    assert [(t.price, t.size, round(t.time.timestamp()) - NOON_S) for t in ticks] == [
        (100.02, 4_000.0, 2),
        (100.03, 4_000.0, 3),
    ]
    assert [(t.priceBid, t.priceAsk) for t in quotes] == [(100.01, 100.02), (100.02, 100.03)]


async def test_past_ticks_need_one_end_and_a_number(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path) as (_, ib):
        found = errors_of(ib)
        for start, end, number, what in (
            ("", "", 10, "TRADES"),
            ("20131009 12:00:00", "20131009 12:00:01", 10, "TRADES"),
            ("20131009 12:00:00", "", 0, "TRADES"),
            ("20131009 12:00:00", "", 1_001, "TRADES"),
            ("20131009 12:00:00", "", 10, "ADJUSTED_LAST"),
        ):
            assert await ib.reqHistoricalTicksAsync(spy(), start, end, number, what, True) == []
    assert [code for _, code in found] == [321] * 5


async def test_the_sessions_of_a_span_with_a_holiday_in_it(tmp_path: Path) -> None:
    # Thanksgiving 2013 was the 28th, the day after a half day.
    friday = NOON + 51 * 86_400 * NS_PER_S + 3_600 * NS_PER_S
    tape = second_tape([second(friday, 100.0)], start_ns=friday, end_ns=friday + 3600 * NS_PER_S)
    async with desk(tape, tmp_path) as (_, ib):
        found = await ib.reqHistoricalScheduleAsync(spy(), 3)
    assert found.timeZone == "America/New_York"
    assert [(s.startDateTime, s.endDateTime, s.refDate) for s in found.sessions] == [
        ("20131126-09:30:00", "20131126-16:00:00", "20131126"),
        ("20131127-09:30:00", "20131127-16:00:00", "20131127"),
        ("20131129-09:30:00", "20131129-13:00:00", "20131129"),
    ]


async def test_the_histogram_counts_the_shares_at_each_price(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0, 100.01, 100.0], volume=10))
    async with desk(tape, tmp_path) as (gateway, ib):
        await play(gateway, 3, ib)
        bins = await ib.reqHistogramDataAsync(spy(), True, "1 day")
        assert [(row.price, row.count) for row in bins] == [(100.0, 20), (100.01, 10)]
        recent = await ib.reqHistogramDataAsync(spy(), False, "1 secs")
        assert [(row.price, row.count) for row in recent] == [(100.0, 10)]
        found = errors_of(ib)
        await ib.reqHistogramDataAsync(spy(), True, "soon")
    assert [code for _, code in found] == [321]


async def test_reference_data_of_a_stock(tmp_path: Path) -> None:
    async with desk(BARS, tmp_path) as (_, ib):
        assert await ib.reqSecDefOptParamsAsync("SPY", "", "STK", 756733) == []
        exchanges = await ib.reqMktDepthExchangesAsync()
        assert ("ARCA", "STK") in {(row.exchange, row.secType) for row in exchanges}
        parts = await ib.reqSmartComponentsAsync("9c0001")
        assert {part.exchange: part.exchangeLetter for part in parts}["ARCA"] == "P"
