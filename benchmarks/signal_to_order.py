"""How long a signal takes to become the bytes of an order, beside the library's bare placeOrder.

Run:  python benchmarks/signal_to_order.py [--orders 300]

A whole session is connected to the paper gateway, which is a process of its own and plays a seeded
market at the pace of the market. In turns, in one loop and one run:

* signal: from the call of `ExecutionService.enter` to the bytes of the order at the transport: the
  gate, guards, risk and size, decision and intent committed, the order encoded. The record is that
  of the session. Its position is closed again before the next turn, which is not timed.
* bare: from the call of `IB.placeOrder` of an unmodified ib_insync, connected to the same gateway,
  to the bytes of the order at the transport.

The record is a write-ahead log. With synchronous=NORMAL a committed intent outlives the death of
the process, with FULL a power cut as well: both, order by order. Prints median and 99th percentile
of each, and by how much the medians differ.
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
from momentum_lab.core.position import ExitReason
from momentum_lab.core.signal import Outcome, TradeSignal
from momentum_lab.core.sizing import SizingParameters
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
LEVELS = {
    "signal, durable against process death": "NORMAL",
    "signal, durable against a power cut": "FULL",
}
# Both sides of the quote have to move within a minute.
NOISE = 7e-5
# The first ones fill caches.
WARM_UP = 10
# Frame length, then the number of placeOrder.
_ORDER = b"3\0"


class Stopwatch:
    """Notes when the bytes of an order are handed to a connection's transport."""

    def __init__(self, ib: IB) -> None:
        """Listen to a connection of the library."""
        self.sent_s = 0.0
        send = ib.client.conn.sendMsg

        def noting(message: bytes) -> None:
            if message.startswith(_ORDER, 4):
                self.sent_s = perf_counter()
            send(message)

        ib.client.conn.sendMsg = noting


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--orders", type=int, default=300)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tape(make_tape(2, 0, 390, noise=NOISE), folder / "tape")
        settings = GatewaySettings(
            tape=folder / "tape", start_ns=OPEN_NS + 1200 * NS_PER_S, fast=1, slow=1, hold=False
        )
        with gateway_process(settings) as port:
            found = anyio.run(measure, port, folder, asked.orders)
    bare = statistics.median(found[BARE])
    for name, times_s in found.items():
        over_ms = (statistics.median(times_s) - bare) * 1e3
        over = "" if name == BARE else f", median {over_ms:.2f} ms over the bare call"
        sys.stdout.write(f"{name}: {_spread(times_s)}{over}\n")


def _spread(times_s: list[float]) -> str:
    p99 = statistics.quantiles(times_s, n=100)[98]
    return f"median {statistics.median(times_s) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"


async def measure(port: int, folder: Path, n_orders: int) -> dict[str, list[float]]:
    """Return the seconds of every order, by the library alone and by the session."""
    session = LiveSession(_parameters(port), root=folder, run_id="bench")
    found: dict[str, list[float]] = {name: [] for name in (BARE, *LEVELS)}
    bare = IB()
    await bare.connectAsync("127.0.0.1", port, clientId=99, timeout=LIMIT_S)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        await _until(lambda: hasattr(session, "_connector") and session._connector.is_operational())
        line = session._connector.lines.get("S00")
        await _until(lambda: line is not None and line.quote is not None)
        ours, theirs = Stopwatch(session._connector._line.ib), Stopwatch(bare)
        for number in range(WARM_UP + n_orders):
            found[BARE].append(await _place(bare, theirs, number))
            for name, level in LEVELS.items():
                session._store.db.execute(f"PRAGMA synchronous = {level}")
                found[name].append(await _enter(session, ours, f"{level}{number}"))
        session.stop()
    bare.disconnect()
    return {name: times_s[WARM_UP:] for name, times_s in found.items()}


async def _place(ib: IB, watch: Stopwatch, number: int) -> float:
    stock = Stock("S01", "SMART", "USD", conId=1001)
    order = MarketOrder("SELL" if number % 2 else "BUY", 1, tif="DAY", orderRef=f"bare-{number}")
    began = perf_counter()
    placed = ib.placeOrder(stock, order)
    took_s = watch.sent_s - began
    await _until(placed.isDone)
    await anyio.sleep(PAUSE_S)
    return took_s


async def _enter(session: LiveSession, watch: Stopwatch, article: str) -> float:
    now_ns = session._clock.now_ns()
    item = Headline("BRFG", article, now_ns, now_ns, f"Company (S00) {article}", ("S00",), "")
    key = session._book.add_headline(item)
    if key is None:
        raise RuntimeError("the headline of the benchmark was not recorded")
    # Priced at the market of the moment, so that the price has not run since the shock.
    quote = session._connector.lines.get("S00").quote
    if quote is None:
        raise RuntimeError("the benchmark lost its quote")
    signal = TradeSignal(key, "S00", Side.BUY, now_ns, quote.ask, 0.05, 3.0, 2.5, "a shock")
    began = perf_counter()
    decision = await session._execution.enter(signal)
    if decision.outcome is not Outcome.ENTER:
        raise RuntimeError(f"the benchmark could not enter: {decision}")
    took_s = watch.sent_s - began
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
        universe=("S00",),
        connection=replace(found.connection, port=port),
        exits=calm,
        # Small enough to be filled whole by what the quote shows.
        sizing=SizingParameters(risk_ratio=0.05, max_position_ratio=0.002),
        replay=ReplayParameters(speed=1, fast=1),
        records=RecordParameters(database="trades.db", runs="runs"),
    )


if __name__ == "__main__":
    main()
