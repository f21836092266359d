"""Lines of market data under faults that swallow them: told anew when they are heard again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from ib_insync import IB, Stock, Ticker

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway
from tests.gateway_client import connected, errors_of, heard, play, settle, spy, standing_gateway
from tests.gateway_factories import second_tape, seconds, tick_tape

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SILENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("2103", {}), ("1100", {}), ("nightly_reset", {"restored": 1102}), ("half_open", {})),
    *(("frozen_quotes", {}), ("competing_session", {}), ("delayed_data", {})),
)
BEFORE, AFTER = (99.99, 100.01), (104.98, 105.02)
# Quote and trades change once, in the sixth second, and never again.
TAPE = tick_tape(
    trades=[(1.0, 100.0, 400), (5.0, 105.0, 300)],
    quotes=[(0.5, *BEFORE, 500, 600), (5.0, *AFTER, 700, 800)],
)


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[tuple[Gateway, IB, Ticker]]:
    """A gateway whose client has three lines, three seconds after noon."""
    async with standing_gateway(TAPE, folder, hold=False) as gateway, connected(gateway.port) as ib:
        stock = spy()
        ticker = ib.reqMktData(stock, "233")
        ib.reqTickByTickData(stock, "BidAsk")
        ib.reqMktDepth(stock)
        await play(gateway, 3, ib)
        yield gateway, ib, ticker


async def unheard(gateway: Gateway, ib: IB, n_seconds: float, *names: str) -> None:
    """Let market time pass unheard, end faults in their order, and hear what that tells."""
    gateway.hub.step_to(gateway.now_ns + round(n_seconds * NS_PER_S))
    for name in names:
        gateway.hub.faults.end(name)
    await settle(ib)


def frames_of(ib: IB) -> list[list[str]]:
    """Collect the fields of every message from now on."""
    found: list[list[str]] = []
    decoder: Any = ib.client.decoder
    decode = decoder.interpret

    def both(fields: list[str]) -> None:
        found.append(list(fields))
        decode(fields)

    decoder.interpret = both
    return found


def quote(ticker: Ticker) -> tuple[float, ...]:
    return ticker.bid, ticker.ask, ticker.bidSize, ticker.askSize


def book(ticker: Ticker) -> list[tuple[float, float]]:
    return [(row.price, row.size) for row in (*ticker.domBids, *ticker.domAsks)]


@pytest.mark.parametrize(("name", "parameters"), SILENCES)
async def test_a_line_that_is_heard_again_tells_how_things_stand(
    name: str, parameters: dict[str, Any], tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib, ticker):
        assert (quote(ticker), ticker.last) == ((*BEFORE, 500, 600), 100.0)
        gateway.inject(name, parameters)
        told = frames_of(ib)
        await unheard(gateway, ib, 5, name)
        assert (quote(ticker), ticker.last) == ((*AFTER, 700, 800), 105.0)
        assert (ticker.high, ticker.volume, ticker.marketDataType) == (105.0, 7, 1)
        assert [fields[4:6] for fields in told if fields[0] == "99"] == [list(map(str, AFTER))]
        assert book(ticker) == [(AFTER[0], 700), (AFTER[1], 800)]


@pytest.mark.parametrize("name", ["2103", "1100", "frozen_quotes"])
async def test_what_has_not_changed_is_told_again_but_no_trade_twice(
    name: str, tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib, _):
        gateway.inject(name)
        gateway.hub.step_to(gateway.now_ns + NS_PER_S)
        told = frames_of(ib)
        await unheard(gateway, ib, 0, name)
        prices = [(fields[3], float(fields[4])) for fields in told if fields[0] == "1"]
        assert prices == [("1", BEFORE[0]), ("2", BEFORE[1])]
        assert [fields for fields in told if fields[0] == "46"] == []


async def test_a_line_stays_silent_until_the_last_of_its_faults_has_ended(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib, ticker):
        gateway.inject("2103")
        gateway.hub.step_to(gateway.now_ns + 3 * NS_PER_S)
        gateway.inject("frozen_quotes")
        await unheard(gateway, ib, 1, "2103")
        assert (quote(ticker), ticker.last) == ((*BEFORE, 500, 600), 100.0)
        await unheard(gateway, ib, 1, "frozen_quotes")
        # The trade came under the first of them.
        assert (quote(ticker), ticker.last) == ((*AFTER, 700, 800), 105.0)


async def test_delayed_lines_are_told_anew_as_delayed_ones(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib, ticker):
        for name in ("delayed_data", "2103"):
            gateway.inject(name)
        await unheard(gateway, ib, 5, "2103")
        assert (quote(ticker), ticker.last) == ((*AFTER, 700, 800), 105.0)
        assert (book(ticker), ticker.marketDataType) == ([(BEFORE[0], 500), (BEFORE[1], 600)], 3)
        await unheard(gateway, ib, 0, "delayed_data")
        assert (book(ticker), ticker.marketDataType) == ([(AFTER[0], 700), (AFTER[1], 800)], 1)


@pytest.mark.parametrize(
    ("name", "told"),
    [("delayed_data", ([10167], 3, 100.0)), ("competing_session", ([10197], 1, None))],
)
async def test_a_line_that_is_opened_under_a_fault_gets_what_the_others_get(
    name: str, told: tuple[list[int], int, float | None], tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib, _):
        gateway.inject(name)
        await settle(ib)
        codes, frames = errors_of(ib), frames_of(ib)
        stock = spy()
        ticker = ib.reqMktData(stock, "233")
        bars = ib.reqRealTimeBars(stock, 5, "TRADES", useRTH=False)
        await settle(ib)
        last = None if isnan(ticker.last) else ticker.last
        assert ([code for _, code in codes], ticker.marketDataType, last) == told
        await play(gateway, 12, ib)
        kinds = {int(fields[3]) for fields in frames if fields[0] in ("1", "2", "45", "46")}
        assert kinds <= {*range(66, 77), 88, 90}
        assert (bool(kinds), len(bars)) == (name == "delayed_data", 0)
        await unheard(gateway, ib, 0, name)
        assert (quote(ticker), ticker.last, ticker.marketDataType) == ((*AFTER, 700, 800), 105.0, 1)


@pytest.mark.parametrize(
    "names", [("frozen_quotes",), ("2103",), ("1100",), ("nightly_reset",), ("2103", "1100")]
)
async def test_a_snapshot_without_ticks_ends_after_the_time_of_the_broker(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib, _):
        for name in names:
            gateway.inject(name)
        ends = heard(ib, "tickSnapshotEnd")
        snapshot = ib.reqMktData(Stock("SPY", "ARCA", "USD"), snapshot=True)
        await play(gateway, 10, ib)
        assert ends == []
        await play(gateway, 1, ib)
        assert (len(ends), isnan(snapshot.last)) == (1, True)


@pytest.mark.parametrize("name", ["frozen_quotes", "1100"])
async def test_a_snapshot_without_ticks_ends_though_the_fault_is_over_before(
    name: str, tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib, _):
        gateway.inject(name, for_s=3)
        ends = heard(ib, "tickSnapshotEnd")
        ib.reqMktData(Stock("SPY", "ARCA", "USD"), snapshot=True)
        await play(gateway, 11, ib)
        assert len(ends) == 1


async def test_bars_that_are_kept_up_to_date_stop_with_the_quotes(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0 + n / 100 for n in range(60)]))
    async with (
        standing_gateway(tape, tmp_path, hold=False) as gateway,
        connected(gateway.port) as ib,
    ):
        await play(gateway, 20, ib)
        bars = await ib.reqHistoricalDataAsync(
            spy(), "", "60 S", "5 secs", "TRADES", useRTH=False, keepUpToDate=True
        )
        for name in ("competing_session", "delayed_data", "frozen_quotes"):
            gateway.inject(name)
            before = (len(bars), bars[-1].close)
            await play(gateway, 6, ib)
            assert (len(bars), bars[-1].close) == before
            gateway.hub.faults.end(name)
            await play(gateway, 1, ib)
            today = gateway.hub.market.today("SPY")
            assert today is not None
            assert bars[-1].close == today.price


async def test_lines_of_other_clients_are_told_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib, _), connected(gateway.port, 2) as other:
        mine, theirs = ib.reqMktData(spy()), other.reqMktData(spy())
        await play(gateway, 0, ib, other)
        gateway.inject("2103", {"client_id": 2})
        await play(gateway, 5, ib, other)
        assert (quote(mine)[:2], quote(theirs)[:2]) == (AFTER, BEFORE)
        heard = mine.time
        await unheard(gateway, other, 0, "2103")
        await settle(ib)
        assert (quote(theirs)[:2], mine.time) == (AFTER, heard)
