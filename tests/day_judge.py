"""What must hold on every day, whatever goes wrong: judged at the gateway and at the record.

The judge hears each order that arrives, each thing that the exchange does, and each write of the
record, and looks at once; `at_the_end` looks at the whole. What it finds are sentences.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio

from momentum_lab.clock import LoopClock, transport_s
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderEvent, OrderIntent, OrderState
from momentum_lab.core.position import Fill
from momentum_lab.core.signal import Decision
from momentum_lab.gateway.orders import ExchangeEvent, Executed, Execution, Order, Ticket
from momentum_lab.gateway.refusal import REJECTED, RefusedError
from momentum_lab.gateway.server import Gateway
from momentum_lab.live import session as live_session
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.records import lock
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore
from tests.connection_kit import Witness

# A reconciled position has its stop, and what protects nothing is gone, within this time.
STOP_WITHIN_S = 20.0
# While one of these goes on, nobody can know what works at the broker, or reach it.
_BLINDING = frozenset(
    {
        *("half_open", "stalled_reader", "stalled_writer", "slow_answers", "lost_answer", "1100"),
        *("restart", "nightly_reset", "late_status", "reordered_status", "lost_acknowledgement"),
        *("partial_then_silence", "client_id_busy"),
    }
)
# A position beyond zero is closed within this time of a reconciled connection.
FLIP_WITHIN_S = 30.0
_LOOK_EVERY_S = 5.0
_CENT_USD = 0.005
# In ten minutes: each fault costs a few, and each order that is looked for twice.
MOST_SYNCHRONISATIONS = 60
_SPAN_NS = 600 * NS_PER_S
# What the broker has kept silent about is looked for in its lists within this time.
_SILENT_S = 60.0
# What a stalled reader has left in the sockets is read within this time of its end.
_PIPE_S = 6.0
_PURPOSES = (
    ("stop", re.compile(r"-sl\d*$")),
    ("target", re.compile(r"-tp\d*$")),
    ("entry", re.compile(r"-d\d+$")),
    ("exit", re.compile(r"-t\d+x\d+$")),
)
_PROTECTING = ("stop", "target")
_ERROR_FRAME = b"4\0"


def purpose_of(order_ref: str) -> str:
    """Return what an order is for, by its reference; empty for one that is not ours."""
    return next((name for name, form in _PURPOSES if form.search(order_ref)), "")


@dataclass
class Counts:
    """What a day consisted of."""

    events: int = 0
    orders: int = 0
    fills: int = 0
    partial_fills: int = 0
    rejects: int = 0
    flips: int = 0
    faults: Counter[str] = field(default_factory=Counter)


class _Digest:
    """Takes the lines of the journal into a hash."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, line: str) -> None:
        self.hash.update(line.encode())

    def flush(self) -> None:
        """There is nothing to write."""


