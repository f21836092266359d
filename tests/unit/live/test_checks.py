"""Checks of an examination that need no gateway: ports, currencies, zones, hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import ib_insync
import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.windows import WindowParameters
from momentum_lab.errors import DataError
from momentum_lab.live.finding import Finding
from momentum_lab.live.ibkr.case import Case
from momentum_lab.live.ibkr.checks_of_account import check_equity, check_mode
from momentum_lab.live.ibkr.checks_of_time import check_hours, check_zone
from momentum_lab.parameters import ConnectionParameters, Parameters

ACCOUNT = "DU1234567"


def case(**visit: Any) -> Case:
    """An examination of a paper session, on a connection that is only what a check reads."""
    return Case(Parameters(universe=("SPY",)), SimpleNamespace(**visit), account=ACCOUNT)  # type: ignore[arg-type]  # stands for a connection


def ns(text: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    return int(at.timestamp()) * NS_PER_S


@pytest.mark.parametrize(
    ("mode", "port", "verdict"),
    [
        ("paper", 7497, "ok"),
        ("paper", 4002, "ok"),
        ("paper", 5000, "ok"),
        ("paper", 7496, "warning"),
        ("paper", 4001, "warning"),
        ("shadow", 4001, "ok"),
        ("shadow", 7497, "ok"),
        ("live", 4001, "ok"),
        ("live", 4002, "warning"),
        ("replay", 4102, "ok"),
        ("replay", 4002, "warning"),
    ],
)
def test_a_port_of_another_mode_is_doubtful(mode: Any, port: int, verdict: str) -> None:
    found = case()
    connection = ConnectionParameters(port=port)
    found.parameters = replace(found.parameters, mode=mode, connection=connection)

    (finding,) = check_mode(found)

    assert finding.verdict.value == verdict
    assert str(port) in finding.found


async def equity(*rows: tuple[str, str, str]) -> Finding:
    async def told(_account: str) -> None:
        """All values have come."""

    values = [ib_insync.AccountValue(ACCOUNT, *row, "") for row in rows]
    ib = SimpleNamespace(reqAccountUpdatesAsync=told, accountValues=lambda _: values)
    (finding,) = await check_equity(case(ib=ib))
    return finding


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("currency", "value", "verdict", "words"),
    [
        ("USD", "25000.4", "ok", "25,000 USD"),
        ("USD", "0", "failure", "0 USD"),
        ("EUR", "25000", "failure", "told in EUR"),
    ],
)
async def test_equity_counts_in_dollars(
    currency: str, value: str, verdict: str, words: str
) -> None:
    finding = await equity(("NetLiquidation", value, currency), ("BuyingPower", value, currency))

    assert finding.verdict.value == verdict
    assert words in finding.found


@pytest.mark.anyio
async def test_equity_that_is_not_told_is_a_failure() -> None:
    assert "it is not told" in (await equity()).found


@pytest.mark.anyio
async def test_equity_that_is_no_number_is_told_in_the_words_of_the_broker() -> None:
    with pytest.raises(DataError, match="NetLiquidation, found '25,000'"):
        await equity(("NetLiquidation", "25,000", "USD"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("told", "zone", "verdict"),
    [
        ("20260715 10:00:00 America/New_York", "America/New_York", "ok"),
        ("20260715 10:00:03 EST", "America/New_York", "ok"),  # a name that is wrong in summer
        ("20260715 14:00:00 Greenwich Mean Time", "America/New_York", "warning"),
        ("20260715 14:00:00 UTC", "UTC", "ok"),
        ("20260715 19:30:00 IST", "Asia/Kolkata", "ok"),
        ("20260715 22:00:00 中国标准时间", "Asia/Hong_Kong", "ok"),
        ("20260715 10:00:00", "America/New_York", "ok"),
        ("", "UTC", "warning"),
        ("July 15 10:00", "UTC", "warning"),
    ],
)
async def test_a_zone_is_judged_by_its_clock_and_not_by_its_name(
    told: str, zone: str, verdict: str
) -> None:
    found = case(greeted_at=told)
    found.server_ns = ns("2026-07-15 14:00:00")
    windows = WindowParameters(gateway_restart_zone=zone)
    found.parameters = replace(found.parameters, windows=windows)

    (finding,) = await check_zone(found)

    assert finding.verdict.value == verdict


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2026-07-15 14:00", "the exchange is open until 16:00"),
        ("2024-07-03 16:00", "the exchange is open until 13:00"),
        ("2026-07-15 12:00", "the exchange is closed now, open from 09:30 until 16:00"),
        ("2026-07-18 14:00", "the exchange is closed today"),
        ("2026-07-15 04:30", "the broker's nightly reset is due until Wed 01:45"),
    ],
)
async def test_the_hours_are_those_of_the_calendars(
    monkeypatch: pytest.MonkeyPatch, at: str, words: str
) -> None:
    monkeypatch.setattr("momentum_lab.live.ibkr.case.wall_ns", lambda: ns(at))

    (finding,) = await check_hours(case())

    assert words in finding.found
