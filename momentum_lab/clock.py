"""The two clocks; the only file that reads the time.

*Market time* drives rules, the age of quotes and news, watches, time exits and records. In paper
and live sessions it is the system's clock (the loop's, where weeks are played in virtual time). In
a replay it is the broker's: anchored on every server-given stamp (the answer to a time request,
the stamp of a trade), and run on in between at the replay's speed, at most one second ahead, so
that it never leads the tape.

*Transport time* (`anyio.current_time`) drives time limits, back-off and heartbeats, always at the
system's pace.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from datetime import datetime, timezone

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import DataError

_LONGEST_AHEAD_NS = NS_PER_S
_LONGEST_NAP_S = 1.0
# A nap that ends too early by a rounding would end in a second one.
_SHORTEST_NAP_S = 1e-6
_MANY_GONE = 256


def wall_ns() -> int:
    """Return the system's time, UTC epoch nanoseconds: for log lines and run rows."""
    return time.time_ns()  # noqa: TID251 - the one place where the time comes from


def uptime_s() -> float:
    """Return the system's monotonic seconds, which no setting of its clock moves.

    Unlike `transport_s` it goes on in a loop of virtual time: for what people wait for.
    """
    return time.monotonic()


def transport_s() -> float:
    """Return seconds of a monotonic clock with an arbitrary start: the running event loop's.

    In a loop of virtual time it stands still with the loop; outside of a loop it is the system's.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def is_time_virtual() -> bool:
    """Whether the running loop's time jumps from timer to timer instead of passing."""
    return bool(getattr(asyncio.get_running_loop(), "is_time_virtual", False))


