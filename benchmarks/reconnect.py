"""How long the connector needs from a lost socket to OPERATIONAL, beside the library's own connect.

Run:  python benchmarks/reconnect.py [--rounds 50]

In turns, in one run, against the same gateway: the unmodified library connects (handshake and its
start-up requests); the connector's socket is cut and it comes back, without the wait before the
attempt (that is the schedule's, and chosen): handshake, the whole checklist with its end markers,
reconciliation, every line asked for and seen to flow. Prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
from pathlib import Path
from time import perf_counter

import anyio
from ib_insync import IB

from momentum_lab.clock import ReplayClock
from momentum_lab.core.connection import ConnectionEvent, ConnectionState
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.parameters import check_parameters

TAPE = Path(__file__).parents[1] / "data" / "samples" / "fomc-2013-10-09"


async def measure(rounds: int) -> str:
    """Return the figures as lines."""
    library_s: list[float] = []
    ours_s: list[float] = []
    began_s = 0.0
    operational = anyio.Event()

    def step(state: ConnectionState, event: ConnectionEvent, _cause: str) -> None:
        nonlocal began_s
        if event is ConnectionEvent.ATTEMPT:
            began_s = perf_counter()
        elif state is ConnectionState.OPERATIONAL:
            ours_s.append(perf_counter() - began_s)
            operational.set()

    async def agree(_snapshot: BrokerSnapshot) -> None:
        """There is no record to reconcile with."""

    async with paper_gateway(GatewaySettings(tape=TAPE, fast=60, slow=60)) as gateway:
        parameters = check_parameters(
            {
                "mode": "replay",
                "universe": ["SPY", "IBM", "BAC"],
                "connection": {"port": gateway.port},
                "news": {"providers": ["BRFG"]},
                "backoff": {"first_wait_s": 0.05, "growth": 1.0},
            }
        )
        connector = IBKRConnector(
            parameters, clock=ReplayClock(60), on_transition=step, on_incident=lambda *_: None
        )
        connector.subscribe_to_news()
        async with anyio.create_task_group() as group:
            group.start_soon(connector.run, agree)
            for number in range(rounds):
                await operational.wait()
                operational = anyio.Event()
                library_s.append(await _connect(gateway, 100 + number))
                gateway.inject("tcp_reset", {"client_id": parameters.connection.client_id})
            await operational.wait()
            group.cancel_scope.cancel()
        connector.close()
    # The first is not a reconnect: contracts and tapes are looked up as well.
    ours, library = statistics.median(ours_s[1:]), statistics.median(library_s)
    return (
        f"library connect {library * 1e3:.2f} ms, reconnect to OPERATIONAL {ours * 1e3:.2f} ms"
        f" (p90 {sorted(ours_s[1:])[int(len(ours_s) * 0.9) - 1] * 1e3:.2f} ms),"
        f" first connect {ours_s[0] * 1e3:.2f} ms\n"
        f"reconnect to OPERATIONAL / library connect: {ours / library:.2f} x,"
        f" {rounds} rounds in turns\n"
    )


async def _connect(gateway: Gateway, client_id: int) -> float:
    ib = IB()
    began_s = perf_counter()
    await ib.connectAsync("127.0.0.1", gateway.port, clientId=client_id, timeout=4)
    took_s = perf_counter() - began_s
    ib.disconnect()
    return took_s


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=50)
    logging.disable(logging.CRITICAL)
    sys.stdout.write(asyncio.run(measure(options.parse_args().rounds)))


if __name__ == "__main__":
    main()
