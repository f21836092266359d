"""A small part of the fuzz run, in every run of the tests; the whole of it is `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.gateway import fuzz

N_FRAMES = 20_000

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


async def test_no_frame_hurts_the_gateway_or_anyone_but_its_sender(tmp_path: Path) -> None:
    outcome = await fuzz(N_FRAMES, seed=20, folder=tmp_path)

    assert outcome.faults == []
    assert outcome.n_frames >= N_FRAMES
    assert outcome.n_checks > 0
    # It has reached the exchange, and not only the refusals in front of it.
    assert outcome.n_fills > 0
    assert {"error 320", "error 505", "5", "11", "101", "17"} <= outcome.answers.keys()
