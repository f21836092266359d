"""What we want to hear, kept by us: one line per symbol with its quote and its candles.

The library's caches are wiped on a disconnect; this registry is the memory. A line stays desired
until the session ends and is asked for again on every connection. Streams hand out the latest
quote: quotes that come faster than they are looked at are conflated, never queued.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import anyio

from momentum_lab.clock import Clock
from momentum_lab.core.candle import LiveCandles, Trade, add_trade
from momentum_lab.core.market import Instrument, Quote


@dataclass(slots=True, eq=False)
class QuoteStream:
    """The latest quote of one symbol, and a way to wait for the next.

    Use as a context manager: `with connector.stream_quotes("SPY") as stream`.
    """

    line: Line
    clock: Clock
    _news: anyio.Event = field(default_factory=anyio.Event)

    def __enter__(self) -> QuoteStream:
        """Start to listen."""
        self.line.streams.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to listen; the line stays open."""
        self.line.streams.discard(self)

    @property
    def quote(self) -> Quote | None:
        """The line as last heard in this connection, None while it is silent."""
        return self.line.quote

    @property
    def candles(self) -> LiveCandles:
        """The candles of this connection, volume in the line's own unit."""
        return self.line.candles

    async def wait(self, *, until_ns: int) -> bool:
        """Return True after news on the line, False once market time reached `until_ns`."""
        heard = await self.clock.wait_for(self._news, until_ns=until_ns)
        self._news = anyio.Event()
        return heard

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._news.set()


@dataclass(slots=True, eq=False)
class Line:
    """One symbol's market data line."""

    instrument: Instrument
    quote: Quote | None = None
    candles: LiveCandles = field(default_factory=LiveCandles)
    streams: set[QuoteStream] = field(default_factory=set)

    def hear_trade(self, trade: Trade) -> None:
        """Take in one trade."""
        self.candles = add_trade(self.candles, trade)

    def hear_quote(self, quote: Quote) -> None:
        """Take in the line's new state and wake its streams."""
        self.quote = quote
        self.wake()

    def forget(self) -> None:
        """The connection is gone: what was heard on it is no base for a decision."""
        self.quote = None
        self.candles = LiveCandles()
        self.wake()

    def wake(self) -> None:
        """Let the streams look again."""
        for stream in self.streams:
            stream.wake()


class Lines:
    """The registry of desired lines."""

    def __init__(self) -> None:
        """Start empty."""
        self._by_symbol: dict[str, Line] = {}

    def __iter__(self) -> Iterator[Line]:
        """Iterate in order of contract id, so that equal inputs give equal runs."""
        return iter(sorted(self._by_symbol.values(), key=lambda line: line.instrument.con_id))

    def get(self, symbol: str) -> Line | None:
        """Return the line of a symbol, None when it is not desired."""
        return self._by_symbol.get(symbol)

    def want(self, instrument: Instrument) -> Line:
        """Return the line of an instrument, made when new."""
        line = self._by_symbol.setdefault(instrument.symbol, Line(instrument))
        line.instrument = instrument
        return line

    def forget(self) -> None:
        """Drop what was heard; the wishes stay."""
        for line in self:
            line.forget()
