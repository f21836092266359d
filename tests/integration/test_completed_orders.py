"""The list of completed orders is the one that a real gateway may never answer.

A session at a paper gateway that does not hear the request: exits leave all the same, and what only
that list could have told stays open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from momentum_lab.core.connection import ConnectionState
from momentum_lab.core.order import OrderState
from momentum_lab.core.signal import Reason
from momentum_lab.gateway import messages
from momentum_lab.gateway.orders import Order
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.virtual import run_virtual
from tests.connection_kit import Patient, make_tape, patient
from tests.order_desk import (
    ABSENT_WITHIN_S,
    HALF_DAY_NS,
    NOON_NS,
    OrderDesk,
    live_one_day,
    trade_one_day,
)

pytestmark = pytest.mark.timeout(60)
_REQUEST = "reqCompletedOrders"
_UNKNOWN = "completed orders unknown"
# Half of the time limit of a request, and the other requests.
_GIVEN_UP_S = 7.0
# What was not answered is not asked for again before.
_ASKED_AGAIN_S = 60.0


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def live_through(tape: Path, scenario: Callable[[Patient], Awaitable[None]]) -> Patient:
    """Run a scenario while somebody asks for an entry and an exit every two seconds."""

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS) as found, anyio.create_task_group() as group:
            group.start_soon(found.tempt)
            await anyio.sleep(20)
            await scenario(found)
            group.cancel_scope.cancel()
        return found

    found = run_virtual(main)
    assert found.witness.violations == []
    return found


def lose(found: Patient | OrderDesk, request: str = _REQUEST, *, for_s: float = 3600.0) -> None:
    found.gateway.inject("lost_answer", {"request": request}, for_s=for_s)


def count_requests(found: Patient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the requests that arrive from now on, heard or not."""
    arrived: list[str] = []
    log_wire = found.gateway.hub.log_wire

    def log(direction: str, client_id: int | None, content: Any) -> None:
        arrived.extend(content[:1] if direction == "<" else ())
        log_wire(direction, client_id, content)

    monkeypatch.setattr(found.gateway.hub, "log_wire", log)
    return arrived


def session_of(found: Patient) -> Session:
    (session,) = found.gateway.hub.sessions.values()
    return session


def tell_completed(session: Session, orders: Sequence[Order]) -> None:
    for order in orders:
        session.send("completedOrder", **messages.completed_order(session.hub, order))


async def resynchronised_s(found: Patient) -> float:
    """Have everything asked for again; return after how long exits may leave."""
    await found.connector.resynchronise("a test")
    took_s = await found.until(found.connector.may_exit, patience_s=60)
    await found.until(found.connector.is_operational, patience_s=60)
    return took_s


# --- the connection -------------------------------------------------------------------------------


