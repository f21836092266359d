"""Decisions: each headline ends in exactly one, with its reason and both sides of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from momentum_lab.core.market import Side


class Outcome(str, Enum):
    """What was decided about a headline."""

    ENTER = "enter"
    PASS = "pass"  # noqa: S105 - a verb, not a secret
    # It would have been entered, in a session that sends nothing.
    SHADOW = "shadow"


class Reason(str, Enum):
    """Why; stable names that are stored."""

    SHOCK = "SHOCK"
    # the headline
    NEWS_TOO_OLD = "NEWS_TOO_OLD"
    NEWS_FROM_FUTURE = "NEWS_FROM_FUTURE"
    NEWS_REPLAYED = "NEWS_REPLAYED"
    NO_TICKER = "NO_TICKER"
    NOT_IN_UNIVERSE = "NOT_IN_UNIVERSE"
    QUEUE_FULL = "QUEUE_FULL"
    # the market
    OUTSIDE_SESSION = "OUTSIDE_SESSION"
    BROKER_WINDOW = "BROKER_WINDOW"
    NO_LINE = "NO_LINE"
    NO_BASELINE = "NO_BASELINE"
    ATR_TOO_SMALL = "ATR_TOO_SMALL"
    NO_CANDLE = "NO_CANDLE"
    VOLUME_UNIT_UNKNOWN = "VOLUME_UNIT_UNKNOWN"
    NO_SHOCK_PRICE = "NO_SHOCK_PRICE"
    NO_SHOCK_VOLUME = "NO_SHOCK_VOLUME"
    WRONG_DIRECTION = "WRONG_DIRECTION"
    QUOTE_NOT_TRADABLE = "QUOTE_NOT_TRADABLE"
    SPREAD_TOO_WIDE = "SPREAD_TOO_WIDE"
    AFTER_HALT = "AFTER_HALT"
    # us
    NOT_OPERATIONAL = "NOT_OPERATIONAL"
    SESSION_ENDING = "SESSION_ENDING"
    SYMBOL_BUSY = "SYMBOL_BUSY"
    SYMBOL_BLOCKED = "SYMBOL_BLOCKED"
    TOO_MANY_WATCHES = "TOO_MANY_WATCHES"
    NO_EQUITY = "NO_EQUITY"
    SIZE_ZERO = "SIZE_ZERO"
    # the account as a whole
    RISK_BRAKE = "RISK_BRAKE"
    DAILY_LOSS_LIMIT = "DAILY_LOSS_LIMIT"
    TOO_MANY_REJECTS = "TOO_MANY_REJECTS"
    TOO_MANY_POSITIONS = "TOO_MANY_POSITIONS"
    OPEN_RISK_LIMIT = "OPEN_RISK_LIMIT"
    GROSS_LIMIT = "GROSS_LIMIT"
    TOO_MANY_ENTRIES = "TOO_MANY_ENTRIES"
    COOLING_DOWN = "COOLING_DOWN"
    PRICE_BELOW_MIN = "PRICE_BELOW_MIN"
    CHASING = "CHASING"
    NEAR_PRICE_BAND = "NEAR_PRICE_BAND"
    # the record
    RECORD_FAILED = "RECORD_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one headline.

    Attributes:
        outcome: enter, pass or shadow.
        reason: stable name.
        text: one sentence for people.
        observed: left side of the comparison that decided, None where there was none.
        limit: right side of it.
        unit: of both sides.
        size_json: of a size that was computed and not sent: every cap of it.
    """

    outcome: Outcome
    reason: Reason
    text: str
    observed: float | None = None
    limit: float | None = None
    unit: str = ""
    size_json: str | None = None


def passed(
    reason: Reason,
    text: str,
    *,
    observed: float | None = None,
    limit: float | None = None,
    unit: str = "",
) -> Decision:
    """Return the decision not to trade."""
    return Decision(Outcome.PASS, reason, text, observed, limit, unit)


@dataclass(frozen=True, slots=True)
class TradeSignal:
    """A shock that may be traded, on its way to execution.

    Attributes:
        headline_key: the headline it answers.
        symbol: what to trade.
        side: direction of the entry.
        at_ns: when the shock was seen, market time.
        price: last trade at that moment, US dollars.
        atr: average true range of the baseline, US dollars.
        observed: move in ATR.
        limit: threshold it passed, in ATR.
        text: the shock in one sentence.
        recent_volume_shares: traded in the last complete minutes of the line, five at most, shares;
            None while unknown.
        reference_usd: mean of their closing prices, US dollars; None while unknown.
    """

    headline_key: str
    symbol: str
    side: Side
    at_ns: int
    price: float
    atr: float
    observed: float
    limit: float
    text: str
    recent_volume_shares: float | None = None
    reference_usd: float | None = None
