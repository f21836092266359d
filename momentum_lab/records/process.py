"""A process of this machine, told from a later one that was given its number."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Fields of /proc/PID/stat after the name in brackets: state is the 3rd, start time the 22nd.
_STATE, _START = 0, 19


@dataclass(frozen=True, slots=True)
class Process:
    """A process by its number and its start.

    Attributes:
        pid: its number.
        started: clock ticks from the machine's start to its own, as text; empty where the system
            does not tell.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has a number now."""
        fields = _fields(pid)
        return cls(pid, fields[_START] if fields else "")

    def is_alive(self) -> bool:
        """Whether it still runs; another process with its number does not count."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Somebody else's: it is there.
            pass
        fields = _fields(self.pid)
        if fields is None or not self.started:
            return True
        # One that has ended and was not yet waited for does nothing any more.
        return fields[_START] == self.started and fields[_STATE] not in ("Z", "X")


def _fields(pid: int) -> list[str] | None:
    try:
        text = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
