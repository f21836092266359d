"""One session per trade store, and one per account and strategy: locks that die with their process.

The operating system frees a lock when its process ends, however it ends, so nothing is ever left
behind to be judged by its age. Beside the lock stands who holds it, and its last sign of life is
the file's own time: for the message to whoever comes second. A lock that outlived its process,
because a child was born with it, is taken over.

A second machine sees none of this. Two sessions at one gateway are kept apart there by the broker:
it lets a client id in once, and the id is fixed in the parameter file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from momentum_lab.clock import utc, wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import RecordError
from momentum_lab.records.process import Process

# The same folder from a terminal and from a scheduler, which may have other variables.
_LEASES = "momentum-lab"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock that is held."""

    path: Path

    def beat(self) -> None:
        """Give a sign of life; one that cannot be given is not worth a failure."""
        with contextlib.suppress(OSError):
            os.utime(self.path)


@contextmanager
def exclusive(database: Path, run_id: str = "", *, user: str = "session") -> Iterator[Lease]:
    """Hold the store of a session; a second holder is refused.

    Args:
        database: the store, or another file with one user; the lock is a file beside it.
        run_id: who holds it, for the message to others.
        user: what uses such a file, likewise.

    Raises:
        RecordError: another process holds it, or its folder cannot be written.
    """
    path = database.with_name(f"{database.name}.lock")
    with _held(path, run_id, refusal=f"{database}: another {user} is using it") as lease:
        yield lease


@contextmanager
def exclusive_account(account: str, strategy: str, run_id: str) -> Iterator[Lease]:
    """Hold an account for a strategy, whatever store is used; a second holder is refused.

    Args:
        account: the account's id; it is not written down.
        strategy: name of the strategy.
        run_id: who holds it.

    Raises:
        RecordError: another process of this user holds it, or it cannot be written down.
    """
    digest = hashlib.sha256(json.dumps([account, strategy]).encode()).hexdigest()[:16]
    # Where the XDG convention keeps what outlives a program and is no configuration.
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / _LEASES / f"{digest}.lease"
    refusal = f"another session trades strategy {strategy!r} in this account"
    with _held(path, run_id, refusal=refusal) as lease:
        yield lease


@contextmanager
def _held(path: Path, run_id: str, *, refusal: str) -> Iterator[Lease]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of several that come at once, one looks and takes at a time.
        with path.with_name(f".{path.name}.guard").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            file = _taken(path, refusal)
            _sign(file, run_id)
    except OSError as error:
        raise RecordError(f"cannot lock {path}: {error.strerror}") from error
    with file:
        try:
            yield Lease(path)
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)


def _taken(path: Path, refusal: str) -> TextIOWrapper:
    file = path.open("a+", encoding="utf-8")
    if _locks(file):
        return file
    holder, words = _holder(path)
    file.close()
    if holder is None or holder.is_alive():
        raise RecordError(f"{refusal}{words}")
    path.unlink()
    fresh = path.open("a+", encoding="utf-8")
    fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fresh


def _locks(file: TextIOWrapper) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: TextIOWrapper, run_id: str) -> None:
    me = Process.of(os.getpid())
    file.truncate(0)
    json.dump({"pid": me.pid, "started": me.started, "run_id": run_id, "since_ns": wall_ns()}, file)
    file.flush()


def _holder(path: Path) -> tuple[Process | None, str]:
    """Return who holds a lock, and the words about it; None and no words where nobody signed."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        age_s = (wall_ns() - path.stat().st_mtime_ns) / NS_PER_S
        words = f"pid {told['pid']}, since {utc(told['since_ns']):%Y-%m-%d %H:%M:%S} UTC"
        # Only a run gives signs of life.
        if told["run_id"]:
            words = f"run {told['run_id']}, {words}, last heartbeat {age_s:.0f} s ago"
        return Process(told["pid"], told["started"]), f": {words}"
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""
