from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from momentum_lab.core.candle import (
    MINUTE_NS,
    MINUTE_S,
    LiveCandles,
    Trade,
    add_trade,
    volume_unit_shares,
)
from momentum_lab.core.market import NS_PER_S, Bar, Side
from momentum_lab.core.news import tickers_in
from momentum_lab.core.shock import (
    Baseline,
    ShockParameters,
    Watch,
    look,
    make_baseline,
    open_watch,
)
from momentum_lab.core.signal import Decision, Outcome, Reason, TradeSignal
from momentum_lab.errors import ParameterError
from momentum_lab.records.tape import Tape, load_tape
from tests.factories import NOON, bar, quiet_bars

SAMPLE = Path(__file__).parents[3] / "data" / "samples" / "fomc-2013-10-09"
TWO_PM = 1_381_341_600 * NS_PER_S  # 2013-10-09 14:00:00 New York: the minutes are released
LOOSE = ShockParameters(price_atr_multiple=2.5, volume_multiple=5.0)


def _baseline(bars: Sequence[Bar], received_ns: int = NOON, **changes: Any) -> Baseline | Decision:
    return make_baseline(
        bars, received_ns=received_ns, tick_usd=0.01, parameters=ShockParameters(**changes)
    )


def _reason_for(found: object) -> Reason:
    assert isinstance(found, Decision)
    assert found.outcome is Outcome.PASS
    return found.reason


# ---------------------------------------------------------------- baseline


def test_a_baseline_is_the_usual_range_and_volume() -> None:
    found = _baseline(quiet_bars(30, half_range=0.05, volume=1000))

    assert isinstance(found, Baseline)
    assert found.atr == pytest.approx(0.10)
    assert found.volume == pytest.approx(1000)
    assert found.until_ns == NOON


def test_only_the_last_bars_of_each_window_count() -> None:
    old = quiet_bars(20, half_range=5.0, volume=9e6, end_ns=NOON - 20 * MINUTE_NS)

    found = _baseline([*old, *quiet_bars(20, half_range=0.05, volume=1000)])

    assert isinstance(found, Baseline)
    assert found.atr == pytest.approx(0.10)
    assert found.volume == pytest.approx(1000)


