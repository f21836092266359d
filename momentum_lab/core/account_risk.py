"""Limits of the whole account, and what may refuse one more entry.

Sizing asks how much; this asks whether at all. What is open, what was lost today and how often
something was entered is a snapshot, made by whoever keeps the record; here it is only compared. The
first limit that is reached is the answer, with both sides of its comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

from momentum_lab.core.market import EPSILON, NS_PER_S, Side
from momentum_lab.core.risk_state import RiskState
from momentum_lab.core.signal import Decision, Reason, TradeSignal, passed
from momentum_lab.core.tunable import check_tunables, tunable


@dataclass(frozen=True, slots=True)
class RiskParameters:
    """What the account as a whole may risk, hold and do."""

    daily_loss_ratio: float = tunable(
        0.01,
        unit="ratio of equity",
        low=0.0005,
        high=0.2,
        step=0.0005,
        meaning="loss since the day's start after which nothing is entered that day",
    )
    max_open_risk_ratio: float = tunable(
        0.01,
        unit="ratio of equity",
        low=0.0005,
        high=0.2,
        step=0.0005,
        meaning="loss if every open position and working entry went to its stop",
    )
    max_open_positions: int = tunable(
        5,
        unit="positions",
        low=1,
        high=100,
        step=1,
        meaning="positions and working entries at once",
    )
    max_gross_ratio: float = tunable(
        1.0,
        unit="ratio of equity",
        low=0.01,
        high=4,
        step=0.05,
        meaning="value of all positions, long and short added",
    )
    max_sector_ratio: float = tunable(
        0.25,
        unit="ratio of equity",
        low=0.01,
        high=4,
        step=0.05,
        meaning="value of all positions of one sector; those of an unknown one share it",
    )
    max_entries_per_minute: int = tunable(
        3, unit="entries", low=1, high=100, step=1, meaning="entries within sixty seconds"
    )
    max_entries_per_day: int = tunable(
        20, unit="entries", low=1, high=200, step=1, meaning="entries of one New York day"
    )
    max_symbol_entries_per_day: int = tunable(
        3, unit="entries", low=1, high=100, step=1, meaning="entries of one symbol in one day"
    )
    cool_down_s: float = tunable(
        1800.0,
        unit="s",
        low=0,
        high=86400,
        step=60,
        meaning="pause of a symbol after one of its trades has closed",
    )
    max_rejects: int = tunable(
        3,
        unit="orders",
        low=1,
        high=50,
        step=1,
        meaning="entries refused by the broker in a row after which nothing is entered",
    )
    price_min_usd: float = tunable(
        5.0, unit="USD", low=0.01, high=1000, step=0.5, meaning="cheapest share that is entered"
    )
    chase_atr_multiple: float = tunable(
        1.0,
        unit="x ATR",
        low=0.05,
        high=50,
        step=0.05,
        meaning="how far the price may have run on since the shock was seen",
    )
    band_ratio: float = tunable(
        0.05,
        unit="ratio of price",
        low=0.01,
        high=1,
        step=0.01,
        meaning="trading halts this far from the mean price of five minutes",
    )
    band_room_multiple: float = tunable(
        1.5,
        unit="x target distance",
        low=0,
        high=10,
        step=0.1,
        meaning="least room between the entry and that band; 0: not looked at",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="risk.")


@dataclass(frozen=True, slots=True)
class RiskSnapshot:
    """What is true of the account at one instant; all amounts in US dollars.

    Attributes:
        state: of the brake.
        state_cause: why it stands there.
        equity_usd: net liquidation now.
        start_equity_usd: net liquidation when the day began.
        day_pnl_usd: since then, realised and open, after costs; the worse of our own ledger and
            the account's.
        open_risk_usd: loss if all that is open or on its way went to its stop.
        gross_usd: value of all of that, long and short added.
        n_open: positions and working entries.
        n_entries_minute: entries of the last sixty seconds.
        n_entries_day: entries of the day.
        n_symbol_entries_day: entries of the day in the symbol that is asked about.
        n_rejects: entries refused by the broker in a row.
        symbol_exit_ns: when the symbol's last trade closed, None without one.
        buying_power_usd: what may be bought now, None: not reported.
    """

    state: RiskState
    state_cause: str
    equity_usd: float
    start_equity_usd: float
    day_pnl_usd: float
    open_risk_usd: float
    gross_usd: float
    n_open: int
    n_entries_minute: int = 0
    n_entries_day: int = 0
    n_symbol_entries_day: int = 0
    n_rejects: int = 0
    symbol_exit_ns: int | None = None
    buying_power_usd: float | None = None


@dataclass(frozen=True, slots=True)
class EntryRequest:
    """The entry that is asked about.

    Attributes:
        symbol: what would be traded.
        side: its direction.
        at_ns: market time.
        price_usd: what it would cost now: the far side of the quote.
        signal_usd: price at which the shock was seen.
        atr_usd: average true range of the baseline.
        target_usd: where it would be left with a gain.
        reference_usd: mean price of the last five minutes, None while unknown.
    """

    symbol: str
    side: Side
    at_ns: int
    price_usd: float
    signal_usd: float
    atr_usd: float
    target_usd: float
    reference_usd: float | None = None


def request_of(
    signal: TradeSignal, *, at_ns: int, price_usd: float, target_usd: float
) -> EntryRequest:
    """Return the entry that a signal asks for.

    Args:
        signal: the shock.
        at_ns: market time.
        price_usd: the side of the quote that the order meets.
        target_usd: where it would be left with a gain.
    """
    return EntryRequest(
        symbol=signal.symbol,
        side=signal.side,
        at_ns=at_ns,
        price_usd=price_usd,
        signal_usd=signal.price,
        atr_usd=signal.atr,
        target_usd=target_usd,
        reference_usd=signal.reference_usd,
    )


def refuse_entry(
    snapshot: RiskSnapshot, request: EntryRequest, parameters: RiskParameters
) -> Decision | None:
    """Return the decision not to enter, by the first limit that is reached; None: go on."""
    return (
        refuse_state(snapshot.state, snapshot.state_cause)
        or refuse_loss(snapshot, parameters)
        or _refuse_room(snapshot, parameters)
        or _refuse_pace(snapshot, request, parameters)
        or refuse_price(request, parameters)
    )


def refuse_state(state: RiskState, cause: str) -> Decision | None:
    """Return the decision not to enter where the brake is on."""
    if state.may_enter:
        return None
    return passed(Reason.RISK_BRAKE, f"the brake is {state.value}: {cause}")


def room_of_day_usd(snapshot: RiskSnapshot, parameters: RiskParameters) -> float:
    """Return what may still be lost today, US dollars."""
    return snapshot.start_equity_usd * parameters.daily_loss_ratio + snapshot.day_pnl_usd


def refuse_loss(snapshot: RiskSnapshot, parameters: RiskParameters) -> Decision | None:
    """Return the decision not to enter after the day's loss, or after refusals in a row."""
    if room_of_day_usd(snapshot, parameters) <= EPSILON:
        limit_usd = snapshot.start_equity_usd * parameters.daily_loss_ratio
        return passed(
            Reason.DAILY_LOSS_LIMIT,
            f"{-snapshot.day_pnl_usd:,.2f} USD lost today, {limit_usd:,.2f} may be",
            observed=-snapshot.day_pnl_usd,
            limit=limit_usd,
            unit="USD",
        )
    return _refuse_count(
        Reason.TOO_MANY_REJECTS,
        snapshot.n_rejects,
        parameters.max_rejects,
        what="orders refused in a row",
    )


