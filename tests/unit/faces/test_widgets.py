from __future__ import annotations

import math
from typing import Any

import ipywidgets
import plotly.graph_objects as go
import pytest

from momentum_lab.core.shock import ShockParameters
from momentum_lab.core.tunable import tunables_of
from momentum_lab.errors import ParameterError
from momentum_lab.faces.widgets import tune, tune_chart
from tests.record_kit import ROOT, SAMPLE

DEMO = ROOT / "parameters" / "demo.yaml"


class Bench:
    """The parts of a tuning box by their descriptions."""

    def __init__(self, box: ipywidgets.VBox) -> None:
        self.box = box
        self.figure = next(child for child in box.children if isinstance(child, go.FigureWidget))
        self.words = next(child for child in box.children if isinstance(child, ipywidgets.HTML))
        self.failures = box.children[-1]

    def control(self, meaning: str) -> Any:
        return next(
            child for child in self.box.children if meaning in getattr(child, "description", "")
        )


@pytest.fixture
def bench() -> Bench:
    return Bench(tune(SAMPLE, DEMO))


def test_a_slider_is_what_its_tunable_declares(bench: Bench) -> None:
    declared = tunables_of(ShockParameters)["price_atr_multiple"]

    slider = bench.control(declared.meaning)

    assert declared.unit in slider.description
    assert (slider.step, slider.max) == (declared.step, declared.high)
    assert slider.value == 2.5


def test_the_values_of_the_file_lie_on_the_steps_of_their_sliders(bench: Bench) -> None:
    for child in bench.box.children:
        if isinstance(child, ipywidgets.FloatLogSlider):
            steps = (math.log10(child.value) - child.min) / child.step
        elif isinstance(child, ipywidgets.FloatSlider):
            steps = (child.value - child.min) / child.step
        else:
            continue
        assert steps == pytest.approx(round(steps), abs=1e-6), child.description


def test_a_move_redraws_figure_and_words(bench: Bench) -> None:
    assert "STOP_LOSS" in bench.words.value

    bench.control("move against the usual range").value = 3.0

    assert "NO_SHOCK_PRICE" in bench.words.value
    assert len(bench.figure.data[-1].x) == 0
    assert bench.failures.outputs == ()


def test_another_headline_shows_another_price_path(bench: Bench) -> None:
    before = bench.figure.layout.uirevision

    bench.control("headline").value = 0

    assert bench.figure.layout.uirevision != before
    assert bench.figure.data[2].x[0].startswith("2013-10-09T09:4")


def test_every_end_of_every_slider_can_be_judged(bench: Bench) -> None:
    for child in bench.box.children:
        if not isinstance(child, (ipywidgets.FloatSlider, ipywidgets.FloatLogSlider)):
            continue
        start = child.value
        is_log = isinstance(child, ipywidgets.FloatLogSlider)
        for end in (child.min, child.max):
            child.value = 10**end if is_log else end
            assert "expected" not in bench.words.value, child.description
        child.value = start
    assert bench.failures.outputs == ()


def test_a_direction_that_may_not_be_traded_is_said(bench: Bench) -> None:
    bench.control("direction").value = "long"

    assert "WRONG_DIRECTION" in bench.words.value


def test_the_first_picture_can_be_had_without_sliders() -> None:
    assert len(tune_chart(SAMPLE, DEMO).data) == 7


def test_a_file_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ParameterError, match="not found"):
        tune(SAMPLE, "parameters/none.yaml")
