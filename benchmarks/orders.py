"""How long a market order takes from placeOrder to Filled, as the unmodified client sees it.

Run:  python benchmarks/orders.py [--rounds 5] [--orders 100]

Market orders for one share are sent one after the other; each is timed from the call of
placeOrder to the event that it is filled. Between two orders there is a pause, so each finds
everybody asleep. In each round, one after the other:

* gateway: the paper gateway in a process of its own, its market playing at the tape's own speed.
* canned: a process that answers each request with the bytes with which the gateway has once
  answered it, and does nothing else: what the client library and the sockets take.
* echo: a bare asyncio server that sends back the bytes of a placeOrder, and a bare asyncio client.

Prints the median and the 99th percentile of each over all rounds, and the ratios of the medians
that were measured in the same round, as median, least and greatest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

from ib_insync import IB, MarketOrder, Stock
from processes import RECEIVE_BYTES, VERSION, gateway_process, process, told
from throughput import ratios, spread
from virtual_day import make_tape

from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.wire import REQUESTS
from momentum_lab.gateway.wire.table import frame
from momentum_lab.records.tape import write_tape

LIMIT_S = 30.0
# The client library holds more than 45 requests per second back.
PAUSE_S = 0.025
# Of a placeOrder as ib_insync 0.9 sends it, within a few bytes.
ORDER_BYTES = len(
    REQUESTS.encode(
        "placeOrder",
        {
            "order_id": 100,
            "contract": {"symbol": "S00", "sec_type": "STK", "exchange": "SMART"},
            "action": "BUY",
            "total_quantity": 1,
            "order_type": "MKT",
        },
        VERSION,
    )
)


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--orders", type=int, default=100)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        write_tape(make_tape(1, 0, 60), folder / "tape")
        settings = GatewaySettings(tape=folder / "tape", fast=1, slow=1)
        answers = record(settings, folder / "wire.log", asked.orders)
        ports = [
            stack.enter_context(gateway_process(settings)),
            told(stack.enter_context(process(serve_canned, answers))),
            told(stack.enter_context(process(serve_echo))),
        ]
        rounds = [asyncio.run(measure(*ports, asked.orders)) for _ in range(asked.rounds)]
    gateway, canned, echo = zip(*rounds, strict=True)
    medians = [[statistics.median(trips) for trips in side] for side in (gateway, canned, echo)]
    sys.stdout.write(
        f"{asked.orders * asked.rounds} orders\n"
        f"order to fill at ib_insync: {told_times(gateway)}\n"
        f"  ... of canned answers:    {told_times(canned)},"
        f" gateway / canned {spread(ratios(medians[0], medians[1]), '.2f')}\n"
        f"bare loopback echo:         {told_times(echo)},"
        f" gateway / echo {spread(ratios(medians[0], medians[2]), '.1f')}\n"
    )


def told_times(rounds: Sequence[Sequence[float]]) -> str:
    """Return the median and the 99th percentile of all trips as text."""
    trips = [trip for one in rounds for trip in one]
    p99 = statistics.quantiles(trips, n=100)[98]
    return f"median {statistics.median(trips) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"


async def measure(
    gateway: int, canned: int, echo: int, n_orders: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of every trip of one round."""
    return await trade(gateway, n_orders), await trade(canned, n_orders), await talk(echo, n_orders)


async def trade(port: int, n_orders: int) -> list[float]:
    """Return the seconds from placeOrder to Filled of each of some orders."""
    ib = IB()
    await ib.connectAsync("127.0.0.1", port, clientId=1, timeout=LIMIT_S)
    stock = Stock("S00", "SMART", "USD", conId=1000)
    # The clock of the gateway begins to run, and the day gets its first quote.
    ticker = ib.reqMktData(stock)
    while not ticker.last > 0:
        await asyncio.wait_for(ticker.updateEvent, LIMIT_S)
    ib.cancelMktData(stock)
    trips = []
    for number in range(n_orders):
        began = perf_counter()
        placed = ib.placeOrder(stock, MarketOrder("SELL" if number % 2 else "BUY", 1))
        await asyncio.wait_for(placed.filledEvent, LIMIT_S)
        trips.append(perf_counter() - began)
        await asyncio.sleep(PAUSE_S)
    ib.disconnect()
    return trips


async def talk(port: int, n_trips: int) -> list[float]:
    """Return the seconds that each echo took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    trips = []
    for _ in range(n_trips):
        began = perf_counter()
        writer.write(bytes(ORDER_BYTES))
        await reader.readexactly(ORDER_BYTES)
        trips.append(perf_counter() - began)
        await asyncio.sleep(PAUSE_S)
    writer.close()
    await writer.wait_closed()
    return trips


def record(settings: GatewaySettings, log: Path, n_orders: int) -> list[bytes]:
    """Return what the gateway says to each message of `trade`, from the opening on."""
    with gateway_process(replace(settings, wire_log=log)) as port:
        asyncio.run(trade(port, n_orders))
    answers = [b""]
    for line in log.read_text("utf-8").splitlines():
        direction, _, _, content = json.loads(line)
        if direction == "<":
            answers.append(b"")
        else:
            answers[-1] += frame("".join(f"{text}\0" for text in content).encode())
    return answers


def serve_canned(pipe: Connection, answers: Sequence[bytes]) -> None:
    """Answer the n-th message of every connection with the n-th of `answers`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(b"API\0"))
        for answer in answers:
            n_bytes = int.from_bytes(await reader.readexactly(4), "big")
            await reader.readexactly(n_bytes)
            writer.write(answer)
        await reader.read()
        writer.close()

    asyncio.run(_serve(pipe, serve))


def serve_echo(pipe: Connection) -> None:
    """Send back whatever comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(RECEIVE_BYTES):
            writer.write(data)
        writer.close()

    asyncio.run(_serve(pipe, serve))


async def _serve(pipe: Connection, serve: object) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
