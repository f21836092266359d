"""Positions that broker and store see differently."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.live.reconcile import differing

POSITIONS = st.dictionaries(st.integers(1, 9), st.integers(-500, 500).map(float), max_size=6)


def test_equal_books_have_no_difference() -> None:
    assert differing({1: 100.0}, {1: 100.0}) == []


def test_what_only_one_side_knows_is_a_difference() -> None:
    assert differing({1: 100.0}, {2: -50.0}) == [
        (1, 100.0, 0.0),
        (2, 0.0, -50.0),
    ]


@given(POSITIONS, POSITIONS)
def test_the_differences_explain_the_broker_exactly(
    broker: dict[int, float], ours: dict[int, float]
) -> None:
    corrected = dict(ours)
    for con_id, theirs, own in differing(broker, ours):
        assert own == ours.get(con_id, 0.0)
        corrected[con_id] = theirs
    assert {k: v for k, v in corrected.items() if v} == {k: v for k, v in broker.items() if v}
