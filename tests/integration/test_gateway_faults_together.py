"""Faults that go on at the same time: none repairs, leaks or strikes what is another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from ib_insync import IB, MarketOrder

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway
from tests.gateway_client import connected, errors_of, play, settle, spy, standing_gateway
from tests.gateway_factories import second_tape, seconds

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

TAPE = second_tape(seconds([100.0 + n % 5 / 100 for n in range(300)], volume=4_000))
# Long enough for what has been said to arrive, where an answer cannot be waited for.
QUIET_S = 0.1


@asynccontextmanager
async def desk(folder: Path, **settings: Any) -> AsyncIterator[tuple[Gateway, IB]]:
    """A gateway and a client with one line; two seconds have been played."""
    async with standing_gateway(TAPE, folder, **settings) as gateway, connected(gateway.port) as ib:
        ib.reqMktData(spy())
        await play(gateway, 2, ib)
        yield gateway, ib


def pass_time(gateway: Gateway, n_seconds: float) -> None:
    gateway.hub.step_to(gateway.now_ns + round(n_seconds * NS_PER_S))


def end(gateway: Gateway, name: str) -> None:
    assert gateway.hub.faults.end(name) == 1


# ---------------------------------------------------------- what is held back


async def test_the_end_of_a_fault_says_only_what_it_has_held_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        gateway.inject("late_status", {"delay_s": 60})
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        gateway.inject("1100", for_s=3)
        await play(gateway, 5, ib)
        assert (trade.fills, trade.orderStatus.status) == ([], "PendingSubmit")
        await play(gateway, 56, ib)
        assert (len(trade.fills), trade.orderStatus.status) == (1, "Filled")


async def test_what_one_fault_lets_go_another_still_holds(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        gateway.inject("slow_answers", {"delay_s": 2})
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await anyio.sleep(QUIET_S)
        gateway.inject("1100")
        pass_time(gateway, 4)
        end(gateway, "slow_answers")
        await settle(ib)
        assert trade.fills == []
        end(gateway, "1100")
        await settle(ib)
        assert len(trade.fills) == 1


async def test_through_a_half_open_socket_no_fault_speaks(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        gateway.inject("late_status", {"delay_s": 3})
        trade, codes = ib.placeOrder(spy(), MarketOrder("BUY", 10)), errors_of(ib)
        await settle(ib)
        gateway.inject("half_open")
        for name in ("1100", "2103", "competing_session", "error_flood", "2107"):
            gateway.inject(name)
        pass_time(gateway, 10)
        await anyio.sleep(QUIET_S)
        assert (codes, trade.fills) == ([], [])
        end(gateway, "half_open")
        end(gateway, "1100")
        await settle(ib)
        assert codes == [(-1, 1102)]
