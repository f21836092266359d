"""A short look at a running gateway, apart from any session: for exploring from a notebook.

It has a connection of its own, read-only and with its own client id, so it disturbs no session.
At a paper gateway that waits for its first subscription the look starts the replayed clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import ib_insync

from momentum_lab.core.market import Bar, Quote
from momentum_lab.errors import BrokerError, ConnectionLostError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.asking import ask, server_time_ns

_QUOTE_WAIT_S = 3.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Glance:
    """What a gateway says about one symbol now.

    Attributes:
        symbol: the broker's spelling.
        server_ns: the gateway's time, whole seconds.
        quote: bid, ask and last; unknown ones are None.
        bars: the one-minute bars of the day so far, volume in shares.
    """

    symbol: str
    server_ns: int
    quote: Quote
    bars: tuple[Bar, ...]


async def look(
    host: str, port: int, *, client_id: int, symbols: Sequence[str], timeout_s: float = 10.0
) -> tuple[Glance, ...]:
    """Connect, read time, quotes and the day's bars, and disconnect.

    Args:
        host: where the gateway listens.
        port: its TCP port.
        client_id: not the one of a running session.
        symbols: US stocks.
        timeout_s: for the connection and for each request.

    Raises:
        ConnectionLostError: nothing answers there, or not in time.
        BrokerError: the gateway refused a request.
    """
    ib = ib_insync.IB()
    ib.RaiseRequestErrors = True
    try:
        await _connect(ib, host, port, client_id=client_id, timeout_s=timeout_s)
        server_ns = await server_time_ns(ib, timeout_s=timeout_s)
        return tuple(
            [await _glance(ib, symbol, server_ns, timeout_s=timeout_s) for symbol in symbols]
        )
    finally:
        ib.disconnect()


async def _connect(
    ib: ib_insync.IB, host: str, port: int, *, client_id: int, timeout_s: float
) -> None:
    where = f"{host}:{port} client id {client_id}"
    try:
        with anyio.fail_after(timeout_s):
            await ib.connectAsync(host, port, clientId=client_id, timeout=timeout_s, readonly=True)
    # On Python 3.10 asyncio has a TimeoutError of its own.
    except (OSError, TimeoutError, asyncio.TimeoutError) as error:
        words = str(error) or "no answer to the handshake"
        raise ConnectionLostError(f"no gateway to look at on {where}: {words}") from error


async def _glance(ib: ib_insync.IB, symbol: str, server_ns: int, *, timeout_s: float) -> Glance:
    contract = translate.stock(symbol)
    found = await ask(
        f"contract of {symbol}",
        lambda: ib.reqContractDetailsAsync(contract),
        timeout_s=timeout_s,
    )
    if len(found) != 1:
        raise BrokerError(f"expected one US stock for {symbol!r}, the broker knows {len(found)}")
    contract.conId = translate.instrument_of(found[0]).con_id
    bars = await ask(
        f"bars of {symbol}",
        lambda: ib.reqHistoricalDataAsync(
            contract, "", "1 D", "1 min", "TRADES", useRTH=True, formatDate=2, timeout=0
        ),
        timeout_s=timeout_s,
    )
    quote = await _quote(ib, contract, server_ns)
    return Glance(symbol, server_ns, quote, translate.bars_of(bars, seconds=60))


async def _quote(ib: ib_insync.IB, contract: ib_insync.Contract, at_ns: int) -> Quote:
    """Return the line's state once it has a bid and an ask, or what it has after some seconds."""
    ticker = ib.reqMktData(contract, "", False, False)
    quote = translate.quote_of(contract.symbol, ticker, at_ns)
    with anyio.move_on_after(_QUOTE_WAIT_S):
        while quote.mid is None:
            await anyio.sleep(_LOOK_EVERY_S)
            quote = translate.quote_of(contract.symbol, ticker, at_ns)
    ib.cancelMktData(contract)
    return quote
