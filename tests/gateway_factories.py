"""Values for tests of the paper gateway: one-second tapes, tickets, exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pandas as pd

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument, Side
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.market_events import QuoteChange, Trade
from momentum_lab.gateway.orders import ExchangeEvent, Execution, Ticket
from momentum_lab.gateway.voice import Voice
from momentum_lab.records.tape import BAR_COLUMNS, Tape, TapeHeadline
from momentum_lab.records.tape_ticks import (
    HALT_COLUMNS,
    QUOTE_COLUMNS,
    TRADE_COLUMNS,
    empty_table,
)

# 2013-10-09, a Wednesday, New York.
OPEN = 1_381_325_400 * NS_PER_S
NOON = 1_381_334_400 * NS_PER_S
CLOSE = 1_381_348_800 * NS_PER_S
DAY_NS = 86_400 * NS_PER_S
SPY = Instrument("SPY", 756733, 0.01, "ARCA", "SPDR S&P 500 ETF TRUST", "ETF")
IBM = Instrument("IBM", 8314, 0.01, "NYSE", "INTL BUSINESS MACHINES CORP")

T = TypeVar("T")
Row = tuple[str, int, int, float, float, float, float, int]


def second(
    start_ns: int,
    price: float,
    *,
    high: float | None = None,
    low: float | None = None,
    volume: int = 200,
    symbol: str = "SPY",
) -> Row:
    """One second of trading that opens and closes at one price."""
    top, bottom = max(price, high or price), min(price, low or price)
    return symbol, start_ns, 1, price, top, bottom, price, volume


def seconds(
    prices: Sequence[float], *, start_ns: int = NOON, symbol: str = "SPY", volume: int = 200
) -> list[Row]:
    """One second after another, each at its price."""
    return [
        second(start_ns + n * NS_PER_S, price, symbol=symbol, volume=volume)
        for n, price in enumerate(prices)
    ]


def second_tape(
    rows: Sequence[Row],
    *,
    headlines: tuple[TapeHeadline, ...] = (),
    start_ns: int = NOON,
    end_ns: int = CLOSE,
) -> Tape:
    """A tape of SPY and IBM with a spread of one cent."""
    bars = pd.DataFrame(rows, columns=list(BAR_COLUMNS))
    return Tape(
        name="seconds",
        start_ns=start_ns,
        end_ns=end_ns,
        timezone="America/New_York",
        instruments={"SPY": SPY, "IBM": IBM},
        spreads={"SPY": SpreadModel(0.01), "IBM": SpreadModel(0.02)},
        providers={"BRFG": "Briefing.com General Market Columns", "DJNL": "Dow Jones Newsletters"},
        bars=bars.astype({"at_ns": "int64", "seconds": "int64", "volume": "int64"}),
        headlines=headlines,
    )


def news(
    text: str = "Market View: broad market (SPY) in focus",
    *,
    at_ns: int = NOON,
    number: int = 1,
    provider: str = "BRFG",
    symbols: tuple[str, ...] = (),
    body: str = "",
) -> TapeHeadline:
    article_id = f"{provider}${number:08x}"
    return TapeHeadline(at_ns, provider, article_id, text, "A:1:L:en", symbols, body)


def ticket(
    side: Side = Side.BUY,
    quantity: float = 100,
    *,
    order_id: int = 1,
    order_type: str = "MKT",
    **others: Any,
) -> Ticket:
    """A market order of client 1 for SPY; `others` are any attributes of a ticket."""
    terms: dict[str, Any] = {"client_id": 1, "instrument": SPY, "order_ref": "ref", **others}
    return Ticket(order_id=order_id, side=side, quantity=quantity, order_type=order_type, **terms)


def execution(
    side: Side = Side.BUY,
    shares: int = 100,
    price_usd: float = 100.0,
    *,
    commission_usd: float = 1.0,
    symbol: str = "SPY",
) -> Execution:
    return Execution(
        exec_id="x",
        at_ns=NOON,
        client_id=1,
        order_id=1,
        perm_id=1,
        symbol=symbol,
        side=side,
        shares=shares,
        price_usd=price_usd,
        cumulative=shares,
        average_usd=price_usd,
        order_ref="",
        liquidity=2,
        commission_usd=commission_usd,
    )


def market(prices: Sequence[float] = (100.0,) * 60, *, played_s: int = 1) -> Market:
    """A liquid market at noon that has played some seconds of `prices`."""
    found = Market(second_tape(seconds(prices, volume=4_000)))
    play(found, played_s)
    return found


def play(found: Market, n_seconds: float) -> None:
    """Let market time pass, unheard."""
    for _ in found.advance(found.now_ns + round(n_seconds * NS_PER_S)):
        pass


def exchange(
    found: Market, *, cash_usd: float = 1_000_000.0, rules: Rules | None = None
) -> Exchange:
    return Exchange(found, account="DU1234567", cash_usd=cash_usd, rules=rules)


def at(n_seconds: float) -> int:
    """An instant of the market day, counted from noon."""
    return NOON + round(n_seconds * NS_PER_S)


def tick_tape(
    *,
    trades: Sequence[tuple[float, float, int]] = (),
    quotes: Sequence[tuple[float, float, float, int, int]] = (),
    halts: Sequence[tuple[float, int]] = (),
    rows: Sequence[Row] = (),
) -> Tape:
    """A tape of single ticks of SPY, each with its seconds after noon first.

    Args:
        trades: (second, price, size).
        quotes: (second, bid, ask, bid size, ask size).
        halts: (second, kind).
        rows: bars.
    """
    traded = [("SPY", at(s), price, size, "P", "@") for s, price, size in trades]
    quoted = [("SPY", at(s), *quote) for s, *quote in quotes]
    halted = [("SPY", at(s), kind) for s, kind in halts]
    bars = second_tape(rows) if rows else replace(second_tape([]), bars=empty_table(BAR_COLUMNS))
    return replace(
        bars,
        trades=_table(traded, TRADE_COLUMNS),
        quotes=_table(quoted, QUOTE_COLUMNS),
        halts=_table(halted, HALT_COLUMNS),
    )


def _table(rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...]) -> pd.DataFrame:
    empty = empty_table(columns)
    if not rows:
        return empty
    return pd.DataFrame(rows, columns=list(columns)).astype(dict(empty.dtypes))


def play_to(found: Exchange, to_ns: int) -> list[ExchangeEvent]:
    """Let market and exchange go on, with a stop wherever something is due by time."""
    a_market = found.account.market
    events: list[ExchangeEvent] = []
    while a_market.now_ns < to_ns:
        due_ns = found.next_due_ns() or to_ns
        for event in a_market.advance(min(to_ns, max(due_ns, a_market.now_ns + 1))):
            if isinstance(event, Trade):
                events += found.on_trade(event)
            elif isinstance(event, QuoteChange):
                events += found.on_quote(event)
        events += found.on_time()
    return events


def said(voice: Voice[T], way: str, values: Sequence[Any]) -> T:
    """Return what a voice makes of all values of one of its methods."""
    method = getattr(voice, way)
    if way in ("price", "size", "text", "generic"):
        method, values = method(*values[:2]), values[2:]
    found: T = method(*values)
    return found
