"""What clients send: one declaration per request.

Requests that are known to exist but are not served are listed with the place of their request
id, so that they can be refused to the one who asked instead of being left unanswered.
"""

from __future__ import annotations

from typing import Final

from momentum_lab.gateway.wire.contracts import CONTRACT, SHORT_COMBO_LEGS, is_combo
from momentum_lab.gateway.wire.kinds import BOOL, INT, INT_OR_0, NUMBER, TEXT
from momentum_lab.gateway.wire.layout import (
    Const,
    Field,
    Flagged,
    Item,
    When,
    fields,
    optional,
)
from momentum_lab.gateway.wire.orders import PLACE_ORDER
from momentum_lab.gateway.wire.table import Message, Table

_REQ_ID: Final = fields(INT_OR_0, "req_id")


def _plain(number: int, name: str, *items: Item) -> Message:
    """A request of the old kind, with its message version first."""
    return Message(number, name, (Const("1"), *items))


_SESSION: Final = (
    Message(
        71,
        "startApi",
        (Const("2"), *fields(INT_OR_0, "client_id"), *optional(TEXT, "optional_capabilities")),
    ),
    _plain(49, "reqCurrentTime"),
    _plain(8, "reqIds", *fields(INT_OR_0, "num_ids")),
    _plain(17, "reqManagedAccts"),
    _plain(14, "setServerLogLevel", *fields(INT_OR_0, "level")),
    _plain(59, "reqMarketDataType", *fields(INT_OR_0, "market_data_type")),
    Message(104, "reqUserInfo", _REQ_ID),
    Message(80, "reqFamilyCodes"),
)

_ACCOUNT_MODEL: Final = (*_REQ_ID, *fields(TEXT, "account model_code"))
_ACCOUNTS: Final = (
    Message(
        6, "reqAccountUpdates", (Const("2"), *fields(BOOL, "subscribe"), *fields(TEXT, "account"))
    ),
    _plain(76, "reqAccountUpdatesMulti", *_ACCOUNT_MODEL, *fields(BOOL, "ledger_and_nlv")),
    _plain(77, "cancelAccountUpdatesMulti", *_REQ_ID),
    _plain(62, "reqAccountSummary", *_REQ_ID, *fields(TEXT, "group tags")),
    _plain(63, "cancelAccountSummary", *_REQ_ID),
    _plain(61, "reqPositions"),
    _plain(64, "cancelPositions"),
    _plain(74, "reqPositionsMulti", *_ACCOUNT_MODEL),
    _plain(75, "cancelPositionsMulti", *_REQ_ID),
    Message(92, "reqPnL", _ACCOUNT_MODEL),
    Message(93, "cancelPnL", _REQ_ID),
    Message(94, "reqPnLSingle", (*_ACCOUNT_MODEL, *fields(INT_OR_0, "con_id"))),
    Message(95, "cancelPnLSingle", _REQ_ID),
)

_CONTRACTS: Final = (
    Message(
        9,
        "reqContractDetails",
        (
            Const("8"),
            *_REQ_ID,
            CONTRACT,
            *optional(BOOL, "include_expired"),
            *optional(TEXT, "sec_id_type sec_id"),
            Field("issuer_id", TEXT, "", since=176),
        ),
    ),
    Message(81, "reqMatchingSymbols", (*_REQ_ID, *fields(TEXT, "pattern"))),
    Message(91, "reqMarketRule", fields(INT_OR_0, "market_rule_id")),
)

_MARKET_DATA: Final = (
    Message(
        1,
        "reqMktData",
        (
            Const("11"),
            *_REQ_ID,
            CONTRACT,
            When(is_combo, SHORT_COMBO_LEGS),
            Flagged(
                "delta_neutral_contract",
                (*optional(INT_OR_0, "con_id"), *optional(NUMBER, "delta price")),
            ),
            *optional(TEXT, "generic_ticks"),
            *optional(BOOL, "snapshot regulatory_snapshot"),
            *optional(TEXT, "options"),
        ),
    ),
    Message(2, "cancelMktData", (Const("2"), *_REQ_ID)),
    Message(
        97,
        "reqTickByTickData",
        (
            *_REQ_ID,
            CONTRACT,
            *fields(TEXT, "tick_type"),
            *optional(INT_OR_0, "number_of_ticks"),
            *optional(BOOL, "ignore_size"),
        ),
    ),
    Message(98, "cancelTickByTickData", _REQ_ID),
    Message(
        50,
        "reqRealTimeBars",
        (
            Const("3"),
            *_REQ_ID,
            CONTRACT,
            *fields(INT_OR_0, "bar_size"),
            *fields(TEXT, "what_to_show"),
            *fields(BOOL, "use_rth"),
            *optional(TEXT, "options"),
        ),
    ),
    _plain(51, "cancelRealTimeBars", *_REQ_ID),
)

