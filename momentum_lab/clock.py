"""The two clocks; the only file that reads the time.

*Market time* drives rules, the age of quotes and news, watches, time exits and records. In paper
and live sessions it is the system's clock. In a replay it is the broker's: anchored on every
server-given stamp (the answer to a time request, the stamp of a trade), and run on in between at
the replay's speed, at most one second ahead, so that it never leads the tape.

*Transport time* (`anyio.current_time`) drives time limits, back-off and heartbeats, always at the
system's pace.
"""

from __future__ import annotations

import heapq
import itertools
import time
from datetime import datetime, timezone

import anyio

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import DataError

_LONGEST_AHEAD_NS = NS_PER_S
_LONGEST_NAP_S = 0.05


def wall_ns() -> int:
    """Return the system's time, UTC epoch nanoseconds: for log lines and run rows."""
    return time.time_ns()  # noqa: TID251 - the one place where the time comes from


def transport_s() -> float:
    """Return seconds of a monotonic clock with an arbitrary start."""
    return time.monotonic()


def utc(at_ns: int) -> datetime:
    """Return an instant as a zone-aware UTC datetime, truncated to microseconds."""
    seconds, rest = divmod(at_ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=rest // 1000)


class SystemClock:
    """Market time is the system's time."""

    is_replay = False

    def now_ns(self) -> int:
        """Return market time, UTC epoch nanoseconds."""
        return wall_ns()

    def observe(self, server_ns: int) -> None:
        """Take note of a server-given stamp: the system's clock stays what it is."""

    async def wait_for(self, event: anyio.Event, *, until_ns: int) -> bool:
        """Return True once `event` is set, False once market time has reached `until_ns`."""
        while not event.is_set():
            left_ns = until_ns - self.now_ns()
            if left_ns <= 0:
                return False
            # Naps are bounded: a step of the system's clock must not oversleep an exit.
            with anyio.move_on_after(min(left_ns / NS_PER_S, 1.0)):
                await event.wait()
        return True

    async def sleep_until(self, at_ns: int) -> None:
        """Return once market time has reached `at_ns`."""
        await self.wait_for(anyio.Event(), until_ns=at_ns)


class ReplayClock:
    """Market time is what the broker's stamps say."""

    is_replay = True

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
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._numbers = itertools.count()

    def now_ns(self) -> int:
        """Return market time, UTC epoch nanoseconds; it never runs backwards.

        Raises:
            DataError: no stamp has been seen yet.
        """
        if self._anchor_ns is None:
            raise DataError("the replay clock has no anchor yet: connect first")
        ahead_ns = int((time.monotonic() - self._anchored_s) * self._speed * NS_PER_S)
        found = self._anchor_ns + min(ahead_ns, _LONGEST_AHEAD_NS)
        self._last_ns = max(self._last_ns, found)
        return self._last_ns

    def observe(self, server_ns: int) -> None:
        """Anchor the clock on a server-given stamp; an older one than the anchor is ignored."""
        if self._anchor_ns is not None and server_ns <= self._anchor_ns:
            return
        self._anchor_ns = server_ns
        self._anchored_s = time.monotonic()
        while self._sleepers and self._sleepers[0][0] <= server_ns:
            heapq.heappop(self._sleepers)[2].set()

    async def wait_for(self, event: anyio.Event, *, until_ns: int) -> bool:
        """Return True once `event` is set, False once market time has reached `until_ns`."""
        due = anyio.Event()
        entry = (until_ns, next(self._numbers), due)
        heapq.heappush(self._sleepers, entry)
        try:
            while not event.is_set():
                if self._anchor_ns is not None and self.now_ns() >= until_ns:
                    return False
                await _either(event, due, at_most_s=_LONGEST_NAP_S)
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)
        return True

    async def sleep_until(self, at_ns: int) -> None:
        """Return once market time has reached `at_ns`."""
        await self.wait_for(anyio.Event(), until_ns=at_ns)


async def _either(first: anyio.Event, second: anyio.Event, *, at_most_s: float) -> None:
    async def cancel_after(event: anyio.Event) -> None:
        await event.wait()
        group.cancel_scope.cancel()

    with anyio.move_on_after(at_most_s):
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_after, first)
            group.start_soon(cancel_after, second)


Clock = SystemClock | ReplayClock
