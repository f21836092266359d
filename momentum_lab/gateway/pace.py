"""How fast the tape is played: fast where nothing is open, slow where something may happen.

Slow is from shortly before a headline until a watch on it has ended, and whenever an order
works, a position is held or no client listens. A fast step ends exactly where a slow stretch
begins, so a change of speed skips no market time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError

MAX_SLOW = 60.0
MAX_FAST = 100_000.0
# A watch is judged a little after its end: the client's timer and its decision need time too.
TAIL_S = 15.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Speeds as market seconds per second.

    Attributes:
        fast: where nothing is open.
        slow: where something is, at most 60.
        lead_s: slow begins this long before a headline, market seconds.
        watch_s: slow lasts this long after a headline, and `TAIL_S` more.
    """

    fast: float = 1800.0
    slow: float = 60.0
    lead_s: float = 5.0
    watch_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse speeds that would skip a watch or stop the clock."""
        _check("slow", self.slow, low=0.01, high=MAX_SLOW)
        _check("fast", self.fast, low=self.slow, high=MAX_FAST)
        _check("lead_s", self.lead_s, low=0, high=3600)
        _check("watch_s", self.watch_s, low=0, high=86_400)


class Schedule:
    """The slow stretches of a tape, and which speed holds at an instant."""

    def __init__(self, pace: Pace, *, headlines_ns: Iterable[int], end_ns: int) -> None:
        """Merge the stretches round each headline; after the tape's end all is slow."""
        self.pace = pace
        before_ns = round(pace.lead_s * NS_PER_S)
        after_ns = round((pace.watch_s + TAIL_S) * NS_PER_S)
        stretches = [(at_ns - before_ns, at_ns + after_ns) for at_ns in sorted(headlines_ns)]
        self._stretches = _merged([*stretches, (end_ns, 2**63 - 1)])
        self._starts = [start_ns for start_ns, _ in self._stretches]

    def is_slow(self, now_ns: int) -> bool:
        """Return whether `now_ns` lies in a slow stretch (its start belongs to it)."""
        position = bisect_right(self._starts, now_ns) - 1
        return position >= 0 and now_ns < self._stretches[position][1]

    def speed(self, now_ns: int, *, is_busy: bool) -> float:
        """Return the speed at `now_ns`; `is_busy` when something is open or nobody listens."""
        return self.pace.slow if is_busy or self.is_slow(now_ns) else self.pace.fast

    def step(self, now_ns: int, *, seconds: float, is_busy: bool) -> int:
        """Return where `seconds` of wall time lead from `now_ns`, at most to a change of speed."""
        speed = self.speed(now_ns, is_busy=is_busy)
        target_ns = now_ns + round(speed * seconds * NS_PER_S)
        boundary = bisect_right(self._starts, now_ns)
        if boundary < len(self._starts):
            target_ns = min(target_ns, self._starts[boundary])
        return target_ns


def _merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start_ns, end_ns in sorted(stretches):
        if found and start_ns <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_ns))
        else:
            found.append((start_ns, end_ns))
    return found


def _check(name: str, value: float, *, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ParameterError(f"gateway: expected {name} in {low:g}..{high:g}, found {value:g}")
