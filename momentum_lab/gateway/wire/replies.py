"""What the gateway sends: one declaration per message."""

from __future__ import annotations

from typing import Any, Final

from momentum_lab.gateway.wire.contracts import CONTRACT_11, CONTRACT_PORTFOLIO
from momentum_lab.gateway.wire.kinds import (
    BOOL,
    ESCAPED,
    INT_OR_0,
    NUMBER,
    NUMBER_OR_0,
    NUMBER_OR_MAX,
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
    Listing,
    When,
    described,
    fields,
    optional,
)
from momentum_lab.gateway.wire.orders import COMPLETED_ORDER, OPEN_ORDER
from momentum_lab.gateway.wire.table import Message, Table

_REQ_ID: Final = fields(INT_OR_0, "req_id")
_FRACTIONAL_SIZES: Final = 163


def _sizes(names: str, default: Any = REQUIRED) -> tuple[Field, ...]:
    """Sizes and volumes; clients of before fractional shares read them as integers."""
    return tuple(
        size
        for name in names.split()
        for size in (
            Field(name, WHOLE, default, until=_FRACTIONAL_SIZES),
            Field(name, NUMBER, default, since=_FRACTIONAL_SIZES),
        )
    )


def _versioned(number: int, name: str, version: str, *items: Item) -> Message:
    """A message of the old kind, with its own version first."""
    return Message(number, name, (Const(version), *items))


_SESSION: Final = (
    _versioned(
        4,
        "error",
        "2",
        Field("req_id", INT_OR_0, -1),
        *fields(INT_OR_0, "code"),
        *fields(ESCAPED, "text"),
        Field("advanced_order_reject_json", ESCAPED, "", since=166),
    ),
    _versioned(9, "nextValidId", "1", *fields(INT_OR_0, "order_id")),
    _versioned(15, "managedAccounts", "1", *fields(ESCAPED, "accounts")),
    _versioned(49, "currentTime", "1", *fields(INT_OR_0, "time")),
    Message(107, "userInfo", (*_REQ_ID, *optional(TEXT, "white_branding_id"))),
    Message(78, "familyCodes", (Group("family_codes", fields(TEXT, "account family_code")),)),
)

_ACCOUNTS: Final = (
    _versioned(6, "updateAccountValue", "2", *fields(ESCAPED, "key value currency account")),
    _versioned(
        7,
        "updatePortfolio",
        "8",
        CONTRACT_PORTFOLIO,
        *fields(NUMBER_OR_MAX, "position market_price market_value average_cost"),
        *fields(NUMBER_OR_MAX, "unrealized_pnl realized_pnl"),
        *fields(TEXT, "account"),
    ),
    _versioned(8, "updateAccountTime", "1", *fields(ESCAPED, "time")),
    _versioned(54, "accountDownloadEnd", "1", *fields(ESCAPED, "account")),
    _versioned(
        73,
        "accountUpdateMulti",
        "1",
        *_REQ_ID,
        *fields(ESCAPED, "account model_code key value currency"),
    ),
    _versioned(74, "accountUpdateMultiEnd", "1", *_REQ_ID),
    _versioned(63, "accountSummary", "1", *_REQ_ID, *fields(ESCAPED, "account tag value currency")),
    _versioned(64, "accountSummaryEnd", "1", *_REQ_ID),
    _versioned(
        61,
        "position",
        "3",
        *fields(TEXT, "account"),
        CONTRACT_11,
        *fields(NUMBER, "position avg_cost"),
    ),
    _versioned(62, "positionEnd", "1"),
    _versioned(
        71,
        "positionMulti",
        "1",
        *_REQ_ID,
        *fields(TEXT, "account"),
        CONTRACT_11,
        *fields(NUMBER, "position avg_cost"),
        *optional(TEXT, "model_code"),
    ),
    _versioned(72, "positionMultiEnd", "1", *_REQ_ID),
    Message(
        94,
        "pnl",
        (*_REQ_ID, *fields(NUMBER_OR_MAX, "daily_pnl unrealized_pnl realized_pnl")),
    ),
    Message(
        95,
        "pnlSingle",
        (
            *_REQ_ID,
            *_sizes("position"),
            *fields(NUMBER_OR_MAX, "daily_pnl unrealized_pnl realized_pnl market_value"),
        ),
    ),
)

