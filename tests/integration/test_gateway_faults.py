"""What the paper gateway does with bytes that no client should send."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire import REQUESTS
from tests.conftest import GatewayProcess, gateway_processes
from tests.gateway_client import raw_client

REQUEST_NUMBERS = (*range(1, 26), *range(49, 105), 0, -1, 999, "x", "")


WORDS = (
    *("", "0", "1", "2", "-1", "SPY", "STK", "NEWS", "SMART", "USD", "292", "mdoff,292", "1 min"),
    *("60 S", "1 D", "TRADES", "BRFG", "BRFG:BRFG_ALL", "BRFG$00000001", "ä\\u", "1e308"),
    *("2147483648", "x", "20131009 12:00:00 X", "99999999 Y", "NaN", "1.5", "756733"),
    *("DU1234567", "MKT", "LMT", "BUY", "SELL", "20131009-13:00:00", "9223372036854775806"),
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    """One process for all tests of this file: each must leave it working for the next."""
    with gateway_processes() as start:
        # Every message is to be looked at, however fast they come.
        found = start("--max-messages", 0)
        yield found
        assert found.stop() == 0


def still_serves(port: int) -> bool:
    with raw_client(port) as client:
        client.start(client_id=99)
        client.send(49, 1)
        return bool(client.read_until(49)[-1][0] == "49")


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"63\x0012\x00",
        b"API\0" + struct.pack(">I", 0),
        b"API\0" + struct.pack(">I", 0xFFFFFFFF),
        b"API\0" + struct.pack(">I", 8) + b"whatever",
        b"API\0" + struct.pack(">I", 8) + b"v100..150",
        b"\xff" * 100,
    ],
)
def test_an_opening_that_is_none_closes_only_that_connection(
    gateway: GatewayProcess, opening: bytes
) -> None:
    with raw_client(gateway.port) as bystander:
        bystander.start(client_id=5)
        with raw_client(gateway.port) as client:
            client.send_bytes(opening)
            assert client.read() == []
        bystander.send(49, 1)
        assert bystander.read_until(49)[-1][0] == "49"


def test_a_request_before_the_api_is_started_closes_the_connection(gateway: GatewayProcess) -> None:
    with raw_client(gateway.port) as client:
        client.send_bytes(b"API\0" + struct.pack(">I", 9) + b"v157..176")
        assert client.read()[0] == "176"
        client.send(49, 1)
        assert client.read() == []


def test_bytes_may_come_one_by_one(gateway: GatewayProcess) -> None:
    with raw_client(gateway.port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"API\0" + struct.pack(">I", 9) + b"v157..176":
            client.send_bytes(bytes([byte]))
        assert client.read()[0] == "176"


def test_half_a_request_at_the_end_is_forgotten(gateway: GatewayProcess) -> None:
    with raw_client(gateway.port) as client:
        client.start(client_id=7)
        client.send_bytes(struct.pack(">I", 50) + b"49\0")
    assert still_serves(gateway.port)


def test_a_client_that_vanishes_frees_its_id(gateway: GatewayProcess) -> None:
    for _ in range(5):
        with raw_client(gateway.port) as client:
            assert client.start(client_id=8)[-1][3] == "2158"
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_busy_id_is_told_and_closed(gateway: GatewayProcess) -> None:
    with raw_client(gateway.port) as first, raw_client(gateway.port) as second:
        first.start(client_id=9)
        assert second.start(client_id=9)[-1][2:4] == ["-1", "326"]
        assert second.read() == []


def test_an_unknown_request_is_answered_and_the_connection_stays(gateway: GatewayProcess) -> None:
    with raw_client(gateway.port) as client:
        client.start(client_id=10)
        client.send(999, 1)
        client.send(49, 1)
        messages = client.read_until(49)
    assert [message[3] for message in messages if message[0] == "4"] == ["505"]


@pytest.mark.parametrize("seed", range(20))
def test_no_nonsense_stops_the_gateway(gateway: GatewayProcess, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable test, no secret
    with raw_client(gateway.port) as client:
        client.start(client_id=11)
        for _ in range(150):
            client.send(*nonsense(chance))
        client.send(49, 1)
        assert client.read_until(49)[-1][0] == "49"


@pytest.mark.parametrize("seed", range(20))
def test_no_readable_nonsense_stops_the_gateway(gateway: GatewayProcess, seed: int) -> None:
    chance = random.Random(1000 + seed)  # noqa: S311 - a repeatable test, no secret
    lengths = readable_lengths()
    with raw_client(gateway.port) as client:
        client.start(client_id=12)
        for number, length in chance.sample(sorted(lengths.items()), len(lengths)) * 3:
            fields = [chance.choice(WORDS) if chance.random() < 0.3 else "" for _ in range(length)]
            client.send(number, *fields)
        client.send(49, 1)
        assert client.read_until(49)[-1][0] == "49"
        # Orders that were taken by chance must not be met by the next test.
        client.send(58, 1)


@pytest.mark.parametrize("field", ["good_after_time", "good_till_date"])
@pytest.mark.parametrize(
    "moment",
    [
        *("99991231 23:59:59 US/Eastern", "00010101 00:00:00 UTC", "19000101 12:00:00"),
        *("20131009 10:00:00 ../../etc", "20131009 10:00:00 America", "20131009 24:00:01"),
    ],
)
def test_an_order_for_a_time_beyond_all_calendars_is_refused(
    gateway: GatewayProcess, field: str, moment: str
) -> None:
    contract = {"symbol": "SPY", "sec_type": "STK", "exchange": "SMART", "currency": "USD"}
    terms = {"action": "BUY", "total_quantity": 1, "order_type": "LMT", "lmt_price": 50.0}
    values = {"order_id": 1, "contract": contract, field: moment, "tif": "GTD", **terms}
    with raw_client(gateway.port) as client:
        client.start(client_id=13)
        client.send_bytes(REQUESTS.encode("placeOrder", values, 176))
        client.send(49, 1)
        told = client.read_until(49)

    assert [message[3] for message in told if message[0] == "4"] == ["321"]


def nonsense(chance: random.Random) -> list[object]:
    number = chance.choice(REQUEST_NUMBERS)
    return [number, *chance.choices(WORDS, k=chance.randrange(22))]


def readable_lengths() -> dict[int, int]:
    """Request number -> how many empty fields make a readable request of that kind."""
    found = {}
    for message in REQUESTS.messages.values():
        for length in range(130):
            try:
                REQUESTS.decode(message, [str(message.number), *[""] * length], 176)
            except DataError:
                continue
            found[message.number] = length
            break
    assert len(found) == len(REQUESTS.messages)
    return found


@pytest.mark.parametrize(
    "command",
    [
        *("{", "[]", "null", "7", '"do"', "[" * 100_000, '{"do": null}', '{"do": ["status"]}'),
        *('{"do": {}}', '{"do": "journal", "last": "x"}', '{"do": "journal", "last": null}'),
        *('{"do": "inject"}', '{"do": "inject", "fault": 7}', '{"do": "inject", "fault": []}'),
        *('{"do": "inject", "fault": "1100", "with": 5}', '{"do": "step", "seconds": "1"}'),
        '{"do": "inject", "fault": "1100", "with": {"code": 1}}',
        '{"do": "plan", "fault": "1100", "after": {"event": "fill", "count": Infinity}}',
        '{"do": "plan", "fault": "1100", "after": {"event": "fill"}, "delay_s": 1e300}',
        '{"do": "inject", "fault": "1100", "for_s": 1e300}',
        '{"do": "plan", "fault": "1100", "every_s": 1e-300}',
        '{"do": "plan", "fault": "1100", "rate_per_hour": 1e300}',
    ],
)
def test_a_control_command_that_is_none_is_answered_with_what_is_wrong(
    gateway: GatewayProcess, command: str
) -> None:
    with raw_client(gateway.port) as client:
        client.send_bytes(f"CTL\n{command}\n".encode())
        answer = json.loads(client.socket.makefile("rb").readline())

    assert answer["ok"] is False
    assert still_serves(gateway.port)


def test_a_control_client_that_leaves_before_its_answer_hurts_nobody(
    gateway: GatewayProcess,
) -> None:
    for _ in range(20):
        with raw_client(gateway.port) as client:
            # A reset instead of an end: the answers have nowhere to go.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.send_bytes(b"CTL\n" + b'{"do": "status"}\n' * 500)

    assert still_serves(gateway.port)
