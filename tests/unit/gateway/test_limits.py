from __future__ import annotations

from typing import Any

import pytest

from momentum_lab.errors import ParameterError
from momentum_lab.gateway.limits import HistoryAsk, HistoryBudget, Limits, MessageBudget


def ask(number: int = 0, *, kind: str = "SPY", weight: int = 1) -> HistoryAsk:
    return HistoryAsk(all_of_it=number, kind=kind, weight=weight)


def taken(budget: MessageBudget, *instants_s: float) -> list[bool]:
    return [budget.take(at_s) for at_s in instants_s]


@pytest.mark.parametrize(
    ("values", "per_s"),
    [({}, 50), ({"max_lines": 300}, 150), ({"max_messages_per_s": 7}, 7), ({"max_lines": 1}, 1)],
)
def test_a_client_may_send_half_as_many_messages_as_there_are_lines(
    values: dict[str, Any], per_s: int
) -> None:
    assert Limits(**values).messages_per_s == per_s


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"max_lines": 0}, "max_lines"),
        ({"max_messages_per_s": -1}, "max_messages_per_s"),
        ({"over_rate": "queue"}, "reject or pace"),
        ({"news_answer_s": -0.1}, "news_answer_s"),
        ({"news_answer_s": float("inf")}, "news_answer_s"),
    ],
)
def test_limits_that_cannot_be_counted_are_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        Limits(**values)


def test_one_message_too_many_is_refused_until_a_second_has_passed() -> None:
    budget = MessageBudget(3)
    assert taken(budget, 0.0, 0.1, 0.2, 0.3) == [True, True, True, False]
    assert taken(budget, 1.0, 1.0, 1.1) == [True, True, True]


def test_a_jitter_is_forgiven_once_and_not_every_second() -> None:
    budget = MessageBudget(2)
    assert taken(budget, 0.0, 0.0, 0.9, 0.9) == [True] * 4
    assert taken(budget, 1.79, 1.8, 1.8) == [False, True, True]
    assert taken(budget, 2.79, 2.8) == [False, True]


def test_a_steady_stream_just_above_the_rate_is_found_out() -> None:
    budget = MessageBudget(50)
    assert not all(budget.take(number / 55) for number in range(300))


def test_what_was_refused_uses_nothing_up() -> None:
    budget = MessageBudget(1)
    assert taken(budget, 0.0, *(0.5 + n / 1000 for n in range(100))) == [True] + [False] * 100
    assert budget.take(1.0)


def test_it_says_how_long_to_wait() -> None:
    budget = MessageBudget(2)
    assert budget.wait_s(0.0) == 0.0
    taken(budget, 0.0, 0.0)
    assert budget.wait_s(0.3) == pytest.approx(0.5)
    assert budget.take(0.3 + budget.wait_s(0.3))


def test_what_is_refused_within_a_second_is_one_violation() -> None:
    budget = MessageBudget(1)
    began = [budget.violate(at_s) for at_s in (5.0, 5.1, 5.99, 6.0, 7.5)]
    assert began == [True, False, False, True, True]
    assert budget.n_violations == 3


def test_a_rate_of_zero_is_none() -> None:
    budget = MessageBudget(0)
    assert all(budget.take(0.0) for _ in range(1000))
    assert budget.wait_s(0.0) == 0.0


def test_the_same_request_again_waits_15_seconds() -> None:
    budget = HistoryBudget()
    assert budget.take(ask(1), 0.0)
    assert not budget.take(ask(1), 14.9)
    assert budget.take(ask(1), 15.0)


def test_the_sixth_request_of_a_kind_within_two_seconds_is_refused() -> None:
    budget = HistoryBudget()
    assert [budget.take(ask(n), n / 10) for n in range(6)] == [True] * 5 + [False]
    assert budget.take(ask(6, kind="IBM"), 0.6)
    assert budget.take(ask(5), 2.0)


def test_the_sixty_first_request_in_ten_minutes_is_refused() -> None:
    budget = HistoryBudget()
    asked = [budget.take(ask(n, kind=str(n)), float(n)) for n in range(61)]
    assert asked == [True] * 60 + [False]
    assert not budget.take(ask(61, kind="61"), 599.9)
    assert budget.take(ask(61, kind="61"), 600.0)


def test_bid_and_ask_count_twice() -> None:
    few = HistoryBudget()
    assert [few.take(ask(n, weight=2), 0.0) for n in range(3)] == [True, True, False]
    many = HistoryBudget()
    assert [many.take(ask(n, weight=2, kind=str(n)), 0.0) for n in range(31)].count(True) == 30


def test_refused_requests_do_not_count() -> None:
    budget = HistoryBudget()
    assert budget.take(ask(1), 0.0)
    for tenth in range(1, 150):
        assert not budget.take(ask(1), tenth / 10)
    assert budget.take(ask(1), 15.0)
