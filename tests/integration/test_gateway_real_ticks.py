"""Real recorded ticks as tapes, where the recordings are at hand: nothing is lost or invented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pytest
from ib_insync import IB, LimitOrder, MarketOrder, Stock

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.gateway.server import GatewaySettings, paper_gateway
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.records.tape import BAR_COLUMNS, Tape, write_tape
from momentum_lab.records.tape_ticks import (
    HALT_COLUMNS,
    QUOTE_COLUMNS,
    TRADE_COLUMNS,
    empty_table,
)

TICKS = Path(__file__).parents[3] / "shared" / "data" / "ticks"
SPY_TRADES = TICKS / "trades" / "SPY.parquet"
# The quotes of a small company's run; one row in five is crossed.
OLMA_QUOTES = TICKS / "nbbo_100ms" / "OLMA-20251118.parquet"

pytestmark = pytest.mark.timeout(60)
needs_spy = pytest.mark.skipif(not SPY_TRADES.exists(), reason="the recorded trades are not here")
needs_olma = pytest.mark.skipif(not OLMA_QUOTES.exists(), reason="the recorded quotes are not here")


def tape_of(symbol: str, *, start: str, seconds: int, **tables: pd.DataFrame) -> Tape:
    start_ns = pd.Timestamp(start).value
    return Tape(
        name=symbol.lower(),
        start_ns=start_ns,
        end_ns=start_ns + seconds * NS_PER_S,
        timezone="America/New_York",
        instruments={symbol: Instrument(symbol, 4711, 0.01, "NASDAQ")},
        spreads={symbol: SpreadModel()},
        providers={},
        bars=empty_table(BAR_COLUMNS),
        **{"halts": empty_table(HALT_COLUMNS), **tables},
    )


def recorded(path: Path, symbol: str, *, start: str, seconds: int) -> pd.DataFrame:
    rows = pd.read_parquet(path)
    since = pd.Timestamp(start)
    rows = rows[(rows["ts"] >= since) & (rows["ts"] <= since + pd.Timedelta(seconds=seconds))]
    at_ns = rows["ts"].astype("datetime64[ns, UTC]").astype("int64")
    return rows.assign(symbol=symbol, at_ns=at_ns).reset_index(drop=True)


def played(tape: Tape, folder: Path, client: Any) -> Any:
    """Run a client against the tape at full speed, in virtual time."""
    write_tape(tape, folder / "tape")
    settings = GatewaySettings(tape=folder / "tape", fast=1, slow=1, opened_s=0)

    async def main() -> Any:
        async with paper_gateway(settings) as gateway:
            ib = IB()
            await ib.connectAsync("127.0.0.1", gateway.port, clientId=1, timeout=5)
            try:
                return await client(ib, gateway)
            finally:
                ib.disconnect()

    return run_virtual(main)


@needs_spy
def test_every_trade_of_a_busy_minute_is_told_tick_by_tick(tmp_path: Path) -> None:
    start = "2013-10-09T18:00:00Z"
    rows = recorded(SPY_TRADES, "SPY", start=start, seconds=60)
    trades = rows[list(TRADE_COLUMNS)]
    tape = tape_of("SPY", start=start, seconds=60, trades=trades)

    async def listen(ib: IB, _gateway: object) -> tuple[list[Any], float]:
        told: list[Any] = []
        ib.wrapper.tickByTickAllLast = lambda *values: told.append(values[3:5])  # type: ignore[method-assign] # the library's own list keeps the last chunk alone
        ib.reqTickByTickData(Stock("SPY", "SMART", "USD"), "AllLast")
        ticker = ib.reqMktData(Stock("SPY", "SMART", "USD"), "233")
        await anyio.sleep(70)
        return told, ticker.volume

    told, volume = played(tape, tmp_path, listen)

    after_start = trades[trades["at_ns"] > tape.start_ns]
    assert told == [
        (float(p), float(s)) for p, s in zip(after_start["price"], after_start["size"], strict=True)
    ]
    assert volume == trades["size"].sum() // 100


@needs_olma
def test_real_quotes_are_told_to_the_last_and_crossed_ones_fill_nothing(tmp_path: Path) -> None:
    start, seconds = "2025-11-18T14:30:00Z", 600
    quotes = recorded(OLMA_QUOTES, "OLMA", start=start, seconds=seconds)[list(QUOTE_COLUMNS)]
    tape = tape_of("OLMA", start=start, seconds=seconds, quotes=quotes)
    last = quotes[quotes["at_ns"] <= tape.end_ns].iloc[-1]

    async def trade(ib: IB, gateway: Any) -> tuple[Any, list[Any]]:
        contract = Stock("OLMA", "SMART", "USD")
        await ib.qualifyContractsAsync(contract)
        ticker = ib.reqMktData(contract, "")
        for number in range(20):
            await anyio.sleep(25)
            side = "BUY" if number % 2 else "SELL"
            ib.placeOrder(contract, MarketOrder(side, 10))
            ib.placeOrder(contract, LimitOrder(side, 10, 12.0, tif="IOC"))
        await anyio.sleep(120)
        return (ticker.bid, ticker.ask), list(gateway.hub.exchange.books.executions)

    shown, executions = played(replace(tape), tmp_path, trade)

    assert shown == (last["bid"], last["ask"])
    assert len(executions) >= 15
    for fill in executions:
        held = quotes[quotes["at_ns"] <= fill.at_ns].iloc[-1]
        assert 0 < held["bid"] < held["ask"]
        # The far side and the slippage of the model, never better.
        slack = max(0.01, 0.25 * (held["ask"] - held["bid"])) + 0.01
        assert held["bid"] - slack <= fill.price_usd <= held["ask"] + slack
