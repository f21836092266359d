"""Bars of a query, made of a tape's rows and quotes up to the replayed "now".

The last bar is the forming one, as with a real gateway when the end time is empty; a row of the
tape counts once it has ended, so no answer ever shows the future. Volumes are shares (as from
protocol 175 on), the bar count is the number of rows in it.

BID, ASK and MIDPOINT bars are made of the tape's quotes, each beginning with the quote that holds
at its start; where the tape has none they are the spread model applied to the trade prices.
Intervals in which nothing happened give no bar of any kind. Bars begin on the grid of the local
day; in the regular session the first one begins with the session. A week's or month's bar carries
the date of its first session on the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.history import MONTH_S, QUOTE_KINDS, WEEK_S, HistoryQuery
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.line import DAY_S, Array, Line, QuoteTrack


@dataclass(frozen=True, slots=True)
class HistoryBar:
    """One bar of an answer; volume in shares, -1 where the kind of bar has none."""

    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    vwap: float
    n_bars: int


def bars(line: Line, query: HistoryQuery, *, now_ns: int) -> list[HistoryBar]:
    """Return the bars of a query in time order; none of them knows anything after `now_ns`."""
    until_ns = min(query.end_ns, now_ns)
    if query.what in QUOTE_KINDS and len(line.quotes):
        return list(_quote_bars(line.quotes, query, until_ns=until_ns, hours=line.hours))
    rows = np.arange(
        int(np.searchsorted(line.start_ns, query.start_ns, side="left")), line.n_known(until_ns)
    )
    wanted = line.is_told[rows]
    if query.is_regular:
        wanted &= line.is_regular[rows]
    rows = rows[wanted]
    if not len(rows):
        return []
    reshape = _reshaper(line, query.what)
    return [reshape(bar) for bar in _trade_bars(line, rows, query)]


def _keys(day: Array, second_of_day: Array, seconds: int) -> Array:
    """Return a number for each instant that is the same for all of one bar."""
    keys: Array = day
    if seconds < DAY_S:
        keys = day * DAY_S + second_of_day // seconds * seconds
    elif seconds == WEEK_S:
        # 1970-01-01 was a Thursday; a week begins on Monday.
        keys = (day + 3) // 7
    elif seconds == MONTH_S:
        keys = day.astype("datetime64[D]").astype("datetime64[M]").astype("int64")
    return keys


def _groups(keys: Array) -> tuple[Array, Array]:
    """Return the first and the last place of each run of equal keys."""
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return first, np.concatenate((first[1:], [len(keys)])) - 1


def _bar_start(at_ns: int, second_of_day: int, query: HistoryQuery, *, hours: Hours) -> int:
    """Return the start of the bar that an instant falls into."""
    if query.seconds >= DAY_S:
        return at_ns
    start_ns = (at_ns // NS_PER_S - second_of_day % query.seconds) * NS_PER_S
    session = hours.session(hours.day(at_ns)) if query.is_regular else None
    return start_ns if session is None else max(start_ns, session[0])


def _trade_bars(line: Line, rows: Array, query: HistoryQuery) -> Iterator[HistoryBar]:
    first, last = _groups(_keys(line.day[rows], line.second_of_day[rows], query.seconds))
    begins, ends = rows[first], rows[last]
    columns = (
        line.start_ns[begins],
        line.second_of_day[begins],
        line.open[begins],
        np.maximum.reduceat(line.high[rows], first),
        np.minimum.reduceat(line.low[rows], first),
        line.close[ends],
        np.add.reduceat(line.volume[rows], first),
        np.add.reduceat(line.volume[rows] * line.close[rows], first),
        last - first + 1,
    )
    # Of numbers of Python: to take them out of the arrays one by one takes several times longer.
    for at_ns, second, opened, high, low, close, volume, paid, n_bars in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        yield HistoryBar(
            start_ns=_bar_start(at_ns, second, query, hours=line.hours),
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=int(volume),
            vwap=round(paid / volume, 6) if volume else close,
            n_bars=n_bars,
        )


def _quote_bars(
    quotes: QuoteTrack, query: HistoryQuery, *, until_ns: int, hours: Hours
) -> Iterator[HistoryBar]:
    usable = {"BID": quotes.bid > 0, "ASK": quotes.ask > 0}.get(query.what, quotes.is_two_sided)
    if query.is_regular:
        usable = usable & quotes.is_regular
    places = np.flatnonzero(usable[: quotes.n_known(until_ns)])
    keys = _keys(quotes.day[places], quotes.second_of_day[places], query.seconds)
    if not len(places):
        return
    for a, b in zip(*_groups(keys), strict=True):
        at_ns = int(quotes.at_ns[places[a]])
        start_ns = _bar_start(at_ns, int(quotes.second_of_day[places[a]]), query, hours=hours)
        if start_ns < query.start_ns:
            continue
        holds = a > 0 and quotes.day[places[a - 1]] == quotes.day[places[a]]
        own = places[a - 1 if holds else a : b + 1]
        end_ns = min(until_ns, start_ns + query.seconds * NS_PER_S)
        yield _quote_bar(quotes, own, query.what, start_ns=start_ns, end_ns=end_ns)


def _quote_bar(
    quotes: QuoteTrack, own: Array, what: str, *, start_ns: int, end_ns: int
) -> HistoryBar:
    bid, ask = quotes.bid[own], quotes.ask[own]
    if what == "BID_ASK":
        began_ns = np.maximum(quotes.at_ns[own], start_ns)
        lasted_ns = np.maximum(np.diff(began_ns, append=end_ns), 1)
        prices = [
            float(np.average(bid, weights=lasted_ns)),
            float(ask.max()),
            float(bid.min()),
            float(np.average(ask, weights=lasted_ns)),
        ]
    else:
        shown = {"BID": bid, "ASK": ask}.get(what, (bid + ask) / 2)
        prices = [float(shown[0]), float(shown.max()), float(shown.min()), float(shown[-1])]
    return _without_volume(start_ns, *(round(price, 6) for price in prices))


def _reshaper(line: Line, what: str) -> Callable[[HistoryBar], HistoryBar]:
    def quote(price: float) -> tuple[float, float]:
        return line.spread.quote(price, line.instrument)

    sides: Mapping[str, Callable[[float], float]] = {
        "BID": lambda price: quote(price)[0],
        "ASK": lambda price: quote(price)[1],
        "MIDPOINT": lambda price: round(sum(quote(price)) / 2, 6),
    }
    if what == "BID_ASK":
        # Open and close are time averages; the average trade price stands for them.
        return lambda bar: _without_volume(
            bar.start_ns,
            quote(bar.vwap)[0],
            quote(bar.high)[1],
            quote(bar.low)[0],
            quote(bar.vwap)[1],
        )
    if what in sides:
        side = sides[what]
        return lambda bar: _without_volume(
            bar.start_ns, side(bar.open), side(bar.high), side(bar.low), side(bar.close)
        )
    return lambda bar: bar


def _without_volume(
    start_ns: int, first: float, high: float, low: float, last: float
) -> HistoryBar:
    return HistoryBar(start_ns, first, high, low, last, volume=-1, vwap=-1.0, n_bars=-1)
