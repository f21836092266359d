"""`IBKRConnector`: the only door to the broker, and the driver of the connection's life cycle.

One API connection at a time, made by a fresh library object. `run()` is the supervisor: it
connects, synchronises, lets the session reconcile its record with the broker's truth, makes the
subscriptions again, and only then is the connection OPERATIONAL. When the line breaks it comes
back by itself, after a wait that grows and is capped. The tables of states and of waits are in
`momentum_lab.core.connection`.

Handlers of the library's events translate and hand on, nothing else: the library swallows what
they raise, so each is wrapped and an exception becomes an incident.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import ib_insync
from anyio.streams.memory import MemoryObjectReceiveStream

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.candle import MINUTE_S
from momentum_lab.core.connection import (
    ConnectionEvent,
    ConnectionState,
    advance_connection,
    backoff_s,
)
from momentum_lab.core.market import Bar, Instrument
from momentum_lab.core.order import OrderEvent
from momentum_lab.errors import BrokerError, ConnectionLostError, DataError, ParameterError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.subscriptions import Line, Lines, QuoteStream
from momentum_lab.live.ibkr.synchronisation import (
    BrokerSnapshot,
    ask,
    server_time_ns,
    take_snapshot,
)
from momentum_lab.live.ibkr.translate import RawHeadline, Report
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import OrderIntent

_log = logging.getLogger(__name__)

# A replay is anchored on the gateway's clock this often; nobody waits for these requests.
_REPLAY_PROBE_S = 0.1
_CONTRACT_NEWS_TICKS = "233,292"
_TAPE_TICKS = "mdoff,292"
_NO_DATA_CODE = 162

Reconcile = Callable[[BrokerSnapshot], Awaitable[None]]
OnTransition = Callable[[ConnectionState, ConnectionEvent, str], None]
OnIncident = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Account:
    """What the account says about itself, US dollars.

    Attributes:
        equity_usd: net liquidation, None while unknown.
        buying_power_usd: None while unknown.
    """

    equity_usd: float | None
    buying_power_usd: float | None


class IBKRConnector:
    """One supervised connection to TWS, IB Gateway or the paper gateway.

    Attributes:
        state: where the connection stands.
        lines: the registry of desired market data lines.
        news: stream of raw headlines, read by the NewsHandler.
        reports: stream of executions, commissions and order messages, read by the
            ExecutionService. Nothing is ever dropped from it.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        clock: Clock,
        on_transition: OnTransition,
        on_incident: OnIncident,
    ) -> None:
        """Make a connector that does nothing until `run()`.

        Args:
            parameters: the checked set.
            clock: market time; in a replay it is anchored here.
            on_transition: hears each step of the life cycle with its cause.
            on_incident: hears (kind, text) of what a person should look at.
        """
        self.state = ConnectionState.DISCONNECTED
        self.lines = Lines()
        self._parameters = parameters
        self._clock = clock
        self._on_transition = on_transition
        self._on_incident = on_incident
        self._ib: ib_insync.IB | None = None
        self._account = ""
        self._symbols: set[str] = set(parameters.universe)
        self._wants_news = False
        self._news_sources: dict[int, str | None] = {}
        self._subscribed_ns = 0
        self._order_refs: dict[int, str] = {}
        self._tickers: dict[int, str] = {}
        self._lost = anyio.Event()
        self._lost_cause = ""
        self._last_error = ""
        self._resync = anyio.Event()
        self._changed = anyio.Event()
        self._time_lock = anyio.Lock()
        # Unbounded on purpose: an execution or a headline must never be dropped at this door.
        self._news_in, self.news = anyio.create_memory_object_stream[RawHeadline](float("inf"))
        self._reports_in, self.reports = _report_stream()

    # --- what the services ask -------------------------------------------------------------

    def is_operational(self) -> bool:
        """Whether orders may be sent: socket up, synchronised, reconciled, upstream there."""
        return self.state is ConnectionState.OPERATIONAL

    async def wait_changed(self) -> None:
        """Return after the next step of the life cycle."""
        await self._changed.wait()

    @property
    def account_id(self) -> str:
        """The account that is traded, empty before the first synchronisation."""
        return self._account

    def account(self) -> Account:
        """Return equity and buying power as last reported; only US dollars are read."""
        found: dict[str, float] = {}
        if self._ib is not None:
            for row in self._ib.accountValues(self._account):
                if row.currency == "USD" and row.tag in ("NetLiquidation", "BuyingPower"):
                    found[row.tag] = float(row.value)
        return Account(found.get("NetLiquidation"), found.get("BuyingPower"))

    def instrument(self, ticker: str) -> Instrument | None:
        """Return the instrument of a symbol whose line is open, else None."""
        line = self.lines.get(ticker)
        return line.instrument if line else None

    def subscribe_to_news(self) -> MemoryObjectReceiveStream[RawHeadline]:
        """Ask for the broad tapes and the watch list's own headlines, now and after reconnects.

        Returns:
            The stream of raw headlines, each with the instant of the subscription, since the
            broker replays older ones on it.
        """
        self._wants_news = True
        return self.news

    def stream_quotes(self, ticker: str) -> QuoteStream:
        """Return the stream of one symbol's latest quote; use it as a context manager.

        Raises:
            BrokerError: the symbol has no line.
        """
        line = self.lines.get(ticker)
        if line is None:
            raise BrokerError(f"no market data line for {ticker!r}")
        return QuoteStream(line, self._clock)

    async def fetch_candles(
        self, ticker: str, *, duration: str = "2 D", seconds: int = MINUTE_S
    ) -> tuple[Bar, ...]:
        """Return historical trade bars of the regular session up to now, oldest first.

        Args:
            ticker: a symbol with an open line.
            duration: the broker's spelling, e.g. "3600 S", "2 D".
            seconds: bar length, one of 1, 5, 10, 15, 30, 60.

        Returns:
            Bars, volume in shares; empty when the broker confirmed that there are none.

        Raises:
            ConnectionLostError: not known, there was no answer.
            BrokerError: the broker refused.
        """
        line = self.lines.get(ticker)
        if line is None:
            raise BrokerError(f"no market data line for {ticker!r}")
        size = "1 min" if seconds == MINUTE_S else f"{seconds} secs"
        contract = translate.stock(ticker, line.instrument.con_id)
        ib = self._connected()
        timeout_s = self._parameters.connection.request_timeout_s

        def request() -> Awaitable[Any]:
            return ib.reqHistoricalDataAsync(
                contract, "", duration, size, "TRADES", useRTH=True, formatDate=2, timeout=0
            )

        try:
            bars = await ask(f"candles of {ticker}", request, timeout_s=timeout_s)
        except BrokerError as error:
            cause = error.__cause__
            if isinstance(cause, ib_insync.RequestError) and _is_confirmed_empty(cause):
                return ()
            raise
        return translate.bars_of(bars, seconds=seconds)

    def place_order(self, order: OrderIntent) -> int:
        """Send a market order and return the broker's order id; the outcome comes as reports.

        Raises:
            ConnectionLostError: not OPERATIONAL; nothing has been sent.
        """
        if not self.is_operational():
            raise ConnectionLostError(f"order {order.order_ref}: state is {self.state.value}")
        ib = self._connected()
        order_id = ib.client.getReqId()
        self._order_refs[order_id] = order.order_ref
        message = translate.market_order(order, account=self._account)
        message.orderId = order_id
        ib.placeOrder(translate.stock(order.symbol, order.con_id), message)
        return order_id

    async def resynchronise(self, why: str) -> None:
        """Leave OPERATIONAL and ask the broker for everything again, on the same socket."""
        if self.state is ConnectionState.OPERATIONAL:
            self._step(ConnectionEvent.UPSTREAM_RESTORED, why)
            self._resync.set()

    # --- the supervisor --------------------------------------------------------------------

    async def run(self, reconcile: Reconcile) -> None:
        """Keep the connection up until cancelled.

        Args:
            reconcile: called with the broker's truth before the connection is OPERATIONAL.

        Raises:
            ParameterError: the account or the universe is refused, or the client id is taken at
                the first attempt; trying again would not help.
        """
        failures = 0
        try:
            while True:
                operational_s = await self._one_connection(reconcile)
                if operational_s >= self._parameters.backoff.stable_s:
                    failures = 0
                failures += 1
                wait_s = backoff_s(
                    failures,
                    draw=random.random(),  # noqa: S311 - spreads retries, guards no secret
                    parameters=self._parameters.backoff,
                )
                _log.info("connection: next attempt wait_s=%.1f failures=%d", wait_s, failures)
                await anyio.sleep(wait_s)
        finally:
            self._drop("session ended")

    async def _one_connection(self, reconcile: Reconcile) -> float:
        """Return how long one connection was OPERATIONAL, in seconds of transport time."""
        self._lost, self._lost_cause = anyio.Event(), ""
        self._last_error = ""
        self._step(ConnectionEvent.ATTEMPT, self._address)
        operational_s = 0.0
        try:
            ib = await self._open_socket()
            self._step(ConnectionEvent.SOCKET_READY, self._address)
            started_s = transport_s()
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch_loss, group.cancel_scope, name="watch loss")
                group.start_soon(self._probe, ib, name="probe")
                await self._synchronise_for_ever(ib, reconcile)
            operational_s = transport_s() - started_s
        except (ConnectionLostError, BrokerError) as error:
            self._lose(str(error))
        finally:
            self._drop(self._lost_cause or "cancelled")
        return operational_s

    async def _open_socket(self) -> ib_insync.IB:
        ib = ib_insync.IB()  # type: ignore[no-untyped-call]  # the library has no annotation here
        ib.RaiseRequestErrors = True
        self._ib = ib
        self._listen(ib)
        settings = self._parameters.connection
        try:
            with anyio.fail_after(settings.connect_timeout_s):
                await ib.connectAsync(
                    settings.host,
                    settings.port,
                    clientId=settings.client_id,
                    timeout=settings.connect_timeout_s / 2,
                    account=self._parameters.account,
                )
        except (TimeoutError, OSError) as error:
            told = self._last_error or str(error) or "no answer to the handshake"
            raise ConnectionLostError(f"{self._address}: {told}") from error
        return ib

    async def _synchronise_for_ever(self, ib: ib_insync.IB, reconcile: Reconcile) -> None:
        while not self._lost.is_set():
            if self.state is ConnectionState.SYNCHRONIZING:
                self._resync = anyio.Event()
                await self._synchronise(ib, reconcile)
            await self._resync.wait()
            self._resync = anyio.Event()

    async def _synchronise(self, ib: ib_insync.IB, reconcile: Reconcile) -> None:
        try:
            async with self._time_lock:
                snapshot = await take_snapshot(ib, self._parameters, self._clock)
            self._account = snapshot.account
            await reconcile(snapshot)
            await self._subscribe(ib)
        except (ConnectionLostError, BrokerError) as error:
            self._lose(f"synchronisation: {error}")
            return
        if self.state is ConnectionState.SYNCHRONIZING and not self._resync.is_set():
            self._step(ConnectionEvent.SYNCHRONIZED, "broker and record agree")

    async def _subscribe(self, ib: ib_insync.IB) -> None:
        self.lines.forget()
        self._tickers.clear()
        self._news_sources.clear()
        self._subscribed_ns = self._clock.now_ns()
        for symbol in sorted(self._symbols):
            line = self.lines.want(await self._look_up(ib, symbol))
            self._open_line(ib, line)
        if self._wants_news:
            for provider in self._parameters.news.providers:
                await self._open_tape(ib, provider)

    async def _look_up(self, ib: ib_insync.IB, symbol: str) -> Instrument:
        timeout_s = self._parameters.connection.request_timeout_s
        try:
            found = await ask(
                f"contract of {symbol}",
                lambda: ib.reqContractDetailsAsync(translate.stock(symbol)),
                timeout_s=timeout_s,
            )
        except ConnectionLostError:
            raise
        except BrokerError as error:
            raise ParameterError(f"universe: {error}") from error
        if len(found) != 1:
            raise ParameterError(
                f"universe: expected one US stock for {symbol!r}, the broker knows {len(found)}"
            )
        return translate.instrument_of(found[0])

    def _open_line(self, ib: ib_insync.IB, line: Line) -> None:
        contract = translate.stock(line.instrument.symbol, line.instrument.con_id)
        contract.exchange = "SMART"
        ticker = ib.reqMktData(contract, _CONTRACT_NEWS_TICKS, False, False)
        self._remember(ib, ticker, line.instrument.symbol)

    async def _open_tape(self, ib: ib_insync.IB, provider: str) -> None:
        contract = translate.news_tape(provider)
        timeout_s = self._parameters.connection.request_timeout_s
        try:
            await ask(
                f"news tape {provider}",
                lambda: ib.reqContractDetailsAsync(contract),
                timeout_s=timeout_s,
            )
        except ConnectionLostError:
            raise
        except BrokerError as error:
            # The watch list's own headlines still come; one tape less is no reason to stop.
            self._on_incident("news tape", str(error))
            return
        self._remember(ib, ib.reqMktData(contract, _TAPE_TICKS, False, False), None)

    def _remember(self, ib: ib_insync.IB, ticker: ib_insync.Ticker, symbol: str | None) -> None:
        request = next(key for key, known in ib.wrapper.reqId2Ticker.items() if known is ticker)
        self._news_sources[request] = symbol
        if symbol is not None:
            self._tickers[id(ticker)] = symbol

    async def _probe(self, ib: ib_insync.IB) -> None:
        """Prove the line alive with time requests; in a replay they also carry the clock."""
        settings = self._parameters.connection
        every_s = _REPLAY_PROBE_S if self._clock.is_replay else settings.probe_every_s
        while True:
            await anyio.sleep(every_s)
            try:
                async with self._time_lock:
                    at_ns = await server_time_ns(ib, timeout_s=settings.request_timeout_s)
            except BrokerError as error:
                self._lose(f"probe: {error}")
                return
            self._clock.observe(at_ns)

    async def _watch_loss(self, scope: anyio.CancelScope) -> None:
        await self._lost.wait()
        scope.cancel()

    # --- steps -----------------------------------------------------------------------------

    @property
    def _address(self) -> str:
        settings = self._parameters.connection
        return f"{settings.host}:{settings.port} client id {settings.client_id}"

    def _connected(self) -> ib_insync.IB:
        if self._ib is None or not self._ib.isConnected():
            raise ConnectionLostError(f"not connected, state is {self.state.value}")
        return self._ib

    def _step(self, event: ConnectionEvent, cause: str) -> None:
        self.state = advance_connection(self.state, event)
        _log.info("connection: state=%s event=%s cause=%s", self.state.value, event.value, cause)
        self._on_transition(self.state, event, cause)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        for line in self.lines:
            line.wake()

    def _lose(self, cause: str) -> None:
        if not self._lost.is_set():
            self._lost_cause = cause
            self._lost.set()

    def _drop(self, cause: str) -> None:
        """Close the socket, if there is one, and say so once."""
        ib, self._ib = self._ib, None
        if ib is not None:
            ib.disconnect()  # type: ignore[no-untyped-call]  # the library has no annotation here
        self.lines.forget()
        if self.state is not ConnectionState.DISCONNECTED:
            self._step(ConnectionEvent.LOST, cause)

    # --- handlers of the library's events: translate and hand on ---------------------------

    def _listen(self, ib: ib_insync.IB) -> None:
        guarded = self._guarded
        translate.tap(ib.wrapper, "tickNews", guarded(self._hear_headline))
        translate.tap(ib.wrapper, "tickString", guarded(self._hear_trade))
        translate.tap(ib.wrapper, "orderStatus", guarded(self._hear_status))
        ib.disconnectedEvent += guarded(lambda: self._lose("the gateway closed the socket"))
        ib.errorEvent += guarded(self._hear_error)
        ib.pendingTickersEvent += guarded(self._hear_quotes)
        ib.execDetailsEvent += guarded(self._hear_execution)
        ib.commissionReportEvent += guarded(self._hear_commission)

    def _guarded(self, handler: Callable[..., None]) -> Callable[..., None]:
        def guarded(*values: Any) -> None:
            try:
                handler(*values)
            except DataError as error:
                _log.warning("refused: %s", error)
                self._on_incident("bad datum", str(error))
            except Exception as error:  # noqa: BLE001 - the library would swallow it
                _log.exception("a handler failed")
                self._on_incident("handler failed", f"{type(error).__name__}: {error}")

        return guarded

    def _hear_headline(
        self, request: int, stamp: int, provider: str, article: str, text: str, extra: str
    ) -> None:
        raw = RawHeadline(
            provider=provider,
            article_id=article,
            stamp=stamp,
            text=text,
            extra=extra,
            symbol=self._news_sources.get(request),
            subscribed_ns=self._subscribed_ns,
        )
        self._news_in.send_nowait(raw)

    def _hear_trade(self, request: int, tick_type: int, value: str) -> None:
        trade = translate.trade_of(tick_type, value)
        symbol = self._news_sources.get(request)
        line = self.lines.get(symbol) if symbol else None
        if trade is None or line is None:
            return
        self._clock.observe(trade.at_ns)
        line.hear_trade(trade)

    def _hear_quotes(self, tickers: set[ib_insync.Ticker]) -> None:
        now_ns = self._clock.now_ns()
        heard = {self._tickers[id(t)]: t for t in tickers if id(t) in self._tickers}
        for symbol in sorted(heard):
            line = self.lines.get(symbol)
            if line is not None:
                line.hear_quote(translate.quote_of(symbol, heard[symbol], now_ns))

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

    def _hear_error(self, request: int, code: int, text: str, _contract: object) -> None:
        if code in translate.UPSTREAM_LOST:
            self._step(ConnectionEvent.UPSTREAM_LOST, f"{code} {text}")
        elif code in translate.UPSTREAM_RESTORED:
            self._step(ConnectionEvent.UPSTREAM_RESTORED, f"{code} {text}")
            self._resync.set()
        elif request in self._order_refs:
            self._hear_order_error(request, code, text)
        else:
            _log.info("broker says: code=%d request=%d text=%s", code, request, text)
            self._last_error = f"{code} {text}"

    def _hear_order_error(self, order_id: int, code: int, text: str) -> None:
        rejected = code in translate.FINAL_ORDER_ERRORS
        event = OrderEvent.REJECT if rejected else None
        report = translate.OrderReport(
            self._order_refs[order_id], event, order_id, 0, f"{code} {text}"
        )
        self._reports_in.send_nowait(report)

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


def _report_stream() -> tuple[Any, MemoryObjectReceiveStream[Report]]:
    return anyio.create_memory_object_stream[Report](float("inf"))


def _is_confirmed_empty(error: ib_insync.RequestError) -> bool:
    return error.code == _NO_DATA_CODE and "no data" in error.message
