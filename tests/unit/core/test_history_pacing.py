from __future__ import annotations

import math

import pytest

from momentum_lab.core.history_pacing import HistoricalPacing, HistoryKey
from momentum_lab.core.pacing import PacingParameters

P = PacingParameters()


def _bars(
    symbol: int = 1, *, tick_type: str = "TRADES", seconds: int = 5, n: int = 0
) -> HistoryKey:
    return HistoryKey(symbol, "SMART", tick_type, seconds, (n,))


def test_the_first_history_may_be_asked_for_at_once() -> None:
    assert HistoricalPacing(P).admit_s(_bars(), 0.0) == 0.0


def test_the_same_history_waits_15_seconds() -> None:
    pacing = HistoricalPacing(P)
    pacing.note_sent(_bars(), 0.0)
    assert pacing.admit_s(_bars(), 5.0) == pytest.approx(10.1)
    assert pacing.admit_s(_bars(n=1), 5.0) == 0.0
    assert pacing.admit_s(_bars(), 15.2) == 0.0


def test_the_fifth_history_of_one_kind_waits_two_seconds() -> None:
    pacing = HistoricalPacing(P)
    for n in range(4):
        pacing.note_sent(_bars(n=n), 0.1 * n)
    assert pacing.admit_s(_bars(n=4), 0.5) == pytest.approx(1.6)
    assert pacing.admit_s(_bars(2), 0.5) == 0.0
    assert pacing.admit_s(_bars(tick_type="MIDPOINT"), 0.5) == 0.0


def test_bid_ask_counts_double() -> None:
    pacing = HistoricalPacing(P)
    for n in range(2):
        assert pacing.admit_s(_bars(tick_type="BID_ASK", n=n), 0.0) == 0.0
        pacing.note_sent(_bars(tick_type="BID_ASK", n=n), 0.0)
    assert pacing.admit_s(_bars(tick_type="BID_ASK", n=2), 0.0) == pytest.approx(2.1)


def test_ten_minutes_take_only_so_many() -> None:
    pacing = HistoricalPacing(P)
    for symbol in range(P.all_history):
        pacing.note_sent(_bars(symbol), float(symbol))
        pacing.note_done()
    assert pacing.admit_s(_bars(1000), 100.0) == pytest.approx(500.1)


def test_large_bars_are_bound_only_by_how_many_are_open() -> None:
    pacing = HistoricalPacing(P)
    minute = _bars(seconds=60)
    for _ in range(P.open_history):
        assert pacing.admit_s(minute, 0.0) == 0.0
        pacing.note_sent(minute, 0.0)
    assert pacing.admit_s(minute, 0.0) == math.inf
    pacing.note_done()
    assert pacing.admit_s(minute, 0.0) == 0.0


def test_what_is_no_bar_counts_as_a_small_one() -> None:
    assert _bars(seconds=0).is_paced
    assert _bars(seconds=30).is_paced
    assert not _bars(seconds=60).is_paced
