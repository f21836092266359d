"""Frames, the handshake, and what becomes of messages that cannot be served."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import pytest

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire import (
    REPLIES,
    REQUESTS,
    BadRequest,
    Hello,
    ProtocolError,
    Request,
    ServerWire,
    layout,
)
from momentum_lab.gateway.wire.table import Table

MIB_16 = 16 * 1024 * 1024


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def message(*texts: object) -> bytes:
    return framed("".join(f"{text}\0" for text in texts).encode())


def opening(versions: str = "v157..176") -> bytes:
    return b"API\0" + framed(versions.encode())


def connected(versions: str = "v157..176") -> ServerWire:
    wire = ServerWire()
    wire.receive_data(opening(versions))
    wire.hello("20261122 15:25:44 US/Eastern")
    return wire


def only_bad_request(wire: ServerWire, data: bytes) -> BadRequest:
    (event,) = wire.receive_data(data)
    assert isinstance(event, BadRequest)
    return event


class TestHandshake:
    def test_opening_becomes_a_hello_with_the_versions(self) -> None:
        assert ServerWire().receive_data(opening("v157..176")) == [Hello(157, 176, "")]

    def test_connect_options_are_kept(self) -> None:
        assert ServerWire().receive_data(opening("v157..176 +PACEAPI")) == [
            Hello(157, 176, "+PACEAPI")
        ]

    def test_single_version_is_minimum_and_maximum(self) -> None:
        assert ServerWire().receive_data(opening("v176")) == [Hello(176, 176, "")]

    def test_answer_has_exactly_two_fields(self) -> None:
        wire = ServerWire()
        wire.receive_data(opening())

        assert wire.hello("20261122 15:25:44 US/Eastern") == framed(
            b"176\x0020261122 15:25:44 US/Eastern\0"
        )

    def test_version_is_unknown_until_the_hello_is_answered(self) -> None:
        wire = ServerWire()
        wire.receive_data(opening())
        assert wire.version is None

        wire.hello("now")

        assert wire.version == 176

    @pytest.mark.parametrize(
        ("versions", "agreed"),
        [
            ("v100..157", 157),
            ("v157..158", 157),  # client libraries read orders differently at 158
            ("v157..159", 159),
            ("v157..176", 176),
            ("v157..178", 178),
            ("v100..193", 178),
            ("v100..226", 178),
            ("v178", 178),
        ],
    )
    def test_version_is_the_highest_that_both_sides_speak(self, versions: str, agreed: int) -> None:
        assert connected(versions).version == agreed

    @pytest.mark.parametrize(
        "versions", ["v100..156", "v158..158", "v179..226", "v20", "157..176", "", "v", "hello"]
    )
    def test_client_without_a_common_version_is_refused(self, versions: str) -> None:
        with pytest.raises(ProtocolError):
            ServerWire().receive_data(opening(versions or " "))

    @pytest.mark.parametrize("start", [b"GET / HTTP/1.1", b"63\0", b"\0", b"APX"])
    def test_other_protocol_is_refused_at_once(self, start: bytes) -> None:
        with pytest.raises(ProtocolError):
            ServerWire().receive_data(start)

    def test_nothing_can_be_sent_before_the_hello_is_answered(self) -> None:
        wire = ServerWire()
        wire.receive_data(opening())

        with pytest.raises(ProtocolError):
            wire.send("nextValidId", order_id=1)

    def test_hello_cannot_be_answered_before_it_came(self) -> None:
        with pytest.raises(ProtocolError):
            ServerWire().hello("now")


class TestFrames:
    def test_requests_of_the_openings_own_segment_are_read(self) -> None:
        events = ServerWire().receive_data(opening() + message(71, 2, 7, "") + message(61, 1))

        assert events[1:] == [
            Request("startApi", {"client_id": 7, "optional_capabilities": ""}),
            Request("reqPositions", {}),
        ]

    def test_half_a_frame_waits_for_its_other_half(self) -> None:
        wire = connected()
        data = message(49, 1)

        assert wire.receive_data(data[:5]) == []
        assert wire.receive_data(data[5:]) == [Request("reqCurrentTime", {})]

    @pytest.mark.parametrize("length", [0, MIB_16, 0xFFFFFFFF])
    def test_impossible_length_closes_the_connection(self, length: int) -> None:
        with pytest.raises(ProtocolError):
            connected().receive_data(struct.pack(">I", length))

    def test_events_before_a_fault_are_not_lost(self) -> None:
        wire = connected()

        with pytest.raises(ProtocolError) as caught:
            wire.receive_data(message(49, 1) + struct.pack(">I", 0))

        assert caught.value.events == (Request("reqCurrentTime", {}),)

    def test_faulty_connection_stays_closed(self) -> None:
        wire = connected()
        with pytest.raises(ProtocolError):
            wire.receive_data(struct.pack(">I", 0))

        with pytest.raises(ProtocolError) as caught:
            wire.receive_data(message(49, 1))

        assert caught.value.events == ()

    def test_large_message_is_read(self) -> None:
        pattern = "x" * 1_000_000

        (event,) = connected().receive_data(message(81, 5, pattern))

        assert event == Request("reqMatchingSymbols", {"req_id": 5, "pattern": pattern})


class TestBadRequests:
    def test_unknown_id_is_answered_with_505(self) -> None:
        bad = only_bad_request(connected(), message(4711, 1, 2))

        assert (bad.code, bad.req_id, bad.fields) == (505, -1, ("4711", "1", "2"))

    @pytest.mark.parametrize("number", ["", "1.0", "01", "x", "-1", "\u0661"])
    def test_id_must_be_spelled_as_it_is_known(self, number: str) -> None:
        assert only_bad_request(connected(), message(number, 1, 2)).code == 505

    @pytest.mark.parametrize(
        ("texts", "req_id"),
        [
            ((54, 2, 42, 0, "AAPL"), 42),
            ((22, 43, "50", "STK"), 43),
            ((19, 1, "1", "<xml/>", 44), 44),
            ((18, 1, "1"), -1),
            ((22, "not a number"), -1),
            ((22,), -1),
        ],
    )
    def test_known_but_unserved_request_is_refused_by_its_id(
        self, texts: tuple[object, ...], req_id: int
    ) -> None:
        bad = only_bad_request(connected(), message(*texts))

        assert (bad.code, bad.req_id) == (321, req_id)

    @pytest.mark.parametrize(("number", "place", "code"), [(52, 2, 430), (100, 1, 10276)])
    def test_a_service_that_was_not_bought_has_its_own_refusal(
        self, number: int, place: int, code: int
    ) -> None:
        bad = only_bad_request(connected(), message(number, *(["2"] * (place - 1)), 9))

        assert (bad.code, bad.req_id) == (code, 9)

    @pytest.mark.parametrize(
        "texts",
        [
            (81, 9),  # pattern is missing
            (81, 9, "AA", "left over"),
            (59, 1, "live"),  # not a number
            (94, 9, "DU1", "", "1e5"),
        ],
    )
    def test_malformed_request_is_answered_with_320(self, texts: tuple[object, ...]) -> None:
        assert only_bad_request(connected(), message(*texts)).code == 320

    def test_malformed_request_keeps_the_id_that_could_be_read(self) -> None:
        assert only_bad_request(connected(), message(81, 9)).req_id == 9

    def test_malformed_order_keeps_its_order_id(self) -> None:
        assert only_bad_request(connected(), message(3, 12, 0, "AAPL")).req_id == 12

    def test_message_without_its_last_nul_is_malformed(self) -> None:
        assert only_bad_request(connected(), framed(b"49\x001")).code == 320

    def test_connection_survives_a_bad_request(self) -> None:
        wire = connected()
        wire.receive_data(message(4711))

        assert wire.receive_data(message(49, 1)) == [Request("reqCurrentTime", {})]

    def test_bad_utf8_does_not_kill_the_connection(self) -> None:
        (event,) = connected().receive_data(framed(b"81\x005\x00A\xff\x00"))

        assert event == Request("reqMatchingSymbols", {"req_id": 5, "pattern": "A\ufffd"})


class TestReadingValues:
    @pytest.mark.parametrize(
        "spelling",
        [
            "",
            "2147483647",
            "1.7976931348623157e+308",
            "1.7976931348623157E308",
            "9223372036854775807",
            "170141183460469231731687303715884105727",
        ],
    )
    def test_every_spelling_of_not_set_is_none(self, spelling: str) -> None:
        texts = [1, 11, 5, *[""] * 12, 1, 0, spelling, spelling, "", 0, 0, ""]

        (event,) = connected().receive_data(message(*texts))

        assert isinstance(event, Request)
        assert event["delta_neutral_contract"] == {"con_id": 0, "delta": None, "price": None}

    def test_empty_ids_and_flags_are_zero_and_false(self) -> None:
        (event,) = connected().receive_data(message(1, 11, *[""] * 18))

        assert isinstance(event, Request)
        assert event["req_id"] == 0
        assert event["contract"]["con_id"] == 0
        assert event["snapshot"] is False

    @pytest.mark.parametrize("spelling", ["10", "10.0", "10.", "+10"])
    def test_integer_may_come_as_a_float(self, spelling: str) -> None:
        (event,) = connected().receive_data(message(91, spelling))

        assert event == Request("reqMarketRule", {"market_rule_id": 10})

    @pytest.mark.parametrize("spelling", ["1_0", " 10", "10.5", "0x10", "\u0661", "9" * 20, "nan"])
    def test_what_only_python_or_nobody_takes_for_an_integer_is_refused(
        self, spelling: str
    ) -> None:
        assert only_bad_request(connected(), message(91, spelling)).code == 320

    @pytest.mark.parametrize("spelling", ["nan", "inf", "1e999", "1_0", " 1", "0x1", "9" * 401])
    def test_what_is_no_finite_number_is_refused(self, spelling: str) -> None:
        texts = [1, 11, 5, *[""] * 12, 1, 0, spelling, 0, "", 0, 0, ""]

        assert only_bad_request(connected(), message(*texts)).code == 320


class TestWritingValues:
    @pytest.mark.parametrize(
        ("price", "text"),
        [
            (190.03, b"190.03"),
            (100.0, b"100"),
            (100, b"100"),
            (1e-05, b"0.00001"),
            (1e22, b"10000000000000000000000"),
            (-1, b"-1"),
            (0.1 + 0.2, b"0.30000000000000004"),
        ],
    )
    def test_numbers_have_no_exponent_and_no_needless_fraction(
        self, price: float, text: bytes
    ) -> None:
        sent = connected().send("tickGeneric", req_id=5, tick_type=49, value=price)

        assert sent[4:] == b"45\x006\x005\x0049\0" + text + b"\0"

    @pytest.mark.parametrize("price", [float("nan"), float("inf"), None, "abc", []])
    def test_what_is_no_number_is_not_sent(self, price: object) -> None:
        with pytest.raises(DataError):
            connected().send("tickGeneric", req_id=5, tick_type=49, value=price)

    def test_integers_are_bare(self) -> None:
        sent = connected().send("currentTime", time=1795377900.0)

        assert sent[4:] == b"49\x001\x001795377900\0"

    @pytest.mark.parametrize("count", [12.5, float("nan"), "12", None])
    def test_what_is_no_integer_is_not_sent(self, count: object) -> None:
        prices = dict.fromkeys(("open", "high", "low", "close", "volume", "wap"), 1)
        bar = {"date": "20261122", "bar_count": count, **prices}

        with pytest.raises(DataError, match="bar_count"):
            connected().send("historicalData", req_id=5, bars=[bar])

    def test_sizes_are_whole_for_clients_that_cannot_read_fractions(self) -> None:
        values = {"req_id": 5, "tick_type": 0, "size": 0.75}

        assert connected("v157").send("tickSize", **values).endswith(b"\x000\x000\0")
        assert connected("v163").send("tickSize", **values).endswith(b"\x000\x000.75\0")

    def test_error_text_is_seven_bit_with_escapes(self) -> None:
        sent = connected().send("error", req_id=5, code=200, text="Gefäß \\ €\U0001f600")

        assert sent[4:] == (
            rb"4|2|5|200|Gef\u00e4\u00df \u005c \u20ac\ud83d\ude00||".replace(b"|", b"\0")
        )

    def test_headline_is_utf8(self) -> None:
        sent = connected().send(
            "tickNews", req_id=5, time_ms=1, provider_code="BRFG", article_id="a", headline="Gefäß"
        )

        assert "Gefäß".encode() in sent

    def test_nul_in_a_text_is_left_out(self) -> None:
        sent = connected().send("newsArticle", req_id=5, article_type=0, text="a\0b")

        assert sent[4:] == b"83\x005\x000\x00ab\0"

    def test_unknown_message_is_named(self) -> None:
        with pytest.raises(DataError, match="tickPrize"):
            connected().send("tickPrize")

    def test_unknown_field_is_named(self) -> None:
        with pytest.raises(DataError, match="prize"):
            connected().send("tickPrice", req_id=1, tick_type=1, prize=1, price=1)

    def test_missing_field_is_named(self) -> None:
        with pytest.raises(DataError, match="price"):
            connected().send("tickPrice", req_id=1, tick_type=1)

    def test_contract_mapping_of_a_request_can_be_sent_in_every_reply(self) -> None:
        wire = connected()
        (request,) = wire.receive_data(message(9, 8, 5, 265598, "AAPL", *[""] * 14))
        assert isinstance(request, Request)
        contract = request["contract"]

        numbers = dict.fromkeys(
            ("position", "market_price", "market_value", "average_cost"), 1
        ) | dict.fromkeys(("unrealized_pnl", "realized_pnl"))
        assert wire.send("position", account="DU1", contract=contract, position=1, avg_cost=1)
        assert wire.send("updatePortfolio", contract=contract, account="DU1", **numbers)


def conditions(items: Iterable[object]) -> Iterator[layout.Condition]:
    for item in items:
        if isinstance(item, layout.When):
            yield item.condition
        yield from conditions(getattr(item, "items", ()))


@pytest.mark.parametrize("table", [REQUESTS, REPLIES])
def test_every_condition_of_a_message_has_words_for_people(table: Table) -> None:
    found = [c for message in table.messages.values() for c in conditions(message.items)]

    assert found
    assert all(condition.__doc__ is not None for condition in found)
