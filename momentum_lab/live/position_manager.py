"""`PositionManager`: watches open positions and asks for their exits.

One task per open trade. Each quote and the next deadline is a look; the rules in
`momentum_lab.core.exits` decide. A second task per trade follows its complete bars, where a rule is
on that looks at them. An exit that could not be sent, or has no known end yet, is asked for again;
while the connection is not OPERATIONAL nothing is sent.
"""

from __future__ import annotations

import logging
import math

import anyio
import anyio.abc

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Clock
from momentum_lab.core.candle import MINUTE_NS
from momentum_lab.core.exits import PRICE_REASONS, ExitSignal, OpenPosition, decide_exit
from momentum_lab.core.market import NS_PER_S, Quote, Side
from momentum_lab.core.position import ExitReason, PositionSummary
from momentum_lab.core.risk import flat_by_ns
from momentum_lab.core.signal import TradeSignal
from momentum_lab.errors import MomentumLabError, RecordError
from momentum_lab.live.bar_follower import BarFollower, Held, position_of
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import Parameters
from momentum_lab.records import ledger
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)


_DAY_NS = 86_400 * NS_PER_S


class PositionManager:
    """Closes each open trade for the first reason that comes."""

    def __init__(
        self,
        connector: IBKRConnector,
        execution: ExecutionService,
        store: TradeStore,
        *,
        clock: Clock,
        parameters: Parameters,
        on_incident: OnIncident,
    ) -> None:
        """Make a manager that does nothing until `run()`."""
        self._connector = connector
        self._execution = execution
        self._store = store
        self._clock = clock
        self._parameters = parameters
        self._on_incident = on_incident
        self._follower = BarFollower(
            connector,
            execution,
            store,
            clock=clock,
            parameters=parameters,
            on_incident=on_incident,
        )
        self._managed: set[int] = set()
        self._held: dict[int, Held] = {}
        # What is open may be worth so little before the day's loss has to be looked at.
        self._looks_at_usd = math.inf
        self._told_words = ""
        self._flatten = anyio.Event()
        self._flat_reason = ExitReason.SESSION_END
        execution.on_signal = self.hear_signal

    async def run(self) -> None:
        """Watch every trade that opens until cancelled."""
        async with anyio.create_task_group() as group:
            for trade in self._store.open_trades():
                self._start(group, trade["trade_id"])
            async for trade_id in self._execution.opened:
                self._start(group, trade_id)

    def flatten(self, reason: ExitReason = ExitReason.SESSION_END) -> None:
        """Ask for the exit of everything that is open, now."""
        self._flat_reason = reason
        self._flatten.set()
        for line in self._connector.lines:
            line.wake()

    def hear_signal(self, signal: TradeSignal) -> bool:
        """Close what a signal contradicts; return whether there is such a position.

        It is never turned round: whoever asks must not enter on this signal.
        """
        if self._parameters.exits.on_opposite_signal != "exit":
            return False
        held_ids = [
            row["trade_id"]
            for row in self._store.open_trades()
            if row["symbol"] == signal.symbol and row["side"] == signal.side.opposite.value
        ]
        for trade_id in held_ids:
            self._held.setdefault(trade_id, Held()).opposite = ExitSignal(
                ExitReason.OPPOSITE, signal.observed, signal.limit, "x ATR"
            )
            _log.info("opposite signal: trade=%d %s", trade_id, signal.text)
        line = self._connector.lines.get(signal.symbol)
        if held_ids and line is not None:
            line.wake()
        return bool(held_ids)

    def net_usd(self, trade_id: int) -> float | None:
        """Return the profit of an open trade after costs, at the price closing it would get now.

        None while its line has told no price.
        """
        held = self._held.get(trade_id)
        return held.net_usd if held is not None else None

    def keep(self) -> None:
        """Take `flatten` back: what opens from now on is held until its own exit."""
        self._flatten = anyio.Event()

    def _start(self, group: anyio.abc.TaskGroup, trade_id: int) -> None:
        if trade_id not in self._managed:
            self._managed.add(trade_id)
            group.start_soon(self._manage, trade_id, name=f"trade {trade_id}")

    async def _manage(self, trade_id: int) -> None:
        held = self._held.setdefault(trade_id, Held())
        try:
            await self._watch_until_closed(trade_id, held)
            # A correction or a late execution may open it again while its tasks are being ended.
            while self._is_open(trade_id):
                await self._watch_until_closed(trade_id, held)
        finally:
            self._managed.discard(trade_id)
            self._held.pop(trade_id, None)
            self._looks_at_usd = math.inf

    async def _watch_until_closed(self, trade_id: int, held: Held) -> None:
        async with anyio.create_task_group() as group:
            if self._parameters.exits.follow_bars:
                group.start_soon(self._follow, trade_id, held)
            while not await self._watch_or_pause(trade_id, held):
                pass
            group.cancel_scope.cancel()

    def _is_open(self, trade_id: int) -> bool:
        """Whether a trade is open, or may be: what cannot be read goes on being watched."""
        try:
            return bool(self._store.trade(trade_id)["state"] == "OPEN")
        except RecordError:
            return True

    async def _follow(self, trade_id: int, held: Held) -> None:
        while True:
            try:
                await self._wait_for_line(self._store.trade(trade_id)["symbol"])
                await self._follower.follow(trade_id, held)
            except MomentumLabError as error:  # noqa: PERF203 - one turn, unless it fails
                # The stop that stands protects, and the position goes on being watched.
                self._on_incident("stop not followed", f"trade {trade_id}: {error}", None)
                await self._pause()

    async def _wait_for_line(self, symbol: str) -> None:
        """An adopted trade may be known before its line is open."""
        while self._connector.lines.get(symbol) is None:
            await self._connector.wait_changed()

    async def _watch_or_pause(self, trade_id: int, held: Held) -> bool:
        """Watch until closed and return True; False after a failure, to be called again.

        A position is never left unwatched because a read or a write failed.
        """
        try:
            await self._watch(trade_id, held)
        except MomentumLabError as error:
            _log.exception("watch interrupted: trade=%d", trade_id)
            self._on_incident("watch interrupted", f"trade {trade_id}: {error}", None)
            await self._pause()
            return False
        return True

    async def _watch(self, trade_id: int, held: Held) -> None:
        symbol = self._store.trade(trade_id)["symbol"]
        await self._watch_blind(trade_id, symbol, held)
        if self._connector.lines.get(symbol) is None:
            return
        n_read, trade, total, flipped = -1, Row(), None, None
        day, position, followed = -1, None, None
        with self._connector.stream_quotes(symbol) as stream:
            while True:
                if n_read != self._store.n_changes:
                    # A quote alone changes no record: hundreds of looks need one reading.
                    n_read = self._store.n_changes
                    trade = self._store.trade(trade_id)
                    if trade["state"] == "CLOSED":
                        return
                    total = ledger.total_of(self._store.rows, trade)
                    flipped, position = self._flipped(trade, total.shares, flipped), None
                now_ns, quote = self._clock.now_ns(), stream.quote
                today = now_ns // _DAY_NS
                if position is None or today != day or followed is not held.followed:
                    day, followed = today, held.followed
                    position = self._position(trade, held)
                self._value(held, total, position.side, quote)
                due = flipped or self._due(trade_id, position, quote, held, now_ns=now_ns)
                if due is None:
                    until_ns = self._next_ns(position, quote, held, now_ns=now_ns)
                    await stream.wait(until_ns=until_ns)
                elif not await self._execution.close(trade_id, due.reason, quote):
                    await self._pause()

    async def _watch_blind(self, trade_id: int, symbol: str, held: Held) -> None:
        """Watch an adopted trade whose line is not open yet, or cannot be: time alone closes it."""
        while self._connector.lines.get(symbol) is None:
            trade = self._store.trade(trade_id)
            if trade["state"] == "CLOSED":
                return
            is_due = False
            if self._clock.is_anchored:
                position, now_ns = self._position(trade, held), self._clock.now_ns()
                due = self._due(trade_id, position, None, held, now_ns=now_ns)
                is_due = due is not None and await self._execution.close(trade_id, due.reason, None)
            if not is_due:
                await self._pause()

    def _position(self, trade: Row, held: Held) -> OpenPosition:
        session = session_on_day_of(self._clock.now_ns())
        guards = self._parameters.guards
        flat_ns = flat_by_ns(session.close_ns, guards) if session else None
        return position_of(trade, held, flat_by_ns=flat_ns)

    def _value(
        self, held: Held, total: PositionSummary | None, side: Side, quote: Quote | None
    ) -> None:
        """Note what a position is worth, and hold it against the limit of the day's loss."""
        mark_usd = quote.mark_usd(side) if quote is not None else None
        if total is None or mark_usd is None:
            return
        held.net_usd = total.net_if_closed_usd(mark_usd)
        self._look_at_losses()

    def _look_at_losses(self) -> None:
        """Hold what is open against what the day may still lose, once it may have lost that.

        No exit waits for it: what fails is told once, and looked at again with the next quote.
        """
        open_usd = 0.0
        for one in self._held.values():
            open_usd += one.net_usd or 0.0
        if open_usd > self._looks_at_usd:
            return
        try:
            self._looks_at_usd = open_usd - self._execution.look_at_losses()
            self._told_words = ""
        except MomentumLabError as error:
            if str(error) != self._told_words:
                self._told_words = str(error)
                self._on_incident("losses not looked at", str(error), None)

    def _flipped(self, trade: Row, shares: float, before: ExitSignal | None) -> ExitSignal | None:
        """Two exits that both filled leave a position of the other sign: it is closed at once.

        Args:
            trade: its row.
            shares: what its fills make, signed.
            before: what was found the last time; an incident tells what is new.
        """
        if shares * Side(trade["side"]).sign >= 0:
            return None
        if before is None or before.observed != shares:
            text = f"trade {trade['trade_id']}: {shares:+g} shares after its exits"
            self._on_incident("position flipped", text, trade["symbol"])
        return ExitSignal(ExitReason.FLIPPED, shares, 0, "shares")

    def _due(
        self,
        trade_id: int,
        position: OpenPosition,
        quote: Quote | None,
        held: Held,
        *,
        now_ns: int,
    ) -> ExitSignal | None:
        """Return the exit to ask for now; what the gate holds back is not."""
        exits = self._parameters.exits
        if self._flatten.is_set():
            return ExitSignal(self._flat_reason, now_ns / NS_PER_S, now_ns / NS_PER_S, "s")
        max_quote_age_s = self._parameters.guards.quote_max_age_s
        due = decide_exit(
            position,
            quote,
            now_ns=now_ns,
            max_quote_age_s=max_quote_age_s,
            parameters=exits,
            pending=held.pending,
        )
        held.gate = held.gate.look(quote, due, now_ns=now_ns, max_quote_age_s=max_quote_age_s)
        if due is None:
            return None
        by_price = due.reason in PRICE_REASONS
        is_protected = by_price and self._execution.is_protected(trade_id)
        admitted = held.gate.admits(due, now_ns=now_ns, is_protected=is_protected, parameters=exits)
        return due if admitted else None

    def _next_ns(
        self, position: OpenPosition, quote: Quote | None, held: Held, *, now_ns: int
    ) -> int:
        """Return the next instant at which time alone makes an exit due, or lets it out."""
        exits = self._parameters.exits
        max_quote_age_s = self._parameters.guards.quote_max_age_s
        instants = (
            position.time_stop_ns(quote, exits),
            position.flat_by_ns,
            held.gate.opens_ns(max_quote_age_s=max_quote_age_s, parameters=exits),
        )
        # One that has passed is held back: it is looked at again with the next quote.
        coming = [at_ns for at_ns in instants if at_ns is not None and at_ns > now_ns]
        return min(coming, default=now_ns + MINUTE_NS)

    async def _pause(self) -> None:
        """Wait before an exit is asked for again: for a while, or for the connection to change."""
        with anyio.move_on_after(self._parameters.execution.exit_retry_s):
            await self._connector.wait_changed()
