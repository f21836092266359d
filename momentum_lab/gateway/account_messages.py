"""The account as the fields of protocol messages: values, holdings, profits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from momentum_lab.gateway.account import Account
from momentum_lab.gateway.catalog import contract_of
from momentum_lab.gateway.orders import Position
from momentum_lab.gateway.voice import Message

LEDGER = "$LEDGER"
ALL_LEDGERS = f"{LEDGER}:ALL"
# What the whole account is counted in, and what it holds.
LEDGER_CURRENCIES = ("BASE", "USD")


def position(account: Account, held: Position) -> dict[str, Any]:
    """Return the fields of position."""
    instrument = account.market.tape.instruments[held.symbol]
    return {
        "account": account.code,
        "contract": contract_of(instrument, exchange=instrument.primary_exchange),
        "position": held.quantity,
        "avg_cost": round(held.average_usd, 8),
    }


def portfolio(account: Account, held: Position) -> dict[str, Any]:
    """Return the fields of updatePortfolio."""
    mark = account.mark(held.symbol)
    price = held.average_usd if mark is None else mark
    return {
        "contract": contract_of(account.market.tape.instruments[held.symbol]),
        "position": held.quantity,
        "market_price": price,
        "market_value": round(held.quantity * price, 6),
        "average_cost": round(held.average_usd, 8),
        "unrealized_pnl": round(held.quantity * (price - held.average_usd), 6),
        "realized_pnl": round(account.realized_today_usd(held.symbol), 6),
        "account": account.code,
    }


def account_values(account: Account) -> dict[str, tuple[str, str]]:
    """Return account value key -> (value, currency), as texts."""
    value = account.value()
    money = {
        "NetLiquidation": value.equity,
        "TotalCashValue": value.cash,
        "SettledCash": value.cash,
        "AccruedCash": 0.0,
        "BuyingPower": value.buying_power,
        "EquityWithLoanValue": value.equity,
        "PreviousDayEquityWithLoanValue": account.ledger.opening_usd,
        "GrossPositionValue": value.gross_value,
        "RegTEquity": value.equity,
        "RegTMargin": value.gross_value / 2,
        "SMA": value.equity - value.gross_value / 2,
        "InitMarginReq": value.margin,
        "MaintMarginReq": value.margin,
        "AvailableFunds": value.available,
        "ExcessLiquidity": value.available,
        "CashBalance": value.cash,
        "StockMarketValue": value.position_value,
        "RealizedPnL": account.realized_today_usd(),
        "UnrealizedPnL": value.unrealized,
    }
    for prefix in ("Full", "LookAhead"):
        for key in ("InitMarginReq", "MaintMarginReq", "AvailableFunds", "ExcessLiquidity"):
            money[f"{prefix}{key}"] = money[key]
    cushion = value.available / value.equity if value.equity > 0 else 0.0
    leverage = value.gross_value / value.equity if value.equity > 0 else 0.0
    plain = {
        "AccountType": "INDIVIDUAL",
        "AccountCode": account.code,
        "AccountReady": "true",
        "Cushion": f"{cushion:.6f}",
        "Leverage": f"{leverage:.2f}",
        "DayTradesRemaining": "-1",
    }
    texts = {key: (f"{amount:.2f}", "USD") for key, amount in money.items()}
    return {**{key: (text, "") for key, text in plain.items()}, **texts}


def _updates(account: Account) -> list[tuple[str, str, str]]:
    """Return (key, value, currency) of everything an account tells: its values and its ledger."""
    found = {(key, currency): value for key, (value, currency) in account_values(account).items()}
    found |= {(key, currency): value for key, value, currency in _ledger_rows(account, ALL_LEDGERS)}
    return [(key, value, currency) for (key, currency), value in found.items()]


def account_updates(account: Account) -> Iterator[Message]:
    """Yield account values, holdings and the time, without an end mark."""
    for key, value, currency in _updates(account):
        values = {"key": key, "value": value, "currency": currency}
        yield "updateAccountValue", {**values, "account": account.code}
    for held in account.positions_today():
        yield "updatePortfolio", portfolio(account, held)
    yield (
        "updateAccountTime",
        {"time": f"{account.market.hours.local(account.market.now_ns):%H:%M}"},
    )


def account_multi(account: Account, req_id: int) -> Iterator[Message]:
    """Yield account values under a request id, without an end mark."""
    for key, value, currency in _updates(account):
        yield (
            "accountUpdateMulti",
            {
                "req_id": req_id,
                "account": account.code,
                "model_code": "",
                "key": key,
                "value": value,
                "currency": currency,
            },
        )


def account_summary(account: Account, req_id: int, tags: Iterable[str]) -> Iterator[Message]:
    """Yield the account values among `tags`, without an end mark; no tags means all."""
    known = account_values(account)
    for tag in tags or known:
        if tag.startswith(LEDGER):
            rows = _ledger_rows(account, tag)
        else:
            rows = [(tag, *known[tag])] if tag in known else []
        for name, value, currency in rows:
            values = {"req_id": req_id, "tag": name, "value": value, "currency": currency}
            yield "accountSummary", {**values, "account": account.code}


def _ledger_rows(account: Account, tag: str) -> list[tuple[str, str, str]]:
    """Return (name, value, currency) of a ledger: of the base currency, of all, or of one."""
    _, _, wanted = tag.partition(":")
    value = account.value()
    money = {
        "CashBalance": value.cash,
        "TotalCashBalance": value.cash,
        "AccruedCash": 0.0,
        "StockMarketValue": value.position_value,
        "NetLiquidationByCurrency": value.equity,
        "UnrealizedPnL": value.unrealized,
        "RealizedPnL": account.realized_today_usd(),
        "ExchangeRate": 1.0,
    }
    texts = {key: f"{amount:.2f}" for key, amount in money.items()}
    texts["AccountOrGroup"] = account.code
    return [
        (key, text, currency)
        for currency in LEDGER_CURRENCIES
        if wanted in ("ALL", currency) or (not wanted and currency == LEDGER_CURRENCIES[0])
        for key, text in {**texts, "Currency": currency, "RealCurrency": currency}.items()
    ]


def pnl(account: Account, req_id: int) -> dict[str, Any]:
    """Return the fields of pnl."""
    value = account.value()
    return {
        "req_id": req_id,
        "daily_pnl": round(value.equity - account.ledger.opening_usd, 6),
        "unrealized_pnl": round(value.unrealized, 6),
        "realized_pnl": round(account.realized_today_usd(), 6),
    }


def pnl_single(account: Account, req_id: int, symbol: str) -> dict[str, Any]:
    """Return the fields of pnlSingle; nothing is realized before the day's first fill."""
    held = account.ledger.position(symbol)
    values = portfolio(account, held)
    has_traded = any(fill.symbol == symbol for fill in account.executions_today())
    return {
        "req_id": req_id,
        "position": values["position"],
        "daily_pnl": round(values["market_value"] - _paid_usd(account, held), 6),
        "unrealized_pnl": values["unrealized_pnl"],
        "realized_pnl": values["realized_pnl"] if has_traded else None,
        "market_value": values["market_value"],
    }


def _paid_usd(account: Account, held: Position) -> float:
    """Return what a position cost today: its value as the day began, and the fills since."""
    fills = [item for item in account.executions_today() if item.symbol == held.symbol]
    began = held.quantity - sum(item.side.sign * item.shares for item in fills)
    close_usd = account.market.previous_close(held.symbol)
    began_usd = began * (held.average_usd if close_usd is None else close_usd)
    return began_usd + sum(
        item.side.sign * item.shares * item.price_usd + item.commission_usd for item in fills
    )
