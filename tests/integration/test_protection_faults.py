"""What goes wrong with the orders that protect a position, lived through by a whole session.

As `test_order_faults`, for stop and target: refused, unheard of, filled at the wrong moment, and
made pointless by somebody else. At the end `trade_one_day` asserts that each position had its
stop, that nothing was left that could open one, and that record and gateway agree to the cent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from momentum_lab.core.market import Side
from momentum_lab.core.order import OrderIntent, OrderState
from momentum_lab.core.position import ExitParameters, ExitReason
from momentum_lab.core.signal import Reason
from momentum_lab.errors import ConnectionLostError, RecordError
from momentum_lab.gateway import messages
from momentum_lab.gateway.answers import orders as answers
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.floor import Floor
from momentum_lab.gateway.orders import REMOVED_LIQUIDITY, Order, Ticket
from momentum_lab.gateway.server import Gateway
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.voice import Message
from momentum_lab.live.bar_follower import BarFollower, Held
from momentum_lab.live.ibkr.synchronisation import Holdings
from momentum_lab.live.news_handler import Assignment
from momentum_lab.live.protection import Protection, Verdict
from momentum_lab.live.reconcile import agrees
from momentum_lab.records.trade_store import TradeStore
from tests.connection_kit import make_tape
from tests.factories import headline
from tests.gateway_factories import ticket
from tests.order_desk import (
    ABSENT_WITHIN_S,
    FILL_TIMEOUT_S,
    HALF_DAY_NS,
    NOON_NS,
    OrderDesk,
    by_hand,
    live_one_day,
    own_violations,
    trade_by_hand,
    trade_one_day,
)

pytestmark = pytest.mark.timeout(60)
_S = OrderState
# Of a trade whose exit needed its protection out of the way, until the stop is back.
BACK_WITHIN_S = 20.0
AUDIT_S = 330.0


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def refusing(*ends: str, times: int = 1_000_000) -> Callable[[Ticket], bool]:
    """Refuse orders by what their reference holds, so many times."""
    left = [times]

    def rejects(wanted: Ticket) -> bool:
        is_meant = any(end in wanted.order_ref for end in ends)
        left[0] -= is_meant
        return is_meant and left[0] >= 0

    return rejects


def stops(found: OrderDesk) -> list[Order]:
    return [o for o in found.exchange.live_orders() if o.ticket.order_type == "STP"]


def is_covered(found: OrderDesk) -> bool:
    """Whether stops for exactly what is held work at the gateway."""
    return found.held() != 0 and sum(o.remaining for o in stops(found)) == abs(found.held())


def fill(found: OrderDesk, order: Order, shares: int) -> None:
    """Let an order fill, whatever its price."""
    price_usd = found.session._execution.books.last_price("SPY") or 100.0
    floor = found.exchange.floor
    found.gateway.hub.publish(floor._fill(order.key, shares, price_usd, REMOVED_LIQUIDITY))


def state_of(found: OrderDesk, end: str) -> OrderState:
    (state,) = (
        OrderState(row["state"])
        for row in found.store.table("orders", found.session.run_id)
        if row["order_ref"].endswith(end)
    )
    return state


def trade_state(found: OrderDesk) -> str:
    (trade,) = found.store.table("trades", found.session.run_id)
    return str(trade["state"])


# --- refused ----------------------------------------------------------------------------------


def test_a_refused_stop_is_placed_anew(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.until(lambda: is_covered(found), patience_s=10)
        assert state_of(found, "-sl") is _S.REJECTED
        assert "position without a stop" in found.incidents()
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario, rejects=refusing("-sl", times=1))


def test_a_position_whose_stops_are_all_refused_is_closed(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.until(lambda: found.held() == 0, patience_s=15)

    found = trade_one_day(tape, tmp_path, scenario, rejects=refusing("-sl"))

    (trade,) = found.final["trades"]
    assert (trade["state"], trade["exit_reason"]) == ("CLOSED", "NO_PROTECTION")
    assert len([row for row in found.final["orders"] if row["purpose"] == "stop"]) == 3


def test_an_entry_that_its_refused_target_holds_back_is_cancelled(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        # The last of the family transmits the others: they lie at the gateway, in no list.
        await found.enter()
        assert found.states() == {"d1": _S.CANCELLED}
        assert list(found.exchange.books.unfinished()) == []
        assert found.executions() == []

    found = trade_one_day(tape, tmp_path, scenario, rejects=refusing("-tp"))

    assert {row["state"] for row in found.final["orders"]} == {"CANCELLED", "REJECTED"}


def test_exits_that_are_refused_again_and_again_use_up_no_stops(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        for _ in range(30):
            await found.close()
            await anyio.sleep(2)
        assert len(found.store.exits_of(1)) > 7
        # Nobody asks for an exit any more.
        await found.until(lambda: is_covered(found), patience_s=BACK_WITHIN_S)
        await anyio.sleep(60)
        assert is_covered(found)
        exits_are_refused[0] = False
        await found.until(found.is_operational)
        for _ in range(5):
            if not found.store.open_trades() or await found.close():
                break
            await anyio.sleep(2)

    exits_are_refused = [True]

    def rejects(wanted: Ticket) -> bool:
        return exits_are_refused[0] and "-t1x" in wanted.order_ref

    live_one_day(tape, tmp_path, scenario, rejects=rejects)


def unwritable_once(found: OrderDesk, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Let the record of one order fail, the first time."""
    add = found.store.add_order
    left = [1]

    def fails(run_id: str, intent: OrderIntent) -> None:
        if intent.order_ref.endswith(end) and left[0]:
            left[0] -= 1
            raise RecordError("the disk is full")
        add(run_id, intent)

    monkeypatch.setattr(found.store, "add_order", fails)


