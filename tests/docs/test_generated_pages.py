"""The pages that are made from the code are current."""

from __future__ import annotations

from pathlib import Path

import pytest

from momentum_lab.faces.docs import differences_table, main, pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_generated_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name]


def test_the_table_of_differences_in_the_page_about_orders_is_current() -> None:
    assert differences_table() in (DOCS / "orders.md").read_text(encoding="utf-8")


def test_what_is_written_by_hand_around_the_table_stays(tmp_path: Path) -> None:
    page = tmp_path / "orders.md"
    text = (DOCS / "orders.md").read_text(encoding="utf-8")
    page.write_text(text.replace("| booked |", "| forgotten |"), encoding="utf-8")

    main(tmp_path)

    assert page.read_text(encoding="utf-8") == text


def test_every_key_of_a_parameter_file_has_a_meaning() -> None:
    rows = [line for line in pages()["parameters.md"].splitlines() if line.startswith("| `")]

    assert len(rows) > 100
    assert [row for row in rows if not row.rstrip(" |").rpartition("|")[2].strip()] == []
    assert [row for row in rows if row.endswith("| |")] == []
