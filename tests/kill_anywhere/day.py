"""The day that is killed at every step: a tape of its last minutes, and its parameters.

Four of six headlines move a stock, so that each way out of a trade is taken: by target, by time,
by stop, and by the stop of a short. Target and stops rest at the broker and fill there; the exit
by time leaves in their group. One entry fills in parts. Three trades overlap, and the fourth comes
late enough for a session that was started again to make it by itself; its loss brings the day to
the limit, so that the brake is pulled.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.parameters import Parameters, check_parameters
from momentum_lab.records.tape import BAR_COLUMNS, Tape, TapeHeadline, write_tape
from tests.gateway_factories import CLOSE, IBM, SPY

BAC = Instrument("BAC", 10098, 0.01, "NYSE", "BANK OF AMERICA CORP")
# Half an hour before the close: a position that cannot be closed keeps the gateway slow and makes a
# day long. No less: it takes some seconds until an exit that was lost with its gateway counts as
# lost, and each of them is a minute here.
FIRST, START = CLOSE - 2400 * NS_PER_S, CLOSE - 1800 * NS_PER_S
CASH_USD = 1_000_000.0
EXITS = ("STOP_LOSS", "STOP_LOSS", "TAKE_PROFIT", "TIME_STOP")
# An order is on its way for about as long as a session needs to be there again: what it becomes may
# be heard by the one that sent it, by nobody, or by the next one.
LATENCY_S = 4.0
# A move of a price: seconds after the headline, seconds that it takes, size in percent.
_Move = tuple[int, int, float]
# When a headline comes, in seconds after the start, about which symbol, and what the price does.
EVENTS: tuple[tuple[int, str, tuple[_Move, ...]], ...] = (
    (320, "SPY", ((3, 4, 0.5), (36, 4, 1.0))),
    (330, "BAC", ()),
    (350, "IBM", ((3, 4, 0.5), (40, 4, -1.5))),
    (381, "BAC", ((3, 4, 1.0),)),
    (742, "SPY", ((3, 4, -0.5), (25, 4, 1.5))),
    # Nothing comes of it, but the gateway is slow once more before it hurries to the close.
    (860, "IBM", ()),
)
_PRICES = {"SPY": 165.0, "IBM": 181.0, "BAC": 13.8}
_QUIET, _LOUD, _AFTER = 400, 60_000, 1_000


def make_tape(folder: Path) -> Path:
    """Write the tape; return its folder."""
    frames = [_bars(symbol, price) for symbol, price in _PRICES.items()]
    bars = pd.concat(frames, ignore_index=True).sort_values("at_ns", kind="stable")
    headlines = tuple(
        TapeHeadline(
            START + at_s * NS_PER_S, "BRFG", f"BRFG${number:08x}", f"Shares of ({symbol}) in focus"
        )
        for number, (at_s, symbol, _) in enumerate(EVENTS, start=1)
    )
    tape = Tape(
        name="kill-anywhere",
        start_ns=START,
        end_ns=CLOSE,
        timezone="America/New_York",
        instruments={"SPY": SPY, "IBM": IBM, "BAC": BAC},
        spreads={symbol: SpreadModel(0.01) for symbol in _PRICES},
        providers={"BRFG": "Briefing.com General Market Columns"},
        bars=bars.reset_index(drop=True),
        headlines=headlines,
    )
    write_tape(tape, folder)
    return folder


def make_parameters(port: int) -> Parameters:
    """Return what every session of the day is started with."""
    return check_parameters(
        {
            "mode": "replay",
            "strategy": "kill-anywhere",
            "universe": list(_PRICES),
            "connection": {"port": port, "connect_timeout_s": 5.0, "request_timeout_s": 5.0},
            "news": {"providers": ["BRFG"]},
            "shock": {
                "price_atr_multiple": 2.5,
                "volume_multiple": 3.0,
                "atr_bars": 5,
                "volume_bars": 5,
                "watch_s": 20.0,
            },
            "sizing": {"risk_ratio": 0.01, "max_position_ratio": 0.03},
            # A pause that the fourth trade, the second one of its symbol, outlasts.
            "risk": {"cool_down_s": 120.0, "daily_loss_ratio": 0.0005},
            "exits": {
                "stop_kind": "ratio",
                "stop_loss_ratio": 0.008,
                "take_profit_ratio": 0.008,
                "time_stop_s": 60.0,
            },
            "guards": {"entries_before_close_s": 60.0, "flat_before_close_s": 30.0},
            "execution": {"fill_timeout_s": 3.0, "drain_s": 5.0, "exit_retry_s": 0.5},
            "backoff": {"first_wait_s": 0.1, "longest_wait_s": 0.5},
            "liveness": {"probe_every_s": 1.2, "watched_probe_every_s": 1.2},
            "replay": {"speed": 60.0, "fast": 20_000.0, "give_up_s": 20.0},
            "records": {"database": "trades.db", "runs": "runs"},
        }
    )


def _bars(symbol: str, price: float) -> pd.DataFrame:
    """Return a bar for each second up to the close."""
    close, volume = zip(*_path(symbol, price), strict=True)
    last, wide = np.round(close, 2), 0.02
    at = np.arange(FIRST, CLOSE, NS_PER_S, dtype=np.int64)
    opened = np.concatenate([last[:1], last[:-1]])
    return pd.DataFrame(
        {
            "symbol": symbol,
            "at_ns": at,
            "seconds": 1,
            "open": opened,
            "high": np.maximum(opened, last) + wide,
            "low": np.minimum(opened, last) - wide,
            "close": last,
            "volume": np.array(volume, dtype=np.int64),
        },
        columns=list(BAR_COLUMNS),
    )


def _path(symbol: str, price: float) -> Iterator[tuple[float, int]]:
    """Yield price and volume of each second."""
    moves = [
        (at_s + after_s, length_s, percent)
        for at_s, name, found in EVENTS
        if name == symbol
        for after_s, length_s, percent in found
    ]
    for second in range((CLOSE - FIRST) // NS_PER_S):
        now_s = second - (START - FIRST) // NS_PER_S
        percent = sum(
            size * min(1.0, (now_s - at_s) / length_s)
            for at_s, length_s, size in moves
            if now_s >= at_s
        )
        is_loud = any(at_s <= now_s < at_s + length_s for at_s, length_s, _ in moves)
        has_begun = any(now_s >= at_s for at_s, _, _ in moves)
        volume = _LOUD if is_loud else _AFTER if has_begun else _QUIET
        yield price * (1 + percent / 100), volume
