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
        self._newest: dict[str, Trade | QuoteChange] = {}
        self._taken: dict[tuple[str, Side], int] = {}

    def renew(self, newest: Trade | QuoteChange) -> None:
        """Make available what a quote shows, and with a trade a part of its volume."""
        self._newest[newest.symbol] = newest
        # Asked first, because nearly always nobody has taken anything.
        if self._taken:
            for side in Side:
                self._taken.pop((newest.symbol, side), None)

    def left(self, trade: Trade, side: Side, *, is_arrival: bool) -> int:
        """Return how many shares an order of this side may take now."""
        offered = shown(trade, side) if is_arrival else self._resting(trade.symbol, side)
        return max(0, offered - self._taken.get((trade.symbol, side), 0))

    def take(self, symbol: str, side: Side, shares: int) -> None:
        """Shares are gone until the next trade or quote."""
        self._taken[symbol, side] = self._taken.get((symbol, side), 0) + shares

    def _resting(self, symbol: str, side: Side) -> int:
        newest = self._newest.get(symbol)
        if newest is None:
            return 0
        if isinstance(newest, QuoteChange):
            return shown(newest, side)
        return min(shown(newest, side), int(self._participation_ratio * newest.size))


def shown(quote: Trade | QuoteChange, side: Side) -> int:
    """Return the shares that a quote offers to an order of this side."""
    return quote.ask_size if side is Side.BUY else quote.bid_size
