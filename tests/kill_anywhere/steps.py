"""The steps of a process that the outside can see, counted, and what happens at one of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

# The restarted one is the session after a first kill, amid an entry that fills in parts.
Process = Literal["session", "gateway", "restarted"]
Moment = Literal["before", "after"]
# What dies, or how the disk fills up: for one write, from one write on, or truly.
Variant = Literal["session", "gateway", "both", "full once", "full for good", "no space"]
# With these the session lives on, and there is room again only for the one after it.
LASTING: Final[tuple[Variant, ...]] = ("full for good", "no space")

WRITES = "commit "
BALLAST = "ballast"


@dataclass(frozen=True)
class Point:
    """One step of the day at which something goes wrong.

    Attributes:
        variant: what goes wrong.
        process: whose step it is.
        kind: kind of the step, e.g. "sent stop".
        number: the how-many-th of its kind, from 1.
        moment: before or after it.
    """

    variant: Variant
    process: Process
    kind: str
    number: int
    moment: Moment

    @property
    def name(self) -> str:
        """What it is called on the command line and in the results."""
        return f"{self.variant}/{self.process}/{self.kind}/{self.number}/{self.moment}"

    @property
    def slug(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^a-z0-9A-Z]+", "-", self.name)

    @classmethod
    def of(cls, name: str) -> Point:
        """Return the point of a name."""
        variant, process, kind, number, moment = name.split("/")
        return cls(
            cast("Variant", variant),
            cast("Process", process),
            kind,
            int(number),
            cast("Moment", moment),
        )


# Where the first session dies, when it is the second one that is looked at.
FIRST_KILL = Point("session", "session", "commit book_fill", 5, "before")


class Steps:
    """Counts the steps of this process, and ends it at the one of a point.

    Attributes:
        counts: kind -> how often it was reached.
    """

    def __init__(self, point: Point | None, *, fired: Path, disk: Path, session: Path) -> None:
        """Begin to count.

        Args:
            point: where this process dies or its disk fills up; None for a run without either.
            fired: file that is made when it happens.
            disk: where the session writes.
            session: file with the process id of the session.
        """
        self.counts: Counter[str] = Counter()
        self._point = point
        self._fired = fired
        self._disk = disk
        self._session = session
        self._is_full = False

    def before(self, kind: str) -> None:
        """A step is about to happen.

        Raises:
            sqlite3.OperationalError: it is a write, and the disk is full.
        """
        self.counts[kind] += 1
        if self._is_here(kind, "before"):
            self._happen()
        if self._is_full and kind.startswith(WRITES):
            if self._point is not None and self._point.variant == "full once":
                self._is_full = False
            raise sqlite3.OperationalError("database or disk is full")

    def after(self, kind: str) -> None:
        """A step has happened."""
        if self._is_here(kind, "after"):
            self._happen()

    def _is_here(self, kind: str, moment: Moment) -> bool:
        point = self._point
        return (
            point is not None
            and point.moment == moment
            and point.kind == kind
            and point.number == self.counts[kind]
        )

    def _happen(self) -> None:
        variant = None if self._point is None else self._point.variant
        kills_other = self._point is not None and (variant, self._point.process) == (
            "session",
            "gateway",
        )
        if kills_other and not self._session.exists():
            # The gateway's first steps come before any session: there is nobody to kill.
            return
        self._fired.touch()
        if variant == "no space":
            fill_up(self._disk)
        elif variant in ("full once", "full for good"):
            self._is_full = True
        elif kills_other:
            os.kill(int(self._session.read_text(encoding="utf-8")), signal.SIGKILL)
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def fill_up(disk: Path) -> None:
    """Leave not one byte of room on a small disk."""
    file = os.open(disk / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while os.write(file, b"x" * size):
                    pass
    finally:
        os.close(file)
