"""Shock detection: is the reaction to a headline large against what is usual?

The candle shock. In the most recent one-minute candle, forming or closed,

    |close - open| > k x ATR(10)    and    volume > m x SMA(volume, 20)

The baseline is frozen when the headline is received: only bars that had closed by then enter it.
A candle counts if it ends after the receipt; one that was over before the news is no reaction to
it. A headline opens one watch; every quote and every timer is a look at it; it ends with the
first shock or with its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from momentum_lab.core.candle import (
    MINUTE_NS,
    LiveCandles,
    latest,
    mean_close,
    recent_volume,
    volume_unit_shares,
)
from momentum_lab.core.indicators import AtrKind, atr, sma
from momentum_lab.core.market import EPSILON, NS_PER_S, Bar, Side
from momentum_lab.core.signal import Decision, Reason, TradeSignal, passed
from momentum_lab.core.tunable import check_tunables, described, tunable
from momentum_lab.errors import ParameterError

_NIGHT_NS = 6 * 3600 * NS_PER_S

Direction = Literal["long", "short", "both"]


@dataclass(frozen=True, slots=True)
class ShockParameters:
    """What counts as a shock."""

    price_atr_multiple: float = tunable(
        3.0, unit="x ATR", low=0.1, high=20, step=0.1, meaning="move against the usual range"
    )
    volume_multiple: float = tunable(
        5.0, unit="x SMA", low=0.1, high=50, step=0.1, meaning="volume against the usual volume"
    )
    atr_bars: int = tunable(
        10, unit="bars", low=2, high=200, step=1, meaning="true ranges in the ATR"
    )
    volume_bars: int = tunable(
        20, unit="bars", low=2, high=200, step=1, meaning="volumes in the average"
    )
    watch_s: float = tunable(
        300.0, unit="s", low=1, high=3600, step=10, meaning="how long a headline is watched"
    )
    volume_unit_tolerance: float = tunable(
        0.25,
        unit="ratio",
        low=0.01,
        high=1,
        step=0.01,
        meaning="how far live volume may differ from the historical bar of the same minute",
    )
    atr_kind: AtrKind = described("sma", meaning="sma or wilder: how the true ranges are averaged")
    direction: Direction = described("both", meaning="long, short or both: which shocks are traded")

    def __post_init__(self) -> None:
        """Refuse values outside their declared range or set."""
        check_tunables(self, prefix="shock.")
        check_choice("shock.atr_kind", self.atr_kind, ("sma", "wilder"))
        check_choice("shock.direction", self.direction, ("long", "short", "both"))

    @property
    def bars_needed(self) -> int:
        """Closed bars a baseline needs; the first true range needs a previous close."""
        return max(self.atr_bars + 1, self.volume_bars)


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not one of `choices`.

    Raises:
        ParameterError: names the key, the choices and what was found.
    """
    if value not in choices:
        raise ParameterError(f"{key}: expected one of {', '.join(choices)}, found {value!r}")


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual for a symbol, frozen when the headline was received.

    Attributes:
        atr: average true range of one-minute bars, US dollars.
        volume: average volume of one minute, shares.
        until_ns: end of the last bar that entered.
    """

    atr: float
    volume: float
    until_ns: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one candle.

    Attributes:
        at_ns: when.
        move_atr: (close - open) / ATR, signed.
        volume_sma: volume / SMA.
        close: price of the last trade, US dollars.
        is_forming: the candle was not closed yet.
    """

    at_ns: int
    move_atr: float
    volume_sma: float
    close: float
    is_forming: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """An open question: does this symbol react to this headline?

    Attributes:
        headline_key: whose reaction is watched.
        symbol: where.
        received_ns: receipt of the headline, market time.
        baseline: what is usual.
        unit_shares: shares per unit of the line's volume.
        best: the reading that came nearest to a shock so far.
    """

    headline_key: str
    symbol: str
    received_ns: int
    baseline: Baseline
    unit_shares: float
    best: Reading | None = None

    def expires_ns(self, parameters: ShockParameters) -> int:
        """Return the instant at which the watch ends without a shock."""
        return self.received_ns + int(parameters.watch_s * NS_PER_S)


