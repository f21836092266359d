from __future__ import annotations

import itertools

import pytest

from momentum_lab.core.risk_state import RISK_TABLE, RiskEvent, RiskState, advance_risk

S, E = RiskState, RiskEvent
BY_HAND = (E.RESUME_BY_HAND,)


def test_every_pair_of_state_and_event_has_its_row() -> None:
    assert set(RISK_TABLE) == set(itertools.product(S, E))


def test_entries_are_allowed_in_active_alone() -> None:
    assert [state for state in S if state.may_enter] == [S.ACTIVE]


@pytest.mark.parametrize("event", [event for event in E if event not in BY_HAND])
def test_a_halt_ends_by_hand_alone(event: RiskEvent) -> None:
    assert advance_risk(S.HALTED, event) is S.HALTED
    assert advance_risk(S.HALTED, E.RESUME_BY_HAND) is S.ACTIVE


@pytest.mark.parametrize("event", [E.DAILY_LOSS, E.REJECTS, E.REDUCE_BY_HAND])
def test_a_limit_brakes_until_the_next_day(event: RiskEvent) -> None:
    state = advance_risk(S.ACTIVE, event)

    assert state is S.REDUCING
    assert advance_risk(state, E.NEW_DAY) is S.ACTIVE


def test_without_a_record_everything_new_stops() -> None:
    assert {advance_risk(state, E.RECORD_FAILED) for state in S} == {S.HALTED}
