"""The handlers of the library's events: translate and hand on, nothing else.

The library swallows what a handler raises, so each is wrapped and an exception becomes an
incident. It also drops what we need (the request id of a headline, an execution of an order it
does not know, whether a status came over the wire), so callbacks of its wrapper are tapped, and
market data pass it by (`momentum_lab.live.ibkr.ticks`). A handler of a connection that was
dropped hears nothing any more.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import ib_insync
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.order import ORDER_REF_PREFIX, OrderEvent
from momentum_lab.errors import DataError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.account_values import Account, account_of, check_account_value
from momentum_lab.live.ibkr.codes import is_final_for_order, refuses_change
from momentum_lab.live.ibkr.completed_orders import CompletedOrders
from momentum_lab.live.ibkr.incidents import OnIncident
from momentum_lab.live.ibkr.line import Line, OnHeard
from momentum_lab.live.ibkr.news_tapes import Tape
from momentum_lab.live.ibkr.ticks import TickEars
from momentum_lab.live.ibkr.translate import RawHeadline, Report, WorkingOrder

_log = logging.getLogger(__name__)

_MOST_WORDS = 300
_JUST_S = 5.0


OnWords = Callable[[str], None]


class OnCode(Protocol):
    """Hears a code that belongs to no order of ours."""

    def __call__(self, request: int, code: int, words: str) -> None:
        """Take in one code with the request it belongs to, -1 for none."""


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    # Python 3.10 has no generic one.
    _Adapter = logging.LoggerAdapter


class _Doubts(_Adapter):
    """Stands in for the log of the library's decoder, which swallows what it cannot read."""

    def __init__(self, logger: logging.Logger, tell: Callable[[str], None]) -> None:
        super().__init__(logger, {})
        self._tell = tell

    def exception(self, msg: object, *args: object, **_options: Any) -> None:
        _log.exception(msg, *args)
        self._tell(str(msg)[:_MOST_WORDS])


