"""A small part of the soak of the connector; the whole of it is `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.connection_kit import make_tape
from tests.soak import MONDAY_NS, n_days_for, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
N_FAULTS = 60


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tape(tmp_path_factory.mktemp("soak") / "tape", MONDAY_NS, n_days_for(N_FAULTS))


@pytest.mark.parametrize("seed", [20131007])
def test_random_faults_are_survived(seed: int, tape: Path) -> None:
    found = soak(tape, n_faults=N_FAULTS, seed=seed)

    assert found.violations == []
    assert found.n_faults == len(found.back_s) == N_FAULTS
    assert found.n_entries > 50
    assert found.growth["tasks"] == 0
    assert found.growth["open files"] <= 2


def test_the_same_seed_is_the_same_run(tape: Path) -> None:
    first, second = (soak(tape, n_faults=15, seed=5) for _ in range(2))

    assert (first.names, first.back_s, first.n_attempts) == (
        second.names,
        second.back_s,
        second.n_attempts,
    )
