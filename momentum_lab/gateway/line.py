"""One symbol of a tape: its bars, single trades and quotes as arrays in time order.

Bars and single trades are rows of one kind: a trade is a bar without length. A row is known at its
end. The quote at an instant is the tape's newest one, or, for a symbol of which the tape has no
quotes, the spread model round the last price. Where a tape has quotes of a symbol but no trades,
the middle of the quote stands for the last price: it triggers stops and values positions, and is
never told as a trade.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.market_events import QuoteChange, Trade
from momentum_lab.records.tape import Tape

Array = np.ndarray[Any, Any]
DAY_S = 86_400
EPOCH = date(1970, 1, 1)
_CHUNK_ROWS = 1_024
# Two readers may be at work: live lines, and those that are told a quarter of an hour later.
_MAX_CHUNKS = 2


class BestQuote(NamedTuple):
    """Best bid and ask, US dollars, with the shares they show; 0 where a side is missing."""

    bid: float
    ask: float
    bid_size: int
    ask_size: int

    @property
    def is_two_sided(self) -> bool:
        """Whether the quote has a middle: both sides, neither locked nor crossed."""
        return 0 < self.bid < self.ask

    @property
    def middle(self) -> float:
        """Return the middle between bid and ask."""
        return round((self.bid + self.ask) / 2, 10)


NO_QUOTE = BestQuote(0.0, 0.0, 0, 0)


class DayPrices(NamedTuple):
    """Opening and closing price of a local date, US dollars; None where they are not known.

    They are those of the regular session where anything traded in it.
    """

    open: float | None
    close: float | None


class _Dates(NamedTuple):
    """The dates of which anything was told, as arrays.

    Attributes:
        day: days since 1970.
        open, close: float64, US dollars, as of `DayPrices`.
        first_row: where the regular session begins among the rows, 0 without one.
    """

    day: Array
    open: Array
    close: Array
    first_row: Array


class QuoteTrack:
    """The quotes of one symbol.

    Attributes:
        at_ns: int64, when each begins.
        bid, ask: float64, US dollars.
        bid_size, ask_size: int64, shares.
        is_two_sided: bool, both sides, neither locked nor crossed.
        day, second_of_day, is_regular: as of the rows of a `Line`.
    """

    def __init__(self, quotes: pd.DataFrame, *, hours: Hours) -> None:
        """Take the rows of one symbol in time order."""
        self.at_ns = quotes["at_ns"].to_numpy("int64")
        self.day, self.second_of_day = _local_clock(self.at_ns, hours.zone_name)
        self.is_regular = _in_sessions(self.at_ns, self.day, hours)
        self.bid, self.ask = (quotes[name].to_numpy("float64") for name in ("bid", "ask"))
        self.bid_size, self.ask_size = (
            quotes[f"{side}_size"].to_numpy("int64") for side in ("bid", "ask")
        )
        self.is_two_sided = (self.bid > 0) & (self.bid < self.ask)
        numbers = np.where(self.is_two_sided, np.arange(len(self.at_ns)), -1)
        self._last_two_sided = np.maximum.accumulate(numbers) if len(numbers) else numbers

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.at_ns)

    def n_known(self, now_ns: int) -> int:
        """Return how many have begun by `now_ns`."""
        return int(np.searchsorted(self.at_ns, now_ns, side="right"))

    def row(self, index: int) -> BestQuote:
        """Return one quote."""
        return BestQuote(
            float(self.bid[index]),
            float(self.ask[index]),
            int(self.bid_size[index]),
            int(self.ask_size[index]),
        )

    def begun_ns(self, now_ns: int) -> int:
        """Return when the quote of an instant began, 0 before the first."""
        n_known = self.n_known(now_ns)
        return int(self.at_ns[n_known - 1]) if n_known else 0

    def at(self, now_ns: int) -> BestQuote | None:
        """Return the quote at an instant, None before the first."""
        n_known = self.n_known(now_ns)
        return self.row(n_known - 1) if n_known else None

    def at_each(self, at_ns: Array) -> list[BestQuote]:
        """Return the quote at each of some instants, `NO_QUOTE` before the first."""
        n_known = np.searchsorted(self.at_ns, at_ns, side="right")
        columns = (self.bid, self.ask, self.bid_size, self.ask_size)
        quotes = zip(*(column[n_known - 1].tolist() for column in columns), strict=True)
        return [
            BestQuote._make(quote) if is_known else NO_QUOTE
            for quote, is_known in zip(quotes, (n_known > 0).tolist(), strict=True)
        ]

    def last_middle(self, now_ns: int) -> tuple[int, float] | None:
        """Return when and where the newest middle of a two-sided quote was, if there was one."""
        n_known = self.n_known(now_ns)
        index = int(self._last_two_sided[n_known - 1]) if n_known else -1
        return None if index < 0 else (int(self.at_ns[index]), self.row(index).middle)


class Line:
    """One symbol's rows and quotes.

    Attributes:
        instrument: the stock.
        hours: its session calendar.
        spread: how it is quoted where the tape has no quotes.
        quotes: its quotes.
        start_ns, end_ns: int64, start and end of each row.
        open, high, low, close: float64, US dollars.
        volume: int64, shares.
        exchange, conditions: text of single trades, "" of bars.
        day: int64, local date of the start as days since 1970.
        second_of_day: int64, local time of the start.
        is_regular: bool, whether the row lies in a regular session.
        has_extended_hours: whether any row or quote lies outside the regular sessions.
        is_told: bool, False for rows that fell into a halt which the tape did not know.
        hidden: first and last of each stretch of such rows.
    """

    def __init__(self, tape: Tape, symbol: str, *, hours: Hours) -> None:
        """Take the rows of one symbol and precompute the running totals of each local date."""
        self.instrument: Instrument = tape.instruments[symbol]
        self.spread: SpreadModel = tape.spreads[symbol]
        self.quotes = QuoteTrack(tape.quotes[tape.quotes["symbol"] == symbol], hours=hours)
        rows = _rows_of(tape, symbol)
        self.start_ns = rows["at_ns"].to_numpy("int64")
        self.end_ns = self.start_ns + rows["seconds"].to_numpy("int64") * NS_PER_S
        self.open, self.high, self.low, self.close = (
            rows[name].to_numpy("float64") for name in ("open", "high", "low", "close")
        )
        self.volume = rows["volume"].to_numpy("int64")
        self.exchange = rows["exchange"].astype(str).tolist()
        self.conditions = rows["conditions"].astype(str).tolist()
        self.day, self.second_of_day = _local_clock(self.start_ns, hours.zone_name)
        self.is_regular = _in_sessions(self.start_ns, self.day, hours)
        self.has_extended_hours = not (self.is_regular.all() and self.quotes.is_regular.all())
        self.is_told = np.ones(len(self.start_ns), dtype=bool)
        self.hidden: list[list[int]] = []
        self.hours = hours
        self._modelled: dict[float, BestQuote] = {}
        self._dates = self._dates_of()
        self._totals = self._day_totals()
        self._chunks: dict[int, list[Trade]] = {}

    def n_known(self, now_ns: int) -> int:
        """Return how many rows have ended by `now_ns`."""
        return int(np.searchsorted(self.end_ns, now_ns, side="right"))

    def hide(self, index: int) -> None:
        """Take a row out of the market: it falls into a halt."""
        self.is_told[index] = False
        if self.hidden and self.hidden[-1][1] == index - 1:
            self.hidden[-1][1] = index
        else:
            self.hidden.append([index, index])

    def recount(self) -> None:
        """Count the day's totals anew, after rows were hidden."""
        self._dates = self._dates_of()
        self._totals = self._day_totals()
        self._chunks.clear()

    def has_quote_between(self, after_ns: int, until_ns: int) -> bool:
        """Return whether the tape quotes the symbol after one instant and up to another."""
        return self.quotes.n_known(after_ns) < self.quotes.n_known(until_ns)

    def quote_at(self, now_ns: int, price_usd: float | None) -> BestQuote:
        """Return the quote at an instant, `NO_QUOTE` where none is known.

        Args:
            now_ns: the instant.
            price_usd: the last price, for symbols without quotes.
        """
        if len(self.quotes):
            return self.quotes.at(now_ns) or NO_QUOTE
        return NO_QUOTE if price_usd is None else self.modelled(price_usd)

    def modelled(self, price_usd: float) -> BestQuote:
        """Return the spread model's quote round a price."""
        found = self._modelled.get(price_usd)
        if found is None:
            size = self.spread.size_shares
            found = BestQuote(*self.spread.quote(price_usd, self.instrument), size, size)
            self._modelled[price_usd] = found
        return found

    def trade(self, index: int) -> Trade:
        """Return what a row tells at its end."""
        chunk, place = divmod(index, _CHUNK_ROWS)
        found = self._chunks.get(chunk)
        if found is None:
            found = self._trades_of(chunk)
            if len(self._chunks) == _MAX_CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[chunk] = found
        return found[place]

    def latest(self, now_ns: int) -> Trade | None:
        """Return the last known trade of whatever date, with the quote of `now_ns`."""
        index = self.n_known(now_ns) - 1
        while index >= 0 and not self.is_told[index]:
            index -= 1
        if index >= 0:
            return self._quoted(self.trade(index), now_ns)
        return self._untraded(now_ns)

    def today(self, now_ns: int) -> Trade | None:
        """Return the last known trade of the date of `now_ns`: its quote may be traded on.

        Before the date's first trade, but after its first two-sided quote, the middle of the quote
        stands for the price.
        """
        found, today = self.latest(now_ns), self.hours.day(now_ns)
        if found is None:
            return None
        if self.hours.day(found.at_ns) == today:
            return found
        early = self._untraded(now_ns)
        if early is None or self.hours.day(early.at_ns) != today:
            return None
        return early._replace(previous_close=self.before(now_ns).close)

    def before(self, now_ns: int) -> DayPrices:
        """Return the prices of the last date with trades before the date of `now_ns`.

        Without any trade on the tape the last middle before that date stands for the close.
        """
        today = self.hours.day(now_ns)
        place = int(np.searchsorted(self._dates.day, (today - EPOCH).days)) - 1
        if place >= 0:
            return DayPrices(float(self._dates.open[place]), float(self._dates.close[place]))
        middle = None
        if not len(self.start_ns):
            middle = self.quotes.last_middle(self.hours.instant(today, time(0)) - 1)
        return DayPrices(None, None if middle is None else middle[1])

    def _quoted(self, trade: Trade, now_ns: int) -> Trade:
        if not len(self.quotes):
            return trade
        return with_quote(trade, self.quote_at(now_ns, trade.price))

    def _untraded(self, now_ns: int) -> Trade | None:
        found = self.quotes.last_middle(now_ns)
        if found is None:
            return None
        at_ns, middle = found
        quote = self.quotes.at(now_ns) or NO_QUOTE
        return Trade(
            symbol=self.instrument.symbol,
            at_ns=at_ns,
            price=middle,
            high=middle,
            low=middle,
            size=0,
            bid=quote.bid,
            ask=quote.ask,
            bid_size=quote.bid_size,
            ask_size=quote.ask_size,
            day_volume=0,
            day_open=middle,
            day_high=middle,
            day_low=middle,
            day_vwap=middle,
            previous_close=None,
            is_traded=False,
        )

    def _trades_of(self, chunk: int) -> list[Trade]:
        """Return what many rows tell: column by column that is cheap, one by one it is not.

        Few at a time, for a tape may hold millions.
        """
        own = slice(chunk * _CHUNK_ROWS, (chunk + 1) * _CHUNK_ROWS)
        columns = (self.end_ns, self.close, self.high, self.low, self.volume)
        at_ns, price, *others = (column[own].tolist() for column in columns)
        totals = {name: column[own].tolist() for name, column in self._totals.items()}
        for name in ("open", "previous_close"):
            totals[name] = [None if math.isnan(price) else price for price in totals[name]]
        if len(self.quotes):
            quotes = self.quotes.at_each(self.end_ns[own])
        else:
            quotes = [self.modelled(price_usd) for price_usd in price]
        rows = zip(
            repeat(self.instrument.symbol, len(at_ns)),
            *(at_ns, price, *others),
            *zip(*quotes, strict=True),
            *(totals[name] for name in ("volume", "open", "high", "low", "vwap")),
            totals["previous_close"],
            self.exchange[own],
            self.conditions[own],
            (self.start_ns[own] == self.end_ns[own]).tolist(),
            repeat(True, len(at_ns)),
            (self.end_ns[own] - self.start_ns[own]).tolist(),
            self.open[own].tolist(),
            strict=True,
        )
        # Each row has all fields in their order: to unpack it into arguments takes twice as long.
        return list(map(Trade._make, rows))

    def _day_totals(self) -> Mapping[str, Array]:
        frame = pd.DataFrame(
            {
                "high": self.high,
                "low": self.low,
                "close": self.close,
                "volume": self.volume,
                "paid": self.close * self.volume,
            }
        )
        # What nobody was told of counts for nothing, wherever it stands.
        frame.loc[~self.is_told, ["volume", "paid"]] = 0
        frame.loc[~self.is_told, ["high", "low", "close"]] = np.nan
        days = frame.groupby(self.day)
        volume, paid = days["volume"].cumsum(), days["paid"].cumsum()
        dates = self._dates
        own = np.searchsorted(dates.day, self.day)
        # A date that has a regular session opens with it, and until then has the open of before.
        has_opened = np.arange(len(self.day)) >= np.append(dates.first_row, 0)[own]
        unknown = [math.nan]
        opened, closed = (np.concatenate((unknown, of)) for of in (dates.open, dates.close))
        return {
            "volume": volume.to_numpy("int64"),
            "open": np.where(has_opened, np.append(dates.open, unknown)[own], opened[own]),
            "high": days["high"].cummax().to_numpy("float64"),
            "low": days["low"].cummin().to_numpy("float64"),
            "vwap": (paid / volume).fillna(frame["close"]).to_numpy("float64"),
            "previous_close": closed[own],
        }

    def _dates_of(self) -> _Dates:
        day = np.unique(self.day[self.is_told])
        opened, closed = np.empty((2, len(day)))
        first_row = np.zeros(len(day), dtype="int64")
        for has_session, rows in (
            (False, np.flatnonzero(self.is_told)),
            (True, np.flatnonzero(self.is_told & self.is_regular)),
        ):
            first, last = (rows[places] for places in groups(self.day[rows]))
            own = np.searchsorted(day, self.day[first])
            opened[own], closed[own] = self.open[first], self.close[last]
            if has_session:
                first_row[own] = first
        return _Dates(day, opened, closed, first_row)


