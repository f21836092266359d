"""Judges a day after the fact: the session's store against what the gateway knows.

The gateway's log (`launch.Truth`) and its saved account are the truth. A violation is one sentence.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from momentum_lab.core.order import OrderPurpose, parse_order_ref
from momentum_lab.errors import RecordError
from momentum_lab.gateway.orders import DONE
from momentum_lab.records.run_record import check_record
from tests.kill_anywhere.day import CASH_USD

# Whether a position has to be protected at the broker before a session that was started again
# sends anything.
STOPS_REST_AT_BROKER = True
# A session that is connected ends what protects nothing, and protects what is bare, within so long.
ORPHAN_S = 6.0
BARE_S = 15.0

_CENT_USD = 0.005
_STOP_SIDE = {True: "SELL", False: "BUY"}
Row = Mapping[str, Any]


def judge(folder: Path, *, must_protect: bool = STOPS_REST_AT_BROKER) -> list[str]:
    """Return one sentence for each thing that must not be; none means that the day is sound."""
    truth = read_truth(folder / "truth.jsonl")
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))["exchange"]
    database = folder / "disk" / "trades.db"
    try:
        found = [*_broken_database(database)]
        store = _Store(database)
    except (sqlite3.Error, RecordError) as error:
        return [f"database: {error}"]
    found += _orders_twice(truth)
    found += _orders_without_record(truth, store)
    found += _fills_forgotten(truth, state["executions"])
    found += _fills_that_differ(state["executions"], store)
    found += _exits_too_large(state["executions"], store)
    found += _not_flat(state, store)
    found += _left_working(state["orders"])
    if must_protect:
        found += unprotected(truth)
        found += lasting(truth)
    return found


def read_truth(path: Path) -> list[Row]:
    """Return the lines of the gateway's log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def exit_reasons(folder: Path) -> tuple[str, ...]:
    """Return why the trades of a day were closed, in order of the words."""
    return tuple(
        sorted(str(row["exit_reason"]) for row in _Store(folder / "disk" / "trades.db").trades)
    )


def still_held(folder: Path) -> list[str]:
    """Return what is held though its exit was due while nothing could be written.

    What the record does not know, since not even the first fill could be booked, the session cannot
    close; its stop at the broker has to cover it.
    """
    books = [line for line in read_truth(folder / "truth.jsonl") if line["what"] == "book"]
    if not books:
        return []
    known = {row["symbol"] for row in _Store(folder / "disk" / "trades.db").open_trades}
    return [
        f"exit did not leave: {shares:+d} {symbol} held"
        for symbol, shares in books[-1]["held"].items()
        if symbol in known or _covered(books[-1], symbol) < abs(shares)
    ]


