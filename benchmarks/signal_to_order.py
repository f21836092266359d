"""How long a signal takes to become the bytes of an order, beside the library's bare placeOrder.

Run:  python benchmarks/signal_to_order.py [--sessions 4]

A whole session is connected to the paper gateway, which is a process of its own and plays a seeded
market at the pace of the market. The record grows to that of a day of twice as many entries as the
limits of the account allow. In turns, in one loop, session after session:

* signal: from the call of `ExecutionService.enter` to the bytes of the entry and of the stop and
  target that leave with it at the transport: the gate, guards, risk and size, decision and intents
  committed, three orders encoded. The record is that of the session. Its position is closed again
  before the next turn, which is not timed.
* bare bracket: the same three orders by three calls of the library.
* bare: from the call of `IB.placeOrder` of an unmodified ib_insync, connected to the same gateway,
  to the bytes of the order at the transport.

The record is a write-ahead log. With synchronous=NORMAL a committed intent outlives the death of
the process, with FULL a power cut as well: both, order by order. Prints median and 99th percentile
of each, and by how much the medians differ from both kinds of bare calls.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from ib_insync import IB, MarketOrder, Stock
from processes import gateway_process
from virtual_day import OPEN_NS, ROOT, make_tape

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.news import Headline
from momentum_lab.core.pacing import Priority
from momentum_lab.core.position import ExitReason
from momentum_lab.core.signal import Outcome, TradeSignal
from momentum_lab.core.sizing_parameters import SizingParameters
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.live.session import LiveSession
from momentum_lab.parameters import (
    Parameters,
    RecordParameters,
    ReplayParameters,
    load_parameters,
)
from momentum_lab.records.tape import write_tape

LIMIT_S = 30.0
# The limiter and the library's own throttle never hold an order back at this pace.
PAUSE_S = 0.05
BARE = "bare placeOrder"
BRACKET = "bare placeOrder of an entry, its stop and its target"
LEVELS = {
    "signal, durable against process death": "NORMAL",
    "signal, durable against a power cut": "FULL",
}
# Both sides of the quote have to move within a minute.
NOISE = 7e-5
SYMBOLS = ("S00", "S01")
# Twice what the limit of a day allows unless it is changed.
ENTRIES = 40
# The first ones fill caches.
WARM_UP = 5
# Frame length, then the number of placeOrder.
_ORDER = b"3\0"


class Stopwatch:
    """Notes when the bytes of an order are handed to a connection's transport."""

    def __init__(self, ib: IB) -> None:
        """Listen to a connection of the library."""
        self._n_awaited = 0
        self.sent_s = 0.0
        transport = ib.client.conn.transport
        write = transport.write

        def noting(data: bytes) -> None:
            if self._n_awaited and data.startswith(_ORDER, 4):
                self._n_awaited -= 1
                self.sent_s = perf_counter()
            write(data)

        transport.write = noting

    def start(self, n_writes: int = 1) -> float:
        """Await the next orders; return the time. What is changed later does not count."""
        self._n_awaited = n_writes
        return perf_counter()


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--sessions", type=int, default=10)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tape(make_tape(3, 0, 390, noise=NOISE), folder / "tape")
        found: dict[str, list[float]] = {name: [] for name in (BARE, BRACKET, *LEVELS)}
        settings = GatewaySettings(
            tape=folder / "tape", start_ns=OPEN_NS + 1200 * NS_PER_S, fast=1, slow=1, hold=False
        )
        for number in range(asked.sessions):
            with gateway_process(settings) as port:
                times = anyio.run(measure, port, folder / str(number))
            for name, times_s in times.items():
                found[name].extend(times_s)
    bare, bracket = (statistics.median(found[name]) * 1e3 for name in (BARE, BRACKET))
    for name, times_s in found.items():
        median = statistics.median(times_s) * 1e3
        over = ""
        if name in LEVELS:
            over = (
                f": {median - bare:.2f} ms over one bare call,"
                f" {median - bracket:.2f} ms over the same three orders"
            )
        sys.stdout.write(f"{name}: {_spread(times_s)}{over}\n")


def _spread(times_s: list[float]) -> str:
    p99 = statistics.quantiles(times_s, n=100)[98]
    return f"median {statistics.median(times_s) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"


