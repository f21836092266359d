from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from momentum_lab.core.candle import MINUTE_NS
from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.news import tickers_in
from momentum_lab.errors import RecordError
from momentum_lab.records.tape import (
    BAR_COLUMNS,
    HEADLINE_COLUMNS,
    Tape,
    load_tape,
    tape_id,
    write_tape,
)
from tests.factories import NOON, assert_same_tape, bar_table, quiet_bars, tape, tape_headline
from tests.gateway_factories import at, second, tick_tape

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "data" / "samples" / "fomc-2013-10-09"
SHARED = ROOT.parent / "shared" / "data" / "bars" / "1sec"


def _again(written: Tape, folder: Path) -> Tape:
    write_tape(written, folder)
    return load_tape(folder)


# --------------------------------------------------------------- round trip


def test_a_written_tape_is_read_back_equal(tmp_path: Path) -> None:
    assert_same_tape(_again(tape(), tmp_path / "small"), tape())


def test_a_tape_without_headlines_is_read_back_equal(tmp_path: Path) -> None:
    silent = tape(headlines=())

    assert_same_tape(_again(silent, tmp_path), silent)


def test_a_headline_is_read_back_as_it_was(tmp_path: Path) -> None:
    strange = replace(
        tape_headline(),
        headline="{A:1}!* «übung» &amp; \n\t'\"",
        extra="A:1:L:en",
        symbols=("BRK B", "SPY"),
        body="line\nline",
    )

    assert _again(tape(headlines=(strange,)), tmp_path).headlines == (strange,)


@pytest.mark.parametrize(
    "spread", [SpreadModel(), SpreadModel(0.06), SpreadModel(spread_bps=2.5, size_shares=100)]
)
def test_a_spread_model_is_read_back_as_it_was(tmp_path: Path, spread: SpreadModel) -> None:
    assert _again(tape(spread=spread), tmp_path).spreads == {"SPY": spread}


def test_a_tape_that_starts_within_a_second_is_read_back_equal(tmp_path: Path) -> None:
    half = NS_PER_S // 2
    odd = tape(start_ns=NOON + half, end_ns=NOON + MINUTE_NS + half)

    assert_same_tape(_again(odd, tmp_path), odd)


def test_a_tape_may_be_written_over_an_older_one(tmp_path: Path) -> None:
    write_tape(tape(headlines=()), tmp_path)

    assert_same_tape(_again(tape(), tmp_path), tape())


def test_columns_that_are_no_part_of_a_tape_are_left_out(tmp_path: Path) -> None:
    more = replace(tape(), bars=tape().bars.assign(vwap=1.0))

    assert list(_again(more, tmp_path).bars.columns) == list(BAR_COLUMNS)


def test_headlines_come_in_time_order(tmp_path: Path) -> None:
    late = tape_headline(at_ns=NOON + 9, article_id="a")
    early = tape_headline(at_ns=NOON, article_id="b")

    assert _again(tape(headlines=(late, early)), tmp_path).headlines == (early, late)


def test_bars_of_a_symbol_come_in_time_order_with_a_fresh_index(tmp_path: Path) -> None:
    turned = replace(tape(), bars=tape().bars.iloc[::-1])

    found = _again(turned, tmp_path).bars_of("SPY")

    assert found["at_ns"].is_monotonic_increasing
    assert list(found.index) == list(range(len(found)))


def test_a_symbol_that_is_not_on_the_tape_is_refused_by_name() -> None:
    with pytest.raises(RecordError, match=r"tape small: no symbol 'XYZ'; it holds SPY"):
        tape().bars_of("XYZ")


def test_the_same_files_have_the_same_id(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tape(tape(), tmp_path / name)

    assert tape_id(tmp_path / "one") == tape_id(tmp_path / "two")
    assert len(tape_id(tmp_path / "one")) == 16


@pytest.mark.parametrize("name", ["tape.yaml", "bars.parquet", "headlines.parquet"])
def test_any_other_byte_gives_another_id(tmp_path: Path, name: str) -> None:
    write_tape(tape(), tmp_path)
    before = tape_id(tmp_path)

    with (tmp_path / name).open("ab") as file:
        file.write(b" ")

    assert tape_id(tmp_path) != before


# ---------------------------------------------------------- malformed tapes


@dataclass(frozen=True)
class _Damage:
    """One way to spoil a tape, and the file that must be named."""

    id: str
    file: str
    do: Callable[[Path], object]


def _about(**changes: Any) -> Callable[[Path], object]:
    """Change keys of tape.yaml; None takes a key out."""

    def do(folder: Path) -> None:
        path = folder / "tape.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8")) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        path.write_text(yaml.safe_dump(kept), encoding="utf-8")

    return do