class _Store:
    """The rows that are compared, read once."""

    def __init__(self, database: Path) -> None:
        connection = sqlite3.connect(database)
        connection.row_factory = sqlite3.Row
        try:
            self.orders, self.fills, self.trades = (
                [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608 - three words
                for table in ("orders", "fills", "trades")
            )
            self.articles = [
                row["article_id"]
                for row in connection.execute(
                    "SELECT article_id FROM orders JOIN decisions USING (decision_id)"
                    " JOIN headlines USING (headline_id) WHERE purpose = 'entry'"
                )
            ]
        finally:
            connection.close()
        self.open_trades = [row for row in self.trades if row["state"] != "CLOSED"]
        self.purposes = {row["order_ref"]: row["purpose"] for row in self.orders}


def _broken_database(database: Path) -> Iterator[str]:
    connection = sqlite3.connect(database)
    try:
        (told,) = connection.execute("PRAGMA integrity_check").fetchone()
    finally:
        connection.close()
    if told != "ok":
        yield f"database: integrity check says {told}"
    for sentence in check_record(database):
        yield f"record: {sentence}"


def _orders_twice(truth: Sequence[Row]) -> Iterator[str]:
    arrived = Counter(
        line["order_ref"] for line in truth if line["what"] == "order" and line["is_new"]
    )
    for order_ref, times in arrived.items():
        if times > 1:
            yield f"order twice: {order_ref} arrived {times} times as a new order"


def _orders_without_record(truth: Sequence[Row], store: _Store) -> Iterator[str]:
    refs = {line["order_ref"] for line in truth if line["what"] == "order"}
    for order_ref in sorted(refs - store.purposes.keys()):
        yield f"order without a record: {order_ref}"


def _fills_forgotten(truth: Sequence[Row], executions: Sequence[Row]) -> Iterator[str]:
    """A gateway that comes back has to know what it has told."""
    told = {line["exec_id"] for line in truth if line["what"] == "fill"}
    for exec_id in sorted(told - {row["exec_id"] for row in executions}):
        yield f"fill forgotten by the gateway: {exec_id}"


def _fills_that_differ(executions: Sequence[Row], store: _Store) -> Iterator[str]:
    """Compare to the share and to the cent, commissions too."""
    booked = {row["exec_id"]: row for row in store.fills}
    known = {row["exec_id"]: row for row in executions}
    for exec_id in sorted(known.keys() - booked.keys()):
        fill = known[exec_id]
        yield (
            f"fill lost: {exec_id} {fill['side']} {fill['shares']} {fill['symbol']}"
            f" of {fill['order_ref']}"
        )
    for exec_id in sorted(booked.keys() - known.keys()):
        yield f"fill invented: {exec_id} of {booked[exec_id]['order_ref']}"
    for exec_id in sorted(booked.keys() & known.keys()):
        ours, theirs = booked[exec_id], known[exec_id]
        if (ours["order_ref"], ours["side"], ours["shares"]) != (
            theirs["order_ref"],
            theirs["side"],
            theirs["shares"],
        ):
            yield f"fill differs: {exec_id}: {ours} against {theirs}"
        for name, here, there in (
            ("price", ours["price"], theirs["price_usd"]),
            ("commission", ours["commission_usd"], theirs["commission_usd"]),
        ):
            if here is None or abs(here - there) > _CENT_USD:
                yield f"{name} differs: {exec_id}: {here} in the store, {there} at the gateway"


def _exits_too_large(executions: Sequence[Row], store: _Store) -> Iterator[str]:
    """An exit that fills twice, or after another one, opens what it should have closed."""
    held: Counter[str] = Counter()
    for fill in executions:
        before = held[fill["symbol"]]
        after = before + (fill["shares"] if fill["side"] == "BUY" else -fill["shares"])
        held[fill["symbol"]] = after
        is_entry = store.purposes.get(fill["order_ref"]) == "entry"
        if not is_entry and (before * after < 0 or abs(after) > abs(before)):
            yield f"exit opened a position: {fill['order_ref']} took {before:+d} to {after:+d}"
    for article_id, times in Counter(store.articles).items():
        if times > 1:
            yield f"entry twice: {article_id} has {times} entries"


def _not_flat(state: Row, store: _Store) -> Iterator[str]:
    for row in state["positions"]:
        if row["quantity"]:
            yield f"not flat: the gateway holds {row['quantity']:+d} {row['symbol']} in the end"
    made_usd = sum(row["net_usd"] or 0.0 for row in store.trades)
    gained_usd = state["cash_usd"] - CASH_USD
    if abs(made_usd - gained_usd) > _CENT_USD * (1 + len(store.trades)):
        yield f"profit differs: {made_usd:.2f} USD in the store, {gained_usd:.2f} at the gateway"


def _left_working(orders: Sequence[Row]) -> Iterator[str]:
    for order in orders:
        if order["status"] not in DONE:
            yield f"left working: {order['ticket']['order_ref']} is {order['status']}"


def unprotected(truth: Sequence[Row]) -> list[str]:
    """Return the orders that a session sent after a restart while a position had no stop.

    It may send what protects, and the exit of a position: in the group of its stop, or of a
    position that no stop covers at all. Everything else has to wait until all of it is covered.
    """
    found: list[str] = []
    groups: dict[str, str] = {}
    n_connected = 0
    book: Row = {"held": {}, "stops": []}
    for line in truth:
        if line["what"] == "connect":
            n_connected += 1
        elif line["what"] == "book":
            book = line
        elif line["what"] == "order" and line["order_type"] == "STP":
            groups[line["symbol"]] = line["oca_group"]
        elif line["what"] == "order" and not _protects(line) and n_connected > 1:
            found += _bare(book, line, groups)
    return list(dict.fromkeys(found))


def _protects(order: Row) -> bool:
    name = parse_order_ref(order["order_ref"])
    return name is not None and name.purpose in (OrderPurpose.STOP, OrderPurpose.TARGET)


def _bare(book: Row, order: Row, groups: Mapping[str, str]) -> Iterator[str]:
    for symbol, shares in book["held"].items():
        covered = _covered(book, symbol)
        closes = (
            order["symbol"] == symbol
            and order["action"] == _STOP_SIDE[shares > 0]
            and order["total_quantity"] <= abs(shares)
        )
        in_group = order["oca_group"] and order["oca_group"] == groups.get(symbol)
        if covered < abs(shares) and not (closes and (in_group or not covered)):
            yield (
                f"not protected: {shares:+d} {symbol}, stops for {covered} shares when"
                f" {order['order_ref']} arrived"
            )


def _covered(book: Row, symbol: str) -> int:
    wanted = _STOP_SIDE[book["held"][symbol] > 0]
    return sum(n for name, side, n in book["stops"] if (name, side) == (symbol, wanted))


def lasting(truth: Sequence[Row]) -> list[str]:
    """Return what a connected session left as it was for too long.

    That is an order that protects nothing, and a position that nothing protects.
    """
    found: list[str] = []
    since_s: dict[str, float] = {}
    for line in truth:
        if line["what"] in ("connect", "leave"):
            # Nobody was there; whoever comes has to find it out.
            since_s = {}
        elif line["what"] == "book":
            at_s: float = line["at_s"]
            bare = [name for name, n in line["held"].items() if _covered(line, name) < abs(n)]
            wrong = {f"protects nothing: {ref}": ORPHAN_S for ref in line.get("orphans", ())}
            wrong |= {f"not protected: {line['held'][s]:+d} {s}": BARE_S for s in bare}
            found += [
                f"{what} for {at_s - since_s[what]:.1f} s"
                for what, limit_s in wrong.items()
                if at_s - since_s.get(what, at_s) > limit_s
            ]
            since_s = {what: since_s.get(what, at_s) for what in wrong}
    return list(dict.fromkeys(found))
