"""Broker's truth against the store: executions, orders, positions.

Runs on every synchronisation, at the start as after a gap: start-up and recovery are one path.
Executions are booked first, because the broker does not replay them by itself. Then each order
whose end we do not know is looked up by its reference. Then positions are compared. Each difference
has a class, one action and a record; what cannot be explained is reported and its symbol is
blocked, and nothing is traded to make the books agree.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from momentum_lab.core.market import EPSILON, Side
from momentum_lab.core.order import ORDER_REF_PREFIX, OrderEvent, OrderPurpose, OrderState
from momentum_lab.core.position import Fill
from momentum_lab.live.bookkeeper import Bookkeeper
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot, Holdings
from momentum_lab.live.ibkr.translate import OrderReport
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

_REJECTED = frozenset({"Inactive"})
_POSITION = "position of contract "
_REDUCED = "completed: filled with fewer shares, its group took the rest"
_CONFIRMED = frozenset({OrderState.WORKING, OrderState.PARTIAL})
_CANCELLED = frozenset({"Cancelled", "ApiCancelled"})


class DifferenceKind(str, Enum):
    """What broker and store may disagree about; stable names that are stored."""

    MISSED_EXECUTION = "MISSED_EXECUTION"
    ORDER_ENDED = "ORDER_ENDED"
    ORDER_ABSENT = "ORDER_ABSENT"
    ORDER_REVIVED = "ORDER_REVIVED"
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    CLOSED_ELSEWHERE = "CLOSED_ELSEWHERE"
    FOREIGN_POSITION = "FOREIGN_POSITION"
    UNEXPLAINED_POSITION = "UNEXPLAINED_POSITION"
    CASH_DIFFERS = "CASH_DIFFERS"


# Kind -> what is done about it.
ACTIONS: Mapping[DifferenceKind, str] = {
    DifferenceKind.MISSED_EXECUTION: "booked",
    DifferenceKind.ORDER_ENDED: "settled by the broker's list",
    DifferenceKind.ORDER_ABSENT: "settled as gone; not sent again",
    DifferenceKind.ORDER_REVIVED: "watched again; cancelled where it protects nothing",
    DifferenceKind.UNKNOWN_ORDER: "reported; not touched",
    DifferenceKind.CLOSED_ELSEWHERE: "booked as an inferred fill; its resting orders are cancelled",
    DifferenceKind.FOREIGN_POSITION: "reported; not touched; no entry in its symbol",
    DifferenceKind.UNEXPLAINED_POSITION: "symbol blocked; the stop at the broker protects",
    DifferenceKind.CASH_DIFFERS: "reported; it is the base of the next comparison",
}
_BLOCKING = frozenset({DifferenceKind.FOREIGN_POSITION, DifferenceKind.UNEXPLAINED_POSITION})


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that broker and store see differently.

    Attributes:
        kind: its class.
        con_id: the broker's contract id, 0 where it concerns an order.
        broker_value: of a position signed shares; of an execution shares; else 0.
        our_value: the same, as the store has it.
        order_ref: the order that it concerns, None of a position.
        text: one sentence for people.
    """

    kind: DifferenceKind
    con_id: int
    broker_value: float
    our_value: float
    order_ref: str | None = None
    text: str = ""

    @property
    def action(self) -> str:
        """What is done about it."""
        return ACTIONS[self.kind]

    @property
    def blocks(self) -> bool:
        """Whether nothing may be traded in its symbol."""
        return self.kind in _BLOCKING


def reconcile(
    snapshot: BrokerSnapshot,
    store: TradeStore,
    books: Bookkeeper,
    *,
    sent_before_ns: int | None = None,
) -> list[Difference]:
    """Bring the store up to the broker's truth; return what differed, in order of finding.

    Args:
        snapshot: the broker's lists.
        store: the record.
        books: books what is found.
        sent_before_ns: market time at which the lists were begun to be asked for, of an audit that
            orders may have overtaken; None where nothing could be sent meanwhile.
    """
    found = [
        *_book_executions(snapshot, store, books),
        *_revive_orders(snapshot, store, books),
        *_settle_orders(snapshot, store, books, sent_before_ns),
        *_unknown_orders(snapshot, store),
        *_compare_positions(snapshot, store, books),
    ]
    _log.info(
        "reconciled: executions=%d open_orders=%d differences=%d",
        len(snapshot.fills),
        len(snapshot.open_orders),
        len(found),
    )
    return found


