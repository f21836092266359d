"""What may be set about position sizes; the rule is in `momentum_lab.core.sizing`."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Literal

from momentum_lab.core.shock import check_choice
from momentum_lab.core.tunable import check_tunables, described, tunable

# What Kelly's fraction is measured from: nothing, wins and losses, or every trade's result.
KellyKind = Literal["none", "wins", "multiples"]


@dataclass(frozen=True, slots=True)
class SizingParameters:
    """How much is put at risk by one entry, and what it may not exceed."""

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
    max_notional_usd: float = tunable(
        50_000.0,
        unit="USD",
        low=100,
        high=100_000_000,
        step=1000,
        meaning="largest position value, whatever the equity",
    )
    max_adv_ratio: float = tunable(
        0.005,
        unit="ratio of daily volume",
        low=0.0001,
        high=1,
        step=0.001,
        meaning="largest part of the median volume of 20 days",
    )
    max_recent_volume_ratio: float = tunable(
        0.05,
        unit="ratio of volume",
        low=0.001,
        high=1,
        step=0.01,
        meaning="largest part of what was traded in the last five minutes",
    )
    max_impact_bps: float = tunable(
        10.0,
        unit="bps",
        low=0.1,
        high=1000,
        step=1,
        meaning="largest impact of the order, by the square-root law",
    )
    impact_multiple: float = tunable(
        1.0, unit="x", low=0.1, high=5, step=0.1, meaning="constant of the square-root law"
    )
    margin_ratio: float = tunable(
        1.0,
        unit="ratio of value",
        low=0.1,
        high=3,
        step=0.05,
        meaning="buying power that a position takes",
    )
    buying_power_reserve_ratio: float = tunable(
        0.05,
        unit="ratio of buying power",
        low=0,
        high=0.9,
        step=0.01,
        meaning="buying power that is never used",
    )
    max_shares: int = tunable(
        100_000, unit="shares", low=1, high=10_000_000, step=100, meaning="largest order"
    )
    lot: int = tunable(1, unit="shares", low=1, high=1000, step=1, meaning="sizes are multiples")
    min_shares: int = tunable(
        1, unit="shares", low=1, high=100_000, step=1, meaning="a smaller order is not sent"
    )
    min_notional_usd: float = tunable(
        500.0, unit="USD", low=0, high=1_000_000, step=100, meaning="a smaller value is not traded"
    )
    max_cost_ratio: float = tunable(
        0.25,
        unit="ratio of risk",
        low=0.01,
        high=10,
        step=0.01,
        meaning="largest part of the risk that spread and commissions may take",
    )
    vol_target_ratio: float = tunable(
        0.0,
        unit="ratio of equity",
        low=0,
        high=0.05,
        step=0.0001,
        meaning="standard deviation that the position may add; 0: off",
    )
    kelly_fraction: float = tunable(
        0.25,
        unit="x Kelly",
        low=0.01,
        high=1,
        step=0.05,
        meaning="part of Kelly's fraction, where one was measured",
    )
    kelly_min_trades: int = tunable(
        100,
        unit="trades",
        low=100,
        high=100_000,
        step=50,
        meaning="closed trades of the strategy below which no fraction is measured",
    )
    short_risk_multiple: float = tunable(
        1.0, unit="x", low=0.05, high=1, step=0.05, meaning="budget of a short against a long's"
    )
    kelly: KellyKind = described(
        "none",
        meaning="none, multiples (each trade's) or wins (and losses): base of Kelly's fraction",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range or set."""
        check_tunables(self, prefix="sizing.")
        check_choice("sizing.kelly", self.kelly, typing.get_args(KellyKind))
