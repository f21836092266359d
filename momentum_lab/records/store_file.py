"""The open file of a trade store: its version, its transactions, and what was read from it.

What a statement means is in `momentum_lab.records.trade_store`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from momentum_lab.errors import RecordError
from momentum_lab.records import migrations, schema
from momentum_lab.records.ledger import Row

# A lock held longer than this by a reader must not stall the loop of a live session.
_BUSY_TIMEOUT_S = 0.05
# What a look at a position asks again and again is short; a table of a whole day is not kept.
_MOST_ROWS_KEPT = 100


class StoreFile:
    """The open file of a trade store; every write is one short transaction."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; one of an earlier version is migrated.

        Args:
            path: the SQLite file; its folder is made.

        Raises:
            RecordError: not a trade store, of a later version, or not writable.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                schema.make_file(path)
            connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)
        except (OSError, sqlite3.Error) as error:
            raise RecordError(f"cannot open the trade store {path}: {error}") from error
        self.db = Database(connection)
        self._answers: dict[tuple[str, tuple[object, ...]], list[Row]] = {}
        self._answered_at: tuple[int, int] | None = None
        try:
            self._prepare()
        except (sqlite3.Error, RecordError) as error:
            self.db.close()
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"{path} is not a usable trade store: {error}") from error

    def _prepare(self) -> None:
        self.db.execute("PRAGMA foreign_keys = ON")
        if migrations.version_of(self.db.conn) in migrations.STEPS:
            migrations.migrate(self.path)
        found = migrations.version_of(self.db.conn)
        if found != schema.VERSION:
            raise RecordError(
                f"{self.path}: expected a trade store of version {schema.VERSION},"
                f" found version {found}"
            )
        # An intent must survive a power cut: it is what an unknown order is looked up by.
        self.db.execute("PRAGMA synchronous = FULL")

    def commit_lightly(self) -> None:
        """Let commits outlive this process, but no longer a power cut.

        Enough where no broker knows of what is recorded. Each commit is spared its wait for the
        disk, which is most of what it costs.
        """
        self.db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @property
    def n_changes(self) -> int:
        """How many rows this store has changed: what was read stays true while it stands."""
        return int(self.db.conn.total_changes)

    @contextmanager
    def _write(self) -> Iterator[Database]:
        try:
            with self.db.atomic() as database:
                yield database
        except (sqlite3.Error, OverflowError) as error:
            raise RecordError(f"{self.path}: could not be written: {error}") from error

    def is_writable(self) -> bool:
        """Whether a write would go through now: tried with one that changes nothing for good."""
        try:
            with self._write() as db:
                db.execute("CREATE TABLE IF NOT EXISTS probe (filler TEXT)")
                db.execute("INSERT INTO probe VALUES (?)", ["x" * 4096])
                db.execute("DROP TABLE probe")
        except RecordError:
            return False
        return True

    def _rows(self, sql: str, *values: object) -> list[Row]:
        """Return the rows of a question; one asked again is answered from memory.

        What was read stays true until a row changes: by this store, or by another process.
        """
        try:
            if self.db.conn.in_transaction:
                # What has not been committed may be taken back.
                return self._read(sql, values)
            (version,) = self.db.conn.execute("PRAGMA data_version").fetchone()
            state = (self.n_changes, version)
            if state != self._answered_at:
                self._answered_at = state
                self._answers.clear()
            rows = self._answers.get((sql, values))
            if rows is None:
                rows = self._read(sql, values)
                if len(rows) <= _MOST_ROWS_KEPT:
                    self._answers[sql, values] = rows
            return [row.copy() for row in rows]
        except sqlite3.Error as error:
            raise RecordError(f"{self.path}: could not be read: {error}") from error

    def _read(self, sql: str, values: tuple[object, ...]) -> list[Row]:
        # The library's own `query` parses each statement first, which takes longer than the answer.
        cursor = self.db.conn.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return the rows of a question that is put together elsewhere in the records."""
        return self._rows(sql, *values)


def insert(db: Database, table: str, values: Mapping[str, object]) -> int:
    """Write a row; return its row id. The library's `insert` asks for the whole schema first."""
    columns = ", ".join(f"[{name}]" for name in values)
    marks = ", ".join("?" * len(values))
    cursor = db.execute(
        f"INSERT INTO [{table}] ({columns}) VALUES ({marks})",  # noqa: S608 - our own names
        [*values.values()],
    )
    return int(cursor.lastrowid or 0)


def update(
    db: Database, table: str, key: str, key_value: object, values: Mapping[str, object]
) -> None:
    """Change columns of one row; the library reads the whole schema anew for each update."""
    columns = ", ".join(f"[{name}] = ?" for name in values)
    db.execute(
        f"UPDATE [{table}] SET {columns} WHERE [{key}] = ?",  # noqa: S608 - our own names
        [*values.values(), key_value],
    )