def agrees(holdings: Holdings, store: TradeStore, *, sent_before_ns: int) -> bool:
    """Whether positions and open orders alone show that nothing was missed.

    A lost execution shows in the positions, or, where two undo each other, in an order that is open
    in one of the two lists only, or that has filled more at the broker.

    Args:
        holdings: what the broker holds.
        store: the record.
        sent_before_ns: market time at which they were asked for: later orders are in no list yet.
    """
    unsettled = store.unsettled_orders()
    known = {row["order_ref"] for row in unsettled}
    earlier = [row for row in unsettled if row["created_ns"] < sent_before_ns]
    listed = {ref for ref in holdings.open_orders if ref.startswith(ORDER_REF_PREFIX)}
    return (
        not differing(holdings.positions, store.positions())
        and listed <= known
        and all(OrderState(row["state"]) in _CONFIRMED for row in earlier)
        and all(
            ref in listed and abs(holdings.open_orders[ref] - store.filled_shares(ref)) <= EPSILON
            for ref in (row["order_ref"] for row in earlier)
        )
    )


def _book_executions(
    snapshot: BrokerSnapshot, store: TradeStore, books: Bookkeeper
) -> list[Difference]:
    found = []
    by_ref: dict[str, list[Fill]] = {}
    for fill in snapshot.fills:
        by_ref.setdefault(fill.order_ref, []).append(fill)
    booked = store.commissions(since_ns=min((fill.at_ns for fill in snapshot.fills), default=0))
    for fill in snapshot.fills:
        if fill.exec_id in booked and fill.commission_usd in (None, booked[fill.exec_id]):
            # Each list repeats the whole day.
            continue
        is_ours = books.recognise(fill.order_ref, *by_ref[fill.order_ref])
        if is_ours and books.book_fill(fill):
            found.append(
                Difference(
                    DifferenceKind.MISSED_EXECUTION,
                    fill.con_id,
                    fill.shares,
                    0.0,
                    fill.order_ref,
                    f"{fill.exec_id}: {fill.side.value} {fill.shares:g} at {fill.price:g}",
                )
            )
        if fill.commission_usd is not None:
            store.book_commission(fill.exec_id, fill.commission_usd)
    return found


def _revive_orders(
    snapshot: BrokerSnapshot, store: TradeStore, books: Bookkeeper
) -> list[Difference]:
    """Take back that an order has ended, where the broker still has it open."""
    found = []
    for order_ref, status in snapshot.open_orders.items():
        if not store.knows_order(order_ref):
            continue
        order = store.order(order_ref)
        before = OrderState(order["state"])
        if not before.is_final or before is OrderState.FILLED:
            continue
        if before is OrderState.REJECTED and status in _REJECTED and order["purpose"] != "entry":
            # Refused, and it works as little as before: what takes its place must not wait for it.
            continue
        words = f"open: {status}"
        books.book_order(
            OrderReport(order_ref, OrderEvent.FOUND_OPEN, order["order_id"] or 0, 0, words)
        )
        text = f"{order['purpose']} order was {before.value}, and is {words}"
        found.append(Difference(DifferenceKind.ORDER_REVIVED, 0, 0.0, 0.0, order_ref, text))
    return found


