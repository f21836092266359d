"""What the account says about itself: texts under names, of which few are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from momentum_lab.errors import DataError
from momentum_lab.live.ibkr.translate import UNSET

_EQUITY, _BUYING_POWER, _CASH = "NetLiquidation", "BuyingPower", "TotalCashValue"


@dataclass(frozen=True, slots=True)
class Account:
    """What the account says about itself, US dollars.

    Attributes:
        equity_usd: net liquidation, None while unknown.
        buying_power_usd: None while unknown.
        cash_usd: None while unknown.
    """

    equity_usd: float | None
    buying_power_usd: float | None
    cash_usd: float | None = None


def account_of(values: Mapping[tuple[str, str], str]) -> Account:
    """Return equity, buying power and cash of an account's values; only US dollars are read.

    What is no number is not known.

    Args:
        values: (tag, currency) -> text, as the broker sends them.
    """
    return Account(
        equity_usd=_usd(values, _EQUITY),
        buying_power_usd=_usd(values, _BUYING_POWER),
        cash_usd=_usd(values, _CASH),
    )


def check_account_value(tag: str, currency: str, text: str) -> None:
    """Refuse a value of the account that is used here and cannot be read.

    Raises:
        DataError: it is not a number.
    """
    if currency == "USD" and tag in (_EQUITY, _BUYING_POWER, _CASH):
        _amount(tag, text)


def _usd(values: Mapping[tuple[str, str], str], tag: str) -> float | None:
    text = values.get((tag, "USD"))
    if text is None:
        return None
    try:
        found = _amount(tag, text)
    except DataError:
        # It was told when it was heard; who asks for the account may be closing a position.
        return None
    return found if math.isfinite(found) and abs(found) < UNSET else None


def _amount(tag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"account: expected a number for {tag}, found {text!r}") from None
