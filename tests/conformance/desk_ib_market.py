"""Market data, contracts and news of the desk of ib_insync and ib_async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.conformance.desk import Listed, RefusedError, moment, number

_TICKER = {
    "bid": "bid",
    "bid_size": "bidSize",
    "ask": "ask",
    "ask_size": "askSize",
    "last": "last",
    "last_size": "lastSize",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "halted": "halted",
    "mark": "markPrice",
    "rt_volume": "rtVolume",
    "vwap": "vwap",
    "to_short": "shortableShares",
    "type": "marketDataType",
    "min_tick": "minTick",
}


class MarketVerbs:
    """Needs `ib`, `ask`, `until`, `time` and `contract` of the desk."""

    ib: Any
    heard: list[list[Any]]
    bulletins_heard: list[list[Any]]
    ask: Callable[[Callable[[], Awaitable[Any]]], Any]
    until: Callable[..., list[Any]]
    time: Callable[[], int]
    contract: Callable[[Listed], Any]

    # -- contracts

    def details(self, contract: Listed) -> list[dict[str, Any]]:
        found = self.ask(lambda: self.ib.reqContractDetailsAsync(self.contract(contract)))
        return [details_of(item) for item in found]

    def matching(self, pattern: str) -> list[list[Any]]:
        found = self.ask(lambda: self.ib.reqMatchingSymbolsAsync(pattern))
        return [
            [i.contract.conId, i.contract.symbol, i.contract.secType, i.contract.primaryExchange]
            for i in found
        ]

    def market_rule(self, rule_id: int) -> list[list[float]]:
        found = self.ask(lambda: self.ib.reqMarketRuleAsync(rule_id))
        return [[step.lowEdge, step.increment] for step in found]

    def option_parameters(self, contract: Listed) -> list[Any]:
        return list(
            self.ask(
                lambda: self.ib.reqSecDefOptParamsAsync(contract.symbol, "", "STK", contract.con_id)
            )
        )

    def depth_exchanges(self) -> list[list[Any]]:
        found = self.ask(self.ib.reqMktDepthExchangesAsync)
        return [
            [row.exchange, row.secType, row.listingExch, row.serviceDataType, row.aggGroup]
            for row in found
        ]

    def smart_components(self, bbo_exchange: str) -> list[list[Any]]:
        found = self.ask(lambda: self.ib.reqSmartComponentsAsync(bbo_exchange))
        return [[row.bitNumber, row.exchange, row.exchangeLetter] for row in found]

    def soft_dollar_tiers(self) -> list[Any]:
        req_id = self.ib.client.getReqId()
        _, tiers = self.until("softDollarTiers", lambda: self.ib.client.reqSoftDollarTiers(req_id))
        return list(tiers)

    def histogram(self, contract: Listed, period: str) -> list[list[float]]:
        found = self.ask(
            lambda: self.ib.reqHistogramDataAsync(self.contract(contract), True, period)
        )
        return [[row.price, float(row.count)] for row in found]

    # -- quotes and streams

    def data_type(self, number: int) -> None:
        self.ib.reqMarketDataType(number)

    def watch(self, contract: Listed, generics: str = "") -> Any:
        return self.ib.reqMktData(self.contract(contract), generics)

    def snapshot(self, contract: Listed) -> dict[str, Any]:
        known = self.contract(contract)
        ticker = self.ib.reqMktData(known, "", snapshot=True)
        # The library has no method that waits for a snapshot's end and gives its errors too.
        self.until("tickSnapshotEnd", lambda: None)
        self.ib.wrapper.endTicker(ticker, "mktData")
        return ticks_of_ticker(ticker)

    def quote(self, handle: Any) -> dict[str, Any]:
        self.time()
        return ticks_of_ticker(handle)

    def unwatch(self, handle: Any) -> None:
        self.ib.cancelMktData(handle.contract)

    def ticks(self, contract: Listed, kind: str) -> Any:
        ticker = self.ib.reqTickByTickData(self.contract(contract), kind)
        found: list[list[Any]] = []
        wanted = {"BidAsk": "bidPrice", "MidPoint": "midPoint"}.get(kind, "specialConditions")

        def hear(ticker: Any) -> None:
            # A ticker is shared by all kinds of one contract.
            rows = [tick for tick in ticker.tickByTicks if hasattr(tick, wanted)]
            found.extend(tick_row(tick) for tick in rows)

        ticker.updateEvent += hear
        return ticker, kind, found, hear

    def ticks_of(self, handle: Any) -> list[list[Any]]:
        self.time()
        return list(handle[2])

    def end_ticks(self, handle: Any) -> None:
        ticker, kind, _, hear = handle
        self.ib.cancelTickByTickData(ticker.contract, kind)
        ticker.updateEvent -= hear

    def depth(self, contract: Listed, *, is_smart: bool) -> Any:
        return self.ib.reqMktDepth(self.contract(contract), 5, isSmartDepth=is_smart), is_smart

    def depth_of(self, handle: Any) -> dict[str, list[list[Any]]]:
        self.time()
        sides = {"bids": handle[0].domBids, "asks": handle[0].domAsks}
        return {
            side: [[row.price, float(row.size), row.marketMaker] for row in rows]
            for side, rows in sides.items()
        }

    def end_depth(self, handle: Any) -> None:
        self.ib.cancelMktDepth(handle[0].contract, isSmartDepth=handle[1])

    def real_time(self, contract: Listed, what: str) -> Any:
        return self.ib.reqRealTimeBars(self.contract(contract), 5, what, True)

    def real_time_of(self, handle: Any) -> list[list[Any]]:
        self.time()
        return [
            [moment(b.time), b.open_, b.high, b.low, b.close, float(b.volume), b.wap, b.count]
            for b in handle
        ]

    def end_real_time(self, handle: Any) -> None:
        self.ib.cancelRealTimeBars(handle)

    # -- the past

    def bars(self, contract: Listed, duration: str, size: str, **more: Any) -> list[list[Any]]:
        wanted = {"endDateTime": "", "whatToShow": "TRADES", "useRTH": True, "formatDate": 2}
        wanted |= {"durationStr": duration, "barSizeSetting": size, **more}
        found = self.ask(lambda: self.ib.reqHistoricalDataAsync(self.contract(contract), **wanted))
        return [bar_row(bar) for bar in found]

    def keep_bars(self, contract: Listed, duration: str, size: str) -> Any:
        return self.ask(
            lambda: self.ib.reqHistoricalDataAsync(
                self.contract(contract), "", duration, size, "TRADES", True, 2, keepUpToDate=True
            )
        )

    def bars_of(self, handle: Any) -> list[list[Any]]:
        self.time()
        return [bar_row(bar) for bar in handle]

    def end_bars(self, handle: Any) -> None:
        self.ib.cancelHistoricalData(handle)

    def schedule(self, contract: Listed, n_days: int) -> dict[str, Any]:
        found = self.ask(
            lambda: self.ib.reqHistoricalScheduleAsync(self.contract(contract), n_days)
        )
        return {
            "zone": found.timeZone,
            "sessions": [[s.refDate, s.startDateTime, s.endDateTime] for s in found.sessions],
        }

    def head(self, contract: Listed, date_format: int) -> int:
        found = self.ask(
            lambda: self.ib.reqHeadTimeStampAsync(
                self.contract(contract), "TRADES", True, date_format
            )
        )
        # The text of format 1 is UTC and carries no zone; the library leaves it naive.
        utc = self.ib.wrapper.lastTime.tzinfo
        return int((found if found.tzinfo else found.replace(tzinfo=utc)).timestamp())

    def past_ticks(self, contract: Listed, start: str, n: int, what: str) -> list[list[Any]]:
        found = self.ask(
            lambda: self.ib.reqHistoricalTicksAsync(
                self.contract(contract), start, "", n, what, True
            )
        )
        return [past_tick_row(tick) for tick in found]

    # -- news

    def providers(self) -> list[list[str]]:
        found = self.ask(self.ib.reqNewsProvidersAsync)
        return [[item.code, item.name] for item in found]

    def past_news(self, con_id: int, codes: str, n: int, **span: str) -> list[list[Any]]:
        start, end = span.get("start", ""), span.get("end", "")
        found = self.ask(lambda: self.ib.reqHistoricalNewsAsync(con_id, codes, start, end, n))
        # A list of the one headline, or of all: the library's choice.
        items = found if isinstance(found, list) else [found]
        return [
            [f"{i.time:%Y-%m-%d %H:%M:%S}.0", i.providerCode, i.articleId, i.headline]
            for i in items
        ]

    def article(self, provider: str, article_id: str) -> list[Any]:
        found = self.ask(lambda: self.ib.reqNewsArticleAsync(provider, article_id))
        return [found.articleType, found.articleText]

    def headlines(self) -> list[list[Any]]:
        self.time()
        heard, self.heard[:] = list(self.heard), []
        return heard

    def bulletins(self) -> list[list[Any]]:
        self.ib.reqNewsBulletins(True)
        self.time()
        self.ib.cancelNewsBulletins()
        return list(self.bulletins_heard)


def details_of(item: Any) -> dict[str, Any]:
    """The parts of contract details that a stock and a news feed have."""
    contract = item.contract
    return {
        "con_id": contract.conId,
        "symbol": contract.symbol,
        "sec_type": contract.secType,
        "exchange": contract.exchange,
        "listing": contract.primaryExchange,
        "currency": contract.currency,
        "local_symbol": contract.localSymbol,
        "trading_class": contract.tradingClass,
        "min_tick": item.minTick,
        "long_name": item.longName,
        "zone": item.timeZoneId,
        "liquid_hours": item.liquidHours.split(";")[:1],
        "stock_type": item.stockType,
        "market_rules": item.marketRuleIds.split(","),
        "order_types": item.orderTypes.split(","),
        "n_exchanges": len(item.validExchanges.split(",")),
        "price_magnifier": item.priceMagnifier,
        "min_size": number(getattr(item, "minSize", None)),
        "suggested_size": number(getattr(item, "suggestedSizeIncrement", None)),
    }


def ticks_of_ticker(ticker: Any) -> dict[str, Any]:
    """A library's ticker in the words of the suites; what was not told is left out."""
    found = {name: number(getattr(ticker, theirs, None)) for name, theirs in _TICKER.items()}
    if ticker.rtTime is not None:
        found["rt_time"] = round(ticker.rtTime.timestamp(), 3)
    if ticker.bboExchange:
        found["bbo"] = ticker.bboExchange
    return {name: value for name, value in found.items() if value is not None}


