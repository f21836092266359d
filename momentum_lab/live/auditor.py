"""`Auditor`: settles what broker and record see differently, after each gap and now and then.

After a gap nothing may be sent before it is done. Between gaps the broker is asked again without
leaving OPERATIONAL: a message that got lost on a sound line leaves no other trace. Then positions
and open orders are enough as long as they agree with the record; where they do not, and once an
hour, everything is asked for.
"""

from __future__ import annotations

import logging

from momentum_lab.calendars import day_start_ns
from momentum_lab.clock import Alarm, Clock, now_or_none, transport_s
from momentum_lab.errors import BrokerError, IllegalTransitionError, RecordError
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.live.reconcile import Difference, DifferenceKind, agrees, differing, reconcile
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

_ALARMING = (DifferenceKind.CLOSED_ELSEWHERE, DifferenceKind.UNKNOWN_ORDER)
# An order that was settled as gone is looked for once more, this much later.
_LOOK_AGAIN_S = 30.0
# A position that our executions do not make waits this long for one that is told late.
_EXPLAINED_WITHIN_S = 2.0
# Executions that come in again and again while the books are asked for hold up no audit.
_MOST_OVERTAKEN = 3
# Who waits for entries to be let out again looks this often.
_KEPT_BACK_S = 2.0
# What neither positions nor open orders show: a corrected price, say.
_EVERYTHING_EVERY_S = 3600.0


