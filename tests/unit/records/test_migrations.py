"""A store of an earlier version becomes one of this version, with every row, or stays as it was."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from momentum_lab.errors import RecordError
from momentum_lab.records import migrations, schema
from momentum_lab.records.run_record import check_record, read_run
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON

DDL = {
    version: (Path(__file__).parent / f"store_version_{version}.sql").read_text(encoding="utf-8")
    for version in (1, 2)
}
RUN = "RUN-1"
TABLES = (
    "runs", "headlines", "decisions", "trades", "orders", "fills", "equity", "connection",
    "incidents",
)  # fmt: skip
ROWS = """
INSERT INTO runs VALUES
    ('RUN-1', 'replay', 'DU*****67', 's', 'h', '{}', 'r', 1, 2, NOON, NOON, 'the end'),
    ('RUN-2', 'paper', 'DU*****67', 's', 'h', '{}', 'r', 3, NULL, NULL, NULL,
     NULL);
INSERT INTO headlines VALUES
    ('z:1', 'RUN-1', 'z', '1', NOON, NOON, 'shock; SPY ''falls''', '["SPY"]', '', 2),
    ('a:2', 'RUN-1', 'a', '2', NOON, NOON, 'nothing', '[]', '', 0);
INSERT INTO decisions VALUES
    (7, 'z:1', 'RUN-1', NOON, 'SPY', 'enter', 'SHOCK', 'a shock', 2.6, 2.5, 'x ATR'),
    (8, 'a:2', 'RUN-1', NOON, NULL, 'pass', 'NO_TICKER', 'none', NULL, NULL, '');
INSERT INTO trades VALUES
    (3, 7, 'RUN-1', 'SPY', 756733, 'SELL', 'CLOSED', 101.0, 98.0, NOON, LATER, 100.0,
     100.0, 101.5, 'STOP_LOSS', -150.0, 1.0, -151.0);
INSERT INTO orders VALUES
    ('ml-d7', 'RUN-1', 'entry', 7, NULL, NULL, 'SPY', 756733, 'SELL', 100, 101.0, 98.0, 0.5,
     'FILLED', NOON, 99.9, 100.1, 100.2, 1, 11, NULL),
    ('ml-a', 'RUN-1', 'exit', NULL, 3, 'STOP_LOSS', 'SPY', 756733, 'BUY', 100, NULL, NULL, NULL,
     'FILLED', NOON, 101.3, 101.4, NULL, 2, 12, 'ok');
INSERT INTO fills VALUES
    ('9.1', 'ml-d7', 'RUN-1', 'SPY', 756733, 'SELL', 100.0, 100.0, NOON, 0.5),
    ('1.1', 'ml-a', 'RUN-1', 'SPY', 756733, 'BUY', 100.0, 101.5, LATER, 0.5);
INSERT INTO equity VALUES ('RUN-1', LATER, 1000.5), ('RUN-1', NOON, 1001.5);
INSERT INTO connection VALUES (4, 'RUN-1', 1, NULL, 'CONNECTING', 'connect', 'start');
INSERT INTO incidents VALUES (5, 'RUN-1', 1, NOON, 'news tape', NULL, 'DJNL');
"""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A file of version 1 with rows of each kind."""
    path = tmp_path / "trades.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(DDL[1])
        db.executescript(ROWS.replace("NOON", str(NOON)).replace("LATER", str(NOON + 10**9)))
        db.execute("PRAGMA user_version = 1")
        db.commit()
    return path


@pytest.fixture
def of_version_2(earlier: Path, tmp_path: Path) -> Path:
    """A file of version 2 with the same rows."""
    path = tmp_path / "version-2.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(DDL[2])
        db.execute("ATTACH ? AS earlier", [str(earlier)])
        for table, names in columns_of(earlier).items():
            columns = ", ".join(["rowid", *names])
            db.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM earlier.{table}")  # noqa: S608 - our own words
        db.execute("PRAGMA user_version = 2")
        db.commit()
    return path


