"""Exits make a position smaller, and what is flattened is flat, whatever is reported and when.

Record, bookkeeping and closing are real. The broker fills what it is told to; its reports come in
any order, late, or twice.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import Side
from momentum_lab.core.order import OrderEvent, OrderIntent, OrderPurpose, OrderState
from momentum_lab.core.position import ExitReason, Fill, Levels
from momentum_lab.core.signal import Decision, Outcome, Reason
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.translate import OrderReport
from momentum_lab.live.protective_orders import children_of
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON, headline, instrument
from tests.planner_kit import ToldConnector, told_connector

law = settings(max_examples=120, deadline=None, derandomize=True, database=None)
RUN_ID, CON_ID, SHARES, PRICE_USD = "exposure", 756733, 100, 100.0
parts = st.integers(1, SHARES)
# Entry, stop or exit fill in part; a report comes, or comes again; we close.
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["entry", "stop", "stop beyond zero", "exit"]), parts),
        st.tuples(st.sampled_from(["tell", "repeat"]), st.integers(0, 20)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    max_size=30,
)


@dataclass
class Market:
    """What truly happens to the orders of one trade.

    Attributes:
        left: shares of each order that may still fill, by reference.
        orders: every order that arrived.
        untold: executions that were not reported yet.
        told: those that were.
    """

    left: dict[str, int] = field(default_factory=dict)
    orders: dict[str, OrderIntent] = field(default_factory=dict)
    untold: list[Fill] = field(default_factory=list)
    told: list[Fill] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    @property
    def held(self) -> float:
        return sum(fill.side.sign * fill.shares for fill in (*self.untold, *self.told))

    def take(self, *orders: OrderIntent) -> None:
        self.orders.update((order.order_ref, order) for order in orders)
        self.left.update((order.order_ref, order.shares) for order in orders)

    def fill(self, order: OrderIntent, shares: int, *, beyond_zero: bool = False) -> None:
        """Fill so much of an order; of those of one group no more than closes the position."""
        most = self.left[order.order_ref]
        if order.purpose is not OrderPurpose.ENTRY and not beyond_zero:
            most = min(most, max(0, -order.side.sign * round(self.held)))
        shares = min(shares, most)
        if not shares:
            return
        self.left[order.order_ref] -= shares
        exec_id = f"{next(self._numbers):04d}.01.01"
        self.untold.append(
            Fill(exec_id, order.order_ref, "SPY", order.side, shares, PRICE_USD, NOON, 1.0, CON_ID)
        )

    def of(self, purpose: OrderPurpose) -> list[OrderIntent]:
        return [order for order in self.orders.values() if order.purpose is purpose]


class Broker(ToldConnector):
    """A connector to that market."""

    market: Market
    store: TradeStore

    def may_exit(self) -> bool:
        return True

    async def place_order(self, order: OrderIntent, *children: OrderIntent) -> tuple[int, ...]:
        if order.purpose is OrderPurpose.EXIT:
            (booked,) = self.store.positions().values()
            on_their_way = sum(
                row["shares"] - self.store.filled_shares(row["order_ref"])
                for row in self.store.unsettled_orders()
                if row["purpose"] == OrderPurpose.EXIT.value
            )
            # The order itself stands in the record already.
            assert order.side.sign * booked < 0
            assert order.shares <= on_their_way <= abs(booked)
        self.market.take(order, *children)
        return tuple(range(1, 2 + len(children)))

    async def cancel_order(self, order_ref: str) -> bool:
        self.market.left[order_ref] = 0
        return True

    async def resynchronise(self, why: str) -> None:
        """Every report comes in the end; there is nothing to ask for."""


class Desk:
    """An execution service with one trade in that market."""

    def __init__(self, database: Path, side: Side) -> None:
        self.store = TradeStore(database)
        self.store.db.execute("PRAGMA synchronous = OFF")  # a test need not survive a power cut
        self.market = Market()
        self.connector, self.clock = told_connector(Broker)
        self.connector.market, self.connector.store = self.market, self.store
        self.connector.lines.want(instrument("SPY", CON_ID))
        self.store.start_run(
            RUN_ID, mode="paper", account="", strategy="s", params_hash="h", params={}, revision="r"
        )
        item = headline()
        self.store.add_headline(item.key, RUN_ID, item)
        self.service = ExecutionService(
            self.connector,
            book=DecisionBook(self.store, self.clock, run_id=RUN_ID),
            clock=self.clock,
            parameters=Parameters(universe=("SPY",)),
            on_incident=lambda *_: None,
        )
        family = self.store.add_entry(
            item.key,
            RUN_ID,
            Decision(Outcome.ENTER, Reason.SHOCK, "a shock"),
            at_ns=NOON,
            symbol="SPY",
            intent=lambda decision_id: OrderIntent(
                f"ml-{RUN_ID}-d{decision_id}",
                "SPY",
                CON_ID,
                side,
                SHARES,
                NOON,
                OrderPurpose.ENTRY,
                decision_id=decision_id,
                levels=Levels(PRICE_USD - side.sign * 1.0, PRICE_USD + side.sign * 2.0),
                atr=0.2,
            ),
            children=children_of,
        )
        for order_id, order in enumerate(family, 1):
            self.store.advance_order(order.order_ref, OrderEvent.SEND, order_id=order_id)
        self.market.take(*family)

    def tell(self, number: int) -> None:
        """Report one of the executions that are not known yet."""
        if self.market.untold:
            fill = self.market.untold.pop(number % len(self.market.untold))
            self.market.told.append(fill)
            self.service.books.book_fill(fill)

    def repeat(self, number: int) -> None:
        """Report an execution again."""
        if self.market.told:
            assert not self.service.books.book_fill(
                self.market.told[number % len(self.market.told)]
            )

    def end(self, order_ref: str) -> None:
        """Report the end of an order of which nothing more fills."""
        self.market.left[order_ref] = 0
        if not self.store.order_state(order_ref).is_final:
            report = OrderReport(order_ref, OrderEvent.CANCEL, 1, 0, "")
            self.service.books.book_order(report)

    async def close(self) -> None:
        for trade in self.store.open_trades():
            await self.service.close(trade["trade_id"], ExitReason.FLATTEN, None)

    async def step(self, group: TaskGroup, what: str, number: int) -> None:
        if what == "tell":
            self.tell(number)
        elif what == "repeat":
            self.repeat(number)
        elif what == "close":
            group.start_soon(self.close)
        else:
            purpose = OrderPurpose(what.split(maxsplit=1)[0])
            for order in self.market.of(purpose)[-1:]:
                # What protects an entry works once it has filled.
                if purpose is OrderPurpose.ENTRY or self.market.held:
                    self.market.fill(order, number, beyond_zero="beyond" in what)
        # Whatever an exit waits for, it has gone out by then.
        await anyio.sleep(0.1)

    async def flatten(self, group: TaskGroup) -> None:
        """Nothing more of the entry fills, every report comes, and we close until we are flat."""
        (entry,) = self.market.of(OrderPurpose.ENTRY)
        for _ in range(8):
            while self.market.untold:
                self.tell(0)
            self.end(entry.order_ref)
            group.start_soon(self.close)
            await anyio.sleep(5)
            for order in self.market.of(OrderPurpose.EXIT):
                self.market.fill(order, SHARES)
                while self.market.untold:
                    self.tell(0)
                self.end(order.order_ref)
            for order in (*self.market.of(OrderPurpose.STOP), *self.market.of(OrderPurpose.TARGET)):
                if not self.market.left[order.order_ref]:
                    self.end(order.order_ref)
            # An order whose end was doubted is not waited for any more.
            await anyio.sleep(20)


async def live(database: Path, side: Side, drawn: list[tuple[str, int]]) -> None:
    desk = Desk(database, side)
    try:
        async with anyio.create_task_group() as group:
            for what, number in drawn:
                await desk.step(group, what, number)
                booked = sum(fill.side.sign * fill.shares for fill in desk.market.told)
                assert sum(desk.store.positions().values()) in (booked, 0)
            await desk.flatten(group)
        assert desk.market.held == 0
        assert desk.store.positions() == {}
        assert desk.store.open_trades() == []
        exits = [desk.store.order_state(one.order_ref) for one in desk.market.of(OrderPurpose.EXIT)]
        assert all(state.is_final and state is not OrderState.ABSENT for state in exits)
    finally:
        desk.service.close_streams()
        desk.connector.close()
        desk.store.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to begin with; to make one takes longer than to copy it."""
    path = tmp_path_factory.mktemp("empty") / "trades.db"
    TradeStore(path).close()
    return path


@law
@given(side=st.sampled_from(Side), first=parts, drawn=steps)
def test_an_exit_never_increases_what_is_booked_and_a_flattened_trade_is_flat(
    empty: Path, side: Side, first: int, drawn: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / empty.name
        shutil.copyfile(empty, database)
        run_virtual(live, database, side, [("entry", first), ("tell", 0), *drawn])
