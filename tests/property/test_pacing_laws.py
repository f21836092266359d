"""The laws of pacing: no window holds more than it may, and nothing urgent waits for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.core.history_pacing import HistoricalPacing, HistoryKey
from momentum_lab.core.pacing import (
    MessageBudget,
    PacingParameters,
    Priority,
)

# The broker's own numbers, written down here once more.
BROKER_IDENTICAL_S, BROKER_SAME_KIND_S, BROKER_ALL_S = 15, 2, 600
BROKER_SAME_KIND, BROKER_ALL, BROKER_OPEN = 5, 60, 50

Message = tuple[Priority, int, int | None]
# When, as what, the message, and how many had arrived by then.
Left = tuple[float, Priority, Message, int]

SMALL = PacingParameters(
    messages_per_s=10, reserved_exits=2, reserved_entries=1, reserved_quotes=1, jitter_s=0.0
)
JITTERY = PacingParameters(
    messages_per_s=12, reserved_exits=3, reserved_entries=2, reserved_quotes=0, jitter_s=0.1
)
parameter_sets = st.sampled_from([SMALL, JITTERY])
# Steps that land exactly on the edges of windows, and others.
steps_s = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 1.1, math.nextafter(1.0, 2.0)]), st.floats(0, 2)
)
priorities = st.sampled_from(list(Priority))
abouts = st.one_of(st.none(), st.integers(0, 3))
bursts = st.lists(
    st.tuples(steps_s, st.lists(st.tuples(priorities, abouts), max_size=25)), max_size=25
)
begins_s = st.sampled_from([0.0, 0.1, 1234.567, 1e8 / 3])


def _play(
    budget: MessageBudget[Message],
    arrivals: Sequence[tuple[float, Sequence[tuple[Priority, int | None]]]],
    begin_s: float,
) -> tuple[list[Message], list[Left]]:
    """Put and take at each arrival, then take whenever something may leave; return both lists."""
    now_s, arrived, left = begin_s, list[Message](), list[Left]()
    for step_s, burst in arrivals:
        until_s = now_s + step_s
        while (next_s := budget.next_s(now_s)) is not None and next_s <= until_s:
            now_s = next_s
            left += [(now_s, m[0], m, len(arrived)) for m in budget.take(now_s)]
        now_s = until_s
        for priority, about in burst:
            message = (priority, len(arrived), about)
            arrived.append(message)
            budget.put(priority, message, about=about)
        left += [(now_s, m[0], m, len(arrived)) for m in budget.take(now_s)]
    while (next_s := budget.next_s(now_s)) is not None:
        now_s = next_s
        taken = budget.take(now_s)
        assert taken
        left += [(now_s, m[0], m, len(arrived)) for m in taken]
    return arrived, left


def _check_windows(left: Sequence[Left], parameters: PacingParameters) -> None:
    """Count in exact arithmetic: the n-th next message is more than a second later."""
    for limiting, ceiling in parameters.ceilings.items():
        instants = [Fraction(at_s) for at_s, priority, *_ in left if priority >= limiting]
        for first_s, one_more_s in zip(instants, instants[ceiling:], strict=False):
            assert one_more_s - first_s > 1


@given(bursts, begins_s, parameter_sets)
def test_no_closed_second_holds_more_than_the_budget_and_its_ceilings(
    arrivals: list[tuple[float, list[tuple[Priority, int | None]]]],
    begin_s: float,
    parameters: PacingParameters,
) -> None:
    plain = [(step_s, [(priority, None) for priority, _ in burst]) for step_s, burst in arrivals]
    _, left = _play(MessageBudget(parameters), plain, begin_s)
    _check_windows(left, parameters)


@given(bursts, bursts, begins_s)
def test_the_budget_holds_across_a_new_connection(
    before: list[tuple[float, list[tuple[Priority, int | None]]]],
    after: list[tuple[float, list[tuple[Priority, int | None]]]],
    begin_s: float,
) -> None:
    budget: MessageBudget[Message] = MessageBudget(SMALL)
    now_s, instants = begin_s, list[Fraction]()
    for arrivals in (before, after):
        for step_s, burst in arrivals:
            now_s += step_s
            for number, (priority, about) in enumerate(burst):
                budget.put(priority, (priority, number, about), about=about)
            instants += [Fraction(now_s)] * len(budget.take(now_s))
        budget.clear()
        assert len(budget) == 0
    ceiling = SMALL.messages_per_s
    for first_s, one_more_s in zip(instants, instants[ceiling:], strict=False):
        assert one_more_s - first_s > 1


@given(bursts, begins_s, parameter_sets)
def test_nothing_is_lost_or_made_and_what_is_about_one_thing_keeps_its_order(
    arrivals: list[tuple[float, list[tuple[Priority, int | None]]]],
    begin_s: float,
    parameters: PacingParameters,
) -> None:
    arrived, left = _play(MessageBudget(parameters), arrivals, begin_s)
    messages = [message for _, _, message, _ in left]
    assert sorted(messages, key=lambda m: m[1]) == arrived
    for thing in range(4):
        numbers = [number for _, number, about in messages if about == thing]
        assert numbers == sorted(numbers)


@given(bursts, begins_s, parameter_sets)
def test_within_a_class_who_comes_first_leaves_first(
    arrivals: list[tuple[float, list[tuple[Priority, int | None]]]],
    begin_s: float,
    parameters: PacingParameters,
) -> None:
    plain = [(step_s, [(priority, None) for priority, _ in burst]) for step_s, burst in arrivals]
    _, left = _play(MessageBudget(parameters), plain, begin_s)
    for priority in Priority:
        numbers = [message[1] for _, left_as, message, _ in left if left_as is priority]
        assert numbers == sorted(numbers)


@given(bursts, begins_s, parameter_sets)
def test_nothing_less_urgent_leaves_while_something_more_urgent_waits(
    arrivals: list[tuple[float, list[tuple[Priority, int | None]]]],
    begin_s: float,
    parameters: PacingParameters,
) -> None:
    plain = [(step_s, [(priority, None) for priority, _ in burst]) for step_s, burst in arrivals]
    _, left = _play(MessageBudget(parameters), plain, begin_s)
    for place, (_, priority, _, n_arrived) in enumerate(left):
        for _, later, (_, number, _), _ in left[place + 1 :]:
            # Who leaves later and was there already is not more urgent.
            assert later >= priority or number >= n_arrived


@given(st.integers(0, 2), st.integers(1, 60), st.lists(st.floats(0, 1), max_size=2))
def test_urgent_load_within_its_share_starves_nobody(
    n_urgent: int, n_news: int, offsets_s: list[float]
) -> None:
    """The least urgent leave at their full rate, however steadily exits come."""
    budget: MessageBudget[Message] = MessageBudget(SMALL)
    share, least = SMALL.reserved_exits, SMALL.ceilings[Priority.NEWS]
    assert n_urgent <= share
    seconds = math.ceil(n_news / least)
    news = [(0.0, [(Priority.NEWS, None)] * n_news)]
    exits = [(1.0 + 1e-9, [(Priority.EXIT, None)] * n_urgent) for _ in range(seconds)]
    pauses = [(offset_s, list[tuple[Priority, int | None]]()) for offset_s in offsets_s]
    _, left = _play(budget, [*news, *pauses, *exits], 0.0)
    last_s = max(at_s for at_s, priority, *_ in left if priority is Priority.NEWS)
    assert last_s <= seconds - 1 + 1e-6


# --------------------------------------------------------------------- history

keys = st.builds(
    HistoryKey,
    con_id=st.integers(1, 12),
    exchange=st.just("SMART"),
    tick_type=st.sampled_from(["TRADES", "MIDPOINT", "BID_ASK"]),
    seconds=st.sampled_from([0, 5, 30, 60]),
    details=st.tuples(st.integers(0, 5)),
)
pauses_s = st.sampled_from([0.0, 0.0, 0.1, 0.5, 2.0, 15.0, 60.0, 599.0])


@given(st.lists(st.tuples(pauses_s, keys), max_size=150), begins_s)
def test_who_waits_as_told_keeps_every_rule_of_the_broker(
    wanted: list[tuple[float, HistoryKey]], begin_s: float
) -> None:
    pacing, now_s = HistoricalPacing(PacingParameters()), begin_s
    sent: list[tuple[Fraction, HistoryKey]] = []
    for pause_s, key in wanted:
        now_s += pause_s
        while (wait_s := pacing.admit_s(key, now_s)) > 0:
            assert wait_s < BROKER_ALL_S + 1
            now_s += max(wait_s, 1e-6)
        pacing.note_sent(key, now_s)
        pacing.note_done()
        sent.append((Fraction(now_s), key))
    _check_history([(at_s, key) for at_s, key in sent if key.seconds <= 30])


def _check_history(sent: Sequence[tuple[Fraction, HistoryKey]]) -> None:
    """Count each closed window that ends at a request, in exact arithmetic."""
    weights = {"TRADES": 1, "MIDPOINT": 1, "BID_ASK": 2}
    for place, (at_s, key) in enumerate(sent):
        earlier = [(at_s - then_s, other) for then_s, other in sent[: place + 1]]
        assert sum(weights[o.tick_type] for ago, o in earlier if ago <= BROKER_ALL_S) <= BROKER_ALL
        kind = [
            weights[other.tick_type]
            for ago, other in earlier
            if ago <= BROKER_SAME_KIND_S
            and (other.con_id, other.tick_type) == (key.con_id, key.tick_type)
        ]
        assert sum(kind) <= BROKER_SAME_KIND
        assert [o for ago, o in earlier if ago <= BROKER_IDENTICAL_S and o == key] == [key]


@given(st.lists(st.booleans(), max_size=200))
def test_no_more_are_open_than_the_broker_allows(asks: list[bool]) -> None:
    pacing, key, n_open = HistoricalPacing(PacingParameters()), HistoryKey(1, "", "TRADES", 60), 0
    for is_ask in asks:
        if is_ask and pacing.admit_s(key, 0.0) == 0.0:
            pacing.note_sent(key, 0.0)
            n_open += 1
        elif not is_ask and n_open:
            pacing.note_done()
            n_open -= 1
        assert pacing.n_open == n_open < BROKER_OPEN


@given(st.lists(st.tuples(pauses_s, keys), max_size=60))
def test_a_wait_is_never_longer_than_needed(wanted: list[tuple[float, HistoryKey]]) -> None:
    """A second before the told instant some rule of ours, which is a little stricter, holds."""
    pacing, now_s = HistoricalPacing(PacingParameters()), 0.0
    for pause_s, key in wanted:
        now_s += pause_s
        waits_s = [pacing.admit_s(key, now_s + ahead_s) for ahead_s in (0.0, 0.5, 1.0)]
        for earlier_s, later_s in pairwise(waits_s):
            assert later_s <= earlier_s <= later_s + 0.5 + 1e-6
        if waits_s[0] == 0:
            pacing.note_sent(key, now_s)
            pacing.note_done()
