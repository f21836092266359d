"""A tape of single ticks as a market: what is known when, and what a halt does to it."""

from __future__ import annotations

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.line import NO_QUOTE, BestQuote
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import HaltChange, QuoteChange, Trade
from momentum_lab.records.tape_ticks import (
    HALTED_BY_VOLATILITY,
    LIMIT_STATE,
    TRADING,
)
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    OPEN,
    at,
    second,
    second_tape,
    seconds,
    tick_tape,
)

MINUTE_NS = 60 * NS_PER_S
QUOTES = ((0.0, 99.98, 100.02, 300, 500), (2.5, 99.99, 100.01, 100, 200))
TRADES = ((1.0, 100.02, 100), (1.0, 100.01, 50), (3.25, 99.99, 200))


def played(market: Market, n_seconds: float) -> list[object]:
    return list(market.advance(at(n_seconds)))


def test_a_trade_is_known_at_its_instant_beside_the_quote_of_then() -> None:
    market = Market(tick_tape(trades=TRADES, quotes=QUOTES))
    events = played(market, 1.0)
    assert [(e.price, e.size, e.bid, e.ask_size) for e in events if isinstance(e, Trade)] == [
        (100.02, 100, 99.98, 500),
        (100.01, 50, 99.98, 500),
    ]
    latest = market.latest("SPY")
    assert latest is not None
    assert (latest.price, latest.day_volume, latest.exchange, latest.is_single) == (
        *(100.01, 150, "P", True),
    )


def test_each_trade_is_told_beside_the_quote_of_its_own_instant() -> None:
    quotes = ((0.5, 99.0, 99.1, 1, 2), (2.0, 0.0, 99.3, 0, 4), (2.0, 99.4, 99.5, 5, 6))
    trades = ((0.25, 99.0, 10), (0.5, 99.1, 10), (1.75, 99.0, 10), (2.0, 99.5, 10))
    line = Market(tick_tape(trades=trades, quotes=quotes)).lines["SPY"]
    expected = [line.quotes.at(at(seconds)) or NO_QUOTE for seconds, _, _ in trades]
    told = [line.trade(index) for index in range(len(trades))]
    assert [BestQuote(t.bid, t.ask, t.bid_size, t.ask_size) for t in told] == expected
    assert (expected[0], expected[-1]) == (NO_QUOTE, (99.4, 99.5, 5, 6))


def test_rows_are_told_in_any_order_as_the_tape_has_them() -> None:
    n_rows = 5_000
    prices = [100 + n % 977 / 100 for n in range(n_rows)]
    line = Market(second_tape(seconds(prices))).lines["SPY"]
    turns = [n for late in range(1_500, n_rows, 7) for n in (late, late - 1_500)]
    for index in (*turns, n_rows - 1, 0):
        told = line.trade(index)
        assert (told.at_ns, told.price) == (line.end_ns[index], prices[index])
        assert told.day_volume == 200 * (index + 1)


def test_a_quote_changes_what_the_last_trade_is_shown_with() -> None:
    market = Market(tick_tape(trades=TRADES, quotes=QUOTES))
    (change,) = (e for e in played(market, 2.5) if isinstance(e, QuoteChange) and e.at_ns > at(0))
    assert (change.bid, change.ask) == (99.99, 100.01)
    today = market.today("SPY")
    assert today is not None
    assert (today.price, today.bid, today.ask_size) == (100.01, 99.99, 200)


def test_without_trades_the_middle_of_the_quote_stands_for_the_price() -> None:
    market = Market(tick_tape(quotes=QUOTES))
    played(market, 3)
    today = market.today("SPY")
    assert today is not None
    assert (today.price, today.size, today.is_traded) == (100.0, 0, False)


def test_a_crossed_or_one_sided_quote_is_shown_and_moves_no_price() -> None:
    quotes = (*QUOTES, (3.0, 100.5, 100.0, 1, 1), (4.0, 0.0, 100.3, 0, 7))
    market = Market(tick_tape(quotes=quotes))
    played(market, 3)
    crossed = market.today("SPY")
    played(market, 4)
    one_sided = market.today("SPY")
    assert crossed is not None
    assert one_sided is not None
    assert (crossed.price, crossed.bid, crossed.ask) == (100.0, 100.5, 100.0)
    assert (one_sided.price, one_sided.bid, one_sided.ask_size) == (100.0, 0.0, 7)


