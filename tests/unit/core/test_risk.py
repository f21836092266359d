"""When nothing may be entered: the time of the session, the quote."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.risk import (
    GuardParameters,
    far_side,
    flat_by_ns,
    refuse_quote,
    refuse_time,
)
from momentum_lab.core.signal import Reason
from momentum_lab.errors import ParameterError
from tests.factories import NOON, quote

OPEN_NS = NOON - 9000 * NS_PER_S
FULL_DAY = (OPEN_NS, OPEN_NS + 23_400 * NS_PER_S)
HALF_DAY = (OPEN_NS, OPEN_NS + 12_600 * NS_PER_S)
GUARDS = GuardParameters()


def at(minutes: float) -> int:
    return OPEN_NS + int(minutes * 60) * NS_PER_S


@pytest.mark.parametrize("minutes", [15, 200, 359.9])
def test_inside_the_window_entries_are_allowed(minutes: float) -> None:
    assert refuse_time(at(minutes), session_ns=FULL_DAY, parameters=GUARDS) is None


@pytest.mark.parametrize(("minutes", "limit"), [(-5, 15), (14.9, 15), (360, 360), (500, 360)])
def test_outside_the_window_the_nearer_edge_is_named(minutes: float, limit: float) -> None:
    refusal = refuse_time(at(minutes), session_ns=FULL_DAY, parameters=GUARDS)

    assert refusal is not None
    assert (refusal.reason, refusal.limit) == (Reason.OUTSIDE_SESSION, limit)
    assert refusal.observed == pytest.approx(minutes)


def test_a_half_day_ends_its_window_earlier() -> None:
    assert refuse_time(at(179), session_ns=HALF_DAY, parameters=GUARDS) is None
    assert refuse_time(at(181), session_ns=HALF_DAY, parameters=GUARDS) is not None


def test_a_holiday_has_no_window() -> None:
    refusal = refuse_time(NOON, session_ns=None, parameters=GUARDS)
    assert refusal is not None
    assert "closed today" in refusal.text


def test_a_silent_line_is_not_traded() -> None:
    for silent in (None, quote(mid=None)):
        refusal = refuse_quote(silent, now_ns=NOON, parameters=GUARDS)
        assert refusal is not None
        assert refusal.reason is Reason.QUOTE_NOT_TRADABLE


def test_a_spread_is_compared_in_basis_points() -> None:
    assert refuse_quote(quote(mid=100, spread=0.30), now_ns=NOON, parameters=GUARDS) is None

    refusal = refuse_quote(quote(mid=100, spread=0.32), now_ns=NOON, parameters=GUARDS)

    assert refusal is not None
    assert (refusal.reason, refusal.limit, refusal.unit) == (Reason.SPREAD_TOO_WIDE, 30.0, "bps")
    assert refusal.observed == pytest.approx(32)


@pytest.mark.parametrize(
    ("changes", "sides", "words"),
    [
        ({"at_ns": NOON - 6 * NS_PER_S}, (6.0, 5.0, "s"), "6.0 s old, 5 s are allowed"),
        ({"at_ns": NOON - 5 * NS_PER_S - 1}, (5.000000001, 5.0, "s"), "5.1 s old, 5 s are"),
        ({"ask_at_ns": NOON - 61 * NS_PER_S}, (61.0, 60.0, "s"), "61.0 s old, 60 s are allowed"),
        ({"bid": 101.0, "ask": 100.0}, (101.0, 100.0, "USD"), "crossed"),
        ({"ask_size": 0.0}, (0.0, 0.0, "shares"), "nothing is shown"),
        ({"bid_size": -100.0}, (-100.0, 0.0, "shares"), "nothing is shown"),
        ({"bid_size": math.nan}, (pytest.approx(math.nan, nan_ok=True), 0.0, "shares"), "nothing"),
        ({"halted": True}, (None, None, ""), "halted"),
        ({"ask": None}, (None, None, ""), "no ask"),
    ],
)
def test_a_quote_that_is_not_traded_says_both_sides_of_what_decided(
    changes: dict[str, Any], sides: tuple[Any, ...], words: str
) -> None:
    refusal = refuse_quote(replace(quote(), **changes), now_ns=NOON, parameters=GUARDS)

    assert refusal is not None
    assert refusal.reason is Reason.QUOTE_NOT_TRADABLE
    assert (refusal.observed, refusal.limit, refusal.unit) == sides
    assert words in refusal.text


@pytest.mark.parametrize(("traded_s", "is_refused"), [(0, True), (299, True), (300, False)])
def test_nothing_is_entered_shortly_after_a_halt(traded_s: float, is_refused: bool) -> None:
    resumed = replace(quote(), resumed_ns=NOON - int(traded_s * NS_PER_S))

    refusal = refuse_quote(resumed, now_ns=NOON, parameters=GUARDS)

    if not is_refused:
        assert refusal is None
        return
    assert refusal is not None
    assert (refusal.reason, refusal.observed, refusal.limit) == (Reason.AFTER_HALT, traded_s, 300.0)


def test_an_order_meets_the_far_side() -> None:
    shown = quote(mid=100, spread=0.02)
    assert far_side(shown, Side.BUY) == shown.ask
    assert far_side(shown, Side.SELL) == shown.bid


def test_flat_by_the_close_is_counted_from_the_bell() -> None:
    assert flat_by_ns(FULL_DAY[1], GUARDS) == FULL_DAY[1] - 300 * NS_PER_S


def test_a_guard_out_of_range_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"guards\.spread_max_bps"):
        GuardParameters(spread_max_bps=0)


@pytest.mark.parametrize(("entries_s", "flat_s"), [(60, 600), (300, 300), (0, 300)])
def test_an_entry_that_would_be_left_at_once_is_refused_as_a_contradiction(
    entries_s: float, flat_s: float
) -> None:
    message = (
        rf"guards\.entries_before_close_s: expected more than guards\.flat_before_close_s"
        rf" \({flat_s} s\), found {entries_s} s"
    )
    with pytest.raises(ParameterError, match=message):
        GuardParameters(entries_before_close_s=entries_s, flat_before_close_s=flat_s)


def test_who_leaves_nothing_before_the_close_may_enter_until_then() -> None:
    found = GuardParameters(entries_before_close_s=0, flat_before_close_s=0)

    assert flat_by_ns(FULL_DAY[1], found) == FULL_DAY[1]