_CONTRACTS: Final = (
    Message(
        10,
        "contractDetails",
        (
            Const("8", until=164),
            *_REQ_ID,
            *fields(TEXT, "symbol"),
            Field("sec_type", TEXT, "STK"),
            *optional(TEXT, "last_trade_date"),
            Field("strike", NUMBER, 0),
            *optional(TEXT, "right"),
            *fields(TEXT, "exchange"),
            Field("currency", TEXT, "USD"),
            *optional(TEXT, "local_symbol market_name trading_class"),
            *fields(INT_OR_0, "con_id"),
            *fields(NUMBER, "min_tick"),
            Const("100", until=164),  # size multiplier, out of use
            *optional(TEXT, "multiplier order_types valid_exchanges"),
            Field("price_magnifier", INT_OR_0, 1),
            *optional(INT_OR_0, "under_con_id"),
            *optional(ESCAPED, "long_name"),
            *optional(TEXT, "primary_exchange contract_month industry category subcategory"),
            Field("time_zone_id", TEXT, "US/Eastern"),
            *optional(TEXT, "trading_hours liquid_hours ev_rule"),
            Field("ev_multiplier", INT_OR_0, 0),
            Group("sec_ids", fields(TEXT, "tag value")),
            Field("agg_group", INT_OR_0, 1),
            *optional(TEXT, "under_symbol under_sec_type market_rule_ids real_expiration_date"),
            Field("stock_type", TEXT, "COMMON"),
            Field("size_min_tick", NUMBER, 1, since=163, until=164),
            Field("min_size", NUMBER, 1, since=164),
            Field("size_increment", NUMBER, 1, since=164),
            Field("suggested_size_increment", NUMBER, 100, since=164),
        ),
    ),
    _versioned(52, "contractDetailsEnd", "1", *_REQ_ID),
    Message(
        79,
        "symbolSamples",
        (
            *_REQ_ID,
            Group(
                "samples",
                (
                    *fields(INT_OR_0, "con_id"),
                    *fields(TEXT, "symbol sec_type primary_exchange currency"),
                    Listing("derivative_sec_types", TEXT),
                    Field("description", TEXT, "", since=176),
                    Field("issuer_id", TEXT, "", since=176),
                ),
            ),
        ),
    ),
    Message(
        93,
        "marketRule",
        (
            *fields(INT_OR_0, "market_rule_id"),
            Group("increments", fields(NUMBER, "low_edge increment")),
        ),
    ),
    Message(
        75,
        "secDefOptParams",
        (
            *_REQ_ID,
            *fields(TEXT, "exchange"),
            *fields(INT_OR_0, "under_con_id"),
            *fields(TEXT, "trading_class multiplier"),
            Listing("expirations", TEXT),
            Listing("strikes", NUMBER_OR_0),
        ),
    ),
    Message(76, "secDefOptParamsEnd", _REQ_ID),
    Message(77, "softDollarTiers", (*_REQ_ID, Group("tiers", fields(TEXT, "name value label")))),
    Message(
        80,
        "mktDepthExchanges",
        (
            Group(
                "exchanges",
                (
                    *fields(TEXT, "exchange sec_type listing_exchange service_data_type"),
                    *fields(INT_OR_0, "agg_group"),
                ),
            ),
        ),
    ),
    Message(
        82,
        "smartComponents",
        (
            *_REQ_ID,
            Group("components", (*fields(INT_OR_0, "bit"), *fields(TEXT, "exchange letter"))),
        ),
    ),
)

LAST, ALL_LAST, BID_ASK, MID_POINT = 1, 2, 3, 4


def _is_kind(*kinds: int) -> Condition:
    meaning = f"kind is {' or '.join(map(str, kinds))}"
    return described(meaning, lambda values: values["kind"] in kinds)


