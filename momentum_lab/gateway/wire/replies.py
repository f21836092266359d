"""What the gateway sends: one declaration per message; its data is in `data_replies`."""

from __future__ import annotations

from typing import Final

from momentum_lab.gateway.wire.contracts import CONTRACT_11, CONTRACT_PORTFOLIO
from momentum_lab.gateway.wire.data_replies import (
    HISTORY,
    MARKET_DATA,
    NEWS,
    REQ_ID,
    sizes,
    versioned,
)
from momentum_lab.gateway.wire.kinds import (
    BOOL,
    ESCAPED,
    INT_OR_0,
    NUMBER,
    NUMBER_OR_0,
    NUMBER_OR_MAX,
    TEXT,
)
from momentum_lab.gateway.wire.layout import (
    Const,
    Field,
    Group,
    Listing,
    fields,
    optional,
)
from momentum_lab.gateway.wire.orders import COMPLETED_ORDER, OPEN_ORDER
from momentum_lab.gateway.wire.table import Message, Table

_SESSION: Final = (
    versioned(
        4,
        "error",
        "2",
        Field("req_id", INT_OR_0, -1),
        *fields(INT_OR_0, "code"),
        *fields(ESCAPED, "text"),
        Field("advanced_order_reject_json", ESCAPED, "", since=166),
    ),
    versioned(9, "nextValidId", "1", *fields(INT_OR_0, "order_id")),
    versioned(15, "managedAccounts", "1", *fields(ESCAPED, "accounts")),
    versioned(49, "currentTime", "1", *fields(INT_OR_0, "time")),
    Message(107, "userInfo", (*REQ_ID, *optional(TEXT, "white_branding_id"))),
    Message(78, "familyCodes", (Group("family_codes", fields(TEXT, "account family_code")),)),
)

_ACCOUNTS: Final = (
    versioned(6, "updateAccountValue", "2", *fields(ESCAPED, "key value currency account")),
    versioned(
        7,
        "updatePortfolio",
        "8",
        CONTRACT_PORTFOLIO,
        *fields(NUMBER_OR_MAX, "position market_price market_value average_cost"),
        *fields(NUMBER_OR_MAX, "unrealized_pnl realized_pnl"),
        *fields(TEXT, "account"),
    ),
    versioned(8, "updateAccountTime", "1", *fields(ESCAPED, "time")),
    versioned(54, "accountDownloadEnd", "1", *fields(ESCAPED, "account")),
    versioned(
        73,
        "accountUpdateMulti",
        "1",
        *REQ_ID,
        *fields(ESCAPED, "account model_code key value currency"),
    ),
    versioned(74, "accountUpdateMultiEnd", "1", *REQ_ID),
    versioned(63, "accountSummary", "1", *REQ_ID, *fields(ESCAPED, "account tag value currency")),
    versioned(64, "accountSummaryEnd", "1", *REQ_ID),
    versioned(
        61,
        "position",
        "3",
        *fields(TEXT, "account"),
        CONTRACT_11,
        *fields(NUMBER, "position avg_cost"),
    ),
    versioned(62, "positionEnd", "1"),
    versioned(
        71,
        "positionMulti",
        "1",
        *REQ_ID,
        *fields(TEXT, "account"),
        CONTRACT_11,
        *fields(NUMBER, "position avg_cost"),
        *optional(TEXT, "model_code"),
    ),
    versioned(72, "positionMultiEnd", "1", *REQ_ID),
    Message(
        94,
        "pnl",
        (*REQ_ID, *fields(NUMBER_OR_MAX, "daily_pnl unrealized_pnl realized_pnl")),
    ),
    Message(
        95,
        "pnlSingle",
        (
            *REQ_ID,
            *sizes("position"),
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
            *REQ_ID,
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
    versioned(52, "contractDetailsEnd", "1", *REQ_ID),
    Message(
        79,
        "symbolSamples",
        (
            *REQ_ID,
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
            *REQ_ID,
            *fields(TEXT, "exchange"),
            *fields(INT_OR_0, "under_con_id"),
            *fields(TEXT, "trading_class multiplier"),
            Listing("expirations", TEXT),
            Listing("strikes", NUMBER_OR_0),
        ),
    ),
    Message(76, "secDefOptParamsEnd", REQ_ID),
    Message(77, "softDollarTiers", (*REQ_ID, Group("tiers", fields(TEXT, "name value label")))),
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
            *REQ_ID,
            Group("components", (*fields(INT_OR_0, "bit"), *fields(TEXT, "exchange letter"))),
        ),
    ),
    versioned(19, "scannerParameters", "1", *fields(TEXT, "xml")),
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
    versioned(53, "openOrderEnd", "1"),
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
    versioned(55, "execDetailsEnd", "1", *REQ_ID),
    versioned(
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
    (*_SESSION, *_ACCOUNTS, *_CONTRACTS, *MARKET_DATA, *HISTORY, *NEWS, *_ORDERS)
)
