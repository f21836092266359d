from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from typing import Any

import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.history import parse_end, parse_query, time_text
from momentum_lab.gateway.history_bars import HistoryBar, bars
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.refusal import RefusedError
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    NOON,
    OPEN,
    second,
    second_tape,
    seconds,
    tick_tape,
)

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
        ("11:58:00", NOON - 2 * MINUTE_NS),
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
    ],
)
def test_nonsense_is_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(RefusedError) as refusal:
        ask(at(NOON), **wrong)
    assert refusal.value.code == 321


@pytest.mark.parametrize("text", ["yesterday", "99991231", "20131009 11:58:00 Mars/Olympus"])
def test_an_end_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        ask(at(NOON), end_date_time=text)
    assert refusal.value.code == 10314


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


def test_before_the_bell_a_regular_day_is_the_last_session() -> None:
    yesterday, early = seconds([95.0, 96.0], start_ns=OPEN - DAY_NS), OPEN - MINUTE_NS
    rows = [*yesterday, second(early, 98.0), second(OPEN, 100.0)]
    market = Market(second_tape(rows, start_ns=early), start_ns=OPEN)
    assert [bar.close for bar in ask(market, duration="1 D")] == [96.0]
    assert [bar.close for bar in ask(market, duration="1 D", use_rth=False)] == [98.0]
    list(market.advance(OPEN + NS_PER_S))
    assert [bar.close for bar in ask(market, duration="1 D")] == [100.0]


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


@pytest.mark.parametrize("values", [{"duration": "68 Y"}, {"duration": "12 M"}])
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


def days_of_minutes(*days: str) -> Market:
    """Two minutes of trading at the opening and one in the last minute before noon, each day."""
    rows = []
    for number, day in enumerate(days):
        midnight = Hours("America/New_York").instant(date.fromisoformat(day), time(0))
        for second_of_day, price in ((34_200, 100.0), (34_260, 101.0), (43_140, 99.0)):
            rows.append(second(midnight + second_of_day * NS_PER_S, price + number, volume=10))
    end_ns = max(row[1] for row in rows) + 60 * NS_PER_S
    tape = second_tape(rows, start_ns=min(row[1] for row in rows), end_ns=end_ns)
    return Market(tape, start_ns=end_ns)


def dates(found: list[HistoryBar], market: Market) -> list[str]:
    return [f"{market.hours.local(bar.start_ns):%m-%d %H:%M}" for bar in found]


def test_an_hour_of_the_regular_session_begins_with_it() -> None:
    market = days_of_minutes("2013-10-09")
    found = ask(market, bar_size="1 hour", duration="1 D")
    assert dates(found, market) == ["10-09 09:30", "10-09 11:00"]
    found = ask(market, bar_size="1 hour", duration="1 D", use_rth=False)
    assert dates(found, market) == ["10-09 09:00", "10-09 11:00"]


def test_bars_of_hours_lie_on_the_local_grid_in_winter_too() -> None:
    market = days_of_minutes("2013-12-11")
    found = ask(market, bar_size="4 hours", duration="1 D", use_rth=False)
    assert dates(found, market) == ["12-11 08:00"]


def extended_days(*days: str) -> Market:
    """A share in every minute of 04:00 to 20:00 of each day, played to its end."""
    first = [Hours("America/New_York").instant(date.fromisoformat(day), time(4)) for day in days]
    rows = [
        second(start_ns + n * MINUTE_NS, 100.0, volume=1)
        for start_ns in first
        for n in range(16 * 60)
    ]
    end_ns = rows[-1][1] + MINUTE_NS
    return Market(second_tape(rows, start_ns=rows[0][1], end_ns=end_ns), start_ns=end_ns)


SUMMER, WINTER = ("2013-10-08", "2013-10-09"), ("2013-12-10", "2013-12-11")
HALF = ("2015-12-23", "2015-12-24")


