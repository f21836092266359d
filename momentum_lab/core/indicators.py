"""Indicators: arrays of closed bars in, arrays out. Missing values are NaN, never 0."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from momentum_lab.errors import DataError

Array = npt.NDArray[np.float64]
AtrKind = Literal["sma", "wilder"]


def sma(values: Array, n: int) -> Array:
    """Return the mean of the last `n` values; NaN before index n - 1.

    Args:
        values: shape (m,), time order.
        n: window, >= 1.

    Raises:
        DataError: n < 1.
    """
    _check_window(n)
    out = np.full(len(values), np.nan)
    if len(values) >= n:
        # Windows are summed afresh: a running sum drifts.
        windows = np.lib.stride_tricks.sliding_window_view(values, n)
        out[n - 1 :] = windows.mean(axis=1)
    return out


def true_range(
    high: Array, low: Array, close: Array, *, opens_session: npt.NDArray[np.bool_] | None = None
) -> Array:
    """Return max(H - L, |H - C_prev|, |L - C_prev|); NaN at index 0, which has no previous close.

    Args:
        high: shape (m,), US dollars.
        low: shape (m,).
        close: shape (m,).
        opens_session: shape (m,), True where a bar is the first of its session: there the range
            is H - L, because the overnight gap is no intraday movement.
    """
    out = np.full(len(close), np.nan)
    previous = close[:-1]
    if opens_session is not None:
        inside = np.clip(previous, low[1:], high[1:])
        previous = np.where(opens_session[1:], inside, previous)
    out[1:] = np.maximum(
        high[1:] - low[1:], np.maximum(abs(high[1:] - previous), abs(low[1:] - previous))
    )
    return out


def atr(
    high: Array,
    low: Array,
    close: Array,
    *,
    n: int,
    kind: AtrKind,
    opens_session: npt.NDArray[np.bool_] | None = None,
) -> Array:
    """Return the average true range, US dollars; NaN before index n.

    Args:
        high: shape (m,), US dollars.
        low: shape (m,).
        close: shape (m,).
        n: number of true ranges, >= 1.
        kind: "sma" is the plain mean of the last n true ranges; "wilder" is seeded with that
            mean at index n and then smoothed with weight 1/n.
        opens_session: see `true_range`.

    Raises:
        DataError: n < 1.

    Source: Wilder, New Concepts in Technical Trading Systems, 1978; seeding as in TA-Lib.
    """
    _check_window(n)
    ranges = true_range(high, low, close, opens_session=opens_session)
    out = np.full(len(close), np.nan)
    if len(close) <= n:
        return out
    out[1:] = sma(ranges[1:], n)
    if kind == "wilder":
        value = out[n]
        for index in range(n + 1, len(close)):
            value = ((n - 1) * value + ranges[index]) / n
            out[index] = value
    return out


def _check_window(n: int) -> None:
    if n < 1:
        raise DataError(f"expected a window of at least 1, found {n}")
