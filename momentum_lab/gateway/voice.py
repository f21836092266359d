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

    A line says thousands of ticks that begin with the same request id and tick type, so the first
    four take these two alone and give a function of the rest.

    Attributes:
        price: of (request id, tick type), then of (price, size, attribute bits).
        size: of (request id, tick type), then of (size).
        text: of (request id, tick type), then of (text).
        generic: of (request id, tick type), then of (value).
        last: of (request id, epoch second, price, size, attribute bits, exchange, conditions),
            tick by tick; `all_last` likewise.
        bid_ask: of (request id, epoch second, bid, ask, bid size, ask size), tick by tick.
        middle: of (request id, epoch second, middle of the quote), tick by tick.
        send: takes what the others have made, in its order.
    """

    price: Callable[[int, int], Callable[[float, int, int], T]]
    size: Callable[[int, int], Callable[[int], T]]
    text: Callable[[int, int], Callable[[str], T]]
    generic: Callable[[int, int], Callable[[float], T]]
    last: Callable[[int, int, float, int, int, str, str], T]
    all_last: Callable[[int, int, float, int, int, str, str], T]
    bid_ask: Callable[[int, int, float, float, int, int], T]
    middle: Callable[[int, int, float], T]
    send: Callable[[list[T]], None]


_LAST_FIELDS: Final = "req_id time price size mask exchange special_conditions"
_BID_ASK_FIELDS: Final = "req_id time bid_price ask_price bid_size ask_size"
_BOUND: Final = "req_id tick_type"
# Method of a voice -> message, the fields that are given first, where some are, the fields in the
# order of the method, what else it always holds.
_SAID: Final[Mapping[str, tuple[str, str, str, Mapping[str, Any]]]] = {
    "price": ("tickPrice", _BOUND, "price size mask", {}),
    "size": ("tickSize", _BOUND, "size", {}),
    "text": ("tickString", _BOUND, "text", {}),
    "generic": ("tickGeneric", _BOUND, "value", {}),
    "last": ("tickByTick", "", _LAST_FIELDS, {"kind": LAST}),
    "all_last": ("tickByTick", "", _LAST_FIELDS, {"kind": ALL_LAST}),
    "bid_ask": ("tickByTick", "", _BID_ASK_FIELDS, {"kind": BID_ASK}),
    "middle": ("tickByTick", "", "req_id time mid_point", {"kind": MID_POINT}),
}


def by_message(send: Callable[[list[Message]], None]) -> Voice[Message]:
    """Return a voice that makes messages."""
    return Voice(**_MESSAGES, send=send)


def by_bytes(send: Callable[[list[bytes]], None], version: int) -> Voice[bytes]:
    """Return a voice that makes framed messages of one version of the protocol."""
    return Voice(**_framers(version), send=send)


def _message_maker(
    name: str, bound: Sequence[str], free: Sequence[str], fixed: Mapping[str, Any]
) -> Callable[..., Any]:
    def bind(*first: Any) -> Callable[..., Message]:
        always = {**fixed, **dict(zip(bound, first, strict=True))}
        return lambda *values: (name, {**always, **dict(zip(free, values, strict=True))})

    return bind


@cache
def _framers(version: int) -> Mapping[str, Callable[..., Any]]:
    encoder = REPLIES.encoder(version)

    def binder(
        name: str, bound: Sequence[str], free: Sequence[str], fixed: Mapping[str, Any]
    ) -> Callable[..., Any]:
        return encoder.binder(name, (*bound, *free), fixed, n_bound=len(bound))

    return _ways(binder)


def _ways(maker: Callable[..., Callable[..., Any]]) -> Mapping[str, Callable[..., Any]]:
    found = {}
    for way, (name, bound, free, fixed) in _SAID.items():
        bind = maker(name, bound.split(), free.split(), fixed)
        found[way] = bind if bound else bind()
    return found


_MESSAGES: Final = _ways(_message_maker)