def _settle_orders(
    snapshot: BrokerSnapshot,
    store: TradeStore,
    books: Bookkeeper,
    sent_before_ns: int | None,
) -> list[Difference]:
    found = []
    ours = store.positions()
    both = (snapshot.positions_before, snapshot.positions)
    disputed = {con_id for theirs in both for con_id, *_ in differing(theirs, ours)}
    for order in store.unsettled_orders():
        if sent_before_ns is not None and order["created_ns"] >= sent_before_ns:
            continue
        report = _settlement(
            order,
            snapshot,
            is_filled=bool(store.filled_shares(order["order_ref"])),
            is_disputed=order["con_id"] in disputed,
        )
        is_absent = report.event is OrderEvent.NOT_FOUND
        is_unknown = report.event is OrderEvent.SILENCE
        is_reduced = report.event is OrderEvent.CANCEL and report.message == _REDUCED
        if is_unknown and order["state"] == OrderState.UNKNOWN.value:
            # A second look would tell as little; an audit asks on.
            books.forget_missing(report.order_ref)
            continue
        if is_reduced or is_absent or is_unknown:
            # Also one whose id was never stored may have left, and not be listed yet.
            if not books.note_missing(report.order_ref):
                continue
        else:
            books.forget_missing(report.order_ref)
        books.book_order(report)
        if store.order_state(report.order_ref).is_final:
            kind = DifferenceKind.ORDER_ABSENT if is_absent else DifferenceKind.ORDER_ENDED
            text = f"{order['purpose']} order was {order['state']}: {report.message}"
            found.append(Difference(kind, 0, 0.0, 0.0, report.order_ref, text))
    working = {order["order_ref"] for order in store.unsettled_orders()}
    # Also of one that has ended otherwise in the meantime: nobody would look for it again.
    _forget_all_but(books, working, are_positions=False)
    return found


def _forget_all_but(books: Bookkeeper, doubted: set[str], *, are_positions: bool) -> None:
    """Forget what was missing before and is in doubt no longer, of orders or of positions."""
    for name in books.missing:
        if name.startswith(_POSITION) == are_positions and name not in doubted:
            books.forget_missing(name)


def _unknown_orders(snapshot: BrokerSnapshot, store: TradeStore) -> list[Difference]:
    """Return orders that carry a reference of ours and that this store does not know."""
    return [
        Difference(
            DifferenceKind.UNKNOWN_ORDER,
            0,
            0.0,
            0.0,
            order_ref,
            f"{status} at the broker, and not in this store: another strategy's, or a lost store",
        )
        for order_ref, status in snapshot.open_orders.items()
        if order_ref.startswith(ORDER_REF_PREFIX) and not store.knows_order(order_ref)
    ]


def _compare_positions(
    snapshot: BrokerSnapshot, store: TradeStore, books: Bookkeeper
) -> list[Difference]:
    ours = store.positions()
    before = {con_id for con_id, *_ in differing(snapshot.positions_before, ours)}
    found, doubted = [], set()
    for con_id, theirs, own in differing(snapshot.positions, ours):
        name = _position_name(con_id)
        if con_id not in before:
            # A fill between two requests is in one of the two lists of positions.
            continue
        if own and theirs / own < 1:
            if books.note_missing(name):
                # Beyond zero it is somebody else's position, and found as that the next time.
                left = theirs if theirs * own > 0 else 0.0
                found += _close_elsewhere(snapshot, store, books, con_id, own - left)
                continue
            doubted.add(name)
            kind, text = (
                DifferenceKind.UNEXPLAINED_POSITION,
                "part of it is missing; looked at again before anything is concluded",
            )
        elif own:
            kind, text = DifferenceKind.UNEXPLAINED_POSITION, "no execution explains it"
        else:
            kind, text = DifferenceKind.FOREIGN_POSITION, "none of it is ours"
        found.append(Difference(kind, con_id, theirs, own, None, text))
    # Also of a position that has closed, or turned round, in the meantime.
    _forget_all_but(books, doubted, are_positions=True)
    return found


def _position_name(con_id: int) -> str:
    return f"{_POSITION}{con_id}"


