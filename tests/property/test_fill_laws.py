"""Laws of what is remembered of executions: money and shares are what the file says now."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.core.position import ExitReason, Fill, Levels
from momentum_lab.core.signal import Decision, Outcome, Reason
from momentum_lab.errors import RecordError
from momentum_lab.records import ledger
from momentum_lab.records.cash_flow import cash_flow
from momentum_lab.records.ledger import Digest, Row
from momentum_lab.records.reading import rows_of
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON, headline
from tests.record_kit import let_changes_of_others_be_seen

RUN, ENTRY, EXIT = "a-run", "ml-entry", "ml-exit"
T = TypeVar("T")
STEPS = st.sampled_from(
    ("fill", "correct", "commission", "exit", "inferred", "undone", "direct", "foreign", "delete")
)


def execution(number: int, ref: str = ENTRY, *, revision: int = 1, shares: int = 1) -> Fill:
    side = Side.BUY if ref == ENTRY else Side.SELL
    exec_id = f"0000e0d5.{number:08d}.01.{revision:02d}"
    return Fill(exec_id, ref, "SPY", side, shares, 100.0 + revision, NOON + number, None, 756733)


@contextmanager
def opened(place: str) -> Iterator[TradeStore]:
    """A store with a trade that is open, and an exit of it that works."""
    store = TradeStore(Path(place) / "trades.db")
    store.db.execute("PRAGMA synchronous = OFF")  # a test need not survive a power cut
    store.start_run(
        RUN, mode="paper", account="", strategy="laws", params_hash="0", params={}, revision="0"
    )
    store.add_headline("h", RUN, headline(article_id="h"))
    decision = Decision(Outcome.ENTER, Reason.SHOCK, "a shock")
    store.add_entry("h", RUN, decision, at_ns=NOON, symbol="SPY", intent=entry)
    store.book_fill(execution(0, shares=1000))
    store.add_order(RUN, leaving(EXIT))
    yield store
    store.close()


def entry(decision_id: int) -> OrderIntent:
    return OrderIntent(
        ENTRY,
        "SPY",
        756733,
        Side.BUY,
        1100,
        NOON,
        OrderPurpose.ENTRY,
        decision_id=decision_id,
        levels=Levels(99.0, 102.0),
        bid=99.99,
        ask=100.01,
    )


def leaving(ref: str) -> OrderIntent:
    return OrderIntent(
        ref,
        "SPY",
        756733,
        Side.SELL,
        1000,
        NOON,
        OrderPurpose.EXIT,
        trade_id=1,
        exit_reason=ExitReason.MANUAL,
    )


def take(store: TradeStore, step: str, number: int, of: int) -> None:
    """One change of what is recorded, `of` an earlier execution where it is about one."""
    if step == "fill":
        store.book_fill(execution(number))
    elif step == "correct":
        store.book_fill(execution(of, revision=number + 1, shares=of + 2))
    elif step == "commission":
        store.book_commission(execution(of).exec_id, 0.35 + number)
    elif step == "exit":
        store.book_fill(execution(number, EXIT))
    elif step == "inferred":
        ref = f"ml-inferred-{number}"
        store.add_order(RUN, leaving(ref))
        store.book_fill(execution(number, ref), is_inferred=True)
    elif step == "undone":
        with suppress(RecordError), store._write() as db:
            db.execute("UPDATE fills SET price = 1")
            answers(store.digest)
            db.execute("INSERT INTO fills (exec_id) VALUES (NULL)")
    elif step == "direct":
        store.db.conn.execute("UPDATE fills SET price = price + 1")
        store.db.conn.commit()
    else:
        # Never that which opened the trade.
        of = max(of, 1)
        change = "DELETE FROM fills" if step == "delete" else "UPDATE fills SET shares = shares + 1"
        with closing(sqlite3.connect(store.path)) as other, other:
            other.execute(f"{change} WHERE exec_id = ?", [execution(of).exec_id])
        let_changes_of_others_be_seen()


def answers(digest: Digest) -> list[object]:
    trade: Row = {"decision_id": 1, "trade_id": 1, "side": "BUY"}
    return [
        cash_flow(digest, since_ns=0),
        cash_flow(digest, since_ns=NOON, run_id=RUN),
        cash_flow(digest, since_ns=0, run_id="another-run"),
        ledger.known_total_of(digest, trade),
    ]


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 12)), max_size=12))
def test_money_and_shares_are_what_the_file_says(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as place, opened(place) as store:
        for number, (step, of) in enumerate(steps, start=1):
            take(store, step, number, of)

            with closing(sqlite3.connect(store.path)) as other:
                other.row_factory = sqlite3.Row

                def fresh(make: Callable[[list[Row]], T], sql: str, /, *values: object) -> T:
                    return make(rows_of(other, sql, *values))

                assert answers(store.digest) == answers(fresh)


@pytest.mark.parametrize("n_fills", [1, 150])
def test_executions_are_not_read_again_until_they_change(tmp_path: Path, n_fills: int) -> None:
    with opened(str(tmp_path)) as store:
        for number in range(1, n_fills):
            store.book_fill(execution(number))
        (trade,) = store.open_trades()
        told = cash_flow(store.digest, since_ns=0), store.shares_of(trade)
        asked: list[str] = []
        store.db.conn.set_trace_callback(asked.append)
        store.add_equity(RUN, at_ns=NOON, equity_usd=1.0)
        again = cash_flow(store.digest, since_ns=0), store.shares_of(trade)
        n_read = sum("FROM fills" in sql for sql in asked)
        store.book_commission(execution(0).exec_id, 1.0)
        corrected = cash_flow(store.digest, since_ns=0)

    assert again == told
    assert n_read == 0
    assert corrected.usd == told[0].usd - 1.0
