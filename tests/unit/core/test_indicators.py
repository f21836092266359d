from __future__ import annotations

import numpy as np
import pytest

from momentum_lab.core.indicators import Array, AtrKind, atr, sma, true_range
from momentum_lab.errors import DataError

# reference/algorithms.md, test vector V1: open, high, low, close, volume of 20 one-minute bars.
V1 = np.array(
    [
        (50.00, 50.02, 49.93, 49.93, 22500),
        (49.91, 49.98, 49.91, 49.95, 5600),
        (49.92, 49.94, 49.89, 49.90, 29000),
        (49.90, 49.98, 49.87, 49.96, 14700),
        (49.98, 49.99, 49.88, 49.90, 8200),
        (49.93, 49.94, 49.92, 49.93, 14800),
        (49.96, 50.09, 49.94, 50.05, 14200),
        (50.05, 50.06, 50.00, 50.03, 16000),
        (50.03, 50.11, 49.97, 50.02, 6700),
        (50.05, 50.11, 50.02, 50.10, 14200),
        (50.13, 50.15, 49.95, 49.98, 7100),
        (49.98, 50.05, 49.82, 49.84, 4600),
        (49.84, 49.96, 49.79, 49.95, 10900),
        (49.94, 49.97, 49.94, 49.94, 8900),
        (49.96, 49.97, 49.94, 49.95, 4200),
        (49.93, 49.95, 49.88, 49.93, 8800),
        (49.95, 49.97, 49.86, 49.89, 7700),
        (49.88, 50.05, 49.86, 49.98, 8800),
        (49.99, 50.10, 49.96, 50.04, 16400),
        (50.08, 50.15, 50.06, 50.14, 15500),
    ]
)
HIGH, LOW, CLOSE = V1[:, 1], V1[:, 2], V1[:, 3]
V1_TRUE_RANGE = [
    0.07, 0.06, 0.11, 0.11, 0.04, 0.16, 0.06, 0.14, 0.09, 0.2,
    0.23, 0.17, 0.03, 0.03, 0.07, 0.11, 0.19, 0.14, 0.11,
]  # fmt: skip
V1_ATR_5_WILDER = [
    0.078, 0.0944, 0.08752, 0.098016, 0.0964128, 0.11713024, 0.13970419, 0.14576335, 0.12261068,
    0.10408855, 0.09727084, 0.09981667, 0.11785334, 0.12228267, 0.11982613,
]  # fmt: skip


def _array(*values: float) -> Array:
    return np.array(values, dtype=np.float64)


def test_true_range_matches_the_reference_vector() -> None:
    found = true_range(HIGH, LOW, CLOSE)

    assert found[1:] == pytest.approx(V1_TRUE_RANGE, abs=1e-12)


def test_true_range_of_the_first_bar_is_missing() -> None:
    assert np.isnan(true_range(HIGH, LOW, CLOSE)[0])


def test_true_range_counts_a_gap_between_bars() -> None:
    found = true_range(_array(10.1, 12.1), _array(9.9, 11.9), _array(10.0, 12.0))

    assert found[1] == pytest.approx(2.1)


def test_wilder_atr_5_matches_the_reference_vector() -> None:
    found = atr(HIGH, LOW, CLOSE, n=5, kind="wilder")

    assert found[5:] == pytest.approx(V1_ATR_5_WILDER, rel=1e-6)


def test_wilder_atr_14_matches_the_reference_vector() -> None:
    found = atr(HIGH, LOW, CLOSE, n=14, kind="wilder")

    assert np.flatnonzero(np.isfinite(found))[0] == 14
    assert found[19] == pytest.approx(0.11282026, rel=1e-6)


def test_sma_atr_is_the_mean_of_the_last_true_ranges() -> None:
    found = atr(HIGH, LOW, CLOSE, n=5, kind="sma")

    assert found[19] == pytest.approx(sum(V1_TRUE_RANGE[-5:]) / 5)


def test_both_kinds_of_atr_start_with_the_same_value() -> None:
    by_mean, by_wilder = (atr(HIGH, LOW, CLOSE, n=5, kind=kind)[5] for kind in _KINDS)

    assert by_mean == by_wilder


_KINDS: tuple[AtrKind, AtrKind] = ("sma", "wilder")


@pytest.mark.parametrize("kind", _KINDS)
def test_atr_is_missing_and_never_zero_before_its_window_is_full(kind: AtrKind) -> None:
    found = atr(HIGH, LOW, CLOSE, n=5, kind=kind)

    assert np.all(np.isnan(found[:5]))
    assert np.all(np.isfinite(found[5:]))


@pytest.mark.parametrize("kind", _KINDS)
def test_atr_of_flat_bars_is_zero(kind: AtrKind) -> None:
    flat = np.full(8, 10.0)

    assert atr(flat, flat, flat, n=3, kind=kind)[-1] == 0


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("length", [0, 1, 5])
def test_atr_of_too_few_bars_is_all_missing(kind: AtrKind, length: int) -> None:
    found = atr(HIGH[:length], LOW[:length], CLOSE[:length], n=5, kind=kind)

    assert len(found) == length
    assert np.all(np.isnan(found))


def test_sma_matches_the_reference_vector() -> None:
    assert sma(CLOSE, 5)[19] == pytest.approx(49.996, rel=1e-9)


def test_sma_is_missing_before_its_window_is_full() -> None:
    found = sma(CLOSE, 5)

    assert np.flatnonzero(np.isfinite(found))[0] == 4


def test_sma_does_not_drift_after_a_huge_value() -> None:
    values = np.concatenate([[1e15], np.full(50, 0.1)])

    assert sma(values, 5)[-1] == pytest.approx(0.1, rel=1e-12)


def test_sma_over_a_missing_value_is_missing() -> None:
    found = sma(_array(1.0, np.nan, 3.0, 4.0), 2)

    assert np.isnan(found).tolist() == [True, True, True, False]


def test_sma_of_too_few_values_is_all_missing() -> None:
    assert np.isnan(sma(CLOSE[:3], 4)).all()


def test_indicators_leave_their_inputs_alone() -> None:
    before = V1.copy()

    atr(HIGH, LOW, CLOSE, n=5, kind="wilder")

    assert np.array_equal(V1, before)


@pytest.mark.parametrize("n", [0, -1])
def test_a_window_below_one_is_refused(n: int) -> None:
    with pytest.raises(DataError, match="at least 1"):
        sma(CLOSE, n)
    with pytest.raises(DataError, match="at least 1"):
        atr(HIGH, LOW, CLOSE, n=n, kind="sma")
