"""Position sizing: a risk budget and a stop distance -> whole shares, capped, the cap named."""

from __future__ import annotations

import math
from dataclasses import dataclass

from momentum_lab.core.market import EPSILON
from momentum_lab.core.tunable import check_tunables, tunable


@dataclass(frozen=True, slots=True)
class SizingParameters:
    """How much is put at risk."""

    risk_ratio: float = tunable(
        0.0025,
        unit="ratio of equity",
        low=0.0001,
        high=0.05,
        step=0.0005,
        meaning="equity lost if the stop is hit",
    )
    max_position_ratio: float = tunable(
        0.10,
        unit="ratio of equity",
        low=0.001,
        high=1,
        step=0.01,
        meaning="largest position value",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="sizing.")


@dataclass(frozen=True, slots=True)
class Size:
    """How many shares, and why not more.

    Attributes:
        shares: whole shares, >= 0.
        binding: name of the cap that decided: RISK, MAX_POSITION_RATIO, BUYING_POWER or INVALID.
        caps: every cap, unrounded shares, in order of evaluation.
        text: one sentence for people.
    """

    shares: int
    binding: str
    caps: tuple[tuple[str, float], ...]
    text: str


def size_position(
    *,
    equity_usd: float,
    buying_power_usd: float,
    entry_usd: float,
    stop_usd: float,
    parameters: SizingParameters,
) -> Size:
    """Return the whole number of shares to trade: fixed-fractional risk, then two caps.

    floor(min(equity x risk / |entry - stop|, equity x max_position_ratio / entry,
    buying power / entry)). Any number that is not finite and positive, or a stop at the entry,
    gives 0 shares: without a stop there is no size.
    """
    inputs = (equity_usd, buying_power_usd, entry_usd, stop_usd)
    if not all(math.isfinite(value) and value > 0 for value in inputs):
        return Size(0, "INVALID", (), f"expected positive finite numbers, found {inputs}")
    distance = abs(entry_usd - stop_usd)
    if distance <= EPSILON:
        return Size(0, "INVALID", (), f"the stop {stop_usd:g} lies at the entry {entry_usd:g}")
    caps = (
        ("RISK", equity_usd * parameters.risk_ratio / distance),
        ("MAX_POSITION_RATIO", equity_usd * parameters.max_position_ratio / entry_usd),
        ("BUYING_POWER", buying_power_usd / entry_usd),
    )
    binding, least = min(caps, key=lambda cap: cap[1])
    shares = math.floor(least + EPSILON)
    return Size(shares, binding, caps, f"{shares} shares, bound by {binding} ({least:.1f})")
