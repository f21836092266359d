"""Laws of the broker's windows, against a clock that is read minute by minute."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.windows import RESETS, Region, WindowParameters, refuse_window, window_at

MINUTE_NS = 60 * NS_PER_S
MINUTES_PER_DAY = 1440
NEW_YORK = ZoneInfo("America/New_York")
FIRST, LAST = datetime(2012, 1, 1, tzinfo=timezone.utc), datetime(2032, 1, 1, tzinfo=timezone.utc)
MARGINS_S = st.integers(0, 60).map(lambda minutes: 60.0 * minutes)
WALL_TIMES = st.integers(0, MINUTES_PER_DAY - 1).map(lambda m: f"{m // 60:02}:{m % 60:02}")
REGIONS: st.SearchStrategy[Region] = st.sampled_from(["north-america", "europe", "asia-pacific"])


@st.composite
def window_parameters(draw: st.DrawFn) -> WindowParameters:
    return WindowParameters(
        region=draw(REGIONS),
        gateway_restart=draw(WALL_TIMES | st.just("")),
        gateway_restart_zone=draw(
            st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Australia/Sydney"])
        ),
        restart_before_s=draw(MARGINS_S),
        restart_after_s=draw(MARGINS_S),
        reset_before_s=draw(MARGINS_S),
        weekend=draw(st.booleans()),
        sunday_login=draw(st.booleans()),
        sunday_login_until=draw(WALL_TIMES.filter(lambda text: text > "01:00")),
    )


MOMENTS = st.datetimes(
    FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.just(timezone.utc)
).map(lambda at: at.replace(second=0, microsecond=0))


def minutes_of(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def is_between(at: datetime, first_min: float, last_min: float) -> bool:
    """Whether a wall clock is between two minutes of a day, which may lie beyond midnight."""
    minute = at.hour * 60 + at.minute
    return any(
        first_min <= minute + shift < last_min for shift in (-MINUTES_PER_DAY, 0, MINUTES_PER_DAY)
    )


def is_near_a_change(at: datetime, zone: ZoneInfo) -> bool:
    """Whether the clocks of a zone change within a day and a half."""
    offsets = {
        (at + timedelta(hours=hours)).astimezone(zone).utcoffset() for hours in range(-36, 37, 4)
    }
    return len(offsets) > 1


def is_quiet(at: datetime, parameters: WindowParameters) -> bool:
    """The same rule, read off the wall clocks of this one minute."""
    early_min = parameters.reset_before_s / 60
    for zone, start, end in RESETS[parameters.region]:
        local = at.astimezone(ZoneInfo(zone))
        if is_between(local, minutes_of(start) - early_min, minutes_of(end)):
            return True
    if parameters.gateway_restart:
        local = at.astimezone(ZoneInfo(parameters.gateway_restart_zone))
        minute = minutes_of(parameters.gateway_restart)
        first_min = minute - parameters.restart_before_s / 60
        if is_between(local, first_min, minute + parameters.restart_after_s / 60):
            return True
    here = at.astimezone(NEW_YORK)
    minute_of_week = here.weekday() * MINUTES_PER_DAY + here.hour * 60 + here.minute
    friday_min = 4 * MINUTES_PER_DAY + minutes_of("23:00") - early_min
    if parameters.weekend and friday_min <= minute_of_week < 5 * MINUTES_PER_DAY + 180:
        return True
    sunday_min = 6 * MINUTES_PER_DAY
    login_end_min = sunday_min + minutes_of(parameters.sunday_login_until)
    return parameters.sunday_login and sunday_min + 60 <= minute_of_week < login_end_min


def zones_of(parameters: WindowParameters) -> list[ZoneInfo]:
    names = {zone for zone, _, _ in RESETS[parameters.region]}
    return [ZoneInfo(name) for name in {*names, parameters.gateway_restart_zone}] + [NEW_YORK]


def ns_of(at: datetime) -> int:
    return int(at.timestamp()) * NS_PER_S


@settings(deadline=None, max_examples=30)
@given(MOMENTS, window_parameters())
def test_a_week_of_minutes_is_quiet_as_the_wall_clocks_say(
    start: datetime, parameters: WindowParameters
) -> None:
    zones = zones_of(parameters)
    for hour in range(7 * 24):
        first = start + timedelta(hours=hour)
        if any(is_near_a_change(first, zone) for zone in zones):
            continue
        for minute in range(60):
            at = first + timedelta(minutes=minute)
            found = window_at(ns_of(at), parameters)
            assert (found is not None) == is_quiet(at, parameters), at


@settings(deadline=None)
@given(MOMENTS, window_parameters())
def test_every_minute_of_a_window_finds_the_same_window(
    at: datetime, parameters: WindowParameters
) -> None:
    looks = range(ns_of(at), ns_of(at) + 2 * MINUTES_PER_DAY * MINUTE_NS, 5 * MINUTE_NS)
    found = next(filter(None, (window_at(now_ns, parameters) for now_ns in looks)))

    for inside_ns in range(found.start_ns, found.end_ns, MINUTE_NS):
        assert window_at(inside_ns, parameters) == found
    assert window_at(found.start_ns - 1, parameters) is None
    assert window_at(found.end_ns, parameters) is None


@settings(deadline=None)
@given(MOMENTS, window_parameters(), st.integers(0, MINUTE_NS))
def test_an_entry_is_refused_inside_a_window_and_nowhere_else(
    at: datetime, parameters: WindowParameters, offset_ns: int
) -> None:
    now_ns = ns_of(at) + offset_ns

    window, refusal = window_at(now_ns, parameters), refuse_window(now_ns, parameters)

    assert (window is None) == (refusal is None)
    if window is not None and refusal is not None and refusal.observed is not None:
        assert window.holds(now_ns)
        assert 0 < refusal.observed <= (window.end_ns - window.start_ns) / MINUTE_NS


@settings(deadline=None, max_examples=30)
@given(MOMENTS, window_parameters(), MARGINS_S)
def test_a_longer_margin_refuses_no_less(
    at: datetime, parameters: WindowParameters, more_s: float
) -> None:
    wider = WindowParameters(
        region=parameters.region,
        gateway_restart=parameters.gateway_restart,
        gateway_restart_zone=parameters.gateway_restart_zone,
        restart_before_s=max(parameters.restart_before_s, more_s),
        restart_after_s=max(parameters.restart_after_s, more_s),
        reset_before_s=max(parameters.reset_before_s, more_s),
        weekend=True,
        sunday_login=True,
        sunday_login_until=parameters.sunday_login_until,
    )

    for minute in range(0, 2 * MINUTES_PER_DAY, 7):
        now_ns = ns_of(at) + minute * MINUTE_NS
        if window_at(now_ns, parameters) is not None:
            assert window_at(now_ns, wider) is not None


@settings(deadline=None, max_examples=30)
@given(MOMENTS, window_parameters())
def test_windows_follow_each_other_without_touching(
    at: datetime, parameters: WindowParameters
) -> None:
    minutes = range(ns_of(at), ns_of(at) + 4 * MINUTES_PER_DAY * MINUTE_NS, 5 * MINUTE_NS)
    found = [window_at(now_ns, parameters) for now_ns in minutes]
    in_order = list(dict.fromkeys(window for window in found if window is not None))

    assert all(one.end_ns < two.start_ns for one, two in pairwise(in_order))