def utc(at_ns: int) -> datetime:
    """Return an instant as a zone-aware UTC datetime, truncated to microseconds."""
    seconds, rest = divmod(at_ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest // 1000)


class Alarm:
    """Wakes the one task that rests on it; much cheaper than an event and a cancel scope.

    Attributes:
        is_set: it has gone off and was not cleared since.
    """

    __slots__ = ("_rest", "is_set")

    def __init__(self) -> None:
        """Make a silent alarm."""
        self.is_set = False
        self._rest: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Go off."""
        self.is_set = True
        self.nudge()

    def clear(self) -> None:
        """Be silent again."""
        self.is_set = False

    def nudge(self) -> None:
        """Let who rests look again, without going off."""
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    async def rest(self, at_most_s: float) -> None:
        """Return when the alarm goes off, is nudged, or after some seconds of transport time."""
        loop = asyncio.get_running_loop()
        self._rest = loop.create_future()
        timer = None if at_most_s == math.inf else loop.call_later(at_most_s, self.nudge)
        try:
            await self._rest
        finally:
            self._rest = None
            if timer is not None:
                timer.cancel()


class SystemClock:
    """Market time is the system's time."""

    is_replay = False
    is_anchored = True
    # No stamp moves it.
    observed_s = -math.inf

    def now_ns(self) -> int:
        """Return market time, UTC epoch nanoseconds."""
        return wall_ns()

    def observe(self, server_ns: int) -> None:
        """Take note of a server-given stamp: the system's clock stays what it is."""

    async def wait_for(self, alarm: Alarm, *, until_ns: int) -> bool:
        """Return True once `alarm` is set, False once market time has reached `until_ns`."""
        while not alarm.is_set:
            left_ns = until_ns - self.now_ns()
            if left_ns <= 0:
                return False
            # Naps are bounded: a step of the system's clock must not oversleep an exit.
            await alarm.rest(min(left_ns / NS_PER_S, _LONGEST_NAP_S))
        return True

    async def sleep_until(self, at_ns: int) -> None:
        """Return once market time has reached `at_ns`."""
        await self.wait_for(Alarm(), until_ns=at_ns)


class LoopClock(SystemClock):
    """Market time is the event loop's own, from a chosen instant on: for weeks of virtual time."""

    def __init__(self, start_ns: int) -> None:
        """Make a clock inside a running loop.

        Args:
            start_ns: market time now, UTC epoch nanoseconds.
        """
        self._epoch_ns = start_ns - int(transport_s() * NS_PER_S)

    def now_ns(self) -> int:
        """Return market time, UTC epoch nanoseconds."""
        return self._epoch_ns + int(transport_s() * NS_PER_S)

    async def wait_for(self, alarm: Alarm, *, until_ns: int) -> bool:
        """Return True once `alarm` is set, False once market time has reached `until_ns`."""
        while not alarm.is_set:
            left_ns = until_ns - self.now_ns()
            if left_ns <= 0:
                return False
            await alarm.rest(left_ns / NS_PER_S + _SHORTEST_NAP_S)
        return True


class ReplayClock:
    """Market time is what the broker's stamps say."""

    is_replay = True

    # Transport time of the last stamp that moved the clock, -inf before the first.
    observed_s = -math.inf

    def __init__(self, speed: float) -> None:
        """Make a clock without an anchor.

        Args:
            speed: seconds of market time per second between two stamps, > 0.
        """
        if not speed > 0:
            raise DataError(f"expected a replay speed > 0, found {speed}")
        self._speed = speed
        self._anchor_ns: int | None = None
        self._anchored_s = 0.0
        self._last_ns = 0
        self._sleepers: list[tuple[int, int, Alarm]] = []
        self._asleep: set[int] = set()
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_anchored(self) -> bool:
        """Whether a stamp has been seen, so that there is a time to tell."""
        return self._anchor_ns is not None

    def now_ns(self) -> int:
        """Return market time, UTC epoch nanoseconds; it never runs backwards.

        Raises:
            DataError: no stamp has been seen yet.
        """
        if self._anchor_ns is None:
            raise DataError("the replay clock has no anchor yet: connect first")
        self._last_ns = max(self._last_ns, self._running_ns(self._anchor_ns))
        return self._last_ns

    def _running_ns(self, anchor_ns: int) -> int:
        """Return where the anchor has run to, which may lie before what has been told already."""
        ahead_ns = int((transport_s() - self._anchored_s) * self._speed * NS_PER_S)
        return anchor_ns + min(ahead_ns, _LONGEST_AHEAD_NS)

    def observe(self, server_ns: int) -> None:
        """Anchor the clock on a server-given stamp; an older one than the anchor is ignored."""
        if self._anchor_ns is not None and server_ns <= self._anchor_ns:
            return
        self._anchor_ns = server_ns
        self._anchored_s = self.observed_s = transport_s()
        self._wake()

    async def wait_for(self, alarm: Alarm, *, until_ns: int) -> bool:
        """Return True once `alarm` is set, False once market time has reached `until_ns`."""
        number = next(self._numbers)
        try:
            while not alarm.is_set:
                if self._anchor_ns is not None and self.now_ns() >= until_ns:
                    return False
                if number not in self._asleep:
                    self._asleep.add(number)
                    heapq.heappush(self._sleepers, (until_ns, number, alarm))
                    if self._sleepers[0][1] == number:
                        self._set_timer()
                await alarm.rest(math.inf)
        finally:
            self._forget(number)
        return True

    def _wake(self) -> None:
        """Let those look again whose instant has come, and set the timer for the next."""
        now_ns = self.now_ns()
        while self._sleepers and self._sleepers[0][0] <= now_ns:
            _, number, alarm = heapq.heappop(self._sleepers)
            if number in self._asleep:
                self._asleep.discard(number)
                alarm.nudge()
        self._set_timer()

    def _set_timer(self) -> None:
        """Ring when the first instant comes by itself; not where only a stamp gets there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._sleepers and self._sleepers[0][1] not in self._asleep:
            heapq.heappop(self._sleepers)
        if self._anchor_ns is None or not self._sleepers:
            return
        until_ns = self._sleepers[0][0]
        if until_ns > self._anchor_ns + _LONGEST_AHEAD_NS:
            return
        # Not from the time that is told: it stands still until a later anchor has caught up.
        left_ns = until_ns - self._running_ns(self._anchor_ns)
        nap_s = max(0.0, left_ns / (self._speed * NS_PER_S)) + _SHORTEST_NAP_S
        self._timer = asyncio.get_running_loop().call_later(nap_s, self._wake)

    def _forget(self, number: int) -> None:
        """Leave the queue, lazily: many are woken by quotes long before their instant."""
        self._asleep.discard(number)
        if len(self._sleepers) > 2 * len(self._asleep) + _MANY_GONE:
            self._sleepers = [entry for entry in self._sleepers if entry[1] in self._asleep]
            heapq.heapify(self._sleepers)

    async def sleep_until(self, at_ns: int) -> None:
        """Return once market time has reached `at_ns`."""
        await self.wait_for(Alarm(), until_ns=at_ns)


Clock = SystemClock | ReplayClock


def now_or_none(clock: Clock) -> int | None:
    """Return market time, UTC epoch nanoseconds; None before a replay was told it."""
    return clock.now_ns() if clock.is_anchored else None
