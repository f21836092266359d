"""What the gateway sends of market data, history and news: one declaration per message."""

from __future__ import annotations

from typing import Any, Final

from momentum_lab.gateway.wire.kinds import (
    BOOL,
    ESCAPED,
    INT_OR_0,
    NUMBER,
    TEXT,
    WHOLE,
    one_of,
)
from momentum_lab.gateway.wire.layout import (
    REQUIRED,
    Condition,
    Const,
    Field,
    Group,
    Item,
    When,
    described,
    fields,
    optional,
)
from momentum_lab.gateway.wire.table import Message

REQ_ID: Final = fields(INT_OR_0, "req_id")
_FRACTIONAL_SIZES: Final = 163


def sizes(names: str, default: Any = REQUIRED) -> tuple[Field, ...]:
    """Sizes and volumes; clients of before fractional shares read them as integers."""
    return tuple(
        size
        for name in names.split()
        for size in (
            Field(name, WHOLE, default, until=_FRACTIONAL_SIZES),
            Field(name, NUMBER, default, since=_FRACTIONAL_SIZES),
        )
    )


def versioned(number: int, name: str, version: str, *items: Item) -> Message:
    """A message of the old kind, with its own version first."""
    return Message(number, name, (Const(version), *items))


LAST, ALL_LAST, BID_ASK, MID_POINT = 1, 2, 3, 4


def _is_kind(*kinds: int) -> Condition:
    meaning = f"kind is {' or '.join(map(str, kinds))}"
    return described(meaning, lambda values: values["kind"] in kinds)


MARKET_DATA: Final = (
    versioned(
        1,
        "tickPrice",
        "6",
        *REQ_ID,
        *fields(INT_OR_0, "tick_type"),
        *fields(NUMBER, "price"),
        *sizes("size", 0),
        Field("mask", INT_OR_0, 0),
    ),
    versioned(
        2,
        "tickSize",
        "6",
        *REQ_ID,
        *fields(INT_OR_0, "tick_type"),
        *sizes("size"),
    ),
    Message(
        21,
        "tickOptionComputation",
        (
            *REQ_ID,
            *fields(INT_OR_0, "tick_type"),
            Field("tick_attrib", INT_OR_0, 0),
            *fields(NUMBER, "implied_vol delta opt_price pv_dividend gamma vega theta und_price"),
        ),
    ),
    versioned(
        45, "tickGeneric", "6", *REQ_ID, *fields(INT_OR_0, "tick_type"), *fields(NUMBER, "value")
    ),
    versioned(
        46, "tickString", "6", *REQ_ID, *fields(INT_OR_0, "tick_type"), *fields(ESCAPED, "text")
    ),
    versioned(57, "tickSnapshotEnd", "1", *REQ_ID),
    versioned(58, "marketDataType", "1", *REQ_ID, *fields(INT_OR_0, "market_data_type")),
    Message(
        81,
        "tickReqParams",
        (
            *REQ_ID,
            *fields(NUMBER, "min_tick"),
            *optional(TEXT, "bbo_exchange"),
            Field("snapshot_permissions", INT_OR_0, 0),
        ),
    ),
    Message(
        99,
        "tickByTick",
        (
            *REQ_ID,
            Field("kind", one_of(INT_OR_0, frozenset({LAST, ALL_LAST, BID_ASK, MID_POINT}))),
            *fields(INT_OR_0, "time"),
            When(
                _is_kind(LAST, ALL_LAST),
                (
                    *fields(NUMBER, "price"),
                    *sizes("size"),
                    Field("mask", INT_OR_0, 0),
                    *optional(TEXT, "exchange special_conditions"),
                ),
            ),
            When(
                _is_kind(BID_ASK),
                (
                    *fields(NUMBER, "bid_price ask_price"),
                    *sizes("bid_size ask_size"),
                    Field("mask", INT_OR_0, 0),
                ),
            ),
            When(_is_kind(MID_POINT), fields(NUMBER, "mid_point")),
        ),
    ),
    versioned(
        50,
        "realtimeBar",
        "3",
        *REQ_ID,
        *fields(INT_OR_0, "time"),
        *fields(NUMBER, "open high low close"),
        *sizes("volume"),
        *fields(NUMBER, "wap"),
        *fields(INT_OR_0, "count"),
    ),
    versioned(
        12,
        "marketDepth",
        "1",
        *REQ_ID,
        *fields(INT_OR_0, "position operation side"),
        *fields(NUMBER, "price"),
        *sizes("size"),
    ),
    versioned(
        13,
        "marketDepthL2",
        "1",
        *REQ_ID,
        *fields(INT_OR_0, "position"),
        *fields(TEXT, "market_maker"),
        *fields(INT_OR_0, "operation side"),
        *fields(NUMBER, "price"),
        *sizes("size"),
        *optional(BOOL, "is_smart_depth"),
    ),
)

