"""What a session does each minute, where one part of it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from momentum_lab.errors import BrokerError, DataError
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.housekeeper import Housekeeper
from momentum_lab.live.ibkr.account_values import Account
from momentum_lab.records.capture import QuoteCapture
from momentum_lab.records.trade_store import TradeStore
from tests.planner_kit import RUN_ID, ToldConnector, told_connector

pytestmark = pytest.mark.anyio


class Unreadable(ToldConnector):
    """An account that cannot be made out."""

    def account(self) -> Account:
        raise DataError("no number")


class Unlooked:
    """An execution service that cannot look at losses."""

    def look_at_losses(self) -> float:
        raise BrokerError("no line")


async def test_what_fails_is_told_and_ends_nothing(tmp_path: Path) -> None:
    connector, clock = told_connector(Unreadable)
    store = TradeStore(tmp_path / "trades.db")
    told: list[str] = []
    keeper = Housekeeper(
        connector,
        cast("Any", Unlooked()),
        book=DecisionBook(store, clock, run_id=RUN_ID),
        clock=clock,
        capture=QuoteCapture(tmp_path / "quotes.parquet"),
        on_doubt=lambda: None,
        on_incident=lambda _kind, text, _symbol: told.append(text),
    )
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    connector.close()
    store.close()

    # Equity, losses, the report: each was tried.
    assert told == ["no number", "no line", "no number"]
