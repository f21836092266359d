from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.history import HistoryBar, bars, parse_end, parse_query, time_text
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.refusal import RefusedError
from tests.gateway_factories import CLOSE, DAY_NS, NOON, OPEN, second, second_tape, seconds

MINUTE_NS = 60 * NS_PER_S
# Five minutes before noon until five minutes after it, a cent up per second.
PRICES = [100 + n / 100 for n in range(600)]
FROM = NOON - 5 * MINUTE_NS


def ask(market: Market, **values: object) -> list[HistoryBar]:
    line = market.lines["SPY"]
    query = parse_query(wire(**values), line=line, hours=market.hours, now_ns=market.now_ns)
    return bars(line, query, now_ns=market.now_ns)


def wire(**values: object) -> Mapping[str, Any]:
    return {
        "end_date_time": "",
        "bar_size": "1 min",
        "duration": "600 S",
        "use_rth": True,
        "what_to_show": "TRADES",
        "format_date": 1,
        **values,
    }


def at(now_ns: int) -> Market:
    return Market(second_tape(seconds(PRICES, start_ns=FROM)), start_ns=now_ns)


def test_minutes_are_aligned_and_the_last_one_is_forming() -> None:
    found = ask(at(NOON + 31 * NS_PER_S), duration="120 S")
    assert [bar.start_ns for bar in found] == [NOON - MINUTE_NS, NOON]
    whole, forming = found
    assert (whole.open, whole.high, whole.low, whole.close) == (102.4, 102.99, 102.4, 102.99)
    assert (whole.volume, whole.n_bars) == (60 * 200, 60)
    assert (forming.close, forming.volume) == (103.3, 31 * 200)


def test_at_the_full_minute_there_is_no_forming_bar() -> None:
    found = ask(at(NOON), duration="120 S")
    assert [bar.start_ns for bar in found] == [NOON - 2 * MINUTE_NS, NOON - MINUTE_NS]


def test_an_end_in_the_future_is_now() -> None:
    found = ask(at(NOON), end_date_time="20131009 15:00:00 US/Eastern", duration="1 D")
    assert found[-1].start_ns == NOON - MINUTE_NS


def test_an_end_in_the_past_cuts_there() -> None:
    found = ask(at(NOON), end_date_time="20131009-15:58:00", duration="60 S")
    assert [bar.start_ns for bar in found] == [NOON - 3 * MINUTE_NS]


@pytest.mark.parametrize(
    ("text", "end_ns"),
    [
        ("", NOON),
        ("20131009 11:58:00 US/Eastern", NOON - 2 * MINUTE_NS),
        ("20131009 15:58:00 UTC", NOON - 2 * MINUTE_NS),
        ("20131009-15:58:00", NOON - 2 * MINUTE_NS),
        ("20131009 11:58:00", NOON - 2 * MINUTE_NS),
        ("20131008", NOON - 12 * 60 * MINUTE_NS),
        ("20131010", NOON),
    ],
)
def test_the_end_is_read_in_every_spelling(text: str, end_ns: int) -> None:
    assert parse_end(text, hours=at(NOON).hours, now_ns=NOON) == end_ns


@pytest.mark.parametrize(
    "wrong",
    [
        {"bar_size": "7 mins"},
        {"duration": "soon"},
        {"duration": "0 S"},
        {"duration": "99999999 D"},
        {"what_to_show": "OPTION_IMPLIED_VOLATILITY"},
        {"end_date_time": "yesterday"},
        {"end_date_time": "99991231"},
        {"end_date_time": "20131009 11:58:00 Mars/Olympus"},
    ],
)
def test_nonsense_is_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(RefusedError) as refusal:
        ask(at(NOON), **wrong)
    assert refusal.value.code == 321


@pytest.mark.parametrize(
    ("size", "n_bars"), [("1 secs", 300), ("5 secs", 60), ("30 secs", 10), ("5 mins", 1)]
)
def test_other_sizes_hold_the_same_trades(size: str, n_bars: int) -> None:
    found = ask(at(NOON), bar_size=size, duration="300 S")
    assert len(found) == n_bars
    assert sum(bar.volume for bar in found) == 300 * 200
    assert (found[0].open, found[-1].close) == (100.0, 102.99)


def test_days_count_dates_with_trades() -> None:
    friday = NOON - 5 * DAY_NS
    rows = [second(friday, 90.0), second(NOON - DAY_NS, 95.0), second(NOON, 100.0)]
    market = Market(second_tape(rows), start_ns=NOON + NS_PER_S)
    assert [bar.close for bar in ask(market, bar_size="1 day", duration="2 D")] == [95.0, 100.0]
    assert [bar.close for bar in ask(market, bar_size="1 day", duration="3 D")] == [90, 95, 100]


def test_a_duration_in_seconds_reaches_over_the_night() -> None:
    rows = [second(CLOSE - DAY_NS - MINUTE_NS, 95.0), second(OPEN, 100.0)]
    market = Market(second_tape(rows, start_ns=OPEN), start_ns=OPEN + MINUTE_NS)
    assert [bar.close for bar in ask(market, duration="180 S")] == [95.0, 100.0]


def test_the_regular_session_leaves_early_trades_out() -> None:
    rows = [second(OPEN - MINUTE_NS, 95.0), second(OPEN, 100.0)]
    market = Market(second_tape(rows, start_ns=OPEN), start_ns=OPEN + MINUTE_NS)
    assert [bar.close for bar in ask(market, use_rth=True)] == [100.0]
    assert [bar.close for bar in ask(market, use_rth=False)] == [95.0, 100.0]


def test_quotes_come_from_the_spread_model_and_have_no_volume() -> None:
    market = at(NOON)
    bid, mid, offer = (
        ask(market, what_to_show=what, duration="60 S")[0] for what in ("BID", "MIDPOINT", "ASK")
    )
    assert bid.close < mid.close < offer.close
    assert (bid.volume, bid.n_bars) == (-1, -1)
    both = ask(market, what_to_show="BID_ASK", duration="60 S")[0]
    assert both.low <= both.open <= both.close <= both.high


def test_times_are_written_as_they_were_asked_for() -> None:
    market = at(NOON)
    line = market.lines["SPY"]

    def text(with_zone: bool = True, **values: object) -> str:
        query = parse_query(wire(**values), line=line, hours=market.hours, now_ns=NOON)
        return time_text(NOON, query, hours=market.hours, with_zone=with_zone)

    assert text() == "20131009 12:00:00 America/New_York"
    assert text(with_zone=False) == "20131009  12:00:00"
    assert text(format_date=2) == str(NOON // NS_PER_S)
    assert text(format_date=2, bar_size="1 day") == "20131009"


@pytest.mark.parametrize("values", [{"duration": "100000 Y"}, {"duration": "99999 M"}])
def test_a_span_from_before_all_times_begins_with_the_tape(values: Mapping[str, Any]) -> None:
    assert len(ask(at(NOON), bar_size="1 day", **values)) == 1


@pytest.mark.parametrize("text", ["18000101 00:00:00 UTC", "00010101 00:00:00 Asia/Tokyo"])
def test_an_end_before_all_times_has_no_bars(text: str) -> None:
    assert ask(at(NOON), end_date_time=text) == []


def test_an_end_after_all_times_is_now() -> None:
    assert parse_end("99991231 23:59:59 US/Eastern", hours=at(NOON).hours, now_ns=NOON) == NOON


def test_a_symbol_that_has_not_traded_has_no_bars() -> None:
    market = at(FROM)
    assert ask(market, duration="60 S") == []
    assert ask(market, duration="1 D") == []
