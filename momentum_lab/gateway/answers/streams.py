"""Answers about streams beside the quotes: tick by tick, depth, real-time bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from momentum_lab.gateway.answers.allowance import check_history, check_lines
from momentum_lab.gateway.answers.past import send_past_ticks
from momentum_lab.gateway.answers.quotes import data_type_of
from momentum_lab.gateway.history import KEPT_KINDS, HistoryQuery
from momentum_lab.gateway.refusal import DUPLICATE_ID, RefusedError, invalid
from momentum_lab.gateway.streams import REAL_TIME_S, TICK_KINDS, Depth, RealTimeBars, TickByTick
from momentum_lab.gateway.ticks import LIVE
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

# Of a hundred lines: one in twenty tick by tick, and three books.
LINES_PER_TICK_BY_TICK, MAX_DEPTHS = 20, 3
MAX_DEPTH_ROWS = 60
TOO_MANY_TICKS, NO_TICKS, TOO_MANY_DEPTHS, UNKNOWN_DEPTH = 10190, 10189, 309, 310
BAD_REAL_TIME, NO_REAL_TIME = 420, 300
# The kinds of ticks by the kind of past ticks that belong to them.
_PAST_OF = {"Last": "TRADES", "AllLast": "TRADES", "BidAsk": "BID_ASK", "MidPoint": "MIDPOINT"}


def _check_id(session: Session, taken: Mapping[int, object], req_id: int) -> None:
    if req_id in taken:
        cause = "Error processing request.-'bG' : cause - Duplicate ticker id"
        raise RefusedError(DUPLICATE_ID, cause)
    session.hub.has_streamed = True


def _check_live(session: Session, symbol: str, code: int) -> None:
    """Refuse a stream that exists live only, where live data has not been bought."""
    try:
        is_live = data_type_of(session, symbol) == LIVE or not session.hub.settings.unsubscribed
    except RefusedError:
        is_live = False
    if not is_live:
        text = "Failed to request live data:No market data permissions for the instrument."
        raise RefusedError(code, text)


def _tick_by_tick(session: Session, request: Request) -> None:
    req_id, wanted, hub = request["req_id"], session.subscriptions, session.hub
    stock = hub.catalog.stock(request["contract"])
    kind = TICK_KINDS.get(request["tick_type"])
    if kind is None:
        raise invalid(f"Invalid tick type {request['tick_type']}; known are {list(TICK_KINDS)}")
    if len(wanted.ticks) >= hub.settings.limits.max_lines // LINES_PER_TICK_BY_TICK:
        text = "Max number of tick-by-tick requests has been reached."
        raise RefusedError(TOO_MANY_TICKS, text)
    _check_live(session, stock.symbol, NO_TICKS)
    _check_id(session, wanted.ticks, req_id)
    if request["number_of_ticks"] > 0:
        what = _PAST_OF[request["tick_type"]]
        send_past_ticks(session, req_id, stock, what, number=request["number_of_ticks"])
    line = TickByTick(req_id, stock.symbol, kind, request["ignore_size"])
    wanted.ticks[req_id] = line
    today = hub.market.today(stock.symbol)
    if today is not None:
        # The quote of now; the last trade has been told to those who were there.
        voice = session.voice
        voice.send(line.hear_quote(today, voice))


def _cancel_tick_by_tick(session: Session, request: Request) -> None:
    if session.subscriptions.ticks.pop(request["req_id"], None) is None:
        raise RefusedError(NO_REAL_TIME, f"Can't find EId with tickerId:{request['req_id']}")


def _depth(session: Session, request: Request) -> None:
    req_id, wanted, hub = request["req_id"], session.subscriptions, session.hub
    stock = hub.catalog.stock(request["contract"])
    if not 0 < request["num_rows"] <= MAX_DEPTH_ROWS:
        raise invalid(f"Invalid number of rows {request['num_rows']}")
    if len(wanted.depths) >= MAX_DEPTHS:
        text = f"Max number ({MAX_DEPTHS}) of market depth requests has been reached."
        raise RefusedError(TOO_MANY_DEPTHS, text)
    _check_live(session, stock.symbol, NO_TICKS)
    _check_id(session, wanted.depths, req_id)
    asked = request["contract"]["exchange"]
    exchange = stock.primary_exchange if asked in ("", "SMART") else asked
    line = Depth(req_id, stock.symbol, request["is_smart_depth"], exchange)
    wanted.depths[req_id] = line
    today = hub.market.today(stock.symbol)
    if today is not None:
        session.send_all(line.hear(today))


def _cancel_depth(session: Session, request: Request) -> None:
    if session.subscriptions.depths.pop(request["req_id"], None) is None:
        text = f"Can't find the subscribed market depth with tickerId:{request['req_id']}"
        raise RefusedError(UNKNOWN_DEPTH, text)


def _real_time_bars(session: Session, request: Request) -> None:
    req_id, wanted, hub = request["req_id"], session.subscriptions, session.hub
    stock = hub.catalog.stock(request["contract"])
    what = request["what_to_show"].upper()
    if what not in KEPT_KINDS:
        raise RefusedError(BAD_REAL_TIME, f"Invalid Real-time Query:no real-time bars of {what}")
    _check_live(session, stock.symbol, BAD_REAL_TIME)
    check_lines(hub)
    _check_id(session, wanted.real_time, req_id)
    check_history(hub, request, symbol=stock.symbol)
    # Whatever length is asked for, the broker tells bars of five seconds.
    query = HistoryQuery(0, 0, REAL_TIME_S, is_regular=request["use_rth"], what=what)
    wanted.real_time[req_id] = RealTimeBars(req_id, stock.symbol, query)


def _cancel_real_time_bars(session: Session, request: Request) -> None:
    if session.subscriptions.real_time.pop(request["req_id"], None) is None:
        raise RefusedError(NO_REAL_TIME, f"Can't find EId with tickerId:{request['req_id']}")


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "reqTickByTickData": _tick_by_tick,
    "cancelTickByTickData": _cancel_tick_by_tick,
    "reqMktDepth": _depth,
    "cancelMktDepth": _cancel_depth,
    "reqRealTimeBars": _real_time_bars,
    "cancelRealTimeBars": _cancel_real_time_bars,
}
