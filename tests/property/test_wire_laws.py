"""Laws of the wire: what is written can be read, however it is cut, and no bytes break it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ib_insync.decoder import Decoder

from momentum_lab.gateway.wire import (
    REPLIES,
    REQUESTS,
    BadRequest,
    Event,
    ProtocolError,
    Request,
    ServerWire,
    kinds,
    layout,
)
from momentum_lab.gateway.wire.connection import (
    DISPUTED_VERSION,
    NEWEST_VERSION,
    OLDEST_VERSION,
)
from momentum_lab.gateway.wire.table import Table, frame

# 158 is never negotiated.
VERSIONS = [v for v in range(OLDEST_VERSION, NEWEST_VERSION + 1) if v != DISPUTED_VERSION]
CLIENT_VERSIONS = [version for version in VERSIONS if version <= 176]
slow_to_draw = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
unset_integers = {2_147_483_647, 9_223_372_036_854_775_807}
# Names whose values steer the layout, or which a client takes apart: drawn from what matters.
STEERING = {
    "sec_type": st.sampled_from(["STK", "BAG", ""]),
    "order_type": st.sampled_from(["LMT", "PEG BENCH", "PEG BEST", "PEG MID"]),
    "exchange": st.sampled_from(["SMART", "IBKRATS"]),
    # The last instant of 32 bits is spelled like "not set".
    "time_s": st.integers(0, 2**32).filter(lambda n: n not in unset_integers),
}
integers = st.integers(-(2**63) + 2, 2**63 - 1).filter(lambda n: n not in unset_integers)
numbers = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: x not in unset_integers and abs(x) != kinds.UNSET_DOUBLE
)
BY_KIND: list[tuple[kinds.Kind, st.SearchStrategy[Any]]] = [
    (kinds.INT, st.none() | integers),
    (kinds.INT_OR_0, integers),
    (kinds.WHOLE, integers),
    (kinds.NUMBER, st.none() | numbers),
    (kinds.NUMBER_OR_0, numbers),
    (kinds.NUMBER_OR_INFINITY, st.none() | numbers | st.just(math.inf)),
    (kinds.NUMBER_OR_MAX, st.none() | numbers),
    (kinds.BOOL, st.booleans()),
    (kinds.TEXT, texts),
    (kinds.ESCAPED, texts | st.sampled_from(["\\u00e4", "\\", "\U0001f600 \\x"])),
]


def strategy_of(field: layout.Field) -> st.SearchStrategy[Any]:
    if field.name in STEERING:
        return STEERING[field.name]
    if field.kind is kinds.NUMBER and field.default is layout.REQUIRED:
        return numbers
    return strategy_of_kind(field.kind)


def strategy_of_kind(kind: kinds.Kind) -> st.SearchStrategy[Any]:
    for known, strategy in BY_KIND:
        if known is kind:
            return strategy
    return st.sampled_from([n for n in range(10) if _is_readable(kind, str(n))])


def _is_readable(kind: kinds.Kind, text: str) -> bool:
    try:
        kind.read(text)
    except ValueError:
        return False
    return True


def draw_items(data: st.DataObject, items: Iterable[Any], values: dict[str, Any]) -> None:
    """Draw a value for every item that is on the wire, in wire order."""
    for item in items:
        if isinstance(item, layout.Field):
            values[item.name] = data.draw(strategy_of(item), label=item.name)
        elif isinstance(item, layout.Block):
            values[item.name] = draw_values(data, item.layout)
        elif isinstance(item, layout.Flagged):
            is_there = data.draw(st.booleans(), label=item.name)
            values[item.name] = draw_values(data, item.layout) if is_there else None
        elif isinstance(item, layout.Group):
            count = data.draw(st.integers(0, 2), label=item.name)
            values[item.name] = tuple(draw_values(data, item.layout) for _ in range(count))
        elif isinstance(item, layout.Listing):
            several = st.lists(strategy_of_kind(item.kind), max_size=2)
            values[item.name] = tuple(data.draw(several, label=item.name))
        elif isinstance(item, layout.When) and item.condition(values):
            draw_items(data, item.items, values)


def draw_values(data: st.DataObject, its_layout: layout.Layout) -> dict[str, Any]:
    values: dict[str, Any] = {}
    draw_items(data, its_layout.items, values)
    return {**its_layout.absent, **values}


def split(framed: bytes) -> list[str]:
    (length,) = struct.unpack(">I", framed[:4])
    assert length == len(framed) - 4
    assert framed.endswith(b"\0")
    return framed[4:].decode().split("\0")[:-1]


def both_ways(table: Table, name: str, values: Mapping[str, Any], version: int) -> Any:
    fields = split(table.encode(name, values, version))
    message = table.find(fields[0])
    assert message is not None
    assert message.name == name
    return table.decode(message, fields, version)


def connected(version: int = 176) -> ServerWire:
    wire = ServerWire()
    wire.receive_data(b"API\0" + frame(f"v{version}..{version}".encode()))
    wire.hello("now")
    return wire


@pytest.mark.parametrize("name", REQUESTS.messages)
@given(data=st.data(), version=st.sampled_from(VERSIONS))
@slow_to_draw
def test_every_request_is_read_as_it_was_written(
    name: str, data: st.DataObject, version: int
) -> None:
    values = draw_values(data, REQUESTS.layout(name, version))

    (event,) = connected(version).receive_data(REQUESTS.encode(name, values, version))

    assert event == Request(name, values)


@pytest.mark.parametrize("name", REPLIES.messages)
@given(data=st.data(), version=st.sampled_from(VERSIONS))
@slow_to_draw
def test_every_reply_is_read_as_it_was_written(
    name: str, data: st.DataObject, version: int
) -> None:
    values = draw_values(data, REPLIES.layout(name, version))

    assert both_ways(REPLIES, name, values, version) == values


@pytest.mark.parametrize("name", sorted({*REPLIES.messages} - {"execDetails"}))
@given(data=st.data(), version=st.sampled_from(CLIENT_VERSIONS))
@slow_to_draw
def test_client_library_reads_every_reply(name: str, data: st.DataObject, version: int) -> None:
    """execDetails apart, whose time must be one: the unit tests send it."""
    values = draw_values(data, REPLIES.layout(name, version))
    wrapper: Any = CountingWrapper()
    decoder: Any = Decoder(wrapper, version)
    decoder.logger = wrapper

    decoder.interpret(split(REPLIES.encode(name, values, version)))

    assert wrapper.n_errors == 0
    assert wrapper.n_calls > 0


class CountingWrapper:
    """Stands where the client library calls its wrapper, and where it logs what it drops."""

    def __init__(self) -> None:
        self.n_calls = 0
        self.n_errors = 0

    def exception(self, _text: str) -> None:
        self.n_errors += 1

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return self._count

    def _count(self, *_args: object) -> None:
        self.n_calls += 1


def cut(stream: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(at), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


def heard(chunks: Iterable[bytes]) -> tuple[list[Event], str]:
    """Return all events of a stream, and the fault that ended it, if one did."""
    wire = ServerWire()
    events: list[Event] = []
    try:
        for chunk in chunks:
            events += wire.receive_data(chunk)
    except ProtocolError as error:
        return [*events, *error.events], str(error)
    return events, ""


requests_on_the_wire = st.sampled_from(
    [
        frame(b"49\x001\0"),
        frame(b"71\x002\x007\0\0"),
        frame("81\x005\0Gefäß\0".encode()),
        frame(b"81\x005\0\xff\xfe\0"),
        frame(b"4711\0"),
        frame(b"no nul"),
        frame(b"\0"),
        REQUESTS.encode(
            "placeOrder",
            {"order_id": 5, "contract": {}, "action": "BUY", "total_quantity": 1, "order_type": ""},
            176,
        ),
        struct.pack(">I", 0),
    ]
)


@given(
    frames=st.lists(requests_on_the_wire, max_size=8),
    opening=st.sampled_from([b"API\0" + frame(b"v157..176"), b"API\0" + frame(b"v9"), b"GET /"]),
    data=st.data(),
)
def test_events_are_the_same_however_the_bytes_are_cut(
    frames: list[bytes], opening: bytes, data: st.DataObject
) -> None:
    stream = opening + b"".join(frames)
    at = data.draw(st.lists(st.integers(0, len(stream)), max_size=20), label="cuts")

    assert heard(cut(stream, at)) == heard([stream])


@given(frames=st.lists(requests_on_the_wire, max_size=4))
def test_events_are_the_same_byte_by_byte(frames: list[bytes]) -> None:
    stream = b"API\0" + frame(b"v157..176") + b"".join(frames)

    assert heard(cut(stream, range(1, len(stream)))) == heard([stream])


@given(chunks=st.lists(st.binary(max_size=64)), is_connected=st.booleans())
def test_rubbish_raises_nothing_but_a_protocol_error(
    chunks: list[bytes], is_connected: bool
) -> None:
    wire = connected() if is_connected else ServerWire()

    with suppress(ProtocolError):
        for chunk in chunks:
            wire.receive_data(chunk)


@given(payloads=st.lists(st.binary(min_size=1), max_size=5))
def test_every_frame_is_answered_with_one_event(payloads: list[bytes]) -> None:
    events = connected().receive_data(b"".join(map(frame, payloads)))

    assert len(events) == len(payloads)


@pytest.mark.parametrize("name", REQUESTS.messages)
@given(
    fields=st.lists(
        st.sampled_from(["", "0", "1", "7", "-1", "2147483647", "BAG", "1e5", "Infinite", "999999"])
        | texts
    )
)
@settings(max_examples=25)
def test_wrong_fields_make_a_request_or_a_bad_request(name: str, fields: list[str]) -> None:
    payload = "".join(f"{text}\0" for text in [REQUESTS.messages[name].number, *fields])

    (event,) = connected().receive_data(frame(payload.encode()))

    assert isinstance(event, (Request, BadRequest))


@given(data=st.data(), version=st.sampled_from(VERSIONS))
@slow_to_draw
def test_order_with_a_field_too_many_or_too_few_is_refused_or_read_whole(
    data: st.DataObject, version: int
) -> None:
    values = draw_values(data, REQUESTS.layout("placeOrder", version))
    fields = split(REQUESTS.encode("placeOrder", values, version))
    place = data.draw(st.integers(2, len(fields) - 1))
    text = data.draw(st.sampled_from(["", "0", "1", "x"]))
    is_surplus = data.draw(st.booleans())
    fields[place : place + (not is_surplus)] = [text] if is_surplus else []

    (event,) = connected(version).receive_data(
        frame("".join(f"{text}\0" for text in fields).encode())
    )

    assert isinstance(event, (Request, BadRequest))
