"""What the broker's message codes mean for us: one table, used by the code and by the docs.

The broker words errors, warnings and plain notes alike: as a number, a text and the id of the
request or order it belongs to (-1 where it belongs to none). The number decides here; texts may be
translated. A code that is not in the table is never fatal and always recorded.

Sources: the message code tables of the TWS API documentation; the reports of users in the issue
threads of the client libraries for what the tables leave out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """How much a person should care."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Reaction(str, Enum):
    """What the connector does about a code."""

    NONE = "nothing"
    RECORD = "it is recorded"
    LEAVE_OPERATIONAL = "no entry and no exit until the line is restored: DEGRADED"
    SYNCHRONISE = "everything is asked for again before anything is sent: SYNCHRONIZING"
    TRY_LATER = "the connection ends; the same client id is tried again after the wait"
    FOLLOW_PORT = "the connection ends and is made again on the port that was named; alarm"
    SLOW_DOWN = "it is recorded as an incident: our own budget should have prevented it"
    SUSPECT_LINES = "quotes count again once they flow; the socket stays"
    CHECK_LINES = "lines that do not flow soon are asked for again"
    LOOK_AGAIN_LATER = "the line counts as silent, and is asked for again from time to time"
    LINE_REFUSED = "the symbol is not traded, and the line is asked for again when we reconnect"
    LINE_DELAYED = "the symbol is not traded while its data are not live"
    REQUEST_FAILED = "the one who asked is told"
    ORDER_NOTE = "the order goes on; the words are kept with it"
    CHANGE_REFUSED = "the order works on as it was; the words are kept with it"
    ORDER_REFUSED = "the order cannot work any more"
    ASK_ACCOUNT = "the account's values are asked for again"


@dataclass(frozen=True, slots=True)
class Code:
    """One message code.

    Attributes:
        severity: how much a person should care.
        meaning: in one phrase.
        reaction: what the connector does.
    """

    severity: Severity
    meaning: str
    reaction: Reaction


CLIENT_ID_TAKEN = 326

_NOTE, _WARNING, _ERROR = Severity.NOTE, Severity.WARNING, Severity.ERROR
_R = Reaction

