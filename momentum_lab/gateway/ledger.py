"""Cash and positions of the paper account, and the values derived from them.

The account is a simplified US margin account: a position of either sign needs 25 % of its value
as initial and maintenance margin, so buying power is four times the available funds. Short sale
proceeds are cash. No interest, no borrow cost, no taxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from momentum_lab.core.market import Side
from momentum_lab.gateway.orders import Execution, Position

MARGIN_RATIO = 0.25

Marks = Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class Valuation:
    """The account at the current prices, US dollars."""

    cash: float
    position_value: float
    gross_value: float
    unrealized: float

    @property
    def equity(self) -> float:
        """Net liquidation value."""
        return self.cash + self.position_value

    @property
    def margin(self) -> float:
        """Initial and maintenance margin requirement."""
        return MARGIN_RATIO * self.gross_value

    @property
    def available(self) -> float:
        """Equity that no position binds."""
        return max(0.0, self.equity - self.margin)

    @property
    def buying_power(self) -> float:
        """Value of stock that may still be bought."""
        return self.available / MARGIN_RATIO


class Ledger:
    """Books fills; every number is recomputed from cash, positions and marks.

    Attributes:
        cash_usd: settled and unsettled cash together.
        opening_usd: net liquidation value the day began with, for the daily profit.
    """

    def __init__(self, cash_usd: float) -> None:
        """Start flat with cash."""
        self.cash_usd = cash_usd
        self.opening_usd = cash_usd
        self._positions: dict[str, Position] = {}
        self._open: set[str] = set()

    @property
    def positions(self) -> Mapping[str, Position]:
        """Every symbol ever held; the closed ones have quantity 0."""
        return self._positions

    @property
    def is_flat(self) -> bool:
        """Whether nothing is held."""
        return not self._open

    def position(self, symbol: str) -> Position:
        """Return what is held of a symbol, flat if nothing."""
        return self._positions.get(symbol, Position(symbol))

    def restore(self, *, cash_usd: float, opening_usd: float, positions: list[Position]) -> None:
        """Take over a saved account."""
        self.cash_usd, self.opening_usd = cash_usd, opening_usd
        self._positions, self._open = {}, set()
        for position in positions:
            self._keep(position)

    def _keep(self, position: Position) -> None:
        symbol = position.symbol
        self._positions[symbol] = position
        (self._open.add if position.quantity else self._open.discard)(symbol)

    def book(self, execution: Execution) -> Execution:
        """Book a fill and return it with its realized profit."""
        held = self.position(execution.symbol)
        signed = execution.side.sign * execution.shares
        self.cash_usd -= signed * execution.price_usd + execution.commission_usd
        after, realized_usd = _applied(held, execution)
        self._keep(after)
        return replace(execution, realized_usd=realized_usd)

    def replay(self, symbol: str, executions: list[Execution]) -> list[Execution]:
        """Make the position of a symbol anew from all its fills; cash is left as it is.

        Returns:
            The fills with their realized profits.
        """
        position, found = Position(symbol), []
        for execution in executions:
            position, realized_usd = _applied(position, execution)
            found.append(replace(execution, realized_usd=realized_usd))
        self._keep(position)
        return found

    def value(self, marks: Marks) -> Valuation:
        """Value the account; a symbol without a mark counts at its cost."""
        values, unrealized = [], 0.0
        for position in self._positions.values():
            mark = marks(position.symbol)
            price = position.average_usd if mark is None else mark
            values.append(position.quantity * price)
            unrealized += position.quantity * (price - position.average_usd)
        return Valuation(
            cash=self.cash_usd,
            position_value=sum(values),
            gross_value=sum(abs(value) for value in values),
            unrealized=unrealized,
        )


def added_gross_usd(held: int, *, side: Side, shares: int, price_usd: float) -> float:
    """Return by how much an order's fill would raise the gross position value."""
    after = held + side.sign * shares
    return (abs(after) - abs(held)) * price_usd


def _applied(held: Position, fill: Execution) -> tuple[Position, float | None]:
    """Return the position after a fill, and what was realized by the part that closes."""
    signed = fill.side.sign * fill.shares
    n_closing = min(fill.shares, abs(held.quantity)) if held.quantity * signed < 0 else 0
    n_opening = fill.shares - n_closing
    per_share_usd = fill.commission_usd / fill.shares
    # A cost makes a long dearer and a short cheaper.
    open_usd = fill.price_usd + fill.side.sign * per_share_usd
    quantity = held.quantity + signed
    if not n_closing:
        cost = held.quantity * held.average_usd + signed * open_usd
        return Position(held.symbol, quantity, cost / quantity), None
    gained_usd = (open_usd - held.average_usd) * n_closing * -fill.side.sign
    average_usd = open_usd if n_opening else held.average_usd
    return Position(held.symbol, quantity, average_usd if quantity else 0.0), gained_usd
