"""Answers about quotes: streams of ticks and headlines, snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from momentum_lab.core.market import Instrument
from momentum_lab.gateway import messages
from momentum_lab.gateway.answers.allowance import check_lines
from momentum_lab.gateway.broadcast import past_headlines
from momentum_lab.gateway.catalog import Listed, NewsFeed
from momentum_lab.gateway.refusal import DUPLICATE_ID, RefusedError, invalid
from momentum_lab.gateway.ticks import (
    DELAYED,
    DELAYED_FROZEN,
    FROZEN,
    LIVE,
    SHOWN_DELAYED,
    Generics,
    NewsLine,
    QuoteLine,
    parse_generics,
)
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

ALL_SYMBOLS = "*"
NOT_SUBSCRIBED, NO_SNAPSHOT = 354, 414


def _market_data(session: Session, request: Request) -> None:
    req_id = request["req_id"]
    _check_line(session, req_id)
    listed = session.hub.catalog.one(request["contract"])
    generics = parse_generics(request["generic_ticks"])
    if generics.providers - session.hub.catalog.feeds.keys():
        # The broker's word for a news provider that the user has not subscribed to.
        raise invalid(f"Incorrect generic tick list of {request['generic_ticks']}.")
    if request["snapshot"] or request["regulatory_snapshot"]:
        _snapshot(session, req_id, listed, request["generic_ticks"])
        return
    if isinstance(listed, NewsFeed):
        _news_feed(session, req_id, listed, generics)
    else:
        _stock_line(session, req_id, listed, generics)
    session.hub.has_streamed = True


def _check_line(session: Session, req_id: int) -> None:
    subscriptions = session.subscriptions
    if req_id in subscriptions.quotes or req_id in subscriptions.news:
        cause = "Error processing request.-'bG' : cause - Duplicate ticker id"
        raise RefusedError(DUPLICATE_ID, cause)
    check_lines(session.hub)


def _snapshot(session: Session, req_id: int, listed: Listed, generic_ticks: str) -> None:
    if generic_ticks:
        text = "Snapshot market data subscription is not applicable to generic ticks"
        raise RefusedError(NO_SNAPSHOT, text)
    if isinstance(listed, NewsFeed):
        raise invalid("News cannot be had as a snapshot")
    _open_line(session, _line(session, req_id, listed, Generics()))
    session.hub.faults.end_snapshot(session, req_id)


def _stock_line(session: Session, req_id: int, stock: Instrument, generics: Generics) -> None:
    hub = session.hub
    line = _line(session, req_id, stock, generics)
    session.subscriptions.quotes[req_id] = line
    if generics.has_prices:
        _open_line(session, line)
    if generics.has_news:
        news = NewsLine(req_id, stock.symbol, generics.providers)
        session.subscriptions.news[req_id] = news
        for item in past_headlines(hub, news):
            session.send("tickNews", **messages.headline(req_id, item))


def _line(session: Session, req_id: int, stock: Instrument, generics: Generics) -> QuoteLine:
    # A line without prices needs nothing that could be missing.
    data_type = data_type_of(session, stock.symbol) if generics.has_prices else LIVE
    return QuoteLine(
        req_id,
        stock.symbol,
        generics,
        volume_ticks=session.hub.settings.volume_ticks,
        data_type=data_type,
    )


def data_type_of(session: Session, symbol: str) -> int:
    """Return which data a line gets: what was asked for, as far as it has been bought.

    Frozen data is the last quote of a market that is closed; while it is open, frozen is live.

    Raises:
        RefusedError: live data was asked for and has not been bought.
    """
    hub, wanted = session.hub, session.subscriptions.data_type
    is_frozen = wanted in (FROZEN, DELAYED_FROZEN) and not hub.market.is_open
    if not hub.settings.unsubscribed & {symbol, ALL_SYMBOLS}:
        return FROZEN if is_frozen else LIVE
    if wanted in (LIVE, FROZEN):
        raise RefusedError(NOT_SUBSCRIBED, "Requested market data is not subscribed.")
    return DELAYED_FROZEN if is_frozen else DELAYED


def _open_line(session: Session, line: QuoteLine) -> None:
    if line.is_delayed:
        session.error(line.req_id, *SHOWN_DELAYED)
    session.hub.streaming.open(session, line)


def _news_feed(session: Session, req_id: int, feed: NewsFeed, generics: Generics) -> None:
    if not generics.has_news:
        raise invalid("A news contract needs the generic tick 292")
    session.subscriptions.news[req_id] = NewsLine(req_id, "", frozenset({feed.provider}))


def _cancel_market_data(session: Session, request: Request) -> None:
    req_id, subscriptions = request["req_id"], session.subscriptions
    was_quoted = subscriptions.quotes.pop(req_id, None)
    had_news = subscriptions.news.pop(req_id, None)
    if was_quoted is None and had_news is None:
        raise RefusedError(300, f"Can't find EId with tickerId:{req_id}")


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "reqMktData": _market_data,
    "cancelMktData": _cancel_market_data,
}
