from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.pace import TAIL_S, Pace, Schedule

PACE = Pace(fast=1800, slow=60, lead_s=5, watch_s=300)
END = 100_000 * NS_PER_S


def schedule(*headlines_s: float) -> Schedule:
    times = [round(at_s * NS_PER_S) for at_s in headlines_s]
    return Schedule(PACE, headlines_ns=times, end_ns=END)


def at(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def test_slow_lasts_from_the_lead_to_the_end_of_the_watch() -> None:
    found = schedule(1000)
    assert not found.is_slow(at(994.9))
    assert found.is_slow(at(995))
    assert found.is_slow(at(1300 + TAIL_S - 0.1))
    assert not found.is_slow(at(1300 + TAIL_S))


def test_after_the_end_of_the_tape_all_is_slow() -> None:
    assert schedule().is_slow(END)
    assert not schedule().is_slow(END - 1)


def test_something_open_is_played_slowly_anywhere() -> None:
    found = schedule()
    assert found.speed(0, is_busy=True) == PACE.slow
    assert found.speed(0, is_busy=False) == PACE.fast


def test_a_fast_step_ends_where_slow_begins() -> None:
    assert schedule(1000).step(at(990), seconds=0.1, is_busy=False) == at(995)


def test_a_step_is_speed_times_wall_time() -> None:
    found = schedule()
    assert found.step(0, seconds=0.01, is_busy=False) == at(18)
    assert found.step(0, seconds=0.01, is_busy=True) == at(0.6)


def test_watches_that_overlap_are_one_slow_stretch() -> None:
    found = schedule(1000, 1200)
    assert found.is_slow(at(1316))
    assert found.is_slow(at(1499))


@given(
    headlines=st.lists(st.floats(0, 90_000), max_size=5),
    steps=st.lists(st.floats(0, 0.2), min_size=1, max_size=60),
)
def test_no_fast_step_enters_a_slow_stretch(headlines: list[float], steps: list[float]) -> None:
    found = schedule(*headlines)
    now_ns = 0
    for seconds in steps:
        was_slow = found.is_slow(now_ns)
        then_ns = found.step(now_ns, seconds=seconds, is_busy=False)
        assert then_ns >= now_ns
        if not was_slow and then_ns > now_ns:
            # Nothing slow lies strictly inside: its start would have ended the step.
            starts = [at(s) - at(PACE.lead_s) for s in headlines]
            assert not any(now_ns < start < then_ns for start in starts)
        if was_slow:
            assert then_ns - now_ns <= at(PACE.slow * seconds) + 1
        now_ns = then_ns


@pytest.mark.parametrize(
    "values",
    [{"slow": 61.0}, {"slow": 0.0}, {"fast": 10.0}, {"fast": math.nan}, {"lead_s": -1.0}],
)
def test_impossible_speeds_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(values))):
        Pace(**values)