_HISTORY: Final = (
    Message(
        20,
        "reqHistoricalData",
        (
            *_REQ_ID,
            CONTRACT,
            *optional(BOOL, "include_expired"),
            *fields(TEXT, "end_date_time bar_size duration"),
            *fields(BOOL, "use_rth"),
            *fields(TEXT, "what_to_show"),
            Field("format_date", INT, 1),
            When(is_combo, SHORT_COMBO_LEGS),
            *optional(BOOL, "keep_up_to_date"),
            *optional(TEXT, "options"),
        ),
    ),
    _plain(25, "cancelHistoricalData", *_REQ_ID),
    Message(
        87,
        "reqHeadTimeStamp",
        (
            *_REQ_ID,
            CONTRACT,
            *optional(BOOL, "include_expired"),
            *fields(BOOL, "use_rth"),
            *fields(TEXT, "what_to_show"),
            Field("format_date", INT, 1),
        ),
    ),
    Message(90, "cancelHeadTimeStamp", _REQ_ID),
)

_NEWS: Final = (
    Message(85, "reqNewsProviders"),
    Message(
        86,
        "reqHistoricalNews",
        (
            *_REQ_ID,
            *fields(INT_OR_0, "con_id"),
            *fields(TEXT, "provider_codes start end"),
            *fields(INT_OR_0, "total_results"),
            *optional(TEXT, "options"),
        ),
    ),
    Message(
        84,
        "reqNewsArticle",
        (*_REQ_ID, *fields(TEXT, "provider_code article_id"), *optional(TEXT, "options")),
    ),
    _plain(12, "reqNewsBulletins", *fields(BOOL, "all_messages")),
    _plain(13, "cancelNewsBulletins"),
)

_ORDERS: Final = (
    PLACE_ORDER,
    _plain(
        4,
        "cancelOrder",
        *fields(INT_OR_0, "order_id"),
        Field("manual_cancel_order_time", TEXT, "", since=169),
    ),
    _plain(58, "reqGlobalCancel"),
    _plain(5, "reqOpenOrders"),
    _plain(16, "reqAllOpenOrders"),
    _plain(15, "reqAutoOpenOrders", *fields(BOOL, "auto_bind")),
    Message(99, "reqCompletedOrders", fields(BOOL, "api_only")),
    Message(
        7,
        "reqExecutions",
        (
            Const("3"),
            *_REQ_ID,
            *optional(INT_OR_0, "client_id"),
            *optional(TEXT, "account time symbol sec_type exchange side"),
        ),
    ),
)

REQUESTS: Final = Table(
    (*_SESSION, *_ACCOUNTS, *_CONTRACTS, *_MARKET_DATA, *_HISTORY, *_NEWS, *_ORDERS)
)

# Message number as on the wire -> name, and which field holds the request id.
NOT_SERVED: Final[dict[str, tuple[str, int]]] = {
    "10": ("reqMktDepth", 2),
    "11": ("cancelMktDepth", 2),
    "19": ("replaceFA", 4),
    "21": ("exerciseOptions", 2),
    "22": ("reqScannerSubscription", 1),
    "23": ("cancelScannerSubscription", 2),
    "52": ("reqFundamentalData", 2),
    "53": ("cancelFundamentalData", 2),
    "54": ("calculateImpliedVolatility", 2),
    "55": ("calculateOptionPrice", 2),
    "56": ("cancelCalculateImpliedVolatility", 2),
    "57": ("cancelCalculateOptionPrice", 2),
    "67": ("queryDisplayGroups", 2),
    "68": ("subscribeToGroupEvents", 2),
    "69": ("updateDisplayGroup", 2),
    "70": ("unsubscribeFromGroupEvents", 2),
    "78": ("reqSecDefOptParams", 1),
    "79": ("reqSoftDollarTiers", 1),
    "83": ("reqSmartComponents", 1),
    "88": ("reqHistogramData", 1),
    "89": ("cancelHistogramData", 1),
    "96": ("reqHistoricalTicks", 1),
    "100": ("reqWshMetaData", 1),
    "101": ("cancelWshMetaData", 1),
    "102": ("reqWshEventData", 1),
    "103": ("cancelWshEventData", 1),
}
