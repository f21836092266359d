"""The hours in which the broker may be away: their edges, both sides of a change of the clocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.signal import Outcome, Reason
from momentum_lab.core.windows import QuietWindow, WindowParameters, refuse_window, window_at
from momentum_lab.errors import ParameterError

NEW_YORK, BERLIN, HONG_KONG = "America/New_York", "Europe/Berlin", "Asia/Hong_Kong"
RESET = "the broker's nightly reset"
BARE = WindowParameters(
    gateway_restart="", reset_before_s=0, weekend=False, sunday_login=False, region="north-america"
)
EUROPE = replace(BARE, region="europe")
ASIA = replace(BARE, region="asia-pacific")


def at(text: str, zone: str = NEW_YORK) -> int:
    """An instant by a wall clock, as "2026-07-01 14:00"."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * NS_PER_S


def window(name: str, start_ns: int, end_ns: int) -> QuietWindow:
    return QuietWindow(name, start_ns, end_ns)


@pytest.mark.parametrize(
    ("parameters", "zone", "start", "end"),
    [
        (BARE, NEW_YORK, "2026-01-14 00:15", "2026-01-14 01:45"),
        (BARE, NEW_YORK, "2026-07-15 00:15", "2026-07-15 01:45"),
        (EUROPE, BERLIN, "2026-01-14 06:25", "2026-01-14 07:45"),
        (EUROPE, BERLIN, "2026-07-15 06:25", "2026-07-15 07:45"),
        (ASIA, HONG_KONG, "2026-01-14 04:45", "2026-01-14 06:05"),
        (ASIA, HONG_KONG, "2026-07-15 04:45", "2026-07-15 06:05"),
        (ASIA, HONG_KONG, "2026-01-14 20:15", "2026-01-14 21:15"),
        (ASIA, HONG_KONG, "2026-07-15 20:15", "2026-07-15 21:15"),
    ],
)
def test_a_reset_has_exact_edges_in_winter_and_summer(
    parameters: WindowParameters, zone: str, start: str, end: str
) -> None:
    expected = window(RESET, at(start, zone), at(end, zone))

    assert window_at(expected.start_ns, parameters) == expected
    assert window_at(expected.end_ns - 1, parameters) == expected
    assert window_at(expected.start_ns - 1, parameters) is None
    assert window_at(expected.end_ns, parameters) is None


@pytest.mark.parametrize(
    ("day", "start", "end"),
    [("2026-01-14", "05:15", "06:45"), ("2026-07-15", "04:15", "05:45")],
)
def test_the_north_american_reset_moves_in_utc_with_the_clocks(
    day: str, start: str, end: str
) -> None:
    noted = window_at(at(f"{day} 01:00"), BARE)

    assert noted == window(RESET, at(f"{day} {start}", "UTC"), at(f"{day} {end}", "UTC"))


def test_the_asian_reset_reaches_into_the_new_york_session_in_winter_alone() -> None:
    assert window_at(at("2026-01-14 15:50"), ASIA) is not None
    assert window_at(at("2026-07-15 15:50"), ASIA) is None


def test_the_night_the_clocks_go_back_has_one_longer_reset() -> None:
    # Sunday 2026-11-01: the clock shows 01:00 to 02:00 twice.
    found = window_at(at("2026-11-01 00:30"), BARE)

    assert found is not None
    assert found.end_ns - found.start_ns == (90 + 60) * 60 * NS_PER_S


def test_the_margin_lies_before_a_reset_and_not_after() -> None:
    found = window_at(at("2026-01-14 01:00"), replace(BARE, reset_before_s=300))

    assert found == window(RESET, at("2026-01-14 00:10"), at("2026-01-14 01:45"))


def test_the_weekend_lasts_from_friday_night_to_saturday_morning() -> None:
    parameters = replace(EUROPE, weekend=True, reset_before_s=300)
    expected = window(
        "the broker's weekend maintenance", at("2026-01-16 22:55"), at("2026-01-17 03:00")
    )

    assert window_at(expected.start_ns, parameters) == expected
    assert window_at(expected.end_ns - 1, parameters) == expected
    assert window_at(expected.start_ns - 1, parameters) is None
    assert window_at(at("2026-01-15 23:30"), parameters) is None


