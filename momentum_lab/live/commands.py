"""`CommandDesk`: carries out what a session is told from outside, and says how the session is.

A halt by hand outlives its run: it stands in the trade store, and only a resume lifts it. What was
said of entries while no session ran counts for the next one, a `reduce` for that session's day.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import anyio

from momentum_lab.core.position import ExitReason
from momentum_lab.errors import MomentumLabError, RecordError
from momentum_lab.live.control_watch import Obeyed
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.position_manager import PositionManager
from momentum_lab.records.control import Command, CommandKind, SignOfLife
from momentum_lab.records.ledger import Row
from momentum_lab.records.lock import Lease
from momentum_lab.records.trade_store import BY_HAND, TradeStore

_FLAT_LOOK_S = 0.05


class CommandDesk:
    """Stop, flatten, halt, reduce and resume.

    Attributes:
        leases: locks of the session, which get its sign of life too.
    """

    def __init__(
        self,
        connector: IBKRConnector,
        execution: ExecutionService,
        manager: PositionManager,
        store: TradeStore,
        *,
        stop: Callable[[str], None],
        is_stopping: Callable[[], bool],
        retry_s: float,
        on_incident: OnIncident,
    ) -> None:
        """Make a desk that flattens nothing until `run()`.

        Args:
            connector: cancels orders, knows the connection's state.
            execution: allows entries.
            manager: closes positions.
            store: what is open.
            stop: ends the session in order, for a reason.
            is_stopping: whether it is ending.
            retry_s: wait after a failure, seconds.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._execution = execution
        self._manager = manager
        self._store = store
        self._stop = stop
        self._is_stopping = is_stopping
        self._retry_s = retry_s
        self._on_incident = on_incident
        self._wants_flat = anyio.Event()
        self._positions: dict[str, float] = {}
        self._net_usd: dict[str, float] = {}
        self.leases: list[Lease] = []

    async def run(self) -> None:
        """Flatten whenever it was asked for, until cancelled."""
        while True:
            await self._wants_flat.wait()
            try:
                await self._flatten()
            except MomentumLabError as error:
                # The order to be flat stands until it is carried out.
                self._on_incident("flattening interrupted", str(error), None)
                await anyio.sleep(self._retry_s)
            else:
                self._wants_flat = anyio.Event()

    def obey(self, command: Command) -> Obeyed:
        """Carry out a command; what takes its time goes on after the answer."""
        n_open = len(self.life().positions)
        if command.kind is CommandKind.STOP:
            self._stop(str(command))
            # It is done when the session signs off.
            return Obeyed(f"ends in order: no entries, {n_open} positions to close", lambda: None)
        if command.kind is CommandKind.RESUME:
            return Obeyed(self._resume(command))
        if command.kind is CommandKind.REDUCE:
            self._brake("REDUCING", f"{BY_HAND}{command}")
            state = self._execution.risk_state
            until = "resume" if state == "HALTED" else "tomorrow or resume"
            managed = f"{n_open} positions go on being managed"
            return Obeyed(f"{state}: no entries until {until}; {managed}")
        self._brake("HALTED", f"{BY_HAND}{command}")
        if command.kind is CommandKind.HALT:
            return Obeyed(f"HALTED: no entries; {n_open} positions go on being managed")
        self._manager.flatten(ExitReason.FLATTEN)
        self._wants_flat.set()
        return Obeyed(f"HALTED: no entries; {n_open} positions are being closed", self._when_flat)

    def begin_as_told(self, told: Sequence[Command]) -> None:
        """Begin braked or not, as a person said last.

        Args:
            told: the commands about entries, oldest first, also those that no session heard.
        """
        by_hand, last = self._store.risk_state_by_hand(), self._store.last_risk_state()
        if by_hand is not None and by_hand["state"] == "HALTED":
            self._brake("HALTED", by_hand["cause"])
        for command in told:
            if command.kind is CommandKind.RESUME:
                if last is not None and _lifts(command, last):
                    # Written down as well, so that it does not hang on the control database.
                    self._resume(command)
            elif command.kind is CommandKind.REDUCE:
                self._brake("REDUCING", f"{BY_HAND}{command}")
            elif by_hand is None or _is_later(command, by_hand):
                self._brake("HALTED", f"{BY_HAND}{command}")

    def life(self) -> SignOfLife:
        """Return how the session is; its locks hear of it too."""
        with contextlib.suppress(RecordError):
            # What was last known is better than no sign of life.
            trades = self._store.open_trades()
            self._positions = {row["symbol"]: self._store.shares_of(row) for row in trades}
            values = {row["symbol"]: self._manager.net_usd(row["trade_id"]) for row in trades}
            self._net_usd = {key: round(usd, 2) for key, usd in values.items() if usd is not None}
        for lease in self.leases:
            lease.beat()
        state = "ENDING" if self._is_stopping() else self._connector.state.value
        return SignOfLife(state, self._execution.risk_state, self._positions, self._net_usd)

    def _brake(self, state: str, cause: str) -> None:
        try:
            self._execution.set_risk_state(state, cause)
        except RecordError as error:
            self._on_incident("risk state not recorded", str(error), None)

    def _resume(self, command: Command) -> str:
        if self._is_stopping():
            return "not resumed: the session is ending"
        if self._wants_flat.is_set():
            return "not resumed: positions are still being closed; ask again when flat"
        try:
            self._execution.set_risk_state("ACTIVE", f"{BY_HAND}{command}")
        except RecordError as error:
            return f"not resumed, it could not be recorded: {error}"
        self._manager.keep()
        return "ACTIVE: entries are allowed again"

    async def _flatten(self) -> None:
        """Cancel entries first, and what else works of ours once nothing is open any more."""
        await self._execution.cancel_entries()
        cancelled = set[str]()
        while True:
            is_flat, orders = not self._store.open_trades(), self._store.unsettled_orders()
            if is_flat and not orders:
                return
            for ref in {row["order_ref"] for row in orders if is_flat} - cancelled:
                if await self._connector.cancel_order(ref):
                    cancelled.add(ref)
            await anyio.sleep(_FLAT_LOOK_S)

    def _when_flat(self) -> str | None:
        if self._wants_flat.is_set():
            return None
        words = "HALTED and flat: nothing of ours is open, no order of ours works"
        not_ours = "; ".join(self._execution.blocked.values())
        return f"{words}; and not ours: {not_ours}" if not_ours else words


def _is_later(told: Command, row: Row) -> bool:
    """Whether a halt is later than what is on record; one that nobody heard is.

    Its clock may have been set back since.
    """
    return not told.answer or bool(told.wall_ns > row["wall_ns"])


def _lifts(told: Command, row: Row) -> bool:
    """Whether a resume that nobody heard is later than the brake on record.

    One that a session heard is on record, or was refused.
    """
    return not told.answer and row["state"] != "ACTIVE" and bool(told.wall_ns > row["wall_ns"])
