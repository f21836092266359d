"""Contracts on the wire: the twelve-field block of requests and its two variants."""

from __future__ import annotations

from typing import Final

from momentum_lab.gateway.wire.kinds import INT, INT_OR_0, NUMBER, TEXT
from momentum_lab.gateway.wire.layout import (
    Block,
    Field,
    Group,
    Item,
    Listing,
    Values,
    fields,
    optional,
)

_FIELDS: Final = (
    Field("con_id", INT_OR_0, 0),
    Field("symbol", TEXT, ""),
    Field("sec_type", TEXT, ""),
    Field("last_trade_date", TEXT, ""),
    Field("strike", NUMBER, 0),
    Field("right", TEXT, ""),
    Field("multiplier", TEXT, ""),
    Field("exchange", TEXT, ""),
    Field("primary_exchange", TEXT, ""),
    Field("currency", TEXT, ""),
    Field("local_symbol", TEXT, ""),
    Field("trading_class", TEXT, ""),
)


def _contract(without: str = "") -> Block:
    return Block(
        "contract",
        tuple(field for field in _FIELDS if field.name != without),
        # So that one and the same mapping can be sent in every message.
        ignored=frozenset({without}),
    )


CONTRACT: Final = _contract()
# Orders, executions and positions leave the listing exchange out.
CONTRACT_11: Final = _contract(without="primary_exchange")


def _portfolio_contract() -> Block:
    # The listing exchange stands in the place of the exchange.
    listing = next(field for field in _FIELDS if field.name == "primary_exchange")
    others = (field for field in _FIELDS if field.name != "primary_exchange")
    in_place = tuple(listing if field.name == "exchange" else field for field in others)
    return Block("contract", in_place, ignored=frozenset({"exchange"}))


CONTRACT_PORTFOLIO: Final = _portfolio_contract()

_SHORT_LEG: Final = (*optional(INT_OR_0, "con_id ratio"), *optional(TEXT, "action exchange"))
_LEG: Final = (
    *_SHORT_LEG,
    *optional(INT_OR_0, "open_close short_sale_slot"),
    *optional(TEXT, "designated_location"),
    Field("exempt_code", INT, -1),
)

SHORT_COMBO_LEGS: Final[tuple[Item, ...]] = (Group("combo_legs", _SHORT_LEG),)
COMBO_LEGS: Final[tuple[Item, ...]] = (
    Group("combo_legs", _LEG),
    Listing("order_combo_leg_prices", NUMBER),
    Group("smart_combo_routing_params", fields(TEXT, "tag value")),
)


def is_combo(values: Values) -> bool:
    """Return whether the contract is a combination of legs."""
    return bool(values["contract"].get("sec_type") == "BAG")
