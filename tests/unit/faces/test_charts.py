from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from momentum_lab.faces import charts, theme
from momentum_lab.records.run_record import RunRecord, read_run
from tests.record_kit import RUN_ID, a_day, a_size, break_store, empty_day

DRAWN: list[Callable[[RunRecord], go.Figure]] = [
    lambda record: charts.trade_chart(record, 1),
    charts.equity_chart,
    charts.decisions_chart,
    charts.sizing_chart,
    charts.connection_chart,
]


def record_of(database: Path) -> RunRecord:
    return read_run(database, RUN_ID, folder=database.parent / "runs" / RUN_ID)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return record_of(a_day(tmp_path_factory.mktemp("day")))


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return record_of(empty_day(tmp_path_factory.mktemp("nothing")))


def words_of(figure: go.Figure) -> str:
    """Everything that is written in a chart."""
    title = figure.layout.title
    parts = [title.text, title.subtitle.text, *(note.text for note in figure.layout.annotations)]
    ticks: list[str] = [text for axis in figure.select_yaxes() for text in axis.ticktext or ()]
    return "\n".join(str(part) for part in [*parts, *ticks])


def instants_of(figure: go.Figure) -> list[datetime]:
    drawn = json.loads(figure.to_json())
    found: list[Any] = [value for trace in drawn["data"] for value in trace["x"]]
    return [datetime.fromisoformat(value).replace(tzinfo=timezone.utc) for value in found]


def test_a_trade_says_its_loss_its_reason_and_its_costs(day: RunRecord) -> None:
    words = words_of(charts.trade_chart(day, 1))

    assert "SPY short, 602 shares" in words
    assert "<b>\N{MINUS SIGN}$162.54</b>" in words
    assert "STOP_LOSS after 2 min 57 s on 2013-10-09" in words
    assert "before costs \N{MINUS SIGN}$156.52, costs $6.02" in words


def test_a_gain_is_written_where_a_loss_is(tmp_path: Path) -> None:
    database = a_day(tmp_path)
    break_store(database, "UPDATE trades SET net_usd = 162.54")

    title = charts.trade_chart(record_of(database), 1).layout.title.text

    assert title == f"SPY short, 602 shares: {theme.coloured_money(162.54)} after costs"


def test_a_trade_shows_headline_fills_levels_and_time_stop(day: RunRecord) -> None:
    words = words_of(charts.trade_chart(day, 1))

    for expected in (
        "<b>14:00:00</b> Market View: Federal Open Market",
        "<b>entry</b> short at 165.72",
        "<b>exit</b> STOP_LOSS at 165.98",
        "stop 165.97",
        "target 162.40 ↓",
        "time stop 14:10:31",
        "Recorded market day, replayed at the paper gateway",
    ):
        assert expected in words


def test_a_far_target_does_not_flatten_the_prices(day: RunRecord) -> None:
    low, high = charts.trade_chart(day, 1).layout.yaxis.range

    assert 165 < low < 165.7
    assert 166 < high < 167


def test_prices_stand_at_their_new_york_time(day: RunRecord) -> None:
    found = instants_of(charts.trade_chart(day, 1))

    assert min(found) >= datetime(2013, 10, 9, 13, 55, tzinfo=timezone.utc)
    assert max(found) <= datetime(2013, 10, 9, 14, 12, tzinfo=timezone.utc)


def test_an_open_trade_is_drawn_and_said_to_be_open(tmp_path: Path) -> None:
    words = words_of(charts.trade_chart(record_of(a_day(tmp_path, closes=False)), 1))

    assert "still open" in words
    assert "<b>exit</b>" not in words


def test_a_trade_without_captured_quotes_is_drawn_all_the_same(tmp_path: Path) -> None:
    figure = charts.trade_chart(read_run(a_day(tmp_path), RUN_ID), 1)

    assert "The quotes of SPY round this trade were not captured." in words_of(figure)
    assert len(figure.data) == 2


def test_an_unknown_trade_gives_a_sentence(day: RunRecord) -> None:
    assert "This run has no trade 7." in words_of(charts.trade_chart(day, 7))


def test_a_run_has_a_chart_for_each_trade(day: RunRecord, nothing: RunRecord) -> None:
    assert len(charts.trade_charts(day)) == 1
    assert "Nothing was traded in this run." in words_of(charts.trade_charts(nothing)[0])


def test_equity_says_where_it_began_where_it_ended_and_its_fall(day: RunRecord) -> None:
    words = words_of(charts.equity_chart(day))

    assert "from $1,000,000.00 to $999,790.00" in words
    assert "<b>\N{MINUS SIGN}$210.00</b>" in words
    assert "deepest fall from a peak 0.021%" in words
    assert "SPY short<br>" in words


def test_every_headline_stands_with_its_reason_and_both_sides(day: RunRecord) -> None:
    words = words_of(charts.decisions_chart(day))

    assert "4 headlines, 1 traded, 3 passed" in words
    assert "<b>SHOCK</b>  2.60 of 2.50 x ATR" in words
    assert "<b>NO_SHOCK_VOLUME</b>  2.00 of 5.00 x SMA" in words
    assert "<b>NO_TICKER</b>" in words
    assert "13:13:20 no symbol" in words


