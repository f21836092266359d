"""The gateway's heart: moves the clock, and tells every client what it wants to hear.

Theory of operation. One task plays the tape: each few milliseconds it asks the schedule how far
market time may go, lets the market yield what happens on the way, the exchange react, and the
sessions queue their messages. While slow, one market second at a time is played and written.
Clients' requests are handled between two steps, so every answer is about one instant.

What changes an account is saved before the bytes that tell of it leave.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

import anyio
import anyio.lowlevel

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway import state
from momentum_lab.gateway.account import Account
from momentum_lab.gateway.broadcast import (
    tell_account,
    tell_bars,
    tell_event,
    tell_headline,
    tell_profits,
)
from momentum_lab.gateway.bulletins import BulletinBoard
from momentum_lab.gateway.catalog import Catalog
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.faults.director import Director
from momentum_lab.gateway.journal import Journal
from momentum_lab.gateway.limits import HistoryBudget
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, MarketEvent, QuoteChange, Trade
from momentum_lab.gateway.news_desk import NewsDesk
from momentum_lab.gateway.orders import ExchangeEvent, Executed, StatusShown
from momentum_lab.gateway.pace import Schedule
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.streaming import Streaming
from momentum_lab.gateway.streams import REAL_TIME_S
from momentum_lab.gateway.wire import Request
from momentum_lab.records.tape import TapeHeadline

_log = logging.getLogger(__name__)

Report = Callable[[str], None]
# A stall of the process stalls the market: no jump over what a client should have seen.
MAX_STEP_S = 0.1
# Played at one go while fast: a few kilobytes for a client, well below what conflates.
FAST_PIECE_NS = 10 * NS_PER_S
REAL_TIME_NS = REAL_TIME_S * NS_PER_S
SHORTEST_NAP_S, HELD_NAP_S, LONGEST_NAP_S = 0.005, 0.05, 1.0
ROUNDING_S = 1e-6
# Market time after a crash goes back by this much wall time at most.
SAVE_EVERY_S = 0.1
REPORT_EVERY_S = 1.0
# What a scenario may wait for, by the request that it is.
_EVENTS_OF_REQUESTS = {"placeOrder": "order", "reqMktData": "subscribe"}
ACCOUNT_EVERY_NS = 180 * NS_PER_S


class Hub:
    """One running gateway without its sockets.

    Attributes:
        settings: how it was started.
        market: the tape and market time.
        exchange: the account and its orders.
        catalog: what can be asked for by contract.
        sessions: connected clients by client id.
        has_streamed: a client has subscribed to market data; the clock runs.
        is_paused: market time stands still until it is let go on.
        logs_wire: every message is written to a wire log.
        journal: what truly happened.
        streaming: the open lines of all clients.
        bulletins: what the broker announces.
        faults: what goes wrong.
        history_budget: the historical requests of all clients.
        news_desk: the requests for past headlines and articles.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        market: Market,
        exchange: Exchange,
        tape_id: str,
        has_streamed: bool,
        report: Report | None = None,
    ) -> None:
        """Put the parts together; nothing runs before `play`."""
        self.settings = settings
        self.market = market
        self.exchange = exchange
        self.catalog = Catalog(market.tape)
        self.sessions: dict[int, Session] = {}
        self.has_streamed = has_streamed or not settings.hold
        self.schedule = Schedule(
            settings.pace,
            headlines_ns=[item.at_ns for item in market.tape.headlines],
            end_ns=market.tape.end_ns,
        )
        self._tape_id = tape_id
        self._wire_log: TextIO | None = None
        self.logs_wire = False
        self._report = report or (lambda text: _log.info("%s", text))
        self._account_told_ns = 0
        self._second = market.now_ns // NS_PER_S
        self._day = market.hours.day(market.now_ns)
        self._has_reported_end = False
        self.is_paused = False
        self.journal = Journal()
        self.streaming = Streaming(self, sample_ms=settings.sample_ms)
        self.bulletins = BulletinBoard(self)
        self.faults = Director(self, settings.scenario)
        self.history_budget = HistoryBudget()
        self.news_desk = NewsDesk(settings.limits.news_answer_s)

    @property
    def account(self) -> Account:
        """The paper account."""
        return self.exchange.account

    # -- clients ----------------------------------------------------------------------------

    def admit(self, session: Session, client_id: int) -> bool:
        """Register a client; False when its id is in use."""
        if client_id in self.sessions or self.faults.turns_away(client_id):
            return False
        self.sessions[client_id] = session
        self._report(f"client {client_id} connected")
        self.note("connect", client_id=client_id)
        return True

    def leave(self, session: Session) -> None:
        """Forget a client whose connection has ended."""
        self.faults.forget(session)
        if session.client_id is not None and self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
            self._report(f"client {session.client_id} disconnected")
            self.journal.write(self.market.now_ns, "disconnect", client_id=session.client_id)

    def takes(self, session: Session, request: Request) -> bool:
        """Return whether a request is heard; faults may keep it from being."""
        name = request.name
        is_heard = not self.faults.active or self.faults.hears(session, name)
        if name in ("placeOrder", "cancelOrder", "reqMktData"):
            number = request.values.get("order_id", request.values.get("req_id"))
            facts = {"client_id": session.client_id, "id": number, "is_heard": is_heard}
            self.journal.write(self.market.now_ns, name, **facts)
        if is_heard:
            self.faults.on_event(f"request:{name}")
            event = _EVENTS_OF_REQUESTS.get(name)
            if event is not None:
                self.faults.on_event(event)
        return is_heard

    def note(self, what: str, **facts: object) -> None:
        """Write down what happened, and let the faults that wait for it begin."""
        self.journal.write(self.market.now_ns, what, **facts)
        self.faults.on_event(what)

    def publish(self, events: Iterable[ExchangeEvent]) -> None:
        """Save what has happened to the account, then tell it in its order."""
        events = list(events)
        if not events:
            return
        self.save()
        for event in events:
            tell_event(self, event)
            self._note_event(event)

    def tell_headline(self, headline: TapeHeadline) -> None:
        """Tell a headline to those who want it."""
        tell_headline(self, headline)
        self.note("headline", provider=headline.provider, article_id=headline.article_id)

    def _note_event(self, event: ExchangeEvent) -> None:
        if isinstance(event, Executed):
            fill = event.execution
            facts = {
                "exec_id": fill.exec_id,
                "perm_id": fill.perm_id,
                "client_id": fill.client_id,
                "order_id": fill.order_id,
                "symbol": fill.symbol,
                "side": fill.side.value,
                "shares": fill.shares,
                "price_usd": fill.price_usd,
            }
            self.note("fill", **facts)
        elif isinstance(event, StatusShown):
            order = event.order
            facts = {
                "perm_id": order.perm_id,
                "client_id": order.ticket.client_id,
                "order_id": order.ticket.order_id,
                "status": order.status,
                "filled": order.filled,
            }
            self.journal.write(self.market.now_ns, "status", **facts)

    # -- time -------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether the tape has to be played slowly, whatever the headlines."""
        return self.exchange.is_busy or not self.sessions

    async def play(self) -> None:
        """Move market time for ever."""
        last_s = saved_s = reported_s = anyio.current_time()
        while True:
            nap_s = self._nap_s()
            await anyio.sleep(nap_s)
            now_s = anyio.current_time()
            if self.has_streamed and not self.is_paused:
                await self._move(min(now_s - last_s, nap_s + MAX_STEP_S))
            last_s = now_s
            if now_s - saved_s >= SAVE_EVERY_S:
                saved_s = now_s
                # Nothing but market time has moved: that may be lost in a power cut.
                self.save(is_durable=False)
            if now_s - reported_s >= REPORT_EVERY_S:
                reported_s = now_s
                self._report_time()

    def step_to(self, to_ns: int) -> None:
        """Move market time to `to_ns` and tell everything that happens on the way."""
        while (due_ns := self._next_due_ns()) is not None and due_ns < to_ns:
            self._play_to(max(due_ns, self.market.now_ns))
        self._play_to(to_ns)
        if to_ns // NS_PER_S != self._second:
            self._second = to_ns // NS_PER_S
            self._on_second()

    def _next_due_ns(self) -> int | None:
        due = (
            self.exchange.next_due_ns(),
            self.bulletins.next_due_ns(),
            self.faults.next_due_ns(),
            self.streaming.next_due_ns(),
        )
        return min((at_ns for at_ns in due if at_ns is not None), default=None)

    def _play_to(self, to_ns: int) -> None:
        for event in self.market.advance(to_ns):
            self.tell_market(event)
        self.streaming.on_time()
        self.publish(self.exchange.on_time())
        self.bulletins.on_time()
        self.faults.on_time()

    def tell_market(self, event: MarketEvent) -> None:
        """Tell something that the market does, and let the exchange act on it."""
        if isinstance(event, Trade):
            self.streaming.tell(event)
            self.publish(self.exchange.on_trade(event))
        elif isinstance(event, QuoteChange):
            self.streaming.tell(event)
            self.publish(self.exchange.on_quote(event))
        elif isinstance(event, HaltChange):
            self.note("halt", symbol=event.symbol, kind=event.kind)
            self.streaming.tell_halt(event)
            self.publish(self.exchange.on_halt(event))
        else:
            self.tell_headline(event)

    def halt(self, symbol: str, kind: int) -> None:
        """Halt a symbol beside what the tape says, or leave it to the tape, now, and tell it.

        Args:
            symbol: a symbol of the tape.
            kind: one of `tape_ticks.HALT_KINDS`.
        """
        for event in self.market.impose_halt(symbol, kind):
            self.tell_market(event)

    def _next_mark_ns(self, now_ns: int) -> int:
        """Return where a piece of time has to end: what is told by the clock is told there."""
        if self.is_busy or self.schedule.is_slow(now_ns):
            grid_ns = NS_PER_S
        else:
            grid_ns = REAL_TIME_NS if self.streaming.has_real_time_bars else FAST_PIECE_NS
        return (now_ns // grid_ns + 1) * grid_ns

    def steps_to(self, to_ns: int) -> Iterator[None]:
        """Move market time to `to_ns` piece by piece, so that nothing told by the clock is lost."""
        while (now_ns := self.market.now_ns) < to_ns:
            self.step_to(min(to_ns, self._next_mark_ns(now_ns)))
            yield

    async def _move(self, elapsed_s: float) -> None:
        target_ns = self.schedule.step(self.market.now_ns, seconds=elapsed_s, is_busy=self.is_busy)
        for _ in self.steps_to(target_ns):
            # Writers and readers have their turn: what a piece said leaves before the next.
            await anyio.lowlevel.checkpoint()
        if self.market.has_ended and not self._has_reported_end:
            self._has_reported_end = True
            self._report("the tape has ended; the market is closed")

    def _nap_s(self) -> float:
        """Return how long to sleep: to the next event, or to the next whole second before it."""
        if not self.has_streamed:
            return HELD_NAP_S
        now_ns = self.market.now_ns
        due_ns = (now_ns // NS_PER_S + 1) * NS_PER_S
        next_ns = self.market.next_event_ns()
        if next_ns is not None:
            due_ns = min(due_ns, max(next_ns, now_ns))
        speed = self.schedule.speed(now_ns, is_busy=self.is_busy)
        # A nap that ends too early by a rounding would end in a second one.
        nap_s = (due_ns - now_ns) / (speed * NS_PER_S) + ROUNDING_S
        return min(max(nap_s, SHORTEST_NAP_S), LONGEST_NAP_S)

    def _on_second(self) -> None:
        today = self.market.hours.day(self.market.now_ns)
        if today != self._day:
            self._day = today
            self.exchange.on_day()
            ledger = self.account.ledger
            ledger.opening_usd = ledger.value(self.market.previous_close).equity
        tell_bars(self)
        self.streaming.on_second()
        tell_profits(self)
        due_ns = self._account_told_ns + ACCOUNT_EVERY_NS
        if self.exchange.is_busy and self.market.now_ns >= due_ns:
            tell_account(self)
            self._account_told_ns = self.market.now_ns

    # -- records ----------------------------------------------------------------------------

    def keep_records(self, *, wire_log: TextIO | None, journal: TextIO | None) -> None:
        """Write every message and what truly happens to files from now on, where one is given."""
        self._wire_log, self.logs_wire = wire_log, wire_log is not None
        self.journal.file = journal

    def save(self, *, is_durable: bool = True) -> None:
        """Write the state file, if there is to be one; see `state.save`."""
        if self.settings.state is not None:
            state.save(
                self.settings.state,
                tape_id=self._tape_id,
                now_ns=self.market.now_ns,
                has_streamed=self.has_streamed,
                exchange=self.exchange,
                hidden=self.market.hidden,
                is_durable=is_durable,
            )

    def log_wire(self, direction: str, client_id: int | None, content: Any) -> None:
        """Write one line of the wire log, if there is one; `content` of replies is frames."""
        if self._wire_log is None:
            return
        if isinstance(content, bytes):
            content = content[4:-1].decode("utf-8", "replace").split("\0")
        line = [direction, client_id, self.market.now_ns, content]
        self._wire_log.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def _report_time(self) -> None:
        text = self.market.hours.text(self.market.now_ns)
        speed = self.schedule.speed(self.market.now_ns, is_busy=self.is_busy)
        doing = f"at {speed:g}x" if self.has_streamed else "held until a client streams"
        line = f"market time {text} {doing} clients={len(self.sessions)}"
        line += f" orders={len(self.exchange.live_orders())}"
        if self.faults.active:
            line += f" faults={','.join(fault.name for fault in self.faults.active)}"
        self._report(line)