def rows_of(path: Path, columns_of: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        return {
            table: list(db.execute(f"SELECT rowid, {', '.join(names)} FROM {table} ORDER BY rowid"))  # noqa: S608 - our own words
            for table, names in columns_of.items()
        }


def columns_of(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as db:
        return {t: [row[1] for row in db.execute(f"PRAGMA table_info({t})")] for t in TABLES}


def layout_of(path: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return sorted((kind, name, re.sub(r"\s+", " ", sql)) for kind, name, sql in found)


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return migrations.version_of(db)


def test_opening_a_store_of_version_1_keeps_every_row(earlier: Path) -> None:
    columns = columns_of(earlier)
    before = rows_of(earlier, columns)
    assert all(before.values())

    TradeStore(earlier).close()

    assert version_of(earlier) == schema.VERSION
    assert rows_of(earlier, columns) == before


def test_opening_a_store_of_version_2_keeps_every_row(of_version_2: Path) -> None:
    columns = columns_of(of_version_2)
    before = rows_of(of_version_2, columns)
    assert all(before.values())

    TradeStore(of_version_2).close()

    assert version_of(of_version_2) == schema.VERSION
    assert rows_of(of_version_2, columns) == before


@pytest.mark.parametrize(("kind", "first"), [("STOP_LOSS", 100.5), ("TRAIL", 101.0)])
def test_a_trade_of_version_2_learns_where_its_stop_was_first(
    of_version_2: Path, kind: str, first: float
) -> None:
    with closing(sqlite3.connect(of_version_2)) as db:
        db.execute("UPDATE trades SET stop = 100.5, stop_kind = ?", [kind])
        db.commit()

    with closing(TradeStore(of_version_2)) as store:
        assert store.trade(3)["first_stop"] == first


def test_a_migrated_file_has_the_layout_of_a_fresh_one(
    earlier: Path, of_version_2: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh.db"
    for path in (earlier, of_version_2, fresh):
        TradeStore(path).close()

    assert layout_of(earlier) == layout_of(of_version_2) == layout_of(fresh)
    with closing(sqlite3.connect(earlier)) as db:
        assert list(db.execute("PRAGMA integrity_check")) == [("ok",)]
        assert list(db.execute("PRAGMA foreign_key_check")) == []
        assert list(db.execute("PRAGMA journal_mode")) == [("wal",)]


def test_a_migrated_record_is_read_and_is_sound(earlier: Path) -> None:
    record = read_run(earlier, RUN)

    assert record.trades["stop_kind"].tolist() == ["STOP_LOSS"]
    assert record.orders["order_ref"].tolist() == ["ml-d7", "ml-a"]
    assert record.orders["order_type"].tolist() == ["MKT", "MKT"]
    assert not check_record(earlier)


def test_the_earlier_file_is_kept_beside_it(earlier: Path) -> None:
    columns = columns_of(earlier)
    before = rows_of(earlier, columns)

    copy = migrations.migrate(earlier)

    assert copy is not None
    assert copy.parent == earlier.parent
    assert copy.name.startswith("trades.db.version-1.")
    assert (version_of(copy), rows_of(copy, columns)) == (1, before)


def test_a_store_of_this_version_is_left_alone(tmp_path: Path) -> None:
    TradeStore(tmp_path / "trades.db").close()

    assert migrations.migrate(tmp_path / "trades.db") is None
    assert not list(tmp_path.glob("*version-*"))


def test_a_failure_in_the_middle_leaves_version_1(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, layout = columns_of(earlier), layout_of(earlier)
    before = rows_of(earlier, columns)

    def half(db: sqlite3.Connection) -> None:
        migrations.rebuild(db)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(migrations, "STEPS", {1: half})
    with pytest.raises(RecordError, match="stays as it was: database or disk is full"):
        TradeStore(earlier)

    assert (version_of(earlier), layout_of(earlier)) == (1, layout)
    assert rows_of(earlier, columns) == before


def test_a_process_killed_in_the_middle_leaves_version_1(earlier: Path) -> None:
    columns = columns_of(earlier)
    before = rows_of(earlier, columns)
    program = """
import os, sys
from pathlib import Path
from momentum_lab.records import migrations
def killed(db):
    migrations.rebuild(db)
    os._exit(9)
migrations.STEPS = {1: killed}
migrations.migrate(Path(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(earlier)], check=False)  # noqa: S603 - this interpreter

    assert done.returncode == 9
    assert (version_of(earlier), rows_of(earlier, columns)) == (1, before)
    TradeStore(earlier).close()
    assert (version_of(earlier), rows_of(earlier, columns)) == (schema.VERSION, before)


def test_of_two_openers_one_migrates_and_the_other_waits(earlier: Path) -> None:
    copies: list[Path | None] = []
    barrier = threading.Barrier(4)

    def open_it() -> None:
        barrier.wait()
        copies.append(migrations.migrate(earlier))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(copies) == 4
    assert [one is not None for one in copies].count(True) == 1
    assert len(list(earlier.parent.glob("trades.db.version-1.*"))) == 1
    assert version_of(earlier) == schema.VERSION


def test_a_row_that_a_table_no_longer_takes_stops_the_migration(earlier: Path) -> None:
    with closing(sqlite3.connect(earlier)) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE orders SET purpose = 'whim' WHERE order_ref = 'ml-a'")
        db.commit()

    with pytest.raises(RecordError, match="stays as it was"):
        TradeStore(earlier)

    assert version_of(earlier) == 1


def test_an_index_of_somebody_else_is_made_again(earlier: Path) -> None:
    with closing(sqlite3.connect(earlier)) as db:
        db.execute("CREATE INDEX mine ON decisions (symbol)")
        db.execute("CREATE TABLE notes (text TEXT)")
        db.commit()

    TradeStore(earlier).close()

    names = [name for _, name, _ in layout_of(earlier)]
    assert {"mine", "notes"} <= set(names)
    assert not [name for name in names if name.startswith("earlier")]
