"""Kelly's fraction of a record of trades."""

from __future__ import annotations

import pytest

from momentum_lab.core.kelly import kelly_of_multiples, kelly_of_wins, measured_kelly
from momentum_lab.core.sizing_parameters import KellyKind, SizingParameters

# 60 wins of 1.2 R and 60 losses of 0.8 R: 0.2 R on average, and 1 R of deviation.
MIXED = [1.2, -0.8] * 60


def _measured(multiples: list[float], kelly: KellyKind = "multiples") -> float | None:
    return measured_kelly(multiples, SizingParameters(kelly=kelly))


def test_a_fraction_is_shrunk_towards_no_edge() -> None:
    assert kelly_of_wins(n_wins=66, n_trades=120, win_r=1.1) == pytest.approx(0.076859504)
    assert kelly_of_wins(n_wins=10, n_trades=12, win_r=2.0) == pytest.approx(0.080357143)
    assert kelly_of_multiples(mean_r=0.12, sd_r=1.1, n_trades=150) == pytest.approx(0.059250286)


def test_every_result_or_wins_alone_may_be_measured() -> None:
    assert _measured(MIXED) == pytest.approx(kelly_of_multiples(mean_r=0.2, sd_r=1.0, n_trades=120))
    # Shrunk to 5 wins of 11 it may lose 1/11 of equity, which is 0.8 of what it puts at risk.
    assert _measured(MIXED, "wins") == pytest.approx(1 / 11 / 0.8)


def test_nothing_is_measured_where_it_is_off_or_there_are_too_few_trades() -> None:
    assert _measured(MIXED, "none") is None
    assert _measured(MIXED[:99]) is None
    assert _measured(MIXED[:100]) is not None


@pytest.mark.parametrize("kelly", ["wins", "multiples"])
def test_trades_that_all_lost_or_brought_nothing_have_no_edge(kelly: KellyKind) -> None:
    for multiples in ([-1.0] * 100, [0.0] * 100):
        found = _measured(multiples, kelly)
        assert found is not None
        assert found <= 0


@pytest.mark.parametrize("kelly", ["wins", "multiples"])
def test_trades_that_all_won_have_an_edge(kelly: KellyKind) -> None:
    found = _measured([1.0] * 100, kelly)

    assert found is not None
    assert found > 0


def test_a_loss_that_never_was_is_taken_for_the_whole_risk() -> None:
    # Three wins of four, of as much as a loss would cost.
    assert _measured([1.0] * 100, "wins") == pytest.approx(0.5)
