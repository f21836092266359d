"""What an entry would be: guards, exit levels, size; or the reason why there is none.

Nothing is sent and nothing is written here: the answer is a value.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Clock
from momentum_lab.core import windows
from momentum_lab.core.market import Quote
from momentum_lab.core.position import Levels, exit_levels
from momentum_lab.core.risk import far_side, refuse_quote, refuse_time
from momentum_lab.core.signal import Decision, Outcome, Reason, TradeSignal, passed
from momentum_lab.core.sizing import size_position
from momentum_lab.errors import DataError
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """An entry that passed every guard."""

    shares: int
    levels: Levels
    quote: Quote
    con_id: int

    def shadow_of(self, signal: TradeSignal) -> Decision:
        """Return the decision of a session that sends nothing: what it would have sent."""
        text = (
            f"{signal.text}; would {signal.side.value} {self.shares} shares at bid"
            f" {self.quote.bid} ask {self.quote.ask}, stop {self.levels.stop:g}, target"
            f" {self.levels.target:g}"
        )
        return Decision(Outcome.SHADOW, Reason.SHOCK, text, signal.observed, signal.limit, "x ATR")


class EntryPlanner:
    """Applies the guards and the sizing rule to a signal."""

    def __init__(
        self,
        connector: IBKRConnector,
        *,
        store: TradeStore,
        clock: Clock,
        parameters: Parameters,
    ) -> None:
        """Make a planner.

        Args:
            connector: quotes, instruments and the account's values.
            store: what is open and what was lost today.
            clock: market time.
            parameters: the checked set.
        """
        self._connector = connector
        self._store = store
        self._clock = clock
        self._parameters = parameters

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
        with self._connector.stream_quotes(signal.symbol) as stream:
            quote = stream.quote
        refusal = self.refuse_window(now_ns) or refuse_quote(
            quote, now_ns=now_ns, parameters=self._parameters.guards
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
        shares = self._shares(price, levels)
        if isinstance(shares, Decision):
            return shares
        return EntryPlan(shares, levels, quote, instrument.con_id)

    def _shares(self, price: float, levels: Levels) -> int | Decision:
        account = self._connector.account()
        if account.equity_usd is None or account.buying_power_usd is None:
            return passed(Reason.NO_EQUITY, "the account has not reported its equity in USD")
        size = size_position(
            equity_usd=account.equity_usd,
            buying_power_usd=account.buying_power_usd,
            entry_usd=price,
            stop_usd=levels.stop,
            parameters=self._parameters.sizing,
        )
        if size.shares < 1:
            return passed(Reason.SIZE_ZERO, size.text, observed=0, limit=1, unit="shares")
        _log.info("size: %s", size.text)
        return size.shares
