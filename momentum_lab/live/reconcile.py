"""Broker's truth against the store: executions, orders, positions.

Runs on every synchronisation, at the start as after a gap. Executions are booked first, because
the broker does not replay them by itself. Then each order whose end we do not know is looked up
by its reference. Then positions are compared: what cannot be explained is reported and its symbol
is blocked; nothing is traded to make the books agree.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from momentum_lab.core.market import EPSILON
from momentum_lab.core.order import OrderEvent
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.live.ibkr.translate import OrderReport
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

_REJECTED = frozenset({"Inactive"})
_CANCELLED = frozenset({"Cancelled", "ApiCancelled"})


@dataclass(frozen=True, slots=True)
class Difference:
    """A position that broker and store see differently.

    Attributes:
        con_id: the broker's contract id.
        broker_shares: signed, as the broker says.
        store_shares: signed, the sum of our fills.
    """

    con_id: int
    broker_shares: float
    store_shares: float


def reconcile(
    snapshot: BrokerSnapshot, store: TradeStore, execution: ExecutionService
) -> list[Difference]:
    """Bring the store up to the broker's truth; return the positions that still differ."""
    for fill in snapshot.fills:
        if execution.recognise(fill.order_ref):
            execution.book_fill(fill)
        if fill.commission_usd is not None:
            store.book_commission(fill.exec_id, fill.commission_usd)
    for order in store.unsettled_orders():
        report = _settlement(order, snapshot)
        has_left = report.event is OrderEvent.NOT_FOUND and order["order_id"] is not None
        if has_left and not execution.note_missing(report.order_ref):
            continue
        if not has_left:
            execution.forget_missing(report.order_ref)
        execution.book_order(report)
    ours = store.positions()
    before = {found.con_id for found in differing(snapshot.positions_before, ours)}
    # A fill between two requests is in one of the two lists of positions.
    differences = [found for found in differing(snapshot.positions, ours) if found.con_id in before]
    _log.info(
        "reconciled: executions=%d open_orders=%d differences=%d",
        len(snapshot.fills),
        len(snapshot.open_orders),
        len(differences),
    )
    return differences


def differing(broker: Mapping[int, float], ours: Mapping[int, float]) -> list[Difference]:
    """Return the contracts whose signed shares differ, in order of contract id."""
    pairs = {key: (broker.get(key, 0.0), ours.get(key, 0.0)) for key in {*broker, *ours}}
    return [
        Difference(key, theirs, own)
        for key, (theirs, own) in sorted(pairs.items())
        if abs(theirs - own) > EPSILON
    ]


def _settlement(order: Row, snapshot: BrokerSnapshot) -> OrderReport:
    """Return what the broker's lists say about an order whose end is not known."""
    order_ref = order["order_ref"]
    event, words = OrderEvent.NOT_FOUND, "not known to the broker"
    if order_ref in snapshot.open_orders:
        event, words = OrderEvent.ACKNOWLEDGE, f"open: {snapshot.open_orders[order_ref]}"
    elif (status := snapshot.completed_orders.get(order_ref)) is not None:
        words = f"completed: {status}"
        if status in _REJECTED:
            event = OrderEvent.REJECT
        elif status in _CANCELLED:
            event = OrderEvent.CANCEL
        else:
            # Completed, and its executions are booked above; what they leave open stays open.
            event = OrderEvent.ACKNOWLEDGE
    return OrderReport(order_ref, event, order["order_id"] or 0, 0, words)
