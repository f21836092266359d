"""A tape as a market: trades, quotes and headlines of a replayed "now".

A tape's bar is known at its end: from then on its close is the last price, and the quote is the
tape's spread model round that price. Nothing later than `now_ns` can be asked for.

Day totals (volume, high, low, VWAP) run over a local date. Before the first trade of a date
there is no quote, only yesterday's close: a tape of trades does not know the pre-market book.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.gateway.hours import REGULAR_FROM_S, REGULAR_UNTIL_S, Hours
from momentum_lab.records.tape import Tape, TapeHeadline


@dataclass(frozen=True, slots=True)
class Trade:
    """What a tape bar tells at its end.

    Attributes:
        at_ns: end of the bar.
        price: last price; `high` and `low` are those of the bar alone.
        size: shares traded in the bar.
        bid: best bid from the tape's spread model; `ask` likewise.
        quote_size: shares shown on each side.
        day_volume: shares of the local date so far, this bar included.
        day_open: first price of the date; `day_high`, `day_low`, `day_vwap` so far.
        previous_close: last price of the date before, None on the tape's first date.
    """

    symbol: str
    at_ns: int
    price: float
    high: float
    low: float
    size: int
    bid: float
    ask: float
    quote_size: int
    day_volume: int
    day_open: float
    day_high: float
    day_low: float
    day_vwap: float
    previous_close: float | None


@dataclass(frozen=True, slots=True)
class QuoteChange:
    """The best bid and ask changed without a trade.

    Attributes:
        at_ns: UTC epoch nanoseconds.
        bid: best bid, US dollars; `ask` likewise.
        bid_size: shares shown at the bid; `ask_size` at the ask.
    """

    symbol: str
    at_ns: int
    bid: float
    ask: float
    bid_size: int
    ask_size: int


@dataclass(frozen=True, slots=True)
class HaltChange:
    """Trading of a symbol was halted or resumed.

    Attributes:
        at_ns: UTC epoch nanoseconds.
        kind: `NOT_HALTED`, `HALTED_BY_REGULATION` or `HALTED_BY_VOLATILITY`.
    """

    symbol: str
    at_ns: int
    kind: int


NOT_HALTED, HALTED_BY_REGULATION, HALTED_BY_VOLATILITY = 0, 1, 2

MarketEvent = Trade | QuoteChange | HaltChange | TapeHeadline


class Line:
    """One symbol's bars as arrays in time order.

    Attributes:
        start_ns, end_ns: int64, start and end of each bar.
        open, high, low, close: float64, US dollars.
        volume: int64, shares.
        day: int64, local date of the start as days since 1970.
        second_of_day: int64, local time of the start.
        has_extended_hours: whether any bar lies outside the regular session.
    """

    def __init__(
        self, instrument: Instrument, spread: SpreadModel, *, bars: pd.DataFrame, zone: str
    ) -> None:
        """Take the bars of one symbol and precompute the running totals of each local date."""
        self.instrument = instrument
        self.spread = spread
        seconds = bars["seconds"].to_numpy("int64")
        self.start_ns = bars["at_ns"].to_numpy("int64")
        self.end_ns = self.start_ns + seconds * NS_PER_S
        self.open, self.high, self.low, self.close = (
            bars[name].to_numpy("float64") for name in ("open", "high", "low", "close")
        )
        self.volume = bars["volume"].to_numpy("int64")
        wall = pd.to_datetime(bars["at_ns"], utc=True).dt.tz_convert(zone).dt.tz_localize(None)
        wall_s = wall.to_numpy("datetime64[s]").astype("int64")
        self.day, self.second_of_day = wall_s // 86_400, wall_s % 86_400
        regular = (self.second_of_day >= REGULAR_FROM_S) & (self.second_of_day < REGULAR_UNTIL_S)
        self.has_extended_hours = bool((~regular).any())
        self._totals = self._day_totals()

    def n_known(self, now_ns: int) -> int:
        """Return how many bars have ended by `now_ns`."""
        return int(np.searchsorted(self.end_ns, now_ns, side="right"))

    def trade(self, index: int) -> Trade:
        """Return what bar `index` tells at its end."""
        price = float(self.close[index])
        bid, ask = self.spread.quote(price, self.instrument)
        totals = self._totals
        previous = float(totals["previous_close"][index])
        return Trade(
            symbol=self.instrument.symbol,
            at_ns=int(self.end_ns[index]),
            price=price,
            high=float(self.high[index]),
            low=float(self.low[index]),
            size=int(self.volume[index]),
            bid=bid,
            ask=ask,
            quote_size=self.spread.size_shares,
            day_volume=int(totals["volume"][index]),
            day_open=float(totals["open"][index]),
            day_high=float(totals["high"][index]),
            day_low=float(totals["low"][index]),
            day_vwap=float(totals["vwap"][index]),
            previous_close=None if np.isnan(previous) else previous,
        )

    def _day_totals(self) -> Mapping[str, np.ndarray[Any, Any]]:
        frame = pd.DataFrame(
            {
                "open": self.open,
                "high": self.high,
                "low": self.low,
                "close": self.close,
                "volume": self.volume,
                "paid": self.close * self.volume,
            }
        )
        days = frame.groupby(self.day)
        volume, paid = days["volume"].cumsum(), days["paid"].cumsum()
        last_of_day = days["close"].last().shift(1)
        return {
            "volume": volume.to_numpy("int64"),
            "open": days["open"].transform("first").to_numpy("float64"),
            "high": days["high"].cummax().to_numpy("float64"),
            "low": days["low"].cummin().to_numpy("float64"),
            "vwap": (paid / volume).fillna(frame["close"]).to_numpy("float64"),
            "previous_close": last_of_day.reindex(self.day).to_numpy("float64"),
        }


class Market:
    """The market of a tape at a replayed instant.

    Attributes:
        tape: what is played.
        hours: session calendar of the tape's zone.
        now_ns: market time; only `advance` moves it, never backwards.
        lines: symbol -> its bars.
        halts: symbol -> kind of its halt; symbols that trade may be absent.
    """

    def __init__(self, tape: Tape, *, start_ns: int | None = None) -> None:
        """Stand at `start_ns`, by default where the tape's replay begins."""
        self.tape = tape
        self.hours = Hours(tape.timezone)
        self.now_ns = tape.start_ns if start_ns is None else start_ns
        self.lines = {
            symbol: Line(
                instrument,
                tape.spreads[symbol],
                bars=tape.bars_of(symbol),
                zone=tape.timezone,
            )
            for symbol, instrument in tape.instruments.items()
        }
        self.halts: dict[str, int] = {}
        self._names = list(self.lines)
        self._at_ns, self._line_no, self._index = self._merged()
        self._cursor = int(np.searchsorted(self._at_ns, self.now_ns, side="right"))
        self._next_headline = sum(item.at_ns <= self.now_ns for item in tape.headlines)

    @property
    def is_open(self) -> bool:
        """Whether orders trade now: regular session, and the tape has not ended."""
        return self.now_ns < self.tape.end_ns and self.hours.is_regular(self.now_ns)

    @property
    def has_ended(self) -> bool:
        """Whether the tape has nothing more to tell."""
        return self.now_ns >= self.tape.end_ns

    def is_halted(self, symbol: str) -> bool:
        """Whether trading of a symbol is halted now."""
        return self.halts.get(symbol, NOT_HALTED) != NOT_HALTED

    def latest(self, symbol: str) -> Trade | None:
        """Return the last known trade of a symbol, of whatever date."""
        line = self.lines[symbol]
        n_known = line.n_known(self.now_ns)
        return line.trade(n_known - 1) if n_known else None

    def today(self, symbol: str) -> Trade | None:
        """Return the last known trade of the current local date: its quote may be traded on."""
        trade = self.latest(symbol)
        if trade is None or self.hours.day(trade.at_ns) != self.hours.day(self.now_ns):
            return None
        return trade

    def past_headlines(self) -> tuple[TapeHeadline, ...]:
        """Return the headlines published up to now, in time order."""
        return self.tape.headlines[: self._next_headline]

    def next_event_ns(self) -> int | None:
        """Return when the next trade or headline is due, None after the last one."""
        due = []
        if self._cursor < len(self._at_ns):
            due.append(int(self._at_ns[self._cursor]))
        if self._next_headline < len(self.tape.headlines):
            due.append(self.tape.headlines[self._next_headline].at_ns)
        return min(due, default=None)

    def advance(self, to_ns: int) -> Iterator[MarketEvent]:
        """Move to `to_ns` and yield what happens on the way, in time order.

        While an event is out, `now_ns` is its instant. At one instant trades come before
        headlines: the trades are of the second that has just ended.
        """
        while (due_ns := self.next_event_ns()) is not None and due_ns <= to_ns:
            self.now_ns = max(self.now_ns, due_ns)
            yield self._take(due_ns)
        self.now_ns = max(self.now_ns, to_ns)

    def _take(self, due_ns: int) -> MarketEvent:
        if self._cursor < len(self._at_ns) and self._at_ns[self._cursor] == due_ns:
            position = self._cursor
            self._cursor += 1
            line = self.lines[self._names[int(self._line_no[position])]]
            return line.trade(int(self._index[position]))
        headline = self.tape.headlines[self._next_headline]
        self._next_headline += 1
        return headline

    def _merged(self) -> tuple[np.ndarray[Any, Any], ...]:
        lines = list(self.lines.values())
        at_ns = np.concatenate([line.end_ns for line in lines])
        line_no = np.concatenate([np.full(len(line.end_ns), n) for n, line in enumerate(lines)])
        index = np.concatenate([np.arange(len(line.end_ns)) for line in lines])
        # Replays stop at the end of the tape, whatever its bars say later.
        keep = at_ns <= self.tape.end_ns
        at_ns, line_no, index = at_ns[keep], line_no[keep], index[keep]
        order = np.lexsort((line_no, at_ns))
        return at_ns[order], line_no[order], index[order]
