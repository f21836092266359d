"""Captured quotes: what a session saw on its lines, at most one row per symbol and second.

Written in parts while the session runs, so that a crash loses at most the last minutes, and
joined into one Parquet file at its end.
"""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Protocol

import pandas as pd

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import RecordError

COLUMNS = ("symbol", "at_ns", "bid", "ask", "bid_size", "ask_size", "last")
_ROWS_PER_PART = 20_000
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
        """Make a capture; files appear with the first full part.

        Args:
            path: the final file; its folder is made.
        """
        self.path = path
        self._rows: list[tuple[object, ...]] = []
        self._last_s: dict[str, int] = {}
        self._parts: list[Path] = []

    def add(self, quote: Shown) -> None:
        """Keep what is shown, unless its symbol has a row of the same second already, or nothing.

        Args:
            quote: a quote, or a line; its values are found by the names of `COLUMNS`.
        """
        values = _values(quote)
        symbol, at_ns = values[0], values[1]
        second = at_ns // NS_PER_S
        if not at_ns or self._last_s.get(symbol) == second:
            return
        self._last_s[symbol] = second
        self._rows.append(values)
        if len(self._rows) >= _ROWS_PER_PART:
            self._write_part()

    def close(self) -> None:
        """Write what is left and join the parts.

        Raises:
            RecordError: the folder cannot be written.
        """
        if self._rows:
            self._write_part()
        if not self._parts:
            return
        try:
            pd.concat([pd.read_parquet(part) for part in self._parts]).to_parquet(
                self.path, index=False, compression="zstd"
            )
            for part in self._parts:
                part.unlink()
        except OSError as error:
            raise RecordError(f"{self.path}: could not be written: {error}") from error
        self._parts.clear()

    def _write_part(self) -> None:
        part = self.path.with_suffix(f".part{len(self._parts):04d}.parquet")
        frame = pd.DataFrame(self._rows, columns=list(COLUMNS))
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            frame.to_parquet(part, index=False)
        except OSError as error:
            raise RecordError(f"{part}: could not be written: {error}") from error
        self._parts.append(part)
        self._rows.clear()
