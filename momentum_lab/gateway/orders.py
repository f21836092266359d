"""Orders, executions and what is told about them: values, no behaviour.

Statuses are the broker's words. An order is live until its status is one of `DONE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from momentum_lab.core.market import Instrument, Side

PENDING = "PendingSubmit"
CANCELLING = "PendingCancel"
HELD = "PreSubmitted"
WORKING = "Submitted"
FILLED = "Filled"
CANCELLED = "Cancelled"
INACTIVE = "Inactive"
DONE = frozenset({FILLED, CANCELLED, INACTIVE})

ADDED_LIQUIDITY = 1
REMOVED_LIQUIDITY = 2


# Order types by what they become once their price is met, and whether they follow the price.
STOPS = frozenset({"STP", "STP LMT", "TRAIL", "TRAIL LIMIT"})
TOUCHES = frozenset({"MIT", "LIT"})
TRAILING = frozenset({"TRAIL", "TRAIL LIMIT"})
LIMITED = frozenset({"LMT", "STP LMT", "TRAIL LIMIT", "LIT", "LOC"})
AT_CLOSE = frozenset({"MOC", "LOC"})

CANCEL_RIVALS, REDUCE_RIVALS_BLOCKED, REDUCE_RIVALS = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a client asked for in one placeOrder message, for a known instrument.

    Attributes:
        quantity: shares; the exchange takes whole positive numbers only.
        order_type: one of `checks.ORDER_TYPES`; others are refused.
        limit_usd: price of a limit order.
        stop_usd: price of a stop or touch order; the distance of a trailing one, US dollars.
        trail_percent: distance of a trailing order in percent of the price.
        trail_stop_usd: where a trailing order's stop begins; from the market when None.
        limit_offset_usd: how far the limit of a trailing order lies beyond its stop.
        outside_rth: limits and stops may trade outside the regular session.
        order_ref: the client's own words, given back on every report.
        parent_id: order id of the parent on the same client, 0 without.
        oca_group: orders of one group cancel or reduce each other when one fills.
        oca_type: `CANCEL_RIVALS` and so on; 0 means `REDUCE_RIVALS`.
        all_or_none: no part of it may fill alone.
        good_after_ns: it works from here on, 0 at once.
        good_till_ns: end of an order of time in force GTD.
        transmit: False holds the order silently until its family is transmitted.
        what_if: only the margin is asked for.
        exchange: where the client sent it; it is told again and changes nothing.
        echoed: fields of the message that change nothing here and are told again, with values.
    """

    client_id: int
    order_id: int
    instrument: Instrument
    side: Side
    quantity: float
    order_type: str
    limit_usd: float | None = None
    stop_usd: float | None = None
    trail_percent: float | None = None
    trail_stop_usd: float | None = None
    limit_offset_usd: float | None = None
    tif: str = "DAY"
    outside_rth: bool = False
    order_ref: str = ""
    account: str = ""
    parent_id: int = 0
    oca_group: str = ""
    oca_type: int = 0
    all_or_none: bool = False
    good_after_ns: int = 0
    good_till_ns: int = 0
    transmit: bool = True
    what_if: bool = False
    exchange: str = "SMART"
    echoed: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """(client id, order id)."""
        return self.client_id, self.order_id


@dataclass(frozen=True, slots=True)
class Change:
    """New terms for a live order, on their way.

    Attributes:
        arrives_ns: market time at which they reach the exchange.
    """

    ticket: Ticket
    arrives_ns: int


