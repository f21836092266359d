"""The paper account: what it holds and is worth, and what it may still buy."""

from __future__ import annotations

from momentum_lab.core.market import Side
from momentum_lab.gateway.books import Books
from momentum_lab.gateway.checks import NOT_ENOUGH_SHARES, check_margin
from momentum_lab.gateway.ledger import MARGIN_RATIO, Ledger, Valuation, added_gross_usd
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import Execution, Position, Ticket
from momentum_lab.gateway.refusal import RefusedError


class Account:
    """Cash, positions and margin at the market's prices.

    Attributes:
        code: the account's code, e.g. "DU1234567".
        books: its orders and executions.
        ledger: its cash and positions.
        market: where prices and time come from.
    """

    def __init__(
        self, code: str, *, cash_usd: float, books: Books, market: Market, is_cash: bool = False
    ) -> None:
        """Open an account with cash."""
        self.code = code
        self.books = books
        self.ledger = Ledger(cash_usd)
        self.market = market
        self._is_cash = is_cash

    def value(self) -> Valuation:
        """Return the account at the last known prices."""
        return self.ledger.value(self.mark)

    def mark(self, symbol: str) -> float | None:
        """Return the price a position is valued at: the last known trade."""
        trade = self.market.latest(symbol)
        return None if trade is None else trade.price

    def executions_today(self) -> list[Execution]:
        """Return the fills since local midnight."""
        hours, today = self.market.hours, self.market.hours.day(self.market.now_ns)
        return [item for item in self.books.executions if hours.day(item.at_ns) == today]

    def realized_today_usd(self, symbol: str | None = None) -> float:
        """Return the profit after commissions realized since local midnight."""
        return sum(
            execution.realized_usd or 0.0
            for execution in self.executions_today()
            if symbol in (None, execution.symbol)
        )

    def positions_today(self) -> list[Position]:
        """Return what is held, and with quantity 0 what was closed today."""
        traded = {execution.symbol for execution in self.executions_today()}
        return [
            position
            for position in self.ledger.positions.values()
            if position.quantity or position.symbol in traded
        ]

    def check_margin(self, ticket: Ticket) -> None:
        """Refuse an order whose margin the account does not have beside the working orders.

        Raises:
            RefusedError: the margin is missing.
        """
        if self._is_cash:
            self._check_cash(ticket)
            return
        # A child reduces what its parent opens; whether it fits is the parent's question.
        if ticket.parent_id:
            return
        known = self.books.orders.get((ticket.client_id, ticket.order_id))
        filled = known.filled if known is not None else 0
        needed_usd = self.added_margin_usd(ticket, filled=filled)
        if needed_usd > 0:
            reserved_usd = sum(
                self.added_margin_usd(other.ticket, filled=other.filled)
                for other in self.books.unfinished()
                if other.key != (ticket.client_id, ticket.order_id) and not other.ticket.parent_id
            )
            available_usd = self.value().available
            check_margin(needed_usd=needed_usd + reserved_usd, available_usd=available_usd)

    def _check_cash(self, ticket: Ticket) -> None:
        """Refuse what a cash account cannot do: sell what it has not, buy beyond its cash."""
        held = self.ledger.position(ticket.instrument.symbol).quantity
        known = self.books.orders.get((ticket.client_id, ticket.order_id))
        left = ticket.quantity - (known.filled if known is not None else 0)
        if ticket.side is Side.SELL:
            if left > held and not ticket.parent_id:
                text = "None of the accounts have enough shares"
                raise RefusedError(NOT_ENOUGH_SHARES, text)
            return
        price_usd = self.mark(ticket.instrument.symbol) or ticket.limit_usd or 0.0
        check_margin(needed_usd=price_usd * left, available_usd=self.ledger.cash_usd)

    def added_margin_usd(self, ticket: Ticket, *, filled: int = 0) -> float:
        """Return the margin that the fill of an order would bind, 0 for one that reduces.

        Args:
            ticket: the order.
            filled: its shares that are in the position already.
        """
        symbol = ticket.instrument.symbol
        added_usd = added_gross_usd(
            self.ledger.position(symbol).quantity,
            side=ticket.side,
            shares=max(0, int(ticket.quantity) - filled),
            price_usd=self.mark(symbol) or ticket.limit_usd or ticket.stop_usd or 0.0,
        )
        return max(0.0, MARGIN_RATIO * added_usd)
