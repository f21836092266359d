"""Whole sessions over a real socket, against a gateway in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from momentum_lab.clock import utc
from momentum_lab.core.connection import ConnectionState
from momentum_lab.errors import BrokerError, ParameterError
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.parameters import Parameters
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore
from tests.conftest import StartGateway
from tests.session_kit import begin, demo_parameters, free_port, gateway, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]
NEW_YORK = ZoneInfo("America/New_York")


class Running:
    """A session in the background, its result, and its record as it grows."""

    def __init__(self, parameters: Parameters, root: Path) -> None:
        self.session = LiveSession(parameters, root=root)
        self.result: SessionResult | None = None
        self.error: Exception | None = None
        self._root = root

    async def run(self) -> None:
        try:
            self.result = await self.session.run()
        except (BrokerError, ParameterError) as error:
            self.error = error

    def rows(self, table: str) -> list[Row]:
        path = self.session.database
        if not path.exists():
            return []
        store = TradeStore(path)
        try:
            return store.table(table, self.session.run_id)
        finally:
            store.close()

    def states(self) -> list[str]:
        return [row["state"] for row in self.rows("connection")]


def market_time(at_ns: int) -> datetime:
    return utc(at_ns).astimezone(NEW_YORK)


def assert_record_is_whole(running: Running) -> None:
    headlines, decisions = running.rows("headlines"), running.rows("decisions")
    orders, fills, trades = running.rows("orders"), running.rows("fills"), running.rows("trades")
    assert sorted(row["headline_id"] for row in headlines) == sorted(
        row["headline_id"] for row in decisions
    )
    assert all((row["decision_id"] is None) != (row["trade_id"] is None) for row in orders)
    assert {row["order_ref"] for row in fills} <= {row["order_ref"] for row in orders}
    signed = [row["shares"] * (1 if row["side"] == "BUY" else -1) for row in fills]
    assert sum(signed) == 0
    assert all(row["state"] == "CLOSED" for row in trades)
    for row in trades:
        assert row["net_usd"] == pytest.approx(row["gross_usd"] - row["costs_usd"])


async def test_the_fomc_shock_is_traded_short_and_stopped_out(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with gateway(start_gateway, tmp_path) as found:
        running = Running(demo_parameters(found.port), tmp_path)
        await running.run()

    (trade,) = running.rows("trades")
    assert (trade["symbol"], trade["side"], trade["exit_reason"]) == ("SPY", "SELL", "STOP_LOSS")
    assert market_time(trade["opened_ns"]).strftime("%H:%M") == "14:00"
    assert market_time(trade["closed_ns"]).strftime("%H:%M") == "14:01"
    assert trade["net_usd"] < 0
    assert trade["costs_usd"] == pytest.approx(2 * 0.005 * trade["shares"])
    assert running.result is not None
    assert running.result.open_trades == ()
    assert_record_is_whole(running)


async def test_the_gateway_may_start_after_the_session(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    port = free_port()
    running = Running(demo_parameters(port), tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(running.run)
        await until(lambda: running.states().count("DISCONNECTED") >= 2)
        with gateway(start_gateway, tmp_path, port=port):
            await until(lambda: "OPERATIONAL" in running.states())
            running.session.stop()
            await until(lambda: running.result is not None)

    assert_record_is_whole(running)


async def test_a_killed_gateway_is_reconciled_before_anything_is_sent(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    first = begin(start_gateway, tmp_path)
    parameters = demo_parameters(first.port)
    # No price may end the trade, so that it ends by the client's own order.
    far = replace(parameters.exits, stop_loss_ratio=0.03, take_profit_ratio=0.03)
    running = Running(replace(parameters, exits=far), tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(running.run)
        await until(lambda: bool(running.rows("trades")))
        first.kill()
        await until(lambda: running.states()[-1] != "OPERATIONAL")
        orders_before = len(running.rows("orders"))
        with gateway(start_gateway, tmp_path, port=first.port):
            await until(lambda: running.states()[-1] == "OPERATIONAL")
            await until(lambda: running.result is not None, patience_s=90)

    (trade,) = running.rows("trades")
    transitions = running.rows("connection")
    back_ns = [row["at_ns"] for row in transitions if row["state"] == "OPERATIONAL"][1]
    later = running.rows("orders")[orders_before:]
    assert [row["purpose"] for row in later] == ["exit"]
    assert later[0]["created_ns"] >= back_ns
    assert trade["state"] == "CLOSED"
    assert_record_is_whole(running)


async def test_a_stop_request_closes_what_is_open(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with gateway(start_gateway, tmp_path) as found:
        running = Running(demo_parameters(found.port), tmp_path)
        async with anyio.create_task_group() as group:
            group.start_soon(running.run)
            await until(lambda: bool(running.rows("trades")))
            running.session.stop("a person asked")

    (trade,) = running.rows("trades")
    assert trade["exit_reason"] == "SESSION_END"
    assert running.result is not None
    assert running.result.end_reason == "a person asked"
    assert_record_is_whole(running)


async def test_a_lost_gateway_at_the_end_leaves_a_plain_word(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    found = begin(start_gateway, tmp_path)
    parameters = demo_parameters(found.port)
    parameters = replace(parameters, execution=replace(parameters.execution, drain_s=1))
    running = Running(parameters, tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(running.run)
        await until(lambda: bool(running.rows("trades")))
        found.kill()
        # An exit into a socket whose end nobody has noticed yet would be another story.
        await until(lambda: running.states()[-1] != "OPERATIONAL")
        running.session.stop("a person asked")

    assert running.result is not None
    assert len(running.result.open_trades) == 1
    assert "still open: SPY -603 shares" in running.result.end_reason
    purposes = [row["purpose"] for row in running.rows("orders")]
    assert purposes == ["entry", "stop", "target"]


async def test_a_replay_whose_gateway_is_gone_for_good_ends_with_a_plain_word(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    found = begin(start_gateway, tmp_path)
    parameters = demo_parameters(found.port)
    parameters = replace(
        parameters,
        execution=replace(parameters.execution, drain_s=1),
        replay=replace(parameters.replay, give_up_s=1),
    )
    running = Running(parameters, tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(running.run)
        await until(lambda: bool(running.rows("trades")))
        found.kill()

    assert "no connection to 127.0.0.1" in str(running.error)
    (row,) = running.rows("runs")
    assert "still open: SPY -603 shares" in row["end_reason"]


async def test_the_next_session_adopts_what_the_last_one_left(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    first = begin(start_gateway, tmp_path)
    left = Running(demo_parameters(first.port), tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(left.run)
        await until(lambda: bool(left.rows("trades")))
        group.cancel_scope.cancel()
    first.kill()

    with gateway(start_gateway, tmp_path, port=first.port):
        parameters = demo_parameters(first.port)
        next_one = LiveSession(parameters, root=tmp_path, run_id="20990101T000000Z-replay")
        result = await next_one.run()

    (trade,) = left.rows("trades")
    assert trade["state"] == "CLOSED"
    assert result.open_trades == ()


async def test_a_taken_client_id_ends_the_session_with_one_sentence(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with gateway(start_gateway, tmp_path) as found:
        holder = Running(demo_parameters(found.port), tmp_path / "holder")
        second = Running(demo_parameters(found.port), tmp_path / "second")
        async with anyio.create_task_group() as group:
            group.start_soon(holder.run)
            await until(lambda: "OPERATIONAL" in holder.states())
            await second.run()
            holder.session.stop()

    assert "client id is in use by another program" in str(second.error)
    assert second.rows("orders") == []


async def test_an_account_that_the_broker_does_not_know_ends_the_session(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with gateway(start_gateway, tmp_path) as found:
        parameters = replace(demo_parameters(found.port), account="DU7777777")
        running = Running(parameters, tmp_path)
        await running.run()

    assert isinstance(running.error, ParameterError)
    assert "account" in str(running.error)
    assert ConnectionState.OPERATIONAL.value not in running.states()


async def test_no_gateway_at_all_ends_in_time(tmp_path: Path) -> None:
    parameters = demo_parameters(free_port())
    parameters = replace(
        parameters, connection=replace(parameters.connection, first_connection_s=1)
    )
    running = Running(parameters, tmp_path)
    await running.run()

    assert "no connection to 127.0.0.1" in str(running.error)
    assert "Connect call failed" in str(running.error)


async def test_a_paper_session_refuses_a_broker_whose_clock_differs(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with gateway(start_gateway, tmp_path) as found:
        parameters = replace(demo_parameters(found.port), mode="paper")
        connection = replace(parameters.connection, first_connection_s=1)
        running = Running(replace(parameters, connection=connection), tmp_path)
        await running.run()

    assert "this machine's clock differs by" in str(running.error)
    assert "OPERATIONAL" not in running.states()


async def test_a_real_money_account_is_refused_on_whatever_port(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    found = start_gateway("--account", "DF7654321")
    running = Running(demo_parameters(found.port), tmp_path)
    await running.run()

    assert "trades only in a paper account (DU...)" in str(running.error)
    assert "OPERATIONAL" not in running.states()


def test_a_live_session_is_refused_until_every_place_says_so(tmp_path: Path) -> None:
    parameters = replace(demo_parameters(4001), mode="live", account="U1234567")
    with pytest.raises(ParameterError, match=r"real_money\.accepted_for: mode live expects"):
        LiveSession(parameters, root=tmp_path)
