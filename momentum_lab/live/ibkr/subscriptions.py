"""What we want to hear, kept by us: one line per symbol with its quote and its candles.

The library's caches are wiped on a disconnect; this registry is the memory. A line stays desired
until the session ends and is asked for again on every connection, as are the news tapes. Streams
hand out the latest quote: quotes that come faster than they are looked at are conflated, never
queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import ib_insync

from momentum_lab.clock import Alarm, Clock
from momentum_lab.core.candle import LiveCandles, Trade, add_trade
from momentum_lab.core.market import Instrument, Quote
from momentum_lab.errors import BrokerError, ConnectionLostError, ParameterError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.synchronisation import ask
from momentum_lab.parameters import Parameters

_CONTRACT_NEWS_TICKS = "233,292"
_TAPE_TICKS = "mdoff,292"


class Listener(Protocol):
    """Hears what the subscriptions bring, and has to know what each was for."""

    subscribed_ns: int

    def expect_ticks(self, ib: ib_insync.IB, ticker: ib_insync.Ticker, symbol: str | None) -> None:
        """Remember what a subscription was for; `symbol` None is a broad news tape."""

    def forget_subscriptions(self) -> None:
        """Drop what was remembered; everything is about to be asked for again."""


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
        self._news.clear()
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


class Subscriptions:
    """Asks the broker for every line and tape that is wanted, anew on each synchronisation."""

    def __init__(
        self,
        lines: Lines,
        listener: Listener,
        *,
        clock: Clock,
        parameters: Parameters,
        on_incident: Callable[[str, str], None],
    ) -> None:
        """Want the lines of the universe, and no news yet.

        Args:
            lines: the registry to open lines in.
            listener: hears the ticks.
            clock: market time.
            parameters: the checked set.
            on_incident: hears (kind, text) of a line or a tape that cannot be had.
        """
        self._lines = lines
        self._listener = listener
        self._clock = clock
        self._parameters = parameters
        self._on_incident = on_incident
        self._symbols: set[str] = set(parameters.universe)
        self._wants_news = False
        self._subscribed: list[ib_insync.Contract] = []

    def follow(self, symbol: str) -> None:
        """Want a line for a symbol outside the universe too, from the next renewal on."""
        self._symbols.add(symbol)

    def want_news(self) -> None:
        """Want the broad tapes too, from the next renewal on."""
        self._wants_news = True

    async def renew(self, ib: ib_insync.IB, *, is_first: bool) -> None:
        """Cancel what this connection subscribed to, and subscribe to all that is wanted.

        Args:
            ib: the connection.
            is_first: no line has been open in this session yet; an unknown symbol of the
                universe is then refused, later it is an incident.

        Raises:
            ParameterError: the broker does not know a symbol of the universe.
            ConnectionLostError: a request was not answered.
        """
        self._lines.forget()
        found = [await self._look_up_or_lose(ib, name, is_first) for name in sorted(self._symbols)]
        self._unsubscribe(ib)
        # All lines at once: a gateway that plays a tape starts its clock with the first.
        for instrument in found:
            if instrument is not None:
                self._open_line(ib, self._lines.want(instrument))
        if self._wants_news:
            for provider in self._parameters.news.providers:
                await self._open_tape(ib, provider)

    def forget(self) -> None:
        """The connection is gone, and with it what was subscribed to; the wishes stay."""
        self._subscribed.clear()
        self._lines.forget()

    def _unsubscribe(self, ib: ib_insync.IB) -> None:
        """Cancel what this connection subscribed to; after a code 1102 it may still flow."""
        for contract in self._subscribed:
            ib.cancelMktData(contract)
        self._subscribed.clear()
        self._listener.forget_subscriptions()
        self._listener.subscribed_ns = self._clock.now_ns()

    async def _look_up_or_lose(
        self, ib: ib_insync.IB, symbol: str, is_first: bool
    ) -> Instrument | None:
        try:
            return await self._look_up(ib, symbol)
        except ParameterError as error:
            # Before the day begins it is a person's mistake; later it is one line less.
            if is_first and symbol in self._parameters.universe:
                raise
            self._on_incident("line lost", str(error))
            return None

    async def _look_up(self, ib: ib_insync.IB, symbol: str) -> Instrument:
        timeout_s = self._parameters.connection.request_timeout_s
        try:
            found = await ask(
                f"contract of {symbol}",
                lambda: ib.reqContractDetailsAsync(translate.stock(symbol)),
                timeout_s=timeout_s,
            )
        except ConnectionLostError:
            raise
        except BrokerError as error:
            raise ParameterError(f"universe: {error}") from error
        if len(found) != 1:
            raise ParameterError(
                f"universe: expected one US stock for {symbol!r}, the broker knows {len(found)}"
            )
        return translate.instrument_of(found[0])

    def _open_line(self, ib: ib_insync.IB, line: Line) -> None:
        contract = translate.stock(line.instrument.symbol, line.instrument.con_id)
        contract.exchange = "SMART"
        ticker = ib.reqMktData(contract, _CONTRACT_NEWS_TICKS, False, False)
        self._subscribed.append(contract)
        self._listener.expect_ticks(ib, ticker, line.instrument.symbol)

    async def _open_tape(self, ib: ib_insync.IB, provider: str) -> None:
        contract = translate.news_tape(provider)
        timeout_s = self._parameters.connection.request_timeout_s
        try:
            await ask(
                f"news tape {provider}",
                lambda: ib.reqContractDetailsAsync(contract),
                timeout_s=timeout_s,
            )
        except ConnectionLostError:
            raise
        except BrokerError as error:
            # The watch list's own headlines still come; one tape less is no reason to stop.
            self._on_incident("news tape", str(error))
            return
        ticker = ib.reqMktData(contract, _TAPE_TICKS, False, False)
        self._subscribed.append(contract)
        self._listener.expect_ticks(ib, ticker, None)
