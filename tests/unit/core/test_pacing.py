from __future__ import annotations

import math
from fractions import Fraction

import pytest

from momentum_lab.core.pacing import (
    MessageBudget,
    PacingParameters,
    Priority,
    first_after_s,
)
from momentum_lab.errors import ParameterError

P = PacingParameters()
# What is left to the least urgent classes of the default budget.
N_OTHERS = P.ceilings[Priority.NEWS]


def _budget(parameters: PacingParameters = P) -> MessageBudget[str]:
    return MessageBudget(parameters)


def _storm(budget: MessageBudget[str], n: int = 1000, priority: Priority = Priority.NEWS) -> None:
    for number in range(n):
        budget.put(priority, f"{priority.name} {number}")


# ------------------------------------------------------------------ parameters


def test_exits_and_cancels_are_one_class_before_all_others() -> None:
    assert {Priority.EXIT, Priority.CANCEL} == {Priority.URGENT} == {min(Priority)}
    assert Priority.EXIT < Priority.PROBE < Priority.RECONCILE < Priority.ENTRY < Priority.QUOTES


def test_ceilings_fall_from_the_whole_budget_down() -> None:
    found = [P.ceilings[priority] for priority in Priority]
    assert found[0] == P.messages_per_s
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"messages_per_s": 20, "reserved_exits": 10}, "messages_per_s"),
        ({"messages_per_s": 51}, "half of market_data_lines"),
        ({"market_data_lines": 100, "spare_lines": 100}, "spare_lines"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(values: dict[str, int], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        PacingParameters(**values)


# -------------------------------------------------------------------- messages


def test_nothing_waits_in_an_empty_budget() -> None:
    budget = _budget()
    assert (len(budget), budget.next_s(0.0), budget.take(0.0)) == (0, None, [])


def test_what_may_leave_leaves_at_once() -> None:
    budget = _budget()
    budget.put(Priority.NEWS, "a")
    assert budget.next_s(7.0) == 7.0
    assert budget.take(7.0) == ["a"]


def test_the_most_urgent_leaves_first_and_then_who_came_first() -> None:
    budget = _budget()
    for priority, message in ((Priority.NEWS, "n"), (Priority.ENTRY, "e1"), (Priority.EXIT, "x")):
        budget.put(priority, message)
    budget.put(Priority.ENTRY, "e2")
    assert budget.take(0.0) == ["x", "e1", "e2", "n"]


def test_cancels_and_exits_keep_their_order() -> None:
    budget = _budget()
    budget.put(Priority.EXIT, "sell")
    budget.put(Priority.CANCEL, "cancel")
    assert budget.take(0.0) == ["sell", "cancel"]


def test_a_storm_leaves_room_for_the_more_urgent() -> None:
    budget = _budget()
    _storm(budget)
    assert len(budget.take(0.0)) == N_OTHERS
    _storm(budget, priority=Priority.QUOTES)
    assert len(budget.take(0.0)) == P.reserved_quotes
    _storm(budget, priority=Priority.ENTRY)
    assert len(budget.take(0.0)) == P.reserved_entries
    budget.put(Priority.PROBE, "time")
    assert budget.take(0.0) == ["time"]
    _storm(budget, priority=Priority.EXIT)
    assert len(budget.take(0.0)) == P.reserved_exits


def test_exits_within_what_is_kept_for_them_take_nothing_from_the_others() -> None:
    budget = _budget()
    _storm(budget, P.reserved_exits, Priority.EXIT)
    _storm(budget)
    assert len(budget.take(0.0)) == P.reserved_exits + N_OTHERS


def test_exits_may_use_the_whole_budget_and_not_more() -> None:
    budget = _budget()
    _storm(budget, priority=Priority.EXIT)
    assert len(budget.take(0.0)) == P.messages_per_s


@pytest.mark.parametrize("at_s", [0.0, 0.1, 0.3, 1.7, 12345.678, 1e9 / 7])
def test_a_window_is_closed_at_both_ends(at_s: float) -> None:
    budget = _budget(PacingParameters(jitter_s=0))
    _storm(budget)
    budget.take(at_s)
    next_s = budget.next_s(at_s + 0.5)
    assert next_s is not None
    assert Fraction(next_s) - Fraction(at_s) > 1
    assert budget.take(math.nextafter(next_s, 0.0)) == []
    assert len(budget.take(next_s)) == N_OTHERS


def test_the_window_is_longer_by_the_jitter() -> None:
    budget = _budget(PacingParameters(jitter_s=0.25))
    _storm(budget)
    budget.take(0.0)
    assert budget.next_s(0.0) == pytest.approx(1.25)


def test_a_new_connection_remembers_what_left_and_drops_what_waited() -> None:
    budget = _budget()
    _storm(budget, N_OTHERS + 2)
    budget.put(Priority.LOOKUP, "lookup")
    assert len(budget.take(0.0)) == N_OTHERS
    assert budget.clear() == [f"NEWS {N_OTHERS - 1}", f"NEWS {N_OTHERS}", f"NEWS {N_OTHERS + 1}"]
    assert len(budget) == 0
    budget.put(Priority.NEWS, "new")
    assert budget.take(0.5) == []
    assert budget.take(2.0) == ["new"]


def test_the_cancel_of_a_waiting_order_leaves_after_it() -> None:
    budget = _budget()
    _storm(budget, priority=Priority.ENTRY)
    budget.take(0.0)
    budget.put(Priority.ENTRY, "order", about=7)
    budget.put(Priority.ENTRY, "another", about=8)
    budget.put(Priority.CANCEL, "cancel", about=7)
    assert budget.take(0.0) == ["order", "cancel"]


def test_a_whole_class_can_be_moved_up() -> None:
    budget = _budget()
    _storm(budget, 35, Priority.ENTRY)
    n_left = len(budget.take(0.0))
    budget.move_up(Priority.ENTRY, to=Priority.CANCEL)
    budget.put(Priority.CANCEL, "cancel all")
    assert budget.take(0.0) == [*(f"ENTRY {n}" for n in range(n_left, 35)), "cancel all"]
    assert len(budget) == 0


def test_the_wait_of_one_more_message_is_known() -> None:
    budget = _budget()
    assert budget.wait_s(Priority.NEWS, 0.0) == 0.0
    _storm(budget)
    budget.take(0.0)
    assert budget.wait_s(Priority.NEWS, 0.0) == pytest.approx(1.1)
    assert budget.wait_s(Priority.EXIT, 0.0) == 0.0
    assert budget.wait_s(Priority.QUOTES, 0.0) == 0.0


@pytest.mark.parametrize("at_s", [0.0, 1e-20, 0.3, 1.1, 1e6 + 0.1, 1e15])
@pytest.mark.parametrize("span_s", [1.0, 1.1, 600.1])
def test_the_first_instant_after_a_span_is_after_it(at_s: float, span_s: float) -> None:
    found_s = first_after_s(at_s, span_s)
    assert found_s - at_s > span_s
    assert found_s - at_s <= span_s + 4 * math.ulp(at_s + span_s)
