"""What a whole trading day costs in virtual time, beside a bare client that drains the same day.

Run:  python benchmarks/virtual_day.py [--symbols 10] [--headlines 100] [--minutes 390]

One regular session of one-second bars is made from a seed and played at 1x in virtual time, in
turns (bare, live, bare, live) in one run:

* bare: the unmodified client library subscribes to every symbol and to the news, and does nothing;
* live: the whole system trades the day: connector, news handler, workers, execution, record.

Prints seconds of both, their ratio, and whether all live days gave the same orders.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import anyio
import numpy as np
import pandas as pd
from ib_insync import IB, Contract, Stock

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.faces.rehearsal import rehearse
from momentum_lab.gateway.server import paper_gateway
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.parameters import Parameters, RecordParameters, load_parameters
from momentum_lab.records.tape import BAR_COLUMNS, Tape, TapeHeadline, write_tape
from momentum_lab.records.trade_store import TradeStore

ROOT = Path(__file__).parents[1]
# 2013-10-09, 09:30 New York; the day before is the baseline.
OPEN_NS = 1_381_325_400 * NS_PER_S
DAY_NS = 86_400 * NS_PER_S
SEED = 20131009
# Two at least: one run alone cannot differ from another.
ROUNDS = 2


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--symbols", type=int, default=10)
    options.add_argument("--headlines", type=int, default=100)
    options.add_argument("--minutes", type=int, default=390)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tape = make_tape(asked.symbols, asked.headlines, asked.minutes)
        write_tape(tape, folder / "tape")
        settings = GatewaySettings(tape=folder / "tape", fast=1, slow=1, opened_s=0)
        bare_s, live_s, updates, orders = [], [], [], []
        for number in range(ROUNDS):
            began = perf_counter()
            updates.append(run_virtual(drain, settings, tape))
            bare_s.append(perf_counter() - began)
            began = perf_counter()
            orders.append(trade(settings, tape, folder / str(number)))
            live_s.append(perf_counter() - began)
    bare, live = statistics.median(bare_s), statistics.median(live_s)
    ratios = [one / other for one, other in zip(live_s, bare_s, strict=True)]
    sys.stdout.write(
        f"{asked.symbols} symbols, {asked.minutes} minutes, {asked.headlines} headlines,"
        f" {updates[0]} quote updates (the same each time: {len(set(updates)) == 1})\n"
        f"bare client {bare:.1f} s, whole system {live:.1f} s:"
        f" {statistics.median(ratios):.2f} x ({min(ratios):.2f}..{max(ratios):.2f})\n"
        f"{len(orders[0])} orders, the same each time:"
        f" {all(found == orders[0] for found in orders)}\n"
    )


def make_tape(n_symbols: int, n_headlines: int, minutes: int, *, noise: float = 1e-5) -> Tape:
    """Return a day of seeded one-second bars after half an hour of the day before.

    Each headline is followed by a jump of 0.5 % and a minute of tenfold volume, so that there is
    something to trade. `noise` is the standard deviation of the return of one second.
    """
    rng = np.random.default_rng(SEED)
    names = [f"S{number:02d}" for number in range(n_symbols)]
    seconds = minutes * 60
    at_s = np.sort(rng.integers(60, max(61, seconds - 600), n_headlines))
    about = rng.integers(0, n_symbols, n_headlines)
    frames = []
    for number, name in enumerate(names):
        returns = rng.normal(0, noise, seconds)
        volume = rng.integers(100, 400, seconds)
        for start_s in at_s[about == number]:
            returns[start_s + 5 : start_s + 15] += rng.choice((-1, 1)) * 5e-4
            volume[start_s + 5 : start_s + 65] *= 10
        price = np.round(100 * np.exp(np.cumsum(returns)), 2)
        quiet = np.round(100 * np.exp(np.cumsum(rng.normal(0, 1e-5, 1800))), 2)
        days = ((OPEN_NS - DAY_NS + 21_600 * NS_PER_S, quiet, rng.integers(100, 400, 1800)),)
        for start_ns, close, shares in (*days, (OPEN_NS, price, volume)):
            opened = np.concatenate(([close[0]], close[:-1]))
            frames.append(
                pd.DataFrame(
                    {
                        "symbol": name,
                        "at_ns": start_ns + np.arange(len(close)) * NS_PER_S,
                        "seconds": 1,
                        "open": opened,
                        "high": np.maximum(opened, close),
                        "low": np.minimum(opened, close),
                        "close": close,
                        "volume": shares,
                    }
                )
            )
    return Tape(
        name="bench",
        start_ns=OPEN_NS,
        end_ns=OPEN_NS + seconds * NS_PER_S,
        timezone="America/New_York",
        instruments={
            n: Instrument(n, 1000 + k, primary_exchange="NYSE") for k, n in enumerate(names)
        },
        spreads={name: SpreadModel(0.01) for name in names},
        providers={"BRFG": "Briefing.com General Market Columns"},
        bars=pd.concat(frames)[list(BAR_COLUMNS)],
        headlines=tuple(
            TapeHeadline(
                OPEN_NS + int(second) * NS_PER_S,
                "BRFG",
                f"BRFG${number:08x}",
                f"Company {names[which]} ({names[which]}) says something",
            )
            for number, (second, which) in enumerate(zip(at_s, about, strict=True))
        ),
    )


async def drain(settings: GatewaySettings, tape: Tape) -> int:
    """Let the bare client hear the whole day; return how many ticker updates it got."""
    n_updates = 0

    def count(tickers: set[object]) -> None:
        nonlocal n_updates
        n_updates += len(tickers)

    async with paper_gateway(settings, report=lambda _text: None) as gateway:
        ib = IB()
        await ib.connectAsync("127.0.0.1", gateway.port, clientId=1, timeout=10)
        ib.pendingTickersEvent += count
        for name, instrument in tape.instruments.items():
            stock = Stock(name, "SMART", "USD", conId=instrument.con_id)
            ib.reqMktData(stock, "233,292", False, False)
        ib.reqMktData(
            Contract(secType="NEWS", symbol="BRFG:BRFG_ALL", exchange="BRFG"), "mdoff,292"
        )
        await anyio.sleep((tape.end_ns - tape.start_ns) / NS_PER_S)
        ib.disconnect()
    return n_updates


def trade(settings: GatewaySettings, tape: Tape, folder: Path) -> list[tuple[object, ...]]:
    """Let the whole system trade the day; return its orders."""
    result = rehearse(_parameters(tape), settings, root=folder)
    store = TradeStore(result.database)
    try:
        return [tuple(row.values()) for row in store.table("orders", result.run_id)]
    finally:
        store.close()


def _parameters(tape: Tape) -> Parameters:
    found = load_parameters(ROOT / "parameters" / "demo.yaml")
    return replace(
        found,
        universe=tuple(tape.instruments),
        records=RecordParameters(database="trades.db", runs="runs"),
    )


if __name__ == "__main__":
    main()
