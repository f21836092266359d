from __future__ import annotations

from datetime import date, datetime, timezone

import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.hours import Hours
from tests.gateway_factories import CLOSE, DAY_NS, NOON, OPEN

HOURS = Hours("America/New_York")


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * NS_PER_S


def test_the_regular_session_holds_its_opening_and_not_its_close() -> None:
    assert HOURS.is_regular(OPEN)
    assert HOURS.is_regular(CLOSE - 1)
    assert not HOURS.is_regular(OPEN - 1)
    assert not HOURS.is_regular(CLOSE)


def test_a_weekend_has_no_session() -> None:
    assert HOURS.session(date(2013, 10, 12)) is None
    assert not HOURS.is_regular(NOON + 3 * DAY_NS)


def test_the_next_opening_after_friday_is_on_monday() -> None:
    friday_close = CLOSE + 2 * DAY_NS
    assert HOURS.next_open_ns(friday_close) == OPEN + 5 * DAY_NS


def test_the_next_close_on_a_weekend_is_mondays() -> None:
    assert HOURS.next_close_ns(NOON + 3 * DAY_NS) == CLOSE + 5 * DAY_NS


def test_local_midnight_follows_daylight_saving() -> None:
    # The United States left daylight saving on 2013-11-03.
    assert HOURS.day(instant("2013-11-02T04:00:00")) == date(2013, 11, 2)
    assert HOURS.day(instant("2013-11-04T04:59:59")) == date(2013, 11, 3)
    assert HOURS.day(instant("2013-11-04T05:00:00")) == date(2013, 11, 4)


def test_seconds_of_regular_sessions_reach_into_the_day_before() -> None:
    found = HOURS.back(OPEN + 600 * NS_PER_S, seconds=1800, regular=True)
    assert found == CLOSE - DAY_NS - 1200 * NS_PER_S


def test_seconds_within_one_session_are_plain_subtraction() -> None:
    assert HOURS.back(NOON, seconds=60, regular=True) == NOON - 60 * NS_PER_S


def test_times_are_written_as_tws_does() -> None:
    assert HOURS.text(NOON) == "20131009 12:00:00 America/New_York"
    assert HOURS.text(NOON, with_zone=False) == "20131009  12:00:00"


@pytest.mark.parametrize("name", ["Mars/Olympus", "America", "../etc/passwd", ""])
def test_an_unknown_zone_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="zone"):
        Hours(name)


def test_a_holiday_has_no_session() -> None:
    # Thanksgiving of 2013.
    assert HOURS.session(date(2013, 11, 28)) is None
    assert HOURS.next_open_ns(instant("2013-11-27T21:00:00")) == instant("2013-11-29T14:30:00")


def test_a_half_day_ends_at_one_and_its_trading_hours_at_five() -> None:
    day = date(2015, 12, 24)
    assert HOURS.session(day) == (instant("2015-12-24T14:30:00"), instant("2015-12-24T18:00:00"))
    whole = HOURS.session(day, regular=False)
    assert whole == (instant("2015-12-24T09:00:00"), instant("2015-12-24T22:00:00"))
    assert not HOURS.is_regular(instant("2015-12-24T18:00:00"))
    assert HOURS.next_close_ns(instant("2015-12-24T15:00:00")) == instant("2015-12-24T18:00:00")


def test_another_zone_knows_weekdays() -> None:
    hours = Hours("Asia/Tokyo")
    assert hours.session(date(2013, 11, 28)) == (
        instant("2013-11-28T00:30:00"),
        instant("2013-11-28T07:00:00"),
    )
    assert hours.session(date(2013, 11, 30)) is None


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("20131009 14:00:00 US/Eastern", "2013-10-09T18:00:00"),
        ("20131009-14:00:00 US/Eastern", "2013-10-09T18:00:00"),
        ("20131009-14:00:00", "2013-10-09T14:00:00"),
        (" 20131009  14:00:00", "2013-10-09T18:00:00"),
        ("14:00:00", "2013-10-09T18:00:00"),
        ("14:00:00 UTC", "2013-10-09T14:00:00"),
    ],
)
def test_a_moment_is_read_in_every_spelling(text: str, utc: str) -> None:
    assert HOURS.moment(text, now_ns=NOON).timestamp() * NS_PER_S == instant(utc)


@pytest.mark.parametrize(
    "text", ["", "20131009", "20131009 14:00", "-14:00:00", "20131309 14:00:00"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        HOURS.moment(text, now_ns=NOON)
