"""In which hours an order trades and when it ends: bells, trading hours, half days, quotes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import ExchangeEvent, Executed, OrderError
from momentum_lab.records.tape_ticks import QUOTE_COLUMNS, TRADE_COLUMNS
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    OPEN,
    Row,
    exchange,
    play_to,
    second,
    second_tape,
    seconds,
    ticket,
)

HOUR_NS = 3_600 * NS_PER_S
MINUTE_NS = 60 * NS_PER_S


def fills(events: list[ExchangeEvent]) -> list[tuple[int, int]]:
    """Return (order id, instant) of each fill."""
    found = [event.execution for event in events if isinstance(event, Executed)]
    return [(fill.order_id, fill.at_ns) for fill in found]


def ended(events: list[ExchangeEvent]) -> list[tuple[int, str]]:
    found = [event for event in events if isinstance(event, OrderError) and event.code == 202]
    return [(event.order_id, event.text.partition("reason:")[2]) for event in found]


def limit(price: float, **values: Any) -> Any:
    return ticket(order_type="LMT", limit_usd=price, **values)


def stop(price: float, **values: Any) -> Any:
    return ticket(Side.SELL, order_type="STP", stop_usd=price, **values)


def minute(start_ns: int, price: float, *, low: float | None = None) -> Row:
    return "SPY", start_ns, 60, price, price, low or price, price, 40_000


def opened(*rows: Row, start_ns: int, end_ns: int = CLOSE) -> Exchange:
    return exchange(Market(second_tape(rows, start_ns=start_ns, end_ns=end_ns)))


# ---------------------------------------------------------------- the opening bell


def test_what_is_held_for_the_open_fills_at_no_price_of_before_it() -> None:
    start_ns = OPEN - 2 * MINUTE_NS
    found = opened(
        minute(start_ns, 90.0), minute(OPEN - MINUTE_NS, 91.0), minute(OPEN, 100.0),
        start_ns=start_ns,
    )  # fmt: skip
    play_to(found, OPEN - MINUTE_NS)
    found.place(ticket(order_id=1))
    found.place(limit(95.0, order_id=2))
    assert fills(play_to(found, OPEN)) == []
    # Nor does one that comes after the bell.
    found.place(limit(95.0, order_id=3))
    assert fills(play_to(found, OPEN + MINUTE_NS)) == [(1, OPEN + MINUTE_NS)]


def test_where_the_tape_has_quotes_the_instant_of_the_quote_decides() -> None:
    before, after = OPEN - 30 * NS_PER_S, OPEN + 5 * NS_PER_S
    tape = second_tape([], start_ns=OPEN - MINUTE_NS)
    quotes = [("SPY", before, 89.99, 90.0, 500, 500), ("SPY", after, 99.99, 100.0, 500, 500)]
    trades = [("SPY", before, 90.0, 100, "P", ""), ("SPY", OPEN + NS_PER_S, 90.0, 100, "P", "")]
    a_market = Market(
        replace(
            tape,
            quotes=pd.DataFrame(quotes, columns=list(QUOTE_COLUMNS)),
            trades=pd.DataFrame(trades, columns=list(TRADE_COLUMNS)),
        )
    )
    found = exchange(a_market)
    play_to(found, OPEN - NS_PER_S)
    found.place(ticket())
    # A trade of after the bell beside a quote of before it, and then a quote without a trade.
    assert fills(play_to(found, OPEN + 4 * NS_PER_S)) == []
    assert fills(play_to(found, after)) == [(1, after)]
    assert found.books.executions[0].price_usd == 100.01


# ---------------------------------------------------------------- the closing bell


def test_the_last_bar_of_a_session_triggers_and_fills_what_worked_during_it() -> None:
    start_ns = CLOSE - 3 * MINUTE_NS
    found = opened(
        minute(start_ns, 100.0), minute(CLOSE - MINUTE_NS, 98.0, low=97.0), start_ns=start_ns
    )
    play_to(found, CLOSE - 2 * MINUTE_NS)
    found.place(stop(97.5, order_id=1))
    found.place(limit(98.5, order_id=2))
    found.place(limit(90.0, order_id=3))

    events = play_to(found, CLOSE)

    assert fills(events) == [(1, CLOSE), (2, CLOSE)]
    assert ended(events) == [(3, "the day's session is over")]


def test_who_comes_with_the_bell_trades_no_more() -> None:
    start_ns = CLOSE - 2 * MINUTE_NS
    found = opened(
        minute(start_ns, 100.0), minute(CLOSE - MINUTE_NS, 100.0), minute(CLOSE, 100.0),
        start_ns=start_ns, end_ns=CLOSE + 2 * MINUTE_NS,
    )  # fmt: skip
    play_to(found, CLOSE)
    assert fills(found.place(limit(101.0, tif="GTC"))) == []
    assert fills(play_to(found, CLOSE + 2 * MINUTE_NS)) == []


def test_the_last_bar_of_the_tape_fills() -> None:
    start_ns = OPEN + HOUR_NS
    found = opened(
        minute(start_ns, 100.0), minute(start_ns + MINUTE_NS, 98.0),
        start_ns=start_ns, end_ns=start_ns + 2 * MINUTE_NS,
    )  # fmt: skip
    play_to(found, start_ns + MINUTE_NS)
    found.place(limit(99.0))
    assert fills(play_to(found, start_ns + 2 * MINUTE_NS)) == [(1, found.account.market.now_ns)]
    assert fills(found.place(ticket(order_id=2))) == []


# ---------------------------------------------------------------- trading hours


# 2013-11-29, the day after Thanksgiving, ends at 13:00; its trading hours at 17:00.
HALF_DAY_CLOSE = 1_385_748_000 * NS_PER_S


@pytest.mark.parametrize(
    ("close_ns", "hours"), [(CLOSE, 4), (HALF_DAY_CLOSE, 4)], ids=["20:00", "half day, 17:00"]
)
def test_a_day_order_for_outside_the_session_lives_as_long_as_anybody_trades(
    close_ns: int, hours: int
) -> None:
    end_ns = close_ns + hours * HOUR_NS
    found = opened(
        second(close_ns - MINUTE_NS, 100.0),
        start_ns=close_ns - MINUTE_NS, end_ns=end_ns + HOUR_NS,
    )  # fmt: skip
    play_to(found, close_ns - NS_PER_S)
    found.place(limit(90.0, order_id=1, outside_rth=True))
    found.place(limit(90.0, order_id=2))
    # One of a type that does not trade outside the session ends with it, whatever it says.
    found.place(ticket(quantity=5_000, order_id=3, outside_rth=True, all_or_none=True))

    events = play_to(found, end_ns - 1)
    assert [order_id for order_id, _ in ended(events)] == [2, 3]
    found.place(limit(90.0, order_id=4, outside_rth=True))
    assert [order_id for order_id, _ in ended(play_to(found, end_ns))] == [1, 4]


def test_nothing_trades_outside_the_trading_hours() -> None:
    late_ns = CLOSE + 4 * HOUR_NS
    early_ns = OPEN + DAY_NS - 330 * MINUTE_NS
    rows = seconds([100.0], start_ns=late_ns - 2 * NS_PER_S)
    rows += seconds([100.0] * 3, start_ns=early_ns - NS_PER_S)
    found = opened(*rows, start_ns=late_ns - MINUTE_NS, end_ns=CLOSE + DAY_NS)
    play_to(found, late_ns + HOUR_NS)

    events = found.place(limit(101.0, outside_rth=True, tif="GTC"))

    (held,) = [event for event in events if isinstance(event, OrderError)]
    assert (held.code, held.text.partition("until ")[2]) == (
        399,
        "20131010 04:00:00 America/New_York",
    )
    assert fills(play_to(found, early_ns)) == []
    assert fills(play_to(found, early_ns + 2 * NS_PER_S)) == [(1, early_ns + NS_PER_S)]


def test_an_order_that_ends_at_its_date_is_told_so() -> None:
    found = opened(second(OPEN, 100.0), start_ns=OPEN)
    play_to(found, OPEN + 2 * NS_PER_S)
    till_ns = OPEN + 10 * NS_PER_S
    found.place(limit(90.0, tif="GTD", good_till_ns=till_ns))
    assert ended(play_to(found, till_ns)) == [(1, "the good till date has been reached")]
