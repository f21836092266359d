"""Random days in virtual time: the whole session at the paper gateway, judged after each event.

    python -m tests.random_days --seeds 1-1000 --results build/days.jsonl

Each seed is a day of its own (`tests.day_maker`): headlines, shocks, halts, rejects, partial fills,
outages, and now and then the death of the program. `tests.day_judge` says what must hold. The
results file has a line for each seed; seeds that stand in it are not lived again. A failing seed is
repeated exactly by `--seeds N`.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import BrokerError
from momentum_lab.gateway.orders import Ticket
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.parameters import Parameters, check_parameters
from momentum_lab.records.run_record import check_record
from momentum_lab.records.tape import write_tape
from momentum_lab.records.trade_store import TradeStore
from tests.code_digest import code_digest
from tests.day_judge import Judge, look_on, purpose_of, simulated
from tests.day_maker import CLOSE_NS, OUTAGES, SYMBOLS, Day, make_day

# A session that is not over so long after the close is stuck.
_OVERTIME_S = 600.0
# A day takes about ten seconds.
_MOST_REAL_S = 180.0
_LOOK_EVERY_S = 60.0


@dataclass
class Lived:
    """What a day has shown.

    Attributes:
        seed: its seed.
        digest: hash of every order, event and write, with their market times.
        violations: in sentences; none is what is wanted.
        events: orders that arrived, events of the exchange, writes of the record.
        headlines: that were recorded.
        entries: that were decided.
        orders: that arrived.
        trades: of the record.
        fills: executions.
        partial_fills: executions that left their order open.
        rejects: orders that the exchange rejected.
        outages: faults of the connection that began.
        faults: how often each fault began.
        flips: positions that went beyond zero.
        deaths: of the program.
        sentences: of the record's check that the day's own trouble explains.
        took_s: real seconds.
        order_log: each order that arrived.
    """

    seed: int
    digest: str = ""
    violations: list[str] = field(default_factory=list)
    events: int = 0
    headlines: int = 0
    entries: int = 0
    orders: int = 0
    trades: int = 0
    fills: int = 0
    partial_fills: int = 0
    rejects: int = 0
    outages: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    flips: int = 0
    deaths: int = 0
    sentences: int = 0
    took_s: float = 0.0
    order_log: list[tuple[int, str, str, int, str]] = field(default_factory=list)


def live_day(seed: int, folder: Path) -> Lived:
    """Live through the day of a seed.

    Args:
        seed: which.
        folder: an empty folder for tape and record.
    """
    began_s = perf_counter()
    day = make_day(seed)
    write_tape(day.tape, folder / "tape")
    # The connector draws its waits.
    random.seed(seed)
    lived = run_virtual(_live, day, folder)
    lived.took_s = round(perf_counter() - began_s, 2)
    return lived


async def _live(day: Day, folder: Path) -> Lived:
    settings = GatewaySettings(
        tape=folder / "tape",
        start_ns=day.start_ns,
        fast=1,
        slow=1,
        hold=False,
        opened_s=day.start_ns // NS_PER_S,
        rules=day.rules,
        scenario=day.scenario,
    )
    rng = random.Random(f"rejects {day.seed}")  # noqa: S311 - draws rejects, guards no secret

    def rejects(_ticket: Ticket) -> bool:
        return rng.random() < day.rejected_ratio

    async with paper_gateway(settings, report=lambda _text: None) as gateway:
        judge = Judge(gateway, rejects=rejects)
        with simulated(gateway, judge):
            await _trade(day, gateway, judge, folder)
        return _summary(day, gateway, judge, folder)


async def _trade(day: Day, gateway: Gateway, judge: Judge, folder: Path) -> None:
    parameters = _parameters(gateway.port, day)
    result: SessionResult | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(look_on, judge)
        group.start_soon(_give_up, group.cancel_scope)
        for number, until_ns in enumerate((*day.dies_ns, CLOSE_NS)):
            session = LiveSession(parameters, root=folder, run_id=f"day{number}")
            judge.session = session
            is_last = until_ns == CLOSE_NS
            left_s = (until_ns - gateway.now_ns) / NS_PER_S + (_OVERTIME_S if is_last else 0)
            with anyio.move_on_after(max(left_s, 1)):
                result = await _outcome(session, judge)
        group.cancel_scope.cancel()
    if result is None:
        judge.violations.append("the session did not end")
        return
    judge.judge_result(result)
    if day.ends_in_trouble:
        await _settle_in_the_evening(gateway, judge, parameters, folder)


async def _give_up(scope: anyio.CancelScope) -> None:
    """End a day in which the same thing happens again and again."""
    began_s = perf_counter()
    while perf_counter() - began_s < _MOST_REAL_S:  # noqa: ASYNC110 - real time sets no event
        await anyio.sleep(_LOOK_EVERY_S)
    scope.cancel()


async def _outcome(session: LiveSession, judge: Judge) -> SessionResult | None:
    try:
        return await session.run()
    except BrokerError as error:
        judge.violations.append(f"session failed: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for here
        judge.violations.append(f"session crashed: {type(error).__name__}: {error}")
    return None


async def _settle_in_the_evening(
    gateway: Gateway, judge: Judge, parameters: Parameters, folder: Path
) -> None:
    """Put everything right and start once more: the record learns what it has missed."""
    for name in judge.active():
        gateway.hub.faults.end(name)
    session = LiveSession(parameters, root=folder, run_id="evening")
    judge.session = session
    with anyio.move_on_after(_OVERTIME_S):
        await _outcome(session, judge)


def _summary(day: Day, gateway: Gateway, judge: Judge, folder: Path) -> Lived:
    sentences = check_record(folder / "trades.db")
    store = TradeStore(folder / "trades.db")
    try:
        judge.judge_books(store)
        steps = [
            (row["at_ns"], row["state"])
            for row in store.db.query("SELECT at_ns, state FROM connection ORDER BY rowid")
        ]
        rows = {name: store.db.table(name).count for name in ("headlines", "trades")}
    finally:
        store.close()
    if not day.ends_in_trouble:
        judge.judge_sentences(sentences)
        judge.judge_flat()
    judge.judge_steps(steps)
    begun = Counter(record["fault"] for record in gateway.journal.of("fault begins"))
    counts = judge.counts
    return Lived(
        seed=day.seed,
        digest=judge.digest(),
        violations=[*judge.violations, *(f"gate: {words}" for words in judge.witness.violations)],
        events=counts.events,
        headlines=rows["headlines"],
        entries=sum(purpose_of(row[1]) == "entry" for row in judge.order_log),
        orders=counts.orders,
        trades=rows["trades"],
        fills=counts.fills,
        partial_fills=counts.partial_fills,
        rejects=counts.rejects,
        outages=sum(n for name, n in begun.items() if name in OUTAGES),
        faults=dict(begun),
        flips=counts.flips,
        deaths=len(day.dies_ns),
        sentences=len(sentences),
        order_log=judge.order_log,
    )


def _parameters(port: int, day: Day) -> Parameters:
    return check_parameters(
        {
            "mode": "paper",
            "universe": list(SYMBOLS),
            "connection": {"port": port},
            "news": {"providers": ["BRFG"]},
            "records": {"database": "trades.db", "runs": "runs"},
            **{name: dict(values) for name, values in day.sections.items()},
        }
    )


# --- many days ----------------------------------------------------------------------------


def seeds_of(text: str) -> list[int]:
    """Return the seeds that a text such as "1-20,35" names."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def read_results(path: Path) -> dict[int, dict[str, Any]]:
    """Return the rows of a results file by seed.

    A line that was cut off, or that other code has lived, is lived again.
    """
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.pop("code", "") == code_digest():
            rows[row["seed"]] = row
    return rows


