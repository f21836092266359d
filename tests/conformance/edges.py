"""Edges of the families: a market that falls, orders that hang together, what is refused.

The market is that of `tests.conformance.falling_tape`. Each edge is a short story that a desk
plays; what has to be seen is said by the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.desk import IBM, NOBODY, SPY, Desk, feed, refusal

Seen = dict[str, Any]
FROZEN = 2
_SUMMARY = ("NetLiquidation", "TotalCashValue", "GrossPositionValue")


def closed_market(desk: Desk) -> Seen:
    """Frozen data after yesterday's close."""
    desk.open()
    desk.data_type(FROZEN)
    return {"quote": desk.quote(desk.watch(SPY)), "errors": desk.errors()}


def round_trip(desk: Desk) -> Seen:
    """A hundred shares are bought, held for five seconds and sold."""
    desk.open()
    of_all, of_one = desk.pnl(), desk.pnl_single(SPY.con_id)
    desk.place(SPY, "BUY", 100, "MKT", tif="DAY", orderRef="in")
    desk.play(5)
    seen: Seen = {"held": [desk.pnl_of(of_all), desk.pnl_of(of_one)]}
    desk.place(SPY, "SELL", 100, "MKT", tif="DAY", orderRef="out")
    desk.play(1)
    seen["sold"] = [desk.pnl_of(of_all), desk.pnl_of(of_one)]
    desk.end_pnl(of_all)
    desk.end_pnl(of_one)
    values = desk.account_values()
    seen |= {
        "executions": desk.executions(),
        "completed": desk.completed_orders(),
        "values": {key: values[key] for key in _SUMMARY},
        # What has been closed today is told as none held, or left out.
        "positions": [row for row in desk.positions() if row[2]],
        "errors": desk.errors(),
    }
    return seen


def falling(desk: Desk) -> Seen:
    """Stops of all kinds wait for the price to fall, and then fill."""
    desk.open()
    desk.place(SPY, "BUY", 100, "MKT", tif="DAY")
    resting = desk.place(SPY, "SELL", 50, "LMT", lmtPrice=102.0, tif="DAY")
    desk.modify(resting, lmtPrice=100.02, totalQuantity=40)
    desk.play(20)
    stops = {
        "stop": desk.place(SPY, "SELL", 10, "STP", auxPrice=100.0, tif="DAY"),
        "stop_limit": desk.place(
            SPY, "SELL", 10, "STP LMT", auxPrice=99.99, lmtPrice=99.95, tif="DAY"
        ),
        "trail": desk.place(
            SPY, "SELL", 10, "TRAIL", auxPrice=0.05, trailStopPrice=100.03, tif="DAY"
        ),
    }
    seen: Seen = {"modified": desk.order(resting)}
    seen["waiting"] = {name: desk.order(handle) for name, handle in stops.items()}
    desk.play(15)
    return seen | {"filled": {name: desk.order(handle) for name, handle in stops.items()}}


def relatives(desk: Desk) -> Seen:
    """Children sleep and end with their parent; a group of type 3 takes from the rivals."""
    desk.open()
    parent = desk.place(SPY, "BUY", 100, "LMT", lmtPrice=98.0, tif="DAY", transmit=False)
    parent_id = desk.order_id(parent)
    child = desk.place(SPY, "SELL", 100, "LMT", lmtPrice=103.0, tif="DAY", parentId=parent_id)
    seen: Seen = {"parent_id": parent_id, "sleeping": desk.order(child)}
    desk.cancel(parent)
    seen["ended"] = [desk.order(handle) for handle in (parent, child)]
    group = {"ocaGroup": "pair", "ocaType": 3, "tif": "DAY"}
    pair = [
        desk.place(SPY, "SELL", 2_000, "LMT", lmtPrice=100.06, **group),
        desk.place(SPY, "BUY", 1_000, "LMT", lmtPrice=98.0, **group),
    ]
    desk.play(8)
    seen["reduced"] = [desk.order(handle) for handle in pair]
    desk.global_cancel()
    return seen | {"cancelled": [desk.order(handle) for handle in pair]}


def refusals(desk: Desk) -> Seen:
    """Whatever a request asks for in vain, its own error says so."""
    desk.open()
    desk.play(31)
    con_id = desk.details(feed("BRFG"))[0]["con_id"]
    seen: Seen = {
        "bars_of_nobody": refusal(desk.bars, NOBODY, "60 S", "1 min"),
        "bars_of_no_kind": refusal(desk.bars, SPY, "60 S", "1 min", whatToShow="FEE_RATE"),
        "ticks_of_no_time": refusal(desk.past_ticks, IBM, "", 9, "TRADES"),
        "options_of_nobody": refusal(desk.option_parameters, NOBODY),
        "components_of_nothing": refusal(desk.smart_components, "xyz"),
        "nothing_matching": desk.matching("ZZZ"),
        "news_of_nobody": refusal(desk.past_news, SPY.con_id, "FLY", 1),
        "both_sides": desk.bars(SPY, "60 S", "30 secs", whatToShow="BID_ASK"),
        "errors": desk.errors(),
    }
    desk.watch(feed("BRFG", con_id), "mdoff")
    desk.ticks(NOBODY, "Last")
    desk.depth(NOBODY, is_smart=False)
    desk.real_time(SPY, "BID_ASK")
    seen["streams"] = [[code, symbol] for code, _, symbol in desk.errors()]
    seen["order"] = desk.order(desk.place(SPY, "BUY", 1, "REL", tif="DAY"))["errors"]
    return seen


def comeback(desk: Desk) -> Seen:
    """A client that has gone away comes back, closes its position and cancels its order."""
    desk.open()
    gone = desk.other(7)
    gone.place(SPY, "BUY", 100, "MKT", tif="DAY", orderRef="kept")
    resting = gone.place(SPY, "BUY", 50, "LMT", lmtPrice=98.0, tif="GTC", orderRef="rests")
    next_id = gone.next_id()
    gone.close()
    back = desk.other(7)
    seen: Seen = {"ids": [next_id, back.next_id()], "open": _without_ids(back.open_orders())}
    seen["executions"] = back.executions()
    sold = back.place(SPY, "SELL", 100, "MKT", tif="DAY")
    back.cancel_id(gone.order_id(resting))
    return seen | {"sold": back.order(sold), "open_in_the_end": back.open_orders()}


def _without_ids(rows: list[list[Any]]) -> list[list[Any]]:
    return [[client_id, *what] for client_id, _, *what in rows]


EDGES: Mapping[str, Callable[[Desk], Seen]] = {
    edge.__name__: edge
    for edge in (closed_market, round_trip, falling, relatives, refusals, comeback)
}
