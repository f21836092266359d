from __future__ import annotations

from dataclasses import replace

import pytest

from momentum_lab.core.market import Instrument
from momentum_lab.gateway.price_steps import PENNY_RULE, is_on_grid, rules_of, steps_of
from tests.gateway_factories import IBM, SPY

LOW = replace(IBM, tick_usd=0.0001)
COARSE = replace(IBM, tick_usd=0.05)


@pytest.mark.parametrize(
    ("instrument", "price_usd", "is_valid"),
    [
        *((LOW, 0.5123, True), (LOW, 0.51235, False), (LOW, 0.9999, True)),
        *((LOW, 1.0, True), (LOW, 1.0001, False), (LOW, 23.57, True)),
        *((SPY, 0.5123, False), (SPY, 0.51, True), (SPY, 170.01, True)),
        *((COARSE, 20.05, True), (COARSE, 20.01, False)),
    ],
)
def test_a_price_is_valid_on_the_steps_of_its_height(
    instrument: Instrument, price_usd: float, is_valid: bool
) -> None:
    assert is_on_grid(instrument, price_usd) is is_valid


def test_each_kind_of_steps_has_its_own_rule() -> None:
    rules = rules_of([SPY, LOW, IBM, COARSE])
    assert rules[steps_of(SPY)] == PENNY_RULE
    assert len(set(rules.values())) == len(rules) == 3
    assert steps_of(LOW) == ((0.0, 0.0001), (1.0, 0.01))