def test_bars_of_the_day_before_and_ticks_of_today_are_one_line() -> None:
    yesterday = second(CLOSE - DAY_NS - 1_000_000_000, 90.0, volume=700)
    market = Market(tick_tape(trades=TRADES, rows=[yesterday]))
    played(market, 1.0)
    today = market.today("SPY")
    assert today is not None
    assert (today.previous_close, today.day_volume, today.day_open) == (90.0, 150, 100.02)


def test_open_and_close_of_a_date_are_those_of_its_regular_session() -> None:
    yesterday = [(OPEN, 90.0), (CLOSE - MINUTE_NS, 95.0), (CLOSE + MINUTE_NS, 97.0)]
    today = [(OPEN - MINUTE_NS, 98.0), (OPEN, 100.0), (CLOSE, 103.0)]
    rows = [second(ns - DAY_NS, price) for ns, price in yesterday]
    rows += [second(ns, price) for ns, price in today]
    line = Market(second_tape(rows)).lines["SPY"]
    told = [line.trade(index) for index in range(len(rows))]
    assert [trade.day_open for trade in told] == [90.0, 90.0, 90.0, 90.0, 100.0, 100.0]
    assert [trade.previous_close for trade in told] == [None] * 3 + [95.0] * 3
    assert line.before(OPEN) == (90.0, 95.0)
    assert line.before(OPEN + DAY_NS) == (100.0, 100.0)
    assert line.before(OPEN - DAY_NS) == (None, None)


def test_before_the_first_session_there_is_no_open() -> None:
    rows = [second(OPEN - MINUTE_NS, 98.0), second(OPEN, 100.0)]
    line = Market(second_tape(rows)).lines["SPY"]
    assert [line.trade(index).day_open for index in range(2)] == [None, 100.0]


def test_dates_without_a_session_open_and_close_with_their_trades() -> None:
    rows = [second(OPEN - 4 * DAY_NS, 90.0), second(CLOSE - 4 * DAY_NS, 92.0), second(OPEN, 99.0)]
    line = Market(second_tape(rows)).lines["SPY"]
    assert [line.trade(index).day_open for index in range(3)] == [90.0, 90.0, 99.0]
    assert line.before(OPEN) == (90.0, 92.0)


def test_of_a_tape_of_quotes_the_last_middle_of_before_is_the_close() -> None:
    quotes = ((-86_400.0, 97.0, 99.0, 1, 1), *QUOTES)
    market = Market(tick_tape(quotes=quotes))
    assert market.lines["SPY"].before(at(3)) == (None, 98.0)


def test_the_tapes_own_halt_takes_the_quote_away_and_gives_it_back() -> None:
    halts = ((1.5, HALTED_BY_VOLATILITY), (3.0, TRADING))
    market = Market(tick_tape(trades=TRADES, quotes=QUOTES, halts=halts))
    events = played(market, 2)
    assert [e.kind for e in events if isinstance(e, HaltChange)] == [HALTED_BY_VOLATILITY]
    assert market.is_halted("SPY")
    halted = market.today("SPY")
    assert halted is not None
    assert (halted.bid, halted.ask) == (0.0, 0.0)
    events = played(market, 3)
    assert [type(e) for e in events] == [HaltChange, QuoteChange]
    resumed = events[-1]
    assert isinstance(resumed, QuoteChange)
    # The quote of 2.5 s was not told, but it holds now.
    assert (resumed.bid, resumed.ask) == (99.99, 100.01)


def test_what_falls_into_a_halt_has_never_happened() -> None:
    market = Market(second_tape(seconds([100.0, 101.0, 102.0, 103.0], volume=100)))
    played(market, 1)
    market.change_halt("SPY", HALTED_BY_VOLATILITY)
    assert [e for e in played(market, 3) if isinstance(e, Trade)] == []
    market.change_halt("SPY", TRADING)
    (after,) = (e for e in played(market, 4) if isinstance(e, Trade))
    assert (after.price, after.day_volume, after.day_high) == (103.0, 200, 103.0)
    assert (after.day_low, after.day_open) == (100.0, 100.0)


def test_a_limit_state_goes_on_trading() -> None:
    market = Market(second_tape(seconds([100.0, 101.0])))
    market.change_halt("SPY", LIMIT_STATE)
    assert market.is_at_limit("SPY")
    assert not market.is_halted("SPY")
    assert len(played(market, 2)) == 2


def test_a_market_that_starts_in_a_halt_knows_it() -> None:
    halts = ((-5.0, HALTED_BY_VOLATILITY), (3.0, TRADING))
    market = Market(tick_tape(trades=TRADES, halts=halts), start_ns=at(0))
    assert market.is_halted("SPY")
    played(market, 3)
    assert not market.is_halted("SPY")