def test_an_exit_that_was_neither_recorded_nor_taken_is_followed_by_another(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        unwritable_once(found, monkeypatch, "-t1x1")
        assert not await found.close()
        assert "exit not recorded" in found.incidents()
        await found.until(lambda: found.states().get("t1x1") is _S.REJECTED, patience_s=20)
        await found.until(found.is_operational)
        for _ in range(10):
            if not found.store.open_trades() or await found.close():
                break
            await anyio.sleep(2)
        assert found.held() == 0

    found = live_one_day(tape, tmp_path, scenario, rejects=refusing("-t1x1", times=1))

    assert [row["state"] for row in found.final["orders"] if row["purpose"] == "exit"] == [
        "REJECTED",
        "FILLED",
    ]


def test_an_exit_that_was_neither_recorded_nor_sent_is_asked_for_again(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        unwritable_once(found, monkeypatch, "-t1x1")
        connector = found.session._connector
        place, left = connector.place_order, [1]

        async def fails(*orders: OrderIntent) -> tuple[int, ...]:
            if left[0]:
                left[0] -= 1
                raise ConnectionLostError("too many messages have just left")
            return await place(*orders)

        monkeypatch.setattr(connector, "place_order", fails)
        assert not await found.close()
        assert "exit not sent" in found.incidents()
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_a_trade_whose_exit_does_not_follow_gets_its_stop_back(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        assert not await found.close()
        # What was refused in the group goes alone: first the group ends. Nobody asks again.
        assert not await found.close()
        await anyio.sleep(BACK_WITHIN_S)
        assert is_covered(found)

    trade_one_day(tape, tmp_path, scenario, rejects=refusing("-t1x1"))


def test_while_one_position_is_closed_for_want_of_a_stop_the_others_keep_theirs(
    tape: Path, tmp_path: Path
) -> None:
    is_refused = [False]

    def refuses(wanted: Ticket) -> bool:
        return is_refused[0] and wanted.instrument.symbol == "SPY" and "-sl" in wanted.order_ref

    def stops_of(found: OrderDesk, symbol: str) -> list[Order]:
        return [order for order in stops(found) if order.symbol == symbol]

    def lose_stop(found: OrderDesk, symbol: str) -> None:
        (lost,) = stops_of(found, symbol)
        found.gateway.hub.publish(found.exchange.floor.end([lost.key], text="by hand"))

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.enter(symbol="IBM")
        await anyio.sleep(8)
        is_refused[0] = True
        # Its exit waits for the exchange.
        found.inject("halt", symbol="SPY", kind=1, for_s=60)
        lose_stop(found, "SPY")
        await found.until(lambda: [o.symbol for o in found.working()] == ["SPY"])
        lose_stop(found, "IBM")
        await found.until(lambda: bool(stops_of(found, "IBM")), patience_s=FILL_TIMEOUT_S / 4)
        await anyio.sleep(80)
        assert found.held() == 0

    live_one_day(tape, tmp_path, scenario, rejects=refuses)


def test_a_stop_that_the_broker_lists_and_holds_back_leads_to_a_close(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the broker calls Inactive may be refused, or held while it looks for shares."""
    tell = {name: getattr(messages, name) for name in ("open_order", "order_status")}

    def inactive(name: str, order: Order, *context: Any) -> dict[str, Any]:
        told: dict[str, Any] = tell[name](*context, order)
        return told | ({"status": "Inactive"} if "-sl" in order.ticket.order_ref else {})

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        monkeypatch.setattr(messages, "order_status", lambda o: inactive("order_status", o))
        monkeypatch.setattr(messages, "open_order", lambda hub, o: inactive("open_order", o, hub))
        found.inject("1102")
        await found.until(lambda: not found.session._execution.is_protected(1), patience_s=10)
        await found.until(lambda: found.held() == 0, patience_s=60)

    found = trade_one_day(tape, tmp_path, scenario)

    (trade,) = found.final["trades"]
    assert trade["exit_reason"] == "NO_PROTECTION"


def test_an_exit_that_the_broker_only_holds_makes_room_for_another(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = {name: getattr(messages, name) for name in ("open_order", "order_status")}
    fillable = Floor._fillable

    def held_back(order: Order) -> bool:
        return order.ticket.order_ref.endswith("-t1x1") and order.status == "Submitted"

    def pending(name: str, order: Order, *context: Any) -> dict[str, Any]:
        told: dict[str, Any] = tell[name](*context, order)
        return told | ({"status": "PendingSubmit"} if held_back(order) else {})

    def none_of_it(floor: Floor, order: Order, *context: Any, **more: Any) -> float:
        return 0 if held_back(order) else fillable(floor, order, *context, **more)

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        monkeypatch.setattr(messages, "order_status", lambda o: pending("order_status", o))
        monkeypatch.setattr(messages, "open_order", lambda hub, o: pending("open_order", o, hub))
        monkeypatch.setattr(Floor, "_fillable", none_of_it)
        assert not await found.close()
        await found.until(lambda: found.states()["t1x1"] is _S.CANCELLED, patience_s=60)
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert "exit not working" in {row["kind"] for row in found.final["incidents"]}


def test_a_refused_exit_that_is_still_listed_does_not_keep_the_next_from_leaving(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_open = answers._tell_open

    def with_inactive(session: Session, orders: list[Order]) -> None:
        done = session.hub.exchange.done_today()
        tell_open(session, [*orders, *(one for one in done if one.status == "Inactive")])

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        assert not await found.close()
        monkeypatch.setattr(answers, "_tell_open", with_inactive)
        found.inject("1102")
        await anyio.sleep(3)
        assert found.states()["t1x1"] is _S.REJECTED
        for _ in range(60):
            if await found.close():
                break
            await anyio.sleep(1)

    trade_one_day(tape, tmp_path, scenario, rejects=refusing("-t1x", times=1))


# --- unheard of -------------------------------------------------------------------------------


def test_a_stop_whose_acknowledgement_is_lost_is_asked_for(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("lost_acknowledgement", for_s=5)
        await found.enter()
        (trade,) = found.store.open_trades()
        assert not found.session._execution.is_protected(trade["trade_id"])
        await anyio.sleep(2 * FILL_TIMEOUT_S)
        assert found.session._execution.is_protected(trade["trade_id"])
        # It was there all the time: no second one is placed.
        assert len(stops(found)) == 1
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert {row["kind"] for row in found.final["incidents"]} == {"protection unknown"}


def test_a_stop_whose_changes_nobody_hears_is_changed_once_they_are_heard(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (trade,) = found.store.open_trades()
        await found.until(lambda: stops(found)[0].ticket.stop_usd == trade["stop"])
        tighter_usd = round(trade["stop"] + 0.02, 2)
        found.inject("lost_answer", request="placeOrder", for_s=15)
        await found.session._execution.move_stop(trade["trade_id"], tighter_usd, ExitReason.TRAIL)
        await anyio.sleep(14)
        assert stops(found)[0].ticket.stop_usd == trade["stop"]
        await found.until(lambda: stops(found)[0].ticket.stop_usd == tighter_usd, patience_s=15)
        assert found.incidents().count("protection not changed") == 1
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_a_stop_that_a_restart_swallows_is_placed_again(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (stop,) = stops(found)
        found.gateway.hub.publish(found.exchange.floor.end([stop.key], text="by hand"))
        # The one that takes its place is among the orders of the last seconds.
        found.inject("restart", vanish_s=3, for_s=20)
        await anyio.sleep(ABSENT_WITHIN_S)
        await found.until(lambda: is_covered(found))
        assert [o.ticket.order_ref for o in stops(found)] == ["ml-desk-d1-sl3"]
        assert state_of(found, "-sl2") is _S.ABSENT
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_a_stop_partly_filled_in_silence_is_found_by_the_audit(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (stop,) = stops(found)
        found.inject("partial_then_silence", for_s=60)
        fill(found, stop, 100)
        await anyio.sleep(1)
        (trade,) = found.store.open_trades()
        assert abs(found.store.open_shares(trade["trade_id"])) == abs(found.held())
        fill(found, stop, found.held())
        assert found.held() == 0
        await anyio.sleep(AUDIT_S)
        assert trade_state(found) == "CLOSED"

    found = trade_one_day(tape, tmp_path, scenario)

    assert len(found.executions()) == 3


def requests_of(found: OrderDesk) -> Counter[str]:
    """How often each request arrives at the gateway from now on."""
    asked: Counter[str] = Counter()
    log_wire = found.gateway.hub.log_wire

    def hear(direction: str, client_id: int | None, content: Any) -> None:
        asked.update(content[:1] if direction == "<" else ())
        log_wire(direction, client_id, content)

    found.gateway.hub.log_wire = hear  # type: ignore[method-assign]
    return asked


def test_an_order_that_a_gap_left_absent_is_looked_for_once_more_soon(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("lost_answer", request="placeOrder", for_s=5)
        await found.enter()
        await found.until(lambda: found.states() == {"d1": _S.ABSENT})
        asked = requests_of(found)
        await anyio.sleep(45)
        assert asked["reqExecutions"] == 1
        await anyio.sleep(120)
        assert asked["reqExecutions"] == 1

    trade_one_day(tape, tmp_path, scenario)


def test_an_audit_of_a_sound_record_asks_for_positions_and_open_orders_only(
    tape: Path, tmp_path: Path
) -> None:
    books = ("reqPositions", "reqAllOpenOrders", "reqCompletedOrders", "reqExecutions")

    async def scenario(found: OrderDesk) -> None:
        asked = requests_of(found)
        await found.enter()
        await anyio.sleep(2 * AUDIT_S)
        asked.clear()
        await anyio.sleep(2 * 300)
        assert [asked[name] for name in books] == [2, 2, 0, 0]
        # What these do not show, such as a corrected price, is asked for once an hour.
        await anyio.sleep(3600)
        assert [asked[name] for name in books] == [15, 14, 1, 1]
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_an_audit_that_cannot_read_the_record_ends_no_session(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: TradeStore) -> dict[int, float]:
        raise RecordError("the disk does not answer")

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        with monkeypatch.context() as broken:
            broken.setattr(TradeStore, "positions", refuse)
            await anyio.sleep(AUDIT_S)
        assert "audit failed" in found.incidents()
        assert is_covered(found)
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_two_lost_part_fills_that_undo_each_other_are_seen_in_what_has_been_filled() -> None:
    rows = [{"order_ref": "ml-r-d1", "created_ns": 1, "state": "PARTIAL"}]
    store = SimpleNamespace(
        unsettled_orders=lambda: rows, positions=dict, filled_shares=lambda _ref: 50.0
    )

    def is_sound(filled: float) -> bool:
        return agrees(Holdings({}, {"ml-r-d1": filled}), store, sent_before_ns=2)  # type: ignore[arg-type]

    assert is_sound(50.0)
    assert not is_sound(100.0)


def test_a_stop_that_was_taken_for_lost_and_lives_is_not_kept_beside_the_new_one(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        # For a while the list of open orders lacks everything that works.
        found.inject("lost_acknowledgement", strikes_lists=1, for_s=30)
        for _ in range(2):
            await found.session._auditor.audit()
            await anyio.sleep(4)
        await found.until(lambda: len(stops(found)) > 1, patience_s=20)
        found.end("lost_acknowledgement")
        await anyio.sleep(60)
        assert is_covered(found)
        assert len(stops(found)) == 1
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_a_stop_that_is_no_child_follows_an_entry_that_goes_on_filling(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.exchange.floor.fills_only_half = True
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            # The child is refused: what takes its place is not enlarged by the broker.
            await found.until(lambda: is_covered(found))
            (entry,) = found.working()
            fill(found, entry, 30)
            await found.until(lambda: is_covered(found), patience_s=10)
            assert not found.exchange.books.orders[entry.key].is_done
            found.exchange.floor.fills_only_half = False
        await found.until(lambda: is_covered(found))
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario, rejects=refusing("-sl", times=1))


# --- filled at the wrong moment ---------------------------------------------------------------


def test_a_stop_that_fills_before_the_exit_arrives_ends_it(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        async with anyio.create_task_group() as group:
            group.start_soon(found.close)
            await found.until(lambda: len(found.placed()) == 2)
            (stop,) = stops(found)
            fill(found, stop, found.held())
        assert found.states() == {"d1": _S.FILLED, "t1x1": _S.CANCELLED}

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=2))

    (trade,) = found.final["trades"]
    assert (trade["state"], trade["exit_reason"]) == ("CLOSED", "STOP_LOSS")
    assert len(found.executions()) == 2


def test_an_exit_after_a_fill_of_the_stop_that_is_not_known_yet_is_harmless(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("late_status", delay_s=5, for_s=30)
        (stop,) = stops(found)
        fill(found, stop, found.held())
        # The group has filled: the gateway takes nobody there.
        await found.close()
        await anyio.sleep(FILL_TIMEOUT_S)
        assert trade_state(found) == "CLOSED"
        assert found.states()["t1x1"] is _S.CANCELLED

    found = trade_one_day(tape, tmp_path, scenario)

    assert len(found.executions()) == 2


def test_a_position_that_its_late_fills_explain_is_not_looked_for_again(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("late_status", strikes_lists=1, delay_s=25, for_s=60)
        (stop,) = stops(found)
        fill(found, stop, found.held())
        # The list of executions lacks what is told late; the list of positions does not.
        await found.session._auditor.audit()
        assert found.session._execution.books.missing
        await anyio.sleep(60)
        assert trade_state(found) == "CLOSED"
        assert found.session._execution.books.missing == ()

    trade_one_day(tape, tmp_path, scenario)


def test_an_exit_that_was_taken_for_lost_and_lives_does_not_fill_beside_the_next(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.exchange.floor.fills_only_half = True
        # The list of open orders lacks everything that works.
        found.inject("lost_acknowledgement", strikes_lists=1, for_s=60)
        assert not await found.close()
        await found.until(lambda: found.states()["t1x1"] is _S.ABSENT)
        await found.until(found.is_operational)
        async with anyio.create_task_group() as group:
            group.start_soon(found.close)
            await found.until(lambda: len(found.working()) == 2)
            found.exchange.floor.fills_only_half = False
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario)

    assert [name for name, *_ in found.placed()] == ["d1", "t1x1", "t1x2"]


def test_a_stop_that_its_group_has_reduced_is_settled_by_its_fill(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.exchange.floor.fills_only_half = True
        await found.close()
        (stop,) = stops(found)
        assert 0 < stop.quantity < stop.ticket.quantity
        fill(found, stop, stop.remaining)
        found.exchange.floor.fills_only_half = False
        await found.until(lambda: not found.store.unsettled_orders(), patience_s=10)
        assert state_of(found, "-sl") is _S.CANCELLED
        assert trade_state(found) == "CLOSED"

    found = trade_one_day(tape, tmp_path, scenario)

    assert len(found.executions()) == 3


def test_what_an_exit_leaves_open_is_protected_in_a_new_group(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.exchange.floor.fills_only_half = True
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            await found.until(lambda: found.store.open_trades() != [])
            # An exit asks for the end of its entry first, which nobody hears here.
            found.inject("lost_answer", request="cancelOrder", for_s=60)
            group.start_soon(found.close)
            await found.until(lambda: len(found.working()) == 2)
            # What is held is closed whole, which ends the group; then the entry goes on.
            (exit_order,) = (o for o in found.working() if o.ticket.side is Side.SELL)
            fill(found, exit_order, exit_order.remaining)
            assert (found.held(), stops(found)) == (0, [])
            found.exchange.floor.fills_only_half = False
        await found.until(lambda: is_covered(found))
        assert {order.oca_group for order in stops(found)} == {"ml-desk-d1-g2"}
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_an_exit_ends_what_still_works_of_its_entry(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.exchange.floor.fills_only_half = True
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            await found.until(lambda: found.store.open_trades() != [])
            group.start_soon(found.close)
            await found.until(lambda: found.states()["d1"] is _S.CANCELLED)
            found.exchange.floor.fills_only_half = False
        await found.until(lambda: found.held() == 0 and not found.working())

    trade_one_day(tape, tmp_path, scenario)


def test_the_corrected_fill_of_a_stop_is_recorded_to_the_cent(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (stop,) = stops(found)
        fill(found, stop, found.held())
        found.inject("execution_correction", change_usd=-0.37)
        await anyio.sleep(2)

    found = trade_one_day(tape, tmp_path, scenario)

    (trade,) = found.final["trades"]
    assert trade["exit_price"] == pytest.approx(found.executions()[-1].price_usd)
    assert trade["exit_reason"] == "STOP_LOSS"


def test_protection_stays_while_the_fill_of_a_cancelled_entry_is_not_told(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    are_lost = [False]
    tell = Session.send_all

    def lose_executions(self: Session, messages: Iterable[Message]) -> None:
        lost = ("execDetails", "position") if are_lost[0] else ()
        tell(self, [one for one in messages if one[0] not in lost])

    monkeypatch.setattr(Session, "send_all", lose_executions)

    async def scenario(found: OrderDesk) -> None:
        async with anyio.create_task_group() as group:
            await found.enter_a_halt(group, for_s=40)
            await anyio.sleep(4)
            (entry,) = found.working()
            are_lost[0] = True
            fill(found, entry, entry.quantity // 2)
            found.gateway.hub.publish(found.exchange.cancel(17, entry.ticket.order_id))
            are_lost[0] = False
        assert found.held() == entry.quantity // 2
        for _ in range(50):
            assert is_covered(found)
            await anyio.sleep(0.5)
        (trade,) = found.store.open_trades()
        assert found.store.open_shares(trade["trade_id"]) == found.held()
        assert "execution missing" in found.incidents()
        await anyio.sleep(40)
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=2))


# --- made pointless by somebody else ----------------------------------------------------------


def test_a_position_that_somebody_else_closes_takes_its_orders_along(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        by_hand(found, Side.SELL, found.held())
        # One look proves nothing.
        for _ in range(2):
            await found.session._auditor.audit()
            await anyio.sleep(4)
        assert trade_state(found) == "CLOSED"
        await found.until(lambda: not found.exchange.live_orders(), patience_s=5)
        assert "closed elsewhere" in found.incidents()

    found = live_one_day(tape, tmp_path, scenario)

    assert [w for w in own_violations(found) if not w.startswith("fill of no")] == []
    (trade,) = found.final["trades"]
    assert trade["exit_reason"] == "MANUAL"
    assert trade["exit_price"] == pytest.approx(found.executions()[-1].price_usd)
    assert [row["is_inferred"] for row in found.final["fills"]] == [0, 1]


def test_a_foreign_position_is_not_touched_and_not_added_to(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        by_hand(found, Side.BUY, 10)
        await found.session._auditor.audit()
        decision = await found.enter()
        assert decision.reason is Reason.SYMBOL_BLOCKED
        await anyio.sleep(60)
        assert found.held() == 10
        assert not any(ref.startswith("ml-") for _, ref, *_ in found.judge.order_log)
        by_hand(found, Side.SELL, 10, order_id=2)
        await found.session._auditor.audit()

    found = live_one_day(tape, tmp_path, scenario)

    # Nobody gives it a stop either.
    told = {words.partition(":")[0] for words in own_violations(found)}
    assert told == {"position without a stop"}


def test_a_foreign_position_of_before_the_session_is_known_at_its_start(
    tape: Path, tmp_path: Path
) -> None:
    async def before(gateway: Gateway) -> None:
        await anyio.sleep(7)
        trade_by_hand(gateway, Side.BUY, 10)
        await anyio.sleep(7)
        assert gateway.hub.account.ledger.position("SPY").quantity == 10

    async def scenario(found: OrderDesk) -> None:
        # No line was open yet when the broker told of it, so nobody knew its symbol.
        decision = await found.enter()
        assert decision.reason is Reason.SYMBOL_BLOCKED
        assert "SPY: the broker holds 10 shares" in decision.text
        by_hand(found, Side.SELL, 10, order_id=2)
        await found.session._auditor.audit()
        assert found.incidents().count("position differs") == 1

    found = live_one_day(tape, tmp_path, scenario, before=before)

    assert found.final["orders"] == []


def test_the_order_of_another_client_with_the_same_id_is_not_ours(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.until(lambda: is_covered(found))
        # The stop follows the average fill.
        await anyio.sleep(5)
        (stop,) = stops(found)
        mine = found.session._connector.working(stop.ticket.order_ref)
        # Each client of the broker counts ids for itself.
        resting = ticket(
            Side.BUY, 400, order_type="LMT", limit_usd=1.0, order_id=stop.ticket.order_id
        )
        theirs = replace(resting, client_id=55, order_ref="")
        found.gateway.hub.publish(found.exchange.place(theirs))
        n_arrived = len(found.judge.order_log)
        # Only who asks for the orders of all clients hears of it.
        await found.session._auditor.audit()
        await anyio.sleep(15)
        assert found.session._connector.working(stop.ticket.order_ref) == mine
        assert len(found.judge.order_log) == n_arrived
        found.gateway.hub.publish(found.exchange.cancel(55, stop.ticket.order_id))
        assert await found.close()

    live_one_day(tape, tmp_path, scenario)


def test_a_position_that_turns_round_between_two_looks_is_not_looked_at_for_ever(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (stop,), held = stops(found), found.held()
        by_hand(found, Side.SELL, held // 3)
        await found.session._auditor.audit()
        assert found.session._execution.books.missing
        # Before the second look all of it is sold once more.
        fill(found, stop, held)
        await anyio.sleep(30)
        assert found.held() == -(held // 3)
        assert found.session._execution.books.missing == ()
        n_steps = len(found.store.table("connection", found.session.run_id))
        await anyio.sleep(60)
        assert found.is_operational()
        assert len(found.store.table("connection", found.session.run_id)) == n_steps
        by_hand(found, Side.BUY, held // 3, order_id=2)
        await found.session._auditor.audit()

    live_one_day(tape, tmp_path, scenario)


# --- what fails for one, and nobody else -------------------------------------------------------


def test_a_look_that_fails_for_one_position_leaves_the_others_protected(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Protection.look

    async def fails(self: Protection, trade_id: int) -> Verdict:
        if trade_id == 1:
            raise RecordError("the disk is full")
        return await look(self, trade_id)

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.enter(symbol="IBM")
        await found.until(lambda: len(stops(found)) == 2)
        (of_ibm,) = [order for order in stops(found) if order.symbol == "IBM"]
        with monkeypatch.context() as broken:
            broken.setattr(Protection, "look", fails)
            found.gateway.hub.publish(found.exchange.floor.end([of_ibm.key], text="by hand"))
            await found.until(lambda: len(stops(found)) == 2, patience_s=10)
        assert "protection interrupted" in found.incidents()

    trade_one_day(tape, tmp_path, scenario)


def test_bars_that_cannot_be_followed_leave_the_position_watched(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_self: BarFollower, _trade_id: int, _held: Held) -> None:
        raise RecordError("the disk does not answer")

    monkeypatch.setattr(ExitParameters, "follow_bars", property(lambda _self: True))
    monkeypatch.setattr(BarFollower, "follow", fails)

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await anyio.sleep(10)
        assert "stop not followed" in found.incidents()
        assert 1 in found.session._manager._managed
        # The end of the session closes it: somebody still hears.

    trade_one_day(tape, tmp_path, scenario)


def test_a_headline_that_first_names_others_waits_for_the_line_of_ours(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        now_ns, book = found.gateway.now_ns, found.session._book
        first = replace(
            headline(article_id="b1", published_ns=now_ns), symbols=("FOO",), received_ns=now_ns
        )
        key = book.add_headline(first)
        assert key is not None
        found.session._engine._queue.put_nowait(Assignment(first, key))
        await anyio.sleep(0.1)
        assert book.add_headline(replace(first, symbols=("SPY",))) is None
        await anyio.sleep(5)
        told = {row["reason"] for row in found.store.table("decisions", found.session.run_id)}
        assert Reason.NOT_IN_UNIVERSE.value not in told

    trade_one_day(tape, tmp_path, scenario)


def test_a_doubt_of_our_own_leaves_lines_and_tapes_alone(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await anyio.sleep(150)
        line = found.session._connector.lines.get("SPY")
        assert line is not None
        candles, asked = line.candles, requests_of(found)
        assert candles.closed
        await found.session._connector.resynchronise("a doubt of our own")
        await found.until(lambda: not found.is_operational())
        await found.until(found.is_operational)
        assert asked["reqPositions"] == 2
        assert asked["reqMktData"] == asked["cancelMktData"] == 0
        assert line.candles.closed[-1] == candles.closed[-1]
        # After a word of the broker they are asked for anew.
        found.inject("1102")
        await found.until(lambda: not found.is_operational())
        await found.until(found.is_operational)
        assert asked["reqMktData"] > 1

    trade_one_day(tape, tmp_path, scenario)


def test_a_position_without_a_line_is_left_when_the_session_ends(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        # As after a restart with another universe, where the broker refuses the look-up.
        lines = found.session._connector.lines
        del lines._by_symbol["SPY"]
        manager = found.session._manager
        async with anyio.create_task_group() as group:
            group.start_soon(manager._watch, 1, Held())
            await anyio.sleep(5)
            manager.flatten()
            await found.until(lambda: found.held() == 0, patience_s=20)
            group.cancel_scope.cancel()

    trade_one_day(tape, tmp_path, scenario)
