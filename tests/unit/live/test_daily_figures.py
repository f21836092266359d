from __future__ import annotations

import statistics

import anyio
import pytest

from momentum_lab.calendars import day_start_ns
from momentum_lab.core.market import NS_PER_S, Bar
from momentum_lab.errors import ConnectionLostError
from momentum_lab.live.daily_figures import DailyDesk, DailyFigures, figures_of
from momentum_lab.live.ibkr.candles import CandleOutcome, Candles
from tests.factories import NOON, bar
from tests.planner_kit import ToldClock, ToldConnector, told_connector

DAY_NS = 86_400 * NS_PER_S
TODAY = day_start_ns(NOON)


def days(n: int, *, volume: float = 1000.0, last_close: float = 100.0) -> list[Bar]:
    """Two bars a day at noon and one o'clock, the last day today; the price goes up and down."""
    found = []
    for ago in range(n, -1, -1):
        close = last_close if ago == 0 else 100.0 + ago % 2
        for hour in (0, 1):
            start_ns = NOON - ago * DAY_NS + hour * 3600 * NS_PER_S
            found.append(bar(close, volume=volume + ago, start_ns=start_ns, seconds=3600))
    return found


def test_the_figures_are_those_of_the_last_twenty_complete_days() -> None:
    found = figures_of(days(30, last_close=50.0), before_ns=TODAY)

    assert found.adv_shares == statistics.median(2 * (1000.0 + ago) for ago in range(1, 21))
    up, down = 101 / 100 - 1, 100 / 101 - 1
    assert found.sigma_ratio == pytest.approx(statistics.stdev([up, down] * 9 + [up]))


def test_of_a_few_days_nothing_is_usual() -> None:
    assert figures_of(days(9), before_ns=TODAY) == DailyFigures()
    assert figures_of(days(10), before_ns=TODAY).adv_shares is not None


def test_a_price_that_never_moved_has_no_volatility() -> None:
    still = [bar(100.0, start_ns=NOON - ago * DAY_NS, seconds=3600) for ago in range(15, 0, -1)]

    assert figures_of(still, before_ns=TODAY) == DailyFigures(1000.0, None)


class Answering(ToldConnector):
    """A connector that answers once for each answer it was given."""

    answers: list[Candles | Exception]

    async def fetch_candles(self, ticker: str, *, duration: str = "", seconds: int = 60) -> Candles:
        assert (ticker, duration, seconds) == ("SPY", "1 M", 3600)
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def learn(*answers: Candles | Exception, times: int) -> tuple[DailyDesk, ToldClock]:
    connector, clock = told_connector(Answering)
    connector.answers = list(answers)
    desk = DailyDesk(connector, clock)
    for _ in range(times):
        anyio.run(desk.learn, "SPY")
    connector.close()
    assert connector.answers == []
    return desk, clock


BARS = Candles(CandleOutcome.BARS, tuple(days(30)))


def test_a_symbol_is_asked_for_once_a_day() -> None:
    desk, clock = learn(BARS, times=3)

    assert desk.of("SPY") == figures_of(BARS.bars, before_ns=TODAY)
    assert desk.of("IBM") == DailyFigures()
    clock.at_ns += DAY_NS
    assert desk.of("SPY") == DailyFigures()


@pytest.mark.parametrize(
    "failure",
    [Candles(CandleOutcome.UNKNOWN, words="no answer"), ConnectionLostError("gone")],
    ids=["no answer", "no connection"],
)
def test_what_was_not_answered_is_asked_again(failure: Candles | Exception) -> None:
    desk, _ = learn(failure, BARS, times=2)

    assert desk.of("SPY").adv_shares is not None


def test_a_broker_without_bars_is_not_asked_again() -> None:
    desk, _ = learn(Candles(CandleOutcome.EMPTY), times=2)

    assert desk.of("SPY") == DailyFigures()
