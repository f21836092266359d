from __future__ import annotations

import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from momentum_lab.errors import RecordError
from momentum_lab.records.run_record import RunRecord, check_record, read_run
from tests.record_kit import RUN_ID, a_day, break_store, empty_day

TABLES = (
    "headlines", "trades", "orders", "fills", "equity", "connection", "incidents", "risk_states",
    "differences", "quotes",
)  # fmt: skip


@pytest.fixture
def day(tmp_path: Path) -> Path:
    return a_day(tmp_path)


def record_of(database: Path) -> RunRecord:
    return read_run(database, RUN_ID, folder=database.parent / "runs" / RUN_ID)


def test_a_headline_stands_beside_its_decision(day: Path) -> None:
    headlines = record_of(day).headlines.set_index("article_id")

    entered = headlines.loc["A1"]
    assert (entered["outcome"], entered["reason"]) == ("enter", "SHOCK")
    assert entered["text"].startswith("Market View")
    assert "moved" in entered["decision_text"]
    assert (entered["observed"], entered["limit_value"]) == (2.6, 2.5)
    assert headlines.loc["A2", "reason"] == "NO_TICKER"


def test_instants_stand_also_as_new_york_time(day: Path) -> None:
    trade = record_of(day).trades.iloc[0]

    assert trade["opened_at"] == pd.Timestamp(trade["opened_ns"], unit="ns", tz="UTC")
    assert str(trade["opened_at"].tz) == "America/New_York"
    assert trade["opened_at"].strftime("%H:%M:%S") == "14:00:31"


def test_quotes_of_a_folder_are_read_in_time_order(day: Path) -> None:
    quotes = record_of(day).quotes

    assert not quotes.empty
    assert quotes["at_ns"].is_monotonic_increasing
    assert list(quotes.columns[:4]) == ["symbol", "at_ns", "bid", "ask"]


def test_without_a_folder_there_are_no_quotes_and_no_error(day: Path) -> None:
    assert read_run(day, RUN_ID).quotes.empty


def test_an_empty_run_has_the_types_of_a_full_one(day: Path, tmp_path: Path) -> None:
    full = record_of(day)
    empty = record_of(empty_day(tmp_path / "other"))

    for name in TABLES:
        assert getattr(empty, name).empty
        pd.testing.assert_series_equal(getattr(empty, name).dtypes, getattr(full, name).dtypes)


def test_a_trade_that_is_open_has_no_time_of_exit(tmp_path: Path) -> None:
    trade = record_of(a_day(tmp_path, closes=False)).trades.iloc[0]

    assert trade["state"] == "OPEN"
    assert pd.isna(trade["closed_at"])
    assert pd.isna(trade["closed_ns"])


def test_reading_changes_no_byte(day: Path) -> None:
    before = day.read_bytes()

    record_of(day)

    assert day.read_bytes() == before


def test_an_unknown_run_is_refused_and_the_known_ones_named(day: Path) -> None:
    with pytest.raises(RecordError, match=f"no run 'other'; its latest runs are: {RUN_ID}"):
        read_run(day, "other")


def test_a_missing_store_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no trade store"):
        read_run(tmp_path / "none.db", RUN_ID)

    assert not (tmp_path / "none.db").exists()


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(RecordError, match="expected a trade store of version 3, found version 99"):
        check_record(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database, just a text that is long enough to be looked at" * 20)

    with pytest.raises(RecordError, match="could not be read"):
        check_record(path)


def test_a_sound_store_has_no_violations(day: Path) -> None:
    assert check_record(day) == []


def test_an_open_position_is_named(tmp_path: Path) -> None:
    found = check_record(a_day(tmp_path, closes=False))

    assert found == ["trade 1 (SPY) is still open with -602 shares"]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("DELETE FROM decisions WHERE reason = 'NO_TICKER'", "has 0 decisions, expected exactly"),
        ("UPDATE fills SET order_ref = 'nobody' WHERE side = 'BUY'", "belongs to no order"),
        ("UPDATE orders SET decision_id = 99 WHERE purpose = 'entry'", "belongs to no decision"),
        ("UPDATE orders SET trade_id = 99 WHERE purpose = 'exit'", "belongs to no decision"),
        ("UPDATE fills SET shares = 600 WHERE side = 'BUY'", "its fills sum to -2 shares"),
        ("UPDATE trades SET shares = 1", "says 1 shares, its entry fills sum to 602"),
        ("UPDATE trades SET net_usd = 1000000", "says a net profit of 1000000.0 USD"),
        ("UPDATE orders SET state = 'UNKNOWN' WHERE purpose = 'exit'", "has no known end"),
        ("UPDATE equity SET run_id = 'nobody'", "of equity points at a missing row of runs"),
    ],
)
def test_damage_is_found_and_said(day: Path, damage: str, expected: str) -> None:
    break_store(day, damage)

    assert any(expected in sentence for sentence in check_record(day))
