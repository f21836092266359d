from __future__ import annotations

from typing import Any

import pytest

from momentum_lab.gateway.catalog import Catalog
from momentum_lab.gateway.refusal import RefusedError
from tests.gateway_factories import IBM, SPY, news, second_tape, seconds

CATALOG = Catalog(second_tape(seconds([100.0])))


def contract(**values: object) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("symbol", "exchange", "primary_exchange", "currency", "local_symbol"), ""
    )
    return {"con_id": 0, "sec_type": "STK", **empty, **values}


@pytest.mark.parametrize(
    "values",
    [
        {"symbol": "SPY", "exchange": "SMART", "currency": "USD"},
        {"symbol": "SPY", "exchange": "SMART", "primary_exchange": "ARCA", "currency": "USD"},
        {"local_symbol": "SPY", "exchange": "SMART"},
        {"con_id": 756733},
        {"con_id": 756733, "sec_type": "", "exchange": "ARCA"},
    ],
)
def test_a_stock_is_found_by_symbol_or_id(values: dict[str, object]) -> None:
    assert CATALOG.stock(contract(**values)) == SPY


@pytest.mark.parametrize(
    "values",
    [
        {"symbol": "XYZ", "exchange": "SMART"},
        {"symbol": "SPY", "exchange": "LSE"},
        {"symbol": "SPY", "exchange": "SMART", "currency": "EUR"},
        {"symbol": "SPY", "exchange": "SMART", "primary_exchange": "NYSE"},
        {"symbol": "SPY", "sec_type": "OPT", "exchange": "SMART"},
        {"con_id": 1, "symbol": "SPY"},
        {"con_id": 756733, "exchange": "FOO"},
        {"sec_type": "NEWS", "exchange": "BRFG"},
    ],
)
def test_what_is_not_on_the_tape_as_a_stock_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(RefusedError) as refusal:
        CATALOG.stock(contract(**values))
    assert refusal.value.code == 200


def test_a_news_feed_is_found_by_its_provider() -> None:
    (feed,) = CATALOG.find(contract(sec_type="NEWS", exchange="BRFG"))
    assert feed.symbol == "BRFG:BRFG_ALL"
    assert CATALOG.one(contract(sec_type="NEWS", symbol="BRFG:BRFG_ALL", exchange="BRFG")) == feed
    assert CATALOG.one(contract(con_id=feed.con_id, exchange="BRFG")) == feed
    assert CATALOG.find(contract(con_id=feed.con_id, exchange="SMART")) == []
    assert len(CATALOG.find(contract(sec_type="NEWS"))) == 2


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("International Business Machines (IBM) to speak", {"IBM"}),
        ("Broad market (SPY) and (NYSE: IBM) in focus", {"SPY", "IBM"}),
        ("The CEO (CEO) of IBM resigns", set()),
        ("Nothing named", set()),
    ],
)
def test_a_headline_is_about_the_tickers_in_parentheses(text: str, symbols: set[str]) -> None:
    assert CATALOG.symbols_of(news(text)) == symbols


def test_a_headline_is_about_what_the_tape_says() -> None:
    assert CATALOG.symbols_of(news("Nothing named", symbols=("IBM", "XYZ"))) == {IBM.symbol}
