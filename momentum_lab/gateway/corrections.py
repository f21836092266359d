"""Executions that an exchange corrects, because it has erred."""

from __future__ import annotations

from dataclasses import replace

from momentum_lab.gateway.account import Account
from momentum_lab.gateway.orders import (
    AccountChanged,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    Execution,
    PositionChanged,
)
from momentum_lab.gateway.refusal import RefusedError

NO_EXECUTION = 10147


def correct(account: Account, exec_id: str, *, price_usd: float) -> list[ExchangeEvent]:
    """Replace the price of an execution, and with it the averages of its order.

    The corrected execution has the same id but for its last part, which counts corrections.

    Raises:
        RefusedError: there is no such execution.
    """
    fills, ledger = account.books.executions, account.ledger
    place = next((n for n, item in enumerate(fills) if item.exec_id == exec_id), None)
    if place is None:
        raise RefusedError(NO_EXECUTION, f"no execution {exec_id}")
    wrong = fills[place]
    stem, _, number = exec_id.rpartition(".")
    fills[place] = replace(wrong, exec_id=f"{stem}.{int(number) + 1:02d}", price_usd=price_usd)
    ledger.cash_usd += wrong.side.sign * wrong.shares * (wrong.price_usd - price_usd)
    of_symbol = [n for n, fill in enumerate(fills) if fill.symbol == wrong.symbol]
    again = ledger.replay(wrong.symbol, [fills[n] for n in of_symbol])
    for n, fill in zip(of_symbol, again, strict=True):
        fills[n] = fill
    _average_anew(account, wrong)
    return [
        Executed(fills[place]),
        CommissionCharged(fills[place]),
        PositionChanged(ledger.position(wrong.symbol)),
        AccountChanged(),
    ]


def _average_anew(account: Account, wrong: Execution) -> None:
    """Count the averages of an order and its fills anew, after one price has changed."""
    books, paid_usd, last_usd = account.books, 0.0, 0.0
    for place, fill in enumerate(books.executions):
        if fill.perm_id == wrong.perm_id:
            paid_usd, last_usd = paid_usd + fill.shares * fill.price_usd, fill.price_usd
            books.executions[place] = replace(fill, average_usd=paid_usd / fill.cumulative)
    order = books.orders.get((wrong.client_id, wrong.order_id))
    # One of an earlier date is forgotten, and its id may be another's since a restart.
    if order is not None and order.perm_id == wrong.perm_id:
        average_usd = paid_usd / order.filled
        books.store(replace(order, average_usd=average_usd, last_usd=last_usd))
