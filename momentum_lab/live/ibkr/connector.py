"""`IBKRConnector`: the only door to the broker, and the driver of the connection's life cycle.

One API connection at a time, made by a fresh library object. `run()` is the supervisor: it
connects, synchronises, lets the session reconcile its record with the broker's truth, makes the
subscriptions again, and only then is the connection OPERATIONAL. When the line breaks it comes
back by itself, after a wait that grows and is capped. The tables of states and of waits are in
`momentum_lab.core.connection`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
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
from momentum_lab.core.order import OrderIntent
from momentum_lab.errors import (
    BrokerError,
    ConnectionLostError,
    MomentumLabError,
    ParameterError,
)
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.hearing import Ears, OnIncident
from momentum_lab.live.ibkr.subscriptions import Lines, QuoteStream, Subscriptions
from momentum_lab.live.ibkr.synchronisation import (
    BrokerSnapshot,
    ask,
    server_time_ns,
    take_snapshot,
)
from momentum_lab.live.ibkr.translate import Account, RawHeadline
from momentum_lab.parameters import Parameters

_log = logging.getLogger(__name__)

# A replay is anchored on the gateway's clock this often, in seconds of market time; nobody waits
# for these requests.
_REPLAY_PROBE_MARKET_S = 6.0
_TIME_REQUESTS_APART_S = 1.1

Reconcile = Callable[[BrokerSnapshot], Awaitable[None]]
OnTransition = Callable[[ConnectionState, ConnectionEvent, str], None]


class IBKRConnector:
    """One supervised connection to TWS, IB Gateway or the paper gateway.

    Attributes:
        state: where the connection stands.
        last_loss: why the last connection or attempt ended; empty before the first.
        lines: the registry of desired market data lines.
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
        self.last_loss = ""
        self.lines = Lines()
        self._parameters = parameters
        self._clock = clock
        self._on_transition = on_transition
        self._on_incident = on_incident
        self._ib: ib_insync.IB | None = None
        self._account = ""
        self._was_operational = False
        self._operational_since_s: float | None = None
        self._operational_s = 0.0
        self._is_reconciled = False
        self._upstream_is_lost = False
        self._asked_time_s = 0.0
        self._refusal: MomentumLabError | None = None
        self._lost = anyio.Event()
        self._lost_cause = ""
        self._resync = anyio.Event()
        self._changed = anyio.Event()
        self._time_lock = anyio.Lock()
        self._ears = Ears(self.lines, clock, on_incident)
        self.reports = self._ears.reports
        self._subscriptions = Subscriptions(
            self.lines, self._ears, clock=clock, parameters=parameters, on_incident=on_incident
        )

    # --- what the services ask -------------------------------------------------------------

    def is_operational(self) -> bool:
        """Whether entries may be sent: socket up, synchronised, reconciled, upstream there."""
        return self.state is ConnectionState.OPERATIONAL and not self._lost.is_set()

    def may_exit(self) -> bool:
        """Whether exits may be sent: OPERATIONAL, or reconciled while the lines come back."""
        is_coming_back = self.state is ConnectionState.SYNCHRONIZING and self._is_reconciled
        return self.is_operational() or (is_coming_back and not self._lost.is_set())

    def follow(self, symbol: str) -> None:
        """Open a line for a symbol outside the universe too, from the next synchronisation on."""
        self._subscriptions.follow(symbol)

    async def wait_changed(self) -> None:
        """Return after the next step of the life cycle."""
        await self._changed.wait()

    def account(self) -> Account:
        """Return equity and buying power as last reported; only US dollars are read."""
        rows = self._ib.accountValues(self._account) if self._ib is not None else []
        return translate.account_of(rows)

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
        self._subscriptions.want_news()
        return self._ears.news

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
            if isinstance(cause, ib_insync.RequestError) and translate.says_no_data(cause):
                return ()
            raise
        return translate.bars_of(bars, seconds=seconds)

    def place_order(self, order: OrderIntent) -> int:
        """Send a market order and return the broker's order id; the outcome comes as reports.

        Raises:
            ConnectionLostError: not OPERATIONAL (an exit: not reconciled); nothing has been sent.
        """
        allowed = self.may_exit() if order.trade_id is not None else self.is_operational()
        if not allowed:
            raise ConnectionLostError(f"order {order.order_ref}: state is {self.state.value}")
        ib = self._connected()
        order_id = ib.client.getReqId()
        self._ears.expect_order(order_id, order.order_ref)
        message = translate.market_order(order, account=self._account)
        message.orderId = order_id
        ib.placeOrder(translate.stock(order.symbol, order.con_id), message)
        return order_id

    def cancel_order(self, order_ref: str) -> None:
        """Ask the broker to cancel one of our orders; nothing where this connection knows none."""
        order_id = self._ears.order_id(order_ref)
        if order_id is not None and self.may_exit():
            self._connected().client.cancelOrder(order_id, "")

    async def resynchronise(self, why: str) -> None:
        """Leave OPERATIONAL and ask the broker for everything again, on the same socket."""
        if self.may_exit():
            self._hear_connection(ConnectionEvent.UPSTREAM_RESTORED, why)

    def close(self) -> None:
        """Close the streams of news and reports; for the end of a session."""
        self._ears.close()

    # --- the supervisor --------------------------------------------------------------------

    async def run(self, reconcile: Reconcile) -> None:
        """Keep the connection up until cancelled.

        Args:
            reconcile: called with the broker's truth before the connection is OPERATIONAL.

        Raises:
            ParameterError: the account or the universe is refused; trying again would not help.
            BrokerError: the client id is taken before this connector was ever OPERATIONAL. Later
                a taken id is the lingering socket of our own lost connection, and is retried.
        """
        failures = 0
        try:
            while True:
                operational_s = await self._one_connection(reconcile)
                if self._refusal is not None:
                    raise self._refusal
                if self._ears.client_id_taken and not self._was_operational:
                    raise BrokerError(
                        f"{self._address}: the client id is in use by another program;"
                        " stop that one or choose another connection.client_id"
                    )
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
        self._upstream_is_lost = False
        self._operational_s = 0.0
        self._step(ConnectionEvent.ATTEMPT, self._address)
        try:
            ib = await self._open_socket()
            self._step(ConnectionEvent.SOCKET_READY, self._address)
            if self._upstream_is_lost:
                self._step(ConnectionEvent.UPSTREAM_LOST, self._ears.last_error)
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch_loss, group.cancel_scope, name="watch loss")
                group.start_soon(self._probe, ib, name="probe")
                await self._synchronise_for_ever(ib, reconcile)
        except ConnectionLostError as error:
            self._lose(str(error))
        finally:
            self._drop(self._lost_cause or "cancelled")
        return self._operational_s

    async def _open_socket(self) -> ib_insync.IB:
        ib = ib_insync.IB()
        ib.RaiseRequestErrors = True
        self._ib = ib
        self._ears.attach(ib, self._hear_connection)
        settings = self._parameters.connection
        # The library waits out its time limit after a refusal; the loss of the socket ends it.
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_loss, group.cancel_scope, name="watch loss")
            try:
                with anyio.fail_after(settings.connect_timeout_s):
                    await ib.connectAsync(
                        settings.host,
                        settings.port,
                        clientId=settings.client_id,
                        timeout=settings.connect_timeout_s / 2,
                        account=self._parameters.account,
                    )
            # On Python 3.10 asyncio has a TimeoutError of its own.
            except (TimeoutError, asyncio.TimeoutError, OSError) as error:
                self._lose(str(error) or "no answer to the handshake")
            group.cancel_scope.cancel()
        if self._lost.is_set():
            raise ConnectionLostError(f"{self._address}: {self._lost_cause}")
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
                await self._space_time_requests()
                snapshot = await take_snapshot(ib, self._parameters, self._clock)
            self._account = snapshot.account
            await reconcile(snapshot)
            self._set_reconciled()
            await self._subscriptions.renew(ib, is_first=not self._was_operational)
        except BrokerError as error:
            self._lose(f"synchronisation: {error}")
            return
        except ParameterError as error:
            # A person's mistake: the same would happen again on the next connection.
            self._refusal = error
            self._lose(str(error))
            return
        except MomentumLabError as error:
            # The record's doing, perhaps for a moment only: the next connection tries again.
            self._on_incident("not reconciled", str(error))
            self._lose(f"synchronisation: {error}")
            return
        if self.state is ConnectionState.SYNCHRONIZING and not self._resync.is_set():
            self._step(ConnectionEvent.SYNCHRONIZED, "broker and record agree")

    def _set_reconciled(self) -> None:
        """Let exits leave from here on; the lines may take their time."""
        self._is_reconciled = self.state is ConnectionState.SYNCHRONIZING
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _space_time_requests(self) -> None:
        """Keep time requests apart: the broker leaves the second of two within a second unanswered.

        Only our own paper gateway answers all of them, which a replay relies on.
        """
        if not self._clock.is_replay:
            await anyio.sleep(max(0.0, self._asked_time_s + _TIME_REQUESTS_APART_S - transport_s()))
        self._asked_time_s = transport_s()

    async def _probe(self, ib: ib_insync.IB) -> None:
        """Prove the line alive with time requests; in a replay they also carry the clock."""
        settings = self._parameters.connection
        every_s = settings.probe_every_s
        if self._clock.is_replay:
            every_s = _REPLAY_PROBE_MARKET_S / self._parameters.replay.speed
        while True:
            await anyio.sleep(every_s)
            try:
                async with self._time_lock:
                    await self._space_time_requests()
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
        self._time_operational()
        self._is_reconciled = self.is_operational()
        self._was_operational = self._was_operational or self.is_operational()
        _log.info("connection: state=%s event=%s cause=%s", self.state.value, event.value, cause)
        self._on_transition(self.state, event, cause)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        for line in self.lines:
            line.wake()

    def _time_operational(self) -> None:
        """Add up how long this connection has been OPERATIONAL; after each step."""
        now_s = transport_s()
        if self._operational_since_s is not None:
            self._operational_s += now_s - self._operational_since_s
        is_operational = self.state is ConnectionState.OPERATIONAL
        self._operational_since_s = now_s if is_operational else None

    def _hear_connection(self, event: ConnectionEvent, cause: str) -> None:
        if event is ConnectionEvent.LOST:
            self._lose(cause)
            return
        self._upstream_is_lost = event is ConnectionEvent.UPSTREAM_LOST
        self._step(event, cause)
        if event is ConnectionEvent.UPSTREAM_RESTORED:
            self._resync.set()

    def _lose(self, cause: str) -> None:
        if not self._lost.is_set():
            self._lost_cause = self.last_loss = cause
            self._lost.set()

    def _drop(self, cause: str) -> None:
        """Close the socket, if there is one, and say so once."""
        ib, self._ib = self._ib, None
        self._ears.detach()
        if ib is not None:
            ib.disconnect()
        self._subscriptions.forget()
        if self.state is not ConnectionState.DISCONNECTED:
            self._step(ConnectionEvent.LOST, cause)
