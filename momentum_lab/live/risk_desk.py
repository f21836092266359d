"""`RiskDesk`: what the account holds, lost and did today, and the brake.

Answers from the store and the lines, for `momentum_lab.core.account_risk` to judge. The day is that
of New York. The loss of a day is measured twice: by our own ledger, closed trades and open ones at
the price that closing them would get; and by the account, against its first equity of the day. The
worse one counts: the ledger misses what others trade in the account, the account reports late.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from momentum_lab.calendars import day_start_ns
from momentum_lab.clock import Clock, now_or_none
from momentum_lab.core.account_risk import RiskSnapshot
from momentum_lab.core.kelly import measured_kelly
from momentum_lab.core.market import NS_PER_S, Quote, Side
from momentum_lab.core.risk_state import RiskEvent, RiskState, advance_risk
from momentum_lab.core.signal import Decision, Reason, passed
from momentum_lab.core.sizing import stop_size
from momentum_lab.errors import RecordError
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import Parameters
from momentum_lab.records import ledger, risk_queries
from momentum_lab.records.ledger import Row
from momentum_lab.records.risk_queries import DayEntries, Scope
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

_BY_HAND = {
    RiskState.ACTIVE: RiskEvent.RESUME_BY_HAND,
    RiskState.REDUCING: RiskEvent.REDUCE_BY_HAND,
    RiskState.HALTED: RiskEvent.HALT_BY_HAND,
}
# Counts from now on also where the brake stands there already: a resume forgives what was refused
# before it, a reduce is of the day on which it is said.
_BY_HAND_ANEW = {
    RiskState.ACTIVE: RiskEvent.RESUME_BY_HAND,
    RiskState.REDUCING: RiskEvent.REDUCE_BY_HAND,
}


@dataclass(frozen=True, slots=True)
class _Exposure:
    """One open trade or working entry: its profit so far, value and risk, US dollars."""

    pnl_usd: float
    gross_usd: float
    risk_usd: float


@dataclass(frozen=True, slots=True)
class _Brake:
    """Where the brake stands, why, and since when; 0: it was never touched."""

    state: RiskState
    cause: str
    since_ns: int
    is_recorded: bool = True


class RiskDesk:
    """Keeps the brake, and puts together what the limits are compared with."""

    def __init__(
        self,
        connector: IBKRConnector,
        *,
        store: TradeStore,
        clock: Clock,
        parameters: Parameters,
        run_id: str,
    ) -> None:
        """Make a desk; the store is read when it is first asked."""
        self._connector = connector
        self._store = store
        self._clock = clock
        self._parameters = parameters
        self._run_id = run_id
        # A replayed day is a new history each time, see `DecisionBook`.
        self._of_run = run_id if clock.is_replay else ""
        self._brake: _Brake | None = None
        self._start_equity: tuple[int, float] | None = None
        self._kelly: tuple[int, float | None] | None = None

    # --- the brake -------------------------------------------------------------------------

    @property
    def state(self) -> RiskState:
        """Where the brake stands now."""
        return self._current().state

    @property
    def cause(self) -> str:
        """Why it stands there; empty while it was never touched."""
        return self._current().cause

    def set_state(self, state: RiskState, *, cause: str) -> RiskState:
        """Move the brake by hand; return where it stands then.

        From HALTED a hand goes to ACTIVE only: REDUCING is the weaker brake, and loosens nothing.

        Raises:
            RecordError: not written down. A brake that was pulled holds all the same; a resume
                that is not on record does not count.
        """
        return self._advance(_BY_HAND[state], cause)

    def brake(self, event: RiskEvent, cause: str) -> None:
        """Move the brake by what happened; a failure to write it down is logged."""
        try:
            self._advance(event, cause)
        except RecordError:
            _log.exception("brake not recorded: %s", event.value)

    def _advance(self, event: RiskEvent, cause: str) -> RiskState:
        before = self._current()
        state = advance_risk(before.state, event)
        is_new = state is not before.state or event is _BY_HAND_ANEW.get(state)
        if not is_new and before.is_recorded:
            return state
        now_ns = now_or_none(self._clock)
        after = _Brake(state, cause, now_ns or 0)
        if not state.may_enter:
            self._brake = replace(after, is_recorded=False)
        _log.warning("brake: %s to %s: %s", before.state.value, state.value, cause)
        self._store.add_risk_state(self._run_id, at_ns=now_ns, state=state.value, cause=cause)
        self._brake = after
        return state

    def _current(self) -> _Brake:
        if self._brake is None:
            self._brake = self._read()
        found = self._brake
        if found.state is not RiskState.REDUCING:
            return found
        now_ns = now_or_none(self._clock)
        if not found.since_ns and now_ns is not None:
            # It was set before the broker told the time, so it is of the day that it told.
            found = self._brake = replace(found, since_ns=now_ns)
        if now_ns is not None and found.since_ns < day_start_ns(now_ns):
            self._brake = _Brake(RiskState.ACTIVE, "a new day", now_ns or 0)
            self._record_new_day(now_ns)
        return self._brake

    def _read(self) -> _Brake:
        row = risk_queries.last_brake(self._store.rows, self._of_run)
        if row is None:
            return _Brake(RiskState.ACTIVE, "", 0)
        # It may have been set before the broker told the time; a run's own row is of its day.
        at_ns = row["at_ns"] or (now_or_none(self._clock) if self._of_run else row["wall_ns"])
        return _Brake(RiskState(row["state"]), row["cause"], at_ns or 0)

    def _record_new_day(self, now_ns: int | None) -> None:
        try:
            self._store.add_risk_state(
                self._run_id, at_ns=now_ns, state=RiskState.ACTIVE.value, cause="a new day"
            )
        except RecordError:
            _log.exception("brake not recorded: a new day")

    # --- the account -----------------------------------------------------------------------

    def snapshot(self, symbol: str, now_ns: int) -> RiskSnapshot | Decision:
        """Return what is true of the account, or the decision not to enter without knowing it.

        Args:
            symbol: the one that would be entered.
            now_ns: market time.
        """
        account = self._connector.account()
        equity_usd = account.equity_usd
        if equity_usd is None:
            return passed(Reason.NO_EQUITY, "the account has not reported its equity in USD")
        scope = Scope(self._of_run, day_start_ns(now_ns))
        brake = self._current()
        closed = self._closed(scope, now_ns)
        entries = self._entries(scope, symbol, now_ns, brake)
        held = self._held(entries.working)
        realised_usd = sum(row["net_usd"] for row in closed if row["closed_ns"] >= scope.day_ns)
        start_usd = self._start_equity_usd(scope, equity_usd)
        ledger_usd = realised_usd + sum(one.pnl_usd for one in held)
        return RiskSnapshot(
            state=brake.state,
            state_cause=brake.cause,
            equity_usd=equity_usd,
            start_equity_usd=start_usd,
            day_pnl_usd=min(ledger_usd, equity_usd - start_usd),
            open_risk_usd=sum(one.risk_usd for one in held),
            gross_usd=sum(one.gross_usd for one in held),
            n_open=len(held),
            n_entries_minute=entries.n_minute,
            n_entries_day=entries.n_day,
            n_symbol_entries_day=entries.n_symbol,
            n_rejects=entries.n_rejects,
            symbol_exit_ns=max(
                (row["closed_ns"] for row in closed if row["symbol"] == symbol), default=None
            ),
            buying_power_usd=account.buying_power_usd,
        )

    def kelly_ratio(self, now_ns: int) -> float | None:
        """Return Kelly's fraction of the trades that had closed before today.

        None: it is off, or there were too few. Measured once a day.
        """
        sizing, day_ns = self._parameters.sizing, day_start_ns(now_ns)
        if sizing.kelly == "none":
            return None
        if self._kelly is None or self._kelly[0] != day_ns:
            multiples = risk_queries.multiples_before(
                self._store.rows, Scope(self._of_run, day_ns), strategy=self._parameters.strategy
            )
            self._kelly = (day_ns, measured_kelly(multiples, sizing))
        return self._kelly[1]

    def read_ahead(self, now_ns: int) -> None:
        """Ask the record what an entry will ask; it remembers the answers while they are true."""
        self.kelly_ratio(now_ns)
        scope = Scope(self._of_run, day_start_ns(now_ns))
        self._closed(scope, now_ns)
        self._entries(scope, "", now_ns, self._current())
        self._store.open_trades()

    def _closed(self, scope: Scope, now_ns: int) -> Sequence[Row]:
        """Return the trades that closed today, or so shortly ago that their symbols cool down."""
        cool_down_ns = int(self._parameters.risk.cool_down_s * NS_PER_S)
        since_ns = min(scope.day_ns, now_ns - cool_down_ns)
        return risk_queries.closed_since(self._store.digest, scope, since_ns)

    def _entries(self, scope: Scope, symbol: str, now_ns: int, brake: _Brake) -> DayEntries:
        return risk_queries.entries_of_day(
            self._store.digest,
            scope,
            now_ns=now_ns,
            symbol=symbol,
            # A hand that resumed has forgiven what came before.
            rejects_since_ns=brake.since_ns if brake.state.may_enter else 0,
        )

    def _start_equity_usd(self, scope: Scope, equity_usd: float) -> float:
        """Return the day's first equity: it stays what it is, so it is read once a day."""
        if self._start_equity is None or self._start_equity[0] != scope.day_ns:
            found = risk_queries.first_equity_usd(self._store.rows, scope)
            self._start_equity = (scope.day_ns, equity_usd if found is None else found)
        return self._start_equity[1]

    def _held(self, working: Sequence[Row]) -> list[_Exposure]:
        """Return every open trade, and every entry that may still become one or add to it."""
        trades = self._store.open_trades()
        entering = {order["decision_id"]: order for order in working}
        found = [
            self._of_trade(trade, entering.pop(trade["decision_id"], None)) for trade in trades
        ]
        return found + [self._of_order(order) for order in entering.values()]

    def _of_trade(self, trade: Row, order: Row | None) -> _Exposure:
        total = ledger.known_total_of(self._store.digest, trade)
        entry_usd, side = trade["entry_price"], Side(trade["side"])
        mark_usd = self._mark_usd(trade)
        shares = abs(total.shares)
        on_its_way = self._of_order(order) if order is not None else _Exposure(0.0, 0.0, 0.0)
        return _Exposure(
            pnl_usd=total.net_if_closed_usd(mark_usd),
            gross_usd=shares * mark_usd + on_its_way.gross_usd,
            risk_usd=shares * self._risk_usd(trade["symbol"], side, entry_usd, trade["stop"])
            + on_its_way.risk_usd,
        )

    def _of_order(self, order: Row) -> _Exposure:
        """Return what is left of a working entry, at the quote that it was decided on."""
        side = Side(order["side"])
        price_usd = (order["ask"] if side is Side.BUY else order["bid"]) or order["stop"]
        shares = order["shares"] - self._store.filled_shares(order["order_ref"])
        risk_usd = self._risk_usd(order["symbol"], side, price_usd, order["stop"])
        return _Exposure(0.0, shares * price_usd, shares * risk_usd)

    def _risk_usd(self, symbol: str, side: Side, entry_usd: float, stop_usd: float) -> float:
        """Return the loss per share at the stop; none where the stop has passed the entry."""
        if side.sign * (entry_usd - stop_usd) <= 0:
            return 0.0
        quote, instrument = self._quote(symbol), self._connector.instrument(symbol)
        return stop_size(
            entry_usd,
            stop_usd,
            spread_usd=max(0.0, (quote.spread if quote else None) or 0.0),
            tick_usd=instrument.tick_usd if instrument else 0.01,
        )

    def _mark_usd(self, trade: Row) -> float:
        """Return what closing would get; where nothing is quoted, the stop: the worse guess."""
        quote = self._quote(trade["symbol"])
        mark_usd = quote.mark_usd(Side(trade["side"])) if quote is not None else None
        return mark_usd if mark_usd is not None else float(trade["stop"])

    def _quote(self, symbol: str) -> Quote | None:
        line = self._connector.lines.get(symbol)
        return line.quote if line is not None else None
