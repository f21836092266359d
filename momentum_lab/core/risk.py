"""Guards of an entry: the time of day and the quote; the same for sessions and research."""

from __future__ import annotations

from dataclasses import dataclass

from momentum_lab.core.market import EPSILON, NS_PER_S, Quote, Side, rounded_up
from momentum_lab.core.signal import Decision, Reason, passed
from momentum_lab.core.tunable import check_tunables, tunable
from momentum_lab.errors import ParameterError

_S_PER_MIN = 60


@dataclass(frozen=True, slots=True)
class GuardParameters:
    """When nothing is entered, and when everything is left."""

    quote_max_age_s: float = tunable(
        5.0, unit="s", low=0.1, high=120, step=0.5, meaning="oldest quote that may be acted on"
    )
    quote_side_max_age_s: float = tunable(
        60.0,
        unit="s",
        low=0.1,
        high=600,
        step=1,
        meaning="oldest age of the side of a quote that was silent for longer",
    )
    spread_max_bps: float = tunable(
        30.0, unit="bps", low=0.1, high=1000, step=1, meaning="widest spread at an entry"
    )
    after_halt_s: float = tunable(
        300.0,
        unit="s",
        low=0,
        high=3600,
        step=30,
        meaning="no entry for this long after trading in the symbol has resumed",
    )
    entries_after_open_s: float = tunable(
        900.0,
        unit="s",
        low=0,
        high=23400,
        step=60,
        meaning="no entry before this after the open",
    )
    entries_before_close_s: float = tunable(
        1800.0,
        unit="s",
        low=0,
        high=23400,
        step=60,
        meaning="no entry later than this before the close; more than flat_before_close_s",
    )
    flat_before_close_s: float = tunable(
        300.0,
        unit="s",
        low=0,
        high=23400,
        step=30,
        meaning="positions are closed this before the close; 0: they stay overnight",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range, and entries that are left at once."""
        check_tunables(self, prefix="guards.")
        if 0 < self.flat_before_close_s >= self.entries_before_close_s:
            raise ParameterError(
                "guards.entries_before_close_s: expected more than guards.flat_before_close_s"
                f" ({self.flat_before_close_s:g} s), found {self.entries_before_close_s:g} s"
            )


def refuse_time(
    now_ns: int, *, session_ns: tuple[int, int] | None, parameters: GuardParameters
) -> Decision | None:
    """Return the decision not to enter at this time of the session, None when it is allowed.

    Args:
        now_ns: market time.
        session_ns: opening and closing bell (early on a half day), None on a holiday.
        parameters: the window.
    """
    if session_ns is None:
        return passed(Reason.OUTSIDE_SESSION, "the exchange is closed today")
    open_ns, close_ns = session_ns
    first_min = parameters.entries_after_open_s / _S_PER_MIN
    last_min = ((close_ns - open_ns) / NS_PER_S - parameters.entries_before_close_s) / _S_PER_MIN
    at_min = (now_ns - open_ns) / NS_PER_S / _S_PER_MIN
    if first_min <= at_min < last_min:
        return None
    is_early = at_min < first_min
    return passed(
        Reason.OUTSIDE_SESSION,
        f"{at_min:.1f} min after the open, entries are made from {first_min:g} to {last_min:g} min",
        observed=at_min,
        limit=first_min if is_early else last_min,
        unit="min after the open",
    )


def refuse_quote(
    quote: Quote | None, *, now_ns: int, parameters: GuardParameters
) -> Decision | None:
    """Return the decision not to enter on this quote, None when it may be traded on.

    Args:
        quote: the line as last heard, None when silent.
        now_ns: market time.
        parameters: oldest age and widest spread.
    """
    if quote is None:
        return passed(Reason.QUOTE_NOT_TRADABLE, "the line is silent")
    flaw = quote.flaw(
        now_ns=now_ns,
        max_age_s=parameters.quote_max_age_s,
        side_max_age_s=parameters.quote_side_max_age_s,
    )
    if flaw is not None:
        return passed(
            Reason.QUOTE_NOT_TRADABLE,
            flaw.text,
            observed=flaw.observed,
            limit=flaw.limit,
            unit=flaw.unit,
        )
    if quote.mid is None or quote.spread is None:
        return passed(Reason.QUOTE_NOT_TRADABLE, "no bid or no ask has been heard")
    spread_bps = quote.spread / quote.mid * 1e4
    if spread_bps > parameters.spread_max_bps + EPSILON:
        return passed(
            Reason.SPREAD_TOO_WIDE,
            f"the spread is {rounded_up(spread_bps)} bps,"
            f" {parameters.spread_max_bps:g} are allowed",
            observed=spread_bps,
            limit=parameters.spread_max_bps,
            unit="bps",
        )
    return _refuse_after_halt(quote, now_ns, parameters)


def _refuse_after_halt(quote: Quote, now_ns: int, parameters: GuardParameters) -> Decision | None:
    if quote.resumed_ns is None:
        return None
    traded_s = (now_ns - quote.resumed_ns) / NS_PER_S
    if traded_s >= parameters.after_halt_s:
        return None
    return passed(
        Reason.AFTER_HALT,
        f"trading has resumed {traded_s:.0f} s ago, {parameters.after_halt_s:g} s are waited for",
        observed=traded_s,
        limit=parameters.after_halt_s,
        unit="s",
    )


def far_side(quote: Quote, side: Side) -> float | None:
    """Return the price that an order of this side meets, None while unknown."""
    return quote.ask if side is Side.BUY else quote.bid


def flat_by_ns(close_ns: int, parameters: GuardParameters) -> int:
    """Return the instant from which no position is held any more."""
    return close_ns - int(parameters.flat_before_close_s * NS_PER_S)
