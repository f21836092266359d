"""The laws of the rules: what holds for every input, not for chosen ones.

Examples are drawn the same way in every run, so that a red law stays red until it is mended.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from momentum_lab.core.candle import (
    MINUTE_NS,
    MINUTE_S,
    LiveCandles,
    Trade,
    add_trade,
    add_trades,
    volume_unit_shares,
)
from momentum_lab.core.connection import (
    CONNECTION_TABLE,
    BackoffParameters,
    ConnectionEvent,
    ConnectionState,
    advance_connection,
    backoff_s,
)
from momentum_lab.core.exits import OpenPosition, decide_exit
from momentum_lab.core.fills import FillModel, SpreadModel
from momentum_lab.core.indicators import Array, AtrKind, atr, sma
from momentum_lab.core.market import NS_PER_S, Bar, Side
from momentum_lab.core.metrics import max_drawdown_ratio
from momentum_lab.core.news import clean_text, epoch_ns, tickers_in
from momentum_lab.core.order import ORDER_TABLE, OrderEvent, OrderState, advance_order
from momentum_lab.core.position import (
    ExitParameters,
    ExitReason,
    Fill,
    PositionSummary,
    exit_levels,
    summarise,
)
from momentum_lab.core.shock import (
    ShockParameters,
    look,
    make_baseline,
    open_watch,
)
from momentum_lab.core.signal import Decision, Reason, TradeSignal
from momentum_lab.errors import IllegalTransitionError
from momentum_lab.records.tape import load_tape, write_tape
from tests.factories import (
    NOON,
    assert_same_tape,
    bar,
    bar_table,
    fill,
    instrument,
    quiet_bars,
    quote,
    tape,
    tape_headline,
)

law = settings(max_examples=100, deadline=None, derandomize=True, database=None)
few = settings(law, max_examples=25)

# ------------------------------------------------------------------- inputs


def _bars(steps: Sequence[tuple[int, int, int, int]], *, price: float = 100.0) -> list[Bar]:
    """Consecutive minute bars that end at `NOON`, of (gap, body, wick, volume) in cents."""
    made, close = [], round(price * 100)
    for number, (gap, body, wick, volume) in enumerate(steps):
        open_ = close + gap
        close = open_ + body
        made.append(
            bar(
                open_ / 100,
                close / 100,
                high=(max(open_, close) + wick) / 100,
                low=(min(open_, close) - wick) / 100,
                volume=float(volume),
                start_ns=NOON - (len(steps) - number) * MINUTE_NS,
            )
        )
    return made


step = st.tuples(
    st.integers(-3, 3), st.integers(-10, 10), st.integers(1, 10), st.integers(1, 10_000)
)
some_bars = st.lists(step, min_size=21, max_size=28).map(_bars)
kinds: st.SearchStrategy[AtrKind] = st.sampled_from(["sma", "wilder"])


@dataclass(frozen=True)
class _Story:
    """A headline's watch from receipt to its end: bars before, one candle a minute after."""

    bars: Sequence[Bar]
    after: Sequence[Bar]


def _story(drawn: tuple[list[Bar], list[tuple[int, int]]]) -> _Story:
    bars, moves = drawn
    price = bars[-1].close
    after = [
        bar(price, price + move / 100, volume=float(volume), start_ns=NOON + number * MINUTE_NS)
        for number, (move, volume) in enumerate(moves)
    ]
    return _Story(bars, after)


stories = st.tuples(
    some_bars,
    st.lists(st.tuples(st.integers(-150, 150), st.integers(0, 60_000)), min_size=1, max_size=5),
).map(_story)


