"""Answers about bars: history, kept up to date or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from momentum_lab.clock import utc
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway import messages
from momentum_lab.gateway.answers.allowance import check_history
from momentum_lab.gateway.answers.past import send_schedule
from momentum_lab.gateway.history import (
    KEPT_KINDS,
    SCHEDULE,
    WHAT_TO_SHOW,
    no_data,
    parse_kind,
    parse_query,
)
from momentum_lab.gateway.history_bars import bars, head_ns
from momentum_lab.gateway.refusal import RefusedError, invalid
from momentum_lab.gateway.subscriptions import KeptBars
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session


def _historical_data(session: Session, request: Request) -> None:
    hub, req_id = session.hub, request["req_id"]
    stock = hub.catalog.stock(request["contract"])
    line, market = hub.market.lines[stock.symbol], hub.market
    keeps = request["keep_up_to_date"]
    if keeps and request["end_date_time"]:
        raise invalid("End date/time must be empty for a query that is kept up to date")
    query = parse_query(request.values, line=line, hours=market.hours, now_ns=market.now_ns)
    if query.what == SCHEDULE:
        send_schedule(session, request, query)
        return
    if keeps and query.what not in KEPT_KINDS:
        raise invalid(f"{query.what} bars cannot be kept up to date")
    check_history(hub, request, symbol=stock.symbol, seconds=query.seconds)
    found = bars(line, query, now_ns=market.now_ns)
    if not found:
        raise no_data(stock.symbol, query.what)
    session.send(
        "historicalData",
        req_id=req_id,
        start=market.hours.text(query.start_ns),
        end=market.hours.text(query.end_ns),
        bars=[messages.bar(hub, query, item, version=session.version) for item in found],
    )
    if keeps:
        kept = KeptBars(stock.symbol, query, found[-1], found[-1].start_ns)
        session.subscriptions.bars[req_id] = kept
        hub.has_streamed = True


def _cancel_historical_data(session: Session, request: Request) -> None:
    req_id = request["req_id"]
    if session.subscriptions.bars.pop(req_id, None) is None:
        raise RefusedError(366, f"No historical data query found for ticker id:{req_id}")
    raise RefusedError(162, f"API historical data query cancelled: {req_id}")


def _head_timestamp(session: Session, request: Request) -> None:
    stock = session.hub.catalog.stock(request["contract"])
    what = parse_kind(request["what_to_show"], WHAT_TO_SHOW)
    check_history(session.hub, request, symbol=stock.symbol)
    line, now_ns = session.hub.market.lines[stock.symbol], session.hub.market.now_ns
    first_ns = head_ns(line, what, is_regular=request["use_rth"], now_ns=now_ns)
    if first_ns is None:
        raise no_data(stock.symbol, what)
    first_s = first_ns // NS_PER_S
    if request["format_date"] == 2:  # noqa: PLR2004 - the protocol's number for epoch seconds
        text = str(first_s)
    else:
        text = utc(first_s * NS_PER_S).strftime("%Y%m%d-%H:%M:%S")
    session.send("headTimestamp", req_id=request["req_id"], timestamp=text)


def _nothing(_session: Session, _request: Request) -> None:
    """For cancels of requests that are answered at once."""


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "reqHistoricalData": _historical_data,
    "cancelHistoricalData": _cancel_historical_data,
    "reqHeadTimeStamp": _head_timestamp,
    "cancelHeadTimeStamp": _nothing,
}
