"""What one check before a session has found, and what would cure it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """How a check ended; a failure is what keeps a session from trading."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was looked at, a short name.
        verdict: how it ended.
        found: what was found, one sentence; of a skipped check, why.
        cure: what a person does about it, one sentence; empty where there is nothing to do.
    """

    check: str
    verdict: Verdict
    found: str
    cure: str = ""


def fine(check: str, found: str) -> Finding:
    """Return that nothing is wrong."""
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, cure: str) -> Finding:
    """Return what may matter, or could not be told."""
    return Finding(check, Verdict.WARNING, found, cure)


def failure(check: str, found: str, cure: str) -> Finding:
    """Return what keeps a session from trading."""
    return Finding(check, Verdict.FAILURE, found, cure)


def skipped(check: str, why: str) -> Finding:
    """Return that a check was not made."""
    return Finding(check, Verdict.SKIPPED, why)
