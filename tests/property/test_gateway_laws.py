"""The laws of the paper gateway: its books balance, its history never shows the future."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway import state
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.history import BAR_SECONDS, parse_query
from momentum_lab.gateway.history_bars import bars
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, Trade
from momentum_lab.gateway.orders import (
    FILLED,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    Execution,
    Order,
)
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, TRADING
from tests.gateway_factories import IBM, NOON, SPY, exchange, second, second_tape, seconds, ticket

CASH_USD = 50_000.0
GROUP_SHARES = 100
FILLS = FillModel()

prices = st.lists(
    st.integers(9_000, 11_000).map(lambda cents: cents / 100), min_size=5, max_size=40
)
sides = st.sampled_from(list(Side))
cents = st.integers(9_000, 11_000).map(lambda n: n / 100)

kinds_of_orders = st.sampled_from(
    ["MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT", "MOC", "LOC"]
)
LATENCY_S = 1.5


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[object, ...]]:
    """What a careless client may do, between seconds of market."""
    one = st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 5)),
        st.tuples(st.just("MKT"), sides, st.integers(0, 600), st.sampled_from([SPY, IBM])),
        st.tuples(st.just("LMT"), sides, st.integers(1, 300), cents, st.integers(0, 3)),
        st.tuples(st.just("STP"), sides, st.integers(1, 300), cents, st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.integers(1, 12)),
        st.tuples(st.just("group"), kinds_of_orders, sides, cents, cents, st.integers(0, 3)),
        st.tuples(st.just("modify"), st.integers(1, 12), st.integers(1, 900), cents),
        st.tuples(st.just("halt"), st.booleans()),
        st.tuples(st.just("correct"), st.integers(0, 5), cents),
        st.tuples(st.just("late"), kinds_of_orders, sides, cents, cents, st.integers(0, 3)),
    )
    return draw(st.lists(one, max_size=25))


def act(  # noqa: C901, PLR0911 - one case for each thing a client may do
    found: Exchange, market: Market, action: tuple[object, ...], order_id: int
) -> list[ExchangeEvent]:
    match action:
        case ("wait", int(n_seconds)):
            events: list[ExchangeEvent] = []
            for event in market.advance(market.now_ns + n_seconds * NS_PER_S):
                if isinstance(event, Trade):
                    events += found.on_trade(event)
            return events + found.on_time()
        case ("cancel", int(which)):
            return found.cancel(1, which)
        case ("halt", bool(is_halted)):
            market.halts["SPY"] = HALTED_BY_VOLATILITY if is_halted else TRADING
            return found.on_halt(HaltChange("SPY", market.now_ns, market.halts["SPY"]))
        case ("correct", int(which), float(price)):
            fills = found.books.executions
            if which >= len(fills):
                return []
            return found.correct(fills[which].exec_id, price_usd=price)
        case ("modify", int(which), int(quantity), float(price)):
            known = found.books.orders.get((1, which))
            if known is None:
                return []
            changed = replace(known.ticket, quantity=quantity, limit_usd=price, transmit=True)
            return found.place(changed)
        case ("group" | "late", str(kind), Side() as side, float(limit), float(stop), int(type_)):
            is_trailing = kind.startswith("TRAIL")
            wanted = ticket(
                side,
                GROUP_SHARES,
                order_id=order_id,
                order_type=kind,
                limit_usd=None if kind == "TRAIL LIMIT" else limit,
                stop_usd=1.0 if is_trailing else stop,
                limit_offset_usd=0.1,
                oca_group="g" if action[0] == "group" else "",
                oca_type=type_,
            )
            return found.place(wanted)
        case ("MKT", Side() as side, int(quantity), instrument):
            wanted = ticket(side, quantity, order_id=order_id, instrument=instrument)
            return found.place(wanted)
        case (str(kind), Side() as side, int(quantity), float(price), int(parent_id)):
            return found.place(
                ticket(
                    side,
                    quantity,
                    order_id=order_id,
                    order_type=kind,
                    limit_usd=price,
                    stop_usd=price,
                    parent_id=parent_id,
                )
            )
    raise AssertionError(action)


def played(
    script: Sequence[tuple[object, ...]],
    path: list[float],
    rules: Rules | None = None,
    *,
    volume: int = 200,
) -> tuple[Exchange, list[ExchangeEvent]]:
    rows = seconds(path, volume=volume)
    rows += seconds([2 * price for price in path], symbol="IBM", volume=volume)
    market = Market(second_tape(rows))
    found = exchange(market, cash_usd=CASH_USD, rules=rules)
    events: list[ExchangeEvent] = []
    for order_id, action in enumerate(script, start=1):
        events += act(found, market, action, order_id)
    return found, events


@given(script=actions(), path=prices)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_cash_positions_and_costs_balance(
    script: list[tuple[object, ...]], path: list[float]
) -> None:
    found, _ = played(script, path)
    fills = found.books.executions

    spent_usd = sum(fill.side.sign * fill.shares * fill.price_usd for fill in fills)
    costs_usd = sum(fill.commission_usd for fill in fills)
    ledger = found.account.ledger
    assert ledger.cash_usd == pytest.approx(CASH_USD - spent_usd - costs_usd)
    for symbol, position in ledger.positions.items():
        held = sum(fill.side.sign * fill.shares for fill in fills if fill.symbol == symbol)
        assert position.quantity == held
    profit_usd = found.account.realized_today_usd() + found.account.value().unrealized
    assert found.account.value().equity == pytest.approx(CASH_USD + profit_usd)


def _fills_of(found: Exchange, order: Order) -> list[Execution]:
    return [f for f in found.books.executions if (f.client_id, f.order_id) == order.key]


@given(script=actions(), path=prices, latency_s=st.sampled_from([0.0, LATENCY_S]))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_every_fill_is_told_in_order_and_belongs_to_its_order(
    script: list[tuple[object, ...]], path: list[float], latency_s: float
) -> None:
    found, events = played(script, path, Rules(latency_s=latency_s))
    told = [event.execution for event in events if isinstance(event, Executed)]
    paid = [event.execution for event in events if isinstance(event, CommissionCharged)]

    assert told == paid
    # A correction is told as one more; the last word on each fill is what the books hold.
    last = {fill.exec_id.rpartition(".")[0]: fill.exec_id for fill in told}
    assert sorted(last.values()) == sorted(fill.exec_id for fill in found.books.executions)
    assert len({fill.exec_id for fill in told}) == len(told)
    assert len({order.perm_id for order in found.books.orders.values()}) == len(found.books.orders)
    for order in found.books.orders.values():
        fills = _fills_of(found, order)
        assert sum(fill.shares for fill in fills) == order.filled
        assert [fill.cumulative for fill in fills] == list(
            accumulate(fill.shares for fill in fills)
        )
        assert order.remaining >= 0
        assert (order.status == FILLED) == (order.filled > 0 and order.remaining == 0)
        assert {fill.perm_id for fill in fills} <= {order.perm_id}
        assert order.commission_usd == pytest.approx(sum(fill.commission_usd for fill in fills))
        if fills:
            assert order.commission_usd == pytest.approx(FILLS.commission_usd(order.filled))


@given(script=actions(), path=prices, latency_s=st.sampled_from([0.0, LATENCY_S]))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_no_fill_comes_early_or_at_a_price_the_tape_does_not_know(
    script: list[tuple[object, ...]], path: list[float], latency_s: float
) -> None:
    script = [action for action in script if action[0] != "correct"]
    found, _ = played(script, path, Rules(latency_s=latency_s))
    for order in found.books.orders.values():
        for fill in _fills_of(found, order):
            assert fill.at_ns >= order.placed_ns + round(latency_s * NS_PER_S)
            scale = 2 if fill.symbol == "IBM" else 1
            spread_usd = 0.02 * scale
            # The quote lies round the price, a market order pays one tick more than its far side.
            low, high = min(path) * scale - spread_usd - 0.01, max(path) * scale + spread_usd + 0.01
            assert low - 1e-9 <= fill.price_usd <= high + 1e-9
            limit_usd = order.ticket.limit_usd
            if order.ticket.order_type in ("LMT", "STP LMT", "LIT", "LOC") and limit_usd:
                better = (limit_usd - fill.price_usd) * order.ticket.side.sign
                was_modified = any(action[0] == "modify" for action in script)
                assert better >= -1e-9 or was_modified


@given(script=actions(), path=prices)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_a_group_never_fills_more_than_one_of_its_orders(
    script: list[tuple[object, ...]], path: list[float]
) -> None:
    found, _ = played([action for action in script if action[0] != "modify"], path)
    group = [order for order in found.books.orders.values() if order.oca_group == "g"]
    # Who joins a group later has not been reduced by the fills before it came.
    for order in group:
        rivals = [o for o in group if o.perm_id < order.perm_id]
        later = sum(
            fill.shares
            for rival in (*rivals, order)
            for fill in _fills_of(found, rival)
            if fill.at_ns >= order.placed_ns
        )
        assert later <= GROUP_SHARES


parents = st.sampled_from([0, 0, 2, 3])
# Beyond the price on one side or the other: it fills at once, or not at all.
far_prices = st.sampled_from([90.0, 110.0])
orders_beyond_the_account = st.lists(
    st.one_of(
        st.tuples(st.just("LMT"), sides, st.integers(500, 3_000), far_prices, parents),
        st.tuples(st.just("STP"), sides, st.integers(500, 3_000), far_prices, parents),
        st.tuples(st.just("modify"), st.integers(4, 7), st.integers(500, 3_000), far_prices),
    ),
    min_size=2,
    max_size=8,
)


@given(orders=orders_beyond_the_account, price=st.sampled_from([95.0, 100.0, 105.0]))
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_what_orders_and_children_open_never_exceeds_the_buying_power(
    orders: list[tuple[object, ...]], price: float
) -> None:
    # Orders 2 and 3 are there to be parents; the price stands still until all has filled.
    first = [("wait", 2), ("LMT", Side.BUY, 10, 110.0, 0), ("LMT", Side.SELL, 10, 90.0, 0)]
    found, _ = played([*first, *orders, ("wait", 30)], [price] * 32, volume=10_000)
    value = found.account.value()
    # Slippage and commission of the last fill come after the check.
    assert value.margin <= value.equity + 0.02 * CASH_USD


steps_of_cash = st.lists(
    st.one_of(
        st.tuples(st.just("LMT"), sides, st.integers(200, 500), cents, parents),
        st.tuples(st.just("group"), st.just("LMT"), sides, cents, cents, st.integers(0, 3)),
        st.tuples(st.just("modify"), st.integers(1, 12), st.integers(1, 500), cents),
        st.tuples(st.just("wait"), st.integers(1, 3)),
    ),
    min_size=8,
    max_size=25,
)


@given(script=steps_of_cash, path=prices, latency_s=st.sampled_from([0.0, LATENCY_S]))
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_a_cash_account_is_never_short_of_shares_or_cash(
    script: list[tuple[object, ...]], path: list[float], latency_s: float
) -> None:
    rules = Rules(is_cash_account=True, latency_s=latency_s)
    found, _ = played(script, path, rules, volume=4_000)
    assert all(position.quantity >= 0 for position in found.account.ledger.positions.values())
    paid_usd = sum(fill.commission_usd for fill in found.books.executions)
    assert found.account.ledger.cash_usd >= -paid_usd - 1e-6


@given(script=actions(), path=prices)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_what_is_saved_is_what_comes_back(
    script: list[tuple[object, ...]], path: list[float]
) -> None:
    before, _ = played(script, path)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "state.json"
        state.save(file, tape_id="t", now_ns=NOON, has_streamed=True, exchange=before)
        saved = state.load(file, tape_id="t", account="DU1234567")
    assert saved is not None
    market = Market(second_tape(seconds(path)))
    after = exchange(market)
    state.restore(saved, after)

    assert after.books.orders == before.books.orders
    assert after.books.executions == before.books.executions
    assert after.account.ledger.cash_usd == before.account.ledger.cash_usd
    assert json.dumps([asdict(p) for p in after.account.ledger.positions.values()]) == json.dumps(
        [asdict(p) for p in before.account.ledger.positions.values()]
    )


minutes = st.lists(st.tuples(cents, cents, cents, cents), min_size=2, max_size=5)


@given(
    path=minutes,
    after_s=st.integers(1, 200),
    waits_s=st.sampled_from([0, 0, 45]),
    latency_s=st.sampled_from([0.0, 15.0]),
    kind=st.sampled_from(["STP", "STP LMT", "TRAIL", "MIT", "LIT", "LMT", "MKT"]),
    side=sides,
    terms=st.tuples(cents, cents),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_an_order_does_not_depend_on_what_a_bar_was_before_it_worked(
    path: list[tuple[float, float, float, float]],
    after_s: int,
    waits_s: int,
    latency_s: float,
    kind: str,
    side: Side,
    terms: tuple[float, float],
) -> None:
    works_s = after_s + max(waits_s, latency_s)

    def left(is_known: Callable[[int], bool]) -> tuple[list[Execution], list[Order]]:
        """Play minutes that open, and go, elsewhere than to their last price where that counts."""
        rows = []
        for n, (last, *others) in enumerate(path):
            begun = (others[0], max(others), min(others)) if is_known(60 * n) else (last,) * 3
            high, low = max(last, *begun), min(last, *begun)
            rows.append(("SPY", NOON + 60 * n * NS_PER_S, 60, begun[0], high, low, last, 40_000))
        market = Market(second_tape(rows))
        found = exchange(market, rules=Rules(latency_s=latency_s))
        for to_s in (after_s, 60 * len(path)):
            while market.now_ns < NOON + to_s * NS_PER_S:
                due_ns = found.next_due_ns() or NOON + to_s * NS_PER_S
                step_ns = min(NOON + to_s * NS_PER_S, max(due_ns, market.now_ns + 1))
                for event in market.advance(step_ns):
                    if isinstance(event, Trade):
                        found.on_trade(event)
                found.on_time()
            if to_s == after_s:
                wanted = ticket(side, order_type=kind, stop_usd=terms[0], limit_usd=terms[1])
                wanted = replace(wanted, stop_usd=1.0) if kind == "TRAIL" else wanted
                after_ns = market.now_ns + waits_s * NS_PER_S if waits_s else 0
                found.place(replace(wanted, good_after_ns=after_ns))
        return found.books.executions, list(found.books.orders.values())

    assert left(lambda _: True) == left(lambda start_s: start_s >= works_s)


@given(
    path=prices,
    n_played=st.integers(0, 40),
    size=st.sampled_from(sorted(BAR_SECONDS)),
    what=st.sampled_from(["TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK"]),
    duration=st.sampled_from(["5 S", "60 S", "1 D", "1 W"]),
)
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_history_is_the_same_whatever_comes_later(
    path: list[float], n_played: int, size: str, what: str, duration: str
) -> None:
    now_ns = NOON + n_played * NS_PER_S
    rows = seconds(path)
    past = [row for row in rows if row[1] + NS_PER_S <= now_ns]
    wild = [*past, *(second(row[1], 9_999.0, volume=10**9) for row in rows[len(past) :])]
    values = {
        "end_date_time": "",
        "bar_size": size,
        "duration": duration,
        "use_rth": True,
        "what_to_show": what,
        "format_date": 1,
    }

    def answer(tape_rows: list[tuple[str, int, int, float, float, float, float, int]]) -> object:
        # The first second is always there: a tape without a bar is no tape.
        market = Market(second_tape(tape_rows or [second(NOON + 3_600 * NS_PER_S, 1.0)]))
        line = market.lines["SPY"]
        query = parse_query(values, line=line, hours=market.hours, now_ns=now_ns)
        return bars(line, query, now_ns=now_ns)

    assert answer(past) == answer(rows) == answer(wild)


@given(path=prices, cuts=st.lists(st.floats(0, 45), max_size=12))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_the_market_tells_the_same_however_its_time_is_cut(
    path: list[float], cuts: list[float]
) -> None:
    whole = Market(second_tape(seconds(path)))
    pieces = Market(second_tape(seconds(path)))
    end_ns = NOON + 45 * NS_PER_S
    heard = [
        event for cut in sorted(cuts) for event in pieces.advance(NOON + round(cut * NS_PER_S))
    ] + list(pieces.advance(end_ns))
    assert heard == list(whole.advance(end_ns))
