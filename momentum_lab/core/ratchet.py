"""What complete bars do to the exits of a position: the stop tightens, a dead trade ends.

Only bars that began after the entry count: the minute of the entry holds prices from before it.
A bar counts once it is over, so that what is decided in a minute rests on the minutes before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from momentum_lab.core.exits import ExitSignal
from momentum_lab.core.fills import FillModel
from momentum_lab.core.indicators import AtrKind, atr
from momentum_lab.core.market import EPSILON, Bar, Instrument, Side
from momentum_lab.core.position import ExitParameters, ExitReason
from momentum_lab.core.shock import opens_session
from momentum_lab.errors import DataError

_DECAY_BARS = 3


@dataclass(frozen=True, slots=True)
class Ratchet:
    """The stop of one position; levels that would loosen it change nothing.

    Attributes:
        side: direction of the entry.
        entry_usd: average price of the entry.
        risk_usd: distance from there to the first stop: R, per share.
        offset_usd: what break-even lies beyond the entry: the costs of a round trip, per share.
        stop_usd: where the stop is now.
        extreme_usd: best price of the position in the bars so far; infinitely bad before the first,
            for the price of the entry itself holds costs.
        instrument: its ticks; a long's stop is rounded down, a short's up.
        parameters: which rules move the stop.
        stop_kind: the reason that the stop stands for: STOP_LOSS, BREAK_EVEN or TRAIL.
    """

    side: Side
    entry_usd: float
    risk_usd: float
    offset_usd: float
    stop_usd: float
    extreme_usd: float
    instrument: Instrument
    parameters: ExitParameters
    stop_kind: ExitReason = ExitReason.STOP_LOSS

    @property
    def best_r(self) -> float:
        """Most favourable excursion so far, in R."""
        return self.side.sign * (self.extreme_usd - self.entry_usd) / self.risk_usd

    def open_r(self, price_usd: float) -> float:
        """Return the open profit at a price before costs, in R."""
        return self.side.sign * (price_usd - self.entry_usd) / self.risk_usd

    def advance(self, bar: Bar, atr_usd: float) -> Ratchet:
        """Return the ratchet after one more complete bar: its extreme, break-even, chandelier.

        Args:
            bar: the next complete bar since the entry.
            atr_usd: average true range up to and with this bar; NaN where it is not known.
        """
        sign, parameters = self.side.sign, self.parameters
        best = bar.high if self.side is Side.BUY else bar.low
        found = self
        if sign * (best - self.extreme_usd) > 0:
            found = replace(self, extreme_usd=best)
        if parameters.break_even_r and found.best_r >= parameters.break_even_r - EPSILON:
            level = self.entry_usd + sign * self.offset_usd
            found = found.tightened(level, ExitReason.BREAK_EVEN)
        if parameters.trail_atr_multiple and math.isfinite(atr_usd):
            level = found.extreme_usd - sign * parameters.trail_atr_multiple * atr_usd
            found = found.tightened(level, ExitReason.TRAIL)
        return found

    def tightened(self, stop_usd: float, kind: ExitReason) -> Ratchet:
        """Return the ratchet with this stop, on the grid, where it is tighter than the present."""
        grid = self.instrument.floor if self.side is Side.BUY else self.instrument.ceil
        level = grid(stop_usd)
        if self.side.sign * (level - self.stop_usd) <= EPSILON:
            return self
        return replace(self, stop_usd=level, stop_kind=kind)


def make_ratchet(
    side: Side,
    *,
    entry_usd: float,
    stop_usd: float,
    offset_usd: float,
    instrument: Instrument,
    parameters: ExitParameters,
) -> Ratchet:
    """Return the ratchet of a position that has just been entered.

    Raises:
        DataError: the stop does not lie behind the entry.
    """
    risk_usd = side.sign * (entry_usd - stop_usd)
    if not risk_usd > EPSILON:
        raise DataError(f"{instrument.symbol}: stop {stop_usd} is not behind entry {entry_usd}")
    return Ratchet(
        side=side,
        entry_usd=entry_usd,
        risk_usd=risk_usd,
        offset_usd=offset_usd,
        stop_usd=stop_usd,
        extreme_usd=-side.sign * math.inf,
        instrument=instrument,
        parameters=parameters,
    )


def round_trip_usd(
    shares: float, *, bid: float | None, ask: float | None, instrument: Instrument, model: FillModel
) -> float:
    """Return what entering and leaving costs, US dollars per share, by the model of fills.

    Args:
        shares: size of the trade.
        bid: of the quote at the entry; without one the spread is taken for one tick.
        ask: the same.
        instrument: its tick.
        model: slippage and commission.
    """
    quoted = instrument.tick_usd if bid is None or ask is None else ask - bid
    spread = max(instrument.tick_usd, quoted)
    slippage = max(instrument.tick_usd, model.slippage_spread_ratio * spread)
    return spread + 2 * slippage + 2 * model.commission_usd(shares) / shares


@dataclass(frozen=True, slots=True)
class VolumeDecay:
    """The mean volume of the last three bars, and its peak since the entry.

    Volume against what is usual would give the same answer: the usual volume is frozen with the
    baseline, and stands on both sides of the comparison.
    """

    recent: tuple[float, ...] = ()
    peak: float = 0.0

    @property
    def mean(self) -> float | None:
        """Mean volume of the last three bars, None before there are three."""
        return sum(self.recent) / _DECAY_BARS if len(self.recent) == _DECAY_BARS else None

    def advance(self, volume: float) -> VolumeDecay:
        """Return it after one more complete bar; the unit is the same for all."""
        found = VolumeDecay((*self.recent, volume)[-_DECAY_BARS:], self.peak)
        return replace(found, peak=max(found.peak, found.mean or 0.0))

    def signal(self, open_r: float, parameters: ExitParameters) -> ExitSignal | None:
        """Return the exit of a trade whose volume has gone before its profit came.

        Args:
            open_r: open profit at the close of the bar, in R.
            parameters: how little volume, how little profit; 0 volume: never.
        """
        mean, limit = self.mean, parameters.decay_volume_ratio * self.peak
        if mean is None or not mean < limit - EPSILON:
            return None
        if open_r >= parameters.decay_profit_r - EPSILON:
            return None
        return ExitSignal(
            ExitReason.VOL_DECAY, mean / self.peak, parameters.decay_volume_ratio, "ratio of peak"
        )


@dataclass(frozen=True, slots=True)
class Followed:
    """What the bars since the entry have come to.

    Attributes:
        ratchet: the stop.
        due: the exit that a bar has asked for, None: none.
    """

    ratchet: Ratchet
    due: ExitSignal | None = None


def follow_bars(
    start: Ratchet,
    bars: Sequence[Bar],
    *,
    entry_ns: int,
    usual_range_usd: float,
    atr_bars: int,
    atr_kind: AtrKind,
    with_volume: bool = True,
) -> Followed:
    """Return stop and exit after the complete bars since an entry.

    Args:
        start: the ratchet at the entry.
        bars: complete one-minute bars in time order, from before the entry on, one unit of volume.
        entry_ns: first fill, market time.
        usual_range_usd: ATR of the baseline, for the time in which there are too few bars.
        atr_bars: true ranges in the ATR.
        atr_kind: how they are averaged.
        with_volume: whether the volumes may be compared.
    """
    found, decay = Followed(start), VolumeDecay()
    for bar, range_usd in zip(bars, _ranges(bars, atr_bars, atr_kind), strict=True):
        if bar.start_ns < entry_ns:
            continue
        known = range_usd if math.isfinite(range_usd) else usual_range_usd
        ratchet, due = found.ratchet.advance(bar, known), found.due
        if with_volume and due is None:
            decay = decay.advance(bar.volume)
            due = decay.signal(ratchet.open_r(bar.close), start.parameters)
        found = Followed(ratchet, due)
    return found


def complete_bars(
    history: Iterable[Bar], heard: Iterable[Bar], *, entry_ns: int, unit_shares: float
) -> tuple[Bar, ...]:
    """Return historical bars and closed candles of a line as one series, volumes in shares.

    Args:
        history: complete bars, volume in shares.
        heard: closed candles, volume in the line's own unit.
        entry_ns: since the entry what was heard counts, and history only fills its gaps; before
            the entry it is the other way round.
        unit_shares: shares per unit of the line's volume.
    """
    found = {bar.start_ns: bar for bar in history}
    for bar in heard:
        if bar.start_ns >= entry_ns or bar.start_ns not in found:
            found[bar.start_ns] = replace(bar, volume=bar.volume * unit_shares)
    return tuple(found[start_ns] for start_ns in sorted(found))


def _ranges(bars: Sequence[Bar], n: int, kind: AtrKind) -> list[float]:
    high, low, close = (
        np.array([getattr(bar, name) for bar in bars], dtype=np.float64)
        for name in ("high", "low", "close")
    )
    ranges = atr(high, low, close, n=n, kind=kind, opens_session=opens_session(bars))
    return [float(value) for value in ranges]
