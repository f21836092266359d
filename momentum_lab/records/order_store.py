"""The part of the trade store about orders, their executions, and the trades that these make."""

from __future__ import annotations

from sqlite_utils import Database

from momentum_lab.core.market import Side
from momentum_lab.core.order import (
    OrderEvent,
    OrderIntent,
    OrderPurpose,
    OrderState,
    advance_order,
    with_fills,
)
from momentum_lab.core.position import ExitReason, Fill, Levels, without_revision
from momentum_lab.errors import RecordError
from momentum_lab.records import ledger, schema
from momentum_lab.records.ledger import Row
from momentum_lab.records.store_file import StoreFile, insert, update


class OrderStore(StoreFile):
    """Reads and writes orders, executions and trades."""

    # --- orders and fills -----------------------------------------------------------------

    def add_order(self, run_id: str, intent: OrderIntent) -> None:
        """Write an order that protects or closes a trade, before it is sent."""
        with self._write() as db:
            insert(db, "orders", values_of(run_id, intent))

    def advance_order(self, order_ref: str, event: OrderEvent, **values: object) -> OrderState:
        """Move an order on in its life cycle; return its new state.

        Args:
            order_ref: our reference.
            event: what happened.
            values: further columns to set: order_id, perm_id, message.

        Raises:
            IllegalTransitionError: the life cycle has no such step.
            RecordError: no such order.
        """
        with self._write() as db:
            state = advance_order(self.order_state(order_ref), event)
            if with_fills(state) is not state and self.filled_shares(order_ref):
                state = with_fills(state)
            update(db, "orders", "order_ref", order_ref, {"state": state.value, **values})
        return state

    def change_order(self, order_ref: str, **values: object) -> None:
        """Write what an order is meant to be from now on, before the broker hears of it."""
        with self._write() as db:
            update(db, "orders", "order_ref", order_ref, values)

    def order_state(self, order_ref: str) -> OrderState:
        """Return the state of an order.

        Raises:
            RecordError: no such order.
        """
        return OrderState(self.order(order_ref)["state"])

    def order(self, order_ref: str) -> Row:
        """Return the row of an order.

        Raises:
            RecordError: no such order.
        """
        rows = self._rows("SELECT * FROM orders WHERE order_ref = ?", order_ref)
        if not rows:
            raise RecordError(f"{self.path}: no order {order_ref!r}")
        return rows[0]

    def knows_order(self, order_ref: str) -> bool:
        """Whether an order is ours."""
        return bool(self._rows("SELECT 1 AS yes FROM orders WHERE order_ref = ?", order_ref))

    def highest_order_id(self) -> int:
        """Return the highest of the broker's ids that an order of ours has had; 0 before any."""
        (row,) = self._rows("SELECT COALESCE(MAX(order_id), 0) AS highest FROM orders")
        return int(row["highest"])

    def unsettled_orders(self) -> list[Row]:
        """Return the orders whose end is not known, oldest first."""
        return self._rows(
            f"SELECT * FROM orders WHERE {schema.UNSETTLED} ORDER BY created_ns, order_ref"  # noqa: S608 - our own words
        )

    def exits_of(self, trade_id: int) -> list[Row]:
        """Return the client's own exit orders of a trade, oldest first."""
        return self._rows(
            "SELECT * FROM orders WHERE trade_id = ? ORDER BY created_ns, order_ref", trade_id
        )

    def family_of(self, decision_id: int) -> list[Row]:
        """Return the entry of a decision and the orders that protect it, oldest first."""
        return self._rows(
            "SELECT * FROM orders WHERE decision_id = ? ORDER BY created_ns, rowid", decision_id
        )

    def trade_of(self, *, trade_id: int | None, decision_id: int | None) -> Row | None:
        """Return a trade by its id or by that of its decision, None if there is none."""
        rows = self._rows(
            "SELECT * FROM trades WHERE trade_id = ? OR decision_id = ?", trade_id, decision_id
        )
        return rows[0] if rows else None

    def trade_of_order(self, order: Row) -> Row | None:
        """Return the trade that an order opens, protects or closes, None before its first fill."""
        trade_id = order["trade_id"] or self._trade_of_decision(order["decision_id"])
        return self.trade(trade_id) if trade_id is not None else None

    def knows_fill(self, exec_id: str) -> bool:
        """Whether an execution has been booked."""
        return bool(self._rows("SELECT 1 AS yes FROM fills WHERE exec_id = ?", exec_id))

    def book_fill(self, fill: Fill, *, is_inferred: bool = False) -> Row | None:
        """Write an execution and recompute its trade; return the trade's row.

        A known exec_id changes nothing and gives None, so that repeats, replays after a reconnect
        and reordered reports never count twice. None also for a fill of a protective order that
        comes before its entry's: it counts as soon as that is booked.

        Raises:
            RecordError: the order is not ours.
        """
        with self._write() as db:
            if self.knows_fill(fill.exec_id):
                return None
            order = self.order(fill.order_ref)
            db.table("fills").insert(
                {
                    "exec_id": fill.exec_id,
                    "order_ref": fill.order_ref,
                    "run_id": order["run_id"],
                    "symbol": fill.symbol,
                    "con_id": fill.con_id or order["con_id"],
                    "side": fill.side.value,
                    "shares": fill.shares,
                    "price": fill.price,
                    "filled_ns": fill.at_ns,
                    "commission_usd": fill.commission_usd,
                    "is_inferred": int(is_inferred),
                }
            )
            self._advance_by_fills(db, order)
            if not is_inferred:
                self._take_inferred_back(db, order)
            return self._recompute_trade(db, order)

    def _take_inferred_back(self, db: Database, order: Row) -> None:
        """Give up inferred shares that an execution explains after all, told of late.

        Both together would turn the trade round in the record, and its exit would do so in truth.
        """
        trade = self.trade_of_order(order)
        if trade is None:
            return
        total = ledger.total_of(self._rows, trade)
        beyond = -total.shares * Side(trade["side"]).sign
        inferred = self._rows(
            "SELECT fills.* FROM fills JOIN orders USING (order_ref)"
            " WHERE is_inferred AND trade_id = ? ORDER BY filled_ns DESC, exec_id DESC",
            trade["trade_id"],
        )
        for row in inferred:
            left = max(0.0, row["shares"] - max(0.0, beyond))
            beyond -= row["shares"] - left
            if left:
                update(db, "fills", "exec_id", row["exec_id"], {"shares": left})
                continue
            db.execute("DELETE FROM fills WHERE exec_id = ?", [row["exec_id"]])
            values = {"state": OrderState.CANCELLED.value, "message": "an execution explains it"}
            update(db, "orders", "order_ref", row["order_ref"], values)

    def book_commission(self, exec_id: str, commission_usd: float) -> Row | None:
        """Write the commission of an execution; return its trade's row, None if nothing is new."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE fills SET commission_usd = ? WHERE exec_id = ? AND commission_usd IS NOT ?",
                [commission_usd, exec_id, commission_usd],
            ).rowcount
            if not changed:
                return None
            row = self._rows("SELECT order_ref FROM fills WHERE exec_id = ?", exec_id)[0]
            return self._recompute_trade(db, self.order(row["order_ref"]))

    def commissions(self, *, since_ns: int) -> dict[str, float | None]:
        """Return exec_id -> commission in USD, None while it has not been reported.

        Args:
            since_ns: executions before this market time are left out, UTC epoch nanoseconds.
        """
        sql = "SELECT exec_id, commission_usd FROM fills WHERE filled_ns >= ?"
        rows = self._rows(sql, since_ns)
        return {row["exec_id"]: row["commission_usd"] for row in rows}

    def lacks_commissions(self, *, run_id: str | None = None, since_ns: int = 0) -> bool:
        """Whether the cost of a fill has not been reported yet.

        Args:
            run_id: of orders of this run, None: of any.
            since_ns: of executions from this market time on, UTC epoch nanoseconds.
        """
        sql = (
            "SELECT 1 AS yes FROM fills WHERE commission_usd IS NULL AND filled_ns >= ?"
            " AND (? IS NULL OR run_id = ?) LIMIT 1"
        )
        return bool(self._rows(sql, since_ns, run_id, run_id))

    def filled_shares(self, order_ref: str) -> float:
        """Return how many shares of an order have been executed."""
        sql = "SELECT exec_id, shares FROM fills WHERE order_ref = ? ORDER BY exec_id"
        rows = self._rows(sql, order_ref)
        return float(sum({without_revision(r["exec_id"]): r["shares"] for r in rows}.values()))

    def _advance_by_fills(self, db: Database, order: Row) -> None:
        filled = self.filled_shares(order["order_ref"])
        event = OrderEvent.FILL_ALL if filled >= order["shares"] else OrderEvent.FILL_PART
        state = with_fills(advance_order(OrderState(order["state"]), event))
        update(db, "orders", "order_ref", order["order_ref"], {"state": state.value})

    # --- trades ---------------------------------------------------------------------------

    def set_levels(self, trade_id: int, levels: Levels) -> None:
        """Replace target and first stop of a trade, once its average fill is known.

        A stop that a rule has drawn tighter stays where it is.
        """
        trade = self.trade(trade_id)
        stop, kind = levels.stop, ExitReason.STOP_LOSS
        is_moved = trade["stop_kind"] != kind.value
        if is_moved and Side(trade["side"]).tighter(stop, trade["stop"]) == trade["stop"]:
            stop, kind = trade["stop"], ExitReason(trade["stop_kind"])
        self.change_trade(
            trade_id,
            stop=stop,
            stop_kind=kind.value,
            first_stop=levels.stop,
            target=levels.target,
        )

    def change_trade(self, trade_id: int, **values: object) -> None:
        """Set columns of a trade that do not follow from its fills."""
        with self._write() as db:
            update(db, "trades", "trade_id", trade_id, values)

    def set_stop(self, trade_id: int, stop_usd: float, kind: ExitReason) -> None:
        """Move the stop of a trade, and say which rule has drawn it there."""
        self.change_trade(trade_id, stop=stop_usd, stop_kind=kind.value)

    def trade(self, trade_id: int) -> Row:
        """Return the row of a trade.

        Raises:
            RecordError: no such trade.
        """
        rows = self._rows("SELECT * FROM trades WHERE trade_id = ?", trade_id)
        if not rows:
            raise RecordError(f"{self.path}: no trade {trade_id}")
        return rows[0]

    def open_trades(self) -> list[Row]:
        """Return the open trades of all runs, oldest first."""
        return self._rows("SELECT * FROM trades WHERE state = 'OPEN' ORDER BY trade_id")

    def costs_complete(self, trade_id: int) -> bool:
        """Whether the commission of every fill of a trade has been reported."""
        return ledger.total_of(self._rows, self.trade(trade_id)).costs_complete

    def open_shares(self, trade_id: int) -> float:
        """Return the signed position of a trade, from its fills."""
        return self.shares_of(self.trade(trade_id))

    def shares_of(self, trade: Row) -> float:
        """Return the signed position of a trade whose row is known, from its fills."""
        return ledger.known_total_of(self.digest, trade).shares

    def positions(self) -> dict[int, float]:
        """Return con_id -> signed shares of all our open trades; flat ones are left out."""
        found: dict[int, float] = {}
        for trade in self.open_trades():
            con_id = trade["con_id"]
            found[con_id] = found.get(con_id, 0.0) + self.shares_of(trade)
        return {con_id: shares for con_id, shares in found.items() if shares}

    def _recompute_trade(self, db: Database, order: Row) -> Row | None:
        trade_id = order["trade_id"] or self._trade_of_decision(order["decision_id"])
        if trade_id is None and order["purpose"] != OrderPurpose.ENTRY.value:
            # Reports may overtake each other: the fill that opened it is still on its way.
            return None
        if trade_id is None:
            trade_id = self._open_trade(db, order)
        trade = self.trade(trade_id)
        fills, side = ledger.fills_of(self._rows, trade), Side(trade["side"])
        values = ledger.trade_values(fills, entry_side=side)
        if values["state"] == "CLOSED":
            last = [fill for fill in fills if fill.side is not side][-1]
            values["exit_reason"] = self.order(last.order_ref)["exit_reason"]
        else:
            values["exit_reason"] = None
        update(db, "trades", "trade_id", trade_id, values)
        return self.trade(trade_id)

    def _trade_of_decision(self, decision_id: int) -> int | None:
        rows = self._rows("SELECT trade_id FROM trades WHERE decision_id = ?", decision_id)
        return rows[0]["trade_id"] if rows else None

    def _open_trade(self, db: Database, order: Row) -> int:
        fill = self._rows("SELECT * FROM fills WHERE order_ref = ?", order["order_ref"])[0]
        table = db.table("trades").insert(
            {
                "decision_id": order["decision_id"],
                "run_id": order["run_id"],
                "symbol": order["symbol"],
                "con_id": order["con_id"],
                "side": order["side"],
                "state": "OPEN",
                "stop": order["stop"],
                "first_stop": order["stop"],
                "target": order["target"],
                "opened_ns": fill["filled_ns"],
                "shares": fill["shares"],
                "entry_price": fill["price"],
                "costs_usd": 0.0,
            }
        )
        return int(str(table.last_pk))


def values_of(run_id: str, intent: OrderIntent) -> Row:
    """Return the columns of an order that is about to be sent."""
    levels = intent.levels
    return {
        "order_ref": intent.order_ref,
        "run_id": run_id,
        "purpose": intent.purpose.value,
        "decision_id": intent.decision_id,
        "trade_id": intent.trade_id,
        "exit_reason": intent.exit_reason.value if intent.exit_reason else None,
        "symbol": intent.symbol,
        "con_id": intent.con_id,
        "side": intent.side.value,
        "shares": intent.shares,
        "stop": levels.stop if levels else None,
        "target": levels.target if levels else None,
        "atr": intent.atr,
        "state": OrderState.INTENT.value,
        "created_ns": intent.created_ns,
        "bid": intent.bid,
        "ask": intent.ask,
        "signal_price": intent.signal_price,
        "order_type": intent.order_type.value,
        "tif": intent.tif,
        "limit_price": intent.limit_price,
        "stop_price": intent.stop_price,
        "oca_group": intent.oca_group,
        "parent_ref": intent.parent_ref,
        "size_json": intent.size_json,
    }
