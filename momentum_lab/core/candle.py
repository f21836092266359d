"""One-minute candles built from trades while they form, and the unit of their volume.

The broker's line sends the price of each trade and the day's cumulative volume. A candle's volume
is the difference of that number over the minute. Its unit is not certain: day volume comes in
shares or in round lots of 100, depending on version and settings, while historical bars are in
shares. So the unit is measured: the volume of a closed minute, as heard live, is compared with
the historical bar of the same minute. Neither 1 nor 100: unknown, and nothing is entered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from momentum_lab.core.market import NS_PER_S, Bar

MINUTE_S = 60
MINUTE_NS = MINUTE_S * NS_PER_S
_KEPT = 5
_UNITS = (1.0, 100.0)


class Trade(NamedTuple):
    """One report of a trade on a line.

    Attributes:
        at_ns: time of the trade in market time.
        price: US dollars.
        day_volume: cumulative volume of the day, in the line's own unit.
    """

    at_ns: int
    price: float
    day_volume: float


@dataclass(frozen=True, slots=True)
class LiveCandles:
    """The forming candle and the last closed ones of one line.

    Attributes:
        forming: candle of the current minute; None before the line's first whole minute.
        closed: up to five whole closed candles, oldest first, volumes in the line's own unit.
        minute_ns: start of the minute of the last trade, 0 before the first.
        day_volume: cumulative volume at the last trade.
    """

    forming: Bar | None = None
    closed: tuple[Bar, ...] = ()
    minute_ns: int = 0
    day_volume: float = 0.0


def add_trade(candles: LiveCandles, trade: Trade) -> LiveCandles:
    """Return the candles after one more trade.

    The minute in which the line is first heard is not whole: its open and its volume before the
    first trade are unknown, so no candle is made of it. A trade that is stamped before the
    forming minute, or that lowers the cumulative volume within it, changes nothing.
    """
    minute_ns = trade.at_ns // MINUTE_NS * MINUTE_NS
    if minute_ns < candles.minute_ns:
        return candles
    if trade.day_volume < candles.day_volume:
        # A new day counts from zero: the line starts over. Within a minute it is a late report.
        is_late = minute_ns == candles.minute_ns
        return candles if is_late else LiveCandles(minute_ns=minute_ns, day_volume=trade.day_volume)
    if candles.minute_ns == 0:
        return LiveCandles(minute_ns=minute_ns, day_volume=trade.day_volume)
    volume = trade.day_volume - candles.day_volume
    if minute_ns > candles.minute_ns:
        closed = candles.closed + ((candles.forming,) if candles.forming else ())
        price = trade.price
        forming = Bar(minute_ns, MINUTE_S, price, price, price, price, volume)
        return LiveCandles(forming, closed[-_KEPT:], minute_ns, trade.day_volume)
    forming_now = _extended(candles.forming, trade.price, volume)
    return LiveCandles(forming_now, candles.closed, minute_ns, trade.day_volume)


def add_trades(candles: LiveCandles, trades: Sequence[Trade]) -> LiveCandles:
    """Return the candles after some more trades, as `add_trade` makes them one by one.

    Trades that merely go on with the forming candle are taken together: a burst costs one candle.
    """
    at = 0
    while at < len(trades):
        forming = candles.forming
        before = forming.volume if forming is not None else 0.0
        end, volume, day_volume = _run(candles, trades, at, volume=before)
        if end == at:
            candles = add_trade(candles, trades[at])
            at += 1
            continue
        if forming is not None:
            prices = [price for _, price, _ in trades[at:end]]
            forming = Bar(
                forming.start_ns,
                forming.seconds,
                forming.open,
                max(forming.high, *prices),
                min(forming.low, *prices),
                prices[-1],
                volume,
            )
        candles = LiveCandles(forming, candles.closed, candles.minute_ns, day_volume)
        at = end
    return candles


def _run(
    candles: LiveCandles, trades: Sequence[Trade], at: int, *, volume: float
) -> tuple[int, float, float]:
    """Return the end of the run of trades that go on in the minute that the candles are in.

    With it `volume` and the day's after the last of them. One difference is added after the other,
    so that the sum is the same to the last bit.
    """
    start_ns, day_volume = candles.minute_ns, candles.day_volume
    # No minute is formed before the first trade.
    end_ns = start_ns + MINUTE_NS if start_ns else start_ns
    for at_ns, _, day in itertools.islice(trades, at, None):
        if not (start_ns <= at_ns < end_ns and day >= day_volume):
            break
        volume += day - day_volume
        day_volume = day
        at += 1
    return at, volume, day_volume


def latest(candles: LiveCandles, *, ending_after_ns: int) -> tuple[Bar, ...]:
    """Return the forming and the last closed candle, newest first, that end after an instant."""
    found = [candles.forming, *candles.closed[-1:]]
    return tuple(bar for bar in found if bar is not None and bar.end_ns > ending_after_ns)


def recent_volume(candles: LiveCandles, *, unit_shares: float) -> float | None:
    """Return the volume of the last whole minutes, shares; None before the first of them.

    Of a line that has heard fewer than five it is less than five minutes' volume, so that what is
    derived from it is on the careful side.
    """
    if not candles.closed:
        return None
    return unit_shares * sum(bar.volume for bar in candles.closed)


def mean_close(candles: LiveCandles) -> float | None:
    """Return the mean closing price of the last whole minutes, US dollars; None before them."""
    if not candles.closed:
        return None
    return sum(bar.close for bar in candles.closed) / len(candles.closed)


def volume_unit_shares(
    live: Iterable[Bar], historical: Iterable[Bar], *, tolerance_ratio: float
) -> tuple[float | None, float | None]:
    """Return (shares per unit of live volume or None, the ratio that was measured or None).

    Args:
        live: closed candles heard on the line, volume in its own unit.
        historical: one-minute bars, volume in shares.
        tolerance_ratio: how far the measured ratio may lie from 1 or 100, e.g. 0.25.

    The newest minute that both hold, with volume on both sides, decides.
    """
    shares = {bar.start_ns: bar.volume for bar in historical}
    common = [bar for bar in live if shares.get(bar.start_ns, 0) > 0 and bar.volume > 0]
    if not common:
        return None, None
    newest = max(common, key=lambda bar: bar.start_ns)
    ratio = shares[newest.start_ns] / newest.volume
    for unit in _UNITS:
        if unit / (1 + tolerance_ratio) <= ratio <= unit * (1 + tolerance_ratio):
            return unit, ratio
    return None, ratio


def _extended(bar: Bar | None, price: float, volume: float) -> Bar | None:
    if bar is None:
        return None
    return Bar(
        bar.start_ns,
        bar.seconds,
        bar.open,
        max(bar.high, price),
        min(bar.low, price),
        price,
        bar.volume + volume,
    )
