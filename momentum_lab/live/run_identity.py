"""What a run is known by: its id, and the revision of the code that ran."""

from __future__ import annotations

import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from momentum_lab.clock import wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError


def new_run_id(mode: str) -> str:
    """Return a run id that sorts by time, to the millisecond: "20261122T143000.123Z-paper"."""
    at_ns = wall_ns()
    at = datetime.fromtimestamp(at_ns // NS_PER_S, tz=timezone.utc)
    return f"{at:%Y%m%dT%H%M%S}.{at_ns // 1_000_000 % 1000:03d}Z-{mode}"


def check_run_id(run_id: str) -> str:
    """Return a run id that may name a folder.

    Raises:
        ParameterError: other characters than letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_id):
        raise ParameterError(
            f"run_id: expected letters, digits, '.', '-' and '_', found {run_id!r}"
        )
    return run_id


def revision() -> str:
    """Return the git revision of the checkout this code runs from, "unknown" without one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git is the user's
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
