"""Bars of a query, made of a tape's rows and quotes up to the replayed "now".

The last bar is the forming one, as with a real gateway when the end time is empty; a row of the
tape counts once it has ended, so no answer ever shows the future. Volumes are shares (as from
protocol 175 on), the bar count is the number of rows in it.

BID, ASK and MIDPOINT bars are made of the tape's quotes, each beginning with the quote that holds
at its start; where the tape has none they are the spread model applied to the trade prices. A quote
that stands still goes on giving bars to the end of its date's session, while an interval without
trades gives no bar of trades. Bars begin on the grid of the local day; in the regular session the
first one begins with the session. A week's or month's bar carries the date of its first session on
the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.history import MONTH_S, QUOTE_KINDS, WEEK_S, HistoryQuery
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.line import DAY_S, EPOCH, Array, Line, QuoteTrack, groups


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
    places = _places(line, query, until_ns=until_ns)
    if not len(places):
        return []
    if _is_of_quotes(line, query):
        return list(_quote_bars(line, places, query, until_ns=until_ns))
    found = _trade_bars(line, places, query)
    if query.what in QUOTE_KINDS:
        standing = ((bar, partial(flat_bar, bar.close)) for bar in found)
        found = _carried(standing, query, until_ns=until_ns, line=line)
    reshape = _reshaper(line, query.what)
    return [reshape(bar) for bar in found]


def head_ns(line: Line, what: str, *, is_regular: bool, now_ns: int) -> int | None:
    """Return when the first thing began that bars of a kind are made of, None without any."""
    query = HistoryQuery(0, now_ns, DAY_S, is_regular=is_regular, what=what)
    places = _places(line, query, until_ns=now_ns)
    began_ns = line.quotes.at_ns if _is_of_quotes(line, query) else line.start_ns
    return int(began_ns[places[0]]) if len(places) else None


def flat_bar(price: float, start_ns: int) -> HistoryBar:
    """Return the bar of an interval without trades."""
    return HistoryBar(start_ns, price, price, price, price, volume=0, vwap=price, n_bars=0)


def _is_of_quotes(line: Line, query: HistoryQuery) -> bool:
    return query.what in QUOTE_KINDS and len(line.quotes) > 0


def _places(line: Line, query: HistoryQuery, *, until_ns: int) -> Array:
    """Return which rows or quotes of a line the bars of a query are made of.

    Of bars that a standing quote makes also the last one before the query, if it is of its date.
    """
    track: Line | QuoteTrack
    if _is_of_quotes(line, query):
        track = quotes = line.quotes
        began_ns = quotes.at_ns
        usable = {"BID": quotes.bid > 0, "ASK": quotes.ask > 0}
        wanted = usable.get(query.what, quotes.is_two_sided)
    else:
        track, began_ns, wanted = line, line.start_ns, line.is_told
    since = first = int(np.searchsorted(began_ns, query.start_ns, side="left"))
    if query.what in QUOTE_KINDS and query.seconds < DAY_S:
        first_day = (line.hours.day(query.start_ns) - EPOCH).days
        since = int(np.searchsorted(track.day, first_day, side="left"))
    places = np.arange(since, track.n_known(until_ns))
    places = places[wanted[places]]
    if query.is_regular:
        places = places[track.is_regular[places]]
    n_before = int(np.searchsorted(places, first))
    own: Array = places[max(0, n_before - 1) :]
    return own


def _carried(
    found: Iterable[tuple[HistoryBar, Callable[[int], HistoryBar]]],
    query: HistoryQuery,
    *,
    until_ns: int,
    line: Line,
) -> Iterator[HistoryBar]:
    """Yield bars of quotes, and between them those of intervals in which the quote stood still.

    Args:
        found: each bar with what makes a later one, by its start, of the quote at its end.
        query: what was asked for; bars that begin before it are left out.
        until_ns: where they end.
        line: of what.
    """
    pairs = list(found)
    ends_ns = [*(bar.start_ns for bar, _ in pairs[1:]), until_ns]
    for (bar, later), end_ns in zip(pairs, ends_ns, strict=True):
        if bar.start_ns >= query.start_ns:
            yield bar
        for start_ns in _starts_after(bar.start_ns, query, line=line):
            if start_ns >= end_ns:
                break
            if start_ns >= query.start_ns:
                yield later(start_ns)


def _starts_after(start_ns: int, query: HistoryQuery, *, line: Line) -> Iterable[int]:
    """Return where the bars after one begin, to the end of the session of its date."""
    # A tape without extended hours knows no other session than the regular one.
    regular = query.is_regular or not line.has_extended_hours
    session = line.hours.session(line.hours.day(start_ns), regular=regular)
    if query.seconds >= DAY_S or session is None:
        return ()
    step_ns = query.seconds * NS_PER_S
    first_ns = start_ns - line.hours.second_of_day(start_ns) % query.seconds * NS_PER_S + step_ns
    return range(first_ns, session[1], step_ns)


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


def _bar_start(at_ns: int, second_of_day: int, query: HistoryQuery, *, hours: Hours) -> int:
    """Return the start of the bar that an instant falls into."""
    if query.seconds >= DAY_S:
        return at_ns
    start_ns = (at_ns // NS_PER_S - second_of_day % query.seconds) * NS_PER_S
    session = hours.session(hours.day(at_ns)) if query.is_regular else None
    return start_ns if session is None else max(start_ns, session[0])


def _trade_bars(line: Line, rows: Array, query: HistoryQuery) -> Iterator[HistoryBar]:
    first, last = groups(_keys(line.day[rows], line.second_of_day[rows], query.seconds))
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
    line: Line, places: Array, query: HistoryQuery, *, until_ns: int
) -> Iterator[HistoryBar]:
    quotes, what = line.quotes, query.what

    def made(own: Array, start_ns: int) -> HistoryBar:
        end_ns = min(until_ns, start_ns + query.seconds * NS_PER_S)
        return _quote_bar(quotes, own, what, start_ns=start_ns, end_ns=end_ns)

    def found() -> Iterator[tuple[HistoryBar, Callable[[int], HistoryBar]]]:
        keys = _keys(quotes.day[places], quotes.second_of_day[places], query.seconds)
        for a, b in zip(*groups(keys), strict=True):
            at_ns, second = (int(of[places[a]]) for of in (quotes.at_ns, quotes.second_of_day))
            start_ns = _bar_start(at_ns, second, query, hours=line.hours)
            holds = a > 0 and quotes.day[places[a - 1]] == quotes.day[places[a]]
            bar = made(places[a - 1 if holds else a : b + 1], start_ns)
            yield bar, partial(made, places[b : b + 1])

    return _carried(found(), query, until_ns=until_ns, line=line)


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
