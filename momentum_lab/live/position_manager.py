"""`PositionManager`: watches open positions and asks for their exits.

One task per open trade. Each quote and the next deadline is a look; the rules in
`momentum_lab.core.position` decide. An exit that could not be sent, or has no known end yet, is
asked for again; while the connection is not OPERATIONAL nothing is sent.
"""

from __future__ import annotations

import logging

import anyio
import anyio.abc

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Clock
from momentum_lab.core.market import NS_PER_S, Quote, Side
from momentum_lab.core.position import (
    ExitReason,
    ExitSignal,
    Levels,
    OpenPosition,
    decide_exit,
)
from momentum_lab.core.risk import flat_by_ns
from momentum_lab.errors import MomentumLabError
from momentum_lab.live.execution_service import ExecutionService, OnIncident
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import Parameters
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
        self._managed: set[int] = set()
        self._flatten = anyio.Event()

    async def run(self) -> None:
        """Watch every trade that opens until cancelled."""
        async with anyio.create_task_group() as group:
            for trade in self._store.open_trades():
                self._start(group, trade["trade_id"])
            async for trade_id in self._execution.opened:
                self._start(group, trade_id)

    def flatten(self) -> None:
        """Ask for the exit of everything that is open, now."""
        self._flatten.set()
        for line in self._connector.lines:
            line.wake()

    def keep(self) -> None:
        """Take `flatten` back: what opens from now on is held until its own exit."""
        self._flatten = anyio.Event()

    def _start(self, group: anyio.abc.TaskGroup, trade_id: int) -> None:
        if trade_id not in self._managed:
            self._managed.add(trade_id)
            group.start_soon(self._manage, trade_id, name=f"trade {trade_id}")

    async def _manage(self, trade_id: int) -> None:
        try:
            while not await self._watch_or_pause(trade_id):
                pass
        finally:
            self._managed.discard(trade_id)

    async def _watch_or_pause(self, trade_id: int) -> bool:
        """Watch until closed and return True; False after a failure, to be called again.

        A position is never left unwatched because a read or a write failed.
        """
        try:
            await self._watch(trade_id)
        except MomentumLabError as error:
            _log.exception("watch interrupted: trade=%d", trade_id)
            self._on_incident("watch interrupted", f"trade {trade_id}: {error}", None)
            await self._pause()
            return False
        return True

    async def _watch(self, trade_id: int) -> None:
        symbol = self._store.trade(trade_id)["symbol"]
        while self._connector.lines.get(symbol) is None:
            # An adopted trade may be known before its line is open.
            await self._connector.wait_changed()
        n_read, trade, flipped = -1, Row(), None
        day, position = -1, None
        with self._connector.stream_quotes(symbol) as stream:
            while True:
                if n_read != self._store.n_changes:
                    # A quote alone changes no record: hundreds of looks need one reading.
                    n_read = self._store.n_changes
                    trade = self._store.trade(trade_id)
                    if trade["state"] == "CLOSED":
                        return
                    flipped, position = self._flipped(trade), None
                today = self._clock.now_ns() // _DAY_NS
                if position is None or today != day:
                    day, position = today, self._position(trade)
                due = flipped or self._due(position, stream.quote)
                if due is None:
                    await stream.wait(until_ns=self._next_ns(position))
                elif not await self._execution.close(trade_id, due.reason, stream.quote):
                    await self._pause()

    def _position(self, trade: Row) -> OpenPosition:
        session = session_on_day_of(self._clock.now_ns())
        guards = self._parameters.guards
        return OpenPosition(
            symbol=trade["symbol"],
            side=Side(trade["side"]),
            entry_ns=trade["opened_ns"],
            levels=Levels(trade["stop"], trade["target"]),
            flat_by_ns=flat_by_ns(session.close_ns, guards) if session else None,
        )

    def _flipped(self, trade: Row) -> ExitSignal | None:
        """Two exits that both filled leave a position of the other sign: it is closed at once."""
        shares = self._store.open_shares(trade["trade_id"])
        if shares * Side(trade["side"]).sign >= 0:
            return None
        text = f"trade {trade['trade_id']}: {shares:+g} shares after its exits"
        self._on_incident("position flipped", text, trade["symbol"])
        return ExitSignal(ExitReason.FLIPPED, shares, 0, "shares")

    def _due(self, position: OpenPosition, quote: Quote | None) -> ExitSignal | None:
        now_ns = self._clock.now_ns()
        if self._flatten.is_set():
            return ExitSignal(ExitReason.SESSION_END, now_ns / NS_PER_S, now_ns / NS_PER_S, "s")
        return decide_exit(
            position,
            quote,
            now_ns=now_ns,
            max_quote_age_s=self._parameters.guards.quote_max_age_s,
            parameters=self._parameters.exits,
        )

    def _next_ns(self, position: OpenPosition) -> int:
        """Return the next instant at which time alone makes an exit due."""
        due_ns = position.time_stop_ns(self._parameters.exits)
        if position.flat_by_ns is not None:
            due_ns = min(due_ns, position.flat_by_ns)
        return due_ns

    async def _pause(self) -> None:
        """Wait before an exit is asked for again: for a while, or for the connection to change."""
        with anyio.move_on_after(self._parameters.execution.exit_retry_s):
            await self._connector.wait_changed()
