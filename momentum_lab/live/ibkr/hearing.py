"""The handlers of the library's events: translate and hand on, nothing else.

The library swallows what a handler raises, so each is wrapped and an exception becomes an
incident. It also drops what we need (the request id of a headline, the text of a trade tick,
whether a status came over the wire), so three callbacks of its wrapper are tapped. A handler of
a connection that was dropped hears nothing any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import ib_insync
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from momentum_lab.clock import Clock
from momentum_lab.core.connection import ConnectionEvent
from momentum_lab.core.order import ORDER_REF_PREFIX, OrderEvent
from momentum_lab.errors import DataError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.subscriptions import Lines
from momentum_lab.live.ibkr.translate import RawHeadline, Report

_log = logging.getLogger(__name__)

OnIncident = Callable[[str, str], None]


class OnConnection(Protocol):
    """Hears what an event means for the life cycle of the connection."""

    def __call__(self, event: ConnectionEvent, cause: str) -> None:
        """Take in one event with its cause."""


class Ears:
    """Everything heard on one connection after the other.

    Attributes:
        news: stream of raw headlines.
        reports: stream of executions, commissions and order messages.
        subscribed_ns: market time at which the news was last subscribed to.
        last_error: the broker's last words that belong to no order, for the cause of a loss.
        client_id_taken: the broker refused the client id of this connection.
    """

    def __init__(self, lines: Lines, clock: Clock, on_incident: OnIncident) -> None:
        """Make ears that hear nothing until `attach`."""
        self._lines = lines
        self._clock = clock
        self._on_incident = on_incident
        self._ib: ib_insync.IB | None = None
        self._sources: dict[int, str | None] = {}
        self._tickers: dict[int, str] = {}
        self._order_refs: dict[int, str] = {}
        self.subscribed_ns = 0
        self.last_error = ""
        self.client_id_taken = False
        # Unbounded on purpose: an execution or a headline must never be dropped at this door.
        self._news_in, self.news = _unbounded_news()
        self._reports_in, self.reports = _unbounded_reports()

    def attach(self, ib: ib_insync.IB, on_connection: OnConnection) -> None:
        """Listen to a fresh connection; whatever was attached before is heard no more."""
        self.detach()
        self._ib = ib
        self.last_error, self.client_id_taken = "", False

        def only_mine(handler: Callable[..., None]) -> Callable[..., None]:
            def guarded(*values: Any) -> None:
                if self._ib is not ib:
                    return
                try:
                    handler(*values)
                except DataError as error:
                    _log.warning("refused: %s", error)
                    self._on_incident("bad datum", str(error))
                except Exception as error:  # noqa: BLE001 - the library would swallow it
                    _log.exception("a handler failed")
                    self._on_incident("handler failed", f"{type(error).__name__}: {error}")

            return guarded

        def hear_error(request: int, code: int, text: str, _contract: object) -> None:
            self._hear_error(request, code, text, on_connection)

        translate.tap(ib.wrapper, "tickNews", only_mine(self._hear_headline))
        translate.tap(ib.wrapper, "tickString", only_mine(self._hear_trade))
        translate.tap(ib.wrapper, "openOrder", only_mine(self._hear_open_order))
        translate.tap(ib.wrapper, "orderStatus", only_mine(self._hear_status))
        ib.errorEvent += only_mine(hear_error)
        ib.pendingTickersEvent += only_mine(self._hear_quotes)
        ib.execDetailsEvent += only_mine(self._hear_execution)
        ib.commissionReportEvent += only_mine(self._hear_commission)
        ib.disconnectedEvent += only_mine(
            lambda: on_connection(
                ConnectionEvent.LOST, self.last_error or "the gateway closed the socket"
            )
        )

    def detach(self) -> None:
        """Hear no more of the present connection."""
        self._ib = None
        self.forget_subscriptions()
        self._order_refs.clear()

    def close(self) -> None:
        """Close the streams."""
        for stream in (self._news_in, self.news, self._reports_in, self.reports):
            stream.close()

    def forget_subscriptions(self) -> None:
        """Drop the request ids of lines and tapes; they are about to be asked for again."""
        self._sources.clear()
        self._tickers.clear()

    def expect_ticks(self, ib: ib_insync.IB, ticker: ib_insync.Ticker, symbol: str | None) -> None:
        """Remember what a subscription was for; `symbol` None is a broad news tape."""
        request = next(key for key, known in ib.wrapper.reqId2Ticker.items() if known is ticker)
        self._sources[request] = symbol
        if symbol is not None:
            self._tickers[id(ticker)] = symbol

    def expect_order(self, order_id: int, order_ref: str) -> None:
        """Remember which of our orders a broker's id stands for."""
        self._order_refs[order_id] = order_ref

    def order_id(self, order_ref: str) -> int | None:
        """Return the broker's id of one of our orders in this connection, None if unknown."""
        found = (key for key, known in self._order_refs.items() if known == order_ref)
        return max(found, default=None)

    def _hear_headline(
        self, request: int, stamp: int, provider: str, article: str, text: str, extra: str
    ) -> None:
        if self._ib is not None:
            # The library keeps every headline for ever.
            self._ib.wrapper.newsTicks.clear()
        self._news_in.send_nowait(
            RawHeadline(
                provider=provider,
                article_id=article,
                stamp=stamp,
                text=text,
                extra=extra,
                symbol=self._sources.get(request),
                subscribed_ns=self.subscribed_ns,
            )
        )

    def _hear_trade(self, request: int, tick_type: int, value: str) -> None:
        trade = translate.trade_of(tick_type, value)
        symbol = self._sources.get(request)
        line = self._lines.get(symbol) if symbol else None
        if trade is None or line is None:
            return
        self._clock.observe(trade.at_ns)
        line.hear_trade(trade)

    def _hear_quotes(self, tickers: set[ib_insync.Ticker]) -> None:
        now_ns = self._clock.now_ns()
        heard = {self._tickers[id(t)]: t for t in tickers if id(t) in self._tickers}
        # The library hands over a set: without an order the same day would run differently.
        for symbol in sorted(heard):
            line = self._lines.get(symbol)
            if line is not None:
                line.hear_quote(translate.quote_of(symbol, heard[symbol], now_ns))

    def _hear_open_order(self, order_id: int, _contract: Any, order: Any, _state: Any) -> None:
        # After a reconnect: what an earlier connection sent is heard of by the same id.
        is_mine = self._ib is not None and order.clientId == self._ib.client.clientId
        if is_mine and str(order.orderRef).startswith(ORDER_REF_PREFIX):
            self.expect_order(order_id, order.orderRef)

    def _hear_status(self, order_id: int, status: str, *rest: Any) -> None:
        order_ref = self._order_refs.get(order_id)
        if order_ref is None:
            return
        # filled, remaining, average price, permanent id, ...
        perm_id = int(rest[3])
        event = translate.status_event(status)
        self._reports_in.send_nowait(
            translate.OrderReport(order_ref, event, order_id, perm_id, status)
        )

    def _hear_error(self, request: int, code: int, text: str, on_connection: OnConnection) -> None:
        words = f"{code} {text}"
        if code in translate.UPSTREAM_LOST:
            on_connection(ConnectionEvent.UPSTREAM_LOST, words)
        elif code in translate.UPSTREAM_RESTORED:
            on_connection(ConnectionEvent.UPSTREAM_RESTORED, words)
        elif code == translate.CLIENT_ID_TAKEN:
            self.last_error, self.client_id_taken = words, True
            on_connection(ConnectionEvent.LOST, words)
        elif request in self._order_refs:
            event = OrderEvent.REJECT if code in translate.FINAL_ORDER_ERRORS else None
            self._reports_in.send_nowait(
                translate.OrderReport(self._order_refs[request], event, request, 0, words)
            )
        elif code in translate.FARM_NOTES:
            _log.debug("broker says: code=%d text=%s", code, text)
        else:
            _log.info("broker says: code=%d request=%d text=%s", code, request, text)
            self.last_error = words

    def _hear_execution(self, _trade: object, fill: ib_insync.Fill) -> None:
        self._reports_in.send_nowait(translate.FillReport(translate.fill_of(fill)))

    def _hear_commission(
        self, _trade: object, fill: ib_insync.Fill, report: ib_insync.CommissionReport
    ) -> None:
        commission = translate.commission_of(report)
        if commission is not None:
            self._reports_in.send_nowait(
                translate.CommissionReport(fill.execution.execId, commission)
            )


def _unbounded_news() -> tuple[
    MemoryObjectSendStream[RawHeadline], MemoryObjectReceiveStream[RawHeadline]
]:
    return anyio.create_memory_object_stream[RawHeadline](float("inf"))


def _unbounded_reports() -> tuple[
    MemoryObjectSendStream[Report], MemoryObjectReceiveStream[Report]
]:
    return anyio.create_memory_object_stream[Report](float("inf"))
