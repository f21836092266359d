"""The paper exchange: what clients ask of it, what the market does to it.

Every public method changes the books and returns what is to be told, as events in the order in
which the broker tells them. This module takes orders, modifications and cancellations, with their
refusals and delays; the `Floor` fills them.

* An order with transmit=0 is silent until a member of its family (parent and children) is
  transmitted.
* With a latency an order or a cancellation is told as PendingSubmit or PendingCancel and takes
  effect later; meanwhile the market goes on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import time

from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.account import Account
from momentum_lab.gateway.books import NEVER_NS, Books
from momentum_lab.gateway.checks import Rules, check_ticket, rejected, warnings_of
from momentum_lab.gateway.floor import Floor, share
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, QuoteChange, Trade
from momentum_lab.gateway.matching import is_regular
from momentum_lab.gateway.orders import (
    AT_CLOSE,
    CANCELLING,
    DONE,
    HELD,
    INACTIVE,
    PENDING,
    AccountChanged,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    Order,
    OrderError,
    OrderShown,
    PositionChanged,
    StatusShown,
    Ticket,
    WhatIfShown,
)
from momentum_lab.gateway.refusal import REJECTED, RefusedError

DUPLICATE, FILLED_BEFORE, OTHER_ORDER = 103, 104, 105
CANCEL_UNKNOWN, CANCEL_DONE, CANCEL_TWICE = 10147, 10148, 161
NO_PARENT = 10006
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
        self.rules = rules or Rules()
        self.books = Books(last_perm_id=last_perm_id, exec_prefix=exec_prefix)
        self.account = Account(
            account,
            cash_usd=cash_usd,
            books=self.books,
            market=market,
            is_cash=self.rules.is_cash_account,
        )
        self.floor = Floor(
            market,
            books=self.books,
            account=self.account,
            fills=fills or FillModel(),
            hard_to_borrow=self.rules.hard_to_borrow,
        )
        self._market = market

    # -- what can be asked ------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether an order lives or a position is held."""
        held = any(position.quantity for position in self.account.ledger.positions.values())
        return held or self.books.is_live

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
        done = [order for order in self.books.orders.values() if order.is_done]
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
        if not self._latency_ns or order.is_waiting:
            return self.floor.end([order.key])
        order = self.books.store(replace(order, cancel_ns=self._market.now_ns + self._latency_ns))
        return [StatusShown(replace(order, status=CANCELLING))]

    def cancel_all(self) -> list[ExchangeEvent]:
        """Cancel every live order of every client."""
        return self.floor.end([order.key for order in self.books.unfinished()])

    def correct(self, exec_id: str, *, price_usd: float) -> list[ExchangeEvent]:
        """Replace the price of an execution, as an exchange does that has erred.

        The corrected execution has the same id but for its last part, which counts corrections.

        Raises:
            RefusedError: there is no such execution.
        """
        return self._rebook(exec_id, price_usd=price_usd)

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
        return self._look(found._replace(high=found.price, low=found.price), quote.at_ns)

    def on_halt(self, halt: HaltChange) -> list[ExchangeEvent]:
        """Nothing trades in a halt; after it the next trade fills what it allows."""
        return []

    def on_time(self) -> list[ExchangeEvent]:
        """Let arrive what is on its way, and end the orders whose time is over."""
        if not self.books.is_live:
            return []
        now_ns = self._market.now_ns
        events: list[ExchangeEvent] = []
        for key in [o.key for o in sorted(self.books.unfinished(), key=lambda o: o.perm_id)]:
            # What arrived before it in this loop may have filled and ended it: look it up again.
            order = self.books.orders[key]
            if not order.is_done and 0 < order.arrives_ns <= now_ns:
                events += self.floor.open(order)
        ending = [order.key for order in self.books.unfinished() if 0 < order.cancel_ns <= now_ns]
        events += self.floor.end(ending)
        over = [order for order in self.books.unfinished() if order.expires_ns <= now_ns]
        for key in [order.key for order in over]:
            order = self.books.orders[key]
            if not (order.is_done or order.is_waiting or order.arrives_ns):
                events += self.floor.fill_at_close(order)
        for order in over:
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
        # An order that ends has to end before the trades that come after its end.
        due = [
            at_ns
            for order in self.books.unfinished()
            for at_ns in (order.arrives_ns, order.cancel_ns, order.expires_ns)
            if 0 < at_ns < NEVER_NS
        ]
        return min(due, default=None)

    def _look(self, trade: Trade, at_ns: int) -> list[ExchangeEvent]:
        events: list[ExchangeEvent] = []
        for key in self.books.live_keys(trade.symbol):
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
        self._check_parent(ticket)
        self._check_close(ticket)

    def _check_parent(self, ticket: Ticket) -> None:
        if not ticket.parent_id:
            return
        parent = self.books.orders.get((ticket.client_id, ticket.parent_id))
        if parent is None or parent.key == ticket.key:
            raise RefusedError(NO_PARENT, "Missing parent order.")
        if parent.is_done and not parent.filled:
            raise rejected("Parent order is cancelled")
        if parent.symbol != ticket.instrument.symbol:
            raise rejected("The contract of a child order must be that of its parent")

    def _check_close(self, ticket: Ticket) -> None:
        if ticket.order_type not in AT_CLOSE:
            return
        close_ns = self._market.hours.next_close_ns(self._market.now_ns)
        if self._market.is_open and close_ns - self._market.now_ns < self.rules.close_cutoff_ns:
            raise RefusedError(
                REJECTED,
                f"Order rejected - reason:It is too late to enter {ticket.order_type} orders",
            )

    def _modify(self, known: Order, ticket: Ticket) -> list[ExchangeEvent]:
        if known.is_done:
            raise RefusedError(FILLED_BEFORE, "Cannot modify a filled order.")
        if (known.symbol, known.ticket.side) != (ticket.instrument.symbol, ticket.side):
            text = "Order being modified does not match original order."
            raise RefusedError(OTHER_ORDER, text)
        self._check(ticket)
        ticket, quantity = self._modified_size(known, ticket)
        if quantity <= known.filled:
            raise rejected(f"{known.filled} shares have been filled already")
        order = replace(
            known,
            ticket=ticket,
            quantity=quantity,
            oca_group=ticket.oca_group or known.oca_group,
            oca_type=ticket.oca_type or known.oca_type,
            is_resting=False,
            stop_usd=known.stop_usd if _same_stop(known.ticket, ticket) else None,
            expires_ns=self._expiry_ns(ticket),
        )
        self.account.check_funds(order)
        self.books.store(order)
        if order.is_waiting:
            return self._release(order) if ticket.transmit else []
        return self._send(order)

    def _modified_size(self, known: Order, ticket: Ticket) -> tuple[Ticket, int]:
        """Return the ticket with the size that is wanted in the end, and the shares for now.

        What partial fills of its group have left is set anew. But of a child whose parent still
        fills the broker keeps the size: who sends the one that was told, or the whole one, does
        not mean to change it.
        """
        told, whole = int(ticket.quantity), int(known.ticket.quantity)
        parent = self.books.orders.get((ticket.client_id, ticket.parent_id))
        is_filling = parent is not None and parent.filled and not parent.is_done
        if parent is None or not is_filling or known.is_waiting:
            return ticket, told
        if told in (known.quantity, whole):
            return replace(ticket, quantity=known.ticket.quantity), known.quantity
        return ticket, share(replace(known, ticket=ticket), parent, parent.filled)

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
        if ticket.tif not in ("", "DAY"):
            return NEVER_NS
        from_ns = max(self._market.now_ns, ticket.good_after_ns)
        return self._market.hours.next_close_ns(from_ns, regular=is_regular(ticket))

    def _release(self, order: Order) -> list[ExchangeEvent]:
        """Send an order on, and all of its family that waited for it; the parent first."""
        root = order.ticket.parent_id or order.ticket.order_id
        family = [
            other
            for other in self.books.unfinished()
            if other.is_waiting
            and other.ticket.client_id == order.ticket.client_id
            and root in (other.ticket.order_id, other.ticket.parent_id)
        ]
        events: list[ExchangeEvent] = []
        for member in sorted(family, key=lambda item: (item.ticket.parent_id != 0, item.key)):
            # A parent that filled at once has woken its children already.
            current = self.books.orders[member.key]
            if current.is_waiting:
                events += self._send(current)
        return events

    def _send(self, order: Order) -> list[ExchangeEvent]:
        """Let an order arrive, at once or after the latency, with the warnings it earns.

        One that joins a group in which everything has been done already is cancelled at once.
        """
        if self.floor.is_too_late(order):
            return self.floor.end([order.key], text=GROUP_OVER)
        held = self.account.ledger.position(order.symbol).quantity
        warnings = [
            OrderError(*order.key, code, text)
            for code, text in warnings_of(
                replace(order.ticket, quantity=order.remaining), held=held, rules=self.rules
            )
        ]
        if not self._latency_ns:
            return [*warnings, *self.floor.open(order)]
        order = self.books.store(replace(order, arrives_ns=self._market.now_ns + self._latency_ns))
        told = order if order.status != PENDING else replace(order, status=PENDING)
        return [*warnings, OrderShown(told), StatusShown(told)]

    def _what_if(self, draft: Order) -> WhatIfShown:
        now = self.account.value()
        return WhatIfShown(
            order=replace(draft, status=HELD),
            margin_before_usd=now.margin,
            margin_after_usd=now.margin + self.account.added_margin_usd(draft),
            equity_usd=now.equity,
            commission_usd=self.floor.fills.commission_usd(draft.quantity),
        )

    def _rebook(self, exec_id: str, *, price_usd: float) -> list[ExchangeEvent]:
        place = next(
            (n for n, item in enumerate(self.books.executions) if item.exec_id == exec_id), None
        )
        if place is None:
            raise RefusedError(CANCEL_UNKNOWN, f"no execution {exec_id}")
        wrong = self.books.executions[place]
        stem, _, number = exec_id.rpartition(".")
        corrected = replace(wrong, exec_id=f"{stem}.{int(number) + 1:02d}", price_usd=price_usd)
        self.books.executions[place] = corrected
        symbol = wrong.symbol
        ledger = self.account.ledger
        ledger.cash_usd += wrong.side.sign * wrong.shares * (wrong.price_usd - price_usd)
        of_symbol = [n for n, e in enumerate(self.books.executions) if e.symbol == symbol]
        again = ledger.replay(symbol, [self.books.executions[n] for n in of_symbol])
        for n, execution in zip(of_symbol, again, strict=True):
            self.books.executions[n] = execution
        told = self.books.executions[place]
        return [
            Executed(told),
            CommissionCharged(told),
            PositionChanged(ledger.position(symbol)),
            AccountChanged(),
        ]


def _same_stop(one: Ticket, other: Ticket) -> bool:
    return (one.order_type, one.stop_usd, one.trail_percent, one.trail_stop_usd) == (
        other.order_type,
        other.stop_usd,
        other.trail_percent,
        other.trail_stop_usd,
    )
