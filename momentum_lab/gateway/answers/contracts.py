"""Answers about contracts: details, search, price steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from momentum_lab.gateway.catalog import (
    BBO_EXCHANGE,
    EXCHANGE_LETTERS,
    VALID_EXCHANGES,
    Listed,
    NewsFeed,
)
from momentum_lab.gateway.checks import ORDER_TYPES
from momentum_lab.gateway.price_steps import steps_of
from momentum_lab.gateway.refusal import invalid, no_definition
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

AGGREGATE_GROUP = 1
_N_SESSIONS_TOLD = 5
_NO_SCANNER = '<?xml version="1.0" encoding="UTF-8"?><ScanParameterResponse/>'


def _contract_details(session: Session, request: Request) -> None:
    found = session.hub.catalog.find(request["contract"])
    if not found:
        raise no_definition()
    for listed in found:
        values = _details(session.hub, listed, request["contract"]["exchange"])
        session.send("contractDetails", req_id=request["req_id"], **values)
    session.send("contractDetailsEnd", req_id=request["req_id"])


def _details(hub: Hub, listed: Listed, exchange: str) -> dict[str, Any]:
    if isinstance(listed, NewsFeed):
        return {
            "symbol": listed.symbol,
            "sec_type": "NEWS",
            "exchange": listed.provider,
            "currency": "",
            "local_symbol": listed.symbol,
            "trading_class": listed.symbol,
            "market_name": listed.provider,
            "con_id": listed.con_id,
            "min_tick": 0.01,
            "valid_exchanges": listed.provider,
            "long_name": listed.name,
            "time_zone_id": hub.market.hours.zone_name,
            "stock_type": "",
        }
    rule_id = hub.catalog.market_rules[steps_of(listed)]
    return {
        "symbol": listed.symbol,
        "exchange": exchange or "SMART",
        "currency": listed.currency,
        "local_symbol": listed.symbol,
        "market_name": listed.symbol,
        "trading_class": listed.symbol,
        "con_id": listed.con_id,
        "min_tick": listed.tick_usd,
        "order_types": ",".join(ORDER_TYPES),
        "valid_exchanges": VALID_EXCHANGES,
        "long_name": listed.long_name,
        "primary_exchange": listed.primary_exchange,
        "time_zone_id": hub.market.hours.zone_name,
        "trading_hours": _hours_text(hub, regular=False),
        "liquid_hours": _hours_text(hub, regular=True),
        # One rule for each exchange, in the order of valid_exchanges.
        "market_rule_ids": ",".join([str(rule_id)] * len(VALID_EXCHANGES.split(","))),
        "stock_type": listed.stock_type,
    }


def _hours_text(hub: Hub, *, regular: bool) -> str:
    hours, texts = hub.market.hours, []
    today = hours.day(hub.market.now_ns)
    for offset in range(_N_SESSIONS_TOLD):
        day = today + timedelta(days=offset)
        session = hours.session(day, regular=regular)
        if session is None:
            texts.append(f"{day:%Y%m%d}:CLOSED")
        else:
            first, last = (hours.local(at_ns) for at_ns in session)
            texts.append(f"{first:%Y%m%d:%H%M}-{last:%Y%m%d:%H%M}")
    return ";".join(texts)


def _matching_symbols(session: Session, request: Request) -> None:
    pattern = request["pattern"].upper()
    samples = [
        {
            "con_id": item.con_id,
            "symbol": item.symbol,
            "sec_type": "STK",
            "primary_exchange": item.primary_exchange,
            "currency": item.currency,
            "description": item.long_name,
        }
        for item in session.hub.catalog.instruments.values()
        if item.symbol.startswith(pattern) or pattern in item.long_name.upper()
    ]
    session.send("symbolSamples", req_id=request["req_id"], samples=samples)


def _market_rule(session: Session, request: Request) -> None:
    rule_id = request["market_rule_id"]
    for steps, number in session.hub.catalog.market_rules.items():
        if number == rule_id:
            increments = [{"low_edge": low, "increment": step} for low, step in steps]
            session.send("marketRule", market_rule_id=rule_id, increments=increments)
            return
    raise invalid(f"Unknown market rule {rule_id}")


def _option_parameters(session: Session, request: Request) -> None:
    """Say that there are no options: a tape holds stocks."""
    listed = session.hub.catalog.by_con_id(request["under_con_id"])
    if listed is None:
        raise no_definition()
    session.send("secDefOptParamsEnd", req_id=request["req_id"])


def _soft_dollar_tiers(session: Session, request: Request) -> None:
    session.send("softDollarTiers", req_id=request["req_id"], tiers=[])


def _depth_exchanges(session: Session, _request: Request) -> None:
    rows = [
        {
            "exchange": name,
            "sec_type": "STK",
            "listing_exchange": "",
            "service_data_type": "Deep2" if name == "NASDAQ" else "Deep",
            "agg_group": AGGREGATE_GROUP,
        }
        for name in EXCHANGE_LETTERS
    ]
    session.send("mktDepthExchanges", exchanges=rows)


def _smart_components(session: Session, request: Request) -> None:
    if request["bbo_exchange"] != BBO_EXCHANGE:
        raise invalid(f"Unknown BBO exchange {request['bbo_exchange']}")
    components = [
        {"bit": bit, "exchange": name, "letter": letter}
        for bit, (name, letter) in enumerate(EXCHANGE_LETTERS.items())
    ]
    session.send("smartComponents", req_id=request["req_id"], components=components)


def _scanner_parameters(session: Session, _request: Request) -> None:
    """Say that there is nothing to scan for: a refusal would belong to no request of the client."""
    session.send("scannerParameters", xml=_NO_SCANNER)


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "reqContractDetails": _contract_details,
    "reqMatchingSymbols": _matching_symbols,
    "reqMarketRule": _market_rule,
    "reqSecDefOptParams": _option_parameters,
    "reqSoftDollarTiers": _soft_dollar_tiers,
    "reqMktDepthExchanges": _depth_exchanges,
    "reqSmartComponents": _smart_components,
    "reqScannerParameters": _scanner_parameters,
}
