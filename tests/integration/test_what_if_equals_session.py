"""A parameter means the same thing everywhere: what research says is what a session does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.live.session import LiveSession
from momentum_lab.records.run_record import read_run
from momentum_lab.records.tape import load_tape
from momentum_lab.research.episodes import make_episodes
from momentum_lab.research.what_if import what_if
from tests.conftest import StartGateway
from tests.session_kit import TAPE, begin, demo_parameters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
# A session at 60x hears a second late what research hears at once.
LATENESS_S = 3
# Two ticks of SPY: an order may meet the quote of the next second.
PRICE_USD = 0.02


@pytest.mark.parametrize(
    ("exits", "reason"),
    [({}, "STOP_LOSS"), ({"trail_atr_multiple": 1.0, "stop_loss_ratio": 0.0017}, "TRAIL")],
)
def test_a_session_trades_what_research_says_it_would(
    start_gateway: StartGateway, tmp_path: Path, exits: dict[str, Any], reason: str
) -> None:
    gateway = begin(start_gateway, tmp_path)
    found = demo_parameters(gateway.port)
    parameters = replace(found, exits=replace(found.exits, **exits))
    session = LiveSession(parameters, root=tmp_path)
    anyio.run(session.run)
    record = read_run(session.database, session.run_id)
    tape = load_tape(TAPE)

    said = what_if(
        make_episodes(tape, universe=parameters.universe), parameters, equity_usd=1_000_000.0
    )

    # What was published before the session began is replayed to it, and never traded.
    decided = record.headlines[record.headlines["reason"] != "NEWS_REPLAYED"]
    said = said[said["received_ns"] >= record.run["market_start_ns"]]
    assert len(said) == 2
    assert list(said["reason"]) == list(decided["reason"])
    assert list(said["observed"]) == pytest.approx(list(decided["observed"]), rel=0.05)
    would = said[said["outcome"] == "enter"].iloc[0]
    (did,) = (row for _, row in record.trades.iterrows())
    assert (would["side"], would["exit_reason"]) == (did["side"], did["exit_reason"])
    assert (did["exit_reason"], did["stop_kind"]) == (reason, reason)
    assert did["shares"] == pytest.approx(would["shares"], abs=1)
    for ours, theirs in (("entry", "opened_ns"), ("exit", "closed_ns")):
        assert abs(did[theirs] - would[f"{ours}_ns"]) <= LATENESS_S * NS_PER_S
        assert did[f"{ours}_price"] == pytest.approx(would[f"{ours}_price"], abs=PRICE_USD + 1e-9)
