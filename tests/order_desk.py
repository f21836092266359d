"""A whole session in virtual time at a paper gateway that is bent by its own faults, for one order.

No price and no time closes a position by itself here: a test enters and closes, and looks at what
the gateway has written down.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderState
from momentum_lab.core.position import ExitReason
from momentum_lab.core.signal import Decision, TradeSignal
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.orders import Execution, Order, Ticket
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.parameters import Parameters, check_parameters
from momentum_lab.records.ledger import Row
from momentum_lab.records.run_record import check_record
from momentum_lab.records.trade_store import TradeStore
from tests.day_judge import Judge, look_on, simulated
from tests.factories import headline
from tests.gateway_factories import ticket

NOON_NS = 1_381_334_400 * NS_PER_S
HALF_DAY_NS = 12 * 3600 * NS_PER_S
FILL_TIMEOUT_S = 10.0
# Two looks at the broker's lists, and the time between them.
ABSENT_WITHIN_S = 30.0
SMALL, LARGE = 0.02, 0.12


@dataclass(repr=False)
class OrderDesk:
    """A running session, its gateway and the judge between them."""

    gateway: Gateway
    session: LiveSession
    judge: Judge
    result: SessionResult | None = None
    final: dict[str, list[Row]] = field(default_factory=dict)
    _n_signals: int = 0

    async def run(self) -> None:
        self.result = await self.session.run()

    @property
    def store(self) -> TradeStore:
        return self.session._store

    @property
    def exchange(self) -> Exchange:
        return self.gateway.hub.exchange

    def is_operational(self) -> bool:
        return hasattr(self.session, "_connector") and self.session._connector.is_operational()

    def inject(self, name: str, *, for_s: float = 3600.0, **parameters: Any) -> None:
        self.gateway.inject(name, parameters, for_s=for_s)

    def end(self, name: str) -> None:
        self.gateway.hub.faults.end(name)

    async def until(self, condition: Callable[[], bool], *, patience_s: float = 120.0) -> None:
        with anyio.fail_after(patience_s):
            while not condition():  # noqa: ASYNC110 - what is waited for sets no event
                await anyio.sleep(0.05)

    async def enter(self, side: Side = Side.BUY, *, symbol: str = "SPY") -> Decision:
        """Trade a shock; return what was decided, once the order's end is known or not."""
        self._n_signals += 1
        now_ns = self.gateway.now_ns
        item = headline(article_id=f"a{self._n_signals}", published_ns=now_ns)
        key = self.session._book.add_headline(item)
        assert key is not None
        price = self.session._execution.books.last_price(symbol) or 100.0
        signal = TradeSignal(key, symbol, side, now_ns, price, 0.05, 3.0, 2.5, "a shock")
        return await self.session._execution.enter(signal)

    async def enter_a_halt(self, group: TaskGroup, *, for_s: float) -> None:
        """Let an entry reach an exchange that stands still; it has to be under way for longer."""
        group.start_soon(self.enter)
        await anyio.sleep(0.5)
        self.inject("halt", symbol="SPY", kind=1, for_s=for_s)

    async def close(self) -> bool:
        """Close the open trade; return whether it is flat."""
        (trade,) = self.store.open_trades()
        return await self.session._execution.close(trade["trade_id"], ExitReason.TIME_STOP, None)

    # --- the gateway's log --------------------------------------------------------------------

    def placed(self) -> list[tuple[str, str, int]]:
        """Entries and exits that arrived: the last part of the reference, side, shares."""
        return [
            (ref.rpartition("-")[2], side, n)
            for _, ref, side, n, _ in self.judge.order_log
            if not is_protective(ref)
        ]

    def executions(self) -> list[Execution]:
        return list(self.exchange.books.executions)

    def held(self) -> int:
        return self.exchange.account.ledger.position("SPY").quantity

    def working(self) -> list[Order]:
        """Entries and exits that live at the gateway."""
        return [o for o in self.exchange.live_orders() if not is_protective(o.ticket.order_ref)]

    # --- the record ---------------------------------------------------------------------------

    def states(self) -> dict[str, OrderState]:
        """State of entries and exits in the record, by the last part of the reference."""
        rows = self.store.table("orders", self.session.run_id)
        return {
            row["order_ref"].rpartition("-")[2]: OrderState(row["state"])
            for row in rows
            if not is_protective(row["order_ref"])
        }

    def incidents(self) -> list[str]:
        return [row["kind"] for row in self.store.table("incidents", self.session.run_id)]

    def fills(self) -> list[Row]:
        return self.store.table("fills", self.session.run_id)


