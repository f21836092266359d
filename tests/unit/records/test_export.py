"""Exports: every table as a frame with its types, as files that other programs read back."""

from __future__ import annotations

import json
from datetime import date
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from momentum_lab.errors import RecordError
from momentum_lab.records.export import Export, read_export, text_of, write_export
from tests.record_kit import RUN_ID, a_day, empty_day

EXPORTS: tuple[Export, ...] = ("trades", "daily", "slippage", "orders", "fills", "decisions")


@pytest.mark.parametrize("export", EXPORTS)
def test_parquet_gives_back_the_frame(tmp_path: Path, export: Export) -> None:
    frame = read_export(a_day(tmp_path), export)
    path = tmp_path / "out" / f"{export}.parquet"

    write_export(frame, path, "parquet")

    assert not frame.empty
    found = pd.read_parquet(path)
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)
    assert [kind.kind for kind in found.dtypes] == [kind.kind for kind in frame.dtypes]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("export", EXPORTS)
def test_an_empty_export_has_the_same_columns_and_types(tmp_path: Path, export: Export) -> None:
    (tmp_path / "empty").mkdir()
    frame = read_export(a_day(tmp_path), export)
    empty = read_export(empty_day(tmp_path / "empty"), export)

    assert empty.empty
    assert empty.dtypes.to_dict() == frame.dtypes.to_dict()


def test_an_instant_is_told_in_utc_and_in_new_york(tmp_path: Path) -> None:
    frame = read_export(a_day(tmp_path), "trades")
    table = pd.read_csv(StringIO(text_of(frame, "csv")))
    (row,) = json.loads(text_of(frame, "json"))

    assert table["opened_utc"][0] == "2013-10-09 18:00:31+00:00"
    assert table["opened_new_york"][0] == "2013-10-09 14:00:31-04:00"
    assert table["opened_ns"][0] == frame["opened_ns"][0]
    assert row["closed_new_york"] == "2013-10-09T14:03:28-04:00"
    assert row["net_usd"] == pytest.approx(frame["net_usd"][0])


def test_the_days_of_a_run_are_those_of_the_view(tmp_path: Path) -> None:
    database = a_day(tmp_path)
    whole = read_export(database, "daily")
    pd.testing.assert_frame_equal(read_export(database, "daily", run_id=RUN_ID), whole)


@pytest.mark.parametrize("export", EXPORTS)
def test_earlier_rows_are_left_out(tmp_path: Path, export: Export) -> None:
    database = a_day(tmp_path)
    assert not read_export(database, export, since=date(2013, 10, 9)).empty
    assert read_export(database, export, since=date(2013, 10, 10)).empty


def test_an_open_trade_is_never_left_out(tmp_path: Path) -> None:
    database = a_day(tmp_path, closes=False)
    assert len(read_export(database, "trades", since=date(2099, 1, 1))) == 1
    assert read_export(database, "daily", since=date(2013, 10, 9)).empty


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no run 'none'"):
        read_export(a_day(tmp_path), "trades", run_id="none")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    frame = read_export(a_day(tmp_path), "trades")
    target = tmp_path / "taken"
    (target / "inside").mkdir(parents=True)

    with pytest.raises(RecordError, match="cannot write"):
        write_export(frame, target, "csv")

    assert (target / "inside").is_dir()
    assert not list(tmp_path.glob(".taken-*"))
