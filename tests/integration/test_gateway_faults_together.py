"""Faults that go on at the same time: none repairs, leaks or strikes what is another's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest
from ib_insync import IB, MarketOrder

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.server import Gateway
from tests.fault_desk import TAPE, desk
from tests.gateway_client import (
    LIMIT_S,
    connected,
    errors_of,
    play,
    raw_client,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import at, tick_tape

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

# Long enough for what has been said to arrive, where an answer cannot be waited for.
QUIET_S = 0.1


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


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), [2104, 2106, 2158]),
        (("2103",), [2103, 2106, 2158]),
        (("2105", "2103"), [2103, 2105, 2158]),
        (("2103", "1100"), [1100]),
        (("nightly_reset", "2105"), [1100]),
    ],
)
async def test_who_connects_is_told_what_is_away(
    names: tuple[str, ...], told: list[int], tmp_path: Path
) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        for name in names:
            gateway.inject(name)
        gateway.inject("2105", {"client_id": 2})
        ib = IB()
        codes = errors_of(ib)
        await ib.client.connectAsync("127.0.0.1", gateway.port, 1, LIMIT_S)
        await settle(ib)
        ib.disconnect()
    assert [code for _, code in codes] == told


# ------------------------------------------------------- overlaps of one name


def overlap(gateway: Gateway, name: str, **parameters: Any) -> None:
    """Let a fault happen for ten seconds, again after five, and stand after the first end."""
    for _ in range(2):
        gateway.inject(name, parameters, for_s=10)
        pass_time(gateway, 5)
    pass_time(gateway, 2)


async def is_served(port: int, client_id: int) -> bool:
    """Whether a new client is let in and answered; one that is read late is let in late."""
    ib = IB()
    try:
        await ib.client.connectAsync("127.0.0.1", port, client_id, 3 * QUIET_S)
        with anyio.move_on_after(3 * QUIET_S):
            await ib.reqCurrentTimeAsync()
            return True
    except (asyncio.TimeoutError, OSError):
        return False
    finally:
        ib.disconnect()
    return False


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *(("half_open", {}), ("stalled_reader", {}), ("stalled_writer", {})),
        *(("restart", {"vanish_s": 0}), ("client_id_busy", {})),
        ("client_id_busy", {"client_id": 7}),
    ],
)
async def test_a_door_stays_shut_until_the_last_of_its_faults_has_ended(
    name: str, parameters: dict[str, Any], tmp_path: Path
) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        overlap(gateway, name, **parameters)
        assert not await is_served(gateway.port, 7)
        pass_time(gateway, 4)
        assert await is_served(gateway.port, 7)
        whats = [row["what"] for row in gateway.journal.records if "fault" in row]
        assert whats == ["fault begins"] * 2 + ["fault ends"] * 2


@pytest.mark.parametrize("name", ["stalled_reader", "stalled_writer"])
async def test_a_client_stays_stalled_until_the_last_of_its_faults_has_ended(
    name: str, tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib):
        overlap(gateway, name)
        with anyio.move_on_after(QUIET_S) as waiting:
            await settle(ib)
        assert waiting.cancelled_caught
        pass_time(gateway, 4)
        await settle(ib)


async def test_orders_fill_by_half_until_the_last_of_the_faults_has_ended(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        overlap(gateway, "partial_then_silence")
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await play(gateway, 2, ib)
        assert gateway.hub.account.ledger.position("SPY").quantity == 5
        await play(gateway, 3, ib)
        assert gateway.hub.account.ledger.position("SPY").quantity == 10


async def test_a_broker_that_is_away_twice_is_back_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        overlap(gateway, "1100", repeat_s=60)
        await settle(ib)
        assert codes == [(-1, 1100), (-1, 1100)]
        pass_time(gateway, 4)
        await settle(ib)
        assert codes[2:] == [(-1, 1102)]


@pytest.mark.parametrize(
    ("first", "last", "told"), [("nightly_reset", "1100", 1102), ("1100", "nightly_reset", 1101)]
)
async def test_a_broker_that_is_away_for_two_reasons_is_back_after_both(
    first: str, last: str, told: int, tmp_path: Path
) -> None:
    async with desk(tmp_path) as (gateway, ib):
        codes = errors_of(ib)
        gateway.inject("nightly_reset", {"repeat_s": 60})
        gateway.inject("1100", {"repeat_s": 60})
        end(gateway, first)
        await settle(ib)
        assert codes == [(-1, 1100)] * 2
        end(gateway, last)
        await settle(ib)
        assert codes[2:] == [(-1, told)]
        assert len(await ib.reqPositionsAsync()) == 0


async def test_a_halt_lasts_as_long_as_anybody_wants_it(tmp_path: Path) -> None:
    tape = tick_tape(
        trades=[(float(n), 100.0, 400) for n in range(60)], halts=[(20.0, 1), (40.0, 0)]
    )

    async with standing_gateway(tape, tmp_path, hold=False) as gateway:
        gateway.inject("halt", {"symbol": "SPY", "kind": 2}, for_s=10)
        pass_time(gateway, 5)
        gateway.inject("halt", {"kind": 3}, for_s=10)
        assert gateway.hub.market.is_halted("SPY")
        pass_time(gateway, 7)
        assert gateway.hub.market.is_at_limit("SPY")
        pass_time(gateway, 6)
        assert not gateway.hub.market.is_at_limit("SPY")
        gateway.inject("halt", {"symbol": "SPY", "kind": 2}, for_s=10)
        # The tape halts it meanwhile, and lets it trade again.
        pass_time(gateway, 30)
        halts = [row for row in gateway.journal.of("halt") if row["symbol"] == "SPY"]
        expected = [(0, 2), (10, 3), (15, 0), (18, 2), (20, 1), (40, 0)]
        assert [(row["at_ns"], row["kind"]) for row in halts] == [(at(s), k) for s, k in expected]


async def test_who_is_turned_away_slowly_is_told_why(tmp_path: Path) -> None:
    told: list[list[str]] = []

    def come_as(client_id: int, port: int) -> None:
        with raw_client(port) as client:
            told.extend([*client.start(client_id), client.read()])

    async with desk(tmp_path) as (gateway, _), anyio.create_task_group() as group:
        gateway.inject("slow_answers", {"delay_s": 3})
        group.start_soon(anyio.to_thread.run_sync, come_as, 1, gateway.port)
        with anyio.fail_after(LIMIT_S):
            while not told:
                pass_time(gateway, 1)
                await anyio.sleep(0.01)
    assert [fields[3:4] for fields in told[1:]] == [["326"], []]
    assert gateway.hub.sessions == {}


# --------------------------------------------------------------- one client


async def test_a_half_open_client_leaves_the_others_alone(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        gateway.inject("half_open", {"client_id": 1})
        assert await is_served(gateway.port, 9)
        assert not await is_served(gateway.port, 1)
        end(gateway, "half_open")
        assert await is_served(gateway.port, 1)


async def test_only_the_orders_of_the_client_that_is_struck_fill_by_half(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib), connected(gateway.port, 2) as other:
        gateway.inject("partial_then_silence", {"client_id": 2})
        for client, shares in ((ib, 10), (other, 20)):
            client.placeOrder(spy(), MarketOrder("BUY", shares))
        await play(gateway, 3, ib, other)
        filled = {row["client_id"]: row["shares"] for row in gateway.journal.of("fill")}
        assert filled == {1: 10, 2: 10}


async def test_only_an_execution_of_the_client_that_is_struck_is_corrected(tmp_path: Path) -> None:
    async with desk(tmp_path) as (gateway, ib), connected(gateway.port, 2) as other:
        for client in (other, ib):
            client.placeOrder(spy(), MarketOrder("BUY", 10))
            await settle(client)
        gateway.inject("execution_correction", {"client_id": 99})
        gateway.inject("execution_correction", {"client_id": 2})
        await settle(ib)
        await settle(other)
        assert (len(ib.fills()), len(other.fills())) == (1, 2)


@pytest.mark.parametrize("name", ["restart", "halt", "headline_storm"])
async def test_what_cannot_be_of_one_client_is_refused_for_one(name: str, tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        with pytest.raises(ParameterError, match=f"{name}.client_id: expected -1, .* found 2"):
            gateway.inject(name, {"client_id": 2})
        assert gateway.hub.faults.active == []
