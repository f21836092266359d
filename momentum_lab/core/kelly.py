"""Kelly's fraction of measured trades, shrunk towards no edge; a cap of a size, never its cause.

The fraction is of equity, and is what one trade puts at risk: the loss of a stop, 1 R.

Source: Kelly, "A new interpretation of information rate", 1956.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, pstdev

from momentum_lab.core.sizing_parameters import SizingParameters


def measured_kelly(multiples: Sequence[float], parameters: SizingParameters) -> float | None:
    """Return Kelly's fraction of a strategy's trades, None where it is off or there are too few.

    Args:
        multiples: net result of each closed trade in multiples of its risk.
        parameters: what it is measured from, and of how many trades at least.
    """
    n_trades = len(multiples)
    if parameters.kelly == "none" or n_trades < parameters.kelly_min_trades:
        return None
    if parameters.kelly == "multiples":
        return kelly_of_multiples(mean_r=mean(multiples), sd_r=pstdev(multiples), n_trades=n_trades)
    wins = [one for one in multiples if one > 0]
    if not wins:
        return 0.0
    lost_r = -sum(one for one in multiples if one <= 0)
    # Nothing was lost so far: a loss is taken for what the stop would cost.
    loss_r = lost_r / (n_trades - len(wins)) if lost_r else 1.0
    return kelly_of_wins(n_wins=len(wins), n_trades=n_trades, win_r=mean(wins), loss_r=loss_r)


def kelly_of_wins(
    *,
    n_wins: int,
    n_trades: int,
    win_r: float,
    loss_r: float = 1.0,
    prior_trades: float = 100.0,
) -> float:
    """Return Kelly's fraction of trades that win or lose so much, shrunk to no edge.

    p - (1 - p) / b is the part of equity that a loss costs. A loss costs `loss_r` of what is put at
    risk, so that the part at risk is that by `loss_r`.

    Args:
        n_wins: trades that won.
        n_trades: all, closed and out of sample; fewer than a hundred prove nothing.
        win_r: mean gain of a win in multiples of the risk, > 0.
        loss_r: mean loss of the others in multiples of the risk, > 0.
        prior_trades: how many trades at break-even the estimate begins with.
    """
    payoff = win_r / loss_r
    break_even = 1 / (1 + payoff)
    win_ratio = (n_wins + prior_trades * break_even) / (n_trades + prior_trades)
    return (win_ratio - (1 - win_ratio) / payoff) / loss_r


def kelly_of_multiples(
    *, mean_r: float, sd_r: float, n_trades: int, prior_trades: float = 100.0
) -> float:
    """Return Kelly's fraction of trades of any result in multiples of their risk, shrunk to zero.

    Args:
        mean_r: mean result.
        sd_r: its standard deviation.
        n_trades: as in `kelly_of_wins`.
        prior_trades: how many trades without a result the estimate begins with.
    """
    shrunk_r = mean_r * n_trades / (n_trades + prior_trades)
    return shrunk_r / (sd_r**2 + shrunk_r**2) if shrunk_r else 0.0
