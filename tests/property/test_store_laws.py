"""Laws of the trade store's memory: it never tells what the file does not say."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.errors import RecordError
from momentum_lab.records.trade_store import TradeStore
from tests.factories import headline
from tests.record_kit import let_changes_of_others_be_seen

QUESTIONS = (
    ("SELECT headline_id, repeats FROM headlines ORDER BY headline_id", ()),
    ("SELECT text FROM incidents WHERE kind = ? ORDER BY id", ("seen",)),
    ("SELECT at_ns, equity_usd FROM equity ORDER BY at_ns", ()),
    ("SELECT i.text, e.at_ns FROM incidents AS i JOIN equity AS e USING (run_id)", ()),
    ("SELECT * FROM daily_pnl", ()),
)
ADD_INCIDENT = "INSERT INTO incidents (run_id, wall_ns, kind, text) VALUES ('a-run', 1, 'seen', ?)"
STEPS = st.sampled_from(("ask", "headline", "incident", "equity", "undone", "direct", "foreign"))


@contextmanager
def opened(place: str) -> Iterator[TradeStore]:
    store = TradeStore(Path(place) / "trades.db")
    try:
        store.start_run(
            "a-run",
            mode="replay",
            account="DU1234567",
            strategy="laws",
            params_hash="0",
            params={},
            revision="0",
        )
        yield store
    finally:
        store.close()


def take(store: TradeStore, step: str, number: int) -> None:
    if step == "headline":
        store.add_headline(f"h{number % 3}", "a-run", headline(article_id=f"a{number}"))
    elif step == "incident":
        store.add_incident("a-run", at_ns=number, kind="seen", text=f"own {number}")
    elif step == "equity":
        store.add_equity("a-run", at_ns=number % 3, equity_usd=float(number))
    elif step == "direct":
        store.db.execute(ADD_INCIDENT, [f"direct {number}"])
    elif step == "foreign":
        with closing(sqlite3.connect(store.path)) as other, other:
            other.execute(ADD_INCIDENT, [f"foreign {number}"])
        let_changes_of_others_be_seen()


def take_back(store: TradeStore, number: int) -> None:
    with suppress(RecordError), store._write() as db:
        db.execute(ADD_INCIDENT, [f"undone {number}"])
        for sql, values in QUESTIONS:
            store.rows(sql, *values)
        db.execute("INSERT INTO incidents (run_id) VALUES (NULL)")


@settings(deadline=None)
@given(steps=st.lists(st.tuples(STEPS, st.sampled_from(QUESTIONS)), max_size=30))
def test_a_question_is_answered_as_the_file_answers_it(
    steps: list[tuple[str, tuple[str, tuple[object, ...]]]],
) -> None:
    with tempfile.TemporaryDirectory() as place, opened(place) as store:
        for number, (step, (sql, values)) in zip(itertools.count(), steps):
            if step == "undone":
                take_back(store, number)
            else:
                take(store, step, number)
            with closing(sqlite3.connect(store.path)) as other:
                expected = other.execute(sql, values).fetchall()
            assert [tuple(row.values()) for row in store.rows(sql, *values)] == expected
