from __future__ import annotations

import itertools

import pytest

from momentum_lab.core.order import (
    ORDER_TABLE,
    OrderEvent,
    OrderName,
    OrderPurpose,
    OrderState,
    advance_order,
    parse_order_ref,
)
from momentum_lab.errors import IllegalTransitionError

S, E = OrderState, OrderEvent
EXECUTIONS = (E.FILL_PART, E.FILL_ALL)
MISSING = [pair for pair in itertools.product(OrderState, OrderEvent) if pair not in ORDER_TABLE]


def _after(*events: OrderEvent, start: OrderState = S.INTENT) -> OrderState:
    state = start
    for event in events:
        state = advance_order(state, event)
    return state


def _reachable(start: OrderState) -> set[OrderState]:
    found, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        after = {to for (state, _), to in ORDER_TABLE.items() if state is here} - found
        found |= after
        waiting += after
    return found


def test_every_state_can_be_reached_from_an_intent() -> None:
    assert _reachable(S.INTENT) == set(OrderState)


@pytest.mark.parametrize("state", [state for state in OrderState if not state.is_final])
def test_every_state_that_is_not_final_can_be_left_and_reaches_an_end(state: OrderState) -> None:
    assert _reachable(state) - {state}
    assert any(other.is_final for other in _reachable(state))


@pytest.mark.parametrize("event", list(OrderEvent))
def test_every_event_is_used(event: OrderEvent) -> None:
    assert any(used is event for _, used in ORDER_TABLE)


@pytest.mark.parametrize(("state", "event"), MISSING)
def test_a_missing_pair_raises_and_names_both(state: OrderState, event: OrderEvent) -> None:
    with pytest.raises(IllegalTransitionError, match=rf"{event.name}.*{state.name}"):
        advance_order(state, event)


def test_an_order_is_sent_once_only() -> None:
    assert [state for state in OrderState if (state, E.SEND) in ORDER_TABLE] == [S.INTENT]


def test_an_order_that_goes_well_ends_filled() -> None:
    path = (E.SEND, E.ACKNOWLEDGE, E.FILL_PART, E.FILL_PART, E.FILL_ALL)

    assert _after(*path) is S.FILLED


@pytest.mark.parametrize("state", list(OrderState))
def test_a_complete_fill_is_believed_in_every_state(state: OrderState) -> None:
    assert advance_order(state, E.FILL_ALL) is S.FILLED


@pytest.mark.parametrize("state", list(OrderState))
def test_a_partial_fill_is_accepted_in_every_state(state: OrderState) -> None:
    assert advance_order(state, E.FILL_PART) in (S.PARTIAL, state)


def test_a_fill_may_follow_a_cancel() -> None:
    assert _after(E.SEND, E.ACKNOWLEDGE, E.CANCEL, E.FILL_ALL) is S.FILLED
    assert _after(E.SEND, E.ACKNOWLEDGE, E.CANCEL, E.FILL_PART) is S.CANCELLED


def test_a_rejection_may_follow_an_acceptance() -> None:
    assert _after(E.SEND, E.ACKNOWLEDGE, E.REJECT) is S.REJECTED


def test_what_was_filled_in_part_is_not_rejected() -> None:
    assert _after(E.SEND, E.FILL_PART, E.REJECT) is S.CANCELLED
    assert _after(E.SEND, E.FILL_PART, E.CANCEL) is S.CANCELLED
    assert _after(E.SEND, E.FILL_PART, E.NOT_FOUND) is S.ABSENT


@pytest.mark.parametrize("state", [S.INTENT, S.SENT, S.WORKING, S.PARTIAL, S.UNKNOWN])
def test_silence_means_unknown_and_never_rejected(state: OrderState) -> None:
    assert advance_order(state, E.SILENCE) is S.UNKNOWN


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (E.ACKNOWLEDGE, S.WORKING),
        (E.FILL_PART, S.PARTIAL),
        (E.FILL_ALL, S.FILLED),
        (E.CANCEL, S.CANCELLED),
        (E.REJECT, S.REJECTED),
        (E.NOT_FOUND, S.ABSENT),
    ],
)
def test_an_unknown_order_is_settled_by_what_the_broker_says(
    event: OrderEvent, expected: OrderState
) -> None:
    assert _after(E.SEND, E.SILENCE, event) is expected


def test_an_absent_order_that_turns_up_after_all_is_live() -> None:
    assert _after(E.SEND, E.SILENCE, E.NOT_FOUND, E.ACKNOWLEDGE) is S.WORKING
    assert _after(E.SEND, E.SILENCE, E.NOT_FOUND, E.FILL_PART) is S.PARTIAL


@pytest.mark.parametrize("event", [event for event in OrderEvent if event is not E.SEND])
def test_a_filled_order_stays_filled_whatever_is_reported(event: OrderEvent) -> None:
    assert advance_order(S.FILLED, event) is S.FILLED


@pytest.mark.parametrize("state", [S.FILLED, S.CANCELLED, S.REJECTED])
@pytest.mark.parametrize(
    "event", [event for event in OrderEvent if event not in (E.SEND, E.FOUND_OPEN, *EXECUTIONS)]
)
def test_a_late_status_does_not_move_a_final_order(state: OrderState, event: OrderEvent) -> None:
    assert advance_order(state, event) is state


@pytest.mark.parametrize("state", list(OrderState))
def test_what_the_broker_lists_as_open_works_whatever_was_believed(state: OrderState) -> None:
    kept = {S.PARTIAL, S.FILLED}
    assert advance_order(state, E.FOUND_OPEN) is (state if state in kept else S.WORKING)


@pytest.mark.parametrize(
    ("order_ref", "expected"),
    [
        ("ml-r-1-d7", OrderName("r-1", OrderPurpose.ENTRY, decision_id=7)),
        ("ml-r-1-d7-sl", OrderName("r-1", OrderPurpose.STOP, decision_id=7)),
        ("ml-r-1-d7-sl3", OrderName("r-1", OrderPurpose.STOP, decision_id=7)),
        ("ml-r-1-d7-tp", OrderName("r-1", OrderPurpose.TARGET, decision_id=7)),
        ("ml-r-1-t5x2", OrderName("r-1", OrderPurpose.EXIT, trade_id=5)),
        ("ml-r-1", None),
        ("", None),
        ("x-r-t5x2", None),
    ],
)
def test_a_reference_says_what_it_is_for(order_ref: str, expected: OrderName | None) -> None:
    assert parse_order_ref(order_ref) == expected


def test_final_states_are_those_that_expect_nothing_more() -> None:
    final = {state for state in OrderState if state.is_final}

    assert final == {S.FILLED, S.CANCELLED, S.REJECTED, S.ABSENT}
