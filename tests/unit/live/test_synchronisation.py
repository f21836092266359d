"""What the broker's lists say by the time that all of them have been asked for."""

from __future__ import annotations

import ib_insync
import pytest

from momentum_lab.live.ibkr.synchronisation import still_open


@pytest.mark.parametrize(
    ("status", "is_open"),
    [
        ("PendingSubmit", True),
        ("PreSubmitted", True),
        ("Submitted", True),
        ("PendingCancel", True),
        ("Filled", False),
        ("Cancelled", False),
        ("Inactive", True),
    ],
)
def test_an_order_that_ends_while_the_rest_is_asked_for_is_not_open(
    status: str, is_open: bool
) -> None:
    trade = ib_insync.Trade(orderStatus=ib_insync.OrderStatus(status=status))

    assert still_open([trade]) == ([trade] if is_open else [])
