"""Answers about single ticks of the past, sessions, and volumes at prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.gateway.answers.allowance import check_history
from momentum_lab.gateway.history import HistoryQuery, no_data, parse_end
from momentum_lab.gateway.line import Line
from momentum_lab.gateway.refusal import invalid
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

MAX_TICKS = 1_000
_REPLIES = {
    "TRADES": "historicalTicksLast",
    "BID_ASK": "historicalTicksBidAsk",
    "MIDPOINT": "historicalTicks",
}
_PERIOD = re.compile(r"^\s*(\d+)\s*([a-z]+)\s*$", re.IGNORECASE)
_PERIOD_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}
_PERIOD_SECONDS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "hour": 3600}


def _historical_ticks(session: Session, request: Request) -> None:
    stock, market = session.hub.catalog.stock(request["contract"]), session.hub.market
    what = request["what_to_show"].upper()
    if what not in _REPLIES:
        raise invalid(f"Invalid what to show {what}; known are {list(_REPLIES)}")
    start, end = request["start_date_time"].strip(), request["end_date_time"].strip()
    if bool(start) == bool(end):
        raise invalid("Specify either the start or the end of historical ticks, not both")
    instant_ns = parse_end(start or end, hours=market.hours, now_ns=market.now_ns)
    _check_number(request["number_of_ticks"])
    check_history(session.hub, request, symbol=stock.symbol)
    send_past_ticks(
        session,
        request["req_id"],
        stock,
        what,
        number=request["number_of_ticks"],
        start_ns=instant_ns if start else None,
        end_ns=instant_ns if end else None,
        is_regular=request["use_rth"],
        ignores_size=request["ignore_size"],
    )


def send_past_ticks(  # noqa: PLR0913 - keyword-only
    session: Session,
    req_id: int,
    stock: Instrument,
    what: str,
    *,
    number: int,
    start_ns: int | None = None,
    end_ns: int | None = None,
    is_regular: bool = False,
    ignores_size: bool = False,
) -> None:
    """Send ticks of the past in time order, with all of the last second that is told.

    Args:
        session: who asked.
        req_id: under which id.
        stock: of what.
        what: "TRADES", "BID_ASK" or "MIDPOINT".
        number: how many, at most `MAX_TICKS`.
        start_ns: the first at or after it; None for the last ones before `end_ns`.
        end_ns: where they end, None for now.
        is_regular: only those of regular sessions.
        ignores_size: quotes that differ in sizes alone are one.

    Raises:
        RefusedError: the number is none.
    """
    _check_number(number)
    market = session.hub.market
    line, now_ns = market.lines[stock.symbol], market.now_ns
    at_ns, ticks = _ticks_of(line, what, until_ns=now_ns, is_regular=is_regular)
    if what != "TRADES" and ignores_size and len(at_ns):
        at_ns, ticks = _without_repeats(at_ns, ticks)
    chosen = _chosen(at_ns // NS_PER_S, number, start_ns=start_ns, end_ns=end_ns)
    told = [{"time_s": int(at_ns[n]) // NS_PER_S, **ticks(n)} for n in chosen]
    session.send(_REPLIES[what], req_id=req_id, ticks=told, is_done=True)


def _check_number(number: int) -> None:
    if not 0 < number <= MAX_TICKS:
        raise invalid(f"Number of ticks must be in 1..{MAX_TICKS}, found {number}")


Ticks = Callable[[int], dict[str, Any]]


def _ticks_of(
    line: Line, what: str, *, until_ns: int, is_regular: bool
) -> tuple[np.ndarray[Any, Any], Ticks]:
    """Return the instants of all ticks known, and how each of them is told."""
    if what != "TRADES" and len(line.quotes):
        quotes = line.quotes
        known = np.arange(quotes.n_known(until_ns))
        places = known[quotes.is_two_sided[known] & (quotes.is_regular[known] | (not is_regular))]
        return quotes.at_ns[places], lambda n: _quote(what, *quotes.row(int(places[n])))
    known = np.arange(line.n_known(until_ns))
    places = known[line.is_told[known] & (line.is_regular[known] | (not is_regular))]

    def tick(number: int) -> dict[str, Any]:
        place = int(places[number])
        price = float(line.close[place])
        if what != "TRADES":
            return _quote(what, *line.modelled(price))
        return {
            "price": price,
            "size": int(line.volume[place]),
            "exchange": line.exchange[place],
            "special_conditions": line.conditions[place],
        }

    # A bar is told as one trade, inside it and not at its end, which is the next one's start.
    length_ns = line.end_ns[places] - line.start_ns[places]
    return line.end_ns[places] - np.minimum(length_ns, 1), tick


def _quote(what: str, bid: float, ask: float, bid_size: int, ask_size: int) -> dict[str, Any]:
    if what == "MIDPOINT":
        return {"price": round((bid + ask) / 2, 10), "size": 0}
    return {"bid_price": bid, "ask_price": ask, "bid_size": bid_size, "ask_size": ask_size}


def _without_repeats(
    at_ns: np.ndarray[Any, Any], ticks: Ticks
) -> tuple[np.ndarray[Any, Any], Ticks]:
    def prices(number: int) -> tuple[Any, ...]:
        tick = ticks(number)
        return tick.get("price"), tick.get("bid_price"), tick.get("ask_price")

    told = [n for n in range(len(at_ns)) if not n or prices(n) != prices(n - 1)]
    return at_ns[told], lambda n: ticks(told[n])


def _chosen(
    seconds: np.ndarray[Any, Any], number: int, *, start_ns: int | None, end_ns: int | None
) -> range:
    """Return which ticks are told: so many from the start or before the end, seconds whole."""
    if start_ns is not None:
        first = int(np.searchsorted(seconds, start_ns // NS_PER_S, side="left"))
        last = min(len(seconds), first + number)
        if last > first:
            last = int(np.searchsorted(seconds, seconds[last - 1], side="right"))
        return range(first, last)
    last = len(seconds)
    if end_ns is not None:
        last = int(np.searchsorted(seconds, end_ns // NS_PER_S, side="left"))
    first = max(0, last - number)
    if last > first:
        first = int(np.searchsorted(seconds, seconds[first], side="left"))
    return range(first, last)


def send_schedule(session: Session, request: Request, query: HistoryQuery) -> None:
    """Send the sessions of a span of days, as `reqHistoricalData` of SCHEDULE asks for."""
    hours, sessions = session.hub.market.hours, []
    day, last = hours.day(query.start_ns), hours.day(max(query.start_ns, query.end_ns - 1))
    while day <= last:
        found = hours.session(day, regular=query.is_regular)
        if found is not None:
            start, end = (f"{hours.local(at_ns):%Y%m%d-%H:%M:%S}" for at_ns in found)
            sessions.append({"start": start, "end": end, "ref_date": f"{day:%Y%m%d}"})
        day += timedelta(days=1)
    if not sessions:
        raise no_data(request["contract"]["symbol"], query.what)
    session.send(
        "historicalSchedule",
        req_id=request["req_id"],
        start=sessions[0]["start"],
        end=sessions[-1]["end"],
        time_zone=hours.zone_name,
        sessions=sessions,
    )


def _histogram(session: Session, request: Request) -> None:
    stock, market = session.hub.catalog.stock(request["contract"]), session.hub.market
    line, now_ns = market.lines[stock.symbol], market.now_ns
    start_ns = _period_start(request["period"], session)
    rows = np.arange(
        int(np.searchsorted(line.start_ns, start_ns, side="left")), line.n_known(now_ns)
    )
    wanted = line.is_told[rows] & (line.is_regular[rows] | (not request["use_rth"]))
    rows = rows[wanted]
    ticks = np.round(line.close[rows] / stock.tick_usd).astype("int64")
    prices, places = np.unique(ticks, return_inverse=True)
    shares = np.bincount(places, weights=line.volume[rows], minlength=len(prices))
    bins = [
        {"price": round(int(price) * stock.tick_usd, 10), "count": int(count)}
        for price, count in zip(prices, shares, strict=True)
    ]
    session.send("histogramData", req_id=request["req_id"], bins=bins)


def _period_start(text: str, session: Session) -> int:
    market = session.hub.market
    match = _PERIOD.match(text)
    number, unit = (int(match[1]), match[2].lower()) if match else (0, "")
    unit = unit if unit in _PERIOD_SECONDS else unit.removesuffix("s")
    if number and unit in _PERIOD_SECONDS:
        return market.hours.back(
            market.now_ns, seconds=number * _PERIOD_SECONDS[unit], regular=False
        )
    if number and unit in _PERIOD_DAYS:
        n_days = min(number * _PERIOD_DAYS[unit], 366 * 100)
        first = market.hours.day(market.now_ns) - timedelta(days=n_days - 1)
        return market.hours.instant(first, time(0))
    raise invalid(f"Invalid period {text}; expected one such as 3 days")


def _nothing(_session: Session, _request: Request) -> None:
    """For cancels of requests that are answered at once."""


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "reqHistoricalTicks": _historical_ticks,
    "reqHistogramData": _histogram,
    "cancelHistogramData": _nothing,
}
