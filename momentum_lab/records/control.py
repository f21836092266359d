"""The control database: what a session is told from outside, and the sign that it lives.

It is a small SQLite file beside the trade store, so that a command and a heartbeat never wait for
the record, nor the record for them. Commands are rows that the session's own loop looks for: they
work where no signal reaches it, and while the page that started it hangs. Nothing here is needed
to trade; a session without its control database goes on, and says so.

Losing the last rows in a power cut is accepted: the session is gone then, too. What must outlive
it, a halt by hand, stands in the trade store as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from momentum_lab.clock import wall_ns
from momentum_lab.errors import RecordError
from momentum_lab.records.ledger import Row
from momentum_lab.records.process import Process

_VERSION = 2
_SESSIONS = """
CREATE TABLE IF NOT EXISTS sessions (
    run_id TEXT PRIMARY KEY,
    mode TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_started TEXT NOT NULL,          -- tells a process from a later one with its number
    started_wall_ns INTEGER NOT NULL,
    heartbeat_wall_ns INTEGER NOT NULL,
    state TEXT NOT NULL,                -- of the connection
    risk_state TEXT NOT NULL,
    positions TEXT NOT NULL,            -- JSON: symbol -> signed shares
    net_usd TEXT NOT NULL DEFAULT '{}', -- JSON: symbol -> profit of what is open, after costs
    ended_wall_ns INTEGER,
    end_reason TEXT
);
"""
_COMMANDS = """
CREATE TABLE IF NOT EXISTS commands (
    command_id INTEGER PRIMARY KEY,
    wall_ns INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('stop', 'flatten', 'halt', 'reduce', 'resume')),
    who TEXT NOT NULL,
    reason TEXT NOT NULL,
    run_id TEXT,                        -- who heard it, NULL: nobody yet
    heard_wall_ns INTEGER,
    answer TEXT,
    done_wall_ns INTEGER
);
"""


_STANDING = """
SELECT * FROM commands WHERE command_id IN (
    SELECT MAX(command_id) FROM commands WHERE kind IN ('flatten', 'halt', 'resume')
    UNION
    SELECT MAX(command_id) FROM commands WHERE kind = 'reduce' AND run_id IS NULL
        AND command_id > (
            SELECT COALESCE(MAX(command_id), 0) FROM commands WHERE kind = 'resume'
        )
) ORDER BY command_id
"""


# Version it begins from -> what leads to the next; 0: an empty file, which needs no other step.
_STEPS = {
    0: (_SESSIONS, _COMMANDS),
    1: (
        "ALTER TABLE sessions ADD COLUMN net_usd TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE commands RENAME TO earlier",
        _COMMANDS,
        "INSERT INTO commands SELECT * FROM earlier",
        "DROP TABLE earlier",
    ),
}


class CommandKind(str, Enum):
    """What a session can be told."""

    STOP = "stop"
    FLATTEN = "flatten"
    HALT = "halt"
    REDUCE = "reduce"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what became of it.

    Attributes:
        command_id: its number; later ones are higher.
        wall_ns: when it was given.
        kind: what is wanted.
        who: user and process that gave it.
        reason: in the user's words, may be empty.
        run_id: the run that heard it, None while nobody has.
        answer: what that run said.
        is_done: it has been carried out.
    """

    command_id: int
    wall_ns: int
    kind: CommandKind
    who: str
    reason: str
    run_id: str | None = None
    answer: str = ""
    is_done: bool = False

    def __str__(self) -> str:
        """Return it as the cause of a state."""
        return f"{self.kind.value} by {self.who}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """What a session says of itself once a second.

    Attributes:
        state: of the connection.
        risk_state: of the account's brake.
        positions: symbol -> signed shares that are open.
        net_usd: symbol -> their profit after costs, at the price that closing them would get now;
            without those whose line has told no price.
    """

    state: str
    risk_state: str
    positions: dict[str, float]
    net_usd: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """The last that was heard of a session."""

    run_id: str
    mode: str
    process: Process
    started_wall_ns: int
    heartbeat_wall_ns: int
    life: SignOfLife
    end_reason: str | None


def control_path(database: Path) -> Path:
    """Return the control database that belongs to a trade store."""
    return database.with_name(f"{database.stem}.control.db")


class Control:
    """One connection to the control database, from either side."""

    def __init__(self, path: Path, *, patience_s: float) -> None:
        """Open the file, or make it.

        Args:
            path: the control database.
            patience_s: the longest that one call waits for somebody else's lock.

        Raises:
            RecordError: it cannot be used.
        """
        self.path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
        try:
            with self._told():
                self._prepare()
        except RecordError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.row_factory = sqlite3.Row
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found not in (*_STEPS, _VERSION):
            raise RecordError(f"{self.path}: expected version {_VERSION}, found {found}")
        if not found:
            self._db.execute("PRAGMA journal_mode = WAL")
        if found != _VERSION:
            self._migrate()
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._inode = self.path.stat().st_ino

    def _migrate(self) -> None:
        """Bring the tables up to the version; what another process has done is not done again."""
        self._db.execute("BEGIN IMMEDIATE")
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        versions = range(found, _VERSION) if found else (0,)
        for version in versions:
            for step in _STEPS[version]:
                self._db.execute(step)
        self._db.execute(f"PRAGMA user_version = {_VERSION}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def is_current(self) -> bool:
        """Whether the path still leads to the file that was opened."""
        with contextlib.suppress(OSError):
            return self.path.stat().st_ino == self._inode
        return False

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise RecordError(f"control database {self.path}: {error}") from error

    def _rows(self, sql: str, *values: object) -> list[Row]:
        with self._told():
            return [dict(row) for row in self._db.execute(sql, values)]

    # --- who gives commands ---------------------------------------------------------------

    def give(self, kind: CommandKind, *, who: str, reason: str = "") -> int:
        """Write a command; return its number."""
        with self._told():
            written = self._db.execute(
                "INSERT INTO commands (wall_ns, kind, who, reason) VALUES (?, ?, ?, ?)",
                (wall_ns(), kind.value, who, reason),
            )
        return int(written.lastrowid or 0)

    def command(self, command_id: int) -> Command:
        """Return a command with what became of it."""
        (row,) = self._rows("SELECT * FROM commands WHERE command_id = ?", command_id)
        return _command(row)

    def last_session(self) -> SessionRow | None:
        """Return what was last heard of the session that began last."""
        rows = self._rows("SELECT * FROM sessions ORDER BY started_wall_ns DESC LIMIT 1")
        return _session(rows[0]) if rows else None

    # --- the session ----------------------------------------------------------------------

    def sign_on(self, run_id: str, mode: str, life: SignOfLife) -> None:
        """Write that a session of this process begins."""
        now_ns, me = wall_ns(), Process.of(os.getpid())
        self._rows(
            "INSERT OR REPLACE INTO sessions (run_id, mode, pid, pid_started, started_wall_ns,"
            " heartbeat_wall_ns, state, risk_state, positions, net_usd)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            run_id,
            mode,
            me.pid,
            me.started,
            now_ns,
            now_ns,
            *_life_values(life),
        )

    def beat(self, run_id: str, life: SignOfLife) -> None:
        """Write that a session lives, and what it holds."""
        self._rows(
            "UPDATE sessions SET state = ?, risk_state = ?, positions = ?, net_usd = ?,"
            " heartbeat_wall_ns = ? WHERE run_id = ?",
            *_life_values(life),
            wall_ns(),
            run_id,
        )

    def sign_off(self, run_id: str, life: SignOfLife, *, reason: str) -> None:
        """Write how a session ended; what it had heard and not yet done is done now."""
        now_ns = wall_ns()
        self.beat(run_id, life)
        self._rows(
            "UPDATE sessions SET ended_wall_ns = ?, end_reason = ? WHERE run_id = ?",
            now_ns,
            reason,
            run_id,
        )
        self._rows(
            "UPDATE commands SET done_wall_ns = ?, answer = ? WHERE run_id = ?"
            " AND done_wall_ns IS NULL",
            now_ns,
            f"the session has ended: {reason}",
            run_id,
        )

    def last_number(self) -> int:
        """Return the number of the last command; a session obeys only those that come later."""
        return int(self._rows("SELECT MAX(command_id) AS last FROM commands")[0]["last"] or 0)

    def given_after(self, command_id: int) -> Sequence[Command]:
        """Return the commands with a higher number, oldest first."""
        rows = self._rows(
            "SELECT * FROM commands WHERE command_id > ? ORDER BY command_id", command_id
        )
        return [_command(row) for row in rows]

    def answer(self, command_id: int, run_id: str, words: str, *, is_done: bool) -> None:
        """Write what a session did about a command."""
        now_ns = wall_ns()
        self._rows(
            "UPDATE commands SET run_id = ?, heard_wall_ns = COALESCE(heard_wall_ns, ?),"
            " answer = ?, done_wall_ns = ? WHERE command_id = ?",
            run_id,
            now_ns,
            words,
            now_ns if is_done else None,
            command_id,
        )

    def standing(self) -> Sequence[Command]:
        """Return the commands that say whether there may be entries, oldest first.

        The last `flatten`, `halt` or `resume`, heard or not; and a `reduce` after the last
        `resume`, as long as nobody has heard it: it holds for the day of one session.
        """
        return [_command(row) for row in self._rows(_STANDING)]


def _life_values(life: SignOfLife) -> tuple[str, str, str, str]:
    return life.state, life.risk_state, json.dumps(life.positions), json.dumps(life.net_usd)


def _command(row: Row) -> Command:
    return Command(
        command_id=row["command_id"],
        wall_ns=row["wall_ns"],
        kind=CommandKind(row["kind"]),
        who=row["who"],
        reason=row["reason"],
        run_id=row["run_id"],
        answer=row["answer"] or "",
        is_done=row["done_wall_ns"] is not None,
    )


def _session(row: Row) -> SessionRow:
    return SessionRow(
        run_id=row["run_id"],
        mode=row["mode"],
        process=Process(row["pid"], row["pid_started"]),
        started_wall_ns=row["started_wall_ns"],
        heartbeat_wall_ns=row["heartbeat_wall_ns"],
        life=SignOfLife(
            row["state"],
            row["risk_state"],
            json.loads(row["positions"]),
            json.loads(row["net_usd"]),
        ),
        end_reason=row["end_reason"],
    )
