"""What the exchange says to orders whose numbers no market knows."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import Side
from momentum_lab.gateway.checks import ORDER_TYPES, TIMES_IN_FORCE
from momentum_lab.gateway.orders import OrderError, StatusShown
from tests.gateway_factories import exchange, market, play, ticket

MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"quantity": 1e308}, 383),
        ({"quantity": float(MOST + 1)}, 383),
        ({"quantity": math.inf}, 201),
        ({"order_type": "LMT", "limit_usd": 1e308}, 201),
        ({"order_type": "LMT", "limit_usd": 1e12}, 201),
        ({"order_type": "MKT", "limit_usd": 1e308}, 201),
        ({"order_type": "STP", "stop_usd": 1e308}, 201),
        ({"order_type": "TRAIL", "stop_usd": 1e308}, 201),
        ({"order_type": "TRAIL", "trail_percent": 1e308}, 201),
        ({"order_type": "TRAIL", "trail_percent": 100.0}, 201),
        ({"order_type": "TRAIL", "stop_usd": 1.0, "trail_stop_usd": 1e308}, 201),
        ({"order_type": "TRAIL", "stop_usd": 1.0, "trail_stop_usd": -5.0}, 201),
        ({"order_type": "TRAIL", "stop_usd": 1.0, "trail_stop_usd": 99.001}, 110),
        ({"order_type": "TRAIL LIMIT", "stop_usd": 1.0, "limit_offset_usd": 1e308}, 201),
        ({"order_id": MOST + 1}, 321),
        ({"order_id": 2**62}, 321),
    ],
)
def test_a_number_no_market_knows_is_refused(terms: dict[str, Any], code: int) -> None:
    found = exchange(market())

    events = found.place(ticket(**terms))

    assert [event.code for event in events if isinstance(event, OrderError)] == [code]
    assert found.live_orders() == []


def test_an_order_id_that_clients_cannot_hold_uses_up_no_id() -> None:
    found = exchange(market())

    found.place(ticket(order_id=2**62))

    assert found.books.next_order_id(1) == 1


wild = st.floats() | st.floats(0.01, 300).map(lambda x: round(x, 2)) | st.sampled_from([0.0, 1e15])
maybe_wild = st.none() | wild


@given(
    terms=st.fixed_dictionaries(
        {
            "quantity": wild,
            "order_type": st.sampled_from(ORDER_TYPES),
            "limit_usd": maybe_wild,
            "stop_usd": maybe_wild,
            "trail_percent": maybe_wild,
            "trail_stop_usd": maybe_wild,
            "limit_offset_usd": maybe_wild,
            "tif": st.sampled_from(TIMES_IN_FORCE),
            "order_id": st.integers(-(2**63), 2**63),
            "parent_id": st.integers(-1, 2),
            "oca_type": st.integers(-1, 4),
            "oca_group": st.sampled_from(["", "g"]),
            "all_or_none": st.booleans(),
            "what_if": st.booleans(),
            "side": st.sampled_from(Side),
        }
    )
)
@settings(max_examples=300, deadline=None)
def test_any_order_is_taken_or_refused_and_the_account_stays_a_number(
    terms: dict[str, Any],
) -> None:
    prices = market()
    found = exchange(prices)

    told = found.place(ticket(**terms))
    play(prices, 5)
    told += found.on_time()

    assert told or not terms["what_if"]
    value = found.account.value()
    assert math.isfinite(value.equity)
    assert math.isfinite(value.margin)
    for event in told:
        if isinstance(event, StatusShown):
            assert 0 <= event.order.filled <= event.order.quantity
