"""What a market shows: instruments, bars and quotes, and the arithmetic of prices.

Prices are US dollars, quantities are shares, instants are UTC epoch nanoseconds.
A bar is labelled by its start and may be used once its end has passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from momentum_lab.errors import DataError

NS_PER_S = 1_000_000_000
# Comparisons at a tick or a threshold tolerate this much binary rounding.
EPSILON = 1e-9
# Relative error of a quotient of two binary numbers, with room to spare.
_BINARY = 1e-14


class DataType(str, Enum):
    """What kind of market data a line brings; only LIVE may be traded on."""

    LIVE = "live"
    FROZEN = "frozen"
    DELAYED = "delayed"
    DELAYED_FROZEN = "delayed and frozen"
    UNKNOWN = "of an unknown kind"


class Side(str, Enum):
    """Direction of an order or of a position's first order."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The side that closes what this side opens."""
        return Side.SELL if self is Side.BUY else Side.BUY

    def tighter(self, one_usd: float, other_usd: float) -> float:
        """Return the stop of a position of this side that gives away less."""
        return max(one_usd, other_usd) if self is Side.BUY else min(one_usd, other_usd)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One listed stock as the broker knows it.

    Attributes:
        symbol: the broker's spelling, e.g. "SPY", "BRK B".
        con_id: the broker's contract id, > 0.
        tick_usd: smallest price step, US dollars.
        primary_exchange: listing exchange, e.g. "ARCA".
        long_name: the company or fund.
        stock_type: "COMMON", "ETF", "ADR", ...
        currency: ISO code; only "USD" is traded.
    """

    symbol: str
    con_id: int
    tick_usd: float = 0.01
    primary_exchange: str = ""
    long_name: str = ""
    stock_type: str = "COMMON"
    currency: str = "USD"

    def __post_init__(self) -> None:
        """Refuse an instrument that cannot be traded by id and tick."""
        if not self.symbol:
            raise DataError("an instrument needs a symbol, found an empty one")
        if self.con_id <= 0:
            raise DataError(f"{self.symbol}: expected con_id > 0, found {self.con_id}")
        if not (math.isfinite(self.tick_usd) and self.tick_usd > 0):
            raise DataError(f"{self.symbol}: expected tick_usd > 0, found {self.tick_usd}")

    def floor(self, price_usd: float) -> float:
        """Return the nearest price on the tick grid at or below `price_usd`."""
        return self._on_grid(price_usd, math.floor)

    def ceil(self, price_usd: float) -> float:
        """Return the nearest price on the tick grid at or above `price_usd`."""
        return self._on_grid(price_usd, math.ceil)

    def nearest(self, price_usd: float) -> float:
        """Return the nearest price on the tick grid, at least one tick."""
        return round(max(1, self.ticks(price_usd)) * self.tick_usd, 10)

    def ticks(self, price_usd: float) -> int:
        """Return `price_usd` as a whole number of ticks, for exact comparisons."""
        return round(price_usd / self.tick_usd)

    def _on_grid(self, price_usd: float, rounding: Callable[[float], int]) -> float:
        ticks = price_usd / self.tick_usd
        # A price on the grid stays there: its quotient is whole but for binary rounding, which
        # grows with the price.
        is_whole = abs(ticks - round(ticks)) <= EPSILON + _BINARY * abs(ticks)
        return round((round(ticks) if is_whole else rounding(ticks)) * self.tick_usd, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """Open, high, low, close and volume of one interval.

    Attributes:
        start_ns: start of the interval, UTC epoch nanoseconds.
        seconds: length of the interval.
        volume: traded quantity, in the unit that the source states.
    """

    start_ns: int
    seconds: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    def __post_init__(self) -> None:
        """Refuse a bar whose numbers contradict each other."""
        # Written out, for a forming candle is made anew with every trade; NaN compares as false.
        if not (0 < self.low < math.inf and 0 < self.high < math.inf):
            raise self._impossible("expected prices > 0")
        if not (self.low <= self.open <= self.high and self.low <= self.close <= self.high):
            raise self._impossible("open and close must lie in [low, high]")
        if not (math.isfinite(self.volume) and self.volume >= 0):
            raise DataError(f"bar at {self.start_ns}: expected volume >= 0, found {self.volume}")
        if self.seconds <= 0:
            raise DataError(f"bar at {self.start_ns}: expected seconds > 0, found {self.seconds}")

    def _impossible(self, why: str) -> DataError:
        prices = (self.open, self.high, self.low, self.close)
        return DataError(f"bar at {self.start_ns}: {why}, found {prices}")

    @property
    def end_ns(self) -> int:
        """First instant after the interval: from here on the bar is known."""
        return self.start_ns + self.seconds * NS_PER_S


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a quote may not be traded on.

    Attributes:
        text: one sentence for people.
        observed: left side of the comparison that decided, None where there was none.
        limit: right side of it.
        unit: of both sides.
    """

    text: str
    observed: float | None = None
    limit: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask as last heard, with what else the line said.

    Attributes:
        symbol: the broker's spelling.
        at_ns: arrival of the newest word on bid, ask or a trade, market time. A bid or an ask that
            does not change is not sent again, so a trade too says that the line lives.
        bid: US dollars, None while unknown.
        ask: US dollars, None while unknown.
        bid_size: shares at the bid, None while unknown.
        ask_size: shares at the ask, None while unknown.
        last: price of the last trade, None while unknown.
        halted: True once the broker said that trading is halted.
        resumed_ns: when the last halt that the line told of ended, None without one.
        data_type: live, or what the broker sends instead.
        bid_at_ns: arrival of the newest word on the bid, None where it is not kept.
        ask_at_ns: the same of the ask.
        last_at_ns: arrival of the last trade's price.
        fault: what is wrong with the line itself, e.g. the broker's refusal; empty when nothing.
    """

    symbol: str
    at_ns: int
    bid: float | None = None
    ask: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    last: float | None = None
    halted: bool = False
    resumed_ns: int | None = None
    data_type: DataType = DataType.LIVE
    bid_at_ns: int | None = None
    ask_at_ns: int | None = None
    last_at_ns: int | None = None
    fault: str = ""

    def why_not_tradable(
        self, *, now_ns: int, max_age_s: float, side_max_age_s: float = math.inf
    ) -> str | None:
        """Return why no order may rest on this quote, or None when one may; see `flaw`."""
        found = self.flaw(now_ns=now_ns, max_age_s=max_age_s, side_max_age_s=side_max_age_s)
        return found.text if found is not None else None

    def flaw(
        self, *, now_ns: int, max_age_s: float, side_max_age_s: float = math.inf
    ) -> Flaw | None:
        """Return what keeps an order from resting on this quote, None where nothing does.

        Args:
            now_ns: market time.
            max_age_s: oldest age of the newest word on either side, seconds.
            side_max_age_s: the same for the side that has been silent for longer. The broker
                sends changes only, so one silent side is no proof of a dead line.
        """
        return (
            self._not_believed()
            or self._not_two_sided()
            or self._too_old(now_ns, max_age_s, side_max_age_s)
        )

    def _not_believed(self) -> Flaw | None:
        if self.fault:
            return Flaw(self.fault)
        if self.data_type is not DataType.LIVE:
            return Flaw(f"the data are {self.data_type.value}")
        return Flaw("trading is halted") if self.halted else None

    def _not_two_sided(self) -> Flaw | None:
        if self.bid is None or self.ask is None:
            return Flaw("no bid or no ask has been heard")
        if not 0 < self.bid < self.ask:
            text = f"bid {self.bid:g} and ask {self.ask:g} are crossed, locked or not positive"
            return Flaw(text, self.bid, self.ask, "USD")
        # Not a number is not above zero either.
        if self.bid_size is not None and not self.bid_size > 0:
            return Flaw("nothing is shown on one side", self.bid_size, 0.0, "shares")
        if self.ask_size is not None and not self.ask_size > 0:
            return Flaw("nothing is shown on one side", self.ask_size, 0.0, "shares")
        return None

    def _too_old(self, now_ns: int, max_age_s: float, side_max_age_s: float) -> Flaw | None:
        # Asked at each quote of what is open, where the sides are not asked for.
        age_s = (now_ns - self.at_ns) / NS_PER_S
        if age_s > max_age_s:
            return _aged("the quote", age_s, max_age_s)
        if side_max_age_s == math.inf:
            return None
        age_s = (now_ns - self._older_side_ns) / NS_PER_S
        return (
            _aged("one side of the quote", age_s, side_max_age_s)
            if age_s > side_max_age_s
            else None
        )

    @property
    def _older_side_ns(self) -> int:
        sides = (self.bid_at_ns, self.ask_at_ns)
        return min(self.at_ns if side is None else side for side in sides)

    @property
    def mid(self) -> float | None:
        """Middle of bid and ask, None while one of them is unknown."""
        if self.bid is None or self.ask is None:
            return None
        return (self.bid + self.ask) / 2

    @property
    def spread(self) -> float | None:
        """Ask minus bid, None while one of them is unknown."""
        if self.bid is None or self.ask is None:
            return None
        return self.ask - self.bid

    def mark_usd(self, side: Side) -> float | None:
        """Return what closing a position of one side would get, else the last trade, else None."""
        near = self.bid if side is Side.BUY else self.ask
        return near or self.last or None


def _aged(what: str, age_s: float, limit_s: float) -> Flaw:
    text = f"{what} is {rounded_up(age_s)} s old, {limit_s:g} s are allowed"
    return Flaw(text, age_s, limit_s, "s")


def rounded_up(value: float) -> str:
    """Return a number with one decimal, up: what is above its limit reads as above it."""
    return f"{math.ceil(value * 10) / 10:.1f}" if math.isfinite(value) else f"{value:g}"
