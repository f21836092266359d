"""The exchange's rules as functions of values: who waits, when a price is met, who is related."""

from __future__ import annotations

from dataclasses import replace

from momentum_lab.core.fills import FillModel, is_payable
from momentum_lab.core.market import EPSILON, Side
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import Trade
from momentum_lab.gateway.orders import (
    ADDED_LIQUIDITY,
    AT_CLOSE,
    LIMITED,
    REMOVED_LIQUIDITY,
    STOPS,
    TOUCHES,
    TRAILING,
    Order,
    Ticket,
)

IMMEDIATE = ("IOC", "FOK")
_OUTSIDE_TYPES = (LIMITED | STOPS | TOUCHES) - AT_CLOSE
_PERCENT = 100.0


def is_regular(ticket: Ticket) -> bool:
    """Return whether an order trades in the regular session alone.

    Outside it only limit and stop orders trade, and only if they say so.
    """
    return not (ticket.outside_rth and ticket.order_type in _OUTSIDE_TYPES)


def may_trade(order: Order, market: Market, *, at_ns: int) -> bool:
    """Return whether session and halts let this order trade at an instant.

    Orders for the close trade by `at_close` alone.
    """
    if market.is_halted(order.symbol) or order.ticket.order_type in AT_CLOSE:
        return False
    return market.trades_at(at_ns, regular=is_regular(order.ticket))


def needs_trigger(order: Order) -> bool:
    """Return whether the order still waits for its stop or touch price."""
    return order.ticket.order_type in STOPS | TOUCHES and not order.is_triggered


def end_of(trade: Trade) -> Trade:
    """Return a bar without its range: its last price, as if nothing had been traded before."""
    return trade._replace(high=trade.price, low=trade.price, open=None, length_ns=0)


def seen_by(order: Order, trade: Trade) -> Trade:
    """Return what an order has seen of a trade: the end alone of a long bar begun before it worked.

    Nobody knows what of its range was traded before.
    """
    has_seen_all = order.works_ns <= trade.at_ns - trade.length_ns
    return trade if has_seen_all or not trade.is_long else end_of(trade)


def met(order: Order, trade: Trade) -> Trade | None:
    """Return a trade that reaches the stop or touch price of an order, None where it does not.

    Its quote is moved to where the stop was met.
    """
    for waiting, seen in [*_before_the_move(order, trade), (order, seen_by(order, trade))]:
        if _is_met(waiting, seen):
            return _at_worst(waiting, seen)
    return None


def _before_the_move(order: Order, trade: Trade) -> list[tuple[Order, Trade]]:
    """Return what a long bar has surely met of a stop that was moved within it, and with what.

    It opened under the former stop; and where it went beyond both, it has met the one that stood
    then, at worst the farther one.
    """
    begun_ns, stop_usd, stood_usd = trade.at_ns - trade.length_ns, order.stop_usd, order.stood_usd
    if not (trade.is_long and order.stood_ns <= begun_ns < order.works_ns):
        return []
    if stop_usd is None or stood_usd is None:
        return []
    first_usd = trade.price if trade.open is None else trade.open
    farther = max if _waits_above(order) else min
    return [
        (replace(order, stop_usd=stood_usd), trade._replace(high=first_usd, low=first_usd)),
        (replace(order, stop_usd=farther(stop_usd, stood_usd)), trade),
    ]


def _waits_above(order: Order) -> bool:
    """Whether the price has to rise to it: a buy stop waits above the market, a touch below."""
    return (order.ticket.side is Side.BUY) is (order.ticket.order_type in STOPS)


def _is_met(order: Order, trade: Trade) -> bool:
    if order.stop_usd is None:
        return False
    if _waits_above(order):
        return order.stop_usd - trade.high <= EPSILON
    return trade.low - order.stop_usd <= EPSILON


def with_stop(order: Order, trade: Trade | None) -> Order:
    """Return an order with the stop at which it begins, if it has none yet.

    Args:
        order: an order that opens or begins to work.
        trade: the market at which it does, None where it has to wait for one: then a trailing order
            has a stop only if its client has named one.
    """
    if order.stop_usd is not None:
        return order
    ticket = order.ticket
    is_trailing = ticket.order_type in TRAILING
    stop_usd = ticket.trail_stop_usd if is_trailing else ticket.stop_usd
    if stop_usd is None and is_trailing and trade is not None:
        stop_usd = _behind(order, trade.price)
    return replace(order, stop_usd=stop_usd)


