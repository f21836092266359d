"""Connecting to the paper gateway with the unmodified client library."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

import anyio
import pytest
from ib_insync import IB, ScannerSubscription

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway
from tests.gateway_client import (
    LIMIT_S,
    connected,
    errors_of,
    news_tape,
    play,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import NOON, second_tape, seconds

pytestmark = pytest.mark.anyio
TAPE = second_tape(seconds([100.0] * 60))


async def test_the_library_connects_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        waits_s = []
        for _ in range(5):
            started_s = perf_counter()
            async with connected(gateway.port):
                waits_s.append(perf_counter() - started_s)
    assert min(waits_s) < 0.1


async def test_no_request_of_the_start_times_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="ib_insync"):
        async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
            assert ib.managedAccounts() == ["DU1234567"]
            assert ib.client.serverVersion() == 176
            values = {value.tag: value.value for value in ib.accountValues()}
            assert values["NetLiquidation"] == "1000000.00"
            assert values["BuyingPower"] == "4000000.00"
            assert (ib.positions(), ib.trades(), ib.fills()) == ([], [], [])
    # Connection errors at the end are the library's words for a closed socket.
    assert not [record for record in caplog.records if "timed out" in record.getMessage()]


async def test_a_client_id_in_use_is_refused_and_free_again_after_the_end(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        async with connected(gateway.port):
            second = IB()
            found = errors_of(second)
            with pytest.raises((asyncio.TimeoutError, ConnectionError)):
                await second.connectAsync("127.0.0.1", gateway.port, clientId=1, timeout=0.3)
            assert found == [(-1, 326)]
        async with connected(gateway.port) as again:
            assert again.isConnected()


async def test_a_client_can_come_back_at_once(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        for _ in range(20):
            async with connected(gateway.port) as ib:
                assert ib.isConnected()


async def test_the_clock_stands_until_the_first_client_streams(tmp_path: Path) -> None:
    async with (
        standing_gateway(TAPE, tmp_path, fast=3600.0, slow=60.0) as gateway,
        connected(gateway.port) as ib,
    ):
        for _ in range(20):
            await settle(ib)
        assert gateway.now_ns == NOON

        ib.reqMktData(news_tape(), "mdoff,292")
        await moved(gateway, ib)


async def test_without_hold_the_clock_runs_from_the_start(tmp_path: Path) -> None:
    async with (
        standing_gateway(TAPE, tmp_path, slow=60.0, fast=60.0, hold=False) as gateway,
        connected(gateway.port) as ib,
    ):
        await moved(gateway, ib)


async def moved(gateway: Gateway, ib: IB) -> None:
    """Return once market time runs."""
    with anyio.fail_after(LIMIT_S):
        while gateway.now_ns == NOON:
            await settle(ib)


async def test_the_current_time_is_market_time(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 7, ib)
        assert (await ib.reqCurrentTimeAsync()).timestamp() * NS_PER_S == NOON + 7 * NS_PER_S


async def test_account_summary_and_profit_are_answered(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        summary = {value.tag: value.value for value in await ib.accountSummaryAsync()}
        assert summary["AvailableFunds"] == "1000000.00"
        ib.reqPnL("DU1234567")
        await settle(ib)
        assert [(p.dailyPnL, p.realizedPnL) for p in ib.pnl()] == [(0.0, 0.0)]


async def test_requests_that_a_tape_cannot_answer_get_an_error(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        contract = spy()
        await ib.qualifyContractsAsync(contract)
        found = errors_of(ib)
        with anyio.fail_after(5):
            assert not await ib.reqFundamentalDataAsync(contract, "ReportsFinSummary")
            assert not await ib.getWshMetaDataAsync()
        ib.reqScannerSubscription(ScannerSubscription(scanCode="TOP_PERC_GAIN"))
        await settle(ib)
    assert [code for _, code in found] == [430, 10276, 321]


async def test_the_end_of_a_request_that_was_refused_is_heard_in_silence(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        scan = ib.reqScannerSubscription(ScannerSubscription(scanCode="TOP_PERC_GAIN"))
        ib.cancelScannerSubscription(scan)
        await settle(ib)
        assert found == [(scan.reqId, 321)]
        for name in (
            *("cancelFundamentalData", "cancelCalculateImpliedVolatility"),
            *("cancelCalculateOptionPrice", "unsubscribeFromGroupEvents"),
            *("cancelWshMetaData", "cancelWshEventData"),
        ):
            getattr(ib.client, name)(77)
        await settle(ib)
    assert len(found) == 1


async def test_the_scanner_has_no_parameters(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        with anyio.fail_after(5):
            answer = await ib.reqScannerParametersAsync()
    root = ElementTree.fromstring(answer)  # noqa: S314 - our own gateway's
    assert (root.tag, len(root)) == ("ScanParameterResponse", 0)


async def test_the_wire_log_holds_both_directions(tmp_path: Path) -> None:
    log = tmp_path / "wire.log"
    async with (
        standing_gateway(TAPE, tmp_path, wire_log=log) as gateway,
        connected(gateway.port) as ib,
    ):
        await settle(ib)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith('["<", 1, ') and '"reqCurrentTime"' in line for line in lines)
    assert any(line.startswith('[">", 1, ') and '["49", "1", ' in line for line in lines)


async def test_an_error_nobody_foresaw_costs_only_the_client_that_caused_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port, 1) as bystander:
        # No request is known to do this: a part is missing, as a defect of ours would have it.
        del gateway.hub.catalog.feeds
        async with connected(gateway.port, 2) as guilty:
            with pytest.raises(ConnectionError):
                await guilty.reqNewsProvidersAsync()
            assert not guilty.isConnected()

        await settle(bystander)
        assert list(gateway.hub.sessions) == [1]
    assert "unforeseen" in caplog.text


async def test_a_connection_that_has_said_nothing_is_closed_with_the_gateway(
    tmp_path: Path,
) -> None:
    with socket.socket() as silent:
        silent.settimeout(LIMIT_S)
        async with standing_gateway(TAPE, tmp_path) as gateway:
            silent.connect(("127.0.0.1", gateway.port))
            # A later connection is served: the earlier one has been accepted, too.
            async with connected(gateway.port):
                pass
        # A socket that was only forgotten is told of when it is collected.
        gc.collect()
        assert silent.recv(1) == b""
