"""What is usual for a stock over days: its daily volume, and how far a day takes it.

Made of one request for hourly bars of a month, once a day for each symbol that made news. It is
asked beside the watch and never waited for: a size that is computed before the answer has come is
computed without it, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, stdev

from momentum_lab.calendars import day_start_ns
from momentum_lab.clock import Clock
from momentum_lab.core.market import Bar
from momentum_lab.errors import MomentumLabError
from momentum_lab.live.ibkr.candles import CandleOutcome
from momentum_lab.live.ibkr.connector import IBKRConnector

_log = logging.getLogger(__name__)

_HOUR_S = 3600
_DURATION = "1 M"
_DAYS = 20
# Of fewer days nothing is usual.
_LEAST_DAYS = 10


@dataclass(frozen=True, slots=True)
class DailyFigures:
    """What is usual for one stock.

    Attributes:
        adv_shares: median volume of the last twenty complete days, None while unknown.
        sigma_ratio: standard deviation of their returns, > 0, None while unknown.
    """

    adv_shares: float | None = None
    sigma_ratio: float | None = None


def figures_of(bars: Iterable[Bar], *, before_ns: int) -> DailyFigures:
    """Return the figures of the complete days of some bars.

    Args:
        bars: of the regular session, time order, volume in shares.
        before_ns: start of today, which is not complete.
    """
    by_day: dict[int, list[Bar]] = {}
    for bar in bars:
        by_day.setdefault(day_start_ns(bar.start_ns), []).append(bar)
    days = [found for day, found in sorted(by_day.items()) if day < before_ns][-_DAYS:]
    if len(days) < _LEAST_DAYS:
        return DailyFigures()
    closes = [found[-1].close for found in days]
    sigma = stdev(after / before - 1 for before, after in pairwise(closes))
    return DailyFigures(
        adv_shares=median(sum(bar.volume for bar in found) for found in days),
        # A price that never moved has no volatility that an impact could be reckoned by.
        sigma_ratio=sigma or None,
    )


class DailyDesk:
    """Asks for the figures of each symbol once a day, and keeps them."""

    def __init__(self, connector: IBKRConnector, clock: Clock) -> None:
        """Make a desk that knows nothing yet."""
        self._connector = connector
        self._clock = clock
        self._known: dict[str, tuple[int, DailyFigures]] = {}

    def of(self, symbol: str) -> DailyFigures:
        """Return what is known of a symbol today; nothing may be."""
        day_ns, found = self._known.get(symbol, (0, DailyFigures()))
        return found if day_ns == day_start_ns(self._clock.now_ns()) else DailyFigures()

    async def learn(self, symbol: str) -> None:
        """Ask for a symbol's figures, unless they were asked for today; failures are logged."""
        day_ns = day_start_ns(self._clock.now_ns())
        if self._known.get(symbol, (0,))[0] == day_ns:
            return
        # Taken at once: a second headline of the symbol must not ask again.
        self._known[symbol] = (day_ns, DailyFigures())
        try:
            candles = await self._connector.fetch_candles(
                symbol, duration=_DURATION, seconds=_HOUR_S
            )
        except MomentumLabError as error:
            _log.warning("daily figures of %s not known: %s", symbol, error)
            del self._known[symbol]
            return
        if candles.outcome is CandleOutcome.UNKNOWN:
            _log.warning("daily figures of %s not known: %s", symbol, candles.words)
            del self._known[symbol]
            return
        self._known[symbol] = (day_ns, figures_of(candles.bars, before_ns=day_ns))
