"""The tables of a tape that hold single ticks: quotes, trades and halts.

    quotes.parquet      symbol, at_ns, bid, ask, bid_size, ask_size
    trades.parquet      symbol, at_ns, price, size, exchange, conditions
    halts.parquet       symbol, at_ns, kind

A quote is the best bid and ask from its instant on; a side that nobody quotes is 0 with size 0.
Quotes may be locked or crossed, as real ones are. A halt's kind is one of `HALT_KINDS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from momentum_lab.errors import RecordError

QUOTE_COLUMNS = ("symbol", "at_ns", "bid", "ask", "bid_size", "ask_size")
TRADE_COLUMNS = ("symbol", "at_ns", "price", "size", "exchange", "conditions")
HALT_COLUMNS = ("symbol", "at_ns", "kind")
TRADING, HALTED_BY_REGULATION, HALTED_BY_VOLATILITY, LIMIT_STATE = 0, 1, 2, 3
HALT_KINDS: Mapping[int, str] = {
    TRADING: "trading",
    HALTED_BY_REGULATION: "halted by regulation or for news",
    HALTED_BY_VOLATILITY: "paused for volatility",
    LIMIT_STATE: "limit state: a quote stands at its price band, and trading goes on",
}
_NS_PER_S = 1_000_000_000
_TYPES: Mapping[str, str] = {
    "at_ns": "int64",
    **dict.fromkeys(("seconds", "volume", "size", "bid_size", "ask_size", "kind"), "int64"),
    **dict.fromkeys(("open", "high", "low", "close", "bid", "ask", "price"), "float64"),
}


def empty_table(columns: Collection[str]) -> pd.DataFrame:
    """Return a table without rows whose columns have their types."""
    return pd.DataFrame({name: pd.Series(dtype=_TYPES.get(name, "str")) for name in columns})


def checked_ticks(path: Path, frame: pd.DataFrame, symbols: Collection[str]) -> pd.DataFrame:
    """Return a table of quotes, trades or halts in time order, with its types.

    Args:
        path: where it was read, for messages.
        frame: its columns.
        symbols: those of the tape.

    Raises:
        RecordError: a symbol that the tape does not list, or impossible numbers; says which.
    """
    strangers = sorted(set(frame["symbol"].astype(str)) - set(symbols))
    if strangers:
        raise RecordError(f"{path}: symbols {strangers} are not in tape.yaml")
    numbers = [name for name in frame.columns if name in _TYPES]
    if not all(pd.api.types.is_numeric_dtype(frame[name]) for name in numbers):
        raise RecordError(f"{path}: expected numbers, found {list(frame.dtypes)}")
    good = np.isfinite(frame[numbers].astype("float64")).all(axis=1) & _is_possible(frame)
    if not good.all():
        first = frame[~good].iloc[0].to_dict()
        raise RecordError(f"{path}: {int((~good).sum())} impossible rows, the first is {first}")
    typed = frame.astype({name: _TYPES[name] for name in numbers})
    return typed.sort_values("at_ns", kind="stable").reset_index(drop=True)


def _is_possible(frame: pd.DataFrame) -> pd.Series:
    if "price" in frame:
        return (frame["price"] > 0) & (frame["size"] >= 0)
    if "kind" in frame:
        return frame["kind"].isin(list(HALT_KINDS))
    sides = [(frame[side] >= 0) & (frame[f"{side}_size"] >= 0) for side in ("bid", "ask")]
    return sides[0] & sides[1]


def check_no_overlap(path: Path, bars: pd.DataFrame, trades: pd.DataFrame) -> None:
    """Refuse bars that lie where the single trades of their symbol are: they would count twice.

    Raises:
        RecordError: says which symbol.
    """
    for symbol, ticks in trades.groupby("symbol"):
        own = bars[bars["symbol"] == symbol]
        ends_ns = own["at_ns"] + own["seconds"] * _NS_PER_S
        is_beside = (ends_ns <= ticks["at_ns"].min()) | (own["at_ns"] > ticks["at_ns"].max())
        if not is_beside.all():
            raise RecordError(
                f"{path}: expected the bars of {symbol} before or after its trades, found "
                f"{int((~is_beside).sum())} among them"
            )
