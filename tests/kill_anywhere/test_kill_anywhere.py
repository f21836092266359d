"""A small part of the days that are killed at every step; the whole of it is `make kill`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.kill_anywhere.day import make_tape
from tests.kill_anywhere.judge import unprotected
from tests.kill_anywhere.points import Counts, choose, enumerate_points, enumerate_steps
from tests.kill_anywhere.run import run_point
from tests.kill_anywhere.steps import LASTING, Point

N_POINTS = 8
SEED = 20131009


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tape(tmp_path_factory.mktemp("kill") / "tape")


@pytest.fixture(scope="module")
def counts(tape: Path) -> Counts:
    verdict, found = enumerate_steps(tape.parent / "whole", tape)
    assert verdict.violations == []
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_day_that_is_killed_anywhere_ends_as_the_gateway_says(
    tape: Path, counts: Counts, tmp_path: Path
) -> None:
    points = [point for point in enumerate_points(counts) if point.variant not in LASTING]
    chosen = choose(points, N_POINTS, seed=SEED)
    with ThreadPoolExecutor(2) as pool:
        days = list(pool.map(lambda point: run_point(tmp_path / point.slug, tape, point), chosen))

    found = {point.name: day.violations for point, day in zip(chosen, days, strict=True)}
    assert found == {point.name: [] for point in chosen}
    # How often some steps happen is decided by the machine's speed.
    assert sum(day.has_fired for day in days) >= N_POINTS - 1


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "name",
    [
        "full for good/session/commit book_fill/5/before",
        "full for good/session/commit add_order/4/before",
    ],
)
def test_exits_leave_on_a_full_disk_and_are_known_afterwards(
    name: str, tape: Path, tmp_path: Path
) -> None:
    assert run_point(tmp_path / "day", tape, Point.of(name)).violations == []


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_the_steps_of_a_day_make_hundreds_of_points(counts: Counts) -> None:
    points = enumerate_points(counts)

    assert len(points) == len(set(points)) > 300
    assert [Point.of(point.name) for point in points] == points
    assert {"sent order", "heard execDetails", "commit add_entry"} <= counts["session"].keys()
    assert {"saves", "takes placeOrder", "tells fill"} <= counts["gateway"].keys()


CONNECT = {"what": "connect"}


def order(order_type: str) -> dict[str, Any]:
    return {"what": "order", "order_type": order_type}


def book(held: int, *stops: tuple[str, int]) -> dict[str, Any]:
    return {
        "what": "book",
        "held": {"SPY": held} if held else {},
        "stops": [["SPY", side, shares] for side, shares in stops],
    }


@pytest.mark.parametrize(
    ("after_restart", "n_violations"),
    [
        pytest.param([book(100)], 0, id="nothing sent yet"),
        pytest.param([order("MKT"), book(100)], 1, id="an order first"),
        pytest.param([order("STP"), book(100, ("SELL", 100))], 0, id="the stop first"),
        pytest.param([book(100, ("SELL", 100)), order("MKT"), book(0)], 0, id="it was there"),
        pytest.param([order("MKT"), book(100, ("SELL", 60))], 1, id="too small"),
        pytest.param([order("MKT"), book(-100, ("SELL", 100))], 1, id="the wrong side"),
    ],
)
def test_a_position_needs_a_stop_before_another_order_leaves(
    after_restart: Sequence[dict[str, Any]], n_violations: int
) -> None:
    first_life = [CONNECT, order("MKT"), book(100)]

    assert len(unprotected([*first_life, CONNECT, *after_restart])) == n_violations
