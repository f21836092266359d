"""The law of Kelly's fraction: no other part of equity at risk lets an account grow faster."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.kelly import kelly_of_wins, measured_kelly
from momentum_lab.core.sizing_parameters import SizingParameters

law = settings(max_examples=200, deadline=None, derandomize=True, database=None)
results_r = st.floats(0.1, 10)


def _best_ratio(*, win_ratio: float, win_r: float, loss_r: float) -> float:
    """The part of equity at risk of the greatest mean growth, by search alone; 0: not to trade."""

    def growth(at_risk: float) -> float:
        win, loss = at_risk * win_r, at_risk * loss_r
        return win_ratio * math.log1p(win) + (1 - win_ratio) * math.log1p(-loss)

    low, high = 0.0, (1 - 1e-9) / loss_r
    for _ in range(100):
        third = (high - low) / 3
        if growth(low + third) < growth(high - third):
            low += third
        else:
            high -= third
    return low


@law
@given(st.integers(1, 199), results_r, results_r)
def test_no_other_fraction_grows_faster(n_wins: int, win_r: float, loss_r: float) -> None:
    found = kelly_of_wins(n_wins=n_wins, n_trades=200, win_r=win_r, loss_r=loss_r, prior_trades=0)

    best = _best_ratio(win_ratio=n_wins / 200, win_r=win_r, loss_r=loss_r)
    assert max(0.0, found) * loss_r == pytest.approx(best * loss_r, abs=1e-5)


@law
@given(st.integers(1, 199), results_r, results_r, st.floats(0.1, 10))
def test_the_same_trades_with_a_wider_stop_allow_the_same_shares(
    n_wins: int, win_r: float, loss_r: float, wider: float
) -> None:
    trades = [win_r] * n_wins + [-loss_r] * (200 - n_wins)
    sizing = SizingParameters(kelly="wins")
    found = measured_kelly(trades, sizing)
    # What they brought is less of the risk, so that more of it may be taken.
    again = measured_kelly([one / wider for one in trades], sizing)

    assert found is not None
    assert again == pytest.approx(found * wider)
