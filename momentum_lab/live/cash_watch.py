"""`CashWatch`: the account's cash against what our executions make of it.

The account tells its values late, every three minutes or so. So two moments are compared at which
they have been told after our last execution: between them the cash may differ by what was executed,
and by nothing else. A deposit, a dividend, interest, a trade by hand or a fee differ; which of
them, only a person can say, so it is recorded and told, and nothing is done about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from momentum_lab.calendars import day_start_ns
from momentum_lab.clock import Clock
from momentum_lab.core.market import NS_PER_S
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.reconcile import ACTIONS, DifferenceKind
from momentum_lab.records.cash_flow import CashFlow, cash_flow
from momentum_lab.records.trade_store import TradeStore

# The broker tells the account's values at least every three minutes.
_TOLD_AFTER_S = 200.0
# The account and each commission are rounded to the cent.
_CENT_USD = 0.01


@dataclass(frozen=True, slots=True)
class Settled:
    """Cash at a moment at which the account knew of all our executions.

    Attributes:
        cash_usd: of the account.
        flow: of our executions since `since_ns`, as they were known then.
        since_ns: a New York midnight.
    """

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
        on_doubt: Callable[[], None],
        on_incident: OnIncident,
    ) -> None:
        """Make a watch that compares from its first look on.

        Args:
            connector: the account.
            store: executions, and the cash that an earlier run has left.
            run_id: the run that differences are recorded for.
            clock: market time; a replayed day has an account of its own.
            on_doubt: asks the broker for everything: an execution may be lacking, or be corrected.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._store = store
        self._run_id = run_id
        self._of_run = run_id if clock.is_replay else ""
        self._on_doubt = on_doubt
        self._on_incident = on_incident
        self._settled: Settled | None = None
        self._doubted_ns: int | None = None
        self._has_told = False

    def look(self, now_ns: int) -> Settled | None:
        """Compare, and return what a later run may begin from, None where nothing is certain now.

        Raises:
            RecordError: the record cannot be read or written.
        """
        cash_usd = self._connector.account().cash_usd
        if cash_usd is None or not self._connector.is_operational():
            return None
        before = self._settled or self._left(now_ns)
        since_ns = before.since_ns if before is not None else day_start_ns(now_ns)
        flow = self._flow(since_ns)
        if not self._is_told(flow.last_ns, now_ns):
            return None
        found = Settled(cash_usd, flow, since_ns)
        if before is not None and not self._explains(before, found, now_ns):
            return None
        today_ns = day_start_ns(now_ns)
        if since_ns != today_ns:
            found = replace(found, flow=self._flow(today_ns), since_ns=today_ns)
        self._settled, self._doubted_ns = found, None
        return None if found.flow.n_vague else found

    def _flow(self, since_ns: int) -> CashFlow:
        return cash_flow(self._store.digest, since_ns=since_ns, run_id=self._of_run)

    def _is_told(self, at_ns: int, now_ns: int) -> bool:
        """Whether the account has told its values long enough after an instant."""
        told_after_s = (now_ns - at_ns) / NS_PER_S - self._connector.account_silent_s
        return told_after_s >= _TOLD_AFTER_S

    def _left(self, now_ns: int) -> Settled | None:
        """Return what an earlier run of this store has left, for what came since."""
        row = self._store.last_cash(self._of_run)
        if row is None or row["at_ns"] >= now_ns:
            return None
        flow = CashFlow(row["cash_flow_usd"], 0, 0, 0)
        return Settled(row["cash_usd"], flow, day_start_ns(row["at_ns"]))

    def _explains(self, before: Settled, found: Settled, now_ns: int) -> bool:
        """Whether the comparison is over: it agrees, cannot be made, or the difference is recorded.

        A difference is looked at twice, with everything asked for in between.
        """
        expected_usd = before.cash_usd + found.flow.usd - before.flow.usd
        n_new = abs(found.flow.n_fills - before.flow.n_fills)
        is_exact = found.flow.n_vague == before.flow.n_vague
        if not is_exact or abs(found.cash_usd - expected_usd) <= (2 + n_new) * _CENT_USD:
            return True
        if self._doubted_ns is None:
            self._doubted_ns = now_ns
            self._on_doubt()
            return False
        if not self._is_told(self._doubted_ns, now_ns):
            return False
        self._record(found.cash_usd, expected_usd, n_new, now_ns)
        return True

    def _record(self, cash_usd: float, expected_usd: float, n_new: int, now_ns: int) -> None:
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
