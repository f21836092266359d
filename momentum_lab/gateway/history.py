"""Historical bars as the broker answers them, from a tape up to the replayed "now".

The last bar is the forming one, as with a real gateway when the end time is empty; a tape bar
counts once it has ended, so no answer ever shows the future. Volumes are shares (as from
protocol 175 on), the bar count is the number of tape bars in it. BID, ASK and MIDPOINT bars are
the spread model applied to the trade prices; intervals without a trade give no bar of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.hours import REGULAR_FROM_S, REGULAR_UNTIL_S, Hours, find_zone
from momentum_lab.gateway.market import Line
from momentum_lab.gateway.refusal import HISTORY, RefusedError, invalid

DAY_S = 86_400
BAR_SECONDS: Mapping[str, int] = {
    **{f"{n} secs": n for n in (1, 5, 10, 15, 30)},
    "1 min": 60,
    **{f"{n} mins": 60 * n for n in (2, 3, 5, 10, 15, 20, 30)},
    "1 hour": 3600,
    **{f"{n} hours": 3600 * n for n in (2, 3, 4, 8)},
    "1 day": DAY_S,
}
_SPELLINGS: Mapping[str, str] = {"1 sec": "1 secs", "1 mins": "1 min", "1 hours": "1 hour"}
WHAT_TO_SHOW = ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST")
_DURATION = re.compile(r"^\s*(\d+)\s*([SDWMY])?\s*$", re.IGNORECASE)
_CALENDAR_DAYS: Mapping[str, int] = {"W": 7, "M": 30, "Y": 365}
_MAX_DURATION = 100_000


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """One request for bars, checked.

    Attributes:
        start_ns: first bar starts here or later.
        end_ns: bars of trades up to here.
        seconds: length of a bar; 86400 is a local date.
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
    if what not in WHAT_TO_SHOW:
        raise invalid(f"Historical data requests for {what} are not supported by this gateway")
    end_ns = parse_end(str(values["end_date_time"] or ""), hours=hours, now_ns=now_ns)
    is_regular = bool(values["use_rth"])
    start_ns = _start(str(values["duration"]), end_ns, hours=hours, line=line, regular=is_regular)
    return HistoryQuery(
        # Bars begin on the grid: the first whole one at or after the start of the span.
        start_ns=-(-start_ns // (seconds * NS_PER_S)) * seconds * NS_PER_S
        if seconds < DAY_S
        else start_ns,
        end_ns=end_ns,
        seconds=seconds,
        is_regular=is_regular,
        what=what,
        with_epoch=int(values["format_date"] or 1) == 2,  # noqa: PLR2004 - the protocol's number
    )


def parse_end(text: str, *, hours: Hours, now_ns: int) -> int:
    """Return the end of a query, never later than now.

    Spellings: empty (now), "20131009 14:00:00 US/Eastern", "20131009-18:00:00" (UTC),
    "20131009 14:00:00" (the tape's zone), "20131009" (end of that day).

    Raises:
        RefusedError: none of these.
    """
    if not text.strip():
        return now_ns
    try:
        asked_s = round(_moment(text.strip(), hours).timestamp())
    except (ValueError, OverflowError) as error:
        raise invalid(f"Invalid end date/time format: {text}") from error
    return min(now_ns, max(0, asked_s) * NS_PER_S)


def bars(line: Line, query: HistoryQuery, *, now_ns: int) -> list[HistoryBar]:
    """Return the bars of a query in time order; none of them knows anything after `now_ns`."""
    until = line.n_known(min(query.end_ns, now_ns))
    since = int(np.searchsorted(line.start_ns, query.start_ns, side="left"))
    rows = np.arange(since, until)
    if query.is_regular:
        seconds = line.second_of_day[since:until]
        rows = rows[(seconds >= REGULAR_FROM_S) & (seconds < REGULAR_UNTIL_S)]
    if not len(rows):
        return []
    reshape = _reshaper(line, query.what)
    return [reshape(bar) for bar in _aggregated(line, rows, query.seconds)]


def time_text(start_ns: int, query: HistoryQuery, *, hours: Hours, with_zone: bool) -> str:
    """Return a bar's time as the client asked for it."""
    if query.seconds >= DAY_S:
        return f"{hours.day(start_ns):%Y%m%d}"
    if query.with_epoch:
        return str(start_ns // NS_PER_S)
    return hours.text(start_ns, with_zone=with_zone)


def _moment(text: str, hours: Hours) -> datetime:
    parts = text.split()
    if len(parts) == 3:  # noqa: PLR2004 - date, time, zone
        parsed = datetime.strptime(" ".join(parts[:2]), "%Y%m%d %H:%M:%S")  # noqa: DTZ007
        return parsed.replace(tzinfo=find_zone(parts[2]))
    if "-" in text:
        parsed = datetime.strptime(text, "%Y%m%d-%H:%M:%S")  # noqa: DTZ007 - zone follows
        return parsed.replace(tzinfo=timezone.utc)
    if len(parts) == 1:
        return _local(text, "%Y%m%d", hours) + timedelta(days=1)
    return _local(" ".join(parts), "%Y%m%d %H:%M:%S", hours)


def _local(text: str, layout: str, hours: Hours) -> datetime:
    parsed = datetime.strptime(text, layout)  # noqa: DTZ007 - the zone is the next line's
    return parsed.replace(tzinfo=find_zone(hours.zone_name))


def _start(duration: str, end_ns: int, *, hours: Hours, line: Line, regular: bool) -> int:
    match = _DURATION.match(duration)
    n_units = int(match.group(1)) if match else 0
    if match is None or not 0 < n_units <= _MAX_DURATION:
        raise invalid(f"Historical data query duration is invalid: {duration}")
    unit = (match.group(2) or "S").upper()
    if unit == "S":
        # A tape without extended hours knows no other session time than the regular one.
        regular = regular or not line.has_extended_hours
        return hours.back(end_ns, seconds=n_units, regular=regular)
    if unit == "D":
        return _days_back(line, n_units, end_ns=end_ns)
    return max(0, end_ns - n_units * _CALENDAR_DAYS[unit] * DAY_S * NS_PER_S)


def _days_back(line: Line, n_days: int, *, end_ns: int) -> int:
    """Start of the n-th last date that has trades: days without trades do not count."""
    n_known = line.n_known(end_ns)
    if not n_known:
        return end_ns
    days, first_rows = np.unique(line.day[:n_known], return_index=True)
    return int(line.start_ns[first_rows[max(0, len(days) - n_days)]])


def _aggregated(line: Line, rows: np.ndarray[Any, Any], seconds: int) -> Iterator[HistoryBar]:
    keys = line.day[rows] if seconds >= DAY_S else line.start_ns[rows] // (seconds * NS_PER_S)
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    last = np.concatenate((first[1:], [len(rows)])) - 1
    volume = np.add.reduceat(line.volume[rows], first)
    paid = np.add.reduceat(line.volume[rows] * line.close[rows], first)
    high = np.maximum.reduceat(line.high[rows], first)
    low = np.minimum.reduceat(line.low[rows], first)
    for n, (a, b) in enumerate(zip(first, last, strict=True)):
        start_ns = int(line.start_ns[rows[a]])
        yield HistoryBar(
            start_ns=start_ns if seconds >= DAY_S else int(keys[a]) * seconds * NS_PER_S,
            open=float(line.open[rows[a]]),
            high=float(high[n]),
            low=float(low[n]),
            close=float(line.close[rows[b]]),
            volume=int(volume[n]),
            vwap=round(float(paid[n] / volume[n]), 6) if volume[n] else float(line.close[rows[b]]),
            n_bars=int(b - a + 1),
        )


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
            bar, quote(bar.vwap)[0], quote(bar.high)[1], quote(bar.low)[0], quote(bar.vwap)[1]
        )
    if what in sides:
        side = sides[what]
        return lambda bar: _without_volume(
            bar, side(bar.open), side(bar.high), side(bar.low), side(bar.close)
        )
    return lambda bar: bar


def _without_volume(
    bar: HistoryBar, first: float, high: float, low: float, last: float
) -> HistoryBar:
    return HistoryBar(bar.start_ns, first, high, low, last, volume=-1, vwap=-1.0, n_bars=-1)


def no_data(symbol: str, what: str) -> RefusedError:
    """Return the refusal of a query for which the tape holds nothing."""
    kind = what.capitalize()
    return RefusedError(
        HISTORY,
        "Historical Market Data Service error message:HMDS query returned no data: "
        f"{symbol}@SMART {kind}",
    )