def _instrument(**changes: Any) -> Callable[[Path], object]:
    """Change keys of the one instrument; None takes a key out."""

    def do(folder: Path) -> None:
        path = folder / "tape.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        row = content["instruments"]["SPY"] | changes
        content["instruments"]["SPY"] = {k: v for k, v in row.items() if v is not None}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    return do


def _bytes(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], object]:
    def do(folder: Path) -> None:
        change(pd.read_parquet(folder / name)).to_parquet(folder / name)

    return do


def _bars(**columns: Any) -> Callable[[Path], object]:
    """Overwrite columns of every bar."""
    return _table("bars.parquet", lambda frame: frame.assign(**columns))


def _news(**columns: Any) -> Callable[[Path], object]:
    return _table("headlines.parquet", lambda frame: frame.assign(**columns))


YAML, BARS, NEWS = "tape.yaml", "bars.parquet", "headlines.parquet"
DAMAGES = [
    _Damage("no tape.yaml", YAML, _gone(YAML)),
    _Damage("no YAML", YAML, _bytes(YAML, b"a: [1\n")),
    _Damage("no text", YAML, _bytes(YAML, b"name: \xff\xfe")),
    _Damage("empty", YAML, _bytes(YAML, b"")),
    _Damage("a list", YAML, _bytes(YAML, b"- format: 1\n")),
    _Damage("no format", YAML, _about(format=None)),
    _Damage("another format", YAML, _about(format=2)),
    _Damage("no instruments", YAML, _about(instruments=None)),
    _Damage("empty instruments", YAML, _about(instruments={})),
    _Damage("instruments as a list", YAML, _about(instruments=["SPY"])),
    _Damage("an instrument as a number", YAML, _about(instruments={"SPY": 756733})),
    _Damage("a stranger's key", YAML, _instrument(conid=1)),
    _Damage("no con_id", YAML, _instrument(con_id=None)),
    _Damage("con_id 0", YAML, _instrument(con_id=0)),
    _Damage("con_id as a word", YAML, _instrument(con_id="SPY")),
    _Damage("tick 0", YAML, _instrument(tick_usd=0)),
    _Damage("tick as a word", YAML, _instrument(tick_usd="cent")),
    _Damage("spread 0", YAML, _instrument(spread_usd=0)),
    _Damage("spread as a word", YAML, _instrument(spread_usd="wide")),
    _Damage("no start", YAML, _about(start=None)),
    _Damage("start without zone", YAML, _about(start="2013-10-09T12:00:00")),
    _Damage("start as a word", YAML, _about(start="noon")),
    _Damage("start as a number", YAML, _about(start=1)),
    _Damage("end before start", YAML, _about(end="2013-10-09T12:00:00+00:00")),
    _Damage("no such zone", YAML, _about(timezone="Mars/Olympus")),
    _Damage("a zone as a path", YAML, _about(timezone="../../etc")),
    _Damage("a zone as a number", YAML, _about(timezone=5)),
    _Damage("providers as a list", YAML, _about(providers=["BRFG"])),
    _Damage("about as a list", YAML, _about(about=["licence"])),
    _Damage("no bars", BARS, _gone(BARS)),
    _Damage("bars no Parquet", BARS, _bytes(BARS, b"symbol,at_ns\n")),
    _Damage("bars cut off", BARS, _bytes(BARS, b"PAR1")),
    _Damage("bars without a column", BARS, _table(BARS, lambda f: f.drop(columns="close"))),
    _Damage("bars of a stranger", BARS, _bars(symbol="XYZ")),
    _Damage("bars of nobody", BARS, _bars(symbol=None)),
    _Damage("low above close", BARS, _bars(low=100.1)),
    _Damage("high below open", BARS, _bars(high=99.9)),
    _Damage("price 0", BARS, _bars(low=0.0)),
    _Damage("negative volume", BARS, _bars(volume=-1)),
    _Damage("missing volume", BARS, _bars(volume=np.nan)),
    _Damage("missing open", BARS, _bars(open=np.nan)),
    _Damage("missing high", BARS, _bars(high=np.nan)),
    _Damage("missing low", BARS, _bars(low=np.nan)),
    _Damage("missing close", BARS, _bars(close=np.nan)),
    _Damage("endless high", BARS, _bars(high=np.inf)),
    _Damage("endless volume", BARS, _bars(volume=np.inf)),
    _Damage("seconds 0", BARS, _bars(seconds=0)),
    _Damage("price as a word", BARS, _bars(low="low")),
    _Damage("time as a word", BARS, _bars(at_ns="noon")),
    _Damage("time missing", BARS, _bars(at_ns=lambda f: f["at_ns"].where(f.index > 0))),
    _Damage("a bar twice", BARS, _table(BARS, lambda f: pd.concat([f, f.iloc[:1]]))),
    _Damage("no headlines", NEWS, _gone(NEWS)),
    _Damage("headlines no Parquet", NEWS, _bytes(NEWS, b"at_ns\n")),
    _Damage("headlines without a column", NEWS, _table(NEWS, lambda f: f.drop(columns="note"))),
    _Damage("a headline twice", NEWS, _table(NEWS, lambda f: pd.concat([f, f]))),
    _Damage("headline without time", NEWS, _news(at_ns=np.nan)),
    _Damage("headline with a word as time", NEWS, _news(at_ns="noon")),
    _Damage("headline without symbols", NEWS, _news(symbols=None)),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.id)
