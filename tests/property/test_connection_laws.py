"""Laws of the connection's table: whatever comes in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.core.connection import (
    CONNECTION_TABLE,
    IMPOSSIBLE,
    ConnectionEvent,
    ConnectionState,
    advance_connection,
)
from momentum_lab.core.liveness import LivenessParameters, line_patience_s
from momentum_lab.live.ibkr.codes import CODES, Reaction, code_of

S, E = ConnectionState, ConnectionEvent
walks = st.lists(st.sampled_from(ConnectionEvent), max_size=60)


def _walk(events: list[ConnectionEvent]) -> list[tuple[ConnectionEvent, ConnectionState]]:
    """Take every step that can happen; what cannot is left out, as the supervisor never does it."""
    state, path = S.DISCONNECTED, []
    for event in events:
        if (state, event) not in IMPOSSIBLE:
            state = advance_connection(state, event)
            path.append((event, state))
    return path


@given(walks)
def test_operational_is_only_ever_entered_by_a_synchronisation(
    events: list[ConnectionEvent],
) -> None:
    before = S.DISCONNECTED
    for event, state in _walk(events):
        if state is S.OPERATIONAL and before is not S.OPERATIONAL:
            assert (before, event) == (S.SYNCHRONIZING, E.SYNCHRONIZED)
        before = state


@given(walks)
def test_whatever_was_lost_is_synchronised_before_it_is_operational_again(
    events: list[ConnectionEvent],
) -> None:
    is_doubtful = True
    for event, state in _walk(events):
        if event in (E.LOST, E.UPSTREAM_LOST, E.UPSTREAM_RESTORED):
            is_doubtful = True
        elif event is E.SYNCHRONIZED:
            is_doubtful = False
        assert not (is_doubtful and state is S.OPERATIONAL)


@given(walks)
def test_from_wherever_it_is_three_steps_lead_to_operational(
    events: list[ConnectionEvent],
) -> None:
    path = _walk(events)
    state = path[-1][1] if path else S.DISCONNECTED
    way = {
        S.DISCONNECTED: (E.ATTEMPT, E.SOCKET_READY, E.SYNCHRONIZED),
        S.CONNECTING: (E.SOCKET_READY, E.SYNCHRONIZED),
        S.SYNCHRONIZING: (E.SYNCHRONIZED,),
        S.DEGRADED: (E.UPSTREAM_RESTORED, E.SYNCHRONIZED),
        S.OPERATIONAL: (),
    }[state]
    for event in way:
        state = advance_connection(state, event)
    assert state is S.OPERATIONAL


@given(st.sampled_from(ConnectionState), st.sampled_from(ConnectionEvent))
def test_no_pair_is_unhandled(state: ConnectionState, event: ConnectionEvent) -> None:
    assert ((state, event) in CONNECTION_TABLE) is not ((state, event) in IMPOSSIBLE)


@given(st.integers(-10, 100_000))
def test_every_code_has_a_meaning_and_an_unknown_one_ends_nothing(number: int) -> None:
    found = code_of(number)
    assert found.meaning
    if number not in CODES:
        assert found.reaction is Reaction.RECORD


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_the_patience_with_a_line_grows_and_is_bounded(
    n_asked_again: int, is_alone: bool, has_flowed: bool
) -> None:
    limits = LivenessParameters()

    def patience_s(times: int) -> float:
        return line_patience_s(
            n_asked_again=times, is_alone=is_alone, has_flowed=has_flowed, parameters=limits
        )

    assert patience_s(n_asked_again) <= patience_s(n_asked_again + 1)
    assert limits.all_quiet_s <= patience_s(n_asked_again) <= 16 * limits.line_quiet_s


@given(st.booleans(), st.integers(0, 10**6), st.integers(0, 100))
def test_a_dead_socket_is_found_within_a_bound(
    is_watched: bool, asked_s: int, later_s: int
) -> None:
    limits = LivenessParameters()
    every_s, answer_s = limits.probe_s(is_watched=is_watched)
    assert every_s + answer_s <= (10 if is_watched else 30)
    due_s = limits.probe_due_s(asked_s=asked_s, heard_s=asked_s + later_s, is_watched=is_watched)
    # After the last word no later than without one, and who speaks for ever is asked as well.
    assert asked_s + every_s <= due_s <= asked_s + later_s + every_s
    assert due_s + answer_s <= asked_s + (15 if is_watched else 30)
