"""A few of the random days; a thousand of them are `make days`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.code_digest import code_digest
from tests.random_days import live_day, live_days, seeds_of, summary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# In the last one two exits fill, and the second goes on filling beyond zero until it is cancelled.
SEEDS = (*range(1, 25), 994)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_day_breaks_no_promise(seed: int, tmp_path: Path) -> None:
    assert live_day(seed, tmp_path).violations == []


def test_the_same_seed_gives_the_same_orders_and_events(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    first, second = (live_day(6, folder) for folder in folders)

    assert len(first.order_log) > 2
    assert first.order_log == second.order_log
    assert first.digest == second.digest


def test_days_that_have_a_result_are_not_lived_again(tmp_path: Path) -> None:
    results = tmp_path / "days.jsonl"
    row = {"seed": 7, "violations": [], "faults": {}, "took_s": 1.0, "events": 5}
    ours = json.dumps({**row, "code": code_digest()}) + "\n"
    others = json.dumps({**row, "events": 6, "code": "other"}) + "\n"
    results.write_text(ours + others + '{"seed": 8, "viol', "utf-8")

    rows = live_days([7], results)

    assert results.read_text("utf-8").startswith(ours)
    assert [one["events"] for one in rows] == [5]
    assert "1 days, 1 s" in summary_of(rows)


def test_seeds_are_named_by_ranges_and_alone() -> None:
    assert seeds_of("1-3,9") == [1, 2, 3, 9]
