"""Captured quotes: one row per symbol and second, in parts, through failures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.core.market import NS_PER_S, Quote
from momentum_lab.errors import RecordError
from momentum_lab.records.capture import COLUMNS, QuoteCapture
from tests.factories import NOON

MS = 1_000_000


def quote(symbol: str, at_ms: int, bid: float) -> Quote:
    return Quote(symbol, NOON + at_ms * MS, bid, bid + 0.01, 100, 200, bid)


words = st.lists(
    st.tuples(st.sampled_from(("AAA", "BBB")), st.integers(0, 5_000), st.booleans()), max_size=40
).map(lambda found: sorted(found, key=lambda word: word[1]))


@given(words)
def test_the_last_word_of_each_second_is_kept_wherever_the_parts_are_cut(
    found: list[tuple[str, int, bool]],
) -> None:
    last: dict[tuple[str, int], tuple[int, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        capture = QuoteCapture(Path(place) / "quotes.parquet")
        for number, (symbol, at_ms, ends_part) in enumerate(found):
            capture.add(quote(symbol, at_ms, 10.0 + number))
            last[symbol, (NOON + at_ms * MS) // NS_PER_S] = NOON + at_ms * MS, 10.0 + number
            if ends_part:
                capture.write_part()
        capture.close()
        files = sorted(path.name for path in Path(place).iterdir())
        assert files == (["quotes.parquet"] if found else [])
        rows = pd.read_parquet(capture.path) if found else pd.DataFrame(columns=list(COLUMNS))

    assert {
        (row.symbol, row.at_ns // NS_PER_S): (row.at_ns, row.bid) for row in rows.itertuples()
    } == last
    assert len(rows) == len(last)


def test_a_line_that_shows_nothing_gives_no_row(tmp_path: Path) -> None:
    capture = QuoteCapture(tmp_path / "quotes.parquet")
    capture.add(Quote("AAA", 0, None, None, None, None, None))
    capture.close()

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_side_is_kept_as_unknown(tmp_path: Path) -> None:
    capture = QuoteCapture(tmp_path / "quotes.parquet")
    capture.add(Quote("AAA", NOON, 10.0, None, 100, None, None))
    capture.close()

    (row,) = pd.read_parquet(capture.path).to_dict("records")
    assert row["bid"] == 10.0
    assert pd.isna(row["ask"])


def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.write_text("in the way")
    capture = QuoteCapture(folder / "quotes.parquet")
    for at_ms in (0, 1000, 2000):
        capture.add(quote("AAA", at_ms, 10.0))
    with pytest.raises(RecordError, match="could not be written"):
        capture.write_part()

    folder.unlink()
    capture.write_part()
    assert len(pd.read_parquet(folder / "quotes.part0000.parquet")) == 2
    capture.close()
    assert len(pd.read_parquet(capture.path)) == 3


def test_parts_that_cannot_be_joined_stay_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    capture = QuoteCapture(tmp_path / "quotes.parquet")
    for at_ms in (0, 1000, 2000, 3000):
        capture.add(quote("AAA", at_ms, 10.0))
        capture.write_part()
    parts = sorted(tmp_path.iterdir())
    parts[1].write_bytes(parts[1].read_bytes()[:-10])
    with pytest.raises(RecordError, match=r"quotes\.parquet: could not be written"):
        capture.close()

    left = sorted(tmp_path.iterdir())
    assert set(parts) < set(left)
    assert capture.path not in left
    assert [path.name for path in left if path.suffix != ".parquet"] == []


def test_a_part_that_knows_nothing_of_a_side_is_read_like_the_others(tmp_path: Path) -> None:
    capture = QuoteCapture(tmp_path / "quotes.parquet")
    for at_ms in (0, 1000):
        capture.add(Quote("AAA", NOON + at_ms * MS, None, 10.0, None, 100, None))
    capture.write_part()
    (part,) = tmp_path.iterdir()

    kinds = pd.read_parquet(part).dtypes
    assert kinds["bid"] == kinds["ask"] == "float64"
    assert kinds["at_ns"] == "int64"
