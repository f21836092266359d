"""An audit compares what it was told with all that was heard until then, booked yet or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from momentum_lab.core.market import Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.orders import REMOVED_LIQUIDITY, Order, StatusShown
from tests.connection_kit import make_tape
from tests.order_desk import (
    HALF_DAY_NS,
    NOON_NS,
    OrderDesk,
    by_hand,
    live_one_day,
    trade_one_day,
)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def fill(found: OrderDesk, order: Order) -> None:
    """Let all of an order fill, whatever its price."""
    price_usd = found.session._execution.books.last_price("SPY") or 100.0
    shares = int(order.ticket.quantity)
    found.gateway.hub.publish(
        found.exchange.floor._fill(order.key, shares, price_usd, REMOVED_LIQUIDITY)
    )


def fill_after_many_words(found: OrderDesk, order: Order) -> None:
    """Let it fill after its status was repeated so often that booking takes longer than hearing."""
    found.gateway.hub.publish([StatusShown(order)] * 50)
    fill(found, order)


def order_of(found: OrderDesk, end: str) -> Order:
    (order,) = (o for o in found.exchange.live_orders() if o.ticket.order_ref.endswith(end))
    return order


def before_answer(found: OrderDesk, *steps: tuple[str, Callable[[], None]]) -> None:
    """Let things happen one after the other, each when a request of its name has arrived."""
    log_wire, left = found.gateway.hub.log_wire, list(steps)

    def hear(direction: str, client_id: int | None, content: Any) -> None:
        log_wire(direction, client_id, content)
        if left and direction == "<" and content[0] == left[0][0]:
            left.pop(0)[1]()

    found.gateway.hub.log_wire = hear  # type: ignore[method-assign]


@asynccontextmanager
async def entry_in_a_halt(found: OrderDesk) -> AsyncIterator[Order]:
    """An entry that works and cannot fill by itself, until the session has settled it."""
    async with anyio.create_task_group() as group:
        await found.enter_a_halt(group, for_s=8)
        await found.until(lambda: bool(found.working()))
        yield order_of(found, "d1")


def check_no_difference(found: OrderDesk) -> None:
    assert "position differs" not in [row["kind"] for row in found.final["incidents"]]


def differences(found: OrderDesk) -> list[str]:
    return [row["kind"] for row in found.store.table("differences", found.session.run_id)]


def test_a_position_that_opens_and_closes_while_the_books_are_asked_for_is_no_difference(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        async with entry_in_a_halt(found) as entry:
            before_answer(
                found,
                ("reqPositions", lambda: None),
                ("reqCompletedOrders", lambda: fill(found, entry)),
                ("reqPositions", lambda: fill_after_many_words(found, order_of(found, "-sl"))),
            )
            await found.session._auditor.audit()
            assert found.session._execution.blocked == {}
            assert found.store.open_trades() == []
        assert len(found.executions()) == 2

    check_no_difference(trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=2)))


def test_an_entry_that_fills_just_after_the_books_have_come_is_no_difference(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        async with entry_in_a_halt(found) as entry:

            def fill_after_the_answer() -> None:
                asyncio.get_running_loop().call_soon(fill, found, entry)

            before_answer(
                found, ("reqPositions", lambda: None), ("reqPositions", fill_after_the_answer)
            )
            await found.session._auditor.audit()
            assert found.session._execution.blocked == {}
        # Until the halt has ended.
        await anyio.sleep(10)
        assert await found.close()

    check_no_difference(trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=2)))


def test_what_somebody_else_trades_while_the_books_are_asked_for_is_found_at_once(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (trade,) = found.store.open_trades()
        before_answer(found, ("reqPositions", lambda: by_hand(found, Side.BUY, 10)))
        await found.session._auditor.audit()
        assert set(found.session._execution.blocked) == {trade["con_id"]}
        assert differences(found).count("UNEXPLAINED_POSITION") == 1
        by_hand(found, Side.SELL, 10, order_id=2)
        await found.session._auditor.audit()
        assert found.session._execution.blocked == {}
        assert await found.close()

    live_one_day(tape, tmp_path, scenario)
