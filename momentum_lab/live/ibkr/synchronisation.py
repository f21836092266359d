"""The checklist between a socket and OPERATIONAL: each item its own request and end mark.

The library's `connectedEvent` proves nothing: it fires although start-up requests timed out. So
everything is asked again here, one after the other (the library loses the first of two equal
requests that overlap), each within a time limit. A failed item keeps the connection out of
OPERATIONAL and is named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import ib_insync

from momentum_lab.clock import Clock
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.position import Fill
from momentum_lab.errors import BrokerError, ConnectionLostError, ParameterError
from momentum_lab.live.ibkr.translate import epoch_ns, fill_of, is_ours
from momentum_lab.parameters import Parameters

T = TypeVar("T")
_PAPER_PREFIX = "DU"


@dataclass(frozen=True, slots=True)
class BrokerSnapshot:
    """What the broker holds, asked for after the connection was made.

    Attributes:
        account: the account that is traded.
        server_ns: the broker's time.
        positions: con_id -> signed shares of the account, asked for last.
        positions_before: the same, asked for first: a fill meanwhile is in one of the two.
        open_orders: our reference -> status text, all clients.
        completed_orders: our reference -> status text, today.
        fills: our executions since the broker's midnight.
    """

    account: str
    server_ns: int
    positions: dict[int, float]
    positions_before: dict[int, float]
    open_orders: dict[str, str]
    completed_orders: dict[str, str]
    fills: tuple[Fill, ...]


async def ask(what: str, request: Callable[[], Awaitable[T]], *, timeout_s: float) -> T:
    """Return the answer to one request.

    Raises:
        ConnectionLostError: no answer in time, or the socket broke; names the request.
        BrokerError: the broker refused it; names the request and the broker's words.
    """
    try:
        with anyio.fail_after(timeout_s):
            return await request()
    except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
        raise ConnectionLostError(f"{what}: no answer within {timeout_s:g} s") from None
    except ConnectionError as error:
        raise ConnectionLostError(f"{what}: {error}") from error
    except ib_insync.RequestError as error:
        raise BrokerError(f"{what}: the broker answered {error.code} {error.message}") from error


def choose_account(managed: list[str], parameters: Parameters) -> str:
    """Return the account to trade.

    Raises:
        ParameterError: none, not the wanted one, several to choose from, or not a paper account
            although the mode is not live.
    """
    accounts = [account for account in managed if account]
    wanted = parameters.account
    if wanted and wanted not in accounts:
        raise ParameterError(f"account: {wanted!r} is not one of this login's {len(accounts)}")
    if not wanted and len(accounts) != 1:
        raise ParameterError(
            f"account: this login has {len(accounts)} accounts, expected one to be named"
        )
    account = wanted or accounts[0]
    if parameters.mode != "live" and not account.startswith(_PAPER_PREFIX):
        raise ParameterError(
            f"mode {parameters.mode} trades only in a paper account ({_PAPER_PREFIX}...): the"
            f" gateway at {parameters.connection.host}:{parameters.connection.port} is logged in"
            f" to an account that begins with {account[:1]!r}"
        )
    return account


async def server_time_ns(ib: ib_insync.IB, *, timeout_s: float) -> int:
    """Return the broker's time, whole seconds as UTC epoch nanoseconds."""
    return epoch_ns(await ask("server time", ib.reqCurrentTimeAsync, timeout_s=timeout_s))


async def take_snapshot(ib: ib_insync.IB, parameters: Parameters, clock: Clock) -> BrokerSnapshot:
    """Ask for everything that must be known before anything is sent.

    Raises:
        ParameterError: the account is refused; trying again would not help.
        ConnectionLostError: an item was not answered.
        BrokerError: an item was refused, or the clocks differ too much.
    """
    timeout_s = parameters.connection.request_timeout_s
    account = choose_account(list(ib.managedAccounts()), parameters)
    server_ns = await server_time_ns(ib, timeout_s=timeout_s)
    clock.observe(server_ns)
    _check_skew(clock.now_ns() - server_ns, clock, parameters)
    positions = await ask("positions", ib.reqPositionsAsync, timeout_s=timeout_s)
    open_orders = await ask("open orders", ib.reqAllOpenOrdersAsync, timeout_s=timeout_s)
    completed = await ask(
        "completed orders", lambda: ib.reqCompletedOrdersAsync(False), timeout_s=timeout_s
    )
    fills = await ask("executions", ib.reqExecutionsAsync, timeout_s=timeout_s)
    later = await ask("positions", ib.reqPositionsAsync, timeout_s=timeout_s)
    return BrokerSnapshot(
        account=account,
        server_ns=server_ns,
        positions=_held(later, account),
        positions_before=_held(positions, account),
        open_orders=_by_ref(open_orders),
        completed_orders=_by_ref(completed),
        fills=tuple(fill_of(fill) for fill in fills if is_ours(fill)),
    )


def _check_skew(skew_ns: int, clock: Clock, parameters: Parameters) -> None:
    skew_s = abs(skew_ns) / NS_PER_S
    # The broker's time is cut to whole seconds, which alone makes up to one second.
    allowed_s = parameters.connection.max_clock_skew_s
    if not clock.is_replay and skew_s > allowed_s + 1:
        raise BrokerError(
            f"this machine's clock differs by {skew_s:.1f} s from the broker's, at most"
            f" {allowed_s:g} s are allowed: set it (NTP)"
        )


def _held(rows: list[ib_insync.Position], account: str) -> dict[int, float]:
    return {
        row.contract.conId: row.position for row in rows if row.account == account and row.position
    }


def _by_ref(trades: list[ib_insync.Trade]) -> dict[str, str]:
    return {
        trade.order.orderRef: trade.orderStatus.status for trade in trades if trade.order.orderRef
    }
