from __future__ import annotations

from typing import Any

import pytest

from momentum_lab.gateway.voice import Message, by_bytes, by_message
from momentum_lab.gateway.wire import REPLIES
from momentum_lab.gateway.wire.connection import NEWEST_VERSION
from tests.gateway_factories import said

LAST = {"price": 10.5, "size": 3, "mask": 2, "exchange": "P", "special_conditions": "@"}
BID_ASK = {"bid_price": 9.5, "ask_price": 10.5, "bid_size": 3, "ask_size": 4}


@pytest.mark.parametrize(
    ("way", "values", "expected"),
    [
        (
            "price",
            (7, 4, 10.5, 3, 1),
            ("tickPrice", {"req_id": 7, "tick_type": 4, "price": 10.5, "size": 3, "mask": 1}),
        ),
        ("size", (7, 8, 3), ("tickSize", {"req_id": 7, "tick_type": 8, "size": 3})),
        ("text", (7, 45, "x"), ("tickString", {"req_id": 7, "tick_type": 45, "text": "x"})),
        ("generic", (7, 49, 1.0), ("tickGeneric", {"req_id": 7, "tick_type": 49, "value": 1.0})),
        (
            "last",
            (7, 60, 10.5, 3, 2, "P", "@"),
            ("tickByTick", {"req_id": 7, "kind": 1, "time": 60, **LAST}),
        ),
        (
            "all_last",
            (7, 60, 10.5, 3, 2, "P", "@"),
            ("tickByTick", {"req_id": 7, "kind": 2, "time": 60, **LAST}),
        ),
        (
            "bid_ask",
            (7, 60, 9.5, 10.5, 3, 4),
            ("tickByTick", {"req_id": 7, "kind": 3, "time": 60, **BID_ASK}),
        ),
        (
            "middle",
            (7, 60, 10.0),
            ("tickByTick", {"req_id": 7, "kind": 4, "time": 60, "mid_point": 10.0}),
        ),
    ],
)
def test_a_voice_puts_each_value_in_its_place(
    way: str, values: tuple[Any, ...], expected: Message
) -> None:
    as_message = said(by_message(lambda _: None), way, values)
    as_bytes = said(by_bytes(lambda _: None, NEWEST_VERSION), way, values)
    assert as_message == expected
    assert as_bytes == REPLIES.encode(*expected, NEWEST_VERSION)


def test_a_message_longer_than_most_is_framed_too() -> None:
    text = "x" * 70_000
    as_bytes = said(by_bytes(lambda _: None, NEWEST_VERSION), "text", (7, 45, text))
    expected = {"req_id": 7, "tick_type": 45, "text": text}
    assert as_bytes == REPLIES.encode("tickString", expected, NEWEST_VERSION)


@pytest.mark.parametrize(
    ("name", "names", "reason"),
    [
        ("tickSize", ["req_id", "tick_type"], "size"),
        ("tickSize", ["req_id", "tick_type", "size", "price"], "no such fields: ..price"),
        ("historicalData", ["req_id", "start", "end", "bars"], "not flat"),
    ],
)
def test_a_function_of_values_needs_a_flat_message_and_all_its_fields(
    name: str, names: list[str], reason: str
) -> None:
    with pytest.raises(LookupError, match=reason):
        REPLIES.encoder(NEWEST_VERSION).binder(name, names)
