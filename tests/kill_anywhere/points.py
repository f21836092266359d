"""From the steps of a day without any kill to the points at which a day is killed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.kill_anywhere.day import EXITS
from tests.kill_anywhere.judge import exit_reasons
from tests.kill_anywhere.run import Verdict, run_point
from tests.kill_anywhere.steps import WRITES, Moment, Point, Process, Variant

# process -> kind of step -> how often it happens.
Counts = dict[str, dict[str, int]]

# Steps that happen often and change little: so many of them stand for all.
_MOST: Final[Mapping[str, int]] = {
    "commit add_equity": 4,
    "commit advance_order: acknowledge": 12,
    "commit book_fill": 14,
    "commit book_commission": 10,
    "heard position": 4,
    "heard openOrder": 12,
    "heard orderStatus": 12,
    "heard execDetails": 14,
    "heard commissionReport": 10,
    "heard error": 4,
    "sent request": 12,
    "takes reqMktData": 2,
    "takes reqHistoricalData": 2,
    "takes reqContractDetails": 2,
}
_FIRST_STEPS: Final = 5
_MOMENTS: Final[tuple[Moment, ...]] = ("before", "after")


def enumerate_steps(folder: Path, tape: Path) -> tuple[Verdict, Counts]:
    """Live through a day without any kill, and through one with the first; return their steps."""
    verdict = run_point(folder, tape, None)
    counts: Counts = {
        path.name.split(".")[0].split("-")[1]: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.counts.json"))
    }
    exits = exit_reasons(folder)
    if exits != EXITS:
        verdict.violations.append(f"expected the exits {EXITS}, found {exits}")
    nowhere = Point("session", "restarted", "no such step", 1, "before")
    restarted = run_point(folder, tape, nowhere)
    (last,) = folder.glob("*-session.counts.json")
    counts["restarted"] = json.loads(last.read_text(encoding="utf-8"))
    verdict.violations += restarted.violations
    return verdict, counts


def enumerate_points(counts: Counts, *, has_small_disk: bool = False) -> list[Point]:
    """Return every point of a day, in an order that is the same each time.

    Args:
        counts: the steps of the day.
        has_small_disk: a disk can be mounted here that truly fills up.
    """
    found = [
        Point(variant, process, kind, number, moment)
        for variant, process in _KILLS
        for kind, number in _steps(counts, process)
        for moment in _MOMENTS
        # Before its first save the gateway does not listen, and no session lives that could die.
        if (process, kind, number) != ("gateway", "saves", 1) or variant == "gateway"
    ]
    found += [
        Point(variant, "session", kind, number, "before")
        for variant in (*_FULL, *_SMALL_DISK[: int(has_small_disk)])
        for kind, number in _steps(counts, "session")
        if kind.startswith(WRITES)
    ]
    return found


def choose(points: Sequence[Point], n_wanted: int, *, seed: int) -> list[Point]:
    """Return some points, drawn from a seed: every kind once before any kind twice."""
    rng = random.Random(seed)  # noqa: S311 - draws points, guards no secret
    shuffled = list(points)
    rng.shuffle(shuffled)
    seen: dict[tuple[str, str], int] = {}
    ranks = []
    for place, point in enumerate(shuffled):
        key = (point.variant, point.kind)
        ranks.append((seen.get(key, 0), place))
        seen[key] = seen.get(key, 0) + 1
    order = sorted(range(len(shuffled)), key=ranks.__getitem__)
    return [shuffled[place] for place in order[:n_wanted]]


def _steps(counts: Counts, process: Process) -> Iterator[tuple[str, int]]:
    if process == "restarted":
        # How it comes back is what is looked at; its day goes on like any other.
        for kind, times in sorted(counts[process].items()):
            yield from ((kind, number) for number in range(1, 1 + min(times, _FIRST_STEPS)))
        return
    for kind in sorted(counts[process]):
        times, most = counts[process][kind], _MOST.get(kind, counts[process][kind])
        # Spread over the day, the first and the last among them.
        yield from (
            (kind, 1 + n * (times - 1) // max(1, most - 1)) for n in range(min(most, times))
        )


_KILLS: Final[tuple[tuple[Variant, Process], ...]] = (
    ("session", "session"),
    ("session", "gateway"),
    ("gateway", "gateway"),
    ("both", "session"),
    ("both", "gateway"),
    ("session", "restarted"),
)
_FULL: Final[tuple[Variant, ...]] = ("full once", "full for good")
_SMALL_DISK: Final[tuple[Variant, ...]] = ("no space",)
