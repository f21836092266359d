"""The page about orders names every reason of a decision, each once, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from momentum_lab.core.signal import Reason

PAGE = Path(__file__).parents[2] / "docs" / "orders.md"


def test_every_reason_of_a_decision_stands_in_its_table() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("| step | reasons |\n")
    table, _, _ = rest.partition("\n\n")

    assert sorted(re.findall(r"`([A-Z_]{2,})`", table)) == sorted(Reason)