def _decide(
    story: _Story, *, tick_usd: float = 1e-6, lot: float = 1.0, **changes: float
) -> TradeSignal | Decision:
    """Play a story to its one decision; the line's volume comes in lots of `lot` shares."""
    parameters = ShockParameters(**changes)  # type: ignore[arg-type]  # numbers only
    heard = tuple(_scaled(b, volume=1 / lot) for b in story.bars[-2:])
    watch = open_watch(
        "BRFG:1",
        "SPY",
        received_ns=NOON,
        bars=story.bars,
        candles=LiveCandles(closed=heard),
        tick_usd=tick_usd,
        parameters=parameters,
    )
    if isinstance(watch, Decision):
        return watch
    closed = heard
    for candle in story.after:
        in_lots = _scaled(candle, volume=1 / lot)
        watch, found = look(
            watch,
            LiveCandles(in_lots, closed[-5:], candle.start_ns, 0.0),
            now_ns=candle.end_ns - 1,
            parameters=parameters,
        )
        closed = (*closed, in_lots)
        if found is not None:
            return found
    _, found = look(
        watch, LiveCandles(closed=closed[-5:]), now_ns=NOON + 10 * MINUTE_NS, parameters=parameters
    )
    assert found is not None
    return found


def _scaled(found: Bar, *, price: float = 1.0, volume: float = 1.0) -> Bar:
    return replace(
        found,
        open=found.open * price,
        high=found.high * price,
        low=found.low * price,
        close=found.close * price,
        volume=found.volume * volume,
    )


def _mirrored(found: Bar, about: float) -> Bar:
    return replace(
        found,
        open=2 * about - found.open,
        high=2 * about - found.low,
        low=2 * about - found.high,
        close=2 * about - found.close,
    )


def _assert_alike(found: TradeSignal | Decision, expected: TradeSignal | Decision) -> None:
    """The same verdict: side or reason, and the comparison, which is in multiples."""
    assert _verdict(found) == _verdict(expected)
    assert found.observed == pytest.approx(expected.observed, rel=1e-6)
    assert found.limit == expected.limit


def _verdict(found: TradeSignal | Decision) -> Side | Reason:
    return found.side if isinstance(found, TradeSignal) else found.reason


# ------------------------------------------------------------------- shocks


@law
@given(stories)
def test_the_same_inputs_give_the_same_decision(story: _Story) -> None:
    assert _decide(story) == _decide(story)


@law
@given(stories, st.sampled_from([0.01, 0.1, 0.37, 2.0, 7.3, 1000.0]))
def test_a_shock_does_not_change_with_the_scale_of_prices(story: _Story, scale: float) -> None:
    scaled = _Story(*([_scaled(b, price=scale) for b in part] for part in _parts(story)))

    _assert_alike(_decide(scaled, tick_usd=1e-6 * scale), _decide(story))


@law
@given(stories, st.sampled_from([0.1, 3.0, 1000.0]))
def test_a_shock_does_not_change_with_the_scale_of_volumes(story: _Story, scale: float) -> None:
    scaled = _Story(*([_scaled(b, volume=scale) for b in part] for part in _parts(story)))

    _assert_alike(_decide(scaled), _decide(story))


@law
@given(stories)
def test_a_shock_does_not_change_with_the_unit_of_the_line(story: _Story) -> None:
    _assert_alike(_decide(story, lot=100.0), _decide(story))


@law
@given(stories)
def test_a_shock_mirrors_with_the_sign_of_the_move(story: _Story) -> None:
    turned = _Story(*([_mirrored(b, 100.0) for b in part] for part in _parts(story)))
    found, mirrored = _decide(story), _decide(turned)
    # The least range that says something depends on the price, which a mirror moves.
    assume(Reason.ATR_TOO_SMALL not in (_verdict(found), _verdict(mirrored)))

    if isinstance(found, TradeSignal):
        found = replace(found, side=found.side.opposite)
    _assert_alike(mirrored, found)


def _parts(story: _Story) -> tuple[Sequence[Bar], Sequence[Bar]]:
    return story.bars, story.after


@law
@given(stories, st.floats(1.0, 5.0), st.floats(1.0, 5.0))
def test_what_fires_at_a_high_limit_fires_at_a_lower_one(
    story: _Story, first: float, second: float
) -> None:
    low, high = sorted((first, second))
    at_high = _decide(story, price_atr_multiple=high, volume_multiple=high)
    at_low = _decide(story, price_atr_multiple=low, volume_multiple=low)

    assert isinstance(at_low, TradeSignal) or not isinstance(at_high, TradeSignal)


@law
@given(stories)
def test_a_signal_has_passed_its_limit_and_points_along_the_move(story: _Story) -> None:
    found = _decide(story)
    assume(isinstance(found, TradeSignal))
    assert isinstance(found, TradeSignal)

    assert found.observed > found.limit
    shock = next(b for b in story.after if b.close == found.price)
    assert (shock.close - shock.open) * found.side.sign > 0