async def measure(port: int, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of every order, by the library alone and by the session."""
    session = LiveSession(_parameters(port), root=folder, run_id="bench")
    found: dict[str, list[float]] = {name: [] for name in (BARE, BRACKET, *LEVELS)}
    bare = IB()
    await bare.connectAsync("127.0.0.1", port, clientId=99, timeout=LIMIT_S)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        await _until(lambda: hasattr(session, "_connector") and session._connector.is_operational())
        lines = session._connector.lines
        await _until(lambda: all(line.quote is not None for line in lines))
        ours, theirs = Stopwatch(session._connector._line.ib), Stopwatch(bare)
        for number in range(ENTRIES // len(LEVELS)):
            found[BARE].append(await _place(bare, theirs, number))
            found[BRACKET].append(await _place_bracket(bare, theirs))
            for name, level in LEVELS.items():
                session._store.db.execute(f"PRAGMA synchronous = {level}")
                symbol = SYMBOLS[number % len(SYMBOLS)]
                found[name].append(await _enter(session, ours, symbol, f"{level}{number}"))
        session.stop()
    bare.disconnect()
    return {name: times_s[WARM_UP:] for name, times_s in found.items()}


async def _place(ib: IB, watch: Stopwatch, number: int) -> float:
    stock = Stock("S02", "SMART", "USD", conId=1002)
    order = MarketOrder("SELL" if number % 2 else "BUY", 1, tif="DAY", orderRef=f"bare-{number}")
    began = watch.start()
    placed = ib.placeOrder(stock, order)
    took_s = watch.sent_s - began
    await _until(placed.isDone)
    await anyio.sleep(PAUSE_S)
    return took_s


async def _place_bracket(ib: IB, watch: Stopwatch) -> float:
    stock = Stock("S02", "SMART", "USD", conId=1002)
    family = ib.bracketOrder("BUY", 1, 1.0, takeProfitPrice=300.0, stopLossPrice=1.0)
    family.parent.orderType = "MKT"
    for order in family:
        order.tif = "GTC"
    began = watch.start(len(family))
    placed = [ib.placeOrder(stock, order) for order in family]
    took_s = watch.sent_s - began
    await _until(placed[0].isDone)
    ib.cancelOrder(family.takeProfit)
    ib.cancelOrder(family.stopLoss)
    await _until(lambda: all(trade.isDone() for trade in placed))
    await anyio.sleep(PAUSE_S)
    return took_s


async def _enter(session: LiveSession, watch: Stopwatch, symbol: str, article: str) -> float:
    limiter = session._connector._line.limiter
    # A family for which no message is left in this second is not sent, and no sample.
    await _until(
        lambda: session._connector.is_operational() and not limiter.wait_s(Priority.ENTRY, n=3)
    )
    now_ns = session._clock.now_ns()
    item = Headline("BRFG", article, now_ns, now_ns, f"Company {article}", (symbol,), "")
    key = session._book.add_headline(item)
    if key is None:
        raise RuntimeError("the headline of the benchmark was not recorded")
    # Priced at the market of the moment, so that the price has not run since the shock.
    line = session._connector.lines.get(symbol)
    quote = line.quote if line is not None else None
    if quote is None or quote.ask is None:
        raise RuntimeError("the benchmark lost its quote")
    signal = TradeSignal(key, symbol, Side.BUY, now_ns, quote.ask, 0.05, 3.0, 2.5, "a shock")
    began = watch.start()
    decision = await session._execution.enter(signal)
    if decision.outcome is not Outcome.ENTER:
        raise RuntimeError(f"the benchmark could not enter: {decision}")
    took_s = watch.sent_s - began
    if took_s < 0:
        raise RuntimeError("the benchmark's entry did not leave")
    await _closed(session)
    await anyio.sleep(PAUSE_S)
    return took_s


async def _closed(session: LiveSession) -> None:
    async def close() -> bool:
        for trade in session._store.open_trades():
            await session._execution.close(trade["trade_id"], ExitReason.TIME_STOP, None)
        return not session._store.open_trades() and not session._store.unsettled_orders()

    await _until(close)


async def _until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    with anyio.fail_after(LIMIT_S):
        while True:
            found: Any = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await anyio.sleep(0.005)


def _parameters(port: int) -> Parameters:
    found = load_parameters(ROOT / "parameters" / "demo.yaml")
    calm = replace(found.exits, stop_loss_ratio=0.4, take_profit_ratio=0.4, time_stop_s=23_400)
    return replace(
        found,
        universe=SYMBOLS,
        connection=replace(found.connection, port=port),
        exits=calm,
        # Hundreds of entries of one symbol within a minute or two.
        risk=replace(
            found.risk,
            cool_down_s=0,
            max_entries_per_minute=ENTRIES,
            max_entries_per_day=ENTRIES,
            max_symbol_entries_per_day=ENTRIES // len(SYMBOLS),
            daily_loss_ratio=0.2,
        ),
        # Small enough to be filled whole by what the quote shows.
        sizing=SizingParameters(risk_ratio=0.05, max_position_ratio=0.002),
        replay=ReplayParameters(speed=1, fast=1),
        records=RecordParameters(database="trades.db", runs="runs"),
    )


if __name__ == "__main__":
    main()
