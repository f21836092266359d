"""A calm tape with two headlines, and a client at it, for faults to happen to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ib_insync import IB

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway
from tests.gateway_client import connected, play, spy, standing_gateway
from tests.gateway_factories import NOON, news, second_tape, seconds

HEADLINES = (
    news(at_ns=NOON + 5 * NS_PER_S, number=1),
    news(at_ns=NOON + 8 * NS_PER_S, number=2),
)
TAPE = second_tape(
    seconds([100.0 + n % 5 / 100 for n in range(300)], volume=4_000), headlines=HEADLINES
)


@asynccontextmanager
async def desk(folder: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, IB]]:
    """A gateway and a client with one line; two seconds have been played."""
    async with standing_gateway(TAPE, folder, **settings) as gateway, connected(gateway.port) as ib:
        ib.reqMktData(spy(), "233,292")
        await play(gateway, 2, ib)
        yield gateway, ib
