"""Read a life-cycle table: one enum of states, one of events, a mapping of pairs to states."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from momentum_lab.errors import IllegalTransitionError

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def advance(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """Return the state that follows `state` on `event`.

    Raises:
        IllegalTransitionError: the table has no such row; names state and event.
    """
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransitionError(
            f"{type(state).__name__}: no row for {event.name} in {state.name}"
        ) from None
