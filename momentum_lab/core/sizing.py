"""Position sizing: gates, a budget of risk, a stop size, then caps; the one that binds is named.

Theory. The size is what the budget buys at the distance of the stop, and never more than any cap.
A gate gives no size at all, for a reason that has a name. Whatever is not known - the average daily
volume, the sector, whether a share can be borrowed - leaves its cap out, and the answer says so by
name; a cap is never filled in by a guess.

The plain formula, equity x risk / stop distance within a largest position and the buying power, is
one configuration of it: `max_notional_usd`, `max_shares` and the ratios of volume at their upper
ends. What is left of the rest is on the careful side: the stop size counts half the spread and a
tick on top of the distance, and a share of the buying power is kept back.

Kelly's fraction and a target of volatility can only make a size smaller. Both are off unless
they are asked for; an edge that was not measured on a hundred closed trades caps nothing, and one
that is none or negative enters nothing.

Sources: fixed-fractional risk is the convention of the field; the square-root law of impact, Toth
et al., "Anomalous price impact", Physical Review X, 2011; Kelly, "A new interpretation of
information rate", 1956, used in quarters as MacLean, Thorp and Ziemba advise, 2011.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from momentum_lab.core.account_risk import RiskParameters
from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import EPSILON, Side
from momentum_lab.core.risk import GuardParameters
from momentum_lab.core.size import BudgetSource, Cap, Shortfall, Size, SizeReason
from momentum_lab.core.sizing_parameters import SizingParameters

_TICKS = 5
_SPREADS = 2
_PRICE_RATIO = 0.001
# What a gap or a halt may cost: a loss beyond any stop.
_GAP_RATIO = 0.10
_ATR_SIGMAS = 1.6
_S_PER_MIN = 60
_COSTS = FillModel()
T = TypeVar("T", BudgetSource, Cap)


@dataclass(frozen=True, slots=True)
class SizingInputs:
    """What one size is computed from; whatever is None is not known, and leaves its cap out.

    Attributes:
        side: direction of the entry.
        equity_usd: net liquidation, > 0.
        buying_power_usd: as the broker says.
        entry_usd: the side of the quote that the order meets.
        stop_usd: where it is left with a loss.
        spread_usd: quoted now, >= 0.
        tick_usd: smallest price step.
        start_equity_usd: net liquidation when the day began; None: the same as now.
        day_pnl_usd: since then, realised and open, after costs.
        open_risk_usd: of what is open or on its way.
        gross_usd: value of that, long and short added.
        sector_gross_usd: of the sector's part; unknown sectors are one. None: not known.
        n_open: positions and working entries.
        adv_shares: median daily volume of 20 days.
        recent_volume_shares: volume of the last five complete minutes.
        sigma_daily_ratio: standard deviation of a day's return, > 0.
        sigma_hold_ratio: standard deviation of the return over the planned time, > 0.
        kelly_ratio: fraction of equity at risk by Kelly's criterion; None: not measured.
        is_shortable: whether shares can be borrowed.
        is_killed: the brake is on.
        is_halted: trading stands still.
        is_session_open: entries are allowed at this time of day.
    """

    side: Side
    equity_usd: float
    buying_power_usd: float
    entry_usd: float
    stop_usd: float
    spread_usd: float
    tick_usd: float = 0.01
    start_equity_usd: float | None = None
    day_pnl_usd: float = 0.0
    open_risk_usd: float = 0.0
    gross_usd: float = 0.0
    sector_gross_usd: float | None = None
    n_open: int = 0
    adv_shares: float | None = None
    recent_volume_shares: float | None = None
    sigma_daily_ratio: float | None = None
    sigma_hold_ratio: float | None = None
    kelly_ratio: float | None = None
    is_shortable: bool | None = None
    is_killed: bool = False
    is_halted: bool = False
    is_session_open: bool = True

    @property
    def is_valid(self) -> bool:
        """Every number is one, and has the sign that it must have."""
        above_zero = (
            self.equity_usd,
            self.entry_usd,
            self.stop_usd,
            self.tick_usd,
            self._start_usd,
            *(s for s in (self.sigma_daily_ratio, self.sigma_hold_ratio) if s is not None),
        )
        at_least_zero = (
            self.spread_usd,
            self.open_risk_usd,
            self.gross_usd,
            self.sector_gross_usd or 0.0,
            self.adv_shares or 0.0,
            self.recent_volume_shares or 0.0,
        )
        others = (self.buying_power_usd, self.day_pnl_usd, self.kelly_ratio or 0.0)
        return (
            all(math.isfinite(value) for value in (*above_zero, *at_least_zero, *others))
            and all(value > 0 for value in above_zero)
            and all(value >= 0 for value in at_least_zero)
        )

    @property
    def _start_usd(self) -> float:
        return self.equity_usd if self.start_equity_usd is None else self.start_equity_usd

    def day_room_usd(self, risk: RiskParameters) -> float:
        """Return what may still be lost today."""
        return self._start_usd * risk.daily_loss_ratio + self.day_pnl_usd


def size_position(
    inputs: SizingInputs,
    parameters: SizingParameters,
    *,
    risk: RiskParameters,
    guards: GuardParameters,
) -> Size:
    """Return the whole number of shares to trade.

    A pure function: two simultaneous signals are sized one after the other, the first one's order
    in the inputs of the second.

    Args:
        inputs: account, price and stop, and what is known of the market.
        parameters: budget and caps of one entry.
        risk: limits of the whole account.
        guards: widest spread.
    """
    if not inputs.is_valid:
        return Shortfall(SizeReason.INVALID_INPUT).size(f", impossible numbers: {inputs}")
    closed = _gate(inputs, risk, guards)
    if closed is not None:
        return closed.size()
    budgets = tuple(_budgets(inputs, parameters, risk))
    budget_source, budget_usd = _least(budgets)
    if budget_usd <= EPSILON:
        exhausted = Shortfall(SizeReason.RISK_BUDGET_EXHAUSTED, budget_usd, 0.0, "USD")
        return exhausted.size(f" left by {budget_source.value}", budgets)
    stop_usd = stop_size(
        inputs.entry_usd, inputs.stop_usd, spread_usd=inputs.spread_usd, tick_usd=inputs.tick_usd
    )
    caps = tuple(_caps(inputs, parameters, risk, raw=budget_usd / stop_usd))
    binding, raw = _least(caps)
    shares = math.floor(max(0.0, raw) / parameters.lot + EPSILON) * parameters.lot
    cost_ratio = _cost_ratio(shares, inputs.spread_usd, stop_usd)
    too_small = _below_minimum(raw, shares, shares * inputs.entry_usd, cost_ratio, parameters)
    words = "" if too_small is None else f"{too_small.words}; "
    if too_small is not None:
        shares = 0
    words += f"{shares} shares, bound by {binding.value} ({raw:.1f})"
    words += f"; {budget_usd:,.2f} USD of {budget_source.value} at {stop_usd:.4f} USD a share"
    not_known = [source.value for source, allowed in budgets if allowed is None]
    not_known += [cap.value for cap, allowed in caps if allowed is None]
    if not_known:
        words += f"; not known: {', '.join(not_known)}"
    notional_usd = shares * inputs.entry_usd
    return Size(
        shares=shares,
        reason=too_small.reason if too_small else SizeReason.OK,
        text=words,
        binding=binding,
        budget_usd=budget_usd,
        budget_source=budget_source,
        raw_shares=raw,
        stop_size_usd=stop_usd,
        notional_usd=notional_usd,
        risk_at_stop_usd=shares * stop_usd,
        cost_ratio=cost_ratio,
        gap_stress_usd=notional_usd * _GAP_RATIO,
        caps=caps,
        observed=too_small.observed if too_small else None,
        limit=too_small.limit if too_small else None,
        unit=too_small.unit if too_small else "",
        budgets=budgets,
    )


def stop_size(entry_usd: float, stop_usd: float, *, spread_usd: float, tick_usd: float) -> float:
    """Return the loss per share to reckon with at a stop; the stop itself is not moved.

    The distance, half the spread and a tick; at least two spreads, five ticks and 0.1 % of the
    price, because a stop nearer than that is hit by noise, and its fill is not that exact.
    """
    return max(
        abs(entry_usd - stop_usd) + spread_usd / 2 + tick_usd,
        _SPREADS * spread_usd,
        _TICKS * tick_usd,
        _PRICE_RATIO * entry_usd,
    )


def sigma_of_atr(atr_usd: float, *, price_usd: float, hold_s: float) -> float:
    """Return the standard deviation of the return over `hold_s`, from one-minute true ranges.

    The range of a minute of a Brownian path is sqrt(8 / pi) = 1.6 of its standard deviations.
    """
    return atr_usd / _ATR_SIGMAS * math.sqrt(hold_s / _S_PER_MIN) / price_usd


def _gate(inputs: SizingInputs, risk: RiskParameters, guards: GuardParameters) -> Shortfall | None:
    """Return the first gate that is closed."""
    return next(chain(_gates_of_state(inputs), _gates_of_numbers(inputs, risk, guards)), None)


def _gates_of_state(inputs: SizingInputs) -> Iterator[Shortfall]:
    if inputs.is_killed:
        yield Shortfall(SizeReason.KILL_SWITCH)
    if inputs.is_halted:
        yield Shortfall(SizeReason.HALTED)
    if not inputs.is_session_open:
        yield Shortfall(SizeReason.SESSION_CLOSED)


def _gates_of_numbers(
    inputs: SizingInputs, risk: RiskParameters, guards: GuardParameters
) -> Iterator[Shortfall]:
    sign, entry_usd = inputs.side.sign, inputs.entry_usd
    if sign * (entry_usd - inputs.stop_usd) <= EPSILON:
        yield Shortfall(SizeReason.STOP_WRONG_SIDE, inputs.stop_usd, entry_usd, "USD")
    if inputs.side is Side.SELL and inputs.is_shortable is False:
        yield Shortfall(SizeReason.NOT_SHORTABLE)
    if entry_usd < risk.price_min_usd - EPSILON:
        yield Shortfall(SizeReason.PRICE_BELOW_MIN, entry_usd, risk.price_min_usd, "USD")
    mid_usd = entry_usd - sign * inputs.spread_usd / 2
    spread_bps = inputs.spread_usd / mid_usd * 1e4 if mid_usd > 0 else math.inf
    if spread_bps > guards.spread_max_bps + EPSILON:
        yield Shortfall(SizeReason.SPREAD_TOO_WIDE, spread_bps, guards.spread_max_bps, "bps")
    if inputs.n_open >= risk.max_open_positions:
        most = risk.max_open_positions
        yield Shortfall(SizeReason.MAX_CONCURRENT, inputs.n_open, most, "positions")
    room_usd, lost_usd = inputs.day_room_usd(risk), -inputs.day_pnl_usd
    if room_usd <= EPSILON:
        yield Shortfall(SizeReason.DAILY_LOSS_LIMIT, lost_usd, room_usd + lost_usd, "USD")
    if inputs.kelly_ratio is not None and inputs.kelly_ratio <= 0:
        yield Shortfall(SizeReason.NO_EDGE, inputs.kelly_ratio, 0.0, "ratio of equity")


def _budgets(
    inputs: SizingInputs, parameters: SizingParameters, risk: RiskParameters
) -> Iterator[tuple[BudgetSource, float | None]]:
    """Yield every budget of risk that is on, US dollars, in the order in which ties are broken."""
    equity_usd, kelly = inputs.equity_usd, inputs.kelly_ratio
    multiple = parameters.short_risk_multiple if inputs.side is Side.SELL else 1.0
    yield BudgetSource.RISK_PCT, equity_usd * parameters.risk_ratio * multiple
    if kelly is not None:
        yield BudgetSource.KELLY, equity_usd * parameters.kelly_fraction * max(0.0, kelly)
    elif parameters.kelly != "none":
        yield BudgetSource.KELLY, None
    yield BudgetSource.DAY_LOSS_ROOM, inputs.day_room_usd(risk) - inputs.open_risk_usd
    yield (
        BudgetSource.OPEN_RISK_ROOM,
        equity_usd * risk.max_open_risk_ratio - inputs.open_risk_usd,
    )


def _least(limits: Iterable[tuple[T, float | None]]) -> tuple[T, float]:
    """Return the smallest of the limits that are known; ties go to the earlier."""
    known = ((name, value) for name, value in limits if value is not None)
    return min(known, key=lambda pair: pair[1])


def _caps(
    inputs: SizingInputs, parameters: SizingParameters, risk: RiskParameters, *, raw: float
) -> Iterator[tuple[Cap, float | None]]:
    """Yield every cap that is on, in shares, in the order in which ties are broken."""
    equity_usd, entry_usd = inputs.equity_usd, inputs.entry_usd
    yield Cap.RISK, raw
    if parameters.vol_target_ratio:
        sigma = inputs.sigma_hold_ratio
        yield (
            Cap.VOL_TARGET,
            equity_usd * parameters.vol_target_ratio / (entry_usd * sigma) if sigma else None,
        )
    yield Cap.MAX_NOTIONAL, parameters.max_notional_usd / entry_usd
    yield Cap.MAX_POSITION_PCT, parameters.max_position_ratio * equity_usd / entry_usd
    yield Cap.MAX_GROSS, (risk.max_gross_ratio * equity_usd - inputs.gross_usd) / entry_usd
    sector_usd = inputs.sector_gross_usd
    room_usd = None if sector_usd is None else risk.max_sector_ratio * equity_usd - sector_usd
    yield Cap.MAX_SECTOR, None if room_usd is None else room_usd / entry_usd
    yield Cap.MAX_ADV, _part(inputs.adv_shares, parameters.max_adv_ratio)
    yield (
        Cap.MAX_RECENT_VOLUME,
        _part(inputs.recent_volume_shares, parameters.max_recent_volume_ratio),
    )
    yield Cap.MAX_IMPACT, _impact_cap(inputs, parameters)
    yield (
        Cap.BUYING_POWER,
        inputs.buying_power_usd
        * (1 - parameters.buying_power_reserve_ratio)
        / (parameters.margin_ratio * entry_usd),
    )
    yield Cap.MAX_SHARES, float(parameters.max_shares)


def _part(shares: float | None, ratio: float) -> float | None:
    return None if shares is None else shares * ratio


def _impact_cap(inputs: SizingInputs, parameters: SizingParameters) -> float | None:
    """Return the shares whose impact, Y sigma sqrt(Q / ADV), is the largest allowed."""
    if inputs.adv_shares is None or inputs.sigma_daily_ratio is None:
        return None
    if not inputs.adv_shares:
        return 0.0
    part = (
        parameters.max_impact_bps * 1e-4 / (parameters.impact_multiple * inputs.sigma_daily_ratio)
    )
    # Multiplied, because a power that overflows raises where a product is infinite.
    return inputs.adv_shares * part * part


def _cost_ratio(shares: int, spread_usd: float, stop_usd: float) -> float | None:
    if not shares:
        return None
    cost_usd = shares * spread_usd + 2 * _COSTS.commission_usd(shares)
    return cost_usd / (shares * stop_usd)


def _below_minimum(
    raw: float,
    shares: int,
    notional_usd: float,
    cost_ratio: float | None,
    parameters: SizingParameters,
) -> Shortfall | None:
    """Return why a size is too small, or would mostly pay costs; None where it is neither."""
    if shares < parameters.min_shares:
        # Of the shares that the caps allow, so many make lots that are not too small.
        least = math.ceil(parameters.min_shares / parameters.lot) * parameters.lot
        return Shortfall(SizeReason.BELOW_MIN_SHARES, raw, least, "shares")
    if notional_usd < parameters.min_notional_usd - EPSILON:
        return Shortfall(
            SizeReason.BELOW_MIN_NOTIONAL, notional_usd, parameters.min_notional_usd, "USD"
        )
    if cost_ratio is not None and cost_ratio > parameters.max_cost_ratio + EPSILON:
        return Shortfall(
            SizeReason.COST_TOO_HIGH, cost_ratio, parameters.max_cost_ratio, "ratio of risk"
        )
    return None
