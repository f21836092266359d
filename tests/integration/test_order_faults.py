"""Every fault of the paper gateway that concerns an order, lived through by a whole session.

Virtual time, the unmodified client library, the faults by their names in `docs/faults.md`. What
became of the orders is read from the gateway's own books: which arrived, which were executed. At
the end of each test `trade_one_day` asserts that nothing was placed twice, that the record's fills
are the gateway's executions to the share and the cent, and that everything is flat.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderState
from momentum_lab.core.position import ExitReason
from momentum_lab.core.signal import Outcome, Reason
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.faults.orders import FAULTS as ORDER_FAULTS
from momentum_lab.gateway.messages import open_order
from momentum_lab.gateway.orders import Order, Ticket
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.voice import Message
from tests.connection_kit import make_tape
from tests.order_desk import (
    ABSENT_WITHIN_S,
    FILL_TIMEOUT_S,
    HALF_DAY_NS,
    LARGE,
    NOON_NS,
    OrderDesk,
    trade_one_day,
)

pytestmark = pytest.mark.timeout(60)
_S = OrderState


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def sides(found: OrderDesk) -> list[str]:
    """What arrived at the gateway: purpose letter and side."""
    return [f"{name[0]} {side}" for name, side, _ in found.placed()]


# --- what is told about an order --------------------------------------------------------------


def test_late_status_within_the_time_limit_is_waited_for(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("late_status", delay_s=FILL_TIMEOUT_S / 2)
        await found.enter()
        assert found.states() == {"d1": _S.FILLED}
        assert found.incidents() == []
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]


def test_late_status_beyond_the_time_limit_is_asked_for_and_counted_once(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        # Answers to requests for executions come late as well: the position is told first.
        found.inject("late_status", strikes_lists=1, delay_s=3 * FILL_TIMEOUT_S, for_s=120)
        await found.enter()
        assert found.incidents() == ["order outcome unknown"]
        await found.until(lambda: found.states() == {"d1": _S.FILLED})
        assert "position differs" in found.incidents()
        # What was blocked for the difference is free again, and the repeats change nothing.
        await anyio.sleep(150)
        assert found.session._execution.blocked == {}
        assert len(found.fills()) == 1
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]
    assert len(found.executions()) == 2


def test_duplicate_status_counts_each_execution_once(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("duplicate_status", times=5)
        await found.enter()
        (trade,) = found.store.open_trades()
        assert found.store.open_shares(trade["trade_id"]) == found.held()
        await found.close()

    found = trade_one_day(tape, tmp_path, scenario, size=LARGE)

    assert sides(found)[0] == "d BUY"
    assert len(found.final["fills"]) == len(found.executions()) > 2


def test_reordered_status_gives_the_same_fills(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("reordered_status", for_s=200)
        await found.enter()
        await anyio.sleep(220)
        assert found.states()["d1"] is _S.FILLED
        await found.close()

    found = trade_one_day(tape, tmp_path, scenario, size=LARGE)

    assert sides(found)[:2] == ["d BUY", "t SELL"]


def test_commission_first_is_kept_for_its_execution(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("commission_first")
        await found.enter()
        (trade,) = found.store.open_trades()
        assert found.store.costs_complete(trade["trade_id"])
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    costs_usd = sum(one.commission_usd for one in found.executions())
    assert found.final["trades"][0]["costs_usd"] == pytest.approx(costs_usd)


def test_lost_acknowledgement_until_the_fill_is_no_second_order(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("lost_acknowledgement")
        await found.enter()
        assert found.states() == {"d1": _S.FILLED}
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=4))

    assert sides(found) == ["d BUY", "t SELL"]
    assert found.final["incidents"] == []


def test_lost_acknowledgement_of_an_order_that_rests_keeps_its_symbol_busy(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("lost_acknowledgement", for_s=60)
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            await found.until(lambda: found.placed() != [])
            # It reaches an exchange that stands still.
            found.inject("halt", symbol="SPY", kind=1, for_s=40)
        assert found.incidents() == ["order outcome unknown"]
        await found.until(found.is_operational)
        again = await found.enter()
        assert (again.outcome, again.reason) == (Outcome.PASS, Reason.SYMBOL_BUSY)
        await found.until(lambda: found.states()["d1"] is _S.FILLED)
        await found.close()
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=1))

    assert sides(found) == ["d BUY", "t SELL"]


def test_partial_then_silence_closes_what_has_filled_and_no_more(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("partial_then_silence", for_s=60)
        await found.enter()
        assert "order outcome unknown" in found.incidents()
        (entry,) = found.working()
        assert entry.filled == (entry.quantity + 1) // 2
        (trade,) = found.store.open_trades()
        assert found.store.open_shares(trade["trade_id"]) == found.held() == entry.filled
        # The rest fills when the fault is over, and is booked although nobody told of it.
        await anyio.sleep(90)
        await found.until(lambda: found.states()["d1"] is _S.FILLED)
        assert found.store.open_shares(trade["trade_id"]) == found.held() == entry.quantity
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]


def test_partial_then_silence_of_an_exit_is_no_second_exit_while_it_works(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("partial_then_silence", for_s=60)
        assert not await found.close()
        assert not await found.close()
        assert len(found.working()) == 1
        await anyio.sleep(90)
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]


def test_execution_correction_is_recorded_to_the_cent(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("execution_correction", change_usd=-0.37)
        await anyio.sleep(1)
        (trade,) = found.store.open_trades()
        assert found.store.open_shares(trade["trade_id"]) == found.held()
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]
    (trade,) = found.final["trades"]
    assert trade["entry_price"] == pytest.approx(found.executions()[0].price_usd)


def test_execution_correction_while_the_line_is_down_is_found_at_the_reconnect(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("tcp_reset")
        found.inject("execution_correction", change_usd=0.21)
        await anyio.sleep(5)
        await found.until(found.is_operational)
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    (trade,) = found.final["trades"]
    assert trade["entry_price"] == pytest.approx(found.executions()[0].price_usd)


def test_forgotten_parent_of_a_stop_is_not_named_when_the_stop_is_changed(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        def has_stop_at(usd: float) -> bool:
            live = found.gateway.hub.exchange.live_orders()
            return [one.ticket.stop_usd for one in live if one.ticket.order_type == "STP"] == [usd]

        found.inject("forgotten_parent")
        await found.enter()
        (trade,) = found.store.open_trades()
        for cut_usd in (0.02, 0.04):
            tighter_usd = round(trade["stop"] + cut_usd, 2)
            await found.session._execution.move_stop(
                trade["trade_id"], tighter_usd, ExitReason.TRAIL
            )
            await found.until(partial(has_stop_at, tighter_usd), patience_s=15)
            # The second time by a connection that has not heard of the entry.
            found.inject("tcp_reset")
            await found.until(lambda: not found.is_operational())
            await found.until(found.is_operational)
        assert "protection not changed" not in found.incidents()
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_renamed_groups_take_new_terms_and_the_exit_under_their_new_names(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        books = found.gateway.hub.exchange.books

        def works(kind: str) -> list[Order]:
            return [one for one in books.unfinished() if one.ticket.order_type == kind]

        found.inject("renamed_groups")
        await found.enter()
        (trade,) = found.store.open_trades()
        entry = next(one for one in books.orders.values() if not one.ticket.parent_id)
        name = str(entry.perm_id)
        assert [one.oca_group for one in (*works("STP"), *works("LMT"))] == [name, name]
        tighter_usd = round(trade["stop"] + 0.02, 2)
        await found.session._execution.move_stop(trade["trade_id"], tighter_usd, ExitReason.TRAIL)
        await found.until(
            lambda: [one.ticket.stop_usd for one in works("STP")] == [tighter_usd], patience_s=15
        )
        # One that is put back joins them, and so does the exit: what it fills nobody else does.
        found.gateway.hub.publish(found.gateway.hub.exchange.cancel(*works("STP")[0].key))
        await found.until(lambda: "position without a stop" in found.incidents())
        await found.until(lambda: [one.oca_group for one in works("STP")] == [name], patience_s=15)
        assert await found.close()
        assert books.unfinished() == []
        assert "protection not changed" not in found.incidents()

    trade_one_day(tape, tmp_path, scenario)


def test_an_order_that_the_broker_has_twice_is_an_incident(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        hub = found.gateway.hub
        stop = next(o for o in hub.exchange.live_orders() if o.ticket.order_type == "STP")
        (session,) = hub.sessions.values()
        for _ in range(2):
            session.send("openOrder", **open_order(hub, replace(stop, perm_id=stop.perm_id + 99)))
            session.send("openOrder", **open_order(hub, stop))
        await anyio.sleep(1)
        assert found.incidents().count("one order twice") == 1
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Tokyo"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("machine_zone")
def test_utc_execution_times_are_not_read_in_the_zone_of_the_machine(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("utc_execution_times")
        before_ns = found.gateway.now_ns
        await found.enter()
        await anyio.sleep(20)
        (trade,) = found.store.open_trades()
        assert before_ns - NS_PER_S < trade["opened_ns"] < found.gateway.now_ns
        # Heard again after a reconnect, it is the same execution.
        found.inject("tcp_reset")
        await found.until(lambda: not found.is_operational())
        await found.until(found.is_operational)
        assert found.store.open_trades() == [trade]
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_every_fault_of_orders_has_a_test_here() -> None:
    named = "\n".join(name for name in globals() if name.startswith("test_"))
    assert [fault.name for fault in ORDER_FAULTS if f"test_{fault.name}" not in named] == []


# --- orders that are refused or held ----------------------------------------------------------


def test_a_rejected_entry_opens_nothing_and_frees_its_symbol(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        # Status Inactive, then error 201.
        await found.enter(Side.SELL)
        assert found.states() == {"d1": _S.REJECTED}
        assert found.incidents() == ["order rejected"]
        again = await found.enter(Side.BUY)
        assert again.outcome is Outcome.ENTER
        assert await found.close()

    def rejects(ticket: Ticket) -> bool:
        return ticket.order_ref.endswith("-d1")

    found = trade_one_day(tape, tmp_path, scenario, rejects=rejects)

    assert sides(found) == ["d SELL", "d BUY", "t SELL"]
    refused = found.exchange.done_today()[0]
    assert (refused.status, refused.filled) == ("Inactive", 0)


def test_a_short_sale_in_a_cash_account_is_refused(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter(Side.SELL)
        assert found.states() == {"d1": _S.REJECTED}

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(is_cash_account=True))

    assert sides(found) == ["d SELL"]
    assert found.executions() == []


def test_a_rejected_exit_is_sent_again_under_another_reference(tape: Path, tmp_path: Path) -> None:
    left = [True, True]

    def rejects(ticket: Ticket) -> bool:
        return "-t1x" in ticket.order_ref and bool(left) and left.pop()

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        assert not await found.close()
        # What was refused in a group is sent again alone, once nothing else could fill.
        for _ in range(10):
            await anyio.sleep(2)
            if found.held() and await found.close():
                break
        assert found.held() == 0

    found = trade_one_day(tape, tmp_path, scenario, rejects=rejects)

    assert [name for name, *_ in found.placed()] == ["d1", "t1x1", "t1x2", "t1x3"]
    assert {row["state"] for row in found.final["orders"]} == {"FILLED", "CANCELLED", "REJECTED"}
    assert len(found.executions()) == 2


def test_an_order_refused_without_a_status_is_final(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        # Too large for the account's settings: error 383 and no status at all.
        await found.enter()
        assert found.states() == {"d1": _S.REJECTED}

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(max_shares=10))

    assert sides(found) == ["d BUY"]
    assert found.executions() == []


def test_an_order_held_for_a_locate_is_cancelled_once_nobody_waits_for_it(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter(Side.SELL)
        assert "order outcome unknown" in found.incidents()
        await found.until(lambda: found.states() == {"d1": _S.CANCELLED}, patience_s=15)
        assert found.working() == []

    rules = Rules(hard_to_borrow=frozenset({"SPY"}))
    found = trade_one_day(tape, tmp_path, scenario, rules=rules)

    assert sides(found) == ["d SELL"]
    assert found.executions() == []
    assert {row["state"] for row in found.final["orders"]} == {"CANCELLED"}


def test_a_note_about_an_order_is_no_rejection(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        assert found.states() == {"d1": _S.FILLED}
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(tells_preset_tif=True))

    assert sides(found) == ["d BUY", "t SELL"]


def test_a_halt_holds_the_exit_until_it_is_over(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("halt", symbol="SPY", kind=1, for_s=60)
        assert not await found.close()
        assert not await found.close()
        assert len(found.working()) == 1
        await anyio.sleep(80)
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]


def test_a_halt_whose_end_is_not_told_is_over_with_the_first_trade_after_it(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Session.send_all

    def lose_resumption(self: Session, messages: Iterable[Message]) -> None:
        def is_end(one: Message) -> bool:
            return one[0] == "tickGeneric" and one[1]["tick_type"] == 49 and not one[1]["value"]

        tell(self, [one for one in messages if not is_end(one)])

    async def scenario(found: OrderDesk) -> None:
        line = found.session._connector.lines.get("SPY")
        assert line is not None
        monkeypatch.setattr(Session, "send_all", lose_resumption)
        found.inject("halt", symbol="SPY", kind=1, for_s=300)
        for _ in range(29):
            await anyio.sleep(10)
            assert line.quote is not None
            assert line.quote.halted
        await anyio.sleep(30)
        assert line.quote is not None
        assert not line.quote.halted
        assert (await found.enter()).reason is Reason.AFTER_HALT
        await anyio.sleep(300)
        assert (await found.enter()).outcome is Outcome.ENTER

    trade_one_day(tape, tmp_path, scenario)


def test_the_wait_after_a_halt_outlasts_a_connection(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        line = found.session._connector.lines.get("SPY")
        assert line is not None
        found.inject("halt", symbol="SPY", kind=1, for_s=30)
        await anyio.sleep(40)
        assert line.quote is not None
        resumed_ns = line.quote.resumed_ns
        assert resumed_ns is not None
        found.inject("tcp_reset")
        await found.until(lambda: not found.is_operational())
        await found.until(found.is_operational)
        await anyio.sleep(21)
        assert line.quote.resumed_ns == resumed_ns
        assert (await found.enter()).reason is Reason.AFTER_HALT
        await anyio.sleep(300)
        assert (await found.enter()).outcome is Outcome.ENTER

    trade_one_day(tape, tmp_path, scenario)


def test_an_exit_that_is_long_on_its_way_is_not_absent(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await found.until(lambda: found.states()["d1"] is _S.FILLED)
        while found.store.open_trades():
            await found.close()
            await anyio.sleep(2)

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=2 * FILL_TIMEOUT_S))

    assert sides(found) == ["d BUY", "t SELL"]


# --- orders whose line is lost ----------------------------------------------------------------


def test_restart_that_swallowed_the_entry_makes_it_absent(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("restart", vanish_s=2, for_s=20)
        await found.enter()
        assert found.placed() == []
        await found.until(lambda: found.states()["d1"] is _S.ABSENT)
        await found.until(found.is_operational)
        again = await found.enter()
        assert again.outcome is Outcome.ENTER
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert [name for name, *_ in found.placed()] == ["d2", "t1x1"]


def test_restart_that_swallowed_the_exit_has_it_sent_again(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("restart", vanish_s=2, for_s=20)
        assert not await found.close()
        await found.until(lambda: found.states()["t1x1"] is _S.ABSENT)
        await found.until(found.is_operational)
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    assert [name for name, *_ in found.placed()] == ["d1", "t1x2"]


def test_restart_that_rolls_ids_back_uses_no_id_twice(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("restart", vanish_s=0.5, ids_back=1, for_s=20)
        await anyio.sleep(5)
        await found.until(found.is_operational)
        assert await found.close()

    found = trade_one_day(tape, tmp_path, scenario)

    by_ref: dict[str, set[int]] = {}
    for order in found.exchange.books.orders.values():
        by_ref.setdefault(order.ticket.order_ref, set()).add(order.ticket.order_id)
    ids = [one for used in by_ref.values() for one in used]
    # Entry, stop, target and exit: each reference one id, and no id for two of them.
    assert len(by_ref) == len(ids) == len(set(ids)) == 4
    assert sides(found) == ["d BUY", "t SELL"]


def test_lost_answer_to_an_entry_is_never_sent_again(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("lost_answer", request="placeOrder", for_s=5)
        await found.enter()
        await anyio.sleep(ABSENT_WITHIN_S)
        assert found.states() == {"d1": _S.ABSENT}

    found = trade_one_day(tape, tmp_path, scenario)

    assert found.placed() == []
    assert [one["is_heard"] for one in found.gateway.journal.of("placeOrder")] == 3 * [False]


def test_half_open_takes_the_entry_to_nowhere(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("half_open", for_s=30)
        await found.enter()
        await anyio.sleep(60)
        await found.until(lambda: found.states()["d1"] is _S.ABSENT)

    found = trade_one_day(tape, tmp_path, scenario)

    assert found.placed() == []


def test_tcp_reset_between_order_and_fill_books_the_fill_once(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            await found.until(lambda: found.placed() != [])
            found.inject("tcp_reset")
        await found.until(lambda: found.states()["d1"] is _S.FILLED)
        await found.until(found.is_operational)
        await found.close()
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=0.8))

    assert sides(found) == ["d BUY", "t SELL"]


def test_1100_between_order_and_fill_tells_the_fill_afterwards(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(found.enter)
            await found.until(lambda: found.placed() != [])
            found.inject("1100", for_s=30)
        assert found.fills() == []
        await found.until(lambda: found.states()["d1"] is _S.FILLED)
        await found.until(found.is_operational)
        await found.close()
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=0.8))

    assert sides(found) == ["d BUY", "t SELL"]


def test_stalled_reader_that_reads_the_entry_late_leaves_one_watched_position(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("stalled_reader", for_s=90)
        await found.enter()
        await anyio.sleep(150)
        assert len(found.placed()) == 1
        assert [row["shares"] for row in found.store.open_trades()] == [found.held()]

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]


def test_stalled_writer_tells_the_fill_late(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        found.inject("stalled_writer", for_s=40)
        await found.enter()
        await found.until(lambda: found.states().get("d1") is _S.FILLED)
        await found.until(found.is_operational)
        await found.close()
        await found.until(lambda: found.held() == 0)

    found = trade_one_day(tape, tmp_path, scenario)

    assert sides(found) == ["d BUY", "t SELL"]


def test_an_entry_that_works_when_the_session_ends_without_a_line_is_cancelled(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        async with anyio.create_task_group() as group:
            await found.enter_a_halt(group, for_s=600)
            await anyio.sleep(60)
            assert len(found.working()) == 1
            # Told to end just when nobody can be told to cancel.
            found.inject("tcp_reset")
            await found.until(lambda: not found.is_operational())
            found.session.stop("while the line is down")
            await found.until(lambda: found.result is not None)
            group.cancel_scope.cancel()
        assert found.working() == []

    found = trade_one_day(tape, tmp_path, scenario, rules=Rules(latency_s=2))

    assert found.final["orders"][0]["state"] == "CANCELLED"
    assert found.executions() == []


def test_a_limit_entry_whose_time_is_over_while_the_line_is_down_is_cancelled_then(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        async with anyio.create_task_group() as group:
            await found.enter_a_halt(group, for_s=600)
            await anyio.sleep(FILL_TIMEOUT_S - 1)
            assert len(found.working()) == 1
            found.inject("1100", for_s=20)
        await found.until(found.is_operational)
        await anyio.sleep(10)
        assert found.working() == []

    trade_one_day(
        tape,
        tmp_path,
        scenario,
        rules=Rules(latency_s=2),
        execution={"entry_order": "marketable_limit"},
    )
