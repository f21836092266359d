from __future__ import annotations

import math

import numpy as np
import pytest

from momentum_lab.core.metrics import max_drawdown_ratio, trade_metrics
from momentum_lab.errors import DataError


def test_gross_is_net_plus_costs() -> None:
    found = trade_metrics([10.0, -4.0], [2.0, 1.0])

    assert found["net_usd"] == 6.0
    assert found["costs_usd"] == 3.0
    assert found["gross_usd"] == 9.0


def test_a_win_is_a_profit_after_costs() -> None:
    found = trade_metrics([1.0, 0.0, -1.0], [0.5, 0.5, 0.5])

    assert (found["trades"], found["wins"]) == (3, 1)


def test_no_trades_are_no_error() -> None:
    assert set(trade_metrics([], []).values()) == {0.0}


def test_profits_and_costs_must_go_together() -> None:
    with pytest.raises(DataError, match="2 profits and 1 costs"):
        trade_metrics([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("equity", "expected"),
    [
        ([100.0], 0.0),
        ([100.0, 110.0, 120.0], 0.0),
        ([100.0, 50.0, 100.0], 0.5),
        ([100.0, 120.0, 90.0, 200.0, 180.0], 0.25),
        ([100.0, 80.0, 120.0, 90.0], 0.25),
    ],
)
def test_drawdown_is_the_deepest_fall_from_a_running_peak(
    equity: list[float], expected: float
) -> None:
    assert max_drawdown_ratio(np.array(equity)) == pytest.approx(expected)


@pytest.mark.parametrize("equity", [[], [100.0, 0.0], [100.0, -1.0], [math.nan], [math.inf]])
def test_impossible_equity_is_refused(equity: list[float]) -> None:
    with pytest.raises(DataError, match="equity"):
        max_drawdown_ratio(np.array(equity, dtype=np.float64))
