"""Checks of the machine that a session would run on: Python, libraries, kernel, disk.

Each runs in a thread of its own with a time limit, since a disk or a network folder can hang.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from momentum_lab.clock import transport_s
from momentum_lab.live.finding import Finding, failure, fine, warning

_PACKAGE = "momentum-lab"
_ENGINE = "momentum_lab"
_KERNEL = "python3"
_PYTHONS = ((3, 10), (3, 14))
_LIMIT_S = 15.0
_BYTES_PER_MB = 1_000_000
_LEAST_BYTES, _EASY_BYTES = 100 * _BYTES_PER_MB, 1_000 * _BYTES_PER_MB
# A decision waits for its commit, and a headline for the decisions before it.
_SLOW_COMMIT_S = 0.1
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)\s*\(?(?P<limits>[^;)]*)\)?\s*(;|$)")
_LIMIT = re.compile(r"(>=|<)\s*([0-9.]+)")
_INSTALL = "Run make in the checkout, or pip install -e . in this environment."


def examine_machine(folders: tuple[Path, ...]) -> Iterator[Finding]:
    """Yield what is found on this machine.

    Args:
        folders: those of the record; nothing of them is left changed.
    """
    yield within(_LIMIT_S, "python", check_python)
    yield within(_LIMIT_S, "libraries", check_libraries)
    yield check_loop()
    yield within(_LIMIT_S, "kernel", check_kernel)
    for folder in dict.fromkeys(folders):
        yield within(_LIMIT_S, "disk", lambda folder=folder: check_disk(folder))  # type: ignore[misc]  # a default binds the loop's value


def within(limit_s: float, check: str, look: Callable[[], Finding]) -> Finding:
    """Return what `look` finds, or that it has not come to an end.

    Args:
        limit_s: how long it may take.
        check: its name.
        look: makes the check.
    """
    found: list[Finding] = []
    # A thread that hangs cannot be ended; as a daemon it does not keep the program from ending.
    thread = threading.Thread(target=lambda: found.append(look()), daemon=True)
    thread.start()
    thread.join(limit_s)
    if found:
        return found[0]
    words = f"not done within {limit_s:g} s" if thread.is_alive() else "broke off"
    return failure(check, words, "See whether the disk or a network folder hangs.")


def check_python(version: tuple[int, int] | None = None) -> Finding:
    """Python is one that the broker's library can be imported by."""
    found = version or sys.version_info[:2]
    first, beyond = _PYTHONS
    text = f"{found[0]}.{found[1]}, supported are {first[0]}.{first[1]} to 3.{beyond[1] - 1}"
    if first <= found < beyond:
        return fine("python", text)
    return failure("python", text, "Make the environment anew with a supported Python.")


def check_libraries() -> Finding:
    """The installed versions are those that the package asks for."""
    try:
        asked = importlib.metadata.requires(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return failure("libraries", f"{_PACKAGE} is not installed here", _INSTALL)
    wrong, n_checked = [], 0
    for line in asked:
        match = _REQUIREMENT.match(line)
        if match is None or "extra ==" in line:
            continue
        n_checked += 1
        wrong += _wrong(match["name"], match["limits"])
    if wrong:
        return failure("libraries", ", ".join(wrong), _INSTALL)
    broker = importlib.metadata.version("ib_insync")
    return fine("libraries", f"ib_insync {broker}; {n_checked} versions are as asked for")


def _wrong(name: str, limits: str) -> list[str]:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return [f"{name} is missing"]
    for sign, limit in _LIMIT.findall(limits):
        is_least = sign == ">="
        if (_release(version) >= _release(limit)) is not is_least:
            return [f"{name} is {version}, expected {limits.strip()}"]
    return []


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version; zeros at its end do not count."""
    numbers = [int(part) for part in re.match(r"[0-9.]*", version)[0].split(".") if part]  # type: ignore[index]  # matches any text
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def check_loop() -> Finding:
    """No event loop runs here, as one does in a kernel."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return fine("event loop", "none runs here, a session gets its own")
    return failure(
        "event loop",
        "one runs here already, as in a notebook's kernel",
        "Run momentum-lab doctor in a terminal.",
    )


def check_kernel() -> Finding:
    """Papermill can run the live notebook: its kernel, its engine, the notebook itself."""
    # The faces load papermill and Jupyter only where they are needed.
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # noqa: PLC0415

    from momentum_lab.errors import ParameterError  # noqa: PLC0415
    from momentum_lab.faces.runner import project_root  # noqa: PLC0415

    engines = importlib.metadata.entry_points(group="papermill.engine")
    if _ENGINE not in {engine.name for engine in engines}:
        return failure("kernel", f"papermill does not know the engine {_ENGINE}", _INSTALL)
    try:
        program = KernelSpecManager().get_kernel_spec(_KERNEL).argv[0]
        project_root()
    except NoSuchKernel:
        return failure("kernel", f"there is no kernel {_KERNEL}", _INSTALL)
    except ParameterError as error:
        return failure("kernel", str(error), "Run from the folder that holds notebooks/.")
    # Jupyter replaces a bare name by the interpreter that starts the kernel.
    if Path(program).is_absolute() and not _is_this_python(program):
        return warning(
            "kernel",
            f"the kernel {_KERNEL} runs another Python: {program}",
            "Run python -m ipykernel install --sys-prefix in this environment.",
        )
    return fine("kernel", f"{_KERNEL} of this environment can run the live notebook")


def _is_this_python(program: str) -> bool:
    return Path(program).parent.resolve() == Path(sys.executable).parent.resolve()


def check_disk(folder: Path) -> Finding:
    """The folder of the record takes a commit as the trade store makes it.

    A folder that does not exist is not made: the nearest one above it is tried.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    shown = _shown(folder) if place == folder else f"{_shown(folder)} (to be made)"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as scratch:
            took_s = _commit(Path(scratch, "commit.db"))
        n_free = shutil.disk_usage(place).free
    except (OSError, sqlite3.Error) as error:
        return failure(
            "disk",
            f"{shown} takes no commit: {error}",
            "Free the disk, or name another folder in records.",
        )
    text = f"{shown}: {n_free // _BYTES_PER_MB:,} MB free, a commit takes {took_s * 1000:.1f} ms"
    if n_free < _LEAST_BYTES:
        return failure("disk", text, "Free the disk: without its record nothing is entered.")
    if n_free < _EASY_BYTES:
        return warning("disk", text, "Free the disk before the session.")
    if took_s > _SLOW_COMMIT_S:
        return warning("disk", text, "Put the record on a local disk.")
    return fine("disk", text)


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _commit(path: Path) -> float:
    """Return how long one durable commit takes, seconds.

    Raises:
        OSError: the disk is full or not writable.
        sqlite3.Error: likewise, or there can be no write-ahead log in this folder.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            raise sqlite3.OperationalError(f"no write-ahead log, journal mode is {journal}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE entry (text TEXT)")
        since_s = transport_s()
        connection.execute("INSERT INTO entry VALUES ('one')")
        return transport_s() - since_s
    finally:
        connection.close()
