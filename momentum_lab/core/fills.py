"""What a market does to an order: the quoted spread, slippage and commission.

One model for the paper gateway and for research, so that a parameter set is judged by the
costs it will be traded with. A market order pays the far side of the quote once and slippage
on top; the spread is never charged a second time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from momentum_lab.core.market import EPSILON, Instrument, Side
from momentum_lab.errors import DataError


@dataclass(frozen=True, slots=True)
class SpreadModel:
    """How a quote is derived where a tape holds trades only.

    Attributes:
        spread_usd: quoted spread where it was measured, US dollars; None where it was not.
        spread_bps: spread assumed without a measurement, basis points of the price.
        size_shares: shares shown on each side.
    """

    spread_usd: float | None = None
    spread_bps: float = 1.0
    size_shares: int = 500

    def __post_init__(self) -> None:
        """Refuse a spread that is not positive."""
        for name in ("spread_usd", "spread_bps", "size_shares"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise DataError(f"spread model: expected {name} > 0, found {value}")

    def quote(self, price_usd: float, instrument: Instrument) -> tuple[float, float]:
        """Return (bid, ask) on the tick grid round the price of the last trade.

        The spread is a whole number of ticks, at least one, and the trade price lies inside it.
        """
        wanted = (
            self.spread_usd if self.spread_usd is not None else price_usd * self.spread_bps / 1e4
        )
        ticks = max(1, instrument.ticks(wanted))
        bid = instrument.floor(price_usd - ticks * instrument.tick_usd / 2)
        if bid + ticks * instrument.tick_usd < price_usd - EPSILON:
            # A trade between two ticks: rounding down has left it above the ask.
            bid = instrument.ceil(bid + instrument.tick_usd)
        bid = max(bid, instrument.tick_usd)
        ask = instrument.ceil(bid + ticks * instrument.tick_usd)
        return bid, ask


@dataclass(frozen=True, slots=True)
class FillModel:
    """Slippage and commission of a market order.

    Attributes:
        slippage_spread_ratio: slippage as a part of the quoted spread, on top of the far side.
        commission_per_share_usd: fixed-tier commission.
        commission_min_usd: least commission of one order.
        participation_ratio: at most this part of a bar's or a trade's volume fills our orders,
            once what the quote showed on arrival is taken.

    Source: slippage max(tick, 0.25 x spread) is this project's choice until measured on own
    fills, and so is the participation; commission is the fixed schedule of Interactive Brokers for
    US stocks.
    """

    slippage_spread_ratio: float = 0.25
    commission_per_share_usd: float = 0.005
    commission_min_usd: float = 1.0
    participation_ratio: float = 0.25

    def __post_init__(self) -> None:
        """Refuse a model under which nothing, or more than was traded, would fill."""
        if not 0 < self.participation_ratio <= 1:
            raise DataError(
                f"fill model: expected 0 < participation_ratio <= 1,"
                f" found {self.participation_ratio}"
            )

    def market_price(self, side: Side, *, bid: float, ask: float, instrument: Instrument) -> float:
        """Return the price of a market order: far side of the quote plus slippage, on the grid.

        A quote without the near side, which is 0 then, has no spread: slippage is one tick, as in
        a locked market.

        Raises:
            DataError: the quote is crossed, or lacks the side that is paid.
        """
        if not is_payable(side, bid=bid, ask=ask):
            raise DataError(
                f"{instrument.symbol}: expected a far side and bid <= ask for a {side.value}, "
                f"found bid {bid} ask {ask}"
            )
        spread_usd = ask - bid if bid > 0 and ask > 0 else 0.0
        slippage = max(instrument.tick_usd, self.slippage_spread_ratio * spread_usd)
        if side is Side.BUY:
            return instrument.ceil(ask + slippage)
        return max(instrument.floor(bid - slippage), instrument.tick_usd)

    def commission_usd(self, shares: float) -> float:
        """Return the commission of one order of `shares`, US dollars."""
        if shares <= 0:
            return 0.0
        return max(self.commission_min_usd, self.commission_per_share_usd * shares)


def is_payable(side: Side, *, bid: float, ask: float) -> bool:
    """Return whether a market order finds its far side in a quote that is not crossed.

    Args:
        side: the order's.
        bid: best bid, US dollars, 0 where there is none.
        ask: best ask likewise.
    """
    far, near = (ask, bid) if side is Side.BUY else (bid, ask)
    return far > 0 and (near == 0 or 0 < bid <= ask)