@dataclass(frozen=True, slots=True)
class Order:
    """One order as the exchange holds it.

    Attributes:
        perm_id: unique per account for ever.
        quantity: shares in all, filled ones included: the ticket's, less what the fills of a
            group took away, or for a child what its parent has filled.
        taken: shares that the fills of its group took away under its present terms.
        filled: shares filled so far.
        average_usd: average fill price, 0 before the first.
        last_usd: price of the last fill, 0 before the first.
        commission_usd: charged so far.
        why_held: "child", "trigger" or "locate" while held, else empty.
        is_triggered: a stop or touch order has met its price.
        works_ns: since when it works under its present terms, or waits for their `good_after_ns`
            alone: it has arrived, its parent has filled; 0 before.
        stood_ns: since when it had worked as its stop was moved, `stood_usd` where that was; 0 and
            None without a move.
        rested_ns: since when it waits at its limit, for a quote did not reach it; 0 before.
        stop_usd: the stop as it stands now; that of a trailing order follows the price.
        oca_group: the group it belongs to, by its ticket or as a child; `oca_type` likewise.
        placed_ns: market time of the first message.
        arrives_ns: market time at which it reaches the exchange, 0 once it has.
        cancel_ns: market time at which its cancellation takes effect, 0 without one.
        changes: new terms on their way to the exchange, first come first.
        held_back: new terms that have not been transmitted.
        expires_ns: it ends here.
        done_ns: market time of the final status, 0 before.
        done_text: why it ended, for completed orders; empty of one that was never sent.
    """

    ticket: Ticket
    perm_id: int
    status: str
    placed_ns: int
    expires_ns: int
    quantity: int = 0
    taken: int = 0
    filled: int = 0
    average_usd: float = 0.0
    last_usd: float = 0.0
    commission_usd: float = 0.0
    why_held: str = ""
    is_triggered: bool = False
    works_ns: int = 0
    stood_ns: int = 0
    stood_usd: float | None = None
    rested_ns: int = 0
    stop_usd: float | None = None
    oca_group: str = ""
    oca_type: int = REDUCE_RIVALS
    arrives_ns: int = 0
    cancel_ns: int = 0
    changes: tuple[Change, ...] = ()
    held_back: Ticket | None = None
    done_ns: int = 0
    done_text: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """The order's identity while it lives: (client id, order id)."""
        return self.ticket.client_id, self.ticket.order_id

    @property
    def symbol(self) -> str:
        """The instrument's symbol."""
        return self.ticket.instrument.symbol

    @property
    def is_done(self) -> bool:
        """Whether the order can no longer fill."""
        return self.status in DONE

    @property
    def is_waiting(self) -> bool:
        """Whether it has not been transmitted yet."""
        return self.status == PENDING and not self.arrives_ns

    @property
    def wakes_ns(self) -> int:
        """When it begins to work by time alone, 0 where that has been or it waits for more."""
        waits_for_more = self.status in {*DONE, PENDING} or self.why_held == "child"
        is_awake = self.works_ns >= self.ticket.good_after_ns
        return 0 if waits_for_more or is_awake else self.ticket.good_after_ns

    @property
    def is_resting(self) -> bool:
        """Whether it waits at its limit: it adds liquidity."""
        return self.rested_ns > 0

    @property
    def remaining(self) -> int:
        """Shares still to be filled."""
        return self.quantity - self.filled

    @property
    def limit_usd(self) -> float | None:
        """The limit as it stands now: that of a trailing order lies beyond its stop."""
        ticket = self.ticket
        if ticket.order_type == "TRAIL LIMIT" and self.stop_usd is not None:
            offset_usd = ticket.limit_offset_usd or 0.0
            return ticket.instrument.nearest(self.stop_usd + ticket.side.sign * offset_usd)
        return ticket.limit_usd


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill.

    Attributes:
        exec_id: unique over days.
        at_ns: market time.
        shares: positive.
        commission_usd: charged for this fill.
        realized_usd: profit after commissions of the part that closes a position, None for a
            fill that only opens.
        liquidity: 1 added, 2 removed.
    """

    exec_id: str
    at_ns: int
    client_id: int
    order_id: int
    perm_id: int
    symbol: str
    side: Side
    shares: int
    price_usd: float
    cumulative: int
    average_usd: float
    order_ref: str
    liquidity: int
    commission_usd: float = 0.0
    realized_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Shares held of one symbol; long is positive.

    Attributes:
        average_usd: average cost per share including the opening commission, as the broker
            counts it; 0 when flat.
    """

    symbol: str
    quantity: int = 0
    average_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class OrderShown:
    """The order's terms and state are told: message openOrder."""

    order: Order


@dataclass(frozen=True, slots=True)
class StatusShown:
    """The order's progress is told: message orderStatus."""

    order: Order


@dataclass(frozen=True, slots=True)
class Executed:
    """A fill is told: message execDetails."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class CommissionCharged:
    """The cost of a fill is told: message commissionReport."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class PositionChanged:
    """A position is told: message position."""

    position: Position


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """Account values are told to those who subscribed."""


@dataclass(frozen=True, slots=True)
class OrderError:
    """An error about an order is told to its client."""

    client_id: int
    order_id: int
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class WhatIfShown:
    """The margin of an order that was only asked about.

    Attributes:
        margin_before_usd: initial margin requirement now; `margin_after_usd` with the order.
        equity_usd: equity with loan value.
        commission_usd: expected commission.
    """

    order: Order
    margin_before_usd: float
    margin_after_usd: float
    equity_usd: float
    commission_usd: float


# Events that concern the client who placed the order.
OwnedEvent = OrderShown | StatusShown | Executed | CommissionCharged | OrderError | WhatIfShown
ExchangeEvent = OwnedEvent | PositionChanged | AccountChanged
