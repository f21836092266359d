"""New terms for orders that live already, as functions of values.

A size that is sent is that of the whole order, also where partial fills of its group have left
less. But of a child whose parent still fills the broker keeps the size: who sends the one that was
told, or the whole one, does not mean to change it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from momentum_lab.gateway.checks import rejected
from momentum_lab.gateway.matching import share
from momentum_lab.gateway.orders import PENDING, Order, Ticket


def meant(known: Order, ticket: Ticket, parent: Order | None) -> Ticket:
    """Return new terms with the size that is wanted in the end."""
    if not _grows(known, parent) or ticket.quantity not in (known.quantity, known.ticket.quantity):
        return ticket
    return replace(ticket, quantity=known.ticket.quantity)


def changed(known: Order, ticket: Ticket, *, parent: Order | None, expires_ns: int) -> Order:
    """Return an order under new terms.

    Args:
        known: the order as it is.
        ticket: its new terms, as `meant`.
        parent: its parent, None without one.
        expires_ns: when it ends under the new terms.

    Raises:
        RefusedError: more has filled than the new size.
    """
    quantity = int(ticket.quantity)
    if parent is not None and _grows(known, parent):
        is_same = ticket.quantity == known.ticket.quantity
        new = share(replace(known, ticket=ticket), parent, parent.filled)
        quantity = known.quantity if is_same else new
    if quantity <= known.filled:
        raise rejected(f"{known.filled} shares have been filled already")
    return replace(
        known,
        ticket=ticket,
        quantity=quantity,
        oca_group=ticket.oca_group or known.oca_group,
        oca_type=ticket.oca_type or known.oca_type,
        rested_ns=0,
        stop_usd=known.stop_usd if _same_stop(known.ticket, ticket) else None,
        expires_ns=expires_ns,
    )


def shrunk(children: Iterable[Order], *, before: Order, after: Order) -> list[Order]:
    """Return the children of a parent that was made smaller than what they close together.

    Those of one group count once. Who wanted more than the parent from the beginning is left alone.
    """
    own = [child for child in children if child.ticket.side is not after.ticket.side]
    largest: dict[str | tuple[int, int], int] = {}
    for child in own:
        group = child.oca_group or child.key
        largest[group] = max(largest.get(group, 0), int(child.ticket.quantity))
    total = sum(largest.values())
    if not after.quantity < total <= before.quantity:
        return []
    return [
        _shrunk(child, max(1, int(child.ticket.quantity) * after.quantity // total), before, after)
        for child in own
    ]


def _shrunk(child: Order, size: int, before: Order, after: Order) -> Order:
    smaller = replace(child, ticket=replace(child.ticket, quantity=size))
    if child.status == PENDING or child.why_held == "child":
        return replace(smaller, quantity=size)
    # It works for the same fills of its parent, and what its group has taken stays taken.
    grown = share(smaller, after, after.filled) - share(child, before, before.filled)
    return replace(smaller, quantity=child.quantity + max(0, grown))


def _grows(known: Order, parent: Order | None) -> bool:
    """Whether an order is a child that grows with the fills of its parent."""
    is_filling = parent is not None and parent.filled > 0 and not parent.is_done
    return is_filling and not known.is_waiting


def _same_stop(one: Ticket, other: Ticket) -> bool:
    return (one.order_type, one.stop_usd, one.trail_percent, one.trail_stop_usd) == (
        other.order_type,
        other.stop_usd,
        other.trail_percent,
        other.trail_stop_usd,
    )