def followed(order: Order, trade: Trade) -> float | None:
    """Return the stop of a trailing order after a trade: it only ever moves towards the price."""
    ticket = order.ticket
    if ticket.order_type not in TRAILING or order.is_triggered:
        return order.stop_usd
    best_usd = trade.low if ticket.side is Side.BUY else trade.high
    behind_usd = _behind(order, best_usd)
    if order.stop_usd is None:
        return behind_usd
    nearer = min if ticket.side is Side.BUY else max
    return nearer(order.stop_usd, behind_usd)


def _behind(order: Order, price_usd: float) -> float:
    ticket = order.ticket
    if ticket.trail_percent is not None:
        distance_usd = price_usd * ticket.trail_percent / _PERCENT
    else:
        distance_usd = ticket.stop_usd or 0.0
    return ticket.instrument.nearest(price_usd + ticket.side.sign * distance_usd)


def fill_price(
    order: Order, trade: Trade, *, fills: FillModel, is_arrival: bool
) -> tuple[float, int] | None:
    """Return (price, liquidity) if this trade and its quote fill the order, else None.

    Args:
        order: a working order of the trade's symbol whose stop, if it has one, was met.
        trade: the newest trade of the tape.
        fills: slippage of market orders.
        is_arrival: the order has just arrived or been triggered: it takes liquidity.
    """
    ticket = order.ticket
    if not is_payable(ticket.side, bid=trade.bid, ask=trade.ask):
        return None
    market_usd = fills.market_price(
        ticket.side, bid=trade.bid, ask=trade.ask, instrument=ticket.instrument
    )
    if ticket.order_type not in LIMITED:
        return market_usd, REMOVED_LIQUIDITY
    side, limit_usd = ticket.side, order.limit_usd or 0.0
    touch_usd = trade.ask if side is Side.BUY else trade.bid
    if (touch_usd - limit_usd) * side.sign > EPSILON:
        return None
    if not is_arrival:
        return limit_usd, ADDED_LIQUIDITY
    return side.sign * min(side.sign * market_usd, side.sign * limit_usd), REMOVED_LIQUIDITY


def is_traded_through(order: Order, trade: Trade) -> bool:
    """Return whether a bar went beyond the limit of an order that rested from its beginning on.

    A bar that only touches the limit does not fill it: others may have stood before it.
    """
    limit_usd, side = order.limit_usd, order.ticket.side
    if limit_usd is None or not (trade.is_long and order.is_resting):
        return False
    if trade.at_ns - trade.length_ns < order.rested_ns:
        return False
    extreme_usd = trade.low if side is Side.BUY else trade.high
    return (limit_usd - extreme_usd) * side.sign > EPSILON


def _at_worst(order: Order, trade: Trade) -> Trade:
    """Return a trade that an order has seen with its quote moved to where its stop was met.

    A bar of more than a second that opens beyond the stop has met it with its first price. Else it
    was met on the way to the end: at the stop, or at the end's quote, whichever is worse.
    """
    if not trade.is_long:
        return trade
    side, stop_usd = order.ticket.side, order.stop_usd or 0.0
    far_usd = trade.ask if side is Side.BUY else trade.bid
    beyond = 1 if _waits_above(order) else -1
    if trade.open is not None and (trade.open - stop_usd) * beyond > 0:
        moved_usd = trade.open - trade.price
    else:
        moved_usd = stop_usd - far_usd
        if moved_usd * side.sign <= 0:
            return trade
    bid, ask = (usd and usd + moved_usd for usd in (trade.bid, trade.ask))
    return trade._replace(bid=bid, ask=ask)


def at_close(order: Order, close_usd: float) -> bool:
    """Return whether an order for the close fills at its price."""
    limit_usd = order.limit_usd
    if order.ticket.order_type != "LOC" or limit_usd is None:
        return True
    return (close_usd - limit_usd) * order.ticket.side.sign <= EPSILON


def is_child(order: Order, parent: Order) -> bool:
    """Return whether `order` waits for, and ends with, `parent`."""
    return (
        order.ticket.parent_id == parent.ticket.order_id
        and order.ticket.client_id == parent.ticket.client_id
        and order.key != parent.key
    )


def share(child: Order, parent: Order, filled: int) -> int:
    """Return how many shares of a child `filled` shares of its parent call for.

    Of what its ticket asks for: what a group has taken from the parent will not fill.
    """
    return int(child.ticket.quantity) * filled // int(parent.ticket.quantity)


def due(child: Order, parent: Order) -> int:
    """Return for how many shares a child works now; at 0 or below it waits."""
    return share(child, parent, parent.filled) - child.taken


def are_rivals(order: Order, filled: Order) -> bool:
    """Return whether the fill of one takes from the other: they are of one group."""
    return (
        order.key != filled.key and filled.oca_group != "" and order.oca_group == filled.oca_group
    )
