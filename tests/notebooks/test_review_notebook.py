"""The review notebook by papermill, headless."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest

from momentum_lab.faces.runner import check_names
from tests.record_kit import RUN_ID, a_day, empty_day

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(90)]
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "review.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"


def run(folder: Path, **values: object) -> list[nbformat.NotebookNode]:
    check_names(NOTEBOOK, values)
    executed = papermill.execute_notebook(
        str(NOTEBOOK),
        str(folder / "review.ipynb"),
        parameters=values,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(ROOT),
    )
    return [item for cell in executed.cells for item in cell.get("outputs", [])]


@pytest.mark.parametrize("run_id", ["", RUN_ID], ids=["the last", "by name"])
def test_a_run_is_shown_with_the_timeline_of_its_connection(tmp_path: Path, run_id: str) -> None:
    database = a_day(tmp_path)

    found = run(tmp_path, database=str(database), run_id=run_id, runs=str(tmp_path / "runs"))

    pictures = [item.data[PLOTLY] for item in found if PLOTLY in item.get("data", {})]
    titles = [picture["layout"]["title"]["text"] for picture in pictures]
    assert any("Connection to the broker" in title for title in titles)
    assert any("Equity of the day" in title for title in titles)
    assert any("Why 602 shares of SPY" in title for title in titles)


def test_a_run_in_which_nothing_happened_is_shown_too(tmp_path: Path) -> None:
    database = empty_day(tmp_path)

    found = run(tmp_path, database=str(database), runs=str(tmp_path / "runs"))

    page = "".join(item.get("data", {}).get("text/html", "") for item in found)
    assert "It did not move in this run" in page
    assert "None was found in this run" in page


def test_a_run_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    database = empty_day(tmp_path)

    with pytest.raises(papermill.PapermillExecutionError, match="no run 'x'; its latest runs are"):
        run(tmp_path, database=str(database), run_id="x", runs=str(tmp_path / "runs"))