class Auditor:
    """Compares the broker's lists with the record, and records each difference."""

    def __init__(
        self,
        connector: IBKRConnector,
        execution: ExecutionService,
        store: TradeStore,
        *,
        run_id: str,
        clock: Clock,
        every_s: float,
        on_incident: OnIncident,
    ) -> None:
        """Make an auditor that does nothing until it is called.

        Args:
            connector: asks the broker.
            execution: books what is found; its blocked contracts are set here.
            store: the record.
            run_id: the run that differences are recorded for.
            clock: market time.
            every_s: transport time between two audits.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._execution = execution
        self._store = store
        self._run_id = run_id
        self._clock = clock
        self._every_s = every_s
        self._on_incident = on_incident
        self._told: set[str] = set()
        self._doubts = False
        self._settled_s = transport_s()
        self._settling = Alarm()
        self._disputed_s: float | None = None
        self._wants_everything = False
        execution.holdings.on_news = self._hear_dispute

    async def run(self) -> None:
        """Audit now and then until cancelled."""
        while True:
            await self._rest()
            if self._connector.is_operational():
                if not await self._agrees():
                    await self.audit()
            elif self._connector.may_exit():
                # Only entries are kept back, as by clocks that differ, and no gap will be asked
                # about. What an audit finds may have all asked for anew, which has to wait then.
                self._wants_everything = True
                await self._settling.rest(_KEPT_BACK_S)
            else:
                # When it is operational again, everything has been asked for.
                self._wants_everything = False

    async def _rest(self) -> None:
        """Rest until the next audit; a doubt that comes up meanwhile brings it nearer."""
        began_s = transport_s()
        while not self._wants_everything:
            due_s = began_s + self._every_s
            if self._disputed_s is not None:
                explained_s = self._disputed_s + _EXPLAINED_WITHIN_S
                if transport_s() < explained_s:
                    due_s = min(due_s, explained_s)
                elif self._has_news():
                    return
                else:
                    continue
            if self._doubts:
                due_s = min(due_s, max(began_s, self._settled_s) + _LOOK_AGAIN_S)
            if (left_s := due_s - transport_s()) <= 0:
                return
            await self._settling.rest(left_s)

    def ask_for_everything(self) -> None:
        """Audit now: what the account says does not fit the record."""
        self._wants_everything = True
        self._settling.nudge()

    def _hear_dispute(self) -> None:
        """Audit soon, unless an execution that is told late explains what the broker holds."""
        if self._disputed_s is None:
            self._disputed_s = transport_s()
            self._settling.nudge()

    def _has_news(self) -> bool:
        """Whether the broker holds what has to be explained; the end of an order may explain it."""
        self._disputed_s = None
        holdings = self._execution.holdings
        try:
            orders = self._store.unsettled_orders()
            in_flight = {row["con_id"] for row in orders if row["purpose"] in ("entry", "exit")}
            has_news = holdings.take_unexplained(in_flight=in_flight)
        except RecordError as error:
            _log.warning("audit: %s", error)
            return True
        if holdings.has_unexplained:
            self._disputed_s = transport_s()
        return has_news

    async def _agrees(self) -> bool:
        """Whether a glance shows that there is nothing to settle; what fails is met by an audit."""
        try:
            if self._is_something_open():
                return False
            began_ns = self._clock.now_ns()
            holdings = await self._connector.holdings()
            return agrees(holdings, self._store, sent_before_ns=began_ns)
        except (BrokerError, RecordError, IllegalTransitionError) as error:
            _log.warning("audit: %s", error)
            return False

    def _is_something_open(self) -> bool:
        """Whether only the broker's books can tell: something was found before, or is lacking."""
        return bool(
            self._wants_everything
            or self._doubts
            or self._told
            or self._execution.blocked
            or self._execution.books.missing
            or transport_s() - self._settled_s >= _EVERYTHING_EVERY_S
            or self._store.lacks_commissions(since_ns=day_start_ns(self._clock.now_ns()))
        )

    async def audit(self) -> None:
        """Ask the broker for everything once, and settle what differs.

        A failure is told, and what was to be settled is looked for again soon.
        """
        # Whatever called for it stays a doubt until it is settled.
        self._wants_everything, self._doubts = False, True
        try:
            began_ns, snapshot = await self._books()
            if self._connector.is_operational():
                self.settle(snapshot, sent_before_ns=began_ns)
        except BrokerError as error:
            _log.warning("audit: %s", error)
        except (RecordError, IllegalTransitionError) as error:
            self._execution.stop_entries(str(error))
            self._on_incident("audit failed", str(error), None)

    async def _books(self) -> tuple[int, BrokerSnapshot]:
        """Return since when the broker's books were asked for, and the books.

        All that was heard until they had come is booked. What was booked meanwhile may be newer
        than their positions: where these differ from ours then, they are asked for once more.
        """
        n_asked = 0
        while True:
            n_asked += 1
            began_ns, n_before = self._clock.now_ns(), self._store.n_changes
            snapshot = await self._connector.audit()
            await self._execution.book_heard()
            is_overtaken = self._store.n_changes != n_before
            is_in_doubt = is_overtaken and n_asked < _MOST_OVERTAKEN
            if not (is_in_doubt and differing(snapshot.positions, self._store.positions())):
                return began_ns, snapshot

    def settle(self, snapshot: BrokerSnapshot, *, sent_before_ns: int | None = None) -> None:
        """Bring the record up to the broker's truth, and block what cannot be explained.

        Raises:
            RecordError: something could not be booked.
        """
        try:
            found = reconcile(
                snapshot, self._store, self._execution.books, sent_before_ns=sent_before_ns
            )
        except RecordError:
            # What cannot be booked can still be seen: an exit might open a position.
            self._begin_watch(snapshot, sent_before_ns)
            for con_id, theirs, own in differing(snapshot.positions, self._store.positions()):
                name = self._name_of(con_id, snapshot)
                words = f"the broker holds {theirs:g} shares, our fills make {own:g}"
                self._execution.blocked[con_id] = f"{name}: {words}, and nothing can be booked"
            raise
        self._begin_watch(snapshot, sent_before_ns)
        self._execution.guard()
        self._settled_s = transport_s()
        self._doubts = any(one.kind is DifferenceKind.ORDER_ABSENT for one in found)
        self._settling.nudge()
        self._execution.blocked.clear()
        lasting = set()
        for one in found:
            symbol, text = self._described(one, snapshot)
            if one.blocks:
                self._execution.blocked[one.con_id] = text
            lasting.add(text)
            if text not in self._told:
                self._tell(one, symbol, text)
        self._told = lasting

    def _begin_watch(self, snapshot: BrokerSnapshot, sent_before_ns: int | None) -> None:
        """Watch the positions from the list on that was asked for after a gap.

        Without a gap each change since has been heard of, and the list may be older than that.
        """
        if sent_before_ns is None:
            self._execution.holdings.begin(snapshot.positions)

    def _described(self, found: Difference, snapshot: BrokerSnapshot) -> tuple[str | None, str]:
        if not found.con_id:
            return None, f"{found.order_ref}: {found.text}"
        symbol = self._name_of(found.con_id, snapshot)
        if not found.blocks:
            return symbol, found.text
        return symbol, (
            f"{symbol}: the broker holds {found.broker_value:g} shares,"
            f" our fills make {found.our_value:g}; {found.text}"
        )

    def _tell(self, found: Difference, symbol: str | None, text: str) -> None:
        """Record a difference, and call a person where that is the action."""
        try:
            self._store.add_difference(
                self._run_id,
                at_ns=now_or_none(self._clock),
                kind=found.kind.value,
                action=found.action,
                symbol=symbol,
                order_ref=found.order_ref,
                broker_value=found.broker_value,
                our_value=found.our_value,
                text=text,
            )
        except RecordError as error:
            _log.warning("difference not recorded: %s", error)
        if found.blocks:
            self._on_incident("position differs", text, symbol)
        elif found.kind in _ALARMING:
            self._on_incident(found.kind.value.lower().replace("_", " "), text, symbol)

    def _name_of(self, con_id: int, snapshot: BrokerSnapshot) -> str:
        known = {**snapshot.names}
        known |= {row["con_id"]: row["symbol"] for row in self._store.open_trades()}
        return known.get(con_id, f"contract {con_id}")
