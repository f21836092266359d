"""Values for tests: defaults for everything, a test overrides what matters to it.

The instant of most defaults is `NOON`, 2013-10-09 12:00 New York, a Wednesday with a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from momentum_lab.core.candle import MINUTE_NS, MINUTE_S
from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Bar, DataType, Instrument, Quote, Side
from momentum_lab.core.news import Headline
from momentum_lab.core.position import Fill
from momentum_lab.records.tape import BAR_COLUMNS, TICK_TABLES, Tape, TapeHeadline

NOON = 1_381_334_400 * NS_PER_S


def instrument(symbol: str = "SPY", con_id: int = 756733, tick_usd: float = 0.01) -> Instrument:
    return Instrument(symbol, con_id, tick_usd)


def quote(
    mid: float | None = 100.0,
    *,
    spread: float = 0.02,
    at_ns: int = NOON,
    symbol: str = "SPY",
    size: float | None = 500.0,
    halted: bool = False,
    data_type: DataType = DataType.LIVE,
) -> Quote:
    return Quote(
        symbol,
        at_ns,
        bid=None if mid is None else round(mid - spread / 2, 10),
        ask=None if mid is None else round(mid + spread / 2, 10),
        bid_size=size,
        ask_size=size,
        last=mid,
        halted=halted,
        data_type=data_type,
    )


def headline(
    text: str = "Market View: broad market (SPY) in focus",
    *,
    provider: str = "BRFG",
    article_id: str = "BRFG$00000001",
    published_ns: int = NOON,
    received_ns: int | None = None,
    symbols: tuple[str, ...] = ("SPY",),
    extra: str = "A:800015:L:en:K:n/a:C:0.0",
) -> Headline:
    return Headline(
        provider,
        article_id,
        published_ns,
        published_ns if received_ns is None else received_ns,
        text,
        symbols,
        extra,
    )


def fill(
    side: Side = Side.BUY,
    shares: float = 100.0,
    price: float = 100.0,
    *,
    exec_id: str = "0001.01.01",
    order_ref: str = "entry-1",
    symbol: str = "SPY",
    at_ns: int = NOON,
    commission_usd: float | None = 1.0,
) -> Fill:
    return Fill(exec_id, order_ref, symbol, side, shares, price, at_ns, commission_usd, 756733)


def bar(
    open_: float = 100.0,
    close: float | None = None,
    *,
    high: float | None = None,
    low: float | None = None,
    volume: float = 1000.0,
    start_ns: int = NOON,
    seconds: int = MINUTE_S,
) -> Bar:
    last = open_ if close is None else close
    return Bar(
        start_ns,
        seconds,
        open_,
        max(open_, last) if high is None else high,
        min(open_, last) if low is None else low,
        last,
        volume,
    )


def quiet_bars(
    n: int = 21,
    *,
    price: float = 100.0,
    half_range: float = 0.05,
    volume: float = 1000.0,
    end_ns: int = NOON,
) -> tuple[Bar, ...]:
    """One-minute bars round one price, the last of them ending at `end_ns`.

    Their true ranges are all twice `half_range`, their volumes all alike.
    """
    return tuple(
        bar(
            price,
            high=price + half_range,
            low=price - half_range,
            volume=volume,
            start_ns=end_ns - left * MINUTE_NS,
        )
        for left in range(n, 0, -1)
    )


def bar_table(bars: Sequence[Bar], *, symbol: str = "SPY") -> pd.DataFrame:
    """Bars as the table of a tape."""
    rows = [
        (symbol, b.start_ns, b.seconds, b.open, b.high, b.low, b.close, int(b.volume)) for b in bars
    ]
    return pd.DataFrame(rows, columns=list(BAR_COLUMNS))


def tape_headline(
    text: str = "Market View: broad market (SPY) in focus",
    *,
    at_ns: int = NOON,
    article_id: str = "BRFG$00000001",
    symbols: tuple[str, ...] = (),
) -> TapeHeadline:
    return TapeHeadline(
        at_ns, "BRFG", article_id, text, symbols=symbols, note="made for a test: übung"
    )


def tape(
    *,
    bars: pd.DataFrame | None = None,
    headlines: tuple[TapeHeadline, ...] | None = None,
    spread: SpreadModel | None = None,
    start_ns: int = NOON,
    end_ns: int = NOON + 60 * MINUTE_NS,
) -> Tape:
    return Tape(
        name="small",
        start_ns=start_ns,
        end_ns=end_ns,
        timezone="America/New_York",
        instruments={"SPY": Instrument("SPY", 756733, 0.01, "ARCA", "SPDR S&P 500", "ETF")},
        spreads={"SPY": SpreadModel(0.01) if spread is None else spread},
        providers={"BRFG": "Briefing.com General Market Columns"},
        bars=bar_table(quiet_bars()) if bars is None else bars,
        headlines=(tape_headline(),) if headlines is None else headlines,
        about={"licence": "none, made up"},
    )


def assert_same_tape(found: Tape, expected: Tape) -> None:
    """Compare two tapes, whose tables know no plain equality."""
    tables: dict[str, Any] = dict.fromkeys(("bars", *TICK_TABLES))
    for name in tables:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))
    assert replace(found, **tables) == replace(expected, **tables)
