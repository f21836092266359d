"""The exchange's memory: orders, executions and the counters of their ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from momentum_lab.gateway.orders import (
    CANCELLED,
    DONE,
    PENDING,
    REDUCE_RIVALS,
    Execution,
    Order,
    Ticket,
)

Key = tuple[int, int]
NEVER_NS = 2**63 - 1
FIRST_ORDER_ID = 1


class Books:
    """Every order and execution of the account; orders are replaced, never changed.

    Attributes:
        orders: (client id, order id) -> order, finished ones too, oldest first.
        executions: every fill, in time order.
        next_ids: client id -> lowest order id it may use next.
        last_perm_id: the permanent id given last.
        exec_prefix: first part of execution ids, different in every life of the account.
        n_executions: execution ids given so far.
    """

    def __init__(self, *, last_perm_id: int, exec_prefix: str) -> None:
        """Start empty."""
        self.orders: dict[Key, Order] = {}
        self.executions: list[Execution] = []
        self.next_ids: dict[int, int] = {}
        self.last_perm_id = last_perm_id
        self.exec_prefix = exec_prefix
        self.n_executions = 0
        self._live: dict[str, list[Key]] = {}
        # Whose new terms must not name a parent that has ended, and whether that is all clients.
        self.forgetful_ids: frozenset[int] = frozenset()
        self.is_forgetful = False
        # Whether children are grouped under their parent's permanent id, for good.
        self.renames_groups = False

    def next_order_id(self, client_id: int) -> int:
        """Return the lowest order id this client has never used."""
        return self.next_ids.get(client_id, FIRST_ORDER_ID)

    def draft(self, ticket: Ticket, *, now_ns: int, expires_ns: int) -> Order:
        """Return the order that a ticket would become, not kept and without a permanent id."""
        parent = self.parent_of(ticket)
        # Children of one parent are a group by themselves, as the broker shows it.
        family = str(parent.perm_id) if parent is not None and ticket.parent_id else ""
        is_renamed = bool(family) and self.renames_groups
        return Order(
            ticket=ticket,
            perm_id=0,
            status=PENDING,
            placed_ns=now_ns,
            expires_ns=expires_ns,
            quantity=_whole_shares(ticket.quantity),
            oca_group=family if is_renamed else ticket.oca_group or family,
            oca_type=REDUCE_RIVALS if is_renamed else ticket.oca_type or REDUCE_RIVALS,
        )

    def register(self, draft: Order) -> Order:
        """Give a new order its permanent id and keep it, not yet transmitted."""
        client_id, order_id = draft.key
        self.next_ids[client_id] = max(order_id + 1, self.next_order_id(client_id))
        self.last_perm_id += 1
        return self.store(replace(draft, perm_id=self.last_perm_id))

    def store(self, order: Order) -> Order:
        """Keep an order in place of its earlier self."""
        self.orders[order.key] = order
        keys = self._live.setdefault(order.symbol, [])
        if order.is_done and order.key in keys:
            keys.remove(order.key)
        elif not order.is_done and order.key not in keys:
            keys.append(order.key)
        return order

    def parent_of(self, ticket: Ticket) -> Order | None:
        """Return the parent that a ticket names, None where there is none."""
        return self.orders.get((ticket.client_id, ticket.parent_id))

    def forgets(self, client_id: int) -> bool:
        """Whether new terms of a client must not name a parent that has ended."""
        return self.is_forgetful or client_id in self.forgetful_ids

    def next_exec_id(self) -> str:
        """Return an execution id that has never been given."""
        self.n_executions += 1
        return f"{self.exec_prefix}.{self.n_executions:08x}.01.01"

    @property
    def is_live(self) -> bool:
        """Whether any order is not finished, untransmitted ones included."""
        return any(self._live.values())

    def has_live(self, symbol: str) -> bool:
        """Whether any order of one symbol is not finished."""
        return bool(self._live.get(symbol))

    def live_keys(self, symbol: str) -> list[Key]:
        """Return the unfinished orders of one symbol, oldest first."""
        return list(self._live.get(symbol, ()))

    def live(self, wanted: Callable[[Order], bool]) -> list[Order]:
        """Return the transmitted unfinished orders that are wanted, oldest first."""
        return [
            order
            for order in self.unfinished()
            if order.status not in {*DONE, PENDING} and wanted(order)
        ]

    def unfinished(self) -> Iterable[Order]:
        """Return every order that is not finished, oldest first within a symbol."""
        return [self.orders[key] for keys in self._live.values() for key in keys]

    def drop(self, order: Order, *, now_ns: int) -> None:
        """End an order that was never transmitted, of which nobody has heard and nobody will."""
        self.store(replace(order, status=CANCELLED, done_ns=now_ns))

    def forget_untransmitted(self) -> None:
        """Drop the orders that were never transmitted, as a restart of the gateway does."""
        for order in self.unfinished():
            if order.is_waiting:
                del self.orders[order.key]
                self._live[order.symbol].remove(order.key)
            elif order.held_back is not None:
                self.store(replace(order, held_back=None))

    def forget_finished(self, before_ns: int) -> None:
        """Drop the orders that were finished before an instant and that no live one needs."""
        needed = {(o.ticket.client_id, o.ticket.parent_id) for o in self.unfinished()}
        for order in list(self.orders.values()):
            if order.is_done and order.done_ns < before_ns and order.key not in needed:
                del self.orders[order.key]

    def restore(self, orders: Iterable[Order]) -> None:
        """Take over saved orders; the untransmitted ones are lost with a gateway's restart."""
        for order in orders:
            if not order.is_waiting:
                self.store(order)


def _whole_shares(quantity: float) -> int:
    """Return the shares of a ticket; one that is refused may ask for what are none."""
    return max(0, int(quantity)) if math.isfinite(quantity) else 0
