"""The clocks. Nothing here waits for the wall: a replay clock is moved by stamps, and where time
must run on in between, the replay is so fast that the machine's own steps are long enough."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import anyio
import anyio.lowlevel
import pytest

from momentum_lab.clock import Alarm, ReplayClock, SystemClock, transport_s, utc, wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import DataError
from momentum_lab.gateway.virtual import run_virtual
from tests.factories import NOON

# Any step of the machine's clock is more than a second of market time.
HEADLONG = 1e15
# Market time as good as stands still between two stamps.
STANDING = 1e-9


def _clock(speed: float, *stamps_ns: int) -> ReplayClock:
    clock = ReplayClock(speed)
    for stamp_ns in stamps_ns:
        clock.observe(stamp_ns)
    return clock


def _run_to(clock: ReplayClock, at_ns: int) -> int:
    while (now_ns := clock.now_ns()) < at_ns:
        pass
    return now_ns


# ------------------------------------------------------------------- replay


def test_a_replay_clock_needs_a_stamp_first() -> None:
    with pytest.raises(DataError, match="no anchor"):
        ReplayClock(60).now_ns()


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_replay_without_speed_is_refused(speed: float) -> None:
    with pytest.raises(DataError, match="speed > 0"):
        ReplayClock(speed)


def test_market_time_is_what_the_stamp_says() -> None:
    assert _clock(STANDING, NOON).now_ns() == NOON


def test_a_newer_stamp_moves_the_clock_on() -> None:
    assert _clock(STANDING, NOON, NOON + 7).now_ns() == NOON + 7


@pytest.mark.parametrize("older_ns", [NOON, NOON - 1, NOON - 3600 * NS_PER_S, 0])
def test_an_older_stamp_is_ignored(older_ns: int) -> None:
    assert _clock(STANDING, NOON + 1, older_ns).now_ns() == NOON + 1


def test_market_time_runs_on_between_two_stamps() -> None:
    clock = _clock(1e6, NOON)

    assert _run_to(clock, NOON + 1) > NOON


def test_the_clock_is_at_most_one_second_ahead_of_the_last_stamp() -> None:
    clock = _clock(HEADLONG, NOON)

    assert _run_to(clock, NOON + NS_PER_S) == NOON + NS_PER_S
    assert clock.now_ns() == NOON + NS_PER_S


def test_the_lead_counts_from_the_last_stamp() -> None:
    clock = _clock(HEADLONG, NOON)
    _run_to(clock, NOON + NS_PER_S)

    clock.observe(NOON + 10)

    assert _run_to(clock, NOON + 10 + NS_PER_S) == NOON + 10 + NS_PER_S


def test_the_clock_never_runs_backwards_when_a_stamp_is_behind_it() -> None:
    clock = _clock(1e4, NOON)
    ahead_ns = _run_to(clock, NOON + NS_PER_S)

    clock.observe(NOON + 1)

    assert clock.now_ns() >= ahead_ns


@pytest.mark.parametrize("speed", [STANDING, 1.0, 60.0, 1e6, HEADLONG])
def test_readings_are_ordered_and_stay_near_their_stamps(speed: float) -> None:
    clock, before_ns = _clock(speed), 0
    steps_ns = (0, 5, NS_PER_S // 3, 2 * NS_PER_S, -NS_PER_S, 1, 0, 90 * NS_PER_S, 7)
    stamp_ns = newest_ns = NOON
    for step_ns in steps_ns * 3:
        stamp_ns += step_ns
        newest_ns = max(newest_ns, stamp_ns)
        clock.observe(stamp_ns)
        for _ in range(3):
            now_ns = clock.now_ns()
            assert before_ns <= now_ns
            assert newest_ns <= now_ns <= newest_ns + NS_PER_S
            before_ns = now_ns


def test_only_the_replay_clock_is_a_replay() -> None:
    assert ReplayClock(60).is_replay
    assert not SystemClock().is_replay


# ----------------------------------------------------------------- sleepers


async def _settle() -> None:
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


class _Bedroom:
    """Sleepers on one clock, and who has woken up, in order."""

    def __init__(self, clock: ReplayClock) -> None:
        self.clock = clock
        self.awake: list[int] = []

    async def sleep(self, at_ns: int) -> None:
        await self.clock.sleep_until(at_ns)
        self.awake.append(at_ns)


def test_a_sleeper_wakes_when_a_stamp_reaches_its_time() -> None:
    async def main() -> list[list[int]]:
        room, seen = _Bedroom(_clock(STANDING, NOON)), []
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(room.sleep, NOON + 100)
                await _settle()
                seen.append(list(room.awake))
                room.clock.observe(NOON + 99)
                await _settle()
                seen.append(list(room.awake))
                room.clock.observe(NOON + 100)
                await _settle()
                seen.append(list(room.awake))
        return seen

    assert anyio.run(main) == [[], [], [NOON + 100]]


def test_a_stamp_wakes_all_whose_time_has_come_and_no_other() -> None:
    async def main() -> tuple[list[int], list[int]]:
        room = _Bedroom(_clock(STANDING, NOON))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for wait_ns in (300, 100, 200, 100):
                    tasks.start_soon(room.sleep, NOON + wait_ns)
                await _settle()
                room.clock.observe(NOON + 250)
                await _settle()
                early = sorted(room.awake)
                room.clock.observe(NOON + 300)
        return early, room.awake[3:]

    assert anyio.run(main) == ([NOON + 100, NOON + 100, NOON + 200], [NOON + 300])


def test_a_time_that_has_passed_is_not_slept_for() -> None:
    async def main() -> list[int]:
        room = _Bedroom(_clock(STANDING, NOON))
        with anyio.fail_after(5):
            await room.sleep(NOON)
            await room.sleep(NOON - 1)
        return room.awake

    assert anyio.run(main) == [NOON, NOON - 1]


def test_one_may_sleep_before_the_first_stamp() -> None:
    async def main() -> list[int]:
        room = _Bedroom(ReplayClock(STANDING))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(room.sleep, NOON)
                await _settle()
                assert room.awake == []
                room.clock.observe(NOON)
        return room.awake

    assert anyio.run(main) == [NOON]


def test_a_sleeper_that_is_cancelled_is_forgotten() -> None:
    async def main() -> list[int]:
        room = _Bedroom(_clock(STANDING, NOON))
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(room.sleep, NOON + 100)
                await _settle()
                tasks.cancel_scope.cancel()
            room.clock.observe(NOON + 200)
            await room.sleep(NOON + 150)
        return room.awake

    assert anyio.run(main) == [NOON + 150]


# ------------------------------------------------------------------- system


def test_the_system_clock_is_the_system_s_time_whatever_is_observed() -> None:
    clock = SystemClock()

    before_ns = wall_ns()
    clock.observe(0)
    clock.observe(NOON)
    now_ns = clock.now_ns()

    assert before_ns <= now_ns <= wall_ns()


def test_the_system_clock_does_not_sleep_for_the_past() -> None:
    async def main() -> None:
        with anyio.fail_after(5):
            await SystemClock().sleep_until(NOON)

    anyio.run(main)


def test_transport_time_never_runs_backwards() -> None:
    readings = [transport_s() for _ in range(100)]

    assert readings == sorted(readings)


# ---------------------------------------------------------------------- utc


def test_an_instant_becomes_an_aware_datetime_in_utc() -> None:
    found = utc(NOON)

    assert found == datetime(2013, 10, 9, 16, 0, tzinfo=timezone.utc)
    assert found.utcoffset() == timedelta(0)


def test_nanoseconds_are_cut_to_microseconds_and_never_rounded_up() -> None:
    assert utc(NOON + 999_999_999).microsecond == 999_999
    assert utc(NOON + 999).microsecond == 0


def test_an_instant_before_1970_is_possible() -> None:
    assert utc(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)


class _CountingAlarm(Alarm):
    """Counts how often somebody lies down on it."""

    __slots__ = ("n_rests",)

    def __init__(self) -> None:
        super().__init__()
        self.n_rests = 0

    async def rest(self, at_most_s: float) -> None:
        self.n_rests += 1
        await super().rest(at_most_s)


def test_a_stamp_behind_the_time_that_was_told_is_slept_through_and_not_polled_for() -> None:
    async def main() -> tuple[int, int]:
        clock, alarm = ReplayClock(1), _CountingAlarm()
        clock.observe(NOON)
        await anyio.sleep(0.9)
        told_ns = clock.now_ns()
        # Later than the anchor, earlier than what has been told: time stands still for a while.
        clock.observe(NOON + NS_PER_S // 10)
        await clock.wait_for(alarm, until_ns=told_ns + 1000)
        return clock.now_ns() - told_ns, alarm.n_rests

    late_ns, n_rests = run_virtual(main)

    assert 0 <= late_ns - 1000 < NS_PER_S // 1000
    assert n_rests <= 2
