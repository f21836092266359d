"""`IBKRConnector`: the only door to the broker.

What the services may ask of the broker, as one object. The connection behind it is kept up by a
supervisor (`momentum_lab.live.ibkr.supervisor`): it connects, synchronises, lets the session
reconcile its record with the broker's truth, makes the subscriptions again, sees them flow, and
only then is the connection OPERATIONAL. When the line breaks it comes back by itself.

Everything here is asynchronous and belongs to one event loop. For a look from a notebook without
any session there is `momentum_lab.live.ibkr.look`.
"""

from __future__ import annotations

from collections.abc import Awaitable

import anyio
import ib_insync
from anyio.streams.memory import MemoryObjectReceiveStream

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.candle import MINUTE_S
from momentum_lab.core.connection import ConnectionState
from momentum_lab.core.market import Instrument
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.core.pacing import Priority
from momentum_lab.core.position import Fill
from momentum_lab.errors import BrokerError, ConnectionLostError, ParameterError
from momentum_lab.live.ibkr import candles, translate
from momentum_lab.live.ibkr.account_values import Account
from momentum_lab.live.ibkr.asking import ask
from momentum_lab.live.ibkr.candles import CandleOutcome, Candles
from momentum_lab.live.ibkr.incidents import OnIncident
from momentum_lab.live.ibkr.line import Line, OnHeard, QuoteStream
from momentum_lab.live.ibkr.supervisor import OnTransition, Reconcile, Supervisor, Transition
from momentum_lab.live.ibkr.synchronisation import (
    BrokerSnapshot,
    Checked,
    Checklist,
    Holdings,
    ask_for_books,
    ask_for_holdings,
    held,
)
from momentum_lab.live.ibkr.translate import RawHeadline, WorkingOrder
from momentum_lab.parameters import Parameters


