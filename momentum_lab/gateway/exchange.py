"""The paper exchange: what clients ask of it, what the market does to it.

Every public method changes the books and returns what is to be told, as events in the order in
which the broker tells them. This module takes orders, modifications and cancellations, with their
refusals and delays; the `Floor` fills them.

* An order with transmit=0 is silent until a member of its family (parent and children) is
  transmitted.
  Likewise new terms with transmit=0 for an order that lives: it goes on as it is.
* With a latency an order or a cancellation is told as PendingSubmit or PendingCancel and takes
  effect later; new terms are told once they have arrived. Meanwhile the market goes on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import time

from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.account import Account
from momentum_lab.gateway.books import NEVER_NS, Books, Key
from momentum_lab.gateway.changes import changed, meant
from momentum_lab.gateway.checks import (
    Rules,
    check_change,
    check_parent,
    check_ticket,
    check_time_of_close,
    rejected,
    warnings_of,
)
from momentum_lab.gateway.corrections import correct
from momentum_lab.gateway.floor import Floor
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, QuoteChange, Trade
from momentum_lab.gateway.matching import IMMEDIATE, end_of, is_regular, needs_trigger
from momentum_lab.gateway.orders import (
    CANCELLING,
    DONE,
    HELD,
    INACTIVE,
    PENDING,
    STOPS,
    TOUCHES,
    Change,
    ExchangeEvent,
    Order,
    OrderError,
    OrderShown,
    StatusShown,
    Ticket,
    WhatIfShown,
)
from momentum_lab.gateway.refusal import REJECTED, RefusedError

DUPLICATE, FILLED_BEFORE, OTHER_ORDER = 103, 104, 105
STILL_PROCESSED = 2102
CANCEL_UNKNOWN, CANCEL_DONE, CANCEL_TWICE = 10147, 10148, 161
SESSION_OVER = "the day's session is over"
DATE_REACHED = "the good till date has been reached"
GROUP_OVER = "The OCA group has been filled already"


class Exchange:
    """One account's orders, executions and positions.

    Attributes:
        account: cash, positions and what they are worth.
        books: orders, executions and ids.
        floor: where accepted orders meet the market.
        rules: what this exchange takes.
    """

    def __init__(
        self,
        market: Market,
        *,
        account: str,
        cash_usd: float,
        fills: FillModel | None = None,
        rules: Rules | None = None,
        last_perm_id: int = 0,
        exec_prefix: str = "0000e0d5",
    ) -> None:
        """Open an account with cash and no orders.

        Args:
            market: prices and time.
            account: the account's code.
            cash_usd: what it begins with.
            fills: slippage, commission and participation.
            rules: limits, latency, kind of the account.
            last_perm_id: the first permanent id is one more.
            exec_prefix: first part of every execution id.
        """
        self.rules, fills = rules or Rules(), fills or FillModel()
        self.books = Books(last_perm_id=last_perm_id, exec_prefix=exec_prefix)
        self.account = Account(
            account,
            cash_usd=cash_usd,
            books=self.books,
            market=market,
            fills=fills,
            is_cash=self.rules.is_cash_account,
        )
        self.floor = Floor(
            market,
            books=self.books,
            account=self.account,
            fills=fills,
            hard_to_borrow=self.rules.hard_to_borrow,
        )
        self._market = market

    # -- what can be asked ------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether an order lives or a position is held."""
        return not self.account.ledger.is_flat or self.books.is_live

    def live_orders(self, client_id: int | None = None) -> list[Order]:
        """Return the transmitted live orders, of one client or of all, oldest first.

        Those on their way to the exchange are among them, as PendingSubmit.
        """
        live = [
            order
            for order in self.books.unfinished()
            if not order.is_waiting and client_id in (None, order.ticket.client_id)
        ]
        return sorted(live, key=lambda order: order.perm_id)

    def done_today(self) -> list[Order]:
        """Return the orders that were finished since local midnight, oldest first."""
        hours, today = self._market.hours, self._market.hours.day(self._market.now_ns)
        done = [o for o in self.books.orders.values() if o.is_done and o.done_text]
        return [order for order in done if hours.day(order.done_ns) == today]

    # -- what clients do --------------------------------------------------------------------

    def place(self, ticket: Ticket) -> list[ExchangeEvent]:
        """Take a new order, or the modification of a live one."""
        known = self.books.orders.get(ticket.key)
        try:
            if known is None:
                return self._take(ticket)
            if ticket.what_if:
                # Asked about a live order, and nothing of it changes.
                self._check(ticket)
                return [self._what_if(self._draft(ticket))]
            return self._modify(known, ticket)
        except RefusedError as refusal:
            return self._refuse(ticket, refusal, is_new=known is None)

    def cancel(self, client_id: int, order_id: int) -> list[ExchangeEvent]:
        """Cancel one live order, with its children."""
        order = self.books.orders.get((client_id, order_id))
        subject = f"OrderId {order_id} that needs to be cancelled"
        if order is None:
            return [OrderError(client_id, order_id, CANCEL_UNKNOWN, f"{subject} is not found.")]
        if order.is_done:
            text = f"{subject} cannot be cancelled, state: {order.status}."
            return [OrderError(client_id, order_id, CANCEL_DONE, text)]
        if order.cancel_ns:
            text = "Cancel attempted when order is not in a cancellable state."
            return [OrderError(client_id, order_id, CANCEL_TWICE, text)]
        return self._cancel(order)

    def cancel_all(self) -> list[ExchangeEvent]:
        """Cancel every live order of every client."""
        events: list[ExchangeEvent] = []
        for key in [order.key for order in self.books.unfinished()]:
            # A parent that ended before it has taken it along: look it up again.
            order = self.books.orders[key]
            if not (order.is_done or order.cancel_ns):
                events += self._cancel(order)
        return events

    def _cancel(self, order: Order) -> list[ExchangeEvent]:
        if not self._latency_ns or order.is_waiting:
            return self.floor.end([order.key])
        order = self.books.store(replace(order, cancel_ns=self._market.now_ns + self._latency_ns))
        return [StatusShown(replace(order, status=CANCELLING))]

    def correct(self, exec_id: str, *, price_usd: float) -> list[ExchangeEvent]:
        """Replace the price of an execution, as an exchange does that has erred.

        The corrected execution has the same id but for its last part, which counts corrections.

        Raises:
            RefusedError: there is no such execution.
        """
        return correct(self.account, exec_id, price_usd=price_usd)

    # -- what the market does ---------------------------------------------------------------

    def on_trade(self, trade: Trade) -> list[ExchangeEvent]:
        """Fill and trigger what a trade of the tape allows."""
        self.floor.liquidity.renew(trade)
        return self._look(trade, trade.last_ns) if self.books.has_live(trade.symbol) else []

    def on_quote(self, quote: QuoteChange) -> list[ExchangeEvent]:
        """Fill what a new quote allows; it triggers no stop, for nothing was traded."""
        self.floor.liquidity.renew(quote)
        # Asked first, because what stands for the day's last trade takes long to find.
        if not self.books.has_live(quote.symbol):
            return []
        found = self._market.today(quote.symbol)
        if found is None:
            return []
        # What a bar has done, it has done when it ended.
        return self._look(end_of(found), quote.at_ns)

    def on_halt(self, halt: HaltChange) -> list[ExchangeEvent]:
        """Nothing trades in a halt; after it the next trade fills what it allows."""
        return []

    def on_time(self) -> list[ExchangeEvent]:
        """Let arrive what is on its way, begin what waits for its time, and end what is over."""
        if not self.books.is_live:
            return []
        now_ns = self._market.now_ns
        events: list[ExchangeEvent] = []
        for key in [o.key for o in sorted(self.books.unfinished(), key=lambda o: o.perm_id)]:
            # What arrived before it in this loop may have filled and ended it: look it up again.
            order = self.books.orders[key]
            if not order.is_done and 0 < order.arrives_ns <= now_ns:
                events += self.floor.open(order)
            events += [*self._arrived_changes(key), *self.floor.wake(key)]
        ending = [order.key for order in self.books.unfinished() if 0 < order.cancel_ns <= now_ns]
        events += self.floor.end(ending)
        over = [order for order in self.books.unfinished() if order.expires_ns <= now_ns]
        for key in [order.key for order in over]:
            order = self.books.orders[key]
            if not (order.is_done or order.is_waiting or order.arrives_ns):
                events += self.floor.fill_at_close(order)
        for order in over:
            if order.is_waiting:
                self.books.drop(order, now_ns=now_ns)
                continue
            text = DATE_REACHED if order.ticket.good_till_ns else SESSION_OVER
            events += self.floor.end([order.key], text=text)
        return events

    def on_day(self) -> None:
        """Begin a local date: what was finished before it can no longer be asked for."""
        hours = self._market.hours
        today = hours.day(self._market.now_ns)
        self.books.forget_finished(hours.instant(today, time(0)))

    def next_due_ns(self) -> int | None:
        """Return when something is due by time alone, None when nothing is."""
        # An order that ends has to end before the trades that come after its end. The time to begin
        # is due of a child too: on the way there its parent may fill.
        now_ns = self._market.now_ns
        due = [
            at_ns
            for order in self.books.unfinished()
            for at_ns in (
                *(order.arrives_ns, order.cancel_ns, order.expires_ns),
                order.ticket.good_after_ns if order.ticket.good_after_ns > now_ns else 0,
                *(change.arrives_ns for change in order.changes[:1]),
            )
            if 0 < at_ns < NEVER_NS
        ]
        return min(due, default=None)

    def _look(self, trade: Trade, at_ns: int) -> list[ExchangeEvent]:
        events: list[ExchangeEvent] = []
        keys = self.books.live_keys(trade.symbol)
        if trade.is_long:
            # Of a stop and a limit within one bar nobody knows which came first: the stop.
            keys.sort(key=lambda key: not needs_trigger(self.books.orders[key]))
        for key in keys:
            # An earlier fill of this loop may have cancelled it: look it up again.
            order = self.books.orders[key]
            if order.status not in {*DONE, PENDING}:
                events += self.floor.try_fill(order, trade, at_ns=at_ns, is_arrival=False)
        return events

    # -- taking orders ----------------------------------------------------------------------

    @property
    def _latency_ns(self) -> int:
        return round(self.rules.latency_s * NS_PER_S)

    def _take(self, ticket: Ticket) -> list[ExchangeEvent]:
        if ticket.order_id < self.books.next_order_id(ticket.client_id):
            raise RefusedError(DUPLICATE, "Duplicate order id")
        self._check(ticket)
        draft = self._draft(ticket)
        if ticket.what_if:
            return [self._what_if(draft)]
        self.account.check_funds(draft)
        order = self.books.register(draft)
        return self._release(order) if ticket.transmit else []

    def _check(self, ticket: Ticket) -> None:
        check_ticket(ticket, account=self.account.code, rules=self.rules)
        if 0 < ticket.good_till_ns <= self._market.now_ns:
            raise rejected("The good till date has passed")
        check_parent(ticket, self.books.parent_of(ticket))
        check_time_of_close(ticket, market=self._market, rules=self.rules)

    def _modify(self, known: Order, ticket: Ticket) -> list[ExchangeEvent]:
        if known.is_done:
            raise RefusedError(FILLED_BEFORE, "Cannot modify a filled order.")
        if (known.symbol, known.ticket.side) != (ticket.instrument.symbol, ticket.side):
            text = "Order being modified does not match original order."
            raise RefusedError(OTHER_ORDER, text)
        if known.cancel_ns:
            text = "Unable to modify this order as it is still being processed."
            raise RefusedError(STILL_PROCESSED, text)
        check_change(ticket, known, self.books)
        self._check(ticket)
        ticket = meant(known, ticket, self.books.parent_of(ticket))
        order = self._changed(known, ticket)
        self.account.check_funds(order)
        if not known.is_waiting:
            # What works goes on under its old terms until the new ones have been sent and arrive.
            order = replace(known, held_back=ticket)
        self.books.store(order)
        return self._release(order) if ticket.transmit else []

    def _changed(self, known: Order, ticket: Ticket) -> Order:
        parent = self.books.parent_of(ticket)
        return changed(known, ticket, parent=parent, expires_ns=self._expiry_ns(ticket))

    def _refuse(
        self, ticket: Ticket, refusal: RefusedError, *, is_new: bool
    ) -> list[ExchangeEvent]:
        error = OrderError(ticket.client_id, ticket.order_id, refusal.code, refusal.text)
        if refusal.code != REJECTED or ticket.what_if or not is_new:
            return [error]
        text = f"Rejected by System:{refusal.text.partition('reason:')[2]}"
        order = self.books.register(self._draft(ticket))
        rejected = self.books.store(
            replace(order, status=INACTIVE, done_ns=self._market.now_ns, done_text=text)
        )
        # Status before error: the other way round ib_insync stays in Inactive, never done.
        return [StatusShown(rejected), error]

    def _draft(self, ticket: Ticket) -> Order:
        return self.books.draft(
            ticket, now_ns=self._market.now_ns, expires_ns=self._expiry_ns(ticket)
        )

    def _expiry_ns(self, ticket: Ticket) -> int:
        if ticket.good_till_ns:
            return ticket.good_till_ns
        # One that is immediate waits for its stop as long as the day lasts.
        waits_for_stop = ticket.tif in IMMEDIATE and ticket.order_type in STOPS | TOUCHES
        if ticket.tif not in ("", "DAY") and not waits_for_stop:
            return NEVER_NS
        from_ns = max(self._market.now_ns, ticket.good_after_ns)
        return self._market.hours.next_close_ns(from_ns, regular=is_regular(ticket))

    def _release(self, order: Order) -> list[ExchangeEvent]:
        """Send an order on, and all that its family holds back; the parent first."""
        root = order.ticket.parent_id or order.ticket.order_id
        family = [
            other
            for other in self.books.unfinished()
            if (other.is_waiting or other.held_back is not None)
            and other.ticket.client_id == order.ticket.client_id
            and root in (other.ticket.order_id, other.ticket.parent_id)
        ]
        family.sort(key=lambda member: (member.ticket.parent_id != 0, member.key))
        arrives_ns = self._market.now_ns + self._latency_ns
        new = [member.key for member in family if member.is_waiting]
        for key in new:
            self.books.store(replace(self.books.orders[key], arrives_ns=arrives_ns))
        events: list[ExchangeEvent] = []
        for key in [member.key for member in family]:
            # What went before it may have ended it already.
            order = self.books.orders[key]
            if order.is_done:
                continue
            if key in new:
                events += self._send(order)
            elif order.held_back is not None:
                events += self._send_change(order, Change(order.held_back, arrives_ns))
        return events

    def _send_change(self, order: Order, change: Change) -> list[ExchangeEvent]:
        """Let new terms arrive, at once or after the latency, with the warnings they earn."""
        wanted = replace(order, ticket=change.ticket, quantity=int(change.ticket.quantity))
        warnings = self._warnings_of(wanted)
        order = replace(order, held_back=None, changes=(*order.changes, change))
        self.books.store(order)
        return warnings if self._latency_ns else [*warnings, *self._arrived_changes(order.key)]

    def _arrived_changes(self, key: Key) -> list[ExchangeEvent]:
        """Let an order work under the new terms that have arrived; nothing is told before."""
        events: list[ExchangeEvent] = []
        while not (order := self.books.orders[key]).is_done and order.changes:
            change, *others = order.changes
            if change.arrives_ns > self._market.now_ns:
                break
            order = self.books.store(replace(order, changes=tuple(others)))
            try:
                after = self._changed(order, change.ticket)
            except RefusedError as refusal:
                events += self._refuse(change.ticket, refusal, is_new=False)
            else:
                events += [*self.floor.shrink_children(order, after), *self._enter(after)]
        return events

    def _enter(self, order: Order) -> list[ExchangeEvent]:
        """Open an order, but one that joins a group in which all has been done ends at once."""
        order = self.books.store(order)
        if self.floor.is_too_late(order):
            return self.floor.end([order.key], text=GROUP_OVER)
        return self.floor.open(order)

    def _send(self, order: Order) -> list[ExchangeEvent]:
        """Let a new order arrive, at once or after the latency, with the warnings it earns.

        One that joins a group in which everything has been done already is cancelled at once.
        """
        if self.floor.is_too_late(order):
            return self.floor.end([order.key], text=GROUP_OVER)
        warnings = self._warnings_of(order)
        if not self._latency_ns:
            return [*warnings, *self.floor.open(order)]
        return [*warnings, OrderShown(order), StatusShown(order)]

    def _warnings_of(self, order: Order) -> list[ExchangeEvent]:
        held = self.account.ledger.position(order.symbol).quantity
        parent = self.books.parent_of(order.ticket)
        if parent is not None and not parent.is_done:
            held += parent.ticket.side.sign * parent.remaining
        ticket = replace(order.ticket, quantity=order.remaining)
        return [
            OrderError(*order.key, code, text)
            for code, text in warnings_of(ticket, held=held, rules=self.rules)
        ]

    def _what_if(self, draft: Order) -> WhatIfShown:
        now = self.account.value()
        return WhatIfShown(
            order=replace(draft, status=HELD),
            margin_before_usd=now.margin,
            margin_after_usd=now.margin + self.account.added_margin_usd(draft),
            equity_usd=now.equity,
            commission_usd=self.floor.fills.commission_usd(draft.quantity),
        )
