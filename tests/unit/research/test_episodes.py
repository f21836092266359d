from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd
import pytest

from momentum_lab.core.candle import MINUTE_NS
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.history import parse_query
from momentum_lab.gateway.history_bars import bars
from momentum_lab.gateway.hours import Hours
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import MarketEvent, Trade
from momentum_lab.research.episodes import Episode, make_episodes, path_of
from tests.factories import NOON, bar, bar_table, quiet_bars, tape, tape_headline
from tests.record_kit import FOMC, sample

UNIVERSE = ("SPY", "IBM", "BAC")


@pytest.fixture(scope="module")
def episodes() -> tuple[Episode, ...]:
    return make_episodes(sample(), universe=UNIVERSE)


@pytest.fixture(scope="module")
def fomc(episodes: tuple[Episode, ...]) -> Episode:
    return next(episode for episode in episodes if episode.headline.received_ns == FOMC)


def test_each_headline_is_one_episode_with_its_primary_symbol(
    episodes: tuple[Episode, ...],
) -> None:
    assert [episode.symbol for episode in episodes] == ["IBM", None, "BAC", "SPY", "IBM"]


def test_the_first_symbol_that_may_be_traded_is_the_primary_one() -> None:
    headlines = (tape_headline("Talks (XYZ) with (SPY)"),)

    (found,) = make_episodes(tape(headlines=headlines), universe=("SPY",))

    assert found.symbol == "SPY"
    assert found.headline.symbols == ("XYZ", "SPY")


def test_the_bars_are_those_that_a_gateway_answers(fomc: Episode) -> None:
    market = Market(sample(), start_ns=FOMC)
    line = market.lines["SPY"]
    values = {
        "bar_size": "1 min",
        "what_to_show": "TRADES",
        "end_date_time": "",
        "use_rth": 1,
        "duration": "2 D",
        "format_date": 2,
    }
    query = parse_query(values, line=line, hours=Hours("America/New_York"), now_ns=FOMC)

    answered = [found for found in bars(line, query, now_ns=FOMC) if found.start_ns < FOMC]

    assert [
        (found.start_ns, found.open, found.high, found.low, found.close, found.volume)
        for found in answered
    ] == [
        (found.start_ns, found.open, found.high, found.low, found.close, found.volume)
        for found in fomc.bars
    ]


def test_the_ticks_are_the_trades_that_a_gateway_sends(fomc: Episode) -> None:
    market = Market(sample(), start_ns=FOMC)
    sent = list(_trades_of_spy(market.advance(FOMC + 60 * NS_PER_S)))

    heard = fomc.ticks[fomc.n_before : fomc.n_before + len(sent)]

    assert [(t.at_ns, t.price, t.bid, t.ask) for t in sent] == [
        (t.at_ns, t.quote.last, t.quote.bid, t.quote.ask) for t in heard
    ]


def test_no_bar_knows_anything_after_the_headline(fomc: Episode) -> None:
    assert fomc.bars[-1].end_ns == FOMC
    assert all(tick.at_ns <= FOMC for tick in fomc.ticks[: fomc.n_before])
    assert fomc.ticks[fomc.n_before].at_ns > FOMC


def test_candles_measure_shares(fomc: Episode) -> None:
    closed = {found.start_ns: found.volume for found in fomc.bars}

    heard = fomc.ticks[fomc.n_before - 1].candles.closed

    assert heard
    assert all(candle.volume == closed[candle.start_ns] for candle in heard)


def test_an_episode_ends_with_its_horizon_or_with_the_tape() -> None:
    (short,) = make_episodes(tape(), universe=("SPY",), horizon_s=60)
    (whole,) = make_episodes(tape(), universe=("SPY",), horizon_s=10**6)

    assert short.end_ns == NOON + MINUTE_NS
    assert whole.end_ns == NOON + 60 * MINUTE_NS


def test_a_line_without_trades_gives_an_episode_without_ticks() -> None:
    (found,) = make_episodes(tape(bars=bar_table(())), universe=("SPY",))

    assert found.bars == ()
    assert found.ticks == ()
    assert len(path_of(found)["last"]) == 0


def test_what_was_traded_outside_the_session_is_not_heard() -> None:
    before_open = bar(50.0, start_ns=NOON - 3 * 3600 * NS_PER_S, seconds=1)
    rows = pd.concat([bar_table((before_open,)), bar_table(quiet_bars())], ignore_index=True)

    (found,) = make_episodes(tape(bars=rows), universe=("SPY",))

    assert len(found.bars) == len(quiet_bars())


def _trades_of_spy(events: Iterable[MarketEvent]) -> Iterator[Trade]:
    return (event for event in events if isinstance(event, Trade) and event.symbol == "SPY")
