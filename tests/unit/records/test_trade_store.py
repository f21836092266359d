"""The trade store, on real SQLite files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from momentum_lab.core.market import Side
from momentum_lab.core.order import OrderEvent, OrderIntent, OrderPurpose, OrderState
from momentum_lab.core.position import ExitReason, Fill, Levels
from momentum_lab.core.signal import Decision, Outcome, Reason, passed
from momentum_lab.errors import IllegalTransitionError, RecordError
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.records import risk_queries, schema
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore, masked
from tests.factories import NOON, headline
from tests.record_kit import let_changes_of_others_be_seen

T = TypeVar("T")
RUN = "20131009T160000Z-replay"
LATE_REPORTS = (OrderEvent.SILENCE, OrderEvent.ACKNOWLEDGE, OrderEvent.FOUND_OPEN)
ENTER = Decision(Outcome.ENTER, Reason.SHOCK, "a shock", 2.6, 2.5, "x ATR")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TradeStore]:
    found = TradeStore(tmp_path / "trades.db")
    found.start_run(
        RUN, mode="replay", account="", strategy="s", params_hash="h", params={}, revision="r"
    )
    yield found
    found.close()


def enter(store: TradeStore, number: int = 1, *, shares: int = 100) -> OrderIntent:
    item = headline(article_id=f"a{number}")
    store.add_headline(item.key, RUN, item)

    def intent(decision_id: int) -> OrderIntent:
        return OrderIntent(
            f"ml-{RUN}-d{decision_id}",
            "SPY",
            756733,
            Side.BUY,
            shares,
            NOON,
            decision_id=decision_id,
            levels=Levels(99, 102),
            atr=0.1,
            purpose=OrderPurpose.ENTRY,
        )

    (order,) = store.add_entry(item.key, RUN, ENTER, at_ns=NOON, symbol="SPY", intent=intent)
    return order


def leave(store: TradeStore, trade_id: int, number: int = 1, *, shares: int = 100) -> OrderIntent:
    intent = OrderIntent(
        f"ml-{RUN}-t{trade_id}x{number}",
        "SPY",
        756733,
        Side.SELL,
        shares,
        NOON + 1,
        trade_id=trade_id,
        exit_reason=ExitReason.STOP_LOSS,
        purpose=OrderPurpose.EXIT,
    )
    store.add_order(RUN, intent)
    return intent


def fill(intent: OrderIntent, exec_id: str, *, shares: float = 100, price: float = 100.0) -> Fill:
    return Fill(exec_id, intent.order_ref, "SPY", intent.side, shares, price, NOON, None, 756733)


def test_an_article_is_new_once_and_its_repeats_are_counted(store: TradeStore) -> None:
    item = headline(article_id="a1")

    assert [store.add_headline(item.key, RUN, item) for _ in range(3)] == [True, False, False]
    assert store.table("headlines", RUN)[0]["repeats"] == 2


def test_a_headline_has_one_decision(store: TradeStore) -> None:
    item = headline(article_id="a1")
    store.add_headline(item.key, RUN, item)
    store.add_decision(item.key, passed(Reason.NO_TICKER, "none"), at_ns=NOON, symbol=None)

    with pytest.raises(RecordError, match="UNIQUE"):
        store.add_decision(item.key, passed(Reason.NO_TICKER, "none"), at_ns=NOON, symbol=None)


def test_an_entry_is_written_whole_or_not_at_all(store: TradeStore) -> None:
    item = headline(article_id="a1")
    store.add_headline(item.key, RUN, item)

    def bad(decision_id: int) -> OrderIntent:
        return OrderIntent(
            "ref", "SPY", 1, Side.BUY, 0, NOON, decision_id=decision_id, purpose=OrderPurpose.ENTRY
        )

    with pytest.raises(RecordError):
        store.add_entry(item.key, RUN, ENTER, at_ns=NOON, symbol="SPY", intent=bad)
    assert store.table("decisions", RUN) == []
    assert store.undecided(RUN) == [item.key]


def test_a_fill_opens_the_trade_and_its_opposite_closes_it(store: TradeStore) -> None:
    trade = store.book_fill(fill(enter(store), "e1", price=100.0))
    assert trade is not None
    assert (trade["state"], trade["shares"], trade["entry_price"]) == ("OPEN", 100, 100.0)
    assert store.positions() == {756733: 100}

    closed = store.book_fill(fill(leave(store, trade["trade_id"]), "e2", price=99.0))

    assert closed is not None
    assert (closed["state"], closed["exit_reason"]) == ("CLOSED", "STOP_LOSS")
    assert closed["gross_usd"] == pytest.approx(-100)
    assert store.positions() == {}


def test_an_execution_told_of_late_takes_the_place_of_what_was_inferred(store: TradeStore) -> None:
    trade = store.book_fill(fill(enter(store), "e1", price=100.0))
    assert trade is not None
    inferred, late = leave(store, trade["trade_id"]), leave(store, trade["trade_id"], number=2)
    store.book_fill(fill(inferred, "inferred-1", price=90.0), is_inferred=True)

    half = store.book_fill(fill(late, "e2", shares=60, price=101.0))
    assert half is not None
    assert (half["state"], half["exit_price"]) == ("CLOSED", pytest.approx(96.6))
    whole = store.book_fill(fill(late, "e3", shares=40, price=101.0))

    assert whole is not None
    assert (whole["state"], whole["exit_price"]) == ("CLOSED", 101.0)
    assert store.order_state(inferred.order_ref) is OrderState.CANCELLED
    assert not store.knows_fill("inferred-1")


def test_a_repeated_execution_counts_once(store: TradeStore) -> None:
    intent = enter(store)
    store.book_fill(fill(intent, "e1"))

    assert store.book_fill(fill(intent, "e1")) is None
    assert store.filled_shares(intent.order_ref) == 100


def test_partial_fills_add_up(store: TradeStore) -> None:
    intent = enter(store)
    store.book_fill(fill(intent, "e1", shares=40, price=100.0))
    assert store.order_state(intent.order_ref) is OrderState.PARTIAL

    trade = store.book_fill(fill(intent, "e2", shares=60, price=101.0))

    assert trade is not None
    assert trade["entry_price"] == pytest.approx(100.6)
    assert store.order_state(intent.order_ref) is OrderState.FILLED


def test_a_commission_is_booked_when_it_comes(store: TradeStore) -> None:
    trade = store.book_fill(fill(enter(store), "e1"))
    assert trade is not None
    store.book_fill(fill(leave(store, trade["trade_id"]), "e2", price=101.0))
    assert not store.costs_complete(trade["trade_id"])
    assert store.lacks_commissions(run_id=RUN)
    assert store.lacks_commissions()
    assert not store.lacks_commissions(run_id="another-run")
    assert not store.lacks_commissions(since_ns=2 * NOON)

    store.book_commission("e1", 1.0)
    closed = store.book_commission("e2", 1.5)

    assert closed is not None
    assert closed["net_usd"] == pytest.approx(100 - 2.5)
    assert store.costs_complete(trade["trade_id"])
    assert not store.lacks_commissions(run_id=RUN)
    assert store.book_commission("somebody else's", 9.0) is None


def test_an_execution_of_a_foreign_order_is_refused(store: TradeStore) -> None:
    foreign = OrderIntent(
        "not ours", "SPY", 756733, Side.BUY, 100, NOON, purpose=OrderPurpose.ENTRY
    )
    with pytest.raises(RecordError, match="no order 'not ours'"):
        store.book_fill(fill(foreign, "e1"))
    assert store.table("fills", RUN) == []


def test_a_fill_after_a_cancel_is_counted(store: TradeStore) -> None:
    intent = enter(store)
    store.advance_order(intent.order_ref, OrderEvent.CANCEL)

    trade = store.book_fill(fill(intent, "e1"))

    assert trade is not None
    assert store.order_state(intent.order_ref) is OrderState.FILLED


@pytest.mark.parametrize("reports", list(permutations(LATE_REPORTS, 3)), ids=str)
def test_what_was_filled_in_part_was_not_refused(
    store: TradeStore, reports: tuple[OrderEvent, ...]
) -> None:
    intent = enter(store)
    store.advance_order(intent.order_ref, OrderEvent.SEND, order_id=7)
    store.book_fill(replace(fill(intent, "e1"), shares=40.0))
    for event in reports:
        state = store.advance_order(intent.order_ref, event)
        assert state in (OrderState.PARTIAL, OrderState.UNKNOWN)
    assert store.advance_order(intent.order_ref, OrderEvent.REJECT) is OrderState.CANCELLED


@pytest.mark.parametrize("end", [OrderEvent.REJECT, OrderEvent.NOT_FOUND])
def test_a_part_that_is_told_after_the_refusal_takes_the_refusal_back(
    store: TradeStore, end: OrderEvent
) -> None:
    intent = enter(store)
    store.advance_order(intent.order_ref, OrderEvent.SEND, order_id=7)
    store.advance_order(intent.order_ref, end)
    store.book_fill(replace(fill(intent, "e1"), shares=40.0))
    assert store.order_state(intent.order_ref) in (OrderState.CANCELLED, OrderState.PARTIAL)


def test_an_order_without_an_end_is_unsettled(store: TradeStore) -> None:
    intent = enter(store)
    store.advance_order(intent.order_ref, OrderEvent.SEND, order_id=7)
    store.advance_order(intent.order_ref, OrderEvent.SILENCE)

    assert [row["order_ref"] for row in store.unsettled_orders()] == [intent.order_ref]
    with pytest.raises(IllegalTransitionError):
        store.advance_order(intent.order_ref, OrderEvent.SEND)


def test_the_highest_id_of_an_order_is_known(store: TradeStore) -> None:
    assert store.highest_order_id() == 0
    for number, order_id in ((1, 17), (2, 9)):
        intent = enter(store, number)
        store.advance_order(intent.order_ref, OrderEvent.SEND, order_id=order_id)

    assert store.highest_order_id() == 17


def test_an_exit_must_say_what_and_why(store: TradeStore) -> None:
    with pytest.raises(RecordError, match="CHECK"):
        store.add_order(
            RUN,
            OrderIntent("x", "SPY", 1, Side.SELL, 1, NOON, trade_id=1, purpose=OrderPurpose.EXIT),
        )


def test_the_account_is_masked(store: TradeStore) -> None:
    store.update_run(RUN, account=masked("DU1234567"))
    assert store.table("runs", RUN)[0]["account"] == "DU*****67"
    assert masked("U1") == "**"


def test_what_was_written_is_there_after_a_reopen(store: TradeStore) -> None:
    trade = store.book_fill(fill(enter(store), "e1"))
    again = TradeStore(store.path)
    try:
        assert again.open_trades() == [trade]
        assert again.unfinished_runs() == [RUN]
    finally:
        again.close()


def test_the_file_says_its_version_and_keeps_a_write_ahead_log(store: TradeStore) -> None:
    assert next(iter(store.db.execute("PRAGMA user_version")))[0] == schema.VERSION
    assert store.db.journal_mode == "wal"


def test_commits_wait_for_the_disk_unless_told_otherwise(tmp_path: Path) -> None:
    def synchronous(store: TradeStore) -> int:
        return int(next(iter(store.db.execute("PRAGMA synchronous")))[0])

    store = TradeStore(tmp_path / "trades.db")
    full = synchronous(store)
    store.commit_lightly()

    assert (full, synchronous(store)) == (2, 1)
    store.close()


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "later.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RecordError, match="expected a trade store of version 3, found version 99"):
        TradeStore(path)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00rubbish"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rubbish.db"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"rubbish\.db"):
        TradeStore(path)


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(RecordError, match="found version 0"):
        TradeStore(path)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match="cannot open the trade store"):
        TradeStore(tmp_path / "file" / "trades.db")


def test_many_may_make_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    ready = threading.Barrier(8)

    def make() -> int:
        ready.wait()
        found = TradeStore(path)
        try:
            return len(found.db.table_names())
        finally:
            found.close()

    with ThreadPoolExecutor(8) as pool:
        counts = {job.result() for job in [pool.submit(make) for _ in range(8)]}

    assert counts == {len([one for one in schema.TABLES if one.startswith("CREATE TABLE")])}


def test_a_repeated_question_sees_what_was_written_since(store: TradeStore, tmp_path: Path) -> None:
    order = enter(store)
    assert store.order_state(order.order_ref) is OrderState.INTENT
    store.advance_order(order.order_ref, OrderEvent.SEND, order_id=1)
    assert store.order_state(order.order_ref) is OrderState.SENT

    other = TradeStore(tmp_path / "trades.db")
    other.advance_order(order.order_ref, OrderEvent.ACKNOWLEDGE, perm_id=7)
    other.close()

    assert store.order(order.order_ref)["perm_id"] == 7


def test_a_repeated_question_does_not_see_what_was_taken_back(store: TradeStore) -> None:
    order = enter(store)

    with pytest.raises(IllegalTransitionError), store._write() as db:
        db.execute("UPDATE orders SET perm_id = 7 WHERE order_ref = ?", [order.order_ref])
        assert store.order(order.order_ref)["perm_id"] == 7
        raise IllegalTransitionError("something else failed")

    assert store.order(order.order_ref)["perm_id"] is None


def test_what_is_written_elsewhere_is_no_reason_to_read_again(
    store: TradeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = enter(store)
    store.order(order.order_ref)

    def refuse(*_: object) -> list[Row]:
        raise AssertionError("read again")

    monkeypatch.setattr(store, "_read", refuse)
    store.add_incident(RUN, at_ns=1, kind="seen", text="nothing about orders")
    assert store.order(order.order_ref)["state"] == "INTENT"

    store.change_order(order.order_ref, message="about an order")
    with pytest.raises(AssertionError, match="read again"):
        store.order(order.order_ref)


def test_what_another_process_wrote_is_seen_after_a_moment(
    store: TradeStore, tmp_path: Path
) -> None:
    order = enter(store)
    store.order(order.order_ref)

    other = TradeStore(tmp_path / "trades.db")
    other.advance_order(order.order_ref, OrderEvent.SEND, order_id=9)
    other.close()
    let_changes_of_others_be_seen()
    assert store.order(order.order_ref)["order_id"] == 9


def test_a_loop_of_virtual_time_asks_again_once_its_time_has_moved(
    store: TradeStore, tmp_path: Path
) -> None:
    async def main() -> int:
        order = enter(store)
        store.order(order.order_ref)
        with closing(sqlite3.connect(tmp_path / "trades.db")) as other, other:
            other.execute("UPDATE orders SET order_id = 9")
        await anyio.sleep(1)
        return int(store.order(order.order_ref)["order_id"])

    assert run_virtual(main) == 9


def test_what_is_written_after_the_end_is_refused_in_our_own_words(store: TradeStore) -> None:
    store.close()

    with pytest.raises(RecordError, match="could not be"):
        store.add_incident(RUN, at_ns=1, kind="late", text="too late")


def test_an_answer_may_be_changed_by_who_asked(store: TradeStore) -> None:
    order = enter(store)
    store.order(order.order_ref)["state"] = "spoilt"

    assert store.order(order.order_ref)["state"] == "INTENT"


def test_what_is_asked_before_each_entry_reads_no_table_whole(store: TradeStore) -> None:
    plans: list[str] = []

    def explained(make: Callable[[list[Row]], T], sql: str, *values: object) -> T:
        rows = store.db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        plans.extend(row[3] for row in rows)
        return make([])

    scope = risk_queries.Scope("", NOON)
    risk_queries.entries_of_day(explained, scope, now_ns=NOON, symbol="SPY", rejects_since_ns=0)
    risk_queries.closed_since(explained, scope, NOON)
    explained(len, f"SELECT * FROM orders WHERE {schema.UNSETTLED} ORDER BY created_ns")  # noqa: S608 - our own words
    explained(len, "SELECT * FROM orders WHERE decision_id = ?", 1)

    scans = [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan]
    assert (len(plans), scans) == (7, [])


def test_an_entry_that_is_gone_and_has_filled_in_part_counts(store: TradeStore) -> None:
    scope = risk_queries.Scope("", NOON - 1)
    for number, shares in ((1, 0.0), (2, 40.0)):
        intent = enter(store, number)
        store.advance_order(intent.order_ref, OrderEvent.SEND, order_id=number)
        if shares:
            store.book_fill(replace(fill(intent, "e1"), shares=shares))
        store.advance_order(intent.order_ref, OrderEvent.SILENCE)
        assert store.advance_order(intent.order_ref, OrderEvent.NOT_FOUND) is OrderState.ABSENT
    found = risk_queries.entries_of_day(
        store.digest, scope, now_ns=NOON, symbol="SPY", rejects_since_ns=0
    )
    assert (found.n_day, found.n_minute, found.n_symbol, found.n_rejects) == (1, 1, 1, 0)
