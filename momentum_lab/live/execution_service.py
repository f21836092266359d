"""`ExecutionService`: gate, guards, size, intent, order, fill; it also closes positions.

Its first act is the gate: not OPERATIONAL, no order. An intent stands in the store before the
order leaves; without a record there is no entry. What happens to an order is learned from
reports and, after a gap, from reconciliation; both end in the same booking, which counts an
execution once. An order without an answer is UNKNOWN: nothing is sent again, its symbol is
blocked, and the broker is asked for everything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Clock
from momentum_lab.core.connection import ConnectionState
from momentum_lab.core.market import Quote, Side
from momentum_lab.core.order import (
    ORDER_REF_PREFIX,
    OrderIntent,
    OrderPurpose,
    OrderState,
    OrderType,
)
from momentum_lab.core.position import ExitReason
from momentum_lab.core.risk_state import RiskEvent, RiskState
from momentum_lab.core.signal import Decision, Outcome, Reason, TradeSignal, passed
from momentum_lab.errors import (
    ConnectionLostError,
    RecordError,
)
from momentum_lab.live.bookkeeper import Bookkeeper
from momentum_lab.live.decisions import DecisionBook, OnIncident
from momentum_lab.live.entry_planner import EntryPlan, EntryPlanner
from momentum_lab.live.holdings_watch import HoldingsWatch
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.order_sender import OrderSender
from momentum_lab.live.position_guard import GuardActions, PositionGuard
from momentum_lab.live.protection import Protection
from momentum_lab.live.protective_orders import NO_GROUP, children_of
from momentum_lab.live.report_desk import ReportDesk
from momentum_lab.parameters import Parameters
from momentum_lab.records.ledger import Row

_log = logging.getLogger(__name__)


class ExecutionService:
    """Sends orders and books what becomes of them."""

    def __init__(
        self,
        connector: IBKRConnector,
        *,
        book: DecisionBook,
        clock: Clock,
        parameters: Parameters,
        on_incident: OnIncident,
    ) -> None:
        """Make a service that does nothing until `run()`.

        Args:
            connector: the door to the broker.
            book: decisions and the store.
            clock: market time.
            parameters: the checked set.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._book = book
        self._store = book.store
        self._clock = clock
        self._parameters = parameters
        self._on_incident = on_incident
        self._planner = EntryPlanner(
            connector, store=book.store, clock=clock, parameters=parameters, run_id=book.run_id
        )
        self._entering: set[str] = set()
        self._unrecorded: dict[str, OrderIntent] = {}
        # Contract id -> why: by its symbol alone a position is not known before its line is open.
        self.blocked: dict[int, str] = {}
        self.protection = Protection(
            connector,
            book.store,
            run_id=book.run_id,
            clock=clock,
            answer_s=parameters.execution.fill_timeout_s,
            unrecorded=self._unrecorded,
            blocked=self.blocked,
            on_incident=on_incident,
        )
        self.books = Bookkeeper(
            connector,
            book=book,
            clock=clock,
            exits=parameters.exits,
            unrecorded=self._unrecorded,
            on_first_fill=self.protection.note_first_fill,
            on_change=self.guard,
            on_incident=on_incident,
        )
        self._sender = OrderSender(
            connector,
            book.store,
            self.books,
            parameters=parameters.execution,
            on_incident=on_incident,
        )
        self.holdings = HoldingsWatch(self.books.shares_of, blocked=self.blocked)
        self._reports = ReportDesk(
            connector,
            self.books,
            book.store,
            clock=clock,
            unrecorded=self._unrecorded,
            holdings=self.holdings,
            on_failure=self._hear_failure,
            on_incident=on_incident,
        )
        self._guard = PositionGuard(
            book.store,
            self.protection,
            self._reports,
            actions=GuardActions(
                close=self.close,
                is_unwanted=self._is_unwanted,
                rest=self._read_ahead,
                stop_entries=self.stop_entries,
            ),
            on_incident=on_incident,
        )
        self.accepts_entries = True
        # Hears every signal; True: it contradicts a position, which is closed and not turned round.
        self.on_signal: Callable[[TradeSignal], bool] = lambda _: False
        # What is open, for whoever watches it.
        self.opened = self.books.opened

    async def run(self) -> None:
        """Book reports, and keep every position protected, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._guard.run, name="protection")
            await self._reports.run()

    async def book_heard(self) -> None:
        """Return once all that was heard of our orders until now has been booked."""
        await self._reports.book_heard()

    def guard(self) -> None:
        """Look at the protection of everything that is open, now and until nothing is to do."""
        self._guard.look()

    def _read_ahead(self) -> None:
        if self._connector.may_exit():
            self._planner.read_ahead()

    def _is_unwanted(self, entry: Row) -> bool:
        """Whether an entry that works must end: by brake or bell, or one that nobody waits for.

        Such is a limit whose cancel could not leave, and a short sale held for a locate.
        """
        works = self._connector.working(entry["order_ref"])
        is_late = entry["order_type"] == OrderType.LIMIT.value or (works and works.is_sought)
        return not self._may_enter or bool(is_late and entry["symbol"] not in self._entering)

    def close_streams(self) -> None:
        """Close the stream of opened trades; for the end of a session."""
        self.books.close_streams()

    # --- entries ---------------------------------------------------------------------------

    async def enter(self, signal: TradeSignal) -> Decision:
        """Trade a signal, or decide not to; return the decision, which has been recorded.

        Returns once the order is filled, refused, or its outcome is unknown.
        """
        is_operational = self._connector.is_operational()
        if self.on_signal(signal):
            text = f"{signal.symbol} is held the other way: it is closed, never turned round"
            return self._pass(signal, passed(Reason.SYMBOL_BUSY, text))
        # A line that was quiet may be dead without anybody having noticed.
        if not (is_operational and await self._connector.prove_alive()):
            return self._pass(signal, self._not_operational())
        plan = self._refuse_symbol(signal.symbol) or self._planner.plan(signal)
        if isinstance(plan, Decision):
            return self._pass(signal, plan)
        if self._parameters.mode == "shadow":
            return self._pass(signal, plan.shadow_of(signal))
        decision = Decision(
            Outcome.ENTER, Reason.SHOCK, signal.text, signal.observed, signal.limit, "x ATR"
        )
        self._entering.add(signal.symbol)
        try:
            family = self._store.add_entry(
                signal.headline_key,
                self._book.run_id,
                decision,
                at_ns=self._clock.now_ns(),
                symbol=signal.symbol,
                intent=lambda decision_id: self._entry_intent(signal, plan, decision_id),
                children=children_of,
            )
            _log.info(
                "decision: %s enter %s %d shares: %s",
                signal.symbol,
                signal.side.value,
                plan.shares,
                signal.text,
            )
            await self._sender.send(*family)
            self.guard()
        except RecordError as error:
            # No record, no entry; and nothing more is entered until a person has looked.
            self.stop_entries(str(error))
            self._on_incident("record failed", str(error), signal.symbol)
            self.guard()
            return passed(Reason.RECORD_FAILED, str(error))
        finally:
            self._entering.discard(signal.symbol)
        return decision

    def _not_operational(self) -> Decision:
        state = self._connector.state
        is_up = state is ConnectionState.OPERATIONAL
        words = "the gateway does not answer" if is_up else f"the connection is {state.value}"
        return passed(Reason.NOT_OPERATIONAL, words)

    def refuse_window(self, now_ns: int) -> Decision | None:
        """Return the decision not to enter at this time of day, None when entries are allowed."""
        return self._planner.refuse_window(now_ns)

    async def learn(self, symbol: str) -> None:
        """Ask what the size of an entry in this symbol will need to know."""
        await self._planner.learn(symbol)

    def _refuse_symbol(self, symbol: str) -> Decision | None:
        if not self.accepts_entries:
            return passed(Reason.SESSION_ENDING, "this session enters nothing more")
        instrument = self._connector.instrument(symbol)
        if instrument is not None and instrument.con_id in self.blocked:
            return passed(Reason.SYMBOL_BLOCKED, self.blocked[instrument.con_id])
        busy = symbol in self._entering
        busy = busy or any(row["symbol"] == symbol for row in self._store.open_trades())
        busy = busy or any(row["symbol"] == symbol for row in self._store.unsettled_orders())
        if busy:
            return passed(Reason.SYMBOL_BUSY, f"{symbol} has a position or an order already")
        theirs = self.holdings.told(instrument.con_id) if instrument is not None else 0.0
        if theirs:
            text = f"{symbol}: the broker holds {theirs:g} shares, none of them ours"
            return passed(Reason.SYMBOL_BLOCKED, text)
        return None

    def _pass(self, signal: TradeSignal, decision: Decision) -> Decision:
        self._book.decide(signal.headline_key, decision, symbol=signal.symbol)
        return decision

    def _entry_intent(self, signal: TradeSignal, plan: EntryPlan, decision_id: int) -> OrderIntent:
        return OrderIntent(
            order_ref=f"{ORDER_REF_PREFIX}{self._book.run_id}-d{decision_id}",
            symbol=signal.symbol,
            con_id=plan.con_id,
            side=signal.side,
            shares=plan.shares,
            created_ns=self._clock.now_ns(),
            purpose=OrderPurpose.ENTRY,
            decision_id=decision_id,
            levels=plan.levels,
            atr=signal.atr,
            bid=plan.quote.bid,
            ask=plan.quote.ask,
            signal_price=signal.price,
            size_json=plan.size_json,
            order_type=OrderType.MARKET if plan.limit_usd is None else OrderType.LIMIT,
            limit_price=plan.limit_usd,
        )

    @property
    def _may_enter(self) -> bool:
        """Whether neither the brake nor the end of the session stands against entries."""
        return self.accepts_entries and self._planner.risk_state.may_enter

    @property
    def risk_state(self) -> str:
        """Where the brake of the account stands: ACTIVE, REDUCING or HALTED."""
        return self._planner.risk_state.value

    def set_risk_state(self, state: str, cause: str) -> None:
        """Move the brake by hand: entries (ACTIVE), or nothing but exits (REDUCING, HALTED).

        Raises:
            RecordError: it could not be written down; only a brake that was pulled holds then.
        """
        self._planner.set_state(RiskState(state), cause=cause)
        self.guard()
        if self._planner.risk_state is RiskState.ACTIVE:
            # A person has looked at what stopped the entries.
            self.accepts_entries = True

    def look_at_losses(self) -> float:
        """Brake when the day's loss has reached its limit, also while nobody wants to enter.

        Return what may be lost until then, US dollars; 0 where nobody knows.
        """
        return self._planner.look_at_losses()

    # --- exits -----------------------------------------------------------------------------

    async def close(self, trade_id: int, reason: ExitReason, quote: Quote | None) -> bool:
        """Close what is open of a trade with a market order; return whether it is flat.

        Nothing is sent before the connection has been reconciled, or while an earlier exit of
        the trade has no known end: the caller tries again.
        """
        booked = self._store.open_shares(trade_id)
        if not booked:
            return True
        shares = booked + self.books.unbooked_shares(trade_id)
        if not shares:
            # Closed, and not written down yet.
            return False
        trade = self._store.trade(trade_id)
        earlier = self._store.exits_of(trade_id)
        if not self._may_close(trade, earlier):
            return False
        group = self.protection.group_of(trade)
        is_flipped = shares * Side(trade["side"]).sign < 0
        was_refused = any(row["state"] == OrderState.REJECTED.value for row in earlier)
        if group.name is not None and (is_flipped or was_refused):
            # What closes a flipped position, or was refused in the group, goes alone.
            if not await self.protection.strip(trade):
                return False
            group = NO_GROUP
        intent = OrderIntent(
            order_ref=f"{ORDER_REF_PREFIX}{self._book.run_id}-t{trade_id}x{len(earlier) + 1}",
            symbol=trade["symbol"],
            con_id=trade["con_id"],
            side=Side.SELL if shares > 0 else Side.BUY,
            shares=round(abs(shares)),
            created_ns=self._clock.now_ns(),
            purpose=OrderPurpose.EXIT,
            trade_id=trade_id,
            exit_reason=reason,
            bid=quote.bid if quote else None,
            ask=quote.ask if quote else None,
            oca_group=group.name,
            joins=group.members,
        )
        await self._end_entry_of(trade)
        _log.info("exit: %s %s %d shares", intent.symbol, reason.value, intent.shares)
        try:
            self._store.add_order(self._book.run_id, intent)
        except RecordError as error:
            await self._exit_unrecorded(intent, error)
            return False
        await self._sender.send(intent)
        self.protection.dress(trade_id)
        self.guard()
        is_flat = not self._store.open_shares(trade_id)
        if not is_flat and self._store.order_state(intent.order_ref) is OrderState.CANCELLED:
            # By nobody here: its group has filled already, and that has not been heard of.
            await self._connector.resynchronise(f"order {intent.order_ref} was cancelled")
        return is_flat

    async def _end_entry_of(self, trade: Row) -> None:
        """Ask for the end of what still works of an entry: who leaves does not want more of it."""
        entry = self._store.family_of(trade["decision_id"])[0]
        if not OrderState(entry["state"]).is_final:
            await self._connector.cancel_order(entry["order_ref"])

    def _may_close(self, trade: Row, earlier: list[Row]) -> bool:
        """Whether an exit may leave.

        That is: the exchange is open, all is reconciled, no earlier one is in flight, and the
        books agree.
        """
        now_ns = self._clock.now_ns()
        session = session_on_day_of(now_ns)
        if session is None or not session.holds(now_ns):
            # It would wait for the next opening; until then the stop at the broker protects.
            return False
        unrecorded = {intent.trade_id for intent in self._unrecorded.values()}
        if not self._connector.may_exit() or trade["trade_id"] in unrecorded:
            return False
        if trade["con_id"] in self.blocked or self.holdings.disputes(trade["con_id"]):
            # The broker holds something else than our fills make: an exit could open a position.
            return False
        if self.protection.awaits_execution(trade):
            return False
        return all(OrderState(row["state"]).is_final for row in earlier)

    async def move_stop(self, trade_id: int, stop_usd: float, kind: ExitReason) -> None:
        """Tighten the stop of a trade, in the record and then at the broker; never loosen it.

        Args:
            trade_id: an open trade.
            stop_usd: where, US dollars on the tick grid.
            kind: the reason that an exit there has: STOP_LOSS, BREAK_EVEN or TRAIL.
        """
        trade = self._store.trade(trade_id)
        if Side(trade["side"]).tighter(stop_usd, trade["stop"]) == trade["stop"]:
            return
        self._store.set_stop(trade_id, stop_usd, kind)
        self.guard()

    def is_protected(self, trade_id: int) -> bool:
        """Whether stop and target of a trade both work at the broker, for all of it."""
        return self.protection.is_protected(trade_id)

    async def _exit_unrecorded(self, intent: OrderIntent, error: RecordError) -> None:
        """Send an exit that could not be written down, once.

        It is kept in mind until it can be, and nothing else closes the trade meanwhile.
        """
        self.stop_entries(str(error))
        self._unrecorded[intent.order_ref] = intent
        self._on_incident("exit not recorded", f"{intent.order_ref}: {error}", intent.symbol)
        try:
            await self._connector.place_order(intent)
        except ConnectionLostError as lost:
            # Nothing has left, so that it may be asked for again.
            self._unrecorded.pop(intent.order_ref, None)
            self._on_incident("exit not sent", f"{intent.order_ref}: {lost}", intent.symbol)
        self.guard()

    def doubt_record(self, why: str) -> None:
        """Note that something could not be written down: nothing is entered any more.

        Exits go on, by what the record knew last. What was not booked is asked for again, with
        everything else, once the record can be written.
        """
        self._reports.doubt(why)

    def stop_entries(self, why: str) -> None:
        """Enter nothing more until a person has looked: the record cannot be relied upon."""
        self.accepts_entries = False
        self._planner.brake(RiskEvent.RECORD_FAILED, why)

    def _hear_failure(self, why: str) -> None:
        self.stop_entries(why)
        self.guard()

    async def cancel_entries(self) -> None:
        """Ask the broker to cancel the entries that still work; for the end of a session.

        What does not leave now, because the line is down, is asked for when it is back.
        """
        self.guard()
        for order in self._store.unsettled_orders():
            if order["purpose"] == "entry":
                await self._connector.cancel_order(order["order_ref"])
