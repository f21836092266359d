from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from momentum_lab.gateway.line import DayPrices
from momentum_lab.gateway.market_events import Trade
from momentum_lab.gateway.refusal import RefusedError
from momentum_lab.gateway.ticks import Generics, QuoteLine, VolumeUnit, parse_generics
from momentum_lab.gateway.voice import Message, by_message
from tests.gateway_factories import NOON

BEFORE = DayPrices(95.0, 97.0)
MESSAGES = by_message(lambda _: None)


def trade(price: float = 100.0, *, size: int = 250, day_volume: int = 12_345) -> Trade:
    return Trade(
        symbol="SPY",
        at_ns=NOON,
        price=price,
        high=price,
        low=price,
        size=size,
        bid=price - 0.01,
        ask=price,
        bid_size=500,
        ask_size=500,
        day_volume=day_volume,
        day_open=99.0,
        day_high=101.0,
        day_low=98.0,
        day_vwap=99.5,
        previous_close=97.0,
    )


def line(unit: VolumeUnit = "lots", *, rt_volume: bool = True) -> QuoteLine:
    return QuoteLine(7, "SPY", Generics(has_rt_volume=rt_volume), volume_ticks=unit)


def by_type(messages: Iterable[Message]) -> dict[int, Any]:
    found = {}
    for _, values in messages:
        shown = [values[key] for key in ("price", "size", "text", "value") if key in values]
        found[values["tick_type"]] = shown[0]
    return found


def test_the_opening_ticks_tell_the_state_of_the_day() -> None:
    found = by_type(line().opening(trade(), trade(), BEFORE))
    assert (found[1], found[2], found[4]) == (99.99, 100.0, 100.0)
    assert (found[6], found[7], found[9], found[14], found[49]) == (101.0, 98.0, 97.0, 99.0, 0)


def test_before_the_first_trade_of_the_day_only_open_and_close_of_before_are_known() -> None:
    assert by_type(line().opening(None, trade(96.5), BEFORE)) == {9: 97.0, 14: 95.0, 49: 0}
    assert by_type(line().opening(None, None, DayPrices(None, None))) == {49: 0}


def test_the_first_trade_of_a_day_tells_the_new_close() -> None:
    found = line()
    found.opening(trade(), trade(), BEFORE)
    told = by_type(found.tell(trade()._replace(previous_close=100.0), MESSAGES))
    assert (told[9], 14 in told) == (100.0, False)
    assert 9 not in by_type(found.tell(trade()._replace(previous_close=100.0), MESSAGES))


def test_volume_is_told_in_whole_lots_by_default() -> None:
    assert by_type(line().tell(trade(), MESSAGES))[8] == 123
    assert by_type(line("shares").tell(trade(), MESSAGES))[8] == 12_345


def test_rt_volume_is_stamped_inside_the_second_it_tells_of() -> None:
    text = by_type(line().tell(trade(), MESSAGES))[48]
    assert text == f"100;2.5;{NOON // 1_000_000 - 1};123;99.50000000;false"
    text = by_type(line("shares").tell(trade(), MESSAGES))[48]
    assert text == f"100;250;{NOON // 1_000_000 - 1};12345;99.50000000;false"


def test_the_time_of_the_last_trade_is_inside_its_bar_or_that_of_the_single_trade() -> None:
    noon_s = NOON // 1_000_000_000
    assert by_type(line().tell(trade(), MESSAGES))[45] == str(noon_s - 1)
    assert by_type(line().tell(trade()._replace(is_single=True), MESSAGES))[45] == str(noon_s)


def test_rt_volume_comes_only_if_asked_for() -> None:
    assert 48 not in by_type(line(rt_volume=False).tell(trade(), MESSAGES))


def test_an_unchanged_quote_is_not_told_again_but_every_trade_is() -> None:
    found = line()
    list(found.tell(trade(), MESSAGES))
    assert set(by_type(found.tell(trade(), MESSAGES))) == {4, 8, 48}


def test_a_generic_list_is_read_by_its_tokens() -> None:
    found = parse_generics("233, mdoff,292:BRFG+DJNL")
    assert found == Generics(
        has_prices=False,
        has_rt_volume=True,
        has_news=True,
        providers=frozenset({"BRFG", "DJNL"}),
    )
    assert parse_generics("") == Generics()
    assert not parse_generics("293").has_news


@pytest.mark.parametrize("text", ["news", "1292", "233;292"])
def test_an_unreadable_generic_list_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="generic tick list"):
        parse_generics(text)
