"""Order intents, and the life cycle of an order as far as we know it.

Theory of operation. An order is an INTENT once it stands in our record, SENT once it left for the
broker, WORKING once the broker confirmed it. Executions make it PARTIAL and FILLED. What the
broker refuses is REJECTED, what it cancels is CANCELLED. When no answer comes, or the line breaks
before one came, the order is UNKNOWN: never taken for rejected, never sent again, but looked up
at the broker by its reference. An intent that the broker never heard of is ABSENT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from momentum_lab.core.lifecycle import advance
from momentum_lab.core.market import Side
from momentum_lab.core.position import ExitReason, Levels

TimeInForce = Literal["DAY", "GTC"]
# Every reference of ours begins so; the broker keeps it on the order and on its executions.
ORDER_REF_PREFIX = "ml-"


class OrderPurpose(str, Enum):
    """What an order is for."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    EXIT = "exit"


class OrderType(str, Enum):
    """How an order is executed, in the broker's words."""

    MARKET = "MKT"
    LIMIT = "LMT"
    STOP = "STP"


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """An order as it is written down before it is sent.

    Attributes:
        order_ref: our reference, unique for ever.
        symbol: what to trade.
        con_id: the broker's contract id.
        side: BUY or SELL.
        shares: whole shares, > 0.
        created_ns: market time.
        purpose: entry, protective stop, target, or the client's own exit.
        decision_id: the decision it carries out; of a stop or target that of its entry.
        levels: of an entry, stop and target that its size was computed with.
        atr: of an entry, the baseline's average true range, US dollars.
        trade_id: of an exit, the trade it closes.
        exit_reason: of an exit, why.
        bid: quote seen when it was decided.
        ask: quote seen when it was decided.
        signal_price: of an entry, price at which the shock was seen.
        order_type: MKT, LMT or STP.
        tif: DAY, or GTC for what must outlive the day and the client.
        limit_price: of a LMT, US dollars.
        stop_price: of a STP, US dollars.
        oca_group: orders of one group reduce each other at the broker.
        joins: references of the orders that are in this group already: the broker may call it by
            another name.
        parent_ref: the order at whose fill the broker makes this one live.
        size_json: of an entry, every cap of its size.
    """

    order_ref: str
    symbol: str
    con_id: int
    side: Side
    shares: int
    created_ns: int
    purpose: OrderPurpose
    decision_id: int | None = None
    levels: Levels | None = None
    atr: float | None = None
    trade_id: int | None = None
    exit_reason: ExitReason | None = None
    bid: float | None = None
    ask: float | None = None
    signal_price: float | None = None
    order_type: OrderType = OrderType.MARKET
    tif: TimeInForce = "DAY"
    limit_price: float | None = None
    stop_price: float | None = None
    oca_group: str | None = None
    joins: tuple[str, ...] = ()
    parent_ref: str | None = None
    size_json: str | None = None


@dataclass(frozen=True, slots=True)
class OrderName:
    """What a reference of ours says.

    Attributes:
        run_id: the run that sent it.
        purpose: of the order.
        decision_id: of an entry, stop or target.
        trade_id: of an exit.
    """

    run_id: str
    purpose: OrderPurpose
    decision_id: int | None = None
    trade_id: int | None = None


_NAME = re.compile(
    re.escape(ORDER_REF_PREFIX)
    + r"(?P<run>.+)-(?:t(?P<trade>\d+)[xm]\d+|d(?P<decision>\d+)(?:-(?P<kind>sl|tp)\d*)?)"
)


def parse_order_ref(order_ref: str) -> OrderName | None:
    """Return what a reference says, None where it is not of ours."""
    found = _NAME.fullmatch(order_ref)
    if found is None:
        return None
    if found["trade"]:
        return OrderName(found["run"], OrderPurpose.EXIT, trade_id=int(found["trade"]))
    kinds = {"sl": OrderPurpose.STOP, "tp": OrderPurpose.TARGET, None: OrderPurpose.ENTRY}
    return OrderName(found["run"], kinds[found["kind"]], decision_id=int(found["decision"]))


