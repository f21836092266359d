from __future__ import annotations

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import Trade
from momentum_lab.records.tape import TapeHeadline
from tests.gateway_factories import CLOSE, DAY_NS, NOON, OPEN, news, second, second_tape, seconds


def at(seconds: float) -> int:
    return NOON + round(seconds * NS_PER_S)


def test_a_bar_is_known_at_its_end_and_not_before() -> None:
    found = Market(second_tape(seconds([100.0, 101.0])))
    list(found.advance(at(1) - 1))
    assert found.latest("SPY") is None
    list(found.advance(at(1)))
    assert found.latest("SPY").price == 100.0  # type: ignore[union-attr] # known now


def test_the_clock_stands_at_each_event_while_it_is_out() -> None:
    found = Market(second_tape(seconds([100.0, 101.0]), headlines=(news(at_ns=at(1.5)),)))
    seen = [(event.at_ns, found.now_ns) for event in found.advance(at(9))]
    assert seen == [(at(1), at(1)), (at(1.5), at(1.5)), (at(2), at(2))]
    assert found.now_ns == at(9)


def test_at_one_instant_the_ended_second_comes_before_the_headline() -> None:
    found = Market(second_tape(seconds([100.0]), headlines=(news(at_ns=at(1)),)))
    kinds = [type(event) for event in found.advance(at(1))]
    assert kinds == [Trade, TapeHeadline]


def test_no_step_is_needed_twice() -> None:
    found = Market(second_tape(seconds([100.0, 101.0])))
    assert len(list(found.advance(at(5)))) == 2
    assert list(found.advance(at(5))) == []
    assert list(found.advance(at(3))) == []
    assert found.now_ns == at(5)


def test_day_totals_run_over_one_local_date() -> None:
    rows = [
        second(CLOSE - DAY_NS - NS_PER_S, 90.0, volume=500),
        second(OPEN, 100.0, high=103.0, volume=100),
        second(OPEN + NS_PER_S, 101.0, low=98.0, volume=300),
    ]
    found = Market(second_tape(rows, start_ns=OPEN))
    list(found.advance(OPEN + 2 * NS_PER_S))
    trade = found.today("SPY")
    assert trade is not None
    assert (trade.day_volume, trade.day_open, trade.day_high, trade.day_low) == (400, 100, 103, 98)
    assert trade.day_vwap == (100 * 100 + 101 * 300) / 400
    assert trade.previous_close == 90.0


def test_before_the_first_trade_of_a_date_there_is_no_quote() -> None:
    found = Market(second_tape([second(CLOSE - DAY_NS - NS_PER_S, 90.0)], start_ns=OPEN))
    assert found.today("SPY") is None
    assert found.latest("SPY").price == 90.0  # type: ignore[union-attr] # yesterday's


def test_the_quote_holds_the_trade_price() -> None:
    found = Market(second_tape(seconds([100.0])))
    list(found.advance(at(1)))
    trade = found.today("SPY")
    assert trade is not None
    assert trade.bid <= trade.price <= trade.ask
    assert round(trade.ask - trade.bid, 9) == 0.01


def test_after_the_end_of_the_tape_nothing_happens_and_nothing_is_open() -> None:
    tape = second_tape(seconds([100.0, 101.0, 102.0]), end_ns=at(2))
    found = Market(tape)
    assert [event.at_ns for event in found.advance(at(99))] == [at(1), at(2)]
    assert found.has_ended
    assert not found.is_open


def test_a_restart_in_the_middle_goes_on_where_it_was() -> None:
    tape = second_tape(seconds([100.0, 101.0, 102.0]), headlines=(news(at_ns=at(1)),))
    found = Market(tape, start_ns=at(1))
    assert [event.at_ns for event in found.advance(at(9))] == [at(2), at(3)]
    assert len(found.past_headlines()) == 1