def test_the_bars_are_multiples_of_the_limit(day: RunRecord) -> None:
    (bars,) = charts.decisions_chart(day).data

    assert list(bars.x) == pytest.approx([0.0, 0.36, 1.04, 0.4])


def test_of_many_headlines_the_nearest_are_shown(day: RunRecord) -> None:
    figure = charts.decisions_chart(day, at_most=2)

    assert "the 2 that came nearest are shown" in words_of(figure)
    assert len(figure.data[0].x) == 2
    assert "<b>SHOCK</b>" in words_of(figure)


def test_a_stranger_cannot_write_markup_into_a_chart(day: RunRecord) -> None:
    words = words_of(charts.decisions_chart(day))

    assert "&lt;b&gt;head&lt;/b&gt;" in words
    assert "<b>head" not in words


def test_the_connection_says_how_often_it_was_lost(day: RunRecord) -> None:
    figure = charts.connection_chart(day)

    assert "lost once before the end" in words_of(figure)
    assert {trace.name for trace in figure.data} == {
        "CONNECTING",
        "SYNCHRONIZING",
        "OPERATIONAL",
        "DISCONNECTED",
    }


@pytest.mark.parametrize("draw", DRAWN)
def test_an_empty_run_gives_a_sentence_and_no_error(
    draw: Callable[[RunRecord], go.Figure], nothing: RunRecord
) -> None:
    figure = draw(nothing)

    assert len(figure.data) == 0
    assert figure.layout.annotations[0].text.endswith(".")


@pytest.mark.parametrize("draw", DRAWN)
def test_every_chart_can_be_drawn_from_its_json(
    draw: Callable[[RunRecord], go.Figure], day: RunRecord
) -> None:
    drawn = json.loads(draw(day).to_json())

    assert drawn["data"]
    assert drawn["layout"]["title"]["text"]


# --- why this size ------------------------------------------------------------------------


def test_a_size_is_shown_with_every_cap_and_the_one_that_bound_it(day: RunRecord) -> None:
    figure = charts.sizing_chart(day)

    words = words_of(figure)
    assert "Why 602 shares of SPY" in words
    assert "short, bound by MAX_POSITION_PCT" in words
    assert "$9,980.00 of RISK_PCT at $0.275 a share" in words
    assert "<b>602 shares</b>" in words
    assert "budgets the smallest: RISK_PCT $9,980.00, DAY_LOSS_ROOM $9,980.00, OPEN" in words
    (bars,) = figure.data
    dark = [
        data[0]
        for data, is_dark in zip(
            bars.customdata, (colour == theme.BLUE for colour in bars.marker.color), strict=True
        )
        if is_dark
    ]
    assert dark == ["MAX_POSITION_PCT"]
    # from the left edge of the axis
    assert bars.base + bars.x[2] == pytest.approx(602.18, abs=0.01)


def test_a_cap_that_is_not_known_is_grey_and_says_so(day: RunRecord) -> None:
    notes = charts.sizing_chart(day).layout.annotations

    unknown = [note for note in notes if "not known" in str(note.text) and note.x is not None]
    assert [note.font.color for note in unknown if note.text.startswith("<i>")] == [theme.FAINT] * 2


def test_an_entry_of_an_older_record_says_that_its_size_is_not_written(tmp_path: Path) -> None:
    database = a_day(tmp_path)
    break_store(database, "UPDATE orders SET size_json = NULL")

    assert "was not written down" in words_of(charts.sizing_chart(record_of(database)))


def test_a_size_of_nothing_is_shown_with_every_cap_and_what_decided(tmp_path: Path) -> None:
    refused = a_size(equity_usd=25.0, buying_power_usd=500.0).as_json()
    closed = a_size(spread_usd=2.0).as_json()
    database = a_day(tmp_path)
    for article_id, text in (("A3", refused), ("A4", closed)):
        damage = f"UPDATE decisions SET size_json = '{text}' WHERE headline_id = '{article_id}'"  # noqa: S608 - our own words
        break_store(database, damage)
    of_entry, of_caps, of_gate = charts.sizing_charts(record_of(database))

    assert "Why 602 shares of SPY" in words_of(of_entry)
    words = words_of(of_caps)
    assert "Why 0 shares of BAC" in words
    assert "BELOW_MIN_SHARES: 0.0151 against 1 shares; bound by MAX_POSITION_PCT" in words
    assert len(of_caps.data[0].x) == len(of_entry.data[0].x)
    words = words_of(of_gate)
    assert "Why 0 shares of IBM" in words
    assert "SPREAD_TOO_WIDE, 119.954 against 30 bps" in words


def test_every_entry_has_its_chart(day: RunRecord, nothing: RunRecord) -> None:
    assert len(charts.sizing_charts(day)) == 1
    assert "Nothing was entered" in words_of(charts.sizing_charts(nothing)[0])
