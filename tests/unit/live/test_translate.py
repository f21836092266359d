"""The broker's values as ours."""

from __future__ import annotations

import ib_insync
import pytest

from momentum_lab.errors import DataError
from momentum_lab.live.ibkr.translate import instrument_of


def details(min_tick: float) -> ib_insync.ContractDetails:
    stock = ib_insync.Contract(secType="STK", symbol="PEN", conId=7, currency="USD")
    return ib_insync.ContractDetails(contract=stock, minTick=min_tick)


@pytest.mark.parametrize(("told", "kept"), [(0.01, 0.01), (0.0001, 0.01), (0.05, 0.05)])
def test_prices_are_whole_cents_also_where_cheaper_shares_have_finer_steps(
    told: float, kept: float
) -> None:
    assert instrument_of(details(told)).tick_usd == kept


def test_an_instrument_without_a_price_step_is_refused() -> None:
    with pytest.raises(DataError, match="tick_usd"):
        instrument_of(details(0.0))
