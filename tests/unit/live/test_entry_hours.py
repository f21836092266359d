"""When a session enters nothing: holidays, half days, weekends, the broker's own windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from momentum_lab.clock import SystemClock
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.risk import GuardParameters
from momentum_lab.core.signal import Reason
from momentum_lab.core.windows import WindowParameters
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore

ZONE = ZoneInfo("America/New_York")
# Entries up to the bell, so that only the windows themselves refuse.
OPEN_ALL_DAY = GuardParameters(
    entries_after_open_s=0, entries_before_close_s=0, flat_before_close_s=0
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()) * NS_PER_S


class Desk:
    """Execution services that send nothing, on one store."""

    def __init__(self, store: TradeStore) -> None:
        self._store = store

    def refusal(self, when: str, **sections: Any) -> Reason | None:
        parameters = replace(Parameters(universe=("SPY",)), **sections)
        clock = SystemClock()
        connector = IBKRConnector(
            parameters, clock=clock, on_transition=lambda *_: None, on_incident=lambda *_: None
        )
        service = ExecutionService(
            connector,
            book=DecisionBook(self._store, clock, run_id="r"),
            clock=clock,
            parameters=parameters,
            on_incident=lambda *_: None,
        )
        decision = service.refuse_window(at(when))
        service.close_streams()
        connector.close()
        return decision.reason if decision else None


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    store = TradeStore(tmp_path / "trades.db")
    yield Desk(store)
    store.close()


@pytest.mark.parametrize(
    "when",
    [
        "2025-12-25 12:00",  # a holiday
        "2025-01-09 12:00",  # a day of mourning
        "2026-01-17 12:00",  # a Saturday
        "2026-01-18 12:00",  # a Sunday, in the window of the weekly login too
        "2026-01-18 19:00",
        "2024-07-03 12:45",  # a half day, within the last half hour
        "2024-07-03 14:00",
        "2024-11-29 13:00",
        "2026-01-14 09:31",
        "2026-01-14 15:45",
        "2026-01-14 00:30",  # the night, in the reset too
    ],
)
def test_outside_the_session_nothing_is_entered(desk: Desk, when: str) -> None:
    assert desk.refusal(when) is Reason.OUTSIDE_SESSION


@pytest.mark.parametrize(
    "when", ["2026-01-14 12:00", "2026-07-15 12:00", "2024-07-03 12:00", "2024-11-29 12:29"]
)
def test_within_the_session_entries_are_allowed(desk: Desk, when: str) -> None:
    assert desk.refusal(when) is None


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-01-14 15:39", None),
        ("2026-01-14 15:40", Reason.BROKER_WINDOW),
        ("2026-01-14 15:59", Reason.BROKER_WINDOW),
        ("2026-07-15 15:59", None),
    ],
)
def test_the_asian_reset_ends_a_winter_afternoon_early(
    desk: Desk, when: str, expected: Reason | None
) -> None:
    windows = WindowParameters(region="asia-pacific")

    assert desk.refusal(when, windows=windows, guards=OPEN_ALL_DAY) is expected


def test_a_gateway_that_restarts_at_noon_enters_nothing_then(desk: Desk) -> None:
    # The default of a gateway on a machine in UTC, read as its owner may not expect it.
    windows = WindowParameters(gateway_restart="17:00", gateway_restart_zone="UTC")

    assert desk.refusal("2026-01-14 12:00", windows=windows) is Reason.BROKER_WINDOW
    assert desk.refusal("2026-01-14 12:06", windows=windows) is None
