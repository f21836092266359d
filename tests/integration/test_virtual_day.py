"""A whole day of the whole system in virtual time: complete, and the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.faces.rehearsal import rehearse
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.parameters import Parameters, RecordParameters, load_parameters
from momentum_lab.records.run_record import check_record
from momentum_lab.records.trade_store import TradeStore
from tests.session_kit import ROOT, TAPE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# 2013-10-09, 13:45 New York: shortly before the minutes that moved the market.
BEFORE_FOMC_NS = 1_381_340_700 * NS_PER_S


def _parameters(**exits: Any) -> Parameters:
    found = load_parameters(ROOT / "parameters" / "demo.yaml")
    return replace(
        found,
        exits=replace(found.exits, **exits),
        records=RecordParameters(database="trades.db", runs="runs"),
    )


def _play(folder: Path, **exits: Any) -> tuple[dict[str, list[dict[str, object]]], bytes]:
    settings = GatewaySettings(tape=TAPE, start_ns=BEFORE_FOMC_NS, wire_log=folder / "wire.log")
    result = rehearse(_parameters(**exits), settings, root=folder)
    assert (result.end_reason, result.open_trades) == ("end of the trading session", ())
    store = TradeStore(result.database)
    try:
        tables = {
            name: [dict(row) for row in store.table(name, result.run_id)]
            for name in ("decisions", "orders", "fills", "trades", "headlines")
        }
    finally:
        store.close()
    assert not check_record(result.database)
    return tables, (folder / "wire.log").read_bytes()


@pytest.mark.parametrize(
    ("exits", "reason"),
    [
        ({}, "STOP_LOSS"),
        (
            {"trail_atr_multiple": 1.0, "stop_loss_ratio": 0.0017, "decay_volume_ratio": 0.25},
            "TRAIL",
        ),
    ],
)
def test_a_day_in_virtual_time_trades_and_repeats_byte_by_byte(
    tmp_path: Path, exits: dict[str, float], reason: str
) -> None:
    first, first_bytes = _play(tmp_path / "first", **exits)
    second, second_bytes = _play(tmp_path / "second", **exits)

    (trade,) = first["trades"]
    assert (trade["symbol"], trade["state"], trade["exit_reason"]) == ("SPY", "CLOSED", reason)
    assert len(first["headlines"]) == len(first["decisions"])
    assert first == second
    assert first_bytes == second_bytes


def test_only_a_replay_can_be_rehearsed(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="needs replay, found paper"):
        rehearse(replace(_parameters(), mode="paper"), GatewaySettings(tape=TAPE), root=tmp_path)
