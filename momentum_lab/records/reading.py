"""A trade store opened to be read: rows as they are, and frames with the types of their columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from momentum_lab.calendars import NEW_YORK
from momentum_lab.errors import RecordError
from momentum_lab.records import migrations, schema
from momentum_lab.records.ledger import Row
from momentum_lab.records.lock import exclusive

_BUSY_TIMEOUT_S = 5.0
_AT_DTYPE = f"datetime64[ns, {NEW_YORK}]"


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a trade store read-only; one of an earlier version is migrated first."""
    if not database.is_file():
        raise RecordError(f"no trade store at {database}")
    uri = f"file:{quote(str(database.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)
    connection.row_factory = sqlite3.Row
    try:
        found = migrations.version_of(connection)
        if found in migrations.STEPS:
            # Not while a session of the earlier program may be writing.
            with exclusive(database):
                migrations.migrate(database)
            found = migrations.version_of(connection)
        if found != schema.VERSION:
            raise RecordError(
                f"{database}: expected a trade store of version {schema.VERSION},"
                f" found version {found}"
            )
        yield connection
    except sqlite3.Error as error:
        raise RecordError(f"{database}: could not be read: {error}") from error
    finally:
        connection.close()


def rows_of(db: sqlite3.Connection, sql: str, *values: object) -> list[Row]:
    """Return the rows of a query."""
    return [dict(row) for row in db.execute(sql, values)]


def dtypes_of(db: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return column -> dtype of a table or view, as its schema declares it.

    A column that a view computes has no declared type: its name tells.
    """
    kinds = {"TEXT": "string", "REAL": "float64"}
    return {
        row["name"]: _dtype_by_name(row["name"])
        if not row["type"]
        else kinds.get(row["type"], "int64" if row["notnull"] or row["pk"] else "Int64")
        for row in db.execute(f"PRAGMA table_info([{table}])")
    }


def _dtype_by_name(name: str) -> str:
    if name in ("new_york_day", "exit_order_ref"):
        return "string"
    is_whole = name.endswith(("_ns", "_id")) or name.startswith("n_") or name == "sign"
    return "Int64" if is_whole else "float64"


def typed(rows: Sequence[Row], dtypes: dict[str, str]) -> pd.DataFrame:
    """Return rows as a frame that has its types also when it is empty, with instants."""
    frame = pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=dtype)
            for name, dtype in dtypes.items()
        }
    )
    return with_instants(frame)


def with_instants(frame: pd.DataFrame) -> pd.DataFrame:
    """Put a New York timestamp beside each instant in nanoseconds."""
    instants = {
        "at" if name == "at_ns" else f"{name.removesuffix('_ns')}_at": as_time(frame[name])
        for name in frame.columns
        if name.endswith("_ns")
    }
    return frame.assign(**instants)


def as_time(instants_ns: pd.Series[Any]) -> pd.Series[Any]:
    """Return instants in nanoseconds as New York timestamps."""
    found = pd.to_datetime(instants_ns, unit="ns", utc=True)
    return found.dt.tz_convert(NEW_YORK).astype(_AT_DTYPE)
