"""Market data, contracts and news of the desk of the official ibapi."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

from tests.conformance.desk import Listed, moment, number
from tests.conformance.desk_ib_market import bar_row, details_of

# Tick types by message; the delayed ones are the same ticks.
_PRICES: Final = {1: "bid", 2: "ask", 4: "last", 6: "high", 7: "low", 9: "close", 14: "open"}
_PRICES_LATE: Final = {
    **{66: "bid", 67: "ask", 68: "last", 72: "high"},
    **{73: "low", 75: "close", 76: "open", 37: "mark"},
}
_SIZES: Final = {0: "bid_size", 3: "ask_size", 5: "last_size", 8: "volume", 89: "to_short"}
_SIZES_LATE: Final = {69: "bid_size", 70: "ask_size", 71: "last_size", 74: "volume"}
_NAMES: Final = {**_PRICES, **_PRICES_LATE, **_SIZES, **_SIZES_LATE, 49: "halted", 90: "halted"}
_RT_VOLUME: Final = 48
_INSERT, _UPDATE = 0, 1
_SIDES: Final = ("asks", "bids")
_TICKS: Final = {"BidAsk": "tickByTickBidAsk", "MidPoint": "tickByTickMidPoint"}
_PAST: Final = {"MIDPOINT": "historicalTicks", "BID_ASK": "historicalTicksBidAsk"}


class MarketVerbs:
    """Needs `client`, `ask`, `answered`, `new_id`, `time` and `contract` of the desk."""

    client: Any
    ask: Callable[..., int]
    answered: Callable[..., dict[str, Any]]
    new_id: Callable[..., int]
    time: Callable[[], int]
    contract: Callable[[Listed], Any]
    _news_heard: int = 0

    # -- contracts

    def details(self, contract: Listed) -> list[dict[str, Any]]:
        wanted = self.contract(contract)
        req_id = self.ask("contractDetailsEnd", self.client.reqContractDetails, wanted)
        told = self.client.of("contractDetails", req_id=req_id)
        return [details_of(item["contractDetails"]) for item in told]

    def matching(self, pattern: str) -> list[list[Any]]:
        req_id = self.ask("symbolSamples", self.client.reqMatchingSymbols, pattern)
        (told,) = self.client.of("symbolSamples", req_id=req_id)
        found = [item.contract for item in told["contractDescriptions"]]
        return [[c.conId, c.symbol, c.secType, c.primaryExchange] for c in found]

    def market_rule(self, rule_id: int) -> list[list[float]]:
        told = self.answered("marketRule", self.client.reqMarketRule, rule_id)
        return [[step.lowEdge, step.increment] for step in told["priceIncrements"]]

    def option_parameters(self, contract: Listed) -> list[Any]:
        asked: tuple[Any, ...] = (contract.symbol, "", "STK", contract.con_id)
        end = "securityDefinitionOptionParameterEnd"
        req_id = self.ask(end, self.client.reqSecDefOptParams, *asked)
        return list(self.client.of("securityDefinitionOptionParameter", req_id=req_id))

    def depth_exchanges(self) -> list[list[Any]]:
        told = self.answered("mktDepthExchanges", self.client.reqMktDepthExchanges)
        return [
            [row.exchange, row.secType, row.listingExch, row.serviceDataType, row.aggGroup]
            for row in told["depthMktDataDescriptions"]
        ]

    def smart_components(self, bbo_exchange: str) -> list[list[Any]]:
        req_id = self.ask("smartComponents", self.client.reqSmartComponents, bbo_exchange)
        (told,) = self.client.of("smartComponents", req_id=req_id)
        rows = told["smartComponentMap"]
        return [[row.bitNumber, row.exchange, row.exchangeLetter] for row in rows]

    def soft_dollar_tiers(self) -> list[Any]:
        req_id = self.ask("softDollarTiers", self.client.reqSoftDollarTiers)
        return list(self.client.of("softDollarTiers", req_id=req_id)[0]["tiers"])

    def histogram(self, contract: Listed, period: str) -> list[list[float]]:
        wanted = self.contract(contract)
        req_id = self.ask("histogramData", self.client.reqHistogramData, wanted, True, period)
        (told,) = self.client.of("histogramData", req_id=req_id)
        return [
            [row.price, float(getattr(row, "size", None) or row.count)] for row in told["items"]
        ]

    # -- quotes and streams

    def data_type(self, number: int) -> None:
        self.client.reqMarketDataType(number)

    def watch(self, contract: Listed, generics: str = "") -> Any:
        req_id = self.new_id(contract)
        self.client.reqMktData(req_id, self.contract(contract), generics, False, False, [])
        return req_id

    def snapshot(self, contract: Listed) -> dict[str, Any]:
        wanted = self.contract(contract)
        req_id = self.ask("tickSnapshotEnd", self.client.reqMktData, wanted, "", True, False, [])
        return self.quote(req_id)

    def quote(self, handle: Any) -> dict[str, Any]:
        self.time()
        found: dict[str, Any] = {}
        for name in ("tickPrice", "tickSize", "tickGeneric"):
            for told in self.client.of(name, req_id=handle):
                if told["tickType"] in _NAMES:
                    value = told.get("price", told.get("size", told.get("value")))
                    found[_NAMES[told["tickType"]]] = float(value)
        for told in self.client.of("tickString", req_id=handle):
            if told["tickType"] == _RT_VOLUME:
                _, _, at_ms, total, vwap, _ = told["value"].split(";")
                found |= {"rt_time": int(at_ms) / 1000, "rt_volume": float(total)}
                found["vwap"] = float(vwap)
        for told in self.client.of("marketDataType", req_id=handle):
            found["type"] = float(told["marketDataType"])
        for told in self.client.of("tickReqParams", req_id=handle):
            found |= {"min_tick": told["minTick"], "bbo": told["bboExchange"]}
        return found

    def unwatch(self, handle: Any) -> None:
        self.client.cancelMktData(handle)

    def ticks(self, contract: Listed, kind: str) -> Any:
        req_id = self.new_id(contract)
        self.client.reqTickByTickData(req_id, self.contract(contract), kind, 0, False)
        return req_id, kind

    def ticks_of(self, handle: Any) -> list[list[Any]]:
        self.time()
        req_id, kind = handle
        told = self.client.of(_TICKS.get(kind, "tickByTickAllLast"), req_id=req_id)
        return [_tick_row(tick, kind) for tick in told]

    def end_ticks(self, handle: Any) -> None:
        self.client.cancelTickByTickData(handle[0])

    def depth(self, contract: Listed, *, is_smart: bool) -> Any:
        req_id = self.new_id(contract)
        self.client.reqMktDepth(req_id, self.contract(contract), 5, is_smart, [])
        return req_id, is_smart

    def depth_of(self, handle: Any) -> dict[str, list[list[Any]]]:
        self.time()
        book: dict[str, list[list[Any]]] = {"bids": [], "asks": []}
        for told in self.client.of("updateMktDepth", "updateMktDepthL2", req_id=handle[0]):
            rows, place = book[_SIDES[told["side"]]], told["position"]
            row = [told["price"], float(told["size"]), told.get("marketMaker", "")]
            if told["operation"] == _INSERT:
                rows.insert(place, row)
            elif told["operation"] == _UPDATE:
                rows[place] = row
            else:
                del rows[place]
        return book

    def end_depth(self, handle: Any) -> None:
        self.client.cancelMktDepth(*handle)

    def real_time(self, contract: Listed, what: str) -> Any:
        req_id = self.new_id(contract)
        self.client.reqRealTimeBars(req_id, self.contract(contract), 5, what, True, [])
        return req_id

    def real_time_of(self, handle: Any) -> list[list[Any]]:
        self.time()
        return [
            [t["time"], t["open_"], t["high"], t["low"], t["close"],
             float(t["volume"]), float(t["wap"]), t["count"]]
            for t in self.client.of("realtimeBar", req_id=handle)
        ]  # fmt: skip

    def end_real_time(self, handle: Any) -> None:
        self.client.cancelRealTimeBars(handle)

    # -- the past

    def bars(self, contract: Listed, duration: str, size: str, **more: Any) -> list[list[Any]]:
        what, date_format = more.get("whatToShow", "TRADES"), more.get("formatDate", 2)
        use_rth = more.get("useRTH", True)
        asked: tuple[Any, ...] = (
            more.get("endDateTime", ""),
            duration,
            size,
            what,
            use_rth,
            date_format,
            False,
            [],
        )
        wanted = self.contract(contract)
        req_id = self.ask("historicalDataEnd", self.client.reqHistoricalData, wanted, *asked)
        return self.bars_of(req_id)

    def keep_bars(self, contract: Listed, duration: str, size: str) -> Any:
        asked: tuple[Any, ...] = ("", duration, size, "TRADES", True, 2, True, [])
        wanted = self.contract(contract)
        return self.ask("historicalDataEnd", self.client.reqHistoricalData, wanted, *asked)

    def bars_of(self, handle: Any) -> list[list[Any]]:
        self.time()
        told = self.client.of("historicalData", "historicalDataUpdate", req_id=handle)
        # An update replaces the bar of its date, or begins a new one.
        return list({str(item["bar"].date): bar_row(item["bar"]) for item in told}.values())

    def end_bars(self, handle: Any) -> None:
        self.client.cancelHistoricalData(handle)

    def schedule(self, contract: Listed, n_days: int) -> dict[str, Any]:
        asked: tuple[Any, ...] = ("", f"{n_days} D", "1 day", "SCHEDULE", True, 1, False, [])
        wanted = self.contract(contract)
        req_id = self.ask("historicalSchedule", self.client.reqHistoricalData, wanted, *asked)
        (told,) = self.client.of("historicalSchedule", req_id=req_id)
        rows = [[s.refDate, s.startDateTime, s.endDateTime] for s in told["sessions"]]
        return {"zone": told["timeZone"], "sessions": rows}

    def head(self, contract: Listed, date_format: int) -> int:
        asked: tuple[Any, ...] = (self.contract(contract), "TRADES", True, date_format)
        req_id = self.ask("headTimestamp", self.client.reqHeadTimeStamp, *asked)
        text = self.client.of("headTimestamp", req_id=req_id)[0]["headTimestamp"]
        if text.isdigit():
            return int(text)
        at = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=timezone.utc)
        return round(at.timestamp())

    def past_ticks(self, contract: Listed, start: str, n: int, what: str) -> list[list[Any]]:
        asked: tuple[Any, ...] = (self.contract(contract), start, "", n, what, True, False, [])
        end = _PAST.get(what, "historicalTicksLast")
        req_id = self.ask(end, self.client.reqHistoricalTicks, *asked)
        told = self.client.of(end, req_id=req_id)
        return [_past_row(tick) for part in told for tick in part["ticks"]]

    # -- news

    def providers(self) -> list[list[str]]:
        told = self.answered("newsProviders", self.client.reqNewsProviders)
        return [[item.code, item.name] for item in told["newsProviders"]]

    def past_news(self, con_id: int, codes: str, n: int, **span: str) -> list[list[Any]]:
        asked: tuple[Any, ...] = (con_id, codes, span.get("start", ""), span.get("end", ""), n, [])
        req_id = self.ask("historicalNewsEnd", self.client.reqHistoricalNews, *asked)
        told = self.client.of("historicalNews", req_id=req_id)
        return [[t["time"], t["providerCode"], t["articleId"], t["headline"]] for t in told]

    def article(self, provider: str, article_id: str) -> list[Any]:
        req_id = self.ask("newsArticle", self.client.reqNewsArticle, provider, article_id, [])
        (told,) = self.client.of("newsArticle", req_id=req_id)
        return [told["articleType"], told["articleText"]]

    def headlines(self) -> list[list[Any]]:
        self.time()
        told = self.client.of("tickNews", since=self._news_heard)
        self._news_heard = len(self.client.calls)
        return [
            [t["providerCode"], t["articleId"], t["timeStamp"], t["headline"], t["extraData"]]
            for t in told
        ]

    def bulletins(self) -> list[list[Any]]:
        self.client.reqNewsBulletins(True)
        self.time()
        self.client.cancelNewsBulletins()
        told = self.client.of("updateNewsBulletin")
        return [[t["msgType"], t["newsMessage"], t["originExch"]] for t in told]


def _tick_row(tick: dict[str, Any], kind: str) -> list[Any]:
    if kind == "MidPoint":
        return [tick["midPoint"]]
    if kind == "BidAsk":
        sizes = [float(tick["bidSize"]), float(tick["askSize"])]
        return [tick["bidPrice"], tick["askPrice"], *sizes]
    return [tick["price"], float(tick["size"]), tick["exchange"], tick["specialConditions"]]


def _past_row(tick: Any) -> list[Any]:
    at = moment(tick.time)
    if hasattr(tick, "priceBid"):
        return [at, tick.priceBid, tick.priceAsk, number(tick.sizeBid), number(tick.sizeAsk)]
    if hasattr(tick, "specialConditions"):
        return [at, tick.price, number(tick.size), tick.exchange, tick.specialConditions]
    return [at, tick.price, number(tick.size)]