class Judge:
    """Listens at one gateway and at the records of the sessions that trade there.

    Attributes:
        violations: in sentences, each with its market time.
        counts: what happened.
        order_log: every order that arrived: market time, reference, side, shares, type.
    """

    def __init__(self, gateway: Gateway, *, rejects: Any) -> None:
        """Begin to listen.

        Args:
            gateway: a running gateway.
            rejects: called for each new order; true has it rejected.
        """
        self.violations: list[str] = []
        self.counts = Counts()
        self.order_log: list[tuple[int, str, str, int, str]] = []
        self.session: LiveSession | None = None
        self._gateway = gateway
        self._exchange = gateway.hub.exchange
        self._rejects = rejects
        self._new_refs: set[str] = set()
        self._held: Counter[str] = Counter()
        self._executions: dict[str, Execution] = {}
        self._flipped_ns: dict[str, int] = {}
        self._bare_since_ns: dict[str, int] = {}
        self._idle_since_ns: dict[str, int] = {}
        self._oversized: set[str] = set()
        self._stalled_s = self._silent_s = -math.inf
        self._digest = _Digest()
        self._listen()

    def digest(self) -> str:
        """Return a hash of everything that was heard."""
        return self._digest.hash.hexdigest()

    # --- ears ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        hub = self._gateway.hub
        place, publish, log_wire = hub.exchange.place, hub.publish, hub.log_wire
        hub.journal.file = self._digest  # type: ignore[assignment]
        self.witness = Witness(lambda: "stalled_writer" not in self.active())
        hub._wire_log, hub.logs_wire = self.witness, True  # type: ignore[assignment]

        def hear_order(ticket: Ticket) -> list[ExchangeEvent]:
            self._judge_order(ticket)
            is_new = ticket.key not in hub.exchange.books.orders
            if is_new and self._rejects(ticket):
                text = "Order rejected - reason:the exchange is not in the mood"
                events = hub.exchange._refuse(ticket, RefusedError(REJECTED, text), is_new=True)
            else:
                events = place(ticket)
            self._hear_rejects(ticket)
            return events

        def hear_events(events: Iterable[ExchangeEvent]) -> None:
            told = list(events)
            for event in told:
                self._judge_event(event)
            publish(told)

        def hear_wire(direction: str, client_id: int | None, content: Any) -> None:
            # Of what is said only errors matter; quotes are many.
            if direction == ">" and not content.startswith(_ERROR_FRAME, 4):
                return
            if direction == "<" and content[0] == "placeOrder":
                self._note_sent(str(content[1].get("order_ref", "")))
            log_wire(direction, client_id, content)

        hub.exchange.place = hear_order  # type: ignore[method-assign]
        hub.publish = hear_events  # type: ignore[method-assign]
        hub.log_wire = hear_wire  # type: ignore[method-assign]

    def active(self) -> set[str]:
        """Return the names of the faults that go on."""
        return {fault.name for fault in self._gateway.hub.faults.active}

    def note(self, what: str, *facts: object) -> None:
        """Count an event and take it into the hash."""
        self.counts.events += 1
        self._digest.write(json.dumps([self._gateway.now_ns, what, *facts], default=str))

    def _found(self, kind: str, words: str) -> None:
        self.violations.append(f"{kind}: {words} at {self._gateway.now_ns}")

    # --- orders that arrive -------------------------------------------------------------------

    def _judge_order(self, ticket: Ticket) -> None:
        ref, symbol = ticket.order_ref, ticket.instrument.symbol
        self.note("order", ref, ticket.side.value, ticket.quantity, ticket.order_type)
        row = (self._gateway.now_ns, ref, ticket.side.value, int(ticket.quantity))
        self.order_log.append((*row, ticket.order_type))
        self.counts.orders += 1
        known = self._exchange.books.orders.get(ticket.key)
        if known is not None:
            self._judge_change(known, ticket)
            return
        if ref and ref in self._new_refs:
            self._found("order placed twice", ref)
        self._new_refs.add(ref)
        held = self._exchange.account.ledger.position(symbol).quantity
        purpose = purpose_of(ref)
        if purpose == "entry":
            self._judge_entry(ref, symbol, held)
        elif purpose == "exit" and self._came_late(symbol, held * ticket.side.sign, ticket):
            # Something filled while it was under way; whether that does harm, its fills show, and
            # those of its group: the broker takes off the others in proportion to their sizes.
            self._oversized |= {ref, *(order.ticket.order_ref for order in self._live(symbol))}
        elif not purpose:
            self._found("foreign order", ref or "without a reference")

    def _came_late(self, symbol: str, enlarged: int, ticket: Ticket) -> bool:
        """Whether an exit found less than it was sent for, or a position turned round."""
        is_turned = enlarged > 0 and symbol in self._flipped_ns
        return is_turned or -ticket.quantity < enlarged <= 0

    def _judge_change(self, known: Order, ticket: Ticket) -> None:
        words = f"{ticket.order_ref} came with the id of {known.ticket.order_ref}"
        if known.ticket.order_ref != ticket.order_ref:
            self._found("order taken for a change of another", words)
        elif ticket.order_type == "MKT":
            self._found("order placed twice", words)

    def _judge_entry(self, ref: str, symbol: str, held: int) -> None:
        if held:
            self._found("entry into a position", f"{ref}, {symbol} holds {held:+d}")
        working = [o for o in self._exchange.live_orders() if o.symbol == symbol]
        if working:
            others = ", ".join(order.ticket.order_ref for order in working)
            self._found("entry beside a working order", f"{ref}, {symbol} has {others}")

    def _hear_rejects(self, ticket: Ticket) -> None:
        order = self._exchange.books.orders.get(ticket.key)
        self.counts.rejects += order is not None and order.status == "Inactive"

    def _note_sent(self, order_ref: str) -> None:
        """Note when an order left: virtual time does not move while it is under way."""
        is_stalled = transport_s() - self._stalled_s < _PIPE_S
        self.witness.sent_s[order_ref] = -math.inf if is_stalled else transport_s()

    # --- what the exchange does ---------------------------------------------------------------

    def _judge_event(self, event: ExchangeEvent) -> None:
        self.counts.events += 1
        if "partial_then_silence" in self.active():
            self._silent_s = transport_s()
        if isinstance(event, Executed):
            self._judge_execution(event.execution)

    def _judge_execution(self, execution: Execution) -> None:
        self._executions[execution.exec_id] = execution
        if not execution.exec_id.endswith(".01"):
            return
        self.counts.fills += 1
        order = self._exchange.books.orders.get((execution.client_id, execution.order_id))
        self.counts.partial_fills += order is not None and execution.cumulative < order.quantity
        symbol = execution.symbol
        before = self._held[symbol]
        self._held[symbol] = after = before + execution.side.sign * execution.shares
        purpose, ref = purpose_of(execution.order_ref), execution.order_ref
        if purpose == "entry" and before * after < 0:
            self._found("entry closed a position", f"{ref}: {before:+d} to {after:+d}")
        if purpose in ("exit", *_PROTECTING) and before * after <= 0 and after:
            self.counts.flips += 1
            self._flipped_ns.setdefault(symbol, self._gateway.now_ns)
            # At zero the rest of a group is cancelled, unless nobody tells that it is there.
            is_silent = transport_s() - self._silent_s < _SILENT_S
            if ref not in self._oversized or not (before or is_silent):
                self._found("exit beyond zero", f"{ref}: {before:+d} to {after:+d}")
        is_larger = before * execution.side.sign > 0
        if purpose in ("exit", *_PROTECTING) and is_larger and ref not in self._oversized:
            self._found("exit enlarged a position", f"{ref}: {before:+d} to {after:+d}")
        if not after:
            self._flipped_ns.pop(symbol, None)
        ledger = self._exchange.account.ledger.position(symbol).quantity
        if self._exchange.books.executions[-1] is execution and ledger != after:
            self._found("position unlike its fills", f"{symbol}: {ledger:+d}, fills {after:+d}")

    # --- what passes with time ----------------------------------------------------------------

    def look(self) -> None:
        """Look at what has to be so after a while; called every few seconds."""
        now_ns = self._gateway.now_ns
        if "stalled_reader" in self.active():
            self._stalled_s = transport_s()
        if not self._may_exit():
            # The time that is allowed begins anew with the next reconciliation.
            for clocks in (self._flipped_ns, self._bare_since_ns, self._idle_since_ns):
                clocks.update({key: max(now_ns, since_ns) for key, since_ns in clocks.items()})
            return
        for symbol, since_ns in list(self._flipped_ns.items()):
            if now_ns - since_ns > FLIP_WITHIN_S * NS_PER_S:
                del self._flipped_ns[symbol]
                self._found("position beyond zero", f"{symbol}: {self._held[symbol]:+d}")
        self._look_for_stops(now_ns)
        self._look_for_idle(now_ns)

    def _may_exit(self) -> bool:
        connector = getattr(self.session, "_connector", None)
        is_halted = any(self._gateway.hub.market.is_halted(symbol) for symbol in self._held)
        is_blind = is_halted or bool(self.active() & _BLINDING)
        return connector is not None and connector.may_exit() and not is_blind

    def _live(self, symbol: str) -> list[Order]:
        """Return what lives of a symbol, what is on its way to the exchange as well."""
        books = self._exchange.books
        orders = [books.orders[key] for key in books.live_keys(symbol)]
        return [order for order in orders if not order.is_waiting]

    def _look_for_idle(self, now_ns: int) -> None:
        """What protects no position is gone after a while: its fill would open one."""
        idle = {
            order.ticket.order_ref
            for order in self._exchange.books.unfinished()
            if purpose_of(order.ticket.order_ref) in _PROTECTING
            and not order.is_waiting
            and order.why_held != "child"
            and self._held[order.symbol] * order.ticket.side.sign >= 0
        }
        for ref in self._idle_since_ns.keys() - idle:
            del self._idle_since_ns[ref]
        for ref in sorted(idle):
            if now_ns - self._idle_since_ns.setdefault(ref, now_ns) > STOP_WITHIN_S * NS_PER_S:
                # Once is enough for an order that stays.
                self._idle_since_ns[ref] = 2 * now_ns
                self._found("order protects nothing", ref)

    def _look_for_stops(self, now_ns: int) -> None:
        for symbol, held in self._held.items():
            wanted = Side.SELL if held > 0 else Side.BUY
            live = self._live(symbol)
            working = sum(
                order.remaining
                for order in live
                if order.ticket.order_type == "STP" and order.ticket.side is wanted
            )
            # What an exit in flight fills, it takes from the stop.
            is_closing = any(purpose_of(order.ticket.order_ref) == "exit" for order in live)
            if not held or is_closing or working == abs(held):
                self._bare_since_ns.pop(symbol, None)
                continue
            since_ns = self._bare_since_ns.setdefault(symbol, now_ns)
            if now_ns - since_ns > STOP_WITHIN_S * NS_PER_S:
                del self._bare_since_ns[symbol]
                kind = "stop too large" if working > abs(held) else "position without a stop"
                self._found(kind, f"{symbol} {held:+d}, stops for {working}")

    # --- the record ---------------------------------------------------------------------------

    def judge_entry_row(self, store: TradeStore, intent: OrderIntent) -> None:
        """An entry has been written down, and will be sent."""
        self.note("intent", intent.order_ref, intent.side.value, intent.shares)
        others = [
            row["order_ref"]
            for row in store.unsettled_orders()
            if row["symbol"] == intent.symbol and not row["order_ref"].startswith(intent.order_ref)
        ]
        if others or any(row["symbol"] == intent.symbol for row in store.open_trades()):
            self._found("intent for a busy symbol", f"{intent.order_ref} beside {others}")

    def judge_fill_row(self, fill: Fill, trade: Row | None) -> None:
        """A fill has been booked."""
        self.note("booked", fill.exec_id, fill.shares, fill.price)
        truth = self._executions.get(fill.exec_id)
        if truth is None:
            self._found("fill of no execution", fill.exec_id)
        elif trade is not None and _as_row(truth) != _as_row_of_fill(fill):
            self._found("fill unlike its execution", f"{fill} for {truth}")

    # --- the end ------------------------------------------------------------------------------

    def judge_result(self, result: SessionResult) -> None:
        """What is still held or works at the broker has been told by the session."""
        told = result.end_reason
        for symbol, shares in self._held.items():
            if shares and symbol not in told:
                self._found("silent about a position", f"{symbol} {shares:+d}; told: {told}")

    def judge_books(self, store: TradeStore) -> None:
        """The record's fills are the exchange's executions, to the share and the cent."""
        for failed in self._gateway.hub.journal.of("fault fails"):
            self._found("a fault fails", f"{failed['fault']}: {failed['error']}")
        for row in store.db.query("SELECT text FROM differences WHERE kind = 'CASH_DIFFERS'"):
            self._found("cash differs", row["text"])
        rows = store.db.query("SELECT * FROM fills ORDER BY exec_id")
        ours = {row["exec_id"]: row for row in rows}
        truth = {one.exec_id: one for one in self._exchange.books.executions}
        for exec_id in sorted({*ours, *truth}):
            if exec_id not in ours:
                self._found("execution not recorded", f"{exec_id} {truth[exec_id].order_ref}")
            elif exec_id in truth:
                self._judge_row(ours[exec_id], truth[exec_id])
            elif exec_id not in self._executions:
                self._found("fill of no execution", exec_id)

    def _judge_row(self, row: Row, truth: Execution) -> None:
        sides = (row["side"], row["shares"], row["order_ref"])
        theirs = (truth.side.value, truth.shares, truth.order_ref)
        off_usd = abs(row["price"] - truth.price_usd) * truth.shares
        if sides != theirs or off_usd > _CENT_USD:
            self._found("fill unlike its execution", f"{truth.exec_id}: {sides}, {theirs}")
        if row["commission_usd"] is None:
            self._found("commission not recorded", truth.exec_id)
        elif abs(row["commission_usd"] - truth.commission_usd) > _CENT_USD:
            self._found(
                "commission differs",
                f"{truth.exec_id}: {row['commission_usd']} for {truth.commission_usd}",
            )

    def judge_sentences(self, sentences: Iterable[str]) -> None:
        """What the check of a record has found."""
        for sentence in sentences:
            self._found("record", sentence)

    def judge_steps(self, steps: Iterable[tuple[int | None, str]]) -> None:
        """The connection is not synchronised again and again without need."""
        per_span = Counter(
            at_ns // _SPAN_NS for at_ns, state in steps if state == "SYNCHRONIZING" and at_ns
        )
        for span, n_steps in per_span.items():
            if n_steps > MOST_SYNCHRONISATIONS:
                self._found("synchronised too often", f"{n_steps} times after {span * _SPAN_NS}")

    def judge_flat(self) -> None:
        """Nothing is held and nothing works."""
        for symbol, shares in self._held.items():
            if shares:
                self._found("not flat", f"{symbol} {shares:+d}")
        for order in self._exchange.live_orders():
            self._found("order still works", order.ticket.order_ref)


