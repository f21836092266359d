"""A tape -> episodes: what a live line would have heard round each headline, made once.

An episode holds everything that does not depend on a threshold: the one-minute bars known when
the headline came, and then, for each second with a trade, the quote and the candles as the live
line has them. Judging it under other parameters (`momentum_lab.research.what_if`) is fast because
only the rules run again.

A second of the tape is heard at its end, as the paper gateway sends it: its close is the price of
the trade, and the quote is the tape's spread model round it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from momentum_lab.calendars import NEW_YORK, TradingSession, session_on_day_of
from momentum_lab.core.candle import MINUTE_NS, MINUTE_S, LiveCandles, Trade, add_trade
from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Bar, Instrument, Quote
from momentum_lab.core.news import Headline, clean_text, tickers_in
from momentum_lab.records.tape import Tape, TapeHeadline

# Before the headline: enough for the closed candles that measure the unit of volume.
_LEAD_NS = 7 * MINUTE_NS
# The live engine asks for the bars of two sessions.
_SESSIONS_OF_BARS = 2


@dataclass(frozen=True, slots=True)
class Tick:
    """What a line shows after one second with a trade.

    Attributes:
        at_ns: end of the second, market time.
        quote: bid, ask and last price.
        candles: the line's candles, volume in shares.
        high_usd: highest trade of the second.
        low_usd: lowest trade of the second.
    """

    at_ns: int
    quote: Quote
    candles: LiveCandles
    high_usd: float
    low_usd: float


@dataclass(frozen=True, slots=True)
class Episode:
    """One headline and its primary symbol, with what happened round it.

    Attributes:
        headline: parsed as the NewsHandler does, received when it was published.
        instrument: the primary symbol, None where the text names none that may be traded.
        bars: one-minute bars that had closed on receipt, at most two sessions, shares.
        ticks: time order, from some minutes before the headline to `end_ns`.
        n_before: how many ticks had been heard on receipt.
        end_ns: where the episode ends: its horizon, or the tape.
        session: the trading session of the day, None on a holiday.
    """

    headline: Headline
    instrument: Instrument | None
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    n_before: int
    end_ns: int
    session: TradingSession | None

    @property
    def symbol(self) -> str | None:
        """The primary symbol."""
        return self.instrument.symbol if self.instrument else None


def make_episodes(
    tape: Tape, *, universe: Sequence[str], horizon_s: float = 4200.0
) -> tuple[Episode, ...]:
    """Return one episode per headline of a tape, in time order.

    Args:
        tape: the recorded day.
        universe: symbols that may be traded; the first of them in a headline is its primary one.
        horizon_s: how much of the tape after the headline is kept: the watch and the longest time
            in a position that shall be judged.
    """
    lines = {symbol: _Line(tape, symbol) for symbol in universe if symbol in tape.instruments}
    return tuple(_episode(tape, item, lines, horizon_s) for item in tape.headlines)


def _episode(tape: Tape, item: TapeHeadline, lines: dict[str, _Line], horizon_s: float) -> Episode:
    headline = _parsed(item)
    line = next((lines[symbol] for symbol in headline.symbols if symbol in lines), None)
    end_ns = min(tape.end_ns, item.at_ns + int(horizon_s * NS_PER_S))
    ticks = line.ticks(item.at_ns - _LEAD_NS, end_ns) if line else ()
    return Episode(
        headline=headline,
        instrument=line.instrument if line else None,
        bars=line.closed_bars(item.at_ns) if line else (),
        ticks=ticks,
        n_before=sum(1 for tick in ticks if tick.at_ns <= item.at_ns),
        end_ns=end_ns,
        session=session_on_day_of(item.at_ns),
    )


def _parsed(item: TapeHeadline) -> Headline:
    text = clean_text(item.headline)
    return Headline(
        provider=item.provider,
        article_id=item.article_id,
        published_ns=item.at_ns,
        received_ns=item.at_ns,
        text=text,
        symbols=tuple(dict.fromkeys((*item.symbols, *tickers_in(text)))),
        extra=item.extra,
    )


class _Line:
    """The bars of one symbol as arrays; only those of regular sessions."""

    def __init__(self, tape: Tape, symbol: str) -> None:
        self.instrument = tape.instruments[symbol]
        self._spread: SpreadModel = tape.spreads[symbol]
        bars = tape.bars_of(symbol)
        start_ns = bars["at_ns"].to_numpy("int64")
        self._day = _local_day(start_ns)
        inside = _in_session(start_ns, self._day)
        bars, self._day, self._start_ns = bars[inside], self._day[inside], start_ns[inside]
        self._end_ns = self._start_ns + bars["seconds"].to_numpy("int64") * NS_PER_S
        self._open, self._high, self._low, self._close = (
            bars[name].to_numpy("float64") for name in ("open", "high", "low", "close")
        )
        self._volume = bars["volume"].to_numpy("float64")
        by_day = pd.Series(self._volume).groupby(self._day)
        self._day_volume = by_day.cumsum().to_numpy("float64")

    def closed_bars(self, at_ns: int) -> tuple[Bar, ...]:
        """Return the one-minute bars of the last sessions that have closed by `at_ns`."""
        until = int(np.searchsorted(self._end_ns, at_ns, side="right"))
        if until == 0:
            return ()
        days = np.unique(self._day[:until])[-_SESSIONS_OF_BARS:]
        since = int(np.searchsorted(self._day, days[0]))
        minute = self._start_ns[since:until] // MINUTE_NS
        firsts = since + np.flatnonzero(np.diff(minute, prepend=-1))
        lasts = np.append(firsts[1:], until)
        bars = (
            self._minute_bar(first, last)
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
        )
        return tuple(bar for bar in bars if bar.end_ns <= at_ns)

    def _minute_bar(self, first: int, last: int) -> Bar:
        return Bar(
            int(self._start_ns[first]) // MINUTE_NS * MINUTE_NS,
            MINUTE_S,
            float(self._open[first]),
            float(self._high[first:last].max()),
            float(self._low[first:last].min()),
            float(self._close[last - 1]),
            float(self._volume[first:last].sum()),
        )

    def ticks(self, since_ns: int, until_ns: int) -> tuple[Tick, ...]:
        """Return what the line shows at the end of each second with a trade in (since, until]."""
        first, last = np.searchsorted(self._end_ns, [since_ns, until_ns], side="right")
        candles = LiveCandles()
        found = []
        for index in range(first, last):
            at_ns, price = int(self._end_ns[index]), float(self._close[index])
            # The stamp lies inside the second, or its trade would count to the next minute.
            trade = Trade(at_ns - 1, price, float(self._day_volume[index]))
            candles = add_trade(candles, trade)
            high_usd, low_usd = float(self._high[index]), float(self._low[index])
            found.append(Tick(at_ns, self._quote(at_ns, price), candles, high_usd, low_usd))
        return tuple(found)

    def _quote(self, at_ns: int, price: float) -> Quote:
        bid, ask = self._spread.quote(price, self.instrument)
        size = float(self._spread.size_shares)
        return Quote(self.instrument.symbol, at_ns, bid, ask, size, size, price)


def _local_day(start_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the New York date of each instant, as days since 1970."""
    wall = pd.to_datetime(start_ns, unit="ns", utc=True).tz_convert(NEW_YORK).tz_localize(None)
    days: npt.NDArray[np.int64] = wall.to_numpy("datetime64[D]").astype("int64")
    return days


def _in_session(
    start_ns: npt.NDArray[np.int64], day: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(start_ns), dtype=np.bool_)
    for first in np.unique(day, return_index=True)[1]:
        session = session_on_day_of(int(start_ns[first]))
        if session is not None:
            inside |= (start_ns >= session.open_ns) & (start_ns < session.close_ns)
    return inside


def path_of(episode: Episode) -> dict[str, npt.NDArray[Any]]:
    """Return the prices of an episode as arrays: at_ns, bid, ask, last."""
    return {
        "at_ns": np.array([tick.at_ns for tick in episode.ticks], dtype=np.int64),
        **{
            name: np.array([getattr(tick.quote, name) for tick in episode.ticks], dtype=np.float64)
            for name in ("bid", "ask", "last")
        },
    }
