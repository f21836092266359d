"""Answers about quotes: streams of ticks and headlines, snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from momentum_lab.core.market import Instrument
from momentum_lab.gateway import messages
from momentum_lab.gateway.broadcast import past_headlines
from momentum_lab.gateway.catalog import Listed, NewsFeed
from momentum_lab.gateway.refusal import DUPLICATE_ID, RefusedError, invalid
from momentum_lab.gateway.ticks import Generics, NewsLine, QuoteLine, parse_generics
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

MAX_LINES = 100
BBO_EXCHANGE = "9c0001"
LIVE = 1


def _market_data(session: Session, request: Request) -> None:
    req_id = request["req_id"]
    _check_line(session, req_id)
    listed = session.hub.catalog.one(request["contract"])
    generics = parse_generics(request["generic_ticks"])
    if request["snapshot"]:
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
    if subscriptions.n_lines >= MAX_LINES:
        raise RefusedError(101, "Max number of tickers has been reached.")


def _snapshot(session: Session, req_id: int, listed: Listed, generic_ticks: str) -> None:
    if generic_ticks or isinstance(listed, NewsFeed):
        raise invalid("Snapshot market data subscription is not applicable to generic ticks")
    line = QuoteLine(
        req_id, listed.symbol, Generics(), volume_ticks=session.hub.settings.volume_ticks
    )
    _open_line(session, line, listed)
    session.send("tickSnapshotEnd", req_id=req_id)


def _stock_line(session: Session, req_id: int, stock: Instrument, generics: Generics) -> None:
    hub = session.hub
    line = QuoteLine(req_id, stock.symbol, generics, volume_ticks=hub.settings.volume_ticks)
    session.subscriptions.quotes[req_id] = line
    if generics.has_prices:
        _open_line(session, line, stock)
    if generics.has_news:
        news = NewsLine(req_id, stock.symbol, generics.providers)
        session.subscriptions.news[req_id] = news
        for item in past_headlines(hub, news):
            session.send("tickNews", **messages.headline(req_id, item))


def _open_line(session: Session, line: QuoteLine, stock: Instrument) -> None:
    market = session.hub.market
    session.send("marketDataType", req_id=line.req_id, market_data_type=LIVE)
    session.send(
        "tickReqParams",
        req_id=line.req_id,
        min_tick=stock.tick_usd,
        bbo_exchange=BBO_EXCHANGE,
        snapshot_permissions=3,
    )
    session.send_all(line.opening(market.today(line.symbol), market.latest(line.symbol)))


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
