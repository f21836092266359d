"""The views of the trade store: what a trade, a day and an order's slippage amount to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from momentum_lab.records.trade_store import TradeStore
from tests.record_kit import RUN_ID, a_day

NEW_YORK = ZoneInfo("America/New_York")
SHARES = 602


@pytest.fixture
def day(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(a_day(tmp_path))) as db:
        db.row_factory = sqlite3.Row
        yield db


def one(db: sqlite3.Connection, sql: str) -> sqlite3.Row:
    (row,) = db.execute(sql).fetchall()
    assert isinstance(row, sqlite3.Row)
    return row


def test_a_trade_is_told_with_the_facts_of_its_orders(day: sqlite3.Connection) -> None:
    row = one(day, "SELECT * FROM trade_view")

    assert (row["signal_price_usd"], row["entry_bid_usd"], row["entry_ask_usd"]) == (
        165.73,
        165.73,
        165.74,
    )
    assert row["entry_mid_usd"] == pytest.approx(165.735)
    assert (row["entry_price_usd"], row["exit_price_usd"]) == pytest.approx((165.72, 165.98))
    assert (row["exit_order_ref"], row["exit_reason"]) == ("ml-t1x1", "STOP_LOSS")
    assert row["exit_mid_usd"] == pytest.approx(165.965)
    assert row["duration_s"] == 177
    assert row["unprotected_s"] is None
    assert row["new_york_day"] == "2013-10-09"
    assert row["net_usd"] == pytest.approx(-0.26 * SHARES - 6.02)
    # By the stop of the decision, 165.99, not by the one that followed the fill.
    assert row["r_multiple"] == pytest.approx(row["net_usd"] / (SHARES * 0.27))


def test_slippage_is_positive_where_it_costs(day: sqlite3.Connection) -> None:
    entry = one(day, "SELECT * FROM slippage WHERE purpose = 'entry'")
    leave = one(day, "SELECT * FROM slippage WHERE purpose = 'exit'")

    assert entry["signal_slippage_usd"] == pytest.approx(0.01 * SHARES)
    assert entry["signal_slippage_bps"] == pytest.approx(0.01 / 165.73 * 1e4)
    assert entry["arrival_slippage_usd"] == pytest.approx(0.015 * SHARES)
    assert entry["commission_usd"] == 3.01
    # Left by the client at its stop, 165.97.
    assert leave["signal_slippage_usd"] == pytest.approx(0.01 * SHARES)
    assert leave["arrival_slippage_usd"] == pytest.approx(0.015 * SHARES)
    assert (entry["trade_id"], leave["trade_id"]) == (1, 1)


@pytest.mark.parametrize(
    ("reason", "signal_usd"),
    [("TAKE_PROFIT", 162.40), ("TRAIL", 165.97), ("BREAK_EVEN", 165.97), ("TIME_STOP", None)],
)
def test_an_exit_by_price_is_measured_against_the_level_that_asked_for_it(
    day: sqlite3.Connection, reason: str, signal_usd: float | None
) -> None:
    day.execute("UPDATE orders SET exit_reason = ? WHERE purpose = 'exit'", [reason])

    row = one(day, "SELECT * FROM slippage WHERE purpose = 'exit'")

    assert (row["signal_price_usd"], row["arrival_mid_usd"]) == (signal_usd, 165.965)


def test_a_protective_order_arrives_at_no_quote_that_is_known(day: sqlite3.Connection) -> None:
    day.execute(
        "UPDATE orders SET purpose = 'stop', decision_id = (SELECT decision_id FROM trades),"
        " trade_id = NULL, stop_price = 165.97, bid = 165.73, ask = 165.74"
        " WHERE order_ref = 'ml-t1x1'"
    )

    row = one(day, "SELECT * FROM slippage WHERE purpose = 'stop'")

    quote = ("arrival_bid_usd", "arrival_ask_usd", "arrival_mid_usd", "arrival_slippage_bps")
    assert [row[name] for name in quote] == [None] * 4
    assert row["signal_slippage_usd"] == pytest.approx(0.01 * SHARES)
    trade = one(day, "SELECT * FROM trade_view")
    assert (trade["exit_reason"], trade["exit_order_ref"]) == ("STOP_LOSS", "ml-t1x1")
    assert [trade[f"exit_{name}_usd"] for name in ("bid", "ask", "mid")] == [None] * 3


def test_a_day_sums_its_closed_trades(day: sqlite3.Connection) -> None:
    row = one(day, "SELECT * FROM daily_pnl")

    assert (row["new_york_day"], row["n_trades"], row["n_wins"]) == ("2013-10-09", 1, 0)
    assert row["gross_usd"] - row["costs_usd"] == pytest.approx(row["net_usd"])


def test_an_open_trade_is_in_no_day(tmp_path: Path) -> None:
    with closing(sqlite3.connect(a_day(tmp_path, closes=False))) as db:
        assert list(db.execute("SELECT * FROM daily_pnl")) == []
        assert list(db.execute("SELECT state, net_usd, r_multiple FROM trade_view")) == [
            ("OPEN", None, None)
        ]


def test_only_the_last_revision_of_an_execution_counts(day: sqlite3.Connection) -> None:
    rows = [
        (f"0000e0d5.5f1.01.{revision:02d}", shares, price)
        for revision, shares, price in ((1, 100.0, 10.0), (2, 50.0, 12.0))
    ]
    rows += [("0000e0d5.5f1.02.01", 50.0, 14.0), ("plain", 100.0, 15.0)]
    day.execute("DELETE FROM fills")
    for exec_id, shares, price in rows:
        day.execute(
            "INSERT INTO fills VALUES (?, 'ml-t1x1', ?, 'SPY', 1, 'BUY', ?, ?, 1, 0.25, 0)",
            (exec_id, RUN_ID, shares, price),
        )

    row = one(day, "SELECT * FROM order_fills")

    assert (row["shares"], row["n_fills"], row["commission_usd"]) == (200.0, 3, 0.75)
    assert row["price_usd"] == pytest.approx((50 * 12 + 50 * 14 + 100 * 15) / 200)


def test_the_day_is_new_yorks_through_every_change_of_its_clocks(tmp_path: Path) -> None:
    store = TradeStore(tmp_path / "trades.db")
    instants = [
        datetime(year, month, day, hour, minute, tzinfo=timezone.utc) + timedelta(seconds=second)
        for year in range(2007, 2040)
        for month, days in ((3, range(7, 16)), (11, range(1, 9)), (7, (1,)), (1, (1,)))
        for day in days
        for hour, minute, second in ((3, 59, 59), (4, 0, 0), (4, 59, 59), (5, 0, 0), (6, 30, 0))
    ]
    with closing(store), store.db.conn:
        store.db.execute("PRAGMA foreign_keys = OFF")
        for number, instant in enumerate(instants):
            store.db.execute(
                "INSERT INTO trades (trade_id, decision_id, run_id, symbol, con_id, side, state,"
                " stop, target, opened_ns, shares, entry_price, costs_usd)"
                " VALUES (?, ?, 'r', 'SPY', 1, 'BUY', 'OPEN', 1, 1, ?, 1, 1, 0)",
                [number, number, int(instant.timestamp()) * 10**9],
            )
        found = [
            row[0]
            for row in store.db.execute("SELECT new_york_day FROM trade_view ORDER BY trade_id")
        ]

    assert found == [f"{instant.astimezone(NEW_YORK):%Y-%m-%d}" for instant in instants]
