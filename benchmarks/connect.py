"""How long the unmodified client needs to connect to the paper gateway.

Run:  python benchmarks/connect.py

Prints the median and the longest of 50 connects (handshake, start-up requests, executions), and
their ratio to one time request on the same connection, measured in the same run.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
from pathlib import Path
from time import perf_counter

from ib_insync import IB

from momentum_lab.gateway.server import GatewaySettings, paper_gateway

TAPE = Path(__file__).parents[1] / "data" / "samples" / "fomc-2013-10-09"
ROUNDS = 50


async def measure() -> str:
    """Return the figures as one line."""
    connects, requests = [], []
    async with paper_gateway(GatewaySettings(tape=TAPE)) as gateway:
        for number in range(ROUNDS):
            ib = IB()
            began = perf_counter()
            await ib.connectAsync("127.0.0.1", gateway.port, clientId=number + 1, timeout=4)
            connected = perf_counter()
            await ib.reqCurrentTimeAsync()
            requests.append(perf_counter() - connected)
            connects.append(connected - began)
            ib.disconnect()
    median, request = statistics.median(connects), statistics.median(requests)
    return (
        f"connect: median {median * 1e3:.1f} ms, longest {max(connects) * 1e3:.1f} ms, "
        f"{median / request:.1f} x a time request ({request * 1e3:.2f} ms)\n"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.stdout.write(asyncio.run(measure()))