def test_a_bar_enters_only_once_it_has_ended() -> None:
    forming = bar(100.0, 50.0, volume=9e6, start_ns=NOON - MINUTE_NS // 2)

    assert _baseline([*quiet_bars(21), forming]) == _baseline(quiet_bars(21))


def test_a_bar_that_ends_at_the_receipt_is_known() -> None:
    found = _baseline(quiet_bars(21, end_ns=NOON), received_ns=NOON)

    assert isinstance(found, Baseline)
    assert found.until_ns == NOON


@pytest.mark.parametrize(("changes", "needed"), [({}, 20), ({"atr_bars": 30}, 31)])
def test_too_few_bars_are_no_baseline(changes: dict[str, Any], needed: int) -> None:
    found = _baseline(quiet_bars(needed - 1), **changes)

    assert _reason_for(found) is Reason.NO_BASELINE
    assert isinstance(found, Decision)
    assert (found.observed, found.limit, found.unit) == (needed - 1, needed, "bars")
    assert isinstance(_baseline(quiet_bars(needed), **changes), Baseline)


def test_old_bars_are_no_baseline() -> None:
    found = _baseline(quiet_bars(30, end_ns=NOON - 21 * MINUTE_NS))

    assert _reason_for(found) is Reason.NO_BASELINE


def test_no_bars_are_no_baseline() -> None:
    assert _reason_for(_baseline([])) is Reason.NO_BASELINE


def test_a_range_below_half_a_tick_says_nothing() -> None:
    found = _baseline(quiet_bars(30, price=10.0, half_range=0.0))

    assert _reason_for(found) is Reason.ATR_TOO_SMALL
    assert isinstance(found, Decision)
    assert (found.observed, found.limit, found.unit) == (0.0, 0.005, "USD")


def test_a_range_below_a_basis_point_says_nothing() -> None:
    found = _baseline(quiet_bars(30, price=400.0, half_range=0.01))

    assert _reason_for(found) is Reason.ATR_TOO_SMALL


def test_a_range_of_exactly_half_a_tick_is_enough() -> None:
    # reference/algorithms.md 0: comparisons at a threshold tolerate 1e-9. Every second of these
    # bars spans one tick, 9.99 to 10.00, the others none: the ATR is half a tick.
    bars = [
        replace(b, high=10.0, low=9.99 if i % 2 else 10.0)
        for i, b in enumerate(quiet_bars(30, price=10.0, half_range=0.0))
    ]

    assert isinstance(_baseline(bars), Baseline)


def test_no_usual_volume_is_no_baseline() -> None:
    assert _reason_for(_baseline(quiet_bars(30, volume=0))) is Reason.NO_BASELINE


def test_wilder_remembers_an_old_range_longer_than_the_mean_does() -> None:
    bars = [*quiet_bars(15, half_range=1.0, end_ns=NOON - 11 * MINUTE_NS), *quiet_bars(11)]

    by_mean, by_wilder = _baseline(bars), _baseline(bars, atr_kind="wilder")

    assert isinstance(by_mean, Baseline)
    assert isinstance(by_wilder, Baseline)
    assert by_mean.atr == pytest.approx(0.10)
    assert by_wilder.atr > 2 * by_mean.atr


# ------------------------------------------------------------- open a watch


def _open(
    *,
    bars: Sequence[Bar] | None = None,
    heard: Sequence[Bar] | None = None,
    received_ns: int = NOON,
) -> Watch | Decision:
    known = quiet_bars(30) if bars is None else bars
    return open_watch(
        "BRFG:1",
        "SPY",
        received_ns=received_ns,
        bars=known,
        candles=LiveCandles(closed=tuple(known[-2:] if heard is None else heard)),
        tick_usd=0.01,
        parameters=ShockParameters(),
    )


def _in_lots(bars: Sequence[Bar], lot: float) -> list[Bar]:
    return [replace(b, volume=b.volume / lot) for b in bars]


def test_a_watch_knows_its_headline_and_its_baseline() -> None:
    found = _open()

    assert found == Watch("BRFG:1", "SPY", NOON, Baseline(found.baseline.atr, 1000, NOON), 1.0)  # type: ignore[union-attr]  # a Decision would differ


def test_a_line_in_round_lots_is_calibrated() -> None:
    found = _open(heard=_in_lots(quiet_bars(30)[-2:], 100))

    assert isinstance(found, Watch)
    assert found.unit_shares == 100


@pytest.mark.parametrize("lot", [10.0, 0.1, 1000.0])
def test_a_line_in_an_unknown_unit_is_not_watched(lot: float) -> None:
    found = _open(heard=_in_lots(quiet_bars(30)[-2:], lot))

    assert _reason_for(found) is Reason.VOLUME_UNIT_UNKNOWN
    assert isinstance(found, Decision)
    assert found.observed == pytest.approx(lot)


def test_a_line_without_a_closed_minute_is_not_watched() -> None:
    found = _open(heard=())

    assert _reason_for(found) is Reason.VOLUME_UNIT_UNKNOWN
    assert isinstance(found, Decision)
    assert found.observed is None


def test_without_a_baseline_nothing_is_watched() -> None:
    assert _reason_for(_open(bars=quiet_bars(5))) is Reason.NO_BASELINE


# --------------------------------------------------------------------- look

USUAL = Baseline(atr=0.1, volume=1000.0, until_ns=NOON)
WATCH = Watch("BRFG:1", "SPY", NOON, USUAL, unit_shares=1.0)


def _candles(
    move: float = 0.0, volume: float = 0.0, *, start_ns: int = NOON, closed: tuple[Bar, ...] = ()
) -> LiveCandles:
    return LiveCandles(
        bar(100.0, 100.0 + move, volume=volume, start_ns=start_ns), closed, start_ns, 0.0
    )


def _look(
    candles: LiveCandles, *, after_s: float = 30.0, watch: Watch = WATCH, **changes: Any
) -> TradeSignal | Decision | None:
    now_ns = NOON + int(after_s * NS_PER_S)
    return look(watch, candles, now_ns=now_ns, parameters=ShockParameters(**changes))[1]


def test_a_large_move_on_large_volume_is_a_shock() -> None:
    found = _look(_candles(-0.31, 5001))

    assert isinstance(found, TradeSignal)
    assert (found.headline_key, found.symbol, found.side) == ("BRFG:1", "SPY", Side.SELL)
    assert found.at_ns == NOON + 30 * NS_PER_S
    assert found.price == pytest.approx(99.69)
    assert found.atr == 0.1
    assert found.observed == pytest.approx(3.1)
    assert found.limit == 3.0


def test_a_rise_is_bought() -> None:
    found = _look(_candles(0.31, 5001))

    assert isinstance(found, TradeSignal)
    assert found.side is Side.BUY


@pytest.mark.parametrize(
    ("move", "volume"), [(0.3, 9000), (0.31, 5000), (0.29, 9000), (0.31, 4999), (0.0, 9000)]
)
def test_both_sides_must_be_beyond_their_limits(move: float, volume: float) -> None:
    assert _look(_candles(move, volume)) is None


def test_volume_is_compared_in_shares() -> None:
    in_lots = replace(WATCH, unit_shares=100.0)

    assert isinstance(_look(_candles(0.31, 50.01), watch=in_lots), TradeSignal)
    assert _look(_candles(0.31, 50.01)) is None


def test_a_candle_that_was_over_before_the_news_is_no_reaction() -> None:
    before = _candles(0.5, 9000, start_ns=NOON - MINUTE_NS)

    assert _look(before) is None
    assert _look(before, watch=replace(WATCH, received_ns=NOON - 1)) is not None


def test_the_candle_in_which_the_news_falls_counts() -> None:
    received = replace(WATCH, received_ns=NOON + 40 * NS_PER_S)

    assert isinstance(_look(_candles(0.31, 5001), after_s=41, watch=received), TradeSignal)


def test_a_shock_in_the_candle_that_just_closed_is_still_seen() -> None:
    shock = bar(100.0, 99.0, volume=9000, start_ns=NOON)

    found = _look(_candles(start_ns=NOON + MINUTE_NS, closed=(shock,)), after_s=61)

    assert isinstance(found, TradeSignal)
    assert found.price == 99.0


def test_an_older_closed_candle_is_not_the_most_recent_one() -> None:
    shock = bar(100.0, 99.0, volume=9000, start_ns=NOON)
    quiet = bar(100.0, volume=10, start_ns=NOON + MINUTE_NS)

    found = _look(_candles(start_ns=NOON + 2 * MINUTE_NS, closed=(shock, quiet)), after_s=121)

    assert found is None


@pytest.mark.parametrize(("direction", "move"), [("long", -0.4), ("short", 0.4)])
def test_a_shock_the_other_way_is_passed_with_its_reason(direction: str, move: float) -> None:
    found = _look(_candles(move, 9000), direction=direction)

    assert _reason_for(found) is Reason.WRONG_DIRECTION
    assert isinstance(found, Decision)
    assert found.observed == pytest.approx(move / 0.1)
    assert found.limit == 3.0


@pytest.mark.parametrize(("direction", "move"), [("long", 0.4), ("short", -0.4)])
def test_a_shock_the_wanted_way_is_traded(direction: str, move: float) -> None:
    assert isinstance(_look(_candles(move, 9000), direction=direction), TradeSignal)


def test_a_watch_lasts_from_receipt_for_its_time() -> None:
    quiet = _candles(0.1, 100, start_ns=NOON + 4 * MINUTE_NS)

    assert _look(quiet, after_s=299.999) is None
    assert isinstance(_look(quiet, after_s=300), Decision)
    assert _look(quiet, after_s=300, watch_s=301) is None


def test_a_watch_that_heard_nothing_says_so() -> None:
    assert _reason_for(_look(LiveCandles(), after_s=300)) is Reason.NO_CANDLE


def _end_of(*seen: LiveCandles) -> Decision:
    watch = WATCH
    for second, candles in enumerate(seen):
        watch, found = look(
            watch, candles, now_ns=NOON + second * NS_PER_S, parameters=ShockParameters()
        )
        assert found is None
    _, found = look(
        watch, LiveCandles(), now_ns=NOON + 300 * NS_PER_S, parameters=ShockParameters()
    )
    assert isinstance(found, Decision)
    return found


def test_a_watch_ends_with_the_price_when_the_price_was_missing() -> None:
    found = _end_of(_candles(0.1, 9000), _candles(-0.2, 9000), _candles(0.05, 9000))

    assert found.reason is Reason.NO_SHOCK_PRICE
    assert found.observed == pytest.approx(2.0)
    assert (found.limit, found.unit) == (3.0, "x ATR")


def test_a_watch_ends_with_the_volume_when_the_volume_was_missing() -> None:
    found = _end_of(_candles(0.5, 2000), _candles(0.5, 4000), _candles(0.5, 3000))

    assert found.reason is Reason.NO_SHOCK_VOLUME
    assert found.observed == pytest.approx(4.0)
    assert (found.limit, found.unit) == (5.0, "x SMA")


def test_the_nearest_reading_is_the_one_whose_weaker_side_is_strongest() -> None:
    found = _end_of(_candles(0.29, 100), _candles(0.2, 4500), _candles(0.1, 9000))

    assert found.reason is Reason.NO_SHOCK_PRICE
    assert found.observed == pytest.approx(2.0)


def test_a_reading_tells_whether_its_candle_was_forming() -> None:
    watch, _ = look(WATCH, _candles(0.1, 9), now_ns=NOON + 1, parameters=ShockParameters())
    later, _ = look(WATCH, _candles(0.1, 9), now_ns=NOON + MINUTE_NS, parameters=ShockParameters())

    assert watch.best is not None
    assert watch.best.is_forming
    assert later.best is not None
    assert not later.best.is_forming


@pytest.mark.parametrize(
    ("key", "value"), [("atr_kind", "ema"), ("direction", "sideways"), ("direction", "")]
)
def test_an_unknown_word_is_refused_by_name(key: str, value: str) -> None:
    changes: dict[str, Any] = {key: value}

    with pytest.raises(ParameterError, match=rf"shock\.{key}: expected one of .*{value!r}"):
        ShockParameters(**changes)


# --------------------------------------------------------- the sample's day


@pytest.fixture(scope="module")
def sample() -> Tape:
    return load_tape(SAMPLE)


def _minute_bars(tape: Tape, symbol: str) -> list[Bar]:
    seconds = tape.bars_of(symbol)
    minutes = seconds.groupby(seconds["at_ns"] // MINUTE_NS * MINUTE_NS).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    return [
        Bar(int(at), MINUTE_S, *(float(value) for value in row))
        for at, row in zip(minutes.index, minutes.to_numpy(), strict=True)
    ]


def _seconds(tape: Tape, symbol: str, *, from_ns: int, to_ns: int) -> Iterator[Trade]:
    """The close of each second, with the volume of the day so far."""
    rows = tape.bars_of(symbol)
    day = rows[rows["at_ns"] >= tape.start_ns]
    day = day.assign(day_volume=day["volume"].cumsum())
    wanted = day[(day["at_ns"] >= from_ns) & (day["at_ns"] < to_ns)]
    for at_ns, close, volume in wanted[["at_ns", "close", "day_volume"]].itertuples(index=False):
        yield Trade(int(at_ns), float(close), float(volume))


def _play(
    tape: Tape, symbol: str, *, received_ns: int, parameters: ShockParameters
) -> tuple[TradeSignal | Decision, int]:
    """The outcome of a headline on the tape, and when it was known.

    A second's trade is heard once the second is over.
    """
    bars, candles = _minute_bars(tape, symbol), LiveCandles()
    watch: Watch | Decision | None = None
    from_ns, to_ns = received_ns - 5 * MINUTE_NS, received_ns + 6 * MINUTE_NS
    for trade in _seconds(tape, symbol, from_ns=from_ns, to_ns=to_ns):
        known_ns = trade.at_ns + NS_PER_S
        if watch is None and known_ns > received_ns:
            watch = open_watch(
                "BRFG:1",
                symbol,
                received_ns=received_ns,
                bars=bars,
                candles=candles,
                tick_usd=0.01,
                parameters=parameters,
            )
        candles = add_trade(candles, trade)
        if isinstance(watch, Decision):
            return watch, known_ns
        if watch is not None:
            watch, found = look(watch, candles, now_ns=known_ns, parameters=parameters)
            if found is not None:
                return found, known_ns
    pytest.fail("the watch did not end")


def test_the_release_of_the_minutes_is_a_shock_of_the_forming_candle(sample: Tape) -> None:
    found, known_ns = _play(sample, "SPY", received_ns=TWO_PM, parameters=LOOSE)

    assert isinstance(found, TradeSignal)
    assert found.side is Side.SELL
    assert found.observed == pytest.approx(2.6, abs=0.05)
    assert known_ns == found.at_ns == TWO_PM + 32 * NS_PER_S


def test_the_release_of_the_minutes_is_too_small_for_the_design(sample: Tape) -> None:
    found, _ = _play(sample, "SPY", received_ns=TWO_PM, parameters=ShockParameters())

    assert _reason_for(found) is Reason.NO_SHOCK_PRICE
    assert isinstance(found, Decision)
    assert found.observed == pytest.approx(2.8, abs=0.05)


@pytest.mark.parametrize(("kind", "expected"), [("sma", 2.6), ("wilder", 2.3)])
def test_the_minute_of_the_release_measures_as_published(
    sample: Tape, kind: str, expected: float
) -> None:
    bars = _minute_bars(sample, "SPY")
    whole = next(b for b in bars if b.start_ns == TWO_PM)

    usual = _baseline(bars, TWO_PM, atr_kind=kind)

    assert isinstance(usual, Baseline)
    assert (whole.open, whole.close) == (165.88, 165.72)
    assert (whole.open - whole.close) / usual.atr == pytest.approx(expected, abs=0.05)
    assert whole.volume / usual.volume == pytest.approx(6.1, abs=0.05)


def test_the_candles_of_the_tape_are_its_minute_bars(sample: Tape) -> None:
    candles = LiveCandles()
    for trade in _seconds(sample, "SPY", from_ns=TWO_PM - 4 * MINUTE_NS, to_ns=TWO_PM):
        candles = add_trade(candles, trade)

    bars = {b.start_ns: b for b in _minute_bars(sample, "SPY")}
    assert candles.closed
    for closed in candles.closed:
        assert closed.volume == bars[closed.start_ns].volume
        assert closed.close == bars[closed.start_ns].close
    unit, ratio = volume_unit_shares(candles.closed, bars.values(), tolerance_ratio=0.01)
    assert (unit, ratio) == (1.0, 1.0)


def test_the_quiet_headlines_of_the_sample_end_without_a_trade(sample: Tape) -> None:
    quiet = [
        (item, symbol)
        for item in sample.headlines
        if item.note.startswith("made for the sample")
        for symbol in tickers_in(item.headline)
    ]

    outcomes = [
        _play(sample, symbol, received_ns=item.at_ns, parameters=LOOSE)[0] for item, symbol in quiet
    ]

    assert len(outcomes) == 3
    assert {type(outcome) for outcome in outcomes} == {Decision}
