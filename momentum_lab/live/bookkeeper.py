"""`Bookkeeper`: writes down what the broker says about our orders, each execution once.

Reports, lists after a gap and audits all end here. What cannot be written down is kept in mind and
asked for again; nothing is sent here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.market import EPSILON, Side
from momentum_lab.core.order import (
    ORDER_REF_PREFIX,
    OrderEvent,
    OrderIntent,
    OrderPurpose,
    OrderState,
    parse_order_ref,
)
from momentum_lab.core.position import ExitParameters, ExitReason, Fill, Levels, exit_levels
from momentum_lab.errors import DataError, RecordError
from momentum_lab.live.decisions import DecisionBook, OnIncident
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.translate import OrderReport
from momentum_lab.records.ledger import Row

_log = logging.getLogger(__name__)

_FILLED = "Filled"
_SECOND_LOOK_S = 3.0


class Bookkeeper:
    """Books executions and order messages, and remembers what is not settled yet.

    Attributes:
        opened: stream of the ids of trades that are open and to be watched; one may come again.
        unbooked: executions that were heard and could not be written down, by their id.
    """

    def __init__(
        self,
        connector: IBKRConnector,
        *,
        book: DecisionBook,
        clock: Clock,
        exits: ExitParameters,
        unrecorded: dict[str, OrderIntent],
        on_first_fill: Callable[[int], None],
        on_change: Callable[[], None],
        on_incident: OnIncident,
    ) -> None:
        """Make a bookkeeper.

        Args:
            connector: what the broker last said of an order; instruments.
            book: the store and the run.
            clock: market time.
            exits: how levels follow the average fill.
            unrecorded: orders that left although they could not be written down, by reference.
            on_first_fill: hears of each trade that has a fill.
            on_change: called when the protection of something may have to change.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._store = book.store
        self._run_id = book.run_id
        self._clock = clock
        self._exits = exits
        self._unrecorded = unrecorded
        self._on_first_fill = on_first_fill
        self._on_change = on_change
        self._on_incident = on_incident
        self._ends: dict[str, anyio.Event] = {}
        self._missing_since_s: dict[str, float] = {}
        self._looked_again_s = -math.inf
        self.unbooked: dict[str, Fill] = {}
        self._opened_in, self.opened = anyio.create_memory_object_stream[int](float("inf"))

    def close_streams(self) -> None:
        """Close the stream of opened trades; for the end of a session."""
        self._opened_in.close()
        self.opened.close()

    # --- executions ------------------------------------------------------------------------

    def book_fill(self, fill: Fill) -> bool:
        """Book an execution; return whether it is new. One that is not ours is an incident."""
        if not self.recognise(fill.order_ref, fill):
            self._on_incident(
                "foreign execution",
                f"{fill.exec_id}: {fill.side.value} {fill.shares:g} at {fill.price:g} of an order"
                f" that is not ours ({fill.order_ref or 'no reference'})",
                fill.symbol,
            )
            return False
        is_new = not self._store.knows_fill(fill.exec_id)
        trade = self._store.book_fill(fill)
        self.unbooked.pop(fill.exec_id, None)
        if trade is None:
            return is_new
        _log.info("fill: %s %s %g at %.2f", fill.symbol, fill.side.value, fill.shares, fill.price)
        self._follow_fill(fill, trade)
        self._end_reduced(fill.order_ref)
        self._on_change()
        if self._store.order_state(fill.order_ref).is_final:
            self._settle(fill.order_ref)
        return is_new

    def recognise(self, order_ref: str, *fills: Fill) -> bool:
        """Write down an order that could not be written before; return whether an order is ours.

        Args:
            order_ref: its reference.
            fills: executions of it: what an earlier session sent without a record is made out
                from its reference and from these.

        Raises:
            RecordError: it still cannot be written.
        """
        intent = self._unrecorded.get(order_ref) or self._stray(order_ref, fills)
        if intent is not None and not self._store.knows_order(order_ref):
            self._store.add_order(self._run_id, intent)
        self._unrecorded.pop(order_ref, None)
        return self._store.knows_order(order_ref)

    def _stray(self, order_ref: str, fills: Sequence[Fill]) -> OrderIntent | None:
        """Return the order of ours that a session sent without a record and then died, or None."""
        if not fills or self._store.knows_order(order_ref):
            return None
        found = parse_order_ref(order_ref)
        if found is None or not self._store.knows_run(found.run_id):
            return None
        trade = self._store.trade_of(trade_id=found.trade_id, decision_id=found.decision_id)
        if trade is None or trade["con_id"] != fills[0].con_id:
            return None
        is_exit = found.purpose is OrderPurpose.EXIT
        self._on_incident("order without a record", f"{order_ref}: written down late", None)
        return OrderIntent(
            order_ref=order_ref,
            symbol=trade["symbol"],
            con_id=trade["con_id"],
            side=fills[0].side,
            shares=round(sum(fill.shares for fill in fills)),
            created_ns=min(fill.at_ns for fill in fills),
            purpose=found.purpose,
            decision_id=None if is_exit else trade["decision_id"],
            trade_id=trade["trade_id"] if is_exit else None,
            exit_reason=ExitReason.UNRECORDED if is_exit else ExitReason(trade["stop_kind"]),
        )

    def _follow_fill(self, fill: Fill, trade: Row) -> None:
        """After a fill: an open trade is watched, and an entry's levels follow its average."""
        self._on_first_fill(trade["trade_id"])
        if trade["state"] == "OPEN":
            # First, so that nothing below can leave a position unwatched.
            self._opened_in.send_nowait(trade["trade_id"])
        order = self._store.order(fill.order_ref)
        instrument = self._connector.instrument(fill.symbol)
        if order["purpose"] != "entry" or instrument is None or order["atr"] is None:
            return
        try:
            levels = exit_levels(
                Side(trade["side"]),
                entry_usd=trade["entry_price"],
                atr_usd=order["atr"],
                instrument=instrument,
                parameters=self._exits,
            )
            # The stop went out with the entry, for the quote before it; towards less risk only.
            stop = Side(trade["side"]).tighter(order["stop"], levels.stop)
            self._store.set_levels(trade["trade_id"], Levels(stop, levels.target))
        except (DataError, RecordError) as error:
            # The levels that the size was computed with stand in the trade already.
            self._on_incident("levels not set", str(error), fill.symbol)

    def book_inferred(self, trade: Row, *, shares: int, price: float, at_ns: int) -> None:
        """Book that somebody else closed shares of a trade; the fill is marked as inferred."""
        n_before = len(self._store.exits_of(trade["trade_id"]))
        intent = OrderIntent(
            order_ref=f"{ORDER_REF_PREFIX}{self._run_id}-t{trade['trade_id']}m{n_before + 1}",
            symbol=trade["symbol"],
            con_id=trade["con_id"],
            side=Side(trade["side"]).opposite,
            shares=shares,
            created_ns=at_ns,
            purpose=OrderPurpose.EXIT,
            trade_id=trade["trade_id"],
            exit_reason=ExitReason.MANUAL,
        )
        self._store.add_order(self._run_id, intent)
        fill = Fill(
            # Without dots: the broker's ids are told by theirs, a revision by the fourth part.
            exec_id=f"inferred-{intent.order_ref}".replace(".", "_"),
            order_ref=intent.order_ref,
            symbol=intent.symbol,
            side=intent.side,
            shares=shares,
            price=price,
            at_ns=at_ns,
            commission_usd=0.0,
            con_id=intent.con_id,
        )
        self._store.book_fill(fill, is_inferred=True)
        self._on_change()

    def last_price(self, symbol: str) -> float | None:
        """Return the middle of a symbol's quote as last heard, None without a line or a quote."""
        line = self._connector.lines.get(symbol)
        quote = line.quote if line is not None else None
        return quote.mid if quote is not None else None

    def shares_of(self, con_id: int) -> float:
        """Return the signed shares that our executions make of a contract, booked or not yet.

        Raises:
            RecordError: the record cannot be read.
        """
        trades = [row for row in self._store.open_trades() if row["con_id"] == con_id]
        return sum(
            self._store.shares_of(row) + self.unbooked_shares(row["trade_id"]) for row in trades
        )

    def unbooked_shares(self, trade_id: int) -> float:
        """Return the signed shares of a trade's executions that were heard and not written down."""
        shares = 0.0
        for fill in self.unbooked.values():
            order_ref = fill.order_ref
            if self._store.knows_fill(fill.exec_id):
                # It was written down, and what follows from it failed.
                continue
            if order_ref in self._unrecorded:
                of_trade = self._unrecorded[order_ref].trade_id
            elif not self._store.knows_order(order_ref):
                # Somebody else's: it was heard when the record could not be asked.
                continue
            else:
                trade = self._store.trade_of_order(self._store.order(order_ref))
                of_trade = trade["trade_id"] if trade is not None else None
            if of_trade == trade_id:
                shares += fill.side.sign * fill.shares
        return shares

    def book_commission(self, exec_id: str, commission_usd: float) -> None:
        """Book the commission of an execution; its trade is told once all of them are known."""
        self._announce_close(self._store.book_commission(exec_id, commission_usd))

    def _announce_close(self, trade: Row | None) -> None:
        """Say what a trade brought, once its last commission is known."""
        if trade is None or trade["state"] != "CLOSED":
            return
        if self._store.costs_complete(trade["trade_id"]):
            _log.info(
                "trade closed: %s %s entry=%.2f exit=%.2f net_usd=%.2f costs_usd=%.2f",
                trade["symbol"],
                trade["exit_reason"],
                trade["entry_price"],
                trade["exit_price"],
                trade["net_usd"],
                trade["costs_usd"],
            )

    # --- orders ----------------------------------------------------------------------------

    @contextmanager
    def awaiting(self, *family: OrderIntent) -> Iterator[list[anyio.Event]]:
        """Give an event for each order, which is set once its end is booked."""
        try:
            yield [self._ends.setdefault(one.order_ref, anyio.Event()) for one in family]
        finally:
            for one in family:
                self._ends.pop(one.order_ref, None)

    def book_order(self, report: OrderReport) -> None:
        """Book a status or an error of an order."""
        if not self.recognise(report.order_ref):
            return
        if report.event is None:
            _log.debug("order: %s %s", report.order_ref, report.message)
            self._end_reduced(report.order_ref)
            return
        values = self._learned(report, self._store.order(report.order_ref))
        state = self._store.advance_order(report.order_ref, report.event, **values)
        self._on_change()
        if state is OrderState.REJECTED and not self._follows_its_entry(report.order_ref):
            self._on_incident("order rejected", f"{report.order_ref}: {report.message}", None)
        if state.is_final:
            self._settle(report.order_ref)

    def _end_reduced(self, order_ref: str) -> None:
        """End an order that is filled at the broker with fewer shares than it was meant for.

        The fills of its group have taken the rest from it, which no execution tells.
        """
        works = self._connector.working(order_ref)
        if works is None or works.status != _FILLED:
            return
        is_open = not self._store.order_state(order_ref).is_final
        if is_open and self._store.filled_shares(order_ref) >= works.shares - EPSILON:
            words = f"filled with {works.shares:g} shares, its group took the rest"
            self._store.advance_order(order_ref, OrderEvent.CANCEL, message=words)
            self._settle(order_ref)
            self._on_change()

    def _follows_its_entry(self, order_ref: str) -> bool:
        """Whether an order is the child of an entry that came to nothing."""
        order = self._store.order(order_ref)
        return order["parent_ref"] is not None and self._store.trade_of_order(order) is None

    def _learned(self, report: OrderReport, order: Row) -> Row:
        """Return the columns of an order that a report tells."""
        values: Row = {"order_id": report.order_id}
        if report.perm_id:
            values["perm_id"] = report.perm_id
        if report.event not in (OrderEvent.ACKNOWLEDGE, OrderEvent.FOUND_OPEN):
            values["message"] = report.message
        elif order["acknowledged_ns"] is None:
            values["acknowledged_ns"] = self._clock.now_ns()
        return values

    def _settle(self, order_ref: str) -> None:
        # A report may overtake the second look, which would otherwise be wanted for ever.
        self.forget_missing(order_ref)
        event = self._ends.get(order_ref)
        if event is not None:
            event.set()

    # --- what the broker's lists lack ------------------------------------------------------

    def note_missing(self, order_ref: str) -> bool:
        """Note that the broker's lists lack an order that left us; return whether it is absent.

        One list that lacks it proves nothing: it may still be on its way. The second look counts
        only some time after the first.
        """
        since_s = self._missing_since_s.setdefault(order_ref, transport_s())
        if transport_s() - since_s < _SECOND_LOOK_S:
            return False
        del self._missing_since_s[order_ref]
        return True

    @property
    def missing(self) -> tuple[str, ...]:
        """What was missing from the broker's lists, and is to be looked for again."""
        return tuple(self._missing_since_s)

    def take_second_look(self) -> bool:
        """Whether to look again now: something has been missing long enough.

        Who looks asks for everything, and nothing can be sent meanwhile: so where a look does not
        settle it the next one comes as much later.
        """
        now_s = transport_s()
        first_s = min((*self._missing_since_s.values(), math.inf))
        if now_s - max(first_s, self._looked_again_s) < _SECOND_LOOK_S:
            return False
        self._looked_again_s = now_s
        return True

    def forget_missing(self, order_ref: str) -> None:
        """The broker does know an order that was missing before."""
        self._missing_since_s.pop(order_ref, None)
