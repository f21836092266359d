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

from momentum_lab.errors import RecordError
from momentum_lab.records.run_record import check_record
from tests.kill_anywhere.day import CASH_USD

# Whether a position has to be protected at the broker before a session that was started again
# sends anything. Off: stops are kept by the session so far, and none rests at the broker.
STOPS_REST_AT_BROKER = False

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
    if must_protect:
        found += unprotected(truth)
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
    """Return what is held though its exit was due while nothing could be written."""
    books = [line for line in read_truth(folder / "truth.jsonl") if line["what"] == "book"]
    held = books[-1]["held"] if books else {}
    return [f"exit did not leave: {shares:+d} {symbol} held" for symbol, shares in held.items()]


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


def unprotected(truth: Sequence[Row]) -> list[str]:
    """Return the positions without a stop at the broker after a restart, from the first order on.

    A session that comes back may find a position without a stop; before it sends any other order
    there has to be one. So what counts is the broker's book from its first order on that is no
    stop itself.
    """
    found: list[str] = []
    n_connected, is_watched = 0, False
    for line in truth:
        if line["what"] == "connect":
            n_connected, is_watched = n_connected + 1, False
        elif line["what"] == "order" and line["order_type"] != "STP":
            is_watched = n_connected > 1
        elif line["what"] == "book" and is_watched:
            found += _bare(line)
    return list(dict.fromkeys(found))


def _bare(book: Row) -> Iterator[str]:
    for symbol, shares in book["held"].items():
        wanted = _STOP_SIDE[shares > 0]
        covered = sum(n for name, side, n in book["stops"] if (name, side) == (symbol, wanted))
        if covered < abs(shares):
            yield f"not protected: {shares:+d} {symbol}, stops for {covered} shares"
