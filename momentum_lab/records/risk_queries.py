"""What the limits of the account ask of the trade store: the day so far, and the brake.

All of it is asked before each entry, so every statement reads the rows of the day by an index.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.order import OrderState
from momentum_lab.records import schema
from momentum_lab.records.ledger import Digest, Query, Row

_MINUTE_NS = 60 * NS_PER_S
# The broker has not answered yet: neither a refusal nor an acceptance.
_SAYS_NOTHING = frozenset({OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows count.

    Attributes:
        run_id: of a replay the run, since each replayed day is a history of its own; empty: every
            run of this account.
        day_ns: start of the account's day.
    """

    run_id: str
    day_ns: int


@dataclass(frozen=True, slots=True)
class DayEntries:
    """The entries of a day.

    Attributes:
        n_day: that left for the broker, or of which something was executed.
        n_minute: of these, in the last sixty seconds.
        n_symbol: of these, in one symbol.
        n_rejects: how many of the last were refused in a row.
        working: rows of those whose end is not known, of whatever day.
    """

    n_day: int
    n_minute: int
    n_symbol: int
    n_rejects: int
    working: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Left:
    """What the entries of a day amount to, put together once for all that is asked of it.

    Attributes:
        created_ns: of each, oldest first.
        n_of_symbol: symbol -> how many.
        rejected_ns: of the last ones that were refused in a row.
    """

    created_ns: tuple[int, ...]
    n_of_symbol: Counter[str]
    rejected_ns: tuple[int, ...]

    @classmethod
    def of(cls, newest_first: list[Row]) -> _Left:
        return cls(
            tuple(row["created_ns"] for row in reversed(newest_first)),
            Counter(row["symbol"] for row in newest_first),
            tuple(_rejected_in_a_row(newest_first)),
        )


def _rejected_in_a_row(newest_first: list[Row]) -> Iterator[int]:
    for row in newest_first:
        state = OrderState(row["state"])
        if state is OrderState.REJECTED:
            yield row["created_ns"]
        elif state not in _SAYS_NOTHING:
            break


def entries_of_day(
    digest: Digest, scope: Scope, *, now_ns: int, symbol: str, rejects_since_ns: int
) -> DayEntries:
    """Return how often something was entered today, and what still works.

    Args:
        digest: of the store; its rows are read as they are, and not to be changed.
        scope: which rows count.
        now_ns: market time.
        symbol: the one that is asked about.
        rejects_since_ns: earlier refusals are forgiven.
    """
    left = digest(
        _Left.of,
        "SELECT created_ns, symbol, state FROM orders WHERE purpose = 'entry'"
        " AND created_ns >= ? AND (? = '' OR run_id = ?) AND (state != ? OR EXISTS"
        " (SELECT 1 FROM fills WHERE fills.order_ref = orders.order_ref))"
        " ORDER BY created_ns DESC, rowid DESC",
        scope.day_ns,
        scope.run_id,
        scope.run_id,
        OrderState.ABSENT.value,
    )
    working = digest(
        _as_they_are,
        f"SELECT * FROM orders WHERE purpose = 'entry' AND {schema.UNSETTLED}"  # noqa: S608 - our own words
        " ORDER BY created_ns DESC",
    )
    return DayEntries(
        n_day=len(left.created_ns),
        n_minute=len(left.created_ns) - bisect_right(left.created_ns, now_ns - _MINUTE_NS),
        n_symbol=left.n_of_symbol[symbol],
        n_rejects=sum(at_ns >= rejects_since_ns for at_ns in left.rejected_ns),
        working=working,
    )


def closed_since(digest: Digest, scope: Scope, since_ns: int) -> tuple[Row, ...]:
    """Return symbol, closed_ns and net_usd of the trades that closed since an instant.

    The rows are not to be changed.
    """
    return digest(
        _as_they_are,
        "SELECT symbol, closed_ns, net_usd FROM trades"
        " WHERE state = 'CLOSED' AND closed_ns >= ? AND (? = '' OR run_id = ?)",
        since_ns,
        scope.run_id,
        scope.run_id,
    )


def multiples_before(query: Query, scope: Scope, *, strategy: str) -> list[float]:
    """Return what each trade of a strategy brought that closed before the day, oldest first.

    In multiples of what its stop would have lost, after costs. A replayed day counts in its own run
    only: the same day twice is no second trade.
    """
    rows = query(
        "SELECT r_multiple FROM trade_view JOIN runs USING (run_id)"
        " WHERE state = 'CLOSED' AND closed_ns < ? AND r_multiple IS NOT NULL AND strategy = ?"
        " AND CASE WHEN ? = '' THEN mode != 'replay' ELSE run_id = ? END"
        " ORDER BY closed_ns, trade_id",
        scope.day_ns,
        strategy,
        scope.run_id,
        scope.run_id,
    )
    return [float(row["r_multiple"]) for row in rows]


def first_equity_usd(query: Query, scope: Scope) -> float | None:
    """Return the day's first recorded net liquidation, None before it."""
    rows = query(
        # The curves of earlier days are long; their runs have ended, so they are not looked at.
        "SELECT equity_usd FROM equity WHERE run_id IN (SELECT run_id FROM runs"
        " WHERE market_end_ns IS NULL OR market_end_ns >= ?)"
        " AND at_ns >= ? AND (? = '' OR run_id = ?) ORDER BY at_ns LIMIT 1",
        scope.day_ns,
        scope.day_ns,
        scope.run_id,
        scope.run_id,
    )
    return float(rows[0]["equity_usd"]) if rows else None


def last_brake(query: Query, run_id: str) -> Row | None:
    """Return the newest state of the brake; None: it was never touched.

    Args:
        query: of the store.
        run_id: of a replay the run, empty: of any run.
    """
    rows = query(
        "SELECT * FROM risk_states WHERE (? = '' OR run_id = ?) ORDER BY id DESC LIMIT 1",
        run_id,
        run_id,
    )
    return rows[0] if rows else None


def _as_they_are(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(rows)
