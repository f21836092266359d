"""Kills a day at every step that the outside can see, and judges what is left in the end.

    python -m tests.kill_anywhere                        all points, two days at a time; resumable
    python -m tests.kill_anywhere --list                 the steps, kind by kind
    python -m tests.kill_anywhere --sample 100 --seed 7  some of them
    python -m tests.kill_anywhere --point 'both/session/sent stop/1/after'    one, its files kept

The steps are taken from a day without any kill. Each point is a day of its own: real processes, a
fresh folder, a kill, a new start, the end of the day. What has been judged stands in the results
file and is not done again by the same code; `--again` begins anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.code_digest import code_digest
from tests.kill_anywhere.day import make_tape
from tests.kill_anywhere.points import Counts, choose, enumerate_points, enumerate_steps
from tests.kill_anywhere.run import Verdict, may_mount, run_point
from tests.kill_anywhere.steps import Point

_DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "momentum-lab-kill"


def main() -> int:
    """Run what the command line asks for; return 1 when something was violated."""
    options = _options()
    # What other code was judged by says nothing of this one.
    folder: Path = options.folder / code_digest()
    if options.again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    tape = make_tape(folder / "tape")
    if options.point:
        return _one(folder, tape, Point.of(options.point))
    counts = _counts(folder, tape)
    if counts is None:
        return 1
    has_small_disk = may_mount(folder / "probe")
    if not has_small_disk:
        _say("no right to mount a small disk: the points of variant 'no space' are left out")
    points = enumerate_points(counts, has_small_disk=has_small_disk)
    _print_steps(counts, points)
    if options.list:
        return 0
    if options.only:
        points = [point for point in points if point.name.startswith(tuple(options.only))]
    # Every kind once before any kind twice: what is broken off has seen something of everything.
    points = choose(points, options.sample or len(points), seed=options.seed)
    results = folder / "results.jsonl"
    # The processes of a run that was broken off may live on for a while: not in the same folder.
    days = folder / "days" / str(os.getpid())
    _run_all(points, days, tape, results, n_parallel=options.jobs)
    return _summarise(results, points)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_anywhere")
    parser.add_argument("--folder", type=Path, default=_DEFAULT_FOLDER)
    parser.add_argument("--jobs", type=int, default=2, help="days at a time")
    parser.add_argument("--sample", type=int, default=0, help="this many points; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--only", action="append", help="points whose name begins so; repeatable")
    parser.add_argument("--point", default="", help="this point alone; its files are kept")
    parser.add_argument("--list", action="store_true", help="print the steps and end")
    parser.add_argument("--again", action="store_true", help="forget what has been judged")
    return parser.parse_args()


def _one(folder: Path, tape: Path, point: Point) -> int:
    verdict = run_point(folder / "one", tape, point)
    _say(f"{point.name}: {verdict}\nfiles: {folder / 'one'}")
    return 1 if verdict.violations else 0


def _counts(folder: Path, tape: Path) -> Counts | None:
    """Return the steps of a day without any kill: counted once, so that a resumed run has the same.

    None when already that day is not sound.
    """
    path = folder / "counts.json"
    if not path.exists():
        verdict, found = enumerate_steps(folder / "whole", tape)
        if verdict.violations:
            _say("\n".join(["a day without any kill is not sound:", *verdict.violations]))
            return None
        path.write_text(json.dumps(found), encoding="utf-8")
    counts: Counts = json.loads(path.read_text(encoding="utf-8"))
    return counts


def _run_all(
    points: Sequence[Point], days: Path, tape: Path, results: Path, *, n_parallel: int
) -> None:
    judged = _judged(results)
    left = [point for point in points if point.name not in judged]
    _say(f"{len(points)} points, {len(points) - len(left)} of them judged before")
    with (
        ThreadPoolExecutor(n_parallel) as pool,
        results.open("a", encoding="utf-8") as file,
    ):
        running = {pool.submit(_day, days / point.slug, tape, point): point for point in left}
        for number, future in enumerate(as_completed(running), start=1):
            point, verdict = running[future], future.result()
            file.write(json.dumps({"point": point.name, **dataclasses.asdict(verdict)}) + "\n")
            file.flush()
            reached = "" if verdict.has_fired else " (not reached)"
            told = "; ".join(verdict.violations) or "sound"
            _say(f"{number}/{len(left)} {point.name}{reached}: {told}, {verdict.seconds:g} s")


def _day(folder: Path, tape: Path, point: Point) -> Verdict:
    try:
        verdict = run_point(folder, tape, point)
    except (RuntimeError, OSError, ValueError) as error:
        return Verdict(violations=[f"the day could not be judged: {error}"])
    if not verdict.violations:
        shutil.rmtree(folder)
    return verdict


def _judged(results: Path) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    if results.exists():
        for line in results.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            name = values.pop("point")
            found[name] = Verdict(**values)
    return found


def _print_steps(counts: Counts, points: Sequence[Point]) -> None:
    for process, of_kinds in counts.items():
        _say(f"steps of the {process}:")
        for kind in sorted(of_kinds):
            _say(f"  {kind:<36} {of_kinds[kind]:>4}")
    for variant, times in Counter((p.variant, p.process) for p in points).items():
        _say(f"points, {' at a step of '.join(variant)}: {times}")


def _summarise(results: Path, points: Sequence[Point]) -> int:
    judged = _judged(results)
    mine = {point: judged[point.name] for point in points if point.name in judged}
    _say(f"\n{'kind':<58} points reached violated")
    rows: dict[str, list[int]] = {}
    for point, verdict in mine.items():
        row = rows.setdefault(f"{point.variant}: {point.process} {point.kind}", [0, 0, 0])
        row[0] += 1
        row[1] += verdict.has_fired
        row[2] += bool(verdict.violations)
    for name in sorted(rows):
        _say(f"{name:<58} {rows[name][0]:>6} {rows[name][1]:>7} {rows[name][2]:>8}")
    n_reached = sum(verdict.has_fired for verdict in mine.values())
    violated = {point: verdict for point, verdict in mine.items() if verdict.violations}
    for point, verdict in violated.items():
        _say(f"VIOLATED {point.name}: {'; '.join(verdict.violations)}")
    n_violations = sum(len(verdict.violations) for verdict in violated.values())
    _say(
        f"points: {len(mine)} of {len(points)}, reached: {n_reached},"
        f" points violated: {len(violated)}, violations: {n_violations}"
    )
    return 1 if violated else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for a terminal


if __name__ == "__main__":
    sys.exit(main())
