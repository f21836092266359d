"""The judge of the random days sees a system that breaks a promise: each is broken once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.gateway.orders import Ticket
from momentum_lab.live import execution_service
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.protection import Protection, Verdict
from momentum_lab.records.trade_store import TradeStore
from tests.connection_kit import make_tape
from tests.day_judge import purpose_of
from tests.gateway_factories import SPY, ticket
from tests.order_desk import NOON_NS, OrderDesk, live_one_day

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    half_day_ns = 12 * 3600 * NS_PER_S
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - half_day_ns, 2)


def kinds(found: OrderDesk) -> set[str]:
    return {words.partition(":")[0] for words in found.judge.violations}


def intent(found: OrderDesk, name: str, side: Side, *, shares: int = 10) -> OrderIntent:
    trade_id = 1 if name.startswith("t") else None
    return OrderIntent(
        f"ml-desk-{name}",
        "SPY",
        SPY.con_id,
        side,
        shares,
        found.gateway.now_ns,
        trade_id=trade_id,
        purpose=OrderPurpose.EXIT if trade_id else OrderPurpose.ENTRY,
    )


def by_hand(name: str, side: Side, order_type: str, quantity: int, *, order_id: int) -> Ticket:
    """An order of another client that looks like one of ours."""
    found = ticket(side, quantity, order_id=order_id, order_type=order_type, tif="GTC")
    return replace(found, client_id=55, order_ref=f"ml-desk-{name}", stop_usd=50.0)


def test_an_order_that_is_placed_twice_is_seen(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        for _ in range(2):
            await found.session._connector.place_order(intent(found, "d7", Side.BUY))

    found = live_one_day(tape, tmp_path, scenario)

    assert {"order placed twice", "entry into a position", "not flat"} <= kinds(found)
    assert "execution not recorded" in kinds(found)


def test_an_entry_for_a_symbol_that_is_held_is_seen(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExecutionService, "_refuse_symbol", lambda _self, _symbol: None)

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.enter()

    found = live_one_day(tape, tmp_path, scenario)

    assert {"intent for a busy symbol", "entry into a position"} <= kinds(found)


def test_an_exit_of_the_wrong_side_is_seen(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.session._connector.place_order(intent(found, "t1x1", Side.BUY))
        await anyio.sleep(10)

    assert "exit enlarged a position" in kinds(live_one_day(tape, tmp_path, scenario))


def test_an_exit_of_nothing_and_a_position_beyond_zero_are_seen(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.session._connector.place_order(intent(found, "t1x1", Side.SELL))
        await anyio.sleep(60)

    found = live_one_day(tape, tmp_path, scenario)

    assert {"exit beyond zero", "position beyond zero"} <= kinds(found)
    assert "silent about a position" in kinds(found)


def test_a_commission_that_is_not_recorded_is_seen(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TradeStore, "book_commission", lambda _self, _exec_id, _usd: None)

    async def scenario(found: OrderDesk) -> None:
        await found.enter()

    assert "commission not recorded" in kinds(live_one_day(tape, tmp_path, scenario))


def test_an_entry_while_the_broker_is_away_is_seen(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("1100", for_s=30)
        await anyio.sleep(1)
        with monkeypatch.context() as bent:
            bent.setattr(IBKRConnector, "is_operational", lambda _self: True)
            await found.session._connector.place_order(intent(found, "d7", Side.BUY))

    found = live_one_day(tape, tmp_path, scenario)

    assert len(found.judge.witness.violations) == 1


def test_a_position_without_its_stop_is_seen(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    async def quiet(_self: Protection, _trade_id: int) -> Verdict:
        return Verdict.QUIET

    # An entry that takes no stop along, and nobody who looks for one.
    monkeypatch.setattr(execution_service, "children_of", lambda _entry: ())
    monkeypatch.setattr(Protection, "look", quiet)

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        for order_id, quantity in ((1, found.held()), (2, 5)):
            stop = by_hand(f"d{order_id}-sl", Side.SELL, "STP", quantity, order_id=order_id)
            found.gateway.hub.publish(found.exchange.place(stop))
            await anyio.sleep(60)
            seen.append(kinds(found))
        found.gateway.hub.publish(found.exchange.cancel_all())
        await anyio.sleep(60)
        seen.append(kinds(found))

    live_one_day(tape, tmp_path, scenario)

    assert seen == [set(), {"stop too large"}, {"stop too large", "position without a stop"}]


def test_a_stop_of_nothing_is_seen(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        stop = by_hand("d1-sl", Side.SELL, "STP", 10, order_id=1)
        found.gateway.hub.publish(found.exchange.place(stop))
        await anyio.sleep(60)

    assert "order protects nothing" in kinds(live_one_day(tape, tmp_path, scenario))


@pytest.mark.parametrize(
    ("order_ref", "purpose"),
    [
        ("ml-day0-d12", "entry"),
        ("ml-day0-t3x2", "exit"),
        ("ml-day0-d12-sl", "stop"),
        ("ml-day0-d12-tp", "target"),
        ("", ""),
        ("by hand", ""),
    ],
)
def test_a_reference_tells_the_purpose(order_ref: str, purpose: str) -> None:
    assert purpose_of(order_ref) == purpose
