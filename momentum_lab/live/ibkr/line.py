"""What one market data line has said, and whether it may be believed: one `Line` per symbol.

The client library's own tickers are not used: they are wiped on a disconnect, they mix live and
delayed data, and their time is that of any word at all, be it of last year's high. Here each side
of the quote has the stamp of its own last word. A line lives as long as somebody wants it; what was
heard on it ends with the connection, but for its last halt.

Streams hand out the latest quote: quotes that come faster than they are looked at are conflated,
never queued. The quote is put together when somebody looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from momentum_lab.clock import Alarm, Clock, transport_s
from momentum_lab.core.candle import LiveCandles, Trade, add_trades
from momentum_lab.core.market import NS_PER_S, DataType, Instrument, Quote

_MOST_TRADES = 256
# What is printed late is of before the halt; a trade that was made later shows that it is over.
_LATE_PRINT_NS = 5 * NS_PER_S


class LineStatus(str, Enum):
    """Where a subscription stands."""

    PARKED = "not asked for"
    ASKED = "asked for, nothing heard yet"
    FLOWING = "flowing"
    SILENT = "silent although the market is open"
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Line:
    """One symbol's market data line.

    Attributes:
        instrument: what is traded.
        listening: woken when somebody begins to listen.
        answered: woken when a line that was asked for flows or is refused.
        status: where the subscription stands.
        words: the broker's last words about it; empty when there were none.
        request: id of the subscription in this connection, None when it is not asked for.
        asked_s: transport time at which it was asked for.
        heard_s: transport time of its last tick, -inf before the first of the connection.
        used_s: transport time at which somebody last wanted it.
        data_type: what kind of data it brings.
        symbol: the broker's spelling.
        bid: US dollars, None while unknown; the same of ask and last.
        bid_size: shares at the bid, None while unknown; the same of ask_size.
        at_ns: arrival of the newest word on bid, ask or a trade, market time; 0 before the first.
            A quote that did not change is not sent again: a trade says that the line lives.
        streams: who listens.
    """

    instrument: Instrument
    listening: Alarm
    answered: Alarm
    status: LineStatus = LineStatus.PARKED
    words: str = ""
    request: int | None = None
    asked_s: float = 0.0
    heard_s: float = -math.inf
    used_s: float = 0.0
    data_type: DataType = DataType.UNKNOWN
    # In the order in which they came: equal runs wake them in the same one.
    streams: dict[QuoteStream, None] = field(default_factory=dict)
    bid: float | None = None
    ask: float | None = None
    last: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    at_ns: int = 0
    symbol: str = field(init=False)
    _bid_at_ns: int = 0
    _ask_at_ns: int = 0
    _last_at_ns: int = 0
    # The last halt and its end outlive a connection: what hangs on them lasts for minutes.
    _halted_ns: int | None = None
    _resumed_ns: int | None = None
    _suspicion: str = ""
    # Put together when somebody looks, as the quote is.
    _trades: list[Trade] = field(default_factory=list)
    _candles: LiveCandles = field(default_factory=LiveCandles)
    _quote: Quote | None = None

    def __post_init__(self) -> None:
        """Keep the name at hand; what is learned of an instrument later does not change it."""
        self.symbol = self.instrument.symbol

    @property
    def candles(self) -> LiveCandles:
        """The candles of this connection, volume in the line's own unit."""
        if self._trades:
            self._fold()
        return self._candles

    @property
    def quote(self) -> Quote | None:
        """The line as last heard in this connection, None while it is silent."""
        if self._quote is None and (self.heard_s > -math.inf or self.words):
            self._quote = self._put_together()
        return self._quote

    # --- what the broker says; after words about prices comes `settle` ---------------------

    def hear_bid(self, price: float | None, size: float | None, at_ns: int) -> None:
        """Take in the bid: US dollars and shares, None for none."""
        self.bid, self.bid_size, self._bid_at_ns = price, size, at_ns

    def hear_ask(self, price: float | None, size: float | None, at_ns: int) -> None:
        """Take in the ask: US dollars and shares, None for none."""
        self.ask, self.ask_size, self._ask_at_ns = price, size, at_ns

    def hear_bid_size(self, size: float | None, at_ns: int) -> None:
        """Take in the size at the bid, shares."""
        self.bid_size, self._bid_at_ns = size, at_ns

    def hear_ask_size(self, size: float | None, at_ns: int) -> None:
        """Take in the size at the ask, shares."""
        self.ask_size, self._ask_at_ns = size, at_ns

    def hear_last(self, price: float | None, at_ns: int) -> None:
        """Take in the price of the last trade, US dollars."""
        self.last, self._last_at_ns = price, at_ns

    def hear_halted(self, halted: bool, at_ns: int) -> None:
        """Take in whether trading stands still; alone it is no sign that quotes flow.

        The broker does not always tell the end: then the first trade that is made after it does.
        """
        if halted:
            self._halted_ns = at_ns
        elif self._halted_ns is not None:
            self._resume(at_ns)
        self.wake()

    def hear_data_type(self, kind: DataType) -> None:
        """Take in what kind of data the line brings from now on; it proves no life either."""
        self.data_type = kind
        self.wake()

    def hear_trade(self, trade: Trade) -> None:
        """Take in one trade."""
        self._trades.append(trade)
        if self._halted_ns is not None and trade.at_ns >= self._halted_ns + _LATE_PRINT_NS:
            self._resume(trade.at_ns)
        if len(self._trades) >= _MOST_TRADES:
            self._fold()

    def settle(self, heard_s: float, at_ns: int) -> None:
        """End of what came together: whoever listens looks again.

        Args:
            heard_s: transport time of the arrival.
            at_ns: the same in market time.
        """
        self.heard_s, self.at_ns = heard_s, at_ns
        if self.status is not LineStatus.FLOWING:
            self.status, self.words = LineStatus.FLOWING, ""
            self.answered.nudge()
        self._suspicion = ""
        self.wake()

    # --- what we know about it -------------------------------------------------------------

    def begin(self, request: int) -> None:
        """It has been asked for: what was heard before is no base for a decision."""
        self._forget()
        self.request, self.status, self.asked_s = request, LineStatus.ASKED, transport_s()
        self.words = ""

    def refuse(self, words: str) -> None:
        """The broker refuses it."""
        self.status, self.words = LineStatus.REFUSED, words
        self.answered.nudge()
        self.wake()

    def fall_silent(self, words: str) -> None:
        """It should flow and does not."""
        self.status, self.words = LineStatus.SILENT, words
        self.wake()

    def suspect(self, why: str) -> None:
        """Believe the quote no more until something new is heard."""
        self._suspicion = why
        self.wake()

    def park(self) -> None:
        """It is not asked for any more, or its connection is gone."""
        self._forget()
        self.request, self.status, self.words = None, LineStatus.PARKED, ""
        self.wake()

    def use(self) -> None:
        """Somebody wants it now: it is not the first to be given up for another."""
        self.used_s = transport_s()

    def wake(self) -> None:
        """Let the streams look again."""
        self._quote = None
        for stream in self.streams:
            stream.wake()

    def quiet_s(self, now_s: float) -> float:
        """Return the seconds of transport time since its last tick, or since it was asked for."""
        return now_s - max(self.heard_s, self.asked_s)

    def _forget(self) -> None:
        self.heard_s = -math.inf
        self._trades.clear()
        self._candles = LiveCandles()
        self.bid = self.ask = self.last = self.bid_size = self.ask_size = None
        self.at_ns = self._bid_at_ns = self._ask_at_ns = self._last_at_ns = 0
        self.data_type, self._suspicion = DataType.UNKNOWN, ""
        self._quote = None

    def _resume(self, at_ns: int) -> None:
        """Trading goes on; of a halt that ended unheard it is known from here on."""
        self._halted_ns, self._resumed_ns = None, at_ns

    def _fold(self) -> None:
        self._candles = add_trades(self._candles, self._trades)
        self._trades.clear()

    def _put_together(self) -> Quote:
        return Quote(
            symbol=self.instrument.symbol,
            at_ns=self.at_ns,
            bid=self.bid,
            ask=self.ask,
            bid_size=self.bid_size,
            ask_size=self.ask_size,
            last=self.last,
            halted=self._halted_ns is not None,
            resumed_ns=self._resumed_ns,
            data_type=self.data_type,
            bid_at_ns=self._bid_at_ns,
            ask_at_ns=self._ask_at_ns,
            last_at_ns=self._last_at_ns,
            fault=self.words or self._suspicion,
        )


