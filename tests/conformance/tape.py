"""The tape of the conformance suites: SPY in bars of a second, IBM in single ticks, some news."""

from __future__ import annotations

import base64
from dataclasses import replace

import pandas as pd

from momentum_lab.core.market import NS_PER_S
from momentum_lab.records.tape import Tape
from momentum_lab.records.tape_news import TapeBulletin
from tests.gateway_factories import (
    CLOSE,
    DAY_NS,
    IBM,
    NOON,
    at,
    news,
    second,
    second_tape,
    seconds,
    tick_tape,
)

# A cent up each second for two minutes, after yesterday's last second.
SPY_PRICES = [round(100 + n / 100, 2) for n in range(120)]
IBM_QUOTES = (
    (0.5, 179.98, 180.02, 300, 500),
    (1.2, 179.99, 180.01, 200, 400),
    (2.6, 179.97, 180.00, 900, 400),
)
IBM_TRADES = ((1.05, 180.02, 100), (1.15, 180.00, 50), (3.25, 179.99, 200))
PDF = base64.b64encode(b"%PDF-1.4 a report").decode()


def conformance_tape() -> Tape:
    """Return the tape."""
    rows = [second(CLOSE - DAY_NS - NS_PER_S, 90.0, volume=500), *seconds(SPY_PRICES, volume=4_000)]
    ticks = tick_tape(trades=IBM_TRADES, quotes=IBM_QUOTES)
    headlines = (
        news("Market View: a quiet day for (SPY)", at_ns=NOON - 60 * NS_PER_S, number=1),
        news("Übernahme: größter Käufer (SPY) & mehr", at_ns=at(3), number=2),
        replace(
            news("A report on the index", at_ns=at(5), number=3, provider="DJNL", symbols=("SPY",)),
            body=PDF,
            body_kind="base64",
        ),
        news("Nothing about a stock", at_ns=at(6), number=4),
    )
    return replace(
        second_tape(rows, headlines=headlines),
        name="conformance",
        bulletins=(TapeBulletin(at(4), 1, "The system is well", "SMART"),),
        trades=_of_ibm(ticks.trades),
        quotes=_of_ibm(ticks.quotes),
    )


def _of_ibm(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(symbol=IBM.symbol)