class IBKRConnector:
    """One supervised connection to TWS, IB Gateway or the paper gateway.

    Attributes:
        lines: the registry of desired market data lines.
        reports: stream of executions, commissions, positions and order messages, read by
            the ExecutionService. Nothing is ever dropped from it.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        clock: Clock,
        on_transition: OnTransition,
        on_incident: OnIncident,
        on_heard: OnHeard = lambda _line: None,
    ) -> None:
        """Make a connector that does nothing until `run()`.

        Args:
            parameters: the checked set.
            clock: market time; in a replay it is anchored here.
            on_transition: hears each step of the life cycle with its cause.
            on_incident: hears (kind, text) of what a person should look at.
            on_heard: hears of each line that has said something; it must be quick.
        """
        self._parameters = parameters
        self._clock = clock
        self._line = Supervisor(
            parameters,
            clock=clock,
            on_transition=on_transition,
            on_incident=on_incident,
            on_heard=on_heard,
        )
        self._ears = self._line.ears
        self._subscriptions = self._line.subscriptions
        self.lines = self._line.lines
        self.reports = self._ears.reports

    async def run(self, reconcile: Reconcile) -> None:
        """Keep the connection up until cancelled.

        Args:
            reconcile: called with the broker's truth before the connection is OPERATIONAL.

        Raises:
            ParameterError: the account or the universe is refused; trying again would not help.
            BrokerError: the client id is taken before this connector was ever OPERATIONAL. Later
                a taken id is the lingering socket of our own lost connection, and is retried.
        """
        await self._line.run(reconcile)

    def close(self) -> None:
        """Close the streams of news, reports and transitions; for the end of a session."""
        self._line.close()

    # --- the gate --------------------------------------------------------------------------

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._line.state

    @property
    def last_loss(self) -> str:
        """Why the last connection or attempt ended; empty before the first."""
        return self._line.last_loss

    @property
    def checklist(self) -> tuple[Checked, ...]:
        """The items of the last synchronisation, with their times and what failed."""
        return self._line.checklist

    def is_operational(self) -> bool:
        """Whether entries may be sent: socket up, synchronised, reconciled, upstream there.

        False also while a time request of ours is open for too long, or the clocks differ.
        """
        return self._line.is_operational()

    def may_exit(self) -> bool:
        """Whether exits may be sent: OPERATIONAL, or reconciled while the lines come back."""
        return self._line.may_exit()

    async def prove_alive(self) -> bool:
        """Return whether an entry may be sent now; asks the gateway when the line was quiet.

        For the moment before an entry. Returns at once when something was just heard.
        """
        return await self._line.prove_alive()

    async def wait_changed(self) -> None:
        """Return after the next step of the life cycle."""
        await self._line.wait_changed()

    def transitions(self) -> MemoryObjectReceiveStream[Transition]:
        """Return a stream of every step of the life cycle from now on; close it when done."""
        return self._line.transitions()

    # --- what the services ask -------------------------------------------------------------

    def account(self) -> Account:
        """Return equity, buying power and cash as last reported; only US dollars are read.

        All are None once the account has been silent for twice as long as it may be.
        """
        if self.account_silent_s > 2 * self._parameters.liveness.account_quiet_s:
            return Account(None, None)
        return self._ears.account_values()

    @property
    def account_silent_s(self) -> float:
        """Seconds of transport time since the account's last word, inf before the first."""
        return transport_s() - self._ears.account_heard_s

    def instrument(self, ticker: str) -> Instrument | None:
        """Return the instrument of a symbol that has been looked up, else None."""
        return self._subscriptions.contracts.get(ticker)

    def follow(self, symbol: str) -> None:
        """Want a line for a symbol outside the universe too, from the next synchronisation on."""
        self._subscriptions.follow(symbol)

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

    async def open_line(self, ticker: str) -> Line:
        """Return the line of a symbol, asked for now when it has none.

        Raises:
            ParameterError: the broker does not know the symbol.
            BrokerError: no line is free, and none can be given up.
            ConnectionLostError: not connected, or no answer.
        """
        return await self._subscriptions.open(self._connected(), ticker)

    async def fetch_candles(
        self, ticker: str, *, duration: str = "2 D", seconds: int = MINUTE_S
    ) -> Candles:
        """Return historical trade bars of the regular session up to now.

        Args:
            ticker: a stock; it needs no line.
            duration: the broker's spelling, e.g. "3600 S", "2 D".
            seconds: bar length, e.g. 5, 60, 3600.

        Returns:
            Bars, confirmed empty, or not known with the reason: no connection, no answer, or
            refused. Nothing may be concluded from what is not known.

        Raises:
            ParameterError: the broker has no bars of this length.
        """
        try:
            ib = self._connected()
            instrument = await self._subscriptions.contracts.look_up(ib, ticker)
        except (BrokerError, ParameterError) as error:
            return Candles(CandleOutcome.UNKNOWN, words=str(error))

        def request() -> Awaitable[Candles]:
            return candles.fetch(
                ib, instrument, duration=duration, seconds=seconds, timeout_s=self._request_s
            )

        try:
            # Who asks for what is already under way gets the same answer.
            return await self._line.desk.ask(
                candles.key_of(instrument, duration=duration, seconds=seconds), request
            )
        except ConnectionLostError as error:
            return Candles(CandleOutcome.UNKNOWN, words=str(error))

    async def positions(self) -> dict[int, float]:
        """Return con_id -> signed shares of the account, asked for now.

        Raises:
            ConnectionLostError: not known: not connected, or no answer. Never read it as flat.
        """
        ib = self._connected()
        async with self._line.asking:
            rows = await ask("positions", ib.reqPositionsAsync, timeout_s=self._request_s)
        return held(rows, self._ears.account)

    async def audit(self) -> BrokerSnapshot:
        """Return positions, orders and executions as the broker has them, asked for now.

        Without leaving OPERATIONAL: what changes while it is asked for may be in one list and not
        in the other.

        Raises:
            ConnectionLostError: not known: not connected, or no answer. Never read it as flat.
        """
        ib = self._connected()
        async with self._line.asking:
            return await ask_for_books(
                ib,
                Checklist(),
                self._ears.completed,
                account=self._ears.account,
                server_ns=self._clock.now_ns(),
                timeout_s=self._request_s,
            )

    async def holdings(self) -> Holdings:
        """Return positions and open orders as the broker has them, asked for now.

        Raises:
            ConnectionLostError: not known: not connected, or no answer. Never read it as flat.
        """
        ib = self._connected()
        async with self._line.asking:
            return await ask_for_holdings(ib, account=self._ears.account, timeout_s=self._request_s)

    async def executions_since(self, at_ns: int) -> tuple[Fill, ...]:
        """Return our executions from an instant on, oldest first, asked for now.

        Args:
            at_ns: UTC epoch nanoseconds. The broker remembers those since its midnight.

        Raises:
            ConnectionLostError: not known: not connected, or no answer.
        """
        ib = self._connected()
        found = await ask("executions", ib.reqExecutionsAsync, timeout_s=self._request_s)
        fills = [translate.fill_of(one) for one in found if translate.is_ours(one)]
        return tuple(sorted((f for f in fills if f.at_ns >= at_ns), key=lambda f: f.at_ns))

    async def place_order(self, order: OrderIntent, *children: OrderIntent) -> tuple[int, ...]:
        """Send an order and its children; return the broker's order ids, in the same order.

        The gate is looked at and the orders leave without anything in between; they never wait.
        They leave in one write, and the broker holds a family back until its last member has
        arrived, so a connection that breaks in between has sent nothing. The outcome comes as
        reports.

        Args:
            order: what to send.
            children: what the broker makes live once `order` fills, and cancels with it.

        Raises:
            ConnectionLostError: not OPERATIONAL (what is no entry: not reconciled), or too many
                messages have just left; nothing has been sent.
        """
        family = (order, *children)
        priority = self._let_out(order, n=len(family))
        ib = self._connected()
        order_ids = tuple(ib.client.getReqId() for _ in family)
        contract = translate.stock(order.symbol, order.con_id)
        messages = [
            translate.order_of(
                member,
                order_id=order_id,
                account=self._ears.account,
                parent_id=0 if member is order else order_ids[0],
                transmit=member is family[-1],
            )
            for order_id, member in zip(order_ids, family, strict=True)
        ]
        told_group = self._ears.told_group(order.joins)
        if told_group is not None:
            messages[0].ocaGroup, messages[0].ocaType = told_group
        limiter = self._line.limiter
        with limiter.speaking(priority), limiter.together():
            for message in messages:
                self._ears.expect_order(message.orderId, message.orderRef)
                ib.client.placeOrder(message.orderId, contract, message)
        for message in messages:
            translate.follow(ib, contract, message)
        return order_ids

    async def change_order(self, order: OrderIntent) -> None:
        """Change price and quantity of a working order; the broker's answer comes as a report.

        Args:
            order: as it is meant now, under its own reference.

        Raises:
            ConnectionLostError: not reconciled, too many messages have just left, or the broker
                has not described the order in this connection; nothing has been sent.
        """
        priority = self._let_out(order, n=1)
        known = self._ears.working(order.order_ref)
        if known is None:
            raise ConnectionLostError(
                f"order {order.order_ref}: the broker has not told of it in this connection"
            )
        message = translate.order_of(
            order,
            order_id=known.order_id,
            account=self._ears.account,
            parent_id=self._ears.live_parent(known),
        )
        # As the broker tells it: to name a group otherwise is to ask for another one, and refused.
        message.ocaGroup, message.ocaType = known.oca_group, known.oca_type
        self._ears.expect_change(known.order_id)
        # Not by the library's own function: it refuses to change what it takes for finished, and
        # it takes an order for finished when a code of the broker merely warned of it.
        with self._line.limiter.speaking(priority):
            self._connected().client.placeOrder(
                known.order_id, translate.stock(order.symbol, order.con_id), message
            )

    def mark_reports(self) -> anyio.Event:
        """Return what is set once all that was reported until now has been read."""
        return self._ears.mark()

    def working(self, order_ref: str) -> WorkingOrder | None:
        """Return one of our orders as the broker last described it in this connection, or None."""
        return self._ears.working(order_ref)

    def _let_out(self, order: OrderIntent, *, n: int) -> Priority:
        """Return the class that `n` messages of an order may leave in, now.

        Raises:
            ConnectionLostError: the gate is closed, or there is no room for them.
        """
        self._refuse_shadow(order.order_ref)
        is_entry = order.purpose is OrderPurpose.ENTRY
        if not (self.is_operational() if is_entry else self.may_exit()):
            raise ConnectionLostError(f"order {order.order_ref}: state is {self.state.value}")
        priority = Priority.ENTRY if is_entry else Priority.EXIT
        wait_s = self._line.limiter.wait_s(priority, n=n)
        if wait_s > 0:
            # An order that waited would leave after its gate had been looked at.
            raise ConnectionLostError(
                f"order {order.order_ref}: no message may leave for {wait_s:.2f} s, the limit of"
                " messages a second is used up"
            )
        return priority

    def use_ids_above(self, order_id: int) -> None:
        """Never give an order an id that one of ours had, whatever the broker says is next.

        A gateway that was restarted may count from further back: an order under a used id is taken
        for the change of an old one.
        """
        if self._line.ib is not None:
            self._line.ib.client.updateReqId(order_id + 1)

    async def cancel_order(self, order_ref: str) -> bool:
        """Ask the broker to cancel one of our orders; return whether the request has left.

        It does not when this connection does not know the order, or may not send anything.
        """
        self._refuse_shadow(order_ref)
        order_id = self._ears.order_id(order_ref)
        if order_id is None or not self.may_exit():
            return False
        self._connected().client.cancelOrder(order_id, "")
        return True

    async def resynchronise(self, why: str) -> None:
        """Leave OPERATIONAL and ask the broker for everything again, on the same socket.

        Lines and tapes flow on: it is our own doubt, and the broker was not away.
        """
        if self.may_exit():
            self._line.hear_restored(why, do_lines_flow=True)

    def _refuse_shadow(self, order_ref: str) -> None:
        """Let nothing leave in a session that only decides; each door for orders asks first."""
        if self._parameters.mode == "shadow":
            raise BrokerError(f"order {order_ref}: mode shadow sends nothing")

    # --- inside ----------------------------------------------------------------------------

    @property
    def _request_s(self) -> float:
        return self._parameters.connection.request_timeout_s

    def _connected(self) -> ib_insync.IB:
        ib = self._line.ib
        if ib is None or not ib.isConnected():
            raise ConnectionLostError(f"not connected, state is {self.state.value}")
        return ib
