"""The checklist between a socket and OPERATIONAL: each item its own request and end mark.

The library's own start-up requests are not made: its `connectedEvent` fires although they timed
out. Everything is asked for here, one after the other (the library loses the first of two equal
requests that overlap), each within a time limit. A failed item keeps the connection out of
OPERATIONAL and is named, but for the completed orders, which a gateway may never answer; how long
each item took is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import ib_insync

from momentum_lab.clock import transport_s
from momentum_lab.core.position import Fill
from momentum_lab.errors import BrokerError, ConnectionLostError, DataError, ParameterError
from momentum_lab.live.ibkr.asking import ask
from momentum_lab.live.ibkr.completed_orders import CompletedOrders
from momentum_lab.live.ibkr.liveness import Liveness
from momentum_lab.live.ibkr.translate import fill_of, is_ours
from momentum_lab.parameters import UNREAL_ACCOUNTS, Parameters

PAPER_PREFIX = "DU"

# A TWS that sends times in the zone of the instrument is known never to end this list.
_ZONE_HINT = (
    "if it stays so, set in TWS, API settings: Send instrument-specific attributes for dual-mode"
    " API client in: UTC format"
)


@dataclass(frozen=True, slots=True)
class BrokerSnapshot:
    """What the broker holds, asked for after the connection was made.

    Attributes:
        account: the account that is traded.
        server_ns: the broker's time.
        positions: con_id -> signed shares of the account, asked for last.
        positions_before: the same, asked for first: a fill meanwhile is in one of the two.
        open_orders: our reference -> status text, all clients.
        completed_orders: our reference -> status text, today; None where the broker did not answer.
            Nothing may be concluded from that.
        fills: our executions since the broker's midnight, which is as far back as it remembers.
        foreign_fills: those of the same account that carry no reference of ours, e.g. by hand.
        names: con_id -> what a person calls it, of all positions.
    """

    account: str
    server_ns: int
    positions: dict[int, float]
    positions_before: dict[int, float]
    open_orders: dict[str, str]
    completed_orders: dict[str, str] | None
    fills: tuple[Fill, ...]
    foreign_fills: tuple[Fill, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the broker holds now, without how it came to that.

    Attributes:
        positions: con_id -> signed shares of the account.
        open_orders: our reference -> shares that have been filled, all clients.
    """

    positions: dict[int, float]
    open_orders: dict[str, float]


@dataclass(frozen=True, slots=True)
class Checked:
    """One item of the checklist that has been dealt with.

    Attributes:
        item: its name.
        took_s: transport time.
        words: what was found, where there is something to say.
    """

    item: str
    took_s: float
    words: str = ""


class Checklist:
    """What a synchronisation has to know, item by item.

    Attributes:
        done: the items so far, in order.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.done: list[Checked] = []

    @contextmanager
    def item(self, name: str) -> Iterator[list[str]]:
        """Deal with one item inside the block; what is appended to the value are its words.

        A `BrokerError` or `ParameterError` of the block is kept as the item's words and goes on.
        """
        began_s, words = transport_s(), list[str]()
        try:
            yield words
        except (BrokerError, ParameterError) as error:
            words.append(f"failed: {error}")
            raise
        finally:
            self.done.append(Checked(name, transport_s() - began_s, "; ".join(words)))

    def __str__(self) -> str:
        """Return the items with their times in one line."""
        return ", ".join(
            f"{one.item} {one.took_s:.3f} s" + (f" ({one.words})" if one.words else "")
            for one in self.done
        )


def choose_account(managed: list[str], parameters: Parameters) -> str:
    """Return the account to trade.

    Raises:
        ParameterError: none, not the wanted one, several to choose from, or not a paper account
            although the mode is paper or replay, or one although it is live.
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
    where = f"{parameters.connection.host}:{parameters.connection.port}"
    if parameters.mode == "live" and account.startswith(UNREAL_ACCOUNTS):
        raise ParameterError(
            f"mode live trades only in a live account: the gateway at {where} is logged in to an"
            f" account that begins with {account[:2]!r}, a paper account"
        )
    if parameters.mode in ("paper", "replay") and not account.startswith(PAPER_PREFIX):
        raise ParameterError(
            f"mode {parameters.mode} trades only in a paper account ({PAPER_PREFIX}...): the"
            f" gateway at {where} is logged in to an account that begins with {account[:1]!r}"
        )
    return account


async def take_snapshot(
    ib: ib_insync.IB,
    liveness: Liveness,
    checklist: Checklist,
    completed_orders: CompletedOrders,
    *,
    parameters: Parameters,
) -> BrokerSnapshot:
    """Ask for everything that must be known before anything is sent.

    Args:
        ib: the connection.
        liveness: asks for the time, spaced as the broker wants it, and for the account.
        checklist: each item is entered here.
        completed_orders: asks for the list that may stay unknown.
        parameters: the checked set.

    Raises:
        ParameterError: the account is refused; trying again would not help.
        ConnectionLostError: an item was not answered.
        BrokerError: an item was refused, or the clocks differ too much.
    """
    timeout_s = parameters.connection.request_timeout_s
    with checklist.item("server time") as words:
        server_ns = await liveness.time(timeout_s)
        words.append(f"ours is {liveness.skew_s:+.1f} s")
        if liveness.has_wrong_clock:
            raise BrokerError(
                f"this machine's clock differs by {abs(liveness.skew_s):.1f} s from the broker's,"
                f" at most {parameters.connection.max_clock_skew_s:g} s are allowed: set it (NTP)"
            )
    with checklist.item("account values"):
        await liveness.ask_account()
    return await ask_for_books(
        ib,
        checklist,
        completed_orders,
        account=liveness.account,
        server_ns=server_ns,
        timeout_s=timeout_s,
    )


