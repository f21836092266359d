"""What an entry would be: guards, exit levels, size; or the reason why there is none.

Nothing is sent and nothing is written here: the answer is a value.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Clock
from momentum_lab.core import windows
from momentum_lab.core.market import Instrument, Quote
from momentum_lab.core.position import Levels, exit_levels
from momentum_lab.core.risk import far_side, refuse_quote, refuse_time
from momentum_lab.core.signal import Decision, Reason, TradeSignal, passed
from momentum_lab.core.sizing import Size, SizingInputs, size_position
from momentum_lab.errors import DataError
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """An entry that passed every guard.

    Attributes:
        size: how many shares, and why not more.
        levels: where the position will be left.
        quote: what the market showed.
        con_id: the broker's contract id.
    """

    size: Size
    levels: Levels
    quote: Quote
    con_id: int

    @property
    def shares(self) -> int:
        """Whole shares, > 0."""
        return self.size.shares

    @property
    def size_json(self) -> str:
        """The size with every cap, for the record."""
        return self.size.as_json()


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
        size = self._size(signal, price, levels, quote, instrument)
        if isinstance(size, Decision):
            return size
        return EntryPlan(size, levels, quote, instrument.con_id)

    def _size(
        self,
        signal: TradeSignal,
        price: float,
        levels: Levels,
        quote: Quote,
        instrument: Instrument,
    ) -> Size | Decision:
        account = self._connector.account()
        if account.equity_usd is None or account.buying_power_usd is None:
            return passed(Reason.NO_EQUITY, "the account has not reported its equity in USD")
        size = size_position(
            SizingInputs(
                side=signal.side,
                equity_usd=account.equity_usd,
                buying_power_usd=account.buying_power_usd,
                entry_usd=price,
                stop_usd=levels.stop,
                spread_usd=quote.spread or 0.0,
                tick_usd=instrument.tick_usd,
                recent_volume_shares=signal.recent_volume_shares,
            ),
            self._parameters.sizing,
            risk=self._parameters.risk,
            guards=self._parameters.guards,
        )
        if size.shares < 1:
            return passed(Reason.SIZE_ZERO, size.text, observed=0, limit=1, unit="shares")
        _log.info("size: %s", size.text)
        return size
