"""What protects an entry at the broker, as orders and as rows of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from momentum_lab.core.market import Side
from momentum_lab.core.order import OrderIntent, OrderPurpose, OrderState, OrderType
from momentum_lab.core.position import ExitReason
from momentum_lab.records.ledger import Row

# So often a stop may be refused, or a change go unheard, before more is done about it.
MOST_ATTEMPTS = 3


def children_of(entry: OrderIntent) -> tuple[OrderIntent, ...]:
    """Return stop and target of an entry, in one group, good until cancelled."""
    levels = entry.levels
    if levels is None:
        return ()
    child = partial(
        OrderIntent,
        symbol=entry.symbol,
        con_id=entry.con_id,
        side=entry.side.opposite,
        shares=entry.shares,
        created_ns=entry.created_ns,
        decision_id=entry.decision_id,
        bid=entry.bid,
        ask=entry.ask,
        tif="GTC",
        oca_group=entry.order_ref,
        parent_ref=entry.order_ref,
    )
    stop = child(
        order_ref=f"{entry.order_ref}-sl",
        purpose=OrderPurpose.STOP,
        order_type=OrderType.STOP,
        stop_price=levels.stop,
        exit_reason=ExitReason.STOP_LOSS,
    )
    target = child(
        order_ref=f"{entry.order_ref}-tp",
        purpose=OrderPurpose.TARGET,
        order_type=OrderType.LIMIT,
        limit_price=levels.target,
        exit_reason=ExitReason.TAKE_PROFIT,
    )
    return stop, target


def is_open(row: Row) -> bool:
    """Whether the end of an order is not known."""
    return not OrderState(row["state"]).is_final


def stops_of(family: list[Row]) -> list[Row]:
    """Return the stops of an entry, ended ones too."""
    return [row for row in family if row["purpose"] == OrderPurpose.STOP.value]


def is_hopeless(family: list[Row], exits: list[Row]) -> bool:
    """Whether so many stops were refused or ended that one more would not work either.

    Args:
        family: an entry and what protects it.
        exits: the client's own exits: after one that was refused we cancel a stop ourselves.
    """
    stops = stops_of(family)
    vanished = len(stops) - _n_refused(exits)
    return _n_refused(stops) >= MOST_ATTEMPTS or vanished > 2 * MOST_ATTEMPTS


def _n_refused(orders: list[Row]) -> int:
    return sum(row["state"] == OrderState.REJECTED.value for row in orders)


class Group(NamedTuple):
    """Orders that reduce each other at the broker.

    Attributes:
        name: as it was sent with its first members, None for no group.
        members: references of its orders, none where it is new.
    """

    name: str | None
    members: tuple[str, ...] = ()


NO_GROUP = Group(None)


def group_of(family: Iterable[Row], filled_shares: Callable[[str], float]) -> Group:
    """Return the group that a new order of a trade must join, `NO_GROUP` where there is none.

    Also when nothing seems to work in it: what we take for ended may live at the broker, and
    takes from the new order what it fills. But a group that has filled takes nobody any more.

    Args:
        family: stops, targets and exits of the trade.
        filled_shares: of an order, by its reference.
    """
    rows = [row for row in family if row["oca_group"]]
    if not rows:
        return NO_GROUP
    groups = list(dict.fromkeys(row["oca_group"] for row in rows))
    newest: str = _newest(rows)["oca_group"]
    members = [row for row in rows if row["oca_group"] == newest]
    if _is_over(members, filled_shares):
        return Group(f"{groups[0]}-g{len(groups) + 1}")
    return Group(newest, tuple(row["order_ref"] for row in members))


def _is_over(members: list[Row], filled_shares: Callable[[str], float]) -> bool:
    """Whether a group takes nobody any more: filled, and nothing in it may still live."""
    if any(map(is_open, members)):
        return False
    if not any(filled_shares(row["order_ref"]) for row in members):
        return False
    states = {OrderState(row["state"]) for row in members}
    # Only the broker's lists spoke of those that are absent, and a list may lack something.
    return (
        OrderState.FILLED in states
        or OrderState.ABSENT not in states
        or _newest(members)["state"] == OrderState.CANCELLED.value
    )


def _newest(rows: list[Row]) -> Row:
    return max(rows, key=lambda row: row["created_ns"])


def was_held_back(family: list[Row]) -> bool:
    """Whether the last of a family was refused before the broker let any of it out.

    The last one transmits the others: without it they lie at the broker, in no list of its.
    """
    entry, last = family[0], family[-1]
    return (
        is_open(entry)
        and entry["acknowledged_ns"] is None
        and last["state"] == OrderState.REJECTED.value
    )


def intent_of(row: Row) -> OrderIntent:
    """Return what a protective order was meant to be."""
    return OrderIntent(
        order_ref=row["order_ref"],
        symbol=row["symbol"],
        con_id=row["con_id"],
        side=Side(row["side"]),
        shares=row["shares"],
        created_ns=row["created_ns"],
        purpose=OrderPurpose(row["purpose"]),
        decision_id=row["decision_id"],
        order_type=OrderType(row["order_type"]),
        tif=row["tif"],
        limit_price=row["limit_price"],
        stop_price=row["stop_price"],
        oca_group=row["oca_group"],
    )