@pytest.mark.parametrize("day", ["2026-01-18", "2026-03-08", "2026-07-19", "2026-11-01"])
def test_the_weekly_login_lasts_from_one_on_sunday_to_its_end(day: str) -> None:
    parameters = replace(EUROPE, sunday_login=True, sunday_login_until="17:30")
    expected = window("the weekly login", at(f"{day} 01:00"), at(f"{day} 17:30"))

    # Europe's reset of the day touches the login: they are one, which ends with the login.
    found = window_at(at(f"{day} 12:00"), parameters)

    assert found is not None
    assert (found.name, found.end_ns) == (expected.name, expected.end_ns)
    assert found.start_ns <= expected.start_ns
    assert window_at(expected.end_ns, parameters) is None


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Asia/Tokyo"])
def test_the_restart_has_a_margin_on_both_sides(zone: str) -> None:
    parameters = replace(BARE, gateway_restart="18:45", gateway_restart_zone=zone)
    expected = window(
        "the gateway's daily restart", at("2026-01-14 18:44", zone), at("2026-01-14 18:50", zone)
    )

    assert window_at(expected.start_ns, parameters) == expected
    assert window_at(expected.end_ns - 1, parameters) == expected
    assert window_at(expected.start_ns - 1, parameters) is None
    assert window_at(expected.end_ns, parameters) is None


def test_windows_that_touch_are_one_named_after_the_last() -> None:
    parameters = replace(BARE, gateway_restart="00:10", restart_before_s=0, restart_after_s=300)

    found = window_at(at("2026-01-14 00:10"), parameters)

    assert found == window(RESET, at("2026-01-14 00:10"), at("2026-01-14 01:45"))


def test_windows_a_moment_apart_are_two() -> None:
    parameters = replace(BARE, gateway_restart="00:10", restart_before_s=0, restart_after_s=299)

    assert window_at(at("2026-01-14 00:15") - 1, parameters) is None


def test_a_window_inside_another_does_not_shorten_it() -> None:
    parameters = replace(BARE, gateway_restart="00:30")

    assert window_at(at("2026-01-14 01:40"), parameters) == window_at(
        at("2026-01-14 00:15"), parameters
    )


def test_a_restart_without_margins_is_no_window() -> None:
    parameters = replace(BARE, gateway_restart="12:00", restart_before_s=0, restart_after_s=0)

    assert window_at(at("2026-01-14 12:00"), parameters) is None


def test_a_refusal_says_what_it_is_and_until_when() -> None:
    refusal = refuse_window(at("2026-07-15 00:45"), WindowParameters())

    assert refusal is not None
    assert (refusal.outcome, refusal.reason) == (Outcome.PASS, Reason.BROKER_WINDOW)
    assert (refusal.observed, refusal.limit, refusal.unit) == (60.0, 0.0, "min to its end")
    assert refusal.text == f"{RESET}: nothing is entered until Wed 01:45 New York"


@pytest.mark.parametrize("day", ["2026-01-14", "2026-07-15", "2026-03-09", "2026-11-02"])
@pytest.mark.parametrize("region", ["north-america", "europe"])
def test_the_new_york_session_is_free_of_windows(day: str, region: Any) -> None:
    parameters = WindowParameters(region=region)

    for time in ("09:30", "12:00", "15:59"):
        assert refuse_window(at(f"{day} {time}"), parameters) is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("region", "mars", "one of north-america, europe, asia-pacific"),
        ("gateway_restart", "24:00", "a time as HH:MM"),
        ("gateway_restart", "7:00", "a time as HH:MM"),
        ("gateway_restart", 1425, "a time as HH:MM"),
        ("gateway_restart_zone", "America/Gotham", "a zone such as America/New_York"),
        ("gateway_restart_zone", "America", "a zone such as America/New_York"),
        ("gateway_restart_zone", "", "a zone such as America/New_York"),
        ("gateway_restart_zone", "../etc/passwd", "a zone such as America/New_York"),
        ("sunday_login_until", "", "a time as HH:MM"),
        ("sunday_login_until", "00:30", "a time after 01:00"),
        ("weekend", "yes", "true or false"),
        ("sunday_login", 1, "true or false"),
        ("reset_before_s", 3601, "0 to 3600 s"),
    ],
)
def test_a_bad_value_is_refused_by_key(key: str, value: Any, expected: str) -> None:
    with pytest.raises(ParameterError) as caught:
        WindowParameters(**{key: value})

    assert str(caught.value).startswith(f"windows.{key}: expected {expected}")
    assert f"found {value!r}" in str(caught.value) or f"found {value}" in str(caught.value)
