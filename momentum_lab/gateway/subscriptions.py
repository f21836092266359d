"""What one client has subscribed to."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from momentum_lab.gateway.history import HistoryQuery
from momentum_lab.gateway.history_bars import HistoryBar
from momentum_lab.gateway.streams import Depth, RealTimeBars, TickByTick
from momentum_lab.gateway.ticks import LIVE, NewsLine, QuoteLine


class OfSymbol(Protocol):
    """What follows one symbol."""

    symbol: str


L = TypeVar("L", bound=OfSymbol)


class Lines(UserDict[int, L]):
    """Lines by request id, and by symbol: an event of the market finds those that want it."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Start empty; call `on_change` whenever a line comes or goes."""
        self._by_symbol: dict[str, dict[int, L]] = {}
        self._on_change = on_change
        super().__init__()

    def of(self, symbol: str) -> Collection[L]:
        """Return the lines of one symbol, oldest first."""
        found = self._by_symbol.get(symbol)
        return found.values() if found else ()

    def __setitem__(self, req_id: int, line: L) -> None:
        """Add a line, in place of an older one with its id."""
        self.pop(req_id, None)
        super().__setitem__(req_id, line)
        self._by_symbol.setdefault(line.symbol, {})[req_id] = line
        self._on_change()

    def __delitem__(self, req_id: int) -> None:
        """Forget a line."""
        del self._by_symbol[self[req_id].symbol][req_id]
        super().__delitem__(req_id)
        self._on_change()


class Followers(NamedTuple):
    """The lines of one client that follow one symbol, oldest first of each kind.

    Attributes:
        quotes: those that are told of each event; delayed ones have a time of their own.
        ticks: tick by tick.
        depths: the book.
    """

    quotes: tuple[QuoteLine, ...]
    ticks: tuple[TickByTick, ...]
    depths: tuple[Depth, ...]


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

    quotes: Lines[QuoteLine] = field(init=False)
    news: dict[int, NewsLine] = field(default_factory=dict)
    bars: dict[int, KeptBars] = field(default_factory=dict)
    ticks: Lines[TickByTick] = field(init=False)
    depths: Lines[Depth] = field(init=False)
    real_time: dict[int, RealTimeBars] = field(default_factory=dict)
    data_type: int = LIVE
    summaries: dict[int, tuple[str, ...]] = field(default_factory=dict)
    multi: set[int] = field(default_factory=set)
    pnl: set[int] = field(default_factory=set)
    pnl_single: dict[int, str] = field(default_factory=dict)
    positions_multi: set[int] = field(default_factory=set)
    has_positions: bool = False
    has_account: bool = False
    has_bulletins: bool = False
    hears_all_orders: bool = False
    _followers: dict[str, Followers] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Start without lines; who follows a symbol is counted anew after each change."""
        self.quotes = Lines(self._followers.clear)
        self.ticks = Lines(self._followers.clear)
        self.depths = Lines(self._followers.clear)

    def followers(self, symbol: str) -> Followers:
        """Return what follows a symbol: found once, for the market asks at each event."""
        found = self._followers.get(symbol)
        if found is None:
            found = self._followers[symbol] = Followers(
                tuple(
                    line
                    for line in self.quotes.of(symbol)
                    if line.generics.has_prices and not line.is_delayed
                ),
                tuple(self.ticks.of(symbol)),
                tuple(self.depths.of(symbol)),
            )
        return found

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
