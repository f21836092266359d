"""From the rows of the fills table to a trade's size, prices and profit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from momentum_lab.core.market import Side
from momentum_lab.core.position import Fill, PositionSummary, summarise

Row = dict[str, Any]
# Runs a statement with its values and returns all rows.
Query = Callable[..., list[Row]]
T = TypeVar("T")


class Digest(Protocol):
    """Runs a statement with its values and returns what `make` makes of all rows."""

    def __call__(self, make: Callable[[list[Row]], T], sql: str, /, *values: object) -> T:
        """Return what follows from the rows; asked again, it may be remembered by `make`."""


_FILLS_OF_TRADE = (
    "SELECT fills.* FROM fills JOIN orders USING (order_ref)"
    " WHERE decision_id = ? OR trade_id = ? ORDER BY filled_ns, exec_id"
)


def fills_of(query: Query, trade: Mapping[str, Any]) -> list[Fill]:
    """Return the executions of a trade, entry and exits, in order of time."""
    rows = query(_FILLS_OF_TRADE, trade["decision_id"], trade["trade_id"])
    return [_fill(row) for row in rows]


def total_of(query: Query, trade: Mapping[str, Any]) -> PositionSummary:
    """Return what the executions of a trade amount to."""
    return summarise(fills_of(query, trade), entry_side=Side(trade["side"]))


def known_total_of(digest: Digest, trade: Mapping[str, Any]) -> PositionSummary:
    """Return the same, from what may be remembered."""
    make = _TOTALS[Side(trade["side"])]
    return digest(make, _FILLS_OF_TRADE, trade["decision_id"], trade["trade_id"])


def _total(entry_side: Side, rows: list[Row]) -> PositionSummary:
    return summarise([_fill(row) for row in rows], entry_side=entry_side)


# One function for each side, by which its answers are remembered.
_TOTALS = {side: partial(_total, side) for side in Side}


def trade_values(fills: list[Fill], *, entry_side: Side) -> Row:
    """Return the columns of a trade that follow from its executions.

    Args:
        fills: in order of time, at least one of them of the entry's side.
        entry_side: direction of the trade.
    """
    total = summarise(fills, entry_side=entry_side)
    closing = [fill for fill in fills if fill.side is not entry_side]
    is_closed = total.is_flat and bool(closing)
    return {
        "opened_ns": next(fill.at_ns for fill in fills if fill.side is entry_side),
        "shares": total.entry_shares,
        "entry_price": total.entry_price,
        "exit_price": total.exit_price,
        "costs_usd": total.costs_usd,
        "state": "CLOSED" if is_closed else "OPEN",
        "closed_ns": closing[-1].at_ns if is_closed else None,
        "gross_usd": total.gross_usd if closing else None,
        "net_usd": total.net_usd if is_closed else None,
    }


def _fill(row: Row) -> Fill:
    return Fill(
        exec_id=row["exec_id"],
        order_ref=row["order_ref"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        shares=row["shares"],
        price=row["price"],
        at_ns=row["filled_ns"],
        commission_usd=row["commission_usd"],
        con_id=row["con_id"],
    )