def _close_elsewhere(
    snapshot: BrokerSnapshot,
    store: TradeStore,
    books: Bookkeeper,
    con_id: int,
    missing: float,
) -> list[Difference]:
    """Book what somebody else closed of our positions in one contract, oldest trade first.

    Args:
        snapshot: the broker's lists.
        store: the record.
        books: books the fills.
        con_id: the contract.
        missing: signed shares that our fills make and the broker does not hold.
    """
    found = []
    for trade in store.open_trades():
        held = store.shares_of(trade)
        if trade["con_id"] != con_id or held * missing <= 0:
            continue
        shares = min(abs(held), abs(missing))
        missing -= shares * (1 if missing > 0 else -1)
        side = Side(trade["side"]).opposite
        price, at_ns, words = _explained(snapshot, con_id, side, books, trade)
        books.book_inferred(trade, shares=round(shares), price=price, at_ns=at_ns)
        text = (
            f"trade {trade['trade_id']} ({trade['symbol']}): {shares:g} shares were closed by"
            f" somebody else, booked at {price:g} ({words})"
        )
        found.append(
            Difference(DifferenceKind.CLOSED_ELSEWHERE, con_id, held - shares, held, None, text)
        )
    return found


def _explained(
    snapshot: BrokerSnapshot, con_id: int, side: Side, books: Bookkeeper, trade: Row
) -> tuple[float, int, str]:
    """Return price, instant and source of an inferred fill: foreign executions, else the line."""
    fills: list[Fill] = [
        fill
        for fill in snapshot.foreign_fills
        if fill.con_id == con_id and fill.side is side and fill.at_ns >= trade["opened_ns"]
    ]
    if fills:
        shares = sum(fill.shares for fill in fills)
        average = sum(fill.shares * fill.price for fill in fills) / shares
        return average, max(fill.at_ns for fill in fills), "executions that are not ours"
    price = books.last_price(trade["symbol"])
    if price is not None:
        return price, snapshot.server_ns, "the present quote, as no execution tells"
    return trade["stop"], snapshot.server_ns, "the stop's price, as nothing else is known"


def differing(
    broker: Mapping[int, float], ours: Mapping[int, float]
) -> list[tuple[int, float, float]]:
    """Return contract id, the broker's and our signed shares where they differ, by id."""
    pairs = {key: (broker.get(key, 0.0), ours.get(key, 0.0)) for key in {*broker, *ours}}
    return [
        (key, theirs, own)
        for key, (theirs, own) in sorted(pairs.items())
        if abs(theirs - own) > EPSILON
    ]


def _settlement(
    order: Row, snapshot: BrokerSnapshot, *, is_filled: bool, is_disputed: bool
) -> OrderReport:
    """Return what the broker's lists say about an order whose end is not known.

    Args:
        order: its row.
        snapshot: the broker's lists.
        is_filled: an execution of it has been booked.
        is_disputed: what the broker holds in its contract is not what the executions make.
    """
    order_ref = order["order_ref"]
    is_exit = order["purpose"] == OrderPurpose.EXIT.value
    event, words = OrderEvent.NOT_FOUND, "not known to the broker"
    if order_ref in snapshot.open_orders:
        event, words = OrderEvent.FOUND_OPEN, f"open: {snapshot.open_orders[order_ref]}"
    elif snapshot.completed_orders is None and is_exit and not is_disputed:
        # It does not work, and has not filled: another one must not wait for it.
        words = "not open, nor filled; completed orders were not answered"
    elif snapshot.completed_orders is None:
        # It may have ended in any way, or never have arrived.
        event, words = OrderEvent.SILENCE, "not open, and completed orders were not answered"
    elif (status := snapshot.completed_orders.get(order_ref)) is not None:
        words = f"completed: {status}"
        if status in _REJECTED:
            event = OrderEvent.REJECT
        elif status in _CANCELLED:
            event = OrderEvent.CANCEL
        elif is_filled:
            # Its executions are booked above; a list may lack the last for a while.
            event, words = OrderEvent.CANCEL, _REDUCED
        else:
            # Completed, and its executions are booked above; what they leave open stays open.
            event = OrderEvent.ACKNOWLEDGE
    return OrderReport(order_ref, event, order["order_id"] or 0, 0, words)
