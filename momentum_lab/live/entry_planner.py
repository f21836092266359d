"""What an entry would be: guards, exit levels, limits, size; or the reason why there is none.

Nothing is sent here: the answer is a value. Only the brake is moved and written down, where a
limit for the rest of the day was reached.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Clock
from momentum_lab.core import windows
from momentum_lab.core.account_risk import (
    RiskSnapshot,
    refuse_entry,
    refuse_loss,
    refuse_state,
    request_of,
    room_of_day_usd,
)
from momentum_lab.core.market import Instrument, Quote, Side
from momentum_lab.core.position import Levels, exit_levels
from momentum_lab.core.risk import far_side, refuse_quote, refuse_time
from momentum_lab.core.risk_state import RiskEvent, RiskState
from momentum_lab.core.signal import Decision, Outcome, Reason, TradeSignal, passed
from momentum_lab.core.size import Size
from momentum_lab.core.sizing import SizingInputs, sigma_of_atr, size_position
from momentum_lab.errors import DataError
from momentum_lab.live.daily_figures import DailyDesk
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.risk_desk import RiskDesk
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

# What is refused until the day is over, or a hand resumes.
_BRAKES = {
    Reason.DAILY_LOSS_LIMIT: RiskEvent.DAILY_LOSS,
    Reason.TOO_MANY_REJECTS: RiskEvent.REJECTS,
}


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """An entry that passed every guard.

    Attributes:
        size: how many shares, and why not more.
        levels: where the position will be left.
        quote: what the market showed.
        con_id: the broker's contract id.
        limit_usd: worst price of a marketable limit entry, None of a market order.
    """

    size: Size
    levels: Levels
    quote: Quote
    con_id: int
    limit_usd: float | None = None

    @property
    def shares(self) -> int:
        """Whole shares, > 0."""
        return self.size.shares

    @property
    def size_json(self) -> str:
        """The size with every cap, for the record."""
        return self.size.as_json()

    def shadow_of(self, signal: TradeSignal) -> Decision:
        """Return the decision of a session that sends nothing: what it would have sent."""
        text = (
            f"{signal.text}; would {signal.side.value} {self.shares} shares at bid"
            f" {self.quote.bid} ask {self.quote.ask}, stop {self.levels.stop:g}, target"
            f" {self.levels.target:g}"
        )
        return Decision(
            Outcome.SHADOW,
            Reason.SHOCK,
            text,
            signal.observed,
            signal.limit,
            "x ATR",
            size_json=self.size_json,
        )


class EntryPlanner:
    """Applies the guards, the limits of the account and the sizing rule to a signal."""

    def __init__(
        self,
        connector: IBKRConnector,
        *,
        store: TradeStore,
        clock: Clock,
        parameters: Parameters,
        run_id: str,
    ) -> None:
        """Make a planner.

        Args:
            connector: quotes, instruments and the account's values.
            store: what is open and what was lost today.
            clock: market time.
            parameters: the checked set.
            run_id: the run that moves the brake.
        """
        self._connector = connector
        self._clock = clock
        self._parameters = parameters
        self._daily = DailyDesk(connector, clock)
        self._desk = RiskDesk(
            connector, store=store, clock=clock, parameters=parameters, run_id=run_id
        )

    # --- the brake -------------------------------------------------------------------------

    @property
    def risk_state(self) -> RiskState:
        """Where the brake of the account stands."""
        return self._desk.state

    @property
    def risk_cause(self) -> str:
        """Why it stands there; empty while it was never touched."""
        return self._desk.cause

    def set_state(self, state: RiskState, *, cause: str) -> RiskState:
        """Move the brake by hand; return where it stands then, see `RiskDesk.set_state`.

        Raises:
            RecordError: not written down; only a brake that was pulled holds all the same.
        """
        return self._desk.set_state(state, cause=cause)

    def brake(self, event: RiskEvent, cause: str) -> None:
        """Move the brake by what happened."""
        self._desk.brake(event, cause)

    async def learn(self, symbol: str) -> None:
        """Ask what is usual for a symbol over days, for the size of an entry that may come."""
        await self._daily.learn(symbol)

    def look_at_losses(self) -> float:
        """Brake when the day's loss has reached its limit, also while nobody wants to enter.

        Return what may be lost until then, US dollars; 0 where nobody knows.
        """
        if not (self._desk.state.may_enter and self._connector.is_operational()):
            # While the lines come back nothing says what an open position is worth.
            return 0.0
        snapshot = self._desk.snapshot("", self._clock.now_ns())
        if isinstance(snapshot, Decision):
            return 0.0
        refusal = refuse_loss(snapshot, self._parameters.risk)
        if refusal is not None:
            self._desk.brake(_BRAKES[refusal.reason], refusal.text)
            return 0.0
        return room_of_day_usd(snapshot, self._parameters.risk)

    def read_ahead(self) -> None:
        """Ask the record in a quiet moment what an entry will ask, so that it is known then."""
        self._desk.read_ahead(self._clock.now_ns())

    # --- an entry --------------------------------------------------------------------------

    def refuse_window(self, now_ns: int) -> Decision | None:
        """Return the decision not to enter at this time of day, None when entries are allowed."""
        session = session_on_day_of(now_ns)
        bells_ns = session.bells_ns if session else None
        return refuse_time(
            now_ns, session_ns=bells_ns, parameters=self._parameters.guards
        ) or windows.refuse_window(now_ns, self._parameters.windows)

    def plan(self, signal: TradeSignal) -> EntryPlan | Decision:
        """Return what to send for a signal, or the first reason not to."""
        now_ns = self._clock.now_ns()
        instrument = self._connector.instrument(signal.symbol)
        line = self._connector.lines.get(signal.symbol)
        quote = None
        if line is not None:
            # The position that comes of it will want the line, too.
            line.use()
            quote = line.quote
        refusal = (
            refuse_state(self._desk.state, self._desk.cause)
            or self.refuse_window(now_ns)
            or refuse_quote(quote, now_ns=now_ns, parameters=self._parameters.guards)
        )
        price = far_side(quote, signal.side) if quote is not None else None
        if refusal is not None or quote is None or price is None or instrument is None:
            return refusal or passed(Reason.QUOTE_NOT_TRADABLE, "the line is silent")
        try:
            levels = exit_levels(
                signal.side,
                entry_usd=price,
                atr_usd=signal.atr,
                instrument=instrument,
                parameters=self._parameters.exits,
            )
        except DataError as error:
            return passed(Reason.SIZE_ZERO, str(error))
        snapshot = self._allow(signal, now_ns, price, levels)
        if isinstance(snapshot, Decision):
            return snapshot
        return self._sized(signal, snapshot, levels, quote, instrument)

    def _allow(
        self, signal: TradeSignal, now_ns: int, price: float, levels: Levels
    ) -> RiskSnapshot | Decision:
        """Return the account as it stands, or the limit of it that refuses the entry."""
        snapshot = self._desk.snapshot(signal.symbol, now_ns)
        if isinstance(snapshot, Decision):
            return snapshot
        request = request_of(signal, at_ns=now_ns, price_usd=price, target_usd=levels.target)
        refusal = refuse_entry(snapshot, request, self._parameters.risk)
        if refusal is None:
            return snapshot
        if refusal.reason in _BRAKES:
            self._desk.brake(_BRAKES[refusal.reason], refusal.text)
        return refusal

    def _sized(
        self,
        signal: TradeSignal,
        snapshot: RiskSnapshot,
        levels: Levels,
        quote: Quote,
        instrument: Instrument,
    ) -> EntryPlan | Decision:
        buying_power_usd = snapshot.buying_power_usd
        price = far_side(quote, signal.side)
        if buying_power_usd is None or price is None:
            return passed(Reason.NO_EQUITY, "the account has not reported its buying power in USD")
        daily = self._daily.of(signal.symbol)
        size = size_position(
            SizingInputs(
                side=signal.side,
                equity_usd=snapshot.equity_usd,
                buying_power_usd=buying_power_usd,
                entry_usd=price,
                stop_usd=levels.stop,
                spread_usd=quote.spread or 0.0,
                tick_usd=instrument.tick_usd,
                start_equity_usd=snapshot.start_equity_usd,
                day_pnl_usd=snapshot.day_pnl_usd,
                open_risk_usd=snapshot.open_risk_usd,
                gross_usd=snapshot.gross_usd,
                # The broker's contract details are not asked for a sector, and unknown sectors
                # are one.
                sector_gross_usd=snapshot.gross_usd,
                n_open=snapshot.n_open,
                adv_shares=daily.adv_shares,
                recent_volume_shares=signal.recent_volume_shares,
                sigma_daily_ratio=daily.sigma_ratio,
                sigma_hold_ratio=sigma_of_atr(
                    signal.atr, price_usd=price, hold_s=self._parameters.exits.time_stop_s
                ),
                kelly_ratio=self._desk.kelly_ratio(self._clock.now_ns()),
            ),
            self._parameters.sizing,
            risk=self._parameters.risk,
            guards=self._parameters.guards,
        )
        refusal = size.refusal
        if refusal is not None:
            return refusal
        _log.info("size: %s", size.text)
        limit_usd = self._limit_usd(signal.side, price, instrument)
        return EntryPlan(size, levels, quote, instrument.con_id, limit_usd)

    def _limit_usd(self, side: Side, far_usd: float, instrument: Instrument) -> float | None:
        """Return the worst price that an entry may pay; on the grid, and marketable now."""
        execution = self._parameters.execution
        if execution.entry_order != "marketable_limit":
            return None
        worst_usd = far_usd * (1 + side.sign * execution.entry_limit_bps / 1e4)
        if side is Side.BUY:
            return max(instrument.floor(worst_usd), far_usd)
        return min(instrument.ceil(worst_usd), far_usd)
