from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from momentum_lab.clock import transport_s
from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.signal import TradeSignal
from momentum_lab.errors import DataError
from momentum_lab.parameters import Parameters, load_parameters
from momentum_lab.research.episodes import Episode, make_episodes
from momentum_lab.research.hypothetical_trade import Entry, enter, follow
from momentum_lab.research.what_if import what_if
from tests.factories import tape
from tests.record_kit import FOMC, ROOT, sample

EQUITY_USD = 1_000_000.0
DEMO = load_parameters(ROOT / "parameters" / "demo.yaml")
DESIGN = load_parameters(ROOT / "parameters" / "design.yaml")
# The issue asks for a slider that follows the hand; the bound leaves room for a busy machine.
LONGEST_S = 0.15


@pytest.fixture(scope="module")
def episodes() -> tuple[Episode, ...]:
    return make_episodes(sample(), universe=DEMO.universe)


def demo(section: str, **values: Any) -> Parameters:
    changed: Any = {section: replace(getattr(DEMO, section), **values)}
    return replace(DEMO, **changed)


# A stop that the first recovery of the price does not reach.
WIDE = 0.0017


def fomc_row(episodes: tuple[Episode, ...], parameters: Parameters) -> pd.Series[Any]:
    found = what_if(episodes, parameters, equity_usd=EQUITY_USD)
    return found[found["received_ns"] == FOMC].iloc[0]


def test_the_demo_sells_spy_on_the_minutes_and_is_stopped_out(
    episodes: tuple[Episode, ...],
) -> None:
    row = fomc_row(episodes, DEMO)

    assert (row["outcome"], row["reason"], row["side"]) == ("enter", "SHOCK", "SELL")
    assert f"{row['entry_at']:%H:%M:%S}" == "14:00:32"
    assert (row["entry_price"], row["stop"], row["target"]) == (165.69, 165.94, 162.37)
    assert f"{row['exit_at']:%H:%M:%S}" == "14:01:20"
    assert (row["exit_price"], row["exit_reason"]) == (165.94, "STOP_LOSS")
    assert row["net_usd"] < 0


def test_profit_is_what_the_fills_and_their_costs_make(episodes: tuple[Episode, ...]) -> None:
    row = fomc_row(episodes, DEMO)

    gross = (row["entry_price"] - row["exit_price"]) * row["shares"]
    costs = 2 * FillModel().commission_usd(row["shares"])
    assert row["gross_usd"] == pytest.approx(gross)
    assert row["costs_usd"] == pytest.approx(costs)
    assert row["net_usd"] == pytest.approx(gross - costs)


def test_the_design_trades_nothing_that_day(episodes: tuple[Episode, ...]) -> None:
    found = what_if(episodes, DESIGN, equity_usd=EQUITY_USD)

    assert list(found["outcome"].unique()) == ["pass"]
    row = found[found["received_ns"] == FOMC].iloc[0]
    assert (row["reason"], row["limit_value"]) == ("NO_SHOCK_PRICE", 3.0)
    assert row["observed"] == pytest.approx(2.787, abs=0.001)


def test_every_headline_has_one_row_with_its_reason(episodes: tuple[Episode, ...]) -> None:
    found = what_if(episodes, DEMO, equity_usd=EQUITY_USD)

    assert list(found["reason"]) == [
        "NO_SHOCK_PRICE",
        "NO_TICKER",
        "NO_SHOCK_PRICE",
        "SHOCK",
        "NO_SHOCK_PRICE",
    ]


def test_both_readings_stand_beside_each_watched_headline(episodes: tuple[Episode, ...]) -> None:
    row = fomc_row(episodes, DEMO)

    assert row["move_atr"] == pytest.approx(-2.623, abs=0.001)
    assert row["volume_sma"] == pytest.approx(5.14, abs=0.01)


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        ("shock", {"direction": "long"}, "WRONG_DIRECTION"),
        ("shock", {"price_atr_multiple": 1.5, "volume_multiple": 9.0}, "NO_SHOCK_VOLUME"),
        ("shock", {"watch_s": 20.0}, "NO_SHOCK_PRICE"),
        ("guards", {"entries_before_close_s": 7200.0}, "OUTSIDE_SESSION"),
        ("guards", {"spread_max_bps": 0.5}, "SPREAD_TOO_WIDE"),
        ("risk", {"price_min_usd": 200.0}, "PRICE_BELOW_MIN"),
        ("risk", {"band_room_multiple": 5.0}, "NEAR_PRICE_BAND"),
        # six shares, whose commissions are more than a quarter of what the stop would lose
        ("sizing", {"max_position_ratio": 0.001, "risk_ratio": 0.0001}, "SIZE_ZERO"),
        ("sizing", {"max_position_ratio": 0.01, "risk_ratio": 0.0001}, "SHOCK"),
    ],
)
def test_a_guard_that_refuses_is_named(
    episodes: tuple[Episode, ...], section: str, values: dict[str, Any], reason: str
) -> None:
    assert fomc_row(episodes, demo(section, **values))["reason"] == reason


def test_an_account_too_small_for_one_share_trades_nothing(episodes: tuple[Episode, ...]) -> None:
    found = what_if(episodes, DEMO, equity_usd=100.0)

    row = found[found["received_ns"] == FOMC].iloc[0]
    assert (row["reason"], row["limit_value"]) == ("SIZE_ZERO", 1)
    # 10 % of 100 USD
    assert row["observed"] == pytest.approx(10 / 165.7, rel=1e-2)


