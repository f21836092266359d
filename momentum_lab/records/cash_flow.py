"""What the recorded executions paid and earned, to be held against the account's cash."""

from __future__ import annotations

from dataclasses import dataclass

from momentum_lab.core.market import Side
from momentum_lab.core.position import without_revision
from momentum_lab.records.ledger import Digest, Row


@dataclass(frozen=True, slots=True)
class CashFlow:
    """Executions of some length of time, as money.

    Attributes:
        usd: received by sales less paid by purchases, less commissions.
        n_fills: how many executions.
        n_vague: of these, how many whose price was inferred or whose commission is not known.
        last_ns: instant of the last one, 0 without any.
    """

    usd: float
    n_fills: int
    n_vague: int
    last_ns: int


def cash_flow(digest: Digest, *, since_ns: int, run_id: str = "") -> CashFlow:
    """Return what the executions after an instant amount to.

    Args:
        digest: of the record.
        since_ns: UTC epoch nanoseconds, not included.
        run_id: of orders of this run alone; empty: of all.
    """
    return digest(
        _flow_of,
        "SELECT exec_id, side, shares, price, commission_usd, is_inferred, filled_ns FROM fills"
        " WHERE filled_ns > ? AND (? = '' OR run_id = ?) ORDER BY exec_id",
        since_ns,
        run_id,
        run_id,
    )


def _flow_of(rows: list[Row]) -> CashFlow:
    # A correction has a higher last part of the id, and replaces what it corrects.
    fills = {without_revision(row["exec_id"]): row for row in rows}.values()
    return CashFlow(
        usd=sum(_earned_usd(row) for row in fills),
        n_fills=len(fills),
        n_vague=sum(row["is_inferred"] or row["commission_usd"] is None for row in fills),
        last_ns=max((row["filled_ns"] for row in fills), default=0),
    )


def _earned_usd(fill: Row) -> float:
    earned = -Side(fill["side"]).sign * fill["shares"] * fill["price"]
    return float(earned - (fill["commission_usd"] or 0.0))
