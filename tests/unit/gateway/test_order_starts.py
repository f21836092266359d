"""When an order begins to work: nothing of before that fills it, triggers it or moves its stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway import state
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import (
    CANCELLED,
    FILLED,
    HELD,
    WORKING,
    ExchangeEvent,
    Order,
    Ticket,
)
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, TRADING
from tests.gateway_factories import (
    CLOSE,
    NOON,
    at,
    exchange,
    play_to,
    second_tape,
    seconds,
    tick_tape,
    ticket,
)


def on_seconds(*prices: float) -> Exchange:
    """An exchange whose market trades at these prices, a second each; the first has been played."""
    return opened(Market(second_tape(seconds(prices, volume=40_000))), played_s=1)


def opened(a_market: Market, *, played_s: float, rules: Rules | None = None) -> Exchange:
    found = exchange(a_market, rules=rules)
    play(found, played_s)
    return found


def play(found: Exchange, n_seconds: float) -> list[ExchangeEvent]:
    """Let market and exchange go on, with a stop wherever something is due by time."""
    return play_to(found, found.account.market.now_ns + round(n_seconds * NS_PER_S))


def order(found: Exchange, order_id: int = 1) -> Order:
    return found.books.orders[1, order_id]


def fills(found: Exchange, order_id: int = 1) -> list[tuple[float, float]]:
    """(second after noon, price) of each fill of an order."""
    own = [fill for fill in found.books.executions if fill.order_id == order_id]
    return [((fill.at_ns - NOON) / NS_PER_S, fill.price_usd) for fill in own]


def selling(kind: str, **terms: Any) -> Ticket:
    return ticket(Side.SELL, order_type=kind, **{"tif": "GTC", **terms})


# ------------------------------------------------------- a trailing stop and its parent


def entry_with_trail(found: Exchange, **terms: Any) -> None:
    """An entry at 95 with a child that trails by a dollar, while the market is at 100."""
    found.place(ticket(order_type="LMT", limit_usd=95.0, transmit=False))
    found.place(selling("TRAIL", order_id=2, parent_id=1, stop_usd=1.0, **terms))


def test_a_trailing_child_begins_at_the_market_at_which_its_parent_fills() -> None:
    found = on_seconds(100.0, 98.0, 94.0, 94.5, 93.4)
    entry_with_trail(found)
    play(found, 1)
    assert order(found, 2).stop_usd is None
    play(found, 1)
    assert (fills(found), order(found, 2).stop_usd) == ([(3, 95.0)], 93.0)
    play(found, 1)
    assert (fills(found, 2), order(found, 2).stop_usd) == ([], 93.5)
    play(found, 1)
    assert [second for second, _ in fills(found, 2)] == [5]


def test_a_trailing_child_may_name_where_its_stop_begins() -> None:
    found = on_seconds(100.0, 98.0, 94.95, 94.95)
    entry_with_trail(found, trail_stop_usd=94.5)
    play(found, 1)
    assert order(found, 2).stop_usd == 94.5
    play(found, 2)
    assert (fills(found, 2), order(found, 2).stop_usd) == ([], 94.5)


def test_a_trailing_order_begins_at_the_market_of_its_time() -> None:
    found = on_seconds(100.0, 97.0, 94.0, 94.0, 94.0)
    found.place(selling("TRAIL", stop_usd=1.0, good_after_ns=NOON + 3 * NS_PER_S))
    assert order(found).stop_usd is None
    play(found, 3)
    assert (fills(found), order(found).stop_usd) == ([], 93.0)


# ------------------------------------------------------------------------- goodAfterTime


def standing_quote(*, later: Sequence[tuple[float, float, float]] = ()) -> Exchange:
    """A quote of 99.99 to 100.01 since noon, to which nothing happens before those `later`."""
    quotes = [(0.5, 99.99, 100.01), *later]
    tape = tick_tape(
        trades=[(0.5, 100.0, 500)], quotes=[(*quote, 5_000, 5_000) for quote in quotes]
    )
    return opened(Market(tape), played_s=2)


def waiting(kind: str = "MKT", side: Side = Side.BUY, after_s: float = 10, **terms: Any) -> Ticket:
    """An order that waits until some seconds after noon."""
    return ticket(side, order_type=kind, good_after_ns=at(after_s), **terms)


def test_an_order_fills_at_its_time_where_the_quote_stands_still() -> None:
    found = standing_quote()
    found.place(waiting())
    found.place(waiting("LMT", order_id=2, limit_usd=99.0))
    play(found, 7.9)
    assert (order(found).status, order(found, 2).status) == (HELD, HELD)
    play(found, 0.2)
    assert fills(found) == [(10, 100.02)]
    assert order(found, 2).status == WORKING


def test_a_day_order_for_the_last_minutes_does_not_end_unfilled() -> None:
    found = standing_quote()
    found.place(waiting(after_s=(CLOSE - NOON) / NS_PER_S - 60, tif="DAY"))
    play(found, (CLOSE - NOON) / NS_PER_S)
    assert (order(found).status, order(found).filled) == (FILLED, 100)


def test_a_stop_that_the_market_has_passed_already_triggers_at_its_time() -> None:
    found = standing_quote()
    found.place(waiting("STP", Side.SELL, stop_usd=100.5))
    play(found, 60)
    assert fills(found) == [(10, 99.98)]


def test_an_immediate_order_is_tried_at_its_time() -> None:
    found = standing_quote()
    found.place(waiting(tif="IOC"))
    found.place(waiting("LMT", order_id=2, limit_usd=99.0, tif="IOC"))
    assert order(found).status == HELD
    play(found, 60)
    assert (fills(found), order(found, 2).status) == ([(10, 100.02)], CANCELLED)
    assert order(found, 2).done_ns == at(10)


def test_a_child_begins_at_its_time_or_with_its_parent_whichever_is_later() -> None:
    found = standing_quote(later=[(20, 94.99, 95.0)])
    for first, limit_usd, after_s in ((1, 101.0, 10), (3, 95.0, 10), (5, 95.0, 30)):
        found.place(ticket(order_id=first, order_type="LMT", limit_usd=limit_usd, transmit=False))
        found.place(
            waiting("MKT", Side.SELL, after_s, order_id=first + 1, parent_id=first, tif="GTC")
        )
    play(found, 60)
    assert [fills(found, child)[0][0] for child in (2, 4, 6)] == [10, 20, 30]


def test_new_terms_move_the_time_or_take_it_away() -> None:
    found = standing_quote()
    for order_id, after_s in ((1, 20), (2, 0)):
        found.place(waiting(order_id=order_id))
        found.place(waiting(order_id=order_id, after_s=after_s))
    play(found, 60)
    assert (fills(found, 1), fills(found, 2)) == ([(20, 100.02)], [(2, 100.02)])


def test_an_order_that_ends_when_it_begins_never_works() -> None:
    found = standing_quote()
    found.place(waiting(tif="GTD", good_till_ns=at(10)))
    play(found, 60)
    assert (order(found).status, fills(found)) == (CANCELLED, [])


def test_in_a_halt_an_order_waits_beyond_its_time() -> None:
    tape = tick_tape(
        trades=[(0.5, 100.0, 500)],
        quotes=[(0.5, 99.99, 100.01, 500, 500), (40, 99.99, 100.01, 500, 500)],
        halts=[(5, HALTED_BY_VOLATILITY), (30, TRADING)],
    )
    found = opened(Market(tape), played_s=2)
    found.place(waiting())
    play(found, 60)
    assert fills(found) == [(40, 100.02)]


def test_time_and_its_beginning_outlive_a_restart(tmp_path: Path) -> None:
    before = standing_quote()
    before.place(waiting("TRAIL", Side.SELL, stop_usd=1.0))
    before.place(waiting(order_id=2, after_s=20))
    play(before, 10)
    found = restarted(before, tmp_path / "state.json")
    assert found.books.orders == before.books.orders
    assert found.next_due_ns() == at(20)
    play(found, 30)
    assert (order(found).stop_usd, fills(found, 2)) == (99.0, [(20, 100.02)])


def test_a_file_of_before_times_were_events_goes_on(tmp_path: Path) -> None:
    before = standing_quote()
    before.place(waiting())
    before.place(ticket(order_id=2, order_type="LMT", limit_usd=99.0))
    found = restarted(before, tmp_path / "state.json", lost="works_ns")
    play(found, 30)
    assert fills(found) == [(10, 100.02)]


# -------------------------------------------------------- bars of more than a second


Bar = tuple[float, float, float, float]
FLAT: Bar = (100.0, 100.0, 100.0, 100.0)


def on_minutes(*bars: Bar, rules: Rules | None = None) -> Exchange:
    """An exchange on minutes (open, low, high, close) from noon on, the first one played."""
    rows = [
        ("SPY", NOON + n * 60 * NS_PER_S, 60, first, high, low, last, 40_000)
        for n, (first, low, high, last) in enumerate(bars)
    ]
    return opened(Market(second_tape(rows)), played_s=60, rules=rules)


# Each bar goes to where it would fill the order, and ends where it does not.
DIP: Bar = (98.0, 98.0, 100.0, 100.0)
PEAK: Bar = (102.0, 100.0, 102.0, 100.0)


@pytest.mark.parametrize(
    ("kind", "side", "terms", "bar"),
    [
        ("STP", Side.SELL, {"stop_usd": 99.0}, DIP),
        ("STP", Side.BUY, {"stop_usd": 101.0}, PEAK),
        ("STP LMT", Side.SELL, {"stop_usd": 99.0, "limit_usd": 98.0}, DIP),
        ("TRAIL", Side.SELL, {"stop_usd": 1.0}, DIP),
        ("MIT", Side.BUY, {"stop_usd": 99.0}, DIP),
        ("LIT", Side.SELL, {"stop_usd": 101.0, "limit_usd": 99.0}, PEAK),
    ],
)
def test_what_a_bar_was_before_an_order_came_triggers_nothing(
    kind: str, side: Side, terms: dict[str, Any], bar: Bar
) -> None:
    found = on_minutes(FLAT, bar, bar)
    play(found, 50)
    found.place(ticket(side, order_type=kind, **terms))
    play(found, 10)
    assert (fills(found), order(found).is_triggered) == ([], False)
    # The next bar is its own from the beginning on.
    play(found, 60)
    assert order(found).is_triggered


@pytest.mark.parametrize(
    ("side", "extreme", "stop_usd"), [(Side.SELL, PEAK, 99.0), (Side.BUY, DIP, 101.0)]
)
def test_what_a_bar_was_before_an_order_came_moves_no_trailing_stop(
    side: Side, extreme: Bar, stop_usd: float
) -> None:
    found = on_minutes(FLAT, extreme)
    play(found, 50)
    found.place(ticket(side, order_type="TRAIL", stop_usd=1.0))
    play(found, 10)
    assert (fills(found), order(found).stop_usd) == ([], stop_usd)


def test_the_end_of_a_bar_triggers_whoever_was_there_at_its_end_at_its_price() -> None:
    found = on_minutes(FLAT, (97.0, 90.0, 100.0, 98.5))
    play(found, 50)
    found.place(selling("STP", stop_usd=99.0))
    play(found, 10)
    assert fills(found) == [(120, 98.48)]


def test_a_bar_is_of_before_an_order_that_was_still_on_its_way_as_it_began() -> None:
    found = on_minutes(FLAT, DIP, rules=Rules(latency_s=20.0))
    found.place(selling("STP", stop_usd=99.0))
    play(found, 60)
    assert fills(found) == []


def test_a_bar_is_of_before_a_child_whose_parent_it_has_filled() -> None:
    found = on_minutes(FLAT, (100.0, 94.0, 100.0, 96.0), (96.0, 95.0, 99.0, 96.0))
    found.place(ticket(order_type="MIT", stop_usd=95.0, transmit=False))
    found.place(selling("TRAIL", order_id=2, parent_id=1, stop_usd=1.0, transmit=False))
    found.place(selling("STP", order_id=3, parent_id=1, stop_usd=94.5))
    play(found, 60)
    assert (fills(found), fills(found, 3), order(found, 2).stop_usd) == ([(120, 96.01)], [], 95.0)


def test_a_bar_is_of_before_an_order_whose_time_came_within_it() -> None:
    found = on_minutes(FLAT, DIP, DIP)
    found.place(waiting("STP", Side.SELL, 90, stop_usd=99.0))
    play(found, 60)
    assert fills(found) == []
    play(found, 60)
    assert [second for second, _ in fills(found)] == [180]


@pytest.mark.parametrize(
    ("changed", "n_fills"),
    [
        ({"order_type": "STP LMT", "limit_usd": 90.0}, 0),
        ({"order_type": "MIT", "stop_usd": 101.0}, 0),
        ({"outside_rth": True}, 0),
        # Who keeps its stop has waited at it all the time.
        ({"quantity": 40}, 1),
        ({"tif": "DAY"}, 1),
    ],
)
def test_a_bar_is_of_before_a_stop_that_was_moved_within_it(
    changed: dict[str, Any], n_fills: int
) -> None:
    found = on_minutes(FLAT, DIP)
    found.place(selling("STP", stop_usd=99.0))
    play(found, 50)
    found.place(replace(order(found).ticket, **changed))
    play(found, 10)
    assert len(fills(found)) == n_fills


@pytest.mark.parametrize(
    ("first_usd", "then_usd", "bar", "expected"),
    [
        # Before it was moved or after: one of both was met, at worst the farther one.
        (99.0, 99.5, DIP, [(120, 97.98)]),
        (99.0, 99.5, (100.0, 98.0, 100.0, 100.0), [(120, 98.99)]),
        (99.5, 99.0, (100.0, 98.0, 100.0, 100.0), [(120, 98.99)]),
        (99.0, 99.5, (100.0, 98.0, 100.0, 99.2), [(120, 98.99)]),
        (99.0, 99.5, (100.0, 90.0, 100.0, 98.5), [(120, 98.48)]),
        # The former one stood as the bar opened beyond it.
        (99.0, 97.5, DIP, [(120, 97.98)]),
        # Nobody knows which of both stood as the price was between them.
        (99.0, 99.5, (100.0, 99.2, 100.0, 100.0), []),
        (99.5, 99.0, (100.0, 99.2, 100.0, 100.0), []),
    ],
)
def test_a_bar_that_went_beyond_a_stop_and_where_it_was_moved_has_met_it(
    first_usd: float, then_usd: float, bar: Bar, expected: list[tuple[float, float]]
) -> None:
    found = on_minutes(FLAT, bar)
    found.place(selling("STP", stop_usd=first_usd))
    play(found, 30)
    found.place(selling("STP", stop_usd=then_usd))
    found.place(selling("STP", stop_usd=then_usd, quantity=90))
    play(found, 30)
    assert fills(found) == expected


def test_a_stop_that_is_moved_in_each_minute_is_met_within_them() -> None:
    bar = (100.0, 98.0, 100.0, 100.0)
    found = on_minutes(FLAT, FLAT, FLAT, bar)
    for stop_usd in (95.0, 97.0, 99.0):
        play(found, 1)
        found.place(selling("STP", stop_usd=stop_usd))
        play(found, 59)
    assert fills(found) == []
    found = on_minutes(FLAT, FLAT, FLAT, bar)
    for stop_usd in (95.0, 98.5, 99.0):
        play(found, 1)
        found.place(selling("STP", stop_usd=stop_usd))
        play(found, 59)
    assert fills(found) == [(240, 98.49)]


def test_a_child_that_is_moved_while_it_waits_has_stood_nowhere() -> None:
    found = on_minutes(FLAT, (94.0, 93.0, 100.0, 96.0))
    found.place(ticket(order_type="MIT", stop_usd=96.5, transmit=False))
    for stop_usd in (95.0, 95.5):
        found.place(selling("STP", order_id=2, parent_id=1, stop_usd=stop_usd))
    play(found, 60)
    assert (len(fills(found)), fills(found, 2)) == (1, [])


def test_a_stop_that_was_placed_within_the_bar_was_moved_from_nowhere() -> None:
    found = on_minutes(FLAT, DIP)
    for stop_usd in (99.0, 99.5):
        play(found, 10)
        found.place(selling("STP", stop_usd=stop_usd))
    play(found, 40)
    assert fills(found) == []


def test_since_when_an_order_works_outlives_a_restart(tmp_path: Path) -> None:
    before = on_minutes(FLAT, DIP)
    play(before, 50)
    before.place(selling("STP", stop_usd=99.0))
    found = restarted(before, tmp_path / "state.json")
    play(found, 10)
    assert fills(found) == []


# -------------------------------------------------- immediate or cancel, from the stop on


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("STP", {"stop_usd": 99.0}),
        ("STP LMT", {"stop_usd": 99.0, "limit_usd": 98.5}),
        ("TRAIL", {"stop_usd": 1.0}),
        ("TRAIL LIMIT", {"stop_usd": 1.0, "limit_offset_usd": 0.5}),
        ("LIT", {"stop_usd": 99.0, "limit_usd": 98.5}),
    ],
)
@pytest.mark.parametrize("latency_s", [0.0, 1.0])
def test_an_immediate_order_waits_for_its_stop(
    kind: str, terms: dict[str, Any], latency_s: float
) -> None:
    side = Side.BUY if kind == "LIT" else Side.SELL
    terms = {**terms, "limit_usd": 99.5} if kind == "LIT" else terms
    prices = [100.0, 99.9, 99.8, 99.7, 98.8, 98.8]
    a_market = Market(second_tape(seconds(prices, volume=400)))
    found = opened(a_market, played_s=1, rules=Rules(latency_s=latency_s))
    found.place(ticket(side, 700, order_type=kind, tif="IOC", **terms))
    play(found, 3)
    assert (order(found).status, order(found).why_held) == (HELD, "trigger")
    play(found, 1)
    # What the quote shows fills, and the rest does not wait for more.
    assert (order(found).status, order(found).filled) == (CANCELLED, 500)
    assert order(found).done_text == "Cancelled: could not be filled at once"


def test_an_immediate_stop_that_meets_no_price_of_its_own_ends_at_its_trigger() -> None:
    found = on_seconds(100.0, 98.0, 98.0, 99.5)
    found.place(selling("STP LMT", stop_usd=99.0, limit_usd=98.9, tif="IOC"))
    play(found, 1)
    assert (order(found).status, order(found).is_triggered) == (CANCELLED, True)
    assert fills(found) == []


def test_a_stop_that_has_to_fill_whole_or_not_at_all_does_so_at_its_trigger() -> None:
    for n_shares, status in ((500, FILLED), (501, CANCELLED)):
        a_market = Market(second_tape(seconds([100.0, 98.0, 98.0], volume=400)))
        found = opened(a_market, played_s=1)
        found.place(ticket(Side.SELL, n_shares, order_type="STP", stop_usd=99.0, tif="FOK"))
        play(found, 2)
        assert (order(found).status, order(found).filled) == (status, n_shares % 501)


def test_an_immediate_stop_that_is_met_on_arrival_fills_or_ends_then() -> None:
    found = on_seconds(100.0, 100.0)
    found.place(selling("STP", stop_usd=100.5, tif="IOC"))
    assert (order(found).status, fills(found)) == (FILLED, [(1, 99.98)])


def test_an_immediate_stop_may_be_moved_and_ends_with_the_day() -> None:
    found = on_seconds(100.0, 100.0)
    found.place(selling("STP", stop_usd=99.0, tif="IOC"))
    found.place(selling("STP", stop_usd=98.0, tif="IOC"))
    assert (order(found).status, order(found).stop_usd) == (HELD, 98.0)
    play(found, (CLOSE - NOON) / NS_PER_S)
    assert (order(found).status, order(found).done_ns) == (CANCELLED, CLOSE)


def test_an_immediate_stop_protects_as_a_child() -> None:
    found = on_seconds(100.0, 100.0, 100.0, 98.0)
    found.place(ticket(transmit=False))
    found.place(selling("STP", order_id=2, parent_id=1, stop_usd=99.0, tif="IOC"))
    play(found, 1)
    assert order(found, 2).status == HELD
    play(found, 2)
    assert fills(found, 2) == [(4, 97.98)]


def restarted(before: Exchange, file: Path, *, lost: str = "") -> Exchange:
    """The same account after a restart of its gateway, in whose file a field of orders is lost."""
    a_market = before.account.market
    state.save(file, tape_id="t", now_ns=a_market.now_ns, has_streamed=True, exchange=before)
    content = json.loads(file.read_text(encoding="utf-8"))
    for row in content["exchange"]["orders"]:
        row.pop(lost, None)
    file.write_text(json.dumps(content), encoding="utf-8")
    saved = state.load(file, tape_id="t", account=before.account.code)
    assert saved is not None
    after = exchange(a_market)
    state.restore(saved, after)
    return after