CODES: Mapping[int, Code] = {
    # the line between gateway and broker
    1100: Code(_ERROR, "the gateway lost the broker; its socket to us stays", _R.LEAVE_OPERATIONAL),
    2110: Code(_ERROR, "the same, and it will come back by itself", _R.LEAVE_OPERATIONAL),
    1101: Code(_WARNING, "the broker is back, subscriptions are lost", _R.SYNCHRONISE),
    1102: Code(_WARNING, "the broker is back, subscriptions are said to be kept", _R.SYNCHRONISE),
    10328: Code(_WARNING, "order data could not be resolved after a loss", _R.SYNCHRONISE),
    1300: Code(_ERROR, "the gateway's socket port has changed", _R.FOLLOW_PORT),
    # the socket between us and the gateway
    CLIENT_ID_TAKEN: Code(
        _ERROR, "the client id is in use, perhaps by our own lost socket", _R.TRY_LATER
    ),
    502: Code(_ERROR, "the socket could not be opened", _R.TRY_LATER),
    504: Code(_ERROR, "not connected", _R.TRY_LATER),
    507: Code(_ERROR, "bad message: the gateway ends the connection", _R.TRY_LATER),
    100: Code(_ERROR, "too many messages a second; three times end the connection", _R.SLOW_DOWN),
    # farms: parts of the broker's own network
    2103: Code(_WARNING, "a market data farm is broken", _R.SUSPECT_LINES),
    2104: Code(_NOTE, "a market data farm is there", _R.CHECK_LINES),
    2105: Code(_WARNING, "a historical data farm is broken: candles may not come", _R.RECORD),
    2106: Code(_NOTE, "a historical data farm is there", _R.NONE),
    2107: Code(_NOTE, "a historical data farm sleeps until it is asked", _R.NONE),
    2108: Code(_NOTE, "a market data farm sleeps until it is asked", _R.CHECK_LINES),
    2119: Code(_NOTE, "a market data farm is being connected", _R.NONE),
    2157: Code(_WARNING, "the security definition farm is broken: look-ups may fail", _R.RECORD),
    2158: Code(_NOTE, "the security definition farm is there", _R.NONE),
    # the account
    2100: Code(_WARNING, "account updates were taken over by another client", _R.ASK_ACCOUNT),
    2101: Code(_WARNING, "account updates were refused", _R.RECORD),
    2102: Code(_NOTE, "an order cannot be changed while it is being handled", _R.RECORD),
    2109: Code(_NOTE, "an order's outsideRth was ignored: it works in the session", _R.ORDER_NOTE),
    # market data
    101: Code(_ERROR, "no market data line is left", _R.LINE_REFUSED),
    200: Code(_ERROR, "no such contract, or more than one", _R.LINE_REFUSED),
    300: Code(_NOTE, "no such ticker id: it has been cancelled already", _R.NONE),
    310: Code(_NOTE, "no such depth id", _R.NONE),
    317: Code(_NOTE, "the market depth was reset", _R.NONE),
    354: Code(_ERROR, "live data are not subscribed", _R.LINE_REFUSED),
    10089: Code(_ERROR, "a subscription for the API is missing", _R.LINE_REFUSED),
    10090: Code(_WARNING, "a part of the data is not subscribed", _R.RECORD),
    10091: Code(_ERROR, "a part of the data needs a subscription for the API", _R.LINE_REFUSED),
    10167: Code(_WARNING, "not subscribed: delayed data come instead", _R.LINE_DELAYED),
    10168: Code(_ERROR, "not subscribed, and delayed data are not enabled", _R.LINE_REFUSED),
    10186: Code(_ERROR, "not subscribed, and delayed data are not enabled", _R.LINE_REFUSED),
    10189: Code(_ERROR, "tick-by-tick data were refused", _R.LINE_REFUSED),
    10190: Code(_ERROR, "too many tick-by-tick lines", _R.LINE_REFUSED),
    10197: Code(_ERROR, "another login took the market data", _R.LOOK_AGAIN_LATER),
    10225: Code(_WARNING, "a bar line was switched off after a correction", _R.LOOK_AGAIN_LATER),
    # historical data, contracts and news
    162: Code(
        _WARNING, "historical data: pacing, none, or refused; its text says", _R.REQUEST_FAILED
    ),
    165: Code(_NOTE, "a remark of the historical data service", _R.RECORD),
    321: Code(_ERROR, "a request did not pass the gateway's checks", _R.REQUEST_FAILED),
    322: Code(_ERROR, "a request could not be processed", _R.REQUEST_FAILED),
    366: Code(_NOTE, "no such historical request: it has ended", _R.REQUEST_FAILED),
    420: Code(_WARNING, "a real-time request: pacing, or no permission", _R.REQUEST_FAILED),
    10172: Code(_WARNING, "the news article is not available", _R.REQUEST_FAILED),
    10182: Code(_WARNING, "live updates of bars ended: disconnected", _R.LOOK_AGAIN_LATER),
    10187: Code(_WARNING, "no permission for historical ticks", _R.REQUEST_FAILED),
    10276: Code(_WARNING, "news: not allowed", _R.LINE_REFUSED),
    10277: Code(_WARNING, "news: not allowed for this source", _R.LINE_REFUSED),
    # orders. 103 is not final: the first order of that id may be alive.
    103: Code(_ERROR, "the order id has been used", _R.ORDER_NOTE),
    110: Code(_ERROR, "the price is not on the grid", _R.ORDER_REFUSED),
    135: Code(_WARNING, "no order of that id; of new terms, no parent", _R.CHANGE_REFUSED),
    161: Code(_WARNING, "the order cannot be cancelled any more", _R.ORDER_NOTE),
    201: Code(_ERROR, "the order was rejected", _R.ORDER_REFUSED),
    202: Code(_NOTE, "the order was cancelled", _R.ORDER_NOTE),
    203: Code(_ERROR, "the instrument is not allowed for this account", _R.ORDER_REFUSED),
    382: Code(_ERROR, "the price is beyond what the order presets allow", _R.ORDER_REFUSED),
    383: Code(_ERROR, "the size is beyond what the order presets allow", _R.ORDER_REFUSED),
    387: Code(_ERROR, "the order type is not known", _R.ORDER_REFUSED),
    388: Code(_ERROR, "the order is too small", _R.ORDER_REFUSED),
    399: Code(_NOTE, "a remark about an order, e.g. that it waits for the open", _R.ORDER_NOTE),
    404: Code(_WARNING, "the shares to sell short are being located", _R.ORDER_NOTE),
    426: Code(_ERROR, "the account must not sell short", _R.ORDER_REFUSED),
    434: Code(_ERROR, "the order has no size", _R.ORDER_REFUSED),
    451: Code(_ERROR, "the order's attributes contradict each other", _R.ORDER_REFUSED),
    460: Code(_ERROR, "no trading permission", _R.ORDER_REFUSED),
    10006: Code(_ERROR, "the parent order is not known", _R.ORDER_REFUSED),
    10147: Code(_WARNING, "the order to cancel is not known", _R.ORDER_NOTE),
    10148: Code(_WARNING, "the order is in a state that cannot be cancelled", _R.ORDER_NOTE),
    10243: Code(_ERROR, "a fraction of a share cannot be ordered", _R.ORDER_REFUSED),
    10326: Code(_WARNING, "new terms name another group than the order's", _R.CHANGE_REFUSED),
    10327: Code(_WARNING, "new terms name another type of group", _R.CHANGE_REFUSED),
    10349: Code(_NOTE, "the time in force was changed by a preset", _R.ORDER_NOTE),
}

_UNKNOWN = Code(_WARNING, "not in the table", _R.RECORD)
# The gateway's remarks about its own network; new ones appear with new versions.
_REMARKS = range(2100, 2200)
_REMARK = Code(_NOTE, "a remark of the gateway", _R.RECORD)


def code_of(number: int) -> Code:
    """Return what is known about a code; for an unknown one that it has to be recorded."""
    return CODES.get(number) or (_REMARK if number in _REMARKS else _UNKNOWN)


def refuses_change(number: int) -> bool:
    """Whether the code says that new terms of an order are not taken."""
    return code_of(number).reaction is Reaction.CHANGE_REFUSED


def is_final_for_order(number: int) -> bool:
    """Whether an order that this code answers cannot work any more."""
    # On an order 200 and 321 are refusals as well; elsewhere they concern a line or a request.
    return number in (200, 321) or code_of(number).reaction is Reaction.ORDER_REFUSED
