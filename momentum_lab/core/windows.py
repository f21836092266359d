"""The hours in which the broker may be away by plan; nothing is entered in them.

Four of them, each read off a wall clock in its own zone, so that daylight saving needs no care:

- the broker's nightly reset, in the region whose data centre serves the account;
- its weekend maintenance, the same for all regions;
- the daily restart of TWS or IB Gateway, at the time that was set there;
- the weekly login: the token that carries a restart past the login window ends early on Sunday, and
  from then on somebody has to confirm the login on a phone.

Where a wall clock shows a time twice, or never, a window is taken at its widest.

Sources: resets and weekend, IBKR's page "System Status" (Sunday to Friday, and Friday evening; the
hours of a Saturday lie in the weekend's, so they are listed for every day here). The weekly login,
IBKR's guide to TWS, "Auto Restart Considerations".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from operator import attrgetter
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.shock import check_choice
from momentum_lab.core.signal import Decision, Reason, passed
from momentum_lab.core.tunable import check_tunables, described, tunable
from momentum_lab.errors import ParameterError

Region = Literal["north-america", "europe", "asia-pacific"]

_NEW_YORK = "America/New_York"
_WALL_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_S_PER_DAY = 86_400
_S_PER_MIN = 60
_FRIDAY, _SUNDAY = 4, 6
# No chain of windows that touch is longer than from Friday night to Sunday evening.
_DAYS_AROUND = 4

# region -> (zone, from, until) of each reset of a day
RESETS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "north-america": ((_NEW_YORK, "00:15", "01:45"),),
    "europe": (("Europe/Berlin", "06:25", "07:45"),),
    "asia-pacific": (
        ("Asia/Hong_Kong", "04:45", "06:05"),
        ("Asia/Hong_Kong", "20:15", "21:15"),
    ),
}
_WEEKEND = ("23:00", "03:00")
_TOKEN_ENDS = "01:00"  # noqa: S105 - an hour, not a secret


@dataclass(frozen=True, slots=True)
class WindowParameters:
    """When the broker may be away by plan, so that nothing is entered."""

    region: Region = described(
        "north-america", meaning=f"data centre of the account: {', '.join(RESETS)}"
    )
    gateway_restart: str = described(
        "23:45", meaning="HH:MM, daily restart as set in TWS or Gateway; empty: none"
    )
    gateway_restart_zone: str = described(_NEW_YORK, meaning="zone of that time, an IANA name")
    restart_before_s: float = tunable(
        60.0, unit="s", low=0, high=3600, step=10, meaning="no entry this before the restart"
    )
    restart_after_s: float = tunable(
        300.0, unit="s", low=0, high=3600, step=30, meaning="no entry this after it began"
    )
    reset_before_s: float = tunable(
        300.0,
        unit="s",
        low=0,
        high=3600,
        step=30,
        meaning="no entry this before a nightly reset or the weekend",
    )
    weekend: bool = described(
        True, meaning="the broker's maintenance, Friday 23:00 to Saturday 03:00 New York"
    )
    sunday_login: bool = described(
        True, meaning="from Sunday 01:00 New York on somebody has to log in again"
    )
    sunday_login_until: str = described(
        "18:00", meaning="HH:MM New York, when that has been done at the latest"
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range, and times and zones that are none."""
        check_tunables(self, prefix="windows.")
        check_choice("windows.region", self.region, tuple(RESETS))
        for key in ("weekend", "sunday_login"):
            if not isinstance(getattr(self, key), bool):
                raise ParameterError(
                    f"windows.{key}: expected true or false, found {getattr(self, key)!r}"
                )
        if self.gateway_restart:
            _check_wall_time("windows.gateway_restart", self.gateway_restart)
        _check_wall_time("windows.sunday_login_until", self.sunday_login_until)
        if self.sunday_login_until <= _TOKEN_ENDS:
            raise ParameterError(
                f"windows.sunday_login_until: expected a time after {_TOKEN_ENDS}, found"
                f" {self.sunday_login_until!r}"
            )
        _check_zone("windows.gateway_restart_zone", self.gateway_restart_zone)


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """A stretch of time in which the broker may be away by plan, UTC epoch nanoseconds.

    Attributes:
        name: what happens in it.
        start_ns: its first instant, the margin before it included.
        end_ns: the first instant after it.
    """

    name: str
    start_ns: int
    end_ns: int

    def holds(self, at_ns: int) -> bool:
        """Whether an instant lies in it."""
        return self.start_ns <= at_ns < self.end_ns


def window_at(now_ns: int, parameters: WindowParameters) -> QuietWindow | None:
    """Return the window that an instant lies in, None outside of all.

    Windows that touch or overlap are one, named after the one that ends last.
    """
    day = now_ns // NS_PER_S // _S_PER_DAY
    windows = _windows(day, parameters)
    n_begun = bisect_right(windows, now_ns, key=attrgetter("start_ns"))
    # They are apart and in order: only the last one that has begun may hold it.
    return windows[n_begun - 1] if n_begun and windows[n_begun - 1].holds(now_ns) else None


