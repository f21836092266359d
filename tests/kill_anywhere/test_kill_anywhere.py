"""A small part of the days that are killed at every step; the whole of it is `make kill`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.kill_anywhere.day import make_tape
from tests.kill_anywhere.judge import lasting, unprotected
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
        "full for good/session/commit add_order/1/before",
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
    sent = {f"sent {kind}" for kind in ("entry", "stop", "target", "exit")}
    changes = {f"change of {kind}" for kind in ("stop", "target")}
    writes = ("add_entry", "add_order", "change_order", "change_trade", "risk_states")
    known = sent | {f"sent {kind}" for kind in changes} | {f"commit {kind}" for kind in writes}
    assert known | {"heard execDetails"} <= counts["session"].keys()
    assert {"saves", "tells fill", "takes stop"} <= counts["gateway"].keys()
    assert {f"takes {kind}" for kind in changes} <= counts["gateway"].keys()
    assert "commit differences" in counts["restarted"]


CONNECT = {"what": "connect", "at_s": 0.0}


def order(kind: str, *, shares: int = 100, symbol: str = "SPY", group: str = "") -> dict[str, Any]:
    """An order that arrives: of an entry, a stop, a target or an exit."""
    suffix = {"entry": "d2", "stop": "d1-sl", "target": "d1-tp", "exit": "t1x1"}[kind]
    return {
        "what": "order",
        "order_type": {"stop": "STP", "target": "LMT"}.get(kind, "MKT"),
        "order_ref": f"ml-run-{suffix}",
        "symbol": symbol,
        "action": "SELL",
        "total_quantity": float(shares),
        "oca_group": group or ("ml-run-d1" if kind in ("stop", "target") else ""),
    }


def book(held: int, *stops: tuple[str, int], at_s: float = 0.0, orphans: int = 0) -> dict[str, Any]:
    return {
        "what": "book",
        "at_s": at_s,
        "held": {"SPY": held} if held else {},
        "stops": [["SPY", side, shares] for side, shares in stops],
        "orphans": [f"ml-run-d{number}-tp" for number in range(orphans)],
    }


@pytest.mark.parametrize(
    ("after_restart", "n_violations"),
    [
        pytest.param([book(100)], 0, id="nothing sent yet"),
        pytest.param([book(100), order("entry", symbol="IBM")], 1, id="another order first"),
        pytest.param([book(100), order("stop")], 0, id="the stop first"),
        pytest.param([book(100), order("target")], 0, id="the target first"),
        pytest.param([book(100, ("SELL", 100)), order("exit")], 0, id="it was there"),
        pytest.param([book(100, ("SELL", 60)), order("entry")], 1, id="too small"),
        pytest.param([book(-100, ("SELL", 100)), order("entry")], 1, id="the wrong side"),
        pytest.param([book(100), order("exit")], 0, id="out of what nothing covers"),
        pytest.param([book(100, ("SELL", 60)), order("exit")], 1, id="outside the group"),
        pytest.param(
            [book(100, ("SELL", 60)), order("exit", group="ml-run-d1")], 0, id="in the group"
        ),
        pytest.param([book(100), order("exit", shares=101)], 1, id="more than is held"),
    ],
)
def test_a_position_needs_a_stop_before_another_order_leaves(
    after_restart: Sequence[dict[str, Any]], n_violations: int
) -> None:
    first_life = [CONNECT, order("entry"), order("stop"), book(100)]

    assert len(unprotected([*first_life, CONNECT, *after_restart])) == n_violations


@pytest.mark.parametrize(
    ("lines", "n_violations"),
    [
        pytest.param([book(0, orphans=1), book(0, orphans=1, at_s=5)], 0, id="ends in time"),
        pytest.param([book(0, orphans=1), book(0, orphans=1, at_s=7)], 1, id="an orphan stays"),
        pytest.param([book(100), book(100, ("SELL", 100), at_s=14)], 0, id="covered in time"),
        pytest.param([book(100), book(100, at_s=16)], 1, id="bare for long"),
        pytest.param(
            [
                book(100),
                {"what": "leave", "at_s": 1.0},
                CONNECT | {"at_s": 30.0},
                book(100, at_s=40),
            ],
            0,
            id="nobody was there",
        ),
    ],
)
def test_a_connected_session_leaves_nothing_bare_and_no_orphan(
    lines: Sequence[dict[str, Any]], n_violations: int
) -> None:
    assert len(lasting([CONNECT, *lines])) == n_violations
