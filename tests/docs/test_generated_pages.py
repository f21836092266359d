"""The pages that are made from the code are current."""

from __future__ import annotations

from pathlib import Path

import pytest

from momentum_lab.faces.docs import pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_generated_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name]
