"""The record for other programs: trades, days, slippage, orders, fills and decisions as files.

Every export is a frame with the types of the store. An instant stands in it three times: in UTC
nanoseconds as recorded (`closed_ns`), and as a timestamp in UTC (`closed_utc`) and in New York
(`closed_new_york`). Units are in the names. Parquet keeps the types; CSV writes timestamps in ISO
8601. A file appears whole under its name, or not at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pandas as pd

from momentum_lab.calendars import NEW_YORK
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import RecordError
from momentum_lab.records import schema
from momentum_lab.records.reading import as_time, dtypes_of, opened, rows_of, typed

Export = Literal["trades", "daily", "slippage", "orders", "fills", "decisions"]
Format = Literal["parquet", "csv", "json"]

_SQLITE_BEGINS = b"SQLite format 3\0"

# Export -> the table or view, and the column that tells its time.
_SOURCES: dict[Export, tuple[str, str]] = {
    "trades": ("trade_view", "opened_ns"),
    "daily": ("daily_pnl", "new_york_day"),
    "slippage": ("slippage", "created_ns"),
    "orders": ("orders", "created_ns"),
    "fills": ("fills", "filled_ns"),
    "decisions": ("decisions", "decided_ns"),
}


def read_export(
    database: Path, export: Export, *, run_id: str = "", since: date | None = None
) -> pd.DataFrame:
    """Return one of the exports, oldest row first.

    Args:
        database: the trade store's file.
        export: which one.
        run_id: rows of this run only; of a trade, the run that opened it.
        since: rows of this New York day and later; a trade counts by the day on which it closed,
            and one that is still open always.

    Raises:
        RecordError: no such file, not a trade store of this version, or no such run.
    """
    with opened(database) as db:
        if run_id and not rows_of(db, "SELECT 1 FROM runs WHERE run_id = ?", run_id):
            raise RecordError(f"{database}: no run {run_id!r}")
        source, when = _SOURCES[export]
        sql, values = _query(export, source, when, run_id=run_id, since=since)
        dtypes = dtypes_of(db, source)
        found = typed(rows_of(db, sql, *values), dtypes)
        return _with_instants(found[list(dtypes)])


def write_export(frame: pd.DataFrame, path: Path, file_format: Format) -> None:
    """Write an export; a file of that name is replaced, whole, unless it is a database.

    Raises:
        RecordError: it could not be written.
    """
    if file_format == "parquet":
        _replace(path, lambda draft: frame.to_parquet(draft, index=False))
    else:
        write_whole(text_of(frame, file_format), path)


def write_whole(text: str, path: Path) -> None:
    """Write a text; a file of that name is replaced, whole, unless it is a database.

    Raises:
        RecordError: it could not be written.
    """
    _replace(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    draft: Path | None = None
    try:
        if path.is_file() and _is_database(path):
            # The store itself, most likely: a restart needs it for what is open.
            raise RecordError(f"cannot write {path}: expected a file of its own, found a database")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        draft = Path(name)
        write(draft)
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise RecordError(f"cannot write {path}: {error.strerror}") from error


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_BEGINS)) == _SQLITE_BEGINS


def text_of(frame: pd.DataFrame, file_format: Literal["csv", "json"]) -> str:
    """Return an export as text."""
    if file_format == "csv":
        return str(frame.to_csv(index=False))
    plain = frame.copy()
    for name in frame.columns:
        # Pandas would write New York's timestamps in UTC.
        if isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            plain[name] = frame[name].map(lambda at: None if pd.isna(at) else at.isoformat())
    return f"{plain.to_json(orient='records', indent=2)}\n"


def _query(
    export: Export, source: str, when: str, *, run_id: str, since: date | None
) -> tuple[str, list[object]]:
    conditions, values = list[str](), list[object]()
    if run_id:
        conditions.append("run_id = ?")
        values.append(run_id)
    if since is not None and export in ("trades", "daily"):
        conditions.append("(state = 'OPEN' OR new_york_day >= ?)")
        values.append(since.isoformat())
    elif since is not None:
        conditions.append(f"{when} >= ?")
        values.append(_midnight_ns(since))
    both = " AND ".join(conditions)
    if export == "daily":
        return f"{schema.daily_sql(both)} ORDER BY {when}", values
    where = f" WHERE {both}" if both else ""
    return f"SELECT * FROM {source}{where} ORDER BY {when}", values  # noqa: S608 - our own words


def _midnight_ns(day: date) -> int:
    at = datetime.combine(day, time(), tzinfo=ZoneInfo(NEW_YORK))
    return int(at.timestamp()) * NS_PER_S


def _with_instants(frame: pd.DataFrame) -> pd.DataFrame:
    """Put both timestamps behind each instant in nanoseconds."""
    columns: dict[str, pd.Series] = {}
    for name in frame.columns:
        columns[name] = frame[name]
        if name.endswith("_ns"):
            at = as_time(frame[name])
            stem = name.removesuffix("_ns")
            columns[f"{stem}_utc"] = at.dt.tz_convert("UTC")
            columns[f"{stem}_new_york"] = at
    return pd.DataFrame(columns)
