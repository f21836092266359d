"""One run, read back for people and research: a frozen set of tables, and the check of a store.

The file is opened read-only, so a notebook may look while a session writes. Every table has the
types of the schema also when it is empty. Beside each instant in integer nanoseconds (`closed_ns`)
stands the same instant as a New York timestamp (`closed_at`; `at_ns` becomes `at`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from momentum_lab.core.market import EPSILON
from momentum_lab.core.order import OrderState
from momentum_lab.core.position import PositionSummary
from momentum_lab.errors import RecordError
from momentum_lab.records import capture, ledger
from momentum_lab.records.ledger import Row
from momentum_lab.records.reading import dtypes_of, opened, rows_of, typed, with_instants

_CENT_USD = 0.005
_NOT_FINAL = tuple(state.value for state in OrderState if not state.is_final)
# Read as they stand, by the run they belong to.
_TABLES_OF_RUN = (
    "orders",
    "fills",
    "equity",
    "connection",
    "incidents",
    "risk_states",
    "differences",
)
_DECISION_COLUMNS = (
    "decision_id",
    "decided_ns",
    "symbol",
    "outcome",
    "reason",
    "text",
    "observed",
    "limit_value",
    "unit",
    "size_json",
)


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """What is known of one run.

    Attributes:
        run: the row of the run.
        headlines: one row per headline with its decision; the decision's sentence is
            `decision_text`.
        trades: those that the run opened or closed, oldest first.
        orders: sent by the run.
        fills: of those orders.
        equity: at, equity_usd.
        connection: steps of the connection's life cycle.
        incidents: what a person should look at.
        risk_states: steps of the account's brake.
        differences: what broker and record saw differently, and what was done about it.
        quotes: symbol, at, bid, ask, bid_size, ask_size, last; empty without a folder.
    """

    run: pd.Series[Any]
    headlines: pd.DataFrame
    trades: pd.DataFrame
    orders: pd.DataFrame
    fills: pd.DataFrame
    equity: pd.DataFrame
    connection: pd.DataFrame
    incidents: pd.DataFrame
    risk_states: pd.DataFrame
    differences: pd.DataFrame
    quotes: pd.DataFrame


def read_run(
    database: Path, run_id: str = "", *, folder: Path | None = None, runs: Path | None = None
) -> RunRecord:
    """Return the record of one run.

    Args:
        database: the trade store's file.
        run_id: the run; empty: the last one.
        folder: folder of the run, for the quotes it captured.
        runs: folder of all runs, each in a folder of its own name; instead of `folder`.

    Raises:
        RecordError: no such file, not a trade store of this version, or no such run.
    """
    with opened(database) as db:
        run_id = run_id or _last_run(db)
        found = _table(db, "runs", "run_id = ?", run_id)
        if found.empty:
            known = [row[0] for row in db.execute("SELECT run_id FROM runs ORDER BY rowid")]
            held = ", ".join(known[-3:]) or "none"
            raise RecordError(f"{database}: no run {run_id!r}; its latest runs are: {held}")
        return RunRecord(
            run=found.iloc[0],
            headlines=_headlines(db, run_id),
            trades=_table(
                db,
                "trades",
                "run_id = ? OR trade_id IN (SELECT trade_id FROM orders WHERE run_id = ?)",
                run_id,
                run_id,
            ),
            **{name: _table(db, name, "run_id = ?", run_id) for name in _TABLES_OF_RUN},
            quotes=_quotes(folder if runs is None else runs / run_id),
        )


def _last_run(db: sqlite3.Connection) -> str:
    rows = list(db.execute("SELECT run_id FROM runs ORDER BY rowid DESC LIMIT 1"))
    return str(rows[0][0]) if rows else ""


def check_record(database: Path) -> list[str]:
    """Return one sentence for each thing in the store that must not be; none means sound.

    Every fill belongs to an order, every order to a decision or, as an exit, to a trade; every
    headline has exactly one decision; each trade's row is what its fills amount to; no order is
    without an end; everything is flat.

    Raises:
        RecordError: no such file, or not a trade store of this version.
    """
    checks: Sequence[Callable[[sqlite3.Connection], Iterator[str]]] = (
        _stray_fills,
        _stray_orders,
        _headlines_not_decided_once,
        _broken_references,
        _trades_unlike_their_fills,
        _orders_without_end,
        _not_flat,
    )
    with opened(database) as db:
        return [sentence for check in checks for sentence in check(db)]


# --- reading ------------------------------------------------------------------------------


def _table(db: sqlite3.Connection, table: str, where: str, *values: object) -> pd.DataFrame:
    rows = rows_of(db, f"SELECT * FROM [{table}] WHERE {where} ORDER BY rowid", *values)  # noqa: S608 - our own words
    return typed(rows, dtypes_of(db, table))


def _headlines(db: sqlite3.Connection, run_id: str) -> pd.DataFrame:
    decided = ", ".join(
        f"d.{name} AS {'decision_text' if name == 'text' else name}" for name in _DECISION_COLUMNS
    )
    rows = rows_of(
        db,
        f"SELECT h.*, {decided} FROM headlines h LEFT JOIN decisions d USING (headline_id)"  # noqa: S608 - our own words
        " WHERE h.run_id = ? ORDER BY h.received_ns, h.rowid",
        run_id,
    )
    of_decisions = dtypes_of(db, "decisions")
    dtypes = dtypes_of(db, "headlines")
    for name in _DECISION_COLUMNS:
        # A headline whose decision is missing is shown, not hidden.
        dtype = of_decisions[name].replace("int64", "Int64")
        dtypes["decision_text" if name == "text" else name] = dtype
    return typed(rows, dtypes)


def _quotes(folder: Path | None) -> pd.DataFrame:
    """Return the captured quotes; of a run that crashed, the parts it had written."""
    files: list[Path] = []
    if folder is not None:
        whole = folder / "quotes.parquet"
        files = [whole] if whole.is_file() else sorted(folder.glob("quotes.part*.parquet"))
    dtypes = dict.fromkeys(capture.COLUMNS, "float64") | {"symbol": "string", "at_ns": "int64"}
    frames = [pd.read_parquet(path) for path in files] or [pd.DataFrame(columns=list(dtypes))]
    joined = pd.concat(frames, ignore_index=True)[list(dtypes)].astype(dtypes)
    return with_instants(joined.sort_values("at_ns", kind="stable", ignore_index=True))


# --- checking -----------------------------------------------------------------------------


def _stray_fills(db: sqlite3.Connection) -> Iterator[str]:
    for row in rows_of(
        db,
        "SELECT exec_id, order_ref FROM fills WHERE order_ref NOT IN"
        " (SELECT order_ref FROM orders) ORDER BY exec_id",
    ):
        yield f"fill {row['exec_id']} belongs to no order: {row['order_ref']!r} is not there"


def _stray_orders(db: sqlite3.Connection) -> Iterator[str]:
    for row in rows_of(
        db,
        "SELECT order_ref, purpose, decision_id, trade_id FROM orders"
        " WHERE NOT (purpose IN ('entry', 'stop', 'target') AND decision_id IN"
        "   (SELECT decision_id FROM decisions WHERE outcome = 'enter'))"
        " AND NOT (purpose = 'exit' AND trade_id IN (SELECT trade_id FROM trades))"
        " ORDER BY order_ref",
    ):
        yield f"order {row['order_ref']} belongs to no decision to enter and to no exit"


def _headlines_not_decided_once(db: sqlite3.Connection) -> Iterator[str]:
    for row in rows_of(
        db,
        "SELECT headline_id, COUNT(decision_id) AS n FROM headlines"
        " LEFT JOIN decisions USING (headline_id) GROUP BY headline_id HAVING n <> 1"
        " ORDER BY headline_id",
    ):
        yield f"headline {row['headline_id']} has {row['n']} decisions, expected exactly one"


def _broken_references(db: sqlite3.Connection) -> Iterator[str]:
    for row in db.execute("PRAGMA foreign_key_check").fetchall():
        if row["table"] not in ("fills", "orders"):
            yield f"row {row['rowid']} of {row['table']} points at a missing row of {row['parent']}"


def _trades_unlike_their_fills(db: sqlite3.Connection) -> Iterator[str]:
    for trade in rows_of(db, "SELECT * FROM trades ORDER BY trade_id"):
        total = _total(db, trade)
        if abs(total.entry_shares - trade["shares"]) > EPSILON:
            yield (
                f"{_named(trade)} says {trade['shares']:g} shares,"
                f" its entry fills sum to {total.entry_shares:g}"
            )
        if trade["state"] != "CLOSED":
            continue
        if not total.is_flat:
            yield f"{_named(trade)} is closed, but its fills sum to {total.shares:+g} shares"
        if abs(total.net_usd - (trade["net_usd"] or 0.0)) > _CENT_USD:
            yield (
                f"{_named(trade)} says a net profit of {trade['net_usd']} USD,"
                f" its fills make {total.net_usd:.2f}"
            )


def _orders_without_end(db: sqlite3.Connection) -> Iterator[str]:
    marks = ", ".join("?" * len(_NOT_FINAL))
    sql = f"SELECT order_ref, state FROM orders WHERE state IN ({marks}) ORDER BY order_ref"  # noqa: S608 - question marks only
    for row in rows_of(db, sql, *_NOT_FINAL):
        yield f"order {row['order_ref']} has no known end: its state is {row['state']}"


def _not_flat(db: sqlite3.Connection) -> Iterator[str]:
    for trade in rows_of(db, "SELECT * FROM trades WHERE state <> 'CLOSED' ORDER BY trade_id"):
        yield f"{_named(trade)} is still open with {_total(db, trade).shares:+g} shares"


def _total(db: sqlite3.Connection, trade: Row) -> PositionSummary:
    return ledger.total_of(partial(rows_of, db), trade)


def _named(trade: Row) -> str:
    return f"trade {trade['trade_id']} ({trade['symbol']})"
