"""The laws of the paper gateway: its books balance, its history never shows the future."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway import state
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.history import BAR_SECONDS, bars, parse_query
from momentum_lab.gateway.market import Market, Trade
from momentum_lab.gateway.orders import FILLED, CommissionCharged, ExchangeEvent, Executed
from tests.gateway_factories import IBM, NOON, SPY, exchange, second, second_tape, seconds, ticket

CASH_USD = 50_000.0

prices = st.lists(
    st.integers(9_000, 11_000).map(lambda cents: cents / 100), min_size=5, max_size=40
)
sides = st.sampled_from(list(Side))
cents = st.integers(9_000, 11_000).map(lambda n: n / 100)


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[object, ...]]:
    """What a careless client may do, between seconds of market."""
    one = st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 5)),
        st.tuples(st.just("MKT"), sides, st.integers(0, 600), st.sampled_from([SPY, IBM])),
        st.tuples(st.just("LMT"), sides, st.integers(1, 300), cents, st.integers(0, 3)),
        st.tuples(st.just("STP"), sides, st.integers(1, 300), cents, st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.integers(1, 12)),
    )
    return draw(st.lists(one, max_size=25))


def act(
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
    script: list[tuple[object, ...]], path: list[float]
) -> tuple[Exchange, list[ExchangeEvent]]:
    rows = seconds(path) + seconds([2 * price for price in path], symbol="IBM")
    market = Market(second_tape(rows))
    found = exchange(market, cash_usd=CASH_USD)
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


@given(script=actions(), path=prices)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_fill_is_told_once_in_order_and_belongs_to_its_order(
    script: list[tuple[object, ...]], path: list[float]
) -> None:
    found, events = played(script, path)
    told = [event.execution for event in events if isinstance(event, Executed)]
    paid = [event.execution for event in events if isinstance(event, CommissionCharged)]

    assert told == paid == found.books.executions
    assert len({fill.exec_id for fill in told}) == len(told)
    for order in found.books.orders.values():
        fills = [fill for fill in told if (fill.client_id, fill.order_id) == order.key]
        assert sum(fill.shares for fill in fills) == order.filled
        assert (order.status == FILLED) == bool(fills)
        assert {fill.perm_id for fill in fills} <= {order.perm_id}


@given(script=actions(), path=prices)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_a_market_opened_position_never_exceeds_the_buying_power(
    script: list[tuple[object, ...]], path: list[float]
) -> None:
    only_market = [action for action in script if action[0] == "MKT"]
    found, _ = played([("wait", 2), *only_market], path)
    value = found.account.value()
    # Slippage and commission of the last fill come after the check.
    assert value.margin <= value.equity + 0.02 * CASH_USD


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
