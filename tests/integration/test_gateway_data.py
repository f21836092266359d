"""Contracts, quotes, bars and news from the paper gateway, heard by the unmodified library."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from ib_insync import IB, Contract, LimitOrder, NewsTick, Stock, util

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.limits import Limits
from tests.gateway_client import (
    RawClient,
    connected,
    errors_of,
    heard,
    news_tape,
    play,
    raw_client,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import (
    DAY_NS,
    NOON,
    OPEN,
    news,
    second,
    second_tape,
    seconds,
    tick_tape,
)

pytestmark = pytest.mark.anyio

MINUTE_NS = 60 * NS_PER_S
RISING = [100 + n / 100 for n in range(300)]
ROWS = seconds(RISING, start_ns=NOON - 2 * MINUTE_NS)
NEWS = (
    news("Before: (SPY) one", at_ns=NOON - MINUTE_NS, number=1),
    news("Broad market (SPY) in focus", at_ns=NOON + 2 * NS_PER_S, number=2, body="<p>Body</p>"),
    news("About (IBM)", at_ns=NOON + 3 * NS_PER_S, number=3),
    news("Letter, naïve (SPY)", at_ns=NOON + 4 * NS_PER_S, number=4, provider="DJNL"),
)
TAPE = second_tape(ROWS, headlines=NEWS)


def told(tick: NewsTick) -> tuple[str, str, int]:
    return tick.providerCode, tick.articleId, tick.timeStamp


def headlines(ib: IB) -> list[NewsTick]:
    found: list[NewsTick] = []
    ib.tickNewsEvent += found.append
    return found


async def test_a_contract_is_qualified_with_its_listing(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        contract = spy()
        await ib.qualifyContractsAsync(contract)
        (details,) = await ib.reqContractDetailsAsync(contract)
    assert (contract.conId, contract.exchange, contract.primaryExchange) == (
        756733,
        "SMART",
        "ARCA",
    )
    assert (details.minTick, details.stockType) == (0.01, "ETF")
    assert details.liquidHours.startswith("20131009:0930-20131009:1600;")
    assert details.timeZoneId == "America/New_York"


async def test_an_unknown_contract_is_an_error_200(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        assert await ib.reqContractDetailsAsync(Stock("XYZ", "SMART", "USD")) == []
        ib.reqMktData(Stock("XYZ", "SMART", "USD"))
        await settle(ib)
    assert [code for _, code in found] == [200, 200]


async def test_symbols_rules_and_news_feeds_can_be_looked_up(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        matches: Any = await ib.reqMatchingSymbolsAsync("S&P")
        rule: Any = await ib.reqMarketRuleAsync(26)
        feeds: Any = await ib.reqContractDetailsAsync(Contract(secType="NEWS", exchange="BRFG"))
        providers = await ib.reqNewsProvidersAsync()
    assert [match.contract.symbol for match in matches] == ["SPY"]
    assert [(step.lowEdge, step.increment) for step in rule] == [(0.0, 0.01)]
    assert [feed.contract.symbol for feed in feeds] == ["BRFG:BRFG_ALL"]
    assert [provider.code for provider in providers] == ["BRFG", "DJNL"]


async def test_the_market_rule_of_a_low_price_agrees_with_its_tick_and_its_orders(
    tmp_path: Path,
) -> None:
    low = replace(TAPE.instruments["IBM"], tick_usd=0.0001)
    tape = replace(TAPE, instruments={**TAPE.instruments, "IBM": low})
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        contract = Stock("IBM", "SMART", "USD")
        (details,) = await ib.reqContractDetailsAsync(contract)
        (rule_id,) = set(details.marketRuleIds.split(","))
        rule: Any = await ib.reqMarketRuleAsync(int(rule_id))
        found = errors_of(ib)
        for price in (0.5123, 1.5123):
            ib.placeOrder(contract, LimitOrder("BUY", 1, price, tif="GTC"))
        await settle(ib)
    assert details.minTick == 0.0001
    assert [(step.lowEdge, step.increment) for step in rule] == [(0.0, 0.0001), (1.0, 0.01)]
    assert [code for _, code in found] == [110]


async def test_quotes_follow_the_tape(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        ticker = ib.reqMktData(spy(), "233")
        await settle(ib)
        assert (ticker.last, ticker.bid, ticker.ask) == (101.19, 101.18, 101.19)
        assert (ticker.bidSize, ticker.halted, ticker.marketDataType) == (500, 0, 1)

        await play(gateway, 2, ib)
        assert (ticker.last, ticker.bid, ticker.ask) == (101.21, 101.2, 101.21)
        assert (ticker.open, ticker.high, ticker.low) == (100.0, 101.21, 100.0)
        # 122 seconds of 200 shares are 244 lots of 100.
        assert (ticker.volume, ticker.rtVolume) == (244, 244)
        assert ticker.rtTime is not None
        assert 0 < NOON + 2 * NS_PER_S - ticker.rtTime.timestamp() * NS_PER_S <= NS_PER_S


async def test_a_line_that_stays_open_hears_the_new_days_close_and_open(tmp_path: Path) -> None:
    rows = [
        *(second(OPEN - DAY_NS, 95.0), second(NOON - DAY_NS, 96.0)),
        *(second(OPEN - 2 * NS_PER_S, 98.0), second(OPEN, 100.0)),
    ]
    tape = second_tape(rows, start_ns=NOON - DAY_NS)
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        ticker = ib.reqMktData(spy())
        await play(gateway, 1, ib)
        assert (ticker.last, ticker.open, util.isNan(ticker.close)) == (96.0, 95.0, True)
        gateway.hub.step_to(OPEN - NS_PER_S)
        await settle(ib)
        assert (ticker.last, ticker.open, ticker.close) == (98.0, 95.0, 96.0)
        await play(gateway, 2, ib)
        assert (ticker.last, ticker.open, ticker.close) == (100.0, 100.0, 96.0)


async def test_a_cancelled_line_is_silent(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        contract = spy()
        ticker = ib.reqMktData(contract)
        await settle(ib)
        ib.cancelMktData(contract)
        await play(gateway, 3, ib)
        assert ticker.last == 101.19


@pytest.mark.parametrize("regulatory", [False, True])
async def test_a_snapshot_ends_by_itself(tmp_path: Path, regulatory: bool) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        ends = heard(ib, "tickSnapshotEnd")
        ticker = ib.reqMktData(spy(), "", not regulatory, regulatory)
        await play(gateway, 2, ib)
        assert (ticker.last, len(ends)) == (101.19, 1)
        assert not gateway.hub.has_streamed


async def test_a_snapshot_has_no_generic_ticks_and_no_news(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        ib.client.reqMktData(7, spy(), "233", True, False, [])
        ib.client.reqMktData(8, spy(), "233", False, True, [])
        ib.client.reqMktData(9, news_tape(), "", True, False, [])
        await settle(ib)
    assert found == [(7, 414), (8, 414), (9, 321)]


async def test_an_id_in_use_and_an_unknown_id_are_errors(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        for _ in range(2):
            ib.client.reqMktData(77, spy(), "", False, False, [])
        ib.client.cancelMktData(78)
        ib.client.reqMktData(79, spy(), "nonsense", False, False, [])
        await settle(ib)
    assert found == [(77, 322), (78, 300), (79, 321)]


async def test_lines_are_limited_as_the_brokers_are(tmp_path: Path) -> None:
    limits = Limits(max_messages_per_s=0)
    async with (
        standing_gateway(TAPE, tmp_path, limits=limits) as gateway,
        connected(gateway.port) as ib,
    ):
        ib.client.MaxRequests = 0
        found = errors_of(ib)
        for req_id in range(1000, 1101):
            ib.client.reqMktData(req_id, spy(), "mdoff", False, False, [])
        await settle(ib)
    assert found == [(1100, 101)]


async def test_bars_end_with_the_forming_one(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 31)
        bars = await ib.reqHistoricalDataAsync(
            spy(), "", "180 S", "1 min", "TRADES", useRTH=True, formatDate=2
        )
        local = await ib.reqHistoricalDataAsync(spy(), "", "60 S", "30 secs", "TRADES", True)
    assert [bar.date for bar in bars] == [
        datetime(2013, 10, 9, 15, minute, tzinfo=timezone.utc) for minute in (58, 59)
    ] + [datetime(2013, 10, 9, 16, 0, tzinfo=timezone.utc)]
    assert [bar.volume for bar in bars] == [12_000, 12_000, 31 * 200]
    assert bars[-1].close == 101.5
    assert [bar.date.isoformat() for bar in local] == [
        "2013-10-09T12:00:00-04:00",
        "2013-10-09T12:00:30-04:00",
    ]


async def test_bars_that_cannot_be_had_are_an_error(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        ibm = Stock("IBM", "SMART", "USD")
        asked: list[tuple[Any, ...]] = [
            (ibm, "", "60 S", "1 min", "TRADES", True),
            (spy(), "", "60 S", "7 mins", "TRADES", True),
            (spy(), "", "60 S", "1 min", "FEE_RATE", True),
        ]
        answers = [await ib.reqHistoricalDataAsync(*values) for values in asked]
    assert [list(answer) for answer in answers] == [[], [], []]
    assert [code for _, code in found] == [162, 321, 321]


async def test_bars_are_kept_up_to_date(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        bars = await ib.reqHistoricalDataAsync(
            spy(), "", "60 S", "30 secs", "TRADES", True, 2, keepUpToDate=True
        )
        news_bars: list[bool] = []
        bars.updateEvent += lambda _bars, is_new: news_bars.append(is_new)
        await play(gateway, 32, ib)
        whole = await ib.reqHistoricalDataAsync(spy(), "", "60 S", "30 secs", "TRADES", True, 2)
        assert list(bars)[-2:] == list(whole)
        assert news_bars.count(True) == 2

        ib.cancelHistoricalData(bars)
        await play(gateway, 5, ib)
        assert len(news_bars) == 32


async def test_regular_bars_asked_for_before_the_bell_run_on_into_the_session(
    tmp_path: Path,
) -> None:
    rows = [second(OPEN - DAY_NS, 95.0), second(OPEN - 3 * NS_PER_S, 98.0), second(OPEN, 100.0)]
    tape = second_tape(rows, start_ns=OPEN - MINUTE_NS)
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 58)
        bars = await ib.reqHistoricalDataAsync(
            spy(), "", "1 D", "1 min", "TRADES", True, 2, keepUpToDate=True
        )
        assert [bar.close for bar in bars] == [95.0]
        await play(gateway, 4, ib)
        assert [bar.close for bar in bars] == [95.0, 100.0]


async def test_the_start_of_a_history_depends_on_what_it_shows_and_when(tmp_path: Path) -> None:
    late = tick_tape(
        quotes=[(1.0, 99.0, 101.0, 1, 1)],
        rows=[second(OPEN - MINUTE_NS, 98.0), second(OPEN, 100.0)],
    )
    async with standing_gateway(late, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)

        async def head(what: str, rth: bool) -> Any:
            at: Any = await ib.reqHeadTimeStampAsync(spy(), what, rth, 2)
            return at and round(at.timestamp()) * NS_PER_S

        assert await head("TRADES", True) == OPEN
        assert await head("TRADES", False) == OPEN - MINUTE_NS
        assert not await head("MIDPOINT", True)
        await play(gateway, 2)
        assert await head("BID", True) == NOON + NS_PER_S
        assert not await head("FOO", True)
    assert [code for _, code in found] == [162, 321]


async def test_a_provider_tape_tells_every_headline_of_its_provider(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = headlines(ib)
        ib.reqMktData(news_tape("BRFG"), "mdoff,292")
        await play(gateway, 10, ib)
    assert [told(tick) for tick in found] == [
        ("BRFG", "BRFG$00000002", (NOON + 2 * NS_PER_S) // 1_000_000),
        ("BRFG", "BRFG$00000003", (NOON + 3 * NS_PER_S) // 1_000_000),
    ]
    assert (found[0].headline, found[0].extraData) == (NEWS[1].headline, "A:1:L:en")


async def test_a_stocks_news_names_the_stock_and_starts_with_the_past(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = headlines(ib)
        ib.reqMktData(spy(), "mdoff,292")
        await play(gateway, 10, ib)
        assert [tick.articleId[-1] for tick in found] == ["1", "2", "4"]
        assert found[-1].headline == "Letter, naïve (SPY)"

        ib.reqMktData(spy(), "mdoff,292:DJNL")
        await settle(ib)
        assert [tick.articleId for tick in found[3:]] == ["DJNL$00000004"]


async def test_a_news_feed_needs_its_generic_tick(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        ib.reqMktData(news_tape(), "")
        ib.reqMktData(news_tape("FLY"), "mdoff,292")
        await settle(ib)
    assert [code for _, code in found] == [321, 200]


async def test_past_headlines_are_told_newest_first_with_their_metadata(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 10)
        found: Any = await ib.reqHistoricalNewsAsync(756733, "BRFG+DJNL", "", "", 10)
        newest: Any = await ib.reqHistoricalNewsAsync(756733, "BRFG", "", "", 1)
        since: Any = await ib.reqHistoricalNewsAsync(
            756733, "BRFG+DJNL", "2013-10-09 16:00:00.0", "2013-10-09 16:00:02.0", 10
        )
    assert [item.articleId[-1] for item in found] == ["4", "2", "1"]
    assert found[2].headline == "{A:1:L:en}Before: (SPY) one"
    assert found[2].time == datetime(2013, 10, 9, 15, 59)  # noqa: DTZ001 - UTC by convention
    assert [item.articleId for item in newest] == ["BRFG$00000002"]
    assert [item.articleId for item in since] == ["BRFG$00000002"]


async def test_an_article_is_its_body_or_its_headline(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 10)
        body = await ib.reqNewsArticleAsync("BRFG", "BRFG$00000002")
        headline = await ib.reqNewsArticleAsync("DJNL", "DJNL$00000004")
        found = errors_of(ib)
        await ib.reqNewsArticleAsync("BRFG", "BRFG$00000009")
        await ib.reqNewsArticleAsync("FLY", "FLY$00000001")
        await ib.reqHistoricalNewsAsync(756733, "FLY", "", "", 1)
    assert (body.articleType, body.articleText) == (0, "<p>Body</p>")
    assert headline.articleText == "Letter, naïve (SPY)"
    assert [code for _, code in found] == [10172, 10276, 321]


async def test_a_client_that_does_not_read_gets_conflated_quotes_and_the_whole_volume(
    tmp_path: Path,
) -> None:
    day = second_tape(seconds([100 + n % 7 / 100 for n in range(10_000)]))

    def subscribe(client: RawClient) -> None:
        client.start()
        client.send(1, 11, 5, 756733, *[""] * 11, 0, "233", 0, 0, "")
        client.send(49, 1)
        client.read_until(49)

    def read(client: RawClient) -> list[list[str]]:
        client.send(49, 1)
        before = client.read_until(49)
        # What was conflated follows once the backlog is gone.
        client.send(49, 1)
        return before + client.read_until(49)

    async with standing_gateway(day, tmp_path) as gateway:
        with raw_client(gateway.port, receive_bytes=4096) as client:
            await anyio.to_thread.run_sync(subscribe, client)
            await play(gateway, 10_000)
            messages = await anyio.to_thread.run_sync(read, client)
    volumes = [int(m[4]) for m in messages if m[0] == "2" and m[3] == "8"]
    assert volumes == sorted(volumes)
    assert volumes[-1] == 10_000 * 200 / 100
    assert len(volumes) < 10_000