def groups(keys: Array) -> tuple[Array, Array]:
    """Return the first and the last place of each run of equal keys."""
    ends = np.flatnonzero(keys[1:] != keys[:-1])
    if not len(keys):
        return ends, ends
    return np.concatenate(([0], ends + 1)), np.concatenate((ends, [len(keys) - 1]))


def with_quote(trade: Trade, quote: BestQuote | QuoteChange) -> Trade:
    """Return a trade beside another quote."""
    return trade._replace(
        bid=quote.bid, ask=quote.ask, bid_size=quote.bid_size, ask_size=quote.ask_size
    )


def _rows_of(tape: Tape, symbol: str) -> pd.DataFrame:
    bars = tape.bars_of(symbol).assign(exchange="", conditions="")
    ticks = tape.trades[tape.trades["symbol"] == symbol]
    if not len(ticks):
        return bars
    prices = dict.fromkeys(("open", "high", "low", "close"), ticks["price"])
    columns = {"volume": ticks["size"], "seconds": 0, **prices}
    rows = ticks.assign(**columns)[list(bars.columns)]
    both = pd.concat([bars, rows]) if len(bars) else rows
    return both.sort_values("at_ns", kind="stable").reset_index(drop=True)


def _local_clock(start_ns: Array, zone: str) -> tuple[Array, Array]:
    wall = pd.DatetimeIndex(pd.to_datetime(start_ns, utc=True)).tz_convert(zone).tz_localize(None)
    wall_s = wall.to_numpy().astype("datetime64[s]").astype("int64")
    return wall_s // DAY_S, wall_s % DAY_S


def _in_sessions(start_ns: Array, day: Array, hours: Hours) -> Array:
    found = np.zeros(len(start_ns), dtype=bool)
    starts = np.unique(day, return_index=True)[1]
    for begin, end in zip(starts, [*starts[1:], len(day)][: len(starts)], strict=True):
        session = hours.session(hours.day(int(start_ns[begin])))
        if session is not None:
            own = start_ns[begin:end]
            found[begin:end] = (own >= session[0]) & (own < session[1])
    return found
