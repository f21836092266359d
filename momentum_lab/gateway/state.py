"""The gateway's memory over a restart: one JSON file, replaced as a whole.

Saved are orders, executions, positions, cash, the id counters, market time, and what of the tape a
halt has kept from happening. The file names the tape it belongs to; another tape's file is refused,
its prices would mean nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import RecordError
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.orders import Execution, Order, Position
from momentum_lab.gateway.plain import from_plain

FORMAT = 3
# Market time of the year 2200: calendars know no later one.
_LATEST_NS = 7_258_118_400 * NS_PER_S


@dataclass(frozen=True, slots=True)
class SavedExchange:
    """The account and its orders."""

    account: str
    cash_usd: float
    opening_usd: float
    positions: list[Position]
    orders: list[Order]
    executions: list[Execution]
    next_ids: dict[str, int]
    last_perm_id: int
    exec_prefix: str
    n_executions: int


@dataclass(frozen=True, slots=True)
class Saved:
    """What a state file holds.

    Attributes:
        hidden: symbol -> first and last row of each stretch that fell into a halt.
    """

    format: int
    tape_id: str
    now_ns: int
    has_streamed: bool
    exchange: SavedExchange
    hidden: dict[str, list[list[int]]] = field(default_factory=dict)


def save(
    path: Path,
    *,
    tape_id: str,
    now_ns: int,
    has_streamed: bool,
    exchange: Exchange,
    hidden: Mapping[str, list[list[int]]] | None = None,
    is_durable: bool = True,
) -> None:
    """Replace the state file; a crash at any moment leaves the old or the new one, whole.

    Args:
        path: the file; its folder is made if need be.
        tape_id: which tape `now_ns` belongs to.
        now_ns: market time.
        has_streamed: whether the clock runs.
        exchange: the account.
        hidden: as in `Saved`.
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
        "hidden": hidden or {},
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


def load(
    path: Path, *, tape_id: str, account: str, symbols: Collection[str] | None = None
) -> Saved | None:
    """Read a state file; None where there is none yet.

    Args:
        path: the file.
        tape_id: which tape it has to belong to.
        account: the account it has to be of.
        symbols: those of the tape, None to take any.

    Raises:
        RecordError: unreadable, of another format, tape or account, or a value in it cannot be;
            names the file and the field.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = (content["format"], content["tape_id"], content["exchange"]["account"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path} is not a state file of the paper gateway: {error}") from error
    for name, wanted, here in zip(
        ("format", "tape", "account"), (FORMAT, tape_id, account), found, strict=True
    ):
        if wanted != here:
            raise RecordError(
                f"{path} belongs to another {name}: expected {wanted}, found {here}; "
                "name another state file or remove this one"
            )
    saved: Saved = from_plain(Saved, content, str(path))
    _check(saved, str(path))
    found_symbols = [
        *(position.symbol for position in saved.exchange.positions),
        *(order.symbol for order in saved.exchange.orders),
        *(execution.symbol for execution in saved.exchange.executions),
        *saved.hidden,
    ]
    for symbol in found_symbols:
        if symbols is not None and symbol not in symbols:
            raise RecordError(f"{path}: expected symbols of its tape, found {symbol!r}")
    return saved


def _check(saved: Saved, where: str) -> None:
    if not 0 <= saved.now_ns < _LATEST_NS:
        raise RecordError(
            f"{where}.now_ns: expected 0 to {_LATEST_NS} nanoseconds, found {saved.now_ns}"
        )
    account = saved.exchange
    amounts = {"cash_usd": account.cash_usd, "opening_usd": account.opening_usd}
    amounts |= {f"positions.{one.symbol}": one.quantity for one in account.positions}
    for name, amount in amounts.items():
        if not math.isfinite(amount):
            raise RecordError(f"{where}.exchange.{name}: expected a finite number, found {amount}")
    for key in account.next_ids:
        if not key.removeprefix("-").isdecimal():
            raise RecordError(f"{where}.exchange.next_ids: expected a client id, found {key!r}")


def restore(saved: Saved, exchange: Exchange) -> None:
    """Put a saved account back into a fresh exchange."""
    account, books = saved.exchange, exchange.books
    exchange.account.ledger.restore(
        cash_usd=account.cash_usd, opening_usd=account.opening_usd, positions=account.positions
    )
    # What was held back was never sent, and is lost with the gateway.
    books.restore([replace(order, held_back=None) for order in account.orders])
    books.executions = account.executions
    books.next_ids = {int(key): value for key, value in account.next_ids.items()}
    books.last_perm_id = account.last_perm_id
    books.exec_prefix = account.exec_prefix
    books.n_executions = account.n_executions


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