_UNUSED: Final = (Const("0"),)


def _past_ticks(number: int, name: str, items: tuple[Item, ...]) -> Message:
    """Ticks of the past, of one kind; the last message of an answer says that it is done."""
    ticks = Group("ticks", (*fields(INT_OR_0, "time_s"), *items))
    return Message(number, name, (*REQ_ID, ticks, *fields(BOOL, "is_done")))


HISTORY: Final = (
    Message(
        17,
        "historicalData",
        (
            *REQ_ID,
            *optional(TEXT, "start end"),
            Group(
                "bars",
                (
                    *fields(TEXT, "date"),
                    *fields(NUMBER, "open high low close"),
                    *sizes("volume"),
                    *fields(NUMBER, "wap"),
                    *fields(INT_OR_0, "bar_count"),
                ),
            ),
        ),
    ),
    Message(
        90,
        "historicalDataUpdate",
        (
            *REQ_ID,
            *fields(INT_OR_0, "bar_count"),
            *fields(TEXT, "date"),
            # Not the order of historicalData: here the close comes second, the volume last.
            *fields(NUMBER, "open close high low wap"),
            *sizes("volume"),
        ),
    ),
    Message(
        106,
        "historicalSchedule",
        (
            *REQ_ID,
            *fields(TEXT, "start end time_zone"),
            Group("sessions", fields(TEXT, "start end ref_date")),
        ),
    ),
    Message(88, "headTimestamp", (*REQ_ID, *fields(TEXT, "timestamp"))),
    Message(
        89,
        "histogramData",
        (*REQ_ID, Group("bins", (*fields(NUMBER, "price"), *fields(INT_OR_0, "count")))),
    ),
    _past_ticks(96, "historicalTicks", (*_UNUSED, *fields(NUMBER, "price"), *sizes("size"))),
    _past_ticks(
        97,
        "historicalTicksBidAsk",
        (
            Field("mask", INT_OR_0, 0),
            *fields(NUMBER, "bid_price ask_price"),
            *sizes("bid_size ask_size"),
        ),
    ),
    _past_ticks(
        98,
        "historicalTicksLast",
        (
            Field("mask", INT_OR_0, 0),
            *fields(NUMBER, "price"),
            *sizes("size"),
            *optional(TEXT, "exchange special_conditions"),
        ),
    ),
)

NEWS: Final = (
    versioned(
        14,
        "newsBulletin",
        "1",
        *fields(INT_OR_0, "message_id bulletin_type"),
        *fields(ESCAPED, "text exchange"),
    ),
    Message(83, "newsArticle", (*REQ_ID, *fields(INT_OR_0, "article_type"), *fields(TEXT, "text"))),
    Message(
        84,
        "tickNews",
        (
            *REQ_ID,
            *fields(INT_OR_0, "time_ms"),
            *fields(TEXT, "provider_code article_id headline"),
            *optional(TEXT, "extra_data"),
        ),
    ),
    Message(85, "newsProviders", (Group("providers", fields(TEXT, "code name")),)),
    Message(
        86,
        "historicalNews",
        (*REQ_ID, *fields(TEXT, "time provider_code article_id headline")),
    ),
    Message(87, "historicalNewsEnd", (*REQ_ID, *fields(BOOL, "has_more"))),
)
