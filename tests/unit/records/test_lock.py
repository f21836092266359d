"""Locks of a session: who comes second hears who holds it; the dead hold nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from momentum_lab.errors import RecordError
from momentum_lab.records.lock import exclusive, exclusive_account

HOLD = """
import os, sys
from pathlib import Path
from momentum_lab.records.lock import exclusive, exclusive_account
what, name = sys.argv[1:3]
lock = exclusive(Path(name), "first") if what == "store" else exclusive_account(name, "s", "first")
lock.__enter__()
if "fork" in sys.argv and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@contextmanager
def holder(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until it is killed."""
    process = subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", HOLD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline().strip() == str(process.pid)
        yield process
    finally:
        process.kill()
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_a_second_session_of_a_store_is_told_who_holds_it(tmp_path: Path) -> None:
    database = tmp_path / "trades.db"
    with holder("store", str(database)) as first:
        with pytest.raises(RecordError) as caught, exclusive(database, "second"):
            pass
        words = str(caught.value)

    assert f"another session is using it: run first, pid {first.pid}, since 20" in words
    assert "last heartbeat 0 s ago" in words or "last heartbeat 1 s ago" in words


def test_a_second_session_of_an_account_and_strategy_is_refused() -> None:
    with holder("account", "DU1234567"):
        with (
            pytest.raises(RecordError, match=r"another session trades strategy 's' .* run first"),
            exclusive_account("DU1234567", "s", "second"),
        ):
            pass
        with exclusive_account("DU1234567", "other", "x"), exclusive_account("DU7", "s", "y"):
            pass


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    database = tmp_path / "trades.db"
    with holder("store", str(database)) as first:
        first.kill()
        first.wait()
        with exclusive(database, "second"):
            pass


def test_a_lock_that_a_child_inherited_is_taken_over(tmp_path: Path) -> None:
    database = tmp_path / "trades.db"
    with holder("store", str(database), "fork") as first:
        first.kill()
        first.wait()
        with (
            exclusive(database, "second"),
            pytest.raises(RecordError, match="run second"),
            exclusive(database, "third"),
        ):
            pass


def test_a_later_process_with_the_number_of_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    database = tmp_path / "trades.db"
    lock = tmp_path / "trades.db.lock"
    with holder("store", str(database)):
        # As if the holder had died, a child kept the lock, and its number went to another.
        lock.write_text(lock.read_text().replace('"started": "', '"started": "9'))
        with exclusive(database, "second"):
            pass


def test_a_beat_is_seen_by_who_comes_second(tmp_path: Path) -> None:
    database = tmp_path / "trades.db"
    with exclusive(database, "first") as lease:
        os.utime(lease.path, (0, 0))
        with pytest.raises(RecordError, match=r"last heartbeat \d{9,} s ago"), exclusive(database):
            pass
        lease.beat()
        with pytest.raises(RecordError, match="last heartbeat 0 s ago"), exclusive(database):
            pass


def test_the_account_is_not_written_down(tmp_path: Path) -> None:
    with exclusive_account("DU1234567", "s", "first") as lease:
        assert "1234567" not in f"{lease.path}{lease.path.read_text(encoding='utf-8')}"
        assert lease.path.is_relative_to(tmp_path)