# ---------------------------------------------------------------- causality


@law
@given(some_bars, some_bars, st.integers(0, 60), kinds)
def test_a_baseline_does_not_know_bars_that_end_after_the_receipt(
    bars: list[Bar], others: list[Bar], minutes_back: int, kind: AtrKind
) -> None:
    received_ns = NOON - minutes_back * MINUTE_NS // 3
    known = [b for b in bars if b.end_ns <= received_ns]
    # Another future: other prices and volumes, at the same times.
    future = [replace(b, start_ns=NOON + i * MINUTE_NS) for i, b in enumerate(others)]
    unknown = [_scaled(b, price=3.0, volume=50.0) for b in bars if b.end_ns > received_ns]
    parameters = ShockParameters(atr_kind=kind)

    whole, cut, changed = (
        make_baseline(seen, received_ns=received_ns, tick_usd=0.01, parameters=parameters)
        for seen in (bars, known, [*known, *unknown, *future])
    )

    assert whole == cut == changed


@law
@given(stories, some_bars)
def test_an_open_watch_does_not_know_the_future(story: _Story, others: list[Bar]) -> None:
    later = [replace(b, start_ns=NOON + i * MINUTE_NS) for i, b in enumerate(others)]
    forming = replace(later[0], start_ns=NOON - MINUTE_NS // 2)

    opened = [
        open_watch(
            "k",
            "SPY",
            received_ns=NOON,
            bars=bars,
            candles=LiveCandles(closed=tuple(story.bars[-2:])),
            tick_usd=0.01,
            parameters=ShockParameters(),
        )
        for bars in (story.bars, [*story.bars, forming, *later])
    ]
    assert opened[0] == opened[1]


@law
@given(st.lists(step, min_size=2, max_size=60), st.integers(1, 60), kinds, st.integers(1, 15))
def test_an_indicator_does_not_know_later_bars(
    steps: list[tuple[int, int, int, int]], cut: int, kind: AtrKind, n: int
) -> None:
    bars = _bars(steps)
    high, low, close = (_column(bars, name) for name in ("high", "low", "close"))
    cut = min(cut, len(bars))

    whole = atr(high, low, close, n=n, kind=kind)[:cut]
    short = atr(high[:cut], low[:cut], close[:cut], n=n, kind=kind)

    np.testing.assert_array_equal(whole, short)
    np.testing.assert_array_equal(sma(close, n)[:cut], sma(close[:cut], n))


@law
@given(st.lists(step, min_size=2, max_size=60), kinds, st.integers(1, 15))
def test_an_average_range_lies_between_the_least_and_the_largest_range(
    steps: list[tuple[int, int, int, int]], kind: AtrKind, n: int
) -> None:
    bars = _bars(steps)
    high, low, close = (_column(bars, name) for name in ("high", "low", "close"))
    ranges = atr(high, low, close, n=1, kind="sma")[1:]

    found = atr(high, low, close, n=n, kind=kind)

    known = found[np.isfinite(found)]
    assert len(known) == max(0, len(bars) - n)
    assert np.all(known >= ranges.min() - 1e-9)
    assert np.all(known <= ranges.max() + 1e-9)


def _column(bars: Sequence[Bar], name: str) -> Array:
    return np.array([getattr(b, name) for b in bars], dtype=np.float64)


# ------------------------------------------------------------------ candles

# (seconds since the last trade, price in cents, shares), the first one somewhere in a minute
prints = st.lists(
    st.tuples(st.integers(0, 40), st.integers(9_990, 10_010), st.integers(1, 500)),
    min_size=1,
    max_size=60,
)


def _trades(drawn: list[tuple[int, int, int]]) -> list[Trade]:
    made, at_ns, day_volume = [], NOON + 17 * NS_PER_S, 1_000
    for seconds, cents, shares in drawn:
        at_ns += seconds * NS_PER_S
        day_volume += shares
        made.append(Trade(at_ns, cents / 100, float(day_volume)))
    return made


def _minute(trade: Trade) -> int:
    return trade.at_ns // MINUTE_NS


def _candles(trades: Sequence[Trade]) -> LiveCandles:
    return reduce(add_trade, trades, LiveCandles())


def _all_candles(trades: Sequence[Trade]) -> list[Bar]:
    """Every candle that was ever made, closed or forming at the end."""
    states = list(itertools.accumulate(trades, add_trade, initial=LiveCandles()))
    last = {s.forming.start_ns: s.forming for s in states if s.forming is not None}
    return list(last.values())


@law
@given(prints)
def test_trades_of_one_price_may_be_reported_one_by_one_or_together(
    drawn: list[tuple[int, int, int]],
) -> None:
    trades = _trades(drawn)
    together = [
        list(group)[-1]
        for _, group in itertools.groupby(trades, key=lambda t: (_minute(t), t.price))
    ]

    assert _candles(together) == _candles(trades)


@law
@given(prints, st.data())
def test_repeats_and_late_reports_do_not_change_a_candle(
    drawn: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    trades = _trades(drawn)
    noisy: list[Trade] = []
    for number, trade in enumerate(trades):
        noisy.append(trade)
        again = data.draw(st.integers(0, number))
        if trades[again].day_volume < trade.day_volume or again == number:
            noisy.append(trades[again])

    assert _candles(noisy) == _candles(trades)


@law
@given(prints)
def test_a_line_that_tells_only_the_last_trade_of_a_second_has_the_same_volumes_and_closes(
    drawn: list[tuple[int, int, int]],
) -> None:
    trades = _trades(drawn)
    per_second = [list(group)[-1] for _, group in itertools.groupby(trades, key=lambda t: t.at_ns)]

    coarse, fine = _all_candles(per_second), _all_candles(trades)

    assert [(b.start_ns, b.close, b.volume) for b in coarse] == [
        (b.start_ns, b.close, b.volume) for b in fine
    ]


reports = st.lists(
    st.tuples(st.integers(0, 4 * MINUTE_S), st.integers(1, 50), st.integers(0, 400)), max_size=60
)


@law
@given(reports, st.lists(st.integers(1, 20), max_size=20))
def test_trades_taken_together_make_the_candles_that_they_make_one_by_one(
    drawn: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    # In any order, with volumes that fall: late reports and new days are among them.
    trades = [Trade(NOON + s * NS_PER_S, price / 7, volume / 3) for s, price, volume in drawn]
    one_by_one = together = LiveCandles()
    for trade in trades:
        one_by_one = add_trade(one_by_one, trade)
    left = iter(trades)
    for size in (*sizes, len(trades)):
        together = add_trades(together, list(itertools.islice(left, size)))

    assert together == one_by_one


@law
@given(prints)
def test_candles_hold_all_volume_after_the_first_partial_minute(
    drawn: list[tuple[int, int, int]],
) -> None:
    trades = _trades(drawn)
    first = [t for t in trades if _minute(t) == _minute(trades[0])]

    made = _all_candles(trades)

    assert sum(b.volume for b in made) == trades[-1].day_volume - first[-1].day_volume
    assert all(b.start_ns > trades[0].at_ns for b in made)


@law
@given(prints)
def test_a_candle_is_the_bar_of_its_trades(drawn: list[tuple[int, int, int]]) -> None:
    trades = _trades(drawn)

    for candle in _all_candles(trades):
        prices = [t.price for t in trades if _minute(t) == candle.start_ns // MINUTE_NS]
        assert (candle.open, candle.close) == (prices[0], prices[-1])
        assert (candle.high, candle.low) == (max(prices), min(prices))
        assert candle.seconds == MINUTE_S


@law
@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=5),
    st.sampled_from([1.0, 100.0]),
    st.floats(-0.19, 0.24),
)
def test_the_unit_of_a_line_is_found_within_the_tolerance(
    volumes: list[int], unit: float, error: float
) -> None:
    shares = [bar(volume=float(v), start_ns=NOON + i * MINUTE_NS) for i, v in enumerate(volumes)]
    live = [_scaled(b, volume=1 / (unit * (1 + error))) for b in shares]

    assert volume_unit_shares(live, shares, tolerance_ratio=0.25)[0] == unit


# ---------------------------------------------------------------- positions

cents = st.integers(100, 100_000).map(lambda n: n / 100)


def _executions(drawn: list[tuple[bool, int, int, int | None]]) -> list[Fill]:
    return [
        fill(
            Side.BUY if is_buy else Side.SELL,
            float(shares),
            in_cents / 100,
            exec_id=f"{number:04d}.01.01",
            commission_usd=None if costs is None else costs / 100,
        )
        for number, (is_buy, shares, in_cents, costs) in enumerate(drawn)
    ]


executions = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(1, 1_000),
        st.integers(100, 20_000),
        st.one_of(st.none(), st.integers(-50, 500)),
    ),
    max_size=12,
).map(_executions)
sides = st.sampled_from(Side)


