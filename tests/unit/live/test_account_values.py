from __future__ import annotations

import pytest

from momentum_lab.live.ibkr.account_values import Account, account_of


@pytest.mark.parametrize("others", ["BASE", "EUR"])
def test_a_ledger_of_another_currency_is_not_taken_for_dollars(others: str) -> None:
    values = {
        ("NetLiquidation", "USD"): "1000.00",
        ("BuyingPower", "USD"): "4000.00",
        ("TotalCashValue", "USD"): "900.00",
    }
    ledger = {
        ("NetLiquidation", others): "1.00",
        ("NetLiquidationByCurrency", "USD"): "2.00",
        ("TotalCashBalance", "USD"): "3.00",
        ("TotalCashValue", others): "4.00",
    }
    assert account_of({**values, **ledger}) == Account(1000.0, 4000.0, 900.0)
    assert account_of(ledger) == Account(None, None, None)
