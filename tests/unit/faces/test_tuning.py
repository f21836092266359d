from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from momentum_lab.errors import ParameterError, RecordError
from momentum_lab.faces.tuning import (
    View,
    draw,
    first_view,
    redraw,
    results_table,
    sentence,
    with_values,
)
from momentum_lab.records.tape import write_tape
from tests.factories import tape
from tests.record_kit import ROOT, SAMPLE

DEMO = ROOT / "parameters" / "demo.yaml"
NO_TICKER, SPY = 1, 3


@pytest.fixture(scope="module")
def seen() -> View:
    return first_view(SAMPLE, DEMO, equity_usd=1_000_000.0)


def test_the_headline_that_came_nearest_is_looked_at_first(seen: View) -> None:
    assert seen.selected == SPY


def test_a_slider_changes_one_value_and_leaves_the_rest(seen: View) -> None:
    found = with_values(seen, {"shock.price_atr_multiple": 3.0, "headline": NO_TICKER})

    assert found.parameters.shock.price_atr_multiple == 3.0
    assert found.parameters.exits == seen.parameters.exits
    assert found.selected == NO_TICKER
    assert list(found.results["outcome"].unique()) == ["pass"]


def test_a_value_out_of_range_is_refused(seen: View) -> None:
    with pytest.raises(ParameterError, match=r"shock\.price_atr_multiple"):
        with_values(seen, {"shock.price_atr_multiple": 99.0})


def test_the_sentence_says_what_the_trade_would_have_been(seen: View) -> None:
    words = sentence(seen)

    assert "SPY short, 603 shares" in words
    assert "out 14:01:20 at 165.94 by STOP_LOSS" in words
    assert "1 of 5 would be traded" in words
    assert words.count("<b>\N{MINUS SIGN}$156.78</b>") == 2


def test_the_sentence_says_why_not(seen: View) -> None:
    words = sentence(with_values(seen, {"headline": NO_TICKER}))

    assert "Not traded: NO_TICKER" in words


def test_the_table_has_a_line_for_each_headline(seen: View) -> None:
    assert results_table(seen).count("<tr>") == 1 + len(seen.results)


def test_the_figure_shows_both_tests_of_each_headline(seen: View) -> None:
    volume, price = draw(seen).data[:2]

    assert list(price.text)[SPY] == "price 2.62 of 2.5 ATR"
    assert list(volume.text)[SPY] == "volume 5.14 of 5 x usual"
    assert list(price.text)[NO_TICKER] == "price: not watched"
    assert price.x[SPY] > 1 > price.x[0]


def test_the_figure_shows_the_trade_where_there_is_one(seen: View) -> None:
    traded, passed = draw(seen), draw(with_values(seen, {"shock.price_atr_multiple": 3.0}))

    assert [len(trace.x) for trace in traded.data[-2:]] == [1, 1]
    assert [len(trace.x) for trace in passed.data[-2:]] == [0, 0]
    assert traded.data[-2].x[0] == "2013-10-09T14:00:32.000"


def test_a_headline_without_a_symbol_has_no_price_path(seen: View) -> None:
    figure = draw(with_values(seen, {"headline": NO_TICKER}))

    assert len(figure.data[2].x) == 0
    assert any("no price to look at" in note.text for note in figure.layout.annotations)


def test_a_zoom_is_kept_while_sliders_move_and_forgotten_with_another_headline(
    seen: View,
) -> None:
    moved = with_values(seen, {"exits.time_stop_s": 60.0})
    other = with_values(seen, {"headline": 0})

    keys = [draw(found).layout.uirevision for found in (seen, moved, other)]

    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    "values", [{"shock.price_atr_multiple": 3.0}, {"headline": NO_TICKER}, {"headline": 0}]
)
def test_one_figure_moves_into_another_whole(seen: View, values: dict[str, float]) -> None:
    wanted = draw(with_values(seen, values))
    widget = go.FigureWidget(draw(seen))

    redraw(widget, wanted)

    assert json.loads(go.Figure(widget).to_json()) == json.loads(wanted.to_json())


def test_every_instant_is_sent_as_text(seen: View) -> None:
    drawn = draw(seen).to_plotly_json()

    for shape in drawn["layout"]["shapes"]:
        assert isinstance(shape["x0"], (str, int))
    for trace in drawn["data"][2:]:
        assert all(isinstance(value, str) for value in trace["x"])


def test_a_tape_without_headlines_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("empty")
    write_tape(tape(headlines=()), folder)

    with pytest.raises(RecordError, match="holds no headline"):
        first_view(folder, DEMO, equity_usd=1_000_000.0)