def live_days(seeds: Sequence[int], results: Path) -> list[dict[str, Any]]:
    """Live through those days that have no result yet; return the rows of all."""
    rows = read_results(results)
    results.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        if seed in rows:
            continue
        with tempfile.TemporaryDirectory() as place:
            lived = live_day(seed, Path(place))
        row = asdict(lived)
        del row["order_log"]
        rows[seed] = row
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "code": code_digest()}) + "\n")
        for words in lived.violations:
            sys.stdout.write(f"seed {seed}: {words}\n")
        sys.stdout.flush()
    return [rows[seed] for seed in seeds]


def summary_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the totals of some days as text."""
    total = Counter[str]()
    faults = Counter[str]()
    kinds = Counter[str]()
    for row in rows:
        total.update({key: value for key, value in row.items() if isinstance(value, (int, float))})
        faults.update(row["faults"])
        kinds.update(words.partition(":")[0] for words in row["violations"])
    told = ", ".join(f"{name} {n}" for name, n in sorted(faults.items()))
    lines = [
        f"{len(rows)} days, {total['took_s']:.0f} s ({total['took_s'] / len(rows):.1f} s a day)",
        f"{total['events']} events, {total['headlines']} headlines, {total['entries']} entries,"
        f" {total['orders']} orders, {total['trades']} trades, {total['fills']} fills"
        f" ({total['partial_fills']} partial), {total['rejects']} rejects,"
        f" {total['outages']} outages, {total['deaths']} deaths, {total['flips']} flips",
        f"faults: {told}",
        f"violations: {sum(kinds.values())} on {sum(bool(row['violations']) for row in rows)} days",
        *(f"  {kind}: {n}" for kind, n in kinds.most_common()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Run and print; exit with 1 when something that must hold did not."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seeds", type=seeds_of, default=seeds_of("1-1000"))
    options.add_argument("--results", type=Path, default=Path("build/days.jsonl"))
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    rows = live_days(asked.seeds, asked.results)
    sys.stdout.write(summary_of(rows) + "\n")
    sys.exit(1 if any(row["violations"] for row in rows) else 0)


if __name__ == "__main__":
    main()
