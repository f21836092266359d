"""Checks of time: the clocks, the gateway's zone, and whether the hour is a good one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from momentum_lab.calendars import NEW_YORK, session_on_day_of
from momentum_lab.clock import utc, wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.windows import window_at
from momentum_lab.live.finding import Finding, failure, fine, skipped, warning
from momentum_lab.live.ibkr.asking import server_time_ns
from momentum_lab.live.ibkr.case import Case

# A clock that is told in whole seconds, cut, is half a second late on average, and one at most.
_CUT_S, _LONGEST_CUT_S = 0.5, 1.0
_UNEASY_S = 1.5
_QUARTER_S, _HOUR_S, _DAY_S = 900, 3600, 86_400
_MIN_S = 60
_STAMP_CHARACTERS = len("20261122 14:30:00")


async def check_clock(case: Case) -> Sequence[Finding]:
    """The clocks agree; asked once, as a second question within a second has no answer."""
    asked_ns = wall_ns()
    case.server_ns = await server_time_ns(case.ib, timeout_s=case.timeout_s)
    ahead_s = ((asked_ns + wall_ns()) / 2 - case.server_ns) / NS_PER_S
    if case.is_replay:
        return [_replayed(case.server_ns, ahead_s)]
    allowed_s = case.parameters.connection.max_clock_skew_s
    error_s = ahead_s - _CUT_S
    text = (
        f"this machine's is {_length(abs(error_s))} {'ahead' if error_s > 0 else 'behind'}, at most"
        f" {allowed_s:g} s are allowed"
    )
    cure = "Let NTP set this machine's clock, and the gateway's if it runs on another."
    # As a session: what the cut alone can make is not counted.
    if abs(ahead_s) > allowed_s + _LONGEST_CUT_S:
        return [failure("clock", text, cure)]
    if abs(error_s) > _UNEASY_S:
        return [warning("clock", text, cure)]
    return [fine("clock", f"agrees with the broker's; at most {allowed_s:g} s are allowed")]


def _replayed(server_ns: int, ahead_s: float) -> Finding:
    at = _new_york(server_ns)
    if abs(ahead_s) > _DAY_S:
        return fine("clock", f"the gateway plays {at:%Y-%m-%d %H:%M:%S} New York")
    return warning(
        "clock",
        f"mode is replay, and the gateway's time is today's: {at:%Y-%m-%d %H:%M:%S} New York",
        "See that a paper gateway with a tape answers there, and no real one.",
    )


async def check_zone(case: Case) -> Sequence[Finding]:
    """The gateway keeps the zone in which its restart is expected.

    TWS and the gateway restart at a time of their own clock, so 23:45 of a machine in UTC falls
    into the New York evening.
    """
    told = case.visit.greeted_at
    then_ns = case.now_ns() if case.server_ns is None else case.server_ns
    offset_s = _offset_s(told, then_ns)
    if offset_s is None:
        return [
            warning(
                "time zone",
                f"the gateway's time cannot be read: {told!r}",
                "Choose English and a plain time zone at the gateway's login window.",
            )
        ]
    windows = case.parameters.windows
    name = told[_STAMP_CHARACTERS:].strip() or "not named"
    text = f"the gateway's is {name}, {_signed(offset_s)}"
    if case.is_replay or not windows.gateway_restart:
        return [fine("time zone", text)]
    local = utc(then_ns).astimezone(ZoneInfo(windows.gateway_restart_zone))
    expected_s = (local.utcoffset() or timedelta()).total_seconds()
    restart = f"restart at {windows.gateway_restart} {windows.gateway_restart_zone}"
    if offset_s == expected_s:
        return [fine("time zone", f"{text}; {restart}")]
    return [
        warning(
            "time zone",
            f"{text}, but the parameters expect its {restart}, {_signed(expected_s)}",
            "Compare windows.gateway_restart and its zone with the gateway's auto restart.",
        )
    ]


async def check_hours(case: Case) -> Sequence[Finding]:
    """What the calendars say about now: the session, and the broker's own windows."""
    if case.is_replay and case.server_ns is None:
        return [skipped("hours", "needs the clock of the gateway")]
    now_ns = case.now_ns()
    window = window_at(now_ns, case.parameters.windows)
    if window is not None:
        return [
            warning(
                "hours",
                f"{window.name} is due until {_new_york(window.end_ns):%a %H:%M} New York",
                "Expect the broker to be away until then, and examine again.",
            )
        ]
    return [fine("hours", f"no window of the broker; {_session_text(now_ns)}")]


def _session_text(now_ns: int) -> str:
    session = session_on_day_of(now_ns)
    if session is None:
        return "the exchange is closed today"
    opens, closes = _new_york(session.open_ns), _new_york(session.close_ns)
    state = "open" if session.holds(now_ns) else "closed now, open"
    since = "" if session.holds(now_ns) else f" from {opens:%H:%M}"
    return f"the exchange is {state}{since} until {closes:%H:%M} New York"


def _offset_s(told: str, now_ns: int) -> float | None:
    """Return how far the gateway's wall clock is from UTC, None where it is not readable.

    Names of zones are ambiguous or foreign; the wall clock itself is neither.
    """
    try:
        wall = datetime.strptime(f"{told[:_STAMP_CHARACTERS]} +0000", "%Y%m%d %H:%M:%S %z")
    except ValueError:
        return None
    return round((wall.timestamp() - now_ns / NS_PER_S) / _QUARTER_S) * float(_QUARTER_S)


def _signed(offset_s: float) -> str:
    hours, minutes = divmod(round(abs(offset_s)) // _MIN_S, _MIN_S)
    return f"UTC{'-' if offset_s < 0 else '+'}{hours:02}:{minutes:02}"


def _length(seconds: float) -> str:
    if seconds < _HOUR_S:
        return f"{seconds:.1f} s"
    return f"{seconds / _HOUR_S:,.1f} h" if seconds < _DAY_S else f"{seconds / _DAY_S:,.0f} days"


def _new_york(at_ns: int) -> datetime:
    return utc(at_ns).astimezone(ZoneInfo(NEW_YORK))
