"""The laws of the exits: what holds for every path of prices, not for chosen ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from momentum_lab.core.candle import MINUTE_NS
from momentum_lab.core.exit_bars import BarCosts, BarEntry, BarExit, leave_by_bars
from momentum_lab.core.market import EPSILON, NS_PER_S, Bar, Side
from momentum_lab.core.position import ExitParameters, ExitReason, Levels
from momentum_lab.core.ratchet import Followed, Ratchet, follow_bars, make_ratchet
from tests.factories import NOON, bar, instrument

law = settings(max_examples=200, deadline=None, derandomize=True, database=None)

sides = st.sampled_from([Side.BUY, Side.SELL])
# A bar in cents: gap, body, upper and lower wick; then its volume.
steps = st.tuples(
    st.integers(-40, 40),
    st.integers(-40, 40),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([0, 1, 100, 5_000]),
)
exit_parameters = st.builds(
    ExitParameters,
    time_stop_s=st.sampled_from([60.0, 300.0, 23_400.0]),
    break_even_r=st.sampled_from([0.0, 0.3, 1.0]),
    trail_atr_multiple=st.sampled_from([0.0, 0.5, 3.0]),
    decay_volume_ratio=st.sampled_from([0.0, 0.25, 0.9]),
)
some_costs = st.builds(BarCosts, *(st.sampled_from([0.0, 0.005, 0.02, 0.1]) for _ in range(3)))


@dataclass(frozen=True)
class Path:
    bars: tuple[Bar, ...]
    entry: BarEntry
    costs: BarCosts
    parameters: ExitParameters

    def leave(self, n_bars: int | None = None) -> BarExit:
        bars = self.bars[:n_bars]
        return leave_by_bars(
            bars,
            [0.05] * len(bars),
            self.entry,
            costs=self.costs,
            instrument=instrument(),
            parameters=self.parameters,
        )


def _bars(made: list[tuple[int, int, int, int, int]]) -> tuple[Bar, ...]:
    found, close = [], 10_000
    for number, (gap, body, up, down, volume) in enumerate(made):
        open_ = close + gap
        close = open_ + body
        found.append(
            bar(
                open_ / 100,
                close / 100,
                high=(max(open_, close) + up) / 100,
                low=(min(open_, close) - down) / 100,
                volume=float(volume),
                start_ns=NOON + number * MINUTE_NS,
            )
        )
    return tuple(found)


@st.composite
def paths(draw: st.DrawFn) -> Path:
    bars = _bars(draw(st.lists(steps, min_size=1, max_size=25)))
    traded = [bar for bar in bars if bar.volume]
    assume(traded)
    side, first = draw(sides), traded[0].open
    stop = first - side.sign * draw(st.integers(5, 100)) / 100
    target = first + side.sign * draw(st.integers(5, 200)) / 100
    entry = BarEntry(
        side,
        Levels(round(stop, 2), round(target, 2)),
        offset_usd=draw(st.sampled_from([0.0, 0.02, 0.2])),
        flat_by_ns=draw(st.sampled_from([None, NOON + 7 * MINUTE_NS])),
        opposite_ns=draw(st.sampled_from([None, NOON + 130 * NS_PER_S])),
        improve_gaps=draw(st.booleans()),
    )
    return Path(bars, entry, draw(some_costs), draw(exit_parameters))


@law
@given(paths())
def test_a_fill_is_never_better_than_the_range_of_its_bar(path: Path) -> None:
    found = path.leave()

    here = path.bars[found.index]
    best = here.high if path.entry.side is Side.BUY else here.low
    assert path.entry.side.sign * (found.exit_usd - best) <= EPSILON


@law
@given(paths())
def test_a_bar_without_volume_fills_nothing_neither_entry_nor_exit(path: Path) -> None:
    found = path.leave()
    alone = replace(path, bars=tuple(bar for bar in path.bars if bar.volume)).leave()

    assert (alone.entry_usd, alone.mfe_r, alone.mae_r) == (
        found.entry_usd,
        found.mfe_r,
        found.mae_r,
    )
    assert alone.reason is found.reason
    if found.reason is not None:
        assert replace(alone, index=found.index) == found
        assert path.bars[found.index].volume > 0


@law
@given(paths())
def test_an_exit_stays_the_same_whatever_comes_after_its_bar(path: Path) -> None:
    whole = path.leave()

    first = next(number for number, one in enumerate(path.bars) if one.volume)
    for n_bars in range(first + 1, len(path.bars) + 1):
        cut = path.leave(n_bars)
        if whole.reason is not None and whole.index < n_bars:
            assert cut == whole
        else:
            assert cut.reason is None


@law
@given(paths())
def test_excursions_enclose_the_profit_before_the_costs_of_the_exit(path: Path) -> None:
    found = path.leave()
    costs_r = (path.costs.stop_usd + path.costs.market_usd) / found.risk_usd

    assert min(found.mfe_r, found.mae_r) >= 0
    if found.reason is not None:
        assert -found.mae_r - costs_r - EPSILON <= found.profit_r <= found.mfe_r + EPSILON


@law
@given(sides, some_costs, exit_parameters, st.integers(1, 50))
def test_on_a_flat_path_the_profit_is_minus_the_costs(
    side: Side, costs: BarCosts, parameters: ExitParameters, n_bars: int
) -> None:
    bars = _bars([(0, 0, 0, 0, 100)] * n_bars)
    entry = BarEntry(side, Levels(100 - side.sign * 5.0, 100 + side.sign * 5.0))

    found = Path(
        (*bars, replace(bars[-1], start_ns=NOON + 10**5 * NS_PER_S)), entry, costs, parameters
    ).leave()

    assert found.reason is ExitReason.TIME_STOP
    assert found.profit_usd == pytest.approx(-2 * costs.market_usd, abs=1e-9)


@law
@given(paths())
def test_the_mirror_of_a_path_is_the_mirror_of_its_trade(path: Path) -> None:
    def turned(price: float) -> float:
        return round(200 - price, 2)

    bars = tuple(
        replace(
            one,
            open=turned(one.open),
            high=turned(one.low),
            low=turned(one.high),
            close=turned(one.close),
        )
        for one in path.bars
    )
    levels = Levels(turned(path.entry.levels.stop), turned(path.entry.levels.target))
    entry = replace(path.entry, side=path.entry.side.opposite, levels=levels)

    found, other = path.leave(), replace(path, bars=bars, entry=entry).leave()

    assert (found.name, found.index) == (other.name, other.index)
    assert found.profit_usd == pytest.approx(other.profit_usd, abs=1e-9)
    assert (found.mfe_r, found.mae_r) == pytest.approx((other.mfe_r, other.mae_r), abs=1e-6)


def _ratchet(side: Side, parameters: ExitParameters) -> Ratchet:
    return make_ratchet(
        side,
        entry_usd=100.0,
        stop_usd=100.0 - side.sign,
        offset_usd=0.04,
        instrument=instrument(),
        parameters=parameters,
    )


def _followed(start: Ratchet, bars: tuple[Bar, ...]) -> Followed:
    return follow_bars(
        start,
        bars,
        entry_ns=NOON + 2 * MINUTE_NS,
        usual_range_usd=0.2,
        atr_bars=3,
        atr_kind="wilder",
    )


@law
@given(sides, exit_parameters, st.lists(steps, min_size=1, max_size=25).map(_bars))
def test_the_stop_only_tightens_and_bars_to_come_change_nothing(
    side: Side, parameters: ExitParameters, bars: tuple[Bar, ...]
) -> None:
    start = _ratchet(side, parameters)

    so_far = [_followed(start, bars[:n]) for n in range(len(bars) + 1)]

    for before, after in pairwise(so_far):
        moved = side.sign * (after.ratchet.stop_usd - before.ratchet.stop_usd)
        assert moved >= 0
        assert (moved > 0) or after.ratchet.stop_kind is before.ratchet.stop_kind
        assert before.due is None or after.due == before.due
    spiked = (*bars, bar(300.0, start_ns=NOON + len(bars) * MINUTE_NS))
    assert _followed(start, spiked[: len(bars)]) == so_far[-1]