def _as_row(one: Execution) -> tuple[object, ...]:
    return one.side, float(one.shares), round(one.price_usd, 6), one.order_ref


def _as_row_of_fill(fill: Fill) -> tuple[object, ...]:
    return fill.side, float(fill.shares), round(fill.price, 6), fill.order_ref


class WatchedStore(TradeStore):
    """A trade store whose writes a judge hears, and that waits for no disk."""

    judge: Judge

    def _prepare(self) -> None:
        super()._prepare()
        # The machine of a simulated day loses no power.
        self.db.execute("PRAGMA synchronous = OFF")

    def add_decision(
        self, headline_id: str, decision: Decision, *, at_ns: int, symbol: str | None
    ) -> int:
        """Write a decision, and let it be heard."""
        self.judge.note("decision", headline_id, decision.reason.value)
        return super().add_decision(headline_id, decision, at_ns=at_ns, symbol=symbol)

    def add_entry(self, *args: Any, **others: Any) -> tuple[OrderIntent, ...]:
        """Write an entry, and let it be judged."""
        family = super().add_entry(*args, **others)
        self.judge.judge_entry_row(self, family[0])
        return family

    def add_order(self, run_id: str, intent: OrderIntent) -> None:
        """Write an exit or a stop, and let it be heard."""
        super().add_order(run_id, intent)
        self.judge.note(intent.purpose.value, intent.order_ref, intent.side.value, intent.shares)

    def advance_order(self, order_ref: str, event: OrderEvent, **values: object) -> OrderState:
        """Move an order on, and let it be heard."""
        state = super().advance_order(order_ref, event, **values)
        self.judge.note("state", order_ref, event.value, state.value)
        return state

    def book_fill(self, fill: Fill, *, is_inferred: bool = False) -> Row | None:
        """Book a fill, and let it be judged."""
        trade = super().book_fill(fill, is_inferred=is_inferred)
        if not is_inferred:
            # What is inferred has to be gone, or explained, by the end.
            self.judge.judge_fill_row(fill, trade)
        return trade


async def look_on(judge: Judge) -> None:
    """Let a judge look every few seconds until cancelled."""
    while True:
        judge.look()
        await anyio.sleep(_LOOK_EVERY_S)


@contextmanager
def simulated(gateway: Gateway, judge: Judge) -> Iterator[None]:
    """Give the sessions made inside the gateway's time, and a record whose writes are heard."""

    class Store(WatchedStore):
        pass

    Store.judge = judge
    with (
        # Days that are lived side by side do not trade the same account.
        tempfile.TemporaryDirectory() as leases,
        patch.object(lock, "_LEASES", Path(leases)),
        patch.object(live_session, "SystemClock", lambda: LoopClock(gateway.now_ns)),
        patch.object(live_session, "TradeStore", Store),
        # A signal is for who runs the simulation; a session would end its day early by it.
        patch.object(live_session, "signals_call", lambda _callback: nullcontext()),
    ):
        yield
