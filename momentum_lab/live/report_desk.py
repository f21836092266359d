"""`ReportDesk`: hears what becomes of our orders, and catches up with what could not be booked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import anyio

from momentum_lab.clock import Clock
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.errors import IllegalTransitionError, RecordError
from momentum_lab.live.bookkeeper import Bookkeeper
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.holdings_watch import HoldingsWatch
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.translate import (
    CommissionReport,
    FillReport,
    Mark,
    PositionReport,
    Report,
)
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

# All that waits is booked sooner, unless the desk itself has come to an end.
_BOOKED_WITHIN_S = 5.0
_MOST_TURNS = 50


class ReportDesk:
    """Has every report booked; one that cannot be is asked for again."""

    def __init__(
        self,
        connector: IBKRConnector,
        books: Bookkeeper,
        store: TradeStore,
        *,
        clock: Clock,
        unrecorded: Mapping[str, OrderIntent],
        holdings: HoldingsWatch,
        on_failure: Callable[[str], None],
        on_incident: OnIncident,
    ) -> None:
        """Make a desk that hears nothing until `run()`.

        Args:
            connector: the stream of reports; asks for everything again.
            books: book them.
            store: the record.
            clock: market time.
            unrecorded: orders that left although they could not be written down, by reference.
            holdings: hears what the broker holds.
            on_failure: hears why the record cannot be relied upon.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._books = books
        self._store = store
        self._clock = clock
        self._unrecorded = unrecorded
        self._holdings = holdings
        self._on_failure = on_failure
        self._on_incident = on_incident
        self._lacks_reports = False

    async def run(self) -> None:
        """Book reports until cancelled."""
        async for report in self._connector.reports:
            await self.hear(report)

    async def hear(self, report: Report) -> None:
        """Book one report."""
        # A replay may be told of a fill before it is told the time.
        await self._clock.sleep_until(0)
        try:
            if isinstance(report, FillReport):
                self._books.book_fill(report.fill)
                if report.fill.con_id in self._holdings.blocked:
                    # It may be what the broker's position was ahead of: compare again.
                    await self._connector.resynchronise(f"{report.fill.symbol} is blocked")
            elif isinstance(report, CommissionReport):
                self._books.book_commission(report.exec_id, report.commission_usd)
            elif isinstance(report, PositionReport):
                self._holdings.hear(report.con_id, report.shares)
            elif isinstance(report, Mark):
                report.passed.set()
            else:
                self._books.book_order(report)
        except (RecordError, IllegalTransitionError) as error:
            if isinstance(report, FillReport):
                self._books.unbooked[report.fill.exec_id] = report.fill
            self.doubt(f"{report}: {error}")

    async def let_book(self) -> None:
        """Give what was heard together its turn to be booked, before it is acted upon.

        It waits for turns of the loop alone, and not for long: whoever books may be waiting, too.
        """
        for _ in range(_MOST_TURNS):
            if not self._connector.reports.statistics().current_buffer_used:
                return
            await anyio.lowlevel.checkpoint()

    async def book_heard(self) -> None:
        """Return once all that was heard until now has been booked, as far as it can be."""
        passed = self._connector.mark_reports()
        with anyio.move_on_after(_BOOKED_WITHIN_S):
            await passed.wait()

    def doubt(self, why: str) -> None:
        """Note that something could not be written down; `catch_up` asks for it again."""
        if not self._lacks_reports:
            self._lacks_reports = True
            self._on_incident("report not booked", why, None)
        else:
            _log.warning("report not booked: %s", why)
        self._on_failure(why)

    @property
    def is_behind(self) -> bool:
        """Whether a report, or an exit that has left, is not in the record yet."""
        exits = (one.purpose is OrderPurpose.EXIT for one in self._unrecorded.values())
        return self._lacks_reports or any(exits)

    async def catch_up(self) -> None:
        """Write down what is behind, and ask for everything, once the record can be written again.

        Raises:
            RecordError: it still cannot be.
        """
        if self.is_behind and self._connector.may_exit() and self._store.is_writable():
            for intent in list(self._unrecorded.values()):
                if intent.purpose is OrderPurpose.EXIT:
                    self._books.recognise(intent.order_ref)
            self._lacks_reports = False
            await self._connector.resynchronise("reports could not be booked")

    async def look_again(self) -> bool:
        """Look a second time for what the broker's lists lacked, before it counts as absent.

        Return whether something is lacking still.
        """
        if self._connector.may_exit() and self._books.take_second_look():
            await self._connector.resynchronise("an order was missing from the broker's lists")
        return bool(self._books.missing)
