"""What clients send: one declaration per request.

Requests that are known to exist but are not served are listed with the place of their request
id, so that they can be refused to the one who asked instead of being left unanswered.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    Message(
        78,
        "reqSecDefOptParams",
        (
            *_REQ_ID,
            *fields(TEXT, "under_symbol fut_fop_exchange under_sec_type"),
            *fields(INT_OR_0, "under_con_id"),
        ),
    ),
    Message(79, "reqSoftDollarTiers", _REQ_ID),
    Message(82, "reqMktDepthExchanges"),
    Message(83, "reqSmartComponents", (*_REQ_ID, *fields(TEXT, "bbo_exchange"))),
    _plain(24, "reqScannerParameters"),
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
    Message(
        10,
        "reqMktDepth",
        (
            Const("5"),
            *_REQ_ID,
            CONTRACT,
            *fields(INT_OR_0, "num_rows"),
            *optional(BOOL, "is_smart_depth"),
            *optional(TEXT, "options"),
        ),
    ),
    _plain(11, "cancelMktDepth", *_REQ_ID, *optional(BOOL, "is_smart_depth")),
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
    Message(
        96,
        "reqHistoricalTicks",
        (
            *_REQ_ID,
            CONTRACT,
            *optional(BOOL, "include_expired"),
            *fields(TEXT, "start_date_time end_date_time"),
            *fields(INT_OR_0, "number_of_ticks"),
            *fields(TEXT, "what_to_show"),
            *fields(BOOL, "use_rth"),
            *optional(BOOL, "ignore_size"),
            *optional(TEXT, "options"),
        ),
    ),
    Message(
        88,
        "reqHistogramData",
        (
            *_REQ_ID,
            CONTRACT,
            *optional(BOOL, "include_expired"),
            *fields(BOOL, "use_rth"),
            *fields(TEXT, "period"),
        ),
    ),
    Message(89, "cancelHistogramData", _REQ_ID),
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

# Ends of what is not served, and so has no end to wait for.
_ENDS_OF_NOTHING: Final = (
    _plain(23, "cancelScannerSubscription", *_REQ_ID),
    _plain(53, "cancelFundamentalData", *_REQ_ID),
    _plain(56, "cancelCalculateImpliedVolatility", *_REQ_ID),
    _plain(57, "cancelCalculateOptionPrice", *_REQ_ID),
    _plain(70, "unsubscribeFromGroupEvents", *_REQ_ID),
    Message(101, "cancelWshMetaData", _REQ_ID),
    Message(103, "cancelWshEventData", _REQ_ID),
)

REQUESTS: Final = Table(
    (
        *(*_SESSION, *_ACCOUNTS, *_CONTRACTS, *_MARKET_DATA, *_HISTORY, *_NEWS, *_ORDERS),
        *_ENDS_OF_NOTHING,
    )
)


@dataclass(frozen=True, slots=True)
class NotServed:
    """A request that exists and is refused.

    Attributes:
        name: the protocol's name.
        place: which field holds the request id, None where there is none.
        code: the error that a broker without such a service gives.
        text: its text, "" for the usual one.
    """

    name: str
    place: int | None = 2
    code: int = 321
    text: str = ""


_NO_FUNDAMENTALS: Final = (
    "We are sorry, but fundamentals data for the security specified is not available."
)
_NOT_AN_ADVISOR: Final = "FA data operations ignored for non FA customers."

# Message number as on the wire -> what it would be.
NOT_SERVED: Final[dict[str, NotServed]] = {
    "18": NotServed("requestFA", None, text=_NOT_AN_ADVISOR),
    "19": NotServed("replaceFA", 4, text=_NOT_AN_ADVISOR),
    "21": NotServed("exerciseOptions"),
    "22": NotServed("reqScannerSubscription", 1),
    "52": NotServed("reqFundamentalData", code=430, text=_NO_FUNDAMENTALS),
    "54": NotServed("calculateImpliedVolatility"),
    "55": NotServed("calculateOptionPrice"),
    "67": NotServed("queryDisplayGroups"),
    "68": NotServed("subscribeToGroupEvents"),
    "69": NotServed("updateDisplayGroup"),
    "100": NotServed("reqWshMetaData", 1, 10276, "News feed is not allowed."),
    "102": NotServed("reqWshEventData", 1, 10276, "News feed is not allowed."),
}
