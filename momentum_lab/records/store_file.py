"""The open file of a trade store: its version, its transactions, and what was read from it.

What a statement means is in `momentum_lab.records.trade_store`.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlite_utils import Database

from momentum_lab.clock import transport_s
from momentum_lab.errors import RecordError
from momentum_lab.records import migrations, schema
from momentum_lab.records.ledger import Row

# A lock held longer than this by a reader must not stall the loop of a live session.
_BUSY_TIMEOUT_S = 0.05
# Whether another process has written is asked this seldom: to ask takes longer than most answers.
_FRESH_S = 0.001
# What a look at a position asks again and again is short; a table of a whole day is not kept.
_MOST_ROWS_KEPT = 100
_MOST_ANSWERS_KEPT = 1000
_WRITES = re.compile(
    r"\s*(?:INSERT|REPLACE|UPDATE|DELETE)\b(?:\s+(?:OR\s+\w+|INTO|FROM))*\s+[\[\"]?(\w+)",
    re.IGNORECASE,
)
T = TypeVar("T")
_WORD = re.compile(r"\w+")
_TABLES = frozenset(name for kind, name in schema.declared() if kind == "TABLE")
_VIEWS = frozenset(name for kind, name in schema.declared() if kind == "VIEW")


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
        # Question -> what follows from what was read, and how often this store, and each of its
        # tables that the question is about, had changed then.
        self._answers: dict[tuple[object, str, tuple[object, ...]], tuple[Any, int, list[int]]] = {}
        self._n_writes = Counter[str]()
        self._n_changes_seen = self._version_seen = 0
        self._looked_s = -math.inf
        self.db = Database(connection, tracer=self._note_write)
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
            self._forget_strays()
            try:
                with self.db.atomic() as database:
                    yield database
            finally:
                # Of these changes it is known which table they are of.
                self._n_changes_seen = self.n_changes
        except (sqlite3.Error, OverflowError) as error:
            raise RecordError(f"{self.path}: could not be written: {error}") from error

    def _note_write(self, sql: str, _values: object) -> None:
        """Hear each statement that the library executes."""
        table = _written_by(sql)
        if table is not None:
            self._n_writes[table] += 1

    def _forget_strays(self) -> None:
        """Forget all answers when this connection has changed rows past `_write`."""
        if self.n_changes != self._n_changes_seen:
            self._n_changes_seen = self.n_changes
            self._answers.clear()

    def _forget_what_others_changed(self) -> None:
        """Forget all answers when another process has written."""
        now_s = transport_s()
        if 0 <= now_s - self._looked_s < _FRESH_S:
            return
        self._looked_s = now_s
        (version,) = self.db.conn.execute("PRAGMA data_version").fetchone()
        if version != self._version_seen:
            self._version_seen = version
            self._answers.clear()

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
        """Return the rows of a question; one of few rows asked again is answered from memory."""
        return [row.copy() for row in self.digest(_as_they_are, sql, *values)]

    def digest(self, make: Callable[[list[Row]], T], sql: str, *values: object) -> T:
        """Return what follows from the rows of a question; asked again it is answered from memory.

        What was read stays true until a row of its tables changes: by this store, or by another
        process, whose changes are seen a millisecond later at the latest.

        Args:
            make: what follows from the rows, and from nothing else; a value that does not change.
                The same function each time, by which it is remembered.
            sql: the question.
            values: of its marks.
        """
        try:
            if self.db.conn.in_transaction:
                # What has not been committed may be taken back.
                return make(self._read(sql, values))
            self._forget_strays()
            self._forget_what_others_changed()
            key, n_changes = (make, sql, values), self._n_changes_seen
            found, n_changes_then, n_writes_then = self._answers.get(key, (None, None, None))
            if n_changes == n_changes_then:
                return cast("T", found)
            n_writes = [self._n_writes[table] for table in _read_by(sql)]
            if n_writes != n_writes_then:
                rows = self._read(sql, values)
                found = make(rows)
                if found is rows and len(rows) > _MOST_ROWS_KEPT:
                    return cast("T", found)
                if len(self._answers) >= _MOST_ANSWERS_KEPT:
                    self._answers.clear()
            self._answers[key] = (found, n_changes, n_writes)
            return cast("T", found)
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


def _as_they_are(rows: list[Row]) -> list[Row]:
    return rows


@lru_cache(maxsize=1000)
def _written_by(sql: str) -> str | None:
    """Return the table that a statement writes to, None if it is no such statement."""
    found = _WRITES.match(sql)
    return found[1] if found else None


@lru_cache(maxsize=1000)
def _read_by(sql: str) -> tuple[str, ...]:
    """Return the tables that a question may be about; more are harmless."""
    words = frozenset(_WORD.findall(sql))
    return tuple(sorted(_TABLES if words & _VIEWS else words & _TABLES))


def insert(db: Database, table: str, *rows: Mapping[str, object]) -> int:
    """Write rows of the same columns; return the id of the last one.

    The library's `insert` asks for the whole schema first.
    """
    values = [value for row in rows for value in row.values()]
    cursor = db.execute(_insertion(table, tuple(rows[0]), len(rows)), values)
    return int(cursor.lastrowid or 0)


@lru_cache(maxsize=100)
def _insertion(table: str, names: tuple[str, ...], n_rows: int) -> str:
    columns = ", ".join(f"[{name}]" for name in names)
    marks = ", ".join("?" * len(names))
    rows = ", ".join([f"({marks})"] * n_rows)
    return f"INSERT INTO [{table}] ({columns}) VALUES {rows}"  # noqa: S608 - our own names


def update(
    db: Database, table: str, key: str, key_value: object, values: Mapping[str, object]
) -> None:
    """Change columns of one row; the library reads the whole schema anew for each update."""
    columns = ", ".join(f"[{name}] = ?" for name in values)
    db.execute(
        f"UPDATE [{table}] SET {columns} WHERE [{key}] = ?",  # noqa: S608 - our own names
        [*values.values(), key_value],
    )
