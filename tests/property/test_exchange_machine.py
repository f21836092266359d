"""The laws of the exchange under every sequence of what clients, the market and faults may do.

Hypothesis plays an exchange over two days: the end of one session, the hours after it, and the
opening of the next. Orders of all types and times in force come from two clients, with families and
groups; they are modified, cancelled, corrected, halted, half-filled, and the gateway restarts in
the middle. After each step the books have to balance, and each fill has to be one that the order,
its family, its group, the session and the tape allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import NS_PER_S, Instrument, Side
from momentum_lab.gateway import state
from momentum_lab.gateway.checks import ORDER_TYPES, Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, QuoteChange, Trade
from momentum_lab.gateway.orders import (
    AT_CLOSE,
    CANCEL_RIVALS,
    FILLED,
    LIMITED,
    STOPS,
    TOUCHES,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    Execution,
    Order,
    StatusShown,
    Ticket,
)
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, TRADING
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    IBM,
    OPEN,
    SPY,
    Row,
    exchange,
    second_tape,
    seconds,
    ticket,
)

CASH_USD = 1_000_000.0
FILLS = FillModel()
# The end of a session and the time after it; the time before the next one and its beginning.
EVENING_NS, MORNING_NS = CLOSE - 60 * NS_PER_S, OPEN + DAY_NS - 15 * NS_PER_S
N_EVENING, N_MORNING = 90, 90
SPREADS = {"SPY": 0.01, "IBM": 0.02}
SCALES = {"SPY": 1, "IBM": 2}

sides = st.sampled_from(list(Side))
cents = st.integers(9_800, 10_200).map(lambda n: n / 100)
shares = st.sampled_from([1, 7, 100, 300, 2_000])
clients = st.sampled_from([1, 2])
which = st.integers(0, 30)


@dataclass(frozen=True)
class Terms:
    """What an order asks for; prices are those of SPY."""

    side: Side
    shares: int
    kind: str
    limit: float
    stop: float
    tif: str
    outside_rth: bool
    lasts_s: int


terms_of_orders = st.builds(
    Terms,
    side=sides,
    shares=shares,
    kind=st.sampled_from(ORDER_TYPES),
    limit=cents,
    stop=cents,
    tif=st.sampled_from(["DAY", "DAY", "", "GTC", "GTC", "IOC", "FOK", "GTD"]),
    outside_rth=st.booleans(),
    lasts_s=st.sampled_from([-5, 0, 1, 20, 200]),
)
paths = st.lists(
    st.integers(9_800, 10_200).map(lambda n: n / 100),
    min_size=N_EVENING + N_MORNING,
    max_size=N_EVENING + N_MORNING,
)


def tape_rows(path: list[float]) -> list[Row]:
    found: list[Row] = []
    for symbol, scale in SCALES.items():
        prices = [round(scale * price, 2) for price in path]
        found += seconds(prices[:N_EVENING], start_ns=EVENING_NS, symbol=symbol, volume=900)
        found += seconds(prices[N_EVENING:], start_ns=MORNING_NS, symbol=symbol, volume=900)
    return found


class ExchangeMachine(RuleBasedStateMachine):
    """One account over two days; every rule is something that can happen to it."""

    market: Market
    found: Exchange
    rules_: Rules

    # -- beginnings -------------------------------------------------------------------------

    @initialize(
        path=paths,
        latency_s=st.sampled_from([0.0, 0.0, 1.5]),
        hard_to_borrow=st.sampled_from([frozenset(), frozenset({"IBM"})]),
    )
    def open(self, path: list[float], latency_s: float, hard_to_borrow: frozenset[str]) -> None:
        tape = second_tape(
            tape_rows(path), start_ns=EVENING_NS, end_ns=MORNING_NS + N_MORNING * NS_PER_S
        )
        self.market = Market(tape)
        self.rules_ = Rules(latency_s=latency_s, hard_to_borrow=hard_to_borrow, close_cutoff_s=10.0)
        self.found = self.fresh()
        self.lowest, self.highest = min(path), max(path)
        self.exec_ids: set[str] = set()
        # perm id -> the order once it was done; a done order changes no more.
        self.done: dict[int, Order] = {}
        # Orders whose terms were changed: some laws speak of the first terms alone.
        self.modified: set[int] = set()
        # perm id -> those of its group that lived, transmitted, when it was filled whole.
        self.beaten: set[int] = set()
        self.hear(self.advance(2))

    def fresh(self) -> Exchange:
        return exchange(self.market, cash_usd=CASH_USD, rules=self.rules_)

    # -- clients ----------------------------------------------------------------------------

    @rule(
        client_id=clients,
        terms=terms_of_orders,
        after_s=st.sampled_from([0, 0, 0, 3]),
        is_whole=st.sampled_from([False, False, False, True]),
        instrument=st.sampled_from([SPY, SPY, IBM]),
    )
    def place(
        self, client_id: int, terms: Terms, after_s: int, is_whole: bool, instrument: Instrument
    ) -> None:
        after_ns = self.market.now_ns + after_s * NS_PER_S if after_s else 0
        wanted = self.ticket(client_id, terms, instrument)
        self.send(replace(wanted, good_after_ns=after_ns, all_or_none=is_whole))

    @rule(client_id=clients, kind=st.sampled_from(sorted(AT_CLOSE)), terms=terms_of_orders)
    def place_for_the_close(self, client_id: int, kind: str, terms: Terms) -> None:
        self.send(self.ticket(client_id, replace(terms, kind=kind, tif="DAY"), SPY))

    @rule(
        number=which,
        terms=terms_of_orders,
        is_sent=st.booleans(),
        after_s=st.sampled_from([0, 0, 4]),
    )
    def place_child(self, number: int, terms: Terms, is_sent: bool, after_s: int) -> None:
        parent = self.some(number, self.found.books.orders.values())
        if parent is not None:
            after_ns = self.market.now_ns + after_s * NS_PER_S if after_s else 0
            wanted = self.ticket(parent.key[0], terms, parent.ticket.instrument)
            wanted = replace(wanted, good_after_ns=after_ns, transmit=is_sent)
            self.send(replace(wanted, parent_id=parent.key[1]))

    @rule(
        client_id=clients,
        group=st.sampled_from(["g", "h"]),
        oca_type=st.sampled_from([0, 1, 2, 3]),
        members=st.lists(terms_of_orders, min_size=2, max_size=3),
    )
    def place_group(self, client_id: int, group: str, oca_type: int, members: list[Terms]) -> None:
        for terms in members:
            wanted = self.ticket(client_id, terms, SPY)
            self.send(replace(wanted, oca_group=group, oca_type=oca_type))

    def ticket(self, client_id: int, terms: Terms, instrument: Instrument) -> Ticket:
        """Return a new order of a client."""
        scale, is_trailing = SCALES[instrument.symbol], terms.kind.startswith("TRAIL")
        return ticket(
            terms.side,
            terms.shares,
            client_id=client_id,
            order_id=self.found.books.next_order_id(client_id),
            instrument=instrument,
            order_type=terms.kind,
            limit_usd=None if terms.kind == "TRAIL LIMIT" else round(terms.limit * scale, 2),
            stop_usd=0.5 if is_trailing else round(terms.stop * scale, 2),
            limit_offset_usd=0.1,
            tif=terms.tif,
            outside_rth=terms.outside_rth,
            good_till_ns=self.market.now_ns + terms.lasts_s * NS_PER_S if terms.tif == "GTD" else 0,
        )

    @rule(client_id=clients, side=sides, quantity=shares, limit=cents, width=st.integers(1, 100))
    def place_bracket(
        self, client_id: int, side: Side, quantity: int, limit: float, width: int
    ) -> None:
        first = self.found.books.next_order_id(client_id)
        away = side.sign * width / 100
        legs = [
            ticket(side, quantity, order_id=first, order_type="LMT", limit_usd=limit),
            ticket(
                *(side.opposite, quantity),
                order_id=first + 1,
                order_type="LMT",
                limit_usd=round(limit + away, 2),
                parent_id=first,
            ),
            ticket(
                *(side.opposite, quantity),
                order_id=first + 2,
                order_type="STP",
                stop_usd=round(limit - away, 2),
                parent_id=first,
            ),
        ]
        for leg in legs:
            self.send(replace(leg, client_id=client_id, transmit=leg is legs[-1], tif="GTC"))

    @rule(number=which, quantity=shares, price=cents)
    def modify(self, number: int, quantity: int, price: float) -> None:
        order = self.some(number, self.found.books.unfinished())
        if order is None:
            return
        scale = SCALES[order.symbol]
        changed = replace(order.ticket, quantity=quantity, transmit=True)
        if order.ticket.limit_usd is not None:
            changed = replace(changed, limit_usd=price * scale)
        self.modified.add(order.perm_id)
        self.send(changed)

    @rule(number=which)
    def cancel(self, number: int) -> None:
        order = self.some(number, self.found.books.orders.values())
        if order is not None:
            self.hear(self.found.cancel(*order.key))

    @rule()
    def cancel_all(self) -> None:
        self.hear(self.found.cancel_all())
        left = list(self.found.books.unfinished())
        assert all(order.cancel_ns and self.rules_.latency_s for order in left)

    # -- market and faults ------------------------------------------------------------------

    @rule(n_seconds=st.integers(1, 12))
    def wait(self, n_seconds: int) -> None:
        self.hear(self.advance(n_seconds))

    @precondition(lambda self: self.market.now_ns < CLOSE)
    @rule()
    def wait_for_the_close(self) -> None:
        self.hear(self.advance((CLOSE - self.market.now_ns) // NS_PER_S + 1))

    @precondition(lambda self: CLOSE < self.market.now_ns < MORNING_NS)
    @rule()
    def sleep(self) -> None:
        self.hear(self.advance((MORNING_NS - self.market.now_ns) // NS_PER_S + 20))
        self.found.on_day()

    @rule(symbol=st.sampled_from(["SPY", "IBM"]), n_shown=st.sampled_from([1, 50, 700]))
    def show_other_sizes(self, symbol: str, n_shown: int) -> None:
        trade = self.market.today(symbol)
        if trade is not None:
            quote = QuoteChange(
                symbol, self.market.now_ns, trade.bid, trade.ask, bid_size=n_shown, ask_size=n_shown
            )
            self.hear(self.found.on_quote(quote))

    @rule(symbol=st.sampled_from(["SPY", "IBM"]), is_halted=st.booleans())
    def halt(self, symbol: str, is_halted: bool) -> None:
        self.market.halts[symbol] = HALTED_BY_VOLATILITY if is_halted else TRADING
        change = HaltChange(symbol, self.market.now_ns, self.market.halts[symbol])
        self.hear(self.found.on_halt(change))

    @rule(number=which, price=cents)
    def correct(self, number: int, price: float) -> None:
        fill = self.some(number, self.found.books.executions)
        if fill is None:
            return
        events = self.found.correct(fill.exec_id, price_usd=price)
        (told,) = [event.execution for event in events if isinstance(event, Executed)]
        assert told.exec_id.rpartition(".")[0] == fill.exec_id.rpartition(".")[0]
        assert (told.shares, told.price_usd) == (fill.shares, price)

    @rule(is_half=st.booleans())
    def fill_only_half(self, is_half: bool) -> None:
        self.found.floor.fills_only_half = is_half

    @rule()
    def restart(self) -> None:
        before = self.found
        with TemporaryDirectory() as folder:
            file = Path(folder) / "state.json"
            now_ns = self.market.now_ns
            state.save(file, tape_id="t", now_ns=now_ns, has_streamed=True, exchange=before)
            saved = state.load(file, tape_id="t", account="DU1234567")
        assert saved is not None
        after = self.fresh()
        state.restore(saved, after)
        kept = {key: order for key, order in before.books.orders.items() if not order.is_waiting}
        assert after.books.orders == kept
        assert after.books.executions == before.books.executions
        assert after.account.ledger.cash_usd == before.account.ledger.cash_usd
        self.found = after

    # -- what is heard ----------------------------------------------------------------------

    def advance(self, n_seconds: int) -> list[ExchangeEvent]:
        events: list[ExchangeEvent] = []
        end_ns = self.market.now_ns + n_seconds * NS_PER_S
        while self.market.now_ns < end_ns:
            due_ns = self.found.next_due_ns() or end_ns
            step_ns = min(
                end_ns, self.market.now_ns + NS_PER_S, max(due_ns, self.market.now_ns + 1)
            )
            for event in self.market.advance(step_ns):
                if isinstance(event, Trade):
                    events += self.heard(self.found.on_trade(event))
            events += self.heard(self.found.on_time())
        return events

    def send(self, wanted: Ticket) -> None:
        self.hear(self.found.place(wanted))

    def hear(self, events: list[ExchangeEvent]) -> None:
        self.heard(events)

    def heard(self, events: list[ExchangeEvent]) -> list[ExchangeEvent]:
        """Hold every event against the laws, and return none, for they are dealt with."""
        told = [event.execution for event in events if isinstance(event, Executed)]
        paid = [event.execution for event in events if isinstance(event, CommissionCharged)]
        assert told == paid
        for place, event in enumerate(events):
            if isinstance(event, Executed):
                after = next(
                    later.order
                    for later in events[place:]
                    if isinstance(later, StatusShown)
                    and later.order.perm_id == event.execution.perm_id
                )
                self.check_fill(event.execution, after)
        return []

    def check_fill(self, fill: Execution, order: Order) -> None:
        """Check one fill against the order as it was told right after it."""
        wanted, now_ns = order.ticket, self.market.now_ns
        assert fill.exec_id not in self.exec_ids
        self.exec_ids.add(fill.exec_id)
        assert fill.at_ns == now_ns
        assert order.perm_id not in self.done, "a finished order has filled"
        assert order.perm_id not in self.beaten, "an order whose rival was filled has filled"
        assert now_ns >= order.placed_ns + round(self.rules_.latency_s * NS_PER_S)
        assert now_ns >= wanted.good_after_ns
        assert now_ns <= order.expires_ns
        assert not self.market.is_halted(order.symbol)
        # A bar that ends with a bell is of before it, and fills who came before it did.
        seen_ns = now_ns - 1 if order.placed_ns < now_ns else now_ns
        may_outside = wanted.order_type in (LIMITED | STOPS | TOUCHES) - AT_CLOSE
        is_regular = not (wanted.outside_rth and may_outside)
        is_in_hours = [self.market.trades_at(at, regular=is_regular) for at in (now_ns, seen_ns)]
        assert any(is_in_hours) or (wanted.order_type in AT_CLOSE and now_ns == CLOSE)
        if wanted.all_or_none or wanted.tif == "FOK":
            assert order.status == FILLED
        self.check_price(fill, order)
        self.check_parent(order)
        self.note_rivals(order)

    def check_price(self, fill: Execution, order: Order) -> None:
        scale = SCALES[order.symbol]
        # The quote lies round the price; a market order pays one tick beyond its far side.
        beyond_usd = SPREADS[order.symbol] + 0.01 + 1e-9
        assert self.lowest * scale - beyond_usd <= fill.price_usd
        assert fill.price_usd <= self.highest * scale + beyond_usd
        if order.ticket.order_type in LIMITED and order.limit_usd is not None:
            assert (order.limit_usd - fill.price_usd) * order.ticket.side.sign >= -1e-9

    def check_parent(self, order: Order) -> None:
        parent = self.found.books.orders.get((order.ticket.client_id, order.ticket.parent_id))
        if parent is None:
            return
        assert parent.filled > 0, "a child has filled before its parent"
        # The size of a parent that is a child itself, or of a group, changes meanwhile.
        is_steady = not (parent.ticket.parent_id or parent.oca_group)
        if is_steady and not {order.perm_id, parent.perm_id} & self.modified:
            most = order.ticket.quantity * parent.filled / parent.quantity
            assert order.filled <= max(most, order.ticket.quantity if parent.is_done else 0)

    def note_rivals(self, order: Order) -> None:
        if not order.oca_group or (order.status != FILLED and order.oca_type != CANCEL_RIVALS):
            return
        self.beaten |= {
            rival.perm_id
            for rival in self.found.books.orders.values()
            if rival.oca_group == order.oca_group
            and rival.key != order.key
            and not rival.is_waiting
        }

    # -- laws that hold after every step ----------------------------------------------------

    @invariant()
    def cash_positions_and_costs_balance(self) -> None:
        fills, ledger = self.found.books.executions, self.found.account.ledger
        spent_usd = math.fsum(f.side.sign * f.shares * f.price_usd for f in fills)
        costs_usd = math.fsum(f.commission_usd for f in fills)
        assert ledger.cash_usd == pytest.approx(CASH_USD - spent_usd - costs_usd)
        for symbol, position in ledger.positions.items():
            assert position.quantity == sum(
                f.side.sign * f.shares for f in fills if f.symbol == symbol
            )
            assert (position.quantity == 0) == (position.average_usd == 0)
        realized_usd = math.fsum(f.realized_usd or 0.0 for f in fills)
        value = self.found.account.value()
        assert value.equity == pytest.approx(CASH_USD + realized_usd + value.unrealized)

    @invariant()
    def orders_are_the_sum_of_their_fills(self) -> None:
        by_order: dict[int, list[Execution]] = {}
        for fill in self.found.books.executions:
            by_order.setdefault(fill.perm_id, []).append(fill)
        for order in self.found.books.orders.values():
            fills = by_order.get(order.perm_id, [])
            assert order.filled == sum(fill.shares for fill in fills)
            assert 0 <= order.filled <= order.quantity
            assert (order.status == FILLED) == (order.filled > 0 and order.remaining == 0)
            assert order.commission_usd == pytest.approx(FILLS.commission_usd(order.filled))
            if fills:
                paid_usd = sum(fill.shares * fill.price_usd for fill in fills)
                assert order.average_usd == pytest.approx(paid_usd / order.filled)

    @invariant()
    def what_is_done_stays_done(self) -> None:
        for order in self.found.books.orders.values():
            if order.is_done:
                # A correction changes its price and nothing else.
                known = self.done.setdefault(order.perm_id, order)
                average_usd, last_usd = known.average_usd, known.last_usd
                assert replace(order, average_usd=average_usd, last_usd=last_usd) == known
            else:
                assert order.perm_id not in self.done

    @invariant()
    def nothing_rests_that_must_not(self) -> None:
        for order in self.found.books.unfinished():
            now_ns = self.market.now_ns
            assert order.expires_ns > now_ns
            assert order.wakes_ns == 0 or order.wakes_ns > now_ns, "an order has missed its time"
            if order.ticket.tif in ("IOC", "FOK") and order.ticket.good_after_ns <= now_ns:
                waits_for = order.why_held in ("child", "locate", "trigger")
                assert order.is_waiting or order.arrives_ns or waits_for

    @invariant()
    def every_order_has_an_id_of_its_own(self) -> None:
        orders = self.found.books.orders.values()
        assert len({order.perm_id for order in orders}) == len(orders)

    @staticmethod
    def some(number: int, items: Iterable[Any]) -> Any:
        """Return one of the items, None where there is none."""
        listed = list(items)
        return listed[number % len(listed)] if listed else None


def test_the_exchange_keeps_its_laws_whatever_happens() -> None:
    run_state_machine_as_test(
        ExchangeMachine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None
        ),
    )
