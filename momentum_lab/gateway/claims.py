"""What orders that still work lay claim to: shares to sell, cash to buy with, margin.

Of orders that exclude each other, for a fill of one takes from the others, one counts: the largest.
A child closes what its parent opens, so what the parent still brings is no claim of the child's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from momentum_lab.gateway.books import Key
from momentum_lab.gateway.matching import share
from momentum_lab.gateway.orders import LIMITED, PENDING, STOPS, TRAILING, Order

Orders = Mapping[Key, Order]


class Claim(NamedTuple):
    """What one order would take whole.

    Attributes:
        group: orders of one group exclude each other.
        parent: the parent that it closes, None without one.
        brought: what that parent still brings.
        amount: shares or US dollars; `brought` likewise.
    """

    group: str | Key
    parent: Key | None
    brought: float
    amount: float


def claim_of(order: Order, orders: Orders, *, unit: float = 1.0) -> Claim:
    """Return what an order lays claim to: the shares that it may still fill, each worth `unit`."""
    group = order.oca_group or order.key
    parent = orders.get((order.ticket.client_id, order.ticket.parent_id))
    if parent is None or parent.ticket.side is order.ticket.side:
        return Claim(group, None, 0.0, unit * order.remaining)
    brought = 0 if parent.is_done else parent.remaining
    return Claim(group, parent.key, unit * brought, unit * _shares_of_child(order, parent, brought))


def _shares_of_child(child: Order, parent: Order, brought: int) -> int:
    """Return the shares that a child may still fill once its parent has brought the rest."""
    coming = share(child, parent, parent.filled + brought) - child.taken - child.filled
    if child.status != PENDING and child.why_held != "child":
        # It works for what its parent has filled, and grows with what comes.
        return max(child.remaining, coming)
    if child.ticket.quantity <= parent.ticket.quantity:
        # What a group has taken from the parent, the child does not get either.
        return max(0, min(child.remaining, coming))
    return child.remaining


def versions(order: Order) -> list[Order]:
    """Return an order as it is, and under each of the terms that it may still get."""
    coming = [change.ticket for change in order.changes]
    coming += [] if order.held_back is None else [order.held_back]
    return [
        order,
        *(replace(order, ticket=new, quantity=int(new.quantity)) for new in coming),
    ]


def claimed(claims: Iterable[Claim]) -> float:
    """Return what claims come to together."""
    largest: dict[str | Key, Claim] = {}
    for claim in claims:
        known = largest.get(claim.group)
        # Of two alike the one counts that nothing is brought for.
        if known is None or _weight(claim) > _weight(known):
            largest[claim.group] = claim
    amounts: dict[Key | None, float] = {}
    brought: dict[Key | None, float] = {}
    for claim in largest.values():
        amounts[claim.parent] = amounts.get(claim.parent, 0.0) + claim.amount
        brought[claim.parent] = max(brought.get(claim.parent, 0.0), claim.brought)
    return sum(max(0.0, amount - brought[parent]) for parent, amount in amounts.items())


def _weight(claim: Claim) -> tuple[float, bool]:
    return claim.amount, claim.parent is None


def price_usd(order: Order, mark_usd: float | None) -> float:
    """Return what a share costs at most: the limit, or else the last price or the stop beyond it.

    0 where neither the market nor the order knows a price.
    """
    ticket = order.ticket
    if ticket.order_type in LIMITED and order.limit_usd is not None:
        return order.limit_usd
    stop_usd = ticket.stop_usd if ticket.order_type in STOPS - TRAILING else order.stop_usd
    return max(mark_usd or 0.0, stop_usd or 0.0)
