"""A tape as a market: trades, quotes, halts and headlines of a replayed "now".

A tape's bar is known at its end, a single trade or quote at its instant. Nothing later than
`now_ns` can be asked for.

Day totals (volume, high, low, VWAP) run over a local date; open and close are those of its regular
session. Before the first trade of a date there is no quote unless the tape has one, only
yesterday's open and close.

While a symbol is halted its quotes are gone and nothing of it trades. What the tape would have
traded in a halt that it does not know itself has never happened: it is not told, does not fill, and
is in no history.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from momentum_lab.errors import RecordError
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.line import NO_QUOTE, BestQuote, Line, with_quote
from momentum_lab.gateway.market_events import (
    STANDSTILLS,
    HaltChange,
    MarketEvent,
    QuoteChange,
    Trade,
)
from momentum_lab.records.tape import Tape, TapeHeadline
from momentum_lab.records.tape_ticks import LIMIT_STATE, TRADING

# What comes first where several things happen at one instant.
_HALTS, _QUOTES, _ROWS = range(3)
_NEVER_NS = 2**63 - 1


class Market:
    """The market of a tape at a replayed instant.

    Attributes:
        tape: what is played.
        hours: session calendar of the tape's zone.
        now_ns: market time; only `advance` moves it, never backwards.
        lines: symbol -> its bars, trades and quotes.
        halts: symbol -> kind of its halt; symbols that trade may be absent.
    """

    def __init__(self, tape: Tape, *, start_ns: int | None = None) -> None:
        """Stand at `start_ns`, by default where the tape's replay begins."""
        self.tape = tape
        self.hours = Hours(tape.timezone)
        self.now_ns = tape.start_ns if start_ns is None else start_ns
        self.lines = {symbol: Line(tape, symbol, hours=self.hours) for symbol in tape.instruments}
        past = tape.halts[tape.halts["at_ns"] <= self.now_ns]
        self.halts = {str(row.symbol): int(row.kind) for row in past.itertuples()}
        self._tape_halts, self._imposed_halts = dict(self.halts), dict[str, int]()
        self._halted_ns: dict[str, int] = {}
        self._reopening: set[str] = set()
        self._names, self._lines = list(self.lines), list(self.lines.values())
        self._at_ns, self._kind, self._line_no, self._index = self._merged()
        self._headline_ns = [item.at_ns for item in tape.headlines]
        self._cursor = bisect_right(self._at_ns, self.now_ns)
        self._next_headline = bisect_right(self._headline_ns, self.now_ns)
        # So that there is always a next one.
        self._at_ns.append(_NEVER_NS)
        self._headline_ns.append(_NEVER_NS)

    @property
    def is_open(self) -> bool:
        """Whether orders trade now: regular session, and the tape has not ended."""
        return self.trades_at(self.now_ns, regular=True)

    def trades_at(self, at_ns: int, *, regular: bool) -> bool:
        """Return whether the tape and its regular session, or else its trading hours, run then."""
        return at_ns < self.tape.end_ns and self.hours.is_in_session(at_ns, regular=regular)

    @property
    def has_ended(self) -> bool:
        """Whether the tape has nothing more to tell."""
        return self.now_ns >= self.tape.end_ns

    def is_halted(self, symbol: str) -> bool:
        """Whether trading of a symbol is halted now."""
        return self.halts.get(symbol, TRADING) in STANDSTILLS

    def is_at_limit(self, symbol: str) -> bool:
        """Whether a quote of the symbol stands at its price band."""
        return self.halts.get(symbol, TRADING) == LIMIT_STATE

    def latest(self, symbol: str) -> Trade | None:
        """Return the last known trade of a symbol, of whatever date."""
        return self._in_halt(self.lines[symbol].latest(self.now_ns), symbol)

    def today(self, symbol: str) -> Trade | None:
        """Return the last known trade of the current local date: its quote may be traded on."""
        return self._in_halt(self.lines[symbol].today(self.now_ns), symbol)

    def previous_close(self, symbol: str) -> float | None:
        """Return the closing price of the last date before today, None where none is known."""
        return self.lines[symbol].before(self.now_ns).close

    def quote(self, symbol: str) -> BestQuote:
        """Return the best bid and ask of now."""
        trade = self.today(symbol)
        if trade is None:
            return NO_QUOTE
        return BestQuote(trade.bid, trade.ask, trade.bid_size, trade.ask_size)

    def quoted_ns(self, trade: Trade) -> int:
        """Return when the quote that now stands beside a trade was made."""
        quotes = self.lines[trade.symbol].quotes
        return quotes.begun_ns(self.now_ns) if len(quotes) else trade.last_ns

    def past_headlines(self) -> tuple[TapeHeadline, ...]:
        """Return the headlines published up to now, in time order."""
        return self.tape.headlines[: self._next_headline]

    def next_event_ns(self) -> int | None:
        """Return when the next trade, quote, halt or headline is due, None after the last one."""
        due_ns = min(self._at_ns[self._cursor], self._headline_ns[self._next_headline])
        return due_ns if due_ns < _NEVER_NS else None

    def advance(self, to_ns: int) -> Iterator[MarketEvent]:
        """Move to `to_ns` and yield what happens on the way, in time order.

        While an event is out, `now_ns` is its instant. At one instant trades come before
        headlines: the trades are of the second that has just ended.
        """
        while True:
            tick_ns = self._at_ns[self._cursor]
            headline_ns = self._headline_ns[self._next_headline]
            is_tick = tick_ns <= headline_ns
            due_ns = tick_ns if is_tick else headline_ns
            if due_ns > to_ns:
                break
            self.now_ns = due_ns
            if is_tick:
                position = self._cursor
                self._cursor = position + 1
                if self._kind[position] == _ROWS and not self.halts:
                    # Nearly all of a tape: nothing keeps a row from being told.
                    yield self._lines[self._line_no[position]].trade(self._index[position])
                else:
                    yield from self._tick(position)
            else:
                self._next_headline += 1
                yield self.tape.headlines[self._next_headline - 1]
        self.now_ns = max(self.now_ns, to_ns)

    @property
    def hidden(self) -> dict[str, list[list[int]]]:
        """Symbol -> first and last row of each stretch that a halt has kept from happening."""
        return {symbol: line.hidden for symbol, line in self.lines.items() if line.hidden}

    def hide(self, hidden: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Keep from happening what `hidden` of an earlier run says.

        Raises:
            RecordError: a symbol has no such rows.
        """
        for symbol, stretches in hidden.items():
            line = self.lines[symbol]
            for stretch in stretches:
                if len(stretch) != 2 or not 0 <= stretch[0] <= stretch[1] < len(line.end_ns):  # noqa: PLR2004
                    raise RecordError(
                        f"hidden.{symbol}: expected first and last of {len(line.end_ns)} rows,"
                        f" found {stretch}"
                    )
                for index in range(stretch[0], stretch[1] + 1):
                    line.hide(index)
            line.recount()

    def impose_halt(self, symbol: str, kind: int) -> list[MarketEvent]:
        """Halt a symbol beside what the tape says, or lift that; return what is to be told.

        Args:
            symbol: a symbol of the tape.
            kind: one of `tape_ticks.HALT_KINDS`; `TRADING` leaves it to the tape.
        """
        self._imposed_halts[symbol] = kind
        return self._halt_by_both(symbol)

    def _halt_by_both(self, symbol: str) -> list[MarketEvent]:
        """Let a symbol stand where tape or a fault wants it; a standstill outweighs the rest."""
        both = [of.get(symbol, TRADING) for of in (self._tape_halts, self._imposed_halts)]
        kind = next((kind for kind in both if kind in STANDSTILLS), max(both))
        return [] if kind == self.halts.get(symbol, TRADING) else self.change_halt(symbol, kind)

    def change_halt(self, symbol: str, kind: int) -> list[MarketEvent]:
        """Halt a symbol or let it trade again, now; return what is to be told.

        Args:
            symbol: a symbol of the tape.
            kind: one of `tape_ticks.HALT_KINDS`.
        """
        was_halted, line = self.is_halted(symbol), self.lines[symbol]
        self.halts[symbol] = kind
        if self.is_halted(symbol):
            self._halted_ns.setdefault(symbol, self.now_ns)
        elif was_halted:
            line.recount()
            since_ns = self._halted_ns.pop(symbol, self.now_ns)
            if not line.has_quote_between(since_ns, self.now_ns):
                self._reopening.add(symbol)
        change = HaltChange(symbol, self.now_ns, kind)
        return [change, QuoteChange(symbol, self.now_ns, *self.quote(symbol))]

    def _in_halt(self, trade: Trade | None, symbol: str) -> Trade | None:
        # After a halt nobody knows a price before the first quote or trade.
        if trade is None or not (self.is_halted(symbol) or symbol in self._reopening):
            return trade
        return with_quote(trade, NO_QUOTE)

    def _tick(self, position: int) -> Iterable[MarketEvent]:
        kind, index = self._kind[position], self._index[position]
        symbol = self._names[self._line_no[position]]
        line = self.lines[symbol]
        if kind == _HALTS:
            self._tape_halts[symbol] = int(self.tape.halts["kind"].iloc[index])
            return self._halt_by_both(symbol)
        if self.halts:
            if self.is_halted(symbol):
                if kind == _ROWS:
                    line.hide(index)
                return ()
            if kind == _QUOTES or not len(line.quotes):
                self._reopening.discard(symbol)
        if kind == _ROWS:
            trade = line.trade(index)
            return (trade if symbol not in self._reopening else with_quote(trade, NO_QUOTE),)
        return (QuoteChange(symbol, self.now_ns, *line.quotes.row(index)),)

    def _merged(self) -> tuple[list[int], ...]:
        """Return instant, kind, number of the line and index of each tick, in time order."""
        halts = self.tape.halts
        numbers = {name: number for number, name in enumerate(self._names)}
        of_halts = np.array([numbers[str(name)] for name in halts["symbol"]], dtype="int64")
        parts = [(halts["at_ns"].to_numpy("int64"), _HALTS, of_halts, np.arange(len(halts)))]
        for number, line in enumerate(self.lines.values()):
            for at_ns, kind in ((line.quotes.at_ns, _QUOTES), (line.end_ns, _ROWS)):
                own = np.full(len(at_ns), number)
                parts.append((at_ns, kind, own, np.arange(len(at_ns))))
        at_ns = np.concatenate([part[0] for part in parts])
        kinds = np.concatenate([np.full(len(part[0]), part[1]) for part in parts])
        line_no = np.concatenate([part[2] for part in parts])
        index = np.concatenate([part[3] for part in parts])
        # Replays stop at the end of the tape, whatever its ticks say later.
        keep = at_ns <= self.tape.end_ns
        columns = tuple(column[keep] for column in (at_ns, kinds, line_no, index))
        order = np.lexsort((columns[3], columns[2], columns[1], columns[0]))
        return tuple(column[order].tolist() for column in columns)