def is_protective(order_ref: str) -> bool:
    """Whether a reference is that of a stop or a target."""
    return "-sl" in order_ref or order_ref.endswith("-tp")


def desk_parameters(port: int, *, size: float, execution: Row | None = None) -> Parameters:
    """A set under which nothing but the session's end closes a position."""
    return check_parameters(
        {
            "mode": "paper",
            "universe": ["SPY", "IBM"],
            "connection": {"port": port},
            "news": {"providers": ["BRFG"]},
            "guards": {"quote_max_age_s": 20},
            "exits": {
                "stop_kind": "ratio",
                "stop_loss_ratio": 0.1,
                "take_profit_ratio": 0.4,
                "time_stop_s": 23_400,
            },
            "sizing": {
                "risk_ratio": 0.05,
                "max_position_ratio": size,
                "max_notional_usd": 10_000_000,
                "max_recent_volume_ratio": 1.0,
            },
            "execution": {"fill_timeout_s": FILL_TIMEOUT_S, **(execution or {})},
            "records": {"database": "trades.db", "runs": "runs"},
        }
    )


@asynccontextmanager
async def order_desk(
    tape: Path,
    folder: Path,
    *,
    rules: Rules | None = None,
    size: float = SMALL,
    rejects: Callable[[Ticket], bool] = lambda _ticket: False,
    before: Callable[[Gateway], Awaitable[None]] | None = None,
    execution: Row | None = None,
) -> AsyncIterator[OrderDesk]:
    """A session that is OPERATIONAL, with a fresh quote of SPY; `before` it something happens."""
    settings = GatewaySettings(
        tape=tape, start_ns=NOON_NS, fast=1, slow=1, hold=False, rules=rules or Rules(), opened_s=1
    )
    random.seed(1)
    async with paper_gateway(settings, report=lambda _text: None) as gateway:
        judge = Judge(gateway, rejects=rejects)
        with simulated(gateway, judge):
            parameters = desk_parameters(gateway.port, size=size, execution=execution)
            session = LiveSession(parameters, root=folder, run_id="desk")
            judge.session = session
            found = OrderDesk(gateway, session, judge)
            failure: Exception | None = None
            if before is not None:
                await before(gateway)
            async with anyio.create_task_group() as group:
                group.start_soon(found.run)
                group.start_soon(look_on, judge)
                await found.until(found.is_operational)
                # Past the first bar, and shortly after a later one.
                await anyio.sleep(21)
                try:
                    yield found
                except Exception as error:  # noqa: BLE001 - raised again below, not in a group
                    failure = error
                group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def live_one_day(
    tape: Path,
    folder: Path,
    scenario: Callable[[OrderDesk], Awaitable[None]],
    **options: Any,
) -> OrderDesk:
    """Run a scenario, end the session in good order, settle the books, and let all be judged."""

    async def main() -> OrderDesk:
        async with order_desk(tape, folder, **options) as found:
            await scenario(found)
            found.session.stop("the test is over")
            await found.until(lambda: found.result is not None)
        return found

    found = run_virtual(main)
    if found.result is not None:
        found.judge.judge_result(found.result)
    database = folder / "trades.db"
    store = TradeStore(database)
    try:
        found.judge.judge_books(store)
        for name in ("orders", "fills", "trades", "incidents"):
            found.final[name] = store.table(name, "desk")
    finally:
        store.close()
    found.judge.judge_sentences(check_record(database))
    found.judge.judge_flat()
    return found


def trade_one_day(
    tape: Path,
    folder: Path,
    scenario: Callable[[OrderDesk], Awaitable[None]],
    **options: Any,
) -> OrderDesk:
    """Run a scenario like `live_one_day`, and find every promise kept, whatever the fault.

    Each order was placed once, the record's fills are the gateway's executions to the share and the
    cent, everything is flat, the record is sound.
    """
    found = live_one_day(tape, folder, scenario, **options)
    told = [*found.judge.violations, *found.judge.witness.violations]
    assert not told, "\n".join(told)
    return found


def by_hand(found: OrderDesk, side: Side, shares: int, *, order_id: int = 1) -> None:
    """Another client trades without a reference."""
    trade_by_hand(found.gateway, side, shares, order_id=order_id)


def trade_by_hand(gateway: Gateway, side: Side, shares: int, *, order_id: int = 1) -> None:
    order = replace(ticket(side, shares, order_id=order_id), client_id=55, order_ref="")
    gateway.hub.publish(gateway.hub.exchange.place(order))


def own_violations(found: OrderDesk) -> list[str]:
    """What was broken, but for what somebody else has placed."""
    theirs = ("foreign order", "execution not recorded", "cash differs")
    return [words for words in found.judge.violations if not words.startswith(theirs)]
