"""Answers about orders and executions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway import messages
from momentum_lab.gateway.catalog import is_listed_on
from momentum_lab.gateway.checks import rejected
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import STOPS, TOUCHES, Execution, Order, Ticket
from momentum_lab.gateway.refusal import RefusedError, invalid
from momentum_lab.gateway.voice import Message
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL, "SSHORT": Side.SELL}
_TOLD_SIDES = {"BUY": Side.BUY, "BOT": Side.BUY, "SELL": Side.SELL, "SLD": Side.SELL}
_NOT_DEFAULT_CLIENT = 327
_DATE = re.compile(r"^\d{8}$")
_LAST_SECOND = "23:59:59"
# What calendars can add days to, before and after, in every zone.
_YEARS = range(1970, 2200)

# What would change an order's execution and cannot be played: field -> what it asks for.
_NOT_PLAYED: Mapping[str, str] = {
    "conditions": "order conditions",
    "algo_strategy": "algorithms",
    "hedge_type": "hedge orders",
    "scale_init_level_size": "scale orders",
    "scale_price_increment": "scale orders",
    "delta_neutral_contract": "delta neutral orders",
    "delta_neutral_order_type": "delta neutral orders",
    "adjusted_order_type": "adjusted stops",
    "volatility": "volatility orders",
    "cash_qty": "cash quantities",
    "discretionary_amt": "discretionary amounts",
    "percent_offset": "relative orders",
    "min_qty": "minimum quantities",
    "active_start_time": "active times",
    "active_stop_time": "active times",
    "duration": "durations",
    "combo_legs": "combinations",
}
# What the broker takes no longer: field -> its code and its name for it.
_NOT_TAKEN: Mapping[str, tuple[int, str]] = {
    "e_trade_only": (10268, "EtradeOnly"),
    "firm_quote_only": (10269, "firmQuoteOnly"),
    "nbbo_price_cap": (10270, "nbboPriceCap"),
}
# What changes nothing here, and is told again as it came.
_ECHOED = (
    *("open_close", "origin", "block_order", "sweep_to_fill", "display_size", "hidden"),
    *("trigger_method", "rule_80a", "settling_firm", "short_sale_slot", "designated_location"),
    *("exempt_code", "fa_group", "fa_method", "fa_percentage", "model_code"),
    *("opt_out_smart_routing", "clearing_account", "clearing_intent", "not_held", "solicited"),
    *("randomize_size", "randomize_price", "soft_dollar_tier_name", "soft_dollar_tier_value"),
    *("use_price_mgmt_algo", "post_to_ats", "auto_cancel_parent"),
)
# The last price triggers a stock's stops, by default and where it is asked for.
_BY_DEFAULT, _BY_LAST = 0, 2


def _check_attributes(request: Request) -> None:
    """Refuse what the broker does not take, or would do otherwise than this gateway."""
    contract = request["contract"]
    if not contract["exchange"]:
        raise invalid("Missing order exchange.")
    # An id says what kind of contract it is.
    if contract["con_id"] <= 0 and not contract["sec_type"]:
        raise invalid("Please enter security type")
    for name, (code, spelling) in _NOT_TAKEN.items():
        if request[name]:
            raise RefusedError(code, f"The '{spelling}' order attribute is not supported.")
    for name, what in _NOT_PLAYED.items():
        # Some clients spell out that there is none.
        if request[name] and request[name] != "None":
            raise invalid(f"this gateway plays no {what} ({name})")
    method = request["trigger_method"]
    waits = request["order_type"].upper() in STOPS | TOUCHES
    if waits and method not in (_BY_DEFAULT, _BY_LAST):
        raise invalid(f"this gateway plays no trigger method {method}, only {_BY_LAST}, the last")


def _limit_offset(request: Request, side: Side) -> float | None:
    """Return how far a trailing order's limit lies beyond its stop, also where both are prices."""
    offset_usd: float | None = request["lmt_price_offset"]
    limit_usd: float = request["lmt_price"] or 0.0
    stop_usd: float = request["trail_stop_price"] or 0.0
    if offset_usd is not None or not (limit_usd and stop_usd):
        return offset_usd
    return round(side.sign * (limit_usd - stop_usd), 10)


