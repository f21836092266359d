"""`CashWatch`: the account's cash against what our executions make of it.

The account tells its values late, every three minutes or so. So two moments are compared at which
they have been told after our last execution: between them the cash may differ by what was executed,
and by nothing else. A deposit, a dividend, interest, a trade by hand or a fee differ; which of
them, only a person can say, so it is recorded and told, and nothing is done about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from momentum_lab.clock import Clock
from momentum_lab.core.market import NS_PER_S
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.reconcile import ACTIONS, DifferenceKind
from momentum_lab.records.cash_flow import CashFlow, cash_flow
from momentum_lab.records.trade_store import TradeStore

# The broker tells the account's values at least every three minutes.
_TOLD_AFTER_S = 200.0
_DAY_NS = 86_400 * NS_PER_S
# The account and each commission are rounded to the cent.
_CENT_USD = 0.01


@dataclass(frozen=True, slots=True)
class _Settled:
    """Cash at a moment at which the account knew of all our executions."""

    cash_usd: float
    flow: CashFlow
    since_ns: int


class CashWatch:
    """Looks at the cash now and then."""

    def __init__(
        self,
        connector: IBKRConnector,
        store: TradeStore,
        *,
        run_id: str,
        clock: Clock,
        on_incident: OnIncident,
    ) -> None:
        """Make a watch that compares from its first look on.

        Args:
            connector: the account.
            store: executions, and the cash that an earlier run has left.
            run_id: the run that differences are recorded for.
            clock: market time; a replayed day has an account of its own.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._store = store
        self._run_id = run_id
        self._of_run = run_id if clock.is_replay else ""
        self._on_incident = on_incident
        self._settled: _Settled | None = None
        self._has_told = False

    def look(self, now_ns: int) -> float | None:
        """Compare, and return the cash where the account knows of all executions, else None.

        Raises:
            RecordError: the record cannot be read or written.
        """
        cash_usd = self._connector.account().cash_usd
        if cash_usd is None:
            return None
        before = self._settled or self._left(now_ns)
        since_ns = before.since_ns if before is not None else now_ns - _DAY_NS
        flow = cash_flow(self._store.rows, since_ns=since_ns, run_id=self._of_run)
        told_after_s = (now_ns - flow.last_ns) / NS_PER_S - self._connector.account_silent_s
        if flow.n_fills and told_after_s < _TOLD_AFTER_S:
            return None
        if before is not None and flow.n_vague == before.flow.n_vague:
            self._compare(before, cash_usd, flow, now_ns)
        self._settled = _Settled(cash_usd, flow, since_ns)
        return cash_usd

    def _left(self, now_ns: int) -> _Settled | None:
        """Return what an earlier run of this store has left, for what came since."""
        row = self._store.last_cash(self._of_run)
        if row is None or row["at_ns"] >= now_ns:
            return None
        return _Settled(row["cash_usd"], CashFlow(0.0, 0, 0, 0), row["at_ns"])

    def _compare(self, before: _Settled, cash_usd: float, flow: CashFlow, now_ns: int) -> None:
        expected_usd = before.cash_usd + flow.usd - before.flow.usd
        n_new = abs(flow.n_fills - before.flow.n_fills)
        if abs(cash_usd - expected_usd) <= (2 + n_new) * _CENT_USD:
            return
        text = (
            f"the account has {cash_usd:,.2f} USD in cash, {cash_usd - expected_usd:+,.2f} USD"
            f" against what {n_new} executions of ours make of it: a deposit, a dividend,"
            " interest, a fee, or a trade of somebody else"
        )
        kind = DifferenceKind.CASH_DIFFERS
        self._store.add_difference(
            self._run_id,
            at_ns=now_ns,
            kind=kind.value,
            action=ACTIONS[kind],
            broker_value=cash_usd,
            our_value=expected_usd,
            text=text,
        )
        if not self._has_told:
            # With a second strategy in the account it would be told each time that one trades.
            self._has_told = True
            self._on_incident("cash differs", text, None)