@dataclass(slots=True, eq=False)
class QuoteStream:
    """The latest quote of one symbol, and a way to wait for the next.

    Use as a context manager: `with connector.stream_quotes("SPY") as stream`.
    """

    line: Line
    clock: Clock
    _news: Alarm = field(default_factory=Alarm)

    def __enter__(self) -> QuoteStream:
        """Start to listen."""
        self.line.streams[self] = None
        self.line.use()
        self.line.listening.nudge()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to listen; the line stays open."""
        self.line.streams.pop(self, None)

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
        self._news.clear()
        return heard

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._news.set()


# Hears of each line that has said something, after what came together with it.
OnHeard = Callable[[Line], None]


class Lines:
    """The registry of desired lines, kept over reconnects.

    Attributes:
        listening: woken when somebody begins to listen to a line.
        answered: woken when a line that was asked for flows or is refused.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._by_symbol: dict[str, Line] = {}
        self._in_order: list[Line] = []
        self.listening, self.answered = Alarm(), Alarm()

    def __iter__(self) -> Iterator[Line]:
        """Iterate in order of contract id, so that equal inputs give equal runs."""
        return iter(self._in_order)

    def get(self, symbol: str) -> Line | None:
        """Return the line of a symbol, None when it is not desired."""
        return self._by_symbol.get(symbol)

    def want(self, instrument: Instrument) -> Line:
        """Return the line of an instrument, made when new."""
        line = self._by_symbol.setdefault(
            instrument.symbol, Line(instrument, self.listening, self.answered)
        )
        line.instrument = instrument
        # A new list: somebody may be on the way through the old one.
        self._in_order = sorted(self._by_symbol.values(), key=lambda one: one.instrument.con_id)
        return line

    @property
    def are_watched(self) -> bool:
        """Whether somebody listens: a watch or a position is open."""
        return any(line.streams for line in self._by_symbol.values())

    def park(self) -> None:
        """The connection is gone; the wishes stay."""
        for line in self:
            line.park()

    def least_useful(self) -> Line | None:
        """Return the line to give up for another: nobody listens, longest unused; None if none."""
        idle = [line for line in self if line.request is not None and not line.streams]
        return min(idle, key=lambda line: line.used_s, default=None)
