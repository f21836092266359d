"""How much our orders may fill: what a quote shows, and a part of what really traded.

A paper order moves no market, so without this the largest order would fill at once. An order that
arrives finds the shares that the quote shows; what rests or remains gets a part of the volume of
each later trade, at most what the quote shows. All orders of a symbol share both.
"""

from __future__ import annotations

from momentum_lab.core.market import Side
from momentum_lab.gateway.market_events import QuoteChange, Trade


class Liquidity:
    """What is left to take, by symbol and by the side of the order that takes it."""

    def __init__(self, participation_ratio: float) -> None:
        """Take the part of the traded volume that is ours at most."""
        self._participation_ratio = participation_ratio
        self._resting: dict[tuple[str, Side], int] = {}
        self._taken: dict[tuple[str, Side], int] = {}

    def on_trade(self, trade: Trade) -> None:
        """A trade makes a part of its volume available, and shows its quote afresh."""
        part = int(self._participation_ratio * trade.size)
        for side in Side:
            self._renew(trade.symbol, side, min(shown(trade, side), part))

    def on_quote(self, quote: QuoteChange) -> None:
        """A new quote makes what it shows available."""
        for side in Side:
            self._renew(quote.symbol, side, shown(quote, side))

    def left(self, trade: Trade, side: Side, *, is_arrival: bool) -> int:
        """Return how many shares an order of this side may take now."""
        key = trade.symbol, side
        offered = shown(trade, side) if is_arrival else self._resting.get(key, 0)
        return max(0, offered - self._taken.get(key, 0))

    def take(self, symbol: str, side: Side, shares: int) -> None:
        """Shares are gone until the next trade or quote."""
        self._taken[symbol, side] = self._taken.get((symbol, side), 0) + shares

    def _renew(self, symbol: str, side: Side, resting: int) -> None:
        self._resting[symbol, side] = resting
        self._taken.pop((symbol, side), None)


def shown(quote: Trade | QuoteChange, side: Side) -> int:
    """Return the shares that a quote offers to an order of this side."""
    return quote.ask_size if side is Side.BUY else quote.bid_size
