"""What a real gateway sends, held against the declarations and answers of the paper gateway.

The frames were captured from a live gateway at server version 200, the declarations end at 178.
`LATER` says, message by message, what the versions in between changed and nothing else: with that
undone, each frame has to be read whole, and written again has to be the same, field by field. The
captures are no part of the repository; without them these tests are skipped.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from momentum_lab.gateway.wire import REPLIES, REQUESTS
from momentum_lab.gateway.wire.table import Table
from tests.conftest import GatewayProcess
from tests.gateway_client import raw_client

NEWEST = 178
SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "ibkr-samples"
FRAMES = SAMPLES / "frames_sv200.jsonl"
UNSET = frozenset({"", "2147483647", "1.7976931348623157E308"})
NUMBER = re.compile(r"-?\d+(\.\d+)?")
# A time as text with its zone; a day's session in contract details; one in a schedule.
MOMENT = re.compile(r"\d{8} \d\d:\d\d:\d\d [A-Z][A-Za-z]+/[A-Z][A-Za-z_]+")
SESSION = re.compile(r"\d{8}:(CLOSED|\d{4}-\d{8}:\d{4})")

pytestmark = pytest.mark.skipif(not FRAMES.exists(), reason="needs the captured frames")
Fields = list[str]


def _error(fields: Fields) -> Fields:
    # 194: the message's own version is gone, the time in milliseconds comes last.
    assert re.fullmatch(r"\d{13}", fields[-1])
    return [fields[0], "2", *fields[1:-1]]


def _contract_details(fields: Fields) -> Fields:
    # 182: the last trade date follows the contract month. 186: reasons, counted, at the end.
    assert (fields[5], fields[-1]) == ("", "0")
    return [*fields[:5], *fields[6:-1]]


def _exec_details(fields: Fields) -> Fields:
    # 198: who has submitted the order, at the end.
    assert fields[-1] == ""
    return fields[:-1]


def _historical_data(fields: Fields) -> Fields:
    # 196: start and end of the span are a message of their own.
    return [*fields[:2], "", "", *fields[2:]]


def _open_order(fields: Fields) -> Fields:
    """Undo 183 to 199 and two accidents of the capture.

    The capture holds the frame of the order's status, too, behind the order's own. And its source
    counts 987 bytes where 986 are: one of the empty fields behind the allocation was lost.
    """
    own, _ = _split_capture(fields)
    own = [*own[:31], "", *own[31:]]
    # 183 customer account, 184 professional customer, 185 accrued interest of a bond, 189 include
    # overnight, 193 external operator and manual order indicator, 198 submitter, 199 imbalance.
    assert own[-8:] == ["", "0", "", "0", "", "2147483647", "", "0"]
    # 195: between commission currency and warning the margin currency, nine margins outside the
    # regular session, a suggested size, the reason of a rejection and a number of allocations.
    margins = own[107:120]
    assert margins[0] == ""
    assert margins[1:10] == ["1.7976931348623157E308"] * 9
    assert margins[10:] == ["-9223372036854775808", "", "0"]
    return [*own[:107], *own[120:-8]]


def _split_capture(fields: Fields) -> tuple[Fields, Fields]:
    """Return the fields of openOrder, and of the orderStatus whose frame follows it."""
    text = "".join(f"{field}\0" for field in fields)
    before, _, after = text.partition("\0\0\0+")
    assert len(after.encode()) == ord("+")
    return before.split("\0")[:-1], after.split("\0")[:-1]


LATER: Mapping[str, Callable[[Fields], Fields]] = {
    "error": _error,
    "contractDetails": _contract_details,
    "execDetails": _exec_details,
    "historicalData": _historical_data,
    "openOrder": _open_order,
}
# Where a real gateway says something that no client reads, and we say nothing: the way in which
# an order is allocated to accounts.
SAID_BY_THEM_ALONE: Mapping[str, Mapping[int, str]] = {
    "openOrder": {30: "1518189976.1/DU9000001/100"},
}
# Newer than all of our versions.
UNKNOWN = frozenset({"109"})


def captured(direction: str) -> list[Fields]:
    lines = FRAMES.read_text(encoding="utf-8").splitlines() if FRAMES.exists() else []
    frames = [json.loads(line) for line in lines]
    return [frame["fields"] for frame in frames if frame["direction"] == direction]


def is_same(theirs: str, ours: str) -> bool:
    """Whether two texts say the same: equal, equal numbers, or both not set."""
    if theirs in UNSET and ours in (*UNSET, "0"):
        return True
    if NUMBER.fullmatch(theirs) and NUMBER.fullmatch(ours):
        return float(theirs) == float(ours)
    return theirs == ours


def differences(table: Table, fields: Fields) -> dict[int, tuple[str, str]]:
    """Return place -> (theirs, ours) where reading and writing again changes a frame."""
    message = table.find(fields[0])
    assert message is not None
    values = table.decode(message, fields, NEWEST)
    framed = table.encode(message.name, values, NEWEST)
    (length,) = struct.unpack(">I", framed[:4])
    ours = framed[4 : 4 + length].decode().split("\0")[:-1]
    assert len(ours) == len(fields)
    pairs = enumerate(zip(fields, ours, strict=True))
    return {place: pair for place, pair in pairs if not is_same(*pair)}


def as_of_178(fields: Fields) -> Fields:
    message = REPLIES.find(fields[0])
    assert message is not None
    undo = LATER.get(message.name)
    return fields if undo is None else undo(fields)


def decoded(name: str) -> dict[str, Any]:
    message = REPLIES.messages[name]
    found = next(fields for fields in captured("in") if fields[0] == str(message.number))
    return REPLIES.decode(message, as_of_178(found), NEWEST)


@pytest.mark.parametrize(
    "fields", [f for f in captured("in") if f[0] not in UNKNOWN], ids=lambda fields: fields[0]
)
def test_what_a_real_gateway_sends_is_written_the_same_way(fields: Fields) -> None:
    message = REPLIES.find(fields[0])
    assert message is not None
    alone = SAID_BY_THEM_ALONE.get(message.name, {})

    found = differences(REPLIES, as_of_178(fields))

    assert found == {place: (text, "") for place, text in alone.items()}


def test_the_status_behind_the_captured_order_is_written_the_same_way() -> None:
    order = next(fields for fields in captured("in") if fields[0] == "5")
    _, status = _split_capture(order)

    assert status[:3] == ["3", "0", "PreSubmitted"]
    assert differences(REPLIES, status) == {}


@pytest.mark.parametrize("fields", captured("out"), ids=lambda fields: fields[0])
def test_what_a_real_client_sends_is_read_and_written_the_same_way(fields: Fields) -> None:
    assert differences(REQUESTS, fields) == {}


def test_every_later_change_is_one_of_a_captured_message() -> None:
    found = (REPLIES.find(fields[0]) for fields in captured("in"))

    assert LATER.keys() | SAID_BY_THEM_ALONE.keys() <= {m.name for m in found if m is not None}


def test_what_the_declarations_read_from_real_frames_is_what_happened() -> None:
    fill = decoded("execDetails")
    assert (fill["req_id"], fill["order_id"], fill["contract"]["symbol"]) == (-1, 1, "AAPL")
    assert (fill["side"], fill["shares"], fill["price"], fill["avg_price"]) == (
        *("BOT", 1, 257.95, 257.95),
    )
    assert (fill["contract"]["exchange"], fill["exec_exchange"]) == ("IEX", "IEX")
    assert fill["time"] == "20260413 15:27:04 US/Eastern"
    order = decoded("openOrder")
    assert (order["action"], order["order_type"], order["lmt_price"]) == ("SELL", "LMT", 1.2)
    assert (order["tif"], order["status"], order["exempt_code"]) == ("GTC", "PreSubmitted", -1)
    assert (order["clearing_intent"], order["oca_type"], order["trigger_price"]) == ("IB", 3, None)
    bars = decoded("historicalData")["bars"]
    assert [bar["bar_count"] for bar in bars][::6] == [13633, 17376]
    assert all(bar["low"] <= bar["wap"] <= bar["high"] for bar in bars)
    details = decoded("contractDetails")
    assert (details["con_id"], details["min_tick"], details["stock_type"]) == (
        265598,
        0.01,
        "COMMON",
    )
    assert len(details["market_rule_ids"].split(",")) == len(details["valid_exchanges"].split(","))
    assert decoded("position")["avg_cost"] == 200.25
    assert len(decoded("historicalSchedule")["sessions"]) == 21


def test_the_opening_comes_in_the_order_of_a_real_gateway(paper_gateway: GatewayProcess) -> None:
    theirs = [fields[0] for fields in captured("in")[:3]]

    with raw_client(paper_gateway.port) as client:
        opening = client.start()

    assert [message[0] for message in opening[1:4]] == theirs == ["15", "9", "4"]
    assert opening[3][2:5] == captured("in")[2][1:4]


def test_times_are_spelled_as_a_real_gateway_spells_them(paper_gateway: GatewayProcess) -> None:
    details, schedule = decoded("contractDetails"), decoded("historicalSchedule")
    assert all(MOMENT.fullmatch(bar["date"]) for bar in decoded("historicalData")["bars"])
    assert MOMENT.fullmatch(decoded("execDetails")["time"])
    assert all(map(SESSION.fullmatch, details["trading_hours"].split(";")))
    assert re.fullmatch(r"\d{8}-\d\d:\d\d:\d\d", schedule["start"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.0", decoded("historicalNews")["time"])

    ours = asked(
        paper_gateway,
        ("reqContractDetails", {"req_id": 1, "contract": SPY}),
        ("reqHistoricalData", {"req_id": 2, "contract": SPY, **HOUR}),
        ("reqHistoricalNews", {"req_id": 3, "con_id": 756733, **NEWS}),
    )

    assert all(map(SESSION.fullmatch, ours["contractDetails"]["trading_hours"].split(";")))
    assert all(map(SESSION.fullmatch, ours["contractDetails"]["liquid_hours"].split(";")))
    assert MOMENT.fullmatch(ours["historicalData"]["start"])
    assert all(MOMENT.fullmatch(bar["date"]) for bar in ours["historicalData"]["bars"])
    assert ours["historicalData"]["bars"]


SPY = {"symbol": "SPY", "sec_type": "STK", "exchange": "SMART", "currency": "USD"}
HOUR = {
    "end_date_time": "",
    "bar_size": "1 hour",
    "duration": "1 D",
    "use_rth": True,
    "what_to_show": "TRADES",
}
NEWS = {"provider_codes": "BRFG", "start": "", "end": "", "total_results": 10}


def asked(gateway: GatewayProcess, *requests: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the last answer of each kind, read at the newest version."""
    found = {}
    with raw_client(gateway.port) as client:
        client.start(versions=f"v{NEWEST}..{NEWEST}")
        for name, values in requests:
            client.send_bytes(REQUESTS.encode(name, values, NEWEST))
        client.send(49, 1)
        for fields in client.read_until(49):
            message = REPLIES.find(fields[0])
            assert message is not None
            found[message.name] = REPLIES.decode(message, fields, NEWEST)
    return found
