"""The gateway's memory over a restart: one JSON file, replaced as a whole.

Saved are orders, executions, positions, cash, the id counters and market time. The file names
the tape it belongs to; another tape's file is refused, its prices would mean nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from momentum_lab.core.market import Instrument, Side
from momentum_lab.errors import RecordError
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.orders import Change, Execution, Order, Position, Ticket

FORMAT = 3


@dataclass(frozen=True, slots=True)
class Saved:
    """What a state file holds, still as plain values."""

    now_ns: int
    has_streamed: bool
    exchange: Mapping[str, Any]


def save(
    path: Path,
    *,
    tape_id: str,
    now_ns: int,
    has_streamed: bool,
    exchange: Exchange,
    is_durable: bool = True,
) -> None:
    """Replace the state file; a crash at any moment leaves the old or the new one, whole.

    Args:
        path: the file; its folder is made if need be.
        tape_id: which tape `now_ns` belongs to.
        now_ns: market time.
        has_streamed: whether the clock runs.
        exchange: the account.
        is_durable: it outlives a power cut too, and not only the end of the process; costs
            milliseconds.

    Raises:
        RecordError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "tape_id": tape_id,
        "now_ns": now_ns,
        "has_streamed": has_streamed,
        "exchange": _exchange_values(exchange),
    }
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RecordError(f"the gateway's state cannot be written to {path}: {error}") from error


def load(path: Path, *, tape_id: str, account: str) -> Saved | None:
    """Read a state file; None where there is none yet.

    Raises:
        RecordError: unreadable, of another format, of another tape or of another account.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = (content["format"], content["tape_id"], content["exchange"]["account"])
        saved = Saved(
            now_ns=int(content["now_ns"]),
            has_streamed=bool(content["has_streamed"]),
            exchange=content["exchange"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a state file of the paper gateway: {error}") from error
    for name, wanted, here in zip(
        ("format", "tape", "account"), (FORMAT, tape_id, account), found, strict=True
    ):
        if wanted != here:
            raise RecordError(
                f"{path} belongs to another {name}: expected {wanted}, found {here}; "
                "name another state file or remove this one"
            )
    return saved


def restore(saved: Saved, exchange: Exchange) -> None:
    """Put a saved account back into a fresh exchange.

    Raises:
        RecordError: the saved values do not fit together.
    """
    values = saved.exchange
    try:
        exchange.account.ledger.restore(
            cash_usd=values["cash_usd"],
            opening_usd=values["opening_usd"],
            positions=[Position(**row) for row in values["positions"]],
        )
        books = exchange.books
        books.restore([_order(row) for row in values["orders"]])
        books.executions = [
            Execution(**{**row, "side": Side(row["side"])}) for row in values["executions"]
        ]
        books.next_ids = {int(key): value for key, value in values["next_ids"].items()}
        books.last_perm_id = values["last_perm_id"]
        books.exec_prefix = values["exec_prefix"]
        books.n_executions = values["n_executions"]
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"the gateway's state cannot be restored: {error}") from error


def _exchange_values(exchange: Exchange) -> dict[str, Any]:
    ledger, books = exchange.account.ledger, exchange.books
    return {
        "account": exchange.account.code,
        "cash_usd": ledger.cash_usd,
        "opening_usd": ledger.opening_usd,
        "positions": [asdict(position) for position in ledger.positions.values()],
        "orders": [asdict(order) for order in books.orders.values()],
        "executions": [asdict(execution) for execution in books.executions],
        "next_ids": {str(key): value for key, value in books.next_ids.items()},
        "last_perm_id": books.last_perm_id,
        "exec_prefix": books.exec_prefix,
        "n_executions": books.n_executions,
    }


def _order(row: Mapping[str, Any]) -> Order:
    changes = [Change(_ticket(change["ticket"]), change["arrives_ns"]) for change in row["changes"]]
    # What was held back was never sent, and is lost with the gateway.
    restored = {"ticket": _ticket(row["ticket"]), "changes": tuple(changes), "held_back": None}
    return Order(**{**row, **restored})


def _ticket(row: Mapping[str, Any]) -> Ticket:
    restored = {
        "instrument": Instrument(**row["instrument"]),
        "side": Side(row["side"]),
        "echoed": tuple((name, value) for name, value in row["echoed"]),
    }
    return Ticket(**{**row, **restored})
