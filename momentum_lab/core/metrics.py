"""Trades and equity -> named numbers, the same for live sessions and research."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from momentum_lab.core.indicators import Array
from momentum_lab.errors import DataError


def trade_metrics(net_usd: Sequence[float], costs_usd: Sequence[float]) -> dict[str, float]:
    """Return count, wins, gross and net profit and costs of closed trades.

    Args:
        net_usd: shape (n,), profit after costs of each trade.
        costs_usd: shape (n,), commissions of each trade.

    Raises:
        DataError: the two differ in length.
    """
    if len(net_usd) != len(costs_usd):
        raise DataError(f"{len(net_usd)} profits and {len(costs_usd)} costs do not go together")
    net, costs = float(sum(net_usd)), float(sum(costs_usd))
    return {
        "trades": float(len(net_usd)),
        "wins": float(sum(1 for value in net_usd if value > 0)),
        "gross_usd": net + costs,
        "costs_usd": costs,
        "net_usd": net,
    }


def max_drawdown_ratio(equity_usd: Array) -> float:
    """Return the deepest fall from a running peak, as a positive ratio.

    Args:
        equity_usd: shape (n,), n >= 1, time order, all > 0.

    Raises:
        DataError: empty, non-finite or non-positive input.

    Source: Magdon-Ismail and Atiya, "Maximum Drawdown", Risk 17(10), 2004.
    """
    if len(equity_usd) == 0 or not np.all(np.isfinite(equity_usd)) or np.any(equity_usd <= 0):
        raise DataError("expected at least one equity value, all finite and > 0")
    peak = np.maximum.accumulate(equity_usd)
    return float(np.max(1 - equity_usd / peak))