def make_baseline(
    bars: Sequence[Bar], *, received_ns: int, tick_usd: float, parameters: ShockParameters
) -> Baseline | Decision:
    """Return the baseline of the bars closed by `received_ns`, or the reason why there is none.

    Args:
        bars: one-minute bars in time order, volume in shares; a forming last bar is left out.
        received_ns: receipt of the headline, market time.
        tick_usd: price step; an ATR below half of it says nothing.
        parameters: windows and kind of the averages.
    """
    closed = [bar for bar in bars if bar.end_ns <= received_ns]
    if len(closed) < parameters.bars_needed:
        return passed(
            Reason.NO_BASELINE,
            f"{len(closed)} closed one-minute bars, {parameters.bars_needed} are needed",
            observed=len(closed),
            limit=parameters.bars_needed,
            unit="bars",
        )
    stale_min = (received_ns - closed[-1].end_ns) / MINUTE_NS
    if stale_min > parameters.bars_needed:
        return passed(
            Reason.NO_BASELINE,
            f"the last closed bar ended {stale_min:.0f} minutes ago",
            observed=stale_min,
            limit=parameters.bars_needed,
            unit="min",
        )
    high, low, close, volume = (
        np.array([getattr(bar, name) for bar in closed], dtype=np.float64)
        for name in ("high", "low", "close", "volume")
    )
    ranges = atr(
        high,
        low,
        close,
        n=parameters.atr_bars,
        kind=parameters.atr_kind,
        opens_session=opens_session(closed),
    )
    usual_range = float(ranges[-1])
    floor = max(tick_usd / 2, 1e-4 * float(close[-1]))
    if not usual_range >= floor - EPSILON:
        return passed(
            Reason.ATR_TOO_SMALL,
            f"ATR {usual_range:.4f} USD is below {floor:.4f} USD",
            observed=usual_range,
            limit=floor,
            unit="USD",
        )
    usual_volume = float(sma(volume, parameters.volume_bars)[-1])
    if not usual_volume > 0:
        return passed(
            Reason.NO_BASELINE,
            "the usual volume is 0",
            observed=usual_volume,
            limit=0,
            unit="shares",
        )
    return Baseline(usual_range, usual_volume, closed[-1].end_ns)


def opens_session(bars: Sequence[Bar]) -> npt.NDArray[np.bool_]:
    """Return where a bar follows a pause that no halt lasts: the night or a weekend."""
    pauses = [0, *(bar.start_ns - before.end_ns for before, bar in pairwise(bars))]
    return np.array(pauses) > _NIGHT_NS


def open_watch(
    headline_key: str,
    symbol: str,
    *,
    received_ns: int,
    bars: Sequence[Bar],
    candles: LiveCandles,
    tick_usd: float,
    parameters: ShockParameters,
) -> Watch | Decision:
    """Return the watch of a headline, or the decision why it cannot be watched.

    Args:
        headline_key: identity of the headline.
        symbol: what is watched.
        received_ns: receipt, market time.
        bars: historical one-minute bars, volume in shares.
        candles: what the live line has built so far, volume in its own unit.
        tick_usd: price step of the instrument.
        parameters: the thresholds.
    """
    baseline = make_baseline(
        bars, received_ns=received_ns, tick_usd=tick_usd, parameters=parameters
    )
    if isinstance(baseline, Decision):
        return baseline
    closed = [bar for bar in bars if bar.end_ns <= received_ns]
    unit, ratio = volume_unit_shares(
        candles.closed, closed, tolerance_ratio=parameters.volume_unit_tolerance
    )
    if unit is None:
        text = (
            "no closed minute has been heard live yet, so the unit of live volume is unknown"
            if ratio is None
            else f"historical / live volume of a closed minute is {ratio:.3g}, neither 1 nor 100"
        )
        return passed(Reason.VOLUME_UNIT_UNKNOWN, text, observed=ratio, unit="shares per unit")
    return Watch(headline_key, symbol, received_ns, baseline, unit)


