"""What a person said between two sessions holds for the next one, and no longer than he meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.risk_state import RiskState
from momentum_lab.faces.cli import main
from momentum_lab.live.commands import CommandDesk
from momentum_lab.live.control_watch import ControlWatch
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.position_manager import PositionManager
from momentum_lab.parameters import Parameters
from momentum_lab.records.control import Command, CommandKind, Control, control_path
from momentum_lab.records.trade_store import TradeStore
from tests.planner_kit import ToldClock, ToldConnector, ToldReplayClock

pytestmark = pytest.mark.anyio

DAY_NS = 86_400 * NS_PER_S


@dataclass
class Session:
    """A session as far as a person can reach it: it reads both databases and never connects."""

    execution: ExecutionService
    store: TradeStore
    watch: ControlWatch
    clock: ToldClock
    run_id: str

    @property
    def state(self) -> str:
        return self.execution.risk_state

    def brake_for_the_day(self) -> None:
        """The day's loss has reached its limit: no hand asked for it."""
        self.execution.set_risk_state("REDUCING", "daily loss limit")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "trades.db"


@contextmanager
def session(
    database: Path, run_id: str, *, clock: ToldClock | None = None, days: int = 0
) -> Iterator[Session]:
    """A session that begins, hears what there is to hear, and ends in order."""
    clock = clock or ToldClock()
    clock.at_ns += days * DAY_NS
    parameters = Parameters(universe=("SPY",))
    incidents: list[str] = []

    def note(kind: str, text: str, _symbol: str | None = None) -> None:
        incidents.append(f"{kind}: {text}")

    told = ToldConnector(parameters, clock=clock, on_transition=lambda *_: None, on_incident=note)
    store = TradeStore(database)
    store.start_run(
        run_id, mode="paper", account="", strategy="s", params_hash="h", params={}, revision="r"
    )
    book = DecisionBook(store, clock, run_id=run_id)
    execution = ExecutionService(
        told, book=book, clock=clock, parameters=parameters, on_incident=note
    )
    manager = PositionManager(
        told, execution, store, clock=clock, parameters=parameters, on_incident=note
    )
    desk = CommandDesk(
        told,
        execution,
        manager,
        store,
        stop=lambda _reason: None,
        is_stopping=lambda: False,
        retry_s=1.0,
        on_incident=note,
    )
    watch = ControlWatch(
        control_path(database),
        run_id,
        "paper",
        obey=desk.obey,
        life=desk.life,
        begin=desk.begin_as_told,
        on_incident=note,
    )
    watch.start()
    watch.look()
    try:
        yield Session(execution, store, watch, clock, run_id)
        watch.end("the end")
        assert incidents == []
    finally:
        told.close()
        execution.close_streams()
        store.close()


def say(database: Path, kind: str) -> int:
    """Give a command, whether somebody hears it or not."""
    with closing(Control(control_path(database), patience_s=1)) as control:
        return control.give(CommandKind(kind), who="me@1")


def said(database: Path, number: int) -> Command:
    with closing(Control(control_path(database), patience_s=1)) as control:
        return control.command(number)


async def test_a_resume_between_sessions_lifts_a_reduce(database: Path) -> None:
    with session(database, "first") as running:
        say(database, "reduce")
        running.watch.look()
        assert running.state == "REDUCING"
    say(database, "resume")

    with session(database, "second") as running:
        assert running.state == "ACTIVE"
    with session(database, "third") as running:
        assert running.state == "ACTIVE"


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
async def test_a_resume_between_sessions_lifts_what_no_hand_set(database: Path, state: str) -> None:
    with session(database, "first") as running:
        running.execution.set_risk_state(state, "no hand")
    say(database, "resume")

    with session(database, "second") as running:
        assert running.state == "ACTIVE"


async def test_a_resume_lifts_only_what_came_before_it(database: Path) -> None:
    say(database, "resume")
    with session(database, "first") as running:
        running.brake_for_the_day()

    with session(database, "second") as running:
        assert running.state == "REDUCING"


async def test_a_resume_that_was_refused_lifts_nothing_later(database: Path) -> None:
    with session(database, "first") as running:
        say(database, "flatten")
        running.watch.look()
        number = say(database, "resume")
        running.watch.look()
    assert "not resumed" in said(database, number).answer

    with session(database, "second") as running:
        assert running.state == "HALTED"


async def test_a_reduce_that_nobody_heard_holds_for_the_day_of_the_next_session(
    database: Path,
) -> None:
    number = say(database, "reduce")

    with session(database, "first", days=3) as running:
        assert running.state == "REDUCING"
    assert said(database, number).run_id == "first"
    assert "REDUCING" in said(database, number).answer
    # A restart on the same day remembers it; another day does not.
    with session(database, "second", days=3) as running:
        assert running.state == "REDUCING"
        running.clock.at_ns += DAY_NS
        assert running.state == "ACTIVE"
    with session(database, "third", days=4) as running:
        assert running.state == "ACTIVE"


def test_who_reduces_between_sessions_is_told_what_comes_of_it(database: Path) -> None:
    told = CliRunner().invoke(main, ["reduce", f"--database={database}", "--timeout=0"])
    status = CliRunner().invoke(main, ["status", f"--database={database}"])
    say(database, "resume")
    lifted = CliRunner().invoke(main, ["status", f"--database={database}"])

    assert "The next session of this store begins REDUCING" in told.output
    assert "none on the first day of the next session, or until 'momentum" in status.output
    assert "entries" not in lifted.output


async def test_a_reduce_that_nobody_heard_renews_that_of_an_earlier_day(database: Path) -> None:
    with session(database, "first") as running:
        running.brake_for_the_day()
    say(database, "reduce")

    with session(database, "second", days=1) as running:
        assert running.state == "REDUCING"


async def test_a_reduce_that_nobody_heard_waits_for_the_time_of_a_replay(database: Path) -> None:
    say(database, "reduce")
    clock = ToldReplayClock()
    clock.is_anchored = False

    with session(database, "first", clock=clock) as running:
        assert running.state == "REDUCING"
        clock.is_anchored = True
        assert running.state == "REDUCING"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("reduce", "resume"), RiskState.ACTIVE),
        (("halt", "resume", "reduce"), RiskState.REDUCING),
        (("halt", "reduce"), RiskState.HALTED),
        (("reduce", "halt"), RiskState.HALTED),
        (("halt", "reduce", "resume"), RiskState.ACTIVE),
    ],
)
@pytest.mark.parametrize("is_halted", [False, True])
async def test_the_last_word_counts_and_a_weaker_brake_loosens_none(
    database: Path, words: tuple[str, ...], expected: RiskState, *, is_halted: bool
) -> None:
    with session(database, "first") as running:
        if is_halted:
            say(database, "halt")
            running.watch.look()
    for word in words:
        say(database, word)

    with session(database, "second") as running:
        stays_halted = is_halted and "resume" not in words
        assert running.state == ("HALTED" if stays_halted else expected.value)


async def test_a_reduce_lifts_no_halt_whose_control_database_was_lost(database: Path) -> None:
    with session(database, "first") as running:
        say(database, "halt")
        running.watch.look()
    control_path(database).unlink()
    say(database, "reduce")

    with session(database, "second") as running:
        assert running.state == "HALTED"