class Ears:
    """Everything heard on one connection after the other.

    Attributes:
        news: stream of raw headlines.
        reports: stream of executions, commissions, positions and order messages.
        subscribed_ns: market time at which the news was last subscribed to.
        completed: what was told as completed, and asks for it.
        account: the account that is traded; empty before it has been chosen.
        account_heard_s: transport time of the account's last word, -inf before the first of the
            connection.
        tapes_heard_s: transport time of the last headline of a broad tape, -inf before the first.
    """

    def __init__(
        self, clock: Clock, on_incident: OnIncident, on_heard: OnHeard = lambda _line: None
    ) -> None:
        """Make ears that hear nothing until `attach`; `on_heard` hears of lines that spoke."""
        self._clock = clock
        self._on_incident = on_incident
        self._on_heard = on_heard
        self._ib: ib_insync.IB | None = None
        self._ticks: TickEars | None = None
        # Whose headlines a subscription brings: a symbol's, or those of a tape.
        self._sources: dict[int, str | Tape] = {}
        self._order_refs: dict[int, str] = {}
        self._working: dict[str, WorkingOrder] = {}
        self._changing: set[int] = set()
        # Permanent ids of each of our orders: more than one would be two orders.
        self._perm_ids: dict[str, set[int]] = {}
        self._commissions: dict[str, float] = {}
        self.subscribed_ns = 0
        self._last_words, self._last_words_s = "", -math.inf
        self.completed = CompletedOrders(on_incident)
        self.account = ""
        self._account_values: dict[tuple[str, str], str] = {}
        self.account_heard_s = -math.inf
        self.tapes_heard_s = -math.inf
        # Unbounded on purpose: an execution or a headline must never be dropped at this door.
        self._news_in, self.news = _unbounded_news()
        self._reports_in, self.reports = _unbounded_reports()

    @property
    def heard_s(self) -> float:
        """Transport time of the last bytes of the connection, -inf while there is none."""
        return self._ticks.heard_s if self._ticks is not None else -math.inf

    @property
    def last_words(self) -> str:
        """What the broker just said that belongs to no order; empty when it was silent.

        For the cause of a loss: what was said minutes ago did not end the connection.
        """
        return self._last_words if transport_s() - self._last_words_s <= _JUST_S else ""

    def note(self, words: str) -> None:
        """Remember what the broker said, in case the connection ends right after it."""
        self._last_words, self._last_words_s = words, transport_s()

    def account_values(self) -> Account:
        """Return what the account said in this connection; only US dollars are read."""
        return account_of(self._account_values)

    def attach(
        self, ib: ib_insync.IB, *, on_code: OnCode, on_loss: OnWords, on_doubt: OnWords
    ) -> None:
        """Listen to a fresh connection; whatever was attached before is heard no more.

        Args:
            ib: the connection.
            on_code: hears codes that belong to no order of ours.
            on_loss: hears that the socket is gone.
            on_doubt: hears of a message that could not be read: something may have been missed.
        """
        self.detach()
        self._ib = ib
        self._last_words = ""

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
            self._hear_error(request, code, text, on_code)

        self._ticks = TickEars(ib, self._clock, self._on_incident, self._on_heard)
        translate.tap(ib.wrapper, "tickNews", only_mine(self._hear_headline), instead=True)
        translate.tap(ib.wrapper, "openOrder", only_mine(self._hear_open_order))
        translate.tap(ib.wrapper, "orderStatus", only_mine(self._hear_status))
        # The library fails on one that it did not ask for, and TWS tells them after trades by hand.
        translate.tap(ib.wrapper, "completedOrder", only_mine(self.completed.hear), instead=True)
        translate.tap(ib.wrapper, "completedOrdersEnd", only_mine(self.completed.hear_end))
        translate.tap(ib.wrapper, "execDetails", only_mine(self._hear_execution))
        translate.tap(ib.wrapper, "commissionReport", only_mine(self._hear_commission))
        translate.tap(ib.wrapper, "position", only_mine(self._hear_position))
        translate.tap(ib.wrapper, "updateAccountValue", only_mine(self._hear_account_value))
        translate.tap(ib.wrapper, "updateAccountTime", only_mine(self._hear_account_time))
        decoder = ib.client.decoder
        decoder.logger = _Doubts(decoder.logger, only_mine(on_doubt))  # type: ignore[assignment]
        # The library reacts to a 1102 by subscribing to the account's summary, once more each time;
        # the broker allows two.
        ib.errorEvent.clear()
        ib.errorEvent += only_mine(hear_error)
        ib.disconnectedEvent += only_mine(
            lambda: on_loss(self.last_words or "the gateway closed the socket")
        )
        # Before the handshake is over the library says nothing but this.
        ib.client.apiError += only_mine(
            lambda words: on_loss(self.last_words or words) if ib.client.isConnected() else None
        )

    def detach(self) -> None:
        """Hear no more of the present connection."""
        self._ib = None
        if self._ticks is not None:
            self._ticks.close()
        self._ticks = None
        self._sources.clear()
        self._order_refs.clear()
        self._working.clear()
        self._changing.clear()
        self._commissions.clear()
        self.completed.clear()
        self._account_values.clear()
        self.account_heard_s = -math.inf

    def close(self) -> None:
        """Close the streams."""
        for stream in (self._news_in, self.news, self._reports_in, self.reports):
            stream.close()

    def expect_line(self, request: int, line: Line) -> None:
        """Remember which line a subscription is for, also for its headlines."""
        self._sources[request] = line.instrument.symbol
        if self._ticks is not None:
            self._ticks.expect(request, line)

    def expect_tape(self, request: int, tape: Tape) -> None:
        """Remember which broad news tape a subscription is for."""
        self._sources[request] = tape

    def forget_subscription(self, request: int) -> None:
        """What still comes for a subscription is late."""
        self._sources.pop(request, None)
        if self._ticks is not None:
            self._ticks.forget(request)

    def expect_order(self, order_id: int, order_ref: str) -> None:
        """Remember which of our orders a broker's id stands for."""
        self._order_refs[order_id] = order_ref

    def expect_change(self, order_id: int) -> None:
        """Remember that an order is being changed: what is refused then is not the order."""
        self._changing.add(order_id)

    def working(self, order_ref: str) -> WorkingOrder | None:
        """Return one of our orders as the broker last described it, None if it did not."""
        return self._working.get(order_ref)

    def live_parent(self, known: WorkingOrder) -> int:
        """Return the broker's id of the order that one belongs to, 0 once that has ended.

        New terms must not name one that the broker may have forgotten: they would be refused (135).
        """
        parent = self._working.get(self._order_refs.get(known.parent_id, ""))
        return known.parent_id if parent is not None and parent.is_live else 0

    def told_group(self, order_refs: Iterable[str]) -> tuple[str, int] | None:
        """Return name and type of the group that some orders are in, None where none is told.

        A broker calls the group of an entry's children by a number of its own.
        """
        for order_ref in order_refs:
            known = self._working.get(order_ref)
            if known is not None and known.is_live and known.oca_group:
                return known.oca_group, known.oca_type
        return None

    def mark(self) -> anyio.Event:
        """Return what is set once all that was reported until now has been read."""
        passed = anyio.Event()
        self._reports_in.send_nowait(translate.Mark(passed))
        return passed

    def order_id(self, order_ref: str) -> int | None:
        """Return the broker's id of one of our orders in this connection, None if unknown."""
        found = (key for key, known in self._order_refs.items() if known == order_ref)
        return max(found, default=None)

    def _hear_headline(
        self, request: int, stamp: int, provider: str, article: str, text: str, extra: str
    ) -> None:
        source = self._sources.get(request)
        symbol = source if isinstance(source, str) else None
        if symbol is None:
            self.tapes_heard_s = transport_s()
        if isinstance(source, Tape):
            source.heard_s = self.tapes_heard_s
        self._news_in.send_nowait(
            RawHeadline(
                provider=provider,
                article_id=article,
                stamp=stamp,
                text=text,
                extra=extra,
                symbol=symbol,
                subscribed_ns=self.subscribed_ns,
            )
        )

    def _hear_account_value(self, tag: str, value: str, currency: str, account: str) -> None:
        self.account_heard_s = transport_s()
        if account != self.account:
            return
        is_new = self._account_values.get((tag, currency)) != value
        # What cannot be read takes the place of what could: the old value is not true any more.
        self._account_values[tag, currency] = value
        if is_new:
            check_account_value(tag, currency, value)

    def _hear_account_time(self, _time: str) -> None:
        self.account_heard_s = transport_s()

    def _hear_position(
        self, account: str, contract: ib_insync.Contract, shares: float, _average: float
    ) -> None:
        if account == self.account:
            report = translate.PositionReport(contract.conId, float(shares))
            self._reports_in.send_nowait(report)

    def _hear_open_order(self, order_id: int, _contract: Any, order: Any, state: Any) -> None:
        # After a reconnect: what an earlier connection sent is heard of by the same id.
        is_mine = self._ib is not None and order.clientId == self._ib.client.clientId
        if is_mine and str(order.orderRef).startswith(ORDER_REF_PREFIX):
            self.expect_order(order_id, order.orderRef)
            self._changing.discard(order_id)
            self._count_twins(order.orderRef, order.permId)
            told = translate.working_of(order_id, order, state.status)
            known = self._working.get(order.orderRef)
            if known is not None:
                filled = known.shares - known.remaining
                left = max(0.0, told.shares - filled)
                told = replace(told, remaining=left, why_held=known.why_held)
            self._working[order.orderRef] = told

    def _count_twins(self, order_ref: str, perm_id: int) -> None:
        known = self._perm_ids.setdefault(order_ref, set())
        if perm_id and perm_id not in known:
            known.add(perm_id)
            if len(known) > 1:
                # New terms sent while the broker's own line died have made a second order.
                ids = ", ".join(map(str, sorted(known)))
                self._on_incident("one order twice", f"{order_ref}: permanent ids {ids}; see TWS")

    def _hear_status(self, order_id: int, status: str, *rest: Any) -> None:
        order_ref = self._order_refs.get(order_id)
        # filled, remaining, average price, permanent id, parent, last price, client, why held, ...
        perm_id, client_id = int(rest[3]), int(rest[6])
        if order_ref is None or self._ib is None or client_id != self._ib.client.clientId:
            # Each client counts for itself, and who asks for all orders hears of theirs, too.
            return
        known = self._working.get(order_ref)
        if known is not None:
            filled, remaining = float(rest[0]), float(rest[1])
            self._working[order_ref] = replace(
                known,
                status=status,
                shares=filled + remaining,
                remaining=remaining,
                why_held=str(rest[7]),
            )
        event = translate.status_event(status)
        self._reports_in.send_nowait(
            translate.OrderReport(order_ref, event, order_id, perm_id, status)
        )

    def _hear_error(self, request: int, code: int, text: str, on_code: OnCode) -> None:
        words = f"{code} {text}"
        if request in self._order_refs:
            is_final = is_final_for_order(code)
            event = OrderEvent.REJECT if is_final else None
            if request in self._changing and (is_final or refuses_change(code)):
                # The change is refused; what worked before works on, until the broker says more.
                self._changing.discard(request)
                event = None
            self._reports_in.send_nowait(
                translate.OrderReport(self._order_refs[request], event, request, 0, words)
            )
        else:
            on_code(request, code, words)

    def _hear_execution(
        self, request: int, contract: ib_insync.Contract, execution: ib_insync.Execution
    ) -> None:
        # Those that answer a request are taken from its answer.
        if request >= 0:
            return
        fill = translate.fill_of_execution(contract, execution)
        early = self._commissions.pop(fill.exec_id, None)
        self._reports_in.send_nowait(translate.FillReport(replace(fill, commission_usd=early)))

    def _hear_commission(self, report: ib_insync.CommissionReport) -> None:
        commission = translate.commission_of(report)
        if commission is not None:
            # It may come before its execution, of which the record knows nothing then.
            self._commissions[report.execId] = commission
            self._reports_in.send_nowait(translate.CommissionReport(report.execId, commission))


def _unbounded_news() -> tuple[
    MemoryObjectSendStream[RawHeadline], MemoryObjectReceiveStream[RawHeadline]
]:
    return anyio.create_memory_object_stream[RawHeadline](float("inf"))


def _unbounded_reports() -> tuple[
    MemoryObjectSendStream[Report], MemoryObjectReceiveStream[Report]
]:
    return anyio.create_memory_object_stream[Report](float("inf"))