def tick_row(tick: Any) -> list[Any]:
    """One tick of a tick-by-tick stream without its time: the library stamps arrivals."""
    if hasattr(tick, "midPoint"):
        return [tick.midPoint]
    if hasattr(tick, "bidPrice"):
        return [tick.bidPrice, tick.askPrice, float(tick.bidSize), float(tick.askSize)]
    return [tick.price, float(tick.size), tick.exchange, tick.specialConditions]


def past_tick_row(tick: Any) -> list[Any]:
    """One past tick, with its time as epoch seconds."""
    at = moment(tick.time)
    if hasattr(tick, "priceBid"):
        return [at, tick.priceBid, tick.priceAsk, float(tick.sizeBid), float(tick.sizeAsk)]
    if hasattr(tick, "specialConditions"):
        return [at, tick.price, float(tick.size), tick.exchange, tick.specialConditions]
    return [at, tick.price, float(tick.size)]


def bar_row(bar: Any) -> list[Any]:
    """One bar, as its start, four prices, volume, average and count."""
    average = bar.average if hasattr(bar, "average") else bar.wap
    prices = [bar.open, bar.high, bar.low, bar.close]
    return [moment(bar.date), *prices, float(bar.volume), float(average), bar.barCount]


__all__ = ["MarketVerbs", "RefusedError", "bar_row", "details_of", "past_tick_row"]
