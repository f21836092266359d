"""Stop and target of an entry that fills in parts, while a rule moves the stop between them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.order import OrderState
from momentum_lab.core.position import ExitReason
from momentum_lab.gateway.orders import REMOVED_LIQUIDITY
from tests.connection_kit import make_tape
from tests.order_desk import NOON_NS, OrderDesk, trade_one_day

pytestmark = pytest.mark.timeout(60)
HALF_DAY_NS = 12 * 3600 * NS_PER_S


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def fill_rest(found: OrderDesk, *, price_usd: float) -> None:
    """Let what is left of the entry fill at a price of our choice."""
    (entry,) = found.working()
    floor = found.exchange.floor
    found.gateway.hub.publish(floor._fill(entry.key, entry.remaining, price_usd, REMOVED_LIQUIDITY))


@pytest.mark.parametrize(
    ("moved_ratio", "stop_ratio", "kind"),
    [(0.97, 0.97, ExitReason.TRAIL), (0.905, 0.91, ExitReason.STOP_LOSS)],
)
def test_levels_follow_the_average_fill_also_after_a_rule_has_moved_the_stop(
    tape: Path, tmp_path: Path, moved_ratio: float, stop_ratio: float, kind: ExitReason
) -> None:
    async def scenario(found: OrderDesk) -> None:
        floor, execution = found.exchange.floor, found.session._execution
        floor.fills_only_half = True
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            await found.until(lambda: found.store.open_trades() != [])
            (before,) = found.store.open_trades()
            first_usd = before["entry_price"]
            moved_usd = round(moved_ratio * first_usd, 2)
            await execution.move_stop(before["trade_id"], moved_usd, ExitReason.TRAIL)
            # The average of both halves is about a hundredth above the first one.
            fill_rest(found, price_usd=round(1.0222 * first_usd, 2))
            await found.until(lambda: found.states()["d1"] is OrderState.FILLED)
            floor.fills_only_half = False
        (after,) = found.store.open_trades()
        assert after["entry_price"] == pytest.approx(1.0111 * first_usd, rel=2e-3)
        assert after["target"] == pytest.approx(1.4 * after["entry_price"], abs=0.01)
        assert after["first_stop"] == pytest.approx(0.9 * after["entry_price"], abs=0.01)
        assert after["stop"] == pytest.approx(stop_ratio * first_usd, rel=2e-3)
        assert after["stop_kind"] == kind.value
        meant = {after["stop"], after["target"]}
        await found.until(
            lambda: (
                {
                    order.ticket.stop_usd or order.ticket.limit_usd
                    for order in found.exchange.live_orders()
                }
                == meant
            )
        )
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)
