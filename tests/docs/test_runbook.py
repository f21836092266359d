"""Every kind of incident that a session can have is explained in the runbook, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from momentum_lab.live import auditor

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook.md"
TELL = {"on_incident", "_on_incident", "note_incident"}


def kinds_in(tree: ast.AST) -> Iterator[str]:
    """The kinds that a module tells, as they stand in its calls."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        kind = node.args[0]
        if name in TELL and isinstance(kind, ast.Constant):
            yield str(kind.value)


def kinds_of_the_code() -> set[str]:
    found = {kind.value.lower().replace("_", " ") for kind in auditor._ALARMING}
    for path in (ROOT / "momentum_lab" / "live").rglob("*.py"):
        found.update(kinds_in(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def kinds_of_the_runbook() -> set[str]:
    _, _, rest = RUNBOOK.read_text(encoding="utf-8").partition("## Incidents\n")
    table, _, _ = rest.partition("\n## ")
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {kind for first in firsts for kind in re.findall(r"`([^`]+)`", first)}


def test_every_incident_stands_in_the_runbook_and_no_other() -> None:
    code = kinds_of_the_code()

    assert len(code) > 40
    assert kinds_of_the_runbook() == code
