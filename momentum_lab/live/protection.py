"""`Protection`: every position of ours has a working stop at the broker, of its size and price.

Theory of operation. An entry leaves together with a stop and a target that the broker makes live as
it fills, good until cancelled and in one group: whatever fills takes from the others, so that a
position is never closed twice, and a client that dies leaves a position that is still protected.
What is meant stands in the store; what works is what the broker said in this connection. Each look
compares the two and takes the one step that brings them together: change the stop, place a new one
where none works, cancel what protects nothing any more. A position whose stop cannot be placed is
not kept.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.market import EPSILON, Side
from momentum_lab.core.order import OrderEvent, OrderIntent, OrderPurpose, OrderState, OrderType
from momentum_lab.core.position import ExitReason
from momentum_lab.errors import ConnectionLostError, RecordError
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.translate import WorkingOrder
from momentum_lab.live.patience import ASK_AGAIN_S, Patience
from momentum_lab.live.protective_orders import (
    MOST_ATTEMPTS,
    Group,
    group_of,
    intent_of,
    is_hopeless,
    is_open,
    stops_of,
    was_held_back,
)
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

# An exit that goes alone follows its protection's end within this time, or the stop comes back.
_BARE_AT_MOST_S = 10.0
_PROTECTING = (OrderPurpose.STOP.value, OrderPurpose.TARGET.value)


class Verdict(Enum):
    """What a look at one trade found."""

    QUIET = "nothing left to do"
    WAITING = "an answer is awaited"
    NAKED = "no stop can be placed: the position must be closed"


class Protection:
    """Keeps stop and target of every trade as they are meant."""

    def __init__(
        self,
        connector: IBKRConnector,
        store: TradeStore,
        *,
        run_id: str,
        clock: Clock,
        answer_s: float,
        unrecorded: dict[str, OrderIntent],
        blocked: Mapping[int, str],
        on_incident: OnIncident,
    ) -> None:
        """Make a protection that does nothing until it is asked to look.

        Args:
            connector: the door to the broker.
            store: what is meant.
            run_id: the run that new orders belong to.
            clock: market time.
            answer_s: an order that the broker has not confirmed by then is doubted.
            unrecorded: orders that left although they could not be written down, by reference.
            blocked: contract ids of which broker and record differ.
            on_incident: hears (kind, text, symbol).
        """
        self.unrecorded = unrecorded
        self._blocked = blocked
        self._connector = connector
        self._store = store
        self._run_id = run_id
        self._clock = clock
        self._answer_s = answer_s
        self._on_incident = on_incident
        self._patience = Patience()
        self._first_heard_ns: dict[int, int] = {}
        self._stripped_s: dict[int, float] = {}

    # --- what is asked ---------------------------------------------------------------------

    def is_protected(self, trade_id: int) -> bool:
        """Whether stop and target of a trade both work at the broker, for all of it.

        Also while one of them has just filled and its execution is not booked yet.
        """
        trade = self._store.trade(trade_id)
        if self.awaits_execution(trade):
            return True
        held = abs(self._store.shares_of(trade))
        live = [row for row in self._family(trade) if self._is_live(row, held)]
        return {row["purpose"] for row in live} == set(_PROTECTING)

    def awaits_execution(self, trade: Row) -> bool:
        """Whether the broker told that a stop or target filled more than has been booked.

        An exit that left now would close what is closed already.
        """
        return self._fills_are_on_their_way(self._family(trade))

    def _fills_are_on_their_way(self, family: list[Row]) -> bool:
        for row in family:
            works = self._connector.working(row["order_ref"])
            if works is None:
                continue
            told = works.shares - works.remaining
            if told > self._store.filled_shares(row["order_ref"]) + EPSILON:
                return True
        return False

    def group_of(self, trade: Row) -> Group:
        """Return the group that a new order of a trade must join."""
        rows = (*self._family(trade), *self._store.exits_of(trade["trade_id"]))
        return group_of(rows, self._store.filled_shares)

    def note_first_fill(self, trade_id: int) -> None:
        """Remember when the first fill of a trade was heard of, for the time without a stop."""
        self._first_heard_ns.setdefault(trade_id, self._clock.now_ns())

    async def strip(self, trade: Row) -> bool:
        """Cancel what protects a trade, for an exit that may not share its group.

        Return whether nothing of it works any more. Nothing is put in its place until `dress`, or
        until nobody has asked for an exit for a while.
        """
        self._stripped_s[trade["trade_id"]] = transport_s()
        rows = [row for row in self._family(trade) if not OrderState(row["state"]).is_final]
        await self.cancel(rows)
        return not rows

    def dress(self, trade_id: int) -> None:
        """Protect a trade again after `strip`."""
        self._stripped_s.pop(trade_id, None)

    def _is_stripped(self, trade_id: int) -> bool:
        since_s = self._stripped_s.get(trade_id, -math.inf)
        return transport_s() - since_s < _BARE_AT_MOST_S

    # --- the look --------------------------------------------------------------------------

    async def look(self, trade_id: int) -> Verdict:
        """Bring what works at the broker nearer to what is meant for one trade.

        Nothing is sent before the connection has been reconciled.
        """
        trade = self._store.trade(trade_id)
        if not self._connector.may_exit() or self._record_late(trade["decision_id"]):
            return Verdict.WAITING
        family = self._store.family_of(trade["decision_id"])
        protecting = [row for row in family if row["purpose"] in _PROTECTING]
        live = [row for row in protecting if is_open(row)]
        held = self._store.shares_of(trade) * Side(trade["side"]).sign
        if held <= EPSILON:
            entry = family[0]
            ending = [entry] if is_open(entry) else live
            ending += self._exits_beyond_zero(trade)
            await self.cancel(ending)
            return Verdict.WAITING if ending else Verdict.QUIET
        if self._fills_are_on_their_way(protecting):
            return await self._await_execution(_name_of(trade), trade["symbol"])
        self._patience.begin_anew(_execution_of(_name_of(trade)))
        exits = self._store.exits_of(trade_id)
        has_stop = any(map(is_open, stops_of(family)))
        on_their_way = list(filter(is_open, exits))
        if on_their_way:
            # They are of the same group, and take from the protection what they fill.
            are_stuck = all([await self._is_stuck(row) for row in on_their_way])
            is_naked = are_stuck and not has_stop
            return await self._place_stop(trade, family, held) if is_naked else Verdict.WAITING
        if not has_stop and is_hopeless(family, exits):
            return self._naked(trade)
        return await self._protect(trade, family, held)

    def _naked(self, trade: Row) -> Verdict:
        """Have a trade closed; an exit that is refused is not asked for again at each look."""
        is_due = self._patience.may_ask(f"close of {_name_of(trade)}")
        return Verdict.NAKED if is_due else Verdict.WAITING

    async def _is_stuck(self, row: Row) -> bool:
        """Have an exit ended that the broker holds and has not passed on: no other may leave.

        Return whether asking for its end has not helped.
        """
        order_ref = row["order_ref"]
        key = f"work of {order_ref}"
        works = self._connector.working(order_ref)
        if works is None or works.is_passed_on:
            self._patience.forget(key)
            return False
        if self._patience.runs_out(key, after_s=self._answer_s):
            n_asked = self._patience.n_doubted(key)
            if n_asked in (1, MOST_ATTEMPTS):
                text = f"{order_ref}: the broker holds it ({works.status}); cancel {n_asked}"
                self._on_incident("exit not working", text, row["symbol"])
            await self._connector.cancel_order(order_ref)
        return self._patience.n_doubted(key) >= MOST_ATTEMPTS

    def _exits_beyond_zero(self, trade: Row) -> list[Row]:
        """Return the exits that would make a position of the other sign larger."""
        side = Side(trade["side"]).opposite.value
        exits = self._store.exits_of(trade["trade_id"])
        return [row for row in exits if is_open(row) and row["side"] == side]

    async def _protect(self, trade: Row, family: list[Row], held: float) -> Verdict:
        """Look at the protection of shares that are held and that no exit is on its way for."""
        live = [row for row in family if row["purpose"] in _PROTECTING and is_open(row)]
        stops = stops_of(live)
        if self._is_stripped(trade["trade_id"]):
            return Verdict.WAITING
        if not stops:
            return await self._place_stop(trade, family, held)
        is_filling = any(is_open(row) and row["purpose"] == "entry" for row in family)
        surplus = self._surplus(stops, held)
        await self.cancel(surplus)
        verdict = Verdict.WAITING if surplus else Verdict.QUIET
        for row in live:
            if row in surplus:
                continue
            found = await self._keep(trade, row, held, is_filling=is_filling)
            if found is Verdict.NAKED or verdict is Verdict.QUIET:
                verdict = found
        return verdict

    def _surplus(self, stops: list[Row], held: float) -> list[Row]:
        """Return the stops beside one that works for everything that is held.

        One that was taken for lost, and replaced, may turn out to live.
        """
        whole = next((row for row in stops if self._is_live(row, held)), None)
        return [row for row in stops if row is not whole] if whole is not None else []

    async def look_at_orphans(self, trades: list[Row], working: list[Row]) -> bool:
        """Cancel what protects or closes nothing any more; return whether something is left.

        Not where the broker holds something that our fills do not explain: it may be that fill.

        Args:
            trades: those that are open.
            working: the orders whose end is not known.
        """
        served = {trade["decision_id"] for trade in trades}
        held = {trade["trade_id"] for trade in trades}
        orphans: list[Row] = []
        is_waiting = False
        for row in working:
            is_entry = row["purpose"] == OrderPurpose.ENTRY.value
            if is_entry or row["con_id"] in self._blocked:
                continue
            if row["decision_id"] in served or row["trade_id"] in held:
                continue
            if await self._awaits_entry(row):
                is_waiting = True
            else:
                orphans += self._orphans_of(row)
        await self.cancel(orphans)
        return is_waiting or bool(orphans)

    async def _awaits_entry(self, row: Row) -> bool:
        """Whether the broker told that the entry of a stop or target filled, and no execution.

        Then they protect something, although no trade is known yet.
        """
        if row["decision_id"] is None or self._store.trade_of_order(row) is not None:
            return False
        entry = self._store.family_of(row["decision_id"])[0]
        if is_open(entry) or not self._fills_are_on_their_way([entry]):
            return False
        await self._await_execution(entry["order_ref"], row["symbol"])
        return True

    def _orphans_of(self, row: Row) -> list[Row]:
        """Return what has to end because an exit, a stop or a target serves nothing any more."""
        trade = self._store.trade_of_order(row)
        if trade is not None and trade["state"] != "CLOSED":
            return []
        if row["purpose"] == OrderPurpose.EXIT.value:
            return [row]
        family = self._store.family_of(row["decision_id"])
        entry = family[0]
        if trade is None:
            if was_held_back(family):
                return [entry]
            return [] if is_open(entry) else [row]
        # It may have filled once more in silence, so what protects it stays until its end is known.
        return [entry] if is_open(entry) else [row]

    async def _keep(self, trade: Row, row: Row, held: float, *, is_filling: bool) -> Verdict:
        """Keep one order at the size and the price that are meant."""
        is_stop = row["purpose"] == OrderPurpose.STOP.value
        works = self._connector.working(row["order_ref"])
        if works is None or not works.is_live or row["state"] == OrderState.UNKNOWN.value:
            verdict = await self._await_word(row)
            # Everything was asked for so often, and it is still held back, or not spoken of.
            is_naked = is_stop and self._patience.n_doubted(row["order_ref"]) >= MOST_ATTEMPTS
            return self._naked(trade) if is_naked else verdict
        if is_stop and trade["unprotected_ns"] is None:
            self._note_protected(trade, row)
        if is_filling and row["parent_ref"] is not None:
            # The broker sizes the children by what the entry has filled, but only its children.
            return Verdict.WAITING
        wanted = trade["stop"] if is_stop else trade["target"]
        price = works.stop_price if is_stop else works.limit_price
        has_price = price is not None and abs(price - wanted) <= EPSILON
        has_size = abs(works.remaining - held) <= EPSILON
        if has_price and has_size:
            self._patience.forget(row["order_ref"])
            return Verdict.QUIET
        if has_price and not self._patience.lasts(row["order_ref"]):
            return Verdict.WAITING
        return await self._change(trade, row, works, held, wanted)

    async def _change(
        self, trade: Row, row: Row, works: WorkingOrder, held: float, wanted: float
    ) -> Verdict:
        order_ref = row["order_ref"]
        has_failed = self._patience.n_attempts(order_ref) >= MOST_ATTEMPTS
        every_s = self._answer_s if has_failed else ASK_AGAIN_S
        if not self._patience.may_ask(order_ref, every_s=every_s):
            return Verdict.WAITING
        n_before = self._patience.attempt(order_ref)
        if n_before == MOST_ATTEMPTS:
            text = f"{order_ref}: {works.remaining:g} shares work, {held:g} are held"
            self._on_incident("protection not changed", text, trade["symbol"])
        is_stop = row["purpose"] == OrderPurpose.STOP.value
        is_naked = has_failed and is_stop and works.remaining < held - EPSILON
        filled = works.shares - works.remaining
        intent = replace(
            intent_of(row),
            shares=round(filled + held),
            stop_price=wanted if is_stop else None,
            limit_price=None if is_stop else wanted,
        )
        values: Row = {"shares": intent.shares}
        if is_stop:
            values |= {"stop_price": wanted, "exit_reason": trade["stop_kind"]}
        else:
            values["limit_price"] = wanted
        self._store.change_order(order_ref, **values)
        try:
            await self._connector.change_order(intent)
        except ConnectionLostError as error:
            _log.warning("protection: %s", error)
            return Verdict.WAITING
        _log.info("protection: %s %g shares at %.2f", order_ref, held, wanted)
        # Tried again also then: what kept the broker from hearing it may be over.
        return Verdict.NAKED if is_naked else Verdict.WAITING

    async def _place_stop(self, trade: Row, family: list[Row], held: float) -> Verdict:
        """Put a stop where none works."""
        n_stops = len(stops_of(family))
        key = f"stop of trade {trade['trade_id']}"
        if not self._patience.lasts(key) or not self._patience.may_ask(key):
            # A stop that just filled is told of before its execution.
            return Verdict.WAITING
        text = f"trade {trade['trade_id']}: {held:g} shares and no stop at the broker; placing one"
        self._on_incident("position without a stop", text, trade["symbol"])
        entry_ref, group = family[0]["order_ref"], self.group_of(trade)
        intent = OrderIntent(
            order_ref=f"{entry_ref}-sl{n_stops + 1}",
            symbol=trade["symbol"],
            con_id=trade["con_id"],
            side=Side(trade["side"]).opposite,
            shares=round(held),
            created_ns=self._clock.now_ns(),
            purpose=OrderPurpose.STOP,
            decision_id=trade["decision_id"],
            exit_reason=ExitReason(trade["stop_kind"]),
            order_type=OrderType.STOP,
            tif="GTC",
            stop_price=trade["stop"],
            oca_group=group.name,
            joins=group.members,
        )
        try:
            self._store.add_order(self._run_id, intent)
        except RecordError as error:
            # A position without a stop is worse than a stop without a record.
            self.unrecorded[intent.order_ref] = intent
            self._on_incident("stop not recorded", f"{intent.order_ref}: {error}", intent.symbol)
        await self._send(intent)
        return Verdict.WAITING

    async def _send(self, intent: OrderIntent) -> None:
        """Send a protective order; what did not leave is settled."""
        order_ref = intent.order_ref
        try:
            (order_id,) = await self._connector.place_order(intent)
        except ConnectionLostError as error:
            if self.unrecorded.pop(order_ref, None) is None:
                words = f"not sent: {error}"
                self._store.advance_order(order_ref, OrderEvent.NOT_FOUND, message=words)
            return
        if order_ref not in self.unrecorded:
            self._store.advance_order(order_ref, OrderEvent.SEND, order_id=order_id)

    def _record_late(self, decision_id: int) -> bool:
        """Write down what left without a record; return whether something still lacks one."""
        late = [one for one in self.unrecorded.values() if one.decision_id == decision_id]
        for intent in late:
            try:
                if not self._store.knows_order(intent.order_ref):
                    self._store.add_order(self._run_id, intent)
            except RecordError:
                return True
            self.unrecorded.pop(intent.order_ref, None)
        return False

    async def _await_word(self, row: Row, key: str | None = None) -> Verdict:
        """Wait for the broker to confirm an order, or its end; doubt it after a while."""
        order_ref = row["order_ref"]
        key = key or order_ref
        if self._patience.runs_out(key, after_s=self._answer_s):
            text = f"{order_ref}: the broker has not confirmed it within {self._answer_s:g} s"
            if row["purpose"] in _PROTECTING:
                self._on_incident("protection unknown", text, row["symbol"])
            else:
                self._on_incident("order outcome unknown", text, row["symbol"])
            await self._connector.resynchronise(f"order {order_ref} has no answer")
        return Verdict.WAITING

    async def _await_execution(self, name: str, symbol: str) -> Verdict:
        """Wait for an execution that a status told of; ask for all of them after a while."""
        key = _execution_of(name)
        if self._patience.runs_out(key, after_s=self._answer_s):
            text = f"{name}: filled at the broker, and no execution was told"
            self._on_incident("execution missing", text, symbol)
            await self._connector.resynchronise(text)
        return Verdict.WAITING

    async def cancel(self, rows: Iterable[Row]) -> None:
        """Ask for the end of orders that protect nothing, once they had time to end themselves.

        One whose end is not told is asked for in the broker's lists after a while.
        """
        for row in rows:
            order_ref = row["order_ref"]
            key = f"end of {order_ref}"
            if self._patience.lasts(key) and self._patience.may_ask(key):
                has_left = await self._connector.cancel_order(order_ref)
                _log.info("protection: cancel %s%s", order_ref, "" if has_left else " (not sent)")
                await self._await_word(row, key)

    def _note_protected(self, trade: Row, row: Row) -> None:
        first_ns = self._first_heard_ns.get(trade["trade_id"]) or trade["opened_ns"]
        confirmed_ns = row["acknowledged_ns"] or self._clock.now_ns()
        unprotected_ns = max(0, confirmed_ns - first_ns)
        try:
            self._store.change_trade(trade["trade_id"], unprotected_ns=unprotected_ns)
        except RecordError as error:
            # A figure for later is no reason not to look on; it is tried again with each look.
            _log.warning("time unprotected not recorded: %s", error)
        else:
            self._first_heard_ns.pop(trade["trade_id"], None)

    def _family(self, trade: Row) -> list[Row]:
        rows = self._store.family_of(trade["decision_id"])
        return [row for row in rows if row["purpose"] in _PROTECTING]

    def _is_live(self, row: Row, held: float) -> bool:
        works = self._connector.working(row["order_ref"])
        return (
            works is not None
            and works.is_live
            and is_open(row)
            and works.remaining >= held - EPSILON
        )


def _name_of(trade: Row) -> str:
    return f"trade {trade['trade_id']}"


def _execution_of(name: str) -> str:
    return f"execution of {name}"