_MARKET_DATA: Final = (
    _versioned(
        1,
        "tickPrice",
        "6",
        *_REQ_ID,
        *fields(INT_OR_0, "tick_type"),
        *fields(NUMBER, "price"),
        *_sizes("size", 0),
        Field("mask", INT_OR_0, 0),
    ),
    _versioned(
        2,
        "tickSize",
        "6",
        *_REQ_ID,
        *fields(INT_OR_0, "tick_type"),
        *_sizes("size"),
    ),
    Message(
        21,
        "tickOptionComputation",
        (
            *_REQ_ID,
            *fields(INT_OR_0, "tick_type"),
            Field("tick_attrib", INT_OR_0, 0),
            *fields(NUMBER, "implied_vol delta opt_price pv_dividend gamma vega theta und_price"),
        ),
    ),
    _versioned(
        45, "tickGeneric", "6", *_REQ_ID, *fields(INT_OR_0, "tick_type"), *fields(NUMBER, "value")
    ),
    _versioned(
        46, "tickString", "6", *_REQ_ID, *fields(INT_OR_0, "tick_type"), *fields(ESCAPED, "text")
    ),
    _versioned(57, "tickSnapshotEnd", "1", *_REQ_ID),
    _versioned(58, "marketDataType", "1", *_REQ_ID, *fields(INT_OR_0, "market_data_type")),
    Message(
        81,
        "tickReqParams",
        (
            *_REQ_ID,
            *fields(NUMBER, "min_tick"),
            *optional(TEXT, "bbo_exchange"),
            Field("snapshot_permissions", INT_OR_0, 0),
        ),
    ),
    Message(
        99,
        "tickByTick",
        (
            *_REQ_ID,
            Field("kind", one_of(INT_OR_0, frozenset({LAST, ALL_LAST, BID_ASK, MID_POINT}))),
            *fields(INT_OR_0, "time"),
            When(
                _is_kind(LAST, ALL_LAST),
                (
                    *fields(NUMBER, "price"),
                    *_sizes("size"),
                    Field("mask", INT_OR_0, 0),
                    *optional(TEXT, "exchange special_conditions"),
                ),
            ),
            When(
                _is_kind(BID_ASK),
                (
                    *fields(NUMBER, "bid_price ask_price"),
                    *_sizes("bid_size ask_size"),
                    Field("mask", INT_OR_0, 0),
                ),
            ),
            When(_is_kind(MID_POINT), fields(NUMBER, "mid_point")),
        ),
    ),
    _versioned(
        50,
        "realtimeBar",
        "3",
        *_REQ_ID,
        *fields(INT_OR_0, "time"),
        *fields(NUMBER, "open high low close"),
        *_sizes("volume"),
        *fields(NUMBER, "wap"),
        *fields(INT_OR_0, "count"),
    ),
    _versioned(
        12,
        "marketDepth",
        "1",
        *_REQ_ID,
        *fields(INT_OR_0, "position operation side"),
        *fields(NUMBER, "price"),
        *_sizes("size"),
    ),
    _versioned(
        13,
        "marketDepthL2",
        "1",
        *_REQ_ID,
        *fields(INT_OR_0, "position"),
        *fields(TEXT, "market_maker"),
        *fields(INT_OR_0, "operation side"),
        *fields(NUMBER, "price"),
        *_sizes("size"),
        *optional(BOOL, "is_smart_depth"),
    ),
)

_UNUSED: Final = (Const("0"),)


def _past_ticks(number: int, name: str, items: tuple[Item, ...]) -> Message:
    """Ticks of the past, of one kind; the last message of an answer says that it is done."""
    ticks = Group("ticks", (*fields(INT_OR_0, "time_s"), *items))
    return Message(number, name, (*_REQ_ID, ticks, *fields(BOOL, "is_done")))


