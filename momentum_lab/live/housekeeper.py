"""`Housekeeper`: what a session does each minute beside trading."""

from __future__ import annotations

import logging
from collections.abc import Callable
from zoneinfo import ZoneInfo

from momentum_lab.calendars import NEW_YORK
from momentum_lab.clock import Clock, utc
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import MomentumLabError
from momentum_lab.live.cash_watch import CashWatch
from momentum_lab.live.decisions import DecisionBook, OnIncident
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.records.capture import QuoteCapture

_log = logging.getLogger(__name__)

_LOOK_EVERY_NS = 60 * NS_PER_S
# What a crash may lose of the quotes.
_PART_EVERY_NS = 900 * NS_PER_S
_REPORT_EVERY_NS = 1800 * NS_PER_S


class Housekeeper:
    """Samples equity and cash, looks at losses, writes quotes to disk, reports now and then."""

    def __init__(
        self,
        connector: IBKRConnector,
        execution: ExecutionService,
        *,
        book: DecisionBook,
        clock: Clock,
        capture: QuoteCapture,
        on_doubt: Callable[[], None],
        on_incident: OnIncident,
    ) -> None:
        """Make a housekeeper that does nothing until `run()`.

        Args:
            connector: the account.
            execution: brakes.
            book: the store and the run.
            clock: market time.
            capture: quotes to be written.
            on_doubt: asks the broker for everything.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._execution = execution
        self._store = book.store
        self._run_id = book.run_id
        self._clock = clock
        self._capture = capture
        self._on_incident = on_incident
        self._cash = CashWatch(
            connector,
            book.store,
            run_id=book.run_id,
            clock=clock,
            on_doubt=on_doubt,
            on_incident=on_incident,
        )

    async def run(self) -> None:
        """Keep house until cancelled; to be called once there is a market time."""
        now_ns = next_report_ns = self._clock.now_ns()
        next_part_ns = now_ns + _PART_EVERY_NS
        while True:
            self._do(self._record_equity, now_ns)
            self._do(self._execution.look_at_losses)
            if now_ns >= next_part_ns or self._capture.is_part_full:
                next_part_ns = now_ns + _PART_EVERY_NS
                self._do(self._capture.write_part)
            if now_ns >= next_report_ns:
                next_report_ns = now_ns + _REPORT_EVERY_NS
                self._do(self._report, now_ns)
            await self._clock.sleep_until(now_ns + _LOOK_EVERY_NS)
            now_ns = self._clock.now_ns()

    def _do(self, work: Callable[..., object], *values: int) -> None:
        try:
            work(*values)
        except MomentumLabError as error:
            # A gap in a curve is no reason to end a session that holds positions.
            self._on_incident("sample not recorded", str(error), None)

    def _record_equity(self, now_ns: int) -> None:
        equity_usd = self._connector.account().equity_usd
        settled = self._cash.look(now_ns)
        if equity_usd is not None:
            self._store.add_equity(
                self._run_id,
                at_ns=now_ns,
                equity_usd=equity_usd,
                cash_usd=settled.cash_usd if settled else None,
                cash_flow_usd=settled.flow.usd if settled else None,
            )

    def _report(self, now_ns: int) -> None:
        equity_usd = self._connector.account().equity_usd
        _log.info(
            "session: new_york=%s state=%s equity_usd=%s open=%d",
            f"{utc(now_ns).astimezone(ZoneInfo(NEW_YORK)):%Y-%m-%d %H:%M:%S}",
            self._connector.state.value,
            "-" if equity_usd is None else f"{equity_usd:.2f}",
            len(self._store.open_trades()),
        )