def _place_order(session: Session, request: Request) -> None:
    _check_attributes(request)
    instrument = session.hub.catalog.stock(request["contract"])
    side = _SIDES.get(request["action"])
    if side is None:
        raise rejected(f"Invalid side {request['action']}")
    market = session.hub.market
    ticket = Ticket(
        client_id=session.client_id or 0,
        order_id=request["order_id"],
        instrument=instrument,
        side=side,
        quantity=request["total_quantity"] or 0.0,
        order_type=request["order_type"].upper(),
        limit_usd=request["lmt_price"],
        # Clients send 0 for a price that they leave out of a trailing order.
        stop_usd=request["aux_price"] or None,
        trail_percent=request["trailing_percent"],
        trail_stop_usd=request["trail_stop_price"] or None,
        limit_offset_usd=_limit_offset(request, side),
        tif=request["tif"],
        outside_rth=request["outside_rth"],
        order_ref=request["order_ref"],
        account=request["account"],
        parent_id=request["parent_id"],
        oca_group=request["oca_group"],
        oca_type=request["oca_type"],
        all_or_none=request["all_or_none"],
        good_after_ns=_instant(request["good_after_time"], market, "good after time"),
        good_till_ns=_instant(
            request["good_till_date"], market, "good till date", of_date=_LAST_SECOND
        ),
        transmit=request["transmit"],
        what_if=request["what_if"],
        exchange=request["contract"]["exchange"],
        echoed=tuple((name, request[name]) for name in _ECHOED if request[name]),
    )
    session.hub.publish(session.hub.exchange.place(ticket))


def _cancel_order(session: Session, request: Request) -> None:
    hub = session.hub
    hub.publish(hub.exchange.cancel(session.client_id or 0, request["order_id"]))


def _global_cancel(session: Session, _request: Request) -> None:
    session.hub.publish(session.hub.exchange.cancel_all())


def _open_orders(session: Session, _request: Request) -> None:
    _tell_open(session, session.hub.exchange.live_orders(session.client_id))


def _all_open_orders(session: Session, _request: Request) -> None:
    _tell_open(session, session.hub.exchange.live_orders())


def _tell_open(session: Session, orders: list[Order]) -> None:
    told: list[Message] = []
    for order in orders:
        told.append(("openOrder", messages.open_order(session.hub, order)))
        told.append(("orderStatus", messages.order_status(order)))
    session.answer((*told, ("openOrderEnd", {})))


def _auto_open_orders(session: Session, request: Request) -> None:
    """Let client 0 hear of the orders of all; the protocol answers with silence."""
    if session.client_id != 0:
        text = "Only the default client (i.e., 0) can auto bind orders"
        raise RefusedError(_NOT_DEFAULT_CLIENT, text)
    session.subscriptions.hears_all_orders = request["auto_bind"]


def _completed_orders(session: Session, _request: Request) -> None:
    for order in session.hub.exchange.done_today():
        session.send("completedOrder", **messages.completed_order(session.hub, order))
    session.send("completedOrdersEnd")


def _executions(session: Session, request: Request) -> None:
    hub, req_id = session.hub, request["req_id"]
    since_ns = _instant(request["time"], hub.market, "execution filter time")
    found = [
        item
        for item in hub.account.executions_today()
        if item.at_ns >= since_ns and _is_asked_for(item, request.values, hub)
    ]
    told: list[Message] = [
        ("execDetails", messages.execution(hub, item, version=session.version, req_id=req_id))
        for item in found
    ]
    told.append(("execDetailsEnd", {"req_id": req_id}))
    told += [("commissionReport", messages.commission(item)) for item in found]
    session.answer(told)


def _is_asked_for(item: Execution, wanted: Mapping[str, Any], hub: Hub) -> bool:
    return (
        wanted["client_id"] in (0, item.client_id)
        and wanted["account"] in ("", hub.account.code)
        and wanted["symbol"] in ("", item.symbol)
        and wanted["sec_type"] in ("", "STK")
        and is_listed_on(hub.catalog.instruments[item.symbol], wanted["exchange"])
        and (not wanted["side"] or _TOLD_SIDES.get(wanted["side"]) is item.side)
    )


def _instant(text: str, market: Market, what: str, *, of_date: str = "") -> int:
    """Return a date and time as an instant; 0 for an empty text.

    Args:
        text: what was sent.
        market: whose zone and date hold where none is said.
        what: its name, for the error.
        of_date: the time that a date alone means, "" where it is refused.
    """
    asked = text.strip()
    if not asked:
        return 0
    if of_date and _DATE.match(asked):
        asked = f"{asked} {of_date}"
    try:
        moment = market.hours.moment(asked, now_ns=market.now_ns)
    except ValueError as error:
        raise invalid(f"Invalid {what}: {text}") from error
    if moment.year not in _YEARS:
        raise invalid(f"Invalid {what}: {text}")
    return round(moment.timestamp()) * NS_PER_S


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "placeOrder": _place_order,
    "cancelOrder": _cancel_order,
    "reqGlobalCancel": _global_cancel,
    "reqOpenOrders": _open_orders,
    "reqAllOpenOrders": _all_open_orders,
    "reqAutoOpenOrders": _auto_open_orders,
    "reqCompletedOrders": _completed_orders,
    "reqExecutions": _executions,
}
