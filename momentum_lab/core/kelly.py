"""Kelly's fraction of measured trades, shrunk towards no edge; a cap of a size, never its cause.

Source: Kelly, "A new interpretation of information rate", 1956.
"""

from __future__ import annotations


def kelly_of_wins(
    *, n_wins: int, n_trades: int, win_r: float, prior_trades: float = 100.0
) -> float:
    """Return Kelly's fraction of trades that win `win_r` or lose 1, shrunk to no edge.

    Args:
        n_wins: trades that won.
        n_trades: all, closed and out of sample; fewer than a hundred prove nothing.
        win_r: gain of a win in multiples of the loss, > 0.
        prior_trades: how many trades at break-even the estimate begins with.
    """
    break_even = 1 / (1 + win_r)
    win_ratio = (n_wins + prior_trades * break_even) / (n_trades + prior_trades)
    return win_ratio - (1 - win_ratio) / win_r


def kelly_of_multiples(
    *, mean_r: float, sd_r: float, n_trades: int, prior_trades: float = 100.0
) -> float:
    """Return Kelly's fraction of trades of any result in multiples of their risk, shrunk to zero.

    Args:
        mean_r: mean result.
        sd_r: its standard deviation, > 0.
        n_trades: as in `kelly_of_wins`.
        prior_trades: how many trades without a result the estimate begins with.
    """
    mean = mean_r * n_trades / (n_trades + prior_trades)
    return mean / (sd_r**2 + mean**2)
