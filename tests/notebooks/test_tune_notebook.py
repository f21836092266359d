"""The tuning notebook by papermill, headless."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest

from momentum_lab.faces.runner import check_names
from tests.conftest import StartGateway

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(90)]
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "tune.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
Outputs = dict[str, list[nbformat.NotebookNode]]


def run(folder: Path, **values: object) -> Outputs:
    check_names(NOTEBOOK, values)
    executed = papermill.execute_notebook(
        str(NOTEBOOK),
        str(folder / "tune.ipynb"),
        parameters=values,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(ROOT),
    )
    return {cell.id: cell.get("outputs", []) for cell in executed.cells}


def test_the_sliders_the_picture_and_the_skipped_look_are_in_the_page(tmp_path: Path) -> None:
    found = run(tmp_path, gateway_port=0)

    assert any(WIDGET in item.get("data", {}) for item in found["sliders"])
    (picture,) = [item for item in found["picture"] if PLOTLY in item.get("data", {})]
    assert len(picture.data[PLOTLY]["data"]) == 7
    assert "there is nothing to look at" in found["gateway"][0].data["text/html"]


def test_a_blocking_look_is_taken_from_the_running_kernel(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = start_gateway()

    found = run(tmp_path, gateway_port=gateway.port)

    page = found["gateway"][-1].data["text/plain"]
    assert all(symbol in page for symbol in ("SPY", "IBM", "BAC"))
    assert "2013-10-09 09:30" in page


def test_a_gateway_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match="no gateway to look at on"):
        run(tmp_path, gateway_port=1)
