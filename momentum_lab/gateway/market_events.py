"""What a market tells: trades, quotes, halts.

Trades and quotes are named tuples: a busy tape makes hundreds of thousands of them a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from momentum_lab.core.market import NS_PER_S
from momentum_lab.records.tape import TapeHeadline
from momentum_lab.records.tape_ticks import HALTED_BY_REGULATION, HALTED_BY_VOLATILITY


class Trade(NamedTuple):
    """A bar or a single trade of the tape, with the quote and the day's totals at its end.

    Attributes:
        at_ns: end of the bar, or instant of the trade.
        price: last price; `high` and `low` are those of the bar alone.
        size: shares traded in the bar.
        bid: best bid, 0 where there is none; `ask` likewise.
        bid_size: shares shown at the bid; `ask_size` at the ask.
        day_volume: shares of the local date so far, this bar included.
        day_open: first price of the regular session, before it that of the date before; None
            before the tape's first.
        day_high: of the local date so far; `day_low`, `day_vwap` likewise.
        previous_close: last price of the regular session of the date before, None on the tape's
            first date.
        exchange: where it was traded, "" where the tape does not say.
        conditions: its sale conditions, as the tape spells them.
        is_single: whether it is one trade of the tape, no bar.
        is_traded: False where nothing has traded and `price` is the middle of the quote.
        length_ns: how long its bar lasted, 0 for one trade.
        open: first price of its bar, None where nothing has traded.
    """

    symbol: str
    at_ns: int
    price: float
    high: float
    low: float
    size: int
    bid: float
    ask: float
    bid_size: int
    ask_size: int
    day_volume: int
    day_open: float | None
    day_high: float
    day_low: float
    day_vwap: float
    previous_close: float | None
    exchange: str = ""
    conditions: str = ""
    is_single: bool = False
    is_traded: bool = True
    length_ns: int = 0
    open: float | None = None

    @property
    def last_ns(self) -> int:
        """Its last instant: a bar that ends with a bell is of before it, a quote is of its end."""
        return self.at_ns if self.is_single or not self.is_traded else self.at_ns - 1

    @property
    def is_long(self) -> bool:
        """Whether its range tells more than its end: of a second both are of one moment."""
        return self.length_ns > NS_PER_S


class QuoteChange(NamedTuple):
    """The best bid and ask changed without a trade.

    Attributes:
        at_ns: UTC epoch nanoseconds.
        bid: best bid, US dollars, 0 where there is none; `ask` likewise.
        bid_size: shares shown at the bid; `ask_size` at the ask.
    """

    symbol: str
    at_ns: int
    bid: float
    ask: float
    bid_size: int
    ask_size: int


@dataclass(frozen=True, slots=True)
class HaltChange:
    """Trading of a symbol was halted or resumed.

    Attributes:
        at_ns: UTC epoch nanoseconds.
        kind: one of `tape_ticks.HALT_KINDS`.
    """

    symbol: str
    at_ns: int
    kind: int

    @property
    def is_halt(self) -> bool:
        """Whether nothing trades from now on."""
        return self.kind in STANDSTILLS


# In a limit state trading goes on, so it is none of these.
STANDSTILLS = frozenset({HALTED_BY_REGULATION, HALTED_BY_VOLATILITY})

MarketEvent = Trade | QuoteChange | HaltChange | TapeHeadline