async def ask_for_holdings(ib: ib_insync.IB, *, account: str, timeout_s: float) -> Holdings:
    """Ask for positions and open orders only: what a sound record agrees with at a glance.

    Args:
        ib: the connection.
        account: the account that is traded.
        timeout_s: how long each answer may take.

    Raises:
        ConnectionLostError: an item was not answered.
    """
    positions = await ask("positions", ib.reqPositionsAsync, timeout_s=timeout_s)
    open_orders = await ask("open orders", ib.reqAllOpenOrdersAsync, timeout_s=timeout_s)
    filled = {
        trade.order.orderRef: trade.orderStatus.filled
        for trade in still_open(open_orders)
        if trade.order.orderRef
    }
    return Holdings(held(positions, account), filled)


async def ask_for_books(
    ib: ib_insync.IB,
    checklist: Checklist,
    completed_orders: CompletedOrders,
    *,
    account: str,
    server_ns: int,
    timeout_s: float,
) -> BrokerSnapshot:
    """Ask for positions, orders and executions: what a record is compared with.

    Args:
        ib: the connection.
        checklist: each item is entered here.
        completed_orders: asks for the list that may stay unknown.
        account: the account that is traded.
        server_ns: the broker's time, as known.
        timeout_s: how long each answer may take.

    Raises:
        ConnectionLostError: an item other than the completed orders was not answered.
    """
    with checklist.item("positions"):
        positions = await ask("positions", ib.reqPositionsAsync, timeout_s=timeout_s)
    with checklist.item("open orders") as words:
        open_orders = await ask("open orders", ib.reqAllOpenOrdersAsync, timeout_s=timeout_s)
        words.append(f"{len(open_orders)}")
    with checklist.item("completed orders") as words:
        completed = await completed_orders.ask(ib, timeout_s=timeout_s)
        if completed is None:
            words.append("no answer: unknown")
    with checklist.item("executions") as words:
        fills = await _ask_for_executions(ib, timeout_s=timeout_s)
        words.append(f"{len(fills)}")
    with checklist.item("positions again"):
        later = await ask("positions", ib.reqPositionsAsync, timeout_s=timeout_s)
    return BrokerSnapshot(
        account=account,
        server_ns=server_ns,
        positions=held(later, account),
        positions_before=held(positions, account),
        open_orders=_by_ref(still_open(open_orders)),
        completed_orders=completed,
        fills=tuple(fill_of(fill) for fill in fills if is_ours(fill)),
        foreign_fills=_foreign(fills, account),
        names={row.contract.conId: _name_of(row.contract) for row in (*positions, *later)},
    )


async def _ask_for_executions(ib: ib_insync.IB, *, timeout_s: float) -> list[ib_insync.Fill]:
    """Return the day's executions; where they are not answered, say what is known to help."""
    try:
        return await ask("the list of executions", ib.reqExecutionsAsync, timeout_s=timeout_s)
    except ConnectionLostError as error:
        if not ib.isConnected():
            raise
        raise ConnectionLostError(f"{error}; {_ZONE_HINT}") from error


def held(rows: list[ib_insync.Position], account: str) -> dict[int, float]:
    """Return con_id -> signed shares of one account; what is flat is left out."""
    return {
        row.contract.conId: row.position for row in rows if row.account == account and row.position
    }


def _name_of(contract: ib_insync.Contract) -> str:
    """Return a stock's symbol; what else is held of the same symbol is told apart from it."""
    is_stock = contract.secType == "STK"
    return contract.symbol if is_stock else contract.localSymbol or contract.symbol


def _foreign(fills: list[ib_insync.Fill], account: str) -> tuple[Fill, ...]:
    """Return the account's executions that are not ours; what makes no sense is left out."""
    found = []
    for fill in fills:
        if is_ours(fill) or fill.execution.acctNumber != account:
            continue
        with suppress(DataError):
            found.append(fill_of(fill))
    return tuple(found)


def still_open(trades: list[ib_insync.Trade]) -> list[ib_insync.Trade]:
    """Return the orders of a list that are open now.

    The library writes what it hears into the list that it gave, so that an order which ends while
    the rest is asked for stands in it as ended.
    """
    return [trade for trade in trades if not trade.isDone()]


def _by_ref(trades: list[ib_insync.Trade]) -> dict[str, str]:
    return {
        trade.order.orderRef: trade.orderStatus.status for trade in trades if trade.order.orderRef
    }
