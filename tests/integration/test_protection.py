"""No position without a working stop: what the gateway holds, whatever happens to the orders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose, OrderState
from momentum_lab.core.position import ExitReason
from momentum_lab.live.reconcile import reconcile
from momentum_lab.parameters import ExecutionParameters
from tests.desk_kit import RUN, START_NS, Desk, desk
from tests.session_kit import until

pytestmark = pytest.mark.anyio


async def enter(found: Desk) -> int:
    """Enter, and wait until stop and target work as they are meant."""
    await found.execution.enter(await found.signal())
    trade_id = await found.execution.opened.receive()
    await until(lambda: is_as_meant(found, trade_id))
    return trade_id


def is_as_meant(found: Desk, trade_id: int) -> bool:
    trade = found.store.trade(trade_id)
    live = found.live_orders()
    stops = [o for o in live.values() if o.ticket.order_type == "STP"]
    targets = [o for o in live.values() if o.ticket.order_type == "LMT"]
    return (
        [(o.remaining, o.ticket.stop_usd) for o in stops] == [(trade["shares"], trade["stop"])]
        and [(o.remaining, o.limit_usd) for o in targets] == [(trade["shares"], trade["target"])]
        and found.execution.is_protected(trade_id)
    )


async def test_an_entry_takes_its_stop_and_target_along(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        trade_id = await enter(found)
        live = found.live_orders()
        trade = found.store.trade(trade_id)

    assert {o.ticket.tif for o in live.values()} == {"GTC"}
    (group,) = {o.oca_group for o in live.values()}
    assert group.startswith("ml-")
    assert {o.ticket.oca_type for o in live.values()} == {2}
    assert {o.ticket.side for o in live.values()} == {"BUY"}
    # From the first fill heard to the stop confirmed, in market time at sixty times its pace.
    assert 0 <= trade["unprotected_ns"] < 60 * NS_PER_S


async def test_an_exit_ends_its_own_protection_at_the_broker(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        trade_id = await enter(found)
        assert await found.execution.close(trade_id, ExitReason.TIME_STOP, None)
        await until(lambda: not found.live_orders() and not found.store.unsettled_orders())
        states = {row["purpose"]: row["state"] for row in found.store.table("orders", RUN)}

        assert found.held() == 0
        assert states == {
            "entry": "FILLED",
            "stop": "CANCELLED",
            "target": "CANCELLED",
            "exit": "FILLED",
        }
        assert found.store.trade(trade_id)["exit_reason"] == "TIME_STOP"
        assert found.incidents == []


async def test_a_stop_that_vanishes_is_put_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        trade_id = await enter(found)
        (stop_ref,) = [ref for ref in found.live_orders() if ref.endswith("-sl")]
        stop = found.live_orders()[stop_ref]
        found.gateway.hub.publish(found.gateway.hub.exchange.floor.end([stop.key], text="by hand"))
        await until(lambda: is_as_meant(found, trade_id))

        assert f"{stop_ref}2" in found.live_orders()
        assert any("position without a stop" in text for text in found.incidents)


async def test_a_stop_moves_at_the_broker_and_never_backwards(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        trade_id = await enter(found)
        stop_usd = found.store.trade(trade_id)["stop"]
        await found.execution.move_stop(trade_id, stop_usd + 0.10, ExitReason.TRAIL)
        assert found.store.trade(trade_id)["stop"] == stop_usd

        tighter_usd = round(stop_usd - 0.02, 2)
        await found.execution.move_stop(trade_id, tighter_usd, ExitReason.TRAIL)
        await until(lambda: is_as_meant(found, trade_id))
        (stop,) = [o for o in found.live_orders().values() if o.ticket.order_type == "STP"]

        assert stop.ticket.stop_usd == tighter_usd
        assert found.incidents == []


async def test_the_broker_stops_a_position_that_nobody_watches(tmp_path: Path) -> None:
    """The client is away while the stop fills; it learns of it, and sends nothing."""
    async with desk(tmp_path) as found:
        trade_id = await enter(found)
        (session,) = found.gateway.hub.sessions.values()
        session.reset()
        await until(lambda: found.held() == 0)
        await until(lambda: found.store.trade(trade_id)["state"] == "CLOSED")
        trade = found.store.trade(trade_id)
        executions = found.gateway.hub.exchange.account.books.executions

        assert trade["exit_reason"] == "STOP_LOSS"
        assert trade["exit_price"] == executions[-1].price_usd
        assert len(executions) == 2
        assert not found.live_orders()


async def test_an_order_whose_id_was_never_stored_is_looked_for_twice(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        trade_id = await enter(found)
        trade = found.store.trade(trade_id)
        exit_ref = f"ml-{RUN}-t{trade_id}x1"
        found.store.add_order(
            RUN,
            OrderIntent(
                order_ref=exit_ref,
                symbol=trade["symbol"],
                con_id=trade["con_id"],
                side=Side.BUY,
                shares=10,
                created_ns=START_NS,
                purpose=OrderPurpose.EXIT,
                trade_id=trade_id,
                exit_reason=ExitReason.TIME_STOP,
            ),
        )
        states = []
        for wait_s in (0.0, 3.1):
            await anyio.sleep(wait_s)
            reconcile(await found.connector.audit(), found.store, found.execution.books)
            states.append(found.store.order_state(exit_ref))

    assert states == [OrderState.INTENT, OrderState.ABSENT]


def limited(**values: object) -> ExecutionParameters:
    return replace(ExecutionParameters(), entry_order="marketable_limit", **values)  # type: ignore[arg-type]


async def test_a_marketable_limit_pays_no_more_than_its_limit(tmp_path: Path) -> None:
    async with desk(tmp_path, execution=limited(entry_limit_bps=5.0)) as found:
        trade_id = await enter(found)
        entry = found.store.table("orders", RUN)[0]
        trade = found.store.trade(trade_id)

    assert entry["order_type"] == "LMT"
    assert entry["limit_price"] < entry["bid"]
    assert trade["entry_price"] >= entry["limit_price"]


async def test_a_limit_that_does_not_fill_is_taken_back_with_its_family(tmp_path: Path) -> None:
    async with desk(tmp_path, execution=limited(fill_timeout_s=1.0)) as found:
        signal = await found.signal()
        found.gateway.hub.halt("SPY", 1)
        await found.execution.enter(signal)
        await until(lambda: not found.store.unsettled_orders())
        states = {row["state"] for row in found.store.table("orders", RUN)}

        assert not found.live_orders()

    assert states == {"CANCELLED"}