@pytest.mark.parametrize("kind", ["TRADES", "ASK"])
@pytest.mark.parametrize(
    ("days", "end", "duration", "size", "rth", "starts"),
    [
        (SUMMER, "16:00", "23400 S", "1 hour", True, ("09:30", *range(10, 16))),
        (WINTER, "16:00", "23400 S", "1 hour", True, ("09:30", *range(10, 16))),
        (HALF, "13:00", "12600 S", "1 hour", True, ("09:30", 10, 11, 12)),
        (SUMMER, "16:00", "23400 S", "2 hours", True, ("09:30", 10, 12, 14)),
        (SUMMER, "16:00", "23400 S", "8 hours", True, ("09:30",)),
        (SUMMER, "16:00", "7200 S", "1 hour", True, (14, 15)),
        (SUMMER, "15:30", "7200 S", "1 hour", True, (14, 15)),
        (SUMMER, "16:00", "28800 S", "8 hours", False, (8,)),
        (WINTER, "16:00", "28800 S", "8 hours", False, (8,)),
        (SUMMER, "16:00", "21600 S", "3 hours", False, (12, 15)),
        (WINTER, "16:00", "21600 S", "3 hours", False, (12, 15)),
        (SUMMER, "16:00", "14400 S", "4 hours", False, (12,)),
        (WINTER, "16:00", "14400 S", "4 hours", False, (12,)),
        # Eight hours of trading back from noon of a half day: to its opening at 04:00.
        (HALF, "12:00", "28800 S", "3 hours", False, (3, 6, 9)),
        (SUMMER, "10:00", "7200 S", "1 hour", True, ("-15:00", "09:30")),
    ],
)
def test_bars_of_hours_over_seconds_are_whole(
    days: tuple[str, str],
    end: str,
    duration: str,
    size: str,
    rth: bool,
    starts: tuple[object, ...],
    kind: str,
) -> None:
    market = extended_days(*days)
    found = ask(
        market,
        end_date_time=f"{days[1].replace('-', '')} {end}:00 US/Eastern",
        duration=duration,
        bar_size=size,
        use_rth=rth,
        what_to_show=kind,
    )
    told = [f"{start:02d}:00" if isinstance(start, int) else str(start) for start in starts]
    assert dates(found, market) == [
        f"{days[not text.startswith('-')][5:]} {text.lstrip('-')}" for text in told
    ]


def test_the_first_bar_over_seconds_holds_all_of_its_hours() -> None:
    market = extended_days(*WINTER)
    (bar,) = ask(
        market,
        end_date_time="20131211 16:00:00 US/Eastern",
        duration="14400 S",
        bar_size="4 hours",
        use_rth=False,
    )
    assert (bar.volume, bar.n_bars) == (240, 240)


def test_the_opening_bar_of_a_tape_without_extended_hours_is_kept() -> None:
    rows = [second(OPEN + n * MINUTE_NS, 100.0) for n in range(390)]
    market = Market(second_tape(rows, start_ns=OPEN), start_ns=CLOSE)
    for kind in ("TRADES", "ASK"):
        found = ask(market, duration="23400 S", bar_size="1 hour", use_rth=False, what_to_show=kind)
        assert dates(found, market) == [f"10-09 {hour:02d}:00" for hour in range(9, 16)]


def test_weeks_and_months_are_those_of_the_local_calendar() -> None:
    # A Friday, the Monday after it, and the first day of the next month.
    market = days_of_minutes("2013-09-27", "2013-09-30", "2013-10-01")
    weeks = ask(market, bar_size="1 week", duration="1 M")
    assert dates(weeks, market) == ["09-27 09:30", "09-30 09:30"]
    assert [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in weeks] == [
        (100.0, 101.0, 99.0, 99.0, 30),
        (101.0, 103.0, 100.0, 101.0, 60),
    ]
    months = ask(market, bar_size="1 month", duration="1 Y")
    assert dates(months, market) == ["09-27 09:30", "10-01 09:30"]


@pytest.mark.parametrize(
    ("duration", "size", "first", "volumes"),
    [
        # Asked on a Wednesday, the 30th of October.
        ("1 W", "1 week", "10-21 09:30", [60, 60]),
        ("3 D", "1 week", "10-21 09:30", [60, 60]),
        ("1 D", "1 week", "10-28 09:30", [60]),
        ("1 M", "1 month", "09-16 09:30", [90, 150]),
        ("1 Y", "1 month", "09-16 09:30", [90, 150]),
        ("2 W", "1 month", "10-16 09:30", [150]),
        ("1 D", "1 month", "10-16 09:30", [150]),
        ("41400 S", "1 day", "10-28 09:30", [30, 30]),
    ],
)
def test_the_first_bar_of_days_weeks_and_months_is_whole(
    duration: str, size: str, first: str, volumes: list[int]
) -> None:
    market = days_of_minutes(
        *("2013-09-16", "2013-09-24", "2013-09-30", "2013-10-16"),
        *("2013-10-21", "2013-10-25", "2013-10-28", "2013-10-30"),
    )
    found = ask(market, bar_size=size, duration=duration)
    assert dates(found, market)[0] == first
    assert [bar.volume for bar in found] == volumes


