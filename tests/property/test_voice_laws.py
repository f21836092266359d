"""Laws of the two voices: what a line says as bytes is what its messages are encoded to."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import anyio
import numpy as np
import pytest
from anyio.abc import SocketStream
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.faults.base import Fault
from momentum_lab.gateway.hub import Hub
from momentum_lab.gateway.limits import Limits
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.voice import Voice, by_bytes, by_message
from momentum_lab.gateway.wire import REPLIES, REQUESTS
from momentum_lab.gateway.wire.connection import (
    DISPUTED_VERSION,
    NEWEST_VERSION,
    OLDEST_VERSION,
)
from momentum_lab.gateway.wire.table import frame
from momentum_lab.records.tape import Tape
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, LIMIT_STATE, TRADING
from tests.gateway_factories import exchange, said, second, tick_tape
from tests.property.test_compiled_laws import oddities, outcome

N_SECONDS = 40
VERSIONS = range(OLDEST_VERSION, NEWEST_VERSION + 1)
WAYS = [one.name for one in fields(Voice) if one.name != "send"]
MESSAGES = by_message(lambda _: None)


def n_values(way: str) -> int:
    return {"generic": 3, "middle": 3, "size": 3, "text": 3, "price": 5, "bid_ask": 6}.get(way, 7)


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data(), version=st.sampled_from(VERSIONS))
@settings(max_examples=150, deadline=None)
def test_any_values_are_written_or_refused_as_their_message_is(
    way: str, data: st.DataObject, version: int
) -> None:
    one = st.integers() | st.floats() | st.text() | oddities
    values = data.draw(st.tuples(*[one] * n_values(way)))

    name, given_values = said(MESSAGES, way, values)

    found = outcome(said, by_bytes(lambda _: None, version), way, values)
    assert found == outcome(REPLIES.encode_by_items, name, given_values, version)


@dataclass
class Harmless(Fault):
    """Goes on and changes nothing, so that every message is shown to it."""

    name: ClassVar[str] = "harmless"


def busy_tape(seed: int) -> Tape:
    """Trades, quotes and bars of SPY and bars of IBM, a limit state and a halt."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(1, N_SECONDS, (2, 60)), axis=1).round(3).tolist()
    prices = (100 + rng.integers(-5, 6, 60) / 100).tolist()
    sizes = rng.integers(0, 500, (3, 60)).tolist()
    quotes = [
        (second_s, round(price - gap / 100, 2) * (gap < 3), price + 0.01, bid, ask)
        for second_s, price, gap, bid, ask in zip(
            times[1], prices[::-1], rng.integers(0, 4, 60).tolist(), *sizes[1:], strict=True
        )
    ]
    start_ns = tick_tape().start_ns
    rows = [
        second(start_ns + n * NS_PER_S, price, symbol="IBM", volume=size)
        for n, price, size in zip(range(N_SECONDS), prices, sizes[0], strict=False)
    ]
    return tick_tape(
        trades=list(zip(times[0], prices, sizes[0], strict=True)),
        quotes=quotes,
        halts=[(10.0, LIMIT_STATE), (15.0, HALTED_BY_VOLATILITY), (20.0, TRADING)],
        rows=rows,
    )


async def heard(tape: Tape, version: int, *, sample_ms: int, faulty: range) -> bytes:
    """Return all that a client with many lines hears, messages seen by a fault in `faulty`."""
    market = Market(tape)
    asked = GatewaySettings(
        tape=Path("unused"),
        sample_ms=sample_ms,
        limits=Limits(max_messages_per_s=0),
        unsubscribed=frozenset({"IBM"}),
    )
    hub = Hub(
        asked, market=market, exchange=exchange(market), tape_id="", has_streamed=True, report=print
    )
    session = Session(hub, cast("SocketStream", None))
    await session._receive(b"API\0" + frame(f"v{version}..{version}".encode()))
    for name, values in requests():
        await session._receive(REQUESTS.encode(name, values, version))
    for number in range(N_SECONDS):
        hub.faults.active = [Harmless()] if number in faulty else []
        hub.step_to(market.now_ns + NS_PER_S)
    return bytes(session._unsent)


def requests() -> list[tuple[str, dict[str, Any]]]:
    """The opening of the API and one line of each kind; IBM has delayed quotes only."""
    spy, ibm = (
        {"symbol": name, "sec_type": "STK", "exchange": "SMART", "currency": "USD"}
        for name in ("SPY", "IBM")
    )
    quotes = [
        ("reqMktData", {"req_id": number, "contract": contract, "generic_ticks": generics})
        for number, (contract, generics) in enumerate(
            [(spy, ""), (spy, "233,375,221,236"), (spy, "mdoff,292"), (ibm, "233")], start=1
        )
    ]
    ticks = [
        ("reqTickByTickData", {"req_id": number, "contract": spy, "tick_type": kind})
        for number, kind in enumerate(["Last", "AllLast", "BidAsk", "MidPoint"], start=11)
    ]
    return [
        ("startApi", {"client_id": 1}),
        ("reqMarketDataType", {"market_data_type": 3}),
        *quotes,
        *ticks,
        ("reqMktDepth", {"req_id": 21, "contract": spy, "num_rows": 5}),
    ]


@pytest.mark.parametrize("sample_ms", [0, 250])
@pytest.mark.parametrize("version", [v for v in VERSIONS if v != DISPUTED_VERSION])
def test_a_tape_is_told_in_the_same_bytes_by_both_voices(version: int, sample_ms: int) -> None:
    tape = busy_tape(version)

    async def both() -> list[bytes]:
        return [
            await heard(tape, version, sample_ms=sample_ms, faulty=faulty)
            for faulty in (range(0), range(N_SECONDS), range(0, N_SECONDS, 2))
        ]

    never, always, at_times = anyio.run(both)
    assert never == always == at_times
    assert names_in(never) >= {"tickPrice", "tickSize", "tickString", "tickGeneric", "tickByTick"}


def names_in(stream: bytes) -> set[str]:
    payloads, start = [], 0
    while start < len(stream):
        end = start + 4 + int.from_bytes(stream[start : start + 4], "big")
        payloads.append(stream[start + 4 : end])
        start = end
    # The first one is the answer to the hello.
    found = [REPLIES.find(payload.split(b"\0")[0].decode()) for payload in payloads[1:]]
    return {message.name for message in found if message is not None}
