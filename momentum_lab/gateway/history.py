"""Queries for historical bars: what a client may ask for, and which span it means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.line import DAY_S, EPOCH, Array, Line
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
    what = parse_kind(values["what_to_show"], (*WHAT_TO_SHOW, SCHEDULE))
    if what == SCHEDULE and seconds != DAY_S:
        raise invalid("Only daily bars are valid for a schedule")
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


def parse_kind(text: str, known: Sequence[str]) -> str:
    """Return what is to be shown; trades where nothing is said.

    Raises:
        RefusedError: it is none of those known.
    """
    what = text.upper() or "TRADES"
    if what not in known:
        raise invalid(f"Historical data requests for {what} are not supported by this gateway")
    return what


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
        if seconds < DAY_S:
            return _bar_start(start_ns, seconds, hours, regular)
    elif unit == "D":
        start_ns = _days_back(line, number, end_ns=end_ns, hours=hours, rth=rth)
    else:
        first = _calendar_back(hours.day(end_ns), duration)
        start_ns = max(0, hours.instant(first, time(0)))
    return start_ns if seconds < DAY_S else _date_start(start_ns, seconds, hours)


def _date_start(start_ns: int, seconds: int, hours: Hours) -> int:
    """Return where the day, week or month of an instant begins: its bar is told whole."""
    day = hours.day(start_ns)
    if seconds == WEEK_S:
        day -= timedelta(days=day.weekday())
    elif seconds == MONTH_S:
        day = day.replace(day=1)
    return max(0, hours.instant(day, time(0)))


def _bar_start(start_ns: int, seconds: int, hours: Hours, regular: bool) -> int:
    """Return where the first whole bar of a span begins, on the grid of the local day.

    A session opens with a bar of its own, although the grid may begin it earlier: it is whole.
    """
    late_ns = hours.second_of_day(start_ns) % seconds * NS_PER_S + start_ns % NS_PER_S
    session = hours.session(hours.day(start_ns), regular=regular)
    is_whole = not late_ns or (session is not None and start_ns <= session[0])
    return start_ns - late_ns + (0 if is_whole else seconds * NS_PER_S)


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


def no_data(symbol: str, what: str) -> RefusedError:
    """Return the refusal of a query for which the tape holds nothing."""
    kind = what.capitalize()
    return RefusedError(
        HISTORY,
        "Historical Market Data Service error message:HMDS query returned no data: "
        f"{symbol}@SMART {kind}",
    )
