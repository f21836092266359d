"""Tells what the market does to every line that is open on it.

A stream of quotes is a sample of the market: see `ticks`. Tick by tick and in depth everything is
told. A client that reads too slowly gets the newest quotes once it has caught up, and every single
tick. Delayed lines are told once a second what was known a quarter of an hour before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.catalog import BBO_EXCHANGE
from momentum_lab.gateway.history import QUOTE_KINDS
from momentum_lab.gateway.history_bars import HistoryBar, bars, flat_bar
from momentum_lab.gateway.market_events import HaltChange, QuoteChange, Trade
from momentum_lab.gateway.streams import PAST_LIMIT, REAL_TIME_S, RealTimeBars
from momentum_lab.gateway.ticks import FROZEN, LIVE, QuoteLine
from momentum_lab.gateway.voice import Message, Voice

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

NS_PER_MS = 1_000_000
DELAY_NS = 900 * NS_PER_S


class Streaming:
    """The open lines of all clients, as the market sees them."""

    def __init__(self, hub: Hub, *, sample_ms: int) -> None:
        """Sample quotes every `sample_ms` milliseconds of market time; 0 tells every one."""
        self._hub = hub
        self._sample_ns = sample_ms * NS_PER_MS
        self._due_ns: int | None = None

    def tell(self, event: Trade | QuoteChange) -> None:
        """Tell a trade or a quote."""
        symbol = event.symbol
        for session in self._hub.sessions.values():
            quotes, every_tick, depths = session.subscriptions.followers(symbol)
            voice = session.voice
            for line in quotes:
                self._tell_line(session, line, event, voice)
            for ticks in every_tick:
                mask = PAST_LIMIT if self._hub.market.is_at_limit(symbol) else 0
                voice.send(ticks.hear(event, mask, voice))
            for depth in depths:
                session.send_all(depth.hear(event))

    def open(self, session: Session, line: QuoteLine) -> None:
        """Tell what a line gets and how things stand: at its beginning."""
        hub, symbol = self._hub, line.symbol
        session.send("marketDataType", req_id=line.req_id, market_data_type=line.data_type)
        session.send(
            "tickReqParams",
            req_id=line.req_id,
            min_tick=hub.market.lines[symbol].instrument.tick_usd,
            bbo_exchange=BBO_EXCHANGE,
            snapshot_permissions=3,
        )
        session.send_all(self.state_of(line))
        session.send_all(line.shortable(is_easy=symbol not in hub.settings.rules.hard_to_borrow))

    def state_of(self, line: QuoteLine, *, heard_ns: int = -1) -> list[Message]:
        """Return how things stand, as a line that has told nothing yet tells it.

        A trade up to `heard_ns`, which its client has heard, does not come twice.
        """
        market, symbol = self._hub.market, line.symbol
        known, then_ns = market.lines[symbol], market.now_ns
        if line.is_delayed:
            heard_ns -= DELAY_NS
            then_ns -= DELAY_NS
            today, latest = known.today(then_ns), known.latest(then_ns)
            line.told_ns = today.at_ns if today is not None else 0
        else:
            today, latest = market.today(symbol), market.latest(symbol)
        if today is not None and today.at_ns <= heard_ns:
            today = today._replace(is_traded=False)
        halt = market.halts.get(symbol, 0)
        return line.opening(today, latest, known.before(then_ns), halt=halt)

    def fall_silent(self, session: Session) -> None:
        """Take note that a client hears nothing of its lines from now on."""
        for line in session.subscriptions.quotes.values():
            if line.pending is not None and not session.is_congested:
                session.flush(line)
            line.silent_ns = self._hub.market.now_ns
        for depth in session.subscriptions.depths.values():
            depth.fall_silent()

    def tell_anew(self, session: Session) -> None:
        """Tell a client that hears its lines again how things stand."""
        wanted, market = session.subscriptions, self._hub.market
        for line in wanted.quotes.values():
            heard_ns, line.silent_ns = line.silent_ns, None
            line.forget()
            if not line.generics.has_prices:
                continue
            if heard_ns is None:
                self.open(session, line)
            else:
                session.send_all(self.state_of(line, heard_ns=heard_ns))
        voice = session.voice
        for ticks in wanted.ticks.values():
            ticks.forget()
            today = market.today(ticks.symbol)
            voice.send([] if today is None else ticks.hear_quote(today, voice))
        for depth in wanted.depths.values():
            depth.forget()
            today = market.today(depth.symbol)
            session.send_all([] if today is None else depth.hear(today))

    def tell_halt(self, change: HaltChange) -> None:
        """Tell that a symbol was halted or trades again."""
        for session, line in self._lines():
            if line.symbol == change.symbol and line.generics.has_prices:
                session.send_all(line.halt(change))

    def next_due_ns(self) -> int | None:
        """Return when the current slot ends, None while nothing waits for that."""
        return self._due_ns

    def on_time(self) -> None:
        """Tell what has waited for the end of its slot."""
        if self._due_ns is None or self._hub.market.now_ns < self._due_ns:
            return
        self._due_ns = None
        for session, line in self._lines():
            if line.pending is not None and not session.is_congested:
                session.flush(line)

    def on_second(self) -> None:
        """Tell delayed lines and, every five seconds, real-time bars."""
        for session, line in self._lines():
            if line.is_delayed and line.generics.has_prices:
                self._tell_delayed(session, line)
        if self._hub.market.now_ns // NS_PER_S % REAL_TIME_S:
            return
        for session in self._hub.sessions.values():
            for wanted in session.subscriptions.real_time.values():
                self._tell_real_time(session, wanted)

    @property
    def has_real_time_bars(self) -> bool:
        """Whether a client is told a bar every five seconds."""
        return any(session.subscriptions.real_time for session in self._hub.sessions.values())

    def _lines(self) -> Iterator[tuple[Session, QuoteLine]]:
        for session in self._hub.sessions.values():
            for line in session.subscriptions.quotes.values():
                yield session, line

    def _tell_line(
        self, session: Session, line: QuoteLine, event: Trade | QuoteChange, voice: Voice[Any]
    ) -> None:
        if line.data_type == FROZEN:
            line.data_type = LIVE
            session.send("marketDataType", req_id=line.req_id, market_data_type=LIVE)
        if session.is_congested:
            session.has_conflated = True
            line.wait(event)
            return
        if not self._sample_ns:
            voice.send(line.tell(event, voice))
            return
        slot = event.at_ns // self._sample_ns
        voice.send(line.hear(event, slot, voice))
        if line.pending is not None and self._due_ns is None:
            self._due_ns = (slot + 1) * self._sample_ns

    def _tell_delayed(self, session: Session, line: QuoteLine) -> None:
        market = self._hub.market
        trade = market.lines[line.symbol].today(market.now_ns - DELAY_NS)
        if trade is not None and trade.at_ns > line.told_ns:
            line.told_ns = trade.at_ns
            session.send_all(line.tell_delayed(trade))

    def _tell_real_time(self, session: Session, wanted: RealTimeBars) -> None:
        market = self._hub.market
        end_ns = market.now_ns // NS_PER_S * NS_PER_S
        line, start_ns = market.lines[wanted.symbol], end_ns - REAL_TIME_S * NS_PER_S
        query = replace(wanted.query, start_ns=start_ns, end_ns=end_ns)
        if query.is_regular and not market.hours.is_regular(start_ns):
            return
        found = [bar for bar in bars(line, query, now_ns=end_ns) if bar.start_ns == start_ns]
        bar = found[0] if found else self._empty_bar(wanted, start_ns)
        if bar is not None:
            session.send(
                "realtimeBar",
                req_id=wanted.req_id,
                time=bar.start_ns // NS_PER_S,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
                wap=bar.vwap,
                count=bar.n_bars,
            )

    def _empty_bar(self, wanted: RealTimeBars, start_ns: int) -> HistoryBar | None:
        """Return the bar of five seconds without trades, None before the first of the date."""
        market = self._hub.market
        if wanted.query.what in QUOTE_KINDS or market.today(wanted.symbol) is None:
            return None
        line = market.lines[wanted.symbol]
        day = replace(wanted.query, start_ns=0, end_ns=start_ns, seconds=REAL_TIME_S)
        recent = replace(day, start_ns=start_ns - 3600 * NS_PER_S)
        past = bars(line, recent, now_ns=start_ns) or bars(line, day, now_ns=start_ns)
        return flat_bar(past[-1].close, start_ns) if past else None
