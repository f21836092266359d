from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from momentum_lab.errors import ParameterError
from momentum_lab.faces import notebook
from momentum_lab.faces.notebook import find_path, mime_bundle, parameters_of, show
from tests.record_kit import ROOT

PLOTLY = "application/vnd.plotly.v1+json"
NAMES: dict[str, Any] = {
    "mode": "paper",
    "account": "",
    "strategy": "s",
    "universe": ["SPY"],
    **dict.fromkeys(
        (
            "connection", "news", "shock", "sizing", "risk", "exits", "guards", "windows", "engine",
            "execution", "backoff", "liveness", "pacing", "replay", "records",
            "real_money",
        )
    ),
}  # fmt: skip


@pytest.fixture
def figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[3, 4])).update_layout(title="A <b>chart</b>")


def test_parameters_are_made_of_the_cells_names_and_nothing_else() -> None:
    found = parameters_of({**NAMES, "shock": {"watch_s": 60.0}, "In": [], "run_id": "x"})

    assert found.shock.watch_s == 60
    assert found.universe == ("SPY",)


def test_a_missing_name_is_said() -> None:
    names = {key: value for key, value in NAMES.items() if key != "shock"}

    with pytest.raises(ParameterError, match="the parameters cell lacks shock"):
        parameters_of(names)


def test_a_wrong_key_in_a_section_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ParameterError, match="did you mean 'watch_s'"):
        parameters_of({**NAMES, "shock": {"wach_s": 60}})


def test_a_path_is_found_from_a_folder_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "file.yaml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")

    assert find_path("file.yaml") == tmp_path / "file.yaml"


def test_a_path_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ParameterError, match="not found"):
        find_path("no/such/file")


def test_a_figure_is_shown_in_every_way_a_page_is_read(figure: go.Figure) -> None:
    bundle = mime_bundle(figure, with_library=False)

    assert bundle[PLOTLY]["data"][0]["type"] == "scatter"
    assert "Plotly.newPlot" in bundle["text/html"]
    assert bundle["text/plain"] == "Chart: A chart"


def test_the_library_travels_with_the_first_figure_only(
    figure: go.Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **_raw: shown.append(bundle))
    monkeypatch.setattr(notebook._Shown, "has_library", False)

    show(figure, figure)
    show(figure)

    assert [len(bundle["text/html"]) > 1_000_000 for bundle in shown] == [True, False, False]


def test_no_address_is_asked_for_the_library(figure: go.Figure) -> None:
    page = mime_bundle(figure, with_library=False)["text/html"]

    assert "<script src" not in page
    assert "cdn" not in page


class Kaleido:
    """Stands for the package that draws pictures with a browser."""

    @staticmethod
    def start_sync_server(**_options: object) -> None:
        return


@pytest.fixture
def _kaleido(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    monkeypatch.setitem(sys.modules, "kaleido", Kaleido)


@pytest.mark.usefixtures("_kaleido")
def test_a_picture_is_added_where_one_can_be_made(
    figure: go.Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(go.Figure, "to_image", lambda *_args, **_rest: b"png")

    bundle = mime_bundle(figure, with_library=False)

    assert base64.b64decode(bundle["image/png"]) == b"png"


@pytest.mark.usefixtures("_kaleido")
def test_no_figure_fails_for_its_picture(
    figure: go.Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_rest: object) -> bytes:
        raise RuntimeError("no browser")

    monkeypatch.setattr(go.Figure, "to_image", broken)

    assert "image/png" not in mime_bundle(figure, with_library=False)


def test_the_root_of_the_checkout_holds_the_notebooks() -> None:
    assert (ROOT / "notebooks" / "live.ipynb").is_file()
