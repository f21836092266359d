from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from momentum_lab.calendars import NEW_YORK, TradingSession, day_start_ns, session_on_day_of
from momentum_lab.core.market import NS_PER_S

ZONE = ZoneInfo(NEW_YORK)
HOUR_NS = 3600 * NS_PER_S


def _at(text: str) -> int:
    """An instant by its New York clock, as "2013-10-09 14:00"."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()) * NS_PER_S


def _session(date: str, opens: str = "09:30", closes: str = "16:00") -> TradingSession:
    return TradingSession(_at(f"{date} {opens}"), _at(f"{date} {closes}"))


@pytest.mark.parametrize(
    "date",
    [
        "2013-10-09",
        "2014-06-09",
        "2024-03-11",  # the first session of summer time
        "2024-11-04",  # the first of winter time
        "2025-12-31",
    ],
)
def test_a_normal_day_is_open_from_half_past_nine_to_four(date: str) -> None:
    assert session_on_day_of(_at(f"{date} 12:00")) == _session(date)


@pytest.mark.parametrize("date", ["2015-12-24", "2024-07-03", "2024-11-29"])
def test_a_half_day_closes_at_one(date: str) -> None:
    assert session_on_day_of(_at(f"{date} 12:00")) == _session(date, closes="13:00")


@pytest.mark.parametrize(
    "date",
    [
        "2015-12-25",
        "2013-11-28",
        "2013-10-12",  # a Saturday
        "2013-10-13",  # a Sunday
        "2025-01-09",  # a day of mourning
    ],
)
def test_a_holiday_has_no_session(date: str) -> None:
    assert session_on_day_of(_at(f"{date} 12:00")) is None


@pytest.mark.parametrize(
    "date", ["2013-01-01", "2022-01-01", "2023-01-02", "2022-12-31", "2023-12-31"]
)
def test_a_holiday_at_the_edge_of_a_year_has_no_session(date: str) -> None:
    assert session_on_day_of(_at(f"{date} 12:00")) is None


@pytest.mark.parametrize("time", ["00:00", "08:00", "15:59", "16:00", "23:59"])
def test_the_day_is_the_new_york_day(time: str) -> None:
    assert session_on_day_of(_at(f"2013-10-09 {time}")) == _session("2013-10-09")


def test_the_evening_in_new_york_is_not_tomorrow() -> None:
    late = _at("2013-10-11 21:00")  # Saturday already in UTC

    assert session_on_day_of(late) == _session("2013-10-11")


def test_a_session_holds_its_first_instant_and_not_its_last() -> None:
    session = _session("2013-10-09")

    assert session.holds(session.open_ns)
    assert session.holds(session.close_ns - 1)
    assert not session.holds(session.open_ns - 1)
    assert not session.holds(session.close_ns)


def test_a_half_day_does_not_hold_the_afternoon() -> None:
    session = session_on_day_of(_at("2015-12-24 10:00"))

    assert session is not None
    assert session.holds(_at("2015-12-24 12:59"))
    assert not session.holds(_at("2015-12-24 14:00"))
    assert session.close_ns - session.open_ns == 3.5 * HOUR_NS


@pytest.mark.parametrize(
    "at",
    [
        "2013-10-09 00:00",
        "2013-10-09 23:59",
        "2024-03-10 12:00",  # a day of 23 hours
        "2024-11-03 01:30",  # an hour that comes twice
        "2024-11-03 12:00",  # a day of 25 hours
    ],
)
def test_a_day_begins_at_midnight_of_new_york(at: str) -> None:
    assert day_start_ns(_at(at)) == _at(f"{at[:10]} 00:00")
    assert day_start_ns(day_start_ns(_at(at)) - 1) < day_start_ns(_at(at))
