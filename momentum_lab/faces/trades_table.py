"""The trades of a store as a table for a terminal, with their totals before and after costs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from momentum_lab.faces import theme
from momentum_lab.faces.tables import Column, make_table

_WORDS = {"BUY": "long", "SELL": "short"}


def trades_text(frame: pd.DataFrame) -> str:
    """Return one line per trade, and what all of them brought.

    Args:
        frame: the export `trades`.
    """
    table = make_table(
        "Trades (New York time)", frame, _TRADE_COLUMNS, when_empty="nothing was traded."
    )
    return f"{table!r}\n\n{_totals(frame)}"


def days_text(frame: pd.DataFrame) -> str:
    """Return one line per day.

    Args:
        frame: the export `daily`.
    """
    table = make_table(
        "Days (New York)", frame, _DAY_COLUMNS, when_empty="no trade has been closed."
    )
    return repr(table)


def _totals(frame: pd.DataFrame) -> str:
    is_closed = frame["state"] == "CLOSED"
    closed, still_open = frame[is_closed], frame[~is_closed]
    held = ", ".join(
        f"{row['symbol']} {_WORDS[row['side']]} {row['shares']:g}"
        for _, row in still_open.iterrows()
    )
    gross, costs, net = (float(closed[f"{name}_usd"].sum()) for name in ("gross", "costs", "net"))
    n_wins = int((closed["net_usd"] > 0).sum())
    lines = [
        f"trades: {len(closed)} closed on days: {closed['new_york_day'].nunique()},"
        f" with a gain: {n_wins}, still open: {held or 'none'}",
        f"gross {theme.money(gross, signed=True)}   costs {theme.money(costs)}"
        f"   net {theme.money(net, signed=True)}",
    ]
    if held:
        # Their entries have cost something already, which is in no sum above.
        spent = float(still_open["costs_usd"].sum())
        lines.append(f"costs of what is still open, so far: {theme.money(spent)}")
    return "\n".join(lines)


def _clock(at: Any) -> str:
    return theme.DASH if pd.isna(at) else f"{at:{theme.SECONDS}}"


def _signed(value: Any) -> str:
    return theme.number(value) if pd.isna(value) or value <= 0 else f"+{theme.number(value)}"


def _reason(row: Any) -> str:
    return "still open" if row["state"] != "CLOSED" else theme.text_of(row["exit_reason"])


_TRADE_COLUMNS = (
    Column("day", lambda row: row["new_york_day"]),
    Column("symbol", lambda row: row["symbol"]),
    Column("side", lambda row: _WORDS[row["side"]]),
    Column("shares", lambda row: f"{row['shares']:,.0f}", is_number=True),
    Column("entry", lambda row: _clock(row["opened_new_york"]), is_number=True),
    Column("at USD", lambda row: theme.number(row["entry_price_usd"]), is_number=True),
    Column("exit", lambda row: _clock(row["closed_new_york"]), is_number=True),
    Column("out at USD", lambda row: theme.number(row["exit_price_usd"]), is_number=True),
    Column("reason", _reason),
    Column("held s", lambda row: theme.number(row["duration_s"], digits=0), is_number=True),
    Column("gross USD", lambda row: _signed(row["gross_usd"]), is_number=True),
    Column("costs USD", lambda row: theme.number(row["costs_usd"]), is_number=True),
    Column("net USD", lambda row: _signed(row["net_usd"]), is_number=True),
    Column("R", lambda row: _signed(row["r_multiple"]), is_number=True),
)
_DAY_COLUMNS = (
    Column("day", lambda row: row["new_york_day"]),
    Column("trades", lambda row: str(row["n_trades"]), is_number=True),
    Column("with a gain", lambda row: str(row["n_wins"]), is_number=True),
    Column("gross USD", lambda row: _signed(row["gross_usd"]), is_number=True),
    Column("costs USD", lambda row: theme.number(row["costs_usd"]), is_number=True),
    Column("net USD", lambda row: _signed(row["net_usd"]), is_number=True),
    Column("R", lambda row: _signed(row["r_multiple"]), is_number=True),
)