def test_exits_leave_although_completed_orders_are_never_answered(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        lose(found)
        n_exits = found.witness.n_exits
        assert 1 < await resynchronised_s(found) < _GIVEN_UP_S
        await anyio.sleep(20)
        assert found.witness.n_exits > n_exits
        (item,) = [one for one in found.connector.checklist if one.item == "completed orders"]
        assert "no answer" in item.words

    found = live_through(tape, scenario)

    assert ConnectionState.DISCONNECTED not in found.states_after(20)
    assert found.kinds().count(_UNKNOWN) == 1


def test_what_is_pending_is_not_asked_for_again_at_once(
    tape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: Patient) -> None:
        arrived = count_requests(found, monkeypatch)
        lose(found)
        await resynchronised_s(found)
        # The broker refuses a second request while one is pending: nobody waits for it.
        assert await resynchronised_s(found) < 1
        assert arrived.count(_REQUEST) == 1
        await anyio.sleep(_ASKED_AGAIN_S)
        assert (await found.connector.audit()).completed_orders is None
        assert arrived.count(_REQUEST) == 2
        found.gateway.hub.faults.end("lost_answer")
        await anyio.sleep(_ASKED_AGAIN_S)
        assert (await found.connector.audit()).completed_orders

    assert live_through(tape, scenario).kinds().count(_UNKNOWN) == 1


def test_after_the_broker_was_away_it_is_asked_for_at_once(
    tape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: Patient) -> None:
        lose(found)
        await resynchronised_s(found)
        found.gateway.hub.faults.end("lost_answer")
        arrived = count_requests(found, monkeypatch)
        found.gateway.inject("1102")
        await anyio.sleep(1)
        await found.until(found.connector.is_operational, patience_s=60)
        assert arrived.count(_REQUEST) == 1
        assert (await found.connector.audit()).completed_orders

    live_through(tape, scenario)


def test_each_connection_tells_once_that_completed_orders_are_unknown(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        lose(found)
        await resynchronised_s(found)
        found.gateway.inject("tcp_reset")
        await anyio.sleep(1)
        await found.until(found.connector.is_operational, patience_s=60)

    assert live_through(tape, scenario).kinds().count(_UNKNOWN) == 2


def test_a_late_answer_of_an_earlier_request_leaves_nothing_out(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        everything = set((await found.connector.audit()).completed_orders or ())
        assert len(everything) > 2
        lose(found)
        await resynchronised_s(found)
        session = session_of(found)
        answer = session.hub.exchange.done_today()
        # Half of the late answer comes before the second request, the rest while that is pending.
        tell_completed(session, answer[:2])
        found.gateway.inject("1102")
        await anyio.sleep(1)
        tell_completed(session, answer[2:])
        session.send("completedOrdersEnd")
        await found.until(found.connector.is_operational, patience_s=60)
        found.gateway.hub.faults.end("lost_answer")
        told = (await found.connector.audit()).completed_orders
        assert told is not None
        assert everything <= set(told)

    found = live_through(tape, scenario)

    assert "message not understood" not in found.kinds()
    assert ConnectionState.DISCONNECTED not in found.states_after(20)


def test_executions_stay_mandatory_and_the_loss_names_them(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        lose(found, "reqExecutions", for_s=30)
        await found.connector.resynchronise("a test")
        await anyio.sleep(12)
        assert not found.connector.may_exit()
        assert "the list of executions: no answer within 10 s" in found.connector.last_loss
        assert "UTC format" in found.connector.last_loss
        await found.until(found.connector.is_operational, patience_s=90)

    live_through(tape, scenario)


def test_completed_orders_that_nobody_asked_for_are_no_doubt(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        before = (await found.connector.audit()).completed_orders
        session, began_s = session_of(found), anyio.current_time()
        # As after a trade by hand in TWS, and while orders are placed.
        for _ in range(20):
            tell_completed(session, session.hub.exchange.done_today())
            session.send("completedOrdersEnd")
            await anyio.sleep(1)
        assert found.states_after(began_s) == []
        assert found.connector.is_operational()
        # What the request brings is the same.
        told = (await found.connector.audit()).completed_orders
        assert before
        assert told is not None
        assert {**told, **before} == told

    assert live_through(tape, scenario).kinds() == []


def test_an_end_that_nobody_asked_for_is_no_answer(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        lose(found)
        session_of(found).send("completedOrdersEnd")
        await anyio.sleep(1)
        assert (await found.connector.audit()).completed_orders is None

    live_through(tape, scenario)


def test_completed_orders_that_nobody_asked_for_do_not_end_a_waiting_order(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (session,) = found.gateway.hub.sessions.values()
        working = found.exchange.live_orders()
        assert working
        tell_completed(session, working)
        await anyio.sleep(1)
        await found.session._auditor.audit()
        assert {row["state"] for row in found.store.unsettled_orders()} == {"WORKING"}
        assert found.incidents() == []
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


# --- the record -----------------------------------------------------------------------------------


def test_a_position_is_closed_while_completed_orders_are_not_answered(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        lose(found)
        await found.session._connector.resynchronise("a test")
        await anyio.sleep(_GIVEN_UP_S)
        assert await found.close()
        assert found.incidents() == [_UNKNOWN]

    trade_one_day(tape, tmp_path, scenario)


def test_an_order_in_no_list_stays_unknown_until_completed_orders_tell(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        lose(found)
        found.inject("lost_answer", request="placeOrder", for_s=5)
        await found.enter()
        await anyio.sleep(2 * ABSENT_WITHIN_S)
        assert found.states() == {"d1": OrderState.UNKNOWN}
        # Only entries of this symbol are kept back.
        assert found.is_operational()
        assert (await found.enter()).reason is Reason.SYMBOL_BUSY
        n_steps = len(found.store.table("connection", found.session.run_id))
        await anyio.sleep(600)
        assert found.states() == {"d1": OrderState.UNKNOWN}
        # Audits look for it, and nothing waits for them.
        assert len(found.store.table("connection", found.session.run_id)) == n_steps
        found.end("lost_answer")
        await found.until(lambda: found.states() == {"d1": OrderState.ABSENT}, patience_s=400)
        await found.enter()
        assert found.states()["d3"] is OrderState.FILLED
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_an_exit_in_no_list_makes_room_for_another_one(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        lose(found)
        found.inject("lost_answer", request="placeOrder", for_s=5)
        assert not await found.close()
        await found.until(
            lambda: found.states()["t1x1"] is OrderState.ABSENT, patience_s=4 * ABSENT_WITHIN_S
        )
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_a_stop_that_ended_in_silence_is_doubted_although_only_completed_orders_tell_it(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        (stop,) = (o for o in found.exchange.live_orders() if o.ticket.order_ref.endswith("-sl"))
        lose(found)
        # Nobody is told.
        found.exchange.cancel(stop.ticket.client_id, stop.ticket.order_id)
        await found.session._connector.resynchronise("a test")
        # It is asked for three times, and what nobody can show to be protected is closed.
        await found.until(lambda: found.store.open_trades() == [], patience_s=90)
        assert "protection unknown" in found.incidents()
        found.end("lost_answer")
        await found.until(lambda: not found.store.unsettled_orders(), patience_s=400)

    found = live_one_day(tape, tmp_path, scenario)

    assert found.held() == 0
