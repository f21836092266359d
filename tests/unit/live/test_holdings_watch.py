"""The broker's word about positions against what our executions make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.errors import RecordError
from momentum_lab.live.holdings_watch import HoldingsWatch

SPY, IBM = 756733, 8314


class Told:
    """A watch, what our executions make, and how often somebody was called."""

    def __init__(self) -> None:
        self.ours: dict[int, float] = {}
        self.blocked: dict[int, str] = {}
        self.calls = 0
        self.watch = HoldingsWatch(lambda con_id: self.ours.get(con_id, 0.0), blocked=self.blocked)
        self.watch.on_news = self._count

    def _count(self) -> None:
        self.calls += 1


@given(st.lists(st.tuples(st.sampled_from([SPY, IBM]), st.integers(-300, 300)), max_size=20))
def test_positions_that_follow_our_executions_are_no_news(fills: list[tuple[int, int]]) -> None:
    told = Told()
    for con_id, shares in fills:
        told.ours[con_id] = told.ours.get(con_id, 0.0) + shares
        assert not told.watch.disputes(con_id)
        told.watch.hear(con_id, told.ours[con_id])
        assert not told.watch.disputes(con_id)
    assert told.calls == 0
    assert not told.watch.take_unexplained()


@given(st.integers(-300, 300), st.integers(-300, 300).filter(bool))
def test_a_position_that_nobody_made_is_disputed_until_it_is_explained(
    ours: int, more: int
) -> None:
    told = Told()
    told.ours[SPY] = ours
    told.watch.begin({SPY: float(ours)})

    told.watch.hear(SPY, ours + more)

    assert told.watch.disputes(SPY)
    assert told.calls == 1
    told.watch.hear(SPY, ours + more)
    assert told.calls == 1, "a repetition is no news"
    assert told.watch.take_unexplained()
    assert not told.watch.take_unexplained(), "one audit for each piece of news"
    told.ours[SPY] = ours + more
    assert not told.watch.disputes(SPY)


def test_a_position_that_is_told_before_its_execution_needs_no_audit() -> None:
    told = Told()
    told.watch.hear(SPY, 100)
    assert told.watch.disputes(SPY)
    told.ours[SPY] = 100.0
    assert not told.watch.disputes(SPY)
    assert not told.watch.take_unexplained()


def test_an_execution_that_overtakes_its_position_disputes_nothing_that_was_explained() -> None:
    told = Told()
    told.watch.hear(SPY, 100)
    told.ours[SPY] = 100.0
    assert not told.watch.disputes(SPY)
    # Our exit has filled; the flat position that it makes is still to be told.
    told.ours[SPY] = 0.0
    assert not told.watch.disputes(SPY)
    told.watch.hear(SPY, 0)
    assert not told.watch.disputes(SPY)
    assert not told.watch.take_unexplained()


def test_a_blocked_contract_that_changes_is_looked_at() -> None:
    told = Told()
    told.watch.begin({SPY: 10.0})
    told.blocked[SPY] = "none of it is ours"
    told.watch.hear(SPY, 10)
    assert not told.watch.take_unexplained()
    told.watch.hear(SPY, 0)
    assert told.watch.take_unexplained()


def test_an_older_word_counts_no_more_after_a_gap() -> None:
    told = Told()
    told.ours[SPY] = 100.0
    told.watch.hear(SPY, 100)
    # Our stop filled while nobody listened; the broker lists no flat position.
    told.ours[SPY] = 0.0
    told.watch.begin({})
    assert told.watch.told(SPY) == 0
    assert not told.watch.disputes(SPY)


def test_what_the_record_cannot_explain_is_disputed() -> None:
    def lost(_con_id: int) -> float:
        raise RecordError("the disk is gone")

    watch = HoldingsWatch(lost, blocked={})
    with pytest.raises(RecordError):
        watch.hear(SPY, 100)
    assert SPY in watch._differing