def _refuse_room(snapshot: RiskSnapshot, parameters: RiskParameters) -> Decision | None:
    """Refuse where nothing more fits in; how much fits is the sizing's question."""
    return (
        _refuse_count(
            Reason.TOO_MANY_POSITIONS,
            snapshot.n_open,
            parameters.max_open_positions,
            what="positions open",
        )
        or _refuse_amount(
            Reason.OPEN_RISK_LIMIT,
            snapshot.open_risk_usd,
            snapshot.equity_usd * parameters.max_open_risk_ratio,
            what="USD at risk",
        )
        or _refuse_amount(
            Reason.GROSS_LIMIT,
            snapshot.gross_usd,
            snapshot.equity_usd * parameters.max_gross_ratio,
            what="USD in positions",
        )
    )


def _refuse_pace(
    snapshot: RiskSnapshot, request: EntryRequest, parameters: RiskParameters
) -> Decision | None:
    return (
        _refuse_count(
            Reason.TOO_MANY_ENTRIES,
            snapshot.n_entries_minute,
            parameters.max_entries_per_minute,
            what="entries within a minute",
        )
        or _refuse_count(
            Reason.TOO_MANY_ENTRIES,
            snapshot.n_entries_day,
            parameters.max_entries_per_day,
            what="entries today",
        )
        or _refuse_count(
            Reason.TOO_MANY_ENTRIES,
            snapshot.n_symbol_entries_day,
            parameters.max_symbol_entries_per_day,
            what=f"entries of {request.symbol} today",
        )
        or _refuse_cool_down(snapshot.symbol_exit_ns, request, parameters)
    )


