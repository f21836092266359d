"""Frames that a careless, a broken or a hostile client may send, drawn from a seeded generator.

Valid requests are made from the declarations of the wire, with values that a gateway has an
answer to; mutations then break fields, frames and streams in every way that bytes can be wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final

from momentum_lab.gateway.catalog import contract_of
from momentum_lab.gateway.checks import ORDER_TYPES
from momentum_lab.gateway.wire import REQUESTS, kinds, layout
from momentum_lab.gateway.wire.requests import NOT_SERVED
from tests.gateway_factories import IBM, SPY

VERSIONS: Final = tuple(range(157, 179))
# Requests whose answers grow with what has happened, or which hurt everybody's orders: rarer.
RARE: Final = frozenset(
    {"reqCompletedOrders", "reqExecutions", "reqAllOpenOrders", "reqGlobalCancel"}
)
RARE_SHARE: Final = 0.05
ORDER_SHARE: Final = 0.2
PLAUSIBLE_SHARE: Final = 0.8

DATES: Final = (
    *("", "20131009", "20131009 14:00:00 US/Eastern", "20131009-18:00:00", "20131010 10:00:00"),
    *("2013-10-09 14:00:00.0", "20131009 14:00:00 UTC"),
)
NASTY_DATES: Final = (
    *("99991231 23:59:59 US/Eastern", "00010101 00:00:00 UTC", "99991231-23:59:59"),
    *("20131309 10:00:00", "20131009 25:00:00", "20131009 10:00:00 ../../etc", "00000000"),
    *("20131009 10:00:00 America", "9999-12-31 23:59:59.0", "0001-01-01 00:00:00.0"),
    *("20130310 02:30:00 US/Eastern", "19000101 00:00:00 US/Eastern", "20380119 03:14:08 UTC"),
)
NASTY_NUMBERS: Final = (
    *("0", "-1", "2147483647", "2147483648", "-2147483648", "9223372036854775807"),
    *("9223372036854775808", "-9223372036854775808", "170141183460469231731687303715884105727"),
    *("1e308", "-1e308", "1.7976931348623157E308", "1.7976931348623157e+308", "1e-320", "1e999"),
    *("NaN", "nan", "Infinity", "-Infinity", "Infinite", "inf", "0x10", "1_000", " 5", "+5", "-0"),
    *("1" * 19, "9" * 20, "9" * 500, "1e18", "1e15", "0.1", "0.000001", "-0.01", "10.0", "1."),
)
NASTY_TEXTS: Final = (
    *("", " ", "\t\n", "é", "\U0001f600", "²", "٣", "\\u0041", "\\", "\\ud800", "%s", "{}", "None"),
    *("BAG", "NEWS", "OPT", "PEG BENCH", "PEG BEST", "A" * 300, "\x1b[31m", "a,b;c+d:e", "\ufffd"),
)
NASTY: Final = (*NASTY_NUMBERS, *NASTY_TEXTS, *NASTY_DATES)
LONG_CHARACTERS: Final = 20_000

# What makes sense in a field of this name; the others are drawn by their kind.
_POOLS: Final[Mapping[str, Sequence[Any]]] = {
    "con_id": (0, 0, 0, SPY.con_id, IBM.con_id, 900_000_001, 7),
    "symbol": ("SPY", "SPY", "IBM", "BRFG:BRFG_ALL", "QQQQ"),
    "sec_type": ("STK", "STK", "STK", "NEWS", "OPT", "BAG"),
    "exchange": ("SMART", "SMART", "", "BRFG", "ARCA"),
    "primary_exchange": ("", "", "", "ARCA", "NYSE"),
    "currency": ("USD", "USD", "USD", "", "EUR"),
    "local_symbol": ("", "", "", "SPY"),
    "action": ("BUY", "SELL", "BUY", "SELL", "SSHORT", "HOLD"),
    "order_type": (*ORDER_TYPES, "PEG MID", "PEG BENCH"),
    "tif": ("DAY", "DAY", "GTC", "IOC", "FOK", "GTD", "OPG", ""),
    "total_quantity": (1, 1, 10, 100, 700, 5000, 0.5, 0),
    "account": ("", "", "DU1234567", "DU7654321"),
    "group": ("All",),
    "model_code": ("",),
    "oca_group": ("", "", "", "g", "h"),
    "oca_type": (0, 1, 2, 3),
    "parent_id": (0, 0, 0, 1, 2, 3),
    "trailing_percent": (None, None, 1.0),
    "trail_stop_price": (None, None, 99.0),
    "tags": ("NetLiquidation,BuyingPower", "", "$LEDGER:ALL"),
    "generic_ticks": ("", "233", "292", "233,292:BRFG", "mdoff,292", "165,236"),
    "tick_type": ("Last", "AllLast", "BidAsk", "MidPoint"),
    "bar_size": ("1 min", "5 secs", "1 secs", "1 day", "1 hour"),
    "duration": ("60 S", "1 D", "1800 S", "1 W", "1 Y", None),
    "what_to_show": ("TRADES", "MIDPOINT", "BID_ASK", "SCHEDULE"),
    "format_date": (1, 2),
    "end_date_time": DATES,
    "start": DATES,
    "end": DATES,
    "time": DATES,
    "good_till_date": ("", "", "", *DATES),
    "good_after_time": ("", "", "", *DATES),
    "pattern": ("SP", "I", ""),
    "provider_codes": ("BRFG", "BRFG+DJNL", "XX"),
    "provider_code": ("BRFG", "DJNL"),
    "article_id": ("BRFG$00000001", "BRFG$ffffffff"),
    "market_rule_id": (26, 1),
    "market_data_type": (1, 2, 3, 4, 9),
    # What a tape does not play would refuse nearly every order.
    **dict.fromkeys(
        ("algo_strategy", "hedge_type", "delta_neutral_order_type", "adjusted_order_type"), ("",)
    ),
    **dict.fromkeys(
        (
            *("scale_init_level_size", "scale_price_increment", "volatility", "cash_qty"),
            *("discretionary_amt", "percent_offset", "min_qty", "nbbo_price_cap"),
        ),
        (None,),
    ),
    "conditions": (),
    "combo_legs": (),
    "delta_neutral_contract": (),
    "what_if": (False, False, False, True),
    "transmit": (True, True, True, False),
}
_PRICES: Final = frozenset({"lmt_price", "aux_price", "lmt_price_offset"})


class Frames:
    """Draws frames of one connection.

    Attributes:
        rng: where all chance comes from.
        version: the negotiated protocol version.
        next_order_id: the lowest order id that this client has not used.
    """

    def __init__(self, rng: Random, version: int, next_order_id: int = 1) -> None:
        self.rng = rng
        self.version = version
        self.next_order_id = next_order_id
        self._names = [name for name in REQUESTS.messages if name != "startApi"]

    def draw(self) -> bytes:
        """Return one frame: valid, mutated, of an unknown kind, or with rubbish inside."""
        chance = self.rng.random()
        if chance < 0.5:
            return framed(self.fields())
        if chance < 0.9:
            return framed(self.mutated(self.fields()))
        if chance < 0.95:
            number = self.rng.choice([*NOT_SERVED, "0", "-1", "999", "3.0", "", "٣"])
            return framed([number, *self.nasty_fields(self.rng.randrange(6))])
        payload = bytes(self.fields_as_bytes())
        place = self.rng.randrange(len(payload))
        return _frame(payload[:place] + self.rng.randbytes(3) + payload[place + 1 :])

    def fields(self) -> list[str]:
        """Return the fields of one valid request."""
        name = self.rng.choice(self._names)
        if name in RARE and self.rng.random() > RARE_SHARE:
            name = "placeOrder"
        if self.rng.random() < ORDER_SHARE:
            name = self.rng.choice(["placeOrder", "placeOrder", "cancelOrder"])
        values: dict[str, Any] = {}
        self._draw_items(REQUESTS.layout(name, self.version).items, values)
        if name == "placeOrder" and self.rng.random() < PLAUSIBLE_SHARE:
            values |= self._terms()
        if "order_id" in values:
            values["order_id"] = self._order_id(is_new=name == "placeOrder")
        return _split(REQUESTS.encode(name, values, self.version))

    def fields_as_bytes(self) -> bytes:
        return "".join(f"{text}\0" for text in self.fields()).encode()

    def mutated(self, fields: list[str]) -> list[str]:
        """Return fields with one to three things wrong."""
        found = list(fields)
        for _ in range(self.rng.randint(1, 3)):
            place = self.rng.randrange(len(found)) if found else 0
            self.rng.choice(_MUTATIONS)(self, found, place)
        return found

    def nasty(self) -> str:
        """Return a text that is nowhere expected."""
        if self.rng.random() < 0.01:
            return self.rng.choice(["A", "9", "é"]) * self.rng.randrange(LONG_CHARACTERS)
        return self.rng.choice(NASTY)

    def nasty_fields(self, count: int) -> list[str]:
        return [self.nasty() for _ in range(count)]

    def _terms(self) -> dict[str, Any]:
        """Return what an order needs to be taken, for all that is drawn beside it."""
        stock = self.rng.choice([SPY, SPY, IBM])
        price = round(self.rng.uniform(97, 103) * (2 if stock is IBM else 1), 2)
        order_type = self.rng.choice(ORDER_TYPES)
        is_trailing = order_type.startswith("TRAIL")
        return {
            "contract": contract_of(stock),
            "action": self.rng.choice(["BUY", "SELL"]),
            "total_quantity": self.rng.choice([1, 10, 100, 700, 5000]),
            "order_type": order_type,
            "tif": self.rng.choice(["DAY", "DAY", "GTC", "IOC", "FOK"]),
            "lmt_price": None if order_type == "TRAIL LIMIT" else price,
            "aux_price": 0.5 if is_trailing else price,
            "lmt_price_offset": 0.1,
            "trailing_percent": None,
            "trail_stop_price": None,
            "good_till_date": "",
            "good_after_time": "",
            "account": "",
            "parent_id": self.rng.choice([0, 0, 0, max(0, self.next_order_id - 1)]),
        }

    def _order_id(self, *, is_new: bool) -> int:
        if is_new and self.rng.random() < 0.7:
            self.next_order_id += 1
            return self.next_order_id - 1
        return max(0, self.next_order_id - self.rng.randint(1, 12))

    def _draw_items(self, items: Iterable[Any], values: dict[str, Any]) -> None:
        for item in items:
            if isinstance(item, layout.Field):
                values[item.name] = self._value(item.name, item.kind)
            elif isinstance(item, layout.Block):
                values[item.name] = self._mapping(item.layout.items)
            elif isinstance(item, layout.Flagged):
                is_there = item.name not in _POOLS and self.rng.random() < 0.3
                values[item.name] = self._mapping(item.layout.items) if is_there else None
            elif isinstance(item, layout.Group):
                count = 0 if item.name in _POOLS else self.rng.randrange(3)
                values[item.name] = tuple(self._mapping(item.layout.items) for _ in range(count))
            elif isinstance(item, layout.Listing):
                count = self.rng.randrange(3)
                values[item.name] = tuple(self._value("", item.kind) for _ in range(count))
            elif isinstance(item, layout.When) and item.condition(values):
                self._draw_items(item.items, values)

    def _mapping(self, items: Iterable[Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        self._draw_items(items, values)
        return values

    def _value(self, name: str, kind: kinds.Kind) -> Any:
        pool = [value for value in _POOLS.get(name, ()) if _is_of(kind, value)]
        if pool:
            return self.rng.choice(pool)
        if name in _PRICES:
            return self.rng.choice([None, round(self.rng.uniform(95, 105), 2), 1.0])
        if kind is kinds.BOOL:
            return self.rng.random() < 0.2
        if kind in (kinds.TEXT, kinds.ESCAPED):
            return self.rng.choice(["", "", "x"])
        if name == "req_id":
            return self.rng.randrange(50)
        return kind.unset if self.rng.random() < 0.7 else self.rng.randrange(1, 10)


def _is_of(kind: kinds.Kind, value: Any) -> bool:
    """Whether a value can be written as one of this kind: names recur with other meanings."""
    is_text = kind in (kinds.TEXT, kinds.ESCAPED)
    return isinstance(value, str) if is_text else not isinstance(value, str)


def _drop(_frames: Frames, fields: list[str], place: int) -> None:
    del fields[place : place + 1]


def _duplicate(_frames: Frames, fields: list[str], place: int) -> None:
    fields[place:place] = fields[place : place + 1]


def _swap(frames: Frames, fields: list[str], place: int) -> None:
    other = frames.rng.randrange(len(fields)) if fields else 0
    if fields:
        fields[place], fields[other] = fields[other], fields[place]


def _replace(frames: Frames, fields: list[str], place: int) -> None:
    fields[place : place + 1] = [frames.nasty()]


def _replace_late(frames: Frames, fields: list[str], place: int) -> None:
    # Past the number and the contract, where an order's terms are.
    _replace(frames, fields, min(len(fields), place % 24 + 16))


def _split_by_nul(_frames: Frames, fields: list[str], place: int) -> None:
    fields[place : place + 1] = ["\0".join(fields[place : place + 1]) + "\0"]


def _cut(_frames: Frames, fields: list[str], place: int) -> None:
    del fields[place:]


def _append(frames: Frames, fields: list[str], _place: int) -> None:
    fields += frames.nasty_fields(frames.rng.randint(1, 4))


_MUTATIONS: Final[Sequence[Callable[[Frames, list[str], int], None]]] = (
    *(_drop, _duplicate, _swap, _replace, _replace, _replace, _replace_late, _replace_late),
    *(_split_by_nul, _cut, _append),
)


def poison(rng: Random) -> bytes:
    """Return bytes after which no stream can be read on: the gateway must close."""
    return rng.choice(
        [
            struct.pack(">I", 0),
            struct.pack(">I", 0xFFFFFFFF),
            struct.pack(">I", 0x01000000),
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff" * 64,
        ]
    )


def half_frame(rng: Random) -> bytes:
    """Return the beginning of a frame that never ends."""
    return struct.pack(">I", rng.randint(10, 60_000)) + rng.randbytes(rng.randrange(9))


def wrong_opening(rng: Random, frames: Frames) -> tuple[bytes, int]:
    """Return what no client should begin with, and how many frames that are."""
    hello = rng.choice(["v1..156", "v900", "v178..157", "v-1", "v157..", "", "V157", "v9" * 99])
    early = [frames.draw() for _ in range(rng.randrange(1, 5))]
    control = rng.choice(
        [
            *('{"do": "status"}', '{"do": "journal", "last": "x"}', '{"do": ["x"]}', "{", "[]"),
            *('{"do": "inject"}', '{"do": "inject", "fault": 7}', '{"do": "step", "seconds": []}'),
            *('{"do": null}', '{"do": "end"}', "null", '{"do": "plan", "after": 3}', "[" * 5000),
            *('{"do": "inject", "fault": "1100", "with": 5}', '{"do": "journal", "last": null}'),
        ]
    )
    return rng.choice(
        [
            (rng.randbytes(rng.randint(1, 200)), 1),
            (b"API", 1),
            (b"API\0" + _frame(hello.encode() or b"\0"), 1),
            (b"API\0" + _frame(b"v157..178") + b"".join(early), 1 + len(early)),
            (b"API\0" + _frame(b"v157..178") + _frame(b"v157..178"), 2),
            (b"API\0" + half_frame(rng), 1),
            (f"CTL\n{control}\n".encode(), 1),
            (b"CTL\n" + rng.randbytes(50) + b"\n", 1),
        ]
    )


def framed(fields: Sequence[str]) -> bytes:
    """Return fields as one frame."""
    return _frame("".join(f"{text}\0" for text in fields).encode("utf-8", "surrogatepass"))


def _frame(payload: bytes) -> bytes:
    payload = payload or b"\0"
    return struct.pack(">I", len(payload)) + payload


def _split(frame: bytes) -> list[str]:
    return frame[4:].decode().split("\0")[:-1]