def test_a_symbol_beyond_the_universe_is_passed(episodes: tuple[Episode, ...]) -> None:
    row = fomc_row(episodes, replace(DEMO, universe=("IBM",)))

    assert (row["outcome"], row["reason"]) == ("pass", "NOT_IN_UNIVERSE")


def test_time_alone_closes_a_position(episodes: tuple[Episode, ...]) -> None:
    row = fomc_row(episodes, demo("exits", time_stop_s=45.0))

    assert row["exit_reason"] == "TIME_STOP"
    assert row["exit_ns"] - row["entry_ns"] == 45 * NS_PER_S


def test_a_near_target_is_taken(episodes: tuple[Episode, ...]) -> None:
    row = fomc_row(episodes, demo("exits", take_profit_ratio=0.0002, stop_loss_ratio=WIDE))

    assert row["exit_reason"] == "TAKE_PROFIT"
    # It rests at the broker, and pays no spread.
    assert row["exit_price"] == row["target"]


def test_a_position_is_flat_before_the_close(episodes: tuple[Episode, ...]) -> None:
    late = demo("guards", flat_before_close_s=7000.0, entries_before_close_s=7100.0)

    row = fomc_row(episodes, replace(late, exits=replace(late.exits, stop_loss_ratio=WIDE)))

    assert row["exit_reason"] == "FLAT_BY_CLOSE"
    assert f"{row['exit_at']:%H:%M:%S}" == "14:03:20"


@pytest.mark.parametrize(
    ("exits", "reason", "exit_at"),
    [
        ({"trail_atr_multiple": 1.0, "stop_loss_ratio": WIDE}, "TRAIL", "14:03:35"),
        # The best price came in the minute of the entry, which does not count.
        ({"break_even_r": 0.3}, "STOP_LOSS", "14:01:20"),
    ],
)
def test_complete_bars_move_the_stop(
    episodes: tuple[Episode, ...], exits: dict[str, Any], reason: str, exit_at: str
) -> None:
    row = fomc_row(episodes, demo("exits", **exits))

    assert (row["exit_reason"], f"{row['exit_at']:%H:%M:%S}") == (reason, exit_at)
    # The table tells the stop of the entry.
    assert row["stop"] == (165.98 if "stop_loss_ratio" in exits else 165.94)


@pytest.mark.parametrize(
    ("side", "held", "reason"),
    [
        (Side.BUY, "exit", "OPPOSITE"),
        (Side.SELL, "exit", "STOP_LOSS"),
        (Side.BUY, "hold", "STOP_LOSS"),
    ],
)
def test_a_later_signal_closes_what_it_contradicts(
    episodes: tuple[Episode, ...], side: Side, held: str, reason: str
) -> None:
    parameters = demo("exits", on_opposite_signal=held)
    episode = next(one for one in episodes if one.headline.received_ns == FOMC)
    index = next(n for n, tick in enumerate(episode.ticks) if tick.at_ns > FOMC + 30 * NS_PER_S)
    at_ns = episode.ticks[index].at_ns
    signal = TradeSignal("k", "SPY", Side.SELL, at_ns, 165.7, 0.06, 2.6, 2.5, "a shock")
    later = replace(signal, side=side, at_ns=at_ns + 60 * NS_PER_S)
    entry = enter(episode, index, signal, parameters=parameters, equity_usd=EQUITY_USD)
    assert isinstance(entry, Entry)

    found = follow(episode, entry, parameters, signals=[signal, later])

    assert found["exit_reason"] == reason
    if reason == "OPPOSITE":
        assert 0 <= found["exit_ns"] - later.at_ns <= 2 * NS_PER_S


def test_an_episode_that_is_too_short_for_the_time_stop_is_refused(
    episodes: tuple[Episode, ...],
) -> None:
    with pytest.raises(DataError, match="make it with a longer horizon"):
        what_if(episodes, demo("exits", time_stop_s=10_000.0), equity_usd=EQUITY_USD)


def test_the_same_question_has_the_same_answer(episodes: tuple[Episode, ...]) -> None:
    first, second = (what_if(episodes, DEMO, equity_usd=EQUITY_USD) for _ in range(2))

    pd.testing.assert_frame_equal(first, second)


def test_no_headline_gives_a_typed_empty_table(episodes: tuple[Episode, ...]) -> None:
    empty = what_if((), DEMO, equity_usd=EQUITY_USD)
    full = what_if(episodes, DEMO, equity_usd=EQUITY_USD)

    assert empty.empty
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)


def test_a_line_without_history_has_no_baseline() -> None:
    (episode,) = make_episodes(tape(bars=tape().bars.iloc[:0]), universe=("SPY",), horizon_s=1000)

    (row,) = what_if((episode,), DEMO, equity_usd=EQUITY_USD).to_dict("records")

    assert row["reason"] == "NO_BASELINE"


def test_an_answer_comes_while_a_slider_moves(episodes: tuple[Episode, ...]) -> None:
    taken_s = []
    for _ in range(5):
        began_s = transport_s()
        what_if(episodes, DEMO, equity_usd=EQUITY_USD)
        taken_s.append(transport_s() - began_s)

    assert min(taken_s) < LONGEST_S


def _spy(episodes: tuple[Episode, ...]) -> Any:
    return next(episode.instrument for episode in episodes if episode.symbol == "SPY")
