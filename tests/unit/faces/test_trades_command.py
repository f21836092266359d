"""`momentum-lab trades`: a table with totals, or data."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from momentum_lab.faces.cli import main
from tests.record_kit import a_day, empty_day


def call(*words: str) -> str:
    result = CliRunner().invoke(main, ["trades", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_screen_shows_gross_and_net_side_by_side(tmp_path: Path) -> None:
    output = call(f"--database={a_day(tmp_path)}")

    assert "gross USD  costs USD  net USD" in output
    assert "SPY     short     602" in output
    assert "trades: 1 closed on days: 1, with a gain: 0, still open: none" in output
    assert "STOP_LOSS" in output


def test_an_open_trade_is_shown_as_open(tmp_path: Path) -> None:
    output = call(f"--database={a_day(tmp_path, closes=False)}")

    assert "trades: 0 closed on days: 0, with a gain: 0, still open: SPY short 602" in output
    assert "still open" in output.splitlines()[2]
    assert "costs of what is still open, so far" in output


def test_no_trade_is_said(tmp_path: Path) -> None:
    assert "nothing was traded" in call(f"--database={empty_day(tmp_path)}")


def test_days_are_a_table_too(tmp_path: Path) -> None:
    assert "2013-10-09       1            0" in call(
        f"--database={a_day(tmp_path)}", "--what=daily"
    )


def test_data_goes_to_the_screen_or_to_a_file(tmp_path: Path) -> None:
    database = a_day(tmp_path)
    out = tmp_path / "fills.parquet"

    text = call(f"--database={database}", "--what=fills", "--format=csv")
    told = call(f"--database={database}", "--what=fills", "--format=parquet", f"--out={out}")

    assert len(pd.read_csv(StringIO(text))) == len(pd.read_parquet(out)) == 2
    assert told.startswith("2 rows: ")


@pytest.mark.parametrize("file_format", ["table", "csv", "parquet", "json"])
def test_a_database_is_never_written_over(tmp_path: Path, file_format: str) -> None:
    database = a_day(tmp_path)
    before = database.read_bytes()

    result = CliRunner().invoke(
        main, ["trades", f"--database={database}", f"--format={file_format}", f"--out={database}"]
    )

    assert result.exit_code == 2
    assert "expected a file of its own, found a database" in result.output
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--format=parquet",), "expected --out FILE"),
        (("--what=fills",), "expected --format csv, parquet or json"),
        (("--run=none",), "no run 'none'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    result = CliRunner().invoke(main, ["trades", f"--database={a_day(tmp_path)}", *words])

    assert result.exit_code == 2
    assert sentence in result.output
