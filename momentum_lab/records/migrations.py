"""Brings the trade store of an earlier version up to the tables of this one.

SQLite cannot alter a CHECK, so a step makes the tables anew and moves every row with its number.
It copies the columns that a table of the file and today's table share: a column that is new has
the default of its declaration. Tables, indices and triggers of others stay as they are.

Theory of operation. One connection takes the file's write lock and holds it until the version is
written; of two openers the second waits, and finds the work done. Under the lock, and before
anything is changed, the file is copied whole to a name beside it that says version and time. Each
step is one transaction with its version, so that whoever is killed in the middle leaves the file
as it was.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from momentum_lab.clock import wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import RecordError
from momentum_lab.records import schema

# A migration by somebody else may move a year of rows.
_PATIENCE_S = 60.0

Step = Callable[[sqlite3.Connection], None]


def migrate(path: Path) -> Path | None:
    """Bring a store to the version of this program; return the copy of the earlier one.

    Nothing is done, and None returned, where the version is not an earlier one that is known.

    Args:
        path: the trade store's file, which exists.

    Raises:
        RecordError: it could not be done; the file is as it was.
    """
    try:
        with contextlib.closing(_opened(path)) as db:
            return _migrate(db, path) if version_of(db) in STEPS else None
    except (OSError, sqlite3.Error, RecordError) as error:
        raise RecordError(
            f"{path}: could not be brought to version {schema.VERSION}, and stays as it was:"
            f" {error}"
        ) from error


def version_of(db: sqlite3.Connection) -> int:
    """Return the version that a file says it has; 0: it says nothing."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _opened(path: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by hand: the module would commit before some statements.
    db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    # A table is renamed while others point at it; both are no-ops within a transaction.
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA legacy_alter_table = ON")
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> Path | None:
    copy: Path | None = None
    while True:
        db.execute("BEGIN IMMEDIATE")
        try:
            # Only now is it certain that nobody else is at it.
            found = version_of(db)
            if found not in STEPS:
                db.execute("ROLLBACK")
                return copy
            copy = copy or _copy(path, found)
            _step(db, found)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _step(db: sqlite3.Connection, found: int) -> None:
    """Take one step, unless it would leave rows that point at a missing one."""
    strays = _strays(db)
    STEPS[found](db)
    if broken := _strays(db) - strays:
        raise RecordError(f"version {found + 1} would break references: {sorted(broken, key=str)}")
    db.execute(f"PRAGMA user_version = {found + 1}")


def _copy(path: Path, version: int) -> Path:
    """Copy the file whole beside itself, under a name that none has yet."""
    at = datetime.fromtimestamp(wall_ns() / NS_PER_S, tz=timezone.utc)
    target = path.with_name(f"{path.name}.version-{version}.{at:%Y%m%dT%H%M%S.%fZ}")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        # A second connection reads what the first has locked against other writers.
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(draft)) as sink,
        ):
            source.backup(sink)
        os.link(draft, target)
    finally:
        draft.unlink()
    return target


def _strays(db: sqlite3.Connection) -> set[tuple[object, ...]]:
    """Return the rows that point at a missing one."""
    return set(db.execute("PRAGMA foreign_key_check"))


# --- the steps ----------------------------------------------------------------------------


def rebuild(db: sqlite3.Connection) -> None:
    """Make every table, index and view as this version has it; move all rows.

    Raises:
        RecordError: a row was lost on the way.
    """
    ours = {name for kind, name in schema.declared() if kind == "TABLE"}
    for kind, name in schema.declared():
        if kind in ("VIEW", "INDEX"):
            db.execute(f"DROP {kind} IF EXISTS [{name}]")
    strangers = _of_others(db, ours)
    found = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in ours.intersection(found):
        db.execute(f"ALTER TABLE [{table}] RENAME TO [{_earlier(table)}]")
    for statement in schema.TABLES:
        db.execute(statement)
    for table in ours.intersection(found):
        _move(db, table)
        db.execute(f"DROP TABLE [{_earlier(table)}]")
    for statement in strangers:
        db.execute(statement)


def add_first_stops(db: sqlite3.Connection) -> None:
    """Make the tables anew, and tell of each trade where its stop was first.

    Of a stop that a rule has moved that is the one that the entry was decided with.
    """
    rebuild(db)
    db.execute(
        "UPDATE trades SET first_stop = COALESCE(CASE WHEN stop_kind != 'STOP_LOSS' THEN"
        " (SELECT o.stop FROM orders AS o"
        "  WHERE o.decision_id = trades.decision_id AND o.purpose = 'entry') END, stop)"
    )


# Version of the file -> what brings it to the next one. Where a later version computes a value
# that is not a mere default, its step does so after `rebuild`, which may run twice.
STEPS: Mapping[int, Step] = {1: rebuild, 2: add_first_stops}


def _earlier(table: str) -> str:
    return f"earlier {table}"


def _of_others(db: sqlite3.Connection, ours: set[str]) -> list[str]:
    """Return what makes the indices and triggers that others have put on our tables."""
    rows = db.execute(
        "SELECT tbl_name, sql FROM sqlite_master"
        " WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    )
    return [sql for table, sql in rows if table in ours]


def _move(db: sqlite3.Connection, table: str) -> None:
    """Copy a table's rows; a row's number is kept, it tells which one came first."""
    earlier = _earlier(table)
    was = [row[1] for row in db.execute(f"PRAGMA table_info([{earlier}])")]
    now = [row[1] for row in db.execute(f"PRAGMA table_info([{table}])")]
    columns = ", ".join(["rowid", *(f"[{name}]" for name in was if name in now)])
    db.execute(f"INSERT INTO [{table}] ({columns}) SELECT {columns} FROM [{earlier}]")  # noqa: S608 - names of our own tables
    counts = [
        db.execute(f"SELECT COUNT(*) FROM [{name}]").fetchone()[0]  # noqa: S608 - names of our own tables
        for name in (earlier, table)
    ]
    if counts[0] != counts[1]:
        raise RecordError(f"{table}: {counts[0]} rows became {counts[1]}")