_HISTORY: Final = (
    Message(
        17,
        "historicalData",
        (
            *_REQ_ID,
            *optional(TEXT, "start end"),
            Group(
                "bars",
                (
                    *fields(TEXT, "date"),
                    *fields(NUMBER, "open high low close"),
                    *_sizes("volume"),
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
            *_REQ_ID,
            *fields(INT_OR_0, "bar_count"),
            *fields(TEXT, "date"),
            # Not the order of historicalData: here the close comes second, the volume last.
            *fields(NUMBER, "open close high low wap"),
            *_sizes("volume"),
        ),
    ),
    Message(
        106,
        "historicalSchedule",
        (
            *_REQ_ID,
            *fields(TEXT, "start end time_zone"),
            Group("sessions", fields(TEXT, "start end ref_date")),
        ),
    ),
    Message(88, "headTimestamp", (*_REQ_ID, *fields(TEXT, "timestamp"))),
    Message(
        89,
        "histogramData",
        (*_REQ_ID, Group("bins", (*fields(NUMBER, "price"), *fields(INT_OR_0, "count")))),
    ),
    _past_ticks(96, "historicalTicks", (*_UNUSED, *fields(NUMBER, "price"), *_sizes("size"))),
    _past_ticks(
        97,
        "historicalTicksBidAsk",
        (
            Field("mask", INT_OR_0, 0),
            *fields(NUMBER, "bid_price ask_price"),
            *_sizes("bid_size ask_size"),
        ),
    ),
    _past_ticks(
        98,
        "historicalTicksLast",
        (
            Field("mask", INT_OR_0, 0),
            *fields(NUMBER, "price"),
            *_sizes("size"),
            *optional(TEXT, "exchange special_conditions"),
        ),
    ),
)

_NEWS: Final = (
    _versioned(
        14,
        "newsBulletin",
        "1",
        *fields(INT_OR_0, "message_id bulletin_type"),
        *fields(ESCAPED, "text exchange"),
    ),
    Message(
        83, "newsArticle", (*_REQ_ID, *fields(INT_OR_0, "article_type"), *fields(TEXT, "text"))
    ),
    Message(
        84,
        "tickNews",
        (
            *_REQ_ID,
            *fields(INT_OR_0, "time_ms"),
            *fields(TEXT, "provider_code article_id headline"),
            *optional(TEXT, "extra_data"),
        ),
    ),
    Message(85, "newsProviders", (Group("providers", fields(TEXT, "code name")),)),
    Message(
        86,
        "historicalNews",
        (*_REQ_ID, *fields(TEXT, "time provider_code article_id headline")),
    ),
    Message(87, "historicalNewsEnd", (*_REQ_ID, *fields(BOOL, "has_more"))),
)

_ORDERS: Final = (
    Message(
        3,
        "orderStatus",
        (
            *fields(INT_OR_0, "order_id"),
            *fields(TEXT, "status"),
            *fields(NUMBER, "filled remaining"),
            Field("avg_fill_price", NUMBER, 0),
            *fields(INT_OR_0, "perm_id"),
            Field("parent_id", INT_OR_0, 0),
            Field("last_fill_price", NUMBER, 0),
            *fields(INT_OR_0, "client_id"),
            *optional(TEXT, "why_held"),
            Field("mkt_cap_price", NUMBER, 0),
        ),
    ),
    OPEN_ORDER,
    _versioned(53, "openOrderEnd", "1"),
    COMPLETED_ORDER,
    Message(102, "completedOrdersEnd"),
    Message(
        11,
        "execDetails",
        (
            # -1 marks a fill that happens now, in contrast to an answer to reqExecutions.
            Field("req_id", INT_OR_0, -1),
            *fields(INT_OR_0, "order_id"),
            CONTRACT_11,
            *fields(TEXT, "exec_id time account exec_exchange side"),
            *fields(NUMBER, "shares price"),
            *fields(INT_OR_0, "perm_id client_id"),
            Field("liquidation", INT_OR_0, 0),
            *fields(NUMBER, "cum_qty avg_price"),
            *optional(TEXT, "order_ref ev_rule"),
            *optional(NUMBER, "ev_multiplier"),
            *optional(TEXT, "model_code"),
            Field("last_liquidity", INT_OR_0, 0),
            Field("pending_price_revision", BOOL, False, since=178),
        ),
    ),
    _versioned(55, "execDetailsEnd", "1", *_REQ_ID),
    _versioned(
        59,
        "commissionReport",
        "1",
        *fields(TEXT, "exec_id"),
        *fields(NUMBER, "commission"),
        Field("currency", TEXT, "USD"),
        *optional(NUMBER_OR_MAX, "realized_pnl bond_yield"),
        *optional(INT_OR_0, "yield_redemption_date"),
    ),
)

REPLIES: Final = Table(
    (*_SESSION, *_ACCOUNTS, *_CONTRACTS, *_MARKET_DATA, *_HISTORY, *_NEWS, *_ORDERS)
)
