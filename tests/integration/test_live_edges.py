"""What may go wrong around an open position: the session in this loop, a gateway that misbehaves.

The gateway side is bent (held orders, lost answers, a broken line), never our own code.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from momentum_lab.clock import ReplayClock, SystemClock, wall_ns
from momentum_lab.core.connection import ConnectionEvent, ConnectionState
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderState
from momentum_lab.core.position import ExitReason, Fill
from momentum_lab.core.signal import Reason, TradeSignal
from momentum_lab.errors import ParameterError, RecordError
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.orders import CommissionCharged, ExchangeEvent, Executed, Order
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.wire import Request
from momentum_lab.live import housekeeper
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.live.ibkr.translate import FillReport
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.parameters import Parameters, RecordParameters, ReplayParameters
from momentum_lab.records.control import Control, control_path
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore
from tests.factories import headline
from tests.gateway_factories import execution
from tests.record_kit import a_day, break_store
from tests.session_kit import TAPE, demo_parameters, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(60)]
START = datetime(2013, 10, 9, 13, 40, tzinfo=ZoneInfo("America/New_York"))
START_NS = int(START.timestamp()) * NS_PER_S
RUN = "20131009T180000Z-replay"
FAR = 0.5  # stop and target as a ratio of the entry, where no price may trigger an exit
NEVER_NS = 2**63 - 1
IN_FOLDER = RecordParameters(database="trades.db", runs="runs")
Answer = Callable[[Session, Request], None]


@dataclass(repr=False)
class Floor:
    """A running session and the gateway it talks to, both in this loop."""

    gateway: Gateway
    session: LiveSession
    result: SessionResult | None = None
    error: Exception | None = None

    async def run(self) -> None:
        try:
            self.result = await self.session.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    @property
    def has_ended(self) -> bool:
        return self.result is not None or self.error is not None

    @property
    def store(self) -> TradeStore:
        return self.session._store

    @property
    def exchange(self) -> Exchange:
        return self.gateway.hub.exchange

    @property
    def state(self) -> ConnectionState:
        return self.session._connector.state

    def is_operational(self) -> bool:
        return self.state is ConnectionState.OPERATIONAL

    def rows(self, table: str) -> list[Row]:
        """Rows of the record, also after the session has closed it."""
        store = TradeStore(self.session.database)
        try:
            return store.table(table, self.session.run_id)
        finally:
            store.close()

    def purposes(self) -> list[str]:
        """What the client itself sent, in order; stop and target go along with each entry."""
        found = [row["purpose"] for row in self.rows("orders")]
        return [purpose for purpose in found if purpose in ("entry", "exit")]

    def market_orders(self) -> list[Order]:
        return [o for o in self.exchange.live_orders() if o.ticket.order_type == "MKT"]

    def held_shares(self) -> dict[str, int]:
        positions = self.exchange.account.ledger.positions
        return {name: held.quantity for name, held in positions.items() if held.quantity}

    def say(self, code: int, text: str = "as the broker words it") -> None:
        for session in self.gateway.hub.sessions.values():
            session.error(-1, code, text)

    def cut(self) -> None:
        """Break the socket, as a flapping network does."""
        for session in list(self.gateway.hub.sessions.values()):
            session._scope.cancel()

    async def signal(self, number: int = 1) -> TradeSignal:
        with self.session._connector.stream_quotes("SPY") as stream:
            await until(lambda: stream.quote is not None and stream.quote.bid is not None)
        item = headline(article_id=f"a{number}")
        book = self.session._book
        key = book.add_headline(replace(item, received_ns=self.gateway.now_ns))
        assert key is not None
        return TradeSignal(key, "SPY", Side.SELL, START_NS, 165.7, 0.06, 2.6, 2.5, "a shock")

    async def enter(self) -> int:
        """Go short SPY and return the trade."""
        await self.session._execution.enter(await self.signal())
        (trade,) = self.store.open_trades()
        return int(trade["trade_id"])

    async def close(self, trade_id: int) -> bool:
        return await self.session._execution.close(trade_id, ExitReason.TIME_STOP, None)


def calm(port: int, **changes: Any) -> Parameters:
    """Parameters under which no price and no time closes a position by itself."""
    found = demo_parameters(port)
    calm_exits = replace(
        found.exits, stop_loss_ratio=FAR, take_profit_ratio=FAR, time_stop_s=23_400
    )
    quick = replace(found.execution, fill_timeout_s=0.5, exit_retry_s=0.1, drain_s=5)
    values: dict[str, Any] = {"exits": calm_exits, "execution": quick, **changes}
    return replace(found, **values)


@asynccontextmanager
async def floor(folder: Path, *, run_id: str = RUN, **changes: Any) -> AsyncIterator[Floor]:
    async with market() as gateway, trading(gateway, folder, run_id=run_id, **changes) as found:
        yield found


@asynccontextmanager
async def market() -> AsyncIterator[Gateway]:
    settings = GatewaySettings(tape=TAPE, start_ns=START_NS, fast=60, slow=60)
    async with paper_gateway(settings) as gateway:
        yield gateway


@asynccontextmanager
async def trading(
    gateway: Gateway, folder: Path, *, run_id: str = RUN, **changes: Any
) -> AsyncIterator[Floor]:
    found = Floor(gateway, LiveSession(calm(gateway.port, **changes), root=folder, run_id=run_id))
    failure: BaseException | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(found.run)
        await until(lambda: found.has_ended or _is_up(found))
        try:
            yield found
        except Exception as error:  # noqa: BLE001 - raised again below, not inside a group
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _is_up(found: Floor) -> bool:
    return hasattr(found.session, "_connector") and found.is_operational()


@contextmanager
def held_orders(exchange: Exchange) -> Iterator[None]:
    """Orders are accepted and work, but nothing fills, as in a halt."""
    fill = exchange.floor.try_fill
    exchange.floor.try_fill = lambda *_, **__: []  # type: ignore[method-assign]
    try:
        yield
    finally:
        exchange.floor.try_fill = fill  # type: ignore[method-assign]


def fill_now(gateway: Gateway, symbol: str = "SPY") -> None:
    """Fill what works in a symbol at the quote of this instant."""
    trade = gateway.hub.market.today(symbol)
    assert trade is not None
    gateway.hub.publish(gateway.hub.exchange.on_trade(trade))


def cancel_live(gateway: Gateway) -> None:
    """The broker cancels what works, as it does with a market order it cannot place."""
    gateway.hub.publish(gateway.hub.exchange.cancel_all())


def first(name: str, act: Callable[[], None]) -> Answer:
    """The answer to a request, before which something happens at the broker, once."""
    answer, left = ANSWERS[name], [act]

    def acting(session: Session, request: Request) -> None:
        if left:
            left.pop()()
        answer(session, request)

    return acting


def no_answer(_session: Session, _request: Request) -> None:
    """Say nothing, as a farm that is down."""


def none_open(session: Session, _request: Request) -> None:
    """Say that no order is open, as after "order data could not be resolved" (code 10328)."""
    session.send("openOrderEnd")


def fail_on(store: TradeStore, what: str) -> None:
    """Let one kind of write fail, as a locked or broken file would."""
    store.db.execute(
        f"CREATE TRIGGER broken {what} BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )


def heal(store: TradeStore) -> None:
    store.db.execute("DROP TRIGGER broken")


# --- signals that contradict a position ----------------------------------------------------


async def test_an_opposite_signal_closes_a_position_and_never_turns_it_round(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        other = replace(await found.signal(2), side=Side.BUY)

        decision = await found.session._execution.enter(other)

        assert decision.reason is Reason.SYMBOL_BUSY
        await until(lambda: found.store.trade(trade_id)["state"] == "CLOSED")
        assert found.store.trade(trade_id)["exit_reason"] == "OPPOSITE"
        assert found.purposes() == ["entry", "exit"]
        assert found.held_shares() == {}


async def test_a_signal_that_agrees_or_is_not_listened_to_closes_nothing(tmp_path: Path) -> None:
    deaf = replace(calm(4002).exits, on_opposite_signal="hold")
    async with floor(tmp_path, exits=deaf) as found:
        trade_id = await found.enter()
        for number, side in ((2, Side.SELL), (3, Side.BUY)):
            signal = replace(await found.signal(number), side=side)
            decision = await found.session._execution.enter(signal)
            assert decision.reason is Reason.SYMBOL_BUSY
        await anyio.sleep(0.3)

        assert found.store.trade(trade_id)["state"] == "OPEN"
        assert found.purposes() == ["entry"]


# --- who closes when a price is reached -----------------------------------------------------


async def test_while_orders_work_at_the_broker_it_has_the_first_word_about_a_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At 60x a minute of the market is a second here.
    patient = replace(calm(4002).exits, native_grace_s=60)
    async with floor(tmp_path, exits=patient) as found:
        monkeypatch.setattr(found.session._execution, "is_protected", lambda _: True)
        trade_id = await found.enter()

        await found.session._execution.move_stop(trade_id, 100.0, ExitReason.TRAIL)
        await anyio.sleep(0.5)

        assert found.purposes() == ["entry"]
        await until(lambda: found.store.trade(trade_id)["state"] == "CLOSED")
        assert found.store.trade(trade_id)["exit_reason"] == "TRAIL"


async def test_in_a_halt_nothing_leaves_not_even_by_time(tmp_path: Path) -> None:
    short = replace(calm(4002).exits, time_stop_s=60)
    async with floor(tmp_path, exits=short) as found:
        trade_id = await found.enter()
        line = found.session._connector.lines.get("SPY")
        assert line is not None
        # Trades go on in the tape, and would show that it is over.
        line.hear_halted(True, NEVER_NS)
        await anyio.sleep(1.5)
        assert found.purposes() == ["entry"]

        line.hear_halted(False, found.gateway.now_ns)

        await until(lambda: found.store.trade(trade_id)["state"] == "CLOSED")
        assert found.store.trade(trade_id)["exit_reason"] == "TIME_STOP"


async def test_a_position_is_valued_at_each_quote_and_its_loss_brakes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody looks once a minute here.
    monkeypatch.setattr(housekeeper, "_LOOK_EVERY_NS", 86_400 * NS_PER_S)
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        execution = found.session._execution
        assert execution.risk_state == "ACTIVE"
        # Tighter than a person may set it: what the entry has cost is too much.
        object.__setattr__(found.session.parameters.risk, "daily_loss_ratio", 1e-5)
        found.session._manager._looks_at_usd = math.inf
        await until(lambda: execution.risk_state == "REDUCING")

        await until(lambda: not found.store.lacks_commissions(run_id=RUN))
        (entry,) = found.rows("fills")

        def is_right() -> bool:
            line = found.session._connector.lines.get("SPY")
            assert line is not None
            assert line.quote is not None
            assert line.quote.ask is not None
            earned = entry["shares"] * (entry["price"] - line.quote.ask) - entry["commission_usd"]
            return found.session._manager.net_usd(trade_id) == pytest.approx(earned)

        # In a pause between two quotes the manager has looked at the last one.
        await until(is_right)


# --- positions that are left without an exit ------------------------------------------------


async def test_a_trade_left_outside_the_universe_is_still_closed(tmp_path: Path) -> None:
    async with market() as gateway:
        async with trading(gateway, tmp_path) as left:
            await left.enter()
        async with trading(
            gateway, tmp_path, run_id="20131009T190000Z-replay", universe=("IBM", "BAC")
        ) as later:
            later.session.stop()
            await until(lambda: later.has_ended)

        assert later.held_shares() == {}
        assert later.result is not None
        assert later.result.open_trades == ()


async def test_an_exit_cancelled_after_a_reconnect_is_sent_again(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        with held_orders(found.exchange):
            assert not await found.close(trade_id)
            found.cut()
            await until(lambda: not found.is_operational())
            await until(found.is_operational)
            cancel_live(found.gateway)
            await anyio.sleep(0.3)

        assert await found.close(trade_id)
        assert found.held_shares() == {}


async def test_a_fill_while_synchronising_blocks_no_symbol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path) as found:
        with held_orders(found.exchange):
            await found.session._execution.enter(await found.signal())
            await until(found.is_operational)

            def release() -> None:
                # What stands in the way of the class's own method.
                del found.exchange.floor.try_fill
                fill_now(found.gateway)

            monkeypatch.setitem(ANSWERS, "reqAllOpenOrders", first("reqAllOpenOrders", release))
            found.say(1102)
            await until(lambda: not found.is_operational())
            await until(found.is_operational)
            (trade,) = found.store.open_trades()

            assert found.session._execution.blocked == {}
            # The rest of the entry may fill while the part of it that was open is being closed.
            with anyio.fail_after(10):
                while not await found.close(trade["trade_id"]):  # noqa: ASYNC110 - sets no event
                    await anyio.sleep(0.1)
            assert found.held_shares() == {}


async def test_a_trade_whose_levels_cannot_be_written_is_still_watched(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        fail_on(found.store, "BEFORE UPDATE OF stop ON trades")
        await found.enter()
        heal(found.store)
        found.session.stop()
        await until(lambda: found.has_ended)

        assert found.held_shares() == {}


async def test_an_exit_closes_also_what_was_heard_and_could_not_be_written(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        shares = found.store.open_shares(trade_id)
        order_ref = next(row["order_ref"] for row in found.rows("orders"))
        late = Fill("late", order_ref, "SPY", Side.SELL, 50.0, 165.7, START_NS)
        fail_on(found.store, "BEFORE INSERT ON fills")
        await found.session._execution._reports.hear(FillReport(late))
        with held_orders(found.exchange):
            await found.close(trade_id)

            assert [order.quantity for order in found.market_orders()] == [50 - shares]


async def test_a_fill_that_was_booked_before_something_failed_counts_once(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        books = found.session._execution.books
        row = found.rows("fills")[0]
        exec_id, order_ref = row["exec_id"], row["order_ref"]
        told = Fill(exec_id, order_ref, "SPY", Side.SELL, row["shares"], row["price"], START_NS)
        books.unbooked[exec_id] = told

        assert books.unbooked_shares(trade_id) == 0
        assert await found.close(trade_id)


async def test_what_is_told_before_the_time_is_booked_once_it_is_known(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        await found.enter()
        order_ref = next(row["order_ref"] for row in found.rows("orders"))
        early = Fill("early", order_ref, "SPY", Side.SELL, 50.0, 165.7, START_NS)
        execution = found.session._execution
        clock = ReplayClock(60)
        execution._reports._clock = execution.protection._clock = clock
        async with anyio.create_task_group() as group:
            group.start_soon(execution._reports.hear, FillReport(early))
            await anyio.sleep(0.1)
            assert not found.store.knows_fill("early")
            clock.observe(START_NS)

        assert found.store.knows_fill("early")


async def test_no_exit_is_sent_while_the_exchange_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path) as found:
        await found.enter()
        for module in ("execution_service", "session"):
            monkeypatch.setattr(f"momentum_lab.live.{module}.session_on_day_of", lambda _: None)
        found.session.stop()
        await until(lambda: found.has_ended)

        assert found.result is not None
        assert len(found.result.open_trades) == 1
        assert found.purposes() == ["entry"]
        assert "exchange closed" in [row["kind"] for row in found.rows("incidents")]
        stops = [o for o in found.exchange.live_orders() if o.ticket.order_type == "STP"]
        assert [-o.remaining for o in stops] == list(found.held_shares().values())


async def test_a_failed_write_does_not_end_the_watch_over_a_trade(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        await found.enter()
        with held_orders(found.exchange):
            fail_on(found.store, "BEFORE UPDATE ON orders WHEN NEW.state = 'UNKNOWN'")
            found.session._manager.flatten()
            await until(lambda: found.purposes() == ["entry", "exit"])
            await anyio.sleep(1.0)
            heal(found.store)
            cancel_live(found.gateway)
        await anyio.sleep(1.0)

        assert found.held_shares() == {}


async def test_an_exit_leaves_once_reconciled_although_the_lines_are_not_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        monkeypatch.setitem(ANSWERS, "reqMktData", no_answer)
        found.say(1102)
        await until(lambda: found.state is ConnectionState.SYNCHRONIZING)
        await anyio.sleep(0.5)

        assert await found.close(trade_id)


@pytest.mark.parametrize(("code", "is_away"), [(10299, False), (200, True)])
async def test_a_look_up_that_says_nothing_about_the_symbol_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_away: bool
) -> None:
    answer, n_asked = ANSWERS["reqContractDetails"], [0]

    def failing_once(session: Session, request: Request) -> None:
        n_asked[0] += 1
        if n_asked[0] > 1:
            answer(session, request)
            return
        if is_away:
            session.error(-1, 1100, "as the broker words it")
        session.error(request["req_id"], code, "as the broker words it")
        if is_away:
            session.error(-1, 1102, "as the broker words it")

    monkeypatch.setitem(ANSWERS, "reqContractDetails", failing_once)
    async with floor(tmp_path) as found:
        await until(found.is_operational)
        assert found.error is None
        assert n_asked[0] > len(found.session.parameters.universe)


async def test_a_symbol_the_broker_forgets_during_the_day_does_not_end_the_session(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as found:
        await found.enter()
        del found.gateway.hub.catalog.instruments["IBM"]
        found.cut()
        await until(lambda: found.has_ended or not found.is_operational())
        await until(lambda: found.has_ended or found.is_operational(), patience_s=10)

        assert not found.has_ended
        assert found.is_operational()


async def test_a_late_fill_that_flips_a_closed_trade_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        with held_orders(found.exchange):
            monkeypatch.setitem(ANSWERS, "reqAllOpenOrders", none_open)
            assert not await found.close(trade_id)
            await until(found.is_operational)
        (late,) = found.market_orders()
        # Off the book while the second exit fills, then back on it.
        found.exchange.books._live["SPY"].remove(late.key)
        with anyio.fail_after(15):
            while not await found.close(trade_id):  # noqa: ASYNC110 - the second look sets no event
                await anyio.sleep(0.05)
        await anyio.sleep(0.2)
        found.exchange.books._live["SPY"].append(late.key)
        fill_now(found.gateway)
        await until(lambda: found.store.filled_shares(late.ticket.order_ref) > 0)
        found.session.stop()
        await until(lambda: found.has_ended)

        assert found.held_shares() == {}


# --- orders that leave when they should not ---------------------------------------------------


async def test_an_order_missing_from_one_list_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        with held_orders(found.exchange), monkeypatch.context() as bent:
            bent.setitem(ANSWERS, "reqAllOpenOrders", none_open)
            assert not await found.close(trade_id)
            await until(found.is_operational)
            await found.close(trade_id)

        assert found.purposes() == ["entry", "exit"]


async def test_a_correction_of_a_partial_fill_does_not_complete_the_order(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        with held_orders(found.exchange):
            await found.session._execution.enter(await found.signal())
            (order,) = found.market_orders()
            told = replace(
                execution(order.ticket.side, 70, 165.7),
                exec_id=found.exchange.books.next_exec_id(),
                order_id=order.ticket.order_id,
                client_id=order.ticket.client_id,
                perm_id=order.perm_id,
                order_ref=order.ticket.order_ref,
            )
            found.gateway.hub.publish([Executed(told)])
            again = replace(told, exec_id=told.exec_id[:-2] + "02", price_usd=165.6)
            found.gateway.hub.publish([Executed(again)])
            await until(lambda: len(found.rows("fills")) == 2)

            row = found.rows("orders")[0]
            assert row["shares"] == 120
            assert OrderState(row["state"]) is OrderState.PARTIAL


async def test_an_upstream_lost_while_connecting_is_not_operational(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Session.start

    def start_without_upstream(self: Session, client_id: int) -> None:
        start(self, client_id)
        self.error(-1, 2110, "Connectivity between TWS and server is broken.")

    async with floor(tmp_path) as found:
        monkeypatch.setattr(Session, "start", start_without_upstream)
        found.cut()
        await until(lambda: not found.is_operational())
        with anyio.move_on_after(2):
            await until(found.is_operational)
        assert not found.is_operational()


async def test_an_entry_that_still_works_at_the_end_is_told_or_cancelled(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        with held_orders(found.exchange):
            await found.session._execution.enter(await found.signal())
            await until(found.is_operational)
            found.session.stop("a person asked")
            await until(lambda: found.has_ended)

        assert found.result is not None
        assert not found.exchange.books.is_live or "SPY" in found.result.end_reason


async def test_a_second_session_on_the_same_record_leaves_the_first_alone(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        signal = await found.signal()
        parameters = calm(found.gateway.port)
        second = LiveSession(
            replace(parameters, connection=replace(parameters.connection, client_id=18)),
            root=tmp_path,
            run_id="20131009T190000Z-replay",
        )
        other = Floor(found.gateway, second)
        async with anyio.create_task_group() as group:
            group.start_soon(other.run)
            await until(lambda: other.has_ended or _is_up(other))
            group.cancel_scope.cancel()

        await found.session._execution.enter(signal)
        assert len(found.store.open_trades()) == 1


async def test_an_open_trade_of_another_account_is_not_settled_against_this_one(
    tmp_path: Path,
) -> None:
    database = a_day(tmp_path, closes=False)
    break_store(database, "UPDATE runs SET account = 'DU*****89'")
    async with floor(tmp_path, run_id="another", records=IN_FOLDER) as found:
        await until(lambda: found.has_ended)

    assert isinstance(found.error, ParameterError)
    sentence = "account DU.* expects a trade store of its own .* found trades of account DU.*89"
    assert re.search(sentence, str(found.error))
    store = TradeStore(database)
    assert len(store.open_trades()) == 1
    store.close()


async def test_each_gateway_of_a_replay_may_have_an_account_of_its_own(tmp_path: Path) -> None:
    break_store(a_day(tmp_path), "UPDATE runs SET account = 'DU*****89'")
    async with floor(tmp_path, run_id="another", records=IN_FOLDER) as found:
        assert not found.has_ended


# --- sessions that end without need -----------------------------------------------------------


async def test_a_headline_with_an_impossible_stamp_ends_no_session(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        (session,) = found.gateway.hub.sessions.values()
        line = next(iter(session.subscriptions.news.values()))
        session.send(
            "tickNews",
            req_id=line.req_id,
            time_ms=1_381_334_400_000_000,
            provider_code="BRFG",
            article_id="BRFG$bad",
            headline="stamped in microseconds (SPY)",
            extra_data="",
        )
        await anyio.sleep(0.5)

        assert not found.has_ended
        assert not found.session._stop.is_set()


async def test_a_lock_on_the_record_ends_no_session(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        await found.enter()
        reader = TradeStore(found.session.database)
        try:
            reader.db.execute("BEGIN IMMEDIATE")
            await anyio.sleep(3)
            reader.db.execute("ROLLBACK")
        finally:
            reader.close()

        assert not found.session._stop.is_set()


async def test_a_start_that_cannot_be_written_down_ends_no_session(tmp_path: Path) -> None:
    a_day(tmp_path)
    store = TradeStore(tmp_path / "trades.db")
    fail_on(store, "BEFORE UPDATE OF market_start_ns ON runs")
    store.close()
    async with floor(tmp_path, run_id="another", records=IN_FOLDER) as found:
        await found.enter()
        assert not found.has_ended
        found.session.stop("the test is over")
        await until(lambda: found.has_ended)

    assert found.result is not None
    assert not found.result.open_trades


async def test_an_end_that_cannot_be_written_down_is_told_all_the_same(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        fail_on(found.store, "BEFORE UPDATE OF end_reason ON runs")
        found.session.stop("the test is over")
        await until(lambda: found.has_ended)

    assert isinstance(found.error, RecordError)
    assert (found.session.folder / "quotes.parquet").exists()
    control = Control(control_path(found.session.database), patience_s=1)
    session = control.last_session()
    control.close()
    assert session is not None
    assert session.end_reason == "the test is over"


async def test_a_gateway_that_comes_back_in_time_ends_no_replay(tmp_path: Path) -> None:
    async with floor(tmp_path, replay=ReplayParameters(give_up_s=2)) as found:
        found.cut()
        await until(lambda: not found.is_operational())
        await until(found.is_operational)
        await anyio.sleep(2.5)

        assert not found.session._stop.is_set()


async def test_a_foreign_execution_without_a_price_ends_no_session(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        entry = found.exchange.books.executions[0]
        found.exchange.books.executions.append(
            replace(entry, exec_id="0000aaaa.00000001.01.01", order_ref="", price_usd=0.0)
        )
        n_steps = len(found.rows("connection"))
        found.say(1102)
        # It may be operational again before anybody has looked.
        await until(lambda: len(found.rows("connection")) > n_steps)
        await until(lambda: found.has_ended or found.is_operational(), patience_s=10)

        assert not found.session._stop.is_set()
        assert await found.close(trade_id)


async def test_a_time_request_soon_after_another_costs_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def once_a_second(session: Session, _request: Request) -> None:
        asked.append(anyio.current_time())
        if len(asked) < 2 or asked[-1] - asked[-2] >= 0.9:
            session.send("currentTime", time=wall_ns() // NS_PER_S)

    monkeypatch.setitem(ANSWERS, "reqCurrentTime", once_a_second)
    steps: list[ConnectionEvent] = []

    async def agree(_snapshot: BrokerSnapshot) -> None:
        """Find no difference."""

    async with market() as gateway:
        parameters = replace(demo_parameters(gateway.port), mode="paper")
        settings = replace(parameters.connection, request_timeout_s=1)
        liveness = replace(parameters.liveness, probe_every_s=2)
        connector = IBKRConnector(
            replace(parameters, connection=settings, liveness=liveness),
            clock=SystemClock(),
            on_transition=lambda _state, event, _cause: steps.append(event),
            on_incident=lambda *_: None,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(connector.run, agree)
            await until(connector.is_operational)
            n_asked = len(asked)
            await until(lambda: len(asked) > n_asked)
            await anyio.sleep(0.2)
            await connector.resynchronise("an order has no answer")
            await anyio.sleep(2.5)
            group.cancel_scope.cancel()
        connector.close()

    assert steps.count(ConnectionEvent.ATTEMPT) == 1


# --- what holds ---------------------------------------------------------------------------------


async def test_a_fill_while_the_line_is_down_is_booked_once_and_watched(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        with held_orders(found.exchange):
            await found.session._execution.enter(await found.signal())
            await until(found.is_operational)
            found.cut()
            await until(lambda: not found.is_operational())
        fill_now(found.gateway)
        await until(found.is_operational)
        (trade,) = found.store.open_trades()
        assert found.held_shares() == {"SPY": -trade["shares"]}

        found.session.stop()
        await until(lambda: found.has_ended)
        assert found.held_shares() == {}
        assert found.purposes() == ["entry", "exit"]


async def test_a_commission_lost_with_the_line_is_booked_after_the_reconnect(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as found:
        hub = found.gateway.hub
        publish = hub.publish

        def without_commissions(events: Iterable[ExchangeEvent]) -> None:
            publish([event for event in events if not isinstance(event, CommissionCharged)])

        hub.publish = without_commissions  # type: ignore[method-assign]
        trade_id = await found.enter()
        assert not found.store.costs_complete(trade_id)

        found.cut()
        await until(lambda: not found.is_operational())
        await until(found.is_operational)
        await until(lambda: found.store.costs_complete(trade_id))
        assert found.store.trade(trade_id)["costs_usd"] == pytest.approx(1.0)


async def test_reports_that_come_twice_and_in_disorder_count_once(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        (told,) = found.exchange.books.executions
        again: list[ExchangeEvent] = [CommissionCharged(told), Executed(told), Executed(told)]
        found.gateway.hub.publish(again)
        found.cut()
        await until(lambda: not found.is_operational())
        await until(found.is_operational)

        assert len(found.rows("fills")) == 1
        assert found.store.open_shares(trade_id) == found.held_shares()["SPY"]


async def test_an_exit_that_works_over_a_reconnect_is_not_sent_again(tmp_path: Path) -> None:
    async with floor(tmp_path) as found:
        trade_id = await found.enter()
        with held_orders(found.exchange):
            assert not await found.close(trade_id)
            found.cut()
            await until(lambda: not found.is_operational())
            await until(found.is_operational)
            assert not await found.close(trade_id)
        await until(lambda: found.store.trade(trade_id)["state"] == "CLOSED")

        assert found.held_shares() == {}
        assert found.purposes() == ["entry", "exit"]
