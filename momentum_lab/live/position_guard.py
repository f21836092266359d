"""`PositionGuard`: looks after the protection of everything that is open."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup

from momentum_lab.clock import Alarm
from momentum_lab.core.position import ExitReason
from momentum_lab.errors import IllegalTransitionError, MomentumLabError, RecordError
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.protection import Protection, Verdict
from momentum_lab.live.report_desk import ReportDesk
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore

_BUSY_S = 0.5
_IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class GuardActions:
    """What the guard asks of whoever trades.

    Attributes:
        close: closes a trade that cannot be protected, as far as that is possible now.
        is_unwanted: whether an entry that works must end.
        rest: is called when all is quiet.
        stop_entries: is told why nothing may be entered any more.
    """

    close: Callable[[int, ExitReason, None], Awaitable[bool]]
    is_unwanted: Callable[[Row], bool]
    rest: Callable[[], None]
    stop_entries: Callable[[str], None]


class PositionGuard:
    """Looks at every trade when something happened to it, and again until all is quiet.

    Also now and then without a cause: what the broker forgot to tell is found then.
    """

    def __init__(
        self,
        store: TradeStore,
        protection: Protection,
        reports: ReportDesk,
        *,
        actions: GuardActions,
        on_incident: OnIncident,
    ) -> None:
        """Make a guard that does nothing until `run()`.

        Args:
            store: what is open.
            protection: looks at one trade.
            reports: catches up with what could not be booked.
            actions: see there.
            on_incident: hears (kind, text, symbol).
        """
        self._store = store
        self._protection = protection
        self._reports = reports
        self._actions = actions
        self._on_incident = on_incident
        self._alarm = Alarm()
        self._told: set[int] = set()
        self._closing: set[int] = set()

    def look(self) -> None:
        """Look at everything now, and until nothing is to do."""
        self._alarm.set()

    async def run(self) -> None:
        """Guard until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                # What is told in one breath is one thing to look at.
                await self._reports.let_book()
                self._alarm.clear()
                rest_s = await self._turn(group)
                # What has come since has set the alarm.
                if not self._alarm.is_set:
                    await self._alarm.rest(rest_s)

    async def _turn(self, group: TaskGroup) -> float:
        """Look at everything, and return how long to rest, seconds of transport time."""
        works = True
        try:
            await self._reports.catch_up()
            trades, working = self._store.open_trades(), self._store.unsettled_orders()
            works = bool(trades or working)
            is_quiet = await self._look(group, trades, working) and not self._reports.is_behind
            if is_quiet:
                self._actions.rest()
        except (RecordError, IllegalTransitionError) as error:
            self._hear_failure(error)
            is_quiet = False
        # After what had to be sent: nothing can be while everything is asked for.
        if await self._reports.look_again() or not is_quiet:
            return _BUSY_S
        return _IDLE_S if works else math.inf

    async def _look(self, group: TaskGroup, trades: list[Row], working: list[Row]) -> bool:
        """Look at everything once; return whether nothing is left to do.

        Raises:
            RecordError, IllegalTransitionError: of one look, after all of them: what fails for one
                position leaves the others protected.
        """
        looks = (
            *(partial(self._look_at_trade, group, trade) for trade in trades),
            partial(self._look_at_entries, working),
            partial(self._protection.look_at_orphans, trades, working),
        )
        is_quiet, failure = True, None
        for look in looks:
            try:
                is_quiet = not await look() and is_quiet
            except (RecordError, IllegalTransitionError) as error:  # noqa: PERF203 - each for itself
                failure = failure or error
        if failure is not None:
            raise failure
        return is_quiet

    async def _look_at_trade(self, group: TaskGroup, trade: Row) -> bool:
        """Look at the protection of one trade; return whether something is left to do."""
        trade_id = trade["trade_id"]
        verdict = await self._protection.look(trade_id)
        if verdict is Verdict.NAKED:
            if trade_id not in self._told:
                self._told.add(trade_id)
                text = f"trade {trade_id}: no stop can be placed, it is closed"
                self._on_incident("position not protected", text, trade["symbol"])
            if trade_id not in self._closing:
                # Its end may be long in coming, and the others want to be looked at meanwhile.
                self._closing.add(trade_id)
                group.start_soon(self._close, trade_id, name=f"close trade {trade_id}")
        elif verdict is Verdict.QUIET:
            self._told.discard(trade_id)
        return verdict is not Verdict.QUIET

    async def _close(self, trade_id: int) -> None:
        try:
            await self._actions.close(trade_id, ExitReason.NO_PROTECTION, None)
        except (RecordError, IllegalTransitionError) as error:
            self._hear_failure(error)
        finally:
            self._closing.discard(trade_id)

    def _hear_failure(self, error: MomentumLabError) -> None:
        """Enter nothing more: something could not be read or written; the guard goes on."""
        self._actions.stop_entries(str(error))
        self._on_incident("protection interrupted", str(error), None)

    async def _look_at_entries(self, working: list[Row]) -> bool:
        """Cancel the entries that nobody wants any more; return whether there are any."""
        entries = (row for row in working if row["purpose"] == "entry")
        unwanted = [row for row in entries if self._actions.is_unwanted(row)]
        await self._protection.cancel(unwanted)
        return bool(unwanted)
