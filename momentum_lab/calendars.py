"""Exchange calendars as plain values: when a session opens and closes, half days included."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import DataError

NEW_YORK = "America/New_York"
_NEW_YORK = ZoneInfo(NEW_YORK)
_HOUR_NS = 3600 * NS_PER_S


def find_zone(name: str) -> ZoneInfo:
    """Return the zone of an IANA name.

    Raises:
        ValueError: there is none; zoneinfo itself has three different ways to say so.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {name!r}") from error


@dataclass(frozen=True, slots=True)
class TradingSession:
    """One regular session, UTC epoch nanoseconds.

    Attributes:
        open_ns: the opening bell.
        close_ns: the closing bell; early on a half day.
    """

    open_ns: int
    close_ns: int

    @property
    def bells_ns(self) -> tuple[int, int]:
        """Opening and closing bell."""
        return self.open_ns, self.close_ns

    def holds(self, at_ns: int) -> bool:
        """Whether an instant lies in the session."""
        return self.open_ns <= at_ns < self.close_ns


def _exchange_calendars() -> Any:
    # Imported late: the package takes seconds to load, and a rule needs no calendar.
    import exchange_calendars  # noqa: PLC0415

    return exchange_calendars


@lru_cache(maxsize=16)
def _year(year: int) -> Any:
    exchange_calendars = _exchange_calendars()
    with warnings.catch_warnings():
        # The package uses what pandas will change in version 4; its readers cannot help that.
        warnings.simplefilter("ignore", DeprecationWarning)
        # A calendar answers between its first and last session only: a few weeks to spare.
        return exchange_calendars.get_calendar(
            "XNYS", start=f"{year - 1}-12-15", end=f"{year + 1}-01-15"
        )


def prepare_calendar(at_ns: int | None) -> None:
    """Load what answers about sessions, which takes a second, before somebody waits for it.

    Args:
        at_ns: an instant of the year that will be asked about; None where it is not known yet.
    """
    if at_ns is None:
        _exchange_calendars()
    else:
        session_on_day_of(at_ns)


def day_start_ns(at_ns: int) -> int:
    """Return the New York midnight with which the day of an instant begins."""
    return _day_start_of_hour_ns(at_ns // _HOUR_NS)


def session_on_day_of(at_ns: int) -> TradingSession | None:
    """Return the New York session on the New York date of an instant; None on a holiday.

    Raises:
        DataError: the date lies beyond what the calendar knows.

    Source: the XNYS calendar of `exchange_calendars`.
    """
    return session_on_date(_date_of_hour(at_ns // _HOUR_NS))


# New York is whole hours off, and changes on the hour.
@lru_cache(maxsize=512)
def _date_of_hour(hour: int) -> date:
    """Return the New York date of an hour, counted since 1970 in UTC."""
    at = datetime.fromtimestamp(hour * (_HOUR_NS // NS_PER_S), tz=timezone.utc)
    return at.astimezone(_NEW_YORK).date()


@lru_cache(maxsize=512)
def _day_start_of_hour_ns(hour: int) -> int:
    midnight = datetime.combine(_date_of_hour(hour), time(), tzinfo=_NEW_YORK)
    return int(midnight.timestamp()) * NS_PER_S


@lru_cache(maxsize=512)
def session_on_date(day: date) -> TradingSession | None:
    """Return the New York session of a date; None on a holiday.

    Raises:
        DataError: the date lies beyond what the calendar knows.
    """
    try:
        calendar = _year(day.year)
    except ValueError as error:
        raise DataError(f"no exchange calendar for {day.year}: {error}") from error
    label = pd.Timestamp(day)
    if not calendar.is_session(label):
        return None
    return TradingSession(
        _epoch_ns(calendar.session_open(label)), _epoch_ns(calendar.session_close(label))
    )


def _epoch_ns(at: pd.Timestamp) -> int:
    return int(at.timestamp()) * NS_PER_S
