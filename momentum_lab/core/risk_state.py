"""The brake of the account: may anything be entered at all.

Theory of operation. In ACTIVE entries are allowed. When the day's loss limit is reached, or the
broker refuses several entries in a row, the brake goes to REDUCING: nothing is entered any more,
and what is open leaves by its own rules. That ends with the day, or by hand. HALTED is for what
only a person can judge: a hand pulled it, or the record could not be written. Nothing is entered,
entries that still work at the broker are to be cancelled, and neither a restart nor a new day ends
it: only a hand does. A limit that still holds brakes again at the next entry.

No state takes away the way out. Exits, and the stop and target orders that protect a position, may
be sent in each of them: a brake that kept a position open would add to the risk it is there for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from momentum_lab.core.lifecycle import advance


class RiskState(str, Enum):
    """What the account may do."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @property
    def may_enter(self) -> bool:
        """Positions may be opened."""
        return self is RiskState.ACTIVE


class RiskEvent(str, Enum):
    """What moves the brake."""

    DAILY_LOSS = "daily loss limit"
    REJECTS = "entries refused in a row"
    RECORD_FAILED = "record failed"
    REDUCE_BY_HAND = "reduce by hand"
    HALT_BY_HAND = "halt by hand"
    RESUME_BY_HAND = "resume by hand"
    NEW_DAY = "new day"


_S, _E = RiskState, RiskEvent
RISK_TABLE: Mapping[tuple[RiskState, RiskEvent], RiskState] = {
    (_S.ACTIVE, _E.DAILY_LOSS): _S.REDUCING,
    (_S.ACTIVE, _E.REJECTS): _S.REDUCING,
    (_S.ACTIVE, _E.RECORD_FAILED): _S.HALTED,
    (_S.ACTIVE, _E.REDUCE_BY_HAND): _S.REDUCING,
    (_S.ACTIVE, _E.HALT_BY_HAND): _S.HALTED,
    # A hand may pull twice, and a day may begin with nothing to forget.
    (_S.ACTIVE, _E.RESUME_BY_HAND): _S.ACTIVE,
    (_S.ACTIVE, _E.NEW_DAY): _S.ACTIVE,
    (_S.REDUCING, _E.DAILY_LOSS): _S.REDUCING,
    (_S.REDUCING, _E.REJECTS): _S.REDUCING,
    (_S.REDUCING, _E.RECORD_FAILED): _S.HALTED,
    (_S.REDUCING, _E.REDUCE_BY_HAND): _S.REDUCING,
    (_S.REDUCING, _E.HALT_BY_HAND): _S.HALTED,
    (_S.REDUCING, _E.RESUME_BY_HAND): _S.ACTIVE,
    (_S.REDUCING, _E.NEW_DAY): _S.ACTIVE,
    # A weaker brake never loosens a stronger one.
    (_S.HALTED, _E.DAILY_LOSS): _S.HALTED,
    (_S.HALTED, _E.REJECTS): _S.HALTED,
    (_S.HALTED, _E.RECORD_FAILED): _S.HALTED,
    (_S.HALTED, _E.REDUCE_BY_HAND): _S.HALTED,
    (_S.HALTED, _E.HALT_BY_HAND): _S.HALTED,
    (_S.HALTED, _E.RESUME_BY_HAND): _S.ACTIVE,
    (_S.HALTED, _E.NEW_DAY): _S.HALTED,
}


def advance_risk(state: RiskState, event: RiskEvent) -> RiskState:
    """Return the state of the brake after `event`.

    Raises:
        IllegalTransitionError: the pair is not in `RISK_TABLE`.
    """
    return advance(RISK_TABLE, state, event)
