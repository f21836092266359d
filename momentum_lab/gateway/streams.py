"""Streams beside the quotes: tick by tick, depth of the market, real-time bars.

Tick by tick nothing is sampled: every trade and every change of the quote is told. Where a tape
holds bars, each bar is told as one trade at its last price, stamped inside it. The book that a tape
knows has one row on each side: the best bid and ask.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.history import HistoryQuery
from momentum_lab.gateway.market_events import QuoteChange, Trade
from momentum_lab.gateway.voice import Message, Voice
from momentum_lab.gateway.wire.data_replies import ALL_LAST, BID_ASK, LAST, MID_POINT

T = TypeVar("T")
TICK_KINDS: Final = {"Last": LAST, "AllLast": ALL_LAST, "BidAsk": BID_ASK, "MidPoint": MID_POINT}
REAL_TIME_S = 5
_INSERT, _UPDATE, _DELETE = range(3)
_ASK_SIDE, _BID_SIDE = range(2)
PAST_LIMIT = 1


@dataclass
class TickByTick:
    """One tick-by-tick subscription.

    Attributes:
        kind: one of `TICK_KINDS`.
        ignore_size: whether a change of sizes alone is not told.
    """

    req_id: int
    symbol: str
    kind: int
    ignore_size: bool = False
    _told: tuple[float, ...] = ()

    def hear(self, event: Trade | QuoteChange, mask: int, voice: Voice[T]) -> list[T]:
        """Return what an event tells; `mask` holds the attribute bits of a trade."""
        if self.kind not in (LAST, ALL_LAST):
            return self.hear_quote(event, voice)
        if isinstance(event, QuoteChange) or not event.is_traded:
            return []
        last = voice.last if self.kind == LAST else voice.all_last
        time_s = event.last_ns // NS_PER_S
        size, place = event.size, event.exchange
        return [last(self.req_id, time_s, event.price, size, mask, place, event.conditions)]

    def hear_quote(self, event: Trade | QuoteChange, voice: Voice[T]) -> list[T]:
        """Return what an event tells of the quote; nothing where trades are followed."""
        if self.kind in (LAST, ALL_LAST) or not (event.bid > 0 and event.ask > 0):
            return []
        at_ns = event.at_ns if isinstance(event, QuoteChange) else event.last_ns
        time_s = at_ns // NS_PER_S
        bid, ask, bid_size, ask_size = event.bid, event.ask, event.bid_size, event.ask_size
        if self.kind == MID_POINT:
            middle = round((bid + ask) / 2, 10)
            return [voice.middle(self.req_id, time_s, middle)] if self._is_new(middle) else []
        if not self._is_new(bid, ask, *(() if self.ignore_size else (bid_size, ask_size))):
            return []
        return [voice.bid_ask(self.req_id, time_s, bid, ask, bid_size, ask_size)]

    def forget(self) -> None:
        """Forget what was told: its client has not heard it."""
        self._told = ()

    def _is_new(self, *state: float) -> bool:
        is_new, self._told = state != self._told, state
        return is_new


@dataclass
class Depth:
    """One subscription to the book of a symbol.

    Attributes:
        is_smart: whether it is told with the exchange that quotes.
        exchange: that exchange.
    """

    req_id: int
    symbol: str
    is_smart: bool
    exchange: str
    _told: dict[int, tuple[float, int]] = field(default_factory=dict)
    # The book as its client saw it last: only from there a row can be changed.
    _seen: dict[int, tuple[float, int]] = field(default_factory=dict)

    def fall_silent(self) -> None:
        """Remember the book that its client goes on seeing."""
        self._seen = dict(self._told)

    def forget(self) -> None:
        """Forget what was told since it fell silent."""
        self._told = dict(self._seen)

    def hear(self, quote: Trade | QuoteChange) -> list[Message]:
        """Return how a quote changes the book."""
        sides = ((_ASK_SIDE, quote.ask, quote.ask_size), (_BID_SIDE, quote.bid, quote.bid_size))
        return [message for side in sides for message in self._side(*side)]

    def _side(self, side: int, price: float, size: int) -> list[Message]:
        old = self._told.get(side)
        if price <= 0:
            self._told.pop(side, None)
            return [] if old is None else [self._row(side, _DELETE, *old)]
        if old == (price, size):
            return []
        self._told[side] = price, size
        return [self._row(side, _INSERT if old is None else _UPDATE, price, size)]

    def _row(self, side: int, operation: int, price: float, size: int) -> Message:
        row: dict[str, Any] = {"req_id": self.req_id, "position": 0, "operation": operation}
        row |= {"side": side, "price": price, "size": size}
        if not self.is_smart:
            return "marketDepth", row
        return "marketDepthL2", {**row, "market_maker": self.exchange, "is_smart_depth": True}


@dataclass(frozen=True)
class RealTimeBars:
    """One subscription to bars of five seconds; `query` says of what."""

    req_id: int
    symbol: str
    query: HistoryQuery
