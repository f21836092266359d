"""The exchange's rules as functions of values: who waits, when a price is met, who is related."""

from __future__ import annotations

from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import EPSILON, Side
from momentum_lab.gateway.market import Market, Trade
from momentum_lab.gateway.orders import ADDED_LIQUIDITY, REMOVED_LIQUIDITY, Order

IMMEDIATE = ("IOC", "FOK")


def may_trade(order: Order, market: Market) -> bool:
    """Return whether the session lets this order trade now.

    Only limit orders trade outside the regular session, and only if they say so.
    """
    ticket = order.ticket
    if ticket.outside_rth and ticket.order_type == "LMT":
        return not market.has_ended
    return market.is_open


def fill_price(
    order: Order, trade: Trade, *, fills: FillModel, is_arrival: bool
) -> tuple[float, int] | None:
    """Return (price, liquidity) if this trade and its quote fill the order, else None.

    Args:
        order: a working or held order of the trade's symbol.
        trade: the newest trade of the tape.
        fills: slippage of market orders.
        is_arrival: the order has just arrived: it takes liquidity, and a bar's range is past.
    """
    ticket = order.ticket
    market_usd = fills.market_price(
        ticket.side, bid=trade.bid, ask=trade.ask, instrument=ticket.instrument
    )
    if ticket.order_type == "LMT":
        return _limit_price(order, trade, market_usd, is_arrival=is_arrival)
    if ticket.order_type == "STP" and not _is_stopped(order, trade, is_arrival=is_arrival):
        return None
    return market_usd, REMOVED_LIQUIDITY


def is_child(order: Order, parent: Order) -> bool:
    """Return whether `order` waits for, and ends with, `parent`."""
    return (
        order.ticket.parent_id == parent.ticket.order_id
        and order.ticket.client_id == parent.ticket.client_id
        and order.key != parent.key
    )


def are_rivals(order: Order, filled: Order) -> bool:
    """Return whether the fill of one cancels the other: OCA group, or children of one parent."""
    if order.key == filled.key:
        return False
    if filled.ticket.oca_group:
        return order.ticket.oca_group == filled.ticket.oca_group
    return (
        filled.ticket.parent_id != 0
        and order.ticket.client_id == filled.ticket.client_id
        and order.ticket.parent_id == filled.ticket.parent_id
    )


def _limit_price(
    order: Order, trade: Trade, market_usd: float, *, is_arrival: bool
) -> tuple[float, int] | None:
    side, limit_usd = order.ticket.side, order.ticket.limit_usd or 0.0
    touch_usd = trade.ask if side is Side.BUY else trade.bid
    if (touch_usd - limit_usd) * side.sign > EPSILON:
        return None
    if not is_arrival:
        return limit_usd, ADDED_LIQUIDITY
    return side.sign * min(side.sign * market_usd, side.sign * limit_usd), REMOVED_LIQUIDITY


def _is_stopped(order: Order, trade: Trade, *, is_arrival: bool) -> bool:
    if order.is_triggered:
        return True
    side, stop_usd = order.ticket.side, order.ticket.stop_usd or 0.0
    extreme_usd = trade.high if side is Side.BUY else trade.low
    reached_usd = trade.price if is_arrival else extreme_usd
    return (stop_usd - reached_usd) * side.sign <= EPSILON
