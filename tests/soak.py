"""Thousands of random connection faults over simulated weeks, in virtual time.

    python -m tests.soak --faults 2000 --seed 1

Faults are drawn from a seed: which one, how long, with which parameters, sometimes two at once,
by day, by night and over weekends. After each the broker is well again, and the connection has to
be OPERATIONAL within a minute, with every desired line flowing where the market is open. All the
while orders are asked for; what reached the gateway is judged by its own wire log. Tasks, sockets
and memory are compared before and after. A failing run is repeated exactly by its seed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from momentum_lab.core.connection import ConnectionEvent
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.ibkr.line import LineStatus
from momentum_lab.live.ibkr.liveness import is_session_open
from tests.connection_kit import Patient, make_tape, patient

# Monday 2013-10-07, the opening bell in New York.
MONDAY_NS = 1_381_152_600 * NS_PER_S
BACK_WITHIN_S = 60.0
FLOWS_WITHIN_S = 45.0
MEAN_GAP_S = 800.0
WARM_UP_FAULTS = 20
# Waits of half a minute at most, and what is refused at once: more attempts an hour are a storm.
MOST_ATTEMPTS_PER_HOUR = 400
_HOUR_S = 3600
_LASTING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("half_open", {}),
    ("stalled_reader", {}),
    ("stalled_writer", {}),
    ("slow_answers", {"delay_s": 3.0}),
    ("slow_answers", {"delay_s": 20.0}),
    ("lost_answer", {"request": "reqCurrentTime"}),
    ("lost_answer", {"request": "reqPositions"}),
    ("lost_answer", {"request": "reqAllOpenOrders"}),
    ("lost_answer", {"request": "reqExecutions"}),
    ("lost_answer", {"request": "reqMktData"}),
    ("1100", {"restored": 1102}),
    ("1100", {"restored": 1101}),
    ("2103", {}),
    ("2105", {}),
    ("nightly_reset", {"cuts_sockets": 0}),
    ("nightly_reset", {"cuts_sockets": 1}),
    ("restart", {}),
    ("client_id_busy", {}),
    ("frozen_quotes", {}),
    ("competing_session", {}),
    ("delayed_data", {}),
    ("clock_skew", {"skew_s": 30}),
)
_INSTANT = (
    *("tcp_reset", "truncated_frame", "malformed_frame", "1101", "1102", "2104", "2106"),
    *("2107", "2108", "error_flood"),
)


@dataclass
class Outcome:
    """What a run showed.

    Attributes:
        n_faults: faults that were injected.
        days: simulated.
        violations: of anything that is promised, in words; empty is what is wanted.
        back_s: how long the connection took after the broker was well, one for each fault.
        names: how often each fault was drawn.
        n_entries: entries that reached the gateway.
        n_exits: exits that reached it.
        n_in_flight: of both, those that had left before what would have stopped them was said.
        n_attempts: connection attempts.
        most_attempts_per_hour: in the busiest hour.
        growth: of tasks, sockets and memory from after the first faults to the end.
    """

    n_faults: int = 0
    days: float = 0.0
    violations: list[str] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    n_entries: int = 0
    n_exits: int = 0
    n_in_flight: int = 0
    n_attempts: int = 0
    most_attempts_per_hour: int = 0
    growth: dict[str, float] = field(default_factory=dict)


def soak(tape: Path, *, n_faults: int, seed: int) -> Outcome:
    """Live through `n_faults` faults drawn from `seed`; return what was seen."""
    return run_virtual(_soak, tape, n_faults, seed)


async def _soak(tape: Path, n_faults: int, seed: int) -> Outcome:
    rng = random.Random(seed)  # noqa: S311 - draws faults, guards no secret
    # The connector's own draws (its waits) repeat too.
    random.seed(seed)
    found = Outcome()
    async with patient(tape, start_ns=MONDAY_NS) as lab, anyio.create_task_group() as group:
        group.start_soon(_tempt_in_session, lab)
        began_s, before = anyio.current_time(), dict[str, float]()
        for number in range(n_faults):
            await anyio.sleep(rng.expovariate(1 / MEAN_GAP_S))
            await _one_fault(lab, rng, found, number)
            if number == min(WARM_UP_FAULTS, n_faults // 2):
                before = _measure()
        await anyio.sleep(5)
        found.growth = {name: value - before[name] for name, value in _measure().items()}
        found.days = (anyio.current_time() - began_s) / 86_400
        group.cancel_scope.cancel()
    found.violations += lab.witness.violations
    found.n_entries, found.n_exits = lab.witness.n_entries, lab.witness.n_exits
    found.n_in_flight = lab.witness.n_in_flight
    attempts = Counter(
        int(step.at_s // _HOUR_S) for step in lab.steps if step.event is ConnectionEvent.ATTEMPT
    )
    found.n_attempts = sum(attempts.values())
    found.most_attempts_per_hour = max(attempts.values())
    if found.most_attempts_per_hour > MOST_ATTEMPTS_PER_HOUR:
        found.violations.append(f"{found.most_attempts_per_hour} attempts in one hour")
    return found


async def _tempt_in_session(lab: Patient) -> None:
    """Ask for orders while the exchange is open; at night they would only pile up."""
    while True:
        if is_session_open(lab.clock):
            with anyio.move_on_after(20):
                await lab.tempt(every_s=7)
        await anyio.sleep(300)


async def _one_fault(lab: Patient, rng: random.Random, found: Outcome, number: int) -> None:
    n_at_once = 2 if rng.random() < 0.15 else 1
    longest_s = 0.0
    told = []
    for _ in range(n_at_once):
        name, parameters, lasts_s = _draw(rng)
        lab.gateway.inject(name, parameters, for_s=max(lasts_s, 0.001))
        longest_s = max(longest_s, lasts_s)
        found.names[name] += 1
        told.append(f"{name} {parameters} {lasts_s:.1f} s")
    found.n_faults += 1
    await anyio.sleep(longest_s + 1.5)
    where = f"fault {number} ({'; '.join(told)}) at {lab.clock.now_ns()}"
    with anyio.move_on_after(10 * BACK_WITHIN_S):
        back_s = await lab.until(lab.connector.is_operational, patience_s=20 * BACK_WITHIN_S)
        found.back_s.append(back_s)
        if back_s > BACK_WITHIN_S:
            found.violations.append(f"{where}: back after {back_s:.1f} s only")
        if is_session_open(lab.clock):
            await _check_flow(lab, where, found)
        return
    found.violations.append(f"{where}: not back after {10 * BACK_WITHIN_S:.0f} s")


async def _check_flow(lab: Patient, where: str, found: Outcome) -> None:
    since_s = anyio.current_time()

    def flow() -> bool:
        return not is_session_open(lab.clock) or all(
            line.status is LineStatus.FLOWING and line.heard_s >= since_s
            for line in lab.connector.lines
        )

    with anyio.move_on_after(FLOWS_WITHIN_S):
        await lab.until(flow, patience_s=2 * FLOWS_WITHIN_S)
        return
    told = {line.instrument.symbol: line.status.value for line in lab.connector.lines}
    found.violations.append(f"{where}: lines {told} after {FLOWS_WITHIN_S:.0f} s")


def _draw(rng: random.Random) -> tuple[str, dict[str, Any], float]:
    if rng.random() < 0.25:
        return rng.choice(_INSTANT), {}, 0.0
    name, parameters = rng.choice(_LASTING)
    # Most are short; now and then one lasts for hours.
    lasts_s = min(rng.expovariate(1 / 90), 3600) if rng.random() < 0.98 else rng.uniform(3600, 9000)
    return name, dict(parameters), lasts_s


def _measure() -> dict[str, float]:
    gc.collect()
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    sockets = Path("/proc/self/fd")
    return {
        "tasks": len(asyncio.all_tasks()),
        "open files": len(list(sockets.iterdir())) if sockets.exists() else 0,
        "memory MiB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
    }


def n_days_for(n_faults: int) -> int:
    """Days of tape that `n_faults` faults certainly fit into."""
    return 7 + int(n_faults * (MEAN_GAP_S + 400) / 86_400)


def main() -> None:
    """Run and print; exit with 1 when something that is promised did not hold."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--faults", type=int, default=2000)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        tape = make_tape(Path(place) / "tape", MONDAY_NS, n_days_for(asked.faults))
        found = soak(tape, n_faults=asked.faults, seed=asked.seed)
    back = sorted(found.back_s)
    sys.stdout.write(
        f"seed {asked.seed}: {found.n_faults} faults over {found.days:.1f} simulated days\n"
        f"OPERATIONAL again after the broker was well: median {back[len(back) // 2]:.1f} s,"
        f" p99 {back[int(len(back) * 0.99)]:.1f} s, longest {back[-1]:.1f} s\n"
        f"{found.n_attempts} connection attempts, {found.most_attempts_per_hour} in the busiest"
        f" hour; {found.n_entries} entries and {found.n_exits} exits reached the gateway,"
        f" {found.n_in_flight} of them already in the pipe when it said stop\n"
        f"growth after the first {WARM_UP_FAULTS} faults:"
        f" {', '.join(f'{name} {value:+.0f}' for name, value in found.growth.items())}\n"
        f"faults: {', '.join(f'{name} {n}' for name, n in sorted(found.names.items()))}\n"
        f"violations: {len(found.violations)}\n"
    )
    for words in found.violations[:20]:
        sys.stdout.write(f"  {words}\n")
    sys.exit(1 if found.violations else 0)


if __name__ == "__main__":
    main()
