"""The paper account: what it holds and is worth, and what it may still buy."""

from __future__ import annotations

from momentum_lab.core.fills import FillModel, is_payable
from momentum_lab.core.market import Side
from momentum_lab.gateway.books import Books
from momentum_lab.gateway.checks import NOT_ENOUGH_SHARES, check_margin
from momentum_lab.gateway.claims import claim_of, claimed, price_usd, versions
from momentum_lab.gateway.ledger import MARGIN_RATIO, Ledger, Valuation, added_gross_usd
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import Execution, Order, Position
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
        self,
        code: str,
        *,
        cash_usd: float,
        books: Books,
        market: Market,
        fills: FillModel,
        is_cash: bool = False,
    ) -> None:
        """Open an account with cash.

        Args:
            code: the account's code.
            cash_usd: what it begins with.
            books: its orders and executions.
            market: where prices and time come from.
            fills: what a purchase costs beyond its price.
            is_cash: nothing is lent to it.
        """
        self.code = code
        self.books = books
        self.ledger = Ledger(cash_usd)
        self.market = market
        self._fills = fills
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
        midnight_ns = self.market.hours.midnight_ns(self.market.now_ns)
        return [item for item in self.books.executions if item.at_ns >= midnight_ns]

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

    def check_funds(self, order: Order) -> None:
        """Refuse an order, or its new terms, that the account cannot carry beside the others.

        Raises:
            RefusedError: margin, cash or shares are missing.
        """
        before = [one for other in self.books.unfinished() for one in versions(other)]
        others = [one for one in before if one.key != order.key]
        after = [*others, *versions(order)]
        if self._is_cash and order.ticket.side is Side.SELL:
            self._check_shares(order.symbol, after)
            return
        needs_usd = self._cash_usd if self._is_cash else self._margin_usd
        needed_usd = needs_usd(after)
        # What an order has bound already is no new question.
        if needed_usd > needs_usd(before):
            value = self.value()
            available_usd = value.cash if self._is_cash else value.available
            check_margin(needed_usd=needed_usd, available_usd=available_usd)

    def _check_shares(self, symbol: str, orders: list[Order]) -> None:
        """Refuse to sell what a cash account does not hold, or has given away already."""
        selling = _of(symbol, Side.SELL, orders)
        if self._shares(selling) > self.ledger.position(symbol).quantity:
            raise RefusedError(NOT_ENOUGH_SHARES, "None of the accounts have enough shares")

    def _shares(self, orders: list[Order]) -> int:
        return int(claimed(claim_of(order, self.books.orders) for order in orders))

    def _cash_usd(self, orders: list[Order]) -> float:
        """Return what the purchases of some orders cost together."""
        return claimed(
            claim_of(order, self.books.orders, unit=self._cost_usd(order))
            for order in orders
            if order.ticket.side is Side.BUY
        )

    def _cost_usd(self, order: Order) -> float:
        """Return what a share of a purchase costs at most by now, commission included."""
        price, trade = self.mark(order.symbol), self.market.today(order.symbol)
        if trade is not None and is_payable(Side.BUY, bid=trade.bid, ask=trade.ask):
            price = self._fills.market_price(
                Side.BUY, bid=trade.bid, ask=trade.ask, instrument=order.ticket.instrument
            )
        commission_usd = self._fills.commission_usd(order.quantity)
        return price_usd(order, price) + commission_usd / max(1, order.quantity)

    def _margin_usd(self, orders: list[Order]) -> float:
        """Return the margin that some orders bind at worst, beside that of the positions.

        At worst all orders of one side fill and none of the other.
        """
        added_usd = 0.0
        for symbol in sorted({order.symbol for order in orders}):
            own = [order for order in orders if order.symbol == symbol]
            unit_usd = self.mark(symbol) or max(price_usd(order, None) for order in own)
            held = self.ledger.position(symbol).quantity
            added_usd += max(
                0.0,
                *(
                    added_gross_usd(
                        held,
                        side=side,
                        shares=self._shares(_of(symbol, side, own)),
                        price_usd=unit_usd,
                    )
                    for side in Side
                ),
            )
        return MARGIN_RATIO * added_usd

    def added_margin_usd(self, order: Order) -> float:
        """Return by how much the fill of an order alone would change the margin."""
        return MARGIN_RATIO * added_gross_usd(
            self.ledger.position(order.symbol).quantity,
            side=order.ticket.side,
            shares=order.remaining,
            price_usd=self.mark(order.symbol) or price_usd(order, None),
        )


def _of(symbol: str, side: Side, orders: list[Order]) -> list[Order]:
    return [o for o in orders if o.symbol == symbol and o.ticket.side is side]