class OrderState(str, Enum):
    """Where an order stands."""

    INTENT = "INTENT"
    SENT = "SENT"
    WORKING = "WORKING"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"
    ABSENT = "ABSENT"

    @property
    def is_final(self) -> bool:
        """No more executions are expected; a late one is still counted."""
        return self in _FINAL


class OrderEvent(str, Enum):
    """What moves an order on."""

    SEND = "send"
    ACKNOWLEDGE = "acknowledge"
    FILL_PART = "partial fill"
    FILL_ALL = "complete fill"
    CANCEL = "cancel"
    REJECT = "reject"
    SILENCE = "no answer in time, or line lost"
    NOT_FOUND = "not found at the broker"
    FOUND_OPEN = "found open at the broker"


_S, _E = OrderState, OrderEvent
_FINAL = frozenset({_S.FILLED, _S.CANCELLED, _S.REJECTED, _S.ABSENT})


def _table() -> Mapping[tuple[OrderState, OrderEvent], OrderState]:
    table: dict[tuple[OrderState, OrderEvent], OrderState] = {(_S.INTENT, _E.SEND): _S.SENT}
    # An execution is a fact in whatever state we believed the order to be: a fill after a cancel,
    # a fill of an order that was reported refused or not found.
    for state in OrderState:
        table[state, _E.FILL_ALL] = _S.FILLED
        table[state, _E.FILL_PART] = _S.PARTIAL if not state.is_final else state
    # A part-fill report that arrives after the last one changes nothing.
    table[_S.ABSENT, _E.FILL_PART] = _S.PARTIAL
    for state in (_S.INTENT, _S.SENT, _S.WORKING, _S.UNKNOWN):
        table[state, _E.ACKNOWLEDGE] = _S.WORKING
        table[state, _E.CANCEL] = _S.CANCELLED
        # A rejection may follow an acceptance.
        table[state, _E.REJECT] = _S.REJECTED
        table[state, _E.SILENCE] = _S.UNKNOWN
        table[state, _E.NOT_FOUND] = _S.ABSENT
    table[_S.PARTIAL, _E.ACKNOWLEDGE] = _S.PARTIAL
    # The remainder of a partly filled order may be cancelled or refused.
    table[_S.PARTIAL, _E.CANCEL] = _S.CANCELLED
    table[_S.PARTIAL, _E.REJECT] = _S.CANCELLED
    table[_S.PARTIAL, _E.SILENCE] = _S.UNKNOWN
    # Of the remainder only the broker's lists have spoken, and a list may lack something.
    table[_S.PARTIAL, _E.NOT_FOUND] = _S.ABSENT
    # Reports are repeated and reordered; a final state stays.
    for state in _FINAL:
        for event in (_E.ACKNOWLEDGE, _E.CANCEL, _E.REJECT, _E.SILENCE, _E.NOT_FOUND):
            table[state, event] = state
    # The broker's list of open orders outweighs what an earlier message made us believe; only what
    # has been filled whole cannot be open.
    for state in OrderState:
        table[state, _E.FOUND_OPEN] = _S.WORKING
    table[_S.PARTIAL, _E.FOUND_OPEN] = _S.PARTIAL
    table[_S.FILLED, _E.FOUND_OPEN] = _S.FILLED
    # The broker does know an order that was thought absent.
    table[_S.ABSENT, _E.ACKNOWLEDGE] = _S.WORKING
    return table


ORDER_TABLE = _table()
# What these say of an order is not so where some of it was executed before: a report does not know.
_WITH_FILLS = {
    _S.WORKING: _S.PARTIAL,
    _S.REJECTED: _S.CANCELLED,
}


def advance_order(state: OrderState, event: OrderEvent) -> OrderState:
    """Return the order state after `event`.

    Raises:
        IllegalTransitionError: the pair is not in `ORDER_TABLE`.
    """
    return advance(ORDER_TABLE, state, event)


def with_fills(state: OrderState) -> OrderState:
    """Return the state of an order some of which was executed, whatever is reported of it.

    It was not refused: its remainder has ended.
    """
    return _WITH_FILLS.get(state, state)
