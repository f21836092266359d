"""A synchronous look at a running gateway, for exploring from a notebook.

A notebook's kernel has a running event loop, which a blocking call cannot share without
`nest_asyncio`. Nothing else depends on it: sessions await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import nest_asyncio
import pandas as pd

from momentum_lab.calendars import NEW_YORK, session_on_day_of
from momentum_lab.live.ibkr.look import Glance, look

_DTYPES = {
    "symbol": "string",
    "bid": "float64",
    "ask": "float64",
    "last": "float64",
    "day_open": "float64",
    "day_high": "float64",
    "day_low": "float64",
    "day_volume": "float64",
    "n_bars": "int64",
    "server_ns": "int64",
}


def look_at_gateway(
    host: str, port: int, *, client_id: int = 91, symbols: Sequence[str] = ()
) -> pd.DataFrame:
    """Return what a gateway says now: one row per symbol.

    Columns: symbol; bid, ask, last in US dollars; day_open, day_high, day_low and day_volume
    (shares) from the day's n_bars one-minute bars; server_ns and server_at, the gateway's time.

    Args:
        host: where the gateway listens.
        port: its TCP port; 0 means that there is none, and the answer is empty.
        client_id: not the one of a running session.
        symbols: US stocks.

    Raises:
        ConnectionLostError: nothing answers there, or not in time.
        BrokerError: the gateway refused a request.
    """
    if port == 0:
        return _frame([])
    return _frame(_run(look(host, port, client_id=client_id, symbols=symbols)))


def _run(looking: Coroutine[Any, Any, tuple[Glance, ...]]) -> tuple[Glance, ...]:
    """Wait for an answer, also inside a kernel's running loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(looking)
    nest_asyncio.apply(loop)
    return loop.run_until_complete(looking)


def _frame(glances: Sequence[Glance]) -> pd.DataFrame:
    rows = [_row(glance) for glance in glances]
    frame = pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=dtype)
            for name, dtype in _DTYPES.items()
        }
    )
    server_at = pd.to_datetime(frame["server_ns"], unit="ns", utc=True).dt.tz_convert(NEW_YORK)
    return frame.assign(server_at=server_at.astype(f"datetime64[ns, {NEW_YORK}]"))


def _row(glance: Glance) -> dict[str, Any]:
    quote = glance.quote
    session = session_on_day_of(glance.server_ns)
    # Asked for the bars of one day, a gateway gives yesterday's while today has none.
    bars = [bar for bar in glance.bars if session is not None and bar.start_ns >= session.open_ns]
    return {
        "symbol": glance.symbol,
        "bid": quote.bid,
        "ask": quote.ask,
        "last": quote.last,
        "day_open": bars[0].open if bars else None,
        "day_high": max((bar.high for bar in bars), default=None),
        "day_low": min((bar.low for bar in bars), default=None),
        "day_volume": sum(bar.volume for bar in bars),
        "n_bars": len(bars),
        "server_ns": glance.server_ns,
    }
