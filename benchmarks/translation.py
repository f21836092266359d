"""What a market data message costs from frame to our value, beside the bare library.

Run:  python benchmarks/translation.py [--messages 200000]

The same frames of ten lines (bid, ask, last, sizes, trade reports, in the mixture of a quote line)
are fed, in turns and in one run, into an unmodified library object, and into one that the
connector listens to. A library client that wants to know of a change has to listen to an event, so
that is measured too. Nobody waits for a socket: it is the cost of understanding alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import struct
import sys
from time import perf_counter
from typing import Any

from ib_insync import IB, Stock

from momentum_lab.clock import SystemClock
from momentum_lab.core.market import Instrument
from momentum_lab.live.ibkr.hearing import Ears
from momentum_lab.live.ibkr.line import Lines

N_LINES = 10
ROUNDS = 5
# What comes together in one read of the socket.
CHUNK = 40


def frames(n_messages: int) -> list[bytes]:
    """Return the messages, framed, in chunks as they come off a socket."""
    found = []
    for number in range(n_messages):
        request, price, size = 1 + number % N_LINES, 100 + number % 7 / 100, 100 + number % 300
        stamp = 1_700_000_000_000 + number
        mixture: tuple[tuple[Any, ...], ...] = (
            (1, 6, request, 1, price, size, 1),
            (1, 6, request, 2, price + 0.01, size, 1),
            (2, 6, request, 0, size + 1),
            (46, 6, request, 48, f"{price:.2f};100;{stamp};{number};{price:.4f};true"),
            (1, 6, request, 4, price, 100, 1),
        )
        fields = mixture[number // N_LINES % len(mixture)]
        payload = "".join(f"{field}\0" for field in fields).encode()
        found.append(struct.pack(">I", len(payload)) + payload)
    return [b"".join(found[at : at + CHUNK]) for at in range(0, len(found), CHUNK)]


def ready_client() -> IB:
    """Return a library object that takes frames without a socket."""
    ib = IB()
    ib.client._serverVersion = 176
    ib.client.decoder.serverVersion = 176
    ib.client._apiReady = True
    return ib


def bare() -> IB:
    """Return a library object with ten tickers."""
    ib = ready_client()
    for number in range(N_LINES):
        ib.wrapper.startTicker(1 + number, Stock(f"S{number}", "SMART", "USD"), "mktData")
    return ib


def listening() -> IB:
    """Return one whose changes somebody hears, as every client has to."""
    ib = bare()
    seen = []

    def hear(tickers: set[Any]) -> None:
        seen[:] = [(ticker.bid, ticker.ask, ticker.last) for ticker in tickers]

    ib.pendingTickersEvent += hear
    return ib


def ours() -> IB:
    """Return one that the connector listens to; the lines are read after each chunk."""
    ib = ready_client()
    ears, lines = Ears(SystemClock(), lambda *_: None), Lines()
    ears.attach(ib, on_code=lambda *_: None, on_loss=lambda *_: None, on_doubt=lambda *_: None)
    for number in range(N_LINES):
        line = lines.want(Instrument(f"S{number}", 1000 + number))
        line.begin(1 + number)
        ears.expect_line(1 + number, line)
    found = list(lines)

    def read() -> None:
        for line in found:
            _ = line.quote

    ib.updateEvent += read
    ib.kept = (ears, lines, read)  # type: ignore[attr-defined]
    return ib


def feed(ib: IB, chunks: list[bytes]) -> float:
    """Return the seconds that the chunks take."""
    began_s = perf_counter()
    for chunk in chunks:
        ib.client._onSocketHasData(chunk)
    return perf_counter() - began_s


async def measure(n_messages: int) -> str:
    """Return the figures as lines."""
    chunks = frames(n_messages)
    makers = {"bare library": bare, "library, heard": listening, "ours, read each time": ours}
    took_s: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            took_s[name].append(feed(make(), chunks))
    base = took_s["bare library"]
    lines = []
    for name, times in took_s.items():
        ratios = [one / other for one, other in zip(times, base, strict=True)]
        lines.append(
            f"{name:<22} {statistics.median(times) / n_messages * 1e6:6.2f} us a message,"
            f" {statistics.median(ratios):.2f} x the bare library"
            f" ({min(ratios):.2f}..{max(ratios):.2f})\n"
        )
    return "".join(lines)


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--messages", type=int, default=200_000)
    logging.disable(logging.CRITICAL)
    sys.stdout.write(asyncio.run(measure(options.parse_args().messages)))


if __name__ == "__main__":
    main()