def _near(found: PositionSummary) -> tuple[object, ...]:
    """A summary, equal to another up to the order in which floats were added."""
    return (
        found.shares,
        found.entry_shares,
        found.exit_shares,
        found.costs_complete,
        pytest.approx(found.entry_price),
        pytest.approx(found.exit_price),
        pytest.approx(found.gross_usd, rel=1e-9, abs=1e-6),
        pytest.approx(found.costs_usd, rel=1e-9, abs=1e-9),
    )


def _plain(found: PositionSummary) -> tuple[object, ...]:
    return (
        found.shares,
        found.entry_shares,
        found.exit_shares,
        found.costs_complete,
        found.entry_price,
        found.exit_price,
        found.gross_usd,
        found.costs_usd,
    )


@law
@given(executions, sides)
def test_a_position_is_the_sum_of_its_fills(fills: list[Fill], side: Side) -> None:
    found = summarise(fills, entry_side=side)

    assert found.shares == sum(f.side.sign * f.shares for f in fills)
    assert found.is_flat == (found.shares == 0)


@law
@given(executions, sides, st.randoms(use_true_random=False))
def test_repeated_and_reordered_reports_never_count_twice(
    fills: list[Fill], side: Side, chance: Random
) -> None:
    reported = [*fills, *chance.sample(fills, len(fills) // 2)]
    chance.shuffle(reported)

    assert _plain(summarise(reported, entry_side=side)) == _near(summarise(fills, entry_side=side))


@law
@given(executions, sides, st.randoms(use_true_random=False))
def test_a_commission_counts_once_whenever_it_is_reported(
    fills: list[Fill], side: Side, chance: Random
) -> None:
    # The broker reports an execution first and its commission later, and both again on request.
    reported = [*fills, *(replace(f, commission_usd=None) for f in fills)]
    chance.shuffle(reported)

    assert _plain(summarise(reported, entry_side=side)) == _near(summarise(fills, entry_side=side))


@law
@given(executions, sides, cents)
def test_cash_and_position_value_less_costs_balance(
    fills: list[Fill], side: Side, mark: float
) -> None:
    cash = -sum(f.side.sign * f.shares * f.price for f in fills)
    costs = sum(f.commission_usd or 0.0 for f in fills)

    found = summarise(fills, entry_side=side)

    # What is open was bought at the average of the side that is larger.
    basis = found.entry_price if found.entry_shares >= found.exit_shares else found.exit_price
    unrealised = 0.0 if basis is None else found.shares * (mark - basis)
    assert found.net_usd + unrealised == pytest.approx(
        cash + found.shares * mark - costs, rel=1e-9, abs=1e-4
    )


@law
@given(executions, sides)
def test_the_other_side_of_a_trade_has_the_opposite_profit(fills: list[Fill], side: Side) -> None:
    turned = [replace(f, side=f.side.opposite) for f in fills]

    found, other = (
        summarise(fills, entry_side=side),
        summarise(turned, entry_side=side.opposite),
    )

    assert other.shares == -found.shares
    assert other.gross_usd == pytest.approx(-found.gross_usd)
    assert other.costs_usd == found.costs_usd


# -------------------------------------------------------------------- exits

exit_parameters = st.builds(
    ExitParameters,
    stop_atr_multiple=st.floats(0.5, 10),
    target_r_multiple=st.floats(0.5, 5),
    stop_loss_ratio=st.floats(0.001, 0.3),
    take_profit_ratio=st.floats(0.001, 0.3),
    time_stop_s=st.floats(1, 23_400),
    stop_kind=st.sampled_from(["atr", "ratio"]),
)


def _position(side: Side, entry: float, parameters: ExitParameters) -> OpenPosition:
    levels = exit_levels(
        side,
        entry_usd=entry,
        atr_usd=entry / 500,
        instrument=instrument(),
        parameters=parameters,
    )
    return OpenPosition("SPY", side, NOON, levels)


@law
@given(sides, st.integers(2_000, 50_000), exit_parameters)
def test_levels_enclose_the_entry_on_the_grid_and_never_nearer_than_asked(
    side: Side, entry_cents: int, parameters: ExitParameters
) -> None:
    entry, step_usd = entry_cents / 100, 0.01
    levels = _position(side, entry, parameters).levels

    if parameters.stop_kind == "atr":
        distance = parameters.stop_atr_multiple * entry / 500
        reward = parameters.target_r_multiple * distance
    else:
        distance = parameters.stop_loss_ratio * entry
        reward = parameters.take_profit_ratio * entry
    behind, ahead = side.sign * (entry - levels.stop), side.sign * (levels.target - entry)
    assert distance - 1e-6 <= behind < distance + step_usd + 1e-6
    assert reward - 1e-6 <= ahead < reward + step_usd + 1e-6
    for level in (levels.stop, levels.target):
        assert level == instrument().floor(level) == instrument().ceil(level)


@law
@given(sides, st.integers(2_000, 50_000), exit_parameters, st.floats(0.5, 1.5))
def test_a_price_exit_is_told_by_the_side_that_would_be_hit(
    side: Side, entry_cents: int, parameters: ExitParameters, factor: float
) -> None:
    position = _position(side, entry_cents / 100, parameters)
    seen = quote(round(entry_cents / 100 * factor, 2), spread=0.02)
    assert seen.bid is not None
    assert seen.ask is not None
    price = seen.bid if side is Side.BUY else seen.ask

    found = decide_exit(position, seen, now_ns=NOON, max_quote_age_s=5, parameters=parameters)

    if side.sign * (price - position.levels.stop) <= 1e-9:
        expected = ExitReason.STOP_LOSS
    elif side.sign * (price - position.levels.target) >= -1e-9:
        expected = ExitReason.TAKE_PROFIT
    else:
        assert found is None
        return
    assert found is not None
    assert found.reason is expected
    assert found.observed == price


@law
@given(sides, exit_parameters, st.floats(0, 50_000), st.one_of(st.none(), st.floats(0, 30_000)))
def test_a_time_exit_needs_no_quote_and_is_never_missed(
    side: Side, parameters: ExitParameters, held_s: float, flat_s: float | None
) -> None:
    position = replace(
        _position(side, 100.0, parameters),
        flat_by_ns=None if flat_s is None else NOON + int(flat_s * NS_PER_S),
    )
    now_ns = NOON + int(held_s * NS_PER_S)

    found = decide_exit(position, None, now_ns=now_ns, max_quote_age_s=5, parameters=parameters)

    if position.flat_by_ns is not None and now_ns >= position.flat_by_ns:
        assert found is not None
        assert found.reason is ExitReason.FLAT_BY_CLOSE
    elif now_ns >= position.time_stop_ns(None, parameters):
        assert found is not None
        assert found.reason is ExitReason.TIME_STOP
    else:
        assert found is None


@law
@given(sides, exit_parameters, st.floats(0.5, 2.0), st.floats(5.001, 1e6))
def test_a_stale_quote_decides_nothing(
    side: Side, parameters: ExitParameters, factor: float, age_s: float
) -> None:
    position = _position(side, 100.0, parameters)
    now_ns = NOON + int(age_s * NS_PER_S)
    stale = quote(round(100 * factor, 2), at_ns=NOON)

    with_it, without = (
        decide_exit(position, seen, now_ns=now_ns, max_quote_age_s=5, parameters=parameters)
        for seen in (stale, None)
    )

    assert with_it == without


# -------------------------------------------------------------- life cycles


@law
@given(st.lists(st.sampled_from(OrderEvent), max_size=12))
def test_whatever_is_reported_an_order_knows_its_state_or_names_the_pair(
    events: list[OrderEvent],
) -> None:
    state = OrderState.INTENT
    for event in events:
        if (state, event) in ORDER_TABLE:
            state = advance_order(state, event)
        else:
            with pytest.raises(IllegalTransitionError, match=rf"{event.name} in {state.name}"):
                advance_order(state, event)


@law
@given(st.lists(st.sampled_from(OrderEvent), max_size=12), st.integers(0, 12))
def test_an_order_that_was_filled_is_filled_at_the_end(events: list[OrderEvent], when: int) -> None:
    later = [event for event in events if event is not OrderEvent.SEND]
    state = OrderState.SENT
    for event in (*later[:when], OrderEvent.FILL_ALL, *later[when:]):
        state = advance_order(state, event)

    assert state is OrderState.FILLED


@law
@given(st.lists(st.sampled_from(ConnectionEvent), max_size=20))
def test_a_connection_is_operational_only_right_after_synchronising(
    events: list[ConnectionEvent],
) -> None:
    state = ConnectionState.DISCONNECTED
    for event in events:
        if (state, event) not in CONNECTION_TABLE:
            continue
        before, state = state, advance_connection(state, event)
        if state is ConnectionState.OPERATIONAL:
            assert (before, event) == (
                ConnectionState.SYNCHRONIZING,
                ConnectionEvent.SYNCHRONIZED,
            )


backoffs = st.builds(
    BackoffParameters,
    first_wait_s=st.floats(0.05, 60),
    growth=st.floats(1, 10),
    longest_wait_s=st.floats(0.1, 3600),
    jitter_ratio=st.floats(0, 1),
)
draws = st.floats(0, 1, exclude_max=True)


@law
@given(backoffs, st.integers(1, 10**6), draws)
def test_a_wait_is_capped_and_its_jitter_in_range(
    parameters: BackoffParameters, failures: int, draw: float
) -> None:
    longest = backoff_s(failures, draw=0.0, parameters=parameters)
    found = backoff_s(failures, draw=draw, parameters=parameters)

    assert 0 < longest <= parameters.longest_wait_s
    assert longest * (1 - parameters.jitter_ratio) <= found <= longest


@law
@given(backoffs, st.integers(1, 200), st.integers(1, 200), draws)
def test_a_wait_does_not_shrink_with_more_failures(
    parameters: BackoffParameters, one: int, two: int, draw: float
) -> None:
    few_failures, many = (
        backoff_s(failures, draw=draw, parameters=parameters) for failures in sorted((one, two))
    )

    assert few_failures <= many


# ------------------------------------------------------------ market, fills


@law
@given(st.integers(1, 2_000_000), st.sampled_from([0.01, 0.05, 0.005, 0.0001]))
def test_a_price_on_the_grid_is_its_own_floor_and_ceiling(ticks: int, tick_usd: float) -> None:
    on_grid, listed = round(ticks * tick_usd, 10), instrument(tick_usd=tick_usd)

    assert listed.floor(on_grid) == listed.ceil(on_grid) == on_grid
    assert listed.ticks(on_grid) == ticks


@law
@given(st.floats(0.01, 10_000), st.sampled_from([0.01, 0.05, 0.0001]))
def test_floor_and_ceiling_are_neighbours_round_the_price(price: float, tick_usd: float) -> None:
    listed = instrument(tick_usd=tick_usd)
    below, above = listed.floor(price), listed.ceil(price)

    assert below <= price + 1e-9
    assert above >= price - 1e-9
    assert 0 <= listed.ticks(above) - listed.ticks(below) <= 1


@law
@given(st.integers(10, 1_000_000), st.one_of(st.none(), st.floats(0.001, 2)), st.floats(0.1, 100))
def test_a_quote_encloses_the_trade_it_is_made_of(
    price_cents: int, spread_usd: float | None, spread_bps: float
) -> None:
    price = price_cents / 100
    model = SpreadModel(spread_usd=spread_usd, spread_bps=spread_bps)

    bid, ask = model.quote(price, instrument())

    assert 0 < bid < ask
    assert bid <= price + 1e-9 or bid == 0.01
    assert ask >= price - 1e-9
    wanted = spread_usd if spread_usd is not None else price * spread_bps / 1e4
    assert instrument().ticks(ask - bid) == max(1, round(wanted / 0.01))


@law
@given(st.integers(1, 1_000_000), st.integers(0, 500), sides)
def test_a_market_order_pays_the_far_side_and_at_least_a_tick(
    bid_cents: int, spread_cents: int, side: Side
) -> None:
    bid, ask = bid_cents / 100, (bid_cents + spread_cents) / 100

    price = FillModel().market_price(side, bid=bid, ask=ask, instrument=instrument())

    if side is Side.BUY:
        assert price >= ask + 0.01 - 1e-9
    else:
        assert price == 0.01 or price <= bid - 0.01 + 1e-9
    assert price == instrument().floor(price)


@law
@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_commission_does_not_fall_with_shares(one: float, two: float) -> None:
    few_shares, many = (FillModel().commission_usd(shares) for shares in sorted((one, two)))

    assert 0 <= few_shares <= many


@law
@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=50), st.floats(0.001, 1000))
def test_a_drawdown_is_a_ratio_and_does_not_change_with_the_currency(
    equity: list[float], scale: float
) -> None:
    found = max_drawdown_ratio(np.array(equity))

    assert 0 <= found < 1
    assert max_drawdown_ratio(np.array(equity) * scale) == pytest.approx(found, abs=1e-9)


