"""The entries of a day as the limits of the account count them, against counting row by row."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.order import OrderState
from momentum_lab.records.ledger import Row
from momentum_lab.records.risk_queries import Scope, entries_of_day
from tests.factories import NOON

T = TypeVar("T")
SILENT = (OrderState.INTENT, OrderState.SENT, OrderState.UNKNOWN)
rows = st.lists(
    st.builds(
        lambda ago_s, symbol, state: Row(
            created_ns=NOON - ago_s * NS_PER_S, symbol=symbol, state=state.value
        ),
        st.integers(0, 200),
        st.sampled_from(("SPY", "IBM")),
        st.sampled_from((OrderState.REJECTED, OrderState.FILLED, OrderState.WORKING, *SILENT)),
    ),
    max_size=12,
).map(lambda found: sorted(found, key=lambda row: -row["created_ns"]))


@given(rows, rows, st.integers(0, 200))
def test_what_is_put_together_once_says_what_the_rows_say(
    left: list[Row], working: list[Row], forgiven_s: int
) -> None:
    def digest(make: Callable[[list[Row]], T], sql: str, /, *_values: object) -> T:
        return make(left if "state != ?" in sql else working)

    since_ns = NOON - forgiven_s * NS_PER_S
    found = entries_of_day(
        digest, Scope("", 0), now_ns=NOON, symbol="SPY", rejects_since_ns=since_ns
    )

    last = takewhile(
        lambda row: (
            row["created_ns"] >= since_ns
            and row["state"] in {state.value for state in (OrderState.REJECTED, *SILENT)}
        ),
        left,
    )
    assert found.n_day == len(left)
    assert found.n_minute == sum(row["created_ns"] > NOON - 60 * NS_PER_S for row in left)
    assert found.n_symbol == sum(row["symbol"] == "SPY" for row in left)
    assert found.n_rejects == sum(row["state"] == OrderState.REJECTED.value for row in last)
    assert found.working == tuple(working)
