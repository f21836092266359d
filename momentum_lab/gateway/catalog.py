"""What can be asked for by contract: the tape's stocks and its news feeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from momentum_lab.core.market import Instrument
from momentum_lab.gateway.price_steps import rules_of
from momentum_lab.gateway.refusal import no_definition
from momentum_lab.records.tape import Tape, TapeHeadline

VALID_EXCHANGES = "SMART,NYSE,ARCA,NASDAQ,BATS,IEX"
# Letters under which the exchanges stand in a quote, and the name of that set of letters.
EXCHANGE_LETTERS = {"NYSE": "N", "ARCA": "P", "NASDAQ": "Q", "BATS": "Z", "IEX": "V"}
BBO_EXCHANGE = "9c0001"
NASDAQ_ALIASES = frozenset({"NASDAQ", "ISLAND"})
# News contracts are not on the tape; their ids only have to differ from the stocks'.
_FIRST_NEWS_CON_ID = 900_000_001
_IN_PARENTHESES = re.compile(r"\((?:[A-Za-z ]+:\s*)?([A-Z][A-Z0-9. ]{0,9})\)")


@dataclass(frozen=True, slots=True)
class NewsFeed:
    """Everything one provider publishes, as a contract of type NEWS."""

    provider: str
    name: str
    con_id: int

    @property
    def symbol(self) -> str:
        """The broker's symbol of a provider's whole tape."""
        return f"{self.provider}:{self.provider}_ALL"


Listed = Instrument | NewsFeed


class Catalog:
    """Finds what a client's contract means.

    Attributes:
        instruments: symbol -> stock.
        feeds: provider code -> news feed.
        market_rules: price steps -> number of their rule.
    """

    def __init__(self, tape: Tape) -> None:
        """List the tape's instruments and providers."""
        self.instruments = dict(tape.instruments)
        self.market_rules = rules_of(self.instruments.values())
        self.feeds = {
            code: NewsFeed(code, name, _FIRST_NEWS_CON_ID + n)
            for n, (code, name) in enumerate(sorted(tape.providers.items()))
        }
        listed: list[Listed] = [*self.instruments.values(), *self.feeds.values()]
        self._by_con_id = {item.con_id: item for item in listed}

    def find(self, contract: Mapping[str, Any]) -> list[Listed]:
        """Return everything that fits a contract; beside an id only its exchange matters."""
        if contract["con_id"] > 0:
            listed = self._by_con_id.get(contract["con_id"])
            if listed is None or not _is_traded_on(listed, contract["exchange"]):
                return []
            return [listed]
        if contract["sec_type"] == "NEWS":
            return [feed for feed in self.feeds.values() if _fits_feed(feed, contract)]
        return [item for item in self.instruments.values() if _fits_stock(item, contract)]

    def one(self, contract: Mapping[str, Any]) -> Listed:
        """Return the one thing a contract means.

        Raises:
            RefusedError: nothing fits, or more than one does.
        """
        found = self.find(contract)
        if len(found) != 1:
            raise no_definition()
        return found[0]

    def stock(self, contract: Mapping[str, Any]) -> Instrument:
        """Return the stock a contract means.

        Raises:
            RefusedError: it is unknown, or not a stock.
        """
        found = self.one(contract)
        if not isinstance(found, Instrument):
            raise no_definition()
        return found

    def by_con_id(self, con_id: int) -> Listed | None:
        """Return what has this contract id, None if nothing has."""
        return self._by_con_id.get(con_id)

    def symbols_of(self, headline: TapeHeadline) -> frozenset[str]:
        """Return the stocks a headline is about: named by the tape, or in parentheses."""
        named = {*headline.symbols, *_IN_PARENTHESES.findall(headline.headline)}
        return frozenset(named & self.instruments.keys())


def contract_of(instrument: Instrument, *, exchange: str = "SMART") -> dict[str, Any]:
    """Return a stock as the contract block of a message."""
    return {
        "con_id": instrument.con_id,
        "symbol": instrument.symbol,
        "sec_type": "STK",
        "exchange": exchange,
        "primary_exchange": instrument.primary_exchange,
        "currency": instrument.currency,
        "local_symbol": instrument.symbol,
        "trading_class": instrument.symbol,
    }


def _fits_stock(instrument: Instrument, contract: Mapping[str, Any]) -> bool:
    symbol = contract["local_symbol"] or contract["symbol"]
    return (
        contract["sec_type"] in ("STK", "")
        and symbol == instrument.symbol
        and contract["currency"] in ("", instrument.currency)
        and _is_traded_on(instrument, contract["exchange"])
        and is_listed_on(instrument, contract["primary_exchange"])
    )


def is_listed_on(instrument: Instrument, exchange: str) -> bool:
    """Return whether a stock's own exchange is the one named; no name means any."""
    if exchange in NASDAQ_ALIASES:
        return instrument.primary_exchange in NASDAQ_ALIASES
    return exchange in ("", instrument.primary_exchange)


def _fits_feed(feed: NewsFeed, contract: Mapping[str, Any]) -> bool:
    return _is_traded_on(feed, contract["exchange"]) and contract["symbol"] in ("", feed.symbol)


def _is_traded_on(listed: Listed, exchange: str) -> bool:
    if isinstance(listed, NewsFeed):
        return exchange in ("", listed.provider)
    known = (*VALID_EXCHANGES.split(","), *NASDAQ_ALIASES, listed.primary_exchange)
    return exchange in ("", *known)