# --------------------------------------------------------------------- news


@law
@given(st.text(max_size=300))
def test_no_text_breaks_the_reader_of_headlines(raw: str) -> None:
    text = clean_text(raw)

    assert text == " ".join(text.split())
    assert len(set(tickers_in(text))) == len(tickers_in(text))


@law
@given(st.text(alphabet="{}!*()[]:;,&#x ABab1./-\n", max_size=200))
def test_no_mark_of_the_wire_breaks_the_reader_of_headlines(raw: str) -> None:
    assert isinstance(clean_text(raw), str)
    assert all(symbol.replace(" ", "").isupper() for symbol in tickers_in(raw))


@law
@given(st.from_regex(r"[A-Z]{4,5}", fullmatch=True), st.text(alphabet="abc ,.'-", max_size=40))
def test_a_ticker_in_parentheses_is_found_in_any_text(symbol: str, around: str) -> None:
    assume(tickers_in(f"({symbol})") == (symbol,))

    assert tickers_in(f"{around} ({symbol}) {around}") == (symbol,)
    assert tickers_in(clean_text(f"{{A:800015:L:en}}!{around} ({symbol})")) == (symbol,)


@law
@given(st.integers(2 * 10**8, 5 * 10**9))
def test_a_stamp_is_read_alike_in_seconds_and_milliseconds(seconds: int) -> None:
    assert epoch_ns(seconds) == epoch_ns(seconds * 1000) == seconds * NS_PER_S


