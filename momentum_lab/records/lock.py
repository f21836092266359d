"""One session per trade store on this machine: a lock that dies with its process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from momentum_lab.errors import RecordError


@contextmanager
def exclusive(database: Path) -> Iterator[None]:
    """Hold the store of a session; a second holder is refused.

    The operating system frees the lock when the process ends, however it ends.

    Args:
        database: the store; the lock is a file beside it.

    Raises:
        RecordError: another process holds it, or its folder cannot be written.
    """
    path = database.with_name(f"{database.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise RecordError(f"cannot lock {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecordError(f"{database}: another session is using it") from error
        yield
