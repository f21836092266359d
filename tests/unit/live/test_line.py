"""A line keeps what is of the market over a new request, and forgets what it was told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from momentum_lab.clock import Alarm
from momentum_lab.core.candle import Trade
from momentum_lab.core.market import NS_PER_S, Quote
from momentum_lab.live.ibkr.line import Line
from tests.factories import instrument

HALTED_NS = 1_000 * NS_PER_S
RESUMED_NS = HALTED_NS + 300 * NS_PER_S
Lose = Callable[[Line], None]


def halted_line() -> Line:
    line = Line(instrument("SPY"), Alarm(), Alarm())
    line.begin(1)
    line.hear_halted(True, HALTED_NS)
    return line


def told(line: Line) -> Quote:
    line.settle(1.0, RESUMED_NS)
    assert line.quote is not None
    return line.quote


def begin_again(line: Line) -> None:
    line.begin(2)


def park(line: Line) -> None:
    line.park()


@pytest.mark.parametrize("lose", [begin_again, park])
def test_when_trading_resumed_is_known_over_a_new_request(lose: Lose) -> None:
    line = halted_line()
    line.hear_halted(False, RESUMED_NS)

    lose(line)

    assert told(line).resumed_ns == RESUMED_NS


@pytest.mark.parametrize("lose", [begin_again, park])
def test_a_halt_lasts_over_a_new_request_until_its_end_is_shown(lose: Lose) -> None:
    line = halted_line()

    lose(line)
    assert told(line).halted
    line.hear_trade(Trade(RESUMED_NS, 100.0, 10))

    assert not told(line).halted
    assert told(line).resumed_ns == RESUMED_NS