def test_a_malformed_tape_is_refused_and_the_file_is_named(tmp_path: Path, damage: _Damage) -> None:
    folder = tmp_path / "spoiled"
    write_tape(tape(), folder)
    damage.do(folder)

    with pytest.raises(RecordError) as caught:
        load_tape(folder)

    assert str(folder) in str(caught.value)
    assert damage.file in str(caught.value)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no tape at .*nowhere"):
        load_tape(tmp_path / "nowhere")


def test_a_file_is_no_tape(tmp_path: Path) -> None:
    path = tmp_path / "tape.txt"
    path.touch()

    with pytest.raises(RecordError, match=r"no tape at .*tape\.txt"):
        load_tape(path)


def test_the_first_impossible_bar_is_told(tmp_path: Path) -> None:
    table = bar_table(quiet_bars(3))
    table.loc[1, "low"] = 101.0
    write_tape(tape(bars=table), tmp_path)

    with pytest.raises(RecordError, match=rf"1 impossible bars.*{table.loc[1, 'at_ns']}"):
        load_tape(tmp_path)


# ---------------------------------------------------------------- the sample


@pytest.fixture(scope="module")
def sample() -> Tape:
    return load_tape(SAMPLE)


def test_the_sample_is_smaller_than_one_megabyte() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 1_000_000


def test_the_sample_says_where_it_comes_from(sample: Tape) -> None:
    assert "Apache-2.0" in sample.about["licence"]
    assert "QuantConnect/Lean" in sample.about["source"]


def test_the_sample_plays_one_session_with_history_before_it(sample: Tape) -> None:
    assert sample.end_ns - sample.start_ns == 390 * MINUTE_NS
    for symbol in ("SPY", "IBM", "BAC"):
        at_ns = sample.bars_of(symbol)["at_ns"]
        assert at_ns.iloc[0] < sample.start_ns - 60 * MINUTE_NS
        assert at_ns.iloc[-1] < sample.end_ns


def test_the_sample_is_read_back_as_it_was_written(sample: Tape, tmp_path: Path) -> None:
    assert_same_tape(_again(sample, tmp_path / sample.name), sample)


def test_the_fact_among_the_headlines_is_told_from_those_made_up(sample: Tape) -> None:
    facts = [item for item in sample.headlines if item.note.startswith("public fact")]
    made = [item for item in sample.headlines if item.note.startswith("made for the sample")]

    assert [tickers_in(item.headline) for item in facts] == [("SPY",)]
    assert facts[0].at_ns == 1_381_341_600 * NS_PER_S
    assert len(made) == len(sample.headlines) - 1 >= 3


def test_every_headline_of_the_sample_lies_in_its_session(sample: Tape) -> None:
    assert all(sample.start_ns <= item.at_ns < sample.end_ns for item in sample.headlines)
    assert {item.provider for item in sample.headlines} <= set(sample.providers)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded data are not on this machine")