# --------------------------------------------------------------------- tape


@few
@given(
    st.lists(step, min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(0, 10**12), st.text(max_size=40)), max_size=4),
    st.one_of(st.none(), st.integers(1, 50)),
)
def test_a_tape_that_is_written_is_read_back_equal(
    steps: list[tuple[int, int, int, int]],
    texts: list[tuple[int, str]],
    spread_cents: int | None,
) -> None:
    headlines = tuple(
        tape_headline(text, at_ns=NOON + at_ns, article_id=f"BRFG${number}")
        for number, (at_ns, text) in enumerate(sorted(texts))
    )
    written = tape(
        bars=bar_table(_bars(steps)),
        headlines=headlines,
        spread=SpreadModel(None if spread_cents is None else spread_cents / 100),
    )

    with TemporaryDirectory() as name:
        write_tape(written, Path(name))
        found = load_tape(Path(name))

    assert_same_tape(found, written)


def test_the_laws_see_shocks_and_passes() -> None:
    # A law that never meets a shock proves nothing about shocks.
    loud = bar(100.0, 101.0, volume=9000.0, start_ns=NOON)
    still = bar(100.0, volume=10.0, start_ns=NOON)

    assert isinstance(_decide(_Story(quiet_bars(30), [loud])), TradeSignal)
    assert isinstance(_decide(_Story(quiet_bars(30), [still])), Decision)
