"""Connector and execution against a gateway in the same loop, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from momentum_lab.clock import ReplayClock, transport_s
from momentum_lab.core.connection import BackoffParameters, ConnectionEvent, ConnectionState
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose, OrderState
from momentum_lab.core.position import ExitReason
from momentum_lab.core.signal import Decision, Outcome, Reason
from momentum_lab.errors import BrokerError, ConnectionLostError, ParameterError, RecordError
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.records.trade_store import TradeStore
from tests.desk_kit import RUN, START_NS, desk
from tests.session_kit import TAPE, demo_parameters, until

pytestmark = pytest.mark.anyio


async def test_candles_end_with_the_replayed_now(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        bars = (await found.connector.fetch_candles("SPY")).bars
        now_ns = found.gateway.now_ns

    assert bars[-1].start_ns <= now_ns < bars[-1].end_ns + 5 * NS_PER_S
    assert len(bars) > 250
    assert all(one.end_ns <= two.start_ns for one, two in pairwise(bars))


async def test_a_symbol_without_a_line_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        with pytest.raises(ParameterError, match="AAPL"):
            await found.connector.open_line("AAPL")
        with pytest.raises(BrokerError, match="AAPL"):
            found.connector.stream_quotes("AAPL")


async def test_quotes_stream_and_candles_form(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        with found.connector.stream_quotes("SPY") as stream:
            await until(lambda: len(stream.candles.closed) >= 2)
            quote, candles = stream.quote, stream.candles

    assert quote is not None
    assert quote.bid is not None
    assert quote.ask is not None
    assert 160 < quote.bid < quote.ask < 170
    assert all(bar.start_ns % (60 * NS_PER_S) == 0 for bar in candles.closed)


async def test_upstream_lost_stops_orders_and_restored_synchronises_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        signal = await found.signal()
        found.say(1100, "Connectivity between IB and TWS has been lost.")
        await until(lambda: found.connector.state is ConnectionState.DEGRADED)

        decision = await found.execution.enter(signal)
        assert (decision.outcome, decision.reason) == (Outcome.PASS, Reason.NOT_OPERATIONAL)
        found.say(1102, "Connectivity between IB and TWS has been restored.")
        await until(found.connector.is_operational)

        with found.connector.stream_quotes("SPY") as stream:
            await until(lambda: stream.quote is not None)
        (session,) = found.gateway.hub.sessions.values()
        assert len(session.subscriptions.quotes) == 3
        assert found.store.table("orders", RUN) == []


@dataclass
class Retries:
    """What a connector that is cut off again and again does between its attempts."""

    gateway: Gateway
    connector: IBKRConnector
    steps: list[tuple[ConnectionEvent, float]]

    def n_attempts(self) -> int:
        return [event for event, _ in self.steps].count(ConnectionEvent.ATTEMPT)

    def waits_s(self) -> list[float]:
        return [
            then_s - since_s
            for (event, since_s), (_, then_s) in pairwise(self.steps)
            if event is ConnectionEvent.LOST
        ]


@asynccontextmanager
async def retries() -> AsyncIterator[Retries]:
    """A connector whose waits are 0.1 s, 0.4 s, 1.6 s, unless it was OPERATIONAL for 0.2 s."""
    steps: list[tuple[ConnectionEvent, float]] = []

    async def agree(_snapshot: BrokerSnapshot) -> None:
        """Find no difference."""

    async with paper_gateway(GatewaySettings(tape=TAPE, start_ns=START_NS)) as gateway:
        parameters = demo_parameters(gateway.port)
        connector = IBKRConnector(
            replace(
                parameters,
                connection=replace(parameters.connection, request_timeout_s=0.4),
                backoff=BackoffParameters(first_wait_s=0.1, growth=4, jitter_ratio=0, stable_s=0.2),
            ),
            clock=ReplayClock(60),
            on_transition=lambda _state, event, _cause: steps.append((event, transport_s())),
            on_incident=lambda *_: None,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(connector.run, agree)
            yield Retries(gateway, connector, steps)
            group.cancel_scope.cancel()
        connector.close()


async def test_a_connection_that_is_never_operational_does_not_shorten_the_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each attempt has its socket for 0.4 s, until the first line has no answer.
    monkeypatch.setitem(ANSWERS, "reqContractDetails", lambda *_: None)
    async with retries() as found:
        await until(lambda: found.n_attempts() == 3)

    assert found.waits_s()[1] >= 0.4


async def test_a_connection_that_was_operational_long_enough_begins_the_waits_again() -> None:
    async with retries() as found:
        for attempt in (1, 2):
            await until(found.connector.is_operational)
            await anyio.sleep(0.3)
            (session,) = found.gateway.hub.sessions.values()
            # As at the broker's nightly restart: first its own line goes, then the socket.
            session.error(-1, 1100, "Connectivity between IB and TWS has been lost.")
            await until(lambda: found.connector.state is ConnectionState.DEGRADED)
            session._scope.cancel()
            await until(lambda attempt=attempt: found.n_attempts() > attempt)

    assert found.waits_s()[1] < 0.4


async def test_a_signal_becomes_one_filled_order_with_its_levels(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        decision = await found.execution.enter(await found.signal())
        trade = found.store.trade(await found.execution.opened.receive())
        order, *children = found.store.table("orders", RUN)

    assert decision.outcome is Outcome.ENTER
    assert [row["purpose"] for row in children] == ["stop", "target"]
    assert order["state"] == "FILLED"
    assert order["shares"] == trade["shares"]
    assert trade["shares"] * trade["entry_price"] <= 100_000
    assert trade["stop"] == pytest.approx(trade["entry_price"] * 1.0015, abs=0.01)


async def test_a_symbol_in_a_position_is_busy(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.execution.enter(await found.signal(number=1))
        second = await found.execution.enter(await found.signal(number=2))

        assert (second.outcome, second.reason) == (Outcome.PASS, Reason.SYMBOL_BUSY)
        assert len(found.store.table("orders", RUN)) == 3


async def test_a_position_is_closed_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.execution.enter(await found.signal())
        trade_id = await found.execution.opened.receive()

        assert await found.execution.close(trade_id, ExitReason.TIME_STOP, None)
        assert await found.execution.close(trade_id, ExitReason.TIME_STOP, None)

        orders = found.store.table("orders", RUN)
        assert [row["purpose"] for row in orders] == ["entry", "stop", "target", "exit"]
        assert found.store.trade(trade_id)["state"] == "CLOSED"
        held = found.gateway.hub.account.ledger.positions.values()
        assert [position.quantity for position in held] == [0]


async def test_what_the_broker_holds_besides_us_blocks_the_symbol(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.execution.enter(await found.signal())
        trade_id = await found.execution.opened.receive()
        (trade,) = found.store.open_trades()
        found.execution.blocked[trade["con_id"]] = "the broker holds something else"

        assert not await found.execution.close(trade_id, ExitReason.STOP_LOSS, None)
        assert len(found.store.table("orders", RUN)) == 3


async def test_an_order_the_broker_refuses_is_final(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        account = found.gateway.hub.account
        signal = await found.signal()
        account.ledger.cash_usd = 1.0
        decision = await found.execution.enter(signal)
        order, *children = found.store.table("orders", RUN)
        await until(lambda: not found.store.unsettled_orders())

    assert isinstance(decision, Decision)
    assert OrderState(order["state"]) is OrderState.REJECTED
    assert len(children) == 2
    assert not found.live_orders()
    assert any("order rejected" in text for text in found.incidents)


async def test_nothing_leaves_without_a_connection(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        signal = await found.signal()
        await found.execution.enter(signal)
        trade_id = await found.execution.opened.receive()
        found.say(1100, "lost")
        await until(lambda: not found.connector.is_operational())

        assert not await found.execution.close(trade_id, ExitReason.STOP_LOSS, None)
        with pytest.raises(ConnectionLostError):
            await found.connector.place_order(
                OrderIntent("x", "SPY", 756733, Side.BUY, 1, START_NS, purpose=OrderPurpose.ENTRY)
            )
        assert [row["purpose"] for row in found.store.table("orders", RUN)] == [
            "entry",
            "stop",
            "target",
        ]


def _fill_the_disk(store: TradeStore) -> None:
    """Let the file grow no further, as on a full disk."""
    pages = next(iter(store.db.execute("PRAGMA page_count")))[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RecordError, match="full"):
        while True:
            store.add_incident(RUN, at_ns=None, kind="filler", text="x" * 2000)


async def test_a_full_disk_means_no_entry(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        signal = await found.signal()
        _fill_the_disk(found.store)
        big = replace(signal, text="a shock " * 2000)

        decision = await found.execution.enter(big)

        assert (decision.outcome, decision.reason) == (Outcome.PASS, Reason.RECORD_FAILED)
        assert found.execution.accepts_entries is False
        assert list(found.gateway.hub.exchange.account.books.executions) == []


async def test_a_full_disk_does_not_keep_an_exit_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.execution.enter(await found.signal())
        trade_id = await found.execution.opened.receive()
        _fill_the_disk(found.store)
        found.store.db.execute("PRAGMA query_only = ON")

        for _ in range(2):
            assert not await found.execution.close(trade_id, ExitReason.STOP_LOSS, None)
        held = found.gateway.hub.account.ledger
        await until(lambda: [p.quantity for p in held.positions.values()] == [0])

        assert any("exit not recorded" in text for text in found.incidents)
        assert len(found.gateway.hub.exchange.account.books.executions) == 2