def refuse_window(now_ns: int, parameters: WindowParameters) -> Decision | None:
    """Return the decision not to enter in a window of the broker, None outside of all.

    Args:
        now_ns: market time.
        parameters: region, restart and margins.
    """
    window = window_at(now_ns, parameters)
    if window is None:
        return None
    left_min = (window.end_ns - now_ns) / NS_PER_S / _S_PER_MIN
    until = _utc(window.end_ns).astimezone(ZoneInfo(_NEW_YORK))
    return passed(
        Reason.BROKER_WINDOW,
        f"{window.name}: nothing is entered until {until:%a %H:%M} New York",
        observed=left_min,
        limit=0.0,
        unit="min to its end",
    )


@lru_cache(maxsize=64)
def _windows(day: int, parameters: WindowParameters) -> tuple[QuietWindow, ...]:
    """Return the windows round a day, counted since 1970 in UTC, joined and in time order."""
    middle = date(1970, 1, 1) + timedelta(days=day)
    days = [middle + timedelta(days=n) for n in range(-_DAYS_AROUND, _DAYS_AROUND + 1)]
    found = [
        *_resets(days, parameters),
        *_restarts(days, parameters),
        *_weekends(days, parameters),
        *_logins(days, parameters),
    ]
    return _joined(sorted(found, key=lambda window: window.start_ns))


def _resets(days: Sequence[date], parameters: WindowParameters) -> Iterator[QuietWindow]:
    for zone, start, end in RESETS[parameters.region]:
        for day in days:
            start_ns = _first_ns(day, start, zone) - _ns(parameters.reset_before_s)
            yield QuietWindow("the broker's nightly reset", start_ns, _last_ns(day, end, zone))


def _restarts(days: Sequence[date], parameters: WindowParameters) -> Iterator[QuietWindow]:
    at, zone = parameters.gateway_restart, parameters.gateway_restart_zone
    for day in days if at else ():
        start_ns = _first_ns(day, at, zone) - _ns(parameters.restart_before_s)
        end_ns = _last_ns(day, at, zone) + _ns(parameters.restart_after_s)
        yield QuietWindow("the gateway's daily restart", start_ns, end_ns)


def _weekends(days: Sequence[date], parameters: WindowParameters) -> Iterator[QuietWindow]:
    start, end = _WEEKEND
    for day in days:
        if parameters.weekend and day.weekday() == _FRIDAY:
            start_ns = _first_ns(day, start, _NEW_YORK) - _ns(parameters.reset_before_s)
            end_ns = _last_ns(day + timedelta(days=1), end, _NEW_YORK)
            yield QuietWindow("the broker's weekend maintenance", start_ns, end_ns)


def _logins(days: Sequence[date], parameters: WindowParameters) -> Iterator[QuietWindow]:
    for day in days:
        if parameters.sunday_login and day.weekday() == _SUNDAY:
            start_ns = _first_ns(day, _TOKEN_ENDS, _NEW_YORK)
            end_ns = _last_ns(day, parameters.sunday_login_until, _NEW_YORK)
            yield QuietWindow("the weekly login", start_ns, end_ns)


def _joined(windows: Sequence[QuietWindow]) -> tuple[QuietWindow, ...]:
    joined: list[QuietWindow] = []
    for window in windows:
        if window.start_ns >= window.end_ns:
            continue
        if not joined or window.start_ns > joined[-1].end_ns:
            joined.append(window)
            continue
        last = max(joined[-1], window, key=lambda one: one.end_ns)
        joined[-1] = QuietWindow(last.name, joined[-1].start_ns, last.end_ns)
    return tuple(joined)


def _first_ns(day: date, wall_time: str, zone: str) -> int:
    return min(_readings_ns(day, wall_time, zone))


def _last_ns(day: date, wall_time: str, zone: str) -> int:
    return max(_readings_ns(day, wall_time, zone))


def _readings_ns(day: date, wall_time: str, zone: str) -> list[int]:
    """Return when a clock in a zone shows a time: once, or at two instants round a change."""
    at = datetime.combine(day, time.fromisoformat(wall_time), tzinfo=ZoneInfo(zone))
    return [int(at.replace(fold=fold).timestamp()) * NS_PER_S for fold in (0, 1)]


def _ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)


def _utc(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // NS_PER_S, tz=timezone.utc)


def _check_wall_time(key: str, value: str) -> None:
    if not _WALL_TIME.fullmatch(str(value)):
        raise ParameterError(f"{key}: expected a time as HH:MM, found {value!r}")


def _check_zone(key: str, value: str) -> None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ParameterError(
            f"{key}: expected a zone such as {_NEW_YORK}, found {value!r}"
        ) from error