@pytest.mark.parametrize("symbol", ["SPY", "IBM", "BAC"])
def test_the_bars_of_the_sample_are_the_recorded_ones(sample: Tape, symbol: str) -> None:
    recorded = pd.read_parquet(SHARED / f"{symbol}.parquet")
    epoch = pd.Timestamp(0, tz="UTC")
    recorded["at_ns"] = ((recorded["ts"] - epoch) // pd.Timedelta(1, "ns")).astype("int64")
    held = sample.bars_of(symbol)
    # The last 90 minutes of the day before, and the session.
    closed_ns = sample.start_ns - (17 * 60 + 30) * MINUTE_NS
    history = recorded["at_ns"].between(closed_ns - 90 * MINUTE_NS, closed_ns - 1)
    session = recorded["at_ns"].between(sample.start_ns, sample.end_ns - 1)

    wanted = recorded[history | session].reset_index(drop=True)

    names = ["at_ns", "open", "high", "low", "close", "volume"]
    pd.testing.assert_frame_equal(held[names], wanted[names], check_dtype=False)


def test_the_columns_of_a_tape_are_those_documented() -> None:
    assert set(pd.read_parquet(SAMPLE / "bars.parquet").columns) == set(BAR_COLUMNS)
    assert set(pd.read_parquet(SAMPLE / "headlines.parquet").columns) == set(HEADLINE_COLUMNS)


# ------------------------------------------------------------------- ticks


def test_a_tape_of_ticks_is_read_back_equal(tmp_path: Path) -> None:
    written = tick_tape(
        trades=[(1.0, 100.02, 100), (1.0, 100.01, 50)],
        quotes=[(0.0, 99.98, 100.02, 300, 500), (2.0, 0.0, 100.02, 0, 7)],
        halts=[(3.0, 2), (9.0, 0)],
    )
    assert_same_tape(_again(written, tmp_path), written)


def test_ticks_come_in_time_order(tmp_path: Path) -> None:
    found = _again(tick_tape(trades=[(2.0, 101.0, 1), (1.0, 100.0, 1)]), tmp_path)
    assert list(found.trades["price"]) == [100.0, 101.0]
    assert found.first_ns == at(1.0)


def test_bars_may_be_absent_where_there_are_ticks(tmp_path: Path) -> None:
    write_tape(tick_tape(quotes=[(0.0, 99.98, 100.02, 300, 500)]), tmp_path)
    (tmp_path / "bars.parquet").unlink()
    assert len(load_tape(tmp_path).bars) == 0


def test_ticks_of_an_older_tape_in_the_folder_are_gone(tmp_path: Path) -> None:
    write_tape(tick_tape(quotes=[(0.0, 99.98, 100.02, 300, 500)]), tmp_path)
    assert len(_again(tape(), tmp_path).quotes) == 0


def test_ticks_are_a_part_of_the_id(tmp_path: Path) -> None:
    write_tape(tick_tape(trades=[(1.0, 100.0, 1)]), tmp_path)
    before = tape_id(tmp_path)
    write_tape(tick_tape(trades=[(1.0, 100.01, 1)]), tmp_path)
    assert tape_id(tmp_path) != before


@pytest.mark.parametrize(
    ("ticks", "words"),
    [
        (tick_tape(trades=[(1.0, 0.0, 1)]), "trades.parquet: 1 impossible"),
        (tick_tape(quotes=[(1.0, -1.0, 2.0, 1, 1)]), "quotes.parquet: 1 impossible"),
        (tick_tape(quotes=[(1.0, float("nan"), 2.0, 1, 1)]), "quotes.parquet: 1 impossible"),
        (tick_tape(halts=[(1.0, 7)]), "halts.parquet: 1 impossible"),
        (
            tick_tape(trades=[(0.0, 1.0, 1), (9.0, 1.0, 1)], rows=[second(at(3.0), 1.0)]),
            "bars of SPY before or after its trades",
        ),
    ],
)
def test_impossible_ticks_are_refused_and_the_file_is_named(
    tmp_path: Path, ticks: Tape, words: str
) -> None:
    write_tape(ticks, tmp_path)
    with pytest.raises(RecordError, match=words):
        load_tape(tmp_path)


def test_ticks_of_a_stranger_are_refused(tmp_path: Path) -> None:
    ticks = tick_tape(trades=[(1.0, 100.0, 1)])
    write_tape(replace(ticks, trades=ticks.trades.assign(symbol="XYZ")), tmp_path)
    with pytest.raises(RecordError, match="XYZ"):
        load_tape(tmp_path)
