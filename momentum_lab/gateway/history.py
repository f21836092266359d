"""Historical bars as the broker answers them, from a tape up to the replayed "now".

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

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.line import DAY_S, EPOCH, Array, Line, QuoteTrack
from momentum_lab.gateway.refusal import BAD_DATE, HISTORY, RefusedError, invalid

WEEK_S, MONTH_S = 7 * DAY_S, 30 * DAY_S
BAR_SECONDS: Mapping[str, int] = {
    **{f"{n} secs": n for n in (1, 5, 10, 15, 30)},
    "1 min": 60,
    **{f"{n} mins": 60 * n for n in (2, 3, 5, 10, 15, 20, 30)},
    "1 hour": 3600,
    **{f"{n} hours": 3600 * n for n in (2, 3, 4, 8)},
    "1 day": DAY_S,
    "1 week": WEEK_S,
    "1 month": MONTH_S,
}
_SPELLINGS: Mapping[str, str] = {
    "1 sec": "1 secs",
    "1 mins": "1 min",
    "1 hours": "1 hour",
    **dict.fromkeys(("1w", "1 weeks"), "1 week"),
    **dict.fromkeys(("1m", "1 months"), "1 month"),
    **dict.fromkeys(("1d", "1 days"), "1 day"),
}
SCHEDULE = "SCHEDULE"
WHAT_TO_SHOW = ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST")
QUOTE_KINDS = frozenset({"MIDPOINT", "BID", "ASK", "BID_ASK"})
KEPT_KINDS = frozenset({"TRADES", "MIDPOINT", "BID", "ASK"})
_DURATION = re.compile(r"^\s*(\d+)\s*([SDWMY])?\s*$", re.IGNORECASE)
# Unit of a duration -> (most of them, its name, the next larger unit's, finest bars).
_LIMITS: Mapping[str, tuple[int, str, str, int]] = {
    "S": (86_400, "seconds", "days", 1),
    "D": (365, "days", "years", 5),
    "W": (52, "weeks", "years", 10),
    "M": (12, "months", "years", 30),
    "Y": (68, "years", "nothing longer", 60),
}
_DATE = re.compile(r"^\d{8}$")
_BAD_DATE_CAUSE = (
    "Error validating request.-'bM' : cause - End Date/Time: The date, time, or time-zone entered "
    "is invalid. The correct format is yyyymmdd hh:mm:ss xx/xxxx where yyyymmdd and xx/xxxx are "
    "optional, or yyyymmdd-hh:mm:ss in UTC: "
)
_MOST_SECONDS_OF_SECOND_BARS = 2_000
_MONTHS_OF_YEAR = 12


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """One request for bars, checked.

    Attributes:
        start_ns: first bar starts here or later.
        end_ns: bars of trades up to here.
        seconds: length of a bar; 86400 is a local date, `WEEK_S` and `MONTH_S` its week and month.
        is_regular: only the regular session.
        what: one of `WHAT_TO_SHOW`.
        with_epoch: times as epoch seconds instead of local text.
    """

    start_ns: int
    end_ns: int
    seconds: int
    is_regular: bool
    what: str = "TRADES"
    with_epoch: bool = False


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


def parse_query(
    values: Mapping[str, Any], *, line: Line, hours: Hours, now_ns: int
) -> HistoryQuery:
    """Check the values of a reqHistoricalData request.

    Raises:
        RefusedError: a value is unknown or out of range.
    """
    size = str(values["bar_size"]).strip().lower()
    seconds = BAR_SECONDS.get(_SPELLINGS.get(size, size))
    if seconds is None:
        raise invalid(f"Historical data bar size setting is invalid: {size}")
    what = str(values["what_to_show"] or "TRADES").upper()
    if what == SCHEDULE and seconds != DAY_S:
        raise invalid("Only daily bars are valid for a schedule")
    if what not in (*WHAT_TO_SHOW, SCHEDULE):
        raise invalid(f"Historical data requests for {what} are not supported by this gateway")
    end_text = str(values["end_date_time"] or "")
    if what == "ADJUSTED_LAST" and end_text.strip():
        raise invalid("End date not supported with adjusted last")
    end_ns = parse_end(end_text, hours=hours, now_ns=now_ns)
    is_regular = bool(values["use_rth"])
    duration = parse_duration(str(values["duration"]), bar_seconds=seconds)
    start_ns = _start(duration, end_ns, seconds=seconds, hours=hours, line=line, rth=is_regular)
    if what == SCHEDULE and duration.unit == "D":
        start_ns = _sessions_back(duration.number, end_ns, hours=hours)
    return HistoryQuery(
        start_ns=start_ns,
        end_ns=end_ns,
        seconds=seconds,
        is_regular=is_regular,
        what=what,
        with_epoch=int(values["format_date"] or 1) == 2,  # noqa: PLR2004 - the protocol's number
    )


class Duration(NamedTuple):
    """How far back a query goes: so many seconds, days, weeks, months or years."""

    number: int
    unit: str


def parse_duration(text: str, *, bar_seconds: int) -> Duration:
    """Read a duration such as "1800 S" or "2 D"; a number alone is seconds.

    Raises:
        RefusedError: it is none, too long for its unit, or the bars are too fine for it.
    """
    match = _DURATION.match(text)
    count = int(match.group(1)) if match else 0
    if match is None or not count:
        raise invalid(f"Historical data query duration is invalid: {text}")
    unit = (match.group(2) or "S").upper()
    most, name, larger, finest_s = _LIMITS[unit]
    if count > most:
        raise invalid(
            f"Historical data requests for durations longer than {most} {name} "
            f"must be made in {larger}."
        )
    too_many = bar_seconds == 1 and count > _MOST_SECONDS_OF_SECOND_BARS
    if bar_seconds < finest_s or too_many:
        raise RefusedError(
            HISTORY,
            "Historical Market Data Service error message:invalid step: "
            f"bars of {bar_seconds} s over {count} {unit}",
        )
    return Duration(count, unit)


def parse_end(text: str, *, hours: Hours, now_ns: int) -> int:
    """Return the end of a query, never later than now.

    Spellings: empty (now), "20131009" (end of that day), and those of `Hours.moment`.

    Raises:
        RefusedError: none of these.
    """
    text = text.strip()
    if not text:
        return now_ns
    try:
        if _DATE.match(text):
            day = datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
            asked_ns = hours.instant(day + timedelta(days=1), time(0))
        else:
            asked_ns = round(hours.moment(text, now_ns=now_ns).timestamp()) * NS_PER_S
    except (ValueError, OverflowError) as error:
        raise RefusedError(BAD_DATE, f"{_BAD_DATE_CAUSE}{text}") from error
    return min(now_ns, max(0, asked_ns))


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


def time_text(start_ns: int, query: HistoryQuery, *, hours: Hours, with_zone: bool) -> str:
    """Return a bar's time as the client asked for it."""
    if query.seconds >= DAY_S:
        return f"{hours.day(start_ns):%Y%m%d}"
    if query.with_epoch:
        return str(start_ns // NS_PER_S)
    return hours.text(start_ns, with_zone=with_zone)


def _start(
    duration: Duration, end_ns: int, *, seconds: int, hours: Hours, line: Line, rth: bool
) -> int:
    number, unit = duration
    if unit == "S":
        # A tape without extended hours knows no other session time than the regular one.
        regular = rth or not line.has_extended_hours
        start_ns = hours.back(end_ns, seconds=number, regular=regular)
        # Bars begin on the grid: the first whole one at or after the start of the span.
        grid_ns = seconds * NS_PER_S
        return start_ns if seconds >= DAY_S else -(-start_ns // grid_ns) * grid_ns
    if unit == "D":
        return _days_back(line, number, end_ns=end_ns, hours=hours, rth=rth)
    return max(0, hours.instant(_calendar_back(hours.day(end_ns), duration), time(0)))


def _calendar_back(day: date, duration: Duration) -> date:
    number, unit = duration
    if unit == "W":
        return day - timedelta(days=7 * number)
    months = number if unit == "M" else _MONTHS_OF_YEAR * number
    year, month = divmod(day.year * _MONTHS_OF_YEAR + day.month - 1 - months, _MONTHS_OF_YEAR)
    first = date(max(1, year), month + 1, 1)
    # Back from the 31st to a month without one: its last day.
    return first + timedelta(days=min(day.day, _days_in(first)) - 1)


def _days_in(first_of_month: date) -> int:
    return ((first_of_month + timedelta(days=31)).replace(day=1) - first_of_month).days


def _days_back(line: Line, n_days: int, *, end_ns: int, hours: Hours, rth: bool) -> int:
    """Start of the n-th last date on which anything happened in the hours asked for."""
    known: list[Array] = []
    for track in (line, line.quotes):
        own = slice(track.n_known(end_ns))
        known.append(track.day[own][track.is_regular[own]] if rth else track.day[own])
    days = np.unique(np.concatenate(known))
    if not len(days):
        return end_ns
    day = EPOCH + timedelta(days=int(days[max(0, len(days) - n_days)]))
    return hours.instant(day, time(0))


def _sessions_back(number: int, end_ns: int, *, hours: Hours) -> int:
    """Return the start of the n-th last date with a session, whether the tape knows it or not."""
    day = hours.day(end_ns - 1)
    while True:
        number -= hours.session(day) is not None
        if not number:
            return hours.instant(day, time(0))
        day -= timedelta(days=1)


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


def no_data(symbol: str, what: str) -> RefusedError:
    """Return the refusal of a query for which the tape holds nothing."""
    kind = what.capitalize()
    return RefusedError(
        HISTORY,
        "Historical Market Data Service error message:HMDS query returned no data: "
        f"{symbol}@SMART {kind}",
    )
