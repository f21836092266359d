"""Checks of the account: its kind, its dollars, and whether the API takes orders for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ib_insync

from momentum_lab.errors import BrokerError, ParameterError
from momentum_lab.live.finding import Finding, failure, fine, skipped, warning
from momentum_lab.live.ibkr.account_values import account_of, check_account_value
from momentum_lab.live.ibkr.asking import ask
from momentum_lab.live.ibkr.case import Case
from momentum_lab.live.ibkr.synchronisation import choose_account
from momentum_lab.live.ibkr.translate import UNSET
from momentum_lab.parameters import LIVE_PORTS, PAPER_PORTS, UNREAL_ACCOUNTS
from momentum_lab.records.trade_store import masked

# What the library and the broker write where a number is unknown.
_READ_ONLY = failure(
    "orders",
    "the API is in read-only mode, so every order would be refused",
    "Switch Read-Only API off in the gateway's API settings.",
)


def check_mode(case: Case) -> Sequence[Finding]:
    """Compare the mode with the port, which by the broker's defaults tells the kind of login."""
    mode, port = case.parameters.mode, case.parameters.connection.port
    usual = {
        "paper": (PAPER_PORTS, LIVE_PORTS, "a live login"),
        "shadow": ((), (), ""),
        "live": (LIVE_PORTS, PAPER_PORTS, "a paper login"),
        "replay": ((), PAPER_PORTS + LIVE_PORTS, "TWS or a real gateway"),
    }
    expected, others, what = usual[mode]
    if port in others:
        return [
            warning(
                "mode",
                f"mode is {mode}, and {port} is by default the port of {what}",
                "Compare mode and connection.port with the gateway that you mean.",
            )
        ]
    default = "" if port in expected or not expected else f", by default {expected[0]} or"
    default += f" {expected[1]}" if default else ""
    return [fine("mode", f"{mode}, at port {port}{default}")]


async def check_account(case: Case) -> Sequence[Finding]:
    """The account that would be traded exists, and its kind fits the mode."""
    managed = [account for account in case.ib.managedAccounts() if account]
    mode, wanted = case.parameters.mode, case.parameters.account
    try:
        account = choose_account(managed, case.parameters)
    except ParameterError as error:
        words = str(error).replace(wanted, masked(wanted)) if wanted else str(error)
        names = ", ".join(map(masked, managed)) or "none"
        return [
            failure(
                "account",
                f"{words.removeprefix('account: ')}; the login has {names}",
                "Correct account and mode in the parameter file, or log in as the other user.",
            )
        ]
    is_paper = account.startswith(UNREAL_ACCOUNTS)
    case.account = account
    kind = "paper" if is_paper else "live"
    return [fine("account", f"{masked(account)}, a {kind} account, as mode {mode} wants it")]


async def check_equity(case: Case) -> Sequence[Finding]:
    """Equity and buying power are told in US dollars, which sizes are computed from."""
    await ask(
        "account values",
        lambda: case.ib.reqAccountUpdatesAsync(case.account),
        timeout_s=case.timeout_s,
    )
    rows = case.ib.accountValues(case.account)
    for row in rows:
        check_account_value(row.tag, row.currency, row.value)
    told = account_of({(row.tag, row.currency): row.value for row in rows})
    if told.equity_usd is None or told.buying_power_usd is None:
        others = {row.currency for row in rows if row.tag == "NetLiquidation"} - {"USD", ""}
        found = f"it is told in {', '.join(sorted(others))}" if others else "it is not told"
        return [
            failure(
                "equity",
                f"expected net liquidation and buying power in USD, {found}",
                "Trade an account whose base currency is the US dollar.",
            )
        ]
    text = f"{told.equity_usd:,.0f} USD, buying power {told.buying_power_usd:,.0f} USD"
    if told.equity_usd > 0:
        return [fine("equity", text)]
    return [failure("equity", text, "Fund the account: without equity nothing can be sized.")]


async def check_orders(case: Case) -> Sequence[Finding]:
    """The API takes orders, as far as that can be told without placing one.

    A gateway in read-only mode refuses the list of open orders already, with an error that belongs
    to no request, and may then leave the request without an answer.

    Source: error 321 in erdewit/ib_insync issues 1 and 7, bankroll-py/bankroll issue 65.
    """
    try:
        await ask("open orders", case.ib.reqOpenOrdersAsync, timeout_s=case.timeout_s)
    except BrokerError:
        if not case.visit.is_read_only:
            raise
    if case.visit.is_read_only:
        return [_READ_ONLY]
    if not case.is_paper:
        return [
            warning(
                "orders",
                "open orders can be read; whether new ones are taken is unknown, as nothing is"
                " tried outside of a paper account",
                "See for yourself that Read-Only API is off in the gateway's API settings.",
            )
        ]
    if not case.contracts:
        return [skipped("orders", "needs one known symbol of the universe")]
    return [await _ask_what_if(case)]


async def _ask_what_if(case: Case) -> Finding:
    """Let the broker value an order that is never placed."""
    contract = case.contracts[0]
    order = ib_insync.MarketOrder(
        "BUY", 1, tif="DAY", outsideRth=False, account=case.account, transmit=True
    )
    try:
        state = await ask(
            "what-if order",
            lambda: case.ib.whatIfOrderAsync(contract, order),
            timeout_s=case.timeout_s,
        )
    except BrokerError as error:
        if case.visit.is_read_only:
            return _READ_ONLY
        return warning(
            "orders",
            f"a what-if order of 1 {contract.symbol} was not valued: {error}",
            "Look at the gateway's screen for a dialog, and at the account's permissions.",
        )
    margin = _dollars(state.initMarginChange)
    return fine(
        "orders", f"a what-if order of 1 {contract.symbol} was valued{margin}; nothing was placed"
    )


def _dollars(text: str) -> str:
    """Return a margin in words, nothing where the broker did not tell a number."""
    try:
        value = float(text)
    except ValueError:
        return ""
    is_told = math.isfinite(value) and abs(value) < UNSET
    return f" (margin {value:,.2f} USD)" if is_told else ""
