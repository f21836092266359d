"""How long an exit waits in a storm of requests, beside the bare library, in virtual time.

Run:  python benchmarks/limiter.py [--requests 10000] [--exits 50]

A client and a paper gateway with its limits on run in one loop of virtual time, over a real socket.
The client sends all requests at once (market data, look-ups, history), and then exits, evenly over
the next ten seconds and two at a time. In one run, one after the other:

* limiter: the library with the limiter in the place of its throttle;
* library: the same library as it is, 45 messages a second in one queue.

Prints for each, as the gateway has seen it: the most messages in any closed window of one second,
the time from the call of placeOrder to the arrival of the order, and how long the storm lasted.
The exit code is 1 where the limiter lets more than 45 messages into a second, has an exit wait
longer than 50 ms, or is refused a message (error 100).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from ib_insync import IB, Order, Stock
from virtual_day import make_tape

from momentum_lab.core.pacing import SECOND_S, PacingParameters, Priority
from momentum_lab.gateway.server import Gateway, paper_gateway
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.ibkr.limiter import Limiter
from momentum_lab.records.tape import write_tape

LIMIT_S = 10.0
EXITS_OVER_S = 10.0
EXIT_LIMIT_S = 0.05
RATE_EXCEEDED = 100
FIRST_STORM_ID = 100_000


@dataclass
class Seen:
    """One run as the gateway has seen it; instants are virtual seconds.

    Attributes:
        arrived_s: of all messages from the storm on.
        sent_s, exits_s: order reference -> when it was sent, and when it arrived.
        n_refused: error 100 at the client.
        real_s: seconds of this machine.
    """

    arrived_s: list[float] = field(default_factory=list)
    sent_s: dict[str, float] = field(default_factory=dict)
    exits_s: dict[str, float] = field(default_factory=dict)
    n_refused: int = 0
    real_s: float = 0.0

    @property
    def waits_s(self) -> list[float]:
        """How long each exit was on its way."""
        return [self.exits_s[ref] - at_s for ref, at_s in self.sent_s.items()]


def main() -> int:
    """Print the figures; 0 if the limiter keeps what it promises."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--exits", type=int, default=50)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    parameters = PacingParameters()
    with tempfile.TemporaryDirectory() as place:
        write_tape(make_tape(1, 0, 60), Path(place) / "tape")
        settings = GatewaySettings(tape=Path(place) / "tape", fast=0.01, slow=0.01)
        runs = [
            (name, run_virtual(storm, settings, limiter, asked.requests, asked.exits))
            for name, limiter in (("limiter", Limiter(parameters)), ("library", None))
        ]
    sys.stdout.write(f"{asked.requests} requests at once, {asked.exits} exits after them\n")
    for name, seen in runs:
        sys.stdout.write(
            f"{name}: at most {most_in_a_second(seen.arrived_s)} messages in a second,"
            f" refused {seen.n_refused}; exits: median {statistics.median(seen.waits_s) * 1e3:.1f}"
            f" ms, longest {max(seen.waits_s) * 1e3:.1f} ms; storm over after"
            f" {seen.arrived_s[-1] - seen.arrived_s[0]:.0f} s ({seen.real_s:.1f} s of this"
            " machine)\n"
        )
    ours = runs[0][1]
    is_kept = (
        most_in_a_second(ours.arrived_s) <= parameters.messages_per_s
        and max(ours.waits_s) <= EXIT_LIMIT_S
        and not ours.n_refused
    )
    sys.stdout.write(f"the limiter keeps its promise: {is_kept}\n")
    return 0 if is_kept else 1


async def storm(
    settings: GatewaySettings, limiter: Limiter | None, n_requests: int, n_exits: int
) -> Seen:
    """Return what the gateway sees of a storm and of the exits in it."""
    seen, began = Seen(), perf_counter()
    async with (
        paper_gateway(settings, report=lambda _text: None) as gateway,
        anyio.create_task_group() as group,
    ):
        ib = IB()
        if limiter is not None:
            limiter.attach(ib)
            group.start_soon(limiter.run)
        await ib.connectAsync("127.0.0.1", gateway.port, clientId=1, timeout=LIMIT_S)
        await anyio.sleep(2 * SECOND_S)
        watch(gateway, ib, seen)
        send_requests(ib, n_requests)
        await send_exits(ib, limiter, n_exits, seen)
        while len(seen.arrived_s) < n_requests + n_exits:  # noqa: ASYNC110 - there is no event
            await anyio.sleep(SECOND_S)
        ib.disconnect()
        group.cancel_scope.cancel()
    seen.real_s = perf_counter() - began
    return seen


def watch(gateway: Gateway, ib: IB, seen: Seen) -> None:
    """Note what the gateway takes, and what it refuses for coming too fast."""

    def hear(direction: str, _client_id: int | None, content: Any) -> None:
        if direction == "<":
            now_s = anyio.current_time()
            seen.arrived_s.append(now_s)
            name, values = content
            if name == "placeOrder":
                seen.exits_s[values["order_ref"]] = now_s

    def count(_req_id: int, code: int, _text: str, _contract: object) -> None:
        seen.n_refused += code == RATE_EXCEEDED

    gateway.hub.log_wire = hear  # type: ignore[method-assign]  # its log is what it has taken
    ib.errorEvent += count


def send_requests(ib: IB, n_requests: int) -> None:
    """Send requests of three classes, all at once."""
    client: Any = ib.client
    requests = cycle((client.cancelMktData, client.cancelPnL, client.cancelHistoricalData))
    for req_id in range(FIRST_STORM_ID, FIRST_STORM_ID + n_requests):
        next(requests)(req_id)


async def send_exits(ib: IB, limiter: Limiter | None, n_exits: int, seen: Seen) -> None:
    """Place orders that rest, two at a time."""
    stock = Stock("S00", "SMART", "USD", conId=1000)
    for number in range(n_exits):
        ref = f"exit {number}"
        order = Order(action="SELL", totalQuantity=1, orderType="LMT", lmtPrice=500.0, orderRef=ref)
        with limiter.speaking(Priority.EXIT) if limiter is not None else nullcontext():
            seen.sent_s[ref] = anyio.current_time()
            ib.placeOrder(stock, order)
        if number % 2:
            await anyio.sleep(2 * EXITS_OVER_S / n_exits)


def most_in_a_second(instants_s: Sequence[float]) -> int:
    """Return the greatest number of instants in any closed window of one second."""
    recent, most = deque[float](), 0
    for at_s in instants_s:
        recent.append(at_s)
        while at_s - recent[0] > SECOND_S:
            recent.popleft()
        most = max(most, len(recent))
    return most


if __name__ == "__main__":
    sys.exit(main())
