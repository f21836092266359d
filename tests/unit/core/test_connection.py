from __future__ import annotations

import itertools
from typing import Any

import pytest

from momentum_lab.core.connection import (
    CONNECTION_TABLE,
    IMPOSSIBLE,
    BackoffParameters,
    ConnectionEvent,
    ConnectionState,
    advance_connection,
    backoff_s,
)
from momentum_lab.errors import IllegalTransitionError, ParameterError

S, E = ConnectionState, ConnectionEvent
MISSING = [
    pair
    for pair in itertools.product(ConnectionState, ConnectionEvent)
    if pair not in CONNECTION_TABLE
]
UP = (E.ATTEMPT, E.SOCKET_READY, E.SYNCHRONIZED)


def _after(*events: ConnectionEvent) -> ConnectionState:
    state = S.DISCONNECTED
    for event in events:
        state = advance_connection(state, event)
    return state


def _reachable(start: ConnectionState) -> set[ConnectionState]:
    found, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        after = {to for (state, _), to in CONNECTION_TABLE.items() if state is here} - found
        found |= after
        waiting += after
    return found


@pytest.mark.parametrize("state", list(ConnectionState))
def test_every_state_can_be_reached_from_every_state(state: ConnectionState) -> None:
    assert _reachable(state) == set(ConnectionState)


def test_every_pair_has_a_row_or_a_reason_why_it_cannot_happen() -> None:
    assert set(MISSING) == set(IMPOSSIBLE)
    assert all(IMPOSSIBLE.values())


@pytest.mark.parametrize("event", list(ConnectionEvent))
def test_every_event_is_used(event: ConnectionEvent) -> None:
    assert any(used is event for _, used in CONNECTION_TABLE)


@pytest.mark.parametrize(("state", "event"), MISSING)
def test_a_missing_pair_raises_and_names_both(
    state: ConnectionState, event: ConnectionEvent
) -> None:
    with pytest.raises(IllegalTransitionError, match=rf"{event.name}.*{state.name}"):
        advance_connection(state, event)


def test_a_connection_comes_up_through_synchronising() -> None:
    assert _after(E.ATTEMPT) is S.CONNECTING
    assert _after(E.ATTEMPT, E.SOCKET_READY) is S.SYNCHRONIZING
    assert _after(*UP) is S.OPERATIONAL


def test_only_a_finished_synchronisation_makes_it_operational() -> None:
    into = [pair for pair, to in CONNECTION_TABLE.items() if to is S.OPERATIONAL]

    assert into == [(S.SYNCHRONIZING, E.SYNCHRONIZED)]


@pytest.mark.parametrize("state", list(ConnectionState))
def test_a_loss_is_possible_at_any_time_and_disconnects(state: ConnectionState) -> None:
    assert advance_connection(state, E.LOST) is S.DISCONNECTED


def test_a_lost_upstream_degrades_and_its_return_is_not_trusted() -> None:
    assert _after(*UP, E.UPSTREAM_LOST) is S.DEGRADED
    assert _after(*UP, E.UPSTREAM_LOST, E.UPSTREAM_LOST) is S.DEGRADED
    assert _after(*UP, E.UPSTREAM_LOST, E.UPSTREAM_RESTORED) is S.SYNCHRONIZING


def test_a_restored_upstream_without_a_loss_is_looked_at_again() -> None:
    assert _after(*UP, E.UPSTREAM_RESTORED) is S.SYNCHRONIZING


def test_an_upstream_lost_while_synchronising_is_not_operational() -> None:
    assert _after(E.ATTEMPT, E.SOCKET_READY, E.UPSTREAM_LOST) is S.DEGRADED


def test_an_upstream_report_before_the_socket_is_ready_changes_nothing() -> None:
    assert _after(E.ATTEMPT, E.UPSTREAM_LOST, E.UPSTREAM_RESTORED) is S.CONNECTING


def _wait(failures: int, draw: float = 0.0, **changes: float) -> float:
    values: dict[str, Any] = changes
    return backoff_s(failures, draw=draw, parameters=BackoffParameters(**values))


def test_the_wait_doubles_up_to_its_cap() -> None:
    found = [_wait(failures) for failures in range(1, 10)]

    assert found == [1, 2, 4, 8, 16, 30, 30, 30, 30]


@pytest.mark.parametrize("failures", [100, 10_000, 10**9])
def test_many_failures_do_not_overflow(failures: int) -> None:
    assert _wait(failures, growth=10) == 30


def test_the_jitter_shortens_the_wait_by_its_ratio_at_most() -> None:
    found = [_wait(3, draw) for draw in (0.0, 0.5, 0.999999)]

    assert found == pytest.approx([4.0, 3.5, 3.0], abs=1e-5)


def test_without_jitter_the_draw_does_not_matter() -> None:
    assert _wait(3, 0.9, jitter_ratio=0) == _wait(3, 0.0, jitter_ratio=0)


def test_a_cap_below_the_first_wait_is_kept() -> None:
    assert _wait(1, first_wait_s=10, longest_wait_s=2) == 2


def test_a_schedule_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"backoff\.growth: expected 1 to 10 x, found 0.5"):
        _wait(1, growth=0.5)
