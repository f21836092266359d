"""New terms for orders that live already, as functions of values.

A size that is sent is that of the whole order, also where partial fills of its group have left
less. But of a child whose parent has filled the broker keeps the size: who sends the one that was
told, or the whole one, does not mean to change it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from momentum_lab.gateway.checks import rejected
from momentum_lab.gateway.matching import due
from momentum_lab.gateway.orders import PENDING, TRAILING, Order, Ticket


def meant(known: Order, ticket: Ticket, parent: Order | None) -> Ticket:
    """Return new terms with the size that is wanted in the end."""
    if not _is_fed(known, parent) or ticket.quantity not in (known.quantity, known.ticket.quantity):
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
    quantity, taken = _size(known, ticket, parent)
    if quantity <= known.filled:
        raise rejected(f"{known.filled} shares have been filled already")
    return replace(
        _watching(known, ticket),
        ticket=ticket,
        quantity=quantity,
        taken=taken,
        oca_group=ticket.oca_group or known.oca_group,
        oca_type=ticket.oca_type or known.oca_type,
        rested_ns=0,
        stop_usd=known.stop_usd if _same_stop(known.ticket, ticket) else None,
        expires_ns=expires_ns,
    )


def shrunk(children: Iterable[Order], *, before: Order, after: Order) -> list[Order]:
    """Return the children of a parent that was made smaller than what they close together.

    Those of one group count once, finished ones with what they have filled. Who wanted more than
    the parent from the beginning is left alone. One of size 0 has to end.
    """
    own = [child for child in children if child.ticket.side is not after.ticket.side]
    live = [child for child in own if not child.is_done]
    largest: dict[str | tuple[int, int], int] = {}
    for child in live:
        group = _group(child)
        largest[group] = max(largest.get(group, 0), int(child.ticket.quantity))
    total = sum(largest.values())
    # What one of a group has filled has been taken from the others, and is of their size.
    spent = sum(child.filled for child in own if _group(child) not in largest)
    room, had = (int(parent.ticket.quantity) - spent for parent in (after, before))
    if not room < total <= had:
        return []
    return [_shrunk(child, int(child.ticket.quantity) * room // total, after) for child in live]


def _group(child: Order) -> str | tuple[int, int]:
    return child.oca_group or child.key


def _shrunk(child: Order, size: int, parent: Order) -> Order:
    def fitted(ticket: Ticket) -> Ticket:
        return replace(ticket, quantity=min(ticket.quantity, size))

    smaller = replace(
        child,
        ticket=fitted(child.ticket),
        # Terms on their way were meant for the larger parent as well.
        changes=tuple(replace(change, ticket=fitted(change.ticket)) for change in child.changes),
        held_back=None if child.held_back is None else fitted(child.held_back),
    )
    if child.status == PENDING or child.why_held == "child":
        return replace(smaller, quantity=max(0, size - child.taken))
    # It works for the same fills of its parent, and what its group has taken stays taken.
    return replace(smaller, quantity=max(child.quantity, due(smaller, parent)))


def _size(known: Order, ticket: Ticket, parent: Order | None) -> tuple[int, int]:
    """Return for how many shares an order works under new terms, and what is taken of them."""
    if parent is None or not _is_fed(known, parent):
        return int(ticket.quantity), 0
    if ticket.quantity == known.ticket.quantity:
        return known.quantity, known.taken
    if parent.is_done:
        return int(ticket.quantity), 0
    wanted = due(replace(known, ticket=ticket), parent)
    if wanted <= 0 and known.why_held == "child":
        wanted = int(ticket.quantity) - known.taken
    return wanted, known.taken


def _is_fed(known: Order, parent: Order | None) -> bool:
    """Whether an order is a child that has the size of what its parent has filled."""
    return parent is not None and parent.filled > 0 and not known.is_waiting


def _watching(known: Order, ticket: Ticket) -> Order:
    """Return an order that knows since when, under new terms, it looks at prices."""
    old = known.ticket
    is_alike = (old.order_type, old.good_after_ns, old.outside_rth) == (
        ticket.order_type,
        ticket.good_after_ns,
        ticket.outside_rth,
    )
    if is_alike and _same_stop(old, ticket):
        # Who only asks for another size has waited with the same eyes all the time.
        return known
    # One that waited for its parent or for its time has stood nowhere yet.
    has_stood = known.works_ns > 0 and not known.wakes_ns
    is_moved = is_alike and has_stood and ticket.order_type not in TRAILING
    return replace(
        known,
        works_ns=0,
        stood_ns=known.works_ns if is_moved else 0,
        stood_usd=known.stop_usd if is_moved else None,
    )


def _same_stop(one: Ticket, other: Ticket) -> bool:
    return (one.order_type, one.stop_usd, one.trail_percent, one.trail_stop_usd) == (
        other.order_type,
        other.stop_usd,
        other.trail_percent,
        other.trail_stop_usd,
    )
