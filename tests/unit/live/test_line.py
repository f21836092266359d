"""What a line remembers of a halt over the subscriptions to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from momentum_lab.clock import transport_s
from momentum_lab.core.candle import Trade
from momentum_lab.core.market import NS_PER_S, Quote
from momentum_lab.live.ibkr.line import Line, Lines
from tests.factories import NOON, instrument

LATER = NOON + 60 * NS_PER_S


def subscribed() -> Line:
    line = Lines().want(instrument())
    line.begin(1)
    return line


def seen(line: Line, at_ns: int) -> Quote:
    """The quote after one more word about a price."""
    line.hear_bid(99.99, 500.0, at_ns)
    line.settle(transport_s(), at_ns)
    assert line.quote is not None
    return line.quote


def begun_anew(line: Line) -> None:
    line.begin(2)


def parked(line: Line) -> None:
    line.park()
    line.begin(2)


@pytest.mark.parametrize("subscribe", [begun_anew, parked])
def test_the_end_of_a_halt_is_remembered_over_subscriptions(
    subscribe: Callable[[Line], None],
) -> None:
    line = subscribed()
    line.hear_halted(True, NOON)
    line.hear_halted(False, NOON + NS_PER_S)
    subscribe(line)
    line.hear_halted(False, LATER)

    assert seen(line, LATER).resumed_ns == NOON + NS_PER_S


@pytest.mark.parametrize("subscribe", [begun_anew, parked])
@pytest.mark.parametrize(
    "tell",
    [
        lambda line: line.hear_halted(False, LATER),
        lambda line: line.hear_trade(Trade(LATER, 100.0, 100.0)),
    ],
    ids=["told", "a trade"],
)
def test_a_halt_that_ended_unheard_has_ended_with_the_first_word_of_it(
    subscribe: Callable[[Line], None], tell: Callable[[Line], None]
) -> None:
    line = subscribed()
    line.hear_halted(True, NOON)
    subscribe(line)
    # Nobody has said that it is over.
    assert seen(line, LATER - NS_PER_S).halted
    tell(line)

    assert seen(line, LATER).resumed_ns == LATER
    assert not seen(line, LATER).halted


def test_a_halt_that_goes_on_is_told_with_the_next_subscription() -> None:
    line = subscribed()
    line.hear_halted(True, NOON)
    parked(line)
    line.hear_halted(True, LATER)

    assert seen(line, LATER).halted
    assert seen(line, LATER).resumed_ns is None
