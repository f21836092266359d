"""Captured quotes: what a session saw on its lines, at most one row per symbol and second.

The row is the last that was shown in its second. Rows are collected as they come and written in
parts while the session runs, so that a crash loses what came since the last part, and joined into
one Parquet file at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import RecordError

# A part of this size takes a fiftieth of a second to write.
_ROWS_PER_PART = 20_000
COLUMNS = ("symbol", "at_ns", "bid", "ask", "bid_size", "ask_size", "last")
# The same in each part, also where one of them knows nothing of a side.
_SCHEMA = pa.schema(
    [("symbol", pa.string()), ("at_ns", pa.int64()), *((n, pa.float64()) for n in COLUMNS[2:])]
)
_values = attrgetter(*COLUMNS)


class Shown(Protocol):
    """What shows a quote: prices in US dollars, sizes in shares, None while unknown."""

    @property
    def symbol(self) -> str:
        """The broker's spelling."""

    @property
    def at_ns(self) -> int:
        """Market time, UTC epoch nanoseconds."""


class QuoteCapture:
    """Collects quotes and writes them to one Parquet file."""

    def __init__(self, path: Path) -> None:
        """Make a capture; files appear with the first part.

        Args:
            path: the final file; its folder is made.
        """
        self.path = path
        self._rows: list[tuple[object, ...]] = []
        # Symbol -> second, and what was shown last in it; a row once the next second has begun.
        self._latest: dict[str, tuple[int, tuple[object, ...]]] = {}
        self._parts: list[Path] = []

    def add(self, quote: Shown) -> None:
        """Keep what is shown, in the place of what was shown before in the same second.

        Nothing is written here: it is called for each word of each line.

        Args:
            quote: a quote, or a line; its values are found by the names of `COLUMNS`.
        """
        values = _values(quote)
        symbol, at_ns = values[0], values[1]
        if not at_ns:
            return
        second = at_ns // NS_PER_S
        before = self._latest.get(symbol)
        if before is not None and before[0] != second:
            self._rows.append(before[1])
        self._latest[symbol] = second, values

    @property
    def is_part_full(self) -> bool:
        """Whether what has been collected had better be written."""
        return len(self._rows) >= _ROWS_PER_PART

    def write_part(self) -> None:
        """Write what has been collected since the last part; it is kept where that fails.

        The second that each symbol is in may go on, and waits for the next part.

        Raises:
            RecordError: the folder cannot be written.
        """
        if not self._rows:
            return
        part = self.path.with_suffix(f".part{len(self._parts):04d}.parquet")
        columns = zip(_SCHEMA.types, zip(*self._rows, strict=True), strict=True)
        arrays = [pa.array(values, kind) for kind, values in columns]
        # It is read once and gone: what would make it small takes longer than the writing.
        _write(part, (pa.Table.from_arrays(arrays, schema=_SCHEMA),), compression="none")
        self._parts.append(part)
        self._rows.clear()

    def close(self) -> None:
        """Write what is left, the seconds that have begun too, and join the parts.

        Raises:
            RecordError: the folder cannot be written, or a part cannot be read; the parts stay.
        """
        self._rows += [values for _, values in self._latest.values()]
        self._latest.clear()
        self.write_part()
        if not self._parts:
            return
        _write(self.path, (pq.read_table(part, schema=_SCHEMA) for part in self._parts))
        while self._parts:
            # One that stays does no harm: the whole file goes before it.
            with suppress(OSError):
                self._parts.pop().unlink(missing_ok=True)


def _write(path: Path, tables: Iterable[pa.Table], *, compression: str = "zstd") -> None:
    """Write a whole file or none: who reads takes what is there for whole."""
    draft = path.with_suffix(".draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(draft, _SCHEMA, compression=compression) as file:
            for table in tables:
                file.write_table(table)
        draft.replace(path)
    except (OSError, pa.ArrowException) as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RecordError(f"{path}: could not be written: {error}") from error
