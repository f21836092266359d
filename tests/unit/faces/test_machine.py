"""Checks of the machine: versions, kernel, and a disk that is full, read-only or hangs."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from momentum_lab.faces import machine
from momentum_lab.live.finding import Finding, Verdict, fine
from tests.session_kit import ROOT


def requirements(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Finding:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: list(lines))
    return machine.check_libraries()


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 9), "failure"), ((3, 10), "ok"), ((3, 13), "ok"), ((3, 14), "failure")],
)
def test_a_python_is_supported_or_not(version: tuple[int, int], verdict: str) -> None:
    assert machine.check_python(version).verdict.value == verdict


def test_the_libraries_here_are_those_asked_for() -> None:
    found = machine.check_libraries()

    assert found.verdict is Verdict.OK
    assert "ib_insync 0.9.86" in found.found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ib_insync (>=0.9.86,<0.10)", None),
        ("ib_insync>=0.9.86", None),
        ("ib_insync (<0.9.86)", "ib_insync is 0.9.86, expected <0.9.86"),
        ("ib_insync (>=1)", "ib_insync is 0.9.86, expected >=1"),
        ("no-such-thing (>=1)", "no-such-thing is missing"),
        ('no-such-thing (>=1) ; extra == "dev"', None),
        ("click", None),
    ],
)
def test_a_version_out_of_range_is_named(
    monkeypatch: pytest.MonkeyPatch, line: str, expected: str | None
) -> None:
    found = requirements(monkeypatch, line)

    assert found.verdict is (Verdict.OK if expected is None else Verdict.FAILURE)
    if expected is not None:
        assert found.found == expected


def test_a_package_that_is_not_installed_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", missing)

    assert machine.check_libraries().verdict is Verdict.FAILURE


# -------------------------------------------------------------------- the kernel


def test_the_kernel_here_can_run_the_live_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    assert machine.check_kernel().verdict is Verdict.OK


def kernel_of(monkeypatch: pytest.MonkeyPatch, program: str) -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager  # noqa: PLC0415

    spec = SimpleNamespace(argv=[program])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda *_: spec)
    monkeypatch.chdir(ROOT)
    return machine.check_kernel()


@pytest.mark.parametrize(
    ("program", "verdict"),
    [("python", "ok"), (sys.executable, "ok"), ("/opt/another/bin/python", "warning")],
)
def test_a_kernel_of_another_python_is_doubtful(
    monkeypatch: pytest.MonkeyPatch, program: str, verdict: str
) -> None:
    assert kernel_of(monkeypatch, program).verdict.value == verdict


def test_without_a_kernel_nothing_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # noqa: PLC0415

    def missing(_self: object, name: str) -> None:
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", missing)

    assert machine.check_kernel().found == "there is no kernel python3"


def test_without_its_engine_papermill_cannot_run_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())

    assert "does not know the engine" in machine.check_kernel().found


def test_a_running_loop_is_a_failure() -> None:
    async def inside() -> Finding:
        return machine.check_loop()

    assert machine.check_loop().verdict is Verdict.OK
    assert asyncio.run(inside()).verdict is Verdict.FAILURE


# ---------------------------------------------------------------------- the disk


def test_a_good_disk_takes_a_commit_and_keeps_nothing(tmp_path: Path) -> None:
    found = machine.check_disk(tmp_path)

    assert found.verdict is Verdict.OK
    assert "MB free" in found.found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_to_be_made_is_not_made(tmp_path: Path) -> None:
    found = machine.check_disk(tmp_path / "data" / "runs")

    assert found.verdict is Verdict.OK
    assert "(to be made)" in found.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free_mb", "verdict"), [(50, "failure"), (500, "warning"), (5000, "ok")])
def test_little_room_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_mb: int, verdict: str
) -> None:
    usage = SimpleNamespace(free=free_mb * 1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    assert machine.check_disk(tmp_path).verdict.value == verdict


# No file may grow any more, as on a disk without room. In a process of its own, for the limit would
# hold for the report of the tests as well.
_FULL_DISK = """
import resource, sys
from pathlib import Path
from momentum_lab.faces import machine
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
found = machine.check_disk(Path(sys.argv[1]))
print(found.verdict.value, found.found)
"""


def test_a_full_disk_is_a_failure(tmp_path: Path) -> None:
    told = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout

    assert told.startswith(Verdict.FAILURE.value)
    assert "takes no commit" in told


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    # A folder below a file can be written by nobody, whoever runs the test.
    assert machine.check_disk(tmp_path / "file" / "runs").verdict is Verdict.FAILURE


def test_a_disk_without_write_ahead_log_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def connect(*_values: Any, **_options: Any) -> Any:
        answer = SimpleNamespace(fetchone=lambda: ("delete",))
        return SimpleNamespace(execute=lambda _: answer, close=lambda: None)

    monkeypatch.setattr("sqlite3.connect", connect)

    assert "no write-ahead log" in machine.check_disk(tmp_path).found


def test_a_slow_disk_is_doubtful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_commit", lambda _: 0.3)

    assert machine.check_disk(tmp_path).verdict is Verdict.WARNING


def test_a_check_that_hangs_is_given_up() -> None:
    release = threading.Event()

    def hang() -> Finding:
        release.wait(10)
        return fine("disk", "late")

    found = machine.within(0.05, "disk", hang)
    release.set()

    assert found.verdict is Verdict.FAILURE
    assert "not done within 0.05 s" in found.found


def test_every_check_is_made_once_and_each_folder_once(tmp_path: Path) -> None:
    checks = [item.check for item in machine.examine_machine((tmp_path, tmp_path))]

    assert checks == ["python", "libraries", "event loop", "kernel", "disk"]
