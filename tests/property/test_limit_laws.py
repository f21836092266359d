"""The laws of the gateway's limits: no window holds more than it may, whatever a client does."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.gateway.limits import (
    ALL_S,
    IDENTICAL_S,
    MAX_ALL,
    MAX_SAME_KIND,
    MAX_VIOLATIONS,
    SAME_KIND_S,
    SECOND_S,
    SLACK_S,
    HistoryAsk,
    HistoryBudget,
    MessageBudget,
)

ROUNDING_S = 1e-9
waits_s = st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 3))
instants_s = st.lists(waits_s, min_size=1, max_size=200).map(lambda waits: list(accumulate(waits)))
rates = st.integers(1, 20)


@given(instants_s, rates)
def test_no_second_takes_more_than_the_rate_and_a_jitter(arrivals: list[float], rate: int) -> None:
    budget = MessageBudget(rate)
    taken = [at_s for at_s in arrivals if budget.take(at_s)]
    for first_s, one_more_s in zip(taken, taken[rate:], strict=False):
        assert one_more_s - first_s >= SECOND_S - SLACK_S - ROUNDING_S


@given(instants_s, rates)
def test_jitter_never_adds_up(arrivals: list[float], rate: int) -> None:
    budget = MessageBudget(rate)
    taken = [at_s for at_s in arrivals if budget.take(at_s)]
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = rate * (taken[last] - taken[first] + SLACK_S + SECOND_S)
            assert last - first + 1 <= allowed + ROUNDING_S


@given(st.lists(st.floats(1, 2), max_size=40), rates)
def test_who_keeps_to_the_rate_is_never_refused(gaps: list[float], rate: int) -> None:
    budget = MessageBudget(rate)
    for at_s in accumulate(gaps):
        assert all(budget.take(at_s) for _ in range(rate))


@given(instants_s, rates)
def test_who_waits_as_told_is_never_refused(arrivals: list[float], rate: int) -> None:
    budget, now_s = MessageBudget(rate), 0.0
    for at_s in arrivals:
        now_s = max(now_s, at_s)
        now_s += budget.wait_s(now_s)
        assert budget.take(now_s + ROUNDING_S)


@given(instants_s)
def test_violations_are_at_least_a_second_apart(refused: list[float]) -> None:
    budget = MessageBudget(1)
    began = [at_s for at_s in refused if budget.violate(at_s)]
    assert len(began) == budget.n_violations <= (refused[-1] - refused[0]) / SECOND_S + 1
    assert MAX_VIOLATIONS > 0


asks = st.builds(
    HistoryAsk,
    all_of_it=st.integers(0, 50),
    kind=st.sampled_from(["SPY", "IBM", "MSFT"]),
    weight=st.sampled_from([1, 1, 2]),
)
pauses_s = st.sampled_from([0.0, 0.1, 0.5, 2.0, 5.0, 15.0, 60.0])


@given(st.lists(st.tuples(pauses_s, asks), max_size=200))
def test_no_window_of_history_holds_more_than_its_rule(
    asked: list[tuple[float, HistoryAsk]],
) -> None:
    budget, now_s = HistoryBudget(), 0.0
    taken: list[tuple[float, HistoryAsk]] = []
    for pause_s, ask in asked:
        now_s += pause_s
        if budget.take(ask, now_s):
            taken.append((now_s, ask))
    for at_s, ask in taken:
        before = [(then_s, other) for then_s, other in taken if then_s <= at_s]
        recent = [other for then_s, other in before if at_s - then_s < ALL_S]
        assert sum(other.weight for other in recent) <= MAX_ALL
        same = [o for then_s, o in before if at_s - then_s < SAME_KIND_S and o.kind == ask.kind]
        assert sum(other.weight for other in same) <= MAX_SAME_KIND
        assert [
            o for t, o in before if at_s - t < IDENTICAL_S and o.all_of_it == ask.all_of_it
        ] == [ask]
