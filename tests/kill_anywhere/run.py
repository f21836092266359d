"""Lives through one day: starts its processes, starts again what was killed, and judges the end."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.kill_anywhere.judge import judge, still_held
from tests.kill_anywhere.launch import Plan, run_gateway, run_session
from tests.kill_anywhere.steps import BALLAST, FIRST_KILL, LASTING, Point

DAY_LIMIT_S = 120.0
_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
_LOOK_S = 0.01
_DISK_BYTES = 8_000_000
# A full disk is noticed and made empty after so long. Before that, every position that was open
# is due: by its time stop, a minute of market time, of which a second here has sixty.
_FULL_S = 2.5
_KILLED = -signal.SIGKILL
# Everything that takes long to import is imported once, by the process that all others fork from.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.kill_anywhere.launch"])


@dataclass
class Verdict:
    """How a day ended.

    Attributes:
        has_fired: the point was reached; timing decides how often some steps happen.
        violations: one sentence each.
        n_sessions: sessions that were started.
        seconds: how long it took.
    """

    has_fired: bool = False
    violations: list[str] = field(default_factory=list)
    n_sessions: int = 0
    seconds: float = 0.0


class Day:
    """One day in a folder of its own."""

    def __init__(self, folder: Path, tape: Path, point: Point | None) -> None:
        """Prepare a day that goes wrong at a point, or nowhere."""
        self.folder = folder
        self._tape = tape
        self._point = point
        self._port = 0
        self._n_started = 0
        self.n_sessions = 0
        self._gateway: ForkServerProcess | None = None
        self._session: ForkServerProcess | None = None
        self._full_since_s: float | None = None
        self._violations: list[str] = []

    def run(self) -> list[str]:
        """Live through the day; return what went wrong that must not."""
        limit_s = time.monotonic() + DAY_LIMIT_S
        try:
            self._start_gateway()
            self._start_session()
            while (left_s := limit_s - time.monotonic()) > 0:
                ended = self._next_end(left_s)
                if ended is not None:
                    return self._violations + ended
            return [*self._violations, f"the day has not ended after {DAY_LIMIT_S:g} s"]
        finally:
            for process in (self._session, self._gateway):
                if process is not None and process.is_alive():
                    process.terminate()
                    process.join(_STOP_LIMIT_S)
                    process.kill()
                    process.join()

    def _next_end(self, left_s: float) -> list[str] | None:
        """Wait for a process to end and start it again; return once the day is over."""
        session, gateway = self._session, self._gateway
        assert session is not None
        assert gateway is not None
        if self._is_filled_for_good():
            left_s = self._make_room(session)
        wait([session.sentinel, gateway.sentinel], left_s)
        if not gateway.is_alive():
            return self._on_gateway_end(gateway.exitcode)
        if not session.is_alive():
            return self._on_session_end(session.exitcode)
        return None

    def _on_gateway_end(self, code: int | None) -> list[str] | None:
        if code != _KILLED or self._point is None:
            return [f"the gateway has ended with {code}"]
        if self._point.variant == "both":
            self._kill(self._session)
        self._start_gateway()
        if self._point.variant == "both":
            self._start_session()
        return None

    def _on_session_end(self, code: int | None) -> list[str] | None:
        if code == 0 and not self._is_filled_up():
            return []
        if self._point is None or self.n_sessions > self._n_kills:
            return [f"the session has ended with {code}"]
        if self._is_filled_up():
            self._start_session()
            return None
        if self._point.variant == "both":
            self._kill(self._gateway)
            self._start_gateway()
        self._start_session()
        return None

    def _is_filled_up(self) -> bool:
        """Whether this was the session on the full disk: there is room again for the next one."""
        point = self._point
        return (
            point is not None
            and (point.variant in LASTING or point.variant == "full once")
            and self.n_sessions == 1
            and self.has_fired()
        )

    def _is_filled_for_good(self) -> bool:
        point = self._point
        return point is not None and point.variant in LASTING and self.n_sessions == 1

    def _make_room(self, session: ForkServerProcess) -> float:
        """Kill a session that has lived with a full disk for long; return when to look again."""
        if not self.has_fired():
            return _LOOK_S
        now_s = time.monotonic()
        if self._full_since_s is None:
            self._full_since_s = now_s
        if now_s - self._full_since_s >= _FULL_S and session.is_alive():
            self._kill(session)
            # Even to be read a record needs some room.
            (self.folder / "disk" / BALLAST).unlink(missing_ok=True)
            self._violations += still_held(self.folder)
        return _LOOK_S

    @property
    def _n_kills(self) -> int:
        return 2 if self._point is not None and self._point.process == "restarted" else 1

    def has_fired(self) -> bool:
        """Whether the point was reached."""
        return len(list(self.folder.glob("*.fired"))) >= self._n_kills

    def _point_of(self, name: str) -> Point | None:
        """Return where a process that is started now goes wrong: once, then it lives to the end."""
        point = self._point
        if point is None or self.has_fired():
            return None
        if point.process == "restarted" and name == "session":
            return FIRST_KILL if self.n_sessions == 1 else point
        return point if point.process == name else None

    @staticmethod
    def _kill(process: ForkServerProcess | None) -> None:
        if process is not None:
            process.kill()
            process.join()

    def _start_gateway(self) -> None:
        plan, process = self._start("gateway", run_gateway)
        path, limit_s = plan.file("port"), time.monotonic() + _START_LIMIT_S
        while not path.exists():
            if process.exitcode == _KILLED and self._point is not None:
                # At its very first step, before it listened.
                plan, process = self._start("gateway", run_gateway)
                path = plan.file("port")
            if not process.is_alive() or time.monotonic() > limit_s:
                raise RuntimeError(f"the gateway does not listen: see {plan.file('log')}")
            time.sleep(_LOOK_S)
        self._gateway = process
        self._port = int(path.read_text(encoding="utf-8"))

    def _start_session(self) -> None:
        self.n_sessions += 1
        (self.folder / "disk" / BALLAST).unlink(missing_ok=True)
        self._session = self._start("session", run_session)[1]

    def _start(self, name: str, target: Callable[[Plan], None]) -> tuple[Plan, ForkServerProcess]:
        self._n_started += 1
        plan = Plan(
            folder=self.folder,
            tape=self._tape,
            port=self._port,
            name=f"{self._n_started:02d}-{name}",
            point=self._point_of(name),
        )
        process = _CONTEXT.Process(target=target, args=(plan,), daemon=True)
        process.start()
        return plan, process


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a disk of a few megabytes at a folder; needs the right to mount."""
    options = ["-t", "tmpfs", "-o", f"size={_DISK_BYTES}"]
    subprocess.run(  # noqa: S603 - a fixed command
        ["mount", *options, "tmpfs", str(folder)],  # noqa: S607 - whichever mount is the system's
        check=True,
        capture_output=True,
    )
    try:
        yield
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607 - a fixed command


def may_mount(folder: Path) -> bool:
    """Whether small disks can be had here."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with small_disk(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def run_point(folder: Path, tape: Path, point: Point | None) -> Verdict:
    """Live through a day in a fresh folder and judge it."""
    disk = folder / "disk"
    if disk.is_mount():
        # A run that was broken off has left it.
        _unmount(disk)
    shutil.rmtree(folder, ignore_errors=True)
    disk.mkdir(parents=True)
    began_s = time.monotonic()
    day = Day(folder, tape, point)
    is_small = point is not None and point.variant == "no space"
    with small_disk(disk) if is_small else nullcontext():
        verdict = Verdict(violations=day.run(), has_fired=day.has_fired())
        verdict.n_sessions = day.n_sessions
        verdict.violations += judge(folder)
        if is_small and verdict.violations:
            shutil.copytree(disk, folder / "disk-as-it-was")
    verdict.seconds = round(time.monotonic() - began_s, 1)
    return verdict