def look(
    watch: Watch, candles: LiveCandles, *, now_ns: int, parameters: ShockParameters
) -> tuple[Watch, TradeSignal | Decision | None]:
    """Return the watch after one look, and what came of it: a signal, a verdict, or None yet.

    Args:
        watch: the open watch.
        candles: the line's candles as of now, volume in the line's own unit.
        now_ns: market time.
        parameters: the thresholds.
    """
    if now_ns >= watch.expires_ns(parameters):
        # First, so that a look that comes late finds nothing that a timely one could not.
        return watch, _verdict(watch, parameters)
    for bar in latest(candles, ending_after_ns=watch.received_ns):
        reading = _read(watch, bar, now_ns)
        best = _nearer(watch.best, reading, parameters)
        if best is not watch.best:
            watch = replace(watch, best=best)
        if _fires(reading, parameters):
            return watch, _signal(watch, reading, candles, parameters)
    return watch, None


def _read(watch: Watch, bar: Bar, now_ns: int) -> Reading:
    return Reading(
        at_ns=now_ns,
        move_atr=(bar.close - bar.open) / watch.baseline.atr,
        volume_sma=bar.volume * watch.unit_shares / watch.baseline.volume,
        close=bar.close,
        is_forming=bar.end_ns > now_ns,
    )


def _fires(reading: Reading, parameters: ShockParameters) -> bool:
    return _score(reading, parameters) > 1 + EPSILON


def _score(reading: Reading, parameters: ShockParameters) -> float:
    """How near to a shock: the weaker of the two tests, 1 at its threshold."""
    return min(
        abs(reading.move_atr) / parameters.price_atr_multiple,
        reading.volume_sma / parameters.volume_multiple,
    )


def _nearer(best: Reading | None, reading: Reading, parameters: ShockParameters) -> Reading:
    if best is None or _score(reading, parameters) > _score(best, parameters):
        return reading
    return best


def _allows(direction: Direction, side: Side) -> bool:
    return direction in ("both", "long" if side is Side.BUY else "short")


def _signal(
    watch: Watch, reading: Reading, candles: LiveCandles, parameters: ShockParameters
) -> TradeSignal | Decision:
    side = Side.BUY if reading.move_atr > 0 else Side.SELL
    k, m = parameters.price_atr_multiple, parameters.volume_multiple
    text = (
        f"{watch.symbol} moved {reading.move_atr:+.2f} ATR (limit {k:g})"
        f" on {reading.volume_sma:.1f} x usual volume (limit {m:g})"
    )
    if not _allows(parameters.direction, side):
        return passed(
            Reason.WRONG_DIRECTION,
            f"{text}, but only {parameters.direction} entries are allowed",
            observed=reading.move_atr,
            limit=parameters.price_atr_multiple,
            unit="x ATR",
        )
    return TradeSignal(
        headline_key=watch.headline_key,
        symbol=watch.symbol,
        side=side,
        at_ns=reading.at_ns,
        price=reading.close,
        atr=watch.baseline.atr,
        observed=abs(reading.move_atr),
        limit=parameters.price_atr_multiple,
        text=text,
        recent_volume_shares=recent_volume(candles, unit_shares=watch.unit_shares),
        reference_usd=mean_close(candles),
    )


def _verdict(watch: Watch, parameters: ShockParameters) -> Decision:
    best = watch.best
    if best is None:
        return passed(Reason.NO_CANDLE, "no trade was heard while the headline was watched")
    if abs(best.move_atr) <= parameters.price_atr_multiple * (1 + EPSILON):
        return passed(
            Reason.NO_SHOCK_PRICE,
            f"at the nearest the move was {best.move_atr:+.2f} ATR,"
            f" {parameters.price_atr_multiple:g} are asked for",
            observed=abs(best.move_atr),
            limit=parameters.price_atr_multiple,
            unit="x ATR",
        )
    return passed(
        Reason.NO_SHOCK_VOLUME,
        f"at the nearest the volume was {best.volume_sma:.2f} x usual,"
        f" {parameters.volume_multiple:g} are asked for",
        observed=best.volume_sma,
        limit=parameters.volume_multiple,
        unit="x SMA",
    )
