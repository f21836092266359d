"""Every message of both directions at every version: written, read, and read by the client.

What hypothesis draws here and there in the laws of the wire is gone through without a gap, with
values that differ from each other so that one in a wrong place is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import pytest

from momentum_lab.gateway.wire import REPLIES, REQUESTS, Event, Request, ServerWire
from momentum_lab.gateway.wire.connection import (
    DISPUTED_VERSION,
    NEWEST_VERSION,
    OLDEST_VERSION,
)
from momentum_lab.gateway.wire.table import Table, frame
from tests.client_reading import heard, unheard
from tests.wire_values import STEERING, Values, with_absent

VERSIONS = range(OLDEST_VERSION, NEWEST_VERSION + 1)
# What ib_insync speaks.
CLIENT_VERSIONS = [v for v in VERSIONS if v <= 176 and v != DISPUTED_VERSION]
N_DRAWS = 4
EVERY_MESSAGE = [
    pytest.param(table, name, id=f"{direction} {name}")
    for direction, table in (("request", REQUESTS), ("reply", REPLIES))
    for name in table.messages
]
# A time that the client takes apart, and the second that it means.
TIMES = {**STEERING, "time": ("20131009 10:00:00 US/Eastern",), "date": ("20131009",)}
SECOND = 1_381_327_200.0
# What the client has no place for: of a mask it tells the flags, of a fill's time the instant.
NOT_KEPT = {
    "contractDetails": {"sizemintick"},
    "tickPrice": {"mask"},
    "tickByTick": {"kind", "mask"},
    "historicalTicksBidAsk": {"mask"},
    "historicalTicksLast": {"mask"},
    "execDetails": {"time"},
}


def draws(
    table: Table, name: str, version: int, texts: Mapping[str, tuple[Any, ...]] = STEERING
) -> Iterator[dict[str, Any]]:
    """Yield values of a message, the same in every run and others at every version."""
    for number in range(N_DRAWS):
        rng = Random(f"{name} {version} {number}")  # noqa: S311 - to be repeated, no secret
        yield Values(rng, texts).of(table.layout(name, version))


def fields_of(table: Table, name: str, values: Mapping[str, Any], version: int) -> list[str]:
    return table.encode(name, values, version)[4:].decode().split("\0")[:-1]


@pytest.mark.parametrize(("table", "name"), EVERY_MESSAGE)
def test_every_message_is_read_as_it_was_written_at_every_version(table: Table, name: str) -> None:
    for version in VERSIONS:
        its_layout = table.layout(name, version)
        for values in draws(table, name, version):
            fields = fields_of(table, name, values, version)
            message = table.find(fields[0])

            assert message is table.messages[name]
            assert table.decode(message, fields, version) == with_absent(its_layout, values), (
                version
            )


@pytest.mark.parametrize("name", REPLIES.messages)
def test_the_client_reads_every_value_of_every_reply_at_every_version(name: str) -> None:
    for version in CLIENT_VERSIONS:
        for values in draws(REPLIES, name, version, TIMES):
            listener = heard(fields_of(REPLIES, name, values, version), version)

            assert listener.errors == [], version
            assert listener.calls, version
            assert unheard(values, listener).keys() <= NOT_KEPT.get(name, set()), version


def test_the_client_reads_the_time_of_a_fill_as_the_instant_it_was() -> None:
    for version in CLIENT_VERSIONS:
        for values in draws(REPLIES, "execDetails", version, TIMES):
            ((_, arguments),) = heard(
                fields_of(REPLIES, "execDetails", values, version), version
            ).calls

            assert arguments[2].time.timestamp() == SECOND


@pytest.mark.parametrize(
    ("name", "kind", "flags"),
    [
        ("tickByTick", 1, ("pastLimit", "unreported")),
        ("tickByTick", 2, ("pastLimit", "unreported")),
        ("tickByTick", 3, ("bidPastLow", "askPastHigh")),
        # Ticks of the past have the bits of bid and ask the other way round.
        ("historicalTicksBidAsk", 0, ("askPastHigh", "bidPastLow")),
        ("historicalTicksLast", 0, ("pastLimit", "unreported")),
    ],
)
@pytest.mark.parametrize("mask", [0, 1, 2, 3])
def test_the_client_reads_a_mask_as_its_flags(
    name: str, kind: int, flags: tuple[str, str], mask: int
) -> None:
    prices = dict.fromkeys(("price", "size", "bid_price", "ask_price", "bid_size", "ask_size"), 1)
    known = REPLIES.layout(name, 176).absent
    tick = {"time_s": 1, "mask": mask, **prices}
    values: dict[str, Any] = {"req_id": 5, "kind": kind, "time": 1, "mask": mask, **prices}
    if "ticks" in known:
        wanted = ("price", "size") if name == "historicalTicksLast" else tuple(prices)[2:]
        values = {"ticks": [{n: tick[n] for n in ("time_s", "mask", *wanted)}], "is_done": True}
        values["req_id"] = 5

    ((_, arguments), *_) = heard(fields_of(REPLIES, name, values, 176), 176).calls

    told = arguments[1][0] if "ticks" in known else arguments
    attributes = next(part for part in told if hasattr(part, flags[0]))
    assert [getattr(attributes, flag) for flag in flags] == [bool(mask & 1), bool(mask & 2)]


def events_of(chunks: Iterator[bytes] | list[bytes]) -> list[Event]:
    wire = ServerWire()
    return [event for chunk in chunks for event in wire.receive_data(chunk)]


@pytest.mark.parametrize("name", REQUESTS.messages)
@pytest.mark.parametrize("version", [OLDEST_VERSION, 176, NEWEST_VERSION])
def test_every_request_is_the_same_wherever_it_is_cut(name: str, version: int) -> None:
    values = next(draws(REQUESTS, name, version))
    stream = b"API\0" + frame(f"v{version}..{version}".encode())
    stream += REQUESTS.encode(name, values, version) + REQUESTS.encode(
        "reqCurrentTime", {}, version
    )
    expected = Request(name, with_absent(REQUESTS.layout(name, version), values))

    whole = events_of([stream])

    assert whole[1:] == [expected, Request("reqCurrentTime", {})]
    for place in range(1, len(stream)):
        assert events_of([stream[:place], stream[place:]]) == whole, place
    assert events_of([stream[n : n + 1] for n in range(len(stream))]) == whole