def test_the_regular_session_of_a_half_day_ends_early() -> None:
    day = date(2015, 12, 24)
    midnight = Hours("America/New_York").instant(day, time(0))
    rows = [second(midnight + s * NS_PER_S, 100.0) for s in (46_799, 46_800, 50_000)]
    market = Market(second_tape(rows, start_ns=rows[0][1], end_ns=rows[-1][1] + 2 * NS_PER_S))
    list(market.advance(rows[-1][1] + NS_PER_S))
    assert len(ask(market, bar_size="1 secs", duration="1800 S", use_rth=True)) == 1
    assert dates(ask(market, bar_size="1 day", duration="1 D"), market) == ["12-24 12:59"]


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"duration": "90000 S"}, 321, "must be made in days"),
        ({"duration": "400 D", "bar_size": "1 day"}, 321, "must be made in years"),
        ({"duration": "53 W", "bar_size": "1 day"}, 321, "must be made in years"),
        ({"duration": "3000 S", "bar_size": "1 secs"}, 162, "invalid step"),
        ({"duration": "1 M", "bar_size": "10 secs"}, 162, "invalid step"),
        ({"what_to_show": "SCHEDULE"}, 321, "schedule"),
        ({"what_to_show": "ADJUSTED_LAST", "end_date_time": "20131009"}, 321, "adjusted last"),
    ],
)
def test_a_span_that_the_broker_refuses_is_refused(
    values: Mapping[str, Any], code: int, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as refusal:
        ask(at(NOON), **values)
    assert refusal.value.code == code


QUOTES = (
    (0.0, 99.0, 101.0, 1, 1),
    (30.0, 99.5, 100.5, 1, 1),
    (90.0, 100.0, 102.0, 1, 1),
    (100.0, 103.0, 102.0, 1, 1),  # crossed
)


def quoted(what: str) -> list[tuple[float, ...]]:
    market = Market(tick_tape(quotes=QUOTES))
    list(market.advance(NOON + 120 * NS_PER_S))
    found = ask(market, what_to_show=what, duration="1 D")
    return [(bar.open, bar.high, bar.low, bar.close) for bar in found]


def test_bars_of_quotes_begin_with_the_quote_that_holds() -> None:
    assert quoted("BID") == [(99.0, 99.5, 99.0, 99.5), (99.5, 103.0, 99.5, 103.0)]
    assert quoted("ASK") == [(101.0, 101.0, 100.5, 100.5), (100.5, 102.0, 100.5, 102.0)]


def test_a_middle_is_of_both_sides_and_never_crossed() -> None:
    assert quoted("MIDPOINT") == [(100.0, 100.0, 100.0, 100.0), (100.0, 101.0, 100.0, 101.0)]


def test_bid_and_ask_together_are_averages_over_time() -> None:
    assert quoted("BID_ASK") == [
        (99.25, 101.0, 99.0, 100.75),
        (99.75, 102.0, 99.5, 101.25),
    ]


@pytest.mark.parametrize(
    ("what", "stood"),
    [
        ("BID", (103.0, 103.0, 103.0, 103.0)),
        ("MIDPOINT", (101.0, 101.0, 101.0, 101.0)),
        ("BID_ASK", (100.0, 102.0, 100.0, 102.0)),
    ],
)
def test_a_quote_that_stands_still_goes_on_giving_bars(what: str, stood: tuple[float, ...]) -> None:
    market = Market(tick_tape(quotes=QUOTES))
    list(market.advance(NOON + 250 * NS_PER_S))
    whole = ask(market, what_to_show=what, duration="1 D")
    assert [bar.start_ns for bar in whole] == [NOON + n * MINUTE_NS for n in range(5)]
    late = ask(market, what_to_show=what, duration="120 S")
    assert late == whole[-2:]
    assert [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in late] == [
        (*stood, -1),
        (*stood, -1),
    ]


def test_a_modelled_quote_stands_still_between_trades() -> None:
    rows = [second(NOON, 100.0), second(NOON + 130 * NS_PER_S, 101.0)]
    market = Market(second_tape(rows), start_ns=NOON + 200 * NS_PER_S)
    middles = ask(market, what_to_show="MIDPOINT", duration="1 D")
    assert [bar.close for bar in middles] == [99.995, 99.995, 100.995, 100.995]
    assert middles[-1:] == ask(market, what_to_show="MIDPOINT", duration="60 S")
    assert [bar.close for bar in ask(market, duration="1 D")] == [100.0, 101.0]


@pytest.mark.parametrize("rth", [True, False])
def test_a_quote_stands_still_until_the_end_of_its_session(rth: bool) -> None:
    rows = [second(CLOSE - DAY_NS - 3 * MINUTE_NS, 95.0), second(OPEN + 2 * MINUTE_NS, 100.0)]
    market = Market(second_tape(rows), start_ns=OPEN + 4 * MINUTE_NS)
    found = ask(market, what_to_show="ASK", duration="2 D", use_rth=rth)
    assert [bar.start_ns for bar in found] == [
        *(CLOSE - DAY_NS - n * MINUTE_NS for n in (3, 2, 1)),
        *(OPEN + n * MINUTE_NS for n in (2, 3)),
    ]


def test_a_tape_of_quotes_has_no_bars_of_trades() -> None:
    assert quoted("TRADES") == []
