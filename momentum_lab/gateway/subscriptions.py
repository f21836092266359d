"""What one client has subscribed to."""

from __future__ import annotations

from dataclasses import dataclass, field

from momentum_lab.gateway.history import HistoryBar, HistoryQuery
from momentum_lab.gateway.streams import Depth, RealTimeBars, TickByTick
from momentum_lab.gateway.ticks import LIVE, NewsLine, QuoteLine


@dataclass
class KeptBars:
    """A history request that is kept up to date.

    Attributes:
        told: the bar that was told last, None before the first.
        told_start_ns: its start; earlier bars are final and told.
    """

    symbol: str
    query: HistoryQuery
    told: HistoryBar | None
    told_start_ns: int


@dataclass
class Subscriptions:
    """What one client wants to hear, by its request ids.

    Attributes:
        data_type: which market data it has asked for, live until it does.
    """

    quotes: dict[int, QuoteLine] = field(default_factory=dict)
    news: dict[int, NewsLine] = field(default_factory=dict)
    bars: dict[int, KeptBars] = field(default_factory=dict)
    ticks: dict[int, TickByTick] = field(default_factory=dict)
    depths: dict[int, Depth] = field(default_factory=dict)
    real_time: dict[int, RealTimeBars] = field(default_factory=dict)
    data_type: int = LIVE
    summaries: dict[int, tuple[str, ...]] = field(default_factory=dict)
    multi: set[int] = field(default_factory=set)
    pnl: set[int] = field(default_factory=set)
    pnl_single: dict[int, str] = field(default_factory=dict)
    has_positions: bool = False
    has_account: bool = False
    has_bulletins: bool = False
    hears_all_orders: bool = False

    @property
    def n_lines(self) -> int:
        """How many market data lines are in use."""
        return len(self.quotes.keys() | self.news.keys()) + len(self.real_time)

    def forget_data(self) -> None:
        """Drop every stream of market data."""
        for lines in (
            *(self.quotes, self.news, self.bars, self.ticks, self.depths, self.real_time),
        ):
            lines.clear()
