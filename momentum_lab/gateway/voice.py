"""How the ticks of a line reach its client: as messages, or at once as their bytes.

A message is a name and a mapping, so that a fault can change it. While no fault goes on nobody
looks at it, and to make a mapping and to look its values up takes longer than to write them. So
lines say their ticks by the methods of a voice, and need not know what becomes of them: one voice
makes messages, the other one bytes, both from the same list of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, TypeVar

from momentum_lab.gateway.wire import REPLIES
from momentum_lab.gateway.wire.data_replies import ALL_LAST, BID_ASK, LAST, MID_POINT

T = TypeVar("T")
Message = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Voice(Generic[T]):
    """One way to say ticks; prices in US dollars, sizes in shares or, of day volumes, in lots.

    Attributes:
        price: of (request id, tick type, price, size, attribute bits).
        size: of (request id, tick type, size).
        text: of (request id, tick type, text).
        generic: of (request id, tick type, value).
        last: of (request id, epoch second, price, size, attribute bits, exchange, conditions),
            tick by tick; `all_last` likewise.
        bid_ask: of (request id, epoch second, bid, ask, bid size, ask size), tick by tick.
        middle: of (request id, epoch second, middle of the quote), tick by tick.
        send: takes what the others have made, in its order.
    """

    price: Callable[[int, int, float, int, int], T]
    size: Callable[[int, int, int], T]
    text: Callable[[int, int, str], T]
    generic: Callable[[int, int, float], T]
    last: Callable[[int, int, float, int, int, str, str], T]
    all_last: Callable[[int, int, float, int, int, str, str], T]
    bid_ask: Callable[[int, int, float, float, int, int], T]
    middle: Callable[[int, int, float], T]
    send: Callable[[list[T]], None]


_LAST_FIELDS: Final = "req_id time price size mask exchange special_conditions"
_BID_ASK_FIELDS: Final = "req_id time bid_price ask_price bid_size ask_size"
# Method of a voice -> message, its fields in the order of the method, what else it always holds.
_SAID: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "price": ("tickPrice", "req_id tick_type price size mask", {}),
    "size": ("tickSize", "req_id tick_type size", {}),
    "text": ("tickString", "req_id tick_type text", {}),
    "generic": ("tickGeneric", "req_id tick_type value", {}),
    "last": ("tickByTick", _LAST_FIELDS, {"kind": LAST}),
    "all_last": ("tickByTick", _LAST_FIELDS, {"kind": ALL_LAST}),
    "bid_ask": ("tickByTick", _BID_ASK_FIELDS, {"kind": BID_ASK}),
    "middle": ("tickByTick", "req_id time mid_point", {"kind": MID_POINT}),
}


def by_message(send: Callable[[list[Message]], None]) -> Voice[Message]:
    """Return a voice that makes messages."""
    return Voice(**_MESSAGES, send=send)


def by_bytes(send: Callable[[list[bytes]], None], version: int) -> Voice[bytes]:
    """Return a voice that makes framed messages of one version of the protocol."""
    return Voice(**_framers(version), send=send)


def _message_maker(
    name: str, names: Sequence[str], fixed: Mapping[str, Any]
) -> Callable[..., Message]:
    return lambda *values: (name, {**fixed, **dict(zip(names, values, strict=True))})


@cache
def _framers(version: int) -> Mapping[str, Callable[..., bytes]]:
    encoder = REPLIES.encoder(version)
    return {
        way: encoder.framer(name, fields.split(), fixed)
        for way, (name, fields, fixed) in _SAID.items()
    }


_MESSAGES: Final = {
    way: _message_maker(name, fields.split(), fixed) for way, (name, fields, fixed) in _SAID.items()
}
