"""The control database: commands, answers, and the sign that a session lives."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from momentum_lab.errors import RecordError
from momentum_lab.records.control import (
    Command,
    CommandKind,
    Control,
    SignOfLife,
    control_path,
)
from momentum_lab.records.process import Process

RUN = "20131009T133000Z-paper"
LIFE = SignOfLife("OPERATIONAL", "ACTIVE", {"SPY": -602.0}, {"SPY": -12.5})


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    found = Control(tmp_path / "trades.control.db", patience_s=0.5)
    yield found
    found.close()


def test_it_stands_beside_the_trade_store(tmp_path: Path) -> None:
    assert control_path(tmp_path / "trades.db") == tmp_path / "trades.control.db"


def test_a_command_is_heard_answered_and_done(control: Control) -> None:
    number = control.give(CommandKind.FLATTEN, who="me@1", reason="storm")
    (command,) = control.given_after(number - 1)
    assert (command.kind, str(command)) == (CommandKind.FLATTEN, "flatten by me@1: storm")

    control.answer(number, RUN, "closing", is_done=False)
    heard = control.command(number)
    control.answer(number, RUN, "flat", is_done=True)
    done = control.command(number)

    assert (heard.run_id, heard.answer, heard.is_done) == (RUN, "closing", False)
    assert (done.answer, done.is_done) == ("flat", True)
    assert control.given_after(number) == []


def test_the_last_session_says_what_it_holds_and_since_when(control: Control) -> None:
    assert control.last_session() is None
    control.sign_on(RUN, "paper", SignOfLife("CONNECTING", "ACTIVE", {}))
    control.beat(RUN, LIFE)

    found = control.last_session()

    assert found is not None
    assert (found.run_id, found.life, found.end_reason) == (RUN, LIFE, None)
    assert found.process == Process.of(os.getpid())
    assert found.heartbeat_wall_ns >= found.started_wall_ns


def test_the_end_of_a_session_does_what_it_had_heard(control: Control) -> None:
    number = control.give(CommandKind.STOP, who="me@1")
    control.sign_on(RUN, "paper", LIFE)
    control.answer(number, RUN, "ends in order", is_done=False)

    control.sign_off(RUN, LIFE, reason="stop by me@1")

    assert control.command(number).answer == "the session has ended: stop by me@1"
    assert control.command(number).is_done
    found = control.last_session()
    assert found is not None
    assert found.end_reason == "stop by me@1"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("", ""),
        ("stop", ""),
        ("halt stop", "halt"),
        ("halt resume stop", "resume"),
        ("halt resume flatten", "flatten"),
        ("reduce stop", "reduce"),
        ("reduce reduce halt", "reduce halt"),
        ("halt resume reduce", "resume reduce"),
        ("halt reduce resume", "resume"),
    ],
)
def test_the_last_word_about_entries_stands(control: Control, kinds: str, expected: str) -> None:
    for kind in kinds.split():
        control.give(CommandKind(kind), who="me@1")

    assert " ".join(told.kind.value for told in control.standing()) == expected


def test_a_reduce_stands_until_a_session_has_heard_it(control: Control) -> None:
    number = control.give(CommandKind.REDUCE, who="me@1")
    control.answer(number, RUN, "began REDUCING", is_done=True)

    assert control.standing() == []


def test_a_lock_of_somebody_else_is_told_and_not_waited_for(
    control: Control, tmp_path: Path
) -> None:
    with (
        closing(sqlite3.connect(control.path, isolation_level=None)) as other,
        closing(Control(control.path, patience_s=0.01)) as hurried,
    ):
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RecordError, match="database is locked"):
            hurried.beat(RUN, LIFE)
        # Reading is never held up.
        assert hurried.given_after(0) == []


@pytest.mark.parametrize("content", [b"rubbish" * 1000, b""])
def test_rubbish_is_refused_and_an_empty_file_is_filled(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trades.control.db"
    path.write_bytes(content)
    if not content:
        Control(path, patience_s=0.1).close()
        return
    with pytest.raises(RecordError, match="not a database"):
        Control(path, patience_s=0.1)


def test_a_file_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "trades.control.db"
    with closing(Control(path, patience_s=1)) as made:
        made.sign_on(RUN, "paper", LIFE)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "ALTER TABLE sessions DROP COLUMN net_usd; DROP TABLE commands; CREATE TABLE commands ("
            "command_id INTEGER PRIMARY KEY, wall_ns INTEGER, kind TEXT CHECK (kind IN ('halt')),"
            "who TEXT, reason TEXT, run_id TEXT, heard_wall_ns INTEGER, answer TEXT,"
            "done_wall_ns INTEGER); INSERT INTO commands (command_id, wall_ns, kind, who, reason)"
            "VALUES (7, 1, 'halt', 'me', 'war'); PRAGMA user_version = 1;"
        )

    with closing(Control(path, patience_s=1)) as found:
        session = found.last_session()
        assert session is not None
        assert session.life == replace(LIFE, net_usd={})
        assert found.command(7) == Command(7, 1, CommandKind.HALT, "me", "war")
        assert found.give(CommandKind.REDUCE, who="me", reason="") == 8
        found.beat(RUN, LIFE)
        session = found.last_session()
        assert session is not None
        assert session.life == LIFE


def test_a_replaced_file_is_noticed(control: Control) -> None:
    assert control.is_current()
    control.path.unlink()
    assert not control.is_current()


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = Process.of(child.pid)
    assert found.is_alive()
    assert not Process(child.pid, "1").is_alive()

    child.kill()
    child.wait()

    assert child.stdin is not None
    child.stdin.close()
    assert not found.is_alive()


def test_a_command_says_who_and_why() -> None:
    assert str(Command(1, 0, CommandKind.HALT, "me@1", "")) == "halt by me@1"
