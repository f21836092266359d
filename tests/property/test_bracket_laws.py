"""The laws of brackets: children close what their parent has filled, and never more.

A script of one step a second: what the client does, and what the market shows then. The client
moves and shrinks its orders and cancels them; of a size it sends what it was told, what it asked
for first, or less. Another order of the parent's group buys as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import QuoteChange, Trade
from momentum_lab.gateway.orders import PENDING, ExchangeEvent, Order, Ticket
from tests.gateway_factories import exchange, tick_tape, ticket

PARENT, RIVAL, FIRST_CHILD = 1, 2, 3
SPREAD_USD = 0.02

prices = st.sampled_from([98.0, 100.0, 102.0])
limits = st.sampled_from([98.5, 100.5, 102.5])
shares = st.sampled_from([10, 3, 40, 0])


@dataclass(frozen=True)
class Step:
    """One second: what the client does, and the quote and trade of then."""

    deed: str
    which: int
    size: str
    price: float
    bid: float
    bid_size: int
    ask_size: int


steps = st.builds(
    Step,
    deed=st.sampled_from(["wait", "wait", "wait", "modify", "modify", "cancel"]),
    which=st.sampled_from([PARENT, PARENT, RIVAL, FIRST_CHILD, FIRST_CHILD + 1]),
    size=st.sampled_from(["told", "first", "less", "more"]),
    price=prices,
    bid=prices,
    bid_size=shares,
    ask_size=shares,
)


@st.composite
def families(draw: st.DrawFn) -> list[Ticket]:
    """A parent, an order of its group, and one or two children that close no more than it."""
    parent_shares = draw(st.sampled_from([100, 50, 7, 2]))
    group: dict[str, Any] = {"oca_group": "g", "oca_type": draw(st.sampled_from([3, 2, 1]))}
    is_of_group = draw(st.sampled_from([True, True, False]))
    parent = ticket(
        Side.BUY,
        parent_shares,
        order_id=PARENT,
        order_type="LMT",
        limit_usd=draw(limits),
        transmit=False,
        **(group if is_of_group else {}),
    )
    wanted: dict[str, Any] = {"quantity": draw(st.sampled_from([100, 30])), "limit_usd": 103.0}
    rival = replace(parent, order_id=RIVAL, **wanted, **group)
    are_apart = draw(st.booleans())
    most, children = parent_shares, []
    for number in range(draw(st.integers(1, 2))):
        if not most:
            break
        size = draw(st.sampled_from([most, max(1, most // 2), max(1, most * 2 // 3), 1]))
        most -= size if are_apart else 0
        price = draw(prices)
        is_stop = draw(st.booleans())
        children.append(
            ticket(
                Side.SELL,
                size,
                order_id=FIRST_CHILD + number,
                order_type="STP" if is_stop else "LMT",
                limit_usd=None if is_stop else price,
                stop_usd=price if is_stop else None,
                parent_id=PARENT,
                oca_group=f"child {number}" if are_apart else "",
                oca_type=draw(st.sampled_from([2, 3])),
                transmit=False,
            )
        )
    children[-1] = replace(children[-1], transmit=True)
    return [parent, replace(rival, transmit=True), *children]


def modified(known: Order, step: Step) -> Ticket:
    told, first = known.quantity, int(known.ticket.quantity)
    sizes = {"told": told, "first": first, "less": max(1, told * 2 // 3), "more": told}
    if known.ticket.order_id in (PARENT, RIVAL):
        sizes["more"] = first + 20
    new = replace(known.ticket, quantity=sizes[step.size], transmit=True)
    if known.ticket.order_type == "STP":
        return replace(new, stop_usd=step.price)
    return replace(new, limit_usd=step.price)


def act(found: Exchange, step: Step) -> list[ExchangeEvent]:
    known = found.books.orders.get((1, step.which))
    if known is None or step.deed == "wait":
        return []
    if step.deed == "cancel":
        return found.cancel(1, step.which)
    return found.place(modified(known, step))


def check(found: Exchange) -> None:
    """Hold the books against the laws."""
    parent = found.books.orders[1, PARENT]
    children = [o for o in found.books.orders.values() if o.ticket.parent_id == PARENT]
    held = parent.filled - sum(child.filled for child in children)
    assert held >= 0, "the children have closed more than their parent has opened"
    working: dict[str, int] = {}
    for child in children:
        if child.is_done or child.status == PENDING or child.why_held == "child":
            continue
        working[child.oca_group] = max(working.get(child.oca_group, 0), child.remaining)
    assert sum(working.values()) <= held, "children work for more than is there to close"


@given(
    family=families(),
    script=st.lists(steps, min_size=12, max_size=25),
    latency_s=st.sampled_from([0.0, 0.0, 1.5]),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_children_never_close_more_than_their_parent_has_filled(
    family: list[Ticket], script: list[Step], latency_s: float
) -> None:
    quotes = [
        (n, step.bid, round(step.bid + SPREAD_USD, 2), step.bid_size, step.ask_size)
        for n, step in enumerate(script)
    ]
    trades = [(n + 0.5, step.bid, 4 * step.bid_size + 1) for n, step in enumerate(script)]
    market = Market(tick_tape(trades=trades, quotes=quotes))
    found = exchange(market, rules=Rules(latency_s=latency_s))
    list(market.advance(market.now_ns + NS_PER_S * 6 // 10))
    for one in family:
        found.place(one)
        check(found)
    for step in script:
        act(found, step)
        check(found)
        for event in market.advance(market.now_ns + NS_PER_S):
            if isinstance(event, QuoteChange):
                found.on_quote(event)
            elif isinstance(event, Trade):
                found.on_trade(event)
            check(found)
        found.on_time()
        check(found)
