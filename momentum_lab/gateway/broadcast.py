"""Tells the connected clients what happens by itself: fills, headlines, bars, account values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from momentum_lab.gateway import account_messages, messages
from momentum_lab.gateway.history_bars import bars
from momentum_lab.gateway.orders import (
    AccountChanged,
    CommissionCharged,
    ExchangeEvent,
    Executed,
    OrderError,
    OrderShown,
    OwnedEvent,
    Position,
    PositionChanged,
    StatusShown,
    WhatIfShown,
)
from momentum_lab.gateway.ticks import NewsLine
from momentum_lab.gateway.voice import Message
from momentum_lab.records.tape import TapeHeadline

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session


def tell_event(hub: Hub, event: ExchangeEvent) -> None:
    """Tell one event of the exchange to those it concerns."""
    if isinstance(event, PositionChanged):
        _tell_position(hub, event.position)
        return
    if isinstance(event, AccountChanged):
        tell_account(hub)
        return
    owner_id = _owner(event)
    for client_id, session in hub.sessions.items():
        if client_id == owner_id or (_is_public(event) and _hears_all(hub, session)):
            name, values = _message(event, hub, session.version)
            session.send(name, **values)


def _tell_position(hub: Hub, held: Position) -> None:
    values = account_messages.position(hub.account, held)
    for session in hub.sessions.values():
        if session.subscriptions.has_positions:
            session.send("position", **values)
        for req_id in sorted(session.subscriptions.positions_multi):
            session.send("positionMulti", req_id=req_id, **values)


def _is_public(event: OwnedEvent) -> bool:
    """Whether an event is told to those who follow the orders of all clients, too."""
    return isinstance(event, (OrderShown, StatusShown, Executed, CommissionCharged))


def _hears_all(hub: Hub, session: Session) -> bool:
    is_master = session.client_id == hub.settings.master_client_id
    return is_master or session.subscriptions.hears_all_orders


def _owner(event: OwnedEvent) -> int:
    if isinstance(event, OrderError):
        return event.client_id
    if isinstance(event, (Executed, CommissionCharged)):
        return event.execution.client_id
    return event.order.ticket.client_id


def _message(event: OwnedEvent, hub: Hub, version: int) -> Message:
    match event:
        case OrderShown():
            return "openOrder", messages.open_order(hub, event.order)
        case StatusShown():
            return "orderStatus", messages.order_status(event.order)
        case Executed():
            return "execDetails", messages.execution(hub, event.execution, version=version)
        case CommissionCharged():
            return "commissionReport", messages.commission(event.execution)
        case WhatIfShown():
            return "openOrder", messages.what_if(hub, event)
        case OrderError():
            return "error", {"req_id": event.order_id, "code": event.code, "text": event.text}


def tell_account(hub: Hub) -> None:
    """Tell account values and holdings to every client that subscribed to them."""
    for session in hub.sessions.values():
        wanted = session.subscriptions
        if wanted.has_account:
            session.send_all(account_messages.account_updates(hub.account))
        for req_id, tags in wanted.summaries.items():
            session.send_all(account_messages.account_summary(hub.account, req_id, tags))
        for req_id in sorted(wanted.multi):
            session.send_all(account_messages.account_multi(hub.account, req_id))
    tell_profits(hub)


def tell_profits(hub: Hub) -> None:
    """Tell the profits to every client that subscribed to them."""
    for session in hub.sessions.values():
        for req_id in sorted(session.subscriptions.pnl):
            session.send("pnl", **account_messages.pnl(hub.account, req_id))
        for req_id, symbol in session.subscriptions.pnl_single.items():
            session.send("pnlSingle", **account_messages.pnl_single(hub.account, req_id, symbol))


def tell_headline(hub: Hub, headline: TapeHeadline) -> None:
    """Tell a headline to the subscribers of its provider and of the stocks it names."""
    symbols = {"", *hub.catalog.symbols_of(headline)}
    for session in hub.sessions.values():
        for line in session.subscriptions.news.values():
            if line.symbol in symbols and _wants(line, headline):
                session.send("tickNews", **messages.headline(line.req_id, headline))


def past_headlines(hub: Hub, line: NewsLine) -> list[TapeHeadline]:
    """Return what a real gateway replays when a stock's news is subscribed to: the last five."""
    found = [
        headline
        for headline in hub.market.past_headlines()
        if line.symbol in hub.catalog.symbols_of(headline) and _wants(line, headline)
    ]
    return found[-5:]


def tell_bars(hub: Hub) -> None:
    """Send what has changed in the bars of history requests that are kept up to date."""
    for session in hub.sessions.values():
        for req_id, kept in session.subscriptions.bars.items():
            query = replace(kept.query, start_ns=kept.told_start_ns, end_ns=hub.market.now_ns)
            found = bars(hub.market.lines[kept.symbol], query, now_ns=hub.market.now_ns)
            for bar in found:
                if bar == kept.told:
                    continue
                kept.told, kept.told_start_ns = bar, bar.start_ns
                values = messages.bar(hub, kept.query, bar, version=session.version)
                session.send("historicalDataUpdate", req_id=req_id, **values)


def _wants(line: NewsLine, headline: TapeHeadline) -> bool:
    return not line.providers or headline.provider in line.providers
