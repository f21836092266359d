"""Historical candles, with the three ways in which asking for them can end.

A broker that has no bars, one that refuses, and one that does not answer are three different
things, and the library gives an empty list for all of them. Nothing may be concluded from an
answer that did not come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ib_insync

from momentum_lab.core.candle import MINUTE_S
from momentum_lab.core.history_pacing import HistoryKey
from momentum_lab.core.market import Bar, Instrument
from momentum_lab.errors import BrokerError, ParameterError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.asking import ask

# The broker's spelling of the bar sizes that a rule here may need, seconds -> words.
_SIZES = {
    1: "1 secs",
    5: "5 secs",
    10: "10 secs",
    15: "15 secs",
    30: "30 secs",
    60: "1 min",
    120: "2 mins",
    180: "3 mins",
    300: "5 mins",
    600: "10 mins",
    900: "15 mins",
    1200: "20 mins",
    1800: "30 mins",
    3600: "1 hour",
}


class CandleOutcome(str, Enum):
    """How asking for candles ended."""

    BARS = "bars"
    EMPTY = "the broker confirmed that there are none"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Candles:
    """The answer to a request for candles.

    Attributes:
        outcome: bars, confirmed empty, or not known.
        bars: oldest first, volume in shares; empty but for BARS.
        words: why it is not known, or the broker's words.
    """

    outcome: CandleOutcome
    bars: tuple[Bar, ...] = ()
    words: str = ""


def size_words(seconds: int) -> str:
    """Return the broker's spelling of a bar size.

    Raises:
        ParameterError: the broker has no bars of this length.
    """
    try:
        return _SIZES[seconds]
    except KeyError:
        known = ", ".join(map(str, _SIZES))
        raise ParameterError(
            f"candles: expected a bar size of {known} seconds, found {seconds}"
        ) from None


def key_of(instrument: Instrument, *, duration: str, seconds: int) -> HistoryKey:
    """Return what makes a request for candles the same as another one.

    Raises:
        ParameterError: no such bar size.
    """
    size_words(seconds)
    return HistoryKey(instrument.con_id, "SMART", "TRADES", seconds, (duration,))


async def fetch(
    ib: ib_insync.IB,
    instrument: Instrument,
    *,
    duration: str,
    seconds: int = MINUTE_S,
    timeout_s: float,
) -> Candles:
    """Return trade bars of the regular session up to now.

    Args:
        ib: the connection.
        instrument: a stock.
        duration: the broker's spelling, e.g. "3600 S", "2 D".
        seconds: bar length.
        timeout_s: transport time until the answer counts as not known.

    Raises:
        ParameterError: no such bar size.
    """
    size = size_words(seconds)
    contract = translate.stock(instrument.symbol, instrument.con_id)

    def request() -> Awaitable[Any]:
        return ib.reqHistoricalDataAsync(
            contract, "", duration, size, "TRADES", useRTH=True, formatDate=2, timeout=0
        )

    return await _outcome(f"candles of {instrument.symbol}", request, seconds, timeout_s)


async def _outcome(
    what: str, request: Callable[[], Awaitable[Any]], seconds: int, timeout_s: float
) -> Candles:
    try:
        found = translate.bars_of(await ask(what, request, timeout_s=timeout_s), seconds=seconds)
    except BrokerError as error:
        cause = error.__cause__
        if isinstance(cause, ib_insync.RequestError) and translate.says_no_data(cause):
            return Candles(CandleOutcome.EMPTY, words=str(error))
        return Candles(CandleOutcome.UNKNOWN, words=str(error))
    if not found:
        return Candles(CandleOutcome.EMPTY, words=f"{what}: the answer holds no bars")
    return Candles(CandleOutcome.BARS, found)
