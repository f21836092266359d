"""The paper exchange: takes orders, fills them against the market's quote, keeps the account.

Theory of operation. Every public method changes the books and returns what is to be told, as
events in the order in which the broker tells them. Orders are immutable values; an event holds
the order as it was at that moment.

* A market order pays the far side of the quote plus the slippage of `core.fills`; outside the
  regular session, or before the date's first quote, it is held and fills on the first trade.
* A limit order that can trade on arrival is filled like a market order but never beyond its
  limit; a resting one fills at its limit once the opposite quote reaches it.
* A stop order triggers when a trade of the tape reaches it, within the bar too (high or low),
  and is then a market order at the quote after that bar.
* An order fills whole: a tape of trades tells nothing about depth. Of an OCA group (or among
  the children of one parent) the first fill cancels the others, whatever the OCA type.
* A child waits for its parent's fill; an order with transmit=0 waits for its family.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from momentum_lab.core.fills import FillModel
from momentum_lab.gateway.account import Account
from momentum_lab.gateway.books import NEVER_NS, Books, Key
from momentum_lab.gateway.checks import check_ticket
from momentum_lab.gateway.market import HaltChange, Market, QuoteChange, Trade
from momentum_lab.gateway.matching import IMMEDIATE, are_rivals, fill_price, is_child, may_trade
from momentum_lab.gateway.orders import (
    CANCELLED,
    DONE,
    FILLED,
    HELD,
    INACTIVE,
    PENDING,
    WORKING,
    AccountChanged,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    Execution,
    Order,
    OrderError,
    OrderShown,
    PositionChanged,
    StatusShown,
    Ticket,
    WhatIfShown,
)
from momentum_lab.gateway.refusal import CANCELLED as CODE_CANCELLED
from momentum_lab.gateway.refusal import REJECTED, RefusedError

DUPLICATE, FILLED_BEFORE, OTHER_ORDER, HELD_UNTIL_OPEN = 103, 104, 105, 399
CANCEL_UNKNOWN, CANCEL_DONE = 10147, 10148


class Exchange:
    """One account's orders, executions and positions.

    Attributes:
        account: cash, positions and what they are worth.
        books: orders, executions and ids.
    """

    def __init__(
        self,
        market: Market,
        *,
        account: str,
        cash_usd: float,
        fills: FillModel | None = None,
        last_perm_id: int = 0,
        exec_prefix: str = "0000e0d5",
    ) -> None:
        """Open an account with cash and no orders.

        Args:
            market: prices and time.
            account: the account's code.
            cash_usd: what it begins with.
            fills: slippage and commission.
            last_perm_id: the first permanent id is one more.
            exec_prefix: first part of every execution id.
        """
        self.books = Books(last_perm_id=last_perm_id, exec_prefix=exec_prefix)
        self.account = Account(account, cash_usd=cash_usd, books=self.books, market=market)
        self._market = market
        self._fills = fills or FillModel()

    # -- what can be asked ------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether an order lives or a position is held."""
        held = any(position.quantity for position in self.account.ledger.positions.values())
        return held or self.books.is_live

    def live_orders(self, client_id: int | None = None) -> list[Order]:
        """Return the transmitted live orders, of one client or of all, oldest first."""
        live = self.books.live(lambda order: client_id in (None, order.ticket.client_id))
        return sorted(live, key=lambda order: order.perm_id)

    def done_today(self) -> list[Order]:
        """Return the orders that were finished since local midnight, oldest first."""
        hours, today = self._market.hours, self._market.hours.day(self._market.now_ns)
        done = [order for order in self.books.orders.values() if order.is_done]
        return [order for order in done if hours.day(order.done_ns) == today]

    # -- what clients do --------------------------------------------------------------------

    def place(self, ticket: Ticket) -> list[ExchangeEvent]:
        """Take a new order, or the modification of a live one."""
        known = self.books.orders.get((ticket.client_id, ticket.order_id))
        try:
            return self._take(ticket) if known is None else self._modify(known, ticket)
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
        return self._end([order.key])

    def cancel_all(self) -> list[ExchangeEvent]:
        """Cancel every live order of every client."""
        return self._end([order.key for order in self.books.unfinished()])

    # -- what the market does ---------------------------------------------------------------

    def on_trade(self, trade: Trade) -> list[ExchangeEvent]:
        """Fill and trigger what a trade of the tape allows."""
        events: list[ExchangeEvent] = []
        for key in self.books.live_keys(trade.symbol):
            # An earlier fill of this loop may have cancelled it: look it up again.
            order = self.books.orders[key]
            if order.status not in {*DONE, PENDING}:
                events += self._try(order, trade, is_arrival=False)
        return events

    def on_quote(self, quote: QuoteChange) -> list[ExchangeEvent]:
        """Fill and trigger what a new quote allows."""
        found = self._market.today(quote.symbol)
        if found is None:
            return []
        size = min(quote.bid_size, quote.ask_size)
        return self.on_trade(replace(found, bid=quote.bid, ask=quote.ask, quote_size=size))

    def on_halt(self, halt: HaltChange) -> list[ExchangeEvent]:
        """Fill what a resumption of trading allows."""
        found = self._market.today(halt.symbol)
        return [] if found is None else self.on_trade(found)

    def on_time(self) -> list[ExchangeEvent]:
        """End the day orders whose session is over."""
        if not self.books.is_live:
            return []
        now_ns = self._market.now_ns
        over = [order.key for order in self.books.unfinished() if order.expires_ns <= now_ns]
        return self._end(over, text="the day's session is over")

    # -- taking orders ----------------------------------------------------------------------

    def _take(self, ticket: Ticket) -> list[ExchangeEvent]:
        if ticket.order_id < self.books.next_order_id(ticket.client_id):
            raise RefusedError(DUPLICATE, "Duplicate order id")
        check_ticket(ticket, account=self.account.code)
        if ticket.what_if:
            return [self._what_if(ticket)]
        self.account.check_margin(ticket)
        order = self._register(ticket)
        return self._release(order) if ticket.transmit else []

    def _modify(self, known: Order, ticket: Ticket) -> list[ExchangeEvent]:
        if known.is_done:
            raise RefusedError(FILLED_BEFORE, "Cannot modify a filled order.")
        if (known.symbol, known.ticket.side) != (ticket.instrument.symbol, ticket.side):
            text = "Order being modified does not match original order."
            raise RefusedError(OTHER_ORDER, text)
        check_ticket(ticket, account=self.account.code)
        self.account.check_margin(ticket)
        order = self.books.store(replace(known, ticket=ticket))
        if order.status == PENDING:
            return self._release(order) if ticket.transmit else []
        return self._open(order)

    def _refuse(
        self, ticket: Ticket, refusal: RefusedError, *, is_new: bool
    ) -> list[ExchangeEvent]:
        error = OrderError(ticket.client_id, ticket.order_id, refusal.code, refusal.text)
        if refusal.code != REJECTED or ticket.what_if or not is_new:
            return [error]
        text = f"Rejected by System:{refusal.text.partition('reason:')[2]}"
        order = self._register(ticket)
        rejected = self.books.store(
            replace(order, status=INACTIVE, done_ns=self._market.now_ns, done_text=text)
        )
        # Status before error: the other way round ib_insync stays in Inactive, never done.
        return [StatusShown(rejected), error]

    def _register(self, ticket: Ticket) -> Order:
        return self.books.register(ticket, now_ns=self._market.now_ns, hours=self._market.hours)

    def _release(self, order: Order) -> list[ExchangeEvent]:
        """Send an order on, and all of its family that waited for it; the parent first."""
        root = order.ticket.parent_id or order.ticket.order_id
        family = [
            other
            for other in self.books.unfinished()
            if other.status == PENDING
            and other.ticket.client_id == order.ticket.client_id
            and root in (other.ticket.order_id, other.ticket.parent_id)
        ]
        events: list[ExchangeEvent] = []
        for member in sorted(family, key=lambda item: (item.ticket.parent_id != 0, item.key)):
            # A parent that filled at once has woken its children already.
            current = self.books.orders[member.key]
            if current.status == PENDING:
                events += self._open(current)
        return events

    def _open(self, order: Order) -> list[ExchangeEvent]:
        """Show an order as accepted, and fill it if the market allows that at once."""
        status, why_held = self._initial_status(order)
        order = self.books.store(replace(order, status=status, why_held=why_held))
        events: list[ExchangeEvent] = [OrderShown(order), StatusShown(order)]
        if why_held == "child":
            return events
        if not may_trade(order, self._market):
            events.append(self._held_until_open(order))
        trade = self._market.today(order.symbol)
        if trade is not None:
            events += self._try(order, trade, is_arrival=True)
        if order.ticket.tif in IMMEDIATE:
            events += self._end([order.key], text="could not be filled at once")
        return events

    def _initial_status(self, order: Order) -> tuple[str, str]:
        parent = self.books.orders.get((order.ticket.client_id, order.ticket.parent_id))
        if parent is not None and parent.status != FILLED:
            return HELD, "child"
        if order.ticket.order_type == "STP":
            return HELD, "trigger"
        is_quoted = self._market.today(order.symbol) is not None
        return (WORKING if is_quoted and may_trade(order, self._market) else HELD), ""

    def _held_until_open(self, order: Order) -> OrderError:
        ticket = order.ticket
        opens = self._market.hours.text(self._market.hours.next_open_ns(self._market.now_ns))
        text = (
            f"Order Message: {ticket.side.value} {int(ticket.quantity)} {order.symbol} "
            f"{ticket.instrument.primary_exchange} Warning: Your order will not be placed at the "
            f"exchange until {opens}"
        )
        return OrderError(*order.key, HELD_UNTIL_OPEN, text)

    def _what_if(self, ticket: Ticket) -> WhatIfShown:
        now = self.account.value()
        return WhatIfShown(
            order=Order(
                ticket=ticket,
                perm_id=0,
                status=HELD,
                placed_ns=self._market.now_ns,
                expires_ns=NEVER_NS,
            ),
            margin_before_usd=now.margin,
            margin_after_usd=now.margin + self.account.added_margin_usd(ticket),
            equity_usd=now.equity,
            commission_usd=self._fills.commission_usd(ticket.quantity),
        )

    # -- filling and ending -----------------------------------------------------------------

    def _try(self, order: Order, trade: Trade, *, is_arrival: bool) -> list[ExchangeEvent]:
        """Trigger and fill one live order if this trade and its quote allow it."""
        if order.why_held == "child" or not may_trade(order, self._market):
            return []
        found = fill_price(order, trade, fills=self._fills, is_arrival=is_arrival)
        if found is None and order.ticket.order_type == "STP":
            return []
        events = self._work(order)
        return events if found is None else events + self._fill(order.key, *found)

    def _work(self, order: Order) -> list[ExchangeEvent]:
        """Show a held order as working; nothing when it already is."""
        if order.status == WORKING:
            return []
        is_stop = order.ticket.order_type == "STP"
        order = self.books.store(replace(order, status=WORKING, why_held="", is_triggered=is_stop))
        return [StatusShown(order)] if is_stop else [OrderShown(order), StatusShown(order)]

    def _fill(self, key: Key, price_usd: float, liquidity: int) -> list[ExchangeEvent]:
        order = self.books.orders[key]
        shares = int(order.ticket.quantity)
        done = self.books.store(
            replace(
                order,
                status=FILLED,
                filled=shares,
                average_usd=price_usd,
                last_usd=price_usd,
                done_ns=self._market.now_ns,
                done_text=f"Filled Size: {shares}",
            )
        )
        execution = self.account.ledger.book(self._execution(done, liquidity))
        self.books.executions.append(execution)
        return [
            Executed(execution),
            OrderShown(done),
            StatusShown(done),
            CommissionCharged(execution),
            PositionChanged(self.account.ledger.position(order.symbol)),
            AccountChanged(),
            *self._after_fill(done),
        ]

    def _execution(self, order: Order, liquidity: int) -> Execution:
        return Execution(
            exec_id=self.books.next_exec_id(),
            at_ns=self._market.now_ns,
            client_id=order.ticket.client_id,
            order_id=order.ticket.order_id,
            perm_id=order.perm_id,
            symbol=order.symbol,
            side=order.ticket.side,
            shares=order.filled,
            price_usd=order.last_usd,
            cumulative=order.filled,
            average_usd=order.average_usd,
            order_ref=order.ticket.order_ref,
            liquidity=liquidity,
            commission_usd=self._fills.commission_usd(order.filled),
        )

    def _after_fill(self, filled: Order) -> list[ExchangeEvent]:
        """Cancel the rest of an OCA group, and wake the children."""
        rivals = self.books.live(lambda order: are_rivals(order, filled))
        events = self._end([order.key for order in rivals])
        for child in self.books.live(lambda order: is_child(order, filled)):
            current = self.books.orders[child.key]
            if not current.is_done:
                events += self._open(current)
        return events

    def _end(self, keys: Iterable[Key], *, text: str = "") -> list[ExchangeEvent]:
        """Cancel orders that still live, and their children."""
        events: list[ExchangeEvent] = []
        for key in keys:
            order = self.books.orders[key]
            if order.is_done:
                continue
            done_text = f"Cancelled: {text}" if text else "Cancelled by Trader"
            order = self.books.store(
                replace(
                    order,
                    status=CANCELLED,
                    why_held="",
                    done_ns=self._market.now_ns,
                    done_text=done_text,
                )
            )
            error = OrderError(*key, CODE_CANCELLED, f"Order Canceled - reason:{text}")
            events += [StatusShown(order), error]
            children = [other.key for other in self.books.unfinished() if is_child(other, order)]
            events += self._end(children, text="the parent order was cancelled")
        return events
