"""No entry on a quote that may not be traded on, whatever else a line says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momentum_lab.clock import transport_s
from momentum_lab.core.market import NS_PER_S, DataType, Quote, Side
from momentum_lab.core.risk import GuardParameters, refuse_quote
from momentum_lab.core.risk_state import RiskState
from momentum_lab.core.signal import Decision
from momentum_lab.live.entry_planner import EntryPlan
from tests.factories import NOON, instrument, quote
from tests.planner_kit import Bench, bench, signal

law = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    # The bench is only asked; each example says the whole line anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
GUARDS = GuardParameters()
ages_s = st.sampled_from([0.0, 1.0, 4.9, 5.1, 59.0, 61.0])
prices = st.one_of(
    st.none(), st.integers(9_990, 10_010).map(lambda n: n / 100), st.just(0.0), st.just(-1.0)
)
sizes = st.sampled_from([None, 0.0, -100.0, math.nan, 100.0, 500.0])
usual = st.sampled_from([DataType.LIVE, DataType.LIVE, DataType.LIVE, *DataType])


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as found:
        yield found


@dataclass(frozen=True)
class Said:
    """What a line says of one side, and when."""

    price: float | None
    size: float | None
    age_s: float


one_side = st.builds(Said, prices, sizes, ages_s)


@law
@given(one_side, one_side, st.booleans(), usual, st.sampled_from(Side))
def test_a_line_that_may_not_be_traded_on_gives_no_plan(
    made: Bench, bid: Said, ask: Said, is_halted: bool, data_type: DataType, side: Side
) -> None:
    line = made.connector.lines.want(instrument())
    line.hear_data_type(data_type)
    line.hear_bid(bid.price, bid.size, NOON - int(bid.age_s * NS_PER_S))
    line.hear_ask(ask.price, ask.size, NOON - int(ask.age_s * NS_PER_S))
    line.hear_halted(is_halted, NOON)
    line.settle(transport_s(), NOON - int(min(bid.age_s, ask.age_s) * NS_PER_S))

    found = made.planner.plan(signal(side=side, price=100.0))

    if isinstance(found, EntryPlan):
        assert bid.price is not None
        assert ask.price is not None
        assert 0 < bid.price < ask.price
        mid = (bid.price + ask.price) / 2
        assert (ask.price - bid.price) / mid <= GUARDS.spread_max_bps * 1e-4 + 1e-12
        assert min(bid.age_s, ask.age_s) <= GUARDS.quote_max_age_s
        assert max(bid.age_s, ask.age_s) <= GUARDS.quote_side_max_age_s
        assert all(size is None or size > 0 for size in (bid.size, ask.size))
        assert not is_halted
        assert data_type is DataType.LIVE


def test_the_law_is_not_empty(made: Bench) -> None:
    assert isinstance(made.planner.plan(signal()), EntryPlan)


good = quote(at_ns=NOON)
faults = {
    "halted": replace(good, halted=True),
    "crossed": replace(good, bid=100.02, ask=100.0),
    "locked": replace(good, bid=100.0, ask=100.0),
    "one-sided": replace(good, ask=None),
    "stale": replace(good, at_ns=NOON - 6 * NS_PER_S),
    "wide": replace(good, bid=99.5, ask=100.5),
    "delayed": replace(good, data_type=DataType.DELAYED),
    "not believed": replace(good, fault="no permission"),
    "empty": replace(good, bid_size=0),
    "of less than nothing": replace(good, bid_size=-100),
    "of no number of shares": replace(good, bid_size=math.nan),
}


@pytest.mark.parametrize("name", faults)
@law
@given(
    last=st.none() | st.floats(0.01, 1e5),
    size=st.floats(1, 1e6),
    more_s=st.floats(0, 1e5),
)
def test_no_other_field_mends_a_fault(
    name: str, last: float | None, size: float, more_s: float
) -> None:
    fault: Quote = faults[name]
    told = replace(fault, last=last, ask_size=size)

    assert refuse_quote(told, now_ns=NOON + int(more_s * NS_PER_S), parameters=GUARDS) is not None


@pytest.mark.parametrize("state", [RiskState.REDUCING, RiskState.HALTED])
def test_no_quote_is_good_enough_while_the_brake_is_on(made: Bench, state: RiskState) -> None:
    made.planner.set_state(state, cause="by hand")

    assert isinstance(made.planner.plan(signal()), Decision)
