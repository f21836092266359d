"""Positions: fills -> size, cost and profit; where stop and target lie, why a position is left.

Profit is always recomputed from the fills; nothing is accumulated on the side. When an exit is due
is decided in `momentum_lab.core.exits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from momentum_lab.core.market import EPSILON, Instrument, Side
from momentum_lab.core.shock import check_choice
from momentum_lab.core.tunable import check_tunables, described, tunable
from momentum_lab.errors import DataError

StopKind = Literal["atr", "ratio"]
OnOpposite = Literal["exit", "hold"]
# The broker's ids look like 0000e0d5.00000001.01.01.
_EXEC_ID_PARTS = 4


class ExitReason(str, Enum):
    """Why a position is closed; stable names that are stored."""

    # price; BREAK_EVEN and TRAIL are the stop, once a rule has moved it
    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"
    BREAK_EVEN = "BREAK_EVEN"
    TRAIL = "TRAIL"
    # time and circumstances
    TIME_STOP = "TIME_STOP"
    FLAT_BY_CLOSE = "FLAT_BY_CLOSE"
    VOL_DECAY = "VOL_DECAY"
    OPPOSITE = "OPPOSITE"
    # us
    SESSION_END = "SESSION_END"
    FLIPPED = "FLIPPED"
    NO_PROTECTION = "NO_PROTECTION"
    FLATTEN = "FLATTEN"
    MANUAL = "MANUAL"
    UNRECORDED = "UNRECORDED"


@dataclass(frozen=True, slots=True)
class ExitParameters:
    """When a position is left."""

    stop_atr_multiple: float = tunable(
        4.0,
        unit="x ATR",
        low=0.1,
        high=50,
        step=0.1,
        meaning="stop distance where stop_kind is atr",
    )
    target_r_multiple: float = tunable(
        1.5,
        unit="x stop distance",
        low=0.1,
        high=20,
        step=0.1,
        meaning="target distance where stop_kind is atr",
    )
    stop_loss_ratio: float = tunable(
        0.015,
        unit="ratio of entry",
        low=0.0001,
        high=0.5,
        step=0.0005,
        meaning="stop distance where stop_kind is ratio",
    )
    take_profit_ratio: float = tunable(
        0.02,
        unit="ratio of entry",
        low=0.0001,
        high=1,
        step=0.0005,
        meaning="target distance where stop_kind is ratio",
    )
    time_stop_s: float = tunable(
        900.0,
        unit="s",
        low=1,
        high=23400,
        step=30,
        meaning="longest time in a position, or after the end of a halt in it",
    )
    break_even_r: float = tunable(
        0.0,
        unit="x stop distance",
        low=0,
        high=20,
        step=0.1,
        meaning="profit that draws the stop to entry and costs; 0: never, usual is 1",
    )
    trail_atr_multiple: float = tunable(
        0.0,
        unit="x ATR",
        low=0,
        high=50,
        step=0.1,
        meaning="how far the stop follows the best price; 0: never, usual is 3",
    )
    decay_volume_ratio: float = tunable(
        0.0,
        unit="ratio of peak",
        low=0,
        high=1,
        step=0.05,
        meaning="mean volume of 3 bars below which a trade is left; 0: never, usual is 0.25",
    )
    decay_profit_r: float = tunable(
        0.5,
        unit="x stop distance",
        low=0,
        high=20,
        step=0.1,
        meaning="open profit from which volume may decay",
    )
    native_grace_s: float = tunable(
        2.0,
        unit="s",
        low=0,
        high=60,
        step=0.5,
        meaning="how long a due stop or target is left to the broker's own order",
    )
    stop_kind: StopKind = described(
        "atr", meaning="atr or ratio: what stop and target are measured in"
    )
    on_opposite_signal: OnOpposite = described(
        "exit", meaning="exit or hold: what a signal of the other direction does to a position"
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range or set."""
        check_tunables(self, prefix="exits.")
        check_choice("exits.stop_kind", self.stop_kind, ("atr", "ratio"))
        check_choice("exits.on_opposite_signal", self.on_opposite_signal, ("exit", "hold"))

    @property
    def follow_bars(self) -> bool:
        """Whether a rule is on that looks at complete bars."""
        return bool(self.break_even_r or self.trail_atr_multiple or self.decay_volume_ratio)


@dataclass(frozen=True, slots=True)
class Levels:
    """Where a position is left, US dollars, on the tick grid."""

    stop: float
    target: float


