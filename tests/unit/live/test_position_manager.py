"""The watch over open trades, on a real record and a real line; the broker is never reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from momentum_lab.core.market import Quote, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.core.position import ExitReason, Fill
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.position_manager import PositionManager
from tests.factories import NOON
from tests.planner_kit import RUN_ID, Bench, bench

pytestmark = pytest.mark.anyio
EXIT = OrderIntent(
    "ml-x1", "SPY", 756733, Side.SELL, 100, NOON, OrderPurpose.EXIT, trade_id=1,
    exit_reason=ExitReason.MANUAL,
)  # fmt: skip
SOLD = Fill(
    "0000aaaa.00000001.01.01", EXIT.order_ref, "SPY", Side.SELL, 100, 100.0, NOON, 1.0, 756733
)
CORRECTED = replace(SOLD, exec_id="0000aaaa.00000001.01.02", shares=60)


class Noting(ExecutionService):
    """Notes which trades are to be closed, and sends nothing."""

    asked: tuple[int, ...] = ()

    async def close(self, trade_id: int, reason: ExitReason, quote: Quote | None) -> bool:
        self.asked += (trade_id,)
        return False


def noting(found: Bench) -> Noting:
    return Noting(
        found.connector,
        book=DecisionBook(found.store, found.clock, run_id=RUN_ID),
        clock=found.clock,
        parameters=found.parameters,
        on_incident=lambda *_: None,
    )


def manager_of(found: Bench, execution: ExecutionService) -> PositionManager:
    return PositionManager(
        found.connector,
        execution,
        found.store,
        clock=found.clock,
        parameters=found.parameters,
        on_incident=lambda *_: None,
    )


@pytest.mark.parametrize("n_turns", range(12))
async def test_a_trade_that_opens_again_while_its_watch_ends_is_watched_on(
    tmp_path: Path, n_turns: int
) -> None:
    with bench(tmp_path) as found:
        exits = replace(found.parameters.exits, break_even_r=1.0)
        found.parameters = replace(found.parameters, exits=exits)
        found.enter()
        execution = noting(found)
        manager = manager_of(found, execution)
        async with anyio.create_task_group() as group:
            group.start_soon(manager.run)
            await anyio.wait_all_tasks_blocked()
            found.store.add_order(RUN_ID, EXIT)
            execution.books.book_fill(SOLD)
            found.quote()
            assert found.store.trade(1)["state"] == "CLOSED"
            for _ in range(n_turns):
                await anyio.lowlevel.checkpoint()
            execution.books.book_fill(CORRECTED)
            assert found.store.open_shares(1) == 40
            await anyio.wait_all_tasks_blocked()

            manager.flatten()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        execution.close_streams()

    assert execution.asked == (1,)
