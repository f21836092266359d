"""An execution service at a running paper gateway, for tests of orders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio

from momentum_lab.clock import ReplayClock
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.signal import TradeSignal
from momentum_lab.gateway.orders import Order
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.live.reconcile import reconcile
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore
from tests.factories import headline
from tests.session_kit import TAPE, demo_parameters, until

RUN = "20131009T180000Z-replay"
START = datetime(2013, 10, 9, 13, 40, tzinfo=ZoneInfo("America/New_York"))
START_NS = int(START.timestamp()) * NS_PER_S


@dataclass
class Desk:
    """A running connector, its execution service, and the gateway they talk to."""

    gateway: Gateway
    connector: IBKRConnector
    execution: ExecutionService
    store: TradeStore
    incidents: list[str]

    def live_orders(self) -> dict[str, Order]:
        """Our reference -> what works at the gateway."""
        return {order.ticket.order_ref: order for order in self.gateway.hub.exchange.live_orders()}

    def held(self) -> float:
        """Shares that the gateway holds for us."""
        positions = self.gateway.hub.account.ledger.positions.values()
        return sum(position.quantity for position in positions)

    def say(self, code: int, text: str) -> None:
        """Let the gateway send an error that belongs to no request."""
        (session,) = self.gateway.hub.sessions.values()
        session.error(-1, code, text)

    async def signal(self, *, symbol: str = "SPY", number: int = 1) -> TradeSignal:
        """A signal whose headline stands in the store, once the line shows a quote."""
        with self.connector.stream_quotes(symbol) as stream:
            await until(lambda: stream.quote is not None and stream.quote.bid is not None)
        item = headline(article_id=f"a{number}")
        self.store.add_headline(item.key, RUN, item)
        return TradeSignal(item.key, symbol, Side.SELL, START_NS, 165.7, 0.06, 2.6, 2.5, "a shock")


@asynccontextmanager
async def desk(folder: Path, **changes: object) -> AsyncIterator[Desk]:
    settings = GatewaySettings(tape=TAPE, start_ns=START_NS, fast=60, slow=60)
    async with paper_gateway(settings) as gateway:
        parameters: Parameters = replace(demo_parameters(gateway.port), **changes)  # type: ignore[arg-type]
        clock = ReplayClock(60)
        store = TradeStore(folder / "trades.db")
        store.start_run(
            RUN, mode="replay", account="", strategy="s", params_hash="h", params={}, revision="r"
        )
        incidents: list[str] = []

        def note(kind: str, text: str, _symbol: str | None = None) -> None:
            incidents.append(f"{kind}: {text}")

        connector = IBKRConnector(
            parameters, clock=clock, on_transition=lambda *_: None, on_incident=note
        )
        execution = ExecutionService(
            connector,
            book=DecisionBook(store, clock, run_id=RUN),
            clock=clock,
            parameters=parameters,
            on_incident=note,
        )

        async def settle(snapshot: BrokerSnapshot) -> None:
            reconcile(snapshot, store, execution.books)
            execution.guard()

        async with anyio.create_task_group() as group:
            group.start_soon(connector.run, settle)
            group.start_soon(execution.run)
            await until(connector.is_operational)
            yield Desk(gateway, connector, execution, store, incidents)
            group.cancel_scope.cancel()
        connector.close()
        execution.close_streams()
        store.close()
