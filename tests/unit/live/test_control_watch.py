"""The session's side of the control database: nothing told is lost, nothing broken stalls it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from momentum_lab.clock import wall_ns
from momentum_lab.live import control_watch as module
from momentum_lab.live.control_watch import ControlWatch, Obeyed
from momentum_lab.records.control import Command, CommandKind, Control, SignOfLife

RUN = "20131009T133000Z-paper"


class Desk:
    """A session that only remembers what it was told."""

    def __init__(self, path: Path) -> None:
        self.told: list[CommandKind] = []
        self.began: list[list[CommandKind]] = []
        self.incidents: list[str] = []
        self.is_flat = False
        self.watch = ControlWatch(
            path,
            RUN,
            "paper",
            obey=self.obey,
            life=lambda: SignOfLife("OPERATIONAL", "ACTIVE", {}),
            begin=lambda told: self.began.append([one.kind for one in told]),
            on_incident=lambda kind, _text, _symbol: self.incidents.append(kind),
        )

    def obey(self, command: Command) -> Obeyed:
        self.told.append(command.kind)
        if command.kind is not CommandKind.FLATTEN:
            return Obeyed("done so")
        return Obeyed("closing", lambda: "flat" if self.is_flat else None)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    found = Control(tmp_path / "trades.control.db", patience_s=1)
    yield found
    found.close()


@pytest.fixture
def desk(control: Control, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(module, "_TRY_AGAIN_S", 0.0)
    found = Desk(control.path)
    found.watch.start()
    yield found
    found.watch.close()


def test_a_command_is_carried_out_once(control: Control, desk: Desk) -> None:
    number = control.give(CommandKind.HALT, who="me@1")
    desk.watch.look()
    desk.watch.look()

    assert desk.told == [CommandKind.HALT]
    assert (control.command(number).answer, control.command(number).is_done) == ("done so", True)


def test_what_takes_its_time_is_answered_twice(control: Control, desk: Desk) -> None:
    number = control.give(CommandKind.FLATTEN, who="me@1")
    desk.watch.look()
    first = control.command(number)
    desk.is_flat = True
    desk.watch.look()

    assert (first.answer, first.is_done) == ("closing", False)
    assert (control.command(number).answer, control.command(number).is_done) == ("flat", True)


def test_an_answer_that_cannot_be_written_is_said_later(control: Control, desk: Desk) -> None:
    number = control.give(CommandKind.STOP, who="me@1")
    with closing(sqlite3.connect(control.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        desk.watch.look()
        desk.watch.look()
        other.execute("ROLLBACK")
    unheard = control.command(number).run_id
    desk.watch.look()

    # It was obeyed at once, though the lock kept it from saying so.
    assert desk.told == [CommandKind.STOP]
    assert unheard is None
    assert control.command(number).run_id == RUN
    assert desk.incidents == ["no kill switch"]


def test_what_was_said_before_the_session_is_not_obeyed(control: Control) -> None:
    control.give(CommandKind.STOP, who="me@1")
    late = Desk(control.path)
    late.watch.start()
    late.watch.look()
    late.watch.close()

    assert late.told == []


def test_a_session_goes_on_without_a_control_database(tmp_path: Path) -> None:
    path = tmp_path / "trades.control.db"
    path.write_bytes(b"rubbish" * 1000)
    desk = Desk(path)
    desk.watch.start()
    desk.watch.look()
    desk.watch.end("the end")

    assert desk.incidents == ["no kill switch"]
    assert desk.began == [[]]


def test_a_halt_that_could_not_be_read_at_the_start_counts_once_it_can(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TRY_AGAIN_S", 0.0)
    control.give(CommandKind.HALT, who="me@1")
    late = Desk(control.path)
    with closing(sqlite3.connect(control.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        late.watch.start()
        other.execute("ROLLBACK")
    control.give(CommandKind.STOP, who="me@1")
    late.watch.look()
    late.watch.look()
    late.watch.close()

    assert late.began == [[], [CommandKind.HALT]]
    # What was said since the start was said to it.
    assert late.told == [CommandKind.STOP]


def test_a_clock_that_is_set_back_deafens_nobody(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_ns = 3_600 * 1_000_000_000
    now_ns = wall_ns()
    monkeypatch.setattr(module, "wall_ns", lambda: now_ns + ahead_ns)
    desk = Desk(control.path)
    desk.watch.start()
    desk.watch.look()
    monkeypatch.setattr(module, "wall_ns", lambda: now_ns)
    control.give(CommandKind.FLATTEN, who="me@1")
    desk.watch.look()
    desk.watch.close()

    assert desk.told == [CommandKind.FLATTEN]


def test_a_file_made_anew_is_listened_to(control: Control, desk: Desk) -> None:
    for path in control.path.parent.glob("trades.control.db*"):
        path.unlink()
    desk.watch.look()
    with closing(Control(control.path, patience_s=1)) as fresh:
        number = fresh.give(CommandKind.STOP, who="me@1")
        desk.watch.look()
        assert fresh.command(number).run_id == RUN

    assert desk.told == [CommandKind.STOP]
