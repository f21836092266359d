from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from momentum_lab.errors import RecordError
from momentum_lab.records.tape import HEADLINE_COLUMNS, load_tape, tape_id, write_tape
from momentum_lab.records.tape_news import (
    EXCHANGE_DOWN,
    EXCHANGE_UP,
    NOTICE,
    TapeBulletin,
    bulletin_table,
)
from tests.factories import NOON, tape, tape_headline

PDF = base64.b64encode(b"%PDF-1.4 \x00\xff").decode()
BULLETINS = (
    TapeBulletin(NOON, NOTICE, "System notice: «übung»\nsecond line"),
    TapeBulletin(NOON, EXCHANGE_DOWN, "NYSE is down", "NYSE"),
    TapeBulletin(NOON + 1, EXCHANGE_UP, "NYSE is back", "NYSE"),
)


def test_a_tape_without_bulletins_has_no_file_of_them(tmp_path: Path) -> None:
    write_tape(tape(), tmp_path)
    assert not (tmp_path / "bulletins.parquet").exists()
    assert load_tape(tmp_path).bulletins == ()


def test_bulletins_are_read_back_in_time_order(tmp_path: Path) -> None:
    write_tape(replace(tape(), bulletins=BULLETINS[2:] + BULLETINS[:2]), tmp_path)
    assert load_tape(tmp_path).bulletins == BULLETINS


def test_bulletins_of_an_older_tape_in_the_folder_are_gone(tmp_path: Path) -> None:
    write_tape(replace(tape(), bulletins=BULLETINS), tmp_path)
    write_tape(tape(), tmp_path)
    assert load_tape(tmp_path).bulletins == ()


def test_the_id_of_a_tape_covers_its_bulletins(tmp_path: Path) -> None:
    ids = []
    for bulletins in ((), BULLETINS, BULLETINS[:1]):
        write_tape(replace(tape(), bulletins=bulletins), tmp_path)
        ids.append(tape_id(tmp_path))
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"bulletin_type": 0},
        {"bulletin_type": 4},
        {"bulletin_type": 1.5},
        {"at_ns": "noon"},
        {"at_ns": float("nan")},
        {"text": None},
        {"exchange": 7},
    ],
    ids=str,
)
def test_an_impossible_bulletin_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_tape(tape(), tmp_path)
    table = bulletin_table(BULLETINS[:1]).assign(**changes)
    table.to_parquet(tmp_path / "bulletins.parquet", index=False)
    with pytest.raises(RecordError, match=r"bulletins\.parquet: expected at_ns as a whole number"):
        load_tape(tmp_path)


def test_a_table_of_bulletins_without_a_column_is_refused(tmp_path: Path) -> None:
    write_tape(tape(), tmp_path)
    table = bulletin_table(BULLETINS).drop(columns="exchange")
    table.to_parquet(tmp_path / "bulletins.parquet", index=False)
    with pytest.raises(RecordError, match=r"bulletins\.parquet: columns \['exchange'\]"):
        load_tape(tmp_path)


def test_kinds_of_articles_are_read_back_as_they_were(tmp_path: Path) -> None:
    headlines = (
        replace(tape_headline(article_id="a"), body="text"),
        replace(tape_headline(article_id="b"), body="<p>html</p>", body_kind="html"),
        replace(tape_headline(article_id="c"), body=PDF, body_kind="base64"),
    )
    write_tape(tape(headlines=headlines), tmp_path)
    assert load_tape(tmp_path).headlines == headlines


def test_a_tape_of_plain_articles_is_as_it_was_before_there_were_kinds(tmp_path: Path) -> None:
    write_tape(tape(), tmp_path)
    assert list(pd.read_parquet(tmp_path / "headlines.parquet").columns) == list(HEADLINE_COLUMNS)
    (headline,) = load_tape(tmp_path).headlines
    assert headline.body_kind == "text"


@pytest.mark.parametrize("body", ["", "no base64!", PDF[:-1], PDF + "\n", "übung"])
def test_an_article_that_is_no_base64_is_refused_by_name(tmp_path: Path, body: str) -> None:
    spoiled = replace(tape_headline(), body=body, body_kind="base64")
    write_tape(tape(headlines=(spoiled,)), tmp_path)
    with pytest.raises(RecordError, match=r"article BRFG\$00000001: expected a body in base64"):
        load_tape(tmp_path)


def test_an_unknown_kind_of_article_is_refused(tmp_path: Path) -> None:
    write_tape(tape(headlines=(replace(tape_headline(), body_kind="pdf"),)), tmp_path)
    with pytest.raises(RecordError, match="expected body_kind text, html, base64, found 'pdf'"):
        load_tape(tmp_path)
