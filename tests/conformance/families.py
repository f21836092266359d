"""The families of requests: each asks one desk for what belongs together, and tells what it saw.

What is seen is plain values, so that it can be compared with what the tape holds. The tape is that
of `tests.conformance.tape`; its market stands still except where a family lets it go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.desk import IBM, NOBODY, SPY, Desk, feed, refusal

Seen = dict[str, Any]
NEWER_SINCE = 167
SUMMARY = ("AccountType", "NetLiquidation", "TotalCashValue", "BuyingPower", "GrossPositionValue")
# What libraries show of an order's terms alike; of the rest each has its own picture.
_TERMS = ("orderType", "tif", "orderRef", "lmtPrice", "auxPrice")


def fate(desk: Desk, handle: Any) -> Seen:
    """What became of an order so far."""
    return {key: value for key, value in desk.order(handle).items() if key != "terms"}


def shown(desk: Desk, handle: Any) -> list[Any]:
    """The terms of a working order."""
    terms = desk.order(handle)["terms"]
    return [terms[name] for name in _TERMS]


def refused(desk: Desk, handle: Any) -> Seen:
    """Why an order never came to work; what a library calls its state then is its own affair."""
    found = desk.order(handle)
    return {
        "errors": found["errors"],
        "is_accepted": "Submitted" in found["statuses"],
        "fills": found["fills"],
    }


def session(desk: Desk) -> Seen:
    """The handshake, ids, accounts, the time, and a client id that is in use."""
    seen: Seen = {"opened": desk.open(), "time": desk.time()}
    desk.play(3)
    seen |= {
        "time_later": desk.time(),
        "accounts": desk.accounts(),
        "next_id": desk.next_id(),
        "family_codes": desk.family_codes(),
        "scanner_parameters": desk.scanner_parameters(),
        "unsupported": refusal(desk.unsupported),
        "busy": refusal(lambda: desk.other(1)),
        "other": desk.other(2).accounts(),
        "errors": desk.errors(),
    }
    return seen


def account(desk: Desk) -> Seen:
    """Values, holdings, positions and profits, before a purchase and after it."""
    desk.open()
    desk.play(2)
    seen: Seen = {"before": desk.account_values(), "no_positions": desk.positions()}
    desk.place(SPY, "BUY", 100, "MKT", tif="DAY")
    pnl, single = desk.pnl(), desk.pnl_single(SPY.con_id)
    desk.play(1)
    seen |= {"pnl": desk.pnl_of(pnl), "single": desk.pnl_of(single)}
    desk.end_pnl(pnl)
    desk.end_pnl(single)
    seen |= {
        "positions": desk.positions(),
        "positions_multi": desk.positions_multi(),
        "values": desk.account_values(),
        "multi": desk.account_multi(),
        "summary": {tag: desk.account_summary()[tag] for tag in SUMMARY},
        "portfolio": desk.portfolio(),
        "errors": desk.errors(),
    }
    return seen


def contracts(desk: Desk) -> Seen:
    """Details, search and reference data."""
    desk.open()
    seen: Seen = {"details": desk.details(SPY), "feed": desk.details(feed("BRFG"))}
    for details in (*seen["details"], *seen["feed"]):
        # Sizes came later: they are asked for with what else did.
        del details["min_size"], details["suggested_size"]
    return seen | {
        "unknown": refusal(desk.details, NOBODY),
        "matching": desk.matching("SP"),
        "market_rule": desk.market_rule(26),
        "option_parameters": desk.option_parameters(SPY),
        "depth_exchanges": desk.depth_exchanges(),
        "smart_components": desk.smart_components("9c0001"),
        "soft_dollar_tiers": desk.soft_dollar_tiers(),
        "errors": desk.errors(),
    }


def quotes(desk: Desk) -> Seen:
    """Streams of quotes, snapshots, cancellation and errors."""
    desk.open()
    line = desk.watch(SPY, "233,236")
    desk.play(3)
    seen: Seen = {"stream": desk.quote(line)}
    desk.play(1)
    seen |= {"later": desk.quote(line), "snapshot": desk.snapshot(IBM)}
    desk.control(do="inject", fault="halt", **{"with": {"symbol": "SPY"}})
    desk.play(1)
    seen["halted"] = desk.quote(line)
    desk.control(do="end", fault="halt")
    desk.play(1)
    seen["resumed"] = desk.quote(line)
    desk.unwatch(line)
    desk.play(5)
    seen["after_the_end"] = desk.quote(line)
    desk.watch(NOBODY)
    desk.watch(SPY, "nonsense")
    seen["errors"] = desk.errors()
    return seen


def delayed(desk: Desk) -> Seen:
    """Data that the account has not bought; the gateway is started without that of SPY."""
    desk.open()
    desk.watch(SPY)
    seen: Seen = {"live": desk.errors()}
    desk.data_type(3)
    desk.control(do="step", seconds=905)
    line = desk.watch(SPY)
    seen |= {"opening": desk.quote(line), "warned": desk.errors()}
    desk.control(do="step", seconds=1)
    seen |= {"later": desk.quote(line), "errors": desk.errors()}
    for quote in (seen["opening"], seen["later"]):
        # Not every library knows this tick in its delayed spelling.
        quote.pop("halted", None)
    return seen


def streams(desk: Desk) -> Seen:
    """Tick by tick, the book and real-time bars."""
    desk.open()
    # Libraries keep all kinds of one contract in one place: of trades there is one kind here.
    lines = {kind: desk.ticks(IBM, kind) for kind in ("Last", "BidAsk", "MidPoint")}
    book, bars = desk.depth(IBM, is_smart=False), desk.real_time(SPY, "TRADES")
    desk.play(1)
    seen: Seen = {"first_book": desk.depth_of(book)}
    desk.play(4)
    seen |= {kind: desk.ticks_of(line) for kind, line in lines.items()}
    seen["book"] = desk.depth_of(book)
    desk.play(5)
    seen["real_time"] = desk.real_time_of(bars)
    for line in lines.values():
        desk.end_ticks(line)
    desk.end_depth(book)
    desk.end_real_time(bars)
    desk.play(5)
    seen |= {"after_the_end": len(desk.real_time_of(bars)), "errors": desk.errors()}
    return seen


def streams_of_all(desk: Desk) -> Seen:
    """Tick by tick of all trades, and the book with the exchange that quotes."""
    desk.open()
    line, book = desk.ticks(IBM, "AllLast"), desk.depth(IBM, is_smart=True)
    desk.play(5)
    seen: Seen = {"AllLast": desk.ticks_of(line), "book": desk.depth_of(book)}
    desk.end_ticks(line)
    desk.end_depth(book)
    seen["errors"] = desk.errors()
    return seen


def past(desk: Desk) -> Seen:
    """Bars of every sort, ticks of the past, sessions, histograms."""
    desk.open()
    desk.watch(SPY, "mdoff,292")
    desk.play(70)
    epoch, text = {"formatDate": 2}, {"formatDate": 1}
    seen: Seen = {
        "minutes": desk.bars(SPY, "120 S", "1 min", **epoch),
        "minutes_as_text": desk.bars(SPY, "120 S", "1 min", **text),
        "days": desk.bars(SPY, "2 D", "1 day", **text),
        "middles": desk.bars(IBM, "1 D", "1 min", whatToShow="MIDPOINT"),
        "up_to": desk.bars(SPY, "60 S", "30 secs", endDateTime="20131009 12:01:00 US/Eastern"),
        "no_data": refusal(desk.bars, IBM, "60 S", "1 secs", endDateTime="20131008-12:00:00"),
        "bad_size": refusal(desk.bars, SPY, "60 S", "7 secs"),
        "head": [desk.head(SPY, 1), desk.head(SPY, 2)],
        "trades": desk.past_ticks(IBM, "20131009 12:00:01", 2, "TRADES"),
        "quotes": desk.past_ticks(IBM, "20131009 12:00:01", 9, "BID_ASK"),
        "mids": desk.past_ticks(IBM, "20131009 12:00:02", 1, "MIDPOINT"),
        "histogram": desk.histogram(IBM, "1 day"),
    }
    kept = desk.keep_bars(SPY, "60 S", "5 secs")
    seen["kept"] = desk.bars_of(kept)[-1]
    desk.play(6)
    seen["kept_later"] = desk.bars_of(kept)[-2:]
    desk.end_bars(kept)
    # The text names the request's id.
    seen["errors"] = [code for code, *_ in desk.errors()]
    return seen


def newer(desk: Desk) -> Seen:
    """What later versions of the protocol have brought: `NEWER_SINCE`."""
    desk.open()
    (details,) = desk.details(SPY)
    return {
        "user_info": desk.user_info(),
        "sizes": [details["min_size"], details["suggested_size"]],
        "schedule": desk.schedule(SPY, 2),
        "errors": desk.errors(),
    }


def news(desk: Desk) -> Seen:
    """Providers, live headlines, past ones, articles, bulletins."""
    desk.open()
    # One library cannot watch what has no contract id.
    con_id = desk.details(feed("BRFG"))[0]["con_id"]
    desk.watch(feed("BRFG", con_id), "mdoff,292")
    desk.watch(SPY, "mdoff,292:BRFG+DJNL")
    desk.play(4)
    seen: Seen = {"headlines": desk.headlines()}
    desk.play(4)
    seen |= {
        "later": desk.headlines(),
        "providers": desk.providers(),
        "past": desk.past_news(SPY.con_id, "BRFG+DJNL", 10),
        "newest": desk.past_news(SPY.con_id, "BRFG+DJNL", 1),
        "text": desk.article("BRFG", "BRFG$00000001"),
        "pdf": desk.article("DJNL", "DJNL$00000003"),
        "no_article": refusal(desk.article, "BRFG", "BRFG$99999999"),
        "not_allowed": refusal(desk.article, "FLY", "FLY$00000001"),
        "bulletins": desk.bulletins(),
        "errors": desk.errors(),
    }
    return seen


def orders(desk: Desk) -> Seen:
    """Every type of order, their changes and ends, and what can be asked about them."""
    desk.open()
    desk.watch(SPY)
    desk.play(2)
    seen: Seen = {"what_if": desk.what_if(SPY, "BUY", 100)}
    market = desk.place(SPY, "BUY", 100, "MKT", tif="DAY", orderRef="first")
    limit = desk.place(SPY, "BUY", 50, "LMT", lmtPrice=90.0, tif="GTC", orderRef="second")
    seen |= {"market": fate(desk, market), "resting": fate(desk, limit)}
    seen["terms"] = [shown(desk, market), shown(desk, limit)]
    desk.modify(limit, lmtPrice=91.0, totalQuantity=60)
    seen |= {"modified": fate(desk, limit), "open": _without_ids(desk.open_orders())}
    desk.cancel(limit)
    seen["cancelled"] = fate(desk, limit)
    stop = desk.place(SPY, "BUY", 10, "STP", auxPrice=100.05, tif="DAY")
    terms = {"auxPrice": 100.05, "lmtPrice": 100.2, "tif": "DAY"}
    stop_limit = desk.place(SPY, "BUY", 10, "STP LMT", **terms)
    trail = desk.place(SPY, "SELL", 10, "TRAIL", auxPrice=0.5, tif="DAY")
    seen |= {"stop": fate(desk, stop), "trail": fate(desk, trail)}
    seen["terms"] += [shown(desk, order) for order in (stop, stop_limit, trail)]
    desk.play(5)
    seen |= {"triggered": fate(desk, stop), "triggered_limit": fate(desk, stop_limit)}
    desk.cancel(trail)
    seen |= {
        "off_the_grid": refused(desk, desk.place(SPY, "BUY", 1, "LMT", lmtPrice=90.001)),
        "rejected": refused(desk, desk.place(SPY, "BUY", 10_000_000, "MKT")),
        "unknown": refused(desk, desk.place(NOBODY, "BUY", 1, "MKT"))["errors"],
        "executions": desk.executions(),
        "completed": [row[:5] for row in desk.completed_orders()],
        "trail_cancelled": fate(desk, trail)["errors"],
    }
    desk.cancel_id(4711)
    seen["errors"] = desk.errors()
    return seen


def _without_ids(rows: list[list[Any]]) -> list[list[Any]]:
    """Open orders without their order ids, which libraries choose."""
    return sorted([row[0], *row[2:]] for row in rows)


def groups(desk: Desk) -> Seen:
    """Brackets, groups of which one cancels the others, and the end of all."""
    desk.open()
    desk.watch(SPY)
    desk.play(2)
    parent = desk.place(SPY, "BUY", 100, "LMT", lmtPrice=100.5, tif="DAY", transmit=False)
    family = {"parentId": desk.order_id(parent), "tif": "GTC"}
    target = desk.place(SPY, "SELL", 100, "LMT", lmtPrice=100.06, transmit=False, **family)
    held = desk.open_orders()
    stop = desk.place(SPY, "SELL", 100, "STP", auxPrice=99.0, transmit=True, **family)
    seen: Seen = {"held": held, "parent": fate(desk, parent)}
    seen |= {"target": fate(desk, target), "stop": fate(desk, stop)}
    seen["terms"] = [shown(desk, order) for order in (parent, target, stop)]
    desk.play(6)
    seen |= {"target_later": fate(desk, target), "stop_later": fate(desk, stop)}
    terms = {"ocaGroup": "either", "ocaType": 1, "tif": "DAY"}
    near = desk.place(SPY, "BUY", 10, "STP", auxPrice=100.09, **terms)
    far = desk.place(SPY, "BUY", 10, "LMT", lmtPrice=90.0, **terms)
    desk.play(3)
    seen |= {"near": fate(desk, near), "far": fate(desk, far)}
    mine = desk.place(SPY, "BUY", 1, "LMT", lmtPrice=80.0, tif="DAY")
    other = desk.other(2)
    theirs = other.place(SPY, "BUY", 2, "LMT", lmtPrice=81.0, tif="DAY")
    seen |= {
        "own_open": _without_ids(desk.open_orders()),
        "all_open": _without_ids(desk.open_orders(of_all=True)),
    }
    other.global_cancel()
    seen |= {"mine": fate(desk, mine), "theirs": fate(other, theirs), "errors": desk.errors()}
    return seen


def reconnect(desk: Desk) -> Seen:
    """A client goes away with an order and a position, and finds both again."""
    desk.open()
    first = desk.other(7)
    first.watch(SPY)
    first.play(2)
    first.place(SPY, "BUY", 100, "MKT", tif="DAY", orderRef="kept")
    first.place(SPY, "SELL", 100, "STP", auxPrice=90.0, tif="GTC", orderRef="protects")
    last_id = first.next_id()
    first.close()
    desk.control(do="step", seconds=3)
    again = desk.other(7)
    return {
        "id_grows": again.next_id() >= last_id,
        "open": _without_ids(again.open_orders()),
        "positions": again.positions(),
        "executions": [[e["side"], e["shares"], e["order_ref"]] for e in again.executions()],
        "errors": again.errors(),
    }


FAMILIES: dict[str, Callable[[Desk], Seen]] = {
    family.__name__: family
    for family in (
        *(session, account, contracts, quotes, delayed, streams, streams_of_all),
        *(past, newer, news, orders, groups, reconnect),
    )
}
