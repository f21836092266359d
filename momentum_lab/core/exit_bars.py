"""Exits judged on bars alone: levels and costs -> reason, bar, fill, profit, excursions.

Within a bar the order of prices is not known, so the answer is the careful one: the gap at the open
first, then what time asks for, then the stop, then the target, and only when the bar is over do
levels move. Where stop and target lie in one bar, the stop was first, and the result says so. A bar
without volume fills nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from momentum_lab.core.exits import ExitSignal
from momentum_lab.core.market import EPSILON, NS_PER_S, Bar, Instrument, Side
from momentum_lab.core.position import ExitParameters, ExitReason, Levels
from momentum_lab.core.ratchet import Ratchet, VolumeDecay, make_ratchet
from momentum_lab.errors import DataError


@dataclass(frozen=True, slots=True)
class BarCosts:
    """What a fill costs, US dollars per share; a target, which is a limit, costs nothing.

    Attributes:
        half_spread_usd: half of the quoted spread.
        slippage_usd: of a market order on top of it.
        stop_slippage_usd: the same of a stop.
    """

    half_spread_usd: float
    slippage_usd: float
    stop_slippage_usd: float

    def __post_init__(self) -> None:
        """Refuse costs that would be an income."""
        found = (self.half_spread_usd, self.slippage_usd, self.stop_slippage_usd)
        if not all(0 <= value < math.inf for value in found):
            raise DataError(f"bar costs: expected numbers >= 0, found {found}")

    @property
    def market_usd(self) -> float:
        """What a market order pays."""
        return self.half_spread_usd + self.slippage_usd

    @property
    def stop_usd(self) -> float:
        """What a stop pays."""
        return self.half_spread_usd + self.stop_slippage_usd


@dataclass(frozen=True, slots=True)
class BarEntry:
    """A position that is entered at the open of the first bar with volume.

    Attributes:
        side: direction of the entry.
        levels: stop and target.
        offset_usd: what break-even lies beyond the entry.
        flat_by_ns: instant by which it must be flat, None without one.
        opposite_ns: when an opposite signal was confirmed, None: never.
        improve_gaps: whether a gap through the target fills at the open instead of the target.
    """

    side: Side
    levels: Levels
    offset_usd: float = 0.0
    flat_by_ns: int | None = None
    opposite_ns: int | None = None
    improve_gaps: bool = False


@dataclass(frozen=True, slots=True)
class BarExit:
    """How a position ended.

    Attributes:
        reason: why it was left; None where the bars end first.
        is_gap: the open lay beyond the level already.
        index: of the bar in which it was left; the last one where it is still open.
        entry_usd: price that was paid.
        exit_usd: price that was got; the last close where it is still open.
        profit_usd: per share, after the costs of the fills.
        risk_usd: distance of entry and first stop: R.
        mfe_r: most favourable excursion, in R, never below 0.
        mae_r: most adverse excursion, in R, never below 0.
        is_ambiguous: the bar of a stop reached the target as well.
    """

    reason: ExitReason | None
    is_gap: bool
    index: int
    entry_usd: float
    exit_usd: float
    profit_usd: float
    risk_usd: float
    mfe_r: float
    mae_r: float
    is_ambiguous: bool

    @property
    def profit_r(self) -> float:
        """Profit in R."""
        return self.profit_usd / self.risk_usd

    @property
    def name(self) -> str:
        """Reason as it is written in tables, e.g. STOP_LOSS, TRAIL_GAP, OPEN."""
        if self.reason is None:
            return "OPEN"
        return f"{self.reason.value}_GAP" if self.is_gap else self.reason.value


@dataclass(frozen=True, slots=True)
class _Leave:
    """An exit: what is got, and which prices of its bar count for the excursions."""

    reason: ExitReason
    fill_usd: float
    touched: tuple[float, ...]
    is_gap: bool = False
    is_ambiguous: bool = False


def leave_by_bars(
    bars: Sequence[Bar],
    ranges_usd: Sequence[float],
    entry: BarEntry,
    *,
    costs: BarCosts,
    instrument: Instrument,
    parameters: ExitParameters,
) -> BarExit:
    """Return how a position entered at the open of the first bar that trades ends.

    Args:
        bars: in time order, one length; the entry waits in the first ones while nothing trades.
        ranges_usd: ATR up to and with each bar; NaN where it is not known.
        entry: side, levels and what else may end it.
        costs: of the fills.
        instrument: its tick.
        parameters: time stop, break-even, chandelier, decay of volume.

    Raises:
        DataError: no bar with volume, not one ATR per bar, or a stop that is not behind the entry.
    """
    if len(bars) != len(ranges_usd):
        raise DataError(f"expected one ATR per bar, found {len(bars)} and {len(ranges_usd)}")
    # Nothing is traded in a bar without volume: no order fills there, and no level moves.
    traded = [index for index, bar in enumerate(bars) if bar.volume > 0]
    if not traded:
        raise DataError(f"expected a bar with volume, found {len(bars)} bars without")
    first = bars[traded[0]]
    entry_usd = first.open + entry.side.sign * costs.market_usd
    ratchet = make_ratchet(
        entry.side,
        entry_usd=entry_usd,
        stop_usd=entry.levels.stop,
        offset_usd=entry.offset_usd,
        instrument=instrument,
        parameters=parameters,
    )
    walk = _Walk(entry, costs, ratchet, VolumeDecay(), first.start_ns)
    for index in traded:
        bar = bars[index]
        leave = walk.leave(bar, is_first=bar is first)
        if leave is not None:
            return walk.result(index, leave)
        walk.update(bar, ranges_usd[index])
    return walk.result(len(bars) - 1, None, mark_usd=bars[-1].close)


@dataclass(slots=True)
class _Walk:
    """A position on its way through the bars; it knows nothing of the bars to come."""

    entry: BarEntry
    costs: BarCosts
    ratchet: Ratchet
    decay: VolumeDecay
    entry_ns: int
    pending: ExitSignal | None = None
    mfe_usd: float = 0.0
    mae_usd: float = 0.0

    def leave(self, bar: Bar, *, is_first: bool) -> _Leave | None:
        by_open = None if is_first else self._gap(bar) or self._soft(bar)
        return by_open or self._inside(bar)

    def update(self, bar: Bar, range_usd: float) -> None:
        self._excursion(bar.high, bar.low)
        self.ratchet = self.ratchet.advance(bar, range_usd)
        self.decay = self.decay.advance(bar.volume)
        open_r = self.ratchet.open_r(bar.close)
        self.pending = self.pending or self.decay.signal(open_r, self.ratchet.parameters)

    def result(self, index: int, leave: _Leave | None, *, mark_usd: float = 0.0) -> BarExit:
        if leave is not None:
            self._excursion(*leave.touched)
        exit_usd = leave.fill_usd if leave else mark_usd
        entry_usd, risk_usd = self.ratchet.entry_usd, self.ratchet.risk_usd
        return BarExit(
            reason=leave.reason if leave else None,
            is_gap=bool(leave and leave.is_gap),
            index=index,
            entry_usd=entry_usd,
            exit_usd=exit_usd,
            profit_usd=self.entry.side.sign * (exit_usd - entry_usd),
            risk_usd=risk_usd,
            mfe_r=self.mfe_usd / risk_usd,
            mae_r=self.mae_usd / risk_usd,
            is_ambiguous=bool(leave and leave.is_ambiguous),
        )

    def _gap(self, bar: Bar) -> _Leave | None:
        """The open lies beyond a level: the stop fills there, the target gets no better price."""
        sign, target = self.entry.side.sign, self.entry.levels.target
        if sign * (bar.open - self.ratchet.stop_usd) <= EPSILON:
            fill = bar.open - sign * self.costs.stop_usd
            return _Leave(self.ratchet.stop_kind, fill, (bar.open,), is_gap=True)
        if sign * (bar.open - target) >= -EPSILON:
            fill = bar.open if self.entry.improve_gaps else target
            return _Leave(ExitReason.TAKE_PROFIT, fill, (fill,), is_gap=True)
        return None

    def _soft(self, bar: Bar) -> _Leave | None:
        """What time, volume or a signal had asked for by the open of this bar."""
        reason = self._due_at(bar.start_ns)
        if reason is None:
            return None
        fill = bar.open - self.entry.side.sign * self.costs.market_usd
        return _Leave(reason, fill, (bar.open,))

    def _due_at(self, at_ns: int) -> ExitReason | None:
        entry, time_stop_s = self.entry, self.ratchet.parameters.time_stop_s
        if entry.flat_by_ns is not None and at_ns >= entry.flat_by_ns:
            return ExitReason.FLAT_BY_CLOSE
        if at_ns >= self.entry_ns + int(time_stop_s * NS_PER_S):
            return ExitReason.TIME_STOP
        if self.pending is not None:
            return self.pending.reason
        listens = self.ratchet.parameters.on_opposite_signal == "exit"
        if listens and entry.opposite_ns is not None and at_ns >= entry.opposite_ns:
            return ExitReason.OPPOSITE
        return None

    def _inside(self, bar: Bar) -> _Leave | None:
        """A level is reached within the bar; a target only if a price goes through it."""
        sign, stop = self.entry.side.sign, self.ratchet.stop_usd
        best, worst = (bar.high, bar.low) if sign > 0 else (bar.low, bar.high)
        target, tick_usd = self.entry.levels.target, self.ratchet.instrument.tick_usd
        reaches_target = sign * (best - target) >= tick_usd - EPSILON
        if sign * (worst - stop) <= EPSILON:
            return _Leave(
                self.ratchet.stop_kind,
                stop - sign * self.costs.stop_usd,
                # The best price may have come after the stop: it does not count.
                (bar.open, stop),
                is_ambiguous=reaches_target,
            )
        if reaches_target:
            return _Leave(ExitReason.TAKE_PROFIT, target, (target, worst))
        return None

    def _excursion(self, *prices_usd: float) -> None:
        for price in prices_usd:
            move = self.entry.side.sign * (price - self.ratchet.entry_usd)
            self.mfe_usd, self.mae_usd = max(self.mfe_usd, move), max(self.mae_usd, -move)
