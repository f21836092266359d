"""Orders, fills, headlines and bars as the fields of protocol messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from momentum_lab.core.market import Side
from momentum_lab.gateway.catalog import contract_of
from momentum_lab.gateway.history import HistoryQuery, time_text
from momentum_lab.gateway.history_bars import HistoryBar
from momentum_lab.gateway.orders import (
    CANCELLED,
    INACTIVE,
    TRAILING,
    Execution,
    Order,
    WhatIfShown,
)
from momentum_lab.gateway.ticks import NS_PER_MS
from momentum_lab.records.tape import TapeHeadline

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub

# From this version on a time carries its zone.
ZONES_SINCE = 174
# What the message of a completed order has no field for.
_OPEN_ORDERS_ALONE = frozenset(
    {
        *("block_order", "opt_out_smart_routing", "use_price_mgmt_algo", "post_to_ats"),
        *("soft_dollar_tier_name", "soft_dollar_tier_value"),
    }
)
_SIDES = {Side.BUY: "BOT", Side.SELL: "SLD"}


# -- orders -----------------------------------------------------------------------------------


def _terms(hub: Hub, order: Order) -> dict[str, Any]:
    ticket = order.ticket
    is_trailing = ticket.order_type in TRAILING
    # Of a trailing order this field is the distance, of other stops the price.
    aux_usd = ticket.stop_usd if is_trailing else order.stop_usd or ticket.stop_usd
    return {
        **dict(ticket.echoed),
        "contract": contract_of(ticket.instrument, exchange=ticket.exchange),
        "action": ticket.side.value,
        "total_quantity": order.quantity,
        "order_type": ticket.order_type,
        "lmt_price": order.limit_usd if order.limit_usd is not None else 0.0,
        "aux_price": aux_usd if aux_usd is not None else 0.0,
        "trail_stop_price": order.stop_usd if is_trailing else None,
        "trailing_percent": ticket.trail_percent,
        "lmt_price_offset": ticket.limit_offset_usd,
        "tif": ticket.tif or "DAY",
        "good_after_time": _moment(hub, ticket.good_after_ns),
        "good_till_date": _moment(hub, ticket.good_till_ns),
        "oca_group": order.oca_group,
        "oca_type": order.oca_type,
        "account": hub.account.code,
        "order_ref": ticket.order_ref,
        "outside_rth": ticket.outside_rth,
        "all_or_none": ticket.all_or_none,
        "perm_id": order.perm_id,
    }


def _moment(hub: Hub, at_ns: int) -> str:
    return hub.market.hours.text(at_ns) if at_ns else ""


def open_order(hub: Hub, order: Order) -> dict[str, Any]:
    """Return the fields of openOrder."""
    return {
        **_terms(hub, order),
        "order_id": order.ticket.order_id,
        "client_id": order.ticket.client_id,
        "parent_id": order.ticket.parent_id,
        "status": order.status,
    }


def what_if(hub: Hub, event: WhatIfShown) -> dict[str, Any]:
    """Return the fields of openOrder that answer an order which was only asked about."""
    change_usd = event.margin_after_usd - event.margin_before_usd
    states = {
        "init_margin_before": event.margin_before_usd,
        "init_margin_change": change_usd,
        "init_margin_after": event.margin_after_usd,
        "equity_with_loan_before": event.equity_usd,
        "equity_with_loan_change": 0.0,
        "equity_with_loan_after": event.equity_usd,
    }
    same = {name.replace("init", "maint"): value for name, value in states.items()}
    return {
        **open_order(hub, event.order),
        **same,
        **states,
        "what_if": True,
        "commission": event.commission_usd,
        "min_commission": event.commission_usd,
        "max_commission": event.commission_usd,
        "commission_currency": "USD",
    }


def order_status(order: Order) -> dict[str, Any]:
    """Return the fields of orderStatus."""
    return {
        "order_id": order.ticket.order_id,
        "status": order.status,
        "filled": order.filled,
        "remaining": order.remaining,
        "avg_fill_price": order.average_usd,
        "perm_id": order.perm_id,
        "parent_id": order.ticket.parent_id,
        "last_fill_price": order.last_usd,
        "client_id": order.ticket.client_id,
        "why_held": order.why_held,
    }


def completed_order(hub: Hub, order: Order) -> dict[str, Any]:
    """Return the fields of completedOrder; a rejected order is told as cancelled, with why."""
    terms = _terms(hub, order)
    return {
        **{name: value for name, value in terms.items() if name not in _OPEN_ORDERS_ALONE},
        "status": CANCELLED if order.status == INACTIVE else order.status,
        "filled_quantity": order.filled,
        "completed_time": hub.market.hours.text(order.done_ns),
        "completed_status": order.done_text,
    }


def execution(hub: Hub, fill: Execution, *, version: int, req_id: int = -1) -> dict[str, Any]:
    """Return the fields of execDetails; request id -1 marks a fill of this moment."""
    instrument = hub.catalog.instruments[fill.symbol]
    return {
        "req_id": req_id,
        "order_id": fill.order_id,
        "contract": contract_of(instrument, exchange=instrument.primary_exchange),
        "exec_id": fill.exec_id,
        "time": hub.market.hours.text(fill.at_ns, with_zone=version >= ZONES_SINCE),
        "account": hub.account.code,
        "exec_exchange": instrument.primary_exchange,
        "side": _SIDES[fill.side],
        "shares": fill.shares,
        "price": fill.price_usd,
        "perm_id": fill.perm_id,
        "client_id": fill.client_id,
        "cum_qty": fill.cumulative,
        "avg_price": fill.average_usd,
        "order_ref": fill.order_ref,
        "last_liquidity": fill.liquidity,
    }


def commission(fill: Execution) -> dict[str, Any]:
    """Return the fields of commissionReport."""
    return {
        "exec_id": fill.exec_id,
        "commission": fill.commission_usd,
        "realized_pnl": None if fill.realized_usd is None else round(fill.realized_usd, 6),
    }


# -- data -------------------------------------------------------------------------------------


def headline(req_id: int, item: TapeHeadline) -> dict[str, Any]:
    """Return the fields of tickNews."""
    return {
        "req_id": req_id,
        "time_ms": item.at_ns // NS_PER_MS,
        "provider_code": item.provider,
        "article_id": item.article_id,
        "headline": item.headline,
        "extra_data": item.extra,
    }


def bar(hub: Hub, query: HistoryQuery, found: HistoryBar, *, version: int) -> dict[str, Any]:
    """Return one bar of historicalData."""
    return {
        "date": time_text(
            found.start_ns, query, hours=hub.market.hours, with_zone=version >= ZONES_SINCE
        ),
        "open": found.open,
        "high": found.high,
        "low": found.low,
        "close": found.close,
        "volume": found.volume,
        "wap": found.vwap,
        "bar_count": found.n_bars,
    }
