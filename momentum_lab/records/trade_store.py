"""The trade store: one SQLite file per account and strategy, through sqlite-utils.

What must outlive a run stands here and nowhere else: which headlines were seen, what was decided
about each, which orders were meant, what was filled. A trade's size, prices and profit are
recomputed from its fills whenever one arrives; nothing is accumulated on the side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from momentum_lab.clock import wall_ns
from momentum_lab.core.news import Headline
from momentum_lab.core.order import (
    OrderIntent,
)
from momentum_lab.core.signal import Decision
from momentum_lab.errors import RecordError
from momentum_lab.records.ledger import Row
from momentum_lab.records.order_store import OrderStore, values_of
from momentum_lab.records.store_file import insert, update

# How the cause of a risk state begins that a person asked for: it outlives the run.
BY_HAND = "by hand: "


class TradeStore(OrderStore):
    """Reads and writes what must outlive a run."""

    # --- runs -----------------------------------------------------------------------------

    def start_run(
        self,
        run_id: str,
        *,
        mode: str,
        account: str,
        strategy: str,
        params_hash: str,
        params: Mapping[str, Any],
        revision: str,
    ) -> None:
        """Write the row of a run that begins; `account` is stored masked."""
        with self._write() as db:
            db.table("runs").insert(
                {
                    "run_id": run_id,
                    "mode": mode,
                    "account": masked(account),
                    "strategy": strategy,
                    "params_hash": params_hash,
                    "params_json": json.dumps(params, sort_keys=True),
                    "revision": revision,
                    "started_wall_ns": wall_ns(),
                }
            )

    def update_run(self, run_id: str, **values: object) -> None:
        """Change columns of a run's row."""
        with self._write() as db:
            update(db, "runs", "run_id", run_id, values)

    def end_run(self, run_id: str, *, reason: str, market_end_ns: int | None = None) -> None:
        """Write how a run ended."""
        self.update_run(
            run_id, ended_wall_ns=wall_ns(), end_reason=reason, market_end_ns=market_end_ns
        )

    def modes(self) -> set[str]:
        """Return the modes of all runs."""
        return {row["mode"] for row in self._rows("SELECT DISTINCT mode FROM runs")}

    def accounts(self, mode: str) -> set[str]:
        """Return the accounts, masked, whose trades a run of a mode would take for its own.

        Those are the accounts of all that is open. Outside a replay, whose every gateway has an
        account of its own, also those of earlier runs of the mode: days and limits are summed.
        """
        rows = self._rows(
            """
            SELECT DISTINCT account FROM runs
            WHERE (market_start_ns IS NOT NULL AND mode = ? AND mode <> 'replay')
                OR EXISTS (SELECT 1 FROM trades WHERE run_id = runs.run_id AND state = 'OPEN')
            """,
            mode,
        )
        return {row["account"] for row in rows}

    def knows_run(self, run_id: str) -> bool:
        """Whether a run is ours."""
        return bool(self._rows("SELECT 1 AS yes FROM runs WHERE run_id = ?", run_id))

    # --- headlines and decisions ----------------------------------------------------------

    def add_headline(self, headline_id: str, run_id: str, headline: Headline) -> bool:
        """Write a headline; return False, and count the repeat, when it has been seen before."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE headlines SET repeats = repeats + 1 WHERE headline_id = ?", [headline_id]
            ).rowcount
            if changed:
                return False
            db.table("headlines").insert(
                {
                    "headline_id": headline_id,
                    "run_id": run_id,
                    "provider": headline.provider,
                    "article_id": headline.article_id,
                    "published_ns": headline.published_ns,
                    "received_ns": headline.received_ns,
                    "text": headline.text,
                    "symbols": json.dumps(headline.symbols),
                    "extra": headline.extra,
                }
            )
        return True

    def add_decision(
        self, headline_id: str, decision: Decision, *, at_ns: int, symbol: str | None
    ) -> int:
        """Write the one decision of a headline; return its id.

        Raises:
            RecordError: the headline has a decision already, or could not be written.
        """
        with self._write() as db:
            return self._insert_decision(db, headline_id, decision, at_ns=at_ns, symbol=symbol)

    def add_entry(
        self,
        headline_id: str,
        run_id: str,
        decision: Decision,
        *,
        at_ns: int,
        symbol: str,
        intent: Callable[[int], OrderIntent],
        children: Callable[[OrderIntent], Sequence[OrderIntent]] = lambda _entry: (),
    ) -> tuple[OrderIntent, ...]:
        """Write the decision to enter and the orders it means, all or none; return the orders.

        Args:
            headline_id: what is answered.
            run_id: the run.
            decision: outcome "enter".
            at_ns: market time.
            symbol: what is entered.
            intent: makes the entry of a decision's id.
            children: makes the orders that protect an entry.
        """
        with self._write() as db:
            decision_id = self._insert_decision(
                db, headline_id, decision, at_ns=at_ns, symbol=symbol
            )
            entry = intent(decision_id)
            family = (entry, *children(entry))
            insert(db, "orders", *(values_of(run_id, one) for one in family))
        return family

    def undecided(self, run_id: str) -> list[str]:
        """Return the headlines of a run that have no decision yet."""
        rows = self._rows(
            "SELECT headline_id FROM headlines LEFT JOIN decisions USING (headline_id)"
            " WHERE headlines.run_id = ? AND decision_id IS NULL ORDER BY received_ns",
            run_id,
        )
        return [row["headline_id"] for row in rows]

    def unfinished_runs(self) -> list[str]:
        """Return the runs that never wrote how they ended, oldest first."""
        rows = self._rows(
            "SELECT run_id FROM runs WHERE ended_wall_ns IS NULL ORDER BY started_wall_ns, run_id"
        )
        return [row["run_id"] for row in rows]

    def _insert_decision(
        self,
        db: Database,
        headline_id: str,
        decision: Decision,
        *,
        at_ns: int,
        symbol: str | None,
    ) -> int:
        cursor = db.execute(
            "INSERT INTO decisions (headline_id, run_id, decided_ns, symbol, outcome, reason, text,"
            " observed, limit_value, unit, size_json)"
            " SELECT headline_id, run_id, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM headlines"
            " WHERE headline_id = ?",
            [
                at_ns,
                symbol,
                decision.outcome.value,
                decision.reason.value,
                decision.text,
                decision.observed,
                decision.limit,
                decision.unit,
                decision.size_json,
                headline_id,
            ],
        )
        if not cursor.rowcount:
            raise RecordError(f"{self.path}: no headline {headline_id!r} to decide about")
        return int(cursor.lastrowid or 0)

    # --- the log of a run -----------------------------------------------------------------

    def add_equity(
        self,
        run_id: str,
        *,
        at_ns: int,
        equity_usd: float,
        cash_usd: float | None = None,
        cash_flow_usd: float | None = None,
    ) -> None:
        """Write the account's net liquidation at an instant; a repeat replaces."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO equity"
                " (run_id, at_ns, equity_usd, cash_usd, cash_flow_usd) VALUES (?, ?, ?, ?, ?)",
                [run_id, at_ns, equity_usd, cash_usd, cash_flow_usd],
            )

    def add_transition(
        self, run_id: str, *, at_ns: int | None, state: str, event: str, cause: str
    ) -> None:
        """Write a step of the connection's life cycle."""
        self._log("connection", run_id, at_ns=at_ns, state=state, event=event, cause=cause)

    def add_incident(
        self, run_id: str, *, at_ns: int | None, kind: str, text: str, symbol: str | None = None
    ) -> None:
        """Write something that a person should look at."""
        self._log("incidents", run_id, at_ns=at_ns, kind=kind, text=text, symbol=symbol)

    def add_difference(self, run_id: str, **values: object) -> None:
        """Write what a reconciliation found, and what was done about it."""
        self._log("differences", run_id, **values)

    def add_risk_state(self, run_id: str, *, at_ns: int | None, state: str, cause: str) -> None:
        """Write where the brake of the account stands from now on."""
        self._log("risk_states", run_id, at_ns=at_ns, state=state, cause=cause)

    def risk_state_by_hand(self) -> Row | None:
        """Return the last risk state of any run that a person asked for, None without one."""
        rows = self._rows(
            "SELECT * FROM risk_states WHERE cause LIKE ? ORDER BY id DESC LIMIT 1", f"{BY_HAND}%"
        )
        return rows[0] if rows else None

    def last_risk_state(self) -> Row | None:
        """Return the last risk state of any run, whoever asked for it; None without one."""
        rows = self._rows("SELECT * FROM risk_states ORDER BY id DESC LIMIT 1")
        return rows[0] if rows else None

    def last_cash(self, run_id: str = "") -> Row | None:
        """Return the last sample with cash, of one run or any; None without one."""
        rows = self._rows(
            "SELECT at_ns, cash_usd, cash_flow_usd FROM equity WHERE cash_usd IS NOT NULL"
            " AND (? = '' OR run_id = ?) ORDER BY at_ns DESC LIMIT 1",
            run_id,
            run_id,
        )
        return rows[0] if rows else None

    def _log(self, table: str, run_id: str, **values: object) -> None:
        with self._write() as db:
            db.table(table).insert({"run_id": run_id, "wall_ns": wall_ns(), **values})

    def table(self, name: str, run_id: str) -> list[Row]:
        """Return the rows of one table that belong to a run, in order of writing."""
        if name not in self.db.table_names():
            raise RecordError(f"{self.path}: no table {name!r}")
        return self._rows(
            f"SELECT * FROM [{name}] WHERE run_id = ? ORDER BY rowid",  # noqa: S608 - a known table
            run_id,
        )


def masked(account: str) -> str:
    """Return an account id of which only kind and last two characters can be read."""
    keep = 2
    if len(account) <= 2 * keep:
        return "*" * len(account)
    return account[:keep] + "*" * (len(account) - 2 * keep) + account[-keep:]