def _refuse_cool_down(
    exit_ns: int | None, request: EntryRequest, parameters: RiskParameters
) -> Decision | None:
    if exit_ns is None:
        return None
    since_s = (request.at_ns - exit_ns) / NS_PER_S
    if since_s >= parameters.cool_down_s - EPSILON:
        return None
    return passed(
        Reason.COOLING_DOWN,
        f"the last trade of {request.symbol} closed {since_s:.0f} s ago,"
        f" {parameters.cool_down_s:g} s are waited",
        observed=since_s,
        limit=parameters.cool_down_s,
        unit="s",
    )


def refuse_price(request: EntryRequest, parameters: RiskParameters) -> Decision | None:
    """Return the decision not to enter at this price, whatever the account holds."""
    if request.price_usd < parameters.price_min_usd - EPSILON:
        return passed(
            Reason.PRICE_BELOW_MIN,
            f"{request.price_usd:g} USD a share, {parameters.price_min_usd:g} at least",
            observed=request.price_usd,
            limit=parameters.price_min_usd,
            unit="USD",
        )
    return _refuse_chase(request, parameters) or _refuse_band(request, parameters)


def _refuse_chase(request: EntryRequest, parameters: RiskParameters) -> Decision | None:
    """Refuse a price that has run away: what the shock promised is then in it already."""
    run_usd = request.side.sign * (request.price_usd - request.signal_usd)
    limit_usd = parameters.chase_atr_multiple * request.atr_usd
    if run_usd <= limit_usd + EPSILON:
        return None
    return passed(
        Reason.CHASING,
        f"the price has run {run_usd:.2f} USD past the shock's {request.signal_usd:g},"
        f" {limit_usd:.2f} are allowed",
        observed=run_usd,
        limit=limit_usd,
        unit="USD",
    )


def _refuse_band(request: EntryRequest, parameters: RiskParameters) -> Decision | None:
    """Refuse an entry so near the exchange's price band that a halt comes before the target.

    The band is the narrowest one, of the large stocks in the main part of the session; the mean
    of the last five minutes stands for the exchange's reference price.

    Source: the exchanges' Limit Up-Limit Down plan.
    """
    if request.reference_usd is None or not parameters.band_room_multiple:
        return None
    sign = request.side.sign
    band_usd = request.reference_usd * (1 + sign * parameters.band_ratio)
    room_usd = sign * (band_usd - request.price_usd)
    need_usd = parameters.band_room_multiple * abs(request.target_usd - request.price_usd)
    if room_usd >= need_usd - EPSILON:
        return None
    return passed(
        Reason.NEAR_PRICE_BAND,
        f"{room_usd:.2f} USD to the price band at about {band_usd:.2f}, {need_usd:.2f} are wanted",
        observed=room_usd,
        limit=need_usd,
        unit="USD",
    )


def _refuse_count(reason: Reason, found: int, limit: int, *, what: str) -> Decision | None:
    if found < limit:
        return None
    words = f"{found} {what}, {limit} are allowed"
    return passed(reason, words, observed=found, limit=limit, unit=what.split(maxsplit=1)[0])


def _refuse_amount(
    reason: Reason, found_usd: float, limit_usd: float, *, what: str
) -> Decision | None:
    if found_usd < limit_usd - EPSILON:
        return None
    words = f"{found_usd:,.2f} {what}, {limit_usd:,.2f} are allowed"
    return passed(reason, words, observed=found_usd, limit=limit_usd, unit="USD")