def exit_levels(
    side: Side,
    *,
    entry_usd: float,
    atr_usd: float,
    instrument: Instrument,
    parameters: ExitParameters,
) -> Levels:
    """Return stop and target of a position entered at `entry_usd`.

    Both are rounded away from the entry, the convention of the field: the stop of a long down, its
    target up. A short's target never falls below one tick.

    Raises:
        DataError: the levels do not enclose the entry.
    """
    if parameters.stop_kind == "atr":
        distance = parameters.stop_atr_multiple * atr_usd
        reward = parameters.target_r_multiple * distance
    else:
        distance = parameters.stop_loss_ratio * entry_usd
        reward = parameters.take_profit_ratio * entry_usd
    if side is Side.BUY:
        levels = Levels(instrument.floor(entry_usd - distance), instrument.ceil(entry_usd + reward))
        ordered = 0 < levels.stop < entry_usd < levels.target
    else:
        target = max(instrument.floor(entry_usd - reward), instrument.tick_usd)
        levels = Levels(instrument.ceil(entry_usd + distance), target)
        ordered = levels.target < entry_usd < levels.stop
    if not ordered:
        raise DataError(
            f"{instrument.symbol}: stop {levels.stop} and target {levels.target} do not enclose"
            f" the entry {entry_usd}"
        )
    return levels


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution.

    Attributes:
        exec_id: the broker's id.
        order_ref: our reference of the order.
        symbol: what was traded.
        side: BUY or SELL.
        shares: > 0.
        price: US dollars.
        at_ns: time of execution in market time.
        commission_usd: None until the broker reported it.
        con_id: the broker's contract id.
    """

    exec_id: str
    order_ref: str
    symbol: str
    side: Side
    shares: float
    price: float
    at_ns: int
    commission_usd: float | None = None
    con_id: int = 0

    def __post_init__(self) -> None:
        """Refuse an execution that cannot have happened."""
        if not (0 < self.shares < math.inf and 0 < self.price < math.inf):
            raise DataError(
                f"fill {self.exec_id}: expected finite shares and price > 0,"
                f" found {self.shares} at {self.price}"
            )


@dataclass(frozen=True, slots=True)
class PositionSummary:
    """What a set of fills amounts to.

    Attributes:
        shares: signed, > 0 long.
        entry_shares: shares traded in the direction of the first fill.
        entry_price: average of those, None without fills.
        exit_shares: shares traded against it.
        exit_price: average of those, None before the first.
        gross_usd: profit of the closed part before costs.
        costs_usd: commissions reported so far.
        costs_complete: every fill's commission has been reported.
    """

    shares: float
    entry_shares: float
    entry_price: float | None
    exit_shares: float
    exit_price: float | None
    gross_usd: float
    costs_usd: float
    costs_complete: bool

    @property
    def net_usd(self) -> float:
        """Profit of the closed part after costs."""
        return self.gross_usd - self.costs_usd

    def net_if_closed_usd(self, mark_usd: float) -> float:
        """Return the profit after the costs so far if the open part were closed at a price."""
        # What is open beyond zero was opened by the exits.
        is_flipped = self.exit_shares > self.entry_shares
        opened_at = self.exit_price if is_flipped else self.entry_price
        if opened_at is None:
            return self.net_usd
        return self.net_usd + self.shares * (mark_usd - opened_at)

    @property
    def is_flat(self) -> bool:
        """Nothing is open."""
        return abs(self.shares) < EPSILON


def summarise(fills: Iterable[Fill], *, entry_side: Side) -> PositionSummary:
    """Return position and profit of the fills of one trade, in whatever order they came.

    Args:
        fills: executions of one trade; repeats of an exec_id count once, and a correction
            (a higher last part of the id) replaces what it corrects.
        entry_side: direction of the trade.
    """
    by_id: dict[str, Fill] = {}
    # A correction is the same execution with a higher last part of its id: it replaces.
    for fill in sorted(fills, key=lambda item: item.exec_id):
        key = without_revision(fill.exec_id)
        known = by_id.get(key)
        # A repeat may lack the commission that an earlier report had.
        is_repeat = known is not None and known.exec_id == fill.exec_id
        if known is None or not is_repeat or known.commission_usd is None:
            by_id[key] = fill
    unique = by_id.values()
    entries = [fill for fill in unique if fill.side is entry_side]
    exits = [fill for fill in unique if fill.side is not entry_side]
    entry_shares, entry_price = _average(entries)
    exit_shares, exit_price = _average(exits)
    closed = min(entry_shares, exit_shares)
    gross = 0.0
    if entry_price is not None and exit_price is not None:
        gross = entry_side.sign * (exit_price - entry_price) * closed
    return PositionSummary(
        shares=entry_side.sign * (entry_shares - exit_shares),
        entry_shares=entry_shares,
        entry_price=entry_price,
        exit_shares=exit_shares,
        exit_price=exit_price,
        gross_usd=gross,
        costs_usd=sum(fill.commission_usd or 0.0 for fill in unique),
        costs_complete=all(fill.commission_usd is not None for fill in unique),
    )


def without_revision(exec_id: str) -> str:
    """Return an execution id without the part that counts its corrections."""
    parts = exec_id.split(".")
    return ".".join(parts[:-1]) if len(parts) == _EXEC_ID_PARTS else exec_id


def _average(fills: list[Fill]) -> tuple[float, float | None]:
    shares = sum(fill.shares for fill in fills)
    if not fills:
        return 0.0, None
    return shares, sum(fill.shares * fill.price for fill in fills) / shares
