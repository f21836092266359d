"""The trading floor: opens, triggers, fills and ends orders that have been accepted.

Theory of operation. Every method changes the books and returns what is to be told, in the order
in which the broker tells it. Orders are immutable values; an event holds the order as it was.

* A market order pays the far side of the quote plus the slippage of `core.fills`, in parts where
  the quote shows less than it wants; outside the regular session, in a halt or before the date's
  first quote it is held.
* A limit order that can trade on arrival is filled like a market order but never beyond its
  limit, what is left of it too; one that the quote has not reached once rests, and fills at its
  limit when the opposite quote gets there, or when a bar of more than a second that began after it
  rested has gone beyond the limit.
* A stop triggers when a trade reaches it, within the bar too (high or low), and is from then on a
  market or limit order. Within a bar of more than a second it fills at the stop or at the quote of
  the end, whichever is worse; of a group it comes before a limit in the same bar. A trailing
  stop begins once the order works, and is looked at before it follows the same trade. Of a bar of
  more than a second that began before the order worked, the end alone counts; of one in which a
  stop was moved also where it opened, and what it went beyond of both.
* An order with a goodAfterTime does nothing before it, and arrives then, whatever the market does.
* Orders for the close fill whole at the last price of the regular session.
* A child wakes when its parent fills, for its share of what has filled, less what its group has
  taken from it. Of a group, a fill cancels the others (type 1) or reduces them in proportion
  (types 2 and 3, which differ only at exchanges that could fill two at once; here nothing can). A
  group of which one has filled whole takes nobody any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from momentum_lab.core.fills import FillModel, is_payable
from momentum_lab.gateway.account import Account
from momentum_lab.gateway.books import Books, Key
from momentum_lab.gateway.changes import shrunk
from momentum_lab.gateway.liquidity import Liquidity
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import Trade
from momentum_lab.gateway.matching import (
    IMMEDIATE,
    are_rivals,
    at_close,
    due,
    end_of,
    fill_price,
    followed,
    is_child,
    is_regular,
    is_traded_through,
    may_trade,
    met,
    needs_trigger,
    seen_by,
    with_stop,
)
from momentum_lab.gateway.orders import (
    ADDED_LIQUIDITY,
    AT_CLOSE,
    CANCEL_RIVALS,
    CANCELLED,
    FILLED,
    HELD,
    PENDING,
    REMOVED_LIQUIDITY,
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
)
from momentum_lab.gateway.refusal import CANCELLED as CODE_CANCELLED

HELD_UNTIL_OPEN, HELD_FOR_LOCATE = 399, 404
NOTHING_TO_CLOSE = "the parent order has nothing for it to close"
_NOT_TRADING = frozenset({"child", "locate"})


class Floor:
    """Where orders of one account meet the market.

    Attributes:
        fills: slippage, commission and participation.
        hard_to_borrow: symbols of which no shares can be sold short.
        fills_only_half: no order fills for more than half, as when the other side falls silent.
        half_ids: clients of which no order does.
    """

    def __init__(
        self,
        market: Market,
        *,
        books: Books,
        account: Account,
        fills: FillModel,
        hard_to_borrow: frozenset[str] = frozenset(),
    ) -> None:
        """Take the parts; nothing happens before an order is opened."""
        self.fills = fills
        self.hard_to_borrow = hard_to_borrow
        self.fills_only_half = False
        self.half_ids: frozenset[int] = frozenset()
        self.liquidity = Liquidity(fills.participation_ratio)
        self._market = market
        self._books = books
        self._account = account

    # -- opening ----------------------------------------------------------------------------

    def open(self, order: Order) -> list[ExchangeEvent]:
        """Show an order as accepted, and fill it as far as the market allows that at once."""
        trade = self._market.today(order.symbol)
        parent = self._books.parent_of(order.ticket)
        if parent is not None and order.status == PENDING:
            if parent.is_done and due(order, parent) <= 0:
                return self.end([order.key], text=NOTHING_TO_CLOSE)
            order = self._sized(order, parent)
        status, why_held = self._initial_status(order)
        works_ns = 0 if why_held == "child" else order.works_ns or self._market.now_ns
        order = replace(order, status=status, why_held=why_held, works_ns=works_ns, arrives_ns=0)
        # One that trails the market begins where that is once it works, not where it was before.
        is_asleep = why_held == "child" or order.wakes_ns > 0
        order = self._books.store(with_stop(order, None if is_asleep else trade))
        events: list[ExchangeEvent] = [OrderShown(order), StatusShown(order)]
        if why_held == "child":
            return events
        if why_held == "locate":
            text = "Order held while securities are located."
            return [*events, OrderError(*order.key, HELD_FOR_LOCATE, text)]
        if not (self._market.is_open or may_trade(order, self._market, at_ns=self._market.now_ns)):
            events.append(self._held_until_open(order))
        return events if order.wakes_ns else [*events, *self._begin(order)]

    def wake(self, key: Key) -> list[ExchangeEvent]:
        """Let an order work if its time has come, unless it has to end at the same instant."""
        order, now_ns = self._books.orders[key], self._market.now_ns
        if not 0 < order.wakes_ns <= now_ns < order.expires_ns:
            return []
        order = with_stop(order, self._market.today(order.symbol))
        return self._begin(self._books.store(replace(order, works_ns=now_ns)))

    def _begin(self, order: Order) -> list[ExchangeEvent]:
        """Fill an order that works from now on as far as the market allows that at once."""
        events: list[ExchangeEvent] = []
        trade = self._market.today(order.symbol)
        if trade is not None:
            events += self.try_fill(order, trade, at_ns=self._market.now_ns, is_arrival=True)
        if needs_trigger(self._books.orders[order.key]):
            return events
        return events + self._end_immediate(order)

    def _end_immediate(self, order: Order) -> list[ExchangeEvent]:
        """End what is left of an order that should have filled at once."""
        is_immediate = order.ticket.tif in IMMEDIATE
        return self.end([order.key], text="could not be filled at once") if is_immediate else []

    def _initial_status(self, order: Order) -> tuple[str, str]:
        parent = self._books.parent_of(order.ticket)
        has_waited = order.status == PENDING or order.why_held == "child"
        if parent is not None and has_waited and due(order, parent) <= 0:
            return HELD, "child"
        if self._needs_locate(order):
            return HELD, "locate"
        if needs_trigger(order):
            return HELD, "trigger"
        if order.filled:
            return WORKING, ""
        is_quoted = self._market.today(order.symbol) is not None
        now_ns = self._market.now_ns
        is_due = order.ticket.good_after_ns <= now_ns
        is_working = is_quoted and is_due and may_trade(order, self._market, at_ns=now_ns)
        return (WORKING if is_working else HELD), ""

    def _needs_locate(self, order: Order) -> bool:
        if order.symbol not in self.hard_to_borrow or order.ticket.side.sign > 0:
            return False
        return order.remaining > self._account.ledger.position(order.symbol).quantity

    def _held_until_open(self, order: Order) -> OrderError:
        ticket, hours = order.ticket, self._market.hours
        opens = hours.text(hours.next_open_ns(self._market.now_ns, regular=is_regular(ticket)))
        text = (
            f"Order Message: {ticket.side.value} {order.remaining} {order.symbol} "
            f"{ticket.instrument.primary_exchange} Warning: Your order will not be placed at the "
            f"exchange until {opens}"
        )
        return OrderError(*order.key, HELD_UNTIL_OPEN, text)

    # -- filling ----------------------------------------------------------------------------

    def try_fill(
        self, order: Order, trade: Trade, *, at_ns: int, is_arrival: bool
    ) -> list[ExchangeEvent]:
        """Trigger and fill one live order as far as this trade and its quote allow.

        Args:
            order: a live order of the trade's symbol.
            trade: the newest trade, with the quote of now.
            at_ns: the instant it may fill at: now, or the last one of a bar that has just ended.
            is_arrival: the order has just come.
        """
        if order.why_held in _NOT_TRADING or order.wakes_ns:
            return []
        if not may_trade(order, self._market, at_ns=at_ns):
            return []
        events: list[ExchangeEvent] = []
        was_waiting = needs_trigger(order)
        if was_waiting:
            if not self._is_of_session(order, trade.last_ns):
                return []
            # Where the price was before the order came meets no stop and moves none.
            trade = end_of(trade) if is_arrival else trade
            reached = met(order, trade)
            if reached is None:
                self._follow(order, seen_by(order, trade))
                return []
            trade = reached
            events += self._trigger(order)
            order, is_arrival = self._books.orders[order.key], True
        if self._is_of_session(order, min(at_ns, self._market.quoted_ns(trade))):
            # What was held arrives at the exchange now.
            is_arrival = is_arrival or order.status == HELD
            events += self._match(order, trade, is_arrival=is_arrival)
        # One that waited for its stop is immediate from there on.
        return events + self._end_immediate(order) if was_waiting else events

    def _match(self, order: Order, trade: Trade, *, is_arrival: bool) -> list[ExchangeEvent]:
        """Fill an order that works as far as the quote beside this trade allows."""
        takes = is_arrival or not order.is_resting
        found = fill_price(order, trade, fills=self.fills, is_arrival=takes)
        if found is None and not is_arrival and self._is_passed(order, trade):
            found = order.limit_usd or 0.0, ADDED_LIQUIDITY
        if found is None:
            return self._show_working(self._rested(order, trade))
        shares = self._fillable(order, trade, is_arrival=is_arrival)
        events = self._show_working(order)
        if shares:
            self.liquidity.take(order.symbol, order.ticket.side, shares)
            events += self._fill(order.key, shares, *found)
        return events

    def _is_of_session(self, order: Order, seen_ns: int) -> bool:
        """Whether a price is one of the hours that an order trades in, and not of before them."""
        return self._market.hours.is_in_session(seen_ns, regular=is_regular(order.ticket))

    def _is_passed(self, order: Order, trade: Trade) -> bool:
        """Whether a bar fills a resting order with its range; where a stop can, it comes first."""
        if not is_traded_through(order, trade):
            return False
        rivals = self._books.live(lambda other: are_rivals(order, other))
        return not any(rival.is_triggered for rival in rivals)

    def _rested(self, order: Order, trade: Trade) -> Order:
        """Return an order that a quote did not reach, marked so: it waits at its limit now."""
        is_payable_now = is_payable(order.ticket.side, bid=trade.bid, ask=trade.ask)
        if order.is_resting or not is_payable_now:
            return order
        return self._books.store(replace(order, rested_ns=self._market.now_ns))

    def _fillable(self, order: Order, trade: Trade, *, is_arrival: bool) -> int:
        left = self.liquidity.left(trade, order.ticket.side, is_arrival=is_arrival)
        if self.fills_only_half or order.ticket.client_id in self.half_ids:
            left = min(left, max(0, (order.quantity + 1) // 2 - order.filled))
        must_be_whole = order.ticket.all_or_none or order.ticket.tif == "FOK"
        if must_be_whole and left < order.remaining:
            return 0
        return min(left, order.remaining)

    def _follow(self, order: Order, trade: Trade) -> None:
        stop_usd = followed(order, trade)
        if stop_usd != order.stop_usd:
            self._books.store(replace(order, stop_usd=stop_usd))

    def _trigger(self, order: Order) -> list[ExchangeEvent]:
        order = self._books.store(replace(order, status=WORKING, why_held="", is_triggered=True))
        return [StatusShown(order)]

    def _show_working(self, order: Order) -> list[ExchangeEvent]:
        """Show a held order as working; nothing when it already is."""
        order = self._books.orders[order.key]
        if order.status != HELD:
            return []
        order = self._books.store(replace(order, status=WORKING, why_held=""))
        return [OrderShown(order), StatusShown(order)]

    def fill_at_close(self, order: Order) -> list[ExchangeEvent]:
        """Fill an order for the close at the session's last price, or end it."""
        trade = self._market.today(order.symbol)
        if order.ticket.order_type not in AT_CLOSE or trade is None or order.why_held == "child":
            return []
        if self._market.is_halted(order.symbol) or not at_close(order, trade.price):
            return []
        events = self._show_working(order)
        return events + self._fill(order.key, order.remaining, trade.price, REMOVED_LIQUIDITY)

    def _fill(self, key: Key, shares: int, price_usd: float, liquidity: int) -> list[ExchangeEvent]:
        before = self._books.orders[key]
        filled = before.filled + shares
        average_usd = (before.average_usd * before.filled + price_usd * shares) / filled
        is_whole = filled == before.quantity
        # The least commission is one of the whole order: each part pays what it adds.
        commission_usd = round(self.fills.commission_usd(filled), 10)
        after = self._books.store(
            replace(
                before,
                status=FILLED if is_whole else before.status,
                filled=filled,
                average_usd=average_usd,
                last_usd=price_usd,
                commission_usd=commission_usd,
                done_ns=self._market.now_ns if is_whole else 0,
                done_text=f"Filled Size: {filled}" if is_whole else "",
            )
        )
        execution = Execution(
            exec_id=self._books.next_exec_id(),
            at_ns=self._market.now_ns,
            client_id=key[0],
            order_id=key[1],
            perm_id=after.perm_id,
            symbol=after.symbol,
            side=after.ticket.side,
            shares=shares,
            price_usd=price_usd,
            cumulative=filled,
            average_usd=average_usd,
            order_ref=after.ticket.order_ref,
            liquidity=liquidity,
            commission_usd=round(commission_usd - before.commission_usd, 10),
        )
        execution = self._account.ledger.book(execution)
        self._books.executions.append(execution)
        shown: list[ExchangeEvent] = [OrderShown(after)] if is_whole else []
        return [
            Executed(execution),
            *shown,
            StatusShown(after),
            CommissionCharged(execution),
            PositionChanged(self._account.ledger.position(after.symbol)),
            AccountChanged(),
            *self._after_fill(after, shares),
        ]

    # -- families ---------------------------------------------------------------------------

    def is_too_late(self, order: Order) -> bool:
        """Return whether a fill has ended the group of an order that was not in it yet."""
        return any(
            are_rivals(order, other)
            and (other.status == FILLED or (other.filled and other.oca_type == CANCEL_RIVALS))
            for other in self._books.orders.values()
        )

    def _after_fill(self, filled: Order, shares: int) -> list[ExchangeEvent]:
        """Take from the rivals of a group, and wake or enlarge the children."""
        events: list[ExchangeEvent] = []
        # Those on their way to the exchange are of the group as well; those held back are not yet.
        rivals = [o for o in self._books.unfinished() if are_rivals(o, filled) and not o.is_waiting]
        for rival in rivals:
            events += self._reduce(rival, filled, shares)
        for child in self._books.live(lambda order: is_child(order, filled)):
            events += self._enlarge(child, filled)
        return events

    def _reduce(self, rival: Order, filled: Order, shares: int) -> list[ExchangeEvent]:
        rival = self._books.orders[rival.key]
        if rival.is_done:
            return []
        parent = self._books.parent_of(rival.ticket)
        if parent is not None and rival.status == PENDING:
            rival = self._sized(rival, parent)
        before = filled.remaining + shares
        left = rival.remaining * filled.remaining // before
        if filled.oca_type == CANCEL_RIVALS or not left:
            return self.end([rival.key], text="")
        taken = rival.taken + rival.remaining - left
        rival = self._books.store(replace(rival, quantity=rival.filled + left, taken=taken))
        return [OrderShown(rival), StatusShown(rival)]

    @staticmethod
    def _sized(child: Order, parent: Order) -> Order:
        """Return a child on its way with the size of what its parent has filled already."""
        shares = due(child, parent)
        return replace(child, quantity=shares) if shares > 0 else child

    def _enlarge(self, child: Order, parent: Order) -> list[ExchangeEvent]:
        child = self._books.orders[child.key]
        if child.is_done:
            return []
        shares = due(child, parent)
        if child.why_held == "child" and shares > 0:
            return self.open(replace(child, quantity=shares, why_held=""))
        if child.why_held == "child":
            # Nothing comes any more that it could close.
            return self.end([child.key], text=NOTHING_TO_CLOSE) if parent.is_done else []
        if shares <= child.quantity:
            return []
        child = self._books.store(replace(child, quantity=shares))
        return [OrderShown(child), StatusShown(child)]

    def shrink_children(self, before: Order, after: Order) -> list[ExchangeEvent]:
        """Let the children of a parent that was made smaller close no more than it can bring."""
        children = [child for child in self._books.orders.values() if is_child(child, after)]
        events: list[ExchangeEvent] = []
        for child in shrunk(children, before=before, after=after):
            if not child.quantity:
                events += self.end([child.key], text=NOTHING_TO_CLOSE)
                continue
            larger = self._books.orders[child.key]
            self._books.store(child)
            events += [] if child.status == PENDING else [OrderShown(child), StatusShown(child)]
            events += self.shrink_children(larger, child)
        return events

    def end(
        self, keys: Iterable[Key], *, text: str = "", status: str = CANCELLED
    ) -> list[ExchangeEvent]:
        """Cancel orders that still live, and their children that still wait."""
        events: list[ExchangeEvent] = []
        for key in keys:
            order = self._books.orders[key]
            if order.is_done:
                continue
            done_text = f"Cancelled: {text}" if text else "Cancelled by Trader"
            order = self._books.store(
                replace(
                    order,
                    status=status,
                    why_held="",
                    cancel_ns=0,
                    done_ns=self._market.now_ns,
                    done_text=done_text,
                )
            )
            error = OrderError(*key, CODE_CANCELLED, f"Order Canceled - reason:{text}")
            events += [StatusShown(order), error]
            children = [
                other.key
                for other in self._books.unfinished()
                # What a part of the parent has woken protects that part, and stays.
                if is_child(other, order) and (not order.filled or other.why_held == "child")
            ]
            events += self.end(children, text="the parent order was cancelled")
        return events
